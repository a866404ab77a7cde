import math

import numpy as np
import pytest
import torch
from PIL import Image

from smerf.capture.types import Camera, Frame, Intrinsics
from smerf.errors import InvalidDataError
from smerf.fields.ray_bank import RayBank, camera_rays

LENSES = [
    Intrinsics("PINHOLE", 6, 4, 5.0, 5.5, 3.1, 1.9),
    Intrinsics("OPENCV", 5, 7, 6.0, 6.0, 2.5, 3.5, (0.05, -0.01, 0.001, 0.002)),
    Intrinsics("OPENCV_FISHEYE", 6, 6, 4.0, 4.0, 3.0, 3.0, (0.01, 0.0, 0.0, 0.0)),
]


def pose(seed):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    return np.concatenate([rotation, np.array([[0.1 * seed], [-0.3], [0.5]])], 1)


def make_frame(folder, index, lens, channels=3, mask=None):
    rng = np.random.default_rng(index)
    photo = rng.integers(0, 256, (lens.height, lens.width, channels), dtype=np.uint8)
    path, mask_path = folder / f"{index}.png", None
    Image.fromarray(photo).save(path)
    if mask is not None:
        mask_path = folder / f"{index}_mask.png"
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(mask_path)
    return Frame(str(index), path, Camera(lens, pose(index)), "train", mask_path), photo


@pytest.mark.parametrize("lenses", [LENSES[:1] * 3, LENSES], ids=["one lens", "three lenses"])
def test_every_pixel_has_its_ray_and_its_colour(tmp_path, lenses):
    frames, photos = zip(*(make_frame(tmp_path, i, lens) for i, lens in enumerate(lenses)))
    bank = RayBank(frames)
    assert len(bank) == sum(lens.width * lens.height for lens in lenses)
    batch = bank.gather(torch.arange(len(bank)))
    for index, (frame, photo) in enumerate(zip(frames, photos)):
        here = batch.frames == index
        rays = camera_rays(frame.camera)
        torch.testing.assert_close(batch.rays.origins[here], rays.origins)
        torch.testing.assert_close(batch.rays.directions[here], rays.directions, rtol=0, atol=2e-6)
        torch.testing.assert_close(batch.rays.radii[here], rays.radii)
        colours = torch.from_numpy(photo.reshape(-1, 3)).float() / 255
        assert torch.equal(batch.colours[here], colours)
    assert (batch.alpha == 1).all()
    torch.testing.assert_close(batch.rays.directions.norm(dim=-1), torch.ones(len(bank)))


def test_the_middle_of_a_lens_looks_forward_and_a_cone_is_a_pixel_wide():
    camera = Camera(Intrinsics("PINHOLE", 3, 3, 100.0, 100.0, 1.5, 1.5), pose(2))
    rays = camera_rays(camera)
    forward = torch.tensor(-camera.world_from_cam[:, 2], dtype=torch.float32)
    torch.testing.assert_close(rays.directions[4], forward)
    assert rays.radii[4].item() == pytest.approx(0.01 / math.sqrt(3), rel=1e-3)


def test_masked_pixels_are_never_sampled(tmp_path):
    lens = LENSES[0]
    mask = np.zeros((lens.height, lens.width), bool)
    mask[1, 2:5] = True
    frames, photos = zip(make_frame(tmp_path, 0, lens, mask=mask), make_frame(tmp_path, 1, lens))
    bank = RayBank(frames)
    assert len(bank) == 3 + lens.width * lens.height
    batch = bank.gather(torch.arange(3))
    assert (batch.frames == 0).all()
    assert torch.equal(batch.colours, torch.from_numpy(photos[0][1, 2:5]).float() / 255)
    wanted = camera_rays(frames[0].camera).directions.view(lens.height, lens.width, 3)[1, 2:5]
    torch.testing.assert_close(batch.rays.directions, wanted, rtol=0, atol=2e-6)


def test_photos_with_and_without_alpha_mix(tmp_path):
    frames, photos = zip(make_frame(tmp_path, 0, LENSES[0], 4), make_frame(tmp_path, 1, LENSES[0], 3))
    batch = RayBank(frames).gather(torch.tensor([5, 24 + 5]))
    assert batch.colours.shape == (2, 3) and batch.alpha.shape == (2, 1)
    assert batch.alpha[0].item() == pytest.approx(photos[0].reshape(-1, 4)[5, 3] / 255)
    assert batch.alpha[1] == 1


def test_nothing_to_train_on_is_said(tmp_path):
    with pytest.raises(InvalidDataError, match="no training photo"):
        RayBank([])
    frame, _ = make_frame(tmp_path, 0, LENSES[0], mask=np.zeros((4, 6), bool))
    with pytest.raises(InvalidDataError, match=r"0_mask\.png: the masks leave no pixel"):
        RayBank([frame])


def test_rays_from_between_the_cameras_stand_on_lines_and_look_like_neighbours(tmp_path):
    lens = Intrinsics("PINHOLE", 8, 6, 20.0, 20.0, 4.0, 3.0)
    frames = [make_frame(tmp_path, i, lens)[0] for i in range(12)]
    bank = RayBank(frames)
    rays = bank.sample_between(500, 2, torch.Generator().manual_seed(0))
    assert len(rays) == 2000
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(2000))
    # The cameras stand 0.1 apart in a row: of the others only the eight nearest count.
    x = rays.origins[:, 0]
    assert (rays.origins[:, 1:] == torch.tensor([-0.3, 0.5])).all() and x.min() >= 0.0 and x.max() <= 1.1001
    assert ((x * 10.0 - (x * 10.0).round()).abs() > 0.02).float().mean() > 0.5
    # A patch stands in one place, and its rays lie side by side in one camera.
    assert torch.equal(x.view(500, 4).amax(-1), x.view(500, 4).amin(-1))
    apart = (rays.directions.view(500, 4, 3)[:, 0] * rays.directions.view(500, 4, 3)[:, 3]).sum(-1)
    assert (apart > 0.99).all()
    forward = torch.tensor(np.stack([-f.camera.world_from_cam[:, 2] for f in frames]), dtype=torch.float32)
    assert ((rays.directions @ forward.T).amax(-1) > 0.96).all()
