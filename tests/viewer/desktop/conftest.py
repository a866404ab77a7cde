from __future__ import annotations

import pytest

from benchmarks.display import virtual_display
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
    with virtual_display() as name:
        yield name
        import glfw

        glfw.terminate()


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
