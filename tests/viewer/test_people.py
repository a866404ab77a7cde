"""What people do with the page: record paths, compare with photos, share, save; by touch, pad and keyboard."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from smerf.capture.types import Camera, Capture, Frame, Intrinsics, Similarity
from smerf.export.desktop import desktop_viewer
from smerf.export.photos import site_cameras
from smerf.export.site import export_site
from smerf.render.camera_path import read_camera_path
from smerf.scene.manifest import Manifest, SceneCamera, hash_file
from tests.helpers.tiny_scene import look_at, make_scene, write_submodel

SIZE = (760, 460)
FRONT = look_at([0.3, -2.2, 0.5], [0, 0, 0])
SIDE = look_at([2.0, 0.4, 0.3], [0, 0, 0])
BACK = look_at([-0.3, 2.2, 0.8], [0, 0, 0])
LENS = Intrinsics("OPENCV", 120, 80, 100.0, 100.0, 62.0, 39.0, (0.05, 0.0, 0.0, 0.0))


def rolled(matrix, degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    return matrix @ turn


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    root = tmp_path_factory.mktemp("capture")
    frames = []
    for i, pose in enumerate((FRONT, rolled(SIDE, 20), BACK)):
        path = root / f"{i}.png"
        Image.new("RGBA", (240, 160), (200, 40 * i, 10, 255 - 60 * i)).save(path)
        frames.append(Frame(f"a/{i}.png", path, Camera(LENS, pose[:3]), "train", downscale=2))
    return Capture(root, "test", tuple(frames), Similarity(), 0.2, 4.0, True, None, np.zeros((0, 3)))


@pytest.fixture(scope="module")
def photo_scene(tmp_path_factory, capture):
    root = tmp_path_factory.mktemp("run") / "baked"
    write_submodel(root / "sm_000", make_scene())
    cameras = tuple(SceneCamera(frame.name, frame.split, frame.camera) for frame in capture.frames)
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    files = {name: hash_file(root / name) for name in names}
    (root / "manifest.json").write_text(json.dumps(Manifest(cameras=cameras, files=files).to_json()))
    return root


@pytest.fixture
def still(visit):
    """Open a page of a fair size with few pixels and without motion that nobody asked for."""

    def still(directory, query="", **options):
        options = {"size": SIZE, "reduced_motion": "reduce"} | options
        return visit(directory, f"dpr=0.15&{query}", **options).ready()

    return still


def attribute(page, selector, name):
    return page.page.locator(selector).get_attribute(name)


def test_a_path_is_recorded_edited_exported_and_read_everywhere(still, scene_dir, tmp_path):
    page = still(scene_dir)
    tab = page.page
    for matrix, fov in ((FRONT, 40), (SIDE, 50), (BACK, 45)):
        page.set_camera(matrix, fov)
        tab.focus("#view")
        tab.keyboard.press("k")
    assert tab.locator("#path").is_visible() and tab.locator("#path-keys button").count() == 3
    assert tab.locator("#path-seconds").input_value() == "4"
    tab.fill("#path-seconds", "3")
    tab.keyboard.press("Enter")
    with tab.expect_download() as download:
        tab.click("#path-export")
    file = tmp_path / "path.json"
    download.value.save_as(file)
    path_module = desktop_viewer("path")
    path = path_module.read_path(file)
    assert (
        path.seconds == 3 and len(path.frames) == 91 and [view.fov for view in path.keyframes] == [40, 50, 45]
    )
    made = path_module.CameraPath.through(path.keyframes, 3.0)
    for ours, theirs in zip(made.frames, path.frames):
        assert np.allclose(ours.pose, theirs.pose, atol=1e-9) and ours.fov == pytest.approx(theirs.fov)
    assert len(read_camera_path(file)[0]) == 91

    tab.click("#path-earlier")
    tab.click("#path-earlier")
    tab.click("#path-keys li:nth-child(3) button")
    page.ready()
    assert np.allclose(page.camera(), SIDE)
    tab.click("#path-remove")
    kept = tab.evaluate("smerf.getPath().keyframes.map((key) => key.fov)")
    assert kept == [45, 40]
    tab.set_input_files("#path-file", file)
    tab.wait_for_function("document.querySelectorAll('#path-keys button').length === 3")
    assert tab.evaluate("smerf.getPath().keyframes.map((key) => key.fov)") == [40, 50, 45]
    (tmp_path / "bad.json").write_text("{}")
    tab.set_input_files("#path-file", tmp_path / "bad.json")
    tab.wait_for_function("document.querySelector('#notice').textContent.includes('bad.json')")
    assert page.errors == []


def test_a_path_plays_to_its_end_pauses_loops_and_yields_to_the_user(still, scene_dir):
    page = still(scene_dir)
    tab = page.page
    keyframes = [{"matrix": matrix.ravel().tolist(), "fov": 40} for matrix in (FRONT, SIDE)]
    tab.evaluate("(path) => smerf.setPath(path)", {"keyframes": keyframes, "seconds": 1.5})
    tab.evaluate("smerf.play()")
    assert attribute(page, "#button-play", "aria-label") == "Pause"
    tab.wait_for_function("document.querySelector('#button-play').getAttribute('aria-label') === 'Play'")
    page.ready()
    assert np.allclose(page.camera(), SIDE, atol=1e-6)
    tab.click("#button-path")
    tab.click("#path-loop")
    tab.focus("#view")
    tab.keyboard.press("Space")
    tab.wait_for_timeout(2000)
    assert attribute(page, "#button-play", "aria-label") == "Pause"
    tab.mouse.move(300, 100)
    tab.mouse.down()
    tab.mouse.move(320, 100)
    tab.mouse.up()
    assert attribute(page, "#button-play", "aria-label") == "Play"
    tab.locator("#path-time").fill("0")
    page.ready()
    assert np.allclose(page.camera(), FRONT, atol=1e-6)


def test_photos_lie_over_the_picture_of_their_camera(still, photo_scene, capture, tmp_path):
    export_site(photo_scene, tmp_path / "site", capture=capture)
    single = export_site(photo_scene, tmp_path / "one.html", capture=capture, single_file=True)
    for place in (tmp_path / "site", single.as_uri()):
        page = still(place)
        tab = page.page
        tab.focus("#view")
        tab.keyboard.press("]")
        tab.keyboard.press("]")
        page.ready()
        assert np.allclose(page.camera(), rolled(SIDE, 20), atol=1e-9)
        photo = tab.locator("#photo")
        tab.wait_for_function("document.querySelector('#photo').naturalWidth === 120")
        box = photo.bounding_box()
        # The photo is wider than the window is for its height: its full height is in the picture.
        fov = tab.evaluate("smerf.getCamera().fovDegrees")
        focal = SIZE[1] / 2 / math.tan(math.radians(fov / 2))
        assert focal == pytest.approx(min(SIZE[0] / 120, SIZE[1] / 80) * 100)
        scale = focal / 100
        assert box["width"] == pytest.approx(120 * scale, abs=0.1)
        assert box["x"] == pytest.approx(SIZE[0] / 2 - 62 * scale, abs=0.1)
        assert box["y"] == pytest.approx(SIZE[1] / 2 - 39 * scale, abs=0.1)
        tab.locator("#photo-opacity").fill("80")
        assert float(photo.evaluate("(image) => image.style.opacity")) == 0.8
        tab.focus("#view")
        tab.keyboard.press("g")
        assert photo.is_hidden()
        tab.keyboard.press("g")
        assert photo.is_visible()
        tab.keyboard.press("ArrowLeft")
        tab.wait_for_function("document.querySelector('#photo').hidden")
        assert page.errors == []


def test_without_photos_their_cameras_can_still_be_visited(still, photo_scene, scene_dir):
    page = still(photo_scene)
    page.page.click("#button-photos")
    page.page.click("#photo-list li:nth-child(3) button")
    page.ready()
    assert np.allclose(page.camera(), BACK)
    assert page.page.locator("#photo-mix").is_hidden() and page.page.locator("#photo").is_hidden()
    assert still(scene_dir).page.locator("#button-photos").is_hidden()


def test_photos_are_small_straight_and_over_white(capture):
    cameras = [SceneCamera(frame.name, frame.split, frame.camera) for frame in capture.frames]
    files = site_cameras(cameras, capture)
    entries = json.loads(files["cameras.json"])["cameras"]
    assert [entry["photo"] for entry in entries] == [f"photos/00{i}.jpg" for i in range(3)]
    assert entries[0]["intrinsics"]["model"] == "PINHOLE" and entries[0]["intrinsics"]["distortion"] == []
    last = np.asarray(Image.open(io.BytesIO(files["photos/002.jpg"])), float)
    assert last.shape == (80, 120, 3)
    alpha = 135 / 255
    assert np.allclose(last.mean((0, 1)), [200 * alpha + 120, 80 * alpha + 120, 10 * alpha + 120], atol=3)
    assert [
        entry["photo"] for entry in json.loads(site_cameras(cameras, None)["cameras.json"])["cameras"]
    ] == [None] * 3


def test_a_link_brings_back_the_view_with_its_roll(still, scene_dir):
    page = still(scene_dir)
    tilted = rolled(look_at([0.4, -1.8, 0.7], [0.1, 0, 0]), 25)
    page.set_camera(tilted, 33)
    page.page.focus("#view")
    page.page.keyboard.press("c")
    page.page.wait_for_function("location.hash.includes('up=')")
    there = page.page.url
    page.page.goto("about:blank")
    page.page.goto(there)
    page.ready()
    assert np.allclose(page.camera(), tilted, atol=1e-4)
    assert page.page.evaluate("smerf.getCamera().fovDegrees") == pytest.approx(33)
    page.page.evaluate("location.hash = 'pos=0,-2,0&look=0,0,0&fov=50'")
    page.page.wait_for_function("smerf.getCamera().fovDegrees === 50")
    assert np.allclose(page.camera()[:3, 3], [0, -2, 0])


def test_the_saved_picture_is_what_the_canvas_shows(still, scene_dir, tmp_path):
    page = still(scene_dir)
    page.set_camera(FRONT, 40)
    with page.page.expect_download() as download:
        page.page.click("#button-picture")
    download.value.save_as(tmp_path / "view.png")
    assert download.value.suggested_filename.endswith(".png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "view.png").convert("RGB")), page.frame())


def test_quality_field_of_view_and_statistics_answer(still, scene_dir):
    page = still(scene_dir, "dpr=0.7", size=(900, 620))
    tab = page.page
    tab.click("#button-settings")
    assert "Automatic (high)" in tab.locator("#set-quality").inner_text()
    tab.select_option("#set-quality", "phone")
    tab.locator("#set-fov").fill("70")
    page.ready()
    stats = tab.evaluate("smerf.stats()")
    assert stats["width"] == 630 and stats["renderWidth"] * stats["renderHeight"] <= 136_000
    assert tab.evaluate("smerf.getCamera().fovDegrees") == 70
    tab.check("#set-statistics")
    assert "Rendered" in tab.locator("#statistics").inner_text()
    tab.keyboard.press("Escape")
    assert tab.locator("#settings").is_hidden()
    assert tab.evaluate("document.activeElement.id") == "button-settings"


def test_colours_follow_the_system_until_they_are_chosen(still, scene_dir):
    page = still(scene_dir, color_scheme="dark")
    assert attribute(page, "html", "data-theme") == "dark"
    page.page.click("#button-settings")
    page.page.get_by_text("Light", exact=True).click()
    assert attribute(page, "html", "data-theme") == "light"
    page.page.reload()
    page.ready()
    assert attribute(page, "html", "data-theme") == "light"


def test_every_control_is_named_large_enough_and_reached_by_tab(still, photo_scene):
    page = still(photo_scene, size=(390, 760), color_scheme="light")
    tab = page.page
    tab.click("#button-settings")
    tab.click("#button-more")
    tab.click("#button-path")
    tab.click("#button-more")
    controls = tab.evaluate(
        """() => [...document.querySelectorAll("button, input, select")].filter((x) => x.checkVisibility()).map((x) => {
          const { left, right, top, bottom, width, height } = x.getBoundingClientRect();
          return { id: x.id, name: x.ariaLabel || x.labels?.[0]?.textContent || x.textContent.trim(),
            isInside: left >= 0 && right <= innerWidth && top >= 0 && bottom <= innerHeight,
            isLarge: (width >= 24 && height >= 24) || x.type === "radio", isOff: x.disabled };
        })"""
    )
    assert len(controls) > 20
    assert [c for c in controls if not (c["name"] and c["isInside"] and c["isLarge"])] == []
    tab.focus("#view")
    reached = set()
    for _ in range(len(controls) + 5):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.id"))
    # One of the colours stands for its group.
    assert {c["id"] for c in controls if c["id"] and not c["isOff"]} <= reached


def gesture(page, begin, end, steps=4):
    session = page.page.context.new_cdp_session(page.page)

    def touch(kind, points):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", begin)
    for i in range(1, steps + 1):
        touch("touchMove", (np.array(begin) + (np.array(end) - begin) * i / steps).tolist())
    touch("touchEnd", [])
    page.wait_until_still()


def test_one_two_and_three_fingers(still, scene_dir):
    page = still(scene_dir, "pos=0,-2.2,0&look=0,0,0", has_touch=True)
    gesture(page, [(300, 200)], [(340, 200)])
    turned = page.camera()[:3, 3]
    assert turned[0] < -0.2 and np.linalg.norm(turned) == pytest.approx(2.2, abs=1e-3)
    page.page.keyboard.press("r")
    page.wait_until_still()
    gesture(page, [(300, 200), (400, 200)], [(250, 200), (450, 200)])
    assert -1.4 < page.camera()[1, 3] < -0.9
    page.page.keyboard.press("r")
    page.wait_until_still()
    gesture(page, [(300, 200), (400, 200)], [(340, 200), (440, 200)])
    moved = page.camera()[:3, 3]
    assert moved[0] < -0.1 and moved[1] == pytest.approx(-2.2, abs=0.02)
    page.page.keyboard.press("r")
    page.wait_until_still()
    gesture(page, [(300, 200), (360, 200), (420, 200)], [(300, 100), (360, 100), (420, 100)])
    walked = page.camera()[:3, 3]
    assert walked[1] > -2.0 and abs(walked[0]) < 0.02


def test_a_gamepad_moves_looks_and_presses(still, scene_dir):
    page = still(scene_dir, "mode=fly&pos=0,-2.2,0&look=0,0,0")
    tab = page.page
    tab.evaluate(
        """() => {
          globalThis.pad = { connected: true, mapping: "standard", axes: [0, -1, 0.05, 0],
            buttons: Array.from({ length: 17 }, () => ({ value: 0, pressed: false })) };
          navigator.getGamepads = () => [pad];
          dispatchEvent(new Event("gamepadconnected"));
        }"""
    )
    tab.wait_for_function("smerf.getCamera().cameraToWorld[7] > -2.1")
    tab.evaluate("pad.axes = [0, 0, 1, 0]")
    tab.wait_for_function("smerf.getCamera().cameraToWorld[2] < -0.2")
    tab.evaluate("pad.axes = [0, 0, 0, 0]; pad.buttons[2].value = 1")
    tab.wait_for_function("document.querySelector('#button-orbit').getAttribute('aria-pressed') === 'true'")
    tab.evaluate("pad.connected = false")
    place = page.camera()[:3, 3]
    assert abs(place[0]) < 0.3 and place[1] > -2.1


def test_flights_frame_the_scene_and_keys_hide_the_controls(visit, photo_scene):
    page = visit(photo_scene, "dpr=0.15&pos=0.1,-0.9,0.2&look=0,0,0", size=SIZE).ready()
    tab = page.page
    tab.keyboard.press("f")
    page.wait_until_still()
    # The cameras look at the box from 2.0 to 2.4 away, the middle one from 2.29.
    assert np.linalg.norm(page.camera()[:3, 3]) == pytest.approx(np.linalg.norm(FRONT[:3, 3]), abs=0.05)
    tab.keyboard.press("u")
    assert tab.locator("#dock").is_hidden()
    tab.keyboard.press("u")
    assert tab.locator("#dock").is_visible()


def test_nothing_is_asked_of_other_hosts_and_messages_drive_a_path(still, scene_dir):
    page = still(scene_dir)
    asked = []
    page.page.on("request", lambda request: asked.append(request.url))
    answer = page.page.evaluate(
        """async ([address, front, side]) => {
          const frame = document.createElement("iframe");
          const opened = new Promise((done) => {
            addEventListener("message", ({ data }) => data.smerf === "opened" && done());
          });
          frame.src = address;
          document.body.append(frame);
          await opened;
          let id = 0;
          const ask = (smerf, ...args) => new Promise((done) => {
            const mine = ++id;
            addEventListener("message", ({ data }) => data.id === mine && done(data));
            frame.contentWindow.postMessage({ smerf, args, id: mine }, "*");
          });
          const early = await ask("play");
          await ask("setPath", { keyframes: [front, side].map((matrix) => ({ matrix, fov: 40 })), seconds: 2 });
          await ask("play");
          await ask("play", false);
          const path = (await ask("getPath")).result;
          await ask("setMode", "fly");
          const wrong = await ask("setMode", "swim");
          const picture = (await ask("picture")).result;
          return { early: early.error, count: path.camera_path.length, wrong: wrong.error, type: picture.type };
        }""",
        [page.leave(), FRONT.ravel().tolist(), SIDE.ravel().tolist()],
    )
    assert "no camera path" in answer["early"] and "one of orbit" in answer["wrong"]
    assert answer["count"] == 61 and answer["type"] == "image/png"
    origin = page.page.evaluate("location.origin")
    assert asked and all(url.startswith((origin, "data:", "blob:")) for url in asked)
