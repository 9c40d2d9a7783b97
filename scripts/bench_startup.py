"""How long the command line takes to start, as a whole process, against the imports that it cannot do without.

``xframe explain`` needs no framework, so it is set against importing NumPy; ``xframe compare`` runs both frameworks, so
it is set against importing them.

Run: python scripts/bench_startup.py
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from _bench import against, interleaved, show

EXPLAIN, NUMPY = "xframe explain rnn --hidden 10 --features 1", "import numpy"
COMPARE, FRAMEWORKS = "xframe compare", "import tensorflow, torch"


def process(name: str) -> Callable[[], object]:
    """Run a command of xframe, or a statement, in a new interpreter; what it prints is thrown away."""
    arguments = ["-m", *name.split()] if name.startswith("xframe ") else ["-c", name]
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def main() -> None:
    """Time, print."""
    rows = []
    for name, other, rounds, bar in ((EXPLAIN, NUMPY, 30, 1.5), (COMPARE, FRAMEWORKS, 10, 1.2)):
        times = interleaved({name: process(name), other: process(other)}, rounds)
        rows.append(against(times, name, other, bar))
    show("Whole processes", rows)


if __name__ == "__main__":
    main()
