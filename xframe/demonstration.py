"""Showing the redundancy: move a constant from one bias to the other and see whether the outputs notice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xframe import noise, reference
from xframe.cells import get_cell
from xframe.errors import SpecError
from xframe.judging import LIMIT
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input, draw_parameters
from xframe.reference import Given
from xframe.spec import Recurrent

__all__ = ["Demonstration", "Move", "demonstrate"]

CONSTANT = 0.5


@dataclass(frozen=True)
class Move:
    """What became of the outputs when the constant was moved in one gate: the largest change, and in units of noise."""

    gate: str
    change: float
    noise_ratio: float

    @property
    def redundant(self) -> bool:
        """Whether the outputs did not change beyond rounding."""
        return self.noise_ratio <= LIMIT


@dataclass(frozen=True)
class Demonstration:
    """The outcome for every gate."""

    spec: Recurrent
    constant: float
    moves: tuple[Move, ...]

    @property
    def conclusion(self) -> str:
        """One sentence."""
        same = [m.gate for m in self.moves if m.redundant]
        other = [m.gate for m in self.moves if not m.redundant]
        parts = []
        if same:
            parts.append(f"in {_gates(same)} only the sum of the two biases counts, so one of them is redundant")
        if other:
            parts.append(f"in {_gates(other)} the outputs change, so there both biases count")
        text = "; ".join(parts)
        return f"{text[0].upper()}{text[1:]}."

    def report(self, format: str = "text") -> str:
        """The demonstration as ``text``, ``markdown``, ``html`` or ``json``."""
        from xframe.report import render

        return render(self, format)


def _gates(names: list[str]) -> str:
    return f"gate {names[0]}" if len(names) == 1 else f"gates {', '.join(names)}"


def demonstrate(spec: Recurrent, probe: Probe) -> Demonstration:
    """Move a constant from the input bias to the recurrent bias, gate by gate, and run the reference on the same input.

    Raises:
        SpecError: the layer has no biases, or is too large.
    """
    if not spec.bias:
        raise SpecError("A layer without biases has nothing to move; leave out --no-bias.")
    params, x = draw_parameters(spec, probe.seed), draw_input(spec, probe)
    truth = noise.measure(spec, params, Given(x), "float64")
    before = reference.run(spec, params, x).named()
    moves = []
    for gate in get_cell(spec.cell).gates:
        after = reference.run(spec, _moved(params, gate), x).named()
        moves.append(
            Move(
                gate,
                max(float(np.abs(after[name] - before[name]).max()) for name in before),
                max(float(noise.ratio(after[n], truth.clean[n], truth.deviation[n]).max()) for n in before),
            )
        )
    return Demonstration(spec, CONSTANT, tuple(moves))


def _moved(params: Parameters, gate: str) -> Parameters:
    shift = {"bias": -CONSTANT, "recurrent_bias": CONSTANT}
    return params.replaced({k: v + shift[k.role] for k, v in params.items() if k.gate == gate and k.role in shift})
