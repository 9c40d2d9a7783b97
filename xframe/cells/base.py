"""What a cell is: gates, states, roles of its parameters, and one step of its arithmetic.

A cell knows no framework and imports no NumPy: its step is written against `Arithmetic`, so that the
same lines give the reference (plain) and its rounding noise (perturbed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray

__all__ = ["Arithmetic", "Cell", "Role", "Step"]


@dataclass(frozen=True)
class Role:
    """What a tensor does in the cell.

    ``dims`` are its axes by name, in canonical orientation (what is multiplied from the left first):
    ``input`` d features, ``hidden`` n units, ``state`` the size of h (n, or p with a projection).
    """

    name: str
    dims: tuple[str, ...]
    gated: bool = True

    @property
    def is_bias(self) -> bool:
        """Whether this is a vector that is added."""
        return len(self.dims) == 1


class Arithmetic(Protocol):
    """The operations of which steps are made. Arrays are (size, batch); each writes to ``out`` and returns it.

    `weight` and `bias` prepare parameters once, before the loop over time; what they return is for `matmul` and
    `add_bias` of the same arithmetic alone.
    """

    def weight(self, w: Array) -> Any: ...
    def bias(self, biases: Sequence[Array], batch: int) -> Any: ...
    def matmul(self, weight: Any, a: Array, out: Array) -> Array: ...
    def add_bias(self, a: Array, bias: Any, out: Array) -> Array: ...
    def add(self, a: Array, b: Array, out: Array) -> Array: ...
    def subtract(self, a: Array, b: Array, out: Array) -> Array: ...
    def multiply(self, a: Array, b: Array, out: Array) -> Array: ...
    def activate(self, name: str, a: Array, out: Array) -> Array: ...


@dataclass
class Step:
    """What the time steps of one layer and direction work with, allocated once and reused.

    ``n`` hidden units. ``kernels``: a prepared recurrent kernel for each group of gates in `Cell.products`.
    ``bias``: by gate, the prepared recurrent biases that do not merely add to the input biases. ``projection``: prepared.
    ``gates`` (g*n, batch) and ``work`` (n, batch) are buffers.
    """

    kernels: Sequence[Any]
    bias: Mapping[str, Any]
    projection: Any
    gates: Array
    work: Array
    activation: str
    recurrent_activation: str
    reset_after: bool | None


@dataclass(frozen=True)
class Cell:
    """The description that everything derives from. Subclasses add `step` and `folds`.

    Attributes:
        name, title: ``lstm``, ``LSTM``.
        gates: canonical order, the sigmoid gates first so that they are adjacent.
        states: names of the states, the output first.
        roles: the parameters, by role.
        activations, recurrent_activations, reset_after: values that the options may take, the default first;
            empty where the cell has no such option.
        projects: whether the state h can be projected.
        equations, source: for people.
    """

    name: str
    title: str
    gates: tuple[str, ...]
    states: tuple[str, ...]
    roles: tuple[Role, ...]
    activations: tuple[str, ...] = ()
    recurrent_activations: tuple[str, ...] = ()
    reset_after: tuple[bool, ...] = ()
    projects: bool = False
    recurrent: bool = True
    equations: str = ""
    source: str = ""

    def role(self, name: str) -> Role:
        """The role of that name."""
        return next(r for r in self.roles if r.name == name)

    def folds(self, spec: Any) -> tuple[str, ...]:
        """Gates in which the input bias and the recurrent bias are only ever used as their sum."""
        raise NotImplementedError

    def products(self, spec: Any) -> tuple[tuple[str, ...], ...]:
        """Groups of gates, each multiplied with the recurrent kernel in one product."""
        return (self.gates,)

    def state_size(self, spec: Any, state: str) -> int:
        """Size of one state."""
        return int(spec.state_size if state == "h" else spec.hidden_size)

    def step(self, ops: Arithmetic, x: Array, state: dict[str, Array], new: dict[str, Array], s: Step) -> None:
        """One time step.

        Args:
            ops: the arithmetic.
            x: (g*n, batch) ``x_t W + b``, with the recurrent biases that fold added.
            state: the states before the step, each (size, batch).
            new: where the states after the step are written; ``new["h"]`` may not be ``state["h"]``.
            s: parameters and buffers.
        """
        raise NotImplementedError


# The roles that recurrent cells share.
KERNEL = Role("kernel", ("input", "hidden"))
RECURRENT_KERNEL = Role("recurrent_kernel", ("state", "hidden"))
BIAS = Role("bias", ("hidden",))
RECURRENT_BIAS = Role("recurrent_bias", ("hidden",))
PROJECTION = Role("projection", ("hidden", "state"), gated=False)
