"""ONNX models of one layer: understood, and cut out of larger ones. Nothing is run here.

Everything works on protobufs, with the ``onnx`` package as its first argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xframe.adapters._onnx_build import INT32, TYPES, array_of, model_of
from xframe.adapters._onnx_operators import CELLS, cell_options, refusal
from xframe.cells import get_cell
from xframe.errors import UnsupportedError
from xframe.spec import Dense, Layer, Recurrent

__all__ = ["Found", "cut_out", "understood", "whole_or_parts"]

_STANDARD = ("", "ai.onnx")
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_OUTPUTS = ("Y", "Y_h", "Y_c")
_SHARED = {"activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "layout"}
_ATTRIBUTES = {"RNN": _SHARED, "LSTM": _SHARED | {"input_forget"}, "GRU": _SHARED | {"linear_before_reset"}}
_OLDEST = 7  # the opset since which the operators are what they are


# ---- From a model to a spec.


@dataclass(frozen=True)
class Found:
    """What a model is.

    Attributes:
        spec: its layer, with ``mask="right"`` if it takes lengths.
        tensors: its weights by the names that they have in the layout, and any others by their own.
        whole: whether it is as `model_of` makes it; else it is a single layer as the operators stand in a user's model.
        batch_first: whether its node has ``layout=1``.
        transposed: whether the kernel of a dense layer is stored as (units, features).
        what: what it is called, to begin a sentence.
    """

    spec: Layer
    tensors: Mapping[str, Any]
    whole: bool = False
    batch_first: bool = False
    transposed: bool = False
    what: str = ""


def understood(onnx: Any, model: Any) -> Found:
    """What a model is.

    Raises:
        UnsupportedError: it is none that is modelled; the sentence says why.
    """
    nodes, constants = _steps(model.graph), _constants(model.graph)
    recurrent = [node for node in nodes if _is(node, *CELLS)]
    if len(model.graph.sparse_initializer):
        raise UnsupportedError("This ONNX model has sparse weights, which are not modelled; export it with dense ones.")
    if len(nodes) == 1 and recurrent:
        return _node(onnx, model, nodes[0], constants)
    if _is_dense(nodes, constants):
        return _product(onnx, model, nodes, constants)
    if recurrent and len(recurrent) < len(nodes):
        return _stack(onnx, model, recurrent, constants)
    kinds = ", ".join(dict.fromkeys(node.op_type for node in nodes)) or "no nodes"
    if any(_is(node, "Loop", "Scan") for node in nodes):
        raise UnsupportedError(
            f"This ONNX model ({kinds}) is not modelled: what a Loop or a Scan computes stands in its body; export its layers as "
            "RNN, LSTM or GRU."
        )
    raise UnsupportedError(
        f"This ONNX model ({kinds}) is not modelled as one layer; take its RNN, LSTM, GRU, Gemm and MatMul nodes one by one with "
        "adapter.layers(model)."
    )


def _is(node: Any, *kinds: str) -> bool:
    return node.op_type in kinds and node.domain in _STANDARD


def _steps(graph: Any) -> list[Any]:
    """The nodes that compute something."""
    return [node for node in graph.node if not _is(node, "Constant")]


def _constants(graph: Any) -> dict[str, Any]:
    """The tensors that stand in a graph, by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if _is(node, "Constant") and node.attribute and node.attribute[0].HasField("t"):
            found[node.output[0]] = node.attribute[0].t
    return found


def _attributes(onnx: Any, node: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return [plain(one) for one in value] if isinstance(value, list) else value

    return {a.name: plain(onnx.helper.get_attribute_value(a)) for a in node.attribute}


def _operands(node: Any) -> dict[str, str]:
    """What a recurrent node reads, by the operator's name for it."""
    return {label: name for label, name in zip(_INPUTS, node.input, strict=False) if name}


def _called(node: Any) -> str:
    return f"The {node.op_type} node {node.name or next(filter(None, node.output), '')!r}"


def _node(onnx: Any, model: Any, node: Any, constants: Mapping[str, Any], turned: bool = False) -> Found:
    """A recurrent node by itself, its output turned round where it is reverse and ``turned``."""
    what, options, given = _called(node), _attributes(onnx, node), _operands(node)
    if why := _node_refusal(onnx, model, node, constants, turned):
        raise UnsupportedError(f"{what} is not modelled: {why}.")
    wanted = cell_options(what, node.op_type, options)
    tensors: dict[str, Any] = {label: constants[given[label]] for label in ("W", "R", "B") if label in given}
    features, size = tensors["W"].dims[-1], tensors["R"].dims[-1]
    gates = len(get_cell(wanted["cell"]).gates)
    ways = 2 if wanted["bidirectional"] else 1
    shapes = {"W": [ways, gates * size, features], "R": [ways, gates * size, size], "B": [ways, 2 * gates * size]}
    if options.get("hidden_size", size) != size or any(list(t.dims) != shapes[n] for n, t in tensors.items()):
        raise UnsupportedError(f"{what} has weights whose shapes do not fit each other; check the model.")
    more: dict[str, Any] = {"mask": "right", "masked_output": "zero"} if "sequence_lens" in given else {}
    more["go_backwards"] = options.get("direction") == "reverse"
    spec = Recurrent(input_size=features, hidden_size=size, bias="B" in tensors, **wanted, **more)
    return Found(spec, {**tensors, **_loose(model, constants)}, batch_first=bool(options.get("layout")), what=what)


def _node_refusal(onnx: Any, model: Any, node: Any, constants: Mapping[str, Any], turned: bool) -> str:
    """Why a node is not modelled, its activations apart."""
    options, given = _attributes(onnx, node), _operands(node)
    if why := refusal(options, "P" in given, turned):
        return why
    if strange := sorted(set(options) - _ATTRIBUTES[node.op_type]):
        return f"its attribute {strange[0]!r} is none of the operator's since opset {_OLDEST}"
    if (opset := _opset(model)) < _OLDEST:
        return f"the operators of opset {opset} are others; raise it to {_OLDEST} or more with onnx.version_converter"
    if lacking := [label for label in ("W", "R", "B") if label in given and given[label] not in constants]:
        return f"its weights ({', '.join(lacking)}) are not constant; export the model with constant weights"
    if any(len(constants[given[label]].dims) != axes for label, axes in (("W", 3), ("R", 3))):
        return "W and R must have three axes; check the model"
    if given.get("sequence_lens") in constants:
        return "its sequence_lens are constant; make them an input of the model"
    for label in ("initial_h", "initial_c"):
        if (start := constants.get(given.get(label, ""))) is not None and array_of(onnx, start).any():
            return f"its {label} is constant and not zero; make it an input of the model"
    return ""


def _opset(model: Any) -> int:
    return next((one.version for one in model.opset_import if one.domain in _STANDARD), 0)


def _loose(model: Any, constants: Mapping[str, Any]) -> dict[str, Any]:
    """Weights that no node reads: nobody may take them for used."""
    read = {name for node in model.graph.node for name in node.input}
    return {n: t for n, t in constants.items() if n not in read and t.data_type in TYPES.values()}


def _is_dense(nodes: Sequence[Any], constants: Mapping[str, Any]) -> bool:
    """Whether nodes are one product with a constant matrix, and perhaps the sum with a constant vector after it."""
    if not nodes or not _is(nodes[0], "Gemm", "MatMul") or not _matrix(nodes[0], constants):
        return False
    return len(nodes) == 1 or (len(nodes) == 2 and _added(nodes[0], nodes[1], constants) is not None)


def _matrix(node: Any, constants: Mapping[str, Any]) -> bool:
    return node.input[0] not in constants and len(getattr(constants.get(node.input[1]), "dims", ())) == 2


def _added(product: Any, other: Any, constants: Mapping[str, Any]) -> str | None:
    """The vector that a node adds to a product by MatMul, by name."""
    if not _is(product, "MatMul") or not _is(other, "Add") or product.output[0] not in other.input:
        return None
    rest = [name for name in other.input if name != product.output[0]]
    return rest[0] if len(rest) == 1 and len(getattr(constants.get(rest[0]), "dims", ())) == 1 else None


def _product(onnx: Any, model: Any, nodes: Sequence[Any], constants: Mapping[str, Any]) -> Found:
    """A dense layer: Gemm, MatMul, or MatMul and Add."""
    node, options = nodes[0], _attributes(onnx, nodes[0])
    changed = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    if wrong := [f"{name}={options[name]}" for name, usual in changed.items() if options.get(name, usual) != usual]:
        raise UnsupportedError(f"{_called(node)} is not modelled: {wrong[0]} makes it another product than x B + C.")
    tensors = {"B": constants[node.input[1]]}
    bias = _added(node, nodes[1], constants) if len(nodes) > 1 else next(iter(node.input[2:]), "")
    if bias and bias not in constants:
        raise UnsupportedError(
            f"{_called(node)} is not modelled: its C is not constant; export it with constant weights."
        )
    if bias:
        tensors["C"] = constants[bias]
    transposed = bool(options.get("transB"))
    features, units = reversed(tensors["B"].dims) if transposed else tensors["B"].dims
    if bias and list(tensors["C"].dims) != [units]:
        raise UnsupportedError(f"{_called(node)} is not modelled: its C is no vector of {units} numbers.")
    tensors |= _loose(model, constants)
    return Found(Dense(features, units, bool(bias)), tensors, transposed=transposed, what=_called(node))


def _stack(onnx: Any, model: Any, nodes: Sequence[Any], constants: Mapping[str, Any]) -> Found:
    """Recurrent nodes with all that `model_of` puts around them, and nothing else."""
    # Where there is a Slice it must be the one that turns time round, or the graph is not the one that is wanted.
    turned = any(_is(node, "Slice") for node in model.graph.node)
    each = [_node(onnx, model, node, constants, turned) for node in nodes]
    first, many = each[0].spec, len(each) > 1
    assert isinstance(first, Recurrent)
    above = replace(first, input_size=first.output_size)
    if any(one.spec != above for one in each[1:]):
        raise UnsupportedError(
            "This ONNX model has recurrent nodes that are not of one kind and size; take its layers one by one with "
            "adapter.layers(model)."
        )
    spec = replace(first, num_layers=len(each))
    own = [
        (f"node{layer}/{name}" if many else name, found.tensors[name])
        for layer, found in enumerate(each)
        for name in ("W", "R", "B")
        if name in found.tensors
    ]
    dtype = next((name for name, number in TYPES.items() if number == own[0][1].data_type), "float32")
    wanted = model_of(onnx, spec, dtype, [onnx.TensorProto(name=name, dims=t.dims) for name, t in own])
    if not _Twins(onnx, model.graph, wanted.graph).alike():
        raise UnsupportedError(
            f"This ONNX model has {len(nodes)} recurrent node{'s' if many else ''} with others around, which are not as xframe "
            "builds a layer, and may compute something; take its layers one by one with adapter.layers(model)."
        )
    what = "This ONNX model" if many else each[0].what
    return Found(spec, {**dict(own), **_loose(model, constants)}, whole=True, what=what)


class _Twins:
    """Two graphs that may be one but for the names in them."""

    def __init__(self, onnx: Any, one: Any, other: Any) -> None:
        self._onnx, self._one, self._other = onnx, one, other
        self._names = {"": ""}

    def alike(self) -> bool:
        mine, theirs = _constants(self._one), _constants(self._other)
        inputs = [[v for v in g.input if v.name not in c] for g, c in ((self._one, mine), (self._other, theirs))]
        ends = [*zip(*inputs, strict=False), *zip(self._one.output, self._other.output, strict=False)]
        nodes = _steps(self._one), _steps(self._other)
        if [len(inputs[0]), len(self._one.output), len(nodes[0])] != [
            len(inputs[1]),
            len(self._other.output),
            len(nodes[1]),
        ]:
            return False
        if not all(self._called(a.name, b.name) for a, b in ends):
            return False
        if not all(self._node(a, b) for a, b in zip(*nodes, strict=True)):
            return False
        # Shapes that the glue is given are constants as weights are, but their numbers count.
        return all(
            mine[name].dims == theirs[self._names[name]].dims
            and (t.data_type in TYPES.values() or self._equal(t, theirs[self._names[name]]))
            for name, t in mine.items()
            if self._names.get(name) in theirs
        )

    def _equal(self, one: Any, other: Any) -> bool:
        return array_of(self._onnx, one).tolist() == array_of(self._onnx, other).tolist()

    def _called(self, one: str, other: str) -> bool:
        return self._names.setdefault(one, other) == other

    def _node(self, one: Any, other: Any) -> bool:
        def ends(node: Any) -> list[list[str]]:
            return [list(node.input), list(node.output)]

        (a, b), (c, d) = ends(one), ends(other)
        return (
            one.op_type == other.op_type
            and one.domain in _STANDARD
            and _attributes(self._onnx, one) == _attributes(self._onnx, other)
            and [len(a), len(b)] == [len(c), len(d)]
            and all(self._called(x, y) for x, y in zip(a + b, c + d, strict=True))
        )


# ---- Out of a larger model.


def whole_or_parts(onnx: Any, model: Any) -> Iterator[tuple[str, Any]]:
    """A model that is one layer, or that is nothing else, as it is; else each of its layers as a model of its own."""
    nodes = _steps(model.graph)
    try:
        understood(onnx, model)
        alone = True
    except UnsupportedError:
        alone = len(nodes) == 1 and _is(nodes[0], *CELLS, "Gemm", "MatMul")
    if alone:
        yield "", model
    else:
        yield from _parts(onnx, model, model.graph, {}, "")


def _parts(onnx: Any, model: Any, graph: Any, outer: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """The layers of a graph, and of the bodies in it, by the names of their nodes."""
    constants, steps = {**outer, **_constants(graph)}, _steps(graph)
    for index, node in enumerate(steps):
        name = path + (node.name or next(filter(None, node.output), f"{node.op_type}#{index}"))
        if _is(node, *CELLS):
            yield name, cut_out(onnx, model, node, constants)
        elif _is(node, "Gemm", "MatMul") and _matrix(node, constants):
            after = [one for one in steps if node.output[0] in one.input]
            added = len(after) == 1 and _added(node, after[0], constants) is not None
            yield name, _cut_dense(onnx, model, [node, *(after if added else [])], constants)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _parts(onnx, model, attribute.g, constants, f"{name}/")


def cut_out(onnx: Any, model: Any, node: Any, constants: Mapping[str, Any] | None = None, ready: bool = False) -> Any:
    """One recurrent node as a model of its own, with all outputs; what it is given stays given, as an input or a constant.

    Args:
        onnx, model, node: the node and its model.
        constants: the tensors of the model by name; those of its graph if None.
        ready: whether initial states become inputs, given before or not.
    """
    helper, constants = onnx.helper, _constants(model.graph) if constants is None else constants
    given = _operands(node)
    kind = getattr(constants.get(given.get("W", "")), "data_type", TYPES["float32"])
    states = [f"initial_{name}" for name in get_cell(CELLS[node.op_type]).states]
    if ready:
        given |= dict.fromkeys(states, "")  # of no constant
    tensors, inputs, labels = [], [], [label if label in given else "" for label in _INPUTS]
    for label, name in given.items():
        if name in constants:
            tensors.append(_renamed(onnx, constants[name], label))
        else:
            lengths, axes = label == "sequence_lens", {"W": 3, "R": 3, "B": 2, "P": 2, "sequence_lens": 1}.get(label, 3)
            shape = [f"{label} {axis}" for axis in range(axes)]
            inputs.append(helper.make_tensor_value_info(label, INT32 if lengths else kind, shape))
    while not labels[-1]:
        labels.pop()
    twin = onnx.NodeProto(op_type=node.op_type, name=node.name, attribute=node.attribute, input=labels)
    twin.output.extend(_OUTPUTS[: 1 + len(states)])
    outputs = [
        helper.make_tensor_value_info(n, kind, [f"{n} {axis}" for axis in range(3 + (n == "Y"))]) for n in twin.output
    ]
    return _around(onnx, model, [twin], inputs, outputs, tensors)


def _cut_dense(onnx: Any, model: Any, nodes: Sequence[Any], constants: Mapping[str, Any]) -> Any:
    """The same for a product and what is added to it."""
    read = dict.fromkeys(name for node in nodes for name in node.input if name)
    tensors = [_renamed(onnx, constants[name], name) for name in read if name in constants]
    made = {name for node in nodes for name in node.output}
    info = onnx.helper.make_tensor_value_info
    kind = constants[nodes[0].input[1]].data_type
    inputs = [info(name, kind, ["batch", "features"]) for name in read if name not in constants and name not in made]
    return _around(onnx, model, nodes, inputs, [info(nodes[-1].output[0], kind, ["batch", "units"])], tensors)


def _renamed(onnx: Any, tensor: Any, name: str) -> Any:
    twin = onnx.TensorProto()
    twin.CopyFrom(tensor)
    twin.name = name
    return twin


def _around(
    onnx: Any, model: Any, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], tensors: Sequence[Any]
) -> Any:
    graph = onnx.helper.make_graph(nodes, nodes[0].name or nodes[0].op_type, inputs, outputs, tensors)
    # Before version 4, initializers had to be inputs.
    return onnx.ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import, graph=graph)
