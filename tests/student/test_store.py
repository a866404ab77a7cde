from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from toy_room import CONFIG, Room, make_capture, make_student

from smerf.errors import InvalidDataError, UsageError
from smerf.fields.ray_bank import camera_rays
from smerf.student import load_student, save_student
from smerf.student.partition import Partition

NAME = "student.safetensors"


@pytest.fixture
def saved(tmp_path):
    student = make_student(config=replace(CONFIG, lattice=2), partition=Partition(3, (7, 13), 3.0), noise=1.0)
    student.alive[1].grid()[:, :7] = False
    save_student(student, tmp_path)
    return student


def test_a_student_comes_back_as_it_was(saved, tmp_path):
    loaded = load_student(tmp_path)
    assert loaded.config == saved.config and loaded.partition == saved.partition
    assert (loaded.near, loaded.tau, loaded.background) == (saved.near, saved.tau, saved.background)
    for ours, theirs in zip(loaded.grids, saved.grids, strict=True):
        assert ours.spec == theirs.spec
        for name in ("block_index", "voxels", "planes"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
    for ours, theirs in zip(loaded.alive, saved.alive, strict=True):
        assert (ours.grid() == theirs.grid()).all()
    rays = camera_rays(make_capture(tmp_path, size=8).frames[0].camera)
    edges = Room().query(rays).edges
    for k in range(2):
        assert torch.equal(loaded.render_rays(rays, edges, k), saved.render_rays(rays, edges, k))


def test_without_its_teacher_a_loaded_student_says_what_it_lacks(saved, tmp_path):
    camera = make_capture(tmp_path, size=8).frames[0].camera
    with pytest.raises(UsageError, match="teacher"):
        load_student(tmp_path).render_image(camera)


def test_an_empty_folder_is_no_student(tmp_path):
    with pytest.raises(UsageError, match="smerf distill"):
        load_student(tmp_path)


@pytest.mark.parametrize("fault", ["cut", "empty", "noise"])
def test_a_damaged_file_is_named(saved, tmp_path, fault):
    path = tmp_path / NAME
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": b"\xff" * 4096}[fault])
    with pytest.raises(InvalidDataError, match=NAME):
        load_student(tmp_path)


@pytest.mark.parametrize("fault", ["other", "record", "tensor", "shape", "key"])
def test_a_file_of_something_else_is_named(saved, tmp_path, fault):
    path = tmp_path / NAME
    with safe_open(path, "pt") as file:
        meta, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}
    if fault == "other":
        meta["format"] = "smerf-teacher-1"
    elif fault == "record":
        meta["record"] = "{"
    elif fault == "tensor":
        del tensors["grids.1.planes"]
    elif fault == "shape":
        tensors["grids.0.planes"] = tensors["grids.0.planes"][:100].clone()
    else:
        meta["record"] = meta["record"].replace('"lattice"', '"latice"')
    save_file(tensors, path, meta)
    with pytest.raises(InvalidDataError, match=NAME):
        load_student(tmp_path)
