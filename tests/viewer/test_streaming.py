"""Coarse first, then fine; submodels that come and go; what the page does when something breaks."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from smerf.baking.coarse import coarse_files
from smerf.export.site import export_site
from smerf.scene.example import example_scene
from smerf.scene.write import write_scene
from tests.helpers.tiny_scene import look_at

ROW = (2, 6, 10, 14, 18, 22, 26)
"""Regions of a 3^3 partition, one after the other; the camera walks through all of them."""
ROOM = look_at([0.1, -0.45, 0.12], [0, 0.5, 0])


def write(folder, scene, limit):
    submodels = (scene.submodel(k) for k in range(len(scene.params.params_to_sm)))
    coarse = partial(coarse_files, scene.params, scene.mlp, limit)
    write_scene(folder, scene.params, scene.mlp, submodels, scene.manifest, coarse=coarse)
    return folder


@pytest.fixture(scope="module")
def room_dir(tmp_path_factory):
    return write(tmp_path_factory.mktemp("room") / "baked", example_scene(128, lattice=1), limit=45_000)


@pytest.fixture(scope="module")
def many_dir(tmp_path_factory):
    return write(
        tmp_path_factory.mktemp("many") / "baked", example_scene(64, 3, ROW, lattice=1), limit=20_000
    )


@pytest.fixture(scope="module")
def pair_dir(tmp_path_factory):
    return write(tmp_path_factory.mktemp("pair") / "baked", example_scene(64, 2, (3, 7), lattice=1), limit=0)


def centre(region, edge):
    cell = np.array(np.unravel_index(region, (edge,) * 3))
    return (cell + 0.5) * 2 / edge - 1


def stats(page):
    return page.page.evaluate("smerf.stats()")


class Gate:
    """Holds requests whose address contains a text until it is opened."""

    def __init__(self, page, text):
        self.page, self.text, self.held, self.is_open, self.count = page.page, text, [], False, 0
        self.page.route("**/*", self._handle)

    def _handle(self, route):
        # The files of the full level have no "coarse" in their address.
        if self.text in route.request.url and "/coarse/" not in route.request.url:
            self.count += 1
            if not self.is_open:
                self.held.append(route)
                return
        route.continue_()

    def open(self):
        self.is_open = True
        for route in self.held:
            route.continue_()


def reload(page, gate_text):
    """Load the page again behind a gate."""
    gate = Gate(page, gate_text)
    page.page.reload()
    return gate


def test_a_coarse_picture_comes_first_and_the_full_one_replaces_it(visit, room_dir):
    page = visit(room_dir, "ui=0").ready()
    fine = page.frame()
    gate = reload(page, "plane_rgb")
    page.page.wait_for_function("smerf.stats().status === 'coarse'")
    page.page.wait_for_timeout(300)
    coarse = page.frame()
    first = stats(page)["firstPictureBytes"]
    page.page.evaluate("globalThis.isReady = false; void smerf.ready.then(() => (isReady = true))")
    page.page.wait_for_timeout(300)
    assert page.page.evaluate("isReady") is False, "ready must wait for the full detail"
    gate.open()
    page.ready()
    after = stats(page)
    assert after["status"] == "full" and after["loadedBytes"] == after["totalBytes"]
    assert 0 < first < 0.6 * after["loadedBytes"]
    assert np.array_equal(page.frame(), fine)
    assert 1 < abs(coarse - fine).mean() < 40
    assert page.errors == []


def test_nothing_blank_is_shown_between_the_levels(visit, room_dir):
    page = visit(room_dir, "ui=0").ready()
    gate = reload(page, "plane_rgb")
    page.page.wait_for_function("smerf.stats().status === 'coarse'")
    page.page.evaluate(
        """() => {
          globalThis.means = [];
          const canvas = document.querySelector("canvas");
          const small = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
          const look = () => {
            small.drawImage(canvas, 0, 0, 1, 1);
            means.push(small.getImageData(0, 0, 1, 1).data[0]);
            requestAnimationFrame(look);
          };
          look();
        }"""
    )
    gate.open()
    page.ready()
    means = page.page.evaluate("means")
    assert len(means) > 2 and max(means) - min(means) < 40


def test_walking_through_all_submodels_stays_under_the_ceiling(visit, many_dir):
    page = visit(many_dir, "ui=0&near=0.02&memory=0.6").ready()
    for region in (*ROW, *reversed(ROW)):
        place = centre(region, 3)
        page.set_camera(look_at(place, place + [0.1, 0.5, 0]))
        now = stats(page)
        assert now["submodel"] == ROW.index(region) and now["status"] == "full"
        assert 0 < now["textureBytes"] <= now["peakTextureBytes"] <= now["memoryCeilingBytes"] == 6e5
    assert stats(page)["evictions"] >= 4
    assert len(stats(page)["residentSubmodels"]) < len(ROW)
    assert page.errors == []


def test_a_ceiling_for_one_submodel_holds_while_the_next_one_comes(visit, pair_dir):
    page = visit(pair_dir, "ui=0&near=0.02&pos=-0.5,0.1,0.5&look=-0.5,0.9,0.5").ready()
    page.page.wait_for_function("smerf.stats().residentSubmodels.length === 2 && !smerf.stats().isLoading")
    one = stats(page)["textureBytes"] / 2
    page = visit(pair_dir, f"ui=0&near=0.02&memory={1.5e-6 * one}&pos=-0.5,0.1,0.5&look=-0.5,0.9,0.5").ready()
    gate = reload(page, "sm_007/plane_rgb")
    page.ready()
    page.page.evaluate(
        "(m) => void smerf.setCamera(m, 40)",
        look_at([0.5, 0.1, 0.5], [0.5, 0.9, 0.4]).ravel().tolist(),
    )
    page.page.wait_for_function("smerf.stats().evictions === 1")
    # A slow machine may have drawn the camera's way by what was there before.
    before = page.frame()
    assert np.ptp(before) > 60
    page.page.wait_for_timeout(300)
    now = stats(page)
    assert now["textureBytes"] <= now["peakTextureBytes"] <= now["memoryCeilingBytes"]
    assert np.array_equal(page.frame(), before), "the last picture stays"
    gate.open()
    page.ready()
    after = stats(page)
    assert after["submodel"] == 1 and after["status"] == "full"
    assert after["peakTextureBytes"] <= after["memoryCeilingBytes"]
    assert not np.array_equal(page.frame(), before) and page.errors == []


def settle(page):
    """Wait until the page has had nothing to load for a while."""
    page.page.evaluate("() => { globalThis.quiet = 0; }")
    page.page.wait_for_function(
        "(globalThis.quiet = smerf.stats().isLoading ? 0 : quiet + 1) > 10", polling=50
    )


def test_without_a_tight_ceiling_nothing_is_fetched_twice(visit, many_dir):
    page = visit(many_dir, "ui=0&near=0.02").ready()
    requests = []
    page.page.on("request", lambda request: requests.append(request.url))
    for region in (*ROW, *reversed(ROW)):
        # What is fetched ahead gives way, half done, to what a camera needs that moves on at once.
        settle(page)
        place = centre(region, 3)
        page.set_camera(look_at(place, place + [0.1, 0.5, 0]))
    assert len(requests) == len(set(requests))
    assert stats(page)["evictions"] == 0


def test_the_neighbour_is_there_before_it_is_needed(visit, pair_dir):
    page = visit(pair_dir, "ui=0&near=0.02&pos=-0.5,0.1,0.5&look=-0.5,0.9,0.5").ready()
    page.page.wait_for_function("smerf.stats().residentSubmodels.length === 2 && !smerf.stats().isLoading")
    requests = []
    page.page.on("request", lambda request: requests.append(request.url))
    page.set_camera(look_at([0.5, 0.1, 0.5], [0.5, 0.9, 0.5]))
    assert stats(page)["submodel"] == 1 and requests == []


def test_the_old_submodel_is_drawn_until_the_new_one_is_complete(visit, pair_dir):
    page = visit(pair_dir, "ui=0&near=0.02&pos=-0.5,0.1,0.5&look=-0.5,0.9,0.5").ready()
    gate = reload(page, "sm_007/plane_rgb")
    page.ready()
    page.page.evaluate(
        "(m) => void smerf.setCamera(m, 40)",
        look_at([0.05, 0.1, 0.5], [0.05, 0.9, 0.4]).ravel().tolist(),
    )
    page.page.wait_for_timeout(500)
    now = stats(page)
    assert (now["submodel"], now["status"], now["isLoading"]) == (0, "coarse", True)
    assert page.frame().std() > 5
    gate.open()
    page.ready()
    assert stats(page)["submodel"] == 1 and stats(page)["status"] == "full"


def test_a_lost_network_is_told_and_loading_goes_on_when_it_is_back(visit, pair_dir):
    page = visit(pair_dir, "ui=0&near=0.02&pos=-0.5,0.1,0.5&look=-0.5,0.9,0.5").ready()
    gate = reload(page, "sm_007/")
    page.ready()
    page.page.context.set_offline(True)
    gate.open()
    page.page.evaluate(
        "(m) => void smerf.setCamera(m, 40)",
        look_at([0.5, 0.1, 0.5], [0.5, 0.9, 0.5]).ravel().tolist(),
    )
    page.page.wait_for_function("!document.querySelector('[role=alert]').hidden")
    assert "No connection to 127.0.0.1" in page.message()
    page.page.context.set_offline(False)
    page.ready()
    assert stats(page)["submodel"] == 1
    assert page.page.locator("[role=alert]").is_hidden()


def test_a_busy_server_is_asked_again(visit, room_dir):
    page = visit(room_dir, "ui=0").ready()
    answers = []

    def busy(route):
        answers.append(route.request.url)
        route.fulfill(status=503) if len(answers) < 3 else route.continue_()

    page.page.route("**/sm_000/plane_rgb_1.png", busy)
    page.page.reload()
    page.ready()
    assert len(answers) == 3 and stats(page)["status"] == "full"


def test_a_broken_submodel_is_named_and_the_others_still_work(visit, pair_dir, tmp_path):
    import shutil

    shutil.copytree(pair_dir, tmp_path / "baked")
    path = tmp_path / "baked" / "sm_007" / "plane_features_2.png"
    path.write_bytes(path.read_bytes()[:200])
    page = visit(tmp_path / "baked", "ui=0&near=0.02&pos=-0.5,0.1,0.5&look=-0.5,0.9,0.5").ready()
    page.set_camera(look_at([-0.5, 0.1, 0.5], [-0.5, 0.9, 0.5]))
    before = page.frame()
    with pytest.raises(Exception, match="plane_features_2"):
        page.set_camera(look_at([0.5, 0.1, 0.5], [0.5, 0.9, 0.5]))
    assert "sm_007/plane_features_2.png" in page.message()
    page.set_camera(look_at([-0.5, 0.1, 0.5], [-0.5, 0.9, 0.5]))
    assert np.array_equal(page.frame(), before)
    assert page.page.locator("[role=alert]").is_hidden()


def test_a_broken_coarse_level_does_not_keep_the_full_one_away(visit, room_dir, tmp_path):
    import shutil

    shutil.copytree(room_dir, tmp_path / "baked")
    path = tmp_path / "baked" / "sm_000" / "coarse" / "plane_rgb_0.png"
    path.write_bytes(b"not a picture")
    frames = []
    for folder in (room_dir, tmp_path / "baked"):
        page = visit(folder, "ui=0").ready()
        frames.append(page.frame())
    assert np.array_equal(*frames)


def test_a_context_lost_while_loading_comes_back(visit, room_dir):
    page = visit(room_dir, "ui=0").ready()
    fine = page.frame()
    gate = reload(page, "plane_rgb")
    page.page.wait_for_function("smerf.stats().status === 'coarse' && smerf.stats().isLoading")
    page.page.evaluate(
        "const gl = document.querySelector('canvas').getContext('webgl2');"
        "globalThis.loss = gl.getExtension('WEBGL_lose_context'); loss.loseContext()"
    )
    page.page.wait_for_function("!document.querySelector('[role=alert]').hidden")
    assert "graphics device" in page.message()
    gate.open()
    page.page.evaluate("loss.restoreContext()")
    page.page.wait_for_function("document.querySelector('[role=alert]').hidden")
    page.ready()
    assert np.array_equal(page.frame(), fine)


def test_an_exported_site_starts_with_the_coarse_level(visit, room_dir, tmp_path):
    export_site(room_dir, tmp_path / "site")
    page = visit(tmp_path / "site", "ui=0").ready()
    now = stats(page)
    assert 0 < now["firstPictureBytes"] < now["loadedBytes"] == now["totalBytes"]
