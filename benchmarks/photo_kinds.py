"""Photos as phones and cameras leave them: what ``smerf prepare`` makes of each kind, against known poses.

    python -m benchmarks.photo_kinds [--kinds plain heic mixed large moving masked many] [--views 25] [--many PHOTOS]
                                     [--keep FOLDER] [--json FILE]

The built-in tabletop is photographed in every kind: HEIC; two cameras with their own tags, one of them zoomed; 12
megapixels; a patch that moves over a tenth of each photo, without and with masks. ``many`` prepares a folder of the
command line, of which nothing is known. Errors are as in ``benchmarks.prepare_acceptance``; CPU seconds and the largest
resident size are those of the whole command, with COLMAP's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from benchmarks.common import ROOT, Benchmark, Report, write_tabletop
from benchmarks.prepare_acceptance import against_poses, figures

LARGE = (4000, 3000)
ZOOM = 1.4
PATCH = (0.3, 0.35)  # of the width and the height


def _tags(model: str, focal: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = model
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = focal
    return exif


def plain(images: list[Image.Image], folder: Path) -> None:
    for index, image in enumerate(images):
        image.save(folder / f"IMG_{index:03d}.jpg", quality=95)


def heic(images: list[Image.Image], folder: Path) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    for index, image in enumerate(images):
        image.save(folder / f"IMG_{index:03d}.HEIC", quality=90)


def mixed(images: list[Image.Image], folder: Path) -> None:
    """Take every second photo by another camera, zoomed in, at another size, upside down in the file."""
    for index, image in enumerate(images):
        path = folder / f"IMG_{index:03d}.jpg"
        if index % 2 == 0:
            image.save(path, quality=95, exif=_tags("one", 26))
            continue
        width, height = image.size
        x, y = width * (1 - 1 / ZOOM) / 2, height * (1 - 1 / ZOOM) / 2
        zoomed = image.transform(
            (480, 360), Image.Transform.EXTENT, (x, y, width - x, height - y), Image.Resampling.BICUBIC
        )
        exif = _tags("two", 36)
        exif[ExifTags.Base.Orientation] = 3
        zoomed.rotate(180).save(path, quality=95, exif=exif)


def large(images: list[Image.Image], folder: Path) -> None:
    for index, image in enumerate(images):
        image.resize(LARGE, Image.Resampling.BICUBIC).save(folder / f"IMG_{index:03d}.jpg", quality=90)


def moving(images: list[Image.Image], folder: Path) -> None:
    """Lay a patch of another photo over each, at a place that moves against the scene."""
    plain([_with_patch(images, index)[0] for index in range(len(images))], folder)


def masked(images: list[Image.Image], folder: Path) -> None:
    moving(images, folder)
    (folder / "masks").mkdir()
    for index in range(len(images)):
        _with_patch(images, index)[1].save(folder / "masks" / f"IMG_{index:03d}.png")


def _with_patch(images: list[Image.Image], index: int) -> tuple[Image.Image, Image.Image]:
    image, mask = images[index].copy(), Image.new("L", images[index].size, 255)
    width, height = (round(part * side) for part, side in zip(PATCH, image.size))
    place = (
        round((image.width - width) * (0.5 + 0.5 * np.sin(0.5 * index))),
        round((image.height - height) * (0.5 + 0.5 * np.cos(0.8 * index))),
    )
    patch = images[0].crop((0, 0, width, height)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.paste(patch, place)
    mask.paste(0, (*place, place[0] + width, place[1] + height))
    return image, mask


KINDS: dict[str, Callable[[list[Image.Image], Path], None]] = {
    "plain": plain,
    "heic": heic,
    "mixed": mixed,
    "large": large,
    "moving": moving,
    "masked": masked,
}


def run(photos: Path, capture: Path) -> dict[str, float]:
    """Prepare photos; return CPU seconds and the largest resident size in MB.

    Raises:
        RuntimeError: If it fails.
    """
    words = [sys.executable, "-m", "smerf", "prepare", str(photos), "-o", str(capture)]
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 4):
        raise RuntimeError(f"smerf prepare {photos}: exit {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"exit": process.returncode, "memory_mb": usage.ru_maxrss * unit / 2**20}


def measure_kind(kind: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Photograph the tabletop in one kind, prepare it and compare its poses."""
    data = folder / "tabletop"
    if not (data / "transforms.json").is_file():
        write_tabletop(folder)
    frames = json.loads((data / "transforms.json").read_text())["frames"]
    frames = frames[:: max(1, len(frames) // options.views)]
    photos = folder / f"{kind}_photos"
    shutil.rmtree(photos, ignore_errors=True)
    photos.mkdir()
    KINDS[kind]([Image.open(data / frame["file_path"]).convert("RGB") for frame in frames], photos)
    capture = folder / f"{kind}_capture"
    shutil.rmtree(capture, ignore_errors=True)
    values: dict[str, Any] = dict(run(photos, capture))
    record = json.loads((capture / "prepare" / "prepare.json").read_text())
    values["cameras"] = len({(frame["camera"], tuple(frame["size"])) for frame in record["frames"]})
    if values["exit"]:
        return values | {"findings": [finding["kind"] for finding in record["verdict"]["findings"]]}
    known = {f"IMG_{i:03d}": np.array(frame["transform_matrix"])[:3] for i, frame in enumerate(frames)}
    return values | figures(record) | against_poses(capture, known)


def measure_many(photos: Path, folder: Path) -> dict[str, Any]:
    """Prepare a folder of which no poses are known."""
    capture = folder / "many_capture"
    shutil.rmtree(capture, ignore_errors=True)
    values: dict[str, Any] = dict(run(photos, capture))
    record = json.loads((capture / "prepare" / "prepare.json").read_text())
    given = record["inputs"][0]
    values |= {"given": given["count"], "duplicates": given["duplicates"]}
    return values | (figures(record) if "model" in record else {})


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=[*KINDS, "many"])
    parser.add_argument("--views", type=int, default=25)
    parser.add_argument("--many", type=Path, metavar="PHOTOS")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where photos and captures stay")


def measure(options: argparse.Namespace, report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="smerf_kinds_") as temporary:
        folder = options.keep or Path(temporary)
        for kind in [*options.kinds, *(["many"] if options.many and "many" not in options.kinds else [])]:
            values = (
                measure_many(options.many, folder) if kind == "many" else measure_kind(kind, folder, options)
            )
            report.add(f"photo_kinds/{kind}", **values)
            shown = (
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                for k, v in values.items()
                if k != "registered"
            )
            print(f"{kind:8} {', '.join(shown)}", flush=True)


BENCHMARK = Benchmark(__doc__, measure, options, short=["--kinds", "masked"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
