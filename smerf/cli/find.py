"""``smerf find``: which photos show a thing or a place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Json, Positional

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Find the photos that show a point, a part of another photo, or a labelled thing, best first.

    Each photo's pixels are placed by exact depth, of the baked scene or of the capture, so what is hidden does not
    count. Any words, and images, need --clip: a folder of CLIP with config.json, model.safetensors, vocab.json and
    merges.txt.

    Examples:
      smerf find runs/tabletop 0.1,0.2,0.4
      smerf find runs/tabletop frame_00003.png:140,90,180,130 --top 8
      smerf find runs/tabletop vase
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder with a baked scene, or a posed capture with depth."""
    query: Positional[Annotated[str, tyro.conf.arg(metavar="QUERY")]]
    """x,y,z in the capture's coordinates, PHOTO:left,top,right,bottom in pixels, a labelled thing, any words,
    or an image."""
    clip: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """CLIP model for words that nothing is labelled with, and for images."""
    top: Annotated[int, tyro.conf.arg(metavar="INT")] = 5
    """How many photos to name."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the capture is now, if it has moved."""
    json: Json = False
    """Print JSON."""


def run(options: Options) -> int:
    """Print the photos."""
    from smerf.engine.signals import catch_signals
    from smerf.errors import UsageError
    from smerf.pipeline.find import find
    from smerf.pipeline.sight import open_sight
    from smerf.pipeline.summary import format_table

    if options.top < 1:
        raise UsageError(f"--top {options.top}: give 1 or more")
    with catch_signals():
        sight = open_sight(options.run, options.data, quiet=options.quiet)
        answer = find(sight, options.query, clip=options.clip, top=options.top, quiet=options.quiet)
    if options.json:
        photos = [match.to_json() for match in answer.matches]
        print(json.dumps({"query": options.query, "how": answer.how, "photos": photos}, indent=1))
        return 0
    if not answer.matches:
        print(f"no photo shows it ({answer.how})")
        return 0
    unit = "cosine" if answer.by_likeness else "of its pixels"
    rows = [
        [
            match.photo,
            f"{match.share:.3f}" if answer.by_likeness else f"{100 * match.share:.2f} %",
            f"{match.centre[0]:.2f}, {match.centre[1]:.2f}",
        ]
        for match in answer.matches
    ]
    print(format_table(["photo", unit, "centre (x, y in 0..1)"], rows))
    print(answer.how)
    return 0
