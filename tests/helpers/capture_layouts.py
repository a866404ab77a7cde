"""Tiny captures of one and the same camera arc, written in every layout."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, FOCAL = 24, 16, 22.0
OPENCV = (0.06, -0.08, 0.002, -0.001)
NAMES = [f"IMG_{index:02d}" for index in range(10)]


def poses(count: int = 10, radius: float = 4.0, turn: float = 5.0) -> np.ndarray:
    """Cameras on an arc around the origin, z up, looking at it; (count, 3, 4), OpenGL axes."""
    result = []
    for angle in np.linspace(0, turn, count):
        centre = np.array([radius * np.cos(angle), radius * np.sin(angle), 1.0 + 0.3 * np.sin(3 * angle)])
        back = centre / np.linalg.norm(centre)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        result.append(np.stack([right, np.cross(back, right), back, centre], axis=1))
    return np.stack(result)


def pixels(index: int, channels: int = 3, scale: int = 1) -> np.ndarray:
    generator = np.random.default_rng(index)
    return generator.integers(0, 256, (HEIGHT * scale, WIDTH * scale, channels), dtype=np.uint8)


def write_images(folder: Path, suffix: str = ".png", channels: int = 3, names: list[str] = NAMES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.fromarray(pixels(index, channels)).save(folder / f"{name}{suffix}")


def transforms(distortion: tuple[float, ...] = OPENCV, folder: str = "images", **extra) -> dict:
    return {
        "camera_model": "OPENCV",
        "w": WIDTH,
        "h": HEIGHT,
        "fl_x": FOCAL,
        "fl_y": FOCAL,
        "cx": WIDTH / 2,
        "cy": HEIGHT / 2,
        **dict(zip(("k1", "k2", "p1", "p2"), distortion)),
        **extra,
        "frames": [
            {"file_path": f"{folder}/{name}.png", "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]}
            for name, pose in zip(NAMES, poses())
        ],
    }


def write_nerfstudio(root: Path, content: dict | None = None) -> Path:
    write_images(root / "images")
    (root / "transforms.json").write_text(json.dumps(content or transforms()))
    return root


def write_synthetic(root: Path) -> Path:
    """First eight cameras train, last two test; alpha; no sizes in the file."""
    angle = 2 * np.arctan(0.5 * WIDTH / FOCAL)
    for split, chosen in (("train", range(8)), ("test", range(8, 10))):
        write_images(root / split, channels=4, names=[f"r_{i}" for i in range(len(chosen))])
        frames = [
            {
                "file_path": f"./{split}/r_{i}",
                "rotation": 0.01,
                "transform_matrix": [*poses()[k].tolist(), [0, 0, 0, 1]],
            }
            for i, k in enumerate(chosen)
        ]
        (root / f"transforms_{split}.json").write_text(
            json.dumps({"camera_angle_x": angle, "frames": frames})
        )
    return root


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """(w, x, y, z) of a rotation, from the eigenvector of its symmetric 4x4 form."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    matrix = np.array(
        [
            [a + e + i, h - f, c - g, d - b],
            [h - f, a - e - i, b + d, c + g],
            [c - g, b + d, e - a - i, f + h],
            [d - b, c + g, f + h, i - a - e],
        ]
    )
    return np.linalg.eigh(matrix)[1][:, -1]


def colmap_images() -> list[tuple[np.ndarray, np.ndarray]]:
    """World-to-camera quaternion and translation of each camera, OpenCV axes."""
    images = []
    for pose in poses():
        cam_from_world = (pose[:, :3] * (1, -1, -1)).T
        images.append((quaternion(cam_from_world), -cam_from_world @ pose[:, 3]))
    return images


POINTS = np.random.default_rng(1).uniform(-0.5, 0.5, (150, 3))


def write_colmap(
    root: Path,
    binary: bool = True,
    sparse: str = "sparse/0",
    model: str = "OPENCV",
    params: tuple[float, ...] = (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, *OPENCV),
    images: bool = True,
) -> Path:
    if images:
        write_images(root / "images")
    folder = root / sparse
    folder.mkdir(parents=True)
    # Listed out of order: readers sort by name.
    listed = list(zip(range(10), colmap_images()))[::-1]
    if binary:
        numbers = ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"]
        number = {**{name: i for i, name in enumerate(numbers)}, "FULL_OPENCV": 6, "FOV": 7}[model]
        camera = struct.pack(f"<QIiQQ{len(params)}d", 1, 1, number, WIDTH, HEIGHT, *params)
        (folder / "cameras.bin").write_bytes(camera)
        data = struct.pack("<Q", len(listed))
        for index, (rotation, translation) in listed:
            data += struct.pack("<I7dI", index + 1, *rotation, *translation, 1)
            data += f"{NAMES[index]}.png".encode() + b"\0"
            data += struct.pack("<Q", 2) + struct.pack("<ddqddq", 1.5, 2.5, 7, 3.0, 4.0, -1)
        (folder / "images.bin").write_bytes(data)
        data = struct.pack("<Q", len(POINTS))
        for index, point in enumerate(POINTS):
            data += struct.pack("<Q3d3BdQ", index, *point, 1, 2, 3, 0.5, 2) + struct.pack("<IIII", 1, 0, 2, 0)
        (folder / "points3D.bin").write_bytes(data)
        return root
    words = " ".join(repr(float(value)) for value in params)
    (folder / "cameras.txt").write_text(f"# a comment\n1 {model} {WIDTH} {HEIGHT} {words}\n")
    lines = ["# two lines an image"]
    for index, (rotation, translation) in listed:
        numbers = " ".join(repr(float(value)) for value in (*rotation, *translation))
        # Every other observation line is empty, which is legal.
        lines += [f"{index + 1} {numbers} 1 {NAMES[index]}.png", "" if index % 2 else "1.5 2.5 7"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    points = [f"{i} {x!r} {y!r} {z!r} 1 2 3 0.5 1 0" for i, (x, y, z) in enumerate(POINTS.tolist())]
    (folder / "points3D.txt").write_text("\n".join(points) + "\n")
    return root


def write_llff(root: Path) -> Path:
    write_images(root / "images")
    rows = []
    for pose in poses():
        right, up, back, centre = pose.T
        matrix = np.stack([-up, right, back, centre, [HEIGHT, WIDTH, FOCAL]], axis=1)
        rows.append([*matrix.ravel(), 2.0, 9.0])
    np.save(root / "poses_bounds.npy", np.array(rows))
    return root
