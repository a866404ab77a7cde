import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.baking import BakeConfig, bake
from smerf.fields.ray_bank import camera_rays
from smerf.render.reference import render_camera
from smerf.scene import load_scene, verify_manifest
from smerf.scene.manifest import read_manifest
from smerf.scene.view import MarchOptions
from smerf.student import distill, load_student
from smerf.student.partition import Partition
from tests.helpers.toy_room import CONFIG, Room, make_capture, make_student

RAW = BakeConfig(array_format="raw.gz", region=False)


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def simulate(student, camera, submodel=0):
    """Render the student over 250 even intervals: far finer than its grids."""
    rays = camera_rays(camera)
    edges = torch.linspace(0.05, 2.45, 251).expand(len(rays), -1).contiguous()
    image = student.render_rays(rays, edges, submodel).clamp(0.0, 1.0)
    return image.view(camera.intrinsics.height, camera.intrinsics.width, 3).numpy()


def psnr(one, other):
    return -10.0 * np.log10(max(1e-12, float(np.mean((one - other) ** 2))))


def mark(student, capture):
    """Mark what the capture's cameras see, as the end of distillation does."""
    from smerf.kernels import grid_render
    from smerf.student.visibility import OccupiedCells

    for one in student.submodels:
        one.occupied = OccupiedCells(one.grids.spec)
    for frame in capture.frames:
        rays = camera_rays(frame.camera)
        edges = Room().query(rays).edges
        for one in student.submodels:
            anchor, tau = torch.zeros(1), student.tau
            _, weights = grid_render(one.grids, anchor, rays.origins, rays.directions, edges, tau)
            one.occupied.mark(rays, edges, weights, 0.002)


@pytest.mark.parametrize("array_format", ["png", "raw", "raw.gz"])
def test_a_baked_folder_opens_and_is_whole(tmp_path, array_format):
    capture, student = make_capture(tmp_path), make_student(Room(), noise=0.2)
    calls = []
    scene = bake(
        student, capture, BakeConfig(array_format=array_format), folder=tmp_path / "baked",
        progress=lambda *a: calls.append(a),
    )  # fmt: skip
    assert verify_manifest(tmp_path / "baked") == []
    again = load_scene(tmp_path / "baked")
    assert again.params == scene.params
    assert (again.submodel(0).atlas == scene.submodel(0).atlas).all()
    assert calls[0] == (0, 1) and calls[-1] == (1, 1)
    assert again.params.triplane_resolution == 128 and again.params.sparse_grid_resolution == 32
    # The format stores the background as bytes.
    assert again.params.background == pytest.approx(student.background, abs=0.5 / 255)


def test_the_manifest_says_where_the_scene_comes_from(tmp_path):
    capture, student = make_capture(tmp_path), make_student(Room())
    bake(student, capture, RAW, folder=tmp_path / "baked")
    manifest = read_manifest(tmp_path / "baked")
    assert manifest.near == student.near and manifest.background == student.background
    source = manifest.training_from_source
    assert source.scale == 0.5
    np.testing.assert_allclose(source.translation, capture.training_from_source.translation)
    assert [entry.name for entry in manifest.cameras] == [frame.name for frame in capture.frames]
    assert [entry.split for entry in manifest.cameras] == ["train"] * 7 + ["test"]
    for entry, frame in zip(manifest.cameras, capture.frames):
        np.testing.assert_allclose(entry.camera.world_from_cam, frame.camera.world_from_cam)
        assert entry.camera.intrinsics == frame.camera.intrinsics
    # Small pictures go by how wide a pixel of the photos is.
    focal = np.median(
        [np.sqrt(f.camera.intrinsics.fx * f.camera.intrinsics.fy) for f in capture.split("train")]
    )
    assert manifest.pixel_angle == pytest.approx(1.0 / focal)
    # The viewer starts at a training photo, with its field of view.
    starts = [frame.camera.world_from_cam for frame in capture.split("train")]
    assert any(np.allclose(manifest.start.world_from_cam, pose) for pose in starts)
    assert manifest.start.fov_degrees == pytest.approx(np.degrees(2 * np.arctan(0.5 / 0.7)))
    assert set(manifest.files) == set(contents(tmp_path / "baked")) - {"manifest.json"}


def test_baking_twice_gives_the_same_bytes(tmp_path):
    capture, student = make_capture(tmp_path), make_student(Room(), noise=0.2)
    for config in (BakeConfig(), RAW):
        for name in ("one", "two"):
            bake(student, capture, config, folder=tmp_path / config.array_format / name)
        both = [contents(tmp_path / config.array_format / name) for name in ("one", "two")]
        assert both[0] == both[1]


def test_whole_frames_agree_with_the_simulated_student(tmp_path):
    capture, student = make_capture(tmp_path, size=24), make_student(Room(), noise=0.1)
    mark(student, capture)
    scene = bake(student, capture, RAW, folder=tmp_path / "baked")
    assert 0.02 < student.submodels[0].occupied.grid().mean() < 0.5
    for frame in capture.frames[::4]:
        drawn, simulated = render_camera(scene, frame.camera), simulate(student, frame.camera)
        assert psnr(drawn, simulated) > 40.0
        assert simulated.std() > 0.05


def test_frames_of_several_submodels_agree_with_the_simulated_student(tmp_path):
    partition = Partition(2, (1, 5, 7), 2.0)
    student = make_student(Room(), replace(CONFIG, lattice=2), partition, noise=0.05)
    with torch.no_grad():
        for k, network in enumerate(student.networks):
            for parameter in network.parameters():
                parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(k))
    capture = make_capture(tmp_path, size=16)
    scene = bake(student, capture, RAW, folder=tmp_path / "baked")
    assert scene.params.params_to_sm == (1, 5, 7) and verify_manifest(tmp_path / "baked") == []
    # The walls lie in a submodel's coarse outskirts: two samples a texel leave little to the spacing of samples.
    frame = capture.frames[1]
    for k in range(3):
        drawn = render_camera(scene, frame.camera, k=k, options=MarchOptions(step_multiplier=2))
        simulated = simulate(student, frame.camera, k)
        assert psnr(drawn, simulated) > 40.0


def test_a_hash_student_bakes_to_what_it_showed(tmp_path):
    config = replace(
        CONFIG, parameterisation="hash", grid_lr=0.01, rays=256, steps=10, pool=1024, occupied_rays=1024
    )
    capture = make_capture(tmp_path)
    distill(Room(), capture, config, folder=tmp_path / "student")
    student = load_student(tmp_path / "student")
    # So few steps leave fog, which viewers draw: keep it in the simulation as well.
    student.tau, student.submodels = 0.0, [student.submodels[0]]
    student.submodels[0].occupied = make_student().submodels[0].occupied
    scene = bake(student, capture, RAW, folder=tmp_path / "baked")
    camera = capture.frames[1].camera
    drawn, simulated = render_camera(scene, camera), simulate(student, camera)
    assert psnr(drawn, simulated) > 40.0 and simulated.std() > 0.02
