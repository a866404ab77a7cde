"""Names for what a run shows: from its capture's masks, a detector that the user brings, or the closed vocabulary."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smerf.capture import fingerprint
from smerf.capture.images import load_image
from smerf.capture.pixels import read_array
from smerf.capture.types import Capture
from smerf.engine.files import read_json
from smerf.engine.progress import Progress
from smerf.errors import InvalidDataError, UsageError
from smerf.pipeline.sight import Sight, grid_of
from smerf.vision.find import DepthPhoto
from smerf.vision.label import (
    Detection,
    Labels,
    Votes,
    collect_votes,
    instance_of_voxels,
    name_components,
    name_instances,
    name_tracks,
)
from smerf.vision.label_files import write_labels
from smerf.vision.lift import VoxelGrid
from smerf.vision.names.words import CLOSED, KINDS
from smerf.vision.words import COCO, match_word, plain_word

if TYPE_CHECKING:
    from smerf.vision.names.eyes import NameEyes

__all__ = ["InstanceMasks", "closed_votes", "label", "read_instances"]

_THRESHOLD = 0.25
_Detect = Callable[[int, DepthPhoto], Sequence[Detection]]


@dataclass(frozen=True)
class InstanceMasks:
    """Instance ids of photos: ``names`` by id; ``read(i, (W, H))`` returns those of photo i, uint8 or uint16 (H, W)."""

    names: dict[int, str]
    read: Callable[[int, tuple[int, int]], np.ndarray]


def read_instances(capture: Capture) -> InstanceMasks | None:
    """Return the instance masks that a capture's ``transforms.json`` names, as ``smerf synth`` writes them, or None.

    Raises:
        InvalidDataError: If a mask is missing.
    """
    path = capture.root / "transforms.json"
    document = read_json(path) if path.is_file() else {}
    stated = document.get("instances")
    files = {
        Path(f["file_path"]).name: f["instance_path"]
        for f in document.get("frames", ())
        if "instance_path" in f
    }
    if not isinstance(stated, dict) or not files:
        return None
    names = {int(number): str(name) for number, name in stated.items() if int(number) > 0}

    def read(index: int, size: tuple[int, int]) -> np.ndarray:
        name, (width, height) = capture.frames[index].name, size
        file = files.get(Path(name).name)
        if file is None:
            raise InvalidDataError(f"{path}: names no instance_path for {name}, as it does for others")
        ids = read_array(capture.root / file)
        rows = ((np.arange(height) + 0.5) * ids.shape[0] / height).astype(int)
        columns = ((np.arange(width) + 0.5) * ids.shape[1] / width).astype(int)
        return ids[np.ix_(rows, columns)]

    return InstanceMasks(names, read)


def label(
    sight: Sight, output: Path, *, model: Path | None = None, words: Sequence[str] = (), quiet: bool = False
) -> list[dict[str, Any]]:
    """Name what a run shows, and write ``labels/``.

    Args:
        sight: The photos with their depth.
        output: Folder for ``labels.json`` and ``volume.npz``.
        model: Folder of an OWL-ViT or OWLv2 model in its public layout, which looks for ``words``; the ``model.json``
            of a TensorFlow.js detector of COCO's names; or the file of a closed vocabulary. Without one the names are
            those of the capture's own instance masks.
        words: What to look for; with an OWL any words, else what to keep.
        quiet: Show no progress.

    Returns:
        The objects as written.

    Raises:
        UsageError: If there is nothing to name by, an OWL without words, or a word that is not known.
    """
    masks = read_instances(sight.capture)
    if model is None and masks is None:
        raise UsageError(
            f"{sight.capture.root}: its photos have no instance masks to take names from; give a detector: --model "
            "FOLDER of OWL-ViT or OWLv2, with --words sofa,chair, the model.json of a detector of COCO's names, or the "
            "names.safetensors of smerf vision train names"
        )
    if model is not None and model.suffix == ".safetensors":
        return _label_closed(sight, output, model, words, quiet)
    is_graph = model is not None and model.suffix == ".json"
    if model is not None and not is_graph and not words:
        raise UsageError(f"--model {model}: finds any words; say which with --words sofa,chair")
    if model is not None and masks is None and not is_graph and _has_decoder(model):
        return _label_tracks(sight, output, model, words, quiet)
    kept = _meant(words, COCO, "the detector's 80 names") if is_graph else set()
    if model is None:
        assert masks is not None
        known, detect, record = _by_masks(masks, words)
    elif is_graph:
        known, detect, record = _by_graph(sight, model)
    else:
        known, detect, record = _by_model(sight, model, words)
    votes = _vote(sight, detect, known, quiet)
    labels: Labels
    if masks is None:
        labels = name_components(votes)
    else:
        counts = ((photo, masks.read(i, _size(photo))) for i, photo in enumerate(sight.photos))
        owner = instance_of_voxels(votes, counts)
        labels = name_instances(votes, owner)
    if kept:
        # Only now: what is more likely an orange is no apple, whichever was asked for.
        labels = replace(labels, objects=tuple(each for each in labels.objects if each.word in kept))
    return write_labels(output, labels, record, sight.photos, fingerprint(sight.capture))


def _vote(
    sight: Sight, detect: _Detect, known: Sequence[str], quiet: bool, grid: VoxelGrid | None = None
) -> Votes:
    with Progress("label", len(sight.photos), "photos", stops=True, quiet=quiet) as progress:

        def photos() -> Iterator[tuple[DepthPhoto, Sequence[Detection]]]:
            for index, photo in enumerate(sight.photos):
                yield photo, detect(index, photo)
                progress.update(index + 1)

        return collect_votes(photos(), grid or sight.grid, known)


def closed_votes(sight: Sight, eyes: NameEyes, *, quiet: bool = False, metres: bool = True) -> Votes:
    """Return the votes of the closed vocabulary.

    Lengths count as known where the photos came with depth, which capture files state in metres; ``metres`` off keeps
    them from the network all the same.
    """
    from smerf.vision.names.eyes import DIVISIONS, measure_ground

    capture = sight.capture
    has_depth = metres and any(frame.depth_path is not None for frame in capture.frames)
    ground = measure_ground(sight.photos, capture.training_from_source.scale if has_depth else None)

    def detect(index: int, photo: DepthPhoto) -> Sequence[Detection]:
        return eyes.detections(load_image(capture.frames[index]), photo, ground)

    return _vote(sight, detect, eyes.words, quiet, grid_of(sight.photos, DIVISIONS))


def _label_closed(
    sight: Sight, output: Path, model: Path, words: Sequence[str], quiet: bool
) -> list[dict[str, Any]]:
    from smerf.vision.names.eyes import NameEyes, accepted

    eyes = NameEyes(model)
    asked = [KINDS.get(word, KINDS.get(word.removesuffix("s"), word)) for word in words]
    kept = _meant(asked, eyes.words, f"the {len(eyes.words)} words of smerf")
    labels = accepted(closed_votes(sight, eyes, quiet=quiet), eyes.least)
    if kept:
        labels = replace(labels, objects=tuple(each for each in labels.objects if each.word in kept))
    record = {"kind": CLOSED, "sha256": eyes.sha256, "least": eyes.least}
    return write_labels(output, labels, record, sight.photos, fingerprint(sight.capture))


def _size(photo: DepthPhoto) -> tuple[int, int]:
    return photo.camera.intrinsics.width, photo.camera.intrinsics.height


def _by_masks(masks: InstanceMasks, words: Sequence[str]) -> tuple[list[str], _Detect, dict[str, str]]:
    plain = {number: plain_word(name) for number, name in masks.names.items()}
    known = sorted({word for word in plain.values() if not words or word in words})
    if not known:
        raise UsageError(
            f"--words {','.join(words)}: the masks know {', '.join(sorted(set(plain.values())))}"
        )

    def detect(index: int, photo: DepthPhoto) -> list[Detection]:
        ids = masks.read(index, _size(photo))
        return [
            Detection(known.index(plain[number]), 1.0, mask=ids == number)
            for number in np.unique(ids).tolist()
            if plain.get(number) in known
        ]

    return known, detect, {"kind": "instance masks of the capture", "sha256": ""}


def _by_model(sight: Sight, model: Path, words: Sequence[str]) -> tuple[list[str], _Detect, dict[str, str]]:
    from smerf.vision.convert import WEIGHTS
    from smerf.vision.looking import OwlEyes

    known = sorted(set(words))
    eyes = OwlEyes(model, known)

    def detect(index: int, photo: DepthPhoto) -> list[Detection]:
        return eyes.detections(load_image(sight.capture.frames[index]), _THRESHOLD)

    return known, detect, {"kind": model.name, "sha256": _digest(model / WEIGHTS)}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _has_decoder(model: Path) -> bool:
    from smerf.vision.carried import DECODER

    return (model / DECODER).is_file()


def _label_tracks(
    sight: Sight, output: Path, model: Path, words: Sequence[str], quiet: bool
) -> list[dict[str, Any]]:
    """Name what a detector follows over the photos, in an order in which they pass for a video."""
    from smerf.vision.carried import DECODER, order_by_pose
    from smerf.vision.looking import OwlEyes

    known = sorted(set(words))
    order = order_by_pose([photo.camera for photo in sight.photos])
    pixels = (load_image(sight.capture.frames[index]) for index in order)
    found: dict[int, list[tuple[int, Detection]]] = {}
    with Progress("label", len(order), "photos", stops=True, quiet=quiet) as progress:
        for index, tracks in zip(order, OwlEyes(model, known).tracks(pixels, _THRESHOLD)):
            found[index] = tracks
            progress.update(len(found))
    count = 1 + max((row for tracks in found.values() for row, _ in tracks), default=0)
    seen = [(photo, found[index]) for index, photo in enumerate(sight.photos)]
    votes = collect_votes(
        ((photo, [each for _, each in tracks]) for photo, tracks in seen), sight.grid, known
    )
    owners = collect_votes(
        ((photo, [replace(each, word=row) for row, each in tracks]) for photo, tracks in seen),
        sight.grid,
        [f"track {number}" for number in range(count)],
    )
    record = {"kind": f"{model.name}, carried over photos", "sha256": _digest(model / DECODER)}
    return write_labels(output, name_tracks(votes, owners), record, sight.photos, fingerprint(sight.capture))


def _meant(words: Sequence[str], known: Sequence[str], whose: str) -> set[str]:
    """Return the known words that mean those asked for."""
    names: set[str] = set()
    for word in words:
        found, nearest = match_word(word, known)
        if not found:
            raise UsageError(
                f"--words {word}: is not among {whose}; nearest by spelling are {', '.join(nearest)}"
            )
        names.update(found)
    return names


def _by_graph(sight: Sight, model: Path) -> tuple[list[str], _Detect, dict[str, str]]:
    from smerf.vision.looking import CocoEyes

    eyes = CocoEyes(model)

    def detect(index: int, photo: DepthPhoto) -> list[Detection]:
        return eyes.detections(load_image(sight.capture.frames[index]), _THRESHOLD)

    return list(COCO), detect, {"kind": model.name, "sha256": eyes.model.sha256}
