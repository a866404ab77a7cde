"""Settings as frozen dataclasses: to plain values and back, with checks that name the key.

Unknown keys are errors that name the nearest valid key. A dataclass may have a class variable ``RENAMED``
(old name -> new name): an old name is refused with the new one in the message.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import reprlib
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from smerf.engine.files import write_text
from smerf.errors import InvalidDataError, UsageError

__all__ = [
    "apply_overrides",
    "from_dict",
    "load_yaml",
    "nearest",
    "parse_yaml",
    "read_yaml",
    "require",
    "save_yaml",
    "to_dict",
]

T = TypeVar("T")
_MAX_WHOLE = 2**63
"""What native code and files can hold."""


def apply_overrides(config: T, overrides: tuple[str, ...]) -> T:
    """Return a config with dotted ``key=value`` overrides; values are YAML.

    Raises:
        UsageError: If an override has no ``=``, an unknown key or a value that is not allowed.
    """
    values = to_dict(config)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise UsageError(
                f"--set {override}: has no value; write it as KEY=VALUE, for example max_side=800"
            )
        *parents, last = key.strip().replace("-", "_").split(".")
        kind, place = type(config), values
        for index, parent in enumerate([*parents, last]):
            if not isinstance(place, dict) or parent not in place:
                valid = list(place) if isinstance(place, dict) else []
                raise UsageError(f"--set {override}: {_unknown(kind, parent, valid, '')}")
            if index < len(parents):
                kind, place = _type_of(kind, parent), place[parent]
        try:
            place[last] = parse_yaml(text)
        except InvalidDataError as error:
            raise UsageError(f"--set {override}: the value is not valid YAML") from error
    try:
        return from_dict(type(config), values)
    except InvalidDataError as error:
        raise UsageError(f"--set: {error}") from error


def read_yaml(path: Path) -> Any:
    """Return the plain values of a YAML file.

    Raises:
        InvalidDataError: If it cannot be read or is not YAML; the message names the file.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDataError(f"{path}: cannot be read ({error.strerror})") from error
    except (InvalidDataError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{path}: is not valid YAML ({error})") from error


def parse_yaml(text: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        InvalidDataError: If it is not YAML, or nested without end.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise InvalidDataError(" ".join(str(error).split())) from error


def _type_of(kind: Any, name: str) -> Any:
    """Return the dataclass of a nested setting, or None."""
    if not dataclasses.is_dataclass(kind):
        return None
    hint = typing.get_type_hints(kind).get(name)
    return next((part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)), None)


def _unknown(kind: Any, key: str, valid: Any, prefix: str) -> str:
    renamed = getattr(kind, "RENAMED", {})
    if key in renamed:
        return f"{prefix}{key} is now called {prefix}{renamed[key]}"
    return f"there is no key {prefix}{key[:60]}{nearest(key, valid)}"


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
        raise InvalidDataError(f"{where or 'config'}: expected keys with values, got {reprlib.repr(values)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in fields:
            raise InvalidDataError(_unknown(cls, str(key), fields, prefix))
    arguments = {key: _convert(hints[key], value, f"{prefix}{key}") for key, value in values.items()}
    try:
        return cls(**arguments)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InvalidDataError(f"{where or 'config'}: {error}") from error


def require(holds: bool, key: str, expected: str, got: Any) -> None:
    """Check a setting, for ``__post_init__``.

    Raises:
        ValueError: If it does not hold; the message names the key, what is expected and what is given.
    """
    if not holds:
        raise ValueError(f"{key}: expected {expected}, got {reprlib.repr(got)}")


def save_yaml(path: Path, config: Any, kind: str | None = None) -> None:
    """Write a config as YAML, atomically; ``kind`` says in its first line what kind of config it is."""
    import yaml

    head = {} if kind is None else {"kind": kind}
    write_text(path, yaml.safe_dump(head | to_dict(config), sort_keys=False))


def load_yaml(cls: type[T], path: Path, kind: str | None = None) -> T:
    """Read a config that ``save_yaml`` wrote.

    Raises:
        UsageError: If it is a config of another kind.
        InvalidDataError: If the file is not such a config; the message names the file and the key.
    """
    values = read_yaml(path)
    found = values.pop("kind", None) if isinstance(values, dict) else None
    if isinstance(values, dict) and found != kind:
        raise UsageError(f"{path}: belongs to a run of kind {found or 'photos'}, not {kind or 'photos'}")
    try:
        return from_dict(cls, values)
    except InvalidDataError as error:
        raise InvalidDataError(f"{path}: {error}") from error


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
    if kind is Any or (kind not in (int, float, bool) and isinstance(kind, type) and isinstance(value, kind)):
        return value
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where)  # type: ignore[arg-type]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is Literal and (word := _word(value, arguments)) is not None:
        return word
    if kind is bool and isinstance(value, bool):
        return value
    if kind is float and (number := _number(value)) is not None:
        return number
    if kind is int and (whole := _whole(value)) is not None:
        return whole
    if kind is Path and isinstance(value, str):
        return Path(value)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) == len(value):
            return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value)))
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    expected = " | ".join(map(str, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise InvalidDataError(f"{where}: expected {expected}, got {reprlib.repr(value)}")


def _word(value: Any, words: tuple[Any, ...]) -> Any:
    """Return the one of some words that a value is: YAML reads a bare on or off as a truth value."""
    if isinstance(value, bool):
        names = ("on", "yes", "true") if value else ("off", "no", "false")
        return next((name for name in names if name in words), None)
    return value if value in words else None


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
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    if number is None or not number.is_integer() or abs(number) >= _MAX_WHOLE:
        return None
    return value if isinstance(value, int) else int(number)


def nearest(word: str, valid: Any) -> str:
    """Return the end of a message about a word that is not valid: the nearest valid one, or all."""
    close = difflib.get_close_matches(word[:60], list(valid), n=1, cutoff=0.4)
    return (
        f"; did you mean {close[0]!r}?"
        if close
        else f"; valid: {', '.join(map(str, valid))}"
        if valid
        else ""
    )
