"""Objects on the way of the reference's rays: what is hidden, what is lit, and whose a pixel is. Letter: N samples."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.render.assets import sample_ids
from smerf.scene.objects import id_table
from smerf.scene.types import BakedSubmodel, SceneParams
from smerf.scene.view import HIGHLIGHT_SHARE, MarchOptions

__all__ = ["ObjectMarch"]


class ObjectMarch:
    """What a set of rays meets of objects.

    Args:
        submodel: With ids.
        params: The scene's parameters.
        options: Says what is hidden and lit.
        count: Rays in all.
    """

    def __init__(
        self, submodel: BakedSubmodel, params: SceneParams, options: MarchOptions, count: int
    ) -> None:
        self.submodel, self.params = submodel, params
        self.is_hidden = torch.from_numpy(id_table(options.hidden)).bool()
        self.is_lit = torch.from_numpy(id_table(options.lit)).bool()
        self.lit, self._weights = torch.zeros(count), torch.zeros(count, 256)
        self._ids = torch.zeros(0, dtype=torch.long)

    def visible(self, positions: Tensor, alpha: Tensor) -> Tensor:
        """Return the opacities (N,) of samples at contracted positions (N, 3), 0 for those of hidden objects."""
        self._ids = sample_ids(self.submodel, self.params, positions)
        return torch.where(self.is_hidden[self._ids], 0.0, alpha)

    def add(self, rays: Tensor, weight: Tensor) -> None:
        """Add the weights (N,) of the samples seen last to their rays (N,)."""
        self._weights[rays, self._ids] += weight
        self.lit[rays] += torch.where(self.is_lit[self._ids], HIGHLIGHT_SHARE * weight, 0.0)

    def owner(self, visibility: Tensor) -> Tensor:
        """Return the id with the greatest part of each ray, int64; the visibility that is left belongs to none."""
        self._weights[:, 0] += visibility
        return self._weights.argmax(1)
