"""A room for walkers, and walks through it that both implementations have to agree on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from smerf.scene.grids import pack_bits
from smerf.scene.types import SceneParams
from smerf.scene.walk import Body, Place, Walker

VECTORS = Path(__file__).resolve().parents[1] / "viewer" / "walk_vectors.json"
_CELLS = 32
_EYE = 0.5
# Training axes, low and high corners: floor, walls, a step, a table.
_BOXES = (
    ((-1.0, -1.0, -0.625), (1.0, 1.0, -0.5)),
    ((0.75, -1.0, -0.5), (0.875, 1.0, 0.5)),
    ((-1.0, 0.75, -0.5), (1.0, 0.875, 0.5)),
    ((-1.0, -1.0, -0.5), (-0.25, 1.0, -0.375)),
    ((0.125, -0.875, -0.25), (0.625, -0.5, -0.125)),
)


def walk_room() -> Place:
    """Return the room: a submodel of 32 cells per axis, on viewer axes."""
    centres = (np.arange(_CELLS) + 0.5) * 4.0 / _CELLS - 2.0
    x, y, z = np.meshgrid(centres, centres, centres, indexing="ij")
    training = np.stack([-x, z, y], -1)
    solid = np.zeros((_CELLS,) * 3, bool)
    for low, high in _BOXES:
        solid |= ((training > low) & (training < high)).all(-1)
    return Place(SceneParams(64, 16), 0, pack_bits(solid))


def run(place: Place, walk: dict) -> list[list[float]]:
    """Walk as ``walk`` says: from ``start`` by ``moves`` of [dx, dy, dt]; return the positions."""
    walker = Walker(place, Body.of_eye(_EYE), np.array(walk["start"]))
    positions = []
    for dx, dy, dt in walk["moves"]:
        walker.move(dx, dy, dt)
        positions.append(walker.position.tolist())
    return positions


def write_vectors() -> None:
    """Write the vectors again, after a change of the rules that was meant."""
    random = np.random.default_rng(5)
    place, walks = walk_room(), []
    for start in ([0.0, 0.0, 0.0], [0.3, -0.65, 0.0], [-0.6, 0.4, 0.6], [3.0, 0.2, 0.1]):
        heading = np.cumsum(random.normal(0.0, 0.4, 60))
        moves = [[float(0.04 * np.cos(a)), float(0.04 * np.sin(a)), 1 / 60] for a in heading]
        walk = {"start": start, "moves": moves}
        walks.append(walk | {"positions": run(place, walk)})
    # The order of the format's files: z slowest.
    solid = place.occupancy.transpose(2, 1, 0).reshape(-1).tolist()
    VECTORS.write_text(json.dumps({"eye": _EYE, "cells": 16, "solid": solid, "walks": walks}))


if __name__ == "__main__":
    write_vectors()
