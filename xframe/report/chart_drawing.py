"""Series over time as charts on a logarithmic axis, lines told apart without colour."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import ceil, floor, inf, isfinite, isnan, log10

from xframe.report.blocks import Chart, ChartDrawing, Series, ratio_text
from xframe.report.svg import WIDTH, Panel, element, group, number, text, title

__all__ = ["panels"]

# Pixels: what is left of the plot, its height, and rows at its ends for numbers that have no logarithm.
_LEFT, _RIGHT, _HEIGHT, _ROW = 52, 10, 150, 16
_LINE = 16
# The longest span of the axis, in powers of ten.
_DECADES = 20
# Up to so many time steps, each is marked; of more, about so many are.
_MARKED, _SOME = 30, 12
_STYLES = 4


@dataclass(frozen=True)
class _Axes:
    """Where numbers stand, below the top of the plot; ``low`` and ``high`` are powers of ten."""

    steps: int
    low: int
    high: int
    zero: bool
    lost: bool

    def x(self, step: int) -> float:
        inner = WIDTH - _LEFT - _RIGHT - 2 * 10
        return _LEFT + 10 + (inner * step / (self.steps - 1) if self.steps > 1 else inner / 2)

    def y(self, value: float) -> float:
        if value == 0:
            return _HEIGHT - _ROW / 2
        if value == inf:
            return _ROW / 2
        top, bottom = self.lost * _ROW, _HEIGHT - self.zero * _ROW
        share = (self.high - max(log10(value), self.low)) / (self.high - self.low)
        return top + (bottom - top) * share


def _axes(chart: Chart) -> _Axes:
    values = [*chain(*(one.values for one in chart.series)), *chart.limit]
    known = [value for value in values if isfinite(value) and value > 0] or [1.0]
    high = ceil(log10(max(known)) + 1e-9)
    low = max(floor(log10(min(known)) - 1e-9), high - _DECADES)
    return _Axes(len(chart.series[0].values), low, max(high, low + 1), 0.0 in values, inf in values)


def panels(drawing: ChartDrawing) -> list[list[Panel]]:
    """One picture a chart, all in one row."""
    return [[_panel(chart) for chart in drawing.charts]]


def _panel(chart: Chart) -> Panel:
    axes, lines = _axes(chart), []
    y = 0.0
    for words in textwrap.wrap(chart.title, 46):
        y += _LINE
        lines.append(text(words, 0, y - 2, "xf-sub"))
    y += _LINE
    lines.append(text(f"{chart.unit}, by time step", 0, y - 2, "xf-quiet"))
    lines.append(group(_plot(chart, axes), 0, y + 10))
    y += _HEIGHT + 42
    if chart.begins is not None:
        y += 12
    for sample, words in _legend(chart):
        lines.append(group([sample, text(words, 40, 12)], 0, y))
        y += _LINE
    return Panel(f"{chart.title}: {chart.unit}, by time step", _description(chart), WIDTH, y + 4, "".join(lines))


def _description(chart: Chart) -> str:
    """The largest of each series, in words."""
    found = []
    for one in chart.series:
        known = [(value, -step) for step, value in enumerate(one.values) if not isnan(value)]
        if known:
            value, step = max(known)
            over = f", {len(one.over)} of {len(one.values)} over the limit" if chart.limit else ""
            found.append(f"{one.name}: largest {_figure(value)} at time step {-step}{over}.")
    if chart.limit:
        found.append(f"Limit {_figure(min(chart.limit))} to {_figure(max(chart.limit))}.")
    return " ".join(found)


def _figure(value: float) -> str:
    return "no number" if value == inf else ratio_text(value) if 0.01 <= value < 100 else f"{value:.1e}"


# The plot.


def _plot(chart: Chart, axes: _Axes) -> Iterator[str]:
    right = WIDTH - _RIGHT
    if chart.limit:
        points = [(axes.x(i), axes.y(value)) for i, value in enumerate(chart.limit)]
        points = [(_LEFT, points[0][1]), *points, (right, points[-1][1])]
        line = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        yield element("polygon", class_="xf-above", points=f"{_LEFT},0 {line} {right},0")
        yield element("polyline", class_="xf-limit", points=line)
    yield from _ticks(axes)
    yield element("path", class_="xf-frame", d=f"M{_LEFT} 0V{_HEIGHT}H{right}")
    if chart.begins is not None:
        x = axes.x(chart.begins)
        yield element("path", class_="xf-limit", d=f"M{number(x)} 0V{_HEIGHT}")
        words = f"begins at {chart.begins}"
        yield text(words, min(max(x, _LEFT + 30), right - 30), _HEIGHT + 32, "xf-quiet xf-middle")
    for index, one in enumerate(chart.series):
        yield from _series(index, one, chart, axes)


def _ticks(axes: _Axes) -> Iterator[str]:
    right = WIDTH - _RIGHT
    every = ceil((axes.high - axes.low) / 5)
    rows = [(10.0**k, f"1e{k}" if not -3 < k < 4 else f"{10.0**k:g}") for k in range(axes.low, axes.high + 1, every)]
    rows += [(0.0, "0")] if axes.zero else []
    rows += [(inf, "none")] if axes.lost else []
    for value, words in rows:
        y = axes.y(value)
        yield element("path", class_="xf-frame", style="stroke-width:.6", d=f"M{_LEFT - 4} {number(y)}H{right}")
        yield text(words, _LEFT - 8, y + 4, "xf-end")
    apart = max(1, ceil((axes.steps - 1) / 6))
    for step in range(0, axes.steps, apart):
        yield text(str(step), axes.x(step), _HEIGHT + 14, "xf-middle")


def _series(index: int, one: Series, chart: Chart, axes: _Axes) -> Iterator[str]:
    style = index % _STYLES
    pieces, pen = [], "M"
    for step, value in enumerate(one.values):
        if isfinite(value):
            pieces.append(f"{pen}{number(axes.x(step))} {number(axes.y(value))}")
        pen = "L" if isfinite(value) else "M"
    if pieces:
        yield element("path", class_=f"xf-line xf-{style}", d="".join(pieces))
    every = 1 if axes.steps <= _MARKED else ceil(axes.steps / _SOME)
    for step, value in enumerate(one.values):
        if isnan(value):
            continue
        x, y = axes.x(step), axes.y(value)
        if step in one.over:
            yield element("circle", class_="xf-over", cx=x, cy=y, r=7)
        if step % every == 0 or value == inf:
            limit = f", limit {_figure(chart.limit[step])}" if chart.limit else ""
            yield _mark(style, x, y, f"{one.name}, step {step}: {_figure(value)}{limit}", lost=value == inf)


def _mark(style: int, x: float, y: float, words: str = "", lost: bool = False) -> str:
    """The sign of a series; smaller for later ones, so that none hides another. A cross where there is no number."""
    shown = title(words) if words else ""
    given = {"class_": f"xf-mark xf-open xf-{style}"}
    if lost:
        return element("path", shown, d=f"M{number(x - 4)} {number(y - 4)}l8 8m0 -8l-8 8", **given)
    if style == 0:
        return element("circle", shown, cx=x, cy=y, r=4.4, **given)
    if style == 1:
        return element("rect", shown, x=x - 2.6, y=y - 2.6, width=5.2, height=5.2, **given)
    shape = "l3.2 5.4h-6.4z" if style == 2 else "l2.4 2.8l-2.4 2.8l-2.4 -2.8z"
    return element("path", shown, d=f"M{number(x)} {number(y - 3)}{shape}", **given)


def _legend(chart: Chart) -> Iterator[tuple[str, str]]:
    """A sample of each line, and what it is."""
    for index, one in enumerate(chart.series):
        style = index % _STYLES
        yield element("path", class_=f"xf-line xf-{style}", d="M0 8h32") + _mark(style, 16, 8), one.name
    if chart.limit:
        yield element("path", class_="xf-limit", d="M0 8h32"), "allowed"
    if any(one.over for one in chart.series):
        yield element("circle", class_="xf-over", cx=16, cy=8, r=6), "over the limit"
