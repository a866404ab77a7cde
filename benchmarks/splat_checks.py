"""Readers, images, rays and cameras of splats against files of which the answer is known, as one table.

    python -m benchmarks.splat_checks FOLDER [--json FILE]

FOLDER holds ``golden.json`` (exact colours of one to three splats), ``small/`` (one cloud in eight formats),
``minimal/`` (four splats), ``guitar.compressed.ply``, ``playbot.sog`` and ``room.sog`` (two rooms on exact planes).
What is missing is left out with a line. Each row says what was asked and what was found; the exit code is 1 if one
falls short. Speed and memory are rows of ``benchmarks.splats``; damaged files are those of
``tests.helpers.damaged_assets``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from benchmarks.common import Benchmark, Report
from smerf.capture.types import Camera, Intrinsics
from smerf.errors import InvalidDataError
from smerf.evaluation.metrics import psnr
from smerf.fields.ray_bank import camera_rays
from smerf.fields.rays import Rays, Spacing
from smerf.kernels.reference import splats as reference
from smerf.kernels.splat_tree import ALPHA_MIN, SplatCamera, SplatTree, build_splat_tree
from smerf.kernels.splats import splat_image, splat_rays
from smerf.teacher.asset import open_asset
from smerf.teacher.asset_capture import plan_cameras
from smerf.teacher.asset_options import AssetOptions
from smerf.teacher.splat.asset import SplatAsset
from smerf.teacher.splat.cloud import SplatCloud, covariances_of
from smerf.teacher.splat.formats import read_splats
from smerf.teacher.splat.teacher import SplatLook, render_splats, splat_tree

GOLDEN = 2e-6
SMALL = {
    ".compressed.ply": 48.0, ".sog": 44.0, "_v4.spz": 39.0, "_v3.spz": 39.0, "_v2.spz": 38.0, ".splat": 24.0,
    ".glb": 60.0,
}  # fmt: skip
"""Least PSNR in dB of each format to the PLY of the same splats."""
HALF_TURN = np.diag([1.0, -1.0, -1.0])
NEAR = 0.2
TILE = 16
"""Pixels of a picture's side that rays look at together."""


@dataclass(frozen=True)
class Row:
    """What was asked and found; ``is_least`` says that more is better."""

    name: str
    asked: float
    found: float
    unit: str
    is_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.found >= self.asked if self.is_least else self.found <= self.asked


def camera_at(eye: np.ndarray, target: np.ndarray, up: np.ndarray, side: int, degrees: float) -> Camera:
    """Return a square camera that looks from an eye at a target."""
    z = eye - target
    z = z / np.linalg.norm(z)
    x = np.cross(up, z)
    x /= np.linalg.norm(x)
    focal = 0.5 * side / np.tan(np.radians(0.5 * degrees))
    lens = Intrinsics("PINHOLE", side, side, focal, focal, 0.5 * side, 0.5 * side)
    return Camera(lens, np.stack([x, np.cross(z, x), z, eye], 1))


def cloud_of(case: dict[str, Any]) -> SplatCloud:
    names = ("means", "scales", "quaternions_wxyz", "opacities", "sh")
    means, scales, quaternions, opacities, sh = (np.array(case[name], np.float32) for name in names)
    return SplatCloud(means, scales, quaternions, opacities, sh, kind="golden")


def golden_rows(path: Path) -> Iterator[Row]:
    """Yield the largest errors of images and rays of splats whose colours are known."""
    golden = json.loads(path.read_text())
    lens = {name: golden[name] for name in ("fx", "fy", "cx", "cy", "width", "height", "dilation")}
    forward = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    camera = SplatCamera(rotation=forward, eye=(0.0, 0.0, 0.0), by_depth=True, **lens)
    for name, image_of in (("kernels", splat_image), ("reference", reference.splat_image)):
        worst = 0.0
        for case in golden["cases"]:
            mode = "antialiased" if case["antialiased"] else "default"
            tree = splat_tree(cloud_of(case), SplatLook(golden["fx"], golden["near"], mode))
            # Half floats are no part of the formulas.
            image = image_of(replace(tree, sh=exact_sh(case, tree)), camera)
            for each in case["pixels"]:
                column, row = each["pixel"]
                found = image[row, column].double().numpy()
                colour = found[:3] + found[3] * case["background"]
                wanted = [*each["colour"], each["transmittance"]]
                worst = max(worst, float(np.abs([*colour, found[3]] - np.array(wanted)).max()))
        yield Row(f"golden images, {name}", GOLDEN, worst, "apart")
    yield from golden_rays(golden["rays_of_splats_A_B_C"])


def exact_sh(case: dict[str, Any], tree: Any) -> torch.Tensor:
    """Return the coefficients of a case as float32 in the rows of its tree."""
    sh = torch.tensor(case["sh"], dtype=torch.float32)
    means, rows = torch.tensor(case["means"], dtype=torch.float32), tree.rows()[:, :3]
    exact = torch.zeros(*tree.sh.shape, dtype=torch.float32)
    for i, mean in enumerate(means):
        exact[(rows - mean).norm(dim=1) < 1e-5] = sh[i]
    return exact


def golden_rays(known: dict[str, Any]) -> Iterator[Row]:
    spacing, samples = Spacing(0.2, 8.0, linear=True), 32
    for name, rays_of in (("kernels", splat_rays), ("reference", reference.splat_rays)):
        worst, moments = 0.0, []
        for ray in known["rays"]:
            if ray["order"] != "distance of the centre":
                continue
            for kind in ("undilated", "dilated"):
                wanted = ray[kind]
                tree = splat_tree(cloud_of(known), SplatLook(1.0, NEAR, "default"))
                pitch = wanted.get("pixel_per_distance", 0.0)
                tree = replace(tree, sh=exact_sh(known, tree), dilation=0.3 * pitch**2)
                origin, direction = (
                    torch.tensor([ray[each]], dtype=torch.float32) for each in ("origin", "direction")
                )
                edges, weights, colour = rays_of(tree, origin, direction, spacing, samples, 1 / 1024, 0.1)
                found = [*colour[0].tolist(), 1.0 - float(weights.sum())]
                worst = max(
                    worst, float(np.abs(np.array(found) - [*wanted["colour"], wanted["transmittance"]]).max())
                )
                middle = 0.5 * (edges[0, 1:] + edges[0, :-1])
                width = float((weights[0] * edges[0].diff()).sum())
                moments.append((float((weights[0] * middle).sum()) - wanted["sum_w_t"]) / max(width, 1e-9))
        yield Row(f"golden rays, {name}", GOLDEN, worst, "apart")
        yield Row(f"mean of w t, {name}", 1.0, 100.0 * abs(float(np.mean(moments))), "% of an interval")


def pictures(cloud: SplatCloud, cameras: list[Camera]) -> list[np.ndarray]:
    """Return a cloud before white, with a filter of the pictures' own pixels."""
    tree = splat_tree(cloud, SplatLook(cameras[0].intrinsics.fx, NEAR))
    images = [render_splats(tree, camera, camera.intrinsics.fx).numpy() for camera in cameras]
    return [np.clip(_before_white(image), 0.0, 1.0) for image in images]


def small_rows(folder: Path) -> Iterator[Row]:
    """Yield how near each format comes to the PLY of the same splats, seen from four sides."""
    original = next(folder.glob("*small.ply"))
    content = open_asset(original).content()
    ways = ([1, 0.3, 0], [0, 0.3, 1], [-1, 0.5, 0.2], [0.1, 0.3, -1])
    eyes = [
        content.centre + 2.4 * content.radius * np.array(way) * [1, -1, 1] / np.linalg.norm(way)
        for way in ways
    ]
    cameras = [camera_at(eye, content.centre, np.array([0.0, -1.0, 0.0]), 256, 45.0) for eye in eyes]
    truth, count = pictures(read_splats(original), cameras), len(read_splats(original))
    turned = [replace(camera, world_from_cam=HALF_TURN @ camera.world_from_cam) for camera in cameras]
    for ending, asked in SMALL.items():
        path = original.with_name(original.name.removesuffix(".ply") + ending)
        cloud = read_splats(path)
        yield Row(f"small{ending}: splats", float(count), float(len(cloud)), "", is_least=True)
        found = pictures(cloud, turned if cloud.up[1] > 0.0 else cameras)
        least = min(psnr(image, wanted) for image, wanted in zip(found, truth))
        yield Row(f"small{ending}: pictures", asked, min(least, 100.0), "dB", is_least=True)


def minimal_rows(folder: Path) -> Iterator[Row]:
    """Yield how far four splats are from what was written."""
    for version in (2, 3, 4):
        cloud = read_splats(folder / f"minimal-v{version}.spz")
        places = np.abs(cloud.means - cloud.means.round()).max() + np.abs(np.abs(cloud.means).max() - 1.0)
        worst = max(places, np.abs(cloud.scales - 0.0990).max(), np.abs(cloud.opacities - 0.902).max())
        yield Row(f"minimal-v{version}.spz", 1e-4, float(worst) + abs(len(cloud) - 4), "apart")
    try:
        read_splats(folder / "minimal-raw.spz")
        is_refused = 0.0
    except InvalidDataError:
        is_refused = 1.0
    yield Row("minimal-raw.spz refused", 1.0, is_refused, "", is_least=True)


def _before_white(image: Any) -> Any:
    return image[..., :3] + image[..., 3:]


def _seen(tree: SplatTree, rays: Rays, spacing: Spacing) -> torch.Tensor:
    """Return what rays see before white (R, 3)."""
    _, weights, colour = splat_rays(tree, rays.origins, rays.directions, spacing, 32, 1 / 1024)
    return colour + 1.0 - weights.sum(-1, keepdim=True)


def _seen_flat(cloud: SplatCloud, camera: Camera, spacing: Spacing) -> np.ndarray:
    """Return what rays with the pixels of a flat picture see before white (H, W, 3); colours without directions.

    Pixels are longer than wide towards the edges of a picture, which rays don't know. In a space that is sheared until
    a tile of the picture lies straight ahead they are round, and distances are depths.
    """
    lens, turn = camera.intrinsics, camera.world_from_cam[:, :3] * [1.0, -1.0, -1.0]
    means = (cloud.means - camera.world_from_cam[:, 3]) @ turn
    xx, xy, xz, yy, yz, zz = covariances_of(cloud, turn.T, 1.0).T
    image = np.ones((lens.height, lens.width, 3), np.float32)
    offsets = (np.arange(TILE) + 0.5 - 0.5 * TILE) / lens.fx
    ahead = np.stack([*np.meshgrid(offsets, offsets), np.ones((TILE, TILE))], -1).reshape(-1, 3)
    directions = torch.nn.functional.normalize(torch.from_numpy(ahead.astype(np.float32)), dim=1)
    for top, left in itertools.product(range(0, lens.height, TILE), range(0, lens.width, TILE)):
        a, b = (left + 0.5 * TILE - lens.cx) / lens.fx, (top + 0.5 * TILE - lens.cy) / lens.fy
        x, y, z = means[:, 0] - a * means[:, 2], means[:, 1] - b * means[:, 2], means[:, 2]
        parts = (
            *(xx - 2.0 * a * xz + a * a * zz, xy - a * yz - b * xz + a * b * zz, xz - a * zz),
            *(yy - 2.0 * b * yz + b * b * zz, yz - b * zz, zz),
        )
        # What is farther from the middle than its own reach and a tile's is not met.
        reach = z * (0.5 * TILE + 4.0) / lens.fx
        wide, high = (reach + 3.4 * np.sqrt(np.maximum(part, 0.0)) for part in (parts[0], parts[3]))
        near = (z > NEAR) & (np.abs(x) < wide) & (np.abs(y) < high)
        if not (near & (cloud.opacities >= ALPHA_MIN)).any():
            continue
        rows = (np.stack([x, y, z], 1), np.stack(parts, 1), cloud.opacities)
        chosen = [torch.from_numpy(each[near].astype(np.float32)) for each in rows]
        tree = build_splat_tree(*chosen, torch.from_numpy(cloud.sh[near]).half())
        tree = replace(tree, near=NEAR, dilation=SplatLook(lens.fx, NEAR).dilation(cloud))
        eyes = torch.zeros_like(directions)
        seen = _seen(tree, Rays(eyes, directions, eyes[:, 0]), spacing).view(TILE, TILE, 3)
        image[top : top + TILE, left : left + TILE] = seen.clamp(0.0, 1.0).numpy()
    return image


def _by_depth(tree: SplatTree, camera: Camera) -> np.ndarray:
    """Return a picture before white (H, W, 3) in the order of depths, as splats are trained."""
    right, up, back = camera.world_from_cam[:, :3].T
    lens, rows = camera.intrinsics, (right, -up, -back)
    size = {name: getattr(lens, name) for name in ("fx", "fy", "cx", "cy", "width", "height")}
    rotation, eye = tuple(float(x) for row in rows for x in row), tuple(camera.world_from_cam[:, 3].tolist())
    view = SplatCamera(rotation, eye, **size, dilation=tree.dilation * lens.fx * lens.fy, by_depth=True)
    return np.asarray(_before_white(splat_image(tree, view)).clamp(0.0, 1.0).numpy())


def guitar_rows(path: Path) -> Iterator[Row]:
    """Yield how rays through a picture's pixels compare with the rasteriser, and what their weights sum to."""
    asset = open_asset(path)
    content, up = asset.content(), asset.content().rotation[2]
    way = asset.content().rotation.T @ np.array([1.0, 0.4, 0.3])
    cloud, spacing = read_splats(path), Spacing(NEAR, 8.0 * content.radius, linear=True)
    views = (("far", 2.2, 50.0, 55.0), ("narrow", 4.6, 24.0, 55.0), ("near", 1.2, 70.0, 47.0))
    for name, radii, degrees, asked in views:
        eye = content.centre + radii * content.radius * way / np.linalg.norm(way)
        camera = camera_at(eye, content.centre, up, 256, degrees)
        focal = camera.intrinsics.fx
        look = SplatLook(focal, NEAR)
        rays, tree = camera_rays(camera), splat_tree(cloud, look)
        image = np.clip(_before_white(render_splats(tree, camera, focal).numpy()), 0.0, 1.0)
        cone = _seen(tree, rays, spacing).clamp(0.0, 1.0).view(*image.shape).numpy()
        same = psnr(_seen_flat(cloud, camera, spacing), _by_depth(tree, camera))
        yield Row(f"guitar, {name}: rays as pixels, rasteriser", asked, same, "dB", is_least=True)
        yield Row(f"guitar, {name}: rays as cones, rasteriser", 36.0, psnr(cone, image), "dB", is_least=True)
    # White splats: the colour is then the opacity.
    white = replace(cloud, sh=np.full_like(cloud.sh[:, :1], 0.5 / 0.28209479177387814))
    tree = replace(splat_tree(white, look), sh_rotation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    tree = replace(tree, sh=torch.full(tree.sh.shape, 0.5 / 0.28209479177387814))
    edges, weights, colour = splat_rays(tree, rays.origins, rays.directions, spacing, 32, 1 / 1024)
    yield Row(
        "weights and light sum to 1", 1e-5, float((weights.sum(-1) - colour[:, 0]).abs().max()), "apart"
    )
    tiles = max(
        float((edges[:, 0] - spacing.near).abs().max()), float((edges[:, -1] - spacing.far).abs().max())
    )
    yield Row("intervals tile near to far", 1e-4, tiles / spacing.far, "apart")
    yield Row("intervals ascend", 1.0, float((edges.diff() >= 0.0).all()), "", is_least=True)


def room_rows(path: Path) -> Iterator[Row]:
    """Yield how far the expected distance is from the planes of the room, where rays meet them."""
    eye = np.array([3.9, -1.6, 3.5])
    camera = camera_at(eye, np.array([0.5, -0.8, 0.3]), np.array([0.0, -1.0, 0.0]), 256, 65.0)
    rays = camera_rays(camera)
    tree = splat_tree(read_splats(path), SplatLook(1200.0, 0.05))
    spacing = Spacing(0.05, 20.0, linear=True)
    edges, weights, _ = splat_rays(tree, rays.origins, rays.directions, spacing, 64, 1 / 4096)
    opacity = weights.sum(-1)
    found = (weights * 0.5 * (edges[:, 1:] + edges[:, :-1])).sum(-1) / opacity.clamp_min(1e-6)
    directions = rays.directions.numpy()
    # Distances to the floor, the ceiling and the outer walls of the room that the eye is in.
    planes = np.where(directions > 0.0, [4.45, 0.0, 4.0], [0.0, -2.5, 0.0])
    with np.errstate(divide="ignore"):
        hull = ((planes - eye) / directions).min(1)
    error = np.abs(found.numpy() - hull)
    # What is farther away is furniture in front, or seen through the door.
    error = 1e3 * error[(error < 0.1) & (opacity.numpy() > 0.95)]
    yield Row("room: distance of the hull, median", 1.0, float(np.median(error)), "mm")
    yield Row("room: distance of the hull, 90 %", 5.0, float(np.percentile(error, 90)), "mm")


def camera_rows(folder: Path) -> Iterator[Row]:
    """Yield whether up and kind are right."""
    for name, kind in (("guitar.compressed.ply", "orbit"), ("playbot.sog", "orbit"), ("room.sog", "walk")):
        if not (folder / name).is_file():
            continue
        asset = open_asset(folder / name)
        said = plan_cameras(asset, AssetOptions(), 12, 64).said
        degrees = float(np.degrees(np.arccos(np.clip(-asset.content().rotation[2][1], -1.0, 1.0))))
        yield Row(f"{name}: {kind}", 1.0, float(f", {kind} (" in said), "", is_least=True)
        yield Row(f"{name}: up from -y", 1.0, degrees, "degrees")
        if name != "guitar.compressed.ply":
            yield Row(f"{name}: turned copies upright", 1.0, _share_upright(folder / name), "", is_least=True)


def _share_upright(path: Path) -> float:
    """Return the share of the 24 copies, turned so that axes fall on axes, that are found upright; -y is up."""
    cloud, found = read_splats(path), []
    for turn in Rotation.create_group("O"):
        w, x, y, z = cloud.quaternions.T
        turned = (turn * Rotation.from_quat(np.stack([x, y, z, w], 1))).as_quat().astype(np.float32)
        means = turn.apply(cloud.means).astype(np.float32)
        copy = replace(cloud, means=means, quaternions=np.roll(turned, 1, 1))
        up = SplatAsset(path, copy, AssetOptions()).content().rotation[2]
        found.append(float(up @ turn.apply([0.0, -1.0, 0.0])) > np.cos(np.radians(5.0)))
    return float(np.mean(found))


CHECKS = {
    "golden.json": golden_rows,
    "small": small_rows,
    "minimal": minimal_rows,
    "guitar.compressed.ply": guitar_rows,
    "room.sog": room_rows,
    "": camera_rows,
}


def measure(options: argparse.Namespace, report: Report) -> int:
    missed = 0
    print(f"{'check':40} {'asked':>10} {'found':>10}")
    for name, rows in CHECKS.items():
        path = options.folder / name
        if not path.exists():
            print(f"{name}: not there, left out")
            continue
        for row in rows(path):
            report.add(
                f"splats/{row.name}", asked=row.asked, found=row.found, unit=row.unit, is_met=row.is_met
            )
            word = "at least" if row.is_least else "at most"
            mark = "" if row.is_met else "  missed"
            print(f"{row.name:40} {row.asked:10.4g} {row.found:10.4g} {row.unit} ({word}){mark}")
            missed += not row.is_met
    print(f"{missed} missed" if missed else "all met")
    return 1 if missed else 0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER")


BENCHMARK = Benchmark(__doc__, measure, options, needs="a folder of splat files")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
