"""What this machine can do: every part that smerf uses, whether it is here, and how to fix what is missing."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Check", "Verdict", "check_machine", "check_run", "judge"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked for."""

    name: str
    state: str
    """``ok``, ``missing`` (essential) or ``absent`` (optional)."""
    found: str
    fix: str = ""
    is_detail: bool = False
    """Whether it matters to few: not shown unless asked for."""


@dataclass(frozen=True)
class Verdict:
    """What the checks come to."""

    is_ready: bool
    text: str


def check_machine() -> list[Check]:
    """Look at everything."""
    return [check for look in _LOOKS for check in _guard(look)]


def judge(checks: list[Check]) -> Verdict:
    """Say whether smerf can work here and on what."""
    missing = [check.name for check in checks if check.state == "missing"]
    if missing:
        return Verdict(False, f"Not ready: {', '.join(missing)} missing")
    used = [check.name for check in checks if check.found == "used"]
    isa = next((name.removeprefix("cpu-").upper() for name in used if name.startswith("cpu-")), None)
    gpu = next((check for check in checks if check.name == "CUDA device" and check.state == "ok"), None)
    processor = f"CPU ({isa})" if isa else "CPU without native kernels, several times slower"
    device = f"{gpu.found} and {processor}" if gpu else processor
    lacks = [check.name for check in checks if check.state == "absent" and not check.is_detail]
    return Verdict(True, f"Ready: {device}" + (f"; without {', '.join(lacks)}" if lacks else ""))


def check_run(data: Path, minutes: float | None) -> Check:
    """Measure the machine on posed photos and say what ``smerf run`` would take; raises as ``run.plan`` does."""
    from smerf.pipeline.run import plan

    return Check(f"smerf run {data}", "ok", plan(data, minutes=minutes).sentence())


def _guard(look: Callable[[], list[Check]]) -> list[Check]:
    # A broken driver must not keep the other checks from being shown.
    try:
        return look()
    except Exception as error:
        return [Check(look.__name__.removeprefix("_look_at_"), "absent", f"{type(error).__name__}: {error}")]


def _look_at_python() -> list[Check]:
    version = platform.python_version()
    state = "ok" if sys.version_info >= (3, 11) else "missing"
    return [Check("python", state, f"{version} ({sys.executable})", "install Python 3.11 or newer")]


def _look_at_packages() -> list[Check]:
    essential = (
        "numpy", "imageio", "pillow", "scipy", "trimesh", "tyro", "rich", "safetensors", "PyYAML",
        "flip-evaluator", "PyOpenGL", "glfw",
    )  # fmt: skip
    optional = {
        "embreex": "rays against meshes: smerf synth",
        "pycolmap": "poses of photos: smerf prepare",
        "playwright": "the page in smerf verify, browser tests",
    }
    checks = [_package(name, "missing", "", is_detail=True) for name in essential]
    return checks + [
        _package(name, "absent", purpose, is_detail=name == "playwright")
        for name, purpose in optional.items()
    ]


def _package(name: str, otherwise: str, purpose: str, *, is_detail: bool) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name), is_detail=is_detail)
    except importlib.metadata.PackageNotFoundError:
        found = f"not installed{f' ({purpose})' if purpose else ''}"
        return Check(name, otherwise, found, f"pip install {name}", is_detail)


def _look_at_torch() -> list[Check]:
    try:
        import torch
    except ImportError as error:
        return [Check("torch", "missing", str(error), "pip install -c constraints.txt torch")]
    checks = [Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        checks.append(Check("CUDA device", "ok", f"{', '.join(names)} (CUDA {torch.version.cuda})"))
    elif torch.version.cuda is None:
        fix = "install a CUDA build of torch to train on a GPU: https://pytorch.org/get-started/locally"
        is_detail = not _has_nvidia_driver()
        checks.append(Check("CUDA device", "absent", "this torch is built without CUDA", fix, is_detail))
    else:
        fix = "check nvidia-smi and CUDA_VISIBLE_DEVICES"
        found = f"torch has CUDA {torch.version.cuda}, no GPU is visible"
        checks.append(Check("CUDA device", "absent", found, fix, not _has_nvidia_driver()))
    return checks


def _look_at_kernels() -> list[Check]:
    from smerf.kernels.native import kernel_table, status

    checks = []
    rows = status()
    has_cpu = any(row["name"].startswith("cpu") and row["state"] == "used" for row in rows)
    wants_gpu = _has_nvidia_driver()
    for row in rows:
        is_cuda = row["name"] == "cuda"
        state = "ok" if row["state"] != "absent" else "absent"
        found = f"{row['state']}: {row.get('reason', '')}".rstrip(": ")
        compiler = "nvcc (the CUDA toolkit)" if is_cuda else "g++"
        fix = f"install {compiler}, then install smerf again from its sources" if state == "absent" else ""
        is_needed = wants_gpu if is_cuda else not has_cpu
        checks.append(Check(row["name"], state, found, fix, state == "absent" and not is_needed))
    for kernel, users in kernel_table().items():
        used = f"{users['cpu']} on CPUs, {users['cuda']} on GPUs"
        checks.append(Check(f"kernel {kernel}", "ok", used, is_detail=True))
    return checks


def _has_nvidia_driver() -> bool:
    return shutil.which("nvidia-smi") is not None or os.path.exists("/proc/driver/nvidia/version")


def _look_at_compilers() -> list[Check]:
    checks = []
    for name, fix in (
        ("g++", "apt-get install g++, to build the CPU kernels"),
        ("nvcc", "install the CUDA toolkit, to build the GPU kernels"),
    ):
        path = shutil.which(name)
        found = _version_line(path) if path else "not found"
        # The libraries that a compiler makes are looked at above.
        checks.append(Check(name, "ok" if path else "absent", found, fix, is_detail=True))
    return checks


def _version_line(path: str) -> str:
    output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20).stdout
    lines = [line for line in output.splitlines() if "release" in line] or output.splitlines()
    return f"{lines[0].strip() if lines else 'no version'} ({path})"


def _look_at_graphics() -> list[Check]:
    packages = {"GL": "libgl1 libgl1-mesa-dri", "EGL": "libegl1", "OSMesa": "libosmesa6"}
    libraries = {name: ctypes.util.find_library(name) for name in packages}
    # Either of the last two renders without a display.
    has_offscreen = bool(libraries["EGL"] or libraries["OSMesa"])
    checks = []
    for name, found in libraries.items():
        state, fix = ("ok" if found else "absent"), f"apt-get install {packages[name]}"
        is_detail = name == "OSMesa" or (name == "EGL" and has_offscreen)
        checks.append(Check(f"lib{name}", state, found or "not found", fix, is_detail))
    if sys.platform.startswith("linux"):
        display, xvfb = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"), shutil.which("Xvfb")
        fix = "run on a desktop, or under xvfb-run; the page and smerf render need none"
        checks.append(Check("display", "ok" if display else "absent", display or "none", fix, True))
        fix = "apt-get install xvfb"
        checks.append(Check("Xvfb", "ok" if xvfb else "absent", xvfb or "not found", fix, True))
    return checks


def _look_at_browser() -> list[Check]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    fix = "apt-get install chromium, for smerf verify --viewers web"
    return [Check("Chromium", "ok" if path else "absent", path or "not found", fix, True)]


_LOOKS = (
    _look_at_python,
    _look_at_torch,
    _look_at_packages,
    _look_at_kernels,
    _look_at_compilers,
    _look_at_graphics,
    _look_at_browser,
)
