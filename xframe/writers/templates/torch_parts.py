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


def padded_same(
    x: Tensor, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], value: float = 0.0
) -> Tensor:
    """x (batch, channels, *axes) with what Keras's padding="same" puts on both sides of each axis, the more behind."""
    pads: list[int] = []
    for n, window, step, gap in zip(x.shape[2:], size, stride, dilation, strict=True):
        total = max((-(-n // step) - 1) * step + (window - 1) * gap + 1 - n, 0)
        pads = [total // 2, total - total // 2, *pads]
    return functional.pad(x, pads, value=value)


def average_same(x: Tensor, size: Sequence[int], stride: Sequence[int]) -> Tensor:
    """The average of each window of x (batch, channels, *axes), padded as Keras does it; what pads is not counted."""
    function = [functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d][len(size) - 1]
    once = [1] * len(size)
    total = function(padded_same(x, size, stride, once), tuple(size), tuple(stride))
    return total / function(padded_same(torch.ones_like(x), size, stride, once), tuple(size), tuple(stride))


def dot_scores(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.transpose(-2, -1)


def additive_scores(query: Tensor, key: Tensor) -> Tensor:
    return torch.tanh(query.unsqueeze(2) + key.unsqueeze(1)).sum(-1)


class ScaledScores(nn.Module):  # type: ignore[misc]
    """scale q k"""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return dot_scores(query, key) * self.scale


class ConcatScores(nn.Module):  # type: ignore[misc]
    """weight sum(tanh(scale (q + k)))"""

    def __init__(self, scale: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1)) if scale else None
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        both = query.unsqueeze(2) + key.unsqueeze(1)
        return torch.tanh(both if self.scale is None else both * self.scale).sum(-1) * self.weight


class AdditiveScores(nn.Module):  # type: ignore[misc]
    """sum(scale tanh(q + k))"""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(features))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return (torch.tanh(query.unsqueeze(2) + key.unsqueeze(1)) * self.scale).sum(-1)


def causal_mask(query: Tensor, key: Tensor) -> Tensor:
    """(1, T, S), True where a time step of the query may look: at those before it and itself."""
    rows, columns = torch.arange(query.shape[1], device=query.device), torch.arange(key.shape[1], device=key.device)
    return (columns <= rows.unsqueeze(1)).unsqueeze(0)


def attention(
    scores: Callable[[Tensor, Tensor], Tensor],
    query: Tensor,
    value: Tensor,
    key: Tensor | None = None,
    query_mask: Tensor | None = None,
    value_mask: Tensor | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """softmax(scores) value, (batch, T, v), and the weights (batch, T, S), as keras.layers.Attention computes them."""
    key = value if key is None else key
    found = scores(query, key)
    seen = None if value_mask is None else value_mask.unsqueeze(1)
    if causal:
        seen = causal_mask(query, key) if seen is None else seen & causal_mask(query, key)
    if seen is not None:
        found = torch.where(seen, found, found - 1e9)
    weights = functional.softmax(found, dim=-1)
    y = weights @ value
    return y if query_mask is None else torch.where(query_mask.unsqueeze(-1), y, torch.zeros_like(y)), weights


class MultiHeadAttention(nn.Module):  # type: ignore[misc]
    """What keras.layers.MultiHeadAttention and GroupQueryAttention compute; heads of any size, and fewer of keys and values.

    Args:
        features: of the query.
        heads, size: of the query: how many, and of how many numbers each.
        groups: how many heads of keys and values there are, each for as many of the query.
        key_features, value_features, value_size, outputs: where they differ from those of the query.
        empty: what a time step that may look at nothing takes: average (of all) or zero.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        size: int,
        groups: int | None = None,
        key_features: int | None = None,
        value_features: int | None = None,
        value_size: int | None = None,
        outputs: int | None = None,
        empty: str = "average",
    ) -> None:
        super().__init__()
        self.heads, self.groups, self.size, self.empty = heads, groups or heads, size, empty
        width = value_size or size
        self.query = nn.Linear(features, heads * size)
        self.key = nn.Linear(key_features or features, self.groups * size)
        self.value = nn.Linear(value_features or features, self.groups * width)
        self.output = nn.Linear(heads * width, outputs or features)

    def headed(self, x: Tensor, heads: int) -> Tensor:
        """(batch, heads of the query, time, size)"""
        x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
        return x if heads == self.heads else x.repeat_interleave(self.heads // heads, dim=1)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        causal: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """(batch, T, outputs) and the weights (batch, heads, T, S); the masks are (batch, time), True where a step counts."""
        key = value if key is None else key
        seen = [mask.unsqueeze(1) for mask in (value_mask, key_mask) if mask is not None]
        seen += [query_mask.unsqueeze(2)] if query_mask is not None else []
        seen += [causal_mask(query, key)] if causal else []
        q = self.headed(self.query(query), self.heads) * self.size**-0.5
        scores = q @ self.headed(self.key(key), self.groups).transpose(-2, -1)
        for mask in seen:
            scores = torch.where(mask.unsqueeze(1), scores, torch.full_like(scores, torch.finfo(scores.dtype).min))
        weights = functional.softmax(scores, dim=-1)
        for mask in seen if self.empty == "zero" else []:
            weights = torch.where(mask.unsqueeze(1), weights, torch.zeros_like(weights))
        heads = weights @ self.headed(self.value(value), self.groups)
        return self.output(heads.transpose(1, 2).flatten(2)), weights
