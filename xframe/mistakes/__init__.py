"""The catalogue of known mistakes: what goes wrong when a layer is moved between frameworks.

A verdict tries some of them on its own probe: a mistake that changes the layer without changing what the probe shows would have
gone unseen, and the verdict says so. A diagnosis tries all of them on what was found to differ. An entry is a small one in one of
the files beside this one; it is in the catalogue as soon as it is among the ``ENTRIES`` of its file. What can go wrong between
the layers of two models is in `steps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from xframe.layout import Key
from xframe.mistakes import biases, functions, gates, kernels, last, masks, numbers, places, states, time
from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.planted import dropout_active, not_loaded
from xframe.mistakes.steps import STEP_MISTAKES, StepMistake
from xframe.reference import Given
from xframe.spec import Layer, Recurrent

__all__ = [
    "CATALOGUE",
    "STEP_MISTAKES",
    "Case",
    "Mistake",
    "StepMistake",
    "Variation",
    "dropout_active",
    "not_loaded",
    "parameter_mistakes",
    "variations",
]

CATALOGUE: tuple[Mistake, ...] = tuple(
    entry
    for module in (gates, functions, biases, kernels, places, time, last, masks, states, numbers)
    for entry in module.ENTRIES
)


def variations(spec: Layer, params: Mapping[Key, np.ndarray], given: Given) -> Iterator[tuple[str, Case]]:
    """The mistakes that a verdict tries on its own probe, each by its name with the case in which it was made.

    With a mask, and in a second call, those that have to do with the mask and with the states that are carried over: the
    others show at the first call without a mask as well.
    """
    case = Case(spec, params, given)
    call = "first" if given.before is None else "second"
    call = call if given.mask is None else "mask"
    for mistake in CATALOGUE:
        for variation in mistake.vary(case):
            if variation.probed == call and _differs(case, changed := variation.change(case)):
                yield variation.name, changed


def parameter_mistakes(spec: Layer, params: Mapping[Key, np.ndarray]) -> Iterator[tuple[str, Mapping[Key, np.ndarray]]]:
    """Those of them that need no other layer, input or outputs: each by its name with the parameters that result."""
    steps = (1,) if isinstance(spec, Recurrent) else ()
    given = Given(np.ones((1, *steps, spec.input_size)))
    for name, changed in variations(spec, params, given):
        if changed.spec is spec and changed.given is given and not changed.after:
            yield name, changed.params


def _differs(case: Case, other: Case) -> bool:
    """Whether a mistake has changed anything; numbers that it leaves as they were are no change."""
    if other.spec is not case.spec or other.given is not case.given or other.after != case.after:
        return True
    return any(not np.array_equal(block, case.params[key]) for key, block in other.params.items())
