"""Kills, full disks and refused files at every operation on the run folder: no result is lost, and a run goes on.

    .venv/bin/python -m tests.end_to_end.faults [COMMAND ...] [--first 1] [--last N] [--json FILE]

COMMAND is first_run, bake_again or run_again, all by default: a first run, baking a finished run again, and a finished
run with other settings. Each operation that changes a file of the run fails in each of three ways, on a fresh copy:
then every result must be there, and the same command must finish. Exits with 1 after a loss. Needs fork.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Benchmark, Report
from smerf.errors import UsageError
from tests.helpers.faults import FAULTS, KILLED, config_of, in_child, leftovers, prepared, whole

_ALLOWED = (0, 1, KILLED)


@dataclass(frozen=True)
class Command:
    """A command whose every operation may fail.

    Attributes:
        words: The command; RUN and DATA stand for folders.
        stage: The stage that it makes again; None for a first run.
        setting: The section and the key that it changes.
    """

    words: tuple[str, ...]
    stage: str | None = None
    setting: tuple[str, str] = ("", "")

    def put(self, run: Path, data: Path) -> list[str]:
        """Return the words for two folders."""
        return [{"RUN": str(run), "DATA": str(data)}.get(word, word) for word in self.words]


COMMANDS = {
    "first_run": Command(("run", "DATA", "-o", "RUN", "-q", "--device", "cpu")),
    "bake_again": Command(("bake", "RUN", "--max-mb", "5", "-q"), "baked", ("bake", "max_mb")),
    "run_again": Command(
        ("run", "DATA", "-o", "RUN", "--set", "student.steps=5", "--overwrite", "-q"),
        "student",
        ("student", "steps"),
    ),
}


class Place:
    """Where a command is tried: photos, a finished run, and a folder for copies."""

    def __init__(self, command: Command, data: Path, finished: Path, folder: Path) -> None:
        self.command, self.data, self.finished, self.folder = command, data, finished, folder
        self.before = whole(finished)

    def count(self) -> int:
        """Return the operations of the command where nothing fails."""
        run = self._start("counted")
        code, count, err = in_child(self.command.put(run, self.data), run)
        assert code == 0, err
        shutil.rmtree(run)
        return count

    def fail(self, at: int, name: str) -> int:
        """Let one operation fail and return the command's exit code.

        Raises:
            AssertionError: If a result is lost or wrong, or the command doesn't finish when it is given again.
        """
        run = self._start(f"run{at}")
        try:
            words = self.command.put(run, self.data)
            code, count, err = in_child(words, run, at, FAULTS[name])
            assert code in _ALLOWED and "Traceback" not in err, (at, name, code, err)
            assert code == KILLED or count >= at, f"{name} at {at}: there was no operation {at}"
            (self._check_first if self.command.stage is None else self._check_again)(run, words)
        except AssertionError as error:
            raise AssertionError(f"{name} at operation {at}: {error}") from error
        finally:
            shutil.rmtree(run, ignore_errors=True)
        return code

    def _start(self, name: str) -> Path:
        run = self.folder / name
        if self.command.stage is not None:
            shutil.copytree(self.finished, run)
        return run

    def _check_first(self, run: Path, words: Sequence[str]) -> None:
        done = whole(run) if run.exists() else {}
        code, _, err = in_child(words)
        assert code == 0, err
        after = whole(run)
        assert after.keys() == self.before.keys() and not leftovers(run)
        assert all(after[stage] == done[stage] for stage in done), "a finished result was made again"

    def _check_again(self, run: Path, words: Sequence[str]) -> None:
        stage, (section, key) = self.command.stage, self.command.setting
        after = whole(run)
        assert after.keys() == self.before.keys(), "a result is gone"
        # Whoever takes the run up again finds the config of the results that it has.
        code, _, err = in_child(("eval", run, "-q"))
        assert code == 0, err
        old = config_of(self.finished)[section][key]
        is_new = whole(run)[stage] != self.before[stage]
        assert (config_of(run)[section][key] != old) == is_new, "the config is not that of the result"
        assert whole(run)["teacher"] == self.before["teacher"], "the teacher changed"
        code, _, err = in_child(words)
        assert code == 0, err
        assert config_of(run)[section][key] != old and not leftovers(run)


def try_all(place: Place, numbers: Sequence[int], lost: Callable[[str], None]) -> dict[str, int]:
    """Let each of some operations fail in each way; return how often, without effect, and with losses."""
    found = {f"{name.replace(' ', '_')}{what}": 0 for name in FAULTS for what in ("", "_without_effect")}
    found["losses"] = 0
    for at in numbers:
        for name in FAULTS:
            key = name.replace(" ", "_")
            found[key] += 1
            try:
                found[f"{key}_without_effect"] += place.fail(at, name) == 0
            except AssertionError as error:
                found["losses"] += 1
                lost(str(error))
    return found


def measure(options: argparse.Namespace, report: Report) -> int:
    if unknown := set(options.commands) - COMMANDS.keys():
        raise UsageError(f"unknown command {', '.join(sorted(unknown))}: use {', '.join(COMMANDS)}")
    losses = 0
    with tempfile.TemporaryDirectory() as folder, prepared(Path(folder)) as (data, finished):
        for name in options.commands or COMMANDS:
            place = Place(COMMANDS[name], data, finished, Path(folder))
            operations = place.count()
            numbers = range(options.first, min(options.last or operations, operations) + 1)
            found = try_all(place, numbers, lambda text: print(f"  LOST {text}", flush=True))
            losses += found["losses"]
            report.add(
                f"faults/{name}", operations=operations, first=options.first, last=numbers[-1], **found
            )
            print(f"{name}: {', '.join(f'{word} {count}' for word, count in found.items())}", flush=True)
    return 1 if losses else 0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--first", type=int, default=1, help="number of the first operation")
    parser.add_argument("--last", type=int, help="number of the last operation")


BENCHMARK = Benchmark(__doc__ or "", measure, options, short=[])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
