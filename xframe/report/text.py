"""Plain text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from tabulate import tabulate

from xframe.escaping import in_lines, printable
from xframe.report.blocks import Block, Drawing, Heading, Items, Paragraph, Preformatted, Table

__all__ = ["write"]

_WIDTH = 110


def write(blocks: Iterable[Block]) -> str:
    """The blocks with a blank line between them."""
    return in_lines("\n\n".join(_block(block) for block in blocks if not _empty(block))) + "\n"


def _empty(block: Block) -> bool:
    if isinstance(block, Drawing):
        return True
    return (isinstance(block, Items) and not block.texts) or (isinstance(block, Table) and not block.rows)


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        text = printable(block.text)
        return f"{text}\n{('=' if block.level == 1 else '-') * len(text)}"
    if isinstance(block, Paragraph):
        return _filled(block.text)
    if isinstance(block, Items):
        return "\n".join(_filled(text, "* ", "  ") for text in block.texts)
    if isinstance(block, Preformatted):
        return "\n".join(printable(line) for line in block.lines)
    assert isinstance(block, Table)
    align = ["right" if header in block.right else "left" for header in block.headers]
    rows = [[printable(cell) for cell in row] for row in block.cut]
    headers = [printable(header) for header in block.headers]
    table = tabulate(rows, headers, tablefmt="simple", colalign=align, disable_numparse=True)
    return "\n".join(line.rstrip() for line in table.splitlines())


def _filled(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(printable(text), _WIDTH, initial_indent=first, subsequent_indent=rest)
