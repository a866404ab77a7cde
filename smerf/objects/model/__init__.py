"""The object-scene model: views to slots (``encoder``), slots and rays to colours (``decoders``, ``volumetric``), model
files (``store``), and weights of the public implementation (``convert``).
"""

from __future__ import annotations

from smerf.engine.lazy import lazy_exports

__all__ = [
    "Osrt",
    "convert_weights",
    "load_model",
    "model_digest",
    "save_model",
    "shipped_model",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Osrt": "osrt",
        "load_model": "store",
        "save_model": "store",
        "shipped_model": "store",
        "model_digest": "store",
        "convert_weights": "convert",
    },
)
