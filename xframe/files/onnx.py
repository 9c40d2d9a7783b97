"""ONNX models (.onnx): the operators of the graph and their weights, by the `onnx` package. No runtime is needed.

https://onnx.ai/onnx/operators/ and https://onnx.ai/onnx/repo-docs/IR.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from xframe.budget import current
from xframe.errors import FileError, MissingFrameworkError
from xframe.files._onnx_fold import FOLDS, Call, Constant, Sources
from xframe.files._onnx_layers import RECURRENT, Body, Node, Operand, joined, stored_layer
from xframe.files._onnx_tensors import DTYPES, Tensors, parsed, quoted
from xframe.files._onnx_wire import outline
from xframe.files.base import ModelFile, StoredGraph, StoredLayer, StoredNode, StoredTensor, unreadable

__all__ = ["read"]

_NAMED = 8  # bytes that it takes to say of a layer's tensor that it is made of another one

# A name to what it stands for: a constant, or None for what is known only when the model runs.
Scope = dict[str, Constant | None]


def read(path: Path) -> ModelFile:
    """Open an ONNX model, whose weights may be in files beside it.

    Tensors have the names of their initializers, with the path of what they are in where that alone is not unique. Layers are
    the nodes that have weights, those in the bodies of If, Loop and Scan included; what each has is said in `stored_layer`.
    A weight that the graph first slices, transposes or the like has a tensor of its own, named ``layer.W``.

    Raises:
        FileError: it is damaged or unsafe, no ONNX model, or its graph makes no sense.
        MissingFrameworkError: the `onnx` package is not installed.
    """
    try:
        import onnx  # noqa: F401 - what follows needs it
    except ImportError as error:
        raise MissingFrameworkError(
            f"Cannot read {path}: it needs onnx ({error}); pip install 'xframe[files]'."
        ) from None
    content = outline(path)
    try:
        return _Model(path, parsed("ModelProto", content)).file()
    except ValueError:
        raise unreadable(path, "it is no ONNX model, or damaged") from None


class _Model:
    def __init__(self, path: Path, model: Any) -> None:
        self._path, self._model = path, model
        # The standard operators have two names.
        opsets = [(entry.domain or "ai.onnx", entry.version) for entry in model.opset_import]
        self._opset = dict(opsets).get("ai.onnx", 0)
        if twice := _twice(domain for domain, _ in opsets):
            raise unreadable(path, f"it imports the operators of {quoted(twice)} twice")
        if not model.HasField("graph") or self._opset < 1:
            raise unreadable(path, "it has no graph or no operator set", "give an ONNX model")
        self._reader = Tensors(path)
        self._tensors: dict[str, StoredTensor] = {}
        for graph in _graphs(model.graph):
            self._check_once(graph)
        self._names = Counter(t.name for graph in _graphs(model.graph) for t in graph.initializer)
        # The tensors of Constant nodes, most of which are no weights.
        self._spare: dict[str, StoredTensor] = {}
        self._numbers: Counter[str] = Counter()
        # What the graph computes, by the key of the constant.
        self._computed: dict[str, StoredTensor] = {}
        # Sources all of which are among the tensors of the file; each is looked through once.
        self._entered: set[Sources] = set()
        self._graphs: list[StoredGraph] = []
        self._node_names: set[str] = set()

    def file(self) -> ModelFile:
        layers = tuple(self._layers(Body(self._model.graph), [], ""))
        metadata = {
            "opset": str(self._opset),
            "ir_version": str(self._model.ir_version),
            "producer_name": self._model.producer_name,
            "producer_version": self._model.producer_version,
            "external_data": ", ".join(self._reader.external),
        }
        return ModelFile(
            self._path,
            "onnx",
            self._tensors,
            layers,
            {k: v for k, v in metadata.items() if v},
            graphs=tuple(self._graphs),
            beside=tuple(file for file, _ in self._reader.external.values()),
        )

    def _check_once(self, graph: Any) -> None:
        """Refuse what is written twice, of which programs may take either."""
        if twice := _twice(value.name for value in graph.input):
            raise unreadable(self._path, f"it has two inputs named {quoted(twice)}")
        for node in graph.node:
            if twice := _twice(attribute.name for attribute in node.attribute):
                raise unreadable(self._path, f"its node {quoted(node.name)} has the attribute {quoted(twice)} twice")

    def _layers(self, body: Body, outer: list[Scope], place: str) -> list[StoredLayer]:
        """The layers of a graph and of the graphs in it; ``place`` is the path of the bodies, ending in ``/``."""
        graph = body.proto
        nodes = [self._named(node.at(place)) for node in body.nodes]
        own = self._initializers(graph, place)
        scopes = [own, *outer]
        if place:  # what a body is given goes before what it is written with
            own |= {value.name: None for value in graph.input}
        order = self._fold(nodes, scopes)
        biases = _biases(nodes, scopes, {value.name for value in graph.output})
        # By the id of each node that is a layer, or a part of one: the layer's name.
        part = {id(add): nodes[at].name for at, (add, _) in biases.items()}
        own_place = len(self._graphs)
        layers = []
        for at, node in enumerate(nodes):
            if id(node) not in part and not self._folded(node, own):
                found = self._of_node(node, scopes, biases[at][1] if at in biases else None)
                part |= {id(node): node.name} if found else {}
                layers += found
            bodies = [self._layers(inner, scopes, f"{node.name}/{name}/") for name, inner in node.bodies]
            layers += (
                joined(*bodies) if node.kind == "If" and len(bodies) == 2 else [x for inner in bodies for x in inner]
            )
        running = [node for node in order if not self._folded(node, own)]
        self._graphs.insert(own_place, self._graph(graph, running, scopes, part))
        return layers

    def _named(self, node: Node) -> Node:
        """The node by a name of its own: in a file, nodes may share one."""
        name = self._free(node.name, (self._node_names,))
        self._node_names.add(name)
        return replace(node, name=name)

    def _graph(self, graph: Any, nodes: list[Node], scopes: list[Scope], part: dict[int, str]) -> StoredGraph:
        """A graph as it runs, with the constants that its nodes read."""
        found = {name: _found(scopes, name) for node in nodes for name in node.inputs if name}
        return StoredGraph(
            tuple(self._stored(node, part.get(id(node), "")) for node in nodes),
            {name: self._readable(name, constant) for name, constant in found.items() if constant is not None},
            tuple(value.name for value in graph.input),
            tuple(value.name for value in graph.output),
            len(scopes) > 1,
        )

    def _initializers(self, graph: Any, place: str) -> Scope:
        own: Scope = {}
        for proto in graph.initializer:
            if not proto.name or proto.name in own:
                raise unreadable(self._path, f"it has two tensors named {quoted(proto.name)}, or one of no name")
            name = self._unique(proto.name if not place or self._names[proto.name] == 1 else place + proto.name)
            self._tensors[name] = self._reader.stored(proto, name)
            own[proto.name] = Constant.of(self._tensors[name])
        return own

    def _unique(self, name: str) -> str:
        """The name, with a number after it if it is taken."""
        return self._free(name, (self._tensors, self._spare))

    def _free(self, name: str, taken: Sequence[Container[str]]) -> str:
        tried = name
        while any(tried in names for names in taken):
            self._numbers[name] += 1
            tried = f"{name}#{self._numbers[name] + 1}"
        return tried

    def _stored(self, node: Node, layer: str) -> StoredNode:
        attributes = dict(node.attributes)
        if node.kind == "ConstantOfShape" and node.value is not None:
            try:
                attributes["value"] = self._value(node).read().item()
            except ValueError:  # it is no number: what comes out is nothing that is known
                attributes["value"] = None
        inputs, outputs = tuple(node.inputs), tuple(node.outputs)
        return StoredNode(node.name, node.kind, inputs, outputs, attributes, layer, node.captured)

    def _fold(self, nodes: list[Node], scopes: list[Scope]) -> list[Node]:
        """Enter what each node puts out into the innermost scope; the nodes in an order in which they can run."""
        made_by: dict[str, int] = {}
        for index, node in enumerate(nodes):
            for name in filter(None, node.outputs):
                if name in made_by or scopes[0].get(name):
                    raise unreadable(self._path, f"the name {quoted(name)} is given twice")
                made_by[name] = index
        before = {i: {made_by[name] for name in node.reads() if name in made_by} for i, node in enumerate(nodes)}
        try:
            order = list(TopologicalSorter(before).static_order())
        except CycleError as error:
            name = quoted(nodes[error.args[1][0]].name)
            raise unreadable(self._path, f"its node {name} needs what it makes itself") from None
        ordered = [nodes[index] for index in order]
        for node in ordered:
            made = self._made(node, scopes)
            scopes[0].update({name: made[i] if i < len(made) else None for i, name in enumerate(node.outputs) if name})
        return ordered

    def _made(self, node: Node, scopes: list[Scope]) -> list[Constant | None]:
        """What a node puts out, as far as it is constant."""
        given = [(_found(scopes, name) if name else None) for name in node.inputs]
        if (
            node.kind not in FOLDS
            or not node.outputs
            or any(c is None for c, n in zip(given, node.inputs, strict=True) if n)
        ):
            return []
        if node.value is not None and node.value.data_type not in DTYPES:
            return []
        try:
            attributes = {**node.attributes, **({"value": self._value(node)} if node.value is not None else {})}
            return FOLDS[node.kind](Call(node.kind, attributes, given, len(node.outputs)))
        except FileError:
            raise
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            what = f"its {quoted(node.kind)} node {quoted(node.name)}"
            raise unreadable(self._path, f"{what} cannot be computed: {error}") from None

    def _value(self, node: Node) -> Constant:
        """The tensor that is an attribute of a node."""
        name = self._unique(node.path + node.outputs[0] or node.name)
        tensor = self._reader.stored(node.value, name)
        if node.kind == "Constant":
            self._spare[name] = tensor
            return Constant.of(tensor)
        if tensor.count != 1:
            raise ValueError(f"its value has the shape {tensor.shape}")
        return Constant.made(tensor.read())

    def _folded(self, node: Node, own: Scope) -> bool:
        return bool(node.outputs) and all(own.get(name) for name in node.outputs if name)

    def _of_node(self, node: Node, scopes: list[Scope], bias: Constant | None) -> list[StoredLayer]:
        """The layer that a node is, if it has weights."""
        operands = []
        for label, name in node.labelled():
            operands.append(self._operand(node, label, _found(scopes, name) if name else None, bool(name)))
        if bias is not None:
            operands.append(self._operand(node, "bias", bias, True))
        if node.kind in RECURRENT and not all(any(o.label == w and o.given for o in operands) for w in "WR"):
            raise unreadable(self._path, f"its {node.kind} node {quoted(node.name)} has no weights W or R")
        if node.kind not in RECURRENT and not any(o.tensor for o in operands):
            return []
        return [stored_layer(node, operands, self._opset)]

    def _operand(self, node: Node, label: str, constant: Constant | None, given: bool) -> Operand:
        """One input of a node that may be a layer; its tensor is entered among those of the file."""
        weight = node.kind in (*RECURRENT, "MatMul", "Gemm") or (constant is not None and _is_weight(node, constant))
        if constant is None:
            return Operand(label, given)
        current().take(_NAMED * len(constant.sources.counts), f"Cannot read {self._path}: what its layers are made of")
        if not (weight or self._has_weights(constant)):
            return Operand(label, given)
        if constant.sources not in self._entered:
            self._entered.add(constant.sources)
            for name in constant.sources:
                if name in self._spare:
                    self._tensors[name] = self._spare.pop(name)
        if constant.stored:
            return Operand(label, given, self._tensors[constant.stored])
        if constant.key not in self._computed:
            self._computed[constant.key] = self._tensor(node, label, constant)
        return Operand(label, given, self._computed[constant.key], tuple(constant.sources))

    def _has_weights(self, constant: Constant) -> bool:
        """Whether it is made of tensors of the file. Those of Constant nodes become so when a layer reads them."""
        if constant.sources in self._entered:
            return True
        return any(name in self._tensors for name in constant.sources)

    def _tensor(self, node: Node, label: str, constant: Constant) -> StoredTensor:
        """A tensor that the graph computes, entered among those of the file."""
        name = self._unique(f"{node.name}.{label}")
        self._tensors[name] = self._readable(name, constant)
        return self._tensors[name]

    def _readable(self, name: str, constant: Constant) -> StoredTensor:
        """A constant as a tensor of that name."""

        def read() -> np.ndarray:
            try:
                return constant.read().copy()
            except FileError:
                raise
            except (ValueError, IndexError) as error:
                raise unreadable(self._path, f"{quoted(name)} cannot be computed: {error}") from None

        return StoredTensor(name, constant.shape, constant.dtype, read)


def _twice(names: Iterable[str]) -> str:
    """A name that is not empty and is there twice; empty if there is none."""
    return next((name for name, count in Counter(names).items() if count > 1 and name), "")


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and all in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _is_weight(node: Node, constant: Constant) -> bool:
    """Whether a constant that is a node of the graph is a weight of another one: a list of floats that this computes with."""
    floats = constant.dtype in ("float16", "bfloat16", "float32", "float64")
    return floats and prod(constant.shape) > 1 and node.kind not in (*FOLDS, "Expand", "Tile")


def _found(scopes: list[Scope], name: str) -> Constant | None:
    """What a name stands for: the innermost graph that has it decides."""
    for scope in scopes:
        if name in scope:
            return scope[name]
    return None


def _biases(nodes: list[Node], scopes: list[Scope], outputs: set[str]) -> dict[int, tuple[Node, Constant]]:
    """By the index of each MatMul whose product goes into the addition of a bias and nowhere else: that node, and the bias.

    Of an input of more than two axes some exporters make a matrix, and of the product, before the bias, as many axes again.
    """
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.reads():
            readers.setdefault(name, []).append(node)

    def reader(name: str) -> Node | None:
        """The only node that reads a value."""
        found = readers.get(name, [])
        return found[0] if len(found) == 1 and name not in outputs else None

    found = {}
    for index, node in enumerate(nodes):
        product = node.outputs[0] if node.kind == "MatMul" and len(node.inputs) == 2 and node.outputs else ""
        kernel = _found(scopes, node.inputs[1]) if product else None
        user = reader(product) if kernel is not None else None
        if user is not None and user.kind == "Reshape" and user.inputs[0] == product and user.outputs:
            product = user.outputs[0]
            user = reader(product)
        if kernel is None or user is None or user.kind != "Add" or len(user.inputs) != 2:
            continue
        bias = _found(scopes, next((name for name in user.inputs if name != product), ""))
        if bias is not None and kernel.shape and bias.shape == kernel.shape[-1:]:
            found[index] = (user, bias)
    return found
