"""The few kinds of blocks that a report is made of, and how numbers are written in it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Block", "Heading", "Items", "Paragraph", "Preformatted", "Table", "ratio_text"]


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


@dataclass(frozen=True)
class Preformatted:
    """Lines that stay as they are, such as a picture made of characters."""

    lines: tuple[str, ...]


Block = Heading | Paragraph | Items | Table | Preformatted


def ratio_text(ratio: float) -> str:
    """A ratio with two digits, large ones as powers of ten."""
    return f"{ratio:.2g}" if 0.01 <= ratio < 100 or ratio == 0 else f"{ratio:.0e}"
