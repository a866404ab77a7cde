"""Walking figures for captures of ``smerf synth``: where each photo shows one, with exact depth, and in which colour.

A figure is made of capsules in metres, z up. Ray and capsule meet in closed form.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["Walk", "write_passers", "write_walkers"]

_LIGHT = np.array([0.4, -0.3, 0.87])
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
class _Capsule:
    start: np.ndarray
    end: np.ndarray
    radius: float
    colour: np.ndarray


@dataclass(frozen=True)
class _Photo:
    """One photo of a capture: where it lies, its pose (4, 4), and the ray (H, W, 3) of each pixel."""

    name: str
    image: Path
    depth: Path
    pose: np.ndarray
    rays: np.ndarray


def _figure(
    foot: np.ndarray, heading: float, stride: float, height: float, clothes: np.ndarray
) -> list[_Capsule]:
    """Return a person of a height who stands at ``foot`` and walks along ``heading``."""
    ahead, up = np.array([np.cos(heading), np.sin(heading), 0.0]), np.array([0.0, 0.0, 1.0])
    side = np.cross(up, ahead)
    swing = 0.16 * np.sin(stride)
    at = lambda forward, left, high: foot + height * (forward * ahead + left * side + high * up)  # noqa: E731
    skin = np.array([0.78, 0.58, 0.46])
    parts = [
        (at(0, 0, 0.54), at(0.01, 0, 0.78), 0.105, clothes[0]),
        (at(0, 0, 0.91), at(0, 0, 0.93), 0.07, skin),
    ]
    for sign in (1.0, -1.0):
        forward = sign * swing
        parts.append((at(0, 0.06 * sign, 0.5), at(forward, 0.06 * sign, 0.05), 0.052, clothes[1]))
        parts.append((at(0, 0.14 * sign, 0.78), at(-forward, 0.16 * sign, 0.46), 0.036, clothes[0]))
    return [_Capsule(start, end, height * radius, colour) for start, end, radius, colour in parts]


def _meet(capsule: _Capsule, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far along ``rays`` (N, 3), in their lengths, a capsule lies (inf: it is missed), and the normals."""
    axis, offset = capsule.end - capsule.start, origin - capsule.start
    aa, along, oa = axis @ axis, rays @ axis, offset @ axis
    found = np.full(len(rays), np.inf)
    for centre in (capsule.start, capsule.end):  # the round ends
        to = origin - centre
        a, b, c = (rays**2).sum(1), rays @ to, to @ to - capsule.radius**2
        root = b * b - a * c
        t = np.where(root > 0, (-b - np.sqrt(root.clip(0))) / a, np.inf)
        found = np.minimum(found, np.where(t > 0, t, np.inf))
    a = aa * (rays**2).sum(1) - along**2
    b = aa * (rays @ offset) - oa * along
    c = aa * (offset @ offset) - oa * oa - capsule.radius**2 * aa
    root = b * b - a * c
    t = np.where((root > 0) & (a > 1e-12), (-b - np.sqrt(root.clip(0))) / a.clip(1e-12), np.inf)
    level = oa + np.where(np.isfinite(t), t, 0.0) * along
    found = np.minimum(found, np.where((t > 0) & (level > 0) & (level < aa), t, np.inf))
    points = origin + np.where(np.isfinite(found), found, 0.0)[:, None] * rays
    share = (((points - capsule.start) @ axis) / aa).clip(0, 1)
    return found, (points - capsule.start - share[:, None] * axis) / capsule.radius


def _draw(photo: _Photo, figures: list[_Capsule], behind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return colours (H, W, 3) of figures in a photo and where they are nearer than ``behind`` (H, W), in metres."""
    height, width = behind.shape
    nearest, colour = behind.reshape(-1).copy(), np.zeros((height * width, 3))
    hit = np.zeros(height * width, bool)
    rays = photo.rays.reshape(-1, 3)
    for capsule in figures:
        t, normal = _meet(capsule, photo.pose[:3, 3], rays)
        closer = t < nearest
        light = 0.55 + 0.45 * (normal[closer] @ _LIGHT).clip(0)
        colour[closer], nearest[closer], hit[closer] = capsule.colour * light[:, None], t[closer], True
    return colour.reshape(height, width, 3), hit.reshape(height, width)


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


def _walkers(photo: _Photo, index: int, walk: Walk, wardrobe: list[np.ndarray]) -> list[_Capsule]:
    """Return three figures as they stand when a photo is taken; each moves by half its height from photo to photo."""
    parts, place = [], photo.pose[:3, 3]
    for number, clothes in enumerate(wardrobe):
        reach = walk.distance if walk.radius is None else walk.radius
        angle = 2.1 * number + (1.0 if number % 2 else -1.0) * 0.5 * walk.height / reach * index
        centre = place if walk.radius is None else np.zeros(3)
        reach *= 1.0 + 0.25 * np.sin(1.3 * index + number)
        foot = np.array([centre[0] + reach * np.cos(angle), centre[1] + reach * np.sin(angle), walk.floor])
        parts += _figure(foot, angle + np.pi / 2, 1.9 * index + number, walk.height, clothes)
    return parts


def _passer(photo: _Photo, random: np.random.Generator) -> list[_Capsule]:
    """Return one figure in front of the camera, who covers most of the photo's height."""
    forward = -photo.pose[:3, 2] * [1.0, 1.0, 0.0]
    forward /= np.linalg.norm(forward)
    side = np.cross(forward, [0.0, 0.0, 1.0])
    middle = photo.pose[:3, 3] - photo.pose[:3, 2] * _PASSER_DISTANCE
    foot = middle + random.uniform(-0.5, 0.5) * side - [0.0, 0.0, 0.55 * _PASSER_HEIGHT]
    heading = np.arctan2(side[1], side[0])
    return _figure(foot, heading, random.uniform(0, 6), _PASSER_HEIGHT, _clothes(random))


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
