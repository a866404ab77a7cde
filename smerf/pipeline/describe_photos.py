"""What photos, videos and their preparation hold, and what the files of a run belong to, as facts for ``describe``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from smerf.capture.pixels import open_image, read_header
from smerf.capture.readers.image_files import list_images
from smerf.engine.files import read_json
from smerf.engine.folder import RunFolder
from smerf.pipeline.summary import folder_bytes

__all__ = [
    "describe_masks",
    "describe_part",
    "describe_photo",
    "describe_photos",
    "describe_preparation",
    "describe_video",
    "preparation_of",
]

_FEW = 20
_PARTS = {
    "report.html": "report of a run: open it in a browser",
    "metrics.json": "measured quality of a run",
    "config.yaml": "settings of a run",
    "capture.json": "record of the photos of a run",
    "plan.json": "plan of the granted time of a run",
    "environment.json": "machine and versions of a run",
    "progress.jsonl": "progress of a run, one event a line",
    "log.txt": "log of a run",
}
_SCENE_PARTS = {
    "manifest.json": "list of the files of a baked scene",
    "scene_params.json": "parameters of a submodel of a baked scene",
}


def describe_photos(path: Path) -> dict[str, Any]:
    """Return facts about a folder of photos or videos without poses.

    Raises:
        UsageError: If it holds neither.
        InvalidDataError: If a photo is damaged.
    """
    from smerf.prepare.gather import masks_beside
    from smerf.prepare.intake import VIDEO_SUFFIXES, find_inputs, read_tags

    inputs = find_inputs([path])
    files = [file for group in inputs for file in group]
    if files[0].suffix.lower() in VIDEO_SUFFIXES:
        facts = {"what": "videos without poses", "path": str(path), "videos": len(files)}
        return facts | {"bytes": sum(file.stat().st_size for file in files), "next": f"smerf run {path}"}
    headers = [read_header(file) for file in files]
    tags = []
    for file in files:
        with open_image(file) as image:
            tags.append(read_tags(image))
    sizes = Counter("x".join(map(str, header.upright)) for header in headers)
    masks = masks_beside([path])
    return {
        "what": "photos without poses",
        "path": str(path),
        "photos": len(files),
        "sizes": [size for size, _ in sizes.most_common()],
        "cameras": sorted({one.camera for one in tags if one.camera}),
        "to be rotated": sum(header.orientation > 1 for header in headers),
        "with exposure": sum(one.exposure is not None for one in tags),
        "with position": sum(one.gps is not None for one in tags),
        "masks": len(list_images(masks)) if masks else 0,
        "bytes": sum(file.stat().st_size for file in files),
        "next": f"smerf run {path}"
        if len(files) >= _FEW
        else f"take more photos (30 to 100), then smerf run {path}",
    }


def describe_photo(path: Path) -> dict[str, Any]:
    """Return facts about a single photo."""
    header = read_header(path)
    return {
        "what": "photo",
        "path": str(path),
        "size": "x".join(map(str, header.upright)),
        "orientation": header.orientation,
        "exposure": header.exposure,
        "bytes": path.stat().st_size,
        "next": f"smerf run {path.parent}, with 30 to 100 photos of the place in the folder",
    }


def describe_video(path: Path) -> dict[str, Any]:
    """Return facts about a video."""
    from smerf.prepare.video import probe

    video = probe(path)
    return {
        "what": "video",
        "path": str(path),
        "size": f"{video.width}x{video.height}",
        "frames a second": video.rate,
        "seconds": video.seconds,
        "high dynamic range": video.hdr,
        "bytes": path.stat().st_size,
        "next": f"smerf run {path}",
    }


def preparation_of(path: Path) -> Path | None:
    """Return the folder ``prepare`` that a path is, holds, or lies in."""
    for folder in (path, path / "prepare", *path.parents[:3]):
        if folder.name == "prepare" and (folder / "key").is_file():
            return folder
    return None


def describe_preparation(folder: Path) -> dict[str, Any]:
    """Return facts about a preparation that failed, was stopped, or belongs to a capture."""
    capture, record = folder.parent, folder / "prepare.json"
    facts: dict[str, Any] = {"what": "preparation of photos", "path": str(folder)}
    if not record.is_file():
        facts |= {"state": "begun", "bytes": folder_bytes(folder)}
        return facts | {"next": "the smerf prepare or smerf run command that began it continues it"}
    content = read_json(record)
    verdict = content["verdict"]
    facts |= {
        "verdict": verdict["state"],
        "photos posed": f"{verdict['registered']} of {verdict['total']}",
        "findings": [finding["cause"] for finding in verdict["findings"]],
        "report": str(folder / "report.html"),
        "seconds": content["seconds"],
    }
    is_complete = (capture / "transforms.json").is_file()
    advice = " ".join(finding["advice"] for finding in verdict["findings"])
    return facts | {"next": f"smerf run {capture}" if is_complete else advice}


def describe_masks(folder: Path) -> dict[str, Any]:
    """Return facts about a folder of masks."""
    return {
        "what": "masks (black is ignored)",
        "path": str(folder),
        "masks": len(list_images(folder)),
        "bytes": folder_bytes(folder),
        "next": f"smerf run {folder.parent} uses them",
    }


def describe_part(path: Path) -> dict[str, Any] | None:
    """Return what a file of a run, a baked scene or a benchmark belongs to; None for anything else."""
    facts = {"path": str(path), "bytes": path.stat().st_size}
    for name, parts in ((path.name, _PARTS), (path.name, _SCENE_PARTS)):
        owner = path.parent
        is_ours = RunFolder(owner).exists() if parts is _PARTS else True
        if name in parts and is_ours:
            return {"what": parts[name], **facts, "next": f"smerf info {owner}"}
    if path.suffix == ".json":
        content = read_json(path)
        if isinstance(content, dict) and {"script", "records", "commit"} <= content.keys():
            keys = {key: content[key] for key in ("command", "commit", "seconds")}
            return {"what": "results of a benchmark", **facts, **keys, "records": len(content["records"])}
    return None
