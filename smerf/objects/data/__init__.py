"""Sets of object scenes: generated, read, and taken from photos.

``generate`` (with ``raycast``) and ``meshes`` make scenes, ``readers`` and ``photos`` read those of others, ``scenes``
holds and stores them, ``batches`` samples from them.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "SceneSet": "smerf.objects.data.scenes",
    "load_scenes": "smerf.objects.data.scenes",
    "save_scenes": "smerf.objects.data.scenes",
    "generate_scenes": "smerf.objects.data.generate",
    "generate_mesh_scenes": "smerf.objects.data.meshes",
    "open_scenes": "smerf.objects.data.readers",
    "open_views": "smerf.objects.data.readers",
    "SceneBatch": "smerf.objects.data.batches",
    "sample_batch": "smerf.objects.data.batches",
}

__all__ = [
    "SceneBatch",
    "SceneSet",
    "generate_mesh_scenes",
    "generate_scenes",
    "load_scenes",
    "open_scenes",
    "open_views",
    "sample_batch",
    "save_scenes",
]


def __getattr__(name: str) -> Any:
    """Import a part on its first use."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
