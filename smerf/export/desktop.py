"""Reach the desktop viewer's modules, installed as ``smerf.viewer`` or from the source tree."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from smerf.export.viewer_files import viewer_root

__all__ = ["desktop_viewer"]


def desktop_viewer(name: str) -> ModuleType:
    """Import ``smerf.viewer.desktop.<name>``.

    In a source tree that is not installed the folder ``viewer`` lies beside the package; it is then imported
    under its installed name, so that there is only one.

    Raises:
        SmerfError: If the installation lacks the viewer.
        MissingPartError: If a library that the module needs is missing.
    """
    if "smerf.viewer" not in sys.modules and importlib.util.find_spec("smerf.viewer") is None:
        root = viewer_root()
        spec = importlib.util.spec_from_file_location(
            "smerf.viewer", root / "__init__.py", submodule_search_locations=[str(root)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["smerf.viewer"] = module
        spec.loader.exec_module(module)
    return importlib.import_module(f"smerf.viewer.desktop.{name}")
