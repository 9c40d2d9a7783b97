"""`xframe.transfer` between layers that were made and filled with the frameworks' own classes and methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import helpers
import jax_layers
import numpy as np
import pytest
from helpers import BATCH, FEATURES, LAYERS_BY_NAME, UNITS, Move

import xframe
from xframe.adapters import Adapter, get_adapter
from xframe.errors import LayoutError, SpecError, UnsupportedError
from xframe.layout import Key
from xframe.reference import Given
from xframe.spec import Dense, Layer, Recurrent

# ---- Layers as users make them: with the defaults of the framework wherever the spec does not say otherwise.


def keras_layer(spec: Layer, dtype: str = "float32") -> Any:
    from keras import Input, Sequential, layers

    import xframe.keras

    options: dict[str, Any] = {"use_bias": spec.bias, "dtype": dtype}
    if isinstance(spec, Dense):
        layer = layers.Dense(spec.units, **options)
        layer.build((None, spec.input_size))
        return layer
    kind = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[spec.cell]
    options["activation"] = spec.activation
    if spec.cell == "gru":
        options["reset_after"] = spec.reset_after
    stack = []
    for k in range(spec.num_layers):
        flags = {"return_sequences": k + 1 < spec.num_layers, "go_backwards": spec.go_backwards}
        if spec.proj_size:
            cell = xframe.keras.ProjectedLSTMCell(spec.hidden_size, spec.proj_size, **options)
            layer = layers.RNN(cell, dtype=dtype, **flags)
        else:
            layer = kind(spec.hidden_size, **flags, **options)
        if spec.bidirectional:
            layer = layers.Bidirectional(layer, spec.merge_mode, dtype=dtype)
        stack.append(layer)
    if len(stack) > 1:
        return Sequential([Input((None, spec.input_size), dtype=dtype), *stack])
    stack[0].build((None, None, spec.input_size))
    return stack[0]


def is_not_pytorchs(spec: Recurrent) -> bool:
    """Whether PyTorch's own layers cannot be told to be this one."""
    plain = ("tanh", "relu") if spec.cell == "rnn" else ("tanh",)
    other = spec.reset_after is False or spec.go_backwards or spec.merge_mode != "concat"
    return other or spec.activation not in plain


def torch_layer(spec: Layer, dtype: str = "float32") -> Any:
    import torch

    import xframe.torch

    kind: dict[str, Any] = {"bias": spec.bias, "dtype": getattr(torch, dtype)}
    if isinstance(spec, Dense):
        return torch.nn.Linear(spec.input_size, spec.units, **kind)
    if is_not_pytorchs(spec):
        return xframe.torch.Recurrent(spec, dtype=kind["dtype"])
    options = {"num_layers": spec.num_layers, "bidirectional": spec.bidirectional, **kind}
    if spec.cell == "rnn":
        options["nonlinearity"] = spec.activation
    if spec.cell == "lstm":
        options["proj_size"] = spec.proj_size
    return getattr(torch.nn, spec.cell.upper())(spec.input_size, spec.hidden_size, **options)


# The activations of a node, written out.
FUNCTIONS = {"rnn": [], "lstm": ["Sigmoid", "Tanh", "Tanh"], "gru": ["Sigmoid", "Tanh"]}


def onnx_layer(spec: Layer, dtype: str = "float32") -> Any:
    """A Gemm as PyTorch exports it; a node alone, which reads (time, batch, features); or nodes above each other.

    Zeros wait for weights: ONNX draws none.
    """
    from onnx import helper, numpy_helper

    kind = {"float32": 1, "float64": 11}[dtype]

    def info(name: str, *shape: Any) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: Mapping[str, Any]) -> Any:
        tensors = [numpy_helper.from_array(np.zeros(shape, dtype), name) for name, shape in weights.items()]
        if any(node.op_type == "Reshape" for node in nodes):
            tensors.append(numpy_helper.from_array(np.array([0, 0, -1]), "joined"))
        graph = helper.make_graph(nodes, "mine", inputs, outputs, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    if isinstance(spec, Dense):
        sizes = {"weight": (spec.units, spec.input_size)} | ({"bias": (spec.units,)} if spec.bias else {})
        gemm = helper.make_node("Gemm", ["rows", *sizes], ["scores"], transB=1)
        return model([gemm], [info("rows", "n", spec.input_size)], [info("scores", "n", spec.units)], sizes)
    ends, n, ways = ["h", "c"] if spec.cell == "lstm" else ["h"], spec.hidden_size, spec.num_directions
    functions = FUNCTIONS[spec.cell] or [str(spec.activation).capitalize()]
    options: dict[str, Any] = {
        "hidden_size": n,
        "direction": "bidirectional" if ways == 2 else "forward",
        "activations": functions * ways,
    }
    if spec.cell == "gru":
        options["linear_before_reset"] = int(bool(spec.reset_after))
    layers, several, weights, middle = range(spec.num_layers), spec.num_layers > 1, {}, []
    for k in layers:
        d, gates = ways * n if k else spec.input_size, len(helpers.GATES[spec.cell]) * n
        weights |= {f"W{k}": (ways, gates, d), f"R{k}": (ways, gates, n)}
        weights |= {f"B{k}": (ways, 2 * gates)} if spec.bias else {}
        given = [f"in{k}", f"W{k}", f"R{k}", f"B{k}" if spec.bias else "", "", *(f"{e}0_{k}" for e in ends)]
        if not several:
            given = given[: 3 + spec.bias]
        outs = [f"out{k}", *(f"{e}1_{k}" for e in ends)]
        middle.append(helper.make_node(spec.cell.upper(), given, outs, **options))
        if several:
            top = k + 1 == spec.num_layers
            turn, after = ([2, 0, 1, 3], "series") if top else ([0, 2, 1, 3], f"in{k + 1}")
            middle.append(helper.make_node("Transpose", [f"out{k}"], [f"turned{k}"], perm=turn))
            middle.append(helper.make_node("Reshape", [f"turned{k}", "joined"], [after]))
    if not several:
        finals = [info(f"{e}1_0", ways, "n", n) for e in ends]
        return model(
            middle, [info("in0", "t", "n", spec.input_size)], [info("out0", "t", ways, "n", n), *finals], weights
        )
    size = (spec.num_layers * ways, "n", n)
    first = [helper.make_node("Transpose", ["x"], ["in0"], perm=[1, 0, 2])]
    first += [helper.make_node("Split", [f"{e}0"], [f"{e}0_{k}" for k in layers], axis=0) for e in ends]
    last = [helper.make_node("Concat", [f"{e}1_{k}" for k in layers], [f"{e}1"], axis=0) for e in ends]
    inputs = [info("x", "n", "t", spec.input_size), *(info(f"{e}0", *size) for e in ends)]
    outputs = [info("series", "n", "t", ways * n), *(info(f"{e}1", *size) for e in ends)]
    return model([*first, *middle, *last], inputs, outputs, weights)


def flax_layer(spec: Layer, dtype: str = "float32") -> Any:
    from flax import nnx

    with jax_layers.wide(dtype):
        zeros = nnx.initializers.zeros_init()  # what they draw takes long
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": dtype, "rngs": nnx.Rngs(0), "kernel_init": zeros}
        if isinstance(spec, Dense):
            return nnx.Linear(spec.input_size, spec.units, use_bias=spec.bias, **options)
        options["recurrent_kernel_init"] = zeros
        kind = {"rnn": nnx.SimpleCell, "lstm": nnx.LSTMCell, "gru": nnx.GRUCell}[spec.cell]
        if spec.cell == "rnn":
            options["activation_fn"] = jax_function(spec.activation)
        levels = []
        for k in range(spec.num_layers):
            d = spec.num_directions * spec.hidden_size if k else spec.input_size
            rnns = [nnx.RNN(kind(d, spec.hidden_size, **options)) for _ in range(spec.num_directions)]
            levels.append(nnx.Bidirectional(*rnns) if spec.bidirectional else rnns[0])
        return nnx.Sequential(*levels) if len(levels) > 1 else levels[0]


def jax_function(name: str | None) -> Any:
    import jax

    return {"tanh": jax.numpy.tanh, "relu": jax.nn.relu}[str(name)]


def linen_layer(spec: Layer, dtype: str = "float32") -> Any:
    """A module and its variables, zeros of the shapes that `init` would give: it takes long to draw."""
    import jax

    module, shape = linen_module(spec, dtype), (1, FEATURES) if isinstance(spec, Dense) else (1, 1, FEATURES)
    with jax_layers.wide(dtype):
        shapes = jax.eval_shape(module.init, jax.random.key(0), jax.numpy.zeros(shape, dtype))
        return module, jax.tree.map(lambda a: jax.numpy.asarray(np.zeros(a.shape, a.dtype)), shapes)


def linen_module(spec: Layer, dtype: str) -> Any:
    from flax import linen

    options: dict[str, Any] = {"dtype": dtype, "param_dtype": dtype}
    if isinstance(spec, Dense):
        return linen.Dense(spec.units, use_bias=spec.bias, **options)
    kind = {"rnn": linen.SimpleCell, "lstm": linen.LSTMCell, "gru": linen.GRUCell}[spec.cell]
    if spec.cell == "rnn":
        options["activation_fn"] = jax_function(spec.activation)
    levels = []
    for _ in range(spec.num_layers):
        rnns = [linen.RNN(kind(spec.hidden_size, **options)) for _ in range(spec.num_directions)]
        levels.append(linen.Bidirectional(*rnns) if spec.bidirectional else rnns[0])
    return linen.Sequential(levels) if len(levels) > 1 else levels[0]


def equinox_layer(spec: Layer, dtype: str = "float32") -> Any:
    """A list of cells: the loop over time is the user's own."""
    import equinox
    import jax

    with jax_layers.wide(dtype):
        options: dict[str, Any] = {"use_bias": spec.bias, "dtype": dtype, "key": jax.random.key(0)}
        if isinstance(spec, Dense):
            return [equinox.nn.Linear(spec.input_size, spec.units, **options)]
        kind = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}[spec.cell]
        levels = []
        for k in range(spec.num_layers):
            d = spec.num_directions * spec.hidden_size if k else spec.input_size
            cells = [kind(d, spec.hidden_size, **options) for _ in range(spec.num_directions)]
            levels.append(cells if spec.bidirectional else cells[0])
        return levels


# ---- Reading, filling and running them by the framework's own methods.


def keras_fill(layer: Any, arrays: list[np.ndarray]) -> None:
    layer.set_weights(arrays)


def torch_fill(layer: Any, arrays: list[np.ndarray]) -> None:
    import torch

    with torch.no_grad():
        for parameter, array in zip(layer.parameters(), arrays, strict=True):
            parameter.copy_(torch.from_numpy(array))


def onnx_tensors(model: Any) -> list[Any]:
    """The initializers that are weights."""
    return [tensor for tensor in model.graph.initializer if tensor.data_type in (1, 11)]


def onnx_numbers(model: Any) -> list[np.ndarray]:
    from onnx import numpy_helper

    return [numpy_helper.to_array(tensor).copy() for tensor in onnx_tensors(model)]


def onnx_fill(model: Any, arrays: list[np.ndarray]) -> None:
    from onnx import numpy_helper

    for tensor, array in zip(onnx_tensors(model), arrays, strict=True):
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def onnx_last(model: Any, x: np.ndarray) -> np.ndarray:
    """By ONNX Runtime; in float64, of which it has no RNN, LSTM or GRU, by onnx's own evaluator."""
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    whole = len(model.graph.input) > 1
    dense = model.graph.node[0].op_type == "Gemm"
    feeds = {model.graph.input[0].name: x if whole or dense else np.ascontiguousarray(x.swapaxes(0, 1))}
    for one in model.graph.input[1:]:
        layers, _, size = (dim.dim_value for dim in one.type.tensor_type.shape.dim)
        feeds[one.name] = np.zeros((layers, len(x), size), x.dtype)
    if x.dtype == np.float64 and not dense:
        out = ReferenceEvaluator(model).run(None, feeds)
    else:
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        out = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)
    if dense:
        return np.asarray(out[0])
    ways = onnx_tensors(model)[0].dims[0]
    return np.concatenate(list(out[1][-ways:]), axis=-1)


def flax_last(layer: Any, x: np.ndarray) -> np.ndarray:
    """Each direction where it has read everything: the last step forwards, the first one backwards."""
    with jax_layers.wide(x.dtype.name):
        return ends_of(flax_call()(layer, x), is_bidirectional(layer))


def is_bidirectional(layer: Any) -> bool:
    return type(getattr(layer, "layers", [layer])[0]).__name__ == "Bidirectional"


def ends_of(y: Any, bidirectional: bool) -> np.ndarray:
    """Of (batch, time, features); what is dense has only rows."""
    y = np.asarray(y)
    if y.ndim == 2:
        return y
    half = y.shape[-1] // 2 if bidirectional else y.shape[-1]
    return np.concatenate([y[:, -1, :half], y[:, 0, half:]], axis=-1)


@cache
def flax_call() -> Any:
    """A layer called, compiled once for all that are alike."""
    from flax import nnx

    return nnx.jit(lambda layer, x: layer(x))


@cache
def linen_call() -> Any:
    import jax

    return jax.jit(lambda module, variables, x: module.apply(variables, x), static_argnums=0)


def hashable(module: Any) -> Any:
    """The same module for JAX to know again: a Sequential of a list it cannot tell from another."""
    return module.clone(layers=tuple(module.layers)) if hasattr(module, "layers") else module


def linen_last(layer: Any, x: np.ndarray) -> np.ndarray:
    with jax_layers.wide(x.dtype.name):
        return ends_of(linen_call()(hashable(layer[0]), layer[1], x), is_bidirectional(layer[0]))


@cache
def equinox_call() -> Any:
    import equinox

    return equinox.filter_jit(equinox_loop)


def equinox_loop(layer: Any, x: Any) -> Any:
    """As Equinox's documentation has it, a row of the batch at a time: what each direction ends with."""
    import equinox
    import jax

    jnp = jax.numpy
    if isinstance(layer[0], equinox.nn.Linear):
        return jax.vmap(layer[0])(x)

    def read(cell: Any, steps: Any, backwards: bool) -> Any:
        zero = jnp.zeros(cell.hidden_size, x.dtype)
        several = isinstance(cell, equinox.nn.LSTMCell)

        def step(held: Any, now: Any) -> Any:
            after = cell(now, held)
            return after, after[0] if several else after

        return jax.lax.scan(step, (zero, zero) if several else zero, steps, reverse=backwards)[1]

    def row(steps: Any) -> Any:
        for level in layer:
            cells = level if isinstance(level, list) else [level]
            outs = [read(cell, steps, bool(d)) for d, cell in enumerate(cells)]
            steps = jnp.concatenate(outs, axis=-1)
        return jnp.concatenate([out[0 if d else -1] for d, out in enumerate(outs)])

    return jax.vmap(row)(x)


def equinox_last(layer: Any, x: np.ndarray) -> np.ndarray:
    with jax_layers.wide(x.dtype.name):
        return np.asarray(equinox_call()(layer, x))


def torch_last(layer: Any, x: np.ndarray) -> np.ndarray:
    """What a user takes for Keras's output: h_n of the last layer, both directions beside each other."""
    import torch

    import xframe.torch

    with torch.no_grad():
        given = torch.from_numpy(x)
        if isinstance(layer, torch.nn.Linear):
            return np.asarray(layer(given).numpy())
        if isinstance(layer, xframe.torch.Recurrent):
            return np.asarray(torch.cat(list(layer(given)[1]["h"][-1]), dim=-1).numpy())
        _, final = layer(given.swapaxes(0, 1))
        h = final[0] if isinstance(final, tuple) else final
        return np.asarray(torch.cat(list(h[-2:] if layer.bidirectional else h[-1:]), dim=-1).numpy())


MAKE: dict[str, Callable[..., Any]] = {
    "keras": keras_layer,
    "torch": torch_layer,
    "onnx": onnx_layer,
    "flax": flax_layer,
    "flax-linen": linen_layer,
    "equinox": equinox_layer,
}
FILL: dict[str, Callable[[Any, list[np.ndarray]], None]] = {
    "keras": keras_fill,
    "torch": torch_fill,
    "onnx": onnx_fill,
    "flax": partial(jax_layers.fill, "flax"),
    "flax-linen": partial(jax_layers.fill, "flax-linen"),
    "equinox": partial(jax_layers.fill, "equinox"),
}
NUMBERS: dict[str, Callable[[Any], list[np.ndarray]]] = {
    "keras": lambda layer: [np.array(w) for w in layer.get_weights()],
    "torch": lambda layer: [p.detach().numpy().copy() for p in layer.parameters()],
    "onnx": onnx_numbers,
    "flax": partial(jax_layers.numbers, "flax"),
    "flax-linen": partial(jax_layers.numbers, "flax-linen"),
    "equinox": partial(jax_layers.numbers, "equinox"),
}
LAST: dict[str, Callable[[Any, np.ndarray], np.ndarray]] = {
    "keras": lambda layer, x: np.array(layer(x)),
    "torch": torch_last,
    "onnx": onnx_last,
    "flax": flax_last,
    "flax-linen": linen_last,
    "equinox": equinox_last,
}


def made(framework: str, spec: Layer, seed: int, dtype: str = "float32") -> Any:
    """A layer of the user's, every number in it drawn at random: kernels, and both of two biases."""
    random, layer = np.random.default_rng(seed), MAKE[framework](spec, dtype)
    size = np.sqrt(max(FEATURES, UNITS))
    arrays = [helpers.away_from_zero(random, a.shape, 1.5 / size).astype(dtype) for a in NUMBERS[framework](layer)]
    FILL[framework](layer, arrays)
    return layer


def memory(framework: str, layer: Any) -> list[bytes]:
    return [array.tobytes() for array in NUMBERS[framework](layer)]


# ---- Between every framework and its neighbours, every layer that both have.


def judge(adapter: Adapter, spec: Layer, blocks: helpers.Blocks, layer: Any, x: np.ndarray) -> None:
    """All outputs of a layer, the last one also as its own framework gives it, in the float type of x; or a refusal."""
    dtype, name = x.dtype.name, "output" if isinstance(spec, Dense) else "last"
    if helpers.lacks(adapter.name, spec, dtype):
        with pytest.raises(UnsupportedError, match=f"no .* of {dtype}.*; use "):
            adapter.run(layer, x)
        return
    outputs = adapter.run(layer, x).named()
    helpers.judge(spec, blocks, Given(x), dtype, {**outputs, name: LAST[adapter.name](layer, x)})


def test_both_compute_the_same(move: Move) -> None:
    """The target's outputs, as its own framework gives them, are those of the source's parameters in the reference.

    Layers of one way in float64, in which a wrong number shows best, and those of two ways and more in the type of most models.
    """
    dtype = "float64" if len(list(move.spec.places)) == 1 else "float32"
    (source, target, spec), x = move, helpers.signal(move.spec, 71, dtype)
    mine, yours = made(source.name, spec, 72, dtype), made(target.name, spec, 73, dtype)
    before = memory(source.name, mine)
    blocks = {key: block.astype(np.float64) for key, block in source.parameters(mine).items()}
    # That these are the source's parameters is proven by its own outputs.
    judge(source, spec, blocks, mine, x)
    if not helpers.lacks(target.name, spec, dtype):
        with pytest.raises(AssertionError, match="times its noise"):
            judge(target, spec, blocks, yours, x)

    xframe.transfer(mine, yours)

    judge(target, spec, blocks, yours, x)
    assert memory(source.name, mine) == before


def test_there_and_back(move: Move) -> None:
    """All to the last bit; where the other framework has one bias for two, their sum, rounded once."""
    source, target, spec = move
    mine, yours, again = made(source.name, spec, 74), made(target.name, spec, 75), made(source.name, spec, 76)
    xframe.transfer(mine, yours)
    xframe.transfer(yours, again)
    got, wanted = source.parameters(again), source.parameters(mine)
    if folds(move):
        rounded = {k: v.astype(np.float32) for k, v in helpers.effective(spec, wanted).items()}
        helpers.assert_same_numbers(helpers.effective(spec, got), rounded)
    else:
        helpers.assert_same_numbers(got, wanted)


def folds(move: Move) -> bool:
    """Whether the target stores less than the source: one bias for two."""
    return helpers.stored(move.target.name, move.spec) < helpers.stored(move.source.name, move.spec)


# Where a framework with one bias for two has it, if not on the side of the input.
SIDES = {("flax", "lstm"): "recurrent_bias", ("flax-linen", "lstm"): "recurrent_bias"}


def held(framework: str, spec: Layer, blocks: Mapping[Key, np.ndarray]) -> helpers.Blocks:
    """Parameters as a framework holds them, in float64: where it has one bias for two, as PyTorch has, their sum."""
    found = {key: block.astype(np.float64) for key, block in blocks.items()}
    if helpers.stored(framework, spec) < helpers.stored("torch", spec):
        side = SIDES.get((framework, spec.cell), "bias")
        for key in [k for k in found if k.role == "recurrent_bias" and k.gate in helpers.folding(spec)]:
            total = found[key] + found[key._replace(role="bias")]
            found |= {key: np.zeros_like(total), key._replace(role="bias"): np.zeros_like(total)}
            found[key._replace(role=side)] = total
    return found


# ---- Biases, by hand.

LSTM, GRU, RNN = (
    Recurrent("lstm", FEATURES, UNITS),
    Recurrent("gru", FEATURES, UNITS),
    Recurrent("rnn", FEATURES, UNITS),
)


def halves(layer: Any, names: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """PyTorch's two biases by gate, in its order."""
    arrays = NUMBERS["torch"](layer)
    both = [dict(zip(names, np.split(array, len(names)), strict=True)) for array in (arrays[2], arrays[3])]
    return both[0], both[1]


@pytest.mark.needs("keras", "torch")
class TestBiases:
    def test_two_are_folded_into_one(self) -> None:
        """PyTorch i f g o to Keras i f c o: the sums, rounded once."""
        source, target = made("torch", LSTM, 81), made("keras", LSTM, 82)
        b_ih, b_hh = NUMBERS["torch"](source)[2:]
        assert np.abs(b_ih).min() > 0
        assert np.abs(b_hh).min() > 0
        xframe.transfer(source, target)
        bias = NUMBERS["keras"](target)[2]
        assert bias.dtype == np.float32
        assert np.array_equal(bias, (b_ih.astype(np.float64) + b_hh).astype(np.float32))

    def test_a_simple_cell(self) -> None:
        source, target = made("torch", RNN, 81), made("keras", RNN, 82)
        w_ih, w_hh, b_ih, b_hh = NUMBERS["torch"](source)
        xframe.transfer(source, target)
        kernel, recurrent, bias = NUMBERS["keras"](target)
        assert np.array_equal(kernel, w_ih.T)
        assert np.array_equal(recurrent, w_hh.T)
        assert np.array_equal(bias, (b_ih.astype(np.float64) + b_hh).astype(np.float32))

    def test_a_gru_keeps_both(self) -> None:
        """PyTorch r z n to Keras z r h: two rows, nothing summed."""
        source, target = made("torch", GRU, 81), made("keras", GRU, 82)
        b, r = halves(source, "rzn")
        xframe.transfer(source, target)
        bias = NUMBERS["keras"](target)[2]
        assert np.array_equal(bias[0], np.concatenate([b["z"], b["r"], b["n"]]))
        assert np.array_equal(bias[1], np.concatenate([r["z"], r["r"], r["n"]]))

    def test_one_becomes_itself_and_zero(self) -> None:
        source, target = made("keras", LSTM, 83), made("torch", LSTM, 84)
        xframe.transfer(source, target)
        b_ih, b_hh = NUMBERS["torch"](target)[2:]
        assert np.array_equal(b_ih, NUMBERS["keras"](source)[2])
        assert np.array_equal(b_hh, np.zeros(4 * UNITS, np.float32))

    def test_both_directions_of_a_stack(self) -> None:
        spec = LAYERS_BY_NAME["lstm-stacked"]
        source, target = made("torch", spec, 85), made("keras", spec, 86)
        given = {name: p.detach().numpy() for name, p in source.named_parameters()}
        xframe.transfer(source, target)
        for k, layer in enumerate(target.layers):
            for part, suffix in ((layer.forward_layer, ""), (layer.backward_layer, "_reverse")):
                kernel, recurrent, bias = (np.array(w) for w in part.get_weights())
                assert np.array_equal(kernel, given[f"weight_ih_l{k}{suffix}"].T)
                assert np.array_equal(recurrent, given[f"weight_hh_l{k}{suffix}"].T)
                total = given[f"bias_ih_l{k}{suffix}"].astype(np.float64) + given[f"bias_hh_l{k}{suffix}"]
                assert np.array_equal(bias, total.astype(np.float32))


def test_a_layer_without_biases_into_one_with(move: Move) -> None:
    """The target's biases become zero."""
    source, target, spec = move
    if not spec.bias:
        bare, full = spec, type(spec)(**{**spec.options(), "bias": True})
        mine, yours = made(source.name, bare, 91), made(target.name, full, 92)
        xframe.transfer(mine, yours)
        got = target.parameters(yours)
        biases = {key: block for key, block in got.items() if "bias" in key.role}
        assert biases
        assert not any(block.any() for block in biases.values())
        others = {key: block for key, block in got.items() if key not in biases}
        helpers.assert_same_numbers(others, source.parameters(mine))
        return
    bare = type(spec)(**{**spec.options(), "bias": False})
    if not helpers.has(target.name, f"{spec.cell}-no-bias"):
        with pytest.raises(UnsupportedError, match="bias"):
            target.build(bare)
        return
    mine, yours = made(source.name, spec, 91), made(target.name, bare, 92)
    before = memory(target.name, yours)
    with pytest.raises(SpecError, match=r"bias=True.*bias=False"):
        xframe.transfer(mine, yours)
    assert memory(target.name, yours) == before


# ---- Rounding.


def test_a_narrower_target_is_rounded_once(move: Move) -> None:
    """float64 numbers that are no float32 numbers, into float32: each is the nearest."""
    source, target, spec = move
    mine, yours = made(source.name, spec, 93, "float64"), made(target.name, spec, 94, "float32")
    wanted = dict(source.parameters(mine))
    xframe.transfer(mine, yours)
    assert {a.dtype.name for a in NUMBERS[target.name](yours)} == {"float32"}
    assert all(np.any(block != block.astype(np.float32)) for key, block in wanted.items() if "kernel" in key.role)
    rounded = {key: block.astype(np.float32) for key, block in held(target.name, spec, wanted).items()}
    helpers.assert_same_numbers(target.parameters(yours), rounded)


@pytest.mark.needs("keras", "torch")
def test_a_sum_is_rounded_after_it_was_made() -> None:
    """1 + (2⁻²⁴ + 2⁻⁵⁰): 1 + 2⁻²³ if it is summed in float64 first, 1 if its parts are rounded first."""
    source, target = made("torch", LSTM, 95, "float64"), made("keras", LSTM, 96, "float32")
    arrays = NUMBERS["torch"](source)
    arrays[2][0], arrays[3][0] = 1.0, 2.0**-24 + 2.0**-50
    FILL["torch"](source, arrays)
    xframe.transfer(source, target)
    assert NUMBERS["keras"](target)[2][0] == 1 + 2.0**-23


def test_a_wider_target_holds_the_same_numbers(move: Move) -> None:
    """float32 numbers, and the sums of two of like size, are float64 numbers."""
    source, target, spec = move
    mine, yours = made(source.name, spec, 97, "float32"), made(target.name, spec, 98, "float64")
    wanted = source.parameters(mine)
    xframe.transfer(mine, yours)
    assert {a.dtype.name for a in NUMBERS[target.name](yours)} == {"float64"}
    got = target.parameters(yours)
    helpers.assert_same_numbers(helpers.effective(spec, got), helpers.effective(spec, wanted))
    helpers.assert_same_numbers(got, held(target.name, spec, wanted))


# ---- What does not fit is refused, and the target keeps every bit.

MISMATCHES: list[tuple[Layer, Layer, str]] = [
    (LSTM, Recurrent("lstm", FEATURES, UNITS + 1), f"hidden_size={UNITS} .*hidden_size={UNITS + 1}"),
    (LSTM, Recurrent("lstm", FEATURES + 1, UNITS), f"input_size={FEATURES} .*input_size={FEATURES + 1}"),
    (LSTM, GRU, "cell='lstm'.*cell='gru'"),
    (RNN, GRU, "cell='rnn'.*cell='gru'"),
    (RNN, Recurrent("rnn", FEATURES, UNITS, activation="relu"), "activation='tanh'.*activation='relu'"),
    (GRU, Recurrent("gru", FEATURES, UNITS, num_layers=2), "num_layers=1 .*num_layers=2"),
    (Recurrent("gru", FEATURES, UNITS, num_layers=2), GRU, "num_layers=2 .*num_layers=1"),
    (LSTM, Recurrent("lstm", FEATURES, UNITS, bidirectional=True), "bidirectional=False.*bidirectional=True"),
    (LSTM, Recurrent("lstm", FEATURES, UNITS, go_backwards=True), "go_backwards=False.*go_backwards=True"),
    (GRU, Recurrent("gru", FEATURES, UNITS, activation="softsign"), "activation='tanh'.*activation='softsign'"),
    (
        Recurrent("gru", FEATURES, UNITS, bidirectional=True, merge_mode="sum"),
        Recurrent("gru", FEATURES, UNITS, bidirectional=True, merge_mode="ave"),
        "merge_mode='sum'.*merge_mode='ave'",
    ),
    (
        Recurrent("gru", FEATURES, UNITS, bidirectional=True, merge_mode="mul"),
        Recurrent("gru", FEATURES, UNITS, bidirectional=True),
        "merge_mode='mul'.*merge_mode='concat'",
    ),
    (
        Recurrent("lstm", FEATURES, UNITS, proj_size=5),
        Recurrent("lstm", FEATURES, UNITS, proj_size=4),
        "proj_size=5 .*proj_size=4",
    ),
    (Recurrent("lstm", FEATURES, UNITS, proj_size=5), LSTM, "proj_size=5 .*proj_size=0"),
    (GRU, Recurrent("gru", FEATURES, UNITS, reset_after=False), "reset_after=True.*reset_after=False"),
    (Recurrent("gru", FEATURES, UNITS, reset_after=False), GRU, "reset_after=False.*reset_after=True"),
    (Dense(FEATURES, UNITS), Dense(FEATURES, UNITS + 1), f"={UNITS} .*={UNITS + 1}"),
    (Dense(FEATURES, UNITS), RNN, "cell='dense'.*cell='rnn'"),
    (RNN, Dense(FEATURES, UNITS), "cell='rnn'.*cell='dense'"),
]


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize(
    ("source", "target"), [("keras", "torch"), ("torch", "keras"), ("torch", "torch"), ("keras", "keras")]
)
@pytest.mark.parametrize(("first", "second", "words"), MISMATCHES)
def test_mismatches(source: str, target: str, first: Layer, second: Layer, words: str) -> None:
    mine, yours = made(source, first, 101), made(target, second, 102)
    before = memory(target, yours)
    with pytest.raises(SpecError, match=words):
        xframe.transfer(mine, yours)
    assert memory(target, yours) == before


def test_a_weight_that_is_not_finite(move: Move) -> None:
    """The last number of any tensor of the source: nothing is written, not even what comes before it."""
    source, target, spec = move
    mine, yours = made(source.name, spec, 107), made(target.name, spec, 108)
    before, arrays = memory(target.name, yours), NUMBERS[source.name](mine)
    values = [np.nan, np.inf, -np.inf]
    for place, value in enumerate(values[k % 3] for k in range(len(arrays))):
        poisoned = [array.copy() for array in arrays]
        poisoned[place].flat[-1] = value
        FILL[source.name](mine, poisoned)
        with pytest.raises(LayoutError, match=f"holds {value} at .*finite"):
            xframe.transfer(mine, yours)
        assert memory(target.name, yours) == before


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (object(), torch_layer),
        (torch_layer, "a path"),
        (lambda spec: np.ones(3), keras_layer),
    ],
)
def test_what_is_no_layer(source: Any, target: Any) -> None:
    mine = source(LSTM) if callable(source) else source
    yours = target(LSTM) if callable(target) else target
    with pytest.raises(UnsupportedError, match="does not know what"):
        xframe.transfer(mine, yours)


@pytest.mark.needs("keras", "torch")
def test_a_target_without_weights() -> None:
    import keras

    with pytest.raises(SpecError, match="no weights yet"):
        xframe.transfer(made("torch", LSTM, 109), keras.layers.LSTM(UNITS))


@pytest.mark.needs("keras", "torch")
def test_the_target_keeps_its_options() -> None:
    """batch_first, return flags, names and trainability are none of a transfer's business."""
    import keras

    target = keras.layers.LSTM(UNITS, return_state=True, name="decoder", trainable=False)
    target.build((None, None, FEATURES))
    before = target.get_config()
    xframe.transfer(made("torch", LSTM, 110), target)
    assert target.get_config() == before
    x = helpers.signal(LSTM, 111, "float32")
    out = get_adapter("keras").run(target, x)
    last, h, c = (np.array(a) for a in target(x))
    assert np.array_equal(last, h)
    assert last.shape == (BATCH, UNITS)
    named = {**out.named(), "last": last, "state h": h[None, None], "state c": c[None, None]}
    helpers.judge(LSTM, get_adapter("keras").parameters(target), Given(x), "float32", named)


@pytest.mark.needs("torch")
def test_onto_itself() -> None:
    layer = made("torch", LSTM, 112)
    before = memory("torch", layer)
    xframe.transfer(layer, layer)
    assert memory("torch", layer) == before
    assert get_adapter("torch").parameters(layer)[Key(0, 0, "recurrent_bias", "i")].any()


# ---- Each layer keeps memory of its own.


def keras_train(layer: Any) -> None:
    for variable in layer.weights:
        variable.assign_add(np.ones(variable.shape, variable.dtype))


def torch_train(layer: Any) -> None:
    for parameter in layer.parameters():
        parameter.data.add_(1)


def onnx_train(model: Any) -> None:
    """ONNX has no training that changes a model: its initializers are given other numbers, where they are."""
    onnx_fill(model, [array + 1 for array in onnx_numbers(model)])


# A step of descent on half the sum of all squares, which is what weight decay takes: every number changes.
RATE = 0.5


def halved_squares(tree: Any) -> Any:
    import jax

    return sum((leaf**2).sum() for leaf in jax.tree.leaves(tree)) / 2


def descended(parameters: Any, gradients: Any) -> Any:
    import jax

    return jax.tree.map(lambda p, g: p - RATE * g, parameters, gradients)


def flax_train(layer: Any) -> None:
    from flax import nnx

    gradients = nnx.grad(lambda one: halved_squares(nnx.state(one, nnx.Param)))(layer)
    nnx.update(layer, descended(nnx.state(layer, nnx.Param), gradients))


def linen_train(layer: Any) -> None:
    import jax

    variables = layer[1]
    variables.update(descended(variables, jax.grad(halved_squares)(variables)))


def equinox_train(layer: Any) -> None:
    import equinox
    import jax

    gradients = equinox.filter_grad(halved_squares)(layer)
    layer[:] = equinox.apply_updates(layer, jax.tree.map(lambda g: -RATE * g, gradients))


TRAIN: dict[str, Callable[[Any], None]] = {
    "keras": keras_train,
    "torch": torch_train,
    "onnx": onnx_train,
    "flax": flax_train,
    "flax-linen": linen_train,
    "equinox": equinox_train,
}


@pytest.mark.needs("equinox", "flax")
def test_a_gru_that_does_not_fit() -> None:
    """nnx's GRUCell has no bias for the candidate's recurrent side: zeros fit, and other numbers are refused."""
    mine, yours = made("equinox", GRU, 125), made("flax", GRU, 126)
    before = memory("flax", yours)
    with pytest.raises(UnsupportedError, match="has no place for 'layer 0, forward, recurrent_bias"):
        xframe.transfer(mine, yours)
    assert memory("flax", yours) == before
    w_ih, w_hh, bias, bias_n = NUMBERS["equinox"](mine)
    FILL["equinox"](mine, [w_ih, w_hh, bias, bias_n * 0])
    xframe.transfer(mine, yours)
    # Both have the gates r, z, n; Equinox as (out, in).
    for got, wanted in zip(NUMBERS["flax"](yours), [w_ih.T, bias, w_hh.T], strict=True):
        assert np.array_equal(got, wanted)
    # Out of it they are found again, with zeros in the place that it has not.
    FILL["equinox"](mine, [w_ih, w_hh, bias, bias_n])
    xframe.transfer(yours, mine)
    for got, wanted in zip(NUMBERS["equinox"](mine), [w_ih, w_hh, bias, bias_n * 0], strict=True):
        assert np.array_equal(got, wanted)


def test_nothing_is_shared(move: Move) -> None:
    """Training one of the two layers afterwards, in place, changes neither the other nor a snapshot of the first."""
    source, target, spec = move
    mine, yours = made(source.name, spec, 113), made(target.name, spec, 114)
    snapshot = source.parameters(mine)
    kept = {key: block.copy() for key, block in snapshot.items()}
    xframe.transfer(mine, yours)
    own, before = memory(source.name, mine), memory(target.name, yours)
    TRAIN[source.name](mine)
    assert memory(target.name, yours) == before
    assert memory(source.name, mine) != own
    helpers.assert_same_numbers(snapshot, kept)
    before = memory(source.name, mine)
    TRAIN[target.name](yours)
    assert memory(source.name, mine) == before
    helpers.assert_same_numbers(snapshot, kept)


# ---- What would be written wrong, or in part.


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize(
    ("first", "second", "dtype", "values"),
    [
        ("torch", "keras", "float64", {-1: 1e300}),
        ("torch", "torch", "float64", {-1: 1e300}),
        ("keras", "torch", "float64", {-1: 1e300}),
        ("torch", "keras", "float32", {-1: 3e38, -2: 3e38}),
    ],
)
def test_a_number_too_large_for_the_target(first: str, second: str, dtype: str, values: dict[int, float]) -> None:
    """1e300 is finite, but no float32 number; nor is the sum of two biases of 3e38."""
    source, target = made(first, LSTM, 115, dtype), made(second, LSTM, 116)
    arrays, before = NUMBERS[first](source), memory(second, target)
    for place, value in values.items():
        arrays[place][0] = value
    FILL[first](source, arrays)
    with pytest.raises(LayoutError, match="float32"):
        xframe.transfer(source, target)
    assert memory(second, target) == before


@pytest.mark.needs("torch")
def test_a_pruned_target() -> None:
    from torch.nn.utils import prune

    target = made("torch", LSTM, 117)
    prune.random_unstructured(target, "weight_hh_l0", 0.5)
    before = memory("torch", target)
    with pytest.raises(UnsupportedError, match="forward hooks"):
        xframe.transfer(made("torch", LSTM, 118), target)
    assert memory("torch", target) == before


@pytest.mark.needs("torch")
def test_a_target_with_more_to_it() -> None:
    import torch

    target = made("torch", LSTM, 119)
    target.temperature = torch.nn.Parameter(torch.ones(1))
    before = memory("torch", target)
    with pytest.raises(LayoutError, match="'temperature' has no place"):
        xframe.transfer(made("torch", LSTM, 120), target)
    assert memory("torch", target) == before


# ---- Types of 16 bits.


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("target", ["keras", "torch"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_source_of_16_bits(target: str, dtype: str) -> None:
    """float32 holds all its numbers; where two biases become one, it holds their sum."""
    import torch

    source, yours = made("torch", LSTM, 121).to(getattr(torch, dtype)), made(target, LSTM, 122)
    w_ih, w_hh, b_ih, b_hh = (p.detach().double().numpy() for p in source.parameters())
    xframe.transfer(source, yours)
    kernel, recurrent, *biases = (array.astype(np.float64) for array in NUMBERS[target](yours))
    assert np.array_equal(kernel, w_ih.T if target == "keras" else w_ih)
    assert np.array_equal(recurrent, w_hh.T if target == "keras" else w_hh)
    for got, wanted in zip(biases, [b_ih + b_hh] if target == "keras" else [b_ih, b_hh], strict=True):
        assert np.array_equal(got, wanted)


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("target", ["keras", "torch"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_target_of_16_bits(target: str, dtype: str) -> None:
    """Each number is rounded to the nearest, as PyTorch rounds it, and a sum once, after it was made."""
    import torch

    source, adapter = made("torch", LSTM, 123), get_adapter(target)
    yours = adapter.build(LSTM, dtype)
    xframe.transfer(source, yours)
    assert adapter.dtype(yours) == dtype

    def rounded(tensor: Any) -> np.ndarray:
        return np.asarray(tensor.detach().to(getattr(torch, dtype)).double().numpy())

    w_ih, w_hh, b_ih, b_hh = source.parameters()
    kernel, recurrent, *biases = (np.asarray(a, np.float64) for a in adapter.read(yours).values())
    keras = target == "keras"
    assert np.array_equal(kernel.T if keras else kernel, rounded(w_ih))
    assert np.array_equal(recurrent.T if keras else recurrent, rounded(w_hh))
    for got, wanted in zip(biases, [b_ih.double() + b_hh.double()] if keras else [b_ih, b_hh], strict=True):
        assert np.array_equal(got, rounded(wanted))


@pytest.mark.needs("keras", "torch")
@pytest.mark.parametrize("target", ["keras", "torch"])
def test_too_large_for_float16(target: str) -> None:
    """65504 is its largest number; bfloat16 holds 1e5, rounded."""
    source = made("torch", LSTM, 124)
    arrays = NUMBERS["torch"](source)
    arrays[0][0, 0] = 1e5
    FILL["torch"](source, arrays)
    adapter = get_adapter(target)
    yours = adapter.build(LSTM, "float16")
    before = helpers.bits(adapter.read(yours))
    with pytest.raises(LayoutError, match=r"holds 1e\+05, which is too large for float16"):
        xframe.transfer(source, yours)
    assert helpers.bits(adapter.read(yours)) == before
    wider = adapter.build(LSTM, "bfloat16")
    xframe.transfer(source, wider)
    assert adapter.parameters(wider)[Key(0, 0, "kernel", "i")][0, 0] == 99_840  # 195 * 512
