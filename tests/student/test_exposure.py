import math
from dataclasses import replace

import numpy as np
import pytest

from smerf.baking import BakeConfig, bake
from smerf.errors import UsageError
from smerf.fields.ray_bank import camera_rays
from smerf.render.scene import load_scene
from smerf.student import distill, load_student
from tests.helpers.toy_room import CONFIG, ExposedRoom, Room, make_capture


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exposed")
    capture = make_capture(folder)
    config = replace(CONFIG, exposure=True, steps=400, rays=1024, pool=16384)
    distill(ExposedRoom(), capture, config, folder=folder / "student")
    return capture, load_student(folder / "student"), folder


def test_a_longer_exposure_is_as_much_brighter_as_the_teacher_says(exposed):
    capture, student, _ = exposed
    rays = camera_rays(capture.frames[1].camera)
    answer = Room().query(rays)
    shown = answer.colour.mean()
    assert student.log_exposure == pytest.approx(math.log(0.02))
    for exposure, factor in ((0.01, 0.5), (0.02, 1.0), (0.04, 1.6)):
        student.log_exposure = math.log(exposure)
        brightness = student.render_rays(rays, answer.edges, 0).mean()
        assert brightness == pytest.approx(float(factor * shown), rel=0.25)
    student.log_exposure = math.log(0.02)


def test_a_baked_scene_is_shown_with_the_median_exposure(exposed):
    capture, student, folder = exposed
    student.teacher = Room()
    bake(student, capture, BakeConfig(array_format="raw"), folder=folder / "baked")
    scene = load_scene(folder / "baked")
    assert scene.params.default_exposure == pytest.approx(0.02)
    camera = capture.frames[2].camera
    drawn, simulated = scene.render(camera), student.render_image(camera)
    assert -10.0 * math.log10(float(np.mean((drawn - simulated) ** 2))) > 36.0


def test_a_teacher_without_exposures_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"teacher\.exposure=gain or learned"):
        distill(Room(), make_capture(tmp_path), replace(CONFIG, exposure=True), folder=tmp_path / "student")
