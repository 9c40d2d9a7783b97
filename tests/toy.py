"""A framework that exists for the tests.

Its tanh cells run a row of the batch at a time, keep both kernels side by side in one tensor, and have one bias.
"""

from __future__ import annotations

import numpy as np

__version__ = "1.0"


class Elman:
    """h' = tanh(theta [x, h] + shift), theta (units, features + units)."""

    def __init__(self, features: int, units: int, dtype: str, bias: bool) -> None:
        random = np.random.default_rng(features * units)
        self.features, self.units = features, units
        self.theta = random.uniform(-0.5, 0.5, (units, features + units)).astype(dtype)
        self.shift = random.uniform(-0.5, 0.5, units).astype(dtype) if bias else None

    def __call__(self, row: np.ndarray, h: np.ndarray) -> list[np.ndarray]:
        """One row of a batch, (time, features), and its state to the states at each step."""
        states = []
        for x in row:
            z = self.theta @ np.concatenate([x, h])
            h = np.tanh(z if self.shift is None else z + self.shift)
            states.append(h)
        return states

    def tensors(self) -> dict[str, np.ndarray]:
        return {"theta": self.theta} | ({} if self.shift is None else {"shift": self.shift})
