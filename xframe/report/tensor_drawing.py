"""The tensors of a layer as rectangles, all frameworks to one scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, zip_longest
from math import ceil, floor, log10
from textwrap import wrap

from xframe.report.blocks import Box, Inventory, Part, Shelf, TensorDrawing
from xframe.report.svg import WIDTH, Panel, element, flowed, group, number, shortened, text, title, width_of

__all__ = ["caption", "panels"]

# Pixels: of the longest side of all; at most of one number; and at least of the side of a block, so that it is seen, or that
# the name of its gate can be read.
_LONGEST, _LARGEST, _SEEN, _READ = 200, 14, 7, 12
# From so many pixels a number on, each is drawn as a cell.
_CELL = 6
_SLICE_GAP = 6
_LINE = 16
_ROLES = ("kernel", "recurrent_kernel", "bias", "recurrent_bias", "projection")


@dataclass(frozen=True)
class _Scale:
    """Pixels for one number."""

    drawing: TensorDrawing

    @cached_property
    def boxes(self) -> list[Box]:
        return [box for one in self.drawing.inventories for shelf in one.shelves for box in shelf.boxes]

    @cached_property
    def pixels(self) -> float:
        sides = (max(p.row + p.rows, p.column + p.columns) for box in self.boxes for p in box.parts)
        return min(_LARGEST, _LONGEST / max(sides))

    @cached_property
    def gates(self) -> bool:
        """Whether there are several, which then need to be told apart."""
        return len({part.gate for box in self.boxes for part in box.parts} - {""}) > 1

    @property
    def thinnest(self) -> int:
        return _READ if self.gates else _SEEN

    def edges(self, spans: Sequence[tuple[int, int]]) -> dict[int, float]:
        """Where blocks begin and end along an axis, each of (first, how many): in numbers, and in pixels."""
        found = sorted({edge for first, many in spans for edge in (first, first + many)})
        at = {found[0]: 0.0}
        for before, here in pairwise(found):
            at[here] = at[before] + max((here - before) * self.pixels, self.thinnest)
        return at

    @cached_property
    def stretched(self) -> bool:
        """Whether a side is drawn longer than it is."""
        return any(
            abs(at[last] - (last - first) * self.pixels) > 0.01
            for box in self.boxes
            for parts in _slices(box)
            for spans in ([(p.row, p.rows) for p in parts], [(p.column, p.columns) for p in parts])
            for at in [self.edges(spans)]
            for first, last in [(min(at), max(at))]
        )


def _slices(box: Box) -> list[list[Part]]:
    return [[p for p in box.parts if p.slice == index] for index in sorted({p.slice for p in box.parts})]


def panels(drawing: TensorDrawing) -> list[list[Panel]]:
    """A row for each layer and direction, in it a picture a framework; at the end what the colours mean."""
    scale = _Scale(drawing)
    columns = [_framework(one, scale, drawing.title) for one in drawing.inventories]
    rows = [[panel for panel in row if panel] for row in zip_longest(*columns)]
    rows[-1].append(_legend(scale))
    return rows


def caption(drawing: TensorDrawing) -> str:
    """How to read it."""
    scale = _Scale(drawing)
    words = ["All to one scale: a side is as long as its axis, so that an area is a count."]
    if scale.pixels >= _CELL:
        words.append("Each cell is one number.")
    if scale.stretched:
        least = ceil(scale.thinnest / scale.pixels)
        words.append(
            f"Not to scale: sides of fewer than {least} numbers, which are drawn longer, so that they can be seen."
        )
    return " ".join(words)


# One framework.


def _framework(one: Inventory, scale: _Scale, layer: str) -> Iterator[Panel]:
    """A picture for each shelf, the first with what holds for all."""
    for i, shelf in enumerate(one.shelves):
        y = 14.0
        lines = [text(one.title, 0, y, "xf-head")]
        first = [(shortened(one.layers, 46), "xf-mono xf-quiet"), *((words, "") for words in wrap(_sum(one), 50))]
        for words, classes in first if i == 0 else []:
            y += _LINE + 1
            lines.append(text(words, 0, y, classes))
        y += 12 if i == 0 else 4
        content, wide, high = _shelf(shelf, scale)
        lines.append(group(content, 0, y))
        place = f", {shelf.title}" if shelf.title else ""
        words = " ".join(f"{shelf.folder}{box.name} {_facts(box)}." for box in shelf.boxes)
        yield Panel(
            f"What {one.title} stores for {layer}{place}", words, max(WIDTH, wide), y + high + 4, "".join(lines)
        )


def _sum(one: Inventory) -> str:
    if one.stored == one.effective:
        return f"{one.stored:,} stored, all effective"
    return f"{one.stored:,} stored = {one.effective:,} effective + {one.stored - one.effective:,} redundant"


def _facts(box: Box) -> str:
    """Shape and count, and how much of it is redundant."""
    count = sum(p.rows * p.columns for p in box.parts)
    spare = sum(p.rows * p.columns for p in box.parts if p.redundant)
    words = f"{box.shape}: {count:,}"
    return words + (", redundant" if spare == count else f", {spare:,} redundant" if spare else "")


def _shelf(shelf: Shelf, scale: _Scale) -> tuple[list[str], float, float]:
    """The tensors of one place under its title; also how wide and high they are."""
    found, y = [], 0.0
    if shelf.title:
        y += _LINE
        found.append(text(shelf.title, 0, y, "xf-sub"))
    if shelf.folder:
        y += _LINE
        found.append(text(shortened(shelf.folder, 46), 0, y, "xf-mono xf-quiet"))
    if y:
        y += 8
    drawn = [_box(box, scale) for box in shelf.boxes]
    *places, (width, height) = flowed([(w, h) for _, w, h in drawn], WIDTH, 20, 12)
    found += [group(content, x, y + at) for (content, _, _), (x, at) in zip(drawn, places, strict=True)]
    return found, width, y + height


def _box(box: Box, scale: _Scale) -> tuple[list[str], float, float]:
    """One tensor: its name, its shape and count, and its slices beside each other."""
    name, facts = shortened(box.name, 46), _facts(box)
    found = [text(name, 0, 12, "xf-mono"), text(facts, 0, 27, "xf-quiet")]
    x, high, top = 0.5, 0.0, 33
    for parts in _slices(box):
        rows = scale.edges([(p.row, p.rows) for p in parts])
        columns = scale.edges([(p.column, p.columns) for p in parts])
        found += [_part(box, p, rows, columns, scale, (x, top)) for p in parts]
        high = max(high, *rows.values())
        x += max(columns.values()) + _SLICE_GAP
    width = max(x - _SLICE_GAP, width_of(name, mono=True), width_of(facts))
    return found, width, top + high + 1


def _part(
    box: Box, p: Part, rows: dict[int, float], columns: dict[int, float], scale: _Scale, corner: tuple[float, float]
) -> str:
    """One block."""
    x, y = corner[0] + columns[p.column], corner[1] + rows[p.row]
    w = columns[p.column + p.columns] - columns[p.column]
    h = rows[p.row + p.rows] - rows[p.row]
    what = f"{p.role.replace('_', ' ')}{f' of gate {p.gate}' if p.gate else ''}"
    words = f"{box.name}: {what}, {p.rows} x {p.columns} = {p.rows * p.columns:,}{', redundant' if p.redundant else ''}"
    classes = f"xf-part xf-{p.role}{' xf-redundant' if p.redundant else ''}"
    found = [element("rect", title(words), class_=classes, x=x, y=y, width=w, height=h)]
    if p.redundant:
        found.append(_hatch(x, y, w, h))
    if scale.pixels >= _CELL:
        found.append(_cells(p, x, y, w, h))
    if scale.gates and p.gate:
        found.append(text(p.gate, x + w / 2, y + h / 2, f"xf-gate{' xf-hatched' if p.redundant else ''}"))
    return "".join(found)


def _cells(p: Part, x: float, y: float, w: float, h: float) -> str:
    """The lines between the numbers."""
    down = "".join(f"M{number(x + w * k / p.columns)} {number(y)}v{number(h)}" for k in range(1, p.columns))
    across = "".join(f"M{number(x)} {number(y + h * k / p.rows)}h{number(w)}" for k in range(1, p.rows))
    return element("path", class_="xf-cells", d=down + across) if down or across else ""


def _hatch(x: float, y: float, w: float, h: float, step: int = 7) -> str:
    """Lines across a rectangle, from the lower left to the upper right."""
    lines = []
    for k in range(1, ceil((w + h) / step)):
        c = k * step
        left, right = max(0.0, c - h), min(c, w)
        lines.append(f"M{number(x + left)} {number(y + c - left)}L{number(x + right)} {number(y + c - right)}")
    return element("path", class_="xf-hatch", d="".join(lines))


# The legend.


def _legend(scale: _Scale) -> Panel:
    """What the colours and the hatching mean, and how long so many numbers are."""
    parts = [part for box in scale.boxes for part in box.parts]
    entries = [
        _entry(role.replace("_", " "), f"xf-part xf-{role}") for role in _ROLES if role in {p.role for p in parts}
    ]
    other = {p.role for p in parts} - set(_ROLES)
    entries += [_entry(role.replace("_", " "), "xf-part xf-projection") for role in sorted(other)]
    if any(p.redundant for p in parts):
        entries.append(
            _entry(
                "redundant: only the sum with the bias counts",
                "xf-part xf-recurrent_bias xf-redundant",
                hatched=True,
            )
        )
    if scale.pixels < _CELL:
        entries.append(_ruler(scale))
    *places, (_, height) = flowed([(w, _LINE) for _, w in entries], WIDTH, 16, 4)
    content = "".join(group([drawn], x, y) for (drawn, _), (x, y) in zip(entries, places, strict=True))
    return Panel("Legend", "What the colours and the hatching mean.", WIDTH, height + 4, content)


def _entry(words: str, classes: str, hatched: bool = False) -> tuple[str, float]:
    """A sample and its meaning; also how wide they are."""
    sample = element("rect", class_=classes, x=0.5, y=2.5, width=18, height=11)
    lines = _hatch(0.5, 2.5, 18, 11) if hatched else ""
    return sample + lines + text(words, 25, 12), 25 + width_of(words)


def _ruler(scale: _Scale) -> tuple[str, float]:
    """A line as long as a round number of numbers."""
    most = 90 / scale.pixels
    power = 10 ** floor(log10(most))
    many = max(int(k * power) for k in (1, 2, 5) if k * power <= most)
    long = many * scale.pixels
    line = element(
        "path", class_="xf-limit", style="stroke-dasharray:none", d=f"M.5 4v9M.5 8.5h{number(long)}M{number(long)} 4v9"
    )
    words = f"{many:,} numbers"
    return line + text(words, long + 7, 12), long + 7 + width_of(words)
