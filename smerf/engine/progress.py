"""Say how far a stage is: a bar on a terminal, plain lines elsewhere, JSON lines in the run folder always."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TextIO, TypeGuard

from smerf.engine.signals import raise_if_stopped

if TYPE_CHECKING:
    from smerf.engine.folder import RunFolder

__all__ = ["Progress", "WholeRun", "format_seconds"]

_LINE_SECONDS = 10.0
_LINE_FRACTION = 0.01
_MAX_LINE_SECONDS = 30.0
_EVENT_SECONDS = 1.0
_WINDOW_SECONDS = 60.0
_SAMPLE_SECONDS = 0.25


class WholeRun:
    """The stages of a whole run, for the time that it has left.

    Args:
        weights: The time of each stage relative to the others, by name and in order: a first estimate, which the
            stages that were measured in this run scale.
        is_granted: Whether the weights are seconds that the stages keep to.
    """

    def __init__(self, weights: dict[str, float], *, is_granted: bool = False) -> None:
        self._weights, self.is_granted = weights, is_granted
        self._seconds: dict[str, float] = {}

    def title(self, stage: str) -> str:
        """Return a stage's name with its number, as shown."""
        names = list(self._weights)
        return f"[{names.index(stage) + 1}/{len(names)}] {stage}"

    def finish(self, stage: str, seconds: float) -> None:
        """Say how long a stage took."""
        self._seconds[stage] = seconds

    def left(self, stage: str, expected: float, eta: float) -> float:
        """Return the seconds to go of all stages, while ``stage`` takes ``expected`` and has ``eta`` to go."""
        if self.is_granted:
            return (max(self._weights[stage] - (expected - eta), 0.0) or eta) + self._after(stage)
        measured = {**self._seconds, stage: expected}
        scale = sum(measured.values()) / sum(self._weights[name] for name in measured)
        return eta + scale * self._after(stage)

    def spare(self, stage: str) -> float | None:
        """Return the seconds that are left for the last ``stage`` of a granted time; None without a grant."""
        if not self.is_granted:
            return None
        return max(0.0, sum(self._weights.values()) - sum(self._seconds.values()))

    def _after(self, stage: str) -> float:
        names = list(self._weights)
        return sum(self._weights[name] for name in names[names.index(stage) + 1 :])


class Progress:
    """The progress of one stage, as a context manager.

    Args:
        stage: Its name, as shown.
        total: Where ``done`` ends, or ``None`` while unknown; ``update`` may set it later.
        unit: What is counted, for example ``steps``. With ``s`` the total is a time budget in seconds.
        run: The run whose ``progress.jsonl`` is written, if any.
        whole: The run that the stage is a part of: its number is shown, and the time that the run has left.
        stops: Whether ``update`` ends the stage when the user asks to stop. A stage that saves checkpoints
            polls ``stop_requested`` itself and leaves this off.
        quiet: Show nothing; the JSON lines are written all the same.
        verbose: Show losses in plain lines too; a bar shows them where there is room.

    A progress is also callable with ``(done, total)``, for functions that know no more.
    """

    def __init__(
        self,
        stage: str,
        total: float | None = None,
        unit: str = "steps",
        run: RunFolder | None = None,
        *,
        whole: WholeRun | None = None,
        stops: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.stage = stage
        self.total = total
        self.unit = unit
        self.done: float = 0
        self.metrics: dict[str, float] = {}
        self._run = run
        self._whole = whole
        self.verbose = verbose
        self._stops = stops
        self._show = _Silent() if quiet else _display(stream or sys.stderr)
        self._samples: deque[tuple[float, float]] = deque()
        self._latest = (0.0, 0.0)
        self._began = time.monotonic()
        self._last_event = -math.inf

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        self._show.begin(self)
        self._event("begin")
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and self._whole is not None:
            self._whole.finish(self.stage, self.elapsed)
        self._show.end(self, completed=kind is None)
        self._event("end" if kind is None else "stopped")

    def update(
        self, done: float, total: float | None = None, unit: str | None = None, **metrics: float
    ) -> None:
        """Say that ``done`` of the total is done, with figures to show such as ``loss`` or ``psnr``.

        Cheap enough for every step: the terminal and the file are written at most once a second or so.
        """
        now = time.monotonic()
        self.done = done
        self.total = self.total if total is None else total
        if unit is not None and unit != self.unit:
            # Another phase of the stage, with a rate of its own.
            self.unit = unit
            self._samples.clear()
        self.metrics |= {name: float(value) for name, value in metrics.items()}
        # The first sample is where the clock starts: set-up, warm-up and the steps of an earlier session
        # before it must not count into the rate.
        self._latest = (now, done)
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append(self._latest)
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_SECONDS:
            self._samples.popleft()
        self._show.update(self)
        if now - self._last_event >= _EVENT_SECONDS:
            self._event("progress")
        if self._stops:
            raise_if_stopped()

    def __call__(
        self, done: float, total: float | None = None, unit: str | None = None, **metrics: float
    ) -> None:
        """Call ``update``."""
        self.update(done, total, unit, **metrics)

    @property
    def elapsed(self) -> float:
        """Seconds since the stage began in this process."""
        return time.monotonic() - self._began

    @property
    def rate(self) -> float | None:
        """Units a second over the last minute, or ``None`` while unknown."""
        if not self._samples:
            return None
        (first, start), (last, end) = self._samples[0], self._latest
        return (end - start) / (last - first) if last > first and end > start else None

    @property
    def eta(self) -> float | None:
        """Seconds to go, or ``None`` while unknown."""
        if self.total is None:
            return None
        left = max(self.total - self.done, 0.0)
        if self.unit == "s":
            return left
        return left / self.rate if self.rate else None

    @property
    def left(self) -> float | None:
        """Seconds to go of the whole run, or of the stage if it stands alone; ``None`` while unknown."""
        eta = self.eta
        if self._whole is not None and self._whole.is_granted:
            # The stages keep to their time, whatever the rate is now.
            return self._whole.left(self.stage, self.elapsed + (eta or 0.0), eta or 0.0)
        if eta is None or self._whole is None or self.total is None:
            return eta
        expected = (
            self.total if self.unit == "s" else self.total / self.rate if self.rate else self.elapsed + eta
        )
        return self._whole.left(self.stage, expected, eta)

    @property
    def title(self) -> str:
        """The stage with its number, as shown."""
        return self._whole.title(self.stage) if self._whole is not None else self.stage

    def describe(self) -> str:
        """Describe the state in one plain line."""
        shown = self.parts() if self.verbose else self.parts()[: -len(self._losses()) or None]
        return f"{self.title}: {', '.join(shown)}"

    def parts(self) -> list[str]:
        """Return what there is to say, the most important first."""
        parts = []
        if self.total:
            parts.append(f"{100.0 * min(self.done / self.total, 1.0):.0f} %")
        if self.left is not None:
            run = "run: " if self._whole is not None else ""
            parts.append(f"{run}{format_seconds(self.left)} left")
        if "psnr" in self.metrics:
            parts.append(f"PSNR {_short(self.metrics['psnr'])}")
        parts.append(self.amount())
        if self.rate and self.unit != "s":
            parts.append(f"{_short(self.rate)} {self.unit}/s")
        parts.append(f"elapsed {format_seconds(self.elapsed)}")
        return parts + self._losses()

    def _losses(self) -> list[str]:
        return [f"{name} {_short(value)}" for name, value in self.metrics.items() if name != "psnr"]

    def amount(self) -> str:
        """Say how much is done, for example ``120/400 steps``."""
        if self.unit == "s":
            done, total = format_seconds(self.done), format_seconds(self.total or 0)
            return done if self.total is None else f"{done} of {total}"
        done = f"{self.done:.0f}"
        return f"{done} {self.unit}" if self.total is None else f"{done}/{self.total:.0f} {self.unit}"

    def _event(self, event: str) -> None:
        self._last_event = time.monotonic()
        if self._run is None:
            return
        values = {"rate": self.rate, "eta": self.eta, "left": self.left, **self.metrics}
        finite = {name: _round(value) if _is_finite(value) else None for name, value in values.items()}
        fields = {"stage": self.stage, "event": event, "done": self.done, "total": self.total}
        self._run.write_event(**fields, unit=self.unit, elapsed=_round(self.elapsed), **finite)


class _Silent:
    """Show nothing."""

    def begin(self, progress: Progress) -> None: ...

    def update(self, progress: Progress) -> None: ...

    def end(self, progress: Progress, completed: bool) -> None: ...


class _Lines:
    """A plain line every ten seconds or one per cent, whichever is later, and at least every thirty seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last_time = 0.0
        self._last_done: float = 0.0
        self._lines = 0
        self._ended = threading.Event()

    def begin(self, progress: Progress) -> None:
        self._last_time = time.monotonic()
        self._print(f"{progress.title}: begins")
        threading.Thread(target=self._keep_talking, args=(progress,), daemon=True).start()

    def update(self, progress: Progress) -> None:
        waited = time.monotonic() - self._last_time
        # Absolute: another phase counts from zero again.
        fraction = abs(progress.done - self._last_done) / progress.total if progress.total else 1.0
        if waited >= _MAX_LINE_SECONDS or (waited >= _LINE_SECONDS and fraction >= _LINE_FRACTION):
            self._last_time, self._last_done = time.monotonic(), progress.done
            self._print(progress.describe())

    def end(self, progress: Progress, completed: bool) -> None:
        self._ended.set()
        if completed:
            self._print(f"{progress.title}: done in {format_seconds(progress.elapsed)}")
        else:
            self._print(f"{progress.title}: stopped at {progress.amount()}")

    def _keep_talking(self, progress: Progress) -> None:
        # A single step can take longer than anyone waits for a word.
        lines = self._lines
        while not self._ended.wait(_MAX_LINE_SECONDS / 2):
            if self._lines == lines:
                self._print(progress.describe())
            lines = self._lines

    def _print(self, line: str) -> None:
        self._lines += 1
        print(line, file=self._stream, flush=True)


class _Bar:
    """A rich bar: title, bar, and as much of what there is to say as the terminal is wide."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as RichProgress

        console = Console(file=stream)
        self._bar_width = 12 if console.width < 100 else 24
        self._rich = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=self._bar_width),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            refresh_per_second=4,
        )
        self._task: Any = None

    def begin(self, progress: Progress) -> None:
        self._task = self._rich.add_task(progress.title, total=progress.total, text="")
        self._rich.start()

    def update(self, progress: Progress) -> None:
        # The spinner and a space between all columns.
        room = self._rich.console.width - len(progress.title) - self._bar_width - 5
        text = _fit(progress.parts(), room)
        self._rich.update(self._task, completed=progress.done, total=progress.total, text=text)

    def end(self, progress: Progress, completed: bool) -> None:
        word = "done in" if completed else f"stopped at {progress.amount()} after"
        text = f"{word} {format_seconds(progress.elapsed)}"
        whole = progress.total or max(progress.done, 1)
        self._rich.update(self._task, total=whole, completed=whole if completed else progress.done, text=text)
        self._rich.stop()


def _fit(parts: list[str], room: int) -> str:
    """Join as many of the first parts as there is room for."""
    while len(parts) > 1 and len(", ".join(parts)) > room:
        parts = parts[:-1]
    return ", ".join(parts)


def _display(stream: TextIO) -> _Bar | _Lines:
    return _Bar(stream) if stream.isatty() and os.environ.get("TERM") != "dumb" else _Lines(stream)


def format_seconds(seconds: float) -> str:
    """Format a time for people: ``8.2 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _round(value: float) -> float:
    return float(f"{value:.6g}")


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
