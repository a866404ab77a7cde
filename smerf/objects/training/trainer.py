"""What a step of training an object-scene model is, and everything that the next step depends on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from smerf.engine import distributed
from smerf.engine.adam_state import add_prefix, pack_adam, restore_adam, strip_prefix
from smerf.errors import InvalidDataError
from smerf.objects.config import ObjectsConfig
from smerf.objects.data.batches import SceneBatch, local_contrast, sample_batch
from smerf.objects.data.scenes import SceneSet
from smerf.objects.model.decoders import BroadcastDecoder, Decoded
from smerf.objects.model.osrt import Osrt
from smerf.objects.training import schedule
from smerf.objects.training.distillation import distillation_loss, random_edit
from smerf.objects.training.evaluate import evaluate_scenes

__all__ = ["ObjectsTrainer", "background_prior"]


def background_prior(weights: Tensor, slot: int | None = None) -> Tensor:
    """Return the fraction of a scene's rays that the background leaves to other slots, a mean over scenes.

    Args:
        weights: Weights (B, R, K) of the slots, which sum to 1.
        slot: The slot of the background; the largest of each scene if not given.
    """
    fractions = weights.mean(1)
    return (1.0 - (fractions.amax(-1) if slot is None else fractions[:, slot])).mean()


class ObjectsTrainer:
    """A ``smerf.engine.loop.Trainer``: model, averaged weights, optimiser moments, step and random generator.

    Every process of a group samples the whole batch from the same generator, computes its rows of it, and averages
    gradients; all keep the same weights, those of one process.

    Args:
        scenes: The whole set; its last ``training.held_out`` scenes are never trained on.
        config: Sizes and schedule.
        device: Where to train; the scenes are moved there.

    Raises:
        InvalidDataError: If the scenes do not match the config.
        UsageError: If the batch can't be divided evenly over the processes.
    """

    def __init__(self, scenes: SceneSet, config: ObjectsConfig, device: str = "cpu") -> None:
        training = config.training
        _check_scenes(scenes, config)
        self.config, self.device = config, device
        self.process = distributed.this_process()
        self.rows = self.process.rows(training.batch, "scenes")
        scenes = scenes.to(device)
        split = len(scenes) - training.held_out
        self.scenes, self.held_out = scenes[:split], scenes[split:]
        self.contrast = local_contrast(self.scenes) if training.contrast else None
        # Not the config's: a run that is stuck moves on to the next seed.
        self.seed = training.seed
        self.restarts = 0
        self.seconds = 0.0
        self.scores: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        """What was measured on held-out scenes, for the record."""
        self._begin()

    def _begin(self) -> None:
        self.step = 0
        self.best_ari = -1.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model = Osrt(self.config).to(self.device)
            has_first = self.config.training.broadcast_steps > 0
            self.broadcast = self._new_broadcast() if has_first else None
        self.average = _copied(self.model)
        self.broadcast_average = {} if self.broadcast is None else _copied(self.broadcast)
        self.generator = torch.Generator().manual_seed(self.seed * 1000 + 1)
        fused = self.device == "cpu"
        self._adam = torch.optim.Adam(self._parameters(), lr=self.config.training.lr, fused=fused)
        if self.device.startswith("cuda"):
            # In parts, so that moving on from the first decoder to the second compiles nothing again.
            for part in (self.model.encoder, self.model.slots, self.model.decoder, self.broadcast):
                if part is not None:
                    part.compile(dynamic=False)

    def _new_broadcast(self) -> BroadcastDecoder:
        config = self.config
        return BroadcastDecoder(config.decoder, config.rays, config.slots.width).to(self.device)

    def init_from(self, model: Osrt) -> None:
        """Take the weights of another model of the same sizes in place of random ones.

        Raises:
            InvalidDataError: If the sizes differ.
        """
        try:
            self.model.load_state_dict(model.state_dict())
        except RuntimeError as error:
            raise InvalidDataError(
                f"the model to start from has other sizes than preset {self.config.preset} ({error})"
            ) from error
        self.average = _copied(self.model)

    def _parameters(self) -> list[nn.Parameter]:
        first = [] if self.broadcast is None else list(self.broadcast.parameters())
        return [*self.model.parameters(), *first]

    def advance(self) -> dict[str, float]:
        """Take one optimiser step and return its ``loss``."""
        training = self.config.training
        if self.step == training.broadcast_steps and schedule.is_distilling(self.step, training):
            self._freeze_first()
        rate = schedule.learning_rate(self.step + 1, training)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.zero_grad(set_to_none=True)
        loss = self.loss(self._sample())
        loss.backward()
        parameters = [p for p in self._parameters() if p.grad is not None]
        distributed.average_gradients(parameters)
        if training.clip:
            nn.utils.clip_grad_norm_(parameters, training.clip)
        self._adam.step()
        self.step += 1
        self._update_averages()
        return distributed.average_values({"loss": loss.detach()})

    def _sample(self) -> SceneBatch:
        training = self.config.training
        which = torch.randint(len(self.scenes), (training.batch,), generator=self.generator)
        return sample_batch(
            self.scenes,
            which,
            training,
            self.generator,
            frame=self.config.frame,
            contrast=self.contrast,
            rows=self.rows,
        )

    def loss(self, batch: SceneBatch) -> Tensor:
        """Return the mean squared error of the rays' colours, over rays and channels, and the prior if there is one."""
        training = self.config.training
        is_cuda = self.device.startswith("cuda")
        with torch.autocast("cuda", torch.bfloat16) if is_cuda else torch.autocast("cpu", enabled=False):
            slots = self._encode(batch)
            if schedule.is_distilling(self.step, training):
                return self._distillation_loss(slots, batch)
            decoded = self._decode(slots, batch)
        loss = (decoded.colour - batch.colours).square().mean()
        if decoded.coarse is not None:
            loss = loss + (decoded.coarse - batch.colours).square().mean()
        weight = schedule.prior_weight(self.step, training)
        return loss + weight * background_prior(decoded.weights, self._background) if weight else loss

    @property
    def _background(self) -> int | None:
        return 0 if self.config.slots.shared_background else None

    def _encode(self, batch: SceneBatch) -> Tensor:
        is_frozen = schedule.is_encoder_frozen(self.step, self.config.training)
        with torch.set_grad_enabled(not is_frozen):
            starts = None
            if self.model.slots is not None:
                starts = self.model.slots.begin(self.config.training.batch, self.generator)[self.rows]
            return self.model.encode(batch.images, batch.world_from_cam, batch.fov_x, starts=starts)

    def _decode(self, slots: Tensor, batch: SceneBatch) -> Decoded:
        if self.broadcast is not None and schedule.is_broadcasting(self.step, self.config.training):
            prepared = self.broadcast.prepare(slots)
            return self.broadcast(prepared, batch.origins[:, None], batch.directions[:, None])
        return self.model.decode(self.model.prepare(slots), batch.origins, batch.directions)

    def _distillation_loss(self, slots: Tensor, batch: SceneBatch) -> Tensor:
        """Every other step is on edited scenes."""
        assert self.broadcast is not None
        training = self.config.training
        first, margin = (0, 0.0) if self._background is None else (1, training.margin)
        edit = None
        if self.step % 2:
            edit = random_edit(batch, slots.shape[1], first, self.generator, self.process)
        return distillation_loss(self.model, self.broadcast, slots, batch, training.teach, edit, margin)

    def _freeze_first(self) -> None:
        """Set slots and first decoder to their averages, which are better than their latest values."""
        assert self.broadcast is not None
        self.model.load_state_dict(self.average)
        self.broadcast.load_state_dict(self.broadcast_average)

    def _update_averages(self) -> None:
        training = self.config.training
        # Early averages would remember the start; a short memory at first does not.
        decay = min(training.ema, (1.0 + self.step) / (10.0 + self.step))
        _follow(self.average, self.model, 1.0 - decay)
        if self.broadcast is not None and self.step <= training.broadcast_steps:
            _follow(self.broadcast_average, self.broadcast, 1.0 - decay)

    def averaged(self) -> Osrt:
        """Return a model with the averaged weights, ready to use."""
        with torch.device("meta"):
            model = Osrt(self.config)
        model.load_state_dict({name: value.clone() for name, value in self.average.items()}, assign=True)
        return model.eval().requires_grad_(False)

    def evaluate(self) -> dict[str, float]:
        """Measure the averaged weights on the held-out scenes (see ``evaluate_scenes``)."""
        decoder = None
        # At the very step of the change the second decoder is not trained yet.
        if self.broadcast is not None and self.step <= self.config.training.broadcast_steps:
            decoder = self._new_broadcast()
            decoder.load_state_dict(self.broadcast_average)
        views = self.config.training.input_views
        self.scores = evaluate_scenes(self.averaged(), self.held_out, views, decoder=decoder)
        self.best_ari = max(self.best_ari, self.scores.get("fg_ari", -1.0))
        return self.scores

    @property
    def is_stuck(self) -> bool:
        """Whether the run is past ``stuck_step`` and its FG-ARI never rose above ``stuck_ari``."""
        return schedule.is_stuck(self.step, self.best_ari, self.config.training)

    def restart(self) -> None:
        """Start again with the next seed."""
        self.seed += 1
        self.restarts += 1
        self._begin()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that resuming needs, by name."""
        result = add_prefix("model", self.model.state_dict()) | add_prefix("average", self.average)
        if self.broadcast is not None:
            result |= add_prefix("broadcast", self.broadcast.state_dict())
            result |= add_prefix("broadcast_average", self.broadcast_average)
        result |= pack_adam("adam", self._adam, self._parameters())
        return result | {"generator": self.generator.get_state()}

    def state(self) -> dict[str, Any]:
        """Return the counters that belong to ``tensors``."""
        names = ("step", "seed", "restarts", "best_ari", "seconds", "scores", "history")
        return {name: getattr(self, name) for name in names}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from what ``tensors`` and ``state`` returned."""
        self.seed, self.restarts = int(state["seed"]), int(state["restarts"])
        self._begin()
        self.model.load_state_dict(strip_prefix("model", tensors))
        for name, value in strip_prefix("average", tensors).items():
            self.average[name].copy_(value)
        if self.broadcast is not None:
            self.broadcast.load_state_dict(strip_prefix("broadcast", tensors))
            self.broadcast_average = _copied(self.broadcast)
            for name, value in strip_prefix("broadcast_average", tensors).items():
                self.broadcast_average[name].copy_(value)
        restore_adam("adam", self._adam, self._parameters(), tensors)
        self.generator.set_state(tensors["generator"].cpu())
        self.step, self.best_ari = int(state["step"]), float(state["best_ari"])
        self.seconds, self.scores = float(state["seconds"]), dict(state["scores"])
        self.history = list(state.get("history", []))


def _check_scenes(scenes: SceneSet, config: ObjectsConfig) -> None:
    if len(scenes) <= config.training.held_out:
        raise InvalidDataError(
            f"the set holds {len(scenes)} scenes, and {config.training.held_out} are held out; "
            "give more scenes, or set training.held_out"
        )
    if scenes.size != config.image:
        raise InvalidDataError(
            f"the set has images of {scenes.size[1]}x{scenes.size[0]} pixels, the config says "
            f"{config.image[1]}x{config.image[0]}; set image=[{scenes.size[0]},{scenes.size[1]}]"
        )


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _follow(average: dict[str, Tensor], module: nn.Module, fraction: float) -> None:
    """Move averages by a fraction of the way to the present weights."""
    latest = module.state_dict()
    torch._foreach_lerp_([average[name] for name in latest], list(latest.values()), fraction)
