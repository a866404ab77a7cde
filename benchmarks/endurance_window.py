"""The window's part of ``benchmarks.endurance``, in a process of its own whose memory is the window's.

    python -m benchmarks.endurance_window SCENE FRAMES PER_SAMPLE MEMORY_BYTES

Prints a line of JSON at the beginning and every PER_SAMPLE frames.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.display import virtual_display
from benchmarks.endurance_walk import SECONDS_PER_FRAME, SIZE, actions, places, resident_bytes
from smerf.export.desktop import desktop_viewer
from smerf.scene import load_scene

__all__ = ["WindowVisitor", "walk_window"]

_FOV = 60.0
_ARROWS = {"ArrowLeft": "LEFT", "ArrowRight": "RIGHT", "ArrowUp": "UP", "ArrowDown": "DOWN"}
_MODES = {"orbit": "1", "fly": "2", "walk": "3"}


class WindowVisitor:
    """Somebody at a window whose clock goes by frames."""

    def __init__(self, window: Any) -> None:
        self.window, self.glfw = window, window.glfw
        self.now = time.monotonic()
        self.view = desktop_viewer("path").View
        self.places = places(window.viewer.scene.params)

    def wait(self, frames: int) -> None:
        """Let frames pass."""
        for _ in range(frames):
            self.now += SECONDS_PER_FRAME
            self.glfw.poll_events()
            self.window.step(self.now)

    def settle(self) -> None:
        """Let frames pass until the picture is finished."""
        while not self.window.viewer.is_finished:
            self.wait(1)

    def press(self, name: str) -> None:
        """Press and release a key."""
        key = getattr(self.glfw, f"KEY_{name}")
        self.window.on_key(key, self.glfw.PRESS, 0)
        self.window.on_key(key, self.glfw.RELEASE, 0)

    def act(self, kind: str, value: Any, frames: int) -> None:
        """Do one thing of ``actions``."""
        window, glfw = self.window, self.glfw
        keys = []
        if kind == "keys":
            keys = [getattr(glfw, f"KEY_{_ARROWS.get(key, key.upper())}") for key in value]
            for key in keys:
                window.on_key(key, glfw.PRESS, 0)
        elif kind == "drag":
            window.on_button(glfw.MOUSE_BUTTON_LEFT, glfw.PRESS, 0)
            window.on_pointer(value[0], value[1])
            window.on_pointer(value[2], value[3])
            window.on_button(glfw.MOUSE_BUTTON_LEFT, glfw.RELEASE, 0)
        elif kind == "wheel":
            window.viewer.controls.dolly(0.15 * value)
        elif kind == "mode":
            self.press(_MODES[value])
        elif kind == "jump":
            window.viewer.show(self.view(self.places[value][:3], _FOV))
        elif kind == "photo":
            self.press("RIGHT_BRACKET")
        elif kind == "objects":
            for name in ("O", "PAGE_DOWN", "H", "I", "O"):
                self.press(name)
        elif kind == "resize":
            glfw.set_window_size(window.window, *value)
        self.wait(frames)
        for key in keys:
            window.on_key(key, glfw.RELEASE, 0)

    def sample(self) -> dict[str, float]:
        """Return what the window holds now, after a collection of garbage."""
        gc.collect()
        streamer = self.window.viewer.streamer
        return {
            "window_bytes": resident_bytes(),
            "texture_bytes": streamer.nbytes,
            "python_objects": len(gc.get_objects()),
        }


def walk_window(scene: Path, frames: int, per_sample: int, memory_bytes: int) -> Iterator[dict[str, float]]:
    """Walk for a number of frames; yield a sample at the beginning and every ``per_sample`` frames."""
    with desktop_viewer("window").Window(load_scene(scene), size=SIZE, ceiling_bytes=memory_bytes) as window:
        visitor = WindowVisitor(window)
        visitor.settle()
        yield visitor.sample() | {"frames": 0}
        done, due = 0, per_sample
        for kind, value, count in actions():
            visitor.act(kind, value, count)
            done += count
            if done >= due:
                window.viewer.show(visitor.view(visitor.places[0][:3], _FOV))
                visitor.settle()
                yield visitor.sample() | {"frames": done}
                due += per_sample
            if done >= frames:
                break


def main() -> None:
    scene, *numbers = sys.argv[1:]
    with virtual_display():
        for sample in walk_window(Path(scene), *map(int, numbers)):
            print(json.dumps(sample), flush=True)


if __name__ == "__main__":
    main()
