"""What a cell is: gates, states, roles of its parameters, and one step of its arithmetic.

A cell knows no framework and imports no NumPy: its step is written against `Arithmetic`, so that the
same lines give the reference (plain) and its rounding noise (perturbed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from xframe.activations import ACTIVATIONS

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray

__all__ = ["TERMS", "Arithmetic", "Cell", "Product", "Role", "Step", "activate"]


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


class Product(NamedTuple):
    """One of the matrix products of a time step: which gates, of what.

    ``terms`` is ``x`` (x W + b), ``h`` (h U + rb), or ``xh`` (their sum, where only the sum is used, in one product).
    """

    gates: tuple[str, ...]
    terms: str = "xh"


# The kernel and the bias of each term.
TERMS = {"x": ("kernel", "bias"), "h": ("recurrent_kernel", "recurrent_bias")}


class Arithmetic(Protocol):
    """The operations of which steps are made. Arrays are (size, batch); each writes to ``out`` and returns it.

    `weight` prepares what multiplies from the left, w (out, in), once before the loop over time; what it returns is for
    `matmul` of the same arithmetic alone. ``ones`` are the columns of w that hold biases: there the column that is
    multiplied holds ones.
    """

    def weight(self, w: Array, ones: Sequence[int], batch: int) -> Any: ...
    def matmul(self, weight: Any, a: Array, out: Array) -> Array: ...
    def add(self, a: Array, b: Array, out: Array) -> Array: ...
    def subtract(self, a: Array, b: Array, out: Array) -> Array: ...
    def multiply(self, a: Array, b: Array, out: Array) -> Array: ...
    def activate(self, name: str, a: Array, out: Array) -> Array: ...


def activate(ops: Arithmetic, name: str, a: Array, units: int) -> None:
    """Apply an activation function to gates that lie one above the other, in place."""
    height = units if ACTIVATIONS[name].coupled else a.shape[0]
    for start in range(0, a.shape[0], height):
        gate = a[start : start + height]
        ops.activate(name, gate, out=gate)


@dataclass
class Step:
    """What the time steps of one layer and direction work with, allocated once and reused.

    All products read parts of one column ``xh`` = [x; 1; h; 1], so that a single product can make all gates with their
    biases. With d features, n hidden units, a state h of size p and g gates:

    Attributes:
        xh: (d + 1 + p + 1, batch), ``x`` (d + 1, batch) = [x; 1] and ``h`` (p + 1, batch) = [h; 1], views of it.
        states: the states by name, each (size, batch), which a step overwrites; ``h`` is a view of ``xh``.
        weights: prepared, one for each of `Cell.products`.
        projection: prepared, or None.
        gates: (g*n, batch), a buffer.
        work: (n, batch), a buffer.
    """

    xh: Array
    x: Array
    h: Array
    states: Mapping[str, Array]
    weights: Sequence[Any]
    projection: Any
    gates: Array
    work: Array
    activation: str
    state_activation: str
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
        activations, recurrent_activations: those that every framework's own layer has, the default first; empty where
            the cell has no such option. A spec may have any of `xframe.activations`.
        reset_after: values that the option may take, the default first; empty where the cell has no such option.
        projects: whether the state h can be projected.
        equations, source: for people.
        why_not_folded: where not all gates are in `folds`, the sentence that says why.
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
    why_not_folded: str = ""

    def role(self, name: str) -> Role:
        """The role of that name."""
        return next(r for r in self.roles if r.name == name)

    def folds(self, spec: Any) -> tuple[str, ...]:
        """Gates in which the input bias and the recurrent bias are only ever used as their sum."""
        raise NotImplementedError

    def products(self, spec: Any) -> tuple[Product, ...]:
        """The products with x and h that a step makes, in the order of `Step.weights`; their gates are adjacent."""
        return (Product(self.gates),)

    def state_size(self, spec: Any, state: str) -> int:
        """Size of one state."""
        return int(spec.state_size if state == "h" else spec.hidden_size)

    def step(self, ops: Arithmetic, s: Step) -> None:
        """One time step: reads ``s.xh`` and ``s.states`` and overwrites the states."""
        raise NotImplementedError


# The roles that recurrent cells share.
KERNEL = Role("kernel", ("input", "hidden"))
RECURRENT_KERNEL = Role("recurrent_kernel", ("state", "hidden"))
BIAS = Role("bias", ("hidden",))
RECURRENT_BIAS = Role("recurrent_bias", ("hidden",))
PROJECTION = Role("projection", ("hidden", "state"), gated=False)
