"""A teacher on disk: its weights and what rebuilds it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from smerf.engine.tensors import read_tensors, write_tensors
from smerf.errors import InvalidDataError
from smerf.fields.rays import Spacing
from smerf.kernels.hash_encoding import HashSpec
from smerf.teacher.config import FieldConfig, TeacherConfig
from smerf.teacher.general import GeneralTeacher, build_teacher, require_table_memory
from smerf.teacher.model import HashTeacher

__all__ = ["load_teacher", "save_teacher"]

_FILE = "teacher.safetensors"
_FORMAT = "smerf-teacher-1"


def save_teacher(teacher: HashTeacher | GeneralTeacher, folder: Path) -> None:
    """Write a teacher's weights and configuration to ``folder``."""
    spacing = teacher.spacing
    record = {
        "config": dataclasses.asdict(teacher.config),
        "near": spacing.near,
        "far": None if spacing.far == float("inf") else spacing.far,
        "linear": spacing.linear,
        "power": spacing.power,
        "scale": spacing.scale,
        "frames": getattr(teacher, "frames", 0),
        "exposures": getattr(teacher, "exposures", ()),
        "background": teacher.background,
    }
    write_tensors(folder / _FILE, teacher.state_dict(), _FORMAT, {"record": json.dumps(record)})


def _config(record: dict[str, Any]) -> TeacherConfig:
    fields = dict(record)
    for name in ("field", "proposal", "coarse"):
        if fields.get(name) is None:
            continue
        part = dict(fields[name])
        fields[name] = FieldConfig(**{**part, "grid": HashSpec(**part["grid"])})
    return TeacherConfig(**fields)


def load_teacher(folder: Path) -> HashTeacher | GeneralTeacher:
    """Read a teacher.

    Raises:
        UsageError: If the folder holds no finished teacher.
        InvalidDataError: If the file is damaged.
    """
    path = Path(folder) / _FILE
    tensors, header = read_tensors(path, _FORMAT, "a finished teacher", "run `smerf train`")
    try:
        record = json.loads(header["record"])
        far = float("inf") if record["far"] is None else record["far"]
        spacing = Spacing(
            record["near"], far, record["linear"], record.get("power", -1.5), record.get("scale", 2.0)
        )
        config = _config(record["config"])
        require_table_memory(config, 1)
        teacher = build_teacher(
            config, spacing, record["background"], record.get("frames", 0), record.get("exposures", ())
        )
        teacher.load_state_dict(tensors)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InvalidDataError(f"{path}: can't be read ({error}); train it again") from error
    return teacher.requires_grad_(False)
