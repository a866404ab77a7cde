"""At the scale of ViT-22B: exact counts, and two processes that learn what one does."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from smerf.cli.main import main
from smerf.errors import MissingPartError
from smerf.vision.plan import PRESETS, Vit, plan

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from smerf.vision import sharding
from smerf.vision.plan import PRESETS, Vit

torch.set_num_threads(1)
folder, world = sys.argv[1], int(sys.argv[2])


def learn(engine, mesh, rank, sums=True, steps=3):
    torch.manual_seed(0)
    model = Vit(PRESETS["tiny"]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if engine == "fsdp":
        sharding.shard_parameters(model, mesh)
    elif engine == "heads":
        sharding.shard_by_heads(model, mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    images, labels = torch.randn(4, 16, 192, dtype=torch.float64), torch.arange(4)
    if engine == "fsdp":
        images, labels = images.chunk(mesh.size())[rank], labels.chunk(mesh.size())[rank]
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        if engine == "heads" and sums:
            sharding.sum_head_gradients(model, mesh)
        optimizer.step()
    return model, optimizer


def whole(model):
    return {name: v.full_tensor() if isinstance(v, DTensor) else v for name, v in model.state_dict().items()}


dist.init_process_group("gloo")
rank, mesh = dist.get_rank(), init_device_mesh("cpu", (world,))
model, optimizer = learn("fsdp", mesh, rank)
sharding.save_shards(folder + "/shards", model, optimizer)
local = sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in model.parameters())
results = {"fsdp": whole(model), "share": local / sum(p.numel() for p in model.parameters())}
again, fresh = learn("fsdp", mesh, rank, steps=1)
sharding.load_shards(folder + "/shards", again, fresh)
results["loaded"] = whole(again)
results["heads"] = whole(learn("heads", mesh, rank)[0])
results["unsummed"] = whole(learn("heads", mesh, rank, sums=False)[0])
if rank == 0:
    results["one"] = whole(learn("one", None, 0)[0])
    torch.save(results, folder + "/results.pt")
dist.barrier()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Train in two processes and in one; return the parameters of each engine."""
    try:
        importlib.import_module("smerf.vision.sharding")
    except MissingPartError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), "2"],
            env={**common, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    return torch.load(folder / "results.pt", weights_only=True)


def difference(first, second):
    return max(float((first[name] - second[name]).abs().max()) for name in second)


def test_parameters_in_two_halves_learn_what_one_process_does(two):
    assert difference(two["fsdp"], two["one"]) < 1e-10
    assert 0.45 < two["share"] < 0.6


def test_heads_in_two_processes_learn_what_one_process_does(two):
    assert difference(two["heads"], two["one"]) < 1e-10
    # Without the sum of the norms' gradients nothing warns, and the parameters drift.
    assert difference(two["unsummed"], two["one"]) > 1e-4


def test_shards_are_read_again(two):
    assert difference(two["loaded"], two["one"]) < 1e-10


def test_vit_22b_has_the_published_size():
    found = plan(PRESETS["vit-22b"])
    assert found.block_matrices == 21_743_271_936
    assert found.parameters == pytest.approx(22.09e9, rel=1e-3)
    assert found.gpus("AdamW, float32 everything", "80 GB") == 5
    assert found.gpus("inference, bfloat16", "80 GB") == 1
    assert found.gib("AdamW, float32 everything") == pytest.approx(329, abs=1)
    assert found.gpu_days == pytest.approx(11_300, rel=0.05)


@pytest.mark.parametrize("preset", ["tiny", "vit-22b"])
def test_flops_are_those_that_torch_counts(preset):
    config = PRESETS[preset]
    with torch.device("meta"):
        model = Vit(config)
        patches = torch.zeros(1, config.tokens, 3 * config.patch**2)
    with FlopCounterMode(display=False) as counter:
        model(patches)
    assert plan(config).forward_flops == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_the_command_says_what_it_would_take(capsys):
    assert main(["vision", "plan", "--preset", "vit-22b", "--gpus", "64"]) == 0
    out = capsys.readouterr().out
    assert "21,743,271,936" in out and "days of 64 H100" in out
    assert main(["vision", "plan", "--preset", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["days"] is None
    assert main(["vision", "plan", "--preset", "vit"]) == 2
    assert "is not one of tiny, cpu, base, vit-22b" in capsys.readouterr().err
