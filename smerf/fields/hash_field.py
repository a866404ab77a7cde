"""A hash grid with small networks: density alone, or density and colour."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from smerf.fields.directions import SPHERICAL_WIDTH
from smerf.fields.rendering import density_activation
from smerf.kernels import HashSpec, hash_encode, initial_params, mlp, radiance_head

__all__ = ["DensityField", "RadianceField", "initial_network", "initial_table"]


# Raw density of an untrained field: about one opacity over the reach of the cameras, so that surfaces
# form early.
_INITIAL_RAW_DENSITY = 2.0


def initial_network(dims: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw a network whose output 0, the raw density, starts low."""
    params = initial_params(dims, generator)
    params[-dims[-1]] = _INITIAL_RAW_DENSITY
    return params


def initial_table(grid: HashSpec, generator: torch.Generator) -> Tensor:
    """Draw a table (entries, features) of small values."""
    return (torch.rand(grid.entry_count, grid.features, generator=generator) * 2.0 - 1.0) * 1e-4


class DensityField(nn.Module):
    """Density alone; proposal networks are made of it."""

    def __init__(self, grid: HashSpec, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.grid = grid
        self.dims = (grid.width, width, 1)
        self.table = nn.Parameter(initial_table(grid, generator))
        self.network = nn.Parameter(initial_network(self.dims, generator))

    def forward(self, x: Tensor, sigma: Tensor | None) -> Tensor:
        """Return densities (N,) at points (N, 3) in [0, 1]^3 with footprints (N,)."""
        features = hash_encode(x, self.table, self.grid, sigma)
        return density_activation(mlp(features, self.network, self.dims)[:, 0])


class RadianceField(nn.Module):
    """Density and view-dependent colour."""

    def __init__(
        self,
        grid: HashSpec,
        width: int,
        geometry: int,
        colour_width: int,
        colour_layers: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.density_dims = (grid.width, width, geometry)
        self.colour_dims = (geometry + SPHERICAL_WIDTH, *[colour_width] * colour_layers, 3)
        self.table = nn.Parameter(initial_table(grid, generator))
        self.density_network = nn.Parameter(initial_network(self.density_dims, generator))
        self.colour_network = nn.Parameter(initial_params(self.colour_dims, generator))

    def forward(self, x: Tensor, sigma: Tensor | None, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return densities (R * S,) and colours (R * S, 3) in (0, 1).

        ``x`` (R * S, 3) holds the samples of a ray in a row; ``directions`` (R, 16) are encoded.
        """
        features = hash_encode(x, self.table, self.grid, sigma)
        raw_density, raw_colour = radiance_head(
            features,
            directions,
            self.density_network,
            self.density_dims,
            self.colour_network,
            self.colour_dims,
        )
        return density_activation(raw_density), torch.sigmoid(raw_colour)

    @torch.no_grad()
    def density(self, x: Tensor) -> Tensor:
        """Return densities (N,) at points (N, 3) in [0, 1]^3, without fading any level."""
        features = hash_encode(x, self.table, self.grid)
        return density_activation(mlp(features, self.density_network, self.density_dims)[:, 0])
