"""A capture from formulas with exact depth and instance ids: a table with things on it, and a wall that hides some."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.ball import poses

WIDTH, HEIGHT, FOCAL = 96, 72, 90.0
THINGS = {
    "orange_1": ((0.35, 0.0, 0.12), 0.12),
    "orange_2": ((-0.3, 0.3, 0.12), 0.12),
    "vase": ((0.0, -0.35, 0.2), 0.2),
    "ball": ((-0.35, -0.25, 0.1), 0.1),
}
"""Centre and radius of every thing; ids are their order, from 1. Below them is the table, id 5, a disc at height 0."""
NAMES = (*THINGS, "table")
TABLE = 0.8


@dataclass(frozen=True)
class Truth:
    """``ids`` and ``depth`` (V, H, W) of every view, and its pose (V, 3, 4)."""

    folder: Path
    ids: np.ndarray
    depth: np.ndarray
    poses: np.ndarray

    def pixels(self, name: str) -> np.ndarray:
        """Return in how many pixels each view shows a thing."""
        return (self.ids == NAMES.index(name) + 1).sum((1, 2))


def cast(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the depth along the optical axis, and the ids, that a camera sees: each (H, W), 0 for nothing."""
    column, row = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    local = np.stack([(column - WIDTH / 2) / FOCAL, -(row - HEIGHT / 2) / FOCAL, -np.ones_like(row)], -1)
    ray, centre = local @ pose[:, :3].T, pose[:, 3]
    depth, ids = np.full(row.shape, np.inf), np.zeros(row.shape, np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = -centre[2] / ray[..., 2]
        meets = (t > 0) & (np.hypot(*(centre + t[..., None] * ray)[..., :2].transpose(2, 0, 1)) < TABLE)
    depth[meets], ids[meets] = t[meets], len(NAMES)
    for number, (middle, radius) in enumerate(THINGS.values(), 1):
        offset = centre - middle
        a, b, c = (ray**2).sum(-1), ray @ offset, offset @ offset - radius**2
        root = b**2 - a * c
        t = (-b - np.sqrt(np.maximum(root, 0.0))) / a
        nearer = (root > 0) & (t > 0) & (t < depth)
        depth[nearer], ids[nearer] = t[nearer], number
    return np.where(np.isfinite(depth), depth, 0.0), ids


def write_things(folder: Path, count: int = 12) -> Truth:
    """Write the capture: photos, depth in millimetres, instance ids and their names in ``transforms.json``."""
    for name in ("images", "depth", "instances"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    world = poses(count)
    # Closer than the helper's ring, so that things have pixels.
    world[:, :, 3] *= 0.85
    frames, seen = [], []
    colours = np.random.default_rng(0).integers(40, 255, (len(NAMES) + 1, 3)).astype(np.uint8)
    for index, pose in enumerate(world):
        depth, ids = cast(pose)
        seen.append((ids, depth))
        file = f"{index:03d}.png"
        Image.fromarray(colours[ids]).save(folder / "images" / file)
        Image.fromarray(np.round(depth * 1000).astype(np.uint16)).save(folder / "depth" / file)
        Image.fromarray(ids).save(folder / "instances" / file)
        frames.append(
            {
                "file_path": f"images/{file}",
                "depth_file_path": f"depth/{file}",
                "instance_path": f"instances/{file}",
                "transform_matrix": [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]],
            }
        )
    document = {
        "fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT,
        "near": 0.3, "far": 6.0, "bounded": True, "depth_unit_scale_factor": 1e-3, "frames": frames,
        "instances": {str(number): name for number, name in enumerate(["background", *NAMES])},
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(document))
    return Truth(folder, np.stack([s[0] for s in seen]), np.stack([s[1] for s in seen]), world)
