import functools

import pytest
import torch

from smerf.kernels import native
from tests.helpers import emulation


@pytest.fixture
def kernels(monkeypatch):
    """Choose the kernels that run: ``kernels("reference")``, ``kernels("avx2")``, or ``kernels()`` for the best.

    A test of an instruction set that this machine or build lacks is skipped.
    """

    def switch(name=None):
        monkeypatch.delenv("SMERF_ISA", raising=False)
        monkeypatch.delenv("SMERF_KERNELS", raising=False)
        if name:
            monkeypatch.setenv("SMERF_KERNELS" if name == "reference" else "SMERF_ISA", name)
        native.load_cpu.cache_clear()
        native.load_cuda.cache_clear()
        if name in ("baseline", "avx2", "avx512"):
            used = [row["name"] for row in native.status() if row["state"] == "used"]
            if f"cpu-{name}" not in used:
                pytest.skip(f"the {name} kernels are not built or do not run on this processor")

    switch()
    yield switch
    monkeypatch.undo()
    native.load_cpu.cache_clear()
    native.load_cuda.cache_clear()


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    """Return a function that builds a file of ``cuda/gpu`` for the CPU; tests are skipped without a compiler."""
    folder = tmp_path_factory.mktemp("emulated")

    @functools.cache
    def build(source, **options):
        if emulation.compiler() is None:
            pytest.skip("no C++ compiler to build the CUDA sources for the CPU")
        return emulation.build(source, folder, **options)

    return build


@pytest.fixture
def assert_repeats():
    """Assert that a function's tensors are the same bits on one thread, on two, and again on two.

    PyTorch itself, which runs where no library is built, promises that for one number of threads only.
    """
    counts = (1, 2, 2) if native.load_cpu() else (2, 2)
    before = torch.get_num_threads()

    def check(run):
        results = []
        for threads in counts:
            torch.set_num_threads(threads)
            results.append(run())
        for other in results[1:]:
            for first, second in zip(results[0], other, strict=True):
                assert torch.equal(first, second)

    yield check
    torch.set_num_threads(before)


def assert_close(got, wanted, rtol=1e-5, atol=1e-6):
    """Compare tensors or lists of tensors, by the tolerance of each tensor's largest value."""
    if isinstance(got, torch.Tensor):
        got, wanted = [got], [wanted]
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        scale = float(theirs.abs().max()) if theirs.numel() else 0.0
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol * max(1.0, scale))


@pytest.fixture(name="assert_close")
def _assert_close():
    return assert_close
