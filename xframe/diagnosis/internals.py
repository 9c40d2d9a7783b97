"""Time steps each by itself: both sides go on from the same states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xframe import layout, noise, reference
from xframe.cells import get_cell
from xframe.judging import LIMIT
from xframe.layout import Key
from xframe.probe import rounded
from xframe.reference import Given
from xframe.spec import Layer, Recurrent

__all__ = [
    "Alone",
    "Forced",
    "Known",
    "Place",
    "alone",
    "alone_recorded",
    "by_place",
    "comparable",
    "departure",
    "first",
    "first_state",
    "forced",
    "halves",
    "most",
    "reads_backwards",
    "valid",
    "worst",
]

# Layer and direction.
Place = tuple[int, int]
# A layer and its canonical parameters.
Known = tuple[Recurrent, Mapping[Key, np.ndarray]]

# Numbers that the widest array of some time steps may have when they are run as one batch; the replicas are several times that.
_BLOCK = 1_000_000


def departure(got: np.ndarray, truth: noise.Noise, name: str) -> np.ndarray:
    """As `xframe.noise.ratio`: infinite where only the reference is finite, NaN (not judged) where the reference is not."""
    clean, deviation = truth.clean[name], truth.deviation[name]
    ratios = np.where(np.isfinite(got), noise.ratio(got, clean, deviation), np.inf)
    return np.where(np.isfinite(clean) & np.isfinite(deviation), ratios, np.nan)


def most(ratios: np.ndarray) -> int:
    """The index of the largest."""
    return int(np.nanargmax(ratios))


def worst(ratios: np.ndarray, axis: int | tuple[int, ...] | None = None) -> Any:
    """The largest of what is judged; NaN where nothing is."""
    return np.fmax.reduce(ratios, axis=axis, initial=np.nan)


def reads_backwards(spec: Recurrent, place: Place) -> bool:
    """Whether a layer and direction reads the input from the last time step to the first."""
    # A layer that goes backwards puts out the other order of time, and so the next one reads it.
    turned = spec.go_backwards and spec.num_layers > 1 and place[0] % 2
    return (spec.go_backwards != bool(place[1])) != bool(turned)


def first(spec: Recurrent, ratios: Mapping[Place, np.ndarray]) -> tuple[Place, int] | None:
    """The place and time step that departs first, each place in the order in which it reads; of two at once the lower layer.

    ``ratios`` are (time,), by place.
    """
    found = []
    for place, values in ratios.items():
        times = np.flatnonzero(values > LIMIT)
        if times.size:
            backwards = reads_backwards(spec, place)
            time = int(times[-1 if backwards else 0])
            found.append((len(values) - 1 - time if backwards else time, place[0], -values[time], place, time))
    return min(found)[-2:] if found else None


def first_state(states: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of the ratios of a cell's states, by name, those of the one that departs first: h is made of the others."""
    names = sorted(states, key=lambda own: own == "h")
    return states[next((own for own in names if worst(states[own]) > LIMIT), names[-1])]


def valid(spec: Recurrent, mask: np.ndarray) -> np.ndarray:
    """(batch, time): the time steps that no layer leaves out."""
    # A layer that reads another order of time applies the mask in that order.
    return mask & mask[:, ::-1] if spec.go_backwards and spec.num_layers > 1 else mask


def halves(spec: Recurrent, features: np.ndarray) -> dict[Place, np.ndarray]:
    """By the last layer's places, their share of an output (..., features) that directions stand beside each other in.

    Nothing, where they are merged number by number.
    """
    tops = [(spec.depth(d) - 1, d) for d in range(spec.num_directions)]
    if len(tops) > 1 and spec.merge_mode not in ("concat", None):
        return {}
    cut = spec.part(0, tops[0][0]).state_size
    return dict(zip(tops, (features[..., :cut], features[..., cut:]), strict=False))


def comparable(one: Recurrent, other: tuple[Layer, Mapping[Key, np.ndarray]] | None) -> Known | None:
    """The other layer if it can go on from the same states: it has the same places, cells and sizes."""
    if other is None or not isinstance(other[0], Recurrent) or layout.states(one) != layout.states(other[0]):
        return None
    return (other[0], other[1]) if _inside(one) == _inside(other[0]) else None


def _inside(spec: Recurrent) -> list[tuple[Any, ...]]:
    parts = [(place, spec.part(place[1], place[0])) for place in spec.places]
    return [(place, part.cell, part.hidden_size, spec.layer_input_size(*place)) for place, part in parts]


# Every time step by itself.


@dataclass(frozen=True)
class Forced:
    """The time steps of an input, each with the states in which it is read.

    Attributes:
        x: (time, batch, features), float64.
        states: by name, each (time, layers, directions, batch, size), float64.
        judged: (time, batch), whether this step is one that counts: not masked, and nothing in it has overflowed.
        alike: how many time steps may be run as one batch.
    """

    x: np.ndarray
    states: Mapping[str, np.ndarray]
    judged: np.ndarray
    alike: int

    def blocks(self) -> Iterator[slice]:
        """The time steps that are run together."""
        steps = self.x.shape[0]
        return (slice(first, min(first + self.alike, steps)) for first in range(0, steps, self.alike))

    def given(self, times: slice) -> Given:
        """Those time steps as one batch, (time * batch) sequences of one step."""
        x = self.x[times]
        rows = x.shape[0] * x.shape[1]
        states = {name: np.moveaxis(v[times], 0, 2) for name, v in self.states.items()}
        return Given(
            x.reshape(rows, 1, x.shape[2]), {n: v.reshape(*v.shape[:2], rows, v.shape[-1]) for n, v in states.items()}
        )

    def by_time(self, ratios: np.ndarray, times: slice) -> np.ndarray:
        """(time * batch, ...) -> (time, ...), the largest over those rows of the batch that are judged."""
        judged = self.judged[times]
        ratios = ratios.reshape(*judged.shape, *ratios.shape[1:])
        return worst(np.where(judged.reshape(*judged.shape, *[1] * (ratios.ndim - 2)), ratios, np.nan), axis=1)


def forced(spec: Recurrent, given: Given, states: Mapping[str, np.ndarray], dtype: str) -> Forced:
    """Every time step of what is given, to be run by itself in ``dtype`` from ``states``, as `xframe.reference.trajectory`'s."""
    held = dtype if dtype in noise.ROUNDOFF else "float32"
    largest = np.finfo("float32" if held == "bfloat16" else held).max
    judged = np.ones(given.x.shape[1::-1], bool)
    if given.mask is not None:
        judged &= valid(spec, given.mask).T
    kept = {}
    for name, values in states.items():
        sound = np.abs(values) <= largest
        judged &= sound.all(axis=(1, 2, 4))
        kept[name] = _held(np.where(sound, values, 0), held)
    parts = [spec.part(d, k) for k, d in spec.places]
    widest = max(spec.input_size, *(len(get_cell(p.cell).gates) * p.hidden_size for p in parts))
    # A stateful layer keeps states for so many sequences and no more.
    alike = 1 if spec.stateful else max(1, _BLOCK // (given.x.shape[0] * widest))
    return Forced(_held(given.x.swapaxes(0, 1), held), kept, judged, alike)


def _held(values: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest numbers of a float type, in float64."""
    return rounded(values, dtype) if dtype == "bfloat16" else values.astype(dtype).astype(np.float64)


@dataclass(frozen=True)
class Alone:
    """How far each time step is off by itself, in units of the noise of one step; the largest over the batch.

    Attributes:
        states: by place and the cell's name of the state that the step ends in, (time, size).
        outputs: (time, features), of what is put out; no features if it cannot be compared.
        own: whether both go on from the states of the other side, not of the reference.
    """

    states: Mapping[Place, Mapping[str, np.ndarray]]
    outputs: np.ndarray
    own: bool = False

    @property
    def local(self) -> np.ndarray:
        """(time,), the largest."""
        found = [values for own in self.states.values() for values in own.values()]
        return worst(np.concatenate([*found, self.outputs], axis=1), axis=1)


def alone(known: Known, steps: Forced, run: Callable[[Given, slice], Mapping[str, np.ndarray]], dtype: str) -> Alone:
    """Each time step of two sides by itself.

    Args:
        known: the reference.
        steps: the time steps.
        run: puts out what the other side does on some of them, by name; some outputs may be missing, or of another shape.
        dtype: the float type in whose rounding noise they are judged.
    """
    found: dict[str, list[np.ndarray]] = {}
    for times in steps.blocks():
        given = steps.given(times)
        truth = noise.measure(*known, given, dtype)
        got = run(given, times)
        for name in truth.clean:
            if name in got and got[name].shape == truth.clean[name].shape:
                ratios = np.moveaxis(departure(got[name], truth, name), noise.batch_axis(name), 0)
                found.setdefault(name, []).append(steps.by_time(ratios, times))
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    outputs = joined["sequence"][:, 0] if "sequence" in joined else np.empty((len(steps.x), 0))
    return Alone(by_place(known[0], joined), outputs)


def by_place(spec: Recurrent, named: Mapping[str, np.ndarray]) -> dict[Place, dict[str, np.ndarray]]:
    """States (time or batch, layers, directions, size) by their places and names in the cell."""
    slots = layout.states(spec)
    return {
        place: {
            own: named[f"state {name}"][:, at[0], at[1]]
            for name, own, at in layout.places(slots, *place)
            if f"state {name}" in named
        }
        for place in spec.places
    }


def alone_recorded(known: Known, given: Given, sequence: np.ndarray, dtype: str) -> Alone | None:
    """The same where all that is known of the other side is its sequence, (batch, time, features), and this holds its states.

    That is so with one layer of cells whose only state is what they put out, where nothing is masked. The states of each step
    are then those that the other side itself has put out.
    """
    spec = known[0]
    names = [own for place in spec.places for _, own, _ in layout.places(layout.states(spec), *place)]
    top = halves(spec, sequence)
    if set(names) != {"h"} or len(top) != len(names) or given.mask is not None:
        return None
    turned = sequence[:, ::-1] if spec.go_backwards else sequence
    states = reference.trajectory(*known, given)  # with the right states where time begins
    for (layer, d), half in halves(spec, turned.swapaxes(0, 1)).items():
        for name, _, at in layout.places(layout.states(spec), layer, d):
            earlier, later = slice(None, -1), slice(1, None)
            read, reads = (later, earlier) if reads_backwards(spec, (layer, d)) else (earlier, later)
            states[name][reads, at[0], at[1]] = half[read]
    steps, rows = forced(spec, given, states, dtype), turned.swapaxes(0, 1)
    found = alone(known, steps, lambda _, times: {"sequence": rows[times].reshape(-1, 1, rows.shape[-1])}, dtype)
    return Alone({place: {"h": half} for place, half in halves(spec, found.outputs).items()}, found.outputs, True)
