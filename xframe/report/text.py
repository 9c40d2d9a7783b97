"""Plain text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from tabulate import tabulate

from xframe.report.document import Block, Heading, Items, Paragraph, Table

__all__ = ["write"]

_WIDTH = 110


def write(blocks: Iterable[Block]) -> str:
    """The blocks with a blank line between them."""
    return "\n\n".join(_block(block) for block in blocks if not _empty(block)) + "\n"


def _empty(block: Block) -> bool:
    return (isinstance(block, Items) and not block.texts) or (isinstance(block, Table) and not block.rows)


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{block.text}\n{('=' if block.level == 1 else '-') * len(block.text)}"
    if isinstance(block, Paragraph):
        return textwrap.fill(block.text, _WIDTH)
    if isinstance(block, Items):
        return "\n".join(textwrap.fill(t, _WIDTH, initial_indent="* ", subsequent_indent="  ") for t in block.texts)
    align = ["right" if header in block.right else "left" for header in block.headers]
    table = tabulate(block.rows, block.headers, tablefmt="simple", colalign=align, disable_numparse=True)
    return "\n".join(line.rstrip() for line in table.splitlines())
