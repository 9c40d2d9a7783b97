"""One HTML page that needs nothing else: no script, no font, no network. It is also well-formed XML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from xframe import __version__
from xframe.escaping import in_markup
from xframe.report import drawings
from xframe.report.blocks import Block, Drawing, Heading, Items, Paragraph, Preformatted, Table
from xframe.report.html_style import STYLE

__all__ = ["write"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_VERDICT = re.compile(r"VERDICT: (\w+)\. ")
# Shown before the word, which says it all.
_SIGNS = {"equivalent": "✓", "different": "✗", "error": "✗", "inconclusive": "?", "partial": "?"}
# From so many letters on, a cell may take more than one line, and is kept from getting too narrow.
_LONG = 30
# Up to so many columns a phone shows whole.
_FEW = 3


def write(blocks: Iterable[Block]) -> str:
    """The whole page. What was found stands at the top; else the order is that of the blocks."""
    parts = list(_parts(blocks))
    heading = next((b.text for part in parts for b in part if isinstance(b, Heading)), "Report")
    body = "\n".join(line for part in parts for line in _part(part))
    page = f"""<!DOCTYPE html>
<html lang="en" xmlns="http://www.w3.org/1999/xhtml">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="{_POLICY}"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<title>{in_markup(heading)} - xframe</title>
<style>
{STYLE}{drawings.STYLE}</style>
</head>
<body>
<main>
{body}
</main>
<footer>xframe {in_markup(__version__)}. This page is complete in itself and loads nothing.</footer>
</body>
</html>
"""
    # Other characters than those of ASCII become references, so that no terminal or pipe can spoil them.
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _parts(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """The blocks of each report of several: from one first heading to the next."""
    part: list[Block] = []
    for block in blocks:
        if part and isinstance(block, Heading) and block.level == 1:
            yield part
            part = []
        part.append(block)
    yield part


def _part(blocks: Sequence[Block]) -> Iterator[str]:
    """One report: its heading, what was found, and the rest."""
    top: list[Block] = [block for block in blocks[:1] if isinstance(block, Heading)]
    top += [block for block in blocks if isinstance(block, Paragraph) and block.strong][-1:]
    # By identity: two blocks may be equal.
    rest = [block for block in blocks if not any(block is one for one in top)]
    yield from filter(None, map(_block, [*top, *rest]))


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        level = min(block.level, 6)
        return f"<h{level}>{in_markup(block.text)}</h{level}>"
    if isinstance(block, Paragraph):
        return _banner(block.text) if block.strong else f"<p>{in_markup(block.text)}</p>"
    if isinstance(block, Items):
        return (
            "<ul>\n" + "\n".join(f"<li>{_item(text)}</li>" for text in block.texts) + "\n</ul>" if block.texts else ""
        )
    if isinstance(block, Preformatted):
        lines = "\n".join(map(in_markup, block.lines))
        return "" if block.drawn else f'<pre tabindex="0">{lines}</pre>'
    if isinstance(block, Drawing):
        return _figure(block)
    return _table(block) if block.rows else ""


def _banner(text: str) -> str:
    """What was found; of a verdict, the status apart."""
    verdict = _VERDICT.match(text)
    if not verdict:
        return f'<div class="found"><p>{in_markup(text)}</p></div>'
    status, reason = verdict[1], text[verdict.end() :]
    sign = f'<span aria-hidden="true">{_SIGNS.get(status, "")}</span>'
    return f'<div class="found {status}"><p class="word">{sign} Verdict: {status}</p><p>{in_markup(reason)}</p></div>'


def _item(text: str) -> str:
    """An item; what it is about, if it begins with that and a colon, is set off."""
    topic, colon, rest = text.partition(": ")
    if colon and len(topic) < _LONG and "." not in topic:
        return f"<b>{in_markup(topic)}:</b> {in_markup(rest)}"
    return in_markup(text)


# Tables.


def _table(table: Table) -> str:
    # A first column without gaps names its rows.
    named = table.headers[0] not in table.right and all(row[0] for row in table.rows)
    head = "".join(_cell("th", text, i, table, ' scope="col"') for i, text in enumerate(table.headers))
    rows = "\n".join(f"<tr>{''.join(_row(row, table, named))}</tr>" for row in table.rows)
    # On a phone, cells of narrow tables take more lines; wide tables are moved sideways.
    kind = ' class="few"' if len(table.headers) <= _FEW else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{in_markup(", ".join(filter(None, table.headers)))}">\n'
        f"<table{kind}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def _row(row: Sequence[str], table: Table, named: bool) -> Iterator[str]:
    for i, text in enumerate(row):
        if i == 0 and named:
            yield _cell("th", text, i, table, ' scope="row"')
        else:
            yield _cell("td", text, i, table)


def _cell(tag: str, text: str, column: int, table: Table, attributes: str = "") -> str:
    header = table.headers[column]
    classes = ["n"] if header in table.right else []
    if tag == "td" or 'scope="row"' in attributes:
        classes += ["long"] if len(text) > _LONG and " " in text else []
        classes += [f"is {text}"] if header == "status" and text in _SIGNS else []
    named = f' class="{" ".join(classes)}"' if classes else ""
    return f"<{tag}{attributes}{named}>{in_markup(text)}</{tag}>"


# Drawings.


def _figure(drawing: Drawing) -> str:
    rows = "\n".join(
        '<div class="panels">\n' + "\n".join(f'<div class="panel">{svg}</div>' for svg in row) + "\n</div>"
        for row in drawings.embedded(drawing)
    )
    heading, caption = in_markup(drawings.heading(drawing)), in_markup(drawings.caption(drawing))
    return f"<figure>\n<figcaption><b>{heading}</b> {caption}</figcaption>\n{rows}\n</figure>"
