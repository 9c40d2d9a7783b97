"""What a layer is, apart from any framework: frozen, checked, never clamped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from xframe.cells import get_cell
from xframe.errors import SpecError

__all__ = ["Dense", "Layer", "Recurrent", "Sequential"]

# No recurrent layer in use comes near; a larger number is a slip of the keyboard or a product of one.
MAX_SIZE = 1_000_000
MAX_LAYERS = 1_000


def _check_size(name: str, value: object, largest: int = MAX_SIZE, smallest: int = 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise SpecError(f"{name} must be a whole number, not {value!r}.")
    if not smallest <= value <= largest:
        raise SpecError(f"{name} must be from {smallest} to {largest:,}, not {value:,}.")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise SpecError(f"{name} must be True or False, not {value!r}.")


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer: one cell, run over time, in one or two directions, in one or more layers.

    Args:
        cell: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        input_size: number of input features ``d`` at each time step.
        hidden_size: number of hidden units ``n``.
        num_layers: layers stacked on each other; layer k > 0 reads the output of layer k - 1.
        bidirectional: run each layer forward and backward in time and concatenate the outputs.
        bias: whether the cell has biases.
        reset_after: GRU only: the reset gate acts after (True, the default) or before (False) the
            product with the recurrent kernel. None for the other cells.
        activation: ``"tanh"``, or ``"relu"`` for an rnn. None means ``"tanh"``.
        recurrent_activation: ``"sigmoid"`` for LSTM and GRU; None for an rnn, which has no gates.
        proj_size: LSTM only: size ``p`` of the projected state h (0 for none).

    Raises:
        SpecError: a value is of the wrong type, out of range, or makes no sense for the cell.
    """

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    reset_after: bool | None = None
    activation: str | None = None
    recurrent_activation: str | None = None
    proj_size: int = 0

    def __post_init__(self) -> None:
        cell = get_cell(self.cell)
        if not cell.recurrent:
            raise SpecError(f"{self.cell!r} is not a recurrent cell.")
        _check_size("input_size", self.input_size)
        _check_size("hidden_size", self.hidden_size)
        _check_size("num_layers", self.num_layers, MAX_LAYERS)
        _check_flag("bidirectional", self.bidirectional)
        _check_flag("bias", self.bias)
        self._default("reset_after", cell.reset_after)
        self._default("activation", cell.activations)
        self._default("recurrent_activation", cell.recurrent_activations)
        _check_size("proj_size", self.proj_size, MAX_SIZE, 0)
        if self.proj_size and not cell.projects:
            raise SpecError(f"proj_size is an option of the lstm; the {self.cell} has no projection.")
        if self.proj_size >= self.hidden_size:
            raise SpecError(
                f"proj_size must be smaller than hidden_size ({self.hidden_size:,}), not {self.proj_size:,}."
            )

    def _default(self, name: str, known: tuple[Any, ...]) -> None:
        """Fill an option left at None with the cell's default; refuse one that the cell does not have."""
        value = getattr(self, name)
        if value is None and known:
            object.__setattr__(self, name, known[0])
        elif value is not None and not known:
            raise SpecError(f"{name} is not an option of the {self.cell}; leave it out.")
        elif value is not None and not any(value == k and type(value) is type(k) for k in known):
            choice = " or ".join(repr(k) for k in known)
            raise SpecError(f"{name} of the {self.cell} must be {choice}, not {value!r}.")

    @property
    def num_directions(self) -> int:
        """2 when bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def state_size(self) -> int:
        """Size of the state h: proj_size where there is a projection, else hidden_size."""
        return self.proj_size or self.hidden_size

    @property
    def output_size(self) -> int:
        """Number of features that the layer puts out at each time step."""
        return self.num_directions * self.state_size

    def layer_input_size(self, layer: int) -> int:
        """Number of features that layer number ``layer`` (from 0) reads."""
        return self.input_size if layer == 0 else self.output_size

    def options(self) -> dict[str, Any]:
        """All fields by name, in order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        return f"{get_cell(self.cell).title}({self.hidden_size}) on {plural(self.input_size, 'feature')}" + (
            "".join(f", {text}" for text in self._differences())
        )

    def _differences(self) -> Iterator[str]:
        """What sets this layer apart from the plain one."""
        if self.num_layers > 1:
            yield f"{self.num_layers} layers"
        if self.bidirectional:
            yield "bidirectional"
        if not self.bias:
            yield "no bias"
        if self.reset_after is not None:
            yield "reset after" if self.reset_after else "reset before"
        if self.activation not in (None, "tanh"):
            yield str(self.activation)
        if self.proj_size:
            yield f"projected to {self.proj_size}"


@dataclass(frozen=True)
class Dense:
    """A dense (linear) layer without activation: ``y = x W + b``.

    Args:
        input_size: number of input features.
        units: number of output features.
        bias: whether ``b`` is there.

    Raises:
        SpecError: a value is of the wrong type or out of range.
    """

    input_size: int
    units: int
    bias: bool = True

    cell = "dense"
    num_layers = 1
    num_directions = 1

    def __post_init__(self) -> None:
        _check_size("input_size", self.input_size)
        _check_size("units", self.units)
        _check_flag("bias", self.bias)

    @property
    def hidden_size(self) -> int:
        """The units, by the name that roles use."""
        return self.units

    @property
    def state_size(self) -> int:
        """The units, by the name that roles use."""
        return self.units

    @property
    def output_size(self) -> int:
        """Number of output features."""
        return self.units

    def layer_input_size(self, layer: int) -> int:
        """Number of input features."""
        return self.input_size

    def options(self) -> dict[str, Any]:
        """All fields by name, in order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        return f"Dense({self.units}) on {plural(self.input_size, 'feature')}" + ("" if self.bias else ", no bias")


Layer = Recurrent | Dense


@dataclass(frozen=True)
class Sequential:
    """A chain of layers, each reading the output of the one before.

    A recurrent layer hands its whole sequence to a recurrent layer, and its last output to a dense one.

    Raises:
        SpecError: the chain is empty, holds something else, or two neighbours do not fit.
    """

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer) -> None:
        object.__setattr__(self, "layers", tuple(layers))
        if not layers:
            raise SpecError("A Sequential needs at least one layer.")
        for layer in layers:
            if not isinstance(layer, Recurrent | Dense):
                raise SpecError(f"A Sequential holds Recurrent and Dense layers, not {layer!r}.")
        for before, after in pairwise(layers):
            if isinstance(before, Dense) and isinstance(after, Recurrent):
                raise SpecError(f"{after} cannot follow {before}: the dense layer puts out no time steps.")
            if before.output_size != after.input_size:
                raise SpecError(
                    f"{after} cannot follow {before}, which puts out {plural(before.output_size, 'feature')}."
                )

    def __str__(self) -> str:
        return ", then ".join(str(layer) for layer in self.layers)


def plural(number: int, noun: str) -> str:
    """``3 steps``, ``1 step``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
