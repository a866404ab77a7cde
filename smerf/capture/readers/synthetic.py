"""NeRF-synthetic: ``transforms_train.json``, ``transforms_val.json`` and ``transforms_test.json``.

Rendered objects on a transparent background, posed around the origin.
Source: the data released with NeRF (Mildenhall et al., arXiv 2003.08934).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from smerf.capture.readers.nerfstudio import parse_frames, read_json, read_number
from smerf.capture.readers.source import Source, SourceFrame
from smerf.errors import InvalidDataError

__all__ = ["find_synthetic", "read_synthetic"]

_LOG = logging.getLogger("smerf")

_LAYOUT = "transforms_{}.json"


def find_synthetic(root: Path) -> bool:
    """Tell whether ``root`` holds a set split into transforms files."""
    return (root / _LAYOUT.format("train")).is_file() or (root / _LAYOUT.format("test")).is_file()


def _held_out(frames: list[SourceFrame], path: Path) -> list[SourceFrame]:
    """Read the frames that are no training photos; many tools are given a copy of the training file."""
    training = {frame.image_path for frame in frames}
    tests = parse_frames(read_json(path), path, lambda _: "test", taken=training)
    poses = {_key(frame) for frame in frames}
    own = [frame for frame in tests if frame.image_path not in training and _key(frame) not in poses]
    if len(own) < len(tests):
        _LOG.warning(
            "%s: %d of its %d photos are training photos, and are not used for testing%s",
            path, len(tests) - len(own), len(tests),
            "" if own else "; every 8th photo is held out instead",
        )  # fmt: skip
    return own


def _key(frame: SourceFrame) -> tuple[bytes, int | None]:
    """Return what copies of a photo share: the pose, and the size of the file."""
    size = frame.image_path.stat().st_size if frame.image_path.is_file() else None
    return np.round(frame.world_from_cam, 6).tobytes(), size


def read_synthetic(root: Path) -> Source:
    """Read a NeRF-synthetic set; validation frames are the test only where there is no test file.

    Raises:
        InvalidDataError: If the training file is missing or a file is broken.
    """
    train = root / _LAYOUT.format("train")
    if not train.is_file():
        raise InvalidDataError(f"{train}: missing beside transforms_test.json; restore the training poses")
    held_out = next(
        (path for name in ("test", "val") if (path := root / _LAYOUT.format(name)).is_file()), None
    )
    content = read_json(train)
    frames = parse_frames(content, train, lambda _: "train")
    tests = [] if held_out is None else _held_out(frames, held_out)
    frames = frames + tests if tests else [replace(frame, split=None) for frame in frames]
    # Sets that only borrow the file names (real photos with calibrated intrinsics) have no such bounds.
    is_rendered = "fl_x" not in content and "aabb_scale" not in content
    return Source(
        root=root,
        kind="nerf-synthetic" if is_rendered else "nerfstudio",
        stated_in=train,
        frames=tuple(frames),
        near=read_number(content, "near", train),
        far=read_number(content, "far", train),
        bounded=bool(content.get("bounded", is_rendered)),
        background="white" if is_rendered else None,
        is_posed_by_design=is_rendered,
    )
