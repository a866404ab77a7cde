"""Object scenes (OSRT): a few posed views become slots, one latent vector per object, that render, segment and
can be edited.

Sources: Sajjadi et al., "Scene Representation Transformer" (CVPR 2022) and "Object Scene Representation
Transformer" (NeurIPS 2022). Letters throughout: B scenes, V views, H W image, T tokens, K slots, D slot width,
R rays. Cameras are those of ``smerf.capture`` (see ``smerf.objects.cameras``).
"""

from __future__ import annotations

from smerf.engine.lazy import lazy_exports

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

__getattr__ = lazy_exports(
    __name__,
    {
        "ObjectsConfig": "config",
        "make_config": "config",
        "Osrt": "model.osrt",
        "load_model": "model.store",
        "save_model": "model.store",
        "shipped_model": "model.store",
        "SceneSet": "data.scenes",
        "load_scenes": "data.scenes",
        "save_scenes": "data.scenes",
        "generate_scenes": "data.generate",
        "train_objects": "training.stage",
    },
)
