"""What an install from source gets: a source archive that holds everything, and a build that says what it does."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[1]
GPP = """#!/bin/sh
case "$*" in *broken*) echo "error: no such type" >&2; exit 1;; esac
while [ $# -gt 1 ]; do [ "$1" = -o ] && echo made > "$2"; shift; done
"""

pytestmark = pytest.mark.skipif(
    int(setuptools.__version__.split(".")[0]) < 77, reason="the build needs setuptools 77 or newer"
)


def run_setup(folder, *words, **environment):
    """Run setup.py in a folder and return what it said."""
    command = [sys.executable, "setup.py", *map(str, words)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Return the source archive's content, built from the files that git tracks."""
    folder = tmp_path_factory.mktemp("sdist")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("no git checkout: the source archive is built from one")
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = folder / "checkout" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    run_setup(folder / "checkout", "--quiet", "sdist", "--dist-dir", folder / "dist")
    (archive,) = (folder / "dist").iterdir()
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (root,) = (folder / "unpacked").iterdir()
    return folder / "checkout", root


def files(root, folder):
    return {str(path.relative_to(root)) for path in (root / folder).rglob("*") if path.is_file()}


def test_the_source_archive_holds_what_a_build_and_the_tests_need(unpacked):
    checkout, root = unpacked
    for folder in ("smerf", "cuda", "viewer", "data", "tests", "benchmarks", "docs"):
        wanted = {name for name in files(checkout, folder) if "egg-info" not in name}
        assert not wanted - files(root, folder), folder
    for name in ("setup.py", "pyproject.toml", "Makefile", "constraints.txt", "LICENSE", "README.md"):
        assert (root / name).is_file(), name


def test_a_wheel_from_the_archive_holds_the_viewers_and_the_data(unpacked, tmp_path):
    _, root = unpacked
    run_setup(root, "--quiet", "bdist_wheel", "--dist-dir", tmp_path, SMERF_NATIVE="0")
    (wheel,) = tmp_path.glob("smerf-*-py3-none-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        (metadata,) = (packed.read(name).decode() for name in names if name.endswith("dist-info/METADATA"))
    assert {
        "smerf/viewer/web/index.html",
        "smerf/evaluation/report.css",
        "smerf/evaluation/report.js",
        "smerf/data/scenes/tabletop.yaml",
    } <= names
    assert {f"smerf/{name}" for name in files(root, "viewer/shaders") if name.endswith("glsl")} <= names
    assert (
        not {name.split("/")[0] for name in names} - {"smerf"} - {wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    )
    assert "License-Expression: Apache-2.0" in metadata and "Provides-Extra: viewer" in metadata


def test_the_build_says_what_it_does_and_a_fault_costs_one_library(unpacked, tmp_path):
    _, root = unpacked
    compiler = tmp_path / "g++"
    compiler.write_text(GPP)
    compiler.chmod(0o755)
    words = ("build_ext", "--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp")
    said = run_setup(root, *words, CXX=str(compiler), SMERF_CUDA="0")
    count = len(list((root / "cuda" / "cpu").glob("*.cpp")))
    made = {path.name for path in (tmp_path / "lib").rglob("*.so")}
    assert f"smerf: compiled {count * len(made)}/{count * len(made)}" in said
    assert "libsmerf_cpu_baseline.so" in made and "libsmerf_cuda.so" not in made
    compiler.write_text(GPP.replace("*broken*", "*mavx512f*"))
    words = ("build_ext", "--build-lib", tmp_path / "again", "--build-temp", tmp_path / "temp")
    said = run_setup(root, *words, CXX=str(compiler), SMERF_CUDA="0")
    left = {path.name for path in (tmp_path / "again").rglob("*.so")}
    if "libsmerf_cpu_avx512.so" in made:
        assert "the avx512 kernels were not built" in said and "no such type" in said
    assert left == made - {"libsmerf_cpu_avx512.so"}


def test_without_a_compiler_the_build_succeeds_and_says_what_is_slower(unpacked, tmp_path):
    _, root = unpacked
    words = ("build_ext", "--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp")
    said = run_setup(root, *words, CXX=str(tmp_path / "none"), SMERF_CUDA="0")
    assert "no C++ compiler" in said and "about 8 times slower" in said and "Install g++" in said
    assert not list((tmp_path / "lib").rglob("*.so"))
