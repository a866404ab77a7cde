"""What a teacher with a density cache promises: the same training by native passes and autograd, exact resuming."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from smerf.capture import load_image
from smerf.fields.ray_bank import RayBank, camera_rays
from smerf.kernels import native
from smerf.teacher import load_teacher, stage, train_teacher
from smerf.teacher.config import PRESETS
from smerf.teacher.pixel_sampler import PixelSampler
from tests.helpers.ball import make_capture
from tests.helpers.shrunk_teacher import make_trainer

CONFIG = replace(
    PRESETS["tiny"], rays=256, steps=250, cache_resolution=32, proposal_samples=48, uniform_fraction=0.3,
    opacity_weight=1e-3, charbonnier=0.1,
)  # fmt: skip
SHORT = replace(CONFIG, steps=12)


@pytest.fixture(scope="module", params=[False, True], ids=["open", "cut out"])
def capture(request, tmp_path_factory):
    return make_capture(tmp_path_factory.mktemp("ball"), count=24, alpha=request.param)


@pytest.fixture(scope="module")
def trained(capture, tmp_path_factory):
    """Return a finished teacher and its folder."""
    folder = tmp_path_factory.mktemp("teacher")
    return train_teacher(capture, CONFIG, folder=folder), folder


@pytest.fixture
def kernels(monkeypatch):
    """Choose the native kernels, or ``kernels("reference")``."""

    def switch(name=None):
        monkeypatch.delenv("SMERF_KERNELS", raising=False)
        if name:
            monkeypatch.setenv("SMERF_KERNELS", name)
        native.load_cpu.cache_clear()

    switch()
    yield switch
    monkeypatch.undo()
    native.load_cpu.cache_clear()


def psnr(image, truth):
    return -10.0 * np.log10(np.mean((image - truth) ** 2))


def test_it_learns_places_it_has_not_seen(capture, trained):
    teacher, folder = trained
    frame = capture.split("test")[0]
    truth = load_image(frame).astype(np.float32) / 255.0
    if truth.shape[-1] == 4:
        truth = truth[..., :3] * truth[..., 3:] + (1.0 - truth[..., 3:])
    plain = np.broadcast_to(truth.mean((0, 1)), truth.shape)
    assert psnr(teacher.render_image(frame.camera), truth) > psnr(plain, truth) + 3.0
    loaded = load_teacher(folder)
    assert torch.equal(loaded.cache, teacher.cache)
    assert np.array_equal(loaded.render_image(frame.camera), teacher.render_image(frame.camera))


def test_native_passes_and_autograd_agree_on_a_batch(capture, kernels):
    """Compare losses and gradients; the thresholds below which samples are left out bound how far they differ."""
    kernels("reference")
    plain = make_trainer(capture, CONFIG)
    kernels()
    fused = make_trainer(capture, CONFIG)
    assert fused.fused and not plain.fused
    # A few steps in, the field is no longer flat; both sides go on from the same state.
    for _ in range(20):
        fused.advance()
    state = {name: value.clone() for name, value in fused.tensors().items()}
    plain.restore(state, fused.state())
    results = []
    for trainer, name in ((plain, "reference"), (fused, None)):
        kernels(name)
        batch = trainer.bank.gather(torch.arange(0, 256 * 7, 7))
        for parameter in trainer.model.parameters():
            parameter.grad = None
        losses, _ = trainer.losses(batch)
        if name:
            sum(losses.values()).backward()
        field = trainer.model.field
        gradients = [p.grad.clone() for p in (field.table, field.density_network, field.colour_network)]
        results.append((losses, gradients))
    (wanted, wanted_gradients), (found, found_gradients) = results
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=5e-3, atol=1e-5)
    for ours, theirs in zip(found_gradients, wanted_gradients, strict=True):
        assert (ours - theirs).norm() < 0.05 * theirs.norm()


def test_answers_of_the_native_pass_are_those_of_pytorch(capture, trained, kernels):
    """The samples that the native pass leaves out make less difference than a byte's step of colour."""
    rays = camera_rays(capture.split("test")[0].camera)
    fused = trained[0].query(rays)
    kernels("reference")
    plain = trained[0].query(rays)
    assert fused.weights.sum(-1).max() > 0.5
    torch.testing.assert_close(fused.edges, plain.edges, rtol=1e-3, atol=1e-3)
    colour = (fused.colour - plain.colour).abs()
    opacity = (fused.weights.sum(-1) - plain.weights.sum(-1)).abs()
    assert colour.max() < 1.0 / 255.0 and colour.mean() < 1e-2 / 255.0
    assert opacity.max() < 1e-2 and opacity.mean() < 1e-4


def test_the_cache_is_kept_up_to_date_alike_with_and_without_native_passes(capture, kernels):
    caches = []
    for name in ("reference", None):
        kernels(name)
        trainer = make_trainer(capture, SHORT)
        before = trainer.model.cache.clone()
        for _ in range(2):
            trainer.advance()
        caches.append(trainer.model.cache)
    assert not torch.equal(caches[0], before)
    # Native sums of the networks differ in the last bits.
    torch.testing.assert_close(*caches, rtol=2e-2, atol=1e-3)


def test_training_goes_the_same_way_without_native_kernels(capture, kernels, tmp_path):
    histories = []
    for name in ("reference", None):
        kernels(name)
        history = []
        train_teacher(
            capture, SHORT, folder=tmp_path / str(name),
            progress=lambda step, steps, history=history, **losses: history.append(losses["colour"]),
        )  # fmt: skip
        histories.append(history)
    np.testing.assert_allclose(*histories, rtol=2e-2)


def test_one_seed_gives_the_same_weights_on_any_number_of_threads(capture, tmp_path):
    before = torch.get_num_threads()
    try:
        for number, threads in enumerate((1, 2, 2)):
            torch.set_num_threads(threads)
            train_teacher(capture, SHORT, folder=tmp_path / str(number))
    finally:
        torch.set_num_threads(before)
    first, *others = (load_file(tmp_path / str(number) / "teacher.safetensors") for number in range(3))
    assert "sampler.cache" in first and not any("fields" in name for name in first)
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in first.items())


def test_a_stopped_training_goes_on_exactly(capture, tmp_path, monkeypatch):
    config = replace(SHORT, steps=40)
    train_teacher(capture, config, folder=tmp_path / "whole")
    steps = []
    for stop in (7, 19, None):
        monkeypatch.setattr(stage, "stop_requested", lambda stop=stop: len(steps) == stop)
        train_teacher(
            capture, config, folder=tmp_path / "parts",
            progress=lambda step, total, **losses: steps.append(step),
        )  # fmt: skip
    assert steps == list(range(1, 41))
    whole, parts = (load_file(tmp_path / name / "teacher.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_training_that_is_looked_at_ends_the_same(capture, tmp_path):
    views = []

    def preview(teacher):
        if len(views) < 3:
            views.append(teacher.render_image(capture.frames[0].camera))

    for name, look in (("alone", None), ("watched", preview)):
        (tmp_path / name).mkdir()
        train_teacher(capture, SHORT, folder=tmp_path / name, preview=look)
    alone, watched = (load_file(tmp_path / name / "teacher.safetensors") for name in ("alone", "watched"))
    assert len(views) == 3 and all(torch.equal(value, watched[name]) for name, value in alone.items())


def test_a_colour_that_is_no_number_does_not_spoil_the_weights(capture, monkeypatch):
    trainer = make_trainer(capture, SHORT)
    gather = RayBank.gather

    def spoiled(bank, index):
        batch = gather(bank, index)
        batch.colours[7] = float("nan")
        return batch

    monkeypatch.setattr(RayBank, "gather", spoiled)
    for _ in range(3):
        trainer.advance()
    assert all(bool(value.isfinite().all()) for value in trainer.model.state_dict().values())
    assert bool(trainer.pixels.error.isfinite().all())


def test_answers_repeat(capture, tmp_path):
    teacher = train_teacher(capture, SHORT, folder=tmp_path)
    rays = camera_rays(capture.frames[0].camera)
    first, second = teacher.query(rays), teacher.query(rays)
    assert torch.equal(first.colour, second.colour) and torch.equal(first.edges, second.edges)


def test_rays_go_where_the_error_is():
    pixels = PixelSampler(1000, uniform_fraction=0.25)
    generator = torch.Generator().manual_seed(0)
    first = pixels.sample(4000, generator)
    assert first.min() >= 0 and first.max() < 1000
    counts = torch.bincount(first // 100, minlength=10)
    assert counts.min() > 300
    pixels.observe(torch.arange(1000), torch.where(torch.arange(1000) < 160, 1.0, 0.0))
    pixels.refresh()
    index = pixels.sample(4000, generator)
    fraction = (index < 160).float().mean()
    assert 0.75 < fraction < 0.85
    assert (index >= 900).any()


def test_uniform_sampling_repeats_with_the_seed_and_reaches_all_pixels():
    pixels = PixelSampler(24, uniform_fraction=1.0)
    first, same, other = (pixels.sample(500, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert len(first.unique()) == 24


def test_a_training_ends_when_its_time_does_and_goes_on_after_a_stop(capture, tmp_path, monkeypatch):
    config = replace(SHORT, steps=10**6, minutes=0.05)
    stops = iter([False] * 7 + [True])
    monkeypatch.setattr(stage, "stop_requested", lambda: next(stops, False))
    totals = []

    def report(step, total, **losses):
        totals.append((step, total))

    train_teacher(capture, config, folder=tmp_path, progress=report)
    assert totals[-1][0] == 8
    model = train_teacher(capture, config, folder=tmp_path, progress=report)
    assert totals[8][0] == 9 and totals[-1][0] == totals[-1][1] == model.config.steps < 20_000
    assert load_teacher(tmp_path).config.steps == model.config.steps
