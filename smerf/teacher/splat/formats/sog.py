"""Splats as SOG (PlayCanvas), versions 1 and 2: lossless images and a ``meta.json``, in a ZIP or a folder."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from smerf.errors import InvalidDataError
from smerf.teacher.splat.cloud import SplatCloud, checked_cloud, sigmoid
from smerf.teacher.splat.formats.packing import insert_largest

__all__ = ["FolderMembers", "Members", "ZipMembers", "read_sog", "read_streamed_sog"]

_META, _LEVELS = "meta.json", "lod-meta.json"
_COLUMNS = 64
_ROOM = 8 << 20
_MAX_COUNT = 1 << 28
_DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, OSError, NotImplementedError)


class Members(Protocol):
    """The files of a scene: in a ZIP or in a folder."""

    name: str

    def read(self, path: str, limit: int) -> bytes:
        """Return a file's bytes. Raises InvalidDataError if it is missing or larger than ``limit``."""


class FolderMembers:
    """The files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)

    def read(self, path: str, limit: int) -> bytes:
        """Return a file's bytes."""
        place = self.folder / _safe(self.name, path)
        if not place.is_file():
            raise InvalidDataError(f"{place}: is missing; export the scene again")
        if place.stat().st_size > limit:
            raise InvalidDataError(f"{place}: has {place.stat().st_size} bytes, at most {limit} are possible")
        return place.read_bytes()

    def within(self, path: str) -> FolderMembers:
        """Return the files below a folder inside."""
        return FolderMembers(self.folder / _safe(self.name, path))


class ZipMembers:
    """The files of a ZIP beside its ``meta.json``, at its root or one folder down."""

    def __init__(self, name: str, data: bytes) -> None:
        """Open a ZIP. Raises InvalidDataError if it is damaged or has no ``meta.json``."""
        self.name = name
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            names = self._zip.namelist()
        except _DAMAGED as error:
            raise InvalidDataError(f"{name}: is a damaged ZIP ({error}); export it again") from error
        found = [each for each in names if PurePosixPath(each).name == _META and each.count("/") <= 1]
        if not found:
            raise InvalidDataError(f"{name}: is a ZIP without {_META}; this is no SOG")
        self._folder = min(found, key=len)[: -len(_META)]

    def read(self, path: str, limit: int) -> bytes:
        """Return a member's bytes."""
        inner = self._folder + _safe(self.name, path)
        try:
            info = self._zip.getinfo(inner)
            if info.file_size > limit:
                raise InvalidDataError(
                    f"{self.name}: {inner} is larger than its header says; export it again"
                )
            return self._zip.read(info)
        except KeyError:
            raise InvalidDataError(f"{self.name}: has no {inner}; export it again") from None
        except (*_DAMAGED, RuntimeError, EOFError) as error:
            raise InvalidDataError(f"{self.name}: {inner} is damaged ({error}); export it again") from error


def _safe(name: str, path: str) -> str:
    """Return a relative path as it stands. Raises InvalidDataError if it leads elsewhere."""
    place = PurePosixPath(path)
    if place.is_absolute() or ".." in place.parts or "\\" in path or ":" in path or not path:
        raise InvalidDataError(f"{name}: names the file {path!r} outside the scene")
    return path


def _json(members: Members, path: str) -> dict[str, Any]:
    try:
        value = json.loads(members.read(path, _ROOM))
    except (ValueError, RecursionError) as error:
        raise InvalidDataError(f"{members.name}: {path} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise InvalidDataError(f"{members.name}: {path} is not an object")
    return value


def read_streamed_sog(folder: Path) -> SplatCloud:
    """Read the finest level of a scene that is streamed by level of detail.

    Raises:
        InvalidDataError: If it is damaged.
    """
    members = FolderMembers(folder)
    meta = _json(members, _LEVELS)
    try:
        files, wanted, rest = meta["filenames"], set(), [meta["tree"]]
        while rest:
            node = rest.pop()
            rest += node.get("children", [])
            finest = node.get("lods", {}).get("0")
            if finest:
                wanted.add(int(finest["file"]))
        paths = [str(files[index]) for index in sorted(wanted)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise InvalidDataError(f"{folder / _LEVELS}: is damaged ({error}); export it again") from error
    if not paths:
        raise InvalidDataError(f"{folder}: holds no splats of level 0")
    clouds = [read_sog(members.within(str(PurePosixPath(path).parent))) for path in paths]
    if len({cloud.sh.shape[1] for cloud in clouds}) > 1:
        raise InvalidDataError(f"{folder}: its parts have different SH degrees")
    names = ("means", "scales", "quaternions", "opacities", "sh")
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(cloud, name) for cloud in clouds]) for name in names
    }
    return SplatCloud(**joined, kind="streamed SOG, level 0", antialiased=clouds[0].antialiased)


def read_sog(members: Members) -> SplatCloud:
    """Read a scene of either version.

    Raises:
        InvalidDataError: If it is damaged.
    """
    meta = _json(members, _META)
    try:
        return checked_cloud(members.name, _read(members, meta))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise InvalidDataError(
            f"{members.name}: its {_META} is damaged ({error!r}); export it again"
        ) from error


def _read(members: Members, meta: dict[str, Any]) -> SplatCloud:
    is_first = "version" not in meta
    if not is_first and meta["version"] != 2:
        raise InvalidDataError(f"{members.name}: SOG version {meta['version']} is not known; expected 1 or 2")
    count = int(meta["means"]["shape"][0] if is_first else meta["count"])
    if count < 1:
        raise InvalidDataError(f"{members.name}: holds no splats")
    if count > _MAX_COUNT:
        raise InvalidDataError(f"{members.name}: promises {count} splats; export it again")

    def pixels(part: str, index: int = 0) -> np.ndarray:
        return _image(members, str(meta[part]["files"][index]), count).reshape(-1, 4)[:count]

    low, high = pixels("means")[:, :3].astype(np.int64), pixels("means", 1)[:, :3].astype(np.int64)
    n = _lerp(meta["means"], (low + 256 * high) / 65535.0)
    with np.errstate(over="ignore", invalid="ignore"):
        means = np.sign(n) * np.expm1(np.abs(n))
        sizes = pixels("scales")[:, :3]
        logs = _lerp(meta["scales"], sizes / 255.0) if is_first else _codebook(meta["scales"], sizes)
        scales = np.exp(logs)
    first = pixels("sh0")
    if is_first:
        base = _lerp(meta["sh0"], first / 255.0)
        zero, opacity = base[:, :3], sigmoid(base[:, 3])
    else:
        zero, opacity = _codebook(meta["sh0"], first[:, :3]), first[:, 3] / np.float32(255.0)
    rest = _palette(members, meta["shN"], count, is_first) if meta.get("shN") else zero[:, None][:, :0]
    is_mip = bool(meta.get("antialias")) or meta.get("model") == "antialiased"
    coefficients = np.concatenate([zero[:, None], rest], 1)
    kind = f"SOG v{1 if is_first else 2}"
    said = meta | (meta["asset"] if isinstance(meta.get("asset"), dict) else {})
    comments = tuple(f"{key}: {said[key]}" for key in ("generator", "copyright", "comment") if key in said)
    return SplatCloud(
        means.astype(np.float32),
        scales.astype(np.float32),
        _quaternions(pixels("quats")).astype(np.float32),
        opacity.astype(np.float32),
        coefficients.astype(np.float32),
        kind,
        antialiased=is_mip,
        comments=comments,
    )


def _image(members: Members, path: str, count: int) -> np.ndarray:
    """Return a lossless image of at least ``count`` pixels (H, W, 4) uint8."""
    from PIL import Image, UnidentifiedImageError

    data = members.read(path, 16 * count + _ROOM)
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height < count or width * height > 4 * count + _ROOM:
                raise InvalidDataError(f"{members.name}: {path} is {width}x{height} for {count} splats")
            return np.asarray(image.convert("RGBA"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidDataError(f"{members.name}: {path} is no image that can be read ({error})") from error


def _lerp(entry: dict[str, Any], fractions: np.ndarray) -> np.ndarray:
    low, high = np.asarray(entry["mins"], np.float64), np.asarray(entry["maxs"], np.float64)
    return np.asarray(low + fractions * (high - low))


def _codebook(entry: dict[str, Any], values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        book = np.asarray(entry["codebook"], np.float32)
    if book.shape != (256,):
        raise ValueError(f"codebook of {book.shape} values")
    return book[values]


def _quaternions(packed: np.ndarray) -> np.ndarray:
    """Return quaternions w x y z; modes that are not known give none turned."""
    parts = (packed[:, :3] / 255.0 - 0.5) * np.sqrt(2.0)
    mode = packed[:, 3].astype(np.int64) - 252
    largest = np.sqrt(np.maximum(1.0 - (parts**2).sum(1), 0.0))
    result = insert_largest(parts, largest, np.maximum(mode, 0))
    result[mode < 0] = (1.0, 0.0, 0.0, 0.0)
    return result


def _palette(members: Members, entry: dict[str, Any], count: int, is_first: bool) -> np.ndarray:
    """Return coefficients 1 and up (N, K - 1, 3) from a palette."""
    labels = _image(members, str(entry["files"][1]), count).reshape(-1, 4)[:count].astype(np.int64)
    centroids = _image(members, str(entry["files"][0]), 1)
    width = centroids.shape[1] // _COLUMNS
    if centroids.shape[1] % _COLUMNS or width not in (3, 8, 15):
        raise InvalidDataError(f"{members.name}: its SH palette is {centroids.shape[1]} pixels wide")
    values = _lerp(entry, centroids[..., :3] / 255.0) if is_first else _codebook(entry, centroids[..., :3])
    table = values.reshape(-1, width, 3)
    label = labels[:, 0] + 256 * labels[:, 1]
    known = label < len(table)
    return np.where(known[:, None, None], table[np.where(known, label, 0)], 0.0)
