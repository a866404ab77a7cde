"""A student on disk: ``student.json``, and for each submodel one tensors file with all that belongs to it.

``sm_013.safetensors`` (13: the cell's linear index) holds the submodel's bytes, its alive cells, its networks and what
it shows its neighbours. ``student.json`` is written once all are there: a folder without it holds no student.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from smerf.capture.types import Capture
from smerf.engine.files import read_json, write_json
from smerf.engine.settings import from_dict, to_dict
from smerf.engine.tensors import read_tensors, write_tensors
from smerf.errors import InvalidDataError, UsageError
from smerf.kernels import Grids, GridSpec
from smerf.kernels.grid_render import BLOCK
from smerf.student.alive import AliveCells
from smerf.student.appearance import AppearanceLattice
from smerf.student.config import StudentConfig
from smerf.student.model import Student, grid_spec, surroundings
from smerf.student.partition import Partition

__all__ = [
    "OneAtATime",
    "describe",
    "has_submodel",
    "load_student",
    "read_shown",
    "save_record",
    "save_student",
    "save_submodel",
    "submodel_file",
]

_RECORD = "student.json"
_FORMAT = "smerf-student-2"
_APPEARANCE, _SHOWN = "appearance.", "shown."
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


def describe(
    config: StudentConfig, partition: Partition, capture: Capture, log_exposure: float | None = None
) -> dict[str, Any]:
    """Return what a capture's submodels have in common, as JSON values."""
    background, backdrop = surroundings(capture)
    return _record(config, partition, background, float(capture.near), config.tau_end, backdrop, log_exposure)


def _record(
    config: StudentConfig,
    partition: Partition,
    background: tuple[float, float, float],
    near: float,
    tau: float,
    backdrop: tuple[float, float, float] | None,
    log_exposure: float | None,
) -> dict[str, Any]:
    return {
        "config": to_dict(config),
        "partition": {"edge": partition.edge, "cells": list(partition.cells), "scale": partition.scale},
        "background": list(background),
        "near": near,
        "tau": tau,
        "backdrop": None if backdrop is None else list(backdrop),
        "log_exposure": log_exposure,
    }


def save_submodel(
    student: Student, submodel: int, folder: Path, shown: dict[str, Tensor] | None = None
) -> Path:
    """Write one submodel of a student, and what it shows its neighbours, to ``folder``; return the file."""
    cell = student.partition.cells[submodel]
    grids = student.grids[submodel]
    tensors = {
        "block_index": grids.block_index,
        "voxels": grids.voxels,
        "planes": grids.planes,
        "alive": torch.from_numpy(student.alive[submodel].packed()),
    }
    if len(student.block_weights):
        tensors["block_weights"] = student.block_weights[submodel]
    for name, value in student.appearance.state_dict().items():
        tensors[_APPEARANCE + name] = value[submodel : submodel + 1]
    for name, value in (shown or {}).items():
        tensors[_SHOWN + name] = value
    path = submodel_file(folder, cell)
    # The format alone in the header: several entries are stored in an order that changes from run to run.
    write_tensors(path, tensors, _format(cell))
    return path


def save_record(record: dict[str, Any], folder: Path) -> None:
    """Declare the student in ``folder`` whole: every submodel of the record is there (see ``describe``)."""
    write_json(Path(folder) / _RECORD, {"format": _FORMAT, **record})


def save_student(student: Student, folder: Path) -> None:
    """Write a student to ``folder``, submodel after submodel."""
    for k in range(len(student.partition)):
        save_submodel(student, k, folder)
    one = student
    record = _record(
        one.config, one.partition, one.background, one.near, one.tau, one.backdrop, one.log_exposure
    )
    save_record(record, folder)


def has_submodel(folder: Path, cell: int) -> bool:
    """Return whether the submodel of a cell is finished; its file comes into being as a whole."""
    return submodel_file(folder, cell).is_file()


def read_shown(folder: Path, cell: int) -> dict[str, Tensor]:
    """Return what a finished submodel shows its neighbours.

    Raises:
        InvalidDataError: If the file is damaged.
    """
    path = submodel_file(folder, cell)
    tensors = _read(path, cell, lambda name: name.startswith(_SHOWN))
    return {name.removeprefix(_SHOWN): value for name, value in tensors.items()}


def load_student(folder: Path) -> Student:
    """Open a student for rendering and baking (its grids can't be trained on).

    Grids and alive cells are read when asked for, one submodel at a time.

    Raises:
        UsageError: If the folder holds no finished student.
        InvalidDataError: If a file is damaged; of a submodel's, when it is read.
    """
    path = Path(folder) / _RECORD
    if not path.is_file():
        raise UsageError(f"{path}: no finished student here; run `smerf distill` first")
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise InvalidDataError(f"{path}: is not a student of this version; distil it again")
    try:
        student = _describe(record)
    except (KeyError, TypeError, ValueError, InvalidDataError) as error:
        raise InvalidDataError(f"{path}: doesn't describe a student ({error}); distil it again") from error
    config, partition = student.config, student.partition
    student.appearance = _load_appearance(Path(folder), config, partition)
    student.grids = OneAtATime(lambda k: _load_grids(Path(folder), config, partition, k), len(partition))
    student.alive = OneAtATime(lambda k: _load_alive(Path(folder), config, partition, k), len(partition))
    student.block_weights = OneAtATime(
        lambda k: _load_weights(Path(folder), config, partition, k), len(partition)
    )
    return student


def _describe(record: dict[str, Any]) -> Student:
    """Return the student of a record, without its submodels."""
    config = from_dict(StudentConfig, record["config"])
    where = record["partition"]
    partition = Partition(int(where["edge"]), tuple(map(int, where["cells"])), float(where["scale"]))
    none = AppearanceLattice(0, 1, 1, torch.Generator())
    near, tau, backdrop = float(record["near"]), float(record["tau"]), record["backdrop"]
    backdrop = None if backdrop is None else tuple(backdrop)
    shown = record.get("log_exposure")
    return Student(
        config, partition, [], none, tuple(record["background"]), near, tau, [], backdrop=backdrop,
        log_exposure=None if shown is None else float(shown),
    )  # fmt: skip


def _read(path: Path, cell: int, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    if not path.is_file():
        raise InvalidDataError(f"{path}: is missing; distil it again")
    return read_tensors(path, _format(cell), f"the submodel of cell {cell}", "distil it again", wanted)[0]


def _load(path: Path, cell: int, names: tuple[str, ...]) -> list[Tensor]:
    tensors = _read(path, cell, lambda name: name in names)
    missing = [name for name in names if name not in tensors]
    if missing:
        raise InvalidDataError(f"{path}: lacks {', '.join(missing)}; distil it again")
    return [tensors[name] for name in names]


def _load_grids(folder: Path, config: StudentConfig, partition: Partition, k: int) -> Grids:
    cell, spec, empty = partition.cells[k], grid_spec(config, partition, k), torch.zeros(0)
    path = submodel_file(folder, cell)
    arrays = _load(path, cell, ("block_index", "voxels", "planes"))
    try:
        _check(spec, *arrays)
    except ValueError as error:
        raise InvalidDataError(f"{path}: doesn't fit its student ({error}); distil it again") from error
    return Grids(spec, *arrays, empty, empty, empty, empty)


def _load_alive(folder: Path, config: StudentConfig, partition: Partition, k: int) -> AliveCells:
    cell = partition.cells[k]
    path = submodel_file(folder, cell)
    (bits,) = _load(path, cell, ("alive",))
    try:
        return AliveCells(grid_spec(config, partition, k), bits.numpy())
    except (ValueError, RuntimeError) as error:
        raise InvalidDataError(f"{path}: alive doesn't fit its student ({error}); distil it again") from error


def _load_weights(folder: Path, config: StudentConfig, partition: Partition, k: int) -> Tensor:
    cell, blocks = partition.cells[k], grid_spec(config, partition, k).blocks
    path = submodel_file(folder, cell)
    (weights,) = _load(path, cell, ("block_weights",))
    if weights.shape != (blocks,) * 3:
        raise InvalidDataError(f"{path}: block_weights are {tuple(weights.shape)}; distil it again")
    return weights


def _load_appearance(folder: Path, config: StudentConfig, partition: Partition) -> AppearanceLattice:
    """Read the networks of all submodels, which are small."""
    appearance = AppearanceLattice(len(partition), config.lattice, config.width, torch.Generator())
    for k, cell in enumerate(partition.cells):
        path = submodel_file(folder, cell)
        found = _read(path, cell, lambda name: name.startswith(_APPEARANCE))
        for name, parameter in appearance.state_dict().items():
            value = found.get(_APPEARANCE + name)
            if value is None or value.shape != (1, *parameter.shape[1:]):
                raise InvalidDataError(f"{path}: {_APPEARANCE}{name} doesn't fit; distil it again")
            parameter[k] = value[0]
    return appearance


def _check(spec: GridSpec, block_index: Tensor, voxels: Tensor, planes: Tensor) -> None:
    """Raise ValueError unless the arrays fit together: the kernels read them without looking."""
    if block_index.dtype != torch.int32 or block_index.shape != (spec.blocks,) * 3:
        raise ValueError(f"block_index is {tuple(block_index.shape)} {block_index.dtype}")
    count = int(block_index.max()) + 1
    for name, array, rows in (
        ("voxels", voxels, max(0, count) * BLOCK**3),
        ("planes", planes, 3 * spec.plane_resolution**2),
    ):
        if array.dtype != torch.uint8 or array.shape != (rows, 8):
            raise ValueError(f"{name} are {tuple(array.shape)} {array.dtype}, not {(rows, 8)} bytes")
