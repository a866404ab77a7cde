"""TensorFlow.js graph models (``model.json`` and its shards), read and run in PyTorch."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smerf.engine.files import read_json
from smerf.errors import InvalidDataError, UsageError
from smerf.vision.tfjs_ops import OPERATORS, objection

__all__ = ["GraphModel"]

_STORED = {"float16": "<f2", "float32": "<f4", "int32": "<i4", "uint8": "u1", "uint16": "<u2", "bool": "?"}
_SOURCES = ("Placeholder", "Const")


class GraphModel:
    """A graph as its file says.

    ``inputs`` and ``outputs`` give the stated shape of each by the name of its tensor, -1 for an open side; ``sha256``
    is that of the shards.

    Raises:
        UsageError: If the file is not there.
        InvalidDataError: If it is no graph model, is damaged, or needs an operator that is not known here.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UsageError(f"{path}: is not there; expected the model.json of a TensorFlow.js graph model")
        self.path = path
        document = read_json(path)
        if not isinstance(document, dict) or "node" not in (document.get("modelTopology") or {}):
            raise InvalidDataError(
                f"{path}: is no TensorFlow.js graph model; convert it with tensorflowjs_converter"
            )
        try:
            nodes = [_Node(each) for each in document["modelTopology"]["node"]]
            signature = (
                document.get("signature") or document.get("userDefinedMetadata", {}).get("signature") or {}
            )
            self.inputs, self.outputs = (_shapes(signature.get(each, {})) for each in ("inputs", "outputs"))
            needed = _needed({node.name: node for node in nodes}, self.outputs)
            self._weights, self.sha256 = _read_weights(path, document["weightsManifest"])
            self._check(needed.values())
            self._order = _ordered(needed)
        except (KeyError, TypeError, ValueError, AttributeError, CycleError) as error:
            raise InvalidDataError(f"{path}: is damaged ({error!r}); get the model again") from error

    def _check(self, nodes: Iterable[_Node]) -> None:
        if not self.inputs or not self.outputs:
            raise InvalidDataError(
                f"{self.path}: does not say what its inputs and outputs are (signature); convert the model again with "
                "a newer tensorflowjs_converter"
            )
        for node in nodes:
            unknown = None if node.kind in _SOURCES else objection(node.kind, node.attributes)
            if unknown is not None:
                raise InvalidDataError(
                    f"{self.path}: {node.name} needs {unknown}, which is not known here; known are "
                    f"{', '.join(sorted(OPERATORS))}"
                )
            if node.kind == "Const" and node.name not in self._weights:
                raise InvalidDataError(f"{self.path}: the shards lack {node.name}; get the model again")

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph.

        Args:
            inputs: A tensor for each of the graph's inputs, by name; pictures are (B, H, W, C).

        Raises:
            InvalidDataError: If an operator cannot take what it gets.
        """
        known: dict[str, Sequence[Tensor]] = {name: [value] for name, value in self._weights.items()}
        known.update({name.partition(":")[0]: [value] for name, value in inputs.items()})
        for node in self._order:
            if node.kind not in _SOURCES:
                given = [known[name][index] for name, index in node.inputs]
                try:
                    known[node.name] = OPERATORS[node.kind](given, node.attributes)
                except (RuntimeError, IndexError, ValueError, KeyError, TypeError) as error:
                    raise InvalidDataError(
                        f"{self.path}: {node.kind} {node.name} cannot be computed ({error}); get the model again"
                    ) from error
        places = {name: _place(name) for name in self.outputs}
        return {name: known[node][index] for name, (node, index) in places.items()}


class _Node:
    """``inputs`` are pairs of a node's name and which of its outputs; those that only order the work are left out."""

    def __init__(self, stated: Mapping[str, Any]) -> None:
        self.name, self.kind = str(stated["name"]), str(stated["op"])
        self.inputs = [_place(each) for each in stated.get("input", ()) if not each.startswith("^")]
        self.attributes = {key: _plain(value) for key, value in stated.get("attr", {}).items()}


def _place(tensor: str) -> tuple[str, int]:
    name, _, index = tensor.partition(":")
    return name, int(index or 0)


def _plain(value: Mapping[str, Any]) -> Any:
    """Turn an attribute into a number, a text, a bool, or a list of them; None for what no operator here reads."""
    if "list" in value:
        return [_plain({key: each}) for key, items in value["list"].items() for each in items]
    if "s" in value:
        return base64.b64decode(value["s"]).decode("utf-8", "replace")
    if "i" in value:
        return int(value["i"])
    return next((value[key] for key in ("b", "f", "type") if key in value), None)


def _shapes(stated: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for key, each in stated.items():
        dims = each.get("tensorShape", {}).get("dim", ())
        shapes[str(each.get("name", key))] = tuple(int(dim.get("size", -1)) for dim in dims)
    return shapes


def _needed(nodes: Mapping[str, _Node], outputs: Iterable[str]) -> dict[str, _Node]:
    """Return the nodes that the outputs need."""
    needed: dict[str, _Node] = {}
    waiting = [_place(name)[0] for name in outputs]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = nodes[name]
            waiting += [each for each, _ in nodes[name].inputs]
    return needed


def _ordered(nodes: Mapping[str, _Node]) -> list[_Node]:
    """Return nodes each after its inputs."""
    inputs = {name: [each for each, _ in node.inputs] for name, node in nodes.items()}
    return [nodes[name] for name in TopologicalSorter(inputs).static_order()]


def _read_weights(path: Path, manifest: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Tensor], str]:
    """Read every weight as float32, int32 or bool, and the digest of all shards."""
    weights: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for group in manifest:
        parts = []
        for name in group["paths"]:
            shard = path.parent / name
            if not shard.is_file():
                raise InvalidDataError(f"{path}: its shard {shard} is not there; put it beside the file")
            parts.append(shard.read_bytes())
        content, start = b"".join(parts), 0
        digest.update(content)
        for each in group["weights"]:
            quantised = each.get("quantization", {})
            dtype, shape = np.dtype(_STORED[quantised.get("dtype", each["dtype"])]), each["shape"]
            count = math.prod(shape)
            if start + count * dtype.itemsize > len(content):
                raise InvalidDataError(f"{path}: its shards end within {each['name']}; get the model again")
            stored = np.frombuffer(content, dtype, count, start).reshape(shape)
            start += count * dtype.itemsize
            weights[each["name"]] = _restored(stored, each["dtype"], quantised)
    return weights, digest.hexdigest()


def _restored(stored: np.ndarray, dtype: str, quantised: Mapping[str, Any]) -> Tensor:
    if "scale" in quantised:
        stored = stored * np.float32(quantised["scale"]) + np.float32(quantised["min"])
    # Arithmetic makes plain numbers of arrays without axes.
    return torch.from_numpy(np.array(stored, {"float32": np.float32, "bool": np.bool_}.get(dtype, np.int32)))
