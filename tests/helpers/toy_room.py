"""A scene that distils in seconds: an analytic teacher, a ring of cameras, a small student."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from smerf.capture.types import Camera, Capture, Frame, Intrinsics, Similarity
from smerf.fields.rays import Spacing
from smerf.fields.rendering import render_weights
from smerf.kernels import Grids, HashSpec
from smerf.student.appearance import AppearanceLattice
from smerf.student.config import StudentConfig
from smerf.student.initialise import initialise_from_teacher
from smerf.student.model import Student, Submodel, grid_spec
from smerf.student.partition import Partition
from smerf.student.visibility import OccupiedCells
from smerf.teacher.model import TeacherAnswer

CENTRES = torch.tensor([[-0.2, 0.1, 0.0], [0.25, -0.15, 0.1], [0.05, 0.25, -0.2]])
RADII = torch.tensor([0.22, 0.16, 0.16])
COLOURS = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.7, 0.3], [0.2, 0.3, 0.9]])
WALL = 0.85
EXPOSURES = (0.01, 0.02, 0.04, 0.02, 0.02)
FACTORS = torch.tensor([0.5, 1.0, 1.6, 1.0, 1.0])[:, None].expand(5, 3)


class Room:
    """Coloured spheres with a little shine in a box-shaped room, as a teacher. All borders are soft."""

    samples = 64
    spacing = Spacing(0.05, 2.45, True)
    scene_scale = 1.0
    background = 0.5

    def _depth(self, points):
        """Return how deep points (..., 3) are in each sphere and in the wall (..., 4)."""
        spheres = RADII - (points[..., None, :] - CENTRES).norm(dim=-1)
        return torch.cat([spheres, points.abs().amax(-1, keepdim=True) - WALL], -1)

    def density(self, points):
        return 50.0 * torch.sigmoid(25.0 * self._depth(points)).amax(-1)

    def colour(self, points, directions):
        share = torch.softmax(15.0 * self._depth(points), -1)
        wall = 0.5 + 0.3 * torch.sin(2.0 * points)
        mixed = share[..., :3] @ COLOURS + share[..., 3:] * wall
        return (mixed + 0.05 * directions[..., 2:]).clamp(0.0, 1.0)

    def query(self, rays):
        edges = torch.linspace(0.05, 2.45, self.samples + 1).expand(len(rays), -1).contiguous()
        t = 0.5 * (edges[:, 1:] + edges[:, :-1])
        points = rays.origins[:, None] + t[..., None] * rays.directions[:, None]
        weights = render_weights(self.density(points), edges)
        colour = self.colour(points, rays.directions[:, None].expand_as(points))
        return TeacherAnswer(edges, weights, (weights[..., None] * colour).sum(1))


class ExposureTable:
    """What three exposures make of the room's colours."""

    def table(self):
        return torch.tensor(EXPOSURES) / 0.02, FACTORS


class ExposedRoom(Room):
    """The room, photographed with three exposures."""

    exposures, exposure = EXPOSURES, ExposureTable()


def look_at(eye):
    back = np.asarray(eye) / np.linalg.norm(eye)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back, np.asarray(eye)], 1)


def make_capture(folder: Path, count=8, size=24, background=None):
    lens = Intrinsics("PINHOLE", size, size, 0.7 * size, 0.7 * size, size / 2, size / 2)
    path = folder / "grey.png"
    Image.fromarray(np.full((size, size, 3), 128, np.uint8)).save(path)
    frames = []
    for i in range(count):
        angle = 2.0 * np.pi * i / count
        eye = np.array([0.65 * np.cos(angle), 0.65 * np.sin(angle), 0.15 + 0.1 * (i % 3)])
        camera = Camera(lens, look_at(eye))
        frames.append(Frame(f"{i:03d}", path, camera, "test" if i == count - 1 else "train"))
    source = Similarity(0.5, np.eye(3), np.array([0.0, 0.1, 0.2]))
    return Capture(folder, "toy", tuple(frames), source, 0.05, 2.45, True, background, np.zeros((0, 3)))


CONFIG = StudentConfig(
    # Small enough that a few dozen steps take a second.
    voxel_resolution=32,
    plane_resolution=128,
    rays=512,
    steps=60,
    pool=4096,
    warmup_steps=5,
    origin_jitter=0.02,
    occupied_rays=8192,
    grid_lr=0.02,
    hash=HashSpec(6, 4, 13, 8, 96),
    decoder=(32,),
)


def make_student(teacher=None, config=CONFIG, partition=None, noise=0.0, seed=0):
    """Return a student that was started from a teacher, or at random, with every cell occupied."""
    partition = partition or Partition(1, (0,), 1.0)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for k, cell in enumerate(partition.cells):
        spec = grid_spec(config, partition, k)
        fraction = 2.0 if teacher else 0.6
        inner = torch.zeros((spec.blocks,) * 3, dtype=torch.bool)
        chance = torch.rand((spec.blocks - 2,) * 3, generator=generator)
        inner[1:-1, 1:-1, 1:-1] = chance < fraction
        index = torch.where(inner, inner.view(-1).long().cumsum(0).view(inner.shape) - 1, -1)
        grids = Grids.allocate(spec, index)
        if teacher:
            initialise_from_teacher(grids, teacher, torch.tensor([[0.6, 0.0, 0.1]]), 0.4, generator)
            grids.read_bytes()
        for records in (grids.voxel_records, grids.plane_records):
            records[:, 8:16] += noise * torch.randn(len(records), 8, generator=generator)
        grids.requantise()
        occupied = OccupiedCells(spec, np.packbits(np.ones(OccupiedCells(spec).size ** 3, bool)))
        parts.append((cell, grids, occupied))
    # The same networks everywhere, whatever the number of submodels.
    network = generator.get_state()
    submodels = []
    for cell, grids, occupied in parts:
        appearance = AppearanceLattice(config.lattice, config.width, generator.set_state(network))
        submodels.append(Submodel(cell, grids, appearance, occupied))
    grey = (0.5, 0.5, 0.5)
    return Student(config, partition, grey, 0.05, 0.005, submodels=submodels, teacher=teacher)
