"""The operators of TensorFlow.js graphs that detectors need, in PyTorch; pictures are (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["OPERATORS", "objection", "resize_bilinear", "same_padding"]

_Attributes = Mapping[str, Any]
_Operator = Callable[[Sequence[Tensor], _Attributes], Sequence[Tensor]]
_FUSED: dict[str, Callable[[Tensor], Tensor]] = {"Relu": F.relu, "Relu6": F.relu6, "Sigmoid": torch.sigmoid}
_TYPES = {"DT_FLOAT": torch.float32, "DT_INT32": torch.int32, "DT_BOOL": torch.bool}


def same_padding(
    height: int, width: int, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int] = (1, 1)
) -> list[int]:
    """Return what TensorFlow's SAME adds at the left, right, top and bottom: the odd pixel at the far edge.

    The output is the input divided by the stride, rounded up.
    """
    pads: list[int] = []
    for axis, side in ((1, width), (0, height)):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        missing = max(0, (-(-side // strides[axis]) - 1) * strides[axis] + reach - side)
        pads += [missing // 2, missing - missing // 2]
    return pads


def resize_bilinear(
    x: Tensor, size: Sequence[int], *, half_pixel: bool = False, corners: bool = False
) -> Tensor:
    """Resize pictures (B, H, W, C) as TensorFlow does.

    Pixel i of the result is read at i * H / H'; with ``half_pixel`` at (i + 0.5) * H / H' - 0.5; with ``corners``
    at i * (H - 1) / (H' - 1).
    """
    for axis, wanted in zip((1, 2), size, strict=True):
        length = x.shape[axis]
        place = torch.arange(wanted, dtype=torch.float64)
        if half_pixel:
            place = (place + 0.5) * (length / wanted) - 0.5
        else:
            place = place * ((length - 1) / (wanted - 1) if corners and wanted > 1 else length / wanted)
        low = place.floor()
        mix = (place - low).to(x.dtype).reshape([-1 if each == axis else 1 for each in range(4)])
        first = x.index_select(axis, low.long().clamp(0, length - 1))
        second = x.index_select(axis, (low.long() + 1).clamp(0, length - 1))
        x = first + (second - first) * mix
    return x


def objection(kind: str, attributes: _Attributes) -> str | None:
    """Return what of an operator is not known here, or None."""
    if kind not in OPERATORS:
        return f"the operator {kind}"
    for fused in attributes.get("fused_ops", ()):
        if fused != "BiasAdd" and fused not in _FUSED:
            return f"the operator {kind} fused with {fused}"
    if attributes.get("data_format", "NHWC") != "NHWC":
        return f"the operator {kind} on {attributes['data_format']}"
    if attributes.get("padding", "SAME") not in ("SAME", "VALID"):
        return f"the operator {kind} with {attributes['padding']} padding"
    if attributes.get("DstT", "DT_FLOAT") not in _TYPES:
        return f"the operator {kind} to {attributes['DstT']}"
    given = [name for name in ("ellipsis_mask", "new_axis_mask", "batch_dims") if attributes.get(name)]
    return f"the operator {kind} with {given[0]}" if given else None


def _convolution(inputs: Sequence[Tensor], attributes: _Attributes) -> Sequence[Tensor]:
    return [_convolve(inputs, attributes, inputs[1].permute(3, 2, 0, 1), 1)]


def _depthwise(inputs: Sequence[Tensor], attributes: _Attributes) -> Sequence[Tensor]:
    # (h, w, C, M): channel c gives the outputs c * M to c * M + M - 1, the order of torch's groups.
    height, width, channels, _ = inputs[1].shape
    weight = inputs[1].permute(2, 3, 0, 1).reshape(-1, 1, height, width)
    return [_convolve(inputs, attributes, weight, channels)]


def _convolve(inputs: Sequence[Tensor], attributes: _Attributes, weight: Tensor, groups: int) -> Tensor:
    x = inputs[0].permute(0, 3, 1, 2)
    strides, dilations = attributes["strides"][1:3], attributes.get("dilations", [1, 1, 1, 1])[1:3]
    if attributes["padding"] == "SAME":
        x = F.pad(x, same_padding(x.shape[2], x.shape[3], weight.shape[2:], strides, dilations))
    fused = attributes.get("fused_ops", ())
    bias = inputs[2] if "BiasAdd" in fused else None
    x = F.conv2d(x, weight, bias, strides, dilation=dilations, groups=groups)
    for name in fused:
        x = _FUSED[name](x) if name in _FUSED else x
    return x.permute(0, 2, 3, 1)


def _max_pool(inputs: Sequence[Tensor], attributes: _Attributes) -> Sequence[Tensor]:
    x = inputs[0].permute(0, 3, 1, 2)
    kernel, strides = attributes["ksize"][1:3], attributes["strides"][1:3]
    if attributes["padding"] == "SAME":
        x = F.pad(x, same_padding(x.shape[2], x.shape[3], kernel, strides), value=-torch.inf)
    return [F.max_pool2d(x, kernel, strides).permute(0, 2, 3, 1)]


def _resize(inputs: Sequence[Tensor], attributes: _Attributes) -> Sequence[Tensor]:
    half_pixel, corners = attributes.get("half_pixel_centers", False), attributes.get("align_corners", False)
    return [resize_bilinear(inputs[0], inputs[1].tolist(), half_pixel=half_pixel, corners=corners)]


def _slice(inputs: Sequence[Tensor], attributes: _Attributes) -> Sequence[Tensor]:
    x, begins, ends, steps = inputs[0], *(each.tolist() for each in inputs[1:4])
    places: list[slice | int] = []
    for axis, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        if attributes.get("shrink_axis_mask", 0) >> axis & 1:
            places.append(begin)
            continue
        first = None if attributes.get("begin_mask", 0) >> axis & 1 else begin
        last = None if attributes.get("end_mask", 0) >> axis & 1 else end
        places.append(slice(first, last, step))
    return [x[tuple(places)]]


def _gather(inputs: Sequence[Tensor], _: _Attributes) -> Sequence[Tensor]:
    x, rows = inputs[0], inputs[1]
    axis = int(inputs[2]) % x.dim() if len(inputs) > 2 else 0
    shape = (*x.shape[:axis], *rows.shape, *x.shape[axis + 1 :])
    return [x.index_select(axis, rows.flatten().long()).reshape(shape)]


def _top(inputs: Sequence[Tensor], _: _Attributes) -> Sequence[Tensor]:
    values, rows = inputs[0].topk(int(inputs[1]), dim=-1)
    return [values, rows.int()]


def _mean(inputs: Sequence[Tensor], attributes: _Attributes) -> Sequence[Tensor]:
    axes = inputs[1].flatten().tolist()
    return [inputs[0].mean(axes, keepdim=attributes.get("keep_dims", False)) if axes else inputs[0]]


def _plain(function: Callable[..., Tensor]) -> _Operator:
    return lambda inputs, _: [function(*inputs)]


OPERATORS: dict[str, _Operator] = {
    "Identity": _plain(lambda x: x),
    "Relu": _plain(F.relu),
    "Relu6": _plain(F.relu6),
    "Sigmoid": _plain(torch.sigmoid),
    "Add": _plain(torch.add),
    "AddV2": _plain(torch.add),
    "BiasAdd": _plain(torch.add),
    "Sub": _plain(torch.sub),
    "Mul": _plain(torch.mul),
    "FloorDiv": _plain(torch.floor_divide),
    "FloorMod": _plain(torch.remainder),
    "Equal": _plain(torch.eq),
    "Reshape": _plain(lambda x, shape: x.reshape(shape.tolist())),
    "ExpandDims": _plain(lambda x, axis: x.unsqueeze(int(axis))),
    "Cast": lambda inputs, attributes: [inputs[0].to(_TYPES[attributes["DstT"]])],
    "ConcatV2": lambda inputs, _: [torch.cat(list(inputs[:-1]), int(inputs[-1]))],
    "Mean": _mean,
    "StridedSlice": _slice,
    "GatherV2": _gather,
    "TopKV2": _top,
    "Conv2D": _convolution,
    "_FusedConv2D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "FusedDepthwiseConv2dNative": _depthwise,
    "MaxPool": _max_pool,
    "ResizeBilinear": _resize,
}
"""What each operator makes of its inputs and attributes: its outputs."""
