"""The Python face of the native kernels: one file a kernel, with a plain PyTorch reference in ``reference``.

The fused steps (``student_step``, ``teacher_step``) have the composition of their parts as reference.
"""

from smerf.kernels.appearance import appearance
from smerf.kernels.block_samples import block_samples
from smerf.kernels.directions import encode_directions
from smerf.kernels.distance_grid import distance_grid
from smerf.kernels.grid_render import grid_adam_, grid_mark, grid_read, grid_render
from smerf.kernels.hash_encoding import hash_encode
from smerf.kernels.importance_sample import importance_sample
from smerf.kernels.interlevel import blurred_interlevel
from smerf.kernels.mark_alive import mark_alive_
from smerf.kernels.mlp import initial_params, mlp, param_count, radiance_head
from smerf.kernels.multisample import multisample_encode
from smerf.kernels.optimiser import sparse_adam_
from smerf.kernels.ray_points import ray_points
from smerf.kernels.types import (
    BLOCK,
    DIRECTION_WIDTHS,
    Frustums,
    Grids,
    GridSpec,
    HashSpec,
    Spacing,
    VertexDecoder,
    Vertices,
)
from smerf.kernels.vertex_decode import decode_vertices_, vertex_gradients_
from smerf.kernels.volume_render import Rendering, volume_render

__all__ = [
    "BLOCK",
    "DIRECTION_WIDTHS",
    "Frustums",
    "GridSpec",
    "Grids",
    "HashSpec",
    "Rendering",
    "Spacing",
    "VertexDecoder",
    "Vertices",
    "appearance",
    "block_samples",
    "blurred_interlevel",
    "decode_vertices_",
    "distance_grid",
    "encode_directions",
    "grid_adam_",
    "grid_mark",
    "grid_read",
    "grid_render",
    "hash_encode",
    "importance_sample",
    "initial_params",
    "mark_alive_",
    "mlp",
    "multisample_encode",
    "param_count",
    "radiance_head",
    "ray_points",
    "sparse_adam_",
    "vertex_gradients_",
    "volume_render",
]
