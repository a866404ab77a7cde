"""``smerf objects export``: the web page of a scene of slots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Output, Positional, Switch, refuse_non_empty

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Write a web page that renders slots in the browser: hide and highlight objects, see the masks, orbit.

    The page holds the decoder and the slots (less than a megabyte for the small models) and needs no server of ours.

    Examples:
      smerf objects export slots.safetensors -o site
      smerf objects export edited.safetensors -o scene.html --single-file
    """

    slots: Positional[Annotated[Path, tyro.conf.arg(metavar="SLOTS")]]
    """File that encode or edit wrote; its edits are applied."""
    output: Output
    """Folder to write, or with --single-file the HTML file."""
    single_file: Switch[bool] = False
    """Put everything into one HTML file that works without a server."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Run folder or model file, where it is not where the slots say."""
    arc: Annotated[float | None, tyro.conf.arg(metavar="DEGREES")] = None
    """How far from the x axis visitors may turn; as far as the model has seen cameras if not given."""
    overwrite: Switch[bool] = False
    """Replace a page that is there."""


def run(options: Options) -> int:
    """Write the page and print where it is."""
    from smerf.export.slot_site import export_slots
    from smerf.pipeline.objects import load_scene_of_slots

    refuse_non_empty(options.output, options.overwrite, "place")
    scene = load_scene_of_slots(options.slots, options.model, options.arc)
    title = f"{options.slots.stem} - smerf"
    page = export_slots(scene, options.output, single_file=options.single_file, title=title)
    print(f"page: {page}")
    if not options.single_file:
        print(f"open: smerf serve {options.output}")
    return 0
