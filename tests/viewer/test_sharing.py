"""What is handed over with a page: title, picture, notes and paths; and the page within other pages."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from smerf.capture.types import Camera, Capture, Frame, Intrinsics, Similarity
from smerf.errors import InvalidDataError
from smerf.export.about import About
from smerf.export.annotations import read_annotations
from smerf.export.page import Page, metres_per_unit, service_worker
from smerf.export.poster import encode_poster, render_poster
from smerf.export.site import export_site
from tests.helpers.tiny_scene import look_at, make_scene, write_manifest, write_submodel

START = look_at([0.3, -2.2, 0.5], [0, 0, 0])
SIDE = look_at([2.0, 0.4, 0.3], [0, 0, 0])
ABOUT = About(
    title='Flat & "hall"',
    description="Two rooms <north>.",
    author="A. Bauer",
    date="2026-05-31",
    licence="CC BY 4.0",
    url="https://example.org/flat",
)
NOTES = {
    "format": "smerf-annotations",
    "version": 1,
    "metres_per_unit": 2.0,
    "annotations": [
        {
            "title": "<b>Corner</b>",
            "text": "Oak.",
            "link": "https://example.org/oak",
            "position": [0.0, -0.4, 0.0],
            "camera": {"camera_to_world": SIDE.ravel().tolist(), "fov": 40},
        }
    ],
    "measurements": [{"from": [0, -0.4, 0], "to": [0.5, -0.4, 0]}],
}


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("run") / "baked"
    write_submodel(root / "sm_000", make_scene())
    camera = {"world_from_cam": START[:3].tolist(), "fov_degrees": 45}
    write_manifest(root, format="smerf-baked", start=camera)
    text = (root / "manifest.json").read_text().replace('"1.0"', "1")
    (root / "manifest.json").write_text(text)
    return root


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    (root / "notes.json").write_text(json.dumps(NOTES))
    frames = [{"camera_to_world": matrix.ravel().tolist(), "fov": 40} for matrix in (START, SIDE)]
    keys = [{"matrix": frame["camera_to_world"], "fov": 40} for frame in frames]
    path = {
        "render_width": 64,
        "render_height": 48,
        "fps": 1,
        "seconds": 60,
        "camera_path": frames,
        "keyframes": keys,
    }
    (root / "path.json").write_text(json.dumps(path))
    poster = encode_poster(np.full((63, 120, 3), 0.5))
    return Page(
        ABOUT, poster, root / "path.json", autoplay=True, annotations=root / "notes.json", offline=True
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory, scene_dir, page):
    root = tmp_path_factory.mktemp("site")
    export_site(scene_dir, root / "flat", page=page)
    export_site(scene_dir, root / "one.html", single_file=True, page=page)
    return root


@pytest.fixture
def open_site(visit, site):
    """Open the site at a fair size with few pixels."""
    return lambda query="", size=(760, 460), **options: visit(
        site / "flat", f"dpr=0.1&{query}", size=size, **options
    )


def tags(text: str) -> dict[str, str]:
    return dict(re.findall(r'<meta (?:name|property)="([^"]+)" content="([^"]*)">', text))


# The export


def test_messengers_and_search_engines_are_told(site):
    found = tags((site / "flat" / "index.html").read_text())
    assert (
        found["og:title"] == "Flat &amp; &quot;hall&quot;" and found["twitter:card"] == "summary_large_image"
    )
    assert found["og:description"] == found["description"] == "Two rooms &lt;north&gt;."
    assert found["og:image"] == "https://example.org/flat/poster.jpg"
    assert (found["author"], found["date"]) == ("A. Bauer", "2026-05-31")
    manifest = json.loads((site / "flat" / "site.webmanifest").read_text())
    assert manifest["name"] == ABOUT.title and manifest["start_url"] == manifest["scope"] == "./"
    for icon in manifest["icons"]:
        assert (site / "flat" / icon["src"]).is_file()


def test_a_page_without_anything_named_has_no_empty_tags(scene_dir, tmp_path):
    found = tags(export_site(scene_dir, tmp_path / "site").read_text())
    assert not {"og:image", "og:url", "author", "description", "smerf-title"} & set(found)
    assert found["og:title"] == scene_dir.parent.name


def test_the_poster_is_the_start_view(scene_dir):
    files = render_poster(scene_dir)
    poster = np.asarray(Image.open(io.BytesIO(files["poster.jpg"])), int)
    assert poster.shape == (630, 1200, 3)
    assert poster[315, 600, 0] > 100 and abs(poster[315, 600] - poster[5, 5]).max() > 60
    assert Image.open(io.BytesIO(files["icon.png"])).size == (512, 512)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 2}, "version 1"),
        ({"annotations": [{"position": [0, 0]}]}, "annotation 0: 'position'"),
        ({"annotations": [{"position": [0, 0, 0], "link": "javascript:alert(1)"}]}, "'link'"),
        (
            {"annotations": [{"position": [0, 0, 0], "camera": {"camera_to_world": [0] * 16, "fov": 40}}]},
            "rotation",
        ),
        ({"metres_per_unit": -1}, "metres_per_unit"),
    ],
)
def test_wrong_annotations_are_refused_by_entry_and_key(tmp_path, change, complaint):
    path = tmp_path / "notes.json"
    path.write_text(json.dumps(NOTES | change))
    with pytest.raises(InvalidDataError, match=complaint) as error:
        read_annotations(path)
    assert str(path) in str(error.value)


def test_metres_come_from_captures_that_are_in_metres(tmp_path):
    lens = Intrinsics("PINHOLE", 8, 8, 8.0, 8.0, 4.0, 4.0)
    frame = Frame("a", tmp_path / "a.png", Camera(lens, START[:3]), "train")

    def capture(kind):
        return Capture(tmp_path, kind, (frame,), Similarity(0.25), 0.2, 4.0, True, None, np.zeros((0, 3)))

    assert metres_per_unit(capture("polycam")) == 4.0
    assert metres_per_unit(capture("colmap")) is None is metres_per_unit(None)


def test_the_service_worker_keeps_every_file_and_changes_with_any(site, tmp_path):
    text = (site / "flat" / "sw.js").read_text()
    listed = json.loads(re.search(r"SHELL = (\[.*?\]);", text)[1]) + json.loads(
        re.search(r"SCENE = (\[.*?\]);", text)[1]
    )
    there = {
        path.relative_to(site / "flat").as_posix() for path in (site / "flat").rglob("*") if path.is_file()
    }
    assert set(listed) == there - {"index.html", "sw.js"} | {"./"}
    (tmp_path / "a.txt").write_text("1")
    before = service_worker(tmp_path)
    (tmp_path / "a.txt").write_text("2")
    assert service_worker(tmp_path) != before


# The page


def test_a_visitor_reads_what_it_is(open_site):
    page = open_site("autoplay=0", locale="de-DE").ready().page
    assert page.locator("#button-about").inner_text() == ABOUT.title
    page.click("#button-about")
    text = page.locator("#about").inner_text()
    assert "Two rooms <north>." in text and "Von A. Bauer" in text and "31. Mai 2026" in text
    link = page.locator("#about a")
    assert link.get_attribute("href").startswith("https://creativecommons.org/licenses/by/")
    page.keyboard.press("Escape")
    assert page.locator("#about").is_hidden()


def test_the_poster_stands_until_the_picture_is_there(open_site):
    visit = open_site("autoplay=0", service_workers="block")
    held = []
    visit.page.route("**/baked/manifest.json", lambda route: held.append(route))
    visit.page.reload(wait_until="commit")
    visit.page.locator("#progress-text").filter(has_text="Opening the scene").wait_for()
    assert visit.page.locator("#poster").is_visible()
    for route in held:
        route.continue_()
    visit.ready()
    visit.page.locator("#poster").wait_for(state="hidden")
    assert visit.page.locator("#loading").is_hidden()


def test_baked_in_notes_open_by_their_marks(open_site):
    page = open_site("autoplay=0")
    page.ready()
    page.page.locator(".mark").wait_for()
    page.page.click(".mark")
    assert page.page.locator("#note-name").inner_text() == "<b>Corner</b>"
    assert page.page.locator("#note-address").get_attribute("href") == "https://example.org/oak"
    page.wait_until_still()
    assert np.allclose(page.camera(), SIDE, atol=1e-4)
    page.page.focus("#view")
    page.page.keyboard.press("m")
    assert "3.28 ft" in page.page.locator("#measure-text").inner_text()
    page.page.select_option("#measure-unit", "cm")
    assert "100 cm" in page.page.locator(".length").inner_text()


def test_a_baked_in_path_plays_by_itself_and_ends_at_a_touch(visit, site):
    page = visit((site / "one.html").as_uri(), "dpr=0.1", size=(500, 400))
    page.page.wait_for_function(
        "document.querySelector('#button-play').getAttribute('aria-label') === 'Pause'"
    )
    page.page.mouse.move(250, 100)
    page.page.mouse.down()
    page.page.mouse.move(260, 110)
    page.page.mouse.up()
    page.page.wait_for_function(
        "document.querySelector('#button-play').getAttribute('aria-label') === 'Play'"
    )
    assert page.page.locator(".mark").count() == 1


def test_an_embedded_page_waits_for_a_click_and_lets_the_wheel_through(open_site):
    visit = open_site("embed=1&autoplay=0")
    page = visit.page
    page.locator("#curtain-start").wait_for()
    assert (
        page.evaluate("performance.getEntriesByType('resource').some(({ name }) => name.includes('/baked/'))")
        is False
    )
    assert "embed" not in page.locator("#curtain-outside").get_attribute("href")
    page.click("#curtain-start")
    visit.ready()
    before = visit.camera()
    page.mouse.move(300, 200)
    page.mouse.wheel(0, 300)
    page.locator("#notice").filter(has_text="Ctrl").wait_for()
    assert np.array_equal(visit.camera(), before)
    page.keyboard.down("Control")
    page.mouse.wheel(0, 300)
    page.keyboard.up("Control")
    visit.wait_until_still()
    assert np.linalg.norm(visit.camera()[:3, 3]) > np.linalg.norm(before[:3, 3]) + 0.1


def test_several_viewers_stand_on_one_page_and_one_goes(open_site):
    visit = open_site(size=(600, 400))
    origin = visit.page.evaluate("location.origin")
    visit.leave()
    told = visit.page.evaluate(
        """async ([origin, matrix]) => {
          const { createViewer } = await import(`${origin}/viewer/embed.js`);
          const make = () => {
            const element = document.createElement("div");
            element.style = "width: 160px; height: 120px";
            document.body.append(element);
            return createViewer(element, { parameters: { dpr: 0.2, ui: 0, autoplay: 0 } });
          };
          const [one, two] = [make(), make()];
          const cameras = [];
          one.addEventListener("camera", ({ detail }) => cameras.push(detail.cameraToWorld));
          await Promise.all([one.ready, two.ready]);
          await one.setCamera(matrix, 33);
          const apart = [(await one.getCamera()).fovDegrees, (await two.getCamera()).fovDegrees];
          const wrong = await two.setMode("swim").catch((error) => error.message);
          two.destroy();
          const gone = await two.getCamera().catch((error) => error.message);
          return { apart, wrong, gone, frames: document.querySelectorAll("iframe").length, last: cameras.at(-1) };
        }""",
        [origin, SIDE.ravel().tolist()],
    )
    assert told["apart"] == [33, 45] and "one of orbit" in told["wrong"] and "destroyed" in told["gone"]
    assert told["frames"] == 1 and np.allclose(told["last"], SIDE.ravel())


def test_after_the_first_visit_it_opens_without_a_connection(open_site):
    visit = open_site("autoplay=0")
    visit.ready()
    visit.page.locator("#notice").filter(has_text="without a connection").wait_for()
    visit.page.context.set_offline(True)
    visit.page.reload()
    visit.ready()
    assert visit.page.evaluate("smerf.stats().status") == "full"
    assert visit.page.locator(".mark").count() == 1


def test_a_page_below_a_folder_of_its_host_opens(visit, site):
    page = visit(site, "")
    page.page.goto("about:blank")
    page.errors.clear()
    page.page.goto(page.address.split("?")[0] + "flat/index.html?dpr=0.1")
    page.ready()
    assert page.page.evaluate("smerf.stats().status") == "full" and page.errors == []
