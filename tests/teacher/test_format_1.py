"""Teachers and checkpoints of format 1 are read: they answer, and continue, as they did."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from smerf.errors import InvalidDataError
from smerf.fields.ray_bank import camera_rays
from smerf.teacher import load_teacher, save_teacher, train_teacher
from smerf.teacher.store import upgraded_tensors
from tests.helpers.ball import make_capture

FILES = Path(__file__).parent / "format_1"
# Mean colour, opacity and distance of the first photo's rays, as the code that wrote the files found them.
ANSWERS = {
    "tiny": (0.525529, 0.995759, 0.662529),
    "preview": (0.523208, 0.985307, 0.666148),
    "paper": (0.294354, 0.980992, 0.606815),
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return make_capture(tmp_path_factory.mktemp("ball"), count=6)


def load(name, folder):
    folder.mkdir(exist_ok=True)
    shutil.copy(FILES / f"{name}.safetensors", folder / "teacher.safetensors")
    return load_teacher(folder)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_old_teacher_answers_as_it_did_and_is_saved_as_new(capture, tmp_path, name):
    teacher = load(name, tmp_path / "old")
    rays = camera_rays(capture.frames[0].camera)
    answer = teacher.query(rays)
    found = (answer.colour.mean().item(), answer.weights.sum(-1).mean().item(), answer.edges.mean().item())
    assert found == pytest.approx(ANSWERS[name], rel=1e-4)
    save_teacher(teacher, tmp_path / "new")
    again = load_teacher(tmp_path / "new")
    assert again.config == teacher.config and torch.equal(again.query(rays).colour, answer.colour)


def resume(capture, folder, config):
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(FILES / "preview_step_4.safetensors", folder / "checkpoints" / "step_000000004.safetensors")
    return train_teacher(capture, config, folder=folder)


def test_an_old_checkpoint_continues(capture, tmp_path):
    wanted = load("preview", tmp_path / "old")
    teacher = resume(capture, tmp_path / "resumed", wanted.config)
    file = upgraded_tensors(load_file(FILES / "preview.safetensors"), teacher)
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value, file[name], rtol=1e-3, atol=1e-5)


def test_a_checkpoint_of_another_model_is_refused_with_what_to_do(capture, tmp_path):
    other = load("paper", tmp_path / "old").config
    with pytest.raises(InvalidDataError, match=r"checkpoint at step 4 .*delete the folder `checkpoints`"):
        resume(capture, tmp_path / "resumed", other)
