import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.capture.types import Camera, Intrinsics
from smerf.errors import UsageError
from smerf.kernels.reference.contraction import contract, uncontract
from smerf.render import pieces, reference
from smerf.render.camera import near_rays, to_submodel
from smerf.scene import BakedScene, BakedSubmodel, Manifest, SceneParams
from smerf.scene.example import example_camera, example_scene
from smerf.scene.grids import build_atlas, distance_grid, max_pool, pack_bits
from smerf.scene.view import MarchOptions


def random_rays(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    o = 3.0 * torch.rand(count, 3, generator=generator) - 1.5
    d = torch.randn(count, 3, generator=generator)
    return o, d / d.norm(dim=-1, keepdim=True)


def region_of(x: torch.Tensor) -> torch.Tensor:
    magnitude = x.abs()
    axis = magnitude.argmax(-1)
    sign = (x.gather(-1, axis[:, None])[:, 0] > 0).long()
    return torch.where(magnitude.amax(-1) <= 1, 0, 1 + 2 * axis + sign)


def test_region_exits_are_where_the_region_changes():
    o, d = random_rays(200)
    exits = pieces.region_exits(o, d, 0.1)
    t = torch.linspace(0.1, 40.0, 8001)
    for ray in range(len(o)):
        regions = region_of(o[ray] + t[:, None] * d[ray])
        changes = t[1:][regions[1:] != regions[:-1]]
        found = exits[ray][exits[ray] < 40.0]
        # A region crossed within one probing step is missed by the probe; every probed change must be found.
        assert all((found - change).abs().min() <= 0.0051 for change in changes)
        assert len(found) - len(changes) <= 2


def test_a_region_that_ends_at_the_near_plane_is_passed_over():
    # The ray stands on the border x = -1 of the inner cube when it passes the near plane at t = 1.
    o, d = torch.tensor([[-2.0, 0.5, -1.5]]), torch.tensor([[1.0, -0.4, 1.1]])
    exits = pieces.region_exits(o, d, 1.0)
    assert (exits > 1.0 + 1e-6).all()


def test_pieces_are_straight_between_exits():
    o, d = random_rays(500, seed=1)
    exits = pieces.region_exits(o, d, 0.1)
    before, here = exits[:, 0], exits[:, 1]
    keep = (here - before > 0.2) & (here < 1e3)
    before, here, o, d = before[keep], here[keep], o[keep], d[keep]
    first, second = torch.lerp(before, here, 0.1), torch.lerp(before, here, 0.9)
    start, along, enter, leave = pieces.enter_region(o, d, first, second)
    for fraction in (0.02, 0.3, 0.6, 0.98):
        z = contract(o + torch.lerp(before, here, fraction)[:, None] * d)
        s = ((z - start) * along).sum(-1)
        assert (start + s[:, None] * along - z).abs().max() < 1e-4
        assert (s > enter - 1e-4).all() and (s < leave + 1e-4).all()


def slab_scene(density: float, low: float, high: float, **params) -> BakedScene:
    """A scene whose only content is uniform density between two heights (training z), without planes or
    colour.
    """
    texels, size = 128, 4.0 / 32
    shared = SceneParams(texels, 32, **params)
    height = (np.arange(32) + 0.5) * size - 2.0
    cells = np.zeros((32, 32, 32), bool)
    cells[8:24, :, 8:24] = ((height > low) & (height < high))[None, :, None]
    coords = np.argwhere(np.ones((4, 4, 4), bool))
    value = int(255 * (density + 14) / 28 + 0.5)
    blocks = np.zeros((64, 9, 9, 9, 8), np.uint8)
    blocks[..., 0] = value
    blocks[..., 1] = 255  # red
    blocks[..., 7] = 128
    atlas, indices = build_atlas(blocks, coords, 4)
    planes = np.full((3, texels, texels, 8), 128, np.uint8)
    submodel = BakedSubmodel(
        0, atlas, indices, planes, {8: pack_bits(cells)}, {8: distance_grid(max_pool(cells, 2))}
    )
    width = shared.num_mlp_inputs
    mlp = {}
    for i, (a, b) in enumerate([(width, 16), (16, 16), (16, 3)]):
        mlp[f"ResampleDense_{i}/kernel"] = np.zeros((1, 1, 1, 1, a, b), np.float32)
        mlp[f"ResampleDense_{i}/bias"] = np.full((1, 1, 1, 1, b), -20.0 if i == 2 else 0.0, np.float32)
    return BakedScene(shared, mlp, Manifest(), lambda k: submodel)


def test_a_uniform_slab_is_as_opaque_as_beer_and_lambert_say():
    scene = slab_scene(0.0, -0.5, 0.0, submodel_scale=2.0)
    # Bytes are rounded; the world is half as large as the submodel's frame.
    gate, plane = 14 * 128 / 255 - 7, 3 * (28 * 128 / 255 - 14)
    rho = 28 * 128 / 255 - 14 + gate * plane
    expected = 1 - math.exp(-math.exp(rho - 1) * 0.5 / 2)
    origins, directions = torch.tensor([[0.03, 0.9, 0.02]]), torch.tensor([[0.0, -1.0, 0.0]])
    channels, visibility = reference.march(scene.submodel(0), scene.params, origins, directions, 0.1)
    # The march ends up to one step of 1/32 beyond the slab of 0.5.
    assert 1 - visibility.item() == pytest.approx(expected, rel=0.07)
    red = 1 / (1 + math.exp(-7 - gate * 3 * (14 * 128 / 255 - 7)))
    assert channels[0, 0].item() == pytest.approx((1 - visibility.item()) * red, rel=1e-3)


def test_nothing_before_the_near_plane_is_drawn():
    scene = slab_scene(8.0, -0.5, 0.0)
    origins, directions = torch.tensor([[0.03, 0.9, 0.02]]), torch.tensor([[0.0, -1.0, 0.0]])
    march = reference.march
    assert march(scene.submodel(0), scene.params, origins, directions, 0.5)[1].item() < 0.01
    assert march(scene.submodel(0), scene.params, origins, directions, 1.6)[1].item() == 1.0


def test_sampling_reads_blocks_planes_and_gate_as_written():
    scene = example_scene(64)
    params, submodel = scene.params, scene.submodel(0)
    rng = np.random.default_rng(0)
    block = np.argwhere(submodel.block_indices[..., 0] != 255)[7]
    g = (block * 8 + rng.uniform(0, 8, (50, 3))).astype(np.float64)
    positions = (g + 0.5) * params.sparse_grid_voxel_size - 2.0
    density, fine, coarse = reference.sample_assets(submodel, params, torch.from_numpy(positions))

    def lerp(array, where):
        """Interpolate one axis after another, sample centres at whole numbers, clamped at the edge."""
        for x in where:
            i = math.floor(x)
            last = array.shape[0] - 1
            a, b = array[min(max(i, 0), last)], array[min(max(i + 1, 0), last)]
            array = a + (x - i) * (b.astype(float) - a)
        return array

    for n in range(50):
        slot = submodel.block_indices[tuple(block)].astype(int)
        sparse = lerp(submodel.atlas, g[n] - block * 8 + slot * 9)
        texel = (positions[n] + 2) / params.triplane_voxel_size - 0.5
        x, y, z = texel
        pairs = ((y, z), (x, z), (x, y))
        planes = sum(lerp(submodel.planes[i], pair) for i, pair in enumerate(pairs))
        low, scale = np.array([-14] + 7 * [-7]), np.array([28] + 7 * [14]) / 255
        sparse = low + scale * sparse
        total = sparse + sparse[7] * (3 * low + scale * planes)
        assert density[n].item() == pytest.approx(total[0], abs=1e-5)
        assert np.allclose(fine[n], total[1:], atol=1e-5) and np.allclose(coarse[n], sparse[1:], atol=1e-5)


def test_an_empty_block_has_no_density():
    scene = example_scene(128)
    block = np.argwhere(scene.submodel(0).block_indices[..., 0] == 255)[0]
    position = (torch.from_numpy(block) * 8 + 4.5) * scene.params.sparse_grid_voxel_size - 2.0
    density, fine, _ = reference.sample_assets(scene.submodel(0), scene.params, position[None].float())
    assert density.item() == -math.inf and not fine.any()


def empty(scene: BakedScene) -> BakedScene:
    submodel = scene.submodel(0)
    nothing = type(submodel)(**{**vars(submodel), "block_indices": np.full_like(submodel.block_indices, 255)})
    return BakedScene(scene.params, scene.mlp, scene.manifest, lambda k: nothing)


def test_an_empty_ray_shows_what_the_network_makes_of_the_background():
    snerg = empty(example_scene(32, lattice=1))
    camera = example_camera(8, 6)
    grey, red = (reference.render_camera(snerg, camera, background=b) for b in (None, (1.0, 0.0, 0.0)))
    assert np.abs(grey - red).max() > 1e-3 and red.max() < 0.5
    vfr = empty(example_scene(32, lattice=1, deferred_rendering_mode="vfr"))
    shown = reference.render_camera(vfr, camera, background=(0.7, 0.0, 0.0))
    none = reference.render_camera(vfr, camera, background=(0.0, 0.0, 0.0))
    assert np.allclose(shown - none, [0.7, 0.0, 0.0], atol=1e-5)


def test_exposure_reaches_the_network_only_and_the_files_own_wins():
    plain, fixed = example_scene(32), example_scene(32, default_exposure=2.0)
    camera = example_camera(12, 9)
    neutral = reference.render_camera(plain, camera)
    bright = reference.render_camera(plain, camera, options=MarchOptions(exposure=2.0))
    assert np.abs(neutral - bright).max() > 1e-3
    assert np.array_equal(bright, reference.render_camera(fixed, camera, options=MarchOptions(exposure=0.1)))


def test_enlarging_steps_changes_little():
    scene, camera = example_scene(64), example_camera(32, 24)
    exact = reference.render_camera(scene, camera)
    enlarged = reference.render_camera(scene, camera, options=MarchOptions(True, 0.8))
    difference = np.abs(exact - enlarged).max(-1)
    assert difference.max() > 0.0 and np.mean(difference <= 8 / 255) >= 0.9


def test_the_gate_scales_the_planes():
    scene, camera = example_scene(64), example_camera(32, 24)
    params = replace(scene.params, feature_gating=False)
    ungated = BakedScene(params, scene.mlp, scene.manifest, scene.load)
    difference = reference.render_camera(scene, camera) - reference.render_camera(ungated, camera)
    assert np.abs(difference).mean() > 2 / 255


def test_skipping_empty_space_changes_nothing_that_is_seen():
    scene, camera = example_scene(128), example_camera(32, 24)
    submodel = scene.submodel(0)
    # The outermost shell stays empty: one step there is longer than the scene.
    full = np.zeros_like(submodel.occupancy[8])
    full[1:-1, 1:-1, 1:-1] = 255
    walked = replace(submodel, occupancy={8: full}, distance={8: np.zeros_like(full)})
    slow = BakedScene(scene.params, scene.mlp, scene.manifest, lambda k: walked)
    fast, exact = (reference.render_camera(s, camera) for s in (scene, slow))
    # Sample positions differ by up to half a step, and samples fainter than the baking threshold are dropped.
    assert np.abs(fast - exact).mean() < 1.5 / 255


def test_submodels_draw_the_same_world_from_their_own_frames():
    camera = example_camera(32, 24)
    visibility = []
    for scene in (example_scene(96), example_scene(96, 2, (2, 3), submodel_scale=1.0)):
        k = scene.params.choose_submodel(camera.world_from_cam[:, 3])
        rays = to_submodel(scene.params, k, *near_rays(camera, 0.05))
        o, d = (torch.from_numpy(a) for a in rays)
        visibility.append(reference.march(scene.submodel(k), scene.params, o.expand_as(d).contiguous(), d)[1])
    is_solid = [v < 0.5 for v in visibility]
    assert 0.5 < is_solid[0].float().mean() < 0.99
    # Grids of the two frames do not coincide: outlines move by a voxel.
    assert (is_solid[0] == is_solid[1]).float().mean() > 0.9


def test_a_ray_along_an_axis_through_cell_borders_is_drawn():
    scene = slab_scene(8.0, -0.5, 0.0)
    channels, visibility = reference.march(
        scene.submodel(0),
        scene.params,
        torch.tensor([[0.0, 1.0, 0.0]]),
        torch.tensor([[0.0, -1.0, 0.0]]),
        0.1,
    )
    assert torch.isfinite(channels).all() and visibility.item() < 0.01


def test_no_rays_give_no_colours():
    scene = example_scene(32)
    assert reference.render_rays(scene, 0, np.zeros((1, 3)), np.zeros((0, 3))).shape == (0, 3)


def test_pixels_look_through_their_centres_and_t_1_is_the_near_plane():
    pose = np.array([[1.0, 0, 0, 5], [0, 0, -1, 6], [0, 1, 0, 7]])
    camera = Camera(Intrinsics("PINHOLE", 4, 2, 2.0, 2.0, 2.0, 1.0), pose)
    origins, directions = near_rays(camera, 0.1)
    assert np.allclose(origins, [[5, 6, 7]])
    assert np.allclose(directions[0] / 0.1, [-0.75, 1.0, 0.25], atol=1e-6)
    assert np.allclose(directions[-1] / 0.1, [0.75, 1.0, -0.25], atol=1e-6)


@pytest.mark.parametrize("values", [{"step_multiplier": 0}, {"visibility_delay": 1.5}, {"exposure": -1.0}])
def test_senseless_options_are_refused(values):
    with pytest.raises(UsageError):
        MarchOptions(**values)


def test_a_near_plane_must_be_positive():
    with pytest.raises(UsageError, match="near"):
        reference.render_camera(example_scene(32), example_camera(4, 3), near=0.0)


def test_uncontracting_undoes_contracting():
    x = 3.0 * torch.randn(100, 3, dtype=torch.float64)
    assert torch.allclose(uncontract(contract(x)), x)
