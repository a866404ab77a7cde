"""Scenes in other people's layouts, written here by hand, and photos of a capture."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from smerf.errors import InvalidDataError, UsageError
from smerf.objects.cameras import to_cv, view_rays
from smerf.objects.data.photos import DISTANCE, views_of_capture
from smerf.objects.data.readers import open_scenes, open_views, read_kubric, read_obsurf
from smerf.objects.data.scenes import save_scenes
from tests.helpers.tiny_objects import tiny_scenes

FOV = math.degrees(2 * math.atan(16 / 35))


@pytest.fixture
def obsurf(tmp_path):
    """Three scenes in the layout of CLEVR-3D, one of which has too many objects."""
    scenes = tiny_scenes(3, fov=FOV, azimuth=170.0)
    for name in ("images", "masks", "depths"):
        (tmp_path / name).mkdir()
    for s in range(3):
        for v in range(3):
            Image.fromarray(scenes.rgb[s, v].numpy()).convert("RGBA").save(
                tmp_path / f"images/img_{s}_{v}.png"
            )
            Image.fromarray(scenes.seg[s, v].numpy()).save(tmp_path / f"masks/masks_{s}_{v}.png")
            depth = (scenes.depth[s, v].float().clamp_max(39.9) / 40 * 65536).numpy().astype(np.uint16)
            Image.fromarray(depth).save(tmp_path / f"depths/depths_{s}_{v}.png")
    shape = np.zeros((3, 10), np.int64)
    shape[0, :3], shape[1, :8], shape[2, :2] = 1, 1, 1
    np.savez(tmp_path / "metadata.npz", camera_pos=scenes.world_from_cam[..., 3].numpy(), shape=shape)
    return tmp_path, scenes


def test_clevr3d_files_are_read_as_they_were(obsurf):
    path, scenes = obsurf
    read = open_scenes(path)
    kept = torch.tensor([0, 2])
    assert len(read) == 2
    assert torch.equal(read.rgb, scenes.rgb[kept]) and torch.equal(read.seg, scenes.seg[kept])
    assert torch.allclose(read.world_from_cam, scenes.world_from_cam[kept], atol=1e-6)
    assert torch.allclose(read.fov_x, scenes.fov_x[kept], atol=1e-6)
    near = scenes.depth[kept].float() < 30
    assert torch.allclose(read.depth.float()[near], scenes.depth[kept].float()[near], atol=0.02)


def test_halved_images_keep_their_rays(obsurf):
    path, scenes = obsurf
    read = read_obsurf(path, halvings=1, limit=1)
    assert torch.equal(read.rgb[0], scenes.rgb[0, :, 1::2, 1::2])


def test_a_missing_mask_is_named(obsurf):
    path, _ = obsurf
    (path / "masks" / "masks_2_1.png").unlink()
    with pytest.raises(InvalidDataError, match="masks_2_1"):
        open_scenes(path)


@pytest.mark.parametrize("name", ["images/img_2_1.png", "masks/masks_0_2.png", "depths/depths_2_0.png"])
def test_a_file_of_another_size_is_named(obsurf, name):
    path, _ = obsurf
    with Image.open(path / name) as image:
        image.crop((0, 0, 9, 7)).save(path / name)
    with pytest.raises(InvalidDataError, match=rf"{name}: has 9x7 pixels, the first image 16x16"):
        open_scenes(path)


def test_a_mask_in_colour_and_a_camera_right_above_are_named(obsurf):
    path, scenes = obsurf
    arrays = dict(np.load(path / "metadata.npz"))
    arrays["camera_pos"][2, 1] = [0.0, 0.0, 7.0]
    np.savez(path / "metadata.npz", **arrays)
    with pytest.raises(InvalidDataError, match=r"metadata\.npz: camera_pos"):
        open_scenes(path)
    Image.fromarray(scenes.rgb[0, 1].numpy()).save(path / "masks" / "masks_0_1.png")
    with pytest.raises(InvalidDataError, match=r"masks_0_1\.png: has 3 channels"):
        open_scenes(path)


def test_a_kubric_export_gives_its_cameras_back(tmp_path):
    scenes = tiny_scenes(2)
    origins, directions = view_rays(scenes.world_from_cam, scenes.fov_x, scenes.size)
    for s in range(2):
        np.savez_compressed(
            tmp_path / f"scene_{s:07d}.npz", color_image=scenes.rgb[s].numpy(), ray_origins=origins[s].numpy(),
            instance_image=scenes.seg[s].numpy()[..., None] + 1, ray_directions=3.0 * directions[s].numpy(),
        )  # fmt: skip
    read = open_scenes(tmp_path)
    assert torch.equal(read.rgb, scenes.rgb) and torch.equal(read.seg, scenes.seg)
    assert torch.allclose(read.world_from_cam, scenes.world_from_cam, atol=1e-5)
    assert torch.allclose(read.fov_x, scenes.fov_x, atol=1e-5)
    arrays = dict(np.load(tmp_path / "scene_0000001.npz"))
    np.savez(tmp_path / "scene_0000001.npz", **{**arrays, "instance_image": arrays["instance_image"][:, :9]})
    with pytest.raises(InvalidDataError, match=r"scene_0000001\.npz: instance_image is \(3, 9, 16, 1\)"):
        read_kubric(tmp_path)
    arrays["ray_directions"] = np.random.default_rng(0).normal(size=arrays["ray_directions"].shape)
    np.savez(tmp_path / "scene_0000001.npz", **arrays)
    with pytest.raises(InvalidDataError, match=r"scene_0000001\.npz: ray_directions"):
        read_kubric(tmp_path)


def test_a_folder_without_scenes_says_how_to_make_some(tmp_path):
    with pytest.raises(UsageError, match="smerf objects synth"):
        open_scenes(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        open_scenes(tmp_path / "nothing")


def test_one_scene_of_a_set(tmp_path):
    scenes = tiny_scenes(3)
    save_scenes(scenes, tmp_path)
    assert torch.equal(open_views(tmp_path, 2, 1, (16, 16)).rgb[0], scenes.rgb[2])
    with pytest.raises(UsageError, match="--scene 3"):
        open_views(tmp_path, 3, 1, (16, 16))
    with pytest.raises(InvalidDataError, match="32x32"):
        open_views(tmp_path, 0, 1, (32, 32))


def test_photos_of_a_capture_become_views_that_look_at_the_origin(tmp_path):
    scenes = tiny_scenes(1, size=(32, 48), azimuth=120.0, views=5)
    (tmp_path / "images").mkdir()
    frames = []
    for v in range(5):
        Image.fromarray(scenes.rgb[0, v].numpy()).save(tmp_path / f"images/{v}.png")
        pose = np.eye(4)
        pose[:3] = scenes.world_from_cam[0, v].numpy()
        pose[:3, 3] = 0.3 * pose[:3, 3] + [5.0, -2.0, 0.0]
        frames.append({"file_path": f"images/{v}.png", "transform_matrix": pose.tolist()})
    focal = 24 / math.tan(math.radians(45) / 2)
    lens = {"w": 48, "h": 32, "fl_x": focal, "fl_y": focal, "cx": 24.0, "cy": 16.0, "camera_model": "PINHOLE"}
    (tmp_path / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    views = views_of_capture(tmp_path, 3, (16, 16))
    assert views.rgb.shape == (1, 3, 16, 16, 3)
    assert views.world_from_cam[..., 3].norm(dim=-1).mean().item() == pytest.approx(DISTANCE, rel=1e-3)
    centre, rotation = to_cv(views.world_from_cam[0])
    away = torch.linalg.cross(centre, rotation[:, 2]).norm(dim=-1)
    assert away.max() < 0.01 and torch.linalg.det(rotation).min() > 0.99
    # The square middle of the photo, and the angle that belongs to it.
    assert math.tan(views.fov_x[0, 0] / 2) == pytest.approx(
        math.tan(math.radians(45) / 2) * 32 / 48, rel=1e-5
    )
    middle = scenes.images()[0, 0, :, 8:40].reshape(16, 2, 16, 2, 3).mean((1, 3))
    assert (views.images()[0, 0] - middle).abs().max() < 0.01
    with pytest.raises(InvalidDataError, match="5 photos"):
        views_of_capture(tmp_path, 6, (16, 16))
