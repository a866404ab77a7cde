"""``smerf vision``: the transformers that look at photos."""

from __future__ import annotations

from smerf.cli.family import dispatch_family

__all__ = ["COMMANDS", "dispatch"]

COMMANDS = {
    "plan": "what a transformer of a given size would take to train",
    "train": "learn the words that smerf label knows from drawn things",
}
"""Every command with its line of help. Each is a module of this package with ``Options`` and ``run``."""


def dispatch(words: list[str]) -> int:
    """Run one command of ``smerf vision`` and return its exit code.

    Args:
        words: The words after ``vision``.
    """
    about = "The transformers behind smerf label and smerf find."
    return dispatch_family(
        "vision", COMMANDS, words, about, ["example:", "  smerf vision plan --preset vit-22b"]
    )
