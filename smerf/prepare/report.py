"""The report of a preparation: verdict, next steps, contact sheet, map, residuals and checks, in one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from smerf.engine.files import write_text
from smerf.engine.folder import RunFolder
from smerf.engine.progress import format_seconds
from smerf.prepare.checks import MAX_CONTRADICTION, MAX_ERROR, MAX_STEP, MIN_ANGLE
from smerf.prepare.contact import write_contact_sheet
from smerf.prepare.intake import Photo
from smerf.prepare.mapping import Candidate, Outcome
from smerf.prepare.model import Model
from smerf.prepare.plots import draw_map, draw_residuals
from smerf.prepare.record import Result
from smerf.prepare.verdict import Verdict
from smerf.prepare.write import placed

__all__ = ["write_report"]

_TITLES = {
    "good": "This capture works",
    "usable": "This capture works, with gaps",
    "failed": "This capture does not work",
}
_LEGENDS = {
    "map": "Where the photos were taken, from the first (blue) to the last (red), and where they look; grey: points of "
    "the scene. A jump, or walls that do not meet, is a fault.",
    "residuals": "How well the photos fit together: few pixels of error and many points are good.",
}


def write_report(
    output: Path,
    result: Result,
    record: dict[str, Any],
) -> None:
    """Write ``report.html``, ``contact.jpg`` and, with a model, ``map.svg`` and ``residuals.svg`` to ``prepare/``."""
    folder, outcome, model, placement = output / "prepare", result.outcome, result.model, result.placement
    shown = _in_order(result.gathered.photos, outcome.photos)
    reasons = {frame["name"]: frame["dropped"] for frame in record["frames"] if frame["dropped"]}
    write_contact_sheet(folder / "contact.jpg", shown, output / "images", reasons)
    drawings = {}
    if model is not None and placement is not None and len(model.names):
        model = _ordered(model, outcome.photos)
        poses, points = placed(model, placement)
        drawings["map"] = draw_map(poses, points, model.names, is_metric=placement.is_metric)
        drawings["residuals"] = draw_residuals(
            model.errors, np.bincount(model.seen_image, minlength=len(model.names))
        )
    for name in ("map", "residuals"):
        (folder / f"{name}.svg").unlink(missing_ok=True)
    for name, drawing in drawings.items():
        write_text(folder / f"{name}.svg", drawing)
    sections = [
        _verdict(result.verdict),
        f"<h2>Photos</h2><p>{_reasons(reasons)}</p><img alt='contact sheet' src='{_inline(folder / 'contact.jpg')}'>",
        *(
            f"<h2>{name.capitalize()}</h2><p class=quiet>{_LEGENDS[name]}</p>{svg}"
            for name, svg in drawings.items()
        ),
        _checks(outcome),
        _facts(record),
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    place = output.resolve()
    name = place.parent.name if RunFolder(place.parent).exists() else place.name
    title = escape(f"{name}: from photos to poses")
    write_text(
        folder / "report.html",
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n",
    )


def _in_order(photos: Sequence[Photo], used: Sequence[Photo]) -> list[Photo]:
    dropped = [photo for photo in photos if photo.dropped]
    return sorted([*used, *dropped], key=lambda photo: (photo.sequence, photo.time, bool(photo.dropped)))


def _ordered(model: Model, photos: Sequence[Photo]) -> Model:
    place = {photo.name: (photo.sequence, photo.number) for photo in photos}
    return model.keep(sorted(range(len(model.names)), key=lambda index: place[model.names[index]]))


def _inline(path: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _verdict(verdict: Verdict) -> str:
    items = "".join(
        f"<li><strong>{escape(finding.cause)}</strong> <span class=quiet>{escape(finding.numbers)}</span> "
        f"{escape(finding.advice)}</li>"
        for finding in verdict.findings
    )
    style = " class=bad" if verdict.state == "failed" else ""
    return f"<h2{style}>{_TITLES[verdict.state]}: {verdict.summary}</h2>" + (
        f"<ul>{items}</ul>" if items else ""
    )


def _reasons(reasons: dict[str, str]) -> str:
    if not reasons:
        return "All are used."
    counts = {reason: list(reasons.values()).count(reason) for reason in sorted(set(reasons.values()))}
    return "Not used: " + ", ".join(f"{count} {reason}" for reason, count in counts.items()) + "."


def _checks(outcome: Outcome) -> str:
    rows = [
        ("photos posed", "", lambda c: f"{len(c.model.names)} of {c.total}"),
        ("photos before cleaning", "", lambda c: str(c.raw)),
        ("photos with fewer than 30 points", "", lambda c: str(len(c.cleaned.weak))),
        ("parts cut off", "", _parts),
        ("contradicting photos", f"at most {100 * MAX_CONTRADICTION:.0f} %", _contradiction),
        ("largest step of the path", f"at most {MAX_STEP:.0f} normal steps", _step),
        ("angle between views", f"at least {MIN_ANGLE:.0f}°", lambda c: f"{c.checks.angle:.1f}°"),
        ("mean reprojection error", f"below {MAX_ERROR} px", lambda c: f"{c.checks.error:.2f} px"),
        ("field of view", "20° to 130°", lambda c: f"{c.checks.fov[0]:.0f}° to {c.checks.fov[1]:.0f}°"),
        ("result", "", lambda c: "kept" if c is outcome.chosen else c.rejected or "passes"),
    ]
    if not outcome.candidates:
        return "<h2>Checks</h2><p>Neither mapper found a model.</p>"
    head = "".join(f"<th scope=col>{c.mapper}, {c.attempt}</th>" for c in outcome.candidates)
    body = ""
    for name, limit, show in rows:
        cells = "".join(f"<td>{show(candidate)}</td>" for candidate in outcome.candidates)
        body += f"<tr><th scope=row>{name}</th>{cells}<td>{limit}</td></tr>"
    return (
        f"<h2>Checks</h2><table><thead><tr><th></th>{head}<th scope=col>limit</th></tr></thead>{body}</table>"
    )


def _parts(candidate: Candidate) -> str:
    """Name what hung on the rest by too few points: how many photos, the first and the last."""
    names = [[Path(name).stem for name in sorted(part)] for part in candidate.cleaned.parts]
    return escape("; ".join(f"{len(part)} ({part[0]} to {part[-1]})" for part in names)) or "none"


def _contradiction(candidate: Candidate) -> str:
    value = candidate.checks.contradiction
    return "not testable" if value is None else f"{100 * value:.1f} %"


def _step(candidate: Candidate) -> str:
    value = (candidate.jump or candidate.checks).step
    return "not testable" if value is None else f"{value:.1f}"


def _facts(record: dict[str, Any]) -> str:
    evidence, model = record["evidence"], record.get("model")
    facts = {
        "details per photo (median)": f"{evidence['keypoints']:.0f}",
        "neighbouring pairs that match": f"{evidence['matching']} of {evidence['tested']}",
        "pairs that one plane explains": f"{100 * evidence['flat']:.0f} %",
        "time": format_seconds(record["seconds"]),
    }
    if model is not None:
        facts["points"] = str(model["points"])
        facts["focal length"] = ", ".join(f"{lens['fx']:.1f} px" for lens in model["intrinsics"][:4])
        facts["up axis from"] = model["up_source"]
        facts["unit"] = "metres" if model["metric"] else "arbitrary"
    if record["agreement"]:
        alike, degrees, distance = record["agreement"]
        facts["both mappers agree"] = f"{100 * alike:.0f} % (median {degrees:.2f}°, {100 * distance:.2f} %)"
    rows = "".join(f"<tr><th scope=row>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
    return f"<h2>Facts</h2><table>{rows}</table>"
