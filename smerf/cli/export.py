"""``smerf export``: the web page of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import AboutFlags, Common, Output, Positional, Switch, refuse_non_empty, scene_folder
from smerf.errors import UsageError

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(AboutFlags, Common):
    """Write the web page of a baked scene: a folder that any static host serves, or one offline file.

    An output that ends in .glb gets what stops a visitor, as a mesh.

    Examples:
      smerf export runs/tabletop -o site
      smerf export runs/tabletop -o tabletop.html --single-file --no-photos
      smerf export runs/flat -o site --title "Our flat" --author "A. Bauer" --annotations notes.json
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
    poster: bool = True
    """Render a picture for shared links, shown until the scene is there."""
    path: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A camera path to put in, as the page saves it; its keyframes are views to choose from."""
    autoplay: Switch[bool] = False
    """Play the path when the page opens."""
    annotations: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Notes and distances to put in, as the page saves them."""
    offline: Switch[bool] = False
    """Keep the page in visitors' browsers, so that it opens without a connection from the second visit on."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the run's capture is now, if it has moved."""
    overwrite: Switch[bool] = False
    """Replace a page that is there."""


def run(options: Options) -> int:
    """Write the page and print its location."""
    from smerf.export.page import Page
    from smerf.export.poster import render_poster
    from smerf.export.site import export_site
    from smerf.pipeline.job import run_about, run_photos

    scene = scene_folder(options.scene)
    refuse_non_empty(options.output, options.overwrite, "place")
    if options.output.suffix.lower() == ".glb":
        from smerf.export.collision import export_collision

        print(f"mesh: {export_collision(scene, options.output)}")
        return 0
    if options.autoplay and options.path is None:
        raise UsageError("--autoplay: there is no path to play; give one with --path")
    if options.offline and options.single_file:
        raise UsageError("--offline: a single file works without a connection as it is")
    page = Page(
        run_about(options.scene, options.about),
        render_poster(scene) if options.poster else {},
        options.path,
        options.autoplay,
        options.annotations,
        options.offline,
    )
    capture = run_photos(options.scene, options.data) if options.photos else None
    written = export_site(scene, options.output, single_file=options.single_file, capture=capture, page=page)
    print(f"page: {written}")
    if not options.single_file:
        print(f"open: smerf serve {options.output}")
    return 0
