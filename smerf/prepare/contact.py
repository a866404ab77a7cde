"""The contact sheet: every image in capture order; those that are not used are tinted red, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smerf.prepare.intake import Photo

__all__ = ["write_contact_sheet"]

_WIDTH, _CAPTION, _MARGIN = 160, 16, 4
_MAX_COLUMNS = 10
_QUALITY = 85


def write_contact_sheet(
    path: Path, photos: Sequence[Photo], images: Path, reasons: Mapping[str, str]
) -> None:
    """Write the sheet as JPEG.

    Args:
        path: File to write.
        photos: In capture order.
        images: Folder of their files.
        reasons: Why a photo is not used, by name; the others are.
    """
    height = max(max(1, round(_WIDTH * photo.size[1] / photo.size[0])) for photo in photos)
    columns = min(_MAX_COLUMNS, len(photos))
    rows = -(-len(photos) // columns)
    cell = (_WIDTH + _MARGIN, height + _CAPTION + _MARGIN)
    sheet = Image.new("RGB", (columns * cell[0] + _MARGIN, rows * cell[1] + _MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for index, photo in enumerate(photos):
        x, y = _MARGIN + index % columns * cell[0], _MARGIN + index // columns * cell[1]
        reason = reasons.get(photo.name, "")
        small = _thumbnail(images / photo.name, (_WIDTH, height))
        sheet.paste(_tinted(small) if reason else small, (x, y + (height - small.height) // 2))
        stem = Path(photo.name).stem
        room = _WIDTH - pen.textlength(f"{reason} ", font)
        while stem and pen.textlength(stem, font) > room:
            stem = stem[1:]
        pen.text((x, y + height + 1), f"{reason} {stem}".strip(), "#b00020" if reason else "#333333", font)
    sheet.save(path, quality=_QUALITY)


def _thumbnail(path: Path, size: tuple[int, int]) -> Image.Image:
    with Image.open(path) as image:
        image.draft("RGB", (2 * size[0], 2 * size[1]))
        small = image.convert("RGB")
        small.thumbnail(size)
        return small


def _tinted(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, np.float32).mean(axis=2, keepdims=True)
    return Image.fromarray((pixels * (0.9, 0.45, 0.45) + (25.0, 0.0, 0.0)).clip(0, 255).astype(np.uint8))
