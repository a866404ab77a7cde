"""A glTF 2.0 file, ``.glb`` or ``.gltf``: its document, the values of its accessors, and where its nodes put things."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from smerf.errors import InvalidDataError

__all__ = ["GLTF_FAULTS", "GltfFile", "gltf_document"]

GLTF_FAULTS = (
    KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, struct.error, RecursionError,
)  # fmt: skip
"""What reading a document trips over where it is not as the format says."""
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


class GltfFile:
    """The parts of a glTF file. All methods raise ``GLTF_FAULTS`` where the document contradicts the format."""

    def __init__(self, path: Path, data: bytes) -> None:
        """Open a file's bytes. Raises InvalidDataError if it is damaged."""
        self.path = path
        self.document, self.binary = gltf_document(str(path), data)
        self._buffers: dict[int, bytes] = {}

    def comments(self) -> tuple[str, ...]:
        """Return what the file says of itself: program and author."""
        asset = self.document.get("asset")
        if not isinstance(asset, dict):
            return ()
        return tuple(f"{key}: {asset[key]}" for key in ("generator", "copyright") if asset.get(key))

    def primitives(
        self, wanted: Callable[[dict[str, Any]], bool]
    ) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Return the wanted primitives of the scene, each with the matrix (4, 4) of its node."""
        document = self.document
        nodes, scenes, seen = document.get("nodes", []), document.get("scenes"), set()
        if scenes:
            roots = scenes[document.get("scene", 0)].get("nodes", [])
        else:
            children = {int(child) for node in nodes for child in node.get("children", [])}
            roots = [index for index in range(len(nodes)) if index not in children]
        rest = [(int(root), np.eye(4)) for root in roots]
        while rest:
            index, above = rest.pop()
            if index in seen:
                raise ValueError("its nodes form no tree")
            seen.add(index)
            matrix = above @ _matrix(nodes[index])
            rest += [(int(child), matrix) for child in nodes[index].get("children", [])]
            if "mesh" in nodes[index]:
                for primitive in document["meshes"][nodes[index]["mesh"]]["primitives"]:
                    if wanted(primitive):
                        yield primitive, matrix

    def values(self, index: int) -> np.ndarray:
        """Return the values of an accessor (N, width) as float32; normalised integers become fractions."""
        table, is_normalised = self.table(index)
        result = table.astype(np.float32)
        if is_normalised and table.dtype.kind in "iu":
            result = np.maximum(result / np.float32(np.iinfo(table.dtype).max), -1.0)
        return result

    def table(self, index: int) -> tuple[np.ndarray, bool]:
        """Return the values of an accessor (N, width) as they are stored, and whether they are fractions."""
        accessor = self.document["accessors"][index]
        if "sparse" in accessor:
            raise InvalidDataError(f"{self.path}: sparse accessors are not supported; export it without")
        view = self.document["bufferViews"][accessor["bufferView"]]
        dtype, width = np.dtype(_TYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
        row = width * dtype.itemsize
        count, stride = int(accessor["count"]), int(view.get("byteStride", 0)) or row
        start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
        data = self.buffer(int(view["buffer"]))
        if count < 1:
            raise InvalidDataError(f"{self.path}: holds an array without values; export it again")
        if min(start, stride - row) < 0 or start + (count - 1) * stride + row > len(data):
            raise InvalidDataError(f"{self.path}: promises {count} values and holds fewer; export it again")
        table = np.ndarray((count, width), dtype, data, start, (stride, dtype.itemsize))
        return table, bool(accessor.get("normalized"))

    def view(self, index: int) -> bytes:
        """Return the bytes of a buffer view."""
        view = self.document["bufferViews"][index]
        start, data = int(view.get("byteOffset", 0)), self.buffer(int(view["buffer"]))
        if start < 0 or start + int(view["byteLength"]) > len(data):
            raise InvalidDataError(f"{self.path}: a part of it lies beyond its end; export it again")
        return data[start : start + int(view["byteLength"])]

    def buffer(self, index: int) -> bytes:
        """Return the bytes of a buffer."""
        if index not in self._buffers:
            uri = self.document["buffers"][index].get("uri")
            self._buffers[index] = self.binary if uri is None else self.resource(uri)
        return self._buffers[index]

    def resource(self, uri: str) -> bytes:
        """Return the bytes that an address gives: data, or a file beside this one.

        Raises:
            InvalidDataError: If they are damaged, missing, or outside the file's folder.
        """
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2], validate=True)
            except binascii.Error as error:
                raise InvalidDataError(f"{self.path}: its data is damaged ({error})") from error
        from urllib.parse import unquote

        name = unquote(uri)
        place = self.path.parent / name
        is_outside = ".." in Path(name).parts or Path(name).is_absolute()
        try:
            if not is_outside and place.is_file():
                return place.read_bytes()
        except (OSError, ValueError):
            # A name that no file can have.
            pass
        raise InvalidDataError(f"{self.path}: its file {uri[:80]!r} is missing or outside its folder")


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
