"""One file of tensors with a header: how every stage keeps what it has learned.

A safetensors file whose metadata names its ``format``. It is written aside, synced and renamed; reading never
unpickles code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from smerf.engine.files import writing
from smerf.errors import InvalidDataError, SmerfError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_format", "read_tensors", "write_tensors"]


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], kind: str, header: Mapping[str, str] | None = None
) -> None:
    """Write tensors.

    Args:
        path: File; its folder is made where it is missing.
        tensors: By name; they may lie on any device and need not be contiguous.
        kind: Name and version of the format, such as ``smerf-slots-2``.
        header: More text by name.

    Raises:
        SmerfError: If the file cannot be written, as on a full disk; what was there stays.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = _storable(tensors)
    try:
        with writing(path) as aside:
            save_file(plain, aside, {**(header or {}), "format": kind})
    except SafetensorError as error:
        raise SmerfError(f"{path}: cannot be written ({error}); what was there is whole") from error


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU as safetensors takes them: contiguous, none sharing memory with another."""
    stored: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in tensors.items():
        plain = value.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        stored[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return stored


def read_tensors(
    path: Path, kind: str, expected: str, fix: str, wanted: Callable[[str], bool] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what ``write_tensors`` wrote, to the CPU.

    Args:
        path: File.
        kind: The format that it must have.
        expected: What the file should be, for errors, such as ``slots``.
        fix: What the user can do about a bad file, such as ``encode the views again``.
        wanted: Names of the tensors to read; all if not given.

    Returns:
        The tensors, and the header.

    Raises:
        UsageError: If there is no such file.
        InvalidDataError: If it is damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UsageError(f"{path}: is not there; expected {expected}; {fix}")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != kind:
                found = header.get("format", "no format of ours")
                raise InvalidDataError(f"{path}: holds {found}, not {kind}; expected {expected}; {fix}")
            names = [name for name in file.keys() if wanted is None or wanted(name)]
            return {name: file.get_tensor(name) for name in names}, header
    except (SafetensorError, OSError) as error:
        raise InvalidDataError(f"{path}: is damaged ({error}); restore the file, or {fix}") from error


def read_format(path: Path) -> str:
    """Return the format that a file names, empty if it names none.

    Raises:
        InvalidDataError: If it is not a file of tensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format", "")
    except (SafetensorError, OSError) as error:
        raise InvalidDataError(f"{path}: is damaged ({error}); restore the file") from error
