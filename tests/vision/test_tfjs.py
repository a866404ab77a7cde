"""TensorFlow.js graphs: read as their files say, computed as TensorFlow does, refused by name where not known."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from smerf.cli.main import main
from smerf.errors import InvalidDataError, UsageError
from smerf.vision.looking import CocoEyes
from smerf.vision.tfjs import GraphModel
from smerf.vision.words import COCO
from tests.helpers.known_things import write_things

SAME = {"padding": "SAME", "data_format": "NHWC"}


def attribute(value):
    if isinstance(value, list):
        key = "s" if isinstance(value[0], str) else "i"
        return {"list": {key: [attribute(each)[key] for each in value]}}
    if isinstance(value, bool):
        return {"b": value}
    if isinstance(value, int):
        return {"i": str(value)}
    is_type = value.startswith("DT_")
    return {"type": value} if is_type else {"s": base64.b64encode(value.encode()).decode()}


class Graph:
    """A graph to write, with weights in two shards."""

    def __init__(self, **inputs):
        self.inputs, self.nodes, self.weights, self.content = inputs, [], [], b""
        for name in inputs:
            self.add(name, "Placeholder")

    def add(self, name, kind, *inputs, **attributes):
        attr = {key: attribute(value) for key, value in attributes.items()}
        self.nodes.append({"name": name, "op": kind, "input": list(inputs), "attr": attr})
        return self

    def const(self, name, values, stored=None, **quantisation):
        values = np.asarray(values)
        values = values.astype("<i4" if values.dtype.kind == "i" else "<f4")
        entry = {
            "name": name,
            "shape": list(values.shape),
            "dtype": "int32" if values.dtype.kind == "i" else "float32",
        }
        if stored is not None:
            entry["quantization"] = {"dtype": stored.dtype.name, **quantisation}
        self.content += (values if stored is None else stored).tobytes()
        self.weights.append(entry)
        return self.add(name, "Const")

    def half(self, name, values):
        return self.const(name, values, np.asarray(values).astype("<f2"))

    def write(self, folder, **outputs):
        def stated(tensors):
            return {
                name: {"name": name, "tensorShape": {"dim": [{"size": str(side)} for side in shape]}}
                for name, shape in tensors.items()
            }

        cut = len(self.content) // 2
        (folder / "a.bin").write_bytes(self.content[:cut])
        (folder / "b.bin").write_bytes(self.content[cut:])
        document = {
            "format": "graph-model",
            "signature": {"inputs": stated(self.inputs), "outputs": stated(outputs)},
            "modelTopology": {"node": self.nodes},
            "weightsManifest": [{"paths": ["a.bin", "b.bin"], "weights": self.weights}],
        }
        (folder / "model.json").write_text(json.dumps(document))
        return folder / "model.json"


def computed(graph, folder, **inputs):
    return GraphModel(graph.write(folder, out=()))(inputs)["out"]


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half().float()


@pytest.mark.parametrize(
    ("height", "width", "stride", "dilation", "pads"),
    [
        (8, 8, 2, 1, (0, 1, 0, 1)),
        (7, 8, 2, 1, (0, 1, 1, 1)),
        (8, 8, 1, 1, (1, 1, 1, 1)),
        (8, 9, 1, 2, (2, 2, 2, 2)),
    ],
)
def test_same_padding_puts_the_odd_pixel_at_the_far_edge(tmp_path, height, width, stride, dilation, pads):
    x, weight, bias = random(2, height, width, 3), random(3, 3, 3, 5, seed=1), random(5, seed=2)
    graph = Graph(x=(2, height, width, 3)).half("w", weight.numpy()).half("b", bias.numpy())
    graph.add(
        "out", "_FusedConv2D", "x", "w", "b", "^x", **SAME, strides=[1, stride, stride, 1],
        dilations=[1, dilation, dilation, 1], fused_ops=["BiasAdd", "Relu6"],
    )  # fmt: skip
    padded = F.pad(x.permute(0, 3, 1, 2), pads)
    expected = F.relu6(F.conv2d(padded, weight.permute(3, 2, 0, 1), bias, stride, dilation=dilation))
    assert torch.allclose(computed(graph, tmp_path, x=x), expected.permute(0, 2, 3, 1), atol=1e-5)


def test_each_channel_has_its_own_kernels(tmp_path):
    x, weight = random(1, 6, 5, 3), random(3, 3, 3, 2, seed=1)
    graph = Graph(x=(1, 6, 5, 3)).half("w", weight.numpy())
    graph.add("out", "DepthwiseConv2dNative", "x", "w", padding="VALID", strides=[1, 1, 1, 1])
    found = computed(graph, tmp_path, x=x)
    for channel in range(3):
        for copy in range(2):
            plain = F.conv2d(x[None, ..., channel], weight[None, None, :, :, channel, copy])[0, 0]
            assert torch.allclose(found[0, ..., 2 * channel + copy], plain, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]),
        ({"half_pixel_centers": True}, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]),
        ({"align_corners": True}, [3 * i / 7 for i in range(8)]),
    ],
)
def test_pictures_are_resized_from_the_pixels_that_the_flags_say(tmp_path, flags, expected):
    x = torch.arange(4.0)[None, :, None, None] + 10 * torch.arange(3.0)[None, None, :, None]
    graph = Graph(x=(1, 4, 3, 1)).const("size", [8, 3])
    graph.add("out", "ResizeBilinear", "x", "size", **flags)
    found = computed(graph, tmp_path, x=x)
    assert found.shape == (1, 8, 3, 1)
    for column in range(3):
        assert found[0, :, column, 0].tolist() == pytest.approx(
            [10 * column + each for each in expected], abs=1e-5
        )


def test_weights_are_restored_from_bytes_and_halves(tmp_path):
    graph = Graph(x=(2, 3)).half("a", np.array([0.5, -2.0, 3.25]))
    graph.const("b", np.zeros(3), np.array([0, 1, 255], np.uint8), scale=0.5, min=-1.0).const(
        "c", np.full(3, 0.1)
    )
    graph.const("d", 0.0, np.array(6, np.uint8), scale=0.5, min=-1.0)
    graph.add("ab", "AddV2", "a", "b").add("abc", "Add", "ab", "c").add("twice", "Mul", "abc", "d")
    graph.add("out", "Mul", "twice", "x")
    expected = torch.tensor([0.5 - 1.0 + 0.1, -2.0 - 0.5 + 0.1, 3.25 + 126.5 + 0.1]) * 2.0 * torch.ones(2, 3)
    assert torch.allclose(computed(graph, tmp_path, x=torch.ones(2, 3)), expected)


def test_peaks_of_a_heat_map_are_found_with_their_places(tmp_path):
    heat = torch.full((1, 4, 6, 2), 0.1)
    heat[0, 1, 4, 1], heat[0, 1, 3, 1], heat[0, 3, 0, 0] = 0.9, 0.8, 0.7
    graph = Graph(heat=(1, 4, 6, 2)).const("flat", [1, -1]).const("k", 2).const("two", 2).const("width", 6)
    graph.const("pairs", np.arange(48).reshape(24, 2)).const("axis", 0).const("last", -1)
    graph.add("pool", "MaxPool", "heat", padding="SAME", ksize=[1, 3, 3, 1], strides=[1, 1, 1, 1])
    graph.add("is_peak", "Equal", "heat", "pool").add("one", "Cast", "is_peak", DstT="DT_FLOAT")
    graph.add("peaks", "Mul", "heat", "one").add("row", "Reshape", "peaks", "flat").add(
        "top", "TopKV2", "row", "k"
    )
    graph.add("class", "FloorMod", "top:1", "two").add("cell", "FloorDiv", "top:1", "two")
    graph.add("x", "FloorMod", "cell", "width").add("y", "FloorDiv", "cell", "width")
    graph.add("picked", "GatherV2", "pairs", "cell", "axis", batch_dims=0)
    path = graph.write(tmp_path, **{"top:0": (1, 2)}, **dict.fromkeys(("class", "x", "y", "picked"), ()))
    found = GraphModel(path)({"heat": heat})
    assert found["top:0"].tolist() == [pytest.approx([0.9, 0.7])]
    assert [found[each].tolist() for each in ("class", "x", "y")] == [[[1, 0]], [[4, 0]], [[1, 3]]]
    assert found["picked"].tolist() == [[[20, 21], [36, 37]]]


def test_parts_are_cut_by_their_masks(tmp_path):
    x = random(4, 5, 6)
    graph = Graph(x=(4, 5, 6)).const("begin", [1, 2, 1]).const("end", [9, 9, 5]).const("step", [1, 1, 2])
    masks = {"begin_mask": 1, "end_mask": 1, "shrink_axis_mask": 2}
    graph.add("out", "StridedSlice", "x", "begin", "end", "step", **masks, ellipsis_mask=0, new_axis_mask=0)
    assert torch.equal(computed(graph, tmp_path, x=x), x[:, 2, 1:5:2])


def test_squeeze_and_excite(tmp_path):
    x = random(2, 4, 5, 3)
    graph = Graph(x=(2, 4, 5, 3)).const("axes", [1, 2]).const("last", -1).const("front", 0)
    graph.add("mean", "Mean", "x", "axes", keep_dims=True).add("gate", "Sigmoid", "mean")
    graph.add("gated", "Mul", "x", "gate").add("both", "ConcatV2", "gated", "x", "last")
    graph.add("out", "ExpandDims", "both", "front")
    gated = x * torch.sigmoid(x.mean((1, 2), keepdim=True))
    assert torch.allclose(computed(graph, tmp_path, x=x), torch.cat([gated, x], -1)[None], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "attributes", "named"),
    [
        ("NonMaxSuppressionV3", {}, "the operator NonMaxSuppressionV3"),
        ("_FusedConv2D", {"fused_ops": ["BiasAdd", "Elu"]}, "_FusedConv2D fused with Elu"),
        ("MaxPool", {"data_format": "NCHW"}, "MaxPool on NCHW"),
        ("StridedSlice", {"new_axis_mask": 2}, "StridedSlice with new_axis_mask"),
    ],
)
def test_what_is_not_known_is_named_before_anything_runs(tmp_path, kind, attributes, named):
    path = Graph(x=(1,)).add("odd", kind, "x", **attributes).add("out", "Relu", "odd").write(tmp_path, out=())
    with pytest.raises(
        InvalidDataError, match=f"odd needs .*{named}, which is not known here; known are .*Conv2D"
    ):
        GraphModel(path)


def test_a_loop_is_named_by_its_operator(tmp_path):
    path = (
        Graph(x=(1,)).add("next", "NextIteration", "out").add("out", "Relu", "next").write(tmp_path, out=())
    )
    with pytest.raises(InvalidDataError, match="the operator NextIteration"):
        GraphModel(path)


def test_parts_that_no_output_needs_may_be_unknown(tmp_path):
    graph = Graph(x=(1,)).add("out", "Relu", "x").add("training", "Adam", "x")
    assert computed(graph, tmp_path, x=torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]


def test_damaged_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match="is not there"):
        GraphModel(tmp_path / "model.json")
    path = Graph(x=(2,)).const("w", np.ones(2)).add("out", "Mul", "x", "w").write(tmp_path, out=())
    with pytest.raises(InvalidDataError, match="Mul out cannot be computed"):
        GraphModel(path)({"x": torch.ones(3)})
    (tmp_path / "b.bin").write_bytes(b"")
    with pytest.raises(InvalidDataError, match="shards end within w"):
        GraphModel(path)
    (tmp_path / "b.bin").unlink()
    with pytest.raises(InvalidDataError, match=r"b\.bin is not there"):
        GraphModel(path)
    Graph(x=(2,)).add("a", "Relu", "out").add("out", "Relu", "a").write(tmp_path, out=())
    with pytest.raises(InvalidDataError, match="is damaged"):
        GraphModel(path)
    Graph().write(tmp_path, out=())
    with pytest.raises(InvalidDataError, match="is damaged"):
        GraphModel(path)
    Graph(x=(2,)).write(tmp_path)
    with pytest.raises(InvalidDataError, match="does not say what its inputs and outputs are"):
        GraphModel(path)
    path.write_text('{"model_type": "owlv2"}')
    with pytest.raises(InvalidDataError, match="is no TensorFlow"):
        GraphModel(path)


def detector(folder, rows):
    """Write a graph that gives the same rows for each photo, as sure as the photo is bright."""
    graph = (
        Graph(photo=(1, 32, 48, 3)).const("axes", [0, 1, 2, 3]).const("rows", np.asarray(rows, float)[None])
    )
    graph.const("shape", [1, 1, 1]).const("least", 0.0)
    graph.add("light", "Mean", "photo", "axes").add("sure", "Relu", "light").add(
        "none", "Mul", "sure", "least"
    )
    return graph.add("out", "Add", "rows", "none").write(folder, out=(1, len(rows), 6))


def test_boxes_are_parts_of_the_photo(tmp_path):
    eyes = CocoEyes(detector(tmp_path, [[12, 8, 24, 32, 0.7, 41], [0, 0, 48, 32, 0.2, 0]]))
    (found,) = eyes.detections(np.zeros((90, 60, 3), np.uint8), 0.25)
    assert COCO[found.word] == "cup" and found.score == pytest.approx(0.7)
    assert found.box == pytest.approx((0.25, 0.25, 0.5, 1.0))
    eyes = CocoEyes(detector(tmp_path, [[0, 0, 9, 9, 0.7, 90]]))
    with pytest.raises(InvalidDataError, match="gives class 90"):
        eyes.detections(np.zeros((9, 9, 3), np.uint8), 0.25)


def test_a_graph_that_gives_no_boxes_is_no_detector(tmp_path):
    path = Graph(x=(1, 8, 8, 3)).add("out", "Relu", "x").write(tmp_path, out=(1, 8, 8, 3))
    with pytest.raises(InvalidDataError, match="is no detector of COCO's names"):
        CocoEyes(path)


def test_the_command_takes_a_detector_file(tmp_path, capsys):
    truth = write_things(tmp_path / "things", 4)
    path = detector(tmp_path, [[0, 0, 48, 32, 0.6, COCO.index("vase")]])
    output = tmp_path / "labels"
    command = ["label", str(truth.folder), "-o", str(output), "--model", str(path), "-q"]
    assert main(command) == 0 and "vase" in capsys.readouterr().out
    document = json.loads((output / "labels.json").read_text())
    assert document["model"]["kind"] == "model.json" and len(document["model"]["sha256"]) == 64
    assert {each["word"] for each in document["objects"]} == {"vase"}
    assert main([*command, "--words", "cup"]) == 0 and "nothing found" in capsys.readouterr().out
    assert main([*command, "--words", "vases"]) == 0 and "vase" in capsys.readouterr().out
    assert main([*command, "--words", "settle"]) == 2
    assert "not among the detector's 80 names; nearest" in capsys.readouterr().err
    Graph(x=(1, 8, 8, 3)).add("odd", "Einsum", "x").add("out", "Relu", "odd").write(tmp_path, out=(1, 9, 6))
    assert main(command) == 4 and "the operator Einsum" in capsys.readouterr().err
