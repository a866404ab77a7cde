"""Draw cameras with the fastest renderer of this machine; for now the reference."""

from smerf.render.reference import render_camera

__all__ = ["render_camera"]
