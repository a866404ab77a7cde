"""The hash form of the student: vertices encoded, decoded and quantised at once, and the way back.

The face of ``cuda/include/smerf/vertices.h``. Rendering reads the bytes (``grid_render``) and leaves its gradients in
the vertices' records, where the way back finds them: together, corner positions to gated features.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from smerf.kernels import abi, native
from smerf.kernels.mlp import param_count
from smerf.kernels.records import hash_levels, layer_widths
from smerf.kernels.reference import vertex_decode as reference
from smerf.kernels.types import BLOCK, Grids, VertexDecoder, Vertices

__all__ = ["decode_vertices_", "vertex_gradients_"]


def _check(grids: Grids, vertices: Vertices, table: Tensor, network: Tensor, decoder: VertexDecoder) -> None:
    device = grids.voxels.device
    native.check("voxels", vertices.voxels, torch.int64, (None,), device)
    native.check("texels", vertices.texels, torch.int64, (None,), device)
    native.check("blocks", vertices.blocks, torch.int32, (len(grids.voxels) // BLOCK**3, 3), device)
    native.check("table", table, torch.float32, (decoder.spec.entry_count, decoder.spec.features), device)
    native.check("network", network, torch.float32, (param_count(decoder.dims),), device)


def _records(
    grids: Grids, vertices: Vertices, table: Tensor, network: Tensor, decoder: VertexDecoder
) -> tuple[ctypes.Structure, ctypes.Structure]:
    """Return the kernels' ``VertexList`` and ``VertexDecoder``."""
    chosen = abi.record(
        "VertexList",
        voxels=vertices.voxels.contiguous(),
        texels=vertices.texels.contiguous(),
        voxel_count=len(vertices.voxels),
        texel_count=len(vertices.texels),
        blocks=vertices.blocks.contiguous(),
        voxel_resolution=grids.spec.voxel_resolution,
        plane_resolution=grids.spec.plane_resolution,
    )
    return chosen, abi.record(
        "VertexDecoder",
        levels=hash_levels(decoder.spec),
        table=table.detach().contiguous(),
        params=network.detach().contiguous(),
        dims=layer_widths(decoder.dims),
        level_count=decoder.spec.level_count,
        features=decoder.spec.features,
        layers=len(decoder.dims) - 1,
        gain=decoder.gain,
    )


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
    records = _records(grids, vertices, table, network, decoder)
    backend.call("smerf_vertex_decode_forward", *records, grids.voxels, grids.planes)


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
    grad_table, grad_network = torch.zeros_like(table), torch.zeros_like(network)
    ranges = [high - low for low, high in (grids.spec.density_range, grids.spec.feature_range)]
    scratch = None
    if backend.kind == "cuda":
        scratch = table.new_empty(max(1, _scratch_floats(backend, decoder)))
    backend.call(
        "smerf_vertex_decode_backward", *_records(grids, vertices, table, network, decoder), grids.voxel_records,
        grids.plane_records, *ranges, grad_table, grad_network, scratch,
    )  # fmt: skip
    return grad_table, grad_network


def _scratch_floats(backend: native.Backend, decoder: VertexDecoder) -> int:
    """Return the floats of scratch memory that CUDA's backward pass needs; -1 if it does not take the network."""
    spec = decoder.spec
    return int(
        backend.query(
            "smerf_vertex_decode_scratch", layer_widths(decoder.dims), len(decoder.dims) - 1, spec.level_count,
            spec.features,
        )
    )  # fmt: skip


def _backend(grids: Grids, decoder: VertexDecoder) -> native.Backend | None:
    """Return what runs the kernel, or None for the reference."""
    backend = native.backend(grids.voxels, "smerf_vertex_decode_forward")
    if backend is None or backend.kind == "cpu":
        return backend
    return backend if _scratch_floats(backend, decoder) >= 0 else None
