"""What a diagnosis found. A record: reports print it, nothing computes from here on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from xframe.spec import Layer

__all__ = ["Cause", "Diagnoses", "Diagnosis", "Fault", "Where"]


@dataclass(frozen=True)
class Fault:
    """One mistake that was made.

    Attributes:
        entry: the catalogue's entry, ``gate order``.
        name: what exactly, as the end of "b is a with ...": ``gates r and z swapped``.
        why: how it comes about.
        mend: what to do.
    """

    entry: str
    name: str
    why: str
    mend: str


@dataclass(frozen=True)
class Cause:
    """One or two mistakes that together explain the whole difference.

    Attributes:
        faults: the mistakes.
        noise_ratio: with them, the largest difference in units of rounding noise: at most the limit of a verdict.
        max_abs: with them, the largest absolute difference.
        reverse: whether it is the first of the two sides that has them, not the second.
        alike: names of other explanations that these outputs do not tell from this one.
    """

    faults: tuple[Fault, ...]
    noise_ratio: float
    max_abs: float
    reverse: bool = False
    alike: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The names of the mistakes in one."""
        return " and ".join(fault.name for fault in self.faults)


@dataclass(frozen=True)
class Where:
    """Where two sides begin to depart.

    What cannot be told, because only outputs are known, is None.

    Attributes:
        sentence: all of it in one or two sentences.
        step: the time step of the input, from 0: the first one in the order in which the direction reads.
        layer, direction: where, from 0.
        gate, unit: which gate, and which unit of it.
        stage: ``pre-activation`` or ``activation``: in which of the two the gate departs first.
        steps: (time,) largest difference at each time step of the input, in units of rounding noise, as it has grown up to
            there (drift); infinite where the second side put out no number, NaN where the step is not judged.
        local: (time,) the same for each time step by itself, both sides going on from the same states; masked ones are not
            judged.
        gates: by gate of that layer and direction, (time,) the largest difference of its value from the same states.
    """

    sentence: str
    step: int | None = None
    layer: int | None = None
    direction: int | None = None
    gate: str | None = None
    unit: int | None = None
    stage: str | None = None
    steps: np.ndarray | None = None
    local: np.ndarray | None = None
    gates: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """Why two sides differ, and where; true when they do not.

    Attributes:
        status: ``equivalent``, ``explained``, ``unexplained`` or ``inconclusive``.
        reason: one sentence.
        a, b: what the two sides are called.
        spec: the layer; None for what runs between the layers of two models.
        noise_ratio, max_abs: the largest difference as it is, in units of rounding noise and absolutely.
        causes: what explains it, the likeliest first.
        where: where it begins.
        tried: how many explanations were tried.
        notes: what else a reader should know.
    """

    status: str
    reason: str
    a: str
    b: str
    spec: Layer | None
    noise_ratio: float
    max_abs: float
    causes: tuple[Cause, ...] = ()
    where: Where | None = None
    tried: int = 0
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.status == "equivalent"

    def report(self, format: str = "text") -> str:
        """The diagnosis as ``text``, ``markdown``, ``html`` or ``json``."""
        from xframe.report import render

        return render(self, format)


@dataclass(frozen=True)
class Diagnoses:
    """Why two models of several layers differ; true when they do not.

    Attributes:
        status: ``equivalent``, ``explained`` (every pair of layers that differs is), ``unexplained`` or ``inconclusive``.
        reason: one sentence.
        a, b: what the two sides are called.
        parts: one for each pair of layers.
        notes: what else a reader should know.
    """

    status: str
    reason: str
    a: str
    b: str
    parts: tuple[Diagnosis, ...]
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.status == "equivalent"

    def report(self, format: str = "text") -> str:
        """The diagnoses as ``text``, ``markdown``, ``html`` or ``json``."""
        from xframe.report import render

        return render(self, format)
