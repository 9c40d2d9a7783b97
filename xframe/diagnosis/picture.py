"""A small picture of where two sides depart, in characters: the error over time, and that of each gate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xframe.diagnosis.record import Where
from xframe.judging import LIMIT

__all__ = ["picture"]

# Columns for all of time, and for one time step.
_COLUMNS, _WIDEST = 60, 4
# Columns before them.
_MARGIN = 10
_DRIFT, _ALONE, _BOTH = "●", "○", "◉"
_BLOCKS = "▁▂▃▄▅▆▇█"
# Ratios beyond this are drawn like this one.
_LARGEST = 1e12


def picture(where: Where) -> str:
    """The error at each time step against the limit, on a logarithmic scale, and below it that of each gate.

    At most 100 characters wide. Nothing (an empty string) where nothing is known over time. Where there are more time steps
    than columns, a column shows the largest of its time steps.
    """
    known = [values for values in (where.steps, where.local) if values is not None]
    if not known:
        return ""
    steps = len(known[0])
    width = max(1, min(_WIDEST, _COLUMNS // steps))
    lines = [*_chart(where, width), *_axis(where, steps, width)]
    if where.gates:
        lines += [
            "",
            "largest difference of each gate, both sides in the same states; each step of height is a factor of 10",
            "",
        ]
        lines += _gates(where, width)
    return "\n".join(line.rstrip() for line in lines)


def _binned(values: np.ndarray | None) -> np.ndarray:
    """The largest of as many neighbours as it takes to fit the columns."""
    if values is None:
        return np.array([])
    several = _several(len(values))
    padded = np.append(values, np.full(-len(values) % several, np.nan))
    return np.fmax.reduce(padded.reshape(-1, several), axis=1)


def _several(steps: int) -> int:
    """How many time steps one column shows."""
    return -(-steps // _COLUMNS)


def _chart(where: Where, width: int) -> Iterator[str]:
    drift, alone = _binned(where.steps), _binned(where.local)
    yield "error over time, times the rounding noise"
    names = {_DRIFT: "with what earlier steps have done", _ALONE: "each step by itself", _BOTH: "both"}
    shown = [
        mark
        for mark, there in ((_DRIFT, drift.size), (_ALONE, alone.size), (_BOTH, drift.size and alone.size))
        if there
    ]
    yield "   ".join(f"{mark} {names[mark]}" for mark in shown)
    yield ""
    columns = max(drift.size, alone.size)
    for label, low, high in _rows(np.concatenate([drift, alone])):
        marks = (_mark(values, low, high, columns) for values in (drift, alone))
        cells = [{(1, 0): _DRIFT, (0, 1): _ALONE, (1, 1): _BOTH}.get(pair, "") for pair in zip(*marks, strict=True)]
        yield f"{label:>{_MARGIN - 1}} ┤{''.join(cell.ljust(width) for cell in cells)}"
        if low == LIMIT:
            yield f"{'limit':>{_MARGIN - 1}} ┼{'╌' * columns * width}"


def _rows(values: np.ndarray) -> Iterator[tuple[str, float, float]]:
    """The rows from the top: a label, the lowest ratio in it, and the one above it."""
    if np.isinf(values).any():
        yield "no number", np.inf, np.inf
    highest = min(float(values[np.isfinite(values)].max(initial=LIMIT)), _LARGEST)
    decades = 1 if highest < LIMIT * 1e6 else 2
    lows = [0.0, LIMIT / 10, *(low for k in range(0, 13, decades) if (low := LIMIT * 10.0**k) <= highest)]
    labels = [f"< {LIMIT / 10:g}", *(f"{low:g}" if low < 1e4 else f"{low:.0e}" for low in lows[1:])]
    yield from zip(labels[::-1], lows[::-1], [np.inf, *lows[:0:-1]], strict=True)


def _mark(values: np.ndarray, low: float, high: float, columns: int) -> list[int]:
    """For each column whether its ratio is in a row."""
    if not values.size:
        return [0] * columns
    return [int(value == low if low == np.inf else low <= value < high) for value in values]


def _axis(where: Where, steps: int, width: int) -> Iterator[str]:
    """The line of time, its first and last step, and where it begins."""
    several = _several(steps)
    columns = -(-steps // several) * width
    left, last = " " * _MARGIN, str(steps - 1)
    yield f"{left}└{'─' * columns}"
    ends = "0".ljust(columns - width - len(last) + 1) + last if steps > 1 else "0"
    yield f"{left} {ends}   time step"
    if where.step is not None:
        yield f"{left} {' ' * (where.step // several * width)}▲ begins at {where.step}"


def _gates(where: Where, width: int) -> Iterator[str]:
    gates = {name: _binned(values) for name, values in where.gates.items()}
    highest = max(float(values[np.isfinite(values)].max(initial=0.0)) for values in gates.values())
    for name, values in gates.items():
        own = float(np.fmax.reduce(values, initial=0.0))
        strip = "".join(_block(value, highest) * width for value in values)
        yield f"{f'gate {name}':>{_MARGIN - 1}}  {strip}   up to {own:.2g}"


def _block(value: float, highest: float) -> str:
    """The character for one difference; a dot where it is nothing beside the highest."""
    if np.isnan(value):
        return " "
    if value >= highest > 0 or np.isinf(value):
        return _BLOCKS[-1]
    level = len(_BLOCKS) - 1 + int(np.ceil(np.log10(value / highest))) if value else -1
    return _BLOCKS[level] if level >= 0 else "·"
