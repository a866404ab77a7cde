"""Turn a baked scene into a web page: a folder for any static host, or one file that opens offline.

A site holds ``index.html``, the viewer's modules in ``viewer/``, the scene in ``baked/``, unchanged except that
large submodels without a coarse level get one, and the photos' cameras (``smerf.export.photos``). It is written
aside, checked, and only then renamed: an interrupted export leaves the old site alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import logging
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from smerf.errors import InvalidDataError, SmerfError, UsageError
from smerf.export.bundle import allow_inline_scripts
from smerf.export.photos import CAMERAS_NAME, site_cameras
from smerf.export.viewer_files import viewer_root
from smerf.scene.coarse import COARSE_BYTES, COARSE_FOLDER
from smerf.scene.manifest import MANIFEST_NAME, parse_manifest, read_json
from smerf.scene.params_io import sm_folder
from smerf.scene.read import load_scene
from smerf.scene.write import folder_bytes, write_coarse

if TYPE_CHECKING:
    from smerf.capture.types import Capture

__all__ = ["export_site", "viewer_root"]

MARKER = '<meta name="smerf-scene"'
CAMERAS_MARKER = '<meta name="smerf-cameras"'
# Some browsers fail to open larger pages.
LARGE_PAGE_BYTES = 50_000_000
# The coarse level is of no use to a page that has everything.
VIEWER_READS = re.compile(
    r"^([^/]+/)?((scene_params|deferred_mlp)\.json(\.gz)?"
    r"|(sparse_grid|plane|occupancy_grid_8|distance_grid_8)_[^/]*)$"
)


def licence_text() -> str:
    """Return the licence of the viewer, which every page carries; it uses nothing of third parties.

    Raises:
        SmerfError: the installation lacks it.
    """
    source = Path(__file__).resolve().parents[2] / "LICENSE"
    found = [source] if source.is_file() else []
    try:
        listed = metadata.files("smerf") or []
        found += [Path(str(path.locate())) for path in listed if path.name == "LICENSE"]
    except metadata.PackageNotFoundError:
        pass
    for path in found:
        if path.is_file():
            return path.read_text()
    raise SmerfError("LICENSE is not installed; reinstall smerf from its wheel or its source tree")


def export_site(
    scene_dir: Path,
    site_dir: Path,
    *,
    single_file: bool = False,
    title: str | None = None,
    capture: Capture | None = None,
    coarse_bytes: int = COARSE_BYTES,
) -> Path:
    """Write a web page that shows the baked scene.

    Args:
        scene_dir: Folder with the submodel folders (and manifest.json), or one submodel folder.
        site_dir: Folder to write, or with ``single_file`` the HTML file. A previous export is replaced.
        single_file: Put everything into one HTML file that works offline from ``file://``.
        title: Title of the page; the scene folder's name by default.
        capture: Where the scene's photos are; small copies go with the page. ``None`` leaves them out.
        coarse_bytes: Largest coarse level that is added to a larger submodel without one; 0 adds none.

    Returns:
        The page to open: ``site_dir/index.html`` or the HTML file.

    Raises:
        InvalidDataError: ``scene_dir`` is not a baked scene, or files do not match its manifest.
        UsageError: ``site_dir`` exists and is something else than a previous export.
    """
    scene_dir, site_dir = Path(scene_dir).absolute(), Path(site_dir).absolute()
    files, entry = _scene_files(scene_dir)
    if title is None:
        name = scene_dir.parent.name if scene_dir.name == "baked" else scene_dir.name
        title = f"{name or 'scene'} - smerf"
    cameras = _cameras(files, capture)
    if single_file:
        return _write_single_file(files, site_dir, title, cameras)
    return _write_folder(files, entry, site_dir, title, cameras, scene_dir, coarse_bytes)


def _cameras(files: dict[str, Path], capture: Capture | None) -> dict[str, bytes]:
    """Return the files of the site that tell of its cameras; none where the manifest names none."""
    if capture is None or MANIFEST_NAME not in files:
        return {}
    manifest = parse_manifest(_read_json(files[MANIFEST_NAME]), str(files[MANIFEST_NAME]))
    return site_cameras(manifest.cameras, capture)


def _scene_files(scene_dir: Path) -> tuple[dict[str, Path], str]:
    """Return the scene's files by their path below ``baked/``, and the address that the page opens."""
    if (scene_dir / "scene_params.json").is_file():
        params = _read_json(scene_dir / "scene_params.json")
        if params.get("num_local_submodels", 1) > 1:
            scene_dir = scene_dir.parent
        else:
            name = f"sm_{params.get('submodel_idx', 0):03d}"
            found = {f"{name}/{path.name}": path for path in sorted(scene_dir.iterdir()) if path.is_file()}
            return found, f"baked/{name}"
    entries = sorted(scene_dir.glob("sm_*/scene_params.json"))
    if not entries:
        raise InvalidDataError(
            f"{scene_dir}: no baked scene here (no sm_*/scene_params.json); run smerf bake first"
        )
    for path in entries:
        _read_json(path)
    found = {
        path.relative_to(scene_dir).as_posix(): path
        for path in sorted(scene_dir.rglob("*"))
        if path.is_file()
    }
    if "manifest.json" in found:
        return found, "baked"
    return found, f"baked/{entries[0].parent.name}"


def _write_folder(
    files: dict[str, Path],
    entry: str,
    site_dir: Path,
    title: str,
    cameras: dict[str, bytes],
    scene_dir: Path,
    coarse_bytes: int,
) -> Path:
    if site_dir.exists() and not _is_site(site_dir):
        raise UsageError(
            f"{site_dir}: exists and is not an exported site; choose another folder or remove it"
        )
    partial = site_dir.with_name(site_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _copy_viewer(partial, entry, title, CAMERAS_NAME if cameras else "")
        for name, data in cameras.items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_bytes(data)
        for name, source in files.items():
            target = partial / "baked" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        _check_site(partial, files)
        if coarse_bytes and "manifest.json" in files:
            _add_coarse(scene_dir, partial / "baked", coarse_bytes)
        _replace(partial, site_dir)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return site_dir / "index.html"


def _add_coarse(scene_dir: Path, target: Path, coarse_bytes: int) -> None:
    """Write the coarse levels that large submodels lack into a copy of the scene, and list them there."""
    manifest = read_json(target / MANIFEST_NAME)
    records = manifest.get("files", {})
    files = {name: (record.get("sha256", ""), record.get("bytes", 0)) for name, record in records.items()}
    folders = sorted({name.split("/")[0] for name in files if "/" in name})
    lacking = [
        folder
        for folder in folders
        if f"{folder}/{COARSE_FOLDER}/scene_params.json" not in files
        and folder_bytes(files, folder) > coarse_bytes
    ]
    if not lacking:
        return
    scene = load_scene(scene_dir, cache_size=1)
    added: dict[str, tuple[str, int]] = {}
    for k, region in enumerate(scene.params.params_to_sm):
        if sm_folder(region) in lacking:
            write_coarse(target, scene.params, scene.mlp, scene.submodel(k), coarse_bytes, added)
    records |= {name: {"sha256": digest, "bytes": size} for name, (digest, size) in added.items()}
    manifest["files"] = dict(sorted(records.items()))
    (target / MANIFEST_NAME).write_text(json.dumps(manifest, indent=1, allow_nan=False))


def _is_site(site_dir: Path) -> bool:
    if not site_dir.is_dir():
        return False
    page = site_dir / "index.html"
    return not any(site_dir.iterdir()) or (page.is_file() and MARKER in page.read_text(errors="replace"))


def _replace(partial: Path, site_dir: Path) -> None:
    old = site_dir.with_name(site_dir.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if site_dir.exists():
        site_dir.rename(old)
    partial.rename(site_dir)
    shutil.rmtree(old, ignore_errors=True)


def _copy_viewer(site: Path, entry: str, title: str, cameras: str) -> None:
    web = viewer_root() / "web"
    (site / "viewer").mkdir()
    for path in sorted(web.iterdir()):
        if path.suffix in (".js", ".css"):
            shutil.copyfile(path, site / "viewer" / path.name)
    (site / "viewer" / "shaders.js").write_text(_shader_module())
    (site / "viewer" / "LICENSE").write_text(licence_text())
    page = _page(title, entry, cameras).replace('"./', '"./viewer/')
    (site / "index.html").write_text(page)


def _page(title: str, entry: str, cameras: str) -> str:
    page = (viewer_root() / "web" / "index.html").read_text()
    page = page.replace(f'{MARKER} content="">', f'{MARKER} content="{html.escape(entry)}">')
    page = page.replace(f'{CAMERAS_MARKER} content="">', f'{CAMERAS_MARKER} content="{cameras}">')
    return re.sub(r"<title>.*?</title>", lambda _: f"<title>{html.escape(title)}</title>", page)


def _shader_module() -> str:
    """Return shaders.js with the texts inside: some hosts refuse to serve unknown file types."""
    root = viewer_root() / "shaders"
    names = ["prologue_web.glsl", "screen.vert", "march.frag", "shade.frag"]
    names += [f"chunks/{path.name}" for path in sorted((root / "chunks").glob("*.glsl"))]
    texts = json.dumps({name: (root / name).read_text() for name in names}, indent=1).replace("</", "<\\/")
    return f"export async function loadShaderSources() {{\n  return {texts};\n}}\n"


def _check_site(site: Path, files: dict[str, Path]) -> None:
    """Re-open what was written: page, modules, and every asset against the manifest or its source."""
    page = (site / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="\./([^"]+)"', page):
        if not (site / name).is_file():
            raise SmerfError(f"{site / name}: missing after the export; try again")
    listed = {}
    if "manifest.json" in files:
        listed = _read_json(files["manifest.json"]).get("files", {})
    for name, record in listed.items():
        copy = site / "baked" / name
        if not copy.is_file():
            raise InvalidDataError(
                f"{files['manifest.json']}: lists {name}, which is missing; bake the scene again"
            )
        if copy.stat().st_size != record.get("bytes", copy.stat().st_size):
            raise InvalidDataError(f"{copy.name}: size differs from manifest.json; bake the scene again")
        if "sha256" in record and _sha256(copy) != record["sha256"]:
            raise InvalidDataError(f"{name}: content differs from manifest.json; bake the scene again")
    for name, source in files.items():
        if (site / "baked" / name).stat().st_size != source.stat().st_size:
            raise SmerfError(f"{name}: copied incompletely; is the disk full?")


def _write_single_file(files: dict[str, Path], page: Path, title: str, cameras: dict[str, bytes]) -> Path:
    if page.is_dir():
        page = page / "index.html"
    if page.exists() and MARKER not in page.read_text(errors="replace"):
        raise UsageError(f"{page}: exists and is not an exported page; choose another name or remove it")
    embedded = {
        name: base64.b64encode(path.read_bytes()).decode()
        for name, path in files.items()
        if name == MANIFEST_NAME or VIEWER_READS.search(name)
    }
    embedded |= {name: base64.b64encode(data).decode() for name, data in cameras.items()}
    text = _page(title, "embedded", CAMERAS_NAME if cameras else "")
    text = re.sub(
        r'<link rel="stylesheet" href="\./([\w.]+)">',
        lambda match: f"<style>\n{(viewer_root() / 'web' / match.group(1)).read_text()}</style>",
        text,
    )
    text = text.replace('<script type="module" src="./main.js"></script>\n', "")
    scripts = (
        f'<script type="text/plain" id="smerf-licence">\n{licence_text()}</script>\n'
        f'<script type="application/json" id="smerf-files">{json.dumps(embedded)}</script>\n'
        f"<script>\n{_bundle()}</script>\n</body>"
    )
    text = allow_inline_scripts(text.replace("</body>", scripts))
    partial = page.with_name(page.name + ".partial")
    page.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(text)
    partial.replace(page)
    if page.stat().st_size > LARGE_PAGE_BYTES:
        logging.getLogger("smerf").warning(
            "%s has %.0f MB; some browsers fail to open pages above %.0f MB. Export a folder instead.",
            page, page.stat().st_size / 1e6, LARGE_PAGE_BYTES / 1e6,
        )  # fmt: skip
    return page


def _bundle() -> str:
    """Join the viewer's modules into one classic script, which pages opened from ``file://`` may run."""
    web = viewer_root() / "web"
    parts: list[str] = []
    done: set[str] = set()

    def visit(name: str) -> None:
        if name in done:
            return
        done.add(name)
        text = _shader_module() if name == "shaders.js" else (web / name).read_text()
        imports = re.compile(r'^import (\{[^}]*\}) from "\./([\w.]+)";\n', re.MULTILINE)
        for match in imports.finditer(text):
            visit(match.group(2))
        text = imports.sub(lambda m: f"const {m.group(1)} = module_{Path(m.group(2)).stem};\n", text)
        pattern = re.compile(r"^export ((?:async )?function|class|const) ([\w$]+)", re.MULTILINE)
        names = [match.group(2) for match in pattern.finditer(text)]
        text = pattern.sub(r"\1 \2", text)
        parts.append(
            f"const module_{Path(name).stem} = (() => {{\n{text}return {{ {', '.join(names)} }};\n}})();\n"
        )

    visit("main.js")
    start = (
        'globalThis.smerfEmbeddedFiles = JSON.parse(document.getElementById("smerf-files").textContent);\n'
    )
    return '"use strict";\n' + start + "".join(parts)


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidDataError(f"{path}: cannot be read as JSON ({error}); bake the scene again") from error
    if not isinstance(value, dict):
        raise InvalidDataError(f"{path}: expected a JSON object; bake the scene again")
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
