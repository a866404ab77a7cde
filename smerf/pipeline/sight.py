"""What a run's photos show and where: photos with depth, and finding a point, a region or a labelled thing in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smerf.capture import fingerprint
from smerf.capture.images import load_depth, load_image, pick
from smerf.capture.rays import pixel_directions
from smerf.capture.types import Camera, Capture, Frame
from smerf.engine.folder import RunFolder
from smerf.engine.progress import Progress
from smerf.engine.tensors import read_tensors, write_tensors
from smerf.errors import InvalidDataError, UsageError
from smerf.vision.find import DepthPhoto
from smerf.vision.lift import VoxelGrid, fit_grid, reduced_camera

if TYPE_CHECKING:
    from torch import Tensor

    from smerf.scene import BakedScene
    from smerf.vision.looking import ClipEyes

__all__ = ["Sight", "grid_of", "open_sight", "photo_vectors"]

_SIDE = 192
"""Pixels of the longer side at which photos are looked through."""
_FOOTPRINTS = 1.5
"""Least edge of a voxel, in widths of a pixel."""
_FORMAT, _VECTORS = "smerf-depth-1", "smerf-clip-1"


@dataclass(frozen=True)
class Sight:
    """A capture whose photos have depth, and the grid that its points are counted in.

    ``folder`` is the run's, or None for a capture with depth of its own.
    """

    capture: Capture
    photos: tuple[DepthPhoto, ...]
    grid: VoxelGrid
    folder: Path | None

    def photo(self, name: str) -> DepthPhoto:
        """Return a photo by its name, or by the end of it.

        Raises:
            UsageError: If there is none, or several.
        """
        found = [photo for photo in self.photos if photo.name == name]
        found = found or [photo for photo in self.photos if Path(photo.name).name == Path(name).name]
        if len(found) != 1:
            state = "is no photo" if not found else "is the name of several photos"
            raise UsageError(f"{name}: {state} of {self.capture.root}; the first is {self.photos[0].name}")
        return found[0]


def open_sight(path: Path, data: Path | None = None, *, quiet: bool = False) -> Sight:
    """Open a run with a baked scene, or a posed capture that has depth.

    The depth of a run's photos is rendered from its baked scene once, and kept in ``vision/depth.safetensors``.

    Args:
        path: Run folder or capture.
        data: Where a run's capture is now, if it has moved.
        quiet: Show no progress.

    Raises:
        UsageError: If there is nothing that depth can be had from.
    """
    run = RunFolder(path)
    if not run.exists():
        from smerf.capture import load_capture

        capture = load_capture(path)
        return _sight(capture, _own_depth(capture, path), None)
    from smerf.pipeline.config import load_config
    from smerf.pipeline.job import load_run_capture

    capture = load_run_capture(run, load_config(run), data)
    if run.stage("baked") is None:
        return _sight(capture, _own_depth(capture, path), path)
    return _sight(capture, _baked_depth(capture, run, quiet), path)


def photo_vectors(sight: Sight, eyes: ClipEyes, model: Path, quiet: bool) -> list[Tensor]:
    """Return the vectors (K, P) of every photo's squares, half precision, kept in ``vision/`` of a run."""
    from smerf.vision.convert import WEIGHTS

    key = hashlib.sha256(fingerprint(sight.capture).encode())
    key.update((model / "config.json").read_bytes())
    with (model / WEIGHTS).open("rb") as weights:
        key.update(hashlib.file_digest(weights, "sha256").digest())
    path = None if sight.folder is None else sight.folder / "vision" / "clip.safetensors"
    frames = sight.capture.frames
    if path is not None and _has_key(path, key.hexdigest(), _VECTORS):
        tensors, _ = read_tensors(path, _VECTORS, "photo vectors", "delete it")
    else:
        tensors = {}
        with Progress("look", len(frames), "photos", stops=True, quiet=quiet) as progress:
            for index, frame in enumerate(frames):
                tensors[f"{index:06d}"] = eyes.photo(load_image(frame)).half()
                progress.update(index + 1)
        if path is not None:
            write_tensors(path, tensors, _VECTORS, {"key": key.hexdigest()})
    return [tensors[f"{index:06d}"] for index in range(len(frames))]


def _sight(capture: Capture, readers: list[Callable[[], np.ndarray]], folder: Path | None) -> Sight:
    photos = tuple(
        DepthPhoto(frame.name, reduced_camera(frame.camera, _SIDE), read)
        for frame, read in zip(capture.frames, readers)
    )
    try:
        grid = grid_of(photos)
    except ValueError as error:
        raise InvalidDataError(f"{capture.root}: no photo sees anything at a known depth") from error
    return Sight(capture, photos, grid, folder)


def grid_of(photos: Sequence[DepthPhoto], divisions: int = 128) -> VoxelGrid:
    """Return the grid in which what photos show is counted.

    Args:
        photos: Of which 64 at most are looked at.
        divisions: Voxels along the diagonal; fewer where they would be finer than the pixels.

    Raises:
        ValueError: If none sees anything at a known depth.
    """
    chosen = photos[:: max(1, len(photos) // 64)]
    points = [photo.points()[0][::7] for photo in chosen]
    return fit_grid(points, _FOOTPRINTS * _footprint(chosen, points), divisions)


def _footprint(photos: Sequence[DepthPhoto], points: Sequence[np.ndarray]) -> float:
    """Return the median width of a pixel where it meets something, in training units."""
    widths = [
        np.linalg.norm(each - photo.camera.world_from_cam[:, 3], axis=-1) / photo.camera.intrinsics.fx
        for photo, each in zip(photos, points)
    ]
    return float(np.median(np.concatenate(widths))) if any(map(len, widths)) else 0.0


def _own_depth(capture: Capture, path: Path) -> list[Callable[[], np.ndarray]]:
    if any(frame.depth_path is None for frame in capture.frames):
        raise UsageError(
            f"{path}: needs the depth of its photos: give a run with a baked scene (smerf run), or a capture with depth"
        )

    def reader(frame: Frame) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            depth = load_depth(frame)
            assert depth is not None
            small = reduced_camera(frame.camera, _SIDE).intrinsics
            return pick(depth, (small.height, small.width))

        return read

    return [reader(frame) for frame in capture.frames]


def _baked_depth(capture: Capture, run: RunFolder, quiet: bool) -> list[Callable[[], np.ndarray]]:
    from smerf.scene import load_scene

    scene = load_scene(run.folder("baked"))
    path = run.path / "vision" / "depth.safetensors"
    # Ids of objects change no depth.
    files = sorted(each for each in scene.manifest.files.items() if "/object_ids_" not in each[0])
    key = hashlib.sha256(repr((files, _SIDE, len(capture.frames))).encode())
    if not _has_key(path, key.hexdigest()):
        _render_all(capture, run.folder("baked"), path, key.hexdigest(), quiet)

    def reader(index: int) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            tensors, _ = read_tensors(
                path, _FORMAT, "depth", "delete it", lambda name: name == f"{index:06d}"
            )
            return tensors[f"{index:06d}"].float().numpy()

        return read

    return [reader(index) for index in range(len(capture.frames))]


def depth_of(scene: BakedScene, camera: Camera) -> np.ndarray:
    """Return the depth that a baked scene has in a camera, as ``lift`` takes it: float32 (H, W), 0 for nothing."""
    from smerf.render.march import render_depth

    distance = render_depth(scene, camera)
    # The t of a ray counts lengths of its direction, which is not 1.
    return distance / np.linalg.norm(pixel_directions(camera), axis=-1).reshape(distance.shape)


def _has_key(path: Path, key: str, kind: str = _FORMAT) -> bool:
    if not path.is_file():
        return False
    try:
        return read_tensors(path, kind, "vectors", "delete it", lambda name: False)[1].get("key") == key
    except InvalidDataError:
        return False


def _render_all(capture: Capture, baked: Path, path: Path, key: str, quiet: bool) -> None:
    import torch

    from smerf.scene import load_scene

    scene = load_scene(baked)
    scene.cache_size = 1
    # Submodel by submodel, so that each is read once.
    frames = list(enumerate(capture.frames))
    frames.sort(key=lambda each: scene.params.choose_submodel(each[1].camera.world_from_cam[:, 3]))
    tensors = {}
    with Progress("depth", len(frames), "photos", stops=True, quiet=quiet) as progress:
        for done, (index, frame) in enumerate(frames, 1):
            depth = depth_of(scene, reduced_camera(frame.camera, _SIDE))
            tensors[f"{index:06d}"] = torch.from_numpy(depth).half()
            progress.update(done)
    write_tensors(path, tensors, _FORMAT, {"key": key})
