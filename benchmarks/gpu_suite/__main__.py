"""Build, check and measure everything that runs on a GPU, and write one JSON.

    python -m benchmarks.gpu_suite --data DIR --json FILE [--parts build,kernels,teacher] [--minutes 2]

DIR holds the captures (``lego``, ``fox``). Parts: ``build`` compiles the CUDA library for every target;
``kernels`` compares each kernel with the PyTorch reference, gradients included, and its speed with the device's copy
bandwidth; ``steps`` compares the fused training steps with the CPU's, and counts their rays a second; ``teacher`` and
``student`` train and distil each scene for ``--minutes``; ``bake`` and ``render`` go on from there. Results between
parts are kept in ``--work``, so that they can be run one after another in calls of a few minutes. A part that fails is
recorded and the others go on.

Without a GPU the library is built and the kernels are checked on the CPU. Exit code: 0 if everything ran, 1 if
something failed, 3 if this machine lacks something for a part that was asked for.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from pathlib import Path

import torch

from benchmarks import common
from benchmarks.common import header
from benchmarks.gpu_suite import compile, kernels, scenes, steps
from benchmarks.gpu_suite.common import NotHereError, Suite
from smerf.kernels import native

PARTS = {
    "build": compile.run,
    "kernels": kernels.run,
    "steps": steps.run,
    "teacher": scenes.run_teacher,
    "student": scenes.run_student,
    "bake": scenes.run_bake,
    "render": scenes.run_render,
}


def describe_device(suite: Suite) -> dict:
    """Name the device and what drives it; the processor where the suite found no GPU that works."""
    device = common.describe_device()
    if not suite.has_gpu:
        return {**device, "kind": "cpu"}
    properties = torch.cuda.get_device_properties(suite.device)
    return {**device, "multiprocessors": properties.multi_processor_count}


def run_part(suite: Suite, name: str) -> dict:
    """Run a part and say how it went: ``ok``, ``failed`` or ``not run``, with the reason."""
    print(f"{name}:", flush=True)
    began = time.perf_counter()
    try:
        PARTS[name](suite)
        outcome = {"state": "ok"}
        if name == "kernels" and not suite.has_gpu:
            outcome = {"state": "ok", "reason": "no GPU: checked on the CPU, nothing measured"}
    except NotHereError as error:
        outcome = {"state": "not run", "reason": str(error)}
    except Exception as error:
        traceback.print_exc()
        outcome = {"state": "failed", "reason": f"{type(error).__name__}: {error}"}
    print(f"  {outcome['state']}{': ' + outcome['reason'] if 'reason' in outcome else ''}", flush=True)
    return {**outcome, "seconds": time.perf_counter() - began}


def write(path: Path, suite: Suite, outcomes: dict[str, dict], options: argparse.Namespace) -> None:
    """Write what is known so far, so that a run that is cut short leaves its results."""
    arguments = [word for name, value in vars(options).items() for word in (f"--{name}", str(value))]
    document = header("benchmarks.gpu_suite", arguments)
    document["versions"] |= {"torch": torch.__version__, "cuda": torch.version.cuda}
    document |= {
        "device": describe_device(suite),
        "seconds": sum(outcome["seconds"] for outcome in outcomes.values()),
        "libraries": native.status(),
        "parts": outcomes,
        "records": suite.records,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_suite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder of captures")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated; all by default")
    parser.add_argument("--scenes", default="lego,fox")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--minutes", type=float, default=1.5, help="of training, for each scene and stage")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="small sizes, for a quick look")
    parser.add_argument("--work", type=Path, default=Path(".cache/gpu_suite"))
    options = parser.parse_args(arguments)
    options.parts = [part for part in options.parts.split(",") if part]
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"--parts {','.join(unknown)}: use {','.join(PARTS)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the parts and return the exit code."""
    options = parse(arguments)
    suite = Suite(
        options.data, options.work, tuple(options.scenes.split(",")), options.preset, options.minutes,
        options.repeats, options.small,
    )  # fmt: skip
    print(f"device: {describe_device(suite)['name']}")
    outcomes: dict[str, dict] = {}
    for name in options.parts:
        outcomes[name] = run_part(suite, name)
        write(options.json, suite, outcomes, options)
    states = {outcome["state"] for outcome in outcomes.values()}
    missing = [name for name, outcome in outcomes.items() if outcome["state"] == "not run"]
    if missing:
        print(f"not run here: {', '.join(missing)}")
    if not suite.has_gpu:
        print("no GPU: nothing of this was measured or proven on one", file=sys.stderr)
    return 1 if "failed" in states else 3 if missing or not suite.has_gpu else 0


if __name__ == "__main__":
    sys.exit(main())
