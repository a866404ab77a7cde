"""A teacher on disk: its weights and what rebuilds it.

Format 2 is written. Format 1, in which proposal fields and density cache had other names and a short form of training
had settings of its own, is read too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smerf.engine.settings import from_dict, to_dict
from smerf.engine.tensors import read_format, read_tensors, write_tensors
from smerf.errors import InvalidDataError
from smerf.fields.rays import Spacing
from smerf.teacher.config import TeacherConfig
from smerf.teacher.foreign import is_foreign, load_foreign
from smerf.teacher.model import FieldTeacher, Teacher, require_table_memory

__all__ = ["load_field_teacher", "load_teacher", "save_teacher", "upgraded_tensors"]

_FILE = "teacher.safetensors"
_FORMAT, _FORMAT_1 = "smerf-teacher-2", "smerf-teacher-1"
# What format 1's ``multisamples = 0`` stood for.
_SHORT_FORM = {"multisamples": 1, "contraction": "cube", "interlevel": "bound"}
_NAMES_OF_1 = {"cache": "sampler.cache", "proposal": "sampler.fields.0", "proposals": "sampler.fields"}


def save_teacher(teacher: FieldTeacher, folder: Path) -> None:
    """Write a teacher's weights and configuration to ``folder``."""
    spacing = teacher.spacing
    record = {
        "config": to_dict(teacher.config),
        "near": spacing.near,
        "far": None if spacing.far == float("inf") else spacing.far,
        "linear": spacing.linear,
        "power": spacing.power,
        "scale": spacing.scale,
        "frames": teacher.frames,
        "exposures": teacher.exposures,
        "gains": None if teacher.gains is None else teacher.gains.tolist(),
        "background": teacher.background,
    }
    write_tensors(folder / _FILE, teacher.state_dict(), _FORMAT, {"record": json.dumps(record)})


def _upgraded_config(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of format 1 under today's names."""
    result = {TeacherConfig.RENAMED.get(name, name): value for name, value in values.items()}
    result["scene_scale"] = result["scene_scale"] or 1.0
    return result if result.get("multisamples") else {**result, **_SHORT_FORM}


def upgraded_tensors(tensors: Mapping[str, Tensor], model: FieldTeacher) -> dict[str, Tensor]:
    """Return the weights of a ``model`` of any format under today's names."""
    result = {}
    for name, value in tensors.items():
        first, dot, rest = name.partition(".")
        if first == "proposal":
            rest = rest.replace("network", "density_network")
        result[_NAMES_OF_1.get(first, first) + dot + rest] = value
    # The short form had none, and needs none.
    wanted = model.state_dict()
    return {name: wanted[name] for name in wanted if name.endswith("level_scales")} | result


def load_teacher(folder: Path) -> Teacher:
    """Read a teacher, or the file that a folder names as one (``smerf.teacher.foreign``).

    Raises:
        UsageError: If the folder holds no finished teacher.
        InvalidDataError: If the file is damaged.
    """
    return load_foreign(Path(folder)) if is_foreign(Path(folder)) else load_field_teacher(Path(folder))


def load_field_teacher(folder: Path) -> FieldTeacher:
    """Read a teacher that was trained; raises as ``load_teacher`` does."""
    path = Path(folder) / _FILE
    is_old = path.is_file() and read_format(path) == _FORMAT_1
    kind = _FORMAT_1 if is_old else _FORMAT
    tensors, header = read_tensors(path, kind, "a finished teacher", "run `smerf train`")
    try:
        record = json.loads(header["record"])
        far = float("inf") if record["far"] is None else record["far"]
        spacing = Spacing(
            record["near"], far, record["linear"], record.get("power", -1.5), record.get("scale", 2.0)
        )
        values = _upgraded_config(record["config"]) if is_old else record["config"]
        config = from_dict(TeacherConfig, values)
        require_table_memory(config, 1)
        teacher = FieldTeacher(
            config, spacing, record["background"], record.get("frames", 0), record.get("exposures", ())
        )
        teacher.load_state_dict(upgraded_tensors(tensors, teacher) if is_old else tensors)
        if record.get("gains"):
            teacher.gains = torch.tensor(record["gains"], dtype=torch.float32)
    except (ValueError, KeyError, TypeError, RuntimeError, InvalidDataError) as error:
        raise InvalidDataError(f"{path}: can't be read ({error}); train it again") from error
    return teacher.requires_grad_(False)
