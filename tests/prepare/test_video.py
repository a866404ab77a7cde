"""Videos are read upright, tone mapped and frame by frame."""

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from smerf.errors import InvalidDataError
from smerf.prepare.video import extract_frames, probe, read_grey
from tests.helpers.corner import encode, texture


@pytest.fixture(scope="module")
def frames():
    wide = texture(5, 700)
    return [np.asarray(wide.crop((3 * i, 100, 3 * i + 320, 280)).convert("RGB")) for i in range(24)]


@pytest.fixture(scope="module")
def clip(frames, tmp_path_factory):
    return encode(
        tmp_path_factory.mktemp("clip") / "clip.mp4",
        frames,
        "-c:v",
        "libx264",
        "-qp",
        "8",
        "-pix_fmt",
        "yuv420p",
    )


def ignore(done):
    pass


def test_a_clip_is_described(clip):
    video = probe(clip)
    assert (video.width, video.height, video.rate, video.hdr) == (320, 180, 60.0, None)
    assert video.stride == 2 and video.seconds == pytest.approx(0.4, abs=0.05)


def test_candidates_are_every_second_frame_of_sixty_a_second(clip, frames, tmp_path):
    grey = read_grey(probe(clip), ignore, tmp_path)
    assert grey.shape == (12, 180, 320)
    wanted = frames[6].astype(float) @ (0.299, 0.587, 0.114)
    assert np.abs(grey[3] - wanted).mean() < 8


def test_chosen_frames_are_those_of_their_numbers(clip, frames):
    found = dict(extract_frames(probe(clip), [17, 0, 5], 1600, ignore))
    assert list(found) == [0, 5, 17]
    for number, image in found.items():
        errors = [np.abs(np.asarray(image, float) - frame).mean() for frame in frames]
        assert int(np.argmin(errors)) == number


def test_the_flag_of_a_rotated_phone_is_followed(clip, tmp_path):
    rotated = tmp_path / "rotated.mp4"
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
    subprocess.run(
        [*program, "-display_rotation", "-90", "-i", str(clip), "-c", "copy", str(rotated)], check=True
    )
    video = probe(rotated)
    assert (video.width, video.height) == (180, 320)
    ((_, image),) = extract_frames(video, [4], 1600, ignore)
    ((_, upright),) = extract_frames(probe(clip), [4], 1600, ignore)
    assert np.abs(np.rot90(np.asarray(image, float)) - np.asarray(upright, float)).mean() < 3


def test_high_dynamic_range_is_tone_mapped(frames, tmp_path):
    colours = ["-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", "arib-std-b67"]
    path = encode(
        tmp_path / "hlg.mov", frames[:6], "-c:v", "libx265", "-x265-params", "log-level=error:colorprim=bt2020:"
        "transfer=arib-std-b67:colormatrix=bt2020nc", "-pix_fmt", "yuv420p10le", *colours,
    )  # fmt: skip
    video = probe(path)
    assert video.hdr == "HLG"
    ((_, mapped),) = extract_frames(video, [2], 1600, ignore)
    assert abs(np.asarray(mapped, float).mean() - frames[2].mean()) > 5
    assert np.asarray(mapped).std() > 10


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(InvalidDataError, match="not a readable video"):
        probe(tmp_path / "broken.mp4")


def test_hundreds_of_frames_are_taken_from_a_long_clip(tmp_path):
    grey = [np.full((32, 32, 3), 20 + number // 5, np.uint8) for number in range(1100)]
    clip = encode(tmp_path / "long.mp4", grey, "-c:v", "libx264", "-qp", "4", "-pix_fmt", "yuv420p")
    numbers = [number for number in range(1100) if number % 20]
    found = [
        (number, np.asarray(image).mean())
        for number, image in extract_frames(probe(clip), numbers, 64, ignore)
    ]
    assert [number for number, _ in found] == numbers
    assert all(abs(value - 20 - number // 5) < 6 for number, value in found)
