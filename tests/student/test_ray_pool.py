from dataclasses import replace

import torch

from smerf.fields.ray_bank import RayBank
from smerf.student.ray_pool import RayPool, TeacherRays
from tests.helpers.toy_room import CONFIG, Room, make_capture


class Half(Room):
    """A room of which only the part with x > 0 exists: many rays meet nothing."""

    def density(self, points):
        return torch.where(points[..., 0] > 0.0, super().density(points), torch.zeros(()))


STILL = replace(CONFIG, origin_jitter=0.0, direction_jitter=0.0)


def source(teacher, tmp_path, config=STILL):
    bank = RayBank(make_capture(tmp_path).split("train"))
    return TeacherRays(teacher, bank, config, torch.Generator().manual_seed(0))


def make_pool(teacher, tmp_path, size=2048):
    return RayPool(source(teacher, tmp_path), size)


def test_rays_that_meet_nothing_are_mostly_left_out(tmp_path):
    pool = make_pool(Half(), tmp_path)
    raw = pool.source.sample(2048).weights.sum(-1) < 0.005
    while pool.filled < pool.size:
        pool.refill(2048)
    kept = pool.sample(1024).weights.sum(-1) < 0.005
    assert raw.float().mean() > 0.1
    # An empty ray keeps one chance in eight.
    expected = 0.125 * raw.float().mean() / (1.0 - 0.875 * raw.float().mean())
    assert 0.5 * expected < kept.float().mean() < 1.7 * expected


def test_rays_with_large_errors_are_sampled_more_often(tmp_path):
    pool = make_pool(Room(), tmp_path)
    pool.refill(2048)
    hard = torch.zeros(2048, dtype=torch.bool)
    hard[:256] = True
    for _ in range(60):
        rows = pool.sample(512).rows
        pool.note_errors(rows, torch.where(hard[rows], 0.2, 0.02))
    sampled = torch.cat([pool.sample(512).rows for _ in range(8)])
    assert hard[sampled].float().mean() > 1.5 * 256 / 2048
    # No ray is given up.
    assert (~hard[sampled]).float().mean() > 0.3


def test_new_rays_are_neither_hard_nor_easy(tmp_path):
    pool = make_pool(Room(), tmp_path)
    pool.refill(2048)
    for _ in range(40):
        rows = pool.sample(512).rows
        pool.note_errors(rows, torch.full((512,), 0.3))
    pool.refill(1024)
    sampled = torch.cat([pool.sample(512).rows for _ in range(8)])
    assert 0.4 < (sampled < 1024).float().mean() < 0.6


def test_some_rays_are_of_cameras_that_no_photo_is_from(tmp_path):
    rays = source(Room(), tmp_path, replace(STILL, patch=2, view_interpolation=0.25))
    origins, bank = rays.sample(4096).rays.origins, rays.bank
    # By products of matrices, distances this small would be rounding.
    distance = torch.cdist(origins, bank.centres, compute_mode="donot_use_mm_for_euclid_dist")
    photographed = distance.amin(-1) < 1e-4
    # A camera may be paired with itself.
    assert 0.15 < 1.0 - photographed.float().mean() < 0.25
    assert torch.equal(origins[0::4], origins[3::4])
    assert 0.05 < 1.0 - photographed[:1024].float().mean() < 0.4


def test_a_pool_restored_from_its_refills_holds_the_same_rays(tmp_path):
    first, second = make_pool(Half(), tmp_path), make_pool(Half(), tmp_path)
    for count in (2048, 2048, 700, 300, 900, 1100):
        first.refill(count)
    rows = first.sample(512).rows
    first.note_errors(rows, torch.linspace(0.0, 1.0, 512))
    state = first.source.generator.get_state()
    second.restore({name: value.clone() for name, value in first.tensors().items()}, first.state())
    second.source.generator.set_state(state)
    for _ in range(3):
        one, other = first.sample(512), second.sample(512)
        assert torch.equal(one.rays.origins, other.rays.origins) and torch.equal(one.rows, other.rows)
        assert torch.equal(one.edges, other.edges) and torch.equal(one.colour, other.colour)
        first.refill(600), second.refill(600)
    assert first.state() == second.state()
