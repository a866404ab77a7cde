"""How the build of the CUDA library finds its compiler and its targets. The compiler here is a script."""

import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cuda():
    return runpy.run_path(str(ROOT / "cuda" / "build.py"))


@pytest.fixture
def toolkit(tmp_path):
    """Return a toolkit whose nvcc notes its arguments and makes the file after -o."""
    nvcc = tmp_path / "toolkit" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(
        '#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\n'
        'while [ $# -gt 1 ]; do [ "$1" = -o ] && echo made > "$2"; shift; done\n'
    )
    nvcc.chmod(0o755)
    return nvcc


def test_the_named_toolkit_comes_first_and_the_build_can_be_switched_off(cuda, toolkit):
    home = {"CUDA_HOME": str(toolkit.parents[1]), "PATH": ""}
    assert cuda["find_nvcc"](home) == toolkit
    assert cuda["find_nvcc"]({**home, "SMERF_CUDA": "0"}) is None
    if not Path("/usr/local/cuda/bin/nvcc").is_file():
        assert cuda["find_nvcc"]({"PATH": ""}) is None
        assert cuda["find_nvcc"]({"PATH": str(toolkit.parent)}) == toolkit


def test_an_install_compiles_where_there_is_a_gpu_or_it_is_asked_to(cuda):
    has_driver = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
    assert cuda["is_wanted"]({}) == has_driver
    assert cuda["is_wanted"]({"SMERF_CUDA": "1"}) and not cuda["is_wanted"]({"SMERF_CUDA": "0"})


def test_targets_are_all_by_default_and_can_be_limited(cuda):
    everything = cuda["targets"]({})
    assert [code for code in everything if "code=sm_" in code] == [
        f"-gencode=arch=compute_{one},code=sm_{one}" for one in ("80", "86", "89", "90")
    ]
    assert everything[-1] == "-gencode=arch=compute_90,code=compute_90"
    assert cuda["targets"]({"SMERF_CUDA_ARCH": "8.9;86"}) == [
        "-gencode=arch=compute_86,code=sm_86",
        "-gencode=arch=compute_89,code=sm_89",
        "-gencode=arch=compute_89,code=compute_89",
    ]
    with pytest.raises(ValueError, match="SMERF_CUDA_ARCH=fast: use compute capabilities"):
        cuda["targets"]({"SMERF_CUDA_ARCH": "fast"})


def test_every_source_is_compiled_and_linked(cuda, toolkit, tmp_path):
    said = {}
    made = cuda["build"](tmp_path / "lib.so", tmp_path / "work", nvcc=toolkit, report=said.__setitem__)
    assert made and (tmp_path / "lib.so").read_text() == "made\n"
    names = {path.stem for path in (ROOT / "cuda" / "gpu").glob("*.cu")}
    assert said.keys() == names
    calls = (toolkit.parent / "calls").read_text().splitlines()
    assert len(calls) == len(names) + 1
    assert all(f"{name}.o" in calls[-1] for name in names)


def test_a_source_that_does_not_compile_is_an_error(cuda, toolkit, tmp_path):
    toolkit.write_text("#!/bin/sh\necho 'error: no'\nexit 1\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        cuda["build"](tmp_path / "lib.so", tmp_path / "work", nvcc=toolkit)
    assert "error: no" in caught.value.output
