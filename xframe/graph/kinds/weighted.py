"""The kinds of nodes with weights that are not recurrent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from xframe import reference
from xframe.errors import SpecError
from xframe.graph.arithmetic import Operations
from xframe.graph.kinds.base import Masked, Params, Shape, Single, known, refuse
from xframe.graph.kinds.products import linear
from xframe.graph.node import Node
from xframe.spec import Dense

# No convolution in use is longer; a larger one is a slip or an attack.
_MAX_EXTENT = 1_000_000


def _shapes(node: Node) -> dict[str, tuple[int, ...]]:
    """The shapes of a node's arrays, from the arrays themselves where nobody knows them otherwise."""
    return dict(node.shapes) or {name: array.shape for name, array in node.params().items()}


def _expect(node: Node, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays of other names and shapes."""
    if (found := _shapes(node)) != wanted:
        raise refuse(node, f"has arrays of the shapes {found}, and reads {dict(wanted)}")


class DenseKind(Single):
    """``y = x W + b`` along the last axis; `Node.spec` has the sizes."""

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        spec = node.spec
        if not isinstance(spec, Dense) or known(node, shape) != spec.input_size:
            raise refuse(node, f"is {spec} and cannot read samples of the shape {shape}")
        return (*shape[:-1], spec.units)

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        assert node.spec is not None
        rows = x.reshape(-1, x.shape[-1])
        out = reference.run_on(node.spec, params, rows, ops.columns(len(rows) // len(x)), None)
        return np.ascontiguousarray(out.last).reshape(*x.shape[:-1], -1)


class Embedding(Single):
    """A row of a table for each whole number."""

    makes_mask = True
    options: ClassVar[Mapping[str, str]] = {"mask_zero": "whether the number 0 masks its time step"}
    params: ClassVar[Mapping[str, str]] = {"embeddings": "(V, d): the table"}

    def words(self, node: Node) -> Sequence[int]:
        return (0,)

    def masked(self, node: Node, reaches: bool) -> bool:
        return bool(node.options["mask_zero"])

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        table = _shapes(node)["embeddings"]
        if len(table) != 2 or 0 in table:
            raise refuse(node, f"has a table of the shape {table}, which must be (words, features)")
        if node.options["mask_zero"] and len(shape) != 1:
            raise refuse(node, f"makes a mask of samples of the shape {shape}, which must be (time,)")
        return (*shape, table[1])

    def run_one(self, node: Node, params: Params, x: np.ndarray, mask: np.ndarray | None, ops: Operations) -> Masked:
        table, ids = params["embeddings"], x.astype(np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
            raise SpecError(
                f"The node {node.name!r} reads whole numbers from 0 to {len(table) - 1}, not from {ids.min()} to {ids.max()}."
            )
        return table[ids], ids != 0 if node.options["mask_zero"] else None


class LayerNorm(Single):
    """``gamma (x - mean)/sqrt(variance + epsilon) + beta``, mean and variance being those of the last axis."""

    options: ClassVar[Mapping[str, str]] = {"epsilon": "what is added to the variance"}
    params: ClassVar[Mapping[str, str]] = {"gamma": "(d,): the scale", "beta": "(d,): the shift"}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        size = (known(node, shape),)
        _expect(node, {"gamma": size, "beta": size})
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        n = x.shape[-1]
        mean = x.mean(axis=-1, keepdims=True)
        mean = ops.summed(mean, lambda: np.linalg.norm(x, axis=-1, keepdims=True) / n, n)
        squares = np.square(x - mean)
        variance = squares.mean(axis=-1, keepdims=True)
        variance = ops.summed(variance, lambda: np.linalg.norm(squares, axis=-1, keepdims=True) / n, n)
        return _normalised(node, params, x, mean, variance, ops)


class BatchNorm(Single):
    """``gamma (x - mean)/sqrt(variance + epsilon) + beta``, mean and variance being those of the training."""

    options: ClassVar[Mapping[str, str]] = {"epsilon": "what is added to the variance"}
    params: ClassVar[Mapping[str, str]] = {
        "gamma": "(d,): the scale",
        "beta": "(d,): the shift",
        "mean": "(d,)",
        "variance": "(d,)",
    }

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        _expect(node, dict.fromkeys(self.params, (known(node, shape),)))
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        return _normalised(node, params, x, params["mean"], params["variance"], ops)


def _normalised(
    node: Node, params: Params, x: np.ndarray, mean: np.ndarray, variance: np.ndarray, ops: Operations
) -> np.ndarray:
    """What both norms compute. Frameworks also multiply out: ``x s + (beta - mean s)``, which rounds larger numbers."""
    root = np.sqrt(variance + x.dtype.type(node.options["epsilon"]))
    scale = ops.rounded(np.broadcast_to(params["gamma"] / root, x.shape).copy(), times=4)
    y = (x - mean) * scale + params["beta"]
    sizes = np.abs(x * scale) + np.abs(mean * scale) + np.abs(params["beta"])
    return ops.rounded(ops.rounded(y, lambda: sizes))


class Conv1D(Single):
    """A convolution over time: at every time step a product of a kernel with the time steps around it."""

    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {
        "stride": "the output has every stride-th time step",
        "padding": "'valid': only where the kernel fits; 'same': zeros at both ends, at the end one more where they are odd, so "
        "that the output has time/stride steps, rounded up; 'causal': zeros before the first step only",
        "dilation": "distance between the time steps that the kernel reads",
        "groups": "into which the features are split, in order; each group of filters reads its group of features",
    }
    params: ClassVar[Mapping[str, str]] = {
        "kernel": "(size, d/groups, filters)",
        "bias": "(filters,), zeros where the source has none",
    }

    def from_torch(self, options: Mapping[str, Any], name: str, array: np.ndarray) -> np.ndarray:
        return array.T if name == "kernel" else array

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        features, groups = known(node, shape, 2), node.options["groups"]
        kernel = _shapes(node)["kernel"]
        fits = len(kernel) == 3 and kernel[1] * groups == features and kernel[2] % groups == 0 and 0 not in kernel
        if not fits:
            raise refuse(node, f"has a kernel of the shape {kernel} and {groups} groups and reads samples of {shape}")
        _expect(node, {"kernel": kernel, "bias": kernel[2:]})
        if self._extent(node, kernel[0]) > _MAX_EXTENT:
            raise refuse(node, f"reaches over {self._extent(node, kernel[0]):,} time steps, which is out of bounds")
        return (None if shape[0] is None else self._steps(node, kernel[0], shape[0]), kernel[2])

    @staticmethod
    def _extent(node: Node, size: int) -> int:
        """How many time steps the kernel reaches over."""
        return (size - 1) * int(node.options["dilation"]) + 1

    def _steps(self, node: Node, size: int, steps: int) -> int:
        lost = self._extent(node, size) - 1 if node.options["padding"] == "valid" else 0
        if steps <= lost:
            raise refuse(node, f"needs more than {lost} time steps, not {steps}")
        return -(-(steps - lost) // int(node.options["stride"]))

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        kernel, stride, groups = params["kernel"], int(node.options["stride"]), int(node.options["groups"])
        extent, steps = self._extent(node, len(kernel)), self._steps(node, len(kernel), x.shape[1])
        lacking = max((steps - 1) * stride + extent - x.shape[1], 0)
        before = {"valid": 0, "same": lacking // 2, "causal": extent - 1}[node.options["padding"]]
        padded = np.pad(x, ((0, 0), (before, max(lacking - before, 0)), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=1)
        # (batch, time, features, size)
        read = windows[:, ::stride, :, :: int(node.options["dilation"])][:, :steps]
        halves = zip(
            np.split(read, groups, axis=2),
            np.split(kernel, groups, axis=2),
            np.split(params["bias"], groups),
            strict=True,
        )
        parts = [_product(part.swapaxes(2, 3), weights, bias, ops) for part, weights, bias in halves]
        return np.concatenate(parts, axis=-1)


def _product(windows: np.ndarray, kernel: np.ndarray, bias: np.ndarray, ops: Operations) -> np.ndarray:
    """Windows (batch, time, size, d) with a kernel (size, d, filters), and the bias: (batch, time, filters)."""
    read = windows.reshape(*windows.shape[:2], -1)
    return linear(read, kernel.reshape(-1, kernel.shape[2]), bias, ops)
