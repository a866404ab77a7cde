"""Where the viewers' files are: shaders, the page's scripts, the desktop viewer's modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from smerf.errors import SmerfError

__all__ = ["viewer_root"]


def viewer_root() -> Path:
    """Return the folder with ``web/`` and ``shaders/``, installed or in the source tree.

    Raises:
        SmerfError: the installation lacks the viewer.
    """
    candidates = [Path(__file__).resolve().parents[2] / "viewer"]
    try:
        spec = importlib.util.find_spec("smerf.viewer")
    except ModuleNotFoundError:
        spec = None
    if spec is not None:
        candidates[:0] = map(Path, spec.submodule_search_locations or ())
    for root in candidates:
        if (root / "web" / "index.html").is_file():
            return root
    raise SmerfError(
        "the viewer's files are not installed; reinstall smerf from its wheel or its source tree"
    )
