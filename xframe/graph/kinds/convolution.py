"""Convolutions and pooling over the axes between the batch and the features; one axis, ``conv1d``, has a kind of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, ClassVar

import numpy as np

from xframe.graph.arithmetic import Operations
from xframe.graph.kinds.allowed import count, counts, flag, one_of
from xframe.graph.kinds.base import Params, Shape, Single, known, refuse
from xframe.graph.kinds.products import linear
from xframe.graph.node import Node

__all__ = ["MODES", "Conv", "DepthwiseConv", "GlobalPool", "TransposedConv", "WindowPool", "padding_of", "windows"]

MODES = ("max", "average")
# No convolution in use reaches further; a larger one is a slip or an attack.
_MAX_EXTENT = 1_000_000

_STRIDE = "of the output in each axis: it has every stride-th place"
_PADDING = (
    "'valid': only where the window fits; 'same': zeros at both ends, at the end one more where they are odd, so that the output "
    "has size/stride places, rounded up"
)
_ALLOWED = {
    "stride": counts,
    "size": counts,
    "dilation": counts,
    "groups": count,
    "multiplier": count,
    "padding": one_of("valid", "same"),
    "mode": one_of(*MODES),
    "keepdims": flag,
}
_DILATION = "in each axis, the distance between the places that the kernel reads"


def places(size: int | None, window: int, stride: int, dilation: int, padding: str) -> int | None:
    """How many places the output has in an axis of ``size``; None where that may be any number."""
    extent = (window - 1) * dilation + 1
    if size is None:
        return None
    return -(-size // stride) if padding == "same" else (size - extent) // stride + 1


def padding_of(size: int, window: int, stride: int, dilation: int, padding: str) -> tuple[int, int]:
    """How many zeros are put before and behind an axis: as TensorFlow does, the more behind."""
    if padding != "same":
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def windows(
    x: np.ndarray, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], padding: str, fill: float = 0.0
) -> np.ndarray:
    """The windows that a kernel reads: (batch, *places, *size, features) of x (batch, *axes, features)."""
    axes = x.shape[1:-1]
    pads = [padding_of(n, *one, padding) for n, one in zip(axes, zip(size, stride, dilation, strict=True), strict=True)]
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    extents = tuple((one - 1) * step + 1 for one, step in zip(size, dilation, strict=True))
    found = np.lib.stride_tricks.sliding_window_view(padded, extents, axis=tuple(range(1, 1 + len(axes))))
    count = len(axes)
    steps: tuple[Any, ...] = tuple(slice(None, None, step) for step in (1, *stride, 1, *dilation))
    # (batch, *places, features, *size): the features last.
    return np.moveaxis(found[steps], 1 + count, -1)


def _tuple(node: Node, option: str) -> tuple[int, ...]:
    return tuple(int(one) for one in node.options[option])


class _Windowed(Single):
    """What convolutions and pooling share."""

    mask = "drops"

    def _shape(self, node: Node, shape: Shape, size: Sequence[int], features: int) -> Shape:
        stride = _tuple(node, "stride")
        dilation = _tuple(node, "dilation") if "dilation" in node.options else (1,) * len(stride)
        if len(shape) != len(size) + 1 or len(stride) != len(size) or len(dilation) != len(size):
            raise refuse(node, f"cannot read samples of the shape {shape} in windows of {tuple(size)}")
        if any((n - 1) * step + 1 > _MAX_EXTENT for n, step in zip(size, dilation, strict=True)):
            raise refuse(node, f"reaches over windows of {tuple(size)}, which is out of bounds")
        found = [
            places(axis, *one, str(node.options["padding"]))
            for axis, one in zip(shape[:-1], zip(size, stride, dilation, strict=True), strict=True)
        ]
        if any(one is not None and one < 1 for one in found):
            raise refuse(node, f"needs more than samples of the shape {shape}")
        return (*found, features)


class Conv(_Windowed):
    """A convolution: at every place a product of a kernel with the window around it."""

    options: ClassVar[Mapping[str, str]] = {
        "stride": _STRIDE,
        "padding": _PADDING,
        "dilation": _DILATION,
        "groups": "into which the features are split, in order; each group of filters reads its group of features",
    }
    params: ClassVar[Mapping[str, str]] = {
        "kernel": "(*size, d/groups, filters)",
        "bias": "(filters,), zeros where the source has none",
    }
    allowed = _ALLOWED

    def from_torch(self, options: Mapping[str, Any], name: str, array: np.ndarray) -> np.ndarray:
        return np.moveaxis(array, (0, 1), (-1, -2)) if name == "kernel" else array

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        features, groups = known(node, shape), int(node.options["groups"])
        kernel = dict(node.shapes or {n: a.shape for n, a in node.params().items()})["kernel"]
        if len(kernel) < 3 or kernel[-2] * groups != features or kernel[-1] % groups or 0 in kernel:
            raise refuse(node, f"has a kernel of the shape {kernel} and {groups} groups and reads samples of {shape}")
        return self._shape(node, shape, kernel[:-2], kernel[-1])

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        kernel, groups = params["kernel"], int(node.options["groups"])
        _check_fits(self, node, x)
        read = windows(
            x, kernel.shape[:-2], _tuple(node, "stride"), _tuple(node, "dilation"), str(node.options["padding"])
        )
        parts = [
            _product(part, weights, bias, ops)
            for part, weights, bias in zip(
                np.split(read, groups, axis=-1),
                np.split(kernel, groups, axis=-1),
                np.split(params["bias"], groups),
                strict=True,
            )
        ]
        return np.concatenate(parts, axis=-1)


def _check_fits(kind: Single, node: Node, x: np.ndarray) -> None:
    """Refuse an input that is too small, of which the shape was not known before."""
    kind.output_shape(node, x.shape[1:])


def _product(read: np.ndarray, kernel: np.ndarray, bias: np.ndarray, ops: Operations) -> np.ndarray:
    """Windows (batch, *places, *size, d) with a kernel (*size, d, filters), and the bias: (batch, *places, filters)."""
    at, length = read.shape[: read.ndim - kernel.ndim + 1], kernel[..., 0].size
    return linear(read.reshape(*at, length), kernel.reshape(length, -1), bias, ops)


class DepthwiseConv(_Windowed):
    """A convolution of each feature by itself, with several kernels each."""

    options: ClassVar[Mapping[str, str]] = {
        "stride": _STRIDE,
        "padding": _PADDING,
        "dilation": _DILATION,
        "multiplier": "how many kernels each feature has, m",
    }
    params: ClassVar[Mapping[str, str]] = {
        "kernel": "(*size, d, m): m kernels for each feature; the output has d m features, those of one beside each other",
        "bias": "(d m,), zeros where the source has none",
    }
    allowed = _ALLOWED

    def from_torch(self, options: Mapping[str, Any], name: str, array: np.ndarray) -> np.ndarray:
        if name != "kernel":
            return array
        grouped = array.reshape(-1, int(options["multiplier"]), *array.shape[2:])
        return np.moveaxis(grouped, (0, 1), (-2, -1))

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        kernel = dict(node.shapes or {n: a.shape for n, a in node.params().items()})["kernel"]
        if len(kernel) < 3 or kernel[-2:] != (known(node, shape), node.options["multiplier"]) or 0 in kernel:
            raise refuse(node, f"has a kernel of the shape {kernel} and reads samples of {shape}")
        return self._shape(node, shape, kernel[:-2], kernel[-2] * kernel[-1])

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        kernel = params["kernel"]
        _check_fits(self, node, x)
        read = windows(
            x, kernel.shape[:-2], _tuple(node, "stride"), _tuple(node, "dilation"), str(node.options["padding"])
        )
        parts = [
            _product(read[..., i : i + 1], kernel[..., i : i + 1, :], bias, ops)
            for i, bias in enumerate(np.split(params["bias"], kernel.shape[-2]))
        ]
        return np.concatenate(parts, axis=-1)


class TransposedConv(_Windowed):
    """What has the gradient of a convolution as its function: each number of the input puts its kernel into the output.

    The output has ``size * stride`` places with padding 'same', and ``(size - 1) stride + window`` with 'valid', or more where
    the stride is larger than the window.
    """

    options: ClassVar[Mapping[str, str]] = {
        "stride": "of the input in each axis: so many places further the output of the next one begins",
        "padding": "'valid' or 'same'",
    }
    params: ClassVar[Mapping[str, str]] = {
        "kernel": "(*size, filters, d)",
        "bias": "(filters,), zeros where the source has none",
    }
    allowed = _ALLOWED

    def from_torch(self, options: Mapping[str, Any], name: str, array: np.ndarray) -> np.ndarray:
        return np.moveaxis(array, (0, 1), (-1, -2)) if name == "kernel" else array

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        kernel = dict(node.shapes or {n: a.shape for n, a in node.params().items()})["kernel"]
        stride = _tuple(node, "stride")
        if len(kernel) != len(shape) + 1 or kernel[-1] != known(node, shape) or len(stride) != len(kernel) - 2:
            raise refuse(node, f"has a kernel of the shape {kernel} and reads samples of {shape}")
        found = [
            None if axis is None else self.places(axis, size, step, str(node.options["padding"]))
            for axis, size, step in zip(shape[:-1], kernel[:-2], stride, strict=True)
        ]
        return (*found, kernel[-2])

    @staticmethod
    def places(axis: int, size: int, stride: int, padding: str) -> int:
        """How many places the output has in one axis."""
        return axis * stride if padding == "same" else axis * stride + max(size - stride, 0)

    @staticmethod
    def cut(size: int, stride: int, padding: str) -> int:
        """How many places of the full sum are cut off before the first one of the output."""
        return max(size - stride, 0) // 2 if padding == "same" else 0

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        kernel, bias = params["kernel"], params["bias"]
        stride, padding, size = _tuple(node, "stride"), str(node.options["padding"]), kernel.shape[:-2]
        axes = x.shape[1:-1]
        full = [(n - 1) * step + one for n, step, one in zip(axes, stride, size, strict=True)]
        ends = [self.places(n, one, step, padding) for n, one, step in zip(axes, size, stride, strict=True)]
        cuts = [self.cut(one, step, padding) for one, step in zip(size, stride, strict=True)]
        room = [max(a, b + c) for a, b, c in zip(full, ends, cuts, strict=True)]
        y = np.zeros((len(x), *room, kernel.shape[-2]), x.dtype)
        norm = np.zeros_like(y)
        # What each place of the kernel adds is a product over the features of the input.
        for at in product(*map(range, size)):
            steps = [slice(a, a + (n - 1) * step + 1, step) for a, n, step in zip(at, axes, stride, strict=True)]
            w, to = kernel[at], (slice(None), *steps)
            y[to] += x @ w.T
            norm[to] += np.square(x) @ np.square(w.T)
        kept = (slice(None), *(slice(c, c + n) for c, n in zip(cuts, ends, strict=True)))
        length = prod(size) * kernel.shape[-1]
        found = ops.summed(np.ascontiguousarray(y[kept]), lambda: np.sqrt(norm[kept]), length)
        return ops.rounded(found + bias)


class WindowPool(_Windowed):
    """The largest number, or the average, of the window around every stride-th place; zeros that pad are not counted."""

    options: ClassVar[Mapping[str, str]] = {
        "mode": "'max' or 'average'",
        "size": "of the window in each axis",
        "stride": _STRIDE,
        "padding": _PADDING.replace("zeros", "nothing"),
    }
    allowed = _ALLOWED

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        return self._shape(node, shape, _tuple(node, "size"), known(node, shape))

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        size, stride, padding = _tuple(node, "size"), _tuple(node, "stride"), str(node.options["padding"])
        _check_fits(self, node, x)
        once, axes = (1,) * len(size), tuple(range(-1 - len(size), -1))
        if node.options["mode"] == "max":
            return windows(x, size, stride, once, padding, -np.inf).max(axis=axes)
        read = windows(x, size, stride, once, padding)
        count = windows(np.ones((1, *x.shape[1:-1], 1), x.dtype), size, stride, once, padding).sum(axis=axes)
        y = read.sum(axis=axes) / count
        return ops.summed(y, lambda: np.sqrt(np.square(read).sum(axis=axes)) / count, prod(size))


class GlobalPool(Single):
    """The largest number, or the average, of each feature over all axes between the batch and the features."""

    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {
        "mode": "'max' or 'average'",
        "keepdims": "whether the axes stay, of length 1",
    }

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        features = known(node, shape)
        if len(shape) < 3:
            raise refuse(node, f"cannot read samples of the shape {shape}")
        return (*[1] * (len(shape) - 1), features) if node.options["keepdims"] else (features,)

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        axes, keep = tuple(range(1, x.ndim - 1)), bool(node.options["keepdims"])
        if node.options["mode"] == "max":
            return x.max(axis=axes, keepdims=keep)
        count = prod(x.shape[1:-1])
        norm = np.sqrt(np.square(x).sum(axis=axes, keepdims=keep)) / count
        return ops.summed(x.mean(axis=axes, keepdims=keep), lambda: norm, count)
