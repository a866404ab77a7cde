"""Photos of a textured corner of a room with known cameras, and models of cameras around points."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageFilter

from smerf.capture.types import Intrinsics
from smerf.prepare.checks import Place
from smerf.prepare.model import Model

FOCAL, WIDTH, HEIGHT = 300.0, 320, 240
TEXTURE = 512
# Origin and two edges of each wall, 2 units long: the floor and two walls that meet at (0, 0, 0).
WALLS = [
    ((0, 0, 0), (2, 0, 0), (0, 2, 0)),
    ((0, 0, 0), (2, 0, 0), (0, 0, 2)),
    ((0, 0, 0), (0, 2, 0), (0, 0, 2)),
]


def texture(seed, size=TEXTURE):
    """Coloured blobs of several sizes, which give features at every scale."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size, 3))
    for cells, weight in ((8, 1.0), (24, 1.2), (64, 1.2), (160, 0.8)):
        noise = Image.fromarray(rng.integers(0, 255, (cells, cells, 3), np.uint8))
        total += weight * (np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC), float) - 127)
    return Image.fromarray((127 + 0.75 * total).clip(0, 255).astype(np.uint8))


def look_at(centre, target=(0.6, 0.6, 0.5)):
    """Camera-to-world (3, 4), OpenCV axes, z up."""
    forward = np.asarray(target, float) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0, 0, 1.0))
    right /= np.linalg.norm(right)
    return np.column_stack([right, np.cross(forward, right), forward, centre])


def corner_poses(count):
    """Cameras on an arc in front of the corner, at changing heights."""
    angles = np.radians(np.linspace(22, 68, count))
    centres = [(3 * np.cos(a), 3 * np.sin(a), 1.3 + 0.4 * np.sin(5 * a)) for a in angles]
    return np.array([look_at(np.array(centre)) for centre in centres])


def photograph(pose, textures):
    """Render the corner by homographies."""
    image = Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90))
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    for (origin, u, v), wall in zip(WALLS, textures, strict=True):
        to_camera = pose[:, :3].T
        plane = np.column_stack([to_camera @ u, to_camera @ v, to_camera @ (np.array(origin) - pose[:, 3])])
        back = np.diag([TEXTURE, TEXTURE, 1.0]) @ np.linalg.inv(K @ plane)
        back /= back[2, 2]
        shown = wall.transform(
            (WIDTH, HEIGHT), Image.Transform.PERSPECTIVE, back.ravel()[:8], Image.Resampling.BICUBIC
        )
        full = Image.new("L", wall.size, 255)
        mask = full.transform((WIDTH, HEIGHT), Image.Transform.PERSPECTIVE, back.ravel()[:8])
        image.paste(shown, (0, 0), mask)
    return image


def write_corner(folder: Path, count: int) -> np.ndarray:
    """Write photos of the corner and return their poses (OpenCV axes)."""
    folder.mkdir(parents=True)
    textures = [texture(seed) for seed in range(3)]
    poses = corner_poses(count)
    for index, pose in enumerate(poses):
        photograph(pose, textures).save(folder / f"photo{index:02d}.jpg", quality=95)
    return poses


def write_rotation(folder: Path, count: int) -> None:
    """Write what a camera sees that rotates without moving: homographies of one image."""
    folder.mkdir(parents=True)
    scene = texture(7, 1400).filter(ImageFilter.GaussianBlur(1))
    inside = np.linalg.inv(np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]))
    outside = np.array([[900, 0, 700], [0, 900, 700], [0, 0, 1.0]])
    for index in range(count):
        a, b = np.radians(-10 + 20 * index / (count - 1)), np.radians(3 * np.sin(index))
        yaw = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        pitch = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        back = outside @ yaw @ pitch @ inside
        back /= back[2, 2]
        shown = scene.transform(
            (WIDTH, HEIGHT), Image.Transform.PERSPECTIVE, back.ravel()[:8], Image.Resampling.BICUBIC
        )
        shown.save(folder / f"view{index:02d}.jpg", quality=95)


def encode(path, frames, *options):
    """Write frames (H, W, 3) as a video of 60 frames a second."""
    height, width = frames[0].shape[:2]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-loglevel",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
    ]
    command += ["-s", f"{width}x{height}", "-r", "60", "-i", "-", *options, str(path)]
    subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), check=True)
    return path


def ring_model(count=48, points=700, seed=0, fold=False):
    """A model of cameras on a ring around a box of points, each of which is seen from its own side only.

    With ``fold`` the second half of the cameras, and what they see, is laid over the first half.
    """
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * np.arange(count) / count
    poses = np.array([look_at(np.array([4 * np.cos(a), 4 * np.sin(a), 1.0]), (0, 0, 0)) for a in angles])
    xyz = rng.normal(size=(points, 3))
    xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)
    facing = np.einsum("nj,pj->np", poses[:, :, 3] / 4, xyz)
    image, point = np.nonzero(facing > 0.3)
    if fold:
        half_turn = np.diag([-1.0, -1.0, 1.0])
        is_second = np.arange(count) >= count // 2
        poses[is_second] = half_turn @ poses[is_second]
        # What the second half sees lies on top of the first half as points of its own.
        copies = np.unique(point[is_second[image]])
        new = np.full(points, -1)
        new[copies] = points + np.arange(len(copies))
        xyz = np.concatenate([xyz, xyz[copies] @ half_turn])
        point = np.where(is_second[image], new[point], point)
    return Model(
        names=tuple(f"{index:03d}.jpg" for index in range(count)),
        poses=poses,
        camera_of=np.zeros(count, np.int64),
        intrinsics={0: Intrinsics("OPENCV", 640, 480, 500.0, 500.0, 320.0, 240.0, (0.0,) * 4)},
        points=xyz,
        errors=np.full(len(xyz), 0.5),
        seen_image=image,
        seen_point=point,
    )


def places(model):
    """Photos of one input in the order of their names."""
    return {name: Place(0, index, index) for index, name in enumerate(model.names)}
