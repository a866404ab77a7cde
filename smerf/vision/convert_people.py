"""Convert MediaPipe's selfie segmentation (landscape, Apache-2.0) to safetensors.

    python -m smerf.vision.convert_people selfie_segmentation_landscape.tflite -o data/people

The file is in the wheel mediapipe 0.10.21, below ``mediapipe/modules/selfie_segmentation``. Only the parts of the
FlatBuffers layout and of TensorFlow Lite's schema (version 3) that this network needs are read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smerf.engine.files import write_json
from smerf.engine.tensors import write_tensors
from smerf.errors import InvalidDataError

__all__ = ["convert", "read_network"]

FORMAT = "smerf-people-1"
_KINDS = {
    0: "add", 3: "conv", 4: "depthwise", 6: "dequantize", 14: "sigmoid", 18: "mul", 19: "relu", 23: "resize",
    32: "custom", 40: "mean", 117: "hardswish",
}  # fmt: skip
_TYPES = {0: np.float32, 1: np.float16, 2: np.int32}
_TRANSPOSED = "Convolution2DTransposeBias"


@dataclass(frozen=True)
class _Table:
    """A FlatBuffers table at a place of a file."""

    data: bytes
    place: int

    def _field(self, number: int) -> int:
        """Return where a field's value lies, or 0 where it has its default."""
        table = self.place - struct.unpack_from("<i", self.data, self.place)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", self.data, table)[0]:
            return 0
        offset = struct.unpack_from("<H", self.data, table + 4 + 2 * number)[0]
        return self.place + offset if offset else 0

    def number(self, field: int, code: str, default: int = 0) -> int:
        """Return a number; ``code`` as in ``struct``."""
        place = self._field(field)
        return int(struct.unpack_from("<" + code, self.data, place)[0]) if place else default

    def table(self, field: int) -> _Table | None:
        """Return the table that a field refers to."""
        place = self._field(field)
        return _Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) if place else None

    def _vector(self, field: int) -> tuple[int, int]:
        place = self._field(field)
        if not place:
            return 0, 0
        start = place + struct.unpack_from("<I", self.data, place)[0]
        return start + 4, struct.unpack_from("<I", self.data, start)[0]

    def tables(self, field: int) -> list[_Table]:
        """Return a vector of tables."""
        start, count = self._vector(field)
        places = [start + 4 * i for i in range(count)]
        return [_Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) for place in places]

    def array(self, field: int, dtype: Any) -> np.ndarray:
        """Return a vector of numbers."""
        start, count = self._vector(field)
        return np.frombuffer(self.data, dtype, count, start)

    def text(self, field: int) -> str:
        """Return a text."""
        start, count = self._vector(field)
        return self.data[start : start + count].decode()


def read_network(path: Path) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return the operators of a network in order, and its weights by name.

    An operator has a ``kind``, the numbers of its ``inputs``, the number of its ``output``, names of its ``weights``,
    and a ``stride``. The input is number 0.

    Raises:
        InvalidDataError: If the file is another network.
    """
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise InvalidDataError(f"{path}: is not a TensorFlow Lite file")
    model = _Table(data, struct.unpack_from("<I", data, 0)[0])
    codes = [(c.number(3, "i") or c.number(0, "b"), c.text(1)) for c in model.tables(1)]
    graph, buffers = model.tables(2)[0], model.tables(4)
    tensors, values = graph.tables(0), {}
    for number, tensor in enumerate(tensors):
        dtype = _TYPES[tensor.number(1, "b")]
        content = buffers[tensor.number(2, "I")].array(0, np.uint8)
        if content.size:
            values[number] = content.view(dtype).reshape(tensor.array(0, np.int32))
    operators: list[dict[str, Any]] = []
    weights: dict[str, np.ndarray] = {}
    for operator in graph.tables(3):
        code, name = codes[operator.number(0, "I")]
        kind = _KINDS.get(code)
        inputs, output = operator.array(1, np.int32).tolist(), int(operator.array(2, np.int32)[0])
        if kind == "dequantize":
            values[output] = values[inputs[0]]
            continue
        if kind is None or (kind == "custom" and name != _TRANSPOSED):
            raise InvalidDataError(f"{path}: has an operator {code} {name}, which this network does not")
        step = _operator("transposed" if kind == "custom" else kind, operator.table(4))
        step |= {"inputs": [each for each in inputs if each not in values], "output": output, "weights": []}
        for each in inputs:
            if each in values and step["kind"] in ("conv", "depthwise", "transposed"):
                weights[f"t{each}"] = values[each]
                step["weights"].append(f"t{each}")
            elif each in values and step["kind"] == "resize":
                step["size"] = values[each].tolist()
        operators.append(step)
    return operators, weights


def _operator(kind: str, options: _Table | None) -> dict[str, Any]:
    step: dict[str, Any] = {"kind": kind}
    if kind in ("conv", "depthwise") and options is not None:
        step |= {"stride": options.number(2, "i"), "same": options.number(0, "b") == 0}
        fused = options.number(3 if kind == "conv" else 4, "b")
        if fused:
            step["fused"] = {1: "relu", 3: "relu6"}[fused]
    if kind == "resize" and options is not None and not options.number(3, "b"):
        raise InvalidDataError("resizes with other pixel centres than this network does")
    return step


def convert(source: Path, output: Path) -> Path:
    """Write ``people.safetensors`` and ``record.json`` to a folder; return the first."""
    operators, weights = read_network(source)
    path = output / "people.safetensors"
    kept = {name: torch.from_numpy(value.astype(np.float16)) for name, value in weights.items()}
    write_tensors(path, kept, FORMAT, {"operators": json.dumps(operators)})
    digest = lambda file: hashlib.sha256(file.read_bytes()).hexdigest()  # noqa: E731
    write_json(
        output / "record.json",
        {
            "format": FORMAT,
            "what": "which pixels show a person, 144 x 256, for people who fill 40 % of the height or more",
            "source": {
                "package": "mediapipe 0.10.21 (wheel)",
                "file": f"mediapipe/modules/selfie_segmentation/{source.name}",
                "sha256": digest(source),
                "licence": "Apache-2.0, the text is in LICENSE",
            },
            "command": f"python -m smerf.vision.convert_people {source.name} -o data/people",
            "sha256": digest(path),
            "parameters": sum(value.size for value in weights.values()),
        },
    )
    return path


def main() -> None:
    """Convert as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    print(convert(options.source, options.output))


if __name__ == "__main__":
    main()
