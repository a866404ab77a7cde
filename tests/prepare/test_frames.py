"""Motion and sharpness decide which frames of a video are kept."""

import numpy as np
import pytest
from PIL import ImageFilter

from smerf.prepare.frames import choose_frames, image_motion, relative_sharpness, select, sharpness
from tests.helpers.corner import texture


@pytest.fixture(scope="module")
def wide():
    return texture(3, 1400).convert("L")


def pan(wide, shifts, blurred=()):
    frames = []
    for index, shift in enumerate(shifts):
        frame = wide.crop((int(shift), 300, int(shift) + 320, 480))
        frames.append(np.asarray(frame.filter(ImageFilter.GaussianBlur(3)) if index in blurred else frame))
    return np.array(frames)


@pytest.mark.parametrize("shift", [0, 5, 13, 24])
def test_motion_is_the_shift_as_a_fraction_of_the_longest_side(wide, shift):
    first, second = pan(wide, [100, 100 + shift])
    assert image_motion(first, second) == pytest.approx(shift / 320, abs=1.5 / 320)


def test_motion_is_unknown_on_a_plain_wall(wide):
    first = pan(wide, [0])[0]
    assert image_motion(np.full((180, 320), 90, np.uint8), first) is None


def test_frames_are_spaced_by_motion_not_by_time(wide):
    slow, fast = np.arange(0, 60, 1), np.arange(60, 360, 4)
    shifts = np.concatenate([slow, fast])
    kept = select(pan(wide, shifts), np.ones(len(shifts)), 30.0, 0.04)
    steps = np.diff(shifts[kept])
    assert np.all(steps >= 0.6 * 0.04 * 320) and np.all(steps <= 1.4 * 0.04 * 320)
    assert np.count_nonzero(np.array(kept) < 60) < np.count_nonzero(np.array(kept) >= 60) / 2


def test_a_blurred_frame_is_passed_over(wide):
    shifts = np.arange(0, 240, 3)
    blurred = {4, 5, 12, 20, 21, 33}
    frames = pan(wide, shifts, blurred)
    quality = relative_sharpness(np.array([sharpness(frame) for frame in frames]), 30.0)
    kept = select(frames, quality, 30.0, 0.04)
    assert len(kept) > 8 and not blurred & set(kept)


def test_nothing_moves_keeps_a_frame_every_two_seconds(wide):
    frames = np.repeat(pan(wide, [10]), 95, axis=0)
    assert np.diff(select(frames, np.ones(95), 15.0, 0.04)).tolist() == [30, 30, 30]


def test_the_wanted_number_changes_the_spacing(wide):
    frames = pan(wide, np.arange(0, 450, 3))
    values = np.ones(len(frames))
    few, wide_spacing = choose_frames(frames, values, 30.0, 0.04, 30)
    many, narrow_spacing = choose_frames(frames, values, 30.0, 0.04, 75)
    assert 25 <= len(few) <= 35 and 63 <= len(many) <= 87
    assert wide_spacing > narrow_spacing
