"""Procedural albedo: each function maps surface points to linear RGB.

A pattern gets the local position ``p`` (N, 3) and the surface coordinates ``uv`` (N, 2), both float32 in
units of the texture's ``scale``, the colours (C, 3), and the texture itself; it returns (N, 3) float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from smerf.capture.synth.describe import Texture
from smerf.errors import InvalidDataError

__all__ = ["PATTERNS", "albedo", "fbm", "value_noise"]

_SIZE = 32
_LATTICE = np.random.default_rng(20240229).random((_SIZE, _SIZE, _SIZE), dtype=np.float32).ravel()


def value_noise(p: np.ndarray) -> np.ndarray:
    """Return smooth noise in [0, 1] with one feature per unit: (N, 3) float32 -> (N,) float32, period 32."""
    floor = np.floor(p)
    t = p - floor
    t = t * t * (3 - 2 * t)
    i = floor.astype(np.int32) & (_SIZE - 1)
    j = (i + 1) & (_SIZE - 1)
    x0, x1 = i[:, 0] * (_SIZE * _SIZE), j[:, 0] * (_SIZE * _SIZE)
    y0, y1 = i[:, 1] * _SIZE, j[:, 1] * _SIZE
    z0, z1 = i[:, 2], j[:, 2]
    tx, ty, tz = t[:, 0], t[:, 1], t[:, 2]

    def row(xy: np.ndarray) -> np.ndarray:
        a = _LATTICE[xy + z0]
        return a + (_LATTICE[xy + z1] - a) * tz

    a, b = row(x0 + y0), row(x0 + y1)
    c, d = row(x1 + y0), row(x1 + y1)
    low, high = a + (b - a) * ty, c + (d - c) * ty
    return low + (high - low) * tx


def fbm(p: np.ndarray, octaves: int = 3) -> np.ndarray:
    """Sum ``octaves`` of value noise, each half as strong and twice as fine; (N,) in [0, 1], mean 0.5."""
    total, weight, amount = np.zeros(len(p), np.float32), 0.0, 1.0
    for octave in range(octaves):
        total += amount * value_noise(p * np.float32(2**octave) + np.float32(7.7 * octave))
        weight, amount = weight + amount, amount * 0.5
    return total / np.float32(weight)


def albedo(texture: Texture, local: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Evaluate a texture at local positions (N, 3) and uv (N, 2), metres: linear RGB (N, 3) float32."""
    if texture.kind not in PATTERNS:
        known = ", ".join(sorted(PATTERNS))
        raise InvalidDataError(f"unknown texture '{texture.kind}'; known: {known}")
    stretch = np.asarray(texture.stretch, np.float32) * np.float32(texture.scale)
    if texture.axes is not None:
        uv = local[:, ["xyz".index(axis) for axis in texture.axes]]
    colors = np.asarray(texture.colors, np.float32)
    rgb = PATTERNS[texture.kind](local / stretch, uv / stretch[:2], colors, texture)
    if texture.grain:
        fine = fbm(local / np.float32(texture.grain_scale), octaves=2) - 0.5
        rgb = rgb * (1 + np.float32(2 * texture.grain) * fine)[:, None]
    return np.clip(rgb, 0, 1)


def _mix(colors: np.ndarray, t: np.ndarray, stops: tuple[float, ...] = ()) -> np.ndarray:
    """Blend along a colour list: ``t`` in [0, 1], or along ``stops`` where given."""
    at = np.asarray(stops, np.float32) if stops else np.linspace(0, 1, len(colors), dtype=np.float32)
    return np.stack([np.interp(t, at, colors[:, c]) for c in range(3)], 1).astype(np.float32)


def _hash(*cells: np.ndarray) -> np.ndarray:
    """Return a random number in [0, 1) for each integer cell."""
    key = np.zeros(cells[0].shape, np.uint32)
    for cell in cells:
        key = (key ^ cell.astype(np.int64).astype(np.uint32)) * np.uint32(0x9E3779B1)
        key ^= key >> np.uint32(15)
    key *= np.uint32(0x85EBCA77)
    key ^= key >> np.uint32(13)
    return (key >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)


def _pick(colors: np.ndarray, chance: np.ndarray) -> np.ndarray:
    return colors[np.minimum((chance * len(colors)).astype(np.int64), len(colors) - 1)]


def _edge(distance: np.ndarray, width: float) -> np.ndarray:
    """Return 0 at a joint (``distance`` 0), 1 beyond ``width``, smooth in between."""
    t = np.clip(distance / width, 0, 1)
    return t * t * (3 - 2 * t)


def plain(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """One colour."""
    return np.tile(colors[0], (len(p), 1))


def checker(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Squares of one unit in two colours."""
    parity = (np.floor(uv[:, 0]) + np.floor(uv[:, 1])).astype(np.int64) & 1
    return colors[parity % len(colors)]


def stripes(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Bands across u, one unit per colour, with soft edges."""
    position = np.mod(uv[:, 0], len(colors))
    index = position.astype(np.int64) % len(colors)
    blend = _edge(np.clip(position - np.floor(position) - 0.88, 0, None), 0.12)[:, None] * 0.999
    return colors[index] * (1 - blend) + colors[(index + 1) % len(colors)] * blend


def bands(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Colours by height: ``stops`` are local z in metres."""
    wobble = (fbm(p * 0.7, 2) - 0.5) * 0.1 * texture.contrast
    z = p[:, 2] * texture.stretch[2] * texture.scale
    return _mix(colors, z + wobble * texture.scale, texture.stops)


def noise(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Smooth clouds through the list of colours."""
    return _mix(colors, np.clip(0.5 + (fbm(p, 3) - 0.5) * 2 * texture.contrast, 0, 1))


def marble(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Veins bent by noise."""
    bend = fbm(p * 0.7, 4)
    vein = 0.5 + 0.5 * np.sin(3.0 * (p[:, 0] + 0.6 * p[:, 1] + 0.4 * p[:, 2]) + 9 * bend)
    return _mix(colors, vein ** (2.0 / max(texture.contrast, 0.1)))


def wood(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Grain along x: stretched noise and year rings."""
    along = p * np.array([0.12, 1, 1], np.float32)
    rings = np.sin(5 * (along[:, 1] + 0.4 * along[:, 2]) + 7 * fbm(along, 2))
    fibre = value_noise(along * np.array([2, 9, 9], np.float32))
    return _mix(colors, np.clip(0.5 + texture.contrast * (0.28 * rings + 0.5 * (fibre - 0.5)), 0, 1))


def planks(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Boards one unit wide and six long, each with its own tint; the last colour is the gap."""
    row = np.floor(uv[:, 1])
    shift = uv[:, 0] / 6 + _hash(row) * 5
    column = np.floor(shift)
    tint = _hash(row, column)
    board = np.stack([uv[:, 0] + 40 * tint, uv[:, 1], 20 * tint], 1).astype(np.float32)
    grain = wood(board * 3, uv, colors[:-1], texture)
    grain *= (0.86 + 0.28 * tint)[:, None]
    gap = np.minimum(np.abs(uv[:, 1] - np.round(uv[:, 1])), 6 * np.abs(shift - np.round(shift)))
    solid = _edge(gap, 0.05)[:, None]
    return grain * solid + colors[-1] * (1 - solid)


def brick(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Bricks two units long and one high in running bond; the last colour is mortar."""
    row = np.floor(uv[:, 1])
    shifted = uv[:, 0] / 2 + 0.5 * (row % 2)
    column = np.floor(shifted)
    chance = _hash(row, column)
    face = _pick(colors[:-1], chance) * (0.85 + 0.3 * fbm(p * 1.5, 2))[:, None]
    joint = np.minimum(np.abs(uv[:, 1] - np.round(uv[:, 1])), 2 * np.abs(shifted - np.round(shifted)))
    solid = _edge(joint - 0.03, 0.07)[:, None]
    return face * solid + colors[-1] * (1 - solid)


def tiles(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Square tiles of varied colour; the last colour is grout."""
    cell = np.floor(uv)
    face = _pick(colors[:-1], _hash(cell[:, 0], cell[:, 1])) * (0.92 + 0.16 * fbm(p * 1.3, 2))[:, None]
    joint = np.abs(uv - np.round(uv)).min(1)
    solid = _edge(joint - 0.01, 0.04)[:, None]
    return face * solid + colors[-1] * (1 - solid)


def cobbles(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Rounded stones around jittered centres; the last colour lies between them."""
    cell = np.floor(uv)
    nearest = np.full(len(uv), 9.0, np.float32)
    second, owner = nearest.copy(), np.zeros(len(uv), np.float32)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            cx, cy = cell[:, 0] + dx, cell[:, 1] + dy
            jitter_x, jitter_y = _hash(cx, cy), _hash(cy, cx + 57)
            d = np.hypot(cx + 0.2 + 0.6 * jitter_x - uv[:, 0], cy + 0.2 + 0.6 * jitter_y - uv[:, 1])
            closer = d < nearest
            second = np.where(closer, nearest, np.minimum(second, d))
            owner = np.where(closer, jitter_x, owner)
            nearest = np.where(closer, d, nearest)
    stone = _pick(colors[:-1], owner) * (0.8 + 0.4 * fbm(p * 2, 2))[:, None]
    solid = _edge(second - nearest, 0.22)[:, None]
    return stone * solid + colors[-1] * (1 - solid)


def woven(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Threads going over and under each other."""
    over = ((np.floor(uv[:, 0]) + np.floor(uv[:, 1])).astype(np.int64) & 1).astype(bool)
    arc = np.sin(np.pi * np.mod(np.where(over[:, None], uv, uv[:, ::-1]), 1))
    light = 0.6 + 0.4 * np.sqrt(np.clip(arc[:, 0] * (0.6 + 0.4 * arc[:, 1]), 0, 1)) * texture.contrast
    return np.where(over[:, None], colors[0], colors[-1]) * light[:, None]


def rings(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Concentric bands around local z, one unit per colour."""
    radius = np.hypot(p[:, 0], p[:, 1]) + 0.12 * (fbm(p, 2) - 0.5)
    return stripes(p, np.stack([radius, radius], 1), colors, texture)


def painting(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Large flat patches with soft outlines."""
    field = fbm(p, 2) * 3.1 + 0.5 * value_noise(p * 0.5 + 11)
    position = np.mod(field * 2, len(colors))
    return stripes(p, np.stack([position, position], 1), colors, texture)


def carpet(p: np.ndarray, uv: np.ndarray, colors: np.ndarray, texture: Texture) -> np.ndarray:
    """Rows of lozenges: diagonal checks in the first colours, outlined by the last."""
    a, b = uv[:, 0] + uv[:, 1], uv[:, 0] - uv[:, 1]
    face = _pick(colors[:-1], _hash(np.floor(a) % 3, np.floor(b) % 3))
    joint = np.minimum(np.abs(a - np.round(a)), np.abs(b - np.round(b)))
    solid = _edge(joint - 0.06, 0.06)[:, None]
    return face * solid + colors[-1] * (1 - solid)


PATTERNS: dict[str, Callable[..., np.ndarray]] = {
    f.__name__: f
    for f in (plain, checker, stripes, bands, noise, marble, wood, planks, brick, tiles, cobbles, woven,
              rings, painting, carpet)
}  # fmt: skip
