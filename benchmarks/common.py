"""What every benchmark shares: its options, the document that it writes, the clock, and held-out photos.

A benchmark is a module with a docstring that says what it measures, against which peer, and how to call it. It makes
one ``Benchmark``; ``measure(options, report)`` prints a table and adds records to the report. The document holds how
the figures came about (script, arguments, commit, device, versions) and is written as measured: nobody edits it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from smerf.engine.environment import processor_name
from smerf.errors import SmerfError

__all__ = [
    "SCHEMA", "Benchmark", "HeldOut", "Report", "check", "commit", "describe_device", "header", "median_ms", "size",
    "write_tabletop",
]  # fmt: skip

SCHEMA = 1
"""Version of the documents in benchmarks/results."""
ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("torch", "numpy", "playwright", "PyOpenGL")
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "script": str,
    "arguments": list,
    "command": str,
    "commit": str,
    "device": dict,
    "versions": dict,
    "seconds": (int, float),
    "records": list,
}


@dataclass
class Report:
    """The records of one run of a benchmark, and where they go."""

    script: str
    arguments: list[str]
    path: Path | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    _began: float = field(default_factory=time.perf_counter)

    def add(self, name: str, **values: Any) -> dict[str, Any]:
        """Keep one record, write the document so far, and return the record."""
        self.records.append({"name": name, **values})
        self.write()
        return self.records[-1]

    def write(self) -> None:
        """Write the document, if a file was asked for."""
        if self.path is not None:
            seconds = time.perf_counter() - self._began
            document = {**header(self.script, self.arguments), "seconds": seconds, "records": self.records}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(document, indent=1) + "\n")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of this folder.

    Attributes:
        doc: The module's docstring.
        measure: Measures, prints and reports; what it returns is the exit code.
        options: Adds the benchmark's own options to a parser.
        short: Options of the form that ``make bench`` runs, or None if that needs an input.
        needs: What it needs where ``short`` is None.
    """

    doc: str
    measure: Callable[[argparse.Namespace, Report], int | None]
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    short: Sequence[str] | None = None
    needs: str = ""

    @property
    def script(self) -> str:
        """Return the module's name, such as ``benchmarks.render``."""
        module = self.measure.__module__
        if module == "__main__" and (spec := sys.modules["__main__"].__spec__) is not None:
            module = spec.name
        return module.removesuffix(".__main__")

    def main(self, arguments: list[str] | None = None) -> int:
        """Parse, measure and write; return the exit code."""
        words = list(sys.argv[1:] if arguments is None else arguments)
        parser = argparse.ArgumentParser(
            prog=f"python -m {self.script}",
            description=self.doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.options(parser)
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
        options = parser.parse_args(words)
        report = Report(self.script, words, options.json)
        try:
            code = self.measure(options, report) or 0
        except SmerfError as error:
            print(f"{self.script}: {error}", file=sys.stderr)
            return error.exit_code
        report.write()
        return code


def header(script: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Return what every document says of how its figures came about."""
    # Where things lie on this machine is nobody's business.
    words = [Path(word).name if word.startswith("/") else word for word in arguments]
    return {
        "schema": SCHEMA,
        "script": script,
        "arguments": words,
        "command": shlex.join(["python", "-m", script, *words]),
        "commit": commit(),
        "device": describe_device(),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def commit(folder: Path = ROOT) -> str:
    """Return the commit of a checkout, with ``+`` if tracked files differ from it; ``unknown`` without git."""
    try:
        found = _git(folder, "rev-parse", "--short=12", "HEAD")
        return found + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def describe_device() -> dict[str, Any]:
    """Return the machine: processor, threads, the kernels' libraries in use, and the GPU if there is one."""
    device: dict[str, Any] = {"kind": "cpu", "name": processor_name(), "processors": os.cpu_count()}
    torch = sys.modules.get("torch")
    if torch is not None:
        from smerf.kernels import native

        device["threads"] = torch.get_num_threads()
        device["libraries"] = [row["name"] for row in native.status() if row["state"] == "used"]
        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(0)
            device |= {
                "kind": "cuda",
                "gpu": properties.name,
                "capability": f"{properties.major}.{properties.minor}",
                "memory_mb": properties.total_memory / 2**20,
            }
    return device


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name.lower()] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def check(document: Any) -> list[str]:
    """Return what is wrong with a results document; nothing if it may be quoted."""
    if not isinstance(document, dict):
        return ["is not a document of benchmarks/common.py: no script, commit or device"]
    faults = [f"lacks {key}" for key in _FIELDS if key not in document]
    faults += [
        f"{key} is a {type(document[key]).__name__}"
        for key, kind in _FIELDS.items()
        if key in document and not isinstance(document[key], kind)
    ]
    if faults:
        return faults
    if document["schema"] != SCHEMA:
        faults.append(f"has schema {document['schema']}, expected {SCHEMA}")
    script = ROOT / document["script"].replace(".", "/")
    if not (script.with_suffix(".py").is_file() or (script / "__main__.py").is_file()):
        faults.append(f"names {document['script']}, which is not there")
    if document["commit"].endswith("+") or document["commit"] == "unknown":
        faults.append(f"was measured on commit {document['commit']}: commit first, then measure")
    if not document["records"] or any("name" not in record for record in document["records"]):
        faults.append("has no records, or one without a name")
    faults += [
        f"{record['name']}: a speed-up without peer and peer_ms"
        for record in document["records"]
        if "speedup" in record and not {"peer", "peer_ms"} <= record.keys()
    ]
    numbers = [
        value for record in document["records"] for value in record.values() if isinstance(value, float)
    ]
    if len(numbers) > 4 and all(value == round(value, 2) for value in numbers):
        faults.append("holds rounded numbers: a script writes what it measured")
    return faults


def median_ms(run: Callable[[], object], repeats: int, warm_up: int = 1) -> tuple[float, float]:
    """Return the median and the spread (half the range) of a call's milliseconds."""
    times = []
    for i in range(warm_up + repeats):
        started = time.perf_counter()
        run()
        if i >= warm_up:
            times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times), (max(times) - min(times)) / 2


def write_tabletop(folder: Path, **values: int) -> Path:
    """Render the built-in tabletop into a folder and return the capture's path; ``values`` as ``smerf synth``."""
    from smerf.capture.synth import render_capture

    return render_capture("tabletop", folder / "tabletop", **values)


def size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT for argparse."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT")
    return int(width), int(height)


class HeldOut:
    """Some held-out photos of a capture, evenly spread, over the capture's background."""

    def __init__(self, capture: Any, count: int = 8) -> None:
        from smerf.pipeline.evaluate import truth_of

        test = capture.split("test")
        frames = [test[round(i)] for i in np.linspace(0, len(test) - 1, min(count, len(test)))]
        self.cameras = [frame.camera for frame in frames]
        self.photos = [truth_of(frame, capture) for frame in frames]

    def render(self, draw: Callable[[Any], np.ndarray]) -> list[np.ndarray]:
        """Render every camera."""
        return [draw(camera) for camera in self.cameras]

    def psnr(self, images: Sequence[np.ndarray], truths: Sequence[np.ndarray] | None = None) -> float:
        """Return the mean PSNR of images against the photos, or against other images."""
        from smerf.evaluation.metrics import psnr

        pairs = zip(images, self.photos if truths is None else truths, strict=True)
        # Equal images have an infinite PSNR, which JSON and means cannot hold.
        return float(np.mean([min(psnr(image, truth), 100.0) for image, truth in pairs]))
