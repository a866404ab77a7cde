"""Splats as glTF 2.0 with KHR_gaussian_splatting (release candidate), as ``.glb`` or ``.gltf``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smerf.errors import InvalidDataError
from smerf.teacher.gltf_file import GLTF_FAULTS, GltfFile
from smerf.teacher.splat.cloud import SplatCloud, checked_cloud

__all__ = ["EXTENSION", "read_gltf"]

EXTENSION = "KHR_gaussian_splatting"


def read_gltf(path: Path, data: bytes) -> SplatCloud:
    """Read the splats of a glTF file, all primitives joined.

    Raises:
        InvalidDataError: If it is damaged or asks for another rendering.
    """
    name = str(path)
    file = GltfFile(path, data)
    try:
        found = file.primitives(lambda primitive: EXTENSION in primitive.get("extensions", {}))
        clouds = [_placed(name, _cloud(file, primitive), matrix) for primitive, matrix in found]
    except GLTF_FAULTS as error:
        raise InvalidDataError(f"{name}: is damaged ({error!r}); export it again") from error
    if not clouds:
        raise InvalidDataError(f"{name}: holds no splats")
    if len({cloud.sh.shape[1] for cloud in clouds}) > 1:
        raise InvalidDataError(f"{name}: its parts have different SH degrees")
    fields = ("means", "scales", "quaternions", "opacities", "sh")
    joined: dict[str, Any] = {
        field: np.concatenate([getattr(cloud, field) for cloud in clouds]) for field in fields
    }
    kind = f"glTF {EXTENSION}"
    cloud = SplatCloud(**joined, kind=kind, up=(0.0, 1.0, 0.0), is_up_stated=True, comments=file.comments())
    return checked_cloud(name, cloud)


def _placed(name: str, cloud: SplatCloud, matrix: np.ndarray) -> SplatCloud:
    """Return a cloud where its node puts it: moved and scaled; rotations of colours are refused by name."""
    linear = matrix[:3, :3]
    scale = float(np.cbrt(abs(np.linalg.det(linear))))
    if not np.allclose(linear, scale * np.eye(3), atol=1e-5 * max(scale, 1e-9)):
        raise InvalidDataError(
            f"{name}: a node turns or stretches its splats, which is not supported; apply it first"
        )
    if np.array_equal(matrix, np.eye(4)):
        return cloud
    means = (scale * cloud.means + matrix[:3, 3]).astype(np.float32)
    return SplatCloud(
        means, cloud.scales * np.float32(scale), cloud.quaternions, cloud.opacities, cloud.sh, cloud.kind
    )


def _cloud(file: GltfFile, primitive: dict[str, Any]) -> SplatCloud:
    """Return the splats of a primitive."""
    extension, attributes = primitive["extensions"][EXTENSION], primitive["attributes"]
    kernel, space = extension.get("kernel", "ellipse"), extension.get("colorSpace", "srgb_rec709_display")
    if kernel != "ellipse" or space != "srgb_rec709_display" or primitive.get("mode", 4) != 0:
        raise InvalidDataError(
            f"{file.path}: kernel {kernel}, colour space {space}, mode {primitive.get('mode', 4)} are not "
            "supported; expected ellipse, srgb_rec709_display, points"
        )
    count = int(file.document["accessors"][attributes["POSITION"]]["count"])

    def values(field: str, width: int) -> np.ndarray:
        array = file.values(attributes[f"{EXTENSION}:{field}" if field != "POSITION" else field])
        if array.shape != (count, width):
            raise InvalidDataError(f"{file.path}: {field} has shape {array.shape}, expected {(count, width)}")
        return array

    sh = []
    for degree in range(4):
        if f"{EXTENSION}:SH_DEGREE_{degree}_COEF_0" not in attributes:
            break
        sh += [values(f"SH_DEGREE_{degree}_COEF_{n}", 3)[:, None] for n in range(2 * degree + 1)]
    return SplatCloud(
        values("POSITION", 3),
        values("SCALE", 3),
        np.roll(values("ROTATION", 4), 1, axis=1),
        values("OPACITY", 1)[:, 0],
        np.concatenate(sh, 1),
        EXTENSION,
    )
