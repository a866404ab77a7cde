"""Training an object-scene model on sets of scenes, and measuring it: ``stage`` is what is read and written,
``trainer`` what a step is, ``schedule`` what changes over the steps, ``distillation`` how one decoder trains the next.
"""

from __future__ import annotations

from smerf.engine.lazy import lazy_exports

__all__ = [
    "ObjectsTrainer",
    "evaluate_scenes",
    "train_objects",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "train_objects": "stage",
        "ObjectsTrainer": "trainer",
        "evaluate_scenes": "evaluate",
    },
)
