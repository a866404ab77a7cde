"""The objects of a baked scene's voxels, from a run's labels: every photo's rays say where each object's weight lies.

Where the labels come from the photos' own instance masks, a ray's object is that of its pixel, which keeps borders
sharp; else it is looked up in the labels' voxels.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smerf.capture import fingerprint
from smerf.capture.rays import pixel_directions
from smerf.capture.types import Camera, Capture
from smerf.engine.folder import RunFolder
from smerf.engine.progress import Progress
from smerf.errors import SmerfError
from smerf.pipeline.label import read_instances
from smerf.render.march import render_depths
from smerf.scene import BakedScene, load_scene
from smerf.scene.object_files import write_object_ids
from smerf.scene.objects import MAX_OBJECTS, SceneObject
from smerf.scene.types import BakedSubmodel, SceneParams
from smerf.vision.label_files import StoredLabels, read_labels
from smerf.vision.lift import pack_keys, reduced_camera
from smerf.vision.voxel_objects import VoxelVotes, spread_objects

__all__ = ["add_objects", "add_to_run", "keep_objects", "objects_of"]

_SIDE = 256
"""Pixels of the longer side of the photos' pictures."""
_MAX_PHOTOS = 200
_SPENT = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Visibilities at which a ray's points are taken: the middles of equal shares of its weight."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _PhotoPoints:
    """A photo's rays: distances (Q, R) of their points, 0 where there is none, and the pixels' objects, if known."""

    camera: Camera
    distances: np.ndarray
    ids: np.ndarray | None

    def points(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return points (N, 3) of training space and their objects (N,)."""
        directions = pixel_directions(self.camera).astype(np.float64)
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        which, rays = np.nonzero(self.distances)
        far = self.distances[which, rays, None]
        points = self.camera.world_from_cam[:, 3] + directions[rays] * far
        return points, None if self.ids is None else self.ids[rays]


def objects_of(labels: StoredLabels) -> tuple[SceneObject, ...]:
    """Return a scene's objects, the largest 255 of the labels; things of one word are numbered."""
    entries = labels.objects[:MAX_OBJECTS]
    count, seen = Counter(entry["word"] for entry in entries), Counter[str]()
    objects = []
    for entry in entries:
        word = str(entry["word"])
        seen[word] += 1
        red, green, blue = (float(value) / 255.0 for value in entry["colour"])
        box = entry["box"]
        objects.append(
            SceneObject(
                id=int(entry["id"]),
                name=f"{word} {seen[word]}" if count[word] > 1 else word,
                colour=(red, green, blue),
                centre=tuple(map(float, box["centre"])),  # type: ignore[arg-type]
                half=tuple(map(float, box["half"])),  # type: ignore[arg-type]
                score=float(entry["score"]),
            )
        )
    return tuple(objects)


def add_objects(
    scene_dir: Path,
    capture: Capture,
    labels: StoredLabels,
    *,
    quiet: bool = False,
    also: Callable[[Path], None] = lambda folder: None,
) -> tuple[SceneObject, ...]:
    """Write the objects of labels into a baked scene, whose other files stay as they are.

    Args:
        scene_dir: The scene's folder.
        capture: The photos.
        labels: What stands where, made of the same capture.
        quiet: Show no progress.
        also: As in ``write_object_ids``.

    Returns:
        The objects as written.
    """
    objects, scene = objects_of(labels), load_scene(scene_dir, cache_size=1)
    photos = _photo_points(scene, capture, _ids_of_pixels(capture, labels), quiet) if objects else []
    look_up = _ids_of_points(labels)

    def level(params: SceneParams, k: int, submodel: BakedSubmodel) -> np.ndarray:
        votes = VoxelVotes(params, k, objects)
        for photo in photos:
            points, ids = photo.points()
            votes.add(points, look_up(points) if ids is None else ids)
        return spread_objects(votes, submodel)

    write_object_ids(scene_dir, objects, level, also)
    return objects


def add_to_run(run: Path, capture: Capture, folder: Path, *, quiet: bool = False) -> int | None:
    """Write the objects of ``labels/`` into a run's baked scene, and let what is made of it be made again.

    Returns:
        How many, or ``None`` if the run has no baked scene.
    """
    place = RunFolder(run)
    if place.stage("baked") is None:
        return None
    labels = read_labels(folder)
    with place:
        baked = place.folder("baked")
        return len(
            add_objects(baked, capture, labels, quiet=quiet, also=lambda new: place.renew("baked", new))
        )


def keep_objects(scene_dir: Path, capture: Capture, folder: Path, *, quiet: bool = False) -> None:
    """Write the objects of ``labels/`` into a scene that was baked again, if there are labels and they still fit it."""
    if not (folder / "labels.json").is_file():
        return
    try:
        labels = read_labels(folder)
        if labels.capture != fingerprint(capture):
            _log.warning("%s: labels are of other photos; smerf label makes them again", folder)
            return
        add_objects(scene_dir, capture, labels, quiet=quiet)
    except (SmerfError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s: the scene is baked without objects (%s)", folder, error)


def _ids_of_pixels(
    capture: Capture, labels: StoredLabels
) -> Callable[[int, tuple[int, int]], np.ndarray] | None:
    """Return what reads the objects of a photo's pixels, (R,) uint8; ``None`` if no masks made the labels."""
    numbers = {entry.get("instance"): int(entry["id"]) for entry in labels.objects[:MAX_OBJECTS]}
    masks = None if None in numbers else read_instances(capture)
    if masks is None:
        return None
    table = np.zeros(1 << 16, np.uint8)
    for instance, number in numbers.items():
        table[instance] = number
    read = masks.read
    return lambda index, size: table[read(index, size).reshape(-1)]


def _ids_of_points(labels: StoredLabels) -> Callable[[np.ndarray], np.ndarray]:
    """Return what looks points (N, 3) up in the labels' voxels: uint8 (N,)."""
    packed = pack_keys(labels.keys)
    order = packed.argsort()
    packed, ids = packed[order], np.where(labels.ids <= MAX_OBJECTS, labels.ids, 0)[order].astype(np.uint8)

    def look_up(points: np.ndarray) -> np.ndarray:
        if not len(packed):
            return np.zeros(len(points), np.uint8)
        wanted = pack_keys(labels.grid.keys(points))
        place = np.searchsorted(packed, wanted).clip(max=len(packed) - 1)
        return np.where(packed[place] == wanted, ids[place], np.uint8(0))

    return look_up


def _photo_points(
    scene: BakedScene,
    capture: Capture,
    read: Callable[[int, tuple[int, int]], np.ndarray] | None,
    quiet: bool,
) -> list[_PhotoPoints]:
    frames = list(enumerate(capture.frames))
    chosen = [each for each in frames if each[1].split == "train"] or frames
    chosen = chosen[:: -(-len(chosen) // _MAX_PHOTOS)]
    # Submodel by submodel, so that each is read once.
    chosen.sort(key=lambda each: scene.params.choose_submodel(each[1].camera.world_from_cam[:, 3]))
    with Progress("objects", len(chosen), "photos", stops=True, quiet=quiet) as progress:

        def made() -> Iterator[_PhotoPoints]:
            for done, (index, frame) in enumerate(chosen, 1):
                camera = reduced_camera(frame.camera, _SIDE)
                depths = render_depths(scene, camera, _SPENT).reshape(-1, len(_SPENT)).T
                size = camera.intrinsics.width, camera.intrinsics.height
                yield _PhotoPoints(camera, depths, None if read is None else read(index, size))
                progress.update(done)

        return list(made())
