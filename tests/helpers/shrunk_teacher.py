"""The large presets at a size that trains in a second."""

from __future__ import annotations

from dataclasses import replace

from smerf.capture.types import Capture
from smerf.fields.grid_field import FieldConfig
from smerf.kernels import HashSpec
from smerf.teacher import TeacherConfig, resolve_config
from smerf.teacher.config import PRESETS
from smerf.teacher.trainer import TeacherTrainer

__all__ = ["QUICK", "make_trainer", "shrunk"]


def make_trainer(capture: Capture, config: TeacherConfig) -> TeacherTrainer:
    """Return a trainer on the CPU whose config is resolved."""
    return TeacherTrainer(capture, resolve_config(config, capture, "cpu", 1))


def _small(shape: FieldConfig, grid: HashSpec) -> FieldConfig:
    geometry = min(shape.geometry, 16)
    return replace(shape, grid=grid, width=16, geometry=geometry, colour_width=min(shape.colour_width, 16))


def shrunk(preset: str, **changes) -> TeacherConfig:
    """Return a preset with small tables, networks, batches and counts, and with ``changes``."""
    config = PRESETS[preset]
    sizes = {
        "field": _small(config.field, HashSpec(4, 2, 13, 8, 64)),
        "proposal": config.proposal and _small(config.proposal, HashSpec(4, 1, 12, 16, 64)),
        "coarse": config.coarse and _small(config.coarse, HashSpec(3, 1, 12, 16, 64)),
        "proposal_samples": 12,
        "coarse_samples": 12,
        "samples": 8,
        "rays": 128,
        "steps": 6,
        "warmup_steps": 5,
        "exposure": "off",
    }
    return replace(config, **{**sizes, **changes})


QUICK = shrunk(
    "preview",
    cache_resolution=32,
    samples=16,
    proposal_samples=32,
    rays=512,
    steps=400,
    checkpoint_seconds=1e9,
)
"""Learns the ball of ``tests.helpers.ball`` in a few seconds."""
