"""Which single numbers an input moves: against one run of the reference for every number, and what verdicts say of it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import xframe
from xframe import noise, reference
from xframe.asleep import moved, moved_by_any, none_moved, share
from xframe.drawing import completed
from xframe.judging import LIMIT, Input
from xframe.layout import Key
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input, draw_parameters, draw_state
from xframe.reference import Given
from xframe.spec import Recurrent

torch = pytest.importorskip("torch")

# What a number moves near the limit is told by a sum with random weights, and not exactly; rounding alone is below.
_FAR, _ROUNDING = 30, 0.2


def one_by_one(one: Input, dtype: str) -> dict[Key, np.ndarray]:
    """By effective block, how far each number, changed by itself, moves an output, in units of the limit."""
    assert isinstance(one.spec, Recurrent)
    truth, found = one.noise(dtype), {}
    for key, block in one.params.effective().items():
        found[key] = np.zeros(block.shape)
        for place in np.ndindex(block.shape):
            ratios = []
            for sign in (1, -1):
                changed = one.params[key].copy()
                changed[place] += sign * share(dtype) * np.abs(block).max()
                out = reference.run_given(one.spec, one.params.replaced({key: changed}), one.given).named()
                ratios += [noise.ratio(out[n], v, truth.deviation[n]).max() for n, v in truth.clean.items()]
            found[key][place] = max(ratios) / LIMIT
    return found


def given(spec: Recurrent, params: Parameters, seed: int, state: bool) -> Input:
    probe = Probe(batch=2, steps=3, seed=seed)
    return Input("layer", spec, params, Given(draw_input(spec, probe), draw_state(spec, probe) if state else None))


def with_far_biases(params: Parameters, seed: int) -> Parameters:
    """Some units shut, off or saturated for good, and some nearly so."""
    random = np.random.default_rng(seed)
    far = {k: b + random.choice([0, 0, -6, 6, -60, 60], b.shape) for k, b in params.items() if k.role == "bias"}
    return params.replaced(far)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "spec",
    [
        Recurrent("rnn", 3, 5, activation="relu"),
        Recurrent("rnn", 2, 4, activation="relu", num_layers=2),
        Recurrent("rnn", 3, 4, activation="hard_tanh", bidirectional=True),
        Recurrent("lstm", 2, 4),
        Recurrent("gru", 2, 4),
        Recurrent("gru", 2, 4, reset_after=False, recurrent_activation="hard_sigmoid"),
    ],
    ids=str,
)
def test_the_numbers_that_move_an_output_are_those_that_do_when_tried_one_by_one(spec: Recurrent, seed: int) -> None:
    one = given(spec, with_far_biases(draw_parameters(spec, seed), seed), seed, state=bool(seed % 2))
    found, truth = moved(one, "float64"), one_by_one(one, "float64")
    assert found.keys() == truth.keys()
    clear = wrong = asleep = 0
    for key, ratios in truth.items():
        decided = (ratios > _FAR) | (ratios < _ROUNDING)
        clear += int(decided.sum())
        asleep += int(np.count_nonzero(~found[key]))
        wrong += int(((ratios > 1) != found[key])[decided].sum())
    assert clear > 0.8 * sum(ratios.size for ratios in truth.values())
    # A unit that is turned on or off within the change has no one slope.
    assert wrong <= clear // 100
    assert asleep or spec.cell != "rnn"


def test_more_inputs_are_chosen_that_wake_what_sleeps() -> None:
    """A unit that is off on the first inputs, and on when they are eight times as large."""
    spec = Recurrent("rnn", 3, 4, activation="relu")
    params = draw_parameters(spec, 0)
    bias = Key(0, 0, "bias", "h")
    params = params.replaced({bias: params[bias] - np.array([0, 6, 0, 0])})
    probe = Probe()
    x = draw_input(spec, probe)
    start = [Input("layer", spec, params, Given(x, state)) for state in (None, draw_state(spec, probe))]
    assert not moved_by_any(none_moved(params), start, "float64")[Key(0, 0, "kernel", "h")][:, 1].any()
    found = completed(spec, "layer", params, x, probe, ("float64",))
    assert all(block.all() for block in found.moved.values())
    assert len(found.inputs) > len(start)


def shut() -> Any:
    layer = torch.nn.GRU(5, 8, batch_first=True)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.rand(p.shape, generator=torch.Generator().manual_seed(p.numel())) - 0.5)
        layer.bias_ih_l0[8 + 2] = 60.0  # the update gate of unit 2 keeps what it has
    return layer


def test_a_verdict_says_what_is_asleep() -> None:
    layer = shut()
    verdict = xframe.compare(layer, copy.deepcopy(layer))
    assert verdict
    power = verdict.power
    assert power.numbers == 3 * 8 * (5 + 8 + 1) + 8
    assert 0 < power.moved < power.numbers
    assert power.asleep[0] == "layer 0, forward, kernel, gate r [0, 2]"
    text = " ".join(verdict.report().split())
    assert f"shows in {power.moved} of {power.numbers}; asleep on these inputs" in text
    assert "layer 0, forward, kernel, gate r [0, 2]" in text


def test_a_probe_that_moves_every_number_says_so() -> None:
    verdict = xframe.compare(Recurrent("lstm", 3, 4), frameworks=["torch"])
    assert (verdict.power.numbers, verdict.power.moved, verdict.power.asleep) == (4 * 4 * 8, 128, ())
    assert "shows in each of 128." in verdict.report()
