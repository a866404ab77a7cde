"""Meshes as glTF 2.0, ``.glb`` or ``.gltf``: triangles, base colours, and how their textures repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smerf.errors import InvalidDataError
from smerf.teacher.gltf_file import GLTF_FAULTS, GltfFile
from smerf.teacher.mesh.surface import MAX_FACES, Material, Surface, checked_surface, joined
from smerf.teacher.mesh.texture import Texture, to_pixels

__all__ = ["read_gltf_mesh"]

_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_WRAPS = {33071: "clamp", 33648: "mirror", 10497: "repeat"}
_NEAREST = 9728
_PACKED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_texture_basisu")
_UP = (0.0, 1.0, 0.0)


def read_gltf_mesh(path: Path, data: bytes) -> Surface:
    """Read the triangles of a glTF file, all primitives joined.

    Raises:
        InvalidDataError: If it is damaged, compressed, or holds no triangles.
    """
    file = GltfFile(path, data)
    try:
        packed = [name for name in file.document.get("extensionsRequired", []) if name in _PACKED]
        if packed:
            raise InvalidDataError(f"{path}: is compressed by {packed[0]}; export it without")
        reader = _Reader(file)
        parts, faces = [], 0
        wanted = (_TRIANGLES, _STRIP, _FAN)
        for primitive, matrix in file.primitives(lambda each: each.get("mode", _TRIANGLES) in wanted):
            parts.append(reader.part(primitive, matrix))
            faces += len(parts[-1].faces)
            if faces > MAX_FACES:
                raise InvalidDataError(f"{path}: has more than {MAX_FACES} triangles; simplify it")
    except GLTF_FAULTS as error:
        raise InvalidDataError(f"{path}: is damaged ({error!r}); export it again") from error
    if not parts:
        raise InvalidDataError(f"{path}: holds no triangles")
    return checked_surface(str(path), joined(parts))


class _Reader:
    """Reads the primitives and materials of a file."""

    def __init__(self, file: GltfFile) -> None:
        self.file = file
        self._materials: dict[int | None, tuple[Material, dict[str, Any]]] = {}
        self._images: dict[int, np.ndarray] = {}

    def part(self, primitive: dict[str, Any], matrix: np.ndarray) -> Surface:
        """Return the triangles of a primitive where its node puts them."""
        attributes = primitive["attributes"]
        points = self._array(attributes["POSITION"], (3,))
        count = len(points)
        vertices = points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        faces = _triangles(self._indices(primitive, count), primitive.get("mode", _TRIANGLES))
        if np.linalg.det(matrix[:3, :3]) < 0.0:
            faces = faces[:, ::-1]
        material, place = self._material(primitive.get("material"))
        uv = np.zeros((count, 2), np.float32)
        uv_name = f"TEXCOORD_{int(place.get('texCoord', 0))}"
        has_uv = uv_name in attributes
        if has_uv:
            uv = _moved(self._array(attributes[uv_name], (2,), count), place)
        elif material.texture is not None:
            material = Material(
                None, material.factor, material.emissive, None, material.alpha, material.cutoff, True
            )
        colours = np.ones((count, 4), np.float32)
        if "COLOR_0" in attributes:
            given = self._array(attributes["COLOR_0"], (3, 4), count)
            colours[:, : given.shape[1]] = given
        is_default = primitive.get("material") is None and "COLOR_0" not in attributes
        numbers = np.zeros(len(faces), np.int32)
        return Surface(
            vertices, faces, numbers, uv, colours, (material,), "glTF", _UP,
            has_colour=not is_default, comments=self.file.comments(),
        )  # fmt: skip

    def _array(self, index: int, widths: tuple[int, ...], count: int | None = None) -> np.ndarray:
        values = self.file.values(index)
        if values.shape[1] not in widths or count not in (None, len(values)):
            raise ValueError(f"an array has shape {values.shape}, expected {count or 'any'} rows of {widths}")
        return values

    def _indices(self, primitive: dict[str, Any], count: int) -> np.ndarray:
        if "indices" not in primitive:
            return np.arange(count)
        table, _ = self.file.table(primitive["indices"])
        if table.dtype.kind != "u" or table.shape[1] != 1:
            raise ValueError(f"indices are {table.dtype} {table.shape}")
        if table.max() >= count:
            raise ValueError(f"a corner is number {int(table.max())} of {count} vertices")
        return table[:, 0].astype(np.int64)

    def _material(self, number: int | None) -> tuple[Material, dict[str, Any]]:
        """Return a material, and the part of the document that says where its texture lies."""
        if number not in self._materials:
            self._materials[number] = (
                (Material(is_linear=True), {})
                if number is None
                else self._read_material(self.file.document["materials"][number])
            )
        return self._materials[number]

    def _read_material(self, values: dict[str, Any]) -> tuple[Material, dict[str, Any]]:
        basic = values.get("pbrMetallicRoughness", {})
        place, factor = basic.get("baseColorTexture", {}), basic.get("baseColorFactor", (1, 1, 1, 1))
        glossy = values.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
        if glossy is not None and not basic:
            place, factor = glossy.get("diffuseTexture", {}), glossy.get("diffuseFactor", (1, 1, 1, 1))
        red, green, blue, alpha = (float(x) for x in factor)
        light_red, light_green, light_blue = (float(x) for x in values.get("emissiveFactor", (0, 0, 0)))
        glow = values.get("emissiveTexture") if any((light_red, light_green, light_blue)) else None
        material = Material(
            self._texture(place) if "index" in place else None,
            (red, green, blue, alpha),
            (light_red, light_green, light_blue),
            self._texture(glow) if glow else None,
            str(values.get("alphaMode", "OPAQUE")).lower(),
            float(values.get("alphaCutoff", 0.5)),
            True,
        )
        if material.alpha not in ("opaque", "mask", "blend"):
            raise ValueError(f"alphaMode {material.alpha}")
        return material, place

    def _texture(self, place: dict[str, Any]) -> Texture:
        document = self.file.document
        texture = document["textures"][place["index"]]
        source = texture.get("source")
        for extension in ("EXT_texture_webp", "EXT_texture_avif"):
            source = texture.get("extensions", {}).get(extension, {}).get("source", source)
        if source not in self._images:
            image = document["images"][source]
            data = (
                self.file.view(image["bufferView"])
                if "bufferView" in image
                else self.file.resource(image["uri"])
            )
            self._images[source] = to_pixels(str(self.file.path), data)
        sampler = document["samplers"][texture["sampler"]] if "sampler" in texture else {}
        wrap = _WRAPS[sampler.get("wrapS", 10497)], _WRAPS[sampler.get("wrapT", 10497)]
        return Texture(self._images[source], wrap, sampler.get("magFilter") != _NEAREST)


def _triangles(indices: np.ndarray, mode: int) -> np.ndarray:
    if mode == _TRIANGLES:
        if len(indices) % 3:
            raise ValueError(f"{len(indices)} corners make no triangles")
        return indices.reshape(-1, 3).astype(np.int32)
    first = np.arange(max(0, len(indices) - 2))
    if mode == _FAN:
        return indices[np.stack([np.zeros_like(first), first + 1, first + 2], 1)].astype(np.int32)
    odd = first % 2
    return indices[np.stack([first, first + 1 + odd, first + 2 - odd], 1)].astype(np.int32)


def _moved(uv: np.ndarray, place: dict[str, Any]) -> np.ndarray:
    """Return places in a texture as KHR_texture_transform moves them."""
    change = place.get("extensions", {}).get("KHR_texture_transform")
    if not change:
        return uv
    turn = float(change.get("rotation", 0.0))
    cos, sin = np.cos(turn), np.sin(turn)
    scaled = uv * np.asarray(change.get("scale", (1, 1)), float)
    turned = scaled @ np.array([[cos, -sin], [sin, cos]])
    return (turned + np.asarray(change.get("offset", (0, 0)), float)).astype(np.float32)
