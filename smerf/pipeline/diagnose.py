"""Gather the evidence of a run for its diagnosis: photos, small renderings at their cameras, surfaces, sizes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from smerf.engine.files import read_json
from smerf.engine.folder import EXPOSURES
from smerf.evaluation.diagnosis import diagnose, is_extrapolated
from smerf.evaluation.evidence import EXTRAPOLATION_DEGREES, THRESHOLDS, Evidence, PhotoEvidence
from smerf.evaluation.loss import mean_psnr, stage_changes, stage_fractions, view_psnr
from smerf.pipeline.asset import rendered_from
from smerf.pipeline.photo_evidence import MAX_PHOTOS, PHOTO_PROTOCOL, every_nth, photo_evidence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from smerf.capture.types import Camera, Frame
    from smerf.pipeline.job import Job
    from smerf.pipeline.photo_evidence import Surfaces
    from smerf.pipeline.renderers import Render

__all__ = ["bytes_by_part", "diagnose_run"]

_FREE_SIDE = 48
"""Longer side in pixels of what is rendered in free views."""
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
    has_teacher = (job.run.folder("teacher") / "done.json").is_file()
    surfaces = _Surfaces(job) if has_teacher else None
    photos = photo_evidence(job.masked_capture, render, surfaces)
    held_out, training = job.capture.split("test"), job.capture.split("train")
    views = _views(held_out, training)
    psnr = {stage: mean_psnr(summary) for stage, summary in measured.items()}
    unsupported, floaters, known = _free_views(job, training, surfaces)
    evidence = Evidence(
        photos=photos,
        psnr=psnr,
        held_out_degrees={name: view["degrees"] for name, view in views.items()},
        unsupported=unsupported,
        floaters=floaters,
        is_rendered=rendered_from(job.capture.root) is not None,
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
        "known": known,
        "file_size": evidence.file_size,
        "used_size": evidence.used_size,
        "bytes": bytes_by_part(job.run.folder("baked")),
        "protocol": _protocol(photos),
        "seconds": time.monotonic() - began,
    }


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


def _free_views(
    job: Job, training: Sequence[Frame], surfaces: Surfaces | None
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Return how much of the start view and of free views is unsupported, floats before the camera, and is known.

    The last is what the baked scene's known region says, of which the rest fades.
    """
    from smerf.evaluation.coverage import count_supporting, free_views, nearest_views, reduce_camera

    start = _start(job)
    if start is None or surfaces is None:
        return {}, {}, {}
    cameras = [frame.camera for frame in every_nth(training, MAX_PHOTOS)]
    near = min(
        float(np.quantile(distance, 0.02)) if len(distance) else np.inf
        for camera in cameras[:: max(1, len(cameras) // 8)]
        for _, distance, _ in [surfaces(reduce_camera(camera, _FREE_SIDE))]
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
        points, distance, _ = surfaces(camera)
        pixels = camera.intrinsics.width * camera.intrinsics.height
        lonely = count_supporting(points, cameras) < 2
        unsupported[name] = round(float(lonely.sum()) / pixels, 4)
        if name != "start":
            floaters[name] = round(float((lonely & (distance < 0.5 * near)).sum()) / pixels, 4)
    return unsupported, floaters, _known_shares(job, views)


def _known_shares(job: Job, views: Mapping[str, Camera]) -> dict[str, float]:
    """Return the share of each view that the baked scene's photos support, where it says so."""
    from smerf.baking.starts import known_share
    from smerf.evaluation.coverage import reduce_camera
    from smerf.scene.read import load_scene

    scene = load_scene(job.run.folder("baked"), cache_size=1)
    if scene.manifest.region is None:
        return {}
    small = {name: reduce_camera(view, _FREE_SIDE) for name, view in views.items()}
    return {name: round(float(known_share(scene, view).mean()), 4) for name, view in small.items()}


class _Surfaces:
    """The run's teacher as a function from a camera to the surface points that it meets."""

    def __init__(self, job: Job) -> None:
        import torch

        from smerf.teacher import load_teacher

        teacher = load_teacher(job.run.folder("teacher"))
        self.teacher, self.device = teacher, job.device
        if isinstance(teacher, torch.nn.Module):
            self.teacher = teacher.to(job.device)

    def __call__(self, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where rays have lost half of their light, and which do: ``Surfaces`` says in which form."""
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
        return points.double().cpu().numpy(), distance[:, 0].double().cpu().numpy(), is_met.cpu().numpy()


def _start(job: Job) -> Camera | None:
    """Return where the page opens, at the shape of the first photo."""
    from dataclasses import replace

    from smerf.scene.manifest import StartCamera, read_manifest
    from smerf.scene.region import choose_start

    baked = job.run.folder("baked")
    if not (baked / "manifest.json").is_file():
        return None
    manifest = read_manifest(baked)
    intrinsics = job.capture.frames[0].camera.intrinsics
    start = manifest.start
    if manifest.region is not None:
        covered = choose_start(manifest.region, intrinsics.width / intrinsics.height)
        start = start if covered is None else StartCamera(*covered)
    if start is None:
        return None
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
        "is_evened": (job.run.folder("teacher") / EXPOSURES).is_file(),
    }


def _protocol(photos: Mapping[str, PhotoEvidence]) -> dict[str, Any]:
    compared = [photo.split for photo in photos.values() if photo.residual_db is not None]
    return {
        "photos_read": len(photos),
        "photos_rendered": {split: compared.count(split) for split in ("train", "test")},
        **PHOTO_PROTOCOL,
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
