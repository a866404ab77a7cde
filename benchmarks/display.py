"""A display without a screen, for windows of tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

from smerf.errors import MissingPartError

__all__ = ["virtual_display"]


@contextlib.contextmanager
def virtual_display() -> Iterator[str]:
    """Start an X server, make it the display of this process, and yield its name.

    Raises:
        MissingPartError: If Xvfb is not installed or does not start.
    """
    path = shutil.which("Xvfb")
    if path is None:
        raise MissingPartError("windows without a screen need Xvfb: apt-get install xvfb")
    reader, writer = os.pipe()
    words = [path, "-displayfd", str(writer), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    old = os.environ.get("DISPLAY")
    try:
        with os.fdopen(reader) as pipe:
            number = pipe.readline().strip()
        if not number:
            raise MissingPartError("Xvfb did not start")
        os.environ["DISPLAY"] = f":{number}"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait()
        os.environ.pop("DISPLAY", None)
        if old is not None:
            os.environ["DISPLAY"] = old
