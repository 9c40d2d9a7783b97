"""Normalisations: numbers less a mean, over a deviation, both of the sample or of the training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np

from xframe.graph.arithmetic import Operations
from xframe.graph.kinds.allowed import axis, count, flag, number
from xframe.graph.kinds.base import Params, Shape, Single, expect, own_shapes, refuse
from xframe.graph.node import Node

__all__ = ["LEAST_DEVIATION", "BatchNorm", "GroupNorm", "LayerNorm", "ParametricRelu", "RMSNorm", "Standardize"]

# What Keras's Normalization divides by at least: keras.config.epsilon().
LEAST_DEVIATION = 1e-7


def _axes(value: Any) -> bool:
    """Several axes, each counted from the last, in order."""
    return isinstance(value, list | tuple) and all(map(axis, value)) and [*value] == sorted({*value}) and bool(value)


_EPSILON: Mapping[str, Any] = {"epsilon": lambda value: number(value) and value >= 0}
_AXES = "over which the statistics are taken, counted from the last, which is -1 and alone if this is absent"


def _sizes(node: Node, shape: Shape, axes: Sequence[int]) -> tuple[int, ...]:
    """The sizes of axes, which must be known."""
    found = tuple(shape[one] if -one <= len(shape) else None for one in axes)
    sizes = tuple(size for size in found if size is not None)
    if len(sizes) != len(found):
        raise refuse(node, f"cannot read samples of the shape {shape}, of which it needs to know the axes {list(axes)}")
    return sizes


def _beside(array: np.ndarray, axes: Collection[int], rank: int) -> np.ndarray:
    """An array of these axes beside one of ``rank`` axes: the others have the length 1."""
    sizes = iter(array.shape)
    return array.reshape([next(sizes) if i - rank in axes else 1 for i in range(rank)])


def _mean(x: np.ndarray, axes: tuple[int, ...], ops: Operations) -> np.ndarray:
    """The mean over axes, which stay, of length 1."""
    mean = x.mean(axis=axes, keepdims=True)
    n = prod(x.shape[one] for one in axes)
    return ops.summed(mean, lambda: np.sqrt(np.square(x).sum(axis=axes, keepdims=True)) / n, n)


def _normalised(
    x: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float,
    gamma: np.ndarray,
    beta: np.ndarray,
    ops: Operations,
) -> np.ndarray:
    """``gamma (x - mean)/sqrt(variance + epsilon) + beta``, of arrays that are beside each other.

    Frameworks also multiply out: ``x s + (beta - mean s)`` with ``s = gamma/sqrt(variance + epsilon)``, which rounds larger
    numbers.
    """
    root = np.sqrt(variance + x.dtype.type(epsilon))
    scale = ops.rounded(np.broadcast_to(gamma / root, x.shape).copy(), times=4)
    y = (x - mean) * scale + beta
    sizes = np.abs(x * scale) + np.abs(mean * scale) + np.abs(beta)
    return ops.rounded(ops.rounded(y, lambda: sizes))


class LayerNorm(Single):
    """``gamma (x - mean)/sqrt(variance + epsilon) + beta``, mean and variance being those over some axes of each sample.

    Source: keras.layers.LayerNormalization, after arXiv:1607.06450.
    """

    options: ClassVar[Mapping[str, str]] = {"epsilon": "what is added to the variance", "axes": _AXES}
    params: ClassVar[Mapping[str, str]] = {
        "gamma": "(d,), or the sizes of the axes: the scale",
        "beta": "likewise: the shift",
    }
    allowed: ClassVar[Mapping[str, Any]] = {**_EPSILON, "axes": _axes}
    optional = frozenset({"axes"})

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        expect(node, dict.fromkeys(self.params, _sizes(node, shape, node.options.get("axes", (-1,)))))
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        axes = tuple(node.options.get("axes", (-1,)))
        mean = _mean(x, axes, ops)
        variance = _mean(np.square(x - mean), axes, ops)
        gamma, beta = (_beside(params[name], axes, x.ndim) for name in ("gamma", "beta"))
        return _normalised(x, mean, variance, node.options["epsilon"], gamma, beta, ops)


class BatchNorm(Single):
    """``gamma (x - mean)/sqrt(variance + epsilon) + beta``, mean and variance being those of the training, along one axis.

    Source: keras.layers.BatchNormalization, after arXiv:1502.03167.
    """

    options: ClassVar[Mapping[str, str]] = {
        "epsilon": "what is added to the variance",
        "axis": "of the features, counted from the last, which is -1 and meant if this is absent",
    }
    params: ClassVar[Mapping[str, str]] = {
        "gamma": "(d,): the scale",
        "beta": "(d,): the shift",
        "mean": "(d,)",
        "variance": "(d,)",
    }
    allowed: ClassVar[Mapping[str, Any]] = {**_EPSILON, "axis": axis}
    optional = frozenset({"axis"})

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        expect(node, dict.fromkeys(self.params, _sizes(node, shape, (node.options.get("axis", -1),))))
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        at = (int(node.options.get("axis", -1)),)
        gamma, beta, mean, variance = (_beside(params[name], at, x.ndim) for name in self.params)
        return _normalised(x, mean, variance, node.options["epsilon"], gamma, beta, ops)


class GroupNorm(Single):
    """The same with mean and variance over all axes of a sample, for each group of features by itself.

    Source: keras.layers.GroupNormalization, after arXiv:1803.08494.
    """

    options: ClassVar[Mapping[str, str]] = {
        "epsilon": "what is added to the variance",
        "axis": "of the features, counted from the last, which is -1",
        "groups": "into which the features are split, in order",
    }
    params: ClassVar[Mapping[str, str]] = {"gamma": "(d,): the scale", "beta": "(d,): the shift"}
    allowed: ClassVar[Mapping[str, Any]] = {**_EPSILON, "axis": axis, "groups": count}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        size = _sizes(node, shape, (node.options["axis"],))
        expect(node, dict.fromkeys(self.params, size))
        if size[0] % node.options["groups"]:
            raise refuse(node, f"cannot split {size[0]} features into {node.options['groups']} groups")
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        at, groups, epsilon = int(node.options["axis"]), int(node.options["groups"]), node.options["epsilon"]
        # Features first, and then in groups: (batch, groups, features of one, everything else).
        moved = np.moveaxis(x, at, 1)
        grouped = np.ascontiguousarray(moved).reshape(len(x), groups, moved.shape[1] // groups, -1)
        mean = _mean(grouped, (-2, -1), ops)
        variance = _mean(np.square(grouped - mean), (-2, -1), ops)
        gamma, beta = (params[name].reshape(groups, -1, 1) for name in ("gamma", "beta"))
        y = _normalised(grouped, mean, variance, epsilon, gamma, beta, ops)
        return np.ascontiguousarray(np.moveaxis(y.reshape(moved.shape), 1, at))


class RMSNorm(Single):
    """``gamma x/sqrt(mean(x^2) + epsilon)``, the mean being that over some axes of each sample.

    Source: keras.layers.RMSNormalization, after arXiv:1910.07467.
    """

    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {"epsilon": "what is added to the mean square", "axes": _AXES}
    params: ClassVar[Mapping[str, str]] = {"gamma": "(d,), or the sizes of the axes: the scale"}
    allowed: ClassVar[Mapping[str, Any]] = {**_EPSILON, "axes": _axes}
    optional = frozenset({"axes"})

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        expect(node, {"gamma": _sizes(node, shape, node.options.get("axes", (-1,)))})
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        axes = tuple(node.options.get("axes", (-1,)))
        square = _mean(np.square(x), axes, ops)
        root = np.sqrt(square + x.dtype.type(node.options["epsilon"]))
        return ops.rounded(x / root * _beside(params["gamma"], axes, x.ndim), times=6)


class Standardize(Single):
    """``(x - mean)/max(sqrt(variance), 1e-7)``, or ``x max(sqrt(variance), 1e-7) + mean`` the other way round.

    Source: keras.layers.Normalization, whose statistics are those of its data, or given.
    """

    options: ClassVar[Mapping[str, str]] = {"inverted": "whether it is the other way round"}
    params: ClassVar[Mapping[str, str]] = {
        "mean": "of the shape of a sample, with 1 for each axis all places of which share it",
        "variance": "of the same shape",
    }
    allowed: ClassVar[Mapping[str, Any]] = {"inverted": flag}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        _expect_beside(node, shape, "mean", "variance")
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        mean, deviation = params["mean"], np.maximum(np.sqrt(params["variance"]), x.dtype.type(LEAST_DEVIATION))
        if node.options["inverted"]:
            return ops.rounded(x * deviation + mean, lambda: np.abs(mean) + 2 * np.abs(x * deviation))
        return ops.rounded((x - mean) / deviation, lambda: (np.abs(x) + np.abs(mean)) / deviation, times=2)


class ParametricRelu(Single):
    """``x`` where that is positive, else ``alpha x``. Source: keras.layers.PReLU, after arXiv:1502.01852."""

    params: ClassVar[Mapping[str, str]] = {
        "alpha": "of the shape of a sample, with 1 for each axis all places of which share it"
    }

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        _expect_beside(node, shape, "alpha")
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        return ops.rounded(np.where(x > 0, x, params["alpha"] * x))


def _expect_beside(node: Node, shape: Shape, *names: str) -> None:
    """Refuse arrays that are not as long as the sample, or of length 1, in each axis."""
    own = own_shapes(node)
    first = own.get(names[0], ())
    fits = len(first) == len(shape) and all(a in (1, b) for a, b in zip(first, shape, strict=True))
    if not fits or own != dict.fromkeys(names, first):
        raise refuse(node, f"has arrays of the shapes {own}, and reads samples of the shape {shape}")
