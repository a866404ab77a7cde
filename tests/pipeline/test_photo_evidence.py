"""What photos of a wall tell of each other, where one of them is not from where it says."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageFilter

from smerf.capture.types import Camera, Capture, Frame, Intrinsics, Similarity
from smerf.pipeline.photo_evidence import photo_evidence

WIDTH, HEIGHT, FOCAL, DISTANCE = 64, 48, 60.0, 2.0
LENS = Intrinsics("PINHOLE", WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)
PLACES = np.linspace(-0.9, 0.9, 25)
ELSEWHERE, BRIGHT = 4, 17


def camera(place):
    return Camera(LENS, np.concatenate([np.eye(3), [[place], [0.0], [0.0]]], 1))


def points_of(cam, distance=DISTANCE):
    """Return the points (H * W, 3) of the wall that a camera's pixels show."""
    lens = cam.intrinsics
    column, row = np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5)
    local = np.stack([(column - lens.cx) / lens.fx, (lens.cy - row) / lens.fy, -np.ones_like(row)], -1)
    return (distance * local + cam.world_from_cam[:, 3]).reshape(-1, 3)


def picture(cam):
    """Return the wall as a camera sees it: waves, and brighter to the right."""
    x, y, _ = points_of(cam).T
    grey = 0.45 + 0.12 * x + 0.2 * np.sin(5.0 * x + 2.0 * np.sin(2.0 * y)) * np.cos(4.0 * y + x)
    return (
        np.repeat(grey[:, None], 3, 1).reshape(cam.intrinsics.height, cam.intrinsics.width, 3).clip(0.0, 1.0)
    )


def surfaces(cam):
    points = points_of(cam)
    return points, np.full(len(points), DISTANCE), np.ones(len(points), bool)


def capture_of(folder, frames):
    return Capture(folder, "x", tuple(frames), Similarity(), 0.1, 9.0, True, None, np.zeros((0, 3)))


@pytest.fixture
def capture(tmp_path):
    frames = []
    for number, place in enumerate(PLACES):
        image = picture(camera(place)) * (1.25 if number == BRIGHT else 1.0)
        Image.fromarray(np.round(255 * image.clip(0, 1)).astype(np.uint8)).save(tmp_path / f"{number}.png")
        frames.append(Frame(str(number), tmp_path / f"{number}.png", camera(place), "train"))
    frames[ELSEWHERE] = dataclasses.replace(frames[ELSEWHERE], camera=camera(PLACES[-2]))
    return capture_of(tmp_path, frames)


def test_a_photo_from_elsewhere_says_nothing_of_the_exposure_of_others(capture):
    found = photo_evidence(capture, picture, surfaces)
    gains = {int(name): photo.gain_stops for name, photo in found.items()}
    assert found[str(ELSEWHERE)].match + 0.1 < found[str(ELSEWHERE)].other_match
    assert gains.pop(ELSEWHERE) is None
    assert gains.pop(BRIGHT) > 0.5
    assert max(map(abs, gains.values())) < 0.1
    assert found[str(BRIGHT)].gain_jump_stops > 0.5 and abs(found[str(BRIGHT + 1)].gain_jump_stops) < 0.1


def is_screened(cam):
    return cam.world_from_cam[0, 3] > 0.3


def test_what_hides_a_wall_from_some_photos_is_no_jump_of_their_exposure(tmp_path):
    """A dark screen stands before the wall, where only the photos on the right see it."""

    def screened(cam):
        return 0.4 * picture(cam) if is_screened(cam) else picture(cam)

    def met(cam):
        points = points_of(cam, 0.5 * DISTANCE if is_screened(cam) else DISTANCE)
        return points, np.zeros(len(points)), np.ones(len(points), bool)

    frames = []
    for number, place in enumerate(PLACES):
        Image.fromarray(np.round(255 * screened(camera(place))).astype(np.uint8)).save(
            tmp_path / f"{number}.png"
        )
        frames.append(Frame(str(number), tmp_path / f"{number}.png", camera(place), "train"))
    found = photo_evidence(capture_of(tmp_path, frames), screened, met)
    assert max(abs(photo.gain_jump_stops) for photo in found.values()) < 0.2


def test_a_photo_of_something_smooth_is_not_blurred(tmp_path):
    """Photo 3 shows what is smooth there, photo 20 has lost what is there to see."""
    smooth, blurred = 3, 20

    def painted(cam):
        x, y, _ = points_of(cam).T
        fine = (
            0.25
            * np.sin(30.0 * x)
            * np.sin(30.0 * y)
            * (abs(cam.world_from_cam[0, 3] - PLACES[smooth]) > 0.02)
        )
        grey = (0.5 + 0.1 * x + fine).reshape(cam.intrinsics.height, cam.intrinsics.width, 1)
        return np.repeat(grey, 3, 2)

    frames = []
    for number, place in enumerate(PLACES):
        image = Image.fromarray(np.round(255 * painted(camera(place))).astype(np.uint8))
        image = image.filter(ImageFilter.GaussianBlur(3)) if number == blurred else image
        image.save(tmp_path / f"{number}.png")
        frames.append(Frame(str(number), tmp_path / f"{number}.png", camera(place), "train"))
    found = photo_evidence(capture_of(tmp_path, frames), painted, None)
    is_blurred = {int(name) for name, photo in found.items() if photo.relative_sharpness < 0.35}
    assert is_blurred == {blurred}
