"""Shader programs: the texts of ``viewer/shaders`` behind the desktop prologue, with a scene's constants."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from smerf.errors import MissingPartError
from smerf.scene.types import BakedScene

from .context import gl

__all__ = ["Program", "assemble", "scene_defines", "weight_count"]

_ROOT = Path(__file__).resolve().parents[1] / "shaders"
_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)


def weight_count(widths: tuple[int, int, int]) -> int:
    """Return the length in vec4 of the network's uniform block; ``widths`` are inputs, hidden 1, hidden 2."""
    layers = zip(widths, (*widths[1:], 3))
    return sum(math.ceil(outputs / 4) * (1 + 4 * math.ceil(inputs / 4)) for inputs, outputs in layers)


def network_widths(scene: BakedScene) -> tuple[int, int, int]:
    """Return the widths of the appearance network's inputs and hidden layers."""
    inputs, first = scene.mlp["ResampleDense_0/kernel"].shape[-2:]
    return inputs, first, scene.mlp["ResampleDense_1/kernel"].shape[-1]


def scene_defines(
    scene: BakedScene, step_multiplier: int, has_exposure: bool, fades: bool = False, objects: bool = False
) -> dict[str, str]:
    """Return the constants of the table in ``viewer/shaders/README.md``.

    ``fades``: by the scene's known region; ``objects``: whether to look at the objects of voxels.
    """
    params = scene.params
    texels = params.triplane_resolution
    widths = network_widths(scene)
    values: dict[str, float | int | bool] = {
        "TRIPLANE_RESOLUTION": texels,
        "SPARSE_RESOLUTION": params.sparse_grid_resolution,
        "BLOCK_SIZE": params.data_block_size,
        "GRID_RESOLUTION": math.ceil(texels / 8),
        "STEP_MULTIPLIER": step_multiplier,
        "MAX_STEPS": math.ceil(math.sqrt(2.0) * texels) * step_multiplier,
        "RANGE_FEATURES_MIN": float(params.range_features[0]),
        "RANGE_FEATURES_MAX": float(params.range_features[1]),
        "RANGE_DENSITY_MIN": float(params.range_density[0]),
        "RANGE_DENSITY_MAX": float(params.range_density[1]),
        "FEATURE_GATING": bool(params.feature_gating),
        "COARSE_SUM": params.has_coarse,
        "VFR": params.deferred_rendering_mode == "vfr",
        "ACTIVATION_ELU": params.activation == "elu",
        "EXPOSURE": has_exposure,
        "KNOWN_REGION": fades,
        "OBJECTS": objects,
        "HIDDEN_1": widths[1],
        "HIDDEN_2": widths[2],
        "WEIGHT_COUNT": weight_count(widths),
    }
    return {
        name: f"({value!r})" if isinstance(value, float) else str(int(value))
        for name, value in values.items()
    }


def assemble(name: str, defines: dict[str, str]) -> str:
    """Return the full text of a shader file: prologue, defines, body with its includes."""
    body = _INCLUDE.sub(lambda match: (_ROOT / match[1]).read_text(), (_ROOT / name).read_text())
    lines = "".join(f"#define {key} {value}\n" for key, value in defines.items())
    return (_ROOT / "prologue_desktop.glsl").read_text() + lines + body


class Program:
    """A linked program and its uniforms. Raises MissingPartError with the driver's words if it does not link."""

    def __init__(self, vertex: str, fragment: str) -> None:
        GL = gl()
        self.number = GL.glCreateProgram()
        logs = []
        for kind, text in ((GL.GL_VERTEX_SHADER, vertex), (GL.GL_FRAGMENT_SHADER, fragment)):
            shader = GL.glCreateShader(kind)
            GL.glShaderSource(shader, text)
            GL.glCompileShader(shader)
            if not GL.glGetShaderiv(shader, GL.GL_COMPILE_STATUS):
                logs.append(_text(GL.glGetShaderInfoLog(shader)))
            GL.glAttachShader(self.number, shader)
            GL.glDeleteShader(shader)
        if not logs:
            GL.glLinkProgram(self.number)
            if not GL.glGetProgramiv(self.number, GL.GL_LINK_STATUS):
                logs.append(_text(GL.glGetProgramInfoLog(self.number)))
        if logs:
            raise MissingPartError(
                f"the shaders do not compile with this graphics driver ({' '.join(logs)[:400]}); update the driver"
            )
        self._places: dict[str, int] = {}

    def at(self, name: str) -> int:
        """Return a uniform's location, -1 where the compiler left it out."""
        if name not in self._places:
            self._places[name] = gl().glGetUniformLocation(self.number, name)
        return self._places[name]

    def use(self) -> None:
        """Make this the current program."""
        gl().glUseProgram(self.number)

    def free(self) -> None:
        """Delete the program."""
        gl().glDeleteProgram(self.number)


def _text(log: Any) -> str:
    return log.decode(errors="replace") if isinstance(log, bytes) else str(log)
