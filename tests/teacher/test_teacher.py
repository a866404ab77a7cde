"""What the teacher promises: it learns, repeats, resumes, answers within bounds, and comes back from disk."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from smerf.capture import load_capture, load_image
from smerf.errors import InvalidDataError, UsageError
from smerf.fields.ray_bank import RayBank, camera_rays
from smerf.fields.rays import Rays
from smerf.teacher import load_teacher, save_teacher, stage, train_teacher
from smerf.teacher.config import PRESETS
from tests.helpers.ball import HEIGHT, WIDTH, make_capture, write_capture, write_masks
from tests.helpers.shrunk_teacher import make_trainer

CONFIG = replace(PRESETS["tiny"], rays=256, steps=250)
SHORT = replace(CONFIG, steps=12)
FILE = "teacher.safetensors"


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return make_capture(tmp_path_factory.mktemp("ball"))


@pytest.fixture(scope="module")
def cut_out(tmp_path_factory):
    """Return a bounded capture whose photos are transparent around the ball."""
    return make_capture(tmp_path_factory.mktemp("cut_out"), count=24, alpha=True)


@pytest.fixture(scope="module")
def trained(cut_out, tmp_path_factory):
    """Return a finished teacher of ``cut_out``, its folder and the losses of every step."""
    folder, history = tmp_path_factory.mktemp("teacher"), []
    teacher = train_teacher(
        cut_out, CONFIG, folder=folder, progress=lambda step, steps, **losses: history.append(losses)
    )
    return teacher, folder, history


def weights_of(folder):
    return load_file(folder / FILE)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def psnr(found, wanted):
    return -10.0 * math.log10(float(np.mean((found - wanted) ** 2)))


def over_white(frame):
    photo = load_image(frame) / 255.0
    return photo[..., :3] * photo[..., 3:] + 1.0 - photo[..., 3:]


def test_training_beats_the_mean_colour_on_held_out_photos(cut_out, trained):
    teacher, _, history = trained
    colours = [losses["colour"] for losses in history]
    assert len(history) == CONFIG.steps
    assert np.mean(colours[-10:]) < 0.3 * np.mean(colours[:10])
    mean = np.mean([over_white(frame) for frame in cut_out.split("train")], axis=(0, 1, 2))
    assert len(cut_out.split("test")) == 3
    for frame in cut_out.split("test"):
        truth = over_white(frame)
        assert psnr(teacher.render_image(frame.camera), truth) > psnr(mean, truth) + 3.0


def test_transparent_photos_give_a_scene_before_white(cut_out, trained):
    teacher, frame = trained[0], cut_out.split("test")[0]
    assert teacher.background == 1.0
    is_ball = load_image(frame)[..., 3] > 0
    rows, columns = np.nonzero(is_ball)
    far = np.ones_like(is_ball)
    far[rows.min() - 2 : rows.max() + 3, columns.min() - 2 : columns.max() + 3] = False
    assert teacher.render_image(frame.camera)[far].mean() > 0.95
    opacity = teacher.query(camera_rays(frame.camera)).weights.sum(-1).view(HEIGHT, WIDTH).numpy()
    assert opacity[far].mean() < 0.1 and opacity[is_ball].mean() > 0.7


def test_one_seed_gives_the_same_weights_on_any_number_of_threads(capture, tmp_path):
    before = torch.get_num_threads()
    try:
        for number, threads in enumerate((1, 2, 2)):
            torch.set_num_threads(threads)
            train_teacher(capture, SHORT, folder=tmp_path / str(number))
    finally:
        torch.set_num_threads(before)
    first = weights_of(tmp_path / "0")
    assert_same(first, weights_of(tmp_path / "1"))
    assert_same(first, weights_of(tmp_path / "2"))
    train_teacher(capture, replace(SHORT, seed=1), folder=tmp_path / "other")
    other = weights_of(tmp_path / "other")
    learnt = [name for name in first if not name.endswith("level_scales")]
    assert all(not torch.equal(first[name], other[name]) for name in learnt)


def test_a_stopped_training_goes_on_exactly(capture, tmp_path, monkeypatch):
    train_teacher(capture, SHORT, folder=tmp_path / "whole")
    steps = []

    def stop_at(step):
        monkeypatch.setattr(stage, "stop_requested", lambda: len(steps) == step)

    def report(step, total, **losses):
        steps.append(step)

    def sit():
        train_teacher(capture, SHORT, folder=tmp_path / "parts", progress=report)

    for step in (5, 9):
        stop_at(step)
        sit()
        assert steps[-1] == step
        with pytest.raises(UsageError, match="expected a finished teacher"):
            load_teacher(tmp_path / "parts")
    stop_at(None)
    sit()
    assert steps == list(range(1, SHORT.steps + 1))
    assert_same(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"))


def test_a_saved_teacher_comes_back_whole(cut_out, trained):
    teacher, folder, _ = trained
    loaded = load_teacher(folder)
    assert loaded.config == teacher.config and loaded.spacing == teacher.spacing
    assert loaded.background == teacher.background
    camera = cut_out.split("test")[0].camera
    assert np.array_equal(loaded.render_image(camera), teacher.render_image(camera))
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(2)) * 2.0 - 1.0
    assert torch.equal(loaded.density(points), teacher.density(points))


def damaged(path, damage):
    """Rewrite a teacher file with one fault."""
    content = path.read_bytes()
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    record = json.loads(metadata["record"])
    if damage == "no metadata":
        save_file(tensors, path)
    elif damage == "no record":
        save_file(tensors, path, {"format": metadata["format"]})
    elif damage == "a key is missing":
        del record["near"]
        save_file(tensors, path, {**metadata, "record": json.dumps(record)})
    elif damage == "an unknown setting":
        record["config"]["sharpness"] = 3
        save_file(tensors, path, {**metadata, "record": json.dumps(record)})
    elif damage == "a tensor is missing":
        del tensors["field.table"]
        save_file(tensors, path, metadata)
    elif damage == "another shape":
        tensors["field.table"] = tensors["field.table"][:-1].clone()
        save_file(tensors, path, metadata)
    else:
        path.write_bytes({"empty": b"", "truncated": content[:-9], "not a teacher": b"once" * 50}[damage])


@pytest.mark.parametrize(
    "damage",
    [
        "empty",
        "truncated",
        "not a teacher",
        "no metadata",
        "no record",
        "a key is missing",
        "an unknown setting",
        "a tensor is missing",
        "another shape",
    ],
)
def test_a_damaged_file_is_named(trained, tmp_path, damage):
    save_teacher(trained[0], tmp_path)
    load_teacher(tmp_path)
    damaged(tmp_path / FILE, damage)
    with pytest.raises(InvalidDataError, match=FILE):
        load_teacher(tmp_path)


def odd_rays(count=300):
    """Rays from inside, from the edge and from far outside, in all directions."""
    generator = torch.Generator().manual_seed(4)
    reach = torch.tensor([0.0, 0.3, 1.0, 50.0]).repeat(count // 4)[:, None]
    origins = (torch.rand(count, 3, generator=generator) * 2.0 - 1.0) * reach
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return Rays(origins, directions, torch.full((count,), 1e-2))


@pytest.mark.parametrize("kind", ["bounded", "unbounded"])
def test_answers_lie_within_their_bounds(cut_out, capture, trained, tmp_path, kind):
    if kind == "bounded":
        place, teacher = cut_out, trained[0]
    else:
        place, teacher = capture, train_teacher(capture, SHORT, folder=tmp_path)
    for rays in (camera_rays(place.frames[0].camera), odd_rays()):
        answer = teacher.query(rays)
        assert answer.edges.shape == (len(rays), teacher.samples + 1)
        assert answer.weights.shape == (len(rays), teacher.samples) and answer.colour.shape == (len(rays), 3)
        assert all(bool(x.isfinite().all()) for x in (answer.edges, answer.weights, answer.colour))
        assert (answer.edges.diff(dim=-1) >= 0).all()
        assert (answer.edges >= place.near).all() and (answer.edges <= place.far).all()
        assert (answer.weights >= 0).all()
        opacity = answer.weights.sum(-1)
        assert (opacity <= 1.0 + 1e-5).all()
        assert (answer.colour >= 0).all() and (answer.colour <= opacity[:, None] + 1e-5).all()
        again = teacher.query(rays)
        assert torch.equal(again.edges, answer.edges) and torch.equal(again.colour, answer.colour)


def test_no_rays_have_no_answers(trained):
    answer = trained[0].query(odd_rays()[:0])
    assert answer.edges.shape == (0, CONFIG.samples + 1) and answer.colour.shape == (0, 3)
    assert trained[0].density(torch.empty(0, 3)).shape == (0,)
    assert trained[0].colour(torch.empty(0, 3), torch.empty(0, 3)).shape == (0, 3)


def test_a_broken_ray_leaves_its_neighbours_alone(trained):
    rays = odd_rays(8)
    wanted = trained[0].query(rays)
    directions = rays.directions.clone()
    directions[3] = math.nan
    found = trained[0].query(Rays(rays.origins, directions, rays.radii))
    kept = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(found.colour[kept], wanted.colour[kept])
    assert torch.equal(found.weights[kept], wanted.weights[kept])


def test_a_colour_that_is_no_number_does_not_spoil_the_weights(capture, monkeypatch):
    trainer = make_trainer(capture, SHORT)
    gather = RayBank.gather

    def spoiled(*args):
        batch = gather(*args)
        batch.colours[7] = math.nan
        return batch

    monkeypatch.setattr(RayBank, "gather", spoiled)
    for _ in range(3):
        trainer.advance()
    assert all(bool(value.isfinite().all()) for value in trainer.model.state_dict().values())


def test_a_single_photo_is_enough(tmp_path):
    capture = make_capture(tmp_path / "one", count=1)
    teacher = train_teacher(capture, SHORT, folder=tmp_path / "teacher")
    image = teacher.render_image(capture.frames[0].camera)
    assert image.shape == (HEIGHT, WIDTH, 3) and np.isfinite(image).all()
    assert image.min() >= 0.0 and image.max() <= 1.0


def test_a_capture_without_training_photos_is_refused(capture):
    empty = replace(capture, frames=capture.split("test"))
    with pytest.raises(InvalidDataError, match="no training photo"):
        make_trainer(empty, SHORT)


def test_what_masks_hide_has_no_influence(tmp_path):
    hidden = np.zeros((HEIGHT, WIDTH), bool)
    hidden[5:14, 8:20] = True
    for name in ("first", "second"):
        root = write_capture(tmp_path / name, count=6)
        write_masks(root, hidden)
        for index, path in enumerate(sorted((root / "images").iterdir()) if name == "second" else []):
            pixels = np.array(Image.open(path))
            pixels[hidden] = (255, 40 * index, 0)
            Image.fromarray(pixels).save(path)
        capture = load_capture(root)
        assert len(RayBank(capture.split("train"))) == 5 * np.count_nonzero(~hidden)
        train_teacher(capture, SHORT, folder=tmp_path / f"{name}_teacher")
    assert_same(weights_of(tmp_path / "first_teacher"), weights_of(tmp_path / "second_teacher"))


def test_masks_that_hide_everything_are_refused(tmp_path):
    root = write_capture(tmp_path / "ball", count=4)
    write_masks(root, np.ones((HEIGHT, WIDTH), bool))
    with pytest.raises(InvalidDataError, match="masks leave no pixel"):
        make_trainer(load_capture(root), SHORT)
