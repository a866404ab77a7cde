"""A short walk in the page and in the window, and a few lost contexts; ``benchmarks.endurance`` is for hours."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import endurance
from benchmarks.common import check
from benchmarks.endurance_walk import grows, growth


def test_growth_is_what_comes_after_warming_up():
    steady = [10e6, 40e6, 90e6, 100e6] + [100e6, 101e6, 99e6, 100e6] * 7
    assert abs(growth(steady)) < 1e6 and not grows(steady)
    leaking = [100e6 + 1e6 * i for i in range(32)]
    assert growth(leaking) == pytest.approx(16e6) and grows(leaking)
    # A few more than before are a leak where objects are counted one by one.
    assert grows([20.0] * 16 + [26.0] * 16, 2.0) and not grows([20.0] * 16 + [21.0] * 16, 2.0)


@pytest.mark.browser
@pytest.mark.gl
def test_a_short_walk_and_lost_contexts_leave_nothing_behind(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(endurance, "SAMPLES_PER_HOUR", 24)
    path = tmp_path / "endurance.json"
    with ThreadPoolExecutor(1) as thread:
        words = ["--hours", "0.15", "--contexts", "3", "--json", str(path)]
        # So few samples say nothing of growth: what fails here is a picture that does not come back.
        assert thread.submit(endurance.BENCHMARK.main, words).result() == 0
    assert "lost contexts" in capsys.readouterr().out
    document = json.loads(path.read_text())
    assert all("commit first" in fault for fault in check(document))
    page, fetches, contexts, window = (record["samples"][-1] for record in document["records"])
    assert page["frames"] >= 100 and page["images"] > 50 and page["evictions"] > 0
    assert fetches["rounds"] >= 2 and fetches["heap_bytes"] < page["heap_bytes"]
    assert window["texture_bytes"] <= 1e6 * endurance.MEMORY_MB
    assert document["records"][2]["lost"] == document["records"][2]["recovered"] == 3
    assert contexts["graphics_objects"] <= document["records"][2]["samples"][0]["graphics_objects"] + 2
    assert page["graphics_objects"] < 100 < page["graphics_objects_made"]
