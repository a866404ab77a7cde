import dataclasses
import json

import numpy as np
import pytest
import torch

from smerf.capture import load_capture, load_composited
from smerf.errors import InvalidDataError, UsageError
from smerf.fields.ray_bank import camera_rays
from smerf.teacher import load_teacher
from smerf.teacher.asset import open_asset
from smerf.teacher.asset_capture import write_asset_capture
from smerf.teacher.asset_options import AssetOptions
from smerf.teacher.foreign import copy_record, record_digest, save_foreign, source_teacher
from tests.helpers import splat_files as files

SIZE, COUNT = 24, 12


def ball(count=1500, seed=0):
    """Opaque splats that fill a ball of radius 0.5, coloured by their place."""
    splats = files.random_splats(count, 0, seed)
    unit = splats.means / np.linalg.norm(splats.means, axis=1, keepdims=True)
    splats.means = (0.5 * np.cbrt(np.random.default_rng(seed).random((count, 1))) * unit).astype(np.float32)
    splats.log_scales[:] = np.log(0.06)
    splats.opacities[:] = 0.9
    splats.sh[:, 0] = 0.9 * unit
    return splats


def room(count=6000, seed=1):
    """Flat splats on the walls of a room of 4 x 3 x 2, y down."""
    random = np.random.default_rng(seed)
    size = np.array([4.0, 2.0, 3.0])
    means = random.uniform(0, 1, (count, 3)) * size
    axis, side = random.integers(0, 3, count), random.integers(0, 2, count)
    means[np.arange(count), axis] = side * size[axis]
    splats = files.random_splats(count, 0, seed)
    splats.means, splats.opacities[:] = means.astype(np.float32), 0.95
    splats.log_scales[:] = np.log(0.08)
    splats.log_scales[np.arange(count), axis] = np.log(0.005)
    splats.quaternions[:] = (1.0, 0.0, 0.0, 0.0)
    return splats


def write(folder, splats, name="scene.ply"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(files.ply(splats))
    return folder / name


@pytest.fixture
def scene(tmp_path):
    """A ball's file with its capture."""
    path = write(tmp_path, ball())
    options = AssetOptions(focal=60.0)
    asset = open_asset(path, options)
    record = write_asset_capture(asset, options, tmp_path / "capture", count=COUNT, size=SIZE)
    return asset, options, tmp_path / "capture", record


def test_a_lone_object_is_circled_and_its_photos_carry_alpha(scene):
    capture = load_capture(scene[2])
    assert "orbit" in scene[3]["cameras"] and "--cameras" in scene[3]["cameras"]
    assert capture.background == "white" and capture.bounded and len(capture.frames) == COUNT
    assert len(capture.split("test")) == 1 and 0.0 < capture.near < capture.far < 10.0


def test_the_teacher_sees_what_the_photos_show(scene, tmp_path):
    asset, options, folder, _ = scene
    capture = load_capture(folder)
    save_foreign(asset, options, capture, tmp_path / "teacher")
    teacher = load_teacher(tmp_path / "teacher")
    for frame in capture.split("test"):
        photo = load_composited(frame, capture.background)
        assert np.abs(teacher.render_image(frame.camera) - photo).max() < 0.01
        answer = teacher.query(camera_rays(frame.camera))
        seen = answer.colour + 1.0 - answer.weights.sum(-1, keepdim=True)
        error = (seen.clamp(0, 1).view(SIZE, SIZE, 3).numpy() - photo) ** 2
        # The photo averages over each pixel; the rays look through its middle.
        assert -10 * np.log10(error.mean()) > 18.0
    assert source_teacher(tmp_path / "teacher")["splats"] == 1500


def eye_and_view(content):
    """Return an eye above the content and the direction down to its middle."""
    up = content.rotation[2]
    return content.centre + 3.0 * content.radius * up, -up


def test_a_moved_scaled_and_rotated_file_looks_the_same(tmp_path):
    splats = ball()
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    moved = dataclasses.replace(splats, log_scales=splats.log_scales + np.log(3.0))
    moved.means = (3.0 * splats.means @ turn.T + [5.0, 6.0, 7.0]).astype(np.float32)
    w, x, y, z = splats.quaternions.T
    half = np.sqrt(0.5)
    moved.quaternions = np.stack([half * (w - z), half * (x - y), half * (y + x), half * (z + w)], 1)
    contents, probed = [], []
    for name, each, up in (("a.ply", splats, (0, -1, 0)), ("b.ply", moved, (1, 0, 0))):
        options = AssetOptions(focal=60.0, up=up, keep_all=True)
        asset = open_asset(write(tmp_path, each, name), options)
        contents.append(asset.content())
        probed.append(asset.probe()(*(each[None].astype(np.float32) for each in eye_and_view(contents[-1]))))
    np.testing.assert_allclose(turn @ contents[0].rotation[2], contents[1].rotation[2], atol=1e-6)
    assert contents[1].radius == pytest.approx(3.0 * contents[0].radius, rel=0.02)
    (opacity, distance), (again, farther) = probed
    assert opacity[0] > 0.99 and again[0] == pytest.approx(opacity[0], abs=1e-3)
    assert farther[0] == pytest.approx(3.0 * distance[0], rel=0.03)


def test_a_room_is_walked_through_with_its_floor_level(tmp_path):
    asset = open_asset(write(tmp_path, room()), AssetOptions(focal=100.0))
    np.testing.assert_allclose(asset.content().rotation[2], [0.0, -1.0, 0.0], atol=0.02)
    record = write_asset_capture(
        asset, AssetOptions(focal=100.0), tmp_path / "capture", count=COUNT, size=SIZE
    )
    capture = load_capture(tmp_path / "capture")
    assert "walk" in record["cameras"] and capture.background is None and not capture.bounded
    inverse = capture.training_from_source
    for frame in capture.frames:
        eye = (frame.camera.world_from_cam[:, 3] - inverse.translation) @ inverse.rotation / inverse.scale
        assert ((eye > 0.0) & (eye < [4.0, 2.0, 3.0])).all()


def test_a_capture_that_was_interrupted_is_finished_with_the_same_photos(scene):
    asset, options, folder, _ = scene
    before = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    (folder / "transforms.json").unlink()
    (folder / "images" / "frame_00003.png").unlink()
    kept = (folder / "images" / "frame_00001.png").stat().st_mtime_ns
    write_asset_capture(asset, options, folder, count=COUNT, size=SIZE)
    assert {path.name: path.read_bytes() for path in (folder / "images").iterdir()} == before
    assert (folder / "images" / "frame_00001.png").stat().st_mtime_ns == kept


def test_a_capture_of_other_options_is_kept_unless_it_may_go(scene):
    asset, _, folder, _ = scene
    other = AssetOptions(focal=80.0)
    with pytest.raises(UsageError, match="--overwrite"):
        write_asset_capture(asset, other, folder, count=COUNT, size=SIZE)
    assert (folder / "transforms.json").is_file()
    record = write_asset_capture(asset, other, folder, count=COUNT, size=SIZE, overwrite=True)
    assert record["options"]["focal"] == 80.0


def test_cameras_beside_the_file_are_used_with_their_focal_length(tmp_path):
    path = write(tmp_path / "point_cloud" / "iteration_7", ball())
    entry = {"id": 0, "width": 2 * SIZE, "height": 2 * SIZE, "fx": 80.0, "fy": 80.0}
    # Axes right, down, forward; the eye looks along z at the ball.
    rotation = np.eye(3).tolist()
    cameras = [
        entry | {"img_name": str(i), "position": [0.02 * i, 0, -4.0], "rotation": rotation} for i in range(9)
    ]
    (tmp_path / "cameras.json").write_text(json.dumps(cameras))
    asset = open_asset(path)
    assert asset.focal == 80.0
    record = write_asset_capture(asset, AssetOptions(), tmp_path / "capture", count=COUNT, size=SIZE)
    capture = load_capture(tmp_path / "capture")
    assert "9 cameras of" in record["cameras"] and len(capture.frames) == 9
    photo = load_composited(capture.frames[0], capture.background)
    assert photo[SIZE // 2, SIZE // 2].mean() < 0.9 and photo[0, 0].mean() > 0.99


def test_cameras_of_a_posed_capture_are_used(scene, tmp_path):
    asset, _, folder, _ = scene
    options = AssetOptions(focal=60.0, cameras=str(folder))
    record = write_asset_capture(asset, options, tmp_path / "again", count=3, size=SIZE)
    assert f"{COUNT} cameras of" in record["cameras"]
    first, second = (load_capture(each) for each in (folder, tmp_path / "again"))
    by_name = {frame.name: frame for frame in second.frames}
    for frame in first.frames:
        np.testing.assert_allclose(
            by_name[frame.name].camera.world_from_cam, frame.camera.world_from_cam, atol=1e-4
        )
        other = load_composited(by_name[frame.name], second.background)
        assert np.abs(load_composited(frame, first.background) - other).max() < 0.02
    with pytest.raises(UsageError, match="posed capture"):
        write_asset_capture(
            asset, AssetOptions(cameras=str(tmp_path / "none")), tmp_path / "other", count=3, size=SIZE
        )


def test_cameras_that_see_nothing_are_refused(tmp_path):
    path = write(tmp_path, ball())
    entry = {
        "width": 48,
        "height": 48,
        "fx": 80.0,
        "fy": 80.0,
        "position": [9, 0, 9],
        "rotation": np.eye(3).tolist(),
    }
    (tmp_path / "cameras.json").write_text(json.dumps([entry] * 4))
    with pytest.raises(InvalidDataError, match="see nothing"):
        write_asset_capture(open_asset(path), AssetOptions(), tmp_path / "capture", count=COUNT, size=SIZE)
    with pytest.raises(InvalidDataError, match="no list of cameras"):
        (tmp_path / "cameras.json").write_text("[{}]")
        write_asset_capture(open_asset(path), AssetOptions(), tmp_path / "capture", count=COUNT, size=SIZE)


def test_a_teacher_whose_file_changed_or_went_is_refused(scene, tmp_path):
    asset, options, folder, _ = scene
    save_foreign(asset, options, load_capture(folder), tmp_path / "teacher")
    digest = record_digest(tmp_path / "teacher")
    (tmp_path / "student").mkdir()
    copy_record(tmp_path / "teacher", tmp_path / "student")
    assert record_digest(tmp_path / "student") == digest
    asset.path.write_bytes(files.ply(ball(seed=5)))
    with pytest.raises(InvalidDataError, match="has changed"):
        load_teacher(tmp_path / "teacher")
    asset.path.unlink()
    with pytest.raises(UsageError, match="not there any more"):
        load_teacher(tmp_path / "teacher")


def test_veils_and_floaters_are_left_out(tmp_path):
    splats = ball()
    splats.log_scales[0], splats.opacities[0] = np.log(2.0), 0.05
    splats.means[1], splats.opacities[1] = (4.0, 0.0, 0.0), 0.3
    path = write(tmp_path, splats)
    assert open_asset(path).facts()["left_out"] == {"damaged": 0, "veils": 1, "floaters": 1}
    assert open_asset(path, AssetOptions(keep_all=True)).facts()["left_out"] == {"damaged": 0}


def test_answers_do_not_depend_on_the_threads(scene, tmp_path):
    asset, options, folder, _ = scene
    capture = load_capture(folder)
    save_foreign(asset, options, capture, tmp_path / "teacher")
    rays = camera_rays(capture.frames[0].camera)
    before, answers = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        answers.append(load_teacher(tmp_path / "teacher").query(rays))
    torch.set_num_threads(before)
    assert torch.equal(answers[0].colour, answers[1].colour) and torch.equal(
        answers[0].edges, answers[1].edges
    )


@pytest.mark.parametrize("values", [{"focal": 0.0}, {"mode": "sharp"}, {"up": (0.0, 0.0, 0.0)}])
def test_options_that_make_no_sense_are_refused(values):
    with pytest.raises(UsageError, match="--"):
        AssetOptions(**values)
