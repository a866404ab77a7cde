"""Sets of object scenes: images, instance masks and cameras, in memory and on disk.

On disk a set is a folder of ``scenes_00000.npz`` shards of at most 1000 scenes: ``rgb`` uint8 (S, V, H, W, 3),
``seg`` uint8 (S, V, H, W) with 0 for the background, ``cam_pos`` float32 (S, V, 3), ``cam_R`` float32
(S, V, 3, 3) with rows x right, y down, z forward, ``fov_x`` float32 (S, V) in radians, optionally ``depth``
float16 (S, V, H, W) along the ray, and ``set.json`` with where they came from.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Camera
from smerf.engine.files import read_json, write_bytes, write_json
from smerf.errors import InvalidDataError, UsageError
from smerf.objects.cameras import from_cv, make_camera, to_cv, to_reference_frame

__all__ = ["SceneSet", "load_scenes", "save_scenes"]

_SHARD = 1000
_FORMAT = "smerf-object-scenes-1"


@dataclass(frozen=True)
class SceneSet:
    """Scenes of V views each, as tensors of one device.

    ``rgb`` uint8 (S, V, H, W, 3); ``seg`` uint8 (S, V, H, W), 0 for the background; ``world_from_cam`` float32
    (S, V, 3, 4) and ``fov_x`` float32 (S, V), see ``smerf.objects.cameras``; ``depth`` float16 (S, V, H, W) along the
    ray; ``source`` where they came from, as JSON values.
    """

    rgb: Tensor
    seg: Tensor
    world_from_cam: Tensor
    fov_x: Tensor
    depth: Tensor | None = None
    source: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def views(self) -> int:
        """Views of a scene."""
        return self.rgb.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.rgb.shape[2], self.rgb.shape[3]

    def __getitem__(self, which: slice | Tensor) -> SceneSet:
        """Return some of the scenes."""
        return self._map(lambda tensor: tensor[which])

    def to(self, device: str | torch.device) -> SceneSet:
        """Return the set on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def in_frame(self, frame: str) -> SceneSet:
        """Return the set with cameras in the ``world`` frame (unchanged) or relative to each ``reference`` view."""
        if frame == "world":
            return self
        return dataclasses.replace(self, world_from_cam=to_reference_frame(self.world_from_cam))

    def camera(self, scene: int, view: int) -> Camera:
        """Return the camera of one view."""
        return make_camera(self.world_from_cam[scene, view], self.fov_x[scene, view], self.size)

    def images(self, views: slice | Tensor = slice(None)) -> Tensor:
        """Return views of all scenes as float32 in [0, 1], (S, V, H, W, 3)."""
        return self.rgb[:, views].float() / 255.0

    def _map(self, change: Callable[[Tensor], Tensor]) -> SceneSet:
        depth = None if self.depth is None else change(self.depth)
        tensors = (change(x) for x in (self.rgb, self.seg, self.world_from_cam, self.fov_x))
        return SceneSet(*tensors, depth, self.source)


def save_scenes(scenes: SceneSet, folder: Path) -> None:
    """Write a set as a folder of shards; a folder without ``set.json`` is incomplete."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(scenes), _SHARD)):
        part = scenes[start : start + _SHARD].to("cpu")
        centre, rotation = to_cv(part.world_from_cam)
        tensors = {
            "rgb": part.rgb,
            "seg": part.seg,
            "cam_pos": centre,
            "cam_R": rotation,
            "fov_x": part.fov_x,
        }
        if part.depth is not None:
            tensors["depth"] = part.depth.half()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: value.numpy() for name, value in tensors.items()})
        write_bytes(folder / f"scenes_{number:05d}.npz", buffer.getvalue())
    record = {"format": _FORMAT, "scenes": len(scenes), "source": scenes.source}
    write_json(folder / "set.json", record)


def load_scenes(folder: Path, limit: int | None = None) -> SceneSet:
    """Read a set of scenes.

    Args:
        folder: What ``save_scenes`` wrote.
        limit: Read only the first scenes.

    Raises:
        UsageError: If there is no set in the folder.
        InvalidDataError: If a file is damaged or the shards disagree; the message names the file.
    """
    record_path = folder / "set.json"
    if not record_path.is_file():
        raise UsageError(
            f"{folder}: holds no object scenes (no set.json); smerf objects synth -o {folder} makes some"
        )
    record = read_json(record_path)
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise InvalidDataError(f"{record_path}: is not a set of object scenes of this version")
    parts: list[dict[str, Tensor]] = []
    total = 0
    for path in sorted(folder.glob("scenes_*.npz")):
        parts.append(_read_shard(path))
        total += len(parts[-1]["rgb"])
        if parts[-1]["rgb"].shape[1:] != parts[0]["rgb"].shape[1:] or parts[-1].keys() != parts[0].keys():
            raise InvalidDataError(f"{path}: has other arrays or image sizes than the shards before it")
        if limit is not None and total >= limit:
            break
    if limit is None and total != record.get("scenes"):
        raise InvalidDataError(
            f"{folder}: holds {total} scenes, {record.get('scenes')} were written; restore it"
        )
    if not total:
        raise InvalidDataError(f"{folder}: holds no scenes")
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    world_from_cam = from_cv(joined.pop("cam_pos"), joined.pop("cam_R"))
    return SceneSet(world_from_cam=world_from_cam, **joined, source=record.get("source") or {})[
        : limit or total
    ]


def _read_shard(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        rgb = arrays["rgb"]
        if rgb.ndim != 5 or 0 in rgb.shape:
            raise InvalidDataError(f"{path}: rgb is {rgb.shape}, expected (scenes, views, height, width, 3)")
        leading = rgb.shape[:2]
        expected = {
            "rgb": (np.uint8, (*rgb.shape[:4], 3)),
            "seg": (np.uint8, rgb.shape[:4]),
            "cam_pos": (np.float32, (*leading, 3)),
            "cam_R": (np.float32, (*leading, 3, 3)),
            "fov_x": (np.float32, leading),
        }
        if "depth" in arrays:
            expected["depth"] = (np.float16, rgb.shape[:4])
        for name, (dtype, shape) in expected.items():
            if arrays[name].dtype != dtype or arrays[name].shape != shape:
                raise InvalidDataError(
                    f"{path}: {name} is {arrays[name].dtype} {arrays[name].shape}, expected {np.dtype(dtype)} {shape}"
                )
        if not all(np.isfinite(arrays[name]).all() for name in ("cam_pos", "cam_R", "fov_x")):
            raise InvalidDataError(f"{path}: a camera has a value that is not finite")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidDataError(f"{path}: cannot be read ({error}); restore the file") from error
    return {name: torch.from_numpy(arrays[name]) for name in expected}
