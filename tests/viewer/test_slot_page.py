"""The page of a scene of slots: its frames against the PyTorch decoder, and what a visitor can do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smerf.capture.types import Camera
from smerf.errors import UsageError
from smerf.export.slot_site import export_slots
from smerf.objects.cameras import look_at, make_camera, resize_camera
from smerf.objects.config import PRESETS
from smerf.objects.editing.pack import pack_scene
from smerf.objects.editing.rendering import SlotRenderer
from smerf.objects.editing.slots import SavedSlots
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.store import model_digest
from tests.helpers.tiny_objects import tiny_model, tiny_scenes

MOVE = {"op": "move", "slot": 1, "translate": [0.5, -0.4, 0.0], "turn": 30.0}
SEED = 15  # all four slots own pixels
SIZE = (36, 30)  # width and height of the canvas


def make(operations=(), settings=("rays.slab_octaves=4",)):
    """A model of random weights whose masks have several owners, and slots that it did not encode."""
    model = tiny_model(*settings)
    torch.manual_seed(SEED)
    model.decoder.query.weight.mul_(6.0)
    for value in model.decoder.parameters():
        if value.ndim == 1:
            value.add_(0.1 * torch.randn_like(value))
    view = tiny_scenes(1)
    saved = SavedSlots(
        torch.randn(4, 24),
        (resize_camera(view.camera(0, 0), (15, 18)),),
        model_digest(model),
        "",
        tuple(operations),
    )
    return model, saved


def make_lean():
    """The largest model that the page is meant for: random weights of the preset gpu-lean."""
    torch.manual_seed(3)
    model = Osrt(PRESETS["gpu-lean"]).eval().requires_grad_(False)
    model.decoder.query.weight.mul_(6.0)
    for value in model.decoder.parameters():
        if value.ndim == 1:
            value.add_(0.1 * torch.randn_like(value))
    camera = make_camera(look_at(torch.tensor([6.0, 2.0, 3.5])), 0.785, (64, 64))
    return model, SavedSlots(torch.randn(6, 192), (camera,), model_digest(model), "")


def picture(model, saved, size=SIZE):
    return SlotRenderer(model, saved).render(saved.cameras[0], (size[1], size[0]))


def agree(frame, colour):
    wanted = np.rint(255 * colour.numpy())
    assert frame.shape == wanted.shape
    return (np.abs(frame - wanted).max(-1) <= 2).mean() >= 0.99


@pytest.fixture(scope="module")
def made():
    return make([MOVE])


@pytest.fixture
def opened(visit, made, tmp_path):
    export_slots(pack_scene(*made), tmp_path / "site", title="A & B")
    query = f"size={SIZE[0]},{SIZE[1]}"
    return visit(tmp_path / "site", query, size=(800, 500), reduced_motion="reduce").ready()


def test_a_frame_agrees_with_the_decoder_and_a_hidden_slot_with_a_removed_one(opened, made):
    model, saved = made
    whole = picture(model, saved)
    assert whole.colour.std() > 0.02 and len(whole.mask.unique()) > 2, "the test would see nothing"
    assert opened.frame().shape == (SIZE[1], SIZE[0], 3)
    assert agree(opened.frame(), whole.colour)
    slot = int(whole.mask.flatten().mode().values) + 1
    gone = SavedSlots(**{**vars(saved), "operations": (MOVE, {"op": "remove", "slot": slot})})
    opened.page.evaluate(f"smerf.setVisible({slot}, false)")
    assert not agree(opened.frame(), whole.colour)
    assert agree(opened.frame(), picture(model, gone).colour)
    opened.page.evaluate(f"smerf.setVisible({slot}, true)")
    assert agree(opened.frame(), whole.colour)
    assert opened.page.title() == "A & B" and opened.errors == []


def test_a_slot_that_an_edit_removed_is_gone_from_picture_and_list(visit, made, tmp_path):
    model, saved = made
    slot = int(picture(model, saved).mask.flatten().mode().values) + 1
    gone = SavedSlots(**{**vars(saved), "operations": (MOVE, {"op": "remove", "slot": slot})})
    export_slots(pack_scene(model, gone), tmp_path / "site")
    page = visit(tmp_path / "site", f"size={SIZE[0]},{SIZE[1]}", size=(800, 500)).ready()
    assert agree(page.frame(), picture(model, gone).colour)
    assert slot not in [each["number"] for each in page.page.evaluate("smerf.slots()")]
    assert page.page.locator("#objects-list li").count() == 3
    page.page.get_by_role("button", name="Masks").click()
    assert page.errors == []


def test_a_model_that_thinks_in_its_first_camera_is_drawn_from_anywhere(visit, tmp_path):
    model, saved = make(settings=("frame=reference", "decoder.layers=1", "decoder.render_layers=1"))
    export_slots(pack_scene(model, saved), tmp_path / "site")
    page = visit(tmp_path / "site", f"size={SIZE[0]},{SIZE[1]}&ui=0", size=(60, 60)).ready()
    assert agree(page.frame(), picture(model, saved).colour)
    matrix = np.eye(4)
    matrix[:3] = saved.cameras[0].world_from_cam
    matrix[:3, 3] += [0.4, 0.3, -0.2]
    page.set_camera(matrix, page.page.evaluate("smerf.getCamera().fovDegrees"))
    camera = Camera(saved.cameras[0].intrinsics, matrix[:3])
    wanted = SlotRenderer(model, saved).render(camera, (SIZE[1], SIZE[0]))
    assert agree(page.frame(), wanted.colour)


def test_the_sizes_of_gpu_lean_are_drawn_as_the_decoder_draws_them(visit, tmp_path):
    model, saved = make_lean()
    export_slots(pack_scene(model, saved), tmp_path / "site")
    page = visit(tmp_path / "site", "size=20,20&ui=0", size=(40, 40)).ready()
    wanted = picture(model, saved, (20, 20))
    assert len(wanted.mask.unique()) > 2, "the test would see nothing"
    assert agree(page.frame(), wanted.colour)
    assert page.errors == []


def test_masks_and_highlight_show_who_owns_a_pixel(opened, made):
    plain = opened.frame()
    mask = picture(*made).mask.numpy()
    slots = opened.page.evaluate("smerf.slots()")
    assert [slot["number"] for slot in slots] == [1, 2, 3, 4] and sum(s["isBackground"] for s in slots) == 1
    opened.page.get_by_role("button", name="Masks").click()
    for index, slot in enumerate(slots):
        if (mask == index).any():
            shown = 0.2 * plain[mask == index] + 0.8 * np.array(slot["colour"])
            assert np.abs(opened.frame()[mask == index] - shown).max() <= 3
    opened.page.get_by_role("button", name="Masks").click()
    owner = int(np.bincount(mask.ravel()).argmax())
    opened.page.locator("#objects-list .entry").nth(owner).click()
    assert np.array_equal(opened.frame()[mask == owner], plain[mask == owner])
    assert (opened.frame()[mask != owner].mean() < 0.7 * plain[mask != owner].mean()).all()


def test_keyboard_and_clicks_hide_slots_but_never_the_last(opened, made):
    tab, keys = opened.page, opened.page.keyboard
    tab.click("#coach-end")
    mask = picture(*made).mask.numpy()
    owner = int(np.bincount(mask.ravel()).argmax())
    box = tab.locator("#view").bounding_box()
    row, column = np.argwhere(mask == owner)[len(np.argwhere(mask == owner)) // 2]
    tab.mouse.click(box["x"] + column + 0.5, box["y"] + row + 0.5)
    chosen = tab.locator("#objects-list .entry[aria-pressed=true]")
    assert f"{owner + 1}" in chosen.inner_text() and "#object" not in opened.page.url
    keys.press("h")
    assert tab.evaluate("smerf.stats().visible") == 3
    tab.evaluate("navigator.clipboard.writeText = async (text) => { globalThis.copied = text; }")
    keys.press("c")
    tab.wait_for_function("globalThis.copied")
    assert tab.evaluate("copied").endswith(f"&object={owner + 1}&hidden={owner + 1}")
    keys.press("Escape")
    tab.click("#objects-all")
    tab.focus("#objects-search")
    keys.press("ArrowDown")
    keys.press("Home")
    for _ in range(4):
        keys.press("Enter")
        keys.press("Delete")
        keys.press("ArrowDown")
    opened.ready()
    assert tab.evaluate("smerf.stats().visible") == 1
    assert "must stay visible" in tab.locator("#notice").inner_text()
    error = tab.evaluate("smerf.setVisible(4, false).catch(({ message }) => message)")
    assert "must stay visible" in error and opened.errors == []


def test_the_page_of_slots_is_the_page_of_scenes(visit, made, tmp_path, violations):
    export_slots(pack_scene(*made), tmp_path / "site")
    query = f"size={SIZE[0]},{SIZE[1]}&lang=de#hidden=2,9"
    page = visit(tmp_path / "site", query, size=(390, 844), bypass_csp=True, color_scheme="dark").ready()
    tab = page.page
    assert "das Objekt 9" in tab.locator("#notice").inner_text()
    assert [each["isVisible"] for each in tab.evaluate("smerf.slots()")] == [True, False, True, True]
    tab.click("#coach-end")
    for button in ("#button-path", "#button-measure", "#button-orbit"):
        assert tab.locator(button).is_hidden()
    tab.click("#button-more")
    tab.click("#button-objects")
    assert tab.locator("[aria-label='Slot 2 zeigen']").is_visible()
    assert violations(tab) == []
    tab.click("#button-help")
    assert violations(tab) == []


def test_visitors_turn_no_further_than_the_model_has_seen(visit, made, tmp_path):
    export_slots(pack_scene(*made, azimuth=40.0), tmp_path / "site")
    page = visit(tmp_path / "site", "size=16,16&ui=0", size=(200, 200)).ready()
    start = page.camera()
    page.page.keyboard.down("ArrowLeft")
    page.page.wait_for_timeout(1500)
    page.page.keyboard.up("ArrowLeft")
    page.wait_until_still()
    x, y = page.camera()[:2, 3]
    assert not np.allclose(page.camera(), start)
    assert abs(np.degrees(np.arctan2(y, x))) <= 40.5


def test_an_embedded_slot_page_answers_a_request_once(opened):
    answers = opened.page.evaluate(
        """async (address) => {
          let count = 0;
          const frame = document.createElement("iframe");
          addEventListener("message", ({ data }) => (count += data.id === 1));
          frame.src = address;
          const opened = new Promise((done) => {
            addEventListener("message", ({ data }) => data.smerf === "opened" && done());
          });
          document.body.append(frame);
          await opened;
          frame.contentWindow.postMessage({ smerf: "getCamera", id: 1 }, "*");
          await new Promise((done) => setTimeout(done, 1500));
          return count;
        }""",
        opened.leave(),
    )
    assert answers == 1


def test_one_file_opens_offline(visit, made, tmp_path):
    page = export_slots(pack_scene(*made), tmp_path / "scene.html", single_file=True)
    shown = visit(page.as_uri(), f"dpr=1&size={SIZE[0]},{SIZE[1]}&ui=0", size=(60, 60)).ready()
    assert agree(shown.frame(), picture(*made).colour)
    assert shown.errors == []


def test_a_damaged_scene_is_explained(visit, made, tmp_path):
    export_slots(pack_scene(*made), tmp_path / "site")
    (tmp_path / "site/slots/network.bin").write_bytes(b"short")
    page = visit(tmp_path / "site")
    page.page.locator("[role=alert]").wait_for()
    assert "network.bin" in page.message() and "export the scene again" in page.message()


def test_foreign_folders_and_other_decoders_are_refused(made, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not an exported page"):
        export_slots(pack_scene(*made), tmp_path / "mine")
    assert (tmp_path / "mine/letter.txt").exists()
    model = tiny_model("decoder.kind=broadcast")
    saved = SavedSlots(**{**vars(made[1]), "model": model_digest(model)})
    with pytest.raises(UsageError, match="kind=broadcast"):
        pack_scene(model, saved)
