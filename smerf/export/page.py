"""The HTML of an exported page: the viewer's own with what is known of the scene, and the files that go beside it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from smerf.capture.types import Capture
from smerf.errors import InvalidDataError
from smerf.export.about import ICON_NAME, MANIFEST_NAME, POSTER_NAME, About, head_tags, web_manifest
from smerf.export.annotations import read_annotations
from smerf.export.viewer_files import viewer_root
from smerf.render.camera_path import read_camera_path

__all__ = ["Page", "page_files", "page_html", "read_tables", "service_worker", "table_module"]

ANNOTATIONS_NAME, PATH_NAME, WORKER_NAME = "annotations.json", "path.json", "sw.js"
_HEAD = "<!-- about the scene -->"
_START_WORDS = (
    "Reload",
    "This page could not start.",
    "A part of this page could not be loaded.",
    "This page needs a web server: run smerf serve on its folder, or export the scene with smerf export --single-file.",
)
"""What the first script of the page says before any other file is there."""
_METRIC = frozenset({"polycam", "record3d", "stray-scanner", "3d-scanner-app"})
"""Captures whose own unit is the metre."""


@dataclass(frozen=True)
class Page:
    """What goes into a page beside the scene and its photos."""

    about: About = field(default_factory=About)
    """What visitors read."""
    poster: dict[str, bytes] = field(default_factory=dict)
    """Files of ``render_poster``; empty for none."""
    path: Path | None = None
    """A camera path, nerfstudio's JSON; its keyframes are views to choose from."""
    autoplay: bool = False
    """Play the path when the page opens."""
    annotations: Path | None = None
    """Notes and distances, as the page saves them."""
    offline: bool = False
    """Keep the page in the browser for visits without a connection."""


def page_files(page: Page, title: str) -> dict[str, bytes]:
    """Return the files of a site that lie beside ``index.html``, by name.

    Raises:
        InvalidDataError: If the path or the annotations are not what they should be.
    """
    files = dict(page.poster)
    files[MANIFEST_NAME] = web_manifest(page.about, title, has_poster=bool(page.poster)).encode()
    return files | embedded_files(page)


def embedded_files(page: Page) -> dict[str, bytes]:
    """Return those files that the viewer reads; they go into a page of one file, too."""
    files: dict[str, bytes] = {}
    if page.path is not None:
        read_camera_path(page.path)
        files[PATH_NAME] = page.path.read_bytes()
    if page.annotations is not None:
        files[ANNOTATIONS_NAME] = json.dumps(read_annotations(page.annotations)).encode()
    return files


def page_html(page: Page, title: str, capture: Capture | None, *, is_single: bool) -> str:
    """Return the viewer's page with title, tags, poster and words of the first script filled in."""
    text = (viewer_root() / "web" / "index.html").read_text(encoding="utf-8")
    tags = [head_tags(page.about, title, has_poster=bool(page.poster), is_single=is_single)]
    settings = {
        "smerf-path": PATH_NAME if page.path else "",
        "smerf-autoplay": "1" if page.autoplay else "",
        "smerf-annotations": ANNOTATIONS_NAME if page.annotations else "",
        "smerf-metres": f"{metres:.6g}" if (metres := metres_per_unit(capture)) else "",
        "smerf-offline": "1" if page.offline and not is_single else "",
    }
    tags += [f'<meta name="{name}" content="{value}">' for name, value in settings.items() if value]
    text = text.replace(_HEAD, "\n".join(tag for tag in tags if tag))
    text = re.sub(r"<title>.*?</title>", lambda _: f"<title>{html.escape(title)}</title>", text)
    words = json.dumps(_start_words(), ensure_ascii=False).replace("</", "<\\/")
    text = text.replace('id="start-words">{}<', f'id="start-words">{words}<')
    if POSTER_NAME in page.poster:
        source = _data_address(page.poster[POSTER_NAME], "image/jpeg") if is_single else POSTER_NAME
        text = text.replace("<canvas", f'<img id="poster" src="{source}" alt="">\n<canvas', 1)
    if is_single:
        icon = _data_address((viewer_root() / "web" / "icon.svg").read_bytes(), "image/svg+xml")
        text = text.replace('href="./icon.svg"', f'href="{icon}"')
    return text


def metres_per_unit(capture: Capture | None) -> float | None:
    """Return how many metres a unit of training space has; ``None`` where the capture does not say.

    Phone apps measure in metres, and so does depth.
    """
    if capture is None:
        return None
    is_metric = capture.kind in _METRIC or any(frame.depth_path for frame in capture.frames)
    return 1.0 / capture.training_from_source.scale if is_metric else None


def read_tables() -> dict[str, dict[str, str]]:
    """Return the translations of what the page says: by language, by English."""
    folder = viewer_root() / "web" / "strings"
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def table_module() -> str:
    """Return tables.js with all languages inside."""
    tables = json.dumps(read_tables(), ensure_ascii=False).replace("</", "<\\/")
    return f"const TABLES = {tables};\nexport async function loadTable(name) {{\n  return TABLES[name];\n}}\n"


def _start_words() -> dict[str, dict[str, str]]:
    return {
        language: {english: table[english] for english in _START_WORDS if english in table}
        for language, table in read_tables().items()
    }


def _data_address(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def service_worker(site: Path) -> str:
    """Return the service worker of a finished site: what it keeps, and a version that changes with any of it.

    Raises:
        InvalidDataError: If the site holds a file whose name is no address.
    """
    digest = hashlib.sha256()
    shell: list[str] = ["./"]
    scene: list[str] = []
    for path in sorted(path for path in site.rglob("*") if path.is_file()):
        name = path.relative_to(site).as_posix()
        if "%" in name or "?" in name or "#" in name:
            raise InvalidDataError(f"{path}: its name is no address; rename it")
        digest.update(f"{name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
        is_shell = name.startswith("viewer/") or name in (
            POSTER_NAME, ICON_NAME, MANIFEST_NAME, PATH_NAME, ANNOTATIONS_NAME,
        )  # fmt: skip
        if name != "index.html":
            (shell if is_shell else scene).append(name)
    text = (viewer_root() / "web" / WORKER_NAME).read_text(encoding="utf-8")
    text = text.replace('VERSION = "";', f'VERSION = "{digest.hexdigest()[:16]}";')
    return text.replace("SHELL = [];", f"SHELL = {json.dumps(shell)};").replace(
        "SCENE = [];", f"SCENE = {json.dumps(scene)};"
    )
