"""Fitting an object-scene model to sets of scenes, on one process or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from smerf.errors import InvalidDataError
from smerf.objects.config import ObjectsConfig
from smerf.objects.data.scenes import RayBatch, SceneSet
from smerf.objects.model.decoders import BroadcastDecoder, Decoded
from smerf.objects.model.osrt import Osrt
from smerf.objects.training.evaluate import evaluate_scenes
from smerf.objects.training.handover import random_edit, taught_loss

__all__ = ["ObjectsTrainer", "background_prior", "learning_rate"]

_PRIOR_STEPS = 500


def background_prior(weights: Tensor, slot: int | None = None) -> Tensor:
    """Return the share of a scene's rays that the background leaves to other slots, a mean over scenes.

    Args:
        weights: Shares (B, R, K) of the slots, which sum to 1.
        slot: The slot of the background; the largest of each scene if not given.
    """
    shares = weights.mean(1)
    return (1.0 - (shares.amax(-1) if slot is None else shares[:, slot])).mean()


def learning_rate(step: int, config: ObjectsConfig) -> float:
    """Return the learning rate of a step: linear warm-up from 0, then exponential decay.

    Where one decoder teaches the next, both begin anew for the second.
    """
    training = config.training
    if training.teach and step > training.broadcast_steps:
        step -= training.broadcast_steps
    if step < training.warmup:
        return training.lr * step / training.warmup
    return training.lr * training.decay ** ((step - training.warmup) / training.decay_steps)


class ObjectsTrainer:
    """The state of a training: model, averaged weights, optimiser moments, step and random generator.

    With several processes (torch.distributed is initialised) each draws its share of the batch, and gradients are
    averaged; every process keeps the same weights.

    Args:
        scenes: The whole set; its last ``training.held_out`` scenes are never trained on.
        config: Sizes and schedule.
        device: Where the model learns; the scenes are moved there.
    """

    def __init__(self, scenes: SceneSet, config: ObjectsConfig, device: str = "cpu") -> None:
        training = config.training
        if len(scenes) <= training.held_out:
            raise InvalidDataError(
                f"the set holds {len(scenes)} scenes, and {training.held_out} are held out; "
                "give more scenes, or set training.held_out"
            )
        if scenes.size != config.image:
            raise InvalidDataError(
                f"the set has images of {scenes.size[1]}x{scenes.size[0]} pixels, the config says "
                f"{config.image[1]}x{config.image[0]}; set image=[{scenes.size[0]},{scenes.size[1]}]"
            )
        self.config, self.device = config, device
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        self.processes = distributed.get_world_size() if distributed.is_initialized() else 1
        scenes = scenes.to(device)
        split = len(scenes) - training.held_out
        self.scenes, self.held_out = scenes[:split], scenes[split:]
        self.contrast = self.scenes.local_contrast() if training.contrast else None
        # The seed may move on when a run is stuck.
        self.seed = training.seed
        self.restarts = 0
        self.best_ari = -1.0
        self.seconds = 0.0
        self.scores: dict[str, float] = {}
        self._begin()

    def _begin(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model = Osrt(self.config).to(self.device)
            self.broadcast: BroadcastDecoder | None = None
            if self.config.training.broadcast_steps:
                self.broadcast = self._new_broadcast()
        self.average = _copied(self.model)
        self.broadcast_average = {} if self.broadcast is None else _copied(self.broadcast)
        self.generator = torch.Generator().manual_seed(self.seed * 1000 + 1 + self.rank)
        fused = self.device == "cpu"
        self._adam = torch.optim.Adam(self._parameters(), lr=self.config.training.lr, fused=fused)
        if self.device.startswith("cuda"):
            # In parts, so that moving on from the first decoder to the second compiles nothing anew.
            for part in (self.model.encoder, self.model.slots, self.model.decoder, self.broadcast):
                if part is not None:
                    part.compile(dynamic=False)
        self.step = 0
        self.best_ari = -1.0

    def _new_broadcast(self) -> BroadcastDecoder:
        config = self.config
        return BroadcastDecoder(config.decoder, config.rays, config.slots.width).to(self.device)

    def start_from(self, model: Osrt) -> None:
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
        extra = [] if self.broadcast is None else list(self.broadcast.parameters())
        return [*self.model.parameters(), *extra]

    def _encode(self, batch: RayBatch) -> Tensor:
        with torch.set_grad_enabled(not self.is_encoder_resting):
            return self.model.encode(batch.images, batch.centre, batch.rotation, batch.fov_x)

    def _decode(self, slots: Tensor, batch: RayBatch) -> Decoded:
        if self.is_broadcasting:
            assert self.broadcast is not None
            return self.broadcast(
                self.broadcast.prepare(slots), batch.origins[:, None], batch.directions[:, None]
            )
        return self.model.decode(self.model.prepare(slots), batch.origins, batch.directions)

    @property
    def is_broadcasting(self) -> bool:
        """Whether the first decoder, Spatial Broadcast, is still the one that learns."""
        return self.broadcast is not None and self.step < self.config.training.broadcast_steps

    @property
    def is_encoder_resting(self) -> bool:
        """Whether the second decoder is so new that its gradients would spoil what the encoder has learned."""
        first = self.config.training.broadcast_steps
        return self.is_taught or first <= self.step < first + first // 4

    @property
    def is_taught(self) -> bool:
        """Whether the second decoder now learns from the first (see ``handover``)."""
        return self.config.training.teach > 0 and self.broadcast is not None and not self.is_broadcasting

    def loss(self, batch: RayBatch) -> Tensor:
        """Return the mean squared error of the rays' colours, over rays and channels, and the prior if there is one."""
        is_cuda = self.device.startswith("cuda")
        with torch.autocast("cuda", torch.bfloat16) if is_cuda else torch.autocast("cpu", enabled=False):
            slots = self._encode(batch)
            if self.is_taught:
                return self._taught_loss(slots, batch)
            decoded = self._decode(slots, batch)
        loss = (decoded.colour - batch.colours).square().mean()
        if decoded.coarse is not None:
            loss = loss + (decoded.coarse - batch.colours).square().mean()
        training = self.config.training
        if training.background and self.step > training.background_step:
            grown = min(1.0, (self.step - training.background_step) / _PRIOR_STEPS)
            loss = loss + training.background * grown * background_prior(decoded.weights, self._background)
        return loss

    @property
    def _background(self) -> int | None:
        return 0 if self.config.slots.shared_background else None

    def _taught_loss(self, slots: Tensor, batch: RayBatch) -> Tensor:
        """Every other step is on edited scenes."""
        assert self.broadcast is not None
        training = self.config.training
        margin = 0.0 if self._background is None else training.margin
        edit = None
        if self.step % 2:
            first = 0 if self._background is None else 1
            edit = random_edit(batch, slots.shape[1], first, self.generator)
        return taught_loss(self.model, self.broadcast, slots, batch, training.teach, edit, margin)

    def advance(self) -> float:
        """Take one optimiser step and return its loss."""
        training = self.config.training
        if self.is_taught and self.step == training.broadcast_steps:
            self._hand_over()
        share = max(1, training.batch // self.processes)
        chosen = torch.randint(len(self.scenes), (share,), generator=self.generator)
        batch = self.scenes.batch(
            chosen,
            input_views=training.input_views,
            rays=training.rays,
            targets=training.targets,
            generator=self.generator,
            frame=self.config.frame,
            contrast=self.contrast,
            contrast_share=training.contrast,
        )
        rate = learning_rate(self.step + 1, self.config)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        parameters = [p for p in self._parameters() if p.grad is not None]
        self._average_gradients(parameters)
        if training.clip:
            nn.utils.clip_grad_norm_(parameters, training.clip)
        self._adam.step()
        self.step += 1
        # Early averages would remember the start; a short memory at first does not.
        decay = min(training.ema, (1.0 + self.step) / (10.0 + self.step))
        _follow(self.average, self.model, 1.0 - decay)
        if self.broadcast is not None and self.step <= training.broadcast_steps:
            _follow(self.broadcast_average, self.broadcast, 1.0 - decay)
        return float(loss.detach())

    def _hand_over(self) -> None:
        """Let slots and first decoder rest at their averages, which are better than where they happen to be."""
        assert self.broadcast is not None
        self.model.load_state_dict(self.average)
        self.broadcast.load_state_dict(self.broadcast_average)

    def _average_gradients(self, parameters: list[nn.Parameter]) -> None:
        if self.processes == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        distributed.all_reduce(flat)
        flat /= self.processes
        start = 0
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad.copy_(flat[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()

    def averaged(self) -> Osrt:
        """Return a model with the averaged weights, ready to use."""
        with torch.device("meta"):
            model = Osrt(self.config)
        model.load_state_dict({name: value.clone() for name, value in self.average.items()}, assign=True)
        return model.eval().requires_grad_(False)

    def evaluate(self) -> dict[str, float]:
        """Measure the averaged weights on the held-out scenes (see ``evaluate_scenes``)."""
        model = self.averaged()
        # At the very step of the change the second decoder has not learned anything yet.
        decoder = None
        if self.broadcast is not None and self.step <= self.config.training.broadcast_steps:
            decoder = self._new_broadcast()
            decoder.load_state_dict(self.broadcast_average)
        views = self.config.training.input_views
        self.scores = evaluate_scenes(model, self.held_out, views, decoder=decoder)
        self.best_ari = max(self.best_ari, self.scores.get("fg_ari", -1.0))
        return self.scores

    @property
    def is_stuck(self) -> bool:
        """Whether the run is past ``stuck_step`` and its FG-ARI never rose above ``stuck_ari``."""
        training = self.config.training
        return 0 < training.stuck_step <= self.step and self.best_ari < training.stuck_ari

    def restart(self) -> None:
        """Begin anew with the next seed."""
        self.seed += 1
        self.restarts += 1
        self._begin()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that resuming needs, by name."""
        result = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        result |= {f"average.{name}": value for name, value in self.average.items()}
        if self.broadcast is not None:
            result |= {f"broadcast.{name}": value for name, value in self.broadcast.state_dict().items()}
            result |= {f"broadcast_average.{name}": value for name, value in self.broadcast_average.items()}
        for index, parameter in enumerate(self._parameters()):
            for name, value in self._adam.state.get(parameter, {}).items():
                result[f"adam.{index}.{name}"] = torch.as_tensor(value)
        result["generator"] = self.generator.get_state()
        return result

    def state(self) -> dict[str, object]:
        """Return the counters that belong to ``tensors``."""
        return {
            "step": self.step, "seed": self.seed, "restarts": self.restarts, "best_ari": self.best_ari,
            "seconds": self.seconds, "scores": self.scores,
        }  # fmt: skip

    def restore(self, tensors: dict[str, Tensor], state: dict) -> None:
        """Continue from saved ``tensors`` and ``state``."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.seed, self.restarts = int(state["seed"]), int(state["restarts"])
        self._begin()
        self.model.load_state_dict(part("model."))
        for name, value in part("average.").items():
            self.average[name].copy_(value)
        if self.broadcast is not None:
            self.broadcast.load_state_dict(part("broadcast."))
            self.broadcast_average = _copied(self.broadcast)
            for name, value in part("broadcast_average.").items():
                self.broadcast_average[name].copy_(value)
        for index, parameter in enumerate(self._parameters()):
            moments = part(f"adam.{index}.")
            if moments:
                self._adam.state[parameter] = {
                    name: value.clone() if name == "step" else value.to(self.device, copy=True)
                    for name, value in moments.items()
                }
        self.generator.set_state(tensors["generator"].cpu())
        if self.rank:
            # The state is the first process's; the others draw on with seeds of their own.
            self.generator.manual_seed(self.seed * 1000 + 1 + self.rank + int(state["step"]))
        self.step, self.best_ari = int(state["step"]), float(state["best_ari"])
        self.seconds, self.scores = float(state["seconds"]), dict(state["scores"])

    def run(
        self,
        *,
        report: Callable[[int, dict[str, float]], None] | None = None,
        save: Callable[[], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[dict[str, float]]:
        """Train to the last step; yields the scores of each measurement. Saves in between and when asked to stop."""
        training = self.config.training
        saved = began = time.monotonic()
        mean = None
        while self.step < training.steps:
            loss = self.advance()
            mean = loss if mean is None else 0.98 * mean + 0.02 * loss
            now = time.monotonic()
            self.seconds += now - began
            began = now
            if report:
                report(
                    self.step, {"loss": mean, "psnr": -10.0 * math.log10(max(mean, 1e-10)), **self._shown()}
                )
            if self.step % training.evaluate_every == 0 or self.step == training.steps:
                self.evaluate()
                yield dict(self.scores)
                if self.is_stuck and self.restarts < training.restarts:
                    self.restart()
            stopping = self._agree(stop is not None and stop())
            if save and (stopping or now - saved > training.checkpoint_seconds):
                save()
                saved = time.monotonic()
            if stopping:
                return

    def _shown(self) -> dict[str, float]:
        return {"fg_ari": self.scores["fg_ari"]} if "fg_ari" in self.scores else {}

    def _agree(self, wish: bool) -> bool:
        """Stop all processes when one is asked to."""
        if self.processes == 1:
            return wish
        flag = torch.tensor([float(wish)], device=self.device)
        distributed.all_reduce(flag)
        return bool(flag.item() > 0)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _follow(average: dict[str, Tensor], module: nn.Module, share: float) -> None:
    """Move averages by a share of the way to the present weights."""
    latest = module.state_dict()
    torch._foreach_lerp_([average[name] for name in latest], list(latest.values()), share)
