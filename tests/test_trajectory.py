"""The states before each time step: each step run by itself from them must do what it does in the whole run."""

from __future__ import annotations

from dataclasses import replace

import helpers
import numpy as np
import pytest
from helpers import BATCH, STEPS, Blocks

from xframe import layout, reference
from xframe.reference import Given, trajectory
from xframe.spec import Recurrent

_BACKWARD = Recurrent("gru", 3, 4, reset_after=False)
SPECS = [
    Recurrent("rnn", 3, 5),
    Recurrent("lstm", 3, 5, go_backwards=True),
    Recurrent("gru", 3, 5, num_layers=2, bidirectional=True),
    Recurrent("lstm", 3, 5, num_layers=3, bidirectional=True, go_backwards=True, proj_size=2),
    Recurrent("gru", 3, 5, num_layers=2, go_backwards=True),
    Recurrent("rnn", 3, 5, bidirectional=True, merge_mode="mul", num_layers=2),
    Recurrent("rnn", 3, 5, go_backwards=True, stacked=(Recurrent("lstm", 5, 4), Recurrent("gru", 4, 6))),
    Recurrent("lstm", 3, 5, bidirectional=True, backward=replace(_BACKWARD, stacked=(Recurrent("lstm", 4, 6),))),
]


def taken(spec: Recurrent) -> tuple[Blocks, np.ndarray, dict[str, np.ndarray]]:
    return helpers.weights(spec, 3), helpers.signal(spec, 3), helpers.start(spec, 3)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_each_step_alone_puts_out_what_it_does_in_the_whole_run(spec: Recurrent) -> None:
    params, x, start = taken(spec)
    passed, whole = trajectory(spec, params, Given(x, start)), reference.run(spec, params, x, start)
    assert {name: v.shape for name, v in passed.items()} == {name: (STEPS, *v.shape) for name, v in start.items()}
    # Each layer that goes backwards, unless its output is flipped back, turns the order of time.
    turned = spec.go_backwards and spec.num_layers % 2
    for t in range(STEPS):
        alone = reference.run(spec, params, x[:, t : t + 1], {name: v[t] for name, v in passed.items()})
        at = STEPS - 1 - t if turned else t
        np.testing.assert_allclose(alone.sequence[:, 0], whole.sequence[:, at], rtol=1e-12)
        # One step further in the direction of each layer are the states that the single step ends in.
        for name, slot in layout.states(spec).items():
            for layer in slot.layers:
                for direction in slot.directions:
                    place, next_ = slot.place(layer, direction), following(spec, layer, direction, t)
                    ends = passed[name][next_] if 0 <= next_ < STEPS else whole.states[name]
                    np.testing.assert_allclose(alone.states[name][place], ends[place], rtol=1e-12)


def following(spec: Recurrent, layer: int, direction: int, t: int) -> int:
    """The time step of the input that a layer reads after step t."""
    backwards = spec.go_backwards != bool(direction)
    if spec.go_backwards and spec.num_layers > 1 and layer % 2:
        backwards = not backwards
    return t - 1 if backwards else t + 1


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_masked_step_leaves_the_states(cell: str) -> None:
    spec = Recurrent(cell, 3, 5, bidirectional=True, mask="any")
    params, x, start = taken(spec)
    mask = np.random.default_rng(5).random((BATCH, STEPS)) < 0.6
    assert 0 < mask.sum() < mask.size
    passed = trajectory(spec, params, Given(x, start, mask))["h"]
    for row, t in np.argwhere(~mask):
        after = passed[t + 1, 0, 0, row] if t + 1 < STEPS else None
        if after is not None:
            assert np.array_equal(passed[t, 0, 0, row], after)
        if t:
            assert np.array_equal(passed[t, 0, 1, row], passed[t - 1, 0, 1, row])
    for row, t in np.argwhere(mask[:, :-1]):
        assert not np.array_equal(passed[t, 0, 0, row], passed[t + 1, 0, 0, row])


def test_a_second_call_begins_where_the_first_one_ended() -> None:
    spec = Recurrent("lstm", 3, 5, stateful=True, batch_size=BATCH)
    params, x, start = taken(spec)
    passed = trajectory(spec, params, Given(x[:, 2:], before=Given(x[:, :2], start)))
    whole = trajectory(spec, params, Given(x, start))
    for name, values in passed.items():
        np.testing.assert_allclose(values, whole[name][2:], rtol=1e-12)
