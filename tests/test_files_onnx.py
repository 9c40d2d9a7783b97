"""ONNX models: what is in them, what the graph makes of its weights, and files that are damaged or hostile.

ONNX Runtime is the oracle for what a graph computes from its constants.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import before
from onnx import TensorProto, helper, numpy_helper
from test_real_models import example, find_models  # noqa: F401 - example is a fixture

from xframe.adapters import known_packings
from xframe.errors import FileError, MissingFrameworkError
from xframe.files import ModelFile, StoredLayer, load
from xframe.files._onnx_fold import FOLDS
from xframe.packing import unpack
from xframe.spec import Recurrent

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
BATCH, STEPS, FEATURES, HIDDEN = 2, 5, 3, 4
OPSET = 17
Array = np.ndarray


def array(seed: int, *shape: int, dtype: str = "float32") -> Array:
    """Numbers that are all different and not zero."""
    found = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    assert np.unique(found).size == found.size
    assert found.all()
    return found


def weights(kind: str, direction: str = "forward", letters: str = "WRB", hidden: int = HIDDEN) -> dict[str, Array]:
    directions, rows = DIRECTIONS[direction], GATES[kind] * hidden
    shapes = {"W": (rows, FEATURES), "R": (rows, hidden), "B": (2 * rows,), "P": (3 * hidden,)}
    return {letter: array(i, directions, *shapes[letter]) for i, letter in enumerate(letters)}


def graph(
    nodes: Sequence[Any],
    arrays: dict[str, Array],
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = ("y",),
    kind: int = TensorProto.FLOAT,
) -> onnx.GraphProto:
    values = [[helper.make_tensor_value_info(n, kind, None) for n in names] for names in (inputs, outputs)]
    return helper.make_graph(nodes, "g", *values, [numpy_helper.from_array(a, n) for n, a in arrays.items()])


def model(nodes: Sequence[Any], arrays: dict[str, Array], opset: int = OPSET, **others: Any) -> onnx.ModelProto:
    return helper.make_model(
        graph(nodes, arrays, **others),
        opset_imports=[helper.make_opsetid("", opset)],
        producer_name="tests",
        ir_version=8,
    )


def opened(tmp_path: Path, proto: onnx.ModelProto | bytes) -> ModelFile:
    path = tmp_path / "model.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return load(path)


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    """A node; names are parted by spaces, and ``-`` is one that is left out."""
    split = [[name.replace("-", "") for name in names.split()] for names in (inputs, outputs)]
    return helper.make_node(op, *split, **attributes)


def same(found: Array, wanted: Array) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


def of(file: ModelFile, layer: StoredLayer) -> dict[str, Array]:
    """The arrays of a layer, each of the shape and type that the file said."""
    found = {label: file.tensors[name] for label, name in layer.tensors.items()}
    arrays = {label: tensor.read() for label, tensor in found.items()}
    for label, tensor in found.items():
        assert (tensor.shape, tensor.dtype) == (arrays[label].shape, str(arrays[label].dtype))
    return arrays


# ---- The recurrent operators.


@pytest.mark.parametrize("letters", ["WR", "WRB", "WRBP"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", GATES)
def test_recurrent(kind: str, direction: str, letters: str, tmp_path: Path) -> None:
    if "P" in letters and kind != "LSTM":
        letters = "WR"
    arrays = weights(kind, direction, letters)
    names = {letter: f"the {letter}" for letter in letters}
    inputs = ["x", *(names.get(letter, "") for letter in "WRB"), *([""] * 3), *([names["P"]] if "P" in letters else [])]
    made = helper.make_node(kind, inputs, ["y", "h"], name="layer", direction=direction, hidden_size=HIDDEN)
    file = opened(tmp_path, model([made], {names[letter]: a for letter, a in arrays.items()}, inputs=["x"]))

    (layer,) = file.layers
    assert (layer.name, layer.kind, layer.tensors) == ("layer", kind, names)
    for letter, found in of(file, layer).items():
        same(found, arrays[letter])
    assert list(file.tensors) == list(names.values())
    per_direction = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}[kind]
    own = {"RNN": {}, "LSTM": {"input_forget": 0, "initial_c": False}, "GRU": {"linear_before_reset": 0}}[kind]
    assert layer.options == {
        "hidden_size": HIDDEN,
        "direction": direction,
        "activations": per_direction * DIRECTIONS[direction],
        "activation_alpha": [],
        "activation_beta": [],
        "clip": None,
        "layout": 0,
        "opset": OPSET,
        "sequence_lens": False,
        "initial_h": False,
        **own,
    }
    assert file.metadata == {"opset": str(OPSET), "ir_version": "8", "producer_name": "tests"}
    assert file.format == "onnx"


def test_what_the_node_says_goes_before_the_defaults(tmp_path: Path) -> None:
    given = {
        "direction": "reverse",
        "activations": ["HardSigmoid", "Elu", "Softsign"],
        "activation_alpha": [0.25, 0.5],
        "activation_beta": [0.75],
        "clip": 2.5,
        "input_forget": 1,
        "layout": 1,
    }
    lstm = node("LSTM", "x W R B n h c P", **given)
    gru = node("GRU", "x W3 R3 - - h", "z", linear_before_reset=1)
    arrays = weights("LSTM", letters="WRBP") | {f"{k}3": a for k, a in weights("GRU", letters="WR", hidden=6).items()}
    one, other = opened(tmp_path, model([lstm, gru], arrays, inputs=["x", "n", "h", "c"])).layers
    assert {key: one.options[key] for key in given} == given
    assert one.options["hidden_size"] == HIDDEN  # not given: R has it
    assert [one.options[key] for key in ("sequence_lens", "initial_h", "initial_c")] == [True] * 3
    assert (one.name, other.name) == ("y", "z")
    assert (other.options["hidden_size"], other.options["linear_before_reset"]) == (6, 1)
    assert (other.options["sequence_lens"], other.options["initial_h"], "initial_c" in other.options) == (
        False,
        True,
        False,
    )


def test_initial_states_that_are_constant_are_tensors(tmp_path: Path) -> None:
    states = {"h": array(7, 1, BATCH, HIDDEN), "c": array(8, 1, BATCH, HIDDEN)}
    file = opened(
        tmp_path, model([node("LSTM", "x W R - - h c")], weights("LSTM", letters="WR") | states, inputs=["x"])
    )
    assert file.layers[0].tensors == {"W": "W", "R": "R", "initial_h": "h", "initial_c": "c"}
    assert file.layers[0].options["initial_c"] is True


def test_a_constant_node_gives_weights(tmp_path: Path) -> None:
    arrays = weights("RNN", letters="WR")
    constant = node("Constant", "", "W", value=numpy_helper.from_array(arrays["W"]))
    other = node("Constant", "", "two", value=numpy_helper.from_array(np.array([2.0], np.float32)))
    listed = node("Constant", "", "h", value_floats=[0.5, 0.25])
    nodes = [constant, other, listed, node("Add", "x two", "z"), node("RNN", "z W R - - h")]
    file = opened(tmp_path, model(nodes, {"R": arrays["R"]}, inputs=["x"]))
    assert list(file.tensors) == ["R", "W", "y.initial_h"]  # not the two of an Add
    same(of(file, file.layers[0])["W"], arrays["W"])
    same(of(file, file.layers[0])["initial_h"], np.array([0.5, 0.25], np.float32))


# ---- Other layers.


def test_dense_layers_and_others(tmp_path: Path) -> None:
    arrays = {
        "k1": array(1, 3, 4),
        "b1": array(2, 4),
        "k2": array(3, 5, 4),
        "b2": array(4, 5),
        "kernel": array(5, 6, 5, 2),
        "scale": array(6, 7),
        "unused": array(7, 2),
    }
    nodes = [
        node("MatMul", "x k1", "m", name="first"),
        node("Add", "b1 m", "a", name="add"),
        node("Gemm", "a k2 b2", "g", name="second", transB=1, alpha=0.5),
        node("Relu", "g", "r"),
        node("Conv", "r kernel", "c", name="third", strides=[2]),
        node("Mul", "scale c", "y", name="fourth"),
    ]
    file = opened(tmp_path, model(nodes, arrays, inputs=["x"]))
    assert [(layer.name, layer.kind, dict(layer.tensors), dict(layer.options)) for layer in file.layers] == [
        ("first", "MatMul", {"kernel": "k1", "bias": "b1"}, {}),
        (
            "second",
            "Gemm",
            {"kernel": "k2", "bias": "b2"},
            {"alpha": 0.5, "beta": 1.0, "transA": 0, "transB": 1},
        ),
        ("third", "Conv", {"W": "kernel"}, {"strides": [2]}),
        ("fourth", "Mul", {"A": "scale"}, {}),
    ]
    assert list(file.tensors) == list(arrays)
    for name, wanted in arrays.items():
        same(file.tensors[name].read(), wanted)


@pytest.mark.parametrize("reason", ["read twice", "read in a body", "an output", "another size"])
def test_an_addition_that_is_no_bias(reason: str, tmp_path: Path) -> None:
    bias = array(2, 3, 4) if reason == "another size" else array(2, 4)
    nodes = [node("MatMul", "x k", "m", name="product"), node("Add", "m b", "y", name="sum")]
    if reason == "read twice":
        nodes.append(node("Relu", "m", "r"))
    if reason == "read in a body":
        nodes.append(conditional(graph([node("Relu", "m")], {}, outputs=["y"]), graph([], {}), outputs="r"))
    outputs = ["y", "m"] if reason == "an output" else ["y"]
    file = opened(tmp_path, model(nodes, {"k": array(1, 3, 4), "b": bias}, inputs=["x", "c"], outputs=outputs))
    assert [(layer.name, layer.tensors) for layer in file.layers] == [("product", {"kernel": "k"}), ("sum", {"B": "b"})]


def test_operators_of_others_are_told_apart(tmp_path: Path) -> None:
    nodes = [node("LSTM", "x W R", "z", domain="elsewhere"), node("LSTM", "z W R", domain="ai.onnx")]
    file = opened(tmp_path, model(nodes, weights("LSTM", letters="WR"), inputs=["x"]))
    assert [layer.kind for layer in file.layers] == ["elsewhere.LSTM", "LSTM"]
    assert file.layers[0].tensors == {"input1": "W", "input2": "R"}
    assert file.layers[0].options == {}


# ---- Graphs in graphs.


def conditional(then: onnx.GraphProto, other: onnx.GraphProto, outputs: str = "y") -> Any:
    return node("If", "c", outputs, name="if", then_branch=then, else_branch=other)


def test_both_branches_of_an_if(tmp_path: Path) -> None:
    """The same weights are one layer, whether they are taken as they are or folded in each branch; others are two."""
    outer = {f"{k}0": a[0] for k, a in weights("GRU", letters="WR").items()}
    inner = {"B": array(5, 1, 24), "W": array(6, 1, 12, 3)}

    def branch(at: int) -> onnx.GraphProto:
        own = {"B": inner["B"]} if at else {"B": -inner["B"]}
        nodes = [
            node("Constant", "", "axis", value_ints=[0]),
            node("Unsqueeze", "W0 axis", "W"),
            node("Unsqueeze", "R0 axis", "R"),
            node("GRU", "x W R", "shared", name=f"shared{at}"),
            node("GRU", "x W R B", "y", name="apart"),
        ]
        return graph(nodes, own)

    file = opened(tmp_path, model([conditional(branch(0), branch(1))], outer, inputs=["x", "c"]))
    prefix = ["if/else_branch/", "if/then_branch/"]  # the order of the file: onnx.helper sorts attributes
    assert [layer.name for layer in file.layers] == [f"{prefix[0]}shared1", f"{prefix[0]}apart", f"{prefix[1]}apart"]
    assert [layer.options.get("also") for layer in file.layers] == [[f"{prefix[1]}shared0"], None, None]
    assert file.layers[0].options["folded"] == {"W": ["W0"], "R": ["R0"]}
    for layer, bias in zip(file.layers, (None, inner["B"], -inner["B"]), strict=True):
        found = of(file, layer)
        same(found["W"], outer["W0"][None])
        same(found["R"], outer["R0"][None])
        if bias is not None:
            same(found["B"], bias)
    # Not unique, so with their paths.
    assert {name for name in file.tensors if name.endswith("B")} == {f"{p}B" for p in prefix}
    assert len(file.tensors) == 2 + 2 + 2


def test_a_layer_twice_in_a_branch_is_two(tmp_path: Path) -> None:
    twice = [node("RNN", "x W R", "z", name="a"), node("RNN", "z W R", name="b")]
    arrays = weights("RNN", letters="WR", hidden=3)
    file = opened(tmp_path, model([conditional(graph(twice, {}), graph(twice, {}))], arrays, inputs=["x", "c"]))
    assert [layer.name for layer in file.layers] == ["if/else_branch/a", "if/else_branch/b"]
    assert [layer.options["also"] for layer in file.layers] == [["if/then_branch/a"], ["if/then_branch/b"]]
    once = graph(twice[1:], {})
    file = opened(tmp_path, model([conditional(once, graph(twice, {}))], arrays, inputs=["x", "c"]))
    assert [layer.options.get("also") for layer in file.layers] == [["if/then_branch/b"], None]


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_bodies_of_loops_and_scopes(kind: str, tmp_path: Path) -> None:
    """An outer name is found, an inner one shadows it, and what a body is given is no constant."""
    outer = weights("LSTM") | {"P": array(9, 1, 12), "given": array(10, 1, 16, 3)}
    own = {"B": array(11, 1, 32)}
    deep = graph([node("LSTM", "x W R B", name="deepest")], {})
    nodes = [
        node("LSTM", "x W R B - - - P", "z", name="inner"),
        node("LSTM", "x given R B", "q", name="varying"),
        conditional(deep, graph([], {})),
    ]
    body = graph(nodes, own, inputs=["i", "given", "P"], outputs=["z"])
    attributes = {"num_scan_inputs": 1} if kind == "Scan" else {}
    made = [
        node(kind, "a b given", "y", name="loop", body=body, **attributes),
        node("LSTM", "y W R B", "t", name="outer"),
    ]
    file = opened(tmp_path, model(made, outer, inputs=["a", "b", "x"]))
    layers = {layer.name: layer for layer in file.layers if layer.kind == "LSTM"}
    assert list(layers) == ["loop/body/inner", "loop/body/varying", "loop/body/if/then_branch/deepest", "outer"]
    inner, varying, deepest, last = layers.values()
    assert inner.tensors == {"W": "W", "R": "R", "B": "loop/body/B"}
    assert inner.options["not_constant"] == ["P"]
    assert varying.options["not_constant"] == ["W"]
    assert deepest.tensors == inner.tensors
    assert last.tensors == {"W": "W", "R": "R", "B": "B"}
    same(of(file, deepest)["B"], own["B"])
    same(of(file, last)["B"], outer["B"])


def test_an_inner_name_that_is_unique_stays(tmp_path: Path) -> None:
    body = graph([node("RNN", "x inner R")], {"inner": weights("RNN")["W"]})
    file = opened(tmp_path, model([conditional(body, graph([], {}))], {"R": weights("RNN")["R"]}, inputs=["x", "c"]))
    assert list(file.tensors) == ["R", "inner"]


def test_nodes_of_one_name_do_not_share_tensors(tmp_path: Path) -> None:
    arrays = [array(seed, 1, 4, 3) for seed in (1, 2)]
    ifs = [
        helper.make_node(
            "If",
            ["c"],
            [f"y{i}"],
            name="if",
            then_branch=graph([node("RNN", "x W R")], {"W": a}),
            else_branch=graph([], {}),
        )
        for i, a in enumerate(arrays)
    ]
    file = opened(tmp_path, model(ifs, {"R": array(3, 1, 4, 4)}, inputs=["x", "c"]))
    assert [layer.tensors["W"] for layer in file.layers] == ["if/then_branch/W", "if#2/then_branch/W"]
    for layer, wanted in zip(file.layers, arrays, strict=True):
        same(of(file, layer)["W"], wanted)


# ---- Folding, against ONNX Runtime.

INT64 = np.iinfo(np.int64)
SOURCE = array(0, 4, 6, 3)
# By name: the operator set, the nodes that make W, and their constants besides ``source``.
CHAINS: dict[str, tuple[int, list[Any], dict[str, Any]]] = {
    "identity": (17, [node("Identity", "source", "W")], {}),
    "transpose": (17, [node("Transpose", "source", "W", perm=[2, 0, 1])], {}),
    "transpose all": (17, [node("Transpose", "source", "W")], {}),
    "unsqueeze": (17, [node("Unsqueeze", "source n", "W")], {"n": [-1, 0]}),
    "unsqueeze 11": (11, [node("Unsqueeze", "source", "W", axes=[2, 0])], {}),
    "squeeze": (17, [node("Unsqueeze", "source n", "u"), node("Squeeze", "u m", "W")], {"n": [0, 2, 5], "m": [-1, 2]}),
    "squeeze all": (17, [node("Unsqueeze", "source n", "u"), node("Squeeze", "u", "W")], {"n": [0, 2]}),
    "squeeze 11": (11, [node("Unsqueeze", "source", "u", axes=[0, 2]), node("Squeeze", "u", "W", axes=[2])], {}),
    "reshape": (17, [node("Reshape", "source n", "W")], {"n": [0, -1, 9]}),
    "reshape by shape": (
        17,
        [node("Shape", "source", "n", start=-1), node("Concat", "n m", "k", axis=0), node("Reshape", "source k", "W")],
        {"m": [-1]},
    ),
    "slice": (17, [node("Slice", "source a b c", "W")], {"a": [1, -2], "b": [INT64.max, 3], "c": [1, -1]}),
    "slice steps": (
        17,
        [node("Slice", "source a b c s", "W")],
        {"a": [-1, 0], "b": [-5, 5], "c": [1, 0], "s": [-2, 3]},
    ),
    "slice to the first": (
        17,
        [node("Slice", "source a b c s", "W")],
        {"a": [INT64.max], "b": [INT64.min], "c": [1], "s": [-1]},
    ),
    "slice from below": (
        17,
        [node("Slice", "source a b c s", "W")],
        {"a": [-99], "b": [INT64.min], "c": [1], "s": [-1]},
    ),
    "slice from just below": (17, [node("Slice", "source a b c", "W")], {"a": [-8], "b": [-3], "c": [1]}),
    "slice of nothing": (17, [node("Slice", "source a b c", "W")], {"a": [3], "b": [2], "c": [1]}),
    "slice 9": (9, [node("Slice", "source", "W", starts=[1, 1], ends=[3, 99], axes=[1, 0])], {}),
    "slice leading": (9, [node("Slice", "source", "W", starts=[1, 1], ends=[3, 99])], {}),
    "split": (17, [node("Split", "source n", "u W v", axis=1)], {"n": [1, 3, 2]}),
    "split evenly": (17, [node("Split", "source", "u W")], {}),
    "split unevenly": (18, [node("Split", "source", "W u v t", axis=1, num_outputs=4)], {}),
    "split the last": (18, [node("Split", "source", "t u v W", axis=1, num_outputs=4)], {}),
    "split 11": (11, [node("Split", "source", "u W", axis=-1, split=[1, 2])], {}),
    "gather": (17, [node("Gather", "source n", "W", axis=1)], {"n": [5, 0, -2, 0]}),
    "gather one": (17, [node("Gather", "source n", "W", axis=-1)], {"n": 1}),
    "gather many": (17, [node("Gather", "source n", "W")], {"n": [[3, 1, 0], [0, 2, 2]]}),
    "concat": (
        17,
        [node("Slice", "source a b", "u"), node("Concat", "u source u", "W", axis=-3)],
        {"a": [2], "b": [3]},
    ),
    "cast": (17, [node("Cast", "source", "u", to=10), node("Cast", "u", "W", to=1)], {}),
    "cast wider": (17, [node("Cast", "source", "W", to=11)], {}),
    "zeros": (17, [node("ConstantOfShape", "n", "W")], {"n": [2, 3]}),
    "filled": (
        17,
        [
            node("Shape", "source", "n", start=0, end=2),
            node("ConstantOfShape", "n", "W", value=numpy_helper.from_array(np.array([1.5], np.float64))),
        ],
        {},
    ),
    "unsorted": (
        17,
        [node("Transpose", "u", "W", perm=[1, 0, 2]), node("Transpose", "source", "u", perm=[2, 0, 1])],
        {},
    ),
    "gates": (
        17,
        [
            *(node("Slice", f"source {a} {b} one", f"g{i}") for i, (a, b) in enumerate(["ab", "bc", "cd"])),
            node("Concat", "g1 g0 g2", "u", axis=1),
            node("Constant", "", "n", value_ints=[0]),
            node("Unsqueeze", "u n", "v"),
            node("Concat", "v v", "W", axis=0),
        ],
        {"a": [0], "b": [2], "c": [4], "d": [6], "one": [1]},
    ),
}


def test_every_folded_operator_is_in_a_chain() -> None:
    assert {n.op_type for _, nodes, _ in CHAINS.values() for n in nodes} == set(FOLDS)


@pytest.mark.parametrize("name", CHAINS)
def test_folding(name: str, tmp_path: Path) -> None:
    if name in ("split unevenly", "split the last") and before(onnxruntime, 1, 32):
        pytest.skip("onnxruntime before 1.32 makes 4 parts of 6 as if they were 8")
    opset, nodes, constants = CHAINS[name]
    arrays = {"source": SOURCE, "R": array(1, 1, 4, 4)} | {k: np.array(v, np.int64) for k, v in constants.items()}
    kind = TensorProto.DOUBLE if name in ("cast wider", "filled") else TensorProto.FLOAT
    alone = model(nodes, arrays, opset, outputs=["W"], kind=kind)
    (wanted,) = onnxruntime.InferenceSession(alone.SerializeToString()).run(["W"], {})

    file = opened(tmp_path, model([*nodes, node("RNN", "x W R", name="layer")], arrays, opset, inputs=["x"]))
    (layer,) = (layer for layer in file.layers if layer.kind == "RNN")
    same(of(file, layer)["W"], wanted)
    same(of(file, layer)["W"], wanted)  # reading changes nothing
    if name == "identity":
        assert layer.tensors["W"] == "source"
        assert "folded" not in layer.options
    else:
        assert layer.tensors["W"] == "layer.W"
        assert layer.options["folded"] == {"W": [] if "ConstantOfShape" in {n.op_type for n in nodes} else ["source"]}
    assert "not_constant" not in layer.options
    same(file.tensors["source"].read(), SOURCE)
    assert len(file.layers) == 1  # what is folded is no layer


def test_two_parts_of_one_tensor_are_two(tmp_path: Path) -> None:
    source = array(1, 2, 4, 3)
    nodes = [
        node("Slice", "source a b", "W1"),
        node("Slice", "source b c", "W2"),
        node("Slice", "source a b", "W3"),
        *(node("RNN", f"x W{i} R", f"y{i}") for i in (1, 2, 3)),
    ]
    ends = {name: np.array([i]) for i, name in enumerate("abc")}
    file = opened(tmp_path, model(nodes, {"source": source, "R": array(2, 1, 4, 4), **ends}, inputs=["x"]))
    one, other, again = file.layers
    same(of(file, one)["W"], source[:1])
    same(of(file, other)["W"], source[1:])
    assert [layer.tensors["W"] for layer in file.layers] == ["y1.W", "y2.W", "y1.W"]  # what is the same is there once
    assert again.options["folded"] == {"W": ["source"]}


NOT_FOLDED = {
    "quantised": [node("DequantizeLinear", "W8 scale", "W")],
    "computed": [node("Add", "w w", "W")],
    "an input": [node("Identity", "x", "W")],
    "an integer": [node("Cast", "W8", "W", to=1)],
    "to bfloat16": [node("Cast", "w", "W", to=16)],
    "nobody knows": [node("Identity", "nowhere", "W")],
    "text": [node("Constant", "", "W", value_string="text")],
}


@pytest.mark.parametrize("name", NOT_FOLDED)
def test_what_is_not_folded_is_named(name: str, tmp_path: Path) -> None:
    arrays = {"W8": np.arange(12, dtype=np.int8).reshape(1, 4, 3), "scale": array(2), "w": array(3, 1, 4, 3)}
    nodes = [*NOT_FOLDED[name], node("RNN", "x W R", name="layer")]
    file = opened(tmp_path, model(nodes, {"R": array(1, 1, 4, 4)} | arrays, inputs=["x"]))
    layer = file.layers[-1]
    assert layer.options["not_constant"] == ["W"]
    assert layer.tensors == {"R": "R"}
    if name == "quantised":
        assert file.layers[0].tensors == {"x": "W8", "x_scale": "scale"}


def test_a_large_weight_is_not_read_to_be_folded(tmp_path: Path) -> None:
    """3 GB in a file that has holes: more than a protobuf may have, opened without reading them."""
    path, rows, columns = tmp_path / "model.onnx", 30_000, 25_000
    raw = rows * columns * 4
    small = model([node("Transpose", "w", "k"), node("MatMul", "x k")], {"w": array(1, 2, 3)}, inputs=["x"])
    kept = small.graph.initializer[0]
    kept.dims[:] = [rows, columns]
    kept.ClearField("raw_data")
    tensor = field(5, kept.SerializeToString(), more=head(9, raw), hole=raw)
    del small.graph.initializer[:]
    body = small.graph.SerializeToString()
    del small.graph.node[:]
    rest = onnx.ModelProto(ir_version=8, opset_import=small.opset_import).SerializeToString()
    start = rest + head(7, len(body) + len(tensor) + raw) + body + tensor
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + raw)
    tracemalloc.start()
    try:
        found = load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert found.tensors["w"].shape == (rows, columns)
    assert found.tensors[found.layers[0].tensors["kernel"]].shape == (columns, rows)


def head(number: int, length: int) -> bytes:
    """The start of a field of a protobuf that has a length."""
    found = [number << 3 | 2]
    while length > 127:
        found.append(length & 127 | 128)
        length >>= 7
    return bytes([*found, length])


def field(number: int, content: bytes, more: bytes = b"", hole: int = 0) -> bytes:
    return head(number, len(content) + len(more) + hole) + content + more


# ---- Types of numbers, and where they are.

TYPES = "float32 uint8 int8 uint16 int16 int32 int64 bool float16 float64 uint32 uint64 complex64 complex128".split()


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "fields"])
@pytest.mark.parametrize("dtype", TYPES)
def test_types(dtype: str, raw: bool, tmp_path: Path) -> None:
    if dtype.startswith("complex") and not raw and before(onnx, 1, 19):
        pytest.skip("onnx before 1.19 does not read complex numbers that are fields")
    wanted = np.array([[1, 0, 3], [100, 5, 6]]).astype(dtype)
    if np.dtype(dtype).kind in "fc":
        wanted = wanted + np.array(0.1, dtype)
    if np.dtype(dtype).kind == "c":
        wanted = wanted * np.array(1 - 2j, dtype)
    proto = model([], {}, outputs=["a"])
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    if raw:
        proto.graph.initializer.append(numpy_helper.from_array(wanted, "a"))
    else:
        values = wanted.reshape(-1)
        proto.graph.initializer.append(helper.make_tensor("a", kind, wanted.shape, values))
    assert proto.graph.initializer[0].HasField("raw_data") is raw
    tensor = opened(tmp_path, proto).tensors["a"]
    assert (tensor.dtype, tensor.shape) == (dtype, (2, 3))
    same(tensor.read(), wanted)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "fields"])
def test_bfloat16(raw: bool, tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.140625], np.float32)  # each of which bfloat16 has
    proto = model([], {}, outputs=["a"])
    content = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    proto.graph.initializer.append(helper.make_tensor("a", TensorProto.BFLOAT16, [3], content if raw else values, raw))
    tensor = opened(tmp_path, proto).tensors["a"]
    assert (tensor.dtype, tensor.shape) == ("bfloat16", (3,))
    same(tensor.read(), values)


def test_a_type_that_numpy_has_not_is_listed(tmp_path: Path) -> None:
    proto = model([node("RNN", "x W R")], {"R": array(1, 1, 4, 4)}, inputs=["x"])
    proto.graph.initializer.append(helper.make_tensor("W", TensorProto.FLOAT8E4M3FN, [1, 4, 3], bytes(12), raw=True))
    tensor = opened(tmp_path, proto).tensors["W"]
    assert (tensor.dtype, tensor.shape) == ("float8e4m3fn", (1, 4, 3))
    with pytest.raises(
        FileError, match=r"of type float8e4m3fn, which NumPy has not; give a model that is not quantised\.$"
    ):
        tensor.read()


def with_external(tmp_path: Path, location: str = "weights.bin", **entries: Any) -> onnx.ModelProto:
    arrays = weights("RNN", letters="WR")
    proto = model([node("RNN", "x W R")], arrays, inputs=["x"])
    (tensor,) = (t for t in proto.graph.initializer if t.name == "W")
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": location, "offset": 16, "length": len(content)} | entries).items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    (tmp_path / "weights.bin").write_bytes(bytes(16) + content + bytes(5))
    return proto


def test_external_data(tmp_path: Path) -> None:
    file = opened(tmp_path, with_external(tmp_path))
    assert file.metadata["external_data"] == "weights.bin"
    same(of(file, file.layers[0])["W"], weights("RNN")["W"])
    # It is read when it is asked for, and must be what was checked.
    other = weights("RNN")["R"].reshape(-1)[:12]
    (tmp_path / "weights.bin").write_bytes(bytes(16) + other.tobytes())
    with pytest.raises(FileError, match=r"weights\.bin: it was changed while it was read"):
        file.tensors["W"].read()
    file = load(tmp_path / "model.onnx")
    same(of(file, file.layers[0])["W"], other.reshape(1, 4, 3))
    (tmp_path / "weights.bin").write_bytes(bytes(50))
    with pytest.raises(FileError, match=r"weights\.bin: it ends before the tensor 'W' does"):
        file.tensors["W"].read()
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(FileError, match="No such file"):
        file.tensors["W"].read()


def test_external_data_that_onnx_itself_wrote(tmp_path: Path) -> None:
    arrays = weights("LSTM", "bidirectional")
    path = tmp_path / "model.onnx"
    onnx.save(
        model([node("LSTM", "x W R B", direction="bidirectional")], arrays, inputs=["x"]),
        path,
        save_as_external_data=True,
        location="all.data",
        size_threshold=0,
    )
    file = load(path)
    assert path.stat().st_size < 1000
    for letter, found in of(file, file.layers[0]).items():
        same(found, arrays[letter])


@pytest.mark.parametrize("folder", ["sub", "sub/deeper"])
def test_external_data_in_a_folder_below(folder: str, tmp_path: Path) -> None:
    proto = with_external(tmp_path, f"{folder}/w.bin")
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "weights.bin").rename(tmp_path / folder / "w.bin")
    file = opened(tmp_path, proto)
    same(file.tensors["W"].read(), weights("RNN")["W"])


OUTSIDE = "which is no file in its folder"
EXTERNAL = {
    "absolute": ({"location": "/etc/hostname"}, OUTSIDE),
    "above": ({"location": "../secret.bin"}, OUTSIDE),
    "above, from below": ({"location": "sub/../../secret.bin"}, OUTSIDE),
    "above, as Windows": ({"location": "..\\secret.bin"}, OUTSIDE),
    "a drive": ({"location": "C:\\secret.bin"}, OUTSIDE),
    "a place on a drive": ({"location": "C:secret.bin"}, OUTSIDE),
    "a link out": ({"location": "link.bin"}, OUTSIDE),
    "a link to a folder out": ({"location": "linked/secret.bin"}, OUTSIDE),
    "links in a circle": ({"location": "circle"}, "missing"),
    "a folder": ({"location": "sub"}, OUTSIDE),
    "a pipe": ({"location": "pipe"}, OUTSIDE),
    "itself": ({"location": "."}, OUTSIDE),
    "no name": ({"location": ""}, "missing"),
    "no location": ({"location": None}, "missing"),
    "a null": ({"location": "a\0b"}, "missing"),
    "a long name": ({"location": "a" * 5000}, "missing"),
    "missing": ({"location": "nowhere.bin"}, "which is missing; put that file beside it"),
    "past the end": ({"offset": 22}, "it ends before the tensor 'W'"),
    "far past the end": ({"offset": 10**18}, "it ends before the tensor 'W'"),
    "too far": ({"offset": 10**30}, "makes no sense"),
    "before the start": ({"offset": -1}, "makes no sense"),
    "no number": ({"offset": "0x10"}, "makes no sense"),
    "too short": ({"length": 44}, "needs 48 bytes and has 44"),
    "too long": ({"length": 52}, "needs 48 bytes and has 52"),
}


@pytest.mark.parametrize("name", EXTERNAL)
def test_external_data_that_is_refused(name: str, tmp_path: Path) -> None:
    entries, why = EXTERNAL[name]
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "circle").symlink_to(folder / "circle")
    os.mkfifo(folder / "pipe")
    refused(folder, with_external(folder, **entries), why)


# ---- Damage.


def read_all(file: ModelFile) -> None:
    for tensor in file.tensors.values():
        found = tensor.read()
        assert found.shape == tensor.shape
        assert str(found.dtype) == ("float32" if tensor.dtype == "bfloat16" else tensor.dtype)


def refused(tmp_path: Path, proto: onnx.ModelProto | bytes, why: str, read: bool = False) -> None:
    """It is refused with one sentence that has these words: when it is opened or, with ``read``, when a tensor is read."""
    file = opened(tmp_path, proto) if read else None
    with pytest.raises(FileError) as caught:
        read_all(file or opened(tmp_path, proto))
    text = str(caught.value)
    assert why in text
    assert text.startswith("Cannot read ")
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 500 + len(str(tmp_path))


def changed(**fields: Any) -> onnx.ModelProto:
    """A model whose tensor has other fields."""
    proto = model([node("RNN", "x W R")], weights("RNN", letters="RW"), inputs=["x"])
    for key, value in fields.items():
        if isinstance(value, list):
            getattr(proto.graph.initializer[1], key)[:] = value
        else:
            setattr(proto.graph.initializer[1], key, value)
    return proto


DAMAGED = {
    "too little": (changed(raw_data=bytes(44)), "the tensor 'W' of shape (1, 4, 3) needs 48 bytes and has 44"),
    "too much": (changed(raw_data=bytes(52)), "needs 48 bytes and has 52"),
    "a negative size": (changed(dims=[1, -4, -3]), "a shape that makes no sense"),
    "a huge size": (changed(dims=[2**62, 2**62, 3]), "bytes and has 48"),
    "many axes": (changed(dims=[1] * 99 + [4, 3]), "a shape that makes no sense"),
    "no type": (changed(data_type=0), "unknown type 0"),
    "an unknown type": (changed(data_type=99), "unknown type 99"),
    "a name twice": (changed(name="R"), "it has two tensors named 'R', or one of no name"),
    "no name": (changed(name=""), "two tensors named '', or one of no name"),
    "a long name": (changed(name="n\n" * 5000, data_type=99), "unknown type 99"),
    "no weights": (
        model([node("LSTM", "x W", name="layer")], weights("LSTM", letters="W")),
        "its LSTM node 'layer' has no",
    ),
    "weights left out": (model([node("LSTM", "x - R")], weights("LSTM", letters="WR")), "no weights W or R"),
    "a cycle": (
        model([node("Add", "a a", "b"), node("Add", "b b", "a", name="last")], {}),
        "needs what it makes itself",
    ),
    "a node of itself": (
        model([node("Identity", "a", "a", name="own")], {}),
        "its node 'own' needs what it makes itself",
    ),
    "an output twice": (model([node("Relu", "x", "a"), node("Relu", "x", "a")], {}), "the name 'a' is given twice"),
    "an output of a tensor": (model([node("Relu", "x", "a")], {"a": array(1, 2)}), "the name 'a' is given twice"),
    "no opset": (helper.make_model(graph([], {}), opset_imports=[]), "no graph or no operator set"),
    "an opset of others": (
        helper.make_model(graph([], {}), opset_imports=[helper.make_opsetid("x", 9)]),
        "no operator set",
    ),
    "opset 0": (model([], {}, 0), "no operator set"),
    "no graph": (onnx.ModelProto(ir_version=8, opset_import=model([], {}).opset_import), "no graph"),
    "one byte": (b"\x08", "cut off"),
    "a version only": (b"\x08\x08", "no graph"),
    "a group": (b"\x08\x08\x0b\x0c", "damaged"),
    "zeros": (b"\x08" + bytes(99), "damaged"),
    "a length past the end": (b"\x08\x08\x3a\x7f", "damaged"),
    "an endless number": (b"\x08" + b"\xff" * 99, "cut off"),
    "names that are no text": (
        b"\x08\x08" + field(7, field(1, field(1, b"\xff\xfe"))) + field(8, b"\x10\x0b"),
        "a name in it is no text",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage(name: str, tmp_path: Path) -> None:
    refused(tmp_path, *DAMAGED[name])


def test_fewer_numbers_than_the_shape_says(tmp_path: Path) -> None:
    proto = model([], {}, outputs=["a"])
    proto.graph.initializer.append(helper.make_tensor("a", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]))
    proto.graph.initializer[0].dims[:] = [4]
    refused(tmp_path, proto, "the tensor 'a' is damaged", read=True)
    proto.graph.initializer[0].dims[:] = [2**20, 2**20]
    refused(tmp_path, proto, "has too few numbers")


SENSELESS = {
    "an axis": ([node("Unsqueeze", "w n", "W")], "its 'Unsqueeze' node 'W' cannot be computed: it has an axis 7 of 3"),
    "an order": ([node("Transpose", "w", "W", perm=[0, 0])], "its order of axes is [0, 0], of 2"),
    "a shape": ([node("Reshape", "w n", "W")], "it makes the shape (7,) of (4, 3)"),
    "no shape": ([node("Reshape", "w", "W")], "cannot be computed"),
    "unequal sizes": ([node("Concat", "w v", "W", axis=0)], "its inputs do not fit each other"),
    "unequal types": ([node("Concat", "w n", "W", axis=0)], "its inputs do not fit each other"),
    "no step": ([node("Slice", "w zero zero zero zero", "W")], "its starts, ends, axes and steps do not fit"),
    "sizes": ([node("Split", "w n", "W", axis=0)], "it splits 4 into [7]"),
    "nothing": ([node("Concat", "", "W", axis=0)], "do not fit each other"),
    "text for a number": ([node("Concat", "w w", "W", axis="zero")], "cannot be computed"),
    "a list for a number": ([node("Cast", "w", "W", to=[1, 2])], "cannot be computed"),
    "numbers for whole ones": ([node("Unsqueeze", "w v", "W")], "no short list of whole numbers"),
    "a negative shape": ([node("ConstantOfShape", "minus", "W")], "it makes the shape [-1]"),
    "a filling of two": (
        [node("ConstantOfShape", "n", "W", value=numpy_helper.from_array(array(1, 2)))],
        "has the shape (2,)",
    ),
}


@pytest.mark.parametrize("name", SENSELESS)
def test_nodes_that_make_no_sense(name: str, tmp_path: Path) -> None:
    nodes, why = SENSELESS[name]
    ints = {"n": np.array([7]), "zero": np.array([0]), "minus": np.array([-1])}
    arrays = {"w": array(2, 4, 3), "v": array(3, 2, 5), "R": array(4, 1, 4, 4)} | ints
    refused(tmp_path, model([*nodes, node("RNN", "x W R")], arrays, inputs=["x"]), why)


def test_an_index_that_is_too_large_is_seen_when_it_is_read(tmp_path: Path) -> None:
    arrays = {"w": array(2, 4, 3), "n": np.array([[4]]), "R": array(4, 1, 4, 4)}
    proto = model([node("Gather", "w n", "W"), node("RNN", "x W R", name="layer")], arrays, inputs=["x"])
    refused(tmp_path, proto, "'layer.W' cannot be computed", read=True)


# ---- Files that are made to cost much.


def bomb(kind: str) -> list[Any]:
    if kind == "doubled":  # 2 ** 60 numbers
        steps = [[node("Concat", f"w{i} w{i}", f"w{i + 1}", axis=0)] for i in range(60)]
    elif kind == "doubled and cut":  # few numbers, but 2 ** 60 moves
        steps = [
            [node("Concat", f"w{i} w{i}", f"v{i}", axis=0), node("Slice", f"v{i} zero four", f"w{i + 1}")]
            for i in range(60)
        ]
    elif kind == "long":
        steps = [[node("Transpose", f"w{i}", f"w{i + 1}")] for i in range(5000)]
    else:
        return [node("ConstantOfShape", "many", "W")]
    return [n for step in steps for n in step] + [node("Identity", f"w{len(steps)}", "W")]


@pytest.mark.parametrize("kind", ["doubled", "doubled and cut", "long", "zeros"])
def test_a_graph_that_makes_much_of_little_is_not_folded(kind: str, tmp_path: Path) -> None:
    ints = {"zero": np.array([0]), "four": np.array([4]), "many": np.array([2**20, 2**20])}
    arrays = {"w0": array(1, 4, 3), "R": array(4, 1, 4, 4)} | ints
    file = opened(tmp_path, model([*bomb(kind), node("RNN", "x W R")], arrays, inputs=["x"]))
    assert file.layers[-1].options["not_constant"] == ["W"]
    assert all(tensor.count < 2**24 for tensor in file.tensors.values())
    for tensor in file.tensors.values():
        tensor.read()


def test_a_list_of_axes_is_not_read_where_it_takes_much(tmp_path: Path) -> None:
    arrays = {
        "w": array(1, 4, 3),
        "R": array(4, 1, 4, 4),
        "much": np.arange(5000),
        "a": np.array([0]),
        "b": np.array([1]),
    }
    nodes = [node("Slice", "much a b", "axes"), node("Unsqueeze", "w axes", "W"), node("RNN", "x W R")]
    refused(tmp_path, model(nodes, arrays, inputs=["x"]), "its input 1 is no short list of whole numbers")


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = field(1, field(5, field(1, b"then_branch") + b"\xa0\x01\x05" + field(6, inner)) + field(4, b"If"))
    return b"\x08\x08" + field(7, inner) + field(8, b"\x10\x0b")


def test_graphs_nested_deeply(tmp_path: Path) -> None:
    assert opened(tmp_path, nested(29)).layers == ()
    for depth in (30, 1000):
        refused(tmp_path, nested(depth), "nested too deeply")


def test_a_graph_of_very_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(content: bytes) -> bytes:
        return b"\x08\x08" + field(7, content) + field(8, b"\x10\x0b")

    refused(tmp_path, whole(b"\x0a\x00" * 600_000), "too many nodes, or too much in them")
    inputs = whole(field(1, b"\x0a\x00" * 500))
    assert opened(tmp_path, inputs).layers == ()
    monkeypatch.setattr("xframe.files._onnx_wire._MOST_FIELDS", 500)  # the true limit takes seconds
    refused(tmp_path, inputs, "too many nodes, or too much in them")


def test_a_graph_of_very_much_text(tmp_path: Path) -> None:
    content = field(1, field(3, bytes(33 * 2**20))) * 2
    refused(tmp_path, b"\x08\x08" + field(7, content) + field(8, b"\x10\x0b"), "above 64 MiB")


def small_models(tmp_path: Path) -> Iterator[bytes]:
    """Models that have something of everything."""
    arrays = {"source": SOURCE, **{k: np.array(v, np.int64) for k, v in CHAINS["gates"][2].items()}}
    branch = graph([node("GRU", "x W R", name="inner")], weights("GRU", letters="WR"))
    nodes = [*CHAINS["gates"][1], node("RNN", "x W source", name="outer"), conditional(branch, branch)]
    proto = model(nodes, arrays, inputs=["x", "c"])
    proto.graph.initializer.append(helper.make_tensor("f", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]))
    yield proto.SerializeToString()
    yield with_external(tmp_path).SerializeToString()
    nodes = [n for _, some, _ in list(CHAINS.values())[:6] for n in some[:1]]
    for index, made in enumerate(nodes):
        made.output[0] = f"o{index}"
    nodes += [node("MatMul", "x o1", "m"), node("Add", "m b", "y"), node("LSTM", "x o2 o3", "l")]
    yield model(nodes, {"source": SOURCE, "n": np.array([-1, 0]), "b": array(3, 4)}, inputs=["x"]).SerializeToString()


def corrupted(content: bytes, random: np.random.Generator) -> bytes:
    """One of: cut off, bits turned over, a range of zeros or of noise, a range twice or left out."""
    data = bytearray(content)
    kind, start = random.integers(6), int(random.integers(1, len(data)))
    stop = min(len(data), start + int(random.integers(1, 40)))
    if kind == 0:
        del data[start:]
    elif kind == 1:
        for place in random.integers(1, len(data), size=random.integers(1, 6)):
            data[place] ^= 1 << int(random.integers(8))
    elif kind == 2:
        data[start:stop] = bytes(stop - start)
    elif kind == 3:
        data[start:stop] = random.bytes(stop - start)
    elif kind == 4:
        data[start:start] = data[start:stop]
    else:
        del data[start:stop]
    return bytes(data)


def repeated(described: Any) -> bool:
    """Whether a field is a list; protobuf 4 asks otherwise than protobuf 7."""
    return described.is_repeated if hasattr(described, "is_repeated") else described.label == described.LABEL_REPEATED


def parts(message: Any) -> Iterator[tuple[Any, Any]]:
    """Every field that is set in a message and in those in it, with the message."""
    for described, value in message.ListFields():
        yield message, described
        if described.message_type:
            for inner in value if repeated(described) else [value]:
                yield from parts(inner)


def altered(content: bytes, random: np.random.Generator) -> bytes:
    """One field made another: a sound protobuf that makes no sense as a model."""
    proto = onnx.ModelProto.FromString(content)
    found = list(parts(proto))
    names = [name for message, _ in found if isinstance(message, onnx.NodeProto) for name in (*message.input, "R", "")]
    message, described = found[random.integers(len(found))]
    others = {
        described.TYPE_STRING: names,
        described.TYPE_INT64: [-(2**63), -1, 0, 1, 2, 7, 2**31, 2**62],
        described.TYPE_INT32: [-1, 0, 1, 2, 6, 7, 9, 10, 16, 17, 21, 99],
    }.get(described.type)
    kept = getattr(message, described.name)
    if others and repeated(described):
        kept[random.integers(len(kept))] = others[random.integers(len(others))]
    elif others:
        setattr(message, described.name, others[random.integers(len(others))])
    elif repeated(described) and random.integers(2):
        kept.append(kept[random.integers(len(kept))])
    elif repeated(described):
        del kept[random.integers(len(kept))]
    else:
        message.ClearField(described.name)
    return proto.SerializeToString()


def fuzzed(
    tmp_path: Path, damage: Callable[[bytes, np.random.Generator], bytes], rounds: int, seed: int
) -> tuple[int, int]:
    """How many of the damaged models were read to the end, and how many were refused."""
    random, read, refusals = np.random.default_rng(seed), 0, 0
    for content in small_models(tmp_path):
        for _ in range(rounds):
            try:
                file = opened(tmp_path, damage(content, random))
                assert all(tensor.count < 2**26 for tensor in file.tensors.values())
                read_all(file)
                names = {name for layer in file.layers for name in layer.tensors.values()}
                assert names <= set(file.tensors)
                read += 1
            except FileError:
                refusals += 1
    return read, refusals


def test_corrupted_models(tmp_path: Path) -> None:
    read, refusals = fuzzed(tmp_path, corrupted, 250, seed=0)
    assert read > 50
    assert refusals > 300


def test_altered_models(tmp_path: Path) -> None:
    read, refusals = fuzzed(tmp_path, altered, 250, seed=0)
    assert read > 200
    assert refusals > 150


def test_noise_is_no_model(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    for size in random.integers(1, 200, size=300):
        with pytest.raises(FileError):
            opened(tmp_path, b"\x08" + random.bytes(int(size)))


def test_without_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = model([], {})
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingFrameworkError, match=r"it needs onnx .*; pip install 'xframe\[files\]'\.$"):
        opened(tmp_path, content)


def test_onnx_is_imported_only_for_onnx() -> None:
    code = "import sys, xframe.files, xframe.files.onnx; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- Real models.

DTLN = {"lstm_4": ("lstm", "sep1.rnn1", 257), "lstm_5": ("lstm_1", "sep1.rnn2", 128)}


@pytest.fixture(scope="module")
def models() -> Path:
    return find_models(os.environ)


@pytest.mark.parametrize("name", DTLN)
def test_dtln(name: str, models: Path, example: ModuleType) -> None:  # noqa: F811
    keras, torch, features = DTLN[name]
    file = load(models / "dtln/model_1.onnx")
    (layer,) = (layer for layer in file.layers if layer.name == name)
    assert (layer.kind, layer.options["opset"], layer.options["hidden_size"]) == ("LSTM", 11, 128)
    assert (layer.options["initial_h"], layer.options["sequence_lens"]) == (True, False)
    spec = Recurrent("lstm", features, 128)
    found = unpack(known_packings()["onnx"], spec, of(file, layer)).effective()
    for other in (
        example.from_keras(models / "dtln/model.h5", keras),
        example.from_torch(models / "dtln/model.pth", torch),
    ):
        wanted = other.effective()
        assert list(found) == list(wanted)
        for key, block in wanted.items():
            same(found[key], block)
    assert file.metadata == {
        "opset": "11",
        "ir_version": "6",
        "producer_name": "OnnxMLTools",
        "producer_version": "1.7.0",
    }


def test_dtln_whole(models: Path) -> None:
    """Every tensor of both files belongs to a layer. model_2 has no LSTM nodes: its cells are taken apart into products."""
    for name, kinds in (("model_1", {"LSTM": 2, "MatMul": 1}), ("model_2", {"MatMul": 5, "Conv": 2, "LSTM": 0})):
        path = models / f"dtln/{name}.onnx"
        file = load(path)
        assert set(file.tensors) == {tensor for layer in file.layers for tensor in layer.tensors.values()}
        for kind, count in kinds.items():
            assert sum(layer.kind == kind for layer in file.layers) == count
        for proto in onnx.load(path).graph.initializer:
            same(file.tensors[proto.name].read(), numpy_helper.to_array(proto))


# ---- PyTorch's exporter.


def exported(tmp_path: Path, module: Any, shape: tuple[int, ...], folding: bool) -> ModelFile:
    import torch

    path = tmp_path / "exported.onnx"
    # PyTorch before 2.5 has no other exporter.
    exporter = {} if before(torch, 2, 5) else {"dynamo": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.randn(*shape),), path, do_constant_folding=folding, **exporter)
    return load(path)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("folding", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", GATES)
def test_exported_by_torch(kind: str, bidirectional: bool, folding: bool, tmp_path: Path) -> None:
    """The weights are the module's to the last bit, whether the exporter folded them or left it to the graph."""
    import torch

    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(FEATURES, HIDDEN, 2, bidirectional=bidirectional)
    file = exported(tmp_path, module, (STEPS, BATCH, FEATURES), folding)
    layers = [layer for layer in file.layers if layer.kind == kind]
    assert len(layers) == 2
    for index, layer in enumerate(layers):
        assert ("folded" in layer.options) is not folding
        assert layer.options["direction"] == ("bidirectional" if bidirectional else "forward")
        spec = Recurrent(
            kind.lower(),
            FEATURES if not index else HIDDEN * (1 + bidirectional),
            HIDDEN,
            bidirectional=bidirectional,
            **({"reset_after": True} if kind == "GRU" else {}),
        )
        if kind == "GRU":
            assert layer.options["linear_before_reset"] == 1
        native = {
            name.replace(f"_l{index}", "_l0"): value.detach().numpy()
            for name, value in module.named_parameters()
            if f"_l{index}" in name
        }
        found = unpack(known_packings()["onnx"], spec, {k: v for k, v in of(file, layer).items() if k in "WRB"})
        wanted = unpack(known_packings()["torch"], spec, native)
        assert list(found) == list(wanted)
        for key, block in wanted.items():
            same(found[key], block)
        if not folding:
            names = layer.options["folded"]
            ends = ["", "_reverse"][: 1 + bidirectional]
            assert names["W"] == [f"weight_ih_l{index}{end}" for end in ends]
            assert names["B"] == [f"bias_{which}_l{index}{end}" for end in ends for which in ("ih", "hh")]


@pytest.mark.needs("torch")
@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_exported_by_torch(kind: str, tmp_path: Path) -> None:
    """A cell is written as two Gemm, with the weights as PyTorch packs them."""
    import torch

    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(FEATURES, HIDDEN)
    file = exported(tmp_path, module, (BATCH, FEATURES), folding=True)
    layers = {layer.tensors["kernel"]: layer for layer in file.layers if layer.kind == "Gemm"}
    assert set(layers) == {"weight_ih", "weight_hh"}
    for side in ("ih", "hh"):
        found = of(file, layers[f"weight_{side}"])
        same(found["kernel"], getattr(module, f"weight_{side}").detach().numpy())
        same(found["bias"], getattr(module, f"bias_{side}").detach().numpy())
        assert layers[f"weight_{side}"].options["transB"] == 1


@pytest.mark.needs("torch")
@pytest.mark.parametrize("folding", [True, False])
def test_dense_exported_by_torch(folding: bool, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    module = torch.nn.Linear(FEATURES, HIDDEN)
    file = exported(tmp_path, module, (BATCH, STEPS, FEATURES), folding)
    (layer,) = file.layers
    assert layer.kind == "MatMul"
    assert layer.options == ({} if folding else {"folded": {"kernel": ["weight"]}})
    found = of(file, layer)
    same(found["kernel"], module.weight.detach().numpy().T.copy())
    same(found["bias"], module.bias.detach().numpy())
