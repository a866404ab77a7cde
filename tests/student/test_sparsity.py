from dataclasses import replace

import torch

from smerf.engine.loop import run_steps
from smerf.kernels import grid_read, grid_render
from smerf.kernels.reference.grid_render import frustum_mean
from smerf.kernels.vertices import block_coordinates
from smerf.student.initialise import to_contracted
from smerf.student.losses import sparse_rays
from smerf.student.optimizer import HashOptimizer
from smerf.student.plan import resolve_config
from smerf.student.trainer import StudentTrainer
from tests.helpers.toy_room import CONFIG, Room, make_capture, make_student


def test_random_points_say_the_alpha_of_one_marching_step():
    grids = make_student(Room(), noise=0.3).submodels[0].grids
    rays, edges = sparse_rays(grids.spec, block_coordinates(grids), 2000, 5, torch.Generator().manual_seed(1))
    assert edges.shape == (2000, 6) and (edges.diff(dim=-1)[:, 1:] == 0).all()
    alpha = grid_render(grids, torch.zeros(1), rays.origins, rays.directions, edges)[1]
    assert (alpha[:, 1:] == 0).all()
    middle = frustum_mean(edges[:, :1], edges[:, 1:2])
    points = to_contracted(rays.origins + middle * rays.directions, grids.spec)
    near = to_contracted(rays.origins + edges[:, :1] * rays.directions, grids.spec)
    far = to_contracted(rays.origins + edges[:, 1:2] * rays.directions, grids.spec)
    within = points.abs().amax(-1) < 1.4
    # A step of the march is one texel long, wherever it is; only where space bends within it is it a little off.
    length = (far - near).norm(dim=-1)[within] / grids.spec.step
    assert ((length - 1.0).abs() < 0.03).float().mean() > 0.97
    voxels, planes, _ = grid_read(grids, points)
    density = torch.exp(voxels[:, 0] + voxels[:, 7] * planes[:, 0] - 1.0)
    wanted = -torch.expm1(-density * edges.diff(dim=-1)[:, 0])
    assert within.float().mean() > 0.3 and wanted[within].max() > 0.2
    assert ((alpha[:, 0] - wanted)[within].abs() < 0.02).float().mean() > 0.97


def start(tmp_path, config):
    capture = make_capture(tmp_path)
    trainer = StudentTrainer(Room(), capture, resolve_config(config, Room(), capture))
    trainer.prepare()
    return trainer


def test_sparsity_thins_what_no_ray_needs(tmp_path):
    def haze(weight):
        config = replace(CONFIG, steps=40, sparsity_weight=weight, sparsity_points=4096)
        trainer = start(tmp_path, config)
        run_steps(trainer, 40)
        grids = trainer.submodel.grids
        points = torch.rand(4096, 3, generator=torch.Generator().manual_seed(2)) * 3.0 - 1.5
        voxels, planes, there = grid_read(grids, points)
        return float((voxels[:, 0] + voxels[:, 7] * planes[:, 0])[there].mean())

    assert haze(5.0) < haze(0.0) - 1.0


def test_gradients_are_clipped_module_by_module(tmp_path):
    config = replace(
        CONFIG,
        parameterisation="hash",
        steps=3,
        sparsity_weight=0.01,
        sparsity_points=256,
        max_gradient_norm=1e-3,
    )
    trainer = start(tmp_path, config)
    trainer.advance()
    assert isinstance(trainer.optimizer, HashOptimizer)
    # After one step the first moments are a tenth of the gradients.
    decoder = 10.0 * trainer.optimizer.tensors()["adam.0.exp_avg"]
    for module in ([decoder], [p.grad for p in trainer.submodel.appearance.parameters()]):
        norm = torch.stack([gradient.norm() for gradient in module]).norm()
        assert 0.0 < norm <= 1.001e-3
