"""Reports: what was found, printed. They compute nothing.

A result is laid out once as a document of a few kinds of blocks (`document`), which the text, Markdown and HTML writers print;
JSON has its own writer, because its fields are an interface (schema ``xframe/1``), and JUnit XML is made of these fields.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xframe.errors import SpecError

__all__ = ["FORMATS", "format_of", "render", "schema"]

FORMATS = ("text", "markdown", "html", "json", "junit")
_SUFFIXES = {".md": "markdown", ".html": "html", ".htm": "html", ".json": "json", ".xml": "junit"}


def render(result: Any, format: str = "text") -> str:
    """A result as text, ending in a newline.

    Args:
        result: a `Verdict`, `Suite`, `Explanation` (or a list of them), `NumberSearch`, `Demonstration`, `Findings` or
            `Verification`.
        format: ``text``, ``markdown``, ``html``, ``json``, or ``junit`` for a result that is made of checks.

    Raises:
        SpecError: an unknown format, or ``junit`` for a result without checks.
    """
    if format == "json":
        from xframe.report.json import to_json

        return to_json(result)
    if format == "junit":
        from xframe.report import json, junit

        return junit.write(json.content(result))
    if format not in FORMATS:
        raise SpecError(f"format must be one of {', '.join(FORMATS)}, not {format!r}.")
    from xframe.report.document import document

    return str(import_module(f"xframe.report.{format}").write(document(result)))


def format_of(path: str) -> str:
    """The format that a file's name asks for by its ending; text for any other."""
    return next((format for suffix, format in _SUFFIXES.items() if path.lower().endswith(suffix)), "text")


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of everything that the format ``json`` writes."""
    import json
    from importlib.resources import files

    return dict(json.loads(files(__name__).joinpath("schema.json").read_text(encoding="utf-8")))
