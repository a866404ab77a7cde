"""``smerf view`` without a window, and what it refuses."""

import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from smerf.cli.main import main
from smerf.render import march as native
from smerf.scene.example import example_camera, example_scene
from smerf.scene.manifest import SceneCamera
from smerf.scene.write import write_scene


@pytest.fixture(scope="module")
def baked(tmp_path_factory):
    """A scene of one submodel with two held-out cameras and one of training."""
    scene = example_scene(32)
    cameras = [example_camera(40, 30, turn=turn) for turn in (0.0, 2.0, 4.0)]
    entries = [
        SceneCamera(f"a/{i}.jpg", "train" if i == 2 else "test", camera) for i, camera in enumerate(cameras)
    ]
    manifest = replace(scene.manifest, cameras=tuple(entries))
    return write_scene(
        tmp_path_factory.mktemp("view") / "scene", scene.params, scene.mlp, [scene.submodel(0)], manifest
    )


@pytest.fixture
def view(capsys, monkeypatch):
    """Run ``smerf view`` in this process; return (exit code, stdout, stderr)."""

    def view(*words):
        code = main(["view", *map(str, words)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return view


def agrees(path, scene, camera):
    found = np.asarray(Image.open(path), np.int16)
    wanted = np.rint(255 * native.render_camera(scene, camera))
    return found.shape == wanted.shape and (np.abs(found - wanted).max(-1) <= 2).mean() >= 0.999


def test_held_out_cameras_are_drawn_without_a_display(view, baked, tmp_path):
    code, out, _ = view(baked.root, "--offscreen", "--split", "test", "-o", tmp_path / "out", "-q")
    assert code == 0 and "2 frames" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_0.png", "a_1.png"]
    for name, entry in zip(("a_0", "a_1"), baked.manifest.cameras):
        assert agrees(tmp_path / "out" / f"{name}.png", baked, entry.camera)
    code, _, err = view(baked.root, "--offscreen", "--split", "test", "-o", tmp_path / "out")
    assert code == 2 and "--overwrite" in err


def test_a_path_and_the_start_view_are_drawn(view, baked, tmp_path):
    camera = example_camera(40, 30, 50.0)
    matrix = [*camera.world_from_cam.ravel().tolist(), 0, 0, 0, 1]
    frames = [{"camera_to_world": matrix, "fov": 50}] * 2
    path = {"camera_path": frames, "render_width": 40, "render_height": 30, "fps": 24}
    (tmp_path / "path.json").write_text(json.dumps(path))
    words = ("--path", tmp_path / "path.json", "-o", tmp_path / "out", "--screenshot", tmp_path / "start.png")
    code, out, _ = view(baked.root, "--offscreen", *words, "-q", "--size", "40x30")
    assert code == 0 and str(tmp_path / "start.png") in out
    assert agrees(tmp_path / "out" / "00001.png", baked, camera)
    assert agrees(tmp_path / "start.png", baked, example_camera(40, 30))


def test_frame_times_as_json(view, baked):
    code, out, _ = view(baked.root, "--bench", "--json", "--size", "32x24", "--frames", "3", "-q")
    records = json.loads(out)
    assert code == 0 and [record["name"] for record in records] == ["view/a/0.jpg", "view/a/1.jpg"]
    for record in records:
        assert 0 < record["median_ms"] <= record["p90_ms"] <= record["p99_ms"]
        assert record["frames"] == 3 and record["size"] == [32, 24] and record["device"]
    assert "99 % ms" in view(baked.root, "--bench", "--size", "32x24", "--frames", "1", "-q")[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--split", "test"), "--offscreen"),
        (("--offscreen",), "something to render"),
        (("--offscreen", "--split", "test"), "-o DIR"),
        (("--size", "12"), "640x360"),
        (("--memory", "0"), "--memory"),
        (("--fov", "500"), "--fov"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(view, baked, words, told):
    code, out, err = view(baked.root, *words)
    assert code == 2 and out == "" and told in err


def test_a_damaged_path_is_named(view, baked, tmp_path):
    (tmp_path / "path.json").write_text("{}")
    code, _, err = view(baked.root, "--offscreen", "--path", tmp_path / "path.json", "-o", tmp_path / "out")
    assert code == 4 and "path.json" in err


def test_without_a_display_and_without_egl_the_mend_is_told(view, baked, tmp_path, monkeypatch):
    from smerf.errors import MissingPartError
    from smerf.export.desktop import desktop_viewer

    def missing(*words, **named):
        raise MissingPartError("libEGL is not installed")

    context = desktop_viewer("context")
    monkeypatch.setattr(context, "_load_egl", missing)
    monkeypatch.setattr(context, "create_window", missing)
    code, _, err = view(baked.root, "--offscreen", "--screenshot", tmp_path / "a.png")
    assert code == 3 and "without a display" in err


def test_no_display_for_a_window_names_offscreen(baked):
    import subprocess

    without = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    words = [sys.executable, "-m", "smerf", "view", str(baked.root)]
    found = subprocess.run(words, capture_output=True, text=True, env=without)
    assert found.returncode == 3 and "--offscreen" in found.stderr and "Traceback" not in found.stderr
