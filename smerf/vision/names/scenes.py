"""Rooms, laid tables and yards of random things, with cameras that a person could have held."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from smerf.capture.synth.describe import Light, ObjectSpec, Rig, SceneSpec, Sky
from smerf.capture.synth.rigs import look_at
from smerf.vision.names.draw import Maker, Thing, Triple
from smerf.vision.names.furniture import FURNITURE
from smerf.vision.names.small import OTHERS, OUTSIDE, SMALL

__all__ = ["DRAW", "Layout", "Shots", "cool", "draw_scene", "fill_middle", "fill_wall", "warm"]

_SMALL = tuple(SMALL) + ("book", "fruit", "cup", "bowl")
_WALL = (
    "bed", "bed", "sofa", "sofa", "shelf", "shelf", "wardrobe", "wardrobe", "table", "table", "chair", "tv", "bench",
    "plant", "lamp", "cabinet", "cabinet",
)  # fmt: skip
DRAW = FURNITURE | SMALL | OUTSIDE | OTHERS
"""What can be drawn, by name."""


@dataclass(frozen=True)
class Shots:
    """A scene to render: the description, camera poses (V, 4, 4) OpenGL, and each one's vertical field of view."""

    spec: SceneSpec
    poses: np.ndarray
    fields: tuple[float, ...]


class Layout:
    """Collects what stands where, and keeps things apart by the circles that they fill."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.maker = Maker(rng)
        self.objects: list[ObjectSpec] = []
        self.centres: list[tuple[Triple, Triple]] = []
        """Middle and size of each thing."""

    def put(self, thing: Thing, at: Triple, turn: float = 0.0, *, load: float = 0.0) -> None:
        """Stand a thing somewhere, and small ones on it in a share ``load`` of all cases."""
        self.objects.append(thing.placed(at, turn))
        self.centres.append(((at[0], at[1], at[2] + thing.size[2] / 2), thing.size))
        m = self.maker
        if thing.top is None or not m.chance(load):
            return
        x, y, height = thing.top
        angle, taken = np.radians(turn), list[tuple[float, float, float]]()
        for _ in range(int(m.rng.integers(1, 7))):
            small = m.pick(*_SMALL, "tv", "table_lamp", "plant") if m.chance(0.3) else m.pick(*_SMALL)
            item = DRAW[small](m)
            reach = max(item.size[:2]) / 2
            if reach > 1.5 * min(x, y):
                continue
            u, v = m.of(-x, x), m.of(-y, y)
            if any(np.hypot(u - a, v - b) < reach + r for a, b, r in taken):
                continue
            taken.append((u, v, reach))
            place = (
                at[0] + u * np.cos(angle) - v * np.sin(angle),
                at[1] + u * np.sin(angle) + v * np.cos(angle),
                at[2] + height,
            )
            self.put(item, place, turn + m.of(-30, 30) if small == "tv" else m.of(0, 360))

    def background(
        self, kind: str, paint: str, at: Triple = (0.0, 0.0, 0.0), turn: float = 0.0, **shape: Any
    ) -> None:
        """Add a surface without a word, turned about z by degrees."""
        self.maker.add(kind, paint, at, (0.0, 0.0, turn), **shape)
        self.objects.append(replace(self.maker.take("", (0, 0, 0)).placed((0, 0, 0)), instance=False))

    def move(self, first: int, shift: tuple[float, float]) -> None:
        """Shift the things from number ``first`` on."""
        for index in range(first, len(self.objects)):
            x, y, z = self.objects[index].at
            self.objects[index] = replace(self.objects[index], at=(x + shift[0], y + shift[1], z))

    def spec(self, lights: tuple[Light, ...], sky: Sky, exposure: float) -> SceneSpec:
        """Return the description."""
        return SceneSpec(
            "drawn", "drawn", 0.05, 100.0, True, self.maker.materials, tuple(self.objects), Rig("orbit"), lights,
            sky, exposure=exposure, bounces=1,
        )  # fmt: skip


def draw_scene(seed: int, views: int) -> Shots:
    """Return a random scene: half of them rooms, the rest laid tables and yards.

    Args:
        seed: Decides everything.
        views: Number of cameras.
    """
    rng = np.random.default_rng([seed, 8721])
    scene = Layout(rng)
    draw = _room if rng.random() < 0.47 else _laid_table if rng.random() < 0.55 else _yard
    return draw(scene, views)


def _side_place(side: int, along: float, back: float, wide: float, deep: float) -> tuple[Triple, float]:
    """Return where something stands with its back at a wall, and its turn: walls +y, -x, -y, +x."""
    x, y = [
        (along, deep / 2 - back),
        (-wide / 2 + back, along),
        (-along, -deep / 2 + back),
        (wide / 2 - back, -along),
    ][side]
    return (x, y, 0.0), 90.0 * side


def _room(scene: Layout, views: int) -> Shots:
    m = scene.maker
    wide, deep, high = m.of(3.0, 6.5), m.of(3.0, 6.5), m.of(2.4, 3.0)
    wall = m.paint(m.pick("pale", "pale", "any"), pattern=m.pick("plain", "noise", "stripes"))
    floor = m.paint(
        m.pick("wood", "wood", "stone", "any"), pattern=m.pick("planks", "planks", "tiles", "noise", "plain")
    )
    scene.background("plane", floor, size=[wide, deep], cell=0.3)
    scene.background("box", m.paint("pale"), (0.0, 0.0, high), size=[wide, deep, 0.05], cell=0.5)
    for x, y, size in (
        (0, deep / 2, (wide, 0.1)),
        (0, -deep / 2, (wide, 0.1)),
        (wide / 2, 0, (0.1, deep)),
        (-wide / 2, 0, (0.1, deep)),
    ):
        paint = wall if m.chance(0.8) else m.paint("any")
        shift = (np.sign(x) * 0.05, np.sign(y) * 0.05)
        scene.background("box", paint, (x + shift[0], y + shift[1], 0.0), size=[*size, high], cell=0.4)
    for side in range(4):
        fill_wall(scene, side, wide, deep, high)
    if m.chance(0.75):
        fill_middle(scene, min(wide, deep))
    for _ in range(int(m.rng.integers(0, 3))):
        thing = m.pick("ball", "plant", "chair", "lamp", "other", "book")
        scene.put(DRAW[thing](m), (m.of(-0.3, 0.3) * wide, m.of(-0.3, 0.3) * deep, 0.0), m.of(0, 360))
    lights = [
        Light(
            "rect",
            warm(m),
            m.of(2.0, 5.0),
            (m.of(-1, 1), m.of(-1, 1), high - 0.02),
            (0.0, 0.0, 0.0),
            (m.of(0.5, 1.5), m.of(0.5, 1.5)),
        )
    ]
    if m.chance(0.6):
        side = m.pick(-1, 1)
        at = (side * (wide / 2 - 0.02), m.of(-1, 1), m.of(1.2, 1.8))
        lights.append(Light("rect", cool(m), m.of(2.0, 6.0), at, (0.0, at[1], 1.0), (1.0, 1.2)))
    spec = scene.spec(tuple(lights), Sky(), m.of(0.8, 1.6))
    poses, fields = [], []
    for k in range(views):
        eye = np.array([m.of(-0.36, 0.36) * wide, m.of(-0.36, 0.36) * deep, m.of(1.1, 1.75)])
        if k % 3 < 2:
            target, _ = scene.centres[int(m.rng.integers(len(scene.centres)))]
        else:
            angle = m.of(0, 2 * np.pi)
            target = (eye[0] + 2 * np.cos(angle), eye[1] + 2 * np.sin(angle), eye[2] + m.of(-1.0, 0.2))
        poses.append(look_at(eye, np.asarray(target) + 0.05))
        fields.append(m.of(42.0, 75.0))
    return Shots(spec, np.stack(poses), tuple(fields))


def fill_wall(scene: Layout, side: int, wide: float, deep: float, high: float) -> None:
    """Stand furniture along a wall of a room around the origin, pictures and curtains on it."""
    m = scene.maker
    length = wide if side % 2 == 0 else deep
    along = -length / 2 + m.of(0.5, 0.9)
    while along < length / 2 - 0.5:
        name = m.pick(*_WALL)
        thing = DRAW["table" if name == "tv" else name](m)
        room = thing.size[0]
        if along + room > length / 2 - 0.4:
            along += 0.5
            continue
        at, turn = _side_place(side, along + room / 2, thing.size[1] / 2 + m.of(0.02, 0.15), wide, deep)
        scene.put(thing, at, turn, load=0.0 if name == "tv" else 0.6)
        if name == "tv":
            screen = DRAW["tv"](m)
            scene.put(screen, (at[0], at[1], thing.size[2]), turn)
        if thing.size[2] < 1.3 and m.chance(0.5):
            image = DRAW["picture"](m)
            place, turn = _side_place(side, along + room / 2, 0.02, wide, deep)
            scene.put(image, (place[0], place[1], min(m.of(1.35, 1.6), high - image.size[2] - 0.1)), turn)
        along += room + m.of(0.1, 1.0)
        if m.chance(0.25) and along + 0.8 < length / 2:
            hanging = DRAW["curtain"](m)
            place, turn = _side_place(side, along + hanging.size[0] / 2, 0.07, wide, deep)
            scene.put(hanging, (place[0], place[1], max(0.02, high - hanging.size[2] - m.of(0.1, 0.4))), turn)
            along += hanging.size[0] + 0.1


def fill_middle(scene: Layout, space: float) -> None:
    """A table with chairs or sofas around it, perhaps on a rug."""
    m = scene.maker
    if m.chance(0.6):
        scene.put(DRAW["rug"](m), (m.of(-0.3, 0.3), m.of(-0.3, 0.3), 0.0), m.pick(0.0, 90.0))
    thing = DRAW["table"](m)
    turn = m.pick(0.0, 90.0)
    scene.put(thing, (0.0, 0.0, 0.012), turn, load=0.8)
    if max(thing.size[:2]) > space - 2.4 or thing.size[2] < 0.6:
        return
    state = m.rng.bit_generator.state
    for side in range(4):
        if m.chance(0.6):
            # The chairs of a table are alike.
            after = m.rng.bit_generator.state
            m.rng.bit_generator.state = state
            seat = DRAW["chair"](m)
            m.rng.bit_generator.state = after
            reach = thing.size[side % 2 == 0] / 2 + seat.size[1] / 2 + m.of(-0.2, 0.25)
            angle = np.radians(turn + 90.0 * side)
            scene.put(
                seat, (-reach * np.sin(angle), reach * np.cos(angle), 0.0), turn + 90.0 * side + m.of(-20, 20)
            )


def _laid_table(scene: Layout, views: int) -> Shots:
    m = scene.maker
    side = m.of(1.5, 4.0)
    floor = m.paint("any", pattern=m.pick("planks", "tiles", "noise", "plain"))
    scene.background("plane", floor, size=[2 * side, 2 * side], cell=0.4)
    walls = m.paint("any", pattern=m.pick("plain", "stripes", "noise", "planks", "brick"))
    for across, along in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        size = (2 * side, 0.1) if across == 0 else (0.1, 2 * side)
        scene.background(
            "box",
            walls if m.chance(0.7) else m.paint("any"),
            (across * side, along * side, 0.0),
            size=[*size, 2.5],
            cell=0.4,
        )
    is_low = m.chance(0.15)
    if is_low:
        top, half = 0.0, (0.6, 0.6)
    else:
        thing = DRAW["table"](m)
        while min(thing.size[:2]) < 0.55 or thing.top is None:
            thing = DRAW["table"](m)
        top, half = thing.size[2], thing.top[:2]
        scene.put(thing, (0.0, 0.0, 0.0))
        if m.chance(0.4):
            cloth = (thing.size[0] * m.of(0.4, 0.8), thing.size[1] * m.of(0.4, 0.8), 0.004)
            scene.background("box", m.paint("any"), (0.0, 0.0, top), size=list(cloth), cell=0.1)
    taken: list[tuple[float, float, float]] = []
    for _ in range(int(m.rng.integers(6, 26))):
        name = m.pick("plant", "table_lamp") if m.chance(0.06) else m.pick(*_SMALL)
        item = DRAW[name](m)
        reach = max(item.size[:2]) / 2
        x, y = m.of(-1, 1) * min(half[0], 0.55), m.of(-1, 1) * min(half[1], 0.55)
        if any(np.hypot(x - a, y - b) < reach + r for a, b, r in taken):
            continue
        taken.append((x, y, reach))
        _set_out(scene, item, (x, y, top + 0.004))
    at = (m.of(-1, 1), m.of(-1, 1), top + m.of(0.9, 1.6))
    lights = [Light("rect", warm(m), m.of(3.0, 9.0), at, (0.0, 0.0, top), (m.of(0.4, 1.0), m.of(0.4, 1.0)))]
    if m.chance(0.6):
        window = (side * 0.95, m.of(-0.5, 0.5), 1.5)
        lights.append(Light("rect", cool(m), m.of(2.0, 6.0), window, (0.0, 0.0, top), (1.0, 1.0)))
    grey = m.of(0.02, 0.25)
    spec = scene.spec(tuple(lights), Sky((grey,) * 3, (grey,) * 3, (grey / 2,) * 3), m.of(0.9, 1.7))
    poses, fields = [], []
    for _ in range(views):
        field = m.of(35.0, 60.0)
        far, angle, up = m.of(0.5, 1.4) * 45 / field, m.of(0, 2 * np.pi), np.radians(m.of(8.0, 62.0))
        centre = np.array([m.of(-0.2, 0.2), m.of(-0.2, 0.2), top + m.of(0.0, 0.12)])
        eye = centre + min(far, side * 0.9) * np.array(
            [np.cos(angle) * np.cos(up), np.sin(angle) * np.cos(up), np.sin(up)]
        )
        poses.append(look_at(eye, centre))
        fields.append(field)
    return Shots(spec, np.stack(poses), tuple(fields))


def _set_out(scene: Layout, item: Thing, at: Triple) -> None:
    """Put a small thing down; books are stacked, bowls filled."""
    m = scene.maker
    scene.put(item, at, m.of(0, 360))
    if item.word == "book" and item.size[2] < 0.1 and m.chance(0.5):
        z = at[2] + item.size[2]
        for _ in range(int(m.rng.integers(1, 4))):
            more = DRAW["book"](m)
            if more.size[2] > 0.1:
                break
            scene.put(more, (at[0] + m.of(-0.02, 0.02), at[1] + m.of(-0.02, 0.02), z), m.of(0, 360))
            z += more.size[2]
        if m.chance(0.3):
            scene.put(DRAW[m.pick("fruit", "cup", "ball", "other")](m), (at[0], at[1], z), m.of(0, 360))
    elif item.word == "bowl" and m.chance(0.55):
        spread = item.size[0] * 0.22
        for k in range(int(m.rng.integers(1, 5))):
            angle = 1.7 * k
            place = (at[0] + spread * np.cos(angle), at[1] + spread * np.sin(angle), at[2] + 0.02 + 0.01 * k)
            scene.put(DRAW[m.pick("fruit", "fruit", "fruit", "ball")](m), place)


def _yard(scene: Layout, views: int) -> Shots:
    m = scene.maker
    ground = m.paint(
        m.pick("leaf", "stone", "soil", "any"), pattern=m.pick("noise", "cobbles", "tiles", "plain")
    )
    scene.background("disc", ground, radius=40.0, cell=0.8, growth=0.25)
    reach, taken = m.of(3.5, 7.0), list[tuple[float, float, float]]()
    names = (
        "tree", "tree", "tree", "plant", "plant", "bench", "bench", "street_lamp", "car", "car", "house", "house",
        "house", "table", "chair", "other", "ball",
    )  # fmt: skip
    for _ in range(int(m.rng.integers(20, 45))):
        name = m.pick(*names)
        thing = DRAW[name](m)
        radius = 0.5 * float(np.hypot(*thing.size[:2]))
        far = m.of(0.8, 1.6) * reach + radius if name in ("house", "tree") else m.of(0.0, 1.0) * reach
        angle = m.of(0, 2 * np.pi)
        x, y = far * np.cos(angle), far * np.sin(angle)
        if any(np.hypot(x - a, y - b) < 0.8 * (radius + r) for a, b, r in taken):
            continue
        taken.append((x, y, radius))
        # Backs are turned outwards.
        scene.put(thing, (x, y, 0.0), np.degrees(angle) - 90.0 + m.pick(0.0, 0.0, m.of(-90, 90)), load=0.4)
    sun = Light("sun", warm(m), m.of(1.0, 3.0), direction=(m.of(-1, 1), m.of(-1, 1), m.of(0.3, 1.2)))
    blue = m.of(0.3, 1.0)
    sky = Sky(
        (0.1 * blue, 0.3 * blue, 0.8 * blue), (0.6, 0.7, 0.8), (0.2, 0.2, 0.2), m.of(0.5, 1.0), m.of(0.0, 1.0)
    )
    spec = scene.spec((sun,), sky, m.of(0.6, 1.2))
    poses: list[np.ndarray] = []
    fields: list[float] = []
    while len(poses) < views:
        angle, far, up = m.of(0, 2 * np.pi), m.of(0.2, 1.0) * reach, m.of(1.0, 3.5)
        eye = np.array([far * np.cos(angle), far * np.sin(angle), up])
        if any(np.hypot(eye[0] - a, eye[1] - b) < r + 0.3 for a, b, r in taken) and m.chance(0.97):
            continue
        target = np.array([m.of(-0.4, 0.4) * reach, m.of(-0.4, 0.4) * reach, m.of(0.3, 1.8)])
        if np.linalg.norm((target - eye)[:2]) > 1.0:
            poses.append(look_at(eye, target))
            fields.append(m.of(42.0, 70.0))
    return Shots(spec, np.stack(poses), tuple(fields))


def warm(m: Maker) -> Triple:
    """Return the colour of a lamp's light."""
    return (1.0, m.of(0.8, 1.0), m.of(0.6, 1.0))


def cool(m: Maker) -> Triple:
    """Return the colour of a window's light."""
    return (m.of(0.65, 1.0), m.of(0.8, 1.0), 1.0)
