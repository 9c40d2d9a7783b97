"""What the parameters of both sides, where they are known, tell by themselves: nothing has to be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xframe import noise
from xframe.comparison import misfit
from xframe.diagnosis.search import Attempt, Candidate
from xframe.errors import XframeError
from xframe.layout import Key, block_shape, folds
from xframe.mistakes import Case, Mistake, Variation
from xframe.spec import Layer, Recurrent

__all__ = ["Target", "explanations", "option_mistakes"]

# Options that change what is computed from parameters of the same shapes.
_OPTIONS = ("activation", "recurrent_activation", "reset_after", "merge_mode", "go_backwards", "masked_output")
# How many pairs of mistakes are tried.
_PAIRS = 20_000
_FIRST = 16
# Of a tensor that was not loaded nearly every number is another one.
_MOST = 0.9


class Tensor(NamedTuple):
    """The gates of one role, which are stored together."""

    layer: int
    direction: int
    role: str

    def __str__(self) -> str:
        way = "backward" if self.direction else "forward"
        return f"{self.role.replace('_', ' ')} (layer {self.layer}, {way})"


class Target:
    """The parameters that the second side has, to which the first side's are to become equal."""

    def __init__(self, spec: Layer, params: Mapping[Key, np.ndarray], dtype: str) -> None:
        self.spec, self.params = spec, params
        self.tried = 0
        self._last: tuple[Layer, bool] | None = None
        self._u, self._least = 4 * noise.ROUNDOFF[dtype], 4 * noise.LEAST[dtype]

    def reached(self, case: Case) -> bool:
        """Whether a case has these options and, up to rounding, these effective parameters."""
        self.tried += 1
        return self.is_like(case.spec) and next(self._differing(case), None) is None

    def differing(self, case: Case) -> dict[Tensor, list[Key]]:
        """The effective blocks that differ, by tensor."""
        found: dict[Tensor, list[Key]] = {}
        for key in self._differing(case):
            found.setdefault(Tensor(*key[:3]), []).append(key)
        return found

    def wrong(self, case: Case) -> set[Key]:
        """The blocks that a mistake must touch: none in particular where the layers have other shapes."""
        return set(self._differing(case)) if self._has_shape_of(case.spec) else set()

    def is_like(self, spec: Layer) -> bool:
        """Whether a layer makes the same function of the same parameters."""
        same = all(getattr(spec, name, None) == getattr(self.spec, name, None) for name in _OPTIONS)
        return same and self._has_shape_of(spec)

    def _has_shape_of(self, spec: Layer) -> bool:
        if self._last is None or self._last[0] is not spec:
            self._last = spec, not misfit(spec, self.spec)
        return self._last[1]

    def _differing(self, case: Case) -> Iterator[Key]:
        if not self._has_shape_of(case.spec):
            yield from self.params
            return
        for key in dict.fromkeys((*self.params, *case.params)):
            if key.role == "recurrent_bias" and self._summed(key):
                continue
            mine, theirs = self._effective(case.params, key), self._effective(self.params, key)
            size = self._size(case.params, key) + self._size(self.params, key)
            # Most that differ do so at once.
            if not self._equal(mine, theirs, size, 4) or not self._equal(mine, theirs, size):
                yield key

    def _equal(self, one: np.ndarray, other: np.ndarray, size: np.ndarray, columns: int | None = None) -> bool:
        """Whether the first columns are equal, up to the rounding of numbers of that size."""
        part = (..., slice(columns))
        return bool(np.all(np.abs(one[part] - other[part]) <= self._allowed(size[part])))

    def _allowed(self, size: np.ndarray) -> np.ndarray:
        return self._u * size + self._least

    def changed(self, params: Mapping[Key, np.ndarray], tensor: Tensor) -> int:
        """How many numbers of a tensor are others."""
        mine, theirs = self.numbers(params, tensor), self.numbers(self.params, tensor)
        return int(np.count_nonzero(np.abs(mine - theirs) > self._allowed(np.abs(mine) + np.abs(theirs))))

    def block(self, key: Key) -> np.ndarray:
        """A block of the target; a layer without a bias has zeros."""
        return self.params[key] if key in self.params else np.zeros(block_shape(self.spec, key))

    def numbers(self, params: Mapping[Key, np.ndarray], tensor: Tensor) -> np.ndarray:
        """All effective numbers of a tensor, one after the other, in float64."""
        keys = [key for key in params if Tensor(*key[:3]) == tensor]
        return np.concatenate([self._effective(params, key).ravel() for key in keys]).astype(np.float64)

    def _summed(self, key: Key) -> bool:
        return key.role in ("bias", "recurrent_bias") and folds(self.spec, key)

    def _effective(self, params: Mapping[Key, np.ndarray], key: Key) -> np.ndarray:
        """One block, with the other bias added where only the sum counts; a layer without a bias has zeros."""
        block = params.get(key, np.zeros(1))
        if key.role == "bias" and self._summed(key):
            return block.astype(np.float64) + params.get(key._replace(role="recurrent_bias"), np.zeros(1))
        return block

    def _size(self, params: Mapping[Key, np.ndarray], key: Key) -> np.ndarray:
        """How large the numbers are of which an effective block is made."""
        size = np.abs(params.get(key, np.zeros(1)))
        if key.role == "bias" and self._summed(key):
            return size + np.abs(params.get(key._replace(role="recurrent_bias"), np.zeros(1)))
        return size


def explanations(case: Case, target: Target, every: Sequence[Candidate]) -> Iterator[tuple[Candidate, ...]]:
    """The mistakes, as few as possible, with which the first side's options and parameters become the second side's.

    None are found as ``()`` where they are equal already.
    """
    if target.reached(case):
        yield ()
        return
    root = Attempt([case])
    like = target.is_like(case.spec)
    useful = [candidate for candidate in every if _touches(root, candidate, like)]
    found = [(candidate,) for candidate in useful if _reaches(root.then(candidate), target)]
    yield from found or _pairs(root, target, useful)


def _touches(root: Attempt, candidate: Candidate, like: bool) -> bool:
    """Whether a mistake is one of parameters, or of options if these are not ``like`` the second side's."""
    before, after = root.case(0), root.then(candidate).case(0)
    same = ("given", "after", *(["spec"] if like else []))
    return after is not before and all(getattr(after, name) is getattr(before, name) for name in same)


def _reaches(attempt: Attempt, target: Target) -> bool:
    try:
        return target.reached(attempt.case(0))
    except (XframeError, ValueError):
        return False


def _pairs(root: Attempt, target: Target, every: Sequence[Candidate]) -> Iterator[tuple[Candidate, ...]]:
    """Two mistakes; first those of which one mends most, then what is wrong with one tensor and no known mistake."""
    wrong = target.wrong(root.case(0))
    touched = {candidate.number: _touched(root, candidate) for candidate in every}
    left = {candidate.number: _left(root.then(candidate), target) for candidate in every}
    order = sorted(every, key=lambda one: left[one.number])
    tried = 0
    for first in order:
        mended = touched[first.number]
        seconds = [second for second in every if second is not first and wrong <= mended | touched[second.number]]
        attempts = [pair for second in seconds for pair in ((first, second), (second, first))]
        found = [made for made in attempts if _reaches(root.then(made[0]).then(made[1]), target)]
        tried += len(attempts)
        yield from found
        if found or tried > _PAIRS:
            break
    else:
        found = []
    if not found:
        yield from _with_one_tensor(root, target, order)


def _touched(root: Attempt, candidate: Candidate) -> set[Key]:
    """The effective blocks that a mistake changes."""
    before, after = root.case(0).params, root.then(candidate).case(0).params
    found = {key for key, block in after.items() if block is not before.get(key)}
    return found | {key._replace(role="bias") for key in found if key.role == "recurrent_bias"}


def _left(attempt: Attempt, target: Target) -> int:
    try:
        return sum(map(len, target.differing(attempt.case(0)).values()))
    except (XframeError, ValueError):
        return len(target.params)


def _with_one_tensor(root: Attempt, target: Target, order: Sequence[Candidate]) -> Iterator[tuple[Candidate, ...]]:
    """Mistakes after which only one tensor is left that differs, which some are taken from the second side as it is."""
    for made in ((), *((candidate,) for candidate in order[:_FIRST])):
        attempt = root
        for candidate in made:
            attempt = attempt.then(candidate)
        case = attempt.case(0)
        left = target.differing(case)
        tensors = {Tensor(*key[:3]) for key in case.params}
        # Where half of all tensors are others, it is another layer.
        if len(left) == 1 and len(tensors) > 1 and target.is_like(case.spec):
            yield (*made, _odd_tensor(case, target, next(iter(left))))
            if not made:
                return


def _odd_tensor(case: Case, target: Target, tensor: Tensor) -> Candidate:
    """The mistake that one tensor holds other numbers, as far as they tell."""
    roles = ("bias", "recurrent_bias") if "bias" in tensor.role else (tensor.role,)  # of which one may hold the sum
    place = {key: target.block(key) for key in case.params if key[:2] == tensor[:2] and key.role in roles}

    def change(other: Case) -> Case:
        return replace(other, params={**other.params, **place})

    mistake = Mistake(
        "tensor not loaded",
        ("weights not loaded", "strict=False"),
        "A tensor that is not found by its name, or left out, keeps the numbers that it had before.",
        lambda _: iter(()),
        9,
    )
    return Candidate(mistake, Variation(*_described(case, target, tensor), change), 1_000_000)


def _described(case: Case, target: Target, tensor: Tensor) -> tuple[str, str]:
    """What is wrong with a tensor, and how to mend it."""
    mine, theirs = target.numbers(case.params, tensor), target.numbers(target.params, tensor)
    factor = float(mine @ theirs / (mine @ mine)) if mine.any() else 0.0
    if factor and np.allclose(theirs, factor * mine, rtol=1e-6, atol=1e-6 * np.abs(theirs).max()):
        return f"the {tensor} scaled by {factor:.4g}", "Take the numbers as they are, without scaling them."
    if np.array_equal(np.sort(mine), np.sort(theirs)):
        return f"the numbers of the {tensor} in another order", f"Lay out the {tensor} as the layer reads it."
    changed = target.changed(case.params, tensor)
    if changed < _MOST * mine.size:
        off = f"by up to {np.abs(theirs - mine).max():.2g}"
        return (
            f"{changed} of {mine.size} numbers of the {tensor} changed, {off}",
            f"Move the {tensor} once more, as it is.",
        )
    look = _initial(tensor, target, theirs)
    return f"the {tensor} not loaded{look}", f"Load the {tensor}; every other parameter is right."


def _initial(tensor: Tensor, target: Target, values: np.ndarray) -> str:
    """What initial values the numbers of a tensor look like, if any."""
    if not values.any():
        return " (it is all zeros)"
    if "bias" in tensor.role:
        return " (it is zeros and ones, as at the beginning)" if set(np.unique(values)) <= {0.0, 1.0} else ""
    part: Any = target.spec.part(tensor.direction, tensor.layer)
    bound, largest = 1 / np.sqrt(part.hidden_size), float(np.abs(values).max())
    if 0.9 * bound < largest <= bound * (1 + 1e-6):
        return " (its numbers lie within ±1/sqrt(hidden_size), as PyTorch's initial ones do)"
    blocks = [b for k, b in target.params.items() if Tensor(*k[:3]) == tensor]
    gates = np.concatenate(blocks, axis=1).astype(np.float64)
    if tensor.role == "recurrent_kernel" and np.allclose(gates @ gates.T, np.eye(len(gates)), atol=1e-3):
        return " (its rows are orthogonal, as Keras's initial ones are)"
    return ""


def option_mistakes(spec: Layer, other: Layer) -> Iterator[tuple[Mistake, Variation]]:
    """The options in which the second side says that it differs, each as a mistake."""
    mistake = Mistake("options", (), "Both sides were built with different options.", lambda _: iter(()), 9)
    for name in _OPTIONS:
        mine, theirs = getattr(spec, name, None), getattr(other, name, None)
        if mine != theirs and theirs is not None:
            change = partial(_with_option, name=name, value=theirs)
            yield mistake, Variation(f"{name}={theirs!r} instead of {mine!r}", f"Give it {name}={mine!r}.", change)


def _with_option(case: Case, name: str, value: Any) -> Case:
    if not isinstance(case.spec, Recurrent) or getattr(case.spec, name) == value:
        return case
    return replace(case, spec=replace(case.spec, **{name: value}))
