"""What moved is left out of the teacher's training, and a scene that stood still is trained on whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from smerf.capture import load_capture, load_mask
from smerf.capture.masks import read_record, with_masks
from smerf.fields.ray_bank import RayBank
from smerf.teacher import stage, train_teacher
from smerf.teacher.exposures import Evening
from smerf.teacher.residuals import PhotoScore, affordable, reduction
from smerf.teacher.robust import Watch, enlarge, find_moving
from tests.helpers.ball import HEIGHT, WIDTH, write_capture
from tests.helpers.shrunk_teacher import QUICK, shrunk

MET = (3, 9, 15, 21)
SQUARE = (slice(8, 17), slice(12, 20))
MAGENTA = (250, 10, 250)


def photos(root, *, passer):
    write_capture(root, count=48)
    for index in MET if passer else ():
        path = root / "images" / f"{index:02d}.png"
        pixels = np.array(Image.open(path))
        pixels[SQUARE] = MAGENTA
        Image.fromarray(pixels).save(path)
    return load_capture(root)


@pytest.fixture(scope="module")
def passer(tmp_path_factory):
    return photos(tmp_path_factory.mktemp("passer"), passer=True)


@pytest.fixture(scope="module")
def trained(passer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return train_teacher(passer, QUICK, folder=folder), folder


def test_a_passer_by_is_masked_and_nobody_else(passer, trained):
    masked, kept = with_masks(passer, trained[1] / "masks"), []
    for frame in masked.split("train"):
        used = load_mask(frame)
        is_met = int(frame.name[:2]) in MET
        assert (used[SQUARE].mean() < 0.2) == is_met, frame.name
        away = np.ones((HEIGHT, WIDTH), bool)
        away[6:19, 10:22] = False
        kept.append(used[away].mean())
    assert np.mean(kept) > 0.98
    assert all(frame.mask_path is None for frame in masked.split("test"))
    shares = read_record(trained[1] / "masks")["photos"]
    assert len(shares) == len(passer.split("train"))


def test_a_still_scene_is_used_whole_and_to_the_byte(tmp_path):
    capture = photos(tmp_path / "still", passer=False)
    for robust in ("auto", "off"):
        (tmp_path / robust).mkdir()
        train_teacher(capture, replace(QUICK, robust=robust, steps=240), folder=tmp_path / robust)
    assert not (tmp_path / "auto" / "masks").exists()
    auto, off = (load_file(tmp_path / name / "teacher.safetensors") for name in ("auto", "off"))
    assert all(torch.equal(auto[name], off[name]) for name in off)


def test_looks_at_the_photos_do_not_eat_up_a_short_grant(passer):
    marks = (0.15, 0.3, 0.5, 0.75)
    assert [affordable(marks, share, 0.12) for share in (0.01, 0.05, 0.5)] == [marks, marks[2:], ()]
    frames = passer.split("train")
    bank = RayBank(frames)
    for minutes, steps, times in ((None, 2, 4), (1.0, 2, 0), (1.0, 100_000, 4)):
        config = replace(QUICK, robust="auto", exposure="auto", steps=steps, minutes=minutes)
        assert [len(each(config, frames, bank).marks) for each in (Watch, Evening)] == [times, times]


@pytest.mark.parametrize("preset", ["preview", "tiny"])
def test_a_resumed_training_leaves_out_the_same(passer, tmp_path, monkeypatch, preset):
    config = shrunk(preset, steps=80, rays=256, robust="place", checkpoint_seconds=1e9)
    config = replace(config, cache_resolution=32) if preset == "preview" else config
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    train_teacher(passer, config, folder=tmp_path / "whole")
    steps = []
    monkeypatch.setattr(stage, "stop_requested", lambda: len(steps) == 50)
    train_teacher(passer, config, folder=tmp_path / "parts", progress=lambda *_, **__: steps.append(0))
    monkeypatch.undo()
    train_teacher(passer, config, folder=tmp_path / "parts")
    whole, parts = (load_file(tmp_path / name / "teacher.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    for name in ("masks/record.json", "masks/03.png.png"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def score(residual, place=0.0, others=9.0):
    shape = residual.shape
    return PhotoScore(residual, np.full(shape, place, np.float32), np.full(shape, others, np.float32))


def test_only_what_is_wrong_in_this_photo_alone_has_moved():
    residual = np.zeros((30, 40), np.float32)
    residual[5:15, 5:15] = 0.2
    residual[20:22, 30:32] = 0.2
    found = find_moving(score(residual))
    assert found[4:16, 4:16].all() and found.sum() == 144  # grown by a pixel; the small one is noise
    assert not find_moving(score(residual, place=0.15)).any()
    assert not find_moving(score(residual, others=2.0)).any()
    assert not find_moving(score(np.full((30, 40), 0.3, np.float32))).any()


def test_reduced_photos_stay_within_bounds_and_cover_the_photo():
    assert reduction((4000, 3000), 100, 1e9) == 25
    assert reduction((100, 75), 88, 1e9) == 2 and reduction((40, 30), 8, 1e9) == 1
    assert 300 * (1600 // (factor := reduction((1600, 1200), 300, 6e5))) * (1200 // factor) <= 6e5
    small = np.zeros((7, 9), bool)
    small[6, 8] = True
    whole = enlarge(small, 3, (23, 29))
    assert whole.shape == (23, 29) and whole[18:, 24:].all() and whole.sum() == 25


def test_a_bank_draws_the_pixels_that_are_left(passer):
    frames = passer.split("train")
    bank = RayBank(frames)
    used = [np.ones((HEIGHT, WIDTH), bool) for _ in frames]
    used[2][SQUARE] = False
    bank.restrict(used)
    assert len(bank) == len(frames) * HEIGHT * WIDTH - 72
    drawn = bank.gather(torch.arange(len(bank)))
    met = {index for index, frame in enumerate(frames) if int(frame.name[:2]) in MET and index != 2}
    assert set(drawn.frames[drawn.colours[:, 0] > 0.97].tolist()) == met
    pixels, _ = bank.photo(2)
    assert (pixels[SQUARE] == MAGENTA).all()
