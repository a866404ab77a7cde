"""Submodels as textures: packed on any thread, uploaded in pieces on the thread of the context.

Two RGBA8 groups per sample, for the atlas and the planes alike, so that a sample costs two fetches:
``density`` holds density, feature 3 (the gate), feature 0, feature 1; ``colour`` red, green, blue, feature 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from smerf.errors import MissingPartError
from smerf.scene.types import BakedSubmodel

from .context import gl

__all__ = ["PackedSubmodel", "Submodel", "pack"]

_DENSITY, _COLOUR = [0, 7, 4, 5], [1, 2, 3, 6]
_WHOLE_NUMBERS = ("blocks", "occupancy", "atlas_ids")
PIECE_BYTES = 4 << 20
"""Largest upload between two looks at the window's events."""


@dataclass(frozen=True)
class PackedSubmodel:
    """One submodel's texture images, uint8, in upload order [z, y, x, channel]."""

    k: int
    images: dict[str, np.ndarray]
    known: np.ndarray | None = None
    solid: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of texture memory."""
        return sum(image.nbytes for image in self.images.values())


def pack(k: int, submodel: BakedSubmodel) -> PackedSubmodel:
    """Turn a submodel's arrays into texture images. Touches no OpenGL state."""
    atlas = submodel.atlas.transpose(2, 1, 0, 3)
    planes = submodel.planes.transpose(0, 2, 1, 3)
    blocks = submodel.block_indices.transpose(2, 1, 0, 3)
    grids = np.stack([submodel.distance[8], submodel.occupancy[8]], -1).transpose(2, 1, 0, 3)
    images = {
        "atlas_density": atlas[..., _DENSITY],
        "atlas_colour": atlas[..., _COLOUR],
        "planes_density": planes[..., _DENSITY],
        "planes_colour": planes[..., _COLOUR],
        "blocks": blocks[..., [0, 1, 2, 0]],
        "occupancy": grids,
    }
    if submodel.known is not None:
        images["known"] = submodel.known.transpose(2, 1, 0, 3)
    if submodel.object_ids is not None:
        images["atlas_ids"] = submodel.object_ids.transpose(2, 1, 0)[..., None]
    packed = {name: np.ascontiguousarray(image) for name, image in images.items()}
    return PackedSubmodel(k, packed, submodel.known, submodel.solid)


@dataclass
class Submodel:
    """One submodel in texture memory; ``textures`` are named as the samplers of ``march.frag``.

    ``known`` and ``solid`` are those of the baked submodel, for the controls.
    """

    k: int
    nbytes: int
    atlas_size: tuple[int, int, int]
    known: np.ndarray | None = None
    solid: np.ndarray | None = None
    textures: dict[str, int] = field(default_factory=dict)
    is_complete: bool = False

    @staticmethod
    def create(packed: PackedSubmodel) -> Submodel:
        """Check the sizes against the device. Raises MissingPartError where they are too large for it."""
        GL = gl()
        depth, height, width = packed.images["atlas_density"].shape[:3]
        volume, plane = (
            int(GL.glGetIntegerv(GL.GL_MAX_3D_TEXTURE_SIZE)),
            int(GL.glGetIntegerv(GL.GL_MAX_TEXTURE_SIZE)),
        )
        edge = max(depth, height, width, packed.images["occupancy"].shape[0])
        texels = packed.images["planes_density"].shape[1]
        for needed, allowed, kind in ((edge, volume, "3D textures"), (texels, plane, "textures")):
            if needed > allowed:
                raise MissingPartError(
                    f"this graphics device allows {kind} of {allowed} texels per edge, the scene needs {needed}; "
                    "use another device, or bake with a smaller resolution"
                )
        return Submodel(packed.k, packed.nbytes, (width, height, depth), packed.known, packed.solid)

    def upload(self, packed: PackedSubmodel) -> Iterator[int]:
        """Copy everything to the device, yielding the bytes of each piece after it is handed over."""
        GL = gl()
        for name, image in packed.images.items():
            is_array = name.startswith("planes")
            target = GL.GL_TEXTURE_2D_ARRAY if is_array else GL.GL_TEXTURE_3D
            internal, form = {
                "blocks": (GL.GL_RGBA8UI, GL.GL_RGBA_INTEGER),
                "occupancy": (GL.GL_RG8UI, GL.GL_RG_INTEGER),
                "atlas_ids": (GL.GL_R8UI, GL.GL_RED_INTEGER),
            }.get(name, (GL.GL_RGBA8, GL.GL_RGBA))
            smooth = GL.GL_NEAREST if name in _WHOLE_NUMBERS else GL.GL_LINEAR
            self.textures[name] = texture = int(GL.glGenTextures(1))
            GL.glBindTexture(target, texture)
            layers, rows, columns, channels = image.shape
            GL.glTexImage3D(target, 0, internal, columns, rows, layers, 0, form, GL.GL_UNSIGNED_BYTE, None)
            # Within [0, 1] mirroring reads the same texels as clamping to the edge, but keeps Mesa's software driver
            # from filtering bytes in 8-bit arithmetic, which is too coarse for densities.
            wrap = GL.GL_MIRRORED_REPEAT if smooth == GL.GL_LINEAR else GL.GL_CLAMP_TO_EDGE
            for key, value in (
                (GL.GL_TEXTURE_MIN_FILTER, smooth),
                (GL.GL_TEXTURE_MAG_FILTER, smooth),
                (GL.GL_TEXTURE_WRAP_S, wrap),
                (GL.GL_TEXTURE_WRAP_T, wrap),
                (GL.GL_TEXTURE_WRAP_R, wrap),
                (GL.GL_TEXTURE_MAX_LEVEL, 0),
            ):
                GL.glTexParameteri(target, key, value)
            # Whole rows of one layer at a time, so that a plane of any size comes in bounded pieces.
            tall = max(1, min(rows, PIECE_BYTES // max(1, columns * channels)))
            deep = (
                max(1, min(layers, PIECE_BYTES // max(1, rows * columns * channels))) if tall == rows else 1
            )
            for z in range(0, layers, deep):
                for y in range(0, rows, tall):
                    part = image[z : z + deep, y : y + tall]
                    GL.glBindTexture(target, texture)
                    GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 1)
                    size = (columns, part.shape[1], part.shape[0])
                    GL.glTexSubImage3D(
                        target, 0, 0, y, z, *size, form, GL.GL_UNSIGNED_BYTE, np.ascontiguousarray(part)
                    )
                    yield part.nbytes
        self.is_complete = True

    def free(self) -> None:
        """Delete the textures."""
        if self.textures:
            gl().glDeleteTextures(list(self.textures.values()))
        self.textures = {}
