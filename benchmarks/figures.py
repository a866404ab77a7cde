"""Walking figures for captures of ``smerf synth``: where each photo shows one, by exact depth, and its colour."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from smerf.vision.figures import Capsule, draw, person

__all__ = ["Walk", "write_passers", "write_walkers"]

_PASSER_SHARE, _PASSER_HEIGHT, _PASSER_DISTANCE = 0.2, 1.7, 1.6


@dataclass(frozen=True)
class Walk:
    """Three figures of a ``height`` in metres on a ring of a ``radius`` around the origin at the level ``floor``.

    Without a radius they walk around whoever takes the photos, ``distance`` metres away.
    """

    height: float
    floor: float = 0.0
    radius: float | None = None
    distance: float = 2.0


@dataclass(frozen=True)
class _Photo:
    """One photo of a capture: where it lies, its pose (4, 4), and the ray (H, W, 3) of each pixel."""

    name: str
    image: Path
    depth: Path
    pose: np.ndarray
    rays: np.ndarray


def _draw(photo: _Photo, figures: list[list[Capsule]], behind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return colours (H, W, 3) of figures in a photo and where they are nearer than ``behind`` (H, W), in metres."""
    colour, number = draw(figures, photo.pose[:3, 3], photo.rays, behind)
    return colour, number >= 0


def _photos(capture: Path) -> list[_Photo]:
    """Return the training photos of a capture of ``smerf synth``; rays have a length of 1 along the optical axis."""
    record = json.loads((capture / "transforms.json").read_text())
    column, row = np.meshgrid(np.arange(record["w"]) + 0.5, np.arange(record["h"]) + 0.5)
    focal = record["fl_x"]
    local = np.stack([(column - record["cx"]) / focal, (record["cy"] - row) / focal, -np.ones_like(row)], -1)
    photos = []
    for frame in record["frames"]:
        if frame["file_path"] in record["train_filenames"]:
            pose = np.array(frame["transform_matrix"])
            image, depth = capture / frame["file_path"], capture / frame["depth_file_path"]
            photos.append(_Photo(frame["file_path"], image, depth, pose, local @ pose[:3, :3].T))
    return photos


def _clothes(random: np.random.Generator) -> np.ndarray:
    return random.uniform(0.08, 0.85, (2, 3))


def _walkers(photo: _Photo, index: int, walk: Walk, wardrobe: list[np.ndarray]) -> list[list[Capsule]]:
    """Return three figures as they stand when a photo is taken; each moves by half its height from photo to photo."""
    parts, place = [], photo.pose[:3, 3]
    for number, clothes in enumerate(wardrobe):
        reach = walk.distance if walk.radius is None else walk.radius
        angle = 2.1 * number + (1.0 if number % 2 else -1.0) * 0.5 * walk.height / reach * index
        centre = place if walk.radius is None else np.zeros(3)
        reach *= 1.0 + 0.25 * np.sin(1.3 * index + number)
        foot = np.array([centre[0] + reach * np.cos(angle), centre[1] + reach * np.sin(angle), walk.floor])
        parts.append(person(foot, angle + np.pi / 2, 1.9 * index + number, walk.height, clothes))
    return parts


def _passer(photo: _Photo, random: np.random.Generator) -> list[list[Capsule]]:
    """Return one figure in front of the camera, who covers most of the photo's height."""
    forward = -photo.pose[:3, 2] * [1.0, 1.0, 0.0]
    forward /= np.linalg.norm(forward)
    side = np.cross(forward, [0.0, 0.0, 1.0])
    middle = photo.pose[:3, 3] - photo.pose[:3, 2] * _PASSER_DISTANCE
    foot = middle + random.uniform(-0.5, 0.5) * side - [0.0, 0.0, 0.55 * _PASSER_HEIGHT]
    heading = np.arctan2(side[1], side[0])
    return [person(foot, heading, random.uniform(0, 6), _PASSER_HEIGHT, _clothes(random))]


def _copy(capture: Path, output: Path, hidden: dict[str, np.ndarray], colours: dict[str, np.ndarray]) -> None:
    """Write a capture with figures, and beside it (``output`` + ``-masked``) the same with their true masks."""
    masked = output.with_name(output.name + "-masked")
    for folder in (output, masked):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(capture, folder)
        for name, hit in hidden.items():
            pixels = np.array(Image.open(capture / name))
            pixels[hit] = np.round(255 * colours[name][hit].clip(0, 1))
            Image.fromarray(pixels).save(folder / name)
    (masked / "masks").mkdir()
    (output / "truth").mkdir()
    for name, hit in hidden.items():
        around = np.pad(hit, 1)
        rows, columns = hit.shape
        wide = np.any([around[i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=0)
        Image.fromarray(np.where(wide, 0, 255).astype(np.uint8)).save(masked / "masks" / Path(name).name)
        Image.fromarray(np.where(hit, 0, 255).astype(np.uint8)).save(output / "truth" / Path(name).name)


def write_walkers(capture: Path, output: Path, walk: Walk, seed: int = 0) -> float:
    """Write a capture with three walkers in its training photos, occluded by exact depth.

    ``output`` + ``-masked`` holds the same with true masks (dilated by a pixel); ``output/truth`` has them undilated.

    Returns:
        The share of all training pixels that show a walker.
    """
    random = np.random.default_rng(seed)
    wardrobe = [_clothes(random) for _ in range(3)]
    hidden, colours = {}, {}
    for index, photo in enumerate(_photos(capture)):
        depth = np.array(Image.open(photo.depth)).astype(float) / 1000.0
        behind = np.where(depth > 0, depth, np.inf)
        drawn = _draw(photo, _walkers(photo, index, walk, wardrobe), behind)
        colours[photo.name], hidden[photo.name] = drawn
    _copy(capture, output, hidden, colours)
    return float(np.mean([hit.mean() for hit in hidden.values()]))


def write_passers(capture: Path, output: Path, seed: int = 0) -> float:
    """Write a capture in which somebody stands before the camera in a fifth of the training photos.

    Files and result are as of ``write_walkers``.
    """
    random = np.random.default_rng(seed)
    photos = _photos(capture)
    met = set(random.permutation(len(photos))[: round(_PASSER_SHARE * len(photos))].tolist())
    hidden, colours = {}, {}
    for index, photo in enumerate(photos):
        figures = _passer(photo, random) if index in met else []
        drawn = _draw(photo, figures, np.full(photo.rays.shape[:2], np.inf))
        colours[photo.name], hidden[photo.name] = drawn
    _copy(capture, output, hidden, colours)
    return float(np.mean([hit.mean() for hit in hidden.values()]))
