"""Every option of Keras's recurrent layers, as Keras computes it, against the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import helpers
import numpy as np
import pytest

import xframe
from xframe.activations import ACTIVATIONS
from xframe.adapters import get_adapter
from xframe.adapters.base import FLOATS
from xframe.errors import SpecError, UnsupportedError
from xframe.reference import Given
from xframe.spec import Recurrent

pytestmark = pytest.mark.needs("keras")

DTYPES = ("float64", "float32")
# Unequal sizes on every axis: 4 features, 7 units, 3 projected, 6 rows, 5 steps.
FEATURES, UNITS, PROJECTED, BATCH, STEPS = 4, 7, 3, 6, 5

# True is a valid step. Each has a row without padding; only "any" has rows without a valid step.
MASKS = {
    "right": ["11111", "11110", "11000", "10000", "11111", "11100"],
    "gaps": ["11111", "00111", "10101", "01010", "00001", "11011"],
    "any": ["11111", "00000", "00110", "00000", "10101", "11100"],
}


@pytest.fixture
def keras() -> Any:
    get_adapter("keras")
    import keras

    return keras


@pytest.fixture
def ours() -> Any:
    get_adapter("keras")
    import xframe.keras

    return xframe.keras


def mask_of(name: str) -> np.ndarray:
    return np.array([[step == "1" for step in row] for row in MASKS[name]])


def numbers(seed: int, shape: tuple[int, ...], scale: float, dtype: str) -> np.ndarray:
    """Distinct and away from zero."""
    return helpers.away_from_zero(np.random.default_rng(seed), shape, scale).astype(dtype)


def signal(dtype: str = "float64", seed: int = 1, batch: int = BATCH, steps: int = STEPS) -> np.ndarray:
    return helpers.signal(Recurrent("rnn", FEATURES, UNITS), seed, dtype, batch=batch, steps=steps)


def start(spec: Recurrent, dtype: str = "float64") -> Any:
    return helpers.start(spec, 50, dtype, batch=BATCH)


def loaded(layer: Any, dtype: str = "float64", mask: str | None = None) -> tuple[Recurrent, Any]:
    """Fill a layer with distinct numbers; what it is, and the numbers."""
    adapter = get_adapter("keras")
    spec = adapter.spec(layer, mask)
    adapter.load(layer, helpers.weights(spec, dtype=dtype))
    # What the layer holds, because Keras folds two biases into one.
    return spec, adapter.parameters(layer)


def built(layer: Any, batch: int | None = None) -> Any:
    layer.build((batch, None, FEATURES))
    return layer


def assert_follows(layer: Any, mask: str | None = None, state: bool = False, dtype: str = "float64") -> Recurrent:
    """Assert that a layer is as the reference computes it, with one of `MASKS`, from zero or given states."""
    adapter = get_adapter("keras")
    spec, blocks = loaded(layer, dtype, None if mask is None else "any")
    x, given = signal(dtype), start(spec, dtype) if state else None
    array = None if mask is None else mask_of(mask)
    out = adapter.run(layer, x, given, array)
    helpers.judge(spec, blocks, Given(x, given, array), dtype, out)
    return spec


# ---- What xframe builds.

_PROJECTED: dict[str, Any] = {"proj_size": PROJECTED}
_BACKWARD = {
    "gru": Recurrent("gru", FEATURES, 5, reset_after=False),
    "lstm": Recurrent("lstm", FEATURES, UNITS, activation="softsign", bias=False, recurrent_dropout=0.25),
    "projected": Recurrent("lstm", FEATURES, 8, proj_size=2, recurrent_activation="hard_sigmoid"),
    "stack": Recurrent("gru", FEATURES, 6, num_layers=3),
}
# On UNITS, two cells that put out 4 and 6.
_ABOVE = (
    Recurrent("lstm", UNITS, 8, proj_size=4, recurrent_activation="hard_sigmoid_keras2"),
    Recurrent("gru", 4, 6, reset_after=False, input_dropout=0.25),
)
SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn-go-backwards": ("rnn", {"go_backwards": True}),
    "lstm-go-backwards-stack": ("lstm", {"go_backwards": True, "num_layers": 3}),
    "gru-before-go-backwards": ("gru", {"go_backwards": True, "reset_after": False, "bias": False}),
    "lstm-sum": ("lstm", {"bidirectional": True, "merge_mode": "sum"}),
    "gru-mul": ("gru", {"bidirectional": True, "merge_mode": "mul"}),
    "gru-ave-stack": ("gru", {"bidirectional": True, "merge_mode": "ave", "num_layers": 3}),
    "lstm-none": ("lstm", {"bidirectional": True, "merge_mode": None}),
    "rnn-both-backwards": ("rnn", {"bidirectional": True, "go_backwards": True}),
    "lstm-both-backwards-stack": ("lstm", {"bidirectional": True, "go_backwards": True, "num_layers": 3}),
    "projected": ("lstm", _PROJECTED),
    "projected-no-bias": ("lstm", {**_PROJECTED, "bias": False}),
    "projected-stack": ("lstm", {**_PROJECTED, "num_layers": 3, "bidirectional": True, "dropout": 0.25}),
    "projected-others": ("lstm", {**_PROJECTED, "activation": "elu", "recurrent_activation": "hard_sigmoid_keras2"}),
    "projected-dropped": ("lstm", {**_PROJECTED, "input_dropout": 0.25, "recurrent_dropout": 0.125}),
    "backward-gru": ("lstm", {"bidirectional": True, "backward": _BACKWARD["gru"]}),
    "backward-lstm": ("lstm", {"bidirectional": True, "backward": _BACKWARD["lstm"], "merge_mode": "mul"}),
    "backward-projected": ("gru", {"bidirectional": True, "backward": _BACKWARD["projected"], "merge_mode": None}),
    "projected-backward-lstm": (
        "lstm",
        {
            **_PROJECTED,
            "bidirectional": True,
            "backward": Recurrent("gru", FEATURES, PROJECTED),
            "merge_mode": "ave",
            "go_backwards": True,
        },
    ),
    "backward-rnn": (
        "lstm",
        {"bidirectional": True, "backward": Recurrent("rnn", FEATURES, UNITS), "merge_mode": "mul"},
    ),
    "stacked": ("lstm", {"stacked": _ABOVE}),
    "stacked-backwards": ("lstm", {"stacked": _ABOVE, "go_backwards": True}),
    "stacked-alike-backwards": ("rnn", {"stacked": (Recurrent("rnn", UNITS, UNITS),) * 2, "go_backwards": True}),
    "stacked-both": ("gru", {"stacked": _ABOVE, "bidirectional": True, "merge_mode": "mul"}),
    "stacked-alike-both": ("gru", {"stacked": (Recurrent("gru", UNITS, UNITS),), "bidirectional": True}),
    "stacked-both-backwards": ("rnn", {"stacked": _ABOVE, "bidirectional": True, "go_backwards": True}),
    "stacked-backward-stack": (
        "lstm",
        {"stacked": _ABOVE, "bidirectional": True, "merge_mode": "sum", "backward": _BACKWARD["stack"]},
    ),
    "backward-stack": ("lstm", {"bidirectional": True, "backward": _BACKWARD["stack"], "go_backwards": True}),
    "stacked-backward-one": ("rnn", {"stacked": _ABOVE, "bidirectional": True, "backward": _BACKWARD["gru"]}),
    "dropped": ("gru", {"input_dropout": 0.25, "recurrent_dropout": 0.5, "dropout": 0.125, "num_layers": 3}),
    "keras2": ("gru", {"recurrent_activation": "hard_sigmoid_keras2", "activation": "relu6", "reset_after": False}),
    "rnn-cell": ("rnn", {"form": "cell", "activation": "sigmoid"}),
    "lstm-cell": ("lstm", {"form": "cell", "recurrent_dropout": 0.5}),
    "gru-cell": ("gru", {"form": "cell"}),
    "gru-before-cell": ("gru", {"form": "cell", "reset_after": False}),
    "projected-cell": ("lstm", {**_PROJECTED, "form": "cell"}),
}


def spec_of(name: str, **more: Any) -> Recurrent:
    cell, options = SPECS[name]
    return Recurrent(cell, FEATURES, UNITS, **{**options, **more})


@pytest.mark.parametrize("name", SPECS)
class TestBuilt:
    def test_it_is_what_was_asked_for(self, name: str) -> None:
        """The spec comes back; Keras's own names, shapes and order are those of the layout."""
        adapter, spec = get_adapter("keras"), spec_of(name)
        layer, natives = adapter.build(spec), adapter.packing.natives(spec)
        assert adapter.spec(layer) == spec
        assert [(w.path, tuple(w.shape)) for w in layer.weights] == [(n.name, n.shape) for n in natives]
        assert list(adapter.read(layer)) == [native.name for native in natives]

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_it_computes_what_the_reference_computes(self, name: str, dtype: str) -> None:
        adapter, spec = get_adapter("keras"), spec_of(name)
        blocks, x, state = helpers.weights(spec, dtype=dtype), signal(dtype), start(spec, dtype)
        layer = adapter.build_loaded(spec, blocks, dtype)
        for given in (None, state):
            helpers.judge(spec, blocks, Given(x, given), dtype, adapter.run(layer, x, given))

    def test_masks(self, name: str) -> None:
        adapter, x = get_adapter("keras"), signal()
        if SPECS[name][1].get("form") == "cell":
            with pytest.raises(UnsupportedError, match="bare cell has no mask"):
                adapter.run(adapter.build(spec_of(name), "float64"), x, None, mask_of("right"))
            return
        for output in ("zero",) if spec_of(name).bidirectional else ("repeat", "zero"):
            spec = spec_of(name, mask="any", masked_output=output)
            blocks, state = helpers.weights(spec), start(spec)
            layer = adapter.build_loaded(spec, blocks, "float64")
            assert adapter.spec(layer, "any") == spec
            for mask, begun in (("right", state), ("any", state), ("any", None)):
                given = Given(x, begun, mask_of(mask))
                helpers.judge(spec, blocks, given, "float64", adapter.run(layer, x, begun, given.mask))

    def test_clone(self, name: str) -> None:
        adapter, spec = get_adapter("keras"), spec_of(name)
        layer = adapter.build_loaded(spec, helpers.weights(spec), "float32")
        twin = adapter.clone(layer, "float64")
        assert (adapter.spec(twin), adapter.dtype(twin), adapter.dtype(layer)) == (spec, "float64", "float32")
        before = {name: array.copy() for name, array in adapter.read(layer).items()}
        for native, array in adapter.read(twin).items():
            assert array.dtype == "float64"
            assert np.array_equal(array, before[native])
        adapter.load(twin, helpers.weights(spec, 1))
        assert all(np.array_equal(adapter.read(layer)[n], before[n]) for n in before)


def test_names_of_stacked_cells_are_those_of_a_fresh_process() -> None:
    """As Keras 3.15 names them where this layer is the first that is made."""
    packing, cells = get_adapter("keras").packing, (Recurrent("gru", UNITS, 4), Recurrent("lstm", 4, 3))
    spec = Recurrent("lstm", FEATURES, UNITS, stacked=cells, bidirectional=True, go_backwards=True)
    kernels = [n.name.removesuffix("/kernel") for n in packing.natives(spec) if n.name.endswith("/kernel")]
    assert kernels == [
        "bidirectional/forward_rnn/stacked_rnn_cells/lstm_cell",
        "bidirectional/forward_rnn/stacked_rnn_cells/gru_cell",
        "bidirectional/forward_rnn/stacked_rnn_cells/lstm_cell_1",
        "bidirectional/rnn_1/stacked_rnn_cells_1/lstm_cell_2",
        "bidirectional/rnn_1/stacked_rnn_cells_1/gru_cell_1",
        "bidirectional/rnn_1/stacked_rnn_cells_1/lstm_cell_3",
    ]
    copied = packing.natives(Recurrent("lstm", FEATURES, UNITS, stacked=cells, bidirectional=True))
    assert copied[9].name == "bidirectional/backward_rnn/stacked_rnn_cells/lstm_cell/kernel"


@pytest.mark.parametrize("name", ["lstm-sum", "projected", "dropped", "gru-cell", "backward-gru"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(name: str, dtype: str) -> None:
    adapter, spec = get_adapter("keras"), spec_of(name)
    layer = adapter.build(spec, dtype)
    assert (adapter.spec(layer), adapter.dtype(layer)) == (spec, dtype)
    assert any(np.unique(array).size > 1 for array in adapter.read(layer).values())
    adapter.load(layer, helpers.weights(spec, dtype=dtype))
    blocks, x = adapter.parameters(layer), signal(dtype)
    assert {array.dtype.name for array in adapter.read(layer).values()} == {helpers.array_type(dtype)}
    helpers.judge(spec, blocks, Given(x), dtype, adapter.run(layer, x))
    assert adapter.dtype(adapter.clone(layer, "float32")) == "float32"


# ---- Activations.


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_activations(activation: str, cell: str) -> None:
    """Each as activation and as recurrent activation; in both types where nothing else is computed."""
    adapter = get_adapter("keras")
    options = [{"activation": activation}] + ([{"recurrent_activation": activation}] if cell != "rnn" else [])
    for chosen in options:
        for dtype in DTYPES if cell == "rnn" else ("float64",):
            spec = Recurrent(cell, FEATURES, UNITS, **chosen)
            # Elsewhere a smaller scale would leave what shrinks at zero; the exponential overflows at a larger one.
            scale = 0.4 if activation == "exponential" else 1.0
            blocks, x = helpers.weights(spec, dtype=dtype, scale=scale), signal(dtype, steps=3)
            layer = adapter.build_loaded(spec, blocks, dtype)
            assert adapter.spec(layer) == spec
            helpers.judge(spec, blocks, Given(x), dtype, adapter.run(layer, x))


def test_hard_sigmoid_keras2(ours: Any) -> None:
    """By hand: 0.2 x + 0.5 between -2.5 and 2.5."""
    x = np.array([-9.0, -2.5, -1.0, 0.0, 0.5, 2.5, 9.0])
    got = np.array(ours.hard_sigmoid_keras2(x))
    assert got == pytest.approx([0, 0, 0.3, 0.5, 0.6, 1, 1], abs=1e-15)


# ---- The user's own layers.


# By name, (keras.layers, xframe.keras) -> a layer.
OWN: dict[str, Callable[[Any, Any], Any]] = {
    "simple-rnn": lambda k, _: k.SimpleRNN(UNITS, activation="softplus", use_bias=False),
    "unroll": lambda k, _: k.LSTM(UNITS, unroll=True),
    "unroll-backwards": lambda k, _: k.GRU(UNITS, unroll=True, go_backwards=True),
    "linear": lambda k, own: k.LSTM(UNITS, activation=None, recurrent_activation=own.hard_sigmoid_keras2),
    "split-kernels": lambda k, _: k.GRU(UNITS, implementation=1, reset_after=False),
    "zeros": lambda k, _: k.LSTM(UNITS, zero_output_for_mask=True, return_sequences=True),
    "rnn-of-cell": lambda k, _: k.RNN(k.GRUCell(UNITS, dropout=0.25)),
    "rnn-of-projected": lambda k, own: k.RNN(own.ProjectedLSTMCell(UNITS, PROJECTED), go_backwards=True),
    "stacked": lambda k, _: k.RNN([k.LSTMCell(UNITS) for _ in range(3)]),
    "stacked-dropped": lambda k, _: k.RNN([k.GRUCell(UNITS, dropout=0.5, recurrent_dropout=0.5) for _ in range(2)]),
    "stacked-unroll": lambda k, _: k.RNN([k.GRUCell(UNITS) for _ in range(2)], unroll=True, return_state=True),
    "stacked-simple": lambda k, _: k.RNN([k.SimpleRNNCell(UNITS) for _ in range(2)], return_sequences=True),
    "stacked-projected": lambda k, own: k.RNN([own.ProjectedLSTMCell(UNITS, PROJECTED) for _ in range(2)]),
    "stacked-unlike": lambda k, _: k.RNN([k.LSTMCell(UNITS), k.GRUCell(6, reset_after=False), k.SimpleRNNCell(4)]),
    "stacked-unlike-unroll": lambda k, _: k.RNN([k.SimpleRNNCell(UNITS), k.GRUCell(6)], unroll=True, go_backwards=True),
    "stacked-backwards": lambda k, _: k.RNN([k.LSTMCell(UNITS), k.LSTMCell(UNITS)], go_backwards=True),
    "both-stacked": lambda k, _: k.Bidirectional(
        k.RNN([k.LSTMCell(UNITS), k.GRUCell(6)], return_sequences=True), merge_mode="sum"
    ),
    "both-stacked-differ": lambda k, _: k.Bidirectional(
        k.RNN([k.GRUCell(UNITS), k.GRUCell(6)]), backward_layer=k.LSTM(4, go_backwards=True)
    ),
    "both": lambda k, _: k.Bidirectional(k.RNN(k.LSTMCell(UNITS), return_sequences=True), merge_mode="ave"),
    "both-projected": lambda k, own: k.Bidirectional(k.RNN(own.ProjectedLSTMCell(UNITS, PROJECTED))),
    "both-apart": lambda k, _: k.Bidirectional(k.GRU(UNITS, return_sequences=True), merge_mode=None),
    "both-differ": lambda k, _: k.Bidirectional(k.LSTM(UNITS), backward_layer=k.GRU(5, go_backwards=True)),
    "both-of-a-backward-one": lambda k, _: k.Bidirectional(
        k.GRU(UNITS, go_backwards=True), backward_layer=k.SimpleRNN(UNITS), merge_mode="sum"
    ),
}
DIFFERENT = ("both-differ", "both-stacked-differ")  # in the number of states


def own_layer(name: str, keras: Any, ours: Any, dtype: str = "float64") -> Any:
    """A layer of `OWN`, in a float type, built."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        return built(OWN[name](keras.layers, ours))
    finally:
        keras.config.set_dtype_policy(before)


def states_at(state: dict[str, Any], layer: int, direction: int) -> list[Any]:
    """The states of one cell, h first, out of arrays for all layers and directions, or for one layer."""
    found = []
    for name, array in state.items():
        only = int(name.split()[1]) if name.startswith("layer") else None
        if only in (None, layer):
            found.append(array[layer if only is None else 0, direction])
    return found


@pytest.mark.parametrize("name", OWN)
class TestOwn:
    @pytest.mark.parametrize(("dtype", "state"), [("float64", False), ("float32", True)])
    def test_it_is_what_the_reference_computes(self, name: str, dtype: str, state: bool, keras: Any, ours: Any) -> None:
        layer = own_layer(name, keras, ours, dtype)
        for mask in (None, "any"):
            spec = assert_follows(layer, mask, state, dtype)
            assert spec.mask == (mask and "any")

    @pytest.mark.parametrize("mask", [None, "gaps"])
    def test_what_keras_hands_back(self, name: str, mask: str | None, keras: Any, ours: Any) -> None:
        """Called by the user, as he built it, from given states: the sequence or the last output, and the states."""
        layer = own_layer(name, keras, ours)
        spec, blocks = loaded(layer, mask=None if mask is None else "any")
        x, array = signal(), None if mask is None else mask_of(mask)
        state = None if name in DIFFERENT else start(spec)
        initial = None
        if state is not None:
            halves = [getattr(layer, n) for n in ("forward_layer", "backward_layer") if hasattr(layer, n)] or [layer]
            initial = []
            for d, half in enumerate(halves):
                cells = getattr(half.cell, "cells", [half.cell])
                nested = [states_at(state, k, d) for k in range(len(cells))]
                initial += nested if len(cells) > 1 else nested[0]
            initial = keras.tree.map_structure(keras.ops.convert_to_tensor, initial)
        out = layer(x, initial_state=initial, mask=array)
        flat = [np.array(one) for one in keras.tree.flatten(out)]
        got = np.concatenate(flat[:2], axis=-1) if spec.merge_mode is None else flat[0]
        kind = "sequence" if layer.return_sequences else "last"
        run = get_adapter("keras").run(layer, x, state, array).named()
        helpers.judge(spec, blocks, Given(x, state, array), "float64", {**run, kind: got})

    def test_nothing_is_changed(self, name: str, keras: Any, ours: Any) -> None:
        layer = own_layer(name, keras, ours)
        halves = [getattr(layer, n) for n in ("forward_layer", "backward_layer") if hasattr(layer, n)]
        before = [(part.get_config(), vars(part).get("zero_output_for_mask")) for part in (layer, *halves)]
        spec, blocks = loaded(layer)
        get_adapter("keras").run(layer, signal(), start(spec), mask_of("gaps"))
        after = [(part.get_config(), vars(part).get("zero_output_for_mask")) for part in (layer, *halves)]
        assert str(after) == str(before)
        helpers.judge(spec, blocks, Given(signal()), "float64", get_adapter("keras").run(layer, signal()))

    def test_clone(self, name: str, keras: Any, ours: Any) -> None:
        layer = own_layer(name, keras, ours)
        spec, blocks = loaded(layer, "float32", "any")
        twin = get_adapter("keras").clone(layer, "float32")
        assert get_adapter("keras").spec(twin, "any") == spec
        x, array = signal("float32"), mask_of("gaps")
        out = get_adapter("keras").run(twin, x, None, array)
        helpers.judge(spec, blocks, Given(x, None, array), "float32", out)

    def test_it_survives_a_file(self, name: str, keras: Any, ours: Any, tmp_path: Any) -> None:
        layer = own_layer(name, keras, ours, "float32")
        spec, blocks = loaded(layer, "float32")
        inputs = keras.Input((STEPS, FEATURES))
        model = keras.Model(inputs, layer(inputs))
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
        assert again is not layer
        assert get_adapter("keras").spec(again) == spec
        x = signal("float32")
        helpers.judge(spec, blocks, Given(x), "float32", get_adapter("keras").run(again, x))


def test_what_the_spec_says(keras: Any, ours: Any) -> None:
    """Written out by hand for some."""
    wanted = {
        "simple-rnn": Recurrent("rnn", FEATURES, UNITS, bias=False, activation="softplus"),
        "unroll-backwards": Recurrent("gru", FEATURES, UNITS, go_backwards=True),
        "linear": Recurrent("lstm", FEATURES, UNITS, activation="linear", recurrent_activation="hard_sigmoid_keras2"),
        "rnn-of-cell": Recurrent("gru", FEATURES, UNITS, input_dropout=0.25),
        "stacked-projected": Recurrent("lstm", FEATURES, UNITS, proj_size=PROJECTED, num_layers=2),
        "both-of-a-backward-one": Recurrent(
            "gru",
            FEATURES,
            UNITS,
            bidirectional=True,
            go_backwards=True,
            merge_mode="sum",
            backward=Recurrent("rnn", FEATURES, UNITS),
        ),
    }
    for name, spec in wanted.items():
        assert get_adapter("keras").spec(own_layer(name, keras, ours)) == spec
    masked = {"zeros": ("any", "zero"), "unroll": ("any", "repeat"), "both": ("any", "zero")}
    for name, (mask, output) in masked.items():
        spec = get_adapter("keras").spec(own_layer(name, keras, ours), mask)
        assert (spec.mask, spec.masked_output) == (mask, output)
        assert get_adapter("keras").spec(own_layer(name, keras, ours)).masked_output is None
        assert get_adapter("keras").spec(own_layer(name, keras, ours), "right").mask == "right"


# ---- Where masks come from.


@pytest.mark.parametrize("output", ["repeat", "zero"])
def test_masking(keras: Any, output: str) -> None:
    """A Masking layer in front: steps whose features all equal its value."""
    layers, adapter = keras.layers, get_adapter("keras")
    x, array = signal(), mask_of("gaps")
    x[~array] = -1.5
    x[0, 1, :2] = -1.5  # some features only: not masked
    for make in (
        lambda: layers.LSTM(UNITS, return_sequences=True, zero_output_for_mask=output == "zero", dtype="float64"),
        lambda: layers.GRU(UNITS, return_sequences=True, go_backwards=True, dtype="float64"),
        lambda: layers.Bidirectional(layers.GRU(UNITS, return_sequences=True, dtype="float64"), dtype="float64"),
    ):
        stack = [layers.Masking(-1.5, dtype="float64"), make(), make()]
        model = keras.Sequential([keras.Input((STEPS, FEATURES), dtype="float64"), *stack])
        spec, blocks = loaded(model)
        assert spec.mask == "any"
        given = Given(x, None, array)
        own = np.array(model(x))
        for one in (model, model.layers, adapter.clone(model, "float64")):
            assert adapter.spec(one) == spec
            helpers.judge(spec, blocks, given, "float64", {**adapter.run(one, x).named(), "sequence": own})
        # A mask that is given is made by the Masking layer, of an x that says so.
        other = signal(seed=2)
        helpers.judge(spec, blocks, Given(other, None, array), "float64", adapter.run(model, other, None, array))
        with pytest.raises(SpecError, match=r"features all equal -1\.5, at which .* masks it"):
            adapter.run(model, x, None, ~array)
        assert adapter.spec(model, "right").mask == "right"


def test_layers_that_mask_other_numbers_are_not_the_same(keras: Any) -> None:
    layers = keras.layers

    def masking(value: float) -> Any:
        model = keras.Sequential([keras.Input((None, 4)), layers.Masking(value), layers.LSTM(3)])
        model.set_weights(
            [np.random.default_rng(i).uniform(0.1, 0.6, w.shape) for i, w in enumerate(model.get_weights())]
        )
        return model

    assert xframe.compare(masking(-1.5), masking(-1.5)).status == "equivalent"
    found = xframe.compare(masking(0.0), masking(-1.5))
    assert found.status == "different"
    which = "masks the time steps whose features all equal"
    assert found.reason.startswith(
        f"Keras (a) {which} 0 and Keras (b) {which} -1.5: on padded input they put out something else"
    )
    diagnosis = xframe.diagnose(masking(0.0), masking(-1.5))
    assert (diagnosis.status, diagnosis.reason) == ("unexplained", found.reason)


def test_keras_drops_a_mask_that_comes_with_the_sequence_where_states_are_given(keras: Any) -> None:
    """If this fails, Keras has mended it. xframe hands the mask of a Masking layer on by itself."""
    layers, x = keras.layers, signal("float32")
    x[~mask_of("gaps")] = 0
    layer = built(layers.GRU(UNITS, return_sequences=True))
    first = [np.ones((len(x), UNITS), "float32")]
    implicit, mask = layers.Masking()(x), keras.ops.convert_to_tensor(mask_of("gaps"))
    dropped, kept, none = (
        keras.ops.convert_to_numpy(y)
        for y in (
            layer(implicit, initial_state=first),
            layer(implicit, initial_state=first, mask=mask),
            layer(keras.ops.convert_to_tensor(x), initial_state=first),
        )
    )
    assert np.array_equal(dropped, none)
    assert np.abs(dropped - kept).max() > 0.01


def test_embedding(keras: Any) -> None:
    """The mask of an Embedding reaches the layer by Keras itself."""
    layers, adapter = keras.layers, get_adapter("keras")
    ids = np.array(
        [[3, 0, 1, 0, 2], [0, 0, 0, 0, 0], [1, 2, 3, 0, 0], [0, 0, 4, 4, 1], [2, 1, 2, 1, 2], [4, 0, 0, 0, 1]]
    )
    inputs = keras.Input((STEPS,), dtype="int32")
    embedding = layers.Embedding(5, FEATURES, mask_zero=True, dtype="float64")
    one = layers.LSTM(UNITS, return_sequences=True, dtype="float64")
    two = layers.Bidirectional(layers.GRU(UNITS, dtype="float64"), merge_mode="mul", dtype="float64")
    embedded = embedding(inputs)
    model = keras.Model(inputs, [one(embedded), two(embedded)])
    table = numbers(8, (5, FEATURES), 1.5, "float64")
    embedding.set_weights([table])
    given = Given(table[ids], None, ids != 0)
    for layer, place, kind in ((one, 0, "sequence"), (two, 1, "last")):
        spec, blocks = loaded(layer, mask="any")
        own = np.array(model(ids)[place])
        out = adapter.run(layer, table[ids], None, np.array(embedding.compute_mask(ids)))
        helpers.judge(spec, blocks, given, "float64", {**out.named(), kind: own})
    with pytest.raises(UnsupportedError, match=r"Embedding is not modelled here; .*embedding\.compute_mask\(ids\)"):
        adapter.spec([embedding, one])


@pytest.mark.parametrize("mask", MASKS)
def test_a_stack_with_dropout_between(keras: Any, mask: str) -> None:
    layers = keras.layers
    stack = [
        keras.Input((STEPS, FEATURES), dtype="float64"),
        layers.LSTM(UNITS, return_sequences=True, go_backwards=True, recurrent_dropout=0.5, dtype="float64"),
        layers.Dropout(0.25, dtype="float64"),
        layers.LSTM(UNITS, go_backwards=True, recurrent_dropout=0.5, dtype="float64"),
    ]
    model = keras.Sequential(stack)
    for one in (model, stack[1:]):
        spec = assert_follows(one, mask, state=True)
        assert spec == Recurrent(
            "lstm", FEATURES, UNITS, num_layers=2, go_backwards=True, recurrent_dropout=0.5, dropout=0.25, mask="any"
        )
    # What the user gets of the model, to which Keras hands the mask on by itself.
    spec, blocks = loaded(model, mask="any")
    array = mask_of(mask)
    own = np.array(model(signal(), mask=array))
    run = get_adapter("keras").run(model, signal(), None, array).named()
    helpers.judge(spec, blocks, Given(signal(), None, array), "float64", {**run, "last": own})
    assert get_adapter("keras").spec(get_adapter("keras").clone(model, "float32"), "any") == spec


@pytest.mark.parametrize("mask", [None, "gaps"])
def test_stacked_cells_below_a_layer(keras: Any, mask: str | None) -> None:
    layers = keras.layers
    cells = [layers.LSTMCell(UNITS, dtype="float64") for _ in range(2)]
    lower = layers.RNN(layers.StackedRNNCells(cells, dtype="float64"), return_sequences=True, dtype="float64")
    upper = layers.LSTM(UNITS, dtype="float64")
    upper.build((None, None, UNITS))
    spec = assert_follows([built(lower), upper], mask, state=True)
    assert spec == Recurrent("lstm", FEATURES, UNITS, num_layers=3, mask=mask and "any")


# ---- States.


def stateful_layers(k: Any, own: Any) -> list[Any]:
    options = {"stateful": True, "dtype": "float64"}
    cell = {"dtype": "float64"}
    return [
        k.SimpleRNN(UNITS, **options),
        k.LSTM(UNITS, return_state=True, **options),
        k.GRU(UNITS, go_backwards=True, return_sequences=True, **options),
        k.RNN(k.StackedRNNCells([k.LSTMCell(UNITS, **cell), k.LSTMCell(UNITS, **cell)], **cell), **options),
        k.RNN(own.ProjectedLSTMCell(UNITS, PROJECTED, **cell), **options),
        k.Bidirectional(k.LSTM(UNITS, return_state=True, **options), dtype="float64"),
        k.Bidirectional(
            k.LSTM(UNITS, **options), backward_layer=k.GRU(5, go_backwards=True, **options), dtype="float64"
        ),
    ]


@pytest.mark.parametrize("i", range(7))
@pytest.mark.parametrize("mask", [None, "any"])
def test_stateful(keras: Any, ours: Any, i: int, mask: str | None) -> None:
    """Three calls, each from where the one before it ended; then zeros again; then from given states."""
    adapter, layer = get_adapter("keras"), built(stateful_layers(keras.layers, ours)[i], BATCH)
    spec, blocks = loaded(layer, mask=mask and "any")
    assert (spec.stateful, spec.batch_size) == (True, BATCH)
    array, before = None if mask is None else mask_of(mask), None
    for call in range(3):
        given = Given(signal(seed=call), None, array, before)
        helpers.judge(spec, blocks, given, "float64", adapter.run(layer, given.x, None, array))
        before = given
    adapter.reset(layer)
    first = Given(signal(seed=3), None, array)
    helpers.judge(spec, blocks, first, "float64", adapter.run(layer, first.x, None, array))
    # A clone has states of its own, and its calls are not the layer's.
    twin = adapter.clone(layer, "float64")
    assert adapter.spec(twin, mask and "any") == spec
    helpers.judge(spec, blocks, first, "float64", adapter.run(twin, first.x, None, array))
    second = Given(signal(seed=4), None, array, first)
    helpers.judge(spec, blocks, second, "float64", adapter.run(layer, second.x, None, array))
    state = start(spec)
    third = Given(signal(seed=5), state, array)
    helpers.judge(spec, blocks, third, "float64", adapter.run(layer, third.x, state, array))
    fourth = Given(signal(seed=6), None, array, third)
    helpers.judge(spec, blocks, fourth, "float64", adapter.run(layer, fourth.x, None, array))
    with pytest.raises(SpecError, match="keeps states for 6 rows, not 2"):
        adapter.run(layer, signal(batch=2))


@pytest.mark.parametrize("name", ["lstm-sum", "projected-stack", "backward-gru", "gru-before-go-backwards"])
def test_stateful_as_built(name: str) -> None:
    adapter, spec = get_adapter("keras"), spec_of(name, stateful=True, batch_size=BATCH)
    layer = adapter.build_loaded(spec, helpers.weights(spec), "float64")
    assert adapter.spec(layer) == spec
    before = None
    for call in range(3):
        given = Given(signal(seed=call), None, None, before)
        helpers.judge(spec, helpers.weights(spec), given, "float64", adapter.run(layer, given.x))
        before = given
    adapter.reset(layer)
    helpers.judge(spec, helpers.weights(spec), Given(signal()), "float64", adapter.run(layer, signal()))


# ---- The cell with a projection.


class TestProjected:
    def test_by_hand(self, ours: Any) -> None:
        """One step from the equations of the paper, typed in."""
        d, n, p = 3, 5, 2
        cell = ours.ProjectedLSTMCell(n, p, dtype="float64")
        cell.build((None, d))
        shapes = [(d, 4 * n), (p, 4 * n), (4 * n,), (n, p)]
        assert [tuple(w.shape) for w in cell.weights] == shapes
        kernel, recurrent, bias, projection = (numbers(i, s, 0.9, "float64") for i, s in enumerate(shapes))
        cell.set_weights([kernel, recurrent, bias, projection])
        x, h, c = (numbers(10 + i, (4, size), 0.8, "float64") for i, size in enumerate((d, p, n)))
        z = x @ kernel + h @ recurrent + bias
        i, f, g, o = (z[:, k * n : (k + 1) * n] for k in range(4))

        def sigmoid(a: np.ndarray) -> np.ndarray:
            return 1 / (1 + np.exp(-a))

        wanted_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        wanted_h = (sigmoid(o) * np.tanh(wanted_c)) @ projection
        out, (new_h, new_c) = cell(x, [h, c])
        for got, wanted in ((out, wanted_h), (new_h, wanted_h), (new_c, wanted_c)):
            assert np.array(got) == pytest.approx(wanted, abs=1e-14)

    def test_it_begins_as_lstmcell_does(self, keras: Any, ours: Any) -> None:
        for options in ({}, {"unit_forget_bias": False}, {"bias_initializer": "ones"}, {"use_bias": False}):
            mine, theirs = ours.ProjectedLSTMCell(5, 2, **options), keras.layers.LSTMCell(5, **options)
            for cell in (mine, theirs):
                cell.build((None, 3))
            if mine.use_bias:
                assert np.array_equal(mine.bias, theirs.bias)
            else:
                assert mine.bias is None
            assert np.unique(np.array(mine.projection)).size == 10

    def test_it_trains_with_dropout(self, keras: Any, ours: Any) -> None:
        """Dropout changes what is computed in training only, and gradients reach every weight."""
        layer = keras.layers.RNN(ours.ProjectedLSTMCell(5, 2, dropout=0.5, recurrent_dropout=0.5, seed=1))
        x = signal("float32")
        assert not np.allclose(layer(x, training=True), layer(x))
        assert np.array_equal(layer(x), layer(x))
        model = keras.Sequential([keras.Input((STEPS, FEATURES)), layer])
        before = [w.copy() for w in model.get_weights()]
        model.compile("sgd", "mse")
        model.fit(x, numbers(3, (BATCH, 2), 1.0, "float32"), epochs=1, verbose=0)
        assert all(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))

    @pytest.mark.parametrize("p", [0, 5, 6, -1])
    def test_sizes(self, ours: Any, p: int) -> None:
        with pytest.raises(SpecError, match=f"proj_size must be from 1 to less than units \\(5\\), not {p}"):
            ours.ProjectedLSTMCell(5, p)

    def test_the_packing_says_whose_it_is(self) -> None:
        packing = get_adapter("keras").packing
        assert packing.layer_name(spec_of("projected")) == "keras.layers.RNN(xframe.keras.ProjectedLSTMCell)"
        assert packing.why_ours(spec_of("backward-projected")) == "keras.layers.LSTM has no projection"
        assert packing.layer_name(spec_of("keras2")) == "keras.layers.GRU(reset_after=False)"

    def test_a_saved_model(self, keras: Any, ours: Any, tmp_path: Any) -> None:
        """Stacked, in both directions, behind a mask, with the registered activation."""
        layers = keras.layers

        def cell() -> Any:
            return ours.ProjectedLSTMCell(UNITS, PROJECTED, recurrent_activation=ours.hard_sigmoid_keras2)

        model = keras.Sequential(
            [
                keras.Input((STEPS, FEATURES)),
                layers.Masking(),
                layers.Bidirectional(layers.RNN(cell(), return_sequences=True)),
                layers.Bidirectional(layers.RNN(cell())),
            ]
        )
        spec, blocks = loaded(model, "float32")
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        x, array = signal("float32"), mask_of("gaps")
        x[~array] = 0
        assert get_adapter("keras").spec(again) == spec
        out = get_adapter("keras").run(again, x).named()
        helpers.judge(
            spec, blocks, Given(x, None, array), "float32", {**out, "last": np.array(again.predict(x, verbose=0))}
        )


# ---- What is refused.


# By name, (keras.layers, xframe.keras) -> what is refused, and the words.
REFUSED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "own-function": (lambda k, _: k.LSTM(2, activation=halved), "activation=.* is not modelled; use Keras's own"),
    "own-tanh": (lambda k, _: k.LSTM(2, activation=tanh), "activation=.* is not modelled; use Keras's own"),
    "glu": (lambda k, _: k.LSTM(2, activation="glu"), "activation of the Keras layer 'lstm.*'glu': it halves"),
    "threshold": (lambda k, _: k.GRU(2, recurrent_activation="threshold"), "recurrent_activation of .*threshold"),
    "other-cell": (lambda k, _: k.RNN(type("Mine", (k.LSTMCell,), {})(2)), "Mine is not modelled; the cells are"),
    "two-kinds": (lambda k, _: [k.LSTM(2), k.GRU(2)], "Layer 1 of the stack.*not of one kind.*one by one"),
    "stacked-in-a-stack": (lambda k, _: [k.RNN([k.LSTMCell(4), k.LSTMCell(2)]), k.LSTM(2)], "of the stack.*cells"),
    "stacked-above": (lambda k, _: [k.LSTM(2), k.RNN([k.LSTMCell(4), k.LSTMCell(2)])], "Layer 1 of the stack"),
    "stacked-both-in-a-stack": (
        lambda k, _: [k.Bidirectional(k.RNN([k.LSTMCell(1), k.LSTMCell(1)])) for _ in range(2)],
        "of the stack.*cells",
    ),
    "stacked-one": (lambda k, _: k.RNN([k.LSTMCell(2)], unroll=True), "one cell in keras.layers.StackedRNNCells"),
    "twice": (lambda k, _: [k.LSTM(2)] * 2, "stands twice"),
    "cell-twice": (lambda k, _: [k.RNN(cell) for cell in [k.LSTMCell(2)] * 2], "stands twice"),
    "dropout-first": (lambda k, _: [k.Dropout(0.5), k.LSTM(2)], "Dropout is not modelled here; only between"),
    "dropout-last": (lambda k, _: [k.LSTM(2), k.Dropout(0.5)], "Dropout is not modelled here; only between"),
    "dropout-twice": (lambda k, _: [k.LSTM(2), k.Dropout(0.5), k.Dropout(0.5), k.LSTM(2)], "Dropout is not modelled"),
    "dropout-shaped": (lambda k, _: [k.LSTM(2), k.Dropout(0.5, (None, 1, None)), k.LSTM(2)], "noise_shape"),
    "dropout-rates": (lambda k, _: [k.LSTM(2), k.Dropout(0.5), k.LSTM(2), k.LSTM(2)], r"differ \(0\.5, 0\)"),
    "masking-later": (lambda k, _: [k.LSTM(2), k.Masking(), k.LSTM(2)], "Masking is not modelled here; it must be"),
    "masking-alone": (lambda k, _: k.Masking(), "Masking is not modelled"),
    "cell-in-a-stack": (lambda k, own: [own.ProjectedLSTMCell(3, 2), k.LSTMCell(2)], "LSTMCell is not modelled"),
    "apart-in-a-stack": (
        lambda k, _: [k.Bidirectional(k.GRU(2), merge_mode=None) for _ in range(2)],
        "no second layer can read",
    ),
    "all-dropped": (lambda k, _: k.LSTM(2, dropout=1.0), "input_dropout must be a rate"),
}


def halved(x: Any) -> Any:
    return x / 2


def tanh(x: Any) -> Any:
    """Named like one of Keras's."""
    return x / 2


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, keras: Any, ours: Any) -> None:
    make, words = REFUSED[name]
    layer, features = make(keras.layers, ours), FEATURES
    for one in layer if isinstance(layer, list) else [layer]:
        if not one.built:
            one.build((None, features) if isinstance(one, keras.layers.LSTMCell) else (None, STEPS, features))
        features = 2 if one.weights else features
    with pytest.raises(UnsupportedError, match=words) as caught:
        get_adapter("keras").spec(layer)
    assert "\n" not in str(caught.value)


def test_refused_with_a_mask(keras: Any) -> None:
    layers, adapter = keras.layers, get_adapter("keras")
    for layer, words in (
        (layers.LSTM(2, zero_output_for_mask=True), "zero_output_for_mask=True and return_sequences=False"),
        (layers.RNN([layers.GRUCell(2)]), "one cell in keras.layers.StackedRNNCells"),
        (layers.Dense(2), "takes no mask"),
    ):
        built(layer)
        adapter.spec(layer)
        with pytest.raises(UnsupportedError, match=words):
            adapter.spec(layer, "any")
    adapter.run(built(layers.RNN([layers.GRUCell(2)])), signal("float32"))
    layer = built(layers.LSTM(2))
    for wrong, words in (
        (mask_of("gaps").astype(int), "type bool"),
        (mask_of("gaps")[:, :-1], r"\(batch, time\)"),
    ):
        with pytest.raises(SpecError, match=words):
            adapter.run(layer, signal("float32"), None, wrong)
    with pytest.raises(UnsupportedError, match="writes zeros at masked steps; use masked_output='zero'"):
        adapter.build(Recurrent("lstm", 3, 2, bidirectional=True, mask="any", masked_output="repeat"))


def test_mixed_float_types(keras: Any) -> None:
    layers, adapter = keras.layers, get_adapter("keras")
    for layer in (
        layers.LSTM(2, dtype="mixed_float16"),
        layers.RNN(layers.LSTMCell(2, dtype="float64"), dtype="float32"),
        layers.RNN([layers.LSTMCell(2, dtype="float64")], dtype="float64"),
        layers.Bidirectional(layers.LSTM(2, dtype="float64"), dtype="float32"),
    ):
        with pytest.raises(UnsupportedError, match="float64"):
            adapter.dtype(built(layer))
    masking = [layers.Masking(dtype="float32"), built(layers.LSTM(2, dtype="float64"))]
    with pytest.raises(UnsupportedError, match="float32 and float64"):
        adapter.dtype(masking)
    assert set(FLOATS) == {adapter.dtype(adapter.blank(Recurrent("gru", 3, 2), one)) for one in FLOATS}


# ---- What Keras gets wrong. When one of these fails, Keras has mended it: take the refusal out.


def test_an_unrolled_bidirectional_layer_that_returns_its_last_output(keras: Any) -> None:
    """It writes no zeros for the user, but would where its sequence is asked for."""
    layer = built(keras.layers.Bidirectional(keras.layers.LSTM(UNITS, unroll=True)))
    get_adapter("keras").run(layer, signal("float32"))
    with pytest.raises(UnsupportedError, match=r"wrong time steps.*unroll=False"):
        get_adapter("keras").run(layer, signal("float32"), None, mask_of("right"))


@pytest.mark.parametrize("both", [False, True])
def test_keras_zeroes_the_wrong_steps(keras: Any, both: bool) -> None:
    """unroll, go_backwards and zero_output_for_mask: the mask is reversed for the loop, but not for the zeros."""
    options = {"return_sequences": True, "dtype": "float64", "zero_output_for_mask": True}
    array, adapter, outputs = mask_of("right"), get_adapter("keras"), []
    for unroll in (False, True):
        layer = keras.layers.LSTM(UNITS, unroll=unroll, go_backwards=not both, **options)
        if both:
            layer = keras.layers.Bidirectional(layer, dtype="float64")
        spec, blocks = loaded(built(layer), mask=None)
        masked = Recurrent(**{**spec.options(), "mask": "any", "masked_output": "zero"})
        if unroll:
            with pytest.raises(UnsupportedError, match=r"wrong time steps.*unroll=False"):
                adapter.run(layer, signal(), None, array)
        else:
            right = adapter.run(layer, signal(), None, array).named()
        own = {**right, "sequence": np.array(layer(signal(), mask=array))}
        outputs.append(helpers.worst(masked, blocks, Given(signal(), None, array), "float64", own))
        adapter.run(layer, signal())
    assert outputs[0] < 10 < outputs[1]


def test_keras_cannot_reset_stacked_cells(keras: Any) -> None:
    layer = keras.layers.RNN([keras.layers.GRUCell(2), keras.layers.GRUCell(2)], stateful=True)
    built(layer, BATCH)
    with pytest.raises(AttributeError, match="assign"):
        layer.reset_state()
    get_adapter("keras").reset(layer)


def test_keras_cannot_return_the_states_of_a_stateful_bidirectional_layer(keras: Any) -> None:
    layer = built(keras.layers.Bidirectional(keras.layers.GRU(2, stateful=True, return_state=True)), BATCH)
    with pytest.raises(TypeError, match="generator"):
        layer(signal("float32"))
    get_adapter("keras").run(layer, signal("float32"))


def test_keras_cannot_start_two_kinds_from_given_states(keras: Any) -> None:
    """Bidirectional splits the list of states in the middle."""
    layer = keras.layers.Bidirectional(keras.layers.LSTM(UNITS), backward_layer=keras.layers.GRU(5, go_backwards=True))
    built(layer)
    states = [np.zeros((BATCH, size), "float32") for size in (UNITS, UNITS, 5)]
    with pytest.raises(IndexError):
        layer(signal("float32"), initial_state=states)


def test_the_last_output_of_a_row_without_a_valid_step(keras: Any) -> None:
    """Keras hands back zeros, its output before any step, even from given states; `last` is what the states came to."""
    layer = built(keras.layers.GRU(UNITS, dtype="float64"))
    spec, _ = loaded(layer, mask="any")
    state, mask = start(spec), mask_of("any")
    own = np.array(layer(signal(), initial_state=keras.ops.convert_to_tensor(state["h"][0, 0]), mask=mask))
    out = get_adapter("keras").run(layer, signal(), state, mask)
    assert not own[1].any()
    assert np.array_equal(out.last[1], state["h"][0, 0, 1])
    assert np.array_equal(out.last[mask.any(axis=1)], own[mask.any(axis=1)])


# ---- Mistakes are seen.


def seen(layer: Any, given: Given, run: Callable[[Any, Any], Any], mask: str | None = None) -> None:
    """Assert that what `run` makes of (adapter, layer) is not what the reference says of what was given."""
    spec, blocks = loaded(layer, mask=mask)
    out = run(get_adapter("keras"), layer)
    assert helpers.worst(spec, blocks, given, "float64", out) > 1e6


class TestMistakes:
    @pytest.mark.parametrize(
        "wrong",
        [
            lambda mask: None,
            lambda mask: mask[:, ::-1].copy(),
            lambda mask: np.roll(mask, 1, axis=1),
            lambda mask: np.concatenate([mask[:, 1:], mask[:, -1:]], axis=1),
            lambda mask: ~mask,
        ],
        ids=["ignored", "left-for-right", "late", "early", "inverted"],
    )
    @pytest.mark.parametrize("both", [False, True])
    def test_masks(self, keras: Any, wrong: Callable[[Any], Any], both: bool) -> None:
        layer = keras.layers.LSTM(UNITS, dtype="float64")
        layer = built(keras.layers.Bidirectional(layer, dtype="float64") if both else layer)
        mask = mask_of("right")
        given = Given(signal(), None, mask)
        seen(layer, given, lambda adapter, one: adapter.run(one, given.x, None, wrong(mask)), "any")

    def test_masked_output(self, keras: Any) -> None:
        layer = built(keras.layers.LSTM(UNITS, return_sequences=True, dtype="float64"))
        given = Given(signal(), None, mask_of("gaps"))

        def run(adapter: Any, one: Any) -> Any:
            one.zero_output_for_mask = True
            return adapter.run(one, given.x, None, given.mask)

        seen(layer, given, run, "any")

    def test_states_swapped(self, keras: Any) -> None:
        layer = built(keras.layers.LSTM(UNITS, dtype="float64"))
        state = start(Recurrent("lstm", FEATURES, UNITS))
        swapped = {"h": state["c"], "c": state["h"]}
        seen(layer, Given(signal(), state), lambda adapter, one: adapter.run(one, signal(), swapped))

    def test_directions_swapped(self, keras: Any) -> None:
        layer = built(keras.layers.Bidirectional(keras.layers.GRU(UNITS, dtype="float64"), dtype="float64"))
        state = start(Recurrent("gru", FEATURES, UNITS, bidirectional=True))
        swapped = {"h": state["h"][:, ::-1]}
        seen(layer, Given(signal(), state), lambda adapter, one: adapter.run(one, signal(), swapped))

    @pytest.mark.parametrize("carried", [False, True])
    def test_state_not_carried_or_not_reset(self, keras: Any, carried: bool) -> None:
        layer = built(keras.layers.GRU(UNITS, stateful=True, dtype="float64"), BATCH)
        first = Given(signal(seed=1))
        second = Given(signal(seed=2), None, None, None if carried else first)

        def run(adapter: Any, one: Any) -> Any:
            adapter.run(one, first.x)
            if not carried:
                adapter.reset(one)
            return adapter.run(one, second.x)

        seen(layer, second, run)

    @pytest.mark.parametrize("wrong", ["mul", "ave", "concat"])
    def test_merge_mode(self, keras: Any, wrong: str) -> None:
        layer = built(keras.layers.Bidirectional(keras.layers.GRU(UNITS, dtype="float64"), "sum", dtype="float64"))

        def run(adapter: Any, one: Any) -> Any:
            one.merge_mode = wrong
            return adapter.run(one, signal())

        if wrong == "concat":
            with pytest.raises(AssertionError, match="sequence"):
                seen(layer, Given(signal()), run)
        else:
            seen(layer, Given(signal()), run)

    @pytest.mark.parametrize("swapped", [False, True])
    def test_slope_of_the_hard_sigmoid(self, keras: Any, ours: Any, swapped: bool) -> None:
        functions = [keras.activations.hard_sigmoid, ours.hard_sigmoid_keras2]
        right, wrong = functions[::-1] if swapped else functions
        layer = built(keras.layers.LSTM(UNITS, recurrent_activation=right, dtype="float64"))

        def run(adapter: Any, one: Any) -> Any:
            one.cell.recurrent_activation = wrong
            return adapter.run(one, signal())

        seen(layer, Given(signal()), run)

    def test_direction(self, keras: Any) -> None:
        layer = built(keras.layers.LSTM(UNITS, go_backwards=True, dtype="float64"))

        def run(adapter: Any, one: Any) -> Any:
            one.go_backwards = False
            return adapter.run(one, signal())

        seen(layer, Given(signal()), run)
