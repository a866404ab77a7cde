"""What a visitor of the page sees: the picture, the controls, the messages."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.tiny_scene import look_at, make_scene, oracle, write_pair, write_submodel

FRONT = look_at([0.3, -2.2, 0.5], [0, 0, 0])
# Away from the silhouette, where the sample positions of two marchers may differ by half a voxel.
PIXELS = [(48, 36), (40, 30), (56, 42), (52, 30), (2, 2), (93, 69), (10, 60)]


@pytest.fixture(scope="module")
def pair_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    write_pair(root)
    return root


def test_the_first_frame_agrees_with_an_independent_march(visit, scene_dir):
    page = visit(scene_dir, "ui=0").ready()
    page.set_camera(FRONT, 40)
    frame = page.frame()
    assert frame.shape == (72, 96, 3)
    expected = 255 * oracle(make_scene(), FRONT, 40, (96, 72), PIXELS)
    found = np.array([frame[row, column] for column, row in PIXELS])
    assert abs(found - expected).max() <= 2
    assert abs(frame[36, 48] - frame[2, 2]).max() > 60
    assert page.errors == []


def test_the_box_covers_the_pixels_it_projects_to(visit, scene_dir):
    page = visit(scene_dir, "ui=0").ready()
    page.set_camera(look_at([0, -2.5, 0], [0, 0, 0]), 40)
    frame = page.frame()
    is_box = abs(frame - frame[0, 0]).max(-1) > 60
    # Dense samples end at +-0.375 and the next, empty ones lie at +-0.625.
    focal = 36 / np.tan(np.radians(20))
    half_side = is_box[36].sum() / 2 / focal * (2.5 - 0.5)
    assert 0.375 < half_side < 0.625
    rows, columns = np.nonzero(is_box)
    assert abs(rows.mean() - 35.5) < 1 and abs(columns.mean() - 47.5) < 1


def test_progress_reaches_the_end_and_leaves(visit, scene_dir):
    page = visit(scene_dir).ready()
    bar = page.page.locator("[role=progressbar]")
    assert bar.get_attribute("aria-valuenow") == "100"
    assert not bar.is_visible()
    stats = page.page.evaluate("smerf.stats()")
    assert stats["loadedBytes"] == stats["totalBytes"] > 0


@pytest.mark.parametrize(
    "storage", [{"extension": "png"}, {"extension": "png", "joint": True}, {"extension": "raw"}]
)
def test_every_storage_form_gives_the_same_picture(visit, scene_dir, tmp_path, storage):
    write_submodel(tmp_path / "sm_000", make_scene(), **storage)
    frames = []
    for folder in (scene_dir, tmp_path):
        page = visit(folder, "ui=0").ready()
        page.set_camera(FRONT, 40)
        frames.append(page.frame())
    assert np.array_equal(*frames)


def test_a_scene_without_distance_grid_gives_the_same_picture(visit, scene_dir, tmp_path):
    write_submodel(tmp_path / "sm_000", make_scene(useDistanceGrid=False))
    (tmp_path / "sm_000" / "distance_grid_8_000.raw.gz").unlink()
    frames = []
    for folder in (scene_dir, tmp_path):
        page = visit(folder, "ui=0").ready()
        page.set_camera(FRONT, 40)
        frames.append(page.frame())
    assert np.array_equal(*frames)


def test_a_lens_offset_shifts_the_picture(visit, scene_dir):
    page = visit(scene_dir, "ui=0").ready()
    page.set_camera(FRONT, 40)
    centred = page.frame()
    page.set_camera(FRONT, 40, {"cx": 0.5 + 12 / 96, "cy": 0.5 - 6 / 72})
    shifted = page.frame()
    difference = abs(shifted[: 72 - 6, 12:] - centred[6:, : 96 - 12])
    assert (difference.max(-1) <= 2).mean() > 0.98


def test_the_submodel_follows_the_camera(visit, pair_dir):
    page = visit(pair_dir, "ui=0&near=0.02").ready()
    for x, channel, k in ((-0.5, 0, 0), (0.5, 2, 1), (-0.5, 0, 0)):
        page.set_camera(look_at([x, 0.02, 0.55], [x, 0.5, 0.5]), 40)
        assert page.page.evaluate("smerf.stats().submodel") == k
        assert page.frame()[36, 48].argmax() == channel
    assert page.errors == []


def test_dragging_orbits_around_the_box(visit, scene_dir):
    page = visit(scene_dir, "ui=0&pos=0,-2.2,0.3&look=0,0,0", size=(160, 120)).ready()
    before = page.camera()
    page.page.mouse.move(60, 90)
    page.page.mouse.down()
    page.page.mouse.move(110, 90, steps=4)
    page.page.mouse.up()
    page.wait_until_still()
    after = page.camera()
    assert np.linalg.norm(after[:3, 3] - before[:3, 3]) > 0.3
    assert np.linalg.norm(after[:3, 3]) == pytest.approx(np.linalg.norm(before[:3, 3]), abs=1e-3)
    towards_target = -after[:3, 3] / np.linalg.norm(after[:3, 3])
    assert -after[:3, 2] @ towards_target == pytest.approx(1, abs=1e-4)
    # The scene follows the pointer to the right, so the camera goes to its left.
    assert (after[:3, 3] - before[:3, 3]) @ before[:3, 0] < 0


def test_keys_fly_forward_and_the_wheel_moves_nearer(visit, scene_dir):
    page = visit(scene_dir, "mode=fly&pos=0,-2.2,0&look=0,0,0", size=(160, 200)).ready()
    page.page.keyboard.down("w")
    page.page.wait_for_timeout(400)
    page.page.keyboard.up("w")
    page.wait_until_still()
    place = page.camera()[:3, 3]
    assert -2.15 < place[1] < -1.0 and abs(place[0]) < 1e-3 and abs(place[2]) < 1e-3
    page.page.keyboard.press("1")  # orbit
    page.page.mouse.move(80, 190)
    page.page.mouse.wheel(0, -200)
    page.wait_until_still()
    assert page.camera()[1, 3] > place[1] + 0.1


def test_double_click_makes_the_box_the_target(visit, scene_dir):
    page = visit(scene_dir, "ui=0&pos=0.5,-2.2,0&look=0.5,0,0").ready()
    page.page.mouse.dblclick(39, 36)
    page.wait_until_still()
    camera = page.camera()
    assert np.linalg.norm(camera[:3, 3] - [0.5, -2.2, 0]) < 0.05
    assert -camera[0, 2] < -0.05


def test_a_wrong_address_says_so_on_the_page(visit, scene_dir):
    page = visit(scene_dir, "dir=/nowhere/sm_000")
    page.page.wait_for_function("!document.querySelector('[role=alert]').hidden")
    assert "nowhere/sm_000/scene_params.json could not be loaded (HTTP 404)" in page.message()


def test_a_truncated_asset_is_named(visit, tmp_path):
    write_submodel(tmp_path / "sm_000", make_scene(), extension="raw")
    path = tmp_path / "sm_000" / "plane_rgb_1.raw"
    path.write_bytes(path.read_bytes()[:-5])
    page = visit(tmp_path)
    page.page.wait_for_function("!document.querySelector('[role=alert]').hidden")
    assert "plane_rgb_1.raw" in page.message()


def test_a_lost_context_comes_back_with_the_same_picture(visit, scene_dir):
    page = visit(scene_dir, "ui=0").ready()
    page.set_camera(FRONT, 40)
    before = page.frame()
    page.page.evaluate(
        "const gl = document.querySelector('canvas').getContext('webgl2');"
        "globalThis.loss = gl.getExtension('WEBGL_lose_context'); loss.loseContext()"
    )
    page.page.wait_for_function("!document.querySelector('[role=alert]').hidden")
    page.page.evaluate("loss.restoreContext()")
    page.page.wait_for_function("document.querySelector('[role=alert]').hidden")
    page.ready()
    assert np.array_equal(page.frame(), before)


def test_an_embedding_page_can_drive_the_viewer_by_messages(visit, scene_dir):
    page = visit(scene_dir, "ui=0").ready()
    answer = page.page.evaluate(
        """async ([address, matrix]) => {
          const frame = document.createElement("iframe");
          frame.src = address;
          document.body.append(frame);
          await new Promise((resolve) => (frame.onload = resolve));
          const ask = (smerf, args, id) => new Promise((resolve) => {
            addEventListener("message", ({ data }) => data.id === id && resolve(data));
            frame.contentWindow.postMessage({ smerf, args, id }, "*");
          });
          const set = await ask("setCamera", [matrix, 33], 1);
          const wrong = await ask("setCamera", [[1, 2], 33], 2);
          return { set, wrong, camera: await ask("getCamera", [], 3) };
        }""",
        [page.leave(), FRONT.ravel().tolist()],
    )
    assert "error" not in answer["set"]
    assert "12 or 16" in answer["wrong"]["error"]
    assert answer["camera"]["result"]["fovDegrees"] == 33
    assert np.allclose(answer["camera"]["result"]["cameraToWorld"], FRONT.ravel())


def test_buttons_have_names_and_help_opens_and_closes_by_keyboard(visit, scene_dir):
    page = visit(scene_dir, size=(700, 160)).ready().page
    for button in page.get_by_role("button").all():
        assert button.get_attribute("aria-label") or button.inner_text()
    page.keyboard.press("h")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.id === 'view'")
    assert page.locator("html").get_attribute("lang") == "en"
