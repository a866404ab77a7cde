"""Two full-screen passes (march, shade) into an offscreen target, as the web viewer draws them.

Cameras are in training axes (``smerf.capture.types.Camera``); targets have their origin in the lower left
corner, as OpenGL counts, and images that leave this module in the upper left one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from smerf.errors import MissingPartError
from smerf.scene import Camera, Intrinsics
from smerf.scene.objects import id_words
from smerf.scene.supersample import draw_supersampled
from smerf.scene.types import VIEWER_FROM_TRAINING, BakedScene, lattice_mlp_at
from smerf.scene.view import MarchOptions, choose_background, choose_exposure, choose_near, unknown_colours

from .context import gl, is_software
from .shaders import Program, assemble, network_widths, scene_defines, weight_count
from .submodel import Submodel, pack

__all__ = ["Renderer", "Target", "at_size", "pack_network", "pinhole"]

_SAMPLERS = ("atlas_density", "atlas_colour", "planes_density", "planes_colour", "blocks", "occupancy")
_BLENDED = ("colour", "features", "coarse_colour", "coarse_features")
_BAND_PIXELS = 1 << 18
"""Pixels of one draw of ``Renderer.image``: graphics drivers end programs whose draws take seconds."""


@dataclass
class Target:
    """Offscreen images of one size: what the march blends, and the finished 8-bit pixels."""

    width: int
    height: int
    blended: list[int]
    pixel: int
    blended_frame: int
    pixel_frame: int

    def free(self) -> None:
        """Delete the images."""
        GL = gl()
        GL.glDeleteTextures([*self.blended, self.pixel])
        GL.glDeleteFramebuffers(2, [self.blended_frame, self.pixel_frame])


def pinhole(pose: np.ndarray, width: int, height: int, fov_degrees: float) -> Camera:
    """Return a camera with square pixels and its centre in the middle; vertical field of view in degrees."""
    focal = 0.5 * height / math.tan(math.radians(0.5 * fov_degrees))
    return Camera(Intrinsics("PINHOLE", width, height, focal, focal, width / 2, height / 2), pose[:3])


def at_size(camera: Camera, width: int, height: int) -> Camera:
    """Return the camera with an image of another size that sees the same; its distortion is left out."""
    lens = camera.intrinsics
    x, y = width / lens.width, height / lens.height
    sized = Intrinsics("PINHOLE", width, height, lens.fx * x, lens.fy * y, lens.cx * x, lens.cy * y)
    return replace(camera, intrinsics=sized)


def pack_network(network: dict[str, np.ndarray]) -> np.ndarray:
    """Order a network as the uniform block of ``shade.frag``: (WEIGHT_COUNT, 4) float32.

    Per layer and group of four outputs: the bias, then one row of four outputs per input; inputs padded with
    zeros to a multiple of four.
    """
    parts = []
    for i in range(3):
        kernel, bias = network[f"ResampleDense_{i}/kernel"], network[f"ResampleDense_{i}/bias"]
        inputs, outputs = kernel.shape
        groups, rows = math.ceil(outputs / 4), 4 * math.ceil(inputs / 4)
        block = np.zeros((1 + rows, 4 * groups), np.float32)
        block[0, :outputs] = bias
        block[1 : 1 + inputs, :outputs] = kernel
        parts.append(block.reshape(1 + rows, groups, 4).transpose(1, 0, 2).reshape(-1, 4))
    return np.ascontiguousarray(np.concatenate(parts))


class Renderer:
    """Draws one scene in the current context.

    Args:
        scene: The scene; its arrays are read only by ``image``, everything else takes submodels by hand.
        options: Choices of the march; by default every step is one texel long.
        background: RGB, ``None`` for the scene's own.
        near: Near plane in world units, ``None`` for the scene's own.

    Raises:
        MissingPartError: If the device is too small for the scene's network.
    """

    def __init__(
        self,
        scene: BakedScene,
        options: MarchOptions | None = None,
        background: tuple[float, float, float] | None = None,
        near: float | None = None,
    ) -> None:
        GL = gl()
        self.scene = scene
        self.options = options or MarchOptions()
        self.background = choose_background(scene, background)
        self.near = choose_near(scene, near)
        self.exposure = choose_exposure(scene.params, self.options)
        self.blended_names = _BLENDED if scene.params.has_coarse else _BLENDED[:3]
        self._targets: dict[str, Target] = {}
        self._own: Submodel | None = None
        widths = network_widths(scene)
        if widths[1] % 4 or widths[2] % 4:
            raise MissingPartError(
                f"hidden widths {widths[1:]} of the network must be multiples of 4 for the shaders"
            )
        self._block_bytes = 16 * weight_count(widths)
        limit = int(GL.glGetIntegerv(GL.GL_MAX_UNIFORM_BLOCK_SIZE))
        if self._block_bytes > limit:
            raise MissingPartError(
                f"the appearance network takes {self._block_bytes} bytes, this graphics device allows {limit}"
            )
        self.unknown_colours = unknown_colours(scene, self.options)
        fades = self.unknown_colours is not None
        self._samplers = (*_SAMPLERS, "known") if fades else _SAMPLERS
        if fades or scene.manifest.objects:
            self.blended_names = (*self.blended_names, "unknown")
        self._words = np.zeros((2, 8), np.uint32)
        self._with_objects: tuple[Program, Program] | None = None
        self.march, self.shade = self._compile(False)
        self._network = int(GL.glGenBuffers(1))
        GL.glBindBuffer(GL.GL_UNIFORM_BUFFER, self._network)
        GL.glBufferData(GL.GL_UNIFORM_BUFFER, self._block_bytes, None, GL.GL_DYNAMIC_DRAW)
        # A core profile draws nothing without one, even where no attribute is read.
        self._vertices = int(GL.glGenVertexArrays(1))

    def _compile(self, objects: bool) -> tuple[Program, Program]:
        """Compile the march and the shading, with or without a look at the objects of voxels."""
        GL = gl()
        fades = self.unknown_colours is not None
        defines = scene_defines(self.scene, self.options.step_multiplier, bool(self.exposure), fades, objects)
        defines["GROWING_STEPS"] = str(int(self._occlusion_delay < 1.0))
        if is_software():
            defines["ROLLED_LOOPS"] = "1"
        vertex = assemble("screen.vert", {})
        march = Program(vertex, assemble("march.frag", defines))
        shade = Program(vertex, assemble("shade.frag", defines))
        march.use()
        for unit, name in enumerate((*self._samplers, "atlas_ids")):
            GL.glUniform1i(march.at(f"u_{name}"), unit)
        shade.use()
        for unit, name in enumerate(self.blended_names):
            GL.glUniform1i(shade.at(f"u_{name}"), unit)
        block = GL.glGetUniformBlockIndex(shade.number, "Network")
        GL.glUniformBlockBinding(shade.number, block, 0)
        return march, shade

    def set_objects(self, hidden: np.ndarray | None = None, lit: np.ndarray | None = None) -> None:
        """Leave out some objects and light up others from now on.

        Args:
            hidden: Table (256,) by id, not 0 where hidden (``smerf.scene.objects.id_table``); ``None`` hides nothing.
            lit: The same of what is lit.
        """
        for row, table in zip(self._words, (hidden, lit)):
            row[:] = 0 if table is None else id_words(table)

    @property
    def _occlusion_delay(self) -> float:
        return self.options.visibility_delay if self.options.enlarge_steps_when_occluded else 1.0

    def target(self, role: str, width: int, height: int) -> Target:
        """Return the images of one role (such as ``full``), made again when the size changes."""
        old = self._targets.get(role)
        if old is not None:
            if (old.width, old.height) == (width, height):
                return old
            old.free()
        GL = gl()

        def image(internal: int) -> int:
            texture = int(GL.glGenTextures(1))
            GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
            GL.glTexImage2D(
                GL.GL_TEXTURE_2D, 0, internal, width, height, 0, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, None
            )
            GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MIN_FILTER, GL.GL_NEAREST)
            GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MAG_FILTER, GL.GL_NEAREST)
            GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MAX_LEVEL, 0)
            return texture

        def frame(textures: list[int]) -> int:
            number = int(GL.glGenFramebuffers(1))
            GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, number)
            places = [GL.GL_COLOR_ATTACHMENT0 + i for i in range(len(textures))]
            for place, texture in zip(places, textures):
                GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, place, GL.GL_TEXTURE_2D, texture, 0)
            GL.glDrawBuffers(len(places), places)
            if GL.glCheckFramebufferStatus(GL.GL_FRAMEBUFFER) != GL.GL_FRAMEBUFFER_COMPLETE:
                raise MissingPartError(f"this graphics device cannot draw to images of {width} x {height}")
            return number

        blended = [image(GL.GL_RGBA16F) for _ in self.blended_names]
        pixel = image(GL.GL_RGBA8)
        made = Target(width, height, blended, pixel, frame(blended), frame([pixel]))
        self._targets[role] = made
        return made

    def draw(
        self,
        target: Target,
        submodel: Submodel,
        camera: Camera,
        low: int = 0,
        high: int | None = None,
        near: float | None = None,
        picks: bool = False,
    ) -> None:
        """Draw rows [low, high) of the target, counted from below, with a pinhole camera of any image size.

        ``near`` is a near plane for this draw alone, in world units. With ``picks`` the target then knows which object
        each pixel shows.
        """
        GL = gl()
        march, shade, samplers = self.march, self.shade, self._samplers
        looks = "atlas_ids" in submodel.textures and (picks or bool(self._words.any()))
        if looks:
            self._with_objects = self._with_objects or self._compile(True)
            (march, shade), samplers = self._with_objects, (*samplers, "atlas_ids")
        params = self.scene.params
        lens = at_size(camera, target.width, target.height).intrinsics
        pose = np.asarray(camera.world_from_cam, np.float64)
        rotation = (VIEWER_FROM_TRAINING @ pose[:, :3]).T.astype(np.float32)  # columns first, as OpenGL reads
        position = (
            VIEWER_FROM_TRAINING @ (pose[:, 3] - params.submodel_centre(submodel.k)) * params.submodel_scale
        )
        lens_values = (1.0 / lens.fx, 1.0 / lens.fy, lens.cx, target.height - lens.cy)
        rows = (target.height if high is None else high) - low
        GL.glBindVertexArray(self._vertices)
        GL.glDisable(GL.GL_BLEND)
        GL.glDisable(GL.GL_DITHER)
        GL.glDisable(GL.GL_FRAMEBUFFER_SRGB)
        GL.glViewport(0, 0, target.width, target.height)
        GL.glEnable(GL.GL_SCISSOR_TEST)
        GL.glScissor(0, low, target.width, rows)

        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, target.blended_frame)
        march.use()
        for unit, name in enumerate(samplers):
            GL.glActiveTexture(GL.GL_TEXTURE0 + unit)
            kind = GL.GL_TEXTURE_2D_ARRAY if name.startswith("planes") else GL.GL_TEXTURE_3D
            GL.glBindTexture(kind, submodel.textures[name])
        GL.glUniform3f(march.at("u_atlas_size"), *map(float, submodel.atlas_size))
        GL.glUniformMatrix3fv(march.at("u_camera_rotation"), 1, GL.GL_FALSE, rotation)
        GL.glUniform3f(march.at("u_camera_position"), *position)
        GL.glUniform4f(march.at("u_lens"), *lens_values)
        GL.glUniform1f(march.at("u_near"), (near or self.near) * params.submodel_scale)
        GL.glUniform1f(march.at("u_submodel_scale"), params.submodel_scale)
        GL.glUniform1f(march.at("u_occlusion_delay"), self._occlusion_delay)
        if looks:
            GL.glUniform4uiv(march.at("u_hidden"), 2, self._words[0])
            GL.glUniform4uiv(march.at("u_lit"), 2, self._words[1])
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)

        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, target.pixel_frame)
        shade.use()
        for unit, texture in enumerate(target.blended):
            GL.glActiveTexture(GL.GL_TEXTURE0 + unit)
            GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
        weights = pack_network(lattice_mlp_at(params, self.scene.mlp, submodel.k, pose[:, 3]))
        GL.glBindBufferBase(GL.GL_UNIFORM_BUFFER, 0, self._network)
        GL.glBufferSubData(GL.GL_UNIFORM_BUFFER, 0, weights.nbytes, weights)
        GL.glUniformMatrix3fv(shade.at("u_camera_rotation"), 1, GL.GL_FALSE, rotation)
        GL.glUniform4f(shade.at("u_lens"), *lens_values)
        GL.glUniform3f(shade.at("u_background"), *self.background)
        if self.unknown_colours is not None:
            GL.glUniform3fv(shade.at("u_unknown_colours[0]"), 3, np.array(self.unknown_colours, np.float32))
        if self.exposure:
            GL.glUniform1f(shade.at("u_log_exposure"), math.log(self.exposure))
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)
        GL.glDisable(GL.GL_SCISSOR_TEST)

    def read(self, target: Target) -> np.ndarray:
        """Return the target's pixels, uint8 (H, W, 3), upper row first. Waits for the device."""
        GL = gl()
        out = np.empty((target.height, target.width, 4), np.uint8)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, target.pixel_frame)
        GL.glReadBuffer(GL.GL_COLOR_ATTACHMENT0)
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        GL.glReadPixels(0, 0, target.width, target.height, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, out)
        return np.ascontiguousarray(out[::-1, :, :3])

    def depth_at(self, target: Target, u: float, v: float) -> float | None:
        """Return the distance in world units seen at a point (fractions from the upper left), ``None`` if empty."""
        GL = gl()
        x = min(target.width - 1, max(0, int(u * target.width)))
        y = min(target.height - 1, max(0, int((1.0 - v) * target.height)))
        out = np.zeros(4, np.float32)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, target.blended_frame)
        GL.glReadBuffer(GL.GL_COLOR_ATTACHMENT2)
        GL.glReadPixels(x, y, 1, 1, GL.GL_RGBA, GL.GL_FLOAT, out)
        depth = float(out[3])
        return depth / (1.0 - depth) if 0.0 < depth < 0.999 else None

    def read_ids(self, target: Target) -> np.ndarray:
        """Return the objects that the pixels show, uint8 (H, W), upper row first, 0 for none; drawn with ``picks``."""
        GL = gl()
        out = np.zeros((target.height, target.width, 4), np.float32)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, target.blended_frame)
        GL.glReadBuffer(GL.GL_COLOR_ATTACHMENT0 + len(target.blended) - 1)
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        GL.glReadPixels(0, 0, target.width, target.height, GL.GL_RGBA, GL.GL_FLOAT, out)
        return np.rint(255.0 * out[::-1, :, 2]).astype(np.uint8)

    def object_at(self, submodel: Submodel, camera: Camera, size: tuple[int, int], u: float, v: float) -> int:
        """Return the object seen at a point (fractions from the upper left) of a picture of ``size``, 0 for none."""
        if "atlas_ids" not in submodel.textures:
            return 0
        lens = at_size(camera, *size).intrinsics
        x, y = (min(edge - 1, max(0, int(at * edge))) for at, edge in zip((u, v), size))
        pixel = replace(lens, width=1, height=1, cx=lens.cx - x, cy=lens.cy - y)
        target = self.target("pick", 1, 1)
        self.draw(target, submodel, replace(camera, intrinsics=pixel), picks=True)
        return int(self.read_ids(target)[0, 0])

    def load(self, k: int) -> Submodel:
        """Read submodel k from the scene and upload it whole."""
        packed = pack(k, self.scene.load(k))
        submodel = Submodel.create(packed)
        for _ in submodel.upload(packed):
            pass
        return submodel

    def image(self, camera: Camera, k: int | None = None) -> np.ndarray:
        """Draw one camera at its own size: uint8 (H, W, 3). Keeps the submodel for the next call.

        Args:
            camera: The camera; distortion of its lens is left out.
            k: Submodel to draw, ``None`` for the one that holds the camera's centre.
        """
        trained = self.scene.manifest.pixel_angle
        drawn = draw_supersampled(camera, trained, lambda part: self.read(self._whole(part, k, False)))
        return drawn if drawn.dtype == np.uint8 else np.rint(drawn).astype(np.uint8)

    def id_image(self, camera: Camera, k: int | None = None) -> np.ndarray:
        """Draw which objects a camera sees: uint8 (H, W), 0 for none; the arguments are those of ``image``."""
        target = self._whole(camera, k, True)
        if not self.scene.manifest.objects:
            return np.zeros((target.height, target.width), np.uint8)
        return self.read_ids(target)

    def _whole(self, camera: Camera, k: int | None, picks: bool) -> Target:
        """Draw one camera at its own size, in bands."""
        k = self.scene.params.choose_submodel(camera.world_from_cam[:, 3]) if k is None else k
        if self._own is None or self._own.k != k:
            if self._own is not None:
                self._own.free()
                self._own = None
            self._own = self.load(k)
        target = self.target("image", camera.intrinsics.width, camera.intrinsics.height)
        rows = max(1, _BAND_PIXELS // target.width)
        for low in range(0, target.height, rows):
            self.draw(target, self._own, camera, low, min(target.height, low + rows), picks=picks)
        return target

    def free(self) -> None:
        """Delete everything this renderer made in the context."""
        GL = gl()
        for target in self._targets.values():
            target.free()
        self._targets = {}
        if self._own is not None:
            self._own.free()
            self._own = None
        for program in (self.march, self.shade, *(self._with_objects or ())):
            program.free()
        GL.glDeleteBuffers(1, [self._network])
        GL.glDeleteVertexArrays(1, [self._vertices])
