"""The Python face of the native kernels: one function a kernel, a plain PyTorch reference beside each."""

from smerf.kernels.grid_render import Grids, GridSpec, grid_adam_, grid_mark, grid_read, grid_render
from smerf.kernels.hash_encoding import HashSpec, hash_encode
from smerf.kernels.mlp import initial_params, mlp, param_count, radiance_head
from smerf.kernels.optimiser import sparse_adam_
from smerf.kernels.ray_points import ray_points

__all__ = [
    "GridSpec",
    "Grids",
    "HashSpec",
    "grid_adam_",
    "grid_mark",
    "grid_read",
    "grid_render",
    "hash_encode",
    "initial_params",
    "mlp",
    "param_count",
    "radiance_head",
    "ray_points",
    "sparse_adam_",
]
