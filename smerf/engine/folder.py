"""The folder of one run: where everything lies, which stages are done, and whose turn it is to write.

Each stage has a key, the hash of its config and of the digest of the stage before it. Its work lies in
``unfinished/STAGE``, whose ``started.json`` holds the key; the work of a process that was killed is found there
again. ``done.json`` is written last, then the folder takes the place of ``STAGE`` by a rename: until then the
finished result of before stays as it was. Completing a stage makes a new digest, so redoing a stage makes
everything after it out of date.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from smerf.engine.files import TEMPORARY_PREFIX, read_json, sync_folder, write_json
from smerf.engine.lock import FolderLock
from smerf.errors import InvalidDataError, UsageError

__all__ = [
    "EXPOSURES",
    "FOREIGN",
    "SOURCE",
    "STAGES",
    "RunFolder",
    "Stage",
    "describe_differences",
    "flatten",
    "stage_key",
]

SOURCE = "source.json"
"""In a capture that was rendered from a file: which, and how."""
EXPOSURES = "exposures.json"
"""In a teacher folder: the factors that its photos were evened with."""
FOREIGN = "foreign.json"
"""In a teacher or student folder: the file that is the teacher."""
STAGES = ("teacher", "student", "baked", "site")
"""The stages that own a folder, in the order of the flow."""
_UNFINISHED = "unfinished"
_REPLACED = ".replaced-"
_OWN = frozenset((".lock", "capture", "capture.json", "environment.json", "log.txt", "progress.jsonl"))
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """What ``done.json`` says of a finished stage."""

    name: str
    key: str
    digest: str
    """Names this result."""
    seconds: float
    """Total wall time over all resumed sessions."""
    peak_memory_mb: float | None
    finished: str
    peak_gpu_mb: float | None = None
    settings: dict[str, Any] | None = None
    """The settings that the stage ran with, as JSON values."""


class RunFolder:
    """The files of one run, below ``path``.

    Used as a context manager it holds the run's lock and appends the log of this process to ``log.txt``:

        with RunFolder(Path("runs/flat")) as run:
            work = run.begin("teacher", key)
            ...
            run.finish("teacher", key, seconds)
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.log = self.path / "log.txt"
        self.progress = self.path / "progress.jsonl"
        self.capture = self.path / "capture.json"
        self.metrics = self.path / "metrics.json"
        self.report = self.path / "report.html"
        self._unfinished = self.path / _UNFINISHED
        self._lock = FolderLock(self.path / ".lock")
        self._handler: logging.Handler | None = None

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run at ``path``.

        Raises:
            UsageError: If there is no run there.
        """
        run = cls(path)
        if not run.exists():
            raise UsageError(
                f"{path}: is not a run folder (no config.yaml); smerf run DATA -o {path} makes one"
            )
        return run

    def exists(self) -> bool:
        """Return whether a run has been started here."""
        return self.config.is_file()

    def __enter__(self) -> RunFolder:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path}: is a file; give a folder with -o")
        if self.path.is_dir() and not self.exists() and not all(map(_is_own, self.path.iterdir())):
            raise UsageError(f"{self.path}: holds other files and is not a run; give an empty folder with -o")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._recover()
        except BaseException:
            self._lock.release()
            raise
        self._handler = _LogFile(self.log)
        logging.getLogger("smerf").addHandler(self._handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            if kind is not None and error is not None:
                # Straight to the file: the command line prints its own single line.
                text = "interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {error}"
                where = None if isinstance(error, (UsageError, KeyboardInterrupt)) else (kind, error, trace)
                record = _log.makeRecord(_log.name, logging.ERROR, "", 0, text, (), where)
                self._handler.handle(record)
            logging.getLogger("smerf").removeHandler(self._handler)
            self._handler.close()
            self._handler = None
        self._drop_if_empty()
        self._lock.release()

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage's finished result, made or not."""
        place, replaced = self.path / stage, self._replaced(stage)
        # A process that was killed while it replaced the result leaves it there until the next writer comes.
        return replaced if replaced.is_dir() and not place.exists() else place

    def work(self, stage: str) -> Path:
        """Return the folder in which a stage is being made or was left unfinished."""
        return self._unfinished / stage

    def stage(self, name: str) -> Stage | None:
        """Return the record of a finished stage, or ``None`` if it is not finished."""
        path = self.folder(name) / "done.json"
        if not path.is_file():
            return None
        record = read_json(path)
        try:
            return Stage(**record)
        except TypeError as error:
            raise InvalidDataError(
                f"{path}: is not a stage record ({error}); delete it to redo the stage"
            ) from error

    def is_done(self, name: str, key: str) -> bool:
        """Return whether the stage is finished with exactly this key."""
        record = self.stage(name)
        return record is not None and record.key == key

    def begin(self, name: str, key: str, *, resumes: bool = True) -> Path:
        """Return the folder to work in; the stage's finished result stays where it is.

        Unfinished work under the same key is there to be resumed; any other is deleted. With ``resumes`` off
        everything is deleted and the folder does not exist: for stages that write it as a whole.
        """
        work = self.work(name)
        for folder in (self.path / name, work):
            if folder.is_symlink():
                raise UsageError(f"{folder}: is a link; smerf writes only into folders of its own")
        if work.exists() and not (resumes and self.started(name).get("key") == key):
            shutil.rmtree(work)
        work.parent.mkdir(exist_ok=True)
        if resumes:
            work.mkdir(exist_ok=True)
            if not self.started(name):
                self._write_started(name, key=key, seconds=0.0)
        return work

    def started(self, name: str) -> dict[str, Any]:
        """Return the record of unfinished work: ``key``, ``seconds``, ``settings``; empty if there is none."""
        path = self.work(name) / "started.json"
        record = read_json(path) if path.is_file() else {}
        if not isinstance(record, dict):
            raise InvalidDataError(f"{path}: is not a record of work; delete {path.parent}")
        return record

    def note_settings(self, name: str, settings: dict[str, Any]) -> None:
        """Record the settings that unfinished work runs with, for whoever resumes it."""
        self._write_started(name, settings=settings)

    def pause(self, name: str, key: str, seconds: float) -> None:
        """Add the time of an unfinished session to a stage that will be resumed."""
        if self.started(name).get("key") == key:
            self._write_started(name, seconds=self._seconds(name, key) + seconds)

    def finish(
        self,
        name: str,
        key: str,
        seconds: float,
        peak_memory_mb: float | None = None,
        peak_gpu_mb: float | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Stage:
        """Put the work of a begun stage in its place; ``seconds`` is the time of this session."""
        record = Stage(
            name=name,
            key=key,
            digest=secrets.token_hex(16),
            seconds=round(self._seconds(name, key) + seconds, 3),
            peak_memory_mb=peak_memory_mb,
            finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            peak_gpu_mb=peak_gpu_mb,
            settings=settings,
        )
        write_json(self.work(name) / "done.json", asdict(record))
        self._install(name)
        return record

    def renew(self, name: str, folder: Path) -> None:
        """Give a finished result that something was added to a new digest: what follows it is out of date.

        ``folder`` holds the result, here or on its way here.
        """
        record = self.stage(name)
        if record is not None:
            write_json(folder / "done.json", asdict(replace(record, digest=secrets.token_hex(16))))

    def write_event(self, **fields: Any) -> None:
        """Append one JSON line to ``progress.jsonl``; a disk that is full costs the line and no more."""
        line = json.dumps({"time": round(time.time(), 3), **fields}, default=str) + "\n"
        try:
            descriptor = os.open(self.progress, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            _log.debug("%s: %s", self.progress, error.strerror)

    def _write_started(self, name: str, **changes: Any) -> None:
        write_json(self.work(name) / "started.json", self.started(name) | changes)

    def _seconds(self, name: str, key: str) -> float:
        """Return the time already spent on this work."""
        record = self.started(name)
        return float(record.get("seconds", 0.0)) if record.get("key") == key else 0.0

    def _replaced(self, name: str) -> Path:
        return self._unfinished / f"{_REPLACED}{name}"

    def _install(self, name: str) -> None:
        """Let finished work take the place of the result of before, which goes last."""
        place, old = self.path / name, self._replaced(name)
        if place.exists():
            place.rename(old)
        self.work(name).rename(place)
        sync_folder(self.path)
        shutil.rmtree(old, ignore_errors=True)
        self._drop_if_empty()

    def _recover(self) -> None:
        """End what a killed process began, bring back what it had moved away, and remove its leftovers."""
        for name in STAGES:
            self._adopt(name)
        entries = list(self._unfinished.iterdir()) if self._unfinished.is_dir() else []
        for old in (entry for entry in entries if entry.name.startswith(_REPLACED)):
            name = old.name.removeprefix(_REPLACED)
            if (self.path / name).exists() or (self.work(name) / "done.json").is_file():
                shutil.rmtree(old)
            else:
                old.rename(self.path / name)
        for entry in entries:
            if (entry / "done.json").is_file():
                self._install(entry.name)
            elif entry.is_dir() and not (entry / "started.json").is_file():
                shutil.rmtree(entry)
        for leftover in self.path.rglob(f"{TEMPORARY_PREFIX}*"):
            leftover.unlink(missing_ok=True)
        self._drop_if_empty()

    def _adopt(self, name: str) -> None:
        """Take up the unfinished work of the first edition, which lay in the place of the result."""
        place = self.path / name
        if place.is_symlink() or (place / "done.json").is_file() or self.work(name).exists():
            return
        if (place / "started.json").is_file():
            self._unfinished.mkdir(exist_ok=True)
            place.rename(self.work(name))

    def _drop_if_empty(self) -> None:
        if self._unfinished.is_dir() and not any(self._unfinished.iterdir()):
            self._unfinished.rmdir()


class _LogFile(logging.FileHandler):
    """Appends to ``log.txt``; a disk that is full costs the line and no more."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Keep quiet."""


def _is_own(path: Path) -> bool:
    return path.name in _OWN or path.name.startswith(TEMPORARY_PREFIX)


def stage_key(config: Any, upstream: str) -> str:
    """Hash a stage's config (JSON values) and the digest of what it reads."""
    text = json.dumps({"config": config, "upstream": upstream}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries: ``{"teacher": {"lr": 1}}`` gives ``{"teacher.lr": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def describe_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List the dotted keys in which two configs differ, each as ``key (old -> new)``."""
    before, after = flatten(old), flatten(new)
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key} ({before.get(key, 'unset')} -> {after.get(key, 'unset')})"
        for key in keys
        if before.get(key) != after.get(key)
    ]
