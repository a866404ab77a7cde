"""Write a baked scene: aside, synced, checked, and only then moved into place.

Layout: ``SCENE/manifest.json`` and one folder ``SCENE/sm_XXX`` per submodel in the official format
(separate storage, unpadded grids, the complete network in every folder), with a coarse level in
``SCENE/sm_XXX/coarse`` where the writer is given one. The official viewer's ``dir`` points at one of the
``sm_XXX`` folders.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from smerf.engine.replace import replace_folder
from smerf.errors import InvalidDataError, SmerfError, UsageError
from smerf.scene.arrays import ARRAY_FORMATS, encode_array
from smerf.scene.layout import COARSE_FOLDER, slice_count, submodel_arrays
from smerf.scene.manifest import MANIFEST_NAME, Manifest, verify_manifest
from smerf.scene.objects import check_ids
from smerf.scene.params_io import check_mlp, mlp_to_json, params_to_json, sm_folder
from smerf.scene.read import load_scene
from smerf.scene.types import BakedScene, BakedSubmodel, SceneParams

__all__ = ["CoarseLevel", "check_submodel", "encoded_sizes", "write_scene"]

CoarseLevel = Callable[[BakedSubmodel, int], dict[str, bytes]]
"""Name -> content of a submodel's coarse level, given the bytes of the full one; empty for none."""


def write_scene(
    scene_dir: Path | str,
    params: SceneParams,
    mlp: dict[str, np.ndarray],
    submodels: Iterable[BakedSubmodel],
    manifest: Manifest | None = None,
    array_format: str = "png",
    coarse: CoarseLevel | None = None,
) -> BakedScene:
    """Write a scene folder and return it re-opened from disk.

    Submodels are taken one at a time, so memory is bounded by one of them. The default ``png`` opens from
    any static host in every reader; see ``smerf.scene.arrays`` for ``raw`` and ``raw.gz``.
    ``coarse`` makes their coarse levels; ``None`` writes none.
    ``manifest.files`` is filled in here. An existing scene at ``scene_dir`` is replaced once the new one is
    complete; until then it stays as it was.

    Raises UsageError if ``scene_dir`` holds something else or the format is unknown, InvalidDataError if
    arrays do not fit ``params`` or a region's submodel is missing or repeated.
    """
    if array_format not in ARRAY_FORMATS:
        raise UsageError(f"array format {array_format!r}: choose one of {', '.join(ARRAY_FORMATS)}")
    target = Path(scene_dir)
    if target.exists() and not _is_replaceable(target):
        raise UsageError(f"{target}: not empty and not a baked scene; choose another folder")
    check_mlp(params, mlp, "network")
    with replace_folder(target) as folder:
        files: dict[str, tuple[str, int]] = {}
        network = mlp_to_json(mlp)
        for submodel in submodels:
            if submodel.object_ids is not None:
                check_ids(submodel.object_ids, (manifest or Manifest()).objects, f"submodel {submodel.index}")
            _write_submodel(
                folder, params, submodel, _encoded(params, submodel, network, array_format), coarse, files
            )
            # It goes before the next one comes.
            del submodel
        missing = [sm_folder(r) for r in params.params_to_sm if not (folder / sm_folder(r)).is_dir()]
        if missing:
            raise InvalidDataError(f"{target}: submodels {', '.join(missing)} were not given")
        manifest = replace(manifest or Manifest(), files=files)
        text = json.dumps(manifest.to_json(), indent=1, allow_nan=False)
        (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
        _check_written(folder)
    return load_scene(target)


def check_submodel(params: SceneParams, submodel: BakedSubmodel) -> None:
    """Check that a submodel's arrays fit ``params`` and each other, or raise InvalidDataError."""
    name = f"submodel {submodel.index}"
    if submodel.index not in params.params_to_sm:
        raise InvalidDataError(f"{name}: its region is not in params_to_sm {params.params_to_sm}")
    edge, texels = params.data_block_size + 1, params.triplane_resolution
    blocks = params.sparse_grid_resolution // params.data_block_size
    expected: dict[str, tuple[int, ...]] = {
        "block_indices": (blocks,) * 3 + (3,),
        "planes": (3, texels, texels, 8),
    }
    arrays = {"atlas": submodel.atlas, "block_indices": submodel.block_indices, "planes": submodel.planes}
    if submodel.known is not None:
        arrays["known"] = submodel.known
        expected["known"] = (len(submodel.known),) * 3 + (4,)
    if submodel.solid is not None:
        arrays["solid"] = submodel.solid
        expected["solid"] = (-(-texels // 8),) * 3
    if submodel.object_ids is not None:
        arrays["object_ids"] = submodel.object_ids
        expected["object_ids"] = submodel.atlas.shape[:3]
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
    used = submodel.block_indices[submodel.block_indices[..., 0] != 255]
    slots = np.array(shape[:3]) // edge
    if used.size and (used >= slots).any():
        raise InvalidDataError(f"{name}: block_indices point outside the atlas of {tuple(slots)} slots")


def _is_replaceable(target: Path) -> bool:
    if not target.is_dir():
        return False
    return (target / MANIFEST_NAME).is_file() or not any(target.iterdir())


def _write_submodel(
    root: Path,
    params: SceneParams,
    submodel: BakedSubmodel,
    contents: Iterable[tuple[str, bytes]],
    coarse: CoarseLevel | None,
    files: dict[str, tuple[str, int]],
) -> None:
    """Write a submodel's folder and its coarse level below ``root`` and list them in ``files``."""
    check_submodel(params, submodel)
    folder = root / sm_folder(submodel.index)
    if folder.exists():
        raise InvalidDataError(f"submodel {submodel.index}: given twice")
    folder.mkdir()

    def write(name: str, data: bytes) -> int:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        files[f"{folder.name}/{name}"] = (hashlib.sha256(data).hexdigest(), len(data))
        return len(data)

    size = sum(write(name, data) for name, data in contents)
    for name, data in (coarse(submodel, size) if coarse else {}).items():
        write(f"{COARSE_FOLDER}/{name}", data)


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
    coarse: CoarseLevel | None = None,
) -> dict[str, int]:
    """Return the bytes of every file that ``write_scene`` writes for a submodel, without writing them."""
    folder = sm_folder(submodel.index)
    files = _encoded(params, submodel, mlp_to_json(mlp), array_format)
    sizes = {f"{folder}/{name}": len(data) for name, data in files}
    level = coarse(submodel, sum(sizes.values())) if coarse else {}
    return sizes | {f"{folder}/{COARSE_FOLDER}/{name}": len(data) for name, data in level.items()}


def _check_written(folder: Path) -> None:
    """Read back what was written, one submodel at a time."""
    problems = verify_manifest(folder)
    if problems:
        raise SmerfError(
            f"{folder}: the disk returned other bytes than were written: {'; '.join(problems[:3])}"
        )
    scene = load_scene(folder)
    for k in range(len(scene.params.params_to_sm)):
        check_submodel(scene.params, scene.load(k))
