"""What xframe writes it reads back as the same thing, with all options, and converts on; what others say of it is checked."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from helpers import away_from_zero

from xframe import verify
from xframe.conversion import convert_file
from xframe.errors import XframeError
from xframe.files import load
from xframe.graph import graph_of
from xframe.recognition import recognise

pytestmark = pytest.mark.needs("keras", "torch")

k3 = keras.layers
FILES = {"torch": "weights.safetensors", "npz": "weights.npz", "keras": "model.keras"}


def both(merge: str) -> Any:
    return k3.Bidirectional(k3.LSTM(4, activation="relu"), merge_mode=merge)


def unequal() -> Any:
    backward = k3.LSTM(5, use_bias=False, go_backwards=True, recurrent_activation="hard_sigmoid")
    return k3.Bidirectional(k3.LSTM(4), backward_layer=backward)


def stacked() -> Any:
    return k3.RNN([k3.GRUCell(4, reset_after=False), k3.LSTMCell(5, activation="softsign"), k3.SimpleRNNCell(3, "elu")])


# The shape of a sample, and the layers.
MODELS: dict[str, tuple[tuple[int | None, ...], Callable[[], list[Any]]]] = {
    "relu": ((6, 3), lambda: [k3.LSTM(4, activation="relu")]),
    "rnn": ((None, 3), lambda: [k3.SimpleRNN(5, "relu", return_sequences=True), k3.SimpleRNN(4, use_bias=False)]),
    "backwards": ((None, 3), lambda: [k3.GRU(4, go_backwards=True, return_sequences=True), k3.LSTM(2, go_backwards=True)]),
    "reset before": ((None, 3), lambda: [k3.GRU(4, reset_after=False, recurrent_activation="hard_sigmoid")]),
    "sum": ((None, 3), lambda: [both("sum")]),
    "mul": ((None, 3), lambda: [both("mul")]),
    "ave": ((None, 3), lambda: [both("ave")]),
    "concat": ((None, 3), lambda: [both("concat"), k3.Dense(2, "softmax")]),
    "unequal directions": ((None, 3), lambda: [unequal()]),
    "stacked cells": ((None, 3), lambda: [stacked()]),
    "both stacked": ((None, 3), lambda: [k3.Bidirectional(stacked(), merge_mode="sum")]),
    "words": ((None,), lambda: [k3.Embedding(11, 5, mask_zero=True), k3.LSTM(4, return_sequences=True), k3.GRU(3)]),
    "masks": (
        (None, 3),
        lambda: [k3.Masking(0.5), k3.GRU(4, return_sequences=True), k3.Dropout(0.3), k3.GlobalAveragePooling1D()],
    ),
    "zeros at masks": (
        (None, 3),
        lambda: [k3.Masking(), k3.LSTM(4, return_sequences=True, zero_output_for_mask=True), k3.GlobalMaxPooling1D()],
    ),
    "norms": (
        (None, 4),
        lambda: [k3.LayerNormalization(epsilon=0.01), k3.LSTM(5), k3.BatchNormalization(), k3.Dense(2, use_bias=False)],
    ),
    "convolution": ((None, 3), lambda: [k3.Conv1D(4, 3, strides=2, padding="same", dilation_rate=1), k3.LSTM(4)]),
    "causal": ((None, 4), lambda: [k3.Conv1D(6, 3, padding="causal", dilation_rate=2, groups=2), k3.GRU(4)]),
    "functions": (
        (None, 3),
        lambda: [
            k3.GRU(4, return_sequences=True),
            k3.LeakyReLU(negative_slope=0.2),
            k3.ELU(alpha=0.7),
            k3.ReLU(max_value=0.8, negative_slope=0.1, threshold=0.05),
            k3.Activation("gelu"),
        ],
    ),
    "shapes": ((4, 6), lambda: [k3.Permute((2, 1)), k3.Reshape((-1, 8)), k3.LSTM(5), k3.RepeatVector(3), k3.Flatten()]),
}  # fmt: skip


def saved(name: str, folder: Path) -> Path:
    keras.backend.clear_session()
    shape, build = MODELS[name]
    model = keras.Sequential([keras.Input(shape), *build()])
    random = np.random.default_rng(len(name))
    arrays = [away_from_zero(random, tuple(w.shape), 1.2 / np.sqrt(max(w.shape[0], 2))) for w in model.weights]
    model.set_weights(
        [np.abs(a) + 0.3 if "variance" in w.name else a for w, a in zip(model.weights, arrays, strict=True)]
    )
    path = folder / "source.keras"
    model.save(path)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_the_same_read_back(name: str, tmp_path: Path) -> None:
    """Against its source, and converted on from one file to the next, up to where it began."""
    source = saved(name, tmp_path)
    graph = graph_of(recognise(load(source)))
    at = source
    for i, to in enumerate(("torch", "npz", "torch")):
        done = convert_file(at, tmp_path / str(i), to)
        assert (done.status, done.scope) == ("equivalent", "model"), done.reason
        at = tmp_path / str(i) / FILES[to]
        again = graph_of(recognise(load(at)))
        assert [(n.kind, dict(n.options), n.spec) for n in again.nodes] == [
            (n.kind, dict(n.options), n.spec) for n in graph.nodes
        ]
        assert again.inputs == graph.inputs
        found = verify(source, at)
        assert found.status == "equivalent", found.reason
        assert found.whole is not None
        assert found.whole.off is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_what_is_converted_to_keras_and_on_is_the_same(name: str, tmp_path: Path) -> None:
    source = at = saved(name, tmp_path)
    for i, to in enumerate(("npz", "keras", "torch")):
        done = convert_file(at, tmp_path / str(i), to)
        assert (done.status, done.scope) == ("equivalent", "model"), done.reason
        at = tmp_path / str(i) / FILES[to]
        found = verify(source, at)
        assert found.status == "equivalent", f"{to}: {found.reason}"


# ---- What somebody else wrote there.


def said(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return dict(json.loads(header["__metadata__"]["xframe"]))


def saying(path: Path, text: str, to: Path) -> Path:
    """The same tensors with another text."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["xframe"] = text
    new = json.dumps(header).encode()
    to.write_bytes(len(new).to_bytes(8, "little") + new + data[8 + length :])
    return to


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that xframe wrote: of a GRU, a normalisation and a dense layer."""
    folder = tmp_path_factory.mktemp("written")
    layers = [keras.Input((None, 3)), k3.GRU(4, activation="relu"), k3.LayerNormalization(), k3.Dense(2, "elu")]
    names = ("gru", "norm", "head")
    for layer, name in zip(layers[1:], names, strict=True):
        layer.name = name
    model = keras.Sequential(layers)
    random = np.random.default_rng(3)
    model.set_weights([away_from_zero(random, tuple(w.shape), 0.7) for w in model.weights])
    model.save(folder / "source.keras")
    assert convert_file(folder / "source.keras", folder / "made", "torch")
    return folder / "made/weights.safetensors"


def put(place: tuple[Any, ...], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        at: Any = config
        for name in place[:-1]:
            at = at[name]
        at[place[-1]] = value

    return change


def swap_norm(config: dict[str, Any]) -> None:
    config["steps"][1]["tensors"]["beta"] = config["steps"][0]["tensors"]["bias_ih_l0"]


def rename_kernel(config: dict[str, Any]) -> None:
    tensors = config["steps"][0]["tensors"]
    tensors["kernel"] = tensors.pop("weight_ih_l0")


WRONG: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (
        put(("steps", 0, "spec", "hidden_size"), 5),
        "weight_ih_l0 is (15, 3), and 'gru.layers.0.0.0.weight_ih' is (12, 3)",
    ),
    (put(("steps", 0, "spec", "cell"), "lstm"), "reset_after is not an option of the lstm"),
    (put(("steps", 0, "spec", "activation"), "os.system"), "describes 'gru' as a layer that cannot be"),
    (put(("steps", 0, "spec", "activation"), ["relu"]), "describes 'gru' as a layer that cannot be"),
    (put(("steps", 0, "spec", "colour"), "red"), "describes 'gru' as a layer that cannot be"),
    (put(("steps", 0, "spec", "stacked"), [{"cell": "dense", "input_size": 4, "units": 3}]), "cannot be"),
    (put(("steps", 0, "spec"), None), "describes 'gru' as a layer that cannot be"),
    (put(("steps", 0, "packing"), "pickle"), "packs 'gru' in a way that is not known ('pickle')"),
    (put(("steps", 0, "tensors", "weight_ih_l0"), "nowhere"), "the tensor 'nowhere', which is not there"),
    (rename_kernel, "gives 'gru' the tensors weight_hh_l0, bias_ih_l0, bias_hh_l0, kernel, and"),
    (put(("steps", 0, "code"), "import os"), "has a step with fields that are not known"),
    (put(("steps",), []), "lists no steps"),
    (put(("steps", 0), "gru"), "has a step with fields that are not known"),
    (put(("steps", 1, "tensors"), {"gamma": "norm.weight"}), "says nothing of the tensor 'norm.bias'"),
    (put(("steps", 1, "kind"), "lambda"), "is of the kind 'lambda', which is not known"),
    (
        put(("steps", 1, "options", "epsilon"), "__import__('os')"),
        "has epsilon=\"__import__('os')\", which makes no sense",
    ),
    (put(("steps", 1, "options", "epsilon"), float("inf")), "has epsilon=inf, which makes no sense"),
    (put(("steps", 1, "options"), {}), "has the options none, as no layer_norm has"),
    (put(("steps", 3, "options", "name"), "exec"), "has name='exec', which makes no sense"),
    (put(("steps", 3, "options", "negative_slope"), 0.1), "has parameters that elu does not have"),
    (put(("input_shape",), [None, 7]), "cannot read samples of the shape (None, 7)"),
    (put(("input_shape",), "long"), "its input has the shape 'long', which is none"),
    (swap_norm, "says nothing of the tensor 'norm.bias'"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_what_contradicts_the_tensors_or_makes_no_sense_is_refused(
    change: Callable[[dict[str, Any]], None], words: str, written: Path, tmp_path: Path
) -> None:
    config = said(written)
    change(config)
    path = saying(written, json.dumps(config), tmp_path / "other.safetensors")
    with pytest.raises(XframeError) as refused:
        graph_of(recognise(load(path)))
    assert words in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '"xframe"', '{"format": "xframe/model/2"}', "[" * 90_000, '{"a": "\\ud800"}']
)
def test_what_is_not_of_this_format_is_read_by_its_tensors(text: str, written: Path, tmp_path: Path) -> None:
    file = load(saying(written, text, tmp_path / "other.safetensors"))
    assert file.config is None
    assert recognise(file).layers


def test_what_it_says_is_not_among_the_words_that_reports_print(written: Path) -> None:
    assert load(written).metadata == {}


def test_tensors_that_are_saved_again_say_nothing(written: Path, tmp_path: Path) -> None:
    """As before: by their names, and what they do not say is open."""
    from safetensors.torch import load_file, save_file

    save_file(load_file(written), tmp_path / "again.safetensors")
    assert load(tmp_path / "again.safetensors").config is None
    torch.save(load_file(written), tmp_path / "again.pt")
    assert load(tmp_path / "again.pt").config is None


def test_a_long_text_is_left_out_of_a_zip(tmp_path: Path) -> None:
    """Which holds a comment of 65,535 bytes at most; the numbers are all there."""
    layers = [k3.Dense(2, name=f"{'long' * 50}{i}") for i in range(160)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.set_weights([np.eye(2) * 1.1 if w.ndim == 2 else np.full(2, 0.1) for w in model.get_weights()])
    model.save(tmp_path / "source.keras")
    assert convert_file(tmp_path / "source.keras", tmp_path / "made", "npz")
    with zipfile.ZipFile(tmp_path / "made/weights.npz") as archive:
        assert archive.comment == b""
    assert len(load(tmp_path / "made/weights.npz").tensors) == 320
