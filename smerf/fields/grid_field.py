"""A hash-grid field evaluated on intervals of rays, with multisampling: density alone, or density and colour.

The form of Zip-NeRF (arXiv 2304.06706, section 3): the density network's outputs feed a view branch, and one scale
feature a level tells the networks how far the level is faded. Letters: R rays, S samples, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from smerf.fields import accelerators
from smerf.fields.rays import Rays
from smerf.fields.rendering import density_activation
from smerf.kernels import (
    DIRECTION_WIDTHS,
    Frustums,
    HashSpec,
    encode_directions,
    hash_encode,
    initial_params,
    mlp,
    multisample_encode,
    radiance_head,
)

__all__ = ["FieldConfig", "GridField"]

# Range of the table's first values, which is also the scale feature of an untrained level.
_INITIAL_RANGE = 1e-4
# Raw density of an untrained field: about one opacity over the reach of the cameras, so that surfaces form early.
_INITIAL_RAW_DENSITY = 2.0
_MAX_WIDTH = 4096


@dataclass(frozen=True)
class FieldConfig:
    """A hash grid with its networks (``colour_width`` 0 makes a density-only proposal field)."""

    grid: HashSpec
    """Resolution levels over contracted space."""
    width: int
    """Hidden width of the density network."""
    geometry: int = 16
    """Outputs of the density network that the colour network reads, density included."""
    colour_width: int = 0
    """Hidden width of the colour network."""
    colour_layers: int = 1
    """Hidden layers of the colour network."""
    directions: Literal["spherical", "sinusoidal"] = "spherical"
    """Encoding of the view direction."""
    colour_skip: bool = False
    """Whether the colour network's last layer reads its input once more."""

    def __post_init__(self) -> None:
        for name, low in (("width", 1), ("geometry", 1), ("colour_width", 0), ("colour_layers", 1)):
            value = getattr(self, name)
            if not low <= value <= _MAX_WIDTH:
                raise ValueError(f"{name}: expected {low} to {_MAX_WIDTH}, got {value}")


def _initial_network(dims: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return random parameters of a network whose output 0, the raw density, starts low."""
    params = initial_params(dims, generator)
    params[-dims[-1]] = _INITIAL_RAW_DENSITY
    return params


def _initial_table(grid: HashSpec, generator: torch.Generator) -> Tensor:
    """Return a table (entries, features) of small random values."""
    values = torch.rand(grid.entry_count, grid.features, generator=generator)
    return (values * 2.0 - 1.0) * _INITIAL_RANGE


class GridField(nn.Module):
    """One hash grid with its networks."""

    table: nn.Parameter | None
    """Entries (entries, features); None where tiny-cuda-nn holds them."""
    density_network: nn.Parameter | nn.Module
    colour_network: nn.Parameter | nn.Module
    level_scales: Tensor
    """Size of each level's values (L,), which the scale features carry."""

    def __init__(
        self,
        shape: FieldConfig,
        generator: torch.Generator,
        *,
        scale_features: bool = False,
        backend: Literal["own", "tcnn"] = "own",
    ) -> None:
        """Make an untrained field; ``backend`` is who evaluates the encoding and the networks."""
        super().__init__()
        self.shape, self.grid = shape, shape.grid
        self.has_scales, self.has_colour, self.backend = scale_features, shape.colour_width > 0, backend
        inputs = self.grid.width + (self.grid.level_count if scale_features else 0)
        self.density_dims = (inputs, shape.width, shape.geometry if self.has_colour else 1)
        self.table, self.encoder = None, None
        if backend == "own":
            self.table = nn.Parameter(_initial_table(self.grid, generator))
            self.density_network = nn.Parameter(_initial_network(self.density_dims, generator))
        else:
            self.encoder = accelerators.tcnn_grid(self.grid)
            self.density_network = accelerators.tcnn_network(self.density_dims)
        self.register_buffer("level_scales", torch.full((self.grid.level_count,), _INITIAL_RANGE))
        if self.has_colour:
            self._make_colour_network(generator)

    def _make_colour_network(self, generator: torch.Generator) -> None:
        shape = self.shape
        inputs = shape.geometry + DIRECTION_WIDTHS[shape.directions]
        self.colour_dims: tuple[int, ...] = (inputs, *[shape.colour_width] * shape.colour_layers)
        if shape.colour_skip:
            self.last_dims = (shape.colour_width + inputs, 3)
            self.last_network = nn.Parameter(initial_params(self.last_dims, generator))
        else:
            self.colour_dims = (*self.colour_dims, 3)
        if self.backend == "own":
            self.colour_network = nn.Parameter(initial_params(self.colour_dims, generator))
        else:
            self.colour_network = accelerators.tcnn_network(self.colour_dims)

    @torch.no_grad()
    def update_scales(self) -> None:
        """Measure the size of each level's values, which the scale features carry."""
        if self.table is None or not self.has_scales:
            return
        for level, (offset, _, size) in enumerate(self.grid.levels()):
            mean = self.table[offset : offset + size].square().mean()
            self.level_scales[level] = torch.sqrt(_INITIAL_RANGE**2 + mean)

    def features(self, rays: Rays, edges: Tensor, frustums: Frustums) -> Tensor:
        """Encode intervals (R, S + 1): (R * S, inputs of the density network)."""
        scales = self.level_scales if self.has_scales else None
        args = rays.origins, rays.directions, edges, rays.radii
        if self.encoder is not None:
            return accelerators.tcnn_encode(self.encoder, *args, self.grid, frustums, scales)
        assert self.table is not None
        return multisample_encode(*args, self.table, self.grid, frustums, scales)

    def _network(self, x: Tensor, network: nn.Parameter | nn.Module, dims: tuple[int, ...]) -> Tensor:
        if isinstance(network, nn.Module):
            values: Tensor = network(x)
            return values.float()
        return mlp(x, network, dims)

    def density(self, rays: Rays, edges: Tensor, frustums: Frustums) -> Tensor:
        """Return the densities (R, S) of intervals (R, S + 1)."""
        raw = self._network(self.features(rays, edges, frustums), self.density_network, self.density_dims)
        return density_activation(raw[:, 0]).view(len(rays), edges.shape[1] - 1)

    def density_at(self, x: Tensor) -> Tensor:
        """Return the densities (N,) at points (N, 3) of the grid's own unit cube, without fading any level."""
        if self.encoder is not None:
            features = self.encoder(x).float()
        else:
            assert self.table is not None
            features = hash_encode(x, self.table, self.grid)
        if self.has_scales:
            features = torch.cat([features, self.level_scales.expand(len(x), -1)], -1)
        return density_activation(self._network(features, self.density_network, self.density_dims)[:, 0])

    def forward(
        self, rays: Rays, edges: Tensor, frustums: Frustums, affine: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return densities (R, S) and colours (R, S, 3) in (0, 1) of intervals (R, S + 1).

        ``affine`` holds a factor and an offset (R, geometry) of what the view branch reads from the density
        network.
        """
        features = self.features(rays, edges, frustums)
        samples = edges.shape[1] - 1
        directions = encode_directions(rays.directions, self.shape.directions)
        density, colour = self.density_network, self.colour_network
        is_plain = affine is None and not self.shape.colour_skip and not directions.requires_grad
        if is_plain and isinstance(density, Tensor) and isinstance(colour, Tensor):
            raw_density, raw_colour = radiance_head(
                features, directions, density, self.density_dims, colour, self.colour_dims
            )
        else:
            geometry = self._network(features, density, self.density_dims)
            raw_density = geometry[:, 0]
            raw_colour = self._colour(geometry, directions, samples, affine)
        shape = len(rays), samples
        return density_activation(raw_density).view(shape), torch.sigmoid(raw_colour).view(*shape, 3)

    def _colour(
        self, geometry: Tensor, directions: Tensor, samples: int, affine: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Return raw colours (R * S, 3) from the density network's outputs (R * S, geometry)."""
        if affine is not None:
            factor, offset = (part.repeat_interleave(samples, 0) for part in affine)
            geometry = geometry * factor + offset
        inputs = torch.cat([geometry, directions.repeat_interleave(samples, 0)], -1)
        colour = self._network(inputs, self.colour_network, self.colour_dims)
        if not self.shape.colour_skip:
            return colour
        return mlp(torch.cat([torch.relu(colour), inputs], -1), self.last_network, self.last_dims)
