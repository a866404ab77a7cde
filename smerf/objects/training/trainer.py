"""What a step of training an object-scene model is, and everything that the next step depends on."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from smerf.engine import distributed
from smerf.engine.adam_state import add_prefix, pack_adam, restore_adam, strip_prefix
from smerf.engine.quotas import quota_order
from smerf.errors import InvalidDataError
from smerf.objects.config import ObjectsConfig
from smerf.objects.data.batches import MixedBatch, SceneBatch, sample_batch
from smerf.objects.data.mixtures import Mixture, Part, sample_mixed
from smerf.objects.data.scenes import SceneSet
from smerf.objects.model.decoders import BroadcastDecoder, Decoded
from smerf.objects.model.osrt import Osrt
from smerf.objects.training import schedule
from smerf.objects.training.distillation import distillation_loss, random_edit
from smerf.objects.training.evaluate import evaluate_scenes

__all__ = ["ObjectsTrainer", "background_prior"]

_METERED = 16


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
        scenes: The whole set, or several; the last ``training.held_out`` scenes of each are never trained on.
        config: Sizes and schedule.
        device: Where to train; the scenes are moved there.

    Raises:
        InvalidDataError: If the scenes do not match the config.
        UsageError: If the batch can't be divided evenly over the processes.
    """

    def __init__(self, scenes: SceneSet | Mixture, config: ObjectsConfig, device: str = "cpu") -> None:
        training = config.training
        self.mixture = Mixture({"": (scenes,)}) if isinstance(scenes, SceneSet) else scenes
        self.sets = self.mixture.parts(config, device)
        self.config, self.device = config, device
        self.process = distributed.this_process()
        self.rows = self.process.rows(training.batch, "scenes")
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
        training = self.config.training
        self._order = quota_order(training.quotas, training.steps, self.seed) if training.quotas else []
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
        # A head that the other model lacks begins as no change.
        heads = {name: value for name, value in self.model.state_dict().items() if name.startswith("heads.")}
        try:
            self.model.load_state_dict(heads | model.state_dict())
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

    @property
    def data_set(self) -> str:
        """Name of the data set that the next step is on; '' where there are no quotas."""
        return self._order[self.step] if self.step < len(self._order) else next(iter(self.sets))

    @property
    def _head(self) -> str | None:
        return self.data_set if self.config.heads else None

    def _sample(self) -> SceneBatch | MixedBatch:
        training, parts = self.config.training, self.sets[self.data_set]
        total = sum(len(part.scenes) for part in parts)
        which = torch.randint(total, (training.batch,), generator=self.generator)
        if len(parts) > 1 or training.drop or self.config.encoder.row:
            return sample_mixed(parts, which, self.config, self.generator, self.rows)
        return sample_batch(
            parts[0].scenes,
            which,
            training,
            self.generator,
            frame=self.config.frame,
            contrast=parts[0].contrast,
            rows=self.rows,
        )

    def loss(self, batch: SceneBatch | MixedBatch) -> Tensor:
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

    def _encode(self, batch: SceneBatch | MixedBatch) -> Tensor:
        is_frozen = schedule.is_encoder_frozen(self.step, self.config.training)
        with torch.set_grad_enabled(not is_frozen):
            starts = None
            if self.model.slots is not None:
                starts = self.model.slots.begin(self.config.training.batch, self.generator)[self.rows]
            if isinstance(batch, MixedBatch):
                keep = self._kept_tokens(batch)
                return self.model.encode_photos(batch.photos, starts=starts, keep=keep, head=self._head)
            return self.model.encode(
                batch.images, batch.world_from_cam, batch.fov_x, starts=starts, head=self._head
            )

    def _kept_tokens(self, batch: MixedBatch) -> list[Tensor] | None:
        """Sample which tokens of each scene the encoder sees, in their order; None for all."""
        training = self.config.training
        share = schedule.dropped_share(self.step, training)
        if not share:
            return None
        lengths = (batch.lengths // self.config.encoder.patch**2).tolist()
        largest = max(math.prod(part.scenes.size) for parts in self.sets.values() for part in parts)
        longest = training.input_views * largest // self.config.encoder.patch**2
        noise = torch.rand(training.batch, longest, generator=self.generator)[self.rows]
        is_whole = (torch.rand(training.batch, generator=self.generator) < training.drop_whole)[self.rows]
        counts = [n if whole else max(1, round((1.0 - share) * n)) for n, whole in zip(lengths, is_whole)]
        return [
            noise[i, :length].argsort()[:count].sort().values.to(batch.colours.device)
            for i, (length, count) in enumerate(zip(lengths, counts))
        ]

    def _decode(self, slots: Tensor, batch: SceneBatch | MixedBatch) -> Decoded:
        is_first = self.broadcast is not None and schedule.is_broadcasting(self.step, self.config.training)
        decoder = self.broadcast if self.broadcast is not None and is_first else self.model.decoder
        prepared = self.model.toned(decoder.prepare(slots), self._head)
        if is_first:
            return decoder(prepared, batch.origins[:, None], batch.directions[:, None])
        return self.model.decode(prepared, batch.origins, batch.directions)

    def _distillation_loss(self, slots: Tensor, batch: SceneBatch | MixedBatch) -> Tensor:
        """Every other step is on edited scenes."""
        assert self.broadcast is not None
        training = self.config.training
        first, margin = (0, 0.0) if self._background is None else (1, training.margin)
        edit = None
        if self.step % 2:
            edit = random_edit(batch, slots.shape[1], first, self.generator, self.process)
        return distillation_loss(
            self.model, self.broadcast, slots, batch, training.teach, edit, margin, self._head
        )

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

    def averaged_first(self) -> BroadcastDecoder | None:
        """Return the first decoder with averaged weights, as long as the model's own is not trained yet."""
        # At the very step of the change it is not either.
        if self.broadcast is None or self.step > self.config.training.broadcast_steps:
            return None
        decoder = self._new_broadcast()
        decoder.load_state_dict(self.broadcast_average)
        return decoder

    def evaluate(self) -> dict[str, float]:
        """Measure the averaged weights on the held-out scenes (see ``evaluate_scenes``).

        With several sets each figure has the name of its set before it, such as ``easy.psnr``; they are never averaged.
        """
        decoder = self.averaged_first()
        views = self.config.training.input_views
        model, self.scores = self.averaged(), {}
        for label, name, part in self._labelled():
            head = name if self.config.heads else None
            scores = evaluate_scenes(model, part.held_out, views, decoder=decoder, head=head)
            self.scores |= {f"{label}.{key}" if label else key: value for key, value in scores.items()}
        found = [value for key, value in self.scores.items() if key.rpartition(".")[2] == "fg_ari"]
        self.best_ari = max(self.best_ari, *found, -1.0)
        return self.scores

    def _labelled(self) -> list[tuple[str, str, Part]]:
        """Return all parts with a label for their figures, empty if there is one alone, and their data set."""
        result: dict[str, tuple[str, Part]] = {}
        for name, parts in self.sets.items():
            for number, part in enumerate(parts, 1):
                size = f"{part.scenes.size[1]}x{part.scenes.size[0]}" if len(parts) > 1 else ""
                label = ".".join(filter(None, (name, size)))
                result[f"{label}.{number}" if label in result else label] = (name, part)
        return [(label, *found) for label, found in result.items()]

    def meters(self) -> dict[str, float]:
        """Return the encoder's largest attention ``logit``, and the least ``entropy`` in nats of its layers.

        Of held-out scenes and the latest weights; both warn of divergence long before the loss does.
        """
        given = slice(0, self.config.training.input_views)
        found = []
        for _, _, part in self._labelled():
            views = part.held_out[:_METERED].in_frame(self.config.frame)
            found += self.model.attention_meters(
                views.images(given), views.world_from_cam[:, given], views.fov_x[:, given]
            )
        if not found:
            return {}
        return {"logit": max(logit for logit, _ in found), "entropy": min(entropy for _, entropy in found)}

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


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _follow(average: dict[str, Tensor], module: nn.Module, fraction: float) -> None:
    """Move averages by a fraction of the way to the present weights."""
    latest = module.state_dict()
    torch._foreach_lerp_([average[name] for name in latest], list(latest.values()), fraction)
