"""Whether the factors of products were rounded to TF32, as NVIDIA's tensor cores do it: made so, the outputs must come nearer.

That a difference is as large as TF32's proves nothing, because much else is. Rounding the factors as the hardware does gives the
very errors that it makes, but where a state lies so near the middle between two numbers of TF32 that float32's noise decides. So
the reference with rounded factors comes much nearer to outputs that were computed so, and farther from all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from xframe import reference
from xframe.arithmetic import Plain
from xframe.diagnosis.evidence import Evidence
from xframe.mistakes import Case

__all__ = ["explains"]

# The error that is left, over that without the rounding. Errors that have nothing to do with it would add up, to 1.4.
_LEFT = 0.5
# float32 has 13 bits more than TF32.
_MORE = np.uint32(0x1FFF)
_HALF = np.uint32(0x1000)


def _nearest(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + _HALF) & ~_MORE).view(np.float32).astype(values.dtype)


def _truncated(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return (bits & ~_MORE).view(np.float32).astype(values.dtype)


class _TensorCores(Plain):
    """Arithmetic whose products have rounded factors; biases, which are added, are left as they are."""

    def __init__(self, rounded: Callable[[np.ndarray], np.ndarray]) -> None:
        self._rounded = rounded

        def matmul(weight: np.ndarray, a: np.ndarray, out: np.ndarray) -> np.ndarray:
            return np.matmul(weight, rounded(a), out=out)

        self.matmul = matmul

    def weight(self, w: np.ndarray, ones: Sequence[int], batch: int) -> np.ndarray:
        found = self._rounded(w)
        found[:, list(ones)] = w[:, list(ones)]
        return found


def explains(cases: Sequence[Case], evidence: Sequence[Evidence]) -> bool:
    """Whether a layer with factors rounded to TF32, to the nearest or towards zero, comes much nearer to the evidence."""
    plain = _distance(cases, evidence, Plain())
    rounded = min(_distance(cases, evidence, _TensorCores(how)) for how in (_nearest, _truncated))
    return rounded <= _LEFT * plain


def _distance(cases: Sequence[Case], evidence: Sequence[Evidence], ops: Plain) -> float:
    """The root mean square of what is between them."""
    squares = []
    for case, one in zip(cases, evidence, strict=True):
        got = reference.run_given(case.spec, case.params, case.given, ops).named()
        squares += [np.square(values - got[name]).ravel() for name, values in one.outputs.items()]
    return float(np.sqrt(np.concatenate(squares).mean()))
