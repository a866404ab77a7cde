"""Posed captures in: readers of every common layout, cameras, rays, photos."""

from smerf.capture.images import load_composited, load_depth, load_image, load_mask
from smerf.capture.load import fingerprint, load_capture
from smerf.capture.rays import pixel_directions, pixel_rays, project
from smerf.capture.scale import content_scale
from smerf.capture.types import Camera, Capture, Frame, Intrinsics, Similarity
from smerf.capture.write import save_transforms

__all__ = [
    "Camera",
    "Capture",
    "Frame",
    "Intrinsics",
    "Similarity",
    "content_scale",
    "fingerprint",
    "load_capture",
    "load_composited",
    "load_depth",
    "load_image",
    "load_mask",
    "pixel_directions",
    "pixel_rays",
    "project",
    "save_transforms",
]
