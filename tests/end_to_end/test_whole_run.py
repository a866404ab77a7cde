"""Photos in, page out: the real command line on a tiny built-in capture, one run shared by the tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks import page as page_benchmark
from benchmarks.browser import chromium
from smerf.capture import load_capture
from smerf.engine.checkpoint import latest_step
from smerf.export.serve import SceneServer
from smerf.render import march as native
from smerf.scene import load_scene

ROOT = Path(__file__).resolve().parents[2]
SIZE = (48, 36)
TINY = [
    "--preset=tiny",
    *("--set=teacher.steps=100", "--set=teacher.rays=256", "--set=teacher.checkpoint_seconds=0.1"),
    *("--set=student.steps=50", "--set=student.pool=16384", "--set=student.checkpoint_seconds=0.1"),
    "--set=student.occupied_rays=8192",
]
STAGES = ("teacher", "student", "baked", "site")
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("SMERF_")},
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
}


def start(*words) -> subprocess.Popen:
    command = [sys.executable, "-m", "smerf", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)


def smerf(*words) -> tuple[str, str]:
    """Run a command that must succeed; return what it printed on stdout and stderr."""
    process = start(*words)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captures") / "tabletop"
    width, height = SIZE
    smerf("synth", "tabletop", "-o", folder, "--views", 12, "--width", width, "--height", height)
    return folder


@pytest.fixture(scope="module")
def run(capture, tmp_path_factory):
    """Return the folder of a finished run and what the command printed."""
    folder = tmp_path_factory.mktemp("runs") / "tabletop"
    out, _ = smerf("run", capture, "-o", folder, *TINY)
    return folder, out


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def events(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def table(out) -> dict[str, float]:
    """Return the PSNR of each stage in a printed table."""
    rows = (line.split() for line in out.splitlines())
    return {row[0]: float(row[1]) for row in rows if row and row[0] in ("teacher", "student", "baked")}


def test_it_prints_the_page_and_the_quality_of_every_stage(run):
    folder, out = run
    assert f"page:   {folder / 'site' / 'index.html'}" in out
    assert f"report: {folder / 'report.html'}" in out
    assert "Held-out quality (1 of 12 photos held out)" in out
    measured = json.loads((folder / "metrics.json").read_text())["stages"]
    printed = table(out)
    assert printed.keys() == {"teacher", "student", "baked"}
    for stage, psnr in printed.items():
        assert psnr == pytest.approx(measured[stage]["results"]["psnr"], abs=0.01)
        assert 10.0 < psnr < 40.0
    # The student imitates the teacher, and baking only stores the student.
    assert abs(printed["student"] - printed["teacher"]) < 3.0
    assert abs(printed["baked"] - printed["student"]) < 0.5


def test_the_run_folder_holds_what_is_documented(run, capture):
    folder, _ = run
    files = "config.yaml environment.json log.txt progress.jsonl capture.json metrics.json report.html"
    assert [name for name in files.split() if not (folder / name).stat().st_size] == []
    for stage in STAGES:
        assert json.loads((folder / stage / "done.json").read_text())["name"] == stage
    assert json.loads((folder / "capture.json").read_text())["path"] == str(capture.resolve())
    assert "steps: 100" in (folder / "config.yaml").read_text()
    finished = [event["stage"] for event in events(folder) if event["event"] == "end"]
    assert finished == ["train", "distill", "bake", "export", "eval"]
    scene = load_scene(folder / "baked")
    assert [entry.name for entry in scene.manifest.cameras] == [
        frame.name for frame in load_capture(capture).frames
    ]


def test_a_second_call_does_nothing_again(run, capture):
    folder, out = run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("done.json")}
    count = len(events(folder))
    again, err = smerf("run", capture, "-o", folder)
    assert again == out
    assert err.count("already done (took") == len(STAGES)
    assert len(events(folder)) == count
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("done.json")} == before


def first_after_resuming(folder, stage):
    """Return the first position that the second session of a stage reports."""
    own = [event for event in events(folder) if event["stage"] == stage]
    second = [index for index, event in enumerate(own) if event["event"] == "begin"][1]
    return own[second + 1]["done"]


def kill_in(stage, folder, *words):
    """Start a run, kill it once ``stage`` has saved a checkpoint, and return that checkpoint's step."""
    process = start("run", *words, "-o", folder)
    try:
        until = time.monotonic() + 120.0
        while latest_step(folder / "unfinished" / stage) is None:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (folder / stage / "done.json").exists()
    return latest_step(folder / "unfinished" / stage)


def test_a_killed_run_goes_on_where_it_was(run, capture, tmp_path):
    finished, out = run
    folder = tmp_path / "killed"
    trained = kill_in("teacher", folder, capture, *TINY)
    distilled = kill_in("student", folder, capture, *TINY)
    last, err = smerf("run", capture, "-o", folder)
    assert "train: already done" in err and "distill: done in" in err
    starts = [event["stage"] for event in events(folder) if event["event"] == "begin"]
    assert starts == ["train", "train", "distill", "distill", "bake", "export", "eval"]
    assert first_after_resuming(folder, "train") > trained > 0
    assert first_after_resuming(folder, "distill") > distilled > 0
    whole = load_file(finished / "teacher" / "teacher.safetensors")
    parts = load_file(folder / "teacher" / "teacher.safetensors")
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assets = [path.relative_to(finished) for path in finished.glob("baked/sm_*/*")]
    assert assets
    assert [
        str(path) for path in assets if (finished / path).read_bytes() != (folder / path).read_bytes()
    ] == []
    assert table(last) == table(out)


def test_eval_measures_the_same_again(run):
    folder, out = run
    before = json.loads((folder / "metrics.json").read_text())
    printed, _ = smerf("eval", folder, "--stage", "baked", "--json")
    assert json.loads(printed)["stages"] == before["stages"]
    assert table(out)["baked"] == pytest.approx(json.loads(printed)["results"]["psnr"], abs=0.01)


def test_training_again_gives_the_same_figures_and_a_changed_record_is_found(run, tmp_path):
    out, _ = smerf("verify", run[0], "--rerun", "-q")
    assert "equal to the last bit" in out and "not equal" not in out and "64" in out
    changed = tmp_path / "changed"
    shutil.copytree(run[0], changed)
    trace = changed / "teacher" / "trace.jsonl"
    line = next(line for line in map(json.loads, trace.read_text().splitlines()) if line["step"] == 8)
    trace.write_text(json.dumps(line | {"psnr": line["psnr"] * 1.001}) + "\n")
    done = start("verify", changed, "--rerun", "-q")
    _, err = done.communicate()
    assert done.returncode == 5 and f"step {line['step']}: psnr" in err


def test_info_tells_what_the_run_holds(run):
    folder, _ = run
    facts = json.loads(smerf("info", folder, "--json")[0])
    assert facts["what"] == "run"
    assert {name: stage["state"] for name, stage in facts["stages"].items()} == dict.fromkeys(STAGES, "done")


def test_render_draws_the_held_out_cameras(run, capture, tmp_path):
    folder, _ = run
    smerf("render", folder, "--split", "test", "-o", tmp_path / "frames")
    held_out = load_capture(capture).split("test")
    frames = sorted((tmp_path / "frames").glob("*.png"))
    assert [path.stem for path in frames] == [Path(frame.name).stem for frame in held_out]
    scene = load_scene(folder / "baked")
    for path, frame in zip(frames, held_out):
        drawn = np.asarray(Image.open(path).convert("RGB"), np.int16)
        assert drawn.shape == (SIZE[1], SIZE[0], 3)
        wanted = 255.0 * native.render_camera(scene, frame.camera)
        assert np.abs(drawn - wanted).max() <= 0.51


def test_the_page_agrees_with_the_renderers(run, browser):
    folder, _ = run
    scene = load_scene(folder / "baked")
    entry = page_benchmark.choose_cameras(scene, 1)[0]
    camera = page_benchmark.at_size(entry.camera, *SIZE)
    with SceneServer(folder / "site") as server:
        page = page_benchmark.Page(browser, f"{server.url}?ui=0&dpr=1", *SIZE)
        figures = page_benchmark.compare_frame(scene, camera, page.render(camera), None)
        page.page.close()
    assert page.errors == []
    for peer in ("native", "reference"):
        assert figures[f"{peer}_within_2"] >= 0.99


def test_a_single_file_opens_without_a_server(run, browser, tmp_path):
    folder, _ = run
    target = tmp_path / "tabletop.html"
    assert f"page: {target}" in smerf("export", folder, "--single-file", "-o", target)[0]
    page = page_benchmark.Page(browser, f"{target.as_uri()}?ui=0&dpr=1", *SIZE)
    scene = load_scene(folder / "baked")
    camera = page_benchmark.at_size(page_benchmark.choose_cameras(scene, 1)[0].camera, *SIZE)
    wanted = page_benchmark.to_bytes(native.render_camera(scene, camera))
    assert page_benchmark.compare(page.render(camera), wanted).fraction_within >= 0.99
    assert page.errors == []
    page.page.close()
