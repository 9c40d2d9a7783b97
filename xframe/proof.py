"""The proof of a conversion: what was written is run, and judged against the NumPy reference of the source.

What is run is what the user gets. Each output is measured in units of the rounding noise that any correct implementation has.
What the source does too is no difference: outputs that are all zero, or that overflow in that float type. They show nothing
either, and a chain of which nothing else was seen rests on its steps alone, each of which is written and run by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xframe import noise
from xframe.chain import Chain, Step, reference, run_model
from xframe.chain.probing import LIGHT, Probed, alone, further, numbers, probed, sizes
from xframe.errors import UnsupportedError
from xframe.judging import LIMIT
from xframe.mistakes import parameter_mistakes
from xframe.packing import Parameters
from xframe.writers import opened
from xframe.writers.base import computed_in

__all__ = ["Proof", "Trial", "check_understood", "resting", "tried"]

# A mistake after which a number is not finite; JSON has no infinity.
_CERTAIN = 1e30


@dataclass(frozen=True)
class Trial:
    """One run of what was written.

    Attributes:
        batch, steps: the size of the input; steps is None where the model reads no time.
        status: ``equivalent``, ``different`` or ``inconclusive``.
        max_abs: the largest difference from the reference.
        noise_ratio: the same in units of rounding noise.
        reason: why it is not equivalent, or why it is, and shows nothing; or empty.
        layer: the step that was written and run alone; empty for the whole.
        drawn: whether that was done with other numbers, because its own show nothing.
        shows: whether there was a number that is finite and not zero.
    """

    batch: int
    steps: int | None
    status: str
    max_abs: float
    noise_ratio: float
    reason: str = ""
    layer: str = ""
    drawn: bool = False
    shows: bool = True


class Proof(NamedTuple):
    """The runs of a chain; and by step and mistake, how many times over the limit it would have been where it shows best."""

    trials: list[Trial]
    margins: Mapping[tuple[str, str], float]

    @property
    def shows(self) -> bool:
        """Whether any run showed something."""
        return any(trial.shows for trial in self.trials)

    @property
    def complete(self) -> bool:
        """Whether there is nothing more to be shown, by these numbers or others."""
        return self.shows and not _missed(self.margins)


def check_understood(model: Any, chain: Chain) -> None:
    """Refuse a model that itself puts out something else than the chain that it was taken for.

    A stateful one is not run, because that would change its states.
    """
    if any(getattr(step.spec, "stateful", False) for step in chain.steps):
        return
    dtype = computed_in(chain)
    for size in sizes(chain):
        given = probed(chain, size, dtype)
        x = given.x.astype(dtype) if dtype != "bfloat16" and given.x.dtype.kind == "f" else given.x
        trial = _judged(chain, given, run_model(model, x), dtype)
        if trial.status != "equivalent":
            raise UnsupportedError(
                "The model puts out something else than the layers that it is made of, "
                f"{trial.noise_ratio:.3g} times the rounding noise away: something in it is not modelled, such as a call that "
                "was changed; convert its layers one by one."
            )


def tried(chain: Chain, folder: Path, to: str, dtype: str, layer: str = "") -> Proof:
    """Run what was written; one step alone until every known mistake in its parameters would have shown, or inputs run out.

    Args:
        chain: the source, best one that is `held`.
        folder, to: what was written, and for which target.
        dtype: the float type in which it is judged.
        layer: the step that this is, where it is one alone.
    """
    run = _runner(chain, folder, to)
    inputs = [probed(chain, size, dtype) for size in sizes(chain)]
    trials = [replace(_judged(chain, given, run(given.x), dtype), layer=layer) for given in inputs]
    margins: dict[tuple[str, str], float] = {}
    for given in inputs:
        _show(chain, given, margins)
    for given in further(chain, dtype) if _missed(margins) and (layer or len(chain.steps) == 1) else ():
        before = _missed(margins)
        _show(chain, given, margins)
        if _missed(margins) < before:
            trials.append(replace(_judged(chain, given, run(given.x), dtype), layer=layer))
        if not _missed(margins):
            break
    return Proof(trials, margins)


def _missed(margins: Mapping[tuple[str, str], float]) -> set[tuple[str, str]]:
    """The mistakes that would have passed."""
    return {name for name, margin in margins.items() if margin <= 1}


def resting(chain: Chain, proof: Proof) -> Iterator[Chain]:
    """The steps that are to be proven alone: those with mistakes that did not show in the chain; all, where nothing did."""
    missed = {step for step, _ in _missed(proof.margins)}
    for i, step in enumerate(chain.steps):
        if step.name in missed or (not proof.shows and step.kind != "dropout"):
            yield alone(chain, i)


def _runner(chain: Chain, folder: Path, to: str) -> Callable[[np.ndarray], np.ndarray]:
    """What runs the written model; a stateful one is loaded for each run, so that it begins with zero states."""
    if any(getattr(step.spec, "stateful", False) for step in chain.steps):
        return lambda x: opened(folder, to)(x)
    return opened(folder, to)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _judged(chain: Chain, given: Probed, got: np.ndarray, dtype: str) -> Trial:
    """One output beside the reference's."""
    x, clean, deviation = given
    size = len(x), x.shape[1] if _has_time(chain) else None
    if got.shape != clean.shape:
        return Trial(*size, "different", np.inf, np.inf, f"its output is {got.shape}, not {clean.shape}")
    finite = np.isfinite(clean) & np.isfinite(deviation) & np.isfinite(got)
    if not finite.all():
        # A number that the source, computed in this type, puts out has to be one here, too.
        narrow = "float32" if dtype == "bfloat16" else dtype  # NumPy has no bfloat16; the range is the same
        own, _ = reference.run(chain, x, dtype=narrow)
        if np.any(~np.isfinite(got) & (np.abs(own) < np.finfo(narrow).max / 2)):
            return Trial(*size, "different", np.inf, np.inf, "its output is not finite")
    if not finite.any():
        return Trial(*size, "equivalent", 0.0, 0.0, f"in {dtype} it overflows, as the source does", shows=False)
    ratios, off = noise.ratio(got, clean, deviation)[finite], float(np.abs(got - clean)[finite].max())
    ratio = float(ratios.max())
    if ratio > LIMIT:
        return Trial(*size, "different", off, ratio, f"off by {off:.2g}, {ratio:.3g} times the rounding noise")
    if not clean[finite].any():
        return Trial(*size, "equivalent", off, ratio, "all outputs are zero, as those of the source are", shows=False)
    return Trial(*size, "equivalent", off, ratio)


def _has_time(chain: Chain) -> bool:
    return len(chain.input_shape) > 1 or chain.steps[0].kind == "embedding"


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _show(chain: Chain, given: Probed, margins: dict[tuple[str, str], float]) -> None:
    """Enter by how much each mistake in a recurrent layer's parameters would show on an input, unless it showed before."""
    if numbers(chain) > LIGHT:
        return
    finite = np.isfinite(given.clean) & np.isfinite(given.deviation)
    for i, name, wrong in _mistakes(chain):
        if margins.get(name, 0.0) > 1:
            continue
        changed = replace(chain, steps=(*chain.steps[:i], wrong, *chain.steps[i + 1 :]))
        got, _ = reference.run(changed, given.x, dtype="float64")
        ratios = noise.ratio(got, given.clean, given.deviation)[finite] / LIMIT
        seen = np.nan_to_num(ratios, nan=_CERTAIN, posinf=_CERTAIN).max(initial=0.0)
        margins[name] = max(margins.get(name, 0.0), float(seen))


def _mistakes(chain: Chain) -> Iterator[tuple[int, tuple[str, str], Step]]:
    """Each known mistake: the place of the step, the names of step and mistake, and the step with it."""
    for i, step in enumerate(chain.steps):
        if step.kind != "recurrent" or step.spec is None:
            continue
        params = Parameters(step.spec, dict(step.params()))
        for mistake, changed in parameter_mistakes(step.spec, params):
            if not all(np.array_equal(block, params[key]) for key, block in changed.items()):
                yield i, (step.name, mistake), replace(step, params=partial(params.replaced, changed))
