"""Parts ``teacher``, ``student``, ``bake`` and ``render``: real captures, for a stated number of minutes."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import HeldOut
from benchmarks.gpu_suite.common import NotHereError, Suite, median_seconds
from smerf.capture import load_capture
from smerf.capture.types import Camera, Capture

__all__ = ["run_bake", "run_render", "run_student", "run_teacher"]

_PROBE = 20
_FRAME = (1920, 1080)


def _capture(suite: Suite, scene: str) -> Capture:
    folder = (suite.data or Path()) / scene
    if suite.data is None or not folder.is_dir():
        raise NotHereError(
            f"{folder}: is not there; --data names the folder that holds {', '.join(suite.scenes)}"
        )
    return load_capture(folder)


def _each_scene(suite: Suite, part: str, work) -> None:
    """Do the scenes one by one; one that fails does not keep the others back."""
    suite.require_gpu()
    bad = []
    for scene in suite.scenes:
        try:
            work(suite, scene, _capture(suite, scene))
        except Exception as error:
            suite.add(f"{part}/{scene}", error=f"{type(error).__name__}: {error}")
            bad.append(scene)
        torch.cuda.empty_cache()
    if bad:
        raise RuntimeError(f"{part} failed on {', '.join(bad)}")


def _train(trainer, suite: Suite, most: int, curve) -> tuple[int, float, list[dict]]:
    """Train for the stated minutes: probe the speed, set the schedule's length, go on to its end.

    Returns the steps, the seconds without measuring, and what ``curve()`` gave at quarters.
    """

    def steps(count: int) -> float:
        torch.cuda.synchronize(suite.device)
        began = time.perf_counter()
        for _ in range(count):
            trainer.advance()
        torch.cuda.synchronize(suite.device)
        return time.perf_counter() - began

    spent = steps(_PROBE)
    per_step = steps(_PROBE) / _PROBE
    spent += per_step * _PROBE
    total = int(min(most, max(4 * _PROBE, (60.0 * suite.minutes - spent) / per_step)))
    trainer.schedule = trainer.schedule.ending_at(total, trainer.step)
    points = []
    for quarter in (1, 2, 3, 4):
        spent += steps(max(0, total * quarter // 4 - trainer.step))
        points.append({"seconds": spent, "step": trainer.step, **curve()})
    return total, spent, points


def _train_teacher(suite: Suite, scene: str, capture: Capture) -> None:
    from smerf.teacher import resolve_config, save_teacher
    from smerf.teacher.config import PRESETS
    from smerf.teacher.trainer import TeacherTrainer

    config = resolve_config(PRESETS[suite.preset], capture, "cuda", 1)
    torch.cuda.reset_peak_memory_stats(suite.device)
    trainer, views = TeacherTrainer(capture, config, str(suite.device)), HeldOut(capture)
    total, seconds, points = _train(
        trainer, suite, config.steps, lambda: {"psnr": views.psnr(views.render(trainer.model.render_image))}
    )
    suite.add(
        f"teacher/{scene}",
        preset=suite.preset,
        minutes=seconds / 60.0,
        steps=total,
        rays_per_second=config.rays * trainer.step / seconds,
        step_ms=1e3 * seconds / trainer.step,
        psnr=points[-1]["psnr"],
        peak_gpu_mb=torch.cuda.max_memory_allocated(suite.device) / 2**20,
        curve=points,
    )
    save_teacher(trainer.model, suite.work / scene / "teacher")


def _train_student(suite: Suite, scene: str, capture: Capture) -> None:
    from smerf.student import save_student
    from smerf.student.config import PRESETS
    from smerf.student.plan import resolve_config
    from smerf.student.trainer import StudentTrainer
    from smerf.teacher import load_teacher

    torch.cuda.reset_peak_memory_stats(suite.device)
    teacher = load_teacher(suite.work / scene / "teacher")
    config = resolve_config(PRESETS[suite.preset], teacher, capture, suite.device)
    trainer = StudentTrainer(teacher, capture, config, suite.device)
    began = time.perf_counter()
    trainer.prepare()
    torch.cuda.synchronize(suite.device)
    prepared = time.perf_counter() - began
    views = HeldOut(capture)
    taught = views.render(trainer.teacher.render_image)

    def curve() -> dict:
        images = views.render(trainer.student.render_image)
        return {"psnr": views.psnr(images), "psnr_to_teacher": views.psnr(images, taught)}

    total, seconds, points = _train(trainer, suite, config.steps, curve)
    began = time.perf_counter()
    trainer.finish()
    torch.cuda.synchronize(suite.device)
    suite.add(
        f"student/{scene}",
        preset=suite.preset,
        minutes=seconds / 60.0,
        prepare_seconds=prepared,
        finish_seconds=time.perf_counter() - began,
        steps=total,
        rays_per_second=config.rays * trainer.step / seconds,
        step_ms=1e3 * seconds / trainer.step,
        psnr=points[-1]["psnr"],
        psnr_to_teacher=points[-1]["psnr_to_teacher"],
        peak_gpu_mb=torch.cuda.max_memory_allocated(suite.device) / 2**20,
        curve=points,
    )
    save_student(trainer.student, suite.work / scene / "student")


def _bake(suite: Suite, scene: str, capture: Capture) -> None:
    from smerf.baking import BakeConfig, bake
    from smerf.student import load_student

    folder = suite.work / scene / "baked"
    student = load_student(suite.work / scene / "student")
    began = time.perf_counter()
    # Raw arrays: what is timed is the baking, not the compression of pictures.
    bake(student, capture, BakeConfig(array_format="raw"), folder=folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    suite.add(
        f"bake/{scene}",
        seconds=time.perf_counter() - began,
        plane_resolution=student.config.plane_resolution,
        voxel_resolution=student.config.voxel_resolution,
        megabytes=size / 1e6,
    )


def _large(camera: Camera) -> Camera:
    """Return the camera with a frame of 1920 x 1080 and the same vertical field of view."""
    lens, (width, height) = camera.intrinsics, _FRAME
    focal = lens.fy * height / lens.height
    wide = replace(
        lens, model="PINHOLE", width=width, height=height, fx=focal, fy=focal, cx=width / 2, cy=height / 2,
        distortion=(),
    )  # fmt: skip
    return replace(camera, intrinsics=wide)


def _render(suite: Suite, scene: str, capture: Capture) -> None:
    from smerf.render.march import DeviceRenderer, render_camera
    from smerf.scene import load_scene

    baked = load_scene(suite.work / scene / "baked")
    renderer = DeviceRenderer(baked, suite.device)
    views = HeldOut(capture)
    view = views.cameras[0]
    gap = np.abs(renderer.render(view) - render_camera(baked, view)).max(-1)
    large = _large(view)
    k = baked.params.choose_submodel(large.world_from_cam[:, 3])
    rays = renderer.rays(large, k)
    march, spread = median_seconds(partial(renderer.march, large, *rays, k), suite.device, suite.repeats)
    whole, _ = median_seconds(partial(renderer.render, large), suite.device, max(3, suite.repeats // 4))
    suite.add(
        f"render/{scene}",
        width=large.intrinsics.width,
        height=large.intrinsics.height,
        median_ms=1e3 * march,
        spread_ms=1e3 * spread,
        frames_per_second=1.0 / march,
        with_rays_and_transfer_ms=1e3 * whole,
        psnr=views.psnr(views.render(renderer.render)),
        pixels_within_2_of_255_of_cpu=float((gap <= 2.0 / 255.0).mean()),
    )
    if (gap <= 2.0 / 255.0).mean() < 0.999:
        raise RuntimeError("the frame differs from the CPU renderer's")


def run_teacher(suite: Suite) -> None:
    """Train each scene's teacher."""
    _each_scene(suite, "teacher", _train_teacher)


def run_student(suite: Suite) -> None:
    """Distil each scene's teacher, which an earlier run may have left."""
    _each_scene(suite, "student", _train_student)


def run_bake(suite: Suite) -> None:
    """Bake each scene's student."""
    _each_scene(suite, "bake", _bake)


def run_render(suite: Suite) -> None:
    """Draw each baked scene at 1920 x 1080."""
    _each_scene(suite, "render", _render)
