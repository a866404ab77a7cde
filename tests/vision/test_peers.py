"""Our models against public implementations with random weights, and one test for each trap of their layouts.

Where timm or vit-pytorch are missing, their tests are skipped.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock, patch

import pytest
import torch
from safetensors.torch import load_file, save_file

from smerf.errors import InvalidDataError, UsageError
from smerf.vision.blocks import BlockConfig
from smerf.vision.convert import load_public, read_config, save_public
from smerf.vision.layers_convert import from_mixtral, from_switch, from_timm, to_mixtral, to_switch, to_timm
from smerf.vision.owl import box_bias
from smerf.vision.packing import Navit, NavitConfig, pack, patches_of
from smerf.vision.video import Vivit, VivitConfig

SINGLE, DOUBLE = 1e-5, 1e-12
IMAGE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = IMAGE | {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 99, "max_position_embeddings": 8}
PHOTO = IMAGE | {"image_size": 64, "patch_size": 16}


@pytest.fixture(scope="module")
def peers():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def module_of(name):
    """Import a module of timm or vit-pytorch without its packages' faces, which want torchvision."""
    package, *middle, _ = name.split(".")
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    path = Path(found.submodule_search_locations[0])
    faces = {}
    for depth in range(len(middle) + 1):
        place = ".".join([package, *middle[:depth]])
        faces[place] = types.ModuleType(place)
        faces[place].__path__, faces[place].__version__ = [str(path.joinpath(*middle[:depth]))], ""
    # Of these, blocks need a few constants and a class alone.
    stubs = ("timm.data", "torchvision", "torchvision.ops", "torchvision.ops.misc")
    with patch.dict(sys.modules, faces | {stub: MagicMock() for stub in stubs}):
        return importlib.import_module(name)


def randomise(model, seed=0):
    """Draw every parameter, biases and tables that start at 0 included: default starts hide swapped ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exchange(model, folder, extra=None):
    """Save a peer, read it by our converter from the file alone, and check that we write the same bytes again."""
    model.save_pretrained(folder)
    if extra:
        config = json.loads((folder / "config.json").read_text()) | extra
        (folder / "config.json").write_text(json.dumps(config))
    ours = load_public(folder)
    save_public(ours, read_config(folder), folder / "again")
    before, after = load_file(folder / "model.safetensors"), load_file(folder / "again" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.shape == after[name].shape and torch.equal(value, after[name]), name
    return ours


def assert_same(ours, theirs, call, peer_call):
    """Compare two models at both precisions: each call takes the model and the dtype and returns tensors."""
    with torch.no_grad():
        for dtype, limit in ((torch.float32, SINGLE), (torch.float64, DOUBLE)):
            first, second = call(ours.to(dtype), dtype), peer_call(theirs.to(dtype), dtype)
            for one, other in zip(first, second, strict=True):
                assert one.shape == other.shape
                assert (one - other).abs().max() <= limit
    ours.float(), theirs.float()


def make_vivit(peers):
    config = peers.VivitConfig(image_size=32, num_frames=8, tubelet_size=[2, 16, 16], num_labels=5, **IMAGE)
    return randomise(peers.VivitForVideoClassification(config))


def make_clip(peers, end=98):
    text = TEXT | {"eos_token_id": end, "bos_token_id": 97}
    return randomise(
        peers.CLIPModel(peers.CLIPConfig(text_config=text, vision_config=PHOTO, projection_dim=16))
    )


def make_owl(peers, version):
    config, model = (
        (peers.OwlViTConfig, peers.OwlViTForObjectDetection)
        if version == 1
        else (peers.Owlv2Config, peers.Owlv2ForObjectDetection)
    )
    return randomise(model(config(text_config=TEXT, vision_config=PHOTO, projection_dim=16)))


def test_vivit(peers, tmp_path):
    theirs = make_vivit(peers)
    ours = exchange(theirs, tmp_path)
    video = random(2, 8, 3, 32, 32)
    assert_same(
        ours, theirs, lambda m, t: [m(video.to(t))], lambda m, t: [m(pixel_values=video.to(t)).logits]
    )


def test_names_that_transformers_has_in_memory_are_read_too(peers, tmp_path):
    theirs = make_vivit(peers)
    theirs.save_pretrained(tmp_path)
    newer = {name: value.contiguous() for name, value in theirs.state_dict().items()}
    assert any(".q_proj." in name for name in newer)
    ours = load_public(tmp_path)
    save_file(newer, tmp_path / "model.safetensors")
    again = load_public(tmp_path)
    for one, other in zip(ours.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_video_model_uses_the_tanh_form_of_gelu(peers, tmp_path):
    ours = exchange(make_vivit(peers), tmp_path, {"hidden_act": "gelu"})
    theirs, video = make_vivit(peers), random(1, 8, 3, 32, 32)
    with torch.no_grad():
        assert (ours(video) - theirs(pixel_values=video).logits).abs().max() > SINGLE


@pytest.mark.parametrize("end", [98, 2])
def test_clip(peers, tmp_path, end):
    theirs = make_clip(peers, end)
    ours = exchange(theirs, tmp_path)
    images = random(3, 3, 64, 64)
    # The end token twice, as where texts are padded with it, and a text whose largest id comes before its end.
    ids = torch.tensor([[97, 5, 9, 98, 98, 98, 98, 98], [97, 7, 98, 0, 0, 0, 0, 0]])
    used = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]])
    assert_same(
        ours,
        theirs,
        lambda m, t: [m(images.to(t), ids, used.bool())],
        lambda m, t: [m(pixel_values=images.to(t), input_ids=ids, attention_mask=used).logits_per_image],
    )


def test_the_end_of_a_text_is_where_its_file_says(peers, tmp_path):
    ours = exchange(make_clip(peers, 40), tmp_path)
    ids = torch.tensor([[97, 40, 60, 3, 3, 3, 3, 3], [97, 40, 9, 3, 3, 3, 3, 3]])
    with torch.no_grad():
        first, second = ours.encode_words(ids)
    # Both end at 40; what follows is not seen, though 60 is larger.
    assert torch.allclose(first, second, atol=1e-6)


def test_the_first_norm_of_clip_is_misspelt_in_its_files(peers, tmp_path):
    make_clip(peers).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "vision_model.pre_layrnorm.weight" in tensors
    right = {name.replace("layrnorm", "layernorm"): value for name, value in tensors.items()}
    save_file(right, tmp_path / "model.safetensors")
    with pytest.raises(InvalidDataError, match=r"lacks vision_model\.pre_layrnorm"):
        load_public(tmp_path)


def test_stored_position_ids_are_ignored(peers, tmp_path):
    make_clip(peers).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(8)[None]
    save_file(tensors, tmp_path / "model.safetensors")
    load_public(tmp_path)
    tensors["text_model.extra"] = torch.zeros(2)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InvalidDataError, match=re.escape("text_model.extra")):
        load_public(tmp_path)


@pytest.mark.parametrize("version", [1, 2])
def test_owl(peers, tmp_path, version):
    theirs = make_owl(peers, version)
    ours = exchange(theirs, tmp_path)
    images = random(2, 3, 64, 64)
    ids = torch.tensor([[[5, 9, 98, 0], [7, 98, 0, 0], [0, 0, 0, 0]]] * 2)
    ids[1, 0, 1] = 11
    used = ids > 0

    def call(model, dtype):
        found = model(images.to(dtype), ids, used)
        return [found.boxes, found.logits, *([] if found.objectness is None else [found.objectness])]

    def peer_call(model, dtype):
        flat = {"input_ids": ids.flatten(0, 1), "attention_mask": used.flatten(0, 1).int()}
        found = model(pixel_values=images.to(dtype), **flat)
        logits = found.logits
        if dtype == torch.float64:
            # The peer returns float32; padding is the lowest float of that.
            logits = logits.double()
        return [found.pred_boxes, logits, *([found.objectness_logits] if version == 2 else [])]

    with torch.no_grad():
        for one, other in zip(call(ours, torch.float32), peer_call(theirs, torch.float32), strict=True):
            assert (one - other)[one > -1e30].abs().max() <= SINGLE
        one, other = call(ours.double(), torch.float64)[0], peer_call(theirs.double(), torch.float64)[0]
        # The peer keeps the start of its boxes in float32.
        assert (one - other).abs().max() <= 1e-7


def test_a_padded_query_never_wins(peers, tmp_path):
    ours = exchange(make_owl(peers, 1), tmp_path)
    ids = torch.tensor([[[5, 9, 98, 0], [0, 3, 98, 0]]])
    with torch.no_grad():
        logits = ours(random(1, 3, 64, 64), ids, ids > 0).logits
    assert (logits[..., 1] == torch.finfo(torch.float32).min).all() and logits[..., 0].min() > -1e30


def test_boxes_start_at_the_far_corner_of_their_cell():
    start = torch.sigmoid(box_bias(4)).view(4, 4, 4)
    for row in range(4):
        for column in range(4):
            expected = torch.tensor([(column + 1) / 4, (row + 1) / 4, 0.25, 0.25])
            assert (start[row, column] - expected).abs().max() < 2e-3


def test_siglip(peers, tmp_path):
    config = peers.Siglip2VisionConfig(patch_size=4, num_patches=16, **IMAGE)
    theirs = randomise(peers.Siglip2VisionModel(config))
    ours = exchange(theirs, tmp_path)
    patches, grids = random(2, 16, 48), torch.tensor([[3, 5], [6, 2]])
    used = torch.arange(16) < grids.prod(-1, keepdim=True)
    with torch.no_grad():
        for dtype, limit in ((torch.float32, SINGLE), (torch.float64, 1e-6)):
            vectors, tokens = ours.to(dtype)(patches.to(dtype), grids)
            found = theirs.to(dtype)(
                pixel_values=patches.to(dtype), pixel_attention_mask=used.int(), spatial_shapes=grids
            )
            assert (vectors - found.pooler_output).abs().max() <= limit
            # The peer resizes its table of positions in float32.
            assert (tokens - found.last_hidden_state)[used].abs().max() <= limit


def test_experts_of_mixtral(peers):
    modelling = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    config = peers.MixtralConfig(
        hidden_size=16, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2
    )
    config._experts_implementation = "eager"
    theirs = randomise(modelling.MixtralSparseMoeBlock(config))
    ours = from_mixtral(theirs.state_dict())
    x = random(2, 9, 16)
    with torch.no_grad():
        assert (ours(x)[0] - theirs(x)).abs().max() <= SINGLE
    # As files have them, one matrix each.
    files = to_mixtral(ours)
    assert sorted(files)[:3] == [f"experts.0.w{i}.weight" for i in (1, 2, 3)]
    assert torch.equal(
        theirs.experts.gate_up_proj[1],
        torch.cat([files["experts.1.w1.weight"], files["experts.1.w3.weight"]]),
    )
    for name, value in from_mixtral(files).state_dict().items():
        assert torch.equal(value, ours.state_dict()[name])


def make_switch(peers):
    modelling = pytest.importorskip("transformers.models.switch_transformers.modeling_switch_transformers")
    config = peers.SwitchTransformersConfig(d_model=16, d_ff=24, num_experts=4, expert_capacity=3)
    return randomise(modelling.SwitchTransformersSparseMLP(config))


def test_experts_of_switch(peers):
    theirs = make_switch(peers)
    ours = from_switch(theirs.state_dict(), 3)
    x = random(2, 9, 16)
    with torch.no_grad():
        result, balance, full = ours(x)
        assert (result - theirs(x)).abs().max() <= SINGLE
    assert full > 0 and balance > 0
    for name, value in to_switch(ours).items():
        assert torch.equal(value, theirs.state_dict()[name])


def test_a_full_expert_gives_nothing_to_the_tokens_that_come_last(peers):
    ours = from_switch(make_switch(peers).state_dict(), 3)
    x = random(1, 1, 16).expand(2, 9, 16).contiguous()
    with torch.no_grad():
        result, _, full = ours(x)
    # All tokens are the same, so all choose the same expert: three of each sequence fit, the first ones.
    assert full == 12 and (result[:, 3:] == 0).all() and (result[:, :3] != 0).all()


def test_unknown_folders_say_what_is_wrong(tmp_path):
    with pytest.raises(UsageError, match="expected a folder with config"):
        load_public(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InvalidDataError, match=r"bert.*is not one of vivit, clip"):
        load_public(tmp_path)


@pytest.mark.parametrize("is_fused", [False, True])
def test_timm_block_of_vit_22b(is_fused):
    module = module_of("timm.models.vision_transformer")
    theirs = randomise(module.ParallelScalingBlock(32, 4, qk_norm=True, fuse_out_proj=is_fused))
    with torch.no_grad():
        for norm in (theirs.in_norm, theirs.q_norm, theirs.k_norm):
            norm.bias.zero_()
    ours = from_timm(theirs.state_dict(), 4)
    x = random(2, 7, 32)
    with torch.no_grad():
        eps = theirs.in_norm.eps
        assert ours.attention_norm.eps == eps
        assert (ours(x) - theirs(x)).abs().max() <= 5e-5
        assert (ours.double()(x.double()) - theirs.double()(x.double())).abs().max() <= DOUBLE
    if not is_fused:
        for name, value in to_timm(ours.float()).items():
            assert torch.equal(value, theirs.float().state_dict()[name])


def test_norms_with_biases_are_no_block_of_vit_22b():
    from smerf.vision.blocks import Block

    block = Block(BlockConfig(32, 4, 64, norm_bias=False, qk_norm="layer", parallel=True))
    with pytest.raises(InvalidDataError, match="q_norm"):
        from_timm(to_timm(block) | {"q_norm.bias": torch.ones(8)}, 4)


def test_navit_of_vit_pytorch():
    module = module_of("vit_pytorch.na_vit")
    theirs = randomise(
        module.NaViT(
            image_size=48, patch_size=8, num_classes=5, dim=32, depth=2, heads=4, mlp_dim=64, dim_head=8
        )
    )
    block = BlockConfig(32, 4, 64, norm_bias=False, out_bias=False, qk_norm="unit")
    ours = Navit(NavitConfig(block, 2, 8, 6, 6, 5)).eval()
    ours.load_state_dict(from_navit(theirs.state_dict(), ours.state_dict()))
    images = [random(3, *size, seed=i) for i, size in enumerate([(16, 24), (48, 16), (24, 24), (8, 40)])]
    cut = [patches_of(image, 8) for image in images]
    places = [torch.cartesian_prod(torch.arange(c.shape[0]), torch.arange(c.shape[1])) for c in cut]
    with torch.no_grad():
        expected = theirs([images[:2], images[2:]])
        for row in (24, 48):
            found = ours(pack([c.flatten(0, 1) for c in cut], places, row))
            assert (found - expected).abs().max() <= SINGLE
        one_by_one = [ours(pack([c.flatten(0, 1)], [place], len(place))) for c, place in zip(cut, places)]
    assert (torch.cat(one_by_one) - expected).abs().max() <= SINGLE


def from_navit(tensors, expected):
    """Rename vit-pytorch's NaViT to ours."""
    names = {
        "pixel_norm": "to_patch_embedding.0", "embed": "to_patch_embedding.1", "token_norm": "to_patch_embedding.2",
        "norm": "transformer.norm", "class_norm": "mlp_head.0", "classify": "mlp_head.1",
        "probe_norm": "attn_pool.norm",
    }  # fmt: skip
    result = {
        "row_positions": tensors["pos_embed_height"],
        "column_positions": tensors["pos_embed_width"],
        "probe": tensors["attn_pool_queries"],
    }
    places = [("pool", "attn_pool")]
    for i in range(2):
        places.append((f"blocks.{i}.attention", f"transformer.layers.{i}.0"))
        names |= {f"blocks.{i}.attention_norm": f"transformer.layers.{i}.0.norm"}
        names |= {f"blocks.{i}.mlp_norm": f"transformer.layers.{i}.1.0"}
        names |= {
            f"blocks.{i}.mlp.0": f"transformer.layers.{i}.1.1",
            f"blocks.{i}.mlp.2": f"transformer.layers.{i}.1.4",
        }
    for ours, theirs in places:
        key, value = tensors[f"{theirs}.to_kv.weight"].chunk(2)
        result |= {f"{ours}.key.weight": key, f"{ours}.value.weight": value}
        result[f"{ours}.query.weight"] = tensors[f"{theirs}.to_q.weight"]
        result[f"{ours}.out.weight"] = tensors[f"{theirs}.to_out.0.weight"]
        result[f"{ours}.query_norm.weight"] = tensors[f"{theirs}.q_norm.gamma"]
        result[f"{ours}.key_norm.weight"] = tensors[f"{theirs}.k_norm.gamma"]
    for ours, theirs in names.items():
        for kind in ("weight", "bias", "gamma"):
            if f"{theirs}.{kind}" in tensors:
                result[f"{ours}.{kind.replace('gamma', 'weight')}"] = tensors[f"{theirs}.{kind}"]
    assert result.keys() == expected.keys()
    return result


@pytest.mark.parametrize("form", ["factorised_encoder", "factorised_attention"])
def test_factorised_video_of_vit_pytorch(form):
    module = module_of("vit_pytorch.vivit")
    pool = "class" if form == "factorised_encoder" else "mean"
    theirs = randomise(
        module.ViViT(
            image_size=32, image_patch_size=8, frames=4, frame_patch_size=2, num_classes=5, dim=32, spatial_depth=2,
            temporal_depth=2, heads=4, mlp_dim=64, dim_head=8, pool=pool.replace("class", "cls"),
            variant=form.replace("ised", "ized").replace("attention", "self_attention"),
        )
    )  # fmt: skip
    config = VivitConfig(
        BlockConfig(32, 4, 64), 2, 4, (32, 32), (2, 8, 8), 5, form, 2, pool, embedding_norms=True
    )
    ours = Vivit(config).eval()
    ours.load_state_dict(from_video(theirs.state_dict(), ours.state_dict(), form))
    video = random(2, 4, 3, 32, 32)
    with torch.no_grad():
        assert (ours(video) - theirs(video.transpose(1, 2))).abs().max() <= SINGLE


def from_video(tensors, expected, form):
    """Rename vit-pytorch's ViViT to ours; the pixels of its tubelets are in the order time, row, column, colour."""
    order = torch.arange(3 * 128).view(2, 8, 8, 3).permute(3, 0, 1, 2).flatten()
    weight = tensors["to_patch_embedding.2.weight"][:, order]
    result = {
        "tubelets.project.weight": weight.view(32, 3, 2, 8, 8),
        "tubelets.project.bias": tensors["to_patch_embedding.2.bias"],
        "positions": tensors["pos_embedding"].flatten(0, 2),
    }
    for kind in ("weight", "bias"):
        result[f"tubelets.pixel_norm.{kind}"] = tensors[f"to_patch_embedding.1.{kind}"][order]
        result[f"tubelets.norm.{kind}"] = tensors[f"to_patch_embedding.3.{kind}"]
        result[f"classify.{kind}"] = tensors[f"mlp_head.{kind}"]
    stacks = [("blocks", "norm", "factorized_transformer")]
    if form == "factorised_encoder":
        stacks = [
            ("blocks", "norm", "spatial_transformer"),
            ("time_blocks", "time_norm", "temporal_transformer"),
        ]
        result["class_token"] = tensors["spatial_cls_token"].flatten()
        result["time_token"] = tensors["temporal_cls_token"].flatten()
    for blocks, norm, theirs in stacks:
        result |= {f"{norm}.{kind}": tensors[f"{theirs}.norm.{kind}"] for kind in ("weight", "bias")}
        for i in range(2):
            layer, place = f"{theirs}.layers.{i}", f"{blocks}.{i}"
            parts = [("attention", "attention_norm", 0)]
            if form == "factorised_attention":
                parts.append(("time", "time_norm", 1))
            for attention, before, index in parts:
                for name, value in zip(
                    ("query", "key", "value"), tensors[f"{layer}.{index}.to_qkv.weight"].chunk(3)
                ):
                    result[f"{place}.{attention}.{name}.weight"] = value
                for kind in ("weight", "bias"):
                    result[f"{place}.{attention}.out.{kind}"] = tensors[f"{layer}.{index}.to_out.0.{kind}"]
                    result[f"{place}.{before}.{kind}"] = tensors[f"{layer}.{index}.norm.{kind}"]
            for kind in ("weight", "bias"):
                for ours, index in (("mlp_norm", 0), ("mlp.0", 1), ("mlp.2", 4)):
                    result[f"{place}.{ours}.{kind}"] = tensors[f"{layer}.{len(parts)}.net.{index}.{kind}"]
    assert result.keys() == expected.keys()
    return result
