import json
import logging
import os
import signal
import subprocess
import sys

import pytest

from smerf.engine.folder import RunFolder, describe_differences, stage_key
from smerf.errors import InvalidDataError, SmerfError, UsageError

HOLDER = """
import sys, time
from pathlib import Path
from smerf.engine.folder import RunFolder
with RunFolder(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def hold(path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_writer_is_refused_and_a_dead_one_is_taken_over(tmp_path):
    process = hold(tmp_path / "run")
    try:
        with pytest.raises(SmerfError, match=f"process {process.pid}"):
            RunFolder(tmp_path / "run").__enter__()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "run" / ".lock").read_text(), "the dead process should have left its name"
    with RunFolder(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / ".lock").read_text())["pid"] == os.getpid()


def test_a_folder_of_other_things_is_not_taken_for_a_run(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="other files"):
        RunFolder(tmp_path).__enter__()
    with pytest.raises(UsageError, match="not a run folder"):
        RunFolder.open(tmp_path)


def test_a_stage_is_done_only_after_finish_and_only_under_its_key(tmp_path):
    run = RunFolder(tmp_path)
    assert not run.is_done("teacher", "k")
    run.begin("teacher", "k")
    assert not run.is_done("teacher", "k")
    run.finish("teacher", "k", 2.0, 100.0)
    assert run.is_done("teacher", "k") and not run.is_done("teacher", "other")
    assert run.stage("teacher").seconds == 2.0


def test_work_under_the_same_key_stays_and_other_work_goes(tmp_path):
    run = RunFolder(tmp_path)
    (run.begin("teacher", "k") / "weights").write_text("half")
    assert (run.begin("teacher", "k") / "weights").exists()
    assert not (run.begin("teacher", "other") / "weights").exists()


def test_time_adds_up_over_sittings(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("teacher", "k")
    run.pause("teacher", "k", 5.0)
    run.begin("teacher", "k")
    assert run.finish("teacher", "k", 1.5).seconds == 6.5


def test_redoing_a_stage_puts_the_next_one_out_of_date(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("teacher", "k")
    first = run.finish("teacher", "k", 1.0).digest
    run.begin("teacher", "k")
    assert run.finish("teacher", "k", 1.0).digest != first


def test_forget_drops_the_stage_and_what_follows(tmp_path):
    run = RunFolder(tmp_path)
    for name in ("teacher", "student", "baked", "site"):
        run.begin(name, "k")
        run.finish(name, "k", 1.0)
    run.forget("student")
    assert run.is_done("teacher", "k")
    assert not any(run.folder(name).exists() for name in ("student", "baked", "site"))


def test_a_damaged_record_is_named(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("teacher", "k")
    run.finish("teacher", "k", 1.0)
    (tmp_path / "teacher" / "done.json").write_text("{")
    with pytest.raises(InvalidDataError, match=r"done\.json"):
        run.is_done("teacher", "k")


def test_a_linked_stage_folder_is_never_deleted(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "keep").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "teacher").symlink_to(tmp_path / "elsewhere")
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match="link"):
        run.begin("teacher", "k")
    run.forget("teacher")
    assert (tmp_path / "elsewhere" / "keep").exists()


def test_the_log_holds_messages_and_the_traceback(tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ZeroDivisionError), run:
        logging.getLogger("smerf.teacher").warning("a warning")
        _ = 1 / 0
    log = run.log.read_text()
    assert "a warning" in log and "ZeroDivisionError" in log and "Traceback" in log


def test_stage_key_follows_config_and_upstream_but_not_the_order_of_keys():
    key = stage_key({"a": 1, "b": 2}, "up")
    assert key == stage_key({"b": 2, "a": 1}, "up")
    assert len({key, stage_key({"a": 1, "b": 3}, "up"), stage_key({"a": 1, "b": 2}, "down")}) == 3


def test_differences_name_dotted_keys():
    old, new = {"teacher": {"lr": 1, "steps": 5}, "x": 1}, {"teacher": {"lr": 2, "steps": 5}, "y": 3}
    differences = describe_differences(old, new)
    assert differences == ["teacher.lr (1 -> 2)", "x (1 -> unset)", "y (unset -> 3)"]
