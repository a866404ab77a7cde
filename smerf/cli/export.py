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
    """Write the web page of a baked scene: a folder that any static host serves.

    Example:
      smerf export runs/tabletop -o site
    """

    scene: Positional[Annotated[Path, tyro.conf.arg(metavar="SCENE")]]
    """Run folder or baked scene."""
    output: Output
    """Folder to write."""
    overwrite: Switch[bool] = False
    """Write into a folder that is not empty."""


def run(options: Options) -> int:
    """Write the page and say where it is."""
    from smerf.scene.site import export_site

    scene = scene_folder(options.scene)
    refuse_non_empty(options.output, options.overwrite, "folder")
    export_site(scene, options.output)
    print(f"page: {options.output / 'index.html'}\nopen: smerf serve {options.output}")
    return 0
