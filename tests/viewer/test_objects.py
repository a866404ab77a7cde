"""The objects of a scene on its page: hidden and lit in the picture, chosen by mouse or keyboard, shared by a link."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from smerf.scene import load_scene
from smerf.scene.example import example_scene
from smerf.scene.write import write_scene

SIZE = (900, 640)
RED, BLUE = 1, 77
PIXELS = (90, 64)
"""Of the canvas: a tenth of the page."""
SOFT = 8
"""Pixels of the canvas over which an object fades out: two of the sparse voxels."""


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects") / "scene"
    scene = example_scene(64, objects=True)
    write_scene(folder, scene.params, scene.mlp, [scene.submodel(0)], scene.manifest)
    return folder


@pytest.fixture
def room(visit, scene_dir):
    """Open the room with its two boxes, in few pixels."""
    return lambda query="", size=SIZE, **options: visit(
        scene_dir, f"dpr=0.1&{query}", size=size, reduced_motion="reduce", **options
    ).ready()


def edit_manifest(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def ids(page):
    """Return the object that each pixel of the canvas shows."""
    found = page.page.evaluate(
        """async ([width, height]) => {
          const out = [];
          for (let y = 0; y < height; y++) {
            for (let x = 0; x < width; x++) {
              out.push((await smerf.objectAt((x + 0.5) / width, (y + 0.5) / height))?.id ?? 0);
            }
          }
          return out;
        }""",
        PIXELS,
    )
    return np.array(found).reshape(PIXELS[::-1])


def near(mask, reach):
    """Return the pixels within so many of a mask."""
    grown = mask.copy()
    for _ in range(reach):
        padded = np.pad(grown, 1)
        grown = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:] | grown
    return grown


def objects(page):
    return page.page.evaluate("smerf.getObjects()")


def text(page, selector):
    return page.page.locator(selector).inner_text()


def test_hiding_changes_the_picture_where_the_object_is_and_nowhere_else(room):
    page = room("ui=0")
    plain, owner = page.frame(), ids(page)
    assert set(np.unique(owner)) == {0, RED, BLUE}
    is_red = owner == RED
    page.page.evaluate("smerf.setObjects({ hidden: ['Red Box'] })")
    change = abs(page.frame() - plain).max(-1)
    assert (change[is_red] > 20).mean() > 0.9
    assert change[~near(is_red, SOFT)].max() <= 1
    assert RED not in ids(page)
    page.page.evaluate(f"smerf.setObjects({{ hidden: [{BLUE}] }})")
    touched = abs(page.frame() - plain).max(-1) > 0
    page.page.evaluate(f"smerf.setObjects({{ hidden: [], lit: [{BLUE}] }})")
    lit, is_blue = page.frame(), owner == BLUE
    towards = np.linalg.norm(lit - (255, 184, 51), axis=-1) / np.linalg.norm(plain - (255, 184, 51), axis=-1)
    assert np.median(towards[is_blue]) == pytest.approx(0.5, abs=0.05)
    assert is_blue[touched].mean() > 0.5 and abs(lit - plain)[~touched].max() <= 1
    page.page.evaluate("smerf.setObjects({ lit: [] })")
    assert np.array_equal(page.frame(), plain)
    error = page.page.evaluate("smerf.setObjects({ hidden: ['teapot'] }).catch(({ message }) => message)")
    assert "no object teapot" in error and page.errors == []


def test_the_keyboard_alone_finds_selects_measures_hides_and_isolates(room):
    page = room()
    tab, keys = page.page, page.page.keyboard
    keys.press("Enter")
    tab.focus("#view")
    keys.press("o")
    assert text(page, "#objects-text") == "Objects: 2"
    tab.focus("#objects-search")
    keys.type("BLUE")
    assert tab.locator("#objects-list li").count() == 1 and text(page, "#objects-text") == "1 of 2"
    keys.press("ArrowDown")
    keys.press("Enter")
    page.wait_until_still()
    assert objects(page)["selected"] == BLUE
    # In the middle of what the panel leaves free.
    assert page.page.evaluate("smerf.objectAt(0.3, 0.5)") == {"id": BLUE, "name": "blue box"}
    assert tab.locator("#marks line.box").count() == 24
    assert "0.300 × 0.300 × 0.400" in text(page, "#objects-size")
    whole = page.frame()
    keys.press("Delete")
    page.ready()
    assert objects(page)["hidden"] == [BLUE] and text(page, "#objects-text").endswith("Hidden: 1")
    assert abs(page.frame() - whole)[32, 27].max() > 20
    keys.press("Tab")
    keys.press("Space")
    page.ready()
    # All but the blue box is gone: around it is nothing.
    assert sorted(objects(page)["hidden"]) == [0, RED]
    corners = page.frame()[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.ptp(corners, axis=0).max() <= 3
    keys.press("Escape")
    assert objects(page)["selected"] is None and tab.locator("#objects").is_visible()
    tab.focus("#objects-search")
    keys.press("Escape")
    assert tab.locator("#objects-list li").count() == 3
    tab.click("#objects-all")
    page.ready()
    assert objects(page)["hidden"] == []
    keys.press("Escape")
    assert tab.locator("#objects").is_hidden() and page.errors == []


def test_a_click_selects_a_drag_turns_and_a_link_brings_it_all_back(room):
    page = room("theme=dark")
    tab = page.page
    tab.click("#coach-end")
    owner = ids(page)
    before = page.camera()
    y, x = (int(each) for each in np.argwhere(owner == RED).mean(0))
    tab.keyboard.press("o")
    tab.mouse.click(10 * x + 5, 10 * y + 5)
    assert objects(page)["selected"] == RED and text(page, "#notice") == "red box"
    assert np.array_equal(page.camera(), before)
    tab.mouse.move(300, 300)
    tab.mouse.down()
    tab.mouse.move(340, 310)
    tab.mouse.up()
    page.wait_until_still()
    assert objects(page)["selected"] == RED and not np.allclose(page.camera(), before)
    tab.keyboard.press("h")
    page.ready()
    assert tab.locator("#help").is_hidden()
    tab.evaluate("navigator.clipboard.writeText = async (text) => { globalThis.copied = text; }")
    tab.keyboard.press("c")
    tab.wait_for_function("globalThis.copied")
    address = tab.evaluate("copied")
    assert address.endswith("&object=red%20box&hidden=red%20box")
    hidden = page.frame()
    tab.goto("about:blank")
    tab.goto(address)
    page.ready()
    assert (objects(page)["selected"], objects(page)["hidden"]) == (RED, [RED])
    # The camera is written with five digits.
    assert (abs(page.frame() - hidden).max(-1) <= 3).mean() > 0.98
    tab.evaluate("location.hash = 'object=77&hidden=teapot,0'")
    tab.locator("#notice").filter(has_text="the object teapot").wait_for()
    page.wait_until_still()
    assert (objects(page)["selected"], objects(page)["hidden"]) == (BLUE, [0])
    assert tab.evaluate("smerf.objectAt(0.3, 0.5)")["id"] == BLUE


def test_what_a_manifest_says_wrongly_is_told_and_names_are_never_markup(visit, scene_dir, tmp_path):
    folder = Path(shutil.copytree(scene_dir, tmp_path / "scene"))
    name = "<img src=x onerror='globalThis.wasRun = 1'>"

    def spoil(manifest):
        first, second = manifest["objects"]["list"]
        first["name"] = name
        wrong = [{**second, "id": 300}, {**second, "colour": [2, 0, 0]}, {**second, "box": 7}, None]
        manifest["objects"]["list"] += wrong

    edit_manifest(folder, spoil)
    page = visit(folder, f"dpr=0.1&hidden={BLUE}", size=SIZE).ready()
    assert "left out: 4" in text(page, "#notice")
    page.page.focus("#view")
    page.page.keyboard.press("o")
    assert name in text(page, "#objects-list") and page.page.evaluate("globalThis.wasRun") is None
    assert objects(page)["hidden"] == [BLUE]
    held = page.page.evaluate("smerf.stats().textureBytes")
    edit_manifest(folder, lambda manifest: manifest.pop("objects"))
    fetched = []
    page.page.on("request", lambda request: fetched.append(request.url))
    page.page.reload()
    page.ready()
    assert "this scene does not have" in text(page, "#notice")
    assert page.page.locator("#button-objects").is_hidden()
    assert fetched and not [url for url in fetched if "object_ids" in url]
    voxels = load_scene(scene_dir).submodel(0).object_ids.size
    assert held - page.page.evaluate("smerf.stats().textureBytes") == voxels


@pytest.mark.parametrize(("scheme", "size"), [("light", SIZE), ("dark", (390, 844))])
def test_the_panel_fits_phones_and_keeps_the_rules_of_accessibility(
    visit, scene_dir, violations, scheme, size
):
    page = visit(
        scene_dir, "dpr=0.1#object=blue box", size=size, color_scheme=scheme, bypass_csp=True, has_touch=True
    ).ready()
    tab = page.page
    tab.click("#coach-end")
    panel, dock = (tab.locator(selector).bounding_box() for selector in ("#objects", "#dock"))
    assert panel["x"] >= 0 and panel["x"] + panel["width"] <= size[0]
    assert panel["y"] + panel["height"] <= dock["y"]
    assert violations(tab) == []
    is_sheet = panel["width"] > 0.7 * size[0]
    free = (size[0] / 2, panel["y"] / 2) if is_sheet else (panel["x"] / 2, size[1] / 2)
    tab.touchscreen.tap(*free)
    assert objects(page)["selected"] is None, "the object is there, and was chosen before"
    tab.touchscreen.tap(*free)
    assert objects(page)["selected"] == BLUE
    tab.click("[aria-label='Hide red box']")
    assert tab.locator("[aria-label='Show red box']").is_visible()
    assert violations(tab) == []
