"""Orbit, walk and fly with six degrees of freedom, as the web page does: the same keys, speeds and damping, plus roll.

Nothing here knows of windows: events come as method calls, keys as names (``W``, ``UP``, ``SHIFT``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .camera import Heading, normalise
from .visitor import Visitor

__all__ = ["HELD_KEYS", "Controls"]

DAMPING_SECONDS = 0.07
RADIANS_PER_PIXEL = 0.005
UNITS_PER_SECOND = 0.4
RADIANS_PER_SECOND = 1.2
FAST, SLOW = 4.0, 0.25
MAX_PITCH = math.pi / 2 - 0.01
DEAD_ZONE = 0.1

_MOVES = {"W": (0, 0, 1), "S": (0, 0, -1), "A": (-1, 0, 0), "D": (1, 0, 0), "Q": (0, -1, 0), "E": (0, 1, 0)}
_ARROWS = {"UP": (0, 1), "DOWN": (0, -1), "LEFT": (-1, 0), "RIGHT": (1, 0)}
_ROLLS = {"Z": 1.0, "X": -1.0}
_EASED = ("yaw", "pitch", "roll", "distance")
HELD_KEYS = frozenset([*_MOVES, *_ARROWS, *_ROLLS, "SHIFT", "ALT"])
"""Keys that act for as long as they are held."""


@dataclass
class _State:
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    distance: float = 1.0
    anchor: np.ndarray = field(default_factory=lambda: np.zeros(3))


class Controls:
    """A camera that people move.

    Args:
        depth_at: Distance in world units seen at a point of the picture (fractions from the upper left), or
            ``None``.
        fov: The vertical field of view of the moment, degrees.
        interrupt: Called when the user begins to move, so that a path stops.
        up: Up axis, training axes.
        visitor: Holds the camera where photos are, and walks.
    """

    def __init__(
        self,
        depth_at: Callable[[float, float], float | None] = lambda u, v: None,
        fov: Callable[[], float] = lambda: 40.0,
        interrupt: Callable[[], None] = lambda: None,
        up: tuple[float, float, float] = (0.0, 0.0, 1.0),
        mode: str = "orbit",
        visitor: Visitor | None = None,
    ) -> None:
        self.heading = Heading(up)
        self.depth_at, self.fov, self.interrupt = depth_at, fov, interrupt
        self.mode, self.visitor = mode, visitor
        self._good: _State | None = None
        self._step = np.zeros(3)
        self.keys: set[str] = set()
        self._is_target_known = False
        self._is_rolled = False
        self._exact: np.ndarray | None = None
        self._goal = _State()
        self._now = replace(self._goal)

    @property
    def pose(self) -> np.ndarray:
        """Camera-to-world (3, 4) of the moment."""
        if self._exact is not None:
            return self._exact.copy()
        now = self._now
        return self.heading.pose(now.yaw, now.pitch, now.roll, self._origin(now))

    @property
    def distance(self) -> float:
        """Distance of the point that the camera turns around."""
        return self._goal.distance

    @property
    def is_moving(self) -> bool:
        """Whether the camera has not yet come to where the user wants it."""
        now, goal = self._now, self._goal
        if self.visitor is not None and (self.visitor.is_busy or self._step.any()):
            return True
        is_there = all(abs(getattr(now, name) - getattr(goal, name)) <= 1e-5 for name in _EASED)
        return not is_there or bool(np.linalg.norm(now.anchor - goal.anchor) >= 1e-6)

    def set_pose(self, pose: np.ndarray, target: np.ndarray | None = None) -> None:
        """Take a camera as it is, roll included; it is drawn exactly until the user moves."""
        pose = np.array(pose, np.float64)[:3]
        self._exact = pose
        self._leave()
        self._is_target_known, self._is_rolled = target is not None, False
        distance = self._goal.distance
        if target is not None:
            distance = max(1e-3, float(np.linalg.norm(np.asarray(target) - pose[:, 3])))
        self._goal = _State(*self.heading.of_pose(pose), distance)
        self._anchor_at(pose[:, 3])
        self._now = replace(self._goal)

    def set_mode(self, mode: str) -> None:
        """Change between ``orbit``, ``walk`` and ``fly`` without moving the camera."""
        if mode == self.mode:
            return
        origin = self._origin(self._now)
        self.mode = mode
        self._leave()
        self._goal = replace(self._now)
        self._anchor_at(origin)
        self._now = replace(self._goal)

    def update(self, dt: float) -> bool:
        """Advance by ``dt`` seconds; say whether the camera changed."""
        if self.keys - {"SHIFT", "ALT"}:
            self._apply_keys(min(dt, 0.1))
        if not self.is_moving:
            return False
        self._walk_on(min(dt, 0.1))
        now, goal = self._now, self._goal
        t = 1.0 - math.exp(-dt / DAMPING_SECONDS)
        for name in _EASED:
            setattr(now, name, getattr(now, name) + (getattr(goal, name) - getattr(now, name)) * t)
        now.anchor = now.anchor + (goal.anchor - now.anchor) * t
        self._exact = None
        self._stay(dt)
        return True

    @property
    def _is_inside(self) -> bool:
        """Whether the anchor is the eye; in orbit mode it is what the eye looks at."""
        return self.mode != "orbit"

    @property
    def _walks(self) -> bool:
        return self.mode == "walk" and self.visitor is not None and self.visitor.walker is not None

    def _leave(self) -> None:
        """Forget where the visitor was."""
        self._good = None
        if self.visitor is not None:
            self.visitor.end()

    def _walk_on(self, dt: float) -> None:
        """Walk by what the keys and sticks asked for since the last frame."""
        step, self._step = self._step, np.zeros(3)
        if self._walks and self.visitor is not None:
            self._goal.anchor = self.visitor.walk(step, dt)

    def _stay(self, dt: float) -> None:
        """Bring the camera back from where photos support nothing."""
        if self.visitor is None:
            return
        now, goal, good = self._now, self._goal, self._good
        pull = self.visitor.pull(self._origin(now), self.heading.basis(now.yaw, now.pitch, 0.0), dt)
        if not pull:
            self._good = replace(now)
        elif good is not None:
            for name in ("yaw", "pitch", "distance"):
                setattr(goal, name, getattr(goal, name) + (getattr(good, name) - getattr(goal, name)) * pull)
            if self.mode != "walk":
                goal.anchor = goal.anchor + (good.anchor - goal.anchor) * pull
            self.visitor.is_held = True

    def rotate(self, dx: float, dy: float) -> None:
        """Turn with a drag of (dx, dy) pixels to the right and down: the scene follows the pointer."""
        self._turn(dx * RADIANS_PER_PIXEL, dy * RADIANS_PER_PIXEL)

    def pan(self, dx: float, dy: float, height: float) -> None:
        """Shift sideways so that what lies at the orbit distance follows the pointer in a picture of ``height``."""
        self._begin()
        goal = self._goal
        right, up, _ = self.heading.basis(goal.yaw, goal.pitch, goal.roll)
        reach = 2.0 * math.tan(math.radians(0.5 * self.fov())) * goal.distance / max(1.0, height)
        goal.anchor = goal.anchor - right * (dx * reach) + up * (dy * reach)

    def move(self, right: float, up: float, forward: float) -> None:
        """Move in world units along the camera's right and view, and along the up axis."""
        self._begin()
        goal = self._goal
        if self._walks:
            ahead = self.heading.basis(goal.yaw, 0.0, 0.0)
            self._step = self._step + ahead[0] * right + ahead[2] * forward
            return
        axes = self.heading.basis(goal.yaw, goal.pitch, goal.roll)
        upward = axes[1] if self._is_rolled else self.heading.up
        goal.anchor = goal.anchor + axes[0] * right + upward * up + axes[2] * forward

    def dolly(self, amount: float) -> None:
        """Go back (``amount`` > 0) or nearer: the distance scales in orbit mode, the camera moves in fly mode."""
        amount = min(1.0, max(-1.0, amount))
        if self._is_inside:
            self.move(0.0, 0.0, -amount * UNITS_PER_SECOND)
            return
        self._begin()
        self._goal.distance = min(50.0, max(0.02, self._goal.distance * math.exp(amount)))

    def roll(self, radians: float) -> None:
        """Turn about the view; from then on the camera is not levelled when it moves."""
        self._begin()
        self._is_rolled = True
        self._goal.roll += radians

    def level(self) -> None:
        """Stand upright again."""
        self._is_rolled = False
        self._goal.roll = 0.0

    def focus(self, u: float, v: float, ray: np.ndarray) -> None:
        """Make what is seen at (u, v) the centre of attention: orbit around it, or fly half the way to it.

        ``ray`` is the viewing direction at that point, of length one.
        """
        depth = self.depth_at(u, v)
        if depth is None:
            return
        self._begin()
        origin, goal = self._origin(self._now), self._goal
        if self._walks and self.visitor is not None:
            self.visitor.go_to(origin + ray * depth)
            return
        wanted, pitch = self.heading.of_forward(normalise(ray))
        goal.yaw += math.remainder(wanted - goal.yaw, math.tau)
        goal.pitch = min(MAX_PITCH, max(-MAX_PITCH, pitch))
        if self._is_inside:
            goal.anchor = origin + ray * (depth / 2)
        else:
            goal.anchor = origin + ray * depth
            goal.distance = depth

    def gamepad(self, axes: Sequence[float], buttons: Sequence[bool], dt: float) -> bool:
        """Move by a gamepad in GLFW's (SDL's) layout; say whether it was touched.

        The left stick moves, the right one looks, the shoulders roll, A and B go up and down, and the triggers
        slow down (left) and speed up (right).
        """
        sticks = [_without_dead_zone(value) for value in axes[:4]]
        rise = float(buttons[0]) - float(buttons[1])
        roll = float(buttons[5]) - float(buttons[4])
        if not (any(sticks) or rise or roll):
            return False
        slow, fast = (0.5 * (value + 1.0) for value in (axes[4], axes[5]))
        speed = min(dt, 0.1) * SLOW**slow * FAST**fast
        step = self._speed * speed
        if sticks[0] or sticks[1] or rise:
            self.move(sticks[0] * step, rise * step, -sticks[1] * step)
        if sticks[2] or sticks[3]:
            self._begin()
            turn = RADIANS_PER_SECOND * min(dt, 0.1)
            self._goal.yaw -= sticks[2] * turn
            self._goal.pitch = min(MAX_PITCH, max(-MAX_PITCH, self._goal.pitch - sticks[3] * turn))
        if roll:
            self.roll(-roll * RADIANS_PER_SECOND * min(dt, 0.1))
        return True

    def _turn(self, dx: float, dy: float) -> None:
        self._begin()
        goal = self._goal
        # A drag is meant along the picture's axes, which roll turns against the horizon.
        c, s = math.cos(goal.roll), math.sin(goal.roll)
        dx, dy = dx * c + dy * s, dy * c - dx * s
        sign = -1.0 if self._is_inside else 1.0
        goal.yaw -= sign * dx
        goal.pitch = min(MAX_PITCH, max(-MAX_PITCH, goal.pitch - sign * dy))

    def _apply_keys(self, dt: float) -> None:
        speed = dt * (FAST if "SHIFT" in self.keys else 1.0) * (SLOW if "ALT" in self.keys else 1.0)
        step = np.zeros(3)
        for key in self.keys:
            if key in _MOVES:
                step += np.array(_MOVES[key]) * (self._speed * speed)
            elif key in _ROLLS:
                self.roll(_ROLLS[key] * RADIANS_PER_SECOND * dt)
            elif key in _ARROWS:
                x, y = _ARROWS[key]
                if self._is_inside:
                    step += np.array([x, 0.0, y]) * (self._speed * speed)
                else:
                    self._turn(-x * RADIANS_PER_SECOND * dt, y * RADIANS_PER_SECOND * dt)
        if step.any():
            self.move(*step)

    @property
    def _speed(self) -> float:
        return self.visitor.speed if self.visitor is not None and self.mode == "walk" else UNITS_PER_SECOND

    def _begin(self) -> None:
        """The user moves: level the camera, and orbit around what the centre of the picture shows."""
        self.interrupt()
        if not self._is_rolled:
            self._goal.roll = 0.0
        if self.mode == "walk" and self.visitor is not None and self.visitor.walker is None:
            self.visitor.begin(self._origin(self._now))
        if self._is_target_known:
            return
        self._is_target_known = True
        depth = self.depth_at(0.5, 0.5)
        if depth is None:
            return
        origin = self._origin(self._now)
        self._goal.distance = self._now.distance = min(20.0, max(0.05, depth))
        self._anchor_at(origin)
        self._now.anchor = self._goal.anchor

    def _origin(self, state: _State) -> np.ndarray:
        if self._is_inside:
            return state.anchor
        return state.anchor - self.heading.basis(state.yaw, state.pitch, 0.0)[2] * state.distance

    def _anchor_at(self, origin: np.ndarray) -> None:
        goal = self._goal
        forward = self.heading.basis(goal.yaw, goal.pitch, 0.0)[2]
        goal.anchor = np.array(origin) if self._is_inside else origin + forward * goal.distance


def _without_dead_zone(value: float) -> float:
    if abs(value) <= DEAD_ZONE:
        return 0.0
    return math.copysign((abs(value) - DEAD_ZONE) / (1.0 - DEAD_ZONE), value)
