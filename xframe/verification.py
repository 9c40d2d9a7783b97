"""Two model files, or a file and a model: their layers paired, each pair compared, and the whole run where both sides can be.

Layers are paired by name, order and shape. A layer of several layers (``num_layers``) is taken apart, because one framework
stores as one what another stores as many. A pair is equivalent if the effective parameters are equal up to the rounding that
a right transfer makes, and if both, run by the NumPy reference in float64, put out the same within the rounding noise of the
narrower file. No framework is needed for files but PyTorch's own format.

What was judged is the verdict's scope (`xframe.scope`): of files that hold weights only, these; of layers, what each computes;
and two models are equivalent only if the whole was run on both sides.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
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
from xframe.apart import Apart, Known, apart, waking, with_telling
from xframe.comparison import fitting, manners
from xframe.drawing import inputs
from xframe.errors import SpecError, UnsupportedError, XframeError
from xframe.files import FORMATS, load
from xframe.files.base import ModelFile
from xframe.folding import Normalisation, folded, normalisations
from xframe.graph import Graph, Node, graph_of, graph_of_model
from xframe.graph.graph import promised
from xframe.judging import LIMIT, Input, Subject, difference, judge
from xframe.layout import keys
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input
from xframe.programs import Program, program_of, program_of_onnx
from xframe.proof import check_understood
from xframe.recognition import Choices, FoundLayer, Reading, recognise
from xframe.scope import check_scope, narrowest, wider
from xframe.spec import Dense, Layer, Recurrent, described, plural
from xframe.whole import Whole, beside, together

if TYPE_CHECKING:
    from xframe.adapters.base import Adapter
    from xframe.diagnosis import Diagnosis

__all__ = ["Pair", "Verification", "agreed", "astray", "compared", "judged", "paired", "sides", "tried", "verify"]

# The order of axes by the format of a file; others may come from anywhere.
_KINDS = {
    **dict.fromkeys(("keras-hdf5", "keras-weights", "keras", "tensorflow"), "keras"),
    **dict.fromkeys(("torch", "onnx"), "torch"),
}
_EXCHANGED = (
    "hold the same numbers in another order than those of their shape before them, and their names do not tell which belongs to "
    "which: the same in a file that keeps no order, or swapped"
)
# Layers of which a matrix is a table that is looked up: the operator of ONNX picks rows of it.
_TABLES = ("Embedding", "Gather")
# Of how many layers that differ reports say why: in most models it is the same mistake in all.
_TOLD = 3
# Outputs of other shapes; JSON has no infinity.
_CERTAIN = 1e30
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
        status: ``equivalent``, ``different`` or ``inconclusive``, within the scope.
        reason: one sentence, and another one that says what was judged.
        scope: what was asked for: ``weights``, ``layers`` or ``model``, see `xframe.scope`.
        pairs: the layers.
        others: pairs of (name in a, name in b) of tensors that are of no recurrent or dense layer and hold the same numbers.
        only_a, only_b: layers and tensors without a partner.
        notes: what else a reader should know.
        whole: what runs between the layers, and what the whole models put out, where that was judged.
        differing: of those other tensors, which belong together and hold other numbers, and by how much: a clause each.
    """

    a: str
    b: str
    status: str
    reason: str
    scope: str
    pairs: tuple[Pair, ...]
    others: tuple[tuple[str, str], ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    notes: tuple[str, ...] = ()
    whole: Whole | None = None
    differing: tuple[str, ...] = ()

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
        """Why what runs between the layers differs. None where it does not, is not known, or the layers differ themselves."""
        from xframe.diagnosis.between import between  # which is needed where something differs

        if self.whole is None or self.first_wrong or self.only_a or self.only_b or self.differing:
            return None
        return between(self.whole, self.a, self.b)

    def __bool__(self) -> bool:
        return self.status == "equivalent"

    def report(self, format: str = "text") -> str:
        """The verification as ``text``, ``markdown``, ``html``, ``json`` or ``junit``."""
        from xframe.report import render

        return render(self, format)


def verify(
    a: Any,
    b: Any,
    *,
    subset: bool = False,
    scope: str | None = None,
    right_padded: bool = False,
    choices: Choices | None = None,
    seed: int = 0,
) -> Verification:
    """Pair the layers of two models and compare them, and run both whole where they say what runs.

    Args:
        a, b: paths of model files (see `xframe.files.load`), or native models or layers.
        subset: b may hold more layers and tensors than a; then the whole cannot be compared.
        scope: ``weights``, ``layers`` or ``model``: what is to be judged, see `xframe.scope`. None for the most of what both
            sides are: a model, layers, or a file of weights only.
        right_padded: masked time steps will be padding after the end of a sequence only, which has one valid step at least.
            What packed sequences and ONNX's lengths can mask is that.
        choices: what the files do not say of their layers.
        seed: of the inputs.

    Raises:
        FileError, MissingFrameworkError: see `xframe.files.load`.
        SpecError: a choice makes no sense, or a side has no layer to compare, or no mask that could be padding.
        UnsupportedError: a side is neither a path nor a model of a known framework.
    """
    check_scope(scope)
    return judged(*sides(a, b, choices), subset=subset, scope=scope, right_padded=right_padded, seed=seed)


def judged(
    first: _Side,
    second: _Side,
    *,
    subset: bool = False,
    scope: str | None = None,
    right_padded: bool = False,
    seed: int = 0,
) -> Verification:
    """`verify` of two sides that have been read."""
    for side in (first, second):
        if not side.units:
            raise SpecError(f"{side.name} has no recurrent or dense layer that could be compared{side.why}.")
    widest = narrowest([first.extent, second.extent, *(["layers"] if subset else [])])
    asked = scope or widest
    couples, alone_a, alone_b, exchanged = paired(first.units, second.units)
    pairs = tuple(_told(compared(one, other, seed)[0], one, other, first.units, seed) for one, other in couples)
    others = _same_numbers(first, second)
    only_a = (*(unit.name for unit in alone_a), *others.only_a)
    only_b = (*(unit.name for unit in alone_b), *others.only_b)
    whole = whole_models(first, second, right_padded, seed, others.pairs) if asked == widest == "model" else None
    if not (isinstance(whole, Whole) and whole.status == "equivalent"):
        pairs = tuple(
            replace(pair, status="inconclusive", reason=_EXCHANGED)
            if i in exchanged and pair.status == "equivalent"
            else pair
            for i, pair in enumerate(pairs)
        )
    narrow = list(_narrow_types(couples))
    notes = [*first.notes, *second.notes, *_modes(first, second), *_manners(first, second), *narrow]
    notes += [*others.rounded, *others.notes]
    if isinstance(whole, Whole):
        notes += whole.notes
    states, unjudged = _keeps_states(first, second), _not_judged(first, second) if scope is None and not subset else ""
    found = _Found(pairs, others, only_a, () if subset else only_b, whole, states, unjudged)
    status, reason = _concluded(found)
    if status == "equivalent" and wider(asked, widest):
        status, reason = "inconclusive", f"{reason} The scope {asked} was asked for, but {_why(first, second, subset)}."
    if status == "equivalent":
        mixed = any(one.numerics != other.numerics for one, other in couples)
        coarse = whole.coarse if isinstance(whole, Whole) else ()
        modes = () if asked == "weights" else _modes(first, second)
        reason = " ".join((reason, *(narrow if mixed else ()), *others.rounded, *coarse, *modes))
    ends = _judged_were(asked, first, second, found) if status == "equivalent" else ""
    return Verification(
        first.name,
        second.name,
        status,
        f"{reason} {ends}".rstrip(),
        narrowest([asked, widest]),
        pairs,
        others.pairs,
        only_a,
        only_b,
        tuple(dict.fromkeys(notes)),
        whole if isinstance(whole, Whole) else None,
        others.differing,
    )


def _modes(first: _Side, second: _Side) -> list[str]:
    """Which of the two is in training mode as it was given, though it was judged as it is at inference; a sentence each."""
    return [f"{side.mode}." for side in (first, second) if side.mode]


def _manners(first: _Side, second: _Side) -> Iterator[str]:
    """What two live layers read and hand back otherwise."""
    if all(side.alone and side.native is not None for side in (first, second)):
        subjects = [Subject(adapter_of(one.native), one.native, which) for one, which in ((first, "a"), (second, "b"))]
        yield from manners(subjects, None)


def _keeps_states(first: _Side, second: _Side) -> str:
    """A sentence without its full stop where only one of two live layers keeps its states, so that the second calls part."""
    if not all(side.alone and side.native is not None for side in (first, second)):
        return ""
    mine, theirs = (bool(getattr(side.units[0].readings[0].spec, "stateful", False)) for side in (first, second))
    which = first if mine else second
    return (
        f"{which.name} keeps its states from call to call (stateful), and the other does not" if mine != theirs else ""
    )


def _narrow_types(couples: Sequence[tuple[_Unit, _Unit]]) -> Iterator[str]:
    """The layers that are not of float32 or wider on both sides: in which types they are, and in which they were judged."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for one, other in couples:
        narrow = noise.narrowest([one.numerics, other.numerics])
        if narrow in ("float16", "bfloat16"):
            groups.setdefault((one.type, other.type, narrow), []).append(one.name)
    for (mine, theirs, narrow), names in groups.items():
        types = f"{mine} in both models" if mine == theirs else f"{mine} in the first model and {theirs} in the second"
        yield f"Judged in the rounding noise of {narrow}: {_few(names)}, {types}."


def _few(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return f"{', '.join(names[:_TOLD])}{f' and {len(names) - _TOLD} more' if len(names) > _TOLD else ''}"


def _told(pair: Pair, one: _Unit, other: _Unit, units: Sequence[_Unit], seed: int) -> Pair:
    """The pair with what finds out why, where it differs."""

    def search() -> Diagnosis:
        from xframe.diagnosis.sides import of_units  # which compares units itself

        return of_units(one, other, [unit for unit in units if unit is not one], seed)

    return replace(pair, search=search) if pair.status == "different" else pair


def whole_models(
    first: _Side, second: _Side, right_padded: bool, seed: int, same: Sequence[tuple[str, str]] = ()
) -> Whole | str:
    """Both whole models run, and what runs between their layers; or why that could not be judged, as the end of a sentence.

    ``same`` are the names of other tensors that hold the same numbers, but for rounding to the narrower of their types.
    """
    dtype = noise.narrowest(unit.numerics for side in (first, second) for unit in side.units)
    graphs: list[Graph | None] = []
    why: list[str] = []
    for side in (first, second):
        try:
            graphs.append(side.graph())
        except XframeError as error:
            graphs.append(None)
            why.append(f"{side.name}: {_ended(str(error))}")
    if right_padded:
        graphs = _right_padded(graphs)
    one, other = graphs
    try:
        if one is not None and other is not None:
            return together(_as_stored(one, first, second, same)[0], other, dtype, seed)
        if one is None and other is None:
            return "; ".join(why)
        named, side = (first, second) if one is not None else (second, first)
        graph = next(filter(None, graphs))
        same = same if one is not None else [(theirs, mine) for mine, theirs in same]
        found = _run_beside(*_as_stored(graph, named, side, same), named, side, dtype, seed)
        return found if right_padded else replace(found, notes=(*found.notes, *_lengths_told(graph, side)))
    except XframeError as error:
        return "; ".join([*why, _ended(str(error))])


def _as_stored(graph: Graph, own: _Side, other: _Side, same: Sequence[tuple[str, str]]) -> tuple[Graph, frozenset[str]]:
    """The graph of a side with those of its numbers that the other stores in another float type as that stores them.

    That numbers are rounded is then no noise, in which a mistake could hide. Also the names of those that are looked up: nothing
    is computed in the type of a table.
    """
    types = own.types, other.types
    retyped = [(mine, theirs) for mine, theirs in same if types[0].get(mine) != types[1].get(theirs)]
    arrays = [
        (np.asarray(own.others[mine]()), np.asarray(other.others[theirs]()), theirs)
        for mine, theirs in retyped
        if mine in own.others and theirs in other.others  # those that were folded have other names
    ]
    looked_up: set[str] = set()

    def stored(node: Node) -> Node:
        params = dict(node.params()) if node.spec is None and arrays else {}
        for key, array in params.items():
            for mine, theirs, name in arrays:
                if array.shape == theirs.shape and np.array_equal(array, mine):
                    params[key] = theirs
                    looked_up.update([name] if node.kind == "embedding" else ())
                    break
        return replace(node, params=lambda: params) if params else node

    return replace(graph, nodes=tuple(map(stored, graph.nodes))), frozenset(looked_up)


def _run_beside(graph: Graph, looked_up: frozenset[str], named: _Side, side: _Side, dtype: str, seed: int) -> Whole:
    """A side that is run as it is, held against the graph of the other, in the noise of the type in which they compute."""
    program, titles = side.program(), (named.name, side.name)
    computing = {name: kind for name, kind in program.dtypes.items() if name not in looked_up}
    narrow, narrower = noise.narrowest([dtype, *computing.values()]), noise.narrowest([dtype, *program.dtypes.values()])
    found = beside(graph, program, narrow, seed, titles)
    if found.status == "different" and found.made is None and narrow != narrower and found.off:
        # What was looked up may have been computed with before it was brought to the wider type, which nothing tells.
        again = beside(graph, program, narrower, seed, titles)
        if again.status != "different":
            tables = _few([name.rpartition("/")[0] or name for name in sorted(looked_up)])
            return replace(
                found,
                status="inconclusive",
                reason=f"the outputs of {named.name} and {side.name} differ {found.off} of {narrow}, in which all layers "
                f"compute; only in {narrower}, in which {side.name} stores {tables}, would that be rounding: store it in "
                f"{narrow} to have that judged",
            )
    units = {name for unit in side.units for name in (unit.name, unit.stack)}
    others = dict.fromkeys(name.rpartition("/")[0] or name for name, kind in computing.items() if kind == narrow)
    coarse = [name for name in others if name not in units] if narrow in ("float16", "bfloat16") else []
    told = (f"Judged in the rounding noise of {narrow}: {_few(coarse)}, of {narrow} in {side.name}.",) if coarse else ()
    return replace(found, coarse=told, notes=(*told, *found.notes))


def _lengths_told(graph: Graph, side: _Side) -> Iterator[str]:
    """Where a side can only say how long sequences are, and the other makes masks: how to ask for that, a sentence."""
    if side.lengths and _right_padded([graph], strict=False) != [graph]:
        yield (
            f"The layers of {side.name} are told how long each sequence is ({side.lengths}): they can mask padding after its end "
            "only. Where all masks are that, ask for it: --right-padded, in Python right_padded=True."
        )


def _right_padded(graphs: Sequence[Graph | None], strict: bool = True) -> list[Graph | None]:
    """The graphs for masks that are padding after the end.

    Raises:
        SpecError: no mask reaches a layer of any, and they are strict.
    """
    found, errors = [], []
    for graph in graphs:
        try:
            found.append(graph and promised(graph))
        except SpecError as error:
            found.append(graph)
            errors.append(error)
    if strict and errors and len(errors) == sum(graph is not None for graph in graphs):
        raise errors[0]
    return found


def _ended(sentence: str) -> str:
    """A sentence as a part of another one."""
    return sentence.rstrip(".")


def unknown(why: str) -> str:
    """The sentence that says that the whole was not judged."""
    return (
        f"The whole models were not judged, because one cannot be run beside the other yet ({why}). To ask for less: --scope "
        "layers or --scope weights, in Python scope=..."
    )


@dataclass(frozen=True)
class _Found:
    """All that is known when a verdict is concluded; ``only_b`` without what the second side may have more.

    ``states`` says that only one side keeps its states, ``unjudged`` what runs besides the layers and was not asked to be left.
    """

    pairs: Sequence[Pair]
    others: _Others
    only_a: Sequence[str]
    only_b: Sequence[str]
    whole: Whole | str | None
    states: str
    unjudged: str

    @property
    def same(self) -> bool:
        """Whether both whole models were run and put out the same."""
        return isinstance(self.whole, Whole) and self.whole.status == "equivalent"


def _concluded(found: _Found) -> tuple[str, str]:
    """Status and reason. Whatever is not the same lowers the status: to ``different``, unless both whole models do the same."""
    apart = next(iter(_not_the_same(found)), "")
    if apart and found.same:
        return "inconclusive", f"The whole models put out the same, but that does not show each number: {apart}."
    if apart:
        return "different", f"{apart}."
    whole = found.whole
    if isinstance(whole, Whole) and whole.status == "different":
        return "different", f"The layers are the same, but {whole.reason}."
    if open_ := [pair for pair in found.pairs if pair.status == "inconclusive"]:
        return "inconclusive", f"{open_[0].a} and {open_[0].b}: {open_[0].reason}."
    if isinstance(whole, Whole) and whole.status == "inconclusive":
        return "inconclusive", f"The layers are the same; {whole.reason}."
    if found.others.exchanged and not found.same:
        return "inconclusive", f"{' and '.join(found.others.exchanged)} {_EXCHANGED}."
    if found.others.alone:
        return "inconclusive", (
            f"{_some(found.others.alone)} has no partner in the other model that holds the same, and may be used or not."
        )
    if isinstance(whole, str):
        return "inconclusive", f"{_same(found)}. {unknown(whole)}."
    if whole is None and found.unjudged:
        return "inconclusive", f"{_same(found)}. {found.unjudged}"
    return "equivalent", f"{_same(found)}."


def _not_the_same(found: _Found) -> Iterator[str]:
    """What is not the same, a sentence each, the worst first."""
    if wrong := [pair for pair in found.pairs if pair.status == "different"]:
        yield f"{len(wrong)} of {len(found.pairs)} pairs of layers differ: {wrong[0].a} and {wrong[0].b}, {wrong[0].reason}"
    for which, names in (("the first", found.only_a), ("the second", found.only_b)):
        if names:
            both = [*found.only_a, *found.only_b]
            more = f", nor {'has' if len(both) == 2 else 'have'} {len(both) - 1} more" if len(both) > 1 else ""
            yield f"{names[0]} of {which} model has no partner in the other{more}"
    if found.others.differing:
        yield found.others.differing[0]
    if found.states:
        yield found.states


def _some(names: Sequence[str]) -> str:
    return f"{names[0]}{f' (and {len(names) - 1} more)' if len(names) > 1 else ''}"


def _same(found: _Found) -> str:
    """What was found to be the same."""
    pairs, others = found.pairs, found.others
    hold = "holds" if len(others.pairs) == 1 else "hold"
    also = f", and {plural(len(others.pairs), 'other tensor')} {hold} the same numbers" if others.pairs else ""
    layers = f"All {len(pairs)} pairs of layers have" if len(pairs) > 1 else "The one pair of layers has"
    return f"{layers} the same parameters and outputs{also}"


def _judged_were(scope: str, first: _Side, second: _Side, found: _Found) -> str:
    """The last sentence of a verdict that is equivalent: what was judged, and what was not."""
    if scope == "model" and isinstance(found.whole, Whole):
        off = found.whole.off
        within = f" within {off.noise_ratio:.2g} times the rounding noise" if off else ""
        return f"Both whole models were run on {plural(found.whole.inputs, 'input')} and put out the same{within}."
    if scope == "layers":
        alone = first.alone and second.alone
        return (
            "The layers are the same." if alone else "The layers are the same; what runs between them was not judged."
        )
    silent = [side.name for side in (first, second) if side.extent == "weights"]
    who = "neither file says" if len(silent) == 2 else f"{silent[0]} does not say" if silent else "it was not judged"
    return f"The weights are the same; {who} what runs between them."


def _why(first: _Side, second: _Side, subset: bool) -> str:
    """Why no more than the widest scope can be judged."""
    for side in (first, second):
        if side.extent == "weights":
            return f"{side.name} holds weights only"
    if subset:
        return "part of a model cannot be run as a whole (--subset)"
    return f"{next(s.name for s in (first, second) if s.extent == 'layers')} is no model that says what runs between its layers"


def _not_judged(first: _Side, second: _Side) -> str:
    """What one side runs besides its layers, which only running the whole judges: a sentence that says how to ask for less."""
    side = next((side for side in (first, second) if side.opaque), None)
    if side is None:
        return ""
    return (
        f"{side.name} also runs {_some(side.opaque)}, which was not judged; --scope weights (in Python "
        'scope="weights") asks for the weights only.'
    )


# ---- The sides.


@dataclass(frozen=True)
class _Reading:
    """One way to understand a unit.

    ``dtype`` is the type of its numbers, ``computes`` that of its arithmetic, if another; ``open`` are options that the side does
    not say, so that they may be taken from the other one; ``undecided`` those in which this reading is one of several;
    ``assumed`` are sentences about what else was taken for granted.
    """

    spec: Layer
    params: _Lazy = field(repr=False)
    dtype: str = "float32"
    open: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    computes: str = ""

    @property
    def numerics(self) -> str:
        """The float type of its arithmetic."""
        return self.computes or self.dtype

    @property
    def shape(self) -> tuple[Any, ...]:
        """What two partners have in common."""
        spec = self.spec
        parts = [(k, d, spec.part(d, k)) for k, d in spec.places]
        return (spec.input_size, tuple((k, d, part.cell, part.hidden_size, part.state_size) for k, d, part in parts))


@dataclass(frozen=True)
class _Unit:
    """One layer of one side, that is not made of several.

    ``stack`` is the layer of several that it is of, or empty; ``live`` runs it, where it is a native layer, and says how that is
    not what its parameters say (`_amiss`); ``table`` has its one tensor by name, and what gives its numbers, if that may be a
    table that is looked up.
    """

    name: str
    readings: tuple[_Reading, ...]
    stack: str = ""
    live: Callable[[int], tuple[str, str] | None] | None = field(default=None, repr=False, compare=False)
    table: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)

    @property
    def shapes(self) -> set[tuple[Any, ...]]:
        return {reading.shape for reading in self.readings}

    @property
    def numerics(self) -> str:
        """The float type of its arithmetic."""
        return self.readings[0].numerics

    @property
    def type(self) -> str:
        """Its float types, in words."""
        dtype = self.readings[0].dtype
        return f"of {dtype}" if self.numerics == dtype else f"computing in {self.numerics} on weights of {dtype}"


@dataclass(frozen=True)
class _Side:
    """One of the two models: its units, and by name what gives the numbers of its other tensors.

    ``kind`` is ``keras`` or ``torch``, whose order of axes it has, or empty where that is not known; ``extent`` is the widest
    scope in which it can be judged; ``graph`` gives all that it runs, or an error that says why that is not known, and
    ``program`` what can be run though it is not understood, or an error; ``alone`` says that it is one layer and no model;
    ``onnx`` that single numbers and whole numbers may be constants of what it runs, such as shapes, and no weights; ``native``
    is what is live; ``types`` are the float types of ``others`` as they are stored, where that is known: NumPy reads bfloat16 as
    float32; ``tables`` are those of the others that are looked up, and have their axes in one order everywhere; ``norms`` are
    normalisations among them; ``opaque`` is what a file runs besides its layers, a phrase each; ``mode`` says that a live model
    is in training mode, and ``lengths`` how its recurrent layers are told of masks, where they are told lengths.
    """

    name: str
    units: list[_Unit]
    others: dict[str, Any]
    notes: list[str]
    extent: str
    graph: Callable[[], Graph]
    program: Callable[[], Program]
    alone: bool
    kind: str = ""
    why: str = ""
    onnx: bool = False
    native: Any = field(default=None, repr=False)
    types: Mapping[str, str] = field(default_factory=dict)
    tables: frozenset[str] = frozenset()
    norms: tuple[Normalisation, ...] = ()
    opaque: tuple[str, ...] = ()
    mode: str = ""
    lengths: str = ""


def sides(a: Any, b: Any, choices: Choices | None) -> tuple[_Side, _Side]:
    """Both sides, by names that tell them apart. A choice that makes no sense for one of two files may be meant for the other."""
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
    first, second = _tables_told(found[0], found[1]), _tables_told(found[1], found[0])
    if first.name == second.name:
        return replace(first, name=f"{first.name} (a)"), replace(second, name=f"{second.name} (b)")
    return first, second


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
            dtype = noise.narrowest(file.tensors[name].dtype for name in reading.tensors.values())
            params = _Lazy(partial(reading.parameters, file))
            whole = _Reading(reading.spec, params, dtype, reading.open, layer.undecided, computes=layer.computes)
            split.append(list(_split(replace(whole, assumed=tuple(_assumed(layer, reading, choices))))))
        table = {name: file.tensors[name].read for name in layer.tensors if layer.table}
        units += (replace(unit, table=table) for unit in _units(layer.name, split))
    others = {
        name: file.tensors[name].read
        for name in [*(t for other in found.others for t in other.tensors.values()), *found.unconsumed]
    }
    others |= {name: file.tensors[name].read for layer in found.layers if layer.refused for name in layer.tensors}
    kind = _KINDS.get(file.format, "")
    alone = len(found.layers) == 1 and not (others or found.opaque) and file.config is None
    notes = [*found.warnings, *refused]
    why = f" ({refused[0]})" if refused else ""
    return _Side(
        str(path),
        units,
        others,
        notes,
        _extent(file, alone),
        partial(graph_of, found),
        partial(_file_program, file),
        alone,
        kind,
        why,
        onnx=file.format == "onnx",
        types={name: file.tensors[name].dtype for name in others},
        tables=frozenset(t for other in found.others if other.kind in _TABLES for t in other.tensors.values()),
        norms=tuple(normalisations(found)),
        opaque=found.opaque,
        lengths=_lengths(file),
    )


def _lengths(file: ModelFile) -> str:
    """By what the recurrent operators of an ONNX file are told how long sequences are; empty where they are not."""
    operators = [node for graph in file.graphs for node in graph.nodes if node.kind in ("RNN", "LSTM", "GRU")]
    if not any(node.inputs[4:5] not in ((), ("",)) for node in operators):
        return ""
    ours = ", as xframe convert --right-padded writes it" if file.metadata.get("producer_name") == "xframe" else ""
    return f"sequence_lens of ONNX's operators{ours}"


def _extent(file: ModelFile, alone: bool) -> str:
    """The widest scope of a file. A graph of one layer is that layer: ONNX's reads time before the batch, and others need not."""
    if file.format == "onnx":
        return "layers" if alone else "model"
    return "weights" if file.config is None else "model"


def _file_program(file: ModelFile) -> Program:
    if file.format == "onnx":
        return program_of_onnx(file.path)
    raise UnsupportedError(f"a file of {FORMATS[file.format][0]} is read and not run")


def _model_side(model: Any) -> _Side:
    adapter = adapter_of(model)
    units: list[_Unit] = []
    others: dict[str, Any] = {}
    notes: list[str] = []
    mode = ""
    tables: set[str] = set()
    types: dict[str, str] = {}
    for name, layer in adapter.layers(model):
        try:
            spec = adapter.bare(layer)
        except UnsupportedError:
            own = {f"{name}/{own}": array for own, array in adapter.tensors(layer).items()}
            others |= own
            types |= {f"{name}/{own}": kind for own, kind in adapter.tensor_types(layer).items()}
            tables |= set(own) if type(layer).__name__ in ("Embedding", "Embed") else set()
            continue
        called = name or type(layer).__name__
        params = _Lazy(partial(adapter.parameters, layer))
        dtype, computes = adapter.types(layer)
        split = [list(_split(_Reading(spec, params, dtype, computes=computes)))]
        activation = _activation(adapter, layer, spec)
        if activation != "linear":
            notes.append(f"The activation of {called} ({activation}) is taken as a step that runs behind the layer.")
        # What a function of its own computes nobody else knows, and layers that mix two float types are run in whole models only.
        known = activation in ACTIVATIONS and dtype == computes
        units += _units(called, split, cache(partial(_amiss, Subject(adapter, layer, called))) if known else None)
    alone = [name for name, _ in adapter.layers(model)] == [""]
    if not alone:
        mode = adapter.mode(model)
    return _Side(
        f"{adapter.title} {type(model).__name__}",
        units,
        others,
        notes,
        "model" if adapter.is_model(model) and not alone else "layers",
        partial(_understood, model),
        partial(program_of, adapter, model),
        alone,
        adapter.name,
        native=model,
        types=types,
        tables=frozenset(tables),
        mode=mode,
    )


def _tables_told(side: _Side, other: _Side) -> _Side:
    """A side of which a matrix that may be a table is one, where the other has a table of these numbers."""
    open_ = [unit for unit in side.units if unit.table]
    theirs = [(name, np.asarray(other.others[name]())) for name in other.tables if open_ and name in other.others]
    told = {
        name: read
        for unit in open_
        for name, read in unit.table.items()
        if any(_equal(side, other, (name, np.asarray(read())), table) for table in theirs)
    }
    units = [unit for unit in side.units if not told.keys() & unit.table.keys()]
    return replace(side, units=units, others={**side.others, **told}, tables=side.tables.union(told))


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


def _understood(model: Any) -> Graph:
    graph = graph_of_model(model)
    check_understood(model, graph)
    return graph


def _units(
    name: str,
    split: Sequence[Sequence[_Reading]],
    live: Callable[[int], tuple[str, str] | None] | None = None,
) -> Iterator[_Unit]:
    """The units of one layer, from its readings taken apart; readings of another number of units than the first are left out."""
    split = [one for one in split if len(one) == len(split[0])]
    for k, readings in enumerate(zip(*split, strict=True)):
        alone = len(split[0]) == 1
        yield _Unit(name if alone else f"{name}, layer {k}", readings, "" if alone else name, live)


def _assumed(layer: FoundLayer, reading: Reading, choices: Choices | None) -> Iterator[str]:
    """What a reading takes for granted beside options, a sentence each."""
    if "packing" in layer.undecided:
        yield f"The names of {layer.name} do not say how it is packed; it is read as {reading.packing.title} packs it."
    if reading.forget_bias and (choices is None or choices.forget_bias is None):
        yield (
            f"{layer.name} does not say forget_bias; {reading.forget_bias:g} is added to the bias of its forget gate, as "
            f"{reading.packing.title} does unless told otherwise."
        )


def _split(whole: _Reading) -> Iterator[_Reading]:
    """A layer of several layers as one reading each."""
    spec = whole.spec
    if spec.num_layers == 1 or not isinstance(spec, Recurrent):
        yield whole
        return
    for k in range(spec.num_layers):
        one = replace(spec, num_layers=1, input_size=spec.layer_input_size(k), dropout=0.0)
        yield replace(whole, spec=one, params=_Lazy(partial(_layer_of, whole.params, k, one)))


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


# ---- Who belongs to whom.


def paired(
    a: Sequence[_Unit], b: Sequence[_Unit]
) -> tuple[list[tuple[_Unit, _Unit]], list[_Unit], list[_Unit], set[int]]:
    """Partners of one shape: those of one name, then in order; those that are left; and which couples were exchanged.

    Layers whose names do not tell, and of which each holds the numbers of another one than its order says, may be the same
    layers in a file that keeps no order, or layers that were swapped.
    """
    left = dict(enumerate(b))
    named: dict[tuple[str, ...], list[int]] = {}
    for j, other in left.items():
        named.setdefault(_words(other.name), []).append(j)
    exchanged: set[int] = set()
    partner: dict[int, _Unit] = {}
    for i, one in enumerate(a):
        same = named.get(_words(one.name), [])
        match = next((j for j in same if j in left and one.shapes & left[j].shapes), None)
        if match is not None:
            partner[i] = left.pop(match)
    shapes: dict[frozenset[Any], list[int]] = {}
    for i, one in enumerate(a):
        if i not in partner:
            shapes.setdefault(frozenset(one.shapes), []).append(i)
    for shape, members in shapes.items():
        fits = {j: other for j, other in left.items() if other.shapes & shape}
        chosen = dict(zip(members, fits, strict=False))
        if not (_in_order([a[i] for i in members]) and _in_order([*fits.values()])) and any(
            not _close(a[i], fits[j]) for i, j in chosen.items()
        ):
            chosen = _by_content({i: a[i] for i in members}, fits) or chosen
            exchanged |= set(chosen) if [*chosen.values()] != sorted(chosen.values()) else set()
        partner |= {i: left.pop(j) for i, j in chosen.items()}
    couples = [(a[i], partner[i]) for i in sorted(partner)]
    alone = [one for i, one in enumerate(a) if i not in partner]
    return couples, alone, [*left.values()], {k for k, i in enumerate(sorted(partner)) if i in exchanged}


def _in_order(units: Sequence[_Unit]) -> bool:
    """Whether units are the layers of one stack, in whatever order a file keeps its layers."""
    return len({unit.stack for unit in units}) == 1 and bool(units[0].stack)


def _by_content(units: Mapping[int, _Unit], fits: Mapping[int, _Unit]) -> dict[int, int]:
    """For each unit the place of the one that holds the same numbers, if all have one: files keep layers in any order."""
    exact: dict[bytes, list[int]] = {}
    for j, other in fits.items():
        for mark in _marks(other):
            exact.setdefault(mark, []).append(j)
    found: dict[int, int] = {}
    left = dict(fits)
    for i, one in units.items():
        # To the last digit in most files: only for the others are all looked through.
        near = (j for mark in _marks(one) for j in exact.get(mark, ()) if j in left)
        match = next(near, None)
        if match is None:
            match = next((j for j, other in left.items() if _close(one, other)), None)
        if match is None:
            return {}
        found[i] = match
        del left[match]
    return found


def _marks(unit: _Unit) -> Iterator[bytes]:
    """For each reading of a unit, the same as for another one of the same shape and numbers."""
    for reading in unit.readings:
        mark = hashlib.sha256(repr(reading.shape).encode())
        for key, block in sorted(reading.params().effective().items(), key=lambda item: str(item[0])):
            mark.update(f"{key} {block.shape}".encode() + block.astype(np.float64).tobytes())
        yield mark.digest()


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
        first.params(), second.params(), noise.narrowest([first.dtype, second.dtype]), first.dtype != second.dtype
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
    max_abs, where, _ = _parameters(first, second)
    a, b, notes = agreed(first, second)
    differ = apart(a, b, noise.narrowest([first.dtype, second.dtype]), first.dtype != second.dtype)
    # What differs by more than rounding is judged as two functions, in which smaller differences show.
    dtype = "float64" if differ else noise.narrowest([first.numerics, second.numerics])
    ratio, finite = _outputs(tried(a, b, differ, seed, dtype), b, dtype)
    pair = Pair(one.name, other.name, a[0], "equivalent", "", max_abs, where, ratio, notes)
    if differ and ratio <= LIMIT:
        return replace(pair, status="inconclusive", reason=f"which differ in {differ}, though no output showed it")
    if differ.options:
        name, mine, theirs = differ.options[0]
        words = f"of which one has {name}={described(mine)} and the other {name}={described(theirs)}"
        return replace(pair, status="different", reason=words)
    if differ:
        words = f"whose parameters differ by up to {max_abs:.2g}, most at {where}"
        return replace(pair, status="different", reason=words)
    if not finite:
        return replace(pair, status="inconclusive", reason="the reference's outputs are not finite, or all zero")
    if ratio > LIMIT:
        return replace(pair, status="different", reason=f"whose outputs differ by {ratio:.3g} times the rounding noise")
    return pair


def agreed(first: _Reading, second: _Reading) -> tuple[Known, Known, tuple[str, ...]]:
    """Both layers, what one leaves open taken from the other; and what was assumed."""
    mine, theirs = first.spec, second.spec
    if not (isinstance(mine, Recurrent) and isinstance(theirs, Recurrent)):
        return (mine, first.params()), (theirs, second.params()), ()
    notes, ours, other = [*first.assumed, *second.assumed], mine.options(), theirs.options()
    for name in mine.options():
        if name in ("bias", *_FREE) or (ours[name] is None and other[name] is None):
            continue
        if name in first.open and name not in second.open:
            ours[name] = other[name]
        elif name in second.open:
            other[name] = ours[name]
        silent = [side for side, one in (("first", first), ("second", second)) if name in (*one.open, *one.undecided)]
        if ours[name] == other[name] and len(silent) == 2:
            notes.append(f"Neither side says {name}; both are taken as {ours[name]!r}.")
        elif ours[name] == other[name] and silent:
            says = "second" if silent == ["first"] else "first"
            notes.append(f"The {silent[0]} side does not say {name}; it is taken as {ours[name]!r}, as in the {says}.")
    plain = {name: Recurrent("rnn", 1, 1).options()[name] for name in _FREE}
    a, b = Recurrent(**{**ours, **plain}), Recurrent(**{**other, **plain})
    return (a, Parameters(a, dict(first.params()))), (b, Parameters(b, dict(second.params()))), tuple(notes)


def tried(a: Known, b: Known, differ: Apart, seed: int, dtype: str) -> list[Input]:
    """What two layers are run on; where they differ by what they say, an input on which that shows, if there is one."""
    probe = Probe(seed=seed)
    given = list(inputs(a[0], "layer", a[1], draw_input(a[0], probe), probe))
    return with_telling(b, given, waking(a[0], "layer", a[1], probe), dtype) if differ else given


def _outputs(given: Iterable[Input], b: Known, dtype: str) -> tuple[float, bool]:
    """The largest difference of outputs in units of rounding noise, and whether they are numbers that prove something."""
    worst, fine = 0.0, True
    for one in given:
        truth = one.noise(dtype)
        got = reference.run_given(*b, one.given.astype("float64")).named()
        for name, clean in truth.clean.items():
            if got[name].shape != clean.shape:
                return _CERTAIN, True
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


# Of what a model keeps and does not use at inference.
_UNUSED = ("num_batches_tracked", "seed_generator_state")


@dataclass(frozen=True)
class _Others:
    """The tensors of no recurrent or dense layer: those that hold the same numbers, and what is left.

    Attributes:
        pairs: (name in a, name in b).
        rounded: which of them are the same only as they are rounded to a narrower type, a sentence for each two types.
        only_a, only_b: tensors of floats without a partner.
        alone: single numbers, whole numbers and yes-or-no without a partner, which other frameworks may not need.
        differing: those that are partners by their names or shapes and hold other numbers, a part of a sentence each.
        exchanged: a pair that stands in another order than one of its shape before it, or nothing.
        notes: what was passed over, a sentence each.
    """

    pairs: tuple[tuple[str, str], ...]
    rounded: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    alone: tuple[str, ...]
    differing: tuple[str, ...]
    exchanged: tuple[str, str] | None
    notes: tuple[str, ...]


def _same_numbers(a: _Side, b: _Side) -> _Others:
    unused = [name for side in (a, b) for name in side.others if _last(name) in _UNUSED]
    mine, theirs = (
        {name: np.asarray(read()) for name, read in side.others.items() if name not in unused} for side in (a, b)
    )
    places = {name: i for i, name in enumerate(theirs)}
    rest = dict(theirs)
    pairs, alone, differing, exchanged = [], [], list[str](), None
    last: dict[tuple[Any, str], int] = {}
    for name, array in mine.items():
        role = _role(name)
        named = [n for n, other in rest.items() if _words(n) == _words(name) and other.size == array.size]
        if named and _plain(array):
            # Few numbers are the same in many tensors by chance: where names tell, they decide.
            match: str | None = named[0]
            if not _equal(a, b, (name, array), (named[0], rest[named[0]])):
                differing.append(
                    f"{name} is {_shown(array)} in the first model and {_shown(rest[named[0]])} in the second"
                )
                del rest[named[0]]
                continue
        else:
            fits = (n for n in rest if _may_be(role, _role(n)) and _equal(a, b, (name, array), (n, rest[n])))
            match = next(fits, None)
        if match is None:
            alone.append(name)
            continue
        pairs.append((name, match))
        del rest[match]
        group = tuple(sorted(array.shape)), role
        if not _plain(array) and places[match] < last.get(group, 0) and _words(name) != _words(match):
            exchanged = exchanged or (name, match)
        last[group] = max(places[match], last.get(group, 0))
    rounded = tuple(_rounded_told(a, b, [(name, mine[name], match, theirs[match]) for name, match in pairs]))
    left = {name: mine[name] for name in alone}
    pairs += _folded(a, left, rest)
    pairs += [(ours, theirs_) for theirs_, ours in _folded(b, rest, left)]
    for name, match, turned in _partners(a, b, left, rest):
        narrow = _narrower(_kinds(a, b, name, turned, match, rest[match]))
        differing.append(_apart(name, match, turned, rest[match], narrow))
        del left[name], rest[match]
    lone = [[name for name, array in names.items() if _plain(array)] for names in (left, rest)]
    notes = [f"Without effect at inference, and not compared: {', '.join(unused)}."] if unused else []
    notes += [
        f"Not compared, as part of what it runs: {plural(len(names), 'constant')} of the graph of {side.name}."
        for side, names in zip((a, b), lone, strict=True)
        if side.onnx and names
    ]
    return _Others(
        tuple(pairs),
        rounded,
        tuple(name for name, array in left.items() if not _plain(array)),
        tuple(name for name, array in rest.items() if not _plain(array)),
        tuple(name for side, names in zip((a, b), lone, strict=True) for name in names if not side.onnx),
        tuple(differing),
        exchanged,
        tuple(notes),
    )


def _kinds(a: _Side, b: _Side, name: str, one: np.ndarray, match: str, other: np.ndarray) -> tuple[str, str]:
    """The float types of two tensors as they are stored."""
    return a.types.get(name, one.dtype.name), b.types.get(match, other.dtype.name)


def _rounded_told(a: _Side, b: _Side, pairs: Sequence[tuple[str, np.ndarray, str, np.ndarray]]) -> Iterator[str]:
    """Which pairs of tensors hold the same numbers only as 16 bits can hold them, and by how much they are apart."""
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for name, one, match, other in pairs:
        kinds = _kinds(a, b, name, one, match, other)
        if kinds[0] != kinds[1] and noise.narrowest(kinds) in ("float16", "bfloat16"):
            off = min(
                float(np.abs(turned.astype(np.float64) - other).max(initial=0))
                for turned in _orders(a, b, name, one, match, other)
            )
            groups.setdefault(kinds, {})[name] = off
    for kinds, offs in groups.items():
        yield (
            f"Judged as rounded to {noise.narrowest(kinds)}: {_few([*offs])}, of {kinds[0]} in the first model and of "
            f"{kinds[1]} in the second, which differ by up to {max(offs.values()):.2g}."
        )


def _orders(a: _Side, b: _Side, name: str, one: np.ndarray, match: str, other: np.ndarray) -> Iterator[np.ndarray]:
    """A tensor of the first side in the orders of its axes in which it may be one of the second, of the shape of that."""
    orders = [one] if name in a.tables or match in b.tables else _turned(a.kind, b.kind, one, other)
    yield from (turned for turned in orders if turned.shape == other.shape)


def _partners(
    a: _Side, b: _Side, left: Mapping[str, np.ndarray], rest: Mapping[str, np.ndarray]
) -> list[tuple[str, str, np.ndarray]]:
    """What belongs together of the tensors that hold other numbers: those of one name, then the only ones of a shape and a role.

    Each with the first in that order of its axes in which it is nearest to the second.
    """

    def fits(name: str, match: str) -> list[np.ndarray]:
        if left[name].size != rest[match].size or not _may_be(_role(name), _role(match)):
            return []
        return list(_orders(a, b, name, left[name], match, rest[match]))

    mine, theirs = ([name for name, array in one.items() if not _plain(array)] for one in (left, rest))
    named = {_words(match): match for match in theirs}
    couples: dict[str, str] = {}
    for name in mine:
        match = named.get(_words(name), "")
        if match and match not in couples.values() and fits(name, match):
            couples[name] = match
    mine, theirs = [n for n in mine if n not in couples], [n for n in theirs if n not in couples.values()]
    fitting = {name: [match for match in theirs if fits(name, match)] for name in mine}
    wanted = Counter(match for matches in fitting.values() for match in matches)
    couples |= {name: found[0] for name, found in fitting.items() if len(found) == 1 and wanted[found[0]] == 1}
    return [
        (name, match, min(fits(name, match), key=partial(_farthest, rest[match]))) for name, match in couples.items()
    ]


@np.errstate(invalid="ignore", over="ignore")
def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far the numbers of two tensors are from each other; infinitely, where only one is a number."""
    off = np.abs(one.astype(np.float64) - other)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return np.where(same, 0.0, np.nan_to_num(off, nan=np.inf))


def _farthest(one: np.ndarray, other: np.ndarray) -> float:
    return float(_distance(one, other).max(initial=0))


def _apart(name: str, match: str, one: np.ndarray, other: np.ndarray, narrow: str) -> str:
    """By how much two tensors of one shape differ, and where most, beyond rounding to a narrower type, if there is one."""
    off = _distance(one, other)
    beyond = off - (_allowed(one, other, narrow) if narrow else 0)
    place = tuple(map(int, np.unravel_index(int(beyond.argmax()), off.shape)))
    same_name = _words(name) == _words(match)
    who = f"{name} differs" if same_name else f"{name} of the first model and {match} of the second differ"
    count = f"in {np.count_nonzero(beyond > 0):,} of {plural(off.size, 'number')}"
    return f"{who} by up to {off[place]:.2g} at {place}, {count}{f' beyond rounding to {narrow}' if narrow else ''}"


def _plain(array: np.ndarray) -> bool:
    """Whether a tensor is a single number, or of whole numbers or of yes and no."""
    return array.size == 1 or array.dtype.kind != "f"


def _shown(array: np.ndarray) -> str:
    return f"{array.item():g}" if array.size == 1 else f"{array.ravel()[:4].tolist()}{' ...' if array.size > 4 else ''}"


def _last(name: str) -> str:
    """The last part of a tensor's name."""
    return re.split(r"[/.]", name.removesuffix(":0"))[-1]


def _folded(side: _Side, own: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """The normalisations of a side that the other has as a scale and an offset; their tensors are taken out of what is left."""
    for norm in side.norms:
        names = set(norm.tensors.values())
        match = folded(norm, own, others) if names <= set(own) else None
        if match is not None:
            yield f"{norm.name} (folded: its scale)", match[0]
            yield f"{norm.name} (folded: its offset)", match[1]
            for left, gone in ((own, names), (others, set(match))):
                for name in gone:
                    del left[name]


def _role(name: str) -> str:
    return _ROLES.get(_last(name), "")


def _may_be(role: str, other: str) -> bool:
    """Whether two tensors may be the same to their layers; a name may not tell."""
    return not role or not other or role == other


def _equal(a: _Side, b: _Side, mine: tuple[str, np.ndarray], theirs: tuple[str, np.ndarray]) -> bool:
    """Whether two arrays hold the same numbers, up to the rounding of the narrower: in the order of axes of each side, or as they
    are where one is a table."""
    (name, one), (other_name, other) = mine, theirs
    if one.dtype.kind != "f" or other.dtype.kind != "f":
        return one.shape == other.shape and bool(np.array_equal(one, other))
    kinds = _kinds(a, b, name, one, other_name, other)
    narrow = _narrower(kinds)
    return any(_rounded(turned, other, narrow) for turned in _orders(a, b, name, one, other_name, other))


def _rounded(one: np.ndarray, other: np.ndarray, narrow: str) -> bool:
    """Whether two arrays of one shape are equal, but for right rounding to a narrower type, if there is one."""
    if not narrow or not np.isfinite(one).all():
        return bool(np.array_equal(one, other))
    return bool(np.all(_distance(one, other) <= _allowed(one, other, narrow)))


def _allowed(one: np.ndarray, other: np.ndarray, narrow: str) -> np.ndarray:
    """By how much right rounding to a narrower type may change each number."""
    return noise.narrowing(np.minimum(np.abs(one), np.abs(other)), narrow)


def _narrower(kinds: tuple[str, str]) -> str:
    """The narrower of two float types; empty where they are one."""
    return noise.narrowest(kinds) if kinds[0] != kinds[1] else ""


def _turned(kind: str, other_kind: str, one: np.ndarray, other: np.ndarray) -> Iterator[np.ndarray]:
    """The first array with its axes in the orders that the second may have them in.

    Kernels of convolutions are (..., in, out) in Keras and (out, in, ...) in PyTorch and ONNX; tables are the same in all. Where
    a file's framework is not known, axes are turned only if the shapes say so: what has the same shape has the same order.
    """
    if one.ndim != other.ndim:  # axes of size 1 that only one has
        bare, wanted = np.squeeze(one), np.squeeze(other)
        if bare.ndim == wanted.ndim:
            for turned in _turned(kind, other_kind, bare, wanted):
                yield turned.reshape(other.shape) if turned.shape == wanted.shape else one
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
