"""Markdown, for pull requests and job summaries."""

from __future__ import annotations

from collections.abc import Iterable

from tabulate import tabulate

from xframe.report import printable
from xframe.report.blocks import Block, Drawing, Heading, Items, Paragraph, Preformatted

__all__ = ["write"]


def write(blocks: Iterable[Block]) -> str:
    """The blocks with a blank line between them."""
    return "\n\n".join(text for block in blocks if (text := _block(block))) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * (block.level + 1)} {_plain(block.text)}"
    if isinstance(block, Paragraph):
        return f"**{_plain(block.text)}**" if block.strong else _plain(block.text)
    if isinstance(block, Items):
        return "\n".join(f"* {_plain(text)}" for text in block.texts)
    if isinstance(block, Preformatted):
        return "\n".join(["```text", *(printable(line) for line in block.lines), "```"])
    if isinstance(block, Drawing):
        return ""
    align = ["right" if header in block.right else "left" for header in block.headers]
    rows = [[_plain(cell) for cell in row] for row in block.cut]
    return tabulate(rows, block.headers, tablefmt="github", colalign=align, disable_numparse=True)


def _plain(text: str) -> str:
    """Without characters that Markdown would take for its own."""
    text = printable(text)
    for character in "\\*|<":
        text = text.replace(character, f"\\{character}")
    return text
