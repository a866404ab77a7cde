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

from smerf.engine.files import read_json, write_bytes, write_json
from smerf.errors import InvalidDataError, UsageError
from smerf.objects.model.rays import pixel_directions, to_reference_frame

__all__ = ["RayBatch", "SceneSet", "load_scenes", "save_scenes"]

_SHARD = 1000
_FORMAT = "smerf-object-scenes-1"


@dataclass(frozen=True)
class RayBatch:
    """Input views and target rays of some scenes.

    ``images`` (B, V, H, W, 3) float32 in [0, 1] with ``centre`` (B, V, 3), ``rotation`` (B, V, 3, 3) and
    ``fov_x`` (B, V); rays ``origins`` and ``directions`` (B, R, 3) with their ``colours`` (B, R, 3) and true
    object numbers ``labels`` (B, R) int64, 0 for the background.
    """

    images: Tensor
    centre: Tensor
    rotation: Tensor
    fov_x: Tensor
    origins: Tensor
    directions: Tensor
    colours: Tensor
    labels: Tensor


@dataclass(frozen=True)
class SceneSet:
    """Scenes of V views each; see the module for shapes. Tensors of one device."""

    rgb: Tensor
    seg: Tensor
    cam_pos: Tensor
    cam_R: Tensor  # noqa: N815
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
        centre, rotation = to_reference_frame(self.cam_pos, self.cam_R)
        return dataclasses.replace(self, cam_pos=centre, cam_R=rotation)

    def images(self, views: slice | Tensor = slice(None)) -> Tensor:
        """Return views of all scenes as float32 in [0, 1], (S, V, H, W, 3)."""
        return self.rgb[:, views].float() / 255.0

    def batch(
        self,
        scenes: Tensor,
        *,
        input_views: int,
        rays: int,
        targets: str,
        generator: torch.Generator,
        frame: str = "world",
        contrast: Tensor | None = None,
        contrast_share: float = 0.0,
    ) -> RayBatch:
        """Draw input views and target rays of scenes.

        Args:
            scenes: Numbers of the scenes, (B,) int64.
            input_views: Views given as input; they are drawn anew each time.
            rays: Target rays of each scene, drawn with repetition.
            targets: ``others`` for rays of the views not given as input, ``all`` for every view.
            generator: Source of the draws, on the CPU.
            frame: Coordinates of the cameras; ``reference`` makes the first input view the frame.
            contrast: Weights (S, V * H * W) by which a share of the rays is drawn; see ``local_contrast``.
            contrast_share: That share.

        Raises:
            InvalidDataError: If the scenes have too few views.
        """
        if self.views < input_views + (targets == "others"):
            raise InvalidDataError(
                f"scenes have {self.views} views, too few for {input_views} as input with targets={targets}"
            )
        device = self.rgb.device
        scenes = scenes.to(device)
        count, (height, width) = len(scenes), self.size
        order = torch.rand(count, self.views, generator=generator).argsort(1).to(device)
        rows = scenes[:, None]
        centre, rotation = self.cam_pos[rows, order], self.cam_R[rows, order]
        if frame == "reference":
            centre, rotation = to_reference_frame(centre, rotation)
        first = input_views if targets == "others" else 0
        pixels = height * width
        available = (self.views - first) * pixels
        chosen = torch.randint(available, (count, rays), generator=generator).to(device)
        guided = round(contrast_share * rays)
        if guided and contrast is not None:
            maps = contrast[scenes].unflatten(1, (self.views, pixels))
            maps = maps.gather(1, order[:, first:, None].expand(-1, -1, pixels)).flatten(1)
            cdf = maps.cumsum(1)
            u = torch.rand(count, guided, generator=generator).to(device) * cdf[:, -1:]
            chosen[:, :guided] = torch.searchsorted(cdf, u).clamp_max(available - 1)
        view, pixel = chosen // pixels + first, chosen % pixels
        row, column = pixel // width, pixel % width
        source = order.gather(1, view)
        fov = self.fov_x[rows, order]
        which = torch.arange(count, device=device)[:, None]
        directions = pixel_directions(
            rotation[which, view], fov[which, view], column.float(), row.float(), (height, width)
        )
        inputs = order[:, :input_views]
        return RayBatch(
            images=self.rgb[rows, inputs].float() / 255.0,
            centre=centre[:, :input_views],
            rotation=rotation[:, :input_views],
            fov_x=fov[:, :input_views],
            origins=centre[which, view],
            directions=directions,
            colours=self.rgb[rows, source, row, column].float() / 255.0,
            labels=self.seg[rows, source, row, column].long(),
        )

    def local_contrast(self) -> Tensor:
        """Return how much each pixel differs from its surroundings, float32 (S, V * H * W), positive.

        The blurred length of the colour gradient: high on and around objects, low on plain floors. It comes from
        the photos alone, without masks.
        """
        parts = []
        for start in range(0, len(self), 256):
            image = self.rgb[start : start + 256].flatten(0, 1).permute(0, 3, 1, 2).float() / 255.0
            padded = torch.nn.functional.pad(image, (0, 1, 0, 1), mode="replicate")
            across = (padded[..., :-1, 1:] - image).abs().sum(1, keepdim=True)
            along = (padded[..., 1:, :-1] - image).abs().sum(1, keepdim=True)
            smooth = torch.nn.functional.avg_pool2d(across + along, 5, 1, 2, count_include_pad=False)
            parts.append(smooth.unflatten(0, (-1, self.views)).flatten(1))
        return torch.cat(parts) + 1e-4

    def _map(self, change: Callable[[Tensor], Tensor]) -> SceneSet:
        depth = None if self.depth is None else change(self.depth)
        tensors = (change(x) for x in (self.rgb, self.seg, self.cam_pos, self.cam_R, self.fov_x))
        return SceneSet(*tensors, depth, self.source)


def save_scenes(scenes: SceneSet, folder: Path) -> None:
    """Write a set as a folder of shards; a folder without ``set.json`` is incomplete."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(scenes), _SHARD)):
        part = scenes[start : start + _SHARD].to("cpu")
        arrays = {name: getattr(part, name).numpy() for name in ("rgb", "seg", "cam_pos", "cam_R", "fov_x")}
        if part.depth is not None:
            arrays["depth"] = part.depth.numpy().astype(np.float16)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
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
    return SceneSet(**joined, source=record.get("source") or {})[: limit or total]


def _read_shard(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        rgb = arrays["rgb"]
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
