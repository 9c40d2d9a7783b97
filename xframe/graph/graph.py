"""A whole model as a graph: nodes in the order in which they run, and the values that go from one to another by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from xframe.errors import SpecError
from xframe.graph.distributed import masks_of, shapes_of
from xframe.graph.kinds import KINDS
from xframe.graph.node import Node, Shape, in_a_row
from xframe.spec import Recurrent

__all__ = ["Graph", "Input", "Output", "bypassed", "chained", "joined", "promised", "spliced"]

# The most numbers that one sample may become: far above any model's, far below what exhausts a machine.
_MAX_SAMPLE = 2**28


@dataclass(frozen=True)
class Input:
    """What a model reads.

    Attributes:
        name: of the value; the source's name for it.
        shape: of one sample, without the batch; None for an axis of any length: ``(None, 5)`` for sequences of 5 features,
            ``(None,)`` for sequences of whole numbers that an embedding reads.
    """

    name: str
    shape: Shape


@dataclass(frozen=True)
class Output:
    """What a model puts out: the source's name for it, and the value."""

    name: str
    value: str


@dataclass(frozen=True)
class Graph:
    """A model. It is checked when it is made: each value is written once, before it is read, and the shapes follow.

    Attributes:
        nodes: in the order in which they run.
        inputs: in the order in which the model takes them.
        outputs: in the order in which it puts them out.
        name: what the source calls the model.
        form: in what the outputs come: ``one`` value, a ``list``, or a ``dict`` by their names.

    Raises:
        SpecError: it makes no sense; the sentence names the node.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    name: str = "model"
    form: str = "one"

    def __post_init__(self) -> None:
        known = set[str]()
        for one in self.inputs:
            if one.name in known:
                raise SpecError(f"The model has two inputs of the name {one.name!r}.")
            known.add(one.name)
        for node in self.nodes:
            if lacking := [value for value in (*node.reads, *filter(None, node.masks)) if value not in known]:
                raise SpecError(f"The node {node.name!r} reads {lacking[0]!r}, which nothing before it puts out.")
            if twice := [value for i, value in enumerate(node.writes) if value in known or value in node.writes[:i]]:
                raise SpecError(f"The node {node.name!r} writes {twice[0]!r}, which is written already.")
            known.update(node.writes)
        layers: dict[str, Node] = {}
        for node in self.nodes:
            if not _same_layer(node, layers.setdefault(node.name, node)):
                raise SpecError(f"The model has two layers of the name {node.name!r}.")
        if lacking := [one.value for one in self.outputs if one.value not in known]:
            raise SpecError(f"The model puts out {lacking[0]!r}, which no node writes.")
        self.shapes  # noqa: B018 - computed once, which checks them

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of one sample of each value.

        Raises:
            SpecError: two nodes do not fit each other, or the sample becomes absurdly large.
        """
        found: dict[str, Shape] = {one.name: one.shape for one in self.inputs}
        for node in self.nodes:
            made = shapes_of(node, [found[value] for value in node.reads])
            if len(made) != len(node.writes):
                raise SpecError(f"The node {node.name!r} puts out {len(made)} values, and names {len(node.writes)}.")
            for value, shape in zip(node.writes, made, strict=True):
                if not 0 < prod(axis for axis in shape if axis is not None) <= _MAX_SAMPLE:
                    raise SpecError(
                        f"The node {node.name!r} puts out samples of the shape {shape}, which is out of bounds."
                    )
                found[value] = shape
        return found

    @cached_property
    def masked(self) -> Mapping[str, bool]:
        """Whether a mask is handed on with each value, if none comes with the inputs."""
        found = dict.fromkeys((one.name for one in self.inputs), False)
        for node in self.nodes:
            found.update(zip(node.writes, masks_of(node, self._reaching(node, found)), strict=True))
        return found

    @staticmethod
    def _reaching(node: Node, found: Mapping[str, bool]) -> list[bool]:
        return [bool(node.mask_of(i)) or found[value] for i, value in enumerate(node.reads)]

    def reaching(self, node: Node) -> list[bool]:
        """Whether a mask comes with each value that a node reads."""
        return self._reaching(node, self.masked)

    @cached_property
    def words(self) -> frozenset[str]:
        """The values that are whole numbers: what an embedding reads, and what that is made of."""
        found = set[str]()
        for node in reversed(self.nodes):
            kind = KINDS[node.kind]
            read = kind.words(node)
            if kind.passes and found.intersection(node.writes):
                read = range(len(node.reads))
            found.update(node.reads[i] for i in read)
        return frozenset(found)

    @property
    def single(self) -> bool:
        """Whether it reads one value and puts out one."""
        return len(self.inputs) == 1 == len(self.outputs)

    @cached_property
    def chain(self) -> bool:
        """Whether each node reads what the one before it puts out, and nothing else, and so does who reads the output."""
        if not self.single or self.form != "one":
            return False
        values = [self.inputs[0].name, *(value for node in self.nodes for value in node.writes)]
        read = [node.reads for node in self.nodes]
        return read == [(value,) for value in values[:-1]] and values[-1] == self.outputs[0].value

    def readers(self, value: str) -> list[Node]:
        """The nodes that read a value, as a mask or otherwise."""
        return [node for node in self.nodes if value in node.reads or value in node.masks]


def _same_layer(node: Node, other: Node) -> bool:
    """Whether two nodes may be two calls of one layer, of which a mask may reach one only."""
    plain = [
        replace(one.spec, mask=None, masked_output=None) if isinstance(one.spec, Recurrent) else one.spec
        for one in (node, other)
    ]
    return plain[0] == plain[1] and (node.kind, node.sources, node.shapes) == (other.kind, other.sources, other.shapes)


def chained(nodes: Sequence[Node], shape: Shape, name: str = "model") -> Graph:
    """A graph in which each node reads what the one before it puts out.

    Args:
        nodes: of one value in and one out.
        shape: of one sample of the input.
        name: of the model.

    Raises:
        SpecError: two nodes do not fit each other.
    """
    names = _Names({"x"})
    wired = tuple(in_a_row(nodes, "x", names(nodes[-1].name), names)) if nodes else ()
    return Graph(wired, (Input("x", shape),), (Output("output", wired[-1].writes[0] if wired else "x"),), name)


class _Names:
    """Names that are not taken."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def __call__(self, wanted: str) -> str:
        found, number = wanted, 1
        while found in self._taken:
            number += 1
            found = f"{wanted}#{number}"
        self._taken.add(found)
        return found


def spliced(graph: Graph, at: int, nodes: Sequence[Node]) -> Graph:
    """The graph with these nodes, one after the other, in the place of one that reads and writes one value.

    With none, what read its output reads its input.

    Raises:
        SpecError: a node cannot read what it then would.
    """
    old = graph.nodes[at]
    if nodes:
        names = _Names({one.name for one in graph.inputs} | {value for node in graph.nodes for value in node.writes})
        row = tuple(in_a_row(nodes, old.reads[0], old.writes[0], names))
        return replace(graph, nodes=(*graph.nodes[:at], *row, *graph.nodes[at + 1 :]))
    return bypassed(graph, at, old.reads[0])


def bypassed(graph: Graph, at: int, value: str) -> Graph:
    """The graph without a node that writes one value: what read that reads another one.

    Raises:
        SpecError: a node cannot read what it then would.
    """
    (after,) = graph.nodes[at].writes
    changed = tuple(
        replace(node, reads=_renamed(node.reads, after, value), masks=_renamed(node.masks, after, value))
        for node in graph.nodes[at + 1 :]
    )
    outputs = tuple(replace(one, value=value if one.value == after else one.value) for one in graph.outputs)
    return replace(graph, nodes=(*graph.nodes[:at], *changed), outputs=outputs)


def _renamed(values: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    return tuple(new if value == old else value for value in values)


def joined(graphs: Mapping[str, Graph]) -> Graph:
    """Several graphs beside each other as one, which calls the layers that they share more than once.

    Args:
        graphs: by the name that comes before those of each one's values.
    """
    nodes, inputs, outputs = list[Node](), list[Input](), list[Output]()
    # Each graph may have read a shared layer from another file; here it has one source.
    sources = {node.name: node.sources for graph in reversed(list(graphs.values())) for node in graph.nodes}
    for name, graph in graphs.items():

        def own(values: tuple[str, ...], name: str = name) -> tuple[str, ...]:
            return tuple(value and f"{name}/{value}" for value in values)

        nodes += [
            replace(
                node,
                reads=own(node.reads),
                writes=own(node.writes),
                masks=own(node.masks),
                sources=sources[node.name],
            )
            for node in graph.nodes
        ]
        inputs += [Input(f"{name}/{one.name}", one.shape) for one in graph.inputs]
        outputs += [Output(f"{name}/{one.name}", f"{name}/{one.value}") for one in graph.outputs]
    return Graph(tuple(nodes), tuple(inputs), tuple(outputs), " and ".join(graphs), "list")


def promised(graph: Graph) -> Graph:
    """The graph for masks that are padding on the right, which is what packed sequences and ONNX's lengths can say.

    Raises:
        SpecError: no mask reaches a recurrent layer of it.
    """
    nodes = []
    for node in graph.nodes:
        masked = isinstance(node.spec, Recurrent) and node.spec.mask == "any"
        nodes.append(replace(node, spec=replace(node.spec, mask="right")) if masked else node)  # type: ignore[type-var]
    if nodes == list(graph.nodes):
        raise SpecError("No mask reaches a recurrent layer of this model; leave --right-padded out.")
    return replace(graph, nodes=tuple(nodes))
