"""What people wrote when they moved a layer, wrong and mended, in nothing but the frameworks' own words and NumPy.

Each recipe is a function with the question's number for its name. None uses xframe, but o4 for a function that Keras lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import torch
from helpers import away_from_zero
from onnx import TensorProto, helper, numpy_helper

from xframe.keras import hard_sigmoid_keras2

BATCH, STEPS = 4, 6


class Recorded(NamedTuple):
    """Outputs that somebody has kept.

    ``y`` is the sequence (batch, time, features) or the last output (batch, features); ``lengths`` says how many steps of each
    row are no padding.
    """

    x: np.ndarray
    y: np.ndarray
    lengths: np.ndarray | None = None


class Filed(NamedTuple):
    """A model file: its name, what writes it, and what its layer puts out in the framework that it is of."""

    name: str
    write: Callable[[Path], object]
    kept: Recorded


class Asked(NamedTuple):
    """Two sides that differ as people had them, and two that agree; a side is a layer, `Recorded` or `Filed`."""

    wrong: tuple[Any, Any]
    right: tuple[Any, Any]


# ---- Layers as if they had been trained, and what they put out.


def drawn(shape: tuple[int, ...], fan: int, random: np.random.Generator) -> np.ndarray:
    return away_from_zero(random, shape, 0.7 if len(shape) == 1 else 1.5 / np.sqrt(fan))


def torch_layer(kind: str, *sizes: int, seed: int = 0, **options: Any) -> Any:
    """A layer of PyTorch with weights and biases that are distinct and not zero."""
    layer = getattr(torch.nn, kind)(*sizes, **{"batch_first": True, "dtype": torch.float64, **options})
    random = np.random.default_rng([seed, 1])
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.from_numpy(drawn(tuple(p.shape), p.shape[-1], random)))
    return layer


def keras_layer(kind: str, features: int, units: int, both_ways: bool = False, **options: Any) -> Any:
    """A layer of Keras, built, with weights and biases that are distinct and not zero."""
    dtype = options.setdefault("dtype", "float64")
    layer = getattr(keras.layers, kind)(units, **{"return_sequences": True, **options})
    layer = keras.layers.Bidirectional(layer, dtype=dtype) if both_ways else layer
    layer.build((None, None, features))
    random = np.random.default_rng(1)
    # The two rows of a GRU's bias are (2, 3 * units): two vectors, not a kernel.
    sizes = [(w.shape, 4 if w.shape[0] == 2 else w.shape[0]) for w in layer.weights]
    layer.set_weights([drawn(tuple(shape), fan, random) for shape, fan in sizes])
    return layer


def arrays(layer: Any) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name."""
    return {name: p.detach().numpy() for name, p in layer.named_parameters()}


def loaded(layer: Any, **weights: np.ndarray) -> Any:
    """A layer of PyTorch with the weights given and zeros in the others."""
    with torch.no_grad():
        for name, p in layer.named_parameters():
            p.copy_(torch.from_numpy(np.ascontiguousarray(weights[name])) if name in weights else torch.zeros_like(p))
    return layer


def given(features: int, dtype: str = "float64") -> np.ndarray:
    return away_from_zero(np.random.default_rng(2), (BATCH, STEPS, features), 1.5).astype(dtype)


def valid(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The mask (batch, time) of sequences of these lengths."""
    return np.arange(x.shape[1]) < lengths[:, None]


def ran(layer: Any, x: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    """What a layer puts out, (batch, time, features), or the last output of a Keras layer without return_sequences."""
    if isinstance(layer, keras.layers.Layer):
        mask = {} if lengths is None else {"mask": valid(x, lengths)}
        return np.asarray(keras.ops.convert_to_numpy(layer(x, **mask)))
    with torch.no_grad():
        return layer(torch.from_numpy(x))[0].numpy()


def recorded(layer: Any, x: np.ndarray) -> Recorded:
    return Recorded(x, ran(layer, x))


def blocks(kernel: np.ndarray, gates: int) -> list[np.ndarray]:
    """The gates of a weight of Keras."""
    return np.split(kernel, gates, axis=-1)


def reordered(array: np.ndarray, order: tuple[int, ...], axis: int = -1) -> np.ndarray:
    """The gates of a weight in another order."""
    parts = np.split(array, len(order), axis=axis)
    return np.concatenate([parts[i] for i in order], axis=axis)


# Gates z r h, as in Keras, cuDNN and ONNX, to PyTorch's r z n, and back.
RZN = (1, 0, 2)


# ---- T1 to T3: between PyTorch and Keras.


def t1() -> Asked:
    """A bidirectional LSTM of PyTorch in Keras, which has three tensors a direction: one of four is left over."""
    source = torch_layer("LSTM", 512, 64, bidirectional=True)
    w = arrays(source)

    def filled(bias: Callable[[str], np.ndarray]) -> Any:
        layer = keras_layer("LSTM", 512, 64, both_ways=True)
        halves = [[w[f"weight_ih_l0{d}"].T, w[f"weight_hh_l0{d}"].T, bias(d)] for d in ("", "_reverse")]
        layer.set_weights(halves[0] + halves[1])
        return layer

    wrong = filled(lambda d: w[f"bias_ih_l0{d}"])
    right = filled(lambda d: w[f"bias_ih_l0{d}"] + w[f"bias_hh_l0{d}"])
    return Asked((source, wrong), (source, right))


def _lstm_of_torch(source: Any, bias_ih: np.ndarray, bias_hh: np.ndarray) -> Any:
    kernel, recurrent_kernel, _ = source.get_weights()
    layer = torch_layer("LSTM", kernel.shape[0], recurrent_kernel.shape[0])
    return loaded(layer, weight_ih_l0=kernel.T, weight_hh_l0=recurrent_kernel.T, bias_ih_l0=bias_ih, bias_hh_l0=bias_hh)


def t2() -> Asked:
    """Keras's one bias for both of PyTorch's."""
    source = keras_layer("LSTM", 20, 32)
    bias = source.get_weights()[2]
    return Asked(
        (source, _lstm_of_torch(source, bias, bias)), (source, _lstm_of_torch(source, bias, np.zeros_like(bias)))
    )


def t2_splits() -> list[tuple[Any, Any]]:
    """Other ways to split one bias over two; all of them are right."""
    source = keras_layer("LSTM", 20, 32)
    bias = source.get_weights()[2]
    part = drawn(bias.shape, 1, np.random.default_rng(5))
    splits = [(bias / 2, bias / 2), (bias - part, part), (np.zeros_like(bias), bias)]
    return [(source, _lstm_of_torch(source, *split)) for split in splits]


def t2_tanh() -> Asked:
    """A tanh after PyTorch's LSTM, because Keras's has an activation."""
    source = keras_layer("LSTM", 20, 32)
    bias, x = source.get_weights()[2], given(20)
    layer = _lstm_of_torch(source, bias, np.zeros_like(bias))
    out = ran(layer, x)
    return Asked((source, Recorded(x, np.tanh(out))), (source, Recorded(x, out)))


def _gru_of_keras(w: dict[str, np.ndarray], sizes: tuple[int, ...], order: tuple[int, ...]) -> Any:
    """A stack of GRUs of Keras with PyTorch's gates in the order given."""
    layers = []
    for k, (features, units) in enumerate(pairwise(sizes)):
        layer = keras_layer("GRU", features, units)
        biases = [w[f"bias_ih_l{k}"], w[f"bias_hh_l{k}"]]
        kernels = [w[f"weight_ih_l{k}"].T, w[f"weight_hh_l{k}"].T, np.stack(biases)]
        layer.set_weights([reordered(a, order) for a in kernels])
        layers.append(layer)
    return keras.Sequential([keras.Input((None, sizes[0]), dtype="float64"), *layers])


def t3() -> Asked:
    """A GRU of two layers, transposed as the LSTM was, which had been right."""
    source = torch_layer("GRU", 80, 64, num_layers=2)
    w = arrays(source)
    sizes = (80, 64, 64)
    return Asked((source, _gru_of_keras(w, sizes, (0, 1, 2))), (source, _gru_of_keras(w, sizes, RZN)))


# ---- T4 and T8: the layers that Keras 2 had for cuDNN, from a file.


def cudnn(gates: int, features: int, units: int) -> list[np.ndarray]:
    """Kernel, recurrent kernel and bias as they lie in the file."""
    random = np.random.default_rng([gates, 4])
    shapes = [((features, gates * units), features), ((units, gates * units), units), ((2 * gates * units,), 1)]
    return [drawn(shape, fan, random) for shape, fan in shapes]


def cudnn_kernel(kernel: np.ndarray, gates: int) -> np.ndarray:
    """The input kernel of a cuDNN layer as any other layer keeps it: its memory is that of the (units, features) matrix."""
    return np.concatenate(
        [part.reshape(part.shape[::-1]).T for part in map(np.ascontiguousarray, blocks(kernel, gates))], 1
    )


def cudnn_recurrent(kernel: np.ndarray, gates: int) -> np.ndarray:
    return np.concatenate([part.T for part in blocks(kernel, gates)], axis=1)


def _keras2_file(kind: str, stored: list[np.ndarray]) -> Filed:
    """The weights of a CuDNNLSTM or CuDNNGRU in a file; Keras 2 reads such a file into an LSTM or a GRU and runs that."""
    import tf_keras
    from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

    features, units = stored[0].shape[0], stored[1].shape[0]
    layer = getattr(tf_keras.layers, kind)(units, return_sequences=True, dtype="float64")
    layer.build((None, None, features))
    layer.set_weights(preprocess_weights_for_loading(layer, [a.copy() for a in stored], "2.1.5", "tensorflow"))
    x = given(features)

    def write(path: Path) -> None:
        name, names = f"cu_dnn{kind.lower()}_1", ("kernel", "recurrent_kernel", "bias")
        with h5py.File(path, "w") as file:
            file.attrs.update(layer_names=[name.encode()], keras_version=b"2.1.5", backend=b"tensorflow")
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{one}:0".encode() for one in names]
            for one, array in zip(names, stored, strict=True):
                group[f"{name}/{one}:0"] = array

    return Filed("weights.h5", write, Recorded(x, layer(x).numpy()))


def _gru_of_torch(stored: list[np.ndarray], bias_ih: np.ndarray, bias_hh: np.ndarray) -> Any:
    """Gates z r h in the order r z n; the biases as they are given."""
    kernel, recurrent = cudnn_kernel(stored[0], 3), cudnn_recurrent(stored[1], 3)
    return loaded(
        torch_layer("GRU", kernel.shape[0], recurrent.shape[0]),
        weight_ih_l0=reordered(kernel, RZN).T,
        weight_hh_l0=reordered(recurrent, RZN).T,
        bias_ih_l0=bias_ih,
        bias_hh_l0=bias_hh,
    )


def _t4(convert: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Asked:
    """The gates of the kernels in order; what the two halves of the bias become is ``convert``'s."""
    stored = cudnn(3, 24, 40)
    file, both = _keras2_file("GRU", stored), np.split(stored[2], 2)
    ordered = (reordered(both[0], RZN), reordered(both[1], RZN))
    return Asked((file, _gru_of_torch(stored, *convert(*both))), (file, _gru_of_torch(stored, *ordered)))


def t4() -> Asked:
    """The kernels of a CuDNNGRU with their gates in PyTorch's order, and its biases as they were."""
    return _t4(lambda one, other: (one, other))


def t4_summed() -> Asked:
    """The two halves of the bias added, as an LSTM allows."""
    return _t4(lambda one, other: (reordered(one + other, RZN), np.zeros_like(one)))


def _t8(kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray) -> Any:
    layer = keras_layer("LSTM", len(kernel), len(recurrent_kernel))
    layer.set_weights([kernel, recurrent_kernel, bias])
    return layer


def t8() -> Asked:
    """The first 400 of the 800 biases of a CuDNNLSTM, because that many fit."""
    stored = cudnn(4, 30, 100)
    file, kernels = _keras2_file("LSTM", stored), (cudnn_kernel(stored[0], 4), cudnn_recurrent(stored[1], 4))
    wrong, right = (_t8(*kernels, bias) for bias in (stored[2][:400], stored[2][:400] + stored[2][400:]))
    return Asked((file, wrong), (file, right))


def t8_kernels() -> Asked:
    """The halves of the bias added, and the kernels as they lie in the file: their shapes fit."""
    stored = cudnn(4, 30, 100)
    file, bias = _keras2_file("LSTM", stored), stored[2][:400] + stored[2][400:]
    wrong = _t8(stored[0], stored[1], bias)
    right = _t8(cudnn_kernel(stored[0], 4), cudnn_recurrent(stored[1], 4), bias)
    return Asked((file, wrong), (file, right))


# ---- T5 and T11: checkpoints of TensorFlow 1.


def _tf1_variables(cell: str, units: int, x: np.ndarray, weights: dict[str, np.ndarray], **options: Any) -> Filed:
    """The variables of a cell of TensorFlow 1, saved from Python, and what it puts out; tf_keras still has these cells."""
    from tf_keras.src.layers.rnn import legacy_cells

    one = getattr(legacy_cells, cell)(units, dtype="float64", **options)
    state = one.zero_state(len(x), tf.float64)
    one(tf.constant(x[:, 0]), state)
    for variable in one.variables:
        variable.assign(weights[variable.name.split("/", 1)[1].removesuffix(":0")])
    out = []
    for t in range(x.shape[1]):
        h, state = one(tf.constant(x[:, t]), state)
        out.append(h.numpy())
    names = {f"rnn/{variable.name.removesuffix(':0')}": variable.numpy() for variable in one.variables}
    return Filed("variables.npz", lambda path: np.savez(path, **names), Recorded(x, np.stack(out, axis=1)))


def _t5_torch(weights: dict[str, np.ndarray], order: tuple[int, ...], forget_bias: float) -> Any:
    kernel, bias = (reordered(weights[name], order) for name in ("kernel", "bias"))
    units = len(bias) // 4
    features = len(kernel) - units
    bias[units : 2 * units] += forget_bias
    return loaded(
        torch_layer("LSTM", features, units),
        weight_ih_l0=kernel[:features].T,
        weight_hh_l0=kernel[features:].T,
        bias_ih_l0=bias,
    )


def _t5(bias: bool, order: tuple[int, ...]) -> Asked:
    random = np.random.default_rng(8)
    weights = {"kernel": drawn((28 + 48, 4 * 48), 28 + 48, random), "bias": bias * drawn((4 * 48,), 1, random)}
    file = _tf1_variables("BasicLSTMCell", 48, given(28), weights)
    return Asked((file, _t5_torch(weights, order, 0.0)), (file, _t5_torch(weights, (0, 2, 1, 3), 1.0)))


def t5() -> Asked:
    """The gates i j f o put in order and, to find out why it still differs, biases of zero on both sides."""
    return _t5(bias=False, order=(0, 2, 1, 3))


def t5_kept() -> Asked:
    """The same with the biases that were trained."""
    return _t5(bias=True, order=(0, 2, 1, 3))


def t5_order() -> Asked:
    """The gates left as they lie in the checkpoint, and the forget bias that is in no checkpoint."""
    return _t5(bias=True, order=(0, 1, 2, 3))


def _t11_torch(weights: dict[str, np.ndarray], features: int, upper: str) -> Any:
    kernel, bias = reordered(weights["kernel"], (0, 2, 1, 3)), reordered(weights["bias"], (0, 2, 1, 3))
    units, projection = len(bias) // 4, weights["projection/kernel"]
    bias[units : 2 * units] += 1
    lower = {"weight_ih_l0": "weight_hh_l0", "weight_hh_l0": "weight_ih_l0"}[upper]
    return loaded(
        torch_layer("LSTM", features, units, proj_size=projection.shape[1]),
        **{upper: kernel[:features].T, lower: kernel[features:].T},
        bias_ih_l0=bias,
        weight_hr_l0=projection.T,
    )


def t11() -> Asked:
    """A kernel of 2 * 32 rows, which are those for the input and those for the state; taken in the wrong order.

    There were 512 of each, so that no shape tells.
    """
    features, units = 32, 72
    random = np.random.default_rng(9)
    weights = {
        "kernel": drawn((2 * features, 4 * units), 2 * features, random),
        "bias": drawn((4 * units,), 1, random),
        "projection/kernel": drawn((units, features), units, random),
    }
    file = _tf1_variables("LSTMCell", units, given(features), weights, num_proj=features)
    wrong, right = (_t11_torch(weights, features, upper) for upper in ("weight_hh_l0", "weight_ih_l0"))
    return Asked((file, wrong), (file, right))


# ---- T6, T7 and O2: ONNX. ONNX Runtime has these operators in float32.


def onnx_model(kind: str, w: np.ndarray, r: np.ndarray, b: np.ndarray, **options: Any) -> bytes:
    """A model of one recurrent operator; W is (gates * units, features), R and B as in the operator."""
    tensors = {"W": w[None], "R": r[None], "B": b[None]}
    node = helper.make_node(kind, ["X", *tensors], ["Y"], name="rnn", hidden_size=r.shape[1], **options)
    graph = helper.make_graph(
        [node],
        "model",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["time", "batch", w.shape[1]])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["time", 1, "batch", r.shape[1]])],
        [numpy_helper.from_array(np.ascontiguousarray(a, "float32"), name) for name, a in tensors.items()],
    )
    opset = [helper.make_opsetid("", 14)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def onnx_file(model: bytes, features: int) -> Filed:
    x = given(features, "float32")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (y,) = session.run(["Y"], {"X": x.transpose(1, 0, 2)})
    return Filed("model.onnx", lambda path: path.write_bytes(model), Recorded(x, y[:, 0].transpose(1, 0, 2)))


def _lstm_in_onnx(source: Any, order: tuple[int, ...], second_bias: float) -> bytes:
    kernel, recurrent_kernel, bias = (reordered(a, order) for a in source.get_weights())
    return onnx_model("LSTM", kernel.T, recurrent_kernel.T, np.concatenate([bias, second_bias * bias]))


IOFC = (0, 3, 1, 2)


def t6() -> Asked:
    """Keras's gates i f c o where ONNX has i o f c."""
    source = keras_layer("LSTM", 20, 36, dtype="float32")
    wrong, right = (onnx_file(_lstm_in_onnx(source, order, 0), 20) for order in ((0, 1, 2, 3), IOFC))
    return Asked((source, wrong), (source, right))


def t7_models() -> tuple[Any, bytes, bytes]:
    """A Keras layer with 500 units, its ONNX model with 4000 biases, half of them zeros, and one with those filled in."""
    source = keras_layer("LSTM", 12, 500, dtype="float32")
    return source, _lstm_in_onnx(source, IOFC, 0), _lstm_in_onnx(source, IOFC, 1)


def t7() -> Asked:
    """The zeros in the ONNX model's bias taken for lost numbers, and filled in."""
    source = keras_layer("LSTM", 12, 50, dtype="float32")
    wrong, right = (onnx_file(_lstm_in_onnx(source, IOFC, second), 12) for second in (1, 0))
    return Asked((source, wrong), (source, right))


def o2() -> Asked:
    """A GRU of PyTorch as an ONNX operator, the attribute linear_before_reset left out."""
    source = torch_layer("GRU", 18, 30, dtype=torch.float32)
    w = {name: reordered(a, RZN, axis=0) for name, a in arrays(source).items()}
    weights = w["weight_ih_l0"], w["weight_hh_l0"], np.concatenate([w["bias_ih_l0"], w["bias_hh_l0"]])
    options: list[dict[str, Any]] = [{}, {"linear_before_reset": 1}]
    wrong, right = (onnx_file(onnx_model("GRU", *weights, **one), 18).kept for one in options)
    return Asked((source, wrong), (source, right))


# ---- T9 and O1: the two GRUs.


def t9() -> Asked:
    """A bias of (2, 384) for a layer that has (384,): the rows were added and the shapes fitted."""
    source = keras_layer("GRU", 40, 128)
    kernel, recurrent_kernel, bias = source.get_weights()
    wrong, right = (keras_layer("GRU", 40, 128, reset_after=after) for after in (False, True))
    wrong.set_weights([kernel, recurrent_kernel, bias[0] + bias[1]])
    right.set_weights([kernel, recurrent_kernel, bias])
    return Asked((source, wrong), (source, right))


def o1() -> Asked:
    """A GRU of PyTorch in the GRU of the TensorFlow of that time, which resets before the product."""
    source = torch_layer("GRU", 26, 34)
    w = {name: reordered(a, RZN, axis=0).T for name, a in arrays(source).items()}
    kernels = [w["weight_ih_l0"], w["weight_hh_l0"]]
    wrong, right = (keras_layer("GRU", 26, 34, reset_after=after) for after in (False, True))
    wrong.set_weights([*kernels, w["bias_ih_l0"] + w["bias_hh_l0"]])
    right.set_weights([*kernels, np.stack([w["bias_ih_l0"], w["bias_hh_l0"]])])
    return Asked((source, wrong), (source, right))


# ---- T10: a loader that looks for its own names only.


def t10_layers() -> tuple[Any, Any]:
    """A layer of two layers, and the one that a loader made of its weights without a word."""
    source, target = torch_layer("LSTM", 22, 38, num_layers=2), torch_layer("LSTM", 22, 38, seed=1)
    found = target.load_state_dict(source.state_dict(), strict=False)
    assert not found.missing_keys
    return source, target


def t10() -> Asked:
    """What the loaded one puts out, and what one of two layers does."""
    source, target = t10_layers()
    whole = torch_layer("LSTM", 22, 38, seed=1, num_layers=2)
    whole.load_state_dict(source.state_dict())
    x = given(22)
    return Asked((source, recorded(target, x)), (source, recorded(whole, x)))


# ---- T12: Flax.


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def hard_sigmoid(z: np.ndarray) -> np.ndarray:
    return np.clip(z / 6 + 0.5, 0, 1)


def ran_in_flax(params: dict[str, dict[str, np.ndarray]], x: np.ndarray) -> Recorded:
    """flax.linen.LSTMCell over time: a Dense without bias for each gate on the input side, with bias on the other."""
    units = params["hi"]["kernel"].shape[0]
    c = h = np.zeros((len(x), units))
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = (
            x[:, t] @ params[f"i{k}"]["kernel"] + h @ params[f"h{k}"]["kernel"] + params[f"h{k}"]["bias"]
            for k in "ifgo"
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return Recorded(x, np.stack(out, axis=1))


def t12() -> Asked:
    """An LSTM of PyTorch in Flax: bias_hh goes to the recurrent side, and there is no place for bias_ih."""
    source = torch_layer("LSTM", 17, 29)
    w = {name: np.split(a, 4) for name, a in arrays(source).items()}

    def params(bias: list[np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        found = {}
        for k, gate in enumerate("ifgo"):
            found[f"i{gate}"] = {"kernel": w["weight_ih_l0"][k].T}
            found[f"h{gate}"] = {"kernel": w["weight_hh_l0"][k].T, "bias": bias[k]}
        return found

    both = [one + other for one, other in zip(w["bias_ih_l0"], w["bias_hh_l0"], strict=True)]
    wrong, right = (ran_in_flax(params(bias), given(17)) for bias in (w["bias_hh_l0"], both))
    return Asked((source, wrong), (source, right))


# ---- O3 to O5: activations.


def numpy_lstm(weights: list[np.ndarray], x: np.ndarray, gate: Callable[[np.ndarray], np.ndarray]) -> Recorded:
    """An LSTM as in many a blog, with Keras's weights."""
    kernel, recurrent_kernel, bias = weights
    c = h = np.zeros((len(x), len(recurrent_kernel)))
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = blocks(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4)
        c = gate(f) * c + gate(i) * np.tanh(g)
        h = gate(o) * np.tanh(c)
        out.append(h)
    return Recorded(x, np.stack(out, axis=1))


def o3() -> Asked:
    """A NumPy LSTM with sigmoids for a Keras layer whose gates have hard ones."""
    source = keras_layer("LSTM", 14, 33, recurrent_activation="hard_sigmoid")
    wrong, right = (numpy_lstm(source.get_weights(), given(14), gate) for gate in (sigmoid, hard_sigmoid))
    return Asked((source, wrong), (source, right))


def o4() -> Asked:
    """A model of Keras 2 in Keras 3; the layer's configuration is the same."""
    import tf_keras

    today = keras_layer("LSTM", 16, 28, recurrent_activation="hard_sigmoid")
    old = tf_keras.layers.LSTM(28, recurrent_activation="hard_sigmoid", return_sequences=True, dtype="float64")
    old.build((None, None, 16))
    old.set_weights(today.get_weights())
    x = given(16)
    model = tf_keras.Sequential([tf_keras.layers.InputLayer((None, 16)), old])
    file = Filed("model.h5", model.save, Recorded(x, old(x).numpy()))
    mended = keras_layer("LSTM", 16, 28, recurrent_activation=hard_sigmoid_keras2)
    mended.set_weights(today.get_weights())
    return Asked((file, today), (file, mended))


def o5() -> Asked:
    """LSTM(activation="relu") in torch.nn.LSTM, which has tanh and no other; then the same in a loop by hand."""
    source = keras_layer("LSTM", 13, 25, activation="relu")
    kernel, recurrent_kernel, bias = source.get_weights()
    wrong, x = _lstm_of_torch(source, bias, np.zeros_like(bias)), torch.from_numpy(given(13))
    c = h = torch.zeros(BATCH, 25, dtype=torch.float64)
    out = []
    for t in range(STEPS):
        z = x[:, t] @ torch.from_numpy(kernel) + h @ torch.from_numpy(recurrent_kernel) + torch.from_numpy(bias)
        i, f, g, o = z.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.relu(g)
        h = torch.sigmoid(o) * torch.relu(c)
        out.append(h)
    right = Recorded(x.numpy(), torch.stack(out, dim=1).numpy())
    return Asked((source, wrong), (source, right))


# ---- O6 to O10: time, directions, padding, axes.


def _with_weights(source: Any, both_ways: bool = False, **options: Any) -> Any:
    """An LSTM of PyTorch with the weights of Keras's."""
    weights = source.get_weights()
    features, units = weights[0].shape[0], weights[1].shape[0]
    found = {}
    for d, suffix in enumerate(("", "_reverse") if both_ways else ("",)):
        kernel, recurrent_kernel, bias = weights[3 * d : 3 * d + 3]
        found |= {f"weight_ih_l0{suffix}": kernel.T, f"weight_hh_l0{suffix}": recurrent_kernel.T}
        found |= {f"bias_ih_l0{suffix}": bias}
    return loaded(torch_layer("LSTM", features, units, bidirectional=both_ways, **options), **found)


def o6() -> Asked:
    """go_backwards in PyTorch: the input flipped, and the output flipped back, which Keras does not do."""
    source = keras_layer("LSTM", 11, 24, go_backwards=True)
    x = given(11)
    out = ran(_with_weights(source), x[:, ::-1].copy())
    return Asked((source, Recorded(x, out[:, ::-1].copy())), (source, Recorded(x, out)))


def o7() -> Asked:
    """The last step of a bidirectional layer's sequence for its last output."""
    source = keras_layer("LSTM", 15, 21, both_ways=True, return_sequences=False)
    x = given(15)
    with torch.no_grad():
        out, (h_n, _) = _with_weights(source, both_ways=True)(torch.from_numpy(x))
    wrong, right = out[:, -1, :].numpy(), torch.cat([h_n[0], h_n[1]], dim=-1).numpy()
    return Asked((source, Recorded(x, wrong)), (source, Recorded(x, right)))


def o8() -> Asked:
    """Sentences padded with zeros, and a bidirectional layer that reads the padding as if it were words."""
    source = keras_layer("LSTM", 10, 19, both_ways=True)
    layer, lengths, x = _with_weights(source, both_ways=True), np.array([6, 3, 5, 2]), given(10)
    for row, length in enumerate(lengths):
        x[row, length:] = 0
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
    )
    with torch.no_grad():
        right, _ = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=STEPS)
    return Asked(
        (source, Recorded(x, ran(layer, x), lengths=lengths)), (source, Recorded(x, right.numpy(), lengths=lengths))
    )


def o9() -> Asked:
    """A SimpleRNN by hand: a Dense layer at every step."""
    source = keras_layer("SimpleRNN", 9, 23)
    kernel, recurrent_kernel, bias = source.get_weights()
    x = given(9)
    wrong = np.tanh(x @ kernel + bias)
    h, out = np.zeros((BATCH, 23)), []
    for t in range(STEPS):
        h = np.tanh(x[:, t] @ kernel + h @ recurrent_kernel + bias)
        out.append(h)
    return Asked((source, Recorded(x, wrong)), (source, Recorded(x, np.stack(out, axis=1))))


def o10() -> Asked:
    """(batch, time, features) for a layer of PyTorch that was not told batch_first."""
    source = keras_layer("LSTM", 8, 27)
    x = given(8)
    wrong, right = (recorded(_with_weights(source, batch_first=first), x) for first in (False, True))
    return Asked((source, wrong), (source, right))


def o10_reshaped() -> Asked:
    """The same layer, and the axes "exchanged" by a reshape; with a batch of one that is right."""
    source = keras_layer("LSTM", 8, 27)
    layer, x = _with_weights(source, batch_first=False), torch.from_numpy(given(8))
    with torch.no_grad():
        wrong = layer(x.reshape(STEPS, BATCH, 8))[0].reshape(BATCH, STEPS, 27)
        alone = layer(x[:1].reshape(STEPS, 1, 8))[0].reshape(1, STEPS, 27)
        right = layer(x.transpose(0, 1))[0].transpose(0, 1)
    assert torch.allclose(alone, right[:1])
    return Asked((source, Recorded(x.numpy(), wrong.numpy())), (source, Recorded(x.numpy(), right.numpy())))
