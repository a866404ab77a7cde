"""From the images of a scene to tokens, and from tokens to slots."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.objects.config import EncoderConfig, RayCode, SlotConfig
from smerf.objects.model.layers import attention_layer, projection
from smerf.objects.model.ray_code import encode_rays

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
        self.layers = nn.ModuleList(
            attention_layer(config.width, config.width, config.heads, config.hidden)
            for _ in range(config.layers)
        )

    def forward(self, images: Tensor, origins: Tensor | None, directions: Tensor | None) -> Tensor:
        """Encode views.

        Args:
            images: Colours in [0, 1], (B, V, H, W, 3).
            origins: Camera centres (B, V, 3); not read by a pose-free encoder.
            directions: Unit directions of all pixels (B, V, H, W, 3); not read by a pose-free encoder.

        Returns:
            Tokens (B, T, width), view by view.

        Raises:
            ValueError: If a posed encoder gets no rays, or the image has more tokens than positions.
        """
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
        x = x.flatten(2).mT.unflatten(0, (scenes, views)).flatten(1, 2)
        for layer in self.layers:
            x = layer(x)
        return x

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
            middle = functional.avg_pool2d(directions.flatten(0, 1).permute(0, 3, 1, 2), self.config.patch)
            middle = functional.normalize(middle.permute(0, 2, 3, 1), dim=-1)
            code = encode_rays(origins.flatten(0, 1)[:, None, None, :], middle, self.code)
            x = x + self.patch_rays(code.to(x.dtype)).permute(0, 3, 1, 2)
        return functional.relu(x)


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

    def forward(self, tokens: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Group tokens (B, T, C) into slots.

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
            weights = weights / weights.sum(-1, keepdim=True)
            updates = weights.to(values.dtype) @ values
            slots = self.cell(updates.flatten(0, 1), slots.flatten(0, 1).to(updates.dtype))
            slots = slots.unflatten(0, (scenes, count))
            slots = slots + self.mlp(self.mlp_norm(slots))
            if self.config.shared_background:
                slots = torch.cat([starts[:, :1].to(slots.dtype), slots[:, 1:]], 1)
        return slots, attention
