"""Folders are replaced whole; what killed writers left goes, what users own stays."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from smerf.engine.replace import replace_folder


def write(target, text):
    with replace_folder(target) as new:
        (new / "page.html").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_made_and_replaced_and_nothing_stays_beside_it(tmp_path):
    target = tmp_path / "deep" / "site"
    write(target, "one")
    (target / "extra").mkdir()
    write(target, "two")
    assert (target / "page.html").read_text() == "two"
    assert names(target) == ["page.html"]
    assert names(target.parent) == ["site"]


def test_a_failed_write_leaves_the_old_folder(tmp_path):
    target = tmp_path / "site"
    write(target, "one")
    with pytest.raises(KeyboardInterrupt), replace_folder(target) as new:
        (new / "page.html").write_text("half")
        raise KeyboardInterrupt
    assert (target / "page.html").read_text() == "one"
    assert names(tmp_path) == ["site"]


def test_folders_of_the_user_stay(tmp_path):
    for name in ("site.partial", "site.old", ".site.old", ".smerf-notes", ".smerf-abcdefgh"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
    (tmp_path / ".smerf-notes" / "replace.json").write_text('{"format": "other"}')
    before = names(tmp_path)
    write(tmp_path / "site", "one")
    write(tmp_path / "site", "two")
    assert names(tmp_path) == sorted([*before, "site"])
    assert all((tmp_path / name / "mine.txt").read_text() == "mine" for name in before)


KILLED = """
import os, signal, sys
from pathlib import Path
from smerf.engine import replace
target = Path(sys.argv[1])
if sys.argv[2] == "swap":
    rename = Path.rename
    def once(self, other):
        rename(self, other)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.rename = once
with replace.replace_folder(target) as new:
    (new / "page.html").write_text("two")
    if sys.argv[2] == "fill":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["fill", "swap"])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, moment):
    target = tmp_path / "site"
    write(target, "one")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target), moment])
    assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == (2 if moment == "fill" else 1)
    with pytest.raises(RuntimeError), replace_folder(target):
        assert (target / "page.html").read_text() == "one"
        raise RuntimeError
    assert names(tmp_path) == ["site"]
    assert (target / "page.html").read_text() == "one"


def test_the_work_of_a_living_writer_stays(tmp_path):
    target = tmp_path / "site"
    with replace_folder(target) as first:
        (first / "page.html").write_text("first")
        write(target, "second")
        assert (first / "page.html").read_text() == "first"
    assert (target / "page.html").read_text() == "first"


def test_a_file_system_that_cannot_sync_folders_works(tmp_path, monkeypatch):
    sync = os.fsync

    def refuse(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    write(tmp_path / "site", "one")
    assert (tmp_path / "site" / "page.html").read_text() == "one"
