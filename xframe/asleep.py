"""Which single numbers of a layer move an output on the inputs that it is judged on; the others are asleep.

A weight of a relu unit that is off at every time step, behind a gate that is shut, or of a unit that is saturated, is not judged
by any output: it may be another one, and nobody would see. A number is awake where a change by a share of the largest number of
its block moves the outputs by more than the limit of a verdict. How far it moves them is told by one pass back through the
reference (`xframe.gradient`): the slope of a sum of all outputs, each in units of its rounding noise and with a random weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from xframe import noise
from xframe.cells import get_cell
from xframe.gradient import slopes
from xframe.judging import LIMIT, Input
from xframe.layout import Key
from xframe.packing import Parameters
from xframe.reference import Given
from xframe.spec import Layer
from xframe.verdict import Power

__all__ = ["Moved", "counted", "moved", "moved_by_any", "none_moved", "share"]

# By effective block, which of its numbers move an output.
Moved = Mapping[Key, np.ndarray]

# The change that must show: a thousandth, or in types whose rounding comes near that, as much as the number itself.
_SHARE, _COARSE = 1e-3, 1.0
# So many numbers of buffers are traced; of larger inputs fewer rows of the batch.
_MOST = 2_000_000
# How many sleepers are named.
_NAMED = 3


def share(dtype: str) -> float:
    """The change, as a share of the largest number of a block, that must show in a float type."""
    return _SHARE if noise.ROUNDOFF[dtype] <= noise.ROUNDOFF["float32"] else _COARSE


def none_moved(params: Parameters) -> Moved:
    """All numbers asleep."""
    return {key: np.zeros(block.shape, bool) for key, block in params.effective().items()}


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is not judged
def moved(one: Input, dtype: str) -> Moved:
    """Which numbers of a layer move an output on an input by more than the limit, judged in ``dtype``."""
    truth, rows = one.noise(dtype), _rows(one.spec, one.given)  # type: ignore[arg-type]
    random, weights = np.random.default_rng(0), {}
    for name, deviation in truth.deviation.items():
        first = (slice(None),) * noise.batch_axis(name) + (slice(rows),)
        weight = random.choice([-1, 1], deviation.shape) * random.uniform(0.5, 1.5, deviation.shape) / deviation
        weights[name] = np.where(np.isfinite(truth.clean[name]) & np.isfinite(weight), weight, 0)[first]
    found = slopes(one.spec, one.params, _first_rows(one.given, rows), weights)  # type: ignore[arg-type]
    blocks = one.params.effective()
    largest = max(float(np.abs(block).max()) for block in blocks.values())
    sizes = {key: share(dtype) * (float(np.abs(block).max()) or largest) for key, block in blocks.items()}
    return {key: np.abs(found[key]) * size > LIMIT for key, size in sizes.items()}


def _rows(spec: Layer, given: Given) -> int:
    """How many rows of a batch are traced."""
    parts = [spec.part(direction, layer) for layer, direction in spec.places]
    width = sum(len(get_cell(part.cell).gates) * part.hidden_size for part in parts)
    steps = given.x.shape[1] if given.x.ndim == 3 else 1
    return max(1, _MOST // (steps * width))


def _first_rows(given: Given, rows: int) -> Given:
    return Given(
        given.x[:rows],
        given.state and {name: value[:, :, :rows] for name, value in given.state.items()},
        None if given.mask is None else given.mask[:rows],
        given.before and _first_rows(given.before, rows),
    )


def moved_by_any(start: Moved, inputs: Iterable[Input], dtype: str) -> Moved:
    """What is moved already, and what is by one of more inputs, of which no more are tried than it takes."""
    found = start
    for one in inputs:
        if all(block.all() for block in found.values()):
            break
        more = moved(one, dtype)
        found = {key: block | more[key] for key, block in found.items()}
    return found


def counted(power: Power, layers: Mapping[str, Moved], dtype: str) -> Power:
    """The power of a comparison with the count of single numbers of its layers, and the first that are asleep by name."""
    numbers = sum(block.size for moves in layers.values() for block in moves.values())
    awake = sum(int(np.count_nonzero(block)) for moves in layers.values() for block in moves.values())
    sleepers: list[str] = []
    for layer, moves in layers.items():
        for key, block in moves.items():
            for place in np.argwhere(~block)[:_NAMED]:
                where = "" if layer == "layer" else f"{layer}, "
                sleepers.append(f"{where}{key} [{', '.join(map(str, place))}]")
    return replace(power, numbers=numbers, moved=awake, share=share(dtype), asleep=tuple(sleepers[:_NAMED]))
