"""How much two correct implementations may differ: rounding noise, computed for this very input.

The reference runs in float64 on copies of the input ("replicas"). In the copies, the result of each operation is
perturbed by the roundoff of the dtype that is judged; how far the copies spread is the noise, per output element, with
everything the recurrence does to an error on its way, chaos included. With unit roundoff u:

    inner product of a and w, length m    u * (sqrt(log2(m) + 1) * ||a * w||_2 * N(0, 1) + |result| * U(-1, 1))
    activation                            2 u |result| * U(-1, 1)
    product, sum, difference              u |result| * U(-1, 1)
    two biases folded into one            u |sum of biases| * U(-1, 1), once for the whole sequence

The factor before the norm is the growth of the rounding error of pairwise or blocked summation (N. J. Higham, Accuracy
and Stability of Numerical Algorithms, 2nd ed., section 4.2, as a random walk instead of a bound).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xframe import reference
from xframe.layout import Key
from xframe.reference import Outputs
from xframe.spec import Layer, Sequential

__all__ = ["REPLICAS", "ROUNDOFF", "Noise", "batch_axis", "measure", "ratio"]

REPLICAS = 8
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}

# Perturbations finer than this would themselves drown in the float64 arithmetic of the replicas; they are made this
# large and the spread is scaled down, which is exact as long as the noise is small, and then it is.
_FINEST = 2.0**-40


@dataclass(frozen=True)
class Noise:
    """The reference's outputs and, for each, the noise of one element (standard deviation), by output name."""

    clean: Mapping[str, np.ndarray]
    deviation: Mapping[str, np.ndarray]


class Perturbed:
    """Arithmetic whose results are off by roundoff in every column of the batch after the first ``clean`` ones."""

    def __init__(self, clean: int, roundoff: float, seed: int) -> None:
        self._clean, self._u = clean, roundoff
        self._random = np.random.default_rng(seed)

    def _perturbed(self, out: np.ndarray, roundoffs: int = 1) -> np.ndarray:
        part, u = out[:, self._clean :], roundoffs * self._u
        part *= 1 + self._random.uniform(-u, u, part.shape)
        return out

    def weight(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return w, np.square(w)

    def bias(self, biases: Sequence[np.ndarray], batch: int) -> tuple[np.ndarray, np.ndarray]:
        """The sum with the rounding of having been folded, (size, batch), and the size of what it was folded from."""
        total = np.repeat(sum(biases)[:, None], batch, axis=1)  # type: ignore[index]
        folded = np.logical_and.reduce([b != 0 for b in biases]) & (len(biases) > 1)
        part = total[:, self._clean :]
        part += folded[:, None] * np.abs(part) * self._random.uniform(-self._u, self._u, part.shape)
        return total, folded * np.abs(biases[0])

    def matmul(self, weight: tuple[np.ndarray, np.ndarray], a: np.ndarray, out: np.ndarray) -> np.ndarray:
        w, squares = weight
        np.matmul(w, a, out=out)
        part = out[:, self._clean :]
        error = np.sqrt(np.matmul(squares, np.square(a[:, self._clean :])))
        error *= self._random.standard_normal(part.shape)
        error *= self._u * np.sqrt(np.log2(w.shape[1]) + 1)
        self._perturbed(out)
        part += error
        return out

    def add_bias(self, a: np.ndarray, bias: tuple[np.ndarray, np.ndarray], out: np.ndarray) -> np.ndarray:
        total, folded = bias
        self.add(a, total, out=out)
        # Where two biases are added one after the other, the sum in between may be larger than both ends.
        part = out[:, self._clean :]
        part += folded[:, None] * self._random.uniform(-self._u, self._u, part.shape)
        return out

    def add(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        return self._perturbed(np.add(a, b, out=out))

    def subtract(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        return self._perturbed(np.subtract(a, b, out=out))

    def multiply(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        return self._perturbed(np.multiply(a, b, out=out))

    def activate(self, name: str, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        return self._perturbed(reference.ACTIVATIONS[name](a, out=out), 2)  # type: ignore[operator]


def measure(
    spec: Layer | Sequential,
    params: Mapping[Key, np.ndarray] | Sequence[Mapping[Key, np.ndarray]],
    x: np.ndarray,
    state: Mapping[str, np.ndarray] | None,
    dtype: str,
    seed: int = 0,
) -> Noise:
    """The reference in float64 and the noise of ``dtype`` around it. Arguments as of `xframe.reference.run`."""
    batch, u = x.shape[0], ROUNDOFF[dtype]
    used = max(u, _FINEST)
    copies = 1 + REPLICAS
    many = np.tile(x.astype(np.float64), (copies, *[1] * (x.ndim - 1)))
    start = state and {k: np.tile(v.astype(np.float64), (1, 1, copies, 1)) for k, v in state.items()}
    outputs = reference.run(spec, params, many, start, Perturbed(batch, used, seed)).named()
    clean, deviation = {}, {}
    for name, values in outputs.items():
        axis = batch_axis(name)
        split = np.stack(np.split(values, copies, axis))
        clean[name] = split[0]
        own = np.mean(np.square(split[1:] - split[0]), axis=0)
        # Eight copies tell the spread of one element badly and of a whole time step well: half of each.
        pooled = own.mean(axis=-1, keepdims=True)
        rounding = np.square(used * split[0])
        deviation[name] = np.sqrt((own + pooled) / 2 + rounding / 4) * (u / used) + np.finfo(np.float32).tiny
    return Noise(clean, deviation)


def batch_axis(output: str) -> int:
    """Which axis of a named output is the batch: states are (layers, directions, batch, size)."""
    return 2 if output.startswith("state ") else 0


def ratio(got: np.ndarray, clean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """How far each element is from the reference, in units of its noise."""
    return np.abs(got.astype(np.float64) - clean) / deviation
