import json

import numpy as np
import pytest
from PIL import Image

from smerf.capture import load_capture, load_depth, load_image, load_mask
from smerf.errors import InvalidDataError
from tests.helpers.capture_layouts import (
    HEIGHT,
    NAMES,
    WIDTH,
    pixels,
    transforms,
    write_colmap,
    write_images,
    write_llff,
    write_nerfstudio,
    write_synthetic,
)


def test_photos_come_as_stored(tmp_path):
    capture = load_capture(write_nerfstudio(tmp_path))
    for index, frame in enumerate(capture.frames):
        assert np.array_equal(load_image(frame), pixels(index))


def test_exif_orientation_does_not_turn_a_photo(tmp_path):
    root = write_nerfstudio(tmp_path)
    tags = Image.Exif()
    tags[0x0112] = 6  # a quarter turn
    Image.fromarray(pixels(0)).save(root / "images" / "IMG_00.png", exif=tags)
    assert np.array_equal(load_image(load_capture(root).frames[0]), pixels(0))


def test_grey_palette_and_16_bit_photos_become_rgb(tmp_path):
    root = write_nerfstudio(tmp_path)
    grey = pixels(0)[..., 0]
    Image.fromarray(grey).save(root / "images" / "IMG_00.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(root / "images" / "IMG_01.png")
    Image.fromarray(grey).convert("P").save(root / "images" / "IMG_02.png")
    for frame in load_capture(root).frames[:3]:
        assert np.array_equal(load_image(frame), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("max_side", "factor"), [(24, 1), (22, 1), (21, 2), (11, 2), (10, 3), (7, 3), (6, 4), (5, 4)]
)
def test_max_side_takes_the_smallest_whole_factor(tmp_path, max_side, factor):
    root = write_nerfstudio(tmp_path, transforms() | {"w": 22})
    for index, name in enumerate(NAMES):
        Image.fromarray(pixels(index)[:, :22]).save(root / "images" / f"{name}.png")
    frame = load_capture(root, max_side=max_side).frames[0]
    lens = frame.camera.intrinsics
    assert (lens.width, lens.height) == (22 // factor, 16 // factor)
    assert max(lens.width, lens.height) <= max_side
    assert lens.cx == pytest.approx(12 / factor)
    assert load_image(frame).shape == (lens.height, lens.width, 3)


def test_reducing_averages_blocks_and_scales_the_lens(tmp_path):
    capture = load_capture(write_nerfstudio(tmp_path), downscale=4)
    frame = capture.frames[3]
    lens = frame.camera.intrinsics
    assert (lens.width, lens.height, lens.fx, lens.cx, lens.cy) == (6, 4, 5.5, 3.0, 2.0)
    expected = pixels(3).reshape(4, 4, 6, 4, 3).mean(axis=(1, 3))
    assert np.abs(load_image(frame) - expected).max() <= 0.5 + 1e-3


def test_reducing_weights_colour_by_alpha(tmp_path):
    root = write_synthetic(tmp_path)
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    rgba[0, 0] = (200, 100, 40, 255)  # one opaque pixel, three clear black ones
    Image.fromarray(rgba).save(root / "train" / "r_0.png")
    frame = load_capture(root, downscale=2).frames[0]
    assert load_image(frame)[0, 0].tolist() == [200, 100, 40, 64]
    assert load_image(frame)[3, 3].tolist() == [0, 0, 0, 0]


def test_alpha_asks_for_a_white_background(tmp_path):
    root = write_nerfstudio(tmp_path)
    assert load_capture(root).background is None
    write_images(root / "images", channels=4)
    capture = load_capture(root)
    assert capture.background == "white"
    assert np.array_equal(load_image(capture.frames[2]), pixels(2, 4))


def test_a_reduced_folder_is_preferred_and_scales_by_real_size(tmp_path):
    root = write_colmap(tmp_path)
    (root / "images_3").mkdir()
    for index, name in enumerate(NAMES):  # 24x16 / 3 = 8 x 5.33; other suffix, other names
        Image.fromarray(np.full((5, 8, 3), index, np.uint8)).save(root / "images_3" / f"reduced_{name}.bmp")
    frame = load_capture(root, downscale=3).frames[4]
    assert frame.image_path.parent.name == "images_3"
    assert load_image(frame)[0, 0].tolist() == [4, 4, 4]  # by sorted position
    lens = frame.camera.intrinsics
    assert (lens.width, lens.height) == (8, 5)
    assert (lens.fx, lens.fy) == (pytest.approx(22 / 3), pytest.approx(22 * 5 / 16))
    assert load_capture(root, downscale=2).frames[4].image_path.parent.name == "images"
    assert load_capture(root).frames[4].camera.intrinsics.width == WIDTH
    # 6 is twice 3, but the full photos give the better picture.
    assert load_capture(root, downscale=6).frames[4].image_path.parent.name == "images"


def test_only_reduced_photos(tmp_path):
    for root in (write_colmap(tmp_path / "a"), write_llff(tmp_path / "b")):
        (root / "images").rename(root / "images_2")
        for name in NAMES:
            Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(root / "images_2" / f"{name}.png")
        lens = load_capture(root).frames[0].camera.intrinsics
        assert (lens.width, lens.fx, lens.cx) == (WIDTH // 2, 11.0, 6.0)
        assert load_capture(root, downscale=4).frames[0].camera.intrinsics.width == WIDTH // 4


def test_a_reduced_folder_of_the_wrong_shape_is_refused(tmp_path):
    root = write_colmap(tmp_path)
    write_images(root / "images_2")
    for name in NAMES:
        Image.new("RGB", (WIDTH // 2, HEIGHT)).save(root / "images_2" / f"{name}.png")
    with pytest.raises(InvalidDataError, match="images_2"):
        load_capture(root, downscale=2)


def test_a_reduced_folder_with_gaps_is_passed_over(tmp_path):
    root = write_colmap(tmp_path)
    (root / "images_2").mkdir()
    Image.new("RGB", (12, 8)).save(root / "images_2" / "IMG_00.png")
    capture = load_capture(root, downscale=2)
    assert len(capture.frames) == 10
    assert {frame.image_path.parent.name for frame in capture.frames} == {"images"}


def half_white():
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 9:] = 255
    return mask


@pytest.mark.parametrize("name", ["IMG_02.png", "IMG_02.png.png", "IMG_02.jpg"])
def test_masks_folder_white_is_used(tmp_path, name):
    root = write_nerfstudio(tmp_path)
    (root / "masks").mkdir()
    if name.endswith(".jpg"):
        (root / "images" / "IMG_02.png").unlink()
        Image.fromarray(pixels(2)).save(root / "images" / "IMG_02.jpg")
        content = transforms()
        content["frames"][2]["file_path"] = "images/IMG_02.jpg"
        (root / "transforms.json").write_text(json.dumps(content))
        name = "IMG_02.png"
    Image.fromarray(half_white()).save(root / "masks" / name)
    capture = load_capture(root)
    assert np.array_equal(load_mask(capture.frames[2]), half_white() > 0)
    assert load_mask(capture.frames[3]) is None


def test_mask_path_and_reduced_masks(tmp_path):
    content = transforms()
    content["frames"][2]["mask_path"] = "m/2.png"
    root = write_nerfstudio(tmp_path, content)
    (root / "m").mkdir()
    Image.fromarray(half_white()).save(root / "m" / "2.png")
    mask = load_mask(load_capture(root, downscale=2).frames[2])
    assert mask.shape == (HEIGHT // 2, WIDTH // 2)
    assert mask[0].tolist() == [False] * 5 + [True] * 7  # column 4 covers one black file pixel


def test_dynamic_masks_have_the_opposite_polarity(tmp_path):
    root = write_nerfstudio(tmp_path)
    Image.fromarray(half_white()).save(root / "images" / "dynamic_mask_IMG_02.png")
    assert np.array_equal(load_mask(load_capture(root).frames[2]), half_white() == 0)


def test_mask_of_another_shape_is_refused(tmp_path):
    root = write_nerfstudio(tmp_path)
    (root / "masks").mkdir()
    Image.new("L", (20, 20)).save(root / "masks" / "IMG_02.png")
    with pytest.raises(InvalidDataError, match=r"IMG_02\.png"):
        load_mask(load_capture(root).frames[2])


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_depth_comes_in_training_units(tmp_path, suffix):
    content = transforms()
    content["frames"][1]["depth_file_path"] = f"d/1{suffix}"
    root = write_nerfstudio(tmp_path, content)
    (root / "d").mkdir()
    stored = np.full((HEIGHT, WIDTH), 2500, np.uint16)
    stored[0, :2] = 0
    np.save(root / "d" / "1.npy", stored.astype(np.float32))
    Image.fromarray(stored).save(root / "d" / "1.png")
    capture = load_capture(root)
    depth = load_depth(capture.frames[1])
    assert depth.dtype == np.float32
    assert depth[0, 0] == 0  # unknown
    assert depth[5, 5] == pytest.approx(2.5 * capture.training_from_source.scale)
    assert load_depth(load_capture(root, downscale=2).frames[1]).shape == (HEIGHT // 2, WIDTH // 2)
    assert load_depth(capture.frames[0]) is None


def test_a_depth_map_of_fewer_pixels_is_spread_over_its_photo(tmp_path):
    content = transforms()
    content["frames"][1]["depth_file_path"] = "d.npy"
    root = write_nerfstudio(tmp_path, content)
    small = np.arange(1, 1 + HEIGHT // 4 * (WIDTH // 4), dtype=np.float32).reshape(HEIGHT // 4, WIDTH // 4)
    np.save(root / "d.npy", small)
    frame = load_capture(root).frames[1]
    depth = load_depth(frame)
    assert depth.shape == (HEIGHT, WIDTH)
    np.testing.assert_allclose(depth, small.repeat(4, 0).repeat(4, 1) * frame.depth_scale, rtol=1e-6)
    np.save(root / "d.npy", small[:, : WIDTH // 8])
    with pytest.raises(InvalidDataError, match="make it the size of the photo"):
        load_depth(frame)


def test_exposure_is_read_from_tags(tmp_path):
    root = write_colmap(tmp_path, binary=False)
    path = root / "sparse/0/images.txt"
    path.write_text(path.read_text().replace(".png", ".jpg"))
    tags = Image.Exif()
    tags.get_ifd(0x8769).update({33434: 0.01, 34855: 400})
    for index, name in enumerate(NAMES):
        Image.fromarray(pixels(index)).save(root / "images" / f"{name}.jpg", exif=tags)
    assert load_capture(root).frames[0].exposure == pytest.approx(0.004)
