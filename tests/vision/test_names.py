"""The closed vocabulary: things are drawn as they are called, shape is told from depth, weak names are not said."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.capture.synth.assemble import build_world
from smerf.capture.synth.describe import Rig, SceneSpec
from smerf.capture.synth.rigs import look_at
from smerf.capture.types import Camera, Intrinsics
from smerf.cli.main import main
from smerf.engine.loop import resume, run_steps
from smerf.errors import InvalidDataError
from smerf.pipeline.names import choose_least, judge
from smerf.vision.blocks import BlockConfig
from smerf.vision.label import Votes
from smerf.vision.lift import VoxelGrid
from smerf.vision.names.draw import Maker
from smerf.vision.names.eyes import Ground, accepted, likelihoods
from smerf.vision.names.furniture import FURNITURE
from smerf.vision.names.harder import draw_hard_scene
from smerf.vision.names.inputs import CHANNELS, look, mirrored
from smerf.vision.names.network import NameNet, NetConfig, read_net, write_net
from smerf.vision.names.photos import crop, scene_photos
from smerf.vision.names.scenes import draw_scene
from smerf.vision.names.small import OTHERS, OUTSIDE, SMALL
from smerf.vision.names.train import NameTrainer, TrainConfig
from smerf.vision.names.words import WORDS
from tests.helpers.known_things import write_things

DRAWN = FURNITURE | SMALL | OUTSIDE | OTHERS
TINY = NetConfig(("cup", "ball"), BlockConfig(width=16, heads=2, hidden=16), layers=1, stem=(4, 8), row=64)


@pytest.fixture(scope="module")
def scene():
    """Photos of a drawn scene that no training saw."""
    return scene_photos(2_000_003, 6)


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_drawn_thing_stands_on_the_ground_within_its_size(name):
    for seed in range(4):
        maker = Maker(np.random.default_rng(seed))
        thing = DRAWN[name](maker)
        spec = SceneSpec(
            "one", "one", 0.1, 9.0, True, maker.materials, (thing.placed((0, 0, 0)),), Rig("orbit")
        )
        points = build_world(spec, 2.0).vertices
        reach = max(thing.size)
        assert thing.word in (*WORDS, "other")
        assert points[:, 2].min() > -0.25 * reach and points[:, 2].max() < 1.6 * thing.size[2] + 0.3 * reach
        assert np.abs(points[:, :2]).max() < 0.5 * max(thing.size[:2]) + 0.5 * reach


def test_every_word_is_drawn_and_a_seed_gives_the_same_scene():
    assert set(WORDS) <= {DRAWN[name](Maker(np.random.default_rng(0))).word for name in DRAWN}
    for draw in (draw_scene, draw_hard_scene):
        first, again, other = draw(5, 3), draw(5, 3), draw(6, 3)
        assert np.array_equal(first.poses, again.poses) and not np.array_equal(first.poses, other.poses)
        assert [each.at for each in first.spec.objects] == [each.at for each in again.spec.objects]


def test_a_crop_is_about_the_word_that_it_was_asked_for(scene):
    rng, photo = np.random.default_rng(0), scene[0]
    shown = np.unique(photo.target[photo.target > 0])
    assert len(shown)
    for word in [*shown.tolist(), 0] * 3:
        channels, target, (row, column) = crop(photo, 0.0, rng, word)
        assert channels.shape[1:] == target.shape and (word == 0 or (target == word).any())
        height, width = target.shape
        assert 8 * row + height <= photo.target.shape[0] and 8 * column + width <= photo.target.shape[1]


def floor(height=32, width=48, up=1.5):
    """Return the depth of a floor at height 0 from a tilted camera, and the camera."""
    lens = Intrinsics("PINHOLE", width, height, 40.0, 40.0, width / 2, height / 2)
    camera = Camera(lens, look_at(np.array([0.3, -2.0, up]), np.array([0.1, 0.0, 0.0]))[:3])
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    local = np.stack([(column - width / 2) / 40, -(row - height / 2) / 40, -np.ones_like(row)], -1)
    rays = local @ camera.world_from_cam[:, :3].T
    return np.where(rays[..., 2] < -0.05, -up / rays[..., 2], 0.0).astype(np.float32), camera


def test_a_floor_is_seen_as_one_and_units_do_not_matter():
    depth, camera = floor()
    grey = np.full((32, 48, 3), 128, np.uint8)
    seen = look(grey, depth, camera)
    inside = np.s_[:, 20:30, 5:40]
    assert seen.shape == (CHANNELS, 32, 48)
    assert np.allclose(seen[3][inside[1:]], 1.0, atol=1e-3) and np.allclose(
        seen[8][inside[1:]], 0.0, atol=1e-3
    )
    bigger = replace(camera, world_from_cam=camera.world_from_cam * [1, 1, 1, 7.0])
    assert np.allclose(look(grey, 7 * depth, bigger, 0.0, 7.0)[inside], seen[inside], atol=1e-3)
    unknown = look(grey, 7 * depth, bigger, 0.0, None)
    assert np.allclose(unknown[:7][inside], seen[:7][inside], atol=1e-3) and not unknown[7:].any()
    assert np.array_equal(mirrored(mirrored(seen)), seen) and not look(grey, 0 * depth, camera)[3:7].any()


@torch.no_grad()
def test_photos_that_share_a_row_do_not_see_each_other():
    torch.manual_seed(0)
    net = NameNet(TINY).eval()
    photos = [torch.randn(CHANNELS, *size) for size in ((16, 24), (32, 16), (24, 24))]
    together = net(photos)
    assert [tuple(each.shape) for each in together] == [(3, 4, 6), (3, 8, 4), (3, 6, 6)]
    for photo, each in zip(photos, together):
        assert torch.allclose(net([photo])[0], each, atol=1e-5)
    assert not torch.allclose(net(photos, [(2, 2)] * 3)[0], together[0], atol=1e-3)


@torch.no_grad()
def test_weights_come_back_with_their_score(tmp_path):
    net = NameNet(TINY).eval()
    write_net(tmp_path / "a.safetensors", net, 0.61)
    again, least = read_net(tmp_path / "a.safetensors")
    photo = torch.randn(CHANNELS, 16, 16)
    assert least == 0.61 and again.config == TINY
    assert torch.allclose(again([photo])[0], net([photo])[0], atol=0.02)
    depth, camera = floor(30, 50)
    chance = likelihoods(again, np.zeros((60, 100, 3), np.uint8), depth, camera, Ground(0.0, None))
    assert chance.shape == (3, 30, 50) and np.allclose(chance.sum(0), 1.0, atol=1e-4)
    (tmp_path / "b.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InvalidDataError, match=r"b\.safetensors"):
        read_net(tmp_path / "b.safetensors")


def votes_of(strengths):
    """Return votes of blocks of 27 voxels that stand apart, each with its votes (cup, ball)."""
    block = np.argwhere(np.ones((3, 3, 3)))
    keys = np.concatenate([block + [10 * number, 0, 0] for number in range(len(strengths))]).astype(np.int32)
    votes = np.repeat(np.array(strengths, np.float32), len(block), 0)
    return Votes(VoxelGrid(np.zeros(3), 0.1), ("cup", "ball"), keys, np.full(len(keys), 9, np.int32), votes)


def test_what_scores_less_is_not_named():
    votes = votes_of([(0.9, 0.1), (0.2, 0.5), (0.1, 0.3), (0.0, 0.1)])
    assert [each.word for each in accepted(votes, 0.0).objects] == ["ball", "ball", "cup"]
    assert [each.word for each in accepted(votes, 0.5).objects] == ["ball", "cup"]
    assert accepted(votes, 0.95).objects == ()


def test_names_are_judged_by_the_thing_below_them_and_the_score_is_chosen_by_that():
    votes = votes_of([(0.9, 0.0), (0.7, 0.1), (0.0, 0.6), (0.43, 0.0), (0.0, 0.1)])
    owner = np.repeat([1, 2, 3, 0, 4], 27)
    judged = judge(votes, owner, {1: "cup", 2: "cup", 3: "ball", 4: "ball"})
    assert judged.precision(0.0) == (3, 4) and judged.precision(0.5) == (3, 3)
    assert judged.recall(0.5) == (3, 4) and judged.recall(0.65) == (2, 4)
    # The wrong name at 0.43 would leave three of four right.
    assert choose_least(judged) == 0.44
    assert choose_least(judge(votes, owner * 0, {})) == 1.0


def test_a_stopped_training_goes_on_to_the_same_weights(scene, tmp_path):
    config = TrainConfig(steps=2, batch=1, net=replace(TINY, words=WORDS))
    whole, first = NameTrainer(config, [scene]), NameTrainer(config, [scene])
    run_steps(whole, 2)
    run_steps(first, 2, tmp_path, stop=lambda: first.step == 1)
    again = NameTrainer(config, [scene])
    assert resume(again, tmp_path) and again.step == 1
    run_steps(again, 2)
    for name, value in whole.net.state_dict().items():
        assert torch.allclose(value, again.net.state_dict()[name], atol=1e-6), name


@pytest.fixture
def bare(tmp_path):
    """A capture without instance masks."""
    folder = write_things(tmp_path / "bare").folder
    document = json.loads((folder / "transforms.json").read_text())
    for frame in document["frames"]:
        frame.pop("instance_path")
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def all_tables(tmp_path):
    """Weights that call everything a table."""
    net = NameNet(replace(TINY, words=WORDS, places=16))
    torch.nn.init.zeros_(net.classify.weight)
    with torch.no_grad():
        net.classify.bias.zero_()
        net.classify.bias[1 + WORDS.index("table")] = 6.0
    write_net(tmp_path / "tables.safetensors", net, 0.8)
    return tmp_path / "tables.safetensors"


def test_the_command_says_what_it_knows_and_names_nothing_below_its_score(bare, all_tables, capsys, tmp_path):
    out = tmp_path / "labels"
    command = ["label", str(bare), "-o", str(out), "--model", str(all_tables), "-q"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert (
        "1  table" in said
        and "closed vocabulary" in said
        and "check names in real photos" in said
        and ", ".join(WORDS) in said
    )
    document = json.loads((out / "labels.json").read_text())
    assert document["model"]["kind"].startswith("closed vocabulary") and document["model"]["least"] == 0.8
    assert main([*command, "--words", "unicorn"]) == 2
    assert "unicorn: is not among the 22 words" in capsys.readouterr().err
    # A kind of a known word is that word.
    assert main([*command, "--words", "oranges,coffee table"]) == 0
    assert [each["word"] for each in json.loads((out / "labels.json").read_text())["objects"]] == ["table"]
    assert main([*command, "--words", "cars"]) == 0
    assert "nothing above its score of 0.8" in capsys.readouterr().out
    net, _ = read_net(all_tables)
    write_net(all_tables, net, 0.9)
    assert main(command) == 0 and "nothing above its score of 0.9" in capsys.readouterr().out
