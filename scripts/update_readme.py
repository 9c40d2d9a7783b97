"""Run the commands whose output the README shows, and put what they print there.

A block of the README that follows ``<!-- output of: COMMAND -->`` is replaced by what COMMAND prints. Benchmarks and the
calibration take minutes and a quiet machine; they are run only with ``--all``.

    python scripts/update_readme.py [--all]
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"<!-- output of: (?P<command>.+?) -->\n(?P<body>.*?)<!-- end -->\n", re.DOTALL)
SLOW = re.compile(r"bench_|calibrate")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Every command in the README with the output that stands there."""
    for found in BLOCK.finditer(text):
        yield found["command"], found["body"].removeprefix("```text\n").removesuffix("```\n")


def output(command: str) -> str:
    """What a command prints; ``xframe`` and ``python`` are those that run this script."""
    words = command.split()
    start = [sys.executable, "-m", "xframe"] if words[0] == "xframe" else [sys.executable]
    done = subprocess.run([*start, *words[1:]], stdout=subprocess.PIPE, text=True, check=True, cwd=README.parent)
    return done.stdout


def replacement(found: re.Match[str]) -> str:
    command = found["command"]
    if SLOW.search(command) and "--all" not in sys.argv:
        return found[0]
    text = output(command)
    # A table in Markdown is shown as a table, a report as it is printed.
    body = text if text.startswith("|") else f"```text\n{text}```\n"
    return f"<!-- output of: {command} -->\n{body}<!-- end -->\n"


if __name__ == "__main__":
    README.write_text(BLOCK.sub(replacement, README.read_text(encoding="utf-8")), encoding="utf-8")
