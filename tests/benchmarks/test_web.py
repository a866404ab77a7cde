"""The page's benchmark, run for real on a tiny page, with another page as second column."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import web
from benchmarks.common import check
from benchmarks.other_pages import fill
from smerf.errors import MissingPartError
from smerf.scene.example import example_camera

OTHER = """data:text/html,<canvas></canvas><script>
const gl = document.querySelector('canvas').getContext('webgl2');
const draw = () => { gl.clear(gl.COLOR_BUFFER_BIT); requestAnimationFrame(draw); };
requestAnimationFrame(draw);
</script><p>{pos} {fov}"""


@pytest.mark.browser
def test_times_counts_and_the_other_page_are_reported(tmp_path, capsys, monkeypatch):
    variants = ("everything", "colour with density", "no skipping")
    monkeypatch.setattr(web, "VARIANTS", {name: web.VARIANTS[name] for name in variants})
    arguments = ["--cameras", "1", "--size", "32x24", "--frames", "2", "--ablate", "--webgpu"]
    # A thread of its own: another test of this process may hold a browser.
    with ThreadPoolExecutor(1) as thread:
        asked = [*arguments, "--other", OTHER, "--json", str(tmp_path / "web.json")]
        code = thread.submit(web.BENCHMARK.main, asked).result()
    if code == MissingPartError.exit_code:
        pytest.skip("Chromium gives no WebGPU adapter here")
    assert code == 0
    document = json.loads((tmp_path / "web.json").read_text())
    # Uncommitted changes alone keep it from being quoted.
    assert all("commit first" in fault for fault in check(document))
    records = {record["name"]: record for record in document["records"]}
    best = records["web/everything"]
    assert best["size"] == [32, 24] and best["fps"] > 0
    assert 0 < best["median_ms"] <= best["p95_ms"] <= best["p99_ms"]
    assert 4 <= best["fetches_per_sample"] <= 10
    # Fewer fetches with density first, fewer samples with skipping; the pictures' samples with colour stay.
    assert records["web/colour with density"]["fetches_per_sample"] > best["fetches_per_sample"]
    assert records["web/no skipping"]["samples_per_ray"] > best["samples_per_ray"]
    # WebGPU marches the same rays.
    assert records["web/webgpu"]["peer_ms"] == best["median_ms"]
    for name in ("iterations_per_ray", "samples_per_ray", "fetches_per_ray"):
        assert records["web/webgpu"][name] == pytest.approx(best[name], rel=1e-3)
    assert records["web/other page"]["fps"] > 0 and best["peer_ms"] > 0
    shown = capsys.readouterr().out
    assert "SwiftShader" in shown and "other page" in shown and "fetches/sample" in shown


def test_the_camera_is_put_into_the_address():
    address = fill("http://x/?p={pos}&m={matrix}&f={fov}&s={width},{height}", example_camera(), (64, 48))
    assert address.startswith("http://x/?p=0.1,-0.45,0.12&m=") and address.endswith("&f=70&s=64,48")
    assert len(address.split("m=")[1].split("&")[0].split(",")) == 16
