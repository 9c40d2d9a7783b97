"""Masks: which time steps count. True is a valid step, False one that is left out, as in Keras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xframe.errors import SpecError

__all__ = ["check_mask", "from_lengths", "is_right_padded"]


def from_lengths(lengths: Sequence[int] | np.ndarray, steps: int) -> np.ndarray:
    """The mask (batch, steps), bool, of sequences that are padded after their last step.

    Args:
        lengths: (batch,), the number of valid time steps of each sequence, from 1 to ``steps``.
        steps: number of time steps.

    Raises:
        SpecError: a length is not a whole number, is zero, or is larger than ``steps``.
    """
    given = np.asarray(lengths)
    if given.ndim != 1 or not given.size or given.dtype.kind not in "iu":
        raise SpecError(f"lengths must be a list of whole numbers, one for each sequence, not {lengths!r}.")
    if wrong := [int(n) for n in given if not 1 <= n <= steps]:
        raise SpecError(
            f"A length must be from 1 to the number of time steps, {steps}, not {wrong[0]}"
            + ("; leave out a sequence without a valid step, or give a mask." if wrong[0] == 0 else ".")
        )
    return np.arange(steps) < given[:, None]


def check_mask(mask: object, x: np.ndarray) -> np.ndarray:
    """The mask if it fits the input, x (batch, time, features); else SpecError."""
    shape = x.shape[:2]
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise SpecError(f"A mask must be a NumPy array of type bool, True at valid time steps, not {kind}.")
    if mask.shape != shape:
        raise SpecError(f"A mask must be (batch, time) = {shape}, not {mask.shape}.")
    return mask


def is_right_padded(mask: np.ndarray) -> bool:
    """Whether every sequence has its valid steps first, and one at least: then it is a packed sequence."""
    return bool(mask[:, 0].all() and np.all(mask[:, 1:] <= mask[:, :-1]))
