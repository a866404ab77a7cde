"""Two processes train as one does: the same losses step by step."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from smerf.engine.distributed import Process, any_process, average_values, process_group, this_process
from smerf.errors import UsageError
from tests.helpers.ball import write_capture

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.helpers.ball import make_capture
from tests.helpers.shrunk_teacher import shrunk
from smerf.capture import load_capture
from smerf.teacher import train_teacher
history = []
capture = load_capture(Path({capture!r}))
config = {config}
train_teacher(capture, config, folder=Path({folder!r}),
              progress=lambda step, steps, **losses: history.append(losses))
if history:
    Path({folder!r}, "history.json").write_text(json.dumps(history))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train(world: int, capture: Path, folder: Path, config: str) -> list[dict[str, float]]:
    folder.mkdir()
    script = SCRIPT.format(capture=str(capture), folder=str(folder), config=config)
    common = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world)}
    processes = []
    for rank in range(world):
        environment = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True
            )
        )
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    assert (folder / "teacher.safetensors").is_file()
    assert (folder / "transforms.json").is_file() == ("refine_cameras" in config)
    return json.loads((folder / "history.json").read_text())


@pytest.mark.parametrize(
    "config",
    [
        'shrunk("paper", steps=5, appearance=4, refine_cameras=True)',
        # Several processes have no density cache; all follow the errors of all rays.
        'shrunk("preview", steps=5, cache_resolution=0, uniform_fraction=0.2)',
    ],
    ids=["paper", "preview"],
)
def test_two_processes_have_the_losses_of_one(tmp_path, config):
    capture = write_capture(tmp_path / "ball", count=4)
    one, two = (train(world, capture, tmp_path / str(world), config) for world in (1, 2))
    assert len(one) == len(two) == 5
    for first, second in zip(one, two):
        assert first.keys() == second.keys()
        for name, value in first.items():
            # Sums in another order; the optimiser turns rounding of tiny gradients into whole steps.
            assert second[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name


def test_rows_are_divided_without_rest():
    assert [Process(rank, 3).rows(12) for rank in range(3)] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    with pytest.raises(UsageError, match="100 rays can't be divided evenly over 3 processes"):
        Process(0, 3).rows(100)


def test_alone_everything_is_one_share(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with process_group() as part:
        assert part == this_process() == Process(0, 1) and part.is_first
    assert any_process(True) and not any_process(False)
    assert average_values({}) == {}
