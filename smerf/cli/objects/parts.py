"""What the commands of ``smerf objects`` share: finding a model, and loading slots with theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from smerf.errors import UsageError

if TYPE_CHECKING:
    from smerf.objects.editing.store import SavedSlots
    from smerf.objects.model.osrt import Osrt
    from smerf.scene.slots import SlotScene

__all__ = ["SHIPPED", "find_model", "load_scene_of_slots", "load_with_model", "refuse_existing"]

SHIPPED = "shipped"
"""What slots call the model that comes with the package."""


def find_model(path: Path | None) -> Path:
    """Return the model file that a path means: a file, a run folder, or, for ``None``, the shipped model.

    Raises:
        UsageError: If there is none.
    """
    from smerf.objects.editing.store import MODEL_FILE, shipped_model

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
    saved, loaded, _ = _load(slots, model, device)
    return saved, loaded


def load_scene_of_slots(slots: Path, model: Path | None, arc: float | None) -> SlotScene:
    """Read slots for the viewers.

    Args:
        slots: File that encode or edit wrote.
        model: The model, where it is not where the slots say.
        arc: Degrees from the x axis within which cameras may stand; what the training's record says if not given.

    Raises:
        UsageError: If a file is not there, or the model's decoder is one that the viewers do not draw.
        InvalidDataError: If a file is damaged.
    """
    from smerf.objects.editing.pack import pack_scene

    saved, loaded, record = _load(slots, model, "cpu")
    if arc is None:
        seen = record.get("data", {}).get("recipe", {}).get("azimuth", 180.0)
        arc = seen if seen < 180.0 else None
    elif not 0.0 < arc <= 180.0:
        raise UsageError(f"--arc {arc:g}: must lie between 0 and 180 degrees")
    return pack_scene(loaded, saved, slots.parent, arc)


def _load(slots: Path, model: Path | None, device: str) -> tuple[SavedSlots, Osrt, dict[str, Any]]:
    from smerf.objects.editing.store import load_model, load_slots

    saved = load_slots(slots)
    if model is None and saved.where != SHIPPED:
        model = Path(saved.where)
        if not model.exists():
            raise UsageError(
                f"{saved.where}: the model of these slots is not there; say where it is with --model"
            )
    return saved, *load_model(find_model(model), device)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise UsageError if the file ``path`` exists and the user did not allow replacing it."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; give a file with -o")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: is there already; give another file with -o, or --overwrite")
