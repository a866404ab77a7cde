"""Textures of a mesh in one array, with their reductions by two, read bilinearly at many points at once.

Letters: N points, M textures. Colours are sRGB-encoded bytes with straight alpha.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smerf.errors import InvalidDataError

__all__ = ["WRAPS", "Texture", "TextureAtlas", "to_pixels"]

WRAPS = ("repeat", "mirror", "clamp")
_MAX_TEXELS = 1 << 28
_LEVELS = 16


@dataclass(frozen=True)
class Texture:
    """An image (H, W, 4) uint8, what is beyond its edges along u and v, and whether texels are blended."""

    pixels: np.ndarray
    wrap: tuple[str, str] = ("repeat", "repeat")
    is_smooth: bool = True


def to_pixels(name: str, image: Any) -> np.ndarray:
    """Return the pixels (H, W, 4) uint8 of a Pillow image, or of the bytes of one.

    Raises:
        InvalidDataError: If it can't be decoded or is too large.
    """
    import io

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image
            if opened.width * opened.height > _MAX_TEXELS:
                raise ValueError(f"{opened.width}x{opened.height} texels are too many")
            return np.array(opened.convert("RGBA"), dtype=np.uint8)
    except Exception as error:
        # Pillow's decoders raise whatever they trip over.
        raise InvalidDataError(f"{name}: a texture can't be read ({error}); export it again") from error


class TextureAtlas:
    """Textures with all their reductions."""

    def __init__(self, textures: Sequence[Texture]) -> None:
        """Reduce and join textures."""
        count = len(textures)
        self.sizes = np.array([t.pixels.shape[1::-1] for t in textures], np.int64).reshape(count, 2)
        self._wrap = np.array([[WRAPS.index(w) for w in t.wrap] for t in textures], np.int64)
        self._is_smooth = np.array([t.is_smooth for t in textures], bool)
        self._levels = np.zeros(count, np.int64)
        self._place = np.zeros((count, _LEVELS, 3), np.int64)
        parts, offset = [], 0
        for number, texture in enumerate(textures):
            pixels, level = texture.pixels, 0
            while True:
                self._place[number, level] = offset, *pixels.shape[1::-1]
                parts.append(pixels.reshape(-1, 4))
                offset += pixels.shape[0] * pixels.shape[1]
                if max(pixels.shape[:2]) <= 4 or level + 1 == _LEVELS:
                    break
                pixels, level = _halved(pixels), level + 1
            self._levels[number] = level
        self._texels = np.concatenate(parts) if parts else np.zeros((0, 4), np.uint8)

    def sample(self, texture: np.ndarray, uv: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Read textures.

        Args:
            texture: Which (N,) int.
            uv: Where (N, 2): (0, 0) is the image's upper left corner, (1, 1) its lower right one.
            level: How often the texture is reduced by two (N,) float, rounded.

        Returns:
            Encoded colour and alpha (N, 4) float32 in [0, 1].
        """
        rounded = np.clip(np.rint(level), 0, self._levels[texture]).astype(np.int64)
        offset, *size = self._place[texture, rounded].T
        smooth = self._is_smooth[texture]
        corners, fractions = [], []
        for axis in range(2):
            x = np.clip(uv[:, axis], -1e6, 1e6) * size[axis] - np.where(smooth, 0.5, 0.0)
            low = np.floor(x)
            fractions.append(np.where(smooth, x - low, 0.0).astype(np.float32))
            whole = low.astype(np.int64)
            wrap = self._wrap[texture, axis]
            corners.append([_wrapped(whole + step, size[axis], wrap) for step in (0, 1)])
        total = np.zeros((len(uv), 4), np.float32)
        for dx in range(2):
            for dy in range(2):
                weight = (fractions[0] if dx else 1.0 - fractions[0]) * (
                    fractions[1] if dy else 1.0 - fractions[1]
                )
                texel = self._texels[offset + corners[1][dy] * size[0] + corners[0][dx]].astype(np.float32)
                # Weighted by alpha, so that the colour of what is not there does not leak in.
                texel[:, :3] *= texel[:, 3:]
                total += weight[:, None] * texel
        alpha = total[:, 3:]
        return np.concatenate([total[:, :3] / np.maximum(255.0 * alpha, 1e-6), alpha / 255.0], 1)


def _wrapped(index: np.ndarray, size: np.ndarray, wrap: np.ndarray) -> np.ndarray:
    repeated = index % size
    mirrored = index % (2 * size)
    mirrored = np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    return np.where(wrap == 0, repeated, np.where(wrap == 1, mirrored, np.clip(index, 0, size - 1)))


def _halved(pixels: np.ndarray) -> np.ndarray:
    """Return the means of 2 x 2 pixels, weighted by alpha."""
    height, width = pixels.shape[:2]
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(np.float32)
    colour, alpha = even[..., :3] * even[..., 3:], even[..., 3:]

    def mean(values: np.ndarray) -> np.ndarray:
        rows, columns, channels = values.shape
        return values.reshape(rows // 2, 2, columns // 2, 2, channels).mean((1, 3))

    weight = mean(alpha)
    # Where nothing is visible the plain mean will do.
    plain = mean(even[..., :3])
    mixed = np.where(weight > 0.5, mean(colour) / np.maximum(weight, 1e-6), plain)
    return np.rint(np.concatenate([mixed, weight], -1)).clip(0, 255).astype(np.uint8)
