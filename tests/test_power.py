"""What a probe would show: xframe looks for a better one, judges time steps one by one, and else says what it cannot show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import helpers
import keras
import numpy as np
import pytest
import torch
from helpers import Blocks
from test_comparison import break_run, partner

import xframe
from xframe import noise, reference
from xframe.adapters import get_adapter
from xframe.blindness import hidden
from xframe.drawing import forced, inputs
from xframe.judging import LIMIT, Input
from xframe.layout import Key
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input
from xframe.reference import Given
from xframe.spec import Recurrent

# ---- Time steps one by one.

ALONE = [
    Recurrent("rnn", 3, 5),
    Recurrent("lstm", 3, 5, num_layers=2, bidirectional=True, proj_size=4),
    Recurrent("gru", 3, 5, num_layers=2, go_backwards=True),
    Recurrent("gru", 3, 5, stateful=True, batch_size=4),
]


def started(spec: Recurrent, blocks: Blocks, seed: int, *, batch: int = 4, steps: int = 9) -> Input:
    x = helpers.signal(spec, seed, "float32", batch=batch, steps=steps).astype(np.float64)
    state = helpers.start(spec, seed, "float32", batch=batch) or {}
    return Input("layer", spec, blocks, Given(x, {name: v.astype(np.float64) for name, v in state.items()}))


@pytest.mark.parametrize("spec", ALONE, ids=str)
def test_time_steps_by_themselves_are_those_of_the_whole_input(spec: Recurrent) -> None:
    blocks = helpers.weights(spec, 1, "float32")
    whole = started(spec, blocks, 1)
    alone = forced(whole, "float32")
    assert alone is not None
    assert alone.initial_state == "forced"
    rows = alone.given.x.shape[0]
    assert rows == (4 if spec.stateful else 36)
    got = reference.run(spec, blocks, alone.given.x, alone.given.state).sequence
    full = reference.run(spec, blocks, whole.given.x, whole.given.state).sequence
    for row in range(rows):
        # Which step it is, by its input, every number of which is another one.
        ((b, t),) = np.argwhere((whole.given.x == alone.given.x[row]).all(axis=-1))
        np.testing.assert_allclose(got[row, 0], full[b, t], atol=1e-6)
    for values in (alone.given.state or {}).values():
        assert np.array_equal(values, values.astype(np.float32))


def test_steps_are_taken_from_the_whole_of_a_long_input() -> None:
    spec = Recurrent("rnn", 3, 5)
    blocks = helpers.weights(spec, 1, "float32")
    alone = forced(started(spec, blocks, 1, batch=2, steps=400), "float32")
    assert alone is not None
    assert alone.given.x.shape == (128, 1, 3)
    x = started(spec, blocks, 1, batch=2, steps=400).given.x
    taken = np.sort([np.argwhere((x == one).all(axis=-1))[0] @ (400, 1) for one in alone.given.x])
    assert np.all(np.abs(np.diff(taken) - 800 / 128) < 1)
    assert forced(started(spec, blocks, 1, steps=1), "float32") is None


def chaotic() -> tuple[Recurrent, Blocks]:
    """A layer in which rounding errors have become as large as the outputs by step 50 in float32, by step 110 in float64."""
    spec = Recurrent("rnn", 11, 40)
    blocks = helpers.weights(spec, 1, "float32", 0.5)
    return spec, {key: 8 * block if key.role == "recurrent_kernel" else block for key, block in blocks.items()}


def largest(one: Input, blocks: Blocks) -> float:
    """Of the ratios of a layer that NumPy computes in float32 with these parameters."""
    given, truth = one.given.astype("float32"), one.noise("float32")
    right = {key: block.astype(np.float32) for key, block in blocks.items()}
    got = reference.run(one.spec, right, given.x, given.state).sequence
    return float(noise.ratio(got, truth.clean["sequence"], truth.deviation["sequence"]).max())


def test_a_mistake_that_chaos_hides_shows_step_by_step() -> None:
    spec, blocks = chaotic()
    whole = started(spec, blocks, 2, batch=2, steps=200)
    # Feature 4 is not used before chaos has set in, and one weight of it is a little off.
    whole.given.x[:, :60, 4] = 0
    wrong = {key: block.copy() for key, block in blocks.items()}
    wrong[Key(0, 0, "kernel", "h")][4, 7] += 1e-3
    alone = forced(whole, "float32")
    assert alone is not None
    assert noise.drifts(whole.noise("float32"), "float32")
    assert not noise.drifts(alone.noise("float32"), "float32")
    assert largest(whole, blocks) < LIMIT
    assert largest(alone, blocks) < LIMIT / 2
    assert largest(whole, wrong) < LIMIT
    assert largest(alone, wrong) > 10 * LIMIT


def native(spec: Recurrent, blocks: Blocks) -> Any:
    return get_adapter("torch").build_loaded(spec, Parameters(spec, blocks), "float32")


def test_a_chaotic_layer_is_equivalent_and_a_late_fault_in_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def quiet_at_first(spec: Recurrent, probe: Probe) -> np.ndarray:
        x = draw_input(spec, probe)
        x[:, :130, 4] /= 64
        return x

    monkeypatch.setattr("xframe.comparison.draw_input", quiet_at_first)
    spec, blocks = chaotic()
    one, other = native(spec, blocks), native(spec, blocks)
    right = xframe.compare(one, other, steps=200)
    assert right, right.reason
    assert any("one by one" in note for note in right.notes)
    assert {c.initial_state for c in right.checks} == {"zero", "given", "forced"}

    # The layers clip a feature, which is beyond the bound after chaos has set in and not before.
    def clipped(run: Any, self: Any, layer: Any, x: np.ndarray, state: Any) -> Any:
        x = x.copy()
        x[..., 4] = np.clip(x[..., 4], -0.1, 0.1)
        return run(self, layer, x, state)

    break_run(monkeypatch, clipped)
    verdict = xframe.compare(one, other, steps=200)
    assert verdict.status == "different"
    assert {c.initial_state for c in verdict.checks if c.status == "different"} == {"forced"}


def test_a_calm_layer_is_not_run_step_by_step() -> None:
    torch.manual_seed(1)
    layer = torch.nn.LSTM(3, 5)
    verdict = xframe.compare(layer, partner(layer))
    assert verdict, verdict.reason
    assert {c.initial_state for c in verdict.checks} == {"zero", "given"}


# ---- Better inputs.


def saturated() -> tuple[Recurrent, Blocks]:
    spec = Recurrent("lstm", 3, 2)
    return spec, {key: 1000 * block for key, block in helpers.weights(spec, 11, "float32").items()}


def test_where_gates_are_saturated_other_inputs_are_tried() -> None:
    """On the first input every gate is 0 or 1, so that a hard sigmoid would not have shown."""
    spec, blocks = saturated()
    layer = native(spec, blocks)
    wrong = keras.layers.LSTM(2, recurrent_activation="hard_sigmoid")
    wrong.build((None, None, 3))
    get_adapter("keras").load(wrong, Parameters(replace(spec, recurrent_activation="hard_sigmoid"), blocks))
    verdict = xframe.compare(layer, wrong)
    assert verdict.status == "different"
    shown = {c.initial_state for c in verdict.checks if c.status == "different"}
    assert shown
    assert not shown & {"zero", "given"}
    same = xframe.compare(layer, partner(layer))
    assert same, same.reason
    assert not same.power.missed
    assert shown <= {c.initial_state for c in same.checks}


def test_gates_that_no_input_takes_out_of_saturation() -> None:
    spec = Recurrent("lstm", 3, 2)
    blocks = helpers.weights(spec, 3, "float32")
    # The gates are open for good, so that something does come out.
    blocks = {key: 1e6 * np.abs(block) if "bias" in key.role else block for key, block in blocks.items()}
    layer = native(spec, blocks)
    verdict = xframe.compare(layer, partner(layer))
    assert verdict.status == "inconclusive"
    assert "forget bias of 1 added" in verdict.power.missed
    assert "% of the gates are saturated" in verdict.reason


def test_one_step_has_no_order_and_more_are_taken_unless_it_was_asked_for() -> None:
    torch.manual_seed(2)
    layer = torch.nn.GRU(3, 5, bidirectional=True)
    verdict = xframe.compare(layer, partner(layer), steps=1)
    assert verdict.status == "inconclusive"
    assert "time reversed" in verdict.power.missed
    assert "one time step has no order" in verdict.reason
    assert xframe.compare(layer, partner(layer)).status == "equivalent"


def test_a_spec_is_drawn_again_where_the_first_draw_hides_a_mistake() -> None:
    """One relu unit that the first draw leaves at zero for good: it would put out zeros, which prove nothing."""
    spec = Recurrent("rnn", 1, 1, activation="relu")
    for seed in range(12):
        verdict = xframe.compare(spec, seed=seed, frameworks=["torch"])
        assert verdict, (seed, verdict.reason)


def test_the_order_of_time_steps_shows_on_a_short_input_where_chaos_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two directions, one above the other, chaos is at every time step, and a single step has no order."""
    spec = Recurrent("rnn", 3, 30, num_layers=2, bidirectional=True)
    blocks = helpers.weights(spec, 5, "float32")
    blocks = {key: 8 * block if key.role == "recurrent_kernel" else block for key, block in blocks.items()}
    one, other = native(spec, blocks), native(spec, blocks)
    verdict = xframe.compare(one, other, steps=60)
    assert verdict, verdict.reason
    break_run(monkeypatch, lambda run, self, layer, x, state: run(self, layer, x[:, ::-1].copy(), state))
    verdict = xframe.compare(one, other, steps=60)
    assert verdict.status == "different"
    assert all("of 5 steps" in c.initial_state for c in verdict.checks if c.status == "different")


# ---- What a layer's own numbers hide.


def numbers(change: Callable[[Key, np.ndarray], np.ndarray], **options: Any) -> tuple[Recurrent, Blocks]:
    spec = Recurrent("gru", 4, 6, **options)
    return spec, {key: change(key, block) for key, block in helpers.weights(spec, 4, "float32").items()}


HIDDEN: dict[str, tuple[Callable[[Key, np.ndarray], np.ndarray], str]] = {
    "zero biases": (lambda key, w: 0 * w if "bias" in key.role else w, "The biases are zero: a mistake in them"),
    "zero recurrent biases": (
        lambda key, w: 0 * w if key.role == "recurrent_bias" else w,
        "The recurrent biases are zero:",
    ),
    "symmetric": (
        lambda key, w: w + w.T if key.role == "recurrent_kernel" else w,
        "The recurrent kernel is symmetric:",
    ),
    "constant": (lambda key, w: 0 * w + 0.1 if key.role == "kernel" else w, "The numbers of the kernel are all equal:"),
}


@pytest.mark.parametrize(("change", "words"), HIDDEN.values(), ids=HIDDEN)
def test_numbers_that_hide_a_mistake_are_named(change: Callable[[Key, np.ndarray], np.ndarray], words: str) -> None:
    layer = native(*numbers(change))
    verdict = xframe.compare(layer, partner(layer))
    assert verdict, verdict.reason
    assert [note for note in verdict.notes if words in note] == list(verdict.notes)
    assert len(verdict.notes) == 1


def test_ordinary_numbers_hide_nothing() -> None:
    stacked = Recurrent("gru", 4, 6, stacked=(Recurrent("lstm", 6, 5, bias=False), Recurrent("rnn", 5, 1)))
    for spec in (stacked, Recurrent("lstm", 4, 6, bias=False, bidirectional=True), Recurrent("rnn", 1, 1)):
        assert not list(hidden(Parameters(spec, helpers.weights(spec, 4))))


def test_gates_and_directions_that_are_alike_are_named() -> None:
    spec, blocks = numbers(lambda key, w: w, bidirectional=True)
    for key in blocks:
        if key.gate == "z":
            blocks[key] = blocks[key._replace(gate="r")]
        if key.direction:
            blocks[key] = blocks[key._replace(direction=0)]
    assert list(hidden(Parameters(spec, blocks))) == [
        "Gates r, z hold the same numbers: their order would not have shown.",
        "Both directions hold the same numbers: swapped ones would not have shown.",
    ]


def test_inputs_of_a_layer_have_names_of_their_own() -> None:
    spec, blocks = saturated()
    layer = native(spec, blocks)
    checks = xframe.compare(layer, partner(layer)).checks
    assert len({(c.weights, c.initial_state, c.output, c.dtype) for c in checks}) == len(checks)
    first = inputs(spec, "layer", Parameters(spec, blocks), draw_input(spec, Probe()), Probe())
    assert [one.initial_state for one in first] == ["zero", "given"]
