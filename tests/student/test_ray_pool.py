import torch
from toy_room import Room, make_capture

from smerf.fields.ray_bank import RayBank
from smerf.student.teacher_rays import TeacherRays


class Half(Room):
    """A room of which only the part with x > 0 exists: many rays meet nothing."""

    def density(self, points):
        return torch.where(points[..., 0] > 0.0, super().density(points), torch.zeros(()))


def stream(teacher, tmp_path, size=2048):
    bank = RayBank(make_capture(tmp_path).split("train"))
    generator = torch.Generator().manual_seed(0)
    return TeacherRays(teacher, bank, size, origin_jitter=0.0, direction_jitter=0.0, generator=generator)


def test_rays_that_meet_nothing_are_mostly_left_out(tmp_path):
    rays = stream(Half(), tmp_path)
    raw = rays.fresh(2048).weights.sum(-1) < 0.005
    while rays.filled < rays.size:
        rays.renew(2048)
    kept = rays.sample(1024).weights.sum(-1) < 0.005
    assert raw.float().mean() > 0.1
    # An empty ray keeps one chance in eight.
    expected = 0.125 * raw.float().mean() / (1.0 - 0.875 * raw.float().mean())
    assert 0.5 * expected < kept.float().mean() < 1.7 * expected


def test_rays_with_large_errors_are_drawn_more_often(tmp_path):
    rays = stream(Room(), tmp_path)
    rays.renew(2048)
    hard = torch.zeros(2048, dtype=torch.bool)
    hard[:256] = True
    for _ in range(60):
        rows = rays.sample(512).rows
        rays.note_errors(rows, torch.where(hard[rows], 0.2, 0.02))
    drawn = torch.cat([rays.sample(512).rows for _ in range(8)])
    assert hard[drawn].float().mean() > 1.5 * 256 / 2048
    # No ray is given up.
    assert (~hard[drawn]).float().mean() > 0.3


def test_fresh_rays_are_neither_hard_nor_easy(tmp_path):
    rays = stream(Room(), tmp_path)
    rays.renew(2048)
    for _ in range(40):
        rows = rays.sample(512).rows
        rays.note_errors(rows, torch.full((512,), 0.3))
    rays.renew(1024)
    drawn = torch.cat([rays.sample(512).rows for _ in range(8)])
    assert 0.4 < (drawn < 1024).float().mean() < 0.6


def test_some_rays_are_of_cameras_that_no_photo_is_from(tmp_path):
    bank = RayBank(make_capture(tmp_path).split("train"))
    generator = torch.Generator().manual_seed(0)
    rays = TeacherRays(
        Room(), bank, 512, patch=2, origin_jitter=0.0, direction_jitter=0.0, between=0.25, generator=generator
    )
    origins = rays.fresh(4096).rays.origins
    # By products of matrices, distances this small would be rounding.
    distance = torch.cdist(origins, bank.centres, compute_mode="donot_use_mm_for_euclid_dist")
    photographed = distance.amin(-1) < 1e-4
    # A camera may be paired with itself.
    assert 0.15 < 1.0 - photographed.float().mean() < 0.25
    assert torch.equal(origins[0::4], origins[3::4])
    assert 0.05 < 1.0 - photographed[:1024].float().mean() < 0.4
