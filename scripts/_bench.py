"""What the benchmarks share: timing that stands a noisy machine, and the table they print.

The things that are compared take turns (A B A B ...), and a ratio is the median of the ratios of neighbours: a slow
spell of the machine then meets both sides.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

__all__ = ["Row", "against", "growth", "interleaved", "milliseconds", "show"]

Times = Mapping[str, Sequence[float]]


class Row(NamedTuple):
    """One line of the table; ``bar`` is the largest ratio that is good enough."""

    what: str
    time: str
    against: str
    ratio: float
    bar: float


def interleaved(runs: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds that each took in each round, the warm-up left out."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(warm_up + rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if k >= warm_up:
                times[name].append(time.perf_counter() - start)
    return times


def growth(run: Callable[[], object]) -> float:
    """By how many MB the peak of the resident memory exceeds what it is at the start (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to the present size
    before = _resident("VmRSS")
    run()
    return (_resident("VmHWM") - before) / 1e6


def _resident(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def against(times: Times, what: str, other: str, bar: float) -> Row:
    """The line that sets one of the timed things against another."""
    ratio = statistics.median(a / b for a, b in zip(times[what], times[other], strict=True))
    return Row(what, milliseconds(times[what]), f"{other} ({milliseconds(times[other])})", ratio, bar)


def milliseconds(times: Sequence[float]) -> str:
    """The median, for people."""
    return f"{statistics.median(times) * 1000:,.1f} ms"


def show(title: str, rows: Sequence[Row]) -> None:
    """Print the table."""
    print(title)
    print(tabulate(rows, ["what", "time", "against what", "ratio", "bar"], floatfmt=".2f"), flush=True)
