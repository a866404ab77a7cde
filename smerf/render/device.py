"""Drawing cameras of a baked scene on a GPU: submodels are sent there once, pictures come back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Camera
from smerf.kernels import march, native
from smerf.render.camera import MarchOptions, camera_rays, choose_background, choose_near, to_submodel
from smerf.render.native import fits_march, march_settings
from smerf.scene.types import BakedScene, lattice_mlp_at

__all__ = ["DeviceRenderer", "renderer"]


def renderer(scene: BakedScene, device: torch.device | str) -> Callable[[Camera], np.ndarray]:
    """Return what draws cameras on a device, (H, W, 3) float32 in [0, 1].

    Scenes and machines that the CUDA marcher does not serve are drawn by ``scene.render``.
    """
    device = torch.device(device)
    has_marcher = native.backend(torch.empty(0, device=device), "smerf_march") is not None
    if device.type == "cpu" or not has_marcher or not fits_march(scene):
        return scene.render
    return DeviceRenderer(scene, device).render


class DeviceRenderer:
    """A baked scene whose submodels lie on a GPU, least recently drawn ones dropped first."""

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
            )
        self._submodels.move_to_end(k)
        return self._submodels[k]

    def _send(self, array: np.ndarray) -> Tensor:
        return torch.tensor(np.ascontiguousarray(array)).to(self.device)

    def rays(self, camera: Camera, k: int, near: float | None = None) -> tuple[Tensor, Tensor]:
        """Return a camera's origin (1, 3) and directions (H * W, 3) in submodel k's frame, on the device."""
        # Computed in main memory, where the other renderers compute theirs: the same numbers, to the last bit.
        _, directions = camera_rays(camera, choose_near(self.scene, near))
        origin = np.asarray(camera.world_from_cam[None, :3, 3], np.float64)
        origins, directions = to_submodel(self.scene.params, k, origin, directions)
        return self._send(origins), self._send(directions)

    def draw(
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
        settings = march_settings(scene.params, options, 1.0, choose_background(scene, background))
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
        """Draw one camera; arguments and result are those of ``smerf.render.reference.render_camera``."""
        k = self.scene.params.choose_submodel(camera.world_from_cam[:, 3]) if k is None else k
        colours = self.draw(camera, *self.rays(camera, k, near), k, background, options)
        lens = camera.intrinsics
        return colours.clamp(0.0, 1.0).view(lens.height, lens.width, 3).cpu().numpy()
