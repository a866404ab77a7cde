"""Serve an exported site or a baked scene on this machine, for looking at it and for tests.

A folder with ``index.html`` is served as it is. Any other folder is taken for a baked scene and appears at
``/baked/`` beside the viewer's own files, with ``/`` leading to the viewer.
"""

from __future__ import annotations

import re
import socket
import threading
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from smerf.errors import SmerfError, UsageError
from smerf.export.site import viewer_root

__all__ = ["SceneServer", "serve"]

MIME_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".glsl": "text/plain; charset=utf-8",
    ".frag": "text/plain; charset=utf-8",
    ".vert": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".mp4": "video/mp4",
    ".gz": "application/gzip",
}
PORTS_TRIED = 100
CHUNK = 1 << 20


class SceneServer:
    """A server that runs in a thread between ``__enter__`` and ``__exit__``.

    ``port`` 0 takes any free port; another number takes the next free one from there on.
    ``url`` names the page.

    Raises:
        UsageError: ``directory`` is not a folder.
        SmerfError: no free port was found.
    """

    def __init__(self, directory: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        directory = Path(directory)
        if not directory.is_dir():
            raise UsageError(f"{directory}: not a folder; give an exported site or a baked scene")
        self.mounts, self.start = _mounts(directory.absolute())
        handler = type("Handler", (_Handler,), {"mounts": self.mounts, "start": self.start})
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
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join()

    def wait(self) -> None:
        """Block until the server stops; Ctrl-C raises KeyboardInterrupt."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)


def serve(directory: Path, host: str = "127.0.0.1", port: int = 8080, open_browser: bool = False) -> str:
    """Serve ``directory`` until Ctrl-C; prints the address of the page and returns it at the end."""
    with SceneServer(directory, host, port) as server:
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


def _bind(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server_type = type(
        "Server", (ThreadingHTTPServer,), {"address_family": family, "allow_reuse_address": False}
    )
    last = port if port == 0 else min(65535, port + PORTS_TRIED)
    for candidate in range(port, last + 1):
        try:
            return server_type((host, candidate), handler)
        except OSError as error:
            reason = error
    raise SmerfError(f"cannot serve on {host}, ports {port} to {last}: {reason}")


class _Handler(BaseHTTPRequestHandler):
    mounts: dict[str, Path]
    start: str | None
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            # The browser closed a connection that it no longer needs.
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: the page reports its own errors."""

    def _answer(self, with_body: bool) -> None:
        address = urlsplit(self.path)
        if address.path == "/" and self.start is not None:
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", self.start + (f"&{address.query}" if address.query else ""))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = self._find(unquote(address.path))
        headers = {}
        if path is not None and not path.is_file():
            # A file stored compressed answers under its plain name, as the official viewer asks for it.
            path = path.with_name(path.name + ".gz")
            headers["Content-Encoding"] = "gzip"
        if path is None or not path.is_file():
            self._empty(HTTPStatus.NOT_FOUND)
            return
        name = path.name.removesuffix(".gz") if headers else path.name
        headers["Content-Type"] = MIME_TYPES.get(Path(name).suffix.lower(), "application/octet-stream")
        size = path.stat().st_size
        span = _byte_range(self.headers.get("Range"), size)
        if span is None:
            self._empty(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
            return
        first, last = span
        is_partial = self.headers.get("Range") is not None and (first, last) != (0, size - 1)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if is_partial else HTTPStatus.OK)
        if is_partial:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        headers |= {
            "Content-Length": str(last - first + 1),
            "Accept-Ranges": "bytes",
            "Access-Control-Allow-Origin": "*",
            "Cache-Control": "no-cache",
        }
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            with path.open("rb") as file:
                file.seek(first)
                self._copy(file, last - first + 1)

    def _find(self, address: str) -> Path | None:
        parts = PurePosixPath(address).parts
        if ".." in parts or "\0" in address or "\\" in address:
            return None
        for prefix, folder in self.mounts.items():
            if address.startswith(prefix):
                path = folder / address[len(prefix) :].lstrip("/")
                return path / "index.html" if path.is_dir() else path
        return None

    def _copy(self, file: BinaryIO, count: int) -> None:
        try:
            while count > 0 and (chunk := file.read(min(CHUNK, count))):
                self.wfile.write(chunk)
                count -= len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _empty(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()


def _byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and last byte asked for; ``None`` if there are none. Several ranges: all."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or match.groups() == ("", ""):
        return 0, size - 1
    start, end = match.groups()
    if not start:
        return (max(0, size - int(end)), size - 1) if int(end) and size else None
    last = min(int(end), size - 1) if end else size - 1
    return (int(start), last) if int(start) <= last else None
