"""What the site takes from the sources when it is built: help, import graph, table of minutes, CONTRIBUTING.md.

A page writes ``<!-- generated: commands -->`` where the text goes.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs import figures  # noqa: E402
from tests.helpers.imports import graph, resolve, room  # noqa: E402

MARK = re.compile(r"<!-- generated: (\w+) -->")


def on_pre_build(config) -> None:
    """Render the figures."""
    figures.write_all(ROOT / "docs" / "images")


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Put the generated text in its place."""
    return MARK.sub(lambda found: GENERATORS[found[1]](), markdown)


def commands() -> str:
    """Return every command with the text of its ``--help``."""
    from smerf.cli.main import COMMANDS

    parts = []
    for name, summary in COMMANDS.items():
        parts.append(
            f"## smerf {name}\n\n{summary[:1].upper()}{summary[1:]}.\n\n```text\n{_help(name)}\n```\n"
        )
        for sub in _subcommands(name):
            parts.append(f"### smerf {name} {sub}\n\n```text\n{_help(name, sub)}\n```\n")
    return "\n".join(parts)


def _subcommands(name: str) -> list[str]:
    import importlib

    return list(getattr(importlib.import_module(f"smerf.cli.{name}"), "COMMANDS", {}))


def _help(*words: str) -> str:
    import os

    from smerf.cli.main import main

    os.environ.update(COLUMNS="88", NO_COLOR="1", TERM="dumb")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main([*words, "--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).strip()


def rooms() -> str:
    """Return what each room of the package imports, as a table."""
    arrows: dict[str, set[str]] = {}
    for each in graph():
        target = resolve(each.name)
        if target and room(target) != room(each.importer):
            arrows.setdefault(room(each.importer), set()).add(room(target))
    known = sorted({*arrows, *(one for ends in arrows.values() for one in ends)} - {"", "__main__"})
    known.sort(key=lambda name: (len(_below(name, arrows)), name))
    lines = ["| room | imports |", "|---|---|"]
    for name in known:
        below = [f"`{one}`" for one in known if one in arrows.get(name, ())]
        lines.append(f"| `{name}` | {', '.join(below) or 'nothing'} |")
    return "\n".join(lines)


def _below(name: str, arrows: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for one in arrows.get(waiting.pop(), ()):
            if one not in found:
                found.add(one)
                waiting.append(one)
    return found


def contributing() -> str:
    """Return CONTRIBUTING.md without its title."""
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n", 1)[1]


def _gpu_rates() -> tuple[dict[str, float], str]:
    """Return training rays a second by capture, and what measured them, where ``benchmarks.gpu_suite`` ran on a GPU."""
    import json

    path = ROOT / "benchmarks" / "results" / "gpu_suite.json"
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"records": []}
    parts: dict[str, list[tuple[float, float]]] = {}
    for one in document["records"]:
        stage, _, capture = one["name"].partition("/")
        if stage in ("teacher", "student") and "rays_per_second" in one:
            seconds = 60.0 * one["minutes"]
            parts.setdefault(capture, []).append((one["rays_per_second"] * seconds, seconds))
    # Rays of both stages, as those a CPU second are.
    rates = {
        capture: sum(rays for rays, _ in found) / sum(seconds for _, seconds in found)
        for capture, found in parts.items()
        if len(found) == 2
    }
    return rates, f"`{document['command']}` on {document['device']['name']}" if rates else ""


def minutes() -> str:
    """Return what was measured of granted minutes, a table for each machine, with what a GPU was measured to do."""
    import json

    on_gpu, gpu = _gpu_rates()
    folder = ROOT / "data" / "minutes"
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    tables = [_minutes_of(document, on_gpu) for document in documents]
    return "\n\n".join([*tables, f"GPU: {gpu}."] if gpu else tables)


def _minutes_of(document: dict[str, Any], on_gpu: dict[str, float]) -> str:
    device = document["device"]
    libraries = ", ".join(name.removeprefix("cpu-").upper() for name in device["libraries"])
    lines = [
        f"`{document['command']}` on {device['name']}, {libraries}, {device['processors']} processors:",
        "",
        "| capture | minutes | PSNR | SSIM | FLIP | CPU seconds | rays a CPU second | rays a GPU second | page |",
        "|---|" + "---:|" * 8,
    ]
    for one in document["records"]:
        figures = f"{one['psnr']:.2f} | {one['ssim']:.4f} | {one['flip']:.4f} | {one['cpu_seconds']:.0f}"
        rate = f"{on_gpu[one['capture']]:.0f}" if one["capture"] in on_gpu else "not measured"
        speed = f"{one['rays'] / one['cpu_seconds']:.0f} | {rate} | {one['megabytes']:.1f} MB"
        lines.append(f"| {one['capture']} | {one['minutes']:g} | {figures} | {speed} |")
    return "\n".join(lines)


GENERATORS = {"commands": commands, "rooms": rooms, "contributing": contributing, "minutes": minutes}
