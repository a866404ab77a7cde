"""The GPU suite's comparison of the fused steps with the CPU's, with emulated kernels in the place of a GPU."""

from dataclasses import replace

import pytest
import torch

from benchmarks.gpu_suite import steps
from smerf.kernels import HashSpec, native
from tests.helpers import emulation


@pytest.mark.parametrize("step", steps.STEPS, ids=lambda step: step.name)
def test_fused_steps_of_the_gpus_kernels_agree_with_the_cpus(emulated, monkeypatch, step):
    if native.cpu_backend(step.function) is None:
        pytest.skip("the CPU library is not built")
    library, make = emulated(step.function.removeprefix("smerf_")), step.make
    # The first run is the CPU's.
    runs = iter((lambda: None, lambda: emulation.use(monkeypatch, library)))

    def switched(device, rays):
        next(runs)()
        return make(device, rays)

    monkeypatch.setattr(steps, "STANDARD", HashSpec(3, 4, 12, 8, 64))
    monkeypatch.setattr(steps, "_DENSITY", (12, 16, 8))
    monkeypatch.setattr(steps, "_COLOUR", (24, 16, 3))
    values = steps.check(replace(step, make=switched), torch.device("cpu"), 90)
    assert values["agrees"] and values["worst"] > 0.0
