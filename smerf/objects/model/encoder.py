"""From the images of a scene to tokens, and from tokens to slots."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.objects.cameras import mean_directions
from smerf.objects.config import EncoderConfig, RayCode, SlotConfig
from smerf.objects.model.layers import Block, BlockConfig, projection
from smerf.objects.model.photos import split_token
from smerf.objects.model.ray_code import encode_rays
from smerf.vision.blocks import attention_meters
from smerf.vision.packing import Packed, segment_mask, unpack

__all__ = ["SceneEncoder", "SlotAttention"]


class SceneEncoder(nn.Module):
    """The encoder of the Scene Representation Transformer: patches of all views attend to each other.

    Posed, each pixel carries its ray. Pose-free (UpSRT), tokens carry learned positions instead and a vector that
    tells the first view, whose camera is the frame of the scene, from the others.
    """

    def __init__(self, config: EncoderConfig, code: RayCode) -> None:
        super().__init__()
        self.config, self.code = config, code
        channels = 3 + (code.size if config.posed else 0)
        stem: list[nn.Module] = []
        self.patch_rays = None
        if config.patch:
            stem = [nn.Conv2d(3, config.patch_width, config.patch, config.patch)]
            self.patch_rays = nn.Linear(code.size, config.patch_width) if config.posed else None
            channels = config.patch_width
        else:
            for outputs, stride in config.convolutions:
                stem += [nn.Conv2d(channels, outputs, 3, stride, 1, bias=False), nn.ReLU()]
                channels = outputs
        self.stem = nn.Sequential(*stem)
        self.to_tokens = nn.Conv2d(channels, config.width, 1)
        if config.positions != (0, 0):
            self.positions = nn.Parameter(torch.randn(config.width, *config.positions) * config.width**-0.5)
            self.view_marks = nn.Parameter(torch.randn(2, config.width) * config.width**-0.5)
        else:
            self.positions = self.view_marks = None
        block = BlockConfig(
            config.width, config.heads, config.hidden, qk_norm=config.qk_norm, parallel=config.parallel
        )
        self.layers = nn.ModuleList(Block(block) for _ in range(config.layers))

    def forward(self, images: Tensor, origins: Tensor | None, directions: Tensor | None) -> Tensor:
        """Encode views.

        Args:
            images: Colours in [0, 1], (B, V, H, W, 3).
            origins: Camera centres (B, V, 3); not read by a pose-free encoder.
            directions: Unit directions of all pixels (B, V, H, W, 3), with ``patch_ray=centre`` of all patches; not
                read by a pose-free encoder.

        Returns:
            Tokens (B, T, width), view by view.

        Raises:
            ValueError: If a posed encoder gets no rays, or the image has more tokens than positions.
        """
        return self._mix(self.embed(images, origins, directions))

    def embed(self, images: Tensor, origins: Tensor | None, directions: Tensor | None) -> Tensor:
        """Return tokens as ``forward`` does, before they look at each other."""
        scenes, views, height, width = images.shape[:4]
        if not self.config.posed:
            origins = directions = None
        elif origins is None or directions is None:
            raise ValueError("origins, directions: this encoder needs the rays of its input")
        x = self.to_tokens(
            (self._patches if self.config.patch else self._convolve)(images, origins, directions)
        )
        if self.positions is not None:
            rows, columns = x.shape[-2:]
            if rows > self.positions.shape[1] or columns > self.positions.shape[2]:
                raise ValueError(
                    f"images: {height}x{width} gives {rows}x{columns} tokens, more than the learned "
                    f"{self.positions.shape[1]}x{self.positions.shape[2]} positions"
                )
            x = x + self.positions[:, :rows, :columns]
            is_first = torch.arange(views, device=x.device) == 0
            marks = torch.where(is_first[:, None], self.view_marks[0], self.view_marks[1])
            x = x + marks.repeat(scenes, 1)[:, :, None, None]
        return x.flatten(2).mT.unflatten(0, (scenes, views)).flatten(1, 2)

    def encode_rows(self, packed: Packed) -> tuple[Tensor, Tensor]:
        """Encode what ``pack_photos`` packed; scenes of a row do not see each other.

        Returns:
            Tokens (B, T, width) of the B scenes, and which of them are there, bool (B, T).
        """
        # Where every row is one scene without padding, all may look at all.
        is_full = bool((packed.segment == 1).all())
        x = self._mix(self._embed_rows(packed.tokens), None if is_full else segment_mask(packed.segment))
        return unpack(x, packed)

    def _mix(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask=mask)
        return x

    @torch.no_grad()
    def meters(
        self, x: Tensor, mask: Tensor | None = None, counted: Tensor | None = None
    ) -> list[tuple[float, float]]:
        """Return ``attention_meters`` of every layer for embedded tokens (B, T, width)."""
        found = []
        for layer in self.layers:
            assert isinstance(layer, Block)
            found.append(attention_meters(layer, x, mask, counted))
            x = layer(x, mask=mask)
        return found

    def _convolve(self, images: Tensor, origins: Tensor | None, directions: Tensor | None) -> Tensor:
        pixels = [images]
        if origins is not None and directions is not None:
            pixels.append(encode_rays(origins[:, :, None, None, :], directions, self.code).to(images.dtype))
        return self.stem(torch.cat(pixels, -1).flatten(0, 1).permute(0, 3, 1, 2))

    def _patches(self, images: Tensor, origins: Tensor | None, directions: Tensor | None) -> Tensor:
        """Add up what one linear layer makes of a patch's colours and another of the ray through its middle.

        Were every pixel to carry its ray code, colours would be a few inputs among thousands, and a small model
        would take very long to notice them.
        """
        x = self.stem(4.0 * (images - 0.5).flatten(0, 1).permute(0, 3, 1, 2))
        if origins is not None and directions is not None:
            assert self.patch_rays is not None
            middle = directions.flatten(0, 1)
            if self.config.patch_ray == "mean":
                middle = mean_directions(middle, self.config.patch)
            code = encode_rays(origins.flatten(0, 1)[:, None, None, :], middle, self.code)
            x = x + self.patch_rays(code.to(x.dtype)).permute(0, 3, 1, 2)
        return functional.relu(x)

    def _embed_rows(self, tokens: Tensor) -> Tensor:
        """Embed packed tokens (B, L, C) as ``_patches`` embeds photos: (B, L, width)."""
        assert self.patch_rays is not None
        stem, to_tokens = self.stem[0], self.to_tokens
        assert isinstance(stem, nn.Conv2d)
        colours, centres, directions = split_token(tokens)
        x = functional.linear(4.0 * (colours - 0.5), stem.weight.flatten(1), stem.bias)
        code = encode_rays(centres, directions, self.code)
        x = functional.relu(x + self.patch_rays(code.to(x.dtype)))
        return functional.linear(x, to_tokens.weight.flatten(1), to_tokens.bias)


class SlotAttention(nn.Module):
    """Slots that compete for the tokens of a scene (Locatello et al. 2020, with OSRT's choices).

    With learned starts each slot has a start of its own; with random starts all are sampled from one learned
    Gaussian, so that their number may change after the training.
    """

    def __init__(self, config: SlotConfig, token_width: int) -> None:
        super().__init__()
        width = config.width
        self.config = config
        if config.start == "learned":
            self.starts = nn.Parameter(torch.randn(config.count, width))
        else:
            self.mean = nn.Parameter(torch.randn(width) * width**-0.5)
            self.log_std = nn.Parameter(torch.zeros(width))
        self.token_norm = nn.LayerNorm(token_width)
        self.slot_norm = nn.LayerNorm(width)
        self.mlp_norm = nn.LayerNorm(width)
        self.query = projection(width, width)
        self.key = projection(token_width, width)
        self.value = projection(token_width, width)
        self.cell = nn.GRUCell(width, width)
        self.mlp = nn.Sequential(
            projection(width, config.hidden, bias=True),
            nn.ReLU(),
            projection(config.hidden, width, bias=True),
        )

    def begin(
        self, scenes: int, generator: torch.Generator | None = None, count: int | None = None
    ) -> Tensor:
        """Return the starts of ``scenes`` scenes, (B, K, D).

        Args:
            scenes: B.
            generator: Source of random starts, on the model's device or the CPU; the default one if not given.
            count: Another number of slots than trained with; only for random starts.
        """
        if self.config.start == "learned":
            if count not in (None, self.config.count):
                raise ValueError(
                    f"count: a model with learned starts has {self.config.count} slots, got {count}"
                )
            return self.starts.expand(scenes, -1, -1)
        shape = (scenes, count or self.config.count, self.config.width)
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(shape, generator=generator, device=device).to(self.mean)
        return self.mean + self.log_std.exp() * noise

    def forward(
        self, tokens: Tensor, starts: Tensor, is_there: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Group tokens (B, T, C) into slots; those that are not there, bool (B, T), are not read.

        Returns:
            Slots (B, K, D), and the attention of the last round (B, K, T), which sums to 1 over slots.
        """
        scenes, count, width = starts.shape
        tokens = self.token_norm(tokens)
        keys, values = self.key(tokens), self.value(tokens)
        slots = starts
        for _ in range(self.config.iterations):
            queries = self.query(self.slot_norm(slots))
            attention = torch.softmax((queries @ keys.mT).float() * width**-0.5, 1)
            weights = attention + 1e-8
            if is_there is not None:
                weights = weights * is_there[:, None]
            weights = weights / weights.sum(-1, keepdim=True)
            updates = weights.to(values.dtype) @ values
            slots = self.cell(updates.flatten(0, 1), slots.flatten(0, 1).to(updates.dtype))
            slots = slots.unflatten(0, (scenes, count))
            slots = slots + self.mlp(self.mlp_norm(slots))
            if self.config.shared_background:
                slots = torch.cat([starts[:, :1].to(slots.dtype), slots[:, 1:]], 1)
        return slots, attention
