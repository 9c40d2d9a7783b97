"""What an ONNX node says of itself as a layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from xframe.files.base import StoredLayer, StoredTensor

__all__ = ["RECURRENT", "Body", "Node", "Operand", "joined", "stored_layer"]

# The recurrent operators: their inputs, their activations for one direction, and the attributes that only they have.
_COMMON = ("X", "W", "R", "B", "sequence_lens", "initial_h")
RECURRENT: dict[str, tuple[tuple[str, ...], list[str], dict[str, Any]]] = {
    "RNN": (_COMMON, ["Tanh"], {}),
    "LSTM": ((*_COMMON, "initial_c", "P"), ["Sigmoid", "Tanh", "Tanh"], {"input_forget": 0}),
    "GRU": (_COMMON, ["Sigmoid", "Tanh"], {"linear_before_reset": 0}),
}
_WEIGHTS = ("W", "R", "B", "P")
_DENSE: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "MatMul": (("A", "kernel"), {}),
    "Gemm": (("A", "kernel", "bias"), {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}),
}
_STANDARD = ("", "ai.onnx")  # both name the operators of ONNX itself


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    Attributes:
        name: its name, or that of its first output, after the path of the bodies it is in.
        path: that path, ending in ``/``, or empty.
        kind: its operator, after the domain where that is not ONNX's own.
        inputs, outputs: names; empty for one that is left out.
        attributes: numbers and text by name.
        value: the tensor that is its attribute ``value``, or None.
        bodies: the graphs in it, each with the attribute's name, read once however deep they are in each other.
    """

    name: str
    path: str
    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    value: Any = None
    bodies: Sequence[tuple[str, Body]] = ()

    @classmethod
    def of(cls, proto: Any, index: int) -> Node:
        """The node of a protobuf, which is the ``index``-th of its graph, without a path."""
        kind = proto.op_type if proto.domain in _STANDARD else f"{proto.domain}.{proto.op_type}"
        outputs = list(proto.output)
        name = proto.name or next(filter(None, outputs), f"{kind}#{index}")
        values = {a.name: _value(a) for a in proto.attribute}
        return cls(
            name,
            "",
            kind,
            list(proto.input),
            outputs,
            {key: value for key, value in values.items() if value is not None},
            next((a.t for a in proto.attribute if a.name == "value" and a.HasField("t")), None),
            [(a.name, Body(a.g)) for a in proto.attribute if a.HasField("g")],
        )

    def at(self, path: str) -> Node:
        """The node in a body, whose path is given."""
        return replace(self, name=path + self.name, path=path)

    def labelled(self) -> Iterator[tuple[str, str]]:
        """What the operator calls each input, and the name of what is given for it."""
        names = self._input_names()
        for index, given in enumerate(self.inputs):
            yield names[index] if index < len(names) else f"input{index}", given

    def _input_names(self) -> Sequence[str]:
        if self.kind in RECURRENT:
            return RECURRENT[self.kind][0]
        if self.kind in _DENSE:
            return _DENSE[self.kind][0]
        from onnx import defs

        if not defs.has(self.kind):
            return ()
        inputs = defs.get_schema(self.kind).inputs
        # The last of some operators stands for any number of inputs.
        return [i.name for i in inputs if i.option != defs.OpSchema.FormalParameterOption.Variadic]

    @cached_property
    def captured(self) -> tuple[str, ...]:
        """The names of what its bodies read of what is around them."""
        return tuple(dict.fromkeys(name for _, body in self.bodies for name in body.reads))

    def reads(self) -> Iterator[str]:
        """The names of all that it reads, in its bodies too."""
        yield from filter(None, self.inputs)
        yield from self.captured


class Body:
    """A graph as it is written, and what its nodes read of what is around it."""

    def __init__(self, proto: Any) -> None:
        self.proto = proto

    @cached_property
    def nodes(self) -> list[Node]:
        return [Node.of(proto, index) for index, proto in enumerate(self.proto.node)]

    @cached_property
    def reads(self) -> tuple[str, ...]:
        own = {value.name for value in (*self.proto.input, *self.proto.initializer)}
        own |= {name for node in self.nodes for name in node.outputs}
        return tuple(dict.fromkeys(name for node in self.nodes for name in node.reads() if name not in own))


@dataclass(frozen=True)
class Operand:
    """One input of a node: what the operator calls it, whether something is given for it, and if that is constant its tensor.

    ``sources`` names the tensors that it is computed from, or is None for one that the file has as it is.
    """

    label: str
    given: bool
    tensor: StoredTensor | None = None
    sources: tuple[str, ...] | None = None


def stored_layer(node: Node, operands: Sequence[Operand], opset: int) -> StoredLayer:
    """The layer that a node is.

    Its options are the attributes of the node. A recurrent one and Gemm have the operator's defaults where the node has none
    (``activation_alpha`` and ``activation_beta`` are empty then: each activation has its own). Besides these:

    - of a recurrent one, ``opset``, and of each optional input (``sequence_lens``, ``initial_h``, ``initial_c``) whether it is
      connected;
    - ``folded``: by the layer's word for a tensor, the names of those that the graph computes it from, where it does;
    - ``not_constant``: the weights that are known only when the model runs, as those that are quantised;
    - ``also``: the names of the same layer with the same weights in the other branch of an If.

    The bias of a MatMul is that of the Add that follows it.
    """
    options = dict(node.attributes)
    if node.kind in RECURRENT:
        options = _recurrent(node, operands, opset)
    elif node.kind in _DENSE:
        options = _DENSE[node.kind][1] | options
    if folded := {o.label: list(o.sources) for o in operands if o.sources is not None}:
        options["folded"] = folded
    weights = _WEIGHTS if node.kind in RECURRENT else ()
    if varying := [o.label for o in operands if o.label in weights and o.given and o.tensor is None]:
        options["not_constant"] = varying
    tensors = {o.label: o.tensor.name for o in operands if o.tensor is not None}
    return StoredLayer(node.name, node.kind, options, tensors)


def _recurrent(node: Node, operands: Sequence[Operand], opset: int) -> dict[str, Any]:
    inputs, activations, own = RECURRENT[node.kind]
    given = {o.label: o for o in operands if o.given}
    recurrent = given["R"].tensor
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    return {
        "hidden_size": recurrent.shape[-1] if recurrent is not None and recurrent.shape else None,
        "direction": "forward",
        "activations": activations * directions,
        "activation_alpha": [],
        "activation_beta": [],
        "clip": None,
        "layout": 0,
        **own,
        **node.attributes,
        "opset": opset,
        **{label: label in given for label in inputs[4:] if label != "P"},
    }


def joined(one: Sequence[StoredLayer], other: Sequence[StoredLayer]) -> list[StoredLayer]:
    """The layers of both branches of an If, of which those that are in both stand once."""
    kept = list(one)
    spare: dict[str, list[int]] = {}
    for index, layer in enumerate(one):
        spare.setdefault(_signature(layer), []).append(index)
    for layer in other:
        if same := spare.get(_signature(layer)):
            index = same.pop(0)
            also = [*kept[index].options.get("also", []), layer.name, *layer.options.get("also", [])]
            kept[index] = replace(kept[index], options={**kept[index].options, "also": also})
        else:
            kept.append(layer)
    return kept


def _signature(layer: StoredLayer) -> str:
    """The same for layers that differ in nothing but their names."""
    options = {key: value for key, value in layer.options.items() if key != "also"}
    return repr((layer.kind, sorted(options.items()), sorted(layer.tensors.items())))


def _value(attribute: Any) -> Any:
    """The number or text that an attribute is, or the list of them; None for any other."""
    text = [value.decode(errors="replace") for value in (attribute.s, *attribute.strings)]
    values = {
        attribute.FLOAT: attribute.f,
        attribute.INT: attribute.i,
        attribute.STRING: text[0],
        attribute.FLOATS: list(attribute.floats),
        attribute.INTS: list(attribute.ints),
        attribute.STRINGS: text[1:],
    }
    return values.get(attribute.type)
