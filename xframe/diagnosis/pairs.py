"""The search for two mistakes: one after the other is the first, the likeliest before the others, and any other is the second."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from xframe.diagnosis.screening import Score, cost
from xframe.diagnosis.search import Candidate, Found, Trial, each
from xframe.layout import Key, folds, keys
from xframe.spec import Layer

__all__ = ["pairs"]

# How many units of `screening.cost` a search for pairs may take.
_BUDGET = 300_000.0
# Mistakes that are so surprising are tried in pairs after all others have been.
_FAR = 3
# By how much surprise diminishes the promise of a mistake.
_DOUBT = 0.05


def pairs(trial: Trial, every: Sequence[Candidate]) -> list[Found]:
    """The explanations by two mistakes, of which the first is the likeliest that has any."""
    search = _Pairs(trial, every)
    return search.found([one for one in every if one.mistake.surprise < _FAR]) or search.found(every)


class _Pairs:
    """Pairs of mistakes, each tried once."""

    def __init__(self, trial: Trial, every: Sequence[Candidate]) -> None:
        self._trial = trial
        window, before = trial.failing(trial.root)
        self._promise = {
            one.number: _promise(trial.score(trial.root.then(one), window), before, one.mistake.surprise)
            for one in every
        }
        self._touched = {one.number: _touched(trial, one, window.number) for one in every}
        self._done = set[frozenset[int]]()
        self._budget = _BUDGET

    def found(self, every: Sequence[Candidate]) -> list[Found]:
        """The explanations among some mistakes."""
        for candidate in sorted(every, key=lambda one: -self._promise[one.number]):
            if self._budget < 0:
                break
            if found := self._with(candidate, every):
                return sorted(found, key=lambda one: one.rank)
        return []

    def _with(self, candidate: Candidate, every: Sequence[Candidate]) -> list[Found]:
        """The explanations of which one mistake is part; those that touch the same are made in either order."""
        trial, root = self._trial, self._trial.root
        first = root.then(candidate)
        at, score = trial.failing(first)
        others = [one for one in every if one != candidate and not self._is_done(candidate, one)]
        touched = self._touched[candidate.number]
        turned = [one for one in others if self._touched[one.number] & touched]
        tried = trial.tried
        # None is made before it is tried: together they may be far larger than the layer.
        found = trial.explained(
            chain(each(first, others, at), (root.then(one).then(candidate) for one in turned)), at, score
        )
        self._budget -= (trial.tried - tried) * cost(at, first.case(at.number))
        return found

    def _is_done(self, one: Candidate, other: Candidate) -> bool:
        """Whether a pair has been tried before; now it has."""
        pair = frozenset((one.number, other.number))
        done = pair in self._done
        self._done.add(pair)
        return done


def _promise(score: Score, before: Score, surprise: int) -> float:
    """How likely a mistake is one of two: it mends some numbers wholly, or all of them somewhat."""
    mended = max(score.share - before.share, 1 - score.error / (before.error + 1e-30))
    return mended - _DOUBT * surprise


def _touched(trial: Trial, candidate: Candidate, number: int) -> set[object]:
    """What a mistake changes: two that change different things can be made in any order."""
    before, after = trial.root.case(number), trial.root.then(candidate).case(number)
    found: set[object] = {key for key, block in after.params.items() if block is not before.params.get(key)}
    if after.spec is not before.spec and _blocks(after.spec) != _blocks(before.spec):
        found |= set(
            before.params
        )  # other layers, or biases that do not fold: what any other mistake does to them differs
    return found | {what for what in ("spec", "given", "after") if getattr(after, what) is not getattr(before, what)}


def _blocks(spec: Layer) -> list[tuple[Key, bool]]:
    """The blocks that a layer has, and whether each is folded."""
    return [(key, folds(spec, key)) for key in keys(spec)]
