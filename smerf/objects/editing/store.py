"""Models and slots on disk: safetensors with their configuration, and the shipped checkpoint.

A model file says everything that a reader must not guess: sizes, ray code, frame, steps and data. Slots name the
model that made them, because a decoder with another ray code or frame would draw noise without any error.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smerf.engine.settings import from_dict, to_dict
from smerf.engine.tensors import read_tensors, write_tensors
from smerf.errors import InvalidDataError
from smerf.objects.config import ObjectsConfig
from smerf.objects.model.osrt import Osrt

__all__ = [
    "SavedSlots",
    "load_model",
    "load_slots",
    "model_digest",
    "save_model",
    "save_slots",
    "shipped_model",
]

MODEL_FILE = "model.safetensors"
_MODEL_FORMAT = "smerf-objects-1"
_SLOTS_FORMAT = "smerf-slots-1"
_FRAME = {"axes": "x right, y down, z forward", "world_up": "z"}


@dataclass(frozen=True)
class SavedSlots:
    """Slots of one scene with the views that they were made from.

    ``slots`` (K, D) float32; ``cam_pos`` (V, 3), ``cam_R`` (V, 3, 3) and ``fov_x`` (V,) of the input views;
    ``size`` their height and width; ``model`` the digest of the model's weights; ``where`` the model's path as
    it was given; ``operations`` edits, in order (see ``smerf.objects.editing.editing``).
    """

    slots: Tensor
    cam_pos: Tensor
    cam_R: Tensor  # noqa: N815
    fov_x: Tensor
    size: tuple[int, int]
    model: str
    where: str
    operations: tuple[dict[str, Any], ...] = field(default=())


def save_model(model: Osrt, path: Path, record: dict[str, Any] | None = None, *, half: bool = False) -> None:
    """Write a model to one safetensors file.

    Args:
        model: Any device.
        path: File to write.
        record: JSON values about the training: steps, data, metrics, command.
        half: Store float16, half the size.
    """
    header = {
        "config": json.dumps(to_dict(model.config)),
        "coordinates": json.dumps(_FRAME | {"frame": model.config.frame}),
        "record": json.dumps(record or {}),
    }
    dtype = torch.float16 if half else torch.float32
    tensors = {name: value.to(dtype) for name, value in model.state_dict().items()}
    write_tensors(path, tensors, _MODEL_FORMAT, header)


def load_model(path: Path, device: str = "cpu") -> tuple[Osrt, dict[str, Any]]:
    """Read a model in float32, ready to use, and its training record.

    Args:
        path: A model file, or a folder with ``model.safetensors``.
        device: Where it goes.

    Raises:
        UsageError: If there is no model.
        InvalidDataError: If the file is damaged or of another kind.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    tensors, header = read_tensors(
        path, _MODEL_FORMAT, "a finished object model", "smerf objects train makes one"
    )
    try:
        config = from_dict(ObjectsConfig, json.loads(header["config"]))
        record = json.loads(header["record"])
        with torch.device("meta"):
            model = Osrt(config)
        model.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    except (KeyError, ValueError, RuntimeError, InvalidDataError) as error:
        raise InvalidDataError(
            f"{path}: does not fit its own configuration ({error}); restore the file"
        ) from error
    return model.eval().requires_grad_(False).to(device), record


def shipped_model() -> Path:
    """Return the file of the small model that comes with the package."""
    try:
        data = Path(str(resources.files("smerf.data")))
    except ModuleNotFoundError:
        # A checkout that is not installed keeps it beside the package.
        data = Path(__file__).parents[2] / "data"
    return data / "objects" / "cpu-tiny" / MODEL_FILE


def model_digest(model: Osrt) -> str:
    """Return a name for the weights of a model: 16 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(to_dict(model.config), sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_slots(saved: SavedSlots, path: Path) -> None:
    """Write the slots of a scene."""
    header = {
        "model": saved.model,
        "where": saved.where,
        "size": json.dumps(saved.size),
        "operations": json.dumps(saved.operations),
    }
    names = ("slots", "cam_pos", "cam_R", "fov_x")
    write_tensors(path, {name: getattr(saved, name).float() for name in names}, _SLOTS_FORMAT, header)


def load_slots(path: Path) -> SavedSlots:
    """Read the slots of a scene.

    Raises:
        UsageError: If there is no such file.
        InvalidDataError: If it is damaged or of another kind.
    """
    tensors, header = read_tensors(path, _SLOTS_FORMAT, "slots", "smerf objects encode makes them")
    try:
        slots, views = tensors["slots"], tensors["cam_pos"]
        count = len(views)
        if slots.ndim != 2 or not len(slots) or not count or views.shape != (count, 3):
            raise ValueError(f"slots {tuple(slots.shape)} and cameras {tuple(views.shape)} make no sense")
        if tensors["cam_R"].shape != (count, 3, 3) or tensors["fov_x"].shape != (count,):
            raise ValueError("its cameras have wrong shapes")
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("it holds values that are not finite")
        height, width = json.loads(header["size"])
        operations = tuple(json.loads(header["operations"]))
        return SavedSlots(
            slots, views, tensors["cam_R"], tensors["fov_x"], (int(height), int(width)),
            header["model"], header["where"], operations,
        )  # fmt: skip
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidDataError(f"{path}: is damaged ({error}); encode the views again") from error
