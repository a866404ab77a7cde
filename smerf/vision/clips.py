"""Short clips in which figures walk through rendered rooms, with what moves known: data to learn walkers from.

A clip is rendered once with exact depth, and figures of capsules are drawn into it several times; then it is made to
look like a video (exposure, blur, noise, compression) and stabilised as a video of a user is, errors included.
Letters: T frames, H W pixels, K figures at most.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from smerf.vision.figures import Capsule, ball, dog, draw, person
from smerf.vision.stabilise import differences

if TYPE_CHECKING:
    from smerf.capture.synth.render import LitScene

__all__ = ["FRAMES", "PIXELS", "SIZE", "Clips", "clip_inputs", "half_size", "make_clips", "reduced_size"]

FRAMES, SIZE = 8, (72, 96)
"""Frames of a clip, and the height and width that the model sees, whatever shape the video has."""
PIXELS = 27_648
"""About how many pixels a frame has where it is stabilised."""
_FIGURES = 3
_ASPECTS = (4 / 3, 16 / 9, 2.2, 3 / 4, 9 / 16)
_EMPTY, _STANDING = 0.2, 0.12
_MIN_SHOWN = 1e-3
_DIFFERENCE_GAIN = 4.0
"""Differences are mostly small: they are stored times this, up to 1."""


@dataclass(frozen=True)
class Clips:
    """Clips as tensors: ``inputs`` uint8 (N, T, 5, 72, 96), see ``clip_inputs``; ``moving`` uint8 (N, T, 36, 48), how
    much of each pixel shows what moves, of 254, or 255 where nobody knows; ``boxes`` float32 (N, T, K, 4), centre and
    size in the frame, and ``shown`` bool (N, T, K); ``labelled`` bool (N, T), whether the boxes of a frame are known.
    """

    inputs: Tensor
    moving: Tensor
    boxes: Tensor
    shown: Tensor
    labelled: Tensor

    UNKNOWN = 255

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, which: Tensor | slice) -> Clips:
        return Clips(**{name: value[which] for name, value in vars(self).items()})

    @classmethod
    def join(cls, parts: Sequence[Clips]) -> Clips:
        """Return several sets as one."""
        return cls(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def reduced_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height at which frames of a size are stabilised."""
    factor = min(1.0, (PIXELS / (width * height)) ** 0.5)
    return max(16, round(width * factor)), max(16, round(height * factor))


def half_size() -> tuple[int, int]:
    """Return the height and width at which the model marks pixels."""
    return SIZE[0] // 2, SIZE[1] // 2


def clip_inputs(frames: np.ndarray, differing: np.ndarray) -> Tensor:
    """Return what the model sees of frames, uint8 (T, 5, 72, 96): colour, and the smallest and mean difference times 4.

    Args:
        frames: uint8 (T, H, W, 3).
        differing: What ``differences`` returns for them, (T, H, W, 2).
    """
    colour = torch.from_numpy(frames.astype(np.float32) / 255.0)
    stacked = torch.cat([colour, torch.from_numpy(differing).nan_to_num(0.0) * _DIFFERENCE_GAIN], -1).clamp(
        0.0, 1.0
    )
    return (_reduce(stacked.permute(0, 3, 1, 2), SIZE) * 255.0).round().to(torch.uint8)


def _reduce(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (T, C, H, W) of a size, averaged over what each pixel covers."""
    return functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def make_clips(scene: str, rooms: Iterable[int], figures: int, seed: int) -> Iterator[Clips]:
    """Make clips in a built-in scene; yields those of one room after the other.

    Args:
        scene: As for ``smerf.capture.synth.render_capture``.
        rooms: Numbers of places where a camera is put, with the materials of the scene assigned at random.
        figures: How many clips are made of each, with other figures.
        seed: Decides all.

    Raises:
        MissingPartError: If embreex is not installed.
    """
    from smerf.capture.synth.describe import load_scene_spec
    from smerf.capture.synth.render import light_scene

    lit = light_scene(load_scene_spec(scene), seed, 1, rays=16, cell_scale=4.0)
    for room in rooms:
        random = np.random.default_rng([seed, room])
        still = _shoot(_redecorated(lit, random) if room % 4 else lit, random)
        yield Clips.join([_with_figures(still, random) for _ in range(figures)])


def _redecorated(lit: LitScene, random: np.random.Generator) -> LitScene:
    """Return a lit scene whose textures are assigned to its materials at random."""
    from smerf.capture.synth.tracer import Shader

    materials = lit.world.materials
    order = random.permutation(len(materials))
    dealt = tuple(
        replace(own, texture=materials[other].texture) for own, other in zip(materials, order.tolist())
    )
    world = replace(lit.world, materials=dealt)
    shader = Shader(world, lit.caster, lit.irradiance, lit.spec.sky, lit.spec.lights)
    return replace(lit, world=world, shader=shader)


@dataclass(frozen=True)
class _Still:
    """A clip without figures: colours (T, H, W, 3) uint8, depth (T, H, W), poses (T, 4, 4), rays (T, H, W, 3)."""

    frames: np.ndarray
    depth: np.ndarray
    poses: np.ndarray
    rays: np.ndarray


def _shoot(lit: LitScene, random: np.random.Generator) -> _Still:
    """Render a clip with a hand-held camera that moves on and turns."""
    from smerf.capture.synth.render import Lens, render_view
    from smerf.capture.synth.rigs import rig_poses

    aspect = float(random.choice(_ASPECTS))
    width, height = reduced_size(round(1000 * aspect), 1000)
    lens = Lens.from_fov(width, height, float(random.uniform(38, 70)))
    poses = rig_poses(lit.spec.rig, 200)
    first = poses[random.integers(len(poses))]
    y, x = (grid.ravel() + 0.5 for grid in np.mgrid[0:height, 0:width].astype(np.float64))
    views, path = [], []
    far = None
    turn, walk = np.radians(random.normal(0, 1.2, 3) * [0.7, 1.0, 0.4]), random.normal(0, 0.018, 3)
    seed = int(random.integers(2**31))
    for index in range(FRAMES):
        shake = np.radians(random.normal(0, 0.15, 3))
        pose = first.copy()
        pose[:3, :3] = first[:3, :3] @ _rotation(turn * index + shake)
        if far is not None:
            pose[:3, 3] += first[:3, :3] @ ((walk * index + random.normal(0, 0.0015, 3)) * far)
        # The same rays in each pixel of each frame: otherwise their noise would be what changes.
        views.append(render_view(lit, pose, lens, np.random.default_rng(seed), samples=1))
        path.append(pose)
        far = far or float(np.median(views[0].depth)) or 3.0
    rays = np.stack([lens.directions(pose, x, y).reshape(height, width, 3) for pose in path])
    depth = np.stack([view.depth for view in views]).astype(float)
    return _Still(
        np.stack([view.rgb for view in views]), np.where(depth > 0, depth, np.inf), np.stack(path), rays
    )


def _rotation(angles: np.ndarray) -> np.ndarray:
    from smerf.capture.synth.assemble import euler_matrix

    return euler_matrix(tuple(np.degrees(angles)))


def _with_figures(still: _Still, random: np.random.Generator) -> Clips:
    """Return one clip of figures that walk before a still one, or of none."""
    count = 0 if random.random() < _EMPTY else int(random.integers(1, _FIGURES + 1))
    actors = [_Actor.sample(still, random) for _ in range(count)]
    frames, numbers = still.frames.copy(), np.full(still.depth.shape, -1)
    for index in range(FRAMES):
        figures = [actor.at(index) for actor in actors]
        colours, numbers[index] = draw(
            figures, still.poses[index][:3, 3], still.rays[index].astype(float), still.depth[index]
        )
        shown = numbers[index] >= 0
        frames[index][shown] = np.round(255 * colours[shown].clip(0, 1))
    frames = _filmed(frames, random)
    moves = np.array([actor.moves for actor in actors] + [False])
    moving = torch.from_numpy(moves[numbers].astype(np.float32))[:, None]
    boxes, visible = _boxes(numbers, moves[:-1])
    return Clips(
        clip_inputs(frames, differences(frames))[None],
        (_reduce(moving, half_size())[:, 0] * 254.0).round().to(torch.uint8)[None],
        torch.from_numpy(boxes)[None],
        torch.from_numpy(visible)[None],
        torch.ones(1, FRAMES, dtype=torch.bool),
    )


@dataclass(frozen=True)
class _Actor:
    """A figure on its way, or one that stands still."""

    kind: int
    foot: np.ndarray
    step: np.ndarray
    heading: float
    phase: float
    height: float
    colours: np.ndarray
    waves: np.ndarray
    moves: bool

    @classmethod
    def sample(cls, still: _Still, random: np.random.Generator) -> _Actor:
        """Put a figure of .15 to 1.3 of the frame's height somewhere before what the middle frame shows."""
        middle = FRAMES // 2
        rows, columns = still.depth.shape[1:]
        row, column = int(random.uniform(0.25, 0.9) * rows), int(random.uniform(0.05, 0.95) * columns)
        depth = min(still.depth[middle, row, column], 30.0) * random.uniform(0.35, 0.95)
        ray = still.rays[middle, row, column]
        tall = np.linalg.norm(still.rays[middle, 0, 0] - still.rays[middle, -1, 0]) * depth
        height = tall * float(np.exp(random.uniform(np.log(0.15), np.log(1.3))))
        moves = bool(random.random() >= _STANDING)
        heading = random.uniform(0, 2 * np.pi)
        kind = int(random.choice(3, p=[0.8, 0.1, 0.1]))
        speed = random.uniform(0.03, 0.3) * height * moves
        ahead = np.array([np.cos(heading), np.sin(heading), 0.0])
        foot = still.poses[middle][:3, 3] + ray * depth - [0.0, 0.0, random.uniform(0.3, 0.7) * height]
        foot = foot - middle * speed * ahead
        colours = random.uniform(0.05, 0.95, (2, 3)) * random.uniform(0.4, 1.0)
        waves = random.normal(0, 6.0, 4)
        return cls(kind, foot, speed * ahead, heading, random.uniform(0, 6), height, colours, waves, moves)

    def at(self, index: int) -> list[Capsule]:
        """Return its capsules in a frame."""
        foot, phase = self.foot + index * self.step, self.phase + 0.9 * index * self.moves
        size = 0.4 * self.height if self.kind else self.height
        if self.kind == 0:
            capsules = person(foot, self.heading, phase, size, self.colours)
        else:
            capsules = (dog if self.kind == 1 else ball)(foot, self.heading, phase, size, self.colours[0])
        return [replace(each, waves=self.waves) for each in capsules]


def _filmed(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return frames (T, H, W, 3) as a phone films them: other colours, drifting exposure, blur, noise, compression."""
    gamma, cast = np.exp(random.normal(0, 0.25)), np.exp(random.normal(0, 0.12, 3))
    drift, blur = random.normal(0, 0.01), random.uniform(0.3, 0.9)
    noise, quality = random.uniform(0, 3.0), int(random.integers(45, 96))
    result = np.empty_like(frames)
    for index, frame in enumerate(frames):
        image = 255.0 * (frame / 255.0) ** gamma * cast * (1.0 + drift * index + random.normal(0, 0.004))
        image = gaussian_filter(image, (blur, blur, 0)) + random.normal(0, noise, frame.shape)
        file = io.BytesIO()
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
        result[index] = np.asarray(Image.open(file))
    return result


def _boxes(numbers: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes (T, K, 4) of figures that move, centre and size in the frame, and where they show (T, K)."""
    boxes, shown = np.zeros((FRAMES, _FIGURES, 4), np.float32), np.zeros((FRAMES, _FIGURES), bool)
    rows, columns = numbers.shape[1:]
    for number in np.flatnonzero(moves):
        for index, frame in enumerate(numbers == number):
            if frame.mean() >= _MIN_SHOWN:
                y, x = np.flatnonzero(frame.any(1)), np.flatnonzero(frame.any(0))
                low, high = np.array([x[0], y[0]]), np.array([x[-1], y[-1]]) + 1
                boxes[index, number] = np.concatenate([(low + high) / 2, high - low]) / [
                    columns,
                    rows,
                    columns,
                    rows,
                ]
                shown[index, number] = True
    return boxes, shown
