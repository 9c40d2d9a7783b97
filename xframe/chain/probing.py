"""On which inputs a chain is tried, and what the reference makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from math import prod
from typing import Any

import numpy as np

from xframe.chain import reference
from xframe.chain.base import Chain, Step
from xframe.errors import SpecError
from xframe.layout import block_shape, keys
from xframe.probe import rounded

__all__ = ["LIGHT", "PROBES", "held", "numbers", "probed", "sizes"]

# Batch sizes and lengths at which a chain is run, and those for chains of more numbers than the next line says.
PROBES = ((2, 5), (1, 1), (3, 12))
_FEW = ((2, 3), (1, 1))
# Mistakes are tried on chains of up to this many numbers: each costs a run of the reference.
LIGHT = 2_000_000
# Lengths that are tried where a chain cannot read so few time steps.
_LONGER = (12, 48, 192, 768, 3072)


def sizes(chain: Chain) -> Iterator[tuple[int, int | None]]:
    """The sizes of the probes; what a stateful layer or a fixed length allows. The length is None where there is no time."""
    batches = {size for step in chain.steps if (size := getattr(step.spec, "batch_size", None)) is not None}
    words = chain.steps[0].kind == "embedding"
    timeless = len(chain.input_shape) < 2 and not words
    probes = _FEW if numbers(chain) > LIGHT else PROBES
    tried = [(next(iter(batches), batch), steps) for batch, steps in probes]
    yield from dict.fromkeys((b, None if timeless else chain.input_shape[0] or steps) for b, steps in tried)


def probed(
    chain: Chain, size: tuple[int, int | None], dtype: str, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An input of this size, exact in the type, what the reference makes of it, and the noise of that.

    It is longer where a convolution or a shape does not allow so few time steps.
    """

    def drawn(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = reference.probe(chain, size[0], steps, seed)
        if dtype in ("float16", "bfloat16") and x.dtype.kind == "f":
            x = rounded(x, dtype).astype("float32")
        return x, *reference.noise(chain, x, dtype)

    for steps in (size[1] or 1, *_LONGER[:-1]):
        with suppress(SpecError):
            return drawn(steps)
    return drawn(_LONGER[-1])


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
