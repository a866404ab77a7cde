"""Drawing things: parts with random surfaces, collected for a description that ``smerf synth`` renders."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smerf.capture.synth.describe import Material, ObjectSpec, Part, Rgb, Texture

__all__ = ["Maker", "Thing"]

Triple = tuple[float, float, float]

_HUES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "wood": ((0.04, 0.11), (0.2, 0.7), (0.15, 0.8)),
    "leaf": ((0.2, 0.4), (0.3, 0.8), (0.15, 0.6)),
    "bark": ((0.03, 0.1), (0.2, 0.5), (0.12, 0.4)),
    "stone": ((0.0, 0.15), (0.0, 0.25), (0.25, 0.8)),
    "metal": ((0.0, 1.0), (0.0, 0.15), (0.2, 0.9)),
    "dark": ((0.0, 1.0), (0.0, 0.2), (0.01, 0.12)),
    "pale": ((0.0, 1.0), (0.0, 0.2), (0.6, 0.95)),
    "soil": ((0.03, 0.1), (0.3, 0.6), (0.05, 0.2)),
    "any": ((0.0, 1.0), (0.0, 0.9), (0.1, 0.95)),
    "vivid": ((0.0, 1.0), (0.5, 0.95), (0.3, 0.95)),
}
"""Ranges of hue, saturation and value by kind of surface."""
_PATTERNS = {
    "wood": ("wood", "wood", "planks", "plain"),
    "leaf": ("noise", "noise", "stripes"),
    "bark": ("noise", "wood"),
    "stone": ("noise", "marble", "plain"),
    "any": ("plain", "noise", "stripes", "checker", "woven", "marble", "bands"),
    "vivid": ("plain", "noise", "stripes", "checker", "marble", "rings"),
}


@dataclass(frozen=True)
class Thing:
    """What was drawn: its word, parts, the box (x, y, z) that it fills standing on z = 0, its back towards +y.

    ``top`` is the half width, half depth and height of a surface that carries other things, if it has one.
    """

    word: str
    parts: tuple[Part, ...]
    size: Triple
    top: Triple | None = None

    def placed(self, at: Sequence[float], turn: float = 0.0, name: str | None = None) -> ObjectSpec:
        """Return the object that stands at (x, y, z), turned about z by degrees."""
        x, y, z = map(float, at)
        return ObjectSpec(name or self.word, self.parts, (x, y, z), turn=turn)


@dataclass
class Maker:
    """Collects parts and materials; ``rng`` decides everything."""

    rng: np.random.Generator
    materials: dict[str, Material] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    def of(self, low: float, high: float) -> float:
        """Return a number between two."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        """Return true in a share of all cases."""
        return bool(self.rng.random() < share)

    def pick(self, *choices: Any) -> Any:
        """Return one of the choices."""
        return choices[int(self.rng.integers(len(choices)))]

    def take(self, word: str, size: Triple, top: Triple | None = None) -> Thing:
        """Return what was drawn since the last call."""
        thing = Thing(word, tuple(self.parts), size, top)
        self.parts = []
        return thing

    def colour(self, kind: str) -> Rgb:
        """Return a linear colour of a kind of surface."""
        hue, saturation, value = (self.of(*ends) for ends in _HUES.get(kind, _HUES["any"]))
        red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
        return (red**2.2, green**2.2, blue**2.2)

    def like(self, colour: Rgb, low: float, high: float) -> Rgb:
        """Return a colour whose channels are each a number of times brighter."""
        red, green, blue = (float(np.clip(each * self.of(low, high), 0.0, 1.0)) for each in colour)
        return (red, green, blue)

    def paint(self, kind: str = "any", glow: float = 0.0, pattern: str | None = None) -> str:
        """Add a material and return its name."""
        chosen = pattern or self.pick(*_PATTERNS.get(kind, ("plain", "noise")))
        first = self.colour(kind)
        near = self.like(first, 0.5, 1.6)
        others = [near, self.colour(kind) if self.chance(0.5) else near]
        if chosen in ("painting", "carpet", "bands"):
            others += [self.colour("any"), self.colour("any")]
        texture = Texture(
            kind=chosen, colors=(first, *others), scale=self.of(0.01, 0.2), grain=self.of(0.0, 0.2),
            grain_scale=self.of(0.005, 0.05),
        )  # fmt: skip
        is_glossy = self.chance(0.6 if kind in ("metal", "dark") else 0.35)
        name = f"m{len(self.materials)}"
        self.materials[name] = Material(
            texture, self.of(0.1, 0.6), self.of(0.02, 0.06) if is_glossy else 0.0, emission=glow
        )
        return name

    def add(
        self,
        kind: str,
        paint: str,
        at: Triple = (0.0, 0.0, 0.0),
        rotate: Triple = (0.0, 0.0, 0.0),
        **shape: Any,
    ) -> None:
        """Add a shape of ``smerf.capture.synth.shapes``."""
        self.parts.append(Part({"kind": kind, **shape}, paint, at, rotate))

    def box(self, size: Triple, paint: str, at: Triple = (0.0, 0.0, 0.0), **more: Any) -> None:
        """Add a box that stands at a place."""
        self.add("box", paint, at, size=size, cell=max(0.08, max(size) / 4), **more)

    def soft(self, size: Triple, paint: str, at: Triple = (0.0, 0.0, 0.0), **more: Any) -> None:
        """Add a cushion that stands at a place."""
        self.add("cushion", paint, at, size=size, cell=max(size) / 5, roundness=self.of(0.15, 0.5), **more)

    def rod(
        self, radius: float, height: float, paint: str, at: Triple = (0.0, 0.0, 0.0), **more: Any
    ) -> None:
        """Add an upright cylinder, or a cone with ``top``."""
        self.add(
            "cylinder", paint, at, radius=radius, height=height, cell=max(0.05, height / 4),
            segments=12 if radius < 0.1 else 20, **more,
        )  # fmt: skip

    def turned(
        self, profile: Sequence[tuple[float, float]], paint: str, at: Triple = (0.0, 0.0, 0.0)
    ) -> None:
        """Add a surface of revolution; see ``shapes.lathe``."""
        reach = max(max(radius, height) for radius, height in profile)
        self.add("lathe", paint, at, profile=[list(each) for each in profile], cell=reach / 6, segments=18)

    def legs(self, x: float, y: float, height: float, paint: str) -> None:
        """Add four legs at the corners of a rectangle (x, y)."""
        thick = self.of(0.02, 0.07)
        is_round, inset = self.chance(0.5), self.of(0.0, 0.06)
        for side_x in (-1, 1):
            for side_y in (-1, 1):
                at = (side_x * (x / 2 - thick / 2 - inset), side_y * (y / 2 - thick / 2 - inset), 0.0)
                if is_round:
                    self.rod(thick / 2, height, paint, at)
                else:
                    self.box((thick, thick, height), paint, at)
