"""What the site takes from the sources when it is built: help, import graph, table of minutes, CONTRIBUTING.md.

A page writes ``<!-- generated: commands -->`` where the text goes.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

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


def minutes() -> str:
    """Return what was measured of granted minutes, as a table."""
    import json

    document = json.loads((ROOT / "data" / "minutes.json").read_text(encoding="utf-8"))
    lines = [
        "| capture | minutes | PSNR | SSIM | FLIP | CPU seconds | rays a CPU second | page |",
        "|---|" + "---:|" * 7,
    ]
    for one in document["records"]:
        figures = f"{one['psnr']:.2f} | {one['ssim']:.4f} | {one['flip']:.4f} | {one['cpu_seconds']:.0f}"
        speed = f"{one['rays'] / one['cpu_seconds']:.0f} | {one['megabytes']:.1f} MB"
        lines.append(f"| {one['capture']} | {one['minutes']:g} | {figures} | {speed} |")
    device = document["device"]
    lines += ["", f"`{document['command']}` on {device['name']} ({device['processors']} processors)."]
    return "\n".join(lines)


GENERATORS = {"commands": commands, "rooms": rooms, "contributing": contributing, "minutes": minutes}
