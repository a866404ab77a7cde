"""The report page of a run: one HTML file with its images inside, that needs nothing else to be read."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from smerf.engine.files import write_text
from smerf.engine.folder import flatten
from smerf.engine.progress import format_seconds
from smerf.evaluation.report_images import ERROR_RANGE, colour_map

__all__ = ["ReportContext", "write_report"]

_STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
_HEADINGS = {
    "psnr": ("PSNR", "dB", 2, max),
    "masked_psnr": ("masked PSNR", "dB", 2, max),
    "cc_psnr": ("colour-corrected PSNR", "dB", 2, max),
    "ssim": ("SSIM", "", 4, max),
    "lpips_vgg": ("LPIPS (VGG)", "", 4, min),
    "lpips_alex": ("LPIPS (Alex)", "", 4, min),
    "flip": ("FLIP", "", 4, min),
}
_COMMANDS = {"teacher": "train", "student": "distill", "baked": "bake", "site": "export"}


@dataclass(frozen=True)
class ReportContext:
    """What the report says beside the figures; everything but the title may stay empty."""

    title: str
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Per stage: ``seconds``, and ``peak_memory_mb`` or None."""
    site: str | None = None
    """Link to the page, relative to the report."""
    capture: dict[str, Any] = field(default_factory=dict)


def write_report(
    run_dir: Path, stages: dict[str, dict[str, Any]], views: dict[str, str], context: ReportContext
) -> Path:
    """Write ``report.html`` below ``run_dir`` and return its path.

    Args:
        run_dir: The run; images are taken from ``report/photo``, ``report/STAGE`` and
            ``report/STAGE_error`` (JPEG, as ``save_report_images`` leaves them) and embedded. Missing ones are
            dashes.
        stages: Per stage a summary: ``results`` (figures), ``per_image`` (figures by view), ``protocol``.
        views: File name to name of the views, in order.
        context: The rest.
    """
    images = run_dir / "report"
    body = "\n".join(
        [
            _header(stages, views, context),
            _headline(stages),
            _views(stages, views, images),
            _timings(context.timings),
            _facts("Protocol", _protocol(stages)),
            _facts("Capture", {k: v for k, v in context.capture.items() if k != "test_frames"}),
            _facts("Config", context.config),
            _facts("Environment", context.environment),
        ]
    )
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(context.title)}: report</title>\n<style>\n{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
    path = run_dir / "report.html"
    write_text(path, page)
    return path


def _header(stages: dict[str, Any], views: dict[str, str], context: ReportContext) -> str:
    parts = [f"{len(views)} held-out views" if len(views) != 1 else "1 held-out view"]
    if context.config.get("preset"):
        parts.append(f"preset {context.config['preset']}")
    if context.timings:
        parts.append(f"made in {format_seconds(sum(t['seconds'] for t in context.timings.values()))}")
    link = f'<a class="open" href="{escape(context.site)}">Open the scene</a>' if context.site else ""
    return (
        f"<header><div><h1>{escape(context.title)}</h1><p>{escape(', '.join(parts))}</p></div>{link}</header>"
    )


def _headline(stages: dict[str, dict[str, Any]]) -> str:
    results = {stage: summary.get("results", {}) for stage, summary in stages.items()}
    keys = _figure_keys(results.values())
    best = {key: _HEADINGS[key][3](r[key] for r in results.values() if key in r) for key in keys}
    rows = []
    for stage, result in results.items():
        cells = []
        for key in keys:
            mark = " class=best" if len(results) > 1 and result.get(key) == best[key] else ""
            cells.append(f"<td{mark}>{_figure(key, result)}</td>")
        rows.append(f"<tr><th scope=row>{escape(stage)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th scope=col>{_heading(key)}</th>" for key in keys)
    return (
        "<section><h2>Held-out quality</h2><table class=figures><thead><tr><th scope=col>stage</th>"
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></section>"
    )


def _views(stages: dict[str, dict[str, Any]], views: dict[str, str], images: Path) -> str:
    rows = []
    for file, name in views.items():
        photo = _image(images / "photo" / f"{file}.jpg", "photo", f"photo of {name}", "")
        cells = [f"<div>{photo}</div>"]
        for stage, summary in stages.items():
            figures = summary.get("per_image", {}).get(name, {})
            keys = [key for key in ("psnr", "ssim") if _is_number(figures.get(key))]
            text = ", ".join(f"{_HEADINGS[key][0]} {_figure(key, figures)}" for key in keys)
            rendered = _image(images / stage / f"{file}.jpg", stage, f"{stage}, {name}", text)
            error = images / f"{stage}_error" / f"{file}.jpg"
            difference = _image(error, f"{stage} error", f"error of {stage}, {name}", "")
            cells.append(f"<div>{rendered}{difference}</div>")
        rows.append(f"<article><h3>{escape(name)}</h3><div class=row>{''.join(cells)}</div></article>")
    return f"<section><h2>Views</h2>{_legend()}{''.join(rows)}</section>"


def _legend() -> str:
    steps = colour_map(np.linspace(0.0, 1.0, 9))
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in steps)
    return (
        "<p class=legend>Error maps show the absolute difference from the photo, averaged over red, green "
        f"and blue (white is 1): <span>0 <i style='background: linear-gradient(90deg, {stops})'></i> "
        f"{ERROR_RANGE:g} and more</span></p>"
    )


def _image(path: Path, label: str, description: str, figures: str) -> str:
    if path.is_file():
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        image = f'<img loading="lazy" alt="{escape(description)}" src="data:image/jpeg;base64,{data}">'
    else:
        image = "<div class=missing>—</div>"
    caption = f"{escape(label)}<small>{escape(figures)}</small>" if figures else escape(label)
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _timings(timings: dict[str, dict[str, Any]]) -> str:
    if not timings:
        return ""
    rows = []
    for stage, record in timings.items():
        memory = record.get("peak_memory_mb")
        shown = f"{memory / 1024:.2f} GiB" if memory else "unknown"
        if record.get("peak_gpu_mb"):
            shown += f", GPU {record['peak_gpu_mb'] / 1024:.2f} GiB"
        rows.append(
            f"<tr><th scope=row>{_COMMANDS.get(stage, escape(stage))}</th>"
            f"<td>{format_seconds(record['seconds'])}</td><td>{shown}</td></tr>"
        )
    return (
        "<section><h2>Time and memory</h2><table class=figures><thead><tr><th scope=col>stage</th>"
        "<th scope=col>time</th><th scope=col>peak memory</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></section>"
    )


def _protocol(stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return next((s["protocol"] for s in stages.values() if s.get("protocol")), {})


def _facts(title: str, facts: dict[str, Any]) -> str:
    if not facts:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(key)}</th><td>{escape(_fact(value))}</td></tr>"
        for key, value in flatten(facts).items()
    )
    return (
        f"<section><details><summary><h2>{escape(title)}</h2></summary>"
        f"<table class=facts><tbody>{rows}</tbody></table></details></section>"
    )


def _fact(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_fact, value))
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)


def _figure_keys(results: Any) -> list[str]:
    results = list(results)
    return [key for key in _HEADINGS if any(_is_number(result.get(key)) for result in results)]


def _heading(key: str) -> str:
    name, unit, _, better = _HEADINGS[key]
    arrow = "higher is better" if better is max else "lower is better"
    return f"<span title='{arrow}'>{name}{f' ({unit})' if unit else ''}</span>"


def _figure(key: str, result: dict[str, Any]) -> str:
    value = result.get(key)
    return f"{value:.{_HEADINGS[key][2]}f}" if _is_number(value) else "–"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
