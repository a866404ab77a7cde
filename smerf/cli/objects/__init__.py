"""``smerf objects``: object scenes. Finds the command after ``objects`` and parses its options.

Only the chosen command's module is imported, so that help is instant.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from typing import Any

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
    if words and words[0] in ("-h", "--help", "help"):
        if words[0] == "help" and words[1:]:
            return dispatch([words[1], "--help"])
        print(_help())
        return 0
    if not words or words[0].startswith("-"):
        wrong = f"there is no flag {words[0]}; " if words else ""
        print(f"smerf objects: {wrong}Missing command: one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}"
        print(f"smerf objects: there is no command {command!r}; {hint}", file=sys.stderr)
        return 2
    import tyro

    module: Any = importlib.import_module(f"smerf.cli.objects.{command}")
    # Given as it stands: tyro's own reading of a docstring leaves the examples out.
    description = inspect.getdoc(module.Options)
    options = tyro.cli(module.Options, prog=f"smerf objects {command}", description=description, args=rest)
    return int(module.run(options) or 0)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: smerf objects COMMAND [OPTIONS]",
            "",
            "Scenes of objects: a few posed views become slots, one latent vector per object.",
            "",
            "commands:",
            *lines,
            "",
            "example, with the small model that comes along:",
            "  smerf objects synth easy -o scenes --scenes 4 --seed 7",
            "  smerf objects encode scenes -o slots.safetensors",
            "  smerf objects render slots.safetensors -o images",
            "",
            "smerf objects COMMAND --help tells more; each takes --verbose and --quiet.",
        ]
    )
