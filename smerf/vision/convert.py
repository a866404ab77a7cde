"""Weights in public layouts, both ways: a folder with ``config.json`` and ``model.safetensors`` of transformers.

Files hold names of long ago where transformers has newer ones in memory; both are read, the old ones are written. Known
are the ``model_type``s vivit, clip, owlvit, owlv2 and siglip2_vision_model. No public weights were loaded yet: the
layouts are tested with random weights against transformers (``tests/vision/test_peers.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from smerf.engine.files import writing
from smerf.errors import InvalidDataError, UsageError
from smerf.vision.layouts import KINDS, SHAPES, Rules

__all__ = ["WEIGHTS", "load_public", "names_in_file", "read_config", "save_public"]

WEIGHTS = "model.safetensors"
_IGNORED = re.compile(r"(.*\.)?position_ids$")


def load_public(folder: Path) -> nn.Module:
    """Read a model from a folder in a public layout, float32, ready to use.

    Raises:
        UsageError: If there is no such folder.
        InvalidDataError: If the kind is not known, or tensors are missing, unknown or of other shapes.
    """
    config = read_config(folder)
    kind = KINDS[config["model_type"]]
    try:
        with torch.device("meta"):
            model = kind.build(config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidDataError(
            f"{folder / 'config.json'}: lacks or misstates {error}; restore the file"
        ) from error
    tensors = _read(folder / WEIGHTS)
    expected = dict(model.state_dict())
    ours = _take(tensors, expected, kind.rules, folder / WEIGHTS)
    model.load_state_dict(ours, assign=True)
    _fill_buffers(model)
    return model.eval().requires_grad_(False)


def save_public(model: nn.Module, config: Mapping[str, Any], folder: Path) -> None:
    """Write a model in its public layout: what ``load_public`` read, tensor for tensor.

    Args:
        model: One of the models that ``load_public`` returns.
        config: The contents of its ``config.json``.
        folder: Made where it is missing.
    """
    rules = KINDS[config["model_type"]].rules
    state = model.state_dict()
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        theirs = names_in_file(name, rules)[0]
        shape = SHAPES.get(theirs)
        tensors[theirs] = (value if shape is None else value.reshape(*shape, *value.shape)).contiguous()
    _stack(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / WEIGHTS) as aside:
        save_file(tensors, aside, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(dict(config), indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """Return a folder's ``config.json``, with a ``model_type`` that is known.

    Raises:
        UsageError: If there is no such folder.
        InvalidDataError: If it cannot be read, or is of another kind.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise UsageError(
            f"{folder}: expected a folder with config.json and {WEIGHTS}, as transformers writes it"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InvalidDataError(f"{path}: not valid JSON ({error})") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in KINDS:
        raise InvalidDataError(f"{path}: model_type {kind!r} is not one of {', '.join(KINDS)}")
    return dict(config)


def names_in_file(name: str, rules: Rules) -> list[str]:
    """Return what one of our tensors may be called in a file: as it is written first, then newer names."""
    found = []
    for table in rules:
        theirs = name
        for pattern, replacement in table:
            theirs = re.sub(pattern, replacement, theirs)
        found.append(theirs)
    return list(dict.fromkeys(found))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UsageError(f"{path}: is not there; weights must be one safetensors file")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if not _IGNORED.fullmatch(name)}
    except (SafetensorError, OSError) as error:
        raise InvalidDataError(f"{path}: is damaged ({error}); download it again") from error


def _take(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor], rules: Rules, path: Path
) -> dict[str, Tensor]:
    """Return a file's tensors by our names."""
    _unstack(tensors)
    left, ours = set(tensors), {}
    for name, place in expected.items():
        names = names_in_file(name, rules)
        theirs = next((each for each in names if each in tensors), None)
        if theirs is None:
            raise InvalidDataError(f"{path}: lacks {names[0]}; it does not belong to its config.json")
        value = tensors[theirs]
        if value.numel() != place.numel() or value.squeeze().shape != place.squeeze().shape:
            raise InvalidDataError(
                f"{path}: {theirs} is {tuple(value.shape)}, config.json says {tuple(place.shape)}"
            )
        ours[name] = value.reshape(place.shape).float()
        left.discard(theirs)
    if left:
        raise InvalidDataError(
            f"{path}: has the unexpected tensor {min(left)}; its layout is not one that we know"
        )
    return ours


def _unstack(tensors: dict[str, Tensor]) -> None:
    """Split PyTorch's joint input projections into those of queries, keys and values."""
    for name in [each for each in tensors if re.search(r"in_proj_(weight|bias)$", each)]:
        prefix, kind = name.rsplit("in_proj_", 1)
        for part, value in zip(("query", "key", "value"), tensors.pop(name).chunk(3)):
            tensors[f"{prefix}{part}_{kind}"] = value


def _stack(tensors: dict[str, Tensor]) -> None:
    for name in [each for each in tensors if re.search(r"\.query_(weight|bias)$", each)]:
        prefix, kind = re.sub(r"query_(weight|bias)$", "", name), name.rsplit("_", 1)[1]
        parts = [tensors.pop(f"{prefix}{part}_{kind}") for part in ("query", "key", "value")]
        tensors[f"{prefix}in_proj_{kind}"] = torch.cat(parts)


def _fill_buffers(model: nn.Module) -> None:
    """Compute again what is not stored, on the CPU."""
    for module in model.modules():
        refresh: Callable[[], None] | None = getattr(module, "refresh_buffers", None)
        if refresh is not None:
            refresh()
