"""Arithmetic as NumPy does it: what the reference computes with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import erfc, sqrt
from typing import Any

import numpy as np

__all__ = ["FUNCTIONS", "Plain", "sigmoid"]

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_erfc = np.vectorize(erfc, otypes=[float])


def sigmoid(a: np.ndarray, out: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-a)), written as (1 + tanh(a / 2)) / 2, which never overflows."""
    np.multiply(a, 0.5, out=out)
    np.tanh(out, out=out)
    np.multiply(out, 0.5, out=out)
    return np.add(out, 0.5, out=out)


def relu(a: np.ndarray, out: np.ndarray) -> np.ndarray:
    """max(a, 0)."""
    return np.maximum(a, 0, out=out)


def _negative_part(a: np.ndarray) -> np.ndarray:
    """exp(a) - 1 where a is negative, else 0."""
    return np.expm1(np.minimum(a, 0))


def _softplus(a: np.ndarray) -> np.ndarray:
    return np.logaddexp(a, 0).astype(a.dtype, copy=False)


def _softmax(a: np.ndarray) -> np.ndarray:
    e = np.exp(a - a.max(axis=0))
    return e / e.sum(axis=0)


def _log_softmax(a: np.ndarray) -> np.ndarray:
    shifted = a - a.max(axis=0)
    return shifted - np.log(np.exp(shifted).sum(axis=0))


def _sparsemax(a: np.ndarray) -> np.ndarray:
    """What Keras ships by that name, which is not the sparsemax of the paper: see `xframe.activations`."""
    descending = -np.sort(-a, axis=0)
    sums = np.cumsum(descending, axis=0)
    k = np.arange(1, len(a) + 1).reshape(-1, *[1] * (a.ndim - 1))
    support = k * descending > sums - 1
    return np.maximum(a - (np.where(support, sums, 0).sum(axis=0) - 1) / support.sum(axis=0), 0)


# Written to `out` at once, because they run in most layers.
_IN_PLACE: dict[str, Any] = {"tanh": np.tanh, "sigmoid": sigmoid, "relu": relu}
# By name, of an array (units, ...). The equations are in xframe.activations.
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda a: a,
    "hard_sigmoid": lambda a: np.clip(a / 6 + 0.5, 0, 1),
    "hard_sigmoid_keras2": lambda a: np.clip(0.2 * a + 0.5, 0, 1),
    "relu6": lambda a: np.clip(a, 0, 6),
    "leaky_relu": lambda a: np.where(a > 0, a, 0.2 * a),
    "elu": lambda a: np.maximum(a, 0) + _negative_part(a),
    "selu": lambda a: _SELU_SCALE * (np.maximum(a, 0) + _SELU_ALPHA * _negative_part(a)),
    "celu": lambda a: np.maximum(a, 0) + _negative_part(a),
    "gelu": lambda a: 0.5 * a * _erfc(-a / sqrt(2)).astype(a.dtype),
    "silu": lambda a: a * sigmoid(a, np.empty_like(a)),
    "mish": lambda a: a * np.tanh(_softplus(a)),
    "softplus": _softplus,
    "softsign": lambda a: a / (1 + np.abs(a)),
    "squareplus": lambda a: (a + np.sqrt(np.square(a) + 4)) / 2,
    "exponential": np.exp,
    "log_sigmoid": lambda a: -_softplus(-a),
    "hard_tanh": lambda a: np.clip(a, -1, 1),
    "hard_silu": lambda a: a * np.clip(a / 6 + 0.5, 0, 1),
    "tanh_shrink": lambda a: a - np.tanh(a),
    "soft_shrink": lambda a: np.sign(a) * np.maximum(np.abs(a) - 0.5, 0),
    "hard_shrink": lambda a: np.where(np.abs(a) > 0.5, a, 0),
    "sparse_plus": lambda a: np.where(a < 1, np.square(np.maximum(a + 1, 0)) / 4, a),
    "sparse_sigmoid": lambda a: np.clip((a + 1) / 2, 0, 1),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "sparsemax": _sparsemax,
}


class Plain:
    """The operations of `xframe.cells.base.Arithmetic`, plainly."""

    add: Any = staticmethod(np.add)
    subtract: Any = staticmethod(np.subtract)
    multiply: Any = staticmethod(np.multiply)
    matmul: Any = staticmethod(np.matmul)

    def weight(self, w: np.ndarray, ones: Sequence[int], batch: int) -> np.ndarray:
        return w

    def activate(self, name: str, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        if name in _IN_PLACE:
            return _IN_PLACE[name](a, out=out)
        out[...] = FUNCTIONS[name](a)
        return out
