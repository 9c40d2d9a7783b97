"""How much two correct implementations may differ: rounding noise, computed for this very input.

The reference runs in float64 on copies of the input ("replicas"). In the copies, the result of each operation is
perturbed by the roundoff of the dtype that is judged; how far the copies spread is the noise, per output element, with
everything the recurrence does to an error on its way, chaos included. With unit roundoff u:

    inner product of a and w, length m    u * (growth(m) * ||a * w||_2 * N(0, 1) + |result| * U(-1, 1))
    activation                            4 u |result| * U(-1, 1)
    sigmoid, besides                      u * U(-1, 1)
    other activations of x, besides       u (1 + |x|) * U(-1, 1), unless they are exact or cancel nothing
    product, sum, difference              u |result| * U(-1, 1)
    two biases folded into one            u |sum of biases| * U(-1, 1), once for the whole sequence

The factor before the norm is the growth of the rounding error of a sum (N. J. Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., section 4.2, as a random walk instead of a bound): the larger of sqrt(log2(m) + 1), that of pairwise
summation, and sqrt((b + m/b) / 6), that of blocks of b = min(m, 512) numbers, summed one after the other within a block and
block after block, as libraries for matrices do it. The activations of today's
libraries are off by up to 5 u (tanh) and 7 u (sigmoid) in float32; scripts/calibrate.py shows what that comes to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xframe import reference
from xframe.activations import ACTIVATIONS
from xframe.arithmetic import Plain
from xframe.layout import Key
from xframe.reference import Given
from xframe.spec import Layer, Sequential

__all__ = ["REPLICAS", "ROUNDOFF", "Noise", "batch_axis", "growth", "measure", "ratio"]

REPLICAS = 8
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}

# Perturbations finer than this would themselves drown in the float64 arithmetic of the replicas; they are made this
# large and the spread is scaled down, which is exact as long as the noise is small, and then it is.
_FINEST = 2.0**-40
_SMALL = 1e-3


# The longest block that libraries for matrices sum up one number after the other.
_BLOCK = 512


def growth(length: int) -> float:
    """By what the rounding error of an inner product of that length exceeds that of its largest term, see this module."""
    block = min(length, _BLOCK)
    return float(np.sqrt(max(np.log2(length) + 1, (block + length / block) / 6)))


@dataclass(frozen=True)
class Noise:
    """The reference's outputs and, for each, the noise of one element (standard deviation), by output name."""

    clean: Mapping[str, np.ndarray]
    deviation: Mapping[str, np.ndarray]


# The rows of the column that a kernel multiplies, the kernel, and its squares.
_Kernel = tuple[slice, np.ndarray, np.ndarray]
# Folded biases as they are added, and for each the size of one of them where it was folded from two.
_Bias = tuple[np.ndarray, np.ndarray]


class Perturbed:
    """Arithmetic whose results are off by roundoff in every column of the batch after the first ``clean`` ones."""

    def __init__(self, clean: int, roundoff: float, seed: int) -> None:
        self._clean, self._u = clean, roundoff
        self._random = np.random.default_rng(seed)
        self._plain = Plain()

    def _perturbed(self, out: np.ndarray, roundoffs: int = 1) -> np.ndarray:
        part, u = out[:, self._clean :], roundoffs * self._u
        part *= 1 + self._random.uniform(-u, u, part.shape)
        return out

    def weight(self, w: np.ndarray, ones: Sequence[int], batch: int) -> tuple[list[_Kernel], _Bias | None]:
        """The kernels apart, each with its columns and squares, and the biases folded into one."""
        ends = ones or [w.shape[1]]
        starts = [0, *(end + 1 for end in ends)]
        parts = [slice(start, end) for start, end in zip(starts, ends, strict=False)]
        biases = [w[:, one] for one in ones if w[:, one].any()]
        return [(part, w[:, part], np.square(w[:, part])) for part in parts], self._bias(biases, batch)

    def _bias(self, biases: Sequence[np.ndarray], batch: int) -> _Bias | None:
        """The sum with the rounding of having been folded, (size, batch), and the size of what it was folded from."""
        if not biases:
            return None
        total = np.repeat(sum(biases)[:, None], batch, axis=1)  # type: ignore[index]
        folded = np.logical_and.reduce([b != 0 for b in biases]) & (len(biases) > 1)
        part = total[:, self._clean :]
        part += folded[:, None] * np.abs(part) * self._random.uniform(-self._u, self._u, part.shape)
        return total, folded * np.abs(biases[0])

    def matmul(self, weight: tuple[list[_Kernel], _Bias | None], a: np.ndarray, out: np.ndarray) -> np.ndarray:
        """The sum of the products, one for each kernel, and the bias: frameworks round each by itself."""
        (first, *others), bias = weight
        self._product(first, a, out)
        if bias is not None:
            total, folded = bias
            self.add(out, total, out=out)
            # Where two biases are added one after the other, the sum in between may be larger than both ends.
            part = out[:, self._clean :]
            part += folded[:, None] * self._random.uniform(-self._u, self._u, part.shape)
        for kernel in others:
            self.add(out, self._product(kernel, a, np.empty_like(out)), out=out)
        return out

    def _product(self, kernel: _Kernel, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        rows, w, squares = kernel
        a = a[rows]
        np.matmul(w, a, out=out)
        part = out[:, self._clean :]
        error = np.sqrt(np.matmul(squares, np.square(a[:, self._clean :])))
        error *= self._random.standard_normal(part.shape)
        error *= self._u * growth(w.shape[1])
        self._perturbed(out)
        part += error
        return out

    def add(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        return self._perturbed(np.add(a, b, out=out))

    def subtract(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        return self._perturbed(np.subtract(a, b, out=out))

    def multiply(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        return self._perturbed(np.multiply(a, b, out=out))

    def activate(self, name: str, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        kind = ACTIVATIONS[name].absolute
        # A sigmoid through tanh or through exp: a small value is then only as exact as 1 is.
        size = 1 + np.abs(a[:, self._clean :]) if kind == "x" else 1.0
        self._plain.activate(name, a, out)
        self._perturbed(out, 4)
        if kind:
            part = out[:, self._clean :]
            part += size * self._random.uniform(-self._u, self._u, part.shape)
        return out


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is not judged
def measure(
    spec: Layer | Sequential,
    params: Mapping[Key, np.ndarray] | Sequence[Mapping[Key, np.ndarray]],
    given: Given,
    dtype: str,
    seed: int = 0,
) -> Noise:
    """The reference in float64 and the noise of ``dtype`` around it."""
    if dtype == "float64" and _single(spec):
        dtype = "float32"
    u = ROUNDOFF[dtype]
    clean, spread = _spread(spec, params, given, max(u, _FINEST), seed)
    deviation = {name: values * min(1, u / _FINEST) for name, values in spread.items()}
    if u < _FINEST and any(np.any(spread[n] > _SMALL * np.abs(clean[n]).max()) for n in clean):
        # So chaotic that the larger perturbations do not tell what the smaller ones do.
        _, fine = _spread(spec, params, given, u, seed)
        deviation = {name: np.maximum(values, fine[name]) for name, values in deviation.items()}
    if dtype == "float64":
        # The reference itself rounds like this, and two independent errors add up by their squares.
        deviation = {name: values * np.sqrt(2) for name, values in deviation.items()}
    return Noise(clean, deviation)


def _single(spec: Layer | Sequential) -> bool:
    """Whether an activation function has a constant that is exact to float32 only."""
    parts = [layer.part(d, k) for layer in getattr(spec, "layers", [spec]) for k, d in layer.places]
    names = {getattr(part, option, None) for part in parts for option in ("activation", "recurrent_activation")}
    return any(ACTIVATIONS[name].single for name in names if name)


def _spread(
    spec: Layer | Sequential,
    params: Mapping[Key, np.ndarray] | Sequence[Mapping[Key, np.ndarray]],
    given: Given,
    u: float,
    seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The reference's outputs, and how far replicas with unit roundoff ``u`` spread around them."""
    copies = 1 + REPLICAS
    ops = Perturbed(given.x.shape[0], u, seed)
    outputs = reference.run_given(spec, params, _repeated(given, copies), ops).named()
    clean, deviation = {}, {}
    for name, values in outputs.items():
        split = np.stack(np.split(values, copies, batch_axis(name)))
        clean[name] = split[0]
        own = np.mean(np.square(split[1:] - split[0]), axis=0)
        # Eight copies tell the spread of one element badly, and that of all units at a time step well: both count.
        typical = own.mean(axis=-1, keepdims=True)
        rounding = np.square(u * split[0]) / 4
        deviation[name] = np.sqrt(own + typical + rounding) + np.finfo(np.float32).tiny
    return clean, deviation


def _repeated(given: Given, copies: int) -> Given:
    """Copies of everything along the batch, in float64."""

    def tiled(array: np.ndarray, axis: int = 0) -> np.ndarray:
        return np.tile(array, [copies if i == axis else 1 for i in range(array.ndim)])

    return Given(
        tiled(given.x.astype(np.float64)),
        given.state and {name: tiled(v.astype(np.float64), 2) for name, v in given.state.items()},
        None if given.mask is None else tiled(given.mask),
        given.before and _repeated(given.before, copies),
    )


def batch_axis(output: str) -> int:
    """Which axis of a named output is the batch: states are (layers, directions, batch, size)."""
    return 2 if output.startswith("state ") else 0


@np.errstate(over="ignore", invalid="ignore")
def ratio(got: np.ndarray, clean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """How far each element is from the reference, in units of its noise."""
    return np.abs(got.astype(np.float64) - clean) / deviation
