"""From photos or a video to a posed capture: frames, features, mapping, up and scale, verdict.

The package can be called: ``smerf.prepare(photos, output)`` is ``smerf.prepare.prepare``.
"""

import sys
from types import ModuleType
from typing import Any

from smerf.prepare.config import PrepareConfig
from smerf.prepare.intake import holds_photos
from smerf.prepare.stage import Prepared, prepare

__all__ = ["PrepareConfig", "Prepared", "holds_photos", "prepare"]


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Prepared:
        return prepare(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
