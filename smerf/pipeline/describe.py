"""What a path holds, as facts: a run, a capture, and every file and folder that smerf writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from smerf.capture.readers import has_poses
from smerf.capture.readers.image_files import IMAGE_SUFFIXES, list_images
from smerf.capture.readers.ply import read_ply_points
from smerf.engine.checkpoint import latest_step
from smerf.engine.files import read_json
from smerf.engine.folder import STAGES, RunFolder
from smerf.engine.settings import to_dict
from smerf.engine.tensors import read_format
from smerf.errors import InvalidDataError, UsageError
from smerf.pipeline.asset import describe_asset
from smerf.pipeline.config import load_config
from smerf.pipeline.describe_photos import (
    describe_masks,
    describe_part,
    describe_photo,
    describe_photos,
    describe_preparation,
    describe_video,
    preparation_of,
)
from smerf.pipeline.metrics import current_metrics
from smerf.pipeline.stages import COMMAND_OF
from smerf.pipeline.summary import folder_bytes

__all__ = ["describe"]

_PAGE_BYTES = 200_000
"""As much of a page as is read to recognise it; single files hold a scene."""
_RESULTS = ("psnr", "masked_psnr", "ssim", "lpips_vgg", "flip", "num_images")


def describe(path: Path) -> dict[str, Any]:
    """Return the facts about a path as JSON values: ``what`` it is first, what to do ``next`` last.

    Raises:
        UsageError: If nothing is there.
        InvalidDataError: If it is none of the things that we know, or damaged.
    """
    if not path.exists():
        raise UsageError(f"{path}: does not exist")
    run = RunFolder(path)
    if run.exists():
        is_objects = run.folder("objects").is_dir() or run.work("objects").is_dir()
        return _objects_run(run) if is_objects else _run(run)
    if path.is_file():
        return _file(path)
    if _is_page(path / "index.html"):
        return _site(path)
    if (path / "manifest.json").is_file() or any(path.glob("sm_*/scene_params.json")):
        return _scene(path)
    if (path / "teacher.safetensors").is_file():
        return _teacher(path)
    if (path / "student.json").is_file():
        return _student(path)
    if (path / "started.json").is_file():
        return _unfinished(path)
    if (path / "set.json").is_file():
        return _object_scenes(path)
    return _photos(path)


def _photos(path: Path) -> dict[str, Any]:
    """Describe a folder of photos, with or without poses, or what belongs to one."""
    from smerf.prepare import holds_photos

    preparation = preparation_of(path.absolute())
    if preparation is not None and not (path / "transforms.json").is_file():
        return describe_preparation(preparation)
    if has_poses(path):
        return _capture(path)
    if path.name.lower() in ("masks", "mask") and list_images(path):
        return describe_masks(path)
    if not any(path.iterdir()):
        raise InvalidDataError(f"{path}: is empty; put 30 to 100 photos of a place or a video of it there")
    return describe_photos(path) if holds_photos(path) else _capture(path)


def _file(path: Path) -> dict[str, Any]:
    from smerf.prepare.intake import VIDEO_SUFFIXES

    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return describe_video(path)
    if suffix in IMAGE_SUFFIXES:
        return describe_photo(path)
    if (preparation := preparation_of(path.absolute())) is not None:
        return describe_preparation(preparation)
    if (part := describe_part(path)) is not None:
        return part
    if path.suffix != ".safetensors" and has_poses(path):
        return _capture(path)
    if path.name == "sparse_pc.ply":
        points = read_ply_points(path)
        return {"what": "points of a capture", "path": str(path), "points": len(points),
                "next": f"smerf info {path.parent}"}  # fmt: skip
    if path.suffix == ".safetensors":
        return _tensors(path)
    if path.suffix == ".html" and _is_page(path):
        facts = {"what": "page", "path": str(path), "title": _title(path), "bytes": path.stat().st_size}
        return facts | {"next": f"open {path} in a browser, or send it"}
    from smerf.teacher.asset import is_asset

    if is_asset(path):
        return describe_asset(path)
    raise InvalidDataError(
        f"{path}: is neither a photo, a video, a capture, splats nor a file that smerf writes; give a folder of "
        "photos, a run, a page (.html), slots, a model or a teacher (.safetensors)"
    )


def _run(run: RunFolder) -> dict[str, Any]:
    facts: dict[str, Any] = {"what": "run", "path": str(run.path)}
    if run.capture.is_file():
        capture = read_json(run.capture)
        facts["capture"] = {key: capture[key] for key in ("path", "kind") if key in capture}
        facts["capture"]["photos"] = _photo_counts(capture.get("frames", {}))
    facts["stages"] = {name: _stage(run, name) for name in STAGES}
    facts |= _scene_objects(run.folder("baked"))
    measured = current_metrics(run)
    if measured:
        facts["results"] = {
            name: {key: value for key, value in summary.get("results", {}).items() if key in _RESULTS}
            for name, summary in measured.items()
        }
    facts["config"] = to_dict(load_config(run))
    missing = next((name for name in STAGES if run.stage(name) is None), None)
    facts["next"] = f"smerf {COMMAND_OF[missing]} {run.path}" if missing else f"smerf serve {run.path}"
    if missing == "teacher":
        facts["next"] = f"smerf train {facts.get('capture', {}).get('path', 'DATA')} -o {run.path}"
    if missing == "site":
        facts["next"] += " -o site"
    return facts


def _stage(run: RunFolder, name: str) -> dict[str, Any]:
    record, step = run.stage(name), latest_step(run.work(name))
    again = {"begun again": f"step {step}"} if step is not None else {}
    if record is None:
        return {"state": "not done"} if step is None else {"state": "begun", "step": step}
    facts = {"state": "done", "seconds": record.seconds, "peak_memory_mb": record.peak_memory_mb}
    return facts | {"bytes": folder_bytes(run.folder(name))} | again


def _objects_run(run: RunFolder) -> dict[str, Any]:
    folder = run.folder("objects")
    facts: dict[str, Any] = {"what": "object model", "path": str(run.path)}
    if not (folder / "record.json").is_file():
        step = latest_step(run.work("objects")) or 0
        return facts | {
            "state": "begun",
            "step": step,
            "next": "the smerf objects train command continues it",
        }
    record = read_json(folder / "record.json")
    keys = ("finished", "steps", "seed", "restarts", "seconds", "data", "scores", "machine", "config")
    facts |= {"state": "done"} | {key: record[key] for key in keys if key in record}
    return facts | {"next": f"smerf objects encode VIEWS --model {run.path} -o slots.safetensors"}


def _object_scenes(path: Path) -> dict[str, Any]:
    from smerf.objects.data.scenes import load_scenes

    scenes = load_scenes(path, limit=1)
    return {
        "what": "object scenes",
        "path": str(path),
        "scenes": read_json(path / "set.json").get("scenes"),
        "views": scenes.views,
        "size": f"{scenes.size[1]}x{scenes.size[0]}",
        "depth": scenes.depth is not None,
        "source": scenes.source,
        "next": f"smerf objects train {path}",
    }


def _tensors(path: Path) -> dict[str, Any]:
    kind = read_format(path)
    if kind.startswith("smerf-teacher"):
        return _teacher(path.parent)
    if kind.startswith("smerf-checkpoint"):
        step = latest_step(path.parent.parent)
        return {"what": "checkpoint", "path": str(path), "step": step, "bytes": path.stat().st_size}
    from smerf.objects.editing.slots import load_slots
    from smerf.objects.model.store import load_model

    if kind.startswith("smerf-slots"):
        saved = load_slots(path)
        return {
            "what": "slots",
            "path": str(path),
            "slots": len(saved.slots),
            "width": saved.slots.shape[1],
            "views": len(saved.cameras),
            "size": f"{saved.size[1]}x{saved.size[0]}",
            "model": f"{saved.where} ({saved.model})",
            "operations": list(saved.operations),
            "next": f"smerf view {path}",
        }
    model, record = load_model(path)
    facts = {"what": "object model", "path": str(path), "parameters": model.count_parameters()["total"]}
    keys = ("finished", "steps", "seed", "seconds", "data", "scores", "machine")
    facts |= {key: record[key] for key in keys if key in record} | {"config": to_dict(model.config)}
    return facts | {"next": f"smerf objects encode VIEWS --model {path} -o slots.safetensors"}


def _teacher(path: Path) -> dict[str, Any]:
    facts = {"what": "teacher", "path": str(path), "format": read_format(path / "teacher.safetensors")}
    return facts | _made(path) | {"next": f"smerf distill RUN --teacher {path}"}


def _student(path: Path) -> dict[str, Any]:
    record = read_json(path / "student.json")
    facts = {
        "what": "student",
        "path": str(path),
        "format": record.get("format"),
        "submodels": sum(1 for _ in path.glob("sm_*.safetensors")),
    }
    return (
        facts | _made(path) | {"config": record.get("config"), "next": f"smerf bake {path.absolute().parent}"}
    )


def _unfinished(path: Path) -> dict[str, Any]:
    run = path.absolute().parents[1]
    record = read_json(path / "started.json")
    return {
        "what": "unfinished stage",
        "path": str(path),
        "step": latest_step(path),
        "seconds": record.get("seconds", 0.0),
        "next": f"the command that began {run} continues it",
    }


def _made(path: Path) -> dict[str, Any]:
    """Return the facts of a stage's folder."""
    facts: dict[str, Any] = {"bytes": folder_bytes(path)}
    if (path / "done.json").is_file():
        done = read_json(path / "done.json")
        facts |= {key: done[key] for key in ("finished", "seconds", "peak_memory_mb") if key in done}
    return facts


def _scene(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "what": "baked scene",
        "path": str(path),
        "submodels": sum(1 for _ in path.glob("sm_*/scene_params.json")),
        "files": sum(1 for file in path.rglob("*") if file.is_file()),
        "bytes": folder_bytes(path),
    }
    if (path / "manifest.json").is_file():
        manifest = read_json(path / "manifest.json")
        keys = ("format", "version", "generator", "units", "up_axis", "required_features", "start")
        facts["manifest"] = {key: manifest[key] for key in keys if key in manifest}
        facts |= _scene_objects(path)
    return facts | {"next": f"smerf view {path}, or smerf export {path} -o site"}


def _scene_objects(scene: Path) -> dict[str, Any]:
    """Return the objects of a baked scene by id and name; nothing where it has none."""
    from smerf.scene.manifest import read_manifest

    found = read_manifest(scene).objects if (scene / "manifest.json").is_file() else ()
    return {"objects": [f"{each.name} ({each.id})" for each in found]} if found else {}


def _site(path: Path) -> dict[str, Any]:
    return {
        "what": "site",
        "path": str(path),
        "title": _title(path / "index.html"),
        "photos": sum(1 for file in path.glob("photos/**/*") if file.is_file()),
        "files": sum(1 for file in path.rglob("*") if file.is_file()),
        "bytes": folder_bytes(path),
        "next": f"smerf serve {path}, or put the folder on any web host",
    }


def _capture(path: Path) -> dict[str, Any]:
    from smerf.capture import fingerprint, load_capture

    capture = load_capture(path)
    sizes = {(f.camera.intrinsics.width, f.camera.intrinsics.height) for f in capture.frames}
    prepared = path / "prepare" / "prepare.json"
    return {
        "what": "capture",
        "path": str(path),
        "kind": capture.kind,
        "photos": _photo_counts({name: len(capture.split(name)) for name in ("train", "test")}),
        "sizes": sorted(f"{width}x{height}" for width, height in sizes),
        "camera models": sorted({frame.camera.intrinsics.model for frame in capture.frames}),
        "masks": sum(frame.mask_path is not None for frame in capture.frames),
        "depths": sum(frame.depth_path is not None for frame in capture.frames),
        "points": len(capture.points),
        "near": float(capture.near),
        "far": float(capture.far) if capture.far < float("inf") else None,
        "background": capture.background,
        "scale": float(capture.training_from_source.scale),
        "fingerprint": fingerprint(capture),
        **({"prepared": _prepared(prepared)} if prepared.is_file() else {}),
        "next": f"smerf run {path}",
    }


def _photo_counts(counts: dict[str, int]) -> dict[str, int]:
    return {"to learn from": counts.get("train", 0), "held out": counts.get("test", 0)}


def _prepared(path: Path) -> dict[str, Any]:
    record = read_json(path)
    verdict, model = record["verdict"], record["model"]
    return {
        "verdict": verdict["state"],
        "photos posed": f"{verdict['registered']} of {verdict['total']}",
        "reprojection error": model["error"],
        "up axis from": model["up_source"],
        "unit": "metres" if model["metric"] else "arbitrary",
        "report": str(path.with_name("report.html")),
    }


def _is_page(path: Path) -> bool:
    return path.is_file() and '<meta name="smerf-scene"' in _head(path)


def _title(page: Path) -> str:
    found = re.search(r"<title>(.*?)</title>", _head(page))
    return found[1] if found else ""


def _head(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(_PAGE_BYTES)
