"""smerf: photos in, a place you can walk through out."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "run": "smerf.pipeline.run",
    "load_capture": "smerf.capture",
    "prepare": "smerf.prepare",
    "train_teacher": "smerf.teacher",
    "distill": "smerf.student",
    "bake": "smerf.baking",
    "load_scene": "smerf.render.scene",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    """Import the heavy parts on first use, so that ``smerf --help`` stays fast."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'smerf' has no attribute {name!r}")
