"""What the large presets promise: they train, repeat, resume, answer and come back from disk."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.engine import memory
from smerf.errors import UsageError
from smerf.fields.grid_field import FieldConfig
from smerf.fields.ray_bank import RayBank, camera_rays
from smerf.kernels import HashSpec
from smerf.teacher import load_teacher, stage, train_teacher
from smerf.teacher.config import PRESETS
from tests.helpers.ball import HEIGHT, WIDTH, make_capture
from tests.helpers.shrunk_teacher import make_trainer, shrunk

EVERYTHING = {"appearance": 4, "refine_cameras": True}


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return make_capture(tmp_path_factory.mktemp("ball"), count=6)


def train(capture, config, folder, **options):
    history = []
    teacher = train_teacher(
        capture,
        config,
        folder=folder,
        progress=lambda step, steps, **losses: history.append(losses),
        **options,
    )
    return teacher, history


@pytest.mark.parametrize(
    "changes",
    [
        {},
        EVERYTHING,
        {"multisamples": 1, "contraction": "cube", "coarse": None, "interlevel": "bound"},
        {"background": "white", "spacing_power": -0.5, "distortion_power": -1.5, "scale_features": False},
    ],
    ids=["plain", "everything", "simple", "other"],
)
@pytest.mark.parametrize("preset", ["standard", "paper"])
def test_large_presets_train_and_answer(capture, tmp_path, preset, changes):
    config = shrunk(preset, **changes)
    teacher, history = train(capture, config, tmp_path)
    assert len(history) == config.steps
    assert all(math.isfinite(value) for losses in history for value in losses.values())
    rays = camera_rays(capture.frames[0].camera)
    answer = teacher.query(rays)
    assert answer.edges.shape == (len(rays), config.samples + 1) and answer.colour.shape == (len(rays), 3)
    assert (answer.edges.diff(dim=-1) >= 0).all() and (answer.edges >= capture.near).all()
    opacity = answer.weights.sum(-1)
    assert (answer.weights >= 0).all() and (opacity <= 1.0 + 1e-5).all()
    assert (answer.colour >= 0).all() and (answer.colour <= opacity[:, None] + 1e-5).all()
    again = teacher.query(rays)
    assert torch.equal(again.colour, answer.colour) and torch.equal(again.edges, answer.edges)
    loaded = load_teacher(tmp_path)
    assert loaded.config == teacher.config and loaded.spacing == teacher.spacing
    assert torch.equal(loaded.query(rays).colour, answer.colour)
    points = torch.rand(20, 3) * 2.0 - 1.0
    assert torch.equal(loaded.density(points), teacher.density(points))
    seen = teacher.colour(points, torch.nn.functional.normalize(points, dim=-1))
    assert seen.shape == (20, 3) and (seen >= 0).all() and (seen <= 1).all()
    assert teacher.query(rays[:0]).colour.shape == (0, 3) and teacher.density(points[:0]).shape == (0,)


def test_the_full_teacher_learns_the_ball(tmp_path):
    capture = make_capture(tmp_path / "ball", count=16, alpha=True)
    _, history = train(capture, shrunk("paper", steps=60, rays=256, warmup_steps=10), tmp_path / "teacher")
    colours = [losses["colour"] for losses in history]
    assert np.mean(colours[-5:]) < 0.25 * np.mean(colours[:5])


def test_a_stopped_training_goes_on_exactly(capture, tmp_path, monkeypatch):
    config = shrunk("paper", **EVERYTHING)
    whole, _ = train(capture, config, tmp_path / "whole")
    steps = []
    monkeypatch.setattr(stage, "stop_requested", lambda: len(steps) == 3)
    for _ in range(2):
        parts = train_teacher(
            capture,
            config,
            folder=tmp_path / "parts",
            progress=lambda step, total, **losses: steps.append(step),
        )
    assert steps == list(range(1, config.steps + 1))
    wanted = whole.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in parts.state_dict().items())
    first, second = (tmp_path / name / "transforms.json" for name in ("whole", "parts"))
    assert first.read_text() == second.read_text()


def test_pixels_that_are_no_numbers_are_left_out(capture, monkeypatch):
    config, gather = shrunk("standard", steps=3), RayBank.gather

    def spoiled(*args):
        batch = gather(*args)
        batch.colours[7] = math.nan
        return batch

    clean, dirty = make_trainer(capture, config), make_trainer(capture, config)
    before = dirty.model.field.density_network.detach().clone()
    clean.advance()
    monkeypatch.setattr(RayBank, "gather", spoiled)
    losses = dirty.advance()
    assert all(math.isfinite(value) for value in losses.values())
    moved = dirty.model.field.density_network.detach() - before
    # One of 128 pixels is missing: the step is nearly that of the whole batch.
    alike = torch.nn.functional.cosine_similarity(
        moved.flatten(), (clean.model.field.density_network.detach() - before).flatten(), 0
    )
    assert alike > 0.8
    assert all(bool(value.isfinite().all()) for value in dirty.model.state_dict().values())


def test_a_single_photo_is_enough(tmp_path):
    capture = make_capture(tmp_path / "one", count=1)
    teacher, _ = train(capture, shrunk("paper", steps=3, **EVERYTHING), tmp_path / "teacher")
    image = teacher.render_image(capture.frames[0].camera)
    assert image.shape == (HEIGHT, WIDTH, 3) and np.isfinite(image).all()


def test_tables_that_do_not_fit_are_refused_before_they_are_made(capture, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device="cpu": 2_000_000_000)
    large = FieldConfig(HashSpec(16, 8, 30, 16, 8192), width=16, colour_width=16)
    for config in (shrunk("paper", field=large), replace(PRESETS["tiny"], field=large)):
        with pytest.raises(
            UsageError, match=r"hash tables: needs \d+.* 2.0 GB .*lower teacher.field.grid.log2_size"
        ):
            make_trainer(capture, config)


def test_each_level_is_pulled_by_its_mean(capture):
    """Whatever its size, a level decays as fast as the weight of its mean square says."""
    trainer = make_trainer(capture, shrunk("paper", level_decay=1e3))
    table, grid = trainer.model.field.table, trainer.model.field.grid
    with torch.no_grad():
        table.fill_(1.0)
    table.grad = torch.full_like(table, 1e-20)
    trainer.optimiser.update_table(0, 1e-3)
    first = trainer.optimiser.moments[0][0]
    for start, _, size in grid.levels():
        # The first moment holds a tenth of the gradient.
        wanted = 0.1 * 2.0 * 1e3 / (size * grid.features)
        assert first[start].mean().item() == pytest.approx(wanted, rel=1e-5)
    assert (table < 1.0).all()


def test_scale_features_follow_the_tables(capture):
    trainer = make_trainer(capture, shrunk("paper"))
    field = trainer.model.field
    with torch.no_grad():
        field.table.fill_(0.25)
    field.update_scales()
    torch.testing.assert_close(field.level_scales, torch.full((4,), 0.25))
