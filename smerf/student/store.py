"""A student on disk: one tensors file with what rendering and baking read, and what rebuilds it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from smerf.config import from_dict, to_dict
from smerf.errors import InvalidDataError, UsageError
from smerf.kernels import Grids, GridSpec
from smerf.kernels.grid_render import BLOCK
from smerf.runs.files import publish, temporary_name
from smerf.student.alive import AliveCells
from smerf.student.appearance import AppearanceLattice
from smerf.student.config import StudentConfig
from smerf.student.model import Student, grid_spec
from smerf.student.partition import Partition

__all__ = ["load_student", "save_student"]

_FILE = "student.safetensors"
_FORMAT = "smerf-student-1"


def save_student(student: Student, folder: Path) -> None:
    """Write the student's bytes, network and alive cells to ``folder``."""
    tensors = {f"appearance.{k}": v.detach() for k, v in student.appearance.state_dict().items()}
    for k, grids in enumerate(student.grids):
        tensors[f"grids.{k}.block_index"] = grids.block_index
        tensors[f"grids.{k}.voxels"] = grids.voxels
        tensors[f"grids.{k}.planes"] = grids.planes
        tensors[f"grids.{k}.alive"] = torch.from_numpy(student.alive[k].packed())
    record = {
        "config": to_dict(student.config),
        "partition": vars(student.partition),
        "background": student.background,
        "near": student.near,
        "tau": student.tau,
        "backdrop": student.backdrop,
    }
    folder.mkdir(parents=True, exist_ok=True)
    aside = temporary_name(folder / _FILE)
    meta = {"format": _FORMAT, "record": json.dumps(record)}
    save_file({name: value.contiguous() for name, value in tensors.items()}, aside, metadata=meta)
    publish(aside, folder / _FILE)


def load_student(folder: Path) -> Student:
    """Read a student for rendering and baking (its grids can't be trained on).

    Raises:
        UsageError: If the folder holds no finished student.
        InvalidDataError: If the file is damaged.
    """
    path = Path(folder) / _FILE
    if not path.is_file():
        raise UsageError(f"{path}: no finished student here; run `smerf distill` first")
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            if meta.get("format") != _FORMAT:
                raise InvalidDataError(f"{path}: is not a student of this version; distil it again")
            record = json.loads(meta["record"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidDataError(f"{path}: can't be read ({error}); distil it again") from error
    try:
        return _rebuild(record, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, InvalidDataError) as error:
        raise InvalidDataError(f"{path}: doesn't hold a whole student ({error}); distil it again") from error


def _check(spec: GridSpec, block_index: Tensor, voxels: Tensor, planes: Tensor) -> None:
    """Raise ValueError unless the arrays fit together: the kernels read them without looking."""
    count = int(block_index.max()) + 1 if block_index.numel() else 0
    if block_index.dtype != torch.int32 or block_index.shape != (spec.blocks,) * 3 or count < 0:
        raise ValueError(f"block_index is {tuple(block_index.shape)} {block_index.dtype}")
    for name, array, rows in (
        ("voxels", voxels, count * BLOCK**3),
        ("planes", planes, 3 * spec.plane_resolution**2),
    ):
        if array.dtype != torch.uint8 or array.shape != (rows, 8):
            raise ValueError(f"{name} are {tuple(array.shape)} {array.dtype}, not {(rows, 8)} bytes")


def _rebuild(record: dict, tensors: dict[str, Tensor]) -> Student:
    config = from_dict(StudentConfig, record["config"])
    where = record["partition"]
    partition = Partition(where["edge"], tuple(where["cells"]), where["scale"])
    grids, alive = [], []
    empty = torch.zeros(0)
    for k in range(len(partition.cells)):
        spec = grid_spec(config, partition, k)
        arrays = [tensors[f"grids.{k}.{name}"] for name in ("block_index", "voxels", "planes")]
        _check(spec, *arrays)
        grids.append(Grids(spec, *arrays, empty, empty, empty, empty))
        alive.append(AliveCells(spec, tensors[f"grids.{k}.alive"].numpy()))
    appearance = AppearanceLattice(len(grids), config.lattice, config.width, torch.Generator())
    prefix = "appearance."
    appearance.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    background = tuple(record["background"])
    backdrop = record.get("backdrop")
    return Student(
        config,
        partition,
        grids,
        appearance,
        background,
        record["near"],
        record["tau"],
        alive,
        backdrop=None if backdrop is None else tuple(backdrop),
    )
