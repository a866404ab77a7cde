"""One step of distilling a teacher into a submodel, and all that the next step depends on."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Capture, Frame
from smerf.engine.adam_state import add_prefix, pack_adam, restore_adam, strip_prefix
from smerf.engine.device import restore_generator, scope
from smerf.engine.pace import Pacer, pace_state, restore_pace
from smerf.engine.schedule import Schedule, linear, log_linear
from smerf.fields.ray_bank import RayBank
from smerf.kernels import Grids, grid_render
from smerf.kernels.vertices import block_coordinates
from smerf.student.appearance import AppearanceLattice
from smerf.student.config import StudentConfig
from smerf.student.initialise import initialise_from_rays, initialise_from_teacher
from smerf.student.losses import Consistency, StepRays, StepResult, render_shared_rays, sparse_rays
from smerf.student.model import Student, StudentRecord, Submodel, grid_spec
from smerf.student.optimizer import GridOptimizer, choose_back_end
from smerf.student.partition import Partition
from smerf.student.plan import choose_partition
from smerf.student.ray_pool import RayPool, TeacherBatch, TeacherRays, exposures_of
from smerf.student.visibility import BlockWeights, OccupiedCells, VoxelVotes
from smerf.teacher.model import FieldTeacher, PointTeacher, Teacher

__all__ = ["StudentTrainer"]

_JITTER_REACH = 4.0
"""Standard deviations of the jitter within which another cell's cameras give rays."""
_CHUNK = 32768
_FINISH_COST, _MAX_RESERVE = 1.6, 0.3
"""Time of a ray of ``finish`` relative to filling the pool, and the largest fraction of the time kept for them."""
_REFILL = 16384
_SNAPSHOT_RAYS = 131072
"""Most rays that mark what is occupied for a look at the unfinished submodel."""
_P = ParamSpec("_P")
_R = TypeVar("_R")
_Report = Callable[[int, int], None]


def _on_own_device(
    method: Callable[Concatenate[StudentTrainer, _P], _R],
) -> Callable[Concatenate[StudentTrainer, _P], _R]:
    """Let a method of the trainer make its tensors on the trainer's device."""

    @functools.wraps(method)
    def run(self: StudentTrainer, /, *arguments: _P.args, **named: _P.kwargs) -> _R:
        with scope(self.device):
            return method(self, *arguments, **named)

    return run


class StudentTrainer:
    """The state of a submodel's distillation: submodel, teacher rays, optimisers, step and random generator.

    ``prepare`` or ``restore`` makes the submodel; ``finish`` completes it.
    """

    submodel: Submodel
    optimizer: GridOptimizer

    def __init__(
        self,
        teacher: Teacher,
        capture: Capture,
        config: StudentConfig,
        device: torch.device | str = "cpu",
        *,
        partition: Partition | None = None,
        number: int = 0,
        shared_rays: Sequence[dict[str, Tensor]] = (),
        seconds: float | None = None,
    ) -> None:
        """Begin a submodel.

        Args:
            teacher: What is distilled; moved to the device if it can be.
            capture: The photos' cameras.
            config: Sizes and schedule, as ``smerf.student.plan.resolve_config`` returned it.
            device: Where to compute.
            partition: All submodels; chosen from the cameras if not given.
            number: Which of them to distil.
            shared_rays: What its finished neighbours have rendered (``smerf.student.losses.render_shared_rays``).
            seconds: Time granted to this submodel, ``finish`` included; without it the steps are the config's.

        Raises:
            ValueError: If the configuration is not resolved.
        """
        self.config, self.device, self.number, self.step = config, torch.device(device), number, 0
        self.schedule = Schedule(config.steps)
        self.pacer = None if seconds is None else Pacer(seconds)
        """Changes the schedule so that the distillation ends on time, if a time is granted."""
        self.teacher = teacher.to(device) if hasattr(teacher, "to") else teacher
        self.partition = partition or choose_partition(capture, config)
        self.generator = torch.Generator(device).manual_seed(config.seed + 2 + 1000 * number)
        self.white, self.bounded = capture.background == "white", capture.bounded
        self.back_end = choose_back_end(config, self.device)
        is_alone, frames = len(self.partition) == 1, capture.split("train")
        with scope(self.device):
            exposures = exposures_of(config, self.teacher, self.device)
            self.record = StudentRecord.of(
                config, self.partition, capture, None if exposures is None else exposures.shown
            )
            self.rays = TeacherRays(
                self.teacher,
                self._bank(frames, frames if is_alone else self._own(frames)),
                config,
                self.generator,
                # A bound method of the trainer would keep its grids alive in a reference cycle.
                acceptance=None
                if is_alone
                else functools.partial(
                    self.partition.acceptance, submodel=number, reassigned=config.reassigned_fraction
                ),
                exposures=exposures,
            )
            self.pool = RayPool(self.rays, config.pool)
            here = [{name: value.to(device) for name, value in part.items()} for part in shared_rays]
            self.consistency = Consistency(self.rays, here, self.partition, number, self.record.background)
        self._debt = 0.0

    def _bank(self, frames: Sequence[Frame], own: Sequence[Frame]) -> RayBank:
        """Return the ``own`` ones of the training photos, as the teacher evened them."""
        bank = RayBank(own, device=self.device)
        gains = self.teacher.gains if isinstance(self.teacher, FieldTeacher) else None
        if gains is not None and len(gains) == len(frames):
            row = {frame.name: index for index, frame in enumerate(frames)}
            bank.even(gains[[row[frame.name] for frame in own]])
        return bank

    def _own(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the photos whose rays, once jittered, may be this submodel's."""
        centres = torch.tensor(np.stack([frame.camera.world_from_cam[:, 3] for frame in frames]))
        reach = 2.0 / self.partition.edge + _JITTER_REACH * self.config.origin_jitter
        ours = self.partition.distances(centres)[:, self.number] < reach
        ours |= self.partition.assign(centres) == self.number
        return [frame for frame, is_ours in zip(frames, ours.tolist()) if is_ours]

    @property
    def student(self) -> Student:
        """Return the submodel as a student of its own."""
        partition = Partition(self.partition.edge, (self.submodel.cell,), self.partition.scale)
        values = vars(self.record) | {"partition": partition}
        return Student(**values, submodels=(self.submodel,), teacher=self.teacher)

    @_on_own_device
    def snapshot(self) -> Student:
        """Return the submodel as it is now, as a student of its own, for looking at it before the next step.

        Its occupied cells are those that rays of the pool see; nothing that later steps depend on changes.
        """
        grids, config = self.optimizer.complete_grids(), self.config
        occupied, left = OccupiedCells(grids.spec), min(config.occupied_rays, _SNAPSHOT_RAYS)
        with torch.no_grad():
            for batch in self.pool.held():
                rays, anchor = batch.rays, torch.zeros(1)
                _, weights = grid_render(
                    grids, anchor, rays.origins, rays.directions, batch.edges, self.record.tau
                )
                occupied.mark(rays, batch.edges, weights, config.occupied_weight)
                left -= len(rays)
                if left <= 0:
                    break
        student = self.student
        student.submodels = (replace(self.submodel, occupied=occupied),)
        return student

    @_on_own_device
    def prepare(self, report: _Report | None = None) -> None:
        """Fill the pool, find the voxel blocks and start explicit grids from the teacher.

        ``report`` is called with the teacher rays of the pool so far and in all.
        """
        config = self.config
        spec, began = grid_spec(config, self.partition, self.number), self._spent()
        votes = VoxelVotes(spec, config.visible_weight)
        while self.pool.filled < self.pool.size:
            batch = self.pool.refill(_CHUNK)
            votes.add(batch.rays, batch.edges, batch.weights)
            if report:
                report(self.pool.filled, self.pool.size)
        if self.pacer is not None:
            # ``finish`` renders rays as well.
            per_ray = (self._spent() - began) / max(1, self.pool.filled)
            reserve = _FINISH_COST * per_ray * config.occupied_rays
            self.pacer.seconds -= min(reserve, _MAX_RESERVE * self.pacer.seconds)
        # A cell is small: the far end of a bounded scene may lie in its outermost blocks.
        shell = len(self.partition) > 1 and self.bounded and self.record.backdrop is None
        grids = self._allocate(votes.block_index(config.visible_margin, shell))
        teacher: object = self.teacher
        if config.parameterisation == "explicit" and not isinstance(teacher, PointTeacher):
            closes_holes = getattr(teacher, "tests_nearby", False)
            initialise_from_rays(grids, self.pool.held(), config.initial_gate, closes_holes=closes_holes)
        elif config.parameterisation == "explicit" and isinstance(teacher, PointTeacher):
            exposures = self.rays.exposures
            initialise_from_teacher(
                grids,
                teacher,
                self.rays.bank.centres,
                config.initial_gate,
                self.generator,
                votes.near(config.visible_margin),
                # The networks can only add to the diffuse colour, whatever the exposure.
                1.0 if exposures is None else exposures.factors.amin(0),
            )
        self._start(grids, OccupiedCells(spec))

    def _spent(self) -> float:
        return 0.0 if self.pacer is None else self.pacer.spent

    def _allocate(self, block_index: Tensor) -> Grids:
        spec = grid_spec(self.config, self.partition, self.number)
        return Grids.allocate(spec, block_index.to(self.device), records=self.back_end.has_records)

    def _start(self, grids: Grids, occupied: OccupiedCells) -> None:
        """Make the submodel and its optimisers."""
        config, generator = self.config, torch.Generator().manual_seed(self.config.seed + 3)
        with torch.device("cpu"):
            appearance = AppearanceLattice(config.lattice, config.width, generator)
        cell = self.partition.cells[self.number]
        self.submodel = Submodel(cell, grids, appearance.to(self.device), occupied)
        self.optimizer = self.back_end(self.record, self.submodel)
        self._blocks = block_coordinates(grids)
        self._parameters = list(appearance.parameters())
        self._adam = torch.optim.Adam(self._parameters, lr=config.network_lr, betas=(0.9, 0.99), eps=1e-15)

    @property
    def _fraction(self) -> float:
        return self.schedule.fraction(self.step)

    def learning_rate(self) -> float:
        """Return the factor of the learning rates at this step: warm-up, then log-linear decay."""
        return self.schedule.rate(self.step, self.config.warmup_steps, self.config.final_lr)

    def tau(self) -> float:
        """Return the culling threshold at this step: none, then a log-linear ramp, then constant."""
        config, start = self.config, self.config.tau_ramp_start
        if self._fraction < start:
            return 0.0
        ramp = (self._fraction - start) / max(1e-9, config.tau_ramp_end - start)
        return log_linear(config.tau_start, config.tau_end, ramp)

    @_on_own_device
    def step_rays(self, batch: TeacherBatch) -> StepRays:
        """Return what a step on a batch renders: random backgrounds, and the rays of the sparsity loss."""
        config, count = self.config, len(batch.rays)
        # White for lone objects, else random, which teaches to be opaque.
        background = torch.ones(count, 3) if self.white else torch.rand(count, 3, generator=self.generator)
        sparse = sparse_edges = None
        if config.sparsity_weight > 0.0 and len(self._blocks):
            spec, samples = self.submodel.grids.spec, self.teacher.samples
            sparse, sparse_edges = sparse_rays(
                spec, self._blocks, config.sparsity_points, samples, self.generator
            )
        return StepRays(
            batch,
            background,
            self.tau(),
            linear(config.geometry_start, config.geometry_end, self._fraction),
            self.teacher.spacing.s_from_t(batch.edges) if config.distortion_weight > 0.0 else None,
            sparse,
            sparse_edges,
        )

    @_on_own_device
    def advance(self) -> dict[str, float]:
        """Take one optimiser step and return its losses and PSNR."""
        config = self.config
        self._refill()
        batch = self.pool.sample(config.rays)
        count = round(config.consistency_fraction * config.rays)
        batch = self.consistency.append_to(batch, count, self.generator)
        self._adam.zero_grad(set_to_none=True)
        rate = self.learning_rate()
        result = self.optimizer.step(self.step_rays(batch), self.step + 1, rate * config.grid_lr)
        self._note(batch, result)
        losses = result.losses
        if config.lattice > 1 and config.lattice_smoothness > 0.0:
            smoothness = config.lattice_smoothness * self.submodel.appearance.roughness()
            smoothness.backward()
            losses["lattice"] = smoothness.detach()
        for group in self._adam.param_groups:
            group["lr"] = rate * config.network_lr
        if config.max_gradient_norm > 0.0:
            torch.nn.utils.clip_grad_norm_(self._parameters, config.max_gradient_norm)
        self._adam.step()
        self.step += 1
        psnr = -10.0 * math.log10(max(float(result.square.mean()), 1e-10))
        return {name: float(value) for name, value in losses.items()} | {"psnr": psnr}

    def _refill(self) -> None:
        """Replace as many of the pool's rays as the steps so far have used up."""
        self._debt += self.config.rays / self.config.uses_per_ray
        chunk = min(_REFILL, self.config.pool)
        while self._debt >= chunk:
            self._debt -= max(len(self.pool.refill(chunk).rays), chunk // 8)

    def _note(self, batch: TeacherBatch, result: StepResult) -> None:
        """Remember the errors of the pool's rays, and late in the schedule which cells are occupied."""
        if batch.rows is not None:
            self.pool.note_errors(batch.rows, result.square[: len(batch.rows)].sqrt())
        if self.schedule.position(self.step) > self.config.occupied_from * self.schedule.steps:
            self._mark(batch, result.weights)

    def _mark(self, batch: TeacherBatch, weights: Tensor) -> None:
        self.submodel.occupied.mark(batch.rays, batch.edges, weights, self.config.occupied_weight)

    @_on_own_device
    def finish(self, report: _Report | None = None) -> None:
        """Complete the grids, and mark which of their cells new teacher rays see, for baking.

        ``report`` is called with the teacher rays so far and in all.
        """
        grids, config = self.optimizer.complete_grids(), self.config
        seen = BlockWeights(grids.spec, self.device)
        size = min(_CHUNK, config.occupied_rays)
        count = config.occupied_rays // size
        for i in range(count):
            batch = self.rays.sample(size)
            rays, anchor = batch.rays, torch.zeros(1)
            _, weights = grid_render(
                grids, anchor, rays.origins, rays.directions, batch.edges, self.record.tau
            )
            self._mark(batch, weights)
            seen.add(rays, batch.edges, weights)
            if report:
                report((i + 1) * size, count * size)
        self.submodel.block_weights = seen.grid()

    @_on_own_device
    def shared_rays(self) -> dict[str, Tensor]:
        """Return the finished submodel's rays that its neighbours are to agree with; empty if there are no others."""
        if len(self.partition) == 1:
            return {}
        return render_shared_rays(
            self.record, self.submodel, self.number, self.rays, self.config.consistency_rays
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that resuming needs."""
        return {
            "block_index": self.submodel.grids.block_index,
            "occupied": torch.from_numpy(self.submodel.occupied.packed()),
            "generator": self.generator.get_state(),
            **add_prefix("appearance", self.submodel.appearance.state_dict()),
            **pack_adam("network", self._adam, self._parameters),
            **add_prefix("grids", self.optimizer.tensors()),
            **add_prefix("pool", self.pool.tensors()),
        }

    def state(self) -> dict[str, Any]:
        """Return the rest of what resuming needs, as JSON values."""
        back_end = self.back_end.__name__
        state = {"step": self.step, "back_end": back_end, "debt": self._debt, "pool": self.pool.state()}
        return state | pace_state(self)

    @_on_own_device
    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from what ``tensors`` and ``state`` returned.

        Raises:
            ValueError: If they are of an earlier version or another back end, or the teacher is another one.
        """
        if "debt" not in state:
            raise ValueError("was written by an earlier version")
        if state["back_end"] != self.back_end.__name__:
            raise ValueError(f"was written by {state['back_end']}, this is {self.back_end.__name__}")
        spec = grid_spec(self.config, self.partition, self.number)
        occupied = OccupiedCells(spec, tensors["occupied"].cpu().numpy())
        self._start(self._allocate(tensors["block_index"]), occupied)
        self.optimizer.restore(strip_prefix("grids", tensors))
        self.submodel.appearance.load_state_dict(strip_prefix("appearance", tensors))
        restore_adam("network", self._adam, self._parameters, tensors)
        self.step, self._debt = int(state["step"]), float(state["debt"])
        restore_pace(self, state)
        self.pool.restore(strip_prefix("pool", tensors), state["pool"])
        restore_generator(self.generator, tensors["generator"], self.config.seed + 2 + self.step)
