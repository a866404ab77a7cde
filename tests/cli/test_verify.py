"""``smerf verify``: intact files and equal pictures pass, anything else is exit 5."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from smerf.cli.main import main
from smerf.errors import MissingPartError
from smerf.evaluation import viewers
from smerf.evaluation.verify import choose_cameras, compare
from smerf.scene import load_scene
from smerf.scene.example import example_camera, example_scene
from smerf.scene.manifest import SceneCamera
from smerf.scene.write import write_scene


@pytest.fixture(scope="module")
def baked(tmp_path_factory):
    """Two submodels, with a photo in each."""
    scene = example_scene(32, 2, (1, 5))
    entries = []
    for k in (0, 1):
        camera = example_camera(48, 36, turn=float(k))
        pose = camera.world_from_cam.copy()
        pose[:, 3] = scene.params.submodel_centre(k) + [0.05, -0.3, -0.3]
        entries.append(SceneCamera(f"photo {k}", "train", replace(camera, world_from_cam=pose)))
    manifest = replace(scene.manifest, cameras=tuple(entries))
    target = tmp_path_factory.mktemp("verify") / "scene"
    return write_scene(target, scene.params, scene.mlp, [scene.submodel(k) for k in (0, 1)], manifest).root


@pytest.fixture
def verify(capsys):
    def verify(*words):
        code = main(["verify", *map(str, words)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return verify


def test_four_viewers_draw_one_picture(verify, baked, tmp_path):
    words = ("--cameras", "2", "--size", "64x48", "-o", tmp_path / "report", "--json", "-q")
    code, out, err = verify(baked, *words)
    assert code == 0, err
    found = json.loads(out)
    assert found == json.loads((tmp_path / "report" / "verify.json").read_text())
    assert found["passed"] and found["hashes"] == {"checked": True, "problems": []}
    pairs = [(entry["camera"], entry["viewer"], entry["reference"]) for entry in found["differences"]]
    drawn = [name for name in ("desktop", "web", "webgpu") if name not in found["skipped"]]
    assert pairs == [(f"photo {k}", viewer, "native") for k in (0, 1) for viewer in drawn]
    assert all(entry["fraction_within"] >= 0.999 and entry["mean"] < 0.5 for entry in found["differences"])
    sheet = np.asarray(Image.open(tmp_path / "report" / "differences.png"))
    assert sheet.shape[1] > (1 + 2 * len(drawn)) * 64 and sheet.shape[0] > 2 * 48
    assert sheet[:, : 3 * 64].std() > 10
    if found["skipped"]:
        pytest.skip(found["skipped"]["webgpu"])


def test_viewers_are_compared_without_an_object_too(verify, tmp_path):
    scene = example_scene(64, objects=True)
    entry = SceneCamera("photo", "test", example_camera(48, 36))
    manifest = replace(scene.manifest, cameras=(entry,))
    write_scene(tmp_path / "scene", scene.params, scene.mlp, [scene.submodel(0)], manifest)
    words = ("--cameras", "1", "--size", "64x48", "-o", tmp_path / "report", "--json", "-q")
    code, out, err = verify(tmp_path / "scene", *words, "--viewers", "native,desktop")
    assert code == 0, err
    found = json.loads(out)["differences"]
    assert [entry["camera"] for entry in found] == ["photo", "photo without red box"]
    sheet = np.asarray(Image.open(tmp_path / "report" / "differences.png")).astype(int)
    rows = sheet[16:64, 6:70], sheet[16 + 70 : 64 + 70, 6:70]
    assert (np.abs(rows[0] - rows[1]).max(-1) > 8).mean() > 0.05


def test_a_corrupted_file_is_exit_5_and_named(verify, baked, tmp_path):
    broken = tmp_path / "scene"
    shutil.copytree(baked, broken)
    path = next((broken / "sm_005").glob("plane_rgb_1.*"))
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    code, out, err = verify(broken, "--viewers", "native", "-o", tmp_path / "report", "-q")
    assert code == 5 and path.name in err and path.name in out
    found = json.loads((tmp_path / "report" / "verify.json").read_text())
    assert not found["passed"] and found["differences"] == [] and path.name in found["hashes"]["problems"][0]


def test_a_viewer_that_draws_something_else_is_exit_5(verify, baked, monkeypatch):
    real = viewers.DesktopViewer.draw

    def draw(self, camera):
        picture = real(self, camera).copy()
        picture[:4, :4] ^= 64
        return picture

    monkeypatch.setattr(viewers.DesktopViewer, "draw", draw)
    words = ("--viewers", "desktop,native", "--size", "48x36", "--cameras", "1", "-q")
    code, out, err = verify(baked, *words)
    assert code == 5 and "desktop differs from native" in err and "photo 0" in err
    assert "99.074 %" in out  # all but 16 of 48 x 36 pixels


def test_a_viewer_that_cannot_run_is_exit_3_unless_it_is_left_out(verify, baked, monkeypatch):
    monkeypatch.setattr(viewers, "BROWSERS", ("no-such-browser",))
    words = ("--size", "64x48", "--cameras", "1", "-q")
    code, _, err = verify(baked, *words)
    assert code == 3 and "web: Chromium is not installed" in err and "--viewers native,desktop" in err
    assert verify(baked, *words, "--viewers", "native,desktop")[0] == 0


def test_a_browser_without_webgpu_is_told_and_the_others_are_compared(verify, baked, monkeypatch):
    monkeypatch.setattr(viewers.WebGPUViewer, "flags", viewers.WebViewer.flags)
    words = ("--size", "48x36", "--cameras", "1", "-q")
    code, out, err = verify(baked, *words, "--viewers", "native,desktop,webgpu")
    assert code == 0 and "webgpu: left out: The browser gives no WebGPU adapter" in out, err
    code, _, err = verify(baked, *words, "--viewers", "native,webgpu")
    assert code == 3 and "webgpu: The browser gives no WebGPU adapter" in err


def test_the_desktop_viewer_names_itself_when_it_cannot_run(baked, monkeypatch):
    from smerf.export.desktop import desktop_viewer

    def missing():
        raise MissingPartError("no OpenGL")

    monkeypatch.setattr(desktop_viewer("context"), "offscreen_context", missing)
    with pytest.raises(MissingPartError, match="desktop: no OpenGL"):
        viewers.open_viewer("desktop", load_scene(baked), baked, (8, 6))


def test_unknown_viewers_and_sizes_are_usage_errors(verify, baked):
    assert verify(baked, "--viewers", "native,phone")[0] == 2
    assert "phone" in verify(baked, "--viewers", "native,phone")[2]
    assert verify(baked, "--size", "big")[0] == 2
    assert verify(baked, "--cameras", "0")[0] == 2


def test_a_scene_without_manifest_says_that_hashes_were_not_checked(verify, baked, tmp_path):
    bare = tmp_path / "scene"
    shutil.copytree(baked, bare)
    (bare / "manifest.json").unlink()
    code, out, _ = verify(bare, "--viewers", "native,desktop", "--size", "64x48", "--cameras", "2", "-q")
    assert code == 0 and "not checked" in out and "submodel 1" in out


def test_cameras_are_spread_over_the_submodels(baked):
    scene = load_scene(baked)
    assert [name for name, _ in choose_cameras(scene, 2, (32, 24))] == ["photo 0", "photo 1"]
    # A wide picture of a 4:3 photo keeps its full width.
    camera = choose_cameras(scene, 1, (96, 36))[0][1]
    lens, photo = camera.intrinsics, scene.manifest.cameras[0].camera.intrinsics
    assert lens.width / lens.fx == pytest.approx(photo.width / photo.fx) and lens.cy == 18


def test_the_figures_of_a_comparison():
    reference = np.zeros((10, 100, 3), np.uint8)
    picture = reference.copy()
    picture[0, 0, 1], picture[0, 1:5] = 9, 2
    found = compare(picture, reference, "a", "web", "native")
    assert (found.maximum, found.fraction_within, found.mean) == (9, 0.999, pytest.approx(0.017))
    assert found.is_within and not compare(picture[:, :50], reference[:, :50], "a", "web", "native").is_within
