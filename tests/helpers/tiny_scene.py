"""A baked scene small enough to write in a test: one soft box in eight macroblocks, T = 64, S = 16, B = 8.

Everything is written straight from the format's description, and `oracle` marches it without grids or
skipping, so that neither shares code with the viewer.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

T, S, B = 64, 16, 8
RANGE_FEATURES, RANGE_DENSITY = (-7.0, 7.0), (-14.0, 14.0)
HALF_BOX = 0.6
VIEWER_FROM_TRAINING = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
RED, BLUE = (0.85, 0.2, 0.1), (0.1, 0.25, 0.9)


@dataclass
class TinyScene:
    """Arrays indexed [first, second, (third,) channel] on viewer axes, uint8, and the appearance network."""

    sparse: np.ndarray  # S, S, S, 8: rgb, features 0-2, density, gate
    planes: np.ndarray  # 3, T, T, 8: rgb, features 0-3, density
    network: list[tuple[np.ndarray, np.ndarray]]
    params: dict = field(default_factory=dict)


def to_byte(value, low_high):
    low, high = low_high
    return np.clip(np.round(255 * (np.asarray(value) - low) / (high - low)), 0, 255).astype(np.uint8)


def logit(p):
    return np.log(p) - np.log(1 - np.asarray(p))


def make_scene(colour=RED, seed=0, **params) -> TinyScene:
    random = np.random.default_rng(seed)
    centres = (np.arange(S) + 0.5) * 4 / S - 2
    x, y, z = np.meshgrid(centres, centres, centres, indexing="ij")
    inside = np.maximum(np.maximum(abs(x), abs(y)), abs(z)) < HALF_BOX
    sparse = np.zeros((S, S, S, 8), np.uint8)
    sparse[..., :3] = to_byte(logit(colour), RANGE_FEATURES)
    sparse[..., 3:6] = to_byte(random.normal(0, 1, 3), RANGE_FEATURES)
    sparse[..., 6] = np.where(inside, to_byte(7.0, RANGE_DENSITY), 0)
    sparse[..., 7] = to_byte(0.4, RANGE_FEATURES)
    waves = np.sin(np.arange(T) / 7)[:, None] * np.cos(np.arange(T) / 9)[None]
    planes = np.zeros((3, T, T, 8), np.uint8)
    planes[..., :7] = to_byte(
        0.8 * waves[None, ..., None] * random.normal(0, 1, (3, 1, 1, 7)), RANGE_FEATURES
    )
    planes[..., 7] = to_byte(0.0, RANGE_DENSITY)
    widths = [(41, 16), (16, 16), (16, 3)]
    network = [(random.normal(0, 0.3, w).astype(np.float32), np.zeros(w[1], np.float32)) for w in widths]
    network[2][1][:] = -2.5
    return TinyScene(sparse, planes, network, params)


def atlas(scene: TinyScene) -> np.ndarray:
    n = S // B
    padded = np.pad(scene.sparse, [(0, 1)] * 3 + [(0, 0)], mode="edge")
    out = np.zeros((n * (B + 1),) * 3 + (8,), np.uint8)
    for i, j, k in np.ndindex(n, n, n):
        block = padded[i * B : i * B + B + 1, j * B : j * B + B + 1, k * B : k * B + B + 1]
        out[i * 9 : i * 9 + 9, j * 9 : j * 9 + 9, k * 9 : k * 9 + 9] = block
    return out


def grids(scene: TinyScene) -> tuple[np.ndarray, np.ndarray]:
    """Packed occupancy and distance, both (T/8)^3: a child (T/4 grid) is alive near the box."""
    n = T // 8
    child_centre = (np.arange(2 * n) + 0.5) * 2 / n - 2
    x, y, z = np.meshgrid(child_centre, child_centre, child_centre, indexing="ij")
    alive = np.maximum(np.maximum(abs(x), abs(y)), abs(z)) < HALF_BOX + 4 / S
    packed, occupied = np.zeros((n, n, n), np.uint8), np.zeros((n, n, n), bool)
    for dx, dy, dz in np.ndindex(2, 2, 2):
        child = alive[dx::2, dy::2, dz::2]
        packed |= (child << (4 * dx + 2 * dy + dz)).astype(np.uint8)
        occupied |= child
    cells = np.argwhere(occupied)
    everywhere = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1)
    gap = abs(everywhere[..., None, :] - cells).max(-1).min(-1)
    return packed, np.maximum(0, gap - 1).astype(np.uint8)


def write_array(path: Path, array: np.ndarray, extension: str) -> None:
    axes = (*range(array.ndim - 2, -1, -1), array.ndim - 1)
    data = np.ascontiguousarray(array.transpose(axes))
    if extension == "png":
        image = data.reshape(-1, array.shape[0], array.shape[-1])
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(f"{path}.png")
    elif extension == "raw.gz":
        Path(f"{path}.raw.gz").write_bytes(gzip.compress(data.tobytes()))
    else:
        Path(f"{path}.raw").write_bytes(data.tobytes())


def write_submodel(folder: Path, scene: TinyScene, networks=None, *, extension="raw.gz", joint=False) -> None:
    """Write one submodel folder. ``networks`` (one per submodel) are written as a 2^3 lattice."""
    folder.mkdir(parents=True)
    n, size, slices = S // B, S // B * (B + 1), 3
    params = {
        "triplane_resolution": T, "triplane_voxel_size": 4 / T,
        "sparse_grid_resolution": S, "sparse_grid_voxel_size": 4 / S, "data_block_size": B,
        "range_features": RANGE_FEATURES, "range_density": RANGE_DENSITY,
        "merge_features_combine_op": "coarse_sum", "deferred_rendering_mode": "snerg", "activation": "relu",
        "feature_gating": True, "num_submodels": 1, "num_local_submodels": 1, "submodel_voxel_size": 2.0,
        "submodel_scale": 1.0, "params_to_sm": [0], "sm_to_params": [0], "submodel_idx": 0,
        "export_array_format": extension, "export_store_rgb_and_density_separately": not joint,
        "export_pad_occupancy_and_distance_grids": joint, "export_slice_occupancy_and_distance_grids": True,
        "export_store_deferred_mlp_separately": True, "default_exposure": None,
        "atlas_width": size, "atlas_height": size, "atlas_depth": size, "num_slices": slices,
        **scene.params,
    }  # fmt: skip
    (folder / "scene_params.json").write_text(json.dumps(params))
    networks = networks or [scene.network]
    tensors = {}
    for i in range(3):
        for name, part in (("kernel", 0), ("bias", 1)):
            stack = np.stack([network[i][part] for network in networks])
            stack = np.broadcast_to(stack[:, None, None, None], (len(networks), 2, 2, 2, *stack.shape[1:]))
            record = {"shape": stack.shape, "data": [float(v) for v in stack.ravel()]}
            tensors[f"ResampleDense_{i}/{name}"] = record
    (folder / "deferred_mlp.json").write_text(json.dumps(tensors))

    slots = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).astype(np.uint8)
    write_array(folder / "sparse_grid_block_indices", slots, extension)
    packed, distance = grids(scene)
    for name, grid in (("occupancy", packed), ("distance", distance)):
        grid = np.repeat(grid[..., None], 4 if joint else 1, axis=-1)
        write_array(folder / f"{name}_grid_8_000", grid, extension)
    groups = {"rgb_and_density": [0, 1, 2, 6], "features": [3, 4, 5, 7]}
    plane_groups = {"rgb_and_density": [0, 1, 2, 7], "features": [3, 4, 5, 6]}
    if not joint:
        groups = {"rgb": [0, 1, 2], "features": [3, 4, 5], "density": [6, 7]}
        plane_groups = {"rgb": [0, 1, 2], "features": [3, 4, 5, 6], "density": [7]}
    voxels, depth = atlas(scene), size // slices
    for name, channels in groups.items():
        for i in range(slices):
            part = voxels[:, :, i * depth : (i + 1) * depth, channels]
            write_array(folder / f"sparse_grid_{name}_{i:03d}", part, extension)
    for name, channels in plane_groups.items():
        for i in range(3):
            write_array(folder / f"plane_{name}_{i}", scene.planes[i][..., channels], extension)


def write_manifest(root: Path, **keys) -> None:
    """Write ``manifest.json`` with the hashes of all files below ``root``."""
    files = {
        path.relative_to(root).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    (root / "manifest.json").write_text(json.dumps({"version": "1.0", "files": files, **keys}))


def write_pair(root: Path) -> None:
    """Write two submodels of a 2^3 partition (regions 3 and 7), red and blue."""
    shared = {
        "num_submodels": 8, "num_local_submodels": 2, "submodel_voxel_size": 1.0, "submodel_scale": 1.6,
        "params_to_sm": [3, 7], "sm_to_params": [-1, -1, -1, 0, -1, -1, -1, 1],
    }  # fmt: skip
    scenes = [make_scene(RED, submodel_idx=3, **shared), make_scene(BLUE, submodel_idx=7, **shared)]
    for scene in scenes:
        folder = root / f"sm_{scene.params['submodel_idx']:03d}"
        write_submodel(folder, scene, [each.network for each in scenes])


def look_at(origin, target) -> np.ndarray:
    """Camera-to-world 4x4 in training axes, z up."""
    back = np.asarray(origin, float) - np.asarray(target, float)
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(back, right), back, origin], 1)
    return matrix


def sample(grid: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Multilinear interpolation at sample coordinates (N, axes), clamped at the edge."""
    axes = position.shape[1]
    position = np.clip(position, 0, np.array(grid.shape[:axes]) - 1)
    low = np.minimum(np.floor(position).astype(int), np.array(grid.shape[:axes]) - 2)
    frac = position - low
    out = 0
    for corner in np.ndindex(*[2] * axes):
        weight = np.prod(np.where(corner, frac, 1 - frac), axis=1)
        out = out + weight[:, None] * grid[tuple((low + corner).T)]
    return out


def oracle(
    scene: TinyScene, camera: np.ndarray, fov_degrees: float, size: tuple[int, int], pixels
) -> np.ndarray:
    """Colours (N, 3) in [0, 1] of (column, row) pixels, for rays that meet content in the core cube only."""
    width, height = size
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    focal = height / 2 / np.tan(np.radians(fov_degrees) / 2)
    features = lambda bytes_: RANGE_FEATURES[0] + bytes_ / 255 * (RANGE_FEATURES[1] - RANGE_FEATURES[0])  # noqa: E731
    densities = lambda bytes_: RANGE_DENSITY[0] + bytes_ / 255 * (RANGE_DENSITY[1] - RANGE_DENSITY[0])  # noqa: E731
    colours = []
    for column, row in pixels:
        ray = np.array([(column + 0.5 - width / 2) / focal, (height / 2 - row - 0.5) / focal, -1.0])
        d_training = camera[:3, :3] @ (ray / np.linalg.norm(ray))
        d = VIEWER_FROM_TRAINING @ d_training
        origin = VIEWER_FROM_TRAINING @ camera[:3, 3]
        step = 1 / 64
        points = origin + (0.2 + np.arange(0, 4, step))[:, None] * d
        points = points[abs(points).max(1) <= 1]
        inputs, visibility = np.zeros(14), 1.0
        if len(points):
            sparse = sample(scene.sparse.astype(float), (points + 2) * S / 4 - 0.5)
            planes = sum(
                sample(scene.planes[p].astype(float), (points[:, axes] + 2) * T / 4 - 0.5)
                for p, axes in enumerate(([1, 2], [0, 2], [0, 1]))
            )
            plane_features = 3 * RANGE_FEATURES[0] + planes[:, :7] / 255 * (
                RANGE_FEATURES[1] - RANGE_FEATURES[0]
            )
            plane_density = 3 * RANGE_DENSITY[0] + planes[:, 7] / 255 * (RANGE_DENSITY[1] - RANGE_DENSITY[0])
            gate = features(sparse[:, 7:8])
            coarse = features(sparse[:, [0, 1, 2, 3, 4, 5, 7]])
            sigma = np.exp(densities(sparse[:, 6]) + gate[:, 0] * plane_density - 1)
            alpha = 1 - np.exp(-sigma * step)
            before = np.concatenate([[1], np.cumprod(1 - alpha)])
            weights = (before[:-1] * alpha)[:, None]
            visibility = before[-1]
            inputs = np.concatenate(
                [
                    (weights * sigmoid(coarse + gate * plane_features)).sum(0),
                    (weights * sigmoid(coarse)).sum(0),
                ]
            )
        diffuse = inputs[:3].copy()
        inputs[:3] += visibility * 0.5
        angles = np.concatenate([d_training * 2**k for k in range(4)])
        value = np.concatenate([inputs, d_training, np.sin(angles), np.cos(angles)])
        for i, (kernel, bias) in enumerate(scene.network):
            value = value @ kernel + bias
            value = np.maximum(value, 0) if i < 2 else sigmoid(value)
        colours.append(np.clip(diffuse + value, 0, 1))
    return np.array(colours)
