"""How the steps of a chain round: not at all beyond NumPy's own arithmetic, or as a float type does, in replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Protocol

import numpy as np

from xframe.arithmetic import Plain
from xframe.cells import Arithmetic
from xframe.noise import Perturbed, growth
from xframe.pieces import Pieces

__all__ = ["Exact", "Operations", "Rounding"]

# Above so many numbers, to fetch new memory takes longer than to compute with what is in it.
_LARGE = 2**22

Size = Callable[[], np.ndarray]


class Operations(Protocol):
    """What steps compute with. Arrays are batch first, results the step's own, which may be changed in place."""

    def columns(self, each: int = 1) -> Arithmetic:
        """The arithmetic for arrays (size, batch * each), in which each sample has ``each`` columns beside each other."""
        ...

    def rounded(self, y: np.ndarray, size: Size | None = None, times: float = 1) -> np.ndarray:
        """``y`` with the error of ``times`` roundings of numbers of that size (of its own, if None)."""
        ...

    def summed(self, y: np.ndarray, norm: Size, length: int) -> np.ndarray:
        """``y``, a sum of ``length`` numbers, with the error of having been summed; ``norm`` is theirs, the 2-norm."""
        ...

    def folded(self, each: int) -> Operations:
        """The same for arrays in which each sample has ``each`` rows behind each other."""
        ...


class Exact:
    """NumPy's arithmetic."""

    def columns(self, each: int = 1) -> Arithmetic:
        return Plain()

    def rounded(self, y: np.ndarray, size: Size | None = None, times: float = 1) -> np.ndarray:
        return y

    def summed(self, y: np.ndarray, norm: Size, length: int) -> np.ndarray:
        return y

    def folded(self, each: int) -> Operations:
        return self


class _Frugal(Perturbed):
    """The same for layers of any size: of a large one neither a copy in float64 is made, nor its squares."""

    takes_pieces = True

    def weight(self, w: np.ndarray | Pieces, ones: Sequence[int], batch: int) -> Any:
        """As above; each large kernel is the columns in which it stands, and all of the pieces."""
        if not isinstance(w, Pieces):
            return super().weight(w, ones, batch)
        if w.size <= _LARGE:
            return super().weight(w.whole(), ones, batch)
        parts = [slice(start, end) for start, end in zip([0, *(end + 1 for end in ones)], ones, strict=False)]
        biases = [bias for one in ones if (bias := w.column(one)).any()]
        return [(part, w, None) for part in parts], self._bias(biases, batch)

    def _product(self, kernel: Any, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        rows, w, _ = kernel
        if not isinstance(w, Pieces):
            return super()._product(kernel, a, out)
        a = a[rows]
        # The copies are off by so little that the norms of the clean columns are theirs, too.
        squares, norms = np.square(a[:, : self._clean]), np.zeros((len(out), self._clean))
        out[...] = 0
        # Most initial states are zero.
        for place, strip in w.strips(rows) if a.any() else ():
            np.matmul(strip, a, out=out[place])
            np.matmul(np.square(strip, out=strip), squares, out=norms[place])
        return self._summed(out, np.tile(norms, out.shape[1] // self._clean - 1), len(a))


class Rounding:
    """Arithmetic whose results are off by roundoff in all samples after the first ``clean``: see `xframe.noise`."""

    def __init__(self, clean: int, roundoff: float, seed: int, least: float = 0.0) -> None:
        self._clean, self._u, self._least = clean, roundoff, least
        self._random = np.random.default_rng(seed)

    def columns(self, each: int = 1) -> Arithmetic:
        return _Frugal(self._clean * each, self._u, int(self._random.integers(2**32)), self._least)

    def rounded(self, y: np.ndarray, size: Size | None = None, times: float = 1) -> np.ndarray:
        size_of_y = np.abs(y) if size is None else np.broadcast_to(size(), y.shape)
        part = y[self._clean :]
        part += times * (self._u * size_of_y[self._clean :] + self._least) * self._random.uniform(-1, 1, part.shape)
        return y

    def summed(self, y: np.ndarray, norm: Size, length: int) -> np.ndarray:
        size = np.broadcast_to(norm(), y.shape)[self._clean :] * growth(max(length, 1))
        part = y[self._clean :]
        part += self._u * size * self._random.standard_normal(part.shape)
        return self.rounded(y)

    def folded(self, each: int) -> Operations:
        found = copy(self)  # which draws from the same generator
        found._clean = self._clean * each
        return found
