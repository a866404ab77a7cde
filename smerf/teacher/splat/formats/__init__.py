"""Readers of splat files, one a format, and which of them a file needs: by its content, never by its name."""

from smerf.teacher.splat.formats.detect import KNOWN_SPLATS, read_splats, splat_kind

__all__ = ["KNOWN_SPLATS", "read_splats", "splat_kind"]
