"""The kinds of nodes that make one value of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import ClassVar

import numpy as np

from xframe.graph.arithmetic import Operations
from xframe.graph.kinds.base import Kind, Masked, Params, Shape, refuse
from xframe.graph.node import Node

__all__ = ["OPERATIONS", "Concatenate", "Merge"]

_EVERY = (
    "whether a time step counts where it does in every mask that comes, as in Keras 2, else where it does in any of them, and "
    "a value without a mask counts everywhere"
)
OPERATIONS = ("add", "subtract", "multiply", "average", "maximum", "minimum")


class Merge(Kind):
    """One number of those at the same place in each value; an axis of length 1 is as long as that of the others."""

    makes_mask = True
    options: ClassVar[Mapping[str, str]] = {
        "operation": f"{', '.join(OPERATIONS)}; subtract takes the second of two from the first",
        "every": f"{_EVERY}; may be absent",
    }
    optional = frozenset({"every"})

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [any(reaches) if node.options.get("every") else all(reaches)]

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        if len(shapes) < 2 or (node.options["operation"] == "subtract" and len(shapes) != 2):
            raise refuse(node, f"cannot make one value of {len(shapes)}")
        if len({len(shape) for shape in shapes}) > 1:
            raise refuse(node, f"cannot read samples of the shapes {', '.join(map(str, shapes))}")
        found: list[int | None] = []
        for axes in zip(*shapes, strict=True):
            longer = {axis for axis in axes if axis not in (1, None)}
            if len(longer) > 1:
                raise refuse(node, f"cannot read samples of the shapes {', '.join(map(str, shapes))}")
            found.append(next(iter(longer), None if None in axes else 1))
        return [tuple(found)]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        operation = str(node.options["operation"])
        y = given[0]
        for one in given[1:]:
            y = _FUNCTIONS[operation](y, one, ops)
        if operation == "average":
            y = ops.rounded(y / y.dtype.type(len(given)))
        present = [mask for mask in masks if mask is not None]
        if node.options.get("every"):
            return [(y, reduce(np.logical_and, present) if present else None)]
        return [(y, reduce(np.logical_or, present) if len(present) == len(masks) else None)]


def _sum(sign: int) -> Callable[[np.ndarray, np.ndarray, Operations], np.ndarray]:
    def add(y: np.ndarray, one: np.ndarray, ops: Operations) -> np.ndarray:
        return ops.rounded(y + one if sign > 0 else y - one)

    return add


_FUNCTIONS: dict[str, Callable[[np.ndarray, np.ndarray, Operations], np.ndarray]] = {
    "add": _sum(1),
    "average": _sum(1),
    "subtract": _sum(-1),
    "multiply": lambda y, one, ops: ops.rounded(y * one),
    "maximum": lambda y, one, ops: np.maximum(y, one),
    "minimum": lambda y, one, ops: np.minimum(y, one),
}


class Concatenate(Kind):
    """Values behind each other along an axis."""

    makes_mask = True
    options: ClassVar[Mapping[str, str]] = {
        "axis": "counted from the last, which is -1",
        "every": f"{_EVERY}; may be absent",
        "unmasked": "whether it hands no mask on; may be absent",
    }
    optional = frozenset({"every", "unmasked"})
    passes = True

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [any(reaches) and not node.options.get("unmasked")]

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        axis, rank = int(node.options["axis"]), len(shapes[0])
        same = (
            all(
                len(shape) == rank
                and all(
                    a == b or None in (a, b)
                    for i, (a, b) in enumerate(zip(shape, shapes[0], strict=True))
                    if i != axis % rank
                )
                for shape in shapes
            )
            if -rank <= axis < 0
            else False
        )
        if not same:
            raise refuse(node, f"cannot put samples of the shapes {', '.join(map(str, shapes))} behind each other")
        along = [shape[axis] for shape in shapes]
        found = [next((shape[i] for shape in shapes if shape[i] is not None), None) for i in range(rank)]
        found[axis] = None if None in along else sum(size for size in along if size is not None)
        return [tuple(found)]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        y = np.concatenate(given, axis=int(node.options["axis"]))
        masked = self.masks(node, [mask is not None for mask in masks])[0]
        return [(y, self._mask(node, given, masks) if masked else None)]

    @staticmethod
    def _mask(node: Node, given: Sequence[np.ndarray], masks: Sequence[np.ndarray | None]) -> np.ndarray:
        """What Keras makes of masks, where those of all values stand behind each other: any or every along the last axis."""
        wide = []
        for x, mask in zip(given, masks, strict=True):
            own = np.ones(x.shape[:2], bool) if mask is None else mask
            wide.append(np.broadcast_to(own.reshape(*own.shape, *[1] * (x.ndim - 2)), x.shape))
        whole = np.concatenate(wide, axis=int(node.options["axis"]))
        return np.asarray((np.all if node.options.get("every") else np.any)(whole, axis=-1))
