"""Submodels on their way from the disk to texture memory.

A thread reads and packs one submodel at a time; the thread of the context uploads it piece by piece. Until a
submodel is complete the one that was drawn before goes on being drawn.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from smerf.errors import SmerfError
from smerf.scene.types import BakedScene, SceneParams

from .submodel import PackedSubmodel, Submodel, pack

__all__ = ["Streamer", "nearest_neighbour"]

REACH = 0.25
"""Submodels nearer than this share of a region's edge are fetched ahead."""


def nearest_neighbour(params: SceneParams, position: np.ndarray, missing: set[int]) -> int | None:
    """Return the submodel of ``missing`` whose region is nearest to ``position``, if it is within ``REACH``."""
    half = 1.0 / params.submodel_grid_resolution
    best, nearest = None, 2.0 * half * REACH
    for k in missing:
        outside = np.maximum(np.abs(position - params.submodel_centre(k)) - half, 0.0)
        distance = float(np.linalg.norm(outside))
        if distance < nearest:
            best, nearest = k, distance
    return best


class Streamer:
    """Keeps the submodels that a camera needs in texture memory, under a ceiling.

    The ceiling holds for all textures together. Only where the submodel being drawn and the one that arrives
    exceed it by themselves do these two stay, until the second is drawn. All methods but the constructor need the
    context.

    Args:
        scene: Where submodels come from.
        ceiling_bytes: Texture memory that may be used.
    """

    def __init__(self, scene: BakedScene, ceiling_bytes: int) -> None:
        self.scene = scene
        self.ceiling_bytes = ceiling_bytes
        self.resident: OrderedDict[int, Submodel] = OrderedDict()
        """Complete submodels, the one used last at the end."""
        self.peak_bytes = 0
        self.error: str | None = None
        self._has_news = False
        # Failed, or read ahead and found too large: not asked for again until the camera moves into another region.
        self._refused: set[int] = set()
        self._wanted: int | None = None
        self._shown: int | None = None
        self._loading: int | None = None
        self._incoming: tuple[Submodel, Iterator[int]] | None = None
        self._requests: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[int, PackedSubmodel | Exception]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="smerf-submodels", daemon=True)
        self._thread.start()

    @property
    def nbytes(self) -> int:
        """Texture bytes in use, with those of a submodel that is being uploaded."""
        arriving = self._incoming[0].nbytes if self._incoming else 0
        return sum(submodel.nbytes for submodel in self.resident.values()) + arriving

    @property
    def is_loading(self) -> bool:
        """Whether anything is on its way."""
        return self._loading is not None

    @property
    def is_wanted_shown(self) -> bool:
        """Whether the submodel that the camera asks for is the one being drawn."""
        return self._shown is not None and self._shown == self._wanted

    def submodel_for(self, position: np.ndarray) -> Submodel | None:
        """Return what to draw a camera at ``position`` (training axes) with, and fetch what it lacks."""
        wanted = self.scene.params.choose_submodel(position)
        if wanted != self._wanted:
            self._wanted, self.error = wanted, None
            self._refused.discard(wanted)
        if wanted in self.resident:
            self.resident.move_to_end(wanted)
            self._shown = wanted
            self._make_room(0)
        if self._loading is None:
            if wanted not in self.resident:
                if wanted not in self._refused:
                    self._request(wanted)
            else:
                self._fetch_ahead(position)
        return self.resident.get(self._shown) if self._shown is not None else None

    def poll(self, seconds: float = 0.004) -> bool:
        """Upload for at most about ``seconds``; say whether a submodel became complete or failed."""
        if self._incoming is None:
            self._accept()
        if self._incoming is None:
            news, self._has_news = self._has_news, False
            return news
        submodel, pieces = self._incoming
        end = time.perf_counter() + seconds
        for _ in pieces:
            if time.perf_counter() >= end:
                return False
        self.resident[submodel.k] = submodel
        # What is drawn counts as used last, so that fetching ahead cannot evict it.
        if self._shown in self.resident:
            self.resident.move_to_end(self._shown)
        self._incoming, self._loading = None, None
        return True

    def close(self) -> None:
        """End the thread and free the textures."""
        self._requests.put(None)
        self._thread.join(timeout=10.0)
        if self._incoming is not None:
            self._incoming[0].free()
            self._incoming = None
        for submodel in self.resident.values():
            submodel.free()
        self.resident.clear()

    def _request(self, k: int) -> None:
        self._loading = k
        self._requests.put(k)

    def _work(self) -> None:
        while (k := self._requests.get()) is not None:
            try:
                # Not scene.submodel, whose cache would keep the arrays a second time.
                self._answers.put((k, pack(k, self.scene.load(k))))
            except Exception as error:
                self._answers.put((k, error))

    def _accept(self) -> None:
        """Begin the upload of what the thread has finished, if it is still of use."""
        try:
            k, answer = self._answers.get_nowait()
        except queue.Empty:
            return
        is_ahead = k != self._wanted
        try:
            if isinstance(answer, Exception):
                raise answer
            if is_ahead and self.nbytes + answer.nbytes > self.ceiling_bytes:
                # Nothing is dropped for what is only expected.
                self._loading = None
                self._refused.add(k)
                return
            self._make_room(answer.nbytes)
            submodel = Submodel.create(answer)
            self._incoming = submodel, submodel.upload(answer)
            self.peak_bytes = max(self.peak_bytes, self.nbytes)
        except (SmerfError, OSError, MemoryError, ValueError) as error:
            self._loading = None
            self._refused.add(k)
            if not is_ahead:
                self.error = str(error) or type(error).__name__
                self._has_news = True

    def _make_room(self, nbytes: int) -> None:
        for k in list(self.resident):
            if self.nbytes + nbytes <= self.ceiling_bytes:
                return
            if k != self._shown:
                self.resident.pop(k).free()

    def _fetch_ahead(self, position: np.ndarray) -> None:
        params = self.scene.params
        missing = set(range(len(params.params_to_sm))) - set(self.resident) - self._refused
        typical = max((submodel.nbytes for submodel in self.resident.values()), default=0)
        if missing and self.nbytes + typical <= self.ceiling_bytes:
            ahead = nearest_neighbour(params, np.asarray(position, np.float64), missing)
            if ahead is not None:
                self._request(ahead)
