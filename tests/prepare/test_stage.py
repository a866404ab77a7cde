"""Photos in, posed capture out: on a small corner of a room with known cameras."""

import json
import shutil
import sqlite3

import numpy as np
import pytest
from PIL import Image

from smerf.capture import load_capture
from smerf.cli.main import main
from smerf.engine.progress import Progress
from smerf.engine.signals import Interrupted
from smerf.errors import InvalidDataError, SmerfError
from smerf.prepare import PrepareConfig, prepare
from smerf.prepare.checks import compare_poses
from smerf.prepare.colmap import call, database_folder
from tests.helpers.corner import FOCAL, corner_poses, texture, write_corner, write_rotation

VIEWS = 8
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corner") / "photos"
    write_corner(folder, VIEWS)
    return folder


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory):
    pytest.importorskip("pycolmap")
    return prepare(photos, tmp_path_factory.mktemp("prepared") / "capture", progress=quiet)


def quiet(name, unit, total):
    return Progress(name, total, unit, stops=True, quiet=True)


@slow
def test_every_photo_is_posed_as_it_was_taken(prepared):
    assert (prepared.verdict.state, prepared.verdict.summary) == ("good", f"{VIEWS} of {VIEWS} photos posed")
    content = json.loads((prepared.folder / "transforms.json").read_text())
    found = np.array([frame["transform_matrix"] for frame in content["frames"]])[:, :3]
    truth = corner_poses(VIEWS)
    truth[:, :, 1:3] *= -1  # OpenGL axes
    degrees, distances = compare_poses(found, truth)
    assert degrees.max() < 0.6 and distances.max() < 0.015
    assert content["fl_x"] == pytest.approx(FOCAL, rel=0.03)
    rotation = found[:, :, :3] @ truth[:, :, :3].transpose(0, 2, 1)
    assert np.degrees(np.arccos(np.clip(rotation[:, 2, 2], -1, 1))).max() < 1  # +z is up
    assert (content["registered"], content["total"], content["metric"]) == (VIEWS, VIEWS, False)


@slow
def test_the_capture_loads_and_the_report_is_whole(prepared):
    capture = load_capture(prepared.folder)
    assert len(capture.frames) == VIEWS and len(capture.split("test")) == 1 and len(capture.points) > 200
    folder = prepared.folder / "prepare"
    report = (folder / "report.html").read_text()
    assert "This capture works" in report and report.count("<svg") == 2 and "data:image/jpeg" in report
    record = json.loads((folder / "prepare.json").read_text())
    assert record["chosen"] and len(record["candidates"]) >= 2 and len(record["frames"]) == VIEWS
    assert (folder / "sparse" / "0" / "cameras.bin").is_file()
    assert not (folder / "work").exists()
    with Image.open(folder / "contact.jpg") as sheet:
        assert sheet.width > 8 * 160


@slow
def test_a_finished_capture_is_not_made_again(prepared, photos):
    before = (prepared.folder / "transforms.json").stat().st_mtime_ns

    def refuse(name, unit, total):
        raise AssertionError(f"{name} is done again")

    again = prepare(photos, prepared.folder, progress=refuse)
    assert again.verdict == prepared.verdict
    assert (prepared.folder / "transforms.json").stat().st_mtime_ns == before


@slow
def test_stopped_work_resumes_to_the_same_bytes(prepared, photos, tmp_path):
    class Stopping(Progress):
        def update(self, done, *rest, **more):
            super().update(done, *rest, **more)
            if done >= 3:
                raise Interrupted

    def stop_in(step):
        def progress(name, unit, total):
            return (Stopping if name == step else Progress)(name, total, unit, quiet=True)

        return progress

    for step in ("features", "matches"):
        with pytest.raises(Interrupted):
            prepare(photos, tmp_path / "capture", progress=stop_in(step))
        assert not (tmp_path / "capture" / "transforms.json").exists()
    prepare(photos, tmp_path / "capture", progress=quiet)
    for name in ("transforms.json", "sparse_pc.ply"):
        assert (tmp_path / "capture" / name).read_bytes() == (prepared.folder / name).read_bytes()


@slow
def test_two_threads_give_the_same_poses_within_a_hundredth_of_a_degree(prepared, photos, tmp_path):
    prepare(photos, tmp_path / "capture", PrepareConfig(threads=2), progress=quiet)
    one, two = (
        {f["name"]: np.array(f["transform_matrix"])[:3] for f in json.loads(path.read_text())["frames"]}
        for path in (prepared.folder / "transforms.json", tmp_path / "capture" / "transforms.json")
    )
    degrees, distances = compare_poses(
        *(np.array([poses[name] for name in sorted(one)]) for poses in (one, two))
    )
    assert degrees.max() < 0.05 and distances.max() < 0.001


@slow
def test_a_camera_that_only_rotates_is_refused_with_the_next_step(tmp_path, capsys):
    pytest.importorskip("pycolmap")
    write_rotation(tmp_path / "photos", 8)
    code = main(["prepare", str(tmp_path / "photos"), "-o", str(tmp_path / "capture"), "--quiet"])
    error = capsys.readouterr().err
    assert code == 4 and error.count("\n") == 1
    assert "turned but did not move" in error and "walk an arc" in error
    assert "does not work" in (tmp_path / "capture" / "prepare" / "report.html").read_text()
    assert not (tmp_path / "capture" / "transforms.json").exists()


@slow
def test_unrelated_photos_are_refused_for_their_overlap(tmp_path, capsys):
    pytest.importorskip("pycolmap")
    (tmp_path / "photos").mkdir()
    for seed in range(5):
        texture(seed + 10, 200).save(tmp_path / "photos" / f"{seed}.jpg")
    code = main(["prepare", str(tmp_path / "photos"), "-o", str(tmp_path / "capture"), "--quiet"])
    error = capsys.readouterr().err
    assert code == 4 and "share too little" in error and "only 5 photos" in error


def test_without_pycolmap_the_line_that_installs_it_is_said(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["prepare", str(photos), "-o", str(tmp_path / "capture")]) == 3
    assert "pip install 'smerf[prepare]'" in capsys.readouterr().err
    assert not (tmp_path / "capture").exists()


@slow
def test_poses_that_are_there_are_said_not_to_be_used(tmp_path, caplog):
    (tmp_path / "capture").mkdir()
    for name in ("a.jpg", "b.jpg"):
        texture(0, 64).save(tmp_path / "capture" / name)
    (tmp_path / "capture" / "transforms.json").write_text("{}")
    with pytest.raises(InvalidDataError, match="only 1 usable photo \\(1 others repeat it"):
        prepare(tmp_path / "capture", tmp_path / "out", progress=quiet)
    assert "has poses, which are not used" in caplog.text


def test_folders_that_hold_something_else_are_left_alone(photos, prepared, tmp_path, capsys):
    assert main(["prepare", str(photos), "-o", str(photos)]) == 2
    assert main(["prepare", str(photos), "-o", str(photos / "inside")]) == 2
    (tmp_path / "mine.txt").touch()
    assert main(["prepare", str(photos), "-o", str(tmp_path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(photos / "photo00.jpg", few)
    assert main(["prepare", str(few), "-o", str(prepared.folder)]) == 2
    assert "other photos" in capsys.readouterr().err
    assert main(["prepare", str(photos), "-o", str(tmp_path / "new"), "--spacing", "0.5"]) == 2


@slow
def worker_that(monkeypatch, tmp_path, text, code):
    """Let the job's interpreter be a script that says something and fails."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho '{text}' >&2\nexit {code}\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("SQLite error: database or disk is full", OSError, "No space left"),
        ("what(): std::bad_alloc", MemoryError, "extract"),
        ("Check failed: of something\n    @ 0x7f unknown", SmerfError, "Check failed: of something; see"),
    ],
)
def test_a_full_disk_and_no_memory_in_colmap_are_told_apart(tmp_path, monkeypatch, text, kind, words):
    (tmp_path / "log").write_text("std::bad_alloc of an earlier job\n")
    worker_that(monkeypatch, tmp_path, text, 1)
    with pytest.raises(kind, match=words) as caught:
        call("extract", {}, tmp_path / "log", 1)
    assert type(caught.value) is kind


def test_where_files_cannot_be_locked_databases_lie_elsewhere(tmp_path, monkeypatch, caplog):
    assert database_folder(tmp_path) == tmp_path / "work" and not list(tmp_path.iterdir())

    def refuse(path, *rest, **more):
        raise sqlite3.OperationalError("locking protocol")

    monkeypatch.setattr("sqlite3.connect", refuse)
    folder = database_folder(tmp_path)
    assert tmp_path not in folder.parents and folder == database_folder(tmp_path)
    assert str(folder) in caplog.text


def test_what_colmap_says_when_it_fails_is_passed_on(tmp_path):
    pytest.importorskip("pycolmap")
    with pytest.raises(Exception, match=r"COLMAP failed \(undistort"):
        call("undistort", {"images": "none", "model": "none", "output": str(tmp_path)}, tmp_path / "log", 1)
