"""Settings of the teacher: impossible values are refused by name, renamed ones with their new name."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from smerf.engine.settings import from_dict, to_dict
from smerf.errors import InvalidDataError
from smerf.teacher.config import PRESETS, TeacherConfig


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_yaml(preset):
    assert from_dict(TeacherConfig, to_dict(PRESETS[preset])) == PRESETS[preset]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("rays", 0),
        ("rays", 10_000_001),
        ("samples", 0),
        ("warmup_steps", -1),
        ("table_lr", math.nan),
        ("network_lr", -1e-3),
        ("camera_lr", math.inf),
        ("final_lr", 0.0),
        ("charbonnier", 0.0),
        ("mix_start", 1.1),
        ("uniform_fraction", -0.1),
        ("proposal_every", 0),
        ("cache_resolution", -1),
        ("cache_max_depth", math.nan),
        ("scene_scale", 0.0),
        ("spacing_power", 0.5),
        ("distortion_scale", -1.0),
        ("blur", 0.0),
        ("seed", -1),
        ("multisamples", 2),
        ("checkpoint_seconds", math.nan),
    ],
)
def test_impossible_values_are_refused_with_key_expected_and_got(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: expected .*, got {value}"):
        replace(PRESETS["standard"], **{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache_resolution": 64, "contraction": "ball"}, "contraction: expected cube with a density cache"),
        ({"cache_resolution": 64, "proposal_samples": 300}, "proposal_samples: expected 1 to 256"),
        ({"cache_resolution": 64, "sampler": "nerfacc"}, "sampler: expected own with a density cache"),
        ({"coarse": PRESETS["paper"].coarse, "proposal": None}, "coarse: expected a proposal behind it"),
        ({"field": PRESETS["paper"].coarse}, "field.colour_width: expected at least 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(PRESETS["tiny"], **changes)


def test_a_user_is_told_the_key_and_its_new_name():
    with pytest.raises(InvalidDataError, match=r"teacher: steps: expected 1 to .*, got 0"):
        from_dict(TeacherConfig, {"steps": 0}, "teacher")
    with pytest.raises(InvalidDataError, match=r"teacher\.even_rays is now called teacher\.uniform_fraction"):
        from_dict(TeacherConfig, {"even_rays": 0.5}, "teacher")
    with pytest.raises(InvalidDataError, match=r"teacher\.cache_cap is now called teacher\.cache_max_depth"):
        from_dict(TeacherConfig, {"cache_cap": 0.5}, "teacher")
