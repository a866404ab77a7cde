"""Photos of one scene at other exposures and white balances are evened, and only those."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from smerf.capture import load_capture
from smerf.evaluation.metrics import image_metrics
from smerf.teacher import train_teacher
from smerf.teacher.exposures import Pairs, solve_gains
from tests.helpers.ball import write_capture
from tests.helpers.shrunk_teacher import QUICK

PHOTOS, PLACES = 40, 600


def sightings(logs, noise=0.05, clutter=0.1):
    """Photos on an arc that see the places ahead, each brighter by its logarithms; some pairs show another thing."""
    rng = np.random.default_rng(5)
    ahead = rng.uniform(0, PHOTOS, PLACES)
    photos, places = np.nonzero(abs(np.arange(PHOTOS)[:, None] - ahead) < 12)
    octaves = (
        rng.uniform(-3, 0, (PLACES, 3))[places] + logs[photos] + noise * rng.standard_normal((len(photos), 3))
    )
    octaves[rng.random(len(photos)) < clutter] += rng.uniform(-2, 2, 3)
    octaves[rng.random(octaves.shape) < 0.2] = np.nan
    distances = rng.uniform(1, 9, PLACES)[places]
    nearest = abs(np.arange(PHOTOS)[:, None] - np.arange(PHOTOS)).argsort(1, kind="stable")[:, :8]
    return Pairs(photos, places, octaves, distances), nearest


def test_factors_of_photos_are_found_among_noise_and_other_things():
    logs = np.random.default_rng(1).normal(0, 0.2, (PHOTOS, 3))
    found = solve_gains(*sightings(logs))
    assert abs(np.log2(found.factors) - (logs - np.median(logs, 0))).max() < 0.06
    assert found.matter() and found.jumps == pytest.approx(0.19, abs=0.04)


def test_of_jumps_and_a_drift_only_the_jumps_are_evened():
    jumps = np.random.default_rng(1).normal(0, 0.2, (PHOTOS, 3))
    drift = 0.5 * np.sin(np.linspace(0, 6, PHOTOS))[:, None]
    found = solve_gains(*sightings(jumps + drift))
    assert found.matter()
    left = np.log2(found.factors) - (jumps - np.median(jumps, 0))
    assert np.std(left) < 0.12 < 0.3 < np.std(drift)


@pytest.mark.parametrize("kind", ["equal", "slow"])
def test_equal_photos_and_slow_drifts_are_left_as_they_are(kind):
    drift = 0.4 * np.sin(np.linspace(0, 3, PHOTOS))[:, None] if kind == "slow" else np.zeros((PHOTOS, 1))
    assert not solve_gains(*sightings(drift + np.zeros((1, 3)))).matter(0.7)


def test_a_scene_is_learnt_at_one_exposure(tmp_path):
    write_capture(tmp_path / "clean", count=48, fine=2)
    write_capture(tmp_path / "drift", count=48, fine=2)
    clean, drift = load_capture(tmp_path / "clean"), load_capture(tmp_path / "drift")
    rng = np.random.default_rng(2)
    for frame in drift.split("train"):
        pixels = np.asarray(Image.open(frame.image_path), np.float32)
        Image.fromarray((pixels * rng.uniform(0.6, 1.4)).clip(0, 255).astype(np.uint8)).save(frame.image_path)
    psnr = {}
    for name, capture, exposure in (("off", drift, "off"), ("auto", drift, "auto")):
        (tmp_path / name).mkdir()
        config = replace(QUICK, exposure=exposure, steps=800)
        teacher = train_teacher(capture, config, folder=tmp_path / name)
        figures = []
        for frame in clean.split("test"):
            truth = np.asarray(Image.open(frame.image_path).convert("RGB"), np.float32) / 255
            shown = np.asarray(teacher.render_image(frame.camera), np.float32)
            figures.append(image_metrics(shown, truth, None, colour_corrected=True)["cc_psnr"])
        psnr[name] = np.mean(figures)
    assert psnr["auto"] > psnr["off"] + 1.0
