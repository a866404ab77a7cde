"""Sizes and schedule of an object-scene model, with presets.

``reference`` is the published model (83.15 M parameters with 32 slots); ``gpu-small``, ``gpu-lean`` and
``cpu-tiny`` are scaled down for one GPU, for a web page and for two CPU cores.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from smerf.engine.settings import apply_overrides, nearest, require, to_dict
from smerf.errors import UsageError
from smerf.objects.config_training import TrainingConfig, at_least

__all__ = [
    "PRESETS",
    "DecoderConfig",
    "EncoderConfig",
    "ObjectsConfig",
    "RayCode",
    "SlotConfig",
    "TrainingConfig",
    "make_config",
    "plain_values",
]


@dataclass(frozen=True)
class RayCode:
    """Frequencies of the ray encoding: ``2^k pi`` for k = start .. start + octaves - 1."""

    origin_octaves: int = 15
    """Frequencies of the ray's origin."""
    origin_start: int = -5
    """First octave of the origin; -5 keeps positions up to 32 units from the world's origin apart."""
    direction_octaves: int = 15
    """Frequencies of the unit direction."""
    direction_start: int = 0
    """First octave of the direction."""
    slab_octaves: int = 0
    """Frequencies of the points where the ray meets two level planes (a light slab); 0 leaves them out."""
    slab_start: int = -4
    """First octave of those points."""
    slab_heights: tuple[float, float] = (0.0, 1.5)
    """Heights of the planes in world units, around the objects."""

    def __post_init__(self) -> None:
        at_least(self, 1, "origin_octaves", "direction_octaves")
        at_least(self, 0, "slab_octaves")
        for name in ("origin_start", "direction_start", "slab_start"):
            start = getattr(self, name)
            require(-60 <= start <= 60, name, "an octave from -60 to 60", start)
        heights = self.slab_heights
        require(all(map(math.isfinite, heights)), "slab_heights", "two heights", heights)

    @property
    def size(self) -> int:
        """Numbers in the code of one ray."""
        return self.point_size + 8 * self.slab_octaves

    @property
    def point_size(self) -> int:
        """Numbers in the code of a point and the direction that it is seen along, as volumetric decoders read it."""
        return 6 * (self.origin_octaves + self.direction_octaves)


@dataclass(frozen=True)
class EncoderConfig:
    """From images to tokens."""

    convolutions: tuple[tuple[int, int], ...] = ((96, 1), (192, 2), (192, 1), (384, 2), (384, 1), (768, 2))
    """Output channels and stride of each 3x3 convolution; with ``patch`` these are not used."""
    patch: int = 0
    """Side of square patches that one linear layer turns into tokens; 0 uses the convolutions."""
    patch_width: int = 128
    """Width after the patch layer."""
    width: int = 768
    """Token width."""
    layers: int = 5
    """Self-attention layers over the tokens of all views."""
    heads: int = 12
    """Attention heads."""
    hidden: int = 1536
    """Hidden width of each layer's MLP."""
    posed: bool = True
    """Whether the input's rays are given; off is the pose-free variant, which needs ``positions``."""
    positions: tuple[int, int] = (0, 0)
    """Rows and columns of learned token positions with one more vector for the first view; (0, 0) for none."""
    qk_norm: Literal["none", "layer", "unit"] = "none"
    """Norm of queries and keys, see ``smerf.vision.blocks``; it keeps logits small at high learning rates."""
    parallel: bool = False
    """Whether attention and MLP of a layer run side by side, as in ViT-22B."""
    patch_ray: Literal["mean", "centre"] = "mean"
    """Ray of a patch: the mean of its pixels' directions, or exactly the one through its middle, which is the same
    whatever size a photo has."""
    row: int = 0
    """Tokens of a row into which scenes of several sizes are packed; 0 takes the length that costs least."""

    def __post_init__(self) -> None:
        at_least(self, 1, "patch_width", "width", "heads", "hidden")
        at_least(self, 0, "patch", "layers", "row")
        require(
            self.patch > 0 or all(outputs > 0 and stride > 0 for outputs, stride in self.convolutions),
            "convolutions", "output channels and strides of 1 or more", self.convolutions,
        )  # fmt: skip
        require(self.width % self.heads == 0, "width", f"a multiple of heads={self.heads}", self.width)
        require(
            self.positions == (0, 0) or min(self.positions) > 0,
            "positions", "rows and columns of 1 or more, or [0, 0]", self.positions,
        )  # fmt: skip


@dataclass(frozen=True)
class SlotConfig:
    """From tokens to slots."""

    count: int = 32
    """Number of slots K; 0 leaves the tokens as they are (only for the srt decoder)."""
    width: int = 1536
    """Slot width D."""
    hidden: int = 3072
    """Hidden width of the MLP that refines slots."""
    iterations: int = 1
    """Rounds of attention."""
    start: Literal["learned", "random"] = "learned"
    """One learned start for each slot, or samples of one learned Gaussian, which lets K change later."""
    shared_background: bool = False
    """Whether the first slot competes for tokens but keeps its start, the same in every scene: for sets whose scenes
    stand before one background, which the slots of objects need not learn then. Needs learned starts."""

    def __post_init__(self) -> None:
        at_least(self, 1, "width", "hidden", "iterations")
        at_least(self, 0, "count")


@dataclass(frozen=True)
class DecoderConfig:
    """From slots and a ray to a colour."""

    kind: Literal["mixer", "broadcast", "nerf", "srt"] = "mixer"
    """Slot Mixer, Spatial Broadcast, volumetric slot field, or the improved SRT decoder."""
    layers: int = 2
    """Cross-attention layers of mixer and srt."""
    heads: int = 12
    """Heads of those layers."""
    inner: int = 1536
    """Width of all heads together, and of the mixer's comparison of ray and slots."""
    hidden: int = 3072
    """Hidden width of those layers' MLPs."""
    render_width: int = 1536
    """Width of the MLP that gives the colour."""
    render_layers: int = 4
    """Hidden layers of that MLP."""
    near: float = 0.5
    """Nearest sample of the volumetric decoder, in world units."""
    far: float = 20.0
    """Farthest sample of the volumetric decoder."""
    samples: int = 128
    """Stratified samples of the volumetric decoder."""
    fine_samples: int = 64
    """Importance samples of the volumetric decoder."""

    def __post_init__(self) -> None:
        at_least(self, 1, "layers", "heads", "inner", "hidden", "render_width", "samples")
        at_least(self, 0, "render_layers", "fine_samples")
        require(self.inner % self.heads == 0, "inner", f"a multiple of heads={self.heads}", self.inner)
        require(0 <= self.near < self.far < math.inf, "near, far", "0 <= near < far", (self.near, self.far))


@dataclass(frozen=True)
class ObjectsConfig:
    """Everything that decides a model and its training."""

    preset: str = "reference"
    """The preset that the rest began as."""
    image: tuple[int, int] = (128, 128)
    """Height and width of the input images in pixels."""
    frame: Literal["world", "reference"] = "world"
    """Coordinates of all rays: the world's, or those of the first input camera."""
    rays: RayCode = field(default_factory=RayCode)
    """Ray code of encoder and decoder."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """From images to tokens."""
    slots: SlotConfig = field(default_factory=SlotConfig)
    """From tokens to slots."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """From slots to colour."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Schedule."""
    heads: tuple[str, ...] = ()
    """Data sets that have a head of their own: what the background slot starts from, and exposure and white balance.
    Each gets a model file of its own, in which its head is folded into the other weights."""

    def __post_init__(self) -> None:
        require(min(self.image) > 0, "image", "height and width of 1 or more", self.image)
        self._check_encoder()
        quotas = [name for name, _ in self.training.quotas]
        require(
            not self.heads or sorted(self.heads) == sorted(quotas),
            "heads", "the names of training.quotas, or none", self.heads,
        )  # fmt: skip
        if self.training.drop or self.encoder.row:
            self.require_any_size()
        require(all(name.isidentifier() for name in self.heads), "heads", "names of letters", self.heads)
        if not self.encoder.posed and (self.encoder.positions == (0, 0) or self.frame == "world"):
            raise ValueError("a pose-free encoder needs encoder.positions and frame=reference")
        if self.slots.count == 0 and self.decoder.kind != "srt":
            raise ValueError(f"decoder.kind={self.decoder.kind} needs slots.count of at least 1")
        if self.slots.shared_background and (self.slots.start != "learned" or self.slots.count < 2):
            raise ValueError(
                "slots.shared_background needs slots.start=learned and slots.count of at least 2"
            )

    @property
    def takes_any_size(self) -> bool:
        """Whether photos keep their shapes: with patches of which each has exactly its own ray."""
        encoder = self.encoder
        is_exact = encoder.patch > 0 and encoder.posed and encoder.patch_ray == "centre"
        return is_exact and encoder.positions == (0, 0) and self.slots.count > 0

    def takes(self, size: tuple[int, int]) -> bool:
        """Return whether images of a height and width may be given: ``image``, or any whole number of patches."""
        is_whole = self.takes_any_size and not any(side % self.encoder.patch for side in size)
        return size == self.image or is_whole

    def require_any_size(self) -> None:
        """Raise ValueError unless the encoder takes photos of any size."""
        encoder = self.encoder
        if not (encoder.patch and encoder.posed and encoder.positions == (0, 0) and self.slots.count):
            raise ValueError(
                "photos of several sizes, and dropped tokens, need encoder.patch, encoder.posed, slots and no "
                "encoder.positions"
            )

    def _check_encoder(self) -> None:
        patch, (height, width) = self.encoder.patch, self.image
        if patch:
            require(
                height % patch == width % patch == 0,
                "image",
                f"multiples of encoder.patch={patch}",
                self.image,
            )


_LATER = {
    "encoder": ("qk_norm", "parallel", "patch_ray", "row"),
    "training": ("drop", "drop_steps", "drop_whole", "quotas"),
}


def plain_values(config: ObjectsConfig) -> dict[str, Any]:
    """Return plain values by which models and runs are told apart.

    Settings that came later are left out where they have their defaults: what was made before them keeps its name.
    """
    values = to_dict(config)
    for part, names in _LATER.items():
        kind = type(getattr(config, part))
        for field_ in dataclasses.fields(kind):
            if field_.name in names and getattr(getattr(config, part), field_.name) == field_.default:
                del values[part][field_.name]
    if not config.heads:
        del values["heads"]
    return values


_SMALL_CODE = RayCode(6, -4, 5, -1)

PRESETS: dict[str, ObjectsConfig] = {
    "reference": ObjectsConfig(),
    "gpu-small": ObjectsConfig(
        preset="gpu-small",
        image=(64, 64),
        encoder=EncoderConfig(
            convolutions=((64, 1), (96, 2), (96, 1), (192, 2), (192, 1), (192, 2)),
            width=256, layers=3, heads=8, hidden=512,
        ),
        slots=SlotConfig(count=7, width=256, hidden=512, iterations=3),
        decoder=DecoderConfig(heads=8, inner=256, hidden=512, render_width=512),
        training=TrainingConfig(
            rays=512, input_views=2, lr=2e-4, warmup=2000, clip=1.0, steps=8000, ema=0.999,
            decay=0.5, decay_steps=10_000, evaluate_every=500, held_out=64, stuck_step=4000,
        ),
    ),
    "gpu-lean": ObjectsConfig(
        preset="gpu-lean",
        image=(64, 64),
        rays=_SMALL_CODE,
        encoder=EncoderConfig(
            convolutions=((48, 2), (96, 2), (192, 1), (192, 2)), width=192, layers=3, heads=6, hidden=384
        ),
        slots=SlotConfig(count=6, width=192, hidden=384, iterations=3),
        decoder=DecoderConfig(heads=6, inner=192, hidden=384, render_width=256),
        training=TrainingConfig(
            rays=512, input_views=1, targets="all", lr=4e-4, warmup=1000, clip=1.0, steps=30_000, ema=0.999,
            decay=0.5, decay_steps=10_000, evaluate_every=500, held_out=64, stuck_step=10_000,
        ),
    ),
    "cpu-tiny": ObjectsConfig(
        preset="cpu-tiny",
        image=(32, 32),
        rays=_SMALL_CODE,
        encoder=EncoderConfig(convolutions=(), patch=4, width=96, layers=2, heads=4, hidden=192),
        slots=SlotConfig(count=5, width=96, hidden=192, iterations=3),
        decoder=DecoderConfig(heads=4, inner=96, hidden=192, render_width=96, render_layers=3),
        training=TrainingConfig(
            batch=16, rays=128, input_views=1, targets="all", lr=5e-4, warmup=400, clip=1.0, steps=8000,
            decay=0.5, decay_steps=10_000, evaluate_every=250, ema=0.995,
        ),
    ),
}  # fmt: skip
# What was trained on scenes of the recipe ``easy``: a light slab in the ray code, rays where the photos have
# contrast, one background for all scenes, and a Spatial Broadcast decoder that is then distilled into the mixer.
PRESETS["cpu-easy"] = dataclasses.replace(
    PRESETS["cpu-tiny"],
    preset="cpu-easy",
    image=(24, 24),
    rays=dataclasses.replace(_SMALL_CODE, slab_octaves=4),
    slots=dataclasses.replace(PRESETS["cpu-tiny"].slots, count=4, shared_background=True),
    training=dataclasses.replace(
        PRESETS["cpu-tiny"].training, lr=1e-3, warmup=100, decay=0.25, decay_steps=3500, contrast=0.5,
        steps=5000, ema=0.99, broadcast_steps=3500, teach=0.05, margin=2.0, evaluate_every=500, stuck_step=3000,
    ),
)  # fmt: skip
# The same for scenes of the recipe ``clevr`` at 48 pixels, with the block of ViT-22B: norms of queries and keys,
# attention and MLP side by side.
PRESETS["cpu-clevr"] = dataclasses.replace(
    PRESETS["cpu-easy"],
    preset="cpu-clevr",
    image=(48, 48),
    encoder=dataclasses.replace(PRESETS["cpu-easy"].encoder, patch=6, qk_norm="layer", parallel=True),
    slots=dataclasses.replace(PRESETS["cpu-easy"].slots, count=6),
    training=dataclasses.replace(
        PRESETS["cpu-easy"].training, warmup=300, decay=0.15, decay_steps=15_000, steps=20_000, ema=0.995,
        broadcast_steps=15_000, margin=0.0, stuck_step=6000,
    ),
)  # fmt: skip
"""Named configurations."""


def make_config(
    preset: str = "cpu-tiny", overrides: tuple[str, ...] = (), seed: int | None = None
) -> ObjectsConfig:
    """Make the config of a preset.

    Args:
        preset: One of ``PRESETS``.
        overrides: Dotted ``key=value`` pairs, for example ``training.lr=1e-3``; values are YAML.
        seed: Seed of the training.

    Raises:
        UsageError: If the preset, a key or a value is not valid; the message names it.
    """
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: is not one of {', '.join(PRESETS)}{nearest(preset, PRESETS)}")
    config = PRESETS[preset]
    if seed is not None:
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))
    return apply_overrides(config, overrides)
