import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from smerf.engine.checkpoint import KEEP, latest_step, load_latest, save_checkpoint
from smerf.errors import InvalidDataError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_everything_comes_back_bit_for_bit(tmp_path):
    generator = torch.Generator().manual_seed(3)
    tensors = {
        "weights": torch.randn(4, 5, generator=generator).t(),
        "half": torch.full((3,), 0.1, dtype=torch.bfloat16),
        "empty": torch.empty(0, 7),
        "scalar": torch.tensor(2.5, dtype=torch.float64, requires_grad=True),
        "rng": generator.get_state(),
    }
    tensors["same"] = tensors["weights"]
    state = {"optimiser": {"lr": 0.1, "betas": [0.9, 0.99]}, "best": None, "name": "né"}
    save_checkpoint(tmp_path, 12, tensors, state)
    step, loaded, loaded_state = load_latest(tmp_path)
    assert step == latest_step(tmp_path) == 12 and loaded_state == state and loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)
    expected = torch.rand(3, generator=generator)
    assert torch.equal(torch.rand(3, generator=torch.Generator().set_state(loaded["rng"])), expected)


def test_no_checkpoint_is_none(tmp_path):
    assert load_latest(tmp_path) is None and latest_step(tmp_path) is None


def test_keeps_the_last_two_and_points_at_the_newest(tmp_path):
    for step in (1, 20, 300):
        save_checkpoint(tmp_path, step, {"x": torch.tensor(step)}, {})
    assert names(tmp_path) == ["latest", "step_000000020.safetensors", "step_000000300.safetensors"]
    assert (tmp_path / "checkpoints" / "latest").read_text().strip() == "step_000000300.safetensors"
    assert KEEP == 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "zeros", "header only", "other file"])
def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(tmp_path, caplog, damage):
    save_checkpoint(tmp_path, 1, {"x": torch.ones(100)}, {"loss": 1.0})
    path = save_checkpoint(tmp_path, 2, {"x": torch.zeros(100)}, {"loss": 0.5})
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[:-7],
            "empty": b"",
            "zeros": bytes(len(content)),
            "header only": content[:40],
            "other file": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        }[damage]
    )
    with caplog.at_level(logging.WARNING, logger="smerf"):
        step, tensors, state = load_latest(tmp_path)
    assert step == 1 and torch.equal(tensors["x"], torch.ones(100)) and state == {"loss": 1.0}
    assert "step_000000002" in caplog.text


def test_only_damaged_checkpoints_is_an_error_that_names_the_folder(tmp_path):
    save_checkpoint(tmp_path, 1, {"x": torch.ones(10)}, {}).write_bytes(b"x")
    with pytest.raises(InvalidDataError, match="checkpoints"):
        load_latest(tmp_path)


def test_a_foreign_safetensors_file_is_not_a_checkpoint(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "checkpoints").mkdir()
    save_file({"x": torch.ones(1)}, tmp_path / "checkpoints" / "step_000000001.safetensors")
    with pytest.raises(InvalidDataError):
        load_latest(tmp_path)


def test_a_leftover_of_a_killed_writer_is_ignored_and_removed(tmp_path):
    path = save_checkpoint(tmp_path, 1, {"x": torch.ones(10)}, {})
    leftover = path.with_name(".tmp-99-step_000000002.safetensors")
    leftover.write_bytes(path.read_bytes()[:50])
    assert load_latest(tmp_path)[0] == 1
    save_checkpoint(tmp_path, 2, {"x": torch.ones(10)}, {})
    assert not leftover.exists()


def test_state_that_is_not_json_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 1, {"x": torch.ones(1)}, {"model": object()})
    assert load_latest(tmp_path) is None


WRITER = """
import sys, torch
from pathlib import Path
from smerf.engine.checkpoint import load_latest, save_checkpoint
folder = Path(sys.argv[1])
found = load_latest(folder)
step = found[0] if found else 0
while True:
    step += 1
    save_checkpoint(folder, step, {"x": torch.full((300_000,), float(step))}, {"step": step})
    print(step, flush=True)
"""


def test_survives_kill_9_at_any_moment(tmp_path):
    reached = 0
    for delay in (0.003, 0.011):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        written = int(process.stdout.readline())
        assert written == reached + 1, "the writer did not resume"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        written = int(rest[-1]) if rest else written
        step, tensors, state = load_latest(tmp_path)
        assert step >= written and state == {"step": step}
        assert torch.equal(tensors["x"], torch.full((300_000,), float(step)))
        reached = step


def test_metadata_is_plain_json_that_other_tools_read(tmp_path):
    path = save_checkpoint(tmp_path, 5, {"x": torch.ones(1)}, {"lr": 0.5})
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["state"]) == {"lr": 0.5}
    assert header["__metadata__"]["step"] == "5"
