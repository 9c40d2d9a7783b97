"""Explaining the counts: every sentence is derived from the layout tables and the cell's description."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xframe.cells import get_cell
from xframe.counts import Count, count, redundant_biases, terms, unsupported
from xframe.layout import Leaf
from xframe.spec import Layer, Recurrent, Sequential, plural

__all__ = ["Explanation", "explain"]


_LONGEST_SUM = 16


@dataclass(frozen=True)
class Explanation:
    """Why the frameworks' counts of one layer are what they are.

    Attributes:
        spec: the layer.
        counts: by framework.
        unsupported: by framework that does not have the layer, the reason.
        reasons: sentences, the most important first.
    """

    spec: Layer
    counts: dict[str, Count]
    unsupported: dict[str, str]
    reasons: tuple[str, ...]

    def report(self, format: str = "text") -> str:
        """The explanation as ``text``, ``markdown``, ``html`` or ``json``."""
        from xframe.report import render

        return render(self, format)


def explain(spec: Layer | Sequential) -> Explanation | list[Explanation]:
    """Explain the counts of a layer in every framework; for a chain, a list with one explanation a layer."""
    if isinstance(spec, Sequential):
        return [_explain(layer) for layer in spec.layers]
    return _explain(spec)


def _explain(spec: Layer) -> Explanation:
    counts = count(spec)
    return Explanation(spec, counts, unsupported(spec), tuple(reasons(spec, counts)))


def reasons(spec: Layer, counts: dict[str, Count]) -> Iterator[str]:
    """The sentences, for the frameworks given."""
    yield _needed(spec, next(iter(counts.values()))) if counts else f"No framework has {spec}."
    if isinstance(spec, Recurrent):
        yield from _stacking(spec)
        yield from _two_biases(spec, counts)
        yield from _inside_reset(spec, counts)
        yield from _not_counted(spec)
        for one in counts.values():
            if why := one.packing.why_ours(spec):
                yield f"{one.packing.title}: {one.packing.ours}, because {why}."
    for one in counts.values():
        yield from (f"{one.packing.title}: {note}" for note in one.packing.notes(spec))


def _needed(spec: Layer, one: Count) -> str:
    """What any implementation must keep, in numbers."""
    leaves = [leaf for native in one.tensors for leaf in native.leaves]
    spare = {leaf.key for leaf in redundant_biases(leaves, spec)}
    sizes = terms((leaf for leaf in leaves if leaf.key not in spare), spec)
    if not isinstance(spec, Recurrent):
        bias = ", and one bias a unit" if spec.bias else ""
        return f"A dense layer has one weight for each input and unit{bias}: {_sum(sizes)}."
    if spec.backward or spec.stacked:
        kept = [leaf for leaf in leaves if leaf.key not in spare]
        return _needed_apart(spec, kept)
    cell = get_cell(spec.cell)
    gates = f", for each of its {len(cell.gates)} gates ({' '.join(cell.gates)})" if len(cell.gates) > 1 else ""
    parts = [
        "an input kernel (features x hidden)",
        f"a recurrent kernel ({'proj' if spec.proj_size else 'hidden'} x hidden)",
    ]
    if spec.bias:
        parts.append("a bias (hidden)")
    if spec.bias and (inner := [gate for gate in cell.gates if gate not in cell.folds(spec)]):
        gates += f", and a second bias in {' and '.join(inner)}"
    if spec.proj_size:
        gates += ", and one projection (hidden x proj)"
    return (
        f"One step of {_article(cell.title)} needs {', '.join(parts[:-1])} and {parts[-1]}{gates}: {_sum(sizes)}. "
        "The number of time steps does not matter, because every step uses the same weights."
    )


def _needed_apart(spec: Recurrent, leaves: list[Leaf]) -> str:
    """The same where cells differ: of each by itself."""
    found: list[str] = []
    for layer, direction in spec.places:
        part = spec.part(direction, layer)
        where = ("backward " if direction else "forward ") * spec.bidirectional
        size = f"({part.hidden_size})" * bool(spec.stacked)
        numbers = _sum(terms((leaf for leaf in leaves if leaf.key[:2] == (layer, direction)), spec))
        found.append(f"the {where}{get_cell(part.cell).title}{size} {'' if found else 'needs '}{numbers}")
    found[0] = found[0].replace("the", "The", 1) + " numbers"
    return ", ".join(found) + "."


def _not_counted(spec: Recurrent) -> Iterator[str]:
    """Options that change no count, and what they do."""
    if spec.go_backwards:
        yield "go_backwards reads time from the end and does not flip the output back; it changes no count."
    if spec.mask:
        what = {"repeat": "repeats its output before", "zero": "puts out zeros"}[str(spec.masked_output)]
        yield f"At a masked time step the layer keeps its states and {what}; masks change no count."
    if spec.stateful:
        yield "A stateful layer keeps its states from call to call; they are not parameters and are not counted."
    rates = {
        "input_dropout": "on the input features, the same ones at every time step",
        "recurrent_dropout": "on the state that the recurrent kernel reads, the same entries at every time step",
        "dropout": "on the way from one layer to the next, at each time step by itself",
    }
    for name, where in rates.items():
        if rate := getattr(spec, name):
            yield f"{name}={rate:g} acts in training only, {where}; it has no parameters and does nothing at inference."


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "AEIOL" else f"a {noun}"


def _sum(sizes: list[int]) -> str:
    if len(sizes) > _LONGEST_SUM:
        return f"{sum(sizes)} in all"
    return f"{' + '.join(str(s) for s in sizes)} = {sum(sizes)}" if len(sizes) > 1 else str(sizes[0])


def _stacking(spec: Recurrent) -> Iterator[str]:
    if spec.backward:
        yield f"Bidirectional means two complete layers, and here the backward one is another: {spec.backward}."
    elif spec.bidirectional:
        yield "Bidirectional means two complete layers, one for each direction of time, so everything is there twice."
    if spec.stacked:
        yield (
            "Stacked cells run one after the other at each time step, inside a direction; each later one reads the state h of "
            "the one before it."
        )
    if spec.bidirectional and spec.merge_mode not in ("concat", None):
        yield f"merge_mode={spec.merge_mode!r} makes one output of {spec.output_size} features of both directions."
    if spec.num_layers > 1:
        below = (
            f"2*{spec.state_size} = {spec.output_size}" if spec.output_size > spec.state_size else str(spec.state_size)
        )
        yield (
            f"Only the first layer reads the {plural(spec.input_size, 'feature')}; each later one reads what the layer "
            f"below puts out ({below})."
        )


def _two_biases(spec: Recurrent, counts: dict[str, Count]) -> Iterator[str]:
    """For each framework that stores biases of which only the sum counts: which, how many, and why it does so."""
    for one in counts.values():
        leaves = [leaf for native in one.tensors for leaf in native.leaves]
        spare = redundant_biases(leaves, spec)
        if not spare:
            continue
        first = [leaf for leaf in spare if leaf.layer == spare[0].layer]
        folds = get_cell(spec.cell).folds(spec)
        everywhere = spec.backward or spec.stacked or len(folds) == len(get_cell(spec.cell).gates)
        where = "" if everywhere else f" of the gates {' and '.join(folds)}"
        why = (
            f" ({one.packing.why_two_biases[0].upper()}{one.packing.why_two_biases[1:]}.)"
            if one.packing.why_two_biases
            else ""
        )
        yield (
            f"{one.packing.title} stores {one.stored} = {one.formula}: it keeps two bias vectors{where}, "
            f"{_bias_names(one, first[0])}, which are only ever added to each other, so {plural(one.redundant, 'number')} "
            f"could be left out without changing what the layer can compute.{why}"
        )


def _bias_names(one: Count, spare: Leaf) -> str:
    """The native tensors that hold a redundant bias and its partner."""
    partner = spare.key._replace(role="bias")
    homes = [n.name for n in one.tensors if partner in {f.key for f in n.leaves}]
    homes += [n.name for n in one.tensors if spare.key in {f.key for f in n.leaves} and n.name not in homes]
    return " and ".join(homes) if len(homes) > 1 else f"both in {homes[0]}"


def _inside_reset(spec: Recurrent, counts: dict[str, Count]) -> Iterator[str]:
    parts = [(part := spec.part(direction, layer), get_cell(part.cell)) for layer, direction in spec.places]
    yield from dict.fromkeys(
        cell.why_not_folded for part, cell in parts if part.bias and set(cell.folds(part)) != set(cell.gates)
    )
    if spec.reset_after is not None:
        other = Recurrent(**{**spec.options(), "reset_after": not spec.reset_after})
        for name, changed in count(other).items():
            if name in counts and changed.stored != counts[name].stored:
                yield (
                    f"With reset_after={other.reset_after}, {changed.packing.title} stores {changed.stored} instead of "
                    f"{counts[name].stored}."
                )
