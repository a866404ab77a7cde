"""Tables of the public layouts: how tensors are called, and how ``config.json`` becomes ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from smerf.vision.blocks import BlockConfig
from smerf.vision.clip import Clip, ClipConfig, ImageConfig, WordConfig
from smerf.vision.owl import Owl, OwlConfig
from smerf.vision.siglip import NaFlex, NaFlexConfig
from smerf.vision.video import Vivit, VivitConfig

__all__ = ["KINDS", "SHAPES", "Kind", "Rules"]

Table = tuple[tuple[str, str], ...]
Rules = tuple[Table, ...]
"""Regular expressions from our names to theirs, applied in order: those of files, then those in memory."""


@dataclass(frozen=True)
class Kind:
    """One public layout: its model, and its names."""

    build: Callable[[Mapping[str, Any]], nn.Module]
    rules: Rules


SHAPES = {
    "vivit.embeddings.cls_token": (1, 1),
    "vivit.embeddings.position_embeddings": (1,),
}
"""Axes of length 1 that files put before ours."""

_ENCODER: Table = (
    (r"blocks\.(\d+)\.attention_norm", r"encoder.layers.\1.layer_norm1"),
    (r"blocks\.(\d+)\.mlp_norm", r"encoder.layers.\1.layer_norm2"),
    (r"blocks\.(\d+)\.attention\.query", r"encoder.layers.\1.self_attn.q_proj"),
    (r"blocks\.(\d+)\.attention\.key", r"encoder.layers.\1.self_attn.k_proj"),
    (r"blocks\.(\d+)\.attention\.value", r"encoder.layers.\1.self_attn.v_proj"),
    (r"blocks\.(\d+)\.attention\.out", r"encoder.layers.\1.self_attn.out_proj"),
    (r"blocks\.(\d+)\.mlp\.0", r"encoder.layers.\1.mlp.fc1"),
    (r"blocks\.(\d+)\.mlp\.2", r"encoder.layers.\1.mlp.fc2"),
)
_TOWERS: Table = (
    *_ENCODER,
    (r"^image\.class_token", "vision_model.embeddings.class_embedding"),
    (r"^image\.patch", "vision_model.embeddings.patch_embedding"),
    (r"^image\.positions", "vision_model.embeddings.position_embedding.weight"),
    (r"^image\.post_norm", "vision_model.post_layernorm"),
    (r"^image\.encoder", "vision_model.encoder"),
    (r"^words\.tokens", "text_model.embeddings.token_embedding"),
    (r"^words\.positions", "text_model.embeddings.position_embedding.weight"),
    (r"^words\.final_norm", "text_model.final_layer_norm"),
    (r"^words\.encoder", "text_model.encoder"),
    (r"^image_projection", "visual_projection"),
    (r"^word_projection", "text_projection"),
)
# The first layer norm is misspelt in CLIP's files, and only there.
_CLIP: Table = (*_TOWERS, (r"^image\.pre_norm", "vision_model.pre_layrnorm"))


def _owl(prefix: str) -> Table:
    return (
        *_TOWERS,
        (r"^image\.pre_norm", "vision_model.pre_layernorm"),
        (r"^(vision_model|text_model|visual_projection|text_projection|logit_scale)", prefix + r".\1"),
        (r"^norm\.", "layer_norm."),
        (r"^class_head\.project", "class_head.dense0"),
        (r"^class_head\.shift", "class_head.logit_shift"),
        (r"^class_head\.scale", "class_head.logit_scale"),
        (r"^(box_head|objectness_head)\.0", r"\1.dense0"),
        (r"^(box_head|objectness_head)\.2", r"\1.dense1"),
        (r"^(box_head|objectness_head)\.4", r"\1.dense2"),
    )


_VIVIT: Table = (
    (r"^class_token", "vivit.embeddings.cls_token"),
    (r"^positions", "vivit.embeddings.position_embeddings"),
    (r"^tubelets\.project", "vivit.embeddings.patch_embeddings.projection"),
    (r"^norm\.", "vivit.layernorm."),
    (r"^classify", "classifier"),
    (r"^blocks\.(\d+)\.attention_norm", r"vivit.encoder.layer.\1.layernorm_before"),
    (r"^blocks\.(\d+)\.mlp_norm", r"vivit.encoder.layer.\1.layernorm_after"),
    (r"^blocks\.(\d+)\.attention\.(query|key|value)", r"vivit.encoder.layer.\1.attention.attention.\2"),
    (r"^blocks\.(\d+)\.attention\.out", r"vivit.encoder.layer.\1.attention.output.dense"),
    (r"^blocks\.(\d+)\.mlp\.0", r"vivit.encoder.layer.\1.intermediate.dense"),
    (r"^blocks\.(\d+)\.mlp\.2", r"vivit.encoder.layer.\1.output.dense"),
)
_VIVIT_IN_MEMORY: Table = (
    *_VIVIT,
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(q|k|v)[a-z]+", r"layers.\1.attention.\2_proj"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense", r"layers.\1.attention.o_proj"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense", r"layers.\1.mlp.fc1"),
    (r"encoder\.layer\.(\d+)\.output\.dense", r"layers.\1.mlp.fc2"),
    (r"encoder\.layer\.(\d+)\.layernorm", r"layers.\1.layernorm"),
)
_SIGLIP: Table = (
    *_ENCODER,
    (r"^patch\.", "embeddings.patch_embedding."),
    (r"^positions", "embeddings.position_embedding.weight"),
    (r"^post_norm", "post_layernorm"),
    (r"^head\.norm", "head.layernorm"),
    (r"^head\.attention\.(query|key|value)\.(weight|bias)", r"head.attention.\1_\2"),
    (r"^head\.attention\.out", "head.attention.out_proj"),
    (r"^head\.mlp\.0", "head.mlp.fc1"),
    (r"^head\.mlp\.2", "head.mlp.fc2"),
)
_SIGLIP_WITHIN: Table = (*_SIGLIP, ("^", "vision_model."))

_ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def _block(config: Mapping[str, Any], activation: str, eps: float, qkv_bias: bool = True) -> BlockConfig:
    """Sizes of a block; what a file leaves out are the public classes' defaults."""
    name = config.get("hidden_act", activation)
    if name not in _ACTIVATIONS:
        raise ValueError(f"hidden_act={name!r}, which is not one of {', '.join(_ACTIVATIONS)}")
    return BlockConfig(
        config.get("hidden_size", 768),
        config.get("num_attention_heads", 12),
        config.get("intermediate_size", 3072),
        qkv_bias=config.get("qkv_bias", qkv_bias),
        activation=_ACTIVATIONS[name],  # type: ignore[arg-type]
        eps=config.get("layer_norm_eps", eps),
    )


def _towers(config: Mapping[str, Any], *, is_owl: bool, patch: int = 32, size: int = 224) -> ClipConfig:
    image, words = config.get("vision_config") or {}, config.get("text_config") or {}
    image_block = _block({"hidden_size": 768, **image}, "quick_gelu", 1e-5)
    word_sizes = {"hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048, **words}
    return ClipConfig(
        ImageConfig(
            image_block,
            image.get("num_hidden_layers", 12),
            image.get("image_size", size),
            image.get("patch_size", patch),
        ),
        WordConfig(
            _block(word_sizes, "quick_gelu", 1e-5),
            words.get("num_hidden_layers", 12),
            words.get("vocab_size", 49408),
            words.get("max_position_embeddings", 16 if is_owl else 77),
            # The detectors read the largest id, whatever the file states.
            2 if is_owl else words.get("eos_token_id", 49407),
        ),
        config.get("projection_dim", 512),
    )


def _build_vivit(config: Mapping[str, Any]) -> Vivit:
    size = config.get("image_size", 224)
    height, width = size if isinstance(size, list) else (size, size)
    labels = config.get("id2label")
    steps, rows, columns = config.get("tubelet_size", (2, 16, 16))
    return Vivit(
        VivitConfig(
            _block(config, "gelu_fast", 1e-6),
            config.get("num_hidden_layers", 12),
            config.get("num_frames", 32),
            (height, width),
            (steps, rows, columns),
            config.get("num_labels", len(labels) if labels else 2),
        )
    )


def _build_siglip(config: Mapping[str, Any]) -> NaFlex:
    grid = round(config.get("num_patches", 256) ** 0.5)
    block = _block(config, "gelu_pytorch_tanh", 1e-6)
    return NaFlex(
        NaFlexConfig(block, config.get("num_hidden_layers", 12), config.get("patch_size", 16), grid)
    )


KINDS = {
    "vivit": Kind(_build_vivit, (_VIVIT, _VIVIT_IN_MEMORY)),
    "clip": Kind(lambda config: Clip(_towers(config, is_owl=False)), (_CLIP,)),
    "owlvit": Kind(lambda config: Owl(OwlConfig(_towers(config, is_owl=True, size=768))), (_owl("owlvit"),)),
    "owlv2": Kind(
        lambda config: Owl(OwlConfig(_towers(config, is_owl=True, patch=16, size=960), True)),
        (_owl("owlv2"),),
    ),
    "siglip2_vision_model": Kind(_build_siglip, (_SIGLIP, _SIGLIP_WITHIN)),
}
"""Every ``model_type`` that we read."""
