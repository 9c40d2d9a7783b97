"""Drawings as SVG: for the HTML report, and as files that work by themselves, in light and in dark pages.

What is drawn is data (`blocks.TensorDrawing`, `blocks.ChartDrawing`), which `figures` makes of results.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xframe.counts import count, count_in
from xframe.errors import SpecError
from xframe.report import chart_drawing, figures, tensor_drawing
from xframe.report.blocks import Drawing, TensorDrawing
from xframe.report.svg import STYLE, Panel, flowed, group, svg, text, width_of
from xframe.spec import Layer

if TYPE_CHECKING:
    from xframe.verdict import Verdict

__all__ = ["STYLE", "caption", "embedded", "error_svg", "heading", "layer_svg", "standalone"]

_MARGIN, _GAP = 16, 32


def layer_svg(spec: Layer, frameworks: Sequence[str] | None = None, across: int = 2) -> str:
    """The tensors that frameworks store for a layer, to one scale, redundant blocks hatched, as an SVG file.

    Args:
        spec: the layer.
        frameworks: short names, as ``("keras", "torch")``; all that have the layer by default.
        across: how many frameworks stand beside each other.

    Raises:
        UnsupportedError: a framework that was named does not have the layer.
        SpecError: there is no such framework.
    """
    from xframe.adapters import known_packings

    packings = known_packings()
    if unknown := [name for name in frameworks or () if name not in packings]:
        raise SpecError(f"There is no framework {unknown[0]!r}; use some of {', '.join(packings)}.")
    counts = count(spec) if frameworks is None else {name: count_in(packings[name], spec) for name in frameworks}
    return standalone(figures.tensors(spec, counts), across)


def error_svg(verdict: Verdict, across: int = 2) -> str:
    """The output error of each layer and float type at each time step against what is allowed, as an SVG file.

    Args:
        verdict: of `xframe.compare`.
        across: how many charts stand beside each other.

    Raises:
        SpecError: no error over time is known, as of a dense layer.
    """
    drawing = figures.over_time(verdict.checks, verdict.limit)
    if drawing is None:
        raise SpecError("There is nothing to draw: no error over time is known; compare a recurrent layer.")
    return standalone(drawing, across)


def standalone(drawing: Drawing, across: int = 2) -> str:
    """A drawing as an SVG file: its title, its panels, how to read it."""
    rows = _rows(drawing)
    found = [panel for row in rows for panel in row]
    wide = max(panel.width for panel in found)
    columns = min(across, max(map(len, rows)))
    width = columns * wide + (columns - 1) * _GAP
    content, y = [text(heading(drawing), 0, 14, "xf-head")], 32.0
    for row in rows:
        *places, (_, height) = flowed([(wide, panel.height) for panel in row], width, _GAP, 24)
        content += [group([panel.content], x, y + at) for panel, (x, at) in zip(row, places, strict=True)]
        y += height + 24
    for line in textwrap.wrap(caption(drawing), int(width / width_of("x"))):
        content.append(text(line, 0, y, "xf-quiet"))
        y += 16
    words = " ".join(f"{panel.title}. {panel.description}" for panel in found)
    whole = Panel(heading(drawing), words, width + 2 * _MARGIN, y + _MARGIN, group(content, _MARGIN, _MARGIN))
    return svg(whole, standalone=True) + "\n"


def embedded(drawing: Drawing) -> list[list[str]]:
    """The rows of panels of a drawing as SVG elements, for a page that has `STYLE`; a phone shows each panel whole."""
    return [[svg(panel) for panel in row] for row in _rows(drawing)]


def heading(drawing: Drawing) -> str:
    """What a drawing shows."""
    return f"What each framework stores: {drawing.title}" if isinstance(drawing, TensorDrawing) else drawing.title


def caption(drawing: Drawing) -> str:
    """How to read it, in a few sentences."""
    return tensor_drawing.caption(drawing) if isinstance(drawing, TensorDrawing) else drawing.note


def _rows(drawing: Drawing) -> list[list[Panel]]:
    return tensor_drawing.panels(drawing) if isinstance(drawing, TensorDrawing) else chart_drawing.panels(drawing)
