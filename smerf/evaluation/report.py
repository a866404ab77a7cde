"""The report page of a run: one HTML file with its images inside, that needs nothing else to be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from smerf.capture.types import Camera
from smerf.engine.files import write_text
from smerf.engine.folder import flatten
from smerf.engine.progress import format_seconds
from smerf.evaluation.report_diagnosis import coverage_section, findings_section, loss_bar, size_section
from smerf.evaluation.report_views import views_section

__all__ = ["ReportContext", "write_report"]

_FOLDER = Path(__file__).parent
_HEADINGS = {
    "masked_psnr": ("masked PSNR", "dB", 2, max),
    "psnr": ("PSNR", "dB", 2, max),
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
    diagnosis: dict[str, Any] = field(default_factory=dict)
    """As in ``metrics.json``."""
    cameras: Mapping[str, Camera] = field(default_factory=dict)
    """Camera of each view, by name."""


def write_report(
    run_dir: Path, stages: dict[str, dict[str, Any]], files: dict[str, str], context: ReportContext
) -> Path:
    """Write ``report.html`` below ``run_dir`` and return its path.

    Args:
        run_dir: The run; images are taken from ``report/photo``, ``report/STAGE`` and
            ``report/STAGE_error`` (JPEG, as ``save_report_images`` leaves them) and embedded. Missing ones are
            dashes.
        stages: Per stage, in order, a summary: ``results`` (figures), ``per_image`` (figures by view),
            ``protocol``. The images are those of the last stage.
        files: Name of each view's image files, by the view's name.
        context: The rest.
    """
    diagnosis = context.diagnosis
    body = "\n".join(
        [
            _header(files, context),
            findings_section(diagnosis),
            _quality(stages, diagnosis),
            views_section(
                stages, files, run_dir / "report", diagnosis.get("views", {}), context.cameras, context.site
            ),
            coverage_section(diagnosis),
            _timings(context.timings),
            size_section(diagnosis),
            _facts("Protocol", _protocol(stages, diagnosis)),
            _facts("Capture", {k: v for k, v in context.capture.items() if k != "test_frames"}),
            _facts("Config", context.config),
            _facts("Environment", context.environment),
        ]
    )
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(context.title)}: report</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n<script>\n{script}</script>\n</body>\n</html>\n"
    )
    path = run_dir / "report.html"
    write_text(path, page)
    return path


def _header(files: dict[str, str], context: ReportContext) -> str:
    parts = [f"{len(files)} held-out views" if len(files) != 1 else "1 held-out view"]
    if minutes := context.config.get("minutes"):
        parts.append(f"{minutes:g} min granted")
    elif preset := context.config.get("preset"):
        parts.append(f"preset {preset}")
    if context.timings:
        parts.append(f"made in {format_seconds(sum(t['seconds'] for t in context.timings.values()))}")
    link = f'<a class="open" href="{escape(context.site)}">Open the scene</a>' if context.site else ""
    verdict = context.diagnosis.get("verdict")
    sentence = f'<p class="verdict">{escape(verdict)}</p>' if verdict else ""
    title = f"<div><h1>{escape(context.title)}</h1><p>{escape(', '.join(parts))}</p></div>"
    return f"<header>{title}{link}</header>{sentence}"


def _quality(stages: dict[str, dict[str, Any]], diagnosis: dict[str, Any]) -> str:
    results = {stage: summary.get("results", {}) for stage, summary in stages.items()}
    keys = [key for key in _HEADINGS if any(_is_number(result.get(key)) for result in results.values())]
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
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{_stated(stages)}{_by_kind(diagnosis)}"
        f"{_unused(stages)}</section>{loss_bar(diagnosis)}"
    )


def _stated(stages: dict[str, dict[str, Any]]) -> str:
    """Return the protocol in a line."""
    protocol = _protocol(stages, {})
    resolution = ", ".join(protocol.get("resolution", []))
    parts = [
        protocol.get("split", ""),
        f"at {resolution}" if resolution else "",
        f"PSNR: {protocol.get('psnr', '')}",
    ]
    text = "; ".join(part for part in parts if part)
    return f"<p class=note>{escape(text)}. All of it is under Protocol.</p>" if "psnr" in protocol else ""


def _by_kind(diagnosis: dict[str, Any]) -> str:
    kinds = diagnosis.get("by_kind", {})
    degrees = diagnosis.get("protocol", {}).get("extrapolation_degrees")
    if not kinds or degrees is None:
        return ""
    meaning = {
        "interpolation": f"at most {degrees:g}° from a training photo",
        "extrapolation": f"farther than {degrees:g}° from every training photo",
    }
    parts = []
    for kind, own in sorted(kinds.items(), reverse=True):
        views = f"{own['num_images']} view{'s' if own['num_images'] != 1 else ''}"
        parts.append(f"{kind} ({views} {meaning[kind]}): <b>{own['psnr']:.2f} dB</b>")
    return f"<p class=note>By kind of view: {'; '.join(parts)}.</p>"


def _unused(stages: dict[str, dict[str, Any]]) -> str:
    names = next((s["unused_images"] for s in stages.values() if s.get("unused_images")), [])
    listed = escape(", ".join(names))
    return f"<p class=note>Not measured, as the mask uses no pixel: {listed}.</p>" if names else ""


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


def _protocol(stages: dict[str, dict[str, Any]], diagnosis: dict[str, Any]) -> dict[str, Any]:
    protocol = next((s["protocol"] for s in stages.values() if s.get("protocol")), {})
    return protocol | ({"diagnosis": diagnosis["protocol"]} if diagnosis.get("protocol") else {})


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


def _heading(key: str) -> str:
    name, unit, _, better = _HEADINGS[key]
    arrow = "higher is better" if better is max else "lower is better"
    mark = "↑" if better is max else "↓"
    return f"<span title='{arrow}'>{name}{f' ({unit})' if unit else ''} {mark}</span>"


def _figure(key: str, result: dict[str, Any]) -> str:
    value = result.get(key)
    return f"{value:.{_HEADINGS[key][2]}f}" if _is_number(value) else "–"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
