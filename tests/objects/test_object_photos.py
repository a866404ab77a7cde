"""Photos of any size in the encoder: packing changes nothing, scenes do not see each other, rays stay exact."""

import json
import math

import pytest
import torch
from PIL import Image

from smerf.engine.quotas import quota_order
from smerf.errors import InvalidDataError, UsageError
from smerf.objects.cameras import look_at, patch_directions, pixel_directions, view_rays
from smerf.objects.config import plain_values
from smerf.objects.data.mixtures import Mixture, open_mixture
from smerf.objects.data.photos import photos_as_shot, scenes_of_capture
from smerf.objects.data.scenes import SceneSet, save_scenes
from smerf.objects.editing.encode import encode_photos, encode_views
from smerf.objects.model.photos import Photos, best_row, pack_photos, split_token
from smerf.objects.model.store import load_model, model_digest, shipped_model
from smerf.objects.training.schedule import dropped_share
from smerf.objects.training.trainer import ObjectsTrainer
from smerf.vision.blocks import Block, BlockConfig, attention_meters
from tests.helpers.tiny_objects import tiny_config, tiny_model, tiny_scenes

SIZES = ((8, 24), (16, 16), (24, 8), (12, 20))
ANY = ("encoder.patch_ray=centre",)


def photos_of(scenes, scene, view=0):
    """Return the photos of one view of some scenes, as scenes ``scene``."""
    return Photos(
        scenes.images()[:, view], scenes.world_from_cam[:, view], scenes.fov_x[:, view], torch.tensor(scene)
    )


def mixed_photos():
    """Return groups of four sizes: five scenes, of which the first has photos of two sizes."""
    sets = [tiny_scenes(2, seed=i, size=size) for i, size in enumerate(SIZES)]
    numbers = ([0, 1], [2, 3], [0, 4], [1, 3])
    return [photos_of(scenes, number) for scenes, number in zip(sets, numbers)]


def alone(groups, scene):
    """Return the photos of one scene as groups of their own."""
    result = []
    for group in groups:
        own = group.scene == scene
        if own.any():
            parts = (group.images[own], group.world_from_cam[own], group.fov_x[own])
            result.append(Photos(*parts, torch.zeros(int(own.sum()), dtype=torch.int64)))
    return result


@pytest.mark.parametrize(
    "settings", [(), ("encoder.qk_norm=layer", "encoder.parallel=true", "encoder.row=64")]
)
def test_packed_photos_are_encoded_as_each_scene_alone_gradients_too(settings):
    model = tiny_model(*ANY, *settings).double().requires_grad_(True)
    groups = [
        Photos(g.images.double(), g.world_from_cam.double(), g.fov_x.double(), g.scene)
        for g in mixed_photos()
    ]
    starts = model.slots.begin(1)
    weights = torch.randn(5, *starts.shape[1:], generator=torch.Generator().manual_seed(1)).double()
    packed = model.encode_photos(groups, starts=starts.expand(5, -1, -1))
    together = torch.autograd.grad((packed * weights).sum(), list(model.encoder.parameters()))
    singles = torch.cat([model.encode_photos(alone(groups, i), starts=starts) for i in range(5)])
    single = torch.autograd.grad((singles * weights).sum(), list(model.encoder.parameters()))
    assert (packed - singles).abs().max() < 1e-6
    for a, b in zip(together, single):
        assert (a - b).abs().max() < 1e-5 * (1.0 + b.abs().max())


@pytest.mark.parametrize("kind", ["mean", "centre"])
def test_one_size_packed_is_what_the_model_makes_of_its_images(kind):
    model, scenes = tiny_model(f"encoder.patch_ray={kind}"), tiny_scenes(3)
    dense = model.encode(scenes.images(slice(1)), scenes.world_from_cam[:, :1], scenes.fov_x[:, :1])
    assert (model.encode_photos([photos_of(scenes, [0, 1, 2])]) - dense).abs().max() < 1e-5


def test_nothing_leaks_from_scene_to_scene_nor_from_padding():
    model = tiny_model(*ANY, "encoder.row=200")
    groups = mixed_photos()
    before = model.encode_photos(groups)
    groups[3].images[1] = 1.0 - groups[3].images[1]
    changed = (model.encode_photos(groups) - before).abs().amax((1, 2))
    assert changed[3] > 1e-3 and changed[[0, 1, 2, 4]].max() == 0.0
    packed = pack_photos(groups, model.config.encoder)
    assert packed.tokens.shape[:2] == (1, 200) and (packed.segment == 0).any()
    packed.tokens.requires_grad_(True)
    tokens, is_there = model.encoder.encode_rows(packed)
    (tokens * is_there[..., None]).square().sum().backward()
    assert packed.tokens.grad.isfinite().all() and (packed.tokens.grad[packed.segment == 0] == 0).all()


def test_dropped_tokens_leave_the_rays_of_the_others_where_they_were():
    config, groups = tiny_model(*ANY).config.encoder, mixed_photos()
    whole = pack_photos(groups, config)
    lengths = [int(((whole.photo[r] == s).nonzero() + 1 == whole.segment[r]).sum())
               for s in range(5) for r in range(len(whole.photo)) if (whole.photo[r] == s).any()]  # fmt: skip
    keep = [torch.arange(1, n, 3) for n in lengths]
    some = pack_photos(groups, config, keep)
    size = groups[1].images.shape[1:3]
    for number, view in ((2, 0),):
        rays = patch_directions(
            groups[1].world_from_cam[view : view + 1], groups[1].fov_x[view : view + 1], size, config.patch
        )[0]
        row, place = (some.photo == number).nonzero()[0].tolist()
        own = some.segment[row] == place + 1
        colours, centres, directions = split_token(some.tokens[row, own])
        y, x = some.place[row, own].unbind(-1)
        assert torch.equal(directions, rays[y, x])
        assert torch.equal(centres, groups[1].world_from_cam[view, :, 3].expand_as(centres))
        image = groups[1].images[view].unfold(0, 4, 4).unfold(1, 4, 4)
        assert torch.equal(colours, image[y, x].flatten(1))
        assert (y * (size[1] // 4) + x).tolist() == keep[number].tolist()


def test_the_ray_of_a_patch_does_not_depend_on_the_resolution():
    scenes = tiny_scenes(1)
    camera = (scenes.world_from_cam[0, :1].double(), scenes.fov_x[0, :1].double())
    large = patch_directions(*camera, (48, 64), 8)
    small = patch_directions(*camera, (24, 32), 4)
    column, row = torch.tensor([11.5, 19.5]).double()
    middle = pixel_directions(camera[0][0], camera[1][0], column, row, (48, 64))
    assert (large - small).abs().max() < 1e-12 and (large[0, 2, 1] - middle).abs().max() < 1e-12
    mean = patch_directions(*camera, (24, 32), 4, "mean")
    assert 1e-6 < (mean - small).abs().max() < 2e-2
    assert torch.equal(patch_directions(*camera, (3, 4), 1), view_rays(*camera, (3, 4))[1])


def test_rows_hold_what_costs_least():
    assert best_row([36] * 16, 96) == 36
    assert best_row([20] * 8 + [36] * 8, 96) in (36, 72, 108, 144)
    assert best_row([18, 18, 36], 96) == 36


def test_old_models_are_what_they_were():
    model, _ = load_model(shipped_model())
    assert model_digest(model) == "1cc009713a27e606"
    assert "heads" not in plain_values(model.config) and "drop" not in plain_values(model.config)["training"]
    scenes = tiny_scenes(2, size=(24, 24))
    encoder = model.encoder
    rays = view_rays(scenes.world_from_cam[:, 0], scenes.fov_x[:, 0], (24, 24))
    from smerf.objects.model.ray_code import encode_rays

    # The encoder as the model was published with it, written out.
    x = encoder.stem(4.0 * (scenes.images()[:, 0] - 0.5).permute(0, 3, 1, 2))
    middle = torch.nn.functional.avg_pool2d(rays[1].permute(0, 3, 1, 2), 4).permute(0, 2, 3, 1)
    code = encode_rays(rays[0][:, :1, :1], torch.nn.functional.normalize(middle, dim=-1), encoder.code)
    x = encoder.to_tokens(torch.relu(x + encoder.patch_rays(code).permute(0, 3, 1, 2))).flatten(2).mT
    for layer in encoder.layers:
        x = layer(x)
    given = (scenes.world_from_cam[:, :1, :, 3], rays[1][:, None])
    assert torch.equal(encoder(scenes.images(slice(1)), *given), x)


def test_meters_of_a_hand_case():
    block = Block(BlockConfig(2, 1, 2))
    with torch.no_grad():
        block.attention.query.weight.copy_(torch.eye(2))
        block.attention.key.weight.copy_(2.0 * torch.eye(2))
    # The layer norm turns (3, 1) into (1, -1) and (1, 3) into (-1, 1): logits are +-4 / sqrt(2).
    x = torch.tensor([[[3.0, 1.0], [1.0, 3.0], [9.0, 9.0]]])
    p = 1.0 / (1.0 + math.exp(-8.0 / math.sqrt(2.0)))
    entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    mask = torch.tensor([[[True, True, False], [True, True, False], [False, False, True]]])
    found = attention_meters(block, x, mask, mask[:, 0])
    assert found == pytest.approx((4.0 / math.sqrt(2.0), entropy), abs=1e-4)
    # Counted as well, the padding that sees itself alone would lower the mean entropy.
    assert attention_meters(block, x, mask)[1] == pytest.approx(2.0 / 3.0 * entropy, abs=1e-4)
    assert attention_meters(block, x * math.nan)[0] == math.inf


QUOTAS = ("training.quotas=[[a,2],[b,1]]", "heads=[a,b]", "training.steps=6", "training.warmup=1",
          "slots.shared_background=true")  # fmt: skip


def test_steps_are_shared_out_exactly_and_always_alike():
    quotas = (("a", 20_000), ("b", 10_000), ("c", 500))
    order = quota_order(quotas, 30_500, seed=3)
    assert {name: order.count(name) for name, _ in quotas} == dict(quotas)
    assert order == quota_order(quotas, 30_500, seed=3) != quota_order(quotas, 30_500, seed=4)
    assert 250 < order[:500].count("a") < 400
    assert sorted(quota_order((("a", 3), ("b", 2), ("c", 1)), 10)) == [*"aaaaabbbcc"]


def two_sets():
    return Mixture(
        {"a": (tiny_scenes(4),), "b": (tiny_scenes(4, seed=9, size=(8, 24)), tiny_scenes(4, seed=3))}
    )


def test_quotas_give_their_shares_and_heads_stay_apart(tmp_path):
    trainer = ObjectsTrainer(two_sets(), tiny_config(*QUOTAS, *ANY))
    seen = []
    for _ in range(6):
        name = trainer.data_set
        other = "b" if name == "a" else "a"
        heads = {n: [p.clone() for p in trainer.model.head(n).parameters()] for n in "ab"}
        moments = {
            p: {k: torch.as_tensor(v).clone() for k, v in trainer._adam.state.get(p, {}).items()}
            for p in trainer.model.head(other).parameters()
        }
        trainer.advance()
        seen.append(name)
        moved = [not torch.equal(a, b) for a, b in zip(heads[name], trainer.model.head(name).parameters())]
        assert all(moved)
        for before, now in zip(heads[other], trainer.model.head(other).parameters()):
            assert torch.equal(before, now)
        for p, state in moments.items():
            now = trainer._adam.state.get(p, {})
            assert state.keys() == now.keys() and all(
                torch.equal(v, torch.as_tensor(now[k])) for k, v in state.items()
            )
    assert seen.count("a") == 4 and seen.count("b") == 2
    scores = trainer.evaluate()
    assert {"a.psnr", "b.24x8.psnr", "b.16x16.psnr"} <= scores.keys() and "psnr" not in scores
    meters = trainer.meters()
    assert meters["logit"] > 0 and 0 < meters["entropy"] < math.log(16) + 1e-6


def test_a_stopped_training_of_several_sets_continues_exactly():
    config = tiny_config(*QUOTAS, *ANY, "training.drop=0.5", "training.ema=0.5")
    whole, first, second = (ObjectsTrainer(two_sets(), config) for _ in range(3))
    for _ in range(6):
        whole.advance()
    for _ in range(3):
        first.advance()
    second.restore({k: v.clone() for k, v in first.tensors().items()}, json.loads(json.dumps(first.state())))
    for _ in range(3):
        second.advance()
    for name, value in whole.average.items():
        assert torch.equal(value, second.average[name]), name


@pytest.mark.parametrize("frame", ["world", "reference"])
def test_views_as_single_photos_give_the_slots_of_one_set(frame):
    model, views = tiny_model(*ANY, f"frame={frame}"), tiny_scenes(1)
    photos = [
        SceneSet(*(each[:, v : v + 1] for each in (views.rgb, views.seg, views.world_from_cam, views.fov_x)))
        for v in range(3)
    ]
    ours, theirs = encode_photos(model, photos, where="m"), encode_views(model, views, 3, where="m")
    assert (ours.slots - theirs.slots).abs().max() < 1e-5
    assert len(ours.cameras) == 3 and ours.model == theirs.model


def write_capture(folder, count, size):
    """Write a posed capture of plain photos (height, width) on a circle; photo i has the grey level i."""
    height, width = size
    (folder / "images").mkdir(parents=True)
    frames = []
    for number in range(count):
        name = f"images/{number:02d}.png"
        Image.new("RGB", (width, height), (number,) * 3).save(folder / name)
        angle = torch.tensor(2.0 * math.pi * number / count)
        pose = torch.eye(4)
        pose[:3] = look_at(torch.stack([6 * angle.cos(), 6 * angle.sin(), torch.tensor(3.0)]))
        frames.append({"file_path": name, "transform_matrix": pose.tolist()})
    lens = {"w": width, "h": height, "fl_x": 50.0, "fl_y": 50.0, "cx": width / 2, "cy": height / 2}
    (folder / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    return folder


def test_photos_of_a_capture_keep_their_shapes(tmp_path):
    photos = photos_as_shot(write_capture(tmp_path / "c", 4, (40, 62)), 3, (16, 16), 4)
    # 62 to 40 in 5 x 3 patches: a side is cut by less than a patch, and a pixel stays a square.
    assert [each.size for each in photos] == [(12, 20)] * 3
    assert math.tan(0.5 * float(photos[0].fov_x[0, 0])) == pytest.approx(31 / 50, rel=1e-5)


def test_a_capture_becomes_scenes_that_share_no_photo_with_those_held_out(tmp_path):
    scenes = scenes_of_capture(write_capture(tmp_path / "c", 15, (16, 16)), (16, 16), held_out=4, views=3)
    shown = scenes.rgb[:, :, 0, 0, 0]
    train, test = shown[:-4], shown[-4:]
    assert len(train) == 12 and set(test.flatten().tolist()) == {4, 9, 14}
    assert not set(train.flatten().tolist()) & {4, 9, 14}
    assert all(len(set(each.tolist())) == 3 for each in shown)
    with pytest.raises(InvalidDataError, match="25 are needed"):
        scenes_of_capture(tmp_path / "c", (16, 16), held_out=4)


@pytest.mark.parametrize("kind", ["mixer", "broadcast"])
def test_a_folded_head_does_what_the_head_did(kind):
    model = tiny_model(*QUOTAS, f"decoder.kind={kind}")
    head, scenes = model.head("b"), tiny_scenes(2)
    head.tone.copy_(torch.tensor([[0.3, -0.2, 0.1], [0.5, 0.0, -0.4]]))
    head.background.copy_(torch.randn(24, generator=torch.Generator().manual_seed(2)))
    views = (scenes.images(slice(1)), scenes.world_from_cam[:, :1], scenes.fov_x[:, :1])
    rays = [x.flatten(1, 2) for x in view_rays(scenes.world_from_cam[:, 1], scenes.fov_x[:, 1], scenes.size)]

    def draw(model, head):
        return model.decode(model.toned(model.prepare(model.encode(*views, head=head)), head), *rays).colour

    folded = model.with_head("b")
    assert not folded.config.heads and not any("heads" in name for name in folded.state_dict())
    assert (draw(folded, None) - draw(model, "b")).abs().max() < 1e-5
    assert (draw(model, "a") - draw(model, "b")).abs().max() > 1e-2
    assert (draw(model, "a") - draw(model.with_head("a"), None)).abs().max() < 1e-6


def test_a_new_head_changes_nothing_for_the_others():
    old = tiny_model(*QUOTAS)
    more = ("training.quotas=[[a,2],[b,1],[c,1]]", "heads=[a,b,c]")
    trainer = ObjectsTrainer(
        Mixture({name: (tiny_scenes(4),) for name in "abc"}), tiny_config(*QUOTAS, *more)
    )
    trainer.init_from(old)
    scenes = tiny_scenes(2)
    views = (scenes.images(slice(1)), scenes.world_from_cam[:, :1], scenes.fov_x[:, :1])
    with torch.no_grad():
        trainer.model.head("c").background += 1.0
        for name in "ab":
            assert torch.equal(trainer.model.encode(*views, head=name), old.encode(*views, head=name))


def test_tokens_are_dropped_at_first_and_none_at_last_nor_in_some_scenes():
    settings = ("training.drop=0.5", "training.steps=100", "training.batch=4", *ANY)
    config = tiny_config(*settings)
    shares = [dropped_share(step, config.training) for step in range(101)]
    assert shares[0] == pytest.approx(0.5, abs=0.01) and shares[100] < 0.01 and shares == sorted(shares)[::-1]
    sets = Mixture({"": (tiny_scenes(6), tiny_scenes(6, size=(8, 24)))})
    trainer = ObjectsTrainer(sets, config)
    batch = trainer._sample()
    lengths = (batch.lengths // 16).tolist()
    kept = trainer._kept_tokens(batch)
    assert [len(each) for each in kept] == [round(0.5 * n + 0.04) for n in lengths]
    assert all(each.tolist() == sorted(set(each.tolist())) for each in kept)
    whole = ObjectsTrainer(sets, tiny_config(*settings, "training.drop_whole=1"))
    assert [len(each) for each in whole._kept_tokens(whole._sample())] == [
        int(n) for n in whole_lengths(whole)
    ]
    before = [p.clone() for p in trainer.model.parameters()]
    for _ in range(2):
        trainer.advance()
    assert sum(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters())) > 0.9 * len(before)


def whole_lengths(trainer):
    """Return the tokens of the scenes of the first batch of a trainer that begins as the given one."""
    again = ObjectsTrainer(trainer.mixture, trainer.config)
    return again._sample().lengths // 16


def test_folders_of_sets_are_read_and_faults_named(tmp_path):
    config = tiny_config(*QUOTAS, *ANY)
    save_scenes(tiny_scenes(4), tmp_path / "a")
    with pytest.raises(UsageError, match=r"b: is not there; training\.quotas"):
        open_mixture(tmp_path, config, names=("a", "b"))
    save_scenes(tiny_scenes(4, size=(8, 24)), tmp_path / "b" / "24x8")
    save_scenes(tiny_scenes(4), tmp_path / "b" / "16x16")
    mixture = open_mixture(tmp_path, config, names=("a", "b"))
    assert {name: [each.size for each in sets] for name, sets in mixture.sets.items()} == {
        "a": [(16, 16)], "b": [(16, 16), (8, 24)],
    }  # fmt: skip
    assert len(mixture) == 12 and list(mixture.source) == ["a:16x16", "b:16x16", "b:24x8"]
    with pytest.raises(InvalidDataError, match=r"encoder\.patch"):
        Mixture({"": (tiny_scenes(4, size=(8, 24)), tiny_scenes(4))}).parts(
            tiny_config("encoder.posed=false", "encoder.positions=[4,4]", "frame=reference"), "cpu"
        )
    with pytest.raises(InvalidDataError, match="20x10 pixels, no multiple"):
        Mixture({"": (tiny_scenes(4, size=(10, 20)), tiny_scenes(4))}).parts(tiny_config(), "cpu")
    assert config.takes((8, 24)) and not config.takes((8, 22)) and not tiny_config().takes((8, 24))
    with pytest.raises(UsageError, match=r"heads: expected the names of training\.quotas"):
        tiny_config("heads=[a]")
