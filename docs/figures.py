"""The figures of the documentation, as SVG: ``python -m docs.figures [FOLDER]``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

__all__ = ["write_all"]

_INK, _SOFT, _FILL, _WARM = "#37474f", "#90a4ae", "#cfd8dc", "#ef6c00"


def _svg(width: int, height: int, *shapes: str) -> str:
    style = "font: 13px sans-serif; fill: #37474f"
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n<g style="{style}">\n{body}\n</g>\n</svg>\n'
    )


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _line(points: np.ndarray, colour: str = _INK, width: float = 1.0) -> str:
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _box(x: float, y: float, w: float, h: float, fill: str = "none", stroke: str = _INK) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="{fill}" stroke="{stroke}"/>'


def _dot(x: float, y: float, radius: float = 4.0, fill: str = _WARM) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}"/>'


def contract(points: np.ndarray) -> np.ndarray:
    """Return MERF's contraction of points (..., 2) into the square of edge 4."""
    size = np.abs(points).max(-1, keepdims=True)
    scaled = points / np.maximum(size, 1.0)
    pull = np.where(np.abs(points) == size, 2.0 - 1.0 / np.maximum(size, 1.0), 1.0)
    return np.where(size > 1.0, scaled * pull, points)


def contraction() -> str:
    """A grid of the world, before and after the contraction."""
    shapes = [_text(150, 20, "world", "middle"), _text(470, 20, "contracted", "middle")]
    steps = np.linspace(-8.0, 8.0, 801)
    for at in (-8, -4, -2, -1, -0.5, 0, 0.5, 1, 2, 4, 8):
        for flip in (False, True):
            line = np.stack([np.full_like(steps, at), steps], -1)
            line = line[:, ::-1] if flip else line
            is_edge = abs(at) == 1
            colour = _WARM if is_edge else _SOFT
            shapes.append(_line(np.array([150, 160]) + 15.0 * line[[0, -1]], colour))
            shapes.append(_line(np.array([470, 160]) + 62.0 * contract(line), colour))
    for centre, unit in ((150, 15.0), (470, 62.0)):
        shapes.append(_box(centre - unit, 160 - unit, 2 * unit, 2 * unit, stroke=_WARM))
    shapes.append(_box(470 - 124, 160 - 124, 248, 248))
    return _svg(620, 300, *shapes)


def partition() -> str:
    """Cameras, the cells that hold them, and the submodel that a camera is rendered by."""
    rng = np.random.default_rng(4)
    left, top, edge, count = 40.0, 30.0, 80.0, 3
    walk = np.stack([np.linspace(0.1, 2.7, 26), 0.5 + 0.9 * np.linspace(0, 1.6, 26) ** 1.3], -1)
    cameras = np.clip(walk + 0.08 * rng.standard_normal(walk.shape), 0.05, 2.95)
    cells = {(int(x), int(y)) for x, y in cameras}
    shapes = []
    for i in range(count):
        for j in range(count):
            fill = _FILL if (i, j) in cells else "none"
            shapes.append(_box(left + i * edge, top + j * edge, edge, edge, fill, _SOFT))
    shapes += [_dot(left + edge * x, top + edge * y, 3.0) for x, y in cameras]
    for i, words in enumerate(
        (
            "dots: cameras",
            "grey cells: one submodel each; every submodel shows the",
            "whole scene and is sharpest inside its own cell",
            "white cells: no camera, no submodel",
        )
    ):
        shapes.append(_text(310, 70 + 24 * i, words))
    return _svg(740, 290, *shapes)


def lattice() -> str:
    """A submodel's cell with the appearance networks at its corners, and their weights at a camera."""
    left, top, edge = 50.0, 30.0, 200.0
    x, y = 0.3, 0.65
    shapes = [_box(left, top, edge, edge, _FILL, _SOFT)]
    for i, weight_x in ((0, 1 - x), (1, x)):
        for j, weight_y in ((0, 1 - y), (1, y)):
            corner = left + i * edge, top + j * edge
            shapes.append(_line(np.array([corner, (left + x * edge, top + y * edge)]), _SOFT))
            shapes.append(_dot(*corner, 3.0 + 14.0 * weight_x * weight_y, _INK))
            offset = -10 if i == 0 else 10
            shapes.append(
                _text(
                    corner[0] + offset,
                    corner[1] + 24,
                    f"{weight_x * weight_y:.2f}",
                    "end" if i == 0 else "start",
                )
            )
    shapes.append(_dot(left + x * edge, top + y * edge))
    for i, words in enumerate(
        (
            "corners: one small network each",
            "dot: the camera",
            "numbers: what each network's weights count,",
            "trilinear in the camera's position",
        )
    ):
        shapes.append(_text(330, 80 + 24 * i, words))
    return _svg(740, 280, *shapes)


def gate() -> str:
    """How the sparse grid's gate fades what the three planes add."""
    shapes = []
    rows = (("sparse grid", 0), ("gate w", 1), ("planes P", 2), ("grid + w P", 3))
    x = np.linspace(0.0, 1.0, 301)
    grid = 0.25 * np.exp(-(((x - 0.35) / 0.16) ** 2)) + 0.2 * np.exp(-(((x - 0.72) / 0.1) ** 2))
    opening = 1.0 / (1.0 + np.exp(-(0.12 - np.abs(x - 0.35)) * 60.0))
    planes = 0.12 * np.sin(46.0 * x) * (1.0 + 0.3 * np.sin(9.0 * x))
    for name, row in rows:
        values = (grid, 0.5 * opening, planes, grid + opening * planes)[row]
        base = 62.0 + 64.0 * row
        shapes.append(_text(20, base, name))
        line = np.stack([130 + 480 * x, base - 80 * values], -1)
        shapes.append(_line(line, _WARM if row == 3 else _INK, 1.6))
        shapes.append(_line(np.array([[130, base], [610, base]]), _FILL))
    return _svg(640, 290, *shapes)


FIGURES: dict[str, Callable[[], str]] = {
    "contraction": contraction,
    "partition": partition,
    "lattice": lattice,
    "gate": gate,
}


def write_all(folder: Path) -> list[Path]:
    """Write every figure that changed; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, make in FIGURES.items():
        path, text = folder / f"{name}.svg", make()
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write_all(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")):
        print(written)
