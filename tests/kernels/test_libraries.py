import ctypes
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from smerf.kernels import HashSpec, abi, hash_encode, native

SCRIPT = """
import torch
from smerf.kernels import HashSpec, hash_encode, native
spec = HashSpec(3, 2, 8, 4, 16)
x = torch.linspace(0, 1, 30).view(10, 3)
table = torch.arange(spec.entry_count * 2.0).view(-1, 2).requires_grad_()
out = hash_encode(x, table, spec)
out.square().sum().backward()
used = [row["name"] for row in native.status() if row["state"] == "used" and row["name"] != "cuda"]
sums = [float(out.detach().double().sum()), float(table.grad.double().sum())]
"""


def test_the_environment_chooses_the_library(kernels):
    environment = {**os.environ, "SMERF_ISA": "baseline"}
    environment.pop("SMERF_KERNELS", None)
    command = [sys.executable, "-c", SCRIPT + "print(*used, *sums)"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    *used, first, second = result.stdout.split()
    is_built = (native._FOLDER / "libsmerf_cpu_baseline.so").exists()
    assert used == (["cpu-baseline"] if is_built else [])
    kernels("reference")
    scope = {}
    exec(SCRIPT, scope)
    assert scope["used"] == []
    assert scope["sums"] == pytest.approx([float(first), float(second)], rel=1e-6)


def test_an_unknown_instruction_set_is_refused_by_name(kernels):
    kernels("sse9")
    if not (native._FOLDER / "libsmerf_cpu_baseline.so").exists():
        pytest.skip("the CPU library is not built")
    with pytest.raises(OSError, match="SMERF_ISA=sse9 is unknown: use one of baseline, avx2, avx512"):
        native.load_cpu()
    assert all("sse9" in row["reason"] for row in native.status() if row["name"] != "cuda")


def test_a_library_of_another_interface_is_refused(kernels, monkeypatch):
    kernels()
    if native.load_cpu() is None:
        pytest.skip("the CPU library is not built")
    native.load_cpu.cache_clear()
    monkeypatch.setattr(abi, "ABI", abi.ABI + 1)
    with pytest.raises(OSError, match=r"libsmerf_cpu_\w+\.so has interface \d+, expected \d+: reinstall"):
        native.load_cpu()


def test_a_library_with_another_structure_is_refused(kernels, monkeypatch):
    kernels()
    library = native.load_cpu()
    if library is None:
        pytest.skip("the CPU library is not built")
    assert all(library.smerf_sizeof(name.encode()) for name in abi.STRUCTURES)
    native.load_cpu.cache_clear()
    longer = type("GridView", (ctypes.Structure,), {"_fields_": [("bytes", ctypes.c_uint8 * 99)]})
    monkeypatch.setitem(abi._TYPES, "GridView", longer)
    with pytest.raises(OSError, match=r"libsmerf_cpu_\w+\.so: GridView has 64 bytes, expected 99: reinstall"):
        native.load_cpu()


def test_a_call_is_checked_before_it_reaches_the_library(kernels):
    kernels()
    backend = native.cpu_backend()
    if backend is None:
        pytest.skip("the CPU library is not built")
    directions, out = torch.zeros(4, 3), torch.zeros(4, 16)
    with pytest.raises(TypeError, match="smerf_encode_directions_forward: expected 4 arguments, got 3"):
        backend.call("smerf_encode_directions_forward", 0, directions, 4)
    with pytest.raises(
        ValueError, match="smerf_encode_directions_forward: directions: expected a contiguous"
    ):
        backend.call("smerf_encode_directions_forward", 0, torch.zeros(3, 4).T, 4, out)
    with pytest.raises(TypeError, match="FrustumSpec: expected the fields first_ray, "):
        abi.record("FrustumSpec", scale=1.0)


def test_what_was_compiled_here_can_be_loaded(kernels):
    kernels()
    cuda = runpy.run_path(str(Path(__file__).resolve().parents[2] / "cuda" / "build.py"))
    # A source that its compiler refuses is reported in the middle of an installation, where nobody reads it.
    assert native.load_cpu() is not None or shutil.which(os.environ.get("CXX", "g++")) is None
    assert native.load_cuda() is not None or cuda["find_nvcc"]() is None or not cuda["is_wanted"]()


def test_without_a_library_the_reference_runs(kernels, monkeypatch, tmp_path):
    kernels()
    spec = HashSpec(2, 1, 8, 4, 9)
    x, table = torch.rand(9, 3), torch.rand(spec.entry_count, 1)
    native_result = hash_encode(x, table, spec)
    monkeypatch.setattr(native, "_FOLDER", tmp_path)
    native.load_cpu.cache_clear()
    native.load_cuda.cache_clear()
    assert native.load_cpu() is None and native.load_cuda() is None
    assert set(native.kernel_table()["hash_encode"].values()) == {"reference"}
    assert all(row["state"] == "absent" and row["reason"] for row in native.status())
    torch.testing.assert_close(hash_encode(x, table, spec), native_result)


def test_the_table_names_what_runs_each_kernel(monkeypatch):
    class Library:
        smerf_ray_points = smerf_hash_encode_forward = smerf_hash_encode_backward = None

    monkeypatch.setattr(native, "load_cuda", Library)
    table = native.kernel_table()
    cpu = "cpu" if native.load_cpu() else "reference"
    assert table["ray_points"] == {"cpu": cpu, "cuda": "cuda"}
    assert table["hash_encode"] == {"cpu": cpu, "cuda": "cuda"}
    assert table["mlp"] == {"cpu": cpu, "cuda": "reference"}
    monkeypatch.setattr(native, "load_cpu", lambda: None)
    assert native.kernel_table()["ray_points"] == {"cpu": "reference", "cuda": "cuda"}


def test_a_cuda_library_without_a_gpu_is_ready_and_says_why(monkeypatch):
    class Library:
        def smerf_device_count(self):
            return -35

        @staticmethod
        def smerf_error(code):
            return {35: b"CUDA driver version is insufficient"}[code]

    monkeypatch.setattr(native, "load_cuda", Library)
    row = next(row for row in native.status() if row["name"] == "cuda")
    assert row["state"] == "ready"
    assert row["reason"] == "built, but there is no GPU to run it: CUDA driver version is insufficient"
