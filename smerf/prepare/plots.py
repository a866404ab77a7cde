"""Two drawings of a prepared capture as SVG: the map of its cameras and points, and its residuals."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

__all__ = ["draw_map", "draw_residuals"]

_SIZE, _MARGIN, _GAP = 480, 24, 40
_MAX_POINTS = 4000
_MIN_POINTS = 30
_FONT = 'font-family="system-ui, sans-serif" font-size="12" fill="#5c6370"'


def draw_map(poses: np.ndarray, points: np.ndarray, names: Sequence[str], *, is_metric: bool) -> str:
    """Draw cameras over the sparse points, from above and from the side.

    Args:
        poses: Camera-to-world (N, 3, 4), OpenGL axes, z up, in capture order.
        points: Sparse points (P, 3).
        names: Of the photos (N).
        is_metric: Whether the unit is the metre: a scale bar is drawn.
    """
    shown = (
        points[np.linspace(0, len(points) - 1, min(len(points), _MAX_POINTS)).astype(int)]
        if len(points)
        else points
    )
    low, high = _extent(poses[:, :, 3], points)
    scale = (_SIZE - 2 * _MARGIN) / max(float((high - low).max()), 1e-9)
    parts = []
    for view, (axes, title) in enumerate((((0, 1), "from above"), ((0, 2), "from the side"))):
        left = view * (_SIZE + _GAP)
        parts.append(f'<text x="{left + 4}" y="14" {_FONT}>{title}</text>')
        parts.append(_view(poses, shown, names, axes, low, high, scale, left))
    if is_metric:
        parts.append(_scale_bar(scale))
    clip = "".join(
        f'<clipPath id="v{view}"><rect x="{view * (_SIZE + _GAP)}" y="0" width="{_SIZE}" height="{_SIZE}"/></clipPath>'
        for view in (0, 1)
    )
    return _svg(2 * _SIZE + _GAP, _SIZE, f"<defs>{clip}</defs>{''.join(parts)}")


def _extent(centres: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = centres.min(axis=0), centres.max(axis=0)
    if len(points):
        low = np.minimum(low, np.percentile(points, 2, axis=0))
        high = np.maximum(high, np.percentile(points, 98, axis=0))
    return low, high


def _view(
    poses: np.ndarray,
    points: np.ndarray,
    names: Sequence[str],
    axes: tuple[int, int],
    low: np.ndarray,
    high: np.ndarray,
    scale: float,
    left: int,
) -> str:
    middle = ((low + high) / 2)[list(axes)]

    def place(positions: np.ndarray) -> np.ndarray:
        flat = (positions[..., list(axes)] - middle) * scale
        return flat * (1, -1) + (left + _SIZE / 2, _SIZE / 2)

    dots = "".join(f"M{x:.1f} {y:.1f}h1" for x, y in place(points)) if len(points) else ""
    parts = [f'<path d="{dots}" stroke="#9aa3b2" stroke-width="1.2" fill="none"/>'] if dots else []
    centres = place(poses[:, :, 3])
    forward = -poses[:, :, 2][:, list(axes)] * (1, -1) * 14
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in centres)
    parts.append(f'<polyline points="{path}" fill="none" stroke="#c4c9d2" stroke-width="1"/>')
    for index, ((x, y), (dx, dy)) in enumerate(zip(centres, forward)):
        colour = _colour(index / max(len(centres) - 1, 1))
        parts.append(
            f'<g stroke="{colour}" fill="{colour}"><title>{names[index]}</title>'
            f'<path d="M{x:.1f} {y:.1f}l{dx:.1f} {dy:.1f}" stroke-width="1.5"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/></g>'
        )
    return f'<g clip-path="url(#v{left // _SIZE})">{"".join(parts)}</g>'


def _colour(fraction: float) -> str:
    red, green, blue = colorsys.hls_to_rgb(0.66 * (1 - fraction), 0.45, 0.75)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _scale_bar(scale: float) -> str:
    metres = 10.0 ** np.floor(np.log10(_SIZE / 3 / scale))
    metres *= next((factor for factor in (5, 2) if metres * factor * scale < _SIZE / 3), 1)
    width, y = metres * scale, _SIZE - 10
    return (
        f'<path d="M10 {y}h{width:.1f}" stroke="#5c6370" stroke-width="2"/>'
        f'<text x="10" y="{y - 6}" {_FONT}>{metres:g} m</text>'
    )


def draw_residuals(errors: np.ndarray, points: np.ndarray) -> str:
    """Draw a histogram of reprojection errors (P) in pixels, and the points of each photo (N) in order."""
    counts = np.histogram(np.clip(errors, 0, 2), bins=40, range=(0, 2))[0]
    left = _bars(counts, 0, "points by reprojection error, 0 to 2 pixels", None)
    right = _bars(points, _SIZE + _GAP, "points of each photo, in order; line: 30", _MIN_POINTS)
    return _svg(2 * _SIZE + _GAP, 200, left + right)


def _bars(values: np.ndarray, left: int, title: str, line: int | None) -> str:
    top, height = 24, 170
    largest, width = max(int(values.max(initial=1)), 1), _SIZE / max(len(values), 1)
    bars = "".join(
        f"M{left + index * width:.1f} {top + height}v{-height * float(value) / largest:.1f}h{0.85 * width:.2f}"
        f"V{top + height}z"
        for index, value in enumerate(values)
    )
    mark = ""
    if line is not None:
        y = top + height * (1 - min(line / largest, 1))
        mark = f'<path d="M{left} {y:.1f}h{_SIZE}" stroke="#b00020" stroke-dasharray="4 3"/>'
    label = f'<text x="{left + 4}" y="14" {_FONT}>{title} (highest bar: {largest})</text>'
    return f'{label}<path d="{bars}" fill="#1f5fbf"/>{mark}'


def _svg(width: int, height: int, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img">{body}</svg>\n'
    )
