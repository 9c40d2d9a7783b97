"""Recurrent layers as nodes: with initial states from any value, and their final states as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from xframe import layout, reference
from xframe.graph.arithmetic import Operations
from xframe.graph.kinds.base import Kind, Masked, Params, Shape, known, refuse
from xframe.graph.node import Node
from xframe.spec import Recurrent

__all__ = ["RecurrentKind", "Slot", "slots"]


class Slot(NamedTuple):
    """One state of a layer as a value: (batch, size).

    Attributes:
        name: of the array of states that it is in, see `xframe.layout.states`; place: on the first two axes of that.
        cell_name: its name in the cell, h or c.
        layer, direction: whose it is.
        size: of one sample.
    """

    name: str
    place: tuple[int, int]
    cell_name: str
    layer: int
    direction: int
    size: int


def slots(spec: Recurrent) -> list[Slot]:
    """The states of a layer in the order in which a node reads and writes them: forward ones first, then by layer, as Keras has
    them."""
    found = layout.states(spec)
    places = sorted(spec.places, key=lambda place: (place[1], place[0]))
    return [
        Slot(name, place, own, layer, direction, found[name].size)
        for layer, direction in places
        for name, own, place in layout.places(found, layer, direction)
    ]


class RecurrentKind(Kind):
    """A recurrent layer; `Node.spec` says which, and whether masks may come: ``mask`` and ``masked_output``.

    It reads a sequence, and behind it all initial states (zeros if none are given) in the order of `slots`, each (batch, size).
    It writes its output, and behind it, where it hands on its final states, all of them in that order.
    """

    options: ClassVar[Mapping[str, str]] = {
        "sequence": "whether it hands on what it has at every time step, else its last output only",
        "unmasked": "whether it does not look at a mask that comes with the sequence, and hands it on; may be absent",
    }

    optional = frozenset({"unmasked"})

    def uses_mask(self, node: Node) -> bool:
        return not node.options.get("unmasked")

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [reaches[0] and bool(node.options["sequence"]), *[False] * (len(node.writes) - 1)]

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        spec, shape = node.spec, shapes[0]
        if not isinstance(spec, Recurrent) or known(node, shape, 2) != spec.input_size:
            raise refuse(node, f"is {spec} and cannot read samples of the shape {shape}")
        states: list[Shape] = [(slot.size,) for slot in slots(spec)]
        if list(shapes[1:]) not in ([], states):
            raise refuse(node, f"is {spec} and has states of the shapes {states}, not {list(shapes[1:])}")
        y = (shape[0], spec.output_size) if node.options["sequence"] else (spec.output_size,)
        return [y, *states] if len(node.writes) > 1 else [y]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        assert isinstance(node.spec, Recurrent)
        spec, x, mask = node.spec, given[0], masks[0]
        state = self._state(spec, given[1:], x) if len(given) > 1 else None
        used = mask if self.uses_mask(node) else None
        out = reference.run_on(spec, params, x, ops.columns(), used, state)
        y = (out.sequence, mask) if node.options["sequence"] else (out.last, None)
        if len(node.writes) == 1:
            return [y]
        return [y, *((np.ascontiguousarray(out.states[slot.name][slot.place]), None) for slot in slots(spec))]

    @staticmethod
    def _state(spec: Recurrent, given: Sequence[np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
        """The states as the reference takes them: (layers, directions, batch, size)."""
        found = {name: np.empty((*slot.axes, len(x), slot.size), x.dtype) for name, slot in layout.states(spec).items()}
        for slot, value in zip(slots(spec), given, strict=True):
            found[slot.name][slot.place] = value
        return found
