"""Edits of a scene of slots: a list of operations, kept beside the slots that they change.

An operation is a dictionary with ``op`` and its arguments:

    {"op": "remove", "slot": 2}
    {"op": "move", "slot": 1, "translate": [x, y, z], "turn": degrees about the vertical through ``centre``,
     "centre": [x, y, z]}
    {"op": "copy", "from": "other.safetensors", "slot": 3}

``slot`` counts the slots of the file from 1; a copied slot takes the next number, in the order of the operations. The
operations are applied when slots are rendered, so every edit can be taken back.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smerf.errors import InvalidDataError, UsageError
from smerf.objects.editing.slots import SavedSlots, load_slots

__all__ = ["EditedScene", "apply_operations", "check_operation", "rigid_transform"]

_KEYS = {
    "remove": ({"slot"}, set()),
    "move": ({"slot"}, {"translate", "turn", "centre"}),
    "copy": ({"from", "slot"}, set()),
}


@dataclass(frozen=True)
class EditedScene:
    """Slots after their edits.

    ``slots`` (K, D); ``numbers`` the number of each in the file and its copies, from 1; ``group`` (K,) int64 the ray
    group of each, and ``motions`` (G, 4, 4) the rigid motion of each group, the first of which is the identity.
    ``removed`` (J, D) are the slots that were there before.
    """

    slots: Tensor
    numbers: tuple[int, ...]
    group: Tensor
    motions: Tensor
    removed: Tensor

    @property
    def is_moved(self) -> bool:
        """Whether any slot looks along rays of its own."""
        return len(self.motions) > 1

    def move_rays(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rays (G, R, 3) of all groups for the rays (R, 3) of a view.

        An object moved by M looks along a ray as the object at rest does along the ray moved by the inverse of M.
        """
        inverse = torch.linalg.inv(self.motions.double()).to(origins)
        moved = torch.einsum("gij,rj->gri", inverse[:, :3, :3], origins) + inverse[:, None, :3, 3]
        return moved, torch.einsum("gij,rj->gri", inverse[:, :3, :3], directions)


def rigid_transform(
    translate: Any = (0.0, 0.0, 0.0), turn: float = 0.0, centre: Any = (0.0, 0.0, 0.0)
) -> Tensor:
    """Return the motion (4, 4) that rotates by ``turn`` degrees about the vertical through ``centre``, then shifts."""
    angle = math.radians(turn)
    motion = torch.eye(4, dtype=torch.float64)
    c, s = math.cos(angle), math.sin(angle)
    motion[:2, :2] = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    pivot = torch.tensor(centre, dtype=torch.float64)
    motion[:3, 3] = pivot - motion[:3, :3] @ pivot + torch.tensor(translate, dtype=torch.float64)
    return motion


def check_operation(operation: Any, count: int) -> None:
    """Check one operation on a scene that holds ``count`` slots by now.

    Raises:
        UsageError: If it is unknown, lacks an argument, or names a slot that is not there.
    """
    if not isinstance(operation, dict) or operation.get("op") not in _KEYS:
        raise UsageError(f"operation {operation!r}: is not one of {', '.join(_KEYS)}")
    needed, optional = _KEYS[operation["op"]]
    keys = set(operation) - {"op"}
    if not needed <= keys or keys - needed - optional:
        raise UsageError(
            f"operation {operation!r}: {operation['op']} takes {', '.join(sorted(needed | optional))}, "
            f"of which {', '.join(sorted(needed))} must be given"
        )
    slot = operation["slot"]
    if not isinstance(slot, int) or isinstance(slot, bool) or slot < 1:
        raise UsageError(f"operation {operation!r}: slot is a number from 1")
    if operation["op"] != "copy" and slot > count:
        raise UsageError(f"operation {operation!r}: there is no slot {slot}, the last is {count}")
    for name in ("translate", "centre"):
        value = operation.get(name, [0.0, 0.0, 0.0])
        if not (isinstance(value, (list, tuple)) and len(value) == 3 and all(_is_number(x) for x in value)):
            raise UsageError(f"operation {operation!r}: {name} is three numbers")
    if not _is_number(operation.get("turn", 0.0)):
        raise UsageError(f"operation {operation!r}: turn is a number of degrees")


def apply_operations(saved: SavedSlots, folder: Path) -> EditedScene:
    """Apply the operations of a scene in their order.

    Args:
        saved: Slots with operations.
        folder: Where relative names of other slot files begin.

    Raises:
        UsageError: If an operation makes no sense, or nothing is left.
        InvalidDataError: If copied slots come from another model.
    """
    slots = list(saved.slots)
    motions = [torch.eye(4, dtype=torch.float64) for _ in slots]
    removed: set[int] = set()
    for operation in saved.operations:
        check_operation(operation, len(slots))
        number = operation["slot"]
        if operation["op"] == "copy":
            slots.append(_foreign_slot(saved, operation, folder))
            motions.append(torch.eye(4, dtype=torch.float64))
        elif number in removed:
            raise UsageError(f"operation {operation!r}: slot {number} has been removed before")
        elif operation["op"] == "remove":
            removed.add(number)
        else:
            arguments = {key: operation[key] for key in ("translate", "turn", "centre") if key in operation}
            motions[number - 1] = rigid_transform(**arguments) @ motions[number - 1]
    kept = [number for number in range(1, len(slots) + 1) if number not in removed]
    if not kept:
        raise UsageError("operations: they remove every slot; at least one must stay")
    group, unique = _group_motions([motions[number - 1] for number in kept])
    gone = [slots[number - 1] for number in sorted(removed)]
    return EditedScene(
        torch.stack([slots[number - 1] for number in kept]),
        tuple(kept),
        group,
        unique,
        torch.stack(gone) if gone else saved.slots[:0],
    )


def _foreign_slot(saved: SavedSlots, operation: dict[str, Any], folder: Path) -> Tensor:
    """Read the slot that a copy names."""
    # The folder of the output need not exist yet.
    place = Path(os.path.normpath(folder / operation["from"]))
    other = load_slots(place)
    if other.model != saved.model:
        raise InvalidDataError(f"{place}: its slots come from another model; encode both with the same")
    if operation["slot"] > len(other.slots):
        raise UsageError(f"operation {operation!r}: there is no slot {operation['slot']}")
    return other.slots[operation["slot"] - 1]


def _group_motions(motions: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the group (K,) of each motion, and the different motions (G, 4, 4), the identity first."""
    unique = [torch.eye(4, dtype=torch.float64)]
    group = []
    for motion in motions:
        same = [i for i, known in enumerate(unique) if torch.equal(known, motion)]
        if not same:
            unique.append(motion)
        group.append(same[0] if same else len(unique) - 1)
    return torch.tensor(group), torch.stack(unique)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
