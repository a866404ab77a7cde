"""A splat viewer's page to compare ours with: Spark on three.js, from npm's registry.

The packages are kept in ``.cache/npm``, which git ignores; nothing of them is part of the project.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT
from smerf.capture.types import Similarity
from smerf.errors import MissingPartError
from smerf.export.serve import SceneServer

__all__ = ["PACKAGES", "npm_package", "splat_page"]

PACKAGES = {"@sparkjsdev/spark": "2.2.0", "three": "0.187.0"}
_CACHE = ROOT / ".cache" / "npm"
_PAGE = """<!doctype html>
<meta charset="utf-8">
<style>html, body { margin: 0; overflow: hidden } canvas { display: block }</style>
<script type="importmap">{"imports": {
  "three": "./three/build/three.module.js",
  "three/addons/": "./three/examples/jsm/",
  "spark": "./spark/dist/spark.module.min.js"
}}</script>
<script type="module">
import * as THREE from "three";
import { SparkRenderer, SplatMesh } from "spark";

const { file, place, background } = SCENE;
const renderer = new THREE.WebGLRenderer({ antialias: false, preserveDrawingBuffer: true });
renderer.setPixelRatio(1);
renderer.setSize(innerWidth, innerHeight);
document.body.append(renderer.domElement);
const scene = new THREE.Scene();
scene.background = new THREE.Color().setRGB(...background, THREE.SRGBColorSpace);
const camera = new THREE.PerspectiveCamera(50, innerWidth / innerHeight, 0.001, 1000);
camera.matrixAutoUpdate = false;
scene.add(camera, new SparkRenderer({ renderer }));
const mesh = new SplatMesh({ url: `./${file}`, fileName: file });
new THREE.Matrix4().set(...place).decompose(mesh.position, mesh.quaternion, mesh.scale);
scene.add(mesh);

// A drag turns the camera about an axis through a centre.
let motion = null;
let began = null;
globalThis.viewer = {
  setCamera(matrix, fov) {
    motion = null;
    camera.fov = fov;
    camera.updateProjectionMatrix();
    camera.matrix.set(...matrix);
    camera.matrixWorldNeedsUpdate = true;
  },
  setMotion(given) {
    motion = { ...given, start: camera.matrix.clone() };
  },
};
renderer.domElement.addEventListener("pointerdown", ({ clientX }) => (began = clientX));
renderer.domElement.addEventListener("pointermove", ({ clientX }) => {
  if (!motion || began === null) return;
  const { axis, centre, radians, pixels, start } = motion;
  const c = new THREE.Vector3(...centre);
  const turn = new THREE.Matrix4().makeRotationAxis(new THREE.Vector3(...axis), (radians * (clientX - began)) / pixels);
  const back = new THREE.Matrix4().makeTranslation(...centre.map((x) => -x));
  camera.matrix.makeTranslation(c).multiply(turn).multiply(back).multiply(start);
  camera.matrixWorldNeedsUpdate = true;
});
renderer.domElement.addEventListener("pointerup", () => (began = null));
await mesh.initialized;
renderer.setAnimationLoop(() => renderer.render(scene, camera));
globalThis.isOpen = true;
</script>
"""


def npm_package(name: str, version: str) -> Path:
    """Return the folder of a package, from the cache or npm's registry.

    Raises:
        MissingPartError: If it is in neither.
    """
    folder = _CACHE / f"{name.rsplit('/', maxsplit=1)[-1]}-{version}"
    if (folder / "package.json").is_file():
        return folder
    if shutil.which("npm") is None:
        raise MissingPartError("npm is not installed: no splat viewer to compare with")
    with tempfile.TemporaryDirectory() as temporary:
        command = ["npm", "pack", f"{name}@{version}", "--silent", "--prefer-offline", "--fetch-retries=0"]
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingPartError(f"{name}@{version} is not in the cache, and no npm registry in reach")
        shutil.unpack_archive(next(Path(temporary).glob("*.tgz")), temporary, "gztar")
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(Path(temporary) / "package", folder, dirs_exist_ok=True)
    return folder


def _matrix(place: Similarity) -> list[float]:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = place.scale * place.rotation, place.translation
    return [float(x) for x in matrix.ravel()]


@contextlib.contextmanager
def splat_page(file: Path, place: Similarity, background: tuple[float, float, float]) -> Iterator[str]:
    """Serve the viewer with a splat file on this machine; return the page's address.

    The page has ``viewer.setCamera(matrix, fov)`` in the space that ``place`` leads to, ``viewer.setMotion(motion)``,
    and ``isOpen`` once it draws.

    Raises:
        MissingPartError: If npm or its registry is missing.
    """
    packages = {name: npm_package(name, version) for name, version in PACKAGES.items()}
    scene = {"file": file.name, "place": _matrix(place), "background": background}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in packages.items():
            shutil.copytree(path, Path(folder) / name.rsplit("/", maxsplit=1)[-1])
        shutil.copy(file, folder)
        (Path(folder) / "index.html").write_text(_PAGE.replace("SCENE", json.dumps(scene), 1))
        with SceneServer(Path(folder)) as server:
            yield server.url
