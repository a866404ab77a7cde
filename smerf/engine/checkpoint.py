"""Checkpoints that survive being killed at any moment and never run code when they are loaded.

One checkpoint is one safetensors file, ``FOLDER/checkpoints/step_000030000.safetensors``: the tensors, and
the rest of the state as JSON in its header. It is written under another name, synced and renamed, so a name
without the temporary prefix always belongs to a complete file. ``latest`` names the newest one for people and
other tools.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smerf.engine.files import TEMPORARY_PREFIX, write_text
from smerf.engine.tensors import write_tensors
from smerf.errors import InvalidDataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["KEEP", "latest_step", "load_latest", "save_checkpoint"]

KEEP = 2
"""How many checkpoints stay: the newest, and one to fall back to."""

_FORMAT = "smerf-checkpoint"
_VERSION = 1
_NAME = re.compile(r"step_(\d{9,})\.safetensors")
_log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Write a checkpoint of ``step`` and drop all but the newest ``KEEP``.

    Args:
        folder: The stage's folder, for example ``RUN/teacher``.
        step: Steps done so far, not negative. Saving a step again replaces it.
        tensors: Any shapes, dtypes and devices; random generator states (uint8) included.
        state: Everything else, as JSON values.

    Returns:
        The file written.

    Raises:
        TypeError: If ``state`` is not made of JSON values.
        SmerfError: If it cannot be written, as on a full disk; the checkpoints before it stay.
    """
    path = folder / "checkpoints" / f"step_{step:09d}.safetensors"
    for leftover in path.parent.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)
    header = {"version": str(_VERSION), "step": str(step), "state": json.dumps(state)}
    write_tensors(path, tensors, _FORMAT, header)
    write_text(path.parent / "latest", path.name + "\n")
    for _, old in _saved(folder)[KEEP:]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path, device: str = "cpu") -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """Load the newest readable checkpoint of a stage.

    Args:
        folder: The stage's folder, as given to ``save_checkpoint``.
        device: Where the tensors go.

    Returns:
        Step, tensors and state; ``None`` if there is no checkpoint. A damaged file is passed over with a
        warning.

    Raises:
        InvalidDataError: If there are checkpoints and none can be read.
    """
    saved = _saved(folder)
    for step, path in saved:
        try:
            tensors, state = _load(path, device)
        except InvalidDataError as error:
            _log.warning("%s; falling back to the checkpoint before it", error)
            continue
        return step, tensors, state
    if saved:
        raise InvalidDataError(
            f"{folder / 'checkpoints'}: no checkpoint can be read; delete the folder to start the stage again"
        )
    return None


def latest_step(folder: Path) -> int | None:
    """Return the step of the newest checkpoint without reading it, or ``None``."""
    saved = _saved(folder)
    return saved[0][0] if saved else None


def _saved(folder: Path) -> list[tuple[int, Path]]:
    """List complete checkpoints, newest first."""
    checkpoints = folder / "checkpoints"
    if not checkpoints.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in checkpoints.iterdir())
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def _load(path: Path, device: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=device) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise InvalidDataError(f"{path}: is not a smerf checkpoint")
            if metadata.get("version") != str(_VERSION):
                raise InvalidDataError(
                    f"{path}: has checkpoint version {metadata.get('version')}, not {_VERSION}"
                )
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata["state"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InvalidDataError(f"{path}: is damaged ({error})") from error
