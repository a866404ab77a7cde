"""Image files of every depth, mode and orientation."""

import json
import struct
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from smerf.capture import load_capture, load_image, load_mask, save_transforms
from smerf.capture.pixels import read_header, read_pixels, read_used, rotate
from smerf.errors import InvalidDataError, MissingPartError
from smerf.export.photos import small_photo
from tests.helpers.capture_layouts import (
    HEIGHT,
    NAMES,
    WIDTH,
    pixels,
    transforms,
    write_colmap,
    write_nerfstudio,
)

ORIENTATIONS = range(2, 9)


def smooth(width=WIDTH, height=HEIGHT):
    """An image that JPEG keeps well and that no rotation leaves as it is."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.rint(np.stack([40 + 180 * x, 30 + 150 * y, 200 - 150 * x * y], axis=-1)).astype(np.uint8)


def stored_as(image, orientation):
    """Return what a camera stores of an upright image with an orientation."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return np.ascontiguousarray(rotate(image, inverse))


def save_tagged(path, image, orientation, **options):
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(stored_as(image, orientation)).save(path, exif=tags, **options)


def close(ours, theirs):
    return ours.shape == theirs.shape and np.abs(ours.astype(int) - theirs).max() <= 6


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_orientation_means_what_pillow_says(orientation):
    image = Image.fromarray(smooth())
    image.getexif()[0x0112] = orientation
    assert np.array_equal(rotate(np.asarray(image), orientation), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pixels_come_as_stored_or_upright(tmp_path, suffix, orientation):
    upright = smooth()
    options = {"quality": 98, "subsampling": 0} if suffix == ".jpg" else {}
    options = {"lossless": True} if suffix == ".webp" else options
    path = tmp_path / f"a{suffix}"
    save_tagged(path, upright, orientation, **options)
    header = read_header(path)
    assert (header.orientation, header.upright) == (orientation, (WIDTH, HEIGHT))
    stored = stored_as(upright, orientation)
    assert header.size == stored.shape[1::-1]
    assert close(read_pixels(path), stored)
    assert close(read_pixels(path, orientation), upright)


def write_tagged(root, orientations, size, layout="nerfstudio"):
    """A capture of upright 16x24 images, stored by their tags; ``size`` is the one that the file states."""
    upright = smooth(HEIGHT, WIDTH)
    width, height = size
    if layout == "colmap":
        assert size == (HEIGHT, WIDTH)
        write_colmap(root, binary=False, model="PINHOLE", params=(22.0, 22.0, width / 2, height / 2))
        path = root / "sparse/0/cameras.txt"
        path.write_text(path.read_text().replace(f"{WIDTH} {HEIGHT}", f"{width} {height}"))
    else:
        lens = {"w": width, "h": height, "cx": width / 2, "cy": height / 2}
        write_nerfstudio(root, transforms((0.0,) * 4) | lens)
    for name, orientation in zip(NAMES, orientations):
        save_tagged(root / "images" / f"{name}.png", upright, orientation)
    return root, upright


@pytest.mark.parametrize("layout", ["nerfstudio", "colmap"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_size_that_fits_the_upright_photo_rotates_it(tmp_path, orientation, layout, caplog):
    root, upright = write_tagged(tmp_path, [orientation] * 10, (HEIGHT, WIDTH), layout)
    (root / "masks").mkdir()
    mask = np.zeros((WIDTH, HEIGHT), np.uint8)
    mask[3:, 2:] = 255
    Image.fromarray(mask).save(root / "masks" / f"{NAMES[1]}.png")
    Image.fromarray(stored_as(mask, orientation)).save(root / "masks" / f"{NAMES[2]}.png")
    capture = load_capture(root)
    assert not caplog.records
    for frame in capture.frames:
        assert np.array_equal(load_image(frame), upright)
        assert np.abs(np.asarray(small_photo(frame, 400)).astype(int) - upright).max() <= 4
    for frame in capture.frames[1:3]:  # a mask made from the upright photo, and one from the stored
        assert np.array_equal(load_mask(frame), mask > 0)
    reduced = load_image(load_capture(root, downscale=2).frames[0])
    assert np.array_equal(
        reduced, np.rint(upright.reshape(12, 2, 8, 2, 3).mean((1, 3)) + 1e-6).astype(np.uint8)
    )
    save_transforms(capture, root / "transforms.json")
    assert np.array_equal(load_image(load_capture(root).frames[0]), upright)


def test_the_other_photos_say_how_half_rotated_ones_lie(tmp_path, caplog):
    root, upright = write_tagged(tmp_path / "a", [3, 2, 4] + [6] * 7, (HEIGHT, WIDTH))
    assert all(np.array_equal(load_image(frame), upright) for frame in load_capture(root).frames)
    # Where the stated size is that of the stored photos, all are used as stored.
    root, _ = write_tagged(tmp_path / "b", [6, 8] * 5, (WIDTH, HEIGHT))
    save_tagged(root / "images" / "IMG_09.png", smooth(WIDTH, HEIGHT), 3)
    assert np.array_equal(load_image(load_capture(root).frames[9]), smooth(WIDTH, HEIGHT)[::-1, ::-1])
    assert not caplog.records


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_size_that_does_not_tell_is_worth_one_warning(tmp_path, orientation, caplog):
    root, upright = write_tagged(tmp_path, [orientation] * 10, (HEIGHT, WIDTH))
    assert np.array_equal(load_image(load_capture(root).frames[0]), stored_as(upright, orientation))
    (record,) = caplog.records
    assert "10 photos have an EXIF orientation" in record.getMessage()


def test_no_size_is_worth_one_warning_unless_the_centre_tells(tmp_path, caplog):
    root, upright = write_tagged(tmp_path, [6] * 10, (HEIGHT, WIDTH))
    content = transforms((0.0,) * 4) | {"cx": HEIGHT / 2, "cy": WIDTH / 2}
    del content["w"], content["h"]
    write = (root / "transforms.json").write_text
    write(json.dumps(content))
    assert np.array_equal(load_image(load_capture(root).frames[0]), upright)
    assert not caplog.records
    del content["cx"], content["cy"]
    write(json.dumps(content))
    assert np.array_equal(load_image(load_capture(root).frames[0]), stored_as(upright, 6))
    assert "EXIF orientation" in caplog.records[0].getMessage()


def test_a_size_that_fits_neither_names_the_orientation(tmp_path):
    root, _ = write_tagged(tmp_path, [6] * 10, (20, 20))
    with pytest.raises(InvalidDataError, match=r"24x16 \(16x24 after its EXIF orientation"):
        load_capture(root)


GREY = pixels(0)[..., 0]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("deep.png", Image.fromarray(GREY.astype(np.uint16) * 257)),
        ("deep.tif", Image.fromarray(GREY.astype(np.uint16) * 257)),
        ("float.tif", Image.fromarray(GREY.astype(np.float32) / 255)),
        ("grey.png", Image.fromarray(GREY)),
        ("palette.png", Image.fromarray(GREY).convert("P")),
        ("alpha.png", Image.fromarray(GREY).convert("LA")),
    ],
)
def test_grey_of_any_depth(tmp_path, name, image):
    image.save(tmp_path / name)
    assert np.array_equal(read_pixels(tmp_path / name)[..., :3], np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize(("bits", "order"), [(16, "<"), (16, ">"), (12, "<")])
def test_tiff_of_other_depths_and_byte_orders(tmp_path, bits, order):
    """A hand-made TIFF, as scientific cameras write it."""
    path = tmp_path / "a.tif"
    if bits == 16:
        write_tiff(path, (GREY.astype(np.uint16) * 257).astype(order + "u2").tobytes(), 16, order)
    else:
        values = np.rint(GREY.astype(float) * 4095 / 255).astype(np.uint16).ravel()
        first, second = values[::2], values[1::2]
        packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1)
        write_tiff(path, packed.astype(np.uint8).tobytes(), 12, order)
    assert np.array_equal(read_pixels(path)[..., 0], GREY)


def write_tiff(path, data, bits, order):
    tags = [(256, WIDTH), (257, HEIGHT), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, HEIGHT),
            (279, len(data))]  # fmt: skip
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    path.write_bytes(head + data + struct.pack(order + "H", len(tags)) + entries + b"\0\0\0\0")


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGBX"])
def test_other_colour_modes(tmp_path, mode):
    image = Image.fromarray(smooth()).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.tif")
    image.save(path, **({"quality": 98, "subsampling": 0} if mode == "CMYK" else {}))
    assert close(read_pixels(path), smooth())


def test_alpha_by_key_palette_and_premultiplied(tmp_path):
    palette = Image.fromarray(np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 4, "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.save(tmp_path / "p.png", transparency=2)
    read = read_pixels(tmp_path / "p.png")
    assert read[0, :4].tolist() == [
        [10, 20, 30, 255],
        [40, 50, 60, 255],
        [70, 80, 90, 0],
        [100, 110, 120, 255],
    ]
    assert read_header(tmp_path / "p.png").has_alpha


@pytest.mark.parametrize(
    ("values", "part"),
    [
        (GREY.astype(np.float32), "0 to 25"),
        (GREY.astype(np.float32) / 255 - 0.5, "expected 0 to 1"),
        (np.full((HEIGHT, WIDTH), np.nan, np.float32), "nan"),
        (GREY.astype(np.int32) * 1000, "32-bit"),
    ],
)
def test_values_without_a_known_white_are_refused(tmp_path, values, part):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InvalidDataError, match=r"a\.tif.*convert it") as caught:
        read_pixels(tmp_path / "a.tif")
    assert part in str(caught.value)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_animations_and_pages_are_refused(tmp_path, suffix):
    images = [Image.fromarray(pixels(index)) for index in range(3)]
    path = tmp_path / f"a{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:])
    with pytest.raises(InvalidDataError, match="holds 3 images"):
        read_header(path)


def test_a_thumbnail_in_a_tiff_is_no_page(tmp_path):
    thumbnail = Image.new("RGB", (6, 4))
    Image.fromarray(smooth()).save(tmp_path / "a.tif", save_all=True, append_images=[thumbnail])
    assert np.array_equal(read_pixels(tmp_path / "a.tif"), smooth())


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("a.png", b"", "empty"),
        ("a.png", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.exr", b"\x76\x2f\x31\x01" + bytes(60), "OpenEXR"),
        ("a.jxl", b"\xff\x0a" + bytes(60), "JPEG XL"),
        ("a.dng", b"II*\0" + bytes(60), "raw photo"),
        ("a.tif", b"II*\0" + bytes(60), "kind of TIFF"),
        ("a.jpg", b"<html>" + bytes(60), "not a readable image"),
    ],
)
def test_files_that_are_no_photos_are_refused_by_kind(tmp_path, name, data, part):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidDataError, match=part) as caught:
        read_header(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_names_the_extra(tmp_path, monkeypatch, brand):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    content = transforms()
    root = write_nerfstudio(tmp_path, content | {"frames": content["frames"][:3]})
    for name in NAMES[:3]:
        (root / "images" / f"{name}.png").write_bytes(
            b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1heic" + bytes(99)
        )
    with pytest.raises(MissingPartError, match=r"IMG_00\.png: HEIC .*pip install 'smerf\[heic\]'"):
        load_capture(root)


def test_heic_is_read_upright(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(smooth(64, 48)).save(tmp_path / "a.heic", quality=95, exif=tags)
    header = read_header(tmp_path / "a.heic")
    assert header.orientation == 1
    assert read_pixels(tmp_path / "a.heic").shape[:2] == header.size[::-1]
    (tmp_path / "a.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:100])
    with pytest.raises(InvalidDataError, match=r"a\.heic: a HEIC photo that cannot be decoded"):
        read_header(tmp_path / "a.heic")


def test_photos_of_200_megapixels_are_read(tmp_path, recwarn):
    Image.new("1", (20000, 10000), 1).save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png").size == (20000, 10000)
    assert not recwarn.list
    Image.new("1", (32000, 32000), 1).save(tmp_path / "b.png")
    with pytest.raises(InvalidDataError, match=r"b\.png: too large"):
        read_header(tmp_path / "b.png")


HALF = np.repeat([[0] * 9 + [1] * (WIDTH - 9)], HEIGHT, axis=0).astype(np.uint8)


def mask_images():
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    labels = Image.fromarray(HALF * 3)
    palette = Image.fromarray(HALF, "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    alpha = np.concatenate([black + 77, HALF[..., None] * 255], axis=2)
    return {
        "0 and 1": Image.fromarray(HALF),
        "0 and 255": Image.fromarray(HALF * 255),
        "labels": labels,
        "palette": palette,
        "blue": Image.fromarray(np.stack([HALF * 0, HALF * 0, HALF], axis=-1)),
        "one bit": Image.fromarray(HALF * 255).convert("1"),
        "16 bits": Image.fromarray(HALF.astype(np.uint16)),
        "alpha": Image.fromarray(alpha),
        "grey with alpha": Image.fromarray(np.stack([HALF * 0, HALF * 255], axis=-1), "LA"),
        "opaque alpha": Image.fromarray(np.stack([HALF, HALF, HALF, HALF * 0 + 255], axis=-1)),
        "clear but coloured": Image.fromarray(np.stack([HALF, HALF, HALF, HALF * 0], axis=-1)),
    }


@pytest.mark.parametrize("encoding", mask_images())
def test_masks_of_any_encoding(tmp_path, encoding):
    root = write_nerfstudio(tmp_path)
    (root / "masks").mkdir()
    mask_images()[encoding].save(root / "masks" / "IMG_02.png")
    assert np.array_equal(load_mask(load_capture(root).frames[2]), HALF > 0)


def test_lossy_masks_are_split_in_the_middle(tmp_path):
    Image.fromarray(HALF * 255).save(tmp_path / "a.jpg", quality=60)
    assert np.array_equal(read_used(tmp_path / "a.jpg"), HALF > 0)


def test_16_bit_photos_are_shown_as_they_are(tmp_path):
    root = write_nerfstudio(tmp_path, transforms((0.0,) * 4))
    for name in NAMES:
        Image.fromarray(smooth()[..., 0].astype(np.uint16) * 257).save(root / "images" / f"{name}.png")
    shown = np.asarray(small_photo(load_capture(root).frames[0], 400))
    assert np.array_equal(shown, np.repeat(smooth()[..., :1], 3, axis=2))


@pytest.mark.parametrize(("bits", "is_odd"), [(16, False), (14, True), (12, True), (10, True)])
def test_values_of_fewer_bits_than_their_file_are_worth_a_warning(tmp_path, bits, is_odd, caplog):
    root = write_nerfstudio(tmp_path)
    for name in NAMES:
        Image.fromarray((GREY.astype(np.uint16) * 257) >> (16 - bits)).save(root / "images" / f"{name}.png")
    load_capture(root)
    assert len(caplog.records) == is_odd


def test_photos_of_floating_point_are_refused_when_the_capture_is_loaded(tmp_path):
    content = transforms()
    for frame in content["frames"]:
        frame["file_path"] = frame["file_path"].replace(".png", ".tif")
    root = write_nerfstudio(tmp_path, content)
    for name in NAMES:
        Image.fromarray(GREY.astype(np.float32)).save(root / "images" / f"{name}.tif")
    with pytest.raises(InvalidDataError, match=r"IMG_00\.tif.*convert"):
        load_capture(root)
