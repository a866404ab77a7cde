"""All pixels of a set of photos as a source of rays: colours stay bytes, rays are made on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from smerf.capture import load_image, load_mask, pixel_rays
from smerf.capture.types import Camera, Frame
from smerf.errors import InvalidDataError
from smerf.fields.rays import Rays

__all__ = ["RayBank", "RayBatch", "camera_rays"]

_NEAREST = 8


@dataclass(frozen=True)
class RayBatch:
    """Rays with the photo's colour.

    ``colours`` (R, 3) and ``alpha`` (R, 1) are in [0, 1], ``frames`` (R,) are indices. ``distances`` (R,) say where
    rays are known to meet something, 0 where that is not known.
    """

    rays: Rays
    colours: Tensor
    alpha: Tensor
    frames: Tensor
    distances: Tensor | None = None

    def __getitem__(self, index: Tensor) -> RayBatch:
        distances = None if self.distances is None else self.distances[index]
        return RayBatch(
            self.rays[index], self.colours[index], self.alpha[index], self.frames[index], distances
        )


def camera_rays(camera: Camera) -> Rays:
    """Return the rays of all pixels of a camera, row by row, with unit directions."""
    origins, directions, radii = (torch.from_numpy(np.ascontiguousarray(a)) for a in pixel_rays(camera))
    length = directions.norm(dim=-1, keepdim=True)
    return Rays(origins, directions / length, radii.reshape(-1) / length[:, 0])


class RayBank:
    """All unmasked pixels of training photos, and the rays of chosen or random ones."""

    def __init__(self, frames: Sequence[Frame], device: torch.device | str = "cpu") -> None:
        """Load the photos.

        Args:
            frames: Posed photos.
            device: Where pixels and rays lie.

        Raises:
            InvalidDataError: If there is no frame, or no pixel is left by the masks.
        """
        if not frames:
            raise InvalidDataError("the capture has no training photo: at least one is needed")
        self.centres = torch.tensor(
            np.stack([f.camera.world_from_cam[:, 3] for f in frames]), dtype=torch.float32
        )
        rotations = np.stack([f.camera.world_from_cam[:, :3] for f in frames])
        self.rotations = torch.tensor(rotations, dtype=torch.float32)
        self._local: list[Rays] = []
        number_of: dict[object, int] = {}
        colours, pixels, owners = [], [], []
        for index, frame in enumerate(frames):
            intrinsics = frame.camera.intrinsics
            if intrinsics not in number_of:
                number_of[intrinsics] = len(self._local)
                identity = np.concatenate([np.eye(3), np.zeros((3, 1))], 1)
                self._local.append(camera_rays(replace(frame.camera, world_from_cam=identity)))
            image = load_image(frame)
            mask = load_mask(frame)
            keep = np.arange(intrinsics.width * intrinsics.height) if mask is None else np.flatnonzero(mask)
            colours.append(image.reshape(-1, image.shape[-1])[keep])
            pixels.append(keep.astype(np.int32))
            owners.append(np.full(len(keep), index, np.int32))
        if not sum(len(p) for p in pixels):
            raise InvalidDataError(
                f"{frames[0].mask_path}: the masks leave no pixel to train on: this one and those of all other "
                "training photos are black (black is ignored, all else used)"
            )
        channels = {c.shape[-1] for c in colours}
        if channels == {3, 4}:
            colours = [
                c if c.shape[-1] == 4 else np.pad(c, ((0, 0), (0, 1)), constant_values=255) for c in colours
            ]
        self._colours = torch.from_numpy(np.concatenate(colours))
        self._pixels = torch.from_numpy(np.concatenate(pixels))
        self._owners = torch.from_numpy(np.concatenate(owners))
        self._sizes = torch.tensor(
            [(f.camera.intrinsics.width, f.camera.intrinsics.height) for f in frames], dtype=torch.long
        )
        self._number = torch.tensor([number_of[f.camera.intrinsics] for f in frames])
        self._counts = [len(p) for p in pixels]
        self._chosen: Tensor | None = None
        self._gains: Tensor | None = None
        self._near: Tensor | None = None
        self._device = torch.device(device)
        for name in ("_colours", "_pixels", "_owners", "_number", "_sizes", "centres", "rotations"):
            setattr(self, name, getattr(self, name).to(self._device))
        self._local = [rays.to(self._device) for rays in self._local]

    def __len__(self) -> int:
        return self._pixels.shape[0] if self._chosen is None else self._chosen.shape[0]

    def photo(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a photo, uint8 (H, W, 3 or 4) and 0 where its mask ignores it, and which pixels are used (H, W)."""
        width, height = self._sizes[index].tolist()
        start = sum(self._counts[:index])
        own = slice(start, start + self._counts[index])
        used = np.zeros(width * height, bool)
        pixels = np.zeros((width * height, self._colours.shape[-1]), np.uint8)
        places = self._pixels[own].cpu().numpy()
        used[places], pixels[places] = True, self._colours[own].cpu().numpy()
        return pixels.reshape(height, width, -1), used.reshape(height, width)

    def restrict(self, used: Sequence[np.ndarray]) -> None:
        """Draw from now on only pixels that ``used`` (H, W) bool, one for each photo, and the photos' masks allow."""
        flat = np.concatenate([each.reshape(-1) for each in used])
        sizes = (self._sizes[:, 0] * self._sizes[:, 1]).cumsum(0).cpu()
        starts = torch.cat([sizes.new_zeros(1), sizes[:-1]]).numpy()
        kept = flat[starts[self._owners.cpu().numpy()] + self._pixels.cpu().numpy()]
        chosen = torch.from_numpy(np.flatnonzero(kept).astype(np.int32))
        self._chosen = None if len(chosen) == len(self._pixels) else chosen.to(self._device)

    def even(self, gains: Tensor | None) -> None:
        """Divide the photos' colours by ``gains`` (N, 3) from now on; None uses them as they are."""
        self._gains = None if gains is None else gains.to(self._device)

    def rows(self, index: Tensor) -> Tensor:
        """Return where, among all loaded pixels, those lie that rays are drawn from: indices (R,) in [0, len(self))."""
        index = index.to(self._device)
        return index if self._chosen is None else self._chosen[index].long()

    def find(self, frame: int, pixels: np.ndarray) -> np.ndarray:
        """Return where, among all loaded pixels, pixels (P,) of a photo lie; -1 where its mask leaves them out."""
        start, count = sum(self._counts[:frame]), self._counts[frame]
        own = self._pixels[start : start + count].cpu().numpy()
        if not count:
            return np.full(len(pixels), -1)
        place = np.searchsorted(own, pixels).clip(max=count - 1)
        return np.where(own[place] == pixels, start + place, -1)

    def drawn(self, rows: Tensor) -> Tensor:
        """Tell which of all loaded pixels (R,) rays are drawn from (R,)."""
        return (
            torch.ones_like(rows, dtype=torch.bool)
            if self._chosen is None
            else torch.isin(rows, self._chosen)
        )

    @property
    def has_alpha(self) -> bool:
        """Return whether the photos carry transparency."""
        return self._colours.shape[-1] == 4

    def sample_patches(self, count: int, edge: int, generator: torch.Generator) -> Rays:
        """Sample the rays (count * edge^2,) of square patches around random pixels, patch by patch.

        Patches stay inside their photo; masks hold for the sampled pixels alone.
        """
        return self._rays(*self._patches(count, edge, generator))

    def sample_between(self, count: int, edge: int, generator: torch.Generator) -> Rays:
        """Sample rays (count * edge^2,) as ``sample_patches`` does, of interpolated cameras.

        Each stands somewhere between a photo's camera and one of those nearest to it, and is rotated like another of
        those.
        """
        frames, patch = self._patches(count, edge, generator)
        near, device = self._neighbours(), generator.device
        columns = torch.randint(near.shape[1], (2, count), generator=generator, device=device)
        towards, rotated = near[frames, columns.to(self._device).repeat_interleave(edge * edge, 1)]
        fraction = torch.rand(count, 1, generator=generator, device=device).to(self._device)
        fraction = fraction.repeat_interleave(edge * edge, 0)
        rays = self._rays(frames, patch, rotated)
        origins = (1.0 - fraction) * self.centres[frames] + fraction * self.centres[towards]
        return Rays(origins, rays.directions, rays.radii)

    def _neighbours(self) -> Tensor:
        """Return each camera and those nearest to it, by centre (N, at most 9)."""
        if self._near is None:
            count = min(_NEAREST + 1, len(self.centres))
            parts = [torch.cdist(part, self.centres) for part in self.centres.split(1024)]
            self._near = torch.cat([part.topk(count, largest=False).indices for part in parts])
        return self._near

    def _patches(self, count: int, edge: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample photos and pixels (count * edge^2,) of square patches."""
        index = torch.randint(len(self), (count,), generator=generator, device=generator.device).to(
            self._device
        )
        index = self.rows(index)
        frames, pixels = self._owners[index].long(), self._pixels[index].long()
        widths, heights = self._sizes[frames].unbind(-1)
        left = (pixels % widths - edge // 2).minimum(widths - edge).clamp_min(0)
        top = (pixels // widths - edge // 2).minimum(heights - edge).clamp_min(0)
        step = torch.arange(edge, device=self._device)
        x = (left[:, None] + step).minimum(widths[:, None] - 1)
        y = (top[:, None] + step).minimum(heights[:, None] - 1)
        patch = (y[:, :, None] * widths[:, None, None] + x[:, None, :]).view(-1)
        return frames.repeat_interleave(edge * edge), patch

    def _rays(self, frames: Tensor, pixels: Tensor, rotated: Tensor | None = None) -> Rays:
        """Return the rays of pixels (R,) of frames (R,), rotated like frames ``rotated`` (R,) if given."""
        if len(self._local) == 1:
            local, radii = self._local[0].directions[pixels], self._local[0].radii[pixels]
        else:
            local = torch.empty(len(pixels), 3, device=self._device)
            radii = torch.empty(len(pixels), device=self._device)
            for number, whole in enumerate(self._local):
                here = self._number[frames] == number
                chosen = whole[pixels[here]]
                local[here], radii[here] = chosen.directions, chosen.radii
        directions = torch.einsum("rij,rj->ri", self.rotations[frames if rotated is None else rotated], local)
        return Rays(self.centres[frames], directions, radii)

    def gather(self, index: Tensor) -> RayBatch:
        """Return the rays of chosen pixels: indices (R,) in [0, len(self)), on any device."""
        return self.gather_rows(self.rows(index))

    def gather_rows(self, rows: Tensor) -> RayBatch:
        """Return the rays of any loaded pixels, as ``rows`` and ``find`` (R,) name them."""
        frames, pixels = self._owners[rows].long(), self._pixels[rows].long()
        colours = self._colours[rows].float() / 255.0
        alpha = colours[:, 3:] if colours.shape[-1] == 4 else torch.ones_like(colours[:, :1])
        colours = colours[:, :3]
        if self._gains is not None:
            colours = (colours / self._gains[frames]).clamp_max(1.0)
        return RayBatch(self._rays(frames, pixels), colours, alpha, frames)
