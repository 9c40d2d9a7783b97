"""The layout of an environment: what it is set to, and what that does to the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xframe.report.blocks import Block, Heading, Items, Paragraph, Table

if TYPE_CHECKING:
    from xframe.environment import Examination

__all__ = ["examination", "fields"]


def examination(e: Examination) -> Iterator[Block]:
    """A table for each section."""
    yield Heading("What can change a number here", 1)
    for section in e.sections:
        yield Heading(section.title)
        yield Table(("what", "value", "what it does to the numbers"), section.settings)
        yield Items((section.error,) if section.error else ())
    yield Paragraph(e.reason, strong=True)


def fields(e: Examination) -> dict[str, Any]:
    """The fields of the JSON object."""
    return {
        "reason": e.reason,
        "sections": [
            {"title": s.title, "error": s.error, "settings": [one._asdict() for one in s.settings]} for s in e.sections
        ],
    }
