"""The window, driven through its event handlers under a display of its own."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from smerf.errors import MissingPartError
from smerf.render import march as native
from smerf.scene import load_scene
from smerf.scene.manifest import SceneCamera, StartCamera
from smerf.viewer.desktop.context import gl as load_gl
from smerf.viewer.desktop.path import read_path
from smerf.viewer.desktop.renderer import pinhole
from tests.helpers.tiny_scene import look_at, make_scene, write_pair, write_submodel
from tests.helpers.windows import press, settle

START = look_at([0.3, -2.2, 0.5], [0, 0, 0])


@pytest.fixture
def scene(scene_dir):
    scene = load_scene(scene_dir)
    photos = [
        SceneCamera(f"photo {i}", "train", pinhole(look_at([0.2 * i, -2, 0.3], [0, 0, 0])[:3], 80, 60, 50))
        for i in range(2)
    ]
    scene.manifest = replace(scene.manifest, start=StartCamera(START[:3], 40), cameras=tuple(photos))
    return scene


def screen(window):
    """Draw, and return what is about to be shown, (H, W, 3) int16."""
    shown = []
    real = window.glfw.swap_buffers

    def swap(handle):
        GL = load_gl()
        width, height = window.framebuffer_size
        out = np.empty((height, width, 4), np.uint8)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, 0)
        GL.glReadBuffer(GL.GL_BACK)
        GL.glReadPixels(0, 0, width, height, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, out)
        shown.append(out[::-1, :, :3].astype(np.int16))
        real(handle)

    window.glfw.swap_buffers = swap
    try:
        window.draw()
    finally:
        window.glfw.swap_buffers = real
    return shown[0]


def native_bytes(scene, pose, size, fov):
    return np.rint(255 * native.render_camera(scene, pinhole(pose[:3], *size, fov))).astype(np.int16)


def share_within(a, b):
    return (np.abs(a - b).max(-1) <= 2).mean()


def test_the_window_shows_the_native_picture(open_window, scene):
    window = open_window(scene)
    picture = settle(window)
    assert picture.shape == (120, 160, 3)
    assert share_within(picture, native_bytes(scene, START, (160, 120), 40)) >= 0.999
    assert np.array_equal(screen(window), picture)


def test_help_and_statistics_lie_over_the_picture(open_window, scene):
    window = open_window(scene, size=(640, 560))
    g = window.glfw
    window.viewer.resize(64, 56)  # the picture may be smaller than the window; only panels matter here
    settle(window)
    plain = screen(window)
    press(window, g.KEY_I)
    window.step(time.monotonic())
    statistics = screen(window)
    changed = np.argwhere(np.abs(statistics - plain).max(-1) > 8)
    assert len(changed) > 2000 and changed.max(0)[0] < 300 and changed.max(0)[1] < 400
    press(window, g.KEY_H)
    help_shown = screen(window)
    assert (np.abs(help_shown - plain).max(-1) > 8).mean() > 0.3
    press(window, g.KEY_ESCAPE)
    press(window, g.KEY_I)
    assert np.array_equal(screen(window), plain)


def test_keys_and_mouse_move_the_camera_and_reset_brings_it_back(open_window, scene):
    window = open_window(scene)
    g = window.glfw
    before = settle(window)
    press(window, g.KEY_2)
    window.on_key(g.KEY_W, g.PRESS, 0)
    for i in range(20):
        window.step(time.monotonic() + i / 60)
    window.on_key(g.KEY_W, g.RELEASE, 0)
    flown = settle(window)
    pose = window.viewer.view.pose
    assert np.linalg.norm(pose[:, 3]) < np.linalg.norm(START[:3, 3]) - 0.02
    assert share_within(flown, native_bytes(scene, pose, (160, 120), 40)) >= 0.999
    press(window, g.KEY_1)
    window.on_button(g.MOUSE_BUTTON_LEFT, g.PRESS, 0)
    x, y = window._pointer
    window.on_pointer(x + 40, y)
    window.on_button(g.MOUSE_BUTTON_LEFT, g.RELEASE, 0)
    window.on_pointer(x + 400, y)
    settle(window)
    turned = window.viewer.view.pose
    assert np.degrees(np.arccos(np.clip(turned[:, 2] @ pose[:, 2], -1, 1))) == pytest.approx(
        np.degrees(0.2), abs=1.0
    )
    press(window, g.KEY_R)
    assert np.array_equal(settle(window), before)


def test_the_preview_is_coarser_than_the_picture_at_rest(open_window, scene):
    window = open_window(scene)
    settle(window)
    window.viewer._pixel_ms = 1.0  # a slow device
    window.viewer.controls.rotate(30, 0)
    window.step(time.monotonic())
    moving = window.viewer.statistics()
    assert moving.rendered[0] * moving.rendered[1] < 160 * 120 / 2 and moving.window == (160, 120)
    settle(window)
    assert window.viewer.statistics().rendered == (160, 120)


def test_a_resized_window_draws_at_its_new_size(open_window, scene):
    window = open_window(scene)
    settle(window)
    window.glfw.set_window_size(window.window, 200, 100)
    end = time.monotonic() + 10
    while window.framebuffer_size != (200, 100) or window.viewer.size != (200, 100):
        window.glfw.poll_events()
        assert time.monotonic() < end
    picture = settle(window)
    assert share_within(picture, native_bytes(scene, START, (200, 100), 40)) >= 0.999


def test_a_path_is_recorded_played_saved_and_dropped(open_window, scene, tmp_path):
    window = open_window(scene, output=tmp_path)
    g = window.glfw
    press(window, g.KEY_K)
    assert window.viewer.tour.path is None
    press(window, g.KEY_RIGHT_BRACKET)
    press(window, g.KEY_K)
    press(window, g.KEY_S, g.MOD_CONTROL)
    saved = read_path(tmp_path / "path_001.json")
    assert np.allclose(saved.keyframes[0].pose, START[:3]) and saved.keyframes[1].fov == pytest.approx(50)
    settle(window)
    press(window, g.KEY_SPACE)
    assert window.viewer.tour.is_playing
    now = time.monotonic()
    for i in range(7):
        window.step(now + i * 0.25)
    assert np.allclose(window.viewer.view.pose, saved.at(6 * 0.25 + 1 / 60).pose, atol=1e-6)
    window.viewer.controls.rotate(5, 0)
    assert not window.viewer.tour.is_playing
    other = {"camera_path": [{"camera_to_world": START.ravel().tolist(), "fov": 30}] * 2, "seconds": 1}
    (tmp_path / "other.json").write_text(json.dumps(other))
    window.open(tmp_path / "other.json")
    assert len(window.viewer.tour.path.frames) == 2


def test_photos_are_visited_in_turn(open_window, scene):
    window = open_window(scene)
    for key, x in ((window.glfw.KEY_RIGHT_BRACKET, 0.0), (window.glfw.KEY_RIGHT_BRACKET, 0.2)):
        press(window, key)
        assert window.viewer.view.pose[0, 3] == pytest.approx(x) and window.viewer.fov == pytest.approx(50)
    press(window, window.glfw.KEY_LEFT_BRACKET)
    assert window.viewer.view.pose[0, 3] == pytest.approx(0.0)


def test_the_scene_is_framed_and_panels_are_put_away(open_window, scene):
    window = open_window(scene)
    g = window.glfw
    press(window, g.KEY_F)
    pose = window.viewer.view.pose
    # Both photos look at the origin.
    assert np.allclose(pose[:, 3], 2.027 * pose[:, 2], atol=1e-3)
    press(window, g.KEY_I)
    press(window, g.KEY_H)
    press(window, g.KEY_TAB)
    assert not window.is_help_shown and not window.are_statistics_shown


def test_a_photo_lies_over_the_picture_of_its_camera(open_window, scene, tmp_path):

    green = np.full((60, 80, 3), (0, 250, 0), np.uint8)
    photos = {entry.name: lambda edge: green for entry in scene.manifest.cameras}
    window = open_window(scene, size=(200, 120), photos=lambda: photos)
    g = window.glfw
    press(window, g.KEY_G)
    picture = settle(window)
    window._notice = None
    shown = screen(window)
    # 160 of the 200 columns are the photo's, half of it and half of the picture.
    expected = 0.5 * picture + 0.5 * np.array([0, 250, 0])
    assert abs(shown - expected)[5:-5, 25:-25].max() <= 3
    assert np.array_equal(shown[:, :18], picture[:, :18])
    window.viewer.controls.rotate(30, 0)
    picture = settle(window)
    assert np.array_equal(screen(window), picture)
    press(window, g.KEY_G)
    without = open_window(scene)
    press(without, g.KEY_G)
    assert "photos are not at hand" in without._message()


def test_a_path_ends_or_loops(open_window, scene):
    window = open_window(scene)
    g = window.glfw
    for key in (g.KEY_K, g.KEY_RIGHT_BRACKET, g.KEY_K, g.KEY_SPACE):
        press(window, key)
    now = time.monotonic()
    for i in range(12):
        window.step(now + i * 0.25)
    assert not window.viewer.tour.is_playing
    assert np.allclose(window.viewer.view.pose, window.viewer.tour.keyframes[1].pose)
    press(window, g.KEY_J)
    press(window, g.KEY_SPACE)
    assert window.viewer.tour.path.is_cycle
    for i in range(24):
        window.step(now + 10 + i * 0.25)
    assert window.viewer.tour.is_playing


def test_the_saved_picture_is_the_one_at_rest(open_window, scene, tmp_path):
    from PIL import Image

    window = open_window(scene, output=tmp_path)
    press(window, window.glfw.KEY_P)
    press(window, window.glfw.KEY_H)
    picture = settle(window)
    window.step(time.monotonic())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "view_001.png")), picture)


def test_a_dropped_scene_replaces_the_one_that_is_shown(open_window, scene, tmp_path):
    write_pair(tmp_path / "pair")
    window = open_window(scene)
    settle(window)
    window.open(tmp_path / "pair")
    window.viewer.renderer.near = 0.02
    for x, channel in ((-0.5, 0), (0.5, 2)):
        window.viewer.show(replace(window.viewer.view, pose=look_at([x, 0.02, 0.55], [x, 0.5, 0.5])[:3]))
        assert settle(window)[60, 80].argmax() == channel
    assert window.viewer.statistics().submodels == 2
    window.open(tmp_path)
    assert "not a baked scene" in window._message() and window.viewer.statistics().submodels == 2


def test_a_broken_scene_is_told_in_the_window(open_window, tmp_path):
    write_submodel(tmp_path / "sm_000", make_scene(), extension="raw")
    path = tmp_path / "sm_000" / "plane_rgb_1.raw"
    path.write_bytes(path.read_bytes()[:-5])
    window = open_window(load_scene(tmp_path))
    assert window._message() == "Loading ..."
    end = time.monotonic() + 10
    while not window.viewer.streamer.error and time.monotonic() < end:
        window.step(time.monotonic())
    assert "plane_rgb_1.raw" in window._message()


def test_without_egl_a_hidden_window_draws(display, egl, scene, monkeypatch):
    from smerf.viewer.desktop import context, offscreen

    def missing():
        raise MissingPartError("libEGL is not installed")

    egl.release()
    monkeypatch.setattr(context, "_load_egl", missing)
    with context.offscreen_context() as hidden:
        assert isinstance(hidden, context.HiddenWindow)
        picture = next(iter(offscreen.draw_cameras(scene, [pinhole(START[:3], 80, 60, 40)])))
    assert share_within(picture.astype(np.int16), native_bytes(scene, START, (80, 60), 40)) >= 0.999
