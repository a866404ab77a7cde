"""Writing a capture as a nerfstudio ``transforms.json``, in the source space it came from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.downscale import scale_intrinsics
from smerf.capture.normalise import invert_pose
from smerf.capture.pixels import read_header
from smerf.capture.readers.ply import write_ply_points
from smerf.capture.readers.sightings import write_sightings
from smerf.capture.types import Capture, Frame, Intrinsics

__all__ = ["save_transforms"]

_POINTS, _SIGHTINGS = "sparse_pc.ply", "sightings.npz"
_DISTORTION = {
    "OPENCV": ("k1", "k2", "p1", "p2"),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
    "FULL_OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
}


def save_transforms(
    capture: Capture, path: str | os.PathLike[str], *, extra: dict[str, Any] | None = None
) -> None:
    """Write a capture as ``transforms.json``, everything mapped back to source space.

    Images are not copied: files are named relative to the JSON. Lenses are written for the files as they are,
    so that photos which the capture reduces in memory keep their own size. Sparse points go to
    ``sparse_pc.ply`` beside it, and which photo shows which to ``sightings.npz``. The JSON is written aside, then
    renamed.
    ``extra`` are further top-level keys; a near of NaN is left for the reader to choose.

    Raises:
        ValueError: If frames of different camera models are mixed, which the format cannot hold.
    """
    path = Path(path)
    similarity = capture.training_from_source
    stored = [_file_intrinsics(frame) for frame in capture.frames]
    models = {"PINHOLE" if not any(one.distortion) else one.model for one in stored}
    models = models - {"PINHOLE"} or models
    if len(models) > 1:
        raise ValueError(f"capture: expected one camera model, got {', '.join(sorted(models))}")
    model = models.pop()
    content: dict[str, Any] = {"camera_model": model}
    keys = [_intrinsics_keys(one, model) for one in stored]
    is_shared = all(entry == keys[0] for entry in keys)
    if is_shared:
        content |= keys[0]
    content |= extra or {}
    if not np.isnan(capture.near):
        content["near"] = capture.near / similarity.scale
    content["bounded"] = capture.bounded
    if np.isfinite(capture.far):
        content["far"] = capture.far / similarity.scale
    if any(frame.depth_path for frame in capture.frames):
        content["depth_unit_scale_factor"] = capture.frames[0].depth_scale / similarity.scale
    if len(capture.points):
        points = (capture.points - similarity.translation) @ similarity.rotation / similarity.scale
        write_ply_points(path.with_name(_POINTS), points)
        content["ply_file_path"] = _POINTS
        shown = {frame.name: frame.sees for frame in capture.frames if frame.sees is not None}
        if shown:
            write_sightings(path.with_name(_SIGHTINGS), shown)
            content["sightings_path"] = _SIGHTINGS
    content["frames"] = [
        _entry(
            frame,
            invert_pose(similarity, frame.camera.world_from_cam),
            path.parent,
            {} if is_shared else own,
        )
        for frame, own in zip(capture.frames, keys)
    ]
    for split in ("train", "test"):
        names = [_relative(frame.image_path, path.parent) for frame in capture.split(split)]
        if names:
            content[f"{split}_filenames"] = names
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(content, indent=2), encoding="utf-8")
    os.replace(aside, path)


def _file_intrinsics(frame: Frame) -> Intrinsics:
    intrinsics = frame.camera.intrinsics
    if frame.downscale == 1:
        return intrinsics
    width, height = read_header(frame.image_path).size
    if frame.orientation >= 5:
        width, height = height, width
    return scale_intrinsics(intrinsics, width, height, (frame.downscale, frame.downscale))


def _intrinsics_keys(intrinsics: Intrinsics, model: str) -> dict[str, float]:
    names = _DISTORTION.get(model, ())
    values = tuple(intrinsics.distortion) + (0.0,) * (len(names) - len(intrinsics.distortion))
    size = {
        "w": intrinsics.width,
        "h": intrinsics.height,
        "fl_x": intrinsics.fx,
        "fl_y": intrinsics.fy,
        "cx": intrinsics.cx,
        "cy": intrinsics.cy,
    }
    return size | dict(zip(names, values))


def _entry(frame: Frame, pose: np.ndarray, folder: Path, intrinsics: dict[str, float]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "file_path": _relative(frame.image_path, folder),
        "name": frame.name,
        "transform_matrix": [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]],
        **intrinsics,
    }
    if frame.mask_path is not None:
        entry["mask_path"] = _relative(frame.mask_path, folder)
    if frame.depth_path is not None:
        entry["depth_file_path"] = _relative(frame.depth_path, folder)
    if frame.exposure is not None:
        entry["exposure"] = frame.exposure
    return entry


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
