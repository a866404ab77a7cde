"""The posed capture on disk: poses with +z up, intrinsics, points, exposure and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smerf.capture.types import Camera, Capture, Frame, Similarity
from smerf.capture.write import save_transforms
from smerf.prepare.frame_of_scene import choose_up, enu_metres, metric_scale, rotation_to_z
from smerf.prepare.intake import Photo
from smerf.prepare.model import Model

__all__ = ["Placement", "place", "write_capture"]

_FLIP = np.array([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Placement:
    """``written = scale * rotation @ model``: where the axes and the unit of the written capture come from."""

    rotation: np.ndarray
    scale: float
    up_source: str
    is_metric: bool


def place(model: Model, photos: Sequence[Photo], scale_from: str) -> Placement:
    """Choose the axes and the unit of a model."""
    up, source = choose_up(model.poses)
    scale = _gps_scale(model, photos) if scale_from == "gps" else None
    return Placement(rotation_to_z(up), 1.0 if scale is None else scale, source, scale is not None)


def _gps_scale(model: Model, photos: Sequence[Photo]) -> float | None:
    gps = {photo.name: photo.gps for photo in photos if photo.gps is not None}
    tagged = [index for index, name in enumerate(model.names) if name in gps]
    if not tagged:
        return None
    metres = enu_metres(np.array([gps[model.names[index]] for index in tagged]))
    return metric_scale(model.centres[tagged], metres)


def placed(model: Model, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Return camera-to-world poses (N, 3, 4) with OpenGL axes and points (P, 3), as they are written."""
    rotation = placement.rotation @ model.poses[:, :, :3] * _FLIP
    centres = placement.scale * model.centres @ placement.rotation.T
    points = placement.scale * model.points @ placement.rotation.T
    return np.concatenate([rotation, centres[:, :, None]], axis=2), points


def write_capture(
    folder: Path,
    model: Model,
    photos: Sequence[Photo],
    placement: Placement,
    total: int,
    *,
    masks: Path | None,
) -> None:
    """Write ``transforms.json``, ``sparse_pc.ply`` and ``sightings.npz`` beside the images of a prepared capture.

    Which photos are held out is left to who loads it.
    """
    known = {photo.name: photo for photo in photos}
    poses, points = placed(model, placement)
    order = sorted(range(len(model.names)), key=lambda index: model.names[index])
    frames = []
    for index in order:
        name = model.names[index]
        mask = None if masks is None else masks / f"{Path(name).stem}.png"
        frames.append(
            Frame(
                name=name,
                image_path=folder / "images" / name,
                camera=Camera(model.intrinsics_of(index), poses[index]),
                split="",
                mask_path=mask if mask is not None and mask.is_file() else None,
                exposure=known[name].exposure,
                sees=np.sort(model.seen_point[model.seen_image == index]),
            )
        )
    capture = Capture(
        root=folder,
        kind="nerfstudio",
        frames=tuple(frames),
        training_from_source=Similarity(),
        near=np.nan,
        far=np.inf,
        bounded=False,
        background=None,
        points=points,
    )
    extra = {
        "generator": "smerf prepare",
        "up_source": placement.up_source,
        "metric": placement.is_metric,
        "registered": len(frames),
        "total": total,
    }
    save_transforms(capture, folder / "transforms.json", extra=extra)
