"""A hash-grid field evaluated on intervals of rays, with multisampling: density alone, or density and colour.

The form of Zip-NeRF (arXiv 2304.06706, section 3): the density network's outputs feed a view branch, and one scale
feature a level tells the networks how far the level is faded. Letters: R rays, S samples, L levels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from smerf.fields import accelerators
from smerf.fields.hash_field import initial_network, initial_table
from smerf.fields.rays import Rays
from smerf.fields.rendering import density_activation
from smerf.kernels import (
    DIRECTION_WIDTHS,
    Frustums,
    HashSpec,
    encode_directions,
    initial_params,
    mlp,
    multisample_encode,
    radiance_head,
)

__all__ = ["GridField"]

# Range of the table's first values: what a level that has learnt nothing counts for in its scale feature.
_FIRST_RANGE = 1e-4


class GridField(nn.Module):
    """One hash grid with its networks; ``colour_width`` 0 makes a density field.

    Parameters are those of ``smerf.teacher.config.FieldConfig``. ``backend`` is ``own`` or ``tcnn``.
    """

    def __init__(
        self,
        grid: HashSpec,
        width: int,
        geometry: int,
        colour_width: int,
        colour_layers: int,
        *,
        directions: str = "spherical",
        colour_skip: bool = False,
        scale_features: bool = False,
        backend: str = "own",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.grid, self.directions, self.has_skip, self.has_scales = (
            grid,
            directions,
            colour_skip,
            scale_features,
        )
        self.has_colour, self.backend = colour_width > 0, backend
        inputs = grid.width + (grid.level_count if scale_features else 0)
        self.density_dims = (inputs, width, geometry if self.has_colour else 1)
        self.table = self.encoder = None
        if backend == "own":
            self.table = nn.Parameter(initial_table(grid, generator))
            self.density_network = nn.Parameter(initial_network(self.density_dims, generator))
        else:
            self.encoder = accelerators.tcnn_grid(grid)
            self.density_network = accelerators.tcnn_network(self.density_dims)
        self.register_buffer("level_scales", torch.full((grid.level_count,), _FIRST_RANGE))
        if not self.has_colour:
            return
        seen = geometry + DIRECTION_WIDTHS[directions]
        hidden = (seen, *[colour_width] * colour_layers)
        if colour_skip:
            self.colour_dims, self.last_dims = hidden, (colour_width + seen, 3)
            self.last_network = nn.Parameter(initial_params(self.last_dims, generator))
        else:
            self.colour_dims = (*hidden, 3)
        if backend == "own":
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
            self.level_scales[level] = torch.sqrt(_FIRST_RANGE**2 + mean)

    def features(self, rays: Rays, edges: Tensor, frustums: Frustums) -> Tensor:
        """Encode intervals (R, S + 1): (R * S, inputs of the density network)."""
        scales = self.level_scales if self.has_scales else None
        args = rays.origins, rays.directions, edges, rays.radii
        if self.encoder is not None:
            return accelerators.tcnn_encode(self.encoder, *args, self.grid, frustums, scales)
        return multisample_encode(*args, self.table, self.grid, frustums, scales)

    def _network(self, x: Tensor, network: nn.Parameter | nn.Module, dims: tuple[int, ...]) -> Tensor:
        return network(x).float() if isinstance(network, nn.Module) else mlp(x, network, dims)

    def density(self, rays: Rays, edges: Tensor, frustums: Frustums) -> Tensor:
        """Return the densities (R, S) of intervals (R, S + 1)."""
        raw = self._network(self.features(rays, edges, frustums), self.density_network, self.density_dims)
        return density_activation(raw[:, 0]).view(len(rays), edges.shape[1] - 1)

    def forward(
        self, rays: Rays, edges: Tensor, frustums: Frustums, affine: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return densities (R, S) and colours (R, S, 3) in (0, 1) of intervals (R, S + 1).

        ``affine`` holds a factor and an offset (R, geometry) of what the view branch reads from the density
        network.
        """
        features = self.features(rays, edges, frustums)
        samples = edges.shape[1] - 1
        directions = encode_directions(rays.directions, self.directions)
        is_plain = affine is None and not self.has_skip and self.backend == "own"
        if is_plain and not directions.requires_grad:
            raw_density, raw_colour = radiance_head(
                features,
                directions,
                self.density_network,
                self.density_dims,
                self.colour_network,
                self.colour_dims,
            )
        else:
            geometry = self._network(features, self.density_network, self.density_dims)
            raw_density = geometry[:, 0]
            raw_colour = self._colour(geometry, directions, samples, affine)
        density = density_activation(raw_density).view(len(rays), samples)
        return density, torch.sigmoid(raw_colour).view(len(rays), samples, 3)

    def _colour(
        self, geometry: Tensor, directions: Tensor, samples: int, affine: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Return raw colours (R * S, 3) from the density network's outputs (R * S, geometry)."""
        if affine is not None:
            factor, offset = (part.repeat_interleave(samples, 0) for part in affine)
            geometry = geometry * factor + offset
        seen = torch.cat([geometry, directions.repeat_interleave(samples, 0)], -1)
        colour = self._network(seen, self.colour_network, self.colour_dims)
        if not self.has_skip:
            return colour
        return mlp(torch.cat([torch.relu(colour), seen], -1), self.last_network, self.last_dims)
