"""Markdown, for pull requests and job summaries."""

from __future__ import annotations

from collections.abc import Iterable

from tabulate import tabulate

from xframe.escaping import in_code_block, in_markdown
from xframe.report.blocks import Block, Drawing, Heading, Items, Paragraph, Preformatted

__all__ = ["write"]


def write(blocks: Iterable[Block]) -> str:
    """The blocks with a blank line between them."""
    return "\n\n".join(text for block in blocks if (text := _block(block))) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * (block.level + 1)} {in_markdown(block.text)}"
    if isinstance(block, Paragraph):
        return f"**{in_markdown(block.text)}**" if block.strong else in_markdown(block.text)
    if isinstance(block, Items):
        return "\n".join(f"* {in_markdown(text)}" for text in block.texts)
    if isinstance(block, Preformatted):
        return in_code_block(block.lines)
    if isinstance(block, Drawing):
        return ""
    align = ["right" if header in block.right else "left" for header in block.headers]
    rows = [[in_markdown(cell) for cell in row] for row in block.cut]
    headers = [in_markdown(header) for header in block.headers]
    return tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)
