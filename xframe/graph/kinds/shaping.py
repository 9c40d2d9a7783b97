"""The kinds of nodes without weights: activations, masks, and what changes the shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import ClassVar

import numpy as np

from xframe.activations import ACTIVATIONS
from xframe.graph.arithmetic import Operations
from xframe.graph.kinds.base import Masked, Params, Shape, Single, known, refuse
from xframe.graph.kinds.products import activated
from xframe.graph.node import Node


class Activation(Single):
    """A function of each number, or of the numbers along the last axis."""

    options: ClassVar[Mapping[str, str]] = {
        "name": "of xframe.activations.ACTIVATIONS, whose parameters hold where no others are given",
        "negative_slope": "leaky_relu: x if x > 0 else negative_slope x. relu: see threshold",
        "alpha": "elu: x if x > 0 else alpha (exp(x) - 1)",
        "threshold": "relu: with threshold, max_value (None for none) and negative_slope all three given: max_value if x >= "
        "max_value, x if x >= threshold, else negative_slope (x - threshold)",
        "max_value": "relu: see threshold",
    }

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        if ACTIVATIONS[node.options["name"]].coupled:
            known(node, shape)
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        name, given = node.options["name"], {k: v for k, v in node.options.items() if k != "name"}
        if given:
            return _FUNCTIONS[name](x, ops, **given)
        return activated(name, x, ops)


def _leaky_relu(x: np.ndarray, ops: Operations, negative_slope: float) -> np.ndarray:
    return ops.rounded(np.where(x > 0, x, x * x.dtype.type(negative_slope)))


def _elu(x: np.ndarray, ops: Operations, alpha: float) -> np.ndarray:
    y = np.where(x > 0, x, np.expm1(np.minimum(x, 0)) * x.dtype.type(alpha))
    return ops.rounded(ops.rounded(y, times=4), lambda: abs(alpha) * (1 + np.abs(x)))


def _relu(
    x: np.ndarray, ops: Operations, threshold: float, max_value: float | None, negative_slope: float
) -> np.ndarray:
    of = x.dtype.type
    y = np.where(x >= of(threshold), x, (x - of(threshold)) * of(negative_slope))
    y = y if max_value is None else np.where(x >= of(max_value), of(max_value), y)
    return ops.rounded(y, lambda: np.abs(y) + abs(threshold * negative_slope))


_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {"leaky_relu": _leaky_relu, "elu": _elu, "relu": _relu}


class Dropout(Single):
    """Nothing, at inference."""

    passes = True
    options: ClassVar[Mapping[str, str]] = {
        "rate": "at which numbers are dropped in training, each by itself; 0 for layers that do something else there"
    }

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        return x


class Masking(Single):
    """Masks the time steps whose features all equal a value, and makes them zero."""

    makes_mask = True
    options: ClassVar[Mapping[str, str]] = {"value": "the value"}

    def masked(self, node: Node, reaches: bool) -> bool:
        return True

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        if len(shape) != 2:
            raise refuse(node, f"cannot read samples of the shape {shape}; they must be (time, features)")
        return shape

    def run_one(self, node: Node, params: Params, x: np.ndarray, mask: np.ndarray | None, ops: Operations) -> Masked:
        made = np.any(x != x.dtype.type(node.options["value"]), axis=-1)
        return np.where(made[..., None], x, x.dtype.type(0)), made


class Flatten(Single):
    """All axes of a sample as one."""

    passes = True
    mask = "drops"

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        sizes = [axis for axis in shape if axis is not None]
        return (prod(sizes) if len(sizes) == len(shape) else None,)

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        return x.reshape(len(x), -1)


class Pool(Single):
    """One number for each feature: the largest over time, or the average over the valid time steps."""

    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {
        "mode": "'max', which looks at masked time steps too, or 'average', which does not",
        "keepdims": "whether time stays, as an axis of length 1",
    }

    def uses_mask(self, node: Node) -> bool:
        return bool(node.options["mode"] == "average")

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        features = known(node, shape, 2)
        return (1, features) if node.options["keepdims"] else (features,)

    def run_one(self, node: Node, params: Params, x: np.ndarray, mask: np.ndarray | None, ops: Operations) -> Masked:
        keep = bool(node.options["keepdims"])
        if node.options["mode"] == "max":
            return x.max(axis=1, keepdims=keep), None
        valid = np.ones(x.shape[:2], bool) if mask is None else mask
        taken = np.where(valid[..., None], x, x.dtype.type(0))
        count = valid.sum(axis=1).reshape(-1, *[1] * (1 + keep)).astype(x.dtype)
        with np.errstate(invalid="ignore"):  # no valid time step: Keras divides zero by zero too
            y = taken.sum(axis=1, keepdims=keep) / count
            norm = np.sqrt(np.square(taken).sum(axis=1, keepdims=keep)) / count
        return ops.summed(y, lambda: norm, x.shape[1]), None


class Permute(Single):
    """The axes of a sample in another order."""

    passes = True
    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {
        "dims": "for each axis of the output, which one of the input it is; the first after the batch is 1"
    }

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        dims = node.options["dims"]
        if sorted(dims) != list(range(1, len(shape) + 1)):
            raise refuse(node, f"has dims={tuple(dims)}, which is no order of the axes of {shape}")
        return tuple(shape[axis - 1] for axis in dims)

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        return np.ascontiguousarray(x.transpose(0, *node.options["dims"]))


class Reshape(Single):
    """The numbers of a sample, in order, in another shape."""

    passes = True
    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {"shape": "of one sample; -1 for the one axis that takes what is left"}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        wanted = tuple(node.options["shape"])
        rest = prod(axis for axis in wanted if axis != -1)
        if wanted.count(-1) > 1 or any(axis < 1 and axis != -1 for axis in wanted):
            raise refuse(node, f"has shape={wanted}, which is no shape")
        sizes = [axis for axis in shape if axis is not None]
        if len(sizes) < len(shape):
            return tuple(None if axis == -1 else axis for axis in wanted)
        left, over = divmod(prod(sizes), rest)
        if over or (-1 not in wanted and left != 1):
            raise refuse(node, f"cannot make {wanted} of samples of the shape {shape}")
        return tuple(left if axis == -1 else axis for axis in wanted)

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        try:
            return x.reshape(len(x), *node.options["shape"])
        except ValueError:
            raise refuse(node, f"cannot make {tuple(node.options['shape'])} of samples of {x.shape[1:]}") from None


class Repeat(Single):
    """A vector at every time step."""

    passes = True
    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {"times": "number of time steps"}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        return (node.options["times"], known(node, shape, 1))

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        return np.repeat(x[:, None], node.options["times"], axis=1)


class Last(Single):
    """The last time step, masked or not."""

    passes = True
    mask = "drops"

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise refuse(node, f"cannot read samples of the shape {shape}, which have no time")
        return shape[1:]

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        return np.ascontiguousarray(x[:, -1])
