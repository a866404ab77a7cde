"""NeRF-synthetic: ``transforms_train.json``, ``transforms_val.json`` and ``transforms_test.json``.

Rendered objects on a transparent background, posed around the origin; content lies between t = 2 and t = 6.
Source: the data released with NeRF (Mildenhall et al., arXiv 2003.08934).
"""

from __future__ import annotations

from pathlib import Path

from smerf.capture.readers.nerfstudio import parse_frames, read_json, read_number
from smerf.capture.readers.source import Source
from smerf.errors import InvalidDataError

__all__ = ["find_synthetic", "read_synthetic"]

_NEAR, _FAR = 2.0, 6.0
_LAYOUT = "transforms_{}.json"


def find_synthetic(root: Path) -> bool:
    """Tell whether ``root`` holds a set split into transforms files."""
    return (root / _LAYOUT.format("train")).is_file() or (root / _LAYOUT.format("test")).is_file()


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
    if held_out is not None:
        frames += parse_frames(read_json(held_out), held_out, lambda _: "test")
    else:
        frames = parse_frames(content, train, lambda _: None)
    # Sets that only borrow the file names (real photos with calibrated intrinsics) have no such bounds.
    is_rendered = "fl_x" not in content and "aabb_scale" not in content
    return Source(
        root=root,
        kind="nerf-synthetic" if is_rendered else "nerfstudio",
        stated_in=train,
        frames=tuple(frames),
        near=read_number(content, "near", train, _NEAR if is_rendered else None),
        far=read_number(content, "far", train, _FAR if is_rendered else None),
        bounded=bool(content.get("bounded", is_rendered)),
        background="white" if is_rendered else None,
        is_posed_by_design=is_rendered,
    )
