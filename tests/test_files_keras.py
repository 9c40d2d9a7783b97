"""Keras files: what Keras, tf_keras and h5py write is read back to the last bit; what is damaged or unsafe gives one sentence.

Oracles: the models' own weights (Keras 3 and tf_keras), and h5py, which xframe itself does not use.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import helpers
import numpy as np
import pytest
from test_real_models import find_models

from xframe import budget
from xframe.errors import FileError
from xframe.files import ModelFile, load

LONG = [f"{'x' * 480}_{i}" for i in range(140)]


def build(keras: Any) -> Any:
    """A model of every kind of layer whose place in a file is particular; every weight is distinct."""
    layers = keras.layers
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(3, name="dd"), layers.Dense(2, name="ee")], name="inner")
    deep = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="last")], name="deep")
    parts = [keras.Input((4, 2)), layers.SimpleRNN(5, name="sr"), layers.Dense(3, name="mid"), deep]
    x = inputs = keras.Input((4, 5), name="given")
    x = layers.TimeDistributed(inner, name="td")(x)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="bi")(x)
    x = layers.LSTM(7, return_sequences=True, name="lstm")(x)
    x = layers.GRU(4, return_sequences=True, reset_after=False, name="before")(x)
    x = layers.Dropout(0.2, name="drop")(x)
    x = layers.GRU(6, return_sequences=True, name="after")(x)
    x = layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True, name="stack")(x)
    model = keras.Model(inputs, keras.Sequential(parts, name="nest")(x), name="whole")
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((2, 4, 5)), np.ones((2, 4)), verbose=0)
    rng = np.random.default_rng(7)
    model.set_weights([rng.normal(size=w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def keras2() -> Any:
    import tf_keras

    return build(tf_keras)


@pytest.fixture(scope="module")
def keras3() -> Any:
    import keras

    return build(keras)


def layers_of(file: ModelFile) -> dict[str, tuple[str, list[str]]]:
    """The layers that have tensors: kind, and what they call their tensors."""
    return {layer.name: (layer.kind, list(layer.tensors)) for layer in file.layers if layer.tensors}


def assert_weights(file: ModelFile, model: Any) -> None:
    """Each top layer's tensors are its weights: bit for bit, in order, with the type they have; and there are no others."""
    tensors = [name for layer in file.layers for name in layer.tensors.values()]
    assert sorted(tensors) == sorted(file.tensors)
    for top in model.layers:
        found = [
            file.tensors[name]
            for layer in file.layers
            if layer.name.split("/")[0] == top.name
            for name in layer.tensors.values()
        ]
        expected = top.get_weights()
        if file.format != "keras-hdf5":  # groups have no order among them
            found = sorted(found, key=lambda tensor: tensor.read().tobytes())
            expected = sorted(expected, key=lambda array: array.tobytes())
        assert [tensor.shape for tensor in found] == [array.shape for array in expected], top.name
        for tensor, array in zip(found, expected, strict=True):
            assert tensor.dtype == array.dtype.name
            helpers.assert_same_numbers({"": tensor.read()}, {"": array})


LEGACY = {
    "bi": [f"{d}_lstm/lstm_cell/{w}" for d in ("forward", "backward") for w in ("kernel", "recurrent_kernel", "bias")],
    "lstm": [f"lstm_cell/{w}" for w in ("kernel", "recurrent_kernel", "bias")],
    "before": [f"gru_cell/{w}" for w in ("kernel", "recurrent_kernel", "bias")],
    "after": [f"gru_cell/{w}" for w in ("kernel", "recurrent_kernel", "bias")],
    "stack": [
        f"stacked_rnn_cells/{c}/{w}" for c in ("lstm_cell", "gru_cell") for w in ("kernel", "recurrent_kernel", "bias")
    ],
    "nest/sr": [f"simple_rnn_cell/{w}" for w in ("kernel", "recurrent_kernel", "bias")],
    "nest/mid": ["kernel", "bias"],
    "nest/deep/last": ["kernel", "bias"],
}
KINDS = {
    "td": "TimeDistributed",
    "bi": "Bidirectional",
    "lstm": "LSTM",
    "before": "GRU",
    "after": "GRU",
    "stack": "RNN",
    "nest/sr": "SimpleRNN",
    "nest/mid": "Dense",
    "nest/deep/last": "Dense",
}


@pytest.mark.needs("keras")
@pytest.mark.parametrize("version", ["keras2", "keras3"])
def test_whole_model_of_hdf5(version: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model = request.getfixturevalue(version)
    model.save(tmp_path / "model.h5")
    file = load(tmp_path / "model.h5")
    assert file.format == "keras-hdf5"
    assert_weights(file, model)
    td = [f"{'' if version == 'keras2' else 'inner/'}{n}/{w}" for n in ("dd", "ee") for w in ("kernel", "bias")]
    expected = {name: (kind, LEGACY.get(name, td)) for name, kind in KINDS.items()}
    # Keras numbers cells that it names itself, anew in each process.
    assert {n: (k, [unnumbered(t) for t in ts]) for n, (k, ts) in layers_of(file).items()} == expected
    named = {layer.name: layer for layer in file.layers}
    assert named["before"].options["reset_after"] is False
    assert named["after"].options["reset_after"] is True
    assert named["bi"].options["layer"]["class_name"] == "LSTM"
    assert named["drop"].kind == "Dropout"
    assert not named["drop"].tensors
    assert int(file.metadata["optimizer_tensors"]) == len(
        model.optimizer.variables if version == "keras3" else adam(model)
    )
    assert file.metadata["backend"] == "tensorflow"
    assert file.metadata["keras_version"] == sys.modules["keras" if version == "keras3" else "tf_keras"].__version__
    assert "lambda_layers" not in file.metadata
    assert file.config is not None
    assert file.config["config"]["name"] == "whole"


def unnumbered(key: str) -> str:
    return re.sub(r"(cells?|lstm)_\d+/", r"\1/", key)


def adam(model: Any) -> list[Any]:
    """The variables that tf_keras's Adam saves: its learning rate is not among them."""
    return [v for v in model.optimizer.variables if "learning_rate" not in v.name]


@pytest.mark.needs("keras")
def test_weights_only_of_hdf5(keras2: Any, tmp_path: Path) -> None:
    """Without a configuration, the models in the model are seen by the names of the weights alone."""
    keras2.save_weights(tmp_path / "weights.h5")
    file = load(tmp_path / "weights.h5")
    assert file.format == "keras-hdf5"
    assert file.config is None
    assert "optimizer_tensors" not in file.metadata
    assert_weights(file, keras2)
    expected = {"td/dd": ["kernel", "bias"], "td/ee": ["kernel", "bias"], **LEGACY}
    expected["nest/last"] = expected.pop("nest/deep/last")  # the weights' names do not say what is between
    assert {n: [unnumbered(t) for t in ts] for n, (_, ts) in layers_of(file).items()} == expected


CELL = ["cell/vars/0", "cell/vars/1", "cell/vars/2"]
PLACED = {
    "td": [f"layer/layers/{d}/vars/{n}" for d in ("dense", "dense_1") for n in (0, 1)],
    "bi": [f"{d}_layer/{c}" for d in ("backward", "forward") for c in CELL],
    "lstm": CELL,
    "before": CELL,
    "after": CELL,
    "stack": [f"cell/cells/{c}/vars/{n}" for c in ("gru_cell", "lstm_cell") for n in range(3)],
    "nest/sr": CELL,
    "nest/mid": ["vars/0", "vars/1"],
    "nest/deep/last": ["vars/0", "vars/1"],
}


@pytest.mark.needs("keras")
@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_keras_3(name: str, keras3: Any, tmp_path: Path) -> None:
    whole = name == "model.keras"
    (keras3.save if whole else keras3.save_weights)(tmp_path / name)
    file = load(tmp_path / name)
    assert file.format == ("keras" if whole else "keras-weights")
    assert_weights(file, keras3)
    found = layers_of(file)
    assert found == {layer: (KINDS[layer] if whole else "", keys) for layer, keys in PLACED.items()}
    assert int(file.metadata["optimizer_tensors"]) == len(keras3.optimizer.variables)
    # The numbers of a cell's variables: kernel, recurrent kernel, bias.
    layer = next(layer for layer in file.layers if layer.name == "after")
    for key, array in zip(CELL, keras3.get_layer("after").get_weights(), strict=True):
        assert np.array_equal(file.tensors[layer.tensors[key]].read(), array)
    if whole:
        assert list(file.metadata) == ["keras_version", "date_saved", "optimizer_tensors"]
        assert list(found) == list(KINDS)  # in the order of the configuration
        assert [each.name for each in file.layers if each.kind == "Dropout"] == ["drop"]


@pytest.mark.needs("keras")
def test_more_names_than_an_attribute_can_hold(tmp_path: Path) -> None:
    """Keras cuts lists above 64 kB into layer_names0, layer_names1 and so on."""
    import tf_keras

    layers = [tf_keras.layers.Activation("linear", name=name) for name in LONG]
    for place in (3, 130):
        layers[place] = tf_keras.layers.Dense(2, name=LONG[place])
    model = tf_keras.Sequential([tf_keras.Input((3,)), *layers])
    model.save_weights(tmp_path / "weights.h5")
    with h5py.File(tmp_path / "weights.h5") as file:
        assert "layer_names" not in file.attrs
    assert layers_of(load(tmp_path / "weights.h5")) == {LONG[place]: ("", ["kernel", "bias"]) for place in (3, 130)}
    assert_weights(load(tmp_path / "weights.h5"), model)


@pytest.mark.needs("keras")
def test_lambda_layers_are_named_and_not_run(tmp_path: Path) -> None:
    import keras

    keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Lambda(lambda x: x * 2, name="twice"),
            keras.layers.Dense(2, name="plain"),
            keras.Sequential([keras.layers.Lambda(lambda x: x + 1, name="more")]),
        ]
    ).save(tmp_path / "model.keras")
    file = load(tmp_path / "model.keras")
    assert file.metadata["lambda_layers"] == "twice,more"
    assert layers_of(file) == {"plain": ("Dense", ["vars/0", "vars/1"])}


def test_lambda_layers_of_keras_2(tmp_path: Path) -> None:
    """Their code is marshalled, and there for whoever runs it; here it is text."""
    code = {"class_name": "Lambda", "config": {"name": "evil", "function": ["4wEAAAA=", None, None]}}
    config = {"class_name": "Sequential", "config": {"layers": [code]}}
    write(tmp_path / "model.h5", {"a": [("kernel", (2, 3))]}, model_config=json.dumps(config))
    assert load(tmp_path / "model.h5").metadata == {"lambda_layers": "evil"}


def test_layers_of_others_are_kept_whole(tmp_path: Path) -> None:
    """What a layer that the configuration names holds in attributes of its own belongs to it."""
    config = {"config": {"layers": [{"class_name": "TheirLayer", "config": {"name": "theirs"}}]}}
    zipped(tmp_path / "m.keras", json.dumps(config), place="layers/their_layer/inner")
    assert layers_of(load(tmp_path / "m.keras")) == {"theirs": ("TheirLayer", ["inner/vars/0"])}
    zipped(tmp_path / "n.keras", place="layers/their_layer/inner")
    assert layers_of(load(tmp_path / "n.keras")) == {"their_layer/inner": ("", ["vars/0"])}
    with h5py.File(
        tmp_path / "o.weights.h5", "w"
    ) as file:  # without a configuration, its own weights show that it is one
        file["layers/their_layer/inner/vars/0"] = np.arange(6.0)
        file["layers/their_layer/vars/0"] = np.arange(5.0)
    assert layers_of(load(tmp_path / "o.weights.h5")) == {"their_layer": ("", ["inner/vars/0", "vars/0"])}


@pytest.mark.needs("keras")
def test_subclassed_model_and_bfloat16(tmp_path: Path) -> None:
    """No configuration lists the layers: the groups and the names beside them are all there is."""
    import keras

    class Mine(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = keras.layers.LSTM(3, return_sequences=True, name="one")
            self.body = keras.Sequential([keras.layers.Dense(2, dtype="bfloat16", name="half")], name="body_model")

        def call(self, x: Any) -> Any:
            return self.body(self.first(x))

    model = Mine()
    model(np.ones((2, 3, 4), np.float32))
    rng = np.random.default_rng(3)
    half = rng.normal(size=(3, 2)).astype(np.float32)
    model.body.layers[0].kernel.assign(half)
    model.save(tmp_path / "model.keras")
    file = load(tmp_path / "model.keras")
    assert layers_of(file) == {"one": ("", CELL), "body_model/half": ("", ["vars/0", "vars/1"])}
    kernel = file.tensors["body/layers/dense/vars/0"]
    assert (kernel.dtype, kernel.shape) == ("bfloat16", (3, 2))
    found = kernel.read()
    assert found.dtype == np.float32
    expected = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(model.body.layers[0].kernel, "float32")))
    assert np.array_equal(found, expected)
    assert np.abs(found - half).max() < 0.01


# ---- Files made by hand, in the ways of versions that are not here.

Written = dict[str, np.ndarray]


def write(path: Path, layers: dict[str, list[tuple[str, tuple[int, ...]]]], **attributes: Any) -> Written:
    """A file of Keras 1 or 2 with weights of these names and shapes; gives them."""
    rng = np.random.default_rng(5)
    written = {}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, value in attributes.items():
            file.attrs[name] = value
        for layer, weights in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name, _ in weights]
            for name, shape in weights:
                written[f"{layer}/{name}"] = rng.normal(size=shape).astype(np.float32)
                group[name] = written[f"{layer}/{name}"]
    return written


def assert_reads(written: Written, path: Path) -> None:
    file = load(path)
    assert list(file.tensors) == list(written)
    for name, array in written.items():
        assert np.array_equal(file.tensors[name].read(), array), name


LSTM1 = [(f"{role}_{gate}", shape) for gate in "icfo" for role, shape in (("W", (2, 3)), ("U", (3, 3)), ("b", (3,)))]


def test_keras_1(tmp_path: Path) -> None:
    """Names are joined by _, gates are apart, and a wrapper's weights do not bear its name."""
    layers = {
        "lstm_1": [(f"lstm_1_{name}", shape) for name, shape in LSTM1],
        "bidirectional_1": [(f"{d}_lstm_2_{name}", shape) for d in ("forward", "backward") for name, shape in LSTM1],
        "dense_1": [("dense_1_W:0", (3, 4)), ("dense_1_b:0", (4,))],
    }
    config = {
        "class_name": "Sequential",
        "config": [
            {"class_name": "LSTM", "config": {"name": "lstm_1", "inner_activation": "hard_sigmoid"}},
            {"class_name": "Dense", "config": {"name": "dense_1"}},
        ],
    }
    path = tmp_path / "model.h5"
    written = write(path, layers, keras_version=b"1.2.2", model_config=json.dumps(config).encode())
    file = load(path)
    assert {**file.tensors}.keys() == written.keys()
    for name, array in written.items():
        assert np.array_equal(file.tensors[name].read(), array)
    assert layers_of(file) == {
        "lstm_1": ("LSTM", [name for name, _ in LSTM1]),
        "dense_1": ("Dense", ["W", "b"]),
        "bidirectional_1": ("", [f"{d}_lstm_2_{name}" for d in ("forward", "backward") for name, _ in LSTM1]),
    }
    assert file.layers[0].options["inner_activation"] == "hard_sigmoid"
    assert file.metadata == {"keras_version": "1.2.2"}


def test_nested_sequential_without_a_name(tmp_path: Path) -> None:
    """Keras 1 and early 2 give a nested Sequential's configuration no name; the file's list of layers has it."""
    inner = [
        {"class_name": "LSTM", "config": {"name": "lstm_4"}},
        {"class_name": "Dense", "config": {"name": "dense_4"}},
    ]
    config = {
        "class_name": "Sequential",
        "config": [
            {"class_name": "Dense", "config": {"name": "dense_1"}},
            {"class_name": "Sequential", "config": inner},
        ],
    }
    layers = {
        "dense_1": [("dense_1/kernel:0", (2, 3))],
        "sequential_9": [("lstm_4_W_i", (3, 4)), ("dense_4/kernel:0", (4, 5))],
    }
    path = tmp_path / "model.h5"
    assert_reads(write(path, layers, model_config=json.dumps(config)), path)
    assert layers_of(load(path)) == {
        "dense_1": ("Dense", ["kernel"]),
        "sequential_9/lstm_4": ("LSTM", ["W_i"]),
        "sequential_9/dense_4": ("Dense", ["kernel"]),
    }


@pytest.mark.parametrize(
    ("layer", "weight", "found", "key"),
    [
        ("lstm_1", "lstm_1/kernel:0", "lstm_1", "kernel"),
        ("lstm_1", "lstm_1_1/kernel:0", "lstm_1", "kernel"),  # built twice
        ("lstm", "model/lstm/kernel:0", "lstm", "kernel"),
        ("rnn", "rnn/lstm_cell_3/bias:0", "rnn", "lstm_cell_3/bias"),
        ("bi", "forward_lstm_1/kernel:0", "bi", "forward_lstm_1/kernel"),
        ("att", "att/att_W:0", "att", "att_W"),
        ("a/b", "a/b/kernel:0", "a/b", "kernel"),
        ("nest", "lstm_1/kernel:0", "nest/lstm_1", "kernel"),
        ("nest", "nest/lstm_1/lstm_cell/kernel", "nest/lstm_1", "lstm_cell/kernel"),
    ],
)
def test_names_without_a_configuration(layer: str, weight: str, found: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    assert_reads(write(path, {layer: [(weight, (2, 3))]}), path)
    assert layers_of(load(path)) == {found: ("", [key])}


def test_same_names_in_nested_models(tmp_path: Path) -> None:
    """A name that two nested models use is told by what is before it; where nothing is, it is left with the outer one."""
    dense = {"class_name": "Dense", "config": {"name": "d"}}
    models = [{"class_name": "Sequential", "config": {"name": name, "layers": [dense]}} for name in ("m", "n")]
    models[0]["config"] = {"name": "m", "layers": [dense, {"class_name": "ReLU", "config": {"name": "n"}}]}
    outer = {"class_name": "Functional", "config": {"name": "o", "layers": models}}
    config = {"class_name": "Functional", "config": {"layers": [outer]}}
    layers = {"o": [("n/d/kernel:0", (2, 3)), ("m/d/kernel:0", (3, 4)), ("d/kernel:0", (4, 5))]}
    path = tmp_path / "model.h5"
    write(path, layers, model_config=json.dumps(config))
    tensors = {layer.name: dict(layer.tensors) for layer in load(path).layers}
    assert tensors == {
        "o/m/d": {"kernel": "o/m/d/kernel:0"},
        "o/m/n": {},
        "o/n/d": {"kernel": "o/n/d/kernel:0"},
        "o": {"d/kernel": "o/d/kernel:0"},
    }


def test_weights_of_early_keras_3(tmp_path: Path) -> None:
    """No names beside the groups, generators of random numbers among them, and the name of Keras 2.12 for a model's layers."""
    path, rng = tmp_path / "w.weights.h5", np.random.default_rng(2)
    root = "_layer_checkpoint_dependencies"
    written = {
        f"{root}/dense_{n}/vars/0" if n else f"{root}/dense/vars/0": rng.normal(size=(n + 1, 2)) for n in range(12)
    }
    with h5py.File(path, "w") as file:
        for name, array in written.items():
            file[name] = array
        file[f"{root}/dropout/seed_generator/vars/0"] = np.array([1, 2], np.uint32)
        file["optimizer/vars/0"] = np.int64(3)
        file["metrics/mean/vars/0"] = np.float32(0.5)
    loaded = load(path)
    assert_reads(written, path)  # dense_10 after dense_9, too
    assert loaded.metadata == {"optimizer_tensors": "3"}
    assert [layer.name for layer in loaded.layers] == ["dense", *(f"dense_{n}" for n in range(1, 12))]


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<f2", ">i8", "u1", "?"])
def test_types(dtype: str, tmp_path: Path) -> None:
    array = (np.random.default_rng(1).normal(size=(3, 2, 4)) * 9).astype(dtype)
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        file["layers/a/vars/0"] = array
        file["layers/a/vars/1"] = array[0, 0, 0]
        file["layers/a/vars/2"] = array[:0]
    loaded = load(tmp_path / "w.weights.h5")
    for name, expected in {"0": array, "1": array[0, 0, 0], "2": array[:0]}.items():
        tensor = loaded.tensors[f"layers/a/vars/{name}"]
        found = tensor.read()
        assert tensor.dtype == found.dtype.name == np.dtype(dtype).name
        assert found.dtype.isnative
        assert tensor.shape == expected.shape == found.shape
        assert np.array_equal(found, expected)


# ---- Real files.


@pytest.mark.parametrize("name", ["dtln/model.h5", "textgenrnn/hacker_news.hdf5"])
def test_real_files(name: str) -> None:
    path = find_models(os.environ) / name
    loaded = load(path)
    assert {layer for layer, (_, keys) in layers_of(loaded).items() if "recurrent_kernel" in keys} == (
        {"lstm", "lstm_1", "lstm_2", "lstm_3"} if "dtln" in name else {"rnn_1", "rnn_2"}
    )
    assert loaded.metadata["keras_version"] == ("2.2.4-tf" if "dtln" in name else "2.1.5")
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, each: names.append(name) if isinstance(each, h5py.Dataset) else None)
        assert sorted(loaded.tensors) == sorted(names)
        for each in names:
            assert np.array_equal(loaded.tensors[each].read(), file[each][()])


# ---- Files that are damaged, strange or hostile.


def read_all(path: Path) -> None:
    for tensor in load(path).tensors.values():
        tensor.read()


def refused(path: Path, words: str) -> None:
    """Refused in one sentence, soon, and by no other exception."""
    start = time.monotonic()
    with pytest.raises(FileError, match=words) as caught:
        read_all(path)
    assert time.monotonic() - start < 10
    text = str(caught.value)
    assert text.startswith(f"Cannot read {path}: ")
    assert text.endswith(".")
    assert "\n" not in text


def hostile(path: Path, name: str) -> None:
    """A sound file, but for one thing."""
    other = path.with_name("secret.h5")
    if name.startswith("external_link"):
        with h5py.File(other, "w") as file:
            file["x"] = np.arange(3.0)
    write(path, {"a": [("kernel", (2, 3))]})
    with h5py.File(path, "a") as file:
        group, numbers = file["a"], np.arange(600.0)
        if name.startswith("external_link"):
            for i in range(40 * name.endswith("many")):
                group[f"more{i}"] = np.arange(2.0)
            group["x"] = h5py.ExternalLink(other.name, "x")
        elif name.startswith("soft_link"):
            group["ü" if name.endswith("ü") else "x"] = h5py.SoftLink("/a/kernel")
        elif name == "cycle":
            group["x"] = file["a"]
        elif name == "two_names":
            group["x"] = group["kernel"]
        elif name == "external_data":
            group.create_dataset("x", (600,), "f8", external=[(str(path), 0, 4800)])
        elif name == "virtual":
            layout = h5py.VirtualLayout((600,), "f8")
            layout[:] = h5py.VirtualSource(str(other), "x", (600,))
            group.create_virtual_dataset("x", layout)
        elif name == "compressed":
            group.create_dataset("x", data=numbers, compression="gzip")
        elif name == "absurd":
            group.create_dataset("x", (2**40, 2**20), "f8")
        elif name == "chunked_absurd":
            group.create_dataset("x", (2**40,), "f8", chunks=(1024,))
        elif name in ("text", "compound"):
            group["x"] = "no numbers" if name == "text" else np.zeros(2, [("a", "f4"), ("b", "i4")])
            group.attrs["weight_names"] = [b"kernel", b"x"]
        elif name == "deep":
            file.create_group("/".join("g" * 200))
        elif name == "long_name":
            file.create_group("g" * 2000)
        elif name == "missing_weight":
            group.attrs["weight_names"] = [b"kernel", b"../../a/kernel"]
        elif name == "missing_layer":
            file.attrs["layer_names"] = [b"a", b"/etc/passwd"]
        elif name == "twice":
            file.attrs["layer_names"] = [b"a", b"a"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("external_link", "'x' is a link that leads out of the file"),
        ("soft_link_ü", "'ü' is a soft link"),
        ("external_link_many", "'x' is a link that leads out of the file"),
        ("soft_link", "'x' is a soft link"),
        ("cycle", "two names in it lead to the same object"),
        ("two_names", "two names in it lead to the same object"),
        ("external_data", "its data are in another file, at 'a/x'"),
        ("virtual", "'a/x' is stored in pieces, compressed or virtual"),
        ("compressed", r"'a/x' is stored in pieces.*; rewrite it by 'h5repack -l CONTI -f NONE'\.$"),
        ("absurd", "points at what is not there"),
        ("chunked_absurd", "'a/x' is stored in pieces"),
        ("text", "'a/x' holds no numbers"),
        ("compound", "'a/x' holds no numbers"),
        ("deep", "nested deeper than 64"),
        ("long_name", "a name in it is longer than 1024"),
        ("missing_weight", r"layer 'a' names the weight '\.\./\.\./a/kernel', which is not there"),
        ("missing_layer", "names a layer '/etc/passwd', which is not there"),
        ("twice", "layer_names has a name twice"),
    ],
)
def test_hostile_hdf5(name: str, words: str, tmp_path: Path) -> None:
    hostile(tmp_path / "model.h5", "")
    assert len(load(tmp_path / "model.h5").tensors) == 1  # without that one thing it is read
    hostile(tmp_path / "model.h5", name)
    refused(tmp_path / "model.h5", words)


@pytest.mark.parametrize(
    ("old", "at", "new", "words"),
    [
        (
            struct.pack("<2Q", 7, 9),
            8,
            struct.pack("<Q", 2**40),
            r"'a/kernel' declares \d+ bytes, of which 252 are stored",
        ),
        (b"weight_names", -4, b"\4\0", "it is damaged"),  # a datatype of 4 bytes
        (b"weight_names", -8, b"\7", "a form of HDF5 that Keras does not write .attributes of version 7."),
        (b"SNOD", 0, b"XXXX", "it is damaged .a group without its symbols."),
        (b"\0kernel\0", 1, b"ker/el", "'ker/el' is a name that no object can have"),
        (b"\0kernel\0", 1, b"ker\xffel", "it is damaged"),
    ],
)
def test_forged_fields(old: bytes, at: int, new: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    assert_reads(write(path, {"a": [("kernel", (7, 9))]}), path)
    data = bytearray(path.read_bytes())
    assert data.count(old) >= 1
    where = data.index(old) + at
    data[where : where + len(new)] = new
    path.write_bytes(data)
    refused(path, words)


def test_newer_hdf5_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w", libver="latest") as file:
        file["layers/a/vars/0"] = np.arange(3.0)
    refused(tmp_path / "m.h5", "a form of HDF5 that Keras does not write")


@pytest.mark.parametrize("count", [1, 8, 9, 60, 300])
def test_names_that_are_not_ascii(count: int, tmp_path: Path) -> None:
    """HDF5 has other groups for them: links by message, which are in a heap of their own from nine on."""
    path = tmp_path / "model.h5"
    layers = {f"größe_{'漢' * (i % 23)}_{i}": [("kernel", (1 + i % 5, 3))] for i in range(count)}
    assert_reads(write(path, layers), path)
    data = bytearray(path.read_bytes())
    for mark in (b"FRHP", b"BTHD", b"FHDB", b"BTLF") if count > 8 else ():
        damaged = data.copy()
        damaged[data.index(mark)] ^= 1
        path.write_bytes(damaged)
        refused(path, "it is damaged .links without their")


@pytest.mark.parametrize("count", [5, 60])
def test_damaged_links(count: int, tmp_path: Path) -> None:
    """Whatever single byte of a group's links is another one: an error or the numbers, and soon."""
    path = tmp_path / "model.h5"
    write(path, {f"größe_{i}": [("kernel", (2, 3))] for i in range(count)})
    data, random = path.read_bytes(), np.random.default_rng(count)
    marks = [b"FRHP", b"BTHD", b"BTLF", b"FHDB"] if count > 8 else ["größe_0".encode()]
    for _ in range(150):
        damaged = bytearray(data)
        at = data.index(marks[random.integers(len(marks))]) + int(random.integers(-24, 200))
        damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(FileError):
            load(path)


def test_hdf5_of_others_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["x"] = np.arange(3.0)
    refused(tmp_path / "m.h5", "not of Keras")


def test_thousands_of_attributes_cost_little(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    written = write(path, {"a": [("kernel", (2, 3))]})
    with h5py.File(path, "a") as file:
        for number in range(5000):
            file["a"].attrs[f"name{number}"] = "x" * 50
    start = time.monotonic()
    assert_reads(written, path)
    assert time.monotonic() - start < 10


def test_what_describes_the_contents_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.h5"
    assert_reads(write(path, {"a": [("kernel", (2, 3))]}), path)
    monkeypatch.setattr("xframe.files._hdf5.MAX_TEXT", 1000)
    refused(path, "what describes its contents takes more than 1000 bytes")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[" * 100_000, "no sound JSON object .it is nested too deep"),
        ('{"a":' * 300 + "1" + "}" * 300, "no JSON object that can be printed, or is nested too deep"),
        ("[]", "no sound JSON object .it is no object"),
        ("{", "no sound JSON object"),
        ('{"a": "\\ud800"}', "no JSON object that can be printed"),
        ('{"a": ' + "9" * 5000 + "}", "no sound JSON object"),
        ('{"a": 1, "b": 2, "a": 1}', "it has the name 'a' twice"),
        (json.dumps({"config": {"layers": [{"class_name": "D" * 3000}]}}), "too long a name"),
        (json.dumps({"config": {"layers": [{}] * 100_001}}), "too many layers"),
    ],
)
def test_hostile_configurations(config: str, words: str, tmp_path: Path) -> None:
    write(tmp_path / "model.h5", {"a": [("kernel", (2, 3))]}, model_config=config)
    refused(tmp_path / "model.h5", words)
    zipped(tmp_path / "model.keras", config=config)
    refused(tmp_path / "model.keras", words)


@pytest.mark.parametrize(
    "config", ['{"config": 3}', '{"config": {"layers": [1, null, {"config": [[]], "class_name": 4}]}}']
)
def test_senseless_configurations_do_no_harm(config: str, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    assert_reads(write(path, {"a": [("kernel", (2, 3))]}, model_config=config), path)


# ---- .keras


def zipped(
    path: Path, config: str = "{}", compress: int = zipfile.ZIP_STORED, place: str = "layers/dense", **more: str
) -> Written:
    """A .keras with one layer, and with further entries."""
    inner = path.with_name("inner.h5")
    array = np.random.default_rng(8).normal(size=(3, 5)).astype(np.float32)
    with h5py.File(inner, "w") as file:
        file[f"{place}/vars/0"] = array
    entry = zipfile.ZipInfo("model.weights.h5")
    entry.compress_type, entry.extra = compress, b"\xfe\xca\x04\x00more"  # an extra field, which Keras does not write
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.0.1", "date_saved": "2024-01-02@03:04:05"}')
        archive.writestr("config.json", config)
        for name, text in more.items():
            archive.writestr(name, text)
        archive.writestr(entry, inner.read_bytes())
    return {f"{place}/vars/0": array}


@pytest.mark.parametrize("compress", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_stored_or_deflated(compress: int, tmp_path: Path) -> None:
    written = zipped(tmp_path / "m.keras", compress=compress, **{"../../evil.txt": "x", "/etc/evil": "x"})
    before = sorted(tmp_path.iterdir())
    assert_reads(written, tmp_path / "m.keras")
    assert load(tmp_path / "m.keras").metadata == {"keras_version": "3.0.1", "date_saved": "2024-01-02@03:04:05"}
    assert sorted(tmp_path.iterdir()) == before  # nothing was unpacked
    # Something before the zip moves everything in it, for some readers.
    moved = tmp_path / "moved.keras"
    moved.write_bytes(b"PK  " + b"\0" * 7 + (tmp_path / "m.keras").read_bytes())
    refused(moved, "programs may read this zip file differently: its list of entries is not where it says")


def test_zip_bombs(tmp_path: Path) -> None:
    zipped(tmp_path / "m.keras", config="{" + " " * (64 * 2**20) + "}", compress=zipfile.ZIP_DEFLATED)
    assert (tmp_path / "m.keras").stat().st_size < 2**20
    refused(tmp_path / "m.keras", r"config\.json in it is longer than 67108864 bytes")
    with zipfile.ZipFile(tmp_path / "n.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(2**22))
    with budget.allowed(memory=3):
        refused(
            tmp_path / "n.keras",
            r"n\.keras: what it unpacks to asks for 4 MiB .* 3 are allowed; --max-memory 4 allows it",
        )
    zipped(tmp_path / "o.keras", compress=zipfile.ZIP_LZMA)
    refused(tmp_path / "o.keras", "compressed in a way that Keras does not use")


def test_large_files_are_not_read(tmp_path: Path) -> None:
    """Ten gigabytes, of which the disk holds nothing: listed at once, and one small tensor read, in little memory."""
    path = tmp_path / "large.weights.h5"
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space, group = h5py.h5s.create_simple((10 * 2**30 // 4,)), file.create_group("layers/dense/vars")
        h5py.h5d.create(group.id, b"0", h5py.h5t.IEEE_F32LE, space, plist)
        group["1"] = np.arange(5.0)
    tracemalloc.start()
    start = time.monotonic()
    loaded = load(path)
    assert loaded.tensors["layers/dense/vars/0"].count == 10 * 2**30 // 4
    assert np.array_equal(loaded.tensors["layers/dense/vars/1"].read(), np.arange(5.0))
    assert time.monotonic() - start < 10
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_no_library_is_needed(tmp_path: Path) -> None:
    zipped(tmp_path / "m.keras")
    code = (
        "import sys; from xframe.files import load\n"
        f"assert all(t.read().size for t in load({str(tmp_path / 'm.keras')!r}).tensors.values())\n"
        "assert not {'h5py', 'keras', 'tf_keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_file_that_changes_or_goes(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    write(path, {"a": [("kernel", (200, 30))]})
    tensor = load(path).tensors["a/kernel"]
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(FileError, match="it is cut short within 'a/kernel'"):
        tensor.read()
    path.unlink()
    with pytest.raises(FileError, match="'a/kernel' could not be read"):
        tensor.read()


def test_shards_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.weights.json").write_text('{"metadata": {}, "weight_map": {}}')
    refused(tmp_path / "m.weights.json", r"sharded over several files; save them with Keras into one \.weights\.h5")
    write(tmp_path / "m_00000.weights.h5", {"a": [("kernel", (2, 3))]})
    refused(tmp_path / "m_00000.weights.h5", "sharded over several files")
    (tmp_path / "m.weights.json").unlink()
    assert load(tmp_path / "m_00000.weights.h5").tensors


def damaged(data: bytes, seed: int) -> bytes:
    """Cut short, a few bits flipped, a range zeroed, or a few bytes set to large numbers."""
    rng, changed = random.Random(seed), bytearray(data)
    if seed % 4 == 0:
        return data[: rng.randrange(len(data))]
    for _ in range(rng.choice((1, 2, 8))):
        at = rng.randrange(len(data) - 8)
        if seed % 4 == 1:
            changed[at] ^= 1 << rng.randrange(8)
        elif seed % 4 == 2:
            changed[at : at + 8] = bytes(8)
        else:
            changed[at : at + 8] = rng.choice((b"\xff" * 8, rng.randbytes(8), b"\0\0\0\x80" * 2))
    return bytes(changed)


def small_hdf5(path: Path) -> None:
    write(
        path,
        {"lstm_1": [("lstm_1/kernel:0", (2, 12)), ("lstm_1/bias:0", (12,))]},
        keras_version="2.2.4",
        model_config="{}",
    )


def small_weights(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["layers/lstm/cell/vars/0"] = np.arange(24.0).reshape(2, 12)
        file["layers/lstm/cell/vars"].attrs["name"] = "lstm_cell"


@pytest.mark.parametrize("make", [small_hdf5, small_weights, zipped])
def test_damaged_files(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """Nothing but FileError, and no long wait. HDF5's own library hangs on one in 250 of these, and crashes on some."""
    make(tmp_path / "sound")
    data, path, kinds = (tmp_path / "sound").read_bytes(), tmp_path / "damaged", set()
    for seed in range(400):
        path.write_bytes(damaged(data, seed))
        start = time.monotonic()
        try:
            read_all(path)
            kinds.add("read")
        except FileError:
            kinds.add("refused")
        assert time.monotonic() - start < 2, seed
    assert kinds == {"read", "refused"}  # numbers may change unnoticed: HDF5 has no checksum over them


# ---- Files that others made.


def test_a_note_beside_the_weights_is_left(keras2: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    keras2.save(path)
    before = load(path)
    with h5py.File(path, "r+") as file:
        file["labels"] = "a note"
        file["steps"] = np.arange(3)
    after = load(path)
    assert set(after.tensors) - set(before.tensors) == {"steps"}
    assert after.metadata == {**before.metadata, "no_numbers": "labels"}
    assert after.layers == before.layers


@pytest.mark.parametrize("whole", [True, False])
def test_kernels_that_theano_turns_round(whole: bool, tmp_path: Path) -> None:
    """As Keras 2 turns them back: over all axes but those of the features, and those of convolutions alone."""
    kernel, weight = (
        np.random.default_rng(i).normal(size=s).astype("float32") for i, s in enumerate(((3, 4, 2, 5), (4, 2)))
    )
    config = {
        "class_name": "Sequential",
        "config": [
            {"class_name": "Conv2D", "config": {"name": "c"}},
            {"class_name": "Dense", "config": {"name": "d"}},
        ],
    }
    for backend in ("theano", "tensorflow"):
        path = tmp_path / f"{backend}.h5"
        with h5py.File(path, "w") as file:
            root = file.create_group("model_weights") if whole else file
            root.attrs.update({"backend": backend, "keras_version": "2.2.4", "layer_names": [b"c", b"d"]})
            if whole:
                file.attrs["model_config"] = json.dumps(config)
            for name, array in (("c", kernel), ("d", weight)):
                group = root.create_group(name)
                group.attrs["weight_names"] = [f"{name}/kernel:0".encode()]
                group[f"{name}/kernel:0"] = array
        tensors = {name[-10:-9]: tensor.read() for name, tensor in load(path).tensors.items()}
        np.testing.assert_array_equal(tensors["c"], kernel[::-1, ::-1] if backend == "theano" else kernel)
        np.testing.assert_array_equal(tensors["d"], weight)


def test_names_with_backslashes(keras3: Any, tmp_path: Path) -> None:
    """Keras 3 joins the names of groups as the system does, on Windows by backslashes."""
    keras3.save_weights(tmp_path / "a.weights.h5")

    def copy(place: h5py.Group, group: h5py.Group, name: str) -> None:
        for key, child in group.items():
            if isinstance(child, h5py.Dataset):
                place.require_group(name)[key] = child[()]
            else:
                own = key == "vars"
                copy(
                    place.require_group(name) if own and name else place,
                    child,
                    key if own else f"{name}\\{key}".lstrip("\\"),
                )

    with h5py.File(tmp_path / "a.weights.h5") as source, h5py.File(tmp_path / "b.weights.h5", "w") as target:
        copy(target, source, "")
        assert any("\\" in name for name in target)
    one, other = (load(tmp_path / f"{name}.weights.h5") for name in "ab")
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor.read(), other.tensors[name].read())
    with h5py.File(tmp_path / "b.weights.h5", "r+") as file:
        name = next(name for name in file if "\\" in name)
        file.copy(file[name], name.replace("\\", "/"))
    refused(tmp_path / "b.weights.h5", "with slashes and with backslashes")
