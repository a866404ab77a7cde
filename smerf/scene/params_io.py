"""``scene_params.json`` and ``deferred_mlp.json``: parsing with checks, and the complete objects for viewers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from smerf.errors import InvalidDataError
from smerf.scene.arrays import ARRAY_FORMATS
from smerf.scene.fields import is_number
from smerf.scene.types import SceneParams

__all__ = ["Layout", "check_mlp", "mlp_to_json", "params_to_json", "parse_mlp", "parse_params"]

_LAYERS = (0, 1, 2)
_MAX_EDGE = 8192
"""Largest resolution that is believed; beyond it a file is damaged, and allocating for it would exhaust memory."""
_MAX_BLOCKS = 1024
"""Macroblocks per axis."""
_MAX_VOXELS = 1 << 30
"""Voxels of an atlas, eight bytes each."""
_MAX_RANGE = 1e4
"""Largest bound of a quantisation range; exp of it is beyond any float."""


@dataclass(frozen=True)
class Layout:
    """How one submodel's folder stores its arrays (the keys that may differ between submodels)."""

    atlas_size: tuple[int, int, int]
    num_slices: int
    array_format: str
    is_separate: bool
    is_padded: bool
    is_sliced: bool
    is_packed: bool
    has_legacy_names: bool
    has_separate_mlp: bool
    region: int | None


class _Reader:
    """Typed access to a scene_params object; every complaint names the file and the key."""

    def __init__(self, value: dict[str, Any], where: str) -> None:
        self.value, self.where = value, where

    def fail(self, message: str) -> InvalidDataError:
        return InvalidDataError(f"{self.where}: {message}")

    def whole(self, key: str, default: int | None = None, low: int = 1, high: int = 1 << 16) -> int:
        value = self.value.get(key, default)
        if value is None:
            raise self.fail(f"key {key!r} is missing")
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not low <= value <= high
            or value != int(value)
        ):
            raise self.fail(f"{key!r} must be a whole number in {low} .. {high}, got {str(value)[:80]}")
        return int(value)

    def number(self, key: str) -> float:
        if key not in self.value:
            raise self.fail(f"key {key!r} is missing")
        value = self.value[key]
        if not is_number(value):
            raise self.fail(f"{key!r} must be a finite number, got {str(value)[:80]}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.value.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(f"{key!r} must be true or false, got {value!r}")
        return value

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.value.get(key)
        if value is None:
            return default
        if value not in choices:
            raise self.fail(f"{key!r} must be one of {', '.join(choices)}, got {value!r}")
        return value

    def bounds(self, key: str) -> tuple[float, float]:
        value = self.value.get(key)
        if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
            if -_MAX_RANGE <= value[0] < value[1] <= _MAX_RANGE:
                return float(value[0]), float(value[1])
        raise self.fail(
            f"{key!r} must be [min, max] with min < max within {_MAX_RANGE:g}, got {str(value)[:80]}"
        )


def parse_params(value: dict[str, Any], where: str) -> tuple[SceneParams, Layout]:
    """Split a scene_params object into what is shared and how this folder stores its arrays.

    Raises InvalidDataError, prefixed with ``where``, for a missing key, a wrong type or an impossible
    combination.
    """
    read = _Reader(value, where)
    triplane = read.whole("triplane_resolution", low=2, high=_MAX_EDGE)
    sparse = read.whole("sparse_grid_resolution", high=_MAX_EDGE)
    block = read.whole("data_block_size")
    if sparse % block:
        raise read.fail(f"'data_block_size' {block} does not divide 'sparse_grid_resolution' {sparse}")
    if sparse // block > _MAX_BLOCKS:
        raise read.fail(f"'data_block_size' {block}: more than {_MAX_BLOCKS} blocks per axis")
    for key, size in (("triplane_voxel_size", triplane), ("sparse_grid_voxel_size", sparse)):
        if key in value and not math.isclose(read.number(key), 4.0 / size, rel_tol=1e-5):
            raise read.fail(f"{key!r} is {value[key]}, expected {4.0 / size}")
    regions = read.whole("num_submodels", 1)
    edge = round(regions ** (1 / 3))
    if edge**3 != regions:
        raise read.fail(f"'num_submodels' {regions} is not a cube")
    live = value.get("params_to_sm")
    if live is None and regions == 1:
        live = [0]
    if (
        not isinstance(live, list)
        or not live
        or any(type(v) is not int or not 0 <= v < regions for v in live)
    ):
        raise read.fail(f"'params_to_sm' must list region indices in 0 .. {regions - 1}, got {live!r}")
    if len(set(live)) != len(live):
        raise read.fail("'params_to_sm' lists a region twice")
    scale = read.number("submodel_scale") if "submodel_scale" in value or len(live) > 1 else 1.0
    if not 1e-6 <= scale <= 1e6:
        raise read.fail(f"'submodel_scale' must be positive and at most 1e6, got {scale}")
    exposure = None if value.get("default_exposure") is None else read.number("default_exposure")
    if exposure is not None and exposure < 0:
        raise read.fail(f"'default_exposure' must not be negative, got {exposure}")
    combine = value.get("merge_features_combine_op") or "sum"
    if not isinstance(combine, str):
        raise read.fail(f"'merge_features_combine_op' must be a string, got {combine!r}")
    params = SceneParams(
        triplane_resolution=triplane,
        sparse_grid_resolution=sparse,
        data_block_size=block,
        range_features=read.bounds("range_features"),
        range_density=read.bounds("range_density"),
        submodel_grid_resolution=edge,
        submodel_scale=scale,
        params_to_sm=tuple(live),
        activation=read.choice("activation", "elu", ("elu", "relu")),
        feature_gating=read.flag("feature_gating", True),
        deferred_rendering_mode="vfr" if value.get("deferred_rendering_mode") == "vfr" else "snerg",
        merge_features_combine_op=combine,
        default_exposure=exposure or None,
        background=_parse_colour(value.get("backgroundColor"), where),
    )
    width, height, depth = (
        read.whole(f"atlas_{axis}", high=_MAX_EDGE) for axis in ("width", "height", "depth")
    )
    atlas = (width, height, depth)
    slices = read.whole("num_slices")
    for axis, size in zip(("width", "height", "depth"), atlas):
        if size % (block + 1):
            raise read.fail(f"'atlas_{axis}' {size} is not a multiple of {block + 1}")
    if math.prod(atlas) > _MAX_VOXELS:
        raise read.fail(f"an atlas of {atlas} voxels is larger than {_MAX_VOXELS}")
    if atlas[2] % slices:
        raise read.fail(f"'num_slices' {slices} does not divide 'atlas_depth' {atlas[2]}")
    layout = Layout(
        atlas_size=atlas,
        num_slices=slices,
        array_format=read.choice("export_array_format", "png", ARRAY_FORMATS),
        is_separate=read.flag("export_store_rgb_and_density_separately", False),
        is_padded=read.flag("export_pad_occupancy_and_distance_grids", True),
        is_sliced=read.flag("export_slice_occupancy_and_distance_grids", True),
        is_packed=read.flag("useBits", False),
        has_legacy_names=read.flag("legacyGrids", False),
        has_separate_mlp=read.flag("export_store_deferred_mlp_separately", False),
        region=None if value.get("submodel_idx") is None else read.whole("submodel_idx", low=0),
    )
    return params, layout


def _parse_colour(value: Any, where: str) -> tuple[float, float, float] | None:
    if value is None:
        return None
    digits = value[1:] if isinstance(value, str) and value.startswith("#") else ""
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    try:
        if len(digits) != 6:
            raise ValueError
        r, g, b = (int(digits[i : i + 2], 16) / 255.0 for i in (0, 2, 4))
        return r, g, b
    except ValueError:
        raise InvalidDataError(
            f"{where}: 'backgroundColor' must look like '#808080', got {value!r}"
        ) from None


def params_to_json(
    params: SceneParams, region: int, atlas_size: tuple[int, int, int], num_slices: int, array_format: str
) -> dict[str, Any]:
    """Return the complete scene_params object of one submodel, as the official viewer needs it."""
    edge = params.submodel_grid_resolution
    value: dict[str, Any] = {
        "triplane_resolution": params.triplane_resolution,
        "triplane_voxel_size": params.triplane_voxel_size,
        "sparse_grid_resolution": params.sparse_grid_resolution,
        "sparse_grid_voxel_size": params.sparse_grid_voxel_size,
        "data_block_size": params.data_block_size,
        "range_features": list(params.range_features),
        "range_density": list(params.range_density),
        "merge_features_combine_op": params.merge_features_combine_op,
        "deferred_rendering_mode": params.deferred_rendering_mode,
        "activation": params.activation,
        "feature_gating": params.feature_gating,
        "default_exposure": params.default_exposure,
        "num_submodels": edge**3,
        "num_local_submodels": len(params.params_to_sm),
        "submodel_voxel_size": 2.0 / edge,
        "submodel_scale": params.submodel_scale,
        "params_to_sm": list(params.params_to_sm),
        "sm_to_params": list(params.sm_to_params),
        "submodel_idx": region,
        "atlas_width": atlas_size[0],
        "atlas_height": atlas_size[1],
        "atlas_depth": atlas_size[2],
        "num_slices": num_slices,
        "slice_depth": atlas_size[2] // num_slices,
        "export_array_format": array_format,
        "export_store_rgb_and_density_separately": True,
        "export_pad_occupancy_and_distance_grids": False,
        "export_slice_occupancy_and_distance_grids": True,
        "export_store_deferred_mlp_separately": True,
        "useBits": True,
        "useDistanceGrid": True,
    }
    if params.background is not None:
        rgb = [min(255, max(0, round(255 * c))) for c in params.background]
        value["backgroundColor"] = "#{:02x}{:02x}{:02x}".format(*rgb)
    return value


def check_mlp(params: SceneParams, mlp: dict[str, np.ndarray], where: str) -> None:
    """Check names, shapes and values of a network in lattice form, or raise InvalidDataError with ``where``."""
    wanted = {f"ResampleDense_{i}/{part}" for i in _LAYERS for part in ("kernel", "bias")}
    missing = sorted(wanted - set(mlp))
    if missing:
        raise InvalidDataError(f"{where}: the network lacks {', '.join(missing)}")
    unknown = sorted(set(mlp) - wanted)
    if unknown:
        raise InvalidDataError(f"{where}: the network has the unknown parts {', '.join(unknown)}")
    first = mlp["ResampleDense_0/kernel"]
    grid = first.shape[1] if first.ndim == 6 else 0
    lattice = (len(params.params_to_sm), grid, grid, grid)
    width = params.num_mlp_inputs
    for i in _LAYERS:
        kernel, bias = mlp[f"ResampleDense_{i}/kernel"], mlp[f"ResampleDense_{i}/bias"]
        out = bias.shape[-1] if bias.ndim == 5 else 0
        if kernel.shape != (*lattice, width, out) or bias.shape != (*lattice, out) or not kernel.size:
            raise InvalidDataError(
                f"{where}: layer {i} has kernel {kernel.shape} and bias {bias.shape}, expected "
                f"(K, G, G, G, in, out) with K={lattice[0]} and in={width}, and (K, G, G, G, out)"
            )
        if i < 2 and out % 4:
            raise InvalidDataError(f"{where}: layer {i} has {out} units, which is not a multiple of 4")
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise InvalidDataError(f"{where}: layer {i} holds NaN or infinite values")
        width = out
    if width != 3:
        raise InvalidDataError(f"{where}: the last layer has {width} outputs, expected 3")


def parse_mlp(params: SceneParams, value: Any, where: str) -> dict[str, np.ndarray]:
    """Read the network object into lattice form, float32; plain ``Dense_i`` layers become a lattice of one vertex."""
    if not isinstance(value, dict):
        raise InvalidDataError(f"{where}: the network must be an object, got {type(value).__name__}")
    prefix = "ResampleDense" if "ResampleDense_0/kernel" in value else "Dense"
    mlp = {}
    for i in _LAYERS:
        for part in ("kernel", "bias"):
            name = f"{prefix}_{i}/{part}"
            array = _parse_tensor(value.get(name), f"{where}: {name}")
            if prefix == "Dense":
                if array.ndim != (2 if part == "kernel" else 1):
                    raise InvalidDataError(f"{where}: {name} has shape {array.shape}")
                array = np.broadcast_to(array, (len(params.params_to_sm), 1, 1, 1, *array.shape))
            mlp[f"ResampleDense_{i}/{part}"] = array
    check_mlp(params, mlp, where)
    return mlp


def _parse_tensor(value: Any, where: str) -> np.ndarray:
    if not isinstance(value, dict) or "shape" not in value or "data" not in value:
        raise InvalidDataError(f"{where} is missing or has no 'shape' and 'data'")
    shape, data = value["shape"], value["data"]
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise InvalidDataError(f"{where}: 'shape' must be a list of whole numbers, got {shape!r}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(data, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InvalidDataError(f"{where}: 'data' must be a flat list of numbers") from None
    if array.ndim != 1 or array.size != math.prod(shape):
        raise InvalidDataError(f"{where}: {array.size} values for shape {shape}")
    return array.reshape(shape)


def mlp_to_json(mlp: dict[str, np.ndarray]) -> bytes:
    """Return ``deferred_mlp.json``. Numbers are the shortest that read back to the same float32."""
    parts = []
    for name in sorted(mlp):
        array = np.asarray(mlp[name], np.float32)
        numbers = ",".join(array.ravel().astype("U16").tolist())
        parts.append(f'{json.dumps(name)}:{{"shape":{json.dumps(list(array.shape))},"data":[{numbers}]}}')
    return ("{" + ",".join(parts) + "}").encode()


def sm_folder(region: int) -> str:
    """Return the folder name of a region's submodel."""
    return f"sm_{region:03d}"
