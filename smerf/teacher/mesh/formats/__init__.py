"""Readers of mesh files, chosen by what the files hold."""

from smerf.teacher.mesh.formats.detect import KNOWN_MESHES, mesh_kind, read_mesh

__all__ = ["KNOWN_MESHES", "mesh_kind", "read_mesh"]
