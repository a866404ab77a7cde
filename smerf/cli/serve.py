"""``smerf serve``: the web viewer, from this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Positional, scene_folder

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Serve a scene's page from this machine and open it in the browser; Ctrl-C ends it.

    Example:
      smerf serve runs/tabletop --port 8080 --no-browser
    """

    scene: Positional[Annotated[Path, tyro.conf.arg(metavar="SCENE")]]
    """Run folder, baked scene or exported page."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: int = 8080
    """Port to listen on."""
    browser: bool = True
    """Open the browser."""
    allow_origin: str | None = None
    """Another origin whose pages may read and frame the scene, such as https://example.org; * for all."""


def run(options: Options) -> int:
    """Serve the page until Ctrl-C."""
    from smerf.export.serve import serve

    pages = (options.scene, options.scene / "site")
    page = next((folder for folder in pages if (folder / "index.html").is_file()), None)
    folder = page or scene_folder(options.scene)
    serve(folder, options.host, options.port, options.browser, options.allow_origin)
    return 0
