import numpy as np
import pytest
import torch
import trimesh

from smerf.capture import load_capture, load_composited
from smerf.capture.types import Similarity
from smerf.fields.ray_bank import camera_rays
from smerf.fields.rays import Rays, Spacing
from smerf.teacher import load_teacher
from smerf.teacher.asset import open_asset
from smerf.teacher.asset_capture import plan_cameras, write_asset_capture
from smerf.teacher.asset_options import AssetOptions
from smerf.teacher.foreign import save_foreign, source_teacher
from smerf.teacher.placed import Placement
from tests.helpers import mesh_files as files

SIZE, COUNT = 24, 12
OPTIONS = AssetOptions()


def write(folder, mesh, name="scene.ply"):
    (folder / name).write_bytes(files.coloured_ply(mesh))
    return folder / name


def room():
    """A room of 4 x 3 x 2 seen from inside, with a box in it."""
    walls = trimesh.creation.box((4.0, 3.0, 2.0))
    walls.apply_translation((10.0, 0.0, 1.0))
    walls.invert()
    box = trimesh.creation.box((0.5, 0.5, 0.5))
    box.apply_translation((11.0, 0.5, 0.25))
    return trimesh.util.concatenate([walls, box])


@pytest.fixture
def ball(tmp_path):
    """A ball's file with its capture."""
    asset = open_asset(write(tmp_path, files.sphere()), OPTIONS)
    record = write_asset_capture(asset, OPTIONS, tmp_path / "capture", count=COUNT, size=SIZE)
    return asset, tmp_path / "capture", record


def test_an_object_is_circled_although_rays_start_inside_it(ball):
    capture = load_capture(ball[1])
    assert "orbit" in ball[2]["cameras"] and capture.background == "white" and capture.bounded
    assert len(capture.frames) == COUNT and len(capture.split("test")) == 1


def test_what_has_an_underside_is_looked_at_from_below_too(tmp_path):
    ball = write(tmp_path, files.sphere(), "ball.ply")
    dome = files.sphere()
    dome.update_faces(dome.triangles_center[:, 2] > 0.0)
    lowest = {}
    for name, path in (("ball", ball), ("dome", write(tmp_path, dome, "dome.ply"))):
        asset = open_asset(path)
        cameras = plan_cameras(asset, OPTIONS, COUNT, SIZE).cameras
        heights = [camera.world_from_cam[2, 3] - asset.content().centre[2] for camera in cameras]
        lowest[name] = min(heights) / asset.content().radius
    assert lowest["ball"] < -1.0 and -0.5 < lowest["dome"] < 0.0


def test_the_teacher_sees_what_the_photos_show(ball, tmp_path):
    asset, folder, _ = ball
    capture = load_capture(folder)
    save_foreign(asset, OPTIONS, capture, tmp_path / "teacher")
    teacher = load_teacher(tmp_path / "teacher")
    frame = capture.split("test")[0]
    photo = load_composited(frame, capture.background)
    assert np.abs(teacher.render_image(frame.camera) - photo).max() < 0.01
    answer = teacher.query(camera_rays(frame.camera))
    opacity = answer.weights.sum(-1)
    seen = (answer.colour + 1.0 - opacity[:, None]).view(SIZE, SIZE, 3).numpy()
    assert -10 * np.log10(((seen - photo) ** 2).mean()) > 18.0
    assert ((opacity == 0.0) | ((opacity - 1.0).abs() < 1e-5)).all() and 0.1 < opacity.mean() < 0.9
    assert source_teacher(tmp_path / "teacher")["triangles"] == len(files.sphere().faces)


def test_answers_place_their_weight_on_the_surface(ball, tmp_path):
    asset, folder, _ = ball
    capture = load_capture(folder)
    save_foreign(asset, OPTIONS, capture, tmp_path / "teacher")
    teacher, place = load_teacher(tmp_path / "teacher"), capture.training_from_source
    rays = camera_rays(capture.frames[0].camera)
    answer = teacher.query(rays)
    assert (answer.edges.diff(dim=-1) > 0.0).all() and answer.edges.shape == (SIZE**2, 33)
    hit = answer.weights.sum(-1) > 0.5
    middle = 0.5 * (answer.edges[:, 1:] + answer.edges[:, :-1])
    distance = (answer.weights * middle).sum(-1)[hit]
    points = (rays.origins[hit] + distance[:, None] * rays.directions[hit]).double().numpy()
    source = (points - place.translation) @ place.rotation / place.scale
    # The flat faces of the ball lie a little inside.
    np.testing.assert_allclose(np.linalg.norm(source, axis=1), 0.5, atol=0.01)


def test_a_room_is_walked_through(tmp_path):
    asset = open_asset(write(tmp_path, room()))
    record = write_asset_capture(asset, OPTIONS, tmp_path / "capture", count=COUNT, size=SIZE)
    capture = load_capture(tmp_path / "capture")
    place = capture.training_from_source
    assert "walk" in record["cameras"] and capture.background is None
    for frame in capture.frames:
        eye = (frame.camera.world_from_cam[:, 3] - place.translation) @ place.rotation / place.scale
        assert ((eye > [8.0, -1.5, 0.0]) & (eye < [12.0, 1.5, 2.0])).all()


def test_rays_that_pass_close_by_are_tested_there(tmp_path):
    # A ball: one ray hits it, one passes close to it, one far away.
    ball = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
    ball.export(tmp_path / "ball.glb")
    teacher = open_asset(tmp_path / "ball.glb").teacher(
        Placement(Similarity(), Spacing(0.5, 8.0, True), 1.0, 1.0)
    )
    origins = torch.tensor([[0.0, 0.0, 4.0], [1.02, 0.0, 4.0], [1.6, 0.0, 4.0]])
    rays = Rays(origins, torch.tensor([[0.0, 0.0, -1.0]]).expand(3, 3), torch.full((3,), 1e-3))
    answer = teacher.query(rays)
    assert torch.allclose(answer.weights.sum(-1), torch.tensor([1.0, 0.0, 0.0]))
    middle = 0.5 * (answer.edges[:, 1:] + answer.edges[:, :-1])
    close = (middle - 4.0).abs() < 0.4
    assert int(close[1].sum()) >= 16 and int(close[2].sum()) <= 4
    # Nothing of the surface is in front of it, where rays that graze it would cross it.
    assert float(answer.edges[0, :-1][answer.weights[0] > 0.0].min()) > 3.0 - 0.002


def test_glass_in_front_of_a_wall_shows_both(tmp_path):
    glass = {"pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 0.25]}, "alphaMode": "BLEND"}
    wall = {"pbrMetallicRoughness": {"baseColorFactor": [0, 1, 0, 1]}}
    arrays = {"POSITION": files.CORNERS, "indices": files.FACES.ravel().astype(np.uint16)}
    document, binary = files.gltf_parts(arrays, materials=[glass, wall])
    primitive = document["meshes"][0]["primitives"][0]
    document["meshes"] = [{"primitives": [primitive | {"material": number}]} for number in (0, 1)]
    document["nodes"] = [{"mesh": 0, "translation": [0, 0, 1]}, {"mesh": 1}]
    (tmp_path / "glass.glb").write_bytes(files.glb(document, binary))
    asset = open_asset(tmp_path / "glass.glb")
    teacher = asset.teacher(Placement(Similarity(), Spacing(0.5, 6.0, True), 1.0, 1.0))
    rays = Rays(torch.tensor([[0.0, 0.0, 4.0]]), torch.tensor([[0.0, 0.0, -1.0]]), torch.tensor([1e-3]))
    answer = teacher.query(rays)
    torch.testing.assert_close(answer.colour, torch.tensor([[0.25, 0.75, 0.0]]))
    front = answer.weights[0][answer.edges[0, 1:] < 3.5].sum()
    assert float(front) == pytest.approx(0.25, abs=1e-5) and float(answer.weights.sum()) == pytest.approx(1.0)


def test_far_coordinates_cost_no_precision(tmp_path):
    far = files.sphere(subdivisions=1)
    ours = []
    for shift in (0.0, 4_000_000.0):
        moved = far.copy()
        moved.apply_translation((shift, 0.0, 0.0))
        moved.visual = far.visual
        (tmp_path / "far.obj").write_text(moved.export(file_type="obj", digits=6))
        asset = open_asset(tmp_path / "far.obj")
        record = write_asset_capture(asset, OPTIONS, tmp_path / f"capture{shift:g}", count=8, size=SIZE)
        capture = load_capture(tmp_path / f"capture{shift:g}")
        ours.append(load_composited(capture.frames[2], capture.background))
        assert record["facts"]["radius"] == pytest.approx(0.85, abs=0.05)
    np.testing.assert_allclose(ours[0], ours[1], atol=0.02)


def test_textures_are_reduced_with_distance(tmp_path):
    checker = np.indices((256, 256)).sum(0) % 2 * 255
    pixels = np.dstack([checker] * 3 + [np.full_like(checker, 255)]).astype(np.uint8)
    (tmp_path / "quad.glb").write_bytes(files.quad_glb(pixels, samplers=[{}]))
    scene = open_asset(tmp_path / "quad.glb")._scene
    random = np.random.default_rng(0)
    origins = np.concatenate([random.uniform(-0.5, 0.5, (200, 2)), np.full((200, 1), 2.0)], 1)
    down = np.tile([0.0, 0.0, -1.0], (200, 1))
    near, far = (scene.look(origins, down, np.full(200, pitch), 0.01).colour for pitch in (1e-4, 0.1))
    assert near.std() > 0.1 and far.std() < 0.01 and far.mean() == pytest.approx(0.5, abs=0.01)
