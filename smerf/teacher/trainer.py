"""Fitting the teacher to photos."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from smerf.capture import content_scale
from smerf.capture.types import Capture
from smerf.engine import distributed
from smerf.engine.device import fast_products
from smerf.fields.ray_bank import RayBank, RayBatch
from smerf.fields.rays import Spacing
from smerf.fields.rendering import charbonnier, distortion_loss, interlevel_loss
from smerf.fields.sampling import resample
from smerf.kernels import sparse_adam_
from smerf.teacher.cached import CachedTraining, distortion_distance
from smerf.teacher.config import TeacherConfig
from smerf.teacher.draws import RowDraws
from smerf.teacher.general import build_teacher, require_table_memory
from smerf.teacher.objective import GeneralObjective

__all__ = ["TeacherTrainer", "spacing_of"]


def spacing_of(capture: Capture, config: TeacherConfig | None = None) -> Spacing:
    """Return the ray spacing of a capture: linear where its content is bounded, else the config's power ladder."""
    ladder = (config.spacing_power, config.spacing_scale) if config else ()
    return Spacing(capture.near, capture.far, capture.bounded, *ladder)


class TeacherTrainer:
    """The state of a training: model, optimiser moments, step and random generator."""

    def __init__(self, capture: Capture, config: TeacherConfig, device: str = "cpu") -> None:
        if config.scene_scale is None:
            config = replace(config, scene_scale=content_scale(capture))
        ladder = config.spacing_power, config.spacing_scale
        if (
            device != "cpu"
            or distributed.this_process().world_size > 1
            or config.multisamples
            or ladder != (-1.5, 2.0)
        ):
            # The cache serves one process on a CPU, in the usual spacing: elsewhere the proposal field does.
            config = replace(config, cache_resolution=0)
        require_table_memory(config, 4, device)
        self.config, self.share = config, distributed.this_process()
        self.white = capture.background == "white"
        frames = capture.split("train")
        self.bank = RayBank(frames, device)
        background = 1.0 if self.white else 0.5
        self.model = build_teacher(
            config, spacing_of(capture, config), background, len(frames), [f.exposure for f in frames]
        ).to(device)
        self.objective = None
        if config.multisamples:
            self.objective = GeneralObjective(self.model, frames, self.white).to(device)
        self.generator = torch.Generator().manual_seed(config.seed + 1)
        self.step = 0
        self.mean_square = 1.0
        fields = self.model.grid_fields
        self._grids = [(field.table, field.grid) for field in fields if field.table is not None]
        self._tables = [table for table, _ in self._grids]
        self._moments = [(torch.zeros_like(t), torch.zeros_like(t)) for t in self._tables]
        self._updates = [0 for _ in self._tables]
        self._collect_networks()
        self._cached = None
        if config.cache_resolution:
            self._cached = CachedTraining(self.model, self.bank, self._adam, self._moments[0])

    def _collect_networks(self) -> None:
        """Give everything that is no table to one Adam, the cameras in a group with a rate of their own."""
        parts = [*self.model.parameters(), *(self.objective.parameters() if self.objective else ())]
        cameras = (
            list(self.objective.cameras.parameters()) if self.objective and self.objective.cameras else []
        )
        others = [p for p in parts if all(p is not known for known in (*self._tables, *cameras))]
        self._networks = [*others, *cameras]
        groups = [{"params": others, "is_camera": False}]
        if cameras:
            groups.append({"params": cameras, "is_camera": True})
        self._adam = torch.optim.Adam(groups, lr=self.config.network_lr, betas=(0.9, 0.99), eps=1e-15)

    def learning_rate(self) -> float:
        """Return the factor of the learning rates at this step: warm-up, then log-linear decay."""
        fraction = self.step / max(1, self.config.steps)
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return warm * self.config.final_lr**fraction

    def _camera_rate(self) -> float:
        fraction = self.step / max(1, self.config.steps)
        return self.config.camera_lr * min(1.0, 10.0 * fraction) * 0.1**fraction

    def _mix(self) -> float:
        config = self.config
        fraction = min(1.0, self.step / max(1.0, config.mix_fraction * config.steps))
        return config.mix_start + (config.mix_end - config.mix_start) * fraction

    def _anneal(self) -> float:
        fraction = min(1.0, self.step / max(1.0, self.config.anneal_fraction * self.config.steps))
        return 10.0 * fraction / (9.0 * fraction + 1.0)

    def _learns_proposal(self) -> bool:
        return self.step < 0.1 * self.config.steps or self.step % self.config.proposal_every == 0

    def losses(self, batch: RayBatch) -> dict[str, Tensor]:
        """Return the weighted losses of a batch; their sum is what is minimised."""
        if self._cached:
            return self._cached.losses(batch, self.generator, self.step, self._mix())
        config, model, rays = self.config, self.model, batch.rays
        learns_proposal = self._learns_proposal()
        if self.objective:
            model.update_scales()
            losses, square = self.objective(
                model, batch, RowDraws(self.generator, self.share, config.rays),
                mix=self._mix(), anneal=self._anneal(), learns_proposals=learns_proposal,
            )  # fmt: skip
            self.mean_square = float(distributed.average(square))
            return losses
        with torch.set_grad_enabled(learns_proposal):
            outer_edges, outer_weights = model.propose(rays, self.generator)
        annealed = (outer_weights.detach() + 1e-9) ** self._anneal()
        s_edges = resample(outer_edges, annealed, config.samples, self.generator, self._mix())
        middle = model.spacing.t_from_s(0.5 * (s_edges[:, 1:] + s_edges[:, :-1]))
        scale = (middle / (config.near_gradient * model.spacing.near)).square().clamp_max(1.0)
        edges, weights, colour, _ = model.march(rays, s_edges, None if self.white else scale)
        background = torch.rand(len(rays), 3, generator=self.generator).to(colour.device)
        rest = 1.0 - weights.sum(-1, keepdim=True)
        truth = batch.colours * batch.alpha + (1.0 - batch.alpha) * background
        error = colour + rest * background - truth
        self.mean_square = float(error.detach().square().mean())
        losses = {"colour": charbonnier(error, config.charbonnier)}
        losses["distortion"] = config.distortion_weight * distortion_loss(distortion_distance(edges), weights)
        if learns_proposal:
            losses["interlevel"] = config.interlevel_weight * interlevel_loss(
                s_edges, weights, outer_edges, outer_weights
            )
        return losses

    @fast_products()
    def advance(self) -> dict[str, float]:
        """Take one optimiser step and return its losses."""
        if self._cached:
            losses = self._cached.advance(self.generator, self.step, self._mix(), self.learning_rate())
            self.mean_square = self._cached.mean_square
            self.step, self._updates[0] = self.step + 1, self._updates[0] + 1
            return losses
        rows = self.share.rows(self.config.rays)
        batch = self.bank.sample(self.config.rays, self.generator, rows)
        losses = self.losses(batch)
        for parameter in (*self._tables, *self._networks):
            parameter.grad = None
        sum(losses.values()).backward()
        distributed.average_gradients((*self._tables, *self._networks))
        rate = self.learning_rate()
        for group in self._adam.param_groups:
            group["lr"] = self._camera_rate() if group["is_camera"] else rate * self.config.network_lr
        for parameter in self._networks:
            if parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        self._adam.step()
        for i in range(len(self._tables)):
            self._update_table(i, rate * self.config.table_lr)
        self.step += 1
        return distributed.average_values({name: value.detach() for name, value in losses.items()})

    def _update_table(self, i: int, lr: float) -> None:
        """Update one hash table, each level with its own pull towards zero."""
        (table, grid), (first, second) = self._grids[i], self._moments[i]
        if table.grad is None:
            return
        self._updates[i] += 1
        parts = [(slice(None), self.config.hash_decay)]
        if self.config.level_decay:
            # The slope of level_decay * mean(V^2) over a level.
            parts = [
                (slice(start, start + size), 2.0 * self.config.level_decay / (size * grid.features))
                for start, _, size in grid.levels()
            ]
        for rows, decay in parts:
            sparse_adam_(
                table.data[rows], table.grad[rows], first[rows], second[rows], step=self._updates[i], lr=lr,
                decay=decay,
            )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that resuming needs, by name."""
        result = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for i, (first, second) in enumerate(self._moments):
            result[f"table.{i}.first"], result[f"table.{i}.second"] = first, second
        for i, parameter in enumerate(self._networks):
            for name, value in self._adam.state.get(parameter, {}).items():
                result[f"network.{i}.{name}"] = torch.as_tensor(value)
        if self.objective:
            result |= {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        if self._cached:
            result |= {f"sampler.{name}": value for name, value in self._cached.sampler.tensors().items()}
        result["generator"] = self.generator.get_state()
        return result

    def state(self) -> dict[str, object]:
        """Return the counters that belong to ``tensors``."""
        return {"step": self.step, "updates": list(self._updates)}

    def restore(self, tensors: dict[str, Tensor], state: dict) -> None:
        """Continue from saved ``tensors`` and ``state``."""
        prefix = "model."
        self.model.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        if self.objective:
            part = "objective."
            self.objective.load_state_dict(
                {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
            )
        for i, (first, second) in enumerate(self._moments):
            first.copy_(tensors[f"table.{i}.first"])
            second.copy_(tensors[f"table.{i}.second"])
        for i, parameter in enumerate(self._networks):
            names = [k.rsplit(".", 1)[1] for k in tensors if k.startswith(f"network.{i}.")]
            if names:
                # Adam counts its steps on the CPU, wherever the parameters are.
                self._adam.state[parameter] = {
                    name: tensors[f"network.{i}.{name}"].to(
                        "cpu" if name == "step" else parameter.device, copy=True
                    )
                    for name in names
                }
        if self._cached:
            self._cached.restored(tensors)
        self.generator.set_state(tensors["generator"])
        self.step, self._updates = int(state["step"]), [int(n) for n in state["updates"]]

    def run(
        self,
        *,
        report: Callable[[int, dict[str, float]], None] | None = None,
        save: Callable[[], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[int]:
        """Train to the last step, yielding each step number; saves in between and when asked to stop."""
        saved = time.monotonic()
        while self.step < self.config.steps:
            losses = self.advance()
            losses["psnr"] = -10.0 * math.log10(max(self.mean_square, 1e-10))
            if report:
                report(self.step, losses)
            yield self.step
            stopping = stop is not None and stop()
            if self.share.world_size > 1:
                # All processes leave at the same step; they ask each other now and then.
                stopping = self.step % 10 == 0 and distributed.any_process(stopping)
            if save and (stopping or time.monotonic() - saved > self.config.checkpoint_seconds):
                save()
                saved = time.monotonic()
            if stopping:
                return
