"""Naming what was found: explanations that make the same function once, those that the evidence leaves open, the sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from xframe import noise
from xframe.diagnosis.record import Cause, Fault
from xframe.diagnosis.search import Candidate, Found, Trial
from xframe.judging import LIMIT
from xframe.mistakes import Case, Variation
from xframe.reference import Given

__all__ = ["differing", "named", "reasoned", "times"]

# Time steps that another input has more.
_MORE = 4


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite differs
def differing(
    one: Sequence[Variation],
    others: Sequence[Sequence[Variation]],
    cases: Sequence[Case],
    shown: Sequence[Collection[str]],
    seed: int = 0,
) -> list[int]:
    """Which sets of mistakes make another function of a layer than ``one`` does, as other numbers of the same kind show.

    Args:
        one, others: the mistakes, each set in the order in which they are made.
        cases: the layer, on each of its inputs.
        shown: for each case the names of the outputs that are looked at.
        seed: of the other numbers.
    """
    found = set[int]()
    for number, (case, names) in enumerate(zip(cases, shown, strict=True)):
        fresh = replace(case, given=_fresh(case.given, np.random.default_rng([seed, number])))
        truth = _made(fresh, one).noise("float64")
        for i, other in enumerate(others):
            if i not in found and not _within(_made(fresh, other).run(), truth, names):
                found.add(i)
    return sorted(found)


def _within(got: Mapping[str, np.ndarray], truth: noise.Noise, names: Iterable[str]) -> bool:
    for name in names:
        clean, values = truth.clean.get(name), got.get(name)
        if clean is None or values is None or clean.shape != values.shape:
            return False
        if not np.all(noise.ratio(values, clean, truth.deviation[name]) <= LIMIT):
            return False
    return True


def _made(case: Case, variations: Iterable[Variation]) -> Case:
    for variation in variations:
        case = variation.change(case)
    return case


def _fresh(given: Given, random: np.random.Generator) -> Given:
    """Other numbers and more time steps, where there are any, with masks of the same kind."""
    batch, *steps, features = given.x.shape
    x = random.standard_normal((batch, *(count + _MORE for count in steps), features))
    state = given.state and {name: random.standard_normal(value.shape) for name, value in given.state.items()}
    mask = given.mask
    if mask is not None:
        mask = np.concatenate([mask, mask[:, -1:].repeat(_MORE, axis=1)], axis=1)[random.permutation(batch)]
    return Given(x, state, mask, given.before and _fresh(given.before, random))


def named(found: Sequence[Found], trial: Trial, extra: tuple[Fault, ...]) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    """The causes, those that make the same function once, and what the evidence leaves open."""
    if not found:
        return (), ()
    shown = [one.outputs.keys() for one in trial.evidence]
    sets = [_variations(one) for one in found]
    others = [found[1 + i] for i in differing(sets[0], sets[1:], trial.cases, shown)]
    # Of several names for one function, the one that touches least says most.
    same = [one for one in found if one not in others]
    first = min(same, key=lambda one: (len(one.made), one.surprise, one.blocks, one.rank))
    names = tuple(dict.fromkeys(_name(one) for one in others))
    causes = tuple(
        Cause((*(_fault(made) for made in one.made), *extra), one.noise_ratio, one.max_abs, False, () if i else names)
        for i, one in enumerate([first, *others])
    )
    notes = ("On other inputs the explanations that fit here differ; record more of them, or more outputs, to tell.",)
    return causes, notes if names else ()


def _variations(found: Found) -> list[Variation]:
    return [one.variation for one in found.made]


def _name(found: Found) -> str:
    return " and ".join(one.variation.name for one in found.made)


def _fault(made: Candidate) -> Fault:
    return Fault(made.mistake.name, made.variation.name, made.mistake.why, made.variation.mend)


def reasoned(cause: Cause, before: tuple[float, float], titles: tuple[str, str]) -> str:
    """The sentence that names the cause, and the one that says how to mend it."""
    ratio, max_abs = before
    mend = " ".join(fault.mend for fault in cause.faults)
    was = f"before: {max_abs:.2g} off, {times(ratio)}"
    if any(fault.entry == "dropout active" for fault in cause.faults):
        off = f"{max_abs:.2g} off, {times(ratio)} the rounding noise"
        return f"{titles[1]} is {titles[0]} with {cause.name} ({off}). Mend: {mend}"
    who = f"It is {titles[0]} that is wrong: {titles[1]} with" if cause.reverse else "With"
    agree = "puts out the same" if cause.reverse else "the outputs agree"
    return f"{who} {cause.name} {agree} within {cause.noise_ratio:.2g} times the rounding noise ({was}). Mend: {mend}"


def times(ratio: float) -> str:
    return f"{ratio:.3g} times"
