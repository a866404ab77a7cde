"""The desktop benchmark on a tiny scene: figures that make sense, and a march that still counts."""

import json

import pytest

from benchmarks import desktop
from smerf.scene.example import example_scene
from smerf.scene.write import write_scene


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory):
    scene = example_scene(32)
    root = tmp_path_factory.mktemp("benchmark") / "room"
    return write_scene(root, scene.params, scene.mlp, [scene.submodel(0)], scene.manifest).root


@pytest.mark.gl
def test_frame_times_and_counts(scene_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(desktop, "STARTS", 1)
    words = [str(scene_dir), "--size", "32x20", "--cameras", "2", "--frames", "2"]
    assert desktop.BENCHMARK.main([*words, "--json", str(tmp_path / "out.json")]) == 0
    (record,) = json.loads((tmp_path / "out.json").read_text())["records"]
    assert record["name"] == "desktop/room" and record["size"] == [32, 20] and record["frames"] == 4
    assert 0 < record["median_ms"] <= record["p90_ms"] <= record["p99_ms"]
    assert 0 < record["first_picture_s"] <= record["finished_picture_s"]
    # Every sample reads density from the grid and three planes; colours and grids come on top.
    assert record["samples_per_ray"] > 0 and record["fetches_per_sample"] >= 4
    assert record["samples_per_ray"] <= record["steps_per_ray"]
    assert "room" in capsys.readouterr().out
