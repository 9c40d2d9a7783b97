"""Waits for the process that started it to end, by whatever, and then tidies up what that left unfinished (`xframe.placing`).

Its arguments are where modules come from, which it does not need; the folder in which something is made; where it was to be.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from os.path import lexists
from pathlib import Path

# What lies in the folder in which something is made: that; what it replaces; the word that its place has been taken.
MADE, OLD, TAKEN = "made", "old", "taken"


def settle(place: Path, target: Path) -> None:
    """Leave the old or the new, and nothing else: what has not been put in its place is gone, and what was there is back."""
    if lexists(place / MADE):
        if lexists(place / TAKEN):
            with suppress(OSError):  # somebody else's files are in it
                target.rmdir()
        if lexists(place / OLD):
            put_back(place / OLD, target)
    shutil.rmtree(place, ignore_errors=True)


def put_back(old: Path, target: Path) -> Path:
    """Move what was there to where it was or, where something else is now, beside that; where it is then."""
    names = (target, *(target.with_name(f"{target.name}.old-{number}") for number in range(1, 1000)))
    return old.rename(next(name for name in names if not lexists(name)))


if __name__ == "__main__":
    sys.stdin.buffer.read()
    settle(Path(sys.argv[2]), Path(sys.argv[3]))
