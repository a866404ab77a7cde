import weakref
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from smerf.errors import InvalidDataError, UsageError
from smerf.fields.ray_bank import camera_rays
from smerf.student import load_student, save_student
from smerf.student.partition import Partition
from tests.helpers.toy_room import CONFIG, Room, make_capture, make_student

RECORD, NAME = "student.json", "sm_013.safetensors"


@pytest.fixture
def saved(tmp_path):
    student = make_student(config=replace(CONFIG, lattice=2), partition=Partition(3, (7, 13), 3.0), noise=1.0)
    student.submodels[1].occupied.grid()[:, :7] = False
    save_student(student, tmp_path)
    return student


def test_a_student_comes_back_as_it_was(saved, tmp_path):
    loaded = load_student(tmp_path)
    assert loaded.config == saved.config and loaded.partition == saved.partition
    assert (loaded.near, loaded.tau, loaded.background) == (saved.near, saved.tau, saved.background)
    for ours, theirs in zip(loaded.submodels, saved.submodels, strict=True):
        assert (ours.cell, ours.grids.spec) == (theirs.cell, theirs.grids.spec)
        for name in ("block_index", "voxels", "planes"):
            assert torch.equal(getattr(ours.grids, name), getattr(theirs.grids, name))
        assert (ours.occupied.grid() == theirs.occupied.grid()).all()
        networks = ours.appearance.parameters(), theirs.appearance.parameters()
        assert all(torch.equal(one, other) for one, other in zip(*networks, strict=True))
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


def read_all(folder):
    student = load_student(folder)
    return [student.submodels[k] for k in range(2)]


@pytest.mark.parametrize("name", [RECORD, NAME])
@pytest.mark.parametrize("fault", ["cut", "empty", "noise"])
def test_a_damaged_file_is_named(saved, tmp_path, name, fault):
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": b"\xff" * 4096}[fault])
    with pytest.raises(InvalidDataError, match=name):
        read_all(tmp_path)


@pytest.mark.parametrize("fault", ["gone", "other", "cell", "tensor", "shape", "network"])
def test_a_submodel_of_something_else_is_named(saved, tmp_path, fault):
    path = tmp_path / NAME
    with safe_open(path, "pt") as file:
        meta, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}
    path.unlink()
    if fault == "other":
        meta["format"] = "smerf-teacher-1"
    elif fault == "cell":
        meta["format"] = meta["format"].replace("/13", "/7")
    elif fault == "tensor":
        del tensors["planes"]
    elif fault == "shape":
        tensors["planes"] = tensors["planes"][:100].clone()
    elif fault == "network":
        tensors["appearance.kernels.0"] = torch.zeros(1, 1, 1, 41, 16)
    if fault != "gone":
        save_file(tensors, path, meta)
    with pytest.raises(InvalidDataError, match=NAME):
        read_all(tmp_path)


@pytest.mark.parametrize("fault", ["format", "key", "value"])
def test_a_record_of_something_else_is_named(saved, tmp_path, fault):
    text = (tmp_path / RECORD).read_text()
    change = {
        "format": ("student-3", "student-2"),
        "key": ("lattice", "latice"),
        "value": ('"near": 0.05', '"near": []'),
    }
    assert text.replace(*change[fault]) != text
    (tmp_path / RECORD).write_text(text.replace(*change[fault]))
    with pytest.raises(InvalidDataError, match=RECORD):
        load_student(tmp_path)


def test_one_submodel_is_in_memory_at_a_time(saved, tmp_path):
    student = load_student(tmp_path)
    first = weakref.ref(student.submodels[0].grids)
    assert first() is student.submodels[0].grids
    second = student.submodels[1]
    assert first() is None and second.grids.spec == saved.submodels[1].grids.spec
    with pytest.raises(IndexError):
        student.submodels[2]
