"""``smerf mask``: what moved becomes files that the readers find, and masks of people never stand alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from smerf.capture import load_capture, load_mask
from smerf.capture.masks import read_record
from smerf.cli.main import main
from smerf.engine.folder import RunFolder
from smerf.errors import UsageError
from smerf.pipeline import mask
from smerf.teacher import train_teacher
from tests.helpers.ball import HEIGHT, WIDTH, write_capture
from tests.helpers.shrunk_teacher import shrunk

MET = (3, 9, 15, 21)
SQUARE = (slice(8, 17), slice(12, 20))


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Return a capture with a passer-by in four photos, and a run of it whose teacher is trained."""
    root = tmp_path_factory.mktemp("street")
    write_capture(root / "photos", count=48)
    for index in MET:
        path = root / "photos" / "images" / f"{index:02d}.png"
        pixels = np.array(Image.open(path))
        pixels[SQUARE] = (250, 10, 250)
        Image.fromarray(pixels).save(path)
    run = RunFolder(root / "run")
    run.path.mkdir()
    config = shrunk("preview", cache_resolution=32, samples=16, proposal_samples=32, rays=512, steps=400)
    train_teacher(
        load_capture(root / "photos"), replace(config, robust="off"), folder=run.begin("teacher", "key")
    )
    run.finish("teacher", "key", 1.0)
    return root / "photos", run


@pytest.fixture
def nobody(monkeypatch):
    monkeypatch.setattr("smerf.vision.people.find_people", lambda photo: np.zeros(photo.shape[:2], bool))


def masks_of(root):
    return {frame.name: load_mask(frame) for frame in load_capture(root).frames}


def test_a_passer_by_is_masked_beside_the_photos_twice_the_same_and_given_masks_stay(street, nobody):
    root, run = street
    hidden = np.zeros((HEIGHT, WIDTH), bool)
    hidden[:3, :4] = True
    (root / "masks").mkdir()
    Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)).save(root / "masks" / "09.png")
    done = mask.mask_capture(mask.open_capture(root, run), run)
    found = masks_of(root)
    assert all(not found[f"{index:02d}.png"][SQUARE].any() for index in MET)
    assert not found["09.png"][:3, :4].any() and found["03.png"][:3, :4].all()
    assert all(found[frame.name] is None for frame in load_capture(root).split("test"))
    sheet = done.sheet.read_text()
    assert sheet.count("<figure") == 48 and "(residual)" in sheet
    first = {path.name: path.read_bytes() for path in (root / "masks").glob("*.*")}
    assert read_record(root / "masks")["sources"][0]["kind"] == "residual"
    again = mask.mask_capture(mask.open_capture(root, run), run)
    assert {path.name: path.read_bytes() for path in (root / "masks").glob("*.*")} == first
    assert again.share == pytest.approx(done.share)


def test_much_needs_a_yes_and_the_residual_a_teacher(street, tmp_path, monkeypatch):
    capture = load_capture(write_capture(tmp_path / "still", count=8))
    half = np.zeros((HEIGHT, WIDTH), bool)
    half[:, : WIDTH // 3] = True
    monkeypatch.setattr("smerf.vision.people.find_people", lambda photo: half)
    with pytest.raises(UsageError, match="--yes"):
        mask.mask_capture(capture, None, by="people")
    assert (tmp_path / "still" / "masks.html").is_file() and not (tmp_path / "still" / "masks").exists()
    assert mask.mask_capture(capture, None, by="people", yes=True).met == 8
    with pytest.raises(UsageError, match="--run"):
        mask.mask_capture(capture, None, by="residual")


def test_somebody_in_a_single_photo_is_masked_only_where_something_differs(tmp_path, monkeypatch):
    capture = load_capture(write_capture(tmp_path / "photos", count=8))
    calls = []

    def one(photo):
        calls.append(0)
        person = np.zeros(photo.shape[:2], bool)
        person[5:15, 5:9] = len(calls) == 3
        return person

    monkeypatch.setattr("smerf.vision.people.find_people", one)
    assert not mask.find_moving_things(capture, None, by="people").moving
    person, differing = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    person[5:15, 5:9] = True
    differing[5:9, 5:9] = True
    assert mask._confirmed(person, differing)[person].all()
    assert not mask._confirmed(person, np.zeros_like(person)).any()


def test_the_command_says_where_masks_and_sheet_are(tmp_path, monkeypatch, capsys):
    root = write_capture(tmp_path / "photos", count=8)
    monkeypatch.setattr("smerf.vision.people.find_people", lambda photo: np.zeros(photo.shape[:2], bool))
    assert main(["mask", str(root), "--by", "people", "-q"]) == 0
    said = capsys.readouterr().out
    assert "0 of 8 photos" in said and str(root / "masks.html") in said
    assert main(["mask", str(root), "-q"]) == 2 and "--run" in capsys.readouterr().err
    assert json.loads((root / "transforms.json").read_text())["frames"]
