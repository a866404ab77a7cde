"""Slots and a Slot Mixer made ready for the viewers' shaders.

For fixed slots the attention of a ray is linear in its feature before the softmax and in its shares after it. So keys
fold into the query's matrix, values into the output's, gains and shifts of layer norms into the matrices behind them,
and the slots into the first matrix of the rendering MLP. What is left costs the same for any slot width.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from smerf.errors import UsageError
from smerf.objects.editing.rendering import SlotRenderer, arc_cameras, background_slot, palette, turntable
from smerf.objects.editing.store import SavedSlots
from smerf.objects.model.decoders import MixerDecoder
from smerf.objects.model.layers import Layer
from smerf.objects.model.osrt import Osrt
from smerf.scene.slots import SlotEntry, SlotScene, pack_matrix

__all__ = ["pack_scene"]

_MOST_SLOTS = 32
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
            f"the viewers draw the Slot Mixer, and this model has decoder.kind={model.config.decoder.kind}; "
            "smerf objects render draws it"
        )
    renderer = SlotRenderer(model, saved, folder)
    # Removed slots come last, without an entry: they get no share, but the allocation still sees them.
    slots = torch.cat([renderer.scene.slots, renderer.scene.removed])
    if len(slots) > _MOST_SLOTS:
        raise UsageError(
            f"the viewers draw up to {_MOST_SLOTS} slots, and this scene has {len(slots)}, removed ones included"
        )
    network, scene, sizes, steps = _matrices(model.decoder, slots)
    frame = np.eye(4)
    if model.config.frame == "reference":
        rotation = saved.cam_R[0].double().numpy()
        frame[:3, :3], frame[:3, 3] = rotation, -rotation @ saved.cam_pos[0].double().numpy()
    height, width = saved.size
    half = math.tan(0.5 * float(saved.fov_x[0])) * height / width
    return SlotScene(
        network=network.astype(np.float16),
        scene=scene.astype(np.float32),
        sizes=sizes,
        steps=np.array(steps, np.int32),
        slots=_entries(renderer, saved, azimuth),
        motions=renderer.scene.motions.numpy(),
        frame=frame,
        pose=_opengl_pose(saved.cam_pos[0], saved.cam_R[0]),
        fov=math.degrees(2.0 * math.atan(half)),
        aspect=width / height,
        azimuth=180.0 if azimuth is None else azimuth,
    )


def _opengl_pose(centre: Tensor, rotation: Tensor) -> np.ndarray:
    right, down, forward = rotation.double().numpy()
    return np.stack([right, -down, -forward, centre.double().numpy()], -1)


def _entries(renderer: SlotRenderer, saved: SavedSlots, azimuth: float | None) -> tuple[SlotEntry, ...]:
    """Look at the scene from a few sides to find the background and the share of each slot."""
    height, width = saved.size
    scale = _SURVEY_PIXELS / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    cameras = (
        turntable(saved, _SURVEY_VIEWS) if azimuth is None else arc_cameras(saved, _SURVEY_VIEWS, azimuth)
    )
    weights = torch.stack([renderer.draw(*camera, size).weights for camera in cameras])
    background, shares = background_slot(weights), weights.mean((0, 1, 2))
    numbers = renderer.scene.numbers
    colours = palette(max(numbers) + 1)
    return tuple(
        SlotEntry(
            number=number,
            colour=_BACKGROUND if index == background else tuple(map(int, colours[number])),
            share=round(float(shares[index]), 4),
            group=int(renderer.scene.group[index]),
            is_background=index == background,
        )
        for index, number in enumerate(numbers)
    )


def _matrices(
    decoder: MixerDecoder, slots: Tensor
) -> tuple[np.ndarray, np.ndarray, dict[str, int | float], list[tuple[int, ...]]]:
    """Return the texels of both textures, the constants of the shader, and its steps."""
    allocation, code = decoder.allocation, decoder.allocation.code
    latent = slots.detach().cpu().double().numpy()
    count, heads, size = len(latent), allocation.layers[0].attention.heads, code.size
    # Where each activation lies; the last MLP needs the average ray feature and the shares alone.
    shares = _padded(size)
    ray = shares + _padded(count)
    x, normed = (ray + n * _padded(size) for n in (1, 2))
    wide = normed + _padded(max(size, count))
    steps = _Steps()
    first, second = (_linear(part) for part in allocation.ray_mlp if isinstance(part, nn.Linear))
    steps.linear(_NETWORK, first, normed, wide, _RELU)
    steps.linear(_NETWORK, second, wide, ray)
    steps.other(_COPY)
    for layer in allocation.layers:
        logits, out = _attention(layer, latent)
        steps.other(_STANDARDISE)
        steps.linear(_SCENE, logits, normed, wide)
        steps.other(_CHOOSE)
        steps.linear(_SCENE, out, wide, x, _ADD)
        steps.other(_STANDARDISE)
        steps.linear(_NETWORK, _after_norm(layer.mlp_norm, layer.mlp[0]), normed, wide, _GELU)
        if layer is not allocation.layers[-1]:
            steps.linear(_NETWORK, _linear(layer.mlp[2]), wide, x, _ADD)
    # Nothing but the logits is asked of the last layer, so its last matrix becomes a part of theirs.
    weight, bias = _linear(allocation.layers[-1].mlp[2])
    query = latent @ _array(decoder.key.weight).T @ _array(decoder.query.weight) * decoder.scale
    steps.linear(_SCENE, (query, None), x, normed)
    steps.linear(_SCENE, (query @ weight, query @ bias), wide, normed, _ADD)
    colour_step = len(steps)
    (weight, bias), *middle, last = (_linear(part) for part in decoder.render if isinstance(part, nn.Linear))
    split = latent.shape[1]
    steps.linear(_NETWORK, (weight[:, split:], bias), 0, ray)
    steps.linear(_SCENE, (weight[:, :split] @ latent.T, None), shares, ray, _ADD + _LEAKY)
    here, there = ray, ray + _padded(len(weight))
    for part in middle:
        steps.linear(_NETWORK, part, here, there, _LEAKY)
        here, there = there, here
    steps.linear(_NETWORK, last, here, there)
    sizes: dict[str, int | float] = {
        "CODE": size,
        "ORIGIN_OCTAVES": code.origin_octaves,
        "ORIGIN_START": code.origin_start,
        "DIRECTION_OCTAVES": code.direction_octaves,
        "DIRECTION_START": code.direction_start,
        # Never asked for without octaves, but the shader divides by them.
        "SLAB_OCTAVES": max(1, code.slab_octaves),
        "SLAB_START": code.slab_start,
        "SLAB_LOW": float(code.slab_heights[0]),
        "SLAB_HIGH": float(code.slab_heights[1]),
        "SLOTS": count,
        "HEADS": heads,
        "SHARES": shares,
        "RAY": ray,
        "X": x,
        "NORMED": normed,
        "WIDE": wide,
        "COLOUR": there,
        "COLOUR_STEP": colour_step,
        "STEPS": len(steps),
        "ACTIVATIONS": max(steps.end, wide + 10) + 3,
    }
    return steps.texels(_NETWORK), steps.texels(_SCENE), sizes, steps.table


def _attention(layer: Layer, latent: np.ndarray) -> tuple[_Matrix, _Matrix]:
    """Fold the slots into a layer's attention.

    Returns:
        The matrix from a normalised feature to the logits of every head and slot (heads * K, C), and the one from
        their shares to what is added to the feature (C, heads * K).
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
