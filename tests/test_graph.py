"""Whole models as graphs: what Keras 1, 2 and 3 call their layers, and the graph in NumPy against what Keras computes.

Keras 3 and tf_keras, which is Keras 2, are the oracles: they write the files and run the models. A graph is right where it is
within the rounding noise of the output in float32; each mistake of a list must be far outside.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import sole_noise, sole_probe, sole_run

from xframe import noise as noises
from xframe import pieces
from xframe.errors import SpecError, UnsupportedError
from xframe.files import load
from xframe.files.base import ModelFile, StoredLayer, StoredTensor
from xframe.graph import KINDS, Graph, Input, Node, Output, arithmetic, chained, graph_of, graph_of_model, running
from xframe.judging import LIMIT
from xframe.layout import Key
from xframe.recognition import recognise
from xframe.spec import Dense, Recurrent

pytestmark = pytest.mark.needs("keras")

Build = Callable[[Any], list[Any]]


@pytest.fixture(scope="module")
def keras() -> ModuleType:
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def legacy() -> ModuleType:
    return pytest.importorskip("tf_keras")


def fill(model: Any, seed: int = 0) -> Any:
    """Distinct weights away from zero; what is a variance is positive."""
    random = np.random.default_rng(seed)
    arrays = []
    for variable in model.weights:
        array = helpers.away_from_zero(random, tuple(variable.shape), 1.4 / np.sqrt(max(variable.shape[0], 2)))
        arrays.append(np.abs(array) + 0.3 if "variance" in variable.name else array)
    model.set_weights(arrays)
    return model


def ratio(graph: Graph, got: np.ndarray, x: np.ndarray) -> float:
    clean, deviation = sole_noise(graph, x, "float32")
    assert clean.shape == got.shape
    assert clean.any()
    return float(noises.ratio(got, clean, deviation).max())


def agrees(graph: Graph, model: Any, sizes: tuple[tuple[int, int], ...] = ((5, 7), (3, 4), (1, 6))) -> None:
    """The graph computes what the model does, and in float32 rounds as it does."""
    for seed, (batch, steps) in enumerate(sizes):
        x = sole_probe(graph, batch, steps, seed)
        # Called, not model.predict, in which TimeDistributed of Keras 3.15 takes the batch for the number of time steps
        # (it asks for the shape before it transposes) unless that is fixed.
        got = np.asarray(model(x, training=False))
        assert ratio(graph, got, x) < LIMIT, (batch, steps)
        own, mask = running.sole(running.run_masked(graph, x))
        assert own.dtype == np.float32
        assert ratio(graph, own, x) < LIMIT
        value = graph.outputs[0].value
        assert (mask is not None) == graph.masked[value]
        assert own.shape[1:] == tuple(
            n if axis is None else axis for axis, n in zip(graph.shapes[value], own.shape[1:], strict=True)
        )


def same_graph(graph: Graph, other: Graph) -> None:
    """But for the names that a file has for its tensors."""
    ours, others = (replace(one, nodes=tuple(replace(n, sources=()) for n in one.nodes)) for one in (graph, other))
    assert ours == others


def of_file(model: Any, path: Path) -> Graph:
    model.save(path)
    return graph_of(recognise(load(path)))


# Name, input shape, and the layers: every kind, and every option of it. In both generations of Keras.
MODELS: dict[str, tuple[tuple[int | None, ...], Build]] = {
    "rnn": ((None, 3), lambda k: [k.SimpleRNN(4, activation="relu")]),
    "lstm": ((None, 3), lambda k: [k.LSTM(4, return_sequences=True), k.LSTM(3, recurrent_activation="hard_sigmoid")]),
    "gru": ((None, 3), lambda k: [k.GRU(4, reset_after=False, return_sequences=True), k.GRU(3, use_bias=False)]),
    "backwards": (
        (None, 3),
        lambda k: [k.LSTM(4, go_backwards=True, return_sequences=True), k.GRU(3, go_backwards=True)],
    ),
    "bidirectional": (
        (None, 3),
        lambda k: [k.Bidirectional(k.LSTM(4, return_sequences=True), merge_mode="ave"), k.Bidirectional(k.GRU(2))],
    ),
    "backward layer": (
        (None, 3),
        lambda k: [k.Bidirectional(k.LSTM(4), backward_layer=k.LSTM(2, go_backwards=True, activation="relu"))],
    ),
    "stacked cells": (
        (None, 3),
        lambda k: [
            k.RNN([k.LSTMCell(4), k.LSTMCell(4), k.LSTMCell(4)], return_sequences=True),
            k.RNN([k.GRUCell(2), k.LSTMCell(3)]),
        ],
    ),
    "stacked backwards": ((None, 3), lambda k: [k.RNN([k.LSTMCell(4), k.GRUCell(4)], go_backwards=True)]),
    "dense": ((5,), lambda k: [k.Dense(4, activation="tanh"), k.Dense(3, use_bias=False), k.Dense(6, "softmax")]),
    "dense over time": ((None, 5), lambda k: [k.Dense(4, "relu"), k.TimeDistributed(k.Dense(3, "softmax")), k.LSTM(2)]),
    "embedding": ((None,), lambda k: [k.Embedding(9, 5), k.LSTM(4)]),
    "embedding mask": (
        (None,),
        lambda k: [k.Embedding(9, 5, mask_zero=True), k.LSTM(4, return_sequences=True), k.GRU(3)],
    ),
    "embedding flat": ((4,), lambda k: [k.Embedding(9, 5, mask_zero=True), k.Flatten(), k.Dense(3)]),
    "masking": (
        (None, 3),
        lambda k: [
            k.Dropout(0.3),
            k.Masking(0.75),
            k.SpatialDropout1D(0.4),
            k.Bidirectional(k.LSTM(3, return_sequences=True)),
            k.Dense(4, "tanh"),
            k.TimeDistributed(k.Dense(3)),
            k.LayerNormalization(),
            k.BatchNormalization(),
            k.Activation("tanh"),
            k.GRU(4, return_sequences=True),
        ],
    ),
    "mask bidirectional last": ((None, 3), lambda k: [k.Masking(), k.Bidirectional(k.GRU(3), merge_mode="sum")]),
    "masked steps become zero": ((None, 3), lambda k: [k.Masking(0.75), k.Conv1D(4, 2), k.GlobalMaxPooling1D()]),
    "mask backwards": (
        (None, 3),
        lambda k: [k.Masking(), k.LSTM(3, go_backwards=True, return_sequences=True), k.GRU(2)],
    ),
    "mask zero output": (
        (None, 3),
        lambda k: [k.Masking(), k.LSTM(3, return_sequences=True, zero_output_for_mask=True), k.SimpleRNN(4)],
    ),
    "mask zero last": ((None, 3), lambda k: [k.Masking(), k.LSTM(3, zero_output_for_mask=True)]),
    "mask stacked": ((None, 3), lambda k: [k.Masking(), k.RNN([k.LSTMCell(4), k.GRUCell(3)], return_sequences=True)]),
    "mask dropped": (
        (None, 3),
        lambda k: [k.Masking(), k.LSTM(4, return_sequences=True), k.Conv1D(3, 2, padding="same"), k.LSTM(2)],
    ),
    "mask replaced": (
        (None, 3),
        lambda k: [k.Masking(), k.LSTM(4, return_sequences=True, zero_output_for_mask=True), k.Masking(), k.GRU(3)],
    ),
    "pool average mask": (
        (None, 3),
        lambda k: [k.Masking(), k.LSTM(4, return_sequences=True), k.GlobalAveragePooling1D()],
    ),
    "pool max mask": (
        (None, 3),
        lambda k: [k.Masking(), k.Bidirectional(k.LSTM(4, return_sequences=True)), k.GlobalMaxPooling1D()],
    ),
    "pool": (
        (None, 3),
        lambda k: [
            k.GRU(5, return_sequences=True),
            k.GlobalMaxPooling1D(keepdims=True),
            k.LSTM(3, return_sequences=True),
        ],
    ),
    "pool average": ((None, 3), lambda k: [k.GRU(5, return_sequences=True), k.GlobalAveragePooling1D(keepdims=True)]),
    "layer norm": (
        (None, 5),
        lambda k: [k.LayerNormalization(epsilon=1e-5), k.LSTM(3), k.LayerNormalization(scale=False)],
    ),
    "layer norm plain": ((6,), lambda k: [k.LayerNormalization(center=False, axis=1, epsilon=0.1)]),
    "batch norm": (
        (None, 5),
        lambda k: [
            k.BatchNormalization(epsilon=1e-5),
            k.LSTM(3),
            k.BatchNormalization(scale=False),
            k.BatchNormalization(center=False),
        ],
    ),
    "conv valid": ((None, 3), lambda k: [k.Conv1D(4, 3, strides=2, activation="relu"), k.LSTM(3)]),
    "conv same": (
        (None, 3),
        lambda k: [k.Conv1D(4, 3, strides=2, padding="same"), k.Conv1D(3, 2, padding="same", use_bias=False)],
    ),
    "conv causal": ((None, 4), lambda k: [k.Conv1D(6, 3, padding="causal", dilation_rate=2, groups=2), k.GRU(3)]),
    "conv dilated": ((8, 4), lambda k: [k.Conv1D(6, 2, dilation_rate=2, padding="same"), k.Flatten(), k.Dense(2)]),
    "shapes": (
        (4, 6),
        lambda k: [k.Permute((2, 1)), k.Reshape((-1, 8)), k.LSTM(4), k.RepeatVector(3), k.GRU(2), k.Flatten()],
    ),
    "activations": (
        (6,),
        lambda k: [
            k.Dense(5),
            k.LeakyReLU(0.1),
            k.Dense(4),
            k.ELU(0.7),
            k.Dense(5),
            k.ReLU(4.0, 0.2, 0.05),
            k.Softmax(),
        ],
    ),
    "relus": ((6,), lambda k: [k.Dense(5), k.ReLU(6.0), k.Dense(4), k.ReLU(negative_slope=0.3), k.Dense(5), k.ReLU()]),
    "no op": (
        (6,),
        lambda k: [
            k.GaussianNoise(0.2),
            k.GaussianDropout(0.2),
            k.AlphaDropout(0.2),
            k.ActivityRegularization(0.1),
            k.Dense(3),
        ],
    ),
    "hard sigmoid": ((6,), lambda k: [k.Dense(5, "hard_sigmoid"), k.Dense(4), k.Activation("hard_sigmoid")]),
}


@pytest.mark.parametrize("name", MODELS)
def test_keras_3(name: str, keras: ModuleType, tmp_path: Path) -> None:
    shape, build = MODELS[name]
    model = fill(keras.Sequential([keras.layers.Input(shape), *build(keras.layers)]))
    live, saved = graph_of_model(model), of_file(model, tmp_path / "model.keras")
    same_graph(live, saved)
    assert live.inputs[0].shape == saved.inputs[0].shape == shape
    agrees(live, model)
    agrees(saved, model, ((3, 5),))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_keras_2(name: str, legacy: ModuleType, tmp_path: Path) -> None:
    shape, build = MODELS[name]
    model = fill(legacy.Sequential([legacy.layers.InputLayer(shape), *build(legacy.layers)]))
    graph = of_file(model, tmp_path / "model.h5")
    assert graph.inputs[0].shape == shape
    agrees(graph, model)


# ---- Functional models.


def functional(lib: Any, shared: bool = True) -> Any:
    """Masks made and used, a nested Sequential and a nested functional model, a layer and a model that run twice, x[:, -1].

    ``shared``: the Sequential also runs in the functional model; tf_keras writes files of that which it cannot read itself.
    """
    k = lib.layers
    start = k.Input((None, 4))
    inner, other = (
        lib.Sequential([k.Input((None, 4)), k.GRU(4, return_sequences=True, name=name), k.Dense(4, "tanh")])
        for name in ("own", "other")
    )
    x = k.Input((None, 4))
    deep = lib.Model(x, k.Bidirectional(k.LSTM(2, return_sequences=True))((inner if shared else other)(x)))
    twice = k.TimeDistributed(k.Dense(4))
    y = k.LSTM(4, return_sequences=True)(k.Masking()(start))
    y = deep(twice(inner(twice(y))))
    y = k.Dense(3, activation=k.LeakyReLU(0.1))(y[:, -1])
    return fill(lib.Model(start, y))


def test_functional_keras_3(keras: ModuleType, tmp_path: Path) -> None:
    model = functional(keras)
    for graph in (graph_of_model(model), of_file(model, tmp_path / "model.keras")):
        kinds = [node.kind for node in graph.nodes]
        dense = ["dense", "recurrent", "dense", "activation"]
        assert kinds == [
            "masking",
            "recurrent",
            *dense,
            "dense",
            *dense[1:],
            "recurrent",
            "last",
            "dense",
            "activation",
        ]
        assert graph.nodes[2].sources == graph.nodes[6].sources
        assert [s.spec.mask for s in graph.nodes if isinstance(s.spec, Recurrent)] == ["any"] * 4
        agrees(graph, model, ((5, 7), (2, 4)))


def test_functional_keras_2(legacy: ModuleType, tmp_path: Path) -> None:
    model = functional(legacy, shared=False)
    graph = of_file(model, tmp_path / "model.h5")
    assert [node.kind for node in graph.nodes].count("dense") == 5
    agrees(graph, model, ((5, 7), (2, 4)))


def test_a_mask_from_words_is_found_in_a_functional_model(keras: ModuleType) -> None:
    k = keras.layers
    start = k.Input((None,))
    x = k.Embedding(7, 4, mask_zero=True)(start)
    x = k.BatchNormalization()(k.LSTM(3, return_sequences=True)(x))
    model = fill(keras.Model(start, k.GlobalAveragePooling1D()(x)))
    agrees(graph_of_model(model), model)


# ---- More than one value.


def branched(lib: Any) -> dict[str, Callable[[], tuple[Any, Any]]]:
    """What a model reads and puts out: branches, states, several inputs and outputs, layers that are called twice."""
    k = lib.layers

    def sequence(size: int = 4, **options: Any) -> Any:
        return k.Input((None, size), **options)

    def merged(name: str, *more: Any) -> tuple[Any, Any]:
        x = sequence()
        return x, getattr(k, name)()([k.Dense(3, "tanh")(x), k.GRU(3, return_sequences=True)(x), *more])

    def three(name: str) -> tuple[Any, Any]:
        x = sequence()
        return x, getattr(k, name)()([k.Dense(3)(x), k.Dense(1)(x), k.LSTM(3, return_sequences=True)(x)])

    def masks(name: str) -> tuple[Any, Any]:
        """One mask, none, and another one."""
        x, other = sequence(name="x"), sequence(name="other")
        one = k.LSTM(4, return_sequences=True)(k.Masking()(x))
        two = k.GRU(4, return_sequences=True)(k.Masking()(other))
        return [x, other], k.LSTM(3)(getattr(k, name)()([one, two]))

    def one_mask(name: str) -> tuple[Any, Any]:
        x = sequence()
        one = k.Masking()(x)
        two = k.GRU(4, return_sequences=True)(one)
        return x, k.LSTM(3)(getattr(k, name)()([one, two]))

    def half_masked(name: str) -> tuple[Any, Any]:
        x, other = sequence(name="x"), sequence(name="other")
        one = k.LSTM(4, return_sequences=True)(k.Masking()(x))
        return [x, other], k.LSTM(3)(getattr(k, name)()([one, other]))

    def along_time() -> tuple[Any, Any]:
        x, other = sequence(name="x"), sequence(name="other")
        return [x, other], k.LSTM(3)(k.Concatenate(axis=1)([k.Masking()(x), k.Masking()(other)]))

    def along_half_masked_time() -> tuple[Any, Any]:
        x, other = sequence(name="x"), sequence(name="other")
        return [x, other], k.LSTM(3)(k.Concatenate(axis=1)([k.Masking()(x), other]))

    def outputs() -> tuple[Any, Any]:
        x = sequence()
        h = k.LSTM(4, return_sequences=True)(x)
        return x, [k.Dense(2)(h), k.GRU(3)(h), h]

    def states() -> tuple[Any, Any]:
        x = sequence()
        y, h, c = k.LSTM(3, return_sequences=True, return_state=True)(x)
        return x, [c, y, h]

    def one_state() -> tuple[Any, Any]:
        x = sequence()
        return x, k.Dense(2)(k.LSTM(4, return_state=True)(x)[2])

    def decoder(kind: str) -> tuple[Any, Any]:
        source, target = sequence(name="source"), sequence(3, name="target")
        _, *state = getattr(k, kind)(5, return_state=True)(source)
        y, *_ = getattr(k, kind)(5, return_sequences=True, return_state=True)(target, initial_state=state)
        return [source, target], k.Dense(2, "softmax")(y)

    def masked_decoder() -> tuple[Any, Any]:
        source, target = k.Input((None,), name="source"), k.Input((None,), name="target")
        _, *state = k.LSTM(5, return_state=True)(k.Embedding(9, 4, mask_zero=True)(source))
        y = k.LSTM(5, return_sequences=True)(k.Embedding(7, 4, mask_zero=True)(target), initial_state=state)
        return [source, target], k.Dense(2)(y)

    def both_ways() -> tuple[Any, Any]:
        x = sequence()
        y, *state = k.Bidirectional(k.GRU(3, return_sequences=True, return_state=True))(x)
        return x, k.Bidirectional(k.GRU(3))(y, initial_state=state)

    def stacked_states() -> tuple[Any, Any]:
        x = sequence()
        y, *states = k.RNN([k.LSTMCell(4), k.GRUCell(3)], return_sequences=True, return_state=True)(x)
        return x, [y, *(part for state in states for part in (state if isinstance(state, list | tuple) else [state]))]

    def state_of_a_layer() -> tuple[Any, Any]:
        x, start = sequence(name="x"), k.Input((6,), name="start")
        return [x, start], k.GRU(5, return_sequences=True)(x, initial_state=k.Dense(5, "tanh")(start))

    def twice() -> tuple[Any, Any]:
        left, right = sequence(name="left"), sequence(name="right")
        encoder = k.LSTM(3)
        return [left, right], k.Dense(2)(k.Subtract()([encoder(left), encoder(right)]))

    def twice_half_masked() -> tuple[Any, Any]:
        left, right = sequence(name="left"), sequence(name="right")
        encoder = k.LSTM(3, return_sequences=True)
        return [left, right], k.Concatenate()(
            [encoder(left), k.LSTM(2, return_sequences=True)(encoder(k.Masking()(right)))]
        )

    def model_twice() -> tuple[Any, Any]:
        left, right, x = sequence(name="left"), sequence(name="right"), sequence()
        inner = lib.Model(x, k.Dense(3, "relu")(k.GRU(4)(x)))
        return [left, right], k.Concatenate()([inner(right), inner(left)])

    def the_same_twice() -> tuple[Any, Any]:
        x = sequence()
        return x, k.Multiply()([x, x])

    return {
        **{name: lambda name=name: merged(name) for name in ("Add", "Multiply", "Average", "Maximum", "Minimum")},
        "Subtract": lambda: merged("Subtract"),
        "Concatenate": lambda: merged("Concatenate"),
        **{f"three {name}": lambda name=name: three(name) for name in ("Add", "Multiply", "Average", "Maximum")},
        **{f"masks {name}": lambda name=name: masks(name) for name in ("Add", "Concatenate", "Maximum")},
        **{f"one mask {name}": lambda name=name: one_mask(name) for name in ("Add", "Concatenate")},
        **{f"half masked {name}": lambda name=name: half_masked(name) for name in ("Add", "Concatenate", "Average")},
        "along time": along_time,
        "along half masked time": along_half_masked_time,
        "outputs": outputs,
        "states": states,
        "one state": one_state,
        **{f"decoder {kind}": lambda kind=kind: decoder(kind) for kind in ("SimpleRNN", "LSTM", "GRU")},
        "masked decoder": masked_decoder,
        "both ways": both_ways,
        "stacked states": stacked_states,
        "state of a layer": state_of_a_layer,
        "twice": twice,
        "twice half masked": twice_half_masked,
        "model twice": model_twice,
        "the same twice": the_same_twice,
    }


BRANCHED = list(branched(SimpleNamespace(layers=None)))


def listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]


def all_agree(graph: Graph, model: Any, sizes: tuple[tuple[int, int], ...] = ((5, 7), (1, 4))) -> None:
    """Every output is what the model puts out at that place."""
    for seed, (batch, steps) in enumerate(sizes):
        given = running.probe(graph, batch, steps, seed)
        found = listed(model([*given.values()] if len(given) > 1 else running.sole(given), training=False))
        noise = running.noise(graph, given, "float32")
        assert len(found) == len(noise) == len(graph.outputs)
        own = running.run_masked(graph, given)
        for one, got in zip(graph.outputs, map(np.asarray, found), strict=True):
            clean, deviation = noise[one.name]
            y, mask = own[one.name]
            assert clean.shape == got.shape == y.shape
            assert clean.any()
            assert noises.ratio(got, clean, deviation).max() < LIMIT, (one.name, batch, steps)
            assert noises.ratio(y, clean, deviation).max() < LIMIT
            assert (mask is not None) == graph.masked[one.value]


@pytest.mark.parametrize("name", [name for name in BRANCHED if name != "masks Maximum"])
def test_more_than_one_value_in_keras_3(name: str, keras: ModuleType, tmp_path: Path) -> None:
    model = fill(keras.Model(*branched(keras)[name]()))
    live, saved = graph_of_model(model), of_file(model, tmp_path / "model.keras")
    same_graph(live, saved)
    all_agree(live, model)
    all_agree(saved, model, ((3, 5),))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in BRANCHED if name != "along half masked time"]
)  # which Keras 2 cannot build
def test_more_than_one_value_in_keras_2(name: str, legacy: ModuleType, tmp_path: Path) -> None:
    model = fill(legacy.Model(*branched(legacy)[name]()))
    all_agree(of_file(model, tmp_path / "model.h5"), model)


def test_a_maximum_that_a_mask_reaches_is_refused(keras: ModuleType) -> None:
    """Keras 3.15 takes the other value at the time steps that are masked in one."""
    with pytest.raises(UnsupportedError, match=r"\(Maximum\) is reached by a mask, where Keras 3 takes another value"):
        graph_of_model(keras.Model(*branched(keras)["masks Maximum"]()))


def test_outputs_by_name(keras: ModuleType) -> None:
    k = keras.layers
    x = k.Input((None, 4), name="x")
    h = k.LSTM(3, name="h")(x)
    model = fill(keras.Model({"x": x}, {"b": k.Dense(2)(h), "a": h}))
    graph = graph_of_model(model)
    given = running.probe(graph, 3, 5)
    found = model({"x": running.sole(given)})
    assert graph.form == "dict"
    assert {one.name for one in graph.outputs} == {"a", "b"}
    for name, (clean, deviation) in running.noise(graph, given, "float32").items():
        assert noises.ratio(np.asarray(found[name]), clean, deviation).max() < LIMIT


def not_modelled(lib: Any) -> dict[str, tuple[Any, str]]:
    """Functional models that are refused, and what is said of them."""
    k = lib.layers
    one = k.Input((5, 4), name="one")
    h = k.LSTM(4, return_sequences=True, name="h")(one)
    return {
        "training": (
            lib.Model(one, k.Dropout(0.5, name="d")(h, training=True)),
            "'d' \\(Dropout\\) is called with training",
        ),
        "other item": (lib.Model(one, k.Dense(2)(h[::2, -1])), "selects samples of the batch"),
        "categories": (
            lib.Model(one, k.CategoryEncoding(num_tokens=3, output_mode="multi_hot", name="p")(h[:, 0])),
            "'p' \\(CategoryEncoding\\) is of a class that is not modelled",
        ),
        "batch axis": (
            lib.Model(one, k.Concatenate(axis=0, name="c")([h, one])),
            "'c' \\(Concatenate\\) has axis=0, which is not modelled",
        ),
    }


@pytest.mark.parametrize("name", "training|other item|categories|batch axis".split("|"))
@pytest.mark.parametrize("version", ["keras", "tf_keras"])
def test_what_is_not_modelled_is_refused(name: str, version: str, tmp_path: Path) -> None:
    model, why = not_modelled(pytest.importorskip(version))[name]
    with pytest.raises(UnsupportedError, match=why):
        of_file(model, tmp_path / ("model.keras" if version == "keras" else "model.h5"))


def test_a_mask_of_its_own_is_refused(keras: ModuleType) -> None:
    k = keras.layers
    start = k.Input((None, 4))
    x = k.Masking(1.0)(start)
    for source, value in ((start, 0.5), (x, 1.0)):
        mask = keras.ops.any(keras.ops.not_equal(source, value), -1)
        with pytest.raises(UnsupportedError, match=r"'own' .*mask of its own|branch"):
            graph_of_model(keras.Model(start, k.LSTM(3, name="own")(x, mask=mask)))
    late = k.Conv1D(4, 1)(x)
    with pytest.raises(UnsupportedError, match=r"'own' .*mask of its own"):
        graph_of_model(
            keras.Model(start, k.LSTM(3, name="own")(late, mask=keras.ops.any(keras.ops.not_equal(start, 1.0), -1)))
        )


# ---- Refused by name.

REFUSED: dict[str, tuple[tuple[int | None, ...], Build, str]] = {
    "lambda": ((4,), lambda k: [k.Dense(3), k.Lambda(lambda x: x, name="code")], "'code' .*Python code"),
    "unknown class": (
        (4, 3),
        lambda k: [k.LSTM(2), k.CategoryEncoding(num_tokens=3, output_mode="multi_hot", name="own")],
        "'own' \\(CategoryEncoding\\) is of a class",
    ),
    "masked softmax": ((4, 3), lambda k: [k.Masking(), k.Softmax(name="s")], "'s' .*reached by a mask"),
    "channels first": ((4, 3), lambda k: [k.GlobalMaxPooling1D("channels_first", name="p")], "'p' .*channels_first"),
    "flat channels": ((4, 3), lambda k: [k.Flatten("channels_first", name="f")], "'f' .*channels_first"),
    "activation": ((4,), lambda k: [k.Dense(3, activation="glu", name="a")], "'a' .*glu"),
    "unrolled mask": (
        (4, 3),
        lambda k: [k.Masking(), k.Bidirectional(k.LSTM(2, unroll=True, return_sequences=True), name="u")],
        "'u' .*unroll=True",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str, keras: ModuleType, legacy: ModuleType, tmp_path: Path) -> None:
    shape, build, why = REFUSED[name]
    keras_3 = [keras.layers.Input(shape), *build(keras.layers)]
    models = [(keras.Sequential(keras_3) if name != "not merged" else None, "model.keras")]
    if name == "not merged":
        start = keras.layers.Input(shape)
        models = [(keras.Model(start, build(keras.layers)[0](start)[0]), "model.keras")]
    elif name not in ("activation", "masked softmax"):  # which Keras 2 cannot build
        models.append((legacy.Sequential([legacy.layers.InputLayer(shape), *build(legacy.layers)]), "model.h5"))
    for model, file in models:
        with pytest.raises(UnsupportedError, match=why):
            of_file(model, tmp_path / file)


def test_a_class_of_the_users_own_is_refused(keras: ModuleType) -> None:
    class LSTM(keras.layers.LSTM):
        pass

    class Dense(keras.layers.Dense):
        pass

    for layer in (LSTM(3), Dense(2)):
        with pytest.raises(UnsupportedError, match="not modelled"):
            graph_of_model(keras.Sequential([keras.layers.Input((5, 4)), layer]))


def test_a_function_of_the_users_own_is_refused(keras: ModuleType) -> None:
    def tanh(x: Any) -> Any:
        return 2 * x

    for layer in (
        keras.layers.Dense(3, activation=tanh, name="mine"),
        keras.layers.LSTM(3, activation=tanh, name="mine"),
    ):
        with pytest.raises(UnsupportedError, match=r"'mine' .*activation of its own"):
            graph_of_model(keras.Sequential([keras.layers.Input((5, 4)), layer]))


def test_each_option_is_known_or_refused(keras: ModuleType) -> None:
    """What a later Keras may add to a layer is not ignored, unless it is off."""
    for build in [build for _, build in MODELS.values()]:
        for layer in build(keras.layers):
            config = layer.get_config()
            file = stored(("Sequential", [(type(layer).__name__, {**config, "later": 3, "batch_shape": [None, 4, 4]})]))
            with pytest.raises(UnsupportedError, match=f"{config['name']}.* has later=3, which is not modelled"):
                graph_of(recognise(file))


# ---- Files made by hand: Keras 1, and damaged ones.

Made = tuple[str, list[tuple[str, dict[str, Any]]]]


def stored(
    made: Made, version: str = "3.15.1", arrays: Mapping[str, Mapping[str, np.ndarray]] | None = None, **said: str
) -> ModelFile:
    """A file with a Sequential, of which each layer has arrays by the names that the layer has for them."""
    kind, entries = made
    arrays = arrays or {}
    tensors = {
        f"{layer}/{name}": StoredTensor(f"{layer}/{name}", array.shape, str(array.dtype), lambda array=array: array)
        for layer, own in arrays.items()
        for name, array in own.items()
    }
    layers = tuple(
        StoredLayer(c["name"], k, c, {name: f"{c['name']}/{name}" for name in arrays.get(c["name"], {})})
        for k, c in entries
    )
    listed = [{"class_name": k, "config": c} for k, c in entries]
    config = {"class_name": kind, "config": listed}
    return ModelFile(Path("model.h5"), "keras-hdf5", tensors, layers, {"keras_version": version, **said}, config)


def test_keras_1(legacy: ModuleType) -> None:
    """A Keras 1.2 model with its names of layers, options and weights, and the function that it had there."""
    k = legacy.layers
    model = legacy.Sequential(
        [
            k.InputLayer((None,)),
            k.Embedding(9, 5),
            k.Conv1D(6, 3, padding="same", activation="relu"),
            k.BatchNormalization(epsilon=1e-5),
            k.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True),
            k.TimeDistributed(k.Dense(3, activation="hard_sigmoid")),
            k.GRU(4, recurrent_activation="hard_sigmoid", reset_after=False, go_backwards=True),
            k.Dense(2),
        ]
    )
    fill(model)
    w = [[np.asarray(v) for v in layer.weights] for layer in model.layers]
    arrays = {
        "embedding_1": {"W": w[0][0]},
        "convolution1d_1": {"W": w[1][0][:, None], "b": w[1][1]},
        "batchnormalization_1": dict(zip(["gamma", "beta", "running_mean", "running_std"], w[2], strict=True)),
        "lstm_1": gates(w[3], "ifco"),
        "timedistributeddense_1": dict(zip("Wb", w[4], strict=True)),
        "gru_1": gates(w[5], "zrh"),
        "dense_1": dict(zip("Wb", w[6], strict=True)),
    }
    loop = {
        "inner_activation": "hard_sigmoid",
        "activation": "tanh",
        "stateful": False,
        "unroll": False,
        "consume_less": "cpu",
    }
    made: Made = (
        "Sequential",
        [
            ("Embedding", {"name": "embedding_1", "input_dim": 9, "output_dim": 5, "mask_zero": False, "input_length": None,
                           "dropout": 0.2, "batch_input_shape": [None, None], "input_dtype": "int32", "W_regularizer": None}),
            ("Convolution1D", {"name": "convolution1d_1", "nb_filter": 6, "filter_length": 3, "border_mode": "same", "bias": True,
                               "subsample_length": 1, "activation": "relu", "init": "glorot_uniform", "input_dim": None}),
            ("BatchNormalization", {"name": "batchnormalization_1", "mode": 0, "axis": -1, "epsilon": 1e-5, "momentum": 0.99}),
            ("LSTM", {"name": "lstm_1", "output_dim": 4, "return_sequences": True, "go_backwards": False, "dropout_W": 0.1,
                      "dropout_U": 0.0, "inner_init": "orthogonal", "forget_bias_init": "one", **loop}),
            ("TimeDistributedDense", {"name": "timedistributeddense_1", "output_dim": 3, "activation": "hard_sigmoid",
                                      "bias": True}),
            ("GRU", {"name": "gru_1", "output_dim": 4, "return_sequences": False, "go_backwards": True, **loop}),
            ("Dense", {"name": "dense_1", "output_dim": 2, "activation": "linear", "bias": True, "input_dim": None}),
        ],
    )  # fmt: skip
    graph = graph_of(recognise(stored(made, "1.2.2", arrays, backend="tensorflow")))
    assert graph.inputs[0].shape == (None,)
    assert [s.options["name"] for s in graph.nodes if s.kind == "activation"] == ["relu", "hard_sigmoid_keras2"]
    agrees(graph, model)
    with pytest.raises(UnsupportedError, match=r"'convolution1d_1' .*Theano, which turns kernels round"):
        graph_of(recognise(stored(made, "1.2.2", arrays, backend="theano")))
    made[1][2][1]["mode"] = 1
    with pytest.raises(UnsupportedError, match=r"'batchnormalization_1' .*mode=1"):
        graph_of(recognise(stored(made, "1.2.2", arrays, backend="tensorflow")))


def gates(arrays: list[np.ndarray], letters: str) -> dict[str, np.ndarray]:
    """The weights of a layer, gate by gate, as Keras 1 had them."""
    found: dict[str, np.ndarray] = {}
    for role, array in zip("WUb", arrays, strict=True):
        pieces = np.split(array, len(letters), axis=-1)
        found |= {f"{role}_{letter}": piece for letter, piece in zip(letters, pieces, strict=True)}
    return found


def test_before_tensorflow_bidirectional_repeated_its_output_at_masked_steps() -> None:
    random = np.random.default_rng(0)
    shapes_ = {"kernel": (3, 2), "recurrent_kernel": (2, 2), "bias": (2,)}
    inner = {"class_name": "SimpleRNN", "config": {"name": "r", "units": 2, "return_sequences": True, "use_bias": True,
                                                  "activation": "tanh"}}  # fmt: skip
    own = {f"{d}_r/{n}": random.normal(size=s) for d in ("forward", "backward") for n, s in shapes_.items()}
    made: Made = ("Sequential", [
        ("Masking", {"name": "m", "mask_value": 0.0, "batch_input_shape": [None, None, 3]}),
        ("Bidirectional", {"name": "b", "layer": inner, "merge_mode": "concat"}),
    ])  # fmt: skip
    for version, output in (("2.2.4", "repeat"), ("2.3.1", "repeat"), ("2.2.4-tf", "zero"), ("2.12.0", "zero")):
        graph = graph_of(recognise(stored(made, version, {"b": own})))
        spec = graph.nodes[1].spec
        assert isinstance(spec, Recurrent)
        assert (spec.mask, spec.masked_output) == ("any", output)


def test_the_age_of_a_hard_sigmoid_must_be_known() -> None:
    made: Made = (
        "Sequential",
        [("Activation", {"name": "a", "activation": "hard_sigmoid", "batch_input_shape": [None, 3]})],
    )
    for version, name in (("3.1", "hard_sigmoid"), ("2.2.0", "hard_sigmoid_keras2"), ("1.0.8", "hard_sigmoid_keras2")):
        assert graph_of(recognise(stored(made, version))).nodes[0].options == {"name": name}
    with pytest.raises(UnsupportedError, match=r"'a' .*slope 0.2 before Keras 3"):
        graph_of(recognise(stored(made, "")))


def test_weights_alone_are_no_graph(keras: ModuleType, tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(UnsupportedError, match="says nothing of what runs after what; give a file of a whole model"):
        graph_of(recognise(load(tmp_path / "a.weights.h5")))


def values(config: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a configuration."""
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    return [place for key, value in items for place in [(*path, key), *values(value, (*path, key))]]


@pytest.mark.parametrize("make", ["sequential", "functional"])
def test_damaged_configurations_are_refused_or_run(make: str, keras: ModuleType, tmp_path: Path) -> None:
    """Whatever stands at a place of a configuration, there is a graph that runs, or an UnsupportedError of one sentence."""
    model = functional(keras)
    if make == "sequential":
        layers = [layer for name in ("masking", "conv causal", "shapes") for layer in MODELS[name][1](keras.layers)]
        model = keras.Sequential([keras.layers.Input((8, 4)), keras.layers.GRU(4, return_sequences=True), *layers[:8]])
    model.save(tmp_path / "model.keras")
    file = load(tmp_path / "model.keras")
    random, refused = np.random.default_rng(1), list[str]()
    places = values(file.config)
    for _ in range(300):
        config: Any = copy.deepcopy(dict(file.config or {}))
        *above, last = places[random.integers(len(places))]
        holder = config
        for key in above:
            holder = holder[key]
        wrong = [
            None,
            -1,
            0,
            10**12,
            1e300,
            "",
            "x",
            [],
            {},
            [[["x"]]],
            True,
            [1, 2],
            {"class_name": "x", "config": {}},
        ]
        holder[last] = wrong[random.integers(len(wrong))]
        try:
            assert graph_of(recognise(replace(file, config=config))).shapes
        except UnsupportedError as error:
            refused.append(str(error))
    assert 50 < len(refused) < 300
    assert [text for text in refused if not text.endswith(".") or "\n" in text] == []


def read_from(layer: str, call: int = 0, output: int = 0) -> dict[str, Any]:
    """A tensor as Keras 3 writes it."""
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [layer, call, output]}}


# By what is changed in an encoder and a decoder: the layer that is given something else, and what is said of it.
MISWIRED: dict[str, tuple[str, Any, str]] = {
    "a circle": ("encoder", {"args": [read_from("decoder")], "kwargs": {}}, "'decoder' reads its own output"),
    "itself": ("head", {"args": [read_from("head")], "kwargs": {}}, "'head' reads its own output"),
    "a layer that is not there": (
        "head",
        {"args": [read_from("no")], "kwargs": {}},
        "a layer 'no' that it does not have",
    ),
    "an output too many": (
        "head",
        {"args": [read_from("decoder", 0, 9)], "kwargs": {}},
        "'decoder' puts out no value number 9",
    ),
    "one state": (
        "decoder",
        {"args": [read_from("b")], "kwargs": {"initial_state": [read_from("encoder", 0, 1)]}},
        r"'decoder' of kind recurrent is LSTM\(6\).* has states",
    ),
    "a sequence as a state": (
        "decoder",
        {"args": [read_from("b")], "kwargs": {"initial_state": [read_from("a"), read_from("encoder", 0, 1)]}},
        r"'decoder' of kind recurrent is LSTM\(6\).* has states",
    ),
    "nothing": ("head", {"args": [], "kwargs": {}}, r"'head' \(Dense\) is called with 0 values"),
    "an option": ("head", {"args": [read_from("decoder")], "kwargs": {"own": 3}}, "is called with own"),
    "text": ("head", "decoder", "neither Keras 1, 2 nor 3"),
}


@pytest.mark.parametrize("name", MISWIRED)
def test_layers_that_read_what_cannot_be(name: str, keras: ModuleType, tmp_path: Path) -> None:
    k = keras.layers
    a, b = keras.Input((None, 3), name="a"), keras.Input((None, 5), name="b")
    _, *states = k.LSTM(6, return_state=True, name="encoder")(a)
    y = k.LSTM(6, return_sequences=True, name="decoder")(b, initial_state=states)
    keras.Model([a, b], k.Dense(2, name="head")(y)).save(tmp_path / "model.keras")
    file = load(tmp_path / "model.keras")
    assert [one.name for one in graph_of(recognise(file)).inputs] == ["a", "b"]
    layer, node, why = MISWIRED[name]
    config: Any = copy.deepcopy(dict(file.config or {}))
    (entry,) = (one for one in config["config"]["layers"] if one["name"] == layer)
    entry["inbound_nodes"] = [node]
    with pytest.raises(UnsupportedError, match=why):
        graph_of(recognise(replace(file, config=config)))


def test_models_in_models_without_end_are_refused() -> None:
    config: Any = {"class_name": "Dense", "config": {"name": "d"}, "inbound_nodes": []}
    for depth in range(40):
        name = f"m{depth}"
        start = {"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [None, 3]}, "inbound_nodes": []}
        inner = {**config, "inbound_nodes": [[["i", 0, 0]], [[config["config"]["name"], 0, 0]]]}
        end = [config["config"]["name"], 1, 0]
        body = {"name": name, "layers": [start, inner], "input_layers": [["i", 0, 0]], "output_layers": [end]}
        config = {"class_name": "Functional", "config": body}
    file = replace(stored(("Sequential", [])), config=config)
    with pytest.raises(UnsupportedError, match="runs more than 10,000 layers"):
        graph_of(recognise(file))


# ---- One layer.


def test_one_layer(keras: ModuleType) -> None:
    torch = pytest.importorskip("torch")
    layer = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True))
    layer.build((None, None, 4))
    agrees(graph_of_model(fill(layer)), layer)
    lstm = torch.nn.LSTM(4, 3, num_layers=2, batch_first=True, bidirectional=True)
    graph = graph_of_model(lstm)
    x = sole_probe(graph, 3, 5)
    with torch.no_grad():
        assert ratio(graph, lstm(torch.from_numpy(x))[0].numpy(), x) < LIMIT
    linear = torch.nn.Linear(4, 3)
    graph = graph_of_model(linear)
    assert graph.inputs[0].shape == (4,)
    x = sole_probe(graph, 3, 5)
    with torch.no_grad():
        assert ratio(graph, linear(torch.from_numpy(x)).numpy(), x) < LIMIT
    with pytest.raises(UnsupportedError, match="bare cell"):
        graph_of_model(torch.nn.LSTMCell(4, 3))
    with pytest.raises(SpecError, match="no weights yet"):
        graph_of_model(keras.layers.LSTM(3))


@pytest.mark.needs("torch")
def test_a_sequential_of_pytorch() -> None:
    nn, torch = pytest.importorskip("torch").nn, pytest.importorskip("torch")
    torch.manual_seed(0)
    words = nn.Sequential(
        nn.Embedding(9, 4), nn.LayerNorm(4, eps=0.1), nn.Linear(4, 3), nn.LeakyReLU(0.3), nn.Softmax(2)
    )
    inner = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ELU(0.7), nn.BatchNorm1d(5), nn.GELU())
    rows = nn.Sequential(
        inner, nn.Dropout(0.5), nn.LayerNorm(5, elementwise_affine=False), nn.Linear(5, 2), nn.LogSoftmax(-1)
    )
    twice = nn.Linear(4, 4)
    for model in (words, rows, nn.Sequential(twice, nn.Tanh(), twice)):
        for parameter in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            torch.nn.init.uniform_(parameter, 0.2, 0.9)
        graph = graph_of_model(model.eval())
        x = sole_probe(graph, 3, 5)
        with torch.no_grad():
            assert ratio(graph, model(torch.from_numpy(x)).numpy(), x) < LIMIT
    assert [node.name for node in graph_of_model(rows).nodes][:3] == ["0.0", "0.1", "0.2"]
    for module, why in (
        (nn.LSTM(3, 4), "'1' .*LSTM"),
        (nn.Softmax(0), "'1' .*dim=0"),
        (nn.GELU("tanh"), "'1' .*approximate='tanh'"),
        (nn.BatchNorm1d(3, track_running_stats=False), "'1' .*track_running_stats"),
        (nn.Linear(4, 2), "'1' of kind dense .*cannot read"),
    ):
        with pytest.raises(UnsupportedError, match=why):
            graph_of_model(nn.Sequential(nn.Linear(4, 3), module))
    with pytest.raises(UnsupportedError, match="normalises the first axis"):
        graph_of_model(nn.Sequential(nn.Embedding(9, 5), nn.BatchNorm1d(5)))


def test_a_stateful_model(keras: ModuleType, tmp_path: Path) -> None:
    k = keras.layers
    model = fill(keras.Sequential([k.Input(batch_shape=(3, None, 4)), k.LSTM(3, stateful=True), k.Dense(2)]))
    graph = of_file(model, tmp_path / "model.keras")
    assert isinstance(graph.nodes[0].spec, Recurrent)
    assert graph.nodes[0].spec.batch_size == 3
    agrees(graph, model, ((3, 5),))
    with pytest.raises(SpecError, match="batch of 3, not 2"):
        sole_probe(graph, 2, 5)


# ---- Noise shows mistakes.


def a_chain(*nodes: Node, shape: tuple[int | None, ...] = (None, 6)) -> Graph:
    return chained(nodes, shape)


def with_arrays(kind: str, arrays: dict[str, np.ndarray], **options: Any) -> Node:
    return Node(kind, kind, options, None, lambda: arrays)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return helpers.away_from_zero(np.random.default_rng([seed, *shape]), shape, 1.0).astype(np.float32)


NORM = {"gamma": random(6), "beta": random(6, seed=1)}
BATCH = {**NORM, "mean": random(6, seed=2), "variance": np.abs(random(6, seed=3))}
CONV = {"kernel": random(3, 3, 4), "bias": random(4)}
PLAIN = {"stride": 2, "padding": "same", "dilation": 1, "groups": 2}
MISTAKES: dict[str, tuple[Node, Node]] = {
    "layer norm epsilon": (with_arrays("layer_norm", NORM, epsilon=1e-3), with_arrays("layer_norm", NORM, epsilon=1e-5)),
    "batch norm epsilon": (with_arrays("batch_norm", BATCH, epsilon=1e-3), with_arrays("batch_norm", BATCH, epsilon=1e-5)),
    "batch norm mean": (
        with_arrays("batch_norm", BATCH, epsilon=1e-3),
        with_arrays("batch_norm", {**BATCH, "mean": BATCH["mean"][::-1]}, epsilon=1e-3),
    ),
    "conv padding": (with_arrays("conv1d", CONV, **PLAIN), with_arrays("conv1d", CONV, **{**PLAIN, "padding": "causal"})),
    "conv turned": (
        with_arrays("conv1d", CONV, **PLAIN),
        with_arrays("conv1d", {**CONV, "kernel": CONV["kernel"][::-1]}, **PLAIN),
    ),
    "conv bias": (with_arrays("conv1d", CONV, **PLAIN), with_arrays("conv1d", {**CONV, "bias": CONV["bias"] * 0}, **PLAIN)),
    "slope": (
        Node("a", "activation", {"name": "leaky_relu", "negative_slope": 0.3}),
        Node("a", "activation", {"name": "leaky_relu", "negative_slope": 0.2}),
    ),
    "elu": (Node("a", "activation", {"name": "elu", "alpha": 1.0}), Node("a", "activation", {"name": "elu", "alpha": 1.001})),
    "hard sigmoid": (Node("a", "activation", {"name": "hard_sigmoid"}), Node("a", "activation", {"name": "hard_sigmoid_keras2"})),
    "softmax": (Node("a", "activation", {"name": "softmax"}), Node("a", "activation", {"name": "log_softmax"})),
    "mask value": (Node("m", "masking", {"value": 0.0}), Node("m", "masking", {"value": 0.5})),
    "pool": (Node("p", "pool", {"mode": "max", "keepdims": False}), Node("p", "pool", {"mode": "average", "keepdims": False})),
}  # fmt: skip


def after(node: Node) -> Graph:
    """A graph in which something comes before and after the node, as far as its shape allows."""
    spec = Recurrent("gru", 6, 6)
    return (
        a_chain(recurrent(spec), node)
        if node.kind != "masking"
        else a_chain(node, recurrent(replace(spec, mask="any")))
    )


def recurrent(spec: Recurrent, changes: Mapping[Key, np.ndarray] | None = None, sequence: bool = True) -> Node:
    from xframe.probe import draw_parameters

    return Node(
        "r", "recurrent", {"sequence": sequence}, spec, lambda: draw_parameters(spec, 0).replaced(dict(changes or {}))
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_far_outside_the_noise(name: str) -> None:
    right, wrong = (after(node) for node in MISTAKES[name])
    x = sole_probe(right, 3, 7)
    for dtype in ("float32", "float64"):
        clean, deviation = sole_noise(right, x, dtype)
        own, bad = (sole_run(graph, x, dtype) for graph in (right, wrong))
        assert own.dtype == dtype
        assert noises.ratio(own, clean, deviation).max() < LIMIT
        assert noises.ratio(bad, clean, deviation).max() > 100 * LIMIT


# Each alone, so that no other node's noise covers it.
ALONE = [
    *(
        pair[0]
        for name, pair in MISTAKES.items()
        if name in ("layer norm epsilon", "batch norm epsilon", "conv padding", "elu")
    ),
    Node("p", "pool", {"mode": "average", "keepdims": False}),
    Node("a", "activation", {"name": "leaky_relu", "negative_slope": 0.3}),
    Node("a", "activation", {"name": "relu", "threshold": 0.4, "max_value": None, "negative_slope": 0.3}),
    Node("a", "activation", {"name": "softmax"}),
]


@pytest.mark.parametrize("node", ALONE, ids=lambda node: node.options.get("name", node.kind))
def test_the_noise_of_one_step_is_that_of_float32(node: Node) -> None:
    graph = a_chain(node)
    x = np.random.default_rng(0).normal(size=(400, 50, 6)).astype(np.float32)
    clean, deviation = sole_noise(graph, x, "float32")
    ratios = noises.ratio(sole_run(graph, x), clean, deviation)
    assert ratios.max() < LIMIT
    # Nor is it so large that it would hide anything.
    assert 0.05 < np.sqrt(np.mean(np.square(ratios))) < 1.5


def test_swapped_gates_and_transposed_kernels_are_far_outside_the_noise() -> None:
    from xframe.probe import draw_parameters

    spec = Recurrent("lstm", 6, 6)
    params = draw_parameters(spec, 0)
    i, f = Key(0, 0, "kernel", "i"), Key(0, 0, "kernel", "f")
    turned = Key(0, 0, "recurrent_kernel", "g")
    right = a_chain(recurrent(spec, sequence=False), Node("d", "dropout", {"rate": 0.5}))
    x = sole_probe(right, 3, 7)
    for changes in ({i: params[f], f: params[i]}, {turned: params[turned].T}):
        wrong = a_chain(recurrent(spec, changes, sequence=False))
        assert ratio(right, sole_run(wrong, x), x) > 100 * LIMIT
    assert ratio(right, sole_run(right, x), x) < LIMIT


LARGE = [
    Recurrent("lstm", 6, 7, num_layers=2, bidirectional=True),
    Recurrent("lstm", 6, 9, proj_size=4),
    Recurrent("gru", 6, 7, reset_after=True),
    Recurrent("gru", 6, 7, reset_after=False),
    Recurrent("rnn", 6, 7, bias=False),
]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("spec", LARGE, ids=str)
def test_a_large_layer_is_computed_as_a_small_one(spec: Recurrent, order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large one, a few rows at a time are read where they lie."""
    numbers = {key: np.asarray(block, np.float32, order=order) for key, block in helpers.weights(spec).items()}
    graph = a_chain(Node("r", "recurrent", {"sequence": True}, spec, lambda: numbers))
    x = sole_probe(graph, 3, 5)
    wanted = sole_noise(graph, x, "float32")
    monkeypatch.setattr(arithmetic, "_LARGE", 0)
    monkeypatch.setattr(pieces, "_STRIP", 17)  # two rows at a time, of seven or nine
    monkeypatch.setattr(pieces.Pieces, "whole", None)
    clean, deviation = sole_noise(graph, x, "float32")
    np.testing.assert_allclose(clean, wanted[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(deviation, wanted[1], rtol=1e-4)


def test_a_mask_that_is_ignored_is_far_outside_the_noise(keras: ModuleType) -> None:
    k = keras.layers
    model = fill(
        keras.Sequential([k.Input((None, 3)), k.Masking(), k.GRU(4, return_sequences=True), k.GlobalAveragePooling1D()])
    )
    graph = graph_of_model(model)
    x = sole_probe(graph, 4, 6)
    spec = graph.nodes[1].spec
    assert isinstance(spec, Recurrent)
    masking, gru, pool = graph.nodes
    deaf = a_chain(replace(gru, spec=replace(spec, mask=None, masked_output=None)), pool, shape=(None, 3))
    assert ratio(graph, sole_run(deaf, x), x) > 1000 * LIMIT
    no_pool = a_chain(masking, gru, shape=(None, 3))
    sequence, mask = running.sole(running.run_masked(no_pool, x))
    assert mask is not None
    assert ratio(graph, sequence.mean(axis=1), x) > 1000 * LIMIT


# ---- What runs and what is said.


def test_every_kind_is_documented_and_tested(keras: ModuleType) -> None:
    seen: dict[str, set[str]] = {}
    for shape, build in MODELS.values():
        model = keras.Sequential([keras.layers.Input(shape), *build(keras.layers)])
        for node in graph_of_model(model).nodes:
            seen.setdefault(node.kind, set()).update(node.options)
            if node.spec is None:
                assert set(node.params()) == set(KINDS[node.kind].params) == set(node.shapes)
    # The others are in test_kinds.
    assert {"recurrent", "dense", "embedding", "conv1d", "pool", "masking", "activation"} <= set(seen) <= set(KINDS)
    for kind, options in seen.items():
        assert options | KINDS[kind].optional == set(KINDS[kind].options) or kind == "activation", kind


def test_what_does_not_fit_is_refused() -> None:
    dense = Node("d", "dense", {}, Dense(5, 2), dict)
    with pytest.raises(SpecError, match=r"'d' of kind dense is Dense\(2\) on 5 features and cannot read"):
        a_chain(dense)
    with pytest.raises(SpecError, match="out of bounds"):
        a_chain(Node("r", "repeat", {"times": 10**9}), shape=(6,))
    with pytest.raises(SpecError, match=r"x must be numbers of the shape \('batch', None, 6\)"):
        running.run(a_chain(Node("f", "flatten")), np.ones((2, 3, 5)))
    with pytest.raises(SpecError, match="two layers of the name 'd'"):
        a_chain(Node("d", "dense", {}, Dense(6, 2), dict), Node("d", "dense", {}, Dense(2, 2), dict))
    for reads, writes, why in (
        ("nowhere", "y", "reads 'nowhere', which nothing before it puts out"),
        ("x", "x", "writes 'x', which is written already"),
        ("x", "z", "The model puts out 'y', which no node writes"),
        ("x", "y z", "'f' puts out 1 values, and names 2"),
    ):
        one = Node("f", "flatten", reads=(reads,), writes=tuple(writes.split()))
        with pytest.raises(SpecError, match=why):
            Graph((one,), (Input("x", (4, 3)),), (Output("output", "y"),))
    table = with_arrays("embedding", {"embeddings": random(4, 3)}, mask_zero=False)
    for ids in ([[4]], [[-1]]):
        with pytest.raises(SpecError, match="reads whole numbers from 0 to 3"):
            running.run(a_chain(table, shape=(None,)), np.array(ids))
    short = with_arrays("conv1d", CONV, **{**PLAIN, "padding": "valid"})
    with pytest.raises(SpecError, match="needs more than 2 time steps, not 2"):
        running.run(a_chain(short), np.ones((1, 2, 6)))


def test_probes_are_seeded_and_mask_some_steps() -> None:
    table = with_arrays("embedding", {"embeddings": random(9, 3)}, mask_zero=True)
    words = a_chain(table, Node("d", "dropout", {"rate": 0.1}), shape=(None,))
    ids = sole_probe(words, 5, 7, 1)
    assert ids.shape == (5, 7)
    assert ids.max() < 9
    assert np.array_equal(ids, sole_probe(words, 5, 7, 1))
    assert not np.array_equal(ids, sole_probe(words, 5, 7, 2))
    _, mask = running.sole(running.run_masked(words, ids))
    assert mask is not None
    assert [list(row).count(True) for row in mask] == [5, 5, 7, 6, 0]
    pooled = sole_probe(a_chain(table, Node("p", "pool", {"mode": "average", "keepdims": False}), shape=(None,)), 5, 7)
    assert (pooled != 0).any(axis=1).all()
    fixed = sole_probe(a_chain(Node("f", "flatten"), shape=(4, 6)), 2, 9)
    assert fixed.shape == (2, 4, 6)
    assert len(np.unique(np.abs(fixed))) == fixed.size
    assert np.abs(fixed).min() > 0.2


def test_configurations_are_json(keras: ModuleType) -> None:
    """A live model is read as a file would be: nothing in the graph holds on to an object of Keras."""
    model = functional(keras)
    for node in graph_of_model(model).nodes:
        json.dumps(dict(node.options))


def test_a_nested_model_without_a_name_is_found_by_its_layers() -> None:
    """Keras before 2.2 gave a Sequential in a Sequential no name; the file has its weights under one."""
    dense = {"name": "dense_1", "output_dim": 2, "activation": "tanh", "batch_input_shape": [None, 3]}
    file = stored(("Sequential", [("Dense", dense)]), "1.2.2", {"dense_1": {"W": random(3, 2), "b": random(2)}})
    config = {"class_name": "Sequential", "config": [{"class_name": "Sequential", "config": file.config["config"]}]}  # type: ignore[index]
    nested = replace(file, config=config, layers=(replace(file.layers[0], name="sequential_1/dense_1"),))
    graph = graph_of(recognise(nested))
    assert [node.kind for node in graph.nodes] == ["dense", "activation"]
    assert graph.inputs[0].shape == (3,)
    x = sole_probe(graph, 3, 5)
    assert np.allclose(sole_run(graph, x), np.tanh(x @ random(3, 2) + random(2)), atol=1e-6)


def test_a_cudnn_layer_takes_no_mask() -> None:
    cell = {"name": "c", "units": 2, "return_sequences": False}
    arrays = {"c": {"kernel": random(3, 8), "recurrent_kernel": random(2, 8), "bias": random(16)}}
    start = {"batch_input_shape": [None, None, 3]}
    graph = graph_of(recognise(stored(("Sequential", [("CuDNNLSTM", {**cell, **start})]), "2.1.5", arrays)))
    assert graph.inputs[0].shape == (None, 3)
    masking = ("Masking", {"name": "m", "mask_value": 0.0, **start})
    with pytest.raises(UnsupportedError, match=r"'c' .*reached by a mask, which it cannot use"):
        graph_of(recognise(stored(("Sequential", [masking, ("CuDNNLSTM", cell)]), "2.1.5", arrays)))


def test_a_norm_may_be_multiplied_out() -> None:
    """Keras computes ``x s + (beta - mean s)``, which rounds numbers of the size of the mean."""
    arrays = {**BATCH, "mean": BATCH["mean"] * 100}
    graph = a_chain(with_arrays("batch_norm", arrays, epsilon=1e-3))
    x = (random(40, 50, 6) + arrays["mean"]).astype(np.float32)
    scale = arrays["gamma"] / np.sqrt(arrays["variance"] + np.float32(1e-3))
    got = x * scale + (arrays["beta"] - arrays["mean"] * scale)
    assert got.dtype == np.float32
    assert 0.5 < ratio(graph, got, x) < LIMIT
