"""Several sets of scenes for one training: of several sizes, and data sets that share the steps by quotas.

A folder of folders: each is a set of scenes, a posed capture of photos, or once more a folder of sets, of one data set
in several sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from smerf.errors import InvalidDataError, UsageError
from smerf.objects.config import ObjectsConfig
from smerf.objects.data.batches import MixedBatch, SceneBatch, local_contrast, sample_batch
from smerf.objects.data.photos import scenes_of_capture
from smerf.objects.data.readers import is_scene_set, open_scenes
from smerf.objects.data.scenes import SceneSet

__all__ = ["Mixture", "Part", "open_mixture", "sample_mixed"]


@dataclass(frozen=True)
class Part:
    """Scenes of one size: what is trained on, what is held out, and ``local_contrast`` of the former or ``None``."""

    scenes: SceneSet
    held_out: SceneSet
    contrast: torch.Tensor | None


@dataclass(frozen=True)
class Mixture:
    """Data sets by name, each of one or more sizes; a single set has the name ''."""

    sets: dict[str, tuple[SceneSet, ...]]

    @property
    def first(self) -> SceneSet:
        """The first set of all."""
        return next(iter(self.sets.values()))[0]

    @property
    def source(self) -> dict[str, Any]:
        """Where the scenes came from, as JSON values."""
        if list(self.sets) == [""] and len(self.sets[""]) == 1:
            return self.first.source
        return {
            f"{name}:{each.size[1]}x{each.size[0]}": each.source
            for name, sets in self.sets.items()
            for each in sets
        }

    def __len__(self) -> int:
        return sum(len(each) for sets in self.sets.values() for each in sets)

    def parts(self, config: ObjectsConfig, device: str) -> dict[str, tuple[Part, ...]]:
        """Hold out the last scenes of every set, and move all to a device.

        Raises:
            InvalidDataError: If the scenes do not match the config.
        """
        _check_names(self, config)
        result = {}
        for name, sets in self.sets.items():
            for scenes in sets:
                _check_scenes(scenes, config, is_alone=len(self.sets) == len(sets) == 1)
            result[name] = tuple(_split(scenes.to(device), config) for scenes in sets)
        return result


def open_mixture(
    path: Path, config: ObjectsConfig | None = None, limit: int | None = None, *, names: Sequence[str] = ()
) -> Mixture:
    """Read a set of scenes, or a folder of sets.

    Args:
        path: Folder.
        config: Sizes, for photos of captures; without it captures are refused.
        limit: Read only the first scenes of each set.
        names: Data sets, each in the folder of its name; without them, all sets of the folder are one.

    Raises:
        UsageError: If there is none, or one that is named is missing.
        InvalidDataError: If one is damaged.
    """
    if names:
        if is_scene_set(path):
            raise UsageError(
                f"{path}: is one set; training.quotas needs a folder of the data sets that it names"
            )
        if missing := [name for name in names if not (path / name).is_dir()]:
            raise UsageError(f"{path / missing[0]}: is not there; training.quotas names that data set")
        return Mixture({name: _open_sizes(path / name, config, limit) for name in names})
    return Mixture({"": _open_sizes(path, config, limit)})


def _open_sizes(path: Path, config: ObjectsConfig | None, limit: int | None) -> tuple[SceneSet, ...]:
    inner = sorted(each for each in path.iterdir() if is_scene_set(each)) if path.is_dir() else []
    if inner and not is_scene_set(path):
        return tuple(open_scenes(each, limit) for each in inner)
    if is_scene_set(path) or config is None or not path.is_dir():
        return (open_scenes(path, limit),)
    return (scenes_of_capture(path, config.image, config.training.held_out),)


def sample_mixed(
    parts: Sequence[Part],
    which: torch.Tensor,
    config: ObjectsConfig,
    generator: torch.Generator,
    rows: slice,
) -> MixedBatch:
    """Sample input views and target rays of scenes of several sizes, size by size.

    Args:
        parts: The scenes of each size.
        which: Numbers of the scenes, counted over all parts, (B,) int64.
        config: Its training says how many rays and views.
        generator: On the CPU; it moves on by the whole batch.
        rows: Part of the batch to return, by its order after sorting by size.
    """
    batches: list[SceneBatch] = []
    first = start = 0
    for part in parts:
        chosen = which[(which >= first) & (which < first + len(part.scenes))] - first
        count = len(chosen)
        own = slice(*(min(max(edge - start, 0), count) for edge in (rows.start, rows.stop)))
        if count:
            batch = sample_batch(
                part.scenes,
                chosen,
                config.training,
                generator,
                frame=config.frame,
                contrast=part.contrast,
                rows=own,
            )
            batches += [batch] if len(batch.colours) else []
        first, start = first + len(part.scenes), start + count
    return MixedBatch.of(batches)


def _split(scenes: SceneSet, config: ObjectsConfig) -> Part:
    split = len(scenes) - config.training.held_out
    train = scenes[:split]
    return Part(train, scenes[split:], local_contrast(train) if config.training.contrast else None)


def _check_names(mixture: Mixture, config: ObjectsConfig) -> None:
    expected = [name for name, _ in config.training.quotas] or [""]
    if sorted(mixture.sets) != sorted(expected):
        found = ", ".join(name or "one without a name" for name in mixture.sets)
        raise InvalidDataError(f"training.quotas names {', '.join(expected)}, the data sets are {found}")


def _check_scenes(scenes: SceneSet, config: ObjectsConfig, *, is_alone: bool) -> None:
    if len(scenes) <= config.training.held_out:
        raise InvalidDataError(
            f"the set holds {len(scenes)} scenes, and {config.training.held_out} are held out; "
            "give more scenes, or set training.held_out"
        )
    height, width = scenes.size
    if is_alone and scenes.size != config.image:
        raise InvalidDataError(
            f"the set has images of {width}x{height} pixels, the config says "
            f"{config.image[1]}x{config.image[0]}; set image=[{height},{width}]"
        )
    if scenes.size != config.image:
        patch = config.encoder.patch
        try:
            config.require_any_size()
        except ValueError as error:
            raise InvalidDataError(f"a set has images of {width}x{height} pixels: {error}") from error
        if height % patch or width % patch:
            raise InvalidDataError(
                f"a set has images of {width}x{height} pixels, no multiple of encoder.patch={patch}"
            )
