"""The objects of a scene: what the ids of its voxels mean.

An optional file ``sm_XXX/object_ids`` (uint8, sliced like the atlas) holds an id for every voxel of the atlas, borders
included: 0 for no object, else that of an entry of the manifest's ``objects``. Ids are the same in all submodels and
levels. Where several objects meet in a voxel the one with the greatest weight has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smerf.errors import InvalidDataError, UsageError
from smerf.scene.fields import Fields

__all__ = [
    "MAX_OBJECTS",
    "SceneObject",
    "check_ids",
    "choose_objects",
    "id_table",
    "id_words",
    "objects_to_json",
    "parse_objects",
]

MAX_OBJECTS = 255
"""Ids are bytes, and 0 is no object."""
_MAX_NAME = 200


@dataclass(frozen=True)
class SceneObject:
    """An object: ``id`` 1 to 255, RGB ``colour`` in [0, 1], ``centre`` and ``half`` edges of its box in training space.

    ``score`` says how sure its name is, votes a view in [0, 1]; ``None`` where nobody voted.
    """

    id: int
    name: str
    colour: tuple[float, float, float]
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    score: float | None = None


def objects_to_json(objects: Sequence[SceneObject]) -> dict[str, Any]:
    """Return the manifest's entry."""
    return {
        "count": len(objects),
        "list": [
            {
                "id": each.id,
                "name": each.name,
                "colour": [float(c) for c in each.colour],
                "box": {"centre": [float(c) for c in each.centre], "half": [float(c) for c in each.half]},
                "score": None if each.score is None else float(each.score),
            }
            for each in objects
        ],
    }


def parse_objects(value: Any, where: str) -> tuple[SceneObject, ...]:
    """Turn the manifest's entry into objects, none for ``None``. Raises InvalidDataError, prefixed with ``where``."""
    if value is None:
        return ()
    fields = Fields(value, where)
    entries = fields.value.get("list")
    if not isinstance(entries, list) or len(entries) > MAX_OBJECTS:
        raise InvalidDataError(f"{where}: 'list' must be a list of at most {MAX_OBJECTS} objects")
    objects = tuple(_parse_object(Fields(entry, f"{where}: object {i}")) for i, entry in enumerate(entries))
    count = fields.number("count", len(entries))
    if count != len(entries):
        raise InvalidDataError(f"{where}: 'count' is {count:g}, but the list has {len(entries)}")
    if len({each.id for each in objects}) != len(objects):
        raise InvalidDataError(f"{where}: two objects have the same id")
    return objects


def _parse_object(entry: Fields) -> SceneObject:
    number, name = entry.number("id"), entry.text("name")
    if number != int(number) or not 1 <= number <= MAX_OBJECTS:
        raise InvalidDataError(
            f"{entry.where}: 'id' must be a whole number from 1 to {MAX_OBJECTS}, got {number:g}"
        )
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise InvalidDataError(f"{entry.where}: 'name' must be 1 to {_MAX_NAME} printable characters")
    colour = entry.array("colour", (3,))
    if (colour < 0.0).any() or (colour > 1.0).any():
        raise InvalidDataError(f"{entry.where}: 'colour' must be three numbers from 0 to 1")
    box = Fields(entry.value.get("box"), f"{entry.where}: 'box'")
    half = box.array("half", (3,))
    if (half < 0.0).any():
        raise InvalidDataError(f"{box.where}: 'half' must not be negative")
    score = None if entry.value.get("score") is None else entry.number("score")
    return SceneObject(
        int(number), name, _triple(colour), _triple(box.array("centre", (3,))), _triple(half), score
    )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return x, y, z


def check_ids(ids: np.ndarray, objects: Iterable[SceneObject], where: str) -> None:
    """Raise InvalidDataError, prefixed with ``where``, if voxels (uint8) name an object that is not listed."""
    known = id_table(each.id for each in objects)
    known[0] = 1
    found = np.bincount(ids.reshape(-1), minlength=256).astype(bool)
    unknown = np.flatnonzero(found & (known == 0))
    if len(unknown):
        raise InvalidDataError(
            f"{where}: names object {unknown[0]}, which manifest.json does not list; copy or bake the scene again"
        )


def id_table(ids: Iterable[int]) -> np.ndarray:
    """Return a table (256,) uint8 that is 1 for these ids: the form in which renderers take hidden and lit objects."""
    table = np.zeros(256, np.uint8)
    for each in ids:
        table[each] = 1
    return table


def id_words(table: np.ndarray) -> np.ndarray:
    """Return a table (256,) as 256 bits, uint32 (8,): that of id i is bit (i & 31) of word i >> 5."""
    return np.packbits(np.asarray(table) != 0, bitorder="little").view("<u4").astype(np.uint32)


def choose_objects(objects: Sequence[SceneObject], wanted: Sequence[str], option: str) -> tuple[int, ...]:
    """Return the ids of objects that a user means by names or ids; a name that several bear means all of them.

    Raises UsageError, prefixed with ``option``, for what is not there.
    """
    chosen: list[int] = []
    for word in wanted:
        found = [
            each.id for each in objects if each.name.casefold() == word.casefold() or str(each.id) == word
        ]
        if not found:
            there = ", ".join(f"{each.name} ({each.id})" for each in objects)
            raise UsageError(f"{option} {word}: is no object of the scene; there are {there or 'none'}")
        chosen += found
    return tuple(dict.fromkeys(chosen))
