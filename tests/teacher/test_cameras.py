import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.capture import load_capture
from smerf.capture.types import Intrinsics
from smerf.fields.ray_bank import camera_rays
from smerf.teacher import train_teacher
from smerf.teacher.cameras import PARAMETERS, CameraRefinement, _project, preconditioner
from tests.helpers.ball import make_capture
from tests.helpers.shrunk_teacher import shrunk

LENS = Intrinsics("PINHOLE", 320, 240, 300.0, 300.0, 160.0, 120.0)


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return make_capture(tmp_path_factory.mktemp("ball"), count=4)


def train_frames(capture):
    return capture.split("train")


def moved(refinement, seed=0, size=0.3):
    with torch.no_grad():
        refinement.codes += size * torch.randn(
            refinement.codes.shape, generator=torch.Generator().manual_seed(seed)
        )
    return refinement


def test_unchanged_cameras_cast_unchanged_rays(capture):
    frames = train_frames(capture)
    refinement = CameraRefinement(frames)
    rays = camera_rays(frames[1].camera)
    found = refinement(rays, torch.full((len(rays),), 1))
    torch.testing.assert_close(found.directions, rays.directions, rtol=0, atol=1e-6)
    assert torch.equal(found.origins, rays.origins)


def test_changed_rays_are_those_of_the_cameras_written_back(capture):
    refinement = moved(CameraRefinement(train_frames(capture)), size=0.02)
    refined = refinement.refine(capture)
    for index, (before, after) in enumerate(zip(train_frames(capture), train_frames(refined))):
        assert not np.allclose(before.camera.world_from_cam, after.camera.world_from_cam)
        rays = camera_rays(before.camera)
        found = refinement(rays, torch.full((len(rays),), index))
        wanted = camera_rays(after.camera)
        torch.testing.assert_close(found.directions.detach(), wanted.directions, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.origins.detach(), wanted.origins, rtol=0, atol=1e-5)
    for before, after in zip(capture.split("test"), refined.split("test")):
        assert before == after or np.array_equal(before.camera.world_from_cam, after.camera.world_from_cam)


def test_a_lens_with_distortion_moves_but_keeps_its_lens(capture):
    frames = train_frames(capture)
    lens = replace(frames[0].camera.intrinsics, model="OPENCV", distortion=(0.1, 0.0, 0.0, 0.0))
    frames = [replace(f, camera=replace(f.camera, intrinsics=lens)) for f in frames]
    refinement = moved(CameraRefinement(frames))
    change = refinement.parameters_of(torch.arange(len(frames)))
    assert (change[:, 6:] == 0).all() and change[:, :6].abs().min() > 0


def test_preconditioned_parameters_move_pixels_alike():
    """One unit of any code moves the frustum's points about equally; plain parameters differ a hundredfold."""
    generator = torch.Generator().manual_seed(3)
    depth = torch.logspace(-0.4, 3, 4000).double()
    plane = (torch.rand(4000, 2, generator=generator).double() - 0.5) * torch.tensor([320 / 300, 240 / 300])
    points = torch.cat([plane, -torch.ones(4000, 1).double()], -1) * depth[:, None]
    moves = 1e-4 * torch.eye(PARAMETERS).double()
    slope = (
        torch.stack([_project(points, move) - _project(points, 0 * move) for move in moves], -1)
        * 1e4
        * (300 / 320)
    )
    matrix = preconditioner(LENS).double()
    plain = slope.square().sum(1).mean(0).sqrt()
    conditioned = (slope @ matrix).square().sum(1).mean(0).sqrt()
    assert plain.max() / plain.min() > 3.0 * conditioned.max() / conditioned.min()
    assert conditioned.max() < 2.0 and torch.allclose(matrix, matrix.T)


def test_gradients_bring_a_turned_camera_back(capture):
    frames = train_frames(capture)
    truth = camera_rays(frames[0].camera)
    refinement = moved(CameraRefinement(frames[:1]), size=0.02)
    which = torch.zeros(len(truth), dtype=torch.long)
    adam = torch.optim.Adam(refinement.parameters(), lr=2e-3)

    def error():
        rays = refinement(truth, which)
        ends = [
            r.origins[:, None] + torch.tensor([1.0, 3.0])[:, None] * r.directions[:, None]
            for r in (rays, truth)
        ]
        return (ends[0] - ends[1]).square().mean()

    start = error().item()
    for _ in range(120):
        adam.zero_grad()
        error().backward()
        adam.step()
    assert error().item() < 0.02 * start


def test_refined_cameras_are_written_and_read(capture, tmp_path):
    # Rates far above the usual: a few steps shall move the cameras visibly.
    config = shrunk("standard", refine_cameras=True, camera_lr=1e-2, steps=8)
    train_teacher(capture, config, folder=tmp_path)
    refined = load_capture(tmp_path / "transforms.json")
    assert [f.name for f in refined.frames] == [f.name for f in capture.frames]
    focal = [f.camera.intrinsics.fx for f in refined.split("train")]
    assert all(math.isfinite(f) and f != 30.0 for f in focal)
