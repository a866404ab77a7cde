"""Drawn photos as training data: rendered once, kept as files, given out as crops with changed colours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from smerf.capture.synth.render import Lens, light_scene, render_view
from smerf.capture.types import Camera, Intrinsics
from smerf.engine.files import writing
from smerf.vision.names.harder import draw_hard_scene
from smerf.vision.names.inputs import PATCH, look, mirrored
from smerf.vision.names.scenes import draw_scene
from smerf.vision.names.words import WORDS

__all__ = ["Photo", "crop", "photos_of", "scene_photos"]

_SIZES = ((192, 144), (192, 128), (144, 192), (168, 168))


@dataclass(frozen=True)
class Photo:
    """``rgb`` uint8 (H, W, 3), ``depth`` float32 (H, W), ``owner`` uint8 (H, W) the scene's things by number.

    ``words`` (K,) is the word of each thing, from 1; 0 is none, and that of number 0.
    """

    rgb: np.ndarray
    depth: np.ndarray
    owner: np.ndarray
    words: np.ndarray
    camera: Camera

    @property
    def target(self) -> np.ndarray:
        """Return the word of every pixel, (H, W)."""
        return np.asarray(self.words[self.owner])


def scene_photos(seed: int, views: int, *, is_hard: bool = False) -> list[Photo]:
    """Draw and render a scene, in metres; hard ones are full of what has no word."""
    shots = (draw_hard_scene if is_hard else draw_scene)(seed, views)
    lit = light_scene(shots.spec, seed, workers=1, rays=9, cell_scale=2.0)
    rng = np.random.default_rng([seed, 55])
    # As a camera would: what is common becomes a medium grey.
    light = np.percentile(lit.irradiance.mean(1), 60)
    lit = replace(lit, spec=replace(shots.spec, exposure=float(rng.uniform(0.25, 0.75) / max(light, 1e-3))))
    words = [WORDS.index(name) + 1 if name in WORDS else 0 for name in lit.world.instances]
    photos = []
    width, height = _SIZES[int(rng.integers(len(_SIZES)))]
    for pose, field in zip(shots.poses, shots.fields):
        lens = Lens.from_fov(width, height, field)
        view = render_view(lit, pose, lens, rng, samples=1)
        photos.append(
            Photo(view.rgb, view.depth, view.instances, np.array([0, *words], np.uint8), _camera(lens, pose))
        )
    return photos


def _camera(lens: Lens, pose: np.ndarray) -> Camera:
    middle = (lens.width / 2, lens.height / 2)
    return Camera(Intrinsics("PINHOLE", lens.width, lens.height, lens.focal, lens.focal, *middle), pose[:3])


def photos_of(folder: Path, seed: int, views: int, *, is_hard: bool = False) -> list[Photo]:
    """Return the photos of a scene, from its file where it was rendered before."""
    path = folder / f"{'hard_' if is_hard else ''}{seed:06d}_{views}.npz"
    if not path.is_file():
        photos = scene_photos(seed, views, is_hard=is_hard)
        folder.mkdir(parents=True, exist_ok=True)
        with writing(path) as aside, aside.open("wb") as stream:
            np.savez(
                stream,
                rgb=np.stack([each.rgb for each in photos]),
                depth=np.stack([each.depth for each in photos]).astype(np.float16),
                owner=np.stack([each.owner for each in photos]),
                words=photos[0].words,
                pose=np.stack([each.camera.world_from_cam for each in photos]),
                focal=np.array([each.camera.intrinsics.fx for each in photos]),
            )
    with np.load(path, allow_pickle=False) as stored:
        kept = {name: stored[name] for name in stored.files}
    height, width = kept["depth"].shape[1:]
    return [
        Photo(
            kept["rgb"][k], kept["depth"][k].astype(np.float32), kept["owner"][k], kept["words"],
            _camera(Lens(width, height, float(kept["focal"][k])), kept["pose"][k]),
        )
        for k in range(len(kept["rgb"]))
    ]  # fmt: skip


def ground_of(photos: list[Photo]) -> float:
    """Return the height of the lowest thing that photos see, without the lowest hundredth of their pixels."""
    from smerf.vision.lift import lift

    return float(
        np.percentile(np.concatenate([lift(each.camera, each.depth)[0][::17, 2] for each in photos]), 1)
    )


def crop(
    photo: Photo, ground: float, rng: np.random.Generator, about: int = 0
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Return a part of a photo as channels (C, H, W), its words (H, W), and the place of its first patch.

    The part shows a pixel of the word ``about``, where that is not 0 and the photo shows it. Colours, the depth's
    accuracy, the unit of length and the sides are changed at random.
    """
    target = photo.target
    rows, columns = target.shape[0] // PATCH, target.shape[1] // PATCH
    high, wide = min(rows, int(rng.integers(9, 17))), min(columns, int(rng.integers(9, 20)))
    row, column = _start(target, about, (high, wide), rng)
    part = (
        slice(row * PATCH, (row + high) * PATCH),
        slice(column * PATCH, (column + wide) * PATCH),
    )
    lens = photo.camera.intrinsics
    lens = replace(
        lens, width=wide * PATCH, height=high * PATCH, cx=lens.cx - column * PATCH, cy=lens.cy - row * PATCH
    )
    depth = photo.depth[part]
    depth = _roughen(depth, rng) if rng.random() < 0.4 else depth
    metre = None if rng.random() < 0.35 else float(np.exp(rng.normal(0.0, 0.15)))
    camera = replace(photo.camera, intrinsics=lens)
    channels = look(_tint(photo.rgb[part], rng), depth, camera, ground, metre, _median(photo.depth))
    target = target[part]
    if rng.random() < 0.5:
        channels, target = mirrored(channels), target[:, ::-1]
        column = columns - wide - column
    return channels, target, (row, column)


def _start(
    target: np.ndarray, about: int, size: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int]:
    """Return the first patch of a random part of ``size`` patches that holds a pixel of a word."""
    spare = [side // PATCH - own for side, own in zip(target.shape, size)]
    places = np.argwhere(target == about) if about else np.zeros((0, 2), np.int64)
    if not len(places):
        row, column = (int(rng.integers(each + 1)) for each in spare)
        return row, column
    place = places[int(rng.integers(len(places)))] // PATCH
    low = [max(0, int(at) - own + 1) for at, own in zip(place, size)]
    high = [min(each, int(at)) for at, each in zip(place, spare)]
    row, column = (int(rng.integers(first, max(first, last) + 1)) for first, last in zip(low, high))
    return row, column


def _median(depth: np.ndarray) -> float | None:
    known = depth[depth > 0]
    return float(np.median(known)) if len(known) else None


def _tint(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change exposure, contrast and white balance, add noise, and now and then drop the colours."""
    value = (rgb / 255.0) ** rng.uniform(0.7, 1.4) * rng.uniform(0.7, 1.25) * rng.uniform(0.85, 1.15, 3)
    if rng.random() < 0.15:
        value = value[..., rng.permutation(3)]
    if rng.random() < 0.15:
        value = np.repeat(value.mean(-1, keepdims=True), 3, -1)
    value = value + rng.normal(0.0, rng.uniform(0.0, 0.04), value.shape)
    return np.asarray((np.clip(value, 0.0, 1.0) * 255.0).astype(np.uint8))


def _roughen(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return depth with the errors of a scene that was learned from photos: waves, grain, holes."""
    height, width = depth.shape
    coarse = rng.normal(0.0, 1.0, (-(-height // 16) + 1, -(-width // 16) + 1))
    waves = np.kron(coarse, np.ones((16, 16)))
    shift = rng.integers(0, 16, 2)
    waves = waves[shift[0] : shift[0] + height, shift[1] : shift[1] + width]
    grain = rng.normal(0.0, 1.0, depth.shape)
    changed = np.array(
        depth * (1.0 + rng.uniform(0.0, 0.01) * waves + rng.uniform(0.0, 0.006) * grain), np.float32
    )
    if rng.random() < 0.3:
        top, left = (int(rng.integers(side - 20)) for side in (height, width))
        changed[top : top + int(rng.integers(8, 40)), left : left + int(rng.integers(8, 40))] = 0.0
    return changed
