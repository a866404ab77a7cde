"""Photos that cannot work, stopped preparations and mixed names, for ``benchmarks.prepare_acceptance``."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import ROOT
from smerf.prepare.frame_of_scene import choose_up
from smerf.prepare.model import Model

__all__ = ["behaviour", "crops_of", "folded", "interrupted", "refusal", "reordered"]

STEPS = ("photos", "features", "pairs", "matches", "incremental mapper", "global mapper", "refine")
CROPS = 14


def crops_of(photo: Path, folder: Path) -> Path:
    """Write what a camera sees that rotates without moving: homographies of one photo, 320 x 240."""
    if folder.is_dir():
        return folder
    folder.mkdir(parents=True)
    with Image.open(photo) as stored:
        image = stored.convert("RGB")
    width, height, focal = *image.size, 0.7 * max(image.size)
    outside = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    inside = np.linalg.inv(np.array([[focal, 0, 160], [0, focal, 120], [0, 0, 1.0]]))
    for index in range(CROPS):
        a, b = np.radians(-14 + 28 * index / (CROPS - 1)), np.radians(3 * np.sin(index))
        yaw = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        pitch = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        back = outside @ yaw @ pitch @ inside
        data = (back / back[2, 2]).ravel()[:8]
        crop = image.transform((320, 240), Image.Transform.PERSPECTIVE, data, Image.Resampling.BICUBIC)
        crop.save(folder / f"view{index:02d}.jpg", quality=95)
    return folder


def folded(model: Model, count: int = 24) -> Model:
    """Lay the last photos of a round, and what they see, over the other side: half a turn about the middle.

    That is how mappers fold a building whose sides look alike: 24 of 100 photos of one, by 176 degrees.
    """
    up = choose_up(model.poses)[0]
    turn = 2 * np.outer(up, up) - np.eye(3)
    middle = model.centres.mean(axis=0)
    is_moved = np.arange(len(model.names)) >= len(model.names) - count
    poses = model.poses.copy()
    poses[is_moved, :, :3] = turn @ poses[is_moved, :, :3]
    poses[is_moved, :, 3] = (poses[is_moved, :, 3] - middle) @ turn.T + middle
    copied = np.unique(model.seen_point[is_moved[model.seen_image]])
    number = np.full(len(model.points), -1)
    number[copied] = len(model.points) + np.arange(len(copied))
    return replace(
        model,
        poses=poses,
        points=np.concatenate([model.points, (model.points[copied] - middle) @ turn.T + middle]),
        errors=np.concatenate([model.errors, model.errors[copied]]),
        seen_point=np.where(is_moved[model.seen_image], number[model.seen_point], model.seen_point),
    )


def reordered(photos: Path, data: Path, folder: Path) -> tuple[Path, Path]:
    """Copy photos under names in random order; return their folder and a capture of the same names with the poses."""
    given = folder / "given"
    content = json.loads((data / "transforms.json").read_text())
    stems = [Path(frame["file_path"]).stem for frame in content["frames"]]
    mixed = random.Random(0).sample(range(len(stems)), len(stems))
    new = {stem: f"photo{number:03d}" for stem, number in zip(stems, mixed)}
    for key in [key for key in content if key.endswith("_filenames")]:
        del content[key]
    (given / "images").mkdir(parents=True, exist_ok=True)
    for frame in content["frames"]:
        file = next(photos.glob(f"{Path(frame['file_path']).stem}.*"))
        name = new[file.stem] + file.suffix
        shutil.copyfile(file, given / "images" / name)
        for key in ("name", "mask_path", "depth_file_path"):
            frame.pop(key, None)
        frame["file_path"] = f"images/{name}"
    (given / "transforms.json").write_text(json.dumps(content))
    return given / "images", given


def _command(*words: object) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return [sys.executable, "-m", *map(str, words)], environment


def refusal(photos: Path, folder: Path, sentence: str) -> dict[str, Any]:
    """Prepare photos that cannot work; return exit code, seconds, and whether the sentence is said, no traceback."""
    shutil.rmtree(folder, ignore_errors=True)
    command, environment = _command("smerf", "prepare", photos, "-o", folder, "--quiet")
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    record = json.loads((folder / "prepare" / "prepare.json").read_text())
    says = sentence in done.stderr and "Traceback" not in done.stderr
    return {
        "exit": done.returncode,
        "says": says,
        "seconds": seconds,
        "cpu_seconds": record["cpu_seconds"],
        "findings": [finding["kind"] for finding in record["verdict"]["findings"]],
        "passes": done.returncode == 4 and says,
    }


def interrupted(photos: Path, folder: Path) -> dict[str, Any]:
    """Prepare photos with Ctrl-C at the beginning of each step, and then to the end; return how each stop went."""
    stops: list[dict[str, Any]] = []
    for step in STEPS:
        command, environment = _command("smerf", "prepare", photos, "-o", folder)
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        is_there = any(line.startswith(f"prepare: {step}: begins") for line in process.stderr)
        began = time.perf_counter()
        if is_there:
            process.send_signal(signal.SIGINT)
        process.stderr.read()
        code = process.wait()
        if is_there:
            stops.append({"step": step, "exit": code, "seconds": time.perf_counter() - began})
    command, environment = _command("smerf", "prepare", photos, "-o", folder, "--quiet")
    subprocess.run(command, env=environment, check=True)
    return {"steps": stops, "slowest_stop": max(stop["seconds"] for stop in stops)}


def behaviour(tests: str, chosen: str = "") -> dict[str, Any]:
    """Run tests of the project; return how many passed."""
    command, environment = _command("pytest", "-q", "-p", "no:cacheprovider", ROOT / tests, "-k", chosen)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    summary = (done.stdout.strip().splitlines() or [""])[-1]
    return {"tests": tests, "summary": summary, "passes": done.returncode == 0}
