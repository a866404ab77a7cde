"""Splats as glTF 2.0 with KHR_gaussian_splatting (release candidate), as ``.glb`` or ``.gltf``."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from smerf.errors import InvalidDataError
from smerf.teacher.splat.cloud import SplatCloud, checked_cloud

__all__ = ["EXTENSION", "gltf_document", "read_gltf"]

EXTENSION = "KHR_gaussian_splatting"
_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_JSON, _BINARY = 0x4E4F534A, 0x004E4942


def gltf_document(name: str, data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON and the binary chunk of a glTF file.

    Raises:
        InvalidDataError: If it is damaged.
    """
    binary, text = b"", data
    if data[:4] == b"glTF":
        text, offset = b"", 12
        while offset + 8 <= len(data):
            length, kind = struct.unpack_from("<II", data, offset)
            if length > len(data) - offset - 8:
                raise InvalidDataError(
                    f"{name}: a chunk promises {length} bytes beyond its end; export it again"
                )
            chunk = data[offset + 8 : offset + 8 + length]
            text, binary = (chunk if kind == _JSON else text), (chunk if kind == _BINARY else binary)
            offset += 8 + length
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDataError(f"{name}: its JSON is damaged ({error}); export it again") from error
    if not isinstance(document, dict):
        raise InvalidDataError(f"{name}: its JSON is no glTF document")
    return document, binary


def read_gltf(path: Path, data: bytes) -> SplatCloud:
    """Read the splats of a glTF file, all primitives joined.

    Raises:
        InvalidDataError: If it is damaged or asks for another rendering.
    """
    name = str(path)
    document, binary = gltf_document(name, data)
    try:
        clouds = [
            _placed(name, _Reader(path, document, binary).cloud(primitive), matrix)
            for primitive, matrix in _primitives(document)
        ]
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        struct.error,
        RecursionError,
    ) as error:
        raise InvalidDataError(f"{name}: is damaged ({error!r}); export it again") from error
    if not clouds:
        raise InvalidDataError(f"{name}: holds no splats")
    if len({cloud.sh.shape[1] for cloud in clouds}) > 1:
        raise InvalidDataError(f"{name}: its parts have different SH degrees")
    fields = ("means", "scales", "quaternions", "opacities", "sh")
    joined: dict[str, Any] = {
        field: np.concatenate([getattr(cloud, field) for cloud in clouds]) for field in fields
    }
    asset = document.get("asset", {})
    comments = tuple(f"{key}: {asset[key]}" for key in ("generator", "copyright") if asset.get(key))
    cloud = SplatCloud(**joined, kind=f"glTF {EXTENSION}", up=(0.0, 1.0, 0.0), comments=comments)
    return checked_cloud(name, cloud)


def _primitives(document: dict[str, Any]) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Return the splat primitives, each with its node's matrix (4, 4)."""
    nodes, found = document.get("nodes", []), []
    scenes = document.get("scenes")
    roots = scenes[document.get("scene", 0)]["nodes"] if scenes else range(len(nodes))
    rest = [(int(root), np.eye(4), 0) for root in roots]
    while rest:
        index, above, depth = rest.pop()
        if depth > len(nodes):
            raise ValueError("its nodes form a circle")
        matrix = above @ _matrix(nodes[index])
        rest += [(int(child), matrix, depth + 1) for child in nodes[index].get("children", [])]
        if "mesh" in nodes[index]:
            for primitive in document["meshes"][nodes[index]["mesh"]]["primitives"]:
                if EXTENSION in primitive.get("extensions", {}):
                    found.append((primitive, matrix))
    return found


def _matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.asarray(node["matrix"], float).reshape(4, 4).T
    x, y, z, w = (float(v) for v in node.get("rotation", (0, 0, 0, 1)))
    result = np.eye(4)
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    result[:3, :3] = np.array(rotation) * np.asarray(node.get("scale", (1, 1, 1)), float)
    result[:3, 3] = node.get("translation", (0, 0, 0))
    return result


def _placed(name: str, cloud: SplatCloud, matrix: np.ndarray) -> SplatCloud:
    """Return a cloud where its node puts it: moved and scaled; rotations of colours are refused by name."""
    linear = matrix[:3, :3]
    scale = float(np.cbrt(abs(np.linalg.det(linear))))
    if not np.allclose(linear, scale * np.eye(3), atol=1e-5 * max(scale, 1e-9)):
        raise InvalidDataError(
            f"{name}: a node turns or stretches its splats, which is not supported; apply it first"
        )
    if np.array_equal(matrix, np.eye(4)):
        return cloud
    means = (scale * cloud.means + matrix[:3, 3]).astype(np.float32)
    return SplatCloud(
        means, cloud.scales * np.float32(scale), cloud.quaternions, cloud.opacities, cloud.sh, cloud.kind
    )


class _Reader:
    """Reads the accessors of a document."""

    def __init__(self, path: Path, document: dict[str, Any], binary: bytes) -> None:
        self.path, self.document, self.binary = path, document, binary

    def cloud(self, primitive: dict[str, Any]) -> SplatCloud:
        """Return the splats of a primitive."""
        extension, attributes = primitive["extensions"][EXTENSION], primitive["attributes"]
        kernel, space = extension.get("kernel", "ellipse"), extension.get("colorSpace", "srgb_rec709_display")
        if kernel != "ellipse" or space != "srgb_rec709_display" or primitive.get("mode", 4) != 0:
            raise InvalidDataError(
                f"{self.path}: kernel {kernel}, colour space {space}, mode {primitive.get('mode', 4)} are not "
                "supported; expected ellipse, srgb_rec709_display, points"
            )
        count = int(self.document["accessors"][attributes["POSITION"]]["count"])

        def values(field: str, width: int) -> np.ndarray:
            array = self._accessor(attributes[f"{EXTENSION}:{field}" if field != "POSITION" else field])
            if array.shape != (count, width):
                raise InvalidDataError(
                    f"{self.path}: {field} has shape {array.shape}, expected {(count, width)}"
                )
            return array

        sh = []
        for degree in range(4):
            if f"{EXTENSION}:SH_DEGREE_{degree}_COEF_0" not in attributes:
                break
            sh += [values(f"SH_DEGREE_{degree}_COEF_{n}", 3)[:, None] for n in range(2 * degree + 1)]
        return SplatCloud(
            values("POSITION", 3),
            values("SCALE", 3),
            np.roll(values("ROTATION", 4), 1, axis=1),
            values("OPACITY", 1)[:, 0],
            np.concatenate(sh, 1),
            EXTENSION,
        )

    def _accessor(self, index: int) -> np.ndarray:
        """Return the values of an accessor (N, width) float32; integers that are normalised become fractions."""
        accessor = self.document["accessors"][index]
        if "sparse" in accessor:
            raise InvalidDataError(f"{self.path}: sparse accessors are not supported; export it without")
        view = self.document["bufferViews"][accessor["bufferView"]]
        dtype, width = np.dtype(_TYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
        count, stride = int(accessor["count"]), int(view.get("byteStride", 0)) or width * dtype.itemsize
        start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
        data = self._buffer(int(view["buffer"]))
        if count < 1:
            raise InvalidDataError(f"{self.path}: holds no splats")
        if min(start, stride - width * dtype.itemsize) < 0 or start + (
            count - 1
        ) * stride + width * dtype.itemsize > len(data):
            raise InvalidDataError(f"{self.path}: promises {count} values and holds fewer; export it again")
        table = np.ndarray((count, width), dtype, data, start, (stride, dtype.itemsize))
        result = table.astype(np.float32)
        if accessor.get("normalized") and dtype.kind in "iu":
            result = np.maximum(result / np.float32(np.iinfo(dtype).max), -1.0)
        return result

    def _buffer(self, index: int) -> bytes:
        buffer = self.document["buffers"][index]
        uri = buffer.get("uri")
        if uri is None:
            return self.binary
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2], validate=True)
            except binascii.Error as error:
                raise InvalidDataError(f"{self.path}: its data is damaged ({error})") from error
        place = self.path.parent / uri
        if ".." in Path(uri).parts or Path(uri).is_absolute() or not place.is_file():
            raise InvalidDataError(f"{self.path}: its file {uri!r} is missing or outside its folder")
        return place.read_bytes()
