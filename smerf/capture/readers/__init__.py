"""Readers of the capture layouts that users have; ``read_source`` finds out which one a folder is."""

from pathlib import Path

from smerf.capture.readers.colmap import find_model, model_root, read_colmap
from smerf.capture.readers.llff import read_llff
from smerf.capture.readers.nerfstudio import read_nerfstudio
from smerf.capture.readers.source import Source, SourceFrame
from smerf.capture.readers.synthetic import find_synthetic, read_synthetic
from smerf.errors import InvalidDataError

__all__ = ["Source", "SourceFrame", "read_source"]


def read_source(path: Path) -> Source:
    """Read the capture at ``path``: a folder, or the transforms or poses file in it.

    Raises:
        InvalidDataError: If nothing is there, the layout is not known, or its files are damaged.
    """
    if path.is_file():
        if path.suffix == ".json":
            return (
                read_synthetic(path.parent) if path.name == "transforms_train.json" else read_nerfstudio(path)
            )
        if path.name == "poses_bounds.npy":
            return read_llff(path)
        raise InvalidDataError(
            f"{path}: not a capture; give the folder, a transforms.json or a poses_bounds.npy"
        )
    if not path.is_dir():
        raise InvalidDataError(f"{path}: no such folder; check the path of the capture")
    if find_synthetic(path):
        return read_synthetic(path)
    if (path / "transforms.json").is_file():
        return read_nerfstudio(path / "transforms.json")
    model = find_model(path)
    if model is not None:
        return read_colmap(model_root(model) if model == path else path, model)
    if (path / "poses_bounds.npy").is_file():
        return read_llff(path / "poses_bounds.npy")
    raise InvalidDataError(
        f"{path}: no capture found; expected transforms_train.json, transforms.json, sparse/0 or "
        "poses_bounds.npy. Photos alone have no poses: find them first, with COLMAP or nerfstudio's ns-process-data"
    )
