"""Frames of a video before it is a capture: of a file, or of a folder in the order of their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from smerf.errors import UsageError

if TYPE_CHECKING:
    from smerf.capture.types import Capture, Frame
    from smerf.vision.clips import Clips

__all__ = ["FRAMES", "compared_frames", "frames_capture", "is_video", "open_frames", "own_clips"]

FRAMES = "frames"
"""Kind of a capture whose poses mean nothing."""
_RATE = 10.0
"""Frames a second between which somebody who walks moves by a few hundredths of their height."""
_MIN_SIDE = 16


def is_video(path: Path) -> bool:
    """Return whether a path is a file with a video's suffix."""
    from smerf.prepare.intake import VIDEO_SUFFIXES

    return path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES


@contextmanager
def open_frames(path: Path, output: Path, max_side: int) -> Iterator[tuple[Capture, int]]:
    """Yield the frames of a video, or of a folder of them, as a capture whose poses mean nothing, and how many make a
    tenth of a second (1 for a folder).

    Args:
        path: Folder, or video: its frames are those that ``smerf prepare`` chooses from, named as it names them.
        output: Folder in which the masks belong.
        max_side: Longest side of the photos in pixels.

    Raises:
        UsageError: If there are no photos.
        InvalidDataError: If the video can't be read.
    """
    if not is_video(path):
        yield frames_capture(output, _photos(path), max_side), 1
        return
    from smerf.prepare.video import extract_frames, probe

    video = probe(path)
    count = max(1, int(video.seconds * video.rate / video.stride))
    with TemporaryDirectory(prefix="smerf_frames_") as folder:
        paths = []
        for number, image in _readable(
            extract_frames, video, [i * video.stride for i in range(count)], max_side
        ):
            paths.append(Path(folder) / f"frame_{number:06d}.jpg")
            image.save(paths[-1], quality=95)
        yield frames_capture(output, paths, max_side), max(1, round(video.rate / video.stride / _RATE))


def _readable(
    extract: Callable[..., Any], video: Any, numbers: Sequence[int], max_side: int
) -> Iterator[Any]:
    """Yield frames up to the last one that is there: a container's length is often a frame or two too long."""
    from smerf.errors import InvalidDataError

    done = 0
    try:
        for each in extract(video, numbers, max_side, lambda count: None):
            done += 1
            yield each
    except InvalidDataError:
        if done < len(numbers) - 3:
            raise


def _photos(folder: Path) -> list[Path]:
    from smerf.prepare.intake import find_inputs, sort_photos

    inputs = find_inputs([folder])
    if len(inputs) != 1 or is_video(inputs[0][0]):
        raise UsageError(f"{folder}: holds videos; give one of them")
    return list(sort_photos(inputs[0]))


def frames_capture(root: Path, paths: Sequence[Path], max_side: int = 65_535) -> Capture:
    """Return photos in order as a capture whose poses mean nothing, with the masks that lie in ``root``."""
    from smerf.capture.pixels import read_header
    from smerf.capture.readers.image_files import mask_folder, match_masks
    from smerf.capture.types import Camera, Capture, Frame, Intrinsics, Similarity

    def name(path: Path) -> str:
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name

    folder = mask_folder(root) if root.is_dir() else None
    names = [name(path) for path in paths]
    masks = match_masks(folder, names, paths) if folder else [None] * len(paths)
    frames = []
    for own, path, mask in zip(names, paths, masks):
        header = read_header(path)
        factor = max(1, -(-max(header.upright) // max_side))
        width, height = (side // factor for side in header.upright)
        if min(width, height) < _MIN_SIDE:
            raise UsageError(
                f"{path}: is too small to tell what moves; give photos of {_MIN_SIDE} pixels or more"
            )
        lens = Intrinsics("PINHOLE", width, height, width, width, width / 2, height / 2)
        camera = Camera(lens, np.eye(4)[:3])
        frames.append(
            Frame(own, path, camera, "train", mask, downscale=factor, orientation=header.orientation)
        )
    return Capture(root, FRAMES, tuple(frames), Similarity(), 0.1, np.inf, False, None, np.zeros((0, 3)))


def compared_frames(capture: Capture) -> np.ndarray:
    """Return all photos at the size at which they are compared, uint8 (T, H, W, 3).

    Raises:
        UsageError: If they are of different shapes.
    """
    from PIL import Image

    from smerf.capture import load_image
    from smerf.vision.clips import reduced_size

    lens = capture.frames[0].camera.intrinsics
    size = reduced_size(lens.width, lens.height)
    compared = []
    for frame in capture.frames:
        pixels = load_image(frame)[..., :3]
        if pixels.shape[:2] != (lens.height, lens.width):
            raise UsageError(
                f"{frame.image_path}: has another shape than the first; give the frames of one video"
            )
        compared.append(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX)))
    return np.stack(compared)


def own_clips(paths: Sequence[Path], progress: Callable[[str, str, float | None], Any]) -> Clips:
    """Return clips of videos or folders of frames with doubtful labels (``smerf.vision.motion.doubtful_clips``).

    Raises:
        UsageError: If one has fewer frames than a clip.
    """
    from smerf.vision.clips import FRAMES, Clips
    from smerf.vision.motion import doubtful_clips

    clips = []
    for path in paths:
        with open_frames(path, path, 640) as (capture, step), progress("label", "photos", None) as shown:
            frames = compared_frames(capture)
            if len(frames) < FRAMES * step:
                raise UsageError(f"{path}: has {len(frames)} frames, a clip takes {FRAMES * step}")
            people = []
            for frame in capture.frames:
                people.append(_people(frame, (frames.shape[2], frames.shape[1])))
                shown.update(len(people))
            clips.append(doubtful_clips(frames, np.stack(people), step))
    return Clips.join(clips)


def _people(frame: Frame, size: tuple[int, int]) -> np.ndarray:
    """Return where a photo shows people, bool (H, W), at a width and height."""
    from PIL import Image

    from smerf.capture import load_image
    from smerf.vision.people import find_people

    found = Image.fromarray(find_people(load_image(frame)))
    return np.asarray(found.resize(size, Image.Resampling.NEAREST))
