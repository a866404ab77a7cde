"""smerf run on fake stages: what is skipped, resumed, redone and refused."""

import json
import shutil
import signal
import time

import pytest
import yaml

from tests.helpers import fakes


def calls(run):
    return (run / "calls.txt").read_text().split("\n")[:-1]


ALL = ["teacher from 0", "student from 0", "baked", "site"]


def test_a_run_leaves_everything_and_says_where(smerf, data, tmp_path):
    run = tmp_path / "run"
    code, out, err = smerf("run", data, "-o", run, "--device", "cpu")
    assert code == 0, err
    assert calls(run) == ALL
    for name in (
        "config.yaml",
        "environment.json",
        "log.txt",
        "progress.jsonl",
        "capture.json",
        "metrics.json",
    ):
        assert (run / name).stat().st_size, name
    for word in (
        "teacher",
        "student",
        "baked",
        "PSNR",
        "SSIM",
        "train",
        "peak memory",
        "index.html",
        "report.html",
    ):
        assert word in out
    assert f"smerf serve {run}" in out
    assert "[1/5] train: begins" in err and "[5/5] eval: done in" in err
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["stages"].keys() == {"teacher", "student", "baked"}
    assert metrics["results"] == metrics["stages"]["baked"]["results"]
    assert metrics["timings"]["teacher"]["peak_memory_mb"] > 1
    assert (run / "report.html").read_text().count("data:image/jpeg") == 3
    environment = json.loads((run / "environment.json").read_text())
    assert environment["device"] == "cpu" and "numpy" in environment["packages"]
    events = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    assert [e["stage"] for e in events if e["event"] == "end"] == [
        "train",
        "distill",
        "bake",
        "export",
        "eval",
    ]


def test_the_same_command_again_does_nothing_but_prints_the_same(smerf, data, tmp_path):
    run = tmp_path / "run"
    first = smerf("run", data, "-o", run)[1]
    code, out, err = smerf("run", data, "-o", run)
    assert code == 0 and calls(run) == ALL and out == first
    assert "[1/5] train: already done (took" in err and "eval: begins" not in err


def test_the_default_folder_and_a_run_continued_without_its_preset(smerf, data, tmp_path):
    assert smerf("run", data, "--preset", "standard", "--quiet")[0] == 0
    run = tmp_path / "runs" / "data"
    assert yaml.safe_load((run / "config.yaml").read_text())["teacher"]["steps"] == 9
    code, _, err = smerf("run", data, "--quiet")
    assert code == 0 and err == "" and calls(run) == ALL


def test_another_config_is_refused_by_name_and_changes_nothing(smerf, data, tmp_path):
    run = tmp_path / "run"
    smerf("run", data, "-o", run)
    before = (run / "config.yaml").read_bytes()
    code, out, err = smerf("run", data, "-o", run, "--set", "student.grid.sizes=[8]")
    assert code == 2 and out == "" and "failed" not in err
    assert "student.grid.sizes ([16, 32] -> [8])" in err and "--overwrite" in err
    assert (run / "config.yaml").read_bytes() == before and calls(run) == ALL
    code, _, err = smerf("run", data, "-o", run, "--preset", "standard")
    assert code == 2 and "teacher.steps (6 -> 9)" in err


def test_overwrite_redoes_what_the_change_touches_and_no_more(smerf, data, tmp_path):
    run = tmp_path / "run"
    smerf("run", data, "-o", run)
    code, _, err = smerf("run", data, "-o", run, "--set", "student.steps=5", "--overwrite")
    assert code == 0, err
    assert calls(run) == [*ALL, "student from 0", "baked", "site"]
    assert "[5/5] eval: done in" in err
    assert smerf("run", data, "-o", run, "--set", "bake.resolution=32", "--overwrite")[0] == 0
    assert calls(run)[7:] == ["baked", "site"]


def test_what_a_stage_chooses_is_said_stored_and_neither_refused_nor_redone(smerf, data, tmp_path):
    run = tmp_path / "run"
    words = ("run", data, "-o", run, "--set", "student.automatic=true")
    code, _, err = smerf(*words)
    assert code == 0 and "distill: width 16 (chosen)" in err
    values = yaml.safe_load((run / "config.yaml").read_text())
    assert values["student"]["width"] == 16 and values["automatic"] == {"student.width": 8}
    for again in (words, ("run", data, "-o", run), ("distill", run)):
        assert smerf(*again)[0] == 0 and calls(run) == ALL
    code, _, err = smerf("run", data, "-o", run, "--set", "student.width=32")
    assert code == 2 and "student.width (8 -> 32)" in err
    assert smerf("run", data, "-o", run, "--set", "student.width=32", "--overwrite")[0] == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["student"]["width"] == 64


def test_a_failed_redo_keeps_result_config_and_photos(smerf, data, tmp_path):
    run = tmp_path / "run"
    smerf("run", data, "-o", run)
    before = {
        name: (run / name).read_bytes() for name in ("config.yaml", "capture.json", "teacher/model.json")
    }
    (data / "view1.txt").write_text("77")
    assert smerf("run", data, "-o", run, "--set", "teacher.fails=true", "--overwrite")[0] == 1
    assert before == {name: (run / name).read_bytes() for name in before}
    (data / "view1.txt").write_text("40")
    assert smerf("run", data, "-o", run)[0] == 0 and calls(run) == ALL


def test_the_python_call_is_the_command(smerf, data, tmp_path, capsys):
    from smerf.pipeline.run import run as run_stages

    result = run_stages(data, tmp_path / "run", device="cpu", settings=("teacher.steps=3",))
    assert result.page.is_file() and result.metrics["baked"]["results"]["psnr"] > 5
    assert capsys.readouterr().out == ""
    assert smerf("run", data, "-o", tmp_path / "run")[0] == 0 and calls(tmp_path / "run") == ALL


@pytest.mark.parametrize("suffix", [".webm", ".gif", ".mkv"])
def test_render_writes_what_the_name_says(smerf, data, tmp_path, suffix):
    import imageio.v3 as iio

    smerf("run", data, "-o", "run")
    code, _, err = smerf("render", "run", "--split", "train", "-o", f"walk{suffix}")
    assert code == 0, err
    # A GIF holds equal frames as one.
    assert iio.imread(tmp_path / f"walk{suffix}", index=None).shape[-3:] == (16, 24, 3)
    start = {".gif": b"GIF89a", ".webm": b"\x1a\x45\xdf\xa3", ".mkv": b"\x1a\x45\xdf\xa3"}[suffix]
    assert (tmp_path / f"walk{suffix}").read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []


def test_render_refuses_names_that_it_does_not_write(smerf, data, tmp_path):
    smerf("run", data, "-o", "run")
    for name in ("walk.avi", "walk.png"):
        code, _, err = smerf("render", "run", "--split", "train", "-o", name)
        assert code == 2 and ".mp4" in err and not (tmp_path / name).exists()


def test_info_knows_what_smerf_writes_and_what_to_do_next(smerf, data, tmp_path):
    run = tmp_path / "run"
    smerf("train", data, "-o", run)
    code, out, _ = smerf("info", run)
    assert code == 0 and out.splitlines()[-1] == f"next: smerf distill {run}" and "config" not in out
    smerf("run", data, "-o", run)
    assert "config" in smerf("info", run, "-v")[1]
    (run / "site" / "index.html").write_text('<meta name="smerf-scene" content="baked"><title>room</title>')
    (run / "student" / "student.json").write_text("{}")
    for folder, what in (("site", "site"), ("student", "student"), ("baked", "baked scene")):
        code, out, _ = smerf("info", run / folder)
        assert code == 0 and what in out.splitlines()[0] and "next: smerf" in out
    code, out, _ = smerf("info", run / "site" / "index.html")
    assert code == 0 and "page" in out and "room" in out
    (tmp_path / "calls.txt").touch()
    code, _, err = smerf("info", tmp_path / "calls.txt")
    assert code == 4 and "calls.txt" in err


def test_an_address_is_refused_with_both_slashes(smerf):
    code, _, err = smerf("run", "https://example.org/photos")
    assert code == 2 and "https://example.org/photos" in err and "download" in err


def test_changed_photos_are_refused_then_redone_from_the_start(smerf, data, tmp_path):
    run = tmp_path / "run"
    smerf("run", data, "-o", run)
    (data / "view1.txt").write_text("77")
    code, _, err = smerf("run", data, "-o", run)
    assert code == 2 and "other photos" in err
    code, _, err = smerf("bake", run)
    assert code == 4 and "changed" in err
    assert smerf("run", data, "-o", run, "--overwrite")[0] == 0
    assert calls(run) == ALL * 2


def test_the_stages_one_by_one_are_the_run(smerf, data, tmp_path):
    run = tmp_path / "run"
    code, _, err = smerf("distill", run)
    assert code == 2 and "not a run folder" in err
    assert smerf("train", data, "-o", run)[0] == 0
    code, _, err = smerf("bake", run)
    assert code == 2 and "smerf distill" in err
    assert smerf("distill", run)[0] == 0 and smerf("bake", run)[0] == 0
    assert calls(run) == ALL[:3]
    assert smerf("run", data, "-o", run)[0] == 0
    assert calls(run) == ALL


def test_distilling_the_teacher_of_another_run(smerf, data, tmp_path):
    smerf("train", data, "-o", tmp_path / "large")
    smerf("train", data, "-o", tmp_path / "small")
    assert smerf("distill", tmp_path / "small", "--teacher", tmp_path / "large")[0] == 0
    assert smerf("distill", tmp_path / "small", "--teacher", tmp_path / "none")[0] == 2


def test_a_capture_that_moved_is_found_with_data_or_beside_the_run(smerf, data, tmp_path):
    run = tmp_path / "run"
    smerf("train", data, "-o", run)
    data.rename(tmp_path / "moved")
    code, _, err = smerf("distill", run)
    assert code == 2 and "--data" in err
    assert smerf("distill", run, "--data", tmp_path / "moved")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moved").rename(tmp_path / "elsewhere" / "data")
    run.rename(tmp_path / "elsewhere" / "run")
    assert smerf("bake", tmp_path / "elsewhere" / "run")[0] == 0


def wait_for(path, text, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.is_file() and text in path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"{text!r} never came to {path}")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=str
)
def test_a_stopped_training_resumes_to_the_same_result(smerf, start, data, tmp_path, number, code):
    run = tmp_path / "run"
    words = (
        "run",
        data,
        "-o",
        run,
        "--device",
        "cpu",
        "--set",
        "teacher.steps=40",
        "--set",
        "teacher.pause=0.02",
    )
    process = start(*words)
    wait_for(run / "unfinished" / "teacher" / "state.json", "step")
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert out == "" and "Traceback" not in err
    if code > 0:
        assert "the same command continues" in err.splitlines()[-1]
        assert json.loads((run / "unfinished" / "teacher" / "started.json").read_text())["seconds"] > 0
    assert not (run / "teacher").exists() and not (run / "student").exists()
    code, _, err = smerf(*words)
    assert code == 0, err
    first, second = calls(run)[:2]
    assert first == "teacher from 0" and int(second.removeprefix("teacher from ")) > 0
    assert json.loads((run / "teacher" / "model.json").read_text())["sum"] == 40 * 41 / 2


def test_ctrl_c_in_a_stage_without_checkpoints_stops_it_and_leaves_no_half_scene(
    smerf, start, data, tmp_path
):
    run = tmp_path / "run"
    words = ("run", data, "-o", run, "--device", "cpu", "--set", "bake.pause=0.3")
    process = start(*words)
    wait_for(run / "calls.txt", "baked")
    process.send_signal(signal.SIGINT)
    assert "stopped" in process.communicate(timeout=120)[1]
    assert process.returncode == 130 and not (run / "baked").exists()
    assert smerf(*words)[0] == 0 and calls(run) == [*ALL[:3], "baked", "site"]


def test_two_processes_do_not_write_one_run(smerf, start, data, tmp_path):
    run = tmp_path / "run"
    process = start(
        "run", data, "-o", run, "--device", "cpu", "--set", "teacher.steps=400", "--set", "teacher.pause=0.02"
    )
    wait_for(run / "unfinished" / "teacher" / "state.json", "step")
    code, _, err = smerf("run", data, "-o", run)
    assert code == 1 and f"process {process.pid}" in err.splitlines()[-1]


def test_a_failure_of_a_stage_is_one_line_with_the_traceback_in_the_log(smerf, data, tmp_path):
    run = tmp_path / "run"
    code, out, err = smerf("run", data, "-o", run, "--set", "teacher.fails=true", "-q")
    assert code == 1 and out == ""
    assert err == "smerf run: teacher: the loss is not a number at step 3; lower teacher.lr\n"
    assert "Traceback" in (run / "log.txt").read_text()
    code, _, err = smerf("run", data, "-o", run, "--verbose")
    assert code == 1 and "Traceback" in err


def test_pictures_that_are_not_numbers_fail_instead_of_being_measured(smerf, data, tmp_path):
    code, _, err = smerf("run", data, "-o", tmp_path / "run", "--set", "teacher.gives_nan=true", "-q")
    assert code == 1 and "not numbers" in err and "view0.txt" in err


def test_data_that_cannot_be_used(smerf, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = smerf("run", tmp_path / "empty", "-o", tmp_path / "run")
    assert code == 4 and "holds no photos of any kind" in err
    code, _, err = smerf("run", tmp_path / "nothing", "-o", tmp_path / "other")
    assert code == 2 and "does not exist" in err and not (tmp_path / "other").exists()
    fakes.make_data(tmp_path / "empty")
    assert smerf("run", tmp_path / "empty", "-o", tmp_path / "run")[0] == 0, "a failed start must not block"


def test_eval_of_one_stage_keeps_the_other_figures(smerf, data, tmp_path):
    run = tmp_path / "run"
    smerf("run", data, "-o", run)
    code, out, _ = smerf("eval", run, "--stage", "teacher", "--json")
    assert code == 0 and json.loads(out)["stages"].keys() == {"teacher", "student", "baked"}
    smerf("bake", run, "--set", "bake.resolution=32", "--overwrite")
    code, out, _ = smerf("eval", run, "--stage", "teacher", "--json")
    assert json.loads(out)["stages"].keys() == {"teacher", "student"}, "the old bake's figures must go"
    code, out, _ = smerf("eval", run)
    assert code == 0 and "baked" in out


def test_info_on_a_run_a_capture_and_a_scene(smerf, data, tmp_path):
    run = tmp_path / "run"
    smerf("train", data, "-o", run)
    code, out, _ = smerf("info", run, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["what"] == "run" and facts["stages"]["teacher"]["state"] == "done"
    assert facts["stages"]["baked"]["state"] == "not done" and facts["config"]["max_side"] == 640
    smerf("run", data, "-o", run)
    assert "psnr" in smerf("info", run)[1]
    assert json.loads(smerf("info", run / "baked", "--json")[1])["submodels"] == 1
    facts = json.loads(smerf("info", data, "--json")[1])
    assert (
        facts["photos"] == {"to learn from": 3, "held out": 1}
        and facts["sizes"] == ["24x16"]
        and facts["far"] is None
    )
    assert smerf("info", tmp_path / "nothing")[0] == 2


def test_info_says_how_far_an_unfinished_stage_is(smerf, data, tmp_path):
    run = tmp_path / "run"
    smerf("train", data, "-o", run)
    checkpoints = run / "unfinished" / "student" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "step_000000042.safetensors").touch()
    stages = json.loads(smerf("info", run, "--json")[1])["stages"]
    assert stages["student"] == {"state": "begun", "step": 42}


def test_synth_export_serve_and_render(smerf, tmp_path):
    assert smerf("synth", "tabletop", "-o", "capture", "--views", "5")[0] == 0
    code, _, err = smerf("synth", "tabletop", "-o", "capture")
    assert code == 2 and "is there already" in err
    assert smerf("run", "capture", "-o", "run")[0] == 0
    assert smerf("export", "run", "-o", "site")[0] == 0 and (tmp_path / "site" / "index.html").is_file()
    assert smerf("export", "run", "-o", "site")[0] == 2
    code, out, _ = smerf("export", "run", "-o", "page.html", "--single-file")
    assert code == 0 and out == "page: page.html\n"
    assert smerf("serve", "run", "--port", "9", "--no-browser")[1] == "serving run/site 127.0.0.1 9 False\n"
    assert smerf("serve", "run/baked", "--no-browser")[1] == "serving run/baked 127.0.0.1 8080 False\n"
    code, _, err = smerf("render", "run", "--split", "test", "-o", "frames")
    assert code == 0 and "render: done in" in err
    assert len(list((tmp_path / "frames").glob("*.png"))) == 2
    assert smerf("render", "run", "-o", "frames")[0] == 2
    assert smerf("export", "capture/none", "-o", "x")[0] == 2


def test_an_export_takes_the_photos_along_if_they_are_at_hand(smerf, data, tmp_path):
    def page(*words):
        code, _, err = smerf("export", "run", "-o", "page", "--overwrite", *words)
        text = (tmp_path / "page" / "index.html").read_text() if code == 0 else ""
        shutil.rmtree(tmp_path / "page", ignore_errors=True)
        return code, "photos" in text, err

    assert smerf("run", data, "-o", "run")[0] == 0
    assert "photos" in (tmp_path / "run" / "site" / "index.html").read_text()
    assert page()[:2] == (0, True) and page("--no-photos")[:2] == (0, False)
    data.rename(tmp_path / "moved")
    code, has_photos, err = page()
    assert code == 0 and not has_photos and "no photos" in err and "--data" in err
    assert page("--data", "moved")[:2] == (0, True)
    assert page("--data", "nowhere")[0] == 2


def test_render_along_a_path_to_a_video(smerf, data, tmp_path):
    import imageio.v3 as iio

    smerf("run", data, "-o", "run")
    pose = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1]
    path = {
        "render_width": 64,
        "render_height": 33,
        "fps": 12,
        "camera_path": [{"camera_to_world": pose, "fov": 50}] * 3,
    }
    (tmp_path / "path.json").write_text(json.dumps(path))
    code, out, err = smerf("render", "run", "--path", "path.json", "-o", "out/video.mp4")
    assert code == 0 and "3 frames" in out, err
    video = iio.imread(tmp_path / "out" / "video.mp4")
    assert video.shape == (3, 32, 64, 3)
    assert abs(float(video.mean()) - 0.3 * 255) < 4
    assert smerf("render", "run", "--path", "path.json", "-o", "out/video.mp4")[0] == 2
    (tmp_path / "bad.json").write_text(json.dumps({"render_width": 4}))
    code, _, err = smerf("render", "run", "--path", "bad.json", "-o", "f")
    assert code == 4 and "bad.json" in err and "render_height" in err


def test_a_size_budget_is_baked_remembered_and_its_cost_printed(smerf, data, tmp_path):
    run = tmp_path / "run"
    smerf("run", data, "-o", run)
    code, out, err = smerf("bake", run, "--max-mb", "5")
    assert code == 0, err
    assert calls(run) == [*ALL, "baked"]
    assert yaml.safe_load((run / "config.yaml").read_text())["bake"]["max_mb"] == 5.0
    assert "9.0 MB -> 4.5 MB of 5 MB with 50 %" in out and "2 training photos 30.00 dB -> 29.50 dB" in out
    # The run goes on with it.
    assert smerf("bake", run, "--max-mb", "5")[0] == 0 and calls(run) == [*ALL, "baked"]
    assert smerf("run", data, "-o", run)[0] == 0 and calls(run) == [*ALL, "baked", "site"]
    code, _, err = smerf("bake", run, "--max-mb", "small")
    assert code == 2
