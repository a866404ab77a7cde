"""The image that is on the screen, apart from the targets that the next frame is rendered to."""

from __future__ import annotations

import numpy as np

from .context import gl
from .renderer import Target
from .shaders import Program, assemble

__all__ = ["Frozen"]


class Frozen:
    """The finished image at the window's size, uint8 RGBA. Needs a current context."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.texture, self.frame = self._make(width, height)
        self._box: Program | None = None

    def _make(self, width: int, height: int) -> tuple[int, int]:
        GL = gl()
        texture, frame = int(GL.glGenTextures(1)), int(GL.glGenFramebuffers(1))
        GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
        GL.glTexImage2D(
            GL.GL_TEXTURE_2D, 0, GL.GL_RGBA8, width, height, 0, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, None
        )
        GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MAX_LEVEL, 0)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, frame)
        GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_COLOR_ATTACHMENT0, GL.GL_TEXTURE_2D, texture, 0)
        GL.glClearColor(0.0, 0.0, 0.0, 1.0)
        GL.glClear(GL.GL_COLOR_BUFFER_BIT)
        return texture, frame

    def resize(self, width: int, height: int) -> None:
        """Change the size; the image is stretched."""
        old = self.width, self.height, self.texture, self.frame
        self.texture, self.frame = self._make(width, height)
        self.width, self.height = width, height
        _copy(old[3], old[0], old[1], self.frame, width, height)
        gl().glDeleteTextures([old[2]])
        gl().glDeleteFramebuffers(1, [old[3]])

    def take(self, target: Target) -> None:
        """Copy a finished target; one with whole squares of pixels for each of these is averaged."""
        edge = target.width // self.width
        if edge > 1 and (target.width, target.height) == (edge * self.width, edge * self.height):
            self._average(target, edge)
        else:
            _copy(target.pixel_frame, target.width, target.height, self.frame, self.width, self.height)

    def _average(self, target: Target, edge: int) -> None:
        GL = gl()
        if self._box is None:
            self._box = Program(assemble("screen.vert", {}), assemble("box.frag", {}))
        self._box.use()
        GL.glUniform1i(self._box.at("u_picture"), 0)
        GL.glUniform1i(self._box.at("u_edge"), edge)
        GL.glActiveTexture(GL.GL_TEXTURE0)
        GL.glBindTexture(GL.GL_TEXTURE_2D, target.pixel)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self.frame)
        GL.glViewport(0, 0, self.width, self.height)
        # The renderer's vertex array, which it bound to draw the target.
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)

    def copy_to(self, frame: int, width: int, height: int) -> None:
        """Copy to a framebuffer, stretched to its size."""
        _copy(self.frame, self.width, self.height, frame, width, height)

    def read(self) -> np.ndarray:
        """Return the colours, uint8 (H, W, 3)."""
        GL = gl()
        out = np.empty((self.height, self.width, 4), np.uint8)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self.frame)
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        GL.glReadPixels(0, 0, self.width, self.height, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, out)
        return np.ascontiguousarray(out[::-1, :, :3])

    def free(self) -> None:
        """Delete texture, framebuffer and program."""
        if self._box is not None:
            self._box.free()
        gl().glDeleteTextures([self.texture])
        gl().glDeleteFramebuffers(1, [self.frame])


def _copy(source: int, width: int, height: int, target: int, to_width: int, to_height: int) -> None:
    GL = gl()
    GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, source)
    GL.glBindFramebuffer(GL.GL_DRAW_FRAMEBUFFER, target)
    smooth = GL.GL_NEAREST if (width, height) == (to_width, to_height) else GL.GL_LINEAR
    GL.glBlitFramebuffer(0, 0, width, height, 0, 0, to_width, to_height, GL.GL_COLOR_BUFFER_BIT, smooth)
    GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, target)
