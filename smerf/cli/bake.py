"""``smerf bake``: the third stage of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Positional, Settings, Switch

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Bake the student of a run into 8-bit assets that stream into a viewer.

    Examples:
      smerf bake runs/tabletop
      smerf bake runs/tabletop --max-mb 20
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the capture is now, if it has moved."""
    max_mb: Annotated[float | None, tyro.conf.arg(metavar="N")] = None
    """Largest size in MB: what contributes least to the views goes. The run remembers it."""
    set: Settings = ()
    """Change one setting of the bake; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config; what the change touches is redone."""


def run(options: Options) -> int:
    """Bake the scene and say where it is."""
    from smerf.engine.files import read_json
    from smerf.engine.folder import RunFolder
    from smerf.engine.settings import apply_overrides
    from smerf.engine.signals import catch_signals
    from smerf.pipeline import stages as pipeline
    from smerf.pipeline.summary import format_bytes

    folder = RunFolder.open(options.run)
    with catch_signals(), folder:
        config = pipeline.choose_config(folder, None, options.set, overwrite=options.overwrite)
        if options.max_mb is not None:
            # A size that is asked for by its own name changes nothing but the bake.
            config = apply_overrides(config, (f"bake.max_mb={options.max_mb}",))
        job = pipeline.resume_run(folder, config, "cpu", data=options.data, quiet=options.quiet)
        pipeline.bake(job)
    baked = folder.folder("baked")
    size = sum(path.stat().st_size for path in baked.rglob("*") if path.is_file())
    cost = read_json(baked / "manifest.json").get("extra", {}).get("size_budget")
    if cost:
        print(
            f"size:  {cost['full_mb']:.1f} MB -> {cost['mb']:.1f} MB of {cost['max_mb']:g} MB with "
            f"{100 * cost['blocks_kept']:.0f} % of the blocks that are seen; on {len(cost['views'])} training photos "
            f"{cost['full_psnr']:.2f} dB -> {cost['psnr']:.2f} dB"
        )
    print(f"scene: {baked} ({format_bytes(size)})\nnext:  smerf export {folder.path} -o site")
    return 0
