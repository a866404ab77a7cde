"""From a description to one big triangle mesh with everything that shading needs at its vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smerf.capture.synth.describe import Light, Material, ObjectSpec, Part, Repeat, SceneSpec, Texture
from smerf.capture.synth.shapes import Mesh, make_shape
from smerf.capture.synth.textures import PATTERNS
from smerf.errors import InvalidDataError

__all__ = ["World", "build_world", "euler_matrix", "light_frame", "sun_direction"]


@dataclass(frozen=True)
class World:
    """All surfaces of a scene. V vertices, F faces, metres, z up.

    ``vertices``, ``normals``, ``local`` (V, 3) and ``uv`` (V, 2) float32; ``faces`` (F, 3) int32
    counter-clockwise from outside; ``face_material`` (F,) indexes ``materials``; ``face_instance`` (F,) uint8
    mask ids, 0 for the background; ``face_light`` (F,) marks the surfaces of lights; ``instances`` names the
    ids from 1.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    local: np.ndarray
    uv: np.ndarray
    face_material: np.ndarray
    face_instance: np.ndarray
    face_light: np.ndarray
    materials: tuple[Material, ...]
    instances: tuple[str, ...]


def euler_matrix(degrees: tuple[float, ...], turn: float = 0.0) -> np.ndarray:
    """Return the rotation that turns about x, then y, then z (plus ``turn``); 3x3."""
    x, y, z = np.radians([degrees[0], degrees[1], degrees[2] + turn])
    rx = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return rz @ ry @ rx


def _placements(item: Part | ObjectSpec) -> list[np.ndarray]:
    """Return the 4x4 transforms of an item and its copies."""
    base = np.eye(4)
    base[:3, :3] = euler_matrix(item.rotate, item.turn) * item.scale
    base[:3, 3] = item.at
    repeat = item.repeat or Repeat(1)
    copies = []
    for k in range(repeat.count):
        shift = np.eye(4)
        shift[:3, :3] = euler_matrix((0, 0, 0), repeat.turn * k)
        shift[:3, 3] = np.asarray(repeat.step) * k
        copies.append(shift @ base)
    return copies


def light_frame(light: Light) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unit axes (right, up, facing) of a rectangular light."""
    facing = np.asarray(light.look_at, float) - light.center
    facing /= np.linalg.norm(facing)
    helper = np.array([0, 0, 1.0]) if abs(facing[2]) < 0.9 else np.array([1.0, 0, 0])
    right = np.cross(helper, facing)
    right /= np.linalg.norm(right)
    return right, np.cross(facing, right), facing


def sun_direction(lights: tuple[Light, ...]) -> np.ndarray | None:
    """Return the unit direction (3,) towards the first sun of a scene, or None."""
    for light in lights:
        if light.kind == "sun":
            direction = np.asarray(light.direction, np.float32)
            return direction / np.linalg.norm(direction)
    return None


def build_world(spec: SceneSpec, cell_scale: float = 1.0) -> World:
    """Mesh every object of a description; ``cell_scale`` above 1 coarsens the mesh, for small images.

    Raises:
        InvalidDataError: If a shape or texture is unknown or malformed, or there are more than 255 instances.
    """
    names = list(spec.materials)
    materials = [spec.materials[name] for name in names]
    for name, material in zip(names, materials):
        if material.texture.kind not in PATTERNS:
            where = f"scene '{spec.name}', material '{name}'"
            known = ", ".join(sorted(PATTERNS))
            raise InvalidDataError(f"{where}: unknown texture '{material.texture.kind}'; known: {known}")
    columns: dict[str, list[np.ndarray]] = {key: [] for key in ("v", "f", "n", "l", "uv", "m", "i", "light")}
    count = 0

    def add(mesh: Mesh, matrix: np.ndarray, material: int, instance: int, is_light: bool) -> None:
        nonlocal count
        linear = matrix[:3, :3]
        normals = mesh.normals @ np.linalg.inv(linear)
        columns["v"].append(mesh.vertices @ linear.T + matrix[:3, 3])
        columns["n"].append(normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12))
        columns["l"].append(mesh.vertices)
        columns["uv"].append(mesh.uv)
        columns["f"].append(mesh.faces + count)
        for key, value in (("m", material), ("i", instance), ("light", is_light)):
            columns[key].append(np.full(len(mesh.faces), value))
        count += len(mesh.vertices)

    instances: list[str] = []
    for entry in spec.objects:
        if entry.instance:
            instances.append(entry.name)
        instance = len(instances) if entry.instance else 0
        outer = _placements(entry)
        for part in entry.parts:
            where = f"scene '{spec.name}', object '{entry.name}'"
            cell = part.shape.get("cell", spec.cell / (part.scale * entry.scale))
            mesh = make_shape({**part.shape, "cell": cell * cell_scale}, where)
            for inner in _placements(part):
                for place in outer:
                    add(mesh, place @ inner, names.index(part.material), instance, False)
    if len(instances) > 255:
        raise InvalidDataError(f"scene '{spec.name}': {len(instances)} instances do not fit an 8-bit mask")
    for light in spec.lights:
        if light.kind == "rect" and light.visible:
            matrix = np.eye(4)
            right, up, facing = light_frame(light)
            matrix[:3, :3], matrix[:3, 3] = np.stack([right, up, facing], 1), light.center
            texture = Texture(colors=(light.color,), grain=0.0)
            materials.append(Material(texture=texture, emission=light.strength))
            shape = {"kind": "plane", "size": light.size, "cell": max(light.size)}
            add(make_shape(shape, "light"), matrix, len(materials) - 1, 0, True)
        elif light.kind not in ("rect", "sun"):
            raise InvalidDataError(f"scene '{spec.name}': unknown light '{light.kind}'; known: rect, sun")
    return World(
        vertices=np.concatenate(columns["v"]).astype(np.float32),
        faces=np.concatenate(columns["f"]).astype(np.int32),
        normals=np.concatenate(columns["n"]).astype(np.float32),
        local=np.concatenate(columns["l"]).astype(np.float32),
        uv=np.concatenate(columns["uv"]).astype(np.float32),
        face_material=np.concatenate(columns["m"]).astype(np.int32),
        face_instance=np.concatenate(columns["i"]).astype(np.uint8),
        face_light=np.concatenate(columns["light"]).astype(bool),
        materials=tuple(materials),
        instances=tuple(instances),
    )
