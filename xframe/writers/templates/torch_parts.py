"""PyTorch: activation functions that it lacks, recurrent layers with any options, and padding as Keras does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Function = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    return x


def hard_sigmoid_keras2(x: Tensor) -> Tensor:
    """The hard_sigmoid of Keras 1 and 2; that of PyTorch and Keras 3 has a slope of 1/6."""
    return (0.2 * x + 0.5).clamp(0, 1)


def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    return functional.leaky_relu(x, negative_slope)


def relu(x: Tensor, max_value: float | None, negative_slope: float, threshold: float) -> Tensor:
    """x from the threshold on, negative_slope (x - threshold) below it, and max_value at most."""
    y = torch.where(x >= threshold, x, negative_slope * (x - threshold))
    return y if max_value is None else torch.where(x >= max_value, max_value, y)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return functional.elu(x, alpha)


def softplus(x: Tensor) -> Tensor:
    # PyTorch's own becomes x at 20.
    return -functional.logsigmoid(-x)


def mish(x: Tensor) -> Tensor:
    return x * torch.tanh(softplus(x))


def squareplus(x: Tensor) -> Tensor:
    return (x + torch.sqrt(torch.square(x) + 4)) / 2


def sparse_plus(x: Tensor) -> Tensor:
    return torch.where(x < 1, torch.square((x + 1).clamp(min=0)) / 4, x)


def sparse_sigmoid(x: Tensor) -> Tensor:
    return ((x + 1) / 2).clamp(0, 1)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return functional.softmax(x, dim=axis)


def log_softmax(x: Tensor) -> Tensor:
    return functional.log_softmax(x, dim=-1)


def sparsemax(x: Tensor) -> Tensor:
    """What Keras ships by that name, which is not the function of the paper."""
    descending = x.sort(dim=-1, descending=True).values
    sums = descending.cumsum(-1)
    k = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    support = (k * descending > sums - 1).to(x.dtype)
    return (x - ((support * sums).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)).clamp(min=0)


class Cell(nn.Module):  # type: ignore[misc]
    """What the recurrent cells share: the parameters of PyTorch's own, by their names and in their order of gates."""

    gates = 1

    def __init__(self, inputs: int, units: int, bias: bool = True, projected: int = 0) -> None:
        super().__init__()
        self.sizes = [projected or units]  # of the states
        self.weight_ih = self.parameter(units, self.gates * units, inputs)
        self.weight_hh = self.parameter(units, self.gates * units, projected or units)
        self.bias_ih = self.parameter(units, self.gates * units) if bias else None
        self.bias_hh = self.parameter(units, self.gates * units) if bias else None
        if projected:
            self.weight_hr = self.parameter(units, projected, units)

    def parameter(self, units: int, *shape: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(shape).uniform_(-(units**-0.5), units**-0.5))

    def inputs(self, x: Tensor) -> Tensor:
        """What the gates read of x, at all time steps at once."""
        return functional.linear(x, self.weight_ih, self.bias_ih)

    def recurrent(self, h: Tensor) -> Tensor:
        """What the gates read of the state h."""
        return functional.linear(h, self.weight_hh, self.bias_hh)


class RNNCell(Cell):
    """h' = f(x W + b + h U + rb)"""

    def __init__(self, inputs: int, units: int, activation: Function, bias: bool = True) -> None:
        super().__init__(inputs, units, bias)
        self.activation = activation

    def forward(self, a: Tensor, h: Tensor) -> list[Tensor]:
        return [self.activation(a + self.recurrent(h))]


class LSTMCell(Cell):
    """c' = f c + i g and h' = o activation(c'), with a projection (o activation(c')) P"""

    gates = 4

    def __init__(
        self, inputs: int, units: int, activation: Function, gate: Function, bias: bool = True, projected: int = 0
    ) -> None:
        super().__init__(inputs, units, bias, projected)
        self.activation, self.gate = activation, gate
        self.sizes.append(units)

    def forward(self, a: Tensor, h: Tensor, c: Tensor) -> list[Tensor]:
        i, f, g, o = (a + self.recurrent(h)).chunk(4, dim=-1)
        c = self.gate(f) * c + self.gate(i) * self.activation(g)
        h = self.gate(o) * self.activation(c)
        return [functional.linear(h, self.weight_hr) if hasattr(self, "weight_hr") else h, c]


class GRUCell(Cell):
    """h' = z h + (1 - z) n, where the reset gate r scales h before or after its product with the recurrent kernel"""

    gates = 3

    def __init__(
        self, inputs: int, units: int, activation: Function, gate: Function, bias: bool = True, reset_after: bool = True
    ) -> None:
        super().__init__(inputs, units, bias)
        self.activation, self.gate, self.reset_after = activation, gate, reset_after

    def forward(self, a: Tensor, h: Tensor) -> list[Tensor]:
        (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, dim=-1), self.recurrent(h).chunk(3, dim=-1)
        r, z = self.gate(a_r + b_r), self.gate(a_z + b_z)
        if not self.reset_after:
            n = self.activation(a_n + self.recurrent(r * h).chunk(3, dim=-1)[2])
        else:
            n = self.activation(a_n + r * b_n)
        return [z * h + (1 - z) * n]


class Recurrent(nn.Module):  # type: ignore[misc]
    """A recurrent layer in plain PyTorch, for what torch.nn.RNN, LSTM and GRU cannot do.

    Args:
        layers: for each layer its directions (forward, then backward), for each of these its cells, from below.
        merge: how two directions become one output: concat, sum, mul or ave.
        go_backwards: read from the last time step to the first, and leave the output in that order.
        masked_output: what is put out at a masked step: repeat (the output before it) or zero.
    """

    def __init__(
        self,
        layers: Sequence[Sequence[Sequence[Cell]]],
        merge: str = "concat",
        go_backwards: bool = False,
        masked_output: str = "repeat",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.ModuleList(cells) for cells in directions) for directions in layers
        )
        self.merge, self.go_backwards, self.masked_output = merge, go_backwards, masked_output

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output at every time step (batch, time, features), and the last one (batch, features).

        The mask is (batch, time), True where a step counts. Other steps change no state.
        """
        x, last, _ = self.run(x, mask, {})
        return x, last

    def run(
        self, x: Tensor, mask: Tensor | None, given: dict[Cell, list[Tensor]]
    ) -> tuple[Tensor, Tensor, dict[Cell, list[Tensor]]]:
        """The same from given states, with the final ones: for each cell h, and c where it has one."""
        last, final = x, dict[Cell, list[Tensor]]()
        for directions in self.layers:
            sequences, lasts = [], []
            for d, cells in enumerate(directions):
                sequence, last = self.in_order(cells, x, mask, self.go_backwards != bool(d), given, final)
                # Only the backward half is put back into the order of time.
                sequences.append(sequence.flip(1) if d else sequence)
                lasts.append(last)
            x, last = self.merged(sequences), self.merged(lasts)
        return x, last, final

    def in_order(
        self,
        cells: Sequence[Cell],
        x: Tensor,
        mask: Tensor | None,
        backwards: bool,
        given: dict[Cell, list[Tensor]],
        final: dict[Cell, list[Tensor]],
    ) -> tuple[Tensor, Tensor]:
        """One direction: its outputs in the order in which they are made, and the last state h."""
        if backwards:
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        h = x
        for cell in cells:
            states, inputs, out = given.get(cell) or self.first(cell, x), cell.inputs(x), []
            output = torch.zeros_like(states[0])
            for t in range(x.shape[1]):
                new = cell(inputs[:, t], *states)
                if mask is None:
                    states, output = new, new[0]
                else:
                    valid = mask[:, t, None]
                    before = output if self.masked_output == "repeat" else torch.zeros_like(output)
                    output = torch.where(valid, new[0], before)
                    states = [torch.where(valid, a, b) for a, b in zip(new, states, strict=True)]
                out.append(output)
            self.keep(cell, states)
            final[cell] = states
            x, h = torch.stack(out, dim=1), states[0]
        return x, h

    def first(self, cell: Cell, x: Tensor) -> list[Tensor]:
        """The states with which a call begins."""
        return [x.new_zeros(len(x), size) for size in cell.sizes]

    def keep(self, cell: Cell, states: list[Tensor]) -> None:
        """What is done with the states in which a call ends."""

    def merged(self, halves: Sequence[Tensor]) -> Tensor:
        if len(halves) == 1 or self.merge == "concat":
            return torch.cat(list(halves), dim=-1)
        forward, backward = halves
        if self.merge == "mul":
            return forward * backward
        return (forward + backward) / 2 if self.merge == "ave" else forward + backward


class StatefulRecurrent(Recurrent):
    """Begins each call with the states in which the one before it ended; `reset` sets them to zero."""

    def reset(self) -> None:
        self.kept: dict[Cell, list[Tensor]] = {}

    def first(self, cell: Cell, x: Tensor) -> list[Tensor]:
        return getattr(self, "kept", {}).get(cell) or super().first(cell, x)

    def keep(self, cell: Cell, states: list[Tensor]) -> None:
        if not hasattr(self, "kept"):
            self.reset()
        self.kept[cell] = [state.detach() for state in states]


class RecurrentFromStates(Recurrent):
    """Takes the states with which it begins, and hands on those in which it ends: of each direction and layer."""

    def forward(  # type: ignore[override]
        self, x: Tensor, mask: Tensor | None = None, states: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        cells = [cell for d in range(len(self.layers[0])) for directions in self.layers for cell in directions[d]]
        given, rest = dict[Cell, list[Tensor]](), list(states)
        for cell in cells:
            given[cell], rest = rest[: len(cell.sizes)], rest[len(cell.sizes) :]
        x, last, final = self.run(x, mask, given)
        return x, last, [state for cell in cells for state in final[cell]]


def padded_as_keras(x: Tensor, size: int, stride: int, dilation: int) -> Tensor:
    """x (batch, channels, time) with the zeros that Keras's padding="same" puts on both sides."""
    steps = x.shape[-1]
    total = max((-(-steps // stride) - 1) * stride + (size - 1) * dilation + 1 - steps, 0)
    return functional.pad(x, (total // 2, total - total // 2))


def mean_of_valid(x: Tensor, mask: Tensor, keepdims: bool = False) -> Tensor:
    """The mean over the time steps that count."""
    weights = mask.unsqueeze(-1).to(x.dtype)
    return (x * weights).sum(1, keepdim=keepdims) / weights.sum(1, keepdim=keepdims)


def mask_of_all(values: Sequence[tuple[Tensor, Tensor | None]], axis: int, every: bool = False) -> Tensor:
    """The mask of values behind each other, each with its own or none: any or every of them along the last axis."""
    wide = [
        torch.ones_like(x, dtype=torch.bool) if mask is None else mask.unsqueeze(-1).expand_as(x) for x, mask in values
    ]
    whole = torch.cat(wide, dim=axis)
    return whole.all(-1) if every else whole.any(-1)
