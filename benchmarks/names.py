"""How well the closed vocabulary of ``smerf label`` names the built-in scenes, which it was not learned from.

Each CAPTURE is a built-in scene (smerf synth SCENE -o CAPTURE), whose depth places the votes; its instance masks only
judge. A true thing counts where its word is in the vocabulary: ``wins`` says for how many the right word has most
votes, and ``found`` for how many a name above the acceptance score stands on it. ``named`` are the things that the
command prints, and ``right`` those of them whose word is that of the true thing that most of their voxels belong to:
walls, floors and things of other words make a name wrong. With ``--no-metres`` the unit of length is kept from the
network, as with most real photos. The first record is that of the training, with its held-out drawn scenes.

    python -m benchmarks.names captures/flat captures/tabletop captures/courtyard --model FILE --json FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.common import Benchmark, Report
from smerf.capture.types import Capture
from smerf.engine.files import read_json
from smerf.errors import UsageError
from smerf.pipeline.label import InstanceMasks, closed_votes, read_instances
from smerf.pipeline.names import judge
from smerf.pipeline.sight import Sight, open_sight
from smerf.vision.label import instance_of_voxels
from smerf.vision.names.eyes import NameEyes
from smerf.vision.names.words import KINDS
from smerf.vision.words import match_word, plain_word

_ALSO = {
    "dining": "table", "nightstand": "table", "rose": "plant", "lavender": "plant", "tulip": "plant",
    "loose lemon": "fruit", "glossy ball": "ball", "small ball": "ball",
}  # fmt: skip
"""Words of the built-in scenes' own names."""


def our_word(name: str, words: tuple[str, ...]) -> str | None:
    """Return the word of the vocabulary that an instance's name means, or None."""
    plain = plain_word(name)
    found, _ = match_word(KINDS.get(plain, _ALSO.get(plain, plain)), words)
    return found[0] if found else None


def _masks(capture: Capture) -> InstanceMasks:
    masks = read_instances(capture)
    if masks is None:
        raise UsageError(
            f"{capture.root}: has no instance masks to judge by; smerf synth makes such captures"
        )
    return masks


def _owner(sight: Sight, masks: InstanceMasks, votes: object) -> np.ndarray:
    def ids(index: int) -> np.ndarray:
        lens = sight.photos[index].camera.intrinsics
        return masks.read(index, (lens.width, lens.height))

    return instance_of_voxels(votes, ((photo, ids(i)) for i, photo in enumerate(sight.photos)))  # type: ignore[arg-type]


def options(parser: argparse.ArgumentParser) -> None:
    """Add the captures."""
    parser.add_argument("captures", type=Path, nargs="+", help="captures of built-in scenes")
    parser.add_argument("--no-metres", action="store_true", help="keep the unit of length from the network")
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="names.safetensors")


def measure(options: argparse.Namespace, report: Report) -> None:
    """Label each capture and compare."""
    eyes = NameEyes(options.model)
    training = read_json(options.model.with_name("record.json"))
    kept = ("command", "settings", "training_seconds", "parameters", "least", "held_out", "sha256")
    report.add("training", **{key: training[key] for key in kept})
    print(f"{'capture':12} {'things':>6} {'wins':>5} {'found':>5} {'named':>5} {'right':>5}")
    for path in options.captures:
        sight = open_sight(path, quiet=True)
        masks = _masks(sight.capture)
        votes = closed_votes(sight, eyes, quiet=True, metres=not options.no_metres)
        words = {number: our_word(name, eyes.words) for number, name in masks.names.items()}
        judged = judge(votes, _owner(sight, masks, votes), words)
        right, named = judged.precision(eyes.least)
        found, true = judged.recall(eyes.least)
        wins = sum(word == winner for word, winner, _ in judged.true)
        print(f"{path.name:12} {true:6} {wins:5} {found:5} {named:5} {right:5}")
        report.add(
            path.name,
            photos=len(sight.photos),
            least=eyes.least,
            sha256=eyes.sha256,
            things=true,
            wins=wins,
            found=found,
            named=named,
            right=right,
            precision=right / named if named else None,
            recall=found / true if true else None,
            names=[
                {"word": word, "truth": truth or "another", "score": score}
                for score, word, truth in sorted(judged.named, reverse=True, key=lambda each: each[0])
                if score >= eyes.least
            ],
            true=[{"word": word, "winner": winner, "score": score} for word, winner, score in judged.true],
        )


BENCHMARK = Benchmark(
    __doc__, measure, options, needs="captures of built-in scenes, and weights of smerf vision train names"
)

if __name__ == "__main__":
    raise SystemExit(BENCHMARK.main())
