"""The machine's rate on a capture is measured on a few of its photos, for scenes and objects, with any teacher."""

import pytest

from smerf.pipeline.rates import measure_rates
from tests.helpers.ball import make_capture
from tests.helpers.toy_room import Room
from tests.helpers.toy_room import make_capture as make_room


@pytest.mark.parametrize("alpha", [False, True], ids=["scene", "object"])
def test_rates_are_measured_in_a_moment(tmp_path, alpha):
    rates = measure_rates(make_capture(tmp_path, count=12, alpha=alpha), "cpu", seconds=0.05)
    assert all(0.0 < value < 0.1 for value in vars(rates).values())


def test_a_teacher_that_is_there_is_not_trained(tmp_path):
    rates = measure_rates(make_room(tmp_path), "cpu", seconds=0.05, teacher=Room())
    assert rates.teacher == 0.0 and rates.query > 0.0 and rates.student > 0.0
