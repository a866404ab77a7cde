"""Text drawn over the picture: panels of lines, set with Pillow's own font and blended as one textured rectangle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .context import gl
from .shaders import Program

__all__ = ["Panel", "Photo", "set_text"]

_VERTEX = """#version 330 core
uniform vec4 u_box;  // left, bottom, right, top in clip coordinates
out vec2 v_at;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  v_at = vec2(corner.x, 1.0 - corner.y);
  gl_Position = vec4(mix(u_box.xy, u_box.zw, corner), 0.0, 1.0);
}
"""
_FRAGMENT = """#version 330 core
uniform sampler2D u_text;
in vec2 v_at;
layout(location = 0) out vec4 o_pixel;
void main() {
  o_pixel = textureLod(u_text, v_at, 0.0);
}
"""
_MARGIN = 12
_INK, _MUTED, _PAPER = (240, 242, 246, 255), (176, 182, 194, 255), (24, 26, 31, 222)


def _font(size: int) -> Any:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()


def set_text(rows: Sequence[Sequence[str]], size: int) -> np.ndarray:
    """Set rows of cells in aligned columns on a dark panel.

    Args:
        rows: Cells of each row; a row of one cell takes the whole width and counts as a heading or a sentence.
        size: Height of the letters in pixels.

    Returns:
        (H, W, 4) uint8, upper row first.
    """
    from PIL import Image, ImageDraw

    font = _font(size)
    pad, gap, line = round(0.7 * size), round(1.2 * size), round(1.45 * size)
    columns = max(len(row) for row in rows)
    widths = [0] * columns
    for row in rows:
        if len(row) > 1:
            for column, cell in enumerate(row):
                widths[column] = max(widths[column], int(font.getlength(cell)) + 1)
    table = sum(widths) + gap * (columns - 1)
    width = max(table, *(int(font.getlength(row[0])) + 1 for row in rows if len(row) == 1), 1) + 2 * pad
    image = Image.new("RGBA", (width, line * len(rows) + 2 * pad - (line - size)), _PAPER)
    image.putalpha(_rounded(image.size, round(0.6 * size)))
    draw = ImageDraw.Draw(image)
    for index, row in enumerate(rows):
        x = pad
        for column, cell in enumerate(row):
            # What a row is about stands out against what is said about it.
            fill = _INK if column == 0 else _MUTED
            draw.text((x, pad + index * line), cell, font=font, fill=fill, anchor="la")
            x += widths[column] + gap
    return np.asarray(image)


def _rounded(size: tuple[int, int], radius: int) -> Any:
    """Return the paper's opacity, with round corners, smoothed by drawing them four times as large."""
    from PIL import Image, ImageDraw

    corner = Image.new("L", (8 * radius, 8 * radius), 0)
    ImageDraw.Draw(corner).ellipse((0, 0, 8 * radius - 1, 8 * radius - 1), fill=_PAPER[3])
    corner = corner.resize((2 * radius, 2 * radius), Image.Resampling.BOX)
    alpha = Image.new("L", size, _PAPER[3])
    for x, left in ((0, 0), (radius, size[0] - radius)):
        for y, top in ((0, 0), (radius, size[1] - radius)):
            alpha.paste(corner.crop((x, y, x + radius, y + radius)), (left, top))
    return alpha


class Photo:
    """A photo over the picture, stretched to a box and half transparent."""

    def __init__(self, pixels: np.ndarray, opacity: float = 0.5) -> None:
        """``pixels`` is (H, W, 3) uint8, upper row first."""
        self._panel = Panel()
        alpha = np.full((*pixels.shape[:2], 1), round(255 * opacity), np.uint8)
        self._panel.upload(np.concatenate([pixels, alpha], -1), is_smooth=True)

    def draw(self, window: tuple[int, int], box: tuple[float, float, float, float]) -> None:
        """Draw to the current framebuffer of ``window`` pixels; ``box`` is left, top, width and height in pixels."""
        self._panel.draw_box(window, box)

    def free(self) -> None:
        """Delete its texture and program."""
        self._panel.free()


class Panel:
    """One panel in the current context; ``draw`` sets its text again only when the text has changed."""

    def __init__(self) -> None:
        GL = gl()
        self.program = Program(_VERTEX, _FRAGMENT)
        self.texture = int(GL.glGenTextures(1))
        self.vertices = int(GL.glGenVertexArrays(1))
        self._content: tuple[Any, int] | None = None
        self._size = (0, 0)

    def draw(
        self, rows: Sequence[Sequence[str]], size: int, window: tuple[int, int], corner: tuple[float, float]
    ) -> None:
        """Draw to the current framebuffer of ``window`` pixels; ``corner`` (0, 0) is the upper left, (1, 1) the lower
        right, (0.5, 0.5) the middle.
        """
        content = (tuple(map(tuple, rows)), size)
        if content != self._content:
            self._content = content
            self.upload(set_text(rows, size))
        width, height = self._size
        left = _MARGIN + corner[0] * (window[0] - width - 2 * _MARGIN)
        top = _MARGIN + corner[1] * (window[1] - height - 2 * _MARGIN)
        # Whole pixels: letters between two pixels would be blurred.
        self.draw_box(window, (float(round(left)), float(round(top)), width, height))

    def draw_box(self, window: tuple[int, int], box: tuple[float, float, float, float]) -> None:
        """Draw what was uploaded to a box of left, top, width and height in pixels."""
        GL = gl()
        left, top, width, height = box
        GL.glBindVertexArray(self.vertices)
        GL.glViewport(0, 0, *window)
        GL.glEnable(GL.GL_BLEND)
        GL.glBlendFunc(GL.GL_SRC_ALPHA, GL.GL_ONE_MINUS_SRC_ALPHA)
        GL.glActiveTexture(GL.GL_TEXTURE0)
        GL.glBindTexture(GL.GL_TEXTURE_2D, self.texture)
        self.program.use()
        x, y = 2.0 / window[0], 2.0 / window[1]
        GL.glUniform4f(
            self.program.at("u_box"),
            left * x - 1.0,
            1.0 - (top + height) * y,
            (left + width) * x - 1.0,
            1.0 - top * y,
        )
        GL.glDrawArrays(GL.GL_TRIANGLE_STRIP, 0, 4)
        GL.glDisable(GL.GL_BLEND)

    def upload(self, image: np.ndarray, is_smooth: bool = False) -> None:
        """Take an image (H, W, 4) uint8, upper row first."""
        GL = gl()
        self._size = image.shape[1], image.shape[0]
        GL.glBindTexture(GL.GL_TEXTURE_2D, self.texture)
        GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 1)
        GL.glTexImage2D(
            GL.GL_TEXTURE_2D, 0, GL.GL_RGBA8, *self._size, 0, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, image.copy()
        )
        for key, value in (
            (GL.GL_TEXTURE_MIN_FILTER, GL.GL_LINEAR if is_smooth else GL.GL_NEAREST),
            (GL.GL_TEXTURE_MAG_FILTER, GL.GL_LINEAR if is_smooth else GL.GL_NEAREST),
            (GL.GL_TEXTURE_WRAP_S, GL.GL_CLAMP_TO_EDGE),
            (GL.GL_TEXTURE_WRAP_T, GL.GL_CLAMP_TO_EDGE),
            (GL.GL_TEXTURE_MAX_LEVEL, 0),
        ):
            GL.glTexParameteri(GL.GL_TEXTURE_2D, key, value)

    def free(self) -> None:
        """Delete the panel's texture and program."""
        GL = gl()
        GL.glDeleteTextures([self.texture])
        GL.glDeleteVertexArrays(1, [self.vertices])
        self.program.free()
