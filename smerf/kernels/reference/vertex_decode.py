"""The hash form of the student in plain PyTorch: the specification of the native kernel.

Encode the vertices' positions, decode them with a network, quantise; and the way back. See
``cuda/include/smerf/vertices.h`` and SMERF (arXiv 2312.07541, section 5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels.reference.hash_encoding import hash_encode
from smerf.kernels.reference.mlp import mlp
from smerf.kernels.types import Grids, VertexDecoder, Vertices
from smerf.kernels.vertices import texel_positions, voxel_positions

__all__ = ["decode_vertices_", "positions", "vertex_gradients_"]

_CHUNK = 65536


def positions(grids: Grids, vertices: Vertices) -> Tensor:
    """Return where vertices lie (V + T, 3), in contracted space scaled to [0, 1]^3, on viewer axes."""
    voxels = voxel_positions(grids.spec, vertices.blocks.long(), vertices.voxels)
    return torch.cat([voxels, texel_positions(grids.spec, vertices.texels)]) / 4.0 + 0.5


def _logits(x: Tensor, table: Tensor, network: Tensor, decoder: VertexDecoder) -> Tensor:
    return mlp(decoder.gain * hash_encode(x, table, decoder.spec), network, decoder.dims)


@torch.no_grad()
def decode_vertices_(
    grids: Grids, vertices: Vertices, table: Tensor, network: Tensor, decoder: VertexDecoder
) -> None:
    """Write the bytes of vertices; see ``smerf.kernels.decode_vertices_``."""
    parts = [_logits(x, table, network, decoder) for x in positions(grids, vertices).split(_CHUNK)]
    values = torch.round(255.0 * torch.sigmoid(torch.cat(parts))).to(torch.uint8)
    grids.voxels[vertices.voxels] = values[: len(vertices.voxels)]
    grids.planes[vertices.texels] = values[len(vertices.voxels) :]


def vertex_gradients_(
    grids: Grids, vertices: Vertices, table: Tensor, network: Tensor, decoder: VertexDecoder
) -> tuple[Tensor, Tensor]:
    """Carry the records' gradients on; see ``smerf.kernels.vertex_gradients_``."""
    spec = grids.spec
    upstream = torch.cat([grids.voxel_records[vertices.voxels, :8], grids.plane_records[vertices.texels, :8]])
    grids.voxel_records[vertices.voxels, :8] = 0.0
    grids.plane_records[vertices.texels, :8] = 0.0
    widths = [high - low for low, high in (spec.density_range, *7 * (spec.feature_range,))]
    table, network = table.detach().requires_grad_(), network.detach().requires_grad_()
    grad_table, grad_network = torch.zeros_like(table), torch.zeros_like(network)
    with torch.enable_grad():
        for x, up in zip(positions(grids, vertices).split(_CHUNK), upstream.split(_CHUNK)):
            logits = _logits(x, table, network, decoder)
            share = torch.sigmoid(logits.detach())
            # Rounding to a byte counts as the identity.
            slope = up * torch.tensor(widths, device=up.device) * share * (1.0 - share)
            slope = torch.where(torch.isfinite(slope), slope, 0.0)
            found = torch.autograd.grad(logits, (table, network), slope)
            grad_table += found[0]
            grad_network += found[1]
    return grad_table, grad_network
