"""Splats as SPZ (Niantic), versions 1 to 4."""

from __future__ import annotations

import logging
import struct
import zlib

import numpy as np

from smerf.errors import InvalidDataError, MissingPartError
from smerf.teacher.splat.cloud import SplatCloud, checked_cloud
from smerf.teacher.splat.formats.packing import insert_largest

__all__ = ["MAGIC", "inflate", "read_spz"]

MAGIC = b"NGSP"
_BYTES = {"positions": 9, "alphas": 1, "colours": 3, "scales": 3}
_REST = {0: 0, 1: 3, 2: 8, 3: 15, 4: 24}
_KEPT = 15
_MIN_BYTES = 9
_MAX_RATIO = 1024
_AXES = 0xADBE0003
_COLOUR_SCALE = 0.15
_log = logging.getLogger(__name__)


def inflate(name: str, data: bytes, limit: int) -> bytes:
    """Return what a gzip stream holds.

    Raises:
        InvalidDataError: If it is damaged or holds more than ``limit`` bytes.
    """
    engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        content = engine.decompress(data, limit)
    except zlib.error as error:
        raise InvalidDataError(f"{name}: its gzip data is damaged ({error}); export it again") from error
    if engine.unconsumed_tail:
        raise InvalidDataError(f"{name}: is larger than its header says; export it again")
    if not engine.eof:
        raise InvalidDataError(f"{name}: its gzip data is cut short; export it again")
    return content


def read_spz(name: str, data: bytes) -> SplatCloud:
    """Read an SPZ file of any version.

    Raises:
        InvalidDataError: If it is damaged.
        MissingPartError: If version 4 is to be read without the package zstandard.
    """
    if data[:4] == MAGIC:
        return _read_v4(name, data)
    head = _head(data)
    if head[:4] != MAGIC:
        raise InvalidDataError(f"{name}: is gzip, but no SPZ; unpack it first")
    version, count, degree, fraction, flags = _fields(name, head)
    if version not in (1, 2, 3):
        raise InvalidDataError(f"{name}: SPZ version {version} in gzip is not known; expected 1 to 3")
    sizes = _sizes(name, len(data), version, count, degree)
    content = inflate(name, data, 16 + sum(sizes.values()) + 1)
    if len(content) != 16 + sum(sizes.values()):
        raise InvalidDataError(
            f"{name}: promises {count} splats and holds {len(content) - 16} bytes for {sum(sizes.values())}"
        )
    offset, arrays = 16, {}
    for array, size in sizes.items():
        arrays[array] = np.frombuffer(content, np.uint8, size, offset)
        offset += size
    return _decode(name, version, count, degree, fraction, flags, arrays, (1, -1, -1))


def _head(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, 16)
    except zlib.error:
        return b""


def _fields(name: str, head: bytes) -> tuple[int, int, int, int, int]:
    if len(head) < 16:
        raise InvalidDataError(f"{name}: its SPZ header is cut short; export it again")
    version, count, degree, fraction, flags = struct.unpack_from("<IIBBB", head, 4)
    if degree not in _REST or fraction > 30:
        raise InvalidDataError(
            f"{name}: SH degree {degree} and {fraction} fractional bits are not possible in SPZ"
        )
    if not count:
        raise InvalidDataError(f"{name}: holds no splats")
    return version, count, degree, fraction, flags


def _sizes(name: str, size: int, version: int, count: int, degree: int) -> dict[str, int]:
    """Return the bytes of each array, in their order."""
    if count > _MAX_RATIO * size // _MIN_BYTES:
        raise InvalidDataError(f"{name}: promises {count} splats in {size} bytes; export it again")
    each = _BYTES | {"positions": 6 if version == 1 else 9, "rotations": 3 if version < 3 else 4}
    each["sh"] = 3 * _REST[degree]
    return {array: width * count for array, width in each.items()}


def _read_v4(name: str, data: bytes) -> SplatCloud:
    version, count, degree, fraction, flags = _fields(name, data)
    if version != 4:
        raise InvalidDataError(
            f"{name}: SPZ version {version} without gzip is no valid file; expected version 4"
        )
    sizes = {array: size for array, size in _sizes(name, len(data), 4, count, degree).items() if size}
    if len(data) < 32:
        raise InvalidDataError(f"{name}: its SPZ header is cut short; export it again")
    streams, table = data[15], struct.unpack_from("<I", data, 16)[0]
    if streams != len(sizes) or not 32 <= table <= len(data) - 16 * streams:
        raise InvalidDataError(f"{name}: has {streams} streams for {len(sizes)} arrays; export it again")
    signs = _signs(name, data, table) if flags & 2 else (1, -1, -1)
    offset, arrays = table + 16 * streams, {}
    for number, (array, size) in enumerate(sizes.items()):
        packed, whole = struct.unpack_from("<QQ", data, table + 16 * number)
        if whole != size or packed > len(data) - offset:
            raise InvalidDataError(f"{name}: {array} has {whole} bytes where {size} are due; export it again")
        arrays[array] = np.frombuffer(_unpack(name, data[offset : offset + packed], size), np.uint8)
        offset += packed
    return _decode(name, 4, count, degree, fraction, flags, arrays, signs)


def _unpack(name: str, data: bytes, size: int) -> bytes:
    try:
        import zstandard
    except ImportError as error:
        raise MissingPartError(f"{name}: SPZ version 4 needs zstandard: pip install zstandard") from error
    try:
        # One byte more than is due tells a stream that is too long, without unpacking the rest.
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            content = reader.read(size + 1)
    except zstandard.ZstdError as error:
        raise InvalidDataError(f"{name}: its zstd data is damaged ({error}); export it again") from error
    if len(content) != size:
        raise InvalidDataError(
            f"{name}: a stream holds {len(content)} bytes where {size} are due; export it again"
        )
    return content


def _signs(name: str, data: bytes, end: int) -> tuple[int, int, int]:
    """Return the signs from the file's axes to right, down, forward, which an extension may override."""
    offset, signs = 32, (1, -1, -1)
    while offset + 8 <= end:
        kind, length = struct.unpack_from("<II", data, offset)
        if length > end - offset - 8:
            raise InvalidDataError(f"{name}: an extension ends beyond its place; export it again")
        if kind == _AXES and length >= 4:
            code = struct.unpack_from("<I", data, offset + 8)[0]
            if not 1 <= code <= 8:
                raise InvalidDataError(f"{name}: its axes (code {code}) are not supported; export it as PLY")
            bits = code - 1
            # The code counts left or right fastest, then down or up, then back or forward.
            signs = (1 if bits & 1 else -1, -1 if bits & 2 else 1, 1 if bits & 4 else -1)
        elif kind != _AXES:
            _log.warning("%s: skipped extension %#x", name, kind)
        offset += 8 + length
    return signs


def _decode(
    name: str,
    version: int,
    count: int,
    degree: int,
    fraction: int,
    flags: int,
    arrays: dict[str, np.ndarray],
    signs: tuple[int, int, int],
) -> SplatCloud:
    x, y, z = signs
    if version == 1:
        means = arrays["positions"].view("<f2").reshape(count, 3).astype(np.float32)
    else:
        b = arrays["positions"].reshape(count, 3, 3).astype(np.int32)
        whole = b[..., 0] | b[..., 1] << 8 | b[..., 2] << 16
        means = ((whole << 8) >> 8).astype(np.float32) / np.float32(2.0**fraction)
    coefficients = (arrays["colours"].reshape(count, 1, 3).astype(np.float32) / 255.0 - 0.5) / _COLOUR_SCALE
    if degree:
        rest = arrays["sh"].reshape(count, _REST[degree], 3)[:, :_KEPT]
        turn = np.array([y, z, x, x * y, y * z, 1, x * z, 1, y, x * y * z, y, z, x, z, x], np.float32)
        rest = (rest.astype(np.float32) - 128.0) / 128.0 * turn[None, : rest.shape[1], None]
        coefficients = np.concatenate([coefficients, rest], 1)
    rotations = _rotations(version, arrays["rotations"])
    cloud = SplatCloud(
        means * np.array(signs, np.float32),
        np.exp(arrays["scales"].reshape(count, 3).astype(np.float32) / 16.0 - 10.0),
        # A mirrored axis turns the rotations about the two others round.
        rotations * np.array([1, y * z, x * z, x * y], np.float32),
        arrays["alphas"].astype(np.float32) / 255.0,
        coefficients,
        f"SPZ v{version}",
        antialiased=bool(flags & 1),
        is_up_stated=True,
    )
    return checked_cloud(name, cloud)


def _rotations(version: int, packed: np.ndarray) -> np.ndarray:
    """Return quaternions w x y z."""
    if version < 3:
        xyz = packed.reshape(-1, 3).astype(np.float32) / 127.5 - 1.0
        w = np.sqrt(np.maximum(1.0 - (xyz**2).sum(1, keepdims=True), 0.0))
        return np.concatenate([w, xyz], 1)
    words = packed.view("<u4")
    parts = []
    for shift in (20, 10, 0):
        field = words >> np.uint32(shift)
        size = (field & np.uint32(511)).astype(np.float32) / 511.0 * np.float32(np.sqrt(0.5))
        parts.append(np.where(field & np.uint32(512), -size, size))
    small = np.stack(parts, -1).astype(np.float32)
    largest = np.sqrt(np.maximum(1.0 - (small**2).sum(1), 0.0))
    return np.roll(insert_largest(small, largest, words >> np.uint32(30)), 1, axis=1)
