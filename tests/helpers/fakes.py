"""Stages that do almost nothing, to test the frame they run in.

Also a program: ``python -m tests.helpers.fakes run DATA ...``.
"""

import hashlib
import json
import sys
import time
import types
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import smerf.capture.masks  # imported by the stages, which find it in sys.modules
import smerf.capture.types
from smerf.capture.types import Camera, Capture, Frame, Intrinsics, Similarity
from smerf.engine.files import read_json, write_json
from smerf.engine.signals import stop_requested
from smerf.errors import InvalidDataError, SmerfError, UsageError
from smerf.export.serve import SceneServer
from smerf.scene.manifest import Manifest

WIDTH, HEIGHT = 24, 16


@dataclass(frozen=True)
class TeacherConfig:
    steps: int = 6
    lr: float = 0.01
    pause: float = 0.0
    seed: int = 0
    fails: bool = False
    gives_nan: bool = False


@dataclass(frozen=True)
class Grid:
    sizes: tuple[int, ...] = (16, 32)
    mode: str | None = None


@dataclass(frozen=True)
class StudentConfig:
    steps: int = 4
    pause: float = 0.0
    grid: Grid = Grid()
    width: int = 8
    automatic: bool = False


@dataclass(frozen=True)
class BakeConfig:
    resolution: int = 64
    max_mb: float | None = None
    pause: float = 0.0
    dilation: int = 1
    coarse_bytes: int = 0
    region: bool = True


def note(folder: Path, text: str) -> None:
    """Write what was called, beside the stages."""
    place = folder.absolute().parent
    with open((place.parent if place.name == "unfinished" else place) / "calls.txt", "a") as file:
        file.write(text + "\n")


def make_data(folder: Path, views: int = 4) -> Path:
    """Write what the fake capture reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(views):
        (folder / f"view{index}.txt").write_text(str(40 * index))
    return folder


def load_capture(path, *, max_side=None):
    files = sorted(Path(path).glob("view*.txt"))
    if not files:
        raise InvalidDataError(f"{path}: holds no photos\nof any kind")
    lens = Intrinsics("PINHOLE", WIDTH, HEIGHT, 20.0, 20.0, WIDTH / 2, HEIGHT / 2)
    frames = tuple(
        Frame(file.name, file, Camera(lens, np.eye(4)[:3]), "test" if index % 4 == 0 else "train")
        for index, file in enumerate(files)
    )
    return Capture(Path(path), "fake", frames, Similarity(), 0.1, np.inf, False, None, np.zeros((0, 3)))


def fingerprint(capture):
    return hashlib.sha256(b"".join(frame.image_path.read_bytes() for frame in capture.frames)).hexdigest()


def load_image(frame):
    return np.full((HEIGHT, WIDTH, 3), int(frame.image_path.read_text()), np.uint8)


class Model:
    def __init__(self, value):
        self.value = value

    def render_image(self, camera):
        return np.full((camera.intrinsics.height, camera.intrinsics.width, 3), self.value, np.float32)

    render = render_image


def train_loop(folder, steps, pause, progress, preview=None):
    """Count to ``steps``, saving each, and return whether it got there."""
    saved = folder / "state.json"
    state = read_json(saved) if saved.exists() else {"step": 0, "sum": 0}
    step = state["step"]
    note(folder, f"{folder.name} from {step}")
    while step < steps:
        step += 1
        time.sleep(pause)
        state = {"step": step, "sum": state["sum"] + step}
        write_json(saved, state)
        progress.update(step, steps, loss=1 / step)
        if preview:
            preview()
        if stop_requested():
            return False
    (folder / "model.json").write_text(json.dumps({"sum": state["sum"]}))
    return True


def train_teacher(capture, config, *, folder, progress, device, preview=None):
    if config.fails:
        raise SmerfError("teacher: the loss is not a number at step 3; lower teacher.lr")
    train_loop(folder, config.steps, config.pause, progress, preview and (lambda: preview(Model(0.1))))
    (folder / "value.json").write_text("NaN" if config.gives_nan else "0.1")


def resolve_teacher(config, capture, device, world_size):
    return config


def resolve_student(config, teacher, capture, device):
    """Choose twice the sizes, as for a lone object."""
    return replace(config, width=2 * config.width) if config.automatic else config


def load_teacher(folder):
    return Model(json.loads((folder / "value.json").read_text()))


def distill(teacher, capture, config, *, folder, progress, device, preview=None):
    train_loop(
        folder, config.steps, config.pause, progress, preview and (lambda: preview(lambda: Model(0.2)))
    )


def load_student(folder):
    assert (folder / "model.json").is_file()
    return Model(0.2)


def bake(student, capture, config, *, folder, progress=None, extra=None):
    assert not folder.exists(), "a baked scene is written as a whole"
    note(folder, "baked")
    if config.max_mb is not None and config.max_mb < 0.01:
        raise UsageError("--max-mb: the scene can't be made smaller than 0.01 MB")
    for index in range(3):
        time.sleep(config.pause)
        if progress:
            progress.update(index + 1, 3)
    (folder / "sm_000").mkdir(parents=True)
    (folder / "sm_000" / "scene_params.json").write_text("{}")
    manifest = {"format": "smerf-baked", "version": 1}
    if config.max_mb:
        cost = {"max_mb": config.max_mb, "full_mb": 9.0, "mb": 4.5, "blocks_kept": 0.5}
        cost |= {"full_psnr": 30.0, "psnr": 29.5, "views": ["a", "b"]}
        manifest["extra"] = {"size_budget": cost}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def load_scene(path):
    assert (path / "manifest.json").is_file()
    scene = Model(0.3)
    scene.manifest = Manifest()
    return scene


def export_site(scene_dir, site_dir, *, single_file=False, title=None, capture=None, page=None):
    if single_file:
        site_dir.write_text("<!doctype html>")
        return site_dir
    assert not site_dir.exists() or not any(site_dir.iterdir())
    note(site_dir, "site")
    site_dir.mkdir(parents=True, exist_ok=True)
    photos = f" {len(capture.frames)} photos" if capture else ""
    (site_dir / "index.html").write_text(f"<!doctype html>{photos}")
    return site_dir / "index.html"


def render_capture(scene, output, *, views=None, width=400, height=300, seed=0, progress=None):
    make_data(output, views or 4)
    if progress:
        progress(4, 4)


def image_metrics(pred, truth, mask=None, *, colour_corrected=False):
    assert pred.shape == truth.shape
    return {"psnr": float(-10 * np.log10(np.mean((pred - truth) ** 2) + 1e-6)), "ssim": 0.5}


def hash_images(images):
    digest = hashlib.sha256()
    for image in images:
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def summarise(per_image, protocol, *, predictions_sha=None, ground_truth_sha=None):
    assert predictions_sha and ground_truth_sha and per_image
    means = {k: float(np.mean([m[k] for m in per_image.values()])) for k in ("psnr", "ssim")}
    return {"results": means, "per_image": per_image, "protocol": protocol}


class Start:
    @classmethod
    def now(cls):
        return cls()


def serve(directory, host, port, open_browser, allow_origin=None):
    print(f"serving {directory} {host} {port} {open_browser}")


def modules() -> dict[str, types.ModuleType]:
    """Return the fake modules by the name they stand in for."""

    def module(name, **contents):
        made = types.ModuleType(name)
        made.__dict__.update(contents)
        return made

    def presets(config, **standard):
        return {"preview": config(), "standard": config(**standard), "paper": config(**standard)}

    contents = {
        "smerf.capture": {
            "load_capture": load_capture,
            "load_image": load_image,
            "load_composited": lambda frame, background: (load_image(frame) / 255.0).astype(np.float32),
            "load_mask": lambda frame: None,
            "fingerprint": fingerprint,
            "types": smerf.capture.types,
        },
        "smerf.capture.synth": {"render_capture": render_capture},
        "smerf.teacher": {"train_teacher": train_teacher, "load_teacher": load_teacher},
        "smerf.teacher.config": {"TeacherConfig": TeacherConfig, "PRESETS": presets(TeacherConfig, steps=9)},
        "smerf.teacher.asset": {"is_asset": lambda path: False},
        "smerf.teacher.plan": {"resolve_config": resolve_teacher},
        "smerf.student.plan": {"resolve_config": resolve_student},
        "smerf.student": {"distill": distill, "load_student": load_student},
        "smerf.student.config": {"StudentConfig": StudentConfig, "PRESETS": presets(StudentConfig, steps=8)},
        "smerf.baking": {"bake": bake},
        "smerf.baking.config": {"BakeConfig": BakeConfig, "PRESETS": presets(BakeConfig, resolution=512)},
        "smerf.pipeline.footprint": {"require_grids": lambda config, device: None},
        # Measuring the machine takes real stages; here everything is a fixed number of steps.
        "smerf.pipeline.grant": {
            "Start": Start,
            "choose_minutes": lambda minutes, *rest, **named: minutes,
            "choose_stage_minutes": lambda minutes, *rest: minutes,
            "grant_distillation": None,
            "granted_seconds": lambda config, **_: None,
            "plan_run": None,
            "plan_training": None,
            "require_alone": lambda minutes, world_size: None,
            "say": None,
        },
        "smerf.scene": {"load_scene": load_scene},
        "smerf.export.site": {"export_site": export_site},
        "smerf.export.page": {"Page": lambda *given, **named: None},
        "smerf.export.poster": {"render_poster": lambda scene, device="cpu": {}},
        "smerf.export.serve": {"serve": serve, "SceneServer": SceneServer},
        "smerf.evaluation.metrics": {"image_metrics": image_metrics, "METRIC_PROTOCOL": {"quantized": True}},
        "smerf.evaluation.summary": {"summarise": summarise, "hash_images": hash_images},
        "smerf.pipeline.diagnose": {"diagnose_run": lambda job, measured, render: {}},
        "smerf.render.march": {"renderer": lambda scene, device: scene.render},
    }
    return {name: module(name, **content) for name, content in contents.items()}


def install() -> dict[str, types.ModuleType]:
    """Put the fakes in the place of the stages; return the modules that they and whoever imported them replaced."""
    made = modules()
    replaced = {name: sys.modules[name] for name in list(sys.modules) if name in made or _uses_stages(name)}
    for name in replaced:
        del sys.modules[name]
    _put(made)
    return replaced


def uninstall(replaced: dict[str, types.ModuleType]) -> None:
    """Undo ``install``."""
    for name in [name for name in sys.modules if name in modules() or _uses_stages(name)]:
        del sys.modules[name]
    _put(replaced)


def _put(modules: dict[str, types.ModuleType]) -> None:
    """Make these the modules of their names, also as attributes of their packages."""
    sys.modules.update(modules)
    for name, module in modules.items():
        package, _, attribute = name.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], attribute, module)


def _uses_stages(name: str) -> bool:
    return name.startswith(("smerf.pipeline", "smerf.cli"))


if __name__ == "__main__":
    install()
    from smerf.cli.main import main

    sys.exit(main())
