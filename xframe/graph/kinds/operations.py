"""Functions of arrays: what keras.ops and layers without weights compute from one value, or from two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from xframe.graph.arithmetic import Operations
from xframe.graph.kinds.allowed import axis, counts, flag, number, one_of, whole
from xframe.graph.kinds.base import Kind, Masked, Params, Shape, Single, known, refuse
from xframe.graph.kinds.products import product, softmax
from xframe.graph.node import Node

__all__ = ["ARITHMETIC", "FUNCTIONS", "REDUCTIONS"]

ARITHMETIC = ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum")
FUNCTIONS = ("exp", "log", "sqrt", "square", "abs", "negative", "sin", "cos", "sign", "reciprocal")
REDUCTIONS = ("mean", "sum", "max", "min")


def _is_index(value: Any) -> bool:
    """For each axis a whole number, or (start, stop, step), each of these a whole number or None; a step is positive."""

    def part(one: Any) -> bool:
        return one is None or (isinstance(one, int) and not isinstance(one, bool) and abs(one) < 2**40)

    def entry(one: Any) -> bool:
        if isinstance(one, list | tuple):
            return len(one) == 3 and all(map(part, one)) and (one[2] is None or one[2] > 0)
        return one is not None and part(one)

    return isinstance(value, list | tuple) and len(value) <= 8 and all(map(entry, value))


def _slices(node: Node) -> tuple[Any, ...]:
    return tuple(slice(*one) if isinstance(one, list | tuple) else int(one) for one in node.options["index"])


class Slice(Single):
    """Some places of each axis: a whole number takes one and drops the axis, a slice of Python's takes those in it."""

    passes = True
    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {
        "index": "for each axis behind the batch a whole number, or (start, stop, step); all of the further ones are taken"
    }
    allowed: ClassVar[Mapping[str, Any]] = {"index": _is_index}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        index = _slices(node)
        if len(index) > len(shape):
            raise refuse(node, f"cannot take places of {len(index)} axes of samples of the shape {shape}")
        found: list[int | None] = []
        for size, one in zip(shape, index, strict=False):
            if isinstance(one, slice):
                full = one == slice(None)
                found.append(size if full or size is None else len(range(*one.indices(size))))
            elif size is not None and not -size <= one < size:
                raise refuse(node, f"takes place {one} of an axis of {size}")
        return (*found, *shape[len(index) :])

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        try:
            places = (slice(None), *_slices(node))
            y = x[places]
        except IndexError:
            raise refuse(node, f"takes a place that samples of the shape {x.shape[1:]} do not have") from None
        if 0 in y.shape:
            raise refuse(node, f"takes nothing of samples of the shape {x.shape[1:]}")
        return np.ascontiguousarray(y)


class Arithmetic(Single):
    """A number with each number: ``x operation constant``, or the other way round."""

    options: ClassVar[Mapping[str, str]] = {
        "operation": ", ".join(ARITHMETIC),
        "constant": "the number",
        "swapped": "whether the constant comes first",
        "masked": "whether it hands a mask on; it does not if this is absent",
    }
    allowed: ClassVar[Mapping[str, Any]] = {
        "operation": one_of(*ARITHMETIC),
        "constant": number,
        "swapped": flag,
        "masked": flag,
    }
    optional = frozenset({"masked"})

    def masked(self, node: Node, reaches: bool) -> bool:
        return reaches and bool(node.options.get("masked"))

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        if node.options.get("masked") and (
            node.options["operation"] not in ("add", "multiply") or node.options["swapped"]
        ):
            raise refuse(node, "is no layer of Keras, which alone hands a mask on")
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        c = x.dtype.type(node.options["constant"])
        a, b = (c, x) if node.options["swapped"] else (x, c)
        return _computed(str(node.options["operation"]), a, b, ops)


_UFUNCS: Mapping[str, np.ufunc] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def _computed(operation: str, a: Any, b: Any, ops: Operations) -> np.ndarray:
    y: np.ndarray = _UFUNCS[operation](a, b)
    if operation in ("maximum", "minimum"):
        return y
    # A power is computed by exp and log, with an error of the exponent's size.
    return ops.rounded(y, times=4 if operation == "power" else 1)


class Binary(Kind):
    """Each number of a value with one of another; an axis of length 1 is as long as that of the other."""

    options: ClassVar[Mapping[str, str]] = {"operation": ", ".join(ARITHMETIC)}
    allowed: ClassVar[Mapping[str, Any]] = {"operation": one_of(*ARITHMETIC)}

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [False]

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]):
            # With axes of its own, one would be put before the batch of the other.
            raise refuse(node, f"cannot read samples of the shapes {', '.join(map(str, shapes))}")
        found: list[int | None] = []
        for a, b in zip(*shapes, strict=True):
            if a != b and 1 not in (a, b) and None not in (a, b):
                raise refuse(node, f"cannot read samples of the shapes {shapes[0]} and {shapes[1]}")
            found.append(b if a in (1, None) and b != 1 else a)
        return [tuple(found)]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        return [(_computed(str(node.options["operation"]), given[0], given[1], ops), None)]


class Function(Single):
    """A function of each number."""

    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {"name": ", ".join(FUNCTIONS)}
    allowed: ClassVar[Mapping[str, Any]] = {"name": one_of(*FUNCTIONS)}

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        name = str(node.options["name"])
        y: np.ndarray = getattr(np, name)(x)
        return y if name in ("abs", "negative", "sign") else ops.rounded(y, times=4)


class Reduction(Single):
    """One number of all along some axes."""

    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {
        "name": ", ".join(REDUCTIONS),
        "axes": "counted from the last, which is -1",
        "keepdims": "whether the axes stay, of length 1",
    }
    allowed: ClassVar[Mapping[str, Any]] = {
        "name": one_of(*REDUCTIONS),
        "axes": lambda value: isinstance(value, list | tuple) and bool(value) and all(map(axis, value)),
        "keepdims": flag,
    }

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        axes = {int(one) for one in node.options["axes"]}
        if any(one < -len(shape) for one in axes):
            raise refuse(node, f"has the axes {sorted(axes)}, which samples of the shape {shape} do not have")
        keep = bool(node.options["keepdims"])
        places = [(size, i - len(shape) in axes) for i, size in enumerate(shape)]
        return tuple(1 if reduced else size for size, reduced in places if keep or not reduced)

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        axes, keep, name = tuple(node.options["axes"]), bool(node.options["keepdims"]), str(node.options["name"])
        y: np.ndarray = getattr(np, name)(x, axis=axes, keepdims=keep)
        if name in ("max", "min"):
            return y
        count = x.size // max(y.size, 1)
        norm = np.sqrt(np.square(x).sum(axis=axes, keepdims=keep)) / (count if name == "mean" else 1)
        return ops.summed(y, lambda: norm, count)


class ExpandDims(Single):
    """Another axis of length 1."""

    passes = True
    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {"axis": "of the output, counted from the last, which is -1"}
    allowed: ClassVar[Mapping[str, Any]] = {"axis": axis}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        at = len(shape) + 1 + int(node.options["axis"])
        if at < 0:
            raise refuse(node, f"cannot put an axis before the batch of samples of the shape {shape}")
        return (*shape[:at], 1, *shape[at:])

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        return np.expand_dims(x, int(node.options["axis"]))


class Squeeze(Single):
    """Without an axis of length 1."""

    passes = True
    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {"axis": "counted from the last, which is -1"}
    allowed: ClassVar[Mapping[str, Any]] = {"axis": axis}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        at = len(shape) + int(node.options["axis"])
        if at < 0 or shape[at] != 1:
            raise refuse(node, f"cannot take an axis of length 1 from samples of the shape {shape}")
        return (*shape[:at], *shape[at + 1 :])

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        return np.squeeze(x, int(node.options["axis"]))


class Flip(Single):
    """The places of an axis in the other order."""

    passes = True
    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {"axis": "counted from the last, which is -1"}
    allowed: ClassVar[Mapping[str, Any]] = {"axis": axis}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        if -int(node.options["axis"]) > len(shape):
            raise refuse(node, f"cannot turn round the axis {node.options['axis']} of samples of the shape {shape}")
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        return np.ascontiguousarray(np.flip(x, int(node.options["axis"])))


class Softmax(Single):
    """``exp(x) / sum(exp(x))`` along an axis that is not the last one."""

    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {"axis": "counted from the last, which is -1"}
    allowed: ClassVar[Mapping[str, Any]] = {"axis": axis}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        if -int(node.options["axis"]) > len(shape):
            raise refuse(node, f"has no axis {node.options['axis']} in samples of the shape {shape}")
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        at = int(node.options["axis"])
        y = softmax(np.ascontiguousarray(np.moveaxis(x, at, -1)), ops)
        return np.ascontiguousarray(np.moveaxis(y, -1, at))


class Pad(Single):
    """Zeros before and behind the places of each axis but the last."""

    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {
        "before": "for each axis but the batch and the last, how many",
        "behind": "the same",
    }
    allowed: ClassVar[Mapping[str, Any]] = {"before": whole, "behind": whole}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        pads = list(zip(node.options["before"], node.options["behind"], strict=False))
        if len(pads) != len(shape) - 1 or len(node.options["before"]) != len(node.options["behind"]):
            raise refuse(node, f"cannot pad {len(pads)} axes of samples of the shape {shape}")
        return (*(None if n is None else n + a + b for n, (a, b) in zip(shape, pads, strict=False)), shape[-1])

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        pads = list(zip(node.options["before"], node.options["behind"], strict=True))
        return np.pad(x, ((0, 0), *pads, (0, 0)))


class Upsample(Single):
    """Each place of the axes between the batch and the last several times."""

    passes = True
    mask = "drops"
    options: ClassVar[Mapping[str, str]] = {"times": "for each axis but the batch and the last, how often"}
    allowed: ClassVar[Mapping[str, Any]] = {"times": counts}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        times = node.options["times"]
        if len(times) != len(shape) - 1:
            raise refuse(node, f"cannot repeat {len(times)} axes of samples of the shape {shape}")
        return (*(None if n is None else n * int(k) for n, k in zip(shape, times, strict=False)), shape[-1])

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        for at, times in enumerate(node.options["times"], 1):
            x = np.repeat(x, int(times), axis=at)
        return x


class Stack(Kind):
    """Values beside each other along an axis of its own."""

    passes = True
    options: ClassVar[Mapping[str, str]] = {"axis": "of the output, counted from the last, which is -1"}
    allowed: ClassVar[Mapping[str, Any]] = {"axis": axis}

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [False]

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        at = len(shapes[0]) + 1 + int(node.options["axis"])
        if any(shape != shapes[0] for shape in shapes) or at < 0:
            raise refuse(node, f"cannot put samples of the shapes {', '.join(map(str, shapes))} beside each other")
        return [(*shapes[0][:at], len(shapes), *shapes[0][at:])]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        return [(np.stack(given, axis=int(node.options["axis"])), None)]


class MatMul(Kind):
    """The product of two values, of their last two axes, sample by sample."""

    options: ClassVar[Mapping[str, str]] = {"transposed": "whether the last two axes of the second are exchanged first"}
    allowed: ClassVar[Mapping[str, Any]] = {"transposed": flag}

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [False]

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 2:
            raise refuse(node, f"cannot multiply samples of the shapes {', '.join(map(str, shapes))}")
        a, b = shapes
        rows, columns = (b[-1], b[-2]) if node.options["transposed"] else (b[-2], b[-1])
        if a[:-2] != b[:-2] or (None not in (a[-1], rows) and a[-1] != rows):
            raise refuse(node, f"cannot multiply samples of the shapes {a} and {b}")
        return [(*a[:-1], columns)]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        a, b = given
        equation = "...ij,...kj->...ik" if node.options["transposed"] else "...ij,...jk->...ik"
        if a.shape[-1] != b.shape[-1 if node.options["transposed"] else -2]:
            raise refuse(node, f"cannot multiply samples of the shapes {a.shape[1:]} and {b.shape[1:]}")
        return [(product(equation, a, b, ops, a.shape[-1]), None)]


class UnitNorm(Single):
    """``x / max(|x|, least)``, the norm along the last axis. Source: keras.layers.UnitNormalization."""

    options: ClassVar[Mapping[str, str]] = {"least": "what it divides by at least"}
    allowed: ClassVar[Mapping[str, Any]] = {"least": lambda value: number(value) and value > 0}

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        known(node, shape)
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        squares = np.square(x)
        total = squares.sum(axis=-1, keepdims=True)
        total = ops.summed(total, lambda: np.linalg.norm(squares, axis=-1, keepdims=True), x.shape[-1])
        root = np.maximum(np.sqrt(total), x.dtype.type(node.options["least"]))
        return ops.rounded(x / root, times=3)


KINDS: Mapping[str, Callable[[], Kind]] = {
    "slice": Slice,
    "arithmetic": Arithmetic,
    "binary": Binary,
    "function": Function,
    "reduction": Reduction,
    "expand_dims": ExpandDims,
    "squeeze": Squeeze,
    "flip": Flip,
    "softmax": Softmax,
    "pad": Pad,
    "upsample": Upsample,
    "stack": Stack,
    "matmul": MatMul,
    "unit_norm": UnitNorm,
}
