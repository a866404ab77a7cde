"""``smerf run`` prepares photos and videos first, and takes a posed capture as it is."""

import json

import pytest

from smerf.capture.readers import has_poses
from smerf.engine.folder import RunFolder
from smerf.pipeline import run as pipeline
from smerf.prepare import Prepared
from smerf.prepare.verdict import Verdict
from tests.helpers.corner import texture


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    texture(0, 64).save(folder / "a.jpg")
    return folder


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def prepare(what, output, **options):
        calls.append((what, output))
        return Prepared(output, Verdict("good", 1, 1, ()))

    monkeypatch.setattr("smerf.prepare.prepare", prepare)
    return calls


def test_photos_and_videos_are_prepared_into_the_run(photos, asked, tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    (tmp_path / "walk.mp4").touch()
    for what in (photos, tmp_path / "walk.mp4"):
        assert pipeline.posed(what, run) == tmp_path / "run" / "capture"
    assert asked == [(photos, run.path / "capture"), (tmp_path / "walk.mp4", run.path / "capture")]
    assert "prepare: 1 of 1 photos posed" in capsys.readouterr().err


def test_a_capture_and_a_folder_without_photos_are_left_as_they_are(photos, asked, tmp_path):
    run = RunFolder(tmp_path / "run")
    (photos / "transforms.json").write_text(json.dumps({"frames": []}))
    assert has_poses(photos) and pipeline.posed(photos, run) == photos
    (tmp_path / "empty").mkdir()
    assert pipeline.posed(tmp_path / "empty", run) == tmp_path / "empty"
    assert asked == []


def test_a_run_that_was_stopped_while_preparing_continues(photos, tmp_path):
    with RunFolder(tmp_path / "run") as run:
        (run.path / "capture").mkdir()
    with RunFolder(tmp_path / "run"):
        pass
