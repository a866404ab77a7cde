"""What photos show: people (``people``), names in space (``label``), which photo shows it (``find``).

The transformers: the one attention block (``blocks``), video (``video``), images and words (``clip``, ``owl``,
``siglip``), sets of photos (``latents``, ``experts``), and weights in public layouts (``convert``). What moves in a
video: ``stabilise``, ``clips`` of ``figures``, the model ``walkers`` with its ``tubelets``, and masks (``motion``).
"""

from __future__ import annotations

from smerf.engine.lazy import lazy_exports

__all__ = ["Block", "BlockConfig", "load_public", "save_public"]

__getattr__ = lazy_exports(
    __name__,
    {"Block": "blocks", "BlockConfig": "blocks", "load_public": "convert", "save_public": "convert"},
)
