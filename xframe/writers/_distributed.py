"""Nodes that run on each time step by itself: what is written around the source code of their kinds.

The kind writes what it would for (batch time, ...). Keras has a layer around a layer, the others fold time into the batch before
it, and unfold it behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xframe.errors import UnsupportedError
from xframe.escaping import in_source
from xframe.graph.node import Shape
from xframe.writers._keras_recurrent import Made, layer_text
from xframe.writers._onnx_graph import Graph
from xframe.writers._torch_recurrent import Lines
from xframe.writers.base import Part, Plan, Values

__all__ = ["in_keras", "in_numpy", "in_onnx", "in_torch"]


def _inner(part: Part) -> Part:
    """The node as its kind writes it: it reads the variable that it writes, which then holds the folded value."""
    return replace(
        part,
        node=replace(part.node, distributed=False),
        reads=(part.reads[0][1:],),
        given=part.made,
        masks=("",),
        mask_made="",
    )


def in_torch(write: Callable[[Part, Plan], Lines], part: Part, whole: Plan) -> Lines:
    """The lines of a node, around which time is folded if it is distributed."""
    if not part.node.distributed:
        return write(part, whole)
    lines, x, y = write(_inner(part), whole), part.x, part.y
    fold = [f"steps = {x}.shape[:2]", f"{y} = {x}.flatten(0, 1)"]
    return replace(lines, steps=[*fold, *lines.steps, f"{y} = {y}.unflatten(0, steps)"])


def in_numpy(write: Callable[[Part, Plan], list[str]], part: Part, whole: Plan) -> list[str]:
    """The same in NumPy."""
    if not part.node.distributed:
        return write(part, whole)
    x, y = part.x, part.y
    fold = [f"steps = {x}.shape[:2]", f"{y} = {x}.reshape(-1, *{x}.shape[2:])"]
    return [*fold, *write(_inner(part), whole), f"{y} = {y}.reshape(*steps, *{y}.shape[1:])"]


def in_keras(write: Callable[[Part, Plan], Made], part: Part, whole: Plan) -> Made:
    """The Keras layer of a node, within one that runs it on each time step if it is distributed."""
    made = write(part, whole) if not part.node.distributed else write(_inner(part), whole)
    if not part.node.distributed:
        return made
    if made.expression or len(made.layers) != 1:
        raise UnsupportedError(
            f"In Keras {in_source(part.node.name)} is no layer that TimeDistributed could run on each time step; convert it to "
            "torch."
        )
    fill = made.fill

    def held(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        assert fill is not None
        return fill([one.layer for one in built], dtype)

    layer = layer_text(whole, part.name, "TimeDistributed", made.layers[0])
    return replace(made, layers=[layer], fill=held if fill else None)


def in_onnx(
    graph: Graph, part: Part, read: list[Values], put_out: Shape, write: Callable[[Part, list[Values]], list[Values]]
) -> list[Values]:
    """What a node puts out in ONNX; ``put_out`` is the shape of one sample of that."""
    if not part.node.distributed:
        return write(part, read)
    x, mask = read[0]
    # The length of time is known only when it runs.
    shape = graph.node("Shape", x)
    rest = _sizes(graph, shape, part.reads[0][1:], 2)
    folded = graph.node("Reshape", x, graph.node("Concat", graph.constant([-1]), rest, axis=0))
    ((y, _),) = write(_inner(part), [(folded, "")])
    rest = _sizes(graph, graph.node("Shape", y), put_out[1:], 1)
    both = graph.node("Slice", shape, graph.constant([0]), graph.constant([2]))
    return [(graph.node("Reshape", y, graph.node("Concat", both, rest, axis=0)), mask)]


def _sizes(graph: Graph, shape: str, known: Sequence[int | None], start: int) -> str:
    """The sizes of the axes from ``start`` on: in numbers where they are known."""
    if None not in known:
        return graph.constant([*known])
    return str(graph.node("Slice", shape, graph.constant([start]), graph.constant([start + len(known)])))
