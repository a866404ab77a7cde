"""Training: it learns, resumes exactly, sees when it is stuck, and its files say what made them."""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from smerf.engine.distributed import Process
from smerf.engine.loop import resume, run_steps
from smerf.engine.tensors import read_tensors, write_tensors
from smerf.errors import InvalidDataError, UsageError
from smerf.evaluation.metrics import psnr
from smerf.objects.cameras import view_rays
from smerf.objects.config import PRESETS
from smerf.objects.data.batches import sample_batch
from smerf.objects.editing.operations import rigid_transform
from smerf.objects.editing.slots import SavedSlots, load_slots, save_slots
from smerf.objects.model.store import load_model, model_digest, save_model, shipped_model
from smerf.objects.training.distillation import favour_objects, random_edit, weight_loss
from smerf.objects.training.evaluate import evaluate_scenes
from smerf.objects.training.schedule import is_broadcasting, is_distilling, learning_rate
from smerf.objects.training.stage import train_objects
from smerf.objects.training.trainer import ObjectsTrainer, background_prior
from tests.helpers.tiny_objects import encode, tiny_config, tiny_model, tiny_scenes

ROOT = Path(__file__).parents[2]
SHORT = ("training.steps=6", "training.evaluate_every=3", "training.warmup=2", "training.ema=0.5")


@pytest.fixture(scope="module")
def scenes():
    return tiny_scenes(6)


def test_the_published_schedule():
    config = PRESETS["reference"].training
    assert learning_rate(0, config) == 0.0 and learning_rate(2500, config) == pytest.approx(0.5e-4)
    assert learning_rate(5000, config) == pytest.approx(1e-4)
    assert learning_rate(4_005_000, config) == pytest.approx(1.6e-5)


def learn_by_heart(scenes, steps, lr):
    """Train on every ray of every scene at each step; returns a function that renders the first views."""
    trained_rays = scenes.views * math.prod(scenes.size)
    config = tiny_config(
        f"training.steps={steps}", f"training.lr={lr}", "training.warmup=30", "training.decay=0.03",
        f"training.decay_steps={steps}", "training.held_out=1", f"training.batch={len(scenes)}",
        f"training.rays={trained_rays}", "training.ema=0.99", "rays.slab_octaves=4",
    )  # fmt: skip
    trainer = ObjectsTrainer(scenes[torch.tensor([*range(len(scenes)), 0])], config)
    while trainer.step < steps:
        trainer.advance()
    model = trainer.averaged()
    view = view_rays(scenes.world_from_cam[:, 0], scenes.fov_x[:, 0], scenes.size)
    rays = [x.flatten(1, 2) for x in view]
    return encode(model, scenes), lambda slots, visible=None: model.decode(
        model.prepare(slots, visible), *rays
    )


def decibels(a, b):
    return psnr(a.numpy().reshape(1, -1, 3), b.numpy().reshape(1, -1, 3))


def test_one_scene_is_learned_by_heart():
    one = tiny_scenes(1, seed=4)
    slots, draw = learn_by_heart(one, 320, 3e-3)
    photo = one.images()[:, 0].flatten(1, 2)
    whole = draw(slots)
    assert decibels(whole.colour, photo) > 30.0
    largest = whole.weights.mean(1).argmax(-1, keepdim=True)
    without = draw(slots, torch.arange(slots.shape[1]) != largest)
    assert (without.colour - whole.colour).abs().max() > 2 / 255


def test_scenes_before_one_camera_are_told_apart_by_their_slots():
    two = tiny_scenes(2, seed=4, views=1, azimuth=0.0, heights=(3.5, 3.5))
    slots, draw = learn_by_heart(two, 600, 5e-3)
    photos = two.images()[:, 0].flatten(1, 2)
    for photo, own, other in zip(photos, draw(slots).colour, draw(slots.flip(0)).colour):
        assert decibels(own, photo) > 30.0 and decibels(other, photo) < 20.0


def test_a_stopped_training_continues_as_if_it_had_not_been(scenes, tmp_path):
    config = tiny_config(*SHORT)
    whole, first, second = (ObjectsTrainer(scenes, config) for _ in range(3))
    assert run_steps(whole, 6)
    steps = iter(range(100))
    assert not run_steps(first, 6, tmp_path, stop=lambda: next(steps) == 3)
    assert first.step == 4
    assert resume(second, tmp_path)
    assert second.step == 4 and run_steps(second, 6)
    for name, value in whole.average.items():
        assert torch.equal(value, second.average[name]), name


def test_a_training_stopped_before_the_decoders_change_continues_exactly(scenes):
    config = tiny_config(*SHORT, "training.broadcast_steps=4", "training.teach=0.1")
    whole = ObjectsTrainer(scenes, config)
    for _ in range(6):
        whole.advance()
    first, second = ObjectsTrainer(scenes, config), ObjectsTrainer(scenes, config)
    for _ in range(3):
        first.advance()
    second.restore({k: v.clone() for k, v in first.tensors().items()}, json.loads(json.dumps(first.state())))
    for _ in range(3):
        second.advance()
    for name, value in whole.average.items():
        assert torch.equal(value, second.average[name]), name


def test_a_mixer_may_begin_as_a_broadcast_decoder(scenes):
    trainer = ObjectsTrainer(scenes, tiny_config(*SHORT, "training.broadcast_steps=3"))
    before = {name: p.clone() for name, p in trainer.model.decoder.named_parameters()}
    for _ in range(3):
        assert is_broadcasting(trainer.step, trainer.config.training)
        trainer.advance()
    assert all(torch.equal(p, before[name]) for name, p in trainer.model.decoder.named_parameters())
    assert not is_broadcasting(trainer.step, trainer.config.training)
    trainer.advance()
    assert not all(torch.equal(p, before[name]) for name, p in trainer.model.decoder.named_parameters())


DISTILLED = (
    "training.broadcast_steps=2",
    "training.teach=0.5",
    "training.warmup=1",
    "slots.shared_background=true",
)


def test_the_second_decoder_is_distilled_from_the_first_while_the_slots_are_frozen(scenes):
    trainer = ObjectsTrainer(scenes, tiny_config(*DISTILLED, "training.lr=5e-3"))
    for _ in range(2):
        trainer.advance()
    assert is_distilling(trainer.step, trainer.config.training)
    averages = {name: value.clone() for name, value in trainer.average.items() if "decoder" not in name}
    first_average = {name: value.clone() for name, value in trainer.broadcast_average.items()}
    trainer.advance()
    weights = trainer.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in averages.items())
    assert all(
        torch.equal(value, first_average[name]) for name, value in trainer.broadcast.state_dict().items()
    )
    frozen = [*trainer.model.encoder.parameters(), *trainer.model.slots.parameters()]
    before = [p.clone() for p in (*frozen, *trainer.broadcast.parameters())]

    @torch.no_grad()
    def disagreement():
        slots = encode(trainer.model, scenes)
        rays = view_rays(scenes.world_from_cam[:, 1], scenes.fov_x[:, 1], scenes.size)
        rays = [x.flatten(1, 2)[:, None] for x in rays]
        first, second = (
            decoder(decoder.prepare(slots), *rays).weights
            for decoder in (trainer.broadcast, trainer.model.decoder)
        )
        return (first - second).abs().mean()

    start = disagreement()
    for _ in range(60):
        trainer.advance()
    assert disagreement() < 0.5 * start
    after = (*frozen, *trainer.broadcast.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after))


def test_the_learning_rate_starts_again_for_a_distilled_decoder():
    config = tiny_config("training.broadcast_steps=1000", "training.teach=0.1", "training.warmup=10").training
    assert learning_rate(1000, config) < config.lr
    assert learning_rate(1005, config) == pytest.approx(0.5 * config.lr)
    assert learning_rate(1300, config) == learning_rate(300, config)


def test_edits_to_learn_from_leave_the_background_alone(scenes):
    generator = torch.Generator().manual_seed(0)
    batch = sample_batch(scenes, torch.arange(6), tiny_config("training.rays=8").training, generator)
    edits = [random_edit(batch, 4, 1, generator) for _ in range(20)]
    visible = torch.cat([edit.visible for edit in edits])
    assert visible[:, 0].all() and visible.sum(1).min() == 3 and visible.all(1).any()
    assert {int(edit.group.argmax()) for edit in edits} == {1, 2, 3}
    shift = edits[0].origins[:, 1] - edits[0].origins[:, 0]
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-5)
    assert (shift[..., 2] == 0).all() and shift[..., :2].abs().max() > 0.1


def test_a_margin_favours_objects_over_the_background_alone():
    weights = torch.tensor([[[0.6, 0.3, 0.1]]])
    favoured = favour_objects(weights, 1.0)
    assert favoured.sum() == pytest.approx(1.0) and favoured.argmax() == 1
    assert (favoured[..., 1] / favoured[..., 2]).item() == pytest.approx(3.0, abs=1e-5)
    assert torch.allclose(favour_objects(weights, 0.0), weights)
    assert torch.isfinite(favour_objects(torch.tensor([[[1.0, 0.0, 0.0]]]), 50.0)).all()


def test_slot_weights_are_trained_towards_those_of_the_first_decoder():
    wanted = torch.tensor([[[0.9, 0.1]]])
    assert weight_loss(wanted, wanted) < weight_loss(torch.tensor([[[0.5, 0.5]]]), wanted)
    assert torch.isfinite(weight_loss(torch.tensor([[[0.0, 1.0]]]), wanted))


@pytest.mark.parametrize(
    "settings",
    [
        ("decoder.kind=nerf", "decoder.samples=4", "decoder.fine_samples=2"),
        ("decoder.kind=srt", "slots.count=0"),
        ("slots.start=random", "training.targets=others", "training.contrast=0.5"),
        ("encoder.posed=false", "encoder.positions=[4,4]", "frame=reference"),
        ("slots.shared_background=true", "training.background=0.1", "training.background_step=0"),
    ],
)
def test_every_kind_of_model_learns(scenes, settings):
    trainer = ObjectsTrainer(scenes, tiny_config(*SHORT, *settings))
    before = [p.clone() for p in trainer.model.parameters()]
    for _ in range(2):
        trainer.advance()
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters())]
    assert sum(moved) > 0.9 * len(moved)
    assert trainer.evaluate()["psnr"] > 0


def test_a_stuck_run_is_found_and_starts_again(scenes, caplog, tmp_path):
    config = tiny_config(*SHORT, "training.stuck_step=3", "training.stuck_ari=1.1", "training.restarts=1")
    trainer = train_objects(scenes, config, folder=tmp_path)
    assert trainer.restarts == 1 and trainer.seed == 1 and trainer.step == 6
    assert "probably stuck; starting again with seed 1" in caplog.text and "try another --seed" in caplog.text
    seeds = [line["seed"] for line in json.loads((tmp_path / "record.json").read_text())["history"]]
    assert seeds == [0, 1, 1]


def test_a_training_leaves_a_model_with_its_record(scenes, tmp_path):
    config = tiny_config(*SHORT)
    trainer = train_objects(scenes, config, folder=tmp_path, command=["smerf", "objects", "train"])
    model, record = load_model(tmp_path)
    assert model.config == config and record["steps"] == 6 and record["seed"] == 0
    assert record["data"]["recipe"]["name"] == "easy" and record["scores"] == pytest.approx(
        trainer.scores, abs=1e-4
    )
    assert record["command"] == ["smerf", "objects", "train"] and record["machine"]["cores"] > 0
    again = evaluate_scenes(model, scenes[4:], 1)
    assert again == pytest.approx(trainer.scores, abs=1e-6)


def test_sets_that_do_not_match_are_refused(scenes, tmp_path):
    with pytest.raises(InvalidDataError, match="3 views, and 3 are given"):
        train_objects(scenes, tiny_config("training.input_views=3"), folder=tmp_path)
    with pytest.raises(InvalidDataError, match="held out"):
        ObjectsTrainer(scenes, tiny_config("training.held_out=6"))
    with pytest.raises(InvalidDataError, match=r"image=\[16,16\]"):
        ObjectsTrainer(scenes, tiny_config("image=[32,32]"))


SCRIPT = """
import json
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.helpers.tiny_objects import tiny_config, tiny_scenes
from smerf.engine.distributed import process_group
from smerf.objects.training.stage import train_objects
losses = []
with process_group():
    train_objects(tiny_scenes(8), tiny_config(*{settings!r}), folder=Path({folder!r}),
                  progress=lambda step, steps, **figures: losses.append(figures["loss"]))
if losses:
    Path({folder!r}, "losses.json").write_text(json.dumps(losses))
"""
SHARED = (
    "training.batch=4", "training.steps=6", "training.evaluate_every=6", "training.warmup=2", "training.contrast=0.5",
    "slots.start=random", "training.broadcast_steps=2", "training.teach=0.2",
)  # fmt: skip


def losses_of(world, folder):
    """Train on ``world`` processes; return the losses that the first of them reports."""
    folder.mkdir()
    script = SCRIPT.format(settings=SHARED, folder=str(folder))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(world)}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return json.loads((folder / "losses.json").read_text())


def test_a_stopped_training_with_random_starts_continues_exactly(scenes, tmp_path):
    config = tiny_config(*SHORT, "slots.start=random")
    whole, first, second = (ObjectsTrainer(scenes, config) for _ in range(3))
    run_steps(whole, 4)
    run_steps(first, 2)
    torch.rand(7)
    second.restore({k: v.clone() for k, v in first.tensors().items()}, json.loads(json.dumps(first.state())))
    run_steps(second, 4)
    for name, value in whole.average.items():
        assert torch.equal(value, second.average[name]), name


def test_two_processes_have_the_losses_of_one(tmp_path):
    one, two = (losses_of(world, tmp_path / str(world)) for world in (1, 2))
    assert len(one) == 6 and two == pytest.approx(one, rel=1e-3)
    first, second = (load_model(tmp_path / str(world)) for world in (1, 2))
    assert (first[1]["processes"], second[1]["processes"]) == (1, 2)
    assert first[1]["scores"]["psnr"] == pytest.approx(second[1]["scores"]["psnr"], abs=0.05)


def test_a_batch_that_cannot_be_divided_is_refused(scenes, monkeypatch):
    monkeypatch.setattr("smerf.engine.distributed.this_process", lambda: Process(1, 3))
    with pytest.raises(UsageError, match="4 scenes can't be divided evenly over 3 processes"):
        ObjectsTrainer(scenes, tiny_config("training.batch=4"))


@pytest.mark.parametrize("half", [False, True])
def test_models_survive_the_disk(tmp_path, half):
    model = tiny_model()
    save_model(model, tmp_path / "m.safetensors", {"steps": 3}, half=half)
    again, record = load_model(tmp_path / "m.safetensors")
    assert record == {"steps": 3} and again.config == model.config
    for name, value in model.state_dict().items():
        expected = value.half().float() if half else value
        assert torch.equal(expected, again.state_dict()[name])
    assert (model_digest(model) == model_digest(again)) is not half


def test_damaged_models_and_slots_are_named(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(UsageError, match=r"m\.safetensors"):
        load_model(path)
    save_model(tiny_model(), path)
    with pytest.raises(InvalidDataError, match="smerf-slots"):
        load_slots(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InvalidDataError, match="damaged"):
        load_model(path)


def test_slots_survive_the_disk(scenes, tmp_path):
    saved = SavedSlots(
        torch.randn(4, 8),
        (scenes.camera(0, 0), scenes.camera(2, 1)),
        "abc",
        "m.safetensors",
        ({"op": "remove", "slot": 1},),
    )
    save_slots(saved, tmp_path / "s.safetensors")
    again = load_slots(tmp_path / "s.safetensors")
    assert torch.equal(saved.slots, again.slots) and saved.size == again.size == (16, 16)
    assert [getattr(again, name) for name in ("model", "where", "operations")] == [
        "abc",
        "m.safetensors",
        saved.operations,
    ]
    for a, b in zip(saved.cameras, again.cameras, strict=True):
        assert (a.world_from_cam == b.world_from_cam).all() and a.intrinsics == b.intrinsics
    # An older file counted slots from 0.
    tensors, header = read_tensors(tmp_path / "s.safetensors", "smerf-slots-2", "slots", "")
    write_tensors(tmp_path / "old.safetensors", tensors, "smerf-slots-1", {**header})
    assert load_slots(tmp_path / "old.safetensors").operations == ({"op": "remove", "slot": 2},)


def test_the_shipped_model_has_its_record_and_separates_objects():
    model, record = load_model(shipped_model())
    assert {"command", "seed", "steps", "scores", "machine", "data"} <= record.keys()
    assert shipped_model().stat().st_size < 4e6
    recipe = record["data"]["recipe"]
    scores = evaluate_scenes(model, tiny_scenes(8, seed=1234, size=tuple(recipe["size"]), views=4), 1)
    assert scores["fg_ari"] > 0.6 and scores["psnr"] > 19.0


def test_rigid_motions_turn_about_the_given_vertical():
    motion = rigid_transform([0.0, 0.0, 1.0], 90.0, [1.0, 0.0, 0.0])
    moved = motion @ torch.tensor([2.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert moved.tolist() == pytest.approx([1.0, 1.0, 1.0, 1.0])


def test_the_background_prior_asks_for_one_large_slot():
    alone = torch.eye(4)[torch.zeros(2, 5, dtype=torch.long)]
    assert background_prior(alone) == 0
    assert background_prior(torch.full((2, 5, 4), 0.25)) == pytest.approx(0.75)
    # Which slot it is may differ from scene to scene.
    mixed = torch.eye(4)[torch.tensor([[0, 0, 0, 0, 1], [2, 2, 2, 2, 3]])]
    assert background_prior(mixed) == pytest.approx(0.2)
    # Unless every scene has the same one.
    assert background_prior(mixed, 0) == pytest.approx(0.6)


def test_the_background_prior_begins_at_its_step_and_changes_what_is_learned():
    scenes = tiny_scenes(6)
    losses = []
    for weight in ("0.0", "10.0"):
        trainer = ObjectsTrainer(
            scenes, tiny_config(f"training.background={weight}", "training.background_step=1")
        )
        losses.append([trainer.advance()["loss"] for _ in range(4)])
    assert losses[0][:2] == losses[1][:2]
    assert losses[1][2] > losses[0][2]
