"""Two checkouts run in turn. The checkouts here are scripts that leave what a run leaves."""

import json

import pytest

from benchmarks import against

PROGRAM = """#!/usr/bin/env python3
import json, pathlib, sys
words = sys.argv[1:]
run = pathlib.Path(words[words.index("-o") + 1])
(run / "teacher").mkdir(parents=True)
print("training", *words)
if "--set=fail=1" in words:
    sys.exit("the setting fail is unknown")
(run / "teacher" / "done.json").write_text(json.dumps({"seconds": 12.5, "peak_memory_mb": 300.0}))
sum(range(3_000_000))
results = {"psnr": PSNR, "ssim": 0.9, "views": 3}
(run / "metrics.json").write_text(json.dumps({"stages": {"teacher": {"results": results}}}))
"""


def make_checkout(folder, psnr):
    program = folder / ".venv" / "bin" / "smerf"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM.replace("PSNR", str(psnr)))
    program.chmod(0o755)
    return folder


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setattr(against, "ROOT", make_checkout(tmp_path / "new", 31.5))
    old = make_checkout(tmp_path / "old", 30.25)
    (tmp_path / "fox").mkdir()

    def call(*words, code=0):
        out = tmp_path / "against.json"
        assert (
            against.BENCHMARK.main([str(old), "--data", str(tmp_path / "fox"), *words, "--json", str(out)])
            == code
        )
        return json.loads(out.read_text())["records"]

    return call


def test_both_sides_report_quality_and_time_in_turn(records, capsys):
    found = records("--repeats", "2", "--set", "a=1")
    assert [record["side"] for record in found] == ["this", "other", "other", "this"]
    assert [record["teacher_psnr"] for record in found] == [31.5, 30.25, 30.25, 31.5]
    assert all(record["cpu_seconds"] > 0 and record["teacher_seconds"] == 12.5 for record in found)
    assert all("--set=a=1" in record["settings"] for record in found)
    assert "31.50" in capsys.readouterr().out


def test_a_side_that_fails_is_recorded_and_the_other_goes_on(records):
    this, other = records("--other-set", "fail=1", code=1)
    assert this["exit_code"] == 0 and this["teacher_psnr"] == 31.5
    assert other["exit_code"] == 1 and "the setting fail is unknown" in other["output"]
    assert "teacher_psnr" not in other
