from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from smerf.export.desktop import desktop_viewer

desktop_viewer("context")


@pytest.fixture(scope="session")
def egl():
    """A context without a display, for the whole run."""
    from smerf.viewer.desktop.context import EglContext

    with EglContext() as context:
        yield context


@pytest.fixture
def gl(egl):
    """OpenGL with that context current; errors that a test leaves behind fail it."""
    from smerf.viewer.desktop.context import gl

    egl.make_current()
    GL = gl()
    assert GL.glGetError() == GL.GL_NO_ERROR
    yield GL
    assert GL.glGetError() == GL.GL_NO_ERROR


@pytest.fixture(scope="session")
def display():
    """An X server without a screen; returns its name."""
    path = shutil.which("Xvfb")
    assert path, "the window's tests need Xvfb: apt-get install xvfb"
    reader, writer = os.pipe()
    words = [path, "-displayfd", str(writer), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    old = os.environ.get("DISPLAY")
    os.environ["DISPLAY"] = f":{number}"
    yield f":{number}"
    import glfw

    glfw.terminate()
    server.terminate()
    server.wait()
    if old is None:
        del os.environ["DISPLAY"]
    else:
        os.environ["DISPLAY"] = old


@pytest.fixture
def open_window(display, egl):
    """Open windows under that server; they are closed afterwards."""
    from smerf.viewer.desktop.window import Window

    egl.release()
    opened = []

    def open_window(scene, **options):
        opened.append(Window(scene, size=options.pop("size", (160, 120)), **options))
        return opened[-1]

    yield open_window
    for window in opened:
        window.close()
