"""Sets of object scenes: generated, read, and taken from photos.

``generate`` (with ``raycast``) and ``meshes`` make scenes, ``readers`` and ``photos`` read those of others, ``scenes``
holds and stores them, ``batches`` samples from them.
"""

from __future__ import annotations

from smerf.engine.lazy import lazy_exports

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

__getattr__ = lazy_exports(
    __name__,
    {
        "SceneSet": "scenes",
        "load_scenes": "scenes",
        "save_scenes": "scenes",
        "generate_scenes": "generate",
        "generate_mesh_scenes": "meshes",
        "open_scenes": "readers",
        "open_views": "readers",
        "SceneBatch": "batches",
        "sample_batch": "batches",
    },
)
