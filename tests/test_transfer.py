"""`xframe.transfer` between layers that were made and filled with the frameworks' own classes and methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import BATCH, FEATURES, LAYERS_BY_NAME, UNITS, Move

import xframe
from xframe.adapters import get_adapter
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import Key
from xframe.reference import Given
from xframe.spec import Dense, Layer, Recurrent

# ---- Layers as users make them: with the defaults of the framework wherever the spec does not say otherwise.


def keras_layer(spec: Layer, dtype: str = "float32") -> Any:
    from keras import Input, Sequential, layers

    import xframe.keras

    options: dict[str, Any] = {"use_bias": spec.bias, "dtype": dtype}
    if isinstance(spec, Dense):
        layer = layers.Dense(spec.units, **options)
        layer.build((None, spec.input_size))
        return layer
    kind = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[spec.cell]
    options["activation"] = spec.activation
    if spec.cell == "gru":
        options["reset_after"] = spec.reset_after
    stack = []
    for k in range(spec.num_layers):
        flags = {"return_sequences": k + 1 < spec.num_layers, "go_backwards": spec.go_backwards}
        if spec.proj_size:
            cell = xframe.keras.ProjectedLSTMCell(spec.hidden_size, spec.proj_size, **options)
            layer = layers.RNN(cell, dtype=dtype, **flags)
        else:
            layer = kind(spec.hidden_size, **flags, **options)
        if spec.bidirectional:
            layer = layers.Bidirectional(layer, spec.merge_mode, dtype=dtype)
        stack.append(layer)
    if len(stack) > 1:
        return Sequential([Input((None, spec.input_size), dtype=dtype), *stack])
    stack[0].build((None, None, spec.input_size))
    return stack[0]


def is_not_pytorchs(spec: Recurrent) -> bool:
    """Whether PyTorch's own layers cannot be told to be this one."""
    plain = ("tanh", "relu") if spec.cell == "rnn" else ("tanh",)
    other = spec.reset_after is False or spec.go_backwards or spec.merge_mode != "concat"
    return other or spec.activation not in plain


def torch_layer(spec: Layer, dtype: str = "float32") -> Any:
    import torch

    import xframe.torch

    kind: dict[str, Any] = {"bias": spec.bias, "dtype": getattr(torch, dtype)}
    if isinstance(spec, Dense):
        return torch.nn.Linear(spec.input_size, spec.units, **kind)
    if is_not_pytorchs(spec):
        return xframe.torch.Recurrent(spec, dtype=kind["dtype"])
    options = {"num_layers": spec.num_layers, "bidirectional": spec.bidirectional, **kind}
    if spec.cell == "rnn":
        options["nonlinearity"] = spec.activation
    if spec.cell == "lstm":
        options["proj_size"] = spec.proj_size
    return getattr(torch.nn, spec.cell.upper())(spec.input_size, spec.hidden_size, **options)


# ---- Reading, filling and running them by the framework's own methods.


def keras_fill(layer: Any, arrays: list[np.ndarray]) -> None:
    layer.set_weights(arrays)


def torch_fill(layer: Any, arrays: list[np.ndarray]) -> None:
    import torch

    with torch.no_grad():
        for parameter, array in zip(layer.parameters(), arrays, strict=True):
            parameter.copy_(torch.from_numpy(array))


def torch_last(layer: Any, x: np.ndarray) -> np.ndarray:
    """What a user takes for Keras's output: h_n of the last layer, both directions beside each other."""
    import torch

    import xframe.torch

    with torch.no_grad():
        given = torch.from_numpy(x)
        if isinstance(layer, torch.nn.Linear):
            return np.asarray(layer(given).numpy())
        if isinstance(layer, xframe.torch.Recurrent):
            return np.asarray(torch.cat(list(layer(given)[1]["h"][-1]), dim=-1).numpy())
        _, final = layer(given.swapaxes(0, 1))
        h = final[0] if isinstance(final, tuple) else final
        return np.asarray(torch.cat(list(h[-2:] if layer.bidirectional else h[-1:]), dim=-1).numpy())


MAKE: dict[str, Callable[..., Any]] = {"keras": keras_layer, "torch": torch_layer}
FILL: dict[str, Callable[[Any, list[np.ndarray]], None]] = {"keras": keras_fill, "torch": torch_fill}
NUMBERS: dict[str, Callable[[Any], list[np.ndarray]]] = {
    "keras": lambda layer: [np.array(w) for w in layer.get_weights()],
    "torch": lambda layer: [p.detach().numpy().copy() for p in layer.parameters()],
}
LAST: dict[str, Callable[[Any, np.ndarray], np.ndarray]] = {
    "keras": lambda layer, x: np.array(layer(x)),
    "torch": torch_last,
}


def made(framework: str, spec: Layer, seed: int, dtype: str = "float32") -> Any:
    """A layer of the user's, every number in it drawn at random: kernels, and both of two biases."""
    random, layer = np.random.default_rng(seed), MAKE[framework](spec, dtype)
    size = np.sqrt(max(FEATURES, UNITS))
    arrays = [helpers.away_from_zero(random, a.shape, 1.5 / size).astype(dtype) for a in NUMBERS[framework](layer)]
    FILL[framework](layer, arrays)
    return layer


def memory(framework: str, layer: Any) -> list[bytes]:
    return [array.tobytes() for array in NUMBERS[framework](layer)]


# ---- Between every two frameworks, every layer that both have.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_compute_the_same(move: Move, dtype: str) -> None:
    """The target's outputs, as its own framework gives them, are those of the source's parameters in the reference."""
    (source, target, spec), x = move, helpers.signal(move.spec, 71, dtype)
    mine, yours = made(source.name, spec, 72, dtype), made(target.name, spec, 73, dtype)
    before = memory(source.name, mine)
    blocks = {key: block.astype(np.float64) for key, block in source.parameters(mine).items()}
    name = "output" if isinstance(spec, Dense) else "last"
    # That these are the source's parameters is proven by its own outputs.
    outputs = source.run(mine, x).named()
    helpers.judge(spec, blocks, Given(x), dtype, {**outputs, name: LAST[source.name](mine, x)})
    with pytest.raises(AssertionError, match="times its noise"):
        helpers.judge(spec, blocks, Given(x), dtype, target.run(yours, x))

    xframe.transfer(mine, yours)

    helpers.judge(spec, blocks, Given(x), dtype, {**target.run(yours, x).named(), name: LAST[target.name](yours, x)})
    assert memory(source.name, mine) == before


def test_there_and_back(move: Move) -> None:
    """All to the last bit; where the other framework has one bias for two, their sum, rounded once."""
    source, target, spec = move
    mine, yours, again = made(source.name, spec, 74), made(target.name, spec, 75), made(source.name, spec, 76)
    xframe.transfer(mine, yours)
    xframe.transfer(yours, again)
    got, wanted = source.parameters(again), source.parameters(mine)
    if folds(move):
        rounded = {k: v.astype(np.float32) for k, v in helpers.effective(spec, wanted).items()}
        helpers.assert_same_numbers(helpers.effective(spec, got), rounded)
    else:
        helpers.assert_same_numbers(got, wanted)


def folds(move: Move) -> bool:
    """Whether the target stores less than the source: one bias for two."""
    return helpers.stored(move.target.name, move.spec) < helpers.stored(move.source.name, move.spec)


# ---- Biases, by hand.

LSTM, GRU, RNN = (
    Recurrent("lstm", FEATURES, UNITS),
    Recurrent("gru", FEATURES, UNITS),
    Recurrent("rnn", FEATURES, UNITS),
)


def halves(layer: Any, names: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """PyTorch's two biases by gate, in its order."""
    arrays = NUMBERS["torch"](layer)
    both = [dict(zip(names, np.split(array, len(names)), strict=True)) for array in (arrays[2], arrays[3])]
    return both[0], both[1]


@pytest.mark.needs("keras", "torch")
class TestBiases:
    def test_two_are_folded_into_one(self) -> None:
        """PyTorch i f g o to Keras i f c o: the sums, rounded once."""
        source, target = made("torch", LSTM, 81), made("keras", LSTM, 82)
        b_ih, b_hh = NUMBERS["torch"](source)[2:]
        assert np.abs(b_ih).min() > 0
        assert np.abs(b_hh).min() > 0
        xframe.transfer(source, target)
        bias = NUMBERS["keras"](target)[2]
        assert bias.dtype == np.float32
        assert np.array_equal(bias, (b_ih.astype(np.float64) + b_hh).astype(np.float32))

    def test_a_simple_cell(self) -> None:
        source, target = made("torch", RNN, 81), made("keras", RNN, 82)
        w_ih, w_hh, b_ih, b_hh = NUMBERS["torch"](source)
        xframe.transfer(source, target)
        kernel, recurrent, bias = NUMBERS["keras"](target)
        assert np.array_equal(kernel, w_ih.T)
        assert np.array_equal(recurrent, w_hh.T)
        assert np.array_equal(bias, (b_ih.astype(np.float64) + b_hh).astype(np.float32))

    def test_a_gru_keeps_both(self) -> None:
        """PyTorch r z n to Keras z r h: two rows, nothing summed."""
        source, target = made("torch", GRU, 81), made("keras", GRU, 82)
        b, r = halves(source, "rzn")
        xframe.transfer(source, target)
        bias = NUMBERS["keras"](target)[2]
        assert np.array_equal(bias[0], np.concatenate([b["z"], b["r"], b["n"]]))
        assert np.array_equal(bias[1], np.concatenate([r["z"], r["r"], r["n"]]))

    def test_one_becomes_itself_and_zero(self) -> None:
        source, target = made("keras", LSTM, 83), made("torch", LSTM, 84)
        xframe.transfer(source, target)
        b_ih, b_hh = NUMBERS["torch"](target)[2:]
        assert np.array_equal(b_ih, NUMBERS["keras"](source)[2])
        assert np.array_equal(b_hh, np.zeros(4 * UNITS, np.float32))

    def test_both_directions_of_a_stack(self) -> None:
        spec = LAYERS_BY_NAME["lstm-stacked"]
        source, target = made("torch", spec, 85), made("keras", spec, 86)
        given = {name: p.detach().numpy() for name, p in source.named_parameters()}
        xframe.transfer(source, target)
        for k, layer in enumerate(target.layers):
            for part, suffix in ((layer.forward_layer, ""), (layer.backward_layer, "_reverse")):
                kernel, recurrent, bias = (np.array(w) for w in part.get_weights())
                assert np.array_equal(kernel, given[f"weight_ih_l{k}{suffix}"].T)
                assert np.array_equal(recurrent, given[f"weight_hh_l{k}{suffix}"].T)
                total = given[f"bias_ih_l{k}{suffix}"].astype(np.float64) + given[f"bias_hh_l{k}{suffix}"]
                assert np.array_equal(bias, total.astype(np.float32))


def test_a_layer_without_biases_into_one_with(move: Move) -> None:
    """The target's biases become zero."""
    source, target, spec = move
    if not spec.bias:
        bare, full = spec, type(spec)(**{**spec.options(), "bias": True})
        mine, yours = made(source.name, bare, 91), made(target.name, full, 92)
        xframe.transfer(mine, yours)
        got = target.parameters(yours)
        biases = {key: block for key, block in got.items() if "bias" in key.role}
        assert biases
        assert not any(block.any() for block in biases.values())
        others = {key: block for key, block in got.items() if key not in biases}
        helpers.assert_same_numbers(others, source.parameters(mine))
    else:
        bare = type(spec)(**{**spec.options(), "bias": False})
        mine, yours = made(source.name, spec, 91), made(target.name, bare, 92)
        before = memory(target.name, yours)
        with pytest.raises(SpecError, match=r"bias=True.*bias=False"):
            xframe.transfer(mine, yours)
        assert memory(target.name, yours) == before


# ---- Rounding.


def test_a_narrower_target_is_rounded_once(move: Move) -> None:
    """float64 numbers that are no float32 numbers, into float32: each is the nearest."""
    source, target, spec = move
    mine, yours = made(source.name, spec, 93, "float64"), made(target.name, spec, 94, "float32")
    wanted = dict(source.parameters(mine))
    xframe.transfer(mine, yours)
    assert {a.dtype.name for a in NUMBERS[target.name](yours)} == {"float32"}
    assert all(np.any(block != block.astype(np.float32)) for key, block in wanted.items() if "kernel" in key.role)
    if folds(move):
        for key in [k for k in wanted if k.role == "recurrent_bias"]:
            wanted[key._replace(role="bias")] = wanted[key._replace(role="bias")] + wanted[key]
            wanted[key] = np.zeros_like(wanted[key])
    rounded = {key: block.astype(np.float32) for key, block in wanted.items()}
    helpers.assert_same_numbers(target.parameters(yours), rounded)


@pytest.mark.needs("keras", "torch")
def test_a_sum_is_rounded_after_it_was_made() -> None:
    """1 + (2⁻²⁴ + 2⁻⁵⁰): 1 + 2⁻²³ if it is summed in float64 first, 1 if its parts are rounded first."""
    source, target = made("torch", LSTM, 95, "float64"), made("keras", LSTM, 96, "float32")
    arrays = NUMBERS["torch"](source)
    arrays[2][0], arrays[3][0] = 1.0, 2.0**-24 + 2.0**-50
    FILL["torch"](source, arrays)
    xframe.transfer(source, target)
    assert NUMBERS["keras"](target)[2][0] == 1 + 2.0**-23


def test_a_wider_target_holds_the_same_numbers(move: Move) -> None:
    """float32 numbers, and the sums of two of like size, are float64 numbers."""
    source, target, spec = move
    mine, yours = made(source.name, spec, 97, "float32"), made(target.name, spec, 98, "float64")
    wanted = source.parameters(mine)
    xframe.transfer(mine, yours)
    assert {a.dtype.name for a in NUMBERS[target.name](yours)} == {"float64"}
    got = target.parameters(yours)
    helpers.assert_same_numbers(helpers.effective(spec, got), helpers.effective(spec, wanted))
    if not folds(move):
        helpers.assert_same_numbers(got, wanted)


# ---- What does not fit is refused, and the target keeps every bit.

MISMATCHES: list[tuple[Layer, Layer, str]] = [
    (LSTM, Recurrent("lstm", FEATURES, UNITS + 1), f"hidden_size={UNITS} .*hidden_size={UNITS + 1}"),
    (LSTM, Recurrent("lstm", FEATURES + 1, UNITS), f"input_size={FEATURES} .*input_size={FEATURES + 1}"),
    (LSTM, GRU, "cell='lstm'.*cell='gru'"),
    (RNN, GRU, "cell='rnn'.*cell='gru'"),
    (RNN, Recurrent("rnn", FEATURES, UNITS, activation="relu"), "activation='tanh'.*activation='relu'"),
    (GRU, Recurrent("gru", FEATURES, UNITS, num_layers=2), "num_layers=1 .*num_layers=2"),
    (Recurrent("gru", FEATURES, UNITS, num_layers=2), GRU, "num_layers=2 .*num_layers=1"),
    (LSTM, Recurrent("lstm", FEATURES, UNITS, bidirectional=True), "bidirectional=False.*bidirectional=True"),
    (LSTM, Recurrent("lstm", FEATURES, UNITS, go_backwards=True), "go_backwards=False.*go_backwards=True"),
    (GRU, Recurrent("gru", FEATURES, UNITS, activation="softsign"), "activation='tanh'.*activation='softsign'"),
    (
        Recurrent("gru", FEATURES, UNITS, bidirectional=True, merge_mode="sum"),
        Recurrent("gru", FEATURES, UNITS, bidirectional=True, merge_mode="ave"),
        "merge_mode='sum'.*merge_mode='ave'",
    ),
    (
        Recurrent("gru", FEATURES, UNITS, bidirectional=True, merge_mode="mul"),
        Recurrent("gru", FEATURES, UNITS, bidirectional=True),
        "merge_mode='mul'.*merge_mode='concat'",
    ),
    (
        Recurrent("lstm", FEATURES, UNITS, proj_size=5),
        Recurrent("lstm", FEATURES, UNITS, proj_size=4),
        "proj_size=5 .*proj_size=4",
    ),
    (Recurrent("lstm", FEATURES, UNITS, proj_size=5), LSTM, "proj_size=5 .*proj_size=0"),
    (GRU, Recurrent("gru", FEATURES, UNITS, reset_after=False), "reset_after=True.*reset_after=False"),
    (Recurrent("gru", FEATURES, UNITS, reset_after=False), GRU, "reset_after=False.*reset_after=True"),
    (Dense(FEATURES, UNITS), Dense(FEATURES, UNITS + 1), f"={UNITS} .*={UNITS + 1}"),
    (Dense(FEATURES, UNITS), RNN, "cell='dense'.*cell='rnn'"),
    (RNN, Dense(FEATURES, UNITS), "cell='rnn'.*cell='dense'"),
]


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize(
    ("source", "target"), [("keras", "torch"), ("torch", "keras"), ("torch", "torch"), ("keras", "keras")]
)
@pytest.mark.parametrize(("first", "second", "words"), MISMATCHES)
def test_mismatches(source: str, target: str, first: Layer, second: Layer, words: str) -> None:
    mine, yours = made(source, first, 101), made(target, second, 102)
    before = memory(target, yours)
    with pytest.raises(SpecError, match=words):
        xframe.transfer(mine, yours)
    assert memory(target, yours) == before


def test_a_weight_that_is_not_finite(move: Move) -> None:
    """The last number of any tensor of the source: nothing is written, not even what comes before it."""
    source, target, spec = move
    mine, yours = made(source.name, spec, 107), made(target.name, spec, 108)
    before, arrays = memory(target.name, yours), NUMBERS[source.name](mine)
    values = [np.nan, np.inf, -np.inf]
    for place, value in enumerate(values[k % 3] for k in range(len(arrays))):
        poisoned = [array.copy() for array in arrays]
        poisoned[place].flat[-1] = value
        FILL[source.name](mine, poisoned)
        with pytest.raises(LayoutError, match=f"holds {value} at .*finite"):
            xframe.transfer(mine, yours)
        assert memory(target.name, yours) == before


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (object(), torch_layer),
        (torch_layer, "a path"),
        (lambda spec: np.ones(3), keras_layer),
    ],
)
def test_what_is_no_layer(source: Any, target: Any) -> None:
    mine = source(LSTM) if callable(source) else source
    yours = target(LSTM) if callable(target) else target
    with pytest.raises(UnsupportedError, match="does not know what"):
        xframe.transfer(mine, yours)


@pytest.mark.needs("keras", "torch")
def test_a_target_without_weights() -> None:
    import keras

    with pytest.raises(SpecError, match="no weights yet"):
        xframe.transfer(made("torch", LSTM, 109), keras.layers.LSTM(UNITS))


@pytest.mark.needs("keras", "torch")
def test_the_target_keeps_its_options() -> None:
    """batch_first, return flags, names and trainability are none of a transfer's business."""
    import keras

    target = keras.layers.LSTM(UNITS, return_state=True, name="decoder", trainable=False)
    target.build((None, None, FEATURES))
    before = target.get_config()
    xframe.transfer(made("torch", LSTM, 110), target)
    assert target.get_config() == before
    x = helpers.signal(LSTM, 111, "float32")
    out = get_adapter("keras").run(target, x)
    last, h, c = (np.array(a) for a in target(x))
    assert np.array_equal(last, h)
    assert last.shape == (BATCH, UNITS)
    named = {**out.named(), "last": last, "state h": h[None, None], "state c": c[None, None]}
    helpers.judge(LSTM, get_adapter("keras").parameters(target), Given(x), "float32", named)


@pytest.mark.needs("torch")
def test_onto_itself() -> None:
    layer = made("torch", LSTM, 112)
    before = memory("torch", layer)
    xframe.transfer(layer, layer)
    assert memory("torch", layer) == before
    assert get_adapter("torch").parameters(layer)[Key(0, 0, "recurrent_bias", "i")].any()


# ---- Each layer keeps memory of its own.


def keras_train(layer: Any) -> None:
    for variable in layer.weights:
        variable.assign_add(np.ones(variable.shape, variable.dtype))


def torch_train(layer: Any) -> None:
    for parameter in layer.parameters():
        parameter.data.add_(1)


TRAIN: dict[str, Callable[[Any], None]] = {"keras": keras_train, "torch": torch_train}


def test_nothing_is_shared(move: Move) -> None:
    """Training one of the two layers afterwards, in place, changes neither the other nor a snapshot of the first."""
    source, target, spec = move
    mine, yours = made(source.name, spec, 113), made(target.name, spec, 114)
    snapshot = source.parameters(mine)
    kept = {key: block.copy() for key, block in snapshot.items()}
    xframe.transfer(mine, yours)
    own, before = memory(source.name, mine), memory(target.name, yours)
    TRAIN[source.name](mine)
    assert memory(target.name, yours) == before
    assert memory(source.name, mine) != own
    helpers.assert_same_numbers(snapshot, kept)
    before = memory(source.name, mine)
    TRAIN[target.name](yours)
    assert memory(source.name, mine) == before
    helpers.assert_same_numbers(snapshot, kept)


# ---- What would be written wrong, or in part.


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize(
    ("first", "second", "dtype", "values"),
    [
        ("torch", "keras", "float64", {-1: 1e300}),
        ("torch", "torch", "float64", {-1: 1e300}),
        ("keras", "torch", "float64", {-1: 1e300}),
        ("torch", "keras", "float32", {-1: 3e38, -2: 3e38}),
    ],
)
def test_a_number_too_large_for_the_target(first: str, second: str, dtype: str, values: dict[int, float]) -> None:
    """1e300 is finite, but no float32 number; nor is the sum of two biases of 3e38."""
    source, target = made(first, LSTM, 115, dtype), made(second, LSTM, 116)
    arrays, before = NUMBERS[first](source), memory(second, target)
    for place, value in values.items():
        arrays[place][0] = value
    FILL[first](source, arrays)
    with pytest.raises(LayoutError, match="float32"):
        xframe.transfer(source, target)
    assert memory(second, target) == before


@pytest.mark.needs("torch")
def test_a_pruned_target() -> None:
    from torch.nn.utils import prune

    target = made("torch", LSTM, 117)
    prune.random_unstructured(target, "weight_hh_l0", 0.5)
    before = memory("torch", target)
    with pytest.raises(UnsupportedError, match="forward hooks"):
        xframe.transfer(made("torch", LSTM, 118), target)
    assert memory("torch", target) == before


@pytest.mark.needs("torch")
def test_a_target_with_more_to_it() -> None:
    import torch

    target = made("torch", LSTM, 119)
    target.temperature = torch.nn.Parameter(torch.ones(1))
    before = memory("torch", target)
    with pytest.raises(LayoutError, match="'temperature' has no place"):
        xframe.transfer(made("torch", LSTM, 120), target)
    assert memory("torch", target) == before


# ---- Types of 16 bits.


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("target", ["keras", "torch"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_source_of_16_bits(target: str, dtype: str) -> None:
    """float32 holds all its numbers; where two biases become one, it holds their sum."""
    import torch

    source, yours = made("torch", LSTM, 121).to(getattr(torch, dtype)), made(target, LSTM, 122)
    w_ih, w_hh, b_ih, b_hh = (p.detach().double().numpy() for p in source.parameters())
    xframe.transfer(source, yours)
    kernel, recurrent, *biases = (array.astype(np.float64) for array in NUMBERS[target](yours))
    assert np.array_equal(kernel, w_ih.T if target == "keras" else w_ih)
    assert np.array_equal(recurrent, w_hh.T if target == "keras" else w_hh)
    for got, wanted in zip(biases, [b_ih + b_hh] if target == "keras" else [b_ih, b_hh], strict=True):
        assert np.array_equal(got, wanted)


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("target", ["keras", "torch"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_target_of_16_bits(target: str, dtype: str) -> None:
    """Each number is rounded to the nearest, as PyTorch rounds it, and a sum once, after it was made."""
    import torch

    source, adapter = made("torch", LSTM, 123), get_adapter(target)
    yours = adapter.build(LSTM, dtype)
    xframe.transfer(source, yours)
    assert adapter.dtype(yours) == dtype

    def rounded(tensor: Any) -> np.ndarray:
        return np.asarray(tensor.detach().to(getattr(torch, dtype)).double().numpy())

    w_ih, w_hh, b_ih, b_hh = source.parameters()
    kernel, recurrent, *biases = (np.asarray(a, np.float64) for a in adapter.read(yours).values())
    keras = target == "keras"
    assert np.array_equal(kernel.T if keras else kernel, rounded(w_ih))
    assert np.array_equal(recurrent.T if keras else recurrent, rounded(w_hh))
    for got, wanted in zip(biases, [b_ih.double() + b_hh.double()] if keras else [b_ih, b_hh], strict=True):
        assert np.array_equal(got, rounded(wanted))


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("target", ["keras", "torch"])
def test_too_large_for_float16(target: str) -> None:
    """65504 is its largest number; bfloat16 holds 1e5, rounded."""
    source = made("torch", LSTM, 124)
    arrays = NUMBERS["torch"](source)
    arrays[0][0, 0] = 1e5
    FILL["torch"](source, arrays)
    adapter = get_adapter(target)
    yours = adapter.build(LSTM, "float16")
    before = helpers.bits(adapter.read(yours))
    with pytest.raises(LayoutError, match=r"holds 1e\+05, which is too large for float16"):
        xframe.transfer(source, yours)
    assert helpers.bits(adapter.read(yours)) == before
    wider = adapter.build(LSTM, "bfloat16")
    xframe.transfer(source, wider)
    assert adapter.parameters(wider)[Key(0, 0, "kernel", "i")][0, 0] == 99_840  # 195 * 512
