"""Baking: from the student's grids to 8-bit assets."""

from smerf.baking.bake import bake
from smerf.baking.config import BakeConfig

__all__ = ["BakeConfig", "bake"]
