"""Options from words, with errors of the same one line as all others."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from typing import Any, TypeVar

from smerf.errors import UsageError

__all__ = ["parse_options"]

T = TypeVar("T")
_BOX = re.compile(r"\x1b\[[\d;]*m|[│╭╮╰╯]")


def parse_options(kind: type[T], program: str, words: list[str]) -> T:
    """Return a command's options.

    Raises:
        UsageError: If the words are not such options.
        SystemExit: If they ask for help, which is printed.
    """
    import tyro

    # Given as it stands: tyro's own reading of a docstring leaves the examples out.
    description = inspect.getdoc(kind)
    # tyro writes errors as boxes.
    boxes = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxes):
            options: Any = tyro.cli(kind, prog=program, description=description, args=words)
            return options
    except SystemExit as leave:
        if leave.code in (0, None):
            raise
        raise UsageError(f"{_sentence(boxes.getvalue())}; see {program} --help".replace("?;", "?")) from None


def _sentence(box: str) -> str:
    """Return what a box says in one line: its first paragraph, and the option that was probably meant."""
    lines = [_BOX.sub("", line).strip() for line in box.splitlines()]
    text = " ".join(line for line in lines if line and not line.startswith("─ "))
    first = re.split(r"─{3,}|Got errors:|\(required\)", text)[0].strip().rstrip(".")
    meant = re.search(r"Perhaps you meant:.*?(--[\w-]+)", text)
    return f"{first}; did you mean {meant[1]}?" if meant else first
