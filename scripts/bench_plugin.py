"""How much the plugin adds to the start of pytest, for a project that has xframe installed and does not use it.

Whole processes in an empty folder take turns, with the plugin and without it; what counts is the median of the differences
between neighbours. Their processor time is taken, because what is small against the waiting of a busy machine is lost in it.

Run: python scripts/bench_plugin.py
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _bench import Row, milliseconds, show

BAR = 0.020  # seconds
ROUNDS = 40


def start(folder: str, *arguments: str) -> float:
    """Processor time, in seconds, of a pytest that has nothing to collect and loads no plugins but those that are named."""
    path = [str(Path(__file__).resolve().parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Time, print."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = [(start(folder, "-p", "xframe.pytest_plugin"), start(folder)) for _ in range(ROUNDS)]
    added = [with_it - without for with_it, without in rounds]
    row = Row(
        "what the plugin adds",
        milliseconds(added),
        f"the most it may add ({milliseconds([BAR])})",
        statistics.median(added) / BAR,
        1.0,
    )
    show(f"Starting pytest, {milliseconds([without for _, without in rounds])} without the plugin", [row])


if __name__ == "__main__":
    main()
