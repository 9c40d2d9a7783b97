"""Mistakes of random numbers. A search cannot make them; a test or a benchmark can."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from xframe.layout import Key, Native
from xframe.mistakes.base import Case, Variation
from xframe.mistakes.making import with_blocks
from xframe.reference import Outputs

__all__ = ["dropout_active", "not_loaded"]


def not_loaded(what: Key | Native, seed: int) -> Variation:
    """A block, or a native tensor, that keeps the initial numbers of PyTorch: uniform in ±1/sqrt(hidden_size).

    Args:
        what: its address, or the tensor as a packing describes it.
        seed: of the initial numbers.
    """
    keys = (what,) if isinstance(what, Key) else tuple(leaf.key for leaf in what.leaves)
    title = str(what) if isinstance(what, Key) else what.name
    return Variation(
        f"{title} not loaded", f"Load {title}; the others are right.", partial(_drawn, keys=keys, seed=seed)
    )


def _drawn(case: Case, keys: tuple[Key, ...], seed: int) -> Case:
    random = np.random.default_rng(seed)
    blocks = {}
    for key in keys:
        bound = 1 / np.sqrt(case.spec.part(key.direction, key.layer).hidden_size)
        numbers = random.uniform(-bound, bound, case.params[key].shape)
        blocks[key] = numbers.astype(case.params[key].dtype)
    return with_blocks(case, blocks)


def dropout_active(rate: float, seed: int) -> Variation:
    """Dropout that still acts on the outputs: each number is zero with probability ``rate``, else times 1/(1 - rate)."""
    mend = "Put the layer in inference mode: layer.eval() in PyTorch, training=False in Keras."
    change = partial(Case.then, after=partial(_dropped, rate, seed))
    return Variation(f"dropout of rate {rate:g} on its outputs", mend, change)


def _dropped(rate: float, seed: int, out: Outputs) -> Outputs:
    random = np.random.default_rng(seed)

    def kept(values: np.ndarray) -> np.ndarray:
        return np.where(random.random(values.shape) < rate, 0, values / (1 - rate))

    return replace(out, sequence=kept(out.sequence), last=kept(out.last))
