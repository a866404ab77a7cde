"""A splat file and a mesh file become pages, the same each time, within a size, and teach a run that exists."""

import json
import shutil

import numpy as np
import pytest

from smerf.cli.main import main
from smerf.scene import load_scene
from tests.helpers import mesh_files, splat_files

SMALL = ("--preset", "tiny", "--device", "cpu", "--quiet", "--set", "student.steps=150")


def smerf(*words):
    return main([str(word) for word in words])


def splats():
    """Opaque splats that fill a ball of radius 0.5, coloured by their place."""
    cloud = splat_files.random_splats(1200, 0)
    unit = cloud.means / np.linalg.norm(cloud.means, axis=1, keepdims=True)
    cloud.means = (0.5 * np.cbrt(np.random.default_rng(0).random((1200, 1))) * unit).astype(np.float32)
    cloud.log_scales[:], cloud.opacities[:], cloud.sh[:, 0] = np.log(0.06), 0.9, 0.9 * unit
    return splat_files.ply(cloud)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the folder of a splat file, a mesh file and a run of each."""
    folder = tmp_path_factory.mktemp("assets")
    (folder / "splats.ply").write_bytes(splats())
    (folder / "ball.ply").write_bytes(mesh_files.coloured_ply(mesh_files.sphere()))
    for name in ("splats", "ball"):
        assert smerf("run", folder / f"{name}.ply", "-o", folder / name, *SMALL) == 0
    return folder


@pytest.mark.parametrize("name", ["splats", "ball"])
def test_a_file_becomes_a_page_that_names_it(runs, name, capsys):
    metrics = json.loads((runs / name / "metrics.json").read_text())["stages"]
    assert metrics["teacher"]["results"]["psnr"] > 40.0 and metrics["baked"]["results"]["psnr"] > 15.0
    source = json.loads((runs / name / "baked" / "manifest.json").read_text())["extra"]["source_teacher"]
    assert source["name"] == f"{name}.ply" and len(source["sha256"]) == 64
    assert (runs / name / "site" / "index.html").is_file()
    assert smerf("run", runs / f"{name}.ply", "-o", runs / name, *SMALL) == 0
    assert "own renders" in capsys.readouterr().out


def test_a_run_gives_the_same_bytes_again(runs, tmp_path):
    assert smerf("run", runs / "ball.ply", "-o", tmp_path / "again", *SMALL) == 0
    first, second = (
        {
            path.name: path.read_bytes()
            for path in sorted((folder / "baked").rglob("*"))
            if path.is_file() and path.suffix != ".json"
        }
        for folder in (runs / "ball", tmp_path / "again")
    )
    assert first and first == second


def test_a_size_can_be_asked_for(runs, tmp_path):
    shutil.copytree(runs / "splats", tmp_path / "run")

    def size():
        return sum(path.stat().st_size for path in (tmp_path / "run" / "baked").rglob("*") if path.is_file())

    before = size()
    assert smerf("bake", tmp_path / "run", "--max-mb", 0.8 * before / 1e6, "--quiet", "--overwrite") == 0
    assert size() <= 0.82 * before and load_scene(tmp_path / "run" / "baked").manifest.cameras


def test_a_file_teaches_a_run_that_exists(runs, tmp_path, capsys):
    shutil.copytree(runs / "splats", tmp_path / "run")
    words = ("distill", tmp_path / "run", "--teacher", runs / "ball.ply", "--device", "cpu", "--quiet")
    assert smerf(*words, "--light") == 0
    record = json.loads((tmp_path / "run" / "student" / "foreign.json").read_text())
    assert record["name"] == "ball.ply" and record["options"]["light"] is True
    assert smerf("distill", tmp_path / "run", "--light", "--device", "cpu", "--quiet") == 2
    assert "--teacher FILE" in capsys.readouterr().err
