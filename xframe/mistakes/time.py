"""Axes and directions of time: what is read from which end, and which axis time is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.making import each_call, framed, halves, recurrent, with_backward
from xframe.reference import Given, Outputs

__all__ = ["ENTRIES"]


def _reversed(given: Given) -> Given:
    return replace(given, x=given.x[:, ::-1], mask=None if given.mask is None else given.mask[:, ::-1])


def _time_reversed(case: Case) -> Case:
    spec = recurrent(case)
    if spec is None:
        return case
    turned = replace(case, given=each_call(case.given, _reversed))
    return turned if case.given.mask is None else replace(turned, spec=replace(spec, mask="any"))


def _flipped(features: slice, out: Outputs) -> Outputs:
    sequence = out.sequence.copy()
    sequence[..., features] = sequence[:, ::-1, features]
    return replace(out, sequence=sequence)


def _late(out: Outputs) -> Outputs:
    """Each output one time step late, and zeros before the first."""
    sequence = np.zeros_like(out.sequence)
    sequence[:, 1:] = out.sequence[:, :-1]
    return replace(out, sequence=sequence)


def _forwards(case: Case) -> Case:
    spec = recurrent(case)
    if spec is None or not spec.go_backwards:
        return case
    return replace(case, spec=replace(spec, go_backwards=False))


def _backward_forwards(case: Case) -> Case:
    return with_backward(case, _reversed, flipped=True) if _has_own_backward(case) else case


def _has_own_backward(case: Case) -> bool:
    """Whether what the backward direction reads and puts out stands by itself."""
    spec = recurrent(case)
    return spec is not None and halves(spec) is not None and spec.num_layers == 1 and not spec.go_backwards


def _reading(case: Case) -> Iterator[Variation]:
    spec = recurrent(case)
    if spec is None:
        return
    if spec.go_backwards:
        yield Variation(
            "go_backwards ignored", "Read the input from its last time step to its first, x[:, ::-1].", _forwards
        )
    yield Variation("time reversed", "Read the input from its first time step to its last.", _time_reversed, "first")
    if _has_own_backward(case):
        yield Variation(
            "the backward direction reading forwards",
            "Let the backward direction read x[:, ::-1], and turn its output round in time.",
            _backward_forwards,
        )


def _order(case: Case) -> Iterator[Variation]:
    spec = recurrent(case)
    if spec is None:
        return
    if not spec.bidirectional:
        name, mend = "output in reversed order of time", "Take the output in the order in which the layer puts it out."
        if spec.go_backwards:
            name, mend = (
                "output flipped back",
                "Do not turn the output round: with go_backwards Keras puts it out in the order in which it reads.",
            )
        change = partial(Case.then, after=partial(_flipped, slice(None)))
        yield Variation(name, mend, change, "first" if spec.go_backwards else "")
        if not case.given.state and case.given.before is None:
            mend = "Keep the state that each time step ends in, not the one that it begins with."
            yield Variation("output one time step late", mend, partial(Case.then, after=_late))
    elif both := halves(spec):
        yield Variation(
            "backward output not flipped back",
            "Turn the output of the backward direction round in time, [:, ::-1], before it stands beside the forward one.",
            partial(Case.then, after=partial(_flipped, both[1])),
            "first",
        )
        yield Variation(
            "backward half of the output first",
            "Put the forward half of the features first, then the backward half.",
            _backward_first,
        )


def _backward_first(case: Case) -> Case:
    both = halves(case.spec)
    return case.then(partial(_rolled, both[0].stop)) if both else case


def _rolled(forward: int, out: Outputs) -> Outputs:
    return replace(out, sequence=np.roll(out.sequence, -forward, axis=-1), last=np.roll(out.last, -forward, axis=-1))


def _time_first(case: Case) -> Case:
    """(batch, time, features) run as (time, batch, features)."""
    if recurrent(case, mask=False) is None or len(set(_shapes(case.given))) > 1:
        return case
    return framed(case, each_call(case.given, _axes_swapped), _axes_swapped_back)


def _shapes(given: Given) -> Iterator[tuple[int, ...]]:
    yield given.x.shape
    if given.before:
        yield from _shapes(given.before)


def _axes_swapped(given: Given) -> Given:
    batch, steps, _ = given.x.shape
    return replace(given, x=given.x.swapaxes(0, 1), state=given.state if batch == steps else None)


def _axes_swapped_back(out: Outputs) -> Outputs:
    sequence = out.sequence.swapaxes(0, 1)
    return replace(out, sequence=sequence, last=sequence[:, -1])


def _steps_of_one_sequence(x: np.ndarray) -> np.ndarray:
    batch, steps, features = x.shape
    return x.reshape(steps, batch, features).swapaxes(0, 1)


def _features_first(x: np.ndarray) -> np.ndarray:
    return np.reshape(x.swapaxes(1, 2), x.shape)


def _input_changed(case: Case, change: Callable[[np.ndarray], np.ndarray]) -> Case:
    if recurrent(case, mask=False) is None:
        return case
    return replace(case, given=each_call(case.given, lambda one: replace(one, x=change(one.x))))


def _both_reshaped(case: Case) -> Case:
    wrong = _input_changed(case, _steps_of_one_sequence)
    return case if wrong is case else framed(case, wrong.given, _reshaped_back)


def _reshaped_back(out: Outputs) -> Outputs:
    sequence = np.reshape(out.sequence.swapaxes(0, 1), out.sequence.shape)
    return replace(out, sequence=sequence, last=sequence[:, -1])


_RESHAPES = (
    "Exchange axes with transpose(1, 0, 2) or swapaxes; a reshape keeps the numbers in their order and mixes sequences."
)


def _axes(case: Case) -> Iterator[Variation]:
    if recurrent(case, mask=False) is None:
        return
    batch, steps, features = case.given.x.shape
    if max(batch, steps) > 1:
        yield Variation(
            "batch and time exchanged (batch_first)",
            "Give torch.nn's layers batch_first=True, or transpose x to (time, batch, features) and the output back.",
            _time_first,
        )
    if min(batch, steps) > 1:
        change = partial(_input_changed, change=_steps_of_one_sequence)
        yield Variation("x reshaped to (time, batch, features) instead of transposed", _RESHAPES, change)
        name = "x reshaped to (time, batch, features), and the output back, instead of transposed"
        yield Variation(name, _RESHAPES, _both_reshaped)
    if min(steps, features) > 1:
        mend = "Give the layer (batch, time, features); exchange axes with swapaxes(1, 2), not with a reshape."
        reshaped = "x reshaped from (batch, features, time) instead of transposed"
        name = "time and features exchanged" if steps == features else reshaped
        yield Variation(name, mend, partial(_input_changed, change=_features_first))


ENTRIES = (
    Mistake(
        "direction of time",
        ("go_backwards", "reversed input", "time reversed"),
        "A layer that reads time from the other end is another function of the same weights.",
        _reading,
    ),
    Mistake(
        "order of the output",
        ("go_backwards with return_sequences", "output reversed", "backward output not flipped"),
        "With go_backwards Keras puts the output out in the order in which it reads, not flipped back; the backward half of a "
        "bidirectional layer is flipped back.",
        _order,
    ),
    Mistake(
        "batch and time",
        ("batch_first", "a batch of one is right", "(time, batch, features)", "reshape instead of transpose", "view"),
        "PyTorch's layers read (time, batch, features) unless they are told batch_first=True; a reshape gives the shape that is "
        "wanted and mixes the sequences.",
        _axes,
    ),
)
