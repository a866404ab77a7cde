import errno
import json
import logging
import os
import signal
import subprocess
import sys

import pytest

from smerf.engine import files
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


def test_a_killed_start_does_not_block_the_folder(tmp_path):
    for name in ("log.txt", "capture.json", ".tmp-77-config.yaml", ".lock"):
        (tmp_path / name).write_text("")
    with RunFolder(tmp_path):
        assert not (tmp_path / ".tmp-77-config.yaml").exists()


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


def make(run, name, key, text):
    (run.begin(name, key) / "result").write_text(text)
    return run.finish(name, key, 1.0)


def test_the_finished_result_stays_until_the_new_one_is_complete(tmp_path):
    run = RunFolder(tmp_path)
    make(run, "baked", "old", "old")
    (run.begin("baked", "new") / "result").write_text("half")
    assert run.is_done("baked", "old") and (run.folder("baked") / "result").read_text() == "old"
    (run.work("baked") / "result").write_text("new")
    run.finish("baked", "new", 1.0)
    assert run.is_done("baked", "new") and (run.folder("baked") / "result").read_text() == "new"
    assert not (tmp_path / "unfinished").exists()


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_while_a_result_is_replaced_loses_neither(tmp_path, monkeypatch, renames):
    run = RunFolder(tmp_path)
    run.config.write_text("")
    make(run, "baked", "old", "old")
    (run.begin("baked", "new") / "result").write_text("new")
    rename, done = type(tmp_path).rename, []

    def stop(self, target):
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(tmp_path), "rename", stop)
        run.finish("baked", "new", 1.0)
    assert (run.folder("baked") / "result").read_text() == "old", "readers still find the old one"
    with RunFolder(tmp_path) as again:
        assert (again.folder("baked") / "result").read_text() == "new"
    assert not (tmp_path / "unfinished").exists()


def test_unfinished_work_of_the_first_edition_is_taken_up(tmp_path):
    run = RunFolder(tmp_path)
    run.config.write_text("")
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "started.json").write_text('{"key": "k", "seconds": 3.0}')
    (tmp_path / "teacher" / "weights").write_text("half")
    with run:
        assert (run.begin("teacher", "k") / "weights").read_text() == "half"
        assert run.finish("teacher", "k", 1.0).seconds == 4.0


def test_time_adds_up_over_sessions(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("teacher", "k")
    run.pause("teacher", "k", 5.0)
    run.begin("teacher", "k")
    assert run.finish("teacher", "k", 1.5).seconds == 6.5


def test_redoing_a_stage_puts_the_next_one_out_of_date(tmp_path):
    run = RunFolder(tmp_path)
    assert make(run, "teacher", "k", "").digest != make(run, "teacher", "k", "").digest


def test_a_damaged_record_is_named(tmp_path):
    run = RunFolder(tmp_path)
    make(run, "teacher", "k", "")
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
    assert (tmp_path / "elsewhere" / "keep").exists()


def test_a_usage_error_leaves_one_line_in_the_log(tmp_path):
    with pytest.raises(UsageError), RunFolder(tmp_path / "run") as run:
        raise UsageError("--max-mb 1: is too small")
    log = run.log.read_text()
    assert "--max-mb 1" in log and "Traceback" not in log


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_or_syncs_works_with_a_warning(tmp_path, monkeypatch, caplog, number):
    import fcntl

    def refuse(*words):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    sync = os.fsync
    monkeypatch.setattr(files, "_warned", set())

    def refuse_folders(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with RunFolder(tmp_path / "run") as run:
        make(run, "teacher", "k", "text")
    assert "no locks" in caplog.text and caplog.text.count("cannot sync") == 1


def test_a_disk_that_fails_to_sync_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    files.write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError) as caught:
        files.write_text(tmp_path / "a.txt", "new")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_models_have_the_mode_of_all_other_files(tmp_path):
    import torch

    from smerf.engine.tensors import write_tensors

    before = os.umask(0o027)
    try:
        write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)}, "test-1")
        files.write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in sorted(tmp_path.iterdir())] == [0o640, 0o640]


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
