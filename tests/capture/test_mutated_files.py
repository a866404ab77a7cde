"""Damaged captures and scenes end in a result or in an error that names a file, whatever the damage.

``SMERF_MUTATIONS=1000`` tries more copies of each layout.
"""

import dataclasses
import logging
import os
import shutil
import zlib

import numpy as np
import pytest

from smerf.capture import load_capture, load_image
from smerf.errors import InvalidDataError
from smerf.render.march import render_camera
from smerf.scene import load_scene, write_scene
from smerf.scene.example import example_camera, example_scene
from tests.helpers.capture_layouts import write_colmap, write_llff, write_nerfstudio, write_synthetic
from tests.helpers.mutation import mutate_bytes, mutate_json

ROUNDS = int(os.environ.get("SMERF_MUTATIONS", "40"))


def damage(folder, rng):
    """Damage one file of a folder; images are left alone in half of the cases."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    others = [path for path in files if path.suffix not in (".png", ".gz")]
    chosen = others if rng.random() < 0.5 else files
    path = chosen[rng.integers(len(chosen))]
    change = mutate_json if path.suffix == ".json" and rng.random() < 0.8 else mutate_bytes
    path.write_bytes(change(path.read_bytes(), rng))


def check(original, read, tmp_path, seed):
    """Read ``ROUNDS`` damaged copies; return how many were refused."""
    rng = np.random.default_rng(seed)
    refused = 0
    for number in range(ROUNDS):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(original, copy)
        damage(copy, rng)
        try:
            read(copy)
        except InvalidDataError as error:
            refused += 1
            assert str(tmp_path) in str(error)
        shutil.rmtree(copy)
    return refused


@pytest.mark.parametrize("layout", ["nerfstudio", "synthetic", "colmap binary", "colmap text", "llff"])
def test_damaged_captures(tmp_path, layout, caplog):
    caplog.set_level(logging.ERROR, "smerf")
    writers = {
        "nerfstudio": write_nerfstudio,
        "synthetic": write_synthetic,
        "colmap binary": write_colmap,
        "colmap text": lambda root: write_colmap(root, binary=False),
        "llff": write_llff,
    }
    original = tmp_path / "original"
    writers[layout](original)

    def read(folder):
        capture = load_capture(folder)
        for frame in capture.frames:
            load_image(frame)
        poses = np.stack([frame.camera.world_from_cam for frame in capture.frames])
        assert np.isfinite(poses).all() and np.isfinite(capture.near)

    assert check(original, read, tmp_path, zlib.crc32(layout.encode())) >= ROUNDS // 8


@pytest.mark.parametrize("array_format", ["png", "raw", "raw.gz"])
@pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "foreign"])
def test_damaged_scenes(tmp_path, array_format, is_ours):
    original = example_scene(32, 2, (1, 6), lattice=1)
    submodels = [original.submodel(k) for k in range(2)]
    folder = tmp_path / "original"
    write_scene(folder, original.params, original.mlp, submodels, original.manifest, array_format)
    if not is_ours:
        # Scenes of the official exporter have no hashes: what is damaged has to be found by its values.
        (folder / "manifest.json").unlink()

    def read(folder):
        opened = load_scene(folder)
        for k in range(len(opened.params.params_to_sm)):
            opened.submodel(k)
            image = render_camera(opened, camera_in(opened, k))
            assert image.shape == (12, 16, 3) and np.isfinite(image).all()

    assert check(folder, read, tmp_path, zlib.crc32(array_format.encode())) >= ROUNDS // 8


def camera_in(scene, k):
    """Return a camera in a submodel's middle."""
    camera = example_camera(16, 12)
    pose = camera.world_from_cam.copy()
    pose[:, 3] = scene.params.submodel_centre(k)
    return dataclasses.replace(camera, world_from_cam=pose)
