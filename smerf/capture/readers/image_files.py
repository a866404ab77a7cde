"""Where the images and masks of a capture lie, in every layout."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["IMAGE_SUFFIXES", "find_mask", "image_folder", "list_images"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_IMAGE_FOLDER = re.compile(r"^(images|image|rgb)(?:_(\d+))?$")


def image_folder(name: str) -> tuple[str, int | None] | None:
    """Split ``images_4`` into ``("images", 4)``; ``None`` where the name is not one of an image folder."""
    match = _IMAGE_FOLDER.match(name)
    return (match[1], int(match[2]) if match[2] else None) if match else None


def list_images(folder: Path) -> list[Path]:
    """Return the images below a folder, sorted by relative path; hidden files are no photos."""
    found = (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def find_mask(root: Path, name: str, image_path: Path) -> Path | None:
    """Find the mask of an image in ``masks/``, or instant-ngp's ``dynamic_mask_STEM.png`` beside it."""
    stem = Path(name).with_suffix("")
    candidates = [root / "masks" / f"{name}.png", root / "masks" / f"{stem}.png", root / "masks" / name]
    candidates.append(image_path.parent / f"dynamic_mask_{image_path.stem}.png")
    return next((path for path in candidates if path.is_file()), None)
