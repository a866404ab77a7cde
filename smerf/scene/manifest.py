"""``manifest.json``: what a baked scene is, where it starts, and a hash of every file; other readers ignore it.

Schema, version 1 (all keys optional unless marked)::

    format: "smerf-baked" (needed)     version: 1 (needed)      generator: "smerf 0.1.0"
    units: "normalised"                up_axis: "z"             required_features: [str]
    training_from_source: {scale: float, rotation: [[3] * 3], translation: [3]}
    start: {world_from_cam: [[4] * 3], fov_degrees: float}
        training axes, OpenGL camera, vertical field of view
    near: float                        background: [r, g, b] | null
    pixel_angle: float                 radians that a pixel of the photos covers (``smerf.scene.supersample``)
    region: {cells, colour: [3], mode, eye: float | null, starts: [{aspect, world_from_cam, fov_degrees, known}]}
        the known region (``smerf.scene.region``)
    objects: {count, list: [{id, name, colour: [3], box: {centre: [3], half: [3]}, score: float | null}]}
        what the ids of the voxels mean (``smerf.scene.objects``)
    cameras: [{name, split, world_from_cam, intrinsics: {model, width, height, fx, fy, cx, cy, distortion}}]
    files: {"sm_000/plane_rgb_0.png": {"sha256": hex, "bytes": int}}
        those below sm_XXX/coarse/ are the coarse level that a viewer may show first
    extra: {}

A reader refuses a version it does not know and any entry of ``required_features`` it does not know.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.types import Camera, Intrinsics, Similarity, intrinsics_fault
from smerf.errors import InvalidDataError
from smerf.scene.fields import Fields
from smerf.scene.objects import SceneObject, objects_to_json, parse_objects
from smerf.scene.region import Region, parse_region, region_to_json

__all__ = [
    "MANIFEST_NAME",
    "Manifest",
    "SceneCamera",
    "StartCamera",
    "check_files",
    "read_json",
    "read_manifest",
    "verify_manifest",
]

MANIFEST_NAME = "manifest.json"
FORMAT = "smerf-baked"
VERSION = 1
KNOWN_FEATURES: frozenset[str] = frozenset()
_MIN_UNPACKED, _MAX_RATIO = 64 << 20, 20
"""A packed JSON file may always unpack to so many bytes, and to so many times its size: numbers pack about 3 to 1."""


@dataclass(frozen=True)
class StartCamera:
    """Where a viewer opens: ``world_from_cam`` 3x4 (training axes, OpenGL), vertical field of view in degrees."""

    world_from_cam: np.ndarray
    fov_degrees: float = 60.0


@dataclass(frozen=True)
class SceneCamera:
    """One photo's camera, kept with the scene for verification and for jumping to views."""

    name: str
    split: str
    camera: Camera


@dataclass(frozen=True)
class Manifest:
    """The manifest in memory. ``files`` maps paths relative to the scene folder to (sha256 hex, bytes).

    ``near`` is the near plane in training units; ``None`` leaves the choice to the viewer. ``pixel_angle`` is the
    angle in radians of a pixel of the photos at the size trained on; ``None`` draws any picture with one ray a pixel.
    """

    generator: str = "smerf"
    units: str = "normalised"
    up_axis: str = "z"
    training_from_source: Similarity = field(default_factory=Similarity)
    required_features: tuple[str, ...] = ()
    start: StartCamera | None = None
    near: float | None = None
    pixel_angle: float | None = None
    background: tuple[float, float, float] | None = None
    region: Region | None = None
    objects: tuple[SceneObject, ...] = ()
    cameras: tuple[SceneCamera, ...] = ()
    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the module's schema. Raises ValueError for a number that is not finite."""
        start = self.start and {
            "world_from_cam": _plain(self.start.world_from_cam),
            "fov_degrees": float(self.start.fov_degrees),
        }
        value: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "generator": self.generator,
            "units": self.units,
            "up_axis": self.up_axis,
            "required_features": list(self.required_features),
            "training_from_source": {
                "scale": float(self.training_from_source.scale),
                "rotation": _plain(self.training_from_source.rotation),
                "translation": _plain(self.training_from_source.translation),
            },
            "start": start,
            "near": self.near,
            "background": self.background and [float(c) for c in self.background],
            "cameras": [
                {
                    "name": entry.name,
                    "split": entry.split,
                    "world_from_cam": _plain(entry.camera.world_from_cam),
                    "intrinsics": asdict(entry.camera.intrinsics),
                }
                for entry in self.cameras
            ],
            "files": {
                name: {"sha256": digest, "bytes": size} for name, (digest, size) in sorted(self.files.items())
            },
            "extra": self.extra,
        }
        if self.pixel_angle is not None:
            value["pixel_angle"] = self.pixel_angle
        if self.region is not None:
            value["region"] = region_to_json(self.region)
        if self.objects:
            value["objects"] = objects_to_json(self.objects)
        json.dumps(value, allow_nan=False)
        return value


def _plain(array: np.ndarray) -> list[Any]:
    return np.asarray(array, np.float64).tolist()


def read_json(path: Path) -> dict[str, Any]:
    """Read a strict JSON object, plain or from ``path`` + ``.gz``.

    Raises InvalidDataError if the file is missing, unpacks to far more than numbers do, is not JSON, holds NaN or
    Infinity, or is not an object.
    """

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    packed = path.with_name(path.name + ".gz")
    try:
        data = path.read_bytes() if path.is_file() or not packed.is_file() else _unpack(packed)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise InvalidDataError(f"{path}: cannot be read ({error}); is this a baked scene?") from error
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidDataError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise InvalidDataError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _unpack(path: Path) -> bytes:
    """Unpack a gzip file, unless it grows as only one that was made for it does."""
    limit = _MIN_UNPACKED + _MAX_RATIO * path.stat().st_size
    with gzip.open(path, "rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise InvalidDataError(f"{path}: unpacks to more than {limit} bytes; copy or bake the scene again")
    return data


def _parse_camera(value: Any, where: str) -> SceneCamera:
    entry = Fields(value, where)
    values = Fields(entry.value.get("intrinsics"), f"{where}: 'intrinsics'")
    width, height = values.number("width"), values.number("height")
    if width != int(width) or height != int(height) or min(width, height) < 1:
        raise InvalidDataError(f"{where}: 'width' and 'height' must be whole and positive")
    distortion = values.value.get("distortion", [])
    count = len(distortion) if isinstance(distortion, list) else 0
    intrinsics = Intrinsics(
        model=values.text("model"),
        width=int(width),
        height=int(height),
        **{key: values.number(key) for key in ("fx", "fy", "cx", "cy")},
        distortion=tuple(values.array("distortion", (count,)).tolist()) if count else (),
    )
    fault = intrinsics_fault(intrinsics)
    if fault:
        raise InvalidDataError(f"{where}: {fault}")
    return SceneCamera(
        entry.text("name"),
        entry.text("split", "train"),
        Camera(intrinsics, entry.array("world_from_cam", (3, 4))),
    )


def parse_manifest(value: dict[str, Any], where: str) -> Manifest:
    """Turn a JSON object into a Manifest. Raises InvalidDataError, prefixed with ``where``, if it is malformed."""
    fields = Fields(value, where)
    if value.get("format") != FORMAT:
        raise InvalidDataError(f"{where}: 'format' is {value.get('format')!r}, expected {FORMAT!r}")
    if type(value.get("version")) is not int or value["version"] != VERSION:
        raise InvalidDataError(
            f"{where}: version {value.get('version')!r} is unknown; smerf reads {VERSION}: update smerf"
        )
    features = value.get("required_features", [])
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise InvalidDataError(f"{where}: 'required_features' must be a list of strings")
    unknown = sorted(set(features) - KNOWN_FEATURES)
    if unknown:
        raise InvalidDataError(
            f"{where}: the scene needs {', '.join(unknown)}, which this smerf lacks; update it"
        )
    similarity = Similarity()
    if "training_from_source" in value:
        entry = Fields(value["training_from_source"], f"{where}: 'training_from_source'")
        similarity = Similarity(
            entry.number("scale"), entry.array("rotation", (3, 3)), entry.array("translation", (3,))
        )
    start = None
    if value.get("start") is not None:
        entry = Fields(value["start"], f"{where}: 'start'")
        start = StartCamera(entry.array("world_from_cam", (3, 4)), entry.number("fov_degrees"))
        if not 0.0 < start.fov_degrees < 180.0:
            raise InvalidDataError(
                f"{where}: 'fov_degrees' must lie between 0 and 180, got {start.fov_degrees}"
            )
    near, angle = (_positive(fields, key) for key in ("near", "pixel_angle"))
    background = None
    if value.get("background") is not None:
        background = tuple(fields.array("background", (3,)).tolist())
    cameras = value.get("cameras", [])
    extra = value.get("extra", {})
    files = value.get("files", {})
    if not isinstance(cameras, list) or not isinstance(extra, dict) or not isinstance(files, dict):
        raise InvalidDataError(f"{where}: 'cameras' must be a list, 'extra' and 'files' must be objects")
    return Manifest(
        generator=fields.text("generator", "unknown"),
        units=fields.text("units", "normalised"),
        up_axis=fields.text("up_axis", "z"),
        training_from_source=similarity,
        required_features=tuple(features),
        start=start,
        near=near,
        pixel_angle=angle,
        background=background,
        region=_parse_region(value.get("region"), f"{where}: 'region'"),
        objects=parse_objects(value.get("objects"), f"{where}: 'objects'"),
        cameras=tuple(_parse_camera(item, f"{where}: camera {i}") for i, item in enumerate(cameras)),
        files={name: _parse_file(name, item, where) for name, item in files.items()},
        extra=extra,
    )


def _positive(fields: Fields, key: str) -> float | None:
    number = None if fields.value.get(key) is None else fields.number(key)
    if number is not None and number <= 0:
        raise InvalidDataError(f"{fields.where}: {key!r} must be positive, got {number}")
    return number


def _parse_region(value: Any, where: str) -> Region | None:
    if value is None:
        return None
    entry = Fields(value, where)
    starts = entry.value.get("starts", [])
    if not isinstance(starts, list):
        raise InvalidDataError(f"{where}: 'starts' must be a list")
    return parse_region(entry, [Fields(item, f"{where}: start {i}") for i, item in enumerate(starts)])


def _parse_file(name: str, value: Any, where: str) -> tuple[str, int]:
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or not parts:
        raise InvalidDataError(f"{where}: file {name!r} lies outside the scene folder")
    entry = Fields(value, f"{where}: file {name!r}")
    size = entry.number("bytes")
    if size < 0 or size != int(size):
        raise InvalidDataError(f"{where}: file {name!r}: 'bytes' must be a whole number, got {size}")
    return entry.text("sha256"), int(size)


def read_manifest(scene_dir: Path) -> Manifest:
    """Read ``manifest.json`` of a scene folder. Raises InvalidDataError if it is missing or malformed."""
    path = Path(scene_dir) / MANIFEST_NAME
    return parse_manifest(read_json(path), str(path))


def hash_file(path: Path) -> tuple[str, int]:
    """Return (sha256 hex, bytes) of a file, reading it in pieces."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


def _fault(path: Path, digest: str, size: int) -> str | None:
    """Return what is wrong with a file that should have this hash and size, if anything."""
    if not path.is_file():
        return "missing"
    if path.stat().st_size != size:
        return f"{path.stat().st_size} bytes, expected {size}"
    return None if hash_file(path)[0] == digest else "contents changed (sha256 differs)"


def check_files(scene_dir: Path, manifest: Manifest, folder: str) -> None:
    """Compare the files of one submodel's folder with the manifest, if it lists them.

    What is not there may be there in another form, such as compressed: that is the reader's concern.

    Raises:
        InvalidDataError: Naming the first file that differs.
    """
    for name, (digest, size) in sorted(manifest.files.items()):
        if not name.startswith(f"{folder}/") or not (scene_dir / name).is_file():
            continue
        fault = _fault(scene_dir / name, digest, size)
        if fault:
            raise InvalidDataError(f"{scene_dir / name}: {fault}; copy or bake the scene again")


def verify_manifest(scene_dir: Path | str) -> list[str]:
    """Compare every file of a baked scene with its manifest.

    Returns one line per file that is missing, differs, or is not listed; an empty list means that all is
    well. Raises InvalidDataError if the manifest itself is missing or malformed.
    """
    root = Path(scene_dir)
    manifest = read_manifest(root)
    problems = []
    for name, (digest, size) in sorted(manifest.files.items()):
        fault = _fault(root / name, digest, size)
        if fault:
            problems.append(f"{name}: {fault}")
    for folder in sorted(root.glob("sm_*")):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and name not in manifest.files:
                problems.append(f"{name}: not listed in {MANIFEST_NAME}")
    return problems
