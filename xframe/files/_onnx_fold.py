"""What an ONNX graph computes from its constants alone, where that only moves numbers: shapes at once, numbers when asked for.

Exporters write the weights of a recurrent node as slices of the framework's own, in another order. The operators are those of
https://onnx.ai/onnx/operators/, in all their versions: what is an input in later ones was an attribute before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from xframe.budget import current
from xframe.files._onnx_tensors import DTYPES
from xframe.files.base import StoredTensor

__all__ = ["FOLDS", "Call", "Constant"]

# What may be folded: a hostile graph can double an array a hundred times over. Numbers moved, for each number stored,
# and in all for a small graph (PyTorch's order of gates takes 8); and how many operators one after the other.
_MOST_MOVES = 32
_FEW_NUMBERS = 2**22
_LONGEST_CHAIN = 64
# How many numbers may be moved for a list of axes, sizes or bounds, which is read while the file is opened.
_MOST_INTS = 1024
_SOURCE = 128  # bytes that it takes to note a source
_INTS = ("int32", "int64")
_FLOATS = ("float16", "float32", "float64")


class Sources:
    """The names of stored tensors, with how many numbers each holds, and how many these are together.

    What is made of one constant shares its sources: thousands of nodes may each read all that a hundred thousand others hold.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts, self.numbers = counts, sum(counts.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self.counts)


def _together(parts: Sequence[Constant]) -> Sources:
    """The sources of several constants, those that they share once."""
    found = list({id(part.sources): part.sources for part in parts if part.sources.counts}.values())
    if len(found) == 1:
        return found[0]
    current().take(
        _SOURCE * sum(len(one.counts) for one in found), "Cannot read the graph: what its constants are made of"
    )
    return Sources({name: count for one in found for name, count in one.counts.items()})


@dataclass(frozen=True)
class Constant:
    """An array that does not depend on the model's inputs.

    Attributes:
        shape, dtype, read: as in `StoredTensor`.
        key: the same for two that are computed alike from the same stored tensors.
        sources: the stored tensors that its numbers come from.
        stored: the name of the stored tensor that it is, or empty for one that is computed.
        moves, chain: how many numbers are moved to read it, and through how many operators.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)
    key: str
    sources: Sources = field(default_factory=lambda: Sources({}))
    stored: str = ""
    moves: int = 0
    chain: int = 0

    @classmethod
    def of(cls, tensor: StoredTensor) -> Constant:
        """A stored tensor as a constant."""
        count, key = tensor.count, f"tensor {tensor.name}"
        return cls(tensor.shape, tensor.dtype, tensor.read, key, Sources({tensor.name: count}), tensor.name, count)

    @classmethod
    def made(cls, array: np.ndarray) -> Constant:
        """A small array that is in the graph itself, as a shape is."""
        key = f"{array.dtype} {array.tolist()} {array.shape}"
        return cls(array.shape, str(array.dtype), array.copy, key, moves=array.size)


@dataclass(frozen=True)
class Call:
    """A node all of whose inputs are constants.

    Attributes:
        op: its operator.
        attributes: its attributes by name, numbers and text only; ``value`` may be a `Constant`.
        inputs: its inputs; None for one that is left out.
        outputs: how many outputs it has.
    """

    op: str
    attributes: Mapping[str, Any]
    inputs: Sequence[Constant | None]
    outputs: int

    @property
    def data(self) -> Constant:
        """The first input."""
        if not self.inputs or self.inputs[0] is None:
            raise ValueError("it has no input")
        return self.inputs[0]

    def input(self, index: int) -> Constant | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def ints(self, name: str, index: int) -> list[int] | None:
        """Whole numbers from an attribute or, in later versions, from an input; None where there is neither."""
        given = self.input(index)
        if given is None:
            found = self.attributes.get(name)
            return None if found is None else [int(n) for n in _listed(found)]
        if given.dtype not in _INTS or given.moves > _MOST_INTS:
            raise ValueError(f"its input {index} is no short list of whole numbers")
        return [int(n) for n in given.read().reshape(-1)]

    def axis(self, default: int, rank: int) -> int:
        return _axis(int(self.attributes.get("axis", default)), rank)

    def gives(
        self,
        shape: Sequence[int],
        compute: Callable[[], np.ndarray],
        how: object = None,
        parts: Sequence[Constant] = (),
        dtype: str = "",
    ) -> Constant | None:
        """The constant that this node makes of ``parts`` (the first input where none are given); None if it is too large.

        Args:
            shape, dtype: its own; dtype as the first part's where it is not given.
            compute: gives the numbers.
            how: what else than the parts and the operator decides the numbers.
            parts: the constants that it is made of.
        """
        parts = parts or [self.data]
        sources = _together(parts)
        moves = prod(shape) + sum(part.moves for part in parts)
        chain = 1 + max(part.chain for part in parts)
        if moves > max(_FEW_NUMBERS, _MOST_MOVES * sources.numbers) or chain > _LONGEST_CHAIN:
            return None
        described = repr((self.op, how, tuple(shape), dtype, [part.key for part in parts]))
        key = hashlib.sha256(described.encode(errors="backslashreplace")).hexdigest()
        return Constant(tuple(shape), dtype or parts[0].dtype, compute, key, sources, "", moves, chain)


Made = list[Constant | None]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"it has an axis {axis} of {rank}")
    return axis % rank


def _constant(call: Call) -> Made:
    given = call.attributes
    if isinstance(value := given.get("value"), Constant):
        return [value]
    for name, kind in (("float", np.float32), ("int", np.int64)):
        for value in (given.get(f"value_{name}"), given.get(f"value_{name}s")):
            if value is not None:
                return [Constant.made(np.array(value, kind))]
    return [None]  # text or sparse


def _identity(call: Call) -> Made:
    return [call.data]


def _cast(call: Call) -> Made:
    x, to = call.data, DTYPES.get(call.attributes.get("to", 0))
    if to == x.dtype:
        return [x]
    if to not in _FLOATS or x.dtype not in (*_FLOATS, "bfloat16"):
        return [None]

    def cast() -> np.ndarray:
        with np.errstate(over="ignore"):  # to infinity, as the operator does
            return x.read().astype(to)

    return [call.gives(x.shape, cast, to, dtype=to)]


def _transpose(call: Call) -> Made:
    x = call.data
    order = call.ints("perm", 1)
    order = list(range(len(x.shape)))[::-1] if order is None else order
    if sorted(order) != list(range(len(x.shape))):
        raise ValueError(f"its order of axes is {order}, of {len(x.shape)}")
    return [call.gives([x.shape[i] for i in order], lambda: x.read().transpose(order), order)]


def _reshaped(call: Call, shape: Sequence[int]) -> Made:
    x = call.data
    if prod(shape) != prod(x.shape):
        raise ValueError(f"it makes the shape {tuple(shape)} of {x.shape}")
    return [call.gives(shape, lambda: x.read().reshape(shape))]


def _reshape(call: Call) -> Made:
    old, given = call.data.shape, call.ints("shape", 1)
    if given is None or any(n < -1 for n in given) or given.count(-1) > 1:
        raise ValueError(f"it has the shape {given}")
    zero_stays = bool(call.attributes.get("allowzero", 0))
    if not zero_stays and any(n == 0 and i >= len(old) for i, n in enumerate(given)):
        raise ValueError(f"it makes the shape {given} of {old}")
    shape = [old[i] if n == 0 and not zero_stays else n for i, n in enumerate(given)]
    if -1 in shape:
        rest = prod(n for n in shape if n != -1)
        shape[shape.index(-1)] = prod(old) // rest if rest else 0
    return _reshaped(call, shape)


def _unsqueeze(call: Call) -> Made:
    shape, axes = list(call.data.shape), call.ints("axes", 1)
    if axes is None:
        raise ValueError("it has no axes")
    rank = len(shape) + len(axes)
    for axis in sorted({_axis(a, rank) for a in axes}):
        shape.insert(axis, 1)
    return _reshaped(call, shape)


def _squeeze(call: Call) -> Made:
    old, axes = call.data.shape, call.ints("axes", 1)
    gone = {i for i, n in enumerate(old) if n == 1} if axes is None else {_axis(a, len(old)) for a in axes}
    return _reshaped(call, [n for i, n in enumerate(old) if i not in gone])


def _slice(call: Call) -> Made:
    x = call.data
    starts, ends, axes, steps = (call.ints(n, i) for i, n in enumerate(("starts", "ends", "axes", "steps"), 1))
    if starts is None or ends is None:
        raise ValueError("it has no starts or no ends")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    axes = [_axis(axis, len(x.shape)) for axis in axes]
    if not len(starts) == len(ends) == len(axes) == len(set(axes)) == len(steps) or 0 in steps:
        raise ValueError("its starts, ends, axes and steps do not fit each other")
    cuts = [slice(None)] * len(x.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        cuts[axis] = _cut(start, end, step, x.shape[axis])
    shape = [len(range(*cut.indices(n))) for cut, n in zip(cuts, x.shape, strict=True)]
    return [call.gives(shape, lambda: x.read()[tuple(cuts)], cuts)]


def _cut(start: int, end: int, step: int, size: int) -> slice:
    """A slice as ONNX counts: backwards, what lies before the first number is the first as a start, and not as an end."""
    start, end = (n + size if n < 0 else n for n in (start, end))
    if step > 0:
        return slice(max(0, start), max(0, end), step)
    return slice(max(0, start), end if end >= 0 else None, step)


def _concat(call: Call) -> Made:
    parts = [part for part in call.inputs if part is not None]
    if not parts or len({(len(part.shape), part.dtype) for part in parts}) > 1:
        raise ValueError("its inputs do not fit each other")
    axis = call.axis(1, len(parts[0].shape))
    sizes = [part.shape[axis] for part in parts]
    shapes = {(*part.shape[:axis], sum(sizes), *part.shape[axis + 1 :]) for part in parts}
    if len(shapes) > 1:
        raise ValueError("its inputs do not fit each other")
    return [call.gives(shapes.pop(), lambda: np.concatenate([p.read() for p in parts], axis), axis, parts)]


def _split(call: Call) -> Made:
    x, sizes = call.data, call.ints("split", 1)
    axis = call.axis(0, len(x.shape))
    whole = x.shape[axis]
    if sizes is None:
        each = -(-whole // call.outputs)
        sizes = [min(each, max(0, whole - i * each)) for i in range(call.outputs)]
    if sum(sizes) != whole or len(sizes) != call.outputs or min(sizes) < 0:
        raise ValueError(f"it splits {whole} into {sizes}")
    made: Made = []
    for start, size in zip(accumulate(sizes, initial=0), sizes, strict=False):
        cut = (slice(None),) * axis + (slice(start, start + size),)
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        made.append(call.gives(shape, lambda cut=cut: x.read()[cut], (axis, start)))  # type: ignore[misc]
    return made


def _gather(call: Call) -> Made:
    x, indices = call.data, call.input(1)
    if indices is None or indices.dtype not in _INTS:
        raise ValueError("it has no whole numbers as indices")
    axis = call.axis(0, len(x.shape))
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    made = call.gives(shape, lambda: np.take(x.read(), indices.read(), axis), axis, [x, indices])
    if made is None:
        return [None]
    # The numbers come from x alone.
    return [Constant(shape, x.dtype, made.read, made.key, x.sources, "", made.moves, made.chain)]


def _shape(call: Call) -> Made:
    start, end = call.attributes.get("start", 0), call.attributes.get("end")
    return [Constant.made(np.array(call.data.shape[start:end], np.int64))]


def _constant_of_shape(call: Call) -> Made:
    shape, value = call.ints("", 0), call.attributes.get("value")
    filling = value if isinstance(value, Constant) else Constant.made(np.zeros(1, np.float32))
    if shape is None or min(shape, default=0) < 0 or prod(filling.shape) != 1:
        raise ValueError(f"it makes the shape {shape}")
    return [call.gives(shape, lambda: np.full(shape, filling.read().reshape(())), parts=[filling])]


# What each operator makes of its inputs. ValueError: they make no sense to it; the text continues "it cannot be computed:".
FOLDS: dict[str, Callable[[Call], Made]] = {
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
