"""The picture of where two sides depart as a file, by matplotlib."""

from __future__ import annotations

import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xframe.diagnosis.record import Diagnosis, Where
from xframe.errors import MissingFrameworkError, SpecError
from xframe.escaping import printable
from xframe.judging import LIMIT
from xframe.placing import making, refused

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "check_plot", "plot"]

FORMATS = ("png", "pdf", "svg")
# Ratios beyond this are drawn like this one, and those below the other like that.
_LARGEST, _SMALLEST = 1e12, 1e-2
# The least difference of a gate that is told from none, over the largest.
_FAINTEST = 1e-8
# Up to so many time steps, each is marked.
_MARKED = 60
# What is drawn, and in which colour: two that are told apart in grey too.
_DRIFT = ("with what earlier steps have done (drift)", "#1f4e79")
_ALONE = ("each step by itself", "#e07b39")
_GREY = "#555555"


def check_plot(path: str | Path) -> None:
    """Refuse at once what could not be drawn after a long diagnosis.

    Raises:
        SpecError: the name does not end as one of `FORMATS`.
        MissingFrameworkError: matplotlib is not installed.
    """
    if _format(path) not in FORMATS:
        raise SpecError(f"A plot is written as {', '.join(f'.{f}' for f in FORMATS)}; {path} ends in none of them.")
    if find_spec("matplotlib") is None:
        raise MissingFrameworkError(f"Cannot draw {path}: matplotlib is not installed; pip install 'xframe[plot]'.")


def _format(path: str | Path) -> str:
    return Path(path).suffix.removeprefix(".").lower()


def plot(found: Diagnosis | Where, path: str | Path) -> None:
    """Write the error over time and that of each gate to a file, whole or not at all.

    Raises:
        SpecError: the name does not end as one of `FORMATS`, or nothing is known over time.
        MissingFrameworkError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    check_plot(path)
    where = found.where if isinstance(found, Diagnosis) else found
    if where is None or (where.steps is None and where.local is None):
        raise SpecError("There is nothing to plot: no error over time is known; leave the plot out.")
    figure = _drawn(where, f"{found.b} against {found.a}: {found.spec}" if isinstance(found, Diagnosis) else "")
    target = Path(path)
    try:
        with making(target) as made:
            with made.open("xb") as file:
                figure.savefig(file, format=_format(path))
            made.replace(target)
    except OSError as error:
        raise refused(path, error) from None


def _drawn(where: Where, title: str) -> Figure:
    # No pyplot: it would keep the figure, and choose a window system.
    from matplotlib.figure import Figure

    rows = 2 if where.gates else 1
    figure = Figure(figsize=(8, 3.4 + 1.9 * (rows - 1)), dpi=120, layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=[3, 2][:rows])[:, 0]
    _draw_errors(axes[0], where)
    if where.gates:
        _draw_gates(figure, axes[1], where)
    axes[-1].set_xlabel("time step")
    # A dollar sign would begin a formula.
    figure.suptitle(textwrap.fill(printable(title), 110), fontsize=10, parse_math=False)
    return figure


def _draw_errors(axes: Axes, where: Where) -> None:
    from matplotlib.ticker import MaxNLocator

    highest = LIMIT
    series = ((_DRIFT, where.steps, "-", "o"), (_ALONE, where.local, "--", "s"))
    for (label, colour), values, line, mark in series:
        if values is None:
            continue
        drawn = np.clip(values, _SMALLEST, _LARGEST)
        drawn[np.isinf(values)] = np.nan
        marker = mark if len(values) <= _MARKED else ""
        axes.plot(drawn, line, label=label, color=colour, linewidth=1.4, marker=marker, markersize=3.5)
        highest = max(highest, float(np.fmax.reduce(drawn, initial=0)))
        axes.set_xlim(-0.5, len(values) - 0.5)
    top = 30 * highest
    for (_, colour), values, *_ in series:
        if values is not None and len(lost := np.flatnonzero(np.isinf(values))):
            axes.plot(lost, np.full(len(lost), top / 3), "x", color=colour, markersize=4, label="no number")
    axes.axhline(LIMIT, color=_GREY, linewidth=1, linestyle=":", label=f"limit, {LIMIT:g}")
    if where.step is not None:
        axes.axvline(where.step, color=_GREY, linewidth=0.8, label=f"begins at {where.step}")
    axes.set_yscale("log")
    axes.set_ylim(_SMALLEST / 2, top)
    axes.set_ylabel("error, times the\nrounding noise")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, ncols=2, loc="center left", bbox_to_anchor=(0, 1.12), frameon=False)


def _draw_gates(figure: Figure, axes: Axes, where: Where) -> None:
    from matplotlib.colors import LogNorm

    values = np.array(list(where.gates.values()))
    highest = float(values[np.isfinite(values)].max(initial=0)) or 1.0
    ends = np.arange(values.shape[1] + 1) - 0.5
    drawn = axes.pcolormesh(
        ends,
        np.arange(len(values) + 1) - 0.5,
        np.clip(values, highest * _FAINTEST, highest),
        norm=LogNorm(highest * _FAINTEST, highest),
        cmap="Blues",
    )
    axes.set_yticks(range(len(values)), [f"gate {name}" for name in where.gates])
    axes.invert_yaxis()
    figure.colorbar(drawn, ax=axes, label="largest difference")
