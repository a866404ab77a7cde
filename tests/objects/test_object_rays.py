"""Ray codes and cameras of object scenes against independent formulas."""

import math

import numpy as np
import pytest
import torch

from smerf.objects.cameras import (
    from_cv,
    look_at,
    make_camera,
    pixel_directions,
    pose_and_fov,
    resize_camera,
    to_cv,
    to_reference_frame,
    view_rays,
)
from smerf.objects.config import RayCode
from smerf.objects.model.ray_code import encode_rays, frequency_code, slab_points


def test_the_code_is_that_of_an_independent_formula():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    octaves, start = 6, -2
    angles = np.stack([2.0**k * np.pi * x[:, j] for j in range(3) for k in range(start, start + octaves)], 1)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    np.testing.assert_allclose(
        frequency_code(torch.from_numpy(x), octaves, start).numpy(), expected, atol=2e-5
    )


def test_the_code_of_zero_is_zeros_then_ones():
    code = frequency_code(torch.zeros(3), 15, -5)
    assert code.tolist() == [0.0] * 45 + [1.0] * 45


def test_the_code_stays_exact_under_autocast():
    x = torch.tensor([[3.1, -2.7, 1.3]])
    with torch.autocast("cpu", torch.bfloat16):
        code = frequency_code(x.bfloat16().float(), 15, 0)
    assert code.dtype == torch.float32
    assert torch.equal(code, frequency_code(x.bfloat16().float(), 15, 0))


@pytest.mark.parametrize(
    ("code", "size"), [(RayCode(), 180), (RayCode(6, -4, 5, -1), 66), (RayCode(6, -4, 5, -1, 4), 98)]
)
def test_the_size_of_a_code(code, size):
    rays = torch.zeros(2, 3), torch.tensor([0.0, 0.0, -1.0]).expand(2, 3)
    assert encode_rays(*rays, code).shape == (2, size) and code.size == size


def test_one_origin_serves_many_directions():
    directions = torch.nn.functional.normalize(torch.randn(2, 4, 5, 3), dim=-1)
    origins = torch.randn(2, 1, 1, 3)
    code = RayCode(6, -4, 5, -1, 2)
    full = encode_rays(origins.expand_as(directions), directions, code)
    assert torch.equal(encode_rays(origins, directions, code), full)


def test_slab_points_lie_on_the_ray():
    origins, directions = torch.tensor([[4.0, 0.0, 3.0]]), torch.tensor([[-0.8, 0.0, -0.6]])
    points = slab_points(origins, directions, (0.0, 1.5))
    assert torch.allclose(points, torch.tensor([[0.0, 0.0, 2.0, 0.0]]), atol=1e-6)
    up = slab_points(origins, torch.tensor([[0.6, 0.0, 0.8]]), (0.0, 1.5))
    assert torch.isfinite(up).all() and (up[..., :2].norm(dim=-1) <= 8.001).all()


def test_the_central_ray_passes_through_the_origin():
    centre = torch.tensor([[5.0, 3.0, 4.0], [-6.0, 1.0, 2.5]], dtype=torch.float64)
    forward = -look_at(centre)[..., 2]
    assert (torch.linalg.cross(centre, forward).norm(dim=-1) < 1e-6).all()
    assert ((centre * forward).sum(-1) < 0).all()


def test_a_camera_is_level_and_right_handed():
    rotation = look_at(torch.tensor([5.0, 3.0, 4.0], dtype=torch.float64))[:, :3]
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.linalg.det(rotation).item() == pytest.approx(1.0)
    assert rotation[2, 0].abs() < 1e-12 and rotation[2, 1] > 0  # x level, y up


def test_a_camera_cannot_look_straight_down():
    with pytest.raises(ValueError, match="centre"):
        look_at(torch.tensor([0.0, 0.0, 5.0]))


def test_the_field_of_view_of_the_published_lens():
    fov = torch.tensor(2 * math.atan(16 / 35))
    pose = torch.eye(3, 4)
    edges = [
        pixel_directions(pose, fov, torch.tensor(c), torch.tensor(59.5), (120, 160)) for c in (-0.5, 159.5)
    ]
    angle = math.degrees(torch.arccos((edges[0] * edges[1]).sum()).item())
    assert angle == pytest.approx(49.13, abs=0.01)


def test_rows_run_down_and_columns_right():
    centre = torch.tensor([0.0, -5.0, 0.5])
    _, directions = view_rays(look_at(centre), torch.tensor(1.0), (8, 8))
    assert (directions[0, :, 2] > directions[-1, :, 2]).all() and (
        directions[:, -1, 0] > directions[:, 0, 0]
    ).all()


def test_the_reference_frame_keeps_rays_together():
    poses = look_at(torch.randn(2, 3, 3, dtype=torch.float64) * 4)
    centre, rotation = to_cv(poses)
    moved, rotated = to_cv(to_reference_frame(poses))
    assert torch.allclose(moved[:, 0], torch.zeros(2, 3, dtype=torch.float64))
    assert torch.allclose(rotated[:, 0], torch.eye(3, dtype=torch.float64).expand(2, 3, 3), atol=1e-12)
    # A world point seen from view 1 at the same place in both frames.
    point = torch.tensor([0.3, -0.2, 0.7], dtype=torch.float64)
    seen = (rotation[:, 1] @ (point - centre[:, 1])[..., None])[..., 0]
    inside = (rotation[:, 0] @ (point - centre[:, 0])[..., None])[..., 0]
    again = (rotated[:, 1] @ (inside - moved[:, 1])[..., None])[..., 0]
    assert torch.allclose(seen, again)


def test_both_conventions_describe_one_camera():
    pose = look_at(torch.tensor([[5.0, 3.0, 4.0], [-6.0, 1.0, 2.5]]))
    centre, rotation = to_cv(pose)
    assert torch.equal(from_cv(centre, rotation), pose)
    # The origin lies on the axis of a camera that looks at it: at depth |centre|.
    seen = (rotation @ -centre[..., None])[..., 0]
    depth = centre.norm(dim=-1)
    assert torch.allclose(seen, torch.stack([0 * depth, 0 * depth, depth], -1), atol=1e-5)


def test_a_resized_camera_keeps_pose_and_field_of_view():
    pose = look_at(torch.tensor([5.0, 3.0, 4.0]))
    camera = make_camera(pose, 0.8, (24, 32))
    resized = resize_camera(camera, (60, 64))
    assert (resized.intrinsics.width, resized.intrinsics.height) == (64, 60)
    for each in (camera, resized):
        again, fov_x = pose_and_fov(each)
        assert torch.equal(again, pose) and fov_x == pytest.approx(0.8)
