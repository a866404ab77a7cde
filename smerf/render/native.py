"""Draw cameras of a baked scene natively, or with the reference where no native library is present."""

from __future__ import annotations

import numpy as np

from smerf.capture.types import Camera
from smerf.kernels import march
from smerf.render.camera import (
    MarchOptions,
    camera_rays,
    choose_background,
    choose_exposure,
    choose_near,
    to_submodel,
)
from smerf.scene.types import BakedScene, SceneParams, lattice_mlp_at

__all__ = ["fits_march", "march_settings", "render_camera", "render_rays"]


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
    """Render rays of one camera centre through submodel k.

    Args:
        scene: The scene.
        k: Parameter index of the submodel.
        origin: (3,) training axes, world units.
        directions: (R, 3), training axes, scaled so that t = 1 is the near plane.
        near: Ray parameter at which drawing starts, in units of ``directions``.
        background: RGB; ``None`` means the scene's own.
        options: Choices of the march.
        width: Pixels of a row if the rays are those of a picture, row by row, which is then drawn faster.

    Returns:
        Colours (R, 3) float32, not clamped.
    """
    origin = np.asarray(origin, np.float64).reshape(1, 3)
    directions = np.asarray(directions, np.float32)
    if not _can_run(scene):
        from smerf.render import reference

        return reference.render_rays(scene, k, origin, directions, near, background, options).numpy()
    settings = march_settings(scene.params, options, near, choose_background(scene, background))
    network = lattice_mlp_at(scene.params, scene.mlp, k, origin[0])
    rays = to_submodel(scene.params, k, origin, directions)
    return march.march_rays(settings, scene.submodel(k), network, *rays, width)


def render_camera(
    scene: BakedScene,
    camera: Camera,
    near: float | None = None,
    background: tuple[float, float, float] | None = None,
    options: MarchOptions | None = None,
    k: int | None = None,
) -> np.ndarray:
    """Draw one camera; arguments and result are those of ``smerf.render.reference.render_camera``."""
    _, directions = camera_rays(camera, choose_near(scene, near))
    k = scene.params.choose_submodel(camera.world_from_cam[:, 3]) if k is None else k
    lens = camera.intrinsics
    centre = camera.world_from_cam[:, 3]
    colours = render_rays(scene, k, centre, directions, 1.0, background, options, lens.width)
    return np.clip(colours, 0.0, 1.0).reshape(lens.height, lens.width, 3)


def fits_march(scene: BakedScene) -> bool:
    """Return whether the native marcher takes the scene's appearance network."""
    widest = max(scene.mlp[f"ResampleDense_{i}/bias"].shape[-1] for i in (0, 1))
    return widest <= march.MAX_HIDDEN


def _can_run(scene: BakedScene) -> bool:
    return march.is_available() and fits_march(scene)
