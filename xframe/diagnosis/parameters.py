"""What the parameters of both sides, where they are known, tell by themselves: nothing has to be run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xframe import noise
from xframe.comparison import misfit
from xframe.diagnosis import tensors
from xframe.diagnosis.search import Attempt, Candidate
from xframe.diagnosis.tensors import TENSOR_CHANGED, Changed, Told
from xframe.errors import XframeError
from xframe.layout import Key, block_shape, folds
from xframe.mistakes import Case, Mistake, Variation
from xframe.mistakes.making import BIASES
from xframe.spec import Layer, Recurrent

__all__ = ["Target", "explanations", "option_mistakes"]

# Options that change what is computed from parameters of the same shapes.
_OPTIONS = ("activation", "recurrent_activation", "reset_after", "merge_mode", "go_backwards", "masked_output")
# How many pairs of mistakes are tried.
_PAIRS = 20_000
_FIRST = 16


class Tensor(NamedTuple):
    """The gates of one role, which are stored together."""

    layer: int
    direction: int
    role: str

    def title(self, two: bool) -> str:
        """What it is called; where ``two`` biases are looked at, this one is that of the input."""
        way = "backward" if self.direction else "forward"
        role = "input bias" if two and self.role == "bias" else self.role.replace("_", " ")
        return f"the {role} (layer {self.layer}, {way})"


class Target:
    """The parameters that the second side has, to which the first side's are to become equal.

    Args:
        spec, params: the second side.
        dtype: the float type in which parameters were rounded on their way.
        first: those of the first side.
        exact: whether nothing but a sum of two biases may have been rounded, as a transfer does it. A mistake may calculate, and
            round what it calculates.
    """

    def __init__(
        self,
        spec: Layer,
        params: Mapping[Key, np.ndarray],
        dtype: str,
        first: Mapping[Key, np.ndarray],
        exact: bool = False,
    ) -> None:
        self.spec, self.params, self.dtype = spec, params, dtype
        self.tried = 0
        self._last: tuple[Layer, bool] | None = None
        self._first = first
        self._exact, self._u, self._least = exact, noise.ROUNDOFF[dtype], noise.LEAST[dtype]

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
            allowed = self._allowed(case, key, mine, theirs)
            # Most that differ do so at once.
            for part in ((..., slice(4)), ...):
                if np.any(np.abs(mine[part] - theirs[part]) > allowed[part]):
                    yield key
                    break

    def _allowed(self, case: Case, key: Key, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """By how much each number of an effective block may differ."""
        summed = self._summed(key)
        if self._exact:
            return summed * self._u * np.maximum(np.abs(mine), np.abs(theirs))
        size = self._size(case.params, key) + self._size(self.params, key)
        if summed and self._first.get(key, size).shape == size.shape:
            size = size + self._size(self._first, key)  # they may cancel, and be rounded before they do
        return 4 * (self._u * size + self._least)

    def changed(self, case: Case) -> Iterator[list[Changed]]:
        """The tensors that differ: as they are stored, where both sides store the same ones, and as they act."""
        mine, theirs = case.params, self.params
        if mine.keys() == theirs.keys():
            u, least = (0.0, 0.0) if self._exact else (8 * self._u, 8 * self._least)
            stored = {
                Tensor(*k[:3]) for k in mine if np.any(np.abs(mine[k] - theirs[k]) > u * np.abs(theirs[k]) + least)
            }
            two = any(key.role == "recurrent_bias" for key in mine)
            yield [self._changed(case, tensor, lambda params, key: params[key], two) for tensor in sorted(stored)]
        yield [self._changed(case, tensor, self._effective, False) for tensor in self.differing(case)]

    def _changed(self, case: Case, tensor: Tensor, block_of: Callable[[Any, Key], np.ndarray], two: bool) -> Changed:
        groups: dict[Tensor, list[Key]] = {}
        for key in case.params:
            groups.setdefault(Tensor(*key[:3]), []).append(key)

        def blocks(params: Mapping[Key, np.ndarray], one: Tensor) -> dict[Key, np.ndarray]:
            full = {key: np.zeros(block_shape(self.spec, key)) for key in groups[one]}
            return {key: np.broadcast_to(block_of(params, key), zero.shape) for key, zero in full.items()}

        others = {
            one.title(two): blocks(case.params, one) for one in groups if one.role == tensor.role and one != tensor
        }
        before, after = blocks(case.params, tensor), blocks(self.params, tensor)
        return Changed(tensor.title(two), self.spec, before, after, self.dtype, others)

    def block(self, key: Key) -> np.ndarray:
        """A block of the target; a layer without a bias has zeros."""
        return self.params[key] if key in self.params else np.zeros(block_shape(self.spec, key))

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


def explanations(
    case: Case, target: Target, every: Sequence[Candidate], further: Sequence[Candidate] = ()
) -> Iterator[tuple[Candidate, ...]]:
    """The mistakes, as few as possible, with which the first side's options and parameters become the second side's.

    None are found as ``()`` where they are equal already. The ``further`` mistakes are tried alone, where no other one does.
    """
    if target.reached(case):
        yield ()
        return
    root = Attempt([case])
    like = target.is_like(case.spec)
    useful = [candidate for candidate in every if _touches(root, candidate, like)]
    for some in (useful, (candidate for candidate in further if _touches(root, candidate, like))):
        if found := [(candidate,) for candidate in some if _reaches(root.then(candidate), target)]:
            yield from found
            return
    yield from _pairs(root, target, useful)


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
    """What the numbers of tensors show, else two mistakes, first those of which one mends most, else what one tensor tells."""
    case = root.case(0)
    odd = _odd(case, target) if target.is_like(case.spec) else None
    if odd is not None and odd.mistake.name == TENSOR_CHANGED:
        yield (odd,)
        return
    touched = {one.number: _touched(root, one) for one in every}
    wrong = {one.number: _wrong(root.then(one), target) for one in every}
    order = sorted(every, key=lambda one: len(wrong[one.number]) or len(target.params))
    tried = 0
    for first in order:
        # The second must touch all that is wrong after the first.
        attempts = [
            made
            for other in every
            for made in ((first, other), (other, first))
            if other is not first and wrong[made[0].number] <= touched[made[1].number]
        ]
        found = [made for made in attempts if _reaches(root.then(made[0]).then(made[1]), target)]
        tried += len(attempts)
        yield from found
        if found:
            return
        if tried > _PAIRS:
            break
    yield from _with_tensors(root, target, order)


def _touched(root: Attempt, candidate: Candidate) -> set[Key]:
    """The effective blocks that a mistake changes."""
    before, after = root.case(0).params, root.then(candidate).case(0).params
    found = {key for key, block in after.items() if block is not before.get(key)}
    return found | {key._replace(role="bias") for key in found if key.role == "recurrent_bias"}


def _wrong(attempt: Attempt, target: Target) -> set[Key]:
    """The blocks that another mistake must touch: none in particular where the layers have other shapes."""
    try:
        return target.wrong(attempt.case(0))
    except (XframeError, ValueError):
        return set(target.params)


def _with_tensors(root: Attempt, target: Target, order: Sequence[Candidate]) -> Iterator[tuple[Candidate, ...]]:
    """Mistakes after which few tensors are left that differ, and these tell what became of them."""
    for made in ((), *((candidate,) for candidate in order[:_FIRST])):
        attempt = root
        for candidate in made:
            attempt = attempt.then(candidate)
        case = attempt.case(0)
        if target.is_like(case.spec) and (odd := _odd(case, target)):
            yield (*made, odd)
            if not made:
                return


def _odd(case: Case, target: Target) -> Candidate | None:
    """The mistake that some tensors hold other numbers: several that were treated alike, or a single one."""
    candidates = [changed for changed in target.changed(case) if changed]
    for changed in candidates:
        found = [tensors.sign(one) for one in changed]
        if found[0] and all(one and one.words == found[0].words for one in found):
            return _taken(case, target, changed, found[0])
    alone = next((changed for changed in candidates if len(changed) == 1), None)
    # Where half of all tensors are others, it is another layer.
    if alone is None or len({Tensor(*key[:3]) for key in case.params}) < 2:
        return None
    return _taken(case, target, alone, tensors.told(alone[0]))


def _taken(case: Case, target: Target, changed: Sequence[Changed], what: Told) -> Candidate:
    """The mistake that tensors hold the numbers of the second side."""
    places = {(key.layer, key.direction, role) for one in changed for key in one.before for role in _together(key.role)}
    blocks = {key: target.block(key) for key in case.params if key[:3] in places}

    def change(other: Case) -> Case:
        return replace(other, params={**other.params, **blocks})

    titles = " and ".join(one.title for one in changed)
    mistake = Mistake(what.entry, (), what.why, lambda _: iter(()), 9)
    return Candidate(mistake, Variation(f"{titles} {what.words}", what.mend.format(titles), change), 1_000_000)


def _together(role: str) -> tuple[str, ...]:
    """The roles of which one may hold the sum of both."""
    return BIASES if role in BIASES else (role,)


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
