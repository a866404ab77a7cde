"""Read a baked scene: ours, or what the official exporter writes.

Accepted: a folder of ``sm_XXX`` folders or one such folder; png, raw and raw.gz arrays; separate and joint
storage; padded, sliced and legacy grids; the network inside ``scene_params.json`` or beside it, as a lattice
or plain.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from smerf.errors import InvalidDataError
from smerf.scene.arrays import find_array, read_array
from smerf.scene.grids import distance_grid
from smerf.scene.layout import object_ids_name
from smerf.scene.manifest import MANIFEST_NAME, Manifest, check_files, read_json, read_manifest
from smerf.scene.objects import check_ids
from smerf.scene.params_io import Layout, parse_mlp, parse_params, sm_folder
from smerf.scene.types import BakedScene, BakedSubmodel, SceneParams

__all__ = ["load_scene", "load_submodel", "read_object_ids"]

_GRID_SIZES = (8, 16, 32, 64, 128)


def load_scene(path: Path | str, cache_size: int = 3) -> BakedScene:
    """Open a baked scene; submodel arrays are read when first used.

    Args:
        path: Scene folder with ``sm_XXX`` folders, or one submodel's folder.
        cache_size: Submodels kept in memory.

    Raises:
        InvalidDataError: Naming the file and what is wrong, if anything needed is missing or malformed.
    """
    path = Path(path)
    root, entry = _find_entry(path)
    params, layout = _read_params(entry)
    folders = _submodel_folders(params, root, entry)
    for region, folder in zip(params.params_to_sm, folders):
        if folder != entry:
            other, other_layout = _read_params(folder)
            if replace(other, params_to_sm=params.params_to_sm) != params:
                raise InvalidDataError(
                    f"{folder / 'scene_params.json'}: disagrees with {entry.name} on shared keys"
                )
            if other_layout.region not in (None, region):
                raise InvalidDataError(f"{folder / 'scene_params.json'}: 'submodel_idx' is not {region}")
    mlp = _read_mlp(entry, params, layout)
    manifest = Manifest()
    if (root / MANIFEST_NAME).is_file():
        manifest = read_manifest(root)

    def load(k: int) -> BakedSubmodel:
        submodel = load_submodel(folders[k], params.params_to_sm[k])
        if manifest.region is not None:
            _read_region(submodel, folders[k], manifest.region.cells)
        if manifest.objects:
            submodel.object_ids = read_object_ids(folders[k], manifest, submodel.atlas.shape[:3])
        # Last: what can't be read has a fault of its own to name.
        check_files(root, manifest, folders[k].name)
        return submodel

    return BakedScene(params, mlp, manifest, load, root, cache_size)


def _read_region(submodel: BakedSubmodel, folder: Path, cells: int) -> None:
    """Add what the known region keeps of a submodel."""
    layout = _read_params(folder)[1]
    submodel.known = np.ascontiguousarray(_read(folder, layout, "known_grid", (cells, cells, cells, 4)))
    solid = _read(folder, layout, "solid_grid", (*submodel.occupancy[8].shape, 1))
    submodel.solid = np.ascontiguousarray(solid[..., 0])


def read_object_ids(folder: Path, manifest: Manifest, size: tuple[int, ...]) -> np.ndarray:
    """Read the object of each voxel of a level's atlas: uint8 of its ``size`` (W, H, D).

    All are 0 where the level has no such file. Raises InvalidDataError naming a file that is damaged, or missing though
    the manifest lists it.
    """
    layout = _read_params(folder)[1]
    ids = np.zeros(size, np.uint8)
    start = f"{folder.name}/{object_ids_name(0)}."
    is_listed = any(name.startswith(start) or f"/{start}" in name for name in manifest.files)
    if not is_listed and find_array(folder, object_ids_name(0), layout.array_format) is None:
        return ids
    thickness = size[2] // layout.num_slices
    for i in range(layout.num_slices):
        part = _read(folder, layout, object_ids_name(i), (*size[:2], thickness, 1))[..., 0]
        check_ids(part, manifest.objects, f"{folder / object_ids_name(i)}.{layout.array_format}")
        ids[:, :, i * thickness : (i + 1) * thickness] = part
    return ids


def _find_entry(path: Path) -> tuple[Path, Path]:
    """Return (scene root, folder of the submodel whose files are read first)."""
    if not path.is_dir():
        raise InvalidDataError(f"{path}: no such folder")
    if _has_params(path):
        return path.parent, path
    entries = [folder for folder in sorted(path.glob("sm_*")) if _has_params(folder)]
    if not entries:
        raise InvalidDataError(f"{path}: not a baked scene (no scene_params.json here or in sm_XXX folders)")
    return path, entries[0]


def _has_params(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("scene_params.json", "scene_params.json.gz"))


def _read_params(folder: Path) -> tuple[SceneParams, Layout]:
    path = folder / "scene_params.json"
    return parse_params(read_json(path), str(path))


def _submodel_folders(params: SceneParams, root: Path, entry: Path) -> list[Path]:
    # A lone submodel may lie in a folder of any name; several must be siblings named by region.
    if len(params.params_to_sm) == 1:
        return [entry]
    folders = [root / sm_folder(region) for region in params.params_to_sm]
    for folder in folders:
        if not _has_params(folder):
            raise InvalidDataError(
                f"{folder}: listed in 'params_to_sm' of {entry.name} but has no scene_params.json"
            )
    return folders


def _read_mlp(entry: Path, params: SceneParams, layout: Layout) -> dict[str, np.ndarray]:
    if layout.has_separate_mlp:
        path = entry / "deferred_mlp.json"
        return parse_mlp(params, read_json(path), str(path))
    path = entry / "scene_params.json"
    value = read_json(path)
    if "deferred_mlp" not in value:
        raise InvalidDataError(f"{path}: key 'deferred_mlp' is missing and it is not stored separately")
    return parse_mlp(params, value["deferred_mlp"], f"{path}: deferred_mlp")


def load_submodel(folder: Path, region: int) -> BakedSubmodel:
    """Read all arrays of one submodel's folder. Raises InvalidDataError naming the file at fault."""
    params, layout = _read_params(folder)
    try:
        return _load_arrays(folder, region, params, layout)
    except MemoryError as error:
        raise InvalidDataError(
            f"{folder / 'scene_params.json'}: its arrays (atlas {layout.atlas_size}) do not fit into memory"
        ) from error


def _load_arrays(folder: Path, region: int, params: SceneParams, layout: Layout) -> BakedSubmodel:
    blocks = params.sparse_grid_resolution // params.data_block_size
    indices = np.ascontiguousarray(
        _read(folder, layout, "sparse_grid_block_indices", (blocks, blocks, blocks, 3))
    )
    slots = np.array(layout.atlas_size) // (params.data_block_size + 1)
    used = indices[indices[..., 0] != 255]
    if used.size and (used >= slots).any():
        raise InvalidDataError(
            f"{folder / 'sparse_grid_block_indices'}: points outside {tuple(slots.tolist())} slots"
        )
    occupancy = {}
    for size in _GRID_SIZES:
        grid = _read_grid(folder, layout, "occupancy_grid", size, params)
        if grid is not None:
            occupancy[size] = _as_bits(grid, layout)
    if 8 not in occupancy:
        raise InvalidDataError(f"{folder}: occupancy_grid_8 is missing")
    distance = _read_grid(folder, layout, "distance_grid", 8, params)
    if distance is None:
        distance = distance_grid(occupancy[8] != 0)
    return BakedSubmodel(
        index=region,
        atlas=_read_atlas(folder, layout),
        block_indices=indices,
        planes=_read_planes(folder, layout, params.triplane_resolution),
        occupancy=occupancy,
        distance={8: distance},
    )


def _read(folder: Path, layout: Layout, name: str, shape: tuple[int, ...]) -> np.ndarray:
    path = find_array(folder, name, layout.array_format)
    if path is None:
        raise InvalidDataError(f"{folder / name}.{layout.array_format}: missing")
    return read_array(path, shape)


def _read_atlas(folder: Path, layout: Layout) -> np.ndarray:
    width, height, depth = layout.atlas_size
    atlas = np.empty((width, height, depth, 8), np.uint8)
    thickness = depth // layout.num_slices
    for i in range(layout.num_slices):
        part = atlas[:, :, i * thickness : (i + 1) * thickness]
        size = (width, height, thickness)
        if layout.is_separate:
            part[..., 1:4] = _read(folder, layout, f"sparse_grid_rgb_{i:03d}", (*size, 3))
            part[..., 4:7] = _read(folder, layout, f"sparse_grid_features_{i:03d}", (*size, 3))
            part[..., [0, 7]] = _read(folder, layout, f"sparse_grid_density_{i:03d}", (*size, 2))
        else:
            joint = _read(folder, layout, f"sparse_grid_rgb_and_density_{i:03d}", (*size, 4))
            part[..., [1, 2, 3, 0]] = joint
            part[..., 4:8] = _read(folder, layout, f"sparse_grid_features_{i:03d}", (*size, 4))
    return atlas


def _read_planes(folder: Path, layout: Layout, texels: int) -> np.ndarray:
    planes = np.empty((3, texels, texels, 8), np.uint8)
    for i in range(3):
        if layout.is_separate:
            planes[i, ..., 1:4] = _read(folder, layout, f"plane_rgb_{i}", (texels, texels, 3))
            planes[i, ..., :1] = _read(folder, layout, f"plane_density_{i}", (texels, texels, 1))
        else:
            planes[i][..., [1, 2, 3, 0]] = _read(
                folder, layout, f"plane_rgb_and_density_{i}", (texels, texels, 4)
            )
        planes[i, ..., 4:8] = _read(folder, layout, f"plane_features_{i}", (texels, texels, 4))
    return planes


def _read_grid(folder: Path, layout: Layout, kind: str, size: int, params: SceneParams) -> np.ndarray | None:
    """Read one occupancy or distance grid as (N, N, N), or return ``None`` if there is no such file."""
    cells = -(-params.triplane_resolution // size)
    channels = 4 if layout.is_padded else 1
    name = f"{kind}_{size}"
    has_suffix = find_array(folder, f"{name}_000", layout.array_format) is not None
    pieces = 8 if has_suffix and layout.is_sliced and not layout.has_legacy_names and cells > 256 else 1
    if not has_suffix and find_array(folder, name, layout.array_format) is None:
        return None
    if cells % pieces:
        raise InvalidDataError(f"{folder / name}: {cells} cells cannot be cut into {pieces} slices")
    names = [f"{name}_{i:03d}" for i in range(pieces)] if has_suffix else [name]
    shape = (cells, cells, cells // pieces, channels)
    parts = [_read(folder, layout, piece, shape)[..., -1] for piece in names]
    return np.ascontiguousarray(np.concatenate(parts, axis=2) if pieces > 1 else parts[0])


def _as_bits(grid: np.ndarray, layout: Layout) -> np.ndarray:
    """Turn a plain 0/1 grid, legal where ``useBits`` is off, into one whose eight children are all occupied."""
    if layout.is_packed or grid.max(initial=0) != 1:
        return grid
    return grid * np.uint8(255)
