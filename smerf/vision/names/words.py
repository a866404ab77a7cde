"""The vocabulary, and words that name a kind of one of its."""

from __future__ import annotations

__all__ = ["CLOSED", "KINDS", "WORDS"]

WORDS = (
    "chair", "sofa", "table", "bed", "shelf", "wardrobe", "bench", "lamp", "rug", "picture", "curtain", "tv",
    "cup", "bowl", "vase", "bottle", "book", "ball", "fruit", "plant", "tree", "car",
)  # fmt: skip
CLOSED = "closed vocabulary, learned from drawn things"
"""What ``labels.json`` says named the things."""
KINDS = {
    "apple": "fruit", "orange": "fruit", "lemon": "fruit", "pear": "fruit", "console": "table", "coffee table": "table",
    "office chair": "chair", "cupboard": "wardrobe", "carpet": "rug", "painting": "picture", "poster": "picture",
    "bush": "plant", "flower": "plant", "oak": "tree", "cypress": "tree",
}  # fmt: skip
