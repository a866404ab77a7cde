"""Scenes of slots: encoding, files, edits, rendering, and packing for the viewers."""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "SavedSlots": "smerf.objects.editing.slots",
    "load_slots": "smerf.objects.editing.slots",
    "save_slots": "smerf.objects.editing.slots",
    "encode_views": "smerf.objects.editing.encode",
    "apply_operations": "smerf.objects.editing.operations",
    "SlotRenderer": "smerf.objects.editing.rendering",
    "pack_scene": "smerf.objects.editing.pack",
}

__all__ = [
    "SavedSlots",
    "SlotRenderer",
    "apply_operations",
    "encode_views",
    "load_slots",
    "pack_scene",
    "save_slots",
]


def __getattr__(name: str) -> Any:
    """Import a part on its first use."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
