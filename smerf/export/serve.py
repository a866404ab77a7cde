"""Serve an exported site or a baked scene on this machine, for looking at it and for tests.

A folder with ``index.html`` is served as it is. Any other folder is taken for a baked scene and appears at
``/baked/`` beside the viewer's own files, with ``/`` leading to the viewer.

Pages of other origins can neither read nor frame what is served, whatever name they make the browser use
(the Host header is checked against DNS rebinding). Nothing outside the folder is reachable, through links neither.
Connections are bounded in number and in time.
"""

from __future__ import annotations

import io
import ipaddress
import re
import socket
import threading
import time
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from smerf.errors import SmerfError, UsageError
from smerf.export.bounded_server import BoundedServer, TimedReader, set_deadline
from smerf.export.viewer_files import viewer_root

__all__ = ["SceneServer", "serve"]

MIME_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".glsl": "text/plain; charset=utf-8",
    ".wgsl": "text/plain; charset=utf-8",
    ".frag": "text/plain; charset=utf-8",
    ".vert": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".mp4": "video/mp4",
    ".gz": "application/gzip",
}
PORTS_TRIED = 100
CHUNK = 1 << 18
REQUEST_SECONDS = 15.0
"""Time for a request to arrive, counted from the end of the one before it."""
MIN_BYTES_PER_SECOND = 1 << 16
"""Slower readers are cut off, after ``REQUEST_SECONDS`` more."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class SceneServer:
    """A server that runs in a thread between ``__enter__`` and ``__exit__``.

    ``port`` 0 takes any free port; another number takes the next free one from there on.
    ``allow_origin`` names another origin, such as ``https://example.org``, whose pages may read and frame what is
    served; ``*`` means all of them. ``beside`` are other files and folders by their address, such as ``/site/``, there
    yet or not. ``url`` names the page.

    Raises:
        UsageError: ``directory`` is not a folder, or ``allow_origin`` not an origin.
        SmerfError: no free port was found.
    """

    def __init__(
        self,
        directory: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_origin: str | None = None,
        beside: dict[str, Path] | None = None,
    ) -> None:
        directory = Path(directory)
        if not directory.is_dir():
            raise UsageError(f"{directory}: not a folder; give an exported site or a baked scene")
        if allow_origin is not None and not re.fullmatch(r"\*|https?://[\w.:\[\]-]+", allow_origin):
            raise UsageError(
                f"--allow-origin {allow_origin}: expected an origin such as https://example.org, or *"
            )
        mounts, start = _mounts(directory.absolute())
        handler = type(
            "Handler",
            (_Handler,),
            {"mounts": (beside or {}) | mounts, "start": start, "host": host, "allow_origin": allow_origin},
        )
        self._server = _bind(host, port, handler)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/"
        self._thread: threading.Thread | None = None

    def __enter__(self) -> SceneServer:
        """Start answering requests."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop and free the port."""
        self._server.is_stopping = True
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join()

    def wait(self) -> None:
        """Block until the server stops; Ctrl-C raises KeyboardInterrupt."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)


def serve(
    directory: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    open_browser: bool = False,
    allow_origin: str | None = None,
) -> str:
    """Serve ``directory`` until Ctrl-C; prints the address of the page and returns it at the end."""
    with SceneServer(directory, host, port, allow_origin) as server:
        print(f"{server.url}  (Ctrl-C stops)", flush=True)
        if open_browser:
            webbrowser.open(server.url)
        try:
            server.wait()
        except KeyboardInterrupt:
            pass
        return server.url


def _mounts(directory: Path) -> tuple[dict[str, Path], str | None]:
    """Return URL prefixes with their folders, and where ``/`` leads (``None``: its own index.html)."""
    if (directory / "index.html").is_file():
        return {"/": directory}, None
    scene = "baked/"
    if not (directory / "manifest.json").is_file() and not (directory / "scene_params.json").is_file():
        entries = sorted(directory.glob("sm_*/scene_params.json"))
        if entries:
            scene += f"{entries[0].parent.name}/"
    mounts = {"/viewer/": viewer_root(), "/baked/": directory, "/": directory}
    return mounts, f"/viewer/web/index.html?dir=../../{scene}"


def _bind(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> BoundedServer:
    last = port if port == 0 else min(65535, port + PORTS_TRIED)
    for candidate in range(port, last + 1):
        try:
            return BoundedServer((host, candidate), handler)
        except OSError as error:
            reason = error
    raise SmerfError(f"cannot serve on {host}, ports {port} to {last}: {reason}")


class _Handler(BaseHTTPRequestHandler):
    mounts: dict[str, Path]
    start: str | None
    host: str
    allow_origin: str | None
    server: BoundedServer
    protocol_version = "HTTP/1.1"
    server_version = "smerf"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self._reader = TimedReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)

    def handle(self) -> None:
        try:
            super().handle()
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            # The browser closed a connection that it no longer needs, or takes too long.
            self.close_connection = True
        finally:
            self.server.set_idle(self.connection, False)

    def handle_one_request(self) -> None:
        self._reader.deadline = time.monotonic() + REQUEST_SECONDS
        self.server.set_idle(self.connection, True)
        super().handle_one_request()

    def parse_request(self) -> bool:
        is_complete = super().parse_request()
        self.server.set_idle(self.connection, False)
        self.connection.settimeout(REQUEST_SECONDS)
        return is_complete

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: the page reports its own errors."""

    def end_headers(self) -> None:
        """Add what keeps other pages out of every answer."""
        others = f" {self.allow_origin}" if self.allow_origin else ""
        # A page of one file holds its scripts; what all of them are kept from is any other host.
        policy = (
            "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
            # Which hosts a page loads scenes from is the page's own policy, which only narrows this one.
            "connect-src * data: blob:; "
            f"form-action 'self'; frame-ancestors 'self'{others}"
        )
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        if self.allow_origin:
            self.send_header("Access-Control-Allow-Origin", self.allow_origin)
        else:
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def _answer(self, with_body: bool) -> None:
        if not _is_own_name(self.headers.get("Host"), self.host):
            self._empty(HTTPStatus.MISDIRECTED_REQUEST)
            return
        try:
            address = urlsplit(self.path)
        except ValueError:
            self._empty(HTTPStatus.BAD_REQUEST)
            return
        if address.path == "/" and self.start is not None:
            query = f"&{address.query}" if address.query else ""
            self._empty(HTTPStatus.FOUND, {"Location": self.start + query})
            return
        path = self._find(unquote(address.path))
        if path is None:
            self._empty(HTTPStatus.NOT_FOUND)
            return
        self._send(path, unquote(address.path), with_body)

    def _send(self, path: Path, address: str, with_body: bool) -> None:
        """Answer with a file, or the range of it that is asked for."""
        size = path.stat().st_size
        try:
            span = _byte_range(self.headers.get("Range"), size)
        except ValueError:
            self._empty(HTTPStatus.BAD_REQUEST)
            return
        if span is None:
            self._empty(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
            return
        first, last = span
        is_partial = self.headers.get("Range") is not None and (first, last) != (0, size - 1)
        is_unpacked = path.suffix == ".gz" and not address.endswith(".gz")
        name = path.stem if is_unpacked else path.name
        headers = {
            "Content-Type": MIME_TYPES.get(Path(name).suffix.lower(), "application/octet-stream"),
            "Content-Length": str(last - first + 1),
            "Accept-Ranges": "bytes",
            "Cache-Control": "no-cache",
        }
        if is_unpacked:
            headers["Content-Encoding"] = "gzip"
        if is_partial:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.send_response(HTTPStatus.PARTIAL_CONTENT if is_partial else HTTPStatus.OK)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            with path.open("rb") as file:
                file.seek(first)
                self._copy(file, last - first + 1)

    def _find(self, address: str) -> Path | None:
        """Return the file of an address, or ``None`` where there is none inside the folders that are served."""
        if ".." in PurePosixPath(address).parts or "\\" in address:
            return None
        prefix = next((prefix for prefix in self.mounts if address.startswith(prefix)), None)
        if prefix is None:
            return None
        try:
            root = self.mounts[prefix].resolve(strict=True)
            path = root / address[len(prefix) :].lstrip("/")
            if path.is_dir():
                path = path / "index.html"
            elif not path.exists():
                # A file stored compressed answers under its plain name, as the official viewer asks for it.
                path = path.with_name(path.name + ".gz")
            real = path.resolve(strict=True)
        except (OSError, ValueError):
            return None
        return path if real.is_relative_to(root) and real.is_file() else None

    def _copy(self, file: BinaryIO, count: int) -> None:
        deadline = time.monotonic() + REQUEST_SECONDS + count / MIN_BYTES_PER_SECOND
        while count > 0 and (chunk := file.read(min(CHUNK, count))):
            set_deadline(self.connection, deadline)
            self.wfile.write(chunk)
            count -= len(chunk)
        if count > 0:
            # The file became shorter: the answer can't be completed.
            self.close_connection = True

    def _empty(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()


def _is_own_name(header: str | None, host: str) -> bool:
    """Return whether a Host header names this server, bound to ``host``, and not a name that was made to lead here."""
    try:
        name = urlsplit(f"//{header or ''}").hostname or ""
    except ValueError:
        return False
    if name in (*LOOPBACK, host.lower()):
        return True
    if host not in ("0.0.0.0", "::", ""):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        return name in (own, own.split(".")[0], f"{own.split('.')[0]}.local")
    return True


def _byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and last byte asked for; ``None`` if there are none. Several ranges: all.

    Raises:
        ValueError: If the header is malformed.
    """
    if header is None:
        return 0, size - 1
    parts = header.removeprefix("bytes=").split(",")
    pairs = [re.fullmatch(r"\s*(\d{0,18})-(\d{0,18})\s*", part) for part in parts]
    if not header.startswith("bytes=") or not all(pair and any(pair.groups()) for pair in pairs):
        raise ValueError(header)
    if len(pairs) > 1:
        return 0, size - 1
    assert pairs[0] is not None
    start, end = pairs[0].groups()
    if not start:
        return (max(0, size - int(end)), size - 1) if int(end) and size else None
    last = min(int(end), size - 1) if end else size - 1
    return (int(start), last) if int(start) <= last else None
