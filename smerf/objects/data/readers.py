"""Scenes that others made: the CLEVR-3D / ObSuRF file layout, exports of Kubric's MultiShapeNet, and photos.

*CLEVR-3D and ObSuRF-MSN*: ``metadata.npz`` (``camera_pos`` (N, views, 3), ``shape`` (N, objects), 0 for an empty
place), ``images/img_S_V.png``, ``masks/masks_S_V.png`` (0 is the background), optionally ``depths/depths_S_V.png``
(16 bits, value / 65536 * 40 units). Cameras look at the origin through a 35 mm lens on a 32 mm sensor.

*Kubric / MultiShapeNet* lies in TFRecord files, which only TensorFlow reads. Export them once, where it is
installed, one ``.npz`` for each scene, and no TensorFlow is needed here:

    import numpy as np, tensorflow_datasets as tfds, sunds
    scenes = sunds.load("kubric:kubric/multi_shapenet_conditional", split="train", data_dir=SUNDS_DIR,
                        task=sunds.tasks.Nerf(yield_mode=sunds.tasks.YieldMode.STACKED))
    for number, scene in enumerate(tfds.as_numpy(scenes)):
        np.savez_compressed(f"scene_{number:07d}.npz", color_image=scene["color_image"],
                            instance_image=scene["instance_image"],
                            ray_origins=scene["ray_origins"][:, 0, 0], ray_directions=scene["ray_directions"])

with ``color_image`` uint8 (V, H, W, 3), ``instance_image`` uint8 (V, H, W[, 1]) with 1 for the background,
``ray_origins`` float32 (V, 3) or (V, H, W, 3), ``ray_directions`` float32 (V, H, W, 3) in world coordinates.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from smerf.errors import InvalidDataError, UsageError
from smerf.objects.cameras import from_cv, look_at
from smerf.objects.data.scenes import SceneSet, load_scenes

__all__ = ["holds_sets", "is_scene_set", "open_scenes", "open_views", "read_kubric", "read_obsurf"]

_FOV_X = 2.0 * math.atan(16.0 / 35.0)
_DEPTH_UNIT = 40.0 / 65536.0


def is_scene_set(path: Path) -> bool:
    """Return whether a folder is a set of scenes in a layout that ``open_scenes`` reads."""
    return path.is_dir() and (
        any((path / name).is_file() for name in ("set.json", "metadata.npz")) or any(path.glob("scene_*.npz"))
    )


def holds_sets(path: Path) -> bool:
    """Return whether a folder is no set but holds sets, or folders that hold sets."""
    if not path.is_dir() or is_scene_set(path):
        return False
    inner = [each for each in path.iterdir() if each.is_dir()]
    return any(is_scene_set(each) or holds_sets(each) for each in inner)


def open_scenes(path: Path, limit: int | None = None) -> SceneSet:
    """Read a set of scenes in whichever layout it has.

    Args:
        path: Folder.
        limit: Read only the first scenes.

    Raises:
        UsageError: If there is no such set.
        InvalidDataError: If it is damaged.
    """
    if not path.is_dir():
        raise UsageError(
            f"{path}: {'is not a folder' if path.exists() else 'does not exist'}; give a set of scenes"
        )
    if (path / "set.json").is_file():
        return load_scenes(path, limit)
    if (path / "metadata.npz").is_file():
        return read_obsurf(path, limit=limit)
    if any(path.glob("scene_*.npz")):
        return read_kubric(path, limit)
    raise UsageError(
        f"{path}: holds no object scenes (set.json, metadata.npz or scene_*.npz); "
        f"smerf objects synth easy -o {path} makes some"
    )


def open_views(
    path: Path,
    scene: int,
    count: int,
    size: tuple[int, int],
    takes: Callable[[tuple[int, int]], bool] | None = None,
) -> SceneSet:
    """Read one scene: of a set, or a capture of photos.

    Args:
        path: A set of scenes, or a posed capture.
        scene: Which of a set.
        count: Views that are needed, of a capture; evenly spread over its photos.
        size: Height and width of the images that the model expects.
        takes: Whether it takes images of a set of another size, too.

    Raises:
        UsageError: If the scene is not there.
        InvalidDataError: If the images of a set have another size.
    """
    if not is_scene_set(path):
        from smerf.objects.data.photos import views_of_capture

        return views_of_capture(path, count, size)
    if scene < 0:
        raise UsageError(f"--scene {scene}: scenes are counted from 0")
    scenes = open_scenes(path, limit=scene + 1)
    if scene >= len(scenes):
        raise UsageError(f"--scene {scene}: {path} holds {len(scenes)} scenes, counted from 0")
    if scenes.size != size and not (takes and takes(scenes.size)):
        raise InvalidDataError(
            f"{path}: has images of {scenes.size[1]}x{scenes.size[0]} pixels, the model expects {size[1]}x{size[0]}"
        )
    return scenes[scene : scene + 1]


def read_obsurf(path: Path, *, limit: int | None = None, halvings: int = 0, max_objects: int = 6) -> SceneSet:
    """Read scenes in the layout of CLEVR-3D and ObSuRF's MultiShapeNet.

    Args:
        path: Folder with ``metadata.npz``.
        limit: Read only the first scenes that qualify.
        halvings: Halve the images so often, by taking every second pixel; rays stay exact.
        max_objects: Leave out scenes with more objects.

    Raises:
        InvalidDataError: If a file is missing or does not match the others; the message names it.
    """
    metadata = _arrays(path / "metadata.npz", ("camera_pos", "shape"))
    positions, shapes = metadata["camera_pos"], metadata["shape"]
    if positions.ndim != 3 or positions.shape[2] != 3 or len(shapes) != len(positions):
        raise InvalidDataError(
            f"{path / 'metadata.npz'}: camera_pos {positions.shape} and shape {shapes.shape} do not match"
        )
    numbers = np.flatnonzero((shapes.reshape(len(shapes), -1) > 0).sum(1) <= max_objects)
    # A part of the published set: only what is there is listed.
    numbers = [int(n) for n in numbers if (path / "images" / f"img_{n}_0.png").is_file()][:limit]
    if not numbers:
        raise InvalidDataError(f"{path}: has no image images/img_S_0.png of a scene in metadata.npz")
    views = sum((path / "images" / f"img_{numbers[0]}_{v}.png").is_file() for v in range(positions.shape[1]))
    step = 2**halvings
    pick = (slice(None), slice(step // 2, None, step), slice(step // 2, None, step))
    with_depth = (path / "depths").is_dir()
    size = _image(path / "images" / f"img_{numbers[0]}_0.png", "RGB").shape[:2]
    rgb, seg, depth = [], [], []
    for n in numbers:
        names = [f"{n}_{v}.png" for v in range(views)]
        rgb.append(_images([path / "images" / f"img_{name}" for name in names], "RGB", size)[pick])
        seg.append(_images([path / "masks" / f"masks_{name}" for name in names], None, size)[pick])
        if with_depth:
            values = _images([path / "depths" / f"depths_{name}" for name in names], None, size)[pick]
            depth.append(values * _DEPTH_UNIT)
    try:
        poses = look_at(torch.from_numpy(positions[numbers, :views].astype(np.float32)))
    except ValueError as error:
        raise InvalidDataError(f"{path / 'metadata.npz'}: camera_pos: {error}") from error
    return SceneSet(
        torch.from_numpy(np.stack(rgb)),
        torch.from_numpy(np.stack(seg).astype(np.uint8)),
        poses,
        torch.full((len(numbers), views), _FOV_X),
        torch.from_numpy(np.stack(depth).astype(np.float16)) if depth else None,
        {"kind": "obsurf", "folder": path.resolve().name, "scenes": len(numbers)},
    )


def read_kubric(path: Path, limit: int | None = None) -> SceneSet:
    """Read an export of Kubric's MultiShapeNet (see the module for how to make one).

    Raises:
        InvalidDataError: If a file is damaged, or its rays are not those of a pinhole camera.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    for file in sorted(path.glob("scene_*.npz"))[:limit]:
        parts.append(_kubric_scene(file))
        if parts[-1][0].shape != parts[0][0].shape:
            raise InvalidDataError(
                f"{file}: has images {parts[-1][0].shape}, the first scene {parts[0][0].shape}; "
                "all scenes of a set must have one size"
            )
    rgb, seg, centre, rotation, fov_x = (torch.from_numpy(np.stack(part)) for part in zip(*parts))
    source = {"kind": "kubric", "folder": path.resolve().name, "scenes": len(parts)}
    return SceneSet(rgb, seg, from_cv(centre, rotation), fov_x, source=source)


def _kubric_scene(file: Path) -> tuple[np.ndarray, ...]:
    """Return colours, labels, centres, rotations (rows x right, y down, z forward) and fields of view of a scene."""
    arrays = _arrays(file, ("color_image", "instance_image", "ray_origins", "ray_directions"))
    rgb, seg = arrays["color_image"], arrays["instance_image"]
    origins, directions = arrays["ray_origins"], arrays["ray_directions"]
    if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[3] != 3:
        raise InvalidDataError(f"{file}: color_image is {rgb.dtype} {rgb.shape}, expected uint8 (V, H, W, 3)")
    matching = {
        "instance_image": (seg.shape, (rgb.shape[:3], (*rgb.shape[:3], 1))),
        "ray_origins": (origins.shape, (rgb.shape, (len(rgb), 3))),
        "ray_directions": (directions.shape, (rgb.shape,)),
    }
    for name, (shape, expected) in matching.items():
        if shape not in expected:
            raise InvalidDataError(f"{file}: {name} is {shape}, expected {' or '.join(map(str, expected))}")
    rotation, fov_x = _camera_of_rays(directions, file)
    # Instance 0 occurs by fault; the background is 1.
    labels = np.clip(seg.reshape(rgb.shape[:3]), 1, 255) - 1
    centre = origins.reshape(len(rgb), -1, 3)[:, 0]
    return rgb, labels.astype(np.uint8), centre.astype(np.float32), rotation, fov_x


def _camera_of_rays(directions: np.ndarray, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Recover rotations (V, 3, 3) and fields of view (V,) from the directions (V, H, W, 3) of square pixels."""
    directions = directions.astype(np.float64)
    directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    height, width = directions.shape[1:3]
    rotations, angles = [], []
    for d in directions:
        # The corners of a level pinhole image are symmetric about its axis.
        forward = d[[0, 0, -1, -1], [0, -1, 0, -1]].sum(0)
        forward /= np.linalg.norm(forward)
        plane = d / (d @ forward)[..., None]
        across, along = plane[0, -1] - plane[0, 0], plane[-1, 0] - plane[0, 0]
        tangent = 0.5 * np.linalg.norm(across) * width / max(width - 1, 1)
        right, down = across / np.linalg.norm(across), along / np.linalg.norm(along)
        rotation = np.stack([right, down, forward])
        u = ((np.arange(width) + 0.5) * 2 / width - 1) * tangent
        v = ((np.arange(height) + 0.5) * 2 / height - 1) * tangent * height / width
        model = forward + u[None, :, None] * right + v[:, None, None] * down
        if not np.allclose(model, plane, atol=2e-3) or abs(np.linalg.det(rotation) - 1.0) > 1e-3:
            raise InvalidDataError(
                f"{file}: ray_directions are not those of a pinhole camera with square pixels"
            )
        rotations.append(rotation)
        angles.append(2.0 * math.atan(tangent))
    return np.stack(rotations).astype(np.float32), np.array(angles, np.float32)


def _arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except KeyError as error:
        raise InvalidDataError(f"{path}: lacks the array {error}") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidDataError(f"{path}: cannot be read ({error}); restore the file") from error


def _images(paths: list[Path], mode: str | None, size: tuple[int, int]) -> np.ndarray:
    """Read images of one size (height, width), as a stack."""
    images = []
    for path in paths:
        image = _image(path, mode)
        if image.shape[:2] != size:
            raise InvalidDataError(
                f"{path}: has {image.shape[1]}x{image.shape[0]} pixels, the first image {size[1]}x{size[0]}; "
                "all images, masks and depths of a set must have one size"
            )
        if mode is None and image.ndim != 2:
            raise InvalidDataError(f"{path}: has {image.shape[2]} channels, expected one")
        images.append(image)
    return np.stack(images)


def _image(path: Path, mode: str | None) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode) if mode else image)
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidDataError(f"{path}: cannot be read ({error}); restore the file") from error
