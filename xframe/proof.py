"""The proof of a conversion: what was written is run, and judged against the NumPy reference of the source.

What is run is what the user gets. Each output is measured in units of the rounding noise that any correct implementation has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xframe import noise
from xframe.chain import Chain, reference, run_model
from xframe.chain.probing import LIGHT, numbers, probed, sizes
from xframe.errors import UnsupportedError
from xframe.judging import LIMIT
from xframe.mistakes import parameter_mistakes
from xframe.packing import Parameters
from xframe.writers import opened
from xframe.writers.base import computed_in

__all__ = ["Trial", "check_understood", "power", "trials"]


@dataclass(frozen=True)
class Trial:
    """One run of the written model.

    Attributes:
        batch, steps: the size of the input; steps is None where the model reads no time.
        status: ``equivalent``, ``different`` or ``inconclusive``.
        max_abs: the largest difference from the reference.
        noise_ratio: the same in units of rounding noise.
        reason: why it is not equivalent, or empty.
    """

    batch: int
    steps: int | None
    status: str
    max_abs: float
    noise_ratio: float
    reason: str = ""


def check_understood(model: Any, chain: Chain) -> None:
    """Refuse a model that itself puts out something else than the chain that it was taken for.

    A stateful one is not run, because that would change its states.
    """
    if any(getattr(step.spec, "stateful", False) for step in chain.steps):
        return
    dtype = computed_in(chain)
    for size in sizes(chain):
        x, clean, deviation = probed(chain, size, dtype)
        got = run_model(model, x.astype(dtype) if dtype != "bfloat16" and x.dtype.kind == "f" else x)
        ratio = noise.ratio(got, clean, deviation).max() if got.shape == clean.shape else np.inf
        if not ratio <= LIMIT:
            raise UnsupportedError(
                f"The model puts out something else than the layers that it is made of, {ratio:.3g} times the rounding noise "
                "away: something in it is not modelled, such as a call that was changed; convert its layers one by one."
            )


def trials(chain: Chain, folder: Path, to: str, dtype: str) -> Iterator[Trial]:
    """The runs of what was written; a stateful model is loaded for each, so that it begins with zero states.

    Args:
        chain: the source, best one that is `held`.
        folder, to: what was written, and for which target.
        dtype: the float type in which it is judged.
    """
    stateful = any(getattr(step.spec, "stateful", False) for step in chain.steps)
    model = None
    for size in sizes(chain):
        if model is None or stateful:
            model = opened(folder, to)
        yield _trial(chain, model, size, dtype)


def _trial(chain: Chain, model: Callable[[np.ndarray], np.ndarray], size: tuple[int, int | None], dtype: str) -> Trial:
    x, clean, deviation = probed(chain, size, dtype)
    batch, steps = size[0], None if size[1] is None else x.shape[1]
    got = model(x)
    if got.shape != clean.shape:
        return Trial(batch, steps, "different", np.inf, np.inf, f"its output is {got.shape}, not {clean.shape}")
    if not (np.isfinite(clean).all() and np.isfinite(deviation).all()):
        return Trial(batch, steps, "inconclusive", 0.0, 0.0, "the reference overflows")
    if not np.isfinite(got).all():
        return Trial(batch, steps, "different", np.inf, np.inf, "its output is not finite")
    ratio, off = float(noise.ratio(got, clean, deviation).max()), float(np.abs(got - clean).max())
    if ratio > LIMIT:
        return Trial(batch, steps, "different", off, ratio, f"off by {off:.2g}, {ratio:.3g} times the rounding noise")
    if not clean.any():
        return Trial(batch, steps, "inconclusive", off, ratio, "all outputs are zero, which proves nothing")
    return Trial(batch, steps, "equivalent", off, ratio)


@np.errstate(over="ignore", invalid="ignore")
def power(chain: Chain, dtype: str) -> tuple[str, float] | None:
    """The mistake in a recurrent layer's parameters that would have shown least, and how many times over the limit."""
    if numbers(chain) > LIGHT:
        return None
    x, clean, deviation = probed(chain, next(sizes(chain)), dtype)
    found: dict[str, float] = {}
    for i, step in enumerate(chain.steps):
        if step.kind != "recurrent" or step.spec is None:
            continue
        params = Parameters(step.spec, dict(step.params()))
        for mistake, changed in parameter_mistakes(step.spec, params):
            wrong = replace(step, params=partial(params.replaced, changed))
            if all(np.array_equal(block, params[key]) for key, block in changed.items()):
                continue
            got, _ = reference.run(replace(chain, steps=(*chain.steps[:i], wrong, *chain.steps[i + 1 :])), x)
            ratio = noise.ratio(got, clean, deviation).max() / LIMIT
            found[f"{step.name}: {mistake}"] = float(ratio) if np.isfinite(ratio) else 1e30
    return min(found.items(), key=lambda item: item[1]) if found else None
