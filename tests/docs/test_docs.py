"""The documentation says what the code does: the manifest's schema, the figures, the generated parts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from docs import figures
from smerf.scene.example import example_camera, example_scene
from smerf.scene.manifest import SceneCamera, StartCamera
from smerf.scene.write import write_scene

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install -e '.[dev]'")
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def validator():
    schema = json.loads((DOCS / "schema" / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Return the manifest of a scene that smerf wrote, with everything that it may hold."""
    scene = example_scene(32)
    camera = example_camera()
    full = replace(
        scene.manifest,
        start=StartCamera(camera.world_from_cam, 60.0),
        near=0.1,
        background=(1.0, 1.0, 1.0),
        cameras=(SceneCamera("a.jpg", "test", camera),),
    )
    folder = tmp_path_factory.mktemp("scene") / "baked"
    write_scene(folder, scene.params, scene.mlp, [scene.submodel(0)], full)
    return json.loads((folder / "manifest.json").read_text())


def test_the_schema_accepts_what_smerf_writes_and_names_every_key(validator, manifest):
    assert [error.message for error in validator.iter_errors(manifest)] == []
    assert manifest.keys() <= validator.schema["properties"].keys()
    assert (
        manifest["cameras"][0].keys()
        == validator.schema["properties"]["cameras"]["items"]["properties"].keys()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"format": "other"},
        {"near": 0},
        {"files": {"../outside": {"sha256": "0" * 64, "bytes": 1}}},
        {"start": {"world_from_cam": [[0] * 4] * 2, "fov_degrees": 60}},
        {"required_features": "none"},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(validator, manifest, change):
    assert list(validator.iter_errors(manifest | change))


def test_figures_are_drawn_and_a_second_time_the_same(tmp_path):
    paths = figures.write_all(tmp_path)
    before = {path: path.read_bytes() for path in paths}
    assert len(paths) == 4 and all(ElementTree.parse(path).getroot().tag.endswith("svg") for path in paths)
    figures.write_all(tmp_path)
    assert before == {path: path.read_bytes() for path in paths}
    inside, outside = figures.contract(np.array([[0.5, -0.2], [4.0, 2.0]]))
    assert inside.tolist() == [0.5, -0.2] and outside.tolist() == [1.75, 0.5]
    for path in paths:
        assert f"images/{path.name}" in (DOCS / "concepts.md").read_text()


def test_the_site_names_every_command_and_room():
    from docs import hooks
    from smerf.cli.main import COMMANDS

    commands, rooms = hooks.commands(), hooks.rooms()
    assert all(f"## smerf {name}\n" in commands for name in COMMANDS)
    assert "smerf synth tabletop" in commands and "smerf objects encode" in commands
    assert "| `scene` |" in rooms and "`fields`" in rooms
    assert "## Commits" in hooks.contributing()
    assert "| fox |" in hooks.minutes() and "benchmarks.minutes" in hooks.minutes()


def test_the_table_of_minutes_has_a_column_for_a_gpu(tmp_path, monkeypatch):
    from docs import hooks

    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    shutil.copytree(hooks.ROOT / "data" / "minutes", tmp_path / "data" / "minutes")
    monkeypatch.setattr(hooks, "ROOT", tmp_path)
    assert all("not measured" in line for line in hooks.minutes().splitlines() if "| fox" in line)
    stages = (
        {"name": f"{stage}/fox", "rays_per_second": 3e6, "minutes": 1.5} for stage in ("teacher", "student")
    )
    document = {"command": "python -m it", "device": {"name": "a GPU"}, "records": list(stages)}
    (tmp_path / "benchmarks" / "results" / "gpu_suite.json").write_text(json.dumps(document))
    table = hooks.minutes()
    assert "| 3000000 |" in table and "`python -m it` on a GPU" in table
    assert all(
        ("not measured" in line) == ("| lego |" in line) for line in table.splitlines() if "| lego" in line
    )
