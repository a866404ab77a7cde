"""Settings of the student that the scene decides."""

from __future__ import annotations

from smerf.capture.types import Capture
from smerf.student.config import StudentConfig
from smerf.teacher.model import Teacher

__all__ = ["resolve_config"]


def resolve_config(config: StudentConfig, teacher: Teacher, capture: Capture, device: str) -> StudentConfig:
    """Return the config that the distillation runs with."""
    return config
