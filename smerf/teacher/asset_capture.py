"""A capture of a splat or mesh file: cameras that were found or chosen, and its own renders as their photos."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture import save_transforms
from smerf.capture.normalise import invert_pose
from smerf.capture.types import Camera, Capture, Frame, Intrinsics, Similarity
from smerf.engine.files import read_json, write_bytes, write_json
from smerf.engine.folder import SOURCE
from smerf.errors import InvalidDataError, UsageError
from smerf.teacher.asset import Asset, file_digest
from smerf.teacher.asset_options import AssetOptions
from smerf.teacher.found_cameras import capture_cameras, find_cameras, is_camera_list, read_cameras
from smerf.teacher.splat.cameras import synthesise

__all__ = ["CameraPlan", "plan_cameras", "require_visible", "write_asset_capture"]

_TEST_EVERY, _FIRST_TEST = 8, 4
_CHECKS, _CHECK_SIZE = 8, 64
_MAX_FOUND = 200
_SEEN, _EMPTY = 0.02, 0.9


@dataclass(frozen=True)
class CameraPlan:
    """The cameras of a capture, in the file's space, and how they were decided.

    ``is_alone`` says that it shows a lone object: its images carry alpha, and ``near`` and ``far`` bound it.
    """

    cameras: tuple[Camera, ...]
    said: str
    is_alone: bool
    near: float
    far: float


def plan_cameras(asset: Asset, options: AssetOptions, count: int, size: int) -> CameraPlan:
    """Find cameras beside a file or choose them.

    Args:
        asset: The file.
        options: What the user says of its cameras.
        count: Cameras to choose where none are found.
        size: Pixels on the longer side.

    Raises:
        UsageError: If a file of cameras is named that is not there.
        InvalidDataError: If most cameras see nothing of it, or it has no extent.
    """
    found = None if options.cameras in ("orbit", "walk") else find_cameras(asset.path)
    if options.cameras not in ("auto", "orbit", "walk"):
        found = Path(options.cameras)
        if not found.exists():
            raise UsageError(f"--cameras {found}: is not orbit, walk, a cameras.json or a posed capture")
    if found is not None:
        known = read_cameras(found) if is_camera_list(found) else capture_cameras(found)
        cameras = [_reduced(camera, size) for camera in known]
        step = -(-len(cameras) // _MAX_FOUND)
        kind, said = "found", f"{len(cameras[::step])} cameras of {found}"
        cameras = cameras[::step]
    else:
        if not asset.content().radius > 0.0:
            raise InvalidDataError(
                f"{asset.path}: everything is in one place; there is nothing to look around"
            )
        rig = synthesise(asset.content(), asset.probe(), count, options.cameras, has_sides=asset.has_sides)
        focal = 0.5 * size / np.tan(np.radians(0.5 * rig.field))
        intrinsics = Intrinsics("PINHOLE", size, size, focal, focal, 0.5 * size, 0.5 * size)
        cameras = [Camera(intrinsics, pose) for pose in rig.poses]
        up = ",".join(f"{x:.2g}" for x in asset.content().rotation[2])
        kind, said = (
            rig.kind,
            f"{count} cameras, {rig.kind} ({rig.why}), up {up} ({asset.up_from}); --cameras and --up overrule it",
        )
    is_alone = _check(asset, cameras, is_found=kind == "found") and kind != "walk"
    near, far = asset.near(), float("inf")
    if is_alone:
        near, far = _object_bounds(asset, cameras)
    return CameraPlan(tuple(cameras), said, is_alone, near, far)


def _reduced(camera: Camera, size: int) -> Camera:
    """Return a camera with its longer side at most ``size`` pixels, by a whole factor."""
    one = camera.intrinsics
    factor = -(-max(one.width, one.height) // size)
    width, height = max(1, one.width // factor), max(1, one.height // factor)
    intrinsics = replace(
        one,
        width=width,
        height=height,
        fx=one.fx / factor,
        fy=one.fy / factor,
        cx=one.cx / factor,
        cy=one.cy / factor,
    )
    return replace(camera, intrinsics=intrinsics)


def _check(asset: Asset, cameras: list[Camera], is_found: bool) -> bool:
    """Return whether a few small renders show a lone object.

    Raises:
        InvalidDataError: If fewer than half of them show anything; cameras that were not found know where it is,
            and may show little.
    """
    chosen = cameras[:: max(1, len(cameras) // _CHECKS)][:_CHECKS]
    small = [asset.render(_reduced(camera, _CHECK_SIZE))[..., 3] for camera in chosen]
    shares = [float(opacity.mean() if is_found else opacity.max()) for opacity in small]
    if sum(share > _SEEN for share in shares) < 0.5 * len(small):
        why = (
            "they belong to another scene or space: see --cameras"
            if is_found
            else "it is too faint or too thin"
        )
        raise InvalidDataError(f"{asset.path}: most cameras see nothing of it; {why}")
    empty = [opacity < 1.0 - _EMPTY for opacity in small]
    border = [np.concatenate([e[0], e[-1], e[:, 0], e[:, -1]]) for e in empty]
    everywhere = np.concatenate([e.ravel() for e in empty])
    return bool(everywhere.mean() > 0.05 and np.concatenate(border).mean() > 0.5)


def require_visible(asset: Asset, capture: Capture) -> None:
    """Refuse a file that a capture's cameras don't see.

    Raises:
        InvalidDataError: If fewer than half of them see anything of it.
    """
    similarity = capture.training_from_source
    cameras = [
        replace(frame.camera, world_from_cam=invert_pose(similarity, frame.camera.world_from_cam))
        for frame in capture.split("train")
    ]
    _check(asset, cameras, is_found=True)


def _object_bounds(asset: Asset, cameras: list[Camera]) -> tuple[float, float]:
    """Return near and far around the content's ball, seen from the cameras."""
    content = asset.content()
    distance = [float(np.linalg.norm(camera.world_from_cam[:, 3] - content.centre)) for camera in cameras]
    reach = 1.1 * content.radius
    return max(min(distance) - reach, asset.near()), max(distance) + reach


def write_asset_capture(
    asset: Asset,
    options: AssetOptions,
    folder: Path,
    *,
    count: int,
    size: int,
    overwrite: bool = False,
    report: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Render a capture of a file, or finish one that was begun; return what it was rendered from.

    Args:
        asset: The file.
        options: What the user says about it.
        folder: Gets ``transforms.json``, ``images/`` and ``source.json``.
        count: Cameras to choose where none are found.
        size: Pixels on the longer side.
        overwrite: Replace a capture of another file or other options.
        report: Called with the images that are done, all images, and how the cameras were decided; may raise.

    Raises:
        UsageError: If the folder holds a capture of another file or other options and ``overwrite`` is off.
        InvalidDataError: If most cameras see nothing of it.
    """
    record = {
        "name": asset.path.name,
        "path": str(asset.path.resolve()),
        "sha256": file_digest(asset.path),
        "options": options.values(),
        "count": count,
        "size": size,
    }
    key = {name: value for name, value in record.items() if name not in ("path", "name")}
    if (folder / SOURCE).is_file():
        saved = read_json(folder / SOURCE)
        if {name: saved.get(name) for name in key} != _plain(key):
            if not overwrite:
                raise UsageError(
                    f"{folder}: was rendered from {saved.get('name')} with other options, or the file has changed; "
                    "give another folder with -o, or --overwrite"
                )
            shutil.rmtree(folder)
        elif (folder / "transforms.json").is_file():
            return dict(saved)
    plan = plan_cameras(asset, options, count, size)
    record |= {"facts": asset.facts(), "cameras": plan.said}
    write_json(folder / SOURCE, record)
    frames = []
    for index, camera in enumerate(plan.cameras):
        if report:
            report(index, len(plan.cameras), plan.said)
        path = folder / "images" / f"frame_{index:05d}.png"
        if not path.is_file():
            write_bytes(path, _png(asset.render(camera), plan.is_alone))
        split = "test" if index % _TEST_EVERY == min(_FIRST_TEST, len(plan.cameras) // 2) else "train"
        frames.append(Frame(path.name, path, camera, split))
    capture = Capture(
        folder,
        "asset",
        tuple(frames),
        Similarity(),
        plan.near,
        plan.far,
        plan.is_alone,
        None,
        np.zeros((0, 3)),
    )
    save_transforms(capture, folder / "transforms.json")
    if report:
        report(len(frames), len(frames), plan.said)
    return dict(read_json(folder / SOURCE))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return values as JSON gives them back."""
    options = values["options"]
    return values | {"options": options | {"up": None if options["up"] is None else list(options["up"])}}


def _png(image: np.ndarray, has_alpha: bool) -> bytes:
    """Return a PNG of colour over black and opacity (H, W, 4), with straight alpha or over nothing."""
    from PIL import Image

    if has_alpha:
        opacity = np.clip(image[..., 3:], 0.0, 1.0)
        image = np.concatenate([image[..., :3] / np.maximum(opacity, 1e-4), opacity], -1)
    else:
        image = image[..., :3] + 0.5 * (1.0 - image[..., 3:])
    pixels = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
