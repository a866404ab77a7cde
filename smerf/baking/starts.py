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
from smerf.scene.region import RGB, RegionStart, contract, support
from smerf.scene.types import BakedScene, SceneParams

__all__ = [
    "Look",
    "calm_colours",
    "choose_mode",
    "choose_starts",
    "common_target",
    "eye_height",
    "known_share",
    "look_around",
]

_ASPECTS = (0.46, 0.6, 0.75, 1.0, 1.33, 1.6, 1.78, 2.2)
"""Shapes of canvases, width over height: upright phones to wide windows."""
_WIDE, _PIXELS = 1.3, 64
"""Half the extent of the square image that shapes are cut from, at distance one, and its edge in pixels."""
_LONGEST = 0.9
"""Largest half extent of the longer side: a field of view of 84 degrees."""
_NARROWEST = 0.25
_KNOWN, _PHOTOS = 0.97, 3
"""Share of a first view that so many photos have to see."""
_BEYOND = 1.4
"""How far a first view may go beyond its photo's frame, where others see on."""
_OFF_TARGET = 0.5
"""What a view loses, as half extent, for each unit by which its axis misses what the photos look at."""
_OUTLIER = 0.04
"""What the last photo of the order may gain over the first one, as half extent, before it is taken."""
_MARGIN = 1.2
"""Around a lone object; shapes of canvases between the stored ones cut some of it off."""
_TINY = 0.05
_FAR = 1e4
_TOGETHER = 0.9
"""Mean cosine between the cameras' axes and the way to the point that they look at together."""
_BORDER_PHOTOS = 24
_COMMON = (0.1, 0.9)
"""Quantiles of the borders' colours between which that of unknown places lies."""
_DOUBT = 0.005
"""Weight of the median colour against that of the borders' pixels."""
_NEAR_PART = 0.2
"""Part of a view's middle that may be nearer than the distance that it is said to show."""


@dataclass(frozen=True)
class Look:
    """What a wide square view from a photo's place shows.

    ``is_known`` (P, P) bool: pixels that enough photos see; ``is_solid``: pixels that show something; ``distance`` to
    what the photos look at together, else to what most of the middle shows, and how far ``aside`` of the view's axis
    that lies, as a tangent; ``frame`` is half the photo's own width and height; ``height`` above what lies below the
    camera, 0 where nothing does.
    """

    pose: np.ndarray
    is_known: np.ndarray
    is_solid: np.ndarray
    distance: float
    aside: float
    frame: tuple[float, float]
    height: float


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


def _look_from(
    scene: BakedScene, cells: KnownCells, photo: Camera, target: np.ndarray | None, far: float
) -> Look:
    pose, lens = photo.world_from_cam, photo.intrinsics
    camera = _square(pose, _WIDE, _PIXELS)
    k = scene.params.choose_submodel(pose[:, 3])
    depth = render_depth(scene, camera)
    points, view = _contracted(scene.params, k, camera, depth)
    counts = cells.counts(k)
    cell = ((points + 2.0) * (0.25 * len(counts))).astype(np.int64).clip(0, len(counts) - 1)
    enough = counts[tuple(cell.T)] >= min(_PHOTOS, len(cells.photos))
    is_known = enough & (support(cells.known(k), points, view) > 0.5)
    # Inside a place, a view into its depth says more than one of the nearest wall, or past a door's frame.
    quarter = _PIXELS // 4
    middle = depth.reshape(_PIXELS, _PIXELS)[quarter:-quarter, quarter:-quarter]
    solid = middle[middle > 0.0]
    distance, aside = float(np.quantile(solid, _NEAR_PART)) if len(solid) else 1.0, 0.0
    if target is not None:
        right, up, back = (target - pose[:, 3]) @ pose[:, :3]
        distance, aside = float(np.hypot(np.hypot(right, up), back)), float(np.hypot(right, up) / abs(back))
    frame = (0.5 * lens.width / lens.fx, 0.5 * lens.height / lens.fy)
    is_seen = is_known.reshape(_PIXELS, _PIXELS)
    return Look(
        pose, is_seen, depth.reshape(_PIXELS, _PIXELS) > 0.0, distance, aside, frame, _height(scene, pose)
    )


def _share(wide: Look, half_height: float, half_width: float) -> float:
    """Return the known share of the middle of a wide view."""
    rows, columns = (max(1, round(0.5 * _PIXELS * half / _WIDE)) for half in (half_height, half_width))
    middle = _PIXELS // 2
    cut = wide.is_known[middle - rows : middle + rows, middle - columns : middle + columns]
    return float(cut.mean())


def look_around(
    scene: BakedScene, cells: KnownCells, frames: Sequence[Frame], order: np.ndarray, far: float = np.inf
) -> list[Look]:
    """Look about from the places of photos, those first that are taken before others that show as much.

    Args:
        scene: The scene as baked.
        cells: Its known region.
        frames: Training photos.
        order: Indices of those to look from.
        far: Distance within which all content lies.
    """
    target = common_target(np.stack([frame.camera.world_from_cam for frame in frames]))
    photos = [frames[i].camera for i in order]
    # Submodel by submodel: only one of them needs to be in memory.
    home = [scene.params.choose_submodel(photo.world_from_cam[:, 3]) for photo in photos]
    by_home = sorted(range(len(photos)), key=home.__getitem__)
    looks = {i: _look_from(scene, cells, photos[i], target, far) for i in by_home}
    return [looks[i] for i in range(len(photos))]


def choose_starts(looks: Sequence[Look], is_alone: bool = False) -> tuple[RegionStart, ...]:
    """Choose a photo and a lens for each shape of canvas.

    They are as wide as photos support, and cover rather than contain; a lone object is shown whole.
    """
    if not looks:
        return ()
    whole = next((look for look in looks if _is_whole(look)), None) if is_alone else None
    if whole is not None:
        return tuple(_containing(whole, aspect) for aspect in _ASPECTS)
    return tuple(_best(looks, aspect) for aspect in _ASPECTS)


def _is_whole(look: Look) -> bool:
    """Return whether something is in a wide view and does not reach its edges."""
    solid = look.is_solid
    edge = np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]])
    return bool(solid.any() and not edge.any())


def _containing(look: Look, aspect: float) -> RegionStart:
    """Return the view that an object just fits into."""
    rows, columns = (np.abs(np.nonzero(look.is_solid)[axis] + 0.5 - _PIXELS / 2).max() for axis in (0, 1))
    half = max(_TINY, _MARGIN * 2.0 * _WIDE / _PIXELS * max(rows, columns / aspect))
    known = float(look.is_known[look.is_solid].mean())
    return RegionStart(aspect, look.pose, 2.0 * float(np.degrees(np.arctan(half))), round(known, 3))


def _best(looks: Sequence[Look], aspect: float) -> RegionStart:
    """Choose among views: of those that are known well enough the one that shows most, else the best known one."""
    long_side = max(1.0, aspect)
    halves = np.geomspace(_LONGEST, _NARROWEST, 12) / long_side
    best, best_score = None, (-1.0, -np.inf)
    typical = float(np.median([look.distance for look in looks]))
    for rank, look in enumerate(looks):
        for half in halves:
            share = _share(look, half, half * aspect)
            is_within = half <= _BEYOND * look.frame[1] and half * aspect <= _BEYOND * look.frame[0]
            if (share >= _KNOWN and is_within) or half == halves[-1]:
                extent = half * long_side * min(1.5, look.distance / typical)
                # Known well enough is enough; below, more is better.
                score = (
                    min(share, _KNOWN),
                    extent - _OFF_TARGET * look.aside - _OUTLIER * rank / len(looks),
                )
                if score > best_score:
                    fov = 2.0 * float(np.degrees(np.arctan(half)))
                    best, best_score = RegionStart(aspect, look.pose, fov, round(share, 3)), score
                break
    assert best is not None
    return best


def eye_height(looks: Sequence[Look]) -> float | None:
    """Return the median height of the cameras above what lies below them; ``None`` if most find nothing."""
    heights = [look.height for look in looks if look.height > 0.0]
    return float(np.median(heights)) if 2 * len(heights) > len(looks) else None


def _height(scene: BakedScene, pose: np.ndarray) -> float:
    """Return how far the floor is below a camera (3, 4), 0 if there is none."""
    down = np.concatenate([np.eye(3), pose[:, 3:]], -1)
    return float(np.median(render_depth(scene, _square(down, 0.1, 3))))


def calm_colours(frames: Sequence[Frame], background: str | None) -> tuple[RGB, RGB, RGB]:
    """Return what unknown places fade into ahead, straight up and straight down: what the photos' borders show there.

    Where they look nowhere near, and before a background, that is the median of all of them.
    """
    pixels, directions = [], []
    for frame in frames[:: -(-len(frames) // _BORDER_PHOTOS)]:
        photo = load_composited(frame, background)
        rays = pixel_directions(frame.camera).reshape(photo.shape)
        pixels += [photo[0], photo[-1], photo[:, 0], photo[:, -1]]
        directions += [rays[0], rays[-1], rays[:, 0], rays[:, -1]]
    colours, rays = np.concatenate(pixels), np.concatenate(directions)
    typical = np.median(colours, 0)
    found, low, high = np.tile(typical, (3, 1)), typical, typical
    if background is None:
        up = rays[:, 2] / np.linalg.norm(rays, axis=1)
        steep = np.abs(up) * (2.0 - np.abs(up))
        parts = np.stack([1.0 - steep, np.where(up > 0.0, steep, 0.0), np.where(up > 0.0, 0.0, steep)], 1)
        doubt = _DOUBT * len(up) * np.eye(3)
        # Farther up than photos look, what they show does not go on getting brighter.
        low, high = np.quantile(colours, _COMMON, axis=0)
        found += np.linalg.solve(parts.T @ parts + doubt, parts.T @ (colours - typical))
    ahead, above, below = ((float(r), float(g), float(b)) for r, g, b in found.clip(low, high))
    return ahead, above, below


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
