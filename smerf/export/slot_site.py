"""The web page of a scene of slots: a folder for any static host, or one file that opens offline.

It is the page of walkable scenes with slots in its list of objects: ``index.html``, the viewer in ``viewer/``, and the
scene in ``slots/``. It is written aside and only then renamed: an interrupted export leaves the old page alone.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from smerf.engine.files import write_text
from smerf.engine.replace import replace_folder
from smerf.errors import UsageError
from smerf.export.bundle import single_page
from smerf.export.page import Page, page_files, page_html, table_module
from smerf.export.site import MARKER, copy_viewer, with_scene
from smerf.export.viewer_files import viewer_root
from smerf.scene.slots import SlotScene, write_slots

__all__ = ["export_slots"]

_FILES = ("slots.json", "network.bin", "scene.bin")
_SHADERS = ("prologue_web.glsl", "screen.vert", "slots/mixer.frag", "slots/present.frag")


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
    copy_viewer(folder, with_scene(_page(title, is_single=False), "slots"))
    slots = folder / "viewer" / "slots"
    slots.mkdir()
    for path in sorted((viewer_root() / "web" / "slots").glob("*.js")):
        shutil.copyfile(path, slots / path.name)
    (slots / "shaders.js").write_text(_shader_module(), encoding="utf-8")
    for name, data in page_files(Page(), title).items():
        (folder / name).write_bytes(data)
    (folder / "slots").mkdir()
    write_slots(scene, folder / "slots")


def _page(title: str, *, is_single: bool) -> str:
    """Return the viewer's page, which knows by its kind what a scene of slots has not."""
    page = page_html(Page(), title, None, is_single=is_single)
    return page.replace("<html ", '<html data-kind="slots" ', 1).replace("./main.js", "./slots/main.js")


def _one_file(scene: SlotScene, title: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        write_slots(scene, Path(folder))
        embedded = {name: (Path(folder) / name).read_bytes() for name in _FILES}
    page = with_scene(_page(title, is_single=True), "embedded")
    replaced = {"slots/shaders.js": _shader_module(), "tables.js": table_module()}
    return single_page(page, viewer_root() / "web", replaced, embedded)


def _shader_module() -> str:
    """Return shaders.js with the texts inside: some hosts refuse to serve unknown file types."""
    root = viewer_root() / "shaders"
    texts = {name: (root / name).read_text(encoding="utf-8") for name in _SHADERS}
    return f"export async function loadSlotShaders() {{\n  return {json.dumps(texts)};\n}}\n".replace(
        "</", "<\\/"
    )
