"""Metashape's cameras (File, Export, Export Cameras, Agisoft XML).

``transform`` of a camera is 4x4, row by row, chunk-from-camera with OpenCV camera axes; the component or the chunk
carries the similarity to the world. The centre is stated from the middle of the image, and p1 and p2 are swapped
against OpenCV's.
Source: Agisoft Metashape user manual, appendix on camera models.
"""

from __future__ import annotations

import logging
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from smerf.capture.pixels import read_start
from smerf.capture.readers.exports import Lens, Shot, make_source, numbers, opengl_pose, parse_xml
from smerf.capture.readers.source import Source, make_intrinsics
from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError

__all__ = ["find_metashape", "read_metashape"]

_LOG = logging.getLogger("smerf")

_Similarity = tuple[float, np.ndarray, np.ndarray]


def find_metashape(root: Path) -> Path | None:
    """Return the XML file of cameras in ``root``, or ``None``."""
    for path in sorted(root.glob("*.xml")):
        start = read_start(path, 4096)
        if b"<document" in start and b"<chunk" in start:
            return path
    return None


def read_metashape(path: Path) -> Source:
    """Read an XML file of cameras; those that were not aligned are left out with one warning.

    Raises:
        InvalidDataError: If the file is damaged, holds several chunks, or a camera model that cannot be read.
    """
    chunks = parse_xml(path).findall("chunk")
    if len(chunks) != 1:
        raise InvalidDataError(
            f"{path}: holds {len(chunks)} chunks, expected one; export the cameras of one chunk"
        )
    chunk = chunks[0]
    sensors = {sensor.get("id"): sensor for sensor in chunk.iter("sensor")}
    components = {one.get("id"): _similarity(one, path) for one in chunk.iter("component")}
    whole = _similarity(chunk, path)
    lenses: dict[str | None, tuple[Lens, tuple[int, int]]] = {}
    shots, unaligned = [], 0
    for camera in chunk.iter("camera"):
        transform = camera.findtext("transform")
        if camera.get("enabled") in ("0", "false"):
            continue
        if transform is None:
            unaligned += 1
            continue
        label, sensor = camera.get("label", ""), camera.get("sensor_id")
        if sensor not in sensors:
            raise InvalidDataError(
                f"{path}: camera {label} names sensor {sensor}, which is missing; export it again"
            )
        if sensor not in lenses:
            lenses[sensor] = _lens(sensors[sensor], path)
        lens, size = lenses[sensor]
        matrix = numbers(transform, 16, path, f"the transform of {label}").reshape(4, 4)
        scale, rotation, translation = components.get(camera.get("component_id")) or whole or _IDENTITY
        pose = opengl_pose(rotation @ matrix[:3, :3], scale * rotation @ matrix[:3, 3] + translation)
        shots.append(Shot(path.parent / "images" / label, pose, lens, size))
    if unaligned:
        _LOG.warning("%s: %d cameras are not aligned and left out", path, unaligned)
    return make_source("metashape", path.parent, path, shots)


_IDENTITY: _Similarity = (1.0, np.eye(3), np.zeros(3))


def _similarity(element: Element, path: Path) -> _Similarity | None:
    """Return scale, rotation and translation of a component or chunk, where it states any."""
    transform = element.find("transform")
    if transform is None:
        return None
    rotation = numbers(transform.findtext("rotation", "1 0 0 0 1 0 0 0 1"), 9, path, "a rotation").reshape(
        3, 3
    )
    translation = numbers(transform.findtext("translation", "0 0 0"), 3, path, "a translation")
    (scale,) = numbers(transform.findtext("scale", "1"), 1, path, "a scale")
    return float(scale), rotation, translation


def _lens(sensor: Element, path: Path) -> tuple[Lens, tuple[int, int]]:
    what = f"sensor {sensor.get('label') or sensor.get('id')}"
    kind = sensor.get("type", "frame")
    calibrations = sensor.findall("calibration")
    adjusted = [one for one in calibrations if one.get("class") == "adjusted"] or calibrations
    if kind != "frame" or not adjusted:
        problem = f"is of type {kind}" if kind != "frame" else "has no calibration"
        raise InvalidDataError(f"{path}: {what} {problem}; export undistorted photos of a frame camera")
    calibration = adjusted[0]
    resolution = calibration.find("resolution")
    resolution = sensor.find("resolution") if resolution is None else resolution
    if resolution is None:
        raise InvalidDataError(f"{path}: {what} states no resolution; export it again")
    width, height = (
        int(numbers(resolution.get(key, ""), 1, path, f"{key} of {what}")[0]) for key in ("width", "height")
    )

    def value(key: str) -> float:
        return float(numbers(calibration.findtext(key, "0"), 1, path, f"{key} of {what}")[0])

    for key in ("k4", "b2"):
        if value(key):
            raise InvalidDataError(f"{path}: {key} of {what} is not 0, which no camera model here has; "
                                   "export undistorted photos")  # fmt: skip
    fx, fy = value("f") + value("b1"), value("f")
    tail = (value("k3"), 0.0, 0.0, 0.0) if value("k3") else ()
    distortion = (value("k1"), value("k2"), value("p2"), value("p1"), *tail)
    model = "FULL_OPENCV" if tail else "OPENCV"

    def lens(width: int, height: int) -> Intrinsics:
        centre = (width / 2 + value("cx"), height / 2 + value("cy"))
        return make_intrinsics(model, (width, height), (fx, fy), centre, distortion, path)

    return lens, (width, height)
