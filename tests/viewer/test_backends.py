"""WebGPU beside WebGL2: the same pictures, who chooses, a lost device."""

from __future__ import annotations

import base64
import io
from functools import partial

import numpy as np
import pytest
from PIL import Image

from smerf.baking.coarse import coarse_files
from smerf.evaluation.viewers import WebGPUViewer
from smerf.export.site import export_site
from smerf.render.march import render_camera, render_ids
from smerf.scene.example import example_camera, example_scene
from smerf.scene.view import MarchOptions
from smerf.scene.write import write_scene
from tests.viewer.conftest import start_browser

SIZE = (96, 72)
RED, BLUE = 1, 77
HARDWARE = "Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false });"
"""The adapter of the tests passes for a device of its own."""
HEADSET = """Object.defineProperty(navigator, "xr", { value: { isSessionSupported: async () => true } });"""
BROKEN = """GPUDevice.prototype.createComputePipelineAsync = async () => {
  throw new Error("unknown word");
};"""
SILENT = "GPU.prototype.requestAdapter = () => new Promise(() => {});"
DEVICES = """
  globalThis.gate = Promise.resolve();
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...given) {
    await gate;
    return (globalThis.device = await requestDevice.apply(this, given));
  };
"""


@pytest.fixture(scope="module")
def browser():
    """A browser whose WebGPU is drawn in software."""
    with start_browser(WebGPUViewer.flags) as browser:
        page = browser.new_page()
        page.goto("chrome://version")
        has = page.evaluate("navigator.gpu?.requestAdapter().then((adapter) => adapter !== null) ?? false")
        page.close()
        if not has:
            pytest.skip("Chromium gives no WebGPU adapter here")
        yield browser


@pytest.fixture(scope="module")
def scene():
    """Two submodels with a known region and objects, side by side."""
    return example_scene(64, 2, (3, 7), region=True, objects=True)


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory, scene):
    folder = tmp_path_factory.mktemp("backends") / "baked"
    parts = (scene.submodel(k) for k in (0, 1))
    coarse = partial(coarse_files, scene.params, scene.mlp, 20_000)
    write_scene(folder, scene.params, scene.mlp, parts, scene.manifest, coarse=coarse)
    return folder


def camera_in(scene, k):
    """Return a camera in a submodel that sees furniture and what lies outside."""
    camera = example_camera(*SIZE)
    pose = camera.world_from_cam.copy()
    pose[:, 3] = scene.params.submodel_centre(k) + [0.03, -0.4, -0.4]
    return type(camera)(camera.intrinsics, pose)


def go(page, camera):
    page.set_camera(np.concatenate([camera.world_from_cam, [[0, 0, 0, 1]]]), 70.0)


def picture(page):
    """Return the finished image; the canvas of WebGPU keeps nothing."""
    png = page.page.evaluate(
        """async () => {
          const bytes = new Uint8Array(await (await smerf.picture()).arrayBuffer());
          return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
        }"""
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), np.int16)


def backend(page):
    return page.page.evaluate("[smerf.stats().backend, smerf.stats().backendReason ?? '']")


def test_both_draw_the_frames_of_the_native_renderer(visit, scene, scene_dir):
    pages = {name: visit(scene_dir, f"ui=0&free=1&backend={name}").ready() for name in ("webgpu", "webgl")}
    assert [backend(page)[0] for page in pages.values()] == ["WebGPU", "WebGL2"]
    places = [(0.2, 0.7), (0.5, 0.5), (0.8, 0.9)]
    seen = set()
    for k in (0, 1):
        camera = camera_in(scene, k)
        # The second without one object and with another lit, from the first picture of its submodel on.
        options = MarchOptions(hidden=frozenset({BLUE}), lit=frozenset({RED})) if k else MarchOptions()
        expected = np.rint(255 * render_camera(scene, camera, options=options))
        owners = render_ids(scene, camera, options=options)
        bare = 255 * render_camera(scene, camera, options=MarchOptions(fade_unknown=False))
        assert abs(bare - expected).max() > 40
        seen |= set(np.unique(owners))
        found = {}
        for name, page in pages.items():
            if k:
                page.page.evaluate(f"smerf.setObjects({{ hidden: [{BLUE}], lit: [{RED}] }})")
            go(page, camera)
            assert page.page.evaluate("smerf.stats().submodel") == k
            image = picture(page)
            assert image.std() > 20
            assert (abs(image - expected).max(-1) <= 2).mean() >= 0.999, name
            ask = """(places) => Promise.all(
              places.map(async (at) => [await smerf.pick(...at), await smerf.objectAt(...at)]),
            )"""
            found[name] = page.page.evaluate(ask, places)
        for (u, v), ours, theirs in zip(places, found["webgpu"], found["webgl"], strict=True):
            assert ours[1] == theirs[1]
            assert ((ours[1] or {"id": 0})["id"]) == owners[int(v * SIZE[1]), int(u * SIZE[0])]
            assert (ours[0] is None) == (theirs[0] is None)
            assert ours[0] is None or np.allclose(ours[0], theirs[0], atol=1e-4)
    assert len(seen) > 1
    assert pages["webgpu"].errors == []


def test_a_lost_device_comes_back_with_the_same_picture(visit, scene, scene_dir):
    page = visit(scene_dir, "ui=0&backend=webgpu", script=DEVICES).ready()
    go(page, camera_in(scene, 0))
    before = picture(page)
    page.page.evaluate(
        "globalThis.gate = new Promise((resolve) => (globalThis.letGo = resolve)); device.destroy()"
    )
    page.page.wait_for_function("!document.querySelector('[role=alert]').hidden")
    assert "graphics device" in page.message()
    assert page.page.evaluate("smerf.pick(0.5, 0.5)") is None
    page.page.evaluate("letGo()")
    page.page.wait_for_function("document.querySelector('[role=alert]').hidden")
    page.ready()
    assert np.array_equal(picture(page), before) and backend(page)[0] == "WebGPU"
    page.page.set_viewport_size({"width": 120, "height": 72})
    page.page.wait_for_function("document.querySelector('canvas').width === 120")
    # As high as before: the middle shows the same, with more at both sides.
    wide = picture(page)
    assert wide.shape == (72, 120, 3) and abs(wide[:, 12:-12] - before).max() <= 1
    assert page.errors == []


def test_the_page_chooses_by_itself_and_the_address_may_force_it(visit, scene_dir, tmp_path):
    export_site(scene_dir, tmp_path / "site")
    single = export_site(scene_dir, tmp_path / "one.html", single_file=True)
    page = visit(tmp_path / "site", "memory=0.4").ready()
    assert (
        backend(page) == ["WebGL2", "The WebGPU adapter is software."]
        and page.page.locator("#notice").is_hidden()
    )
    plain = picture(page)
    page = visit(tmp_path / "site", "memory=0.4", script=HARDWARE).ready()
    assert backend(page) == ["WebGPU", ""]
    now = page.page.evaluate("smerf.stats()")
    assert (
        now["textureBytes"] <= now["peakTextureBytes"] <= 4e5
        and 0 < now["firstPictureBytes"] < now["loadedBytes"]
    )
    page.page.locator("#view").focus()
    page.page.keyboard.press("i")
    assert "WebGPU" in page.page.locator("#statistics").inner_text()
    assert (abs(picture(page) - plain).max(-1) <= 2).mean() >= 0.999
    page = visit(tmp_path / "site", script=HARDWARE + HEADSET).ready()
    assert backend(page) == ["WebGL2", "Headsets are drawn to by WebGL2."]
    assert page.page.locator("#button-vr").is_visible()
    page = visit(single.as_uri(), "dpr=1&backend=webgpu", script=HEADSET).ready()
    assert backend(page) == ["WebGPU", ""] and page.page.locator("#button-vr").is_hidden()
    page = visit(tmp_path / "site", "backend=webgpu", script=BROKEN).ready()
    assert backend(page)[0] == "WebGL2" and "unknown word" in backend(page)[1] and page.errors == []
    page = visit(tmp_path / "site", script=SILENT).ready()
    assert backend(page) == ["WebGL2", "The browser's WebGPU does not answer."]
    page = visit(tmp_path / "site", "backend=metal", script="delete Navigator.prototype.gpu;").ready()
    assert backend(page)[0] == "WebGL2" and "no WebGPU" in backend(page)[1]
    assert "backend must be one of auto, webgl, webgpu" in page.page.locator("#notice").inner_text()
