"""What is taken for the last output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from xframe import layout
from xframe.mistakes.base import Case, Mistake, Variation
from xframe.mistakes.making import halves, parts, recurrent
from xframe.reference import Outputs
from xframe.spec import Recurrent

__all__ = ["ENTRIES"]


def _taken(case: Case, take: Callable[[Recurrent, Outputs], np.ndarray]) -> Case:
    spec = recurrent(case)
    return case if spec is None else case.then(partial(_with_last, spec, take))


def _with_last(spec: Recurrent, take: Callable[[Recurrent, Outputs], np.ndarray], out: Outputs) -> Outputs:
    return replace(out, last=take(spec, out))


def _at_the_end(spec: Recurrent, out: Outputs) -> np.ndarray:
    return out.sequence[:, -1]


def _at_the_start(spec: Recurrent, out: Outputs) -> np.ndarray:
    return out.sequence[:, 0]


def _ends(spec: Recurrent, out: Outputs, state: str, layer: int) -> list[np.ndarray]:
    """A state (batch, size) in which each direction of one layer ends."""
    slots = layout.states(spec)
    each = [layout.places(slots, layer % spec.depth(d), d) for d in range(spec.num_directions)]
    return [out.states[name][place] for found in each for name, own, place in found if own == state]


def _of_first_layer(spec: Recurrent, out: Outputs) -> np.ndarray:
    return np.concatenate(_ends(spec, out, "h", 0), axis=-1)


def _cell_state(spec: Recurrent, out: Outputs) -> np.ndarray:
    return np.concatenate(_ends(spec, out, "c", -1), axis=-1)


def _view(spec: Recurrent, out: Outputs) -> np.ndarray:
    """(directions, batch, size) read as (batch, directions * size)."""
    ends = _ends(spec, out, "h", -1)
    return np.stack(ends).reshape(len(ends[0]), -1)


def _steps(case: Case) -> Iterator[Variation]:
    spec = recurrent(case)
    if spec is None or case.given.x.shape[1] == 1:
        return
    # At padding that is read first, the last step of a layer that goes backwards is a valid one.
    padded = case.given.mask is not None and spec.masked_output == "zero"
    if spec.bidirectional or (padded and not (spec.go_backwards and spec.mask == "right")):
        yield Variation(
            "last output taken at the last time step, x[:, -1, :]",
            "Take the backward half at time step 0 and the forward half at the last valid one, or the final state h_n, which is "
            "both.",
            partial(_taken, take=_at_the_end),
        )
    yield Variation(
        "last output taken at the first time step",
        "Take the forward half at the last valid time step (time is the axis in the middle), or the final state h_n.",
        partial(_taken, take=_at_the_start),
    )


def _states(case: Case) -> Iterator[Variation]:
    spec = recurrent(case)
    both = halves(spec) if spec else None
    if spec is None or (spec.bidirectional and both is None):
        return
    tops = [spec.column(d)[-1] for d in range(spec.num_directions)]
    if len({top.state_size for top in tops}) == 1 and both and case.given.x.shape[0] > 1:
        yield Variation(
            "h_n reshaped to (batch, 2n) instead of transposed",
            "Concatenate h_n[-2] and h_n[-1] along the features, or transpose h_n to (batch, directions, n) before the reshape.",
            partial(_taken, take=_view),
        )
    alike = len({part.state_size for _, part in parts(spec)}) == 1
    if alike and any(spec.depth(d) > 1 for d in range(spec.num_directions)):
        yield Variation(
            "last output taken from the first layer, h_n[0]",
            "Take the final state of the last layer: h_n[-1], or h_n[-2] and h_n[-1] of a bidirectional one.",
            partial(_taken, take=_of_first_layer),
        )
    if all(top.cell == "lstm" and not top.proj_size for top in tops):
        yield Variation(
            "the cell state c taken for the last output",
            "Take h_n, the first of the two states (h_n, c_n); Flax carries (c, h).",
            partial(_taken, take=_cell_state),
        )


ENTRIES = (
    Mistake(
        "last step",
        ("x[:, -1, :]", "output[:, -1]", "return_sequences=False", "last hidden state", "bidirectional"),
        "The last output of Keras is the forward output at the last step and the backward output at the first one, where each "
        "direction has read everything; with padding it is that of the last valid step.",
        _steps,
    ),
    Mistake(
        "final state for the output",
        ("h_n", "h_n.view", "h_n[0]", "hidden.view(batch, -1)", "c_n"),
        "h_n is (layers * directions, batch, n): the last layer's are its last ones, and the batch is not its first axis.",
        _states,
        1,
    ),
)
