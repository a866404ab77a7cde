"""Part ``steps``: the fused training steps of student and teacher against the CPU's, and their rays a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu_suite.cases import STANDARD, generator_of, rays_of
from benchmarks.gpu_suite.common import NotHereError, Suite, median_seconds
from benchmarks.gpu_suite.kernels import difference
from smerf.kernels import Grids, GridSpec, Spacing, initial_params, native
from smerf.kernels.appearance import appearance_size
from smerf.kernels.student_step import GridState, StudentRays, StudentStep
from smerf.kernels.teacher_step import FusedField, TeacherPass
from smerf.kernels.types import Adam, FieldGradients, FieldRays, LatticeNetworks, StudentLosses, TeacherLosses

__all__ = ["STEPS", "Step", "check", "run"]

_CPU = torch.device("cpu")
_PATCH = 9
_WIDTH = 16
_DENSITY, _COLOUR = (STANDARD.width, 64, 16), (32, 64, 3)


@dataclass(frozen=True)
class Step:
    """A fused step: ``make(device, rays)`` returns what takes it, and gives its tensors.

    ``function`` is what the native library has to have; ``rays`` are those of a step at full size. The mean difference
    is compared with ``tolerance``: rounding decides about single samples at a limit. A share of the largest value.
    """

    name: str
    function: str
    make: Callable[[torch.device, int], Callable[[], list[Tensor]]]
    rays: int
    tolerance: float


def _student_grids(device: torch.device, rays: int) -> Grids:
    sizes = (256, 1024) if rays > 4096 else (64, 128) if rays > 256 else (16, 64)
    spec = GridSpec(*sizes, scale=1.2)
    index = torch.rand(spec.blocks**3, generator=generator_of())
    has_block = index < 0.3
    index = torch.where(has_block, has_block.long().cumsum(0) - 1, -1).view(3 * (spec.blocks,))
    grids = Grids.allocate(spec, index, records=False)
    for i, values in enumerate((grids.voxels, grids.planes)):
        values.copy_(torch.randint(70, 190, values.shape, generator=generator_of(i)))
    return grids.to(device)


def _student(device: torch.device, rays: int) -> Callable[[], list[Tensor]]:
    samples, rays = 32, rays - rays % _PATCH
    grids = _student_grids(device, rays)
    origins, directions, edges = rays_of(rays, samples, _CPU)
    drawn = torch.rand(rays, samples + 6, generator=generator_of(3))
    given = (origins, directions, edges, drawn[:, 6:] * 1.5 / samples, drawn[:, :3], drawn[:, 3:6])
    batch = StudentRays(
        *(one.contiguous().to(device) for one in given),
        s_edges=(edges / (1.0 + edges)).to(device),
        pixels=_PATCH,
    )
    params = 0.3 * torch.randn(5**3, appearance_size(_WIDTH), generator=generator_of(4))
    networks = LatticeNetworks(params.to(device), torch.zeros_like(params).to(device), _WIDTH, 1.4)
    state, step = GridState(grids), StudentStep()
    losses = StudentLosses(0.003, 0.02, 1.5, 0.3, min_gradient=1e-3)

    def take() -> list[Tensor]:
        networks.gradient.zero_()
        result = step.run(grids, state, batch, networks, losses, Adam(1, 0.02))
        moments = (one[:, 32:48].view(torch.float16).float() for one in (state.voxels, state.planes))
        return [*result, networks.gradient, *moments]

    return take


def _teacher(device: torch.device, rays: int) -> Callable[[], list[Tensor]]:
    samples, cells = 32, 64
    generator = generator_of()
    table = 0.5 * torch.randn(STANDARD.entry_count, STANDARD.features, generator=generator)
    nets = [initial_params(dims, generator) for dims in (_DENSITY, _COLOUR)]
    cache = torch.rand(3 * (cells,), generator=generator) ** 4 * 20.0
    origins, directions, _ = rays_of(rays, samples, _CPU)
    s_edges = torch.rand(rays, samples + 1, generator=generator).sort(-1).values
    truth, background = torch.rand(2, rays, 3, generator=generator)
    given = (origins, directions, torch.full((rays,), 2e-3), s_edges)
    batch = FieldRays(*(one.contiguous().to(device) for one in given))
    truth, background, start = truth.to(device), background.to(device), cache.to(device)
    distances = (4.0 * torch.rand(rays, generator=generator)).to(device)
    cache = start.clone()
    field = FusedField(
        STANDARD, table.to(device), nets[0].to(device), _DENSITY, nets[1].to(device), _COLOUR,
        Spacing(0.1, 4.0, True), 1.0, 1e-3, 3e-4, cache, 1e-3, 0.2, 7,
    )  # fmt: skip
    gradients = FieldGradients(
        *(torch.zeros_like(one) for one in (field.table, field.density_params, field.colour_params))
    )
    step = TeacherPass(rays, samples, STANDARD.width, cells, device)
    losses = TeacherLosses(1e-3, 0.01, 0.0, 0.5, min_gradient=1e-4)

    def take() -> list[Tensor]:
        cache.copy_(start)
        for one in vars(gradients).values():
            one.zero_()
        step.run(field, batch, truth, background, gradients, losses, cache, distances=distances)
        return [step.losses, *vars(gradients).values(), cache]

    return take


STEPS = (
    Step("student", "smerf_student_step", _student, 16384, tolerance=1e-3),
    # Networks multiply with 10 bits of mantissa on tensor cores.
    Step("teacher", "smerf_teacher_step", _teacher, 16384, tolerance=5e-3),
)


def check(step: Step, device: torch.device, rays: int) -> dict:
    """Compare a step on a device with the CPU's."""
    wanted = step.make(_CPU, rays)()
    got = [one.cpu() for one in step.make(device, rays)()]
    worst, mean = difference(got, wanted)
    return {"worst": worst, "mean": mean, "tolerance": step.tolerance, "agrees": mean <= step.tolerance}


def _rates(step: Step, suite: Suite, rays: int) -> dict:
    """Time a step on the suite's device and on the CPU."""
    values: dict[str, object] = {"rays": rays}
    for name, device, repeats in (
        ("", suite.device, suite.repeats),
        ("cpu_", _CPU, max(3, suite.repeats // 4)),
    ):
        seconds, spread = median_seconds(step.make(device, rays), device, repeats)
        values |= {
            f"{name}median_ms": 1e3 * seconds,
            f"{name}spread_ms": 1e3 * spread,
            f"{name}rays_per_second": rays / seconds,
        }
    return values


def run(suite: Suite) -> None:
    """Check and measure each step; one that fails does not keep the others back.

    Raises:
        NotHereError: If there is no GPU, or no CPU library to compare with.
        RuntimeError: After the last step, if one of them failed or differs.
    """
    suite.require_gpu()
    if native.cpu_backend("smerf_student_step") is None:
        raise NotHereError("the CPU library is not built: nothing to compare the steps with")
    bad = []
    for step in STEPS:
        try:
            if native.backend(torch.empty(0, device=suite.device), step.function) is None:
                raise RuntimeError(f"the CUDA library has no {step.function}: run the part build first")
            values = check(step, suite.device, 2048)
            values |= _rates(step, suite, 2048 if suite.small else step.rays)
            suite.add(f"steps/{step.name}", **values)
            if not values["agrees"]:
                bad.append(step.name)
        except Exception as error:
            suite.add(f"steps/{step.name}", error=f"{type(error).__name__}: {error}")
            bad.append(step.name)
    if bad:
        raise RuntimeError(f"steps that failed or differ from the CPU's: {', '.join(bad)}")
