"""The capture on disk: nerfstudio's ``transforms.json`` with images, depth, masks and camera paths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smerf.capture.synth.describe import SceneSpec
from smerf.capture.synth.render import Lens, View
from smerf.capture.synth.rigs import camera_path

__all__ = ["DEPTH_UNIT", "TEST_EVERY", "frame_name", "write_transforms", "write_view"]

DEPTH_UNIT = 1e-3  # metres per step of the 16-bit depth images, which is what nerfstudio assumes
TEST_EVERY = 8


def frame_name(index: int) -> str:
    """Return the file name of a frame, the same in ``images``, ``depth`` and ``instances``."""
    return f"frame_{index:05d}.png"


def write_view(output: Path, index: int, view: View) -> None:
    """Write one frame's three PNG files. Depth beyond 65.535 m is stored as 0, unknown."""
    from PIL import Image

    steps = np.round(view.depth / DEPTH_UNIT)
    depth = np.where(steps <= 65535, steps, 0).astype(np.uint16)
    for folder, pixels in (("images", view.rgb), ("depth", depth), ("instances", view.instances)):
        (output / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(output / folder / frame_name(index), compress_level=4)


def write_transforms(
    output: Path, spec: SceneSpec, instances: Sequence[str], poses: np.ndarray, lens: Lens, seed: int
) -> Path:
    """Write ``transforms.json`` and ``paths/*.json``; every eighth frame, from the fifth on, is held out."""
    names = [frame_name(index) for index in range(len(poses))]
    # With few views the fifth does not exist: the middle one is held out instead.
    first = min(TEST_EVERY // 2, len(names) // 2)
    held_out = set(range(first, len(names), TEST_EVERY))
    document = {
        "camera_model": "PINHOLE",
        "fl_x": lens.focal,
        "fl_y": lens.focal,
        "cx": lens.width / 2,
        "cy": lens.height / 2,
        "w": lens.width,
        "h": lens.height,
        "generator": "smerf synth",
        "scene": spec.name,
        "title": spec.title,
        "seed": seed,
        "units": "metres",
        "near": spec.near,
        "far": spec.far,
        "bounded": spec.bounded,
        "depth_unit_scale_factor": DEPTH_UNIT,
        "depth_kind": "z",
        "instances": {str(number): name for number, name in enumerate(["background", *instances])},
        "train_filenames": [f"images/{name}" for i, name in enumerate(names) if i not in held_out],
        "test_filenames": [f"images/{name}" for i, name in enumerate(names) if i in held_out],
        "frames": [
            {
                "file_path": f"images/{name}",
                "depth_file_path": f"depth/{name}",
                "instance_path": f"instances/{name}",
                "transform_matrix": pose.tolist(),
            }
            for name, pose in zip(names, poses)
        ],
    }
    for name, rig in spec.paths.items():
        path = output / "paths" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(camera_path(rig, lens.width, lens.height)), encoding="utf-8")
    path = output / "transforms.json"
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return path
