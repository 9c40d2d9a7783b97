"""From files to layers: every packing by its names and without them, what Keras and ONNX say themselves, and real models.

The files are made by hand here, as the readers give them; what is in them was packed from known weights, which must come back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_real_models import find_models

from xframe.adapters import get_adapter, known_packings
from xframe.errors import SpecError, UnsupportedError
from xframe.files import load
from xframe.files.base import ModelFile, StoredLayer, StoredTensor
from xframe.layout import Key
from xframe.packing import Parameters, pack
from xframe.recognition import Choices, Findings, FoundLayer, Reading, recognise
from xframe.recognition.tables import KERAS1, KERAS1_GPU, THEANO, by_gate, onnx_arrays
from xframe.spec import Dense, Layer, Recurrent

PACKINGS = known_packings()
TABLES = {**PACKINGS, KERAS1.name: KERAS1, KERAS1_GPU.name: KERAS1_GPU}
ROWS = [(p.name, row) for p in TABLES.values() for row in p.rows]
Arrays = dict[str, np.ndarray]
# What only the user can know: PyTorch's own GRU resets after, xframe's module of its names does what it is told; and
# TensorFlow 1 adds to the biases that were packed.
CHOICES: dict[tuple[str, str], dict[str, Any]] = {
    ("torch", "gru/reset_before"): {"reset_after": False},
    ("tf1", "lstm"): {"forget_bias": 0.0},
}
# The rows that have no place for the recurrent bias of a reset-after GRU's candidate, by FACTS.md.
NO_CANDIDATE_BIAS = {("flax", "gru")}


def file_of(
    arrays: Mapping[str, np.ndarray],
    format_: str = "npz",
    layers: tuple[StoredLayer, ...] = (),
    config: Mapping[str, Any] | None = None,
    **metadata: str,
) -> ModelFile:
    tensors = {k: StoredTensor(k, a.shape, str(a.dtype), lambda a=a: a) for k, a in arrays.items()}
    return ModelFile(Path("model"), format_, tensors, layers, metadata, config)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return helpers.away_from_zero(np.random.default_rng([seed, *shape]), shape, 1.0)


def arrays_of(shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    return {name: random(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def accounted(found: Findings) -> None:
    """Every tensor of the file is in one place, and in one only."""
    places = [t for layer in found.layers for t in layer.tensors]
    places += [t for other in found.others for t in other.tensors.values()] + [*found.unconsumed, *found.settings]
    assert sorted(places) == sorted(found.file.tensors)
    for layer in found.layers:
        assert bool(layer.refused) != bool(layer.readings), layer
        for reading in layer.readings:
            assert set(reading.tensors.values()) <= set(layer.tensors)
            natives = {n.name: n.shape for n in reading.packing.natives(reading.spec)}
            assert natives == {k: found.file.tensors[t].shape for k, t in reading.tensors.items()}
            assert reading.evidence


def look(file: ModelFile, **choices: Any) -> Findings:
    found = recognise(file, Choices(**choices))
    accounted(found)
    return found


def only(file: ModelFile, **choices: Any) -> FoundLayer:
    found = look(file, **choices)
    assert len(found.layers) == 1, [layer.name for layer in found.layers]
    return found.layers[0]


def one(file: ModelFile, **choices: Any) -> Reading:
    layer = only(file, **choices)
    assert [r.spec for r in layer.readings] == [layer.readings[0].spec], layer.readings
    return layer.readings[0]


def told(layer: FoundLayer) -> list[tuple[str, Layer]]:
    return [(r.packing.name, r.spec) for r in layer.readings]


def weights(packing: str, row: str, spec: Layer, seed: int = 0) -> helpers.Blocks:
    blocks = helpers.whole_numbers(spec, seed)
    if (packing, row) in NO_CANDIDATE_BIAS:
        blocks |= {k: np.zeros_like(v) for k, v in blocks.items() if k.role == "recurrent_bias" and k.gate == "n"}
    return blocks


def is_true(reading: Reading, file: ModelFile, spec: Layer, blocks: helpers.Blocks) -> bool:
    """Whether a reading is the layer and the numbers that were packed."""
    if {**reading.spec.options(), "form": "layer"} != {**spec.options(), "form": "layer"}:
        return False
    got, wanted = reading.parameters(file).effective(), helpers.effective(spec, blocks)
    return set(got) == set(wanted) and all(np.array_equal(got[k], wanted[k]) for k in wanted)


# ---- Properties over every packing.


def format_of(packing: str) -> str:
    return {"keras": "keras-hdf5", "keras-cudnn": "keras-hdf5", "keras1": "keras-hdf5", "keras1-gpu": "keras-hdf5"}.get(
        packing, {"torch": "torch", "tf1": "tensorflow"}.get(packing, "npz")
    )


def version_of(packing: str) -> str:
    return {"keras1": "1.2.2", "keras1-gpu": "1.2.2", "keras-cudnn": "2.1.5"}.get(packing, "2.4.0")


def prefix_of(packing: str, row: str) -> str:
    if packing == "tf1":
        return {"rnn": "rnn/basic_rnn_cell/", "lstm": "rnn/lstm_cell/", "gru/reset_before": "rnn/gru_cell/"}[row]
    return "model/"


def plain(packing: str, spec: Layer) -> Layer:
    """What the tensors say of a layer: Keras 1 and TensorFlow do not say more than that."""
    if isinstance(spec, Recurrent) and packing.startswith("keras1") and spec.cell != "rnn":
        return Recurrent(**{**spec.options(), "recurrent_activation": "hard_sigmoid_keras2"})
    return spec


@st.composite
def layers(draw: st.DrawFn, packing: str, row: str, *, single: bool) -> Layer:
    """Random layers of a row, d unlike n; a stack only of PyTorch, whose names say that it is one layer."""
    spec = draw(helpers.specs(row, TABLES[packing].rows[row]).filter(lambda s: s.input_size != s.hidden_size))
    if isinstance(spec, Dense):
        return spec
    options = {**spec.options(), "num_layers": spec.num_layers if packing == "torch" else 1}
    if single:
        options |= {"num_layers": 1, "bidirectional": spec.bidirectional and packing == "onnx"}
    return Recurrent(**options)


@pytest.mark.parametrize(("packing", "row"), ROWS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_what_was_packed_is_recognised_by_its_names(packing: str, row: str, data: st.DataObject) -> None:
    spec = data.draw(layers(packing, row, single=False))
    blocks = weights(packing, row, spec)
    table, prefix = TABLES[packing], prefix_of(packing, row)
    arrays = {f"{prefix}{k}": a for k, a in pack(table, spec, blocks, np.float64)}
    file = file_of(arrays, format_of(packing), keras_version=version_of(packing))
    found = look(file, **CHOICES.get((packing, row), {}))
    (layer,) = found.layers
    true = [r for r in layer.readings if is_true(r, file, plain(packing, spec), blocks)]
    assert len(true) == 1, layer.readings
    assert not found.unconsumed
    # Others may remain, but only where the names and shapes are the same in both: ONNX's do not tell how a GRU resets.
    if isinstance(spec, Dense) or (spec.bias and (packing, row) != ("onnx", "gru/reset_before")):
        assert layer.readings[0].spec == true[0].spec


@pytest.mark.parametrize(("packing", "row"), ROWS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_what_was_packed_is_among_the_readings_without_names(packing: str, row: str, data: st.DataObject) -> None:
    spec = data.draw(layers(packing, row, single=True))
    if isinstance(spec, Dense) and not spec.bias:
        return  # one matrix alone may be anything
    blocks, table = weights(packing, row, spec), TABLES[packing]
    arrays = {"abcdefghijklmnop"[i]: a for i, (_, a) in enumerate(pack(table, spec, blocks, np.float64))}
    keras = packing.startswith("keras")
    file = file_of(arrays, "keras-hdf5" if keras else "npz", keras_version=version_of(packing))
    readings = [r for layer in look(file, **CHOICES.get((packing, row), {})).layers for r in layer.readings]
    assert any(is_true(r, file, plain(packing, spec), blocks) for r in readings), readings
    assert all("no names" in r.evidence[0] for r in readings)


# ---- PyTorch and arrays of one's own.


def torch_gru(
    prefix: str, names: str = "weight_ih_l0 weight_hh_l0 bias_ih_l0 bias_hh_l0", d: int = 5, n: int = 3
) -> Arrays:
    shapes = [(3 * n, d), (3 * n, n), (3 * n,), (3 * n,)]
    return arrays_of({prefix + name: shape for name, shape in zip(names.split(), shapes, strict=True)})


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.lstm.", "state_dict/_orig_mod.net.0.rnn."])
def test_torch_prefixes(prefix: str) -> None:
    layer = only(file_of(torch_gru(prefix), "torch"))
    assert told(layer) == [("torch", Recurrent("gru", 5, 3))]
    assert layer.warnings == ()
    assert layer.name.replace("/", ".") == (prefix.replace("/", ".").rstrip(".") or "model")


@pytest.mark.parametrize("path", ["beta", "conv_block.lstm", "norm1", "batch_norm_rnn", "embedding/encoder"])
def test_a_recurrent_layer_in_something_that_sounds_like_another(path: str) -> None:
    layer = only(file_of(torch_gru(f"{path}."), "torch"))
    assert told(layer) == [("torch", Recurrent("gru", 5, 3))]


def test_an_array_file_does_not_tell_the_order_of_gates() -> None:
    file = file_of(torch_gru("enc_", "w_ih w_hh b_ih b_hh"))
    layer = only(file)
    assert layer.name == "enc"
    assert told(layer) == [
        ("torch", Recurrent("gru", 5, 3)),
        ("onnx-arrays", Recurrent("gru", 5, 3)),
        ("onnx-arrays", Recurrent("gru", 5, 3, reset_after=False)),
    ]
    assert layer.undecided == ("packing", "reset_after")
    # PyTorch's gates are r z n, ONNX's z r n: the two readings are two functions.
    torch, onnx = (r.parameters(file) for r in layer.readings[:2])
    key = Key(0, 0, "kernel", "r")
    assert np.array_equal(torch[key], file.tensors["enc_w_ih"].read()[:3].T)
    assert np.array_equal(onnx[key], file.tensors["enc_w_ih"].read()[3:6].T)
    assert one(file, packing="torch").packing is PACKINGS["torch"]
    assert one(file, packing="onnx-arrays", reset_after=False).spec == Recurrent("gru", 5, 3, reset_after=False)


def test_the_module_that_resets_before_is_a_choice() -> None:
    file = file_of(torch_gru("rnn."), "torch")
    assert one(file).spec == Recurrent("gru", 5, 3)
    assert one(file, reset_after=False).spec == Recurrent("gru", 5, 3, reset_after=False)


def test_torch_stack_directions_and_projection() -> None:
    spec = Recurrent("lstm", 5, 4, num_layers=3, bidirectional=True, proj_size=2)
    blocks = helpers.whole_numbers(spec, 1)
    arrays = {f"net.{k}": a for k, a in pack(PACKINGS["torch"], spec, blocks)}
    file = file_of(dict(reversed(arrays.items())), "torch")
    reading = one(file)
    assert reading.spec == spec
    helpers.assert_same_numbers(reading.parameters(file).effective(), helpers.effective(spec, blocks))


def test_a_stack_with_a_hole_is_no_layer() -> None:
    spec = Recurrent("lstm", 5, 4, num_layers=3)
    arrays = {k: a for k, a in pack(PACKINGS["torch"], spec, helpers.whole_numbers(spec, 1)) if "_l1" not in k}
    found = look(file_of(arrays, "torch"))
    assert found.layers == ()
    assert set(found.unconsumed) == set(arrays)


def test_two_tensors_of_one_name_are_no_layer() -> None:
    """Which of the two kernels is meant nobody knows."""
    arrays = {**torch_gru("a."), "a/weight_ih_l0": random(9, 5, seed=7)}
    found = look(file_of(arrays))
    assert found.layers == ()
    assert set(found.unconsumed) == set(arrays)


def test_hostile_names_take_no_time() -> None:
    """A path of a hundred thousand parts, and a stack of more layers than a spec can have."""
    arrays = {"a/" * 100_000 + "kernel": random(2, 3)}
    arrays |= {f"{w}_l{i}": random(3, 3) for i in range(1001) for w in ("weight_ih", "weight_hh")}
    start = time.monotonic()
    found = look(file_of(arrays, "torch"))
    assert time.monotonic() - start < 10
    assert len(found.unconsumed) == len(arrays)


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_torch_cells(cell: str, gates: int) -> None:
    shapes = {
        "weight_ih": (gates * 3, 5),
        "weight_hh": (gates * 3, 3),
        "bias_ih": (gates * 3,),
        "bias_hh": (gates * 3,),
    }
    layer = only(file_of(arrays_of({f"dec.{k}": s for k, s in shapes.items()}), "torch"))
    assert layer.readings[0].spec == Recurrent(cell, 5, 3, form="cell")
    assert list(layer.readings[0].tensors) == list(shapes)


def test_the_nonlinearity_of_a_torch_rnn_is_open() -> None:
    shapes = {"weight_ih_l0": (3, 5), "weight_hh_l0": (3, 3), "bias_ih_l0": (3,), "bias_hh_l0": (3,)}
    file = file_of(arrays_of(shapes), "torch")
    assert [r.spec.activation for r in only(file).readings] == ["tanh", "relu"]
    assert one(file, activation="relu").spec == Recurrent("rnn", 5, 3, activation="relu")
    with pytest.raises(SpecError, match="activation='sigmoid' is true of no layer"):
        look(file, activation="sigmoid")


def test_own_names_in_either_orientation() -> None:
    rows = file_of(arrays_of({"W": (5, 12), "U": (3, 12), "b": (12,)}))
    assert one(rows, recurrent_activation="sigmoid").packing.name == "keras"
    columns = file_of(arrays_of({"W": (12, 5), "U": (12, 3), "b": (12,)}))
    assert [r.packing.name for r in only(columns).readings] == ["equinox"]


def test_square_kernels_that_say_nothing_have_two_readings() -> None:
    """A tanh cell with as many features as units: x W or W x."""
    shapes = {"a": (4, 4), "b": (4, 4), "c": (4,), "d": (4,)}
    names = {r.packing.name for r in only(file_of(arrays_of(shapes))).readings}
    assert names == {"torch"}
    three = only(file_of(arrays_of({"Wx": (4, 4), "Wh": (4, 4), "b": (4,)})))
    assert {r.packing.name for r in three.readings} == {"keras"}


def test_no_tensor_in_two_layers() -> None:
    """Gates of a GRU of TensorFlow 1 look like dense layers too."""
    shapes = {"gates/kernel": (8, 6), "gates/bias": (6,), "candidate/kernel": (8, 3), "candidate/bias": (3,)}
    file = file_of(arrays_of({f"rnn/gru_cell/{k}": s for k, s in shapes.items()}), "tensorflow")
    assert told(only(file)) == [("tf1", Recurrent("gru", 5, 3, reset_after=False))]


def test_others_and_the_unexplained() -> None:
    shapes = {
        "emb.weight": (11, 5),
        "norm.weight": (5,),
        "norm.bias": (5,),
        "conv.weight": (6, 5, 3),
        "fc.weight": (7, 5),
        "fc.bias": (7,),
        "attention.query": (5, 4),
    }
    found = look(file_of(arrays_of(shapes), "torch"))
    assert [(o.name, o.kind, len(o.tensors)) for o in found.others] == [
        ("emb", "Embedding", 1),
        ("norm", "Normalization", 2),
        ("conv", "Convolution", 1),
    ]
    assert [(layer.name, told(layer)) for layer in found.layers] == [("fc", [("torch", Dense(5, 7))])]
    assert found.unconsumed == ("attention.query",)


def test_numbered_arrays_are_taken_in_their_order() -> None:
    """np.savez(*model.get_weights()): an LSTM and a dense layer; arr_10 comes after arr_9."""
    lstm = dict(pack(PACKINGS["keras"], Recurrent("lstm", 5, 3), helpers.whole_numbers(Recurrent("lstm", 5, 3), 1)))
    dense = arrays_of({"kernel": (3, 2), "bias": (2,)})
    arrays = {f"arr_{i}": a for i, a in enumerate([*lstm.values(), *dense.values()])}
    found = look(file_of(arrays), recurrent_activation="sigmoid")
    assert ("keras", Recurrent("lstm", 5, 3)) in told(found.layers[0])
    assert ("keras", Dense(3, 2)) in told(found.layers[1])
    assert len(found.layers) == 2


# ---- TensorFlow 1.


def test_forget_bias_is_not_in_the_file() -> None:
    file = file_of(arrays_of({"rnn/basic_lstm_cell/kernel": (8, 12), "rnn/basic_lstm_cell/bias": (12,)}), "tensorflow")
    reading = one(file)
    assert (reading.packing.name, reading.spec, reading.forget_bias) == ("tf1", Recurrent("lstm", 5, 3), 1.0)
    assert "forget_bias" in reading.evidence[-1]
    bias = file.tensors["rnn/basic_lstm_cell/bias"].read()
    parameters = reading.parameters(file)
    for place, gate in enumerate("igfo"):
        stored = bias[3 * place : 3 * place + 3] + (1.0 if gate == "f" else 0.0)
        assert np.array_equal(parameters[Key(0, 0, "bias", gate)], stored)
    other = one(file, forget_bias=0.25).parameters(file)
    assert np.array_equal(other[Key(0, 0, "bias", "f")], bias[6:9] + 0.25)
    with pytest.raises(SpecError, match=r"forget_bias=1\.5 is true of no layer"):
        look(file_of(torch_gru(""), "torch"), forget_bias=1.5)


def test_two_directions_of_tensorflow_1() -> None:
    shapes = {
        f"bidirectional_rnn/{d}/lstm_cell/{k}": s
        for d in ("bw", "fw")
        for k, s in (("kernel", (8, 12)), ("bias", (12,)))
    }
    file = file_of(arrays_of(shapes), "tensorflow")
    layer = only(file)
    assert told(layer) == [("tf1", Recurrent("lstm", 5, 3, bidirectional=True))]
    assert layer.name == "bidirectional_rnn"
    parameters = layer.readings[0].parameters(file)
    for direction, d in enumerate(("fw", "bw")):
        bias = file.tensors[f"bidirectional_rnn/{d}/lstm_cell/bias"].read()
        assert np.array_equal(parameters[Key(0, direction, "bias", "f")], bias[6:9] + 1)


def test_a_dense_layer_is_no_cell() -> None:
    file = file_of(arrays_of({"rnn_model/dense/kernel": (8, 12), "rnn_model/dense/bias": (12,)}), "tensorflow")
    assert told(only(file)) == [("keras", Dense(8, 12))]


def test_object_graph_keys() -> None:
    end = "/.ATTRIBUTES/VARIABLE_VALUE"
    shapes = {"cell/kernel": (5, 3), "cell/recurrent_kernel": (3, 3), "cell/bias": (3,)}
    file = file_of(arrays_of({f"layer_with_weights-0/{k}{end}": s for k, s in shapes.items()}), "tensorflow")
    assert ("keras", Recurrent("rnn", 5, 3)) in told(only(file))


# ---- Keras without a configuration.

KERAS_LSTM = {"lstm_1/kernel:0": (5, 12), "lstm_1/recurrent_kernel:0": (3, 12), "lstm_1/bias:0": (12,)}


@pytest.mark.parametrize(
    ("version", "activations"),
    [
        ("2.2.0", ["hard_sigmoid_keras2", "sigmoid"]),
        ("2.1.6-tf", ["hard_sigmoid_keras2", "sigmoid"]),
        ("2.2.4-tf", ["sigmoid", "hard_sigmoid_keras2"]),
        ("", ["sigmoid", "hard_sigmoid_keras2"]),
        ("2.3.1", ["sigmoid"]),
        ("2.4.0", ["sigmoid"]),
        ("3.15.1", ["sigmoid"]),
    ],
)
def test_the_default_of_the_gates_in_the_keras_of_a_file(version: str, activations: list[str]) -> None:
    file = file_of(arrays_of(KERAS_LSTM), "keras-hdf5", **({"keras_version": version} if version else {}))
    layer = only(file)
    assert [r.spec.recurrent_activation for r in layer.readings] == activations
    assert layer.undecided == (("recurrent_activation",) if len(activations) > 1 else ())
    for wanted in ("sigmoid", "hard_sigmoid_keras2", "tanh"):
        assert one(file, recurrent_activation=wanted).spec == Recurrent("lstm", 5, 3, recurrent_activation=wanted)


def test_what_a_weights_file_leaves_open_can_be_said() -> None:
    file = file_of(arrays_of(KERAS_LSTM), "keras-hdf5", keras_version="2.4.0")
    reading = one(file, go_backwards=True, activation="relu")
    assert reading.spec == Recurrent("lstm", 5, 3, go_backwards=True, activation="relu")
    assert reading.open == ("recurrent_activation",)
    assert one(file).open == ("recurrent_activation", "activation", "go_backwards")
    with pytest.raises(SpecError, match="reset_after=False is true of no layer"):
        look(file, reset_after=False)
    with pytest.raises(SpecError, match="packing must be one of"):
        look(file, packing="tensorflow3")
    with pytest.raises(SpecError, match="packing='torch' is true of no layer in this file, and 'lstm_1' is LSTM"):
        look(file, packing="torch")
    with pytest.raises(SpecError, match="must be an activation function"):
        look(file, activation="tan")


def test_gru_biases() -> None:
    kernels = {"gru/kernel:0": (5, 9), "gru/recurrent_kernel:0": (3, 9)}
    for shape, packing, reset in (((9,), "keras", False), ((2, 9), "keras", True), ((18,), "keras-cudnn", True)):
        file = file_of(arrays_of({**kernels, "gru/bias:0": shape}), "keras-hdf5", keras_version="2.4.0")
        assert told(only(file)) == [(packing, Recurrent("gru", 5, 3, reset_after=reset))]
    file = file_of(arrays_of(kernels), "keras-hdf5", keras_version="2.4.0")
    assert [r.spec.reset_after for r in only(file).readings] == [True, False]
    assert one(file, reset_after=False).spec == Recurrent("gru", 5, 3, bias=False, reset_after=False)


def test_cudnn_lstm_has_no_question() -> None:
    file = file_of(arrays_of({**KERAS_LSTM, "lstm_1/bias:0": (24,)}), "keras-hdf5", keras_version="2.1.5")
    layer = only(file)
    assert told(layer) == [("keras-cudnn", Recurrent("lstm", 5, 3))]
    assert layer.warnings == ()
    with pytest.raises(SpecError, match="recurrent_activation='hard_sigmoid_keras2' is true of no layer"):
        look(file, recurrent_activation="hard_sigmoid_keras2")


def test_a_choice_is_for_the_layers_that_leave_it_open() -> None:
    arrays = {**arrays_of(KERAS_LSTM), **arrays_of({k.replace("_1", "_2"): s for k, s in KERAS_LSTM.items()})}
    arrays["lstm_2/bias:0"] = random(24)
    found = look(file_of(arrays, "keras-hdf5", keras_version="2.1.5"), recurrent_activation="hard_sigmoid_keras2")
    assert [[r.spec.recurrent_activation for r in layer.readings] for layer in found.layers] == [
        ["hard_sigmoid_keras2"],
        ["sigmoid"],
    ]


def test_bidirectional_keras_without_a_configuration() -> None:
    spec = Recurrent("lstm", 5, 3, bidirectional=True, backward=Recurrent("gru", 5, 2))
    for layer in (Recurrent("gru", 5, 3, bidirectional=True), spec):
        blocks = helpers.whole_numbers(layer, 2)
        file = file_of(dict(pack(PACKINGS["keras"], layer, blocks)), "keras-hdf5", keras_version="2.4.0")
        reading = one(file)
        assert reading.spec == layer
        helpers.assert_same_numbers(reading.parameters(file).effective(), Parameters(layer, blocks).effective())
        assert one(file, merge_mode="sum" if layer is not spec else "none").spec.merge_mode in ("sum", None)


def test_keras_1_per_gate() -> None:
    """The names of Keras 1.2.2, with the gates in its order i c f o; spelled out by hand."""
    shapes = {f"lstm_1_{w}_{g}": s for g in "icfo" for w, s in (("W", (5, 3)), ("U", (3, 3)), ("b", (3,)))}
    shapes |= {"dense_1_W": (3, 2), "dense_1_b": (2,), "embedding_1_W": (11, 5)}
    found = look(file_of(arrays_of(shapes), "keras-hdf5", keras_version="1.2.2"))
    lstm, dense = found.layers
    assert told(dense) == [("keras1", Dense(3, 2))]
    assert told(lstm)[0] == ("keras1", Recurrent("lstm", 5, 3, recurrent_activation="hard_sigmoid_keras2"))
    parameters = lstm.readings[0].parameters(found.file)
    for gate, letter in (("i", "i"), ("g", "c"), ("f", "f"), ("o", "o")):
        for role, word in (("kernel", "W"), ("recurrent_kernel", "U"), ("bias", "b")):
            assert np.array_equal(
                parameters[Key(0, 0, role, gate)], found.file.tensors[f"lstm_1_{word}_{letter}"].read()
            )
    assert [o.kind for o in found.others] == ["Embedding"]


def test_keras_1_orders_by_hand() -> None:
    """Without names, gate by gate in the order i c f o; and with consume_less="gpu", the gates z r h beside each other."""
    shapes = {f"g/{3 * i + k}": s for i in range(4) for k, s in enumerate([(5, 3), (3, 3), (3,)])}
    file = file_of(arrays_of(dict(sorted(shapes.items()))), "keras-hdf5", keras_version="1.2.2")
    (reading,) = only(file, recurrent_activation="sigmoid").readings
    parameters = reading.parameters(file)
    for i, gate in enumerate("igfo"):
        assert np.array_equal(parameters[Key(0, 0, "bias", gate)], file.tensors[f"g/{3 * i + 2}"].read())
    shapes = {"gru_1_W": (5, 9), "gru_1_U": (3, 9), "gru_1_b": (9,)}
    file = file_of(arrays_of(shapes), "keras-hdf5", keras_version="1.2.2")
    reading = only(file, packing="keras1-gpu").readings[0]
    assert reading.spec == Recurrent("gru", 5, 3, reset_after=False, recurrent_activation="hard_sigmoid_keras2")
    for i, gate in enumerate("zrn"):
        wanted = file.tensors["gru_1_b"].read()[3 * i : 3 * i + 3]
        assert np.array_equal(reading.parameters(file)[Key(0, 0, "bias", gate)], wanted)


def test_names_glued_to_the_layer() -> None:
    """lstm_recurrent_kernel is the recurrent kernel of lstm, not the kernel of lstm_recurrent."""
    file = file_of(arrays_of({"lstm_kernel": (5, 12), "lstm_recurrent_kernel": (3, 12), "lstm_bias": (12,)}))
    layer = only(file)
    assert layer.name == "lstm"
    assert told(layer)[0] == ("keras", Recurrent("lstm", 5, 3))


def test_what_two_directions_leave_open() -> None:
    """How a GRU without bias resets is one question, not one for each direction; an activation is said for both."""
    shapes = {
        f"b/{d}_gru/{k}": s
        for d in ("forward", "backward")
        for k, s in (("kernel", (5, 9)), ("recurrent_kernel", (3, 9)))
    }
    file = file_of(arrays_of(shapes), "keras-hdf5", keras_version="2.4.0")
    assert [r.spec.reset_after for r in only(file).readings] == [True, False]
    spec = Recurrent("lstm", 5, 3, bidirectional=True, backward=Recurrent("gru", 5, 2))
    blocks = helpers.whole_numbers(spec, 2)
    file = file_of(dict(pack(PACKINGS["keras"], spec, blocks)), "keras-hdf5", keras_version="2.4.0")
    reading = one(file, recurrent_activation="tanh", go_backwards=True)
    backward = Recurrent("gru", 5, 2, recurrent_activation="tanh")
    other = Recurrent(
        "lstm", 5, 3, bidirectional=True, recurrent_activation="tanh", backward=backward, go_backwards=True
    )
    assert reading.spec == other
    helpers.assert_same_numbers(reading.parameters(file).effective(), Parameters(other, blocks).effective())


def test_native_names_follow_the_options() -> None:
    """With go_backwards Keras gives the backward layer another name."""
    spec = Recurrent("lstm", 5, 3, bidirectional=True)
    blocks = helpers.whole_numbers(spec, 2)
    file = file_of(dict(pack(PACKINGS["keras"], spec, blocks)), "keras-hdf5", keras_version="2.4.0")
    reading = one(file, go_backwards=True)
    assert reading.spec == Recurrent("lstm", 5, 3, bidirectional=True, go_backwards=True)
    assert list(reading.tensors) != list(one(file).tensors)
    helpers.assert_same_numbers(reading.parameters(file).effective(), helpers.effective(spec, blocks))


def test_numbers_of_a_weights_file() -> None:
    lstm = {f"layers/lstm/cell/vars/{i}": s for i, s in enumerate([(5, 12), (3, 12), (12,)])}
    more = {"layers/dense/vars/0": (3, 2), "layers/dense_1/vars/0": (2, 7), "layers/dense_1/vars/1": (7,)}
    others = {
        "layers/layer_normalization/vars/0": (3,),
        "layers/layer_normalization/vars/1": (3,),
        "layers/embedding/vars/0": (9, 5),
    }
    found = look(file_of(arrays_of({**others, **lstm, **more}), "keras-weights"))
    assert [(layer.name, told(layer)) for layer in found.layers] == [
        ("layers/lstm", [("keras", Recurrent("lstm", 5, 3))]),
        ("layers/dense", [("keras", Dense(3, 2, bias=False))]),
        ("layers/dense_1", [("keras", Dense(2, 7))]),
    ]
    assert [(o.kind, len(o.tensors)) for o in found.others] == [("LayerNormalization", 2), ("Embedding", 1)]


# ---- Keras with a configuration.


def keras_file(
    kind: str, options: Mapping[str, Any], specs: list[Layer], numbers: bool = False, **more: Any
) -> tuple[ModelFile, list[helpers.Blocks]]:
    """A file with one layer that holds these, each packed by itself."""
    blocks = [helpers.whole_numbers(spec, i) for i, spec in enumerate(specs)]
    table = PACKINGS[more.pop("packing", "keras")]
    arrays: Arrays = {}
    keys: dict[str, str] = {}
    for i, (spec, own) in enumerate(zip(specs, blocks, strict=True)):
        for k, (native, array) in enumerate(pack(table, spec, own)):
            key = f"part_{i}/" + (f"vars/{k}" if numbers else native.split("/")[-1])
            keys[key] = f"x/{key}"
            arrays[f"x/{key}"] = array
    layer = StoredLayer("x", kind, options, keys)
    return file_of(arrays, more.pop("format_", "keras-hdf5"), (layer,), {"class_name": "Model"}, **more), blocks


def entry(kind: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": config}


def lstm_options(**more: Any) -> dict[str, Any]:
    return {"units": 3, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, **more}


@pytest.mark.parametrize("numbers", [False, True])
def test_a_configuration_says_all(numbers: bool) -> None:
    spec = Recurrent("gru", 5, 3, activation="relu", recurrent_activation="tanh", go_backwards=True, reset_after=False)
    options = lstm_options(activation="relu", recurrent_activation="tanh", go_backwards=True, reset_after=False)
    file, (blocks,) = keras_file("GRU", options, [spec], numbers, keras_version="2.13.1")
    reading = one(file)
    assert (reading.spec, reading.open) == (spec, ())
    helpers.assert_same_numbers(reading.parameters(file).effective(), helpers.effective(spec, blocks))
    with pytest.raises(SpecError, match="activation='tanh' is true of no layer"):
        look(file, activation="tanh")


@pytest.mark.parametrize(
    ("version", "functions"),
    [("2.2.0", ["hard_sigmoid_keras2"]), ("3.5.0", ["hard_sigmoid"]), ("", ["hard_sigmoid_keras2", "hard_sigmoid"])],
)
def test_the_slope_of_a_hard_sigmoid_is_that_of_the_file(version: str, functions: list[str]) -> None:
    options = lstm_options(recurrent_activation="hard_sigmoid")
    file, _ = keras_file("LSTM", options, [Recurrent("lstm", 5, 3)], keras_version=version)
    layer = only(file)
    assert [r.spec.recurrent_activation for r in layer.readings] == functions
    assert all("slope" in r.evidence[-1] for r in layer.readings)


def test_stateful_needs_a_batch() -> None:
    spec = Recurrent("lstm", 5, 3, stateful=True, batch_size=4)
    file, _ = keras_file("LSTM", lstm_options(stateful=True, batch_input_shape=[4, None, 5]), [Recurrent("lstm", 5, 3)])
    assert one(file).spec == spec
    file, _ = keras_file("LSTM", lstm_options(stateful=True), [Recurrent("lstm", 5, 3)])
    layer = only(file)
    assert layer.readings[0].spec == Recurrent("lstm", 5, 3)
    assert "keeps its states" in layer.warnings[0]


def test_bidirectional() -> None:
    options = {"layer": entry("LSTM", **lstm_options()), "merge_mode": "sum"}
    file, blocks = keras_file("Bidirectional", options, [Recurrent("lstm", 5, 3)] * 2, keras_version="2.13.1")
    reading = one(file)
    assert reading.spec == Recurrent("lstm", 5, 3, bidirectional=True, merge_mode="sum")
    wanted = {
        k._replace(direction=d): v
        for d, own in enumerate(blocks)
        for k, v in helpers.effective(Recurrent("lstm", 5, 3), own).items()
    }
    helpers.assert_same_numbers(reading.parameters(file).effective(), wanted)
    backward = entry("GRU", **lstm_options(units=2, reset_after=True, go_backwards=True))
    specs = [Recurrent("lstm", 5, 3), Recurrent("gru", 5, 2)]
    file, _ = keras_file("Bidirectional", {**options, "backward_layer": backward, "merge_mode": None}, specs)
    assert one(file).spec == Recurrent("lstm", 5, 3, bidirectional=True, merge_mode=None, backward=specs[1])


def test_numbered_directions_are_sorted_by_direction() -> None:
    """HDF5 lists backward_layer before forward_layer."""
    blocks = [helpers.whole_numbers(Recurrent("lstm", 5, 3), i) for i in range(2)]
    arrays, keys = {}, {}
    for direction in (1, 0):
        for k, (_, array) in enumerate(pack(PACKINGS["keras"], Recurrent("lstm", 5, 3), blocks[direction])):
            key = f"{('forward', 'backward')[direction]}_layer/cell/vars/{k}"
            arrays[key], keys[key] = array, key
    layer = StoredLayer("b", "Bidirectional", {"layer": entry("LSTM", **lstm_options())}, keys)
    reading = one(file_of(arrays, "keras", (layer,), {}, keras_version="3.1.0"))
    got = reading.parameters(file_of(arrays))
    for direction in range(2):
        assert np.array_equal(got[Key(0, direction, "kernel", "o")], blocks[direction][Key(0, 0, "kernel", "o")])


def test_cells_in_rnn() -> None:
    cells = [entry("LSTMCell", **lstm_options()), entry("GRUCell", **lstm_options(units=2, reset_after=True))]
    stacked = entry("StackedRNNCells", cells=cells)
    file, _ = keras_file(
        "RNN", {"cell": stacked}, [Recurrent("lstm", 5, 3), Recurrent("gru", 3, 2)], keras_version="3.1.0"
    )
    assert told(only(file)) == [("keras", Recurrent("lstm", 5, 3, stacked=(Recurrent("gru", 3, 2),)))]
    file, _ = keras_file("TimeDistributed", {"layer": entry("Dense", units=7, activation="relu")}, [Dense(5, 7)])
    layer = only(file)
    assert told(layer) == [("keras", Dense(5, 7))]
    assert "'relu'" in layer.warnings[0]


def test_legacy_configurations() -> None:
    options = {"output_dim": 3, "inner_activation": "hard_sigmoid", "activation": "tanh"}
    shapes = {f"lstm_1_{w}_{g}": s for g in "icfo" for w, s in (("W", (5, 3)), ("U", (3, 3)), ("b", (3,)))}
    keys = {name.removeprefix("lstm_1_"): name for name in shapes}
    file = file_of(
        arrays_of(shapes), "keras-hdf5", (StoredLayer("lstm_1", "LSTM", options, keys),), {}, keras_version="1.2.2"
    )
    spec = Recurrent("lstm", 5, 3, recurrent_activation="hard_sigmoid_keras2")
    assert told(only(file)) == [("keras1", spec)]
    file, _ = keras_file("CuDNNGRU", {"units": 3}, [Recurrent("gru", 5, 3)], packing="keras-cudnn")
    assert told(only(file)) == [("keras-cudnn", Recurrent("gru", 5, 3))]


@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        ("LSTM", lstm_options(activation="my_own"), "activation of the Keras layer 'x' must be an activation function"),
        ("LSTM", lstm_options(activation={"class_name": "function", "config": {"code": "..."}}), "activation of the"),
        ("LSTM", lstm_options(units=4), "no tensors of the shapes that a LSTM with 4 units has"),
        ("LSTM", lstm_options(units="3"), "no tensors of the shapes"),
        ("LSTM", lstm_options(use_bias=False), "does not explain"),
        ("LSTM", lstm_options(dropout="much"), "is not modelled"),
        ("Bidirectional", {"layer": entry("LSTM", **lstm_options())}, "no tensors of the shapes"),
    ],
)
def test_what_a_configuration_gets_wrong_is_refused(kind: str, options: dict[str, Any], why: str) -> None:
    file, _ = keras_file(kind, options, [Recurrent("lstm", 5, 3)], keras_version="2.13.1")
    layer = only(file)
    assert layer.readings == ()
    assert why in layer.refused
    assert set(layer.tensors) == set(file.tensors)


def test_tensors_of_another_class_are_refused() -> None:
    """An LSTM by its configuration, a CuDNNLSTM by its tensors: one of them is wrong."""
    file, _ = keras_file(
        "LSTM", lstm_options(), [Recurrent("lstm", 5, 3)], packing="keras-cudnn", keras_version="2.1.5"
    )
    assert "no tensors of the shapes" in only(file).refused


def test_a_nested_model_that_is_not_taken_apart() -> None:
    """Its tensors are found by their names, as those of a file without a configuration."""
    keys = {k.replace(":0", ""): k for k in KERAS_LSTM}
    file = file_of(
        arrays_of(KERAS_LSTM), "keras-hdf5", (StoredLayer("nested", "Sequential", {}, keys),), {}, keras_version="2.4.0"
    )
    layer = only(file)
    assert (layer.name, told(layer)) == ("nested/lstm_1", [("keras", Recurrent("lstm", 5, 3))])


def test_another_class_is_what_it_says() -> None:
    """A custom layer may have the tensors of a dense one."""
    layer = StoredLayer("x", "Scale", {}, {"kernel": "x/kernel", "bias": "x/bias"})
    found = look(
        file_of(arrays_of({"x/kernel": (5, 3), "x/bias": (3,)}), "keras-hdf5", (layer,), {}, keras_version="2.4.0")
    )
    assert [(o.name, o.kind) for o in found.others] == [("x", "Scale")]
    assert found.layers == ()


def test_shared_tensors_are_taken_once() -> None:
    file, _ = keras_file("LSTM", lstm_options(), [Recurrent("lstm", 5, 3)], keras_version="2.13.1")
    twice = ModelFile(
        file.path,
        file.format,
        file.tensors,
        (*file.layers, StoredLayer("y", "LSTM", file.layers[0].options, file.layers[0].tensors)),
        file.metadata,
        {},
    )
    found = look(twice)
    assert [layer.name for layer in found.layers] == ["x"]
    assert "'y' has the tensor" in found.warnings[0]


def keras_model(keras: Any) -> Any:
    """Layers of every kind, and what they should be found to be, with the layer or cell that holds the weights."""
    layers = keras.layers
    cells = [layers.LSTMCell(4), layers.GRUCell(2), layers.LSTMCell(3)]
    nested = [
        layers.LSTM(4, return_sequences=True, name="inner"),
        layers.GRU(3, return_sequences=True, reset_after=False),
    ]
    model = keras.Sequential(
        [
            layers.Input((None, 5)),
            layers.LSTM(7, return_sequences=True, name="encoder", go_backwards=True),
            layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both"),
            keras.Sequential([layers.Input((None, 6)), *nested], name="nested"),
            layers.RNN(layers.StackedRNNCells(cells), return_sequences=True, name="stack"),
            layers.TimeDistributed(layers.Dense(2), name="every"),
            layers.SimpleRNN(4, use_bias=False, name="last"),
            layers.Dense(3, name="out"),
        ]
    )
    for i, weight in enumerate(model.weights):
        weight.assign(random(*weight.shape, seed=i).astype("float32"))
    return model


@pytest.mark.needs("keras")
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_what_keras_writes(name: str, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    model, adapter = keras_model(keras), get_adapter("keras")
    (model.save_weights if ".weights." in name else model.save)(tmp_path / name)
    found = look(load(tmp_path / name))
    assert not found.unconsumed
    assert not found.others
    nested, stack = model.get_layer("nested"), model.get_layer("stack")
    wanted = {name: model.get_layer(name) for name in ("encoder", "both", "last", "out")}
    wanted |= {f"nested/{one.name}": one for one in nested.layers}
    wanted["every"] = model.get_layer("every").layer
    bare = ".weights." in name
    ends = ("cell/cells/lstm_cell", "cell/cells/gru_cell", "cell/cells/lstm_cell_1")
    wanted |= (
        {f"stack/{end}": cell for end, cell in zip(ends, stack.cell.cells, strict=True)} if bare else {"stack": stack}
    )
    by_name = {layer.name: layer for layer in found.layers}
    assert set(by_name) == set(wanted)
    for key, layer in wanted.items():
        (reading,) = by_name[key].readings
        spec = adapter.spec(layer)
        # A weights file does not tell the direction.
        told_of = {**spec.options(), "form": "layer"} | (
            {"go_backwards": False} if bare and isinstance(spec, Recurrent) else {}
        )
        assert {**reading.spec.options(), "form": "layer"} == told_of, key
        helpers.assert_same_numbers(reading.parameters(found.file).effective(), adapter.parameters(layer).effective())


# ---- ONNX.


def onnx_file(
    kind: str, spec: Layer, more: Mapping[str, np.ndarray] | None = None, **options: Any
) -> tuple[ModelFile, helpers.Blocks]:
    blocks = helpers.whole_numbers(spec, 3)
    arrays = {f"w_{k}": a for k, a in pack(PACKINGS["onnx"], spec, blocks)} | {
        f"w_{k}": a for k, a in (more or {}).items()
    }
    layer = StoredLayer("node", kind, options, {name.removeprefix("w_"): name for name in arrays})
    return file_of(arrays, "onnx", (layer,)), blocks


@pytest.mark.parametrize(
    ("kind", "options", "spec"),
    [
        ("LSTM", {}, Recurrent("lstm", 5, 3)),
        ("LSTM", {"direction": "bidirectional"}, Recurrent("lstm", 5, 3, bidirectional=True)),
        ("GRU", {"linear_before_reset": 1}, Recurrent("gru", 5, 3)),
        ("GRU", {"linear_before_reset": 0, "layout": 1}, Recurrent("gru", 5, 3, reset_after=False)),
        ("GRU", {}, Recurrent("gru", 5, 3, reset_after=False, bias=False)),
        ("RNN", {"activations": ["Relu"]}, Recurrent("rnn", 5, 3, activation="relu")),
    ],
)
def test_nodes(kind: str, options: dict[str, Any], spec: Recurrent) -> None:
    blocks_of = Recurrent(**{**spec.options(), "activation": "tanh"})
    file, blocks = onnx_file(kind, blocks_of, **options)
    reading = one(file)
    assert reading.spec == spec
    helpers.assert_same_numbers(reading.parameters(file).effective(), helpers.effective(blocks_of, blocks))


@pytest.mark.parametrize(
    ("alpha", "name", "ours"),
    [
        ([0.2], "HardSigmoid", "hard_sigmoid_keras2"),
        ([], "HardSigmoid", "hard_sigmoid_keras2"),
        ([float(np.float32(1 / 6))], "HardSigmoid", "hard_sigmoid"),
    ],
)
def test_activations_of_nodes(alpha: list[float], name: str, ours: str) -> None:
    file, _ = onnx_file("LSTM", Recurrent("lstm", 5, 3), activations=[name, "Tanh", "Tanh"], activation_alpha=alpha)
    assert one(file).spec == Recurrent("lstm", 5, 3, recurrent_activation=ours)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"direction": "reverse"}, "reads time backwards"),
        ({"clip": 3.0}, "clip=3.0"),
        ({"input_forget": 1}, "input_forget=1"),
        ({"activations": ["Sigmoid", "Tanh", "Relu"]}, "must have the same"),
        ({"activations": ["Sigmoid"]}, "1 activations where ONNX asks for 3"),
        ({"activations": ["LeakyRelu", "Tanh", "Tanh"]}, "LeakyRelu with alpha=0.01"),
        ({"not_constant": ["W"]}, "are not constant"),
        ({"direction": "bidirectional"}, "do not fit"),
    ],
)
def test_nodes_that_are_not_modelled(options: dict[str, Any], why: str) -> None:
    layer = only(onnx_file("LSTM", Recurrent("lstm", 5, 3), **options)[0])
    assert layer.readings == ()
    assert why in layer.refused


def test_peepholes_are_refused() -> None:
    layer = only(onnx_file("LSTM", Recurrent("lstm", 5, 3), {"P": random(1, 9)})[0])
    assert "peepholes" in layer.refused


def test_dense_nodes() -> None:
    arrays = arrays_of({"a": (5, 3), "b": (2, 3), "c": (2,)})
    layers_ = (
        StoredLayer("m", "MatMul", {}, {"kernel": "a"}),
        StoredLayer("g", "Gemm", {"transB": 1}, {"kernel": "b", "bias": "c"}),
    )
    found = look(file_of(arrays, "onnx", layers_))
    assert [told(layer) for layer in found.layers] == [[("keras", Dense(5, 3, bias=False))], [("torch", Dense(3, 2))]]
    scaled = StoredLayer("g", "Gemm", {"transB": 1, "alpha": 2.0}, {"kernel": "b", "bias": "c"})
    assert [o.kind for o in look(file_of({k: arrays[k] for k in "bc"}, "onnx", (scaled,))).others] == ["Gemm"]


# ---- Real models.


@pytest.fixture(scope="module")
def models() -> Path:
    return find_models(os.environ)


DTLN_TORCH = {"lstm": "sep1.rnn1", "lstm_1": "sep1.rnn2", "lstm_2": "sep2.rnn1", "lstm_3": "sep2.rnn2"}
DTLN_SIZES = {"lstm": 257, "lstm_1": 128, "lstm_2": 256, "lstm_3": 128}


@pytest.mark.needs("torch")
def test_dtln(models: Path) -> None:
    keras, torch = look(load(models / "dtln/model.h5")), look(load(models / "dtln/model.pth"))
    ours, theirs = ({layer.name: layer for layer in found.layers} for found in (keras, torch))
    assert set(ours) == {*DTLN_TORCH, "dense", "dense_1"}
    assert set(theirs) == {*DTLN_TORCH.values(), "sep1.dense", "sep2.dense"}
    assert [o.kind for o in keras.others] == ["Convolution", "LayerNormalization", "Convolution"]
    assert not keras.unconsumed
    assert not torch.unconsumed
    for name, other in DTLN_TORCH.items():
        readings = ours[name].readings
        assert [r.spec.recurrent_activation for r in readings] == ["sigmoid", "hard_sigmoid_keras2"]
        assert readings[0].spec == Recurrent("lstm", DTLN_SIZES[name], 128)
        (reading,) = theirs[other].readings
        helpers.assert_same_numbers(
            readings[0].parameters(keras.file).effective(), reading.parameters(torch.file).effective()
        )
    for name, other in (("dense", "sep1.dense"), ("dense_1", "sep2.dense")):
        (a,), (b,) = ours[name].readings, theirs[other].readings
        assert a.spec == b.spec
        assert np.array_equal(
            a.parameters(keras.file)[Key(0, 0, "kernel", "")], b.parameters(torch.file)[Key(0, 0, "kernel", "")]
        )


def test_dtln_onnx(models: Path) -> None:
    keras = look(load(models / "dtln/model.h5"), recurrent_activation="sigmoid")
    onnx = look(load(models / "dtln/model_1.onnx"))
    for theirs, ours in (("lstm_4", "lstm"), ("lstm_5", "lstm_1")):
        (a,) = next(layer for layer in onnx.layers if layer.name == theirs).readings
        (b,) = next(layer for layer in keras.layers if layer.name == ours).readings
        assert a.spec == b.spec
        helpers.assert_same_numbers(a.parameters(onnx.file).effective(), b.parameters(keras.file).effective())
    assert any(told(layer) == [("keras", Dense(128, 257))] for layer in onnx.layers)
    look(load(models / "dtln/model_2.onnx"))


def test_textgenrnn(models: Path) -> None:
    found = look(load(models / "textgenrnn/hacker_news.hdf5"))
    assert [(layer.name, told(layer)) for layer in found.layers] == [
        ("rnn_1", [("keras-cudnn", Recurrent("lstm", 100, 128))]),
        ("rnn_2", [("keras-cudnn", Recurrent("lstm", 128, 128))]),
        ("output", [("keras", Dense(356, 465))]),
    ]
    assert [o.kind for o in found.others] == ["Embedding"]
    assert [name.split("/")[0] for name in found.unconsumed] == ["attention"]


def test_g2p(models: Path) -> None:
    file = load(models / "g2p/checkpoint20.npz")
    found = look(file, packing="torch")
    assert [(layer.name, told(layer)) for layer in found.layers] == [
        ("enc", [("torch", Recurrent("gru", 256, 256))]),
        ("dec", [("torch", Recurrent("gru", 256, 256))]),
        ("fc", [("torch", Dense(256, 74))]),
    ]
    assert [len(layer.readings) for layer in look(file).layers] == [3, 3, 1]
    assert [o.kind for o in found.others] == ["Embedding", "Embedding"]


def test_table_of_the_order_without_directions() -> None:
    """ONNX's W, R and B with one direction hold what the separate arrays hold."""
    spec = Recurrent("gru", 5, 3)
    blocks = helpers.whole_numbers(spec, 4)
    onnx, arrays = dict(pack(PACKINGS["onnx"], spec, blocks)), dict(pack(onnx_arrays(), spec, blocks))
    assert np.array_equal(onnx["W"][0], arrays["W[0]"])
    assert np.array_equal(onnx["R"][0], arrays["R[0]"])
    assert np.array_equal(onnx["B"][0], np.concatenate([arrays["Wb[0]"], arrays["Rb[0]"]]))
    with pytest.raises(UnsupportedError):
        onnx_arrays().natives(Recurrent("lstm", 5, 3, proj_size=2))


# ---- Kinds of layers, by their own names and their shapes.


def test_a_linear_layer_below_what_sounds_like_convolutions() -> None:
    shapes = {
        "en_convs.0.0.weight": (4, 3, 2),
        "en_convs.0.0.bias": (4,),
        "en_convs.0.1.weight": (6, 4),
        "en_convs.0.1.bias": (6,),
        "en_convs.0.2.weight": (6,),
        "en_convs.0.2.bias": (6,),
        "embed_net.3.weight": (9, 6),
        "embed_net.3.bias": (9,),
    }
    found = look(file_of(arrays_of(shapes), "torch"))
    assert [(o.name, o.kind) for o in found.others] == [
        ("en_convs.0.0", "Convolution"),
        ("en_convs.0.2", "Normalization"),
    ]
    assert [(layer.name, told(layer)) for layer in found.layers] == [
        ("en_convs.0.1", [("torch", Dense(4, 6))]),
        ("embed_net.3", [("torch", Dense(6, 9))]),
    ]


@pytest.mark.parametrize("name", ["embedding", "encoder", "word_embeds", "lookup"])
def test_a_table_of_any_name(name: str) -> None:
    """Six numbers a row are what the GRU reads, and nothing puts out as many."""
    file = file_of(arrays_of({f"{name}.weight": (20, 6)}) | torch_gru("rnn.", d=6, n=5), "torch")
    found = look(file)
    assert [(o.name, o.kind) for o in found.others] == [(name, "Embedding")]
    assert [layer.name for layer in found.layers] == ["rnn"]


@pytest.mark.parametrize(
    ("name", "shape", "n", "table"),
    [
        ("decoder", (20, 5), 5, False),  # what the GRU puts out, and not what it reads
        ("fc", (20, 6), 5, False),  # its name tells
        ("lookup", (20, 6), 6, True),  # what it reads and what it puts out
    ],
)
def test_a_matrix_that_may_be_no_table(name: str, shape: tuple[int, int], n: int, table: bool) -> None:
    found = look(file_of(arrays_of({f"{name}.weight": shape}) | torch_gru("rnn.", d=6, n=n), "torch"))
    dense = next(layer for layer in found.layers if layer.name == name)
    assert told(dense) == [("torch", Dense(shape[1], shape[0], bias=False))]
    assert dense.table == table == any("table" in warning for warning in dense.warnings)


def test_cells_of_tensorflow_1_by_names_of_ones_own() -> None:
    """Only a recurrent layer has directions."""
    shapes = {f"rnn/{d}/{k}": s for d in ("bw", "fw") for k, s in (("kernel", (8, 12)), ("bias", (12,)))}
    for choices in ({}, {"packing": "tf1", "cell": "lstm"}):
        layer = only(file_of(arrays_of(shapes)), **choices)
        assert told(layer) == [("tf1", Recurrent("lstm", 5, 3, bidirectional=True))]


def test_a_stack_in_each_direction_is_no_layer_of_two() -> None:
    """The second cell of each direction reads the first of that direction alone: 3 numbers, not 6."""
    shapes = {
        f"bidirectional_rnn/{d}/multi_rnn_cell/cell_{i}/lstm_cell/{k}": s
        for d in ("bw", "fw")
        for i, rows in ((0, 8), (1, 6))
        for k, s in (("kernel", (rows, 12)), ("bias", (12,)))
    }
    found = look(file_of(arrays_of(shapes), "tensorflow"))
    assert [(layer.name.split("/")[1], told(layer)) for layer in found.layers] == [
        (d, [("tf1", Recurrent("lstm", size, 3))]) for d in ("bw", "fw") for size in (5, 3)
    ]
    alone = {name: shape for name, shape in shapes.items() if "cell_0" in name}
    assert told(only(file_of(arrays_of(alone), "tensorflow"))) == [("tf1", Recurrent("lstm", 5, 3, bidirectional=True))]


def test_numbered_tensors_are_cut_so_that_none_is_left() -> None:
    """A dense layer and a GRU: the first three look like a SimpleRNN, which would leave two that are nothing."""
    shapes = [(7, 9), (9,), (9, 9), (3, 9), (2, 9)]
    file = file_of(arrays_of({f"all/{i}": shape for i, shape in enumerate(shapes)}), "tensorflow")
    found = look(file)
    assert not found.unconsumed
    assert ("keras", Dense(7, 9)) in told(found.layers[0])
    assert ("keras", Recurrent("gru", 9, 3)) in told(found.layers[1])
    assert all(reading.packing.name != "flax" for layer in found.layers for reading in layer.readings)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("rnn/lstm_cell/kernel", {"rnn/lstm_cell/w_f_diag": (3,), "rnn/lstm_cell/w_i_diag": (3,)}),
        ("rnn/lstm_cell/kernel", {"rnn/lstm_cell/norm/gamma": (12,)}),
        ("drop.module.weight_ih_l0", {"drop.weight_hh_l0_raw": (9, 3)}),
        ("drop.weight_ih_l0", {"drop.weight_hh_l0_raw": (9, 3)}),
    ],
)
def test_what_is_inside_a_layer_may_change_what_it_computes(name: str, more: dict[str, tuple[int, ...]]) -> None:
    """Peepholes, norms and dropped weights: the layer without them is another one."""
    tf1 = name.endswith("kernel")
    own = arrays_of({name: (8, 12), name.replace("kernel", "bias"): (12,)}) if tf1 else torch_gru(name[:-12])
    format_ = "tensorflow" if tf1 else "torch"
    assert only(file_of(own, format_)).readings
    layer = only(file_of(own | arrays_of(more), format_))
    assert not layer.readings
    assert all(repr(tensor) in layer.refused for tensor in more)


def test_what_an_optimiser_keeps_for_a_weight_is_not_inside_the_layer() -> None:
    arrays = arrays_of(
        {"rnn/lstm_cell/kernel": (8, 12), "rnn/lstm_cell/bias": (12,), "rnn/lstm_cell/kernel/Adam": (8, 12)}
    )
    found = look(file_of(arrays, "tensorflow"))
    assert told(found.layers[0]) == [("tf1", Recurrent("lstm", 5, 3))]
    assert found.unconsumed == ("rnn/lstm_cell/kernel/Adam",)


# ---- Arrays of programs without a framework.


def test_names_of_theano_s_tutorial_leave_the_order_open() -> None:
    """The tutorial has i f o c, and who took over its names may have Keras's i f c o."""
    spec = Recurrent("lstm", 5, 3)
    blocks = weights("theano", "lstm", spec)
    file = file_of({f"lstm_{k}": a for k, a in pack(THEANO, spec, blocks)})
    layer = only(file, recurrent_activation="sigmoid")
    assert told(layer) == [("keras", spec), ("theano", spec)]
    assert layer.undecided == ("packing",)
    assert is_true(one(file, packing="theano"), file, spec, blocks)
    elsewhere = file_of(arrays_of({"rnn_W": (5, 12), "rnn_U": (3, 12), "rnn_b": (12,)}))
    assert one(elsewhere, recurrent_activation="sigmoid").packing.name == "keras"


@pytest.mark.parametrize("packing", by_gate(), ids=lambda packing: packing.name)
@pytest.mark.parametrize("row", ["lstm", "gru", "gru/reset_before"])
def test_a_tensor_for_each_gate(packing: Any, row: str) -> None:
    options = {"reset_after": row == "gru"} if row != "lstm" else {}
    spec = Recurrent(row.split("/")[0], 5, 3, **options)
    blocks = weights("gates", row, spec)
    if row == "gru":  # it has one bias, added before the reset
        blocks |= {k: np.zeros_like(v) for k, v in blocks.items() if k.role == "recurrent_bias"}
    file = file_of(dict(pack(packing, spec, blocks)))
    reading = one(file, **options)
    assert reading.packing.name == packing.name
    assert is_true(reading, file, spec, blocks)


def test_another_name_of_a_recurrent_kernel() -> None:
    shapes = {"gru1_kernel": (5, 9), "gru1_rec_kernel": (3, 9), "gru1_bias": (2, 9)}
    assert one(file_of(arrays_of(shapes)), recurrent_activation="sigmoid").spec == Recurrent("gru", 5, 3)
