"""Write a baked scene: aside, synced, checked, and only then moved into place.

Layout: ``SCENE/manifest.json`` and one folder ``SCENE/sm_XXX`` per submodel in the official format
(separate storage, unpadded grids, the complete network in every folder), with a coarse level in
``SCENE/sm_XXX/coarse`` where the submodel is large (``smerf.scene.coarse``). The official viewer's ``dir``
points at one of the ``sm_XXX`` folders.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from smerf.errors import InvalidDataError, SmerfError, UsageError
from smerf.scene.arrays import ARRAY_FORMATS, encode_array
from smerf.scene.coarse import COARSE_BYTES, COARSE_FOLDER, coarse_files
from smerf.scene.layout import slice_count, submodel_arrays
from smerf.scene.manifest import MANIFEST_NAME, Manifest, verify_manifest
from smerf.scene.params_io import check_mlp, mlp_to_json, params_to_json, sm_folder
from smerf.scene.types import BakedScene, BakedSubmodel, SceneParams

__all__ = ["check_submodel", "encoded_sizes", "folder_bytes", "write_coarse", "write_scene"]


def write_scene(
    scene_dir: Path | str,
    params: SceneParams,
    mlp: dict[str, np.ndarray],
    submodels: Iterable[BakedSubmodel],
    manifest: Manifest | None = None,
    array_format: str = "png",
    coarse_bytes: int = COARSE_BYTES,
) -> BakedScene:
    """Write a scene folder and return it re-opened from disk.

    Submodels are taken one at a time, so memory is bounded by one of them. The default ``png`` opens from
    any static host in every reader; see ``smerf.scene.arrays`` for ``raw`` and ``raw.gz``.
    A submodel that takes more than ``coarse_bytes`` gets a coarse level of at most that size; 0 writes none.
    ``manifest.files`` is filled in here. An existing scene at ``scene_dir`` is replaced once the new one is
    complete; until then it stays as it was.

    Raises UsageError if ``scene_dir`` holds something else or the format is unknown, InvalidDataError if
    arrays do not fit ``params`` or a region's submodel is missing or repeated.
    """
    from smerf.scene.read import load_scene

    if array_format not in ARRAY_FORMATS:
        raise UsageError(f"array format {array_format!r}: choose one of {', '.join(ARRAY_FORMATS)}")
    target = Path(scene_dir)
    if target.exists() and not _is_replaceable(target):
        raise UsageError(f"{target}: not empty and not a baked scene; choose another folder")
    check_mlp(params, mlp, "network")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        aside.mkdir()
        files: dict[str, tuple[str, int]] = {}
        network = mlp_to_json(mlp)
        for submodel in submodels:
            _write_submodel(aside, params, submodel, network, array_format, files)
            if coarse_bytes and folder_bytes(files, sm_folder(submodel.index)) > coarse_bytes:
                write_coarse(aside, params, mlp, submodel, coarse_bytes, files)
            # It goes before the next one comes.
            del submodel
        missing = [sm_folder(r) for r in params.params_to_sm if not (aside / sm_folder(r)).is_dir()]
        if missing:
            raise InvalidDataError(f"{target}: submodels {', '.join(missing)} were not given")
        manifest = replace(manifest or Manifest(), files=files)
        text = json.dumps(manifest.to_json(), indent=1, allow_nan=False)
        _write_file(aside / MANIFEST_NAME, text.encode())
        _check_written(aside)
        _swap(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return load_scene(target)


def check_submodel(params: SceneParams, submodel: BakedSubmodel) -> None:
    """Check that a submodel's arrays fit ``params`` and each other. Raises InvalidDataError saying what does
    not.
    """
    name = f"submodel {submodel.index}"
    if submodel.index not in params.params_to_sm:
        raise InvalidDataError(f"{name}: its region is not in params_to_sm {params.params_to_sm}")
    edge, texels = params.data_block_size + 1, params.triplane_resolution
    blocks = params.sparse_grid_resolution // params.data_block_size
    expected = {"block_indices": (blocks,) * 3 + (3,), "planes": (3, texels, texels, 8)}
    arrays = {"atlas": submodel.atlas, "block_indices": submodel.block_indices, "planes": submodel.planes}
    for kind, grids in (("occupancy", submodel.occupancy), ("distance", submodel.distance)):
        if 8 not in grids:
            raise InvalidDataError(f"{name}: {kind} lacks block size 8")
        for size, grid in grids.items():
            expected[f"{kind}[{size}]"] = (-(-texels // size),) * 3
            arrays[f"{kind}[{size}]"] = grid
    for key, array in arrays.items():
        if array.dtype != np.uint8:
            raise InvalidDataError(f"{name}: {key} must be uint8, got {array.dtype}")
        if key in expected and array.shape != expected[key]:
            raise InvalidDataError(f"{name}: {key} has shape {array.shape}, expected {expected[key]}")
    shape = submodel.atlas.shape
    if len(shape) != 4 or shape[3] != 8 or any(size % edge or not 0 < size <= 2048 for size in shape[:3]):
        raise InvalidDataError(
            f"{name}: atlas {shape} must be (W, H, D, 8), edges multiples of {edge} up to 2048"
        )
    alive = submodel.block_indices[submodel.block_indices[..., 0] != 255]
    slots = np.array(shape[:3]) // edge
    if alive.size and (alive >= slots).any():
        raise InvalidDataError(f"{name}: block_indices point outside the atlas of {tuple(slots)} slots")


def _is_replaceable(target: Path) -> bool:
    if not target.is_dir():
        return False
    return (target / MANIFEST_NAME).is_file() or not any(target.iterdir())


def _write_submodel(
    root: Path,
    params: SceneParams,
    submodel: BakedSubmodel,
    network: bytes,
    array_format: str,
    files: dict[str, tuple[str, int]],
) -> None:
    check_submodel(params, submodel)
    folder = root / sm_folder(submodel.index)
    if folder.exists():
        raise InvalidDataError(f"submodel {submodel.index}: given twice")
    folder.mkdir()
    for name, data in _encoded(params, submodel, network, array_format):
        _write_file(folder / name, data)
        files[f"{folder.name}/{name}"] = (hashlib.sha256(data).hexdigest(), len(data))
    _sync_folder(folder)


def _encoded(
    params: SceneParams, submodel: BakedSubmodel, network: bytes, array_format: str
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every file of a submodel's folder."""
    slices = slice_count(submodel.atlas.shape, params.data_block_size + 1)
    value = params_to_json(params, submodel.index, submodel.atlas.shape[:3], slices, array_format)
    yield "scene_params.json", json.dumps(value, indent=1, allow_nan=False).encode()
    yield "deferred_mlp.json", network
    for name, array in submodel_arrays(params, submodel, slices):
        yield f"{name}.{array_format}", encode_array(array, array_format)


def encoded_sizes(
    params: SceneParams,
    mlp: dict[str, np.ndarray],
    submodel: BakedSubmodel,
    array_format: str,
    coarse_bytes: int = COARSE_BYTES,
) -> dict[str, int]:
    """Return the bytes of every file that ``write_scene`` writes for a submodel, without writing them."""
    folder = sm_folder(submodel.index)
    files = _encoded(params, submodel, mlp_to_json(mlp), array_format)
    sizes = {f"{folder}/{name}": len(data) for name, data in files}
    if coarse_bytes and sum(sizes.values()) > coarse_bytes:
        level = coarse_files(params, mlp, submodel, coarse_bytes)
        sizes |= {f"{folder}/{COARSE_FOLDER}/{name}": len(data) for name, data in level.items()}
    return sizes


def folder_bytes(files: dict[str, tuple[str, int]], folder: str) -> int:
    """Return the size of a submodel's files; ``files`` as in ``Manifest.files``."""
    return sum(size for name, (_, size) in files.items() if name.startswith(f"{folder}/"))


def write_coarse(
    root: Path,
    params: SceneParams,
    mlp: dict[str, np.ndarray],
    submodel: BakedSubmodel,
    max_bytes: int,
    files: dict[str, tuple[str, int]],
) -> None:
    """Write a submodel's coarse level below ``root`` and list it in ``files``.

    Nothing is written where no reduction is small enough.
    """
    folder = root / sm_folder(submodel.index) / COARSE_FOLDER
    for name, data in coarse_files(params, mlp, submodel, max_bytes).items():
        folder.mkdir(parents=True, exist_ok=True)
        _write_file(folder / name, data)
        path = f"{sm_folder(submodel.index)}/{COARSE_FOLDER}/{name}"
        files[path] = (hashlib.sha256(data).hexdigest(), len(data))
    if folder.exists():
        _sync_folder(folder)


def _write_file(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_written(folder: Path) -> None:
    """Read back what was written, one submodel at a time."""
    from smerf.scene.read import load_scene

    problems = verify_manifest(folder)
    if problems:
        raise SmerfError(
            f"{folder}: the disk returned other bytes than were written: {'; '.join(problems[:3])}"
        )
    scene = load_scene(folder)
    for k in range(len(scene.params.params_to_sm)):
        check_submodel(scene.params, scene.load(k))


def _swap(aside: Path, target: Path) -> None:
    """Move ``aside`` to ``target``; a scene that was there disappears only after the new one is in place."""
    _sync_folder(aside)
    old = None
    if target.exists():
        old = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.old"
        target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        if old is not None:
            old.rename(target)
        raise
    _sync_folder(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
