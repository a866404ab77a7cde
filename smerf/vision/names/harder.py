"""Flats with partitions, doors and windows, and streets with house fronts and masonry: full of what has no word."""

from __future__ import annotations

import numpy as np

from smerf.capture.synth.describe import Light, Sky
from smerf.capture.synth.rigs import look_at
from smerf.vision.names.draw import Maker, Thing
from smerf.vision.names.scenes import DRAW, Layout, Shots, cool, fill_middle, fill_wall, warm

__all__ = ["draw_hard_scene"]


def draw_hard_scene(seed: int, views: int) -> Shots:
    """Return a random scene: two of three are flats, the others streets.

    Args:
        seed: Decides everything.
        views: Number of cameras.
    """
    rng = np.random.default_rng([seed, 4451])
    scene = Layout(rng)
    return _flat(scene, views) if rng.random() < 0.67 else _street(scene, views)


def _opening(m: Maker, length: float, is_door: bool) -> list[list[float]]:
    """Return a door or window in a wall, [x0, x1, z0, z1]."""
    wide = m.of(0.75, 1.0) if is_door else m.of(0.6, 1.8)
    if length < wide + 0.8:
        return []
    start = m.of(0.4, length - wide - 0.4)
    low, top = (0.0, m.of(1.95, 2.15)) if is_door else (m.of(0.5, 1.0), m.of(1.8, 2.2))
    return [[start, start + wide, low, top]]


def _wall(
    scene: Layout,
    start: tuple[float, float],
    turn: float,
    length: float,
    high: float,
    paint: str,
    is_door: bool,
) -> None:
    """Add a wall from a corner in a direction, with an opening, its frame, and perhaps an open door leaf."""
    m = scene.maker
    holes = _opening(m, length, is_door)
    scene.background(
        "wall",
        paint,
        (*start, 0.0),
        turn,
        length=length,
        height=high,
        thickness=0.12,
        cell=0.4,
        openings=holes,
    )
    frame = m.paint(m.pick("pale", "wood", "any"))
    angle = np.radians(turn)

    def at(along: float, z: float) -> tuple[float, float, float]:
        return (start[0] + along * float(np.cos(angle)), start[1] + along * float(np.sin(angle)), z)

    for x0, x1, low, top in holes:
        for x in (x0, x1):
            scene.background("box", frame, at(x, low), turn, size=[0.06, 0.16, top - low], cell=0.5)
        for z in (top - 0.03,) if is_door else (low, top - 0.03):
            scene.background("box", frame, at((x0 + x1) / 2, z), turn, size=[x1 - x0, 0.18, 0.05], cell=0.5)
        if is_door and m.chance(0.6):
            lean = turn + m.of(60, 110)
            half = (x1 - x0) / 2
            hinge = at(x0, 0.02)
            place = (
                hinge[0] + half * float(np.cos(np.radians(lean))),
                hinge[1] + half * float(np.sin(np.radians(lean))),
                0.02,
            )
            scene.background("box", frame, place, lean, size=[2 * half, 0.04, top - 0.05], cell=0.4)
        elif not is_door:
            scene.background(
                "box", frame, at((x0 + x1) / 2, low), turn, size=[0.05, 0.05, top - low], cell=0.4
            )


def _flat(scene: Layout, views: int) -> Shots:
    m = scene.maker
    rooms, deep, high = int(m.rng.integers(2, 4)), m.of(3.0, 5.0), m.of(2.4, 2.8)
    widths = [m.of(2.0, 4.2) for _ in range(rooms)]
    total = sum(widths)
    scene.background("box", m.paint("pale"), (total / 2, 0.0, high), size=[total, deep, 0.05], cell=0.5)
    lights, x, centres = [], 0.0, []
    for number, wide in enumerate(widths):
        middle = x + wide / 2
        paint = m.paint(
            m.pick("pale", "pale", "any", "stone"), pattern=m.pick("plain", "noise", "noise", "stripes")
        )
        floor = m.paint(m.pick("wood", "stone", "any"), pattern=m.pick("planks", "tiles", "noise"))
        scene.background("plane", floor, (middle, 0.0, 0.0), size=[wide, deep], cell=0.3)
        _wall(scene, (x, deep / 2), 0.0, wide, high, paint, is_door=False)
        _wall(scene, (x, -deep / 2), 0.0, wide, high, paint, is_door=m.chance(0.4))
        _wall(scene, (x, -deep / 2), 90.0, deep, high, paint, is_door=number > 0)
        first = len(scene.objects)
        if wide > 2.4:
            for side in range(4):
                if m.chance(0.7):
                    fill_wall(scene, side, wide - 0.15, deep - 0.15, high)
            if m.chance(0.6) and wide > 3.0:
                fill_middle(scene, min(wide, deep))
        elif m.chance(0.8):
            scene.put(DRAW["rug"](m), (0.0, 0.0, 0.0), 90.0)
        if m.chance(0.4):
            _kitchen(scene, wide, deep)
        scene.move(first, (middle, 0.0))
        lights.append(
            Light("rect", warm(m), m.of(2.0, 5.0), (middle, 0.0, high - 0.02), (middle, 0.0, 0.0), (0.8, 0.8))
        )
        centres.append(middle)
        x += wide
    _wall(scene, (total, -deep / 2), 90.0, deep, high, m.paint("pale"), is_door=False)
    day = m.of(0.4, 1.2)
    sky = Sky((0.3 * day, 0.5 * day, day), (0.8 * day,) * 3, (0.2, 0.3, 0.15), 1.0, m.of(0.0, 1.0))
    poses, fields = [], []
    for _ in range(views):
        number = int(m.rng.integers(rooms))
        eye = np.array(
            [centres[number] + m.of(-0.3, 0.3) * widths[number], m.of(-0.35, 0.35) * deep, m.of(1.2, 1.7)]
        )
        angle = m.of(0, 2 * np.pi)
        poses.append(look_at(eye, eye + [2 * np.cos(angle), 2 * np.sin(angle), m.of(-1.0, 0.2)]))
        fields.append(m.of(45.0, 72.0))
    return Shots(scene.spec(tuple(lights), sky, 1.0), np.stack(poses), tuple(fields))


def _kitchen(scene: Layout, wide: float, deep: float) -> None:
    """A row of cabinets of one height, with others above, along a wall."""
    m = scene.maker
    paint, top, high = (
        m.paint(m.pick("pale", "wood", "any")),
        m.paint(m.pick("stone", "dark", "wood")),
        m.of(0.8, 0.95),
    )
    long, back = wide * m.of(0.4, 0.8), deep / 2 - 0.4
    count = max(2, round(long / 0.6))
    for k in range(count):
        x = (k + 0.5 - count / 2) * long / count
        m.box((long / count - 0.01, 0.58, high), paint, (x, 0.0, 0.0))
        if m.chance(0.7):
            m.box((long / count - 0.01, 0.34, 0.6), paint, (x, 0.12, high + 0.55))
    m.box((long, 0.62, 0.04), top, (0.0, 0.0, high))
    scene.put(m.take("other", (long, 0.6, high), (long * 0.4, 0.2, high + 0.04)), (0.0, back, 0.0), load=0.7)


def _masonry(m: Maker) -> Thing:
    """Steps, a pillar, a round wall, or a rock on a plinth."""
    paint, wide = m.paint("stone", pattern=m.pick("brick", "noise", "plain", "tiles")), m.of(0.5, 2.5)
    kind, high = m.pick("steps", "pillar", "ring", "plinth"), m.of(0.3, 1.2)
    if kind == "steps":
        for k in range(4):
            m.box((wide, 0.3 * (4 - k), 0.16), paint, (0.0, 0.15 * k, 0.16 * k))
    elif kind == "pillar":
        m.rod(m.of(0.12, 0.3), 3.0 * high, paint)
        m.box((0.7, 0.7, 0.15), paint, (0.0, 0.0, 3.0 * high))
    elif kind == "ring":
        outer, inner = wide / 2, wide / 2 * m.of(0.6, 0.9)
        m.turned([(inner, 0.0), (outer, 0.0), (outer, high), (inner, high), (inner, 0.0)], paint)
    else:
        m.box((0.4 * wide, 0.4 * wide, high), paint)
        m.add(
            "blob",
            paint,
            (0.0, 0.0, high + 0.2 * wide),
            radius=0.2 * wide,
            cell=0.1,
            roughness=m.of(0.2, 0.7),
        )
    return m.take("other", (wide, wide, high))


def _front(m: Maker) -> Thing:
    """The front of a house, with doors and windows."""
    paint = m.paint(m.pick("stone", "any"), pattern=m.pick("brick", "noise", "plain", "tiles"))
    long, high, holes, x = m.of(3.0, 9.0), m.of(2.6, 6.0), [], 0.4
    while x < long - 1.4:
        wide = m.of(0.6, 1.2)
        holes.append(
            [x, x + wide, 0.0, 2.1] if m.chance(0.3) else [x, x + wide, m.of(0.7, 1.0), m.of(1.7, 2.2)]
        )
        x += wide + m.of(0.4, 1.2)
    at = (-long / 2, 0.0, 0.0)
    m.add("wall", paint, at, length=long, height=high, thickness=0.3, cell=0.5, openings=holes)
    m.box((long, 0.1, high), m.paint(m.pick("dark", "wood", "any")), (0.0, 0.3, 0.0))
    if m.chance(0.6):
        m.add("prism", m.paint("any"), (0.0, 1.5, high), size=[long * 1.1, 4.0, m.of(0.8, 2.0)], cell=0.6)
    return m.take("other", (long, 1.0, high))


def _street(scene: Layout, views: int) -> Shots:
    m = scene.maker
    ground = m.paint(m.pick("stone", "stone", "any"), pattern=m.pick("cobbles", "tiles", "noise"))
    scene.background("disc", ground, radius=60.0, cell=0.8, growth=0.25)
    reach = m.of(4.5, 7.5)
    for side in range(int(m.rng.integers(2, 5))):
        angle = np.radians(90.0 * side + m.of(-8, 8))
        thing = _front(m) if m.chance(0.6) else DRAW["house"](m)
        far = reach + 1.0 + thing.size[1] / 2
        scene.put(thing, (far * np.cos(angle), far * np.sin(angle), 0.0), float(np.degrees(angle)) - 90.0)
    taken: list[tuple[float, float]] = []
    for _ in range(int(m.rng.integers(8, 20))):
        name = m.pick(
            "tree", "tree", "plant", "plant", "plant", "bench", "bench", "street_lamp", "car", "masonry"
        )
        thing = _masonry(m) if name == "masonry" else DRAW[name](m)
        angle, far = m.of(0, 2 * np.pi), m.of(0.0, 1.0) * reach
        x, y = far * np.cos(angle), far * np.sin(angle)
        if any(np.hypot(x - a, y - b) < 1.1 for a, b in taken):
            continue
        taken.append((x, y))
        scene.put(thing, (x, y, 0.0), float(np.degrees(angle)) - 90.0)
    sun = Light("sun", warm(m), m.of(1.0, 3.0), direction=(m.of(-1, 1), m.of(-1, 1), m.of(0.3, 1.2)))
    tint = cool(m)
    sky = Sky((0.2, 0.4, 0.8), tint, (0.2, 0.2, 0.2), m.of(0.5, 1.0), m.of(0.0, 1.0))
    poses, fields = [], []
    for _ in range(views):
        angle, far = m.of(0, 2 * np.pi), m.of(0.5, 0.95) * reach
        eye = np.array([far * np.cos(angle), far * np.sin(angle), m.of(1.2, 3.5)])
        poses.append(
            look_at(eye, np.array([m.of(-0.3, 0.3) * reach, m.of(-0.3, 0.3) * reach, m.of(0.5, 1.6)]))
        )
        fields.append(m.of(45.0, 66.0))
    return Shots(scene.spec((sun,), sky, 1.0), np.stack(poses), tuple(fields))
