"""All kinds of steps by name, and what a chain of them makes of shapes and masks."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from xframe.chain import shaping, weighted
from xframe.chain.base import Chain
from xframe.chain.kind import Kind, Shape
from xframe.errors import SpecError
from xframe.spec import Recurrent

__all__ = ["KINDS", "masked", "promised", "shapes"]

# The most numbers that one sample may become: far above any model's, far below what exhausts a machine.
_MAX_SAMPLE = 2**28

KINDS: dict[str, Kind] = {
    "recurrent": weighted.RecurrentKind(),
    "dense": weighted.DenseKind(),
    "embedding": weighted.Embedding(),
    "layer_norm": weighted.LayerNorm(),
    "batch_norm": weighted.BatchNorm(),
    "conv1d": weighted.Conv1D(),
    "activation": shaping.Activation(),
    "dropout": shaping.Dropout(),
    "masking": shaping.Masking(),
    "flatten": shaping.Flatten(),
    "pool": shaping.Pool(),
    "permute": shaping.Permute(),
    "reshape": shaping.Reshape(),
    "repeat": shaping.Repeat(),
    "last": shaping.Last(),
}


def shapes(chain: Chain) -> list[Shape]:
    """The shape of one sample before the first step and after each step.

    Raises:
        SpecError: two steps do not fit each other, or the sample becomes absurdly large.
    """
    found: list[Shape] = [chain.input_shape]
    for step in chain.steps:
        found.append(KINDS[step.kind].output_shape(step, found[-1]))
        if not 0 < prod(axis for axis in found[-1] if axis is not None) <= _MAX_SAMPLE:
            raise SpecError(
                f"The step {step.name!r} puts out samples of the shape {found[-1]}, which is out of bounds."
            )
    return found


def masked(chain: Chain) -> list[bool]:
    """Whether a mask reaches each step, and the output, if none comes with the input."""
    found = [False]
    for step in chain.steps:
        found.append(KINDS[step.kind].masks(step, found[-1]))
    return found


def promised(chain: Chain) -> Chain:
    """The chain for masks that are padding on the right, which is what packed sequences and ONNX's lengths can say.

    Raises:
        SpecError: no mask reaches a recurrent layer of it.
    """
    steps = []
    for step in chain.steps:
        masked = isinstance(step.spec, Recurrent) and step.spec.mask == "any"
        steps.append(replace(step, spec=replace(step.spec, mask="right")) if masked else step)  # type: ignore[type-var]
    if steps == list(chain.steps):
        raise SpecError("No mask reaches a recurrent layer of this model; leave --right-padded out.")
    return replace(chain, steps=tuple(steps))
