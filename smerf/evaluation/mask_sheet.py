"""The contact sheet of masks: every photo with what is ignored tinted, in one HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from smerf.engine.files import write_text

__all__ = ["MaskedPhoto", "write_mask_sheet"]

_WIDTH, _QUALITY = 240, 80
_TINT = np.array([255.0, 0.0, 160.0])
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }
body { margin: 1.5rem; }
main { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
figure { margin: 0; } img { width: 100%; display: block; border-radius: 4px; }
figcaption { overflow-wrap: anywhere; } .none { opacity: .6; }
"""


@dataclass(frozen=True)
class MaskedPhoto:
    """A photo uint8 (H, W, 3), where its pixels are ignored (H, W) bool, and by what."""

    name: str
    photo: np.ndarray
    ignored: np.ndarray
    by: tuple[str, ...] = ()


def write_mask_sheet(path: Path, title: str, photos: Iterable[MaskedPhoto]) -> None:
    """Write the sheet; photos of which something is ignored come first, the largest share before."""
    shown = sorted(((photo.ignored.mean(), photo.name, _figure(photo)) for photo in photos), key=_rank)
    shares = [share for share, _, _ in shown]
    met = sum(share > 0 for share in shares)
    summary = f"{met} of {len(shown)} photos, {100 * sum(shares) / max(1, len(shares)):.1f} % of all pixels"
    write_text(
        path,
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>Masks of {escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>Masks of {escape(title)}</h1>"
        f"<p>Ignored, in pink: {summary}.</p>\n<main>\n"
        + "\n".join(figure for _, _, figure in shown)
        + "\n</main></body></html>\n",
    )


def _rank(entry: tuple[float, str, str]) -> tuple[float, str]:
    return -entry[0], entry[1]


def _figure(photo: MaskedPhoto) -> str:
    share = float(photo.ignored.mean())
    mixed = photo.photo[..., :3].astype(np.float32)
    mixed[photo.ignored] = 0.35 * mixed[photo.ignored] + 0.65 * _TINT
    image = Image.fromarray(mixed.astype(np.uint8))
    image.thumbnail((_WIDTH, 2 * _WIDTH))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    source = base64.b64encode(file.getvalue()).decode()
    words = f"{100 * share:.1f} % ({', '.join(photo.by) or 'given'})" if share else "used whole"
    mark = "" if share else ' class="none"'
    return (
        f'<figure{mark}><img alt="{escape(photo.name)}, {words}" src="data:image/jpeg;base64,{source}">'
        f"<figcaption>{escape(photo.name)}: {words}</figcaption></figure>"
    )
