"""The web page of a scene of slots: a folder for any static host, or one file that opens offline.

A page holds ``index.html``, the viewer's modules in ``viewer/`` and the scene in ``slots/``. It is written aside and
only then renamed: an interrupted export leaves the old page alone.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import tempfile
from pathlib import Path

from smerf.engine.files import write_text
from smerf.engine.replace import replace_folder
from smerf.errors import UsageError
from smerf.export.bundle import allow_inline_scripts, bundle_modules
from smerf.export.page import table_module
from smerf.export.site import MARKER
from smerf.export.viewer_files import viewer_root
from smerf.scene.slots import SlotScene, write_slots

__all__ = ["export_slots"]

_FILES = ("slots.json", "network.bin", "scene.bin")
_SHADERS = ("prologue_web.glsl", "screen.vert", "slots/mixer.frag", "slots/present.frag")
_SHARED = (
    "bridge.js",
    "camera.js",
    "controls.js",
    "loop.js",
    "pace.js",
    "policy.js",
    "program.js",
    "quality.js",
    "language.js",
    "tables.js",
    "url.js",
    "style.css",
)
_HEAD = re.compile(r'<link rel="stylesheet" href="\./([\w./]+)">')


def export_slots(scene: SlotScene, site: Path, *, single_file: bool = False, title: str = "slots") -> Path:
    """Write a web page that renders a scene of slots.

    Args:
        scene: The scene.
        site: Folder to write, or with ``single_file`` the HTML file. A page that was exported before is replaced.
        single_file: Put everything into one HTML file that works offline from ``file://``.
        title: Title of the page.

    Returns:
        The page to open.

    Raises:
        UsageError: If ``site`` exists and is something else than an exported page.
    """
    site = site.absolute()
    if single_file:
        page = site / "index.html" if site.is_dir() else site
        _refuse_foreign(page)
        write_text(page, _one_file(scene, title))
        return page
    if site.is_file():
        raise UsageError(f"{site}: is a file; give a folder, or --single-file")
    if site.is_dir() and any(site.iterdir()):
        _refuse_foreign(site / "index.html", site)
    with replace_folder(site) as folder:
        _fill(scene, folder, title)
    return site / "index.html"


def _refuse_foreign(page: Path, shown: Path | None = None) -> None:
    if shown is None and not page.exists():
        return
    if not page.is_file() or MARKER not in page.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(f"{shown or page}: exists and is not an exported page; choose another or remove it")


def _fill(scene: SlotScene, folder: Path, title: str) -> None:
    web = viewer_root() / "web"
    (folder / "viewer" / "slots").mkdir(parents=True)
    (folder / "slots").mkdir()
    for name in _SHARED:
        shutil.copyfile(web / name, folder / "viewer" / name)
    for path in sorted((web / "slots").iterdir()):
        if path.suffix in (".js", ".css"):
            shutil.copyfile(path, folder / "viewer" / "slots" / path.name)
    (folder / "viewer" / "slots" / "shaders.js").write_text(_shader_module(), encoding="utf-8")
    write_slots(scene, folder / "slots")
    page = _page(title, "slots").replace('"./', '"./viewer/')
    (folder / "index.html").write_text(page, encoding="utf-8")


def _page(title: str, entry: str) -> str:
    page = (viewer_root() / "web" / "slots" / "index.html").read_text(encoding="utf-8")
    page = page.replace(f'{MARKER} content="">', f'{MARKER} content="{entry}">')
    return re.sub(r"<title>.*?</title>", lambda _: f"<title>{html.escape(title)}</title>", page)


def _one_file(scene: SlotScene, title: str) -> str:
    web = viewer_root() / "web"
    with tempfile.TemporaryDirectory() as folder:
        write_slots(scene, Path(folder))
        embedded = {name: base64.b64encode((Path(folder) / name).read_bytes()).decode() for name in _FILES}
    page = _page(title, "embedded")
    page = _HEAD.sub(lambda match: f"<style>\n{(web / match[1]).read_text(encoding='utf-8')}</style>", page)
    page = re.sub(r'<script type="module" src="[^"]+"></script>\n', "", page)
    replaced = {"slots/shaders.js": _shader_module(), "tables.js": table_module()}
    script = bundle_modules(web, "slots/main.js", replaced)
    scripts = (
        f'<script type="application/json" id="smerf-files">{json.dumps(embedded)}</script>\n<script>\n'
        'globalThis.smerfEmbeddedFiles = JSON.parse(document.getElementById("smerf-files").textContent);\n'
        f"{script}</script>\n</body>"
    )
    return allow_inline_scripts(page.replace("</body>", scripts))


def _shader_module() -> str:
    """Return shaders.js with the texts inside: some hosts refuse to serve unknown file types."""
    root = viewer_root() / "shaders"
    texts = {name: (root / name).read_text(encoding="utf-8") for name in _SHADERS}
    return f"export async function loadSlotShaders() {{\n  return {json.dumps(texts)};\n}}\n".replace(
        "</", "<\\/"
    )
