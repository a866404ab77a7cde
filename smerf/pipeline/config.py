"""The config of a whole run: one frozen dataclass a stage, presets, and ``config.yaml``, which says what ran."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from smerf.baking.config import PRESETS as BAKE_PRESETS
from smerf.baking.config import BakeConfig
from smerf.engine.files import write_text
from smerf.engine.folder import RunFolder, flatten
from smerf.engine.settings import apply_overrides, from_dict, nearest, read_yaml, to_dict
from smerf.errors import InvalidDataError, UsageError
from smerf.export.about import About
from smerf.student.config import PRESETS as STUDENT_PRESETS
from smerf.student.config import StudentConfig
from smerf.teacher.config import PRESETS as TEACHER_PRESETS
from smerf.teacher.config import TeacherConfig

__all__ = [
    "PRESET_NAMES",
    "SECTIONS",
    "RunConfig",
    "load_config",
    "make_config",
    "part",
    "with_seed",
    "write_config",
]

_MAX_SIDE = {"tiny": 160, "preview": 640, "standard": 1600, "paper": 1600}
PRESET_NAMES = tuple(_MAX_SIDE)
"""``tiny`` is for tests."""
SECTIONS = {
    "teacher": ("preset", "max_side", "minutes", "teacher"),
    "student": ("student",),
    "baked": ("bake",),
    "site": ("page",),
}
"""The settings that decide each stage's result."""


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
    minutes: float | None = None
    """Time granted to the whole run, from which the sizes and the minutes of the stages were chosen."""
    page: About = field(default_factory=About)
    """What visitors of the page read."""

    def __post_init__(self) -> None:
        if self.preset not in PRESET_NAMES:
            raise ValueError(f"preset: expected one of {', '.join(PRESET_NAMES)}, got {self.preset}")
        if not 16 <= self.max_side <= 65536:
            raise ValueError(f"max_side: expected 16 to 65536 pixels, got {self.max_side}")


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
    return apply_overrides(with_seed(config, seed), overrides)


def with_seed(config: RunConfig, seed: int | None) -> RunConfig:
    """Return the config with the seed of every stage that has one; as it is without a seed."""
    if seed is None:
        return config
    for stage in ("teacher", "student", "bake"):
        part = getattr(config, stage)
        if hasattr(part, "seed"):
            config = dataclasses.replace(config, **{stage: dataclasses.replace(part, seed=seed)})
    return config


def write_config(run: RunFolder, asked: RunConfig) -> None:
    """Write ``config.yaml``: for every finished stage the settings that it ran with, for the others those asked for.

    What a stage chose for itself stands at the end, under ``automatic``, with the value that was asked for.
    """
    import yaml

    ran, wished = _stored(run) if run.exists() else ({}, {})
    for stage in SECTIONS:
        if run.stage(stage) is None:
            plain = part(asked, stage)
            begun = run.started(stage).get("settings") or {}
            wished |= plain
            ran |= begun["ran"] if begun.get("asked") == plain else plain
    order = [field.name for field in dataclasses.fields(RunConfig)]
    document: dict[str, Any] = {key: ran[key] for key in order if key in ran}
    before, after = flatten(document), flatten(wished)
    automatic = {key: after[key] for key in before if key in after and after[key] != before[key]}
    if automatic:
        document["automatic"] = automatic
    text = yaml.safe_dump(document, sort_keys=False)
    if not run.exists() or run.config.read_text(encoding="utf-8") != text:
        write_text(run.config, text)


def part(config: RunConfig, stage: str) -> dict[str, Any]:
    """Return the settings that decide a stage's result, as JSON values."""
    return {key: value for key, value in to_dict(config).items() if key in SECTIONS[stage]}


def load_config(run: RunFolder, *, asked: bool = False) -> RunConfig:
    """Return the config that a run's results were made with.

    Args:
        run: An existing run.
        asked: Return what the user asked for, where a stage chose another value.

    Raises:
        InvalidDataError: If ``config.yaml`` is not such a config; the message names the file and the key.
    """
    ran, wished = _stored(run)
    try:
        return from_dict(RunConfig, wished if asked else ran)
    except InvalidDataError as error:
        raise InvalidDataError(
            f"{run.config}: {error}; a run of another version of smerf is begun again in another folder (-o)"
        ) from error


def _stored(run: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what ran and what was asked for, as plain values.

    The records of finished stages come before the file, which a process that was killed may not have reached.
    """
    ran = read_yaml(run.config)
    if isinstance(ran, dict) and "kind" in ran:
        raise UsageError(f"{run.path}: holds a run of {ran['kind']}; give the folder of a run of photos")
    if not isinstance(ran, dict) or not isinstance(automatic := ran.pop("automatic", {}), dict):
        raise InvalidDataError(f"{run.config}: expected keys with values")
    wished = copy.deepcopy(ran)
    for key, value in automatic.items():
        *parents, last = str(key).split(".")
        place: Any = wished
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise InvalidDataError(f"{run.config}: automatic names {key}, which is no key")
        place[last] = value
    for name in SECTIONS:
        done = run.stage(name)
        if done is not None and done.settings is not None:
            ran |= done.settings["ran"]
            wished |= done.settings["asked"]
    return ran, wished
