"""Training an object-scene model on sets of scenes, and measuring it: ``stage`` is what is read and written,
``trainer`` what a step is, ``schedule`` what changes over the steps, ``distillation`` how one decoder trains the next.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "train_objects": "smerf.objects.training.stage",
    "ObjectsTrainer": "smerf.objects.training.trainer",
    "evaluate_scenes": "smerf.objects.training.evaluate",
}

__all__ = [
    "ObjectsTrainer",
    "evaluate_scenes",
    "train_objects",
]


def __getattr__(name: str) -> Any:
    """Import a part on its first use."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
