"""Object scenes (OSRT): a few posed views become slots, one latent vector per object, that render, segment and
can be edited.

Sources: Sajjadi et al., "Scene Representation Transformer" (CVPR 2022) and "Object Scene Representation
Transformer" (NeurIPS 2022). Letters throughout: B scenes, V views, H W image, T tokens, K slots, D slot width,
R rays. Cameras are those of ``smerf.capture`` (see ``smerf.objects.cameras``).
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "ObjectsConfig": "smerf.objects.config",
    "make_config": "smerf.objects.config",
    "Osrt": "smerf.objects.model.osrt",
    "load_model": "smerf.objects.model.store",
    "save_model": "smerf.objects.model.store",
    "shipped_model": "smerf.objects.model.store",
    "SceneSet": "smerf.objects.data.scenes",
    "load_scenes": "smerf.objects.data.scenes",
    "save_scenes": "smerf.objects.data.scenes",
    "generate_scenes": "smerf.objects.data.generate",
    "train_objects": "smerf.objects.training.stage",
}

__all__ = [
    "ObjectsConfig",
    "Osrt",
    "SceneSet",
    "generate_scenes",
    "load_model",
    "load_scenes",
    "make_config",
    "save_model",
    "save_scenes",
    "shipped_model",
    "train_objects",
]


def __getattr__(name: str) -> Any:
    """Import a part on its first use."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'smerf.objects' has no attribute {name!r}")
