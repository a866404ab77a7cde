"""Distilling a teacher into the student: a stream of jittered teacher rays, and the optimiser behind it."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from smerf.capture.types import Capture
from smerf.fields.ray_bank import RayBank
from smerf.fields.rendering import charbonnier, distortion_loss
from smerf.kernels import Grids, grid_render
from smerf.kernels.device import restore_generator, scope
from smerf.student.alive import AliveCells
from smerf.student.appearance import AppearanceLattice
from smerf.student.config import StudentConfig
from smerf.student.fused import FusedParameters
from smerf.student.initialise import VoxelVotes, initialise_from_teacher
from smerf.student.model import Student, grid_spec
from smerf.student.parameters import Parameters, make_parameters
from smerf.student.partition import Partition
from smerf.student.patches import patch_dissimilarity
from smerf.student.teacher_rays import TeacherBatch, TeacherRays
from smerf.teacher.model import Teacher

__all__ = ["StudentTrainer"]


def _on_own_device(method: Callable) -> Callable:
    """Let a method of the trainer make its tensors on the trainer's device."""

    @functools.wraps(method)
    def run(self: StudentTrainer, *arguments, **named):
        with scope(self.device):
            return method(self, *arguments, **named)

    return run


class StudentTrainer:
    """The state of a distillation: student, teacher rays, optimiser, step and random generator."""

    def __init__(
        self,
        teacher: Teacher,
        capture: Capture,
        config: StudentConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.device = config, torch.device(device)
        self.teacher = teacher.to(device) if isinstance(teacher, torch.nn.Module) else teacher
        self.white = capture.background == "white"
        self.bank = RayBank(capture.split("train"), device=device)
        self.generator = torch.Generator(device).manual_seed(config.seed + 2)
        self.partition = Partition(1, (0,), config.submodel_scale or teacher.scene_scale)
        self.step = 0
        self.student: Student | None = None
        self.fused = FusedParameters.fit(config, self.device)
        self.parameters: Parameters = (
            FusedParameters() if self.fused else make_parameters(config, len(self.partition.cells), device)
        )
        with scope(self.device):
            self.rays = TeacherRays(
                self.teacher,
                self.bank,
                config.pool,
                patch=config.patch,
                origin_jitter=config.origin_jitter,
                direction_jitter=config.direction_jitter,
                generator=self.generator,
            )
        self.near = capture.near
        self._debt = 0.0
        self.mean_square = 1.0

    @_on_own_device
    def prepare(self, report: Callable[[float, float], None] | None = None) -> None:
        """Fill the pool, find the voxel blocks and start explicit grids from the teacher."""
        config = self.config
        specs = [grid_spec(config, self.partition, k) for k in range(len(self.partition.cells))]
        votes = [VoxelVotes(spec, config.seen_weight) for spec in specs]
        while self.rays.filled < self.rays.size:
            batch = self.rays.renew(32768)
            for vote in votes:
                vote.add(batch)
            if report:
                report(self.rays.filled, self.rays.size)
        grids = [
            Grids.allocate(spec, vote.block_index(config.seen_reach), records=not self.fused)
            for spec, vote in zip(specs, votes)
        ]
        if config.parameterisation == "explicit":
            for one, vote in zip(grids, votes):
                initialise_from_teacher(
                    one,
                    self.teacher,
                    self.bank.centres,
                    config.initial_gate,
                    self.generator,
                    vote.near(config.seen_reach),
                )
        self.parameters.adopt(grids)
        self._adopt(grids)

    def _adopt(self, grids: list[Grids]) -> None:
        network = torch.Generator().manual_seed(self.config.seed + 3)
        with torch.device("cpu"):
            appearance = AppearanceLattice(len(grids), self.config.lattice, self.config.width, network)
        appearance = appearance.to(self.device)
        grey = (1.0, 1.0, 1.0) if self.white else (0.5, 0.5, 0.5)
        self.student = Student(
            self.config,
            self.partition,
            grids,
            appearance,
            grey,
            self.near,
            self.config.tau_end,
            [AliveCells(one.spec) for one in grids],
            self.teacher,
            grey if self.white else None,
        )
        self._adam = torch.optim.Adam(
            appearance.parameters(), lr=self.config.network_lr, betas=(0.9, 0.99), eps=1e-15
        )

    def learning_rate(self) -> float:
        """Return the factor of the learning rates at this step: warm-up, then log-linear decay."""
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return warm * self.config.final_lr ** (self.step / max(1, self.config.steps))

    def tau(self) -> float:
        """Return the culling threshold at this step: none, then a log-linear ramp, then constant."""
        config, share = self.config, self.step / max(1, self.config.steps)
        if share < config.tau_from:
            return 0.0
        ramp = min(1.0, (share - config.tau_from) / max(1e-9, config.tau_until - config.tau_from))
        return config.tau_start * (config.tau_end / config.tau_start) ** ramp

    def _geometry_weight(self) -> float:
        share = self.step / max(1, self.config.steps)
        return self.config.geometry_start + (self.config.geometry_end - self.config.geometry_start) * share

    def losses(self, batch: TeacherBatch, submodel: int) -> dict[str, Tensor]:
        """Return the weighted losses of rays that belong to one submodel."""
        student, rays = self.student, batch.rays
        if self.white:
            background = torch.ones(len(rays), 3)
        else:
            background = torch.rand(len(rays), 3, generator=self.generator)
        if self.fused:
            return self._fused_losses(batch, background, submodel)
        anchor = torch.zeros(1, requires_grad=True)
        self.parameters.provide(submodel, student.grids[submodel], rays, batch.edges)
        features, weights = grid_render(
            student.grids[submodel], anchor, rays.origins, rays.directions, batch.edges, self.tau()
        )
        colour = student.shade(features, weights.sum(-1, keepdim=True), rays, background, submodel)
        if self.step > self.config.alive_from * self.config.steps:
            student.alive[submodel].mark(rays, batch.edges, weights.detach(), self.config.alive_weight)
        rest = (1.0 - batch.weights.sum(-1, keepdim=True)).clamp_min(0.0)
        truth = batch.colour + rest * background
        error = (colour.detach() - truth).square().mean(-1)
        self.mean_square = float(error.mean())
        if batch.rows is not None:
            self.rays.note_errors(batch.rows, error.sqrt())
        losses = {
            "colour": charbonnier(colour - truth),
            "geometry": self._geometry_weight() * (weights - batch.weights).abs().sum(-1).mean(),
        }
        if self.config.patch > 1:
            losses["dssim"] = self.config.dssim_weight * patch_dissimilarity(colour, truth, self.rays.pixels)
        if self.config.distortion_weight > 0.0:
            s_edges = self.teacher.spacing.s_from_t(batch.edges)
            losses["distortion"] = self.config.distortion_weight * distortion_loss(s_edges, weights)
        return losses

    def _fused_losses(self, batch: TeacherBatch, background: Tensor, submodel: int) -> dict[str, Tensor]:
        """Take the grids' part of the step at once; the losses returned have no gradient."""
        losses, weights = self.parameters.advance(
            self.student, submodel, batch, background, step=self.step + 1,
            rate=self.learning_rate() * self.config.grid_lr, tau=self.tau(), geometry_weight=self._geometry_weight(),
        )  # fmt: skip
        if self.step > self.config.alive_from * self.config.steps:
            self.student.alive[submodel].mark(batch.rays, batch.edges, weights, self.config.alive_weight)
        self.mean_square = float(losses[:, 2].mean())
        if batch.rows is not None:
            self.rays.note_errors(batch.rows, losses[:, 2].sqrt())
        return {"colour": losses[:, 0].mean(), "geometry": losses[:, 1].mean()}

    @_on_own_device
    def advance(self) -> dict[str, float]:
        """Take one optimiser step and return its losses."""
        config = self.config
        self._debt += config.rays / config.uses
        chunk = min(16384, config.pool)
        while self._debt >= chunk:
            self._debt -= max(len(self.rays.renew(chunk).rays), chunk // 8)
        batch = self.rays.sample(config.rays)
        self._adam.zero_grad(set_to_none=True)
        totals: dict[str, float] = {}
        owner = self.partition.assign(batch.rays.origins)
        for k in owner.unique().tolist():
            here = owner == k
            share = float(here.float().mean())
            losses = self.losses(batch if share == 1.0 else batch[here], k)
            if not self.fused:
                (sum(losses.values()) * share).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + share * float(value.detach())
        rate = self.learning_rate()
        for group in self._adam.param_groups:
            group["lr"] = rate * config.network_lr
        self._adam.step()
        self.step += 1
        self.parameters.learn(self.student.grids, self.step, rate * config.grid_lr)
        return totals

    @_on_own_device
    def finish(self, report: Callable[[float, float], None] | None = None) -> None:
        """Complete the grids, and mark what fresh teacher rays see of them, for baking."""
        self.parameters.finish(self.student.grids)
        size = min(32768, self.config.alive_rays)
        count = self.config.alive_rays // size
        for i in range(count):
            batch = self.rays.fresh(size)
            owner = self.partition.assign(batch.rays.origins)
            for k, (grids, alive) in enumerate(zip(self.student.grids, self.student.alive)):
                here = owner == k
                rays, edges = batch.rays[here], batch.edges[here]
                _, weights = grid_render(
                    grids, torch.zeros(1), rays.origins, rays.directions, edges, self.student.tau
                )
                alive.mark(rays, edges, weights, self.config.alive_weight)
            if report:
                report(i + 1, count)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that resuming needs but the ray pool, which is refilled."""
        result = {f"appearance.{name}": value for name, value in self.student.appearance.state_dict().items()}
        for k, grids in enumerate(self.student.grids):
            result[f"grids.{k}.block_index"] = grids.block_index
            result[f"grids.{k}.alive"] = torch.from_numpy(self.student.alive[k].packed())
        for i, parameter in enumerate(self.student.appearance.parameters()):
            for name, value in self._adam.state.get(parameter, {}).items():
                result[f"network.{i}.{name}"] = torch.as_tensor(value)
        result.update(self.parameters.tensors(self.student.grids))
        result["generator"] = self.generator.get_state()
        return result

    @_on_own_device
    def restore(self, tensors: dict[str, Tensor], state: dict) -> None:
        """Continue from saved tensors and counters; the pool starts anew."""
        grids = []
        for k in range(len(self.partition.cells)):
            spec = grid_spec(self.config, self.partition, k)
            index = tensors[f"grids.{k}.block_index"].to(self.device)
            grids.append(Grids.allocate(spec, index, records=not self.fused))
        self.parameters.restore(grids, tensors)
        self._adopt(grids)
        for k, one in enumerate(grids):
            self.student.alive[k] = AliveCells(one.spec, tensors[f"grids.{k}.alive"].cpu().numpy())
        prefix = "appearance."
        self.student.appearance.load_state_dict(
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        )
        for i, parameter in enumerate(self.student.appearance.parameters()):
            names = [name.rsplit(".", 1)[1] for name in tensors if name.startswith(f"network.{i}.")]
            if names:
                # Adam counts its steps on the CPU, wherever the parameters are.
                self._adam.state[parameter] = {
                    n: tensors[f"network.{i}.{n}"].to("cpu" if n == "step" else self.device, copy=True)
                    for n in names
                }
        self.step = int(state["step"])
        restore_generator(self.generator, tensors["generator"], self.config.seed + 2 + self.step)
        while self.rays.filled < self.rays.size:
            self.rays.renew(32768)

    def run(
        self,
        *,
        report: Callable[[int, dict[str, float]], None] | None = None,
        save: Callable[[], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[int]:
        """Distil to the last step, yielding each step number; saves in between and when asked to stop."""
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
