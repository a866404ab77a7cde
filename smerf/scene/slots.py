"""A scene of slots as the viewers take it: matrices ready for textures, and what people see of each slot.

On disk (``slots/`` of an exported page):

    slots.json    format, sizes, slots, cameras, and the lengths of the two other files
    network.bin   float16, little endian: matrices of the decoder
    scene.bin     float32: matrices that depend on the slots

A matrix, padded with zeros to multiples of 4 inputs and 8 outputs, is stored by groups of eight outputs:
two texels (of four numbers) with the bias, then two texels for every input. The steps of the rendering are a
table of eight numbers each, described in ``viewer/shaders/slots/mixer.frag``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

__all__ = ["SlotEntry", "SlotScene", "pack_matrix", "ray_motions", "slot_defines", "write_slots"]

FORMAT = "smerf-slots-web-1"


@dataclass(frozen=True)
class SlotEntry:
    """One slot: its ``number`` in the file, from 1, the ``colour`` of its mask (0 to 255), its ``share`` of the pixels,
    the index of its ray ``group``, and whether it is the background.
    """

    number: int
    colour: tuple[int, int, int]
    share: float
    group: int
    is_background: bool


@dataclass(frozen=True)
class SlotScene:
    """Everything that rendering needs.

    ``network`` (N, 4) float16 and ``scene`` (M, 4) float32 texels; ``sizes`` the constants of
    ``mixer.frag`` and ``steps`` (S, 8) int32 its table; ``slots``; ``motions`` (G, 4, 4) the motion of each
    ray group in world units; ``frame`` (4, 4) from world to model coordinates; ``pose`` (3, 4) OpenGL
    camera-to-world of the start; ``fov`` its vertical field of view in degrees; ``aspect`` width over
    height of the input views; ``azimuth`` how far, in degrees, cameras may stand from the x axis where the
    model knows only one side, else 180.
    """

    network: np.ndarray
    scene: np.ndarray
    sizes: dict[str, int | float]
    steps: np.ndarray
    slots: tuple[SlotEntry, ...]
    motions: np.ndarray
    frame: np.ndarray
    pose: np.ndarray
    fov: float
    aspect: float
    azimuth: float = 180.0


def pack_matrix(weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Return the texels (T, 4) of a matrix (O, I) in the order that ``mixer.frag`` reads."""
    outputs, inputs = weight.shape
    columns = -(-inputs // 4) * 4
    padded = np.zeros((-(-outputs // 8) * 8, columns + 1))
    padded[:outputs, 1 : inputs + 1] = weight
    if bias is not None:
        padded[:outputs, 0] = bias
    return padded.reshape(-1, 2, 4, columns + 1).transpose(0, 3, 1, 2).reshape(-1, 4)


def slot_defines(scene: SlotScene) -> dict[str, str]:
    """Return the constants of the shaders as text."""
    return {name: f"({value!r})" for name, value in scene.sizes.items()}


def ray_motions(scene: SlotScene, motions: np.ndarray) -> np.ndarray:
    """Return the rows (G, 3, 4) float32 that take world rays to the rays of slots moved by ``motions`` (G, 4, 4)."""
    return (scene.frame @ np.linalg.inv(motions))[:, :3].astype(np.float32)


def write_slots(scene: SlotScene, folder: Path) -> None:
    """Write the three files of a scene into a folder that exists."""
    (folder / "network.bin").write_bytes(scene.network.astype("<f2").tobytes())
    (folder / "scene.bin").write_bytes(scene.scene.astype("<f4").tobytes())
    header = {
        "format": FORMAT,
        "network_texels": len(scene.network),
        "scene_texels": len(scene.scene),
        "sizes": scene.sizes,
        "steps": scene.steps.tolist(),
        "slots": [asdict(slot) for slot in scene.slots],
        "motions": ray_motions(scene, scene.motions).reshape(-1, 12).tolist(),
        "pose": scene.pose.ravel().tolist(),
        "fov": scene.fov,
        "aspect": scene.aspect,
        "azimuth": scene.azimuth,
    }
    (folder / "slots.json").write_text(json.dumps(header, indent=1), encoding="utf-8")
