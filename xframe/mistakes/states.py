"""States: ignored, exchanged, carried over when they should not be, or not carried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from xframe import layout
from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.making import framed, recurrent
from xframe.reference import Given, Outputs
from xframe.spec import Recurrent

__all__ = ["ENTRIES"]

States = Mapping[str, np.ndarray]
Change = Callable[[Recurrent, States], States]


def _initial(case: Case, change: Change) -> Case:
    spec = recurrent(case)
    if spec is None or case.given.state is None:
        return case
    return replace(case, given=replace(case.given, state=change(spec, case.given.state)))


def _final(case: Case, change: Change) -> Case:
    spec = recurrent(case)
    return case if spec is None else case.then(partial(_with_states, spec, change))


def _with_states(spec: Recurrent, change: Change, out: Outputs) -> Outputs:
    return replace(out, states=change(spec, out.states))


def _both(case: Case, change: Change) -> Case:
    return _final(_initial(case, change), change)


def _pairs(spec: Recurrent) -> list[tuple[str, str]]:
    """The names of each h and of the c of its size that goes with it."""
    slots = layout.states(spec)
    found = [(name, f"{name.removesuffix('h')}c") for name, slot in slots.items() if slot.cell_name == "h"]
    return [(h, c) for h, c in found if c in slots and slots[h].size == slots[c].size]


def _h_and_c(spec: Recurrent, states: States) -> States:
    pairs = _pairs(spec)
    return {**states, **{h: states[c] for h, c in pairs}, **{c: states[h] for h, c in pairs}}


def _directions(spec: Recurrent, states: States) -> States:
    return {name: value[:, ::-1] for name, value in states.items()}


def _layers(spec: Recurrent, states: States) -> States:
    return {name: value[::-1] for name, value in states.items()}


def _axes(spec: Recurrent, states: States) -> States:
    """(layers * directions, ...) in which the layers of one direction lie next to each other."""
    return {
        name: value.swapaxes(0, 1).reshape(value.shape) if min(value.shape[:2]) > 1 else value
        for name, value in states.items()
    }


def _exchanges(spec: Recurrent) -> Iterator[tuple[str, Change, str]]:
    """What can be exchanged in the states of a layer, and what to do."""
    slots = layout.states(spec)
    if _pairs(spec):
        yield _H_AND_C, _h_and_c, "Hand states over by name: Keras and PyTorch have (h, c), Flax has (c, h)."
    order = "PyTorch's h_n is (layers * directions, batch, n): layer 0 forward, layer 0 backward, layer 1 forward and so on."
    if any(len(slot.directions) > 1 for slot in slots.values()):
        yield "states of the directions exchanged", _directions, order
    if any(len(slot.layers) > 1 for slot in slots.values()):
        yield "states of the layers in reversed order", _layers, order
    if any(min(slot.axes) > 1 for slot in slots.values()):
        yield "states read direction by direction, not layer by layer", _axes, order


_H_AND_C = "states h and c exchanged"


def _exchanged(case: Case) -> Iterator[Variation]:
    spec = recurrent(case)
    for name, change, mend in _exchanges(spec) if spec else ():
        if case.given.state is not None:
            probed = "first" if name == _H_AND_C else ""
            yield Variation(f"initial {name}", mend, partial(_initial, change=change), probed)
            yield Variation(f"initial and final {name}", mend, partial(_both, change=change))
        yield Variation(f"final {name}", mend, partial(_final, change=change))


def _stateless(case: Case) -> Case:
    given = case.given
    return case if given.state is None else replace(case, given=replace(given, state=None))


def _not_carried(case: Case) -> Case:
    given = case.given
    return case if given.before is None else replace(case, given=replace(given, before=None))


def _carried(case: Case) -> Case:
    given = case.given
    if recurrent(case) is None or given.before is not None:
        return case
    return replace(case, given=Given(given.x, None, given.mask, given))


def _calls(case: Case) -> Iterator[Variation]:
    if recurrent(case) is None:
        return
    if case.given.state is not None:
        mend = (
            "Give the layer its initial states: hx in PyTorch, initial_state in Keras, initial_h and initial_c in ONNX."
        )
        yield Variation("initial state ignored", mend, _stateless, "first")
    if case.given.before is not None:
        mend = "Begin the call with the final states of the one before: stateful=True in Keras, hx in PyTorch."
        yield Variation("state not carried to the next call", mend, _not_carried, "second")
    else:
        mend = "Reset the states between calls: reset_states in Keras, no hx in PyTorch; this is a second call on the same input."
        yield Variation("state not reset between calls", mend, _carried)


def _each_step_alone(case: Case) -> Case:
    """Every time step as a sequence of its own."""
    spec, x = recurrent(case, mask=False), case.given.x
    if spec is None or spec.go_backwards or case.given.before is not None:
        return case
    batch, steps, features = x.shape
    return framed(case, Given(x.reshape(batch * steps, 1, features)), partial(_joined, spec, batch, steps))


def _joined(spec: Recurrent, batch: int, steps: int, out: Outputs) -> Outputs:
    sequence = out.sequence.reshape(batch, steps, -1)
    states = {}
    for name, slot in layout.states(spec).items():
        if out.states[name].shape[2] != batch * steps:
            return replace(out, sequence=sequence, last=sequence[:, -1])  # batch and time were exchanged besides
        each = out.states[name].reshape(*slot.axes, batch, steps, slot.size)
        states[name] = np.stack([each[:, i, :, 0 if d else -1] for i, d in enumerate(slot.directions)], axis=1)
    return Outputs(sequence, sequence[:, -1], states)


def _forgetful(case: Case) -> Iterator[Variation]:
    spec = recurrent(case, mask=False)
    if spec is not None and not spec.go_backwards and case.given.before is None:
        yield Variation(
            "zero states at every time step",
            "Hand the states of each time step to the next one: a bare cell (RNNCell, LSTMCell, GRUCell) keeps none.",
            _each_step_alone,
        )


ENTRIES = (
    Mistake(
        "states between calls",
        ("initial_state", "hx", "stateful", "reset_states", "hidden state not detached"),
        "A call begins with zero states unless it is given some; a stateful layer begins with those of the call before.",
        _calls,
    ),
    Mistake(
        "states exchanged",
        ("(h, c) and (c, h)", "h_n and c_n", "carry", "h_0"),
        "States are handed over by position, and frameworks have them in different orders.",
        _exchanged,
        1,
    ),
    Mistake(
        "states not kept",
        ("bare cell", "LSTMCell without hx", "hidden state reset in the loop"),
        "A bare cell that is called without states begins with zeros each time.",
        _forgetful,
        1,
    ),
)
