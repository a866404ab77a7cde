from dataclasses import replace

from toy_room import CONFIG, Room, make_capture

from smerf.student import distill
from smerf.student.resolution import choose_resolution
from smerf.student.trainer import choose_partition


def test_grids_are_finer_where_the_scene_fills_few_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("smerf.student.resolution._RAYS", 2048)
    capture = make_capture(tmp_path)

    def chosen(config):
        config = choose_resolution(config, Room(), capture, choose_partition(capture, config, Room()))
        return config.voxel_resolution, config.plane_resolution

    assert chosen(CONFIG) == (32, 128)
    assert chosen(replace(CONFIG, most_blocks=1000)) == (64, 256)
    assert chosen(replace(CONFIG, most_blocks=100)) == (32, 128)
    # Submodels of one scene share their resolution: it is the configured one.
    assert chosen(replace(CONFIG, most_blocks=1000, partition=3)) == (32, 128)


def test_a_student_keeps_the_resolution_that_was_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr("smerf.student.resolution._RAYS", 2048)
    config = replace(CONFIG, most_blocks=1000, steps=2, pool=2048, alive_rays=1024)
    student = distill(Room(), make_capture(tmp_path), config, folder=tmp_path / "student")
    assert student.config.voxel_resolution == 64 and student.grids[0].spec.plane_resolution == 256
