"""Slots of a scene on disk: safetensors with the cameras of the input views, and the edits.

A file names the model that made its slots, because another decoder would render noise without any error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smerf.capture.types import Camera
from smerf.engine.tensors import read_format, read_tensors, write_tensors
from smerf.errors import InvalidDataError
from smerf.objects.cameras import from_cv, make_camera, stack_cameras, to_cv

__all__ = ["SavedSlots", "load_slots", "save_slots"]

_FORMAT = "smerf-slots-2"
_COUNTED_FROM_0 = "smerf-slots-1"
"""Its operations count slots from 0."""


@dataclass(frozen=True)
class SavedSlots:
    """Slots of one scene with the views that they were made from.

    ``slots`` (K, D) float32; ``cameras`` of the input views, of one size; ``model`` the digest of the model's
    weights; ``where`` the model's path as it was given; ``operations`` edits, in order (see
    ``smerf.objects.editing.operations``).
    """

    slots: Tensor
    cameras: tuple[Camera, ...]
    model: str
    where: str
    operations: tuple[dict[str, Any], ...] = field(default=())

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input views."""
        return self.cameras[0].intrinsics.height, self.cameras[0].intrinsics.width


def save_slots(saved: SavedSlots, path: Path) -> None:
    """Write the slots of a scene."""
    header = {
        "model": saved.model,
        "where": saved.where,
        "size": json.dumps(saved.size),
        "operations": json.dumps(saved.operations),
    }
    poses, fov_x = stack_cameras(saved.cameras)
    centre, rotation = to_cv(poses)
    tensors = {"slots": saved.slots.float(), "cam_pos": centre, "cam_R": rotation, "fov_x": fov_x}
    write_tensors(path, tensors, _FORMAT, header)


def load_slots(path: Path) -> SavedSlots:
    """Read the slots of a scene.

    Raises:
        UsageError: If there is no such file.
        InvalidDataError: If it is damaged or of another kind.
    """
    kind = _COUNTED_FROM_0 if path.is_file() and read_format(path) == _COUNTED_FROM_0 else _FORMAT
    tensors, header = read_tensors(path, kind, "slots", "smerf objects encode makes them")
    try:
        slots, centres, fov_x = tensors["slots"], tensors["cam_pos"], tensors["fov_x"]
        count = len(centres)
        if slots.ndim != 2 or not len(slots) or not count or centres.shape != (count, 3):
            raise ValueError(f"slots {tuple(slots.shape)} and cameras {tuple(centres.shape)} make no sense")
        if tensors["cam_R"].shape != (count, 3, 3) or fov_x.shape != (count,):
            raise ValueError("its cameras have wrong shapes")
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("it holds values that are not finite")
        if not bool(((fov_x > 0) & (fov_x < torch.pi)).all()):
            raise ValueError("a field of view is not between 0 and pi")
        height, width = (int(side) for side in json.loads(header["size"]))
        if height < 1 or width < 1:
            raise ValueError(f"its views have the size {width}x{height}")
        poses = from_cv(centres, tensors["cam_R"])
        cameras = tuple(make_camera(pose, angle, (height, width)) for pose, angle in zip(poses, fov_x))
        operations = tuple(json.loads(header["operations"]))
        if kind == _COUNTED_FROM_0:
            operations = tuple({**operation, "slot": operation["slot"] + 1} for operation in operations)
        return SavedSlots(slots, cameras, header["model"], header["where"], operations)
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidDataError(f"{path}: is damaged ({error}); encode the views again") from error
