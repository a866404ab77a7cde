"""Optional accelerators of the teacher on CUDA: tiny-cuda-nn's encodings and networks, and nerfacc's sampling.

Nothing here is imported until a config asks for it. Both packages follow conventions of their own: a field trained with
``tcnn`` can't be read with ``own``, or the other way round.
"""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from smerf.errors import MissingPartError
from smerf.kernels import Frustums, HashSpec
from smerf.kernels.reference.hash_encoding import level_fade
from smerf.kernels.reference.multisample import frustum_points, scale_features

__all__ = ["nerfacc_sample", "require_accelerator", "tcnn_encode", "tcnn_grid", "tcnn_network"]

_HINTS = {
    "tinycudann": (
        "install it on the GPU machine with `pip install --no-build-isolation "
        "git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch`, or set teacher.backend=own"
    ),
    "nerfacc": "install it with `pip install nerfacc`, or set teacher.sampler=own",
}


def require_accelerator(name: str) -> ModuleType:
    """Import ``tinycudann`` or ``nerfacc``.

    Raises:
        MissingPartError: If there is no GPU, or the package is absent or unusable; the message says how to fix it.
    """
    if not torch.cuda.is_available():
        raise MissingPartError(f"{name}: runs on NVIDIA GPUs alone, and there is none here; {_HINTS[name]}")
    try:
        return importlib.import_module(name)
    # tiny-cuda-nn raises EnvironmentError where it finds no device that it was built for.
    except (ImportError, OSError) as error:
        raise MissingPartError(f"{name}: can't be imported ({error}); {_HINTS[name]}") from error


def tcnn_grid(grid: HashSpec) -> nn.Module:
    """Return tiny-cuda-nn's hash encoding with the levels of ``grid``, points (N, 3) in [0, 1] to (N, L * F)."""
    tcnn = require_accelerator("tinycudann")
    steps = max(1, grid.level_count - 1)
    config = {
        "otype": "HashGrid",
        "n_levels": grid.level_count,
        "n_features_per_level": grid.features,
        "log2_hashmap_size": grid.log2_size,
        "base_resolution": grid.base,
        "per_level_scale": math.exp(math.log(grid.finest / grid.base) / steps),
    }
    encoding: nn.Module = tcnn.Encoding(3, config, dtype=torch.float32)
    return encoding


def tcnn_network(dims: tuple[int, ...]) -> nn.Module:
    """Return a ReLU network without biases with these layer widths: fused where the width allows it."""
    tcnn = require_accelerator("tinycudann")
    width = dims[1] if len(dims) > 2 else 64
    config = {
        "otype": "FullyFusedMLP" if width in (16, 32, 64, 128) else "CutlassMLP",
        "activation": "ReLU",
        "output_activation": "None",
        "n_neurons": width,
        "n_hidden_layers": max(1, len(dims) - 2),
    }
    network: nn.Module = tcnn.Network(dims[0], dims[-1], config)
    return network


def tcnn_encode(
    encoder: nn.Module,
    origins: Tensor,
    directions: Tensor,
    edges: Tensor,
    radii: Tensor,
    grid: HashSpec,
    frustums: Frustums,
    level_scales: Tensor | None,
) -> Tensor:
    """Encode intervals as ``smerf.kernels.multisample_encode`` does, with tiny-cuda-nn's grid."""
    x, sigma = frustum_points(origins, directions, edges.detach(), radii, frustums)
    values = encoder(x.reshape(-1, 3)).float().view(*sigma.shape, grid.level_count, grid.features)
    fades = torch.stack([level_fade(sigma.detach(), n) for n in grid.resolutions()], -1)
    features = (values * fades[..., None]).mean(1).flatten(1)
    if level_scales is None:
        return features
    return torch.cat([features, scale_features(sigma, grid, level_scales)], -1)


def nerfacc_sample(edges: Tensor, weights: Tensor, samples: int, is_random: bool, mix: float) -> Tensor:
    """Sample intervals as ``smerf.kernels.importance_sample`` does, with nerfacc's kernel: (R, samples + 1)."""
    nerfacc: Any = require_accelerator("nerfacc")
    pdf = importlib.import_module("nerfacc.pdf")
    structures = importlib.import_module("nerfacc.data_specs")
    del nerfacc
    total = weights.sum(-1, keepdim=True)
    density = (1.0 - mix) * weights / total.clamp_min(1e-8) + (mix + (total < 1e-8) * 1.0) * edges.diff(
        dim=-1
    )
    cdf = torch.nn.functional.pad(torch.cumsum(density / density.sum(-1, keepdim=True), -1), (1, 0))
    intervals = structures.RayIntervals(vals=edges.contiguous())
    found, _ = pdf.importance_sampling(intervals, cdf, samples, stratified=is_random)
    intervals_found: Tensor = found.vals
    return intervals_found.clamp(0.0, 1.0)
