"""Every decision about a training that the settings leave open, taken once before it begins."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from smerf.capture import content_scale
from smerf.capture.types import Capture
from smerf.engine.distributed import Process
from smerf.errors import UsageError
from smerf.fields import accelerators
from smerf.teacher.config import TeacherConfig

__all__ = ["resolve_config"]

_log = logging.getLogger(__name__)


def resolve_config(config: TeacherConfig, capture: Capture, device: str, world_size: int) -> TeacherConfig:
    """Return the config as it will run: the trainer changes nothing about it.

    What is decided here is logged in one line. A resolved config stays as it is.

    Args:
        config: What the user asked for.
        capture: What it is trained on.
        device: ``cpu`` or ``cuda``.
        world_size: Processes that train together.

    Raises:
        UsageError: If the rays of a batch can't be divided evenly over the processes, or an accelerator is asked for
            on a CPU.
        MissingPartError: If an accelerator that the config asks for is not there.
    """
    Process(0, world_size).rows(config.rays)
    for setting, value, package in (("backend", "tcnn", "tinycudann"), ("sampler", "nerfacc", "nerfacc")):
        if getattr(config, setting) == value:
            if device == "cpu":
                raise UsageError(
                    f"teacher.{setting}={value}: needs --device cuda; or set teacher.{setting}=own"
                )
            accelerators.require_accelerator(package)
    changes: dict[str, Any] = {}
    reasons = []
    if config.scene_scale is None:
        changes["scene_scale"] = content_scale(capture)
        reasons.append(f"scene_scale={changes['scene_scale']:.4g} (from the capture)")
    if config.near_gradient and capture.background == "white":
        changes["near_gradient"] = 0.0
        reasons.append("near_gradient=0 (an object before white)")
    if config.cache_resolution and world_size > 1:
        changes["cache_resolution"] = 0
        reasons.append(f"cache_resolution=0 (proposal fields place the samples of {world_size} processes)")
    if not changes:
        return config
    _log.info("teacher: %s", ", ".join(reasons))
    return replace(config, **changes)
