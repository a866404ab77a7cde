"""What is decided before a training: said in one line, the same when decided again, and not changed by the trainer."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from smerf.errors import UsageError
from smerf.teacher import load_teacher, resolve_config, train_teacher
from smerf.teacher.config import PRESETS
from smerf.teacher.trainer import TeacherTrainer
from tests.helpers.ball import make_capture
from tests.helpers.shrunk_teacher import shrunk

CONFIG = replace(PRESETS["tiny"], rays=64, steps=2, cache_resolution=8)


@pytest.fixture(scope="module", params=[False, True], ids=["open", "cut out"])
def capture(request, tmp_path_factory):
    return make_capture(tmp_path_factory.mktemp("ball"), count=4, alpha=request.param)


def test_decisions_are_logged_in_one_line_and_final(capture, caplog):
    with caplog.at_level(logging.INFO, "smerf.teacher"):
        resolved = resolve_config(CONFIG, capture, "cpu", 1)
    assert len(caplog.records) == 1 and f"scene_scale={resolved.scene_scale:.4g}" in caplog.text
    assert resolved.scene_scale > 0.0 and resolved.cache_resolution == 8
    is_object = capture.background == "white"
    assert resolved.near_gradient == (0.0 if is_object else CONFIG.near_gradient)
    assert ("near_gradient=0" in caplog.text) == is_object
    caplog.clear()
    assert resolve_config(resolved, capture, "cpu", 1) == resolved
    assert not caplog.records


def test_the_users_values_are_kept(capture):
    mine = replace(CONFIG, scene_scale=0.7, near_gradient=0.0)
    assert resolve_config(mine, capture, "cpu", 1) is mine


def test_several_processes_are_served_by_proposals_and_it_is_said(capture, caplog):
    with caplog.at_level(logging.INFO, "smerf.teacher"):
        resolved = resolve_config(CONFIG, capture, "cpu", 2)
    assert resolved.cache_resolution == 0
    assert "cache_resolution=0 (proposal fields place the samples of 2 processes)" in caplog.text
    assert resolve_config(resolved, capture, "cpu", 1) == resolved


def test_a_gpu_trains_what_a_cpu_trains(capture):
    assert resolve_config(CONFIG, capture, "cuda", 1) == resolve_config(CONFIG, capture, "cpu", 1)


def test_rays_that_cannot_be_divided_are_refused(capture):
    with pytest.raises(UsageError, match="64 rays can't be divided evenly over 3 processes"):
        resolve_config(CONFIG, capture, "cpu", 3)


@pytest.mark.parametrize("change", [{"backend": "tcnn"}, {"sampler": "nerfacc"}])
def test_accelerators_are_refused_on_a_cpu(capture, change):
    with pytest.raises(UsageError, match=r"teacher\.\w+=\w+: needs --device cuda"):
        resolve_config(shrunk("standard", **change), capture, "cpu", 1)


def test_a_trainer_changes_nothing_and_takes_resolved_configs_only(capture, tmp_path):
    with pytest.raises(ValueError, match="scene_scale: expected a number; resolve the config first"):
        TeacherTrainer(capture, CONFIG)
    resolved = resolve_config(CONFIG, capture, "cpu", 1)
    trainer = TeacherTrainer(capture, resolved)
    assert trainer.config is resolved and trainer.model.config is resolved
    assert train_teacher(capture, CONFIG, folder=tmp_path).config == resolved
    assert load_teacher(tmp_path).config == resolved


def test_every_step_of_the_setting_is_shown(capture, tmp_path):
    shown = []
    train_teacher(
        capture,
        replace(CONFIG, warmup_steps=0),
        folder=tmp_path,
        progress=lambda step, steps, **figures: shown.append((step, steps, sorted(figures))),
    )
    assert shown == [(step, 2, ["colour", "distortion", "psnr"]) for step in (1, 2)]


@pytest.mark.parametrize("proposal", [None, PRESETS["tiny"].proposal])
def test_without_warm_up_the_first_step_has_the_full_rate(capture, proposal):
    config = replace(CONFIG, cache_resolution=0, proposal=proposal, warmup_steps=0)
    trainer = TeacherTrainer(capture, resolve_config(config, capture, "cpu", 1))
    before = trainer.model.field.table.detach().clone()
    losses = trainer.advance()
    assert ("interlevel" in losses) == (proposal is not None)
    # Adam's first step is as long as the learning rate.
    assert (trainer.model.field.table - before).abs().max().item() == pytest.approx(config.table_lr, rel=1e-2)
