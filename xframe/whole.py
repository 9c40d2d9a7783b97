"""Two whole models beside each other: what runs between their layers, of which no weight tells.

A model that says what runs after what is a chain (`xframe.chain`). Two models of the same layers compute the same only if the
other steps of their chains are the same, too: their activations, their masks, the epsilon of their normalisations. What is
no chain can still be run (`xframe.programs`), and what it puts out is held against the chain of the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import cached_property, partial

import numpy as np

from xframe import noise
from xframe.asleep import share
from xframe.chain import KINDS, Chain, Step, reference
from xframe.chain.arithmetic import Exact
from xframe.chain.kinds import masked, promised
from xframe.chain.probing import LIGHT, held, numbers, probed, sizes
from xframe.errors import SpecError
from xframe.forwards import slipped
from xframe.judging import LIMIT
from xframe.programs import Program, Ran
from xframe.spec import Recurrent, plural

__all__ = ["Made", "Off", "Slip", "Whole", "beside", "together"]

# Stands for outputs of another shape, or that are not finite; JSON has no infinity.
_CERTAIN = 1e30
# By how much the numbers of an input are larger or smaller: relu6 is relu until a number is above 6. Powers of two keep them
# exact.
_SCALES = (1.0, 8.0, 0.125, 64.0)


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
class Made:
    """A mistake in what runs between the layers that explains the whole difference, see `xframe.forwards`.

    Attributes:
        option: which kind, as of `xframe.mistakes.steps.of_option`.
        name: what is wrong; mend: what to do.
        off: how far the outputs are off with it.
    """

    option: str
    name: str
    mend: str
    off: Off


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
        made: the mistake by which the one that is understood puts out what the other does; None where none was found.
    """

    status: str
    reason: str = ""
    slips: tuple[Slip, ...] = ()
    lacking: tuple[str, ...] = ()
    off: Off | None = None
    mended: Off | None = None
    inputs: int = 0
    notes: tuple[str, ...] = ()
    made: Made | None = None


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
    keeping = _kept_by_one(a, b)
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
    found = _compared(both, dtype)
    if found.status == "equivalent" and keeping:
        return replace(found, status="different", reason=f"{keeping}; they part at the second call")
    if found.status == "inconclusive" and found.slips and (louder := tuple(_louder(both))):
        again = _compared(replace(both, inputs=louder), dtype)
        return again if again.status == "different" else found
    return found


def _compared(both: _Both, dtype: str) -> Whole:
    slips = tuple(_slip(both, *one) for one in _differing(both))
    lacking = tuple(_lacking(both))
    off = both.off(both.b, dtype)
    mended = both.off(_mended(both), dtype) if slips else None
    if not both.finite:
        return Whole("inconclusive", "the reference of the first model is not finite", slips, lacking)
    return Whole(*_told(slips, lacking, off), slips, lacking, off, mended, len(both.inputs))


def _louder(both: _Both) -> Iterator[np.ndarray]:
    """The inputs with larger and smaller numbers, for options that act on these only: a bound of a relu."""
    masking = any(step.kind == "masking" for chain in (both.a, both.b) for step in chain.steps)
    for x in both.inputs if not masking else ():
        for scale in _SCALES[1:] if x.dtype.kind == "f" else ():
            larger = (x * scale).astype(x.dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                if all(
                    np.isfinite(reference.run(chain, larger, dtype="float64")[0]).all() for chain in (both.a, both.b)
                ):
                    yield larger


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


def _stateful(step: Step) -> bool:
    return isinstance(step.spec, Recurrent) and step.spec.stateful


def _kept_by_one(a: Chain, b: Chain) -> str:
    """Which recurrent layer keeps its states where its partner in the other model does not, as the start of a sentence."""
    mine, theirs = ([step for step in chain.steps if isinstance(step.spec, Recurrent)] for chain in (a, b))
    for one, other in zip(mine, theirs, strict=False):
        if _stateful(one) != _stateful(other):
            name, which = (one.name, "first") if _stateful(one) else (other.name, "second")
            return (
                f"{name} of the {which} model keeps its states from call to call (stateful), and its partner does not"
            )
    return ""


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

# So many notes of one kind.
_MOST = 3
# What a forward may do with inputs that are longer, of more rows, or far smaller or larger than those that show the mistakes of a
# chain: cut them off, clip them.
_LONG = (5, 150)
_FAR = (2.0**-10, 2.0**10)


@dataclass(frozen=True)
class _Tried:
    """An input, what the reference of a chain makes of it, and the noise of that; and what a program made of it."""

    x: np.ndarray
    clean: np.ndarray
    deviation: np.ndarray
    ran: Ran = field(default_factory=Ran)

    @np.errstate(over="ignore", invalid="ignore")
    def off(self, got: np.ndarray) -> Off:
        """How far something else that was put out is from the reference."""
        if got.shape != self.clean.shape:
            return Off(_CERTAIN, _CERTAIN)
        got = got.astype(np.float64)
        values = np.abs(got - self.clean).max(), noise.ratio(got, self.clean, self.deviation).max()
        return Off(*(min(float(np.nan_to_num(value, nan=_CERTAIN)), _CERTAIN) for value in values))


@dataclass(frozen=True)
class _Beside:
    """A chain, a program, and how the inputs of both are drawn."""

    chain: Chain
    program: Program
    dtype: str
    seed: int

    def tried(self, chain: Chain) -> list[_Tried]:
        """Inputs that show the mistakes of a chain, what its reference makes of them, and what the program does."""
        drawn = [one for one in self._drawn(chain) if _stays_finite(chain, one, self.dtype)]
        ran = self.program.run([one.x for one in drawn])
        return [replace(one, ran=out) for one, out in zip(drawn, ran, strict=True)]

    def _drawn(self, chain: Chain) -> Iterator[_Tried]:
        """Inputs of several sizes, and of larger and smaller numbers: some wake what others leave asleep."""
        batch = self.program.shape[0] if self.program.shape else None
        usual = [*sizes(chain), *([_LONG] if numbers(chain) <= LIGHT else [])]
        known = dict.fromkeys((batch or rows, _steps(chain, steps)) for rows, steps in usual)
        masking = any(step.kind == "masking" for step in chain.steps)
        for number, size in enumerate(known):
            x, clean, deviation = probed(chain, size, self.dtype, self.seed)
            yield _Tried(x, clean, deviation)
            # The long one takes long, and the first one is the one that all else is tried with.
            scales = (*_SCALES[1:], *(_FAR if not number else ())) if size[1] != _LONG[1] else ()
            for scale in scales if x.dtype.kind == "f" and not masking else ():
                yield self._measured(chain, (x * scale).astype(x.dtype))
            if not number and size[1] is not None and not any(masked(chain)):
                yield self._measured(chain, _padded(x))

    def _measured(self, chain: Chain, x: np.ndarray) -> _Tried:
        return _Tried(x, *reference.noise(chain, x, self.dtype))

    def in_turn(self, tried: Sequence[_Tried], name: str) -> str:
        """What a program that is right at its first call puts out at further ones, if that is something else: a sentence."""
        if self.program.in_turn is None:
            return ""
        first = tried[0]
        others = [one for one in tried if len(one.x) != len(first.x)][:1]
        row = [first, first, *others, first]
        ran = self.program.in_turn([one.x for one in row])
        for number, (one, out) in enumerate(zip(row, ran, strict=False), 1):
            if out.failure:
                return f"its first call is right, and call {number} in turn fails ({out.failure})"
            got = out.outputs.get(name)
            if got is None or (off := one.off(got)).differs:
                by = "of another shape" if got is None else f"off by {off.max_abs:.2g}"
                return f"its first call is right, and call {number} in turn is {by}"
        return ""

    def otherwise(self, name: str) -> str:
        """Where a program that is wrong is right: with time before the batch, or with padding at the end only."""
        for chain, swapped, words in (
            (self.chain, True, "when it is given time before the batch (batch_first=False, time_major)"),
            (_right_padded(self.chain), False, "where masked time steps are padding after the end (--right-padded)"),
        ):
            tried = [] if chain is None else [one for one in self._drawn(chain) if one.x.ndim > 1 or not swapped]
            again = self.program.run([np.swapaxes(one.x, 0, 1) if swapped else one.x for one in tried])
            if tried and all(_off(one, ran.outputs.get(name), swapped) for one, ran in zip(tried, again, strict=True)):
                return f"; they agree {words}"
        return ""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _stays_finite(chain: Chain, one: _Tried, dtype: str) -> bool:
    """Whether a chain puts out numbers on an input, in the float type of the program too."""
    if not np.isfinite(one.clean).all():
        return False
    y, _ = reference.run(chain, one.x, dtype="float32" if dtype == "bfloat16" else dtype)  # NumPy has no bfloat16
    return bool(np.isfinite(y).all())


def _steps(chain: Chain, steps: int | None) -> int | None:
    """A length that a chain allows: where it fixes its own, or has no time, that of its probes."""
    own = next(sizes(chain))[1]
    return own if own is None or chain.input_shape[0] is not None else steps


def _padded(x: np.ndarray) -> np.ndarray:
    """An input whose last time steps are zeros, in each row more of them, as in batches that were padded."""
    ends = [max(1, x.shape[1] - 1 - row) for row in range(len(x))]
    kept = np.arange(x.shape[1]) < np.array(ends)[:, None]
    return x * kept.reshape(*kept.shape, *[1] * (x.ndim - 2)).astype(x.dtype)


def _off(one: _Tried, got: np.ndarray | None, swapped: bool) -> bool:
    """Whether what was put out is what it should be, its first two axes exchanged if need be."""
    if got is None:
        return False
    return not one.off(got).differs or (swapped and got.ndim > 1 and not one.off(np.swapaxes(got, 0, 1)).differs)


def _right_padded(chain: Chain) -> Chain | None:
    """The chain for masks that are padding after the end; None where no mask reaches a layer, or it has no others."""
    try:
        return promised(chain)
    except SpecError:
        return None


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
    keeping = [step.name for step in chain.steps if _stateful(step)]
    chain, (mine, theirs) = _computing(chain), titles
    if program.shape is not None:
        shape = _shape(chain.input_shape, program.shape[1:])
        if shape is None:
            why = (
                f"{mine} reads samples of the shape {chain.input_shape}, and {theirs} of the shape {program.shape[1:]}"
            )
            return Whole("different", why, off=Off(_CERTAIN, _CERTAIN))
        chain = replace(chain, input_shape=shape)
    both = _Beside(chain, program, dtype, seed)
    every = both.tried(chain)
    if not any(one.clean.any() for one in every):
        return Whole("inconclusive", f"{mine} puts out nothing but zeros, or numbers that are not finite")
    tried, failed = ([one for one in every if bool(one.ran.failure) is bad] for bad in (False, True))
    if not tried:
        return Whole("inconclusive", f"{theirs} could not be run: {failed[0].ran.failure}")
    notes = [f"{theirs} was not judged on an input of the shape {one.x.shape}: {one.ran.failure}." for one in failed]
    notes = list(dict.fromkeys(notes))[:_MOST]
    name, off = _nearest(tried)
    if not name:
        one = next(
            (one for one in tried if all(v.shape != one.clean.shape for v in one.ran.outputs.values())), tried[0]
        )
        found = ", ".join(f"{key} {value.shape}" for key, value in one.ran.outputs.items()) or "nothing"
        why = (
            f"{theirs} puts out {found} where {mine} puts out {one.clean.shape}, of an input of the shape {one.x.shape}"
        )
        why += next(filter(None, map(both.otherwise, tried[0].ran.outputs)), "")
        return Whole("different", why, off=Off(_CERTAIN, _CERTAIN), inputs=len(tried), notes=tuple(notes))
    if rest := [key for key in tried[0].ran.outputs if key != name]:
        notes.append(f"Of what {theirs} puts out, {name} was compared, and not {', '.join(rest)}.")
    if off.differs:
        made = next(_made(chain, tried, name), None)
        why = f"the outputs of {mine} and {theirs} differ by {off.max_abs:.2g}, {off.noise_ratio:.3g} times the rounding noise"
        why += both.otherwise(name) if made is None else f"; they agree with {made.name}"
        return Whole("different", why, off=off, inputs=len(tried), notes=tuple(notes), made=made)
    if keeping:
        why = (
            f"{keeping[0]} of {mine} keeps its states from call to call (stateful), and only first calls, from zero states, "
            "were judged"
        )
        return Whole("inconclusive", why, off=off, inputs=len(tried), notes=tuple(notes))
    if told := both.in_turn(tried, name):
        why = f"{theirs} hands something on from one call to the next: {told}"
        return Whole("different", why, off=off, inputs=len(tried), notes=tuple(notes))
    if unseen := _unseen(chain, tried, dtype):
        above = f" above the rounding noise of {dtype}" if share(dtype) == 1 else ""
        why = f"on the inputs that were tried, nothing shows {' and '.join(unseen[:_MOST])}{above}"
        return Whole("inconclusive", why, off=off, inputs=len(tried), notes=tuple(notes))
    return Whole(
        "equivalent", off=off, inputs=len(tried), notes=(*notes, f"{theirs} was run on {_reach(chain, tried)}.")
    )


def _nearest(tried: Sequence[_Tried]) -> tuple[str, Off]:
    """The output that is nearest to the chain's on all inputs, and how far it is off; no name if none has its shapes."""
    found = {}
    for name in tried[0].ran.outputs:
        got = [one.ran.outputs.get(name) for one in tried]
        if all(value is not None and value.shape == one.clean.shape for one, value in zip(tried, got, strict=True)):
            found[name] = _worst(one.off(value) for one, value in zip(tried, got, strict=True) if value is not None)
    return min(found.items(), key=lambda item: item[1].noise_ratio) if found else ("", Off())


def _worst(offs: Iterable[Off]) -> Off:
    every = list(offs)
    return Off(max(off.max_abs for off in every), max(off.noise_ratio for off in every))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _made(chain: Chain, tried: Sequence[_Tried], name: str) -> Iterator[Made]:
    """The mistakes in what runs between the layers by which the chain puts out what the program does."""
    for wrong in slipped(chain):
        offs = []
        for one in tried:
            clean, _ = reference.run(wrong.chain, one.x, dtype="float64")
            if clean.shape != one.clean.shape:
                break
            offs.append(replace(one, clean=clean).off(one.ran.outputs[name]))
            if offs[-1].differs:
                break
        else:
            yield Made(wrong.option, wrong.name, wrong.mend, _worst(offs))


def _reach(chain: Chain, tried: Sequence[_Tried]) -> str:
    """How far the inputs went: beyond that a program may do something else."""
    found = [_span([len(one.x) for one in tried], "row")]
    if next(sizes(chain))[1] is not None:
        found.append(_span([one.x.shape[1] for one in tried], "time step"))
    if tried[0].x.dtype.kind == "f":
        largest = [float(np.abs(one.x).max()) for one in tried]
        found.append(f"largest numbers from {min(largest):.1g} to {max(largest):.1g}")
    return f"inputs of {', '.join(found)}"


def _span(sizes: Sequence[int], what: str) -> str:
    """From the least to the most."""
    return f"{min(sizes)} to {plural(max(sizes), what)}" if min(sizes) < max(sizes) else plural(sizes[0], what)


def _unseen(chain: Chain, tried: Sequence[_Tried], dtype: str) -> list[str]:
    """The steps whose mistakes none of the inputs would have shown."""
    found = []
    for i, step in enumerate(chain.steps):
        change: Callable[[np.ndarray], np.ndarray] = partial(_touched, by=share(dtype))
        wrong, what = chain, f"what {step.name} computes"
        if step.kind == "activation":
            wrong, change = _replaced(chain, i, replace(step, options={"name": "linear"})), np.asarray
            what = f"what {_written(step)} does in {step.name}"
        needed = not _idle(chain, i) if step.kind == "activation" else step.spec is not None or bool(step.params())
        if needed and not any(_shows(wrong, i, change, one) for one in tried):
            found.append(what)
    return found


def _idle(chain: Chain, i: int) -> bool:
    """Whether an activation changes nothing that the activation before it can put out: relu after sigmoid."""
    before = chain.steps[i - 1] if i else None
    if before is None or before.kind != "activation":
        return False
    first = KINDS["activation"].compute(before, {}, _grid(), Exact())
    return np.array_equal(first, KINDS["activation"].compute(chain.steps[i], {}, first.copy(), Exact()))


def _touched(y: np.ndarray, by: float) -> np.ndarray:
    """A step's output with each number changed by its own share."""
    own = by * np.random.default_rng(y.shape[-1]).uniform(0.5, 1.0, y.shape)
    return y * (1 + own) + own * np.abs(y).max()


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _shows(chain: Chain, at: int, change: Callable[[np.ndarray], np.ndarray], one: _Tried) -> bool:
    """Whether the output of a chain differs by more than rounding from the right one, if what a step puts out is changed."""
    return one.off(reference.altered(chain, one.x, at, change)).differs
