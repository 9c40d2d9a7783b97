"""Products and softmax as several kinds of nodes compute them, with their rounding."""

from __future__ import annotations

from math import prod

import numpy as np

from xframe.graph.arithmetic import Operations

__all__ = ["activated", "linear", "product", "softmax"]


def linear(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, ops: Operations) -> np.ndarray:
    """``x kernel + bias`` along the last axis: x (batch, ..., d), kernel (d, n), bias (n,)."""
    at, rows = x.shape[:-1], prod(x.shape[:-1])
    columns = np.ones((len(kernel) + 1, rows), kernel.dtype)
    columns[:-1] = x.reshape(rows, -1).T
    arithmetic = ops.columns(rows // len(x))
    weight = arithmetic.weight(np.column_stack([kernel.T, bias]), [len(kernel)], rows)
    y = arithmetic.matmul(weight, columns, out=np.empty((kernel.shape[1], rows), kernel.dtype))
    return np.ascontiguousarray(y.T).reshape(*at, -1)


def product(equation: str, a: np.ndarray, b: np.ndarray, ops: Operations, length: int) -> np.ndarray:
    """A product of two values, each computed, as of `numpy.einsum`; ``length`` numbers are summed for each of it."""
    y = np.einsum(equation, a, b, optimize=True)
    return ops.summed(y, lambda: np.sqrt(np.einsum(equation, np.square(a), np.square(b), optimize=True)), length)


def softmax(x: np.ndarray, ops: Operations) -> np.ndarray:
    """Along the last axis, of scores among which there may be some that are far away.

    Each score less the largest, ``s``, is off by ``u |s|``: what it becomes by ``u |s| y``, and every number by ``y`` times the
    sum of all these. A score that is masked by -1e9 becomes zero, however it rounds.
    """
    shifted = x - x.max(axis=-1, keepdims=True)
    y = np.exp(shifted)
    y /= y.sum(axis=-1, keepdims=True)

    def size() -> np.ndarray:
        own = y * (1 + np.abs(shifted))
        total: np.ndarray = own + y * own.sum(axis=-1, keepdims=True)
        return total

    return ops.rounded(y, size, times=4)


def activated(name: str, x: np.ndarray, ops: Operations) -> np.ndarray:
    """An activation function of each number, or of the numbers along the last axis."""
    columns = np.array(x.reshape(-1, x.shape[-1]).T, order="C")  # a copy, which is changed in place
    ops.columns(columns.shape[1] // len(x)).activate(name, columns, out=columns)
    return np.ascontiguousarray(columns.T).reshape(x.shape)
