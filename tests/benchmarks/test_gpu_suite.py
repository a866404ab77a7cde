"""The GPU suite on a machine without a GPU: what it says, and what it leaves behind."""

import json

import pytest
import torch

from benchmarks.gpu_suite import __main__ as gpu_suite


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return gpu_suite


def test_parts_that_need_a_gpu_are_named_with_the_reason(suite, tmp_path, capsys):
    code = suite.main(["--json", str(tmp_path / "out" / "gpu.json"), "--parts", "teacher,render"])
    document = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert code == 3
    assert document["device"]["kind"] == "cpu" and document["script"] == "benchmarks.gpu_suite"
    assert {part: outcome["state"] for part, outcome in document["parts"].items()} == {
        "teacher": "not run",
        "render": "not run",
    }
    assert "no GPU" in document["parts"]["teacher"]["reason"]
    printed = capsys.readouterr()
    assert "not run here: teacher, render" in printed.out and "no GPU" in printed.err


def test_kernels_are_checked_on_the_cpu_and_one_failure_keeps_nothing_back(suite, tmp_path, monkeypatch):
    cases = {case.name: case for case in suite.kernels.CASES}

    def broken(device, size):
        raise ValueError("out of order")

    chosen = (
        suite.kernels.Case("broken", broken, 1),
        *(cases[name] for name in ("ray_points", "mlp/12_16_1/backward", "sparse_adam", "grid_mark")),
    )
    monkeypatch.setattr(suite.kernels, "CASES", chosen)
    code = suite.main(
        ["--json", str(tmp_path / "gpu.json"), "--parts", "kernels,bake", "--small", "--repeats", "2"]
    )
    document = json.loads((tmp_path / "gpu.json").read_text())
    records = {record["name"]: record for record in document["records"]}
    assert code == 1
    assert "out of order" in records["kernels/broken"]["error"]
    assert all(records[f"kernels/{case.name}"]["agrees"] for case in chosen[1:])
    assert "median_ms" not in records["kernels/ray_points"]
    assert document["parts"]["kernels"]["state"] == "failed"
    assert document["parts"]["bake"]["state"] == "not run"


def test_an_unknown_part_is_a_usage_error(suite, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        suite.main(["--json", str(tmp_path / "gpu.json"), "--parts", "kernel"])
    assert caught.value.code == 2
    assert "build,kernels,steps,teacher" in capsys.readouterr().err
