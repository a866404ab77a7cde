"""The optimisers of a teacher: sparse Adam for the hash tables, one Adam for everything else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from smerf.engine.adam_state import pack_adam, restore_adam
from smerf.fields.grid_field import GridField
from smerf.kernels import native, sparse_adam_
from smerf.teacher.config import TeacherConfig
from smerf.teacher.losses import Objective
from smerf.teacher.model import FieldTeacher

__all__ = ["TeacherOptimiser"]


class TeacherOptimiser:
    """Moments and update counts of all parameters of a teacher and its objective."""

    def __init__(self, model: FieldTeacher, objective: Objective, config: TeacherConfig) -> None:
        self.config = config
        self._fields = [field for field in model.grid_fields if field.table is not None]
        self._tables = [_table(field) for field in self._fields]
        self.moments = [(torch.zeros_like(table), torch.zeros_like(table)) for table in self._tables]
        """First and second moments of each table, the radiance field's first."""
        self.updates = [0] * len(self._tables)
        for tensor in (each for pair in self.moments for each in pair):
            if tensor.device.type == "cpu":
                native.use_large_pages(tensor)
        cameras = list(objective.cameras.parameters()) if objective.cameras else []
        known = {id(parameter) for parameter in (*self._tables, *cameras)}
        others = [p for part in (model, objective) for p in part.parameters() if id(p) not in known]
        self._networks: list[Tensor] = [*others, *cameras]
        groups = [{"params": others, "is_camera": False}]
        if cameras:
            groups.append({"params": cameras, "is_camera": True})
        self._adam = torch.optim.Adam(groups, lr=config.network_lr, betas=(0.9, 0.99), eps=1e-15)

    @property
    def parameters(self) -> list[Tensor]:
        """Return everything that is trained."""
        return [*self._tables, *self._networks]

    def clear(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, rate: float, camera_lr: float, half_table: Tensor | None = None) -> None:
        """Move every parameter that has a gradient.

        Args:
            rate: Factor of the learning rates.
            camera_lr: Learning rate of the cameras.
            half_table: The radiance field's table in half floats, kept up to date where it is given.
        """
        for group in self._adam.param_groups:
            group["lr"] = camera_lr if group["is_camera"] else rate * self.config.network_lr
        for parameter in self._networks:
            if parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        self._adam.step()
        for i in range(len(self._tables)):
            self.update_table(i, rate * self.config.table_lr, half_table if i == 0 else None)

    def update_table(self, i: int, lr: float, half: Tensor | None = None) -> None:
        """Update one hash table, each level with its own pull towards zero."""
        table, grid, (first, second) = self._tables[i], self._fields[i].grid, self.moments[i]
        if table.grad is None:
            return
        self.updates[i] += 1
        parts = [(slice(None), self.config.hash_decay)]
        if self.config.level_decay:
            # The slope of level_decay * mean(V^2) over a level.
            parts = [
                (slice(start, start + size), 2.0 * self.config.level_decay / (size * grid.features))
                for start, _, size in grid.levels()
            ]
        for rows, decay in parts:
            sparse_adam_(
                table.data[rows], table.grad[rows], first[rows], second[rows], step=self.updates[i], lr=lr,
                decay=decay, half=None if half is None else half[rows],
            )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """Return all moments by name."""
        result = pack_adam("network", self._adam, self._networks)
        for i, (first, second) in enumerate(self.moments):
            result[f"table.{i}.first"], result[f"table.{i}.second"] = first, second
        return result

    def restore(self, tensors: dict[str, Tensor], updates: list[int]) -> None:
        """Continue from what ``tensors`` returned."""
        for i, (first, second) in enumerate(self.moments):
            first.copy_(tensors[f"table.{i}.first"])
            second.copy_(tensors[f"table.{i}.second"])
        restore_adam("network", self._adam, self._networks, tensors)
        self.updates = [int(count) for count in updates]


def _table(field: GridField) -> nn.Parameter:
    assert field.table is not None
    return field.table
