"""Two whole models beside each other: what runs between their layers, of which no weight tells.

A model that says what runs after what is a chain (`xframe.chain`). Two models of the same layers compute the same only if the
other steps of their chains are the same, too: their activations, their masks, the epsilon of their normalisations. What is
no chain can still be run (`xframe.programs`), and what it puts out is held against the chain of the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from xframe.programs import Program, Ran
from xframe.spec import Recurrent, plural

__all__ = ["Off", "Slip", "Whole", "beside", "together"]

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
        off: how far the second model's output is from the first's; None if there was nothing to run.
        mended: the same with the first model's options in place of those that differ; None if there are none.
        inputs: on how many inputs both were run.
        notes: what else a reader should know, a sentence each.
    """

    status: str
    reason: str = ""
    slips: tuple[Slip, ...] = ()
    lacking: tuple[str, ...] = ()
    off: Off | None = None
    mended: Off | None = None
    inputs: int = 0
    notes: tuple[str, ...] = ()


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


def together(a: Chain, b: Chain, dtype: str, seed: int) -> Whole:
    """Compare two chains of which the layers and the other tensors have been compared already.

    Args:
        a, b: the chains.
        dtype: the narrower float type of the two: what is within its rounding noise is no difference.
        seed: of the inputs.

    Raises:
        FileError, LayoutError: numbers cannot be read.
    """
    a, b = _computing(a), _computing(b)
    shape = _shape(a.input_shape, b.input_shape)
    if shape is None:
        reads = (
            f"the first model reads samples of the shape {a.input_shape}, and the second of the shape {b.input_shape}"
        )
        return Whole("different", reads, off=Off(_CERTAIN, _CERTAIN))
    a, b = replace(a, input_shape=shape), replace(b, input_shape=shape)
    mine, theirs = ([step.kind for step in one.steps] for one in (a, b))
    blocks = SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks()
    partners = tuple((i + k, j + k) for i, j, size in blocks for k in range(size))
    both = _Both(a, b, partners, tuple(_inputs(a, b, dtype, seed)))
    slips = tuple(_slip(both, *one) for one in _differing(both))
    lacking = tuple(_lacking(both))
    off = both.off(b, dtype)
    mended = both.off(_mended(both), dtype) if slips else None
    if not both.finite:
        return Whole("inconclusive", "the reference of the first model is not finite", slips, lacking)
    return Whole(*_told(slips, lacking, off), slips, lacking, off, mended, len(both.inputs))


def _told(slips: Sequence[Slip], lacking: Sequence[str], off: Off) -> tuple[str, str]:
    """Status and reason."""
    counting = [slip for slip in slips if slip.off.differs]
    by = f"; their outputs differ by {off.max_abs:.2g}, {off.noise_ratio:.3g} times the rounding noise"
    if counting:
        return "different", f"{counting[0]}{by}"
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
    first, second = (KINDS["activation"].compute(step, {}, _grid(), Exact()) for step in (one, other))
    return np.allclose(first, second, rtol=1e-12, atol=1e-300)


def _grid() -> np.ndarray:
    """Numbers in rows, as an activation reads them: a softmax makes something else of each."""
    grid = np.concatenate([np.linspace(-40, 40, 801), [-1e3, 1e3]])
    return np.stack([grid, grid / 2 + 1, np.full_like(grid, 0.3)], axis=1)


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


# ---- A chain and a program.

# By how much the numbers of an input are larger or smaller: relu6 is relu until a number is above 6. Powers of two keep them exact.
_SCALES = (1.0, 8.0, 0.125, 64.0)
# A step's output is changed by this share, and a change of the model's output must show.
_TOUCH = 2.0**-10


@dataclass(frozen=True)
class _Tried:
    """An input, what the reference of a chain makes of it, and the noise of that."""

    x: np.ndarray
    clean: np.ndarray
    deviation: np.ndarray


def beside(chain: Chain, program: Program, dtype: str, seed: int, titles: tuple[str, str]) -> Whole:
    """Run a program on what shows the mistakes of a chain, and hold it against the chain's reference.

    Args:
        chain: what the outputs should be.
        program: what is run, as it is.
        dtype: the narrowest float type of the two.
        seed: of the inputs.
        titles: what the chain's side is called, and the program's.

    Raises:
        FileError, LayoutError: the chain's numbers cannot be read.
    """
    chain, (mine, theirs) = _computing(chain), titles
    shape = None if program.shape is None else _shape(chain.input_shape, program.shape[1:])
    if program.shape is not None and shape is None:
        why = f"{mine} reads samples of the shape {chain.input_shape}, and {theirs} of the shape {program.shape[1:]}"
        return Whole("different", why, off=Off(_CERTAIN, _CERTAIN))
    chain = chain if shape is None else replace(chain, input_shape=shape)
    batch = program.shape[0] if program.shape else None
    tried = [one for one in _drawn(chain, batch, dtype, seed) if np.isfinite(one.clean).all()]
    if not any(one.clean.any() for one in tried):
        return Whole("inconclusive", f"{mine} puts out nothing but zeros, or numbers that are not finite")
    ran = program.run([one.x for one in tried])
    judged = [(one, out) for one, out in zip(tried, ran, strict=True) if not out.failure]
    if not judged:
        return Whole("inconclusive", f"{theirs} could not be run: {ran[0].failure}")
    notes = [f"{theirs} was not judged on {_size(one)}: {out.failure}." for one, out in zip(tried, ran, strict=True) if out.failure]
    name, off = _nearest(judged)
    if not name:
        found = {key: value.shape for key, value in judged[0][1].outputs.items()}
        shapes = ", ".join(f"{key} {size}" for key, size in found.items()) or "nothing"
        why = f"{theirs} puts out {shapes} where {mine} puts out {judged[0][0].clean.shape}"
        return Whole("different", why, off=Off(_CERTAIN, _CERTAIN), inputs=len(judged))
    rest = [key for key in judged[0][1].outputs if key != name]
    if rest:
        notes.append(f"Of what {theirs} puts out, {name} was compared, and not {', '.join(rest)}.")
    figures = f"by {off.max_abs:.2g}, {off.noise_ratio:.3g} times the rounding noise"
    if off.differs:
        why = f"the outputs of {mine} and {theirs} differ {figures}{_otherwise(judged, program, name)}"
        return Whole("different", why, off=off, inputs=len(judged), notes=tuple(notes[:_MOST]))
    unseen = _unseen(chain, [one for one, _ in judged])
    if unseen:
        why = f"on the inputs that were tried, nothing shows {' and '.join(unseen[:_MOST])}"
        return Whole("inconclusive", why, off=off, inputs=len(judged), notes=tuple(notes[:_MOST]))
    return Whole("equivalent", off=off, inputs=len(judged), notes=tuple(notes[:_MOST]))


_MOST = 3


def _drawn(chain: Chain, batch: int | None, dtype: str, seed: int) -> Iterator[_Tried]:
    """Inputs of several sizes, and of larger and smaller numbers: some wake what others leave asleep."""
    for size in sizes(chain):
        x, clean, deviation = probed(chain, (batch or size[0], size[1]), dtype, seed)
        yield _Tried(x, clean, deviation)
        if x.dtype.kind != "f" or any(step.kind == "masking" and step.options["value"] for step in chain.steps):
            continue
        for scale in _SCALES[1:]:
            larger = (x * scale).astype(x.dtype)
            yield _Tried(larger, *reference.noise(chain, larger, dtype))


def _size(one: _Tried) -> str:
    return f"an input of the shape {one.x.shape}"


def _nearest(judged: Sequence[tuple[_Tried, Ran]]) -> tuple[str, Off]:
    """The output that is nearest to the chain's on all inputs, and how far it is off; no name if none has its shapes."""
    found = {name: _apart(judged, name) for name in judged[0][1].outputs}
    fits = {name: off for name, off in found.items() if off is not None}
    if not fits:
        return "", Off(_CERTAIN, _CERTAIN)
    return min(fits.items(), key=lambda item: item[1].noise_ratio)


def _apart(judged: Sequence[tuple[_Tried, Ran]], name: str) -> Off | None:
    """How far an output of a program is from the chain's; None if it is of another shape."""
    worst = Off()
    for one, out in judged:
        got = out.outputs.get(name)
        if got is None or got.shape != one.clean.shape:
            return None
        worst = _worse(worst, _between(one, got))
    return worst


@np.errstate(over="ignore", invalid="ignore")
def _between(one: _Tried, got: np.ndarray) -> Off:
    got = got.astype(np.float64)
    values = np.abs(got - one.clean).max(), noise.ratio(got, one.clean, one.deviation).max()
    return Off(*(min(float(np.nan_to_num(value, nan=_CERTAIN)), _CERTAIN) for value in values))


def _worse(one: Off, other: Off) -> Off:
    return Off(max(one.max_abs, other.max_abs), max(one.noise_ratio, other.noise_ratio))


def _otherwise(judged: Sequence[tuple[_Tried, Ran]], program: Program, name: str) -> str:
    """What a program that is wrong does right: it may take the first axis of its input for time."""
    swapped = [one for one, _ in judged if one.x.ndim > 1 and one.x.shape[0] != one.x.shape[1]]
    again = program.run([np.swapaxes(one.x, 0, 1) for one in swapped])
    turned = [
        (one, Ran({name: np.swapaxes(out.outputs[name], 0, 1) if out.outputs[name].shape != one.clean.shape else out.outputs[name]}))
        for one, out in zip(swapped, again, strict=True)
        if name in out.outputs and out.outputs[name].ndim > 1
    ]
    off = _apart(turned, name) if turned and len(turned) == len(swapped) else None
    if off is None or off.differs:
        return ""
    return "; they agree when it is given time before the batch (batch_first=False, time_major)"


def _unseen(chain: Chain, tried: Sequence[_Tried]) -> list[str]:
    """The steps whose mistakes none of the inputs would have shown."""
    found = []
    for i, step in enumerate(chain.steps):
        if step.kind == "activation":
            if _idle(chain, i):
                continue
            wrong, what = replace(step, options={"name": "linear"}), f"what {_written(step)} does in {step.name}"
            altered: Callable[[np.ndarray], np.ndarray] | None = None
        elif step.spec is not None or step.params():
            wrong, what, altered = step, f"what {step.name} computes", _touched
        else:
            continue
        other = _replaced(chain, i, wrong)
        if not any(_shows(other, i, altered, one) for one in tried):
            found.append(what)
    return found


def _idle(chain: Chain, i: int) -> bool:
    """Whether an activation changes nothing that the activation before it can put out: relu after sigmoid."""
    before = chain.steps[i - 1] if i else None
    if before is None or before.kind != "activation":
        return False
    first = KINDS["activation"].compute(before, {}, _grid(), Exact())
    return np.array_equal(first, KINDS["activation"].compute(chain.steps[i], {}, first.copy(), Exact()))


def _touched(y: np.ndarray) -> np.ndarray:
    """A step's output with each number changed by its own small share."""
    share = np.random.default_rng(y.shape[-1]).uniform(0.5, 1.0, y.shape)
    return y * (1 + _TOUCH * share) + _TOUCH * share * np.abs(y).max()


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _shows(chain: Chain, at: int, altered: Callable[[np.ndarray], np.ndarray] | None, one: _Tried) -> bool:
    """Whether the outputs of a chain that is wrong at a step differ from the right ones by more than rounding."""
    got = reference.altered(chain, one.x, at, altered or (lambda y: y))
    return got.shape != one.clean.shape or _between(one, got).differs
