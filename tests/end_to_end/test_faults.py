"""Kills, full disks and refused files, at a sample of what ``tests.end_to_end.faults`` tries: nothing is lost."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.end_to_end.faults import COMMANDS, Place, try_all
from tests.helpers.faults import FAULTS, in_child, prepared, whole

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SAMPLES = 12


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Photos and a finished run of them, with the fakes in the place of the stages."""
    with prepared(tmp_path_factory.mktemp("faults")) as found:
        yield found


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_lost_wherever_a_command_fails_and_it_finishes_when_given_again(inputs, tmp_path, command):
    place = Place(COMMANDS[command], *inputs, tmp_path)
    count = place.count()
    assert count > 20
    codes = [
        place.fail(1 + k * (count - 1) // (SAMPLES - 1), list(FAULTS)[k % len(FAULTS)])
        for k in range(SAMPLES)
    ]
    assert any(codes)


def test_a_loss_is_counted_and_told(inputs, tmp_path, monkeypatch):
    place, told = Place(COMMANDS["bake_again"], *inputs, tmp_path), []
    monkeypatch.setattr(place, "before", {**place.before, "gone": "0"})
    found = try_all(place, [3], told.append)
    assert found["losses"] == len(told) == len(FAULTS)
    assert all("operation 3: a result is gone" in text for text in told)


def test_a_wish_that_cannot_be_met_costs_nothing(inputs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(inputs[1], run)
    before, config = whole(run), (run / "config.yaml").read_bytes()
    code, _, err = in_child(("bake", run, "--max-mb", "0.001", "-q"))
    assert code == 2 and "can't be made smaller" in err
    assert whole(run) == before and (run / "config.yaml").read_bytes() == config
    assert "Traceback" not in (run / "log.txt").read_text()
    assert in_child(("export", run, "-o", tmp_path / "site"))[0] == 0
    assert in_child(("bake", run, "-q"))[0] == 0 and whole(run) == before
