"""What both walks of ``benchmarks.endurance`` share: the scene, what a visitor does, and what counts as growth."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smerf.engine.memory import process_bytes
from smerf.scene.example import example_camera, example_scene
from smerf.scene.manifest import SceneCamera
from smerf.scene.types import SceneParams
from smerf.scene.write import write_scene

__all__ = [
    "FRAMES_PER_HOUR",
    "SECONDS_PER_FRAME",
    "SIZE",
    "actions",
    "grows",
    "growth",
    "places",
    "resident_bytes",
    "write_room",
]  # fmt: skip

SECONDS_PER_FRAME = 1.0
"""Of the simulated clock. Motion goes on by a quarter of a second at most."""
FRAMES_PER_HOUR = round(3600 / SECONDS_PER_FRAME)
SIZE = (32, 24)
"""Pixels of the picture."""
_MAX_GROWTH, _MAX_BYTES = 0.02, 2e6
_REGIONS = (1, 4, 6)
_KEYS = ("w", "a", "s", "d", "q", "e", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown")
_KINDS = {
    "keys": 0.4, "drag": 0.2, "wheel": 0.1, "mode": 0.08, "jump": 0.1, "photo": 0.05, "objects": 0.04, "resize": 0.03,
}  # fmt: skip


def write_room(folder: Path) -> Path:
    """Bake a room of three submodels with objects and three photos' cameras; return its folder."""
    scene = example_scene(64, 2, _REGIONS, lattice=1, objects=True)
    cameras = tuple(SceneCamera(f"photo {i}", "train", example_camera(turn=2.0 * i)) for i in range(3))
    manifest = dataclasses.replace(scene.manifest, cameras=cameras)
    write_scene(folder, scene.params, scene.mlp, [scene.submodel(k) for k in range(len(_REGIONS))], manifest)
    return folder


def places(params: SceneParams) -> list[np.ndarray]:
    """Return a camera-to-world matrix (4, 4) in the middle of each submodel."""
    found = []
    for k in range(len(params.params_to_sm)):
        pose = np.eye(4)
        pose[:3] = example_camera(turn=float(k)).world_from_cam
        pose[:3, 3] = params.submodel_centre(k)
        found.append(pose)
    return found


def actions(seed: int = 0) -> Iterator[tuple[str, Any, int]]:
    """Yield what a visitor does, without end: the kind of an action, its value, and the frames that it takes."""
    rng = np.random.default_rng(seed)
    while True:
        kind = str(rng.choice(list(_KINDS), p=list(_KINDS.values())))
        values = {
            "keys": [str(each) for each in rng.choice(_KEYS, 2, replace=False)],
            "drag": [int(each) for each in rng.integers(4, min(SIZE) - 4, 4)],
            "wheel": int(rng.choice([-1, 1])),
            "mode": str(rng.choice(["orbit", "fly", "walk"])),
            "jump": int(rng.integers(len(_REGIONS))),
            "photo": int(rng.integers(3)),
            "objects": [[], [1], [77], [1, 77]][rng.integers(4)],
            "resize": [edge + int(rng.integers(-4, 5)) for edge in SIZE],
        }
        yield kind, values[kind], int(rng.integers(8, 25))


def growth(values: Sequence[float]) -> float:
    """Return the median of the last quarter of some samples less that of the second: before, things warm up."""
    quarter = max(1, len(values) // 4)
    return statistics.median(values[-quarter:]) - statistics.median(values[quarter : 2 * quarter])


def grows(values: Sequence[float], largest: float = _MAX_BYTES) -> bool:
    """Return whether samples grow: by more than 2 % and more than ``largest``."""
    return growth(values) > max(largest, _MAX_GROWTH * statistics.median(values))


def resident_bytes(process: int | str = "self") -> float:
    """Return the resident memory of a process."""
    return float(process_bytes("VmRSS", process) or 0)
