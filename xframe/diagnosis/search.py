"""The search of causes: mistakes are made in the reference until it puts out what the evidence shows.

First one mistake, then two. Whatever passes the cheap windows (`xframe.diagnosis.screening`) is judged as a verdict would: in
float64, in units of the rounding noise that the layer *with* the mistakes has on this very input. That it then agrees must
also mean something: a mistake after which rounding noise drowns all numbers would explain anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xframe import noise
from xframe.diagnosis.evidence import Evidence
from xframe.diagnosis.screening import HOPELESS, Score, Window, windows
from xframe.errors import XframeError
from xframe.judging import LIMIT
from xframe.mistakes import Case, Mistake, Variation

__all__ = ["Attempt", "Candidate", "Found", "Trial", "applied", "candidates", "changed_blocks", "each", "singles"]

# How unlikely an agreement by chance must be, as powers of two, for one mistake and for two: far more than there are of them.
_BITS = {1: 16.0, 2: 30.0}
# How many that pass the windows are judged, the best first: more are the same mistake by other names, or none.
_JUDGED = 16


@dataclass(frozen=True)
class Candidate:
    """One way to make one mistake; ``number`` is its place in the catalogue."""

    mistake: Mistake
    variation: Variation
    number: int


def candidates(catalogue: Sequence[Mistake], cases: Sequence[Case]) -> list[Candidate]:
    """Every way to make a mistake in any of these cases, each once."""
    found: dict[tuple[str, str], tuple[Mistake, Variation]] = {}
    for mistake in catalogue:
        for case in cases:
            for variation in mistake.vary(case):
                found.setdefault((mistake.name, variation.name), (mistake, variation))
    return [Candidate(*entry, number) for number, entry in enumerate(found.values())]


class Attempt:
    """Mistakes made one after the other in every case of the evidence, in each when it is asked for."""

    def __init__(self, cases: Sequence[Case], before: Attempt | None = None, last: Candidate | None = None) -> None:
        self._known: dict[int, Case] = dict(enumerate(cases))
        self._before, self._last = before, last

    def then(self, candidate: Candidate) -> Attempt:
        """One more mistake."""
        return Attempt((), self, candidate)

    @property
    def made(self) -> tuple[Candidate, ...]:
        """The mistakes, in order."""
        return (*self._before.made, self._last) if self._before and self._last else ()

    def case(self, number: int) -> Case:
        """The case of one piece of evidence with the mistakes made."""
        if number not in self._known:
            assert self._before is not None
            assert self._last is not None
            self._known[number] = self._last.variation.change(self._before.case(number))
        return self._known[number]

    def changes(self, number: int) -> bool:
        """Whether the last mistake changes anything in a case."""
        return self._before is None or self.case(number) is not self._before.case(number)


@dataclass(frozen=True)
class Found:
    """Mistakes that explain the evidence.

    Attributes:
        made: the mistakes, in order.
        noise_ratio, max_abs: the largest difference that is left, in units of noise and absolutely.
        blocks: how many blocks of parameters they touch.
    """

    made: tuple[Candidate, ...]
    noise_ratio: float
    max_abs: float
    blocks: int

    @property
    def surprise(self) -> int:
        """How unlikely it is that they were made."""
        return sum(one.mistake.surprise for one in self.made)

    @property
    def rank(self) -> tuple[int, ...]:
        """The less surprising comes first, then what stands earlier in the catalogue."""
        return (self.surprise, *sorted(one.number for one in self.made))


class Trial:
    """The evidence, and the layer as it should be; what mistakes are tried on.

    Args:
        cases: for each piece of evidence the layer as it should be, in float64.
        evidence: the pieces.

    Attributes:
        truths: the outputs of the layer as it should be, with their noise.
        fits: whether the outputs of the evidence have the shapes of these.
        windows: what is compared, the cheapest first.
        root: the cases without a mistake, as they are tried on.
        tried: how many explanations have been.
    """

    def __init__(self, cases: Sequence[Case], evidence: Sequence[Evidence]) -> None:
        self.cases, self.evidence = tuple(cases), tuple(evidence)
        self.truths = [one.around(case.noise(one.dtype)) for case, one in zip(cases, evidence, strict=True)]
        self.tried = 0
        self.fits = all(
            values.shape == truth.clean[name].shape
            for one, truth in zip(evidence, self.truths, strict=True)
            for name, values in one.outputs.items()
        )
        self.root = Attempt([_narrowed(case, one.dtype) for case, one in zip(cases, evidence, strict=True)])
        found = [
            window
            for number, (case, one, truth) in enumerate(zip(cases, evidence, self.truths, strict=True))
            for window in windows(number, one, truth, case.spec)
        ]
        # Initial states show most, and masks and earlier calls are for mistakes of their own.
        self.windows = sorted(
            found,
            key=lambda w: (
                w.steps or np.inf,
                bool(w.evidence.given.before),
                _masked(w),
                w.evidence.given.state is None,
            ),
        )

    def score(self, attempt: Attempt, window: Window) -> Score:
        """How well an attempt agrees with a window. Two mistakes may make no sense together; then it does not."""
        try:
            return window.score(attempt.case(window.number))
        except (XframeError, ValueError):
            return HOPELESS

    def failing(self, attempt: Attempt) -> tuple[Window, Score]:
        """The first window in which an attempt does not pass, or else the one in which it is worst."""
        found: list[tuple[Window, Score]] = []
        for window in self.windows:
            found.append((window, self.score(attempt, window)))
            if not found[-1][1].passes:
                return found[-1]
        return max(found, key=lambda one: one[1].worst)

    def judged(self, made: Sequence[Candidate]) -> Found | None:
        """Whether mistakes explain the evidence within rounding noise, and not by chance."""
        worst = largest = bits = 0.0
        cases = [applied(case, made) for case in self.cases]
        for case, one, truth in zip(cases, self.evidence, self.truths, strict=True):
            own = one.around(case.noise(one.dtype))
            for name, values in one.outputs.items():
                if name not in own.clean or own.clean[name].shape != values.shape:
                    return None
                ratio = noise.ratio(values, own.clean[name], own.deviation[name])
                if not np.all(ratio <= LIMIT):
                    return None
                before = _difference(values, truth.clean[name])
                bits += float(np.log2(np.maximum(before / (LIMIT * own.deviation[name]), 1)).sum())
                worst, largest = (
                    max(worst, float(ratio.max())),
                    max(largest, float(np.abs(values - own.clean[name]).max())),
                )
        blocks = changed_blocks(self.cases[0], cases[0])
        return Found(tuple(made), worst, largest, blocks) if bits >= _BITS[len(made)] else None

    def explained(self, attempts: Iterable[Attempt], at: Window, before: Score) -> list[Found]:
        """Those that explain the evidence, of attempts to mend what is wrong in one window."""
        passing = []
        for attempt in attempts:
            self.tried += 1
            score = self.score(attempt, at)
            if score.passes and score.worst < before.worst:
                others = [self.score(attempt, window) for window in self.windows if window is not at]
                if all(other.passes for other in others):
                    passing.append((max(score.worst, *(other.worst for other in others), 0.0), attempt.made))
        passing.sort(key=lambda one: one[0])
        return [found for _, made in passing[:_JUDGED] if (found := self.judged(made))]


def changed_blocks(before: Case, after: Case) -> int:
    """How many blocks of parameters a mistake touches."""
    return sum(block is not before.params.get(key) for key, block in after.params.items())


def applied(case: Case, made: Iterable[Candidate]) -> Case:
    """The case with mistakes made, one after the other."""
    for candidate in made:
        case = candidate.variation.change(case)
    return case


def singles(trial: Trial, every: Sequence[Candidate], first: Attempt | None = None) -> list[Found]:
    """The explanations by one mistake (more than those of ``first``)."""
    start = first or trial.root
    window, score = trial.failing(start)
    return sorted(trial.explained(each(start, every, window), window, score), key=lambda found: found.rank)


def each(first: Attempt, every: Iterable[Candidate], at: Window) -> Iterator[Attempt]:
    """One more mistake each, where it changes anything in that window."""
    for candidate in every:
        attempt = first.then(candidate)
        if candidate not in first.made and _changes(attempt, at.number):
            yield attempt


def _changes(attempt: Attempt, number: int) -> bool:
    try:
        return attempt.changes(number)
    except (XframeError, ValueError):
        return False


def _narrowed(case: Case, dtype: str) -> Case:
    """The case to be tried on: in float32, unless the evidence is finer."""
    if dtype == "float64":
        return case
    params = {key: block.astype(np.float32) for key, block in case.params.items()}
    return replace(case, params=params, given=case.given.astype("float32"))


def _masked(window: Window) -> bool:
    return window.evidence.given.mask is not None


def _difference(values: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """How far the evidence is from the layer as it should be; as far as can be where the shapes differ."""
    return np.abs(values - clean) if values.shape == clean.shape else np.abs(values) + 1
