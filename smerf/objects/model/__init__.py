"""The object-scene model: views to slots (``encoder``), slots and rays to colours (``decoders``, ``volumetric``), model
files (``store``), and weights of the public implementation (``convert``).
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "Osrt": "smerf.objects.model.osrt",
    "load_model": "smerf.objects.model.store",
    "save_model": "smerf.objects.model.store",
    "shipped_model": "smerf.objects.model.store",
    "model_digest": "smerf.objects.model.store",
    "convert_weights": "smerf.objects.model.convert",
}

__all__ = [
    "Osrt",
    "convert_weights",
    "load_model",
    "model_digest",
    "save_model",
    "shipped_model",
]


def __getattr__(name: str) -> Any:
    """Import a part on its first use."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
