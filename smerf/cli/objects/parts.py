"""What the commands of ``smerf objects`` share."""

from __future__ import annotations

from pathlib import Path

from smerf.errors import UsageError

__all__ = ["refuse_existing"]


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise UsageError if the file ``path`` exists and the user did not allow replacing it."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; give a file with -o")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: is there already; give another file with -o, or --overwrite")
