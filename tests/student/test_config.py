import math
from dataclasses import replace

import pytest

from smerf.engine.settings import from_dict, to_dict
from smerf.errors import InvalidDataError
from smerf.student.config import PRESETS, StudentConfig


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("steps", 0, "at least 1"),
        ("rays", 0, "at least 1"),
        ("rays", 8, "one patch of 9 rays"),
        ("pool", 1000, "at least the 4096 rays"),
        ("grid_lr", -0.1, "not negative"),
        ("network_lr", math.nan, "not negative"),
        ("final_lr", 0.0, "above 0"),
        ("geometry_start", math.inf, "finite"),
        ("warmup_steps", -1, "not negative"),
        ("uses_per_ray", 0.0, "above 0"),
        ("partition", 0, "at least 1"),
        ("partition", 33, "1 to 32"),
        ("lattice", 0, "at least 1"),
        ("voxel_resolution", 100, "multiple of 8"),
        ("plane_resolution", 1022, "multiple of 4"),
        ("submodel_scale", 0.0, "above 0"),
        ("view_interpolation", 1.5, "from 0 to 1"),
        ("tau_ramp_end", 0.1, "at least tau_ramp_start"),
        ("parameterisation", "triplane", "explicit or hash"),
        ("decoder", (64, 0), "at least 1"),
        ("occupied_rays", 0, "at least 1"),
    ],
)
def test_an_impossible_value_is_refused_by_name(key, value, expected):
    config = StudentConfig(patch=3)
    with pytest.raises(ValueError, match=rf"{key}: expected .*{expected}.*, got ") as error:
        replace(config, **{key: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_read_back(name):
    assert from_dict(StudentConfig, to_dict(PRESETS[name])) == PRESETS[name]


@pytest.mark.parametrize("old", StudentConfig.RENAMED)
def test_an_old_name_is_refused_with_the_new_one(old):
    new = StudentConfig.RENAMED[old]
    assert hasattr(StudentConfig(), new)
    with pytest.raises(InvalidDataError, match=f"student.{old} is now called student.{new}"):
        from_dict(StudentConfig, {old: 1}, "student")


def test_no_warm_up_is_possible():
    assert StudentConfig(warmup_steps=0).warmup_steps == 0
