"""Whether ``smerf prepare`` finds the poses that are known, says what cannot work, and gives the same every time.

    python -m benchmarks.prepare_acceptance [--tests 1 2 ...] [--fox CAPTURE] [--hall CAPTURE] [--banana PHOTOS]
                                            [--walk VIDEO] [--page RUN] [--keep FOLDER] [--json FILE]

Each test is a record with its figures and ``passes``; one whose data were not given is skipped with the reason.
``fox`` and ``hall`` are posed captures, a phone's arc and a building's whole round; ``banana`` is photos of a fruit on
a carpet without poses, ``walk`` a clip of a walk through a room, ``page`` a finished run of that clip. Errors against
given poses are rotations in degrees after the best common one, and centres after the best similarity as a fraction of
the cameras' spread. CPU seconds are those of the preparation alone. With ``--keep`` what is prepared is found again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Benchmark, Report, write_tabletop
from benchmarks.from_photos import photos_alone
from benchmarks.prepare_faults import behaviour, crops_of, folded, interrupted, refusal, reordered
from smerf.capture.readers import read_source
from smerf.prepare import PrepareConfig, prepare
from smerf.prepare.checks import compare_poses, contradictions
from smerf.prepare.cleaning import clean
from smerf.prepare.model import Model, load_model

TITLES = {
    1: "built-in scene, 100 photos",
    2: "every 4th of them",
    3: "arc of a phone",
    4: "round a building",
    5: "the folded model, and its cleaning",
    6: "bananas",
    7: "video of a walk",
    8: "rotation alone is refused",
    9: "too little overlap is refused",
    10: "rotated and HDR clips",
    11: "rotated photos and exposure",
    12: "the same bytes twice",
    13: "Ctrl-C in each step, and on",
    14: "cameras of other programs",
    15: "names in random order",
    16: "page of the video",
}


class Suite:
    """The captures, and the figures of each test; a figure that is missing needs ``data`` that was not given."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.tests: dict[int, Callable[[], dict[str, Any]]] = {
            1: self.all_views, 2: self.fourth_views, 3: self.fox, 4: self.hall, 5: self.folded, 6: self.banana,
            7: self.walk, 8: self.rotation, 9: self.overlap, 10: self.clips, 11: self.tags, 12: self.twice,
            13: self.stopped, 14: self.exports, 15: self.shuffled, 16: self.page,
        }  # fmt: skip

    def given(self, name: str) -> Path:
        """Return what the command line gave, or raise ``LookupError``."""
        path: Path | None = getattr(self.options, name)
        if path is None:
            raise LookupError(f"needs --{name}")
        return path

    def tabletop(self) -> Path:
        """Return the built-in capture."""
        if not (self.folder / "tabletop" / "transforms.json").is_file():
            write_tabletop(self.folder)
        return self.folder / "tabletop"

    def photos(self, data: Path, name: str, every: int = 1) -> Path:
        """Return a folder of the photos of a posed capture alone."""
        folder = self.folder / f"{name}_photos"
        if not folder.is_dir():
            photos_alone(data, folder)
            for photo in [p for i, p in enumerate(sorted(folder.iterdir())) if i % every]:
                photo.unlink()
        return folder

    def pose(self, what: Path, name: str, **options: Any) -> dict[str, Any]:
        """Prepare a capture unless that is done; return its record."""
        folder = self.folder / f"{name}_found" / "capture"
        prepare(what, folder, options.pop("config", None), **options)
        record: dict[str, Any] = json.loads((folder / "prepare" / "prepare.json").read_text())
        return record

    def against(self, record: dict[str, Any], name: str, given: Path) -> dict[str, Any]:
        """Compare found with given poses and focal length."""
        known = {frame.image_path.stem: frame for frame in read_source(given).frames}
        values = against_poses(
            self.folder / f"{name}_found" / "capture",
            {stem: frame.world_from_cam for stem, frame in known.items()},
        )
        lens = next(iter(known.values())).intrinsics
        return (
            figures(record)
            | values
            | {"focal_error": abs(record["model"]["intrinsics"][0]["fx"] / lens.fx - 1)}
        )

    def all_views(self) -> dict[str, Any]:
        data = self.tabletop()
        return _like_all_views(
            self.against(self.pose(self.photos(data, "tabletop"), "tabletop"), "tabletop", data)
        )

    def fourth_views(self) -> dict[str, Any]:
        data = self.tabletop()
        values = self.against(self.pose(self.photos(data, "fourth", 4), "fourth"), "fourth", data)
        is_good = values["rotation_max"] <= 0.6 and values["centre_max"] <= 0.015
        return values | {"passes": values["posed"] >= 20 and is_good}

    def fox(self) -> dict[str, Any]:
        data = self.given("fox")
        values = self.against(self.pose(self.photos(data, data.stem), data.stem), data.stem, data)
        return values | {
            "passes": values["posed"] == values["photos"]
            and values["focal_error"] <= 0.005
            and values["rotation_median"] <= 0.4
            and values["rotation_max"] <= 1
            and values["centre_median"] <= 0.008
            and values["up_degrees"] <= 3
        }

    def hall(self) -> dict[str, Any]:
        data = self.given("hall")
        record = self.pose(self.photos(data, data.stem), f"{data.stem}_kept", keep_database=True)
        values = self.against(record, f"{data.stem}_kept", data)
        text = (self.folder / f"{data.stem}_kept_found" / "capture" / "prepare" / "report.html").read_text()
        cut = [part for one in record["candidates"] if one["mapper"] == "global" for part in one["cut_off"]]
        named = all(part[0].removesuffix(".jpg") in text for part in cut)
        share = next(
            c["contradiction"]
            for c in record["candidates"]
            if [c["mapper"], c["attempt"]] == record["chosen"]
        )
        return values | {
            "cut_off": [len(part) for part in cut],
            "report_names_cut_off": named,
            "contradiction": share,
            "passes": values["posed"] >= 95
            and values["rotation_max"] <= 1.5
            and values["centre_max"] <= 0.015
            and named
            and share == 0,
        }

    def folded(self) -> dict[str, Any]:
        data = self.given("hall")
        self.hall()
        work = self.folder / f"{data.stem}_kept_found" / "capture" / "prepare" / "work"
        right, other = (_largest(work, f"{mapper}-first") for mapper in ("incremental", "global"))
        known = {f.image_path.stem: f.world_from_cam * [1, -1, -1, 1] for f in read_source(data).frames}
        own = _is_folded(other, known)
        wrong = other if own else folded(right)
        cleaned = clean(wrong).model
        distances = compare_poses(
            cleaned.poses, np.stack([known[Path(name).stem] for name in cleaned.names])
        )[1]
        shares = {"contradiction_folded": contradictions(wrong), "contradiction_right": contradictions(right)}
        return shares | {
            "folded_by": "the global mapper" if own else "hand, since the global mapper did not",
            "photos": len(wrong.names),
            "kept": len(cleaned.names),
            "centre_max": float(distances.max()),
            "passes": (shares["contradiction_folded"] or 0) > 0.1
            and (shares["contradiction_right"] or 0) < 0.01
            and len(cleaned.names) >= 60
            and bool(distances.max() <= 0.03),
        }

    def banana(self) -> dict[str, Any]:
        data = self.given("banana")
        values = figures(self.pose(data, data.stem))
        is_good = values["error"] < 0.5 and abs(values["focal"] / 2000 - 1) < 0.08
        return values | {"passes": values["posed"] >= 14 and is_good}

    def walk(self) -> dict[str, Any]:
        data = self.given("walk")
        record = self.pose(data, data.stem)
        values = figures(record)
        chosen = next(c for c in record["candidates"] if [c["mapper"], c["attempt"]] == record["chosen"])
        reasons = [frame["dropped"] for frame in record["frames"] if not frame["posed"]]
        return values | {
            "step": chosen["step"],
            "dropped_without_reason": reasons.count(None),
            "passes": values["registered"] >= 0.85
            and values["error"] < 1.0
            and chosen["step"] <= 3
            and 740 <= values["focal"] <= 840
            and None not in reasons,
        }

    def rotation(self) -> dict[str, Any]:
        data = self.given("hall")
        photos = crops_of(read_source(data).frames[0].image_path, self.folder / "rotation_photos")
        return refusal(photos, self.folder / "rotation", "turned but did not move")

    def overlap(self) -> dict[str, Any]:
        photos = self.photos(self.given("fox"), "eighth", 8)
        return refusal(photos, self.folder / "eighth", "share too little")

    def clips(self) -> dict[str, Any]:
        return behaviour("tests/prepare/test_video.py", "rotated_phone or dynamic_range")

    def tags(self) -> dict[str, Any]:
        return behaviour("tests/prepare/test_intake.py", "rotated_photo")

    def exports(self) -> dict[str, Any]:
        return behaviour("tests/capture/test_exports.py")

    def twice(self) -> dict[str, Any]:
        self.fourth_views()
        again = self.folder / "again" / "capture"
        shutil.rmtree(again, ignore_errors=True)
        prepare(self.folder / "fourth_photos", again)
        same = self.is_same(again)
        return {"same_bytes": same, "passes": same}

    def is_same(self, capture: Path) -> bool:
        """Tell whether a capture of every 4th view has the poses of the first one, to the byte."""
        files = [folder / "transforms.json" for folder in (capture, self.folder / "fourth_found" / "capture")]
        return files[0].read_bytes() == files[1].read_bytes()

    def stopped(self) -> dict[str, Any]:
        self.fourth_views()
        folder = self.folder / "stopped"
        shutil.rmtree(folder, ignore_errors=True)
        values = interrupted(self.folder / "fourth_photos", folder)
        same = self.is_same(folder)
        is_prompt = all(one["exit"] == 130 and one["seconds"] <= 3 for one in values["steps"])
        return values | {"same_bytes": same, "passes": same and is_prompt and len(values["steps"]) >= 5}

    def shuffled(self) -> dict[str, Any]:
        data = self.tabletop()
        mixed, given = reordered(self.photos(data, "tabletop"), data, self.folder / "shuffled")
        record = self.pose(mixed, "shuffled", config=PrepareConfig(order="none"))
        return _like_all_views(self.against(record, "shuffled", given))

    def page(self) -> dict[str, Any]:
        run = self.given("page")
        stages = json.loads((run / "metrics.json").read_text())["stages"]
        psnr = {f"psnr_{name}": stage["results"]["psnr"] for name, stage in stages.items()}
        has_page = (run / "site" / "index.html").is_file() and (run / "report.html").is_file()
        # Within minutes only the page itself is measured, which is no better than its teacher.
        return psnr | {"passes": has_page and bool(psnr)}


def figures(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a preparation's record says, for every test alike."""
    verdict = record["verdict"]
    return {
        "posed": verdict["registered"],
        "photos": verdict["total"],
        "registered": verdict["registered"] / verdict["total"],
        "error": record["model"]["error"],
        "focal": record["model"]["intrinsics"][0]["fx"],
        "mapper": "/".join(record["chosen"]),
        "cpu_seconds": record["cpu_seconds"],
    }


def against_poses(capture: Path, known: dict[str, np.ndarray]) -> dict[str, float]:
    """Compare the poses of a capture with known ones (3, 4), OpenGL axes, by the stems of the photos."""
    found = {frame.image_path.stem: frame.world_from_cam for frame in read_source(capture).frames}
    one, two = (np.stack(side) for side in zip(*((pose, known[stem]) for stem, pose in found.items())))
    degrees, distances = compare_poses(one, two)
    up = (one[:, :, :3] @ two[:, :, :3].transpose(0, 2, 1)).mean(axis=0)[2]
    return {
        "rotation_median": float(np.median(degrees)),
        "rotation_max": float(degrees.max()),
        "centre_median": float(np.median(distances)),
        "centre_max": float(distances.max()),
        "up_degrees": float(np.degrees(np.arccos(np.clip(up[2] / np.linalg.norm(up), -1, 1)))),
    }


def _like_all_views(values: dict[str, Any]) -> dict[str, Any]:
    limits = {
        "rotation_median": 0.2, "rotation_max": 0.5, "centre_median": 0.004, "centre_max": 0.01, "focal_error": 0.005,
        "up_degrees": 0.2,
    }  # fmt: skip
    is_good = all(values[key] <= limit for key, limit in limits.items())
    return values | {"passes": values["posed"] == values["photos"] and is_good}


def _largest(work: Path, name: str) -> Model:
    """Return the largest model of a mapper as it came, before any cleaning."""
    models = [load_model(path) for path in sorted(work.glob(f"*/{name}/*/model.npz"))]
    return max(models, key=lambda model: len(model.names))


def _is_folded(model: Model, known: dict[str, np.ndarray]) -> bool:
    """Tell whether a model lays photos over a side that they do not show: a tenth of them is turned by 90 degrees."""
    truth = np.stack([known[Path(name).stem] for name in model.names])
    return bool(np.mean(compare_poses(model.poses, truth)[0] > 90) > 0.1)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tests", type=int, nargs="+", default=list(TITLES), choices=list(TITLES))
    for name in ("fox", "hall", "banana", "walk", "page"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where photos and captures stay")


def measure(options: argparse.Namespace, report: Report) -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="smerf_acceptance_") as temporary:
        suite = Suite(options, options.keep or Path(temporary))
        for number in options.tests:
            try:
                values = suite.tests[number]()
            except LookupError as reason:
                print(f"{number:2} {TITLES[number]:38} skipped: {reason}", flush=True)
                report.add(f"acceptance/{number}", title=TITLES[number], skipped=str(reason))
                continue
            report.add(f"acceptance/{number}", title=TITLES[number], **values)
            shown = ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in values.items()
                if key not in ("passes", "steps", "registered")
            )
            print(
                f"{number:2} {TITLES[number]:38} {'passes' if values['passes'] else 'FAILS'}: {shown}",
                flush=True,
            )
            failed += not values["passes"]
    return 1 if failed else 0


BENCHMARK = Benchmark(__doc__, measure, options, short=["--tests", "2", "11", "12"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
