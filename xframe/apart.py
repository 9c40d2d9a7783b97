"""In what two layers differ by what they say of themselves, and an input on which that shows.

Outputs judge what the numbers and options of a layer do on the inputs that it was run on. A weight of a unit that is off on all
of these, or the difference of relu and relu6 where no number comes to 6, moves none of them. So layers whose parameters differ by
more than rounding, or whose options make other functions, are never called equivalent: they are different where some input shows
it, which is looked for here, and else nothing is concluded and what differs is named. This is the rule of every command that
compares layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xframe import noise, reference
from xframe.activations import alike
from xframe.drawing import others, within_bounds
from xframe.judging import LIMIT, Input, beside
from xframe.layout import Key
from xframe.packing import Parameters
from xframe.probe import Probe
from xframe.spec import Dense, Layer, Recurrent, plural

__all__ = ["Apart", "Known", "Number", "apart", "telling", "waking", "with_telling"]

# A layer and its canonical parameters.
Known = tuple[Layer, Parameters]

# Options of a layer, and of each cell of it, that change what is computed from the same parameters. Rates of dropout do not,
# and what only the caller decides (states that are kept from call to call) is shown by a second call.
_OF_LAYERS = ("merge_mode", "go_backwards")
_OF_CELLS = ("reset_after", "activation", "recurrent_activation")
# How many numbers a sentence names.
_NAMED = 3


class Number(NamedTuple):
    """A single number of an effective block, with what it is in either layer."""

    key: Key
    place: tuple[int, ...]
    mine: float
    theirs: float

    def __str__(self) -> str:
        return f"{self.key} [{', '.join(map(str, self.place))}]: {self.mine:.6g} and {self.theirs:.6g}"


@dataclass(frozen=True)
class Apart:
    """In what two layers differ; true if in anything.

    Attributes:
        options: those that change what is computed, each with its two values.
        count: how many effective numbers differ by more than rounding.
        numbers: the first of these, those that differ most first.
    """

    options: tuple[tuple[str, Any, Any], ...]
    count: int
    numbers: tuple[Number, ...]

    def __bool__(self) -> bool:
        return bool(self.options or self.count)

    def __str__(self) -> str:
        found = [f"{name} ({one} and {other})" for name, one, other in self.options]
        if self.count:
            rest = self.count - len(self.numbers)
            named = "; ".join(map(str, self.numbers)) + (f"; and {rest:,} more" if rest else "")
            found.append(f"{plural(self.count, 'number')} ({named})")
        return " and ".join(found)

    @property
    def unshown(self) -> str:
        """The sentence for where no output shows it."""
        return f"No output showed it, but the layers differ in {self}; on inputs that reach it they may part."


def apart(a: Known, b: Known, dtype: str, narrowed: bool) -> Apart:
    """In what two layers of the same sizes differ; ``dtype`` and ``narrowed`` are those of `xframe.judging.difference`."""
    numbers: list[Number] = []
    count = 0
    for key, one, other, wrong in beside(a[1], b[1], dtype, narrowed):
        count += int(np.count_nonzero(wrong))
        one, other = (np.broadcast_to(block, wrong.shape) for block in (one, other))
        size = np.where(wrong, np.abs(one.astype(np.float64) - other), 0)
        for flat in np.argsort(-size, axis=None, kind="stable")[: min(_NAMED, int(np.count_nonzero(wrong)))]:
            place = tuple(int(i) for i in np.unravel_index(flat, wrong.shape))
            numbers.append(Number(key, place, float(one[place]), float(other[place])))
    numbers.sort(key=lambda number: -abs(number.mine - number.theirs))
    return Apart(tuple(_options(a[0], b[0])), count, tuple(numbers[:_NAMED]))


def _options(a: Layer, b: Layer) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, Dense) and isinstance(b, Dense) and not alike(a.activation, b.activation):
        yield "activation", a.activation, b.activation
    if not (isinstance(a, Recurrent) and isinstance(b, Recurrent)):
        return
    # What is put out at masked steps is a question for layers that both take masks.
    for name in (*_OF_LAYERS, *(["masked_output"] if a.mask and b.mask else [])):
        if getattr(a, name) != getattr(b, name):
            yield name, getattr(a, name), getattr(b, name)
    found: dict[tuple[str, Any, Any], None] = {}
    for layer, direction in a.places:
        mine, theirs = a.part(direction, layer), b.part(direction, layer)
        where = "" if mine is a and theirs is b else f" of layer {layer}, {'backward' if direction else 'forward'}"
        for name in _OF_CELLS:
            one, other = getattr(mine, name), getattr(theirs, name)
            if one != other and not (name.endswith("activation") and alike(one, other)):
                found[f"{name}{where}", one, other] = None
    yield from found


def telling(b: Known, given: Iterable[Input], dtype: str) -> Input | None:
    """The first input, of those that have one layer's truth, on which the reference of another is not within noise."""
    return next((one for one in given if _off(b, one, dtype) > LIMIT), None)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite tells nothing
def _off(b: Known, one: Input, dtype: str) -> float:
    """How far the reference of another layer is from the truth of an input, in units of the rounding noise of ``dtype``."""
    got = reference.run_given(*b, one.given.astype("float64")).named()
    clean = reference.run_given(one.spec, one.params, one.given.astype("float64")).named()
    if any(got[name].shape != values.shape for name, values in clean.items()):
        return np.inf
    if all(np.array_equal(got[name], values) for name, values in clean.items()):
        return 0.0  # the noise need not be known
    truth = one.noise(dtype)
    ratios = [noise.ratio(got[name], values, truth.deviation[name]).max() for name, values in truth.clean.items()]
    return float(max(ratios)) if np.isfinite(ratios).all() else 0.0


def waking(layer: Layer, name: str, params: Parameters, probe: Probe, longer: bool = True) -> Iterator[Input]:
    """Further inputs, smaller, larger and longer ones, which move numbers that others may not; none overflows."""
    return (one for one in others(layer, name, params, probe, longer) if within_bounds(one, probe))


def with_telling(b: Known, given: Sequence[Input], further: Iterable[Input], dtype: str) -> list[Input]:
    """What is given; and where none of it tells another layer apart, the first of the further inputs that does, if one does."""
    found = None if telling(b, given, dtype) else telling(b, further, dtype)
    return [*given, *([] if found is None else [found])]
