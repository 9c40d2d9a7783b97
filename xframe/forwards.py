"""Mistakes in what runs between the layers, made in a graph: how a forward that was written by hand goes wrong.

Each leaves all weights as they are, so that no comparison of weights or of layers shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from xframe.errors import SpecError
from xframe.graph.graph import Graph, bypassed, spliced
from xframe.graph.kinds.merging import OPERATIONS
from xframe.graph.node import Node
from xframe.spec import Recurrent

__all__ = ["Slipped", "mistakes", "slipped"]

# Two mistakes are tried in graphs in which one can be made in so many ways.
_MANY = 80
# The activations that people write in the place of another one.
_USUAL = ("relu", "tanh", "sigmoid", "softmax", "gelu", "relu6", "log_softmax")
# What is added to a variance by default: PyTorch and Flax, Keras, TensorFlow's own code, Transformers.
_EPSILONS = (1e-5, 1e-3, 1e-6, 1e-12)


@dataclass(frozen=True)
class Slipped:
    """A graph in which one node is wrong.

    Attributes:
        name: what is wrong, as the end of "it is the other with ...".
        mend: what to do.
        option: as of `xframe.mistakes.steps.of_option`.
        graph: the graph.
    """

    name: str
    mend: str
    option: str
    graph: Graph


def slipped(graph: Graph) -> Iterator[Slipped]:
    """Every graph that is one mistake away from this one, and then every one that is two, of those that can be run."""
    single = list(mistakes(graph))
    yield from single
    if len(single) > _MANY:
        return
    for one in single:
        for other in mistakes(one.graph):
            name, mend = f"{one.name} and {other.name}", f"{one.mend} {other.mend}"
            yield Slipped(name, mend, one.option, other.graph)


def mistakes(graph: Graph) -> Iterator[Slipped]:
    """Every graph that is one mistake away from this one, of those that can be run."""
    for i, node in enumerate(graph.nodes):
        if node.kind == "activation":
            own = node.options["name"]
            yield from _with(graph, i, (), f"no {own} at {node.name}", f"Apply {own} there.", "activation")
            for other in _USUAL:
                if other != own:
                    wrong = replace(node, options={"name": other})
                    yield from _with(
                        graph,
                        i,
                        (wrong,),
                        f"{other} instead of {own} at {node.name}",
                        f"Apply {own} there.",
                        "activation",
                    )
        elif node.spec is not None or node.params():
            following = _next(graph, node)
            for other in _USUAL if following != "activation" else ():
                more = Node(f"{node.name}, then {other}", "activation", {"name": other})
                mend = f"Leave the {other} out."
                yield from _with(graph, i, (node, more), f"one {other} too many after {node.name}", mend, "activation")
        for epsilon in _EPSILONS if "epsilon" in node.options else ():
            own = node.options["epsilon"]
            if epsilon != own:
                wrong = replace(node, options={**node.options, "epsilon": epsilon})
                mend = f"Give it epsilon {own:g}."
                yield from _with(
                    graph, i, (wrong,), f"epsilon {epsilon:g} instead of {own:g} at {node.name}", mend, "epsilon"
                )
        if node.kind in ("layer_norm", "batch_norm", "conv1d"):
            yield from _with(graph, i, (), f"{node.name} left out", f"Call {node.name}.", "step")
        if node.kind == "masking" or (node.kind == "embedding" and node.options["mask_zero"]):
            blind = () if node.kind == "masking" else (replace(node, options={**node.options, "mask_zero": False}),)
            yield from _with(graph, i, blind, f"the mask of {node.name} ignored", "Hand the mask on.", "mask_zero")
        if isinstance(node.spec, Recurrent):
            yield from _of_recurrent(graph, i, node, node.spec)
        yield from _of_several(graph, i, node)
    for i, node in enumerate(graph.nodes[:-1]):
        twin = graph.nodes[i + 1]
        if twin.reads == node.writes and len(node.reads) == len(twin.writes) == 1 == len(graph.readers(twin.reads[0])):
            first = replace(twin, reads=node.reads, writes=node.writes, masks=node.masks)
            row = (first, replace(node, reads=node.writes, writes=twin.writes, masks=()))
            yield from _made(
                f"{node.name} and {twin.name} in the other order",
                f"Call {node.name} first.",
                "step",
                partial(replace, graph, nodes=(*graph.nodes[:i], *row, *graph.nodes[i + 2 :])),
            )


def _next(graph: Graph, node: Node) -> str:
    """The kind of the only node that reads what a node writes."""
    readers = graph.readers(node.writes[0])
    return readers[0].kind if len(readers) == 1 else ""


def _of_several(graph: Graph, i: int, node: Node) -> Iterator[Slipped]:
    """What goes wrong where a node reads several values."""
    if node.kind == "merge":
        own = node.options["operation"]
        for other in OPERATIONS:
            if other != own and (other != "subtract" or len(node.reads) == 2):
                wrong = replace(node, options={"operation": other})
                yield from _with(
                    graph, i, (wrong,), f"{other} instead of {own} at {node.name}", f"Let it {own}.", "operation"
                )
    if node.kind in ("merge", "concatenate"):
        for k, value in enumerate(node.reads):
            rest = tuple(one for place, one in enumerate(node.reads) if place != k)
            if len(rest) > 1:
                wrong = replace(node, reads=rest)
                yield from _with(graph, i, (wrong,), f"{node.name} without {value}", f"Give it {value}.", "reads")
            else:
                yield from _made(
                    f"{node.name} without {value}",
                    f"Give it {value}.",
                    "reads",
                    partial(bypassed, graph, i, rest[0]),
                )
        wrong = replace(node, reads=node.reads[::-1])
        if node.kind == "concatenate" or node.options["operation"] == "subtract":
            yield from _with(
                graph, i, (wrong,), f"{node.name} with its inputs in the other order", "Exchange them.", "reads"
            )
    if node.kind == "recurrent" and len(node.reads) > 1:
        wrong = replace(node, reads=node.reads[:1])
        yield from _with(
            graph, i, (wrong,), f"{node.name} from zero states", "Give it its initial states.", "initial_state"
        )
        states = node.reads[1:]
        for k, value in enumerate(states[1:], 1):
            swapped = list(states)
            swapped[k - 1], swapped[k] = value, states[k - 1]
            wrong = replace(node, reads=(node.reads[0], *swapped))
            name = f"the initial states {states[k - 1]} and {value} of {node.name} exchanged"
            yield from _with(graph, i, (wrong,), name, "Exchange them.", "initial_state")


def _of_recurrent(graph: Graph, i: int, node: Node, spec: Recurrent) -> Iterator[Slipped]:
    """What goes wrong with what a recurrent layer hands on, and with the direction in which it reads."""
    if not node.options["sequence"]:
        whole = replace(node, options={**node.options, "sequence": True})
        for kind, words in (("average", "the average over time"), ("max", "the largest number over time")):
            pooled = Node(f"{node.name}, pooled", "pool", {"mode": kind, "keepdims": False})
            mend = "Take the last output."
            yield from _with(
                graph, i, (whole, pooled), f"{words} of {node.name} instead of its last output", mend, "sequence"
            )
        if spec.bidirectional:
            last = Node(f"{node.name}, last", "last")
            name = f"output[:, -1] of {node.name}, which for the backward direction is its first step"
            yield from _with(graph, i, (whole, last), name, "Take the backward half at time step 0.", "sequence")
    else:
        name = f"the last output of {node.name} instead of the whole sequence"
        short = replace(node, options={**node.options, "sequence": False})
        yield from _with(graph, i, (short,), name, "Hand on the whole sequence.", "sequence")
    if not spec.bidirectional:
        other = replace(node, spec=replace(spec, go_backwards=not spec.go_backwards))
        way = "forwards" if spec.go_backwards else "backwards"
        yield from _with(graph, i, (other,), f"{node.name} reading time {way}", "Let it read the other way.", "step")


def _with(graph: Graph, i: int, nodes: tuple[Node, ...], name: str, mend: str, option: str) -> Iterator[Slipped]:
    """The graph with these nodes in the place of one, if they can stand there."""
    old = graph.nodes[i]
    if len(nodes) == 1:
        alike = len(nodes[0].writes) == len(old.writes)
        found = (*graph.nodes[:i], nodes[0], *graph.nodes[i + 1 :])
        yield from _made(name, mend, option, partial(replace, graph, nodes=found)) if alike else ()
    elif len(old.reads) == 1 == len(old.writes):
        yield from _made(name, mend, option, partial(spliced, graph, i, nodes))


def _made(name: str, mend: str, option: str, make: Callable[[], Graph]) -> Iterator[Slipped]:
    try:
        yield Slipped(name, mend, option, make())
    except SpecError:  # a node after the wrong one cannot read what it puts out
        return
