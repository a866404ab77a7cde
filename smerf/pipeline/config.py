"""The config of a whole run: one frozen dataclass a stage, presets, and YAML that reads back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smerf.baking.config import PRESETS as BAKE_PRESETS
from smerf.baking.config import BakeConfig
from smerf.engine.settings import apply_overrides, from_dict, nearest, to_dict
from smerf.errors import InvalidDataError, UsageError
from smerf.student.config import PRESETS as STUDENT_PRESETS
from smerf.student.config import StudentConfig
from smerf.teacher.config import PRESETS as TEACHER_PRESETS
from smerf.teacher.config import TeacherConfig

__all__ = ["PRESET_NAMES", "RunConfig", "load_config", "make_config", "save_config"]

_MAX_SIDE = {"tiny": 160, "preview": 640, "standard": 1600, "paper": 1600}
PRESET_NAMES = tuple(_MAX_SIDE)
"""``tiny`` is for tests."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes, apart from the photos."""

    preset: str
    """The preset that the rest began as."""
    max_side: int
    """Photos are scaled down until their longest side has at most this many pixels."""
    teacher: TeacherConfig
    """The teacher and its training."""
    student: StudentConfig
    """The student and its distillation."""
    bake: BakeConfig
    """Baking."""


def make_config(
    preset: str = "preview", overrides: tuple[str, ...] = (), seed: int | None = None
) -> RunConfig:
    """Make the config of a preset.

    Args:
        preset: One of ``PRESET_NAMES``.
        overrides: Dotted ``key=value`` pairs, for example ``teacher.table_lr=1e-3``.
        seed: The seed of every stage that has one.

    Raises:
        UsageError: If the preset, a key or a value is not valid.
    """
    if preset not in PRESET_NAMES:
        raise UsageError(
            f"--preset {preset}: is not one of {', '.join(PRESET_NAMES)}{nearest(preset, PRESET_NAMES)}"
        )
    config = RunConfig(
        preset,
        _MAX_SIDE[preset],
        TEACHER_PRESETS[preset],
        STUDENT_PRESETS[preset],
        BAKE_PRESETS[preset],
    )
    if seed is not None:
        for stage in ("teacher", "student", "bake"):
            part = getattr(config, stage)
            if hasattr(part, "seed"):
                config = dataclasses.replace(config, **{stage: dataclasses.replace(part, seed=seed)})
    return apply_overrides(config, overrides)


def save_config(path: Path, config: RunConfig) -> None:
    """Write a config as YAML, atomically."""
    import yaml

    from smerf.engine.files import write_text

    write_text(path, yaml.safe_dump(to_dict(config), sort_keys=False))


def load_config(path: Path) -> RunConfig:
    """Read a config that ``save_config`` wrote.

    Raises:
        InvalidDataError: If the file is not such a config; the message names the file and the key.
    """
    import yaml

    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDataError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise InvalidDataError(f"{path}: is not valid YAML ({error})") from error
    try:
        return from_dict(RunConfig, values)
    except InvalidDataError as error:
        raise InvalidDataError(f"{path}: {error}") from error
