"""Pictures of a scene of slots: novel views, instance masks, single slots, turntables."""

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

from smerf.errors import InvalidDataError
from smerf.objects.editing.editing import EditedScene, apply_operations
from smerf.objects.editing.store import SavedSlots, model_digest
from smerf.objects.model.decoders import MixerDecoder, PreparedSlots
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.rays import look_at, view_rays

__all__ = ["Picture", "SlotRenderer", "arc_cameras", "background_slot", "paint_masks", "palette", "turntable"]

_CHUNK = 16384


@dataclass(frozen=True)
class Picture:
    """One view: ``colour`` (H, W, 3) float32 in [0, 1], ``weights`` (H, W, K) the share of each slot.

    ``layers`` (H, W, K, 3) are the single slots, where asked for and known to the decoder.
    """

    colour: Tensor
    weights: Tensor
    layers: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """The slot with the largest share of each pixel, (H, W) int64."""
        return self.weights.argmax(-1)


class SlotRenderer:
    """Draws a scene of slots. What depends on the slots alone is computed once.

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
        # A mixer's rays go on seeing the removed slots: without them its allocation would choose anew everywhere.
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
    def draw(
        self,
        centre: Tensor,
        rotation: Tensor,
        fov_x: float | Tensor,
        size: tuple[int, int],
        *,
        layers: bool = False,
    ) -> Picture:
        """Draw a view.

        Args:
            centre: Camera centre (3,) in world coordinates.
            rotation: Its rotation (3, 3), rows x right, y down, z forward.
            fov_x: Horizontal field of view in radians.
            size: Height and width in pixels.
            layers: Draw every slot alone as well.
        """
        fov = torch.as_tensor(fov_x, dtype=torch.float32)
        origins, directions = (
            x.flatten(0, 1) for x in view_rays(centre.float(), rotation.float(), fov, size)
        )
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
        return Picture(colour.unflatten(0, size), weights.unflatten(0, size), single)

    def _in_frame(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Express world rays in the frame of the model."""
        if self.model.config.frame == "world":
            return origins, directions
        first = self.saved.cam_R[0]
        return (origins - self.saved.cam_pos[0]) @ first.mT, directions @ first.mT


def turntable(saved: SavedSlots, frames: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield cameras (centre, rotation, field of view) on the circle of the first input camera about the vertical."""
    start = math.atan2(float(saved.cam_pos[0, 1]), float(saved.cam_pos[0, 0]))
    for frame in range(frames):
        yield _on_circle(saved, start + 2.0 * math.pi * frame / frames)


def arc_cameras(
    saved: SavedSlots, frames: int, degrees: float, *, returns: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield cameras on that circle within ``degrees`` of the x axis: for models of one-sided views.

    With ``returns`` they swing to and fro, for a video that repeats.
    """
    for frame in range(frames):
        if returns:
            share = math.sin(2.0 * math.pi * frame / frames)
        else:
            share = 2.0 * frame / (frames - 1) - 1.0 if frames > 1 else 0.0
        yield _on_circle(saved, math.radians(degrees) * share)


def _on_circle(saved: SavedSlots, angle: float) -> tuple[Tensor, Tensor, Tensor]:
    centre = saved.cam_pos[0]
    radius = float(centre[:2].norm())
    place = torch.tensor([radius * math.cos(angle), radius * math.sin(angle), float(centre[2])])
    return place, look_at(place), saved.fov_x[0]


def background_slot(weights: Tensor) -> int:
    """Return the slot with the largest share of the border pixels of pictures (N, H, W, K)."""
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


def paint_masks(picture: Picture, numbers: tuple[int, ...], background: int | None = None) -> np.ndarray:
    """Paint the instance mask of a picture, uint8 (H, W, 3).

    Args:
        picture: A view of K slots.
        numbers: The slot number of each, which decides its colour.
        background: Index of the slot to paint dark grey.
    """
    colours = palette(max(numbers) + 1)[list(numbers)]
    if background is not None:
        colours[background] = 40
    return colours[picture.mask.numpy()]
