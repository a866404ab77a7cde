"""Weights of the public independent implementation (``stelzner/osrt``) as a model of ours.

The file that it saves is a pickle. Turn it into safetensors where you trust it, once:

    import torch
    from safetensors.torch import save_file
    saved = torch.load("model.pt", map_location="cpu")
    parts = {f"{part}.{k}": v.contiguous() for part in ("encoder", "decoder") for k, v in saved[part].items()}
    save_file(parts, "model.safetensors")

Its names (left) become ours (right); ``N`` is a layer's number:

    encoder.srt_encoder.conv_blocks.N.layers.0 | .2     encoder.stem.4N | .4N+2
    encoder.srt_encoder.per_patch_linear                encoder.to_tokens
    encoder.srt_encoder.transformer.layers.N.0.norm     encoder.layers.N.attention_norm
      ...N.0.fn.to_qkv (one matrix, in this order)      ...N.attention.query, .key, .value
      ...N.0.fn.to_out.0                                ...N.attention.out
      ...N.1.norm, ...N.1.fn.net.0 | .3                 ...N.mlp_norm, ...N.mlp.0 | .2
    encoder.slot_attention.initial_slots                slots.starts
      ...to_q, .to_k, .to_v, .gru, .mlp.0 | .2          slots.query, .key, .value, .cell, .mlp.0 | .2
      ...norm_input, .norm_slots, .norm_pre_mlp         slots.token_norm, .slot_norm, .mlp_norm
    decoder.allocation_transformer.input_mlp.0 | .2     decoder.allocation.ray_mlp.0 | .2
      ...transformer.layers.N.0.fn.to_q, .to_kv         decoder.allocation.layers.N.attention.query, .key, .value
    decoder.mixing_block.to_q | .to_k                   decoder.query | decoder.key
    decoder.render_mlp.0 | .2 | .4 | .6 | .8            decoder.render.0 | .2 | .4 | .6 | .8

The improved SRT decoder has ``decoder.attend`` in place of ``decoder.allocation``; Spatial Broadcast has the
rendering MLP alone. Models that keep the ray encoder's settings elsewhere must be given the right configuration: a
wrong first octave loads without an error and renders noise.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from smerf.errors import InvalidDataError, UsageError
from smerf.objects.config import ObjectsConfig
from smerf.objects.model.osrt import Osrt

__all__ = ["convert_names", "convert_weights"]

_LAYER = {
    r"0\.norm": "attention_norm",
    r"0\.fn\.to_q": "attention.query",
    r"0\.fn\.to_out\.0": "attention.out",
    r"1\.norm": "mlp_norm",
    r"1\.fn\.net\.0": "mlp.0",
    r"1\.fn\.net\.3": "mlp.2",
}
_PLAIN = {
    "encoder.srt_encoder.per_patch_linear": "encoder.to_tokens",
    "encoder.slot_attention.initial_slots": "slots.starts",
    "encoder.slot_attention.to_q": "slots.query",
    "encoder.slot_attention.to_k": "slots.key",
    "encoder.slot_attention.to_v": "slots.value",
    "encoder.slot_attention.gru": "slots.cell",
    "encoder.slot_attention.mlp": "slots.mlp",
    "encoder.slot_attention.norm_input": "slots.token_norm",
    "encoder.slot_attention.norm_slots": "slots.slot_norm",
    "encoder.slot_attention.norm_pre_mlp": "slots.mlp_norm",
    "decoder.mixing_block.to_q": "decoder.query",
    "decoder.mixing_block.to_k": "decoder.key",
    "decoder.render_mlp": "decoder.render",
}


def convert_names(tensors: dict[str, Tensor], rays_part: str = "allocation") -> dict[str, Tensor]:
    """Rename the tensors of the public implementation, and split its joint projections.

    Args:
        tensors: Names as saved, with ``encoder.`` or ``decoder.`` in front.
        rays_part: ``allocation`` for a Slot Mixer, ``attend`` for the improved SRT decoder.

    Raises:
        InvalidDataError: If a name has no counterpart.
    """
    result: dict[str, Tensor] = {}
    for name, value in tensors.items():
        # A trained model may have been wrapped for several devices.
        plain = name.replace(".module.", ".")
        # An SRT encoder without slots stands one level higher.
        if plain.startswith("encoder.") and not plain.startswith(
            ("encoder.srt_encoder.", "encoder.slot_attention.")
        ):
            plain = "encoder.srt_encoder." + plain.removeprefix("encoder.")
        plain = plain.replace("decoder.allocation_transformer.", f"decoder.{rays_part}.")
        result |= _convert(plain, value)
    return result


def convert_weights(path: Path, config: ObjectsConfig) -> Osrt:
    """Read converted safetensors of the public implementation into a model of ours.

    Args:
        path: File as made by the lines above.
        config: The sizes; ``make_config("reference", ("slots.count=6",))`` for its CLEVR-3D models.

    Raises:
        UsageError: If the file is not there.
        InvalidDataError: If tensors are missing, unknown or of other shapes; the message names the first.
    """
    if not path.is_file():
        raise UsageError(f"{path}: is not there; see smerf.objects.model.convert for how to make it")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InvalidDataError(f"{path}: is damaged ({error})") from error
    renamed = convert_names(tensors, "attend" if config.decoder.kind == "srt" else "allocation")
    with torch.device("meta"):
        model = Osrt(config)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in sorted(expected.keys() ^ renamed.keys()):
        where = "lacks" if name in expected else "has the unexpected"
        raise InvalidDataError(
            f"{path}: {where} tensor {name}; give the configuration that it was trained with"
        )
    for name, shape in expected.items():
        if tuple(renamed[name].shape) != shape:
            raise InvalidDataError(
                f"{path}: {name} is {tuple(renamed[name].shape)}, the configuration says {shape}"
            )
    model.load_state_dict({name: value.float() for name, value in renamed.items()}, assign=True)
    return model.eval().requires_grad_(False)


def _convert(name: str, value: Tensor) -> dict[str, Tensor]:
    if found := re.fullmatch(r"encoder\.srt_encoder\.conv_blocks\.(\d+)\.layers\.([02])\.weight", name):
        return {f"encoder.stem.{4 * int(found[1]) + int(found[2])}.weight": value}
    if found := re.fullmatch(r"decoder\.(\w+)\.input_mlp\.([02])\.(weight|bias)", name):
        return {f"decoder.{found[1]}.ray_mlp.{found[2]}.{found[3]}": value}
    if found := re.fullmatch(r"(.+)\.transformer\.layers\.(\d+)\.(.+)\.(weight|bias)", name):
        place = "encoder" if found[1] == "encoder.srt_encoder" else found[1]
        layer = f"{place}.layers.{found[2]}"
        if found[3] in ("0.fn.to_qkv", "0.fn.to_kv"):
            parts = ("query", "key", "value") if found[3].endswith("qkv") else ("key", "value")
            return {
                f"{layer}.attention.{p}.weight": v.contiguous()
                for p, v in zip(parts, value.chunk(len(parts)))
            }
        for pattern, ours in _LAYER.items():
            if re.fullmatch(pattern, found[3]):
                return {f"{layer}.{ours}.{found[4]}": value}
    for theirs, ours in _PLAIN.items():
        if name == theirs or name.startswith(theirs + "."):
            return {ours + name.removeprefix(theirs): value}
    raise InvalidDataError(f"{name}: is not a weight of the public implementation that we know")
