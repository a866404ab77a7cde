"""From photos or a video to a posed capture: frames, features, mapping, up and scale, verdict."""

from smerf.prepare.config import PrepareConfig
from smerf.prepare.stage import Prepared, prepare

__all__ = ["PrepareConfig", "Prepared", "prepare"]
