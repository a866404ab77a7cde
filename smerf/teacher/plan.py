"""Settings of the teacher that the capture and the device decide."""

from __future__ import annotations

from smerf.capture.types import Capture
from smerf.teacher.config import TeacherConfig

__all__ = ["resolve_config"]


def resolve_config(config: TeacherConfig, capture: Capture, device: str, world_size: int) -> TeacherConfig:
    """Return the config that the training runs with."""
    return config
