"""Random CLEVR-like scenes: recipes, and rendering them with the analytic ray caster."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.errors import UsageError
from smerf.objects.cameras import look_at, view_rays
from smerf.objects.data.raycast import BOX, CYLINDER, SPHERE, Bodies, Look, cast, shade
from smerf.objects.data.scenes import SceneSet

__all__ = [
    "COLOURS",
    "RECIPES",
    "Recipe",
    "generate_scenes",
    "place_bodies",
    "place_cameras",
    "render_bodies",
]

COLOURS = (
    (87, 87, 87), (173, 35, 35), (42, 75, 215), (29, 105, 20),
    (129, 74, 25), (129, 38, 192), (41, 208, 208), (255, 238, 51),
)  # fmt: skip
"""CLEVR's grey, red, blue, green, brown, purple, cyan and yellow."""
_CHUNK = 64


@dataclass(frozen=True)
class Recipe:
    """How scenes are made; lengths in world units, angles in degrees."""

    name: str = "clevr"
    """The recipe that the rest began as."""
    objects: tuple[int, int] = (3, 5)
    """Minimum and maximum number of objects."""
    shapes: tuple[int, ...] = (SPHERE, BOX, CYLINDER)
    """Shapes to choose from."""
    radii: tuple[float, ...] = (0.7, 0.5)
    """Sizes to choose from."""
    spread: float = 2.3
    """Objects stand within this distance of the centre along x and y."""
    gap: float = 0.25
    """Minimum distance between the circles around two objects."""
    colours: tuple[int, ...] = tuple(range(8))
    """Which of CLEVR's colours occur."""
    distinct: bool = False
    """Whether objects of a scene have different colours."""
    views: int = 5
    """Views of each scene."""
    size: tuple[int, int] = (64, 64)
    """Height and width of the images."""
    azimuth: float = 180.0
    """Cameras stand within this angle of the x axis."""
    distance: float = 7.5
    """Distance of the cameras from the origin, which they look at."""
    heights: tuple[float, float] = (2.5, 4.5)
    """Lowest and highest camera."""
    fov: float = 45.0
    """Horizontal field of view."""
    shadows: bool = True
    """Whether objects cast shadows."""
    highlight: float = 0.35
    """Strength of highlights."""
    jitter: float = 0.0
    """How much light direction and floor colour vary between scenes."""


RECIPES = {
    "clevr": Recipe(),
    "clevr-plain": Recipe(name="clevr-plain", shadows=False, highlight=0.0),
    "easy": Recipe(
        name="easy", objects=(2, 3), shapes=(SPHERE,), radii=(0.9,), spread=1.9, gap=0.2, colours=(1, 2, 3, 5, 6, 7),
        distinct=True, size=(24, 24), azimuth=40.0, shadows=False, highlight=0.0,
    ),
}  # fmt: skip
"""``easy`` is a few large spheres seen from one side: small enough to learn on two CPU cores."""


def generate_scenes(
    recipe: Recipe,
    count: int,
    seed: int = 0,
    device: str = "cpu",
    *,
    depth: bool = False,
    progress: Callable[..., None] | None = None,
) -> SceneSet:
    """Sample and render scenes. The same recipe, seed and count give the same scenes on every device, up to rounding.

    Args:
        recipe: What they look like.
        count: Number of scenes.
        seed: Random seed.
        device: Where rays are cast and the set lies.
        depth: Keep the distance along each ray; the sky's is infinite.
        progress: Called as ``progress(done, count)``.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for start in range(0, count, _CHUNK):
        number = min(_CHUNK, count - start)
        bodies = place_bodies(recipe, number, generator)
        poses, fov = place_cameras(recipe, number, generator)
        look = _look(recipe, number, generator)
        parts.append(render_bodies(*_on(device, bodies, look), poses.to(device), fov.to(device), recipe))
        if progress:
            progress(start + number, count)
    stacked = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("rgb", "seg", "world_from_cam", "fov_x", "depth")
        if name != "depth" or depth
    }
    source = {"kind": "generated", "seed": seed, "recipe": dataclasses.asdict(recipe)}
    return SceneSet(**stacked, source=source)


def place_bodies(recipe: Recipe, count: int, generator: torch.Generator) -> Bodies:
    """Sample objects that do not touch; on the CPU so that every device gets the same."""
    low, high = recipe.objects
    if not 0 < low <= high:
        raise UsageError(f"objects: expected 1 or more, minimum first, got {recipe.objects}")
    number = torch.randint(low, high + 1, (count, 1), generator=generator)
    used = torch.arange(high) < number
    kind = torch.tensor(recipe.shapes)[torch.randint(len(recipe.shapes), (count, high), generator=generator)]
    radius = torch.tensor(recipe.radii)[torch.randint(len(recipe.radii), (count, high), generator=generator)]
    position = torch.zeros(count, high, 2)
    open_places = used.clone()
    for attempt in range(1000):
        sampled = (2.0 * torch.rand(count, high, 2, generator=generator) - 1.0) * recipe.spread
        position = torch.where(open_places[..., None], sampled, position)
        apart = torch.cdist(position, position) - radius[:, :, None] - radius[:, None, :] - recipe.gap
        # The later of two objects that touch is placed again.
        clash = (apart < 0) & used[:, :, None] & used[:, None, :]
        open_places = clash.tril(-1).any(2)
        if attempt % 50 == 49:
            # A scene that has no room left is started again.
            open_places |= open_places.any(1, keepdim=True) & used
        if not open_places.any():
            break
    else:
        raise UsageError(
            f"recipe {recipe.name}: {high} objects do not fit within {recipe.spread} of the centre"
        )
    palette = torch.tensor(COLOURS)[list(recipe.colours)] / 255.0
    if recipe.distinct:
        if len(palette) < high:
            raise UsageError(f"recipe {recipe.name}: {high} objects need as many colours, got {len(palette)}")
        hue = torch.rand(count, len(palette), generator=generator).argsort(1)[:, :high]
    else:
        hue = torch.randint(len(palette), (count, high), generator=generator)
    scale = torch.tensor([[1.0, 1.0, 1.0], [0.85, 0.85, 1.0], [0.9, 0.9, 1.0]])[kind]
    return Bodies(
        kind=torch.where(used, kind, -1),
        centre=torch.cat([position, radius[..., None]], -1),
        half=scale * radius[..., None],
        yaw=2.0 * math.pi * torch.rand(count, high, generator=generator),
        colour=palette[hue],
    )


def place_cameras(recipe: Recipe, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample cameras that look at the origin: poses (S, V, 3, 4), horizontal fields of view (S, V)."""
    shape = (count, recipe.views)
    azimuth = math.radians(recipe.azimuth) * (2.0 * torch.rand(shape, generator=generator) - 1.0)
    low, high = recipe.heights
    height = low + (high - low) * torch.rand(shape, generator=generator)
    across = (recipe.distance**2 - height**2).sqrt()
    centre = torch.stack([across * azimuth.cos(), across * azimuth.sin(), height], -1)
    return look_at(centre), torch.full(shape, math.radians(recipe.fov))


def render_bodies(
    bodies: Bodies, look: Look, world_from_cam: Tensor, fov_x: Tensor, recipe: Recipe
) -> SceneSet:
    """Cast the rays of all cameras (S, V, 3, 4), (S, V) of all scenes."""
    origins, directions = (x.flatten(1, 3) for x in view_rays(world_from_cam, fov_x, recipe.size))
    hit = cast(bodies, origins, directions)
    colour = shade(bodies, look, origins, directions, hit)
    shape = (recipe.views, *recipe.size)
    depth = torch.where(hit.t < 1e8, hit.t, torch.inf)
    return SceneSet(
        (colour * 255.0).round().to(torch.uint8).unflatten(1, shape),
        hit.label.to(torch.uint8).unflatten(1, shape),
        world_from_cam, fov_x, depth.half().unflatten(1, shape),
    )  # fmt: skip


def _look(recipe: Recipe, count: int, generator: torch.Generator) -> Look:
    shift = recipe.jitter * (2.0 * torch.rand(count, 6, generator=generator) - 1.0)
    light = torch.nn.functional.normalize(torch.tensor([0.45, 0.35, 0.82]) + shift[:, :3], dim=-1)
    floor = (torch.tensor([0.62, 0.61, 0.60]) + 0.3 * shift[:, 3:]).clamp(0.0, 1.0)
    sky = torch.tensor([0.75, 0.77, 0.80]).expand(count, 3)
    return Look(light, floor, sky, recipe.shadows, recipe.highlight)


def _on(device: str, bodies: Bodies, look: Look) -> tuple[Bodies, Look]:
    moved = Bodies(*(getattr(bodies, field.name).to(device) for field in dataclasses.fields(bodies)))
    return moved, dataclasses.replace(
        look, light=look.light.to(device), floor=look.floor.to(device), sky=look.sky.to(device)
    )
