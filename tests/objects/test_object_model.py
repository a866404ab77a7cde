"""The object-scene model: sizes, symmetries, and what each decoder promises."""

import re

import pytest
import torch

from smerf.objects.config import PRESETS, TrainingConfig, make_config
from smerf.objects.model.encoder import SlotAttention
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.ray_code import encode_rays
from smerf.objects.model.volumetric import composite
from tests.helpers.tiny_objects import encode, random_rays, tiny_config, tiny_model, tiny_scenes

IMPROVED = ("decoder.kind=srt", "slots.count=0", "decoder.inner=768", "decoder.hidden=1536")
ORIGINAL_STEM = "encoder.convolutions=[[96,1],[192,2],[192,1],[384,2],[384,1],[768,2],[768,1],[1536,2]]"


def count(*settings, preset="reference"):
    with torch.device("meta"):
        return Osrt(make_config(preset, settings)).count_parameters()


def millions(number):
    return round(number / 1e6, 2)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_ends_with_its_own_decoder_and_reads_its_own_images(name):
    config = make_config(name)
    assert config.takes(config.image) and config.training.broadcast_steps < config.training.steps
    parts = {"layer": "query_norm.weight", "unit": "query_norm.weight"}
    with torch.device("meta"):
        names = Osrt(config).state_dict().keys()
    wanted = parts.get(config.encoder.qk_norm)
    assert wanted is None or any(each.startswith("encoder") and each.endswith(wanted) for each in names)


def test_the_published_model_has_the_published_size():
    parts = count()
    assert {name: millions(value) for name, value in parts.items()} == {
        "encoder": 29.51, "slots": 28.38, "decoder": 25.25, "total": 83.15,
    }  # fmt: skip
    assert millions(count("slots.count=6")["total"]) == 83.11


def test_the_other_published_models_have_their_sizes():
    broadcast = count("decoder.kind=broadcast")
    assert millions(broadcast["decoder"]) == 9.73 and millions(broadcast["total"]) == 67.62
    improved = count(*IMPROVED)
    assert millions(improved["decoder"]) == 11.52 and millions(improved["total"]) == 41.03
    original = count(*IMPROVED, "encoder.layers=10", "encoder.positions=[15,20]", ORIGINAL_STEM)
    assert millions(original["encoder"]) == 69.89


def test_the_parts_of_the_published_encoder():
    with torch.device("meta"):
        encoder = Osrt(PRESETS["reference"]).encoder
    sizes = [
        sum(p.numel() for p in part.parameters())
        for part in (encoder.stem, encoder.to_tokens, encoder.layers)
    ]
    assert [millions(size) for size in sizes] == [5.30, 0.59, 23.62]


@pytest.mark.parametrize(("preset", "most"), [("gpu-small", 5.7), ("gpu-lean", 2.7), ("cpu-tiny", 0.65)])
def test_small_models_are_small(preset, most):
    assert count(preset=preset)["total"] < most * 1e6


@pytest.mark.parametrize("stem", ["encoder.patch=4", "encoder.patch=0"])
def test_the_order_of_views_changes_the_order_of_tokens_only(stem):
    model = tiny_model(stem, "encoder.convolutions=[[16,2],[16,2]]")
    scenes = tiny_scenes(2)
    order = torch.tensor([2, 0, 1])
    views = (scenes.images(), scenes.world_from_cam, scenes.fov_x)
    with torch.no_grad():
        slots = model.encode(*views)
        again = model.encode(*(x[:, order] for x in views))
    assert torch.allclose(slots, again, atol=1e-5)


def test_attention_sums_to_one_over_slots_and_starts_carry_the_order():
    torch.manual_seed(0)
    config = tiny_config().slots
    attend = SlotAttention(config, 24)
    tokens, starts = torch.randn(2, 9, 24), torch.randn(2, 4, 24)
    slots, attention = attend(tokens, starts)
    assert torch.allclose(attention.sum(1), torch.ones(2, 9), atol=1e-6)
    order = torch.tensor([3, 1, 0, 2])
    assert torch.allclose(attend(tokens, starts[:, order])[0], slots[:, order], atol=1e-5)


def test_random_starts_come_from_the_generator_and_any_number_works():
    model = tiny_model("slots.start=random")
    begin = model.slots.begin
    first = begin(2, torch.Generator().manual_seed(1))
    assert torch.equal(first, begin(2, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, begin(2, torch.Generator().manual_seed(2)))
    assert begin(2, None, 7).shape == (2, 7, 24)
    with pytest.raises(ValueError, match="learned starts"):
        tiny_model().slots.begin(1, None, 7)


def test_a_shared_background_is_the_same_in_every_scene():
    model = tiny_model("slots.shared_background=true")
    slots = encode(model, tiny_scenes(3))
    assert torch.equal(slots[:, 0], model.slots.starts[:1].expand(3, -1))
    assert not torch.allclose(slots[0, 1:], slots[1, 1:], atol=1e-4)


@pytest.mark.parametrize("kind", ["mixer", "broadcast", "srt", "nerf"])
def test_half_precision_draws_nearly_the_same(kind):
    """Training on a GPU runs in bfloat16; ray codes, softmax and colours stay in float32."""
    model = tiny_model(f"decoder.kind={kind}", "decoder.samples=8", "decoder.fine_samples=0")
    scenes, rays = tiny_scenes(2), random_rays(2, 10)
    whole = model.decode(model.prepare(encode(model, scenes)), *rays)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.decode(model.prepare(encode(model, scenes)), *rays)
    assert half.colour.dtype == half.weights.dtype == torch.float32
    assert torch.allclose(half.colour, whole.colour, atol=0.03)
    assert torch.allclose(half.weights, whole.weights, atol=0.03)


@pytest.mark.parametrize("kind", ["mixer", "broadcast", "srt"])
def test_weights_are_shares_and_rays_are_alone(kind):
    model = tiny_model(f"decoder.kind={kind}")
    slots = encode(model, tiny_scenes(2))
    rays = random_rays(2, 10)
    prepared = model.prepare(slots)
    whole = model.decode(prepared, *rays)
    assert (whole.weights >= 0).all() and torch.allclose(whole.weights.sum(-1), torch.ones(2, 10), atol=1e-5)
    assert (whole.colour >= 0).all() and (whole.colour <= 1).all()
    parts = [model.decode(prepared, *(x[:, i : i + 5] for x in rays)) for i in (0, 5)]
    assert torch.allclose(torch.cat([part.colour for part in parts], 1), whole.colour, atol=1e-5)
    order = torch.tensor([2, 0, 3, 1])
    turned = model.decode(model.prepare(slots[:, order]), *rays)
    assert torch.allclose(turned.colour, whole.colour, atol=1e-5)
    assert torch.allclose(turned.weights, whole.weights[..., order], atol=1e-5)


def test_the_mixer_mixes_by_an_explicit_weighted_sum():
    model = tiny_model()
    slots = encode(model, tiny_scenes(2))
    origins, directions = random_rays(2, 10)
    decoded = model.decode(model.prepare(slots), origins, directions)
    rays, _ = model.decoder.allocation(origins, directions, model.prepare(slots))
    mixed = (decoded.weights[..., None] * slots[:, None]).sum(2)
    colour = torch.sigmoid(model.decoder.render(torch.cat([mixed, rays], -1)))
    assert torch.allclose(colour, decoded.colour, atol=1e-6)


@pytest.mark.parametrize("kind", ["mixer", "broadcast", "srt", "nerf"])
def test_hiding_a_slot_equals_dropping_it(kind):
    model = tiny_model(f"decoder.kind={kind}", "decoder.samples=8", "decoder.fine_samples=4")
    slots = encode(model, tiny_scenes(2))
    rays = random_rays(2, 10)
    visible = torch.tensor([[True, False, True, True]]).expand(2, -1)
    hidden = model.decode(model.prepare(slots, visible), *rays)
    dropped = model.decode(model.prepare(slots[:, [0, 2, 3]]), *rays)
    assert torch.allclose(hidden.colour, dropped.colour, atol=1e-5)
    assert torch.allclose(hidden.weights[..., [0, 2, 3]], dropped.weights, atol=1e-5)
    assert (hidden.weights[..., 1] == 0).all()


@pytest.mark.parametrize("kind", ["mixer", "broadcast", "nerf"])
def test_groups_of_equal_rays_change_nothing(kind):
    model = tiny_model(f"decoder.kind={kind}", "decoder.samples=8", "decoder.fine_samples=0")
    slots = encode(model, tiny_scenes(2))
    origins, directions = random_rays(2, 10)
    plain = model.decode(model.prepare(slots), origins, directions)
    group = torch.tensor([0, 1, 1, 0])
    both = (x[:, None].expand(-1, 2, -1, -1) for x in (origins, directions))
    grouped = model.decode(model.prepare(slots, group=group), *both)
    assert torch.allclose(plain.colour, grouped.colour, atol=1e-5)
    assert torch.allclose(plain.weights, grouped.weights, atol=1e-5)


def test_a_slot_alone_draws_its_own_layer():
    model = tiny_model("decoder.kind=broadcast")
    slots = encode(model, tiny_scenes(1))
    rays = random_rays(1, 10)
    code = encode_rays(*rays, model.config.rays)
    own = model.decoder.render(torch.cat([code, slots[:, 2:3].expand(-1, 10, -1)], -1))
    layers = model.decode(model.prepare(slots), *rays, layers=True).layers
    alone = model.decode(model.prepare(slots[:, 2:3]), *rays)
    assert torch.allclose(alone.colour, layers[:, :, 2], atol=1e-6) and (alone.weights == 1).all()
    assert torch.allclose(alone.colour, torch.sigmoid(own[..., 1:]), atol=1e-6)


def test_pose_free_models_read_no_cameras():
    model = tiny_model("encoder.posed=false", "encoder.positions=[4,4]", "frame=reference")
    images = tiny_scenes(2).images()
    with torch.no_grad():
        slots = model.encode(images)
        turned = model.encode(images[:, [0, 2, 1]])
        other_first = model.encode(images[:, [1, 0, 2]])
    assert torch.allclose(slots, turned, atol=1e-5)
    assert not torch.allclose(slots, other_first, atol=1e-3)
    with pytest.raises(ValueError, match="positions"):
        model.encode(torch.rand(1, 1, 32, 32, 3))


def test_what_makes_no_sense_is_refused():
    from smerf.errors import UsageError

    with pytest.raises(UsageError, match="pose-free"):
        make_config("cpu-tiny", ("encoder.posed=false",))
    with pytest.raises(UsageError, match=r"slots\.count"):
        make_config("cpu-tiny", ("slots.count=0",))
    with pytest.raises(UsageError, match="shared_background"):
        make_config("cpu-tiny", ("slots.shared_background=true", "slots.start=random"))
    with pytest.raises(UsageError, match=r"decoder\.kinds=nerf: there is no key"):
        make_config("cpu-tiny", ("decoder.kinds=nerf",))
    with pytest.raises(UsageError, match="cpu-huge"):
        make_config("cpu-huge")
    with pytest.raises(ValueError, match="rays of its input"):
        tiny_model().encoder(torch.rand(1, 1, 16, 16, 3), None, None)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.steps=0", "steps: expected 1 or more, got 0"),
        ("training.batch=0", "batch: expected 1 or more, got 0"),
        ("training.held_out=0", "held_out: expected 1 or more, got 0"),
        ("training.lr=0", "lr: expected more than 0, got 0.0"),
        ("training.ema=1", "ema: expected a number from 0 to below 1, got 1.0"),
        ("training.contrast=1.5", "contrast: expected a number from 0 to 1, got 1.5"),
        ("training.decay_steps=0", "decay_steps: expected 1 or more, got 0"),
        ("encoder.heads=5", "width: expected a multiple of heads=5, got 96"),
        ("encoder.patch=5", "image: expected multiples of encoder.patch=5"),
        ("decoder.inner=30", "inner: expected a multiple of heads=4, got 30"),
        ("decoder.far=0.1", "near, far: expected 0 <= near < far"),
        ("image=[0,32]", "image: expected height and width of 1 or more"),
        ("slots.iterations=0", "iterations: expected 1 or more, got 0"),
        ("rays.origin_octaves=0", "origin_octaves: expected 1 or more, got 0"),
        ("training.lr=.nan", "lr"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting, message):
    from smerf.errors import UsageError

    with pytest.raises(UsageError, match=re.escape(message)):
        make_config("cpu-tiny", (setting,))


def test_rates_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="lr: expected more than 0, got nan"):
        TrainingConfig(lr=float("nan"))


def test_volumetric_weights_sum_to_the_opacity_of_constant_density():
    t = torch.linspace(1.0, 3.0, 65)[:-1].expand(1, 1, -1)
    density = torch.tensor([0.5, 1.5])[None, :, None, None].expand(1, 2, 1, 64)
    red_blue = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])[None, :, None, None].expand(1, 2, 1, 64, 3)
    colour, shares, depth, _ = composite(density, red_blue, t, 3.0)
    opacity = 1.0 - torch.exp(torch.tensor(-4.0))
    assert shares.sum().item() == pytest.approx(opacity.item(), abs=1e-5)
    assert shares[0, 0].tolist() == pytest.approx([0.25 * opacity.item(), 0.75 * opacity.item()], abs=1e-5)
    assert colour[0, 0].tolist() == pytest.approx(
        [0.25 * opacity.item(), 0.0, 0.75 * opacity.item()], abs=1e-5
    )
    assert 1.0 < depth.item() < 2.0


@pytest.mark.parametrize("slab_octaves", [0, 2])
def test_the_volumetric_decoder_learns_and_gives_depth(slab_octaves):
    torch.manual_seed(0)
    settings = ("decoder.kind=nerf", "decoder.samples=8", "decoder.fine_samples=4")
    model = Osrt(tiny_config(*settings, f"rays.slab_octaves={slab_octaves}"))
    slots = torch.randn(1, 4, 24)
    decoded = model.decode(model.prepare(slots), *random_rays(1, 6))
    assert decoded.coarse.shape == decoded.colour.shape == (1, 6, 3) and (decoded.depth > 0).all()
    (decoded.colour.sum() + decoded.coarse.sum()).backward()
    assert all(p.grad is not None for p in model.decoder.parameters())
