"""smerf run --watch on fake stages: what the server answers while the run is at work, and at its end."""

import json
import signal
import urllib.request
from itertools import pairwise

import pytest


def ask(url, path=""):
    with urllib.request.urlopen(url + path, timeout=20) as answer:
        return answer.read()


def state(url):
    return json.loads(ask(url, "live.json"))


@pytest.fixture
def watched(smerf, monkeypatch):
    """The module of the watch, with a preview after every step."""
    import smerf.pipeline.watch as module

    for name, value in {"_FIRST_STEPS": 1, "_FIRST_SECONDS": 0.0, "_COST": 0.0}.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_a_run_shows_pictures_then_scenes_then_the_finished_page(watched, data, tmp_path, monkeypatch):
    from smerf.pipeline.run import run

    seen, bodies = [], []
    with watched.Watch(tmp_path / "run", port=0) as watch:
        url = watch.page.url
        assert state(url)["page"] is None and b"iframe" in ask(url)
        for name in ("teacher", "student"):
            show = getattr(watch, name)

            def after(model, capture, show=show):
                show(model, capture)
                seen.append(state(url))
                bodies.append(ask(url, seen[-1]["page"] or seen[-1]["pictures"][0]))

            monkeypatch.setattr(watch, name, after)
        run(data, tmp_path / "run", quiet=True, watch=watch)
        last = state(url)
        assert ask(url, "site/") == (tmp_path / "run" / "site" / "index.html").read_bytes()
        assert json.loads(ask(url, "progress.jsonl").splitlines()[-1])["stage"] == "eval"
        folder = watch.page.folder
        assert len(list(folder.glob("page*"))) == 2, "older pages and baked scenes are removed"
    assert [bool(one["page"]) for one in seen] == [False] * 6 + [True] * 4
    assert all(body.startswith(b"\xff\xd8") for body in bodies[:6])
    assert all(body.startswith(b"<!doctype html>") for body in bodies[6:])
    versions = [one["version"] for one in [*seen, last]]
    assert versions == sorted(set(versions)), "every refresh is a new one"
    assert last["page"] == "site/" and last["finished"] and not any(one["finished"] for one in seen)
    assert not folder.exists()


def test_watching_leaves_the_results_as_they_are(watched, smerf, data, tmp_path):
    from smerf.pipeline.run import run

    with watched.Watch(tmp_path / "watched", port=0) as watch:
        run(data, tmp_path / "watched", quiet=True, watch=watch)
    smerf("run", data, "-o", tmp_path / "alone", "--quiet")
    names = [
        {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")} - {"log.txt"}
        for name in ("watched", "alone")
    ]
    assert names[0] == names[1]
    for name in ("teacher/model.json", "student/model.json", "site/index.html", "calls.txt"):
        assert (tmp_path / "watched" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_preview_that_fails_is_the_last_and_the_run_goes_on(watched, data, tmp_path, monkeypatch, caplog):
    from smerf.pipeline.run import run

    tries = []

    def fail(*given):
        tries.append(given)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(watched, "_pictures", fail)
    with watched.Watch(tmp_path / "run", port=0) as watch:
        run(data, tmp_path / "run", quiet=True, watch=watch)
        assert state(watch.page.url)["finished"]
    assert len(tries) == 1 and "no more previews until the finished page: out of memory" in caplog.text


def test_previews_take_a_twentieth_of_the_time_after_the_first(smerf):
    from smerf.pipeline.watch import Pauses

    now, made = [0.0], []
    pauses = Pauses(lambda: now[0])

    def make():
        made.append(now[0])
        now[0] += 2.0

    for _ in range(100_000):
        now[0] += 0.01
        pauses.step(make)
    assert made[0] == pytest.approx(0.5), "after fifty steps"
    gaps = [after - before for before, after in pairwise(made)]
    assert len(made) >= 4 and gaps == sorted(gaps)
    assert 2.0 * (len(made) - 1) <= 0.05 * now[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_the_finished_page_until_it_is_stopped(number, start, data, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    process = start("run", data, "-o", tmp_path / "run", "--watch")
    lines = []
    while not lines or "shows the finished page" not in lines[-1]:
        lines.append(process.stderr.readline())
        assert lines[-1], "".join(lines)
    assert lines[0].startswith("watch: http://127.0.0.1:")
    url = lines[0].split()[1]
    assert state(url)["finished"] and b"<!doctype html>" in ask(url, "site/")
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0 and "report.html" in out
    assert not list((tmp_path / "temporary").glob("smerf-watch-*"))


def test_a_capture_that_is_not_there_is_refused_before_anything_is_served(smerf, tmp_path):
    code, _, err = smerf("run", tmp_path / "none", "--watch")
    assert code == 2 and "does not exist" in err and "watch:" not in err
