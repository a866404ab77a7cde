"""Rendered frames as a video file, an animated GIF, or a folder of PNG images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from smerf.engine.files import writing
from smerf.errors import UsageError

__all__ = ["VIDEO_SUFFIXES", "is_video", "write_frames", "write_video"]

_CODECS: dict[str, dict[str, Any]] = {
    ".mp4": {"codec": "libx264", "quality": 8, "macro_block_size": 1},
    ".mov": {"codec": "libx264", "quality": 8, "macro_block_size": 1},
    ".mkv": {"codec": "libx264", "quality": 8, "macro_block_size": 1},
    ".webm": {"codec": "libvpx-vp9", "quality": 8, "macro_block_size": 1},
    ".gif": {"mode": "I", "loop": 0},
}
VIDEO_SUFFIXES = tuple(_CODECS)
_NOT_FRAMES = (".avi", ".wmv", ".m4v", ".ogv", ".flv", ".apng", ".webp", ".png", ".jpg", ".jpeg", ".exr")


def is_video(path: Path) -> bool:
    """Return whether a name is that of a video, and not of a folder of frames.

    Raises:
        UsageError: If it is that of a file that we do not write.
    """
    suffix = path.suffix.lower()
    if suffix in _NOT_FRAMES:
        raise UsageError(
            f"{path}: {suffix} is not written; name a video ({', '.join(VIDEO_SUFFIXES)}) or a folder for PNG frames"
        )
    return suffix in _CODECS


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write a video, which takes its place when it is complete.

    Args:
        path: File with one of ``VIDEO_SUFFIXES``.
        frames: uint8 (H, W, 3), all of one size.
        fps: Frames a second.
    """
    import imageio.v2 as imageio

    # A GIF counts milliseconds a frame.
    speed = {"duration": 1000.0 / fps} if path.suffix.lower() == ".gif" else {"fps": fps}
    options = _CODECS[path.suffix.lower()] | speed
    with writing(path) as aside, imageio.get_writer(aside, **options) as writer:
        for frame in frames:
            height, width = frame.shape[:2]
            # The encoders' colour format needs even sides: a last odd row or column is left out.
            even = frame[: max(height - height % 2, 1), : max(width - width % 2, 1)]
            writer.append_data(even)  # type: ignore[attr-defined]  # imageio states the base of its writers alone


def write_frames(folder: Path, names: list[str], frames: Iterable[np.ndarray]) -> None:
    """Write frames, uint8 (H, W, 3), as ``FOLDER/NAME.png``."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    # The frames come first, so that the last turn lets their generator finish.
    for frame, name in zip(frames, names):
        Image.fromarray(frame).save(folder / f"{name}.png")
