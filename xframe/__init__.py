"""xframe: the same recurrent layer in two frameworks, counted, explained, moved and proven.

Importing it imports neither NumPy nor any framework; names below are loaded when they are first used, because every pytest that
runs where xframe is installed loads its plugin.
"""

import os
import sys

# ``python -m`` puts the current folder before Python's own library. What lies there may be a stranger's, so it is taken away
# before anything is imported that Python has not imported itself, not even ``__future__``; unless xframe is what lies there.
if sys.argv[:1] == ["-m"]:
    try:
        if sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(__file__)):  # noqa: PTH109, PTH120
            del sys.path[0]
    except OSError:  # the folder is gone
        pass

import importlib
from typing import TYPE_CHECKING, Any

from xframe.errors import (
    FileError,
    LayoutError,
    LimitError,
    MissingFrameworkError,
    SpecError,
    UnsupportedError,
    WorkerError,
    XframeError,
)

if TYPE_CHECKING:
    from xframe import adapters, budget, files, keras, masks, mistakes, noise, probe, reference, torch
    from xframe.baseline import check, record
    from xframe.comparison import compare
    from xframe.conversion import convert
    from xframe.counts import count
    from xframe.diagnosis import diagnose
    from xframe.environment import doctor
    from xframe.explanation import explain
    from xframe.layout import Key
    from xframe.moving import transfer
    from xframe.packing import Parameters
    from xframe.spec import Dense, Recurrent, Sequential
    from xframe.testing import assert_equivalent
    from xframe.verdict import Verdict
    from xframe.verification import verify

__version__ = "0.1.0"

__all__ = [
    "Dense",
    "FileError",
    "Key",
    "LayoutError",
    "LimitError",
    "MissingFrameworkError",
    "Parameters",
    "Recurrent",
    "Sequential",
    "SpecError",
    "UnsupportedError",
    "Verdict",
    "WorkerError",
    "XframeError",
    "adapters",
    "assert_equivalent",
    "budget",
    "check",
    "compare",
    "convert",
    "count",
    "diagnose",
    "doctor",
    "explain",
    "files",
    "keras",
    "masks",
    "mistakes",
    "noise",
    "probe",
    "record",
    "reference",
    "torch",
    "transfer",
    "verify",
]

_MODULES = ("adapters", "budget", "files", "keras", "masks", "mistakes", "noise", "probe", "reference", "torch")
_LAZY = {
    "Dense": "spec",
    "Key": "layout",
    "Parameters": "packing",
    "Recurrent": "spec",
    "Sequential": "spec",
    "Verdict": "verdict",
    "assert_equivalent": "testing",
    "check": "baseline",
    "compare": "comparison",
    "convert": "conversion",
    "count": "counts",
    "diagnose": "diagnosis",
    "doctor": "environment",
    "explain": "explanation",
    "record": "baseline",
    "transfer": "moving",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"xframe.{_LAZY[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"xframe.{name}")
    raise AttributeError(f"module 'xframe' has no attribute {name!r}")
