"""Readers of the capture layouts that users have; ``read_source`` finds out which one a folder is."""

from collections.abc import Callable
from pathlib import Path

from smerf.capture.readers.colmap import find_model, model_root, read_colmap
from smerf.capture.readers.llff import read_llff
from smerf.capture.readers.meshroom import find_meshroom, read_meshroom
from smerf.capture.readers.metashape import find_metashape, read_metashape
from smerf.capture.readers.nerfstudio import read_nerfstudio
from smerf.capture.readers.opensfm import find_odm, find_opensfm, read_odm, read_opensfm
from smerf.capture.readers.phone_apps import (
    find_record3d,
    find_scanner_app,
    find_stray,
    read_record3d,
    read_scanner_app,
    read_stray,
)
from smerf.capture.readers.polycam import find_polycam, read_polycam
from smerf.capture.readers.realityscan import find_realityscan, find_xmp, read_realityscan, read_xmp
from smerf.capture.readers.source import Source, SourceFrame
from smerf.capture.readers.synthetic import find_synthetic, read_synthetic
from smerf.errors import InvalidDataError

__all__ = ["Source", "SourceFrame", "has_poses", "read_source"]


def _file(name: str) -> Callable[[Path], Path | None]:
    return lambda root: root / name if (root / name).is_file() else None


def _read_model(model: Path) -> Source:
    return read_colmap(model_root(model), model)


_LAYOUTS: tuple[tuple[Callable[[Path], Path | None], Callable[[Path], Source]], ...] = (
    (lambda root: root if find_synthetic(root) else None, read_synthetic),
    (_file("transforms.json"), read_nerfstudio),
    (find_model, _read_model),
    (_file("poses_bounds.npy"), read_llff),
    (find_polycam, read_polycam),
    (find_metashape, read_metashape),
    (find_realityscan, read_realityscan),
    (lambda root: root if find_xmp(root) else None, read_xmp),
    (find_record3d, read_record3d),
    (find_stray, read_stray),
    (find_scanner_app, read_scanner_app),
    (find_meshroom, read_meshroom),
    (find_opensfm, read_opensfm),
    (find_odm, read_odm),
)
"""What finds the file or folder to read in a capture's folder, and what reads it; the first that finds one counts."""

_FILES: dict[str, Callable[[Path], Source]] = {
    ".json": read_nerfstudio,
    ".xml": read_metashape,
    ".csv": read_realityscan,
    ".sfm": read_meshroom,
}
_NAMED: dict[str, Callable[[Path], Source]] = {
    "transforms_train.json": lambda path: read_synthetic(path.parent),
    "poses_bounds.npy": read_llff,
    "odometry.csv": read_stray,
    "reconstruction.json": read_opensfm,
}

_CONVERT = {
    "*.psx": ("a Metashape project", "export the cameras (File, Export, Export Cameras, Agisoft XML)"),
    "*.rcproj": ("a RealityCapture project", "export 'Internal/External camera parameters' (CSV)"),
    "*.rsproj": ("a RealityScan project", "export 'Internal/External camera parameters' (CSV)"),
    "*.r3d": ("a Record3D recording", "rename it to .zip and unpack it into a folder"),
    "*.p4d": ("a Pix4D project", "export the undistorted photos and a COLMAP model"),
    "*_calibrated_camera_parameters.txt": ("Pix4D's parameters", "export a COLMAP model"),
    "*.nvm": ("a VisualSFM model", "import it into COLMAP and save a sparse model"),
    "bundle*.out": ("a Bundler model", "import it into COLMAP and save a sparse model"),
    "cameras*.npz": ("an IDR or NeuS camera file", "write a transforms.json from its matrices"),
    "database.db": ("a COLMAP database without a model", "run COLMAP's mapper, which writes sparse/0"),
    "*.sens": ("a ScanNet recording", "extract it with ScanNet's SensReader and write a transforms.json"),
    "*.usdz": ("a mesh without photos", "export the raw data or the photos with their cameras"),
}
"""Files that tell of layouts that are not read: what they are, and the way to one that is."""


def has_poses(path: Path) -> bool:
    """Return whether a path looks like a posed capture, so that ``read_source`` would read it or say what is wrong."""
    if path.is_file():
        return path.suffix in _FILES or path.name in _NAMED
    return any(find(path) is not None for find, _ in _LAYOUTS) or any(
        any(path.glob(pattern)) for pattern in _CONVERT
    )


def read_source(path: Path) -> Source:
    """Read the capture at ``path``: a folder, or the file of poses in it.

    Raises:
        InvalidDataError: If nothing is there, the layout is not known, or its files are damaged.
    """
    if path.is_file():
        read = _NAMED.get(path.name) or _FILES.get(path.suffix.lower())
        if read is not None:
            return read(path)
        _refuse_foreign(path.parent, path)
        raise InvalidDataError(
            f"{path}: not a capture; give the folder, a transforms.json or a poses_bounds.npy"
        )
    if not path.is_dir():
        raise InvalidDataError(f"{path}: no such folder; check the path of the capture")
    for find, read in _LAYOUTS:
        found = find(path)
        if found is not None:
            return read(found)
    for pattern in _CONVERT:
        for file in path.glob(pattern):
            _refuse_foreign(path, file)
    raise InvalidDataError(
        f"{path}: no capture found; expected transforms_train.json, transforms.json, sparse/0, poses_bounds.npy, or an "
        "export of Polycam, Metashape, RealityScan, Record3D, Stray Scanner, 3D Scanner App, Meshroom, OpenSfM or "
        "OpenDroneMap. Photos alone have no poses: smerf prepare finds them"
    )


def _refuse_foreign(root: Path, file: Path) -> None:
    for pattern, (what, way) in _CONVERT.items():
        if file.match(pattern):
            raise InvalidDataError(f"{file}: {what}, which is not read; {way}")
