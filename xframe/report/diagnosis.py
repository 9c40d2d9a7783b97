"""The layout of a diagnosis: why two sides differ, and where it begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from xframe.report import figures
from xframe.report.blocks import Block, Heading, Items, Paragraph, Preformatted, Table, conclusion, off_text, ratio_text

if TYPE_CHECKING:
    from xframe.diagnosis import Diagnoses, Diagnosis, Where

__all__ = ["diagnoses", "diagnosis", "explained"]

# A verdict knows two ways to differ less than a diagnosis does.
_STATUS = {"explained": "different", "unexplained": "different"}


def diagnoses(d: Diagnoses) -> Iterator[Block]:
    """Several layers, one after the other."""
    yield Heading(f"{d.a} and {d.b}", 1)
    for part in d.parts:
        yield Heading(f"{part.a} and {part.b}: {part.spec or 'what runs between the layers'}")
        yield Paragraph(part.reason)
        yield from explained(part)
    yield Items(d.notes)
    yield conclusion(_STATUS.get(d.status, d.status), d.reason)


def diagnosis(d: Diagnosis) -> Iterator[Block]:
    """One layer."""
    yield Heading(f"{d.a} and {d.b}: {d.spec}", 1)
    yield from explained(d)
    yield conclusion(_STATUS.get(d.status, d.status), d.reason)


def explained(d: Diagnosis) -> Iterator[Block]:
    """What other reports show of a diagnosis, without its heading and verdict."""
    headers = ("taken", "outputs off by", "x noise")
    rows = [("as they are", off_text(d.max_abs), ratio_text(d.noise_ratio))]
    rows += [(f"with {c.name}", off_text(c.max_abs), ratio_text(c.noise_ratio)) for c in d.causes]
    yield Table(headers, tuple(rows), frozenset(headers[1:]))
    if d.causes:
        cause = d.causes[0]
        yield Items(tuple(f"{fault.entry[0].upper()}{fault.entry[1:]}: {fault.why}" for fault in cause.faults))
    yield Items(d.notes)
    if d.where:
        yield Items((f"Where: {d.where.sentence}",))
        yield from _picture(d.where)


def _picture(where: Where) -> Iterator[Block]:
    from xframe.diagnosis.picture import picture

    if lines := picture(where).splitlines():
        yield Preformatted(tuple(lines), drawn=True)
    if drawing := figures.departure(where):
        yield drawing
