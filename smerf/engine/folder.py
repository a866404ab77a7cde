"""The folder of one run: where everything lies, which stages are done, and whose turn it is to write.

Each stage has a key, the hash of its config and of the digest of the stage before it. ``STAGE/started.json``
holds the key of the work in the folder and ``STAGE/done.json``, written last, says that this work is
complete. Completing a stage draws a new digest, so redoing a stage makes everything after it out of date.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from smerf.engine.files import read_json, write_json
from smerf.engine.lock import FolderLock
from smerf.errors import InvalidDataError, UsageError

__all__ = ["STAGES", "RunFolder", "Stage", "describe_differences", "flatten", "stage_key"]

STAGES = ("teacher", "student", "baked", "site")
"""The stages that own a folder, in the order of the flow."""
_OWN = frozenset((".lock", "log.txt", "progress.jsonl", "capture.json", "environment.json"))
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """What ``done.json`` says. ``digest`` names this result; ``seconds`` is the time of all sittings."""

    name: str
    key: str
    digest: str
    seconds: float
    peak_memory_mb: float | None
    finished: str
    peak_gpu_mb: float | None = None


class RunFolder:
    """The files of one run, below ``path``.

    Used as a context manager it holds the run's lock and appends the log of this process to ``log.txt``:

        with RunFolder(Path("runs/flat")) as run:
            run.begin("teacher", key)
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
        if (
            self.path.is_dir()
            and not self.exists()
            and any(path.name not in _OWN for path in self.path.iterdir())
        ):
            raise UsageError(f"{self.path}: holds other files and is not a run; give an empty folder with -o")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        self._handler = logging.FileHandler(self.log, encoding="utf-8", delay=True)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger("smerf").addHandler(self._handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            if kind is not None and error is not None:
                # Straight to the file: the command line prints its own single line.
                text = "interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {error}"
                record = _log.makeRecord(_log.name, logging.ERROR, "", 0, text, (), (kind, error, trace))
                self._handler.handle(record)
            logging.getLogger("smerf").removeHandler(self._handler)
            self._handler.close()
            self._handler = None
        self._lock.release()

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage, made or not."""
        return self.path / stage

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

    def begin(self, name: str, key: str, resumes: bool = True) -> Path:
        """Prepare the folder of a stage and return it.

        Work under the same key stays, to be resumed; anything else in the folder is deleted. With
        ``resumes`` off everything is deleted and the folder does not exist: for stages that write it as a
        whole.
        """
        folder = self.folder(name)
        if folder.is_symlink():
            raise UsageError(f"{folder}: is a link; smerf writes only into folders of its own")
        started = self._started(name)
        is_ours = resumes and started.is_file() and read_json(started).get("key") == key
        if folder.exists() and not is_ours:
            shutil.rmtree(folder)
        if resumes:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "done.json").unlink(missing_ok=True)
            if not started.is_file():
                write_json(started, {"key": key, "seconds": 0.0})
        return folder

    def pause(self, name: str, key: str, seconds: float) -> None:
        """Add the time of an unfinished sitting to a stage that will be resumed."""
        if self._started(name).is_file():
            write_json(self._started(name), {"key": key, "seconds": self._seconds(name, key) + seconds})

    def finish(
        self,
        name: str,
        key: str,
        seconds: float,
        peak_memory_mb: float | None = None,
        peak_gpu_mb: float | None = None,
    ) -> Stage:
        """Mark a begun stage as finished; ``seconds`` is the time of this sitting."""
        record = Stage(
            name=name,
            key=key,
            digest=secrets.token_hex(16),
            seconds=round(self._seconds(name, key) + seconds, 3),
            peak_memory_mb=peak_memory_mb,
            finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            peak_gpu_mb=peak_gpu_mb,
        )
        write_json(self.folder(name) / "done.json", asdict(record))
        return record

    def _started(self, name: str) -> Path:
        return self.folder(name) / "started.json"

    def _seconds(self, name: str, key: str) -> float:
        """Return the time already spent on this work."""
        if not self._started(name).is_file():
            return 0.0
        record = read_json(self._started(name))
        return float(record.get("seconds", 0.0)) if record.get("key") == key else 0.0

    def forget(self, name: str) -> None:
        """Drop a stage and every stage after it, with their files."""
        for stage in STAGES[STAGES.index(name) :]:
            if self.folder(stage).is_dir() and not self.folder(stage).is_symlink():
                shutil.rmtree(self.folder(stage))

    def write_event(self, **fields: Any) -> None:
        """Append one JSON line to ``progress.jsonl``."""
        line = json.dumps({"time": round(time.time(), 3), **fields}, default=str) + "\n"
        descriptor = os.open(self.progress, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


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
