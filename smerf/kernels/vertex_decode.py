"""The hash form of the student: vertices encoded, decoded and quantised at once, and the way back.

The face of ``cuda/include/smerf/vertices.h``. Rendering reads the bytes (``grid_render``) and leaves its gradients in
the vertices' records, where the way back finds them: together, corner positions to gated features.
"""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.hash_encoding import level_records
from smerf.kernels.mlp import param_count
from smerf.kernels.reference import vertex_decode as reference
from smerf.kernels.types import BLOCK, Grids, VertexDecoder, Vertices

__all__ = ["decode_vertices_", "vertex_gradients_"]


class _Vertices(ctypes.Structure):
    _fields_ = [
        ("voxels", ctypes.c_void_p),
        ("texels", ctypes.c_void_p),
        ("voxel_count", ctypes.c_int64),
        ("texel_count", ctypes.c_int64),
        ("blocks", ctypes.c_void_p),
        ("voxel_resolution", ctypes.c_int32),
        ("plane_resolution", ctypes.c_int32),
    ]


class _Decoder(ctypes.Structure):
    _fields_ = [
        ("levels", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("params", ctypes.c_void_p),
        ("dims", ctypes.c_void_p),
        ("level_count", ctypes.c_int32),
        ("features", ctypes.c_int32),
        ("layers", ctypes.c_int32),
        ("gain", ctypes.c_float),
    ]


def _check(grids: Grids, vertices: Vertices, table: Tensor, network: Tensor, decoder: VertexDecoder) -> None:
    device = grids.voxels.device
    native.check("voxels", vertices.voxels, torch.int64, (None,), device)
    native.check("texels", vertices.texels, torch.int64, (None,), device)
    native.check("blocks", vertices.blocks, torch.int32, (len(grids.voxels) // BLOCK**3, 3), device)
    native.check("table", table, torch.float32, (decoder.spec.entry_count, decoder.spec.features), device)
    native.check("network", network, torch.float32, (param_count(decoder.dims),), device)


class _Call:
    """The kernels' structures, and what has to live as long as they do."""

    def __init__(
        self, grids: Grids, vertices: Vertices, table: Tensor, network: Tensor, decoder: VertexDecoder
    ) -> None:
        spec, address = grids.spec, native.pointer
        levels, dims = level_records(decoder.spec), np.asarray(decoder.dims, np.int32)
        rows = [part.contiguous() for part in (vertices.voxels, vertices.texels, vertices.blocks)]
        values = [part.detach().contiguous() for part in (table, network)]
        self._kept = (levels, dims, rows, values)
        self._vertices = _Vertices(
            address(rows[0]), address(rows[1]), len(rows[0]), len(rows[1]), address(rows[2]),
            spec.voxel_resolution, spec.plane_resolution,
        )  # fmt: skip
        self._decoder = _Decoder(
            address(levels), address(values[0]), address(values[1]), address(dims),
            decoder.spec.level_count, decoder.spec.features, len(decoder.dims) - 1, decoder.gain,
        )  # fmt: skip

    def arguments(self) -> tuple:
        """Return the two structures by reference."""
        return ctypes.byref(self._vertices), ctypes.byref(self._decoder)


def decode_vertices_(
    grids: Grids, vertices: Vertices, table: Tensor, network: Tensor, decoder: VertexDecoder
) -> None:
    """Write the bytes of vertices, round(255 sigmoid(z)) of what the encoding and the network say there.

    Args:
        grids: Its bytes are written.
        vertices: Which ones.
        table: Entries (spec.entry_count, spec.features) float32.
        network: Flat parameters (param_count(dims),) float32, as of ``mlp``.
        decoder: The shapes of both.

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
    """
    _check(grids, vertices, table, network, decoder)
    backend = _backend(grids, decoder)
    if backend is None:
        reference.decode_vertices_(grids, vertices, table, network, decoder)
        return
    call = _Call(grids, vertices, table, network, decoder)
    backend.call(
        "smerf_vertex_decode_forward", *call.arguments(), native.pointer(grids.voxels), native.pointer(grids.planes)
    )  # fmt: skip


def vertex_gradients_(
    grids: Grids, vertices: Vertices, table: Tensor, network: Tensor, decoder: VertexDecoder
) -> tuple[Tensor, Tensor]:
    """Carry the gradients in the vertices' records on to the table and the network, and clear them there.

    Rounding to a byte counts as the identity; a gradient that is not finite as zero. The arguments are those of
    ``decode_vertices_``; the grids' touched flags stay.

    Returns:
        Gradients of ``table`` and ``network``, of their shapes. On a GPU the table's does not repeat exactly.

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
    """
    _check(grids, vertices, table, network, decoder)
    backend = _backend(grids, decoder)
    if backend is None:
        return reference.vertex_gradients_(grids, vertices, table, network, decoder)
    call, spec = _Call(grids, vertices, table, network, decoder), grids.spec
    grad_table, grad_network = torch.zeros_like(table), torch.zeros_like(network)
    scratch = _scratch(backend, table, decoder)
    backend.call(
        "smerf_vertex_decode_backward", *call.arguments(), native.pointer(grids.voxel_records),
        native.pointer(grids.plane_records),
        ctypes.c_float(spec.density_range[1] - spec.density_range[0]),
        ctypes.c_float(spec.feature_range[1] - spec.feature_range[0]),
        native.pointer(grad_table), native.pointer(grad_network), *map(native.pointer, scratch),
    )  # fmt: skip
    return grad_table, grad_network


def _scratch(backend: native.Backend, table: Tensor, decoder: VertexDecoder) -> tuple[Tensor, ...]:
    """Return the scratch memory as an argument of CUDA's backward pass; the CPU's takes none."""
    if backend.kind == "cpu":
        return ()
    return (table.new_empty(max(1, _scratch_floats(backend, decoder))),)


def _scratch_floats(backend: native.Backend, decoder: VertexDecoder) -> int:
    """Return the floats of scratch memory that CUDA's backward pass needs; -1 if it does not take the network."""
    function, dims = backend.library.smerf_vertex_decode_scratch, np.asarray(decoder.dims, np.int32)
    function.restype = ctypes.c_int64
    with backend.device_scope():
        return function(
            native.pointer(dims), len(decoder.dims) - 1, decoder.spec.level_count, decoder.spec.features
        )


def _backend(grids: Grids, decoder: VertexDecoder) -> native.Backend | None:
    """Return what runs the kernel, or None for the reference."""
    backend = native.backend(grids.voxels, "smerf_vertex_decode_forward")
    if backend is None or backend.kind == "cpu":
        return backend
    return backend if _scratch_floats(backend, decoder) >= 0 else None
