"""From a folder of posed photos to a ``Capture``: the one entrance for every layout."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from smerf.capture.bounds import choose_near, object_bounds
from smerf.capture.downscale import Photo, choose_photos
from smerf.capture.normalise import METHODS, apply_similarity, choose_similarity, find_outliers
from smerf.capture.pixels import read_pixels
from smerf.capture.readers import Source, SourceFrame, read_source
from smerf.capture.readers.image_files import list_images, may_be_photo
from smerf.capture.types import Camera, Capture, Frame
from smerf.errors import InvalidDataError, UsageError

__all__ = ["fingerprint", "load_capture"]

_LOG = logging.getLogger("smerf")
_NAMES_SHOWN = 5
_TEST_EVERY = 8
_MAX_CENTRE_OFFSET = 0.1  # of the image's sides
_DARK = 64  # of 255: values of 14 bits and fewer in files of 16


def load_capture(
    path: str | os.PathLike[str],
    *,
    max_side: int | None = None,
    downscale: int | None = None,
    normalise: str = "auto",
) -> Capture:
    """Load posed photos of any known layout.

    Known are NeRF-synthetic (``transforms_train.json``), nerfstudio and instant-ngp (``transforms.json``),
    COLMAP (``sparse``), LLFF (``poses_bounds.npy``), and the exports of Polycam, Metashape, RealityScan, Record3D,
    Stray Scanner, 3D Scanner App, Meshroom, OpenSfM and OpenDroneMap. A split that the data names is kept; otherwise
    every 8th frame by name, the first included, is for testing. Frames without a photo are left out with one
    warning.

    Args:
        path: The folder, or its transforms or poses file.
        max_side: Longest side wanted, in pixels: photos are reduced by the smallest whole factor that reaches
            it.
        downscale: The whole factor itself; not together with ``max_side``. Reduced copies in ``images_2`` ...
            are used where they exist.
        normalise: How training space is laid: ``auto``, ``focus``, ``pca``, ``up`` or ``scale``
            (see ``smerf.capture.normalise``).

    Returns:
        The capture. Its cameras are already those of the reduced photos; no pixels are read yet.

    Raises:
        InvalidDataError: If the files are damaged, incomplete or contradict each other.
        UsageError: If an option makes no sense.

    Example:
        >>> capture = load_capture("captures/garden", max_side=1600)  # doctest: +SKIP
        >>> len(capture.split("train")), len(capture.split("test"))  # doctest: +SKIP
        (161, 24)
    """
    if normalise not in METHODS:
        raise UsageError(f"normalise: expected one of {', '.join(METHODS)}, got {normalise!r}")
    source = read_source(Path(path))
    _check_names(source)
    photos = choose_photos(source, max_side=max_side, downscale=downscale)
    _check_centres(source)
    _check_depth_of_values(photos)
    frames = _default_split([frame for frame in _with_photos(source, photos) if frame.split != "unused"])
    if not any(frame.split == "train" for frame in frames):
        if len(frames) > 1 or not frames or frames[0].split is None:
            raise InvalidDataError(
                f"{source.stated_in}: no frame is left for training; correct the split that the data names"
            )
        frames = [replace(frames[0], split="train")]
    poses = np.stack([frame.world_from_cam for frame in frames])
    source = _with_object_bounds(source, poses)
    method = "scale" if normalise == "auto" and source.is_posed_by_design else normalise
    similarity, used = choose_similarity(poses, method, source.points)
    if not source.is_posed_by_design:
        kept = _without_outliers(frames, find_outliers(similarity, poses), source)
        if len(kept) < len(frames):
            frames, poses = kept, np.stack([frame.world_from_cam for frame in kept])
            similarity, used = choose_similarity(poses, method, source.points)
    _LOG.info("training space: %s, scale %.6g", used, similarity.scale)
    if any(frame.mask_path for frame in frames):
        _LOG.info("masks: black pixels are ignored, all others used (dynamic_mask_* files: the opposite)")

    loaded = tuple(
        _frame(frame, photos[frame.name], pose, similarity.scale)
        for frame, pose in zip(frames, apply_similarity(similarity, poses))
    )
    points = similarity.scale * source.points @ similarity.rotation.T + similarity.translation
    near, far = _bounds(source, loaded, used, similarity.scale, points)
    has_alpha = any(photos[frame.name].header.has_alpha for frame in frames)
    return Capture(
        root=source.root,
        kind=source.kind,
        frames=loaded,
        training_from_source=similarity,
        near=near,
        far=far,
        bounded=source.bounded,
        background=source.background or ("white" if has_alpha else None),
        points=points,
    )


def fingerprint(capture: Capture) -> str:
    """Return a SHA-256 that changes when anything that training sees does.

    That is: files and their sizes, masks, depth, poses, intrinsics, exposure, split, near and far. Times of files
    and the folder's own place do not count, so that a copied capture still resumes.
    """
    digest = hashlib.sha256()
    for frame in capture.frames:
        intrinsics = frame.camera.intrinsics
        files = [
            [
                Path(os.path.relpath(path, capture.root)).as_posix(),
                path.stat().st_size if path.is_file() else None,
            ]
            for path in (frame.image_path, frame.mask_path, frame.depth_path)
            if path is not None
        ]
        numbers = [
            intrinsics.fx,
            intrinsics.fy,
            intrinsics.cx,
            intrinsics.cy,
            *intrinsics.distortion,
            frame.depth_scale,
            frame.exposure,
            *([frame.orientation] if frame.orientation > 1 else []),
        ]
        pose = np.round(frame.camera.world_from_cam, 9) + 0.0  # below this, linear algebra differs by machine
        stated = [
            frame.name,
            frame.split,
            files,
            intrinsics.model,
            intrinsics.width,
            intrinsics.height,
            frame.downscale,
            numbers,
        ]
        digest.update(json.dumps([stated, pose.tolist()]).encode())
    bounds = [capture.near, capture.far, capture.bounded, capture.background]
    digest.update(json.dumps(bounds).encode())
    return digest.hexdigest()


def _check_names(source: Source) -> None:
    counts = Counter(frame.name for frame in source.frames)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise InvalidDataError(
            f"{source.stated_in}: {_listing(repeated)} listed more than once; each photo needs one frame"
        )
    if not source.frames:
        raise InvalidDataError(f"{source.stated_in}: holds no posed images; run the reconstruction again")


def _check_centres(source: Source) -> None:
    """Warn of principal points that real cameras do not have: numbers that were swapped or belong to other photos."""
    odd = []
    for frame in source.frames:
        lens = frame.intrinsics
        if np.hypot(lens.cx / lens.width - 0.5, lens.cy / lens.height - 0.5) > _MAX_CENTRE_OFFSET:
            odd.append(frame)
    if odd:
        lens = odd[0].intrinsics
        _LOG.warning(
            "%s: the principal point of %d photos lies far from the middle, first of %s: (%g, %g) in %dx%d. Unless the "
            "photos are cropped, cx and cy are swapped or belong to another size",
            source.stated_in, len(odd), odd[0].name, lens.cx, lens.cy, lens.width, lens.height,
        )  # fmt: skip


def _check_depth_of_values(photos: dict[str, Photo]) -> None:
    """Read the first photo of more than 8 bits, if any: whether its values can be meant shows in the pixels alone."""
    photo = next((photo for photo in photos.values() if photo.header.is_deep), None)
    if photo is not None and (brightest := int(read_pixels(photo.path).max())) < _DARK:
        _LOG.warning("%s: its brightest value is %.2g of white; if the camera has fewer bits than the file, scale the "
                     "values of all photos up", photo.path, brightest / 255)  # fmt: skip


def _with_photos(source: Source, photos: dict[str, Photo]) -> list[SourceFrame]:
    missing = [frame.name for frame in source.frames if frame.name not in photos]
    if len(missing) == len(source.frames):
        expected = source.frames[0].image_path
        there = [path for path in list_images(source.root) if may_be_photo(path.relative_to(source.root))]
        other = f" ({len(there)} images lie there under other names, the first {there[0]})" if there else ""
        raise InvalidDataError(
            f"{source.stated_in}: none of its {len(missing)} images exists (the first should be {expected}), and "
            f"none of these names lies elsewhere below {source.root}{other}; put the photos there"
        )
    if missing:
        _LOG.warning(
            "%s: %d of %d images are missing and left out: %s",
            source.stated_in, len(missing), len(source.frames), _listing(missing),
        )  # fmt: skip
    return [frame for frame in source.frames if frame.name in photos]


def _without_outliers(frames: list[SourceFrame], is_far: np.ndarray, source: Source) -> list[SourceFrame]:
    if not is_far.any():
        return frames
    names = [frame.name for frame, far in zip(frames, is_far) if far]
    _LOG.warning(
        "%s: %d cameras lie far from all others, probably wrong registrations, and are left out: %s",
        source.stated_in, len(names), _listing(names),
    )  # fmt: skip
    return [frame for frame, far in zip(frames, is_far) if not far]


def _listing(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


def _frame(frame: SourceFrame, photo: Photo, pose: np.ndarray, scale: float) -> Frame:
    return Frame(
        name=frame.name,
        image_path=photo.path,
        camera=Camera(photo.intrinsics, pose),
        split=frame.split or "unused",
        mask_path=frame.mask_path,
        depth_path=frame.depth_path,
        exposure=photo.exposure,
        downscale=photo.downscale,
        depth_scale=frame.depth_unit * scale,
        orientation=photo.orientation,
        sees=frame.sees,
    )


def _with_object_bounds(source: Source, poses: np.ndarray) -> Source:
    """Bound the object of a rendered set that states no bounds, or take the set as any other capture."""
    if not source.is_posed_by_design or (source.near is not None and source.far is not None):
        return source
    found = object_bounds(poses)
    if found is None:
        _LOG.warning(
            "%s: near and far are not stated, and the cameras do not look at one object: the scene is taken as "
            "unbounded. For an object, add near and far to the file",
            source.stated_in,
        )
        return replace(source, is_posed_by_design=False, bounded=False, background=None)
    near = found[0] if source.near is None else source.near
    far = found[1] if source.far is None else source.far
    _LOG.info("near %.4g and far %.4g, from the distance of the cameras; add near and far to %s to change them",
              near, far, source.stated_in.name)  # fmt: skip
    return replace(source, near=near, far=far, is_posed_by_design=found[2])


def _bounds(
    source: Source, frames: tuple[Frame, ...], method: str, scale: float, points: np.ndarray
) -> tuple[float, float]:
    """Return near and far in training units; stated bounds win."""
    far = np.inf if source.far is None else source.far * scale
    if source.near is not None:
        near = source.near * scale
    else:
        depth_bounds = None if source.depth_bounds is None else source.depth_bounds * scale
        near = choose_near([frame.camera for frame in frames], method, points, depth_bounds)
    if not 0 <= near < far:
        raise InvalidDataError(
            f"{source.stated_in}: near is {source.near} and far is {source.far}; correct "
            "them so that 0 <= near < far"
        )
    return float(near), float(far)


def _default_split(frames: list[SourceFrame]) -> list[SourceFrame]:
    """Sort by name and hold out every 8th frame, starting with the first, where the data names no split."""
    if any(frame.split is not None for frame in frames):
        return frames
    ordered = sorted(frames, key=lambda frame: frame.name)
    return [
        replace(frame, split="test" if index % _TEST_EVERY == 0 else "train")
        for index, frame in enumerate(ordered)
    ]
