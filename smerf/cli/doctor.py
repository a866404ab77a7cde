"""``smerf doctor``: what this machine can do, and the fix for what it cannot."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Json, Minutes, Positional

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Say what this machine can do, and how to fix what it cannot; --verbose shows every part. Fails only if
    something essential is missing.

    With posed photos it measures the machine on them for a few seconds, and says what smerf run would take.

    Examples:
      smerf doctor
      smerf doctor ~/flat
    """

    data: Positional[Annotated[Path | None, tyro.conf.arg(metavar="DATA")]] = None
    """A posed capture."""
    minutes: Minutes = None
    """Time that smerf run is to be granted; 10 by default."""

    json: Json = False
    """Print JSON."""


def run(options: Options) -> int:
    """Look at everything and print it; 3 if something essential is missing."""
    from smerf.pipeline.machine import check_machine, check_run, judge

    checks = check_machine()
    verdict = judge(checks)
    plans = [check_run(options.data, options.minutes)] if options.data and verdict.is_ready else []
    if options.json:
        print(json.dumps([asdict(check) for check in [*checks, *plans]], indent=2))
        return 0 if verdict.is_ready else 3
    shown = [check for check in checks if options.verbose or not check.is_detail or check.state == "missing"]
    width = max(len(check.name) for check in shown)
    for check in shown:
        print(f"{check.state:<8} {check.name:<{width}}  {check.found}")
        if check.fix and check.state != "ok":
            print(f"{'':<8} {'':<{width}}  -> {check.fix}")
    print(f"\n{verdict.text}")
    for check in plans:
        print(f"{check.name}: {check.found}")
    return 0 if verdict.is_ready else 3
