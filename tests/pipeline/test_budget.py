"""Granted minutes become a plan: it fits, grows with the minutes, follows the machine, and says its reasons."""

from dataclasses import replace
from pathlib import Path

import pytest

from smerf.errors import UsageError
from smerf.pipeline.budget import Facts, check_minutes, make_plan
from smerf.pipeline.config import make_config
from smerf.pipeline.footprint import Photos, peak_bytes, require_grids
from smerf.pipeline.grant import (
    DEFAULT_MINUTES,
    Start,
    choose_minutes,
    granted_seconds,
    plan_distillation,
    plan_run,
    plan_training,
    require_alone,
)
from smerf.pipeline.ladder import LADDER, Table
from smerf.pipeline.rates import Rates
from smerf.student.division import Division

RATES = Rates(photo=0.02, teacher=1.5e-5, query=5e-6, student=1.2e-5)
SCENE = Facts("scene", train=50, test=7, size=(1080, 1920))
MINUTES = (1, 1.5, 2, 4, 7, 10, 20, 45, 120, 600)


def record(minutes, psnr, **changes):
    values = {"capture": "a", "kind": "scene", "minutes": minutes, "rates": vars(RATES), "psnr": psnr}
    values |= {"teacher_ray": 1e-5, "student_ray": 1e-5, "megabytes": 10.0 + minutes, "memory_mb": 900.0}
    return values | changes


TABLE = Table([record(1.0, 26.0), record(4.0, 30.0), record(16.0, 31.0)])


def one(most):
    return Division(1, 1, "the cameras circle one place")


def plan(minutes, facts=SCENE, rates=RATES, divide=one, spent=0.0):
    return make_plan(minutes, facts, rates, TABLE, divide, spent)


def slower(factor):
    return Rates(*(factor * value for value in vars(RATES).values()))


@pytest.mark.parametrize("minutes", MINUTES)
@pytest.mark.parametrize("factor", [0.3, 1.0, 6.0])
def test_a_plan_spends_the_time_and_no_more(minutes, factor):
    found = plan(minutes, rates=slower(factor), spent=5.0)
    used = found.train_seconds + found.distill_seconds + found.rest_seconds
    assert used == pytest.approx(60.0 * minutes - 5.0)
    config = make_config("preview", found.overrides())
    assert config.teacher.minutes == pytest.approx(found.train_seconds / 60.0, abs=1e-3)
    assert config.student.minutes == pytest.approx(found.distill_seconds / 60.0, abs=1e-3)
    assert config.max_side == found.settings["max_side"] <= 1920


def test_more_minutes_never_choose_less():
    plans = [plan(minutes) for minutes in MINUTES]
    for key in plans[0].settings:
        values = [each.settings[key] for each in plans]
        assert values == sorted(values), key
    quality = [each.expected.psnr for each in plans]
    assert quality == sorted(quality) and quality[0] == 26.0 and quality[-1] == 31.0
    assert LADDER[0].minutes == 0.0


def test_a_slower_machine_gets_the_settings_of_fewer_minutes():
    fast, slow = plan(20), plan(20, rates=slower(5.0))
    assert slow.speed == pytest.approx(fast.speed / 5.0)
    assert slow.settings["max_side"] < fast.settings["max_side"]
    assert slow.settings["teacher.steps"] < 0.3 * fast.settings["teacher.steps"]
    assert slow.expected.psnr < fast.expected.psnr


def test_less_work_than_was_measured_promises_less():
    assert TABLE.expected("scene", 1.0).psnr == 26.0
    assert TABLE.expected("scene", 0.5).psnr == pytest.approx(24.0)
    assert TABLE.expected("scene", 0.5).megabytes == 11.0


def test_captures_that_differ_are_promised_a_range():
    hard = [record(minutes, psnr - 8.0, capture="b") for minutes, psnr in ((1.0, 26.0), (4.0, 30.0))]
    found = Table([*TABLE.records, *hard]).expected("scene", 2.0)
    assert found.psnr == pytest.approx(24.0) and found.range == pytest.approx((20.0, 28.0))
    assert "20 to 28" in found.quality and "to" not in TABLE.expected("scene", 2.0).quality.split()


def test_minutes_of_another_machine_count_by_its_speed():
    slow = record(4.0, 24.0, capture="b", rates=vars(slower(4.0)))
    table = Table(TABLE.records, [slow])
    assert table.speed("scene", RATES, True) == pytest.approx(1.0)
    found = table.expected("scene", 1.0)
    assert found.range == pytest.approx((24.0, 26.0))
    assert found.word == "about" and table.expected("scene", 2.0).word == "at least"


def test_many_held_out_photos_and_a_teacher_from_elsewhere_are_reckoned_with():
    assert plan(4, replace(SCENE, test=60)).rest_seconds > plan(4).rest_seconds
    distillation = plan(4, replace(SCENE, trains=False))
    assert distillation.train_seconds == 0.0 and "teacher.steps" not in distillation.settings
    assert distillation.distill_seconds > plan(4).distill_seconds


def test_a_plan_says_what_it_chose_and_why():
    asked = []

    def rooms(most):
        asked.append(most)
        return Division(3, 7, "the cameras walk through 7 cells")

    found = plan(60, divide=rooms)
    line = found.line()
    assert "\n" not in line and "60 min" in line and "1 h" not in line
    assert "K = 3 (the cameras walk through 7 cells)" in line
    assert f"{found.settings['teacher.steps']} steps" in line and "dB" in line
    assert found.settings["student.partition"] == 3 and asked[0] > 7
    text = found.table()
    for word in ("memory", "GB", "page", "MB", "quality", "dB", "teacher.minutes", "rest"):
        assert word in text
    plan(2, divide=rooms)
    assert asked[1] < asked[0]


@pytest.mark.parametrize("minutes", [0, 0.5, 601, -1, float("nan")])
def test_minutes_out_of_range_are_refused(minutes):
    with pytest.raises(UsageError, match="expected 1 to 600"):
        check_minutes(minutes)


def test_who_asks_for_nothing_is_granted_ten_minutes():
    new = {"is_new": True, "device": "cpu"}
    assert choose_minutes(None, None, (), **new) == DEFAULT_MINUTES == 10.0
    assert choose_minutes(None, None, ("max_side=320",), **new) == 10.0
    assert choose_minutes(3.0, None, (), **new) == 3.0
    for preset, settings in (("preview", ()), (None, ("teacher.steps=9",))):
        assert choose_minutes(None, preset, settings, **new) is None
    assert choose_minutes(None, None, (), is_new=False, device="cpu") is None
    assert choose_minutes(None, None, (), is_new=True, device="cuda") is None
    with pytest.raises(UsageError, match="give one"):
        choose_minutes(3.0, "preview", (), **new)


def test_the_stages_of_a_granted_run_add_up():
    assert granted_seconds(make_config("preview")) is None
    config = replace(make_config("preview", plan(10).overrides()), minutes=10.0)
    assert sum(granted_seconds(config).values()) <= 600.0


def test_the_shipped_table_holds_what_planning_reads():
    table = Table.load()
    for kind in ("scene", "object"):
        own = next(one for one in table.of(kind) if one["work"] == one["minutes"])
        assert 0.5 < table.speed(kind, Rates(**own["rates"]), True) < 2.0
        promised = [table.expected(kind, work).psnr for work in (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)]
        assert promised == sorted(promised)
        for work in (0.1, 3.0, 1000.0):
            expected = table.expected(kind, work)
            assert 15.0 < expected.psnr < 45.0 and expected.megabytes > 0.5 and expected.memory_mb > 100
            for stage in ("teacher", "student"):
                assert 0.1 < table.pace(kind, stage, work) < 4.0


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Take the machine's rates as given; return a small capture."""
    from smerf.pipeline import grant
    from tests.helpers.ball import make_capture

    capture = make_capture(tmp_path, count=12, alpha=False)
    monkeypatch.setattr(grant, "measure_rates", lambda *arguments, **named: RATES)
    monkeypatch.setattr("smerf.capture.load_capture", lambda path, max_side: capture)
    return capture


def test_a_whole_run_and_single_stages_get_what_they_are_granted(measured):
    config, found = plan_run(Path("x"), 8.0, Start.now(), "cpu", ("student.lattice=2",))
    assert config.minutes == 8.0 and config.student.lattice == 2
    assert config.teacher.minutes + config.student.minutes < 8.0
    assert found.record()["seconds"]["train"] == pytest.approx(60.0 * config.teacher.minutes, abs=0.1)

    config, _ = plan_training(Path("x"), 8.0, Start.now(), "cpu")
    assert (config.minutes, config.teacher.minutes, config.student.minutes) == (None, 8.0, None)
    longer = plan_training(Path("x"), 16.0, Start.now(), "cpu")[0]
    assert longer.teacher.steps > 1.5 * config.teacher.steps

    before = make_config("tiny")
    config, found = plan_distillation(before, measured, object(), 5.0, Start.now(), "cpu")
    assert config.student.minutes == 5.0 and config.student.steps > 100
    assert (config.teacher, config.max_side) == (before.teacher, before.max_side)
    assert "train" not in found.line() and "distill" in found.line()


def test_steps_that_are_given_are_taken_whatever_the_time(measured):
    config, _ = plan_run(Path("x"), 8.0, Start.now(), "cpu", ("teacher.steps=77",))
    assert config.teacher.steps == 77 and config.teacher.minutes is None
    assert config.student.minutes is not None


def test_several_processes_are_granted_no_time():
    require_alone(5.0, 1)
    with pytest.raises(UsageError, match="one process"):
        require_alone(5.0, 2)


def test_memory_follows_what_is_held_at_once(measured):
    def planned(*settings, minutes=8.0):
        found = plan_run(Path("x"), minutes, Start.now(), "cpu", settings)[1]
        assert found.record()["expected"]["memory_mb"] == found.memory_mb
        return found

    small, large = planned(), planned("student.plane_resolution=4096")
    extra = 72 * 3 * (4096**2 - small.settings["student.plane_resolution"] ** 2) / 2**20
    assert large.memory_mb - small.memory_mb == pytest.approx(extra, rel=0.2)
    # What --set changes is what the plan shows and says.
    assert large.settings["student.plane_resolution"] == 4096 and "4096" in large.table()
    assert f"{large.memory_mb * 2**20 / 1e9:.1f} GB" in large.sentence()
    assert "12 photos" in small.sentence() and "take 8 min" in small.sentence()


def test_photos_cost_memory_by_their_pixels_at_the_size_trained_on(measured):
    config = make_config("preview")
    whole, quarter = (Photos("scene", count) for count in (40_000_000, 10_000_000))
    assert peak_bytes(config, whole, 1e9) - peak_bytes(config, quarter, 1e9) == 30_000_000 * 11
    size = measured.frames[0].camera.intrinsics
    photos = Photos.of(measured, max(size.width, size.height))
    assert photos.pixels == size.width * size.height * len(measured.split("train"))


def test_grids_that_do_not_fit_are_refused_with_the_setting_to_lower():
    def student(*settings):
        return make_config("preview", settings).student

    require_grids(student())
    with pytest.raises(UsageError, match=r"lower student\.plane_resolution"):
        require_grids(student("student.plane_resolution=1048576"))
    with pytest.raises(UsageError, match=r"lower student\.voxel_resolution"):
        require_grids(student("student.voxel_resolution=1048576"))
