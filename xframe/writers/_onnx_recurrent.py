"""Recurrent layers as ONNX's own operators, one node for each layer, and for each direction and cell where these differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from xframe.adapters._onnx_operators import OPERATORS, functions
from xframe.adapters.onnx import PACKINGS
from xframe.cells import get_cell
from xframe.errors import UnsupportedError
from xframe.escaping import in_source
from xframe.graph.kinds.recurrent import slots
from xframe.layout import Key
from xframe.spec import Recurrent
from xframe.writers._onnx_functions import recurrent_activations
from xframe.writers._onnx_graph import Graph
from xframe.writers.base import Part, bias_notes, left_out, packed, recurrent

__all__ = ["recurrent_nodes", "recurrent_notes"]

_PACKING = PACKINGS[0]
_LOWEST = -(2**63)


class _Run(NamedTuple):
    """What is the same for all operators of a layer: its time, and its states by layer, direction and name in the cell."""

    time: _Time
    initial: Mapping[tuple[int, int, str], str]
    final: dict[tuple[int, int, str], str]


class _Time(NamedTuple):
    """What is the same for all operators of a node: the mask as a valid one, (time, batch, 1), and as lengths, (batch,)."""

    valid: str
    lengths: str


def recurrent_notes(part: Part) -> list[str]:
    """What is to be said of a recurrent node."""
    spec, notes = recurrent(part), left_out(part)
    if any(spec.part(d, k).proj_size for k, d in spec.places):
        notes.append("its projection was multiplied into the recurrent kernel, and follows as a MatMul")
    if part.masked:
        notes.append("it takes padding on the right only, as its spec promises")
    return notes + list(bias_notes(part.node.params()))


def recurrent_nodes(graph: Graph, part: Part, x: str, mask: str, states: list[str]) -> list[str]:
    """The nodes of a recurrent node; x is (batch, time, features), the mask (batch, time) or empty.

    Args:
        graph: where they go.
        part: the node.
        x, mask: what it reads.
        states: its initial states, each (batch, size), in the order of `xframe.graph.kinds.recurrent.slots`; or none.

    Returns:
        Its output, and behind it, if it hands them on, its final states in that order.

    Raises:
        UnsupportedError: ONNX's operators cannot do it.
    """
    spec = recurrent(part)
    _check(part, spec)
    own = slots(spec)
    _check_states(part, spec, states)
    initial = {(slot.layer, slot.direction, slot.cell_name): state for slot, state in zip(own, states, strict=False)}
    run = _Run(_time(graph, mask) if part.masked else _Time("", ""), initial, {})
    x, last = graph.node("Transpose", x, perm=[1, 0, 2]), ""
    for layer in range(spec.num_layers):
        halves = _layer(graph, part, spec, layer, x, run)
        x, last = (_merged(graph, spec, list(both)) for both in zip(*halves, strict=True))
    y = str(graph.node("Transpose", x, perm=[1, 0, 2])) if part.node.options["sequence"] else last
    if len(part.made) == 1:
        return [y]
    return [y, *(run.final[slot.layer, slot.direction, slot.cell_name] for slot in own)]


def _check_states(part: Part, spec: Recurrent, states: list[str]) -> None:
    if (states or len(part.made) > 1) and any(spec.part(d, k).proj_size for k, d in spec.places):
        raise UnsupportedError(
            f"ONNX's LSTM has no projection, and the states of {in_source(part.node.name)} are projected; convert it to torch."
        )


def _check(part: Part, spec: Recurrent) -> None:
    name = in_source(part.node.name)
    if spec.stateful:
        raise UnsupportedError(
            f"An ONNX model keeps no states between calls, and the layer {name} is stateful; load it with stateful=False."
        )
    if part.masked and spec.mask != "right":
        raise UnsupportedError(
            f"ONNX's {OPERATORS[spec.cell]} takes masks as lengths, which have their padding on the right, and any mask may "
            f"reach the layer {name}; promise padding on the right with --right-padded, or convert to torch."
        )


def _time(graph: Graph, mask: str) -> _Time:
    whole = graph.node("Cast", mask, to=6)  # int32
    lengths = graph.node("ReduceSum", whole, graph.constant([1]), keepdims=0)
    turned = graph.node("Transpose", mask, perm=[1, 0])
    return _Time(graph.node("Unsqueeze", turned, graph.constant([2])), lengths)


def _layer(graph: Graph, part: Part, spec: Recurrent, layer: int, x: str, run: _Run) -> list[tuple[str, str]]:
    """Each direction of one layer: its output (time, batch, size) and its last state h (batch, size)."""
    columns = [spec.column(d) for d in range(spec.num_directions)]
    if len(columns) == 2 and spec.backward is None and not spec.go_backwards and len(columns[0]) == 1:
        both = _node(graph, part, spec, [(layer, 0), (layer, 1)], x, run)
        return [_held(graph, spec, d, half, run.time) for d, half in enumerate(both)]
    found = []
    for d, column in enumerate(columns):
        below, half = x, ("", "")
        for level in range(len(column)):
            (half,) = _node(graph, part, spec, [(layer + level, d)], below, run)
            # Inside a direction all cells go the same way, so their outputs stay in the order of time up to its end.
            half = _held(graph, spec, d, half, run.time)
            below = half[0]
        found.append((_flipped(graph, half[0]) if spec.go_backwards else half[0], half[1]))
    return found


def _held(graph: Graph, spec: Recurrent, direction: int, half: tuple[str, str], time: _Time) -> tuple[str, str]:
    """The output with the one before it at masked steps, where that is asked for; ONNX puts out zeros.

    Padding on the right is what a layer that reads backwards begins with, and then there is none before it.
    """
    if not time.valid or spec.masked_output != "repeat" or spec.go_backwards != bool(direction):
        return half
    last = graph.node("Unsqueeze", half[1], graph.constant([0]))
    return graph.node("Where", time.valid, half[0], last), half[1]


def _flipped(graph: Graph, x: str) -> str:
    ends = (graph.constant([value]) for value in (-1, _LOWEST, 0, -1))  # start, end, axis, step
    return str(graph.node("Slice", x, *ends))


def _node(
    graph: Graph, part: Part, spec: Recurrent, places: list[tuple[int, int]], x: str, run: _Run
) -> list[tuple[str, str]]:
    """One operator, for one layer in one direction or in both: the output and the last state of each."""
    (layer, direction), one = places[0], spec.part(places[0][1], places[0][0])
    # The weights alone decide how they are packed; functions and projection are said elsewhere.
    stored = Recurrent(
        one.cell,
        spec.layer_input_size(layer, direction),
        one.hidden_size,
        bidirectional=len(places) == 2,
        bias=one.bias,
        reset_after=one.reset_after,
    )
    listed = [(f"{layer}.{direction}.{native.name}", native.shape) for native in _PACKING.natives(stored)]
    names = graph.weights(listed, partial(_arrays, part, one, stored, places))
    kind, backwards = OPERATORS[one.cell], spec.go_backwards != bool(direction)
    attributes = recurrent_activations(part.node.name, functions(one) * len(places))
    if one.cell == "gru":
        attributes["linear_before_reset"] = int(bool(one.reset_after))
    way = "bidirectional" if len(places) == 2 else "reverse" if backwards else "forward"
    states = [_stacked(graph, run, places, name) for name in get_cell(one.cell).states]
    optional = [run.time.lengths, *states]
    while optional and not optional[-1]:
        optional.pop()
    inputs = [x, *names, *([""] * (3 - len(names)) if optional else []), *optional]
    count = 3 if one.cell == "lstm" else 2
    y, h, *more = graph.node(kind, *inputs, outputs=count, hidden_size=one.hidden_size, direction=way, **attributes)
    for name, state in zip(get_cell(one.cell).states, [h, *more], strict=True):
        for i, (k, d) in enumerate(places if len(part.made) > 1 else ()):
            run.final[k, d, name] = _taken(graph, state, i, 0)
    found = [(_taken(graph, y, i, 1), _taken(graph, h, i, 0)) for i in range(len(places))]
    if not one.proj_size:
        return found
    projected = [
        graph.weights([(f"{k}.{d}.projection", (one.hidden_size, one.proj_size))], partial(_projection, part, k, d))
        for k, d in places
    ]
    return [
        (graph.node("MatMul", y, *p), graph.node("MatMul", h, *p)) for (y, h), p in zip(found, projected, strict=True)
    ]


def _stacked(graph: Graph, run: _Run, places: list[tuple[int, int]], name: str) -> str:
    """The initial states of one operator, (directions, batch, size); nothing where none are given."""
    if not run.initial:
        return ""
    each = [graph.node("Unsqueeze", run.initial[k, d, name], graph.constant([0])) for k, d in places]
    return str(graph.node("Concat", *each, axis=0)) if len(each) > 1 else str(each[0])


def _taken(graph: Graph, x: str, index: int, axis: int) -> str:
    """One direction of a tensor that has an axis of directions."""
    return str(graph.node("Gather", x, graph.constant(index), axis=axis))


def _arrays(
    part: Part, one: Recurrent, stored: Recurrent, places: list[tuple[int, int]], dtype: str
) -> Iterator[np.ndarray]:
    """W, R and B of one operator."""
    params = part.node.params()
    blocks = {
        Key(0, i, key.role, key.gate): params[key]
        for i, place in enumerate(places)
        for key in params
        if (key.layer, key.direction) == place and key.role != "projection"
    }
    if one.proj_size:
        blocks = _unprojected(params, places, blocks)
    yield from (array for _, array in packed(_PACKING, stored, blocks, dtype))


def _unprojected(
    params: Mapping[Key, np.ndarray], places: list[tuple[int, int]], blocks: dict[Key, np.ndarray]
) -> dict[Key, np.ndarray]:
    """The recurrent kernels that read the state before its projection: (o tanh(c)) (P U) is ((o tanh(c)) P) U."""
    for key, block in blocks.items():
        if key.role == "recurrent_kernel":
            projection = params[Key(*places[key.direction], "projection", "")]
            blocks[key] = projection.astype(np.float64) @ block.astype(np.float64)
    return blocks


def _projection(part: Part, layer: int, direction: int, dtype: str) -> Iterator[np.ndarray]:
    yield part.node.params()[Key(layer, direction, "projection", "")].astype(dtype, copy=False)


def _merged(graph: Graph, spec: Recurrent, halves: list[str]) -> str:
    if len(halves) == 1:
        return halves[0]
    if spec.merge_mode in ("concat", None):
        return str(graph.node("Concat", *halves, axis=-1))
    merged = graph.node("Mul" if spec.merge_mode == "mul" else "Add", *halves)
    return str(graph.node("Mul", merged, graph.constant(0.5, "float32")) if spec.merge_mode == "ave" else merged)
