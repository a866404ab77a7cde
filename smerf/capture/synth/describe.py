"""Scene descriptions: what a file of ``data/scenes`` may say, as frozen dataclasses, and the strict loader.

Lengths are metres, angles degrees, z points up, colours are sRGB hex strings such as ``"#d8c8b0"`` (held as
linear RGB). Unknown keys are errors that name the file, the place and the nearest valid key.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from smerf.engine.files import data_folder
from smerf.errors import InvalidDataError

__all__ = [
    "Light", "Material", "ObjectSpec", "Part", "Repeat", "Rig", "SceneSpec", "Sky", "Texture",
    "built_in_scenes", "load_scene_spec", "parse_scene_spec",
]  # fmt: skip

Vector = tuple[float, ...]
Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Texture:
    """A procedural pattern: ``kind`` names a function of ``textures.py``, ``scale`` is the size of a feature.

    ``stretch`` divides the coordinates per axis; ``axes`` picks two local coordinates (``xy``, ``xz``,
    ``yz``) in place of the surface's own uv; ``grain`` is the contrast of a fine noise that keeps every
    surface textured.
    """

    kind: str = "plain"
    colors: tuple[Rgb, ...] = ((0.5, 0.5, 0.5),)
    scale: float = 0.1
    stretch: Vector = (1.0, 1.0, 1.0)
    axes: str | None = None
    stops: tuple[float, ...] = ()
    contrast: float = 1.0
    grain: float = 0.12
    grain_scale: float = 0.03


@dataclass(frozen=True)
class Material:
    """How a surface answers light: ``specular`` is the reflectance at normal incidence, 0 for fully matt.

    ``metal`` tints the reflection with the texture and drops the diffuse part; ``emission`` multiplies the
    texture.
    """

    texture: Texture = field(default_factory=Texture)
    roughness: float = 0.3
    specular: float = 0.0
    metal: bool = False
    emission: float = 0.0


@dataclass(frozen=True)
class Repeat:
    """Copies of a part, each ``step`` further on and ``turn`` degrees more about the parent's z axis."""

    count: int
    step: Vector = (0.0, 0.0, 0.0)
    turn: float = 0.0


@dataclass(frozen=True)
class Part:
    """One shape with one material; ``rotate`` is degrees about x, y, z in that order, ``turn`` adds to z."""

    shape: Mapping[str, Any]
    material: str
    at: Vector = (0.0, 0.0, 0.0)
    rotate: Vector = (0.0, 0.0, 0.0)
    turn: float = 0.0
    scale: float = 1.0
    repeat: Repeat | None = None


@dataclass(frozen=True)
class ObjectSpec:
    """A thing of the scene: one shape, or the parts of a prefab. ``instance: false`` means mask id 0."""

    name: str
    parts: tuple[Part, ...]
    at: Vector = (0.0, 0.0, 0.0)
    rotate: Vector = (0.0, 0.0, 0.0)
    turn: float = 0.0
    scale: float = 1.0
    repeat: Repeat | None = None
    instance: bool = True


@dataclass(frozen=True)
class Light:
    """A ``rect`` (``center``, ``look_at``, ``size``) or a ``sun`` (``direction`` towards it, ``angle``)."""

    kind: str
    color: Rgb = (1.0, 1.0, 1.0)
    strength: float = 1.0
    center: Vector = (0.0, 0.0, 2.0)
    look_at: Vector = (0.0, 0.0, 0.0)
    size: Vector = (1.0, 1.0)
    visible: bool = True
    direction: Vector = (0.3, 0.3, 1.0)
    angle: float = 1.5


@dataclass(frozen=True)
class Sky:
    """Light from beyond all surfaces: from ``horizon`` to ``zenith`` with clouds, ``ground`` below."""

    zenith: Rgb = (0.0, 0.0, 0.0)
    horizon: Rgb = (0.0, 0.0, 0.0)
    ground: Rgb = (0.0, 0.0, 0.0)
    strength: float = 1.0
    clouds: float = 0.0


@dataclass(frozen=True)
class Rig:
    """Where the cameras stand: an ``orbit`` (a spiral around ``center``) or a ``walk`` along ``points``.

    orbit: ``radius`` and ``elevation`` are [first, last], ``turns`` the number of rounds.
    walk: ``points`` are waypoints at eye height, the view turns by ``yaw_step`` from one frame to the next
    (0 looks ahead) and nods by ``pitch`` = [mean, amplitude].
    """

    kind: str
    views: int = 100
    fov: float = 50.0
    center: Vector = (0.0, 0.0, 0.0)
    radius: Vector = (1.0, 1.0)
    elevation: Vector = (10.0, 50.0)
    turns: float = 4.0
    points: tuple[Vector, ...] = ()
    closed: bool = False
    yaw_step: float = 0.0
    pitch: Vector = (0.0, 0.0)
    sway: float = 0.0
    seconds: float = 12.0


@dataclass(frozen=True)
class SceneSpec:
    """A whole scene. ``cell`` is the edge of the lighting mesh, ``near`` and ``far`` bound camera rays."""

    name: str
    title: str
    near: float
    far: float
    bounded: bool
    materials: Mapping[str, Material]
    objects: tuple[ObjectSpec, ...]
    rig: Rig
    lights: tuple[Light, ...] = ()
    sky: Sky = field(default_factory=Sky)
    paths: Mapping[str, Rig] = field(default_factory=dict)
    cell: float = 0.05
    exposure: float = 1.0
    bounces: int = 3


def scene_folder() -> Path:
    """Return the folder of the built-in descriptions: in ``smerf.data``, or the checkout's ``data``."""
    return data_folder() / "scenes"


def built_in_scenes() -> tuple[str, ...]:
    """Return the names of the built-in scenes."""
    return tuple(sorted(path.stem for path in scene_folder().glob("*.yaml")))


def load_scene_spec(scene: str | Path) -> SceneSpec:
    """Read a built-in scene by name, or a description from a ``.yaml`` or ``.json`` file.

    Raises:
        InvalidDataError: If there is no such scene or the description is malformed; the message names the
        key.
    """
    path = Path(scene)
    if path.suffix not in (".yaml", ".yml", ".json"):
        names = built_in_scenes()
        if str(scene) not in names:
            raise InvalidDataError(
                f"unknown scene '{scene}': give one of {', '.join(names)}, or the path of a .yaml description"
            )
        path = scene_folder() / f"{scene}.yaml"
    if not path.is_file():
        raise InvalidDataError(f"{path}: no such file; built-in scenes are {', '.join(built_in_scenes())}")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{path}: not readable as YAML: {error}") from error
    return parse_scene_spec(document, path.stem, str(path))


def parse_scene_spec(document: Any, name: str, where: str) -> SceneSpec:
    """Turn a parsed description into a :class:`SceneSpec`; ``where`` names the source in errors."""
    values = dict(_mapping(document, where))
    prefabs = _mapping(values.pop("prefabs", {}), f"{where}: prefabs")
    spec_keys = [f.name for f in dataclasses.fields(SceneSpec) if f.name != "name"]
    _check_keys(values, spec_keys, where)
    for key in ("near", "far", "bounded", "materials", "objects", "rig"):
        if key not in values:
            raise InvalidDataError(f"{where}: key '{key}' is missing")
    values.setdefault("title", name)
    materials = {
        key: _material(entry, f"{where}: materials.{key}")
        for key, entry in _mapping(values["materials"], f"{where}: materials").items()
    }
    objects = []
    for index, entry in enumerate(_list(values["objects"], f"{where}: objects")):
        objects.append(_object(entry, prefabs, materials, f"{where}: objects[{index}]"))
    values["materials"], values["objects"] = materials, tuple(objects)
    values["rig"] = _record(Rig, values["rig"], f"{where}: rig")
    paths = _mapping(values.get("paths", {}), f"{where}: paths")
    values["paths"] = {key: _record(Rig, entry, f"{where}: paths.{key}") for key, entry in paths.items()}
    lights = _list(values.get("lights", []), f"{where}: lights")
    values["lights"] = tuple(_record(Light, light, f"{where}: lights[{i}]") for i, light in enumerate(lights))
    values["sky"] = _record(Sky, values.get("sky", {}), f"{where}: sky")
    for key in ("near", "far", "cell", "exposure"):
        if key in values and not (isinstance(values[key], int | float) and values[key] > 0):
            raise InvalidDataError(f"{where}: '{key}' must be a positive number, not {values[key]!r}")
    return SceneSpec(name=name, **values)


def _object(entry: Any, prefabs: Mapping, materials: Mapping, where: str) -> ObjectSpec:
    values = dict(_mapping(entry, where))
    part_keys = ["shape", "material", "use"]
    _check_keys(
        values, part_keys + [f.name for f in dataclasses.fields(ObjectSpec) if f.name != "parts"], where
    )
    if ("use" in values) == ("shape" in values):
        raise InvalidDataError(f"{where}: give either 'shape' with 'material', or 'use' with a prefab's name")
    if "use" in values:
        prefab = values.pop("use")
        if prefab not in prefabs:
            raise InvalidDataError(f"{where}: unknown prefab '{prefab}'{_nearest(prefab, prefabs)}")
        listed, parts_where = _list(prefabs[prefab], f"prefab '{prefab}'"), f"{where} (prefab {prefab})"
        values.setdefault("name", prefab)
    else:
        listed = [{key: values.pop(key) for key in ("shape", "material") if key in values}]
        parts_where = where
    parts = tuple(_record(Part, part, f"{parts_where}: part {i}") for i, part in enumerate(listed))
    for part in parts:
        if part.material not in materials:
            raise InvalidDataError(
                f"{parts_where}: unknown material '{part.material}'{_nearest(part.material, materials)}"
            )
        if "kind" not in part.shape:
            raise InvalidDataError(f"{parts_where}: shape needs a 'kind'")
    return _record(ObjectSpec, {**values, "parts": parts}, where)


def _material(entry: Any, where: str) -> Material:
    values = dict(_mapping(entry, where))
    texture = dict(_mapping(values.get("texture", {}), f"{where}.texture"))
    if "color" in values:
        texture["colors"] = [values.pop("color")]
    return _record(Material, {**values, "texture": _record(Texture, texture, f"{where}.texture")}, where)


def _record(cls: type, entry: Any, where: str) -> Any:
    """Build a dataclass from a mapping: unknown and missing keys are errors, values take the field's form."""
    values = dict(_mapping(entry, where))
    fields = {f.name: f for f in dataclasses.fields(cls)}
    _check_keys(values, fields, where)
    for key, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and key not in values:
            raise InvalidDataError(f"{where}: key '{key}' is missing")
    for key, value in values.items():
        values[key] = _convert(str(fields[key].type), value, f"{where}.{key}")
    return cls(**values)


def _convert(kind: str, value: Any, where: str) -> Any:
    if kind == "Rgb":
        return linear_rgb(value, where)
    if kind == "tuple[Rgb, ...]":
        return tuple(linear_rgb(color, where) for color in _list(value, where))
    if kind == "tuple[Vector, ...]":
        return tuple(_vector(point, where) for point in _list(value, where))
    if kind in ("Vector", "tuple[float, ...]"):
        return _vector(value, where)
    if kind == "Repeat | None":
        return _record(Repeat, value, where) if value is not None else None
    expected: dict[str, type | tuple[type, ...]] = {
        "float": (int, float), "int": int, "bool": bool, "str": str, "str | None": (str, type(None)),
    }  # fmt: skip
    if kind in expected and (
        not isinstance(value, expected[kind]) or (isinstance(value, bool) and kind != "bool")
    ):
        raise InvalidDataError(f"{where}: expected {kind}, found {value!r}")
    return value


def linear_rgb(color: Any, where: str) -> Rgb:
    """Turn ``"#rrggbb"`` (sRGB) into linear RGB."""
    text = color.lstrip("#") if isinstance(color, str) else ""
    try:
        encoded = [int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)] if len(text) == 6 else []
    except ValueError:
        encoded = []
    if not encoded:
        raise InvalidDataError(f'{where}: colours are written "#rrggbb", found {color!r}')
    return tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in encoded)  # type: ignore


def _vector(value: Any, where: str) -> Vector:
    entries = _list(value, where)
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in entries):
        raise InvalidDataError(f"{where}: expected a list of numbers, found {value!r}")
    return tuple(float(x) for x in entries)


def _mapping(value: Any, where: str) -> Mapping:
    if not isinstance(value, Mapping):
        raise InvalidDataError(f"{where}: expected keys and values, found {type(value).__name__}")
    return value


def _list(value: Any, where: str) -> list | tuple:
    if not isinstance(value, list | tuple):
        raise InvalidDataError(f"{where}: expected a list, found {value!r}")
    return value


def _check_keys(values: Mapping, known: Any, where: str) -> None:
    for key in values:
        if key not in known:
            raise InvalidDataError(f"{where}: unknown key '{key}'{_nearest(key, known)}")


def _nearest(name: Any, known: Any) -> str:
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(sorted(map(str, known)))}"
