"""Gradients of the reference: its one loop over layers and time, run on arrays that remember what was made of them.

The reference allocates, fills and slices arrays, and does all else by an `xframe.cells.base.Arithmetic`. Given `Traced` arrays
and the arithmetic here, each of these steps notes how a change of what it made goes back to what it was made from (reverse mode,
as in backpropagation through time); run the other way round, the notes give the slope of a weighted sum of outputs for every
number of every parameter at once, for a few times what the run costs.

Buffers are overwritten in place, and so are their slopes: going back over a step takes the slope of its result away and adds to
those of its operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xframe import reference
from xframe.activations import ACTIVATIONS
from xframe.arithmetic import Plain
from xframe.layout import Key
from xframe.pieces import Pieces
from xframe.reference import Given, Outputs
from xframe.spec import Layer

__all__ = ["slopes"]

# Half the span over which an activation function's slope is taken. The relative error that curvature makes is about its square,
# and what rounding makes of a slope of zero is too small to matter.
_SPAN = 2.0**-10

Tape = list[Callable[[], None]]


class Traced:
    """An array beside the slopes of its numbers; slices and transposes are views of both."""

    def __init__(self, value: np.ndarray, slope: np.ndarray, tape: Tape) -> None:
        self.value, self.slope, self._tape = value, slope, tape

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    @property
    def T(self) -> Traced:  # noqa: N802
        return self.transpose()

    def transpose(self, *axes: int) -> Traced:
        return Traced(self.value.transpose(*axes), self.slope.transpose(*axes), self._tape)

    def astype(self, *_: Any) -> Traced:
        """Itself: all is of one type here."""
        return self

    def __getitem__(self, place: Any) -> Traced:
        return Traced(self.value[place], self.slope[place], self._tape)

    def __setitem__(self, place: Any, source: Any) -> None:
        self[place].set(source)

    def set(self, source: Any, where: Any = True) -> None:
        """Take over an array of this shape, or a number."""
        np.copyto(self.value, source.value if isinstance(source, Traced) else source, where=where)

        def back() -> None:
            taken = self.taken(where)
            if isinstance(source, Traced):
                source.slope += taken

        self._tape.append(back)

    def taken(self, where: Any = True) -> np.ndarray:
        """The slopes, which are zero from then on: before this step, the numbers were others."""
        slope = np.where(where, self.slope, 0)
        np.copyto(self.slope, 0, where=where)
        return slope

    def like(self, fill: float, shape: tuple[int, ...]) -> Traced:
        """Another one, full of a number."""
        return Traced(np.full(shape, fill), np.zeros(shape), self._tape)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in _FILLED:
            return self.like(_FILLED[function], kwargs.get("shape", self.shape))
        if function is np.copyto:
            return args[0].set(args[1], kwargs["where"])
        if function is np.concatenate:
            return _beside(args[0], kwargs["axis"])
        return NotImplemented

    def __array_ufunc__(self, function: Any, method: str, *args: Any, out: tuple[Traced, ...]) -> Any:
        """A product with a number, in place."""
        one, factor = args
        if function is not np.multiply or method != "__call__" or one is not out[0]:
            return NotImplemented
        self.value *= factor

        def back() -> None:
            self.slope *= factor

        self._tape.append(back)
        return self


_FILLED: dict[Any, float] = {np.empty_like: 0.0, np.zeros_like: 0.0, np.ones_like: 1.0}


def _beside(parts: Sequence[Traced], axis: int) -> Traced:
    """Arrays laid end to end."""
    whole = np.concatenate([part.value for part in parts], axis=axis)
    made = parts[0].like(0.0, whole.shape)
    start = 0
    for part in parts:
        end = start + part.shape[axis]
        place = [slice(None)] * len(whole.shape)
        place[axis] = slice(start, end)
        made[tuple(place)] = part
        start = end
    return made


class _Kernel:
    """What multiplies from the left, and what it was multiplied with and came to at each step."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value
        self.read: list[np.ndarray] = []
        self.came: list[np.ndarray] = []

    def slope(self, rows: slice, columns: slice | int) -> np.ndarray | float:
        """That of some of its numbers."""
        if not self.read:
            return 0.0
        came, read = np.concatenate(self.came, axis=1)[rows], np.concatenate(self.read, axis=1)[columns]
        return np.asarray(came @ read.T)


class Tracing:
    """The operations of `xframe.cells.base.Arithmetic` on traced arrays."""

    takes_pieces = True

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._plain = Plain()

    def weight(self, w: Any, ones: Sequence[int], batch: int) -> _Kernel:
        everywhere = slice(None), slice(None)
        parts: list[Any] = (
            [(piece[:2], piece.array) for piece in w.pieces] if isinstance(w, Pieces) else [(everywhere, w)]
        )
        kernel = _Kernel(np.zeros(w.shape))
        for place, part in parts:
            kernel.value[place] = part.value

        def back() -> None:
            for place, part in parts:
                part.slope += kernel.slope(*place)

        self._tape.append(back)
        return kernel

    def matmul(self, weight: _Kernel, a: Any, out: Any) -> Any:
        read = a.value.copy()
        np.matmul(weight.value, read, out=out.value)

        def back() -> None:
            slope = out.taken()
            weight.read.append(read)
            weight.came.append(slope)
            a.slope += weight.value.T @ slope

        self._tape.append(back)
        return out

    def add(self, a: Any, b: Any, out: Any) -> Any:
        return self._made(np.add, a, b, out, lambda *_: (1, 1))

    def subtract(self, a: Any, b: Any, out: Any) -> Any:
        return self._made(np.subtract, a, b, out, lambda *_: (1, -1))

    def multiply(self, a: Any, b: Any, out: Any) -> Any:
        return self._made(np.multiply, a, b, out, lambda one, other: (other, one))

    def _made(self, function: Any, a: Any, b: Any, out: Any, slopes_of: Callable[..., tuple[Any, Any]]) -> Any:
        of_a, of_b = slopes_of(a.value.copy(), b.value.copy())
        function(a.value, b.value, out=out.value)

        def back() -> None:
            slope = out.taken()
            a.slope += slope * of_a
            b.slope += slope * of_b

        self._tape.append(back)
        return out

    def activate(self, name: str, a: Any, out: Any) -> Any:
        read = a.value.copy()
        self._plain.activate(name, read, out=out.value)

        def back() -> None:
            slope = out.taken()
            a.slope += self._through(name, read, slope)

        self._tape.append(back)
        return out

    def _through(self, name: str, a: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """The slopes of what an activation function read, from those of what it made."""
        if not ACTIVATIONS[name].coupled:
            return slope * self._rise(name, a, np.full_like(a, _SPAN))
        found = np.empty_like(a)
        for unit in range(len(a)):
            step = np.zeros_like(a)
            step[unit] = _SPAN
            found[unit] = (slope * self._rise(name, a, step)).sum(axis=0)
        return found

    def _rise(self, name: str, a: np.ndarray, step: np.ndarray) -> np.ndarray:
        above, below = (self._plain.activate(name, at, np.empty_like(a)) for at in (a + step, a - step))
        return (above - below) / (2 * _SPAN)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite has no slope
def slopes(
    spec: Layer, params: Mapping[Key, np.ndarray], given: Given, weights: Mapping[str, np.ndarray]
) -> dict[Key, np.ndarray]:
    """By block, the slope of a weighted sum of all outputs for each of its numbers, in float64.

    Args:
        spec, params: the layer.
        given: what it is run on.
        weights: by name of an output, what each of its numbers counts in the sum; its shape.

    Raises:
        LayoutError: a block is missing or of the wrong shape.
    """
    tape: Tape = []
    blocks = {
        key: Traced(block.astype(np.float64, copy=False), np.zeros(block.shape), tape) for key, block in params.items()
    }
    for name, output in _run(spec, blocks, given.astype("float64"), tape).named().items():
        output.slope += weights[name]  # type: ignore[attr-defined]
    for back in reversed(tape):
        back()
    return {key: block.slope for key, block in blocks.items()}


def _run(spec: Layer, blocks: Mapping[Key, Traced], given: Given, tape: Tape) -> Outputs:
    """The reference on traced arrays, after the call before it, if there is one."""
    state = given.state if given.before is None else _run(spec, blocks, given.before, tape).states
    x: Any = Traced(given.x, np.zeros_like(given.x), tape)
    return reference.computed(spec, blocks, x, state, Tracing(tape), given.mask)  # type: ignore[arg-type]
