"""March rays through a baked submodel natively: the face of ``cuda/include/smerf/march.h``.

Works on numpy arrays and plain numbers, so that viewers and other stages can use it without torch; on a GPU, on
torch tensors that lie there. The plain reference is ``smerf.render.reference``; ``smerf.render.march`` chooses between
the two.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from smerf.kernels import abi, native

__all__ = [
    "MAX_DEPTHS",
    "MAX_HIDDEN",
    "MarchSettings",
    "is_available",
    "march_rays",
    "march_tensors",
    "sample_assets",
]

MAX_HIDDEN = 64
"""Widest hidden layer of the appearance network that the kernel takes."""
MAX_DEPTHS = 8
"""Most depths of a ray; ``kMaxSpent`` of ``cuda/include/smerf/march_assets.h``."""


@dataclass(frozen=True)
class MarchSettings:
    """What the kernel needs besides arrays; the names are those of ``SceneParams`` and ``MarchOptions``."""

    triplane_resolution: int
    sparse_grid_resolution: int
    data_block_size: int
    range_features: tuple[float, float]
    range_density: tuple[float, float]
    submodel_scale: float
    feature_gating: bool = True
    has_coarse: bool = True
    is_relu: bool = False
    is_vfr: bool = False
    exposure: float | None = None
    background: tuple[float, float, float] = (0.5, 0.5, 0.5)
    near: float = 1.0
    step_multiplier: int = 1
    enlarge_steps_when_occluded: bool = False
    visibility_delay: float = 0.99
    unknown_colours: tuple[tuple[float, float, float], ...] | None = None
    spent: tuple[float, ...] = ()
    hidden: frozenset[int] = frozenset()
    lit: frozenset[int] = frozenset()


def is_available() -> bool:
    """Return whether the native marcher is built and loads here."""
    return native.cpu_backend("smerf_march") is not None


def _backend() -> native.Backend:
    backend = native.cpu_backend("smerf_march")
    if backend is None:
        raise OSError("the native marcher is not built: reinstall with `pip install -e .`")
    return backend


def _scene(
    settings: MarchSettings,
    submodel: Any,
    network: Mapping[str, Any] | None,
    device: Any = None,
    picks: bool = False,
) -> ctypes.Structure:
    """Describe a submodel to the kernel; ``picks`` if objects are asked for even where none is hidden or lit."""
    texels, block = settings.triplane_resolution, settings.data_block_size
    cells, blocks = -(-texels // 8), settings.sparse_grid_resolution // block
    assets = {
        "atlas": (submodel.atlas, (None, None, None, 8)),
        "planes": (submodel.planes, (3, texels, texels, 8)),
        "blocks": (submodel.block_indices, (blocks, blocks, blocks, 3)),
        "distance": (submodel.distance[8], (cells, cells, cells)),
        "occupancy": (submodel.occupancy[8], (cells, cells, cells)),
    }
    fades = settings.unknown_colours is not None
    if fades:
        cells_known = len(submodel.known)
        assets["known"] = (submodel.known, (cells_known, cells_known, cells_known, 4))
    # Without ids the kernel takes its shorter way, to the same picture.
    if submodel.object_ids is not None and (picks or settings.hidden or settings.lit):
        assets["object_ids"] = (submodel.object_ids, tuple(submodel.atlas.shape[:3]))
        assets["object_states"] = (_object_states(settings, device), (256,))
    arrays = {name: _contiguous(name, array, "uint8", shape) for name, (array, shape) in assets.items()}
    layers = _layers(network, 41 if settings.has_coarse else 34) if network is not None else []
    for array in (*arrays.values(), *(part for layer in layers for part in layer)):
        if device is not None and array.device != device:
            raise ValueError(f"submodel, network: expected tensors on {device}, got one on {array.device}")
    (density_low, density_high), (feature_low, feature_high) = settings.range_density, settings.range_features
    red, green, blue = settings.background
    return abi.record(
        "MarchScene",
        **({"known": None, "object_ids": None, "object_states": None} | arrays),
        kernels=[kernel for kernel, _ in layers],
        biases=[bias for _, bias in layers],
        atlas_x=submodel.atlas.shape[0],
        atlas_y=submodel.atlas.shape[1],
        atlas_z=submodel.atlas.shape[2],
        texels=texels,
        num_blocks=blocks,
        block_size=block,
        cells=cells,
        known_cells=len(submodel.known) if fades else 0,
        hidden=[len(bias) for _, bias in layers[:2]],
        is_gated=settings.feature_gating,
        has_coarse=settings.has_coarse,
        is_relu=settings.is_relu,
        is_vfr=settings.is_vfr,
        is_exposed=bool(settings.exposure),
        is_enlarging=settings.enlarge_steps_when_occluded,
        max_steps=settings.step_multiplier * math.ceil(math.sqrt(2.0) * texels),
        voxel=4.0 / texels,
        sparse_voxel=4.0 / settings.sparse_grid_resolution,
        step=4.0 / texels / settings.step_multiplier,
        near=settings.near,
        density_low=density_low,
        density_scale=(density_high - density_low) / 255.0,
        feature_low=feature_low,
        feature_scale=(feature_high - feature_low) / 255.0,
        inv_submodel_scale=1.0 / settings.submodel_scale,
        visibility_delay=settings.visibility_delay,
        log_exposure=math.log(settings.exposure) if settings.exposure else 0.0,
        background=(red, green, blue),
        unknown_colours=sum(settings.unknown_colours or (), ()) or (0.0,) * 9,
        spent_count=len(settings.spent),
        spent=(settings.spent + (0.0,) * MAX_DEPTHS)[:MAX_DEPTHS],
    )


def _object_states(settings: MarchSettings, device: Any) -> Any:
    """Return the states of all ids (256,) uint8, as ``cuda/include/smerf/march_objects.h`` has them."""
    states = np.zeros(256, np.uint8)
    states[list(settings.hidden)] |= 1
    states[list(settings.lit)] |= 2
    if device is None:
        return states
    import torch

    return torch.from_numpy(states).to(device)


def _contiguous(name: str, array: Any, dtype: str, shape: tuple[int | None, ...]) -> Any:
    """Check a numpy array or a torch tensor, and return it in one piece."""
    if isinstance(array, np.ndarray):
        native.check(name, array, np.dtype(dtype), shape)
        return np.ascontiguousarray(array)
    import torch

    native.check(name, array, getattr(torch, dtype), shape)
    return array.contiguous()


def _layers(network: Mapping[str, Any], width: int) -> list[tuple[Any, Any]]:
    """Return the kernel and bias of the three layers behind ``width`` inputs."""
    layers = []
    for i in range(3):
        kernel, bias = network[f"ResampleDense_{i}/kernel"], network[f"ResampleDense_{i}/bias"]
        out = 3 if i == 2 else bias.shape[0]
        if out > MAX_HIDDEN:
            raise ValueError(f"layer {i}: {out} units, the native marcher takes at most {MAX_HIDDEN}")
        layers.append(
            (
                _contiguous(f"layer {i} kernel", kernel, "float32", (width, out)),
                _contiguous(f"layer {i} bias", bias, "float32", (out,)),
            )
        )
        width = out
    return layers


def march_rays(
    settings: MarchSettings,
    submodel: Any,
    network: Mapping[str, np.ndarray],
    origins: np.ndarray,
    directions: np.ndarray,
    width: int = 0,
    depth: np.ndarray | None = None,
    objects: np.ndarray | None = None,
) -> np.ndarray:
    """Render rays through one submodel.

    Args:
        settings: The scene's parameters and the choices of the march.
        submodel: An object with the arrays of ``smerf.scene.BakedSubmodel``.
        network: The six float32 arrays of the appearance network without lattice axes.
        origins: (R, 3) or (1, 3) float32, submodel frame, viewer axes.
        directions: (R, 3) float32, same frame; t = 1 is the near plane. Not zero.
        width: Pixels of a row if the rays are those of a picture, row by row; rays of a tile then run together.
        depth: Filled in if given, (R, D) float32: the world distances at which a ray's visibility falls to each of
            ``settings.spent`` (D, at most 8), 0 where it never does.
        objects: Filled in if given, (R,) uint8: the object with the greatest part of a ray's weight, 0 if none.

    Returns:
        Colours (R, 3) float32, not clamped.

    Raises:
        ValueError: If a shape or dtype is not as stated.
        OSError: If the native library is not there.
    """
    count = len(directions)
    native.check("directions", directions, np.float32, (count, 3))
    native.check("origins", origins, np.float32, (1 if len(origins) == 1 else count, 3))
    if depth is not None:
        if len(settings.spent) > MAX_DEPTHS:
            raise ValueError(f"spent: at most {MAX_DEPTHS} visibilities, got {len(settings.spent)}")
        native.check("depth", depth, np.float32, (count, len(settings.spent)))
    if objects is not None:
        native.check("objects", objects, np.uint8, (count,))
    scene = _scene(settings, submodel, network, picks=objects is not None)
    origins, directions = np.ascontiguousarray(origins), np.ascontiguousarray(directions)
    rgb = np.empty((count, 3), np.float32)
    outputs = rgb, depth, objects
    _backend().call("smerf_march", scene, origins, len(origins) == 1, directions, count, width, *outputs)
    return rgb


def march_tensors(
    settings: MarchSettings,
    submodel: Any,
    network: Mapping[str, Any],
    origins: Any,
    directions: Any,
    width: int = 0,
) -> Any:
    """Render rays through one submodel on a GPU: ``march_rays`` on torch tensors of one CUDA device.

    Args:
        settings: As in ``march_rays``.
        submodel: An object with the arrays of ``smerf.scene.BakedSubmodel`` as uint8 tensors.
        network: The six float32 tensors of the appearance network.
        origins: (R, 3) or (1, 3) float32.
        directions: (R, 3) float32.
        width: Pixels of a row if the rays are those of a picture, row by row; rays of a tile then run together.

    Returns:
        Colours (R, 3) float32, on the device, not clamped.

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
        OSError: If the CUDA library is not there.
    """
    import torch

    count, device = len(directions), directions.device
    native.check("directions", directions, torch.float32, (count, 3))
    native.check("origins", origins, torch.float32, (1 if len(origins) == 1 else count, 3), device)
    backend = native.backend(directions, "smerf_march")
    if backend is None or backend.kind != "cuda":
        raise OSError(f"no native marcher for tensors on {device}: install nvcc and run `pip install -e .`")
    scene = _scene(settings, submodel, network, device)
    origins, directions = origins.contiguous(), directions.contiguous()
    rgb = torch.empty_like(directions)
    outputs = rgb, None, None
    backend.call("smerf_march", scene, origins, len(origins) == 1, directions, count, width, *outputs)
    return rgb


def sample_assets(
    settings: MarchSettings, submodel: Any, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a submodel's arrays at contracted points, before any activation.

    The same as ``smerf.render.reference.sample_assets``: density (N,), fine (N, 7) and coarse (N, 7) from
    points (N, 3) float32; density is -inf and the rest 0 in empty macroblocks.
    """
    count = len(points)
    native.check("points", points, np.float32, (count, 3))
    scene = _scene(settings, submodel, None)
    points = np.ascontiguousarray(points)
    fine, coarse = np.empty((count, 8), np.float32), np.empty((count, 8), np.float32)
    alive = np.empty(count, np.uint8)
    _backend().call("smerf_sample_assets", scene, points, count, fine, coarse, alive)
    return np.where(alive, fine[:, 0], np.float32(-np.inf)), fine[:, 1:], coarse[:, 1:]
