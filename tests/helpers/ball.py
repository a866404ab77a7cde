"""A tiny capture from a formula: a shaded ball above a striped floor, seen from a ring of cameras."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from smerf.capture import load_capture
from smerf.capture.types import Capture

WIDTH, HEIGHT, FOCAL = 32, 24, 30.0
RADIUS = 0.5


def poses(count: int) -> np.ndarray:
    """Cameras (count, 3, 4) at distance 2 that look at the ball from above, OpenGL axes, z up."""
    result = []
    for index in range(count):
        turn, height = 2.0 * np.pi * index / count, 0.45 + 0.25 * np.sin(3.0 * index)
        level = 2.0 * np.cos(height)
        centre = np.array([level * np.cos(turn), level * np.sin(turn), 2.0 * np.sin(height)])
        back = centre / np.linalg.norm(centre)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        result.append(np.stack([right, np.cross(back, right), back, centre], axis=1))
    return np.stack(result)


def picture(pose: np.ndarray, fine: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return what a camera sees, (H, W, 3) in [0, 1], and where it sees the ball, (H, W); ``fine`` times as large."""
    column, row = np.meshgrid((np.arange(fine * WIDTH) + 0.5) / fine, (np.arange(fine * HEIGHT) + 0.5) / fine)
    local = np.stack([(column - WIDTH / 2) / FOCAL, -(row - HEIGHT / 2) / FOCAL, -np.ones_like(row)], axis=-1)
    ray = local @ pose[:, :3].T
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    centre = pose[:, 3]
    along = -ray @ centre
    root = along**2 - centre @ centre + RADIUS**2
    hits_ball = root > 0
    normal = (centre + (along - np.sqrt(root.clip(0)))[..., None] * ray) / RADIUS
    distance = np.where(ray[..., 2] < 0, (-RADIUS - centre[2]) / np.minimum(ray[..., 2], -1e-6), np.inf)
    floor = centre + np.minimum(distance, 1e3)[..., None] * ray
    hits_floor = np.linalg.norm(floor[..., :2], axis=-1) < 1.5
    stripes = 0.5 + 0.3 * np.sin(4.0 * floor[..., :1])
    colour = np.where(hits_floor[..., None], stripes * (1.0, 0.7, 0.3), (0.2, 0.4, 0.8))
    return np.where(hits_ball[..., None], 0.5 + 0.45 * normal, colour), hits_ball


def write_capture(root: Path, count: int = 16, alpha: bool = False, fine: int = 1) -> Path:
    """Write the capture in nerfstudio's layout.

    With ``alpha`` it is a bounded NeRF-synthetic set in which everything but the ball is transparent.
    """
    (root / "images").mkdir(parents=True)
    frames = []
    for index, pose in enumerate(poses(count)):
        colour, is_ball = picture(pose, fine)
        pixels = np.round(255.0 * colour).astype(np.uint8)
        if alpha:
            pixels = np.concatenate([pixels, np.uint8(255) * is_ball[..., None]], axis=-1)
        Image.fromarray(pixels).save(root / "images" / f"{index:02d}.png")
        matrix = [*pose.tolist(), [0, 0, 0, 1]]
        frames.append({"file_path": f"images/{index:02d}.png", "transform_matrix": matrix})
    if alpha:
        bounds = {"camera_angle_x": 2.0 * float(np.arctan(0.5 * WIDTH / FOCAL)), "near": 1.0, "far": 3.0}
        for split, chosen in (("test", frames[::8]), ("train", [f for f in frames if f not in frames[::8]])):
            (root / f"transforms_{split}.json").write_text(json.dumps({**bounds, "frames": chosen}))
        return root
    lens = {"w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2}
    lens = {name: fine * value for name, value in lens.items()}
    (root / "transforms.json").write_text(json.dumps({"camera_model": "PINHOLE", **lens, "frames": frames}))
    return root


def write_masks(root: Path, hidden: np.ndarray) -> None:
    """Give every photo a mask that is black where ``hidden`` (H, W)."""
    content = json.loads((root / "transforms.json").read_text())
    (root / "masks").mkdir(exist_ok=True)
    for frame in content["frames"]:
        frame["mask_path"] = frame["file_path"].replace("images", "masks")
        Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)).save(root / frame["mask_path"])
    (root / "transforms.json").write_text(json.dumps(content))


def make_capture(root: Path, count: int = 16, alpha: bool = False) -> Capture:
    return load_capture(write_capture(root, count, alpha))
