"""Photos are rotated once, keep what their tags said, and are ordered and grouped by it."""

import builtins

import numpy as np
import pytest
from PIL import ExifTags, Image

from smerf.errors import InvalidDataError, MissingPartError, UsageError
from smerf.prepare.intake import camera_groups, find_inputs, import_photo, sort_photos
from tests.helpers.corner import texture


def write_photo(path, size=(300, 200), exif=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    texture(seed, 300).resize(size).save(path, exif=Image.Exif() if exif is None else exif)
    return path


def tags(**details):
    exif = Image.Exif()
    for name, value in details.items():
        if name in ("Orientation", "Make", "Model"):
            exif[ExifTags.Base[name]] = value
        else:
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base[name]] = value
    return exif


def test_a_rotated_photo_is_written_upright_without_tags_and_keeps_its_exposure(tmp_path):
    exif = tags(Orientation=6, ExposureTime=0.01, ISOSpeedRatings=200, FocalLengthIn35mmFilm=60)
    photo, _ = import_photo(write_photo(tmp_path / "a.jpg", exif=exif), tmp_path, "out.jpg", 1600, 0, 0)
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.size == (200, 300) == photo.size
        assert not dict(image.getexif())
    assert photo.exposure == pytest.approx(0.002)
    assert photo.focal == pytest.approx(60 / 43.27 * np.hypot(200, 300))


def test_a_large_photo_is_reduced(tmp_path):
    photo, _ = import_photo(write_photo(tmp_path / "a.png"), tmp_path, "out.jpg", 150, 0, 0)
    assert photo.size == (150, 100)


def test_position_is_read_in_degrees(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {1: "S", 2: (10.0, 30.0, 0.0), 3: "E", 4: (20.0, 0.0, 36.0), 6: 12.5}
    )
    photo, _ = import_photo(write_photo(tmp_path / "a.jpg", exif=exif), tmp_path, "out.jpg", 1600, 0, 0)
    assert photo.gps == pytest.approx((-10.5, 20.01, 12.5))


def test_numbers_in_names_count_as_numbers_unless_all_photos_say_when(tmp_path):
    names = ["IMG_10.jpg", "IMG_9.jpg", "IMG_100.jpg"]
    plain = [write_photo(tmp_path / "plain" / name) for name in names]
    assert [path.name for path in sort_photos(plain)] == ["IMG_9.jpg", "IMG_10.jpg", "IMG_100.jpg"]
    times = ["2026:01:01 10:00:00", "2026:01:01 09:00:00", "2026:01:01 08:00:00"]
    dated = [
        write_photo(tmp_path / "dated" / name, exif=tags(DateTimeOriginal=time))
        for name, time in zip(names, times, strict=True)
    ]
    assert [path.name for path in sort_photos(dated)] == ["IMG_100.jpg", "IMG_9.jpg", "IMG_10.jpg"]


def test_photos_of_one_camera_and_focal_length_share_intrinsics(tmp_path):
    photos = []
    for index, (model, focal) in enumerate([("A", 28), ("B", 28), ("A", 28), ("A", 56)]):
        file = write_photo(tmp_path / f"{index}.jpg", exif=tags(Model=model, FocalLengthIn35mmFilm=focal))
        photos.append(import_photo(file, tmp_path, f"out{index}.jpg", 1600, 0, index)[0])
    assert [group["names"] for group in camera_groups(photos, "auto")] == [
        ["out0.jpg", "out2.jpg"],
        ["out1.jpg"],
        ["out3.jpg"],
    ]
    assert len(camera_groups(photos, "one")) == 1 and len(camera_groups(photos, "each")) == 4


def test_one_camera_for_photos_of_two_sizes_is_refused(tmp_path):
    photos = [
        import_photo(write_photo(tmp_path / f"{w}.jpg", (w, 200)), tmp_path, f"{w}o.jpg", 1600, 0, 0)[0]
        for w in (300, 260)
    ]
    with pytest.raises(UsageError, match="300x200, 260x200"):
        camera_groups(photos, "one")


def test_what_cannot_be_read_is_refused_with_the_way_out(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="does not exist"):
        find_inputs([tmp_path / "nothing"])
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.CR2").touch()
    with pytest.raises(UsageError, match="export them as JPEG"):
        find_inputs([tmp_path / "raw"])
    (tmp_path / "text.txt").touch()
    with pytest.raises(UsageError, match="neither a photo nor a video"):
        find_inputs([tmp_path / "text.txt"])
    photo = tmp_path / "phone" / "IMG_1.JPG"  # the content counts, whatever the name
    photo.parent.mkdir()
    photo.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "pillow_heif":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingPartError, match=r"pip install 'smerf\[heic\]'"):
        sort_photos(*find_inputs([tmp_path / "phone"]))


def grey_levels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"), float).mean(axis=0)


@pytest.mark.parametrize(
    ("name", "dtype", "white"),
    [("a.png", np.uint16, 65535), ("a.tif", np.float32, 1.0), ("a.tiff", np.uint16, 65535)],
)
def test_photos_of_more_than_8_bits_keep_their_brightness(tmp_path, name, dtype, white):
    ramp = np.tile(np.linspace(0, white, 256), (64, 1)).astype(dtype)
    Image.fromarray(ramp).save(tmp_path / name)
    import_photo(tmp_path / name, tmp_path, "out.jpg", 1600, 0, 0)
    assert np.abs(grey_levels(tmp_path / "out.jpg") - np.arange(256)).max() < 6


def test_a_photo_of_200_megapixels_is_reduced_and_a_panorama_refused(tmp_path):
    huge = Image.new("1", (20000, 10100))
    huge.paste(1, (0, 0, 10000, 10100))
    huge.save(tmp_path / "huge.png")
    photo, _ = import_photo(tmp_path / "huge.png", tmp_path, "out.jpg", 400, 0, 0)
    assert photo.size == (400, 202) and grey_levels(tmp_path / "out.jpg")[[20, 380]].round().tolist() == [
        255,
        0,
    ]
    Image.new("RGB", (2000, 1000)).save(tmp_path / "ball.png")
    small = b"<x GPano:ProjectionType='equirectangular'/>"
    Image.new("RGB", (200, 100)).save(tmp_path / "small.jpg", xmp=small)
    for name in ("ball.png", "small.jpg"):
        with pytest.raises(InvalidDataError, match=f"{name}: 360-degree"):
            import_photo(tmp_path / name, tmp_path, "out.jpg", 1600, 0, 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"", "empty"),
        (b"\xff\x0a" + bytes(60), "JPEG XL"),
        (b"not an image", "not a readable image"),
    ],
)
def test_files_that_are_no_photos_are_named_with_the_way_out(tmp_path, content, words):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InvalidDataError, match=r"a\.jpg") as caught:
        sort_photos([tmp_path / "a.jpg"])
    assert words in str(caught.value)


def test_only_photos_are_taken_from_a_folder_and_what_is_left_is_said(tmp_path, caplog):
    taken = ["IMG_1.JPG", "Segovia/IMG_2.jpeg", "b.jfif", "IMG_3.HEIC"]
    left = ["masks/IMG_1.png", "Depth/a.png", "images_4/IMG_1.jpg", ".hidden.jpg", "@eaDir/IMG_1.jpg", "__MACOSX/a.jpg",
            ".thumbnails/a.jpg", "IMG_3.MOV", "notes.txt", "a.jpg/"]  # fmt: skip
    for name in [*taken, *left]:
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    found = [path.relative_to(tmp_path.resolve()).as_posix() for path in find_inputs([tmp_path])[0]]
    assert sorted(found) == sorted(taken)
    assert not caplog.records  # the video of a live photo is no other recording
    (tmp_path / "walk.mp4").touch()
    find_inputs([tmp_path])
    assert "1 videos beside the photos are not used (the first: walk.mp4)" in caplog.text
