"""Two whole models beside each other: what runs between their layers, of which no weight tells.

A model that says what runs after what is a graph (`xframe.graph`). Two models of the same layers compute the same only if the
other nodes of their graphs are the same, too: their activations, their masks, the epsilon of their normalisations. What is
not understood can still be run (`xframe.programs`), and what it puts out is held against the graph of the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from xframe import noise
from xframe.asleep import share
from xframe.errors import SpecError
from xframe.forwards import slipped
from xframe.graph import KINDS, Graph, Node, running
from xframe.graph.arithmetic import Exact
from xframe.graph.graph import Input, Output, bypassed, promised
from xframe.graph.probing import LIGHT, held, measured, numbers, probed, sizes
from xframe.graph.running import Arrays, sole
from xframe.judging import LIMIT
from xframe.programs import Program, Ran
from xframe.spec import Recurrent, plural

__all__ = ["Made", "Off", "Slip", "Whole", "beside", "together"]

# Stands for outputs of another shape, or that are not finite; JSON has no infinity.
_CERTAIN = 1e30
# By how much the numbers of an input are larger or smaller: relu6 is relu until a number is above 6. Powers of two keep them
# exact.
_SCALES = (1.0, 8.0, 0.125, 64.0)
# Rows and time steps of an input on which models that say the same in other words are the same too: a state that grows for a
# few steps is the largest one and the last.
_LONGER = (3, 40)
_End = TypeVar("_End", Input, Output)


@dataclass(frozen=True)
class Off:
    """How far outputs are off: the largest absolute difference, and the largest in units of rounding noise."""

    max_abs: float = 0.0
    noise_ratio: float = 0.0

    @property
    def differs(self) -> bool:
        """Whether that is more than rounding."""
        return not self.noise_ratio <= LIMIT

    @property
    def incomparable(self) -> bool:
        """Whether there are no numbers to be compared: outputs of another shape, or that are not finite."""
        return self.max_abs >= _CERTAIN

    def __str__(self) -> str:
        if self.incomparable:
            return "in that one has NaN, infinity or another shape where the other has numbers"
        return f"by {self.max_abs:.2g}, {self.noise_ratio:.3g} times the rounding noise"


@dataclass(frozen=True)
class Slip:
    """An option that a node has differently in two models.

    Attributes:
        a, b: the names of the node in the first and in the second model.
        kind: of the node, see `xframe.graph.KINDS`.
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
        lacking: nodes that only one of the models has, a sentence each.
        off: how far the second model's output is from the first's; None if there was nothing to run.
        mended: the same with the first model's options in place of those that differ; None if there are none.
        inputs: on how many inputs both were run.
        notes: what else a reader should know, a sentence each.
        made: the mistake by which the one that is understood puts out what the other does; None where none was found.
        coarse: because of what else than layers both were judged in the noise of a type of 16 bits, a sentence each.
        agrees_with: the option of `xframe.verify` with which they put out the same, where one is known, or empty.
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
    coarse: tuple[str, ...] = ()
    agrees_with: str = ""


@dataclass(frozen=True)
class _Both:
    """Two graphs of the same inputs and outputs, which of their nodes are partners (their places), and what they are run on."""

    a: Graph
    b: Graph
    partners: tuple[tuple[int, int], ...]
    inputs: tuple[Arrays, ...]

    @cached_property
    def _measured(self) -> dict[tuple[int, str], dict[str, tuple[np.ndarray, np.ndarray]]]:
        return {}

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def off(self, other: Graph, dtype: str) -> Off:
        """How far the outputs of another graph are from those of the first."""
        differences, ratios = [0.0], [0.0]
        for i, given in enumerate(self.inputs):
            if (i, dtype) not in self._measured:
                self._measured[i, dtype] = running.noise(self.a, given, dtype)
            try:
                found = running.run(other, given, "float64")
            except SpecError:  # it cannot read this
                return Off(_CERTAIN, _CERTAIN)
            for name, (clean, deviation) in self._measured[i, dtype].items():
                if found[name].shape != clean.shape:
                    return Off(_CERTAIN, _CERTAIN)
                differences.append(np.abs(found[name] - clean).max())
                ratios.append(noise.ratio(found[name], clean, deviation).max())
        return Off(
            *(min(float(np.nan_to_num(values, nan=_CERTAIN).max()), _CERTAIN) for values in (differences, ratios))
        )

    @property
    def finite(self) -> bool:
        """Whether the first graph's outputs are numbers."""
        return all(np.isfinite(clean).all() for one in self._measured.values() for clean, _ in one.values())

    @cached_property
    def values(self) -> dict[str, str]:
        """By the name of a value of the first graph that of its partner in the second."""
        found = {one.name: one.name for one in self.a.inputs}
        for i, j in self.partners:
            found.update(zip(self.a.nodes[i].writes, self.b.nodes[j].writes, strict=False))
        return found


def together(a: Graph, b: Graph, dtype: str, seed: int) -> Whole:
    """Compare two graphs of which the layers and the other tensors have been compared already.

    Args:
        a, b: the graphs.
        dtype: the narrower float type of the two: what is within its rounding noise is no difference.
        seed: of the inputs.

    Raises:
        FileError, LayoutError: numbers cannot be read.
    """
    keeping = _kept_by_one(a, b)
    a, b = _computing(a), _computing(b)
    met = _meeting(a, b)
    if isinstance(met, str):
        return Whole("different", met, off=Off(_CERTAIN, _CERTAIN))
    a, b = met
    both = _Both(a, b, _partners(a, b), tuple(_inputs(a, b, dtype, seed)))
    found = _compared(both, dtype)
    if found.status == "equivalent" and keeping:
        return replace(found, status="different", reason=f"{keeping}; they part at the second call")
    if found.status != "different" and (found.slips or found.lacking):
        further = (running.probe(a, *_LONGER, seed + 1), *_louder(both))
        again = _compared(replace(both, inputs=further), dtype)
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


def _louder(both: _Both) -> Iterator[Arrays]:
    """The inputs with larger and smaller numbers, for options that act on these only: a bound of a relu."""
    masking = any(node.kind == "masking" for graph in (both.a, both.b) for node in graph.nodes)
    for given in both.inputs if not masking else ():
        for scale in _SCALES[1:] if any(x.dtype.kind == "f" for x in given.values()) else ():
            larger = _scaled(given, scale)
            with np.errstate(over="ignore", invalid="ignore"):
                if all(
                    np.isfinite(y).all()
                    for graph in (both.a, both.b)
                    for y in running.run(graph, larger, "float64").values()
                ):
                    yield larger


def _scaled(given: Arrays, scale: float) -> dict[str, np.ndarray]:
    """The inputs times a factor, but for whole numbers."""
    return {name: (x * scale).astype(x.dtype) if x.dtype.kind == "f" else x for name, x in given.items()}


def _told(slips: Sequence[Slip], lacking: Sequence[str], off: Off) -> tuple[str, str]:
    """Status and reason."""
    counting = [slip for slip in slips if slip.off.differs]
    by = f"; their outputs differ {off}"
    if off.differs:
        told = counting[0] if counting else lacking[0] if lacking else "the whole models put out something else"
        return "different", f"{told}{by}"
    # What each has in the place of what the other has may be the same in other words; what is all that differs is not.
    if counting and not lacking:
        return "different", f"{counting[0]}{by}"
    alone = len({sentence.partition(" model ")[0] for sentence in lacking}) == 1 and not counting
    for one in (*(slips if not counting else ()), *(lacking if alone else ())):
        return "inconclusive", f"{one}, which changes nothing on the inputs that were tried"
    return "equivalent", ""


# ---- What is compared.


def _computing(graph: Graph) -> Graph:
    """The nodes that compute something at inference, their numbers in memory, each call from zero states."""
    for at in reversed(range(len(graph.nodes))):
        node = graph.nodes[at]
        if node.kind == "dropout" or node.options.get("name") == "linear":
            graph = bypassed(graph, at, node.reads[0])
    return held(replace(graph, nodes=tuple(map(_stateless, graph.nodes))))


def _stateful(node: Node) -> bool:
    return isinstance(node.spec, Recurrent) and node.spec.stateful


def _kept_by_one(a: Graph, b: Graph) -> str:
    """Which recurrent layer keeps its states where its partner in the other model does not, as the start of a sentence."""
    mine, theirs = ([node for node in graph.nodes if isinstance(node.spec, Recurrent)] for graph in (a, b))
    for one, other in zip(mine, theirs, strict=False):
        if _stateful(one) != _stateful(other):
            name, which = (one.name, "first") if _stateful(one) else (other.name, "second")
            return (
                f"{name} of the {which} model keeps its states from call to call (stateful), and its partner does not"
            )
    return ""


def _stateless(node: Node) -> Node:
    if not isinstance(node.spec, Recurrent):
        return node
    return replace(node, spec=replace(node.spec, stateful=False, batch_size=None))


def _shape(a: tuple[int | None, ...], b: tuple[int | None, ...]) -> tuple[int | None, ...] | None:
    """The shape of a sample that both read, if there is one."""
    if len(a) != len(b) or any(None not in (one, other) and one != other for one, other in zip(a, b, strict=True)):
        return None
    return tuple(other if one is None else one for one, other in zip(a, b, strict=True))


def _meeting(a: Graph, b: Graph) -> tuple[Graph, Graph] | str:
    """The graphs with the same inputs and outputs, by the names of the first; or why there are none, as a clause.

    They belong together by their names where these are the same, else by their order.
    """
    for what, mine, theirs in (("reads", a.inputs, b.inputs), ("puts out", a.outputs, b.outputs)):
        if len(mine) != len(theirs):
            named = [f"{what} {plural(len(one), 'value')} ({', '.join(x.name for x in one)})" for one in (mine, theirs)]
            return f"the first model {named[0]}, and the second {named[1]}"
    b = replace(b, inputs=_ordered(a.inputs, b.inputs), outputs=_ordered(a.outputs, b.outputs))
    inputs = []
    for one, other in zip(a.inputs, b.inputs, strict=True):
        shape = _shape(one.shape, other.shape)
        if shape is None:
            its = "" if len(a.inputs) == 1 else f" as {one.name}"
            return f"the first model reads samples of the shape {one.shape}{its}, and the second of the shape {other.shape}"
        inputs.append(replace(one, shape=shape))
    names = {other.name: one.name for one, other in zip(a.inputs, b.inputs, strict=True)}
    taken = set(names.values())

    def renamed(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(value, f"{value} of the second" if value in taken else value) for value in values)

    nodes = tuple(
        replace(node, reads=renamed(node.reads), writes=renamed(node.writes), masks=renamed(node.masks))
        for node in b.nodes
    )
    outputs = tuple(
        Output(one.name, renamed((other.value,))[0]) for one, other in zip(a.outputs, b.outputs, strict=True)
    )
    return replace(a, inputs=tuple(inputs)), replace(b, nodes=nodes, inputs=tuple(inputs), outputs=outputs)


def _ordered(mine: tuple[_End, ...], theirs: tuple[_End, ...]) -> tuple[_End, ...]:
    """The inputs or outputs of the second in the order of the first, where they have the same names."""
    named = {one.name: one for one in theirs}
    return tuple(named[one.name] for one in mine) if named.keys() == {one.name for one in mine} else theirs


def _partners(a: Graph, b: Graph) -> tuple[tuple[int, int], ...]:
    """The places of the nodes that belong together: those of which all that they read does, then by order and kind."""
    found = dict[int, int]()
    if not (a.chain and b.chain):
        known = dict[object, list[int]]()
        for j, mark in enumerate(_marks(b)):
            known.setdefault(mark, []).append(j)
        for i, mark in enumerate(_marks(a)):
            if known.get(mark):
                found[i] = known[mark].pop(0)
    mine = [i for i in range(len(a.nodes)) if i not in found]
    theirs = [j for j in range(len(b.nodes)) if j not in found.values()]
    # First those that are the same, and then in the gaps between them those of one kind.
    i = j = 0
    for end, other, size in _matching([_said(a.nodes[k]) for k in mine], [_said(b.nodes[k]) for k in theirs]):
        gaps = mine[i:end], theirs[j:other]
        for k, m, count in _matching([a.nodes[k].kind for k in gaps[0]], [b.nodes[k].kind for k in gaps[1]]):
            found.update(zip(gaps[0][k : k + count], gaps[1][m : m + count], strict=True))
        found.update(zip(mine[end : end + size], theirs[other : other + size], strict=True))
        i, j = end + size, other + size
    return tuple(sorted(found.items()))


def _matching(mine: Sequence[object], theirs: Sequence[object]) -> Iterator[tuple[int, int, int]]:
    """Where the two are the same, and for how long; the last is where both end."""
    for block in SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks():
        yield block.a, block.b, block.size


def _said(node: Node) -> tuple[str, str]:
    """The kind of a node and its options, as something that can be looked up."""
    return node.kind, repr(sorted(node.options.items()))


def _marks(graph: Graph) -> Iterator[object]:
    """For each node what it is, and what all are on which it depends."""
    known: dict[str, int] = {one.name: hash(("input", i)) for i, one in enumerate(graph.inputs)}
    for node in graph.nodes:
        mark = hash((*_said(node), *(known[value] for value in node.reads)))
        known.update({value: hash((mark, i)) for i, value in enumerate(node.writes)})
        yield mark


def _inputs(a: Graph, b: Graph, dtype: str, seed: int) -> Iterator[Arrays]:
    """Inputs that show what each of the two does with masks and words."""
    for size in sizes(a) if a.nodes else ():
        given = probed(a, size, dtype, seed).given
        yield given
        first = next(iter(given.values()))
        other = running.probe(b, len(first), first.shape[1] if first.ndim > 1 else 1, seed)
        if any(not np.array_equal(x, other[name]) for name, x in given.items()):
            with suppress(SpecError):  # the first cannot read it, as the words of another input
                running.run(a, other, "float64")
                yield other


def _lacking(both: _Both) -> Iterator[str]:
    for which, (one, other), graph in ((0, ("first", "second"), both.a), (1, ("second", "first"), both.b)):
        known = {partner[which] for partner in both.partners}
        for i, node in enumerate(graph.nodes):
            if i not in known and not (node.kind == "activation" and _idle(graph, node)):
                yield f"the {one} model has {node.name} ({_what(node)}), for which the {other} has none"


def _what(node: Node) -> str:
    return _written(node) if node.kind == "activation" else node.kind.replace("_", " ")


def _written(activation: Node) -> str:
    """An activation with its parameters."""
    given = ", ".join(f"{name}={value}" for name, value in activation.options.items() if name != "name")
    return f"{activation.options['name']}({given})" if given else str(activation.options["name"])


def _differing(both: _Both) -> Iterator[tuple[int, int, str]]:
    """The places of two partners, and an option that they have differently."""
    for i, j in both.partners:
        one, other = both.a.nodes[i], both.b.nodes[j]
        if one.kind == "activation":
            if not _same_function(one, other):
                yield i, j, "activation"
            continue
        for option, value in one.options.items():
            if value != other.options.get(option):
                yield i, j, option
        if _reading(both, i, j) not in (None, other.reads):
            yield i, j, "reads"


def _reading(both: _Both, i: int, j: int) -> tuple[str, ...] | None:
    """What a node of the second graph would read, if it read what its partner does; None where that is not in it."""
    if both.a.chain and both.b.chain:
        return None  # each reads the one before it, whichever that is
    found = tuple(both.values.get(value, "") for value in both.a.nodes[i].reads)
    return found if all(found) else None


def _same_function(one: Node, other: Node) -> bool:
    """Whether two activations are one function: one may be written with parameters that the other has by default."""
    first, second = map(_on_grid, (one, other))
    return np.allclose(first, second, rtol=1e-12, atol=1e-300)


def _on_grid(activation: Node, of: np.ndarray | None = None) -> np.ndarray:
    """What an activation makes of the numbers of a grid, or of others."""
    ((y, _),) = KINDS["activation"].run(activation, {}, [_grid() if of is None else of], [None], Exact())
    return y


def _grid() -> np.ndarray:
    """Numbers in rows, as an activation reads them: a softmax makes something else of each."""
    grid = np.concatenate([np.linspace(-40, 40, 801), [-1e3, 1e3]])
    return np.stack([grid, grid / 2 + 1, np.full_like(grid, 0.3)], axis=1)


def _slip(both: _Both, i: int, j: int, option: str) -> Slip:
    one, other = both.a.nodes[i], both.b.nodes[j]
    if option == "reads":
        first, second = (" and ".join(node.reads) for node in (one, other))
        back = {theirs: mine for mine, theirs in both.values.items()}
        wrong = replace(one, reads=tuple(back.get(value, "") for value in other.reads))
    else:
        first, second = (_written(s) if option == "activation" else repr(s.options.get(option)) for s in (one, other))
        wrong = _taken(one, other, option)
    try:
        off = both.off(_replaced(both.a, i, wrong), "float64")
    except SpecError:  # it cannot stand there
        off = Off()
    return Slip(one.name, other.name, one.kind, option, first, second, off)


def _taken(node: Node, other: Node, option: str) -> Node:
    """A node with an option of another one of its kind."""
    options = other.options if option == "activation" else {**node.options, option: other.options.get(option)}
    return replace(node, options=options)


def _replaced(graph: Graph, at: int, node: Node) -> Graph:
    return replace(graph, nodes=(*graph.nodes[:at], node, *graph.nodes[at + 1 :]))


def _mended(both: _Both) -> Graph:
    """The second graph with the first one's options."""
    nodes = list(both.b.nodes)
    for i, j, option in _differing(both):
        if option == "reads":
            nodes[j] = replace(nodes[j], reads=_reading(both, i, j) or nodes[j].reads)
        else:
            nodes[j] = _taken(nodes[j], both.a.nodes[i], option)
    for i, j in both.partners:
        one, other = both.a.nodes[i].spec, nodes[j].spec
        if isinstance(one, Recurrent) and isinstance(other, Recurrent):
            # Whether it reads a mask has come of the nodes before it.
            nodes[j] = replace(nodes[j], spec=replace(other, mask=one.mask, masked_output=one.masked_output))
    try:
        return replace(both.b, nodes=tuple(nodes))
    except SpecError:  # together they make none
        return both.b


# ---- A graph and a program.

# So many notes of one kind.
_MOST = 3
# What a forward may do with inputs that are longer, of more rows, or far smaller or larger than those that show the mistakes of a
# graph: cut them off, clip them.
_LONG = (5, 150)
_FAR = (2.0**-10, 2.0**10)


@dataclass(frozen=True)
class _Tried:
    """An input, what the reference of a graph makes of it, and the noise of that; and what a program made of it."""

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
    """A graph, a program, and how the inputs of both are drawn."""

    graph: Graph
    program: Program
    dtype: str
    seed: int

    def tried(self, graph: Graph) -> list[_Tried]:
        """Inputs that show the mistakes of a graph, what its reference makes of them, and what the program does."""
        drawn = [one for one in self._drawn(graph) if _stays_finite(graph, one, self.dtype)]
        ran = self.program.run([one.x for one in drawn])
        return [replace(one, ran=out) for one, out in zip(drawn, ran, strict=True)]

    def _drawn(self, graph: Graph) -> Iterator[_Tried]:
        """Inputs of several sizes, and of larger and smaller numbers: some wake what others leave asleep."""
        batch = self.program.shape[0] if self.program.shape else None
        usual = [*sizes(graph), *([_LONG] if numbers(graph) <= LIGHT else [])]
        known = dict.fromkeys((batch or rows, _steps(graph, steps)) for rows, steps in usual)
        masking = any(node.kind == "masking" for node in graph.nodes)
        for number, size in enumerate(known):
            x, clean, deviation = (sole(one) for one in probed(graph, size, self.dtype, self.seed))
            yield _Tried(x, clean, deviation)
            # The long one takes long, and the first one is the one that all else is tried with.
            scales = (*_SCALES[1:], *(_FAR if not number else ())) if size[1] != _LONG[1] else ()
            for scale in scales if x.dtype.kind == "f" and not masking else ():
                yield self._measured(graph, (x * scale).astype(x.dtype))
            if not number and size[1] is not None and not any(graph.masked.values()):
                yield self._measured(graph, _padded(x))

    def _measured(self, graph: Graph, x: np.ndarray) -> _Tried:
        found = measured(graph, {graph.inputs[0].name: x}, self.dtype)
        return _Tried(x, sole(found.clean), sole(found.deviation))

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
                by = "of another shape" if got is None else _strange(got) or f"off by {off.max_abs:.2g}"
                return f"its first call is right, and call {number} in turn is {by}"
        return ""

    def at_random(self, tried: Sequence[_Tried], name: str) -> str:
        """By how much a program puts out something else when it is called with the same input again; empty if it does not."""
        first, others = [one.ran.outputs.get(name) for one in tried], self._again(tried, name, 1)
        if all(map(_identical, first, others)):
            return ""
        off = _worst(
            Off(_CERTAIN, _CERTAIN) if y is None or z is None else replace(one, clean=y).off(z)
            for one, y, z in zip(tried, first, others, strict=True)
        )
        # What is more than rounding tells. So does less, where with the same random numbers it puts out the same to the last
        # digit, so that they are why, and no sums that are added up in an order that is not fixed.
        if not (off.differs or all(map(_identical, first, self._again(tried, name, 0)))):
            return ""
        return "at times no number" if off.incomparable else f"off by up to {off.max_abs:.2g}"

    def _again(self, tried: Sequence[_Tried], name: str, seed: int) -> list[np.ndarray | None]:
        return [ran.outputs.get(name) for ran in self.program.run([one.x for one in tried], seed)]

    def otherwise(self, name: str) -> tuple[str, str]:
        """Where a program that is wrong is right: with time before the batch, or with padding at the end only.

        The end of a sentence, and the option of `xframe.verify` that asks for that; both are empty where it is wrong there, too.
        """
        for graph, swapped, words, option in (
            (self.graph, True, "they agree when it is given time before the batch (batch_first=False, time_major)", ""),
            (
                _right_padded(self.graph),
                False,
                "that is with padding before and within sequences, too, and with padding after the end only they agree: if there "
                "will be no other, ask for that (--right-padded, in Python right_padded=True)",
                "right_padded",
            ),
        ):
            tried = [] if graph is None else [one for one in self._drawn(graph) if one.x.ndim > 1 or not swapped]
            again = self.program.run([np.swapaxes(one.x, 0, 1) if swapped else one.x for one in tried])
            if tried and all(_off(one, ran.outputs.get(name), swapped) for one, ran in zip(tried, again, strict=True)):
                return f"; {words}", option
        return "", ""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _stays_finite(graph: Graph, one: _Tried, dtype: str) -> bool:
    """Whether a graph puts out numbers on an input, in the float type of the program too."""
    if not np.isfinite(one.clean).all():
        return False
    y = sole(running.run(graph, one.x, "float32" if dtype == "bfloat16" else dtype))  # NumPy has no bfloat16
    return bool(np.isfinite(y).all())


def _steps(graph: Graph, steps: int | None) -> int | None:
    """A length that a graph allows: where it fixes its own, or has no time, that of its probes."""
    own = next(sizes(graph))[1]
    return own if own is None or graph.inputs[0].shape[0] is not None else steps


def _padded(x: np.ndarray) -> np.ndarray:
    """An input whose last time steps are zeros, in each row more of them, as in batches that were padded."""
    ends = [max(1, x.shape[1] - 1 - row) for row in range(len(x))]
    kept = np.arange(x.shape[1]) < np.array(ends)[:, None]
    return x * kept.reshape(*kept.shape, *[1] * (x.ndim - 2)).astype(x.dtype)


def _identical(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether two outputs are the same to the last digit, or both lack."""
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _strange(y: np.ndarray) -> str:
    """What there is among numbers that is none; empty where all are."""
    if y.dtype.kind != "f" or np.isfinite(y).all():
        return ""
    return "NaN" if np.isnan(y).any() else "infinite"


def _off(one: _Tried, got: np.ndarray | None, swapped: bool) -> bool:
    """Whether what was put out is what it should be, its first two axes exchanged if need be."""
    if got is None:
        return False
    return not one.off(got).differs or (swapped and got.ndim > 1 and not one.off(np.swapaxes(got, 0, 1)).differs)


def _right_padded(graph: Graph) -> Graph | None:
    """The graph for masks that are padding after the end; None where no mask reaches a layer, or it has no others."""
    try:
        return promised(graph)
    except SpecError:
        return None


def beside(graph: Graph, program: Program, dtype: str, seed: int, titles: tuple[str, str]) -> Whole:
    """Run a program on what shows the mistakes of a graph, and hold it against the graph's reference.

    Args:
        graph: what the outputs should be.
        program: what is run, as it is.
        dtype: the narrowest float type of the two.
        seed: of the inputs.
        titles: what the graph's side is called, and the program's.

    Raises:
        FileError, LayoutError: the graph's numbers cannot be read.
    """
    if not graph.single:
        ends = [plural(len(one), what) for one, what in ((graph.inputs, "input"), (graph.outputs, "output"))]
        return Whole(
            "inconclusive", f"{titles[0]} has {' and '.join(ends)}, and models that are only run have one of each"
        )
    keeping = [node.name for node in graph.nodes if _stateful(node)]
    graph, (mine, theirs) = _computing(graph), titles
    if program.shape is not None:
        shape = _shape(graph.inputs[0].shape, program.shape[1:])
        if shape is None:
            why = f"{mine} reads samples of the shape {graph.inputs[0].shape}, and {theirs} of the shape {program.shape[1:]}"
            return Whole("different", why, off=Off(_CERTAIN, _CERTAIN))
        graph = replace(graph, inputs=(replace(graph.inputs[0], shape=shape),))
    both = _Beside(graph, program, dtype, seed)
    every = both.tried(graph)
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
        known = (both.otherwise(one) for one in tried[0].ran.outputs)
        words, option = next((found for found in known if found[0]), ("", ""))
        off = Off(_CERTAIN, _CERTAIN)
        return Whole("different", why + words, off=off, inputs=len(tried), notes=tuple(notes), agrees_with=option)
    if rest := [key for key in tried[0].ran.outputs if key != name]:
        notes.append(f"Of what {theirs} puts out, {name} was compared, and not {', '.join(rest)}.")
    if by := both.at_random(tried, name):
        why = f"{theirs} puts out something else each time it is called with the same input ({by})"
        return Whole("different", why, off=off, inputs=len(tried), notes=tuple(notes))
    if strange := next(filter(None, (_strange(one.ran.outputs[name]) for one in tried)), ""):
        why = f"{theirs} puts out what is {strange}, where {mine} puts out numbers"
        return Whole("different", why, off=off, inputs=len(tried), notes=tuple(notes))
    if off.differs:
        # What takes the outputs only a little nearer may do so by chance.
        made = next((one for one in _made(graph, tried, name) if one.off.noise_ratio * LIMIT <= off.noise_ratio), None)
        words, option = both.otherwise(name) if made is None else (f"; they agree with {made.name}", "")
        why = f"the outputs of {mine} and {theirs} differ {off}{words}"
        return Whole("different", why, off=off, inputs=len(tried), notes=tuple(notes), made=made, agrees_with=option)
    if keeping:
        why = (
            f"{keeping[0]} of {mine} keeps its states from call to call (stateful), and only first calls, from zero states, "
            "were judged"
        )
        return Whole("inconclusive", why, off=off, inputs=len(tried), notes=tuple(notes))
    if told := both.in_turn(tried, name):
        why = f"{theirs} hands something on from one call to the next: {told}"
        return Whole("different", why, off=off, inputs=len(tried), notes=tuple(notes))
    if unseen := _unseen(graph, tried, dtype):
        above = f" above the rounding noise of {dtype}" if share(dtype) == 1 else ""
        why = f"on the inputs that were tried, nothing shows {' and '.join(unseen[:_MOST])}{above}"
        return Whole("inconclusive", why, off=off, inputs=len(tried), notes=tuple(notes))
    return Whole(
        "equivalent", off=off, inputs=len(tried), notes=(*notes, f"{theirs} was run on {_reach(graph, tried)}.")
    )


def _nearest(tried: Sequence[_Tried]) -> tuple[str, Off]:
    """The output that is nearest to the graph's on all inputs, and how far it is off; no name if none has its shapes."""
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
def _made(graph: Graph, tried: Sequence[_Tried], name: str) -> Iterator[Made]:
    """The mistakes in what runs between the layers by which the graph puts out what the program does."""
    for wrong in slipped(graph):
        offs = []
        for one in tried:
            try:
                clean = sole(running.run(wrong.graph, one.x, "float64"))
            except (
                SpecError
            ):  # no such input can be given to it: a tanh before a mask is made leaves none that was promised
                break
            if clean.shape != one.clean.shape:
                break
            offs.append(replace(one, clean=clean).off(one.ran.outputs[name]))
            if offs[-1].differs:
                break
        else:
            yield Made(wrong.option, wrong.name, wrong.mend, _worst(offs))


def _reach(graph: Graph, tried: Sequence[_Tried]) -> str:
    """How far the inputs went: beyond that a program may do something else."""
    found = [_span([len(one.x) for one in tried], "row")]
    if next(sizes(graph))[1] is not None:
        found.append(_span([one.x.shape[1] for one in tried], "time step"))
    if tried[0].x.dtype.kind == "f":
        largest = [float(np.abs(one.x).max()) for one in tried]
        found.append(f"largest numbers from {min(largest):.1g} to {max(largest):.1g}")
    return f"inputs of {', '.join(found)}"


def _span(sizes: Sequence[int], what: str) -> str:
    """From the least to the most."""
    return f"{min(sizes)} to {plural(max(sizes), what)}" if min(sizes) < max(sizes) else plural(sizes[0], what)


def _unseen(graph: Graph, tried: Sequence[_Tried], dtype: str) -> list[str]:
    """The nodes whose mistakes none of the inputs would have shown."""
    found = []
    for i, node in enumerate(graph.nodes):
        change: Callable[[np.ndarray], np.ndarray] = partial(_touched, by=share(dtype))
        wrong, what = graph, f"what {node.name} computes"
        if node.kind == "activation":
            wrong, change = _replaced(graph, i, replace(node, options={"name": "linear"})), np.asarray
            what = f"what {_written(node)} does in {node.name}"
        needed = not _idle(graph, node) if node.kind == "activation" else node.spec is not None or bool(node.params())
        if needed and not any(_shows(wrong, node.writes[0], change, one) for one in tried):
            found.append(what)
    return found


def _idle(graph: Graph, node: Node) -> bool:
    """Whether an activation changes nothing that the activation before it can put out: relu after sigmoid."""
    before = next((one for one in graph.nodes if one.writes == node.reads), None)
    if before is None or before.kind != "activation":
        return False
    first = _on_grid(before)
    return np.array_equal(first, _on_grid(node, first.copy()))


def _touched(y: np.ndarray, by: float) -> np.ndarray:
    """A node's output with each number changed by its own share."""
    own = by * np.random.default_rng(y.shape[-1]).uniform(0.5, 1.0, y.shape)
    return y * (1 + own) + own * np.abs(y).max()


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _shows(graph: Graph, value: str, change: Callable[[np.ndarray], np.ndarray], one: _Tried) -> bool:
    """Whether the output of a graph differs by more than rounding from the right one, if a value in it is changed."""
    return one.off(sole(running.altered(graph, one.x, value, change))).differs
