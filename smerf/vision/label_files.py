"""``labels/``: named objects and the voxels they are made of, as files.

``labels.json``: ``{format: "smerf-labels-1", space: "training", capture, model: {kind, sha256}, words, objects: [{id,
word, score, second, colour: [r, g, b], box: {centre, half}, voxels, instance, photos}]}``; ids count from 1,
``capture`` is the fingerprint of the photos, ``instance`` the number in their masks or null.

``volume.npz``: ``origin`` (3,), ``voxel``, ``keys`` int32 (N, 3), ``id`` uint16 (N,), ``votes`` float16 (N,); the
voxel of key k covers origin + voxel * [k, k + 1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smerf.engine.files import write_text, writing
from smerf.errors import InvalidDataError, UsageError
from smerf.vision.find import DepthPhoto, photos_showing
from smerf.vision.label import Labels, colour_of
from smerf.vision.lift import VoxelGrid, VoxelSet

__all__ = ["StoredLabels", "read_labels", "write_labels"]

_FORMAT = "smerf-labels-1"
_MAX_OBJECTS = 65_535


@dataclass(frozen=True)
class StoredLabels:
    """What ``labels/`` holds: the objects as in the file, and the voxels of each by its id.

    ``capture`` is the fingerprint of the photos that they were made of, empty where the file does not say.
    """

    objects: tuple[dict[str, Any], ...]
    grid: VoxelGrid
    keys: np.ndarray
    ids: np.ndarray
    capture: str = ""

    def voxels(self, numbers: Sequence[int]) -> VoxelSet:
        """Return the voxels of some objects together."""
        return VoxelSet(self.grid, self.keys[np.isin(self.ids, numbers)])


def write_labels(
    folder: Path, labels: Labels, model: Mapping[str, Any], photos: Sequence[DepthPhoto], capture: str = ""
) -> list[dict[str, Any]]:
    """Write ``labels.json`` and ``volume.npz``.

    Args:
        folder: Made where it is missing.
        labels: What was found.
        model: ``kind`` and ``sha256`` of what named it.
        photos: Of which the five that show most of each object are noted.
        capture: Their fingerprint.

    Returns:
        The objects as written.
    """
    grid, keys = labels.votes.grid, labels.votes.keys
    objects = labels.objects[:_MAX_OBJECTS]
    ids = np.zeros(len(keys), np.uint16)
    strength = np.zeros(len(keys), np.float16)
    for number, each in enumerate(objects, 1):
        ids[each.voxels] = number
        strength[each.voxels] = labels.votes.votes[each.voxels, labels.votes.words.index(each.word)]
    entries = []
    for number, each in enumerate(objects, 1):
        best = photos_showing(photos, VoxelSet(grid, keys[each.voxels]), 5)
        entries.append(
            {
                "id": number,
                "word": each.word,
                "score": round(each.score, 4),
                "second": each.second,
                "colour": list(colour_of(number)),
                "box": {"centre": each.centre.tolist(), "half": each.half.tolist()},
                "voxels": len(each.voxels),
                "instance": each.instance,
                "photos": [match.photo for match in best],
            }
        )
    document = {
        "format": _FORMAT,
        "space": "training",
        "capture": capture,
        "model": dict(model),
        "words": list(labels.votes.words),
        "objects": entries,
    }
    named = ids > 0
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / "volume.npz") as aside, aside.open("wb") as stream:
        np.savez_compressed(
            stream,
            origin=grid.origin,
            voxel=grid.size,
            keys=keys[named],
            id=ids[named],
            votes=strength[named],
        )
    write_text(folder / "labels.json", json.dumps(document, indent=1) + "\n")
    return entries


def read_labels(folder: Path) -> StoredLabels:
    """Read what ``write_labels`` wrote.

    Raises:
        UsageError: If there are no labels.
        InvalidDataError: If they are damaged or of another format.
    """
    path = folder / "labels.json"
    if not path.is_file():
        raise UsageError(f"{folder}: holds no labels; smerf label makes them")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            raise InvalidDataError(f"{path}: is {document['format']!r}, not {_FORMAT}")
        with np.load(folder / "volume.npz", allow_pickle=False) as arrays:
            grid = VoxelGrid(arrays["origin"].astype(np.float64), float(arrays["voxel"]))
            keys, ids = arrays["keys"].astype(np.int32), arrays["id"].astype(np.int64)
        objects, capture = tuple(document["objects"]), str(document.get("capture", ""))
        return StoredLabels(objects, grid, keys, ids, capture)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidDataError(f"{folder}: is damaged ({error}); smerf label makes it again") from error
