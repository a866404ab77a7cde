"""What photos of a wall tell of each other, where one of them is not from where it says."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from smerf.capture.types import Camera, Capture, Frame, Intrinsics, Similarity
from smerf.pipeline.photo_evidence import photo_evidence

WIDTH, HEIGHT, FOCAL, DISTANCE = 64, 48, 60.0, 2.0
LENS = Intrinsics("PINHOLE", WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)
PLACES = np.linspace(-0.9, 0.9, 25)
ELSEWHERE, BRIGHT = 4, 17


def camera(place):
    return Camera(LENS, np.concatenate([np.eye(3), [[place], [0.0], [0.0]]], 1))


def points_of(cam):
    """Return the points (H * W, 3) of the wall that a camera's pixels show."""
    column, row = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    local = np.stack([(column - WIDTH / 2) / FOCAL, (HEIGHT / 2 - row) / FOCAL, -np.ones_like(row)], -1)
    return (DISTANCE * local + cam.world_from_cam[:, 3]).reshape(-1, 3)


def picture(cam):
    """Return the wall as a camera sees it: waves, and brighter to the right."""
    x, y, _ = points_of(cam).T
    grey = 0.45 + 0.12 * x + 0.2 * np.sin(5.0 * x + 2.0 * np.sin(2.0 * y)) * np.cos(4.0 * y + x)
    return np.repeat(grey[:, None], 3, 1).reshape(HEIGHT, WIDTH, 3).clip(0.0, 1.0)


@pytest.fixture
def capture(tmp_path):
    frames = []
    for number, place in enumerate(PLACES):
        image = picture(camera(place)) * (1.25 if number == BRIGHT else 1.0)
        Image.fromarray(np.round(255 * image.clip(0, 1)).astype(np.uint8)).save(tmp_path / f"{number}.png")
        frames.append(Frame(str(number), tmp_path / f"{number}.png", camera(place), "train"))
    frames[ELSEWHERE] = dataclasses.replace(frames[ELSEWHERE], camera=camera(PLACES[-2]))
    return Capture(tmp_path, "x", tuple(frames), Similarity(), 0.1, 9.0, True, None, np.zeros((0, 3)))


def test_a_photo_from_elsewhere_says_nothing_of_the_exposure_of_others(capture):
    def surfaces(cam):
        return points_of(cam), np.full(WIDTH * HEIGHT, DISTANCE), np.ones(WIDTH * HEIGHT, bool)

    found = photo_evidence(capture, picture, surfaces)
    gains = {int(name): photo.gain_stops for name, photo in found.items()}
    assert found[str(ELSEWHERE)].match + 0.1 < found[str(ELSEWHERE)].other_match
    assert gains.pop(ELSEWHERE) is None
    assert gains.pop(BRIGHT) > 0.5
    assert max(map(abs, gains.values())) < 0.1
    assert found[str(BRIGHT)].gain_jump_stops > 0.5 and abs(found[str(BRIGHT + 1)].gain_jump_stops) < 0.1
