"""Whole models that are code of their author's own, or an ONNX file: run as they are, and held against the other side."""

from __future__ import annotations

import random
import re
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from test_cli import run
from torch import nn

import xframe
from xframe.adapters import get_adapter
from xframe.conversion import convert_file
from xframe.errors import UnsupportedError
from xframe.programs import program_of, program_of_onnx

layers = keras.layers
FEATURES, UNITS, MIDDLE, OUT = 4, 5, 3, 2
WORDS = 11


def filled(steps: list[Any], shape: tuple[int | None, ...], dtype: str = "float32", batch: int | None = None) -> Any:
    """A Keras model, every number of it distinct and not zero."""
    model = keras.Sequential([keras.Input(shape, batch_size=batch, dtype=dtype), *steps])
    drawn = np.random.default_rng(3)
    for variable in model.weights:
        values = drawn.uniform(0.2, 0.7, variable.shape) * drawn.choice([-1, 1], variable.shape)
        variable.assign(np.abs(values) if "variance" in variable.name else values)
    return model


@pytest.fixture(scope="module")
def tagger() -> Any:
    """The right model: two recurrent layers, a normalisation, a relu and a softmax."""
    steps = [
        layers.GRU(UNITS, return_sequences=True),
        layers.LayerNormalization(epsilon=1e-3),
        layers.LSTM(MIDDLE),
        layers.Dense(6, activation="relu"),
        layers.Dense(OUT, activation="softmax"),
    ]
    return filled(steps, (None, FEATURES))


class Port(nn.Module):
    """The same by hand; each of ``wrong`` is a mistake in the forward."""

    def __init__(self, source: Any, *wrong: str, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.wrong = wrong
        self.gru = nn.GRU(FEATURES, UNITS, batch_first="time" not in wrong)
        self.norm = nn.LayerNorm(UNITS, eps=epsilon)
        self.lstm = nn.LSTM(UNITS, MIDDLE, batch_first="time" not in wrong)
        self.hidden, self.head = nn.Linear(MIDDLE, 6), nn.Linear(6, OUT)
        for mine, theirs in ((0, self.gru), (2, self.lstm)):
            xframe.transfer(source.layers[mine], theirs)
        with torch.no_grad():
            for mine, theirs in ((1, self.norm), (3, self.hidden), (4, self.head)):
                for parameter, array in zip(theirs.parameters(), source.layers[mine].get_weights(), strict=True):
                    parameter.copy_(torch.from_numpy(array.T if array.ndim == 2 else array))

    def forward(self, x: Any) -> Any:
        wrong = self.wrong
        if "backwards" in wrong:
            x = x.flip(1)
        y, _ = self.gru(x)
        if "norm" not in wrong:
            y = self.norm(y)
        y, (h, _) = self.lstm(y)
        last = y.mean(1) if "mean" in wrong else h[-1]
        middle = self.hidden(last)
        middle = middle.tanh() if "tanh" in wrong else middle if "relu" in wrong else middle.relu()
        out = self.head(middle)
        return out if "softmax" in wrong else out.softmax(0 if "axis" in wrong else -1)


# A mistake in the forward, and what the verdict must say of it.
MISTAKES = {
    "backwards": "gru reading time backwards",
    "norm": "layer_normalization left out",
    "mean": "the average over time of lstm instead of its last output",
    "tanh": "tanh instead of relu at dense/activation",
    "relu": "no relu at dense/activation",
    "softmax": "no softmax at dense_1/activation",
    "axis": "",
    "time": "when it is given time before the batch",
}


def named(text: str) -> str:
    """Without the numbers that Keras adds to names."""
    return re.sub(r"_\d+", "_1", re.sub(r"(gru|lstm|layer_normalization)_\d+", r"\1", text)).replace(
        "dense_1/", "dense/"
    )


def test_a_right_port_is_equivalent(tagger: Any, tmp_path: Path) -> None:
    tagger.save(tmp_path / "tagger.keras")
    for a, b in ((tagger, Port(tagger)), (Port(tagger), tagger), (tmp_path / "tagger.keras", Port(tagger))):
        found = xframe.verify(a, b)
        assert (found.status, found.scope) == ("equivalent", "model"), found.reason
        assert found.whole is not None
        assert found.whole.inputs > 3
        assert xframe.assert_equivalent(a, b).scope == "model"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_forward_is_found_and_named(mistake: str, tagger: Any) -> None:
    """No weight tells any of them."""
    found = xframe.verify(tagger, Port(tagger, mistake))
    assert (found.status, found.scope) == ("different", "model")
    assert all(pair.status == "equivalent" for pair in found.pairs)
    assert named(MISTAKES[mistake]) in named(found.reason)
    assert xframe.verify(tagger, Port(tagger, mistake), scope="layers").status == "equivalent"
    with pytest.raises(AssertionError, match="differ"):
        xframe.assert_equivalent(tagger, Port(tagger, mistake))
    told = xframe.diagnose(tagger, Port(tagger, mistake))
    assert told.status in ("explained", "unexplained")


def test_two_mistakes_are_named_together(tagger: Any) -> None:
    found = xframe.verify(tagger, Port(tagger, "mean", "softmax"))
    assert found.diagnosis is not None
    assert found.diagnosis.status == "explained"
    assert "average over time" in found.reason
    assert "no softmax" in found.reason


def test_an_epsilon_is_seen(tagger: Any) -> None:
    found = xframe.verify(tagger, Port(tagger, epsilon=1e-5))
    assert found.status == "different"
    assert "they agree with epsilon 1e-05 instead of 0.001 at layer_normalization" in named(found.reason)


class Kept(nn.Module):
    """Begins each call with the states in which the one before ended, if the batch has as many rows."""

    def __init__(self, port: nn.Module, always: bool) -> None:
        super().__init__()
        self.port, self.always, self.before = port, always, None

    def forward(self, x: Any) -> Any:
        y = self.port(x)
        carried = self.before is not None and (self.always or len(self.before) == len(x))
        self.before, y = y, y + 0.1 * self.before if carried else y
        return y


@pytest.mark.parametrize("always", [False, True], ids=["of as many rows", "of any"])
def test_what_is_handed_on_to_the_next_call_is_seen(always: bool, tagger: Any) -> None:
    found = xframe.verify(tagger, Kept(Port(tagger), always))
    assert (found.status, found.scope) == ("different", "model")
    assert "hands something on from one call to the next: its first call is right, and call 2 in turn is off" in (
        found.reason
    )


def test_a_model_that_takes_one_size_only_after_its_first_call(tagger: Any) -> None:
    class Sized(Port):
        rows = 0

        def forward(self, x: Any) -> Any:
            self.rows = self.rows or len(x)
            if len(x) != self.rows:
                raise ValueError("another batch")
            return super().forward(x)

    found = xframe.verify(tagger, Sized(tagger))
    assert found.status == "different"
    assert "call 3 in turn fails (ValueError: another batch)" in found.reason


CUT = {
    "the first 16 steps": lambda x: x[:, :16],
    "the last 16 steps": lambda x: x[:, -16:],
    "small numbers": lambda x: torch.where(x.abs() < 0.01, 0.0, x),
    "rows": lambda x: x if len(x) < 4 else x - 0.01 * x.mean(0),
    "padding": lambda x: x * (1 + 0.1 * (x.abs().sum(-1) > 0).sum(1).eq(x.shape[1])[:, None, None]) / 1.1,
}


class Plain(nn.Module):
    """A GRU and a dense layer; ``cut`` is what is done with the input."""

    def __init__(self, model: Any, cut: Any = lambda x: x) -> None:
        super().__init__()
        self.gru, self.head, self.cut = nn.GRU(FEATURES, UNITS, batch_first=True), nn.Linear(UNITS, OUT), cut
        xframe.transfer(model.layers[0], self.gru)
        xframe.transfer(model.layers[1], self.head)

    def forward(self, x: Any) -> Any:
        return self.head(self.gru(self.cut(x))[1][-1])


@pytest.mark.parametrize("what", CUT)
def test_what_a_forward_does_with_other_inputs_only(what: str) -> None:
    """Longer ones, smaller ones, larger batches, and rows that end in zeros."""
    model = filled([layers.GRU(UNITS), layers.Dense(OUT)], (None, FEATURES))
    right = xframe.verify(model, Plain(model))
    assert right.status == "equivalent", right.reason
    assert any("1 to 5 rows, 1 to 150 time steps, largest numbers from 0.001 to 1e+03" in note for note in right.notes)
    assert xframe.verify(model, Plain(model, CUT[what])).status == "different"


@pytest.mark.parametrize("dtype", ["half", "bfloat16"])
def test_a_copy_of_16_bits_of_a_right_port(dtype: str, tagger: Any) -> None:
    model = filled([layers.GRU(UNITS), layers.Dense(OUT)], (None, FEATURES))
    found = xframe.verify(model, getattr(Plain(model), dtype)())
    assert (found.status, found.scope) == ("equivalent", "model"), found.reason
    assert xframe.verify(model, getattr(Plain(model, lambda x: x.flip(1)), dtype)()).status == "different"
    # Behind a softmax little is to be seen in so few digits; the numbers of the normalisation are those that were rounded.
    weak = xframe.verify(tagger, getattr(Port(tagger), dtype)())
    assert weak.status in ("equivalent", "inconclusive")
    assert weak.status == "equivalent" or "above the rounding noise of" in weak.reason
    assert not xframe.verify(tagger, getattr(Port(tagger, "mean"), dtype)())


def test_training_mode_is_named(tagger: Any) -> None:
    """Of a class of the user's own always, of a Sequential where a module of it computes something else then."""
    told = "is in training mode, and was judged in evaluation mode"
    assert any(told in note for note in xframe.verify(tagger, Port(tagger)).notes)
    assert not any(told in note for note in xframe.verify(tagger, Port(tagger).eval()).notes)
    adapter = get_adapter("torch")

    class Own(nn.Module):
        """Anything may have that name in a class of somebody's own."""

        dropout = torch.tensor([0.1, 0.2])

    assert told in adapter.mode(Own())
    assert told in adapter.mode(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2)))
    assert not adapter.mode(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))


def test_states_that_only_one_keeps() -> None:
    """Its first call is as that of the other one, and its second is not."""
    keeping, plain = (
        filled([layers.GRU(UNITS, stateful=one), layers.Dense(OUT)], (None, FEATURES), batch=2 if one else None)
        for one in (True, False)
    )
    for a, b in ((keeping, plain), (plain, keeping)):
        found = xframe.verify(a, b)
        assert found.status == "different"
        assert "keeps its states from call to call" in found.reason
    layer = xframe.verify(keeping.layers[0], plain.layers[0])
    assert (layer.status, layer.scope) == ("different", "layers")
    assert xframe.compare(keeping.layers[0], plain.layers[0]).status == "different"

    first, second = (
        filled(
            [layers.GRU(UNITS, return_sequences=True, stateful=one), layers.GRU(MIDDLE, stateful=not one)],
            (None, FEATURES),
            batch=2,
        )
        for one in (True, False)
    )
    found = xframe.verify(first, second)
    assert found.status == "different"
    assert "of the first model keeps its states from call to call (stateful), and its partner does not" in found.reason
    told = xframe.verify(keeping, Plain(plain))
    assert told.status == "inconclusive"
    assert "only first calls, from zero states, were judged" in told.reason
    assert xframe.verify(plain, Plain(plain)).status == "equivalent"


def test_nothing_of_a_model_is_changed_by_running_it(tagger: Any) -> None:
    class Keeps(Port):
        """Counts its calls and keeps a state, in a buffer and in an attribute; drops out even in evaluation."""

        def __init__(self, source: Any) -> None:
            super().__init__(source)
            self.register_buffer("calls", torch.zeros(()))
            self.kept: Any = None

        def forward(self, x: Any) -> Any:
            self.calls += 1
            self.kept = nn.functional.dropout(x, 0.5, training=True)
            return super().forward(x)

    model = Keeps(tagger)
    model.hidden.eval()
    modes, torch_state = {n: m.training for n, m in model.named_modules()}, torch.get_rng_state()
    numpy_state, python_state = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    # The counter is a number that Keras has no partner for.
    assert xframe.verify(tagger, model).whole.status == "equivalent"  # type: ignore[union-attr]
    assert {n: m.training for n, m in model.named_modules()} == modes
    assert model.kept is None
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert random.getstate() == python_state


def test_states_of_a_keras_model_are_left_as_they_are() -> None:
    steps = [keras.Input((None, FEATURES), batch_size=2), layers.GRU(UNITS, stateful=True), layers.Dense(OUT)]
    model = keras.Sequential(steps)
    model(np.random.default_rng(0).normal(size=(2, 3, FEATURES)).astype("float32"))
    before = model.layers[0].states[0].numpy().copy()
    assert before.any()
    adapter = get_adapter("keras")
    x = np.random.default_rng(1).normal(size=(2, 3, FEATURES)).astype("float32")
    first, second = (next(iter(adapter.calls(model, [x])))["output"] for _ in range(2))
    # Each time it begins with zero states.
    assert np.array_equal(first, second)
    twice = [outputs["output"] for outputs in adapter.calls(model, [x, x])]
    assert np.array_equal(twice[0], first)
    assert not np.allclose(twice[1], first)
    assert np.array_equal(model.layers[0].states[0].numpy(), before)


def test_of_several_outputs_the_one_that_fits_is_compared(tagger: Any) -> None:
    class Two(Port):
        def forward(self, x: Any) -> Any:
            return {"features": x.sum(1), "more": [x], "scores": super().forward(x)}

    found = xframe.verify(tagger, Two(tagger))
    assert found.status == "equivalent", found.reason
    assert any("output['scores'] was compared, and not output['features'], output['more'][0]" in n for n in found.notes)


def test_outputs_of_another_shape(tagger: Any) -> None:
    class Whole(Port):
        def forward(self, x: Any) -> Any:
            return self.lstm(self.norm(self.gru(x)[0]))[0]

    found = xframe.verify(tagger, Whole(tagger))
    assert found.status == "different"
    assert f"puts out output (2, 5, {MIDDLE}) where" in found.reason


def test_what_cannot_be_run_is_not_equivalent(tagger: Any) -> None:
    class Needs(Port):
        def forward(self, x: Any, lengths: Any) -> Any:
            return super().forward(x)

    for a, b in ((tagger, Needs(tagger)), (Needs(tagger), tagger), (Port(tagger), Port(tagger))):
        found = xframe.verify(a, b)
        assert (found.status, found.scope) == ("inconclusive", "model")
        assert xframe.verify(a, b, scope="layers").status == "equivalent"
        assert xframe.diagnose(a, b).status == "inconclusive"
        with pytest.raises(AssertionError, match="inconclusive"):
            xframe.assert_equivalent(a, b)
    assert "missing 1 required positional argument: 'lengths'" in xframe.verify(tagger, Needs(tagger)).reason
    assert "To ask for less: --scope layers" in xframe.verify(Port(tagger), Port(tagger)).reason


def test_masks_that_a_packed_sequence_cannot_say() -> None:
    steps = [layers.Embedding(WORDS, FEATURES, mask_zero=True), layers.LSTM(UNITS), layers.Dense(OUT)]
    source = filled(steps, (None,), "int32")

    class Packed(nn.Module):
        def __init__(self, masked: bool) -> None:
            super().__init__()
            self.masked = masked
            self.table, self.lstm = nn.Embedding(WORDS, FEATURES), nn.LSTM(FEATURES, UNITS, batch_first=True)
            self.head = nn.Linear(UNITS, OUT)
            xframe.transfer(source.layers[1], self.lstm)
            xframe.transfer(source.layers[2], self.head)
            with torch.no_grad():
                self.table.weight.copy_(torch.from_numpy(source.layers[0].get_weights()[0]))

        def forward(self, words: Any) -> Any:
            y = self.table(words)
            if self.masked:
                lengths = (words != 0).sum(1)
                y = nn.utils.rnn.pack_padded_sequence(y, lengths, batch_first=True, enforce_sorted=False)
            return self.head(self.lstm(y)[1][0][-1])

    found = xframe.verify(source, Packed(masked=True))
    assert found.status == "different"
    assert "with padding before and within sequences" in found.reason
    assert "with padding after the end only they agree" in found.reason
    assert "(--right-padded, in Python right_padded=True)" in found.reason
    with pytest.raises(AssertionError, match=r"Where they agree: xframe\.verify\(a, b, .*right_padded=True\)"):
        xframe.assert_equivalent(source, Packed(masked=True))
    assert xframe.verify(source, Packed(masked=True), right_padded=True).status == "equivalent"
    found = xframe.verify(source, Packed(masked=False), right_padded=True)
    assert found.status == "different"
    assert "the mask of embedding" in found.reason


def test_an_activation_that_no_input_shows_is_not_judged() -> None:
    """Every number that reaches the relu is far above zero, so that nothing tells whether it is there."""
    source = filled([layers.Dense(3, activation="sigmoid"), layers.Dense(2, activation="relu")], (FEATURES,))
    source.layers[1].set_weights([np.array([[0.5, 0.6], [0.7, 0.8], [0.9, 1.1]]), np.array([3.0, 4.0])])

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(FEATURES, 3), nn.Linear(3, 2)
            with torch.no_grad():
                for mine, theirs in ((0, self.a), (1, self.b)):
                    kernel, bias = source.layers[mine].get_weights()
                    theirs.weight.copy_(torch.from_numpy(kernel.T))
                    theirs.bias.copy_(torch.from_numpy(bias))

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x).sigmoid())

    found = xframe.verify(source, Two())
    assert found.status == "inconclusive"
    assert "nothing shows what relu does in dense" in found.reason


# ---- What must not be hidden by noise.


class Tagged(nn.Module):
    """A table, an LSTM and a softmax by hand; ``change`` is done to the last output, and ``scale`` to what is put out."""

    def __init__(self, source: Any, change: Any = None, scale: float = 1.0, norm: Any = None) -> None:
        super().__init__()
        self.change, self.scale = change, scale
        self.table, self.lstm = nn.Embedding(WORDS, FEATURES), nn.LSTM(FEATURES, UNITS, batch_first=True)
        self.norm, self.head = norm, nn.Linear(UNITS, OUT)
        xframe.transfer(next(one for one in source.layers if isinstance(one, layers.LSTM)), self.lstm)
        xframe.transfer(source.layers[-1], self.head)
        with torch.no_grad():
            self.table.weight.copy_(torch.from_numpy(source.layers[0].get_weights()[0]))
        self.eval()

    def forward(self, words: Any) -> Any:
        lengths = (words != 0).sum(1)
        # Brought to the type of the layer that reads it, as is done where only the table is to take less memory.
        y = self.lstm(self.table(words).to(self.lstm.weight_hh_l0.dtype))[0]
        y = y[torch.arange(len(y)), lengths - 1 if self.change != "first" else lengths * 0]
        if self.norm is not None:
            y = self.norm(y.half()).float()
        y = self.change(y) if callable(self.change) else y
        return self.head(y).softmax(0 if self.change == "axis" else -1) * self.scale


@pytest.fixture(scope="module")
def words() -> Any:
    """Of which each number that is looked up has more digits than a type of 16 bits."""
    steps = [layers.Embedding(WORDS, FEATURES, mask_zero=True), layers.LSTM(UNITS), layers.Dense(OUT, "softmax")]
    return filled(steps, (None,), "int32")


def with_table(model: Tagged, dtype: str) -> Tagged:
    model.table.to(getattr(torch, dtype))
    return model


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_table_of_16_bits_is_judged_by_its_numbers(dtype: str, words: Any) -> None:
    """What is stored so makes no noise in which a mistake elsewhere could hide."""
    found = xframe.verify(words, with_table(Tagged(words), dtype), right_padded=True)
    assert (found.status, found.scope) == ("equivalent", "model"), found.reason
    assert f"Judged as rounded to {dtype}: " in found.reason
    assert re.search(
        rf"of float32 in the first model and of {dtype} in the second, which differ by up to 0\.00", found.reason
    )
    assert "rounding noise of" not in found.reason
    # Nothing tells whether its numbers are brought to float32 as they are looked up, or multiplied in 16 bits before.
    hidden = xframe.verify(words, with_table(Tagged(words, scale=1.002), dtype), right_padded=True)
    assert hidden.status == "inconclusive"
    assert (
        f"times the rounding noise of float32, in which all layers compute; only in {dtype}, in which " in hidden.reason
    )
    assert "stores table" in hidden.reason
    wrong = xframe.verify(words, with_table(Tagged(words, "axis"), dtype), right_padded=True)
    assert (wrong.status, wrong.whole.made) == ("different", None)  # type: ignore[union-attr]


def test_a_table_of_16_bits_in_two_models_that_are_understood() -> None:
    steps = [layers.LSTM(UNITS), layers.Dense(OUT)]
    wide = filled([layers.Embedding(WORDS, FEATURES), *steps], (None,), "int32")
    narrow = filled(
        [layers.Embedding(WORDS, FEATURES, dtype="float16"), layers.LSTM(UNITS), layers.Dense(OUT)], (None,), "int32"
    )
    narrow.layers[-1].set_weights([narrow.layers[-1].kernel, wide.layers[-1].bias])
    for a, b in ((wide, narrow), (narrow, wide)):
        found = xframe.verify(a, b)
        assert (found.status, found.scope) == ("equivalent", "model"), found.reason
        assert "Judged as rounded to float16: " in found.reason
        assert "rounding noise of" not in found.reason
    narrow.layers[-1].bias.assign(narrow.layers[-1].bias * 1.0001)
    assert xframe.verify(wide, narrow).status == "different"


def test_what_computes_in_16_bits_is_named() -> None:
    """A normalisation among layers of float32: its rounding is noise, and the verdict says because of what."""
    steps = [layers.Embedding(WORDS, FEATURES), layers.LSTM(UNITS), layers.LayerNormalization(epsilon=1e-3)]
    source = filled([*steps, layers.Dense(OUT, "softmax")], (None,), "int32")
    norm = nn.LayerNorm(UNITS, eps=1e-3)
    with torch.no_grad():
        for parameter, array in zip(norm.parameters(), source.layers[2].get_weights(), strict=True):
            parameter.copy_(torch.from_numpy(array))

    class Last(Tagged):
        def forward(self, words: Any) -> Any:
            return self.head(self.norm(self.lstm(self.table(words))[0][:, -1].half()).float()).softmax(-1)

    found = xframe.verify(source, Last(source, norm=norm.half()))
    assert "Judged in the rounding noise of float16: norm, of float16 in PyTorch Last." in (*found.notes, found.reason)
    assert found.status == "equivalent" or "above the rounding noise of float16" in found.reason


def test_a_cause_is_not_named_because_it_takes_the_outputs_a_little_nearer(words: Any) -> None:
    """In 16 bits many a mistake lies within ten times the noise of another one."""
    found = xframe.verify(words, Tagged(words, "first").half(), right_padded=True)
    assert found.status == "different"
    assert "they agree with" not in found.reason


# ---- Forwards that draw random numbers.


class Draws(nn.Module):
    """Adds a little of what is drawn."""

    def __init__(self, port: nn.Module, draw: Any, by: float) -> None:
        super().__init__()
        self.port, self.draw, self.by = port, draw, by

    def forward(self, x: Any) -> Any:
        return self.port(x) * (1 + self.by * self.draw())


DRAWN = {
    "torch": lambda: torch.rand(()),
    "numpy": lambda: np.random.uniform(),  # noqa: NPY002
    "python": lambda: random.random(),
}


@pytest.mark.parametrize("what", DRAWN)
@pytest.mark.parametrize("by", [0.1, 1e-6], ids=["much", "within the noise"])
def test_what_is_drawn_anew_at_each_call_is_seen(what: str, by: float) -> None:
    model = filled([layers.GRU(UNITS), layers.Dense(OUT)], (None, FEATURES))
    port = Draws(Plain(model), DRAWN[what], by)
    before = torch.get_rng_state(), random.getstate()
    found = xframe.verify(model, port)
    assert found.status == "different"
    assert "puts out something else each time it is called with the same input (off by up to" in found.reason
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize("half", [False, True])
def test_dropout_that_is_left_on_is_seen(half: bool, words: Any) -> None:
    """Of so few rows that little is dropped, and in 16 bits in the noise."""
    port = Tagged(words, lambda y: torch.dropout(y, 0.1, True))
    found = xframe.verify(words, port.half() if half else port, right_padded=True)
    assert found.status == "different"
    assert "each time it is called with the same input" in found.reason


def test_dropout_in_a_keras_model_that_is_run() -> None:
    class Own(keras.Model):
        def __init__(self, rate: float) -> None:
            super().__init__()
            self.gru, self.head, self.drop = layers.GRU(UNITS), layers.Dense(OUT), layers.Dropout(rate)

        def call(self, x: Any) -> Any:
            return self.head(self.drop(self.gru(x), training=True))

    source = filled([layers.GRU(UNITS), layers.Dense(OUT)], (None, FEATURES))
    for rate, status in ((0.0, "equivalent"), (0.1, "different")):
        own = Own(rate)
        own(np.zeros((1, 2, FEATURES), "float32"))
        own.gru.set_weights(source.layers[0].get_weights())
        own.head.set_weights(source.layers[1].get_weights())
        found = xframe.verify(source, own)
        assert found.status == status, found.reason
        assert (status == "different") == ("each time it is called" in found.reason)


@pytest.mark.parametrize("seed", [None, 3.0], ids=["any", "of its own"])
def test_an_onnx_file_that_draws(seed: float | None, tmp_path: Path) -> None:
    """With a seed of its own the operator puts out the same in each process, and something else at the next call."""
    source = filled([layers.Dense(OUT)], (FEATURES,))
    kernel, bias = source.layers[0].get_weights()
    source.save(tmp_path / "source.keras")
    own = {} if seed is None else {"seed": seed}
    nodes = [
        helper.make_node("Gemm", ["x0", "w", "b"], ["z"], name="dense"),
        helper.make_node("RandomUniform", [], ["r"], shape=[1], **own),
        helper.make_node("Mul", ["z", "r"], ["y"]),
    ]
    path = graph(tmp_path / "draws.onnx", nodes, {"w": kernel, "b": bias})
    found = xframe.verify(tmp_path / "source.keras", path)
    assert found.status == "different"
    assert "each time it is called with the same input" in found.reason


# ---- What a sentence says.


@pytest.mark.parametrize(("value", "called"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_what_is_no_number_is_called_so(value: float, called: str) -> None:
    model = filled([layers.GRU(UNITS), layers.Dense(OUT)], (None, FEATURES))
    found = xframe.verify(model, Draws(Plain(model), lambda: value, 1.0))
    assert found.status == "different"
    assert f"PyTorch Draws puts out what is {called}, where Keras Sequential puts out numbers" in found.reason
    assert "e+30" not in found.report()


def test_a_mode_that_was_not_judged_is_in_the_verdict(words: Any) -> None:
    told = "PyTorch Tagged is in training mode, and was judged in evaluation mode, as after eval()."
    for scope in (None, "layers"):
        found = xframe.verify(words, Tagged(words).train(), right_padded=True, scope=scope)
        assert found.status == "equivalent"
        assert told in found.reason
        assert "training mode" not in xframe.verify(words, Tagged(words), right_padded=True, scope=scope).reason


@pytest.mark.parametrize("change", ["axis", "first", torch.relu])
def test_a_wrong_port_is_different_with_padding_on_the_right_too(change: Any, words: Any) -> None:
    """Among the mistakes that are tried some would make other masks than were promised."""
    found = xframe.verify(words, Tagged(words, change), right_padded=True)
    assert found.status == "different", found.reason


def test_an_onnx_file_that_is_told_lengths_says_so(words: Any, tmp_path: Path) -> None:
    """As xframe's own conversion is, which was promised padding after the end."""
    words.save(tmp_path / "words.keras")
    convert_file(tmp_path / "words.keras", tmp_path / "made", "onnx", right_padded=True)
    found = xframe.verify(words, tmp_path / "made" / "model.onnx")
    assert found.status == "different"
    told = "are told how long each sequence is (sequence_lens of ONNX's operators, as xframe convert --right-padded writes it)"
    assert any(told in note for note in found.notes)
    found = xframe.verify(words, tmp_path / "made" / "model.onnx", right_padded=True)
    assert found.status == "equivalent", found.reason
    assert not any(told in note for note in found.notes)


# ---- ONNX files.


def exported(model: nn.Module, path: Path, free: bool = True) -> Path:
    """The model as PyTorch exports it, its batch and time free, or fixed as they are in the example."""
    axes = {"x": {0: "b", 1: "t"}} if free else None
    example = (torch.zeros(2, 7, FEATURES),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a batch that is free
        torch.onnx.export(model.eval(), example, path, input_names=["x"], dynamo=False, dynamic_axes=axes)
    return path


@pytest.mark.parametrize(
    ("wrong", "status", "why"),
    [
        ((), "equivalent", ""),
        (("time",), "different", ""),
        (("relu",), "different", "no relu"),
        (("softmax",), "different", "no softmax"),
    ],
)
def test_an_onnx_file_is_run(wrong: tuple[str, ...], status: str, why: str, tagger: Any, tmp_path: Path) -> None:
    tagger.save(tmp_path / "tagger.keras")
    path = exported(Port(tagger, *wrong), tmp_path / "port.onnx")
    found = xframe.verify(tmp_path / "tagger.keras", path)
    assert found.scope == "model"
    assert found.whole is not None
    assert found.whole.status == status, found.reason
    assert why in found.reason
    assert (found.status == "equivalent") == (status == "equivalent"), found.reason


def test_fixed_sizes_of_an_onnx_file_are_kept_to(tagger: Any, tmp_path: Path) -> None:
    path = exported(Port(tagger), tmp_path / "fixed.onnx", free=False)
    assert program_of_onnx(path).shape == (2, 7, FEATURES)
    found = xframe.verify(tagger, path)
    assert found.status == "equivalent", found.reason


def graph(path: Path, nodes: list[Any], initializers: dict[str, np.ndarray], inputs: int = 1) -> Path:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, ["b", FEATURES]) for i in range(inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype("float32"), name) for name, array in initializers.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_an_onnx_file_that_cannot_be_run(tmp_path: Path) -> None:
    source = filled([layers.Dense(OUT)], (FEATURES,))
    kernel, bias = source.layers[0].get_weights()
    gemm, other = (helper.make_node("Gemm", [x, "w", "b"], [y], name="dense") for x, y in (("x0", "z"), ("s", "y")))
    weights = {"w": kernel, "b": bias}
    source.save(tmp_path / "source.keras")
    two = graph(tmp_path / "two.onnx", [helper.make_node("Add", ["x0", "x1"], ["s"]), other], weights, inputs=2)
    unknown = graph(tmp_path / "unknown.onnx", [gemm, helper.make_node("Nonsense", ["z"], ["y"])], weights)
    for path, words in ((two, "has 2 inputs (x0, x1)"), (unknown, "ONNX Runtime does not take")):
        found = xframe.verify(tmp_path / "source.keras", path)
        assert (found.status, found.scope) == ("inconclusive", "model")
        assert words in found.reason
        assert xframe.verify(tmp_path / "source.keras", path, scope="layers").status == "equivalent"


def test_a_graph_that_asks_for_too_much_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = numpy_helper.from_array(np.array([2**37], "int64"), "size")
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["none"]),
        helper.make_node("Add", ["x0", "none"], ["y"]),
    ]
    path = graph(tmp_path / "large.onnx", nodes, {"unused": np.ones((3, 2))})
    model = onnx.load(path)
    model.graph.initializer.append(shape)
    onnx.save(model, path)
    (ran,) = program_of_onnx(path).run([np.ones((2, FEATURES), "float32")])
    assert ran.failure
    monkeypatch.setattr("xframe.programs._SECONDS", 0.01)
    with pytest.raises(UnsupportedError, match="did not get through"):
        program_of_onnx(path)


def test_a_folder_of_modules_with_known_names_changes_nothing(
    tagger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported(Port(tagger), tmp_path / "port.onnx")
    for name in ("numpy", "onnxruntime", "json", "io"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the folder was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert program_of_onnx(path).shape == (None, None, FEATURES)


def test_models_that_only_hold_layers_are_no_programs() -> None:
    holder = nn.ModuleDict({"a": nn.Linear(FEATURES, OUT)})
    with pytest.raises(UnsupportedError, match="has no forward"):
        program_of(get_adapter("torch"), holder)
    found = xframe.verify(holder, nn.ModuleDict({"a": holder["a"]}))
    assert (found.status, found.scope) == ("equivalent", "layers")
    wider = xframe.verify(holder, holder, scope="model")
    assert wider.status == "inconclusive"
    assert "is no model that says what runs" in wider.reason


# ---- The command.


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ([], 0, "Scope: model."),
        (["--scope", "layers"], 0, "what runs between them was not judged. Scope: layers."),
        (
            ["--scope", "weights"],
            0,
            "The weights are the same; it was not judged what runs between them. Scope: weights.",
        ),
    ],
)
def test_the_scope_on_the_command_line(
    words: list[str], status: int, says: str, tagger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tagger.save(tmp_path / "tagger.keras")
    exported(Port(tagger), tmp_path / "port.onnx")
    code, out, err = run(capsys, "verify", str(tmp_path / "tagger.keras"), str(tmp_path / "port.onnx"), *words)
    assert (code, err) == (status, ""), out
    assert says in " ".join(out.split())


def test_a_scope_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "verify", "a.keras", "b.keras", "--scope", "all")
    assert (status, out) == (2, "")
    assert "scope must be weights, layers or model, not 'all'" in err
