"""Where two sides depart: known mistakes are planted, and must be found in their place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import BATCH, STEPS, UNITS, Blocks

from xframe import noise, reference
from xframe.adapters import Adapter, get_adapter
from xframe.diagnosis import Diagnosis, Where, internals
from xframe.diagnosis.evidence import Evidence, computed
from xframe.diagnosis.picture import picture
from xframe.diagnosis.plot import _drawn, plot
from xframe.diagnosis.where import located
from xframe.errors import FileError, MissingFrameworkError, SpecError
from xframe.layout import Key
from xframe.reference import Given, Outputs
from xframe.spec import Dense, Layer, Recurrent

# Unequal sizes on every axis: 7 features, 9 units, 4 rows, 6 steps.
STACK: dict[str, Any] = {"num_layers": 3, "bidirectional": True}


def recurrent(cell: str, **options: Any) -> Recurrent:
    return Recurrent(cell, helpers.FEATURES, UNITS, **options)


def drawn(spec: Layer, steps: int = STEPS, batch: int = BATCH) -> tuple[Blocks, Given]:
    """Weights, and an input with initial states, of numbers that are exact in float32."""
    x = helpers.signal(spec, 1, "float32", steps=steps, batch=batch).astype(np.float64)
    state = helpers.start(spec, 1, "float32", batch=batch)
    return helpers.weights(spec, 1, "float32"), Given(x, state).astype("float64")


def changed(params: Blocks, key: Key, index: tuple[int, ...], by: float = 0.25) -> Blocks:
    """The same but for one number."""
    block = params[key].copy()
    block[index] += by
    return {**params, key: block}


def live(spec: Recurrent, params: Blocks) -> Callable[[Given], Outputs]:
    """A side that can be asked."""
    return lambda given: reference.run_given(spec, params, given)


def native(adapter: Adapter, layer: Any, dtype: str = "float32") -> Callable[[Given], Outputs]:
    def run(given: Given) -> Outputs:
        adapter.reset(layer)
        own = given.astype(dtype)
        return adapter.run(layer, own.x, own.state, own.mask)

    return run


def only(evidence: Evidence, *names: str) -> Evidence:
    return replace(evidence, outputs={name: evidence.outputs[name] for name in names})


def found(where: Where | None) -> Where:
    assert where is not None
    return where


# ---- One number of one block is changed: exactly its place is found.

ENTRIES: list[tuple[Recurrent, Key]] = [
    (recurrent("lstm", **STACK), Key(1, 1, "kernel", "f")),
    (recurrent("lstm", **STACK), Key(2, 0, "recurrent_kernel", "g")),
    (recurrent("lstm", proj_size=5, **STACK), Key(1, 1, "kernel", "o")),
    (recurrent("gru", **STACK), Key(0, 1, "bias", "n")),
    (recurrent("gru", **STACK), Key(1, 0, "kernel", "z")),
    (recurrent("gru", reset_after=False, num_layers=2), Key(1, 0, "recurrent_kernel", "r")),
    (recurrent("rnn", num_layers=3), Key(2, 0, "recurrent_bias", "h")),
    (recurrent("gru", bidirectional=True, merge_mode="sum"), Key(0, 1, "recurrent_bias", "r")),
    (recurrent("lstm", bidirectional=True, merge_mode="mul", num_layers=2), Key(0, 0, "bias", "i")),
    (recurrent("gru", go_backwards=True), Key(0, 0, "kernel", "r")),
    (recurrent("lstm", go_backwards=True, num_layers=2, bidirectional=True), Key(1, 1, "bias", "g")),
    (recurrent("lstm", stacked=(Recurrent("gru", UNITS, 4), Recurrent("rnn", 4, 6))), Key(1, 0, "kernel", "n")),
    (recurrent("rnn", bidirectional=True, backward=recurrent("gru")), Key(0, 1, "bias", "z")),
]


@pytest.mark.parametrize(("spec", "key"), ENTRIES, ids=lambda value: str(value))
def test_the_place_of_one_changed_number_is_found(spec: Recurrent, key: Key) -> None:
    params, given = drawn(spec)
    unit = 3
    index = (unit,) if key.role.endswith("bias") else (1, unit)
    wrong = changed(params, key, index)
    where = found(located(spec, params, computed(spec, wrong, given, "float32"), (spec, wrong)))
    assert (where.layer, where.direction, where.gate, where.unit) == (key.layer, key.direction, key.gate, unit)
    assert where.stage == "pre-activation"
    # All steps read given states and inputs without a zero, so that the first one that is read departs.
    assert where.step == (STEPS - 1 if reads_backwards(spec, key) else 0)
    assert "before the activation" in where.sentence
    assert f"unit {unit}" in where.sentence


def reads_backwards(spec: Recurrent, key: Key) -> bool:
    """By hand: which way the layer of a block reads the input."""
    turns = [spec.go_backwards, key.direction == 1, spec.go_backwards and spec.num_layers > 1 and key.layer == 1]
    return sum(turns) % 2 == 1


@pytest.mark.parametrize(
    ("role", "given_state", "step"), [("recurrent_kernel", False, 1), ("recurrent_kernel", True, 0)]
)
@pytest.mark.parametrize("direction", [0, 1])
def test_a_recurrent_kernel_shows_once_there_is_a_state(
    role: str, given_state: bool, step: int, direction: int
) -> None:
    spec = recurrent("lstm", bidirectional=True)
    params, given = drawn(spec)
    given = given if given_state else replace(given, state=None)
    wrong = changed(params, Key(0, direction, role, "o"), (2, 5))
    where = found(located(spec, params, computed(spec, wrong, given, "float32"), (spec, wrong)))
    assert (where.step, where.direction, where.gate, where.unit) == (
        (STEPS - 1 - step if direction else step),
        direction,
        "o",
        5,
    )
    assert ("read from the last to the first" in where.sentence) == bool(direction)


@pytest.mark.parametrize(
    ("cell", "option", "gate"), [("lstm", "activation", "g"), ("gru", "activation", "n"), ("rnn", "activation", "h")]
)
def test_another_activation_departs_in_the_activation(cell: str, option: str, gate: str) -> None:
    spec = recurrent(cell, num_layers=2)
    params, given = drawn(spec)
    other = replace(spec, **{option: "softsign"})
    where = found(located(spec, params, computed(other, params, given, "float32"), (other, params)))
    assert (where.layer, where.gate, where.stage, where.step) == (0, gate, "activation", 0)
    assert "in the activation" in where.sentence


@pytest.mark.parametrize(("cell", "gates"), [("lstm", "ifo"), ("gru", "rz")])
def test_another_recurrent_activation_departs_in_the_gates_that_have_it(cell: str, gates: str) -> None:
    spec = recurrent(cell)
    params, given = drawn(spec)
    other = replace(spec, recurrent_activation="hard_sigmoid")
    where = found(located(spec, params, computed(other, params, given, "float32"), (other, params)))
    assert where.gate is not None
    assert where.gate in gates
    assert where.stage == "activation"
    for gate in set(gates) - {where.gate}:
        assert f"and {gate}" in where.sentence


def test_reset_after_instead_of_before_departs_in_the_candidate() -> None:
    spec = recurrent("gru", reset_after=False)
    params, given = drawn(spec)
    other = replace(spec, reset_after=True)
    where = found(located(spec, params, computed(other, params, given, "float32"), (other, params)))
    assert (where.gate, where.stage) == ("n", "pre-activation")


def test_weights_rounded_to_float32_hide_no_gate() -> None:
    """The gates before it differ by rounding; that is no mistake."""
    spec = recurrent("gru")
    params, given = helpers.weights(spec, 1, "float64"), drawn(spec)[1]
    wrong = changed({key: block.astype(np.float32) for key, block in params.items()}, Key(0, 0, "bias", "n"), (4,))
    where = found(located(spec, params, computed(spec, wrong, given, "float32"), (spec, wrong)))
    assert (where.gate, where.unit, where.stage) == ("n", 4, "pre-activation")
    assert where.gates["r"].max() > 0


def test_a_wrong_projection_leaves_the_gates_alike() -> None:
    spec = recurrent("lstm", proj_size=5)
    params, given = drawn(spec)
    wrong = changed(params, Key(0, 0, "projection", ""), (2, 3))
    where = found(located(spec, params, computed(spec, wrong, given, "float32"), (spec, wrong)))
    assert (where.step, where.layer, where.gate, where.unit, where.stage) == (0, 0, None, 3, None)
    assert "the gates there are alike" in where.sentence


def test_the_lower_layer_is_named_where_the_upper_one_departs_earlier_for_its_sake() -> None:
    """What is wrong backwards below departs last in time, and the layer above reads it first of all."""
    spec = recurrent("gru", num_layers=2, bidirectional=True)
    params, given = drawn(spec)
    wrong = changed(params, Key(0, 1, "recurrent_kernel", "z"), (1, 6))
    where = found(located(spec, params, computed(spec, wrong, replace(given, state=None), "float32"), (spec, wrong)))
    assert (where.layer, where.direction, where.step, where.unit) == (0, 1, STEPS - 2, 6)


# ---- The numbers.


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def test_gates_and_errors_by_hand() -> None:
    """One layer, forced by hand: at each time step the right states go into both sides."""
    spec = recurrent("gru", reset_after=False)
    params, given = drawn(spec)
    wrong = changed(params, Key(0, 0, "kernel", "r"), (2, 3))
    evidence = computed(spec, wrong, given, "float32")
    where = found(located(spec, params, evidence, (spec, wrong)))
    assert given.state is not None
    right = reference.run(spec, params, given.x, given.state).sequence
    before = np.concatenate([given.state["h"][0, 0][:, None], right[:, :-1]], axis=1).astype(np.float32)

    def gate(blocks: Mapping[Key, np.ndarray], name: str, t: int) -> np.ndarray:
        at = {role: blocks[Key(0, 0, role, name)] for role in ("kernel", "recurrent_kernel", "bias", "recurrent_bias")}
        return sigmoid(
            given.x[:, t] @ at["kernel"] + at["bias"] + before[:, t] @ at["recurrent_kernel"] + at["recurrent_bias"]
        )

    by_hand = [np.abs(gate(params, "r", t) - gate(wrong, "r", t)).max() for t in range(STEPS)]
    np.testing.assert_allclose(where.gates["r"], by_hand, rtol=1e-9)
    assert np.all(np.asarray(by_hand) > 1e-3)
    assert np.abs(where.gates["z"]).max() < 1e-12
    # Drift, as a verdict judges it.
    truth = noise.measure(spec, params, given, "float32")
    ratios = noise.ratio(evidence.outputs["sequence"], truth.clean["sequence"], truth.deviation["sequence"])
    # The noise is that of a few copies, and may come out a little different.
    np.testing.assert_allclose(where.steps, ratios.max(axis=(0, 2)), rtol=0.5)
    # Each step alone, one after the other.
    for t in range(STEPS):
        one = Given(given.x[:, t : t + 1], {"h": before[None, None, :, t].astype(np.float64)})
        clean = noise.measure(spec, params, one, "float32")
        got = reference.run_given(spec, wrong, one).sequence
        ratio = noise.ratio(got, clean.clean["sequence"], clean.deviation["sequence"]).max()
        assert where.local is not None
        # The replicas of a larger batch draw other numbers.
        assert ratio / 4 < where.local[t] < ratio * 4


def test_time_is_cut_into_blocks_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = recurrent("lstm", num_layers=2, bidirectional=True)
    params, given = drawn(spec)
    wrong = changed(params, Key(1, 0, "recurrent_kernel", "i"), (1, 2))
    evidence = computed(spec, wrong, given, "float32")
    whole = found(located(spec, params, evidence, (spec, wrong)))
    calls: list[int] = []

    def counted(given: Given) -> Outputs:
        calls.append(given.x.shape[0])
        return reference.run_given(spec, wrong, given)

    monkeypatch.setattr(internals, "_BLOCK", 4 * UNITS * BATCH * 4)
    cut = found(located(spec, params, evidence, (spec, wrong), counted))
    assert calls == [4 * BATCH, 2 * BATCH]
    assert (
        (cut.step, cut.layer, cut.gate, cut.unit) == (whole.step, whole.layer, whole.gate, whole.unit) == (0, 1, "i", 2)
    )
    np.testing.assert_allclose(cut.gates["i"], whole.gates["i"], rtol=1e-6)


# ---- A side that can be asked.


@pytest.mark.needs("torch")
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_a_native_layer_is_told_from_the_reference_in_its_place_and_nowhere_else(cell: str, dtype: str) -> None:
    spec = recurrent(cell, **STACK)
    params, given = helpers.weights(spec, 1, dtype), drawn(spec)[1]
    adapter = get_adapter("torch")
    given = Given(
        helpers.rounded(given.x, dtype), {n: helpers.rounded(v, dtype) for n, v in (given.state or {}).items()}
    )
    run = native(adapter, adapter.build_loaded(spec, params, dtype), helpers.array_type(dtype))
    evidence = Evidence(given, run(given).named(), dtype)
    assert located(spec, params, evidence, (spec, params), run) is None
    gate = helpers.GATES[cell][-1]
    wrong = changed(params, Key(1, 1, "bias", gate), (3,), 2.0)
    where = found(located(spec, wrong, evidence, (spec, params), run))
    assert (where.step, where.layer, where.direction, where.gate, where.unit) == (STEPS - 1, 1, 1, gate, 3)
    # Without its parameters the same, but for the gate.
    where = found(located(spec, wrong, evidence, rerun=run))
    assert (where.step, where.layer, where.direction, where.unit, where.stage) == (STEPS - 1, 1, 1, 3, None)
    assert where.gate == ("h" if cell == "rnn" else None)
    assert ("do not tell the gate" in where.sentence) == (cell != "rnn")


@pytest.mark.needs("torch")
def test_a_stateful_layer_is_asked_with_as_many_sequences_as_it_keeps() -> None:
    spec = recurrent("lstm", stateful=True, batch_size=BATCH)
    params, given = drawn(spec)
    given = Given(given.x, before=Given(given.x[:, ::-1]))
    adapter = get_adapter("torch")
    layer = adapter.build_loaded(spec, params, "float64")
    sizes = set()

    def run(one: Given) -> Outputs:
        sizes.add(one.x.shape[0])
        adapter.reset(layer)
        if one.before is not None:
            adapter.run(layer, one.before.x)
        return adapter.run(layer, one.x, one.state)

    evidence = Evidence(given, run(given).named(), "float64")
    assert located(spec, params, evidence, rerun=run) is None
    wrong = changed(params, Key(0, 0, "recurrent_kernel", "f"), (2, 7))
    where = found(located(spec, wrong, evidence, (spec, params), run))
    # The state of the call before is there at once.
    assert (where.step, where.gate, where.unit) == (0, "f", 7)
    assert sizes == {BATCH}


# ---- What is carried from step to step.


@pytest.mark.parametrize("backwards", [False, True])
def test_an_initial_state_that_is_ignored_is_no_mistake_of_any_step(backwards: bool) -> None:
    spec = recurrent("lstm", go_backwards=backwards)
    params, given = drawn(spec)
    evidence = replace(computed(spec, params, replace(given, state=None), "float32"), given=given)
    where = found(located(spec, params, evidence, (spec, params), live(spec, params)))
    assert where.local is not None
    assert where.local.max() < 10
    assert (where.step, where.gate, where.stage) == (STEPS - 1 if backwards else 0, None, None)
    assert "initial states" in where.sentence


def test_a_recording_tells_an_ignored_initial_state_from_a_wrong_step() -> None:
    spec = recurrent("gru", go_backwards=True)
    params, given = drawn(spec)
    evidence = replace(computed(spec, params, replace(given, state=None), "float32"), given=given)
    where = found(located(spec, params, only(evidence, "sequence")))
    assert where.local is not None
    assert where.step == STEPS - 1
    assert where.local[-1] > 1000
    assert where.local[:-1].max() < 10
    assert "it is the initial state" in where.sentence


def test_the_reversed_order_of_time_is_no_mistake_of_any_step() -> None:
    spec = recurrent("rnn", bidirectional=True)
    params, given = drawn(spec)
    evidence = replace(computed(spec, params, replace(given, x=given.x[:, ::-1]), "float32"), given=given)
    where = found(located(spec, params, evidence, (spec, params), live(spec, params)))
    assert where.local is not None
    assert where.local.max() < 10 < found(where).steps.max()  # type: ignore[union-attr]
    assert "the order of time" in where.sentence


MASK = np.array([[1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1]], bool)


def test_an_ignored_mask_departs_where_the_first_step_is_masked() -> None:
    spec = recurrent("lstm", mask="any")
    params, given = drawn(spec)
    # One row, in which the first step that is masked is the third.
    some = replace(
        given, x=given.x[2:3], state={n: v[:, :, 2:3] for n, v in (given.state or {}).items()}, mask=MASK[2:3]
    )
    evidence = Evidence(some, computed(spec, params, replace(some, mask=None), "float32").outputs)
    where = found(located(spec, params, evidence, (spec, params), live(spec, params)))
    assert where.step == 2
    assert where.local is not None
    np.testing.assert_array_equal(np.isnan(where.local), ~MASK[2])
    assert np.fmax.reduce(where.local) < 10
    assert "masks" in where.sentence


def test_a_mistake_is_found_among_masked_steps() -> None:
    spec = recurrent("gru", mask="any", bidirectional=True)
    params, given = drawn(spec)
    given = replace(given, mask=MASK & (np.arange(STEPS) != STEPS - 1))
    wrong = changed(params, Key(0, 1, "bias", "z"), (2,))
    where = found(located(spec, params, computed(spec, wrong, given, "float32"), (spec, wrong), live(spec, wrong)))
    # The last step is masked in every row, and so the one before is the first that is read backwards.
    assert (where.step, where.direction, where.gate, where.unit) == (STEPS - 2, 1, "z", 2)
    assert where.local is not None
    assert np.isnan(where.local).tolist() == [False] * (STEPS - 1) + [True]


def test_masked_outputs_are_told_from_all_else() -> None:
    spec = recurrent("lstm", mask="any", masked_output="zero")
    params, given = drawn(spec)
    given = replace(given, mask=MASK)
    evidence = computed(replace(spec, masked_output="repeat"), params, given, "float32")
    where = found(located(spec, params, evidence, rerun=live(spec, params)))
    assert "only at masked time steps" in where.sentence
    sequence = evidence.outputs["sequence"].copy()
    assert MASK[3, 2]
    sequence[3, 2, 5] += 1e-3
    where = found(located(spec, params, replace(evidence, outputs={**evidence.outputs, "sequence": sequence})))
    assert "masked" not in where.sentence


def test_layers_that_turn_time_leave_out_other_steps() -> None:
    """The second layer reads the padding where the first one reads a step that counts."""
    spec = recurrent("gru", mask="any", go_backwards=True, num_layers=2)
    params, given = drawn(spec)
    given = replace(given, mask=np.tile(np.arange(STEPS) < STEPS - 1, (BATCH, 1)))
    wrong = changed(params, Key(0, 0, "bias", "n"), (2,))
    where = found(located(spec, params, computed(spec, wrong, given, "float32"), (spec, wrong)))
    assert where.local is not None
    assert np.isnan(where.local).tolist() == [True] + [False] * (STEPS - 2) + [True]
    assert (where.step, where.layer, where.gate, where.unit) == (STEPS - 2, 0, "n", 2)


def test_drift_in_a_chaotic_layer_is_told_from_a_mistake() -> None:
    spec = recurrent("rnn")
    params, given = drawn(spec, steps=60)
    params = {k: v * 4 if k.role == "recurrent_kernel" else v for k, v in params.items()}
    # A difference of rounding alone that grows: too large for float64, which the outputs are said to be.
    outputs = {n: v.copy() for n, v in computed(spec, params, given, "float64").outputs.items()}
    late = Given(given.x[:, 20:], {"h": outputs["sequence"][None, None, :, 19] * (1 + 1e-13)})
    outputs["sequence"][:, 20:] = reference.run_given(spec, params, late).sequence
    evidence = Evidence(given, {"sequence": outputs["sequence"]}, "float64")
    where = found(located(spec, params, evidence, (spec, params), live(spec, params)))
    assert where.local is not None
    assert where.steps is not None
    assert where.local.max() < 10 < where.steps.max()
    assert where.step is not None
    assert 20 <= where.step < 60
    assert where.steps[: where.step].max() <= 10
    assert "drift" in where.sentence
    # Judged as float32, that is noise.
    assert located(spec, params, replace(evidence, dtype="float32"), (spec, params), live(spec, params)) is None


def test_a_mistake_that_chaos_hides_is_found_in_a_step() -> None:
    spec = recurrent("rnn")
    params, given = drawn(spec, steps=120)
    params = {k: v * 8 if k.role == "recurrent_kernel" else v for k, v in params.items()}
    wrong = changed(params, Key(0, 0, "bias", "h"), (4,), 2e-5)
    evidence = only(computed(spec, wrong, given, "float32"), "last")
    assert located(spec, params, evidence) is None
    where = found(located(spec, params, evidence, (spec, wrong)))
    assert (where.unit, where.stage) == (4, "pre-activation")
    assert "hides it" in where.sentence


@pytest.mark.parametrize(("cell", "gate"), [("lstm", "i"), ("gru", "r")])
def test_a_side_without_parameters_tells_the_unit_by_the_state_that_departs_first(cell: str, gate: str) -> None:
    """A projection mixes all units, but c departs before it."""
    spec = recurrent(cell, proj_size=5 if cell == "lstm" else 0)
    params, given = drawn(spec)
    wrong = changed(params, Key(0, 0, "kernel", gate), (2, 7))
    where = found(located(spec, params, computed(spec, wrong, given, "float32"), rerun=live(spec, wrong)))
    assert (where.step, where.gate, where.unit, where.stage) == (0, None, 7, None)


# ---- Merging.


@pytest.mark.parametrize(("mine", "theirs"), [("sum", "ave"), ("mul", "sum")])
def test_merging_is_told_from_the_states(mine: str, theirs: str) -> None:
    spec = recurrent("gru", bidirectional=True, merge_mode=mine)
    params, given = drawn(spec)
    other = replace(spec, merge_mode=theirs)
    where = found(located(spec, params, computed(other, params, given, "float32"), (other, params)))
    assert (where.step, where.layer, where.direction, where.gate) == (0, 0, None, None)
    assert "merged" in where.sentence


def test_outputs_of_another_shape_are_left_out() -> None:
    spec = recurrent("rnn", bidirectional=True)
    params, given = drawn(spec)
    other = replace(spec, merge_mode="sum")
    wrong = changed(params, Key(0, 1, "bias", "h"), (6,))
    evidence = computed(other, wrong, given, "float32")
    where = found(located(spec, params, evidence))
    assert (where.step, where.direction, where.unit, where.steps) == (None, 1, 6, None)
    where = found(located(spec, params, evidence, (other, wrong)))
    assert (where.step, where.direction, where.unit, where.stage) == (STEPS - 1, 1, 6, "pre-activation")
    assert located(spec, params, only(evidence, "sequence", "last")) is None


def test_final_states_tell_the_direction_where_directions_are_merged() -> None:
    spec = recurrent("lstm", bidirectional=True, merge_mode="ave")
    params, given = drawn(spec)
    wrong = changed(params, Key(0, 1, "kernel", "g"), (2, 3))
    evidence = computed(spec, wrong, given, "float32")
    where = found(located(spec, params, evidence))
    assert (where.direction, where.step, where.unit, where.local) == (1, STEPS - 1, 3, None)
    where = found(located(spec, params, only(evidence, "sequence", "last")))
    assert (where.direction, where.step) == (None, None)


# ---- Recorded outputs alone.


@pytest.mark.parametrize("cell", ["rnn", "gru"])
@pytest.mark.parametrize("options", [{}, {"go_backwards": True}, {"bidirectional": True}], ids=str)
def test_a_recorded_sequence_holds_the_states_of_a_single_layer(cell: str, options: dict[str, Any]) -> None:
    spec = recurrent(cell, **options)
    params, given = drawn(spec)
    gate, direction = helpers.GATES[cell][-1], spec.num_directions - 1
    wrong = changed(params, Key(0, direction, "recurrent_kernel", gate), (2, 6))
    evidence = only(computed(spec, wrong, replace(given, state=None), "float32"), "sequence")
    where = found(located(spec, params, evidence))
    backwards = bool(options)
    # The state is zero at first.
    assert (where.step, where.direction, where.unit) == (STEPS - 2 if backwards else 1, direction, 6)
    assert where.local is not None
    assert where.local[where.step] > 10
    assert where.local[STEPS - 1 if backwards else 0] < 10
    assert "initial state" not in where.sentence


@pytest.mark.parametrize(
    "options", [{}, {"go_backwards": True}, {"go_backwards": True, "bidirectional": True}], ids=str
)
def test_of_an_lstm_recorded_outputs_do_not_tell_local_from_drift(options: dict[str, Any]) -> None:
    spec = recurrent("lstm", **options)
    params, given = drawn(spec)
    wrong = changed(params, Key(0, 0, "recurrent_kernel", "f"), (2, 6))
    where = found(located(spec, params, only(computed(spec, wrong, replace(given, state=None), "float32"), "sequence")))
    # The forward direction, which is the one that goes backwards.
    assert (where.step, where.direction) == (STEPS - 2 if options else 1, 0)
    assert (where.unit, where.gate, where.local) == (6, None, None)
    assert where.steps is not None
    assert "do not tell" in where.sentence


@pytest.mark.parametrize("direction", [0, 1])
def test_the_last_output_tells_the_direction_and_the_unit(direction: int) -> None:
    spec = recurrent("lstm", bidirectional=True)
    params, given = drawn(spec)
    wrong = changed(params, Key(0, direction, "bias", "o"), (6,), 2.0)
    evidence = computed(spec, wrong, given, "float32")
    where = found(located(spec, params, only(evidence, "last")))
    assert (where.step, where.direction, where.unit, where.steps) == (None, direction, 6, None)
    assert picture(where) == ""


def test_final_states_tell_the_layer_of_a_stack() -> None:
    spec = recurrent("gru", **STACK)
    params, given = drawn(spec)
    wrong = changed(params, Key(1, 1, "bias", "n"), (5,), 1.0)
    where = found(located(spec, params, computed(spec, wrong, given, "float32")))
    assert (where.layer, where.direction, where.step, where.gate) == (1, 1, None, None)


def test_a_number_that_is_none_departs_where_it_first_stands() -> None:
    spec = recurrent("gru")
    params, given = drawn(spec)
    outputs = {n: v.copy() for n, v in computed(spec, params, given, "float32").outputs.items()}
    outputs["sequence"][2, 3:, 4] = np.nan
    where = found(located(spec, params, Evidence(given, outputs)))
    assert (where.step, where.unit) == (3, 4)
    assert where.steps is not None
    assert where.steps[3:].tolist() == [np.inf] * 3
    assert where.local is not None
    # What goes on from no number cannot be judged; the other rows can.
    assert np.isinf(where.local).tolist() == [False] * 3 + [True] + [False] * 2
    assert "is no number" in where.sentence
    assert "no number" in picture(where)


@pytest.mark.parametrize(("steps", "batch"), [(1, 3), (4, 1), (1, 1)])
def test_one_step_and_one_sequence(steps: int, batch: int) -> None:
    spec = recurrent("lstm", bidirectional=True)
    params, given = drawn(spec, steps, batch)
    wrong = changed(params, Key(0, 1, "recurrent_kernel", "i"), (2, 3))
    where = found(located(spec, params, computed(spec, wrong, given, "float32"), (spec, wrong)))
    assert (where.step, where.direction, where.gate, where.unit) == (steps - 1, 1, "i", 3)
    assert "limit" in picture(where)


def test_a_dense_layer_has_units_only() -> None:
    spec = Dense(helpers.FEATURES, UNITS)
    params = helpers.weights(spec, 1, "float32")
    given = Given(helpers.signal(spec, 1, "float32").astype(np.float64))
    wrong = changed(params, Key(0, 0, "kernel", ""), (2, 8))
    where = found(located(spec, params, computed(spec, wrong, given, "float32")))
    assert (where.layer, where.unit, where.step, where.steps) == (0, 8, None, None)
    assert located(spec, params, computed(spec, params, given, "float32")) is None


@pytest.mark.parametrize(
    ("spec", "other"),
    [
        (recurrent("gru"), recurrent("rnn")),
        (recurrent("lstm"), recurrent("lstm", proj_size=5)),
        (recurrent("rnn"), Dense(7, 9)),
    ],
    ids=str,
)
def test_another_kind_of_layer_on_the_other_side_tells_no_gate(spec: Recurrent, other: Layer) -> None:
    """Its states mean something else, so that no step can go on from them."""
    params, given = drawn(spec)
    evidence = only(computed(spec, helpers.weights(spec, 5, "float32"), given, "float32"), "sequence")
    where = found(located(spec, params, evidence, (other, helpers.weights(other, 5, "float32"))))
    assert (where.step, where.stage, where.gates) == (0, None, {})


def test_equal_sides_depart_nowhere() -> None:
    spec = recurrent("lstm", **STACK)
    params, given = drawn(spec)
    assert located(spec, params, computed(spec, params, given, "float32"), (spec, params), live(spec, params)) is None


# ---- Pictures.

SMALL = Where(
    "",
    step=2,
    steps=np.array([0.5, 2.0, 40.0, 4e3]),
    local=np.array([0.4, 3.0, 30.0, np.nan]),
    gates={"r": np.array([0.0, 1e-9, 0.5, 0.04]), "z": np.array([0.0, 0.0, 0.0, np.nan])},
)


def test_a_picture_line_by_line() -> None:
    assert picture(SMALL).splitlines() == [
        "error over time, times the rounding noise",
        "● with what earlier steps have done   ○ each step by itself   ◉ both",
        "",
        "     1000 ┤            ●",
        "      100 ┤",
        "       10 ┤        ◉",
        "    limit ┼╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌",
        "        1 ┤    ◉",
        "      < 1 ┤◉",
        "          └────────────────",
        "           0           3   time step",
        "                   ▲ begins at 2",
        "",
        "largest difference of each gate, both sides in the same states; each step of height is a factor of 10",
        "",
        "   gate r  ········████▇▇▇▇   up to 0.5",
        "   gate z  ············       up to 0",
    ]


def test_the_mark_of_the_beginning_stands_below_its_step() -> None:
    for step in range(6):
        where = Where("", step=step, steps=np.full(6, 50.0))
        lines = picture(where).splitlines()
        mark = next(line for line in lines if "▲" in line)
        axis = next(line for line in lines if "time step" in line)
        assert mark.index("▲") == axis.index("0") + 4 * step
        assert f"begins at {step}" in mark


@pytest.mark.parametrize("steps", [1, 2, 7, 59, 60, 61, 119, 1000])
@pytest.mark.parametrize("largest", [0.0, 50.0, 1e8, 1e37, np.inf])
def test_pictures_keep_to_their_width(steps: int, largest: float) -> None:
    values = np.linspace(0.01, 1, steps)
    values[steps // 2] = largest
    where = Where("", step=steps // 2, steps=values, local=values[::-1].copy(), gates={"forget": values[::-1].copy()})
    lines = picture(where).splitlines()
    assert max(map(len, lines)) <= 101
    assert len(lines) <= 24
    limit = next(i for i, line in enumerate(lines) if line.strip().startswith("limit"))
    above = "".join(line.partition("┤")[2] for line in lines[3:limit])
    # One column of each series departs, or none: also where columns stand for several steps.
    assert sum(2 if mark == "◉" else 1 for mark in above if mark in "●○◉") == (2 if largest > 10 else 0)


def test_a_column_shows_the_largest_of_its_steps() -> None:
    values = np.full(600, 0.5)
    values[599] = 30
    lines = picture(Where("", steps=values)).splitlines()
    assert next(line for line in lines if line.strip().startswith("10 ┤")).rstrip().endswith(" " * 59 + "●")


def diagnosis(where: Where | None) -> Diagnosis:
    return Diagnosis("explained", "", "a.keras: enc", "b.pt: $\\frac$", recurrent("gru"), 1e4, 0.1, where=where)


def test_a_plot_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    path.write_bytes(b"of before")
    plot(diagnosis(SMALL), path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert [p.name for p in tmp_path.iterdir()] == ["plot.png"]
    plot(replace(SMALL, gates={}), path)
    assert path.read_bytes() != data


def test_a_plot_as_text_says_what_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "plot.SVG"
    plot(diagnosis(replace(SMALL, steps=np.array([0.5, 2.0, np.inf, np.inf]))), path)
    text = path.read_text(encoding="utf-8")
    for words in ("each step by itself", "limit, 10", "begins at 2", "gate r", "gate z", "no number", "b.pt: $\\frac$"):
        assert words in text, words


def test_a_line_stops_where_there_is_no_number() -> None:
    figure = _drawn(replace(SMALL, steps=np.array([0.5, np.inf, 40.0, 4e3])), "")
    drift, _, lost = figure.axes[0].get_lines()[:3]
    assert np.isnan(drift.get_ydata()).tolist() == [False, True, False, False]
    assert lost.get_xdata().tolist() == [1]


@pytest.mark.parametrize("name", ["plot.txt", "plot", "plot.png.gz"])
def test_another_kind_of_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"\.png, \.pdf, \.svg"):
        plot(SMALL, tmp_path / name)


@pytest.mark.parametrize("where", [None, Where("It departs.", unit=3)])
def test_nothing_is_plotted_where_nothing_is_known_over_time(where: Where | None, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nothing to plot"):
        plot(diagnosis(where), tmp_path / "plot.png")


def test_a_plot_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="choose another place"):
        plot(SMALL, tmp_path / "missing" / "plot.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FileError, match="choose another place"):
        plot(SMALL, tmp_path / "folder.png")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


def test_without_matplotlib_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xframe.diagnosis.plot.find_spec", lambda name: None)
    with pytest.raises(MissingFrameworkError, match=r"pip install 'xframe\[plot\]'"):
        plot(SMALL, tmp_path / "plot.png")


def test_plotting_uses_no_window_system_and_pictures_no_matplotlib(tmp_path: Path) -> None:
    script = f"""
import sys
import numpy as np
from xframe.diagnosis import Where
from xframe.diagnosis.picture import picture
from xframe.diagnosis.plot import plot
import xframe.diagnosis.where
where = Where("", step=0, steps=np.array([20.0, 1.0]))
picture(where)
assert "matplotlib" not in sys.modules
plot(where, {str(tmp_path / "plot.png")!r})
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
