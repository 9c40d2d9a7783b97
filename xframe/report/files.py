"""The layout of what was found in model files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from xframe.report import diagnosis
from xframe.report.blocks import Block, Heading, Items, Paragraph, Table, conclusion, ratio_text, shortened
from xframe.spec import plural

if TYPE_CHECKING:
    from xframe.conversion import Conversion, Piece
    from xframe.files import StoredTensor
    from xframe.proof import Trial
    from xframe.recognition import Findings, FoundLayer, Reading
    from xframe.verification import Pair, Verification
    from xframe.whole import Whole

__all__ = ["conversion", "inspection", "verification"]

# A layer that an exporter took apart is dozens of operations. JSON has all.
_MOST_OPAQUE = 10


def inspection(f: Findings) -> Iterator[Block]:
    from xframe.files import FORMATS

    yield Heading(str(f.file.path), 1)
    tensors = f.file.tensors.values()
    numbers = sum(tensor.count for tensor in tensors)
    words = ", ".join(shortened(f"{name} {text}") for name, text in f.file.metadata.items() if text)
    title = FORMATS[f.file.format][0]
    yield Paragraph(
        f"{title}{f' ({words})' if words else ''}: {plural(len(tensors), 'tensor')}, {plural(numbers, 'number')}."
    )
    if f.layers:
        yield Heading("Recurrent and dense layers")
        yield Table(("layer", "is", "packed as", "numbers"), tuple(_found_rows(f)), frozenset({"numbers"}))
        yield Items(tuple(_found_notes(f)))
    if f.others:
        yield Heading("Other layers")
        rows = [
            (other.name if i == 0 else "", other.kind if i == 0 else "", name, _stored(f.file.tensors[tensor]))
            for other in f.others
            for i, (name, tensor) in enumerate(other.tensors.items())
        ]
        yield Table(("layer", "kind", "tensor", "holds"), tuple(rows))
    if f.opaque:
        yield Heading("Runs also")
        more = len(f.opaque) - _MOST_OPAQUE
        yield Items((*f.opaque[:_MOST_OPAQUE], *([f"and {more} more"] if more > 0 else [])))
    if f.unconsumed:
        yield Heading("Tensors that nothing explains")
        yield Table(("tensor", "holds"), tuple((name, _stored(f.file.tensors[name])) for name in f.unconsumed))
    yield Items(f.warnings)
    yield Paragraph(_converts(f))


def _converts(f: Findings) -> str:
    """Whether the file converts whole."""
    why = f.obstacles
    if not why:
        return f"Converts whole: yes{'' if f.file.config else '; it is one layer'}."
    from xframe.convertible import listed  # which needs NumPy

    return f"Converts whole: no; {listed(why)}."


def _stored(tensor: StoredTensor) -> str:
    return f"{tensor.dtype} {tensor.shape}"


def _found_rows(f: Findings) -> Iterator[tuple[str, ...]]:
    for layer in f.layers:
        numbers = f"{sum(f.file.tensors[name].count for name in layer.tensors):,}"
        if not layer.readings:
            yield layer.name, "not modelled", "", numbers
        for i, reading in enumerate(layer.readings):
            packed = _packed_as(reading)
            yield (layer.name, str(reading.spec), packed, numbers) if i == 0 else ("or", str(reading.spec), packed, "")


def _packed_as(reading: Reading) -> str:
    row = reading.packing.layout(reading.spec).layer
    if row.startswith(("torch.", "keras.", "xframe.")):
        return row
    return f"{row} of {reading.packing.title}" if row else reading.packing.title


def _found_notes(f: Findings) -> Iterator[str]:
    """Each sentence once, with the layers that it is about."""
    about: dict[str, list[str]] = {}
    for layer in f.layers:
        for sentence in _sentences(layer):
            about.setdefault(sentence, []).append(layer.name)
    for sentence, layers in about.items():
        yield sentence if len(layers) == len(f.layers) else f"{', '.join(layers)}: {sentence}"


def _sentences(layer: FoundLayer) -> Iterator[str]:
    if layer.refused:
        yield layer.refused
    yield from dict.fromkeys(sentence for reading in layer.readings for sentence in reading.evidence)
    open_ = dict.fromkeys(name for reading in layer.readings for name in reading.open)
    if rest := [name for name in open_ if name not in layer.undecided]:
        values = ", ".join(f"{name} {getattr(layer.readings[0].spec, name)!r}" for name in rest)
        yield f"Not in the file, and taken as the default: {values}."
    if layer.undecided:
        flags = " or ".join(f"--{name.replace('_', '-')}" for name in layer.undecided)
        yield f"The file alone does not decide which of {len(layer.readings)} layers this is; choose with {flags}."
    yield from layer.warnings


def verification(v: Verification) -> Iterator[Block]:
    yield Heading(f"{v.a} and {v.b}", 1)
    headers = ("layer of the first", "layer of the second", "is", "parameters off by", "outputs x noise", "status")
    rows = tuple(_pair_row(pair) for pair in v.pairs)
    yield Table(headers, rows, frozenset(headers[3:5]))
    if v.others:
        yield Heading("Other tensors with the same numbers")
        yield Table(("of the first", "of the second"), v.others)
    yield Items(tuple(f"Without a partner: {name} of {v.a}." for name in v.only_a))
    yield Items(tuple(f"Without a partner: {name} of {v.b}." for name in v.only_b))
    yield Items(tuple(f"{text}." for text in v.differing))
    notes = dict.fromkeys(note for pair in v.pairs for note in pair.notes)
    yield Items((*notes, *v.notes))
    if v.whole is not None:
        yield Heading("The whole models")
        yield from _between(v.whole)
    for pair in v.first_wrong:
        assert pair.diagnosis is not None
        yield Heading(f"Why they differ: {pair.a} and {pair.b}")
        yield Paragraph(pair.diagnosis.reason)
        yield from diagnosis.explained(pair.diagnosis)
    if v.between is not None:
        yield Heading("Why the whole models differ")
        yield Paragraph(v.between.reason)
        yield from diagnosis.explained(v.between)
    yield conclusion(v.status, v.reason, v.scope)


def _between(whole: Whole) -> Iterator[Block]:
    headers = (
        "step of the first",
        "step of the second",
        "option",
        "first",
        "second",
        "alone off by",
        "x noise (float64)",
    )
    rows = tuple(
        (s.a, s.b, s.option, s.first, s.second, f"{s.off.max_abs:.1e}", ratio_text(s.off.noise_ratio))
        for s in whole.slips
    )
    if rows:
        yield Table(headers, rows, frozenset(headers[-2:]))
    yield Items(tuple(f"{text[0].upper()}{text[1:]}." for text in whole.lacking))
    if whole.off is None or not whole.inputs or whole.off.incomparable:
        yield Paragraph(f"{whole.reason[0].upper()}{whole.reason[1:]}.")
    else:
        yield Paragraph(
            f"On {plural(whole.inputs, 'input')}, the outputs of the whole models differ by {whole.off.max_abs:.1e}, "
            f"{ratio_text(whole.off.noise_ratio)} times the rounding noise."
        )


def _pair_row(pair: Pair) -> tuple[str, ...]:
    figures = f"{pair.max_abs:.1e}" if pair.max_abs else "0", ratio_text(pair.noise_ratio)
    return pair.a, pair.b, str(pair.spec), *figures, pair.status


def conversion(c: Conversion) -> Iterator[Block]:
    yield Heading(f"{c.source} to {c.to}", 1)
    for piece in c.pieces:
        if len(c.pieces) > 1:
            yield Heading(f"{piece.name}{f' ({piece.folder})' if piece.folder else ''}")
        yield Items(piece.steps)
        yield Paragraph(
            f"Numbers stored: {piece.before:,} in the source, {piece.after:,} ({piece.dtype}) in what was written."
        )
        yield Items(piece.notes)
        yield Items(tuple(_fates(piece)))
        yield _trials(piece)
        if piece.power:
            name, margin = piece.power
            yield Paragraph(
                f"Power: the known mistake that shows least on these inputs ({name}) would have been {margin:.0e} times over the "
                "limit."
            )
    yield Items(tuple(f"Not converted: {text}." for text in c.not_converted))
    yield Items(tuple(f"In the way of the whole model: {text}." for text in c.why))
    yield Items(tuple(f"Left out, as you said: {name}." for name in c.left_out))
    yield Items(c.warnings)
    yield Paragraph(f"Environment: {', '.join(f'{name} {text}' for name, text in c.environment.items())}.")
    yield conclusion(c.status, c.reason, c.scope)


def _fates(piece: Piece) -> Iterator[str]:
    """What became of the tensors, those with one fate together."""
    groups: dict[str, list[str]] = {}
    for source, fate in piece.fates.items():
        groups.setdefault(fate, []).append(source)
    yield from (f"{', '.join(sources)} became {fate}." for fate, sources in groups.items())


def _run(trial: Trial) -> str:
    """What was run."""
    return f"{trial.layer} alone{', other numbers' if trial.drawn else ''}" if trial.layer else "whole"


def _trials(piece: Piece) -> Table:
    headers = ("run", "batch", "time steps", "off by", "x noise", "status")
    rows = tuple(
        (
            _run(t),
            str(t.batch),
            "-" if t.steps is None else str(t.steps),
            f"{t.max_abs:.1e}",
            ratio_text(t.noise_ratio),
            t.status if t.shows else f"{t.status} ({t.reason})",
        )
        for t in piece.trials
    )
    # Which run it is needs no word where all are of the whole.
    first = 0 if any(t.layer for t in piece.trials) else 1
    return Table(headers[first:], tuple(row[first:] for row in rows), frozenset(headers[1:-1]))
