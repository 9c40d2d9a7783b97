"""On which inputs a chain is tried, and what the reference makes of them.

Inputs are chosen so that something shows: the first draw nearly always does, but behind a last relu all outputs may be zero,
and large weights may overflow. Then smaller and larger inputs and further draws are tried. Of a step of which a mistake would
not show on these, as of a recurrent one that is given one time step, more is seen alone (`alone`), on inputs of other sizes and
lengths (`further`); and of one whose own numbers let nothing through, with others (`redrawn`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from xframe.chain import reference
from xframe.chain.base import Chain, Step
from xframe.chain.kinds import masked, shapes
from xframe.errors import SpecError
from xframe.layout import block_shape, keys
from xframe.probe import draw_parameters, rounded
from xframe.spec import Layer

__all__ = ["LIGHT", "PROBES", "Probed", "alone", "further", "held", "numbers", "probed", "redrawn", "sizes"]

# Batch sizes and lengths at which a chain is run, and those for chains of more numbers than the next line says.
PROBES = ((2, 5), (1, 1), (3, 12))
_FEW = ((2, 3), (1, 1))
# Mistakes are tried on chains of up to this many numbers: each costs a run of the reference.
LIGHT = 2_000_000
# Lengths that are tried where a chain cannot read so few time steps.
_LONGER = (12, 48, 192, 768, 3072)
# By how much inputs are larger, and which draw they are, tried one after the other. Powers of two keep them as exact as they are.
_CHOICES = tuple(product(range(3), (1.0, 0.125, 8.0, 1 / 64)))
# The same for the inputs on which mistakes may show that do not show elsewhere, and the lengths of these.
_SCALES, _LENGTHS = (1.0, 0.125, 8.0, 1 / 64, 64.0), (12, 48, 5)
# How often other numbers are drawn.
_REDRAWS = 6
# The kinds of steps that do something else where a mask reaches them.
_MASKED = ("recurrent", "pool")


class Probed(NamedTuple):
    """An input, exact in its float type, what the reference makes of it in float64, and the rounding noise of that."""

    x: np.ndarray
    clean: np.ndarray
    deviation: np.ndarray


def sizes(chain: Chain) -> Iterator[tuple[int, int | None]]:
    """The sizes of the probes; what a stateful layer or a fixed length allows. The length is None where there is no time."""
    probes = _FEW if numbers(chain) > LIGHT else PROBES
    yield from dict.fromkeys(_size(chain, batch, steps) for batch, steps in probes)


def _size(chain: Chain, batch: int, steps: int) -> tuple[int, int | None]:
    """The nearest size that the chain allows."""
    batches = {size for step in chain.steps if (size := getattr(step.spec, "batch_size", None)) is not None}
    words = chain.steps[0].kind == "embedding"
    timeless = len(chain.input_shape) < 2 and not words
    return next(iter(batches), batch), None if timeless else chain.input_shape[0] or steps


def probed(chain: Chain, size: tuple[int, int | None], dtype: str, seed: int = 0) -> Probed:
    """An input of this size on which the outputs are numbers, in that type too, and not all zero, if one is found.

    It is longer where a convolution or a shape does not allow so few time steps.
    """
    steps = next((n for n in (size[1] or 1, *_LONGER[:-1]) if _allows(chain, size[0], n)), _LONGER[-1])
    best, most = _drawn(chain, size[0], steps, dtype, seed, 1.0), -1.0
    for draw, scale in _CHOICES:
        x = _drawn(chain, size[0], steps, dtype, seed + 1_000 * draw, scale)
        share = _awake(chain, x, dtype)
        if share > most:
            best, most = x, share
        if most == 1 or (most > 0 and numbers(chain) > LIGHT):
            break
    return _measured(chain, best, dtype)


def further(chain: Chain, dtype: str) -> Iterator[Probed]:
    """Smaller inputs, for gates that are saturated, larger ones, longer and shorter ones."""
    tried = dict.fromkeys(_size(chain, 2, length) for length in _LENGTHS)
    for number, ((batch, steps), scale) in enumerate(product(tried, _SCALES), 1):
        with suppress(SpecError):  # it cannot read so few time steps
            x = _drawn(chain, batch, steps or 1, dtype, 20_000 * number, scale)
            if _awake(chain, x, dtype):
                yield _measured(chain, x, dtype)


def alone(chain: Chain, at: int) -> Chain:
    """One step of a chain as a chain of its own, which reads sequences of any length and, where it is given a mask, makes one."""
    step, shape = chain.steps[at], shapes(chain)[at]
    if step.kind == "recurrent":
        shape = (None, *shape[1:])
    before = (Step("mask", "masking", {"value": 0.0}),) if masked(chain)[at] and step.kind in _MASKED else ()
    return Chain((*before, step), shape, step.name)


def redrawn(chain: Chain, dtype: str) -> Iterator[Chain]:
    """The chain with other numbers in its recurrent and dense layers, drawn anew each time."""
    for seed in range(_REDRAWS if any(step.spec for step in chain.steps) else 0):
        steps = [
            step if step.spec is None else replace(step, params=_drawn_for(step.spec, seed, dtype))
            for step in chain.steps
        ]
        yield held(replace(chain, steps=tuple(steps)))


def _drawn_for(spec: Layer, seed: int, dtype: str) -> Callable[[], dict[Any, np.ndarray]]:
    return lambda: {key: block.astype(dtype) for key, block in draw_parameters(spec, seed, dtype).items()}


def _allows(chain: Chain, batch: int, steps: int) -> bool:
    """Whether a chain can read so few time steps."""
    try:
        _run(chain, reference.probe(chain, batch, steps), "float32")
    except SpecError:
        return False
    return True


def _drawn(chain: Chain, batch: int, steps: int, dtype: str, seed: int, scale: float) -> np.ndarray:
    x = reference.probe(chain, batch, steps, seed, scale)
    return rounded(x, dtype).astype("float32") if dtype in ("float16", "bfloat16") and x.dtype.kind == "f" else x


def _awake(chain: Chain, x: np.ndarray, dtype: str) -> float:
    """The share of the outputs' features that are numbers everywhere, and somewhere not zero, computed in that type."""
    y = _run(chain, x, dtype)
    features = y.reshape(-1, y.shape[-1])
    return float(np.mean(np.isfinite(features).all(axis=0) & features.any(axis=0)))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _run(chain: Chain, x: np.ndarray, dtype: str) -> np.ndarray:
    y, _ = reference.run(chain, x, dtype="float32" if dtype == "bfloat16" else dtype)  # NumPy has no bfloat16
    return y


def _measured(chain: Chain, x: np.ndarray, dtype: str) -> Probed:
    return Probed(x, *reference.noise(chain, x, dtype))


def held(chain: Chain) -> Chain:
    """The chain with its numbers in memory, where several runs read them."""
    return replace(chain, steps=tuple(replace(step, params=cache(partial(_read, step))) for step in chain.steps))


def _read(step: Step) -> dict[Any, np.ndarray]:
    return dict(step.params())


def numbers(chain: Chain) -> int:
    """How many numbers the steps of a chain have in canonical form."""
    total = 0
    for step in chain.steps:
        if step.spec is not None:
            total += sum(prod(block_shape(step.spec, key)) for key in keys(step.spec))
        else:
            total += sum(prod(shape) for shape in step.shapes.values())
    return total
