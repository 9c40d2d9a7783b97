"""What people ask in public, end to end: the recipe as they wrote it is run, xframe names the cause, and the mended one passes.

T1 to T12 are about weights that were moved, O1 to O10 about outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import recipes
import torch
from recipes import Asked, Filed, Recorded

import xframe
from xframe.adapters import known_packings
from xframe.errors import LayoutError
from xframe.packing import unpack

pytestmark = [
    pytest.mark.needs("keras", "torch"),
    pytest.mark.filterwarnings(
        "ignore:.tf.nn.rnn_cell.*is deprecated",
        "ignore:You are saving your model as an HDF5",
        "ignore:__array__ implem",
    ),
]


class Answer(NamedTuple):
    """What xframe must say: the catalogue's entries, each with what its name says of this case, and what to do."""

    faults: dict[str, str]
    mend: str


RESET = Answer({"reset gate": "before the product"}, "reset_after=True in Keras, linear_before_reset=1 in ONNX")
ANSWERS = {
    "t1": Answer({"bias dropped": "recurrent bias dropped"}, "it is the sum of both"),
    "t2": Answer({"bias counted twice": "on both sides"}, "to one side, and zeros to the other"),
    "t2_tanh": Answer({"further activation": "a further tanh"}, "Take the tanh after the layer away"),
    "t3": Answer(
        {"gate order": "gates r and z swapped"}, "Exchange the blocks of gates r and z in the kernel, the recurrent"
    ),
    "t4": Answer(
        {"gate order of some tensors": "in the biases only"}, "Exchange the blocks of gates r and z in the biases."
    ),
    "t4_summed": Answer({"bias on the wrong side": "candidate's biases added"}, "keep bias_ih and bias_hh apart"),
    "t5": Answer({"forget bias": "forget bias of 1 missing"}, "Add 1 to the forget gate's block of the bias"),
    "t5_kept": Answer({"forget bias": "forget bias of 1 missing"}, "Add 1 to the forget gate's block of the bias"),
    "t5_order": Answer(
        {"forget bias": "forget bias of 1 missing", "gate order": "TensorFlow 1's i j f o"},
        "Exchange the blocks of gates f and g",
    ),
    "t6": Answer({"gate order": "read as ONNX's i o f c"}, "move the blocks that stand at gates o, g, f to f, o, g"),
    "t7": Answer({"bias counted twice": "on both sides"}, "to one side, and zeros to the other"),
    "t8": Answer({"bias dropped": "recurrent bias dropped"}, "it is the sum of both"),
    "t8_kernels": Answer({"kernel reshaped": "instead of transposed, gate by gate"}, "Transpose each gate's block"),
    "t9": RESET,
    "t10": Answer({"layers left out": "layers above the first left out"}, "with all of its layers"),
    "t11": Answer(
        {"kernels exchanged": "kernel and recurrent kernel exchanged"}, "the kernel, which multiplies the input"
    ),
    "t12": Answer({"bias dropped": "input bias dropped"}, "it is the sum of both"),
    "o1": RESET,
    "o2": RESET,
    "o3": Answer({"gate activation": "sigmoid instead of hard_sigmoid"}, "recurrent_activation='hard_sigmoid'"),
    "o4": Answer(
        {"gate activation": "hard_sigmoid instead of hard_sigmoid_keras2"}, "recurrent_activation='hard_sigmoid_keras2'"
    ),
    "o5": Answer({"activation": "tanh instead of relu"}, "activation='relu', not 'tanh'"),
    "o6": Answer({"order of the output": "output flipped back"}, "Do not turn the output round"),
    "o7": Answer({"last step": "x[:, -1, :]"}, "Take the backward half at time step 0"),
    "o8": Answer({"padding read": "mask ignored"}, "Pack the sequences"),
    "o9": Answer(
        {"recurrent term left out": "recurrent term left out"}, "the previous state times the recurrent kernel"
    ),
    "o10": Answer({"batch and time": "batch_first"}, "batch_first=True"),
    "o10_reshaped": Answer({"batch and time": "x reshaped to (time, batch, features)"}, "transpose(1, 0, 2)"),
}


@pytest.fixture(scope="module")
def asked() -> Callable[[str], Asked]:
    """The recipes, each run once."""
    return cache(lambda name: getattr(recipes, name)())


def numbers(pair: tuple[Any, Any]) -> list[np.ndarray]:
    """What the two sides put out on one input, found without xframe."""
    kept = next((one for side in pair if (one := outputs_of(side))), None)
    x, lengths = (kept.x, kept.lengths) if kept else (recipes.given(features(pair[0])), None)
    return [one.y if (one := outputs_of(side)) else recipes.ran(side, x, lengths) for side in pair]


def outputs_of(side: Any) -> Recorded | None:
    """What was recorded of a side."""
    return side.kept if isinstance(side, Filed) else side if isinstance(side, Recorded) else None


def features(layer: Any) -> int:
    return int(layer.get_weights()[0].shape[0] if isinstance(layer, keras.layers.Layer) else layer.input_size)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_recipes_are_wrong_and_right(name: str, asked: Callable[[str], Asked]) -> None:
    one, other = numbers(asked(name).wrong)
    assert one.shape == other.shape
    assert np.abs(one - other).max() > 0.05
    one, other = numbers(asked(name).right)
    assert np.allclose(one, other, rtol=0, atol=1e-5 if one.dtype == np.float32 else 1e-12)


def handed(side: Any, folder: Path) -> Any:
    """A side as xframe takes it: a layer, a file, or recorded arrays."""
    if isinstance(side, Filed):
        side.write(folder / side.name)
        return folder / side.name
    if isinstance(side, Recorded):
        mask = {} if side.lengths is None else {"mask": recipes.valid(side.x, side.lengths)}
        return {"x": side.x, "y": side.y, **mask}
    return side


@pytest.mark.parametrize("name", ANSWERS)
def test_the_cause_is_named(name: str, asked: Callable[[str], Asked], tmp_path: Path) -> None:
    found = xframe.diagnose(*(handed(side, tmp_path) for side in asked(name).wrong))
    assert found.status == "explained", found.reason
    first, answer = found.causes[0], ANSWERS[name]
    assert {fault.entry for fault in first.faults} == set(answer.faults), found.reason
    for fault in first.faults:
        assert answer.faults[fault.entry] in fault.name
        assert fault.mend in found.reason
    assert answer.mend in found.reason
    assert not first.reverse


@pytest.mark.parametrize("name", ANSWERS)
def test_the_mended_version_passes(name: str, asked: Callable[[str], Asked], tmp_path: Path) -> None:
    sides = [handed(side, tmp_path) for side in asked(name).right]
    found = xframe.diagnose(*sides)
    assert found.status == "equivalent", found.reason
    if not any(map(outputs_of, asked(name).right)):
        assert xframe.compare(*sides).status == "equivalent"
    if isinstance(sides[0], Path):
        assert xframe.verify(*sides).status == "equivalent"


def test_t2_any_split_of_the_bias_is_right() -> None:
    for pair in recipes.t2_splits():
        one, other = numbers(pair)
        assert np.allclose(one, other, rtol=0, atol=1e-12)
        assert xframe.diagnose(*pair).status == "equivalent"
        assert xframe.compare(*pair).status == "equivalent"


# ---- Files.


def saved(layer: Any, path: Path) -> Path:
    """A Keras layer as the only one of a model in a file."""
    keras.Sequential([keras.Input((None, features(layer))), layer]).save(path)
    return path


def test_t1_counts() -> None:
    """Three tensors a direction in Keras, four in PyTorch, for one and the same function."""
    counts = xframe.count(xframe.Recurrent("lstm", 512, 64, bidirectional=True))
    assert [len(counts[name].tensors) for name in ("keras", "torch")] == [2 * 3, 2 * 4]
    assert counts["keras"].effective == counts["torch"].effective
    assert counts["torch"].redundant == 2 * 4 * 64


def test_t7_the_bias_of_an_onnx_model_is_right(tmp_path: Path) -> None:
    """4000 numbers where the Keras file has 2000, and 2000 of them zeros."""
    source, right, wrong = recipes.t7_models()
    file = saved(source, tmp_path / "model.h5")
    for model, status in ((right, "equivalent"), (wrong, "different")):
        path = tmp_path / "model.onnx"
        path.write_bytes(model)
        found = xframe.verify(file, path)
        assert found.status == status
    assert "bias" in found.reason
    counts = xframe.count(xframe.Recurrent("lstm", 12, 500))
    assert [counts["keras"].tensors[-1].count, counts["onnx"].tensors[-1].count] == [2000, 4000]


def test_t9_a_file_says_which_gru_it_has(tmp_path: Path) -> None:
    t9 = recipes.t9()
    file = saved(t9.wrong[0], tmp_path / "model.h5")
    found = xframe.verify(file, t9.wrong[1])
    assert found.status == "different"
    assert "reset_after=True and the other reset_after=False" in found.reason
    assert xframe.verify(file, t9.right[1])


def test_t10_a_layer_that_a_loader_left_out(tmp_path: Path) -> None:
    """Tensors that nobody took are an error, whether one has a file, the layers or arrays."""
    source, target = recipes.t10_layers()
    path = tmp_path / "model.pt"
    torch.save(source.state_dict(), path)
    for whole in (path, source):
        found = xframe.verify(whole, target)
        assert found.status == "different"
        assert "layer 1" in found.reason
        assert len(found.only_a) == 1
        assert xframe.verify(whole, source)
        assert xframe.diagnose(whole, target).status == "unexplained"
        assert xframe.diagnose(whole, source).status == "equivalent"
    one_layer = xframe.Recurrent("lstm", target.input_size, target.hidden_size)
    with pytest.raises(LayoutError, match="weight_ih_l1"):
        unpack(known_packings()["torch"], one_layer, recipes.arrays(source))
