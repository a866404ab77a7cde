"""The student's fused training step on CPUs: rays in, grids updated in place (native only).

The plain twin is autograd over the parts: ``grid_render``, the appearance network, the losses, and ``grid_adam_``.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.appearance import APPEARANCE_WIDTHS, appearance_size
from smerf.kernels.grid_render import grid_view
from smerf.kernels.types import FEATURES, MAX_SAMPLES, Grids

__all__ = ["GridState", "StudentRays", "StudentStep"]

_VERTEX = 64
_SAMPLE = 96
_NEUTRAL = 128
_ARRAYS = ("origins", "directions", "edges", "weights", "colour", "background", "log_exposure", "s_edges")
_LOSSES = 5


class _Rays(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in _ARRAYS),
        ("rays", ctypes.c_int64),
        ("samples", ctypes.c_int32),
        ("pixels", ctypes.c_int32),
    ]


class _Network(ctypes.Structure):
    _fields_ = [
        ("params", ctypes.c_void_p),
        ("gradient", ctypes.c_void_p),
        ("lattice", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("lattice_scale", ctypes.c_float),
    ]


class _Loss(ctypes.Structure):
    _fields_ = [
        ("tau", ctypes.c_float),
        ("step", ctypes.c_float),
        ("charbonnier", ctypes.c_float),
        ("geometry", ctypes.c_float),
        ("least_gradient", ctypes.c_float),
        ("backdrop", ctypes.c_void_p),
        ("dssim", ctypes.c_float),
        ("distortion", ctypes.c_float),
    ]


class _Grids(ctypes.Structure):
    _fields_ = [
        ("voxels", ctypes.c_void_p),
        ("voxel_bytes", ctypes.c_void_p),
        ("blocks", ctypes.c_int64),
        ("planes", ctypes.c_void_p),
        ("plane_bytes", ctypes.c_void_p),
    ]


class _Adam(ctypes.Structure):
    _fields_ = [(n, ctypes.c_float) for n in ("lr", "beta1", "beta2", "eps", "correction1", "correction2")]


class _Trace(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("losses", "weights", "samples")]


class GridState:
    """What Adam holds of the vertices of one submodel's grids: 64 bytes each, logits and moments.

    ``voxels`` (V, 64) and ``planes`` (T, 64) uint8: eight float32 logits, then eight float16 first moments and
    roots of second moments.
    """

    def __init__(self, grids: Grids) -> None:
        """Start from the grids' bytes, with moments at zero."""
        library = native.load_cpu()
        self.voxels = torch.empty(len(grids.voxels), _VERTEX, dtype=torch.uint8)
        self.planes = torch.zeros(len(grids.planes), _VERTEX, dtype=torch.uint8)
        for tensor in (self.voxels, self.planes, grids.voxels, grids.planes):
            native.use_large_pages(tensor)
        parts = [(self.voxels, grids.voxels)]
        # A logit of zero is the byte next above zero: memory of planes that nobody reads is never touched.
        if bool((grids.planes != _NEUTRAL).any()):
            parts.append((self.planes, grids.planes))
        for state, values in parts:
            library.smerf_student_start(
                native.pointer(state), native.pointer(values), ctypes.c_int64(len(values))
            )

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
        self._samples = torch.empty(0)

    @staticmethod
    def fits(width: int, device: torch.device) -> bool:
        """Tell whether the step covers an appearance network of this width, and runs on this device."""
        backend = native.backend(torch.empty(0, device=device), "smerf_student_step")
        return backend is not None and backend.kind == "cpu" and width in APPEARANCE_WIDTHS

    def run(
        self,
        grids: Grids,
        state: GridState,
        rays: StudentRays,
        params: Tensor,
        gradient: Tensor,
        *,
        width: int,
        lattice_scale: float,
        step: int,
        lr: float,
        tau: float,
        geometry_weight: float,
        dssim_weight: float = 0.0,
        distortion_weight: float = 0.0,
        charbonnier: float = 1e-3,
        backdrop: Tensor | None = None,
        least_gradient: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-15,
    ) -> tuple[Tensor, Tensor]:
        """Render, compare with the teacher, differentiate, and update the grids' touched vertices.

        Losses and gradients are sums over the rays; the grids' moments hold those sums. A patch's dissimilarity is
        that of each of its rays.

        Args:
            grids: Its bytes are read, then updated.
            state: Of the same grids; updated.
            rays: The batch.
            params: Appearance networks of the P^3 lattice vertices (z slowest), a row each (P^3, n), float32.
            gradient: Of ``params``, added to.
            width: Hidden width of the networks.
            lattice_scale: Takes ray origins about the submodel's centre to [-1, 1].
            step: Number of this update, from 1.
            lr: Learning rate of the logits.
            tau: Culling threshold, in alpha over one marching step.
            geometry_weight: Of the sum of |weight - teacher's weight|.
            dssim_weight: Of (1 - SSIM) / 2 of patches of more than one ray (``smerf.student.patches``).
            distortion_weight: Of the distortion of rays that have ``s_edges`` (arXiv 2111.12077, equation 15).
            charbonnier: Rounding of the colour loss sqrt(e^2 + charbonnier^2).
            backdrop: Features (14,) of what lies behind everything, if anything does.
            least_gradient: Samples whose values all have a smaller gradient teach nothing.
            betas: Decay of the moments.
            eps: Added to the denominator.

        Returns:
            Losses (R, 5), weighted: colour, geometry, mean squared error (as it is), dissimilarity, distortion; and
            the rendered weights (R, S).

        Raises:
            ValueError: If a shape or dtype is not as stated.
        """
        count, samples = rays.weights.shape
        vertices, size = params.shape
        lattice = round(vertices ** (1 / 3))
        native.check("params", params, torch.float32, (lattice**3, appearance_size(width)))
        native.check("gradient", gradient, torch.float32, (lattice**3, size))
        if backdrop is not None:
            native.check("backdrop", backdrop, torch.float32, (FEATURES,))
        if len(state.voxels) != len(grids.voxels) or len(state.planes) != len(grids.planes):
            raise ValueError("state: expected that of these grids")
        if self._samples.numel() < count * samples * _SAMPLE // 4:
            self._samples = torch.empty(count * samples * _SAMPLE // 4)
        losses, weights = torch.empty(count, _LOSSES), torch.empty(count, samples)
        view = grid_view(grids)
        address = native.pointer
        code = native.load_cpu().smerf_student_step(
            ctypes.byref(view),
            ctypes.byref(
                _Rays(*(address(getattr(rays, name)) for name in _ARRAYS), count, samples, rays.pixels)
            ),
            ctypes.byref(_Network(address(params), address(gradient), lattice, width, lattice_scale)),
            ctypes.byref(
                _Loss(
                    tau, grids.spec.step, charbonnier, geometry_weight, least_gradient, address(backdrop),
                    dssim_weight, distortion_weight,
                )
            ),
            ctypes.byref(
                _Grids(
                    address(state.voxels), address(grids.voxels), len(grids.voxels) // 512,
                    address(state.planes), address(grids.planes),
                )
            ),
            ctypes.byref(_Adam(lr, *betas, eps, 1.0 - betas[0] ** step, 1.0 - betas[1] ** step)),
            ctypes.byref(_Trace(address(losses), address(weights), address(self._samples))),
        )  # fmt: skip
        if code:
            raise ValueError("the fused student does not cover these sizes: use the separate kernels")
        return losses, weights
