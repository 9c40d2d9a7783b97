"""How much two correct implementations may differ: rounding noise, computed for this very input.

The reference runs in float64 on copies of the input ("replicas"). In the copies, the result of each operation is
perturbed by the roundoff of the dtype that is judged; how far the copies spread is the noise, per output element, with
everything the recurrence does to an error on its way, chaos included. With unit roundoff u:

    inner product of a and w, length m    u * (growth(m) * ||a * w||_2 * N(0, 1) + |result| * U(-1, 1))
    a bias b added to it                  u * (growth(m) * |b| * N(0, 1) + |result| * U(-1, 1))
    activation                            4 u |result| * U(-1, 1)
    sigmoid, besides                      u * U(-1, 1)
    other activations of x, besides       u (1 + |x|) * U(-1, 1), unless they are exact or cancel nothing
    an activation that a library computes by way of a sigmoid, besides (`Adapter.coarse`)    2 u * U(-1, 1)
    product, sum, difference              u |result| * U(-1, 1)
    each of these in float16, besides     2^-25 * U(-1, 1), half of its smallest number
    two biases folded into one            u |sum of biases| * U(-1, 1), once for the whole sequence
    both a and w rounded to fewer bits    v * sqrt(2/3) * ||a * w||_2 * N(0, 1)

In one half of the copies these random numbers are new at every time step, in the other half they are the same at all of them: the
rounding errors of numbers that have settled repeat, and a state that forgets slowly adds them up.

The factor before the norm is the growth of the rounding error of a sum (N. J. Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., section 4.2, as a random walk instead of a bound): the larger of sqrt(log2(m) + 1), that of pairwise
summation, and sqrt((b + m/b) / 6), that of blocks of b = min(m, 512) numbers, summed one after the other within a block and
block after block, as libraries for matrices do it. The activations of today's
libraries are off by up to 5 u (tanh) and 7 u (sigmoid) in float32; scripts/calibrate.py shows what that comes to.

Where the noise comes near the outputs themselves, a layer may go another way for good, and the copies, which may happen to go one
way, no longer tell. From there on the noise is taken to be as large as the outputs: what a chaotic layer computes at a late step
is only told by running that step by itself (`xframe.drawing.forced`).

With ``tf32``, both operands of a product are rounded to 11 significant bits, v = 2^-11, and all else is float32: what GPUs do to
float32 where TensorFloat-32 is switched on, as it is for PyTorch's recurrent layers and for TensorFlow. It is no float type of
arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xframe import reference
from xframe.activations import ACTIVATIONS
from xframe.arithmetic import Plain
from xframe.layout import Key
from xframe.reference import Given
from xframe.spec import Layer, Recurrent, Sequential

__all__ = [
    "LEAST",
    "REPLICAS",
    "ROUNDOFF",
    "Noise",
    "batch_axis",
    "drifts",
    "growth",
    "measure",
    "narrowest",
    "narrowing",
    "ratio",
    "rounding",
    "underflow",
]

# An even number, see `Perturbed`.
REPLICAS = 12
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
# Half of the smallest number of a type: so far is the rounding of the least ones off. bfloat16 has the exponents of float32 and
# 16 bits less.
LEAST = {dtype: float(np.finfo(dtype).smallest_subnormal) / 2 for dtype in ("float64", "float32", "float16")}
LEAST["bfloat16"] = LEAST["float32"] * 2**16
# Numerics that are no float type of arrays: what all is computed in, and the roundoff of the operands of products.
_NARROWED = {"tf32": ("float32", 2.0**-11)}

# Perturbations finer than this would themselves drown in the float64 arithmetic of the replicas; they are made this
# large and the spread is scaled down, which is exact as long as the noise is small, and then it is.
_FINEST = 2.0**-40
_SMALL = 1e-3
# What is added to each deviation, because one divides by it.
_TINY = np.finfo(np.float32).tiny
# The share of the largest output at which noise no longer follows from that of the step before.
_LOST = 0.1


# The longest block that libraries for matrices sum up one number after the other.
_BLOCK = 512


def growth(length: int) -> float:
    """By what the rounding error of an inner product of that length exceeds that of its largest term, see this module."""
    block = min(length, _BLOCK)
    return float(np.sqrt(max(np.log2(length) + 1, (block + length / block) / 6)))


def underflow(dtype: str) -> float:
    """By how much each result is off besides: float16's come near its smallest number, and those of other types do not."""
    return LEAST[dtype] if dtype == "float16" else 0.0


def rounding(values: np.ndarray, dtype: str) -> np.ndarray:
    """By how much each number may at most change when it is rounded to a float type, whose numbers are twice as far apart."""
    _, exponent = np.frexp(values.astype(np.float64))
    return np.maximum((values != 0) * np.ldexp(ROUNDOFF[dtype], exponent - 1), LEAST[dtype])


def narrowest(dtypes: Iterable[str]) -> str:
    """The float type of these with the largest roundoff; float32 if there is none."""
    return max((dtype for dtype in dtypes if dtype in ROUNDOFF), key=ROUNDOFF.__getitem__, default="float32")


def narrowing(values: np.ndarray, dtype: str) -> np.ndarray:
    """By how much each number may change on its way to a narrower float type: to one of 16 bits often by way of float32."""
    ways = ("float32", dtype) if dtype in ("float16", "bfloat16") else (dtype,)
    return sum((rounding(values, way) for way in ways), np.zeros(1))


@dataclass(frozen=True)
class Noise:
    """The reference's outputs and, for each, the noise of one element (standard deviation), by output name."""

    clean: Mapping[str, np.ndarray]
    deviation: Mapping[str, np.ndarray]


# The rows of the column that a kernel multiplies, the kernel, and its squares.
_Kernel = tuple[slice, np.ndarray, np.ndarray]
# Folded biases as they are added, (size, batch), and for each the 2-norm of those that it was folded from.
_Bias = tuple[np.ndarray, np.ndarray]


class Perturbed:
    """Arithmetic whose results are off by roundoff in every column of the batch after the first ``clean`` ones.

    In the second half of these, a result is off by the same share at every time step.
    """

    def __init__(
        self,
        clean: int,
        roundoff: float,
        seed: int,
        least: float = 0.0,
        operands: float = 0.0,
        coarse: frozenset[str] = frozenset(),
    ) -> None:
        self._clean, self._u, self._least, self._operands = clean, roundoff, least, operands
        self._coarse = coarse
        self._random = np.random.default_rng(seed)
        self._plain = Plain()
        # Random numbers by their place in a time step, which begins with the product that the first one began with.
        self._kept: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}
        self._place = 0
        self._opening: Any = None

    def _perturbed(self, out: np.ndarray, roundoffs: int = 1) -> np.ndarray:
        part = out[:, self._clean :]
        part *= 1 + roundoffs * self._u * self._numbers("uniform", part)
        if self._least:
            part += self._least * self._numbers("uniform", part)
        return out

    def _numbers(self, kind: str, part: np.ndarray) -> np.ndarray:
        """Random numbers for a result: new ones at each time step for one half of the copies, and the same for the other."""
        key, self._place = (self._place, part.shape), self._place + 1
        if key not in self._kept:
            self._kept[key] = self._draw(kind, part.shape)
        numbers = self._kept[key]
        fresh = numbers[:, : part.shape[1] // 2]
        fresh[...] = self._draw(kind, fresh.shape)
        return numbers

    def _draw(self, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        return self._random.standard_normal(shape) if kind == "normal" else self._random.uniform(-1, 1, shape)

    def weight(self, w: np.ndarray, ones: Sequence[int], batch: int) -> tuple[list[_Kernel], _Bias | None]:
        """The kernels apart, each with its columns and squares, and the biases folded into one."""
        ends = ones or [w.shape[1]]
        starts = [0, *(end + 1 for end in ends)]
        parts = [slice(start, end) for start, end in zip(starts, ends, strict=False)]
        biases = [w[:, one] for one in ones if w[:, one].any()]
        return [(part, w[:, part], np.square(w[:, part])) for part in parts], self._bias(biases, batch)

    def _bias(self, biases: Sequence[np.ndarray], batch: int) -> _Bias | None:
        """The sum, with the rounding of having been folded."""
        # Here a layer is prepared, of whose steps nothing is known yet.
        self._kept.clear()
        self._opening = None
        if not biases:
            return None
        total = np.repeat(sum(biases)[:, None], batch, axis=1)  # type: ignore[index]
        folded = np.logical_and.reduce([b != 0 for b in biases]) & (len(biases) > 1)
        part = total[:, self._clean :]
        part += folded[:, None] * np.abs(part) * self._random.uniform(-self._u, self._u, part.shape)
        return total, np.sqrt(sum(map(np.square, biases)))

    def matmul(self, weight: tuple[list[_Kernel], _Bias | None], a: np.ndarray, out: np.ndarray) -> np.ndarray:
        """The sum of the products, one for each kernel, and the bias: frameworks round each by itself."""
        self._opening = self._opening or weight
        self._place = 0 if weight is self._opening else self._place
        (first, *others), bias = weight
        self._product(first, a, out)
        if bias is not None:
            total, norm = bias
            self.add(out, total, out=out)
            # A library may begin the sum with the bias, so that each addition rounds at its size.
            part = out[:, self._clean :]
            part += self._u * growth(a.shape[0]) * norm[:, None] * self._numbers("normal", part)
        for kernel in others:
            self.add(out, self._product(kernel, a, np.empty_like(out)), out=out)
        return out

    def _product(self, kernel: _Kernel, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        rows, w, squares = kernel
        a = a[rows]
        np.matmul(w, a, out=out)
        return self._summed(out, np.matmul(squares, np.square(a[:, self._clean :])), w.shape[1])

    def _summed(self, out: np.ndarray, squares: np.ndarray, length: int) -> np.ndarray:
        """Inner products of that length with their error; ``squares`` are the sums of the squares of what was summed."""
        part = out[:, self._clean :]
        error = np.sqrt(squares)
        error *= self._numbers("normal", part)
        error *= np.hypot(self._u * growth(length), self._operands * np.sqrt(2 / 3))
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
            part += self._u * size * self._numbers("uniform", part)
        if name in self._coarse:
            part = out[:, self._clean :]
            part += 2 * self._u * self._numbers("uniform", part)
        return out


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is not judged
def measure(
    spec: Layer | Sequential,
    params: Mapping[Key, np.ndarray] | Sequence[Mapping[Key, np.ndarray]],
    given: Given,
    dtype: str,
    seed: int = 0,
    coarse: frozenset[str] = frozenset(),
) -> Noise:
    """The reference in float64 and the noise of ``dtype`` around it: a float type, or ``tf32``.

    ``coarse`` names activation functions that a library computes with an absolute error, see this module.
    """
    if dtype == "float64" and _single(spec):
        dtype = "float32"
    kept, operands = _NARROWED.get(dtype, (dtype, 0.0))
    u, batch, least = ROUNDOFF[kept], given.x.shape[0], underflow(kept)
    finest = max(u, _FINEST)
    clean, spread = _spread(spec, params, given, Perturbed(batch, finest, seed, least, operands, coarse), finest)
    deviation = {name: values * min(1, u / _FINEST) for name, values in spread.items()}
    if u < _FINEST and any(np.any(spread[n] > _SMALL * np.abs(clean[n]).max()) for n in clean):
        # So chaotic that the larger perturbations do not tell what the smaller ones do.
        _, fine = _spread(spec, params, given, Perturbed(batch, u, seed, coarse=coarse), u)
        deviation = {name: np.maximum(values, fine[name]) for name, values in deviation.items()}
    if dtype == "float64":
        # The reference itself rounds like this, and two independent errors add up by their squares.
        deviation = {name: values * np.sqrt(2) for name, values in deviation.items()}
    return Noise(clean, _past_the_horizon(spec, clean, deviation))


def _past_the_horizon(
    spec: Layer | Sequential, clean: Mapping[str, np.ndarray], deviation: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The deviation, and as much as the outputs themselves from where it has once come near them.

    There a layer may have gone another way for good, which copies that have come together again do not tell.
    """
    if "sequence" not in clean:
        return deviation
    # Outputs may be zero where the states are not: at masked steps, or behind a gate that is shut.
    largest = np.max([_largest(clean, name).ravel() for name in clean], axis=0)[:, None, None]
    lost = np.any(deviation["sequence"] > _LOST * largest + _TINY, axis=-1, keepdims=True)
    lost = np.maximum.accumulate(lost, axis=1) if _reads_forwards(spec) else lost | lost.any(axis=1, keepdims=True)
    ever = lost.any(axis=1)
    found = {}
    for name, values in deviation.items():
        where = lost if name == "sequence" else ever
        found[name] = np.maximum(values, where * _largest(clean, name))
    return found


def drifts(truth: Noise, dtype: str) -> bool:
    """Whether noise grows so large on the way that it hides what a layer does at a single time step."""
    largest = max(_SMALL, 100 * ROUNDOFF[dtype])
    return any(np.any(values > largest * _largest(truth.clean, name)) for name, values in truth.deviation.items())


def _largest(clean: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The largest number of each row of the batch, so shaped that the output can be held against it."""
    axes = tuple(axis for axis in range(clean[name].ndim) if axis != batch_axis(name))
    return np.abs(clean[name]).max(axis=axes, keepdims=True)


def _reads_forwards(spec: Layer | Sequential) -> bool:
    """Whether the outputs are in the order in which every layer makes them."""
    return all(
        layer.num_directions == 1 and (layer.num_layers == 1 or not layer.go_backwards)
        for layer in getattr(spec, "layers", [spec])
        if isinstance(layer, Recurrent)
    )


def _single(spec: Layer | Sequential) -> bool:
    """Whether an activation function has a constant that is exact to float32 only."""
    parts = [layer.part(d, k) for layer in getattr(spec, "layers", [spec]) for k, d in layer.places]
    names = {getattr(part, option, None) for part in parts for option in ("activation", "recurrent_activation")}
    return any(ACTIVATIONS[name].single for name in names if name)


def _spread(
    spec: Layer | Sequential,
    params: Mapping[Key, np.ndarray] | Sequence[Mapping[Key, np.ndarray]],
    given: Given,
    ops: Perturbed,
    u: float,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The reference's outputs, and how far replicas with unit roundoff ``u`` spread around them."""
    copies = 1 + REPLICAS
    outputs = reference.run_given(spec, params, _repeated(given, copies), ops).named()
    clean, deviation = {}, {}
    for name, values in outputs.items():
        split = np.stack(np.split(values, copies, batch_axis(name)))
        clean[name] = split[0]
        own = np.mean(np.square(split[1:] - split[0]), axis=0)
        # So few copies tell the spread of one element badly, and that of all units at a time step well: both count.
        typical = own.mean(axis=-1, keepdims=True)
        rounding = np.square(u * split[0]) / 4
        deviation[name] = np.sqrt(own + typical + rounding) + _TINY
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
