"""``smerf info``: what a run, a capture, a baked scene, or a file of object scenes holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from smerf.cli.options import Common, Json, Positional

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Say what a run, a capture, a baked scene, a set of object scenes, or a file of slots holds.

    Examples:
      smerf info runs/tabletop
      smerf info captures/tabletop --json
    """

    path: Positional[Annotated[Path, tyro.conf.arg(metavar="PATH")]]
    """Run folder, capture, baked scene, set of object scenes, file of slots or of an object model."""
    json: Json = False
    """Print JSON."""


def run(options: Options) -> int:
    """Describe the path on stdout."""
    facts = describe(options.path)
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        print("\n".join(_lines(facts)))
    return 0


def describe(path: Path) -> dict[str, Any]:
    """Return the facts about a path as JSON values, ``what`` it is first.

    Raises:
        UsageError: If nothing is there.
        InvalidDataError: If it is none of these things, or damaged.
    """
    from smerf.engine.folder import RunFolder
    from smerf.errors import UsageError

    if not path.exists():
        raise UsageError(f"{path}: does not exist")
    run_folder = RunFolder(path)
    if run_folder.exists():
        is_objects = run_folder.folder("objects").is_dir()
        return _describe_objects(run_folder) if is_objects else _describe_run(run_folder)
    if path.is_dir() and ((path / "manifest.json").is_file() or any(path.glob("sm_*/scene_params.json"))):
        return _describe_scene(path)
    if (path / "set.json").is_file():
        return _describe_object_scenes(path)
    if path.suffix == ".safetensors":
        return _describe_tensors(path)
    return _describe_capture(path)


def _describe_run(run_folder: Any) -> dict[str, Any]:
    from smerf.engine.checkpoint import latest_step
    from smerf.engine.files import read_json
    from smerf.engine.folder import STAGES
    from smerf.engine.settings import to_dict
    from smerf.pipeline.config import load_config

    stages: dict[str, Any] = {}
    for name in STAGES:
        record = run_folder.stage(name)
        if record is not None:
            stages[name] = {
                "state": "done",
                "seconds": record.seconds,
                "peak_memory_mb": record.peak_memory_mb,
            }
        elif (step := latest_step(run_folder.folder(name))) is not None:
            stages[name] = {"state": "begun", "step": step}
        else:
            stages[name] = {"state": "not done"}
    facts: dict[str, Any] = {"what": "run", "path": str(run_folder.path)}
    if run_folder.capture.is_file():
        capture = read_json(run_folder.capture)
        facts["capture"] = {key: capture[key] for key in ("path", "kind", "frames") if key in capture}
    facts["stages"] = stages
    if run_folder.metrics.is_file():
        measured = read_json(run_folder.metrics).get("stages", {})
        facts["results"] = {name: summary.get("results", {}) for name, summary in measured.items()}
    facts["config"] = to_dict(load_config(run_folder.config))
    return facts


def _describe_objects(run_folder: Any) -> dict[str, Any]:
    from smerf.engine.checkpoint import latest_step
    from smerf.engine.files import read_json

    folder = run_folder.folder("objects")
    facts: dict[str, Any] = {"what": "object model", "path": str(run_folder.path)}
    if not (folder / "record.json").is_file():
        return facts | {"state": "begun", "step": latest_step(folder) or 0}
    record = read_json(folder / "record.json")
    keys = ("finished", "steps", "seed", "restarts", "seconds", "data", "scores", "machine", "config")
    return facts | {"state": "done"} | {key: record[key] for key in keys if key in record}


def _describe_object_scenes(path: Path) -> dict[str, Any]:
    from smerf.engine.files import read_json
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
    }


def _describe_tensors(path: Path) -> dict[str, Any]:
    from smerf.engine.settings import to_dict
    from smerf.engine.tensors import read_format
    from smerf.objects.editing.slots import load_slots
    from smerf.objects.model.store import load_model

    if read_format(path).startswith("smerf-slots"):
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
        }
    model, record = load_model(path)
    facts = {"what": "object model", "path": str(path), "parameters": model.count_parameters()["total"]}
    keys = ("finished", "steps", "seed", "seconds", "data", "scores", "machine")
    return facts | {key: record[key] for key in keys if key in record} | {"config": to_dict(model.config)}


def _describe_scene(path: Path) -> dict[str, Any]:
    from smerf.engine.files import read_json

    files = [file for file in path.rglob("*") if file.is_file()]
    facts: dict[str, Any] = {
        "what": "baked scene",
        "path": str(path),
        "submodels": sum(1 for _ in path.glob("sm_*/scene_params.json")),
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
    }
    if (path / "manifest.json").is_file():
        manifest = read_json(path / "manifest.json")
        keys = ("format", "version", "generator", "units", "up_axis", "required_features", "start")
        facts["manifest"] = {key: manifest[key] for key in keys if key in manifest}
    return facts


def _describe_capture(path: Path) -> dict[str, Any]:
    from smerf.capture import fingerprint, load_capture

    capture = load_capture(path)
    sizes = {(f.camera.intrinsics.width, f.camera.intrinsics.height) for f in capture.frames}
    return {
        "what": "capture",
        "path": str(path),
        "kind": capture.kind,
        "frames": {name: len(capture.split(name)) for name in ("train", "test")},
        "sizes": sorted(f"{width}x{height}" for width, height in sizes),
        "lenses": sorted({frame.camera.intrinsics.model for frame in capture.frames}),
        "masks": sum(frame.mask_path is not None for frame in capture.frames),
        "depths": sum(frame.depth_path is not None for frame in capture.frames),
        "points": len(capture.points),
        "near": float(capture.near),
        "far": float(capture.far) if capture.far < float("inf") else None,
        "background": capture.background,
        "scale": float(capture.training_from_source.scale),
        "fingerprint": fingerprint(capture),
    }


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    from smerf.engine.progress import format_seconds
    from smerf.pipeline.summary import format_bytes

    lines = []
    width = max((len(key) for key, value in facts.items() if not isinstance(value, dict)), default=0)
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
            continue
        if key == "bytes":
            text = format_bytes(value)
        elif key == "seconds":
            text = format_seconds(value)
        elif isinstance(value, list):
            text = ", ".join(map(str, value)) or "none"
        else:
            text = "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        lines.append(f"{indent}{key:<{width}}  {text}")
    return lines
