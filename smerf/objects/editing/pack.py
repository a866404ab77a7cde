"""Slots and a Slot Mixer made ready for the viewers' shaders.

For fixed slots the attention of a ray is linear in its feature before the softmax and in its weights after it. So keys
fold into the query's matrix, values into the output's, gains and shifts of layer norms into the matrices behind them,
and the slots into the first matrix of the rendering MLP. What is left costs the same for any slot width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from smerf.errors import UsageError
from smerf.objects.cameras import pose_and_fov, to_cv
from smerf.objects.config import RayCode
from smerf.objects.editing.rendering import SlotRenderer, arc_cameras, background_slot, palette, turntable
from smerf.objects.editing.slots import SavedSlots
from smerf.objects.model.decoders import MixerDecoder
from smerf.objects.model.layers import Block
from smerf.objects.model.osrt import Osrt
from smerf.scene.slots import SlotEntry, SlotScene, pack_matrix

__all__ = ["pack_scene"]

_MAX_SLOTS = 32
_SURVEY_VIEWS, _SURVEY_PIXELS = 5, 32
_BACKGROUND = (40, 40, 40)
_NETWORK, _SCENE = 0, 1
_STANDARDISE, _CHOOSE, _COPY = 1, 2, 3
_RELU, _GELU, _LEAKY, _ADD = 1, 2, 3, 8


def pack_scene(
    model: Osrt, saved: SavedSlots, folder: Path = Path(), azimuth: float | None = None
) -> SlotScene:
    """Return a scene for the viewers, with the edits that its file holds.

    Args:
        model: The model that made the slots, with the Slot Mixer as decoder.
        saved: Slots.
        folder: Where relative names of other slot files in the operations begin.
        azimuth: Degrees from the x axis within which cameras may stand; all around if not given.

    Raises:
        UsageError: If the decoder is another, or there are more than 32 slots.
        InvalidDataError: If the slots come from another model.
    """
    if not isinstance(model.decoder, MixerDecoder):
        raise UsageError(
            f"the viewers render the Slot Mixer, and this model has decoder.kind={model.config.decoder.kind}; "
            "use smerf objects render"
        )
    renderer = SlotRenderer(model, saved, folder)
    # Removed slots come last, without an entry: they get no weight, but the allocation still sees them.
    slots = torch.cat([renderer.scene.slots, renderer.scene.removed])
    if len(slots) > _MAX_SLOTS:
        raise UsageError(
            f"the viewers render up to {_MAX_SLOTS} slots, and this scene has {len(slots)}, removed ones included"
        )
    network, scene, sizes, steps = _matrices(model.decoder, slots)
    frame = np.eye(4)
    pose, fov_x = pose_and_fov(saved.cameras[0])
    if model.config.frame == "reference":
        centre, rotation = (x.double().numpy() for x in to_cv(pose))
        frame[:3, :3], frame[:3, 3] = rotation, -rotation @ centre
    height, width = saved.size
    half = math.tan(0.5 * fov_x) * height / width
    return SlotScene(
        network=network.astype(np.float16),
        scene=scene.astype(np.float32),
        sizes=sizes,
        steps=np.array(steps, np.int32),
        slots=_entries(renderer, saved, azimuth),
        motions=renderer.scene.motions.numpy(),
        frame=frame,
        pose=pose.double().numpy(),
        fov=math.degrees(2.0 * math.atan(half)),
        aspect=width / height,
        azimuth=180.0 if azimuth is None else azimuth,
    )


def _entries(renderer: SlotRenderer, saved: SavedSlots, azimuth: float | None) -> tuple[SlotEntry, ...]:
    """Look at the scene from a few sides to find the background and the fraction of pixels of each slot."""
    height, width = saved.size
    scale = _SURVEY_PIXELS / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    cameras = (
        turntable(saved, _SURVEY_VIEWS) if azimuth is None else arc_cameras(saved, _SURVEY_VIEWS, azimuth)
    )
    weights = torch.stack([renderer.render(camera, size).weights for camera in cameras])
    background, fractions = background_slot(weights), weights.mean((0, 1, 2))
    numbers = renderer.scene.numbers
    colours = palette(max(numbers) + 1)
    return tuple(
        SlotEntry(
            number=number,
            colour=_BACKGROUND if index == background else tuple(map(int, colours[number])),
            share=round(float(fractions[index]), 4),
            group=int(renderer.scene.group[index]),
            is_background=index == background,
        )
        for index, number in enumerate(numbers)
    )


@dataclass(frozen=True)
class _Layout:
    """Where the activations of a ray lie, in numbers from 0. The ray code, and later its average, lie at 0."""

    shares: int
    ray: int
    x: int
    normed: int
    wide: int

    @staticmethod
    def of(code: int, slots: int) -> _Layout:
        """Return the layout for a ray code of ``code`` numbers and a count of slots."""
        shares = _padded(code)
        ray = shares + _padded(slots)
        x, normed = (ray + n * _padded(code) for n in (1, 2))
        return _Layout(shares, ray, x, normed, normed + _padded(max(code, slots)))


def _matrices(
    decoder: MixerDecoder, slots: Tensor
) -> tuple[np.ndarray, np.ndarray, dict[str, int | float], list[tuple[int, ...]]]:
    """Return the texels of both textures, the constants of the shader, and its steps."""
    allocation = decoder.allocation
    latent = slots.detach().cpu().double().numpy()
    place = _Layout.of(allocation.code.size, len(latent))
    steps = _Steps()
    first, second = (_linear(part) for part in allocation.ray_mlp if isinstance(part, nn.Linear))
    steps.linear(_NETWORK, first, place.normed, place.wide, _RELU)
    steps.linear(_NETWORK, second, place.wide, place.ray)
    steps.other(_COPY)
    for layer in allocation.layers:
        _add_layer(steps, layer, latent, place, is_last=layer is allocation.layers[-1])
    _add_logits(steps, decoder, latent, place)
    colour_step = len(steps)
    colour = _add_rendering(steps, decoder, latent, place)
    sizes = _code_sizes(allocation.code) | {
        "SLOTS": len(latent),
        "HEADS": allocation.layers[0].attention.heads,
        "SHARES": place.shares,
        "RAY": place.ray,
        "X": place.x,
        "NORMED": place.normed,
        "WIDE": place.wide,
        "COLOUR": colour,
        "COLOUR_STEP": colour_step,
        "STEPS": len(steps),
        "ACTIVATIONS": max(steps.end, place.wide + 10) + 3,
    }
    return steps.texels(_NETWORK), steps.texels(_SCENE), sizes, steps.table


def _code_sizes(code: RayCode) -> dict[str, int | float]:
    """Return the shader's constants of the ray code."""
    return {
        "CODE": code.size,
        "ORIGIN_OCTAVES": code.origin_octaves,
        "ORIGIN_START": code.origin_start,
        "DIRECTION_OCTAVES": code.direction_octaves,
        "DIRECTION_START": code.direction_start,
        # Not read without octaves, but the shader divides by them.
        "SLAB_OCTAVES": max(1, code.slab_octaves),
        "SLAB_START": code.slab_start,
        "SLAB_LOW": float(code.slab_heights[0]),
        "SLAB_HIGH": float(code.slab_heights[1]),
    }


def _add_layer(steps: _Steps, layer: Block, latent: np.ndarray, place: _Layout, *, is_last: bool) -> None:
    """Add a layer of the allocation transformer; the last leaves its last matrix to the logits."""
    logits, out = _attention(layer, latent)
    steps.other(_STANDARDISE)
    steps.linear(_SCENE, logits, place.normed, place.wide)
    steps.other(_CHOOSE)
    steps.linear(_SCENE, out, place.wide, place.x, _ADD)
    steps.other(_STANDARDISE)
    steps.linear(_NETWORK, _after_norm(layer.mlp_norm, layer.mlp[0]), place.normed, place.wide, _GELU)
    if not is_last:
        steps.linear(_NETWORK, _linear(layer.mlp[2]), place.wide, place.x, _ADD)


def _add_logits(steps: _Steps, decoder: MixerDecoder, latent: np.ndarray, place: _Layout) -> None:
    """Add the slots' logits. Only they read the last layer, so its last matrix becomes a part of theirs."""
    weight, bias = _linear(decoder.allocation.layers[-1].mlp[2])
    query = latent @ _array(decoder.key.weight).T @ _array(decoder.query.weight) * decoder.scale
    steps.linear(_SCENE, (query, None), place.x, place.normed)
    steps.linear(_SCENE, (query @ weight, query @ bias), place.wide, place.normed, _ADD)


def _add_rendering(steps: _Steps, decoder: MixerDecoder, latent: np.ndarray, place: _Layout) -> int:
    """Add the rendering MLP on the average ray feature and the slots' weights; return where the colour lies."""
    (weight, bias), *middle, last = (_linear(part) for part in decoder.render if isinstance(part, nn.Linear))
    split = latent.shape[1]
    steps.linear(_NETWORK, (weight[:, split:], bias), 0, place.ray)
    steps.linear(_SCENE, (weight[:, :split] @ latent.T, None), place.shares, place.ray, _ADD + _LEAKY)
    here, there = place.ray, place.ray + _padded(len(weight))
    for part in middle:
        steps.linear(_NETWORK, part, here, there, _LEAKY)
        here, there = there, here
    steps.linear(_NETWORK, last, here, there)
    return there


def _attention(layer: Block, latent: np.ndarray) -> tuple[_Matrix, _Matrix]:
    """Fold the slots into a layer's attention.

    Returns:
        The matrix from a normalised feature to the logits of every head and slot (heads * K, C), and the one from
        their weights to what is added to the feature (C, heads * K).
    """
    attention = layer.attention
    query, bias = _after_norm(layer.attention_norm, attention.query)
    keys, values = (latent @ _array(part.weight).T for part in (attention.key, attention.value))
    out, out_bias = _linear(attention.out)
    depth = len(query) // attention.heads
    heads = [slice(head * depth, (head + 1) * depth) for head in range(attention.heads)]
    logits = np.concatenate([keys[:, part] @ query[part] for part in heads]) * depth**-0.5
    logit_bias = np.concatenate([keys[:, part] @ bias[part] for part in heads]) * depth**-0.5
    return (logits, logit_bias), (
        np.concatenate([out[:, part] @ values[:, part].T for part in heads], 1),
        out_bias,
    )


_Matrix = tuple[np.ndarray, np.ndarray | None]


class _Steps:
    """What the shader computes, in its order: see ``u_steps`` in ``mixer.frag``."""

    def __init__(self) -> None:
        self.table: list[tuple[int, ...]] = []
        self.end = 0
        self._parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])

    def __len__(self) -> int:
        return len(self.table)

    def other(self, kind: int) -> None:
        self.table.append((kind, 0, 0, 0, 0, 0, 0, 0))

    def linear(self, texture: int, matrix: _Matrix, start: int, to: int, activation: int = 0) -> None:
        """Apply a matrix to the activations from ``start`` on, and put the result, padded, from ``to`` on."""
        weight, bias = matrix
        parts = self._parts[texture]
        base = sum(map(len, parts))
        parts.append(pack_matrix(weight, bias))
        outputs = _padded(len(weight))
        self.table.append((0, texture, base, activation, start, -(-weight.shape[1] // 4), to, outputs // 8))
        self.end = max(self.end, to + outputs)

    def texels(self, texture: int) -> np.ndarray:
        return np.concatenate(self._parts[texture])


def _padded(count: int) -> int:
    return 8 * -(-count // 8)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _linear(layer: nn.Module) -> _Matrix:
    assert isinstance(layer, nn.Linear)
    return _array(layer.weight), np.zeros(layer.out_features) if layer.bias is None else _array(layer.bias)


def _after_norm(norm: nn.Module, layer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Fold the gain and shift of a layer norm into the layer behind it."""
    assert isinstance(norm, nn.LayerNorm)
    weight, bias = _linear(layer)
    assert bias is not None
    return weight * _array(norm.weight), bias + weight @ _array(norm.bias)
