"""``smerf objects``: object scenes."""

from __future__ import annotations

from smerf.cli.family import dispatch_family

__all__ = ["COMMANDS", "dispatch"]

COMMANDS = {
    "synth": "render random scenes with exact masks and poses",
    "train": "train a model on scenes",
    "encode": "turn a few posed views into slots",
    "render": "render novel views, instance masks, single slots or a turntable",
    "edit": "remove, move or copy objects",
    "export": "write the web page that renders slots in the browser",
    "eval": "measure a model on scenes that it was not trained on",
}
"""Every command with its line of help. Each is a module of this package with ``Options`` and ``run``."""


def dispatch(words: list[str]) -> int:
    """Run one command of ``smerf objects`` and return its exit code.

    Args:
        words: The words after ``objects``.
    """
    about = "Scenes of objects: a few posed views become slots, one latent vector per object."
    examples = [
        "example, with the small model that comes along:",
        "  smerf objects synth easy -o scenes --scenes 4 --seed 7",
        "  smerf objects encode scenes -o slots.safetensors",
        "  smerf objects render slots.safetensors -o images",
    ]
    return dispatch_family("objects", COMMANDS, words, about, examples)
