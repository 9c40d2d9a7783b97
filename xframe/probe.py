"""What layers are probed with: seeded weights, inputs and states, every number distinct and away from zero.

Constant or symmetric weights, zero biases and equal sizes hide swapped gates, transposed kernels and dropped biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from xframe import masks, noise
from xframe.cells import get_cell
from xframe.errors import SpecError
from xframe.layout import Key, block_shape, keys, states
from xframe.packing import Parameters
from xframe.spec import Layer, Recurrent

__all__ = ["Probe", "draw_input", "draw_masks", "draw_parameters", "draw_state"]

# Thirteen copies of the input pass through the reference in float64; beyond this it is gigabytes.
MAX_INPUT = 20_000_000
MAX_PARAMETERS = 50_000_000
MAX_AXIS = 100_000


@dataclass(frozen=True)
class Probe:
    """How the input of a comparison is drawn.

    Attributes:
        batch, steps: sizes of the input.
        seed: of the random generator.
        dtype: the narrowest float type in which every number that is drawn must be exact.
    """

    batch: int = 2
    steps: int = 5
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, smallest in (("batch", 1), ("steps", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
                raise SpecError(f"{name} must be a whole number of at least {smallest}, not {value!r}.")
            if name != "seed" and value > MAX_AXIS:
                raise SpecError(f"{name} must be at most {MAX_AXIS:,}, not {value:,}.")

    def check_size(self, spec: Layer) -> None:
        """Refuse what would not fit into an ordinary machine's memory."""
        parts = [spec.part(direction, layer) for layer, direction in spec.places]
        widest = max(spec.input_size, *(len(get_cell(part.cell).gates) * part.hidden_size for part in parts))
        if self.batch * self.steps * widest > MAX_INPUT:
            raise SpecError(
                f"A probe of {self.batch} x {self.steps} steps through {spec} is too large; use fewer steps or a smaller "
                "batch."
            )


def _away_from_zero(random: np.random.Generator, shape: tuple[int, ...], scale: float, dtype: str) -> np.ndarray:
    """Numbers of either sign with magnitudes from 0.2 to 1 times ``scale``, float64, each exact in ``dtype``."""
    sign = random.choice([-1.0, 1.0], shape)
    return rounded(sign * random.uniform(0.2, 1.0, shape) * scale, dtype)


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers, float64, rounded to what a float type holds (float32 for float64)."""
    apart = 2 * noise.rounding(array, "float32" if dtype == "float64" else dtype)
    return np.round(array / apart) * apart


def draw_parameters(spec: Layer, seed: int, dtype: str = "float32") -> Parameters:
    """Random canonical parameters, float64 arrays of numbers that are exact in ``dtype`` and so in every wider one.

    Kernels are scaled by the square root of their length, so that gates are neither linear nor saturated.

    Raises:
        SpecError: there would be too many of them.
    """
    random = np.random.default_rng([seed, 1])
    return Parameters(
        spec,
        {
            key: _away_from_zero(random, shape, 1.6 / np.sqrt(shape[0]) if len(shape) == 2 else 0.8, dtype)
            for key, shape in parameter_shapes(spec).items()
        },
    )


def parameter_shapes(spec: Layer) -> dict[Key, tuple[int, ...]]:
    """The blocks that would be drawn, before any is; SpecError if they are too many."""
    shapes = {key: block_shape(spec, key) for key in keys(spec)}
    total = sum(prod(shape) for shape in shapes.values())
    if total > MAX_PARAMETERS:
        raise SpecError(
            f"{spec} has {total:,} parameters, more than the {MAX_PARAMETERS:,} that a comparison draws; what is equivalent "
            "does not depend on the size, so compare smaller sizes."
        )
    return shapes


def draw_input(spec: Layer, probe: Probe, call: int = 0) -> np.ndarray:
    """A random input: (batch, time, features), or (batch, features) for a dense layer; another one for each call."""
    probe.check_size(spec)
    random = np.random.default_rng([probe.seed, 2, call][: 3 if call else 2])
    shape = (probe.batch, probe.steps, spec.input_size)
    return _away_from_zero(random, shape if isinstance(spec, Recurrent) else shape[::2], 1.5, probe.dtype)


def draw_state(spec: Recurrent, probe: Probe) -> dict[str, np.ndarray]:
    """Random initial states by name, each (layers, directions, batch, size)."""
    random = np.random.default_rng([probe.seed, 3])
    return {
        name: _away_from_zero(random, (*state.axes, probe.batch, state.size), 0.8, probe.dtype)
        for name, state in states(spec).items()
    }


def draw_masks(spec: Recurrent, probe: Probe) -> list[np.ndarray]:
    """Masks (batch, time) of every kind that the spec speaks of, as many as it takes to have each kind in some row."""
    batch, steps = probe.batch, probe.steps
    if spec.mask is None:
        return []
    if spec.mask == "right":
        # The lengths steps - 1, steps - 2, ..., 1, then the full length, and so on.
        return [masks.from_lengths([(steps - 1 - row) % steps or steps for row in range(batch)], steps)]
    times = np.arange(steps)
    left, gaps, right = times >= (steps + 1) // 3, times % 3 != 1, times < steps - 1
    # A batch of nothing but a row without a valid step would put out zeros, which prove nothing.
    kinds = [left, gaps, right, *([np.zeros(steps, bool)] if batch > 1 else [])]
    needed = -(-len(kinds) // batch)
    return [np.array([kinds[(i * batch + row) % len(kinds)] for row in range(batch)]) for i in range(needed)]
