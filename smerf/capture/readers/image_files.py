"""Where the images and masks of a capture lie, in every layout."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from smerf.errors import InvalidDataError

__all__ = [
    "IMAGE_SUFFIXES",
    "find_masks",
    "has_photos",
    "image_folder",
    "list_images",
    "locate_photos",
    "mask_folder",
    "match_masks",
    "may_be_photo",
]

_LOG = logging.getLogger("smerf")

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif", ".avif",
    ".jfif", ".jpe", ".jp2", ".ppm",
)  # fmt: skip
_IMAGE_FOLDER = re.compile(r"^(images|image|rgb)(?:_(\d+))?$")
_PHOTO_FOLDERS = ("images", "image", "rgb", "input", "photos", "color", "frames")
"""Of folders that hold files of the right names, the first of these is taken."""
_OTHER_FOLDER = re.compile(
    r"^(masks?|depths?|normals?|semantics?|seg(s|ment(s|ed|ation.*)?)?|labels?|confidence|thumb.*|sparse|distorted|"
    r"colmap|\..*|__macosx|@eadir|#recycle|\$recycle\.bin)$"
)


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


def locate_photos(
    root: Path, expected: Sequence[Path], stated_in: Path, taken: Collection[Path] = ()
) -> list[Path]:
    """Return where photos lie, for paths that may be spelt otherwise or come from another machine.

    A path that exists is kept. A missing one is looked for beside it, ignoring case, Unicode form and suffix. Where
    none is found so, the one folder below ``root`` that holds files of these names is used. A path that stays
    missing is returned as it is.

    Args:
        root: The folder of the capture.
        expected: One path a photo.
        stated_in: The file that names them, for messages.
        taken: Files that are other photos already.

    Raises:
        InvalidDataError: If several folders hold files of these names and none is called like a folder of photos.
    """
    existing = {path for path in expected if path.is_file()}
    if len(existing) == len(set(expected)):
        return list(expected)
    used = existing | set(taken)
    listings: dict[Path, dict[str, list[Path]]] = {}
    located = []
    for path in expected:
        found = path if path in existing else _beside(path, root, listings, used)
        used.add(found)
        located.append(found)
    if not any(path.is_file() for path in located) and not _has_reduced_copies(expected[0]):
        located = _elsewhere(root, expected, stated_in, set(taken))
    moved = [(new, old) for new, old in zip(located, expected) if new != old]
    if moved:
        new, old = moved[0]
        _LOG.info("%s: %d photos have another name or place than stated: the first is %s instead of %s",
                  stated_in, len(moved), new, old)  # fmt: skip
    return located


def find_masks(root: Path, names: Sequence[str], paths: Sequence[Path]) -> list[Path | None]:
    """Find the masks of photos in ``masks/``, or instant-ngp's ``dynamic_mask_STEM.png`` beside them.

    Masks that belong to no photo at all are worth a warning: they would be ignored.
    """
    folder = mask_folder(root)
    found = match_masks(folder, names, paths) if folder else [None] * len(names)
    if folder and not any(found) and (files := list_images(folder)):
        _LOG.warning("%s: its masks belong to no photo and are ignored; name them like the photos (%s, not %s)",
                     folder, f"{Path(names[0]).stem}.png" if names else "STEM.png", files[0].name)  # fmt: skip
    beside = [path.parent / f"dynamic_mask_{path.stem}.png" for path in paths]
    return [mask or (other if other.is_file() else None) for mask, other in zip(found, beside)]


def mask_folder(root: Path) -> Path | None:
    """Return the folder of masks in ``root``: ``masks`` or ``mask``, in any case."""
    return next((child for child in _folders(root) if child.name.lower() in ("masks", "mask")), None)


def match_masks(folder: Path, names: Sequence[str], paths: Sequence[Path]) -> list[Path | None]:
    """Find the masks of photos in a folder, where one is called ``NAME.png``, ``STEM.png`` or ``NAME``.

    Case and suffix do not count, and folders do not where the rest of a name fits one photo only.
    """
    index: dict[str, list[Path]] = defaultdict(list)
    for path in list_images(folder):
        index[_spelling(path.relative_to(folder).as_posix())].append(path)
    shared = Counter(_spelling(path.name) for path in paths)
    masks = []
    for name, path in zip(names, paths):
        keys = [_spelling(f"{name}.png"), _spelling(name)]
        if shared[_spelling(path.name)] == 1:
            keys += [_spelling(f"{path.name}.png"), _spelling(path.name)]
        masks.append(next((_preferred(index[key], path) for key in keys if key in index), None))
    return masks


def _spelling(name: str) -> str:
    """Return what spellings of a relative path have in common: no case, no suffix of an image, one Unicode form."""
    suffix = Path(name).suffix
    stem = name[: -len(suffix)] if suffix.lower() in IMAGE_SUFFIXES else name
    return unicodedata.normalize("NFC", stem).casefold()


def _preferred(candidates: Iterable[Path], wanted: Path) -> Path:
    """Of files that differ in case or suffix only, return the one that is most like the wanted one."""

    def rank(path: Path) -> tuple[bool, int, str]:
        other = path.suffix.lower() != wanted.suffix.lower()
        return other, IMAGE_SUFFIXES.index(path.suffix.lower()), path.name

    return min(candidates, key=rank)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _beside(path: Path, root: Path, listings: dict[Path, dict[str, list[Path]]], used: set[Path]) -> Path:
    """Return the unused file whose path differs from a missing one in spelling only, else the missing one."""
    folder = _spelt(path.parent, root)
    if folder is None:
        return path
    if folder not in listings:
        listings[folder] = defaultdict(list)
        for file in folder.iterdir():
            if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file():
                listings[folder][_spelling(file.name)].append(file)
    free = [file for file in listings[folder].get(_spelling(path.name), []) if file not in used]
    return _preferred(free, path) if free else path


def _spelt(folder: Path, root: Path) -> Path | None:
    """Return an existing folder whose path below the root differs in case or Unicode form only."""
    if folder.is_dir():
        return folder
    if root not in folder.parents:
        return None
    current = root
    for part in folder.relative_to(root).parts:
        same = [child for child in _folders(current) if _spelling(child.name) == _spelling(part)]
        if len(same) != 1:
            return None
        current = same[0]
    return current


def has_photos(folder: Path) -> bool:
    """Tell whether a folder holds a folder that is called like one of photos."""
    return any(image_folder(child.name) or child.name.lower() in _PHOTO_FOLDERS for child in _folders(folder))


def _has_reduced_copies(path: Path) -> bool:
    """Tell whether a missing photo's folder has copies of other sizes, which serve in its place."""
    folder = next((parent for parent in path.parents if image_folder(parent.name)), None)
    if folder is None:
        return False
    base = (image_folder(folder.name) or ("", None))[0]
    copies = [found for child in _folders(folder.parent) if (found := image_folder(child.name)) and found[1]]
    return any(name == base for name, _ in copies)


def _elsewhere(root: Path, expected: Sequence[Path], stated_in: Path, taken: set[Path]) -> list[Path]:
    """Return the files of the folder below the root that holds most of the names, by the longest common path."""
    files = [path for path in list_images(root) if path not in taken and may_be_photo(path.relative_to(root))]
    best: tuple[int, int] = (0, 0)
    chosen: dict[Path, dict[str, list[Path]]] = {}
    for length in range(1, max((len(file.relative_to(root).parts) for file in files), default=0) + 1):
        tails = [_tail(path, length) for path in expected]
        if len(set(tails)) < len(tails):
            continue
        bases: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for file in files:
            if len(file.relative_to(root).parts) >= length:
                bases[file.parents[length - 1]][_tail(file, length)].append(file)
        counts = Counter({base: sum(tail in names for tail in tails) for base, names in bases.items()})
        for base, count in counts.items():
            if (count, length) > best:
                best, chosen = (count, length), {}
            if (count, length) == best and count:
                chosen[base] = bases[base]
    if not chosen:
        return list(expected)
    names = chosen[_photo_folder(list(chosen), stated_in)]
    return [
        _preferred(names[tail], path) if (tail := _tail(path, best[1])) in names else path
        for path in expected
    ]


def may_be_photo(path: Path) -> bool:
    """Tell whether a relative path can be a photo's: not in a folder of masks, depth or reduced copies."""
    folders = path.parts[:-1]
    is_other = any(_OTHER_FOLDER.match(part.lower()) for part in folders) or path.name.startswith(
        "dynamic_mask_"
    )
    return not is_other and not any((named := image_folder(part)) and named[1] for part in folders)


def _tail(path: Path, length: int) -> str:
    return _spelling("/".join(path.parts[-length:]))


def _photo_folder(folders: list[Path], stated_in: Path) -> Path:
    """Return the folder that is called like a folder of photos, or the only one."""
    if len(folders) == 1:
        return folders[0]
    for name in _PHOTO_FOLDERS:
        named = [folder for folder in folders if folder.name.lower() == name]
        if len(named) == 1:
            return named[0]
    shown = " and ".join(str(folder) for folder in sorted(folders)[:3])
    raise InvalidDataError(
        f"{stated_in}: its images are missing, and files of these names lie in {shown}; move the right ones to "
        "the folder images beside it"
    )
