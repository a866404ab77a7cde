"""The config of a whole run: one frozen dataclass a stage, presets, overrides, and YAML that reads back.

The stages define their own dataclasses and presets; this module only puts them together, so it knows no field
by name. Unknown keys are errors that name the nearest valid key.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from smerf.errors import InvalidDataError, UsageError

__all__ = [
    "PRESET_NAMES",
    "RunConfig",
    "apply_overrides",
    "from_dict",
    "load_config",
    "make_config",
    "save_config",
    "to_dict",
]

_MAX_SIDE = {"tiny": 160, "preview": 640, "standard": 1600, "paper": 1600}
PRESET_NAMES = tuple(_MAX_SIDE)
"""``tiny`` is for tests; a stage may leave it out."""
_STAGES = {
    "teacher": "smerf.teacher.config",
    "student": "smerf.student.config",
    "bake": "smerf.baking.config",
}
_CLASSES = {"teacher": "TeacherConfig", "student": "StudentConfig", "bake": "BakeConfig"}
T = TypeVar("T")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes, apart from the photos."""

    preset: str
    """The preset that the rest began as."""
    max_side: int
    """Photos are scaled down until their longest side has at most this many pixels."""
    teacher: Any
    """``smerf.teacher.config.TeacherConfig``."""
    student: Any
    """``smerf.student.config.StudentConfig``."""
    bake: Any
    """``smerf.baking.config.BakeConfig``."""


def make_config(
    preset: str = "preview", overrides: tuple[str, ...] = (), seed: int | None = None
) -> RunConfig:
    """Make the config of a preset.

    Args:
        preset: One of ``PRESET_NAMES``.
        overrides: Dotted ``key=value`` pairs, for example ``teacher.lr=1e-3``.
        seed: The seed of every stage that has one.

    Raises:
        UsageError: If the preset, a key or a value is not valid.
    """
    presets = {stage: _stage_module(stage).PRESETS for stage in _STAGES}
    names = [name for name in PRESET_NAMES if all(name in part for part in presets.values())]
    if preset not in names:
        raise UsageError(f"--preset {preset}: is not one of {', '.join(names)}{_nearest(preset, names)}")
    config = RunConfig(
        preset=preset,
        max_side=_MAX_SIDE[preset],
        **{stage: part[preset] for stage, part in presets.items()},
    )
    if seed is not None:
        for stage in _STAGES:
            part = getattr(config, stage)
            if "seed" in {field.name for field in dataclasses.fields(part)}:
                config = dataclasses.replace(config, **{stage: dataclasses.replace(part, seed=seed)})
    return apply_overrides(config, overrides)


def apply_overrides(config: RunConfig, overrides: tuple[str, ...]) -> RunConfig:
    """Return ``config`` with dotted ``key=value`` overrides; values are YAML.

    Raises:
        UsageError: If an override has no ``=``, an unknown key or a value of the wrong type.
    """
    import yaml

    values = to_dict(config)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise UsageError(
                f"--set {override}: has no value; write it as KEY=VALUE, for example max_side=800"
            )
        *parents, last = key.strip().replace("-", "_").split(".")
        place = values
        for index, parent in enumerate([*parents, last]):
            if not isinstance(place, dict) or parent not in place:
                valid = list(place) if isinstance(place, dict) else []
                raise UsageError(f"--set {override}: there is no key {parent!r}{_nearest(parent, valid)}")
            if index < len(parents):
                place = place[parent]
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {override}: the value is not valid YAML") from error
    try:
        return _run_config(values)
    except InvalidDataError as error:
        raise UsageError(f"--set: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config into plain dictionaries, lists and scalars."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_dict(cls: type[T], values: dict[str, Any], where: str = "") -> T:
    """Make a dataclass from plain values, nested dataclasses included. Keys left out keep their defaults.

    Args:
        cls: A dataclass.
        values: What ``to_dict`` returns, or a part of it.
        where: Dotted prefix for the messages.

    Raises:
        InvalidDataError: If a key is unknown or missing, or a value has the wrong type; the message names it.
    """
    if not isinstance(values, dict):
        raise InvalidDataError(f"{where or 'config'}: expected keys with values, got {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in fields:
            raise InvalidDataError(f"unknown key {prefix}{key}{_nearest(str(key), fields)}")
    arguments = {key: _convert(hints[key], value, f"{prefix}{key}") for key, value in values.items()}
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise InvalidDataError(f"{where or 'config'}: {error}") from error


def save_config(path: Path, config: RunConfig) -> None:
    """Write a config as YAML, atomically."""
    import yaml

    from smerf.runs.files import write_text

    write_text(path, yaml.safe_dump(to_dict(config), sort_keys=False))


def load_config(path: Path) -> RunConfig:
    """Read a config that ``save_config`` wrote.

    Raises:
        InvalidDataError: If the file is not such a config; the message names the file and the key.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDataError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{path}: is not valid YAML ({error})") from error
    try:
        return _run_config(values)
    except InvalidDataError as error:
        raise InvalidDataError(f"{path}: {error}") from error


def _run_config(values: Any) -> RunConfig:
    if not isinstance(values, dict):
        raise InvalidDataError("expected keys with values")
    values = dict(values)
    for stage in _STAGES:
        if stage in values:
            values[stage] = from_dict(getattr(_stage_module(stage), _CLASSES[stage]), values[stage], stage)
    return from_dict(RunConfig, values)


def _stage_module(stage: str) -> types.ModuleType:
    import importlib

    return importlib.import_module(_STAGES[stage])


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _convert(kind: Any, value: Any, where: str) -> Any:
    """Check ``value`` against a type annotation; lists become tuples and integers floats on the way."""
    if kind is Any or (isinstance(kind, type) and isinstance(value, kind) and type(value) is not bool):
        return value
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where)  # type: ignore[arg-type]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is Literal and value in arguments:
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is float and (number := _number(value)) is not None:
        return number
    if (
        kind is int
        and not isinstance(value, bool)
        and (number := _number(value)) is not None
        and number.is_integer()
    ):
        return int(number)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) == len(value):
            return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value)))
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    expected = " | ".join(map(str, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise InvalidDataError(f"{where}: expected {expected}, got {value!r}")


def _convert_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    errors = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return _convert(kind, value, where)
            except InvalidDataError as error:
                errors.append(error)
    raise errors[0]


def _number(value: Any) -> float | None:
    # YAML 1.1 reads 1e-3, which has no point, as text.
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _nearest(word: str, valid: Any) -> str:
    close = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.4)
    return (
        f"; did you mean {close[0]!r}?"
        if close
        else f"; valid: {', '.join(map(str, valid))}"
        if valid
        else ""
    )
