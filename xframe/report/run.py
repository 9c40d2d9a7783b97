"""All comparisons of a test run: a record of plain data, which the processes of the run hand on, and its layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from xframe.errors import XframeError
from xframe.report import blocks
from xframe.report.blocks import Block, Heading, Paragraph, Table, conclusion, ratio_text
from xframe.spec import plural

__all__ = ["Entry", "Run", "entry", "layout", "numbered", "packed", "unpacked"]

# How many whole reports a run shows: GitHub takes no summary of more than 1 MiB.
_SHOWN = 10
_ORDER = ("different", "error", "inconclusive", "equivalent")


@dataclass(frozen=True)
class Entry:
    """One comparison.

    Attributes:
        test: node id of the test that made it.
        title: what was compared.
        content: the JSON object of the result.
        blocks: the result's report, if it is not equivalent: a whole run is read for what is wrong.
    """

    test: str
    title: str
    content: Mapping[str, Any]
    blocks: tuple[Block, ...]

    @property
    def status(self) -> str:
        """``equivalent``, ``different``, ``inconclusive``, or ``error`` for what could not be compared."""
        return str(self.content["status"])

    @property
    def scope(self) -> str:
        """What was judged; ``-`` of what could not be compared."""
        return str(self.content.get("scope", "-"))

    @property
    def reason(self) -> str:
        """One sentence."""
        return str(self.content["error"]["message"] if self.status == "error" else self.content["reason"])

    @property
    def noise_ratio(self) -> float | None:
        """The largest of all checks, in units of rounding noise; None where one is not known."""
        found = [one["noise_ratio"] for one in self.content.get("checks", self.content.get("pairs", []))]
        return None if None in found else max(found, default=None)


@dataclass(frozen=True)
class Run:
    """The comparisons in the order in which they were reported."""

    entries: tuple[Entry, ...]

    @property
    def status(self) -> str:
        """The worst of all; ``inconclusive`` if there are none."""
        found = {entry.status for entry in self.entries}
        return next((status for status in _ORDER if status in found), "inconclusive")

    @property
    def reason(self) -> str:
        """One sentence."""
        if not self.entries:
            return "No comparison was made in this run."
        good = sum(1 for entry in self.entries if entry.status == "equivalent")
        bad = next((entry for entry in self.entries if entry.status != "equivalent"), None)
        first = f" The first that is not, in {bad.test}: {bad.reason}" if bad else ""
        return f"{good} of {plural(len(self.entries), 'comparison')} are equivalent.{first}"


def entry(test: str, result: Any) -> Entry:
    """The entry of a result, or of the error that was raised instead."""
    from xframe.report.document import document
    from xframe.report.json import content, error_content

    if isinstance(result, XframeError):
        title = "Could not compare"
        return Entry(test, title, error_content("pytest", result), (Heading(title, 1), Paragraph(str(result))))
    found = document(result)
    title = next(block.text for block in found if isinstance(block, Heading))
    return Entry(test, title, content(result), () if result else tuple(found))


def packed(one: Entry) -> str:
    """An entry as one string, for another process."""
    found = [_plain(block) for block in one.blocks]
    return json.dumps({"test": one.test, "title": one.title, "content": one.content, "blocks": found}, default=sorted)


def unpacked(text: str) -> Entry:
    """The entry that was `packed`."""
    given = json.loads(text)
    return Entry(**{**given, "blocks": tuple(map(_block, given["blocks"]))})


def _plain(value: Any) -> Any:
    """A block, and the blocks inside it, as what JSON has."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if not is_dataclass(value):
        return value
    return {"kind": type(value).__name__, **{f.name: _plain(getattr(value, f.name)) for f in fields(value)}}


def _block(value: Any) -> Any:
    """What was `_plain`."""
    if isinstance(value, list):
        return tuple(map(_block, value))
    if not isinstance(value, dict):
        return value
    given = {name: _block(one) for name, one in value.items()}
    block = getattr(blocks, given.pop("kind"))(**given)
    return replace(block, right=frozenset(block.right)) if isinstance(block, Table) else block


def numbered(names: Sequence[str]) -> list[str]:
    """The names, those that come again with a number."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    again: dict[str, int] = {}
    found = []
    for name in names:
        again[name] = again.get(name, 0) + 1
        found.append(f"{name} #{again[name]}" if seen[name] > 1 else name)
    return found


def layout(run: Run) -> Iterator[Block]:
    """Every comparison in one table, and the whole reports of the first ones that are not equivalent."""
    tests = len({entry.test for entry in run.entries})
    yield Heading(f"{plural(len(run.entries), 'comparison')} in {plural(tests, 'test')}", 1)
    labels = numbered([entry.test for entry in run.entries])
    rows = tuple(
        (label, one.title, "-" if one.noise_ratio is None else ratio_text(one.noise_ratio), one.scope, one.status)
        for label, one in zip(labels, run.entries, strict=True)
    )
    yield Table(("test", "what", "x noise", "scope", "status"), rows, frozenset({"x noise"}))
    bad = [(label, one) for label, one in zip(labels, run.entries, strict=True) if one.blocks]
    for label, one in bad[:_SHOWN]:
        yield Heading(label)
        yield from (replace(b, level=b.level + 2) if isinstance(b, Heading) else b for b in one.blocks)
    if len(bad) > _SHOWN:
        more = plural(len(bad) - _SHOWN, "report")
        yield Paragraph(f"{more} more would stand here; they are in the file that --xframe-report=FILE.json writes.")
    yield conclusion(run.status, run.reason)
