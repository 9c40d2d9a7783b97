"""Masks, states, merges, dropout: what today's converters get wrong in silence, and what a verdict says about it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import xframe
from xframe import Recurrent, Sequential, mistakes, noise, reference
from xframe.activations import ACTIVATIONS
from xframe.adapters import (
    Adapter,
    KerasAdapter,
    TorchAdapter,
    get_adapter,
    known_adapters,
    known_packings,
    usual_adapters,
)
from xframe.arithmetic import FUNCTIONS
from xframe.comparison import compare_spec
from xframe.errors import SpecError, UnsupportedError
from xframe.probe import Probe, draw_input, draw_masks, draw_parameters, draw_state
from xframe.reference import Given, Outputs
from xframe.suite import OPTIONS, full_grid

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import support_table

Run = Callable[..., Outputs]


def masked(cell: str = "lstm", **options: Any) -> Recurrent:
    return Recurrent(cell, 3, 5, **{"mask": "any", "masked_output": "zero", **options})


# ---- Each case that a converter of today gets wrong without a word.


def test_sequence_lengths_ignored_in_a_packed_bidirectional_lstm(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tool ignores the lengths: its backward half reads the padding first, so that valid steps are wrong too."""
    spec = masked(bidirectional=True, mask="right")
    assert type(TorchAdapter().build(spec)) is torch.nn.LSTM
    assert xframe.compare(spec)
    right = TorchAdapter.run
    monkeypatch.setattr(TorchAdapter, "run", lambda self, layer, x, state=None, mask=None: right(self, layer, x, state))
    verdict = xframe.compare(spec)
    assert verdict.status == "different"
    wrong = [c for c in verdict.checks if c.status == "different"]
    assert {(c.framework, c.initial_state) for c in wrong} == {("torch", "given, mask 1")}
    sequences = [c for c in wrong if c.output == "sequence" and c.dtype == "float64"]
    assert sequences
    assert all("only at masked time steps" not in c.reason for c in sequences), "valid steps are wrong as well"


def test_the_state_of_a_stateful_layer_is_not_part_of_its_weights() -> None:
    """One tool exports a stateful layer with the states it happens to be in."""
    layer = keras.layers.LSTM(5, stateful=True, return_sequences=True)
    layer.build((2, None, 3))
    layer(np.ones((2, 4, 3), "float32"))
    before = [keras.ops.convert_to_numpy(s).copy() for s in layer.states]
    assert all(np.abs(s).min() > 0 for s in before)
    spec = KerasAdapter().spec(layer)
    assert (spec.stateful, spec.batch_size) == (True, 2)
    target = TorchAdapter().build(spec)
    xframe.transfer(layer, target)
    fresh = {name: buffer.abs().max().item() for name, buffer in target.named_buffers()}
    assert fresh
    assert set(fresh.values()) == {0.0}
    verdict = xframe.compare(layer, target)
    assert verdict, verdict.reason
    assert any(c.initial_state == "carried" for c in verdict.checks)
    for now, then in zip(layer.states, before, strict=True):
        assert np.array_equal(keras.ops.convert_to_numpy(now), then), "a comparison must leave the user's states alone"


def test_dropout_that_a_one_layer_torch_lstm_never_applies() -> None:
    """One tool gives it to every Keras layer. PyTorch's acts between layers, Keras's on the inputs: they are not one."""
    with pytest.warns(UserWarning, match="dropout"):
        single = torch.nn.LSTM(3, 5, dropout=0.5)
    spec = TorchAdapter().spec(single)
    assert (spec.dropout, spec.input_dropout, spec.recurrent_dropout) == (0, 0, 0)
    assert KerasAdapter().build(spec).dropout == 0
    stack = TorchAdapter().spec(torch.nn.LSTM(3, 5, num_layers=2, dropout=0.5))
    assert (stack.dropout, stack.input_dropout) == (0.5, 0)
    names = [type(one).__name__ for one in KerasAdapter().build(stack).layers]
    assert names == ["LSTM", "Dropout", "LSTM"]
    theirs = keras.layers.LSTM(5, dropout=0.25, recurrent_dropout=0.125)
    theirs.build((None, None, 3))
    spec = KerasAdapter().spec(theirs)
    assert (spec.dropout, spec.input_dropout, spec.recurrent_dropout) == (0, 0.25, 0.125)
    assert xframe.compare(spec)
    explained = " ".join(xframe.explain(spec).reasons)
    assert "input_dropout=0.25 acts in training only" in explained
    assert "does nothing at inference" in explained


def test_an_option_that_does_nothing_at_inference_is_no_difference() -> None:
    """Folded biases are rounded; that must not pass for another function because the dropout differs as well."""
    torch.manual_seed(8)
    source = torch.nn.LSTM(3, 5)
    target = keras.layers.LSTM(5, dropout=0.2, recurrent_dropout=0.1, return_sequences=True)
    target.build((None, None, 3))
    xframe.transfer(source, target)
    for pair in ((source, target), (target, source)):
        verdict = xframe.compare(*pair)
        assert verdict, verdict.reason
        assert not verdict.parameters[0].equal, "nothing was rounded"
        assert any("input_dropout" in note and "no dropout acts at inference" in note for note in verdict.notes)


def test_weights_go_into_the_real_layers_of_pytorch() -> None:
    for cell, kind in (("rnn", torch.nn.RNN), ("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU)):
        native = TorchAdapter().build(Recurrent(cell, 3, 5, num_layers=2, bidirectional=True))
        assert type(native) is kind


@pytest.mark.parametrize(
    "spec",
    [
        Recurrent("gru", 3, 5, reset_after=False),
        Recurrent("lstm", 3, 5, proj_size=2, bidirectional=True, num_layers=2),
        masked("gru", masked_output="repeat"),
    ],
    ids=["reset_after=False", "proj_size", "gaps in a mask"],
)
def test_what_no_converter_knows(spec: Recurrent) -> None:
    verdict = xframe.compare(spec)
    assert verdict, verdict.reason
    assert verdict.frameworks == tuple(usual_adapters())


# ---- Mutations: a framework that does the wrong thing turns the verdict, and only its own outputs.


def break_run(monkeypatch: pytest.MonkeyPatch, framework: type, change: Callable[..., Outputs]) -> None:
    right = framework.run
    monkeypatch.setattr(
        framework, "run", lambda self, layer, x, state=None, mask=None: change(right, self, layer, x, state, mask)
    )


def late(mask: np.ndarray) -> np.ndarray:
    """Each sequence one step longer than it is."""
    return np.concatenate([np.ones_like(mask[:, :1]), mask[:, :-1]], axis=1)


def other_mask(change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[..., Outputs]:
    return lambda right, self, layer, x, state, mask: right(
        self, layer, x, state, None if mask is None else change(mask)
    )


def exchanged(right: Run, self: Any, layer: Any, x: np.ndarray, state: Any, mask: Any) -> Outputs:
    return right(self, layer, x, state and {"h": state["c"], "c": state["h"]}, mask)


def results_exchanged(right: Run, self: Any, layer: Any, x: np.ndarray, state: Any, mask: Any) -> Outputs:
    out = right(self, layer, x, state, mask)
    return replace(out, states={"h": out.states["c"], "c": out.states["h"]})


def not_carried(right: Run, self: Any, layer: Any, x: np.ndarray, state: Any, mask: Any) -> Outputs:
    self.reset(layer)
    return right(self, layer, x, state, mask)


BROKEN: dict[str, tuple[Recurrent, Callable[..., Outputs]]] = {
    "mask ignored": (masked(), other_mask(lambda mask: None)),
    "mask left for right": (masked("gru"), other_mask(lambda mask: mask[:, ::-1].copy())),
    "mask off by one": (masked("rnn", masked_output="repeat"), other_mask(late)),
    "mask inverted": (masked("gru", masked_output="repeat"), other_mask(lambda mask: ~mask)),
    "states h and c exchanged going in": (masked(), exchanged),
    "states h and c exchanged coming out": (Recurrent("lstm", 3, 5), results_exchanged),
    "state not carried": (Recurrent("gru", 3, 5, stateful=True, batch_size=2), not_carried),
}


@pytest.mark.parametrize("framework", [KerasAdapter, TorchAdapter], ids=["keras", "torch"])
@pytest.mark.parametrize(("spec", "change"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_run_turns_the_verdict(
    spec: Recurrent, change: Callable[..., Outputs], framework: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = xframe.compare(spec)
    assert before.status == "equivalent", before.reason
    break_run(monkeypatch, framework, change)
    verdict = xframe.compare(spec)
    assert verdict.status == "different"
    assert {c.framework for c in verdict.checks if c.status == "different"} == {framework.packing.name}


def test_a_state_that_is_not_reset_turns_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchAdapter, "reset", lambda self, layer: None)
    verdict = xframe.compare(Recurrent("gru", 3, 5, stateful=True, batch_size=2))
    assert verdict.status == "different"
    assert {c.framework for c in verdict.checks if c.status == "different"} == {"torch"}


def slip(spec: Recurrent, **options: Any) -> xframe.Verdict:
    """A Keras layer against a PyTorch one with the same weights and another option."""
    layer = KerasAdapter().build(spec)
    wrong = TorchAdapter().build(replace(spec, **options))
    TorchAdapter().load(wrong, KerasAdapter().parameters(layer))
    return xframe.compare(layer, wrong)


BOTH = Recurrent("lstm", 3, 5, bidirectional=True, merge_mode="sum")
STACK = Recurrent("gru", 3, 5, bidirectional=True, stacked=(Recurrent("lstm", 5, 4), Recurrent("rnn", 4, 6)))
SLIPS: dict[str, tuple[Recurrent, dict[str, Any]]] = {
    "stacked cells": (STACK, {"stacked": (STACK.stacked[0], Recurrent("rnn", 4, 6, activation="relu"))}),
    "stacked cells, merge_mode": (replace(STACK, merge_mode="sum"), {"merge_mode": "ave"}),
    "merge_mode": (BOTH, {"merge_mode": "ave"}),
    "merge_mode of a product": (BOTH, {"merge_mode": "mul"}),
    "hard_sigmoid of another Keras": (
        Recurrent("gru", 3, 5, recurrent_activation="hard_sigmoid"),
        {"recurrent_activation": "hard_sigmoid_keras2"},
    ),
    "sigmoid for hard_sigmoid": (
        Recurrent("lstm", 3, 5, recurrent_activation="hard_sigmoid_keras2"),
        {"recurrent_activation": "sigmoid"},
    ),
    "silu for gelu": (Recurrent("rnn", 3, 5, activation="gelu"), {"activation": "silu"}),
    "go_backwards": (Recurrent("gru", 3, 5, go_backwards=True), {"go_backwards": False}),
    "stateful": (Recurrent("rnn", 3, 5, stateful=True, batch_size=3), {"stateful": False, "batch_size": None}),
}


@pytest.mark.parametrize(("spec", "options"), SLIPS.values(), ids=SLIPS)
def test_another_option_turns_the_verdict(spec: Recurrent, options: dict[str, Any]) -> None:
    assert slip(spec).status == "equivalent"
    # Whichever of the two is held against the other.
    for one, other in ((spec, options), (replace(spec, **options), {name: getattr(spec, name) for name in options})):
        verdict = slip(one, **other)
        assert verdict.status == "different"
        assert any(next(iter(options)) in note for note in verdict.notes)


MISTAKES: dict[str, tuple[Recurrent, set[str]]] = {
    "masks": (
        masked("gru"),
        {
            "mask ignored",
            "mask from the wrong side (left for right)",
            "mask off by one",
            "the output before repeated at masked steps (as in a one-way Keras layer)",
        },
    ),
    "calls": (Recurrent("lstm", 3, 5, stateful=True, batch_size=2), {"state not carried to the next call"}),
    "merges": (BOTH, {"merge_mode mul instead of sum", "merge_mode ave instead of sum", "directions swapped"}),
    "directions": (Recurrent("rnn", 3, 5, bidirectional=True), {"backward output not flipped back"}),
    "go_backwards": (Recurrent("rnn", 3, 5, go_backwards=True), {"output flipped back", "time reversed"}),
    "stacked": (
        Recurrent("rnn", 3, 5, bidirectional=True, stacked=(Recurrent("rnn", 5, 5, activation="relu"),)),
        {
            "layers 0 and 1 swapped",
            "directions swapped",
            "backward output not flipped back",
            "recurrent kernel not transposed",
        },
    ),
    "activations": (
        Recurrent("gru", 3, 5, recurrent_activation="hard_sigmoid"),
        {
            "hard_sigmoid_keras2 instead of hard_sigmoid in the gates",
            "sigmoid instead of hard_sigmoid in the gates",
            "relu instead of tanh",
        },
    ),
}


@pytest.mark.parametrize(("spec", "names"), MISTAKES.values(), ids=MISTAKES)
def test_the_power_of_a_verdict_covers_what_the_layer_is_told(spec: Recurrent, names: set[str]) -> None:
    verdict = xframe.compare(spec, frameworks=["torch"])
    assert names <= verdict.power.margins.keys()
    assert min(verdict.power.margins[name] for name in names) > 1e6
    assert not verdict.power.missed


def test_what_a_layer_is_run_on() -> None:
    """Zero and given states, masks, and a second call with and without a mask, in every framework that is compared."""
    verdict = xframe.compare(masked("gru", stateful=True, batch_size=2))
    assert verdict, verdict.reason
    starts = ["zero", "given", "given, mask 1", "given, mask 2", "carried, mask 1", "carried"]
    assert verdict.frameworks == tuple(usual_adapters())
    for framework in verdict.frameworks:
        assert {c.initial_state for c in verdict.checks if c.framework == framework} == set(starts)
    report = " ".join(verdict.report().split())
    assert "without a mask and with 2 masks, and a second call that carries the states on" in report


def test_padding_that_is_read_first_cannot_repeat_and_is_no_mistake() -> None:
    """From the end, padding on the right comes before any output: repeated or zero, it is zeros."""
    spec = Recurrent("gru", 3, 5, go_backwards=True, mask="right", masked_output="repeat")
    verdict = xframe.compare(spec, frameworks=["torch"])
    assert verdict, verdict.reason
    assert "mask off by one" in verdict.power.margins
    assert "zeros at masked steps (as with zero_output_for_mask, packed sequences, cuDNN)" not in verdict.power.margins


# ---- Semantics that differ are explained, and a transfer keeps the source's or is refused.


def pair() -> tuple[Any, Any]:
    """The same weights in a one-way Keras layer and in a PyTorch one."""
    layer = keras.layers.LSTM(5, return_sequences=True)
    layer.build((None, None, 3))
    twin = torch.nn.LSTM(3, 5, batch_first=True)
    xframe.transfer(layer, twin)
    return layer, twin


def test_masked_outputs_that_differ_are_explained() -> None:
    layer, twin = pair()
    assert xframe.compare(layer, twin)
    verdict = xframe.compare(layer, twin, mask="right")
    assert verdict.status == "different"
    wrong = [c for c in verdict.checks if c.status == "different"]
    assert {(c.output, c.initial_state) for c in wrong} == {("sequence", "given, mask 1")}
    assert all("only at masked time steps, where it should be the output before" in c.reason for c in wrong)
    assert "masked_output: repeat and zero; valid steps and final states do not depend on it" in " ".join(verdict.notes)


def test_masks_that_agree_are_equivalent() -> None:
    layer = keras.layers.Bidirectional(keras.layers.GRU(5, return_sequences=True))
    layer.build((None, None, 3))
    twin = torch.nn.GRU(3, 5, bidirectional=True, batch_first=True)
    xframe.transfer(layer, twin, mask="right")
    verdict = xframe.compare(layer, twin, mask="right")
    assert verdict, verdict.reason
    assert any("mask" in c.initial_state for c in verdict.checks)


def test_a_transfer_that_would_change_masked_outputs_is_refused() -> None:
    layer, twin = pair()
    with pytest.raises(SpecError, match="masked_output='repeat' and the PyTorch layer has masked_output='zero'"):
        xframe.transfer(layer, twin, mask="right")
    with pytest.raises(UnsupportedError, match="padding on the right"):
        xframe.transfer(layer, twin, mask="any")


def test_a_layer_that_makes_a_mask_does_not_go_where_none_is_taken() -> None:
    model = keras.Sequential([keras.layers.Masking(0.0), keras.layers.GRU(5, return_sequences=True)])
    model.build((None, None, 3))
    spec = KerasAdapter().spec(model)
    assert (spec.mask, spec.masked_output) == ("any", "repeat")
    with pytest.raises(UnsupportedError, match="padding on the right"):
        xframe.transfer(model, torch.nn.GRU(3, 5))
    module = TorchAdapter().build(spec)
    xframe.transfer(model, module)
    x = np.random.default_rng(5).normal(size=(3, 6, 3)).astype("float32")
    x[0, 4:], x[1, :2], x[2, 3] = 0, 0, 0
    mask = (x != 0).any(axis=-1)
    theirs = keras.ops.convert_to_numpy(model(x))
    mine = module(torch.as_tensor(x), mask=torch.as_tensor(mask))[0].detach().numpy()
    assert np.abs(theirs - mine).max() < 1e-6
    assert np.abs(theirs - module(torch.as_tensor(x))[0].detach().numpy()).max() > 1e-2


def test_a_layer_that_makes_a_mask_is_compared_with_it() -> None:
    model = keras.Sequential([keras.layers.Masking(0.5), keras.layers.GRU(5, return_sequences=True)])
    model.build((None, None, 3))
    module = TorchAdapter().build(KerasAdapter().spec(model))
    xframe.transfer(model, module)
    for pair in ((model, module), (module, model)):
        # A module that is given a mask makes none itself.
        alone = xframe.compare(*pair)
        assert alone.status == "different"
        assert "masks no time step" in alone.reason
        verdict = xframe.compare(*pair, mask="any")
        assert verdict, verdict.reason
        assert any("mask" in c.initial_state for c in verdict.checks)
    other = TorchAdapter().build(replace(module.spec, masked_output="zero"))
    other.load_state_dict(module.state_dict())
    assert xframe.compare(model, other, mask="any").status == "different"
    # One that takes no such mask is not compared without it, whichever comes first.
    for pair in ((model, torch.nn.GRU(3, 5)), (torch.nn.GRU(3, 5), model)):
        with pytest.raises(UnsupportedError, match="padding on the right"):
            xframe.compare(*pair, mask="any")


@pytest.mark.parametrize("option", ["merge_mode", "go_backwards", "backward"])
def test_a_transfer_into_another_function_is_refused(option: str) -> None:
    spec = Recurrent("lstm", 3, 5, bidirectional=True)
    other = {"merge_mode": "sum", "go_backwards": True, "backward": Recurrent("gru", 3, 5)}[option]
    source, target = KerasAdapter().build(replace(spec, **{option: other})), TorchAdapter().build(spec)
    with pytest.raises(SpecError, match=option):
        xframe.transfer(source, target)


# ---- Half precision.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_half_precision(cell: str, dtype: str) -> None:
    verdict = xframe.compare(Recurrent(cell, 3, 5), dtypes=("float64", dtype))
    assert verdict, verdict.reason
    off = max(c.max_abs or 0 for c in verdict.checks if c.dtype == dtype)
    assert off > 2**-20, "it was not computed in half precision"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_number_of_a_probe_is_exact_in_the_type_that_is_judged(dtype: str) -> None:
    """Else the layer would hold other numbers than the reference."""
    spec, probe = masked("lstm", stateful=True, batch_size=2), Probe(dtype=dtype)
    numbers = [
        *draw_parameters(spec, 3, dtype).values(),
        *draw_state(spec, probe).values(),
        draw_input(spec, probe),
        draw_input(spec, probe, 1),
    ]
    for array in numbers:
        narrow = torch.as_tensor(array).to(getattr(torch, dtype)).to(torch.float64).numpy()
        assert np.array_equal(narrow, array)
        assert len(np.unique(np.abs(array))) > array.size / 3, "too coarse"


# ---- What TensorFlow rounds.


@pytest.mark.parametrize("name", [name for name, function in ACTIVATIONS.items() if function.single])
def test_a_constant_that_tensorflow_rounds_to_float32(name: str) -> None:
    """If this fails, TensorFlow has mended it, and the function can be judged in float64 like the others."""
    x = np.linspace(-3, 3, 101)
    theirs = keras.ops.convert_to_numpy(keras.activations.get(name)(keras.ops.convert_to_tensor(x, dtype="float64")))
    mine = FUNCTIONS[name](x)
    assert theirs.dtype == np.float64
    assert 1e-10 < np.abs(theirs - mine).max() < 1e-6
    verdict = xframe.compare(Recurrent("lstm", 3, 5, activation=name))
    assert verdict, verdict.reason
    assert verdict.power.weakest[1] > 1e3, "a mistake is still far outside"


# ---- Counts.


def test_a_shared_layer_is_counted_once() -> None:
    layer = Recurrent("gru", 4, 4)
    shared, apart = Sequential(layer, layer), Sequential(layer, Recurrent("gru", 4, 4))
    # 3 (4*4 + 4*4 + 2*4) = 120
    assert xframe.count(shared)["torch"].stored == 120
    assert xframe.count(apart)["torch"].stored == 240
    verdict = xframe.compare(shared)
    assert verdict, verdict.reason
    assert "has one set of weights and is counted once" in verdict.report()


# ---- What holds for the upper ones of stacked cells as well.


def on_five(cell: str, **options: Any) -> Recurrent:
    """A layer of 5 units that goes backwards, under another cell."""
    return Recurrent("gru", 3, 5, go_backwards=True, stacked=(Recurrent(cell, 5, 4, **options),))


def test_stacked_cells_of_two_kinds_are_of_different_shapes() -> None:
    """Both have a state h of 4."""
    verdict = xframe.compare(KerasAdapter().build(on_five("rnn")), TorchAdapter().build(on_five("gru")))
    assert verdict.status == "different"
    assert "different shapes: GRU(5) on 3 features" in verdict.reason


def test_a_transfer_between_stacked_cells_that_differ_is_refused() -> None:
    source, target = KerasAdapter().build(on_five("rnn")), TorchAdapter().build(on_five("rnn", activation="relu"))
    with pytest.raises(SpecError, match=r"stacked=SimpleRNN\(4\) on 5 features and .* stacked=SimpleRNN\(4\) .* relu"):
        xframe.transfer(source, target)


def test_a_probe_is_searched_for_stacked_cells() -> None:
    """At the first draw this function makes outputs that overflow."""
    wild = Recurrent("gru", 5, 4, activation="exponential", recurrent_activation="exponential")
    verdict = xframe.compare(Recurrent("rnn", 3, 5, stacked=(wild,)), frameworks=["torch"], dtypes=["float64"])
    assert verdict.status == "equivalent", verdict.reason


def test_a_probe_through_a_wide_stacked_cell_is_too_large() -> None:
    narrow, probe = Recurrent("rnn", 1, 1), Probe(batch=1_000, steps=1_000)
    probe.check_size(narrow)
    with pytest.raises(SpecError, match="too large"):
        probe.check_size(replace(narrow, stacked=(Recurrent("rnn", 1, 100),)))


def test_a_constant_in_float32_in_a_stacked_cell() -> None:
    spec = Recurrent("rnn", 3, 5, stacked=(Recurrent("gru", 5, 4, activation="gelu"),))
    x = draw_input(spec, Probe())
    found = noise.measure(spec, draw_parameters(spec, 0), Given(x), "float64")
    assert found.deviation["sequence"].max() > 1e-9


def test_the_backward_half_is_what_stands_beside_the_top_of_the_forward_stack() -> None:
    spec = Recurrent("rnn", 3, 5, bidirectional=True, stacked=(Recurrent("rnn", 5, 4),))
    params, given = draw_parameters(spec, 0), Given(draw_input(spec, Probe()))
    wrong = dict(mistakes.variations(spec, params, given))["backward output not flipped back"]
    right, other = reference.run_given(spec, params, given).sequence, wrong.run()["sequence"]
    assert np.array_equal(other[..., :4], right[..., :4])
    assert np.array_equal(other[..., 4:], right[:, ::-1, 4:])


# ---- The full grid.


def test_the_full_grid_has_all_pairs_that_are_possible() -> None:
    rows = [one.values for one in full_grid(Probe())]
    assert len(rows) >= 200
    assert all(list(row) and set(row) == set(OPTIONS) for row in rows)
    found = {frozenset(two) for row in rows for two in combinations(row.items(), 2)}

    def both(one: str, value: str, other: str, values: Any) -> list[frozenset[tuple[str, str]]]:
        return [frozenset({(one, value), (other, v)}) for v in values]

    options = {name: list(values) for name, values in OPTIONS.items()}
    impossible = {
        # An rnn has no gates, and the others have.
        *both("cell", "rnn", "recurrent_activation", options["recurrent_activation"][1:]),
        *both("recurrent_activation", "none", "cell", options["cell"][1:]),
        # A bare cell knows no time, and PyTorch's have no options.
        *both("form", "cell", "direction", options["direction"][1:]),
        *both("form", "cell", "mask", options["mask"][1:]),
        *both("form", "cell", "layers", options["layers"][1:]),
        *both("form", "cell", "stateful", ["yes"]),
        *both("form", "cell", "dropout", options["dropout"][1:]),
        *both("form", "cell", "cell", ["lstm, projected", "gru, reset before"]),
        *both("form", "cell", "activation", set(options["activation"]) - {"tanh", "relu"}),
        *both("form", "cell", "recurrent_activation", set(options["recurrent_activation"]) - {"none", "sigmoid"}),
        # What no other layer can read, and what is of one layer.
        *both("direction", "both, not merged", "layers", ["2", "3"]),
        *both("direction", "both, backward differs", "layers", ["2", "3"]),
        *both("dropout", "between layers", "direction", ["both, not merged", "both, backward differs"]),
        *both("dropout", "between layers", "layers", ["1", "stacked cells", "stacked cells that differ"]),
    }
    for mask in ("right, repeat", "any, repeat"):
        # Keras's Bidirectional writes zeros.
        impossible |= set(both("mask", mask, "direction", [d for d in options["direction"] if d.startswith("both")]))
    for (one, values), (other, others) in combinations(OPTIONS.items(), 2):
        for value in values:
            for another in others:
                two = frozenset({(one, value), (other, another)})
                assert (two in found) is (two not in impossible), set(two)


def test_the_full_grid_follows_its_seed() -> None:
    first, again, other = ([(c.spec, c.probe) for c in full_grid(Probe(seed=seed))] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_in_the_full_grid_the_layers_that_weights_were_moved_to_are_judged() -> None:
    spec = Recurrent("gru", 3, 5)
    for frameworks, judged in ((None, {"from Keras", "from PyTorch"}), (["torch"], {"loaded"})):
        verdict = compare_spec(spec, frameworks, ("float64",), Probe(), strict=True, moved_only=True)
        assert {c.weights for c in verdict.checks} == judged
        assert {c.framework for c in verdict.checks} == set(verdict.frameworks)


def sample(share: int, first: int = 0) -> list[Any]:
    return full_grid(Probe())[first::share]


@pytest.mark.parametrize("one", sample(58, 7), ids=str)
def test_some_of_the_full_grid(one: Any) -> None:
    verdict = compare_spec(one.spec, None, ("float64", "float32"), one.probe, strict=True)
    assert verdict.status == "equivalent", verdict.reason


@pytest.mark.slow
def test_a_seventh_of_the_full_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole takes seven times as long: `xframe compare --suite full`."""
    from xframe import suite as suites
    from xframe.suite import run_suite

    some = sample(7)
    monkeypatch.setattr(suites, "full_grid", lambda probe: some)
    # What each rounds to in float32 is judged of some, above.
    suite = run_suite(Probe(), dtypes=("float64",), name="full")
    assert suite.status == "equivalent", suite.reason
    assert not suite.left_out
    assert len(suite.verdicts) == len(some) > 100
    # Each is of a layer that the usual frameworks have; of the others, hardly any is asked.
    for verdict in suite.verdicts:
        assert verdict.frameworks == tuple(usual_adapters())
        assert not verdict.not_compared
        assert {c.framework for c in verdict.checks} == set(verdict.frameworks)
    assert all(any(c.initial_state == "carried" for c in v.checks) == v.model.stateful for v in suite.verdicts)
    report = " ".join(suite.report().split())
    assert "VERDICT: equivalent." in report
    assert "xframe.torch.Recurrent in" in report


def test_masks_of_every_kind_are_drawn() -> None:
    for batch, steps in ((1, 4), (2, 5), (3, 7), (5, 6)):
        drawn = np.concatenate(draw_masks(masked(), Probe(batch=batch, steps=steps)))
        assert any(not row[0] and row[-1] for row in drawn), "padding on the left"
        assert any(row[0] and not row[-1] for row in drawn), "padding on the right"
        assert any((np.diff(row.astype(int)) != 0).sum() >= 2 for row in drawn), "a gap"
        assert batch == 1 or any(not row.any() for row in drawn), "nothing valid"
        lengths = np.concatenate(draw_masks(masked(mask="right"), Probe(batch=batch, steps=steps))).sum(axis=1)
        assert lengths.min() >= 1
        assert lengths[0] == steps - 1


# ---- The support table tells the truth.

PLACES = [
    (framework, cell, option)
    for framework in known_adapters()
    for cell in ("rnn", "lstm", "gru")
    for option in support_table.OPTIONS
    if support_table.spec_of(cell, option)
]


@pytest.mark.parametrize(("framework", "cell", "option"), PLACES)
def test_the_support_table(framework: str, cell: str, option: str) -> None:
    spec, adapter = support_table.spec_of(cell, option), get_adapter(framework)
    word, why = support_table.option_support(known_packings()[framework], spec)
    if word == "no":
        with pytest.raises(UnsupportedError):
            adapter.build(spec)
        assert why.endswith(".")
        return
    layer = adapter.blank(spec, "float32")  # the same layer, for which JAX need not compile how its weights are drawn
    assert bool(ours(adapter, layer)) is (word == "module"), (word, ours(adapter, layer))
    # What was built is understood as what was asked for, where the framework's layer can say so.
    assert replace(adapter.spec(layer, spec.mask), mask=spec.mask) == spec


def test_the_support_table_in_short() -> None:
    """Every place of the table of the other frameworks, spelled out again, is what the layout says."""
    header, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in support_table.others().splitlines()
    ]
    packings = {
        p.title: p for name, p in known_packings().items() if name in set(known_adapters()) - set(usual_adapters())
    }
    assert header == ["option", *packings]
    assert [row[0] for row in rows] == list(support_table.OPTIONS)
    titles = {"SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
    words = set()
    for option, *places in rows:
        for packing, place in zip(packings.values(), places, strict=True):
            told = dict.fromkeys(titles.values(), place)
            if "(" in place:
                told = {titles[c]: w for w, cells in re.findall(r"(\w+) \(([^)]*)\)", place) for c in cells.split(", ")}
            for cell, word in told.items():
                spec = support_table.spec_of(cell, option)
                if spec and (option == "as it is" or cell in packing.rows):
                    assert word == support_table.option_support(packing, spec)[0], (option, packing.title, cell)
                    words.add(word)
    assert words == {"exact", "no"}


def ours(adapter: Adapter, layer: Any) -> set[str]:
    """The modules of xframe that have a part of a native layer."""
    return {kind for part in parts_of(adapter, layer) if (kind := type(part).__module__).startswith("xframe.")}


def parts_of(adapter: Adapter, layer: Any) -> list[Any]:
    """The layer and all that it is made of: what it lists itself, what is in lists, and attributes of the framework's classes."""
    if isinstance(layer, torch.nn.Module):
        return list(layer.modules())
    if isinstance(layer, keras.Layer):
        return [layer, *(one for one in layer._flatten_layers() if one is not layer)]
    found, waiting = {}, [layer]
    while waiting:
        one = waiting.pop()
        if id(one) in found:
            continue
        found[id(one)] = one
        if isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
        elif adapter.owns(one):
            waiting += getattr(one, "__dict__", {}).values()
    return list(found.values())


@pytest.mark.parametrize("framework", [name for name in known_adapters() if name != "onnx"])
def test_a_part_of_xframes_is_seen(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one of the classes that a layer is made of, however deep in it, is xframe's. A model of ONNX has no classes."""
    adapter = get_adapter(framework)
    layer = adapter.build(Recurrent("lstm", 3, 5, num_layers=2, bidirectional=True))
    assert not ours(adapter, layer)
    cells = {type(part) for part in parts_of(adapter, layer) if type(part).__name__ in ("LSTM", "LSTMCell")}
    assert len(cells) in (1, 2)
    for cell in cells:
        with monkeypatch.context() as patch:
            patch.setattr(cell, "__module__", "xframe.somewhere")
            assert ours(adapter, layer) == {"xframe.somewhere"}
