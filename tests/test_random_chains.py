"""Right Keras models of any kind are converted, every one; what a wrong writer writes is found on the same probes.

The models are drawn: recurrent layers in all options, dense and normalising ones between them, one time step, a last relu,
weights so large that the source itself overflows. What they are converted to is held against Keras as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers import sole_noise, sole_probe, sole_written

from xframe import conversion, noise, writers
from xframe.conversion import convert_file
from xframe.files import load
from xframe.graph import Graph, Node, graph_of
from xframe.judging import LIMIT
from xframe.layout import Key
from xframe.recognition import recognise

pytestmark = pytest.mark.needs("keras", "torch")

k3 = keras.layers
ACTIVATIONS = ("tanh", "relu", "sigmoid", "elu", "softsign", "selu", "gelu", "hard_sigmoid", "exponential", "linear")
# How many are drawn, in all and in the quick tests.
ALL, QUICK = 160, 8


def drawn(seed: int) -> Any:
    """A model of a few layers, with weights away from zero."""
    random = np.random.default_rng([seed, 77])
    size = int(random.integers(2, 7))
    steps = [None, 1, 6][random.integers(3)] if seed % 4 else 1
    layers: list[Any] = []
    if random.random() < 0.25:
        layers += [keras.Input((steps,)), k3.Embedding(13, size, mask_zero=bool(random.integers(2)) and steps != 1)]
    else:
        layers.append(keras.Input((steps, size)))
        if random.random() < 0.2 and steps != 1:
            layers.append(k3.Masking())
    count = int(random.integers(1, 4))
    for i in range(count):
        layers += between(random) if i else []
        layers.append(recurrent(random, sequence=i + 1 < count))
    for _ in range(random.integers(3)):
        layers += [k3.Dense(int(random.integers(1, 7)), activation=pick(random)), *between(random)]
    if seed % 3 == 0:
        layers.append(k3.Dense(int(random.integers(1, 4)), activation="relu"))
    model = keras.Sequential(layers)
    largest = float(random.choice([0.3, 1.0, 2.0, 8.0]))
    arrays = []
    for variable in model.weights:
        scale = largest / np.sqrt(max(variable.shape[0], 2))
        array = random.choice([-1.0, 1.0], variable.shape) * random.uniform(0.25, 1.0, variable.shape) * scale
        arrays.append(np.abs(array) + 0.3 if "variance" in variable.name else array)
    model.set_weights(arrays)
    return model


def pick(random: np.random.Generator) -> str:
    return str(random.choice(ACTIVATIONS, p=[0.2, 0.3, 0.1, *[0.4 / 7] * 7]))


def between(random: np.random.Generator) -> list[Any]:
    """Nothing, or what stands between two layers."""
    found = [
        [],
        [k3.Dropout(0.3)],
        [k3.LayerNormalization(epsilon=float(random.choice([1e-3, 1e-5])))],
        [k3.BatchNormalization()],
        [k3.Activation(pick(random))],
    ]
    return found[int(random.integers(len(found)))]


def recurrent(random: np.random.Generator, sequence: bool) -> Any:
    units, options = int(random.integers(1, 8)), {"return_sequences": sequence, "use_bias": bool(random.random() < 0.8)}
    kind = ("SimpleRNN", "LSTM", "GRU")[random.integers(3)]
    options["activation"] = str(random.choice(["tanh", "tanh", "relu", "softsign", "elu"]))
    if kind != "SimpleRNN":
        options["recurrent_activation"] = str(random.choice(["sigmoid", "sigmoid", "hard_sigmoid"]))
    if kind == "GRU":
        options["reset_after"] = bool(random.integers(2))
    layer = getattr(k3, kind)(units, **options)
    if random.random() < 0.25:
        return k3.Bidirectional(layer, merge_mode=str(random.choice(["concat", "sum", "mul", "ave"])))
    return layer


def targets(seed: int) -> list[str]:
    return ["torch", *([("onnx", "keras", "npz")[seed // 8 % 3]] if seed % 8 == 0 else [])]


def check(seed: int, folder: Path) -> None:
    """Converted, and the same as what Keras makes of an input of another seed."""
    model, path = drawn(seed), folder / f"model{seed}.keras"
    model.save(path)
    graph = graph_of(recognise(load(path)))
    masks = any(getattr(node.spec, "mask", None) for node in graph.nodes)
    for to in targets(seed):
        if to == "onnx" and masks:
            continue
        done = convert_file(path, folder / f"{to}{seed}", to)
        assert done, f"{seed} to {to}: {done.reason}"
        x = sole_probe(graph, 3, graph.inputs[0].shape[0] or 7, seed + 1)
        truth = np.asarray(model(x, training=False))
        got = sole_written(folder / f"{to}{seed}", x, to)
        _, deviation = sole_noise(graph, x, "float32")
        finite = np.isfinite(truth) & np.isfinite(deviation)
        assert np.isfinite(got[finite]).all()
        # Both round: the square root of two is in it.
        assert noise.ratio(got, truth, deviation)[finite].max(initial=0) < 2 * LIMIT


@pytest.mark.parametrize("seed", range(QUICK))
def test_right_models_are_converted(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, ALL))
def test_right_models_are_converted_every_one(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


# ---- Wrong ones are found.


def swapped(node: Node) -> Node:
    """Two gates; with one gate only, the recurrent kernel's two ends."""

    def params() -> dict[Key, np.ndarray]:
        found = dict(node.params())
        gates = list(dict.fromkeys(key.gate for key in found))
        if len(gates) < 2:
            return {key: block[:, ::-1] if key.role == "recurrent_kernel" else block for key, block in found.items()}
        other = {gates[0]: gates[-1], gates[-1]: gates[0]}
        return {key: found[key._replace(gate=other.get(key.gate, key.gate))] for key in found}

    return replace(node, params=params)


def turned(node: Node) -> Node:
    """The recurrent kernel transposed."""
    return replace(
        node, params=lambda: {k: b.T if k.role == "recurrent_kernel" else b for k, b in node.params().items()}
    )


def more_epsilon(node: Node) -> Node:
    return replace(node, options={**node.options, "epsilon": 1.5 * node.options["epsilon"]})


def other_activation(node: Node) -> Node:
    return replace(node, options={"name": "linear"})


def one_step(m: Any) -> list[Any]:
    return [keras.Input((1, 24)), m.LSTM(16), m.Dense(1, activation="sigmoid")]


def last_relu(m: Any) -> list[Any]:
    """Of which the outputs are zero on most inputs, if not on all."""
    return [
        keras.Input((None, 3)),
        m.GRU(5, return_sequences=True),
        m.LayerNormalization(epsilon=0.01),
        m.SimpleRNN(4),
        m.Dense(1, activation="relu"),
    ]


def overflowing(m: Any) -> list[Any]:
    """In float32, on a dozen time steps."""
    given = {"activation": "relu", "return_sequences": True}
    return [
        keras.Input((12, 3)),
        m.SimpleRNN(4, name="first", **given),
        m.SimpleRNN(3, name="second", **given),
        m.Dense(2),
    ]


def weights(model: Any, largest: float, head: float) -> Any:
    """Distinct ones away from zero; those of the last layer negative, so that a last relu is always off behind a gate."""
    random = np.random.default_rng(5)
    arrays = [
        random.choice([-1.0, 1.0], w.shape) * random.uniform(0.3, 1.0, w.shape) * largest / np.sqrt(w.shape[0])
        for w in model.weights
    ]
    arrays[-1] = arrays[-1] + head
    model.set_weights(arrays)
    return model


WRONG: list[tuple[Callable[[Any], list[Any]], float, float, str, Callable[[Node], Node]]] = [
    (one_step, 1.0, 0.0, "lstm", swapped),
    (one_step, 1.0, 0.0, "lstm", turned),
    (last_relu, 1.0, -9.0, "gru", swapped),
    (last_relu, 1.0, -9.0, "gru", turned),
    (last_relu, 1.0, -9.0, "simple_rnn", turned),
    (last_relu, 1.0, -9.0, "layer_normalization", more_epsilon),
    (last_relu, 1.0, -9.0, "dense/activation", other_activation),
    (overflowing, 4e3, 0.0, "first", swapped),
    (overflowing, 4e3, 0.0, "second", turned),
]


@pytest.mark.parametrize(("build", "largest", "head", "name", "mistake"), WRONG)
def test_what_a_wrong_writer_writes_is_found(
    build: Callable[[Any], list[Any]],
    largest: float,
    head: float,
    name: str,
    mistake: Callable[[Node], Node],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keras.backend.clear_session()
    model = weights(keras.Sequential(build(k3)), largest, head)
    model.save(tmp_path / "model.keras")
    if build is overflowing:
        assert not np.isfinite(np.asarray(model(np.ones((1, 12, 3), "float32")))).all()
    right = convert_file(tmp_path / "model.keras", tmp_path / "right", "npz")
    assert right, right.reason

    def broken(graphs: Mapping[str, Graph], folder: Path, to: str) -> dict[str, writers.Written]:
        (graph,) = graphs.values()
        nodes = tuple(mistake(node) if node.name == name else node for node in graph.nodes)
        return write_entries({"": replace(graph, nodes=nodes)}, folder, to)

    # The second is for nodes that are written by themselves.
    write_entries = writers.write_entries
    monkeypatch.setattr(conversion, "write_entries", broken)
    monkeypatch.setattr(writers, "write_entries", broken)
    wrong = convert_file(tmp_path / "model.keras", tmp_path / "wrong", "npz")
    assert wrong.status == "different", wrong.reason
    assert not (tmp_path / "wrong").exists()
