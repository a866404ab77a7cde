"""A distillation that is stopped anywhere and resumed ends with the bytes of one that was never stopped."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.baking import bake
from smerf.baking.config import BakeConfig
from smerf.engine.checkpoint import load_latest, save_checkpoint
from smerf.errors import InvalidDataError
from smerf.student.plan import resolve_config
from smerf.student.stage import distill
from smerf.student.trainer import StudentTrainer
from tests.helpers.toy_room import CONFIG, ExposedRoom, Room, make_capture

SMALL = replace(CONFIG, steps=14, rays=256, pool=1024, occupied_rays=2048, occupied_from=0.3, lattice=2)
HASH = {"parameterisation": "hash", "grid_lr": 0.01}
NEIGHBOURS = {
    "partition": 2,
    "voxel_resolution": 16,
    "plane_resolution": 64,
    "steps": 6,
    "rays": 128,
    "consistency_rays": 128,
}
FORMS = {
    "fused": SMALL,
    "separate": replace(SMALL, fused=False, patch=3, view_interpolation=0.3),
    "hash": replace(SMALL, **HASH, sparsity_weight=0.01, sparsity_points=128, max_gradient_norm=1e-2),
    "exposure": replace(SMALL, exposure=True),
    "neighbours": replace(SMALL, **NEIGHBOURS),
    "neighbours of hash": replace(SMALL, **NEIGHBOURS, **HASH, patch=3),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Sums of several threads' gradients of the hash form end in an order of their own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("form", FORMS)
def test_a_stopped_distillation_ends_with_the_bytes_of_an_undisturbed_one(tmp_path, monkeypatch, form):
    config, capture = FORMS[form], make_capture(tmp_path)
    teacher = ExposedRoom() if config.exposure else Room()
    distill(teacher, capture, config, folder=tmp_path / "whole")

    stops, done = iter((1, 4, 5, 9, 13, 16)), [0]
    monkeypatch.setattr(
        importlib.import_module("smerf.student.stage"), "stop_requested", lambda: done[0] == stop_at[0]
    )

    def progress(step, total, unit, **figures):
        if unit == "steps":
            done[0] = step

    student, stop_at = None, [next(stops)]
    while student is None:
        student = distill(teacher, capture, config, folder=tmp_path / "stopped", progress=progress)
        stop_at[0] = next(stops, None)
    assert stop_at[0] is None or stop_at[0] > 13
    whole, stopped = files(tmp_path / "whole"), files(tmp_path / "stopped")
    assert whole.keys() == stopped.keys() and len(whole) == (5 if config.partition > 1 else 3)
    assert [name for name in whole if whole[name] != stopped[name]] == []


def test_a_checkpoint_between_two_others_loses_nothing(tmp_path):
    """Killed after a checkpoint, the steps since then are taken again as they were."""
    capture = make_capture(tmp_path)
    config = resolve_config(SMALL, Room(), capture)
    first = StudentTrainer(Room(), capture, config)
    first.prepare()
    for _ in range(5):
        first.advance()
    save_checkpoint(tmp_path / "run", first.step, first.tensors(), first.state())
    figures = [first.advance() for _ in range(6)]
    first.finish()

    second = StudentTrainer(Room(), capture, config)
    _, tensors, state = load_latest(tmp_path / "run")
    second.restore(tensors, state)
    assert [second.advance() for _ in range(6)] == figures
    second.finish()
    assert second.state() == first.state()
    saved = second.tensors()
    assert all(torch.equal(value, saved[name]) for name, value in first.tensors().items())
    assert torch.equal(first.submodel.block_weights, second.submodel.block_weights)


def test_a_shortened_schedule_is_part_of_the_checkpoint(tmp_path):
    capture = make_capture(tmp_path)
    config = resolve_config(replace(SMALL, steps=40, minutes=1.0), Room(), capture)

    def begin():
        # So much time that the pacer leaves the schedule to the test.
        return StudentTrainer(Room(), capture, config, seconds=1e6)

    first = begin()
    first.pacer.after_step = lambda trainer: None
    first.prepare()
    for _ in range(5):
        first.advance()
    before = first.learning_rate()
    first.schedule = first.schedule.ending_at(12, first.step)
    assert first.learning_rate() == pytest.approx(before)
    save_checkpoint(tmp_path / "run", first.step, first.tensors(), first.state())
    figures = [first.advance() for _ in range(7)]
    assert first.schedule.fraction(first.step) == 1.0 and first.tau() == pytest.approx(config.tau_end)

    second = begin()
    _, tensors, state = load_latest(tmp_path / "run")
    second.restore(tensors, state)
    assert second.schedule == first.schedule and [second.advance() for _ in range(7)] == figures
    saved = second.tensors()
    assert all(torch.equal(value, saved[name]) for name, value in first.tensors().items())


def test_a_distillation_ends_when_its_time_does_and_says_how_many_steps_it_took(tmp_path):
    capture, config = make_capture(tmp_path), replace(SMALL, steps=10**6, minutes=0.05)
    student = distill(Room(), capture, config, folder=tmp_path / "student")
    assert 1 <= student.config.steps < 20_000 and student.config.minutes == 0.05


def test_a_checkpoint_holds_none_of_the_pools_rays(tmp_path):
    capture = make_capture(tmp_path)
    trainer = StudentTrainer(Room(), capture, resolve_config(replace(SMALL, pool=16384), Room(), capture))
    trainer.prepare()
    size = sum(value.numel() * value.element_size() for value in trainer.pool.tensors().values())
    assert size < 16384 * 4 + 3 * 5100


@pytest.mark.parametrize("fault", ["version", "back end", "teacher"])
def test_a_checkpoint_that_cannot_be_resumed_exactly_is_refused(tmp_path, monkeypatch, fault):
    capture, folder, config = make_capture(tmp_path), tmp_path / "student", SMALL
    module = importlib.import_module("smerf.student.stage")
    monkeypatch.setattr(module, "stop_requested", lambda: True)
    assert distill(Room(), capture, config, folder=folder) is None
    teacher, wanted = Room(), r"checkpoints: was written by .*--overwrite"
    if fault == "version":
        step, tensors, _ = load_latest(folder)
        save_checkpoint(folder, step, tensors, {"step": step})
    elif fault == "back end":
        monkeypatch.setattr("smerf.student.optimizer.FusedOptimizer.supports", lambda *_: False)
    else:
        teacher, wanted = Emptier(), "checkpoints: the teacher answers differently"
    with pytest.raises(InvalidDataError, match=wanted):
        distill(teacher, capture, config, folder=folder)


class Emptier(Room):
    """A teacher in which many rays meet nothing."""

    def density(self, points):
        return torch.where(points[..., 0] > 0.0, super().density(points), torch.zeros(()))


def test_what_an_earlier_version_began_is_refused(tmp_path):
    capture, folder = make_capture(tmp_path), tmp_path / "student"
    folder.mkdir()
    (folder / "plan.json").write_text('{"config": {"most_blocks": 0}}')
    with pytest.raises(InvalidDataError, match=r"plan\.json: an earlier version .* --overwrite"):
        distill(Room(), capture, SMALL, folder=folder)


@pytest.mark.parametrize("form", ["fused", "separate", "hash", "neighbours of hash"])
def test_a_distillation_that_is_looked_at_ends_with_the_bytes_of_an_undisturbed_one(tmp_path, form):
    config, capture = FORMS[form], make_capture(tmp_path)
    distill(Room(), capture, config, folder=tmp_path / "alone")
    steps, scenes = [0], []

    def preview(snapshot):
        steps[0] += 1
        if steps[0] in (1, 5):
            coarse = BakeConfig(coarse_bytes=0, region=False)
            scenes.append(bake(snapshot(), capture, coarse, folder=tmp_path / f"scene{steps[0]}"))

    distill(Room(), capture, config, folder=tmp_path / "watched", preview=preview)
    assert files(tmp_path / "watched") == files(tmp_path / "alone")
    # What was looked at is a scene: the same cameras see more than the background.
    for scene in scenes:
        assert np.ptp(scene.render(capture.frames[0].camera)) > 0.1
    assert len(scenes) == 2
