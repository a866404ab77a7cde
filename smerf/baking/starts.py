"""Where a visitor begins: first views that photos support, how to move, and the height of the eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smerf.baking.known import KnownCells
from smerf.capture.images import load_composited
from smerf.capture.rays import pixel_directions
from smerf.capture.types import Camera, Frame, Intrinsics
from smerf.render.camera import to_submodel
from smerf.render.march import render_depth
from smerf.scene.region import RegionStart, contract, support
from smerf.scene.types import BakedScene, SceneParams

__all__ = ["calm_colour", "choose_mode", "choose_starts", "common_target", "eye_height", "known_share"]

_ASPECTS = (0.46, 0.6, 0.75, 1.0, 1.33, 1.6, 1.78, 2.2)
"""Shapes of canvases, width over height: upright phones to wide windows."""
_WIDE, _PIXELS = 1.3, 64
"""Half the extent of the square image that shapes are cut from, at distance one, and its edge in pixels."""
_LONGEST = 0.9
"""Largest half extent of the longer side: a field of view of 84 degrees."""
_NARROWEST = 0.25
_CANDIDATES = 16
_KNOWN, _PHOTOS = 0.97, 3
"""Share of a first view that so many photos have to see."""
_OFF_TARGET = 0.5
"""What a view loses, as half extent, for each unit by which its axis misses what the photos look at."""
_OUTLIER = 0.04
"""What an unusual photo may gain over the most typical one, as half extent, before it is taken."""
_LOOKERS = 24
_FAR = 1e4
_TOGETHER = 0.9
"""Mean cosine between the cameras' axes and the way to the point that they look at together."""
_BORDER_PHOTOS = 12


@dataclass(frozen=True)
class _Wide:
    """What a wide square view from a photo's place shows.

    ``is_known`` (P, P) bool: pixels that enough photos see; ``distance`` to what the photos look at, and how far
    ``aside`` of the view's axis that lies, as a tangent.
    """

    pose: np.ndarray
    is_known: np.ndarray
    distance: float
    aside: float


def _square(pose: np.ndarray, half: float, pixels: int) -> Camera:
    focal = 0.5 * pixels / half
    return Camera(Intrinsics("PINHOLE", pixels, pixels, focal, focal, pixels / 2, pixels / 2), pose)


def _contracted(params: SceneParams, k: int, camera: Camera, depth: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return where pixels end, contracted (R, 3), and their unit directions (R, 3), on viewer axes."""
    directions = pixel_directions(camera).astype(np.float64)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origin, view = to_submodel(params, k, camera.world_from_cam[None, :3, 3], directions)
    far = np.where(depth.reshape(-1) > 0.0, depth.reshape(-1), _FAR)
    return contract(origin + view * far[:, None]), view / params.submodel_scale


def known_share(scene: BakedScene, camera: Camera) -> np.ndarray:
    """Return how well photos support each pixel of a view, (H, W) in [0, 1], at the depth where it is opaque."""
    k = scene.params.choose_submodel(camera.world_from_cam[:, 3])
    known = scene.submodel(k).known
    if known is None:
        raise ValueError("the scene has no known region")
    depth = render_depth(scene, camera)
    return support(known, *_contracted(scene.params, k, camera, depth)).reshape(depth.shape)


def _look_from(scene: BakedScene, cells: KnownCells, pose: np.ndarray, target: np.ndarray | None) -> _Wide:
    camera = _square(pose, _WIDE, _PIXELS)
    k = scene.params.choose_submodel(pose[:, 3])
    points, view = _contracted(scene.params, k, camera, render_depth(scene, camera))
    counts = cells.counts(k)
    cell = ((points + 2.0) * (0.25 * len(counts))).astype(np.int64).clip(0, len(counts) - 1)
    enough = counts[tuple(cell.T)] >= min(_PHOTOS, len(cells.photos))
    is_known = enough & (support(cells.known(k), points, view) > 0.5)
    distance, aside = 1.0, 0.0
    if target is not None:
        right, up, back = (target - pose[:, 3]) @ pose[:, :3]
        distance, aside = float(np.hypot(np.hypot(right, up), back)), float(np.hypot(right, up) / abs(back))
    return _Wide(pose, is_known.reshape(_PIXELS, _PIXELS), distance, aside)


def _share(wide: _Wide, half_height: float, half_width: float) -> float:
    """Return the known share of the middle of a wide view."""
    rows, columns = (max(1, round(0.5 * _PIXELS * half / _WIDE)) for half in (half_height, half_width))
    middle = _PIXELS // 2
    cut = wide.is_known[middle - rows : middle + rows, middle - columns : middle + columns]
    return float(cut.mean())


def choose_starts(
    scene: BakedScene, cells: KnownCells, frames: Sequence[Frame], order: np.ndarray
) -> tuple[RegionStart, ...]:
    """Choose a photo and a lens for each shape of canvas: as wide as photos support, cover rather than contain.

    Args:
        scene: The scene as baked.
        cells: Its known region.
        frames: Training photos.
        order: Their indices, the most typical first.
    """
    target = common_target(np.stack([frame.camera.world_from_cam for frame in frames])) if frames else None
    poses = [frames[i].camera.world_from_cam for i in order[:_CANDIDATES]]
    looks = [_look_from(scene, cells, pose, target) for pose in poses]
    if not looks:
        return ()
    return tuple(_best(looks, aspect) for aspect in _ASPECTS)


def _best(looks: Sequence[_Wide], aspect: float) -> RegionStart:
    """Choose among views: of those that are known well enough the one that shows most, else the best known one."""
    long_side = max(1.0, aspect)
    halves = np.geomspace(_LONGEST, _NARROWEST, 12) / long_side
    best, best_score = None, (-1.0, -np.inf)
    typical = float(np.median([look.distance for look in looks]))
    for rank, look in enumerate(looks):
        for half in halves:
            share = _share(look, half, half * aspect)
            if share >= _KNOWN or half == halves[-1]:
                extent = half * long_side * min(1.5, look.distance / typical)
                # Known well enough is enough; below, more is better.
                score = (
                    min(share, _KNOWN),
                    extent - _OFF_TARGET * look.aside - _OUTLIER * rank / _CANDIDATES,
                )
                if score > best_score:
                    fov = 2.0 * float(np.degrees(np.arctan(half)))
                    best, best_score = RegionStart(aspect, look.pose, fov, round(share, 3)), score
                break
    assert best is not None
    return best


def eye_height(scene: BakedScene, frames: Sequence[Frame]) -> float | None:
    """Return the median height of the photos' cameras above what lies below them; ``None`` if most find nothing."""
    if not frames:
        return None
    chosen = frames[:: -(-len(frames) // _LOOKERS)]
    heights = []
    for frame in chosen:
        down = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        pose = np.concatenate([down, frame.camera.world_from_cam[:, 3:]], -1)
        height = float(np.median(render_depth(scene, _square(pose, 0.1, 3))))
        if height > 0.0:
            heights.append(height)
    return float(np.median(heights)) if 2 * len(heights) > len(chosen) else None


def calm_colour(frames: Sequence[Frame], background: str | None) -> tuple[float, float, float]:
    """Return the median colour of the photos' borders: what unknown places fade into."""
    pixels = []
    for frame in frames[:: -(-len(frames) // _BORDER_PHOTOS)]:
        photo = load_composited(frame, background)
        pixels += [photo[0], photo[-1], photo[:, 0], photo[:, -1]]
    red, green, blue = np.median(np.concatenate(pixels), 0)
    return float(red), float(green), float(blue)


def choose_mode(poses: np.ndarray, eye: float | None) -> str:
    """Return how visitors of a capture move at first.

    ``orbit`` where cameras (N, 3, 4) look at one place together, ``walk`` where they look about above a floor, ``fly``
    elsewhere.
    """
    return "orbit" if common_target(poses) is not None else "walk" if eye is not None else "fly"


def common_target(poses: np.ndarray) -> np.ndarray | None:
    """Return the point (3,) that cameras (N, 3, 4) look at together, ``None`` where they do not."""
    axes, origins = -poses[:, :, 2], poses[:, :, 3]
    parts = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    whole = parts.sum(0)
    if len(poses) < 2 or abs(np.linalg.det(whole)) <= 1e-6 * len(poses) ** 3:
        return None
    target = np.linalg.solve(whole, (parts @ origins[:, :, None]).sum(0)[:, 0])
    toward = target - origins
    toward /= np.maximum(np.linalg.norm(toward, axis=-1, keepdims=True), 1e-9)
    return target if float(np.mean((toward * axes).sum(-1))) > _TOGETHER else None
