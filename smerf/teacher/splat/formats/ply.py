"""Splats as PLY: the layout of INRIA's trainer and its variants, and the compressed layout of PlayCanvas."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from smerf.errors import InvalidDataError
from smerf.teacher.splat.cloud import SH_ZERO, SplatCloud, checked_cloud, sigmoid
from smerf.teacher.splat.formats.packing import insert_largest

__all__ = ["PlyFile", "parse_ply", "read_ply"]

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_HEADER_BYTES = 131_072
_REST = {0: 1, 9: 4, 24: 9, 45: 16, 72: 25}
"""Coefficients of spherical harmonics by the number of f_rest values."""
_KEPT = 16
_CHUNK = 256
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlyFile:
    """The header of a PLY file: ``elements`` name their count and row, None where rows have lists."""

    comments: tuple[str, ...]
    elements: dict[str, tuple[int, np.dtype | None]]
    body: int

    def names(self, element: str) -> tuple[str, ...]:
        """Return the properties of an element, none if it is not there."""
        row = self.elements.get(element, (0, None))[1]
        return () if row is None else row.names or ()

    @property
    def is_compressed(self) -> bool:
        """Return whether it holds PlayCanvas' packed splats."""
        return "chunk" in self.elements and "packed_position" in self.names("vertex")

    @property
    def is_splat(self) -> bool:
        """Return whether it holds splats at all, and not a mesh or points."""
        names = self.names("vertex")
        return self.is_compressed or any(each in names for each in ("scale_0", "rot_0", "f_dc_0"))


def parse_ply(name: str, data: bytes) -> PlyFile:
    """Return the header of a PLY file.

    Raises:
        InvalidDataError: If it has none that can be read.
    """
    end = data.find(b"end_header", 0, _HEADER_BYTES)
    newline = data.find(b"\n", end, end + 32) if end >= 0 else -1
    if newline < 0:
        raise InvalidDataError(f"{name}: its PLY header has no end; export it again")
    comments, rows, form = [], {}, ""
    current: list[tuple[str, str]] | None = None
    try:
        for line in data[:end].decode("ascii", errors="replace").splitlines():
            words = line.split()
            if words[:1] == ["comment"]:
                comments.append(line[8:].strip())
            elif words[:1] == ["format"]:
                form = words[1]
            elif words[:1] == ["element"]:
                current = []
                rows[words[1]] = (int(words[2]), current)
            elif words[:1] == ["property"] and current is not None:
                if words[1] == "list":
                    current.append(("", ""))
                elif words[1] not in _TYPES:
                    raise InvalidDataError(
                        f"{name}: its property type {words[1]!r} is unknown; export it again"
                    )
                else:
                    current.append((words[2], _TYPES[words[1]]))
        order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(form)
        if order is None:
            raise InvalidDataError(f"{name}: its format is {form or 'missing'!r}; export it as binary PLY")
        elements = {}
        for element, (count, fields) in rows.items():
            if count < 0:
                raise ValueError(f"{count} rows of {element}")
            has_list = ("", "") in fields
            elements[element] = (
                count,
                None if has_list else np.dtype([(f, order + kind) for f, kind in fields]),
            )
    except (ValueError, IndexError) as error:
        raise InvalidDataError(f"{name}: its PLY header is damaged ({error}); export it again") from error
    return PlyFile(tuple(comments), elements, newline + 1)


def read_ply(name: str, data: bytes) -> SplatCloud:
    """Read splats of any PLY layout.

    Raises:
        InvalidDataError: If it holds no splats or is damaged.
    """
    header = parse_ply(name, data)
    tables = _tables(name, data, header)
    return (
        _read_compressed(name, header, tables) if header.is_compressed else _read_plain(name, header, tables)
    )


def _tables(name: str, data: bytes, header: PlyFile) -> dict[str, np.ndarray]:
    """Return the rows of the elements up to the first that has lists."""
    offset, result = header.body, {}
    for element, (count, row) in header.elements.items():
        if row is None:
            break
        held = (len(data) - offset) // max(row.itemsize, 1)
        if held < count:
            raise InvalidDataError(
                f"{name}: promises {count} rows of {element} and holds {held}; export it again"
            )
        result[element] = np.frombuffer(data, row, count, offset)
        offset += count * row.itemsize
    else:
        if offset < len(data):
            _log.warning("%s: %d bytes follow its last row", name, len(data) - offset)
    return result


def _read_plain(name: str, header: PlyFile, tables: dict[str, np.ndarray]) -> SplatCloud:
    names = header.names("vertex")
    colours = "f_dc_0" if "f_dc_0" in names or "red" not in names else "red"
    wanted = ["x", "y", "z", "opacity", "scale_0", "scale_1", *(f"rot_{i}" for i in range(4))]
    wanted += [f"f_dc_{c}" for c in range(3)] if colours == "f_dc_0" else ["red", "green", "blue"]
    missing = [each for each in wanted if each not in names]
    if missing:
        kind = "a mesh" if "face" in header.elements else "a point cloud" if "red" in names else "other data"
        hint = f"; this is {kind}" if not header.is_splat else ""
        raise InvalidDataError(f"{name}: its vertices have no {', '.join(missing[:4])}{hint}")
    rows = tables["vertex"]

    def columns(*fields: str) -> np.ndarray:
        return np.stack([rows[field].astype(np.float32) for field in fields], -1)

    flat = "scale_2" not in names
    with np.errstate(over="ignore", invalid="ignore"):
        scales = np.exp(columns(*(f"scale_{i}" for i in range(2 if flat else 3))))
        if flat:
            scales = np.concatenate([scales, np.full((len(rows), 1), 3e-5, np.float32)], 1)
        opacities = sigmoid(rows["opacity"])
        if "filter_3D" in names:
            opacities, scales = _with_filter(opacities, scales, rows["filter_3D"].astype(np.float32))
    rendering = _rendering(header.comments)
    up = _up(header.comments)
    cloud = SplatCloud(
        columns("x", "y", "z"),
        scales,
        columns(*(f"rot_{i}" for i in range(4))),
        opacities,
        _coefficients(name, names, columns, colours),
        "PLY",
        antialiased=rendering or "filter_3D" in names,
        dilation=0.1 if "filter_3D" in names else 0.3,
        up=up or (0.0, -1.0, 0.0),
        is_up_stated=up is not None,
        comments=header.comments,
    )
    return checked_cloud(name, cloud)


def _with_filter(
    opacities: np.ndarray, scales: np.ndarray, width: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fold in Mip-Splatting's 3D filter (Yu et al., arXiv 2311.16493)."""
    wide = scales**2 + width[:, None] ** 2
    return opacities * np.sqrt((scales**2 / wide).prod(1)), np.sqrt(wide)


def _coefficients(
    name: str, names: tuple[str, ...], columns: Callable[..., np.ndarray], colours: str
) -> np.ndarray:
    if colours == "red":
        return ((columns("red", "green", "blue") / 255.0 - 0.5) / SH_ZERO)[:, None]
    count = sum(each.startswith("f_rest_") for each in names)
    if count not in _REST or any(f"f_rest_{i}" not in names for i in range(count)):
        raise InvalidDataError(
            f"{name}: has {count} f_rest properties; expected {', '.join(map(str, _REST))}"
        )
    each = _REST[count] - 1
    kept = min(each, _KEPT - 1)
    zero = columns("f_dc_0", "f_dc_1", "f_dc_2")
    result = np.empty((len(zero), 1 + kept, 3), np.float32)
    result[:, 0] = zero
    for k in range(kept):
        result[:, 1 + k] = columns(*(f"f_rest_{c * each + k}" for c in range(3)))
    return result


def _rendering(comments: tuple[str, ...]) -> bool:
    """Return whether comments call the splats antialiased; the last word counts."""
    is_antialiased = False
    for line in comments:
        words = line.lower().replace(":", " ").split()
        if words[:1] == ["splatrendermode"] and len(words) > 1:
            is_antialiased = words[1] == "mip"
        elif words[:1] == ["antialiased"] and len(words) > 1:
            is_antialiased = words[1] == "1"
    return is_antialiased


def _up(comments: tuple[str, ...]) -> tuple[float, float, float] | None:
    """Return the up direction that nerfstudio (Vertical Axis: z) or Brush (Vertical axis: y, or a vector) states."""
    for line in comments:
        key, _, value = line.partition(":")
        if key.strip().lower() != "vertical axis":
            continue
        try:
            x, y, z = (float(word) for word in value.replace(",", " ").split())
            return x, y, z
        except ValueError:
            is_nerfstudio = key.strip() == "Vertical Axis"
            return (
                (0.0, 0.0, 1.0)
                if is_nerfstudio and value.strip() == "z"
                else ((0.0, 0.0, -1.0) if value.strip() == "z" else (0.0, -1.0, 0.0))
            )
    return None


def _bits(values: np.ndarray, shift: int, bits: int) -> np.ndarray:
    """Return a field of packed uint32 as fractions in [0, 1]."""
    largest = 2**bits - 1
    return ((values >> np.uint32(shift)) & np.uint32(largest)).astype(np.float32) / largest


def _read_compressed(name: str, header: PlyFile, tables: dict[str, np.ndarray]) -> SplatCloud:
    chunks, rows = tables["chunk"], tables["vertex"]
    if not len(rows):
        raise InvalidDataError(f"{name}: holds no splats")
    if len(chunks) != -(-len(rows) // _CHUNK):
        raise InvalidDataError(f"{name}: has {len(chunks)} chunks for {len(rows)} splats of {_CHUNK} each")
    wanted = [
        f"{end}_{each}" for end in ("min", "max") for each in ("x", "y", "z", "scale_x", "scale_y", "scale_z")
    ]
    packed = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
    missing = [each for each in wanted if each not in header.names("chunk")]
    missing += [each for each in packed if each not in header.names("vertex")]
    if missing:
        raise InvalidDataError(f"{name}: has no {', '.join(missing[:4])}; export it again")
    chunk = np.arange(len(rows)) // _CHUNK

    def lerp(fractions: np.ndarray, fields: tuple[str, str, str]) -> np.ndarray:
        low, high = (
            np.stack([chunks[f"{end}_{field}"] for field in fields], -1).astype(np.float32)[chunk]
            for end in ("min", "max")
        )
        return low + fractions * (high - low)

    def three(values: np.ndarray) -> np.ndarray:
        return np.stack([_bits(values, 21, 11), _bits(values, 11, 10), _bits(values, 0, 11)], -1)

    words = [rows[each].astype(np.uint32) for each in packed]
    colours = np.stack([_bits(words[3], shift, 8) for shift in (24, 16, 8)], -1)
    if {f"{end}_{each}" for end in ("min", "max") for each in "rgb"} <= set(header.names("chunk")):
        colours = lerp(colours, ("r", "g", "b"))
    zero = ((colours - 0.5) / SH_ZERO)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        cloud = SplatCloud(
            lerp(three(words[0]), ("x", "y", "z")),
            np.exp(lerp(three(words[2]), ("scale_x", "scale_y", "scale_z"))),
            _smallest_three(words[1]),
            _bits(words[3], 0, 8),
            np.concatenate([zero, *_packed_rest(name, header, tables)], 1),
            "compressed PLY",
            antialiased=_rendering(header.comments),
            comments=header.comments,
        )
    return checked_cloud(name, cloud)


def _smallest_three(packed: np.ndarray) -> np.ndarray:
    """Return quaternions w x y z of which the largest part is left out."""
    parts = np.stack([_bits(packed, shift, 10) for shift in (20, 10, 0)], -1)
    parts = (parts - 0.5) * np.float32(np.sqrt(2.0))
    largest = np.sqrt(np.maximum(1.0 - (parts**2).sum(1), 0.0))
    return insert_largest(parts, largest, packed >> np.uint32(30))


def _packed_rest(name: str, header: PlyFile, tables: dict[str, np.ndarray]) -> list[np.ndarray]:
    if "sh" not in tables:
        return []
    names, rows = header.names("sh"), tables["sh"]
    wanted = {f"f_rest_{i}" for i in range(len(names))}
    if len(names) not in (9, 24, 45) or set(names) != wanted or len(rows) != len(tables["vertex"]):
        raise InvalidDataError(f"{name}: has {len(rows)} rows of {len(names)} coefficients; export it again")
    each = len(names) // 3
    parts = []
    for k in range(each):
        b = np.stack([rows[f"f_rest_{c * each + k}"] for c in range(3)], -1).astype(np.float32)
        fraction = np.where(b == 0, 0.0, np.where(b == 255, 1.0, (b + 0.5) / 256.0))
        parts.append(((fraction - 0.5) * 8.0).astype(np.float32)[:, None])
    return parts
