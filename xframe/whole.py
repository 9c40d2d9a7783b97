"""Two whole models beside each other: what runs between their layers, of which no weight tells.

A model that says what runs after what is a chain (`xframe.chain`). Two models of the same layers compute the same only if the
other steps of their chains are the same, too: their activations, their masks, the epsilon of their normalisations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property

import numpy as np

from xframe import noise
from xframe.chain import KINDS, Chain, Step, reference
from xframe.chain.arithmetic import Exact
from xframe.chain.probing import held, probed, sizes
from xframe.errors import SpecError
from xframe.judging import LIMIT
from xframe.spec import Recurrent

__all__ = ["Off", "Slip", "Whole", "together"]

# Stands for outputs of another shape, or that are not finite; JSON has no infinity.
_CERTAIN = 1e30


@dataclass(frozen=True)
class Off:
    """How far outputs are off: the largest absolute difference, and the largest in units of rounding noise."""

    max_abs: float = 0.0
    noise_ratio: float = 0.0

    @property
    def differs(self) -> bool:
        """Whether that is more than rounding."""
        return not self.noise_ratio <= LIMIT


@dataclass(frozen=True)
class Slip:
    """An option that a step has differently in two models.

    Attributes:
        a, b: the names of the step in the first and in the second model.
        kind: of the step, see `xframe.chain.KINDS`.
        option: which one.
        first, second: its values, as they are written.
        off: how far the first model's output is off with the second's option, in float64, all else as it is.
    """

    a: str
    b: str
    kind: str
    option: str
    first: str
    second: str
    off: Off

    def __str__(self) -> str:
        return (
            f"{self.option} is {self.first} in {self.a} of the first model and {self.second} in {self.b} of the second"
        )


@dataclass(frozen=True)
class Whole:
    """What was found.

    Attributes:
        status: ``equivalent``, ``different`` or ``inconclusive``.
        reason: why not equivalent, as the end of a sentence, or empty.
        slips: the options that differ.
        lacking: steps that only one of the models has, a sentence each.
        off: how far the second model's output is from the first's; None if it was not run, because layers differ.
        mended: the same with the first model's options in place of those that differ; None if there are none.
    """

    status: str
    reason: str = ""
    slips: tuple[Slip, ...] = ()
    lacking: tuple[str, ...] = ()
    off: Off | None = None
    mended: Off | None = None


@dataclass(frozen=True)
class _Both:
    """Two chains, which of their steps are partners (their places), and what they are run on."""

    a: Chain
    b: Chain
    partners: tuple[tuple[int, int], ...]
    inputs: tuple[np.ndarray, ...]

    @cached_property
    def _measured(self) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]:
        return {}

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def off(self, other: Chain, dtype: str) -> Off:
        """How far the outputs of another chain are from those of the first."""
        differences, ratios = [0.0], [0.0]
        for i, x in enumerate(self.inputs):
            if (i, dtype) not in self._measured:
                self._measured[i, dtype] = reference.noise(self.a, x, dtype)
            clean, deviation = self._measured[i, dtype]
            try:
                got, _ = reference.run(other, x, dtype="float64")
            except SpecError:  # it cannot read this
                return Off(_CERTAIN, _CERTAIN)
            if got.shape != clean.shape:
                return Off(_CERTAIN, _CERTAIN)
            differences.append(np.abs(got - clean).max())
            ratios.append(noise.ratio(got, clean, deviation).max())
        return Off(
            *(min(float(np.nan_to_num(values, nan=_CERTAIN).max()), _CERTAIN) for values in (differences, ratios))
        )

    @property
    def finite(self) -> bool:
        """Whether the first chain's outputs are numbers."""
        return all(np.isfinite(clean).all() for clean, _ in self._measured.values())


def together(a: Chain, b: Chain, dtype: str, seed: int, alike: bool) -> Whole:
    """Compare two chains of which the layers and the other tensors have been compared already.

    Args:
        a, b: the chains.
        dtype: the narrower float type of the two: what is within its rounding noise is no difference.
        seed: of the inputs.
        alike: whether layers and tensors are the same; only then are the two chains held against each other.

    Raises:
        FileError, LayoutError: numbers cannot be read.
    """
    a, b = _computing(a), _computing(b)
    shape = _shape(a.input_shape, b.input_shape)
    if shape is None:
        reads = (
            f"the first model reads samples of the shape {a.input_shape}, and the second of the shape {b.input_shape}"
        )
        return Whole("different", reads, off=Off(_CERTAIN, _CERTAIN) if alike else None)
    a, b = replace(a, input_shape=shape), replace(b, input_shape=shape)
    mine, theirs = ([step.kind for step in one.steps] for one in (a, b))
    blocks = SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks()
    partners = tuple((i + k, j + k) for i, j, size in blocks for k in range(size))
    both = _Both(a, b, partners, tuple(_inputs(a, b, dtype, seed)))
    slips = tuple(_slip(both, *one) for one in _differing(both))
    lacking = tuple(_lacking(both))
    off = both.off(b, dtype) if alike else None
    mended = both.off(_mended(both), dtype) if alike and slips else None
    if not both.finite:
        return Whole("inconclusive", "the reference of the first model is not finite", slips, lacking)
    return Whole(*_told(slips, lacking, off), slips, lacking, off, mended)


def _told(slips: Sequence[Slip], lacking: Sequence[str], off: Off | None) -> tuple[str, str]:
    """Status and reason."""
    counting = [slip for slip in slips if slip.off.differs]
    by = f"; their outputs differ by {off.max_abs:.2g}, {off.noise_ratio:.3g} times the rounding noise" if off else ""
    if counting:
        return "different", f"{counting[0]}{by}"
    if off is None:
        return "inconclusive", "layers differ, so that the whole models were not run"
    if off.differs:
        return "different", f"{lacking[0] if lacking else 'the whole models put out something else'}{by}"
    if slips:
        return "inconclusive", f"{slips[0]}, which changes nothing on the inputs that were tried"
    return "equivalent", ""


# ---- What is compared.


def _computing(chain: Chain) -> Chain:
    """The steps that compute something at inference, their numbers in memory, each call from zero states."""
    steps = [step for step in chain.steps if step.kind != "dropout" and step.options.get("name") != "linear"]
    return held(replace(chain, steps=tuple(map(_stateless, steps))))


def _stateless(step: Step) -> Step:
    if not isinstance(step.spec, Recurrent):
        return step
    return replace(step, spec=replace(step.spec, stateful=False, batch_size=None))


def _shape(a: tuple[int | None, ...], b: tuple[int | None, ...]) -> tuple[int | None, ...] | None:
    """The shape of a sample that both read, if there is one."""
    if len(a) != len(b) or any(None not in (one, other) and one != other for one, other in zip(a, b, strict=True)):
        return None
    return tuple(other if one is None else one for one, other in zip(a, b, strict=True))


def _inputs(a: Chain, b: Chain, dtype: str, seed: int) -> Iterator[np.ndarray]:
    """Inputs that show what each of the two does with masks and words."""
    for size in sizes(a) if a.steps else ():
        x, *_ = probed(a, size, dtype, seed)
        yield x
        other = reference.probe(b, len(x), x.shape[1] if x.ndim > 1 else 1, seed)
        if not np.array_equal(x, other):
            yield other


def _lacking(both: _Both) -> Iterator[str]:
    for which, (one, other), chain in ((0, ("first", "second"), both.a), (1, ("second", "first"), both.b)):
        known = {partner[which] for partner in both.partners}
        for i, step in enumerate(chain.steps):
            if i not in known:
                yield f"the {one} model has the step {step.name} ({_what(step)}), for which the {other} has none"


def _what(step: Step) -> str:
    return _written(step) if step.kind == "activation" else step.kind.replace("_", " ")


def _written(activation: Step) -> str:
    """An activation with its parameters."""
    given = ", ".join(f"{name}={value}" for name, value in activation.options.items() if name != "name")
    return f"{activation.options['name']}({given})" if given else str(activation.options["name"])


def _differing(both: _Both) -> Iterator[tuple[int, int, str]]:
    """The places of two partners, and an option that they have differently."""
    for i, j in both.partners:
        one, other = both.a.steps[i], both.b.steps[j]
        if one.kind == "activation":
            if not _same_function(one, other):
                yield i, j, "activation"
            continue
        for option, value in one.options.items():
            if value != other.options[option]:
                yield i, j, option


def _same_function(one: Step, other: Step) -> bool:
    """Whether two activations are one function: one may be written with parameters that the other has by default."""
    grid = np.concatenate([np.linspace(-40, 40, 801), [-1e3, 1e3]])
    x = np.stack([grid, grid / 2 + 1, np.full_like(grid, 0.3)], axis=1)
    first, second = (KINDS["activation"].compute(step, {}, x.copy(), Exact()) for step in (one, other))
    return np.allclose(first, second, rtol=1e-12, atol=1e-300)


def _slip(both: _Both, i: int, j: int, option: str) -> Slip:
    one, other = both.a.steps[i], both.b.steps[j]
    first, second = (_written(s) if option == "activation" else repr(s.options[option]) for s in (one, other))
    off = both.off(_replaced(both.a, i, _taken(one, other, option)), "float64")
    return Slip(one.name, other.name, one.kind, option, first, second, off)


def _taken(step: Step, other: Step, option: str) -> Step:
    """A step with an option of another one of its kind."""
    options = other.options if option == "activation" else {**step.options, option: other.options[option]}
    return replace(step, options=options)


def _replaced(chain: Chain, at: int, step: Step) -> Chain:
    return replace(chain, steps=(*chain.steps[:at], step, *chain.steps[at + 1 :]))


def _mended(both: _Both) -> Chain:
    """The second chain with the first one's options."""
    chain = both.b
    for i, j, option in _differing(both):
        chain = _replaced(chain, j, _taken(chain.steps[j], both.a.steps[i], option))
    for i, j in both.partners:
        one, other = both.a.steps[i].spec, chain.steps[j].spec
        if isinstance(one, Recurrent) and isinstance(other, Recurrent):
            # Whether it reads a mask has come of the steps before it.
            spec = replace(other, mask=one.mask, masked_output=one.masked_output)
            chain = _replaced(chain, j, replace(chain.steps[j], spec=spec))
    return chain
