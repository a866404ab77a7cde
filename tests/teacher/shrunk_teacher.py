"""The large presets at a size that trains in a second."""

from __future__ import annotations

from dataclasses import replace

from smerf.kernels import HashSpec
from smerf.teacher.config import PRESETS, FieldConfig, TeacherConfig

__all__ = ["shrunk"]


def _small(shape: FieldConfig, grid: HashSpec) -> FieldConfig:
    geometry = min(shape.geometry, 16)
    return replace(shape, grid=grid, width=16, geometry=geometry, colour_width=min(shape.colour_width, 16))


def shrunk(preset: str, **changes) -> TeacherConfig:
    """Return a preset with small tables, networks, batches and counts, and with ``changes``."""
    config = PRESETS[preset]
    sizes = {
        "field": _small(config.field, HashSpec(4, 2, 13, 8, 64)),
        "proposal": _small(config.proposal, HashSpec(4, 1, 12, 16, 64)),
        "coarse": config.coarse and _small(config.coarse, HashSpec(3, 1, 12, 16, 64)),
        "proposal_samples": 12,
        "coarse_samples": 12,
        "samples": 8,
        "rays": 128,
        "steps": 6,
        "warmup_steps": 5,
    }
    return replace(config, **{**sizes, **changes})
