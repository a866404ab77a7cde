"""Gather the evidence of a run for its diagnosis: photos, small renderings at their cameras, surfaces, sizes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from smerf.engine.files import read_json
from smerf.evaluation.diagnosis import (
    EXTRAPOLATION_DEGREES,
    THRESHOLDS,
    Evidence,
    PhotoEvidence,
    diagnose,
    is_extrapolated,
)
from smerf.evaluation.loss import mean_psnr, stage_changes, stage_fractions, view_psnr

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from smerf.capture.types import Camera, Frame
    from smerf.pipeline.job import Job
    from smerf.pipeline.renderers import Render

__all__ = ["bytes_by_part", "choose_checked", "diagnose_run"]

_MAX_PHOTOS = 400
"""Photos that are read; of more, every n-th."""
_MAX_RENDERED = 24
"""Photos of each split that are rendered."""
_SIDE, _FREE_SIDE = 96, 48
"""Longer side in pixels of what is rendered at photos and in free views."""
_SEED = 0
_NEIGHBOURS, _QUANTILE = 8, 0.7
_PARTS = {
    "sparse_grid": "voxel blocks",
    "plane": "planes",
    "occupancy": "occupancy and distance",
    "distance": "occupancy and distance",
}


def diagnose_run(job: Job, measured: Mapping[str, Mapping[str, Any]], render: Render) -> dict[str, Any]:
    """Diagnose a run and return what ``metrics.json`` says under ``diagnosis``.

    Args:
        job: The run.
        measured: Summary of each measured stage, in the stages' order.
        render: Renders the last of them.
    """
    began = time.monotonic()
    frames = job.capture.frames
    photos = _photos(job, render)
    held_out, training = job.capture.split("test"), job.capture.split("train")
    views = _views(held_out, training)
    psnr = {stage: mean_psnr(summary) for stage, summary in measured.items()}
    unsupported, floaters = _free_views(job, training)
    evidence = Evidence(
        photos=photos,
        psnr=psnr,
        held_out_degrees={name: view["degrees"] for name, view in views.items()},
        unsupported=unsupported,
        floaters=floaters,
        **_sizes(frames),
        settings=_settings(job),
    )
    last = list(measured.values())[-1]
    return {
        **diagnose(evidence).to_json(),
        "loss": {"psnr": psnr, "changes_db": stage_changes(psnr), "fractions": stage_fractions(psnr)},
        "views": views,
        "by_kind": _by_kind(views, last.get("per_image", {})),
        "photos": {name: _known(photo) for name, photo in photos.items()},
        "unsupported": unsupported,
        "floaters": floaters,
        "file_size": evidence.file_size,
        "used_size": evidence.used_size,
        "bytes": bytes_by_part(job.run.folder("baked")),
        "protocol": _protocol(photos),
        "seconds": time.monotonic() - began,
    }


def choose_checked(scores: np.ndarray, count: int, seed: int = _SEED) -> list[int]:
    """Choose which photos are rendered: for each score the ``count // 4`` largest, the rest at random; ascending.

    Args:
        scores: What makes a photo suspect, shape (photos, scores).
        count: How many to choose, at most.
        seed: Random seed.
    """
    if len(scores) <= count:
        return list(range(len(scores)))
    chosen = {int(i) for column in scores.T for i in np.argsort(-column, kind="stable")[: count // 4]}
    rest = np.random.default_rng(seed).permutation([i for i in range(len(scores)) if i not in chosen])
    return sorted([*chosen, *(int(i) for i in rest[: count - len(chosen)])])


def bytes_by_part(baked: Path) -> dict[str, int]:
    """Return the bytes of a baked scene's files by what they hold, the largest first; empty without a manifest."""
    from smerf.scene.layout import COARSE_FOLDER

    manifest = baked / "manifest.json"
    parts: dict[str, int] = {}
    for name, entry in (read_json(manifest).get("files", {}) if manifest.is_file() else {}).items():
        file = name.rsplit("/", 1)[-1]
        part = next((part for start, part in _PARTS.items() if file.startswith(start)), "parameters")
        part = "coarse level" if f"/{COARSE_FOLDER}/" in name else part
        parts[part] = parts.get(part, 0) + int(entry["bytes"])
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def _photos(job: Job, render: Render) -> dict[str, PhotoEvidence]:
    """Measure the photos, and a sample of them against what is rendered at their cameras."""
    from smerf.capture import load_composited
    from smerf.evaluation import photos
    from smerf.evaluation.coverage import pose_distances

    frames = _every_nth(job.capture.frames, _MAX_PHOTOS)
    read = (load_composited(frame, job.capture.background) for frame in frames)
    measures = [(photos.sharpness(p), photos.brightness(p), photos.thumbnail(p)) for p in read]
    sharp, bright = (np.array([m[i] for m in measures]) for i in (0, 1))
    alike = photos.appearance_neighbours(np.stack([m[2] for m in measures]), _NEIGHBOURS)
    cameras = [frame.camera for frame in frames]
    degrees, distances = pose_distances(cameras, cameras)
    has_typical = alike.shape[1] == _NEIGHBOURS
    relative = photos.relative_to_neighbours(sharp, alike, _QUANTILE) if has_typical else None
    scores = np.zeros((len(frames), 2))
    if has_typical:
        looks = np.take_along_axis(degrees, alike[:, : _NEIGHBOURS // 2], 1).min(1)
        scores = np.stack([looks, np.abs(bright - np.median(bright[alike], axis=1))], axis=1)
    compared = _compared(job, frames, scores, render)
    nearest = _nearest(distances), _nearest(degrees)
    scale = max(float(np.median(nearest[0])), 1e-9)
    return {
        frame.name: PhotoEvidence(
            frame.split,
            relative_sharpness=None if relative is None else float(relative[i]),
            **compared.get(frame.name, {}),
            neighbour_distance=float(nearest[0][i]) / scale,
            neighbour_degrees=float(nearest[1][i]),
        )
        for i, frame in enumerate(frames)
    }


def _compared(
    job: Job, frames: Sequence[Frame], scores: np.ndarray, render: Render
) -> dict[str, dict[str, Any]]:
    """Return the gain, the residual and the matches of a sample of each split, by the photo's name."""
    from smerf.evaluation.photos import thumbnail

    found: dict[str, dict[str, Any]] = {}
    pairs = []
    for split in ("train", "test"):
        own = [i for i, frame in enumerate(frames) if frame.split == split]
        for chosen in choose_checked(scores[own], _MAX_RENDERED):
            frame = frames[own[chosen]]
            photo, mask, rendered = _pair(job, frame, render)
            found[frame.name] = _comparison(photo, rendered, mask)
            pairs.append((thumbnail(photo), thumbnail(rendered)))
    matches = np.array([pair[0] for pair in pairs]) @ np.array([pair[1] for pair in pairs]).T
    matches /= len(pairs[0][0])
    others = -_nearest(-matches)
    for facts, match, other in zip(found.values(), matches.diagonal(), others):
        facts |= {"match": float(match), "other_match": float(other)}
    return found


def _pair(job: Job, frame: Frame, render: Render) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return a photo, its mask and what is rendered at its camera, all small."""
    from smerf.capture import load_composited, load_mask
    from smerf.evaluation.coverage import reduce_camera
    from smerf.evaluation.photos import shrink, shrink_mask

    camera = reduce_camera(frame.camera, _SIDE)
    size = (camera.intrinsics.height, camera.intrinsics.width)
    mask = load_mask(frame)
    return (
        shrink(load_composited(frame, job.capture.background), size),
        None if mask is None else shrink_mask(mask, size),
        np.asarray(render(camera), np.float32),
    )


def _comparison(photo: np.ndarray, rendered: np.ndarray, mask: np.ndarray | None) -> dict[str, Any]:
    from smerf.evaluation.photos import brightness_gain, residual_psnr

    if mask is not None and not mask.any():
        return {}
    return {
        "gain_stops": brightness_gain(photo, rendered, mask),
        "residual_db": residual_psnr(photo, rendered, mask),
    }


def _views(held_out: Sequence[Frame], training: Sequence[Frame]) -> dict[str, dict[str, Any]]:
    from smerf.evaluation.coverage import nearest_views

    degrees, distances = nearest_views([f.camera for f in held_out], [f.camera for f in training])
    return {
        frame.name: {
            "degrees": round(float(angle), 2),
            "distance": round(float(distance), 4),
            "kind": "extrapolation" if is_extrapolated(float(angle)) else "interpolation",
        }
        for frame, angle, distance in zip(held_out, degrees, distances)
    }


def _by_kind(
    views: Mapping[str, Mapping[str, Any]], figures: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return the mean PSNR and the number of interpolated and of extrapolated views, of those that were measured."""
    values: dict[str, list[float]] = {}
    for name, own in figures.items():
        if name in views:
            values.setdefault(views[name]["kind"], []).append(view_psnr(own))
    return {
        kind: {"psnr": float(np.mean(own)), "num_images": len(own)} for kind, own in sorted(values.items())
    }


def _free_views(job: Job, training: Sequence[Frame]) -> tuple[dict[str, float], dict[str, float]]:
    """Return how much of the start view and of free views is unsupported, and how much floats before the camera."""
    from smerf.evaluation.coverage import count_supporting, free_views, nearest_views, reduce_camera

    start = _start(job)
    if start is None or not (job.run.folder("teacher") / "done.json").is_file():
        return {}, {}
    cameras = [frame.camera for frame in _every_nth(training, _MAX_PHOTOS)]
    surfaces = _Surfaces(job)
    near = min(
        float(np.quantile(distance, 0.02)) if len(distance) else np.inf
        for camera in cameras[:: max(1, len(cameras) // 8)]
        for _, distance in [surfaces(reduce_camera(camera, _FREE_SIDE))]
    )
    step = float(np.median(nearest_views([start], cameras)[1])) or near
    centres = np.stack([camera.world_from_cam[:, 3] for camera in cameras])
    step = max(step, 0.5 * float(np.median(np.linalg.norm(centres - centres.mean(0), axis=1))))
    views = {"start": start} | free_views(
        start.world_from_cam, step, reduce_camera(start, _FREE_SIDE).intrinsics
    )
    unsupported, floaters = {}, {}
    for name, view in views.items():
        camera = reduce_camera(view, _FREE_SIDE)
        points, distance = surfaces(camera)
        pixels = camera.intrinsics.width * camera.intrinsics.height
        lonely = count_supporting(points, cameras) < 2
        unsupported[name] = round(float(lonely.sum()) / pixels, 4)
        if name != "start":
            floaters[name] = round(float((lonely & (distance < 0.5 * near)).sum()) / pixels, 4)
    return unsupported, floaters


class _Surfaces:
    """The run's teacher as a function from a camera to the surface points that it meets."""

    def __init__(self, job: Job) -> None:
        from smerf.teacher import load_teacher

        teacher = load_teacher(job.run.folder("teacher"))
        self.teacher, self.device = teacher if job.device == "cpu" else teacher.to(job.device), job.device

    def __call__(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Return the points (P, 3) and distances (P,) at which rays have lost half of their light, of those that do."""
        import torch

        from smerf.fields.ray_bank import camera_rays

        rays = camera_rays(camera).to(self.device)
        answer = self.teacher.query(rays)
        passed = answer.weights.cumsum(-1)
        is_met = passed[:, -1] > 0.5
        index = torch.argmax((passed > 0.5).int(), dim=-1, keepdim=True)
        middle = 0.5 * (answer.edges[:, 1:] + answer.edges[:, :-1])
        distance = middle.gather(1, index)[is_met]
        points = rays.origins[is_met] + distance * rays.directions[is_met]
        return points.double().cpu().numpy(), distance[:, 0].double().cpu().numpy()


def _start(job: Job) -> Camera | None:
    """Return where the page opens, at the shape of the first photo."""
    from dataclasses import replace

    from smerf.scene.manifest import read_manifest

    baked = job.run.folder("baked")
    start = read_manifest(baked).start if (baked / "manifest.json").is_file() else None
    if start is None:
        return None
    intrinsics = job.capture.frames[0].camera.intrinsics
    focal = 0.5 * intrinsics.height / np.tan(np.radians(0.5 * start.fov_degrees))
    plain = replace(
        intrinsics, model="PINHOLE", distortion=(), fx=focal, fy=focal,
        cx=0.5 * intrinsics.width, cy=0.5 * intrinsics.height,
    )  # fmt: skip
    return replace(job.capture.frames[0].camera, intrinsics=plain, world_from_cam=start.world_from_cam)


def _sizes(frames: Sequence[Frame]) -> dict[str, tuple[int, int]]:
    largest = max(frames, key=lambda frame: frame.camera.intrinsics.width * frame.camera.intrinsics.height)
    used = (largest.camera.intrinsics.width, largest.camera.intrinsics.height)
    return {"file_size": (used[0] * largest.downscale, used[1] * largest.downscale), "used_size": used}


def _settings(job: Job) -> dict[str, Any]:
    teacher = job.config.teacher
    has_tags = len({frame.exposure for frame in job.capture.frames if frame.exposure is not None}) > 1
    return {
        "teacher.appearance": teacher.appearance,
        "teacher.exposure": teacher.exposure,
        "teacher.refine_cameras": teacher.refine_cameras,
        "has_exposure_tags": has_tags,
    }


def _protocol(photos: Mapping[str, PhotoEvidence]) -> dict[str, Any]:
    compared = [photo.split for photo in photos.values() if photo.residual_db is not None]
    return {
        "photos_read": len(photos),
        "photos_rendered": {split: compared.count(split) for split in ("train", "test")},
        "rendered_side": _SIDE,
        "sample": f"suspects first, the others at random, seed {_SEED}",
        "sharpness": "variance of the Laplacian over the variance, at the trained size, over the "
        f"{_QUANTILE:g} quantile of the {_NEIGHBOURS} most similar photos",
        "gain": "median log2 ratio of linear luma, photo over rendered",
        "residual": "PSNR after the median gain of each channel",
        "match": "correlation of 16x12 thumbnails with the rendered image of this and of every other camera",
        "supported": "surface point within the frame of at least 2 training photos; occlusion is ignored",
        "extrapolation_degrees": EXTRAPOLATION_DEGREES,
        "thresholds": THRESHOLDS,
    }


def _known(photo: PhotoEvidence) -> dict[str, Any]:
    """Return what was measured of a photo, rounded."""
    return {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in vars(photo).items()
        if value is not None
    }


def _nearest(matrix: np.ndarray) -> np.ndarray:
    """Return the smallest value of each row of a square matrix beside the diagonal; 0 for a single row."""
    if len(matrix) < 2:
        return np.zeros(len(matrix))
    others: np.ndarray = np.where(np.eye(len(matrix), dtype=bool), np.inf, matrix).min(1)
    return others


def _every_nth(frames: Sequence[Frame], count: int) -> tuple[Frame, ...]:
    return tuple(frames[:: -(-len(frames) // count)]) if frames else ()
