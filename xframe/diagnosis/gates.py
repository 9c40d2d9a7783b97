"""Gates laid open: what goes into their activations and what comes out, on both sides in the same states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xframe import noise, reference
from xframe.arithmetic import Plain
from xframe.cells import Arithmetic, get_cell
from xframe.diagnosis.internals import Forced, Known, Place, worst
from xframe.judging import LIMIT
from xframe.reference import Given

__all__ = ["FirstGate", "first_gate", "gate_differences"]

# Perturbations finer than this would drown in float64; see `xframe.noise`.
_FINEST = 2.0**-40


class _Watched:
    """Arithmetic that keeps what goes into activations and what comes out, for each layer and direction by itself."""

    def __init__(self, ops: Arithmetic) -> None:
        self._ops = ops
        self.add, self.subtract, self.multiply, self.matmul = ops.add, ops.subtract, ops.multiply, ops.matmul
        self.calls: list[list[tuple[np.ndarray, np.ndarray]]] = []

    def weight(self, w: np.ndarray, ones: Sequence[int], batch: int) -> Any:
        # All weights of a layer and direction are prepared before its first step.
        if not self.calls or self.calls[-1]:
            self.calls.append([])
        return self._ops.weight(w, ones, batch)

    def activate(self, name: str, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        before = a.copy()
        out = self._ops.activate(name, a, out)
        self.calls[-1].append((before, out.copy()))
        return out


def _opened(known: Known, given: Given, place: Place, ops: Arithmetic) -> np.ndarray:
    """The gates of one place in one time step: (before and after the activation, gates, units, batch)."""
    spec, watched = known[0], _Watched(ops)
    reference.run(*known, given.x, given.state, watched)
    part = spec.part(place[1], place[0])
    count = len(get_cell(part.cell).gates)
    calls = watched.calls[list(spec.places).index(place)]
    # The gates come first, in their order; an LSTM then activates its state c.
    both = [np.concatenate(ends)[: count * part.hidden_size] for ends in zip(*calls, strict=True)]
    return np.stack(both).reshape(2, count, part.hidden_size, -1)


def gate_differences(a: Known, b: Known, steps: Forced, place: Place) -> dict[str, np.ndarray]:
    """By gate of a place, (time,) the largest difference of its value when both sides read a step in the same states."""
    found = []
    for times in steps.blocks():
        given = steps.given(times)
        mine, theirs = (_opened(known, given, place, Plain())[1] for known in (a, b))
        difference = np.where(np.isfinite(mine), np.abs(mine - theirs), np.nan)
        found.append(steps.by_time(worst(difference, axis=1).T, times))
    gates = get_cell(a[0].part(place[1], place[0]).cell).gates
    return dict(zip(gates, np.concatenate(found).T, strict=True))


class FirstGate(NamedTuple):
    """The gates that depart first.

    Attributes:
        names: the one that departs most before the others.
        stage: ``pre-activation`` or ``activation``.
        units: (units,) of that one, the difference in units of noise.
    """

    names: tuple[str, ...]
    stage: str
    units: np.ndarray


def first_gate(a: Known, b: Known, steps: Forced, place: Place, time: int, dtype: str) -> FirstGate | None:
    """Where the gates of one place and time step depart, or None if they do not."""
    part, given = a[0].part(place[1], place[0]), steps.given(slice(time, time + 1))
    cell = get_cell(part.cell)
    ratios = _gate_ratios(a, b, given, place, dtype)[..., steps.judged[time]]
    # The gates of one product are computed side by side; the next product may read what has become of them.
    for group in dict.fromkeys(product.gates for product in cell.products(part)):
        for stage, by_gate in zip(("pre-activation", "activation"), ratios, strict=True):
            found = {gate: worst(by_gate[cell.gates.index(gate)], axis=1) for gate in group}
            off = sorted((g for g in group if worst(found[g]) > LIMIT), key=lambda g: -worst(found[g]))
            if off:
                return FirstGate(tuple(off), stage, found[off[0]])
    return None


def _gate_ratios(a: Known, b: Known, given: Given, place: Place, dtype: str) -> np.ndarray:
    """The difference of gates (before and after, gates, units, batch), in units of the noise that a gate has over its units."""
    roundoff, batch, copies = noise.ROUNDOFF.get(dtype, noise.ROUNDOFF["float32"]), given.x.shape[0], 1 + noise.REPLICAS
    u = max(roundoff, _FINEST)
    states = {name: np.tile(value, (1, 1, copies, 1)) for name, value in (given.state or {}).items()}
    many = Given(np.tile(given.x, (copies, 1, 1)), states)
    values = _opened(a, many, place, noise.Perturbed(batch, u, 0, noise.underflow(dtype)))
    values = values.reshape(*values.shape[:-1], copies, batch)
    clean, copied = values[..., 0, :], values[..., 1:, :]
    spread = np.sqrt(np.mean(np.square(copied - clean[..., None, :]), axis=(2, 3), keepdims=True))[..., 0, :]
    difference = np.abs(_opened(b, given, place, Plain()) - clean)
    return difference / (spread * roundoff / u + np.finfo(np.float32).tiny)
