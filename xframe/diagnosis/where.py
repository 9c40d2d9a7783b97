"""Where two sides of a layer begin to depart: the time step, the direction, the layer, the gate and the unit.

Two errors are told apart at each time step. *Drift* is how far the outputs are off, with all that the steps before have
done to them. The *local* error is how far the step is off by itself, both sides going on from the same states
("teacher-forced"). A mistake inside the cell makes a local error; one in what is carried from step to step does not, nor
does rounding noise that a chaotic layer has blown up. Both are in units of rounding noise (`xframe.noise`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from xframe import noise, reference
from xframe.cells import get_cell
from xframe.diagnosis import sentences
from xframe.diagnosis.drift import Drift, drift
from xframe.diagnosis.evidence import Evidence
from xframe.diagnosis.gates import first_gate, gate_differences
from xframe.diagnosis.internals import (
    Alone,
    Forced,
    Known,
    Place,
    alone,
    alone_recorded,
    comparable,
    departure,
    first,
    first_state,
    forced,
    most,
    worst,
)
from xframe.diagnosis.record import Where
from xframe.judging import LIMIT
from xframe.layout import Key
from xframe.reference import Given, Outputs
from xframe.spec import Layer, Recurrent

__all__ = ["located"]


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is found as such
def located(
    spec: Layer,
    params: Mapping[Key, np.ndarray],
    evidence: Evidence,
    other: tuple[Layer, Mapping[Key, np.ndarray]] | None = None,
    rerun: Callable[[Given], Outputs] | None = None,
) -> Where | None:
    """Where the evidence departs from a layer; None where it does not, neither as a whole nor in any step by itself.

    Outputs of another shape than the layer's are left out.

    Args:
        spec, params: the layer as it should be.
        evidence: what the other side put out.
        other: the layer that the other side says it is, where that is known; it tells the gate.
        rerun: runs the other side, where it can be asked: here on single time steps, from given states.

    Raises:
        SpecError, LayoutError: the layer or what it is given makes no sense.
    """
    truth = noise.measure(spec, params, evidence.given, evidence.dtype)
    seen = {
        name: departure(values, truth, name)
        for name, values in evidence.outputs.items()
        if name in truth.clean and values.shape == truth.clean[name].shape
    }
    if not seen:
        return None
    if not isinstance(spec, Recurrent):
        return _in_dense(seen["output"])
    evidence = replace(evidence, outputs={name: evidence.outputs[name] for name in seen})
    known: Known = (spec, params)
    twin = comparable(spec, other)
    grown = drift(spec, seen, evidence.given.mask)
    steps = forced(spec, evidence.given, reference.trajectory(*known, evidence.given), evidence.dtype)
    found = _alone(known, evidence, steps, twin, rerun)
    if found is not None and np.isnan(worst(found.local)):
        found = None
    if found is not None and worst(found.local) > LIMIT:
        where = _in_a_step(known, steps, found, twin, grown, evidence.dtype)
    elif grown.worst > LIMIT:
        where = _in_the_whole(spec, grown, found, evidence.given.x.shape[1])
    else:
        return None
    return replace(where, steps=grown.steps, local=None if found is None else found.local)


def _in_dense(ratios: np.ndarray) -> Where | None:
    units = worst(ratios, axis=0)
    return Where(sentences.in_dense(units), layer=0, unit=most(units)) if worst(units) > LIMIT else None


def _alone(
    known: Known,
    evidence: Evidence,
    steps: Forced,
    twin: Known | None,
    rerun: Callable[[Given], Outputs] | None,
) -> Alone | None:
    """Every time step by itself, if the other side can be asked, is known, or has put out its own states."""
    if rerun is not None:
        return alone(known, steps, lambda given, _: rerun(given).named(), evidence.dtype)
    found = None
    if twin is not None:
        found = alone(known, steps, lambda given, _: reference.run(*twin, given.x, given.state).named(), evidence.dtype)
    sequence = evidence.outputs.get("sequence")
    if sequence is None or (found is not None and worst(found.local) > LIMIT):
        return found
    return alone_recorded(known, evidence.given, sequence, evidence.dtype) or found


def _in_a_step(known: Known, steps: Forced, found: Alone, twin: Known | None, grown: Drift, dtype: str) -> Where:
    """Where a step departs by itself."""
    spec = known[0]
    root = _root(spec, found)
    if root is None:
        return _in_the_output(spec, found)
    place, time = root
    units = first_state({own: ratios[time] for own, ratios in found.states[place].items()})
    gate = first_gate(known, twin, steps, place, time, dtype) if twin else None
    names = get_cell(spec.part(place[1], place[0]).cell).gates
    where = Where(
        "",
        time,
        *place,
        gate=gate.names[0] if gate else names[0] if len(names) == 1 else None,
        unit=most(gate.units if gate else units),
        stage=gate.stage if gate else None,
        gates=gate_differences(known, twin, steps, place) if twin else {},
    )
    hidden = not grown.worst > LIMIT
    return replace(where, sentence=sentences.in_a_step(spec, where, found, gate, units, hidden))


def _root(spec: Recurrent, found: Alone) -> tuple[Place, int] | None:
    """The place and time step that departs first while nothing departs that it reads at that step."""
    off = {place: worst(np.concatenate([*own.values()], axis=1), axis=1) for place, own in found.states.items() if own}
    own = {}
    for place, ratios in off.items():
        below = [other > LIMIT for (layer, _), other in off.items() if layer < place[0]]
        own[place] = np.where(np.any(below, axis=0), np.nan, ratios)
    return first(spec, own)


def _in_the_output(spec: Recurrent, found: Alone) -> Where:
    """Where the states are right and what is put out is not."""
    time = int(np.argmax(worst(found.outputs, axis=1) > LIMIT))
    units = found.outputs[time]
    where = Where("", time, spec.depth(0) - 1, unit=most(units))
    return replace(where, sentence=sentences.in_the_output(spec, where, found, units))


def _in_the_whole(spec: Recurrent, grown: Drift, found: Alone | None, steps: int) -> Where:
    """Where only the outputs as a whole depart."""
    where = Where("", grown.step, grown.layer, grown.direction, unit=grown.unit)
    return replace(where, sentence=sentences.in_the_whole(spec, where, grown, found, steps))
