"""Camera paths: made of keyframes, stored for nerfstudio, the page and ``smerf render``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from smerf.errors import InvalidDataError, UsageError
from smerf.render.camera_path import read_camera_path
from smerf.viewer.desktop.path import CameraPath, View, read_path, write_path
from tests.helpers.tiny_scene import look_at

VIEWS = [
    View(look_at(origin, [0, 0, 0])[:3], fov)
    for origin, fov in (([0, -2, 0], 40), ([2, 0, 0.5], 50), ([0, 2, 1], 60))
]


def test_a_path_survives_its_file(tmp_path):
    made = CameraPath.through(VIEWS)
    write_path(tmp_path / "path.json", made, 320, 180)
    read = read_path(tmp_path / "path.json")
    assert read.seconds == made.seconds == 4.0 and read.fps == made.fps and read.size == (320, 180)
    assert len(read.frames) == len(made.frames) == 121 and len(read.keyframes) == 3
    for ours, theirs in zip((*made.frames, *made.keyframes), (*read.frames, *read.keyframes)):
        assert np.allclose(ours.pose, theirs.pose, atol=1e-12) and ours.fov == theirs.fov


def test_smerf_render_reads_what_the_viewer_writes(tmp_path):
    made = CameraPath.through(VIEWS)
    write_path(tmp_path / "path.json", made, 320, 180)
    cameras, fps = read_camera_path(tmp_path / "path.json")
    assert fps == made.fps and len(cameras) == len(made.frames)
    assert np.allclose(cameras[60].world_from_cam, made.frames[60].pose)
    assert cameras[0].intrinsics.height == 180


def test_a_path_passes_through_its_keyframes_without_distortion():
    path = CameraPath.through(VIEWS)
    for time, view in zip((0.0, 2.0, 3.9999), VIEWS):
        there = path.at(time)
        assert np.allclose(there.pose, view.pose, atol=2e-3) and there.fov == pytest.approx(
            view.fov, abs=0.01
        )
    for time in np.linspace(0, 3.99, 17):
        rotation = path.at(time).pose[:, :3]
        assert np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-9) and np.linalg.det(rotation) > 0.999


def test_a_cycle_ends_where_it_begins():
    path = CameraPath.through(VIEWS, is_cycle=True)
    assert path.seconds == 6.0
    assert np.allclose(path.at(5.9999).pose, VIEWS[0].pose, atol=2e-3)
    assert np.allclose(path.at(6.5).pose, path.at(0.5).pose)


def test_another_path_stays_at_its_end():
    path = CameraPath.through(VIEWS)
    assert np.allclose(path.at(100.0).pose, VIEWS[-1].pose, atol=1e-9)


def test_turning_right_round_keeps_an_even_pace():
    """Cameras back to back have no mean direction: only the turn between them says where to look."""
    turned = look_at([0, -2, 0], [1e-6, -4, 0])[:3]
    path = CameraPath.through([View(look_at([0, -2, 0], [0, 0, 0])[:3], 40), View(turned, 40)])
    forward = np.array([-view.pose[:, 2] for view in path.frames])
    steps = np.degrees(np.arccos(np.clip((forward[1:] * forward[:-1]).sum(-1), -1, 1)))
    assert steps.sum() == pytest.approx(180, abs=0.1) and steps.max() < 6 and abs(forward[:, 2]).max() < 1e-6


def test_one_keyframe_makes_no_path():
    with pytest.raises(UsageError, match="two keyframes"):
        CameraPath.through(VIEWS[:1])


def test_keyframes_alone_and_matrices_as_text_are_read(tmp_path):
    matrix = [*VIEWS[0].pose.ravel().tolist(), 0, 0, 0, 1]
    entries = [{"matrix": json.dumps(matrix), "fov": 33}, {"matrix": matrix}]
    (tmp_path / "old.json").write_text(json.dumps({"keyframes": entries, "default_fov": 44, "seconds": 3}))
    path = read_path(tmp_path / "old.json")
    assert [path.frames[i].fov for i in (0, -1)] == [33, 44] and path.seconds == 3 and path.size is None
    assert len(path.frames) == 91
    assert np.allclose(path.frames[0].pose, VIEWS[0].pose)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"camera_path": [{"fov": 40}]}',
        '{"camera_path": [{"camera_to_world": [1, 2], "fov": 40}]}',
        '{"camera_path": [{"camera_to_world": [1,0,0,0,0,1,0,0,0,0,1,0], "fov": 400}]}',
        '{"camera_path": [{"camera_to_world": [1,0,0,0,0,1,0,0,0,0,1,0]}], "fps": 0, "seconds": 1}',
    ],
)
def test_a_file_that_is_no_path_is_named(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(InvalidDataError, match=r"bad\.json: is not a camera path"):
        read_path(tmp_path / "bad.json")
