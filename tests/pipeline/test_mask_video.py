"""``smerf mask --by motion``: frames of a video, before there are poses, get masks that ``smerf prepare`` takes."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from smerf.capture.masks import read_record
from smerf.cli.main import main
from smerf.prepare.gather import find_masks
from smerf.prepare.intake import Photo
from tests.helpers.ball import write_capture
from tests.vision.test_stabilise import clip


@pytest.fixture(scope="module")
def walked():
    """Return eight frames through which somebody of 60 % of their height walks, and where."""
    return clip(0.6)


def share_found(masks, where):
    """Return which share of who walks is masked, and of the room."""
    hidden = np.stack([np.asarray(Image.open(path)) == 0 for path in masks])
    return hidden[where].mean(), hidden[~where].mean()


def test_frames_in_a_folder_get_masks_beside_them_twice_the_same(tmp_path, walked, capsys):
    frames, where = walked
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    command = ["mask", str(tmp_path), "--by", "motion", "--model", "none", "--yes", "-q"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "smerf prepare" in said and str(tmp_path / "masks.html") in said
    paths = sorted((tmp_path / "masks").glob("*.png"))
    assert [path.name for path in paths] == [f"{index}.png.png" for index in range(8)]
    found, lost = share_found(paths, where)
    assert found > 0.7 and lost < 0.12
    assert read_record(tmp_path / "masks")["sources"][0]["kind"] == "motion"
    first = [path.read_bytes() for path in paths]
    assert main(command) == 0 and [path.read_bytes() for path in paths] == first


def test_a_video_gets_masks_of_the_names_that_its_frames_will_have(tmp_path, walked):
    frames, _ = walked
    iio.imwrite(tmp_path / "hall.mp4", frames[:, :112, :192], fps=10, quality=9, macro_block_size=16)
    assert main(["mask", str(tmp_path / "hall.mp4"), "--model", "none", "--yes", "-q"]) == 0
    masks = tmp_path / "hall-masks" / "masks"
    assert len(list(masks.glob("frame_*.png"))) == 8
    photo = Photo("frame_000004.jpg", str(tmp_path / "hall.mp4"), 0, 0, 4, (192, 112), 0.5, is_video=True)
    assert find_masks(masks, [photo], tmp_path / "out") == 1
    hidden = np.asarray(Image.open(tmp_path / "out" / "frame_000004.png")) == 0
    assert 0.05 < hidden.mean() < 0.4


def test_without_poses_other_ways_say_what_to_do(tmp_path, walked, capsys):
    for index, frame in enumerate(walked[0][:2]):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    assert main(["mask", str(tmp_path), "-q"]) == 2
    assert "--by motion" in capsys.readouterr().err
    Image.fromarray(walked[0][0][:50]).save(tmp_path / "2.png")
    assert main(["mask", str(tmp_path), "--by", "motion", "--model", "none", "-q"]) == 2
    assert "2.png" in capsys.readouterr().err
    assert main(["mask", str(tmp_path), "--by", "motion", "--model", "gone", "-q"]) == 2
    assert "smerf vision train walkers" in capsys.readouterr().err


def test_options_that_would_do_nothing_are_refused(tmp_path, capsys):
    root = write_capture(tmp_path / "ball", count=3)
    assert main(["mask", str(root), "--by", "people", "--model", "none", "-q"]) == 2
    assert "--by motion" in capsys.readouterr().err
    assert main(["mask", str(root), "--by", "people", "-o", str(tmp_path / "masks"), "-q"]) == 2
    assert "beside its photos" in capsys.readouterr().err
