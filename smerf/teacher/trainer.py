"""One step of fitting the teacher to photos."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from smerf.capture.types import Capture
from smerf.engine import distributed
from smerf.engine.adam_state import add_prefix, strip_prefix
from smerf.engine.device import fast_products
from smerf.engine.pace import Pacer, pace_state, restore_pace
from smerf.engine.schedule import Schedule, linear
from smerf.errors import InvalidDataError
from smerf.fields.ray_bank import RayBank, RayBatch
from smerf.fields.rays import Spacing
from smerf.teacher.config import TeacherConfig
from smerf.teacher.exposures import Evening
from smerf.teacher.fused import FusedStep, supports_training
from smerf.teacher.known_distances import KnownDistances
from smerf.teacher.losses import Objective, StepSettings
from smerf.teacher.model import FieldTeacher, require_table_memory
from smerf.teacher.optimiser import TeacherOptimiser
from smerf.teacher.pixel_sampler import PixelSampler
from smerf.teacher.robust import Watch
from smerf.teacher.row_random import RowRandom
from smerf.teacher.samplers import CacheSampler
from smerf.teacher.store import upgraded_tensors

__all__ = ["TeacherTrainer"]


class TeacherTrainer:
    """The state of a training: model, optimiser moments, step and random generator."""

    def __init__(self, capture: Capture, config: TeacherConfig, device: str = "cpu") -> None:
        """Prepare to train on the photos of a capture, with a config as ``resolve_config`` returns it.

        Raises:
            ValueError: If the config is not resolved.
            UsageError: If the hash tables don't fit into memory.
            InvalidDataError: If there is no photo to train on, or an exposure that is asked for is not known.
        """
        self.config, self.process = config, distributed.this_process()
        if config.cache_resolution and self.process.world_size > 1:
            raise ValueError("cache_resolution: expected 0 with several processes; resolve the config first")
        require_table_memory(config, 4, device)
        frames = capture.split("train")
        self.bank = RayBank(frames, device)
        spacing = Spacing(
            capture.near, capture.far, capture.bounded, config.spacing_power, config.spacing_scale
        )
        background = 1.0 if capture.background == "white" else 0.5
        exposures = [frame.exposure for frame in frames]
        self.model = FieldTeacher(config, spacing, background, len(frames), exposures).to(device)
        self.objective = Objective(config, frames).to(device)
        self.optimiser = TeacherOptimiser(self.model, self.objective, config)
        self.pixels = PixelSampler(len(self.bank), config.uniform_fraction)
        self.known = KnownDistances(capture, self.bank, is_used=config.distance_fraction > 0.0)
        self.watch = Watch(config, frames, self.bank)
        self.evening = Evening(config, frames, self.bank)
        self.generator = torch.Generator().manual_seed(config.seed + 1)
        self.step = 0
        self.schedule = Schedule(config.steps)
        self.pacer = None if config.minutes is None else Pacer(60.0 * config.minutes)
        """Changes the schedule so that the training ends on time, if a time is granted."""
        self.mean_square = 1.0
        """Mean squared error of the last batch's colours."""
        self.fused: FusedStep | None = None
        if self.model.cache is not None and supports_training(self.model.field, config, spacing):
            self.fused = FusedStep(self.model.field, config, spacing, self.model.cache)

    def _fraction(self, part: float = 1.0) -> float:
        """Return which fraction of the first ``part`` of the training is over."""
        return self.schedule.fraction(self.step, part)

    def _rates(self) -> tuple[float, float]:
        """Return the factor of the learning rates at this step, and the cameras' learning rate."""
        config, fraction = self.config, self._fraction()
        cameras = config.camera_lr * min(1.0, 10.0 * fraction) * 0.1**fraction
        return self.schedule.rate(self.step, config.warmup_steps, config.final_lr), cameras

    def _settings(self) -> StepSettings:
        config = self.config
        contrast = min(1.0, self._fraction(config.anneal_fraction))
        return StepSettings(
            self.step,
            mix=linear(config.mix_start, config.mix_end, self._fraction(config.mix_fraction)),
            anneal=10.0 * contrast / (9.0 * contrast + 1.0),
            trains_proposals=self.schedule.position(self.step) < 0.1 * self.schedule.steps
            or self.step % config.proposal_every == 0,
        )

    def losses(self, batch: RayBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted losses of a batch, and the squared error (R,) of each ray; see ``Objective``."""
        self.model.update_scales()
        random = RowRandom(self.generator, self.process, self.config.rays)
        return self.objective(self.model, batch, random, self._settings(), self.fused)

    def _batch(self) -> tuple[Tensor, RayBatch]:
        """Return this process's rays of a step, and which pixels (P,) the first of all processes' rays are of."""
        config, own = self.config, self.process.rows(self.config.rays)
        count = round(config.distance_fraction * config.rays) if len(self.known) else 0
        index = self.pixels.sample(config.rays - count, self.generator)
        if not count:
            return index, self.bank.gather(index[own])
        rows, distances = self.known.sample(count, self.generator)
        batch = self.bank.gather_rows(torch.cat([self.bank.rows(index), rows])[own])
        return index, replace(batch, distances=torch.cat([distances.new_zeros(len(index)), distances])[own])

    @fast_products()
    def advance(self) -> dict[str, float]:
        """Take one optimiser step and return its losses, and the PSNR of the batch."""
        index, batch = self._batch()
        self.optimiser.clear()
        losses, squares = self.losses(batch)
        self.mean_square = float(distributed.average(squares.mean()))
        if self.pixels.follows_error:
            self.pixels.observe(index, self._of_all_rows(squares)[: len(index)])
        if not self.fused:
            sum(losses.values(), torch.zeros(())).backward()
            distributed.average_gradients(self.optimiser.parameters)
        half_table = self.fused.half_table if self.fused else None
        self.optimiser.step(*self._rates(), half_table)
        self.step += 1
        if isinstance(self.model.sampler, CacheSampler):
            self.model.sampler.after_step(self.step, self.model.field.density_at, self.generator)
        self.pixels.after_step(self.step)
        self.evening.after_step(self._fraction(), self.model, self.objective.refined)
        if self.watch.after_step(self._fraction(), self.model, self.objective.refined):
            self.pixels = PixelSampler(len(self.bank), self.config.uniform_fraction)
            self.known.follow(self.bank)
        figures = distributed.average_values({name: value.detach() for name, value in losses.items()})
        return figures | {"psnr": -10.0 * math.log10(max(self.mean_square, 1e-10))}

    def _of_all_rows(self, values: Tensor) -> Tensor:
        """Return what all processes found for their rows: values (rows,) to (rays,)."""
        if self.process.world_size == 1:
            return values
        whole = values.new_zeros(self.config.rays)
        whole[self.process.rows(self.config.rays)] = values
        return distributed.average(whole) * self.process.world_size

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that resuming needs, by name."""
        return {
            **add_prefix("model", self.model.state_dict()),
            **add_prefix("objective", self.objective.state_dict()),
            **add_prefix("sampler", self.pixels.tensors()),
            **add_prefix("watch", self.watch.tensors()),
            **add_prefix("evening", self.evening.tensors()),
            **self.optimiser.tensors(),
            "generator": self.generator.get_state(),
        }

    def state(self) -> dict[str, Any]:
        """Return the counters that belong to ``tensors``."""
        state = {"step": self.step, "updates": list(self.optimiser.updates)}
        return state | pace_state(self)

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from saved ``tensors`` and ``state``.

        Raises:
            InvalidDataError: If they are of a training with other settings.
        """
        try:
            model = strip_prefix("model", tensors)
            self.model.load_state_dict(upgraded_tensors(model, self.model))
            self.objective.load_state_dict(strip_prefix("objective", tensors))
            self.watch.restore(strip_prefix("watch", tensors))
            self.evening.restore(strip_prefix("evening", tensors))
            self.pixels = PixelSampler(len(self.bank), self.config.uniform_fraction)
            self.known.follow(self.bank)
            self.pixels.restore(strip_prefix("sampler", tensors))
            self.optimiser.restore(tensors, state["updates"])
        except (KeyError, RuntimeError) as error:
            raise InvalidDataError(
                f"the teacher's checkpoint at step {state.get('step')} is of other settings; delete the folder "
                "`checkpoints` beside the teacher to train from the start"
            ) from error
        if self.fused:
            self.fused.restored()
        self.generator.set_state(tensors["generator"])
        self.step = int(state["step"])
        restore_pace(self, state)
