"""Refining the cameras while the field is fitted (CamP, arXiv 2308.10902).

Every training photo has a small motion in its own camera's frame and, where there is no distortion, a change of focal
length and principal point. All are seen through a preconditioner that makes one unit of any parameter move the
projected points of the frustum about equally. Letters: N photos, R rays, P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from smerf.capture.types import Camera, Capture, Frame, Intrinsics
from smerf.fields.rays import Rays, Spacing

__all__ = ["CameraRefinement", "preconditioner"]

# Rotation (axis-angle), translation, log focal length, principal point (in focal lengths).
PARAMETERS = 9
_POSE = 6
# The frustum's points, along the power ladder.
_DEPTHS = Spacing(0.4, 1000.0, False, power=-1.5, scale=1.0)


def _rotation(vector: Tensor) -> Tensor:
    """Return rotation matrices (..., 3, 3) of axis-angle vectors (..., 3) (Rodrigues), smooth at zero."""
    square = vector.square().sum(-1)[..., None, None]
    small = square < 1e-8
    angle = torch.sqrt(torch.where(small, torch.ones_like(square), square))
    first = torch.where(small, 1.0 - square / 6.0, torch.sin(angle) / angle)
    second = torch.where(small, 0.5 - square / 24.0, (1.0 - torch.cos(angle)) / angle**2)
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(*vector.shape[:-1], 3, 3)
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + first * skew + second * skew @ skew


def _project(points: Tensor, parameters: Tensor) -> Tensor:
    """Project camera-space points (K, 3) (OpenGL axes) after a change of the camera: image plane (K, 2)."""
    local = (points - parameters[3:6]) @ _rotation(parameters[:3])
    plane = local[:, :2] / -local[:, 2:]
    return (plane - parameters[7:9]) * torch.exp(parameters[6])


def preconditioner(
    intrinsics: Intrinsics, free: int = PARAMETERS, points: int = 5000, seed: int = 0
) -> Tensor:
    """Return A^(-1/2), A the mean over the frustum of J^T J, J the slope of projected points (CamP, section 4).

    Args:
        intrinsics: Only size and focal length matter.
        free: Parameters that may move; the rest stay at zero.
        points: Points sampled in the frustum, evenly in pixels and along the power ladder in distance.
        seed: Random seed.

    Returns:
        Symmetric (9, 9) float32, zero in the rows and columns that stay.
    """
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(points, 3, generator=generator, dtype=torch.float64)
    plane = (
        u[:, :2] * u.new_tensor([intrinsics.width, intrinsics.height])
        - u.new_tensor([intrinsics.cx, intrinsics.cy])
    ) / u.new_tensor([intrinsics.fx, -intrinsics.fy])
    distance = _DEPTHS.t_from_s(u[:, 2])
    local = torch.cat([plane, -torch.ones(points, 1, dtype=torch.float64)], -1) * distance[:, None]
    # Central differences: in double precision off by 1e-9 at worst.
    moves = 1e-5 * torch.eye(PARAMETERS, dtype=torch.float64)
    slope = torch.stack([(_project(local, move) - _project(local, -move)) / 2e-5 for move in moves], -1)
    slope = slope * (max(intrinsics.fx, intrinsics.fy) / max(intrinsics.width, intrinsics.height))
    square = torch.einsum("kij,kil->jl", slope, slope)[:free, :free] / points
    diagonal = square.diagonal()
    square = square + torch.diag((0.1 * diagonal).clamp_min(1e-8))
    values, vectors = torch.linalg.eigh(square)
    result = torch.zeros(PARAMETERS, PARAMETERS, dtype=torch.float64)
    result[:free, :free] = vectors @ torch.diag(values**-0.5) @ vectors.T
    return result.float()


class CameraRefinement(nn.Module):
    """Small changes of the training cameras, learnt with the field."""

    conditioners: Tensor
    rotations: Tensor

    def __init__(self, frames: Sequence[Frame]) -> None:
        """Start from the cameras of the training photos, unchanged."""
        super().__init__()
        self.codes = nn.Parameter(torch.zeros(len(frames), PARAMETERS))
        known: dict[Intrinsics, Tensor] = {}
        for frame in frames:
            each = frame.camera.intrinsics
            if each not in known:
                known[each] = preconditioner(each, _POSE if self._is_fixed(each) else PARAMETERS)
        conditioners = torch.stack([known[frame.camera.intrinsics] for frame in frames])
        rotations = np.stack([frame.camera.world_from_cam[:, :3] for frame in frames])
        self.register_buffer("conditioners", conditioners, persistent=False)
        self.register_buffer("rotations", torch.tensor(rotations, dtype=torch.float32), persistent=False)

    @staticmethod
    def _is_fixed(intrinsics: Intrinsics) -> bool:
        # With distortion a change of focal length has no exact form in the camera model.
        return intrinsics.model == "OPENCV_FISHEYE" or any(intrinsics.distortion)

    def parameters_of(self, frames: Tensor) -> Tensor:
        """Return the changes (R, 9) of photos ``frames`` (R,): rotation, translation, log focal, principal point."""
        return torch.einsum("rij,rj->ri", self.conditioners[frames], self.codes[frames])

    def forward(self, rays: Rays, frames: Tensor) -> Rays:
        """Return the rays of photos ``frames`` (R,) as the changed cameras cast them, differentiable."""
        change = self.parameters_of(frames)
        rotations = self.rotations[frames]
        local = torch.einsum("rji,rj->ri", rotations, rays.directions)
        forward = -local[:, 2:]
        plane = local[:, :2] * torch.exp(-change[:, 6:7]) + change[:, 7:9] * forward
        rotated = torch.einsum("rij,rj->ri", _rotation(change[:, :3]), torch.cat([plane, local[:, 2:]], -1))
        directions = torch.einsum("rij,rj->ri", rotations, rotated)
        origins = rays.origins + torch.einsum("rij,rj->ri", rotations, change[:, 3:6])
        return Rays(origins, torch.nn.functional.normalize(directions, dim=-1), rays.radii)

    def spread(self) -> Tensor:
        """Return the variance over photos of log focal length and principal point, which one camera shares."""
        change = self.parameters_of(torch.arange(len(self.codes), device=self.codes.device))[:, _POSE:]
        return (change - change.mean(0)).square().mean(0).sum()

    @torch.no_grad()
    def refine(self, capture: Capture) -> Capture:
        """Return the capture with the changed cameras of its training photos; the others are as they were."""
        chosen = [i for i, frame in enumerate(capture.frames) if frame.split == "train"]
        changes = self.parameters_of(torch.arange(len(chosen), device=self.codes.device)).double().cpu()
        frames = list(capture.frames)
        for index, change in zip(chosen, changes, strict=True):
            frames[index] = replace(frames[index], camera=_changed(frames[index].camera, change))
        return replace(capture, frames=tuple(frames))


def _changed(camera: Camera, change: Tensor) -> Camera:
    """Return a camera with one change (9,) float64 applied."""
    pose, before = camera.world_from_cam.copy(), camera.intrinsics
    pose[:, 3] += pose[:, :3] @ change[3:6].numpy()
    pose[:, :3] = pose[:, :3] @ _rotation(change[:3]).numpy()
    factor = float(torch.exp(change[6]))
    fx, fy = before.fx * factor, before.fy * factor
    cx, cy = before.cx - float(change[7]) * fx, before.cy + float(change[8]) * fy
    return Camera(replace(before, fx=fx, fy=fy, cx=cx, cy=cy), pose)
