"""What the known region does in the page: the picture, where it opens, what holds the camera, walking."""

from __future__ import annotations

import json

import numpy as np
import pytest

from smerf.export.desktop import desktop_viewer
from smerf.render.march import render_camera
from smerf.scene.example import example_camera, example_scene
from smerf.scene.view import MarchOptions
from smerf.scene.walk import Place
from smerf.scene.write import write_scene
from tests.helpers.example_regions import unseen_beside
from tests.helpers.tiny_scene import look_at
from tests.helpers.walk_room import VECTORS

desktop_viewer("visitor")

from smerf.viewer.desktop.visitor import look  # noqa: E402

FLOOR = -0.62


@pytest.fixture(scope="module")
def scene():
    return example_scene(64, region=True)


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory, scene):
    folder = tmp_path_factory.mktemp("region") / "scene"
    write_scene(folder, scene.params, scene.mlp, [scene.submodel(0)], scene.manifest)
    return folder


def test_unknown_places_fade_as_the_native_renderer_fades_them(visit, scene, scene_dir):
    page = visit(scene_dir, "ui=0").ready()
    camera = example_camera(96, 72)
    page.set_camera(np.concatenate([camera.world_from_cam, [[0, 0, 0, 1]]]), 70.0)
    expected = 255 * render_camera(scene, camera)
    difference = abs(page.frame() - expected).max(-1)
    assert (difference <= 2.5).mean() >= 0.999
    bare = 255 * render_camera(scene, camera, options=MarchOptions(fade_unknown=False))
    assert abs(page.frame() - bare).max() > 60
    assert page.errors == []


def test_the_page_opens_where_photos_cover_the_canvas(visit, scene_dir):
    wide = visit(scene_dir, size=(192, 72)).ready()
    tall = visit(scene_dir, size=(72, 144)).ready()
    lens = [each.page.evaluate("smerf.getCamera().fovDegrees") for each in (wide, tall)]
    # The stored view is square and 60 degrees wide: neither canvas shows more of it, in either direction.
    assert np.tan(np.radians(lens[0] / 2)) == pytest.approx(np.tan(np.radians(30)) * 72 / 192, rel=1e-3)
    assert lens[1] == pytest.approx(60)
    assert np.allclose(tall.camera()[:3], example_camera().world_from_cam, atol=1e-6)


def sidestep(page):
    """Hold a key for four seconds; return how far along x the camera ends."""
    page.set_camera(look_at([-0.5, -0.4, 0.0], [-0.5, 0.5, 0.0]), 60)
    page.page.locator("#view").focus()
    page.page.keyboard.down("KeyD")
    page.page.wait_for_timeout(4000)
    page.page.keyboard.up("KeyD")
    page.wait_until_still()
    return page.camera()[0, 3]


def test_the_camera_comes_back_from_what_nobody_photographed(visit, scene_dir):
    page = visit(scene_dir, "mode=fly", size=(120, 90)).ready()
    # Photos look as far as x = 0.1 and all along y; without the region four seconds would lead far beyond.
    assert -0.5 < sidestep(page) < 0.4
    assert "photographed" in page.page.locator("#notice").inner_text()


def test_the_page_judges_views_as_the_window_does(visit, scene, scene_dir):
    """Nobody looks through what no photo looked into: it may hold anything."""
    page, place = visit(scene_dir, "ui=0"), Place.of(scene, 0)
    basis = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    places = [[-0.4, -0.4, 0.0], [-0.3, -0.5, 0.0], [-0.4, -0.4, 0.1], [-0.2, -0.5, 0.0]]
    shares = []
    for known in (place.known, unseen_beside(place.known, place.scale)):
        place.known = known
        expected = [look(place, np.array(each), tuple(basis), (0.6, 0.6))[0] for each in places]
        found = page.page.evaluate(
            """async ({ module, places, scale, solid, known }) => {
                const { Visitor } = await import(module);
                const grid = ({ cells, bytes }) => ({ cells, data: Uint8Array.from(bytes) });
                const level = { k: 0, solid: grid(solid), region: grid(known) };
                const scene = {
                  params: { submodel_scale: scale }, assets: {}, region: { reach: 0 }, centre: () => [0, 0, 0],
                };
                const fov = (2 * Math.atan(0.6) * 180) / Math.PI;
                const visitor = new Visitor({ scene, level: () => level, fov: () => fov, aspect: () => 1, tell() {} });
                const basis = { right: [1, 0, 0], up: [0, 0, 1], forward: [0, 1, 0] };
                return places.map((origin) => visitor.look(origin, basis).share);
            }""",
            {
                "module": page.page.evaluate(
                    "new URL('visitor.js', document.querySelector('script[src]').src).href"
                ),
                "places": places,
                "scale": place.scale,
                "solid": grid_of(place.occupancy),
                "known": grid_of(known),
            },
        )
        assert found == pytest.approx(expected, abs=1e-5)
        shares.append(expected)
    assert shares[0][0] > 0.95 and shares[1][0] < 0.7


def grid_of(array):
    """Return a grid [x, y, z] as the page keeps it: x fastest."""
    return {"cells": len(array), "bytes": array.swapaxes(0, 2).ravel().tolist()}


def test_a_setting_lets_the_camera_go(visit, scene_dir):
    assert sidestep(visit(scene_dir, "mode=fly&free=1", size=(120, 90)).ready()) > 0.6


def test_the_page_walks_as_python_does(visit, scene_dir):
    page = visit(scene_dir, "ui=0")
    vectors = json.loads(VECTORS.read_text())
    found = page.page.evaluate(
        """async ({ eye, cells, solid, walks, module }) => {
          const { Place, Walker, bodyOfEye } = await import(module);
          const place = new Place({ centre: [0, 0, 0], scale: 1 }, { cells, data: new Uint8Array(solid) });
          return walks.map(({ start, moves }) => {
            const walker = new Walker(place, bodyOfEye(eye), start);
            return moves.map(([dx, dy, dt]) => (walker.move(dx, dy, dt), walker.position));
          });
        }""",
        vectors | {"module": page.page.evaluate("new URL('walk.js', document.querySelector('script[src]').src).href")},
    )  # fmt: skip
    for ours, walk in zip(found, vectors["walks"], strict=True):
        assert np.allclose(ours, walk["positions"], atol=1e-9)


def test_a_visitor_walks_on_the_floor_and_stops_at_the_furniture(visit, tmp_path):
    scene = example_scene(128, region=True)
    write_scene(tmp_path / "fine", scene.params, scene.mlp, [scene.submodel(0)], scene.manifest)
    page = visit(tmp_path / "fine", "free=1", size=(120, 90)).ready()
    assert page.page.locator("#button-walk").get_attribute("aria-pressed") == "true"
    page.set_camera(look_at([-0.45, -0.5, 0.1], [-0.45, 0.5, 0.1]), 60)
    page.page.locator("#view").focus()
    page.page.keyboard.down("KeyW")
    page.page.wait_for_timeout(5000)
    page.page.keyboard.up("KeyW")
    page.wait_until_still()
    _, y, z = page.camera()[:3, 3]
    # The box begins at y = 0.3, as seen by cells of a sixteenth.
    assert -0.4 < y < 0.3 and abs(z - FLOOR - 0.55) < 0.2
    assert page.errors == []
