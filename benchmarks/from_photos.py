"""What it costs that nobody brings poses: ``smerf run`` on photos or a video alone, against the poses that came along.

    python -m benchmarks.from_photos INPUT... [--minutes 3] [--side 480] [--keep FOLDER] [--wall] [--json FILE]

An INPUT is a posed capture, a folder of photos, or a video. Of a posed capture the photos alone are copied, and both
the copy and the capture are run with the same minutes; each page is measured on its own held-out photos, which are the
same files where all were posed, and with its own poses, as its user would. Of everything else there is only the
``found`` record. Registered is the share of the photos, reprojection error in pixels. Time is counted as in
``benchmarks.minutes``; finding the poses is no part of the minutes, and its CPU seconds are given apart.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Report, write_tabletop
from benchmarks.minutes import METRICS, quality, run
from benchmarks.pipeline import size_of
from smerf.capture import load_capture
from smerf.capture.readers import has_poses


def photos_alone(data: Path, folder: Path) -> Path:
    """Copy the photos of a posed capture, and nothing else, to a folder."""
    folder.mkdir(parents=True)
    for frame in load_capture(data).frames:
        shutil.copyfile(frame.image_path, folder / frame.image_path.name)
    return folder


def preparation(capture: Path) -> dict[str, Any]:
    """Return what ``smerf prepare`` recorded of a capture that it wrote."""
    record = json.loads((capture / "prepare" / "prepare.json").read_text())
    verdict = record["verdict"]
    lens = record["model"]["intrinsics"][0]
    return {
        "registered": verdict["registered"] / verdict["total"],
        "posed": verdict["registered"],
        "photos": verdict["total"],
        "reprojection_error": record["model"]["error"],
        "focal": lens["fx"],
        "mapper": "/".join(record["chosen"]),
        "findings": [finding["kind"] for finding in verdict["findings"]],
        "prepare_cpu_seconds": record["cpu_seconds"],
    }


def measure_page(what: Path, folder: Path, capture: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run on ``what``, which has or is given the poses of ``capture``; return cost, size and quality."""
    values: dict[str, Any] = run(what, folder, options.minutes, [], options.wall)
    values |= {"megabytes": size_of(folder / "site") / 1e6, "side": options.side}
    names = [frame.image_path.stem for frame in load_capture(capture).split("test")]
    return values | quality(capture, folder, options.side) | {"held_out": names}


def print_row(name: str, values: dict[str, Any]) -> None:
    posed = f"{values['posed']}/{values['photos']}" if "posed" in values else "given"
    prepared = values.get("prepare_cpu_seconds", 0.0)
    print(
        f"{name:24} {posed:>9} {values.get('reprojection_error', float('nan')):6.2f} {prepared:7.0f} "
        f"{values['cpu_seconds'] - prepared:7.0f} {values['megabytes']:6.1f} "
        + " ".join(f"{values[key]:7.3f}" for key in METRICS),
        flush=True,
    )


def measure_input(data: Path, folder: Path, options: argparse.Namespace, report: Report) -> None:
    """Measure one input from its photos alone, and with its poses if it has them."""
    given = data.is_dir() and has_poses(data)
    name = data.stem
    what = photos_alone(data, folder / f"{name}_photos") if given else data
    capture = folder / f"{name}_found" / "capture"
    values = measure_page(what, folder / f"{name}_found", capture, options) | preparation(capture)
    found = report.add(f"from_photos/{name}/found", minutes=options.minutes, **values)
    print_row(f"{name} found", found)
    if not given:
        return
    values = measure_page(data, folder / f"{name}_given", data, options)
    with_given = report.add(f"from_photos/{name}/given", minutes=options.minutes, **values)
    print_row(f"{name} given", with_given)
    same = found["held_out"] == with_given["held_out"]
    difference = {key: found[key] - with_given[key] for key in METRICS}
    report.add(f"from_photos/{name}/difference", same_held_out=same, **difference)
    print(f"{name}: found poses are worth {difference['psnr']:+.3f} dB" + ("" if same else ", other photos"))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", type=Path, nargs="*", metavar="INPUT")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--side", type=int, default=480, help="pixels of the longer side to measure at")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where photos and runs stay")
    parser.add_argument("--wall", action="store_true", help="count granted time by the clock of the wall")


def measure(options: argparse.Namespace, report: Report) -> None:
    titles = f"{'':24} {'posed':>9} {'error':>6} {'poses s':>7} {'CPU s':>7} {'MB':>6}"
    print(titles + " " + " ".join(f"{key:>7}" for key in METRICS))
    with tempfile.TemporaryDirectory(prefix="smerf_from_photos_") as temporary:
        folder = options.keep or Path(temporary)
        inputs = options.inputs or [write_tabletop(Path(temporary), views=60, width=320, height=240)]
        for data in inputs:
            measure_input(data, folder, options, report)


BENCHMARK = Benchmark(__doc__, measure, options, short=["--minutes", "1"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
