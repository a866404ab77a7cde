"""Transformers that look at photos: the one attention block of the package (``blocks``), video (``video``), images and
words (``clip``, ``owl``, ``siglip``), experts (``experts``), and weights in public layouts (``convert``).
"""

from __future__ import annotations

from smerf.engine.lazy import lazy_exports

__all__ = ["Block", "BlockConfig", "load_public", "save_public"]

__getattr__ = lazy_exports(
    __name__,
    {"Block": "blocks", "BlockConfig": "blocks", "load_public": "convert", "save_public": "convert"},
)
