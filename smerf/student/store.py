"""A student on disk: ``student.json``, and for each submodel one tensors file with all that belongs to it.

``sm_013.safetensors`` (13: the cell's linear index) holds the submodel's bytes, its occupied cells, its networks and
the rays that its neighbours are to agree with. ``student.json`` is written once all are there: a folder without it
holds no student.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from smerf.engine.adam_state import add_prefix, strip_prefix
from smerf.engine.files import read_json, write_json
from smerf.engine.settings import from_dict, to_dict
from smerf.engine.tensors import read_tensors, write_tensors
from smerf.errors import InvalidDataError, UsageError
from smerf.kernels import Grids, GridSpec
from smerf.kernels.grid_render import BLOCK
from smerf.student.appearance import AppearanceLattice
from smerf.student.config import StudentConfig
from smerf.student.model import Student, StudentRecord, Submodel, grid_spec
from smerf.student.partition import Partition
from smerf.student.visibility import OccupiedCells

__all__ = [
    "OneAtATime",
    "has_submodel",
    "load_student",
    "read_shared_rays",
    "record_values",
    "save_record",
    "save_student",
    "save_submodel",
    "submodel_file",
]

_RECORD = "student.json"
_FORMAT = "smerf-student-3"
_APPEARANCE, _SHARED_RAYS = "appearance", "shared_rays"
T = TypeVar("T")


class OneAtATime(Sequence[T]):
    """Parts that are loaded when asked for; only the latest stays, and it goes before the next one comes."""

    def __init__(self, load: Callable[[int], T], count: int) -> None:
        self.load, self._count = load, count
        self._kept: tuple[int, T] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, k: int) -> T: ...
    @overload
    def __getitem__(self, k: slice) -> list[T]: ...
    def __getitem__(self, k: int | slice) -> T | list[T]:
        if isinstance(k, slice):
            raise TypeError("parts are loaded one at a time: give one index")
        if not -self._count <= k < self._count:
            raise IndexError(f"part {k}: there are {self._count}")
        k %= self._count
        if self._kept is None or self._kept[0] != k:
            self._kept = None
            self._kept = (k, self.load(k))
        return self._kept[1]

    def map(self, change: Callable[[T], T]) -> OneAtATime[T]:
        """Return the same parts, changed as they are loaded."""
        return OneAtATime(lambda k: change(self.load(k)), self._count)


def _format(cell: int) -> str:
    return f"{_FORMAT}/{cell}"


def submodel_file(folder: Path, cell: int) -> Path:
    """Return where the submodel of a cell is kept."""
    return Path(folder) / f"sm_{cell:03d}.safetensors"


def record_values(record: StudentRecord) -> dict[str, Any]:
    """Return what a student's submodels have in common, as JSON values."""
    partition, backdrop = record.partition, record.backdrop
    return {
        "format": _FORMAT,
        "config": to_dict(record.config),
        "partition": {"edge": partition.edge, "cells": list(partition.cells), "scale": partition.scale},
        "background": list(record.background),
        "near": record.near,
        "tau": record.tau,
        "backdrop": None if backdrop is None else list(backdrop),
        "log_exposure": record.log_exposure,
    }


def save_submodel(submodel: Submodel, folder: Path, shared_rays: dict[str, Tensor] | None = None) -> Path:
    """Write one submodel, and the rays that its neighbours are to agree with, to ``folder``; return the file."""
    grids = submodel.grids
    tensors = {
        "block_index": grids.block_index,
        "voxels": grids.voxels,
        "planes": grids.planes,
        "occupied": torch.from_numpy(submodel.occupied.packed()),
        **add_prefix(_APPEARANCE, submodel.appearance.state_dict()),
        **add_prefix(_SHARED_RAYS, shared_rays or {}),
    }
    if submodel.block_weights is not None:
        tensors["block_weights"] = submodel.block_weights
    path = submodel_file(folder, submodel.cell)
    # The format alone in the header: several entries are stored in an order that changes from run to run.
    write_tensors(path, tensors, _format(submodel.cell))
    return path


def save_record(record: StudentRecord, folder: Path) -> None:
    """Declare the student in ``folder`` whole: every submodel of the record is there."""
    write_json(Path(folder) / _RECORD, record_values(record))


def save_student(student: Student, folder: Path) -> None:
    """Write a student to ``folder``, submodel after submodel."""
    for k in range(len(student.partition)):
        save_submodel(student.submodels[k], folder)
    save_record(student, folder)


def has_submodel(folder: Path, cell: int) -> bool:
    """Return whether the submodel of a cell is finished; its file comes into being as a whole."""
    return submodel_file(folder, cell).is_file()


def read_shared_rays(folder: Path, cell: int) -> dict[str, Tensor]:
    """Return the rays on which a finished submodel's neighbours are to agree with it.

    Raises:
        InvalidDataError: If the file is damaged.
    """
    return strip_prefix(_SHARED_RAYS, _read(submodel_file(folder, cell), cell, (f"{_SHARED_RAYS}.",)))


def load_student(folder: Path) -> Student:
    """Open a student for rendering and baking (its grids can't be trained on).

    Submodels are read when asked for, one at a time; their networks, which are small, at once.

    Raises:
        UsageError: If the folder holds no finished student.
        InvalidDataError: If a file is damaged or of another version; of a submodel's, when it is read.
    """
    folder = Path(folder)
    path = folder / _RECORD
    if not path.is_file():
        raise UsageError(f"{path}: no finished student here; run `smerf distill` first")
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        found = values.get("format") if isinstance(values, dict) else values
        raise InvalidDataError(
            f"{path}: has format {found!r}, this version reads {_FORMAT!r}; distil it again"
        )
    try:
        student = _parse(values)
    except (KeyError, TypeError, ValueError, InvalidDataError) as error:
        raise InvalidDataError(f"{path}: doesn't describe a student ({error}); distil it again") from error
    config, partition = student.config, student.partition
    networks = [_load_network(folder, config, cell) for cell in partition.cells]

    def load(k: int) -> Submodel:
        return _load_submodel(folder, partition.cells[k], grid_spec(config, partition, k), networks[k])

    student.networks, student.submodels = networks, OneAtATime(load, len(partition))
    return student


def _parse(values: dict[str, Any]) -> Student:
    """Return the student of a record, without its submodels."""
    config = from_dict(StudentConfig, values["config"])
    where = values["partition"]
    partition = Partition(int(where["edge"]), tuple(map(int, where["cells"])), float(where["scale"]))
    backdrop, shown = values["backdrop"], values["log_exposure"]
    return Student(
        config,
        partition,
        tuple(values["background"]),
        float(values["near"]),
        float(values["tau"]),
        None if backdrop is None else tuple(backdrop),
        None if shown is None else float(shown),
    )


def _read(path: Path, cell: int, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the tensors whose names start with one of the prefixes."""
    if not path.is_file():
        raise InvalidDataError(f"{path}: is missing; distil it again")
    what, hint = f"the submodel of cell {cell}", "distil it again"
    return read_tensors(path, _format(cell), what, hint, lambda name: name.startswith(prefixes))[0]


def _load_submodel(folder: Path, cell: int, spec: GridSpec, network: AppearanceLattice) -> Submodel:
    path = submodel_file(folder, cell)
    names = ("block_index", "voxels", "planes", "occupied", "block_weights")
    found = _read(path, cell, names)
    try:
        for name in names[:4]:
            if name not in found:
                raise ValueError(f"{name} is missing")
        _check(spec, found)
        occupied = OccupiedCells(spec, found["occupied"].numpy())
    except (ValueError, RuntimeError) as error:
        raise InvalidDataError(f"{path}: doesn't match its student ({error}); distil it again") from error
    empty = torch.zeros(0)
    block_index, voxels, planes = (found[name] for name in names[:3])
    grids = Grids(spec, block_index, voxels, planes, empty, empty, empty, empty)
    return Submodel(cell, grids, network, occupied, found.get("block_weights"))


def _load_network(folder: Path, config: StudentConfig, cell: int) -> AppearanceLattice:
    appearance = AppearanceLattice(config.lattice, config.width, torch.Generator())
    path = submodel_file(folder, cell)
    try:
        appearance.load_state_dict(strip_prefix(_APPEARANCE, _read(path, cell, (f"{_APPEARANCE}.",))))
    except RuntimeError as error:
        raise InvalidDataError(f"{path}: {error}; distil it again") from error
    return appearance


def _check(spec: GridSpec, found: dict[str, Tensor]) -> None:
    """Raise ValueError unless the arrays match each other: the kernels read them without looking."""
    blocks = (spec.blocks,) * 3
    index, weights = found["block_index"], found.get("block_weights")
    if index.dtype != torch.int32 or index.shape != blocks:
        raise ValueError(f"block_index is {tuple(index.shape)} {index.dtype}")
    if weights is not None and weights.shape != blocks:
        raise ValueError(f"block_weights are {tuple(weights.shape)}")
    count = int(index.max()) + 1
    for name, rows in (("voxels", max(0, count) * BLOCK**3), ("planes", 3 * spec.plane_resolution**2)):
        array = found[name]
        if array.dtype != torch.uint8 or array.shape != (rows, 8):
            raise ValueError(f"{name} are {tuple(array.shape)} {array.dtype}, not {(rows, 8)} bytes")
