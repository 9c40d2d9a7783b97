"""How other interpreters are started: none takes a module from the folder in which this one happens to stand.

That folder may hold files of strangers, and Python puts it before its own library where a program is given by ``-c`` or ``-m``: a
``pickle.py`` that came with a model would be run. So a child is started with ``-I`` and is told where modules come from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["apart", "command", "places"]


def command(script: str, *words: str) -> list[str]:
    """What starts a script of this package, whose first argument is `places` as JSON."""
    return [sys.executable, "-I", str(Path(__file__).parent / script), json.dumps(places()), *words]


def places() -> list[str]:
    """Where modules come from: as for this process, without the current folder, unless Python's own are in it."""
    here = {""}
    with suppress(OSError):  # it may be gone
        here.add(str(Path.cwd()))
    here -= set(sysconfig.get_paths().values())
    return [place for place in map(os.fspath, sys.path) if place not in here]


def apart() -> dict[str, Any]:
    """What gives a child a group of its own: Ctrl-C on the terminal goes to all processes of a group."""
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}
