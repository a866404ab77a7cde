"""Walk through every submodel of a page in headless Chromium: first picture, transfer, texture memory.

    python -m benchmarks.streaming [SITE_OR_RUN] [--memory MB] [--size 96x72] [--json FILE]

The camera goes to the centre of one submodel after the other and back, and waits for full detail each time. The table
tells how many bytes came before the first picture, what the walk transferred of all the page could load, and the
largest sum of textures beside the ceiling; ``--memory`` lowers the ceiling, so that submodels have to go. Without a
page a room of seven submodels made from formulas is baked and exported first. Exits with 1 if the ceiling was passed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.browser import browser_versions, chromium
from benchmarks.common import Benchmark, Report, size
from benchmarks.page import find_scene, find_site
from smerf.baking.coarse import coarse_files
from smerf.export.serve import SceneServer
from smerf.export.site import export_site
from smerf.scene import BakedScene, load_scene
from smerf.scene.example import example_scene
from smerf.scene.write import write_scene

ROOMS = (2, 6, 10, 14, 18, 22, 26)
"""Regions of a 3^3 partition that lie in a row."""
WALK = """async (matrix) => {
  await smerf.setCamera(matrix, 60);
  return smerf.stats();
}"""


def export_rooms(folder: Path) -> Path:
    """Bake and export a scene of several submodels; return the page's folder."""
    scene = example_scene(64, 3, ROOMS, lattice=1)
    submodels = (scene.submodel(k) for k in range(len(ROOMS)))
    coarse = partial(coarse_files, scene.params, scene.mlp, 20_000)
    write_scene(folder / "baked", scene.params, scene.mlp, submodels, scene.manifest, coarse=coarse)
    return export_site(folder / "baked", folder / "site").parent


def places(scene: BakedScene) -> list[list[float]]:
    """Return a camera-to-world matrix, 16 numbers by rows, at the centre of every submodel (training axes)."""
    matrices = []
    for k in range(len(scene.params.params_to_sm)):
        matrix = np.eye(4)
        # Level, looking along y.
        matrix[:3, :3] = [[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]
        matrix[:3, 3] = scene.params.submodel_centre(k)
        matrices.append(matrix.ravel().tolist())
    return matrices


def walk(page: Any, matrices: list[list[float]]) -> dict[str, Any]:
    """Visit the cameras there and back; return the page's figures at the end, the visits' submodels among them."""
    found: dict[str, Any] = {}
    visited = []
    for matrix in [*matrices, *matrices[-2::-1]]:
        found = page.evaluate(WALK, matrix)
        visited.append(found["submodel"])
    return found | {"visited": visited}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="?", help="an exported page's folder, or a run")
    parser.add_argument("--memory", type=float, metavar="MB", help="ceiling of texture memory")
    parser.add_argument("--size", type=size, default=(96, 72))


def measure(options: argparse.Namespace, report: Report) -> int:
    width, height = options.size
    with chromium() as browser, tempfile.TemporaryDirectory() as temporary:
        site = find_site(options.path or export_rooms(Path(temporary)))
        scene = load_scene(find_scene(site))
        with SceneServer(site) as server:
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1)
            page.set_default_timeout(600_000)
            query = "ui=0&dpr=1" + (f"&memory={options.memory:g}" if options.memory else "")
            page.goto(f"{server.url}?{query}")
            page.evaluate("smerf.ready")
            found = walk(page, places(scene))
            report.add("streaming", **found, **browser_versions(browser, page))
    megabytes = {
        "before the first frame": found["firstPictureBytes"],
        "transferred in all": found["loadedBytes"],
        "largest sum of textures": found["peakTextureBytes"],
        "ceiling of textures": found["memoryCeilingBytes"],
    }
    for name, count in megabytes.items():
        print(f"{name:28} {count / 1e6:10.2f} MB")
    print(f"{'submodels visited':28} {len(set(found['visited'])):10} of {found['submodels']}")
    print(f"{'evictions':28} {found['evictions']:10}")
    return 0 if found["peakTextureBytes"] <= found["memoryCeilingBytes"] else 1


BENCHMARK = Benchmark(__doc__, measure, options, short=[])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
