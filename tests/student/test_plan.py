import logging
from dataclasses import replace

import pytest

from smerf.engine.checkpoint import load_latest
from smerf.errors import UsageError
from smerf.student import distill
from smerf.student.partition import Partition
from smerf.student.plan import choose_partition, is_resolved, resolve_config
from smerf.student.trainer import StudentTrainer
from tests.helpers.toy_room import CONFIG, ExposedRoom, Room, make_capture


@pytest.fixture(autouse=True)
def few_rays(monkeypatch):
    monkeypatch.setattr("smerf.student.plan._RAYS", 2048)


def test_grids_are_finer_where_the_scene_fills_few_blocks(tmp_path):
    capture = make_capture(tmp_path)

    def chosen(config):
        config = resolve_config(config, Room(), capture)
        return config.voxel_resolution, config.plane_resolution

    assert chosen(CONFIG) == (32, 128)
    assert chosen(replace(CONFIG, max_blocks=1000)) == (64, 256)
    assert chosen(replace(CONFIG, max_blocks=100)) == (32, 128)
    # Submodels of one scene share their resolution: it is the configured one.
    assert chosen(replace(CONFIG, max_blocks=1000, partition=3)) == (32, 128)


@pytest.mark.parametrize("changes", [{}, {"max_blocks": 1000}, {"partition": 2, "max_blocks": 9}])
def test_what_is_decided_is_logged_once_and_stays(tmp_path, caplog, changes):
    capture, config = make_capture(tmp_path), replace(CONFIG, **changes)
    assert not is_resolved(config)
    with caplog.at_level(logging.INFO, "smerf"):
        resolved = resolve_config(config, Room(), capture)
        assert resolve_config(resolved, Room(), capture) == resolved and is_resolved(resolved)
    (line,) = caplog.messages
    assert f"voxel_resolution {resolved.voxel_resolution}" in line
    assert f"submodel_scale {resolved.submodel_scale:g}" in line


def test_a_trainer_decides_nothing_by_itself(tmp_path):
    with pytest.raises(ValueError, match="resolve_config"):
        StudentTrainer(Room(), make_capture(tmp_path), CONFIG)


def test_a_student_keeps_the_resolution_that_was_chosen(tmp_path):
    config = replace(CONFIG, max_blocks=1000, steps=2, pool=2048, occupied_rays=1024)
    student = distill(Room(), make_capture(tmp_path), config, folder=tmp_path / "student")
    assert student.config.voxel_resolution == 64
    assert student.submodels[0].grids.spec.plane_resolution == 256
    assert load_latest(tmp_path / "student") is None


def test_a_teacher_without_exposures_is_refused_before_anything_is_done(tmp_path):
    capture, config = make_capture(tmp_path), replace(CONFIG, exposure=True)
    with pytest.raises(UsageError, match=r"teacher\.exposure=gain or learned"):
        resolve_config(config, Room(), capture)
    assert is_resolved(resolve_config(config, ExposedRoom(), capture))


def test_cells_with_training_cameras_get_a_submodel(tmp_path):
    capture, config = make_capture(tmp_path), replace(CONFIG, partition=2)

    def chosen(capture, config):
        return choose_partition(capture, resolve_config(config, Room(), capture))

    assert chosen(capture, config) == Partition(2, (1, 3, 7), 1.6)
    few = replace(
        capture,
        frames=tuple(replace(f, split="test" if i > 2 else "train") for i, f in enumerate(capture.frames)),
    )
    # The test photos' cells are not there.
    assert chosen(few, config).cells == (7,)
    assert chosen(capture, CONFIG) == Partition(1, (0,), 1.0)
    assert chosen(capture, replace(config, submodel_scale=3.0)).scale == 3.0
