"""The student's fused training step: rays in, grids updated in place (native only).

Its reference is autograd over the parts, as tests/kernels/test_student_step.py composes them: ``grid_render``, the
appearance network, the losses, and ``grid_adam_``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.kernels import abi, native
from smerf.kernels.appearance import APPEARANCE_WIDTHS, appearance_size
from smerf.kernels.records import adam_step, grid_view
from smerf.kernels.types import BLOCK, FEATURES, MAX_SAMPLES, Adam, Grids, LatticeNetworks, StudentLosses

__all__ = ["GridState", "StudentRays", "StudentStep"]

_VERTEX = 64
_SAMPLE = 96
_NEUTRAL = 128
_ARRAYS = ("origins", "directions", "edges", "weights", "colour", "background", "log_exposure", "s_edges")
_LOSSES = 5


class GridState:
    """What Adam holds of the vertices of one submodel's grids: 64 bytes each, logits and moments.

    ``voxels`` (V, 64) and ``planes`` (T, 64) uint8: eight float32 logits, then eight float16 first moments and
    roots of second moments; on the grids' device.
    """

    def __init__(self, grids: Grids) -> None:
        """Start from the grids' bytes, with moments at zero."""
        backend = native.backend(grids.voxels, "smerf_student_start")
        if backend is None:
            raise OSError("the student's fused step is not built: reinstall with `pip install -e .`")
        self.voxels = grids.voxels.new_empty(len(grids.voxels), _VERTEX)
        self.planes = grids.planes.new_zeros(len(grids.planes), _VERTEX)
        for tensor in (self.voxels, self.planes, grids.voxels, grids.planes):
            native.use_large_pages(tensor)
        parts = [(self.voxels, grids.voxels)]
        # A logit of zero is the byte of sigmoid(0): memory of planes that nobody reads is never touched.
        if bool((grids.planes != _NEUTRAL).any()):
            parts.append((self.planes, grids.planes))
        for state, values in parts:
            backend.call("smerf_student_start", state, values, len(values))

    def logits(self) -> tuple[Tensor, Tensor]:
        """Return views of the logits (V, 8) and (T, 8) float32."""
        return self.voxels[:, :32].view(torch.float32), self.planes[:, :32].view(torch.float32)


@dataclass(frozen=True)
class StudentRays:
    """Rays of one submodel with the teacher's answers.

    ``origins``, unit ``directions``, teacher ``colour`` over black and ``background`` (R, 3), interval ends
    ``edges`` (R, S + 1), teacher ``weights`` (R, S); all float32. ``log_exposure`` (R,), if given, conditions the
    networks: they read logit(feature) + log_exposure. ``s_edges`` (R, S + 1), if given, are the interval ends in
    normalised distance, in which distortion is measured. The rays are patches of ``pixels`` rays, one patch after
    another.
    """

    origins: Tensor
    directions: Tensor
    edges: Tensor
    weights: Tensor
    colour: Tensor
    background: Tensor
    log_exposure: Tensor | None = None
    s_edges: Tensor | None = None
    pixels: int = 1

    def __post_init__(self) -> None:
        rays, ends = self.edges.shape
        if not 1 <= ends - 1 <= MAX_SAMPLES:
            raise ValueError(f"edges: expected 1 to {MAX_SAMPLES} intervals a ray, got {ends - 1}")
        for name, width in (
            ("origins", 3),
            ("directions", 3),
            ("weights", ends - 1),
            ("colour", 3),
            ("background", 3),
        ):
            native.check(name, getattr(self, name), torch.float32, (rays, width))
        native.check("edges", self.edges, torch.float32, (None, None))
        if self.log_exposure is not None:
            native.check("log_exposure", self.log_exposure, torch.float32, (rays,))
        if self.s_edges is not None:
            native.check("s_edges", self.s_edges, torch.float32, (rays, ends))
        if self.pixels < 1 or rays % self.pixels:
            raise ValueError(f"pixels: expected whole patches, got {rays} rays in patches of {self.pixels}")
        for name in _ARRAYS:
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else value.contiguous())


class StudentStep:
    """One optimiser step after another on one submodel; owns the memory between the halves of a step."""

    def __init__(self) -> None:
        self._memory: dict[str, Tensor] = {}

    @staticmethod
    def supports(width: int, device: torch.device) -> bool:
        """Tell whether the step covers an appearance network of this width, and runs on this device."""
        backend = native.backend(torch.empty(0, device=device), "smerf_student_step")
        return backend is not None and width in APPEARANCE_WIDTHS

    def run(
        self,
        grids: Grids,
        state: GridState,
        rays: StudentRays,
        networks: LatticeNetworks,
        losses: StudentLosses,
        adam: Adam,
        backdrop: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Render, compare with the teacher, differentiate, and update the grids' touched vertices.

        Losses and gradients are sums over the rays; the grids' moments hold those sums. A patch's dissimilarity is
        that of each of its rays.

        Args:
            grids: Its bytes are read, then updated.
            state: Of the same grids; updated.
            rays: The batch.
            networks: The appearance networks; their gradient is added to.
            losses: Weights of the losses, and what is left out.
            adam: The update of the logits.
            backdrop: Features (14,) of what lies behind everything, if anything does.

        Returns:
            Losses (R, 5), weighted: colour, geometry, mean squared error (as it is), dissimilarity, distortion; and
            the rendered weights (R, S).

        Raises:
            ValueError: If a shape or dtype is not as stated.
            SmerfError: If the step does not cover these sizes.
        """
        count, samples = rays.weights.shape
        lattice = round(len(networks.params) ** (1 / 3))
        shape = (lattice**3, appearance_size(networks.width))
        native.check("params", networks.params, torch.float32, shape)
        native.check("gradient", networks.gradient, torch.float32, shape)
        if backdrop is not None:
            native.check("backdrop", backdrop, torch.float32, (FEATURES,))
        if len(state.voxels) != len(grids.voxels) or len(state.planes) != len(grids.planes):
            raise ValueError("state: expected that of these grids")
        backend = native.backend(rays.edges, "smerf_student_step")
        if backend is None:
            raise ValueError("the fused step is not built: use the separate kernels")
        native.check_device(
            edges=rays.edges,
            grids=grids.voxels,
            state=state.voxels,
            params=networks.params,
            backdrop=backdrop,
        )
        result, weights = rays.edges.new_empty(count, _LOSSES), torch.empty_like(rays.weights)
        kept, *shared = self._work(backend, grids, rays)
        backend.call(
            "smerf_student_step",
            grid_view(grids),
            abi.record("StudentRays", **vars(rays), rays=count, samples=samples),
            abi.record(
                "StudentNetwork",
                params=networks.params,
                gradient=networks.gradient,
                lattice=lattice,
                width=networks.width,
                lattice_scale=networks.scale,
            ),
            abi.record(
                "StudentLoss",
                tau=losses.tau,
                step=grids.spec.step,
                charbonnier=losses.charbonnier,
                geometry=losses.geometry_weight,
                min_gradient=losses.min_gradient,
                backdrop=backdrop,
                dssim=losses.dssim_weight,
                distortion=losses.distortion_weight,
            ),
            abi.record(
                "StudentGrids",
                voxels=state.voxels,
                voxel_bytes=grids.voxels,
                blocks=len(grids.voxels) // BLOCK**3,
                planes=state.planes,
                plane_bytes=grids.planes,
            ),
            adam_step(adam),
            abi.record("StudentTrace", losses=result, weights=weights, samples=kept),
            *shared,
        )
        return result, weights

    def _work(self, backend: native.Backend, grids: Grids, rays: StudentRays) -> tuple[Tensor | None, ...]:
        """Return room for the samples' gradients on CPUs; on CUDA the vertices' gradients and flags, and scratch."""
        count, samples = rays.weights.shape
        if backend.kind == "cpu":
            return self._room("samples", rays.edges, count * samples * _SAMPLE // 4), None, None, None
        vertices = len(grids.voxels) + len(grids.planes)
        return (
            None,
            self._room("gradient", rays.edges, 8 * vertices, zero=True),
            self._room("touched", grids.voxels, vertices, zero=True),
            self._room("scratch", rays.edges, backend.query("smerf_student_scratch", count, samples)),
        )

    def _room(self, name: str, like: Tensor, size: int, zero: bool = False) -> Tensor:
        """Return a flat tensor of at least this size that is kept between steps; ``zero``: it starts from zeros."""
        if name not in self._memory or self._memory[name].numel() < size:
            self._memory[name] = like.new_zeros(size) if zero else like.new_empty(size)
        return self._memory[name]
