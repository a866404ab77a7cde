"""Small things, plants, cars, and what has no word in the vocabulary; every function draws one."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np

from smerf.capture.synth.describe import Material, Texture
from smerf.vision.names.draw import Maker, Thing

__all__ = ["OTHERS", "OUTSIDE", "SMALL"]


def cup(m: Maker) -> Thing:
    """A cup or mug, most with a handle, some on a saucer."""
    radius, high = m.of(0.03, 0.05), m.of(0.05, 0.11)
    foot, glaze, wall = m.of(0.6, 1.0) * radius, m.paint(m.pick("pale", "any", "vivid")), 0.004
    low = 0.012 if m.chance(0.3) else 0.0
    if low:
        plate = radius * m.of(1.6, 2.1)
        m.turned([(0.0, 0.0), (plate * 0.6, 0.0), (plate, 0.012), (plate * 0.6, 0.006), (0.0, 0.005)], glaze)
    outer = [(0.0, 0.0), (foot, 0.0), (radius * m.of(0.9, 1.05), high * 0.5), (radius, high)]
    m.turned([*outer, (radius - wall, high), (foot - wall, 0.01), (0.0, 0.01)], glaze, (0.0, 0.0, low))
    if m.chance(0.6):
        m.rod(radius * 0.88, 0.003, m.paint(m.pick("soil", "wood")), (0.0, 0.0, low + high * m.of(0.6, 0.85)))
    if m.chance(0.85):
        reach, up = radius + m.of(0.018, 0.035), high * m.of(0.55, 0.8)
        points = [
            [radius * 0.9, 0, high * 0.2],
            [reach, 0, high * 0.3],
            [reach, 0, up],
            [radius * 0.95, 0, up + 0.01],
        ]
        m.add("tube", glaze, (0.0, 0.0, low), points=points, radius=m.of(0.004, 0.007), cell=0.02, sides=8)
    return m.take("cup", (2.4 * radius, 2 * radius, high + low))


def bowl(m: Maker) -> Thing:
    """A wide open bowl."""
    radius = m.of(0.07, 0.17)
    high, foot, wall = radius * m.of(0.35, 0.75), radius * m.of(0.35, 0.6), 0.006
    profile = [
        (0.0, 0.0),
        (foot, 0.0),
        (radius * m.of(0.75, 0.95), high * 0.5),
        (radius, high),
        (radius - wall, high),
    ]
    inner = [(radius * 0.8 - wall, high * 0.5), (foot * 0.7, 0.02), (0.0, 0.015)]
    m.turned([*profile, *inner], m.paint(m.pick("pale", "any", "vivid", "wood", "stone")))
    return m.take("bowl", (2 * radius, 2 * radius, high))


def vase(m: Maker) -> Thing:
    """A vase: belly, neck and lip in many proportions; some hold stalks."""
    high = m.of(0.14, 0.45)
    belly, neck, lip = high * m.of(0.2, 0.42), high * m.of(0.06, 0.18), high * m.of(0.08, 0.22)
    at = m.of(0.25, 0.55)
    profile = [
        (0.0, 0.0), (belly * m.of(0.4, 0.8), 0.0), (belly, high * at), (neck, high * m.of(0.75, 0.88)), (lip, high),
        (lip * 0.85, high), (neck * 0.8, high * 0.8), (0.0, high * 0.78),
    ]  # fmt: skip
    m.turned(profile, m.paint(m.pick("any", "vivid", "pale", "stone")))
    if m.chance(0.35):
        _stalks(m, neck, high * 0.85, high * m.of(0.5, 1.0))
    return m.take("vase", (2 * belly, 2 * belly, high))


def _stalks(m: Maker, radius: float, z: float, tall: float) -> None:
    green, bloom = m.paint("leaf"), m.paint(m.pick("vivid", "leaf"))
    for _ in range(int(m.rng.integers(3, 8))):
        angle, lean = m.of(0, 2 * np.pi), m.of(0.1, 0.6) * tall
        x, y = float(np.cos(angle)), float(np.sin(angle))
        tip = [x * lean, y * lean, z + tall * m.of(0.7, 1.0)]
        m.add("tube", green, points=[[0, 0, z], [x * lean * 0.3, y * lean * 0.3, z + tall / 2], tip],
              radius=0.004 + 0.01 * radius, cell=tall / 3, sides=5)  # fmt: skip
        m.add(
            "blob",
            bloom,
            (tip[0], tip[1], tip[2]),
            radius=m.of(0.06, 0.16) * tall,
            cell=tall / 6,
            roughness=0.4,
        )


def bottle(m: Maker) -> Thing:
    """A bottle with neck, cap and perhaps a label."""
    high, radius = m.of(0.18, 0.34), m.of(0.028, 0.05)
    neck, shoulder = radius * m.of(0.28, 0.5), high * m.of(0.5, 0.7)
    end = min(shoulder + high * m.of(0.1, 0.22), high * 0.85)
    glass = m.paint(m.pick("any", "leaf", "dark", "vivid", "pale"))
    m.turned(
        [
            (0.0, 0.0),
            (radius, 0.0),
            (radius, 0.0),
            (radius, shoulder),
            (radius, shoulder),
            (neck, end),
            (neck, high),
            (0.0, high),
        ],
        glass,
    )
    m.rod(neck * 1.15, high * 0.08, m.paint("any"), (0.0, 0.0, high * 0.95))
    if m.chance(0.6):
        m.rod(
            radius * 1.02,
            shoulder * m.of(0.3, 0.6),
            m.paint(m.pick("pale", "any")),
            (0.0, 0.0, shoulder * 0.2),
        )
    return m.take("bottle", (2 * radius, 2 * radius, high))


def book(m: Maker) -> Thing:
    """A book, lying, or standing on its edge."""
    wide, tall, thick = m.of(0.1, 0.24), m.of(0.15, 0.32), m.of(0.012, 0.06)
    cover, pages, board = m.paint("any"), m.paint("pale", pattern="stripes"), 0.003
    if m.chance(0.2):
        for side in (-1, 1):
            m.box((board, wide, tall), cover, (side * thick / 2, 0.0, 0.0))
        m.box((thick, board, tall), cover, (0.0, wide / 2, 0.0))
        m.box((thick - board, wide * 0.96, tall * 0.96), pages, (0.0, 0.0, tall * 0.02))
        return m.take("book", (thick, wide, tall))
    for z in (0.0, thick - board):
        m.box((wide, tall, board), cover, (0.0, 0.0, z))
    m.box((board, tall, thick), cover, (-wide / 2, 0.0, 0.0))
    m.box((wide * 0.95, tall * 0.95, thick - 2 * board), pages, (-wide * 0.01, 0.0, board))
    if m.chance(0.4):
        m.box(
            (wide * m.of(0.4, 0.8), tall * m.of(0.1, 0.4), board),
            m.paint("any"),
            (0.0, m.of(-0.2, 0.2) * tall, thick - board * 0.7),
        )
    return m.take("book", (wide, tall, thick), (wide * 0.3, tall * 0.3, thick))


def ball(m: Maker) -> Thing:
    """A ball with a pattern."""
    radius = m.pick(m.of(0.025, 0.06), m.of(0.03, 0.13))
    pattern = m.pick("plain", "stripes", "checker", "marble", "noise", "bands")
    m.add("sphere", m.paint("vivid", pattern=pattern), (0.0, 0.0, radius), radius=radius, cell=radius / 4)
    return m.take("ball", (2 * radius, 2 * radius, 2 * radius))


def fruit(m: Maker) -> Thing:
    """An apple, orange, lemon or pear."""
    radius, kind = m.of(0.028, 0.05), m.pick("apple", "apple", "orange", "orange", "lemon", "pear")
    hues = {
        "apple": [(0.0, 0.04), (0.2, 0.28), (0.12, 0.16)],
        "orange": [(0.06, 0.1)],
        "lemon": [(0.13, 0.17)],
        "pear": [(0.15, 0.25)],
    }
    hue = m.of(*m.pick(*hues[kind]))
    name = m.paint("vivid", pattern=m.pick("noise", "noise", "plain"))
    base = _hsv(hue, m.of(0.6, 0.95), m.of(0.45, 0.95))
    old = m.materials[name]
    near = m.like(base, 0.7, 1.4)
    texture = Texture(old.texture.kind, (base, near), m.of(0.01, 0.05), grain=0.15, grain_scale=0.005)
    m.materials[name] = Material(texture, m.of(0.15, 0.4), m.of(0.0, 0.05))
    if kind == "apple":
        r = radius
        m.turned(
            [
                (0.0, 0.12 * r),
                (0.3 * r, 0.0),
                (0.8 * r, 0.4 * r),
                (r, 1.05 * r),
                (0.75 * r, 1.6 * r),
                (0.3 * r, 1.75 * r),
                (0.0, 1.5 * r),
            ],
            name,
        )
        m.rod(0.002, 0.6 * r, m.paint("bark"), (0.0, 0.0, 1.5 * r))
    elif kind == "pear":
        r = radius
        m.turned(
            [
                (0.0, 0.0),
                (0.5 * r, 0.03 * r),
                (r, 0.9 * r),
                (0.5 * r, 2.0 * r),
                (0.3 * r, 2.5 * r),
                (0.0, 2.6 * r),
            ],
            name,
        )
    elif kind == "lemon":
        r = radius * 0.8
        m.add("lathe", name, (0.0, 0.0, r), (90.0, 0.0, m.of(0, 360)), cell=r / 4, segments=16,
              profile=[[0, -1.4 * r], [0.25 * r, -1.2 * r], [r, 0], [0.25 * r, 1.2 * r], [0, 1.4 * r]])  # fmt: skip
    else:
        m.add("sphere", name, (0.0, 0.0, radius), radius=radius, cell=radius / 4)
    return m.take("fruit", (2 * radius, 2 * radius, 2 * radius))


def _hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return (red**2.2, green**2.2, blue**2.2)


def plant(m: Maker) -> Thing:
    """Leaves in a pot: a bush, long leaves, or stalks with broad ones."""
    pot, size = m.of(0.08, 0.25), m.of(0.7, 1.3)
    high, clay = pot * m.of(1.0, 1.9), m.paint(m.pick("stone", "any", "pale", "wood"))
    kind = m.pick("bush", "blades", "stalks")
    if kind == "bush" and m.chance(0.3):
        high = 0.0
    else:
        m.rod(pot * m.of(0.6, 0.95), high, clay, top=pot)
        m.rod(pot * 0.9, 0.005, m.paint("soil"), (0.0, 0.0, high))
    tall, green, other = (
        pot * m.of(1.8, 5.0) * size,
        m.paint("leaf"),
        m.paint(m.pick("leaf", "leaf", "vivid")),
    )
    if kind == "bush":
        for _ in range(int(m.rng.integers(1, 6))):
            radius = tall * m.of(0.25, 0.45)
            at = (m.of(-0.5, 0.5) * pot, m.of(-0.5, 0.5) * pot, high + tall * m.of(0.3, 0.7))
            m.add(
                "blob",
                m.pick(green, green, other),
                at,
                radius=radius,
                cell=radius / 4,
                roughness=m.of(0.3, 0.8),
                seed=int(m.rng.integers(99)),
            )
        m.rod(pot * 0.1, tall * 0.5, m.paint("bark"), (0.0, 0.0, high))
    for _ in range(0 if kind == "bush" else int(m.rng.integers(8, 18))):
        angle, lean = m.of(0, 2 * np.pi), tall * m.of(0.15, 0.6)
        x, y, up = float(np.cos(angle)), float(np.sin(angle)), high + tall * m.of(0.5, 1.0)
        tip = [x * lean, y * lean, up - (lean * 0.5 if kind == "blades" else 0.0)]
        points = [[0, 0, high], [x * lean * 0.5, y * lean * 0.5, high + (up - high) * 0.8], tip]
        thick = tall * m.of(0.03, 0.06)
        broad = [thick * 0.6, thick, 0.002] if kind == "blades" else 0.008
        m.add("tube", green, points=points, radius=broad, cell=tall / 5, sides=5)
        if kind == "stalks":
            leaf = tall * m.of(0.1, 0.2)
            m.soft((leaf, leaf * 1.5, leaf * 0.25), m.pick(green, other), (tip[0], tip[1], tip[2] - leaf * 0.2),
                   rotate=(m.of(-40, 40), m.of(-40, 40), m.of(0, 360)))  # fmt: skip
    return m.take("plant", (max(2 * pot, tall * 0.6), max(2 * pot, tall * 0.6), high + tall))


def tree(m: Maker) -> Thing:
    """A trunk with a crown of several clumps, a cone, or a column."""
    high, bark, green = m.of(2.2, 7.0), m.paint("bark"), m.paint("leaf")
    trunk, kind = high * m.of(0.15, 0.4), m.pick("clumps", "clumps", "cone", "column")
    m.rod(high * m.of(0.02, 0.04), high * 0.75, bark)
    wide = high * m.of(0.18, 0.32)
    if kind == "clumps":
        for _ in range(int(m.rng.integers(2, 8))):
            radius = wide * m.of(0.6, 1.0)
            at = (m.of(-0.7, 0.7) * wide, m.of(-0.7, 0.7) * wide, trunk + (high - trunk) * m.of(0.3, 0.85))
            m.add(
                "blob",
                green,
                at,
                radius=radius,
                cell=radius / 4,
                roughness=m.of(0.2, 0.6),
                seed=int(m.rng.integers(99)),
            )
    else:
        wide *= 0.6 if kind == "cone" else 0.35
        count = 5
        for k in range(count):
            share = k / (count - 1)
            radius = wide * (1.0 - 0.75 * share) if kind == "cone" else wide * (1.0 - 0.5 * share * share)
            z = trunk * 0.5 + radius + (high - trunk) * share * 0.9
            m.add(
                "blob", green, (0.0, 0.0, z), radius=radius, cell=radius / 4, roughness=m.of(0.1, 0.4), seed=k
            )
            m.rod(radius, (high - trunk) / count * 1.4, green, (0.0, 0.0, z), top=radius * 0.8)
    return m.take("tree", (2 * wide, 2 * wide, high))


def car(m: Maker) -> Thing:
    """A car: body, cabin, windows, wheels."""
    long, wide, high = m.of(3.4, 4.9), m.of(1.6, 1.95), m.of(1.3, 1.9)
    paint, glass, black = (
        m.paint(m.pick("vivid", "metal", "pale", "dark"), pattern="plain"),
        m.paint("dark"),
        m.paint("dark"),
    )
    wheel, waist = m.of(0.28, 0.38), high * m.of(0.5, 0.6)
    solid = m.soft if m.chance(0.5) else m.box
    solid((wide, long, waist - 0.2), paint, (0.0, 0.0, 0.2))
    cabin, at = long * m.of(0.4, 0.65), long * m.of(-0.02, 0.12)
    solid((wide * 0.9, cabin, high - waist + 0.05), glass, (0.0, at, waist - 0.05))
    solid((wide * 0.85, cabin * 0.85, 0.1), paint, (0.0, at, high - 0.06))
    for x in (-1, 1):
        for y in (-0.32, 0.32):
            m.rod(wheel, 0.2, black, (x * wide / 2 - 0.1, y * long, wheel), rotate=(0.0, 90.0, 0.0))
        m.box((0.3, 0.04, 0.12), m.paint("pale", glow=0.3), (x * wide * 0.35, -long / 2, waist * 0.7))
    return m.take("car", (wide, long, high))


def other(m: Maker) -> Thing:
    """Something small without a word: a block, cone, ring, heap, candle or pot with a spout."""
    size, paint = m.of(0.04, 0.2), m.paint("any")
    kind = m.pick("block", "cone", "ring", "heap", "candle", "can", "pot", "plate")
    if kind == "block":
        m.box((size, size * m.of(0.5, 1.0), size * m.of(0.5, 1.2)), paint)
    elif kind == "cone":
        m.rod(size / 2, size * m.of(0.7, 1.5), paint, top=0.005)
    elif kind == "ring":
        m.add(
            "torus", paint, (0.0, 0.0, size * 0.15), radius=size * 0.4, thickness=size * 0.15, cell=size / 6
        )
    elif kind == "heap":
        m.add("blob", paint, (0.0, 0.0, size * 0.3), radius=size / 2, cell=size / 8, roughness=0.5)
    elif kind == "candle":
        m.rod(size * 0.4, 0.01, m.paint("metal"))
        m.rod(size * 0.12, size * 1.2, m.paint("pale"))
    elif kind == "can":
        m.rod(size * 0.35, size * m.of(0.5, 1.0), paint)
    elif kind == "plate":
        m.turned(
            [(0.0, 0.0), (size * 0.6, 0.0), (size * 0.8, 0.015), (size * 0.6, 0.008), (0.0, 0.006)], paint
        )
    else:
        r = size * 0.5
        m.turned(
            [
                (0.0, 0.0),
                (0.6 * r, 0.0),
                (r, 0.8 * r),
                (0.6 * r, 1.4 * r),
                (0.15 * r, 1.5 * r),
                (0.15 * r, 1.7 * r),
                (0.0, 1.75 * r),
            ],
            paint,
        )
        m.add(
            "tube",
            paint,
            points=[[0.8 * r, 0, 0.6 * r], [1.4 * r, 0, r], [1.7 * r, 0, 1.5 * r]],
            radius=0.1 * r,
            cell=r / 3,
            sides=8,
        )
    return m.take("other", (size, size, size))


def cabinet(m: Maker) -> Thing:
    """A box of a household without a word: a fridge, cooker, chest, crate or pillar."""
    wide, deep, high = m.of(0.3, 1.2), m.of(0.3, 0.65), m.of(0.4, 1.9)
    paint, line = m.paint(m.pick("pale", "metal", "any", "stone")), m.paint(m.pick("dark", "metal"))
    m.box((wide, deep, high), paint)
    if m.chance(0.5):
        m.box((wide, 0.005, 0.012), line, (0.0, -deep / 2, high * m.of(0.4, 0.7)))
        m.box((0.02, 0.03, high * 0.2), line, (wide * 0.4, -deep / 2 - 0.02, high * 0.5))
    return m.take("other", (wide, deep, high), (wide * 0.35, deep * 0.3, high) if high < 1.2 else None)


def house(m: Maker) -> Thing:
    """A house or wall without a word."""
    wide, deep, high = m.of(2.0, 8.0), m.of(0.3, 5.0), m.of(1.2, 5.0)
    wall = m.paint("stone", pattern=m.pick("brick", "noise", "plain", "tiles"))
    if m.chance(0.25):
        m.rod(deep / 2, high, wall, top=deep * m.of(0.0, 0.6))
        return m.take("other", (deep, deep, high))
    m.box((wide, deep, high), wall)
    if deep > 1.5 and m.chance(0.7):
        m.add(
            "prism", m.paint("any"), (0.0, 0.0, high), size=[wide * 1.1, deep * 1.1, m.of(0.8, 2.0)], cell=0.6
        )
    for k in range(int(m.rng.integers(0, 4))):
        size = (m.of(0.5, 1.0), 0.03, m.of(0.8, 1.8))
        m.box(
            size,
            m.paint(m.pick("dark", "wood")),
            ((k / 3 - 0.5) * wide * 0.7, -deep / 2, m.of(0.0, 0.4) * high),
        )
    if m.chance(0.3):
        for side in (-1, 1):
            m.rod(m.of(0.1, 0.25), high, wall, (side * wide * 0.4, -deep / 2 - 0.4, 0.0))
    return m.take("other", (wide, deep, high))


SMALL: dict[str, Callable[[Maker], Thing]] = {
    f.__name__: f for f in (cup, bowl, vase, bottle, book, ball, fruit, other)
}
OUTSIDE: dict[str, Callable[[Maker], Thing]] = {f.__name__: f for f in (plant, tree, car)}
OTHERS: dict[str, Callable[[Maker], Thing]] = {f.__name__: f for f in (cabinet, house)}
