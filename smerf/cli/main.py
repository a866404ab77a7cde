"""The program ``smerf``: finds the command, parses its options, and turns errors into one line and an exit
code.

Only the chosen command's module is imported, so that help is instant.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import logging
import os
import sys
import traceback
from typing import Any

from smerf import __version__
from smerf.errors import SmerfError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "run": "photos in, page out: every stage that is not done yet",
    "prepare": "photos or a video in, posed capture out, with a verdict",
    "synth": "render a built-in scene to a capture with exact poses",
    "train": "train the teacher of a run",
    "distill": "distil the teacher into a student",
    "bake": "bake the student into streamable assets",
    "export": "write the web page of a baked scene",
    "view": "open a scene in the desktop viewer, or render it without a display",
    "serve": "open a scene in the web viewer, from this machine",
    "render": "render frames or a video of a baked scene",
    "mask": "mask what moved in a capture, beside its photos",
    "eval": "measure the stages of a run and write its report",
    "verify": "check a scene's hashes, and that every viewer renders the same image",
    "label": "what is where: names, boxes and ids of the things that a run shows",
    "find": "which photos show a thing or a place",
    "vision": "transformers that look at photos: what a size would take",
    "objects": "object scenes: a few views become slots that can be edited",
    "info": "say what a run, a capture or any file of smerf holds, and what to do next",
    "doctor": "say what this machine can do, and how to fix what is missing",
}
"""Every command with its line of help. Each is a module of ``smerf.cli`` with ``Options`` and ``run``."""
_DISK = {
    errno.ENOSPC: "; make room, and the same command continues from here",
    errno.EDQUOT: "; make room, and the same command continues from here",
    errno.EACCES: "; give a place that you may write to",
    errno.EROFS: "; give a place that you may write to",
}


_NO_MEMORY = (
    "out of memory",
    "t allocate memory",
    "not allocate memory",
    "failed to map segment",
    "bad_alloc",
)
_SMALLER = {
    "run": ", or give --preset preview or --set max_side=400",
    "train": ", or give --preset preview or --set max_side=400",
    "prepare": ", or give --max-side 800",
}
"""What needs less memory, by command."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: The words after ``smerf``; those of this process by default.
    """
    # Threads that spin while they wait for each other stand still once anything else runs on a small machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        print(_help(), file=sys.stderr)
        return 2
    if words[0] in ("-h", "--help", "help"):
        if words[1:] and words[0] == "help":
            return main([words[1], "--help"])
        print(_help())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"smerf {__version__}")
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        return _unknown(command)
    options_end = rest.index("--") if "--" in rest else len(rest)
    is_verbose = any(word in ("-v", "--verbose") for word in rest[:options_end])
    _start_logging(is_verbose)
    try:
        return _dispatch(command, rest)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0 if leave.code is None else 1
    except BrokenPipeError:
        # The reader of our output went away (``smerf info X | head``): not a failure worth a message.
        sys.stderr.close()
        return 1
    except BaseException as error:
        if is_verbose:
            traceback.print_exc()
        message, code = describe_error(error, command)
        print(f"smerf {command}: {message}", file=sys.stderr)
        return code


def describe_error(error: BaseException, command: str = "run") -> tuple[str, int]:
    """Return the one-line message of an error of a command and its exit code."""
    if isinstance(error, SmerfError):
        return " ".join(str(error).split()), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        code = getattr(error, "exit_code", 130)
        return "stopped; the same command continues from here", code
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").split(".")[0]
        fix = "this install lacks it" if name == "smerf" else f"pip install {name}"
        return f"the module {error.name} is missing: {fix}", 3
    text = " ".join(str(error).split())
    if _is_out_of_memory(error, text):
        return f"out of memory: close other programs{_SMALLER.get(command, '')}", 1
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{error.filename or 'a file'}: {error.strerror}{_DISK.get(error.errno or 0, '')}", 1
    return f"unexpected {type(error).__name__}: {text} (--verbose shows where)", 1


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    # Allocators, readers of mapped files and the loader of libraries each raise an error of their own.
    is_told = any(words in text.lower() for words in _NO_MEMORY)
    return (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or (is_told and isinstance(error, (RuntimeError, ImportError, OSError, ValueError)))
    )


def _dispatch(command: str, words: list[str]) -> int:
    module: Any = importlib.import_module(f"smerf.cli.{command}")
    if hasattr(module, "dispatch"):  # a family of commands
        return int(module.dispatch(words))
    from smerf.cli.parse import parse_options

    return int(module.run(parse_options(module.Options, f"smerf {command}", words)) or 0)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: smerf COMMAND [OPTIONS]",
            "",
            "Turn photos into a place you can walk through, on a page that opens anywhere.",
            "",
            "commands:",
            *lines,
            "",
            "example:",
            "  smerf synth tabletop -o captures/tabletop",
            "  smerf run captures/tabletop -o runs/tabletop",
            "",
            "smerf COMMAND --help tells more; smerf --version prints the version.",
        ]
    )


def _unknown(command: str) -> int:
    close = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}"
    print(f"smerf: there is no command {command!r}; {hint}", file=sys.stderr)
    return 2


# Found again by name: the class is another one where this module was loaded twice.
_TERMINAL = "smerf-terminal"


class _Handler(logging.StreamHandler):
    """Writes to the stderr of the moment, which tests and progress bars replace."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _start_logging(is_verbose: bool) -> None:
    logger = logging.getLogger("smerf")
    logger.setLevel(logging.INFO)
    for former in [h for h in logger.handlers if h.get_name() == _TERMINAL]:
        logger.removeHandler(former)
    handler = _Handler()
    handler.set_name(_TERMINAL)
    handler.setLevel(logging.INFO if is_verbose else logging.WARNING)
    handler.setFormatter(logging.Formatter("smerf: %(levelname)s: %(message)s"))
    logger.addHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
