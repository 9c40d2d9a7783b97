"""Every kind of node: read from Keras, run beside the live model, written to each target, proven, and read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as k
from keras import ops

from xframe.errors import UnsupportedError
from xframe.files import load
from xframe.graph import Graph, graph_of_model, running
from xframe.graph.keras import graph_of
from xframe.graph.probing import held
from xframe.judging import LIMIT
from xframe.noise import ratio
from xframe.proof import Trial, check_understood, tried
from xframe.recognition import recognise
from xframe.writers import write

pytestmark = pytest.mark.needs("keras", "torch")

Function = Callable[..., Any]
FILES = {"torch": "weights.safetensors", "npz": "weights.npz", "keras": "model.keras"}
T = k.TimeDistributed
IMAGE, SEQUENCE, FREE = (9, 7, 2), (6, 4), (None, 4)


def of(function: Function, *shapes: tuple[int | None, ...], words: bool = False) -> Callable[[], keras.Model]:
    """A model of what a function makes of inputs of these shapes."""

    def made() -> keras.Model:
        given = [keras.Input(shape, dtype="int32" if words else "float32") for shape in shapes]
        return keras.Model(given[0] if len(given) == 1 else given, function(*given))

    return made


def row(shape: tuple[int | None, ...], *layers: Callable[[], Any]) -> Callable[[], keras.Model]:
    """A model of layers one behind the other."""

    def function(x: Any) -> Any:
        for layer in layers:
            x = layer()(x)
        return x

    return of(function, shape)


def attending(layer: Callable[[], Any], masked: bool = False, three: bool = False, **options: Any) -> Any:
    """A model of two embeddings, of which one attends to the other; with ``three`` the key is another value."""

    def function(a: Any, b: Any) -> Any:
        query, value = (k.Embedding(9, 4, mask_zero=masked)(words) for words in (a, b))
        given = [query, value, *([k.Dense(4)(value)] if three else [])]
        made = layer()
        listed = isinstance(made, k.Attention | k.AdditiveAttention)
        found = made(given, **options) if listed else made(*given, **options)
        return list(found) if isinstance(found, tuple) else found

    return of(function, (None,), (None,), words=True)


def adapted(axis: Any) -> Callable[[], keras.Model]:
    """A model with statistics of data."""

    def function(x: Any) -> Any:
        layer = k.Normalization(axis=axis)
        layer.adapt(np.random.default_rng(0).normal(3, 2, (20, 6, 4)).astype("float32"))
        return layer(x)

    return of(function, SEQUENCE)


def halves(layer: Any) -> Any:
    return k.Bidirectional(layer, merge_mode=None)


def from_states(x: Any) -> Any:
    y, h, c = k.ConvLSTM2D(3, (2, 3), padding="same", return_state=True)(x)
    z = k.ConvLSTM2D(3, 2, padding="same", return_sequences=True)(x, initial_state=[h, c])
    return [y, z, c]


def beside(x: Any) -> Any:
    """One value that is read twice, of which time is folded once."""
    a = T(k.Conv1D(3, 2, padding="causal"))(x)
    return [k.Add()([a, T(k.Dense(3))(x)]), a]


CONVOLUTIONS = {
    "conv2d same": row(IMAGE, lambda: k.Conv2D(3, (3, 2), padding="same", activation="relu")),
    "conv2d stride groups": row(IMAGE, lambda: k.Conv2D(4, 3, strides=2, groups=2, use_bias=False)),
    "conv2d same stride": row((9, 8, 2), lambda: k.Conv2D(4, 3, strides=(2, 3), padding="same")),
    "conv2d same dilated": row((9, 8, 2), lambda: k.Conv2D(4, 3, dilation_rate=2, padding="same")),
    "conv3d": row((5, 6, 4, 2), lambda: k.Conv3D(3, (2, 3, 2), padding="same")),
    "depthwise 1d": row((9, 3), lambda: k.DepthwiseConv1D(3, depth_multiplier=2, padding="same")),
    "depthwise 2d": row((9, 5, 3), lambda: k.DepthwiseConv2D((3, 2), depth_multiplier=2, strides=2)),
    "separable 2d": row((9, 8, 3), lambda: k.SeparableConv2D(4, 3, activation="tanh")),
    "transposed same": row((9, 3), lambda: k.Conv1DTranspose(4, 3, strides=2, padding="same")),
    "transposed valid": row((9, 3), lambda: k.Conv1DTranspose(4, 5, strides=2)),
    "transposed sparse": row((9, 3), lambda: k.Conv1DTranspose(4, 2, strides=3, padding="same")),
    "transposed 2d": row((5, 4, 3), lambda: k.Conv2DTranspose(2, (3, 4), strides=(2, 1), padding="same")),
    "max pool": row((None, 3), lambda: k.MaxPooling1D(2), lambda: k.GRU(3)),
    "max pool same": row((9, 7, 3), lambda: k.MaxPooling2D((2, 3), padding="same")),
    "average pool same": row((9, 3), lambda: k.AveragePooling1D(3, strides=2, padding="same")),
    "average pool": row((9, 7, 3), lambda: k.AveragePooling2D((2, 3), strides=1)),
    "global average": row((9, 7, 3), lambda: k.GlobalAveragePooling2D()),
    "global max": row((9, 7, 3), lambda: k.GlobalMaxPooling2D(keepdims=True)),
}
ATTENTION = {
    "dot": attending(lambda: k.Attention()),
    "dot scaled masked": attending(lambda: k.Attention(use_scale=True), True, True),
    "dot causal": attending(lambda: k.Attention(), use_causal_mask=True, return_attention_scores=True),
    "concat masked": attending(lambda: k.Attention(score_mode="concat", use_scale=True), True),
    "additive": attending(lambda: k.AdditiveAttention()),
    "heads": attending(lambda: k.MultiHeadAttention(2, 3)),
    "heads masked": attending(lambda: k.MultiHeadAttention(2, 3, value_dim=5, output_shape=6), True, True),
    "heads causal": attending(lambda: k.MultiHeadAttention(2, 3, dropout=0.1), True, use_causal_mask=True),
    "heads weights": attending(lambda: k.MultiHeadAttention(2, 3), True, return_attention_scores=True),
    "grouped heads": attending(lambda: k.GroupQueryAttention(3, 4, 2), True, use_causal_mask=True),
}
OPERATIONS = {
    "slice": of(lambda x: k.LSTM(3, return_sequences=True)(x)[:, 1:4, ::2], SEQUENCE),
    "slice place": of(lambda x: x[:, -2] * 1.5 + 0.5, SEQUENCE),
    "flip": of(lambda x: k.GRU(3)(x[:, ::-1]), SEQUENCE),
    "arithmetic": of(lambda x: (2.0 - x) / 4.0 + 1.0 / (x * x + 1.0), SEQUENCE),
    "power": of(lambda x: (x * x + 0.5) ** 1.5, SEQUENCE),
    "binary": of(lambda a, b: (a + b) * (a - b) / (ops.square(b) + 1.0), SEQUENCE, SEQUENCE),
    "broadcast": of(lambda a, b: a * b, SEQUENCE, (6, 1)),
    "functions": of(lambda x: ops.exp(-ops.abs(x)) + ops.sqrt(ops.square(x) + 1) + ops.sin(x), SEQUENCE),
    "reductions": of(lambda x: ops.concatenate([ops.mean(x, axis=1), ops.sum(x, 1), ops.max(x, 1)], axis=-1), SEQUENCE),
    "kept axes": of(lambda x: ops.mean(x, axis=[1, 2], keepdims=True) * x, SEQUENCE),
    "softmax over time": of(lambda x: ops.softmax(k.Dense(1)(x), axis=1) * x, SEQUENCE),
    "softmax layer": row((5, 6, 4), lambda: k.Softmax(axis=2)),
    "squeezed": of(lambda x: ops.squeeze(ops.expand_dims(x, 1), axis=1) + 0.5, SEQUENCE),
    "transposed": of(lambda x: ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, 12, 2)), SEQUENCE),
    "stack": of(lambda a, b: ops.stack([a, b], axis=2), SEQUENCE, SEQUENCE),
    "matmul": of(lambda a, b: ops.matmul(a, ops.transpose(b, (0, 2, 1))), SEQUENCE, (5, 4)),
    "pad": row((5, 4, 2), lambda: k.ZeroPadding2D(((1, 0), (2, 3)))),
    "crop": row((5, 4, 2), lambda: k.Cropping2D(((1, 0), (0, 2)))),
    "upsample": row((5, 4, 2), lambda: k.UpSampling2D((2, 3))),
    "rescaled masked": row((None, 3), lambda: k.Masking(), lambda: k.Rescaling(0.5, 0.25), lambda: k.LSTM(4)),
    "unit norm": row(SEQUENCE, lambda: k.UnitNormalization()),
    "split": of(lambda x: k.Concatenate()(ops.split(x, 3, axis=-1)[::-2]), (5, 6)),
    "split at": of(lambda x: [(parts := ops.split(x, [2], axis=1))[0], k.LSTM(3)(parts[1])], (5, 6)),
}
PRODUCTS = {
    "dot of axes": of(lambda a, b: k.Dot(axes=(1, 2))([a, b]), SEQUENCE, (5, 6)),
    "cosine": of(lambda a, b: k.Dot(axes=(1, 2), normalize=True)([a, b]), SEQUENCE, (5, 6)),
    "cosine of vectors": of(lambda a, b: k.Dot(axes=-1, normalize=True)([a, b]), (5,), (5,)),
    "dot of more axes": of(lambda a, b: k.Dot(axes=(2, 1))([a, b]), (3, 4, 5), (4, 2)),
    "einsum": of(lambda a, b: ops.einsum("bij,bkj->bik", a, b), SEQUENCE, (5, 4)),
    "einsum of any axes": of(lambda a, b: ops.einsum("...ij,...kj->...ik", a, b), SEQUENCE, (5, 4)),
    "einsum dense": row(FREE, lambda: k.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation="tanh")),
    "einsum dense of any axes": row((3, 6, 4), lambda: k.EinsumDense("...x,xy->...y", 5, bias_axes="y")),
    "einsum dense heads": row(SEQUENCE, lambda: k.EinsumDense("abc,cde->abde", (None, 2, 5), bias_axes="de")),
    "einsum dense turned": row(SEQUENCE, lambda: k.EinsumDense("abc,cd->adb", (5, 6), bias_axes="d")),
    "einsum dense of all": row(SEQUENCE, lambda: k.EinsumDense("abc,bcd->ad", 5)),
}
NORMS = {
    "groups": row((5, 4, 6), lambda: k.GroupNormalization(2, epsilon=1e-2, scale=False)),
    "groups of time": row((6, 5, 4), lambda: k.GroupNormalization(3, axis=1)),
    "groups of one": row((None, 6), lambda: k.GroupNormalization(-1)),
    "root mean square": row((5, 6, 4), lambda: k.RMSNormalization(axis=(2, 3))),
    "layer": row(SEQUENCE, lambda: k.LayerNormalization()),
    "layer over time": row((5, 6, 4), lambda: k.LayerNormalization(axis=1)),
    "layer over axes": row((5, 6, 4), lambda: k.LayerNormalization(axis=(1, 3), center=False)),
    "batch": row((5, 6, 4), lambda: k.BatchNormalization()),
    "batch of axis": row((5, 6, 4), lambda: k.BatchNormalization(axis=2, scale=False)),
    "given": row((5, 3), lambda: k.Normalization(mean=[1.0, 2.0, 0.5], variance=[1.0, 0.3, 2.0])),
    "given for all": row((5, 3), lambda: k.Normalization(axis=None, mean=2.0, variance=3.0)),
    "inverted": row((5, 3), lambda: k.Normalization(invert=True, mean=[1.0, 2.0, 0.5], variance=[1.0, 0.3, 2.0])),
    "adapted": adapted((1, 2)),
    "adapted for all": adapted(None),
    "parametric relu": row((5, 4, 3), lambda: k.PReLU(shared_axes=[1, 3])),
    "spatial dropout": row(IMAGE, lambda: k.SpatialDropout2D(0.2), lambda: k.Conv2D(3, 2)),
}
DISTRIBUTED = {
    "each image": row(
        (None, 6, 7, 2), lambda: T(k.Conv2D(3, (3, 2), activation="relu")), lambda: T(k.Flatten()), lambda: k.LSTM(4)
    ),
    "each pool": row((3, 6, 7, 2), lambda: T(k.MaxPooling2D(2)), lambda: T(k.GlobalAveragePooling2D())),
    "each separable": row((3, 9, 8, 3), lambda: T(k.SeparableConv2D(4, 3, activation="tanh"))),
    "each shape": row((3, 6, 2), lambda: T(k.Reshape((4, 3))), lambda: T(k.Permute((2, 1)))),
    "each groups": row((3, 5, 6), lambda: T(k.GroupNormalization(3)), lambda: T(k.GlobalAveragePooling1D())),
    "each batch": row((3, 6, 2), lambda: T(k.BatchNormalization()), lambda: T(k.Dense(3, activation="softmax"))),
    "each repeat": row((3, 6), lambda: T(k.RepeatVector(2)), lambda: T(k.Dropout(0.2))),
    "each padded": row((3, 6, 2), lambda: T(k.ZeroPadding1D((1, 2))), lambda: T(k.UpSampling1D(2))),
    "each beside another": of(beside, (4, 6, 2)),
    "each masked": row((None, 3), lambda: k.Masking(), lambda: T(k.LayerNormalization()), lambda: k.LSTM(4)),
}
RECURRENT = {
    "conv lstm 1d": row((None, 7, 2), lambda: k.ConvLSTM1D(3, 3, padding="same", return_sequences=True, dropout=0.1)),
    "conv lstm 2d": row(
        (4, 6, 7, 2),
        lambda: k.ConvLSTM2D(3, (2, 3), return_sequences=True, go_backwards=True),
        lambda: k.ConvLSTM2D(2, 2, padding="same", activation="relu", recurrent_activation="hard_sigmoid"),
    ),
    "conv lstm stride": row((3, 6, 7, 2), lambda: k.ConvLSTM2D(3, 3, strides=(2, 1), use_bias=False, padding="same")),
    "conv lstm dilated": row((3, 6, 7, 2), lambda: k.ConvLSTM2D(3, (2, 3), dilation_rate=2)),
    "conv lstm states": of(from_states, (3, 5, 6, 2)),
    "halves": of(lambda x: halves(k.LSTM(3))(x), FREE),
    "halves of sequences": of(lambda x: halves(k.GRU(3, return_sequences=True))(x)[::-1], FREE),
    "halves and states": of(lambda x: halves(k.LSTM(3, return_state=True, return_sequences=True))(x), FREE),
}
MODELS = {**CONVOLUTIONS, **ATTENTION, **OPERATIONS, **PRODUCTS, **NORMS, **DISTRIBUTED, **RECURRENT}
# What ONNX cannot, and with which word it is refused.
LACKING = {
    **dict.fromkeys((name for name in RECURRENT if name.startswith("conv lstm")), "LSTM that convolves"),
    **dict.fromkeys(("each masked", "rescaled masked"), "takes masks as lengths"),
}


def made(name: str) -> keras.Model:
    """The model, with weights that are all distinct and not zero."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    model, random = MODELS[name](), np.random.default_rng(2)
    for variable in model.weights:
        drawn = random.uniform(0.1, 0.6, variable.shape)
        if "count" not in variable.path:
            variable.assign(drawn if "variance" in variable.path else drawn * random.choice([-1.0, 1.0], drawn.shape))
    for layer in model.layers:
        if isinstance(layer, k.Normalization):
            layer.finalize_state()  # which takes the weights that were assigned
    return model


def read(path: Path) -> Graph:
    return held(graph_of(recognise(load(path))))


def proven(graph: Graph, folder: Path, to: str) -> list[Trial]:
    """The runs of what is written."""
    folder.mkdir()
    write(graph, folder, to)
    return tried(graph, folder, to, "float32").trials


def outputs(graph: Graph) -> list[np.ndarray]:
    """What a graph makes of inputs that have its shapes, whatever it calls them."""
    return list(running.run(graph, running.probe(graph, 2, 5)).values())


def assert_equal(graph: Graph, other: Graph) -> None:
    """Both compute the same from the same numbers."""
    before, after = outputs(graph), outputs(other)
    assert len(before) == len(after)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def assert_noise_hides_nothing(graph: Graph) -> None:
    """Rounding of float32, 1e-7 or so, does not become a ten-thousandth in models of so few nodes."""
    given = running.probe(graph, 4, 5)
    exact = running.run(graph, given, "float64")
    for name, (clean, deviation) in running.noise(graph, given, "float32").items():
        np.testing.assert_allclose(clean, exact[name], rtol=1e-9, atol=1e-11)  # in which nothing is rounded
        assert np.isfinite(deviation).all()
        # A sample without a valid step looks at something that is far away, which float32 does not tell apart.
        assert np.median(deviation) < 1e-4 * np.abs(clean).max()


@pytest.mark.parametrize("name", MODELS)
def test_is_the_live_model_and_what_is_written_is_the_same_and_read_back(name: str, tmp_path: Path) -> None:
    model = made(name)
    model.save(tmp_path / "model.keras")
    graph = read(tmp_path / "model.keras")
    check_understood(model, graph)
    assert_equal(graph, held(graph_of_model(model)))
    assert_noise_hides_nothing(graph)
    for to in ("torch", "onnx", "npz"):
        if to == "onnx" and name in LACKING:
            with pytest.raises(UnsupportedError, match=LACKING[name]):
                write(graph, tmp_path, to)
            continue
        trials = proven(graph, tmp_path / to, to)
        assert {trial.status for trial in trials} == {"equivalent"}, [trial.reason for trial in trials]
        assert any(trial.shows for trial in trials)
        # An archive without an array says nothing of what it is.
        if to in FILES and (to == "torch" or any(node.params() for node in graph.nodes)):
            assert_equal(graph, read(tmp_path / to / FILES[to]))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_keras_gets_back_what_it_gave(name: str, tmp_path: Path) -> None:
    graph = held(graph_of_model(made(name)))
    trials = proven(graph, tmp_path / "keras", "keras")
    assert {trial.status for trial in trials} == {"equivalent"}, [trial.reason for trial in trials]
    again, given = read(tmp_path / "keras" / FILES["keras"]), running.probe(graph, 2, 5)
    renamed = dict(zip([one.name for one in again.inputs], given.values(), strict=True))
    found = running.run(again, renamed, "float64").values()
    for y, (clean, deviation) in zip(found, running.noise(graph, given, "float32").values(), strict=True):
        assert ratio(y, clean, deviation).max() <= LIMIT


SMALL = {
    "unit norm": (row((3,), lambda: k.UnitNormalization()), 1e-9),
    "unit norm beyond": (row((3,), lambda: k.UnitNormalization()), 1e-13),
    "cosine": (of(lambda x: k.Dot(axes=-1, normalize=True)([x, x]), (3,)), 1e-8),
    "no variance": (row((3,), lambda: k.Normalization(mean=[0.0, 0.0, 0.0], variance=[0.0, 1e-9, 1e-20])), 1e-8),
}


@pytest.mark.parametrize("name", SMALL)
def test_what_is_divided_by_at_least(name: str) -> None:
    made_of, size = SMALL[name]
    model, x = made_of(), np.array([[1.0, -2.0, 0.5], [0.3, 0.7, -1.1]], "float32") * np.float32(size)
    found, wanted = running.sole(running.run(graph_of_model(model), x)), np.asarray(model(x))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert np.abs(found).max() > 1e-6


# Mistakes in what was written: the model, the target, and what in the source file becomes what.
MISTAKES = [
    ("conv2d same stride", "npz", "(total // 2, total - total // 2)", "(total - total // 2, total // 2)"),
    ("conv2d same stride", "torch", "[total // 2, total - total // 2", "[total - total // 2, total // 2"),
    ("max pool same", "torch", 'float("-inf")', "0.0"),
    ("average pool same", "torch", "ones_like(x), size, stride, once)", "ones_like(x), size, stride, once, 1.0)"),
    ("depthwise 1d", "npz", "stack(parts, axis=-1)", "stack(parts, axis=-2)"),
    ("transposed same", "npz", "// 2 for window", "for window"),
    ("softmax over time", "torch", "dim=-2", "dim=-1"),
    ("softmax layer", "npz", "-2, -1", "-3, -1"),
    ("dot scaled masked", "torch", ", value_mask=embedding_1_mask", ""),
    ("dot scaled masked", "npz", "value_mask=embedding_1_mask", "value_mask=None"),
    ("dot causal", "torch", ", causal=True", ""),
    ("dot causal", "npz", ", causal=True", ""),
    ("heads causal", "torch", "columns <= rows", "columns < rows"),
    ("layer", "torch", "eps=0.001", "eps=0.0"),
    ("layer over axes", "npz", "0.001,", "0.01,"),
    ("batch of axis", "torch", "eps=0.001", "eps=1e-05"),
    ("groups of time", "npz", "moveaxis(x, axis, 1)", "moveaxis(x, axis, 1)[:, ::-1]"),
    ("root mean square", "torch", "dim(), 0)", "dim(), -1)"),
    ("parametric relu", "torch", "self.weight * x)", "x)"),
    ("inverted", "npz", "inverted=True", "inverted=False"),
    ("rescaled masked", "npz", "x, mask)", "x)"),
    ("each groups", "npz", "x.shape[2:])\n    x = group", "x.shape[2:])[::-1]\n    x = group"),
    ("each image", "torch", "x.flatten(0, 1)", "x.transpose(0, 1).flatten(0, 1)"),
    ("conv lstm 2d", "torch", "i, f, g, o =", "i, g, f, o ="),
    ("conv lstm 2d", "npz", "go_backwards=True", "go_backwards=False"),
    ("einsum", "torch", "bij,bkj->bik", "bij,bkj->bki"),
    ("einsum dense turned", "npz", ' + weights["einsum_dense/bias"]', ""),
    ("halves", "torch", "[3]", "[2]"),
]


@pytest.mark.parametrize(("name", "to", "right", "wrong"), MISTAKES, ids=[f"{one[0]}-{one[1]}" for one in MISTAKES])
def test_a_mistake_in_what_was_written_is_seen(name: str, to: str, right: str, wrong: str, tmp_path: Path) -> None:
    graph = held(graph_of_model(made(name)))
    write(graph, tmp_path, to)
    source = tmp_path / "model.py"
    text = source.read_text()
    assert right in text, text
    source.write_text(text.replace(right, wrong))
    assert "different" in {trial.status for trial in tried(graph, tmp_path, to, "float32").trials}


# Mistakes in the graph: the model, the kind of its nodes, and the option that is another one.
OPTIONS = [
    ("conv2d same stride", "conv", {"padding": "valid"}),
    ("softmax over time", "softmax", {"axis": -1}),
    ("dot causal", "attention", {"causal": False}),
    ("heads weights", "multi_head_attention", {"empty": "average"}),
    ("layer", "layer_norm", {"epsilon": 1.1e-3}),
    ("groups", "group_norm", {"groups": 3}),
    ("groups", "group_norm", {"epsilon": 1.01e-2}),
    ("inverted", "standardize", {"inverted": False}),
    ("conv lstm 2d", "conv_lstm", {"go_backwards": False}),
    ("conv lstm dilated", "conv_lstm", {"activation": "softsign"}),
    ("einsum", "einsum", {"equation": "bij,bkj->bki"}),
    ("split", "split", {"at": (1, 4)}),
]


@pytest.mark.parametrize(("name", "kind", "options"), OPTIONS, ids=[f"{n}-{next(iter(o))}" for n, _, o in OPTIONS])
def test_another_option_is_seen(name: str, kind: str, options: Mapping[str, Any], tmp_path: Path) -> None:
    graph = held(graph_of_model(made(name)))
    nodes = [replace(one, options={**one.options, **options}) if one.kind == kind else one for one in graph.nodes]
    assert nodes != list(graph.nodes)
    write(replace(graph, nodes=tuple(nodes)), tmp_path, "npz")
    assert "different" in {trial.status for trial in tried(graph, tmp_path, "npz", "float32").trials}


@pytest.mark.parametrize(
    ("made_of", "why"),
    [
        (row((None, 3), lambda: k.Masking(), lambda: T(k.Softmax())), "is reached by a mask"),
        (row((3, 6, 2), lambda: T(k.Masking())), "makes a mask"),
        (
            row(FREE, lambda: k.Masking(), lambda: T(k.RepeatVector(2)), lambda: T(k.GlobalAveragePooling1D())),
            "would use",
        ),
        (row((6, 4, 4), lambda: k.RMSNormalization(axis=2)), "the last axes are"),
        (of(lambda x: halves(k.LSTM(3, return_sequences=True))(k.Masking()(x)), FREE), "leave the mask out"),
        (of(lambda a, b: ops.einsum("bij,ckj->bcik", a, b), SEQUENCE, (5, 4)), "the batch first"),
    ],
)
def test_what_is_not_modelled_is_refused(made_of: Callable[[], keras.Model], why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        graph_of_model(made_of())
