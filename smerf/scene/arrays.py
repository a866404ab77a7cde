"""Array files: uint8 without header (``raw``, ``raw.gz``) or the same bytes as a PNG.

An array indexed [first, second, (third,) channel] lies on disk as [third, second, first, channel]. As PNG it
is an image whose width is the first axis and whose height is the product of the others. Which format is
written is a choice of transport: ``png`` opens from any static host in every reader; ``raw`` also does and
decodes fastest but is large; ``raw.gz`` needs a host that answers ``name.raw`` with the file ``name.raw.gz``
(``http-server --gzip`` does).
"""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np

from smerf.errors import InvalidDataError, UsageError

__all__ = ["ARRAY_FORMATS", "encode_array", "find_array", "read_array"]

ARRAY_FORMATS = ("png", "raw", "raw.gz")
_PNG_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_COMPRESSION = 5
"""zlib level: above it files hardly shrink and writing takes several times longer."""


def encode_array(array: np.ndarray, array_format: str) -> bytes:
    """Return the bytes of an array file; ``array`` is uint8 (first, second, [third,] channel) on viewer axes."""
    if array_format not in ARRAY_FORMATS:
        raise UsageError(f"array format {array_format!r}: choose one of {', '.join(ARRAY_FORMATS)}")
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise ValueError(f"array: expected uint8 with 3 or 4 axes, got {array.dtype} {array.shape}")
    spatial = tuple(range(array.ndim - 1))[::-1]
    disk = np.ascontiguousarray(array.transpose(*spatial, array.ndim - 1))
    if array_format == "raw":
        return disk.tobytes()
    if array_format == "raw.gz":
        return gzip.compress(disk.tobytes(), _COMPRESSION, mtime=0)
    from PIL import Image

    channels = array.shape[-1]
    image = disk.reshape(-1, array.shape[0], channels)
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if channels == 1 else image, _PNG_MODES[channels]).save(
        buffer, "png", compress_level=_COMPRESSION
    )
    return buffer.getvalue()


def find_array(folder: Path, name: str, array_format: str) -> Path | None:
    """Return the file of array ``name`` in ``folder``, or ``None``. Raw arrays may be stored packed or plain."""
    endings = {"png": ("png",), "raw": ("raw", "raw.gz"), "raw.gz": ("raw.gz", "raw")}[array_format]
    for ending in endings:
        path = folder / f"{name}.{ending}"
        if path.is_file():
            return path
    return None


def read_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read one array file of a known shape (first, second, [third,] channel).

    Returns a uint8 view with that shape, not C-contiguous. Raises InvalidDataError for a file that cannot be
    read, is cut short, is longer than it should be, or is a PNG of another size or pixel type.
    """
    expected = int(np.prod(shape))
    try:
        if path.name.endswith(".png"):
            data = _read_png(path, shape)
        elif path.name.endswith(".gz"):
            with gzip.open(path, "rb") as stream:
                data = stream.read(expected + 1)
        else:
            size = path.stat().st_size
            if size != expected:
                raise InvalidDataError(f"{path}: {size} bytes, expected {expected} for shape {shape}")
            data = path.read_bytes()
    except InvalidDataError:
        raise
    except Exception as error:  # Pillow's readers raise errors of many families, MemoryError included
        raise InvalidDataError(
            f"{path}: cannot be decoded ({error}); copy or bake the scene again"
        ) from error
    if len(data) != expected:
        more = "more than " if len(data) > expected else ""
        raise InvalidDataError(
            f"{path}: holds {more}{min(len(data), expected)} bytes, expected {expected} for {shape}"
        )
    disk_shape = (*shape[:-1][::-1], shape[-1])
    spatial = tuple(range(len(shape) - 1))[::-1]
    return np.frombuffer(data, np.uint8).reshape(disk_shape).transpose(*spatial, len(shape) - 1)


def _read_png(path: Path, shape: tuple[int, ...]) -> bytes:
    """Decode a PNG whose size and pixel type are checked before anything is unpacked."""
    from PIL import Image

    channels = shape[-1]
    with path.open("rb") as stream:
        head = stream.read(26)
    if len(head) < 26 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        raise InvalidDataError(f"{path}: not a PNG file")
    width, height, depth, colour_type = struct.unpack(">IIBB", head[16:26])
    rows = int(np.prod(shape[1:-1]))
    if (width, height) != (shape[0], rows):
        raise InvalidDataError(
            f"{path}: image is {width}x{height}, expected {shape[0]}x{rows} for shape {shape}"
        )
    if depth != 8 or colour_type != _PNG_COLOUR_TYPES[channels]:
        raise InvalidDataError(
            f"{path}: PNG depth {depth} and colour type {colour_type}, expected 8 and "
            f"{_PNG_COLOUR_TYPES[channels]} for {channels} channels"
        )
    with Image.open(path) as image:
        return image.tobytes()
