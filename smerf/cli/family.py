"""Commands of two words, such as ``smerf objects train``: finds the second, and parses its options.

Only the chosen command's module is imported, so that help is instant.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["dispatch_family"]


def dispatch_family(
    family: str, commands: Mapping[str, str], words: list[str], about: str, examples: list[str]
) -> int:
    """Run one command of a family and return its exit code.

    Args:
        family: The first word; the commands are modules of ``smerf.cli.FAMILY`` with ``Options`` and ``run``.
        commands: Each with its line of help.
        words: The words after the first.
        about: What the family is, in a sentence.
        examples: Lines of the help: a heading and commands.
    """
    if words and words[0] in ("-h", "--help", "help"):
        if words[0] == "help" and words[1:]:
            return dispatch_family(family, commands, [words[1], "--help"], about, examples)
        print(_help(family, commands, about, examples))
        return 0
    if not words or words[0].startswith("-"):
        wrong = f"there is no flag {words[0]}; " if words else ""
        print(f"smerf {family}: {wrong}Missing command: one of {', '.join(commands)}", file=sys.stderr)
        return 2
    command, rest = words[0], words[1:]
    if command not in commands:
        close = difflib.get_close_matches(command, commands, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(commands)}"
        print(f"smerf {family}: there is no command {command!r}; {hint}", file=sys.stderr)
        return 2
    import tyro

    module: Any = importlib.import_module(f"smerf.cli.{family}.{command}")
    # Given as it stands: tyro's own reading of a docstring leaves the examples out.
    description = inspect.getdoc(module.Options)
    options = tyro.cli(module.Options, prog=f"smerf {family} {command}", description=description, args=rest)
    return int(module.run(options) or 0)


def _help(family: str, commands: Mapping[str, str], about: str, examples: list[str]) -> str:
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in commands.items()]
    parts = [
        f"usage: smerf {family} COMMAND [OPTIONS]",
        "",
        about,
        "",
        "commands:",
        *lines,
        "",
        *examples,
        "",
    ]
    return "\n".join([*parts, f"smerf {family} COMMAND --help tells more; each takes --verbose and --quiet."])
