"""Images of a capture: repeated photos and names, frames that are added, masks."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from smerf.engine.progress import Progress
from smerf.errors import InvalidDataError
from smerf.prepare import PrepareConfig
from smerf.prepare.colmap import Pair
from smerf.prepare.features import Workshop, weak_joints
from smerf.prepare.gather import add_frames, find_masks, gather, masks_beside
from smerf.prepare.intake import input_digest
from tests.helpers.corner import encode, texture


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "work").mkdir()

    def progress(name, unit, total):
        return Progress(name, total, unit, quiet=True)

    return Workshop(tmp_path / "work", tmp_path / "images", PrepareConfig(), None, progress)


def test_a_repeated_photo_is_dropped_and_equal_names_stay_apart(shop, tmp_path):
    files = []
    for name, seed in (("a/one 1.jpg", 0), ("a/one 2.jpg", 0), ("b/one 1.jpg", 1)):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        texture(seed, 200).save(path)
        files.append(path)
    gathered = gather(shop, [files], "key")
    used = [photo for photo in gathered.photos if not photo.dropped]
    assert [photo.name for photo in used] == ["one_1.jpg", "one_1_2.jpg"]
    assert [photo.number for photo in used] == [0, 1]
    assert [photo.dropped for photo in gathered.photos if photo.dropped] == ["duplicate"]
    assert gather(shop, [], "key").photos == gathered.photos
    assert all((tmp_path / "images" / photo.name).is_file() for photo in used)


def test_frames_are_named_by_their_number_and_added_at_weak_joints(shop, tmp_path):
    wide = texture(5, 700)
    frames = [np.asarray(wide.crop((6 * i, 50, 6 * i + 320, 230)).convert("RGB")) for i in range(60)]
    clip = encode(tmp_path / "clip.mp4", frames, "-c:v", "libx264", "-qp", "8", "-pix_fmt", "yuv420p")
    photos = gather(shop, [[clip]], "key").photos
    assert photos[1].name == f"frame_{photos[1].time:06d}.jpg" and photos[1].is_video
    spaced = photos[::3][:3]
    pairs = [Pair(one.name, two.name, 40 if one is spaced[1] else 300, 3) for one, two in pairwise(spaced)]
    joints = weak_joints(spaced, pairs)
    assert [(one.name, two.name) for one, two in joints] == [(spaced[1].name, spaced[2].name)]
    more = add_frames(shop, spaced, joints)
    times = [photo.time for photo in more]
    assert len(more) == len(spaced) + 2 and times == sorted(times)
    assert [photo.number for photo in more] == list(range(len(more)))
    assert all((tmp_path / "images" / photo.name).is_file() for photo in more)


def test_masks_follow_their_photos_in_size_and_are_black_and_white(shop, tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        texture(seed, 200).save(tmp_path / "photos" / f"p{seed}.png")
    photos = gather(shop, [sorted((tmp_path / "photos").iterdir())], "key").photos
    (tmp_path / "m").mkdir()
    Image.new("L", (50, 50), 200).save(tmp_path / "m" / "p1.png")
    assert find_masks(tmp_path / "m", photos, tmp_path / "masks") == 1
    with Image.open(tmp_path / "masks" / "p1.png") as mask:
        assert mask.size == (200, 200) and set(np.unique(np.asarray(mask))) == {255}
    (tmp_path / "none").mkdir()
    with pytest.raises(InvalidDataError, match="name them like the photos"):
        find_masks(tmp_path / "none", photos, tmp_path / "masks")


MASKS = {
    "0 and 1": lambda used: Image.fromarray(used.astype(np.uint8)),
    "16 bits": lambda used: Image.fromarray(used.astype(np.uint16)),
    "alpha": lambda used: Image.merge("LA", (Image.new("L", used.shape[::-1]), _grey(used))),
    "palette": lambda used: _grey(used).convert("P"),
    "1 bit": lambda used: _grey(used).convert("1"),
}


def _grey(used):
    return Image.fromarray(np.where(used, 255, 0).astype(np.uint8))


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("lies", ["stored", "upright", "upright and small"])
def test_masks_of_a_rotated_photo_fit_it_however_they_are_made(shop, tmp_path, kind, lies):
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    texture(0, 200).resize((200, 120)).save(tmp_path / "photos" / "IMG 1.JPG", exif=exif)
    photos = gather(shop, [sorted((tmp_path / "photos").iterdir())], "key").photos
    assert photos[0].size == (120, 200)
    used = np.ones((200, 120), bool)
    used[:60, 70:] = False  # the upper right of the upright photo
    given = {"stored": np.rot90(used), "upright": used, "upright and small": used[::2, ::2]}[lies]
    folder = tmp_path / "photos" / "masks"
    folder.mkdir()
    MASKS[kind](given).save(folder / "img 1.png")
    assert masks_beside([tmp_path / "photos"]) == folder
    assert find_masks(folder, photos, tmp_path / "masks") == 1
    with Image.open(tmp_path / "masks" / "IMG_1.png") as mask:
        found = np.asarray(mask) > 0
    assert np.mean(found != used) < 0.02


def test_a_mask_of_another_shape_is_named(shop, tmp_path):
    (tmp_path / "photos").mkdir()
    texture(0, 200).resize((200, 120)).save(tmp_path / "photos" / "a.jpg")
    photos = gather(shop, [sorted((tmp_path / "photos").iterdir())], "key").photos
    (tmp_path / "m").mkdir()
    Image.new("L", (200, 200), 255).save(tmp_path / "m" / "a.png")
    with pytest.raises(InvalidDataError, match=r"a\.png: is 200x200.*200x120"):
        find_masks(tmp_path / "m", photos, tmp_path / "masks")


def test_masks_of_photos_in_folders_are_told_apart(shop, tmp_path):
    for number, name in enumerate(("one/a.jpg", "two/a.jpg", "two/b.jpg")):
        for root, image in (("photos", texture(number, 200)), ("m", Image.new("L", (200, 200), 80 * number))):
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path.with_suffix(".png"))
    photos = gather(shop, [sorted((tmp_path / "photos").rglob("*.png"))], "key").photos
    assert find_masks(tmp_path / "m", photos, tmp_path / "masks") == 3
    black = [
        Image.open(tmp_path / "masks" / f"{name}.png").getextrema() == (0, 0) for name in ("a", "a_2", "b")
    ]
    assert black == [True, False, False]


def test_odd_names_become_plain_ones(shop, tmp_path):
    names = [
        "#1 a.jpg",
        "2\n b.jpg",
        "l" * 240 + ".jpg",
        "\u00e9t\u00e9 \U0001f4f7.jpg",
        "\udcff raw bytes.jpg",
        "...jpg",
    ]
    files = []
    for seed, name in enumerate(names):
        files.append(tmp_path / name)
        texture(seed, 200).save(tmp_path / "new.jpg")
        (tmp_path / "new.jpg").rename(files[-1])
    input_digest([files])
    photos = gather(shop, [files], "key").photos
    assert sorted(photo.name for photo in photos) == sorted(
        ["_1_a.jpg", "2_b.jpg", "l" * 60 + ".jpg", "\u00e9t\u00e9_.jpg", "_raw_bytes.jpg", "photo.jpg"]
    )
    assert gather(shop, [], "key").photos == photos
