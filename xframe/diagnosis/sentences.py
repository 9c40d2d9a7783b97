"""What was found of where two sides depart, in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xframe.cells import get_cell
from xframe.diagnosis.drift import Drift
from xframe.diagnosis.gates import FirstGate
from xframe.diagnosis.internals import Alone, most, reads_backwards, worst
from xframe.diagnosis.record import Where
from xframe.judging import LIMIT
from xframe.spec import Recurrent

__all__ = ["in_a_step", "in_dense", "in_the_output", "in_the_whole"]

_CARRIED = "what is carried from step to step (states, masks, the order of time)"
# Ratios beyond this come of a noise of zero: where a masked step puts out zeros.
_NO_NOISE = 1e30


def in_dense(units: np.ndarray) -> str:
    """``units`` are ratios, (units,)."""
    return f"It departs in {_units(units)}, which {_off(worst(units))}."


def in_a_step(
    spec: Recurrent, where: Where, found: Alone, gate: FirstGate | None, units: np.ndarray, hidden: bool
) -> str:
    """Where a time step departs by itself.

    Args:
        spec: the layer.
        where: what was found.
        found: every step by itself.
        gate: the gates that depart in that step; None if they are not known, or do not depart.
        units: the ratios, (size,), of the state that the step ends in.
        hidden: whether the outputs as a whole do not depart.
    """
    place = [*_at(spec, where, len(found.local))]
    if gate and len(get_cell(spec.part(where.direction or 0, where.layer or 0).cell).gates) > 1:
        others = f" (and {' and '.join(gate.names[1:])})" if gate.names[1:] else ""
        place.append(f"gate {gate.names[0]}{others}")
    place.append(_units(gate.units if gate else units))
    if gate:
        place.append("in the activation" if gate.stage == "activation" else "before the activation")
    begins = f"It begins at {', '.join(place)}; that step by itself, from the same states, {_off(worst(units))}"
    return " ".join([f"{begins}, so it is no drift.", *_besides(spec, where, found, gate, hidden)])


def _besides(spec: Recurrent, where: Where, found: Alone, gate: FirstGate | None, hidden: bool) -> Iterator[str]:
    """What else a reader should know."""
    layer, direction = where.layer or 0, where.direction or 0
    if any(worst(ratios) > LIMIT for ratios in found.states.get((layer, 1 - direction), {}).values()):
        yield f"The {_way(1 - direction)} direction departs too."
    own = found.states[layer, direction]
    times = np.flatnonzero(worst(np.concatenate([*own.values()], axis=1), axis=1) > LIMIT)
    steps = len(found.local)
    first = steps - 1 if reads_backwards(spec, (layer, direction)) else 0
    if found.own and steps > 1 and times.tolist() == [first]:
        yield "All later steps are right by themselves: it is the initial state."
    elif where.gates and gate is None and found.own:
        yield "By the parameters of both sides every step is right: the other side reads something else, or in another order."
    elif where.gates and gate is None:
        yield (
            "By the parameters of both sides the gates there are alike: it is what is made of them, or the other side does not "
            "compute what its parameters say."
        )
    elif where.gate is None:
        yield "Outputs alone do not tell the gate."
    if hidden:
        yield "In the outputs as a whole the rounding noise hides it."


def in_the_output(spec: Recurrent, where: Where, found: Alone, units: np.ndarray) -> str:
    """Where the states that each step ends in are right, and what is put out, ``units`` (features,), is not."""
    made = "how the two directions are merged" if spec.bidirectional else "what is made of the state h"
    return (
        f"Every step by itself ends in the right states, but what is put out departs from "
        f"{', '.join(_at(spec, where, len(found.local)))} on, {_units(units)}; it {_off(worst(units))}. It is {made}."
    )


def in_the_whole(spec: Recurrent, where: Where, grown: Drift, found: Alone | None, steps: int) -> str:
    """Where outputs depart, and no step does by itself, as far as that is known."""
    place, unit = ", ".join(_at(spec, where, steps)), "" if where.unit is None else f", most in unit {where.unit}"
    if found is None:
        return _of_outputs(where, place, unit, grown)
    alone = f"Every step by itself is within {float(worst(found.local)):.2g} times the rounding noise"
    if grown.masked:
        return f"{alone}; the outputs depart only at masked time steps: it is what is put out there."
    if where.step is None:
        return f"{alone}, but the outputs as a whole {_off(grown.worst, many=True)}: drift, or {_CARRIED}."
    backwards = reads_backwards(spec, (where.layer or 0, where.direction or 0))
    if where.step == (steps - 1 if backwards else 0):
        return (
            f"{alone}, but the outputs depart from the first that is read, {place}{unit}: it is what the steps are given "
            "(initial states, masks, the order of time)."
        )
    return f"{alone}; the difference grows over time, from {place}{unit}: drift, or {_CARRIED}."


def _of_outputs(where: Where, place: str, unit: str, grown: Drift) -> str:
    """What outputs alone tell."""
    if grown.masked:
        return "The outputs depart only at masked time steps: it is what is put out there."
    if where.step is None:
        first = f"; first in {place}{unit}" if place else unit
        return f"The outputs {_off(grown.worst, many=True)}{first}. They do not tell at which time step it begins."
    return (
        f"The outputs depart from {place} on{unit}; they {_off(grown.worst, many=True)}. Alone they do not tell a mistake "
        "inside a step from drift."
    )


def _at(spec: Recurrent, where: Where, steps: int) -> Iterator[str]:
    """Time step, layer and direction, as far as there are several and they are known."""
    place = (where.layer or 0, where.direction or 0)
    if where.step is not None:
        order = ", read from the last to the first" if reads_backwards(spec, place) and steps > 1 else ""
        yield f"time step {where.step} (of {steps}{order})"
    if where.layer is not None and spec.depth(place[1]) > 1:
        yield f"layer {where.layer}"
    if where.direction is not None and spec.bidirectional:
        yield f"{_way(where.direction)} direction"


def _way(direction: int) -> str:
    return "backward" if direction else "forward"


def _units(units: np.ndarray) -> str:
    """The unit that departs most, and how many do."""
    count = int(np.sum(units > LIMIT))
    return f"unit {most(units)}" + (f" ({count} of {len(units)} depart)" if count > 1 else "")


def _off(ratio: float, many: bool = False) -> str:
    if np.isinf(ratio):
        return "are no numbers" if many else "is no number"
    if ratio > _NO_NOISE:
        return f"{'are' if many else 'is'} off where there is no rounding noise"
    return f"{'are' if many else 'is'} off by {ratio:.2g} times the rounding noise"
