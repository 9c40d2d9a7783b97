"""Slopes of the reference against differences of two runs of it, for every kind of layer and activation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from xframe import reference
from xframe.activations import ACTIVATIONS
from xframe.drawing import inputs
from xframe.gradient import slopes
from xframe.layout import Key
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input, draw_parameters
from xframe.reference import Given
from xframe.spec import Dense, Layer, Recurrent

STEP = 1e-6
PROBE = Probe(batch=3, steps=4, seed=1)
KINDS = {
    "dense": Dense(3, 4),
    "rnn-stacked": Recurrent("rnn", 2, 3, num_layers=2, bidirectional=True),
    "lstm": Recurrent("lstm", 2, 3),
    "lstm-projected-stacked": Recurrent("lstm", 2, 3, proj_size=2, num_layers=2, bidirectional=True),
    "gru": Recurrent("gru", 2, 3, num_layers=2),
    "gru-before": Recurrent("gru", 2, 3, reset_after=False, bidirectional=True),
    "any-mask": Recurrent("rnn", 3, 4, num_layers=3, bidirectional=True, mask="any"),
    "mask-repeats": Recurrent("lstm", 3, 4, num_layers=2, go_backwards=True, mask="any"),
    "mask-right": Recurrent("gru", 3, 5, num_layers=2, reset_after=False, mask="right"),
    "sum": Recurrent("lstm", 3, 5, bidirectional=True, merge_mode="sum", mask="any"),
    "mul": Recurrent("rnn", 3, 5, bidirectional=True, merge_mode="mul"),
    "ave": Recurrent("gru", 3, 5, bidirectional=True, merge_mode="ave"),
    "not-merged": Recurrent("gru", 3, 5, bidirectional=True, merge_mode=None),
    "stateful": Recurrent("gru", 3, 5, bias=False, stateful=True, batch_size=3, mask="any"),
    "stacked": Recurrent(
        "gru", 3, 5, reset_after=False, stacked=(Recurrent("lstm", 5, 4), Recurrent("rnn", 4, 3)), mask="any"
    ),
    "backward": Recurrent("gru", 3, 5, bidirectional=True, backward=Recurrent("lstm", 3, 4)),
}


def summed(spec: Layer, params: Mapping[Key, np.ndarray], given: Given, weights: Mapping[str, np.ndarray]) -> float:
    outputs = reference.run_given(spec, params, given).named()
    return float(sum((weights[name] * values).sum() for name, values in outputs.items()))


def assert_slopes(spec: Layer) -> None:
    """On zero states, given ones, masks and a second call: a number of every block."""
    # So small, and with such numbers, that no function is near where its slope jumps.
    params, random = draw_parameters(spec, 7), np.random.default_rng(0)
    params = Parameters(spec, {key: 0.3 * block for key, block in params.items()})
    for one in inputs(spec, "layer", params, draw_input(spec, PROBE), PROBE):
        shapes = {name: v.shape for name, v in reference.run_given(spec, params, one.given).named().items()}
        weights = {name: random.normal(size=shape) for name, shape in shapes.items()}
        found = slopes(spec, params, one.given, weights)
        assert found.keys() == params.keys()
        for key, block in params.items():
            place = tuple(int(random.integers(size)) for size in block.shape)
            step = np.zeros_like(block)
            step[place] = STEP
            above, below = (params.replaced({key: block + sign * step}) for sign in (1, -1))
            rise = summed(spec, above, one.given, weights) - summed(spec, below, one.given, weights)
            assert found[key][place] == pytest.approx(rise / (2 * STEP), rel=1e-3, abs=1e-4), (one.title, str(key))


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_those_of_the_reference(kind: str) -> None:
    assert_slopes(KINDS[kind])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_has_a_slope(activation: str) -> None:
    assert_slopes(Recurrent("rnn", 3, 4, activation=activation))


def test_parameters_are_left_as_they_are() -> None:
    spec = KINDS["stacked"]
    params = draw_parameters(spec, 3)
    before = Parameters(spec, {key: block.copy() for key, block in params.items()})
    one = next(inputs(spec, "layer", params, draw_input(spec, PROBE), PROBE))
    outputs = reference.run_given(spec, params, one.given).named()
    slopes(spec, params, one.given, {name: np.ones_like(values) for name, values in outputs.items()})
    assert all(np.array_equal(params[key], block) for key, block in before.items())
