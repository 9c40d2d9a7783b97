"""Reports: what was found, printed. They compute nothing.

A result is laid out once as a document of a few kinds of blocks (`document`), which the text and Markdown writers print;
JSON has its own writer, because its fields are an interface (schema ``xframe/1``).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xframe.errors import SpecError

__all__ = ["FORMATS", "printable", "render"]

FORMATS = ("text", "markdown", "json")


def render(result: Any, format: str = "text") -> str:
    """A result as text, ending in a newline.

    Args:
        result: a `Verdict`, `Suite`, `Explanation` (or a list of them), `NumberSearch`, `Demonstration`, `Findings` or
            `Verification`.
        format: ``text``, ``markdown`` or ``json``.

    Raises:
        SpecError: an unknown format.
    """
    if format == "json":
        from xframe.report.json import to_json

        return to_json(result)
    if format not in FORMATS:
        raise SpecError(f"format must be one of {', '.join(FORMATS)}, not {format!r}.")
    from xframe.report.document import document

    return str(import_module(f"xframe.report.{format}").write(document(result)))


def printable(text: str) -> str:
    """The text with what would move the cursor or break the line made visible: names come from strangers' files."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
