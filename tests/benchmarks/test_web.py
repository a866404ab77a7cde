"""The page's benchmark, run for real on a tiny page, with another page as second column."""

import importlib.util
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OTHER = """data:text/html,<canvas></canvas><script>
const gl = document.querySelector('canvas').getContext('webgl2');
const draw = () => { gl.clear(gl.COLOR_BUFFER_BIT); requestAnimationFrame(draw); };
requestAnimationFrame(draw);
</script><p>{pos} {fov}"""


@pytest.fixture
def web(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    spec = importlib.util.spec_from_file_location("benchmarks_web", ROOT / "benchmarks" / "web.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


def test_times_counts_and_the_other_page_are_reported(web, tmp_path, capsys, monkeypatch):
    variants = ("everything", "colour with density", "no skipping")
    monkeypatch.setattr(web, "VARIANTS", {name: web.VARIANTS[name] for name in variants})
    arguments = ["--cameras", "1", "--size", "32x24", "--frames", "2", "--ablate"]
    # A thread of its own: another test of this process may hold a browser.
    with ThreadPoolExecutor(1) as thread:
        asked = [*arguments, "--other", OTHER, "--json", str(tmp_path / "web.json")]
        code = thread.submit(web.main, asked).result()
    assert code == 0
    records = {record["name"]: record for record in json.loads((tmp_path / "web.json").read_text())}
    best = records["web/everything"]
    assert best["size"] == [32, 24] and best["fps"] > 0
    assert 0 < best["median_ms"] <= best["p95_ms"] <= best["p99_ms"]
    assert 4 <= best["fetches_per_sample"] <= 10
    # Fewer fetches with density first, fewer samples with skipping; the pictures' samples with colour stay.
    assert records["web/colour with density"]["fetches_per_sample"] > best["fetches_per_sample"]
    assert records["web/no skipping"]["samples_per_ray"] > best["samples_per_ray"]
    assert records["web/other page"]["fps"] > 0 and best["peer_ms"] > 0
    shown = capsys.readouterr().out
    assert "SwiftShader" in shown and "other page" in shown and "fetches/sample" in shown


def test_the_camera_is_put_into_the_address(web):
    from benchmarks.other_pages import fill
    from smerf.scene.example import example_camera

    address = fill("http://x/?p={pos}&m={matrix}&f={fov}&s={width},{height}", example_camera(), (64, 48))
    assert address.startswith("http://x/?p=0.1,-0.45,0.12&m=") and address.endswith("&f=70&s=64,48")
    assert len(address.split("m=")[1].split("&")[0].split(",")) == 16
