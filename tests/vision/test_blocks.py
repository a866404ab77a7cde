"""The block and what stands on it: what its forms promise, checked without any other library."""

from __future__ import annotations

import dataclasses
from itertools import chain

import pytest
import torch
from torch.nn import functional

from smerf.vision.blocks import Block, BlockConfig, attention_meters
from smerf.vision.experts import GatedExperts, SwitchExperts, balance_loss
from smerf.vision.packing import (
    Navit,
    NavitConfig,
    drop_share,
    first_fit,
    pack,
    patches_of,
    segment_mask,
)
from smerf.vision.video import (
    TimedBlock,
    Tubelets,
    Vivit,
    VivitConfig,
    central_frame,
    factorised_heads,
    inflate,
)

BLOCK_22B = BlockConfig(64, 4, 128, norm_bias=False, qk_norm="layer", parallel=True)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_the_parallel_block_is_two_matrix_products():
    block = Block(BLOCK_22B).double()
    torch.nn.init.normal_(block.mlp[0].bias)
    x = torch.randn(2, 9, 64, dtype=torch.float64)
    attention, (up, _, down) = block.attention, block.mlp
    joint = torch.cat([up.weight, attention.query.weight, attention.key.weight, attention.value.weight])
    hidden, q, k, v = (block.attention_norm(x) @ joint.T).split([128, 64, 64, 64], -1)
    q, k, v = (part.unflatten(-1, (4, 16)).transpose(1, 2) for part in (q, k, v))
    weights = torch.softmax(attention.query_norm(q) @ attention.key_norm(k).mT / 4.0, -1)
    both = torch.cat([(weights @ v).transpose(1, 2).flatten(2), functional.gelu(hidden + up.bias)], -1)
    expected = x + both @ torch.cat([attention.out.weight, down.weight], 1).T + attention.out.bias + down.bias
    assert (block(x) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("qk_norm", ["layer", "none"])
def test_normed_queries_and_keys_do_not_care_how_large_their_weights_are(qk_norm):
    block = Block(dataclasses.replace(BLOCK_22B, qk_norm=qk_norm))
    x = torch.randn(2, 32, 64)
    before, (_, entropy) = block(x), attention_meters(block, x)
    with torch.no_grad():
        block.attention.query.weight *= 100.0
        block.attention.key.weight *= 100.0
    logit, collapsed = attention_meters(block, x)
    if qk_norm == "layer":
        assert (block(x) - before).abs().max() < 1e-3
        assert logit <= 4.0 + 1e-4  # sqrt(d) bounds it
    else:
        assert entropy > 2.0 and collapsed < 0.05 and logit > 1000.0


def test_a_mask_hides_what_it_says():
    block, x = Block(BlockConfig(32, 4, 64)), torch.randn(1, 6, 32)
    seen = torch.tensor([[True, True, True, True, False, False]])
    changed = x.clone()
    changed[:, 4:] = 9.0
    assert torch.equal(block(x, mask=seen)[:, :4], block(changed, mask=seen)[:, :4])
    assert not torch.allclose(block(x)[:, :4], block(changed)[:, :4])


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="not a multiple of heads=5"):
        BlockConfig(32, 5, 64)


def navit_parts():
    config = BlockConfig(64, 4, 128, norm_bias=False, out_bias=False, qk_norm="unit")
    model = Navit(NavitConfig(config, 1, 8, 8, 8, 3)).double()
    images = [torch.randn(3, h, w, dtype=torch.float64) for h, w in ((16, 32), (24, 24), (40, 8), (8, 8))]
    cut = [patches_of(image, 8) for image in images]
    places = [torch.cartesian_prod(*map(torch.arange, part.shape[:2])) for part in cut]
    return model, [part.flatten(0, 1) for part in cut], places


def test_packed_photos_are_those_alone():
    model, sequences, places = navit_parts()
    together = model(pack(sequences, places, 24))
    alone = [model(pack([s], [p], 24)) for s, p in zip(sequences, places)]
    assert (together - torch.cat(alone)).abs().max() < 1e-12


def test_padding_is_finite_and_gets_no_gradient():
    model, sequences, places = navit_parts()
    packed = pack(sequences, places, 32)
    tokens = packed.tokens.clone().requires_grad_()
    logits = model(dataclasses.replace(packed, tokens=tokens))
    logits.square().sum().backward()
    assert logits.isfinite().all()
    is_padding = packed.segment == 0
    assert is_padding.any() and (tokens.grad[is_padding] == 0).all() and (tokens.grad[~is_padding] != 0).any()


def test_a_row_in_another_order_gives_the_same_answers():
    model, sequences, places = navit_parts()
    order = [2, 0, 3, 1]
    one = model(pack(sequences, places, 64))
    other = model(pack([sequences[i] for i in order], [places[i] for i in order], 64))
    assert (one[order] - other).abs().max() < 1e-12


def test_tokens_see_their_own_photo_and_padding_itself():
    mask = segment_mask(torch.tensor([[1, 1, 2, 0, 0]]))[0]
    expected = torch.block_diag(torch.ones(2, 2), torch.ones(1, 1), torch.eye(2)).bool()
    assert torch.equal(mask, expected)


@pytest.mark.parametrize(("row", "limit"), [(256, 0.03), (512, 0.02), (1024, 0.01)])
def test_looking_ahead_leaves_little_padding(row, limit):
    generator = torch.Generator().manual_seed(0)
    # Square photos of 64 to 256 pixels in patches of 16, of whose tokens .3 to .7 are kept.
    sides = torch.randint(4, 17, (2000,), generator=generator)
    kept = 0.3 + 0.4 * torch.rand(2000, generator=generator)
    lengths = (sides.square() * kept).long().clamp_min(1).tolist()
    rows = first_fit(lengths, row)
    assert sorted(chain(*rows)) == list(range(2000))
    assert max(sum(lengths[i] for i in members) for members in rows) <= row
    closed = first_fit(lengths, row, lookahead=1)
    assert 1.0 - sum(lengths) / (row * len(rows)) <= limit
    assert len(closed) > len(rows)
    with pytest.raises(ValueError, match="a row 10"):
        first_fit([4, 11], 10)


def test_the_share_of_dropped_tokens_falls():
    shares = [drop_share(n, 1000) for n in range(0, 1001, 100)]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.79 and shares[-1] < 0.21


def test_a_video_kernel_of_an_image_kernel():
    image = torch.randn(16, 3, 8, 8)
    video = torch.randn(2, 6, 3, 16, 24)
    tubelets = Tubelets(16, (2, 8, 8))
    with torch.no_grad():
        tubelets.project.bias.zero_()
        tubelets.project.weight.copy_(central_frame(image, 2))
        tokens = tubelets(video)
        per_frame = functional.conv2d(video[:, 1::2].flatten(0, 1), image, stride=8).flatten(2).mT
        assert (tokens.flatten(0, 1) - per_frame).abs().max() < 1e-5
        tubelets.project.weight.copy_(inflate(image, 2))
        frozen = video[:, :1].expand(-1, 6, -1, -1, -1)
        expected = functional.conv2d(frozen[:, 0], image, stride=8).flatten(2).mT
        assert (tubelets(frozen)[:, 2] - expected).abs().max() < 1e-4


def test_time_that_is_silenced_leaves_the_image_model():
    timed, plain = TimedBlock(BlockConfig(32, 4, 64)), Block(BlockConfig(32, 4, 64))
    plain.load_state_dict({k: v for k, v in timed.state_dict().items() if not k.startswith("time")})
    torch.nn.init.zeros_(timed.time.out.weight)
    torch.nn.init.zeros_(timed.time.out.bias)
    x = torch.randn(2, 3, 5, 32)
    frames = plain(x.flatten(0, 1)).view_as(x)
    assert (timed.forward_video(x) - frames).abs().max() < 1e-6


def test_heads_of_space_and_heads_of_time():
    attention = Block(BlockConfig(32, 4, 64)).attention
    x = torch.randn(2, 3, 5, 32)
    tokens = x.flatten(1, 2)
    step, place = torch.arange(15) // 5, torch.arange(15) % 5
    queries, (keys, values) = attention.queries(tokens), attention.keys_values(tokens)
    same = [each[:, None] == each[None] for each in (step, place)]
    halves = [
        attention.attend(*(part[:, 2 * i : 2 * i + 2] for part in (queries, keys, values)), mask[None])
        for i, mask in enumerate(same)
    ]
    expected = attention.merge(torch.cat(halves, 1)).view_as(x)
    assert (factorised_heads(attention, x) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("form", ["joint", "factorised_encoder", "factorised_attention", "factorised_heads"])
def test_every_form_learns_from_every_frame(form):
    pool = "class" if form in ("joint", "factorised_encoder") else "mean"
    config = VivitConfig(BlockConfig(32, 4, 64), 2, 4, (16, 16), (2, 8, 8), 3, form, 1, pool)
    video = torch.randn(1, 4, 3, 16, 16, requires_grad=True)
    Vivit(config)(video)[0, 0].backward()
    assert (video.grad.abs().amax((0, 2, 3, 4)) > 0).all()


def test_a_video_at_full_size_has_the_published_numbers():
    block = BlockConfig(768, 12, 3072, qkv_bias=True, activation="gelu_tanh", eps=1e-6)
    with torch.device("meta"):
        model = Vivit(VivitConfig(block, 12, 32, (224, 224)))
    assert sum(parameter.numel() for parameter in model.parameters()) == 88_954_000
    config = model.config
    joint = (config.steps * config.places) ** 2
    parts = config.steps * config.places**2 + config.places * config.steps**2
    assert joint == 3136**2 and abs(joint / parts - 14.79) < 0.01


def test_experts():
    x = torch.randn(2, 6, 16)
    even = torch.full((2, 6, 4), 0.25)
    assert float(balance_loss(even, torch.arange(12).view(2, 6) % 4)) == pytest.approx(1.0, abs=1e-6)
    one = SwitchExperts(16, 24, 1, capacity=6)
    result, balance, full = one(x)
    assert (result - one.experts[0](x)).abs().max() < 1e-6 and full == 0
    assert balance.item() == pytest.approx(1.0)
    gated = GatedExperts(16, 24, 4, top=4)
    loud = gated(x)[0]
    with torch.no_grad():
        gated.router.weight.zero_()
        mean = gated(x)[0]
    assert not torch.allclose(loud, mean)
    loud.sum().backward()
    assert gated.router.weight.grad.abs().max() > 0
