"""Furniture of random shape; every function draws one piece, its back towards +y."""

from __future__ import annotations

from collections.abc import Callable

from smerf.vision.names.draw import Maker, Thing

__all__ = ["FURNITURE"]


def chair(m: Maker) -> Thing:
    """A chair with a back: on four legs, on a star, or an upholstered armchair."""
    if m.chance(0.3):
        return _upholstered(m, "chair", m.of(0.65, 0.95), 1)
    wide, deep, seat, back = m.of(0.38, 0.56), m.of(0.38, 0.55), m.of(0.4, 0.52), m.of(0.3, 0.6)
    frame = m.paint(m.pick("wood", "wood", "metal", "dark", "any"))
    cover = frame if m.chance(0.4) else m.paint("any")
    if m.chance(0.25):
        m.rod(m.of(0.02, 0.04), seat, frame)
        for turn in range(0, 360, 72):
            m.box((m.of(0.5, 0.6), 0.05, 0.05), frame, (0.0, 0.0, 0.03), rotate=(0.0, 0.0, float(turn)))
    else:
        m.legs(wide, deep, seat, frame)
    add = m.soft if m.chance(0.3) else m.box
    add((wide, deep, m.of(0.03, 0.1)), cover, (0.0, 0.0, seat - 0.02))
    tilt, behind = -m.of(0.0, 14.0), deep / 2 - 0.02
    if m.chance(0.5):
        low = m.of(0.0, 0.2)
        m.box((wide, m.of(0.02, 0.07), back), cover, (0.0, behind, seat + low), rotate=(tilt, 0.0, 0.0))
    if len(m.parts) < 6 or m.chance(0.6):
        count, is_upright = int(m.rng.integers(2, 6)), m.chance(0.5)
        for k in range(count):
            share = (k + 0.5) / count
            if is_upright:
                size, at = (0.025, 0.025, back), ((share - 0.5) * wide, behind, seat)
            else:
                size, at = (wide, 0.025, back / count * 0.5), (0.0, behind, seat + share * back)
            m.box(size, frame, at, rotate=(tilt, 0.0, 0.0))
        for side in (-1, 1):
            post = (side * (wide / 2 - 0.02), behind, seat - 0.02)
            m.box((0.035, 0.035, back + 0.02), frame, post, rotate=(tilt, 0.0, 0.0))
    if m.chance(0.3):
        for side in (-1, 1):
            m.box((0.05, deep, 0.04), frame, (side * wide / 2, 0.0, seat + 0.2))
            m.box((0.04, 0.04, 0.2), frame, (side * wide / 2, -deep / 3, seat))
    return m.take("chair", (wide, deep + 0.1, seat + back))


def sofa(m: Maker) -> Thing:
    """A sofa with two or three seats."""
    seats = int(m.rng.integers(2, 4))
    return _upholstered(m, "sofa", m.of(0.65, 0.85) * seats, seats)


def _upholstered(m: Maker, word: str, wide: float, seats: int) -> Thing:
    deep, seat, back, arm = m.of(0.7, 1.0), m.of(0.34, 0.46), m.of(0.3, 0.55), m.of(0.08, 0.22)
    foot = m.of(0.0, 0.14)
    cover = m.paint("any", pattern=m.pick("plain", "plain", "noise", "woven", "stripes"))
    pad = cover if m.chance(0.6) else m.paint("any")
    solid = m.soft if m.chance(0.4) else m.box
    if foot > 0.03:
        m.legs(wide, deep, foot, m.paint("wood"))
    solid((wide, deep, seat - foot - 0.08), cover, (0.0, 0.0, foot))
    solid((wide, m.of(0.12, 0.25), seat + back - foot), cover, (0.0, deep / 2 - 0.1, foot))
    arms = seat + m.of(0.08, 0.28) - foot
    for side in (-1, 1):
        solid((arm, deep, arms), cover, (side * (wide - arm) / 2, 0.0, foot))
    place = (wide - 2 * arm) / seats
    for k in range(seats):
        x = (k + 0.5 - seats / 2) * place
        m.soft((place * 0.98, deep * 0.75, m.of(0.12, 0.2)), pad, (x, -deep * 0.1, seat - 0.1))
        if m.chance(0.7):
            size = (place * 0.95, 0.18, back)
            m.soft(size, pad, (x, deep / 2 - 0.27, seat + 0.02), rotate=(-m.of(5, 15), 0.0, 0.0))
    for _ in range(int(m.rng.integers(0, 3)) if seats > 1 else 0):
        size = (m.of(0.3, 0.45), 0.14, m.of(0.3, 0.4))
        at = (m.of(-0.4, 0.4) * wide, deep / 2 - 0.4, seat + 0.05)
        m.soft(size, m.paint("any"), at, rotate=(-20.0, 0.0, m.of(-20, 20)))
    return m.take(word, (wide, deep, seat + back))


def table(m: Maker) -> Thing:
    """A table: round or square, low or high, on legs, a foot or panels, some with drawers."""
    is_low = m.chance(0.35)
    high = m.of(0.3, 0.55) if is_low else m.of(0.65, 0.95)
    wide, deep = m.of(0.4, 2.0), m.of(0.35, 1.0)
    paint = m.paint(m.pick("wood", "wood", "wood", "pale", "dark", "any"))
    frame = paint if m.chance(0.5) else m.paint(m.pick("wood", "metal", "dark"))
    thick = m.of(0.015, 0.06)
    if m.chance(0.3):
        wide = deep = m.of(0.4, 1.4)
        m.add("cylinder", paint, (0.0, 0.0, high - thick), radius=wide / 2, height=thick, cell=0.1)
    else:
        m.box((wide, deep, thick), paint, (0.0, 0.0, high - thick))
    kind = m.pick("legs", "legs", "legs", "foot", "panels", "drawers")
    if kind == "foot":
        m.rod(m.of(0.03, 0.1), high - thick, frame)
        m.rod(min(wide, deep) * m.of(0.25, 0.4), m.of(0.02, 0.08), frame)
    elif kind == "panels":
        for side in (-1, 1):
            m.box((m.of(0.02, 0.06), deep * 0.9, high - thick), frame, (side * wide * 0.46, 0.0, 0.0))
    else:
        m.legs(wide * 0.96, deep * 0.96, high - thick, frame)
        if m.chance(0.5):
            m.box((wide * 0.9, deep * 0.9, m.of(0.05, 0.1)), frame, (0.0, 0.0, high - thick - 0.08))
        if m.chance(0.2):
            m.box((wide * 0.9, deep * 0.85, 0.02), frame, (0.0, 0.0, high * m.of(0.15, 0.4)))
    if kind == "drawers":
        width, sides = min(wide * 0.4, 0.45), m.pick((-1,), (1,), (-1, 1))
        for side in sides:
            at = (side * (wide - width) * 0.47, 0.0, m.of(0.05, 0.4) * high)
            m.box((width, deep * 0.9, high - thick - at[2]), frame, at)
            for k in range(3):
                m.box(
                    (0.1, 0.02, 0.015), m.paint("metal"), (at[0], -deep * 0.46, high * (0.9 - 0.12 * k) - 0.1)
                )
    return m.take("table", (wide, deep, high), (wide * 0.38, deep * 0.38, high))


def bed(m: Maker) -> Thing:
    """A bed: frame, mattress, blanket, pillows, a headboard at the back."""
    wide, long, high = m.pick(m.of(0.85, 1.1), m.of(1.3, 1.9)), m.of(1.9, 2.2), m.of(0.15, 0.35)
    frame, sheet = m.paint(m.pick("wood", "wood", "any", "pale")), m.paint("pale")
    blanket = m.paint("any")
    m.box((wide, long, high), frame) if m.chance(0.6) else m.legs(wide, long, high, frame)
    thick = m.of(0.12, 0.3)
    m.soft((wide * 0.98, long * 0.98, thick), sheet, (0.0, 0.0, high))
    cover = m.of(0.5, 0.8) * long
    m.soft((wide * 1.03, cover, thick + m.of(0.02, 0.08)), blanket, (0.0, -(long - cover) / 2, high - 0.03))
    if m.chance(0.85):
        m.box(
            (wide * m.of(1.0, 1.15), m.of(0.04, 0.12), high + thick + m.of(0.2, 0.7)),
            frame,
            (0.0, long / 2, 0.0),
        )
    if m.chance(0.3):
        m.box((wide, 0.05, high + thick + 0.1), frame, (0.0, -long / 2, 0.0))
    count = 2 if wide > 1.2 else 1
    pillow = sheet if m.chance(0.5) else m.paint("any")
    for k in range(count):
        x = (k + 0.5 - count / 2) * wide / count
        size = (wide / count * m.of(0.7, 0.95), m.of(0.3, 0.5), m.of(0.1, 0.2))
        m.soft(size, pillow, (x, long / 2 - 0.3, high + thick - 0.03), rotate=(m.of(0, 25), 0.0, 0.0))
    return m.take("bed", (wide, long + 0.1, high + thick))


def shelf(m: Maker) -> Thing:
    """Boards between sides, with rows of books and a few other things on them."""
    wide, deep, high = m.of(0.5, 1.6), m.of(0.22, 0.4), m.of(0.8, 2.2)
    wood = m.paint(m.pick("wood", "wood", "pale", "dark", "any"))
    board, rows = m.of(0.015, 0.04), max(2, round(high / m.of(0.28, 0.42)))
    for side in (-1, 1):
        m.box((board, deep, high), wood, (side * (wide - board) / 2, 0.0, 0.0))
    if m.chance(0.7):
        m.box((wide, 0.01, high), wood, (0.0, deep / 2, 0.0))
    paints = [m.paint("any", pattern="plain") for _ in range(6)]
    for row in range(rows + 1):
        z = row * (high - board) / rows
        m.box((wide, deep, board), wood, (0.0, 0.0, z))
        x, space = -wide / 2 + board + 0.01, (high - board) / rows - board
        while row < rows and x < wide / 2 - 0.08:
            thick = m.of(0.015, 0.05)
            if m.chance(0.1):
                thick = m.of(0.05, 0.3)
            elif m.chance(0.06):
                size = min(space * 0.7, 0.2)
                m.soft((size * 0.8, deep * 0.6, size), m.pick(*paints), (x + size / 2, 0.0, z + board))
                thick = size
            else:
                tall = space * m.of(0.55, 0.92)
                at = (x + thick / 2, m.of(0.0, 0.1) * deep, z + board)
                m.box((thick * 0.95, deep * m.of(0.6, 0.85), tall), m.pick(*paints), at)
            x += thick
    return m.take("shelf", (wide, deep, high), (wide * 0.4, deep * 0.3, high) if high < 1.3 else None)


def wardrobe(m: Maker) -> Thing:
    """A tall cupboard with doors and handles."""
    wide, deep, high = m.of(0.8, 2.2), m.of(0.45, 0.65), m.of(1.7, 2.3)
    wood = m.paint(m.pick("wood", "wood", "pale", "any"))
    leaf = wood if m.chance(0.6) else m.paint(m.pick("wood", "pale", "any"))
    grip, doors = m.paint("metal"), max(2, round(wide / m.of(0.4, 0.6)))
    m.box((wide, deep, high), wood)
    for k in range(doors):
        x = (k + 0.5 - doors / 2) * wide / doors
        low = m.of(0.05, 0.08)
        m.box((wide / doors - 0.015, 0.02, high - low - 0.04), leaf, (x, -deep / 2 - 0.01, low))
        side = 1 if k % 2 == 0 else -1
        m.box(
            (0.02, 0.03, m.of(0.05, 0.3)),
            grip,
            (x + side * wide / doors * 0.4, -deep / 2 - 0.03, high * 0.45),
        )
    if m.chance(0.3):
        m.box((wide * 1.04, deep * 1.06, 0.05), wood, (0.0, 0.0, high))
    return m.take("wardrobe", (wide, deep, high))


def bench(m: Maker) -> Thing:
    """A long seat of slats, planks or stone, with or without a back."""
    wide, deep, seat = m.of(1.0, 2.0), m.of(0.3, 0.5), m.of(0.38, 0.5)
    wood, frame = (
        m.paint(m.pick("wood", "wood", "stone", "any")),
        m.paint(m.pick("dark", "metal", "wood", "stone")),
    )
    slats = int(m.rng.integers(1, 6))
    for k in range(slats):
        y = (k + 0.5 - slats / 2) * deep / slats
        m.box((wide, deep / slats * 0.85, m.of(0.03, 0.07)), wood, (0.0, y, seat - 0.05))
    inset = m.of(0.0, 0.2)
    for side in (-1, 1):
        x = side * (wide / 2 - inset - 0.04)
        if m.chance(0.5):
            m.box((m.of(0.05, 0.12), deep * 0.9, seat - 0.05), frame, (x, 0.0, 0.0))
        else:
            for y in (-deep * 0.4, deep * 0.4):
                m.box((0.05, 0.05, seat - 0.05), frame, (x, y, 0.0))
    back = m.of(0.3, 0.5) if m.chance(0.55) else 0.0
    if back:
        rows = int(m.rng.integers(1, 4))
        for k in range(rows):
            z = seat + 0.1 + k * back / rows
            m.box((wide, 0.03, back / rows * 0.7), wood, (0.0, deep / 2, z), rotate=(-8.0, 0.0, 0.0))
        for side in (-1, 1):
            m.box((0.05, 0.04, seat + back), frame, (side * (wide / 2 - inset - 0.04), deep / 2 + 0.02, 0.0))
    return m.take("bench", (wide, deep + 0.1, seat + back))


def lamp(m: Maker) -> Thing:
    """A standing lamp: foot, pole and shade."""
    return _lamp(m, m.of(1.2, 1.8), m.of(0.14, 0.28))


def table_lamp(m: Maker) -> Thing:
    """A small lamp for a table."""
    return _lamp(m, m.of(0.3, 0.6), m.of(0.09, 0.18))


def street_lamp(m: Maker) -> Thing:
    """A lantern on a post."""
    high, post, thick = m.of(2.2, 4.0), m.paint(m.pick("dark", "metal", "any")), m.of(0.03, 0.07)
    m.rod(thick * 2, high * 0.1, post)
    m.rod(thick, high, post)
    glass, head, tall = m.paint("pale", glow=m.of(0.2, 1.2)), m.of(0.1, 0.22), m.of(0.2, 0.45)
    if m.chance(0.4):
        m.add("sphere", glass, (0.0, 0.0, high + head * 0.8), radius=head, cell=head / 3)
    else:
        m.rod(head * 0.7, tall, glass, (0.0, 0.0, high), top=head)
        m.rod(head * 1.2, tall * 0.4, post, (0.0, 0.0, high + tall), top=0.01)
    return m.take("lamp", (0.5, 0.5, high + tall * 1.4))


def _lamp(m: Maker, high: float, radius: float) -> Thing:
    stand = m.paint(m.pick("metal", "dark", "wood", "any"))
    shade = m.paint(m.pick("pale", "pale", "any"), glow=m.of(0.1, 1.2))
    tall, is_small = radius * m.of(0.9, 1.7), high < 0.8
    m.rod(radius * m.of(0.5, 0.8), 0.02 + 0.02 * m.of(0, 1), stand)
    if is_small and m.chance(0.5):
        body = radius * m.of(0.3, 0.6)
        m.turned(
            [(0.0, 0.0), (body * 0.6, 0.0), (body, high * 0.2), (body * 0.3, high * 0.5), (0.0, high * 0.55)],
            stand,
        )
    if not is_small and m.chance(0.25):
        for turn in (0.0, 120.0, 240.0):
            m.rod(0.015, high * 0.95, stand, rotate=(14.0, 0.0, turn))
    m.rod(m.of(0.008, 0.02), high - tall * 0.3, stand)
    if m.chance(0.2):
        m.add("sphere", shade, (0.0, 0.0, high - tall * 0.4), radius=tall * 0.6, cell=tall / 5)
    else:
        m.rod(radius, tall, shade, (0.0, 0.0, high - tall), top=radius * m.of(0.4, 1.0))
    return m.take("lamp", (2 * radius, 2 * radius, high))


def rug(m: Maker) -> Thing:
    """A flat piece on the floor."""
    wide, deep = m.of(0.8, 3.0), m.of(0.6, 2.2)
    paint = m.paint("any", pattern=m.pick("carpet", "stripes", "woven", "checker", "noise", "plain", "rings"))
    if m.chance(0.25):
        wide = deep = m.of(0.8, 2.2)
        m.add("cylinder", paint, radius=wide / 2, height=0.012, cell=0.15)
    else:
        m.box((wide, deep, 0.012), paint)
        if m.chance(0.4):
            m.box(
                (wide * 0.85, deep * 0.8, 0.014), m.paint("any", pattern=m.pick("carpet", "plain", "checker"))
            )
    return m.take("rug", (wide, deep, 0.02))


def picture(m: Maker) -> Thing:
    """A framed picture, flat against a wall at +y."""
    wide, high = m.of(0.25, 1.2), m.of(0.25, 1.0)
    frame, edge = m.paint(m.pick("wood", "dark", "pale", "metal")), m.of(0.02, 0.07)
    m.box((wide, 0.025, high), frame)
    pattern = m.pick("painting", "painting", "noise", "marble", "stripes", "rings", "checker")
    if m.chance(0.4):
        m.box((wide - edge, 0.028, high - edge), m.paint("pale", pattern="plain"), (0.0, 0.0, edge / 2))
        edge *= 2.5
    m.box((wide - 2 * edge, 0.031, high - 2 * edge), m.paint("any", pattern=pattern), (0.0, 0.0, edge))
    return m.take("picture", (wide, 0.03, high))


def curtain(m: Maker) -> Thing:
    """Hanging folds, flat against a wall at +y."""
    wide, high, fold = m.of(0.4, 1.4), m.of(1.4, 2.4), m.of(0.03, 0.08)
    cloth = m.paint("any", pattern=m.pick("plain", "plain", "noise", "woven", "stripes"))
    count = max(4, round(wide / fold))
    for k in range(count):
        x = (k + 0.5 - count / 2) * wide / count
        m.rod(wide / count * m.of(0.55, 0.75), high, cloth, (x, m.of(-0.02, 0.02), 0.0))
    if m.chance(0.6):
        rail = (wide / 2 + 0.1, 0.0, high)
        m.rod(
            0.015,
            wide + 0.2,
            m.paint(m.pick("metal", "wood")),
            (-rail[0], 0.0, high),
            rotate=(0.0, 90.0, 0.0),
        )
    return m.take("curtain", (wide, 0.12, high))


def tv(m: Maker) -> Thing:
    """A flat screen on a stand."""
    wide = m.of(0.6, 1.4)
    high, foot = wide * m.of(0.55, 0.62), m.of(0.03, 0.1)
    dark = m.paint("dark", pattern="plain")
    m.box((wide, m.of(0.03, 0.07), high), dark, (0.0, 0.0, foot))
    screen = (
        m.paint("any", glow=m.of(0.2, 0.6), pattern="painting")
        if m.chance(0.25)
        else m.paint("dark", pattern="plain")
    )
    m.box((wide * 0.96, 0.01, high * 0.94), screen, (0.0, -0.035, foot + high * 0.03))
    m.box((0.08, 0.05, foot + 0.05), dark)
    m.box((wide * m.of(0.3, 0.6), 0.2, 0.015), dark)
    return m.take("tv", (wide, 0.2, high + foot))


FURNITURE: dict[str, Callable[[Maker], Thing]] = {
    f.__name__: f
    for f in (chair, sofa, table, bed, shelf, wardrobe, bench, lamp, table_lamp, street_lamp, rug, picture, curtain, tv)
}  # fmt: skip
