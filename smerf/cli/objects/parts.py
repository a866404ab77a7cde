"""What the commands of ``smerf objects`` share: finding a model, and loading slots with theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from smerf.errors import UsageError

if TYPE_CHECKING:
    from smerf.objects.model import Osrt
    from smerf.objects.store import SavedSlots

__all__ = ["SHIPPED", "find_model", "load_with_model", "refuse_existing"]

SHIPPED = "shipped"
"""What slots call the model that comes with the package."""


def find_model(path: Path | None) -> Path:
    """Return the model file that a path means: a file, a run folder, or, for ``None``, the shipped model.

    Raises:
        UsageError: If there is none.
    """
    from smerf.objects.store import MODEL_FILE, shipped_model

    if path is None:
        return shipped_model()
    for candidate in (path, path / MODEL_FILE, path / "objects" / MODEL_FILE):
        if candidate.is_file():
            return candidate
    raise UsageError(f"{path}: holds no finished object model; smerf objects train makes one")


def load_with_model(slots: Path, model: Path | None, device: str) -> tuple[SavedSlots, Osrt]:
    """Read slots and the model that made them: the given one, or the one that the slots name.

    Raises:
        UsageError: If either is not there.
        InvalidDataError: If either is damaged.
    """
    from smerf.objects.store import load_model, load_slots

    saved = load_slots(slots)
    if model is None and saved.where != SHIPPED:
        model = Path(saved.where)
        if not model.exists():
            raise UsageError(
                f"{saved.where}: the model of these slots is not there; say where it is with --model"
            )
    return saved, load_model(find_model(model), device)[0]


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise UsageError if the file ``path`` exists and the user did not allow replacing it."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; give a file with -o")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: is there already; give another file with -o, or --overwrite")
