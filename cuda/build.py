"""Compile the kernels of ``cuda/gpu`` with nvcc into one library; used by setup.py and by benchmarks/gpu_suite.

``SMERF_CUDA=0`` skips the build, ``SMERF_CUDA=1`` asks for it where there is no GPU, ``SMERF_CUDA_ARCH`` (such as
``90`` or ``86;89``) limits it to some GPUs,
``CUDA_HOME`` names another toolkit than /usr/local/cuda.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["ARCHITECTURES", "build", "compile_one", "find_nvcc", "is_wanted", "sources", "targets"]

FOLDER = Path(__file__).resolve().parent
ARCHITECTURES = ("80", "86", "89", "90")
"""Compute capabilities that get machine code; the last one also as PTX, for newer GPUs."""


def sources() -> list[Path]:
    """Return the files to compile."""
    return sorted((FOLDER / "gpu").glob("*.cu"))


def find_nvcc(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the compiler of the toolkit, or None if there is none or the build is switched off."""
    if environment.get("SMERF_CUDA") == "0":
        return None
    for root in (environment.get("CUDA_HOME"), "/usr/local/cuda"):
        if root and (Path(root) / "bin" / "nvcc").is_file():
            return Path(root) / "bin" / "nvcc"
    found = shutil.which("nvcc", path=environment.get("PATH"))
    return Path(found) if found else None


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether an install compiles these kernels: where there is a driver, or where it is asked to."""
    asked = environment.get("SMERF_CUDA", "")
    return asked == "1" or (asked != "0" and (Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()))


def targets(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return nvcc's options that name the GPUs.

    Raises:
        ValueError: If ``SMERF_CUDA_ARCH`` is not a list of numbers.
    """
    wish = environment.get("SMERF_CUDA_ARCH", "")
    chosen = wish.replace(",", ";").replace(".", "").split(";") if wish else list(ARCHITECTURES)
    if not all(one.strip().isdigit() for one in chosen):
        raise ValueError(f"SMERF_CUDA_ARCH={wish}: use compute capabilities such as 90 or 86;89")
    chosen = sorted((one.strip() for one in chosen), key=int)
    codes = [f"-gencode=arch=compute_{one},code=sm_{one}" for one in chosen]
    return [*codes, f"-gencode=arch=compute_{chosen[-1]},code=compute_{chosen[-1]}"]


def compile_one(nvcc: Path, source: Path, target: Path, codes: Sequence[str], *extra: str) -> str:
    """Compile one file to an object and return what the compiler said.

    Raises:
        subprocess.CalledProcessError: If it fails; ``output`` holds the messages.
    """
    command = [
        str(nvcc), "-std=c++17", "-O3", "--use_fast_math", "-Xcompiler", "-fPIC,-fvisibility=hidden",
        *codes, f"-I{FOLDER / 'include'}", *extra, "-c", str(source), "-o", str(target),
    ]  # fmt: skip
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


def build(
    target: Path,
    work: Path,
    *extra: str,
    nvcc: Path | None = None,
    codes: Sequence[str] | None = None,
    report: Callable[[str, str], None] | None = None,
) -> bool:
    """Compile everything, one file a processor at a time, and link ``target``.

    Args:
        target: The shared library.
        work: Folder for objects.
        extra: More options for nvcc.
        nvcc: The compiler, if not the one that ``find_nvcc`` finds.
        codes: The GPUs, if not those of ``targets``.
        report: Called with each file's name and what the compiler said.

    Returns:
        False if there is no compiler.

    Raises:
        subprocess.CalledProcessError: If a file does not compile.
    """
    nvcc = nvcc or find_nvcc()
    if nvcc is None:
        return False
    codes = targets() if codes is None else codes
    work.mkdir(parents=True, exist_ok=True)
    objects = {source: work / f"{source.stem}.o" for source in sources()}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = {
            source: pool.submit(compile_one, nvcc, source, made, codes, *extra)
            for source, made in objects.items()
        }
        for source, job in jobs.items():
            said = job.result()
            if report:
                report(source.stem, said)
    link = [
        str(nvcc),
        "-shared",
        "-cudart",
        "static",
        *codes[:1],
        *map(str, objects.values()),
        "-o",
        str(target),
    ]
    subprocess.run(link, check=True)
    return True
