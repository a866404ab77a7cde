"""Images of a scene of slots: novel views, instance masks, single slots, turntables."""

from __future__ import annotations

import colorsys
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Camera
from smerf.errors import InvalidDataError
from smerf.objects.cameras import look_at, make_camera, pose_and_fov, to_cv, view_rays
from smerf.objects.editing.operations import EditedScene, apply_operations
from smerf.objects.editing.slots import SavedSlots
from smerf.objects.model.decoders import MixerDecoder, PreparedSlots
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.store import model_digest

__all__ = [
    "RenderedSlots",
    "SlotRenderer",
    "arc_cameras",
    "background_slot",
    "paint_masks",
    "palette",
    "turntable",
]

_CHUNK = 16384


@dataclass(frozen=True)
class RenderedSlots:
    """One view: ``colour`` (H, W, 3) float32 in [0, 1], ``weights`` (H, W, K) the weight of each slot.

    ``layers`` (H, W, K, 3) are the single slots, where asked for and known to the decoder.
    """

    colour: Tensor
    weights: Tensor
    layers: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """The slot with the largest weight at each pixel, (H, W) int64."""
        return self.weights.argmax(-1)


class SlotRenderer:
    """Renders a scene of slots. What depends on the slots alone is computed once.

    Args:
        model: The model that the slots come from.
        saved: The slots.
        folder: Where relative names of other slot files in the operations begin.

    Raises:
        InvalidDataError: If the slots come from another model.
    """

    def __init__(self, model: Osrt, saved: SavedSlots, folder: Path = Path()) -> None:
        if saved.model != model_digest(model):
            raise InvalidDataError(
                f"the slots come from the model {saved.where} ({saved.model}), not from this one; "
                "give that one with --model"
            )
        self.model = model
        self.saved = saved
        self.scene: EditedScene = apply_operations(saved, folder)
        self._device = next(model.parameters()).device
        with torch.no_grad():
            self._prepared = self._prepare()

    def _prepare(self) -> PreparedSlots:
        scene = self.scene
        # A mixer's rays still attend to the removed slots: without them its allocation would change everywhere.
        is_mixer = isinstance(self.model.decoder, MixerDecoder)
        removed = len(scene.removed) if is_mixer else 0
        slots = torch.cat([scene.slots, scene.removed[:removed]])[None].to(self._device)
        group = torch.cat([scene.group, scene.group.new_zeros(removed)]).to(self._device)
        prepared = self.model.prepare(slots, group=group if scene.is_moved else None)
        if not removed:
            return prepared
        shown = torch.arange(slots.shape[1], device=self._device) < len(scene.slots)
        return dataclasses.replace(prepared, shown=shown)

    @torch.no_grad()
    def render(
        self, camera: Camera, size: tuple[int, int] | None = None, *, layers: bool = False
    ) -> RenderedSlots:
        """Render a view.

        Args:
            camera: A pinhole camera in world coordinates. Only its pose and horizontal field of view matter.
            size: Height and width in pixels; those of the camera if not given.
            layers: Render every slot alone as well.
        """
        size = size or (camera.intrinsics.height, camera.intrinsics.width)
        pose, fov_x = pose_and_fov(camera)
        origins, directions = (x.flatten(0, 1) for x in view_rays(pose, torch.tensor(fov_x), size))
        parts = []
        for start in range(0, len(origins), _CHUNK):
            rays = self.scene.move_rays(origins[start : start + _CHUNK], directions[start : start + _CHUNK])
            moved = (x[None].to(self._device) for x in self._in_frame(*rays))
            parts.append(self.model.decode(self._prepared, *moved, layers=layers))
        count = len(self.scene.slots)
        colour = torch.cat([part.colour[0] for part in parts]).cpu()
        weights = torch.cat([part.weights[0, :, :count] for part in parts]).cpu()
        single = None
        if layers and parts[0].layers is not None:
            single = torch.cat([part.layers[0, :, :count] for part in parts if part.layers is not None])
            single = single.cpu().unflatten(0, size)
        return RenderedSlots(colour.unflatten(0, size), weights.unflatten(0, size), single)

    def _in_frame(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Express world rays in the frame of the model."""
        if self.model.config.frame == "world":
            return origins, directions
        centre, axes = to_cv(pose_and_fov(self.saved.cameras[0])[0])
        return (origins - centre) @ axes.mT, directions @ axes.mT


def turntable(saved: SavedSlots, frames: int) -> Iterator[Camera]:
    """Yield cameras on the circle of the first input camera about the vertical."""
    x, y = saved.cameras[0].world_from_cam[:2, 3]
    start = math.atan2(y, x)
    for frame in range(frames):
        yield _on_circle(saved, start + 2.0 * math.pi * frame / frames)


def arc_cameras(saved: SavedSlots, frames: int, degrees: float, *, returns: bool = False) -> Iterator[Camera]:
    """Yield cameras on that circle within ``degrees`` of the x axis: for models of one-sided views.

    With ``returns`` they swing to and fro, for a video that repeats.
    """
    for frame in range(frames):
        if returns:
            fraction = math.sin(2.0 * math.pi * frame / frames)
        else:
            fraction = 2.0 * frame / (frames - 1) - 1.0 if frames > 1 else 0.0
        yield _on_circle(saved, math.radians(degrees) * fraction)


def _on_circle(saved: SavedSlots, angle: float) -> Camera:
    pose, fov_x = pose_and_fov(saved.cameras[0])
    radius = float(pose[:2, 3].norm())
    centre = torch.tensor([radius * math.cos(angle), radius * math.sin(angle), float(pose[2, 3])])
    return make_camera(look_at(centre), fov_x, saved.size)


def background_slot(weights: Tensor) -> int:
    """Return the slot with the largest weight over the border pixels of images (N, H, W, K)."""
    border = torch.cat([weights[:, 0], weights[:, -1], weights[:, :, 0], weights[:, :, -1]], 1)
    return int(border.sum((0, 1)).argmax())


def palette(count: int) -> np.ndarray:
    """Return distinct colours (count, 3) uint8; the same number always gets the same colour."""
    hues = [(0.61803398875 * i) % 1.0 for i in range(count)]
    values = [
        colorsys.hsv_to_rgb(hue, 0.75 - 0.2 * (i % 2), 0.95 - 0.2 * (i // 5 % 2))
        for i, hue in enumerate(hues)
    ]
    return np.round(255.0 * np.array(values).reshape(-1, 3)).astype(np.uint8)


def paint_masks(view: RenderedSlots, numbers: tuple[int, ...], background: int | None = None) -> np.ndarray:
    """Paint the instance mask of a view, uint8 (H, W, 3).

    Args:
        view: K slots.
        numbers: The slot number of each, which decides its colour.
        background: Index of the slot to paint dark grey.
    """
    colours = palette(max(numbers) + 1)[list(numbers)]
    if background is not None:
        colours[background] = 40
    return colours[view.mask.numpy()]
