"""Model files: weights as safetensors with everything that a reader must not guess, and the shipped model.

The header holds sizes, ray code, frame and the record of the training: a decoder with another ray code or frame
would render noise without any error.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from smerf.engine.files import data_folder
from smerf.engine.settings import from_dict, to_dict
from smerf.engine.tensors import read_tensors, write_tensors
from smerf.errors import InvalidDataError
from smerf.objects.config import ObjectsConfig, plain_values
from smerf.objects.model.osrt import Osrt

__all__ = ["MODEL_FILE", "load_model", "model_digest", "save_model", "shipped_model"]

MODEL_FILE = "model.safetensors"
_FORMAT = "smerf-objects-1"
_SHIPPED = "cpu-easy"
# Those of the published model: the frame of ``frame=reference``.
_AXES = {"axes": "x right, y down, z forward", "world_up": "z"}


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
        "coordinates": json.dumps(_AXES | {"frame": model.config.frame}),
        "record": json.dumps(record or {}),
    }
    dtype = torch.float16 if half else torch.float32
    tensors = {name: value.to(dtype) for name, value in model.state_dict().items()}
    write_tensors(path, tensors, _FORMAT, header)


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
    tensors, header = read_tensors(path, _FORMAT, "a finished object model", "smerf objects train makes one")
    try:
        config = from_dict(ObjectsConfig, json.loads(header["config"]))
        record = json.loads(header["record"])
        with torch.device("meta"):
            model = Osrt(config)
        model.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    except (KeyError, ValueError, RuntimeError, InvalidDataError) as error:
        raise InvalidDataError(
            f"{path}: does not match its own configuration ({error}); restore the file"
        ) from error
    return model.eval().requires_grad_(False).to(device), record


def shipped_model() -> Path:
    """Return the file of the small model that comes with the package."""
    return data_folder() / "objects" / _SHIPPED / MODEL_FILE


def model_digest(model: Osrt) -> str:
    """Return a name for the weights of a model: 16 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(plain_values(model.config), sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
