"""Baselines: a layer, what it is run on, and what it puts out, kept in a file against which later versions are checked.

A baseline holds all that a check needs but the framework: specs, canonical parameters, inputs, states and masks, the
outputs of the NumPy reference in float64, the rounding noise of each output in each float type, and what the framework
meant by its names (its defaults and its activation functions). What an upgrade changed is then not only found but named.
"""

from __future__ import annotations

from xframe.baseline.checking import Checking, check
from xframe.baseline.reading import load
from xframe.baseline.recording import Recording, record
from xframe.baseline.stored import SCHEMA, Baseline, RecordedInput, RecordedLayer, save

__all__ = [
    "SCHEMA",
    "Baseline",
    "Checking",
    "RecordedInput",
    "RecordedLayer",
    "Recording",
    "check",
    "load",
    "record",
    "save",
]
