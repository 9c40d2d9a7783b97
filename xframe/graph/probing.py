"""On which inputs a graph is tried, and what the reference makes of them.

Inputs are chosen so that something shows: the first draw nearly always does, but behind a last relu all outputs may be zero,
and large weights may overflow. Then smaller and larger inputs and further draws are tried. Of a node of which a mistake would
not show on these, as of a recurrent one that is given one time step, more is seen alone (`alone`), on inputs of other sizes and
lengths (`further`); and of one whose own numbers let nothing through, with others (`redrawn`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from xframe.errors import SpecError
from xframe.graph import running
from xframe.graph.distributed import uses_mask
from xframe.graph.graph import Graph, Input, Output
from xframe.graph.node import Node
from xframe.graph.running import Arrays
from xframe.layout import block_shape, keys
from xframe.probe import draw_parameters, rounded
from xframe.spec import Layer

__all__ = [
    "LIGHT",
    "PROBES",
    "Probed",
    "alone",
    "further",
    "has_time",
    "held",
    "measured",
    "numbers",
    "probed",
    "redrawn",
    "sizes",
]

# Batch sizes and lengths at which a graph is run, and those for graphs of more numbers than the next line says.
PROBES = ((2, 5), (1, 1), (3, 12))
_FEW = ((2, 3), (1, 1))
# Mistakes are tried on chains of up to this many numbers: each costs a run of the reference.
LIGHT = 2_000_000
# Lengths that are tried where a chain cannot read so few time steps.
_LONGER = (12, 48, 192, 768, 3072)
# By how much inputs are larger, and which draw they are, tried one after the other. Powers of two keep them as exact as they are.
_CHOICES = tuple(product(range(3), (1.0, 0.125, 8.0, 1 / 64)))
# The same for the inputs on which mistakes may show that do not show elsewhere, and the lengths of these.
_SCALES, _LENGTHS = (1.0, 0.125, 8.0, 1 / 64, 64.0), (12, 48, 5)
# How often other numbers are drawn.
_REDRAWS = 6


class Probed(NamedTuple):
    """Inputs, exact in their float type, what the reference makes of them in float64, and the rounding noise of that."""

    given: Arrays
    clean: Arrays
    deviation: Arrays


def sizes(graph: Graph) -> Iterator[tuple[int, int | None]]:
    """The sizes of the probes; what a stateful layer or a fixed length allows. The length is None where there is no time."""
    probes = _FEW if numbers(graph) > LIGHT else PROBES
    yield from dict.fromkeys(_size(graph, batch, steps) for batch, steps in probes)


def _size(graph: Graph, batch: int, steps: int) -> tuple[int, int | None]:
    """The nearest size that the graph allows."""
    batches = {size for node in graph.nodes if (size := getattr(node.spec, "batch_size", None)) is not None}
    batch = next(iter(batches), batch)
    if not has_time(graph):
        return batch, None
    # Of axes of any length there may be some behind others of a fixed one.
    free = any(axis is None for one in graph.inputs for axis in one.shape)
    return batch, steps if free else graph.inputs[0].shape[0]


def has_time(graph: Graph) -> bool:
    """Whether the first input has an axis of time."""
    first = graph.inputs[0]
    return len(first.shape) > 1 or first.name in graph.words


def probed(graph: Graph, size: tuple[int, int | None], dtype: str, seed: int = 0) -> Probed:
    """Inputs of this size on which the outputs are numbers, in that type too, and not all zero, if any are found.

    They are longer where a convolution or a shape does not allow so few time steps.
    """
    steps = next((n for n in (size[1] or 1, *_LONGER[:-1]) if _allows(graph, size[0], n)), _LONGER[-1])
    best, most = _drawn(graph, size[0], steps, dtype, seed, 1.0), -1.0
    for draw, scale in _CHOICES:
        x = _drawn(graph, size[0], steps, dtype, seed + 1_000 * draw, scale)
        share = _awake(graph, x, dtype)
        if share > most:
            best, most = x, share
        if most == 1 or (most > 0 and numbers(graph) > LIGHT):
            break
    return measured(graph, best, dtype)


def further(graph: Graph, dtype: str) -> Iterator[Probed]:
    """Smaller inputs, for gates that are saturated, larger ones, longer and shorter ones."""
    tried = dict.fromkeys(_size(graph, 2, length) for length in _LENGTHS)
    for number, ((batch, steps), scale) in enumerate(product(tried, _SCALES), 1):
        with suppress(SpecError):  # it cannot read so few time steps
            x = _drawn(graph, batch, steps or 1, dtype, 20_000 * number, scale)
            if _awake(graph, x, dtype):
                yield measured(graph, x, dtype)


def alone(graph: Graph, at: int) -> Graph:
    """One node as a graph of its own, which reads sequences of any length and, where it is given a mask, makes one."""
    node = graph.nodes[at]
    reads = [f"input {i}" if len(node.reads) > 1 else "x" for i in range(len(node.reads))]
    inputs = [Input(name, graph.shapes[value]) for name, value in zip(reads, node.reads, strict=True)]
    before = list[Node]()
    if node.kind == "recurrent":
        inputs[0] = replace(inputs[0], shape=(None, *inputs[0].shape[1:]))
    for i, reaches in enumerate(graph.reaching(node)):
        if reaches and uses_mask(node) and len(inputs[i].shape) == 2:
            before.append(Node(f"mask {i}", "masking", {"value": 0.0}, reads=(reads[i],), writes=(f"masked {i}",)))
            reads[i] = f"masked {i}"
    own = replace(node, reads=tuple(reads), masks=())
    names = [node.name, *(f"{node.name}:{i}" for i in range(1, len(node.writes)))]
    outputs = tuple(Output(name, value) for name, value in zip(names, node.writes, strict=True))
    taken = {one.name for one in inputs} | {value for one in before for value in one.writes}
    writes = tuple(f"{value} out" if value in taken else value for value in node.writes)
    outputs = tuple(replace(one, value=value) for one, value in zip(outputs, writes, strict=True))
    form = "one" if len(outputs) == 1 else "list"
    return Graph((*before, replace(own, writes=writes)), tuple(inputs), outputs, node.name, form)


def redrawn(graph: Graph, dtype: str) -> Iterator[Graph]:
    """The graph with other numbers in its recurrent and dense layers, drawn anew each time."""
    for seed in range(_REDRAWS if any(node.spec for node in graph.nodes) else 0):
        nodes = [
            node if node.spec is None else replace(node, params=_drawn_for(node.spec, seed, dtype))
            for node in graph.nodes
        ]
        yield held(replace(graph, nodes=tuple(nodes)))


def _drawn_for(spec: Layer, seed: int, dtype: str) -> Callable[[], dict[Any, np.ndarray]]:
    return lambda: {key: block.astype(dtype) for key, block in draw_parameters(spec, seed, dtype).items()}


def _allows(graph: Graph, batch: int, steps: int) -> bool:
    """Whether a graph can read so few time steps."""
    try:
        _run(graph, running.probe(graph, batch, steps), "float32")
    except SpecError:
        return False
    return True


def _drawn(graph: Graph, batch: int, steps: int, dtype: str, seed: int, scale: float) -> dict[str, np.ndarray]:
    drawn = running.probe(graph, batch, steps, seed, scale)
    if dtype not in ("float16", "bfloat16"):
        return drawn
    return {name: rounded(x, dtype).astype("float32") if x.dtype.kind == "f" else x for name, x in drawn.items()}


def _awake(graph: Graph, x: Arrays, dtype: str) -> float:
    """The share of the outputs' features that are numbers everywhere, and somewhere not zero, computed in that type."""
    shares = []
    for y in _run(graph, x, dtype).values():
        features = y.reshape(-1, y.shape[-1])
        shares.append(float(np.mean(np.isfinite(features).all(axis=0) & features.any(axis=0))))
    return min(shares)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _run(graph: Graph, x: Arrays, dtype: str) -> dict[str, np.ndarray]:
    return running.run(graph, x, dtype="float32" if dtype == "bfloat16" else dtype)  # NumPy has no bfloat16


def measured(graph: Graph, given: Arrays, dtype: str) -> Probed:
    """What the reference makes of inputs, and the rounding noise of that in a float type."""
    found = running.noise(graph, given, dtype)
    clean, deviation = ({name: pair[i] for name, pair in found.items()} for i in (0, 1))
    return Probed(given, clean, deviation)


def held(graph: Graph) -> Graph:
    """The graph with its numbers in memory, where several runs read them; those of a layer once, however often it is called."""
    found: dict[str, Callable[[], dict[Any, np.ndarray]]] = {}
    for node in graph.nodes:
        found.setdefault(node.name, cache(partial(_read, node)))
    return replace(graph, nodes=tuple(replace(node, params=found[node.name]) for node in graph.nodes))


def _read(node: Node) -> dict[Any, np.ndarray]:
    return dict(node.params())


def numbers(graph: Graph) -> int:
    """How many numbers the layers of a graph have in canonical form."""
    total = 0
    for node in {node.name: node for node in graph.nodes}.values():
        if node.spec is not None:
            total += sum(prod(block_shape(node.spec, key)) for key in keys(node.spec))
        else:
            total += sum(prod(shape) for shape in node.shapes.values())
    return total
