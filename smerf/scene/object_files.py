"""Give a baked scene that is on the disk the objects of its voxels, and change nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from smerf.engine.replace import replace_folder
from smerf.errors import InvalidDataError
from smerf.scene.arrays import encode_array
from smerf.scene.layout import COARSE_FOLDER, object_ids_name
from smerf.scene.manifest import MANIFEST_NAME, parse_manifest, read_json
from smerf.scene.objects import SceneObject, check_ids, objects_to_json
from smerf.scene.params_io import Layout, parse_params
from smerf.scene.read import load_submodel
from smerf.scene.types import BakedSubmodel, SceneParams

__all__ = ["Level", "write_object_ids"]

Level = Callable[[SceneParams, int, BakedSubmodel], np.ndarray]
"""Returns the objects (W, H, D) uint8 of a level's atlas, given its parameters, the submodel's number and arrays."""
_STEM = object_ids_name(0).rstrip("0")


def write_object_ids(
    scene_dir: Path,
    objects: Sequence[SceneObject],
    level: Level,
    also: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write the objects of every level's voxels into a scene folder, in place of those that it has.

    The files that stay are linked, not copied; the new folder takes the place of the old one at once.

    Args:
        scene_dir: Scene folder with a manifest.
        objects: What the ids mean.
        level: Makes the ids.
        also: Called with the new folder before it takes its place, for what has to change with it.

    Raises:
        InvalidDataError: If the scene has no manifest or cannot be read.
    """
    if not (scene_dir / MANIFEST_NAME).is_file():
        raise InvalidDataError(
            f"{scene_dir / MANIFEST_NAME}: missing; ids of objects need a scene that smerf baked"
        )
    manifest = read_json(scene_dir / MANIFEST_NAME)
    files = dict(parse_manifest(manifest, str(scene_dir / MANIFEST_NAME)).files)
    files = {name: value for name, value in files.items() if not Path(name).name.startswith(_STEM)}
    with replace_folder(scene_dir) as folder:
        _link_others(scene_dir, folder)
        entries = sorted(folder.glob("sm_*/scene_params.json")) if objects else []
        for entry in entries:
            params, layout = _params(entry)
            region = params.params_to_sm[0] if layout.region is None else layout.region
            k = params.params_to_sm.index(region)
            for place in (entry.parent, entry.parent / COARSE_FOLDER):
                if (place / entry.name).is_file():
                    files |= _write_level(folder, place, objects, level, k, region)
        if objects:
            manifest["objects"] = objects_to_json(objects)
        else:
            manifest.pop("objects", None)
        manifest["files"] = {
            name: {"sha256": digest, "bytes": size} for name, (digest, size) in sorted(files.items())
        }
        text = json.dumps(manifest, indent=1, allow_nan=False)
        (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
        also(folder)


def _params(path: Path) -> tuple[SceneParams, Layout]:
    return parse_params(read_json(path), str(path))


def _link_others(source: Path, target: Path) -> None:
    """Put every file of a scene into a new folder, but its manifest and its ids of objects."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_dir():
            (target / name).mkdir(exist_ok=True)
        elif str(name) != MANIFEST_NAME and not name.name.startswith(_STEM):
            try:
                os.link(path, target / name)
            except OSError:
                shutil.copy2(path, target / name)


def _write_level(
    root: Path, place: Path, objects: Sequence[SceneObject], level: Level, k: int, region: int
) -> dict[str, tuple[str, int]]:
    """Write the ids of one level and return its entries of the manifest's files."""
    params, layout = _params(place / "scene_params.json")
    ids = level(params, k, load_submodel(place, region))
    check_ids(ids, objects, str(place / object_ids_name(0)))
    thickness, files = ids.shape[2] // layout.num_slices, {}
    for i in range(layout.num_slices):
        part = ids[:, :, i * thickness : (i + 1) * thickness, None]
        data = encode_array(np.ascontiguousarray(part), layout.array_format)
        path = place / f"{object_ids_name(i)}.{layout.array_format}"
        path.write_bytes(data)
        files[path.relative_to(root).as_posix()] = (hashlib.sha256(data).hexdigest(), len(data))
    return files
