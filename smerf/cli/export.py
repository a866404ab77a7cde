"""``smerf export``: the web page of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Output, Positional, Switch, refuse_non_empty, scene_folder

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Write the web page of a baked scene: a folder that any static host serves, or one offline file.

    An output that ends in .glb gets what stops a visitor, as a mesh.

    Examples:
      smerf export runs/tabletop -o site
      smerf export runs/tabletop -o tabletop.html --single-file --no-photos
      smerf export runs/tabletop -o walls.glb
    """

    scene: Positional[Annotated[Path, tyro.conf.arg(metavar="SCENE")]]
    """Run folder or baked scene."""
    output: Output
    """Folder to write, or with --single-file the HTML file."""
    single_file: Switch[bool] = False
    """Put everything into one HTML file that works without a server."""
    photos: bool = True
    """Add small copies of the run's photos, to jump to and to compare with."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the run's capture is now, if it has moved."""
    overwrite: Switch[bool] = False
    """Replace a page that is there."""


def run(options: Options) -> int:
    """Write the page and print its location."""
    from smerf.export.site import export_site
    from smerf.pipeline.job import run_photos

    scene = scene_folder(options.scene)
    refuse_non_empty(options.output, options.overwrite, "place")
    if options.output.suffix.lower() == ".glb":
        from smerf.export.collision import export_collision

        print(f"mesh: {export_collision(scene, options.output)}")
        return 0
    capture = run_photos(options.scene, options.data) if options.photos else None
    page = export_site(scene, options.output, single_file=options.single_file, capture=capture)
    print(f"page: {page}")
    if not options.single_file:
        print(f"open: smerf serve {options.output}")
    return 0
