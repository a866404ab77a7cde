"""Weights under the names of the public implementation become ours."""

import pytest
import torch
from safetensors.torch import save_file

from smerf.errors import InvalidDataError, UsageError
from smerf.objects.cameras import from_cv
from smerf.objects.config import make_config
from smerf.objects.model.convert import convert_names, convert_weights
from smerf.objects.model.osrt import Osrt
from tests.helpers.tiny_objects import random_rays

# The public names fix the sizes' relations, not the sizes: a narrow model of the same structure.
NARROW = (
    "image=[16,16]", "encoder.convolutions=[[4,1],[6,2],[6,1],[8,2],[8,1],[12,2]]", "encoder.width=12",
    "encoder.layers=2", "encoder.heads=2", "encoder.hidden=16", "slots.count=3", "slots.width=12",
    "slots.hidden=16", "decoder.heads=2", "decoder.inner=12", "decoder.hidden=16", "decoder.render_width=16",
)  # fmt: skip


def public_names(model):
    """Write a model's weights under the public names, the way that implementation builds its modules."""
    own = model.state_dict()
    names = {}

    def take(theirs, *ours):
        names[theirs] = torch.cat([own.pop(name) for name in ours])

    for block in range(3):
        for layer in (0, 2):
            take(
                f"encoder.srt_encoder.conv_blocks.{block}.layers.{layer}.weight",
                f"encoder.stem.{4 * block + layer}.weight",
            )
    for kind in ("weight", "bias"):
        take(f"encoder.srt_encoder.per_patch_linear.{kind}", f"encoder.to_tokens.{kind}")
    for place, theirs, joint in (
        ("encoder.layers", "encoder.srt_encoder.transformer.layers", True),
        ("decoder.allocation.layers", "decoder.allocation_transformer.transformer.layers", False),
    ):
        for n in range(2):
            attention = f"{place}.{n}.attention"
            qkv = [f"{attention}.{part}.weight" for part in ("query", "key", "value")]
            if joint:
                take(f"{theirs}.{n}.0.fn.to_qkv.weight", *qkv)
            else:
                take(f"{theirs}.{n}.0.fn.to_q.weight", qkv[0])
                take(f"{theirs}.{n}.0.fn.to_kv.weight", *qkv[1:])
            for kind in ("weight", "bias"):
                take(f"{theirs}.{n}.0.norm.{kind}", f"{place}.{n}.attention_norm.{kind}")
                take(f"{theirs}.{n}.0.fn.to_out.0.{kind}", f"{attention}.out.{kind}")
                take(f"{theirs}.{n}.1.norm.{kind}", f"{place}.{n}.mlp_norm.{kind}")
                take(f"{theirs}.{n}.1.fn.net.0.{kind}", f"{place}.{n}.mlp.0.{kind}")
                take(f"{theirs}.{n}.1.fn.net.3.{kind}", f"{place}.{n}.mlp.2.{kind}")
    slots = {"initial_slots": "starts", "to_q.weight": "query.weight", "to_k.weight": "key.weight",
             "to_v.weight": "value.weight"}  # fmt: skip
    slots |= {f"gru.{n}": f"cell.{n}" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    for kind in ("weight", "bias"):
        slots |= {f"norm_input.{kind}": f"token_norm.{kind}", f"norm_slots.{kind}": f"slot_norm.{kind}",
                  f"norm_pre_mlp.{kind}": f"mlp_norm.{kind}"}  # fmt: skip
        slots |= {f"mlp.{n}.{kind}": f"mlp.{n}.{kind}" for n in (0, 2)}
        for n in (0, 2):
            take(
                f"decoder.allocation_transformer.input_mlp.{n}.{kind}",
                f"decoder.allocation.ray_mlp.{n}.{kind}",
            )
        for n in (0, 2, 4, 6, 8):
            take(f"decoder.render_mlp.{n}.{kind}", f"decoder.render.{n}.{kind}")
    for theirs, ours in slots.items():
        take(f"encoder.slot_attention.{theirs}", f"slots.{ours}")
    take("decoder.mixing_block.to_q.weight", "decoder.query.weight")
    take("decoder.mixing_block.to_k.weight", "decoder.key.weight")
    assert not own, f"not mapped: {list(own)}"
    return names


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Osrt(make_config("reference", NARROW)).eval()


def test_converted_weights_draw_the_same_picture(model, tmp_path):
    path = tmp_path / "public.safetensors"
    save_file({name: value.contiguous() for name, value in public_names(model).items()}, path)
    again = convert_weights(path, make_config("reference", NARROW))
    images = torch.rand(1, 2, 16, 16, 3)
    poses = from_cv(torch.randn(1, 2, 3), torch.eye(3).expand(1, 2, 3, 3))
    rays = random_rays(1, 8)
    with torch.no_grad():
        colours = [
            m.decode(m.prepare(m.encode(images, poses, torch.ones(1, 2))), *rays).colour
            for m in (model, again)
        ]
    assert torch.allclose(*colours, atol=1e-6)


def test_wrapped_models_keep_their_names(model):
    names = public_names(model)
    wrapped = {name.replace("encoder.", "encoder.module.", 1): value for name, value in names.items()}
    assert convert_names(wrapped).keys() == model.state_dict().keys()


def test_another_configuration_is_refused(model, tmp_path):
    path = tmp_path / "public.safetensors"
    save_file({name: value.contiguous() for name, value in public_names(model).items()}, path)
    with pytest.raises(InvalidDataError, match=r"slots\.starts is \(3, 12\)"):
        convert_weights(path, make_config("reference", (*NARROW, "slots.count=5")))
    with pytest.raises(InvalidDataError, match="unexpected tensor decoder"):
        convert_weights(path, make_config("reference", (*NARROW, "decoder.kind=broadcast")))
    with pytest.raises(InvalidDataError, match=r"optimizer\.x"):
        convert_names({"optimizer.x": torch.zeros(1)})
    with pytest.raises(UsageError, match="not there"):
        convert_weights(tmp_path / "none.safetensors", make_config("reference"))
