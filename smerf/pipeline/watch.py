"""What ``smerf run --watch`` shows while it trains: pictures of the teacher, then coarse scenes of the student.

A preview only reads the models, between two steps. The first comes soon; the next ones wait until the training has had
twenty times what the last one took, and longer each time. One that fails ends previews and not the training.
"""

from __future__ import annotations

import io
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from smerf.errors import SmerfError
from smerf.export.live import LivePage

if TYPE_CHECKING:
    import numpy as np

    from smerf.capture.types import Camera, Capture
    from smerf.student.model import Student

__all__ = ["Watch"]

_FIRST_STEPS = 50
"""Steps before the first preview."""
_FIRST_SECONDS, _GROWTH = 10.0, 1.5
"""Least time from the first preview to the second, and how much longer it is each time."""
_COST = 20.0
"""Time of training for each second of a preview."""
_PICTURES, _SIDE = 3, 160
"""Pictures of the teacher, and their longest side in pixels."""
_QUALITY = 85
_log = logging.getLogger(__name__)


class Pauses:
    """Says when the next preview is due: after some steps, then after growing pauses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._steps, self._pause, self._next = clock, 0, _FIRST_SECONDS, 0.0

    def step(self, make: Callable[[], None]) -> None:
        """Count a step, and call ``make`` if a preview is due."""
        self._steps += 1
        began = self._clock()
        if self._steps < _FIRST_STEPS or began < self._next:
            return
        make()
        now = self._clock()
        self._next = now + max(self._pause, _COST * (now - began))
        self._pause *= _GROWTH


class Watch:
    """The live page of a run, from ``__enter__`` to ``__exit__``.

    Args:
        run: Folder of the run, made or not.
        host: Address to listen on.
        port: Port; the next free one from there on is taken, 0 for any.

    Raises:
        SmerfError: If no port is free.
    """

    def __init__(self, run: Path, host: str = "127.0.0.1", port: int = 8080) -> None:
        self.page = LivePage(Path(run), host, port)
        self._teacher, self._student, self._works = Pauses(), Pauses(), True

    def __enter__(self) -> Watch:
        """Start serving."""
        self.page.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop serving."""
        self.page.__exit__(*exception)

    def teacher(self, render: Callable[[Camera], np.ndarray], capture: Capture) -> None:
        """After a step of the teacher: show some held-out views, if it is time."""
        self._teacher.step(lambda: self._try(lambda: self.page.show_pictures(_pictures(render, capture))))

    def student(self, snapshot: Callable[[], Student], capture: Capture) -> None:
        """After a step of the student: show a coarse scene of what ``snapshot`` returns, if it is time."""
        self._student.step(lambda: self._try(lambda: self._show(snapshot(), capture)))

    def finish(self) -> None:
        """Show the finished page."""
        self.page.finish()

    def _show(self, student: Student, capture: Capture) -> None:
        folder = self.page.new_folder()
        _export(student, capture, folder)
        self.page.show(folder)

    def _try(self, make: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            make()
        except (SmerfError, OSError, RuntimeError, ValueError, MemoryError) as error:
            # Such as a graphics card or disk that is full: the training needs neither.
            self._works = False
            _log.warning("--watch: no more previews until the finished page: %s", error)


def _pictures(render: Callable[[Camera], np.ndarray], capture: Capture) -> list[bytes]:
    """Render some held-out views, small: JPEG files."""
    import numpy as np
    from PIL import Image

    frames = capture.split("test") or capture.split("train")
    frames = frames[:: max(1, len(frames) // _PICTURES)][:_PICTURES]
    files = []
    for frame in frames:
        image = np.asarray(render(_small(frame.camera)))
        file = io.BytesIO()
        Image.fromarray(np.round(image * 255.0).astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
        files.append(file.getvalue())
    return files


def _small(camera: Camera) -> Camera:
    from smerf.capture.downscale import scale_intrinsics

    lens = camera.intrinsics
    factor = max(1.0, max(lens.width, lens.height) / _SIDE)
    width, height = max(1, round(lens.width / factor)), max(1, round(lens.height / factor))
    scale = width / lens.width, height / lens.height
    return replace(camera, intrinsics=scale_intrinsics(lens, width, height, scale))


def _export(student: Student, capture: Capture, folder: Path) -> None:
    """Bake a student without region and coarse levels, and export its page without photos to ``folder``."""
    from smerf.baking import bake
    from smerf.baking.config import BakeConfig
    from smerf.export.site import export_site

    # Few rays have marked what is occupied: a wider margin closes the gaps.
    baked = folder.with_name(f"{folder.name}-baked")
    bake(student, capture, BakeConfig(dilation=2, coarse_bytes=0, region=False), folder=baked)
    export_site(baked, folder, title="smerf: at work")
    shutil.rmtree(baked)
