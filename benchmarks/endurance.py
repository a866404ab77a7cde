"""Memory of the page and of the window over hours of walking, and what comes back after lost graphics contexts.

    python -m benchmarks.endurance [PART ...] [--hours 8] [--contexts 50] [--json FILE]

A visitor who never rests: seeded keys, drags, wheel, modes, photos, hidden objects and resizing, in a small scene of
three submodels with texture memory for two, so that submodels come and go. The clock is simulated, a second a frame,
and frames follow each other as fast as they can: an hour is 3600 frames. Parts: ``page``, in headless Chromium: heap
after a collection, texture bytes as the page counts them, graphics objects that its calls have made and not deleted,
resident memory of the renderer and of the GPU process; ``fetches``: the same of a page that only fetches the scene's
files and drops them, as often as submodels come in the walk; ``window``, under Xvfb: resident memory of its process,
texture bytes; all every quarter of an hour. ``contexts``: a page's context is lost at rest, while another submodel
loads, and in motion; its picture has to come back as it was. Browsers keep the compiled programs of lost contexts, so
that there only what the page itself holds is judged. Growth is the median of the last quarter of the samples less
that of the second. Exits with 1 if something grows by more than 2 % and 2 MB (2 graphics objects, nodes or
listeners), or a context does not come back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.browser import browser_versions, chromium
from benchmarks.common import ROOT, Benchmark, Report
from benchmarks.endurance_page import fetch_only, lose_contexts, walk_page
from benchmarks.endurance_walk import FRAMES_PER_HOUR, grows, growth, write_room
from smerf.errors import SmerfError, UsageError

SAMPLES_PER_HOUR = 4
MEMORY_MB = 0.35
"""Texture memory: two submodels', of the scene's three."""
COUNTED = ("graphics_objects", "nodes", "listeners")
"""What is counted one by one; all else that may not grow ends in ``_bytes``."""
FEW = 2.0
FETCHES_PER_SAMPLE = 1
"""Times that the whole scene, three submodels, is fetched in a quarter of an hour: as the walk does."""
PROCESSES = ("renderer_bytes", "gpu_process_bytes")
_TELLING = 8
"""Samples from which growth is not the warming up."""


def watched(samples: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return the series of samples that may not grow, by name."""
    names = [name for name in samples[0] if name.endswith("_bytes") or name in COUNTED]
    return {name: [sample[name] for sample in samples] for name in names}


def judge(
    name: str, record: dict[str, Any], report: Report, excused: Sequence[str] = (), **more: Any
) -> bool:
    """Complete and print the record of a series of samples; return whether nothing but what is ``excused`` grew, as
    far as so many samples can tell.
    """
    samples = record["samples"]
    series = watched(samples)
    grown = [key for key, values in series.items() if grows(values, *([FEW] if key in COUNTED else []))]
    values = {f"{key}_growth": growth(each) for key, each in series.items()}
    values |= {f"{key}_last": each[-1] for key, each in series.items()}
    record |= {**more, **values, "grown": grown}
    report.write()
    print(f"{name}: {len(samples)} samples")
    for key, each in series.items():
        mark = "GROWS" if key in grown else ""
        span = f"{min(each):12.0f} to {max(each):12.0f}, last {each[-1]:12.0f}"
        print(f"  {key:20} {span}, growth {growth(each):+12.0f} {mark}")
    return set(grown) <= set(excused) or len(samples) < _TELLING


def gather(name: str, samples: Iterable[dict[str, float]], report: Report) -> dict[str, Any]:
    """Return a record that grew by the samples; it is written after each, so that an end before time loses nothing."""
    record, began = report.add(f"endurance/{name}", hours=0.0, wall_s=0.0, samples=[]), time.perf_counter()
    for sample in samples:
        record["samples"].append(sample)
        record |= {"hours": sample["frames"] / FRAMES_PER_HOUR, "wall_s": time.perf_counter() - began}
        report.write()
        print(f"  {name}: {record['hours']:.2f} h, {record['wall_s']:.0f} s", file=sys.stderr, flush=True)
    return record


def measure_page(scene: Path, frames: int, options: argparse.Namespace, report: Report) -> bool:
    """Walk in the page; return whether nothing grew."""
    with chromium(is_timed=True) as browser:
        walk = walk_page(browser, scene, frames, FRAMES_PER_HOUR // SAMPLES_PER_HOUR, MEMORY_MB)
        record = gather("page", walk, report)
        versions = browser_versions(browser, browser.new_page())
    return judge("page", record, report, **versions)


def measure_fetches(scene: Path, frames: int, options: argparse.Namespace, report: Report) -> bool:
    """Fetch and drop; what grows there is the browser's own."""
    samples = max(2, round(options.hours * SAMPLES_PER_HOUR))
    with chromium(is_timed=True) as browser:
        found = list(fetch_only(browser, scene, samples * FETCHES_PER_SAMPLE, FETCHES_PER_SAMPLE))
    judge("fetches", report.add("endurance/fetches", samples=found), report)
    return True


def measure_contexts(scene: Path, frames: int, options: argparse.Namespace, report: Report) -> bool:
    """Lose contexts; return whether all came back and nothing grew."""
    with chromium() as browser:
        found = list(lose_contexts(browser, scene, options.contexts))
    recovered = sum(each.pop("is_told") and each.pop("is_same") and not each.pop("errors") for each in found)
    record = report.add("endurance/contexts", lost=options.contexts, recovered=recovered, samples=found)
    is_steady = judge("contexts", record, report, excused=PROCESSES)
    print(f"  {options.contexts} lost contexts, {recovered} recoveries with the same picture")
    return is_steady and recovered == options.contexts


def measure_window(scene: Path, frames: int, options: argparse.Namespace, report: Report) -> bool:
    """Walk in the window; return whether nothing grew.

    Raises:
        SmerfError: If the window fails.
    """
    numbers = (frames, FRAMES_PER_HOUR // SAMPLES_PER_HOUR, round(1e6 * MEMORY_MB))
    words = [sys.executable, "-m", "benchmarks.endurance_window", str(scene), *map(str, numbers)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        record = gather("window", map(json.loads, process.stdout), report)
    if process.returncode:
        raise SmerfError(f"the window's process ended with {process.returncode}")
    return judge("window", record, report)


PARTS: dict[str, Callable[[Path, int, argparse.Namespace, Report], bool]] = {
    "page": measure_page,
    "fetches": measure_fetches,
    "contexts": measure_contexts,
    "window": measure_window,
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--contexts", type=int, default=50)


def measure(options: argparse.Namespace, report: Report) -> int:
    if unknown := set(options.parts) - PARTS.keys():
        raise UsageError(f"unknown part {', '.join(sorted(unknown))}: use {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="smerf_endurance_") as temporary:
        scene, frames = write_room(Path(temporary) / "room"), round(options.hours * FRAMES_PER_HOUR)
        done = [PARTS[part](scene, frames, options, report) for part in options.parts or PARTS]
    return 0 if all(done) else 1


BENCHMARK = Benchmark(__doc__, measure, options, short=["--hours", "0.5", "--contexts", "3"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
