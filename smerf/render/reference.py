"""Plain PyTorch renderer of baked scenes: what the native and the GLSL renderers are measured against.

Follows the official viewer step by step: piecewise-straight rays through the contraction, distance grid,
packed occupancy, block-sparse atlas plus three planes, gated sum, compositing, and one small network per
pixel. Letters: R rays, N points. ``t`` is the world-side ray parameter (t = 1 is the near plane), ``s`` the
contracted arc length within one region. Sources: MERF (arXiv 2302.12249), SMERF (arXiv 2312.07541) and the
official viewer's behaviour.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Camera
from smerf.render.assets import sample_assets
from smerf.render.camera import near_rays, to_submodel
from smerf.render.marcher import Marched, Marcher
from smerf.render.shading import shade
from smerf.scene.supersample import draw_supersampled
from smerf.scene.types import BakedScene, BakedSubmodel, SceneParams, lattice_mlp_at
from smerf.scene.view import (
    HIGHLIGHT,
    MarchOptions,
    choose_background,
    choose_exposure,
    choose_near,
    unknown_colours,
)

__all__ = [
    "Marched",
    "march",
    "march_all",
    "render_camera",
    "render_ids",
    "render_rays",
    "sample_assets",
    "shade",
]

_CHUNK = 1 << 16
"""Rays marched together: large enough to hide the cost of one call, small enough for a laptop's cache."""


def march_all(
    submodel: BakedSubmodel,
    params: SceneParams,
    origins: Tensor,
    directions: Tensor,
    near: float = 1.0,
    options: MarchOptions | None = None,
    spent: float = 0.5,
    picks: bool = False,
) -> Marched:
    """March rays through one submodel, with the arguments of ``march``.

    ``spent`` is the visibility at which their depth is taken; ``picks``: whether their owners are asked for.
    """
    options = options or MarchOptions()
    picks = submodel.object_ids is not None and (picks or bool(options.hidden or options.lit))
    parts = [
        Marcher(submodel, params, options, o, d, near, spent, picks).run()
        for o, d in zip(origins.split(_CHUNK), directions.split(_CHUNK))
        if len(o)
    ]
    if not parts:
        empty = origins.new_zeros(0)
        total = origins.new_zeros(0, 14 if params.has_coarse else 7)
        return Marched(total, empty, empty, empty, empty, empty.long())
    return Marched(*(torch.cat(values) for values in zip(*parts)))


def march(
    submodel: BakedSubmodel,
    params: SceneParams,
    origins: Tensor,
    directions: Tensor,
    near: float = 1.0,
    options: MarchOptions | None = None,
) -> tuple[Tensor, Tensor]:
    """March rays through one submodel.

    Args:
        submodel: The arrays.
        params: The scene's parameters.
        origins: (R, 3) float32 in the submodel's frame, viewer axes.
        directions: (R, 3) float32, same frame, not zero.
        near: Ray parameter at which the march starts.
        options: Choices of the march.

    Returns:
        Blended channels (R, 14) in [0, 1] (rgb, f0..f3, then the coarse seven; (R, 7) without coarse
        channels) and the visibility (R,) that is left for the background.
    """
    marched = march_all(submodel, params, origins, directions, near, options)
    return marched.total, marched.visibility


def render_rays(
    scene: BakedScene,
    k: int,
    origins: np.ndarray | Tensor,
    directions: np.ndarray | Tensor,
    near: float = 1.0,
    background: tuple[float, float, float] | None = None,
    options: MarchOptions | None = None,
) -> Tensor:
    """Render rays through submodel k.

    Args:
        scene: The scene.
        k: Parameter index of the submodel.
        origins: (R, 3), or (1, 3) for one camera, training axes, world units.
        directions: (R, 3), training axes, scaled so that t = 1 is the near plane.
        near: Ray parameter at which rendering starts, in units of ``directions``.
        background: RGB; ``None`` means the scene's own.
        options: Choices of the march.

    Returns:
        Colours (R, 3) float32, not clamped. The network is interpolated at each ray's origin.
    """
    options = options or MarchOptions()
    params = scene.params
    origins, directions = np.asarray(origins, np.float32), np.asarray(directions, np.float32)
    if directions.ndim != 2 or directions.shape[1] != 3 or origins.shape not in ((1, 3), directions.shape):
        raise ValueError(
            f"rays: expected (R, 3) and (1, 3) or (R, 3), got {directions.shape} and {origins.shape}"
        )
    marched = march_all(scene.submodel(k), params, *_rays_in(params, k, origins, directions), near, options)
    result = torch.zeros(len(directions), 3)
    centres, which = np.unique(origins, axis=0, return_inverse=True)
    which = np.broadcast_to(which.reshape(-1), (len(directions),))
    for i, centre in enumerate(centres):
        rays = torch.from_numpy((which == i).nonzero()[0])
        result[rays] = shade(
            params,
            lattice_mlp_at(params, scene.mlp, k, centre),
            marched.total[rays],
            marched.visibility[rays],
            torch.from_numpy(directions)[rays],
            choose_background(scene, background),
            choose_exposure(params, options),
        )
    result += marched.lit[:, None] * (result.new_tensor(HIGHLIGHT) - result)
    calm = unknown_colours(scene, options)
    if calm is not None:
        up = torch.from_numpy(directions[:, 2:] / np.linalg.norm(directions, axis=1, keepdims=True))
        ahead, above, below = result.new_tensor(calm)
        fading = ahead + up.abs() * (2.0 - up.abs()) * (torch.where(up > 0.0, above, below) - ahead)
        result += marched.unknown[:, None] * (fading - result)
    return result


def _rays_in(
    params: SceneParams, k: int, origins: np.ndarray, directions: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Return rays in submodel k's frame, an origin each."""
    o, d = to_submodel(params, k, origins, directions)
    return torch.from_numpy(np.broadcast_to(o, d.shape).copy()), torch.from_numpy(d)


def render_ids(
    scene: BakedScene,
    k: int,
    origins: np.ndarray,
    directions: np.ndarray,
    options: MarchOptions | None = None,
) -> np.ndarray:
    """Return the objects (R,) uint8 that rays show, 0 for none; arguments are those of ``render_rays``."""
    rays = _rays_in(scene.params, k, np.asarray(origins, np.float32), np.asarray(directions, np.float32))
    marched = march_all(scene.submodel(k), scene.params, *rays, options=options, picks=True)
    return marched.owner.numpy().astype(np.uint8)


def render_camera(
    scene: BakedScene,
    camera: Camera,
    near: float | None = None,
    background: tuple[float, float, float] | None = None,
    options: MarchOptions | None = None,
    k: int | None = None,
) -> np.ndarray:
    """Render one camera.

    Args:
        scene: The scene.
        camera: Intrinsics and pose, training axes.
        near: Near plane in world units; ``None`` means the scene's own, else 0.2.
        background: RGB; ``None`` means the scene's own, else grey 0.5.
        options: Choices of the march.
        k: Submodel to render; ``None`` means the one that holds the camera's centre.

    Returns:
        (H, W, 3) float32, clamped to [0, 1], display-referred (sRGB-encoded) values; of several rays a pixel where the
        picture is smaller than the scene was trained at (``smerf.scene.supersample``).
    """
    plane = choose_near(scene, near)
    which = scene.params.choose_submodel(camera.world_from_cam[:, 3]) if k is None else k

    def draw(part: Camera) -> np.ndarray:
        colours = render_rays(scene, which, *near_rays(part, plane), 1.0, background, options)
        size = part.intrinsics
        return colours.clamp(0.0, 1.0).numpy().reshape(size.height, size.width, 3)

    return draw_supersampled(camera, scene.manifest.pixel_angle, draw)
