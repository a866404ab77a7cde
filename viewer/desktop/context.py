"""OpenGL 3.3 core contexts: offscreen through EGL (no display needed) or a hidden window, and visible windows.

EGL is spoken through ctypes: it needs a dozen calls, and a missing library must be an ordinary error.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Iterator
from typing import Any

from smerf.errors import MissingPartError

__all__ = ["EglContext", "HiddenWindow", "create_window", "gl", "is_software", "offscreen_context"]

MEND = (
    "install Mesa (apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri), or run under a display or xvfb-run; "
    "smerf doctor lists what is here"
)
_SURFACELESS, _DEVICE = 0x31DD, 0x313F
_OPENGL_API, _OPENGL_BIT, _RENDERABLE, _SURFACE_TYPE, _PBUFFER_BIT = 0x30A2, 0x0008, 0x3040, 0x3033, 0x0001
_MAJOR, _MINOR, _PROFILE, _CORE, _NONE = 0x3098, 0x30FB, 0x30FD, 0x1, 0x3038
_EXTENSIONS = 0x3055
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software rasterizer")


def gl() -> Any:
    """Return PyOpenGL's ``OpenGL.GL``. Raises MissingPartError if it or the system's libGL is absent."""
    if sys.platform.startswith("linux"):
        # Only this platform module finds functions for EGL and for GLX contexts alike.
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    try:
        from OpenGL import GL
    except (ImportError, AttributeError, OSError) as error:
        raise MissingPartError(
            f"OpenGL cannot be loaded ({error}): pip install PyOpenGL, and {MEND}"
        ) from error
    return GL


def is_software() -> bool:
    """Return whether the current context draws with the CPU."""
    name = gl().glGetString(gl().GL_RENDERER).decode(errors="replace").lower()
    return any(word in name for word in _SOFTWARE)


class EglContext:
    """A current EGL context without a surface; draw to framebuffer objects only.

    ``renderer`` is the driver's name. Raises MissingPartError where no EGL display gives OpenGL 3.3.
    """

    def __init__(self) -> None:
        self._egl = _load_egl()
        self._display: int | None = None
        self._context: int | None = None
        self.renderer = ""
        failures = []
        software: tuple[int, int] | None = None
        # Hardware first; a software driver only where nothing else answers.
        for name, display in self._displays():
            try:
                context = self._create(display)
            except OSError as error:
                failures.append(f"{name}: {error}")
                continue
            self._display, self._context = display, context
            self.make_current()
            self.renderer = gl().glGetString(gl().GL_RENDERER).decode(errors="replace")
            if not is_software():
                break
            if software is None:
                software = display, context
            else:
                self._destroy(display, context)
        else:
            if software is None:
                raise MissingPartError(
                    f"EGL gives no OpenGL 3.3 ({'; '.join(failures) or 'no display'}): {MEND}"
                )
            self._display, self._context = software
            self.make_current()
            self.renderer = gl().glGetString(gl().GL_RENDERER).decode(errors="replace")
            software = None
        if software is not None:
            self._destroy(*software)

    def make_current(self) -> None:
        """Make the context current on this thread."""
        if not self._egl.eglMakeCurrent(self._display, None, None, self._context):
            raise MissingPartError(f"EGL cannot use its context without a surface: {MEND}")

    def release(self) -> None:
        """Leave this thread without a context, so that one of another kind can become current."""
        self._egl.eglMakeCurrent(self._display, None, None, None)

    def close(self) -> None:
        """Free the context; may be called twice."""
        if self._context is not None:
            self._destroy(self._display, self._context)
            self._context = None

    def __enter__(self) -> EglContext:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _displays(self) -> Iterator[tuple[str, int]]:
        egl = self._egl
        for index, device in enumerate(self._devices()):
            display = self._platform_display(_DEVICE, device)
            if display:
                yield f"device {index}", display
        display = self._platform_display(_SURFACELESS, None)
        if display:
            yield "surfaceless", display
        display = egl.eglGetDisplay(None)
        if display:
            yield "default display", display

    def _devices(self) -> list[int]:
        """Return EGL devices that are not software: those are reached faster without a device."""
        query = self._function(
            "eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
        )
        text = self._function("eglQueryDeviceStringEXT", ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
        if query is None:
            return []
        found, count = (ctypes.c_void_p * 16)(), ctypes.c_int()
        if not query(16, found, ctypes.byref(count)):
            return []
        devices = [device for device in found[: count.value] if device]
        if text is None:
            return devices
        return [
            device
            for device in devices
            if b"EGL_MESA_device_software" not in (text(device, _EXTENSIONS) or b"")
        ]

    def _platform_display(self, platform: int, native: int | None) -> int | None:
        get = self._function(
            "eglGetPlatformDisplayEXT", ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p
        )
        return get(platform, native, None) if get is not None else None

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        address = self._egl.eglGetProcAddress(name.encode())
        return ctypes.CFUNCTYPE(result, *arguments)(address) if address else None

    def _create(self, display: int) -> int:
        egl = self._egl
        if not egl.eglInitialize(display, None, None):
            raise OSError("does not start")
        if not egl.eglBindAPI(_OPENGL_API):
            raise OSError("has no desktop OpenGL")
        wanted = (ctypes.c_int * 5)(_SURFACE_TYPE, _PBUFFER_BIT, _RENDERABLE, _OPENGL_BIT, _NONE)
        config, count = ctypes.c_void_p(), ctypes.c_int()
        if (
            not egl.eglChooseConfig(display, wanted, ctypes.byref(config), 1, ctypes.byref(count))
            or not count.value
        ):
            raise OSError("has no configuration for OpenGL")
        attributes = (ctypes.c_int * 7)(_MAJOR, 3, _MINOR, 3, _PROFILE, _CORE, _NONE)
        context = egl.eglCreateContext(display, config, None, attributes)
        if not context:
            raise OSError("has no OpenGL 3.3 core")
        if not egl.eglMakeCurrent(display, None, None, context):
            egl.eglDestroyContext(display, context)
            raise OSError("cannot draw without a surface")
        return int(context)

    def _destroy(self, display: int | None, context: int) -> None:
        if self._egl.eglGetCurrentContext() == context:
            self._egl.eglMakeCurrent(display, None, None, None)
        self._egl.eglDestroyContext(display, context)


def _load_egl() -> Any:
    for name in ("libEGL.so.1", ctypes.util.find_library("EGL")):
        try:
            egl = ctypes.CDLL(name) if name else None
        except OSError:
            egl = None
        if egl is not None:
            break
    else:
        raise MissingPartError(f"libEGL is not installed: {MEND}")
    pointer, integer, unsigned = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint
    for name, result, arguments in (
        ("eglGetProcAddress", pointer, (ctypes.c_char_p,)),
        ("eglGetDisplay", pointer, (pointer,)),
        ("eglInitialize", unsigned, (pointer, pointer, pointer)),
        ("eglBindAPI", unsigned, (unsigned,)),
        ("eglChooseConfig", unsigned, (pointer, pointer, pointer, integer, pointer)),
        ("eglCreateContext", pointer, (pointer, pointer, pointer, pointer)),
        ("eglMakeCurrent", unsigned, (pointer, pointer, pointer, pointer)),
        ("eglDestroyContext", unsigned, (pointer, pointer)),
        ("eglGetCurrentContext", pointer, ()),
    ):
        function = getattr(egl, name)
        function.restype, function.argtypes = result, arguments
    return egl


class HiddenWindow:
    """An invisible GLFW window, for drawing offscreen where there is a display but no EGL."""

    def __init__(self) -> None:
        self.window = create_window(64, 64, "smerf", is_visible=False)
        self.renderer = gl().glGetString(gl().GL_RENDERER).decode(errors="replace")

    def make_current(self) -> None:
        """Make the context current on this thread."""
        import glfw

        glfw.make_context_current(self.window)

    def close(self) -> None:
        """Close the window; may be called twice."""
        if self.window is not None:
            import glfw

            glfw.destroy_window(self.window)
            self.window = None

    def __enter__(self) -> HiddenWindow:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def offscreen_context() -> EglContext | HiddenWindow:
    """Return a current context that needs no visible window: EGL, else a hidden window under the display.

    Raises:
        MissingPartError: If neither works; the message says why and how to mend it.
    """
    try:
        return EglContext()
    except MissingPartError as error:
        reason = str(error)
    try:
        return HiddenWindow()
    except MissingPartError as error:
        raise MissingPartError(f"cannot draw without a display ({reason}), nor with one: {error}") from error


def create_window(width: int, height: int, title: str, is_visible: bool = True) -> Any:
    """Open a GLFW window with a current OpenGL 3.3 core context. Raises MissingPartError if that fails."""
    try:
        import glfw
    except ImportError as error:
        raise MissingPartError(f"glfw cannot be loaded ({error}): pip install glfw") from error
    glfw.ERROR_REPORTING = "exception"
    try:
        if not glfw.init():
            raise MissingPartError(f"no window can be opened: {MEND}")
        glfw.default_window_hints()
        for hint, value in (
            (glfw.CONTEXT_VERSION_MAJOR, 3),
            (glfw.CONTEXT_VERSION_MINOR, 3),
            (glfw.OPENGL_PROFILE, glfw.OPENGL_CORE_PROFILE),
            (glfw.OPENGL_FORWARD_COMPAT, glfw.TRUE),
            (glfw.VISIBLE, glfw.TRUE if is_visible else glfw.FALSE),
            (glfw.DEPTH_BITS, 0),
            (glfw.STENCIL_BITS, 0),
            (glfw.SCALE_TO_MONITOR, glfw.TRUE),
        ):
            glfw.window_hint(hint, value)
        window = glfw.create_window(width, height, title, None, None)
        if not window:
            raise MissingPartError(f"no window can be opened: {MEND}")
        glfw.make_context_current(window)
    except glfw.GLFWError as error:
        reason = " ".join(str(error).split())
        raise MissingPartError(
            f"no window can be opened ({reason}): run on a desktop or under xvfb-run, or draw with --offscreen"
        ) from error
    # From here on a failing call, such as one that the window system does not offer, is no reason to stop.
    glfw.ERROR_REPORTING = "warn"
    gl()
    return window
