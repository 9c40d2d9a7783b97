"""What a layer is, apart from any framework: frozen, checked, never clamped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from itertools import pairwise
from typing import Any

from xframe.activations import check_activation
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


def _check_choice(name: str, value: object, known: tuple[Any, ...]) -> None:
    if value not in known:
        choice = " or ".join(repr(k) for k in known)
        raise SpecError(f"{name} must be {choice}, not {value!r}.")


def _check_rate(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise SpecError(f"{name} must be a rate from 0 to less than 1, not {value!r}.")


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer: one cell, run over time, in one or two directions, in one or more layers.

    Args:
        cell: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        input_size: number of input features ``d`` at each time step.
        hidden_size: number of hidden units ``n``.
        num_layers: layers stacked on each other; layer k > 0 reads the output of layer k - 1.
        bidirectional: run each layer forward and backward in time and merge the outputs.
        bias: whether the cell has biases.
        reset_after: GRU only: the reset gate acts after (True, the default) or before (False) the
            product with the recurrent kernel. None for the other cells.
        activation: a name of `xframe.activations.ACTIVATIONS`. None means ``"tanh"``.
        recurrent_activation: the same for the gates of LSTM and GRU; None means ``"sigmoid"``, and is all that an rnn,
            which has no gates, can have.
        proj_size: LSTM only: size ``p`` of the projected state h (0 for none).
        merge_mode: how the two directions become one output: ``"concat"``, ``"sum"``, ``"mul"``, ``"ave"``, or None,
            which hands both back (here: beside each other, as with concat, but no layer can read them).
        go_backwards: each layer reads its input from the last time step to the first and puts out what it has in that
            order: the output is not flipped back. With ``bidirectional`` it is the forward half that does so, and the
            backward half reads from first to last; its output is flipped.
        mask: which time steps may be masked (left out): None for none; ``"right"`` for padding after each sequence's
            last step, with one valid step at least (what PyTorch packs); ``"any"`` for padding on either side, gaps,
            and rows without a valid step. At a masked step every state stays as it is.
        masked_output: what a layer puts out at a masked step: ``"repeat"``, its previous output (zeros if there is
            none), or ``"zero"``. None means ``"zero"`` when bidirectional, else ``"repeat"``, as in Keras. It goes with
            a mask.
        stateful: each call begins with the states in which the call before it ended.
        batch_size: how many sequences a stateful layer keeps states for; None for a layer that is not stateful.
        input_dropout: rate at which, in training, input features are dropped, the same at every time step (in Keras:
            ``dropout``).
        recurrent_dropout: the same for the state h that the recurrent kernel reads (in Keras: ``recurrent_dropout``).
        dropout: rate at which, in training, outputs are dropped on their way to the next layer of the stack, each time
            step by itself (in PyTorch: ``dropout``). No dropout acts at inference.
        form: ``"layer"``, or ``"cell"``: the bare cell, which computes one time step at a call.
        backward: the backward layer, where it differs from the forward one in its cell, sizes, biases, activations,
            dropout or stacked cells; a `Recurrent` of one direction.
        stacked: further cells, each a `Recurrent` of one layer and direction, through which every time step goes before the
            next one begins: each reads the state h of the one before it (keras.layers.StackedRNNCells). The stack stands
            inside a direction: both directions are merged above its last cell, and with ``go_backwards`` the whole of it
            goes backwards. A one-way stack of like cells that reads time forwards is what ``num_layers`` says, and becomes
            that; in ``backward``, either says the same.

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
    merge_mode: str | None = "concat"
    go_backwards: bool = False
    mask: str | None = None
    masked_output: str | None = None
    stateful: bool = False
    batch_size: int | None = None
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    dropout: float = 0.0
    form: str = "layer"
    backward: Recurrent | None = None
    stacked: tuple[Recurrent, ...] = ()

    def __post_init__(self) -> None:
        cell = get_cell(self.cell)
        if not cell.recurrent:
            raise SpecError(f"{self.cell!r} is not a recurrent cell.")
        _check_size("input_size", self.input_size)
        _check_size("hidden_size", self.hidden_size)
        _check_size("num_layers", self.num_layers, MAX_LAYERS)
        for name in ("bidirectional", "bias", "go_backwards", "stateful"):
            _check_flag(name, getattr(self, name))
        self._default("reset_after", cell.reset_after)
        if self.reset_after not in (None, *cell.reset_after) or not isinstance(self.reset_after, bool | None):
            raise SpecError(f"reset_after must be True or False, not {self.reset_after!r}.")
        for name, common in (("activation", cell.activations), ("recurrent_activation", cell.recurrent_activations)):
            self._default(name, common)
            if common and (wrong := check_activation(getattr(self, name))):
                raise SpecError(f"{name} of the {self.cell} {wrong}.")
        _check_size("proj_size", self.proj_size, MAX_SIZE, 0)
        if self.proj_size and not cell.projects:
            raise SpecError(f"proj_size is an option of the lstm; the {self.cell} has no projection.")
        if self.proj_size >= self.hidden_size:
            raise SpecError(
                f"proj_size must be smaller than hidden_size ({self.hidden_size:,}), not {self.proj_size:,}."
            )
        self._check_time()
        for name in ("input_dropout", "recurrent_dropout", "dropout"):
            _check_rate(name, getattr(self, name))
        if self.dropout and self.num_layers == 1:
            raise SpecError("dropout acts between the layers of a stack, and this one has one layer; leave it out.")
        self._check_stacked()
        if self.backward is not None:
            self._check_backward(self.backward)
        self._check_form()
        self._check_merge()

    def _default(self, name: str, known: tuple[Any, ...]) -> None:
        """Fill an option left at None with the cell's default; refuse one that the cell does not have."""
        value = getattr(self, name)
        if value is None and known:
            object.__setattr__(self, name, known[0])
        elif value is not None and not known:
            raise SpecError(f"{name} is not an option of the {self.cell}; leave it out.")

    def _check_time(self) -> None:
        """Directions, masks and states."""
        _check_choice("merge_mode", self.merge_mode, MERGE_MODES)
        if self.merge_mode != "concat" and not self.bidirectional:
            raise SpecError(f"merge_mode={self.merge_mode!r} goes with bidirectional=True; leave it out.")
        if self.merge_mode is None and self.num_layers > 1:
            raise SpecError("With merge_mode=None no second layer can read the two outputs; use num_layers=1.")
        _check_choice("mask", self.mask, (None, "right", "any"))
        _check_choice("masked_output", self.masked_output, (None, "repeat", "zero"))
        if self.mask is None and self.masked_output is not None:
            raise SpecError("masked_output goes with a mask; give mask='right' or mask='any', or leave it out.")
        if self.mask is not None and self.masked_output is None:
            object.__setattr__(self, "masked_output", "zero" if self.bidirectional else "repeat")
        if self.stateful != (self.batch_size is not None):
            have = "needs a batch_size" if self.stateful else "goes without a batch_size"
            raise SpecError(f"stateful={self.stateful} {have}: states are kept for each row of a batch.")
        if self.batch_size is not None:
            _check_size("batch_size", self.batch_size)

    def _check_form(self) -> None:
        _check_choice("form", self.form, ("layer", "cell"))
        if self.form == "cell":
            for name, plain in _CELL_HAS_NOT.items():
                if getattr(self, name) != plain:
                    raise SpecError(f"A bare cell has no {name}={getattr(self, name)!r}; use form='layer'.")

    def _check_stacked(self) -> None:
        if not isinstance(self.stacked, tuple) or not all(isinstance(one, Recurrent) for one in self.stacked):
            raise SpecError(f"stacked must be a tuple of Recurrents, not {self.stacked!r}.")
        _check_size("num_layers, with the stacked cells,", self.num_layers + len(self.stacked), MAX_LAYERS)
        if self.stacked and self.num_layers > 1:
            raise SpecError("num_layers and stacked are two ways to stack; use num_layers=1 with stacked cells.")
        for below, one in pairwise((self, *self.stacked)):
            _check_part("A stacked cell", one, below.state_size, OF_A_CELL)
        one_way = not self.bidirectional and not self.go_backwards
        if self.stacked and one_way and all(same_cell(one, self) for one in self.stacked):
            object.__setattr__(self, "num_layers", 1 + len(self.stacked))
            object.__setattr__(self, "stacked", ())

    def _check_backward(self, other: Recurrent) -> None:
        if not isinstance(other, Recurrent):
            raise SpecError(f"backward must be a Recurrent, not {other!r}.")
        if not self.bidirectional or self.num_layers > 1:
            raise SpecError("backward, a backward layer that differs, goes with bidirectional=True and num_layers=1.")
        _check_part("backward", other, self.input_size, (*OF_A_CELL, "num_layers", "stacked"))
        forward, backward = self.column(0), self.column(1)
        if len(forward) == len(backward) and all(map(same_cell, forward, backward)):
            object.__setattr__(self, "backward", None)

    def _check_merge(self) -> None:
        """Directions that are merged number by number have one size."""
        sizes = [self.column(d)[-1].state_size for d in range(self.num_directions)]
        if self.merge_mode in ("sum", "mul", "ave") and sizes[0] != sizes[1]:
            raise SpecError(
                f"merge_mode={self.merge_mode!r} needs directions of one size, not {sizes[0]} and {sizes[1]}."
            )

    def column(self, direction: int) -> tuple[Recurrent, ...]:
        """What describes the cells that run inside one direction, from the input on: one, or a stack."""
        if not direction or self.backward is None:
            return (self, *self.stacked)
        other = self.backward
        above = replace(other, input_size=other.state_size, num_layers=1) if other.num_layers > 1 else other
        return (other, *other.stacked, *[above] * (other.num_layers - 1))

    def depth(self, direction: int) -> int:
        """Number of layers that one direction has."""
        return self.num_layers if self.num_layers > 1 else len(self.column(direction))

    def part(self, direction: int, layer: int = 0) -> Recurrent:
        """What describes the cell of one direction and layer: the spec itself, or a part of it where that differs."""
        return self if self.num_layers > 1 else self.column(direction)[layer]

    @property
    def places(self) -> Iterator[tuple[int, int]]:
        """Every (layer, direction) in the order in which they run."""
        for layer in range(self.num_layers):
            for d in range(self.num_directions):
                yield from ((layer + level, d) for level in range(len(self.column(d))))

    @property
    def num_directions(self) -> int:
        """2 when bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def state_size(self) -> int:
        """Size of the state h of the (first) cell: proj_size where there is a projection, else hidden_size."""
        return self.proj_size or self.hidden_size

    @property
    def state_activation(self) -> str | None:
        """What an LSTM applies to its cell state on the way to h: its activation."""
        return self.activation

    @property
    def output_size(self) -> int:
        """Number of features that the layer puts out at each time step."""
        if self.merge_mode in ("concat", None):
            return sum(self.column(d)[-1].state_size for d in range(self.num_directions))
        return self.column(0)[-1].state_size

    def layer_input_size(self, layer: int, direction: int = 0) -> int:
        """Number of features that layer number ``layer`` (from 0) reads."""
        if self.num_layers == 1:
            return self.column(direction)[layer].input_size
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
        if self.form == "cell":
            yield "bare cell"
        if self.num_layers > 1:
            yield f"{self.num_layers} layers"
        if self.bidirectional:
            yield "bidirectional" + (f" ({self.merge_mode or 'not merged'})" if self.merge_mode != "concat" else "")
        if not self.bias:
            yield "no bias"
        if self.reset_after is not None:
            yield "reset after" if self.reset_after else "reset before"
        cell = get_cell(self.cell)
        if self.activation != cell.activations[0]:
            yield str(self.activation)
        if cell.recurrent_activations and self.recurrent_activation != cell.recurrent_activations[0]:
            yield f"gates {self.recurrent_activation}"
        if self.proj_size:
            yield f"projected to {self.proj_size}"
        for one in self.stacked:
            yield f"stacked with {one}"
        if self.backward:
            yield f"backward {self.backward}"
        if self.go_backwards:
            yield "go_backwards"
        if self.mask:
            yield f"mask {self.mask} ({self.masked_output})"
        if self.stateful:
            yield f"stateful (batch {self.batch_size})"
        for name in ("input_dropout", "recurrent_dropout", "dropout"):
            if rate := getattr(self, name):
                yield f"{name} {rate:g}"


MERGE_MODES = ("concat", "sum", "mul", "ave", None)
_DEFAULTS = {f.name: f.default for f in fields(Recurrent) if f.default is not MISSING}
# What may differ between the two directions of one layer and between stacked cells, and what a bare cell does not have.
OF_A_CELL = (
    "cell hidden_size bias reset_after activation recurrent_activation proj_size input_dropout recurrent_dropout"
).split()
_CELL_HAS_NOT = {
    name: _DEFAULTS[name] for name in ("num_layers", "bidirectional", "go_backwards", "mask", "stateful", "stacked")
}


def same_cell(one: Recurrent, other: Recurrent) -> bool:
    """Whether two parts are equal but for what they read."""
    return all(getattr(one, name) == getattr(other, name) for name in OF_A_CELL)


def _check_part(what: str, part: Recurrent, input_size: int, own: Sequence[str]) -> None:
    """Refuse a part of a layer that has other options than its ``own``, or that reads another number of features."""
    for name, value in part.options().items():
        if name not in own and value != (plain := _DEFAULTS.get(name, input_size)):
            raise SpecError(f"{what} has {name}={value!r}, which cannot differ from the rest; give {plain!r} there.")


@dataclass(frozen=True)
class Dense:
    """A dense layer: ``y = activation(x W + b)``.

    Args:
        input_size: number of input features.
        units: number of output features.
        bias: whether ``b`` is there.
        activation: a name of `xframe.activations.ACTIVATIONS`; ``"linear"`` for none.

    Raises:
        SpecError: a value is of the wrong type or out of range.
    """

    input_size: int
    units: int
    bias: bool = True
    activation: str = "linear"

    cell = "dense"
    num_layers = 1
    num_directions = 1

    def __post_init__(self) -> None:
        _check_size("input_size", self.input_size)
        _check_size("units", self.units)
        _check_flag("bias", self.bias)
        if wrong := check_activation(self.activation):
            raise SpecError(f"activation of the dense layer {wrong}.")

    places = ((0, 0),)

    def part(self, direction: int, layer: int = 0) -> Dense:
        """The layer itself, which has one direction."""
        return self

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

    def layer_input_size(self, layer: int, direction: int = 0) -> int:
        """Number of input features."""
        return self.input_size

    def options(self) -> dict[str, Any]:
        """All fields by name, in order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        told = ("" if self.bias else ", no bias") + ("" if self.activation == "linear" else f", {self.activation}")
        return f"Dense({self.units}) on {plural(self.input_size, 'feature')}{told}"


Layer = Recurrent | Dense


@dataclass(frozen=True)
class Sequential:
    """A chain of layers, each reading the output of the one before.

    A recurrent layer hands its whole sequence to a recurrent layer, and its last output to a dense one. One and the same
    object in two places is one layer with one set of weights, as it is in Keras and PyTorch; two equal objects are two.

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

    @property
    def distinct(self) -> tuple[Layer, ...]:
        """The layers, each that stands in several places once: what is counted."""
        return tuple({id(layer): layer for layer in self.layers}.values())

    def __str__(self) -> str:
        return ", then ".join(str(layer) for layer in self.layers)


def described(value: Any) -> str:
    """An option's value as a sentence names it; layers by what they are."""
    if isinstance(value, tuple):
        return ", then ".join(map(str, value)) or "none"
    return str(value) if isinstance(value, Recurrent) else repr(value)


def plural(number: int, noun: str) -> str:
    """``3 steps``, ``1 step``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
