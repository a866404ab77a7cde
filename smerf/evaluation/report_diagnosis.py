"""The parts of the report that say what is wrong and what to do: findings, losses by stage, coverage, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

__all__ = ["coverage_section", "findings_section", "loss_bar", "size_section"]

_SHOWN_NAMES = 6


def findings_section(diagnosis: Mapping[str, Any]) -> str:
    """Return what stands out, faults of the photos first, each with its advice; nothing without findings."""
    items = "".join(_finding(finding) for finding in diagnosis.get("findings", []))
    return f"<section><h2>What to do</h2><ul class=findings>{items}</ul></section>" if items else ""


def _finding(finding: Mapping[str, Any]) -> str:
    names = [escape(name) for name in finding["photos"]]
    listed = ", ".join(names)
    if len(names) > _SHOWN_NAMES:
        first = ", ".join(names[:_SHOWN_NAMES])
        listed = f"<details><summary>{first} …</summary>{', '.join(names[_SHOWN_NAMES:])}</details>"
    level = finding["level"]
    photos = f"<div class=names>{listed}</div>" if names else ""
    return (
        f"<li class={level}><span class=level>{level}</span><div><p><b>{escape(finding['text'])}</b></p>"
        f"<p>{escape(finding['advice'])}</p>{photos}</div></li>"
    )


def loss_bar(diagnosis: Mapping[str, Any]) -> str:
    """Return where the quality was lost as one bar; nothing where no stage is known from the first on."""
    loss = diagnosis.get("loss", {})
    fractions, changes = loss.get("fractions", {}), loss.get("changes_db", {})
    if not fractions:
        return ""
    parts, words = [], []
    for index, (step, fraction) in enumerate(fractions.items()):
        change = f"{changes[step]:+.2f} dB" if step in changes else f"{loss['psnr']['teacher']:.2f} dB"
        words.append(f"{step} {change}")
        if fraction >= 0.001:
            label = f"{step} {fraction:.0%}" if fraction >= 0.15 else ""
            parts.append(f"<span class=part{index} style='flex: {fraction:.4f}'>{label}</span>")
    text = " → ".join(words)
    return (
        f"<section><h2>Where the quality is lost</h2><div class=bar role=img aria-label='{escape(text)}'>"
        f"{''.join(parts)}</div><p class=note>{escape(text)}. The bar divides the squared error on the held-out "
        "views.</p></section>"
    )


def coverage_section(diagnosis: Mapping[str, Any]) -> str:
    """Return how much of the start view and of free views the photos support."""
    unsupported, floaters = diagnosis.get("unsupported", {}), diagnosis.get("floaters", {})
    known = diagnosis.get("known", {})
    if not unsupported:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{fraction:.0%}</td>"
        f"<td>{f'{floaters[name]:.0%}' if name in floaters else '–'}</td>"
        f"<td>{f'{known[name]:.0%}' if name in known else '–'}</td></tr>"
        for name, fraction in unsupported.items()
    )
    return (
        "<section><h2>Beyond the photos</h2><p class=note>The start view, and views from it that no photo stands for: "
        "the fraction of the frame whose surface lies in fewer than two photos, what floats before the camera, "
        "and how much is known, of which the rest fades to one colour.</p>"
        "<table class=figures><thead><tr><th scope=col>view</th><th scope=col>unsupported</th>"
        f"<th scope=col>floaters</th><th scope=col>known</th></tr></thead><tbody>{rows}</tbody></table></section>"
    )


def size_section(diagnosis: Mapping[str, Any]) -> str:
    """Return the bytes of the baked scene by part."""
    parts = diagnosis.get("bytes", {})
    if not parts:
        return ""
    total = sum(parts.values())
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{size / 1e6:.2f} MB</td><td>{size / total:.0%}</td></tr>"
        for name, size in parts.items()
    )
    return (
        f"<section><h2>Size of the scene: {total / 1e6:.1f} MB</h2><table class=figures><tbody>{rows}</tbody></table>"
        "</section>"
    )
