"""Captures that name their photos otherwise than the disk does, in whole or in part."""

import json
import logging
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from smerf.capture import load_capture, load_image
from smerf.errors import InvalidDataError
from tests.helpers.capture_layouts import (
    FOCAL,
    HEIGHT,
    NAMES,
    WIDTH,
    colmap_images,
    pixels,
    transforms,
    write_colmap,
    write_images,
    write_nerfstudio,
    write_synthetic,
)


def renamed(content, change):
    for frame in content["frames"]:
        frame["file_path"] = change(frame["file_path"])
    return content


def rename_images(folder, change):
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(change(path.name)))


def is_complete(capture):
    """Tell whether all ten photos are there, each with its own pixels."""
    frames = sorted(capture.frames, key=lambda frame: frame.name)
    return len(frames) == 10 and all(np.array_equal(load_image(f), pixels(i)) for i, f in enumerate(frames))


CHANGES = {
    "upper case suffix": lambda name: name.replace(".png", ".PNG"),
    "lower case name": lambda name: name.lower(),
    "another suffix": lambda name: name.replace(".png", ".bmp"),
    "another suffix in upper case": lambda name: name.replace(".png", ".TIF"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("layout", ["nerfstudio", "colmap", "without suffix"])
def test_photos_in_another_spelling(tmp_path, change, layout, caplog):
    root = write_colmap(tmp_path) if layout == "colmap" else write_nerfstudio(tmp_path)
    if layout == "without suffix":
        content = renamed(transforms(), lambda name: name.removesuffix(".png"))
        (root / "transforms.json").write_text(json.dumps(content))
    for path in sorted((root / "images").iterdir()):
        target = path.with_name(CHANGES[change](path.name))
        if target.suffix.lower() == path.suffix:
            path.rename(target)
        else:
            Image.open(path).save(target, "BMP" if target.suffix == ".bmp" else "TIFF")
            path.unlink()
    with caplog.at_level(logging.INFO, logger="smerf"):
        assert is_complete(load_capture(root))
    told = [
        record.getMessage() for record in caplog.records if "another name or place" in record.getMessage()
    ]
    if layout == "without suffix" and change == "another suffix":
        assert not told  # nothing was stated that is not so
    else:
        (message,) = told
        assert "10 photos" in message


def test_unicode_of_another_form_and_folders_of_another_case(tmp_path):
    names = [f"Bücher/Å{index}" for index in range(10)]
    content = transforms()
    for frame, name in zip(content["frames"], names):
        frame["file_path"] = unicodedata.normalize("NFC", f"Images/{name}.png")
    root = tmp_path
    folder = root / "images" / unicodedata.normalize("NFD", "bücher")
    write_images(folder, names=[unicodedata.normalize("NFD", f"Å{index}") for index in range(10)])
    (root / "transforms.json").write_text(json.dumps(content))
    assert is_complete(load_capture(root))


PREFIXES = {
    "windows": "C:\\Users\\me\\Desktop\\spoon\\images\\",
    "windows share": "\\\\server\\data\\images\\",
    "posix": "/captures/flat/images/",
    "relative": "../../elsewhere/images/",
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("folder", ["images", "input", "photos/2026", "."])
def test_paths_of_another_machine(tmp_path, prefix, folder):
    stated = renamed(transforms(), lambda name: PREFIXES[prefix] + name.removeprefix("images/"))
    write_images(tmp_path / folder)
    # Files of the same names that are no photos must not be taken for them.
    for other in ("masks", "depth", "images_4", "normals"):
        write_images(tmp_path / other, names=NAMES[::-1])
    (tmp_path / "transforms.json").write_text(json.dumps(stated))
    assert is_complete(load_capture(tmp_path))


@pytest.mark.parametrize("folder", ["input", "photos", ".", "rgb"])
def test_a_model_whose_photos_lie_in_another_folder(tmp_path, folder):
    root = write_colmap(tmp_path, images=False)
    write_images(root / folder)
    assert is_complete(load_capture(root))


def test_a_model_of_absolute_names(tmp_path):
    root = write_colmap(tmp_path, binary=False)
    path = root / "sparse/0/images.txt"
    path.write_text(path.read_text().replace(" IMG_", " /captures/my flat/images/IMG_"))
    capture = load_capture(root)
    assert is_complete(capture)
    assert capture.frames[0].name == "IMG_00.png"


def test_backslashes_in_a_model(tmp_path):
    root = write_colmap(tmp_path, binary=False)
    path = root / "sparse/0/images.txt"
    path.write_text(path.read_text().replace(" IMG_", " left\\IMG_"))
    (root / "images").rename(root / "left")
    (root / "images").mkdir()
    (root / "left").rename(root / "images" / "left")
    assert is_complete(load_capture(root))


def test_folders_that_could_both_be_meant_are_named(tmp_path):
    root = write_colmap(tmp_path, images=False)
    write_images(root / "monday")
    write_images(root / "tuesday")
    with pytest.raises(InvalidDataError, match=r"monday and .*tuesday"):
        load_capture(root)


def test_names_that_lie_nowhere_are_said_to(tmp_path):
    root = write_colmap(tmp_path)
    rename_images(root / "images", lambda name: f"other_{name}")
    with pytest.raises(InvalidDataError, match=r"images/IMG_00\.png.*elsewhere"):
        load_capture(root)


def test_a_missing_photo_is_no_photo_of_another_folder(tmp_path):
    content = renamed(transforms(), lambda name: name.replace("IMG_0", "left/"))
    right = renamed(transforms(), lambda name: name.replace("IMG_0", "right/"))
    content["frames"] += right["frames"]
    write_images(tmp_path / "images" / "left", names=[str(index) for index in range(10)])
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    assert {frame.image_path.parent.name for frame in load_capture(tmp_path).frames} == {"left"}
    assert len(load_capture(tmp_path).frames) == 10


def test_photos_of_two_folders_keep_names_of_their_own(tmp_path):
    content = transforms()
    second = renamed(transforms(), lambda name: name.replace("images/", "rgb/"))
    content["frames"] += second["frames"]
    write_images(tmp_path / "rgb")
    names = [frame.name for frame in load_capture(write_nerfstudio(tmp_path, content)).frames]
    assert len(set(names)) == 20
    assert {"images/IMG_00.png", "rgb/IMG_00.png"} <= set(names)


def test_masks_in_another_spelling_and_masks_of_no_photo(tmp_path, caplog):
    root = write_nerfstudio(tmp_path)
    (root / "Masks").mkdir()
    mask = Image.new("L", (WIDTH, HEIGHT), 255)
    mask.save(root / "Masks" / "img_02.PNG")
    mask.save(root / "Masks" / "IMG_03.jpg.png")
    mask.save(root / "Masks" / "IMG_04.jpg")
    frames = load_capture(root).frames
    assert [frame.mask_path is not None for frame in frames] == [False] * 2 + [True, False, True] + [
        False
    ] * 5
    assert not caplog.records
    for path in (root / "Masks").iterdir():
        path.unlink()
    mask.save(root / "Masks" / "mask_of_02.png")
    load_capture(root)
    assert "belong to no photo" in caplog.text
    assert "IMG_00.png, not mask_of_02.png" in caplog.text


def write_model(root, folder, chosen):
    """A sparse model of some of the ten photos, as text."""
    place = root / folder
    place.mkdir(parents=True)
    (place / "cameras.txt").write_text(
        f"1 PINHOLE {WIDTH} {HEIGHT} {FOCAL} {FOCAL} {WIDTH / 2} {HEIGHT / 2}\n"
    )
    lines = []
    for index in chosen:
        rotation, translation = colmap_images()[index]
        values = " ".join(repr(float(value)) for value in (*rotation, *translation))
        lines += [f"{index + 1} {values} 1 {NAMES[index]}.png", ""]
    (place / "images.txt").write_text("\n".join(lines) + "\n")
    (place / "points3D.txt").write_text("")
    return root


@pytest.mark.parametrize("parent", ["sparse", "colmap/sparse", "distorted/sparse"])
def test_of_several_models_the_largest_is_read(tmp_path, parent, caplog):
    write_images(tmp_path / "images")
    for folder, chosen in (("0", range(2)), ("1", range(2, 9)), ("2", range(9, 10))):
        write_model(tmp_path, f"{parent}/{folder}", chosen)
    assert [frame.name for frame in load_capture(tmp_path).frames] == [f"{name}.png" for name in NAMES[2:9]]
    (record,) = caplog.records
    for part in ("0: 2 images", "1: 7 images", "sparse/1 is read", "give its folder"):
        assert part in record.getMessage()
    # Its folder chooses another one.
    caplog.clear()
    assert len(load_capture(tmp_path / parent / "0").frames) == 2
    assert not caplog.records


@pytest.mark.parametrize("folder", ["sparse/1", "sparse/7", "colmap/sparse/3", "sparse/best", "."])
def test_a_single_model_may_have_any_number(tmp_path, folder):
    write_images(tmp_path / "images")
    write_model(tmp_path, folder, range(10)) if folder != "." else write_here(tmp_path)
    assert is_complete(load_capture(tmp_path))


def write_here(root):
    write_model(root, "model", range(10))
    for path in (root / "model").iterdir():
        path.rename(root / path.name)
    (root / "model").rmdir()


@pytest.mark.parametrize(
    "observations",
    [
        lambda index: None,  # the line is left out
        lambda index: "",
        lambda index: "1.5 2.5 7 3.5 4.5 -1",
        lambda index: "" if index % 3 == 0 else ("1 2 -1" if index % 3 == 1 else None),
    ],
)
@pytest.mark.parametrize("name", [lambda name: name, lambda name: f"my {name}"])
def test_images_with_and_without_lines_of_observations(tmp_path, observations, name):
    root = write_model(tmp_path, "sparse/0", range(10))
    write_images(root / "images", names=[name(one) for one in NAMES])
    path = root / "sparse/0/images.txt"
    lines = []
    for index, line in enumerate(line for line in path.read_text().splitlines() if line):
        lines += [line.replace("IMG_", name("IMG_")), observations(index)]
    path.write_text("# a comment\n" + "\r\n".join(line for line in lines if line is not None) + "\n")
    assert is_complete(load_capture(root))


@pytest.mark.parametrize("copied", ["test", "val"])
def test_test_photos_that_are_the_training_photos(tmp_path, copied, caplog):
    root = write_synthetic(tmp_path)
    (root / "transforms_test.json").unlink()
    shutil.copy(root / "transforms_train.json", root / f"transforms_{copied}.json")
    capture = load_capture(root)
    assert [len(capture.split(split)) for split in ("train", "test")] == [7, 1]
    assert "8 of its 8 photos are training photos" in caplog.text


def test_test_photos_of_which_some_are_training_photos(tmp_path, caplog):
    root = write_synthetic(tmp_path)
    test = json.loads((root / "transforms_test.json").read_text())
    test["frames"].append(json.loads((root / "transforms_train.json").read_text())["frames"][3])
    (root / "transforms_test.json").write_text(json.dumps(test))
    capture = load_capture(root)
    assert [len(capture.split(split)) for split in ("train", "test")] == [8, 2]
    assert "1 of its 3 photos are training photos" in caplog.text


def test_lists_that_name_a_photo_twice(tmp_path, caplog):
    names = [f"images/{name}.png" for name in NAMES]
    content = transforms(train_filenames=names, val_filenames=names)
    capture = load_capture(write_nerfstudio(tmp_path / "a", content))
    assert [frame.name for frame in capture.split("test")] == ["IMG_00.png", "IMG_08.png"]
    assert "10 photos are listed for training and for testing" in caplog.text
    content = transforms(train_filenames=names[:8], test_filenames=names[7:])
    capture = load_capture(write_nerfstudio(tmp_path / "b", content))
    assert [frame.name for frame in capture.split("test")] == ["IMG_08.png", "IMG_09.png"]
    assert len(capture.split("train")) == 8


def test_a_run_folder_is_not_searched_for_photos(tmp_path):
    root = write_nerfstudio(tmp_path / "a")
    (root / "transforms.json").rename(root / "capture.json")
    (root / "images").rename(root / "photos")
    with pytest.raises(InvalidDataError, match="none of its 10 images"):
        load_capture(root / "capture.json")


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("sparse/0/0", "."),
        ("dense/0/sparse", "."),
        ("undistorted/sparse", "."),
        ("colmap_text", "."),
        ("colmap_output/sparse/0", "."),
        ("sparse/0", "sparse"),
        ("sparse/0", "sparse/0"),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_a_model_is_found_wherever_tools_put_it(tmp_path, model, given, beside, caplog):
    root = write_colmap(tmp_path)
    made = root / "sparse" / "0"
    target = root / model
    made.rename(root / "made")
    (root / "sparse").rmdir()
    target.parent.mkdir(parents=True, exist_ok=True)
    (root / "made").rename(target)
    if beside and "sparse" in target.parts:  # COLMAP's own undistorted photos lie beside their model
        above = root.joinpath(
            *target.relative_to(root).parts[: target.relative_to(root).parts.index("sparse")]
        )
        (root / "images").rename(above / "images")
    assert is_complete(load_capture(root / given))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_of_captures_below_a_folder_the_largest_is_read_and_the_others_named(tmp_path, caplog):
    write_colmap(tmp_path / "monday")
    capture = load_capture(tmp_path)
    assert is_complete(capture) and not caplog.records
    shutil.copytree(tmp_path / "monday", tmp_path / "tuesday")
    load_capture(tmp_path)
    assert "monday/sparse/0: 10 images" in caplog.text and "tuesday/sparse/0" in caplog.text


@pytest.mark.parametrize(("in_model", "on_disk"), [("left/", ""), ("", "left/"), ("left/", "right/")])
def test_folders_of_a_model_that_the_disk_lacks_or_has_more_of(tmp_path, in_model, on_disk):
    root = write_colmap(tmp_path, binary=False)
    path = root / "sparse/0/images.txt"
    path.write_text("\ufeff" + path.read_text().replace(" IMG_", f" {in_model}IMG_"))
    (root / "images").rename(root / "moved")
    (root / "images" / on_disk).parent.mkdir(parents=True, exist_ok=True)
    (root / "moved").rename(root / "images" / on_disk)
    assert is_complete(load_capture(root))


@pytest.mark.parametrize(
    ("written", "folder"),
    [("file:///captures/flat/{}", "images"), (" {} ", "images"), ("my%20{}", "my images")],
)
def test_addresses_and_blanks_in_paths(tmp_path, written, folder):
    (tmp_path / "transforms.json").write_text(json.dumps(renamed(transforms(), written.format)))
    write_images(tmp_path / folder)
    assert is_complete(load_capture(tmp_path))


def test_a_name_that_only_looks_like_an_address_is_taken_as_it_is(tmp_path):
    write_images(tmp_path / "images", names=[f"{name}%20" for name in NAMES])
    content = renamed(transforms(), lambda name: name.replace(".png", "%20.png"))
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    assert is_complete(load_capture(tmp_path))


def test_names_that_lie_nowhere_come_with_what_lies_there(tmp_path):
    root = write_nerfstudio(tmp_path)
    rename_images(root / "images", lambda name: name.replace("IMG_0", "frame_1"))
    with pytest.raises(InvalidDataError, match=r"10 images lie there under other names, the first .*frame_1"):
        load_capture(root)


@pytest.mark.parametrize(
    "stated", ["masks/IMG_{:02d}.PNG", "C:\\me\\masks\\IMG_{:02d}.png", "Masks/img_{:02d}.png"]
)
def test_stated_masks_in_another_spelling(tmp_path, stated):
    content = transforms()
    for index, frame in enumerate(content["frames"]):
        frame["mask_path"] = stated.format(index)
    root = write_nerfstudio(tmp_path, content)
    write_images(root / "masks")
    assert all(frame.mask_path is not None for frame in load_capture(root).frames)


def test_copies_of_training_photos_in_a_folder_of_their_own_are_no_test(tmp_path, caplog):
    root = write_synthetic(tmp_path)
    shutil.rmtree(root / "test")
    shutil.copytree(root / "train", root / "test")
    content = (root / "transforms_train.json").read_text().replace("train/", "test/")
    (root / "transforms_test.json").write_text(content)
    capture = load_capture(root)
    names = {split: {frame.image_path.name for frame in capture.split(split)} for split in ("train", "test")}
    assert names["test"] and not names["train"] & names["test"]
    assert "are training photos" in caplog.text
