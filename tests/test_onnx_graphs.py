"""What an ONNX graph runs around its layers: what exporters write is read as a part of them, and all else is named.

The graphs have the forms that PyTorch's exporter, keras2onnx and tf2onnx give them. ONNX Runtime says what they compute.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import xframe
from xframe.adapters import get_adapter
from xframe.conversion import convert_file
from xframe.errors import UnsupportedError
from xframe.files import load
from xframe.packing import Parameters
from xframe.recognition import Findings, recognise
from xframe.reference import run
from xframe.spec import Dense, Recurrent

STEPS, BATCH, FEATURES, UNITS = 5, 3, 2, 4
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
Nodes = list[Any]
Arrays = dict[str, np.ndarray]


def array(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that are all different and not zero."""
    found = np.random.default_rng([seed, *shape]).normal(size=shape, scale=0.5).astype("float32")
    assert found.all()
    return found


def weights(kind: str, directions: int = 1, features: int = FEATURES, name: str = "", seed: int = 0) -> Arrays:
    rows = GATES[kind] * UNITS
    shapes = {"W": (rows, features), "R": (rows, UNITS), "B": (2 * rows,)}
    return {f"{k}{name}": array(directions, *shape, seed=seed) for k, shape in shapes.items()}


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node named as its first output; names are parted by spaces, and ``-`` is one that is left out."""
    split = [[name.replace("-", "") for name in names.split()] for names in (inputs, outputs)]
    return helper.make_node(op, *split, name=split[1][0], **attributes)


def ints(**lists: Any) -> Arrays:
    return {name: np.array(values, np.int64) for name, values in lists.items()}


def model(nodes: Nodes, arrays: Arrays, outputs: Sequence[str] = ("out",), **inputs: Sequence[Any]) -> onnx.ModelProto:
    """A graph of the input x, and of others by their shapes."""
    kinds = {"lens": TensorProto.INT32, "ids": TensorProto.INT64}
    given = {"x": ["b", "t", FEATURES], **inputs}
    values = [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, s in given.items() if s]
    wanted = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    graph = helper.make_graph(nodes, "g", values, wanted, [numpy_helper.from_array(a, n) for n, a in arrays.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def found(tmp_path: Path, proto: onnx.ModelProto) -> Findings:
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return recognise(load(path))


def outputs_of(proto: onnx.ModelProto, **given: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, given))


FRONT = [node("Transpose", "x", "X", perm=[1, 0, 2])]
BEHIND = [node("Squeeze", "Y one", "squeezed"), node("Transpose", "squeezed", "out", perm=[1, 0, 2])]
ONE = ints(one=[1])


def layer(kind: str = "GRU", ends: str = "", **attributes: Any) -> Any:
    """A recurrent node of X, W, R and B, and of what else it is given."""
    return node(kind, f"X W R B {ends}", "Y Y_h", **({"hidden_size": UNITS} | attributes))


# ---- What is opaque.


def test_a_layer_as_exporters_write_it_is_all_that_runs(tmp_path: Path) -> None:
    findings = found(tmp_path, model([*FRONT, layer(), *BEHIND], weights("GRU") | ONE))
    assert findings.opaque == ()
    assert findings.settings == ("one",)
    assert [one.readings[0].spec for one in findings.layers] == [Recurrent("gru", FEATURES, UNITS, reset_after=False)]
    assert not findings.others
    assert not findings.unconsumed


OPERATIONS = {
    "Relu": ({}, ""),
    "Neg": ({}, ""),
    "Softmax": ({"axis": -1}, ""),
    "Mul": ({}, " half"),
    "Add": ({}, " half"),
    "Clip": ({}, " - half"),
    "Cast": ({"to": TensorProto.FLOAT16}, ""),
    "Transpose": ({"perm": [1, 2, 0]}, ""),
    "ReduceSum": ({"keepdims": 1}, ""),
}


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("op", OPERATIONS)
def test_what_changes_numbers_is_named(op: str, place: str, tmp_path: Path) -> None:
    attributes, more = OPERATIONS[op]
    half = node("Constant", "", "half", value=numpy_helper.from_array(np.float32(0.5)))
    if place == "behind":
        nodes = [half, *FRONT, layer(), BEHIND[0], node("Transpose", "squeezed", "y", perm=[1, 0, 2])]
        nodes.append(node(op, f"y{more}", "out", **attributes))
    else:
        nodes = [half, node(op, f"x{more}", "changed", **attributes), node("Transpose", "changed", "X", perm=[1, 0, 2])]
        nodes += [layer(), *BEHIND]
    findings = found(tmp_path, model(nodes, weights("GRU") | ONE))
    where = "out" if place == "behind" else "changed"
    assert f"{op} (node {where})" in findings.opaque
    assert len(findings.layers) == 1


def test_a_file_that_runs_more_than_its_layer_is_not_converted_as_that_layer(tmp_path: Path) -> None:
    found(tmp_path, model([*FRONT, layer(), BEHIND[0], node("Relu", "squeezed", "out")], weights("GRU") | ONE))
    conversion = convert_file(tmp_path / "model.onnx", tmp_path / "out", "npz")
    assert "Relu (node out)" in conversion.not_converted
    assert not (tmp_path / "out" / "model.py").exists()


@pytest.mark.parametrize("turned", [False, True], ids=["graph second", "graph first"])
def test_what_runs_besides_is_not_judged_by_weights(turned: bool, tmp_path: Path) -> None:
    """A file of weights cannot say whether its program has the Relu, so nothing is equivalent unless less is asked for."""
    for name, nodes in {"relu": [BEHIND[0], node("Relu", "squeezed", "out")], "plain": BEHIND}.items():
        findings = found(tmp_path, model([*FRONT, layer(linear_before_reset=1), *nodes], weights("GRU") | ONE))
        (tmp_path / "model.onnx").rename(tmp_path / f"{name}.onnx")
    reading = findings.layers[0].readings[0]
    native = get_adapter("torch").build_loaded(
        reading.spec, reading.parameters(load(tmp_path / "plain.onnx")), "float32"
    )
    torch.save(native.state_dict(), tmp_path / "only.pt")

    def verified(name: str, **options: Any) -> xframe.Verification:
        both = [tmp_path / "only.pt", tmp_path / name]
        return xframe.verify(*reversed(both) if turned else both, **options)

    assert (verified("plain.onnx").status, verified("plain.onnx").scope) == ("equivalent", "weights")
    assert verified("relu.onnx").status == "inconclusive"
    assert "also runs Relu (node out), which was not judged" in verified("relu.onnx").reason
    assert verified("relu.onnx", scope="weights").status == "equivalent"
    assert verified("relu.onnx", subset=True).status == "equivalent"


def test_what_runs_besides_is_reported(tmp_path: Path) -> None:
    nodes = [*FRONT, layer(), BEHIND[0], *[node("Relu", "squeezed", f"relu{i}") for i in range(12)]]
    proto = model(nodes, weights("GRU") | ONE, outputs=[f"relu{i}" for i in range(12)])
    findings = found(tmp_path, proto)
    from xframe.report import render

    text = render(findings, "text")
    assert "Runs also" in text
    assert "Relu (node relu9)" in text
    assert "and 2 more" in text
    assert json.loads(render(findings, "json"))["opaque"] == [f"Relu (node relu{i})" for i in range(12)]


def test_what_nothing_depends_on_is_not_named(tmp_path: Path) -> None:
    nodes = [*FRONT, layer(), *BEHIND, node("Relu", "squeezed", "unused")]
    assert found(tmp_path, model(nodes, weights("GRU") | ONE)).opaque == ()


def test_what_only_a_body_reads_is_named(tmp_path: Path) -> None:
    """The graph in a node reads what is around it by name, and not as an input."""
    result = [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]
    bodies = [helper.make_graph([node(op, "changed", "z")], op, [], result) for op in ("Identity", "Neg")]
    nodes = [*FRONT, layer(), node("Relu", "Y", "changed")]
    nodes.append(node("If", "c", "out", then_branch=bodies[0], else_branch=bodies[1]))
    findings = found(tmp_path, model(nodes, weights("GRU"), c=[1]))
    assert findings.opaque == ("Relu (node changed)", "If (node out)")


def test_convolutions_of_constant_nodes_are_layers_beside_it(tmp_path: Path) -> None:
    kernel = node("Constant", "", "kernel", value=numpy_helper.from_array(array(FEATURES, FEATURES, 1)))
    nodes = [kernel, node("Transpose", "x", "t", perm=[0, 2, 1]), node("Conv", "t kernel", "c")]
    nodes += [node("Transpose", "c", "X", perm=[2, 0, 1]), layer(), *BEHIND]
    findings = found(tmp_path, model(nodes, weights("GRU") | ONE))
    assert [(other.kind, list(other.tensors.values())) for other in findings.others] == [("Conv", ["kernel"])]
    assert "Transpose (node t)" in findings.opaque


# ---- Moves at random: where nothing is named, the output is the layer's, with its axes in some order.


def moves(rng: np.random.Generator, rank: int) -> tuple[str, str, Arrays, dict[str, Any]]:
    """One node that moves numbers, of an array of this many axes: operator, further inputs, constants and attributes."""
    axis = int(rng.integers(rank))
    last = 2**63 - 1
    cuts = [([0], [1], [1]), ([-1], [last], [1]), ([-1], [-last], [-1]), ([1], [last], [1]), ([0], [last], [1])]
    starts, ends, steps = cuts[int(rng.integers(len(cuts)))]
    slicing = ints(starts=starts, ends=ends, axes=[axis], steps=steps)
    shapes = [[0] * (rank - 2) + [-1], [-1, 4], [-1, 8], [0, 0, -1], [0] * rank, [5, 3, -1], [3, 5, -1], [1, -1]]
    return [
        ("Transpose", "", {}, {"perm": [int(i) for i in rng.permutation(rank)]}),
        ("Squeeze", " axes", ints(axes=[axis]), {}),
        ("Unsqueeze", " axes", ints(axes=[axis]), {}),
        ("Slice", " starts ends axes steps", slicing, {}),
        ("Gather", " index", ints(index=int(rng.choice([0, -1, 1]))), {"axis": axis}),
        ("Reshape", " shape", ints(shape=shapes[int(rng.integers(len(shapes)))]), {}),
        ("Identity", "", {}, {}),
    ][int(rng.integers(7))]


def is_the_output(out: np.ndarray, y: np.ndarray, ends: Sequence[np.ndarray]) -> bool:
    """Whether an array is the output Y (steps, directions, batch, units), or the last of it, its features last."""
    out = np.squeeze(out)
    merged = y.transpose(0, 2, 1, 3).reshape(*y.shape[:1], y.shape[2], -1)
    wholes = [np.squeeze(one) for one in (y, merged, *ends)]
    return any(
        out.shape == (turned := whole.transpose(*order, whole.ndim - 1)).shape and np.array_equal(out, turned)
        for whole in wholes
        for order in itertools.permutations(range(whole.ndim - 1))
    )


@pytest.mark.parametrize("direction", ["forward", "bidirectional", "reverse"])
def test_moves_at_random(direction: str, tmp_path: Path) -> None:
    both = 2 if direction == "bidirectional" else 1
    right = wrong = 0
    for seed in range(150):
        rng = np.random.default_rng([seed, both])
        nodes, arrays, rank, name = [*FRONT, layer(direction=direction)], weights("GRU", both), 4, "Y"
        for step in range(int(rng.integers(1, 4))):
            op, more, constants, attributes = moves(rng, rank)
            arrays |= {f"{key}{step}": value for key, value in constants.items()}
            names = " ".join(f"{key}{step}" for key in more.split())
            nodes.append(node(op, f"{name} {names}", f"m{step}", **attributes))
            name, rank = f"m{step}", {"Squeeze": rank - 1, "Unsqueeze": rank + 1, "Gather": rank - 1}.get(op, rank)
            rank = len(constants["shape"]) if op == "Reshape" else rank
            if rank < 2:
                break
        proto = model(nodes, arrays, [name, "Y", "Y_h"])
        try:
            out, y, h = outputs_of(proto, x=array(BATCH, STEPS, FEATURES))
        except Exception:
            continue
        findings = found(tmp_path, model(nodes, arrays, [name]))
        (one,) = findings.layers
        if not findings.opaque and not one.refused:
            right += 1
            backwards = one.readings[0].spec.go_backwards
            ends = [h, np.moveaxis(h, 0, 1).reshape(BATCH, -1)]
            assert backwards == (direction == "reverse")
            assert is_the_output(out, y[::-1] if backwards else y, ends), (seed, [n.op_type for n in nodes])
        else:
            wrong += 1
    assert min(wrong, right) > (2 if direction == "reverse" else 8)


# ---- What a node is given.


def zeros(kind: str) -> tuple[Nodes, Arrays]:
    """A state of zeros, in the ways in which graphs have it."""
    size = [
        node("Shape", "X", "shape"),
        node("Gather", "shape one", "rows"),
        node("Concat", "one rows four", "size", axis=0),
    ]
    constants = ints(one=[1], four=[UNITS])
    zero = {"zero": np.zeros((), np.float32)}
    whole = np.zeros((1, BATCH, UNITS), np.float32)
    filled = node("ConstantOfShape", "size", "h", value=numpy_helper.from_array(np.zeros(1, np.float32)))
    return {
        "stored": ([], {"h": whole}),
        "constant node": ([node("Constant", "", "h", value=numpy_helper.from_array(whole))], {}),
        "identity": ([node("Identity", "stored", "h")], {"stored": whole}),
        "expanded": ([*size, node("Expand", "zero size", "h")], zero | constants),
        "filled": ([*size, filled], constants),
        "unsqueezed": ([*size, node("Expand", "zero size", "flat"), node("Identity", "flat", "h")], zero | constants),
    }[kind]


@pytest.mark.parametrize("kind", ["stored", "constant node", "identity", "expanded", "filled", "unsqueezed"])
def test_a_state_of_zeros_is_none(kind: str, tmp_path: Path) -> None:
    made, constants = zeros(kind)
    findings = found(tmp_path, model([*FRONT, *made, layer(ends="- h"), *BEHIND], weights("GRU") | ONE | constants))
    assert findings.opaque == ()
    assert findings.layers[0].readings


@pytest.mark.parametrize("kind", ["stored", "constant node", "identity", "expanded"])
def test_a_constant_state_is_refused(kind: str, tmp_path: Path) -> None:
    made, constants = zeros(kind)
    constants = {name: a + np.float32(0.25) if a.dtype == np.float32 else a for name, a in constants.items()}
    if kind == "constant node":
        made = [node("Constant", "", "h", value=numpy_helper.from_array(array(1, BATCH, UNITS)))]
    found(tmp_path, model([*FRONT, *made, layer(ends="- h"), *BEHIND], weights("GRU") | ONE | constants))
    (one,) = recognise(load(tmp_path / "model.onnx")).layers
    assert "its initial_h is constant and not zero" in one.refused
    with pytest.raises(UnsupportedError, match="initial_h is constant and not zero"):
        convert_file(tmp_path / "model.onnx", tmp_path / "out", "npz")


def test_a_state_that_is_given_or_computed(tmp_path: Path) -> None:
    given = model([*FRONT, layer(ends="- h"), *BEHIND], weights("GRU") | ONE, h=[1, "b", UNITS])
    assert found(tmp_path, given).opaque == ()
    parts = [node("Split", "h", "h0 h1", axis=0), node("GRU", "X W R B - h0", "Y Y_h", hidden_size=UNITS)]
    given = model([*FRONT, *parts, *BEHIND], weights("GRU") | ONE, h=[2, "b", UNITS])
    assert found(tmp_path, given).opaque == ()
    computed = [*FRONT, node("Tanh", "h", "warm"), layer(ends="- warm"), *BEHIND]
    findings = found(tmp_path, model(computed, weights("GRU") | ONE, h=[1, "b", UNITS]))
    assert findings.opaque == ("Tanh (node warm)", "GRU (node Y), which takes initial_h, computed when the model runs")


def test_lengths(tmp_path: Path) -> None:
    """Those of all of the input are none; others are refused, or named."""
    full = [node("Shape", "X", "shape"), node("Gather", "shape none", "steps"), node("Gather", "shape one", "rows")]
    full += [node("Expand", "steps rows", "many"), node("Cast", "many", "lens", to=TensorProto.INT32)]
    arrays = weights("GRU") | ints(one=[1], none=[0])
    findings = found(tmp_path, model([*FRONT, *full, layer(ends="lens"), *BEHIND], arrays))
    assert findings.opaque == ()
    assert findings.layers[0].readings
    rows = [*full[:3], node("Expand", "rows rows", "many"), full[4]]  # as many as there are rows
    findings = found(tmp_path, model([*FRONT, *rows, layer(ends="lens"), *BEHIND], arrays))
    assert findings.opaque == ("GRU (node Y), which takes sequence_lens, computed when the model runs",)
    findings = found(tmp_path, model([*FRONT, layer(ends="lens"), *BEHIND], arrays, lens=["b"]))
    assert findings.opaque == ("GRU (node Y), which takes sequence_lens, given when the model runs",)
    arrays["lens"] = np.array([2, 3, 1], np.int32)
    assert (
        "its sequence_lens are constant"
        in found(tmp_path, model([*FRONT, layer(ends="lens"), *BEHIND], arrays)).layers[0].refused
    )


@pytest.mark.parametrize(
    ("attributes", "ends", "words"),
    [
        ({"clip": 0.5}, "", "clip=0.5"),
        ({"input_forget": 1}, "", "input_forget"),
        ({}, "- - - P", "peepholes"),
        ({"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [0.3]}, "", "HardSigmoid"),
        ({"direction": "reverse"}, "", "reads time backwards"),
    ],
)
def test_what_a_node_says_that_is_not_modelled(
    attributes: dict[str, Any], ends: str, words: str, tmp_path: Path
) -> None:
    arrays = weights("LSTM") | ONE | ({"P": array(1, 3 * UNITS)} if "P" in ends else {})
    (one,) = found(tmp_path, model([*FRONT, layer("LSTM", ends, **attributes), *BEHIND], arrays)).layers
    assert words in one.refused


def test_batch_first(tmp_path: Path) -> None:
    """A node of layout 1 has its batch first, so that nothing is turned."""
    nodes = [node("GRU", "x W R B", "Y", hidden_size=UNITS, layout=1), node("Squeeze", "Y two", "out")]
    assert found(tmp_path, model(nodes, weights("GRU") | ints(two=[2]))).opaque == ()
    wrong = [node("Transpose", "x", "X", perm=[1, 0, 2]), *nodes]
    wrong[1] = node("GRU", "X W R B", "Y", hidden_size=UNITS)
    arrays = weights("GRU") | weights("GRU", features=UNITS, name="2", seed=2) | ONE
    second = node("GRU", "out W2 R2 B2", "Y2", hidden_size=UNITS)
    findings = found(tmp_path, model([*FRONT, layer(), *BEHIND, second], arrays, ["Y2"]))
    assert findings.opaque == ("GRU (node Y2), which reads the batch of a layer before it as time",)


# ---- Nodes that share constants.


def two(second: dict[str, Any], kind: str = "LSTM") -> tuple[Nodes, Arrays]:
    """Two layers of one state of zeros."""
    ends = "- h h" if kind == "LSTM" else "- h"
    nodes = [*FRONT, node(kind, f"X W R B {ends}", "Y", hidden_size=UNITS), BEHIND[0]]
    nodes += [node(kind, f"squeezed W2 R2 B2 {ends}", "out", hidden_size=UNITS, **second)]
    arrays = weights(kind) | weights(kind, features=UNITS, name="2", seed=2) | ONE
    return nodes, arrays | {"h": np.zeros((1, BATCH, UNITS), np.float32)}


def test_nodes_that_share_a_state_keep_what_they_say(tmp_path: Path) -> None:
    nodes, arrays = two({"activations": ["HardSigmoid", "Relu", "Relu"], "direction": "reverse"})
    nodes[-1].output[0] = "Z"
    nodes.append(node("Slice", "Z back end axis back", "out"))
    numbers = ints(back=[-1], end=[-(2**63) + 1], axis=[0])
    one, other = found(tmp_path, model(nodes, arrays | numbers)).layers
    assert one.readings[0].spec == Recurrent("lstm", FEATURES, UNITS)
    options = {"activation": "relu", "recurrent_activation": "hard_sigmoid_keras2", "go_backwards": True}
    assert other.readings[0].spec == Recurrent("lstm", UNITS, UNITS, **options)
    nodes, arrays = two({"linear_before_reset": 1}, "GRU")
    layers = found(tmp_path, model(nodes, arrays)).layers
    assert [one.readings[0].spec.reset_after for one in layers] == [False, True]


def test_a_bias_of_two_layers_and_weights_of_one_layer_twice(tmp_path: Path) -> None:
    nodes, arrays = two({})
    nodes[-1].input[3] = "B"
    findings = found(tmp_path, model(nodes, arrays))
    assert [one.readings[0].tensors["B"] for one in findings.layers] == ["B", "B"]
    assert findings.opaque == ()
    square = {name: array(*arrays[name].shape[:2], UNITS) for name in ("W", "R")}
    nodes[0] = node("Transpose", "x", "X", perm=[1, 0, 2])
    nodes[-1].input[1], nodes[-1].input[2] = "W", "R"
    findings = found(tmp_path, model(nodes, arrays | square, x=["b", "t", UNITS]))
    assert len(findings.layers) == 1
    assert findings.opaque == ("LSTM (node out), with the weights of a layer before it",)


# ---- The forms of tf2onnx.

DENSE = {"K": array(UNITS, FEATURES), "b": array(FEATURES)}


def on_each_step(shape: str) -> tuple[Nodes, Arrays]:
    """A dense layer of a sequence: a matrix of it, the product, as many axes again, and the bias."""
    nodes = [
        node("Shape", "y", "all"),
        node("Gather", "all free", "leading"),
        node("Concat", "leading units", "target", axis=0),
        *(
            [node("ReduceProd", "leading", "rows", axes=[0], keepdims=1), node("Concat", "rows width", "flat", axis=0)]
            if shape == "computed"
            else []
        ),
        node("Reshape", "y flat", "matrix"),
        node("MatMul", "matrix K", "product"),
        node("Reshape", "product target", "again"),
        node("Add", "again b", "out"),
    ]
    constants = ints(
        free=[0, 1], units=[FEATURES], width=[UNITS], **({} if shape == "computed" else {"flat": [-1, UNITS]})
    )
    return nodes, DENSE | constants


@pytest.mark.parametrize("shape", ["constant", "computed"])
def test_a_dense_layer_on_each_step(shape: str, tmp_path: Path) -> None:
    dense, arrays = on_each_step(shape)
    nodes = [*FRONT, layer("LSTM"), BEHIND[0], node("Transpose", "squeezed", "y", perm=[1, 0, 2]), *dense]
    findings = found(tmp_path, model(nodes, weights("LSTM") | ONE | arrays))
    assert [one.readings[0].spec for one in findings.layers] == [
        Recurrent("lstm", FEATURES, UNITS),
        Dense(UNITS, FEATURES),
    ]
    assert findings.layers[1].readings[0].tensors == {"dense/kernel": "K", "dense/bias": "b"}
    assert findings.opaque == ()
    # Without the axes again, the rows of all sequences stay one below the other.
    nodes[-2:] = [node("Add", "product b", "out")]
    findings = found(tmp_path, model(nodes, weights("LSTM") | ONE | arrays))
    assert "Reshape (node matrix)" in findings.opaque


@pytest.mark.parametrize("form", ["ReverseSequence", "Slice", "reverse"])
def test_a_layer_that_goes_backwards(form: str, tmp_path: Path) -> None:
    """The numbers, too: what is read, run by the reference, is what ONNX Runtime puts out."""
    numbers = ints(none=[0], one=[1], back=[-1], end=[-(2**63) + 1])
    back = {
        "ReverseSequence": [
            node("Shape", "X0", "shape"),
            node("Gather", "shape none", "steps"),
            node("Gather", "shape one", "rows"),
            node("Expand", "steps rows", "lens"),
            node("ReverseSequence", "X0 lens", "X", time_axis=0, batch_axis=1),
        ],
        "Slice": [node("Slice", "X0 back end none back", "X")],
        "reverse": [node("Identity", "X0", "X")],
    }[form]
    nodes = [node("Transpose", "x", "X0", perm=[1, 0, 2]), *back]
    nodes += [layer("LSTM", direction="reverse" if form == "reverse" else "forward")]
    nodes += [node("Slice", "Y back end none back", "Z")] if form == "reverse" else [node("Identity", "Y", "Z")]
    nodes += [node("Squeeze", "Z one", "squeezed"), BEHIND[1]]
    proto = model(nodes, weights("LSTM") | numbers)
    findings = found(tmp_path, proto)
    reading = findings.layers[0].readings[0]
    assert findings.opaque == ()
    assert reading.spec == Recurrent("lstm", FEATURES, UNITS, go_backwards=True)
    x = array(BATCH, STEPS, FEATURES)
    wanted = run(reading.spec, Parameters(reading.spec, dict(reading.parameters(findings.file))), x.astype("float64"))
    np.testing.assert_allclose(outputs_of(proto, x=x)[0], wanted.sequence, rtol=0, atol=1e-6)


@pytest.mark.parametrize("merge", ["concat", "last", "sum"])
def test_two_directions_one_by_one(merge: str, tmp_path: Path) -> None:
    nodes = [*FRONT, layer(direction="bidirectional")]
    for i in (0, 1):
        nodes += [node("Slice", f"Y from{i} to{i} one", f"half{i}"), node("Squeeze", f"half{i} one", f"way{i}")]
        if merge == "last":  # each direction's own last step
            nodes += [node("Slice", f"way{i} {'back end' if not i else 'from0 to0'} from0", f"end{i}")]
            nodes += [node("Squeeze", f"end{i} from0", f"final{i}")]
    numbers = ints(from0=[0], to0=[1], from1=[1], to1=[2], one=[1], back=[-1], end=[2**31 - 1])
    nodes.append(
        {
            "concat": node("Concat", "way0 way1", "out", axis=2),
            "last": node("Concat", "final0 final1", "out", axis=1),
            "sum": node("Add", "way0 way1", "out"),
        }[merge]
    )
    findings = found(tmp_path, model(nodes, weights("GRU", 2) | numbers))
    (one,) = findings.layers
    assert one.readings[0].spec.bidirectional
    # How they are put together the node does not say, so that another file may.
    assert one.readings[0].open == (("merge_mode",) if merge == "sum" else ())
    assert ("Add (node out)" in findings.opaque) == (merge == "sum") == bool(findings.opaque)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_layer_that_tensorflow_took_apart(cell: str, tmp_path: Path) -> None:
    """A masked layer is a loop; its weights are inputs of a function, and two biases are apart."""
    gates = {"lstm": 4, "gru": 3}[cell] * UNITS
    inner = "model/rnn/PartitionedCall"
    biases = (
        [f"Func/{inner}/input/_9:0"]
        if cell == "lstm"
        else [f"ConstantFolding/{inner}/unstack-folded-{i}:0" for i in (0, 1)]
    )
    arrays = {f"Func/{inner}/input/_7:0": array(FEATURES, gates), f"Func/{inner}/input/_8:0": array(UNITS, gates)}
    arrays |= {name: array(gates, seed=i + 3) for i, name in enumerate(biases)}
    kernel, recurrent = list(arrays)[:2]
    nodes = [node("MatMul", f"x {kernel}", "a"), node("Add", f"a {biases[0]}", "z")]
    nodes += [node("MatMul", f"h {recurrent}", "r"), node("Add", f"r {biases[-1]}", "q"), node("Add", "z q", "s")]
    nodes.append(node("Tanh", "s", "out"))
    findings = found(tmp_path, model(nodes, arrays, h=["b", UNITS]))
    (one,) = findings.layers
    assert one.name == "model/rnn"
    reading = one.readings[0]
    assert (reading.spec.cell, reading.spec.hidden_size, reading.spec.input_size) == (cell, UNITS, FEATURES)
    stored = {name: findings.file.tensors[tensor].read() for name, tensor in reading.tensors.items()}
    assert [np.array_equal(stored[n], arrays[t]) for n, t in zip(stored, arrays, strict=True)] == [True] * len(arrays)
    assert "Tanh (node out)" in findings.opaque


# ---- Normalisations of a batch, folded.


@pytest.mark.parametrize("wrong", ["", "scale", "offset"])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False, "epsilon": 0.5}])
def test_a_folded_normalisation_has_a_partner(options: dict[str, Any], wrong: str, tmp_path: Path) -> None:
    import keras

    keras_layer = keras.layers.BatchNormalization(**options)
    network = keras.Sequential(
        [keras.Input((None, FEATURES)), keras.layers.GRU(UNITS, return_sequences=True), keras_layer]
    )
    values = {w.name: array(*w.shape, seed=i + 5) for i, w in enumerate(keras_layer.weights)}
    values["moving_variance"] = np.abs(values["moving_variance"]) + np.float32(0.5)
    keras_layer.set_weights(list(values.values()))
    network.save(tmp_path / "model.keras")
    scale = values.get("gamma", np.float32(1)) / np.sqrt(values["moving_variance"] + np.float32(keras_layer.epsilon))
    offset = values.get("beta", np.float32(0)) - values["moving_mean"] * scale
    if wrong:
        (scale if wrong == "scale" else offset)[1] *= np.float32(1.001)
    kernel, recurrent, bias = network.layers[0].get_weights()
    arrays = {"W": kernel.T[None], "R": recurrent.T[None], "B": bias.reshape(1, -1)}
    arrays |= {"scale": scale[None, None], "offset": offset[None, None]}
    nodes = [
        *FRONT,
        layer(linear_before_reset=1),
        BEHIND[0],
        node("Mul", "squeezed scale", "m"),
        node("Add", "m offset", "out"),
    ]
    found(tmp_path, model(nodes, arrays | ONE))
    verification = xframe.verify(tmp_path / "model.keras", tmp_path / "model.onnx")
    folded = [(a, b) for a, b in verification.others if "folded" in a]
    assert [b for _, b in folded] == ([] if wrong else ["scale", "offset"])
    assert bool(verification.only_a) == bool(verification.only_b) == bool(wrong)
    turned = xframe.verify(tmp_path / "model.onnx", tmp_path / "model.keras")
    assert [(b, a) for a, b in turned.others if "folded" in b] == folded
