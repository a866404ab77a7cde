"""The report page: what it says, and that a browser shows it without anything else."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from smerf.capture.types import Camera, Intrinsics
from smerf.evaluation.report import ReportContext, write_report
from smerf.evaluation.report_images import ERROR_RANGE, colour_map, error_map, save_report_images

CAMERA = Camera(
    Intrinsics("PINHOLE", 120, 90, 45.0, 45.0, 60.0, 45.0), np.column_stack([np.eye(3), (0.5, 0.0, -1.0)])
)
DIAGNOSIS = {
    "verdict": "Faulty capture (7 blurred photos).",
    "findings": [
        {
            "kind": "blur", "level": "fault", "short": "7 blurred photos", "text": "7 photos are blurred.",
            "advice": "Hold still.", "photos": [f"p{i}<.jpg" for i in range(7)],
        },
    ],
    "loss": {
        "psnr": {"teacher": 33.98, "student": 26.02, "baked": 24.44},
        "changes_db": {"distilling": -7.96, "baking": -1.58},
        "fractions": {"training": 0.11, "distilling": 0.58, "baking": 0.31},
    },
    "views": {"images/view 1.jpg": {"degrees": 31.0, "distance": 0.2, "kind": "extrapolation"}},
    "by_kind": {"extrapolation": {"psnr": 23.44, "num_images": 1}},
    "unsupported": {"start": 0.02, "left": 0.9},
    "known": {"start": 0.99, "left": 0.13},
    "floaters": {"left": 0.1},
    "bytes": {"planes": 2_000_000},
    "protocol": {"extrapolation_degrees": 15.0},
}  # fmt: skip


def make_run(folder, views=2):
    """Lay pictures of three stages in a run folder; return the arguments of write_report."""
    rng = np.random.default_rng(1)
    names = {f"images/view {index}.jpg": f"view_{index}" for index in range(views)}
    rows, columns = np.mgrid[0:90, 0:120].astype(np.float32)
    stages = {}
    for stage, noise in (("teacher", 0.02), ("student", 0.05), ("baked", 0.06)):
        per_image = {}
        for index, (name, file) in enumerate(names.items()):
            truth = np.stack([columns / 120, rows / 90, np.full_like(rows, index / views)], axis=-1)
            prediction = truth + noise * rng.standard_normal(truth.shape).astype(np.float32)
            save_report_images(folder / "report", stage, file, prediction, truth)
            per_image[name] = {"psnr": -20 * np.log10(noise) - index, "ssim": 0.9}
        results = {"psnr": -20 * np.log10(noise), "ssim": 0.91, "flip": noise}
        stages[stage] = {"results": results, "per_image": per_image, "protocol": {"quantized": True}}
    context = ReportContext(
        title="table <top>",
        config={"preset": "preview", "teacher": {"lr": 0.01}},
        environment={"python": "3.11.7", "packages": {"torch": "2.13.0"}},
        timings={"teacher": {"seconds": 245.0, "peak_memory_mb": 2048.0}},
        site="site/index.html",
        capture={"kind": "nerfstudio"},
        diagnosis=DIAGNOSIS,
        cameras=dict.fromkeys(names, CAMERA),
    )
    return stages, names, context


def test_the_page_holds_figures_pictures_and_facts(tmp_path):
    page = write_report(tmp_path, *make_run(tmp_path)).read_text()
    assert "table &lt;top&gt;" in page and "<top>" not in page
    for text in (
        "33.98",
        "26.02",
        "24.44",
        "0.9100",
        "4 min 05 s",
        "2.00 GiB",
        "teacher.lr",
        "packages.torch",
    ):
        assert text in page, text
    assert page.count('src="data:image/jpeg;base64,') == 2 * 3
    assert 'href="site/index.html"' in page and "images/view 1.jpg" in page and "quantized" in page


def test_the_page_says_what_the_run_was_given(tmp_path):
    stages, names, context = make_run(tmp_path)
    assert "preset preview" in write_report(tmp_path, stages, names, context).read_text()
    context = replace(context, config=context.config | {"minutes": 2.5})
    assert "2.5 min granted" in write_report(tmp_path, stages, names, context).read_text()


def test_the_page_says_what_is_wrong_and_what_to_do(tmp_path):
    page = write_report(tmp_path, *make_run(tmp_path)).read_text()
    for text in (
        "Faulty capture (7 blurred photos).",
        "7 photos are blurred.",
        "Hold still.",
        "p6&lt;.jpg",
        "training 33.98 dB → distilling -7.96 dB → baking -1.58 dB",
        "extrapolation, 31° from the nearest photo",
        "1 view farther than 15° from every training photo",
        "90%",
        "2.00 MB",
    ):
        assert text in page, text


def test_the_worst_view_comes_first_and_links_to_its_camera(tmp_path):
    page = write_report(tmp_path, *make_run(tmp_path)).read_text()
    assert page.index("1. images/view 1.jpg") < page.index("2. images/view 0.jpg")
    link = "site/index.html#pos=0.50000,0.00000,-1.00000&amp;look=0.50000,0.00000,-2.00000"
    assert page.count(f'href="{link}&amp;up=0.00000,1.00000,0.00000&amp;fov=90.000"') == 2


def test_many_views_stay_small(tmp_path):
    stages, names, context = make_run(tmp_path, views=30)
    page = write_report(tmp_path, stages, names, context).read_text()
    assert page.count("<article>") == 24 and "6 better views" in page
    assert all(name in page for name in names)


def test_masked_figures_come_first(tmp_path):
    stages, names, context = make_run(tmp_path)
    for summary in stages.values():
        summary["results"]["masked_psnr"] = 18.0
        for figures in summary["per_image"].values():
            figures["masked_psnr"] = 18.0
    page = write_report(tmp_path, stages, names, context).read_text()
    assert page.index("masked PSNR (dB)") < page.index(">PSNR (dB)") and "masked PSNR 18.00 dB" in page


def test_the_best_stage_is_marked_per_figure(tmp_path):
    page = write_report(tmp_path, *make_run(tmp_path)).read_text()
    assert re.findall(r"<td class=best>([\d.]+)</td>", page) == [
        "33.98",
        "0.9100",
        "0.0200",
        "0.9100",
        "0.9100",
    ]


def test_the_page_needs_nothing_from_outside(tmp_path):
    page = write_report(tmp_path, *make_run(tmp_path)).read_text()
    links = re.findall(r"""\b(?:src|href)=["']?([^"'> ]+)|url\(""", page)
    assert links and all(link.startswith(("data:image/", "site/")) for link in links)
    assert "http:" not in page and "https:" not in page and "<script src" not in page


def test_missing_pictures_and_figures_leave_a_dash(tmp_path):
    stages, names, context = make_run(tmp_path)
    shutil.rmtree(tmp_path / "report" / "baked")
    del stages["baked"]["results"]["ssim"], stages["baked"]["per_image"]["images/view 0.jpg"]
    page = write_report(tmp_path, stages, names, context).read_text()
    assert page.count("class=missing") == 2 and "<td>–</td>" in page and "not measured" in page


def test_a_report_of_one_stage_and_nothing_else(tmp_path):
    stages, names, _ = make_run(tmp_path)
    page = write_report(tmp_path, {"teacher": stages["teacher"]}, names, ReportContext("x")).read_text()
    assert "class=best" not in page and "Time and memory" not in page and "Open the scene" not in page


def test_error_maps_grow_with_the_error_and_saturate():
    truth = np.zeros((1, 4, 3), np.float32)
    prediction = np.array([0.0, ERROR_RANGE / 2, ERROR_RANGE, 1.0], np.float32)[None, :, None] + truth
    lightness = error_map(prediction, truth).astype(float).mean(axis=-1)[0]
    assert lightness[0] < lightness[1] < lightness[2] == lightness[3]
    assert tuple(colour_map(np.array(0.0))) == (0, 0, 4)
    assert np.diff(colour_map(np.linspace(0, 1, 64)).astype(float) @ [0.21, 0.72, 0.07]).min() > 0


def test_large_pictures_are_reduced(tmp_path):
    from PIL import Image

    image = np.zeros((30, 2000, 3), np.float32)
    save_report_images(tmp_path, "baked", "wide", image, image)
    assert Image.open(tmp_path / "photo" / "wide.jpg").size == (640, 10)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("dark", 380)])
def test_a_browser_shows_it_readable_and_without_sideways_scrolling(tmp_path, scheme, width):
    from playwright.sync_api import sync_playwright

    path = write_report(tmp_path, *make_run(tmp_path))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        problems = []
        page.on("console", lambda message: problems.append(message.text))
        page.on(
            "request", lambda r: problems.append(r.url) if not r.url.startswith(("file:", "data:")) else None
        )
        page.goto(path.as_uri())
        page.mouse.wheel(0, 5000)
        page.wait_for_function(
            "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
        )
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        ink, paper = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
        assert (brightness[0] < brightness[1]) == (scheme == "light") and abs(
            brightness[0] - brightness[1]
        ) > 450
        slider = page.get_by_role("slider").first
        slider.focus()
        slider.press("Home")
        assert slider.input_value() == "0"
        assert (
            page.evaluate("getComputedStyle(document.querySelector('.over')).clipPath")
            == "inset(0px 0px 0px 0%)"
        )
        assert problems == []
        browser.close()
