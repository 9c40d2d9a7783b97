"""The layout of each kind of result: headings, paragraphs, lists and tables, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import singledispatch
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any

from xframe.adapters import title_of
from xframe.assumptions import NumberSearch
from xframe.counts import Count
from xframe.explanation import Explanation
from xframe.layout import Native
from xframe.report import baseline, diagnosis, doctor, figures, files, power, run
from xframe.report.blocks import Block, Heading, Items, Paragraph, Table, conclusion, ratio_text
from xframe.spec import plural

if TYPE_CHECKING:
    from xframe.demonstration import Demonstration
    from xframe.suite import Suite
    from xframe.verdict import Check, Verdict

__all__ = ["document"]


def document(result: Any) -> list[Block]:
    """The blocks of a result."""
    if isinstance(result, list | tuple):
        return [block for one in result for block in _blocks(one)]
    return list(_blocks(result))


@singledispatch
def _blocks(result: Any) -> Iterator[Block]:
    # These need NumPy, which explaining does without; they are told apart by name.
    writers: dict[str, Callable[[Any], Iterator[Block]]]
    writers = {"Verdict": _verdict, "Suite": _suite, "Demonstration": _demonstration}
    writers |= {"Findings": files.inspection, "Verification": files.verification, "Conversion": files.conversion}
    writers |= {"Diagnosis": diagnosis.diagnosis, "Diagnoses": diagnosis.diagnoses}
    writers["Run"] = run.layout
    writers |= {"Examination": doctor.examination, "Recording": baseline.recording, "Checking": baseline.checking}
    yield from writers[type(result).__name__](result)


# Counts.


@_blocks.register
def _explanation(e: Explanation) -> Iterator[Block]:
    yield Heading(str(e.spec), 1)
    if e.counts:
        yield _summary(e.counts)
    yield Heading("Why")
    yield Items((*e.reasons, *e.unsupported.values()))
    yield Heading("Tensors")
    if e.counts:
        yield figures.tensors(e.spec, e.counts)
    yield _tensors(e.counts)


def _summary(counts: Mapping[str, Count]) -> Table:
    """One row a framework: the three numbers and the arithmetic."""
    rows = [
        (c.packing.title, *(f"{n:,}" for n in (c.stored, c.effective, c.redundant)), f"{c.formula} = {c.arithmetic}")
        for c in counts.values()
    ]
    headers = ("framework", "stored", "effective", "redundant", "stored is")
    return Table(headers, tuple(rows), frozenset(headers[1:4]))


def _tensors(counts: Mapping[str, Count]) -> Table:
    """Every tensor of every framework, one below the other."""
    rows = []
    for c in counts.values():
        for i, native in enumerate(c.tensors):
            title = f"{c.packing.title}: {', '.join(c.layers)}" if i == 0 else ""
            rows.append((title, native.name, _shape(native), _symbols(native), f"{native.count:,}"))
    headers = ("framework", "tensor", "shape", "", "count")
    return Table(headers, tuple(rows), frozenset({"count"}))


def _shape(native: Native) -> str:
    return str(native.shape)


def _symbols(native: Native) -> str:
    return f"({', '.join(native.symbols)}{',' if len(native.symbols) == 1 else ''})"


def _side_by_side(counts: Mapping[str, Count]) -> Iterator[Block]:
    """The tensors of a few frameworks beside each other, those with the same role in one row."""
    prefixes = {name: figures.prefix([t.name for t in c.tensors]) for name, c in counts.items()}
    columns = []
    for name, c in counts.items():
        by_place = groupby(c.tensors, key=lambda t: (t.leaves[0].layer, t.leaves[0].direction))
        columns.append([[(t.name[len(prefixes[name]) :], _shape(t), f"{t.count:,}") for t in ts] for _, ts in by_place])
    rows = [
        tuple(cell for entry in row for cell in entry)
        for place in zip_longest(*columns, fillvalue=[])
        for row in zip_longest(*place, fillvalue=("", "", ""))
    ]
    for label, values in (
        ("stored", [c.stored for c in counts.values()]),
        ("effective", [c.effective for c in counts.values()]),
        ("redundant", [c.redundant for c in counts.values()]),
    ):
        rows.append(tuple(cell for value in values for cell in (label, "", f"{value:,}")))
    headers = tuple(text for c in counts.values() for text in (f"{c.packing.title} tensor", "shape", "count"))
    yield Table(headers, tuple(rows), frozenset({"count"}))
    named = [f"{counts[name].packing.title} names begin with {p}" for name, p in prefixes.items() if p]
    if named:
        yield Paragraph("; ".join(named) + ".")


# Where a number comes from.


@_blocks.register
def _number(s: NumberSearch) -> Iterator[Block]:
    yield Heading(f"{s.number:,} parameters in {s.spec}", 1)
    best = s.matches[0]
    given = f"{best.title} stores {s.as_given[best.title]:,}" if best.title in s.as_given else ""
    if s.exact and best.assumption == "as given":
        yield Paragraph(f"{s.number:,} is what {best.title} stores for this layer as it was given.", strong=True)
    elif s.exact:
        as_given = _as_given(s)
        yield Paragraph(
            f"{s.number:,} is {best.title} with {best.assumption}."
            + (f" As given ({as_given}), {given}." if given else ""),
            strong=True,
        )
    else:
        yield Paragraph(f"No framework and no assumption gives {s.number:,}: it is {s.missing}.", strong=True)
    headers = ("framework", "assumption", "count")
    rows = tuple((m.title, m.assumption, f"{m.count:,}") for m in s.matches)
    yield Heading("Matches" if s.exact else "Nearest")
    yield Table(headers, rows, frozenset({"count"}))
    yield Heading("As given")
    yield Table(("framework", "stored"), tuple((t, f"{n:,}") for t, n in s.as_given.items()), frozenset({"stored"}))


def _as_given(s: NumberSearch) -> str:
    """The layer's options in the words that assumptions use."""
    spec = s.spec
    words = [f"reset_after={spec.reset_after}"] if spec.reset_after is not None else []
    words.append(f"features={spec.input_size}")
    words.append("two directions" if spec.bidirectional else "one direction")
    return ", ".join(words)


# Verdicts.


def _verdict(v: Verdict) -> Iterator[Block]:
    yield Heading(str(v.model), 1)
    for layer in v.layers:
        if len(v.layers) > 1:
            yield Heading(f"{layer.name[0].upper()}{layer.name[1:]}: {layer.spec}")
        yield from _side_by_side(layer.counts)
        yield _summary(layer.counts)
        yield figures.tensors(layer.spec, layer.counts)
        yield Items(layer.reasons)
    if len(v.layers) > 1:
        yield Heading("The model")
        yield Paragraph("; ".join(_total(v, name) for name in v.layers[0].counts) + ".")
        if len(v.counted) < len(v.layers):
            yield Paragraph("A layer that stands in several places has one set of weights and is counted once.")
    yield Heading("Do they compute the same?")
    yield Paragraph(_how(v))
    if v.checks:
        yield _check_table(v)
    if drawing := figures.over_time(v.checks, v.limit):
        yield drawing
    yield Items(tuple(_findings(v)))
    if v.diagnosis is not None:
        yield Heading("Why they differ")
        yield from _why(v)
    yield conclusion(v.status, v.reason, v.scope)


def _why(v: Verdict) -> Iterator[Block]:
    assert v.diagnosis is not None
    yield Paragraph(v.diagnosis.reason)
    yield from diagnosis.explained(v.diagnosis)


def _total(v: Verdict, name: str) -> str:
    stored = [layer.counts[name].stored for layer in v.counted if name in layer.counts]
    effective = [layer.counts[name].effective for layer in v.counted if name in layer.counts]
    title = v.layers[0].counts[name].packing.title
    return f"{title} stores {_added(stored)}, of which {_added(effective)} are effective"


def _added(numbers: Sequence[int]) -> str:
    return f"{' + '.join(f'{n:,}' for n in numbers)} = {sum(numbers):,}"


def _how(v: Verdict) -> str:
    shape = f"{v.probe['batch']} sequences of {v.probe['steps']} time steps"
    starts = {c.initial_state for c in v.checks}
    masks = {s.partition(", ")[2] for s in starts} - {""}
    also = f", without a mask and with {plural(len(masks), 'mask')}" if masks else ""
    also += ", and a second call that carries the states on" if any(s.startswith("carried") for s in starts) else ""
    return (
        f"Probe: {shape}, seed {v.probe['seed']}, initial states zero and given{also}, every number distinct and away from "
        "zero. "
        "Measured against the NumPy reference in float64 with the same parameters: the largest absolute difference over "
        f"all outputs, and the largest in units of the rounding noise of that element (limit {v.limit:g})."
    )


def _check_table(v: Verdict) -> Table:
    """One row a layer, framework and origin of the weights; the dtypes beside each other."""
    dtypes = list(dict.fromkeys(c.dtype for c in v.checks))
    groups: dict[tuple[str, str, str], list[Check]] = {}
    for check in v.checks:
        groups.setdefault((check.layer, check.framework, check.weights), []).append(check)
    rows = []
    for (layer, framework, weights), checks in groups.items():
        outputs = ", ".join(dict.fromkeys(c.output for c in checks))
        cells: list[str] = []
        for dtype in dtypes:
            cells += _figures([c for c in checks if c.dtype == dtype])
        rows.append((layer, title_of(framework), weights, outputs, *cells, _worst_status(checks)))
    figures = tuple(text for dtype in dtypes for text in (f"{dtype} off by", "x noise"))
    headers = ("layer", "framework", "weights", "outputs", *figures, "status")
    return Table(headers, tuple(rows), frozenset(figures))


def _figures(checks: Sequence[Check]) -> list[str]:
    known = [c for c in checks if c.max_abs is not None and c.noise_ratio is not None]
    if not known or len(known) < len(checks):
        return ["-", "-"]
    return [f"{max(c.max_abs or 0 for c in known):.1e}", ratio_text(max(c.noise_ratio or 0 for c in known))]


def _worst_status(checks: Iterable[Check]) -> str:
    found = {c.status for c in checks}
    return next((s for s in ("different", "inconclusive") if s in found), "equivalent")


def _findings(v: Verdict) -> Iterator[str]:
    moved = v.parameters
    if moved and all(p.equal for p in moved):
        yield f"Parameters: equal to the last bit in {len(moved)} of {len(moved)} pairs."
    for p in moved:
        if not p.equal:
            why = "by rounding alone" if p.rounding else f"most at {p.where}"
            yield f"Parameters of {p.a} and {p.b} ({p.layer}, {p.dtype}) differ by up to {p.max_abs:.2g}, {why}."
    yield from power.sentences(v.power, "this probe would have shown", "would have been")
    yield from (f"Not compared: {text}" for text in v.not_compared.values())
    yield from v.notes
    versions = ", ".join(f"{name} {text}" for name, text in v.environment.items() if name != "platform")
    yield f"Environment: {versions}."


def _suite(s: Suite) -> Iterator[Block]:
    yield Heading(f"The {s.name} grid: {len(s.verdicts)} configurations", 1)
    yield from _by_value(s) if any(s.values) else _by_configuration(s)
    yield Items(tuple(s.notes))
    if s.first_wrong is not None and s.first_wrong.diagnosis is not None:
        yield Heading(f"Why the first that differs does: {s.first_wrong.model}")
        yield from _why(s.first_wrong)
    yield conclusion(s.status, s.reason, s.scope)


def _by_value(s: Suite) -> Iterator[Block]:
    """One row for each value of each option, over all configurations that have it."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for values, verdict in zip(s.values, s.verdicts, strict=True):
        for pair in values.items():
            groups.setdefault(pair, []).append(verdict)
    from xframe.suite import OPTIONS  # which needs NumPy

    rows = []
    for option, value in [(o, v) for o, values in OPTIONS.items() for v in values if (o, v) in groups]:
        verdicts = groups[option, value]
        outputs = sum(len(v.checks) for v in verdicts)
        worst = [_figures([c for v in verdicts for c in v.checks if c.dtype == d])[1] for d in ("float64", "float32")]
        status = _worst_status(c for v in verdicts for c in v.checks)
        status = status if status != "equivalent" or all(verdicts) else "inconclusive"
        rows.append((option, value, f"{len(verdicts):,}", f"{outputs:,}", *worst, status))
    headers = ("option", "value", "configurations", "outputs", "float64 x noise", "float32 x noise", "status")
    yield Table(headers, tuple(rows), frozenset(headers[2:-1]))


def _by_configuration(s: Suite) -> Iterator[Block]:
    titles = list(dict.fromkeys(c.packing.title for v in s.verdicts for c in v.layers[0].counts.values()))
    headers = ("configuration", *titles, "effective", "float64 x noise", "float32 x noise", "status")
    rows = []
    for v in s.verdicts:
        counts = {c.packing.title: c for c in v.layers[0].counts.values()}
        effective = next(iter(counts.values())).effective
        worst = [_figures([c for c in v.checks if c.dtype == d])[1] for d in ("float64", "float32")]
        compared = {t for t, c in counts.items() if c.packing.name not in v.not_compared}
        stored = [f"{counts[t].stored:,}" if t in compared else "no" for t in titles]
        rows.append((str(v.model), *stored, f"{effective:,}", *worst, v.status))
    yield Table(headers, tuple(rows), frozenset(headers[1:-1]))


def _demonstration(d: Demonstration) -> Iterator[Block]:
    yield Heading(f"Moving {d.constant:g} from the input bias to the recurrent bias: {d.spec}", 1)
    yield Paragraph(
        "In each gate apart, the constant is taken from the input bias b and added to the recurrent bias rb, so that their sum "
        "stays as it is; then the NumPy reference runs again on the same input, in float64."
    )
    headers = ("gate", "largest change of an output", "in units of rounding noise", "so the two biases are")
    rows = tuple(
        (
            m.gate,
            f"{m.change:.1e}",
            ratio_text(m.noise_ratio),
            "one number, stored twice" if m.redundant else "two numbers",
        )
        for m in d.moves
    )
    yield Table(headers, rows, frozenset(headers[1:3]))
    yield Paragraph(d.conclusion, strong=True)
