"""OWL-ViT on videos: queries that are carried from frame to frame, so that a query's number is a track.

``decoder.safetensors`` in a folder of OWL-ViT holds the decoder alone, with its settings in the header.

Source: Video OWL-ViT (Heigold et al. 2023, arXiv 2308.11093), section 3. Its weights are not public.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from smerf.capture.types import Camera
from smerf.engine.settings import from_dict, to_dict
from smerf.engine.tensors import read_tensors, write_tensors
from smerf.errors import InvalidDataError
from smerf.vision.blocks import Block, BlockConfig
from smerf.vision.owl import Found, Owl

__all__ = ["DECODER", "CarriedConfig", "VideoOwl", "order_by_pose", "read_carried", "write_decoder"]

DECODER = "decoder.safetensors"
_FORMAT = "smerf-carried-1"


@dataclass(frozen=True)
class CarriedConfig:
    """Sizes of the decoder; its blocks have the width of the image tower."""

    queries: int
    layers: int
    block: BlockConfig


class _Layer(nn.Module):
    """Queries look at each other, then at the tokens of a frame."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.among = Block(config)
        self.over = Block(replace(config, key_width=config.width))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        queries = self.among(queries)
        return self.over(queries, self.over.attention.keys_values(tokens))


class VideoOwl(nn.Module):
    """An image detector whose heads read queries instead of patches.

    Args:
        owl: The detector; its towers and heads are used as they are, and may be trained on.
        config: Sizes of the decoder, which is new.

    Raises:
        ValueError: If the decoder's width is not that of the detector's image tower.
    """

    def __init__(self, owl: Owl, config: CarriedConfig) -> None:
        super().__init__()
        width = owl.config.towers.image.block.width
        if config.block.width != width:
            raise ValueError(f"block.width: is {config.block.width}; the detector's image tower has {width}")
        self.owl = owl
        self.start = nn.Parameter(torch.randn(config.queries, width) * width**-0.5)
        self.place = nn.Parameter(torch.randn(config.queries, 4))
        self.layers = nn.ModuleList(_Layer(config.block) for _ in range(config.layers))

    def read(self, queries: Tensor, images: Tensor) -> Tensor:
        """Return what queries (B, N, D) become after a frame of normalised images (B, 3, size, size)."""
        tokens = self.owl.image_tokens(images)
        for layer in self.layers:
            queries = layer(queries, tokens)
        return queries

    def forward(
        self, frames: Iterable[Tensor], words: Tensor, used: Tensor | None = None, *, carry: bool = True
    ) -> Iterator[Found]:
        """Find words in the frames of a video, one after the other.

        Args:
            frames: Normalised images (B, 3, size, size) in their order.
            words: Unit vectors of words (B, Q, P), from ``Owl.queries``.
            used: Bool (B, Q), false for padding.
            carry: Whether a frame starts from what the queries became at the one before. Train first without, or
                identities are not learned.

        Yields:
            For each frame boxes (B, N, 4) and logits (B, N, Q) of the N queries; row n is the same thing in all.
        """
        batch = len(words)
        queries = start = self.start.expand(batch, -1, -1)
        for images in frames:
            queries = self.read(queries if carry else start, images)
            boxes = torch.sigmoid(self.owl.box_head(queries) + self.place)
            objectness = (
                None if self.owl.objectness_head is None else self.owl.objectness_head(queries)[..., 0]
            )
            yield Found(boxes, self.owl.class_head(queries, words, used), objectness)


def write_decoder(folder: Path, model: VideoOwl, config: CarriedConfig) -> None:
    """Write the decoder of a model into the folder of its detector."""
    own = {name: value for name, value in model.state_dict().items() if not name.startswith("owl.")}
    write_tensors(folder / DECODER, own, _FORMAT, {"config": json.dumps(to_dict(config))})


def read_carried(folder: Path, owl: Owl) -> VideoOwl:
    """Return a detector with the decoder of its folder.

    Raises:
        InvalidDataError: If the decoder is damaged, or belongs to another detector.
    """
    path = folder / DECODER
    tensors, header = read_tensors(path, _FORMAT, "a carried decoder", "remove it")
    try:
        model = VideoOwl(owl, from_dict(CarriedConfig, json.loads(header["config"])))
        missing, unknown = model.load_state_dict(tensors, strict=False)
    except (KeyError, ValueError, RuntimeError) as error:
        raise InvalidDataError(f"{path}: does not fit the detector beside it ({error})") from error
    lacking = [name for name in missing if not name.startswith("owl.")]
    if lacking or unknown:
        raise InvalidDataError(f"{path}: lacks {lacking[:3]}, has {unknown[:3]} that the decoder does not")
    return model.eval()


def order_by_pose(cameras: Sequence[Camera]) -> list[int]:
    """Return an order in which photos pass for a video: from the first on, always the nearest that is left.

    Distance is that of the centres, in units of their median distance from the middle, plus the angle between the
    views in radians.
    """
    poses = np.stack([camera.world_from_cam for camera in cameras])
    centres, views = poses[:, :, 3], -poses[:, :, 2]
    spread = float(np.median(np.linalg.norm(centres - centres.mean(0), axis=1))) or 1.0
    left = np.ones(len(poses), bool)
    order = [0]
    left[0] = False
    while left.any():
        last = order[-1]
        far = np.linalg.norm(centres - centres[last], axis=1) / spread
        far += np.arccos((views @ views[last]).clip(-1.0, 1.0))
        order.append(int(np.where(left, far, np.inf).argmin()))
        left[order[-1]] = False
    return order
