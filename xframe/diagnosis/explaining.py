"""From evidence to a diagnosis: which mistakes explain why one side is not what it should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from xframe import mistakes, noise
from xframe.diagnosis import signs, tensor_cores
from xframe.diagnosis.confined import confined
from xframe.diagnosis.evidence import Evidence, computed
from xframe.diagnosis.naming import named, reasoned, times
from xframe.diagnosis.pairs import pairs
from xframe.diagnosis.parameters import Target, explanations, option_mistakes
from xframe.diagnosis.record import Cause, Diagnosis, Fault
from xframe.diagnosis.search import Candidate, Found, Trial, applied, candidates, changed_blocks, singles
from xframe.diagnosis.tensors import NOT_LOADED, OTHER_NUMBERS, TENSOR_CHANGED
from xframe.errors import SpecError
from xframe.judging import LIMIT
from xframe.layout import Key
from xframe.mistakes import Case, Mistake, Variation
from xframe.spec import Layer

__all__ = ["Known", "explain"]

# A layer and its canonical parameters.
Known = tuple[Layer, Mapping[Key, np.ndarray]]

# Stands for what is infinite; JSON has no infinity.
_CERTAIN = 1e30
# What is named where nothing explains everything: a mistake that mends this share of all numbers, and how much is right before.
_PARTLY, _HARDLY = 0.4, 0.1


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # a mistake may well overflow
def explain(
    spec: Layer,
    params: Mapping[Key, np.ndarray],
    evidence: Sequence[Evidence],
    *,
    other: Known | None = None,
    rerun: signs.Rerun | None = None,
    titles: tuple[str, str] = ("a", "b"),
    stored: str | None = None,
    tensor_cores: bool = False,
    extra: Sequence[tuple[Mistake, Variation]] = (),
    catalogue: Sequence[Mistake] | None = None,
) -> Diagnosis:
    """The single mistake, else the pair of mistakes, with which a layer puts out what the evidence shows.

    Args:
        spec, params: side a, the layer as it should be; it is what the reference computes.
        evidence: what side b puts out.
        other: what side b says of itself, its spec and its parameters, if they are known.
        rerun: puts out by name, once more, what side b puts out on an input, if it can be asked.
        titles: what the sides are called.
        stored: the float type in which parameters were rounded on their way from a to b; that of the evidence if None. It is
            another one where a layer of float32 was run in a copy of float64.
        tensor_cores: whether what puts the evidence out may round the factors of products as tensor cores do.
        extra: mistakes that can have been made in this very case, beside those of the catalogue.
        catalogue: the mistakes to try, `xframe.mistakes.CATALOGUE` if None.

    Raises:
        SpecError: there is no evidence, or an input does not fit the layer.
    """
    if not evidence or not any(one.outputs for one in evidence):
        raise SpecError("A diagnosis needs what the second side puts out; give at least one output.")
    inquiry = _Inquiry(
        spec,
        params,
        tuple(evidence),
        other,
        titles,
        tuple(catalogue or mistakes.CATALOGUE),
        tuple(extra),
        rerun,
        stored or evidence[0].dtype,
        tensor_cores,
    )
    return inquiry.concluded()


@dataclass(frozen=True)
class _Inquiry:
    """One question, and how it is answered."""

    spec: Layer
    params: Mapping[Key, np.ndarray]
    evidence: tuple[Evidence, ...]
    other: Known | None
    titles: tuple[str, str]
    catalogue: tuple[Mistake, ...]
    extra: tuple[tuple[Mistake, Variation], ...] = ()
    rerun: signs.Rerun | None = None
    stored: str = "float32"
    tensor_cores: bool = False

    def concluded(self) -> Diagnosis:
        if wrong := _not_finite(self.evidence):
            return self._diagnosis("inconclusive", f"{self.titles[1]} puts out {wrong}, which no number explains.")
        trial = self._trial(self.evidence)
        ratio, max_abs = _before(trial)
        if not np.isfinite(ratio):
            reason = f"The reference of {self.titles[0]} is not finite on this input, so that nothing can be told."
            return self._diagnosis("inconclusive", reason)
        if ratio <= LIMIT:
            return self._alike(trial, ratio, max_abs)
        before = (ratio, max_abs)
        causes, tried, notes = self._causes(trial)
        # A known mistake of the first side says more than that the second has other numbers.
        if self.other is not None and (not causes or _is_vague(causes[0])):
            reverse, more = self._reversed()
            tried += more
            if reverse and (not causes or not any(fault.entry in _OF_TENSORS for fault in reverse[0].faults)):
                causes = reverse
        if causes:
            return self._diagnosis("explained", reasoned(causes[0], before, self.titles), before, causes, tried, notes)
        reason = (
            f"No mistake of the catalogue and no two of them explain the difference ({max_abs:.2g} off, {times(ratio)} the "
            f"rounding noise); {tried:,} explanations were tried."
        )
        return self._diagnosis("unexplained", reason, before, (), tried, (*notes, *_partly(trial, self._every(trial))))

    def _diagnosis(
        self,
        status: str,
        reason: str,
        before: tuple[float, float] = (0.0, 0.0),
        causes: tuple[Cause, ...] = (),
        tried: int = 0,
        notes: tuple[str, ...] = (),
    ) -> Diagnosis:
        a, b = self.titles
        return Diagnosis(status, reason, a, b, self.spec, *before, causes, None, tried, notes)

    def _trial(self, evidence: Sequence[Evidence]) -> Trial:
        return Trial([Case(self.spec, self._held, one.given.astype("float64")) for one in evidence], evidence)

    @cached_property
    def _held(self) -> Mapping[Key, np.ndarray]:
        """The parameters as they should be: side b's own where those differ by nothing but the rounding of a sum of biases."""
        mine = {key: block.astype(np.float64) for key, block in self.params.items()}
        if self.other is None:
            return mine
        case = Case(self.spec, mine, self.evidence[0].given)
        return self._moved(mine) if Target(*self.other, self.stored, mine, exact=True).reached(case) else mine

    def _moved(self, params: Mapping[Key, np.ndarray]) -> dict[Key, np.ndarray]:
        """The parameters that side b holds, in the places of some that are equal to them up to rounding."""
        assert self.other is not None
        zeros = {key: np.zeros_like(block) for key, block in params.items()}
        return {**zeros, **{key: block.astype(np.float64) for key, block in self.other[1].items()}}

    def _alike(self, trial: Trial, ratio: float, max_abs: float) -> Diagnosis:
        """No difference, unless noise would hide any."""
        if all(
            np.all(LIMIT * truth.deviation[name] >= np.abs(truth.clean[name]).max())
            for one, truth in zip(trial.evidence, trial.truths, strict=True)
            for name in one.outputs
        ):
            reason = "The rounding noise is as large as the outputs, so that they prove nothing."
            return self._diagnosis("inconclusive", reason, (ratio, max_abs))
        reason = f"{self.titles[1]} puts out what {self.titles[0]} does, within {ratio:.2g} times the rounding noise."
        return self._diagnosis("equivalent", reason, (ratio, max_abs))

    def _every(self, trial: Trial) -> list[Candidate]:
        """What is tried: the catalogue, and what the numbers and the other side's options suggest."""
        found = candidates(self.catalogue, trial.cases)
        options = [] if self.other is None else option_mistakes(self.spec, self.other[0])
        found += [Candidate(*one, len(found) + i) for i, one in enumerate((*options, *self.extra))]
        return found

    def _causes(self, trial: Trial) -> tuple[tuple[Cause, ...], int, tuple[str, ...]]:
        """What explains the evidence, how many explanations were tried, and what is to be said of it."""
        if trial.fits and (fault := self._in_training(trial)):
            return (Cause((fault,), *_before(trial)),), 0, ()
        narrow, step = signs.narrower(self.evidence), signs.saved(self.evidence)
        fault = signs.narrow_fault(narrow) if narrow else step[1] if step else None
        if narrow:
            if agrees := signs.within(trial.cases, self.evidence, narrow):
                return (Cause((signs.narrow_fault(narrow),), *agrees),), 1, ()
            trial = self._trial([replace(one, dtype=narrow) for one in self.evidence])
        elif step:
            # Numbers with so few digits do not tell in which float type they were computed.
            trial = self._trial([replace(one, dtype=_usual(one.dtype), step=step[0]) for one in self.evidence])
            before = _before(trial)
            if before[0] <= LIMIT:
                return (Cause((step[1],), *before),), 1, ()
        every = self._every(trial)
        partial = confined(self.spec, every, len(every))
        found = self._by_parameters(trial, every, partial) or singles(trial, every) or singles(trial, partial)
        if not found and trial.fits and (factor := signs.scaled(trial.evidence, trial.truths)):
            found = singles(trial, [signs.scaling(factor, len(every))])
        if not found and any(noise.ROUNDOFF[self.stored] > noise.ROUNDOFF[one.dtype] for one in trial.evidence):
            # What no parameters tell is looked for in the noise of the type that they were rounded in on the way.
            coarser = replace(self, evidence=tuple(replace(one, dtype=self.stored) for one in trial.evidence))
            causes, tried, notes = coarser._causes(coarser._trial(coarser.evidence))
            return causes, trial.tried + tried, notes
        if not found and not narrow and not self._says_what_it_does():
            tf32 = None if step else self._tf32(trial)
            found = pairs(trial, _near(trial, every) if tf32 else every)
            if tf32 and not found:
                return (Cause((signs.tensor_cores(),), *tf32),), trial.tried, ()
        causes, notes = named(found, trial, (fault,) if fault else ())
        if narrow and not found:
            notes = (f"Every output is exactly a {narrow} number, whose rounding may hide what else there is.",)
        elif step and not found:
            notes = (f"It was recorded with {step[1].name}, which may hide what else there is.",)
        return causes, trial.tried, notes

    def _in_training(self, trial: Trial) -> Fault | None:
        return signs.restless(self.evidence, trial.truths, self.rerun) or signs.dropped(self.evidence, trial.truths)

    def _by_parameters(self, trial: Trial, every: Sequence[Candidate], partial: Sequence[Candidate]) -> list[Found]:
        """What explains the other side's parameters, and with them, or one more mistake, the evidence.

        The evidence is judged from the parameters that the other side holds: how they were rounded on the way to it is no
        mistake, and may show in the evidence.
        """
        if self.other is None:
            return []
        first = trial.cases[0]
        for exact in (False, True):
            target = Target(*self.other, self.stored, first.params, exact)
            known = list(explanations(first, target, *([],) if exact else (every, partial)))
            trial.tried += target.tried
            if exact and known == [()]:
                break
            found = [one for made in known for one in self._with(trial, made, every)]
            if found:
                return sorted(found, key=lambda one: (len(one.made), one.rank))
            if known != [()]:
                break  # they differ by more than rounding
        return []

    def _with(self, trial: Trial, made: tuple[Candidate, ...], every: Sequence[Candidate]) -> Iterator[Found]:
        """These mistakes, by which the parameters are the other side's, and if they do not explain the evidence one more."""
        cases = [applied(case, made) for case in trial.cases]
        blocks = changed_blocks(trial.cases[0], cases[0])
        own = Trial([replace(case, params=self._moved(case.params)) for case in cases], trial.evidence)
        ratio, max_abs = _before(own)
        if ratio <= LIMIT:
            yield from [Found(made, ratio, max_abs, blocks)] if made else []
        elif len(made) < 2:
            for one in singles(own, every):
                yield replace(one, made=(*made, *one.made), blocks=blocks + one.blocks)
        trial.tried += own.tried

    def _says_what_it_does(self) -> bool:
        """Whether the other side computes what its own parameters say: then these have told everything."""
        if self.other is None:
            return False
        own = _Inquiry(*self.other, self.evidence, None, self.titles, (), stored=self.stored)
        try:
            return _before(own._trial(self.evidence))[0] <= LIMIT
        except SpecError:  # it is a layer of other sizes
            return False

    def _tf32(self, trial: Trial) -> tuple[float, float] | None:
        """How well TF32 explains the evidence, if it can be that and does."""
        if not self.tensor_cores or any(one.dtype != "float32" for one in trial.evidence):
            return None
        agrees = signs.within(trial.cases, trial.evidence, "tf32")
        return agrees if agrees and tensor_cores.explains(trial.cases, trial.evidence) else None

    def _reversed(self) -> tuple[tuple[Cause, ...], int]:
        """Whether it is side a that is side b with a mistake."""
        assert self.other is not None
        if not self._says_what_it_does():
            return (), 0
        shown = tuple(computed(self.spec, self.params, one.given, one.dtype) for one in self.evidence)
        known = (self.spec, self.params)
        turned = _Inquiry(*self.other, shown, known, self.titles[::-1], self.catalogue, stored=self.stored)
        trial = turned._trial(shown)
        every = turned._every(trial)
        found = turned._by_parameters(trial, every, confined(self.other[0], every, len(every)))
        causes, _ = named(found, trial, ())
        return tuple(replace(cause, reverse=True) for cause in causes), trial.tried


# What the numbers of tensors tell, which is not in the catalogue.
_OF_TENSORS = (TENSOR_CHANGED, NOT_LOADED, OTHER_NUMBERS)


def _is_vague(cause: Cause) -> bool:
    return any(fault.entry == OTHER_NUMBERS for fault in cause.faults)


def _not_finite(evidence: Sequence[Evidence]) -> str:
    for one in evidence:
        for name, values in one.outputs.items():
            wrong = np.argwhere(~np.isfinite(values))
            if len(wrong):
                where = tuple(int(i) for i in wrong[0])
                return f"{values[where]} in {name} at {where}"
    return ""


def _usual(dtype: str) -> str:
    return "float32" if dtype == "float64" else dtype


def _before(trial: Trial) -> tuple[float, float]:
    """The largest difference as it is, in units of noise and absolutely; NaN where the reference is not finite."""
    ratios, differences = [0.0], [0.0]
    for one, truth in zip(trial.evidence, trial.truths, strict=True):
        for name, values in one.outputs.items():
            clean, deviation = truth.clean[name], truth.deviation[name]
            if clean.shape != values.shape:
                return _CERTAIN, float(np.abs(values).max())
            ratios.append(noise.ratio(values, clean, deviation).max())
            differences.append(np.abs(values - clean).max())
    worst = float(np.max(ratios))  # unlike Python's, it hands a NaN on
    return min(worst, _CERTAIN) if np.isfinite(worst) else worst, float(np.max(differences))


def _near(trial: Trial, every: Sequence[Candidate]) -> list[Candidate]:
    """Those mistakes that make no larger difference than there is."""
    window, before = trial.failing(trial.root)
    return [one for one in every if trial.score(trial.root.then(one), window).error < 4 * before.error]


def _partly(trial: Trial, every: Sequence[Candidate]) -> tuple[str, ...]:
    """What a mistake mends that explains a part of the difference."""
    window = next(w for w in trial.windows if w.steps is None)
    before = trial.score(trial.root, window)
    if before.share > _HARDLY or not every:
        return ()
    share, best = max(((trial.score(trial.root.then(one), window).share, one) for one in every), key=lambda one: one[0])
    if share < _PARTLY:
        return ()
    return (f"With {best.variation.name} {share:.0%} of the numbers agree; the rest is unexplained.",)
