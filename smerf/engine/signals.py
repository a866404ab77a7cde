"""Turn Ctrl-C and SIGTERM into a flag, so that a training loop can save before it ends.

A loop polls ``stop_requested()``, saves its checkpoint and calls ``raise_if_stopped()``. A second signal does
not wait: it raises at once, wherever the program is.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "catch_signals", "end_on_terminate", "raise_if_stopped", "stop_requested"]

_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """The user asked to stop. ``exit_code`` is 130 after Ctrl-C and 143 after SIGTERM."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + int(number)


def stop_requested() -> bool:
    """Return whether a signal has asked this process to stop."""
    return bool(_received)


def raise_if_stopped() -> None:
    """Raise ``Interrupted`` if a signal has asked this process to stop; call it after saving."""
    if _received:
        raise Interrupted(_received[0])


@contextmanager
def catch_signals() -> Iterator[None]:
    """Handle SIGINT and SIGTERM as requests to stop while the block runs; the old handlers come back after it.

    Outside the main thread Python cannot install handlers: there the block runs with the handlers as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, _handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _received.clear()


@contextmanager
def end_on_terminate() -> Iterator[None]:
    """Let SIGTERM end a wait as Ctrl-C does, by raising ``Interrupted``, so that what is behind it is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _handle(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if len(_received) > 1:
        raise Interrupted(_received[0])
    # Not print: the handler may run while the interrupted code holds the lock of sys.stderr.
    os.write(2, b"\nsmerf: stopping after this step; press Ctrl-C again to quit now\n")
