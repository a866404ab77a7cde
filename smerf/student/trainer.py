"""Distilling a teacher into one submodel: a stream of jittered teacher rays, and the optimiser behind it."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Capture, Frame
from smerf.engine.device import restore_generator, scope
from smerf.fields.ray_bank import RayBank
from smerf.fields.rendering import charbonnier, distortion_loss
from smerf.kernels import Grids, grid_render
from smerf.kernels.vertices import block_coordinates
from smerf.student.agreement import Agreement, show
from smerf.student.alive import AliveCells
from smerf.student.appearance import AppearanceLattice
from smerf.student.config import StudentConfig
from smerf.student.exposure import exposures_of
from smerf.student.fused import FusedParameters
from smerf.student.initialise import VoxelVotes, initialise_from_teacher
from smerf.student.model import Student, grid_spec, surroundings
from smerf.student.parameters import Parameters, make_parameters
from smerf.student.partition import Partition
from smerf.student.patches import patch_dissimilarity
from smerf.student.sparsity import sparse_rays
from smerf.student.teacher_rays import TeacherBatch, TeacherRays
from smerf.student.visibility import BlockWeights
from smerf.teacher.model import Teacher

__all__ = ["StudentTrainer", "choose_partition"]

_JITTER_REACH = 4.0
"""Standard deviations of the jitter within which another cell's cameras are asked for rays."""


def choose_partition(capture: Capture, config: StudentConfig, teacher: Teacher) -> Partition:
    """Return the submodels of a capture: the cells that hold a training camera."""
    edge = config.partition
    frames = capture.split("train")
    scale = config.submodel_scale or (teacher.scene_scale if edge == 1 else edge * config.cell_fill)
    if edge == 1 or not frames:
        return Partition(1, (0,), scale)
    return Partition.of_cameras(edge, np.stack([f.camera.world_from_cam[:, 3] for f in frames]), scale)


def _on_own_device(method: Callable) -> Callable:
    """Let a method of the trainer make its tensors on the trainer's device."""

    @functools.wraps(method)
    def run(self: StudentTrainer, *arguments, **named):
        with scope(self.device):
            return method(self, *arguments, **named)

    return run


class StudentTrainer:
    """The state of a submodel's distillation: student, teacher rays, optimiser, step and random generator.

    ``student`` and its ``partition`` know the one submodel alone.
    """

    def __init__(
        self,
        teacher: Teacher,
        capture: Capture,
        config: StudentConfig,
        device: torch.device | str = "cpu",
        *,
        partition: Partition | None = None,
        submodel: int = 0,
        shown: Sequence[dict[str, Tensor]] = (),
    ) -> None:
        """Begin a submodel.

        Args:
            teacher: What is distilled; moved to the device if it can be.
            capture: The photos' cameras.
            config: Sizes and schedule.
            device: Where to compute.
            partition: All submodels; chosen from the cameras if not given.
            submodel: Which of them to distil.
            shown: What its finished neighbours have shown (``smerf.student.agreement.show``).
        """
        self.config, self.device = config, torch.device(device)
        self.teacher = teacher.to(device) if isinstance(teacher, torch.nn.Module) else teacher
        self.white = capture.background == "white"
        self.whole, self.submodel = partition or choose_partition(capture, config, teacher), submodel
        self.partition = self.whole.only(submodel)
        is_alone = len(self.whole) == 1
        frames = capture.split("train")
        self.bank = RayBank(frames if is_alone else self._own(frames), device=device)
        self.generator = torch.Generator(device).manual_seed(config.seed + 2 + 1000 * submodel)
        self.near, self.bounded = capture.near, capture.bounded
        self.background, self.backdrop = surroundings(capture)
        self.step = 0
        self.student: Student | None = None
        self.fused = FusedParameters.fit(config, self.device)
        self.parameters: Parameters = FusedParameters() if self.fused else make_parameters(config, 1, device)
        with scope(self.device):
            self.rays = TeacherRays(
                self.teacher,
                self.bank,
                config.pool,
                patch=config.patch,
                origin_jitter=config.origin_jitter,
                direction_jitter=config.direction_jitter,
                between=config.share_between,
                around=config.around,
                generator=self.generator,
                # Not a method of the trainer's own: its grids have to go with the last name for it.
                share=None
                if is_alone
                else functools.partial(self.whole.share, submodel=submodel, reassigned=config.reassigned),
                exposures=exposures_of(config, self.teacher, self.device),
            )
            here = [{name: value.to(device) for name, value in part.items()} for part in shown]
            self.agreement = Agreement(self.rays, here, self.whole, submodel, self.background)
        self._debt = 0.0
        self.mean_square = 1.0

    def _own(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the photos whose rays, once jittered, may be this submodel's."""
        centres = torch.tensor(np.stack([frame.camera.world_from_cam[:, 3] for frame in frames]))
        reach = 2.0 / self.whole.edge + _JITTER_REACH * self.config.origin_jitter
        ours = self.whole.distances(centres)[:, self.submodel] < reach
        ours |= self.whole.assign(centres) == self.submodel
        return [frame for frame, is_ours in zip(frames, ours.tolist()) if is_ours]

    @_on_own_device
    def prepare(self, report: Callable[[float, float], None] | None = None) -> None:
        """Fill the pool, find the voxel blocks and start explicit grids from the teacher."""
        config = self.config
        spec = grid_spec(config, self.partition, 0)
        votes = VoxelVotes(spec, config.seen_weight)
        while self.rays.filled < self.rays.size:
            votes.add(self.rays.renew(32768))
            if report:
                report(self.rays.filled, self.rays.size)
        # A cell is small: the far end of a bounded scene may lie in its outermost blocks.
        shell = len(self.whole) > 1 and self.bounded and self.backdrop is None
        grids = Grids.allocate(spec, votes.block_index(config.seen_reach, shell), records=not self.fused)
        if config.parameterisation == "explicit":
            initialise_from_teacher(
                grids,
                self.teacher,
                self.bank.centres,
                config.initial_gate,
                self.generator,
                votes.near(config.seen_reach),
                # The networks can only add to the diffuse colour, whatever the exposure.
                self.rays.exposures.factors.amin(0) if self.rays.exposures else 1.0,
            )
        self.parameters.adopt([grids])
        self._adopt(grids)

    def _adopt(self, grids: Grids) -> None:
        network = torch.Generator().manual_seed(self.config.seed + 3)
        with torch.device("cpu"):
            appearance = AppearanceLattice(1, self.config.lattice, self.config.width, network)
        appearance = appearance.to(self.device)
        self.student = Student(
            self.config,
            self.partition,
            [grids],
            appearance,
            self.background,
            self.near,
            self.config.tau_end,
            [AliveCells(grids.spec)],
            self.teacher,
            self.backdrop,
            log_exposure=self.rays.exposures and self.rays.exposures.shown,
        )
        self._blocks = block_coordinates(grids)
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

    def _background(self, count: int) -> Tensor:
        """Return what lies behind rays: white for lone objects, else random, which teaches to be opaque."""
        if self.white:
            return torch.ones(count, 3)
        return torch.rand(count, 3, generator=self.generator)

    def _note(self, batch: TeacherBatch, square: Tensor, weights: Tensor) -> None:
        """Remember what a step showed: errors of the pool's rays, and late in the schedule what is seen."""
        self.mean_square = float(square.mean())
        if batch.rows is not None:
            self.rays.note_errors(batch.rows, square[: len(batch.rows)].sqrt())
        if self.step > self.config.alive_from * self.config.steps:
            self.student.alive[0].mark(batch.rays, batch.edges, weights, self.config.alive_weight)

    def losses(self, batch: TeacherBatch, submodel: int = 0) -> dict[str, Tensor]:
        """Return the weighted losses of teacher rays, by autograd (the student's one submodel is number 0)."""
        student, rays = self.student, batch.rays
        background = self._background(len(rays))
        anchor = torch.zeros(1, requires_grad=True)
        grids, sparse = student.grids[submodel], self._sparse_rays()
        everything = batch if sparse is None else batch.joined(sparse)
        self.parameters.provide(submodel, grids, everything.rays, everything.edges)
        features, weights = grid_render(grids, anchor, rays.origins, rays.directions, batch.edges, self.tau())
        colour = student.shade(
            features, weights.sum(-1, keepdim=True), rays, background, submodel, batch.log_exposure
        )
        rest = (1.0 - batch.weights.sum(-1, keepdim=True)).clamp_min(0.0)
        truth = batch.colour + rest * background
        self._note(batch, (colour.detach() - truth).square().mean(-1), weights.detach())
        losses = {
            "colour": charbonnier(colour - truth),
            "geometry": self._geometry_weight() * (weights - batch.weights).abs().sum(-1).mean(),
        }
        if self.config.patch > 1:
            losses["dssim"] = self.config.dssim_weight * patch_dissimilarity(colour, truth, self.rays.pixels)
        if self.config.distortion_weight > 0.0:
            distortion = distortion_loss(self._s_edges(batch), weights)
            losses["distortion"] = self.config.distortion_weight * distortion
        if sparse is not None:
            alpha = grid_render(grids, anchor, sparse.rays.origins, sparse.rays.directions, sparse.edges)[1]
            share = len(self._blocks) / grids.block_index.numel()
            losses["sparsity"] = self.config.sparsity_weight * share * alpha.sum(-1).mean()
        return losses

    def _s_edges(self, batch: TeacherBatch) -> Tensor:
        return self.teacher.spacing.s_from_t(batch.edges)

    def _sparse_rays(self) -> TeacherBatch | None:
        """Draw the rays of the sparsity loss; they have no truth."""
        count = self.config.sparsity_points
        if self.config.sparsity_weight == 0.0 or not len(self._blocks):
            return None
        samples = self.teacher.samples
        rays, edges = sparse_rays(self.student.grids[0].spec, self._blocks, count, samples, self.generator)
        return TeacherBatch(rays, edges, torch.zeros(count, samples), torch.zeros(count, 3))

    def _fused_losses(self, batch: TeacherBatch) -> dict[str, Tensor]:
        """Take the grids' part of the step at once; the losses returned have no gradient."""
        config = self.config
        losses, weights = self.parameters.advance(
            self.student, batch, self._background(len(batch.rays)), step=self.step + 1,
            rate=self.learning_rate() * config.grid_lr, tau=self.tau(), geometry_weight=self._geometry_weight(),
            s_edges=self._s_edges(batch) if config.distortion_weight > 0.0 else None,
        )  # fmt: skip
        colour, geometry, square, dssim, distortion = losses.unbind(-1)
        self._note(batch, square, weights)
        shown = {"colour": colour, "geometry": geometry}
        if config.patch > 1:
            shown["dssim"] = dssim
        if config.distortion_weight > 0.0:
            shown["distortion"] = distortion
        return {name: value.mean() for name, value in shown.items()}

    @_on_own_device
    def advance(self) -> dict[str, float]:
        """Take one optimiser step and return its losses."""
        config = self.config
        self._debt += config.rays / config.uses
        chunk = min(16384, config.pool)
        while self._debt >= chunk:
            self._debt -= max(len(self.rays.renew(chunk).rays), chunk // 8)
        batch = self.rays.sample(config.rays)
        if self.agreement:
            count = round(config.consistency * config.rays)
            batch = batch.joined(self.agreement.sample(count, self.generator))
        self._adam.zero_grad(set_to_none=True)
        if self.fused:
            losses = self._fused_losses(batch)
        else:
            losses = self.losses(batch)
            sum(losses.values()).backward()
        if config.lattice > 1 and config.lattice_smoothness > 0.0:
            losses["lattice"] = config.lattice_smoothness * self.student.appearance.roughness()
            losses["lattice"].backward()
        totals = {name: float(value.detach()) for name, value in losses.items()}
        rate = self.learning_rate()
        for group in self._adam.param_groups:
            group["lr"] = rate * config.network_lr
        if config.clip > 0.0:
            torch.nn.utils.clip_grad_norm_(self.student.appearance.parameters(), config.clip)
        self._adam.step()
        self.step += 1
        self.parameters.learn(self.student.grids, self.step, rate * config.grid_lr)
        return totals

    @_on_own_device
    def finish(self, report: Callable[[float, float], None] | None = None) -> None:
        """Complete the grids, and mark what fresh teacher rays see of them, for baking."""
        self.parameters.finish(self.student.grids)
        seen = BlockWeights(self.student.grids[0].spec, self.device)
        size = min(32768, self.config.alive_rays)
        count = self.config.alive_rays // size
        for i in range(count):
            batch = self.rays.fresh(size)
            rays, edges = batch.rays, batch.edges
            grids, alive = self.student.grids[0], self.student.alive[0]
            _, weights = grid_render(
                grids, torch.zeros(1), rays.origins, rays.directions, edges, self.student.tau
            )
            alive.mark(rays, edges, weights, self.config.alive_weight)
            seen.add(rays, edges, weights)
            if report:
                report(i + 1, count)
        self.student.block_weights = [seen.grid()]

    @_on_own_device
    def show(self) -> dict[str, Tensor]:
        """Return what the finished submodel shows its neighbours; empty if there are no others."""
        if len(self.whole) == 1:
            return {}
        return show(self.student, self.rays, self.whole, self.submodel, self.config.consistency_rays)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that resuming needs but the ray pool, which is refilled."""
        result = {f"appearance.{name}": value for name, value in self.student.appearance.state_dict().items()}
        result["grids.0.block_index"] = self.student.grids[0].block_index
        result["grids.0.alive"] = torch.from_numpy(self.student.alive[0].packed())
        for i, parameter in enumerate(self.student.appearance.parameters()):
            for name, value in self._adam.state.get(parameter, {}).items():
                result[f"network.{i}.{name}"] = torch.as_tensor(value)
        result.update(self.parameters.tensors(self.student.grids))
        result["generator"] = self.generator.get_state()
        return result

    @_on_own_device
    def restore(self, tensors: dict[str, Tensor], state: dict) -> None:
        """Continue from saved tensors and counters; the pool starts anew."""
        spec = grid_spec(self.config, self.partition, 0)
        index = tensors["grids.0.block_index"].to(self.device)
        grids = Grids.allocate(spec, index, records=not self.fused)
        self.parameters.restore([grids], tensors)
        self._adopt(grids)
        self.student.alive[0] = AliveCells(spec, tensors["grids.0.alive"].cpu().numpy())
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
