"""Render a baked scene with the native marcher on a CPU or a GPU, or with the reference where there is none."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Camera
from smerf.kernels import march, native
from smerf.render import reference
from smerf.render.camera import near_rays, to_submodel
from smerf.scene.supersample import draw_supersampled
from smerf.scene.types import BakedScene, SceneParams, lattice_mlp_at
from smerf.scene.view import MarchOptions, choose_background, choose_exposure, choose_near, unknown_colours

__all__ = [
    "DeviceRenderer",
    "march_settings",
    "render_camera",
    "render_depth",
    "render_depths",
    "render_ids",
    "render_rays",
    "renderer",
]


def renderer(
    scene: BakedScene, device: torch.device | str, options: MarchOptions | None = None
) -> Callable[[Camera], np.ndarray]:
    """Return what renders cameras on a device, with these choices of the march: (H, W, 3) float32 in [0, 1].

    Where the CUDA marcher is missing, or does not support the scene, the CPU renders.
    """
    device = torch.device(device)
    has_marcher = native.backend(torch.empty(0, device=device), "smerf_march") is not None
    if device.type == "cpu" or not has_marcher or not _supports(scene):
        return functools.partial(render_camera, scene, options=options)
    return functools.partial(DeviceRenderer(scene, device).render, options=options)


def render_camera(
    scene: BakedScene,
    camera: Camera,
    near: float | None = None,
    background: tuple[float, float, float] | None = None,
    options: MarchOptions | None = None,
    k: int | None = None,
) -> np.ndarray:
    """Render one camera on the CPU; arguments and result are those of ``smerf.render.reference.render_camera``."""
    plane, centre = choose_near(scene, near), camera.world_from_cam[:, 3]
    which = scene.params.choose_submodel(centre) if k is None else k

    def draw(part: Camera) -> np.ndarray:
        _, directions = near_rays(part, plane)
        size = part.intrinsics
        colours = render_rays(scene, which, centre, directions, 1.0, background, options, size.width)
        return np.clip(colours, 0.0, 1.0).reshape(size.height, size.width, 3)

    return draw_supersampled(camera, scene.manifest.pixel_angle, draw)


def render_rays(
    scene: BakedScene,
    k: int,
    origin: np.ndarray,
    directions: np.ndarray,
    near: float = 1.0,
    background: tuple[float, float, float] | None = None,
    options: MarchOptions | None = None,
    width: int = 0,
) -> np.ndarray:
    """Render rays of one camera centre through submodel k on the CPU.

    Args:
        scene: The scene.
        k: Parameter index of the submodel.
        origin: (3,) training axes, world units.
        directions: (R, 3), training axes, scaled so that t = 1 is the near plane.
        near: Ray parameter at which rendering starts, in units of ``directions``.
        background: RGB; ``None`` means the scene's own.
        options: Choices of the march.
        width: Pixels of a row if the rays are those of an image, row by row, which is then rendered faster.

    Returns:
        Colours (R, 3) float32, not clamped.
    """
    origin = np.asarray(origin, np.float64).reshape(1, 3)
    directions = np.asarray(directions, np.float32)
    if not (march.is_available() and _supports(scene)):
        return reference.render_rays(scene, k, origin, directions, near, background, options).numpy()
    network = lattice_mlp_at(scene.params, scene.mlp, k, origin[0])
    rays = to_submodel(scene.params, k, origin, directions)
    settings = _settings(scene, options, near, background)
    return march.march_rays(settings, scene.submodel(k), network, *rays, width)


def render_depth(
    scene: BakedScene,
    camera: Camera,
    near: float | None = None,
    k: int | None = None,
    spent: float = 0.5,
) -> np.ndarray:
    """Return the world distance from the camera's centre at which each pixel's ray is spent, on the CPU.

    It is where the visibility falls to ``spent``; the other arguments are those of
    ``smerf.render.reference.render_camera``. (H, W) float32, 0 where that never happens.
    """
    return render_depths(scene, camera, (spent,), near, k)[..., 0]


def render_depths(
    scene: BakedScene,
    camera: Camera,
    spent: tuple[float, ...],
    near: float | None = None,
    k: int | None = None,
) -> np.ndarray:
    """Return the distances of ``render_depth`` for several visibilities (D, at most 8): (H, W, D) float32."""
    _, directions = near_rays(camera, choose_near(scene, near))
    centre = np.asarray(camera.world_from_cam[None, :3, 3], np.float64)
    k = scene.params.choose_submodel(centre[0]) if k is None else k
    rays = to_submodel(scene.params, k, centre, directions)
    size = camera.intrinsics
    depth = np.zeros((len(directions), len(spent)), np.float32)
    if not (march.is_available() and _supports(scene)):
        origins = np.broadcast_to(rays[0], rays[1].shape).copy()
        given = torch.from_numpy(origins), torch.from_numpy(rays[1])
        for column, each in zip(depth.T, spent):
            marched = reference.march_all(scene.submodel(k), scene.params, *given, spent=each)
            column[:] = marched.depth.numpy()
    else:
        network = lattice_mlp_at(scene.params, scene.mlp, k, centre[0])
        settings = replace(_settings(scene, MarchOptions(fade_unknown=False), 1.0, None), spent=spent)
        march.march_rays(settings, scene.submodel(k), network, *rays, size.width, depth)
    return depth.reshape(size.height, size.width, len(spent))


def render_ids(
    scene: BakedScene,
    camera: Camera,
    near: float | None = None,
    options: MarchOptions | None = None,
    k: int | None = None,
) -> np.ndarray:
    """Return the object that each pixel shows, on the CPU: uint8 (H, W), 0 for none.

    It is the one with the greatest part of the ray's weight, the nearer of equals. Arguments are those of
    ``smerf.render.reference.render_camera``.
    """
    _, directions = near_rays(camera, choose_near(scene, near))
    centre = np.asarray(camera.world_from_cam[None, :3, 3], np.float64)
    k = scene.params.choose_submodel(centre[0]) if k is None else k
    size = camera.intrinsics
    ids = np.zeros(len(directions), np.uint8)
    if not (march.is_available() and _supports(scene)):
        ids[:] = reference.render_ids(scene, k, centre, directions, options)
    else:
        rays = to_submodel(scene.params, k, centre, directions)
        network = lattice_mlp_at(scene.params, scene.mlp, k, centre[0])
        settings = _settings(scene, options, 1.0, None)
        march.march_rays(settings, scene.submodel(k), network, *rays, size.width, objects=ids)
    return ids.reshape(size.height, size.width)


def _settings(
    scene: BakedScene,
    options: MarchOptions | None,
    near: float,
    background: tuple[float, float, float] | None,
) -> march.MarchSettings:
    options = options or MarchOptions()
    return replace(
        march_settings(scene.params, options, near, choose_background(scene, background)),
        unknown_colours=unknown_colours(scene, options),
        hidden=options.hidden,
        lit=options.lit,
    )


def march_settings(
    params: SceneParams,
    options: MarchOptions | None = None,
    near: float = 1.0,
    background: tuple[float, float, float] = (0.5, 0.5, 0.5),
) -> march.MarchSettings:
    """Gather what the kernel needs from the scene's parameters and the choices of the march."""
    options = options or MarchOptions()
    return march.MarchSettings(
        triplane_resolution=params.triplane_resolution,
        sparse_grid_resolution=params.sparse_grid_resolution,
        data_block_size=params.data_block_size,
        range_features=params.range_features,
        range_density=params.range_density,
        submodel_scale=params.submodel_scale,
        feature_gating=params.feature_gating,
        has_coarse=params.has_coarse,
        is_relu=params.activation == "relu",
        is_vfr=params.deferred_rendering_mode == "vfr",
        exposure=choose_exposure(params, options),
        background=background,
        near=near,
        step_multiplier=options.step_multiplier,
        enlarge_steps_when_occluded=options.enlarge_steps_when_occluded,
        visibility_delay=options.visibility_delay,
    )


class DeviceRenderer:
    """A baked scene whose submodels lie on a GPU, the least recently rendered ones dropped first."""

    def __init__(self, scene: BakedScene, device: torch.device | str) -> None:
        self.scene, self.device = scene, torch.device(device)
        self._submodels: OrderedDict[int, SimpleNamespace] = OrderedDict()

    def submodel(self, k: int) -> SimpleNamespace:
        """Return submodel k's arrays as tensors on the device, sending them if needed."""
        if k not in self._submodels:
            source = self.scene.submodel(k)
            while len(self._submodels) >= max(1, self.scene.cache_size):
                self._submodels.popitem(last=False)
            self._submodels[k] = SimpleNamespace(
                atlas=self._send(source.atlas),
                planes=self._send(source.planes),
                block_indices=self._send(source.block_indices),
                distance={8: self._send(source.distance[8])},
                occupancy={8: self._send(source.occupancy[8])},
                known=None if source.known is None else self._send(source.known),
                object_ids=None if source.object_ids is None else self._send(source.object_ids),
            )
        self._submodels.move_to_end(k)
        return self._submodels[k]

    def _send(self, array: np.ndarray) -> Tensor:
        return torch.tensor(np.ascontiguousarray(array)).to(self.device)

    def rays(self, camera: Camera, k: int, near: float | None = None) -> tuple[Tensor, Tensor]:
        """Return a camera's origin (1, 3) and directions (H * W, 3) in submodel k's frame, on the device."""
        # Computed in main memory, where the other renderers compute theirs: the same numbers, to the last bit.
        _, directions = near_rays(camera, choose_near(self.scene, near))
        origin = np.asarray(camera.world_from_cam[None, :3, 3], np.float64)
        origins, directions = to_submodel(self.scene.params, k, origin, directions)
        return self._send(origins), self._send(directions)

    def march(
        self,
        camera: Camera,
        origins: Tensor,
        directions: Tensor,
        k: int,
        background: tuple[float, float, float] | None = None,
        options: MarchOptions | None = None,
    ) -> Tensor:
        """March rays that are on the device already: (H * W, 3), not clamped, still on the device."""
        scene = self.scene
        settings = _settings(scene, options, 1.0, background)
        network = lattice_mlp_at(scene.params, scene.mlp, k, camera.world_from_cam[:3, 3])
        on_device = {name: self._send(value) for name, value in network.items()}
        width = camera.intrinsics.width
        return march.march_tensors(settings, self.submodel(k), on_device, origins, directions, width)

    def render(
        self,
        camera: Camera,
        near: float | None = None,
        background: tuple[float, float, float] | None = None,
        options: MarchOptions | None = None,
        k: int | None = None,
    ) -> np.ndarray:
        """Render one camera; arguments and result are those of ``smerf.render.reference.render_camera``."""
        which = self.scene.params.choose_submodel(camera.world_from_cam[:, 3]) if k is None else k

        def draw(part: Camera) -> np.ndarray:
            colours = self.march(part, *self.rays(part, which, near), which, background, options)
            size = part.intrinsics
            return colours.clamp(0.0, 1.0).view(size.height, size.width, 3).cpu().numpy()

        return draw_supersampled(camera, self.scene.manifest.pixel_angle, draw)


def _supports(scene: BakedScene) -> bool:
    """Return whether the native marcher supports the width of the scene's appearance network."""
    widest = max(scene.mlp[f"ResampleDense_{i}/bias"].shape[-1] for i in (0, 1))
    return widest <= march.MAX_HIDDEN
