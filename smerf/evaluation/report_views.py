"""The views of the report, worst first: photo and rendering under a wipe, the error map, a link to that camera."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.types import Camera
from smerf.evaluation.loss import view_psnr
from smerf.evaluation.report_images import ERROR_RANGE, colour_map, reduce_jpeg

__all__ = ["view_fragment", "views_section"]

_MAX_CARDS = 24
"""Views shown with images, the worst; the others are rows of a table."""
_SIDES = ((8, 640), (16, 448), (_MAX_CARDS, 320))
"""Longer side of the embedded images, for so many cards at most."""
_ERROR_SIDE = 320


def views_section(
    stages: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, str],
    images: Path,
    angles: Mapping[str, Mapping[str, Any]],
    cameras: Mapping[str, Camera],
    site: str | None,
) -> str:
    """Return the section of all views.

    Args:
        stages: Summary of each stage; images and order are those of the last.
        files: Name of each view's image files, by the view's name.
        images: Folder of the images.
        angles: ``degrees`` to the nearest training photo and ``kind`` of each view.
        cameras: Camera of each view.
        site: Link to the page, which opens at a view's camera.
    """
    if not stages:
        return ""
    last = list(stages)[-1]
    figures = stages[last].get("per_image", {})
    names = sorted(files, key=lambda name: view_psnr(figures[name]) if name in figures else np.inf)
    shown = names[:_MAX_CARDS]
    side = next(side for count, side in _SIDES if len(shown) <= count)
    cards = []
    for rank, name in enumerate(shown, 1):
        angle = angles.get(name, {})
        link = f"{site}#{view_fragment(cameras[name])}" if site and name in cameras else None
        cards.append(
            f"<article>{_title(rank, name, figures.get(name), angle, link)}<div class=row>"
            f"{_wipe(images, last, files[name], name, side)}{_error(images, last, files[name], name)}</div>"
            f"{_stages(stages, name)}</article>"
        )
    return (
        f"<section><h2>Views, worst first</h2>{_legend()}<div class=cards>{''.join(cards)}</div>"
        f"{_rest(names[_MAX_CARDS:], figures, angles)}</section>"
    )


def view_fragment(camera: Camera) -> str:
    """Return the fragment with which the page opens at a camera (``viewer/web/url.js``)."""
    pose, intrinsics = camera.world_from_cam, camera.intrinsics
    fov = np.degrees(2.0 * np.arctan(0.5 * intrinsics.height / intrinsics.fy))
    vectors = {"pos": pose[:, 3], "look": pose[:, 3] - pose[:, 2], "up": pose[:, 1]}
    text = {name: ",".join(f"{value:.5f}" for value in vector) for name, vector in vectors.items()}
    return "&".join(f"{name}={value}" for name, value in text.items()) + f"&fov={min(fov, 170.0):.3f}"


def _title(
    rank: int, name: str, figures: Mapping[str, float] | None, angle: Mapping[str, Any], link: str | None
) -> str:
    facts = [_decibels(figures)]
    if angle:
        facts.append(f"{angle['kind']}, {angle['degrees']:.0f}° from the nearest photo")
    anchor = f'<a href="{escape(link)}">open this view</a>' if link else ""
    return f"<h3><span>{rank}. {escape(name)}</span> <small>{escape(', '.join(facts))}</small> {anchor}</h3>"


def _decibels(figures: Mapping[str, float] | None) -> str:
    if not figures:
        return "not measured"
    return f"{'masked ' if 'masked_psnr' in figures else ''}PSNR {view_psnr(figures):.2f} dB"


def _wipe(images: Path, stage: str, file: str, name: str, side: int) -> str:
    photo = _image(images / "photo" / f"{file}.jpg", f"photo of {name}", side)
    rendered = _image(images / stage / f"{file}.jpg", f"{stage}, {name}", side)
    label = f"Wipe between the photo and {escape(stage)}"
    slider = f'<input type="range" min="0" max="100" value="50" aria-label="{label}">'
    return (
        f"<figure><div class=wipe><div>{photo}</div><div class=over>{rendered}</div>{slider}</div>"
        f"<figcaption><span>photo</span><span>{escape(stage)}</span></figcaption></figure>"
    )


def _error(images: Path, stage: str, file: str, name: str) -> str:
    image = _image(images / f"{stage}_error" / f"{file}.jpg", f"error of {stage}, {name}", _ERROR_SIDE)
    return f"<figure>{image}<figcaption>error of {escape(stage)}</figcaption></figure>"


def _stages(stages: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Return the PSNR of one view in each stage."""
    values = {stage: summary.get("per_image", {}).get(name) for stage, summary in stages.items()}
    parts = [f"{escape(stage)} {view_psnr(own):.2f}" for stage, own in values.items() if own]
    return f"<p class=note>{' → '.join(parts)} dB</p>" if len(parts) > 1 else ""


def _rest(names: list[str], figures: Mapping[str, Any], angles: Mapping[str, Mapping[str, Any]]) -> str:
    if not names:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{_decibels(figures.get(name))}</td>"
        f"<td>{escape(angles.get(name, {}).get('kind', '–'))}</td></tr>"
        for name in names
    )
    return (
        f"<details><summary>{len(names)} better views</summary><table class=facts><tbody>{rows}</tbody></table>"
        "</details>"
    )


def _legend() -> str:
    steps = colour_map(np.linspace(0.0, 1.0, 9))
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in steps)
    return (
        "<p class=legend>Error maps show the absolute difference from the photo, averaged over red, green "
        f"and blue (white is 1): <span>0 <i style='background: linear-gradient(90deg, {stops})'></i> "
        f"{ERROR_RANGE:g} and more</span></p>"
    )


def _image(path: Path, description: str, side: int) -> str:
    if not path.is_file():
        return "<div class=missing>—</div>"
    data = base64.b64encode(reduce_jpeg(path, side)).decode("ascii")
    return f'<img decoding="async" alt="{escape(description)}" src="data:image/jpeg;base64,{data}">'
