"""Measuring, notes, help, phones, and what the page does where something fails; all of it by keyboard as well."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.helpers.tiny_scene import look_at

FRONT = "pos=0,-2.4,0&look=0,0,0&fov=40"
SIZE = (760, 460)


@pytest.fixture
def still(visit, described_dir):
    """Open the box from the front at a fair size with few pixels."""
    return lambda query="", size=SIZE, **options: visit(
        described_dir, f"dpr=0.1&{FRONT}&{query}", size=size, reduced_motion="reduce", **options
    ).ready()


def text(page, selector):
    return page.page.locator(selector).inner_text()


# Measuring


def test_two_clicks_measure_what_the_rays_hit_and_one_known_length_gives_units(still):
    page = still(locale="de-DE")
    tab = page.page
    tab.focus("#view")
    tab.keyboard.press("m")
    focal = SIZE[1] / 2 / np.tan(np.radians(20))
    for x in (-60, 60):
        tab.mouse.click(SIZE[0] / 2 + x, SIZE[1] / 2)
    points = tab.evaluate("smerf.getAnnotations()")["measurements"][0]
    ends = np.array([points["from"], points["to"]])
    # The front of the box: dense samples end at 0.375 and the next, empty ones lie at 0.625.
    assert (ends[:, 1] > -0.625).all() and (ends[:, 1] < -0.375).all()
    assert np.allclose(ends[:, 0], np.array([-60, 60]) / focal * (2.4 + ends[:, 1]), atol=0.01)
    length = np.linalg.norm(ends[1] - ends[0])
    assert f"{length:.3f}".replace(".", ",") in text(page, "#measure-text")
    tab.fill("#measure-known", "2.5")
    tab.keyboard.press("Enter")
    assert text(page, "#measure-text") == text(page, ".length") == "2,50 m"
    tab.reload()
    page.ready()
    assert tab.evaluate("smerf.getAnnotations()")["metres_per_unit"] == pytest.approx(2.5 / length)


def test_measuring_by_keyboard_takes_the_middle_and_gives_clicks_back(still):
    page = still()
    tab = page.page
    tab.keyboard.press("m")
    tab.keyboard.press("Enter")
    assert tab.locator("#crosshair").is_visible()
    tab.keyboard.press("ArrowRight")
    page.wait_until_still()
    tab.keyboard.press("Enter")
    assert len(tab.evaluate("smerf.getAnnotations()")["measurements"]) == 1
    tab.click("#measure-undo")
    assert tab.evaluate("smerf.getAnnotations()")["measurements"] == []
    tab.keyboard.press("Escape")
    before = page.camera()
    tab.mouse.click(SIZE[0] / 2, SIZE[1] / 2)
    assert tab.evaluate("smerf.getAnnotations()")["measurements"] == [] and np.array_equal(
        page.camera(), before
    )


def test_nothing_is_measured_where_nothing_is(still):
    page = still()
    page.page.keyboard.press("m")
    page.page.mouse.click(5, 200)
    assert "nothing at this point" in text(page, "#notice")


# Notes


def test_notes_are_written_undone_saved_and_opened_again(still, tmp_path):
    page = still()
    tab = page.page
    tab.keyboard.press("n")
    tab.click("#notes-add")
    tab.mouse.click(SIZE[0] / 2, SIZE[1] / 2)
    assert tab.evaluate("document.activeElement.id") == "note-title"
    tab.keyboard.type("The box")
    tab.fill("#note-text", "Red.")
    tab.fill("#note-link", "javascript:alert(1)")
    tab.click("#note-form [type=submit]")
    assert "The box" in text(page, "#notes-list")
    with tab.expect_download() as download:
        tab.click("#notes-save")
    download.value.save_as(tmp_path / "notes.json")
    saved = json.loads((tmp_path / "notes.json").read_text())["annotations"][0]
    assert (saved["title"], saved["text"]) == ("The box", "Red.") and -0.625 < saved["position"][1] < -0.375
    assert np.allclose(saved["camera"]["camera_to_world"], page.camera().ravel())
    for left in ("Red.", "", ""):
        tab.click("#notes-undo")
        notes = tab.evaluate("smerf.getAnnotations()")["annotations"]
        assert left in (notes[0]["text"] if notes else "")
    tab.click("#notes-undo")
    assert tab.locator(".mark").count() == 0
    tab.click("#notes-redo")
    assert tab.locator(".mark").count() == 1
    tab.set_input_files("#notes-file", tmp_path / "notes.json")
    tab.locator(".mark[aria-label='Note 1: The box']").wait_for()
    tab.click(".mark")
    assert text(page, "#note-name") == "The box" and tab.locator("#note-address").is_hidden()
    (tmp_path / "other.json").write_text('{"format": "other"}')
    tab.set_input_files("#notes-file", tmp_path / "other.json")
    tab.locator("#notice").filter(has_text="not a file of notes").wait_for()


# People


@pytest.mark.parametrize(
    ("options", "device"), [({"has_touch": True, "is_mobile": True}, "touch"), ({}, "mouse")]
)
def test_the_first_visit_shows_three_gestures_once_and_help_fits_the_device(still, options, device):
    page = still(**options)
    tab = page.page
    assert tab.locator(f"#coach-{device} li").count() == 3 and tab.locator(f"#coach-{device}").is_visible()
    tab.click("#coach-end")
    assert tab.locator("#coach").is_hidden()
    tab.click("#button-help")
    assert tab.locator(f"#help-{device}").is_visible() and tab.locator("#help-keyboard").is_hidden()
    tab.get_by_text("Keyboard", exact=True).click()
    assert tab.locator("#help-keyboard").is_visible() and tab.locator(f"#help-{device}").is_hidden()
    tab.reload()
    page.ready()
    assert tab.locator("#coach").is_hidden()


def test_phones_share_with_the_systems_own_sheet(visit, described_dir):
    page = visit(described_dir, f"dpr=0.2&{FRONT}", size=(390, 700), has_touch=True, is_mobile=True).ready()
    tab = page.page
    tab.evaluate("navigator.share = async (what) => { globalThis.shared = what; }")
    tab.click("#button-share")
    tab.wait_for_function("globalThis.shared")
    assert "pos=" in tab.evaluate("shared.url")
    tab.click("#button-more")
    assert tab.locator("#button-measure").is_visible()
    tab.click("#button-measure")
    assert tab.locator("#measure").is_visible() and tab.locator("#button-measure").is_hidden()


def test_a_hidden_page_draws_nothing_and_goes_on_when_it_is_seen(still):
    page = still()
    tab = page.page
    tab.evaluate(
        """() => {
          globalThis.isHidden = true;
          Object.defineProperty(document, "hidden", { get: () => isHidden });
          globalThis.drawn = 0;
          const draw = WebGL2RenderingContext.prototype.drawArrays;
          WebGL2RenderingContext.prototype.drawArrays = function (...args) { drawn++; return draw.apply(this, args); };
        }"""
    )
    tab.keyboard.press("r")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(400)
    assert tab.evaluate("drawn") == 0
    tab.evaluate("isHidden = false; document.dispatchEvent(new Event('visibilitychange'))")
    page.ready()
    assert tab.evaluate("drawn") > 0


def test_a_hot_device_is_spared(visit, described_dir):
    page = visit(described_dir, "ui=0")
    page.page.add_init_script(
        """globalThis.PressureObserver = class {
          constructor(heard) { globalThis.heat = (state) => heard([{ state }]); }
          async observe() {}
        };"""
    )
    page.page.reload()
    page.ready()
    assert page.page.evaluate("smerf.stats().isSparing") is False
    page.page.evaluate("heat('critical')")
    assert page.page.evaluate("smerf.stats().isSparing") is True


# Failures


@pytest.mark.slow
def test_a_host_that_never_answers_is_given_up_and_asked_again_on_demand(visit, described_dir):
    page = visit(described_dir, size=(400, 300)).ready()
    page.page.route("**/sm_000/plane_rgb_1*", lambda route: route.abort())
    page.page.reload()
    assert "does not answer" in page.page.evaluate("smerf.ready.then(() => '', (error) => error.message)")
    button = page.page.get_by_role("button", name="Try again")
    assert "does not answer" in page.message() and button.is_visible()
    page.page.unroute("**/sm_000/plane_rgb_1*")
    button.click()
    page.ready()
    assert page.page.locator("[role=alert]").is_hidden()


# Accessibility


PANELS = {
    "settings": "#button-settings",
    "path": "#button-path",
    "measure": "#button-measure",
    "notes": "#button-notes",
    "help": "#button-help",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_panel_violates_the_rules_of_accessibility(visit, described_dir, violations, scheme):
    page = visit(
        described_dir, f"dpr=0.1&{FRONT}", size=(900, 640), color_scheme=scheme, bypass_csp=True
    ).ready()
    tab = page.page
    tab.evaluate("(json) => smerf.setAnnotations(json)", NOTES)
    faults = {"first visit": violations(tab)}
    tab.click("#coach-end")
    for name, button in PANELS.items():
        tab.click(button)
        faults[name] = violations(tab)
        tab.keyboard.press("Escape")
    tab.evaluate("smerf.openAnnotation(0)")
    faults["note"] = violations(tab)
    assert {name: fault for name, fault in faults.items() if fault} == {}


NOTES = {
    "format": "smerf-annotations",
    "version": 1,
    "annotations": [
        {
            "title": "Corner",
            "text": "Oak.",
            "link": "https://example.org/",
            "position": [0, -0.4, 0],
            "camera": {"camera_to_world": look_at([2.0, 0.4, 0.3], [0, 0, 0]).ravel().tolist(), "fov": 40},
        }
    ],
    "measurements": [{"from": [0, -0.4, 0], "to": [0.5, -0.4, 0]}],
}
