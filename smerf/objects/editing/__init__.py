"""Scenes of slots: encoding, files, edits, rendering, and packing for the viewers."""

from __future__ import annotations

from smerf.engine.lazy import lazy_exports

__all__ = [
    "SavedSlots",
    "SlotRenderer",
    "apply_operations",
    "encode_views",
    "load_slots",
    "pack_scene",
    "save_slots",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "SavedSlots": "slots",
        "load_slots": "slots",
        "save_slots": "slots",
        "encode_views": "encode",
        "apply_operations": "operations",
        "SlotRenderer": "rendering",
        "pack_scene": "pack",
    },
)
