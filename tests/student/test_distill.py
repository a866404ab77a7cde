"""Distilling several submodels: one at a time, resumed, divided among processes."""

import importlib
import os
import socket
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smerf.engine.distributed import Process
from smerf.fields.ray_bank import camera_rays
from smerf.kernels import Grids
from smerf.student.partition import Partition
from smerf.student.plan import resolve_config
from smerf.student.stage import distill, order, own_submodels
from smerf.student.store import load_student, read_shared_rays
from smerf.student.trainer import StudentTrainer
from tests.helpers.toy_room import CONFIG, Room, make_capture

ROOT = Path(__file__).parents[2]
THREE = replace(
    CONFIG,
    partition=2,
    voxel_resolution=16,
    plane_resolution=64,
    steps=3,
    rays=128,
    pool=512,
    occupied_rays=512,
    consistency_rays=128,
    grid_lr=0.03,
)
SCRIPT = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.student.test_distill import THREE
from tests.helpers.toy_room import Room, make_capture
from smerf.student.stage import distill
student = distill(Room(), make_capture(Path({base!r})), THREE, folder=Path({folder!r}))
assert len(student.submodels) == 3
"""


def launch(folder, base, world):
    """Start the processes of a distillation."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = SCRIPT.format(base=str(base), folder=str(folder))
    common = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.is_file()}


def test_two_processes_write_the_bytes_of_one(tmp_path):
    make_capture(tmp_path)
    folders = {world: tmp_path / f"of{world}" for world in (1, 2)}
    processes = [one for world, folder in folders.items() for one in launch(folder, tmp_path, world)]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    one, two = contents(folders[1]), contents(folders[2])
    assert len(one) == 5 and one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one)


def start(capture, config, **more):
    trainer = StudentTrainer(Room(), capture, resolve_config(config, Room(), capture), **more)
    trainer.prepare()
    return trainer


def test_a_submodel_is_a_student_of_its_own_in_its_place(tmp_path):
    capture = make_capture(tmp_path)
    trainer = start(capture, THREE, number=1)
    alone, rays = trainer.student, camera_rays(capture.frames[2].camera)
    assert alone.partition.cells == (3,) and (alone.partition.centre(0) == trainer.partition.centre(1)).all()
    edges = Room().query(rays).edges
    wanted = trainer.record.render_submodel(trainer.submodel, rays, edges)
    assert torch.equal(alone.render_rays(rays, edges), wanted) and wanted.std() > 0.02


def test_the_far_end_of_a_bounded_scene_is_not_cut_away(tmp_path):
    capture = make_capture(tmp_path)
    # So small a cell that the room's far walls lie in the outermost blocks.
    partition = Partition(2, (1, 3, 7), 6.0)
    held = []
    for bounded in (True, False):
        here = replace(capture, bounded=bounded)
        trainer = start(here, THREE, partition=partition, number=2)
        index = trainer.submodel.grids.block_index
        held.append(int((index >= 0).sum()) - int((index[1:-1, 1:-1, 1:-1] >= 0).sum()))
    assert held[0] > 0 and held[1] == 0


def test_each_submodel_learns_from_rays_of_its_own_and_some_of_its_neighbours(tmp_path):
    capture = make_capture(tmp_path)
    trainer = start(capture, THREE, number=1)
    home, near = trainer.partition.served(trainer.rays.sample(2048).rays.origins)
    own = home == 1
    assert near[~own, 1].all() and 0.6 < own.float().mean() < 0.95


def test_grids_of_one_submodel_are_in_memory_at_a_time(tmp_path, monkeypatch):
    held, allocate = [], Grids.allocate

    def counted(*arguments, **named):
        assert not [one for one in held if one() is not None]
        grids = allocate(*arguments, **named)
        held.append(weakref.ref(grids))
        return grids

    monkeypatch.setattr(Grids, "allocate", counted)
    student = distill(Room(), make_capture(tmp_path), THREE, folder=tmp_path / "student")
    assert len(held) == 3 and len(student.submodels) == 3
    image = student.render_image(make_capture(tmp_path, size=8).frames[0].camera)
    assert image.shape == (8, 8, 3) and image.std() > 0.02


def test_finished_submodels_stay_and_the_current_one_goes_on(tmp_path, monkeypatch):
    capture, folder, seen = make_capture(tmp_path), tmp_path / "student", []
    config = resolve_config(replace(THREE, steps=4), Room(), capture)
    module = importlib.import_module("smerf.student.stage")
    monkeypatch.setattr(module, "stop_requested", lambda: len(seen) == 6)

    def progress(step, total, unit, **losses):
        if losses:
            assert (total, unit) == (3 * 4, "steps")
            seen.append(step)

    # The first submodel is finished, the second one is half way.
    assert distill(Room(), capture, config, folder=folder, progress=progress) is None
    assert not (folder / "student.json").exists()
    assert len(list(folder.glob("sm_*.safetensors"))) == 1
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("sm_*.safetensors")}
    distill(Room(), capture, config, folder=folder, progress=progress)
    assert seen == list(range(1, 13))
    assert all((folder / name).stat().st_mtime_ns == time for name, time in before.items())
    assert load_student(folder).config == config and not list(folder.glob("sm_*/checkpoints"))

    # Other settings begin again.
    distill(Room(), capture, replace(config, steps=2), folder=folder)
    assert all((folder / name).stat().st_mtime_ns != time for name, time in before.items())


def test_progress_counts_the_steps_that_were_asked_for(tmp_path):
    calls = []
    config = replace(CONFIG, steps=7, rays=128, pool=40_000, occupied_rays=40_000)

    def progress(done, total, unit, **figures):
        calls.append((unit, done, total, bool(figures)))

    distill(Room(), make_capture(tmp_path), config, folder=tmp_path / "student", progress=progress)
    steps = [call for call in calls if call[0] == "steps"]
    assert steps == [("steps", step, 7, True) for step in range(1, 8)]
    # Filling the pool and the last look are phases of their own.
    first, last = calls.index(steps[0]), calls.index(steps[-1])
    assert [call[0] for call in calls[:first]] == ["rays"] * 2 and calls[first - 1][1:3] == (40_000, 40_000)
    assert calls[last + 1 :] == [("rays", 32768, 32768, False)]


def test_a_submodel_agrees_with_its_neighbours(tmp_path):
    capture, partition = make_capture(tmp_path), Partition(2, (1, 3, 7), 1.6)
    rays = camera_rays(capture.frames[2].camera)
    shown = {"origins": rays.origins, "directions": rays.directions}
    shown["colour"] = torch.tensor([0.9, 0.1, 0.9]).expand(len(rays), 3).contiguous()
    colours = []
    for fraction in (0.0, 4.0):
        config = replace(THREE, consistency_fraction=fraction, steps=16, warmup_steps=1, rays=128)
        shared = [shown] if fraction else []
        trainer = start(capture, config, partition=partition, number=1, shared_rays=shared)
        assert len(trainer.consistency) == (len(rays) if fraction else 0)
        for _ in range(16):
            trainer.advance()
        edges = Room().query(rays).edges
        colours.append(trainer.student.render_rays(rays, edges))
    apart = [float((colour - shown["colour"]).abs().mean()) for colour in colours]
    assert apart[1] < 0.8 * apart[0]


@pytest.mark.parametrize("patch", [1, 3])
def test_submodels_share_only_rays_that_both_serve(tmp_path, patch):
    folder, config = tmp_path / "student", replace(THREE, patch=patch)
    student = distill(Room(), make_capture(tmp_path), config, folder=folder)
    partition, shown = student.partition, read_shared_rays(folder, 3)
    count = 128 - 128 % patch**2
    assert {name: tuple(value.shape) for name, value in shown.items()} == dict.fromkeys(
        ("origins", "directions", "colour"), (count, 3)
    )
    trainer = StudentTrainer(
        Room(), make_capture(tmp_path), student.config, partition=partition, shared_rays=[shown]
    )
    assert 0 < len(trainer.consistency) < count
    own = trainer.rays.sample(9)
    batch = trainer.consistency.append_to(own, 36, torch.Generator().manual_seed(0))
    assert len(batch.rays) == 9 + 36 and torch.equal(batch.rays.origins[:9], own.rays.origins)
    batch = batch[torch.arange(9, 45)]
    home, near = partition.served(batch.rays.origins)
    assert (near[:, 0] | (home == 0)).all()
    # Patches stay whole: their rays stand in one place.
    places = batch.rays.origins.view(-1, patch**2, 3)
    assert torch.equal(places, places[:, :1].expand_as(places))
    # What the neighbour showed, over its background, is what is learnt over any.
    rest = 1.0 - batch.weights.sum(-1, keepdim=True)
    colours = batch.colour + 0.5 * rest
    assert float(torch.cdist(colours, shown["colour"]).amin(-1).max()) < 1e-3


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_submodel_has_one_process_and_follows_its_neighbours(world):
    partition = Partition(3, tuple(range(0, 27, 2)), 2.4)
    parts = [own_submodels(partition, Process(rank, world)) for rank in range(world)]
    assert sorted(k for part in parts for k in part) == list(range(len(partition)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    place = {k: i for i, k in enumerate(order(partition))}
    for k in range(len(partition)):
        for j in partition.adjacent(k):
            assert partition.wave(j) != partition.wave(k)
            assert (place[j] < place[k]) == (partition.wave(j) < partition.wave(k))
