"""An analytic ray caster for spheres, boxes and cylinders on a floor, in plain PyTorch on any device.

Letters: S scenes, N objects, R rays. The floor is the plane z = 0; boxes and cylinders stand upright, boxes
rotated about z. Everything is exact: no acceleration structure, no sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BOX", "CYLINDER", "SPHERE", "Bodies", "Hit", "Look", "cast", "shade"]

SPHERE, BOX, CYLINDER = 0, 1, 2
_FAR = 1e9
_SKIN = 0.01


@dataclass(frozen=True)
class Bodies:
    """Objects of scenes; all tensors float32 unless said otherwise.

    ``kind`` (S, N) int64, -1 for an empty place; ``centre`` (S, N, 3); ``half`` (S, N, 3): radius three times,
    half sides, or radius twice and half height; ``yaw`` (S, N) radians; ``colour`` (S, N, 3) in [0, 1].
    """

    kind: Tensor
    centre: Tensor
    half: Tensor
    yaw: Tensor
    colour: Tensor


@dataclass(frozen=True)
class Look:
    """Light and surroundings: ``light`` (S, 3) unit towards the sun, ``floor`` and ``sky`` (S, 3) colours."""

    light: Tensor
    floor: Tensor
    sky: Tensor
    shadows: bool = True
    highlight: float = 0.35


@dataclass(frozen=True)
class Hit:
    """What rays meet: ``t`` (S, R), 1e9 for the sky; ``label`` (S, R) int64, 0 floor or sky, n + 1 object n."""

    t: Tensor
    label: Tensor


def cast(bodies: Bodies, origins: Tensor, directions: Tensor) -> Hit:
    """Find the nearest surface along rays (S, R, 3); directions have unit length."""
    t, nearest = _objects(bodies, origins, directions).min(1)
    down = directions[..., 2].clamp_max(-1e-9)
    floor = torch.where((directions[..., 2] < 0) & (origins[..., 2] > 0), -origins[..., 2] / down, _FAR)
    label = torch.where((t < floor) & (t < _FAR), nearest + 1, 0)
    return Hit(torch.minimum(t, floor), label)


def shade(bodies: Bodies, look: Look, origins: Tensor, directions: Tensor, hit: Hit) -> Tensor:
    """Return the colours (S, R, 3) in [0, 1] of rays: ambient, diffuse with shadow, and a soft highlight."""
    point = origins + hit.t[..., None].clamp_max(1e4) * directions
    normal, albedo = _surface(bodies, look, point, hit.label)
    light = look.light[:, None, :].expand_as(normal)
    facing = (normal * light).sum(-1).clamp_min(0.0)
    if look.shadows:
        blocked = _objects(bodies, point + _SKIN * normal, light).min(1).values < _FAR
        facing = facing * ~blocked
    half = torch.nn.functional.normalize(light - directions, dim=-1)
    shine = look.highlight * (normal * half).sum(-1).clamp_min(0.0) ** 40
    shine = shine * (facing > 0) * (hit.label > 0)
    colour = albedo * (0.35 + 0.75 * facing[..., None]) + shine[..., None]
    return torch.where((hit.t >= _FAR)[..., None], look.sky[:, None, :], colour).clamp(0.0, 1.0)


def _objects(bodies: Bodies, origins: Tensor, directions: Tensor) -> Tensor:
    """Return the distance (S, N, R) to every object, 1e9 where it is missed."""
    kinds = bodies.kind
    result = origins.new_full((*kinds.shape, origins.shape[1]), _FAR)
    for kind, test in ((SPHERE, _sphere), (BOX, _box), (CYLINDER, _cylinder)):
        # Only the scenes and places that hold this shape are tested for it.
        scene, place = (kinds == kind).nonzero(as_tuple=True)
        if len(scene):
            offset = origins[scene] - bodies.centre[scene, place][:, None]
            direction = directions[scene]
            if kind == BOX:
                yaw = bodies.yaw[scene, place]
                offset, direction = _rotate(offset, yaw), _rotate(direction, yaw)
            t = test(offset, direction, bodies.half[scene, place])
            result[scene, place] = torch.where(t > 1e-4, t, _FAR)
    return result


def _rotate(x: Tensor, yaw: Tensor) -> Tensor:
    """Rotate vectors (P, R, 3) by -yaw about z."""
    c, s = yaw.cos()[:, None], yaw.sin()[:, None]
    return torch.stack([c * x[..., 0] + s * x[..., 1], c * x[..., 1] - s * x[..., 0], x[..., 2]], -1)


def _sphere(o: Tensor, d: Tensor, half: Tensor) -> Tensor:
    b = (o * d).sum(-1)
    discriminant = b * b - (o * o).sum(-1) + half[:, None, 0] ** 2
    return torch.where(discriminant > 0, -b - discriminant.clamp_min(0.0).sqrt(), _FAR)


def _box(o: Tensor, d: Tensor, half: Tensor) -> Tensor:
    inverse = 1.0 / torch.where(d.abs() < 1e-9, 1e-9, d)
    reach = half[:, None] * inverse.abs()
    near = (-o * inverse - reach).amax(-1)
    far = (-o * inverse + reach).amin(-1)
    return torch.where(near < far, near, _FAR)


def _cylinder(o: Tensor, d: Tensor, half: Tensor) -> Tensor:
    radius, height = half[:, None, 0], half[:, None, 2]
    a = (d[..., :2] ** 2).sum(-1).clamp_min(1e-12)
    b = (o[..., :2] * d[..., :2]).sum(-1)
    discriminant = b * b - a * ((o[..., :2] ** 2).sum(-1) - radius**2)
    side = (-b - discriminant.clamp_min(0.0).sqrt()) / a
    on_side = (discriminant > 0) & ((o[..., 2] + side * d[..., 2]).abs() < height)
    down = torch.where(d[..., 2].abs() < 1e-9, -1e-9, d[..., 2])
    cap = (torch.sign(-down) * height - o[..., 2]) / down
    on_cap = ((o + cap[..., None] * d)[..., :2] ** 2).sum(-1) < radius**2
    return torch.minimum(torch.where(on_side, side, _FAR), torch.where(on_cap, cap, _FAR))


def _surface(bodies: Bodies, look: Look, point: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit normals and albedo (S, R, 3) at hit points."""
    index = (label - 1).clamp_min(0)
    scene = torch.arange(len(label), device=label.device)[:, None]
    local = point - bodies.centre[scene, index]
    half, kind, yaw = bodies.half[scene, index], bodies.kind[scene, index], bodies.yaw[scene, index]
    c, s = yaw.cos(), yaw.sin()
    x, y, z = local.unbind(-1)
    rotated = torch.stack([c * x + s * y, c * y - s * x, z], -1)
    fraction = rotated / half.clamp_min(1e-9)
    largest = torch.nn.functional.one_hot(fraction.abs().argmax(-1), 3) * fraction.sign()
    nx, ny, nz = largest.unbind(-1)
    box = torch.stack([c * nx - s * ny, s * nx + c * ny, nz], -1)
    is_cap = (z.abs() > half[..., 2] - 1e-3)[..., None]
    up = torch.stack([torch.zeros_like(z), torch.zeros_like(z), z.sign()], -1)
    cylinder = torch.where(is_cap, up, torch.stack([x, y, torch.zeros_like(z)], -1))
    normal = torch.where(
        (kind == BOX)[..., None], box, torch.where((kind == CYLINDER)[..., None], cylinder, local)
    )
    normal = torch.nn.functional.normalize(normal, dim=-1)
    on_object = (label > 0)[..., None]
    floor = torch.tensor([0.0, 0.0, 1.0], device=point.device, dtype=point.dtype)
    return (
        torch.where(on_object, normal, floor),
        torch.where(on_object, bodies.colour[scene, index], look.floor[:, None, :]),
    )
