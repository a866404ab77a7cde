"""Turn a baked scene into a web page: a folder for any static host, or one file that opens offline.

A site holds ``index.html``, the viewer's modules in ``viewer/``, the scene as it is in ``baked/``, and the photos'
cameras (``smerf.export.photos``). It is written aside, checked, and only then renamed: an interrupted export leaves
the old site alone.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from importlib import metadata
from pathlib import Path

from smerf.capture.types import Capture
from smerf.engine.files import write_text
from smerf.engine.replace import replace_folder
from smerf.errors import InvalidDataError, SmerfError, UsageError
from smerf.export.bundle import single_page
from smerf.export.page import Page, embedded_files, page_files, page_html, service_worker, table_module
from smerf.export.photos import CAMERAS_NAME, site_cameras
from smerf.export.viewer_files import viewer_root
from smerf.scene.layout import COARSE_FOLDER
from smerf.scene.manifest import MANIFEST_NAME, hash_file, parse_manifest, read_json

__all__ = ["copy_viewer", "export_site", "viewer_root", "with_scene"]

_LOG = logging.getLogger("smerf")
_LARGE_SUBMODEL_BYTES = 5_000_000
"""Above it a page without a coarse level keeps its visitors waiting."""
MARKER = '<meta name="smerf-scene"'
CAMERAS_MARKER = '<meta name="smerf-cameras"'
LARGE_PAGE_MB = 50
"""Some browsers fail to open larger pages."""
# The coarse level is of no use to a page that has everything.
VIEWER_READS = re.compile(
    r"^([^/]+/)?((scene_params|deferred_mlp)\.json(\.gz)?"
    r"|(sparse_grid|plane|occupancy_grid_8|distance_grid_8|object_ids)_[^/]*|(known|solid)_grid\.[^/]*)$"
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
    page: Page | None = None,
) -> Path:
    """Write a web page that shows the baked scene.

    Args:
        scene_dir: Folder with the submodel folders (and manifest.json), or one submodel folder.
        site_dir: Folder to write, or with ``single_file`` the HTML file. A previous export is replaced.
        single_file: Put everything into one HTML file that works offline from ``file://``.
        title: Title of the page; that of ``page`` or else the scene folder's name by default.
        capture: Where the scene's photos are; small copies go with the page. ``None`` leaves them out.
        page: What else goes into it.

    Returns:
        The page to open: ``site_dir/index.html`` or the HTML file.

    Raises:
        InvalidDataError: ``scene_dir`` is not a baked scene, files do not match its manifest, or a file of ``page`` is
            not what it should be.
        UsageError: ``site_dir`` exists and is something else than a previous export.
    """
    scene_dir, site_dir = Path(scene_dir).absolute(), Path(site_dir).absolute()
    files, entry = _scene_files(scene_dir)
    page = page or Page()
    if title is None:
        name = scene_dir.parent.name if scene_dir.name == "baked" else scene_dir.name
        title = page.about.title or name or "scene"
    cameras = _cameras(files, capture)
    text = page_html(page, title, capture, is_single=single_file)
    text = text.replace(
        f'{CAMERAS_MARKER} content="">', f'{CAMERAS_MARKER} content="{CAMERAS_NAME if cameras else ""}">'
    )
    if single_file:
        return _write_single_file(
            files, site_dir, with_scene(text, "embedded"), cameras | embedded_files(page)
        )
    beside = cameras | page_files(page, title)
    return _write_folder(files, site_dir, with_scene(text, entry), beside, page.offline)


def _cameras(files: dict[str, Path], capture: Capture | None) -> dict[str, bytes]:
    """Return the files of the site that tell of its cameras; none where the manifest names none."""
    if capture is None or MANIFEST_NAME not in files:
        return {}
    manifest = parse_manifest(read_json(files[MANIFEST_NAME]), str(files[MANIFEST_NAME]))
    return site_cameras(manifest.cameras, capture)


def _scene_files(scene_dir: Path) -> tuple[dict[str, Path], str]:
    """Return the scene's files by their path below ``baked/``, and the address that the page opens."""
    if (scene_dir / "scene_params.json").is_file():
        params = read_json(scene_dir / "scene_params.json")
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
        read_json(path)
    found = {
        path.relative_to(scene_dir).as_posix(): path
        for path in sorted(scene_dir.rglob("*"))
        if path.is_file()
    }
    if "manifest.json" in found:
        return found, "baked"
    return found, f"baked/{entries[0].parent.name}"


def with_scene(text: str, entry: str) -> str:
    """Return a page that opens the scene at ``entry``."""
    return text.replace(f'{MARKER} content="">', f'{MARKER} content="{entry}">')


def _write_folder(
    files: dict[str, Path], site_dir: Path, text: str, beside: dict[str, bytes], is_kept_offline: bool
) -> Path:
    if site_dir.exists() and not _is_site(site_dir):
        raise UsageError(
            f"{site_dir}: exists and is not an exported site; choose another folder or remove it"
        )
    _warn_of_missing_coarse_levels(files)
    with replace_folder(site_dir) as folder:
        copy_viewer(folder, text)
        for name, data in beside.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        for name, source in files.items():
            target = folder / "baked" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        if is_kept_offline:
            (folder / "sw.js").write_text(service_worker(folder), encoding="utf-8")
        _check_site(folder, files)
    return site_dir / "index.html"


def _warn_of_missing_coarse_levels(files: dict[str, Path]) -> None:
    """Tell how a page of large submodels would show its first image sooner."""
    sizes: dict[str, int] = {}
    for name, path in files.items():
        sizes[name.split("/")[0]] = sizes.get(name.split("/")[0], 0) + path.stat().st_size
    lacking = [
        folder
        for folder, size in sorted(sizes.items())
        if size > _LARGE_SUBMODEL_BYTES and f"{folder}/{COARSE_FOLDER}/scene_params.json" not in files
    ]
    if lacking and MANIFEST_NAME in files:
        _LOG.warning(
            "%s: without a coarse level; bake again with smerf bake for a first image sooner",
            ", ".join(lacking),
        )


def _is_site(site_dir: Path) -> bool:
    if not site_dir.is_dir():
        return False
    page = site_dir / "index.html"
    return not any(site_dir.iterdir()) or (page.is_file() and MARKER in page.read_text(errors="replace"))


def copy_viewer(site: Path, text: str) -> None:
    """Write a page and all that it may load of the viewer to a folder."""
    web = viewer_root() / "web"
    (site / "viewer" / "strings").mkdir(parents=True)
    for path in sorted([*web.iterdir(), *(web / "strings").iterdir()]):
        # The service worker must lie beside the page that it keeps.
        if path.suffix in (".js", ".css", ".svg", ".json") and path.name not in ("sw.js", "tsconfig.json"):
            shutil.copyfile(path, site / "viewer" / path.relative_to(web))
    (site / "viewer" / "shaders.js").write_text(_shader_module())
    (site / "viewer" / "LICENSE").write_text(licence_text())
    (site / "index.html").write_text(text.replace('"./', '"./viewer/'), encoding="utf-8")


def _shader_module() -> str:
    """Return shaders.js with the texts inside: some hosts refuse to serve unknown file types."""
    root = viewer_root() / "shaders"
    names = ["prologue_web.glsl", "screen.vert", "march.frag", "shade.frag"]
    parts = [*(root / "chunks").glob("*.glsl"), *(root / "wgsl").glob("*.wgsl")]
    names += [path.relative_to(root).as_posix() for path in sorted(parts)]
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
        listed = read_json(files["manifest.json"]).get("files", {})
    for name, record in listed.items():
        copy = site / "baked" / name
        if not copy.is_file():
            raise InvalidDataError(
                f"{files['manifest.json']}: lists {name}, which is missing; bake the scene again"
            )
        if copy.stat().st_size != record.get("bytes", copy.stat().st_size):
            raise InvalidDataError(f"{copy.name}: size differs from manifest.json; bake the scene again")
        if "sha256" in record and hash_file(copy)[0] != record["sha256"]:
            raise InvalidDataError(f"{name}: content differs from manifest.json; bake the scene again")
    for name, source in files.items():
        if (site / "baked" / name).stat().st_size != source.stat().st_size:
            raise SmerfError(f"{name}: copied incompletely; is the disk full?")


def _write_single_file(files: dict[str, Path], page: Path, text: str, beside: dict[str, bytes]) -> Path:
    if page.is_dir():
        page = page / "index.html"
    if page.exists() and MARKER not in page.read_text(errors="replace"):
        raise UsageError(f"{page}: exists and is not an exported page; choose another name or remove it")
    embedded = {
        name: path.read_bytes()
        for name, path in files.items()
        if name == MANIFEST_NAME or VIEWER_READS.search(name)
    }
    replaced = {"shaders.js": _shader_module(), "tables.js": table_module()}
    licence = f'<script type="text/plain" id="smerf-licence">\n{licence_text()}</script>\n'
    write_text(page, single_page(text, viewer_root() / "web", replaced, embedded | beside, licence))
    megabytes = page.stat().st_size / 1e6
    if megabytes > LARGE_PAGE_MB:
        _LOG.warning(
            "%s has %.0f MB; some browsers fail to open pages above %.0f MB. Export a folder instead.",
            page,
            megabytes,
            LARGE_PAGE_MB,
        )
    return page
