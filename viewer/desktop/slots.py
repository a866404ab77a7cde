"""Draws a scene of slots with ``viewer/shaders/slots``; everything here needs a current context."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from smerf.errors import MissingPartError
from smerf.scene.slots import SlotScene, hidden_vector, ray_motions, slot_defines

from .context import gl
from .shaders import Program, assemble

__all__ = ["Canvas", "SlotEdits", "SlotPainter"]

TEXTURE_WIDTH = 1024
BAND_PIXELS = 8192


@dataclass
class SlotEdits:
    """What the user has changed: indices of ``hidden`` slots, and the ``motions`` (K, 4, 4) of all, world units."""

    hidden: set[int]
    motions: np.ndarray

    @classmethod
    def of(cls, scene: SlotScene) -> SlotEdits:
        """Return the edits that the scene's file holds."""
        return cls(set(), np.stack([scene.motions[slot.group] for slot in scene.slots]))


@dataclass(frozen=True)
class Canvas:
    """An image to draw to: its size in pixels, its texture and its framebuffer."""

    width: int
    height: int
    texture: int
    frame: int

    @classmethod
    def create(cls, width: int, height: int) -> Canvas:
        """Make an image of 8 bits a channel."""
        GL = gl()
        texture = _texture(GL.GL_RGBA8, width, height, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, None)
        frame = int(GL.glGenFramebuffers(1))
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, frame)
        GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_COLOR_ATTACHMENT0, GL.GL_TEXTURE_2D, texture, 0)
        if GL.glCheckFramebufferStatus(GL.GL_FRAMEBUFFER) != GL.GL_FRAMEBUFFER_COMPLETE:
            raise MissingPartError(f"this graphics device cannot draw to an image of {width} x {height}")
        return cls(width, height, texture, frame)

    def read(self, left: int = 0, low: int = 0, width: int | None = None, height: int | None = None) -> np.ndarray:
        """Return pixels, uint8 (h, w, 4), upper row first. Waits for the device."""
        GL = gl()
        out = np.empty((height or self.height, width or self.width, 4), np.uint8)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self.frame)
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        GL.glReadPixels(left, low, out.shape[1], out.shape[0], GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, out)
        return out[::-1]

    def free(self) -> None:
        """Delete the image."""
        gl().glDeleteTextures([self.texture])
        gl().glDeleteFramebuffers(1, [self.frame])


class SlotPainter:
    """Draws one scene of slots.

    Raises:
        MissingPartError: If the shaders do not compile here.
    """

    def __init__(self, scene: SlotScene) -> None:
        GL = gl()
        self.scene = scene
        defines = slot_defines(scene, len(scene.slots))
        vertex = assemble("screen.vert", {})
        self.mixer = Program(vertex, assemble("slots/mixer.frag", defines))
        self.screen = Program(vertex, assemble("slots/present.frag", defines))
        self._network = _stream_texture(scene.network.astype(np.float16), GL.GL_RGBA16F, GL.GL_HALF_FLOAT)
        self._matrices = _stream_texture(scene.scene.astype(np.float32), GL.GL_RGBA32F, GL.GL_FLOAT)
        self.mixer.use()
        GL.glUniform1i(self.mixer.at("u_network"), 0)
        GL.glUniform1i(self.mixer.at("u_scene"), 1)
        steps = np.ascontiguousarray(scene.steps, np.int32)
        GL.glUniform4iv(self.mixer.at("u_steps"), 2 * len(steps), steps)
        # A core profile draws nothing without one, even where no attribute is read.
        self._vertices = int(GL.glGenVertexArrays(1))

    def draw(
        self, canvas: Canvas, pose: np.ndarray, fov: float, edits: SlotEdits, low: int = 0, high: int | None = None
    ) -> None:
        """Draw rows [low, high) of the canvas, counted from below.

        Args:
            canvas: Its alpha takes the index of the slot that owns the pixel, over 255.
            pose: OpenGL camera-to-world (3, 4), world units.
            fov: Vertical field of view in degrees.
            edits: Hidden and moved slots; at least one must be left.
        """
        GL, mixer = gl(), self.mixer
        group, motions = _groups(edits.motions)
        active = sorted({group[k] for k in range(len(group)) if k not in edits.hidden})
        places = 4 * int(self.scene.sizes["SLOTS_4"])
        groups = np.full(places, -1, np.int32)
        groups[: len(group)] = group
        tangent = math.tan(math.radians(0.5 * fov)) / (0.5 * canvas.height)
        GL.glBindVertexArray(self._vertices)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, canvas.frame)
        GL.glDisable(GL.GL_BLEND)
        GL.glViewport(0, 0, canvas.width, canvas.height)
        GL.glEnable(GL.GL_SCISSOR_TEST)
        GL.glScissor(0, low, canvas.width, (canvas.height if high is None else high) - low)
        mixer.use()
        _bind(self._network, self._matrices)
        GL.glUniform3f(mixer.at("u_position"), *map(float, pose[:, 3]))
        GL.glUniformMatrix3fv(mixer.at("u_rotation"), 1, GL.GL_TRUE, np.ascontiguousarray(pose[:, :3], np.float32))
        GL.glUniform4f(mixer.at("u_lens"), tangent, tangent, 0.5 * canvas.width, 0.5 * canvas.height)
        GL.glUniform4fv(mixer.at("u_hidden"), places // 4, hidden_vector(self.scene, edits.hidden))
        GL.glUniform4iv(mixer.at("u_group"), places // 4, groups)
        rows = ray_motions(self.scene, motions)
        GL.glUniform4fv(mixer.at("u_motion"), 3 * len(rows), np.ascontiguousarray(rows))
        GL.glUniform1iv(mixer.at("u_groups"), len(active), np.array(active, np.int32))
        GL.glUniform1i(mixer.at("u_group_count"), len(active))
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)
        GL.glDisable(GL.GL_SCISSOR_TEST)

    def present(
        self,
        canvas: Canvas,
        box: tuple[int, int, int, int],
        masks: float = 0.0,
        highlight: int | None = None,
        frame: int = 0,
    ) -> None:
        """Draw the canvas to a framebuffer, into ``box``: left, low, width and height in pixels."""
        GL, screen = gl(), self.screen
        GL.glBindVertexArray(self._vertices)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, frame)
        GL.glDisable(GL.GL_BLEND)
        GL.glViewport(*box)
        screen.use()
        _bind(canvas.texture)
        palette = np.zeros((4 * int(self.scene.sizes["SLOTS_4"]), 3), np.float32)
        palette[: len(self.scene.slots)] = np.array([slot.colour for slot in self.scene.slots]) / 255.0
        GL.glUniform1i(screen.at("u_picture"), 0)
        GL.glUniform2f(screen.at("u_corner"), float(box[0]), float(box[1]))
        GL.glUniform2f(screen.at("u_size"), float(box[2]), float(box[3]))
        GL.glUniform1f(screen.at("u_masks"), masks)
        GL.glUniform1i(screen.at("u_highlight"), -1 if highlight is None else highlight)
        GL.glUniform3fv(screen.at("u_palette"), len(palette), palette)
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)

    def image(
        self, pose: np.ndarray, fov: float, size: tuple[int, int], edits: SlotEdits | None = None
    ) -> np.ndarray:
        """Draw a view of ``size`` (width, height) in full detail: uint8 (H, W, 4), alpha the owner's index."""
        canvas = Canvas.create(*size)
        try:
            rows = max(1, BAND_PIXELS // size[0])
            for low in range(0, size[1], rows):
                self.draw(canvas, pose, fov, edits or SlotEdits.of(self.scene), low, min(size[1], low + rows))
            return canvas.read()
        finally:
            canvas.free()

    def free(self) -> None:
        """Delete everything this painter made in the context."""
        self.mixer.free()
        self.screen.free()
        gl().glDeleteTextures([self._network, self._matrices])
        gl().glDeleteVertexArrays(1, [self._vertices])


def _groups(motions: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Return the ray group of each slot, and the motion of each group: equal motions share one."""
    unique: list[np.ndarray] = []
    group = []
    for motion in motions:
        same = [index for index, other in enumerate(unique) if np.array_equal(other, motion)]
        if not same:
            unique.append(motion)
        group.append(same[0] if same else len(unique) - 1)
    return group, np.stack(unique)


def _bind(*textures: int) -> None:
    GL = gl()
    for unit, texture in enumerate(textures):
        GL.glActiveTexture(GL.GL_TEXTURE0 + unit)
        GL.glBindTexture(GL.GL_TEXTURE_2D, texture)


def _stream_texture(texels: np.ndarray, internal: int, kind: int) -> int:
    rows = -(-len(texels) // TEXTURE_WIDTH)
    padded = np.zeros((rows * TEXTURE_WIDTH, 4), texels.dtype)
    padded[: len(texels)] = texels
    return _texture(internal, TEXTURE_WIDTH, rows, gl().GL_RGBA, kind, padded.tobytes())


def _texture(internal: int, width: int, height: int, order: int, kind: int, data: Any) -> int:
    GL = gl()
    texture = int(GL.glGenTextures(1))
    GL.glActiveTexture(GL.GL_TEXTURE0)
    GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
    GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 4)
    GL.glTexImage2D(GL.GL_TEXTURE_2D, 0, internal, width, height, 0, order, kind, data)
    for name, value in (
        (GL.GL_TEXTURE_MIN_FILTER, GL.GL_NEAREST),
        (GL.GL_TEXTURE_MAG_FILTER, GL.GL_NEAREST),
        (GL.GL_TEXTURE_WRAP_S, GL.GL_CLAMP_TO_EDGE),
        (GL.GL_TEXTURE_WRAP_T, GL.GL_CLAMP_TO_EDGE),
        (GL.GL_TEXTURE_MAX_LEVEL, 0),
    ):
        GL.glTexParameteri(GL.GL_TEXTURE_2D, name, value)
    return texture
