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
from xframe.chain import chain_of
from xframe.conversion import convert_file
from xframe.errors import XframeError
from xframe.files import load
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
    return k3.RNN(
        [k3.GRUCell(4, reset_after=False), k3.LSTMCell(5, activation="softsign"), k3.SimpleRNNCell(3, "relu")]
    )


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
    chain = chain_of(recognise(load(source)))
    at = source
    for i, to in enumerate(("torch", "npz", "torch")):
        done = convert_file(at, tmp_path / str(i), to)
        assert (done.status, done.scope) == ("equivalent", "model"), done.reason
        at = tmp_path / str(i) / FILES[to]
        again = chain_of(recognise(load(at)))
        assert [(s.kind, dict(s.options), s.spec) for s in again.steps] == [
            (s.kind, dict(s.options), s.spec) for s in chain.steps
        ]
        assert again.input_shape == chain.input_shape
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
