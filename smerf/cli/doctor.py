"""``smerf doctor``: what this machine can do, and the mend for what it cannot."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from smerf.cli.options import Common, Json

__all__ = ["Check", "Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Say what this machine can do, and how to mend what it cannot. Fails only if something essential is
    missing.

    Example:
      smerf doctor
    """

    json: Json = False
    """Print JSON."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked for. ``state`` is ``ok``, ``missing`` (essential) or ``absent``
    (optional).
    """

    name: str
    state: str
    found: str
    mend: str = ""


def run(options: Options) -> int:
    """Look at everything and print it; 3 if something essential is missing."""
    checks = [check for look in _LOOKS for check in _guard(look)]
    if options.json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.state:<8} {check.name:<{width}}  {check.found}")
            if check.mend and check.state != "ok":
                print(f"{'':<8} {'':<{width}}  -> {check.mend}")
    return 3 if any(check.state == "missing" for check in checks) else 0


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
        "playwright": "the page in smerf verify, browser tests",
    }
    checks = [_package(name, "missing", "") for name in essential]
    return checks + [_package(name, "absent", purpose) for name, purpose in optional.items()]


def _package(name: str, otherwise: str, purpose: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        found = f"not installed{f' ({purpose})' if purpose else ''}"
        return Check(name, otherwise, found, f"pip install -c constraints.txt {name}")


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
        mend = "install a CUDA build of torch to train on a GPU: https://pytorch.org/get-started/locally"
        checks.append(Check("CUDA device", "absent", "this torch is built without CUDA", mend))
    else:
        mend = "check nvidia-smi and CUDA_VISIBLE_DEVICES"
        checks.append(
            Check("CUDA device", "absent", f"torch has CUDA {torch.version.cuda}, no GPU is visible", mend)
        )
    return checks


def _look_at_kernels() -> list[Check]:
    from smerf.kernels.native import kernel_table, status

    checks = []
    for library in status():
        name = library.get("name", "kernels")
        state = library.get("state") or library.get("kind") or ""
        is_built = state not in ("absent", "missing")
        mend = (
            "install nvcc, then pip install -e ." if "cuda" in name else "install g++, then pip install -e ."
        )
        found = f"{state}: {library.get('reason', '')}".rstrip(": ")
        checks.append(Check(name, "ok" if is_built else "absent", found, "" if is_built else mend))
    gpu = any(library["name"] == "cuda" and library["state"] == "used" for library in status())
    for kernel, users in kernel_table().items():
        used = f"{users['cpu']} on CPUs, {users['cuda']} on GPUs{'' if gpu else ' (none here)'}"
        checks.append(Check(f"kernel {kernel}", "ok", used))
    return checks


def _look_at_compilers() -> list[Check]:
    checks = []
    for name, mend in (
        ("g++", "apt-get install g++"),
        ("nvcc", "install the CUDA toolkit, to build the GPU kernels"),
    ):
        path = shutil.which(name)
        checks.append(
            Check(name, "ok" if path else "absent", _version_line(path) if path else "not found", mend)
        )
    return checks


def _version_line(path: str) -> str:
    output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20).stdout
    lines = [line for line in output.splitlines() if "release" in line] or output.splitlines()
    return f"{lines[0].strip() if lines else 'no version'} ({path})"


def _look_at_graphics() -> list[Check]:
    checks = []
    for library, package in (("GL", "libgl1 libgl1-mesa-dri"), ("EGL", "libegl1"), ("OSMesa", "libosmesa6")):
        found = ctypes.util.find_library(library)
        checks.append(
            Check(
                f"lib{library}",
                "ok" if found else "absent",
                found or "not found",
                f"apt-get install {package}",
            )
        )
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux"):
        xvfb = shutil.which("Xvfb")
        checks.append(Check("Xvfb", "ok" if xvfb else "absent", xvfb or "not found", "apt-get install xvfb"))
        mend = "run on a desktop, or under xvfb-run"
        checks.append(Check("display", "ok" if display else "absent", display or "none", mend))
    return checks


def _look_at_browser() -> list[Check]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    mend = "apt-get install chromium, for the browser tests"
    return [Check("Chromium", "ok" if path else "absent", path or "not found", mend)]


_LOOKS = (
    _look_at_python,
    _look_at_torch,
    _look_at_packages,
    _look_at_kernels,
    _look_at_compilers,
    _look_at_graphics,
    _look_at_browser,
)
