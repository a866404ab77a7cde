"""``smerf vision``: the transformers that look at photos."""

from __future__ import annotations

from smerf.cli.family import dispatch_family

__all__ = ["COMMANDS", "dispatch"]

COMMANDS = {
    "plan": "what a transformer of a given size would take to train",
    "train": "train the words of smerf label, or what finds moving things in a video",
}
"""Every command with its line of help. Each is a module of this package with ``Options`` and ``run``."""


def dispatch(words: list[str]) -> int:
    """Run one command of ``smerf vision`` and return its exit code.

    Args:
        words: The words after ``vision``.
    """
    about = "The transformers behind smerf label, smerf find and smerf mask."
    examples = [
        "examples:",
        "  smerf vision plan --preset vit-22b",
        "  smerf vision train walkers -o runs/walkers",
    ]
    return dispatch_family("vision", COMMANDS, words, about, examples)
