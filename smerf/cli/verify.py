"""``smerf verify``: check that files are intact and that all viewers render the same image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Json, Positional, Switch, parse_size, resolve_device, scene_folder

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Check a baked scene: every file against the manifest's hashes, then the same cameras in every viewer, and one of
    them without an object where the scene has some. Exits with 5 if something differs.

    Examples:
      smerf verify runs/tabletop
      smerf verify runs/tabletop --viewers native,desktop --cameras 8 -o report
      smerf verify runs/tabletop --rerun
    """

    scene: Positional[Annotated[Path, tyro.conf.arg(metavar="SCENE")]]
    """Run folder or baked scene."""
    viewers: Annotated[str, tyro.conf.arg(metavar="NAME,...")] = "native,desktop,web,webgpu"
    """Viewers to compare; the others are held against the first. webgpu is left out where the browser has none."""
    size: Annotated[str, tyro.conf.arg(metavar="WxH")] = "320x240"
    """Size of the images."""
    cameras: Annotated[int, tyro.conf.arg(metavar="INT")] = 4
    """How many cameras to render."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = None
    """Folder for verify.json and differences.png, a sheet of all images and their differences."""
    rerun: Switch[bool] = False
    """Instead, train a run's teacher again for a minute and compare the figures of its first steps: equal to the last
    bit on the same instruction set, within 2 % on another."""
    json: Json = False
    """Print JSON."""


def _rerun(options: Options) -> int:
    from dataclasses import asdict

    from smerf.engine.folder import RunFolder
    from smerf.engine.signals import catch_signals
    from smerf.errors import VerificationError
    from smerf.pipeline.rerun import rerun_teacher
    from smerf.pipeline.summary import format_table

    with catch_signals():
        found = rerun_teacher(RunFolder.open(options.scene), resolve_device("auto"), quiet=options.quiet)
    if options.json:
        print(json.dumps({**asdict(found), "equal": found.is_equal, "complaint": found.complaint}, indent=1))
    else:
        rows = [
            [str(step), name, f"{value:.6g}", f"{found.repeated[step].get(name, float('nan')):.6g}"]
            for step, figures in found.recorded.items()
            for name, value in figures.items()
        ]
        print(format_table(["step", "figure", "recorded", "now"], rows))
        print("equal to the last bit" if found.is_equal else "not equal to the last bit")
    if found.complaint:
        raise VerificationError(found.complaint)
    return 0


def run(options: Options) -> int:
    """Check, print what was found, and fail if anything differs."""
    if options.rerun:
        return _rerun(options)
    from smerf.engine.progress import Progress
    from smerf.engine.signals import catch_signals
    from smerf.errors import VerificationError
    from smerf.evaluation.verify import TOLERANCE, verify_scene
    from smerf.pipeline.summary import format_table

    names = tuple(name.strip() for name in options.viewers.split(",") if name.strip())
    size = parse_size(options.size)
    folder = scene_folder(options.scene)
    with catch_signals(), Progress("verify", None, "images", stops=True, quiet=options.quiet) as progress:
        found = verify_scene(folder, names, size, options.cameras, options.output, progress)
    if options.json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        files = {
            None: "no manifest.json: not checked",
            False: "as the manifest says",
            True: "not as the manifest says",
        }
        print(f"files: {files[None if found.problems is None else bool(found.problems)]}")
        for problem in found.problems or ():
            print(f"  {problem}")
        for name, reason in found.skipped.items():
            print(f"{name}: left out: {reason}")
        rows = [
            [
                f"{difference.camera}: {difference.viewer} - {difference.reference}",
                str(difference.maximum),
                f"{difference.p999:.1f}",
                f"{difference.mean:.3f}",
                f"{100 * difference.fraction_within:.3f} %",
            ]
            for difference in found.differences
        ]
        if rows:
            print(
                format_table(
                    ["difference in steps of 1/255", "max", "99.9 %", "mean", f"within {TOLERANCE}"], rows
                )
            )
        if options.output is not None:
            print(f"report: {options.output}")
    if found.complaint:
        raise VerificationError(found.complaint)
    return 0
