"""How much memory a run takes at its peak: what its stages hold at once, from the settings and the photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smerf.engine.memory import require_memory

if TYPE_CHECKING:
    from smerf.capture.types import Capture
    from smerf.pipeline.config import RunConfig
    from smerf.student.config import StudentConfig
    from smerf.teacher.config import TeacherConfig

__all__ = ["Photos", "peak_bytes", "require_grids", "stage_bytes"]

_FLOAT = 4
_VERTEX = 72
"""Bytes of a grid's vertex while it is trained: the value itself, its logits and their moments."""
_BLOCK = 512
"""Vertices of a voxel block."""
_FACES = 8.0
"""Voxel blocks that are held, over those of a face of the grid: surfaces and what lies around them; at most all."""
_PIXEL = 8
"""Bytes of a loaded pixel beside its channels: where it is, and in which photo."""
_ERROR = 4
"""Bytes of what a teacher's training remembers of a pixel."""
_COPIES = 4
"""Of a hash table in training: values, gradients and two moments."""
_CHUNK, _SAMPLE = 32768, 120.0
"""Rays that are looked at together, and bytes of a sample of them on the way: its indices, its point, their copies."""


@dataclass(frozen=True)
class Photos:
    """What memory depends on of a capture, at the size that is trained on."""

    kind: str
    """``object`` (before white, with transparency) or ``scene``."""
    pixels: int
    """Of all training photos together."""

    @classmethod
    def of(cls, capture: Capture, max_side: int) -> Photos:
        """Return a capture's, scaled down by whole factors to ``max_side``, whatever size it was opened at."""
        pixels = 0
        for frame in capture.split("train"):
            size = frame.camera.intrinsics
            width, height = (edge * frame.downscale for edge in (size.width, size.height))
            factor = -(-max(width, height) // max_side)
            pixels += (width // factor) * (height // factor)
        return cls("scene" if capture.background is None else "object", pixels)


def stage_bytes(config: RunConfig, photos: Photos) -> dict[str, float]:
    """Return what each command of a run holds at once, beside what the process held before the run."""
    student, tables = config.student, _table_bytes(config.teacher)
    held = float(photos.pixels * (_PIXEL + (4 if photos.kind == "object" else 3)))
    pool = student.pool * _FLOAT * (10.0 + 2.0 * config.teacher.samples)
    work = _CHUNK * config.teacher.samples * _SAMPLE
    # Bytes a voxel: which rays have met something, and what is occupied.
    marks = 4.0 * student.voxel_resolution**3
    return {
        "train": held + _ERROR * photos.pixels + _COPIES * tables + work,
        "distill": held + tables + _grid_bytes(student) + pool + marks + work,
    }


def peak_bytes(config: RunConfig, photos: Photos, before: float) -> float:
    """Return the most that a run holds at once; ``before``: bytes of the process before it."""
    return before + max(stage_bytes(config, photos).values())


def require_grids(config: StudentConfig, device: str = "cpu") -> None:
    """Refuse grids that don't fit into memory, before anything is computed.

    Raises:
        UsageError: If they don't fit; the message says which setting to lower.
    """
    needed, planes = _grid_bytes(config), _plane_bytes(config)
    name = "plane_resolution" if 2.0 * planes > needed else "voxel_resolution"
    hint = f"lower student.{name} ({getattr(config, name)})"
    require_memory(int(needed), "a submodel's grids", hint, device)


def _plane_bytes(config: StudentConfig) -> float:
    return 3.0 * _VERTEX * config.plane_resolution**2


def _grid_bytes(config: StudentConfig) -> float:
    edge = config.voxel_resolution / 8
    return _plane_bytes(config) + _VERTEX * _BLOCK * min(_FACES * edge**2, edge**3)


def _table_bytes(config: TeacherConfig) -> float:
    shapes = [shape for shape in (config.field, config.proposal, config.coarse) if shape]
    return float(sum(_FLOAT * shape.grid.entry_count * shape.grid.features for shape in shapes))
