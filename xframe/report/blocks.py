"""The few kinds of blocks that a report is made of, and how numbers are written in it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Block",
    "Box",
    "Chart",
    "ChartDrawing",
    "Drawing",
    "Heading",
    "Inventory",
    "Items",
    "Paragraph",
    "Part",
    "Preformatted",
    "Series",
    "Shelf",
    "Table",
    "TensorDrawing",
    "conclusion",
    "off_text",
    "ratio_text",
    "shortened",
]


# The most characters of a name, or of what a file says of itself, that are shown where they are repeated or padded; JSON has all.
_WIDEST = 200
# Stands for how far outputs are off that are not finite, or of another shape; JSON has no infinity.
_INCOMPARABLE = 1e30


def shortened(text: str) -> str:
    """The text, or its beginning and its end where it is long."""
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST // 2]}...{text[-_WIDEST // 2 + 3 :]}"


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the report's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text; the verdict is set off."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Items:
    """A list."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows under headers; numbers are given as text, and columns named in ``right`` are set flush right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()

    @property
    def cut(self) -> list[list[str]]:
        """The rows for a medium that makes all cells of a column as wide as the widest: one name must not make gigabytes."""
        return [[shortened(cell) for cell in row] for row in self.rows]


@dataclass(frozen=True)
class Preformatted:
    """Lines that stay as they are, such as a picture made of characters; ``drawn`` if a drawing beside it shows the same."""

    lines: tuple[str, ...]
    drawn: bool = False


@dataclass(frozen=True)
class Part:
    """One canonical block where it lies in a tensor.

    Attributes:
        role, gate: which block.
        slice, row, column: its first number; tensors of more than two axes are slices of two, those of one axis are a row.
        rows, columns: its size.
        redundant: whether it is only ever added to another one.
    """

    role: str
    gate: str
    slice: int
    row: int
    column: int
    rows: int
    columns: int
    redundant: bool


@dataclass(frozen=True)
class Box:
    """One tensor of a framework."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Shelf:
    """The tensors of one layer and direction, under the folders that their names share."""

    title: str
    folder: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Inventory:
    """All tensors of one framework, and how many numbers they hold."""

    title: str
    layers: str
    stored: int
    effective: int
    shelves: tuple[Shelf, ...]


@dataclass(frozen=True)
class TensorDrawing:
    """What each framework stores for a layer, to be drawn to one scale. Formats of text leave drawings out."""

    title: str
    inventories: tuple[Inventory, ...]


@dataclass(frozen=True)
class Series:
    """One number a time step: infinite for one that is not finite, NaN where nothing is known; ``over`` the limit there."""

    name: str
    values: tuple[float, ...]
    over: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Series over time, on a logarithmic axis.

    Attributes:
        title: what is drawn.
        unit: what the numbers are.
        series: at least one, all of one length.
        limit: what is allowed at each time step; empty where nothing is judged.
        begins: the time step at which something begins.
    """

    title: str
    unit: str
    series: tuple[Series, ...]
    limit: tuple[float, ...] = ()
    begins: int | None = None


@dataclass(frozen=True)
class ChartDrawing:
    """Charts that belong together."""

    title: str
    note: str
    charts: tuple[Chart, ...]


Drawing = TensorDrawing | ChartDrawing
Block = Heading | Paragraph | Items | Table | Preformatted | Drawing


def conclusion(status: str, reason: str, scope: str = "") -> Paragraph:
    """What was found, and, of what judges, how much of it was judged."""
    return Paragraph(f"VERDICT: {status}. {reason}{f' Scope: {scope}.' if scope else ''}", strong=True)


def off_text(off: float) -> str:
    """How far outputs are off, likewise."""
    return "-" if off >= _INCOMPARABLE else f"{off:.1e}"


def ratio_text(ratio: float) -> str:
    """A ratio with two digits, large ones as powers of ten; a dash where there are no two numbers to be compared."""
    if ratio >= _INCOMPARABLE:
        return "-"
    return f"{ratio:.2g}" if 0.01 <= ratio < 100 or ratio == 0 else f"{ratio:.0e}"
