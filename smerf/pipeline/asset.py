"""A run of a splat or mesh file: its capture, rendered from it, and the teacher that it is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smerf.engine.files import read_json
from smerf.engine.folder import SOURCE, RunFolder
from smerf.engine.progress import Progress

if TYPE_CHECKING:
    from smerf.capture.types import Capture
    from smerf.teacher.asset import Asset
    from smerf.teacher.asset_options import AssetOptions

__all__ = ["AssetSource", "describe_asset", "name_teacher", "render_capture", "rendered_from"]

_CAMERAS = {"tiny": (16, 64), "preview": (60, 400), "standard": (100, 800), "paper": (100, 800)}
"""Cameras to choose and pixels on the longer side, by preset."""


@dataclass(frozen=True)
class AssetSource:
    """The file that a run's photos are rendered from and that is its teacher."""

    asset: Asset
    options: AssetOptions


def render_capture(
    run: RunFolder,
    source: AssetSource,
    preset: str,
    *,
    overwrite: bool,
    quiet: bool = False,
    verbose: bool = False,
) -> Path:
    """Render the capture of a run's file into the run folder, or finish it; return its folder.

    Raises:
        UsageError: If the run is of another file or other options and ``overwrite`` is off.
        InvalidDataError: If most cameras see nothing of the file.
    """
    from smerf.teacher.asset_capture import write_asset_capture

    count, size = _CAMERAS[preset]
    folder, announced = run.path / "capture", False
    with Progress("capture", count, "views", run, stops=True, quiet=quiet, verbose=verbose) as progress:

        def report(done: int, total: int, said: str) -> None:
            nonlocal announced
            if not announced and not quiet:
                print(f"capture: {said}", file=sys.stderr, flush=True)
            announced = True
            progress.update(done, total)

        write_asset_capture(
            source.asset, source.options, folder, count=count, size=size, overwrite=overwrite, report=report
        )
    return folder


def rendered_from(capture: Path) -> str | None:
    """Return the name of the file that a capture was rendered from, or None if it holds photos."""
    path = capture / SOURCE
    return str(read_json(path).get("name")) if path.is_file() else None


def name_teacher(run: RunFolder, path: Path, capture: Capture, options: AssetOptions | None = None) -> Path:
    """Return a teacher folder in a run that names a file in the space of the run's capture.

    Raises:
        InvalidDataError: If the capture's cameras see nothing of it, or it is damaged.
    """
    from smerf.teacher.asset import open_asset
    from smerf.teacher.asset_capture import require_visible
    from smerf.teacher.asset_options import AssetOptions
    from smerf.teacher.foreign import save_foreign

    options = options or AssetOptions()
    asset = open_asset(path, options)
    require_visible(asset, capture)
    folder = run.path / "source_teacher"
    save_foreign(asset, options, capture, folder)
    return folder


def describe_asset(path: Path) -> dict[str, Any]:
    """Return the facts of a splat or mesh file as JSON values."""
    from smerf.teacher.asset import open_asset
    from smerf.teacher.found_cameras import find_cameras

    asset = open_asset(path)
    facts = asset.facts()
    found = find_cameras(path)
    return {
        "what": "splats" if "splats" in facts else "mesh",
        "path": str(path),
        **facts,
        "bytes": path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*")),
        "licence": "not known: a scene carries its author's",
        "cameras": str(found) if found else "none: chosen from what is there (orbit or walk)",
        "next": f"smerf run {path}",
    }
