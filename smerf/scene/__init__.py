"""The baked scene on disk and in memory: write, read, verify. Needs numpy, Pillow and scipy; never torch."""

from smerf.capture.types import Camera, Intrinsics
from smerf.scene.manifest import Manifest, SceneCamera, StartCamera, read_manifest, verify_manifest
from smerf.scene.read import load_scene
from smerf.scene.types import CHANNELS, BakedScene, BakedSubmodel, SceneParams, lattice_mlp_at
from smerf.scene.write import write_scene

__all__ = [
    "CHANNELS",
    "BakedScene",
    "BakedSubmodel",
    "Camera",
    "Intrinsics",
    "Manifest",
    "SceneCamera",
    "SceneParams",
    "StartCamera",
    "lattice_mlp_at",
    "load_scene",
    "read_manifest",
    "verify_manifest",
    "write_scene",
]
