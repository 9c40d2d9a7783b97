"""Products along any axes, as Einstein's summation convention writes them, and what is split along an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np

from xframe.graph.arithmetic import Operations
from xframe.graph.kinds.allowed import axis, whole
from xframe.graph.kinds.base import Kind, Masked, Params, Shape, Single, own_shapes, refuse
from xframe.graph.kinds.products import product
from xframe.graph.node import Node

__all__ = ["Einsum", "EinsumDense", "Split", "parts"]


def parts(equation: str) -> tuple[str, str, str]:
    """The letters of two operands and of the result."""
    both, _, result = equation.partition("->")
    a, _, b = both.partition(",")
    return a, b, result


def _is_equation(value: Any) -> bool:
    """``ab,bc->ac``: a letter for each axis, each once in each of the three; the result has no others, the batch first."""
    if not isinstance(value, str) or len(value) > 64 or value.count(",") != 1 or value.count("->") != 1:
        return False
    found = parts(value)
    letters = all(not one or (one.isascii() and one.isalpha() and len(set(one)) == len(one)) for one in found)
    a, b, result = found
    return letters and bool(a) and set(result) <= set(a + b) and result[:1] == a[0]


_EQUATION = (
    "as of numpy.einsum: a letter for each axis of two operands and of the result, of which the first is the batch"
)


def _known(node: Node, operands: Sequence[tuple[str, Sequence[int | None]]]) -> dict[str, int | None]:
    """The size of each letter."""
    found: dict[str, int | None] = {}
    for letters, sizes in operands:
        if len(letters) != len(sizes):
            raise refuse(
                node, f"has the equation {node.options['equation']!r} and reads {len(sizes)} axes, the batch included"
            )
        for letter, size in zip(letters, sizes, strict=True):
            before = found.get(letter)
            if None not in (before, size) and before != size:
                raise refuse(
                    node, f"has the equation {node.options['equation']!r} and reads {letter} of {before} and {size}"
                )
            found[letter] = size if before is None else before
    return found


def _run(equation: str, a: np.ndarray, b: np.ndarray, ops: Operations) -> np.ndarray:
    first, second, result = parts(equation)
    sizes = dict(zip(first + second, a.shape + b.shape, strict=True))
    length = prod(size for letter, size in sizes.items() if letter not in result)
    return np.ascontiguousarray(product(equation, a, b, ops, length))


class Einsum(Kind):
    """For ``bij,bkj->bik`` the sums over j of ``a[b,i,j] b[b,k,j]``: of all letters that the result does not have.

    Source: keras.ops.einsum of two values, keras.layers.Dot.
    """

    options: ClassVar[Mapping[str, str]] = {"equation": _EQUATION}
    allowed: ClassVar[Mapping[str, Any]] = {
        "equation": lambda value: _is_equation(value) and parts(value)[1][:1] == parts(value)[0][0]
    }

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [False]

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        a, b, result = parts(node.options["equation"])
        if len(shapes) != 2:
            raise refuse(node, f"reads two values, not {len(shapes)}")
        sizes = _known(node, [(a[1:], shapes[0]), (b[1:], shapes[1])])
        return [tuple(sizes[letter] for letter in result[1:])]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        self.output_shapes(node, [x.shape[1:] for x in given])
        return [(_run(node.options["equation"], given[0], given[1], ops), None)]


class EinsumDense(Single):
    """The same of a value and a kernel, and a bias beside the last axes of the result. Source: keras.layers.EinsumDense."""

    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {"equation": _EQUATION}
    params: ClassVar[Mapping[str, str]] = {
        "kernel": "as the equation says",
        "bias": "the sizes of the last axes of the result, with 1 for those that share it; may be absent",
    }
    allowed: ClassVar[Mapping[str, Any]] = {
        "equation": lambda value: _is_equation(value) and parts(value)[0][0] not in parts(value)[1]
    }
    optional = frozenset({"bias"})

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        a, b, result = parts(node.options["equation"])
        own = own_shapes(node)
        sizes = _known(node, [(a[1:], shape), (b, own["kernel"])])
        found = tuple(sizes[letter] for letter in result[1:])
        bias = own.get("bias", ())
        last = found[len(found) - len(bias) :]
        if len(bias) > len(found) or any(n not in (1, m) for n, m in zip(bias, last, strict=True)):
            raise refuse(node, f"has a bias of the shape {bias} and puts out samples of the shape {found}")
        return found

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        self.output_shape(node, x.shape[1:])
        y = _run(node.options["equation"], x, params["kernel"], ops)
        return ops.rounded(y + params["bias"]) if "bias" in params else y


class Split(Kind):
    """The parts of a value along an axis, each as a value. Source: keras.ops.split."""

    passes = True
    options: ClassVar[Mapping[str, str]] = {
        "axis": "counted from the last, which is -1",
        "at": "the places at which all parts but the first begin",
    }
    allowed: ClassVar[Mapping[str, Any]] = {
        "axis": axis,
        "at": lambda value: whole(value) and [*value] == sorted(value),
    }

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [False] * len(node.writes)

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        at, places = int(node.options["axis"]), [int(one) for one in node.options["at"]]
        if len(shapes) != 1 or -at > len(shapes[0]):
            raise refuse(node, f"has no axis {at} in samples of the shapes {', '.join(map(str, shapes))}")
        size = shapes[0][at]
        ends = [*places, size]
        sizes = [None if end is None else end - start for start, end in zip([0, *places], ends, strict=True)]
        if any(one is not None and one < 1 for one in sizes):
            raise refuse(node, f"takes nothing of an axis of {size}")
        before, behind = shapes[0][: len(shapes[0]) + at], shapes[0][len(shapes[0]) + at + 1 :]
        return [(*before, one, *behind) for one in sizes]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        self.output_shapes(node, [given[0].shape[1:]])
        found = np.split(given[0], [int(one) for one in node.options["at"]], axis=int(node.options["axis"]))
        return [(np.ascontiguousarray(one), None) for one in found]
