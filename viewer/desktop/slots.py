"""Draws a scene of slots with ``viewer/shaders/slots``; everything here needs a current context."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from smerf.errors import MissingPartError
from smerf.scene.slots import SlotScene, ray_motions, slot_defines

from .context import gl, is_software
from .shaders import Program, assemble

__all__ = ["Canvas", "SlotEdits", "SlotPainter"]

TEXTURE_WIDTH = 1024
BAND_PIXELS = 8192
_GONE = -1e30
_MOST_SOFTWARE_ROUNDS = 30_000


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
    """An image to draw to: its size in pixels, and a texture of four layers, one for each pixel of a 2 x 2 block."""

    width: int
    height: int
    texture: int
    frame: int

    @classmethod
    def create(cls, width: int, height: int) -> Canvas:
        """Make an image of 8 bits a channel."""
        GL = gl()
        texture, frame = int(GL.glGenTextures(1)), int(GL.glGenFramebuffers(1))
        GL.glActiveTexture(GL.GL_TEXTURE0)
        GL.glBindTexture(GL.GL_TEXTURE_2D_ARRAY, texture)
        size = (width + 1) // 2, (height + 1) // 2
        GL.glTexImage3D(
            GL.GL_TEXTURE_2D_ARRAY, 0, GL.GL_RGBA8, *size, 4, 0, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, None
        )
        _sample_nearest(GL.GL_TEXTURE_2D_ARRAY)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, frame)
        places = [GL.GL_COLOR_ATTACHMENT0 + layer for layer in range(4)]
        for layer, place in enumerate(places):
            GL.glFramebufferTextureLayer(GL.GL_FRAMEBUFFER, place, texture, 0, layer)
        GL.glDrawBuffers(4, places)
        if GL.glCheckFramebufferStatus(GL.GL_FRAMEBUFFER) != GL.GL_FRAMEBUFFER_COMPLETE:
            raise MissingPartError(f"this graphics device cannot draw to an image of {width} x {height}")
        return cls(width, height, texture, frame)

    def read(self) -> np.ndarray:
        """Return the pixels, uint8 (H, W, 4), upper row first. Waits for the device."""
        GL = gl()
        blocks = np.empty((4, (self.height + 1) // 2, (self.width + 1) // 2, 4), np.uint8)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self.frame)
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        for layer in range(4):
            GL.glReadBuffer(GL.GL_COLOR_ATTACHMENT0 + layer)
            part = np.empty(blocks.shape[1:], np.uint8)
            GL.glReadPixels(0, 0, part.shape[1], part.shape[0], GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, part)
            blocks[layer] = part
        whole = np.empty((2 * blocks.shape[1], 2 * blocks.shape[2], 4), np.uint8)
        for layer in range(4):
            whole[layer // 2 :: 2, layer % 2 :: 2] = blocks[layer]
        return np.ascontiguousarray(whole[: self.height, : self.width][::-1])

    def owner_at(self, u: float, v: float) -> int:
        """Return the index of the slot that is seen at a point (fractions from the upper left)."""
        GL = gl()
        x = min(self.width - 1, max(0, int(u * self.width)))
        y = min(self.height - 1, max(0, int((1.0 - v) * self.height)))
        out = np.zeros(4, np.uint8)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self.frame)
        GL.glReadBuffer(GL.GL_COLOR_ATTACHMENT0 + x % 2 + 2 * (y % 2))
        GL.glReadPixels(x // 2, y // 2, 1, 1, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, out)
        return int(out[3])

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
        # Mesa's software driver leaves loops, without a word, after 65535 rounds of all of them together.
        rounds = int((scene.steps[:, 5] * scene.steps[:, 7]).sum())
        if is_software() and rounds > _MOST_SOFTWARE_ROUNDS:
            raise MissingPartError(
                "this model is too large for a software graphics driver; use a machine with a GPU, or "
                "smerf objects render"
            )
        defines = slot_defines(scene)
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
        self,
        canvas: Canvas,
        pose: np.ndarray,
        fov: float,
        edits: SlotEdits,
        low: int = 0,
        high: int | None = None,
    ) -> None:
        """Draw rows [low, high) of the canvas, counted from below; ``low`` is even.

        Args:
            canvas: Its alpha takes the index of the slot that owns the pixel, over 255.
            pose: OpenGL camera-to-world (3, 4), world units.
            fov: Vertical field of view in degrees.
            edits: Hidden and moved slots; at least one must be left.
            low: First row.
            high: Row after the last; all rows if not given.
        """
        GL, mixer = gl(), self.mixer
        visible = [k for k in range(len(self.scene.slots)) if k not in edits.hidden]
        group, motions = _groups(edits.motions[visible])
        # Slots that an edit removed come last, without an entry.
        places = np.full((int(self.scene.sizes["SLOTS"]), 2), (_GONE, 0.0), np.float32)
        places[visible] = np.stack([np.zeros(len(visible)), group], -1)
        tangent = math.tan(math.radians(0.5 * fov)) / (0.5 * canvas.height)
        GL.glBindVertexArray(self._vertices)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, canvas.frame)
        GL.glDisable(GL.GL_BLEND)
        GL.glViewport(0, 0, (canvas.width + 1) // 2, (canvas.height + 1) // 2)
        GL.glEnable(GL.GL_SCISSOR_TEST)
        rows = (canvas.height if high is None else high) - low
        GL.glScissor(0, low // 2, (canvas.width + 1) // 2, (rows + 1) // 2)
        mixer.use()
        _bind(GL.GL_TEXTURE_2D, self._network, self._matrices)
        GL.glUniform3f(mixer.at("u_position"), *map(float, pose[:, 3]))
        rotation = np.ascontiguousarray(pose[:, :3], np.float32)
        GL.glUniformMatrix3fv(mixer.at("u_rotation"), 1, GL.GL_TRUE, rotation)
        GL.glUniform4f(mixer.at("u_lens"), tangent, tangent, 0.5 * canvas.width, 0.5 * canvas.height)
        GL.glUniform2fv(mixer.at("u_slots"), len(places), places)
        GL.glUniform4fv(mixer.at("u_motion"), 3 * len(motions), ray_motions(self.scene, motions))
        GL.glUniform1i(mixer.at("u_group_count"), len(motions))
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
        _bind(GL.GL_TEXTURE_2D_ARRAY, canvas.texture)
        palette = np.array([slot.colour for slot in self.scene.slots], np.float32) / 255.0
        GL.glUniform2f(screen.at("u_picture_size"), float(canvas.width), float(canvas.height))
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
            rows = max(2, BAND_PIXELS // size[0] // 2 * 2)
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


def _bind(kind: int, *textures: int) -> None:
    GL = gl()
    for unit, texture in enumerate(textures):
        GL.glActiveTexture(GL.GL_TEXTURE0 + unit)
        GL.glBindTexture(kind, texture)


def _stream_texture(texels: np.ndarray, internal: int, kind: int) -> int:
    GL = gl()
    rows = -(-len(texels) // TEXTURE_WIDTH)
    padded = np.zeros((rows * TEXTURE_WIDTH, 4), texels.dtype)
    padded[: len(texels)] = texels
    texture = int(GL.glGenTextures(1))
    GL.glActiveTexture(GL.GL_TEXTURE0)
    GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
    GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 4)
    # As bytes: the bindings know no array of half floats.
    GL.glTexImage2D(GL.GL_TEXTURE_2D, 0, internal, TEXTURE_WIDTH, rows, 0, GL.GL_RGBA, kind, padded.tobytes())
    _sample_nearest(GL.GL_TEXTURE_2D)
    return texture


def _sample_nearest(kind: int) -> None:
    GL = gl()
    for name, value in (
        (GL.GL_TEXTURE_MIN_FILTER, GL.GL_NEAREST),
        (GL.GL_TEXTURE_MAG_FILTER, GL.GL_NEAREST),
        (GL.GL_TEXTURE_WRAP_S, GL.GL_CLAMP_TO_EDGE),
        (GL.GL_TEXTURE_WRAP_T, GL.GL_CLAMP_TO_EDGE),
        (GL.GL_TEXTURE_MAX_LEVEL, 0),
    ):
        GL.glTexParameteri(kind, name, value)
