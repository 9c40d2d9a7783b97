"""A chain in NumPy: what it computes, inputs that show mistakes, and how much rounding may change its output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from xframe import noise as noises
from xframe import probe as probes
from xframe.activations import ACTIVATIONS
from xframe.budget import current
from xframe.chain.arithmetic import Exact, Operations, Rounding
from xframe.chain.base import Chain, Step
from xframe.chain.kinds import KINDS, shapes
from xframe.errors import SpecError
from xframe.masks import check_mask
from xframe.spec import Recurrent

__all__ = ["altered", "noise", "probe", "run"]

# As in xframe.noise: perturbations finer than the first are made that large and scaled down, unless they grow beyond the second.
_FINEST = 2.0**-40
_SMALL = 1e-3
# For each number that a step reads or puts out in a copy of a sample, so many bytes: it is float64, and worked on beside itself.
# For each time step of a recurrent layer, so many seconds: it is run about fifty times, with each mistake and on each input.
_HELD, _SECONDS_A_STEP = 16, 0.005
# How the words of a probe and the other numbers are drawn apart.
_WORDS, _NUMBERS = 4, 5


def run(
    chain: Chain, x: np.ndarray, mask: np.ndarray | None = None, dtype: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """What a chain puts out, and the mask that it hands on.

    Args:
        chain: the chain.
        x: (batch, ...), with samples of `Chain.input_shape`: float32 or float64, or whole numbers for an embedding.
        mask: (batch, time), bool, or None. What the chain makes itself needs none.
        dtype: in which to compute: that of ``x`` if None, float32 for whole numbers.

    Raises:
        SpecError: x or the mask does not fit the chain.
        FileError, LayoutError: the chain's arrays cannot be read, or are not those of its steps.
    """
    x = _checked(chain, x)
    if mask is not None:
        check_mask(mask, x)
    return _through(chain, x, mask, dtype or (x.dtype.name if x.dtype.kind == "f" else "float32"), Exact())


def altered(chain: Chain, x: np.ndarray, at: int, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What a chain puts out in float64, if what its step number ``at`` puts out were changed."""
    before, after = (replace(chain, steps=steps) for steps in (chain.steps[: at + 1], chain.steps[at + 1 :]))
    y, mask = _through(before, _checked(chain, x), None, "float64", Exact())
    return _through(after, change(y), mask, "float64", Exact())[0]


def _checked(chain: Chain, x: np.ndarray) -> np.ndarray:
    """x if its samples have the chain's shape."""
    x = np.asarray(x)
    wanted = chain.input_shape
    fits = x.ndim == 1 + len(wanted) and all(b in (None, a) for a, b in zip(x.shape[1:], wanted, strict=True))
    if not fits or 0 in x.shape or x.dtype.kind not in "fiu":
        raise SpecError(f"x must be numbers of the shape {('batch', *wanted)}, not {x.dtype} of the shape {x.shape}.")
    return x


def _through(
    chain: Chain, x: np.ndarray, mask: np.ndarray | None, dtype: str, ops: Operations
) -> tuple[np.ndarray, np.ndarray | None]:
    """One step after the other; the arrays of one step at a time are held."""
    if not chain.steps or chain.steps[0].kind != "embedding":
        x = x.astype(dtype, copy=False)
    for step in chain.steps:
        x, mask = KINDS[step.kind].run(step, _params(step, dtype), x, mask, ops)
    return x, mask


def _params(step: Step, dtype: str) -> Mapping[Any, np.ndarray]:
    """A step's arrays in the dtype of the computation, to which the recurrent reference brings its own itself."""
    params = step.params()
    # Once all of it, because the reference goes from one block to another and back.
    return dict(params) if step.spec is not None else {name: array.astype(dtype) for name, array in params.items()}


# ---- What it is run on.


def probe(chain: Chain, batch: int, steps: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """An input that shows mistakes: every number distinct and away from zero; masked time steps, if the chain makes masks.

    Args:
        chain: the chain.
        batch, steps: the size of the input; an axis whose length the chain fixes has that length instead of ``steps``.
        seed: of the random generator.
        scale: by how much the numbers are larger; best a power of two. It is nothing to whole numbers.

    Raises:
        SpecError: the batch is not that of a stateful layer.
    """
    for step in chain.steps:
        if (size := getattr(step.spec, "batch_size", None)) not in (None, batch):
            raise SpecError(f"The step {step.name!r} is stateful and keeps states for a batch of {size}, not {batch}.")
    shape = (batch, *(steps if axis is None else axis for axis in chain.input_shape))
    _check_cost(chain, shape)
    maker = next((step for step in chain.steps if step.kind not in ("dropout", "activation")), None)
    if maker is not None and maker.kind == "embedding":
        return _words(maker, shape, seed, _valid(chain, shape))
    random = np.random.default_rng([seed, _NUMBERS])
    x = scale * probes.rounded(random.choice([-1.0, 1.0], shape) * random.uniform(0.2, 1.0, shape) * 1.5, "float32")
    if maker is not None and maker.kind == "masking":
        x[~_valid(chain, shape)] = maker.options["value"]
    return x.astype(np.float32)


def _check_cost(chain: Chain, shape: tuple[int, ...]) -> None:
    """Refuse an input of this shape if running the chain on it takes more memory or time than is allowed."""
    try:
        sizes = shapes(replace(chain, input_shape=shape[1:]))
    except SpecError:  # it cannot read that, which shows when it is run
        return
    numbers = [prod(axis for axis in size if axis is not None) for size in sizes]
    copies = shape[0] * (1 + noises.REPLICAS)
    held, time_steps = [0], 0
    for step, size, before, after in zip(chain.steps, sizes, numbers, numbers[1:], strict=False):
        inside = 0
        if isinstance(step.spec, Recurrent):
            # All that its layers put out, whatever of it is handed on.
            length = size[0] or 1
            inside = length * sum(step.spec.part(direction, layer).hidden_size for layer, direction in step.spec.places)
            time_steps += length * sum(1 for _ in step.spec.places)
        held.append(before + inside + after)
    what = f"Running the model {chain.name[:80]!r} on an input of the shape {shape}"
    current().fits(_HELD * copies * max(held), what)
    current().lasts(_SECONDS_A_STEP * time_steps, what)


def _words(embedding: Step, shape: tuple[int, ...], seed: int, valid: np.ndarray) -> np.ndarray:
    """Rows of the table; with ``mask_zero``, zeros where a time step is masked, and nowhere else."""
    size = (embedding.shapes or {"embeddings": embedding.params()["embeddings"].shape})["embeddings"][0]
    masks = bool(embedding.options["mask_zero"])
    found = np.random.default_rng([seed, _WORDS]).integers(min(int(masks), size - 1), size, shape)
    return np.where(valid, found, 0) if masks else found


def _valid(chain: Chain, shape: tuple[int, ...]) -> np.ndarray:
    """A mask (batch, time): padding before, gaps, none, padding after, and a sample without a valid step, unless steps
    are averaged, which such a sample does not allow. Where a layer takes padding on the right only: of different lengths."""
    batch, steps = shape[0], shape[1]
    times = np.arange(steps)
    kinds = [times >= (steps + 1) // 3, times % 3 != 1, times >= 0, (times < steps - 1) | (steps == 1)]
    if any(getattr(step.spec, "mask", None) == "right" for step in chain.steps):
        kinds = [times < max(steps - 1, 1), times >= 0, times < (steps + 1) // 2]
    elif not any(step.kind == "pool" for step in chain.steps):
        kinds.append(times < 0)
    return np.array([kinds[row % len(kinds)] for row in range(batch)])


# ---- How much it may be off.


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is not judged
def noise(
    chain: Chain, x: np.ndarray, dtype: str, mask: np.ndarray | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The output in float64, and the rounding noise of ``dtype`` around each number of it (standard deviation).

    `xframe.noise` says how; the steps that are not recurrent round what they compute likewise.
    """
    u = noises.ROUNDOFF["float32" if dtype == "float64" and _single(chain) else dtype]
    clean, deviation = _spread(chain, x, mask, max(u, _FINEST), seed, noises.underflow(dtype))
    if u < _FINEST:
        chaotic = np.any(deviation > _SMALL * np.abs(clean).max())
        deviation = deviation * u / _FINEST
        if chaotic:
            deviation = np.maximum(deviation, _spread(chain, x, mask, u, seed)[1])
    # The float64 reference itself rounds, and two independent errors add up by their squares.
    return clean, deviation * np.sqrt(2) if dtype == "float64" else deviation


def _single(chain: Chain) -> bool:
    """Whether an activation function has a constant that is exact to float32 only."""
    names = {step.options.get("name") for step in chain.steps if step.kind == "activation"}
    for step in chain.steps:
        for layer, direction in step.spec.places if step.spec is not None else ():
            part = step.spec.part(direction, layer) if step.spec is not None else None
            names |= {getattr(part, "activation", None), getattr(part, "recurrent_activation", None)}
    return any(ACTIVATIONS[name].single for name in names if name)


def _spread(
    chain: Chain, x: np.ndarray, mask: np.ndarray | None, u: float, seed: int, least: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The output, and how far replicas with unit roundoff ``u`` spread around it; ``least`` as in `xframe.noise.Perturbed`."""
    x, copies = _checked(chain, x), 1 + noises.REPLICAS
    ops = Rounding(len(x), u, seed, least)
    tiled = np.tile(x, (copies, *[1] * (x.ndim - 1)))
    y, _ = _through(chain, tiled, None if mask is None else np.tile(mask, (copies, 1)), "float64", ops)
    clean, *others = np.split(y, copies)
    own = np.mean(np.square(np.stack(others) - clean), axis=0)
    # Eight copies tell the spread of one element badly, and that of all units together well: both count.
    typical = own.mean(axis=-1, keepdims=True)
    return clean, np.sqrt(own + typical + np.square(u * clean) / 4) + np.finfo(np.float32).tiny
