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
from smerf.fields.ray_bank import RayBank, RayBatch
from smerf.fields.rays import Spacing
from smerf.fields.rendering import charbonnier, distortion_loss, interlevel_loss
from smerf.fields.sampling import resample
from smerf.kernels import sparse_adam_
from smerf.teacher.cached import CachedTraining
from smerf.teacher.config import TeacherConfig
from smerf.teacher.model import HashTeacher

__all__ = ["TeacherTrainer", "spacing_of"]


def spacing_of(capture: Capture) -> Spacing:
    """Return the ray spacing of a capture: linear where its content is bounded."""
    return Spacing(capture.near, capture.far, linear=capture.bounded)


def _distortion_distance(t: Tensor) -> Tensor:
    """Compress distances before the distortion loss, so that haze far away costs little: 5/3 (1 - (0.8 t + 1)^-1.5)."""
    return 5.0 / 3.0 * (1.0 - (0.8 * t + 1.0) ** -1.5)


class TeacherTrainer:
    """The state of a training: model, optimiser moments, step and random generator."""

    def __init__(self, capture: Capture, config: TeacherConfig) -> None:
        if config.scene_scale is None:
            config = replace(config, scene_scale=content_scale(capture))
        self.config = config
        self.white = capture.background == "white"
        self.model = HashTeacher(config, spacing_of(capture), 1.0 if self.white else 0.5)
        self.bank = RayBank(capture.split("train"))
        self.generator = torch.Generator().manual_seed(config.seed + 1)
        self.step = 0
        self.mean_square = 1.0
        self._tables = [self.model.field.table]
        if self.model.cache is None:
            self._tables.append(self.model.proposal.table)
        self._networks = [p for p in self.model.parameters() if all(p is not t for t in self._tables)]
        self._moments = [(torch.zeros_like(t), torch.zeros_like(t)) for t in self._tables]
        self._updates = [0 for _ in self._tables]
        self._adam = torch.optim.Adam(self._networks, lr=config.network_lr, betas=(0.9, 0.99), eps=1e-15)
        self._cached = None
        if self.model.cache is not None:
            self._cached = CachedTraining(self.model, self.bank, self._adam, self._moments[0])

    def learning_rate(self) -> float:
        """Return the factor of the learning rates at this step: warm-up, then log-linear decay."""
        fraction = self.step / max(1, self.config.steps)
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return warm * self.config.final_lr**fraction

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
        with torch.set_grad_enabled(learns_proposal):
            outer_edges, outer_weights = model.propose(rays, self.generator)
        annealed = (outer_weights.detach() + 1e-9) ** self._anneal()
        s_edges = resample(outer_edges, annealed, config.samples, self.generator, self._mix())
        middle = model.spacing.t_from_s(0.5 * (s_edges[:, 1:] + s_edges[:, :-1]))
        scale = (middle / (config.near_gradient * model.spacing.near)).square().clamp_max(1.0)
        edges, weights, colour, _ = model.march(rays, s_edges, None if self.white else scale)
        background = torch.rand(len(rays), 3, generator=self.generator)
        rest = 1.0 - weights.sum(-1, keepdim=True)
        truth = batch.colours * batch.alpha + (1.0 - batch.alpha) * background
        error = colour + rest * background - truth
        self.mean_square = float(error.detach().square().mean())
        losses = {"colour": charbonnier(error, config.charbonnier)}
        losses["distortion"] = config.distortion_weight * distortion_loss(
            _distortion_distance(edges), weights
        )
        if learns_proposal:
            losses["interlevel"] = config.interlevel_weight * interlevel_loss(
                s_edges, weights, outer_edges, outer_weights
            )
        return losses

    def advance(self) -> dict[str, float]:
        """Take one optimiser step and return its losses."""
        if self._cached:
            losses = self._cached.advance(self.generator, self.step, self._mix(), self.learning_rate())
            self.mean_square = self._cached.mean_square
            self.step, self._updates[0] = self.step + 1, self._updates[0] + 1
            return losses
        batch = self.bank.sample(self.config.rays, self.generator)
        losses = self.losses(batch)
        for parameter in self.model.parameters():
            parameter.grad = None
        sum(losses.values()).backward()
        rate = self.learning_rate()
        for group in self._adam.param_groups:
            group["lr"] = rate * self.config.network_lr
        for parameter in self._networks:
            if parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        self._adam.step()
        for i, (table, moments) in enumerate(zip(self._tables, self._moments)):
            if table.grad is None:
                continue
            self._updates[i] += 1
            sparse_adam_(
                table.data, table.grad, *moments, step=self._updates[i], lr=rate * self.config.table_lr,
                decay=self.config.hash_decay,
            )  # fmt: skip
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that resuming needs, by name."""
        result = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for i, (first, second) in enumerate(self._moments):
            result[f"table.{i}.first"], result[f"table.{i}.second"] = first, second
        for i, parameter in enumerate(self._networks):
            for name, value in self._adam.state.get(parameter, {}).items():
                result[f"network.{i}.{name}"] = torch.as_tensor(value)
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
        for i, (first, second) in enumerate(self._moments):
            first.copy_(tensors[f"table.{i}.first"])
            second.copy_(tensors[f"table.{i}.second"])
        for i, parameter in enumerate(self._networks):
            names = [k.rsplit(".", 1)[1] for k in tensors if k.startswith(f"network.{i}.")]
            if names:
                self._adam.state[parameter] = {name: tensors[f"network.{i}.{name}"].clone() for name in names}
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
            if save and (stopping or time.monotonic() - saved > self.config.checkpoint_seconds):
                save()
                saved = time.monotonic()
            if stopping:
                return
