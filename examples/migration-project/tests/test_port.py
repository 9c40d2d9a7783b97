"""The port computes what the Keras model does. `assert_equivalent` comes with xframe; a failure names the cause."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import torch
from gestures.port import READINGS, Port
from gestures.transfer import transfer

import xframe

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model():
    return keras.models.load_model(ROOT / "model.keras")


@pytest.fixture(scope="module")
def port(model):
    made = Port()
    transfer(model, made)
    return made


# At a masked step Keras's one-way layer repeats its output, and a packed sequence has zeros. Of `summary` only the last
# output is used, so it is compared without a mask; what padding does there, the predictions show.
@pytest.mark.parametrize(("name", "mask"), [("both_ways", "right"), ("summary", None), ("classes", None)])
def test_a_layer(name, mask, model, port, assert_equivalent):
    assert_equivalent(model.get_layer(name), getattr(port, name), mask=mask)


def test_forward_joins_the_layers_as_keras_does(model, port):
    """Float32 predictions on random sequences of many lengths; that the layers are the same is shown above."""
    random = np.random.default_rng(3)
    lengths = random.integers(1, 12, 32)
    x = random.normal(size=(32, 11, READINGS)).astype("float32")
    x[np.arange(11) >= lengths[:, None]] = 0
    with torch.inference_mode():
        got = port(torch.from_numpy(x), torch.from_numpy(lengths)).numpy()
    np.testing.assert_allclose(got, model.predict(x, verbose=0), rtol=0, atol=1e-5)


def test_the_shipped_weights_are_those_of_the_model(assert_equivalent):
    assert_equivalent(ROOT / "model.keras", ROOT / "port.pth")


def test_the_baseline_is_of_this_model(model):
    found = xframe.check(ROOT / "golden.npz", layer=model.get_layer("both_ways"))
    assert found, found.report()
