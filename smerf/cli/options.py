"""What the commands' options share: common flags, spellings, and finding what a path holds."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smerf.engine.folder import RunFolder
from smerf.errors import UsageError

__all__ = [
    "AboutFlags",
    "Common",
    "Device",
    "Json",
    "Minutes",
    "Output",
    "Positional",
    "Preset",
    "RunOutput",
    "Settings",
    "Switch",
    "parse_size",
    "refuse_non_empty",
    "resolve_device",
    "scene_folder",
]

Device = Literal["auto", "cpu", "cuda"]
# A plain word: the config knows the presets, and names the nearest one to a misspelling.
Preset = Annotated[str | None, tyro.conf.arg(metavar="preview|standard|paper")]
Minutes = Annotated[float | None, tyro.conf.arg(metavar="M")]
Positional = tyro.conf.Positional
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="PATH")]
RunOutput = Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="RUN")]
Settings = Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE"), tyro.conf.UseAppendAction]
Switch = tyro.conf.FlagCreatePairsOff
Json = Switch[bool]


@dataclass(frozen=True, kw_only=True)
class Common:
    """Flags of every command."""

    verbose: Annotated[Switch[bool], tyro.conf.arg(aliases=["-v"])] = False
    """Log more, and show the traceback of an error."""
    quiet: Annotated[Switch[bool], tyro.conf.arg(aliases=["-q"])] = False
    """Show no progress."""


@dataclass(frozen=True, kw_only=True)
class AboutFlags:
    """What visitors of a page read."""

    title: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Title of the page."""
    description: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """A sentence or two about the place."""
    author: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Who made it."""
    date: Annotated[str | None, tyro.conf.arg(metavar="DATE")] = None
    """When, such as 2026-05-31."""
    licence: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """What others may do with it: a name such as "CC BY 4.0", or an address."""
    url: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    """Where the page will be; messengers then show the picture of a shared link."""

    @property
    def about(self) -> tuple[str, ...]:
        """What was given, as settings of a run's config."""
        names = ("title", "description", "author", "date", "licence", "url")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return tuple(f"page.{name}={json.dumps(value)}" for name, value in given.items())


def resolve_device(device: str) -> str:
    """Turn ``auto`` into the device that the stages run on: a GPU that works, else the CPU.

    Raises:
        MissingPartError: If ``cuda`` is asked for and there is none that works.
    """
    if device == "cpu":
        return device
    from smerf.engine import device as devices

    return devices.resolve_device(device)


def scene_folder(path: Path) -> Path:
    """Return the baked scene at ``path``: a run's ``baked/``, or the folder itself.

    Raises:
        UsageError: If there is neither.
    """
    run = RunFolder(path)
    if run.exists():
        if run.stage("baked") is None:
            raise UsageError(f"{path}: nothing is baked yet; smerf bake {path} does it")
        return run.folder("baked")
    if not path.is_dir():
        slots = "holds slots; smerf objects export and smerf objects render take them"
        problem = slots if path.suffix == ".safetensors" else "is not a folder"
        raise UsageError(f"{path}: {problem if path.exists() else 'does not exist'}")
    return path


def refuse_non_empty(path: Path, overwrite: bool, what: str) -> None:
    """Raise UsageError if ``path`` holds something and the user did not allow replacing it."""
    if overwrite or not path.exists():
        return
    if not path.is_dir() or any(os.scandir(path)):
        raise UsageError(f"{path}: is there already; give another {what} with -o, or --overwrite")


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of a size such as ``640x360``. Raises UsageError for anything else."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and 0 < int(part) <= 16384 for part in parts):
        raise UsageError(f"--size {text}: give width and height in pixels, such as 640x360")
    return int(parts[0]), int(parts[1])
