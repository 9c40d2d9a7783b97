"""Telling cheaply which mistakes may explain the evidence: a few time steps of the reference, in the float type of the evidence.

What a layer puts out at the first time steps depends on these alone. Where each direction reads time by itself, they are all
that is computed: with three steps of fifty most mistakes are ruled out for a tenth of the price. What passes has then to
agree everywhere, and in the end within its own rounding noise (`xframe.diagnosis.search`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from xframe import noise, reference
from xframe.cells import get_cell
from xframe.diagnosis.evidence import Evidence
from xframe.errors import XframeError
from xframe.mistakes import Case
from xframe.reference import Given
from xframe.spec import Layer, Recurrent

__all__ = ["HOPELESS", "PASS", "Score", "Window", "cost", "windows"]

# In units of the noise of the layer as it should be. One with a mistake may have more noise; a mistake makes a difference far
# larger than this, save one of rounding.
PASS = 300.0
# How many time steps are looked at first, and next.
_FIRST = (3, 12)
# How many numbers are multiplied in the time that a time step's calls of NumPy take.
_CALLS = 100_000


class Score(NamedTuple):
    """How well a case agrees with a window of the evidence.

    Attributes:
        worst: the largest difference, in units of noise.
        share: the share of numbers that agree.
        error: the root mean square of the differences over that of the evidence, none taken for more than `_LARGEST`.
    """

    worst: float
    share: float
    error: float

    @property
    def passes(self) -> bool:
        return self.worst <= PASS


_LARGEST = 3.0
HOPELESS = Score(np.inf, 0.0, _LARGEST)


@dataclass(frozen=True)
class Window:
    """The first time steps that each direction reads of one piece of evidence, or all of it.

    Attributes:
        number: which piece of evidence.
        evidence: it.
        truth: the outputs of the layer as it should be, with their noise.
        steps: how many time steps, None for all.
        kind: how the layer as it should be is cut, see `_kind`.
    """

    number: int
    evidence: Evidence
    truth: noise.Noise
    steps: int | None
    kind: tuple[int, ...]

    @cached_property
    def _wanted(self) -> dict[str, np.ndarray]:
        return self._cut(self.evidence.outputs)

    @cached_property
    def _units(self) -> dict[str, np.ndarray]:
        """By output the unit of difference: the largest noise at each time step, and rounding of the largest number."""
        u = noise.ROUNDOFF[self.evidence.dtype]
        found = {}
        for name, values in self.evidence.outputs.items():
            clean, deviation = self.truth.clean[name], self.truth.deviation[name]
            axes = (0, 2) if name == "sequence" and values.shape == clean.shape else None
            largest, noisiest = (np.max(np.abs(one), axes, keepdims=bool(axes)) for one in (clean, deviation))
            size = np.maximum(np.max(np.abs(values), axes, keepdims=bool(axes)), largest)
            found[name] = np.broadcast_to(noisiest + 4 * u * size + np.finfo(np.float32).tiny, values.shape)
        return self._cut(found)

    @cached_property
    def _sizes(self) -> dict[str, float]:
        return {name: float(np.sqrt(np.mean(np.square(values)))) + 1e-30 for name, values in self._wanted.items()}

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def score(self, case: Case) -> Score:
        """How well a case agrees. One that cannot be computed, or has outputs of another shape, does not."""
        try:
            got = self._computed(case)
        except XframeError:
            return HOPELESS
        ratios, errors = [], []
        for name, wanted in self._wanted.items():
            values = got.get(name)
            if values is None or values.shape != wanted.shape or not np.isfinite(values).all():
                return HOPELESS
            difference = np.abs(values - wanted)
            ratios.append((difference / self._units[name]).ravel())
            errors.append(np.minimum(difference / self._sizes[name], _LARGEST).ravel())
        ratio, error = np.concatenate(ratios), np.concatenate(errors)
        return Score(float(ratio.max()), float(np.mean(ratio <= PASS)), float(np.sqrt(np.mean(np.square(error)))))

    def _computed(self, case: Case) -> dict[str, np.ndarray]:
        # What becomes of outputs may take any of them from anywhere.
        if self.steps is None or case.after or case.given.before or _kind(case.spec) != self.kind:
            return self._cut(case.run())
        return _first_steps(case, self.steps, self.kind)

    def _cut(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.steps is None:
            return {name: outputs[name] for name in self.evidence.outputs if name in outputs}
        return _halves(outputs["sequence"], self.steps, self.kind)


def windows(number: int, evidence: Evidence, truth: noise.Noise, spec: Layer) -> Iterator[Window]:
    """The windows of one piece of evidence, the cheapest first."""
    kind, sequence = _kind(spec), evidence.outputs.get("sequence")
    usual = sequence is not None and sequence.shape == truth.clean["sequence"].shape
    if kind and sequence is not None and usual and evidence.given.before is None:
        for steps in _FIRST:
            if 2 * steps <= sequence.shape[1]:
                yield Window(number, evidence, truth, steps, kind)
    yield Window(number, evidence, truth, None, kind)


def cost(window: Window, case: Case) -> float:
    """About how long a case takes, in units of a time step's calls of NumPy."""
    spec, given = case.spec, case.given
    if not isinstance(spec, Recurrent):
        return 1.0
    parts = [spec.part(direction, layer) for layer, direction in spec.places]
    numbers = sum(len(get_cell(p.cell).gates) * p.hidden_size * (p.input_size + p.state_size) for p in parts)
    short = window.steps is not None and not case.after and _kind(spec) == window.kind
    steps = window.steps if short and window.steps else given.x.shape[1]
    steps *= 2 if given.before else 1
    return (steps + 5) * (len(parts) + numbers * given.x.shape[0] / _CALLS)


def _kind(spec: Layer) -> tuple[int, ...]:
    """The sizes of the directions that lie beside each other in the sequence; none where they cannot be told apart.

    A layer that reads time backwards has a zero before them.
    """
    # Where a layer reads what the one below put out last, its first step depends on every step of that one.
    if not isinstance(spec, Recurrent) or (spec.num_layers > 1 and (spec.bidirectional or spec.go_backwards)):
        return ()
    if spec.bidirectional and spec.merge_mode not in ("concat", None):
        return ()
    sizes = tuple(spec.column(d)[-1].state_size for d in range(spec.num_directions))
    return (0, *sizes) if spec.go_backwards else sizes


def _first_steps(case: Case, steps: int, kind: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The first steps that each direction reads, both directions as rows of one batch."""
    given, backwards = case.given, kind[0] == 0
    ends = [slice(-steps, None) if backwards else slice(steps)]
    if len(kind) - backwards == 2:
        ends.append(slice(steps) if backwards else slice(-steps, None))
    rows, batch = len(ends), given.x.shape[0]
    cut = Given(
        np.concatenate([given.x[:, end] for end in ends]),
        given.state and {name: np.concatenate([value] * rows, axis=2) for name, value in given.state.items()},
        None if given.mask is None else np.concatenate([given.mask[:, end] for end in ends]),
    )
    spec = case.spec
    if given.mask is not None and isinstance(spec, Recurrent):
        spec = replace(spec, mask="any")  # a piece of a mask that is padded on the right need not be
    sequence = reference.run_given(spec, case.params, cut).sequence
    if rows == 1:
        return {"first": sequence}
    n = kind[-2]
    return {"first": sequence[:batch, :, :n], "second": sequence[batch:, :, n:]}


def _halves(sequence: np.ndarray, steps: int, kind: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The same parts of the whole sequence. Only the output of a second direction is flipped back."""
    if len(kind) - (kind[0] == 0) == 1:
        return {"first": sequence[:, :steps]}
    n = kind[-2]
    return {"first": sequence[:, :steps, :n], "second": sequence[:, -steps:, n:]}
