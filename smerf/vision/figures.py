"""Figures made of capsules in any posed photo with depth: where it shows one, and in which colour.

Metres or any other unit, z up. Ray and capsule meet in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Capsule", "ball", "dog", "draw", "person"]

_LIGHT = np.array([0.4, -0.3, 0.87])
_SKIN = np.array([0.78, 0.58, 0.46])


@dataclass(frozen=True)
class Capsule:
    """A round bar from ``start`` to ``end`` (3,); ``waves`` (4,) are the frequencies along it and across it (3) of a
    pattern that makes its colour darker and brighter by ``contrast``.
    """

    start: np.ndarray
    end: np.ndarray
    radius: float
    colour: np.ndarray
    waves: np.ndarray | None = None
    contrast: float = 0.3

    def meet(self, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how far along ``rays`` (N, 3), in their lengths, it lies (inf: it is missed), the normals (N, 3), and
        at which share of its length (N,).
        """
        axis, offset = self.end - self.start, origin - self.start
        aa, along, oa = max(axis @ axis, 1e-12), rays @ axis, offset @ axis
        found = np.full(len(rays), np.inf)
        squares = (rays**2).sum(1)
        for centre in (self.start, self.end):  # the round ends
            to = origin - centre
            b, c = rays @ to, to @ to - self.radius**2
            root = b * b - squares * c
            t = np.where(root > 0, (-b - np.sqrt(root.clip(0))) / squares, np.inf)
            found = np.minimum(found, np.where(t > 0, t, np.inf))
        a = aa * squares - along**2
        b = aa * (rays @ offset) - oa * along
        c = aa * (offset @ offset) - oa * oa - self.radius**2 * aa
        root = b * b - a * c
        t = np.where((root > 0) & (a > 1e-12), (-b - np.sqrt(root.clip(0))) / a.clip(1e-12), np.inf)
        level = oa + np.where(np.isfinite(t), t, 0.0) * along
        found = np.minimum(found, np.where((t > 0) & (level > 0) & (level < aa), t, np.inf))
        points = origin + np.where(np.isfinite(found), found, 0.0)[:, None] * rays
        share = (((points - self.start) @ axis) / aa).clip(0, 1)
        return found, (points - self.start - share[:, None] * axis) / self.radius, share

    def near(self, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Return which rays (N, 3) pass the ball around it, bool (N,)."""
        middle = 0.5 * (self.start + self.end) - origin
        along, reach = rays @ middle, 0.5 * np.linalg.norm(self.end - self.start) + self.radius
        outside = middle @ middle - reach**2
        passed: np.ndarray = (outside <= 0.0) | ((along > 0.0) & (outside * (rays**2).sum(1) < along**2))
        return passed

    def shade(self, normal: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Return colours (N, 3) at normals (N, 3) and shares of its length (N,)."""
        light = 0.55 + 0.45 * (normal @ _LIGHT).clip(0)
        if self.waves is not None:
            light = light * (1.0 + self.contrast * np.sin(self.waves[0] * share + normal @ self.waves[1:]))
        shaded: np.ndarray = self.colour * light[:, None]
        return shaded


def draw(
    figures: Sequence[Sequence[Capsule]], origin: np.ndarray, rays: np.ndarray, behind: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw figures in a photo where they are nearer than what it shows.

    Args:
        figures: Each of capsules.
        origin: Where the camera stands, (3,).
        rays: One a pixel, (H, W, 3).
        behind: How far along its ray each pixel's surface lies, (H, W); inf for none.

    Returns:
        Colours (H, W, 3), and the number of the figure that a pixel shows or -1, int64 (H, W).
    """
    nearest, flat = behind.reshape(-1).astype(float), rays.reshape(-1, 3)
    colour, number = np.zeros((len(flat), 3)), np.full(len(flat), -1)
    for index, capsules in enumerate(figures):
        for capsule in capsules:
            some = np.flatnonzero(capsule.near(origin, flat))
            t, normal, share = capsule.meet(origin, flat[some])
            closer = t < nearest[some]
            hit = some[closer]
            nearest[hit], number[hit] = t[closer], index
            colour[hit] = capsule.shade(normal[closer], share[closer])
    return colour.reshape(rays.shape), number.reshape(behind.shape)


def person(
    foot: np.ndarray, heading: float, stride: float, height: float, clothes: np.ndarray
) -> list[Capsule]:
    """Return a person of a height who stands at ``foot`` (3,) and walks along ``heading`` (radians).

    ``stride`` is the phase of the steps in radians, ``clothes`` (2, 3) the colours above and below.
    """
    at = _places(foot, heading, height)
    swing = 0.16 * np.sin(stride)
    parts = [
        (at(0, 0, 0.54), at(0.01, 0, 0.78), 0.105, clothes[0]),
        (at(0, 0, 0.91), at(0, 0, 0.93), 0.07, _SKIN),
    ]
    for sign in (1.0, -1.0):
        forward = sign * swing
        parts.append((at(0, 0.06 * sign, 0.5), at(forward, 0.06 * sign, 0.05), 0.052, clothes[1]))
        parts.append((at(0, 0.14 * sign, 0.78), at(-forward, 0.16 * sign, 0.46), 0.036, clothes[0]))
    return [Capsule(start, end, height * radius, colour) for start, end, radius, colour in parts]


def dog(foot: np.ndarray, heading: float, stride: float, height: float, fur: np.ndarray) -> list[Capsule]:
    """Return a dog whose head is at a height; the rest as for ``person``, with one colour (3,)."""
    at = _places(foot, heading, height)
    parts = [
        (at(-0.55, 0, 0.62), at(0.45, 0, 0.65), 0.17),
        (at(0.5, 0, 0.72), at(0.75, 0, 0.9), 0.12),
        (at(-0.6, 0, 0.7), at(-0.8, 0, 0.95), 0.05),
    ]
    for sign in (1.0, -1.0):
        swing = 0.2 * sign * np.sin(stride)
        parts.append((at(0.4, 0.1 * sign, 0.55), at(0.4 + swing, 0.1 * sign, 0.06), 0.06))
        parts.append((at(-0.5, 0.1 * sign, 0.55), at(-0.5 - swing, 0.1 * sign, 0.06), 0.07))
    return [Capsule(start, end, height * radius, fur) for start, end, radius in parts]


def ball(foot: np.ndarray, heading: float, stride: float, height: float, colour: np.ndarray) -> list[Capsule]:
    """Return a ball that lies at ``foot``; the rest as for ``dog``."""
    centre = _places(foot, heading, height)(0, 0, 0.5)
    return [Capsule(centre, centre, 0.5 * height, colour)]


def _places(foot: np.ndarray, heading: float, height: float) -> Callable[[float, float, float], np.ndarray]:
    """Return what gives a figure's places by how far they are forward, to its left and up, in its heights."""
    ahead, up = np.array([np.cos(heading), np.sin(heading), 0.0]), np.array([0.0, 0.0, 1.0])
    side = np.cross(up, ahead)
    return lambda forward, left, high: foot + height * (forward * ahead + left * side + high * up)
