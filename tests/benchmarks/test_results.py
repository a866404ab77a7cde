"""The documents that benchmarks write: what they say of themselves, and that the committed ones may be quoted."""

import argparse
import json
import sys

import pytest

from benchmarks.__main__ import benchmarks
from benchmarks.common import ROOT, SCHEMA, Benchmark, check
from smerf.errors import UsageError


def measure(options: argparse.Namespace, report):
    if options.count < 1:
        raise UsageError("--count 0: nothing to measure")
    for i in range(options.count):
        report.add(f"toy/{i}", median_ms=1.23456 + i, peer="nothing", peer_ms=2.34567, speedup=1.9)


TOY = Benchmark(
    "Measures nothing.", measure, lambda parser: parser.add_argument("--count", type=int, default=2)
)


@pytest.fixture
def document(tmp_path):
    assert TOY.main(["--count", "3", "--json", str(tmp_path / "out" / "toy.json")]) == 0
    return json.loads((tmp_path / "out" / "toy.json").read_text())


def test_a_document_says_how_its_figures_came_about(document):
    assert document["schema"] == SCHEMA and len(document["records"]) == 3
    assert document["arguments"][:2] == ["--count", "3"] and "--count 3" in document["command"]
    assert document["device"]["name"] and document["device"]["processors"] >= 1
    assert document["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert document["commit"] and document["seconds"] > 0


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"script": "benchmarks.gone"}, "benchmarks.gone, which is not there"),
        ({"commit": "0123456789ab+"}, "commit first"),
        ({"schema": 99}, "schema 99"),
        ({"device": "a fast one"}, "device is a str"),
        ({"records": []}, "no records"),
        ({"records": [{"name": "a", "speedup": 2.03456}]}, "speed-up without peer"),
        ({"records": [{"name": str(i), "median_ms": 22.5 + i} for i in range(9)]}, "rounded numbers"),
    ],
)
def test_what_may_not_be_quoted_is_told(document, change, fault):
    good = document | {"script": "benchmarks.encode", "commit": "0123456789ab"}
    assert check(good) == []
    assert any(fault in found for found in check(good | change))
    assert check([{"name": "a list"}])


def test_an_error_of_the_program_is_one_line_and_its_exit_code(capsys):
    assert TOY.main(["--count", "0"]) == UsageError.exit_code
    assert "--count 0: nothing to measure" in capsys.readouterr().err


def test_every_committed_result_may_be_quoted():
    faults = [
        f"{path.name}: {fault}"
        for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))
        for fault in check(json.loads(path.read_text()))
    ]
    assert not faults, "\n".join(faults)


def test_every_benchmark_has_a_short_form_or_says_what_it_needs():
    found = benchmarks()
    assert {"render", "teacher", "pipeline", "web", "against"} <= found.keys()
    for name, benchmark in found.items():
        assert (benchmark.short is None) == bool(benchmark.needs), name
        assert f"python -m benchmarks.{name}" in benchmark.doc and "--json FILE" in benchmark.doc, name
        if benchmark.short is not None:
            parser = argparse.ArgumentParser()
            benchmark.options(parser)
            parser.parse_args(list(benchmark.short))


def test_the_tables_that_minutes_are_planned_with_are_results():
    found = sorted((ROOT / "data" / "minutes").glob("*.json"))
    assert len(found) > 1
    assert {path.name: check(json.loads(path.read_text())) for path in found} == {
        path.name: [] for path in found
    }
