"""The colour of a mesh where rays meet it: base colour and emission without light, or under a plain one.

Letters: N hits, M materials.
"""

from __future__ import annotations

import numpy as np

from smerf.teacher.mesh.surface import Material, Surface
from smerf.teacher.mesh.texture import Texture, TextureAtlas

__all__ = ["Shading"]

_OPAQUE, _MASK, _BLEND = range(3)
_MODES = {"opaque": _OPAQUE, "mask": _MASK, "blend": _BLEND}


class Shading:
    """Materials of a surface, laid out so that hits of all of them are shaded together."""

    def __init__(self, surface: Surface, scale: float, light: np.ndarray | None = None) -> None:
        """Take a surface.

        Args:
            surface: The triangles.
            scale: Length of its units in those of the hits.
            light: Direction that a plain light comes from, besides one from the eye; None shows colours as they are.
        """
        self.surface, self.light = surface, light
        materials = surface.materials
        textures: list[Texture] = []
        number: dict[int, int] = {}

        def place(texture: Texture | None) -> int:
            if texture is None:
                return -1
            if id(texture) not in number:
                number[id(texture)] = len(textures)
                textures.append(texture)
            return number[id(texture)]

        self._texture = np.array([place(each.texture) for each in materials], np.int64)
        self._glow_texture = np.array([place(each.emissive_texture) for each in materials], np.int64)
        self._factor = np.array([each.factor for each in materials], np.float32)
        self._glow = np.array([each.emissive for each in materials], np.float32)
        self._mode = np.array([_MODES[each.alpha] for each in materials], np.int64)
        self._cutoff = np.array([each.cutoff for each in materials], np.float32)
        self._is_linear = np.array([each.is_linear for each in materials], bool)
        self._atlas = TextureAtlas(textures)
        self._density = self._texel_density(materials, scale)
        self._has_texture, self._has_colours = bool(textures), bool((surface.colours != 1.0).any())
        self.is_opaque = bool((self._mode == _OPAQUE).all())

    def _texel_density(self, materials: tuple[Material, ...], scale: float) -> np.ndarray:
        """Return the texels per unit length (F,) of the hits' space."""
        surface, sizes = self.surface, np.zeros(len(materials))
        has = self._texture >= 0
        sizes[has] = self._atlas.sizes[self._texture[has]].prod(1)
        a, b, c = surface.corners()
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1) * scale**2
        p, q, r = (surface.uv[surface.faces[:, k]].astype(np.float64) for k in range(3))
        u, v = q - p, r - p
        used = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) * sizes[surface.face_materials]
        return np.sqrt(used / np.maximum(area, 1e-30)).astype(np.float32)

    def shade(
        self,
        face: np.ndarray,
        place: np.ndarray,
        footprint: np.ndarray,
        towards: np.ndarray,
        normal: np.ndarray,
    ) -> np.ndarray:
        """Return the encoded colour and the alpha (N, 4) float32 of hits.

        Args:
            face: Of each hit (N,).
            place: Weights (N, 2) of a face's second and third corner.
            footprint: Width (N,) of what a ray stands for.
            towards: Unit directions (N, 3) of the rays, in the surface's axes.
            normal: Unit normals (N, 3), of either side.
        """
        surface = self.surface
        corners, kind = surface.faces.take(face, 0).T, surface.face_materials[face]
        second, third = place.T.astype(np.float32)[..., None]
        first = 1.0 - second - third

        def mixed(values: np.ndarray) -> np.ndarray:
            a, b, c = (values.take(each, 0) for each in corners)
            return np.asarray(first * a + second * b + third * c)

        factor, is_linear = self._factor.take(kind, 0), self._is_linear[kind]
        if self._has_colours:
            factor = mixed(surface.colours) * factor
        alpha = factor[:, 3]
        if self._has_texture:
            uv, level = mixed(surface.uv), np.log2(np.maximum(footprint * self._density[face], 1e-6))
            base = self._read(self._texture[kind], uv, level)
            rgb, alpha = _multiplied(base[:, :3], factor[:, :3], is_linear), base[:, 3] * alpha
        else:
            rgb = np.where(is_linear[:, None], _encoded(factor[:, :3]), factor[:, :3])
        if self._glow.any():
            glow = self._glow[kind]
            if self._has_texture:
                glow = glow * _decoded(self._read(self._glow_texture[kind], uv, level)[:, :3])
            rgb = np.where(glow.any(1, keepdims=True), _encoded(_decoded(rgb) + glow), rgb)
        if self.light is not None:
            facing = np.einsum("ni,ni->n", normal, towards)
            above = (normal @ self.light) * np.where(facing > 0.0, -1.0, 1.0)
            light = 0.5 * (0.4 + 0.6 * np.maximum(above, 0.0)) + 0.5 * np.abs(facing)
            rgb = rgb * light[:, None]
        mode = self._mode[kind]
        alpha = np.where(mode == _MASK, (alpha >= self._cutoff[kind]).astype(np.float32), alpha)
        alpha = np.where(mode == _OPAQUE, 1.0, alpha)
        return np.concatenate([np.clip(rgb, 0.0, 1.0), np.clip(alpha, 0.0, 1.0)[:, None]], 1).astype(
            np.float32
        )

    def _read(self, texture: np.ndarray, uv: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Return colour and alpha (N, 4) of textures (N,), white where there is none."""
        result = np.ones((len(uv), 4), np.float32)
        has = texture >= 0
        if has.any():
            result[has] = self._atlas.sample(texture[has], uv[has], level[has])
        return result


def _decoded(encoded: np.ndarray) -> np.ndarray:
    """Return linear light of sRGB values in [0, 1]."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _encoded(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1.0 / 2.4) - 0.055)


def _multiplied(encoded: np.ndarray, factor: np.ndarray, is_linear: np.ndarray) -> np.ndarray:
    """Return encoded colours (N, 3) times factors (N, 3), in linear light where it is said so."""
    changes = (factor != 1.0).any(1)
    if not changes.any():
        return encoded
    result, linear = encoded.copy(), changes & is_linear
    result[linear] = _encoded(_decoded(encoded[linear]) * factor[linear])
    plain = changes & ~is_linear
    result[plain] = encoded[plain] * factor[plain]
    return result
