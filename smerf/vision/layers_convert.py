"""Single layers in public layouts, both ways: the experts of Mixtral and Switch, and timm's block of ViT-22B.

Tensors are given and returned by their names within the layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from smerf.errors import InvalidDataError
from smerf.vision.blocks import Block, BlockConfig
from smerf.vision.experts import GatedExperts, SwitchExperts

__all__ = ["from_mixtral", "from_switch", "from_timm", "to_mixtral", "to_switch", "to_timm"]


def from_mixtral(tensors: Mapping[str, Tensor], top: int = 2) -> GatedExperts:
    """Make a layer of ``gate.weight`` and ``experts.{e}.w1 | w2 | w3.weight`` as files have them, or of
    ``experts.gate_up_proj`` and ``experts.down_proj`` as they are in memory.
    """
    router = _get(tensors, "gate.weight")
    experts = range(len(router))
    if "experts.gate_up_proj" in tensors:
        gate_up, down = tensors["experts.gate_up_proj"], _get(tensors, "experts.down_proj")
    else:
        # w1 is the gate, w3 what it opens, w2 the way back.
        gate, down, up = (
            torch.stack([_get(tensors, f"experts.{e}.{name}.weight") for e in experts])
            for name in ("w1", "w2", "w3")
        )
        gate_up = torch.cat([gate, up], 1)
    layer = GatedExperts(router.shape[1], down.shape[2], len(router), top)
    layer.load_state_dict({"router.weight": router, "gate_up": gate_up, "down": down})
    return layer


def to_mixtral(layer: GatedExperts) -> dict[str, Tensor]:
    """Return a layer's tensors as files have them."""
    result = {"gate.weight": layer.router.weight.detach()}
    for index, (gate_up, down) in enumerate(zip(layer.gate_up.detach(), layer.down.detach())):
        gate, up = gate_up.chunk(2)
        result |= {
            f"experts.{index}.{name}.weight": value
            for name, value in (("w1", gate), ("w2", down), ("w3", up))
        }
    return result


def from_switch(tensors: Mapping[str, Tensor], capacity: int) -> SwitchExperts:
    """Make a layer of ``router.classifier.weight`` and ``experts.expert_{e}.wi | wo.weight``."""
    router = _get(tensors, "router.classifier.weight")
    hidden = len(_get(tensors, "experts.expert_0.wi.weight"))
    layer = SwitchExperts(router.shape[1], hidden, len(router), capacity)
    state = {"router.weight": router}
    for index in range(len(router)):
        state[f"experts.{index}.0.weight"] = _get(tensors, f"experts.expert_{index}.wi.weight")
        state[f"experts.{index}.2.weight"] = _get(tensors, f"experts.expert_{index}.wo.weight")
    layer.load_state_dict(state)
    return layer


def to_switch(layer: SwitchExperts) -> dict[str, Tensor]:
    """Return a layer's tensors as files have them."""
    state = layer.state_dict()
    result = {"router.classifier.weight": state["router.weight"]}
    for index in range(len(layer.experts)):
        result[f"experts.expert_{index}.wi.weight"] = state[f"experts.{index}.0.weight"]
        result[f"experts.expert_{index}.wo.weight"] = state[f"experts.{index}.2.weight"]
    return result


def from_timm(tensors: Mapping[str, Tensor], heads: int) -> Block:
    """Make a block of ViT-22B of timm's ``ParallelScalingBlock``, with queries and keys normed.

    Its first matrix has the rows [mlp, query, key, value]; its last, where one, the columns [attention, mlp]. ViT-22B
    has no biases in norms, so those of timm's must be 0.

    Raises:
        InvalidDataError: If they are not.
    """
    width = len(_get(tensors, "in_norm.weight"))
    first = _get(tensors, "in_proj.weight")
    hidden = len(first) - 3 * width
    for name in ("in_norm.bias", "q_norm.bias", "k_norm.bias"):
        if name in tensors and tensors[name].any():
            raise InvalidDataError(f"{name}: is not 0, and the norms of ViT-22B have no biases")
    mlp, query, key, value = first.split([hidden, width, width, width])
    state = {
        "attention_norm.weight": _get(tensors, "in_norm.weight"),
        "attention.query.weight": query,
        "attention.key.weight": key,
        "attention.value.weight": value,
        "attention.query_norm.weight": _get(tensors, "q_norm.weight"),
        "attention.key_norm.weight": _get(tensors, "k_norm.weight"),
        "mlp.0.weight": mlp,
        "mlp.0.bias": _get(tensors, "mlp_bias"),
    }
    if "out_proj.weight" in tensors:
        attention, mlp = tensors["out_proj.weight"].split([width, hidden], 1)
        # One bias serves both branches.
        state |= {
            "attention.out.weight": attention,
            "attention.out.bias": torch.zeros(width),
            "mlp.2.weight": mlp,
        }
        state["mlp.2.bias"] = _get(tensors, "out_proj.bias")
    else:
        for ours, theirs in (("attention.out", "attn_out_proj"), ("mlp.2", "mlp_out_proj")):
            state |= {f"{ours}.{kind}": _get(tensors, f"{theirs}.{kind}") for kind in ("weight", "bias")}
    block = Block(
        BlockConfig(width, heads, hidden, norm_bias=False, qk_norm="layer", eps=1e-6, parallel=True)
    )
    block.load_state_dict(state)
    return block


def to_timm(block: Block) -> dict[str, Tensor]:
    """Return a block's tensors as timm's without a joint output matrix."""
    state = block.state_dict()
    parts = ("mlp.0", "attention.query", "attention.key", "attention.value")
    result = {
        "in_norm.weight": state["attention_norm.weight"],
        "in_proj.weight": torch.cat([state[f"{part}.weight"] for part in parts]),
        "mlp_bias": state["mlp.0.bias"],
        "q_norm.weight": state["attention.query_norm.weight"],
        "k_norm.weight": state["attention.key_norm.weight"],
    }
    for ours, theirs in (("attention.out", "attn_out_proj"), ("mlp.2", "mlp_out_proj")):
        result |= {f"{theirs}.{kind}": state[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    return result


def _get(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise InvalidDataError(f"{name}: is missing; the layer is not in the layout that was expected")
    return tensors[name]
