import io
import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from smerf.engine import progress as module
from smerf.engine.folder import RunFolder
from smerf.engine.progress import Progress, WholeRun, format_seconds
from smerf.engine.signals import Interrupted, catch_signals, raise_if_stopped, stop_requested


class Clock:
    """A clock that the test turns."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_plain_lines_come_every_ten_seconds_or_one_per_cent_whichever_is_later(clock):
    stream = io.StringIO()
    with Progress("train", 1000, stream=stream, verbose=True) as progress:
        for step in range(1, 1001):
            clock.now += 0.125 if step <= 500 else 2.0
            progress.update(step, loss=1 / step)
    lines = stream.getvalue().splitlines()
    # 62.5 s at 80 steps in ten seconds, then 1000 s at ten steps (one per cent) in twenty.
    assert len([line for line in lines if "steps/s" in line]) == 6 + 50
    assert lines[0] == "train: begins" and lines[-1].startswith("train: done in 17 min 42 s")
    assert "loss" in lines[1] and "left" in lines[1]


def test_eta_ignores_the_slow_start_and_earlier_sittings(clock):
    progress = Progress("train", 1000, stream=io.StringIO())
    with progress:
        clock.now += 300  # set-up
        progress.update(500)  # resumed here
        assert progress.eta is None
        clock.now += 10
        progress.update(600)
    assert progress.rate == pytest.approx(10)
    assert progress.eta == pytest.approx(40)


def test_a_budget_of_seconds(clock):
    stream = io.StringIO()
    with Progress("train", 240, "s", stream=stream) as progress:
        clock.now += 60
        progress.update(60, psnr=21.5)
        assert progress.eta == 180
    assert "1 min 00 s of 4 min 00 s" in stream.getvalue()
    assert "PSNR 21.5" in stream.getvalue() and "3 min 00 s left" in stream.getvalue()


def test_the_total_may_come_later_and_a_progress_is_callable(clock):
    progress = Progress("render", unit="views", stream=io.StringIO())
    with progress:
        assert progress.eta is None
        progress(1, 4)
        clock.now += 2
        progress(2, 4)
        assert progress.total == 4 and progress.eta == pytest.approx(4)


def test_json_lines_are_valid_even_with_nan(tmp_path, clock):
    run = RunFolder(tmp_path)
    with Progress("teacher", 10, run=run, stream=io.StringIO()) as progress:
        for step in range(10):
            clock.now += 1.0
            progress.update(step + 1, loss=math.nan if step == 3 else 0.5)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in run.progress.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["begin", *["progress"] * 10, "end"]
    assert lines[4]["loss"] is None and lines[5]["loss"] == 0.5
    assert lines[-1]["done"] == lines[-1]["total"] == 10 and lines[-1]["unit"] == "steps"


def test_json_lines_stay_few_when_steps_are_fast(tmp_path, clock):
    run = RunFolder(tmp_path)
    with Progress("teacher", 10_000, run=run, stream=io.StringIO()) as progress:
        for step in range(10_000):
            clock.now += 0.001
            progress.update(step)
    assert len(run.progress.read_text().splitlines()) <= 13


def test_a_stage_that_fails_says_where_it_stopped(clock):
    stream = io.StringIO()
    with pytest.raises(ValueError), Progress("bake", 10, "submodels", stream=stream) as progress:
        progress.update(3)
        raise ValueError
    assert stream.getvalue().splitlines()[-1] == "bake: stopped at 3/10 submodels"


def test_quiet_shows_nothing(clock):
    stream = io.StringIO()
    with Progress("bake", 10, quiet=True, stream=stream) as progress:
        clock.now += 60
        progress.update(5)
    assert stream.getvalue() == ""


def test_the_whole_run_is_scaled_by_what_was_measured(clock):
    whole = WholeRun({"train": 0.5, "distill": 0.4, "eval": 0.1})
    with Progress("train", 100, whole=whole, stream=io.StringIO()) as progress:
        progress.update(0)
        assert progress.left is None
        clock.now += 10
        progress.update(10)
        # 90 s of this stage, and as much as the other half of a run whose first half takes 100 s.
        assert progress.left == pytest.approx(190)
        clock.now += 190
        progress.update(100)
    with Progress("distill", 10, whole=whole, stream=io.StringIO()) as progress:
        progress.update(0)
        clock.now += 16
        progress.update(1)
        # 160 s expected: as estimated from the training, so 40 s are left for the evaluation.
        assert progress.left == pytest.approx(144 + 40)


def test_losses_are_left_out_of_plain_lines_unless_asked_for(clock):
    for verbose in (False, True):
        stream = io.StringIO()
        with Progress("train", 10, stream=stream, verbose=verbose) as progress:
            clock.now += 20
            progress.update(5, colour=0.25, psnr=24.0)
        line = stream.getvalue().splitlines()[1]
        assert line.startswith("train: 50 %") and "PSNR 24" in line and ("colour" in line) is verbose


def test_a_slow_step_does_not_keep_the_log_silent(monkeypatch):
    monkeypatch.setattr(module, "_MAX_LINE_SECONDS", 0.05)
    stream = io.StringIO()
    with Progress("bake", 4, "submodels", stream=stream):
        end = time.monotonic() + 30
        while stream.getvalue().count("0/4 submodels") < 2 and time.monotonic() < end:
            time.sleep(0.01)
    assert stream.getvalue().count("0/4 submodels") >= 2


BAR = """
import time
from smerf.engine.progress import Progress, WholeRun
whole = WholeRun({"synth": 0.1, "train [x]": 0.6, "distill": 0.3})
losses = {"colour": 0.1288, "distortion": 0.007092, "opacity": 0.0001}
with Progress("train [x]", 400, whole=whole) as progress:
    for step in range(1, 401):
        time.sleep(0.005)
        progress.update(step, psnr=24.125, **losses)
print("result")
"""


def run_on_terminal(**environment):
    """Run BAR with stderr on a pseudo-terminal; return (stdout, terminal text)."""
    ours, theirs = pty.openpty()
    variables = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-c", BAR],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**variables, "TERM": "xterm-256color", "COLUMNS": "160", **environment},
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the far end is closed
            break
        if not chunk:
            break
        text += chunk
    os.close(ours)
    return process.communicate()[0].decode(), text.decode()


def test_a_terminal_gets_a_bar_and_stdout_stays_clean():
    stdout, terminal = run_on_terminal()
    assert stdout == "result\n"
    assert "[2/3] train [x]" in terminal and "━" in terminal and "\x1b[3" in terminal


@pytest.mark.parametrize("columns", [80, 100, 120, 200])
def test_a_bar_shows_what_matters_at_every_width(columns):
    terminal = run_on_terminal(COLUMNS=str(columns), NO_COLOR="1")[1]
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "\n", terminal)
    lines = [line.rstrip() for part in text.split("\r") for line in part.split("\n") if "left" in line]
    assert lines
    for line in lines:
        assert re.search(r"\[2/3\] train \[x\] +[━╸╺]+ .*\d+ %, run: .* left, PSNR 24.12", line), line
        assert len(line) <= columns and "\u2026" not in line
    assert any("opacity" in line for line in lines) is (columns == 200)


def test_no_color_is_honoured_and_a_dumb_terminal_gets_lines():
    terminal = run_on_terminal(NO_COLOR="1")[1]
    colours = re.findall(r"\x1b\[[\d;]*m", terminal)
    assert all(code in ("\x1b[0m", "\x1b[m", "\x1b[1m", "\x1b[2m") for code in colours), set(colours)
    assert "\x1b" not in run_on_terminal(TERM="dumb")[1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (8.21, "8.2 s"), (59, "59 s"), (245, "4 min 05 s"), (7380, "2 h 03 min")],
)
def test_times_for_people(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_sets_a_flag_and_the_second_ends_at_once(number, code):
    before = signal.getsignal(signal.SIGINT)
    with catch_signals():
        assert not stop_requested()
        raise_if_stopped()
        os.kill(os.getpid(), number)
        assert stop_requested()
        with pytest.raises(Interrupted) as caught:
            raise_if_stopped()
        assert caught.value.exit_code == code
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), number)
            time.sleep(5)
    assert not stop_requested()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stage_without_checkpoints_stops_at_its_next_update():
    with catch_signals(), pytest.raises(Interrupted):
        with Progress("bake", 10, stops=True, stream=io.StringIO()) as progress:
            progress.update(1)
            os.kill(os.getpid(), signal.SIGINT)
            progress.update(2)
