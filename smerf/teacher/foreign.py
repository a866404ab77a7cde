"""A teacher folder that names a file instead of holding weights: ``foreign.json``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture import content_scale
from smerf.capture.types import Capture, Similarity
from smerf.engine.files import read_json, write_json
from smerf.engine.folder import FOREIGN
from smerf.errors import InvalidDataError, UsageError
from smerf.fields.rays import Spacing
from smerf.teacher.asset import Asset, file_digest, open_asset
from smerf.teacher.asset_options import AssetOptions
from smerf.teacher.model import Teacher
from smerf.teacher.placed import Placement

__all__ = [
    "copy_record",
    "is_foreign",
    "load_foreign",
    "placed",
    "read_foreign",
    "record_digest",
    "save_foreign",
    "source_teacher",
]

_FILE, _FORMAT = FOREIGN, "smerf-foreign-1"


def is_foreign(folder: Path) -> bool:
    """Return whether a folder names a file as its teacher."""
    return (folder / _FILE).is_file()


def read_foreign(folder: Path) -> dict[str, Any]:
    """Return what ``save_foreign`` wrote.

    Raises:
        InvalidDataError: If it is damaged.
    """
    record = read_json(folder / _FILE)
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise InvalidDataError(f"{folder / _FILE}: expected format {_FORMAT}; make the run again")
    return record


def save_foreign(asset: Asset, options: AssetOptions, capture: Capture, folder: Path) -> None:
    """Write down that a file is the teacher of a capture that lies in the file's own space."""
    place = _placement(capture)
    similarity, spacing = place.training_from_source, place.spacing
    write_json(
        folder / _FILE,
        {
            "format": _FORMAT,
            "path": str(asset.path.resolve()),
            "name": asset.path.name,
            "sha256": file_digest(asset.path),
            "options": options.values(),
            "facts": asset.facts(),
            "training_from_source": {
                "scale": float(similarity.scale),
                "rotation": similarity.rotation.tolist(),
                "translation": similarity.translation.tolist(),
            },
            "near": spacing.near,
            "far": spacing.far if np.isfinite(spacing.far) else None,
            "linear": spacing.linear,
            "scene_scale": place.scene_scale,
            "background": place.background,
        },
    )


def placed(asset: Asset, capture: Capture) -> Teacher:
    """Return a file as the teacher of a capture that lies in the file's own space."""
    return asset.teacher(_placement(capture))


def _placement(capture: Capture) -> Placement:
    spacing = Spacing(capture.near, capture.far, capture.bounded)
    background = 1.0 if capture.background == "white" else 0.5
    return Placement(capture.training_from_source, spacing, content_scale(capture), background)


def load_foreign(folder: Path) -> Teacher:
    """Return the teacher that a folder names.

    Raises:
        UsageError: If its file is gone.
        InvalidDataError: If the file has changed, or is damaged.
    """
    record = read_foreign(folder)
    try:
        path, place = Path(record["path"]), record["training_from_source"]
        if not path.exists():
            raise UsageError(f"{path}: the teacher of {folder} is not there any more; put it back")
        if file_digest(path) != record["sha256"]:
            raise InvalidDataError(f"{path}: has changed since {folder} was made; smerf run makes it again")
        similarity = Similarity(place["scale"], np.array(place["rotation"]), np.array(place["translation"]))
        far = float("inf") if record["far"] is None else record["far"]
        spacing = Spacing(record["near"], far, record["linear"])
        asset = open_asset(path, AssetOptions.of(record["options"]))
        return asset.teacher(Placement(similarity, spacing, record["scene_scale"], record["background"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidDataError(f"{folder / _FILE}: is damaged ({error}); make the run again") from error


def copy_record(source: Path, folder: Path) -> None:
    """Let a student's folder name the same file as its teacher's."""
    write_json(folder / _FILE, read_foreign(source))


def record_digest(folder: Path) -> str:
    """Return a SHA-256 of all that decides the answers of the teacher that a folder names."""
    record = {name: value for name, value in read_foreign(folder).items() if name != "path"}
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def source_teacher(folder: Path) -> dict[str, Any]:
    """Return what a scene's manifest says of the file: kind, name, hash, and what its author wrote into it."""
    record = read_foreign(folder)
    names = ("kind", "splats", "sh_degree", "mode", "focal", "triangles", "light", "comments")
    facts = {name: record["facts"][name] for name in names if name in record["facts"]}
    return {"name": record["name"], "sha256": record["sha256"]} | facts
