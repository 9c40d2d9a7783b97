"""Two model files, or a file and a model: their layers paired, and each pair compared.

Layers are paired by name, order and shape. A layer of several layers (``num_layers``) is taken apart, because one framework
stores as one what another stores as many. A pair is equivalent if the effective parameters are equal up to the rounding that
a right transfer makes, and if both, run by the NumPy reference in float64, put out the same within the rounding noise of the
narrower file. No framework is needed for files but PyTorch's own format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xframe import noise, reference
from xframe.activations import ACTIVATIONS
from xframe.adapters import adapter_of
from xframe.chain import Chain, chain_of, chain_of_model
from xframe.comparison import fitting, manners
from xframe.drawing import inputs
from xframe.errors import SpecError, UnsupportedError, XframeError
from xframe.files import load
from xframe.judging import LIMIT, Subject, difference, judge
from xframe.layout import keys
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input
from xframe.proof import check_understood
from xframe.recognition import Choices, recognise
from xframe.spec import Dense, Layer, Recurrent, described
from xframe.whole import Whole, together

if TYPE_CHECKING:
    from xframe.adapters.base import Adapter
    from xframe.diagnosis import Diagnosis

__all__ = [
    "Pair",
    "Verification",
    "agreed",
    "astray",
    "compared",
    "paired",
    "sides",
    "unknown",
    "verify",
    "whole_models",
]

# The order of axes by the format of a file; others may come from anywhere.
_KINDS = {
    **dict.fromkeys(("keras-hdf5", "keras-weights", "keras", "tensorflow"), "keras"),
    **dict.fromkeys(("torch", "onnx"), "torch"),
}
_EXCHANGED = (
    "hold the same numbers in another order than those of their shape before them, and their names do not tell which belongs to "
    "which: the same in a file that keeps no order, or swapped"
)
# Of how many layers that differ reports say why: in most models it is the same mistake in all.
_TOLD = 3
_RANK = {"equivalent": 0, "inconclusive": 1, "different": 2}
# Options in which two layers may differ and still be the same at inference, or that only the caller decides.
_FREE = ("mask", "masked_output", "stateful", "batch_size", "input_dropout", "recurrent_dropout", "dropout", "form")


@dataclass(frozen=True)
class Pair:
    """A layer of each side.

    Attributes:
        a, b: their names.
        spec: what they are.
        status: ``equivalent``, ``different`` or ``inconclusive``.
        reason: why not equivalent, or empty.
        max_abs: the largest difference between effective parameters; where: its block.
        noise_ratio: the largest difference between outputs, in units of rounding noise.
        notes: what was assumed.
        search: finds the diagnosis, where the two differ.
    """

    a: str
    b: str
    spec: Layer | None
    status: str
    reason: str = ""
    max_abs: float = 0.0
    where: str = ""
    noise_ratio: float = 0.0
    notes: tuple[str, ...] = ()
    search: Callable[[], Diagnosis] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def diagnosis(self) -> Diagnosis | None:
        """Why the two differ, and where that begins: searched when it is first asked for. None where they do not."""
        return self.search() if self.search else None


@dataclass(frozen=True)
class Verification:
    """What was found; true only when equivalent.

    Attributes:
        a, b: the two sides.
        status: ``equivalent``, ``different`` or ``inconclusive``.
        reason: one sentence.
        pairs: the layers.
        others: pairs of (name in a, name in b) of tensors that are of no recurrent or dense layer and hold the same numbers.
        only_a, only_b: layers and tensors without a partner.
        notes: what else a reader should know.
        whole: what runs between the layers, where both sides are models that say so.
    """

    a: str
    b: str
    status: str
    reason: str
    pairs: tuple[Pair, ...]
    others: tuple[tuple[str, str], ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    notes: tuple[str, ...] = ()
    whole: Whole | None = None

    @property
    def first_wrong(self) -> tuple[Pair, ...]:
        """The first pairs that differ: those of which reports say why."""
        return tuple(pair for pair in self.pairs if pair.search)[:_TOLD]

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Why the first pair that differs does, and where that begins; else why the whole models do. None where nothing does."""
        if self.first_wrong:
            return self.first_wrong[0].diagnosis
        return self.between

    @property
    def between(self) -> Diagnosis | None:
        """Why what runs between the layers differs. None where it does not, or is not known."""
        from xframe.diagnosis.between import between  # which is needed where something differs

        return None if self.whole is None else between(self.whole, self.a, self.b)

    def __bool__(self) -> bool:
        return self.status == "equivalent"

    def report(self, format: str = "text") -> str:
        """The verification as ``text``, ``markdown``, ``html``, ``json`` or ``junit``."""
        from xframe.report import render

        return render(self, format)


def verify(a: Any, b: Any, *, subset: bool = False, choices: Choices | None = None, seed: int = 0) -> Verification:
    """Pair the layers of two models and compare them.

    Args:
        a, b: paths of model files (see `xframe.files.load`), or native models or layers.
        subset: b may hold more layers and tensors than a.
        choices: what the files do not say of their layers.
        seed: of the inputs.

    Raises:
        FileError, MissingFrameworkError: see `xframe.files.load`.
        SpecError: a choice makes no sense, or a side has no layer to compare.
        UnsupportedError: a side is neither a path nor a model of a known framework.
    """
    first, second = sides(a, b, choices)
    for side in (first, second):
        if not side.units:
            raise SpecError(f"{side.name} has no recurrent or dense layer that could be compared{side.why}.")
    couples, alone_a, alone_b, exchanged = paired(first.units, second.units)
    pairs = tuple(_told(compared(one, other, seed)[0], one, other, first.units, seed) for one, other in couples)
    pairs = tuple(
        replace(pair, status="inconclusive", reason=_EXCHANGED)
        if i in exchanged and pair.status == "equivalent"
        else pair
        for i, pair in enumerate(pairs)
    )
    others = _same_numbers(first, second)
    only_a = (*(unit.name for unit in alone_a), *others.only_a)
    only_b = (*(unit.name for unit in alone_b), *others.only_b)
    notes = [*first.notes, *second.notes, *_manners(a, b, first.alone and second.alone)]
    if others.constants:
        notes.append(f"Not compared, because they are single numbers: {', '.join(others.constants)}.")
    alike = all(pair.status != "different" for pair in pairs) and not (only_a or only_b)
    whole = None if subset else whole_models(first, second, alike, seed)
    if isinstance(whole, str):
        notes.append(unknown(whole))
        whole = None
    status, reason = _concluded(pairs, others, only_a, () if subset else only_b, whole)
    return Verification(
        first.name, second.name, status, reason, pairs, others.pairs, only_a, only_b, tuple(notes), whole
    )


def _manners(a: Any, b: Any, alone: bool) -> Iterator[str]:
    """What two live layers read and hand back otherwise."""
    if alone and not any(isinstance(one, str | Path) for one in (a, b)):
        yield from manners([Subject(adapter_of(one), one, side) for one, side in ((a, "a"), (b, "b"))], None)


def _told(pair: Pair, one: _Unit, other: _Unit, units: Sequence[_Unit], seed: int) -> Pair:
    """The pair with what finds out why, where it differs."""

    def search() -> Diagnosis:
        from xframe.diagnosis.sides import of_units  # which compares units itself

        return of_units(one, other, [unit for unit in units if unit is not one], seed)

    return replace(pair, search=search) if pair.status == "different" else pair


def whole_models(first: _Side, second: _Side, alike: bool, seed: int) -> Whole | str | None:
    """What runs between the layers of two models; or why that is not known; or None for layers alone."""
    alone = [side.name for side in (first, second) if side.alone]
    if alone:
        return f"{alone[0]} is one layer and no model." if len(alone) == 1 else None
    dtype = _narrowest(
        reading.dtype for side in (first, second) for unit in side.units for reading in unit.readings[:1]
    )
    try:
        return together(first.chain(), second.chain(), dtype, seed, alike)
    except XframeError as error:
        return str(error)


def unknown(why: str) -> str:
    """The note that says that nothing is known of what runs between the layers."""
    return f"What runs between the layers is not compared: {why}"


def _concluded(
    pairs: Sequence[Pair], others: _Others, only_a: Sequence[str], only_b: Sequence[str], whole: Whole | None
) -> tuple[str, str]:
    wrong = [pair for pair in pairs if pair.status == "different"]
    if wrong:
        return (
            "different",
            f"{len(wrong)} of {len(pairs)} pairs of layers differ: {wrong[0].a} and {wrong[0].b}, {wrong[0].reason}.",
        )
    if alone := [*only_a, *only_b]:
        side = "the first" if only_a else "the second"
        return "different", f"{alone[0]} of {side} model has no partner in the other" + (
            f", nor have {len(alone) - 1} more." if len(alone) > 1 else "."
        )
    if whole and whole.status == "different":
        return "different", f"The layers are the same, but {whole.reason}."
    if open_ := [pair for pair in pairs if pair.status == "inconclusive"]:
        return "inconclusive", f"{open_[0].a} and {open_[0].b}: {open_[0].reason}."
    if whole and whole.status == "inconclusive":
        return "inconclusive", f"The layers are the same; {whole.reason}."
    if others.exchanged:
        return "inconclusive", f"{' and '.join(others.exchanged)} {_EXCHANGED}."
    also = f", and {len(others.pairs)} other tensors hold the same numbers" if others.pairs else ""
    run = ", the whole models put out the same" if whole else ""
    layers = f"All {len(pairs)} pairs of layers have" if len(pairs) > 1 else "The one pair of layers has"
    return "equivalent", f"{layers} the same parameters and outputs{run}{also}."


# ---- The sides.


@dataclass(frozen=True)
class _Reading:
    """One way to understand a unit."""

    spec: Layer
    params: _Lazy = field(repr=False)
    open: tuple[str, ...] = ()
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[Any, ...]:
        """What two partners have in common."""
        spec = self.spec
        parts = [(k, d, spec.part(d, k)) for k, d in spec.places]
        return (spec.input_size, tuple((k, d, part.cell, part.hidden_size, part.state_size) for k, d, part in parts))


@dataclass(frozen=True)
class _Unit:
    """One layer of one side, that is not made of several.

    ``live`` runs it, where it is a native layer, and says how that is not what its parameters say (`_amiss`).
    """

    name: str
    readings: tuple[_Reading, ...]
    live: Callable[[int], tuple[str, str] | None] | None = field(default=None, repr=False, compare=False)

    @property
    def shapes(self) -> set[tuple[Any, ...]]:
        return {reading.shape for reading in self.readings}


@dataclass(frozen=True)
class _Side:
    """One of the two models: its units, and by name what gives the numbers of its other tensors.

    ``kind`` is ``keras`` or ``torch``, whose order of axes it has, or empty where that is not known; ``chain`` gives all that it
    runs, or an error that says why that is not known; ``alone`` says that it is one layer and no model.
    """

    name: str
    units: list[_Unit]
    others: dict[str, Any]
    notes: list[str]
    chain: Callable[[], Chain]
    alone: bool
    kind: str = ""
    why: str = ""


def sides(a: Any, b: Any, choices: Choices | None) -> list[_Side]:
    """Both sides. A choice that makes no sense for one of two files may be meant for the other."""
    files = sum(isinstance(given, str | Path) for given in (a, b))
    found: list[_Side] = []
    wrong: list[SpecError] = []
    for given in (a, b):
        try:
            found.append(_side(given, choices))
        except SpecError as error:
            wrong.append(error)
            found.append(_side(given, None))
    if wrong and len(wrong) == files:
        raise wrong[0]
    return found


def _side(given: Any, choices: Choices | None) -> _Side:
    return _file_side(given, choices) if isinstance(given, str | Path) else _model_side(given)


def _file_side(path: str | Path, choices: Choices | None) -> _Side:
    file = load(path)
    found = recognise(file, choices)
    units: list[_Unit] = []
    refused = [f"{layer.name}: {layer.refused}" for layer in found.layers if layer.refused]
    for layer in found.layers:
        split = []
        for reading in layer.readings:
            dtype = _narrowest(file.tensors[name].dtype for name in reading.tensors.values())
            params = _Lazy(partial(reading.parameters, file))
            split.append(list(_apart(reading.spec, params, reading.open, dtype)))
        units += _units(layer.name, split)
    others = {
        name: file.tensors[name].read
        for name in [*(t for other in found.others for t in other.tensors.values()), *found.unconsumed]
        if file.tensors[name].dtype in ("float16", "bfloat16", "float32", "float64")
    }
    others |= {name: file.tensors[name].read for layer in found.layers if layer.refused for name in layer.tensors}
    kind = _KINDS.get(file.format, "")
    alone = len(found.layers) == 1 and not others and file.config is None
    notes = [*found.warnings, *refused]
    why = f" ({refused[0]})" if refused else ""
    return _Side(str(path), units, others, notes, partial(chain_of, found), alone, kind, why)


def _model_side(model: Any) -> _Side:
    adapter = adapter_of(model)
    units: list[_Unit] = []
    others: dict[str, Any] = {}
    notes: list[str] = []
    for name, layer in adapter.layers(model):
        try:
            spec = adapter.bare(layer)
        except UnsupportedError:
            others |= {f"{name}/{own}": array for own, array in adapter.tensors(layer).items()}
            continue
        called = name or type(layer).__name__
        params = _Lazy(partial(adapter.parameters, layer))
        split = [list(_apart(spec, params, (), adapter.dtype(layer)))]
        activation = _activation(adapter, layer, spec)
        if activation != "linear":
            notes.append(f"The activation of {called} ({activation}) is taken as a step that runs behind the layer.")
        # What a function of its own computes nobody else knows.
        known = activation in ACTIVATIONS
        units += _units(called, split, cache(partial(_amiss, Subject(adapter, layer, called))) if known else None)
    alone = [name for name, _ in adapter.layers(model)] == [""]
    return _Side(
        f"{adapter.title} {type(model).__name__}",
        units,
        others,
        notes,
        partial(_understood, model),
        alone,
        adapter.name,
    )


def _activation(adapter: Adapter, layer: Any, spec: Layer) -> str:
    """The activation of a dense layer, which elsewhere is a step by itself; ``linear`` of others, which have theirs inside."""
    if not isinstance(spec, Dense):
        return "linear"
    try:
        return adapter.spec(layer).activation  # type: ignore[return-value]
    except UnsupportedError:
        return "a function of its own"


def _amiss(subject: Subject, seed: int) -> tuple[str, str] | None:
    """How a native layer, run as it is, is not what its parameters say: a status, and the end of a sentence. None if it is.

    Its user may have changed what it does, and what its parameters are does not tell.
    """
    adapter, layer = subject.adapter, subject.native
    try:
        spec, dtype = adapter.spec(layer), adapter.dtype(layer)
        if why := adapter.lacks(spec, dtype):
            return "inconclusive", f"could not be run: {why.rstrip('.')}"
        probe = fitting([spec], Probe(seed=seed, dtype=dtype))
        for given in inputs(spec, "layer", adapter.parameters(layer), draw_input(spec, probe), probe):
            for check in judge(subject, given, given.noise_of(adapter, dtype), dtype, {}):
                if check.status == "different":
                    return (
                        check.status,
                        f"puts out something else than its parameters say ({check.output}: {check.reason})",
                    )
    except UnsupportedError as error:
        return "inconclusive", f"could not be run: {str(error).rstrip('.')}"
    return None


def _understood(model: Any) -> Chain:
    chain = chain_of_model(model)
    check_understood(model, chain)
    return chain


def _units(
    name: str,
    split: Sequence[Sequence[_Reading]],
    live: Callable[[int], tuple[str, str] | None] | None = None,
) -> Iterator[_Unit]:
    """The units of one layer, from its readings taken apart; readings of another number of units than the first are left out."""
    split = [one for one in split if len(one) == len(split[0])]
    for k, readings in enumerate(zip(*split, strict=True)):
        yield _Unit(name if len(split[0]) == 1 else f"{name}, layer {k}", readings, live)


def _apart(spec: Layer, params: _Lazy, open_: tuple[str, ...], dtype: str) -> Iterator[_Reading]:
    """A layer of several layers as one reading each."""
    if spec.num_layers == 1 or not isinstance(spec, Recurrent):
        yield _Reading(spec, params, open_, dtype)
        return
    for k in range(spec.num_layers):
        one = replace(spec, num_layers=1, input_size=spec.layer_input_size(k), dropout=0.0)
        yield _Reading(one, _Lazy(partial(_layer_of, params, k, one)), open_, dtype)


def _layer_of(params: _Lazy, k: int, spec: Recurrent) -> Parameters:
    whole = params()
    return Parameters(spec, {key: whole[key._replace(layer=k)] for key in keys(spec)})


class _Lazy:
    """Parameters that are read when they are first asked for, and can be forgotten."""

    def __init__(self, function: Callable[[], Parameters]) -> None:
        self._function = function
        self._value: Parameters | None = None

    def __call__(self) -> Parameters:
        if self._value is None:
            self._value = self._function()
        return self._value

    def forget(self) -> None:
        self._value = None


def _narrowest(dtypes: Iterable[str]) -> str:
    return max(dtypes, key=lambda dtype: noise.ROUNDOFF.get(dtype, 0.0))


# ---- Who belongs to whom.


def paired(
    a: Sequence[_Unit], b: Sequence[_Unit]
) -> tuple[list[tuple[_Unit, _Unit]], list[_Unit], list[_Unit], set[int]]:
    """Partners of one shape: those of one name, then in order; those that are left; and which couples were exchanged.

    Layers whose names do not tell, and of which each holds the numbers of another one than its order says, may be the same
    layers in a file that keeps no order, or layers that were swapped.
    """
    rest = list(b)
    exchanged: set[int] = set()
    partner: dict[int, _Unit] = {}
    for i, one in enumerate(a):
        match = next(
            (other for other in rest if one.shapes & other.shapes and _words(one.name) == _words(other.name)), None
        )
        if match is not None:
            partner[i] = match
            rest.remove(match)
    shapes = dict.fromkeys(frozenset(one.shapes) for i, one in enumerate(a) if i not in partner)
    for shape in shapes:
        members = [i for i, one in enumerate(a) if i not in partner and one.shapes == shape]
        fits = [other for other in rest if other.shapes & shape]
        chosen = dict(zip(members, fits, strict=False))
        if any(not _close(a[i], other) for i, other in chosen.items()):
            chosen = _by_content({i: a[i] for i in members}, fits) or chosen
            order = [fits.index(other) for other in chosen.values()]
            exchanged |= set(chosen) if order != sorted(order) else set()
        partner |= chosen
        for match in chosen.values():
            rest.remove(match)
    couples = [(a[i], partner[i]) for i in sorted(partner)]
    alone = [one for i, one in enumerate(a) if i not in partner]
    return couples, alone, rest, {k for k, i in enumerate(sorted(partner)) if i in exchanged}


def _by_content(units: Mapping[int, _Unit], fits: Sequence[_Unit]) -> dict[int, _Unit]:
    """For each unit the one that holds the same numbers, if all have one: files keep layers in any order."""
    found: dict[int, _Unit] = {}
    for i, one in units.items():
        match = next((other for other in fits if other not in found.values() and _close(one, other)), None)
        if match is None:
            return {}
        found[i] = match
    return found


def _words(name: str) -> tuple[str, ...]:
    """A name as it is compared: without what frameworks and wrappers put before it."""
    parts = [part for part in re.split(r"[/.:]", name.lower()) if part not in ("module", "model", "_orig_mod", "0")]
    return tuple(parts)


def _close(one: _Unit, other: _Unit) -> bool:
    return any(_parameters(first, second)[2] for first, second in _alike(one, other))


# ---- Comparing two.


def _alike(one: _Unit, other: _Unit) -> Iterator[tuple[_Reading, _Reading]]:
    """The readings of two units that have one shape."""
    for first, second in product(one.readings, other.readings):
        if first.shape == second.shape:
            yield first, second


def _parameters(first: _Reading, second: _Reading) -> tuple[float, str, bool]:
    """The largest difference of effective parameters, where it is, and whether rounding explains all of them."""
    return difference(
        first.params(), second.params(), _narrowest([first.dtype, second.dtype]), first.dtype != second.dtype
    )


def compared(one: _Unit, other: _Unit, seed: int) -> tuple[Pair, _Reading, _Reading]:
    """What two units are to each other in the readings that agree best, and these."""
    results = [(_judged(one, other, *readings, seed), *readings) for readings in _alike(one, other)]
    for unit in (one, other):
        for reading in unit.readings:
            reading.params.forget()
    pair, first, second = min(results, key=lambda result: (_RANK[result[0].status], result[0].max_abs))
    found = astray(one, other, seed)
    if found and _RANK[found[0]] > _RANK[pair.status]:
        pair = replace(pair, status=found[0], reason=f"of which {found[1]}")
    return pair, first, second


def astray(one: _Unit, other: _Unit, seed: int) -> tuple[str, str] | None:
    """Which of two live layers is not what its parameters say: the status, and a sentence without its full stop."""
    for which, unit in (("first", one), ("second", other)):
        if unit.live and (found := unit.live(seed)):
            return found[0], f"the {which} {found[1]}"
    return None


def _judged(one: _Unit, other: _Unit, first: _Reading, second: _Reading, seed: int) -> Pair:
    max_abs, where, rounding = _parameters(first, second)
    spec, theirs, notes, contrary = agreed(first, second)
    pair = Pair(one.name, other.name, spec, "equivalent", "", max_abs, where, 0.0, notes)
    if contrary:
        return replace(pair, status="different", reason=contrary)
    ratio, finite = _outputs(
        spec, first.params(), theirs, second.params(), _narrowest([first.dtype, second.dtype]), seed
    )
    pair = replace(pair, noise_ratio=ratio)
    if not rounding:
        return replace(
            pair, status="different", reason=f"whose parameters differ by up to {max_abs:.2g}, most at {where}"
        )
    if not finite:
        return replace(pair, status="inconclusive", reason="the reference's outputs are not finite, or all zero")
    if ratio > LIMIT:
        return replace(pair, status="different", reason=f"whose outputs differ by {ratio:.3g} times the rounding noise")
    return pair


def agreed(first: _Reading, second: _Reading) -> tuple[Layer, Layer, tuple[str, ...], str]:
    """Both specs, what one leaves open taken from the other; what was assumed; and in what they contradict each other."""
    mine, theirs = first.spec, second.spec
    if not (isinstance(mine, Recurrent) and isinstance(theirs, Recurrent)):
        return mine, theirs, (), ""
    notes, ours, other = [], mine.options(), theirs.options()
    for name in mine.options():
        if name in ("bias", *_FREE) or (ours[name] is None and other[name] is None):
            continue
        if name in first.open and name in second.open:
            other[name] = ours[name]
            notes.append(f"Neither side says {name}; both are taken as {ours[name]!r}.")
        elif name in first.open:
            ours[name] = other[name]
            notes.append(f"The first side does not say {name}; it is taken as {other[name]!r}, as in the second.")
        elif name in second.open:
            other[name] = ours[name]
            notes.append(f"The second side does not say {name}; it is taken as {ours[name]!r}, as in the first.")
        elif ours[name] != other[name]:
            words = f"{name}={described(ours[name])} and the other {name}={described(other[name])}"
            return mine, theirs, (), f"of which one has {words}"
    plain = {name: Recurrent("rnn", 1, 1).options()[name] for name in _FREE}
    return Recurrent(**{**ours, **plain}), Recurrent(**{**other, **plain}), tuple(notes), ""


def _outputs(
    spec: Layer, params: Parameters, other: Layer, theirs: Parameters, dtype: str, seed: int
) -> tuple[float, bool]:
    """The largest difference of outputs in units of rounding noise, and whether they are numbers that prove something."""
    probe, worst, fine = Probe(seed=seed), 0.0, True
    params, theirs = Parameters(spec, dict(params)), Parameters(other, dict(theirs))
    for given in inputs(spec, "layer", params, draw_input(spec, probe), probe):
        truth = noise.measure(spec, params, given.given, dtype)
        got = reference.run_given(other, theirs, given.given.astype("float64")).named()
        for name, clean in truth.clean.items():
            ratios = noise.ratio(got[name], clean, truth.deviation[name])
            fine = fine and bool(np.isfinite(ratios).all()) and bool(clean.any())
            worst = max(worst, float(np.nanmax(ratios)))
    return worst, fine


# ---- The tensors of other layers.

# What a tensor is to its layer, where its name tells: a scale is no offset, even of the same size.
_ROLES = {
    **dict.fromkeys(("gamma", "scale"), "scale"),
    **dict.fromkeys(("beta", "bias", "offset"), "offset"),
    **dict.fromkeys(("moving_mean", "running_mean", "mean"), "mean"),
    **dict.fromkeys(("moving_variance", "running_var", "running_std", "variance", "var"), "variance"),
}


@dataclass(frozen=True)
class _Others:
    """The tensors of no recurrent or dense layer: those that hold the same numbers, and what is left.

    Attributes:
        pairs: (name in a, name in b).
        only_a, only_b: without a partner.
        constants: single numbers, which are not compared.
        exchanged: a pair that stands in another order than one of its shape before it, or nothing.
    """

    pairs: tuple[tuple[str, str], ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    constants: tuple[str, ...]
    exchanged: tuple[str, str] | None


def _same_numbers(a: _Side, b: _Side) -> _Others:
    mine, theirs = ({name: np.asarray(read()) for name, read in side.others.items()} for side in (a, b))
    constants = [name for side in (mine, theirs) for name, array in side.items() if array.size == 1]
    places = {name: i for i, name in enumerate(theirs)}
    rest = {name: array for name, array in theirs.items() if array.size > 1}
    pairs, alone, exchanged = [], [], None
    last: dict[tuple[Any, str], int] = {}
    for name, array in mine.items():
        if array.size == 1:
            continue
        role = _role(name)
        fits = (n for n, other in rest.items() if _may_be(role, _role(n)) and _equal(a, b, array, other))
        match = next(fits, None)
        if match is None:
            alone.append(name)
            continue
        pairs.append((name, match))
        del rest[match]
        group = tuple(sorted(array.shape)), role
        if places[match] < last.get(group, 0) and _words(name) != _words(match):
            exchanged = exchanged or (name, match)
        last[group] = max(places[match], last.get(group, 0))
    return _Others(tuple(pairs), tuple(alone), tuple(rest), tuple(constants), exchanged)


def _role(name: str) -> str:
    return _ROLES.get(re.split(r"[/.]", name.removesuffix(":0"))[-1], "")


def _may_be(role: str, other: str) -> bool:
    """Whether two tensors may be the same to their layers; a name may not tell."""
    return not role or not other or role == other


def _equal(a: _Side, b: _Side, one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays hold the same numbers, in the order of axes of each side, up to the rounding of the narrower."""
    u = max(np.finfo(array.dtype).eps for array in (one, other)) if one.dtype != other.dtype else 0.0
    return any(
        turned.shape == other.shape and np.allclose(turned, other, rtol=float(u), atol=0.0)
        for turned in _turned(a.kind, b.kind, one, other)
    )


def _turned(kind: str, other_kind: str, one: np.ndarray, other: np.ndarray) -> Iterator[np.ndarray]:
    """The first array with its axes in the orders that the second may have them in.

    Kernels of convolutions are (..., in, out) in Keras and (out, in, ...) in PyTorch and ONNX; tables are the same in all. Where
    a file's framework is not known, axes are turned only if the shapes say so: what has the same shape has the same order.
    """
    if one.ndim != other.ndim:
        yield np.squeeze(one).reshape(other.shape) if np.squeeze(one).shape == np.squeeze(other).shape else one
        return
    known = bool(kind and other_kind)
    if not (known and kind != other_kind and one.ndim > 2):
        yield one
    if one.ndim < 2 or (not known and one.shape == other.shape):
        return
    if kind != "torch" and other_kind != "keras":
        yield np.moveaxis(one, (-1, -2), (0, 1))
    if kind != "keras" and other_kind != "torch":
        yield np.moveaxis(one, (0, 1), (-1, -2))
