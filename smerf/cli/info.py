"""``smerf info``: what a run, a capture, or any file and folder that smerf writes holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from smerf.cli.options import Common, Json, Positional

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Say what a path holds, and what can be done with it next. --verbose adds the config.

    Examples:
      smerf info runs/tabletop
      smerf info captures/tabletop --json
    """

    path: Positional[Annotated[Path, tyro.conf.arg(metavar="PATH")]]
    """Run folder, capture, teacher, student, baked scene, site or page; set of object scenes, slots, object model."""
    json: Json = False
    """Print JSON."""


def run(options: Options) -> int:
    """Describe the path on stdout."""
    from smerf.pipeline.describe import describe

    facts = describe(options.path)
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    next_step = facts.pop("next", None)
    if not options.verbose:
        facts.pop("config", None)
    print("\n".join(_lines(facts)))
    if next_step:
        print(f"next: {next_step}")
    return 0


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    width = max((len(_label(key)) for key, value in facts.items() if not isinstance(value, dict)), default=0)
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{_label(key)}", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{_label(key):<{width}}  {_text(key, value)}")
    return lines


def _label(key: str) -> str:
    return {"bytes": "size", "seconds": "time", "peak_memory_mb": "peak memory"}.get(
        key, key.replace("_", " ")
    )


def _text(key: str, value: Any) -> str:
    from smerf.engine.progress import format_seconds
    from smerf.pipeline.summary import format_bytes

    if value is None:
        return "none"
    if key == "bytes":
        return format_bytes(value)
    if key == "peak_memory_mb":
        return format_bytes(value * 2**20)
    if key == "seconds":
        return format_seconds(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
