"""Masks as files: ``masks/NAME.png`` beside a record, black where a photo's pixels are ignored.

That is the polarity of nerfstudio and COLMAP, and the name (``photo.jpg.png``) under which all readers find it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from smerf.capture.images import load_mask
from smerf.capture.types import Capture
from smerf.engine.files import read_json, write_json, writing

__all__ = ["FORMAT", "MASKS", "RECORD", "mask_name", "read_record", "with_masks", "write_mask", "write_masks"]

FORMAT = "smerf-masks-1"
MASKS = "masks"
"""The folder, beside the photos of a capture or in a teacher's folder."""
RECORD = "record.json"


def mask_name(name: str) -> str:
    """Return the name of a photo's mask below the folder of masks."""
    safe = [part for part in PurePosixPath(name).parts if part not in ("..", "/", ".")]
    return str(PurePosixPath(*safe)) + ".png"


def write_mask(path: Path, used: np.ndarray) -> None:
    """Write which pixels are used, bool (H, W): 255 where they are, 0 where they are ignored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as aside, aside.open("wb") as file:
        Image.fromarray(np.where(used, 255, 0).astype(np.uint8)).save(file, "PNG")


def write_masks(
    folder: Path, capture: Capture, used: Mapping[str, np.ndarray], record: Mapping[str, Any]
) -> None:
    """Write masks of photos at the size of their cameras, joined with those that the capture has, and the record.

    Args:
        folder: Where they go; what was there is replaced.
        capture: The photos.
        used: Which pixels (H, W) bool are used, by the photo's name.
        record: What the record says beside the share of each photo that is ignored.
    """
    shutil.rmtree(folder, ignore_errors=True)
    photos = {}
    for frame in capture.frames:
        if frame.name not in used:
            continue
        given = load_mask(frame)
        kept = used[frame.name] if given is None else used[frame.name] & given
        write_mask(folder / mask_name(frame.name), kept)
        photos[frame.name] = {"share": float(1.0 - used[frame.name].mean())}
    write_json(folder / RECORD, {"format": FORMAT, **record, "photos": photos})


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a folder of masks, or None where it holds none that smerf wrote."""
    path = folder / RECORD
    record = read_json(path) if path.is_file() else None
    return record if isinstance(record, dict) and record.get("format") == FORMAT else None


def with_masks(capture: Capture, folder: Path) -> Capture:
    """Return a capture whose photos have the masks of a folder, where it holds any."""
    record = read_record(folder)
    if record is None:
        return capture
    frames = tuple(
        replace(frame, mask_path=folder / mask_name(frame.name)) if frame.name in record["photos"] else frame
        for frame in capture.frames
    )
    return replace(capture, frames=frames)
