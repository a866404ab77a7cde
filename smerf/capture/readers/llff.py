"""LLFF captures: ``poses_bounds.npy`` beside a folder of images.

Each row of the (N, 17) array is a row-major 3x5 matrix ``[R | t | (height, width, focal)]``, camera-to-world
with camera axes (down, right, backward), then the nearest and farthest depth. Row i belongs to the i-th image
by name.
Source: github.com/Fyusion/LLFF (README, "Using your own poses").
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from smerf.capture.images import load_npy
from smerf.capture.readers.image_files import find_masks, image_folder, list_images
from smerf.capture.readers.source import Source, SourceFrame, check_pose, make_intrinsics
from smerf.errors import InvalidDataError

__all__ = ["read_llff"]


def read_llff(path: Path) -> Source:
    """Read a ``poses_bounds.npy``.

    Raises:
        InvalidDataError: If the array is damaged or does not fit the number of images.
    """
    root = path.parent
    table = load_npy(path)
    if table.ndim != 2 or table.shape[1] != 17 or not np.issubdtype(table.dtype, np.floating):
        raise InvalidDataError(f"{path}: expected numbers of shape (N, 17), got {table.dtype} {table.shape}")
    folder, images = _images(root)
    if len(images) != len(table):
        raise InvalidDataError(
            f"{path}: holds {len(table)} poses, but {folder} holds {len(images)} images; "
            "each pose needs its image"
        )
    names = [image.relative_to(folder).as_posix() for image in images]
    masks = find_masks(root, names, [root / "images" / name for name in names])
    frames = []
    for row, name, mask in zip(table.astype(np.float64), names, masks):
        matrix = row[:15].reshape(3, 5)
        down, right, back, centre, (height, width, focal) = matrix.T
        pose = check_pose(np.stack([right, -down, back, centre], axis=1), path, name)
        stated = root / "images" / name
        if not np.all(np.isfinite([height, width, focal])):
            raise InvalidDataError(f"{path}: size or focal length of {name} is not finite; restore the file")
        frames.append(
            SourceFrame(
                name=name,
                image_path=stated,
                intrinsics=make_intrinsics(
                    "PINHOLE",
                    (round(width), round(height)),
                    (focal, focal),
                    (width / 2, height / 2),
                    (),
                    path,
                ),
                world_from_cam=pose,
                mask_path=mask,
            )
        )
    return Source(root, "llff", path, tuple(frames), depth_bounds=table[:, 15:17].astype(np.float64))


def _images(root: Path) -> tuple[Path, list[Path]]:
    """Return the folder with the largest images and what it holds."""
    folders = sorted(
        (factor or 1, path)
        for path in root.iterdir()
        if path.is_dir() and (parsed := image_folder(path.name)) and parsed[0] == "images"
        for factor in [parsed[1]]
    )
    if not folders:
        raise InvalidDataError(f"{root}: poses_bounds.npy needs a folder 'images' beside it; add the photos")
    return folders[0][1], list_images(folders[0][1])
