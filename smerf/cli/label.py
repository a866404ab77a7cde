"""``smerf label``: names for what a run shows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Json, Positional

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Name what stands where, and write it to RUN/labels: names, colours, boxes, and the id of every voxel.

    The baked scene of the run gets the ids too, so that viewers can select, light and hide things.

    Names come from the capture's own instance masks, or from a detector that you bring: a folder of OWL-ViT or OWLv2
    with config.json, model.safetensors, vocab.json and merges.txt, which finds any words; or the model.json of a
    TensorFlow.js graph that finds the 80 names of COCO; or the names.safetensors of smerf vision train
    names, which knows 22 everyday words. Detections are placed by exact depth and voted over photos.

    Examples:
      smerf label runs/tabletop
      smerf label runs/flat --model owlv2-base-patch16 --words sofa,chair,lamp
      smerf label runs/flat --model centernet.json
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder with a baked scene, or a posed capture with depth."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Detector, a folder or a file; the capture's instance masks if not given."""
    words: Annotated[str, tyro.conf.arg(metavar="WORD,...")] = ""
    """What to look for; without an OWL, what to keep."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = None
    """Folder for labels.json and volume.npz; RUN/labels if not given, and then the baked scene gets the ids too."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the capture is now, if it has moved."""
    json: Json = False
    """Print the objects as JSON."""


def run(options: Options) -> int:
    """Write the labels and print what was named."""
    from smerf.engine.signals import catch_signals
    from smerf.errors import UsageError
    from smerf.pipeline.label import label
    from smerf.pipeline.object_ids import add_to_run
    from smerf.pipeline.sight import open_sight

    words = tuple(word.strip().lower() for word in options.words.split(",") if word.strip())
    with catch_signals():
        sight = open_sight(options.run, options.data, quiet=options.quiet)
        if options.output is None and sight.folder is None:
            raise UsageError(f"{options.run}: is a capture and no run; say where the labels go with -o")
        output = options.output or options.run / "labels"
        objects = label(sight, output, model=options.model, words=words, quiet=options.quiet)
        written = None
        if options.output is None:
            written = add_to_run(options.run, sight.capture, output, quiet=options.quiet)
    if options.json:
        print(json.dumps(objects, indent=1))
        return 0
    counts = Counter(each["word"] for each in objects)
    for word, count in sorted(counts.items()):
        scores = ", ".join(f"{each['score']:.2f}" for each in objects if each["word"] == word)
        print(f"{count:4d}  {word}  (votes a view: {scores})")
    least = _say_closed(output)
    nothing = "nothing found" if least is None else f"nothing above its score of {least}"
    print(f"labels: {output} ({len(objects)} things)" if objects else f"labels: {output} ({nothing})")
    if written is not None:
        print(f"baked:  {written} of them in {options.run}/baked\nnext:   smerf export {options.run}")
    return 0


def _say_closed(output: Path) -> float | None:
    """Say what the closed vocabulary is, if it made the labels, and return its acceptance score."""
    from smerf.engine.files import read_json

    document = read_json(output / "labels.json")
    least = document["model"].get("least")
    if least is None:
        return None
    print(
        f"names:  from a closed vocabulary learned from drawn things, which knows {', '.join(document['words'])}; "
        f"what scores less than {least} is not named. It was judged by rendered scenes alone: check names in "
        "real photos"
    )
    return float(least)
