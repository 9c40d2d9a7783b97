"""What layers are probed with: seeded weights, inputs and states, every number distinct and away from zero.

Constant or symmetric weights, zero biases and equal sizes hide swapped gates, transposed kernels and dropped biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xframe.cells import get_cell
from xframe.errors import SpecError
from xframe.layout import block_shape, keys
from xframe.packing import Parameters
from xframe.spec import Layer, Recurrent

__all__ = ["Probe", "draw_input", "draw_parameters", "draw_state"]

# Nine copies of the input pass through the reference in float64; beyond this it is gigabytes.
MAX_INPUT = 20_000_000
MAX_PARAMETERS = 50_000_000
MAX_AXIS = 100_000


@dataclass(frozen=True)
class Probe:
    """How the input of a comparison is drawn.

    Attributes:
        batch, steps: sizes of the input.
        seed: of the random generator.
    """

    batch: int = 2
    steps: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, smallest in (("batch", 1), ("steps", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
                raise SpecError(f"{name} must be a whole number of at least {smallest}, not {value!r}.")
            if name != "seed" and value > MAX_AXIS:
                raise SpecError(f"{name} must be at most {MAX_AXIS:,}, not {value:,}.")

    def check_size(self, spec: Layer) -> None:
        """Refuse what would not fit into an ordinary machine's memory."""
        widest = max(spec.input_size, len(get_cell(spec.cell).gates) * spec.hidden_size)
        if self.batch * self.steps * widest > MAX_INPUT:
            raise SpecError(
                f"A probe of {self.batch} x {self.steps} steps through {spec} is too large; use fewer steps or a smaller "
                "batch."
            )


def _away_from_zero(random: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Numbers of either sign with magnitudes from 0.2 to 1 times ``scale``, representable in float32."""
    sign = random.choice([-1.0, 1.0], shape)
    return (sign * random.uniform(0.2, 1.0, shape) * scale).astype(np.float32).astype(np.float64)


def draw_parameters(spec: Layer, seed: int) -> Parameters:
    """Random canonical parameters, float64 arrays of float32 numbers: the same in every dtype that is judged.

    Kernels are scaled by the square root of their length, so that gates are neither linear nor saturated.

    Raises:
        SpecError: there would be too many of them.
    """
    random = np.random.default_rng([seed, 1])
    shapes = {key: block_shape(spec, key) for key in keys(spec)}
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    if total > MAX_PARAMETERS:
        raise SpecError(
            f"{spec} has {total:,} parameters, more than the {MAX_PARAMETERS:,} that a comparison draws; what is equivalent "
            "does not depend on the size, so compare smaller sizes."
        )
    return Parameters(
        spec,
        {
            key: _away_from_zero(random, shape, 1.6 / np.sqrt(shape[0]) if len(shape) == 2 else 0.8)
            for key, shape in shapes.items()
        },
    )


def draw_input(spec: Layer, probe: Probe) -> np.ndarray:
    """A random input: (batch, time, features), or (batch, features) for a dense layer."""
    probe.check_size(spec)
    random = np.random.default_rng([probe.seed, 2])
    shape = (probe.batch, probe.steps, spec.input_size)
    return _away_from_zero(random, shape if isinstance(spec, Recurrent) else shape[::2], 1.5)


def draw_state(spec: Recurrent, probe: Probe) -> dict[str, np.ndarray]:
    """Random initial states by name, each (layers, directions, batch, size)."""
    random, cell = np.random.default_rng([probe.seed, 3]), get_cell(spec.cell)
    return {
        name: _away_from_zero(
            random, (spec.num_layers, spec.num_directions, probe.batch, cell.state_size(spec, name)), 0.8
        )
        for name in cell.states
    }
