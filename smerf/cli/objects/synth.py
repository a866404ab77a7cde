"""``smerf objects synth``: random scenes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from smerf.cli.options import (
    Common,
    Device,
    Output,
    Positional,
    Switch,
    refuse_non_empty,
    resolve_device,
)

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Render random scenes of objects with exact instance masks and poses.

    Recipes: easy (2 or 3 large spheres, seen from one side), clevr (3 to 5 spheres, boxes and cylinders with
    shadows), clevr-plain (the same without shadows and highlights), msn (4 to 8 textured meshes; needs embreex).

    Examples:
      smerf objects synth easy -o scenes/easy --scenes 3000
      smerf objects synth clevr -o scenes/clevr --scenes 20000 --size 64 --seed 1
    """

    recipe: Positional[Annotated[str, tyro.conf.arg(metavar="RECIPE")]]
    """easy, clevr, clevr-plain or msn."""
    output: Output
    """Folder to write."""
    scenes: Annotated[int, tyro.conf.arg(metavar="N")] = 1000
    """Number of scenes."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Side of the square images; the recipe's own if not given."""
    views: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Views of each scene; the recipe's own if not given."""
    depth: Switch[bool] = False
    """Write the distance along each ray as well."""
    seed: int = 0
    """Random seed: the same seed gives the same scenes."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    overwrite: Switch[bool] = False
    """Write into a folder that is not empty."""


def run(options: Options) -> int:
    """Render the scenes and print where they are."""
    import dataclasses

    from smerf.engine.progress import Progress
    from smerf.engine.signals import catch_signals
    from smerf.errors import UsageError
    from smerf.objects.data.generate import RECIPES, generate_scenes
    from smerf.objects.data.meshes import MESH_RECIPES, generate_mesh_scenes
    from smerf.objects.data.scenes import save_scenes

    known = {**RECIPES, **MESH_RECIPES}
    if options.recipe not in known:
        raise UsageError(f"{options.recipe}: is not a recipe; there are {', '.join(known)}")
    for name in ("scenes", "size", "views"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: give 1 or more")
    device = resolve_device(options.device)
    refuse_non_empty(options.output, options.overwrite, "folder")
    recipe = known[options.recipe]
    if options.size is not None:
        recipe = dataclasses.replace(recipe, size=(options.size, options.size))
    if options.views is not None:
        recipe = dataclasses.replace(recipe, views=options.views)
    with catch_signals(), Progress("synth", unit="scenes", stops=True, quiet=options.quiet) as progress:
        if options.recipe in MESH_RECIPES:
            scenes = generate_mesh_scenes(
                recipe, options.scenes, options.seed, depth=options.depth, progress=progress
            )
        else:
            scenes = generate_scenes(
                recipe, options.scenes, options.seed, device, depth=options.depth, progress=progress
            )
    for old in options.output.glob("scenes_*.npz"):
        old.unlink()
    save_scenes(scenes, options.output)
    print(f"scenes: {options.output} ({len(scenes)})\nnext:   smerf objects train {options.output}")
    return 0
