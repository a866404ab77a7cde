"""Meshes as OBJ, PLY, STL and OFF, through trimesh."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from smerf.errors import InvalidDataError
from smerf.teacher.mesh.surface import Material, Surface, checked_surface, joined
from smerf.teacher.mesh.texture import Texture, to_pixels

__all__ = ["read_general_mesh"]

_UP = {"OBJ": (0.0, 1.0, 0.0), "PLY": (0.0, 0.0, 1.0), "STL": (0.0, 0.0, 1.0), "OFF": (0.0, 0.0, 1.0)}
_GREY = 0.7
_HEAD = 1 << 16
_log = logging.getLogger(__name__)


def read_general_mesh(path: Path, kind: str) -> Surface:
    """Read a mesh, all its parts joined.

    Args:
        path: The file; textures and materials lie beside it.
        kind: ``OBJ``, ``PLY``, ``STL`` or ``OFF``.

    Raises:
        InvalidDataError: If it is damaged or holds no triangles.
    """
    import trimesh

    # It warns of what is reported here.
    logging.getLogger("trimesh").setLevel(logging.ERROR)
    try:
        scene = trimesh.load_scene(path, file_type=kind.lower(), process=False)
        parts = [
            _part(str(path), scene.geometry[name], np.asarray(matrix, float), kind)
            for matrix, name in (scene.graph[node] for node in scene.graph.nodes_geometry)
            if isinstance(scene.geometry[name], trimesh.Trimesh) and len(scene.geometry[name].faces)
        ]
    except (InvalidDataError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        # trimesh's parsers raise whatever they trip over.
        raise InvalidDataError(f"{path}: is damaged ({error!r}); export it again") from error
    if kind == "OBJ":
        _tell_missing(path)
    if not parts:
        raise InvalidDataError(f"{path}: holds no triangles")
    return checked_surface(str(path), joined(parts))


def _tell_missing(path: Path) -> None:
    """Warn of materials and textures that an OBJ names and that are not beside it; its colours are then others."""
    with open(path, "rb") as file:
        head = file.read(_HEAD).decode("utf-8", "replace")
    for library in _named(head, "mtllib"):
        if not _is_beside(path, library):
            _log.warning("%s: its materials %s are not beside it", path, library)
            continue
        with open(path.parent / library, "rb") as file:
            text = file.read(_HEAD).decode("utf-8", "replace")
        for texture in _named(text, "map_Kd"):
            # Options stand before the name.
            if not any(_is_beside(path, each) for each in (texture, texture.split()[-1])):
                _log.warning("%s: its texture %s is not beside it", path, texture)


def _is_beside(path: Path, name: str) -> bool:
    try:
        return (path.parent / name).is_file()
    except (OSError, ValueError):
        # Damaged files name what cannot be a name.
        return False


def _named(text: str, key: str) -> list[str]:
    rows = [line.strip().split(maxsplit=1) for line in text.splitlines()]
    return [row[1].replace("\\", "/") for row in rows if len(row) == 2 and row[0].lower() == key.lower()]


def _part(name: str, mesh: Any, matrix: np.ndarray, kind: str) -> Surface:
    """Return one mesh of trimesh's where its node puts it."""
    vertices = np.asarray(mesh.vertices, np.float64)
    faces = np.asarray(mesh.faces, np.int64)
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InvalidDataError(f"{name}: its triangles have corners that are not there; export it again")
    vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
    uv, colours = np.zeros((len(vertices), 2), np.float32), np.ones((len(vertices), 4), np.float32)
    visual, material, has_colour = mesh.visual, Material(), True
    # The visual of a damaged file may have been dropped.
    shown = getattr(visual, "kind", None)
    if shown == "texture":
        material, has_colour = _material(name, visual.material)
        given = None if visual.uv is None else np.asarray(visual.uv, np.float32)
        if material.texture is not None and given is not None and given.shape == uv.shape:
            # v points upwards in these formats.
            uv = np.stack([given[:, 0], 1.0 - given[:, 1]], 1)
        elif material.texture is not None:
            material, has_colour = Material(factor=(_GREY, _GREY, _GREY, 1.0)), False
        of_vertices = mesh.vertex_attributes.get("color")
        if material.texture is None and of_vertices is not None and len(of_vertices) == len(vertices):
            from trimesh.visual.color import to_rgba

            material, has_colour = Material(), True
            colours[:, :3] = to_rgba(np.asarray(of_vertices))[:, :3] / 255.0
    elif shown == "vertex" and len(visual.vertex_colors) == len(vertices):
        colours[:, :3] = np.asarray(visual.vertex_colors)[:, :3] / 255.0
    elif shown == "face" and len(visual.face_colors) == len(faces):
        # Every face gets corners of its own.
        vertices, uv = vertices[faces.ravel()], np.zeros((faces.size, 2), np.float32)
        colours = np.ones((faces.size, 4), np.float32)
        colours[:, :3] = np.repeat(np.asarray(visual.face_colors)[:, :3] / 255.0, 3, axis=0)
        faces = np.arange(faces.size).reshape(-1, 3)
    else:
        material, has_colour = Material(factor=(_GREY, _GREY, _GREY, 1.0)), False
    return Surface(
        vertices, faces.astype(np.int32), np.zeros(len(faces), np.int32), uv, colours, (material,), kind, _UP[kind],
        has_colour=has_colour,
    )  # fmt: skip


def _is_placeholder(image: Any) -> bool:
    """Return whether an image is what trimesh gives to a mesh without a material: four equal grey pixels."""
    pixels = np.asarray(image)
    return pixels.shape == (2, 2, 4) and bool((pixels == (100, 100, 100, 255)).all())


def _material(name: str, material: Any) -> tuple[Material, bool]:
    """Return a material of trimesh's, and whether it says anything of colours."""
    image = getattr(material, "image", None)
    if image is None:
        image = getattr(material, "baseColorTexture", None)
    if image is not None and not _is_placeholder(image):
        return Material(Texture(to_pixels(name, image))), True
    if image is not None:
        return Material(factor=(_GREY, _GREY, _GREY, 1.0)), False
    colour = getattr(material, "diffuse", None)
    if colour is None:
        colour = getattr(material, "baseColorFactor", None)
    if colour is None:
        return Material(factor=(_GREY, _GREY, _GREY, 1.0)), False
    red, green, blue = (float(x) / 255.0 for x in np.asarray(colour).ravel()[:3])
    return Material(factor=(red, green, blue, 1.0)), True
