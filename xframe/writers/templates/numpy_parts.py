"""NumPy: activation functions, recurrent layers with any options, and what else a chain may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import erfc

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]


def linear(x: np.ndarray) -> np.ndarray:
    return x


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), which overflows nowhere when written like this."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x / 6 + 0.5, 0, 1)


def hard_sigmoid_keras2(x: np.ndarray) -> np.ndarray:
    """The hard_sigmoid of Keras 1 and 2; that of Keras 3 has a slope of 1/6."""
    return np.clip(0.2 * x + 0.5, 0, 1)


def relu(
    x: np.ndarray, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0
) -> np.ndarray:
    """x from the threshold on, negative_slope (x - threshold) below it, and max_value at most."""
    y = np.where(x >= threshold, x, (x - x.dtype.type(threshold)) * x.dtype.type(negative_slope))
    return y if max_value is None else np.where(x >= max_value, x.dtype.type(max_value), y)


def relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 6)


def leaky_relu(x: np.ndarray, negative_slope: float = 0.2) -> np.ndarray:
    return np.where(x > 0, x, negative_slope * x)


def elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x: np.ndarray) -> np.ndarray:
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * np.vectorize(erfc, otypes=[float])(-x / 2**0.5).astype(x.dtype)


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, x.dtype.type(0))


def mish(x: np.ndarray) -> np.ndarray:
    return x * np.tanh(softplus(x))


def softsign(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.abs(x))


def squareplus(x: np.ndarray) -> np.ndarray:
    return (x + np.sqrt(np.square(x) + 4)) / 2


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -softplus(-x)


def hard_tanh(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -1, 1)


def hard_silu(x: np.ndarray) -> np.ndarray:
    return x * hard_sigmoid(x)


def tanh_shrink(x: np.ndarray) -> np.ndarray:
    return x - np.tanh(x)


def soft_shrink(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)


def hard_shrink(x: np.ndarray) -> np.ndarray:
    return x * (np.abs(x) > 0.5)


def sparse_plus(x: np.ndarray) -> np.ndarray:
    return np.where(x < 1, np.square(np.maximum(x + 1, 0)) / 4, x)


def sparse_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip((x + 1) / 2, 0, 1)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def sparsemax(x: np.ndarray) -> np.ndarray:
    """What Keras ships by that name, which is not the function of the paper."""
    descending = -np.sort(-x, axis=-1)
    sums = np.cumsum(descending, axis=-1)
    support = np.arange(1, x.shape[-1] + 1) * descending > sums - 1
    total, count = (a.sum(axis=-1, keepdims=True) for a in (np.where(support, sums, 0), support))
    return np.maximum(x - ((total - 1) / count).astype(x.dtype), 0)


class Cell:
    """What the recurrent cells share: the numbers of one layer and direction, by role and gate."""

    states = 1

    def __init__(
        self, weights: Mapping[str, np.ndarray], place: str, activation: Function, gate: Function = sigmoid
    ) -> None:
        self.weights = {name[len(place) + 1 :]: a for name, a in weights.items() if name.startswith(f"{place}/")}
        self.activation, self.gate = activation, gate
        self.begun: list[np.ndarray] = []
        self.ended: list[np.ndarray] = []

    def first(self, x: np.ndarray) -> list[np.ndarray]:
        """The states with which a sequence begins: h, and c, which has as many numbers as a gate."""
        shape = next(a for name, a in self.weights.items() if name.startswith("recurrent_kernel/")).shape
        return [np.zeros((len(x), size), x.dtype) for size in shape[: self.states]]

    def inputs(self, x: np.ndarray, gate: str) -> np.ndarray:
        """x W + b of one gate."""
        return x @ self.weights[f"kernel/{gate}"] + self.weights.get(f"bias/{gate}", 0)

    def recurrent(self, h: np.ndarray, gate: str) -> np.ndarray:
        """h U + rb of one gate."""
        return h @ self.weights[f"recurrent_kernel/{gate}"] + self.weights.get(f"recurrent_bias/{gate}", 0)

    def step(self, x: np.ndarray, *states: np.ndarray) -> list[np.ndarray]:
        """The states after one time step."""
        raise NotImplementedError


class RNNCell(Cell):
    """h' = activation(x W + b + h U + rb)"""

    def step(self, x: np.ndarray, *states: np.ndarray) -> list[np.ndarray]:
        return [self.activation(self.inputs(x, "h") + self.recurrent(states[0], "h"))]


class LSTMCell(Cell):
    """c' = f c + i g and h' = o activation(c'), with a projection (o activation(c')) P"""

    states = 2

    def step(self, x: np.ndarray, *states: np.ndarray) -> list[np.ndarray]:
        h, c = states
        i, f, g, o = (self.inputs(x, gate) + self.recurrent(h, gate) for gate in "ifgo")
        c = self.gate(f) * c + self.gate(i) * self.activation(g)
        h = self.gate(o) * self.activation(c)
        return [h @ self.weights["projection"] if "projection" in self.weights else h, c]


class GRUCell(Cell):
    """h' = z h + (1 - z) n, where the reset gate r scales h after its product with the recurrent kernel"""

    def candidate(self, x: np.ndarray, h: np.ndarray, r: np.ndarray) -> np.ndarray:
        return self.activation(self.inputs(x, "n") + r * self.recurrent(h, "n"))

    def step(self, x: np.ndarray, *states: np.ndarray) -> list[np.ndarray]:
        h = states[0]
        r, z = (self.gate(self.inputs(x, gate) + self.recurrent(h, gate)) for gate in "rz")
        return [z * h + (1 - z) * self.candidate(x, h, r)]


class ResetBeforeGRUCell(GRUCell):
    """The same, where the reset gate r scales h before its product with the recurrent kernel"""

    def candidate(self, x: np.ndarray, h: np.ndarray, r: np.ndarray) -> np.ndarray:
        return self.activation(self.inputs(x, "n") + self.recurrent(r * h, "n"))


def recurrent(
    layers: Sequence[Sequence[Sequence[Cell]]],
    x: np.ndarray,
    mask: np.ndarray | None = None,
    merge: str = "concat",
    go_backwards: bool = False,
    masked_output: str = "repeat",
    states: Sequence[np.ndarray] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """The output at every time step (batch, time, features), and the last one (batch, features).

    Args:
        layers: for each layer its directions (forward, then backward), for each of these its cells, from below.
        x: (batch, time, features).
        mask: (batch, time), True where a step counts. Other steps change no state.
        merge: how two directions become one output: concat, sum, mul or ave.
        go_backwards: read from the last time step to the first, and leave the output in that order.
        masked_output: what is put out at a masked step: repeat (the output before it) or zero.
        states: those with which it begins: of each direction and layer h, and c; zeros if there are none.
    """
    last, rest = x, list(states)
    for cell in in_directions(layers) if rest else ():
        cell.begun, rest = rest[: cell.states], rest[cell.states :]
    for directions in layers:
        sequences, lasts = [], []
        for d, cells in enumerate(directions):
            back = go_backwards != bool(d)
            held = mask[:, ::-1] if back and mask is not None else mask
            sequence, last = in_order(cells, x[:, ::-1] if back else x, held, masked_output)
            # Only the backward half is put back into the order of time.
            sequences.append(sequence[:, ::-1] if d else sequence)
            lasts.append(last)
        x, last = merged(sequences, merge), merged(lasts, merge)
    return x, last


def in_order(
    cells: Sequence[Cell], x: np.ndarray, mask: np.ndarray | None, masked_output: str
) -> tuple[np.ndarray, np.ndarray]:
    """One direction: its outputs in the order in which they are made, and the last state h."""
    h = x
    for cell in cells:
        states, out = cell.begun or cell.first(x), []
        output = np.zeros_like(states[0])
        for t in range(x.shape[1]):
            new = cell.step(x[:, t], *states)
            valid = np.True_ if mask is None else mask[:, t, None]
            output = np.where(valid, new[0], output if masked_output == "repeat" else 0)
            states = [np.where(valid, a, b) for a, b in zip(new, states, strict=True)]
            out.append(output)
        x, h, cell.ended = np.stack(out, axis=1), states[0], states
    return x, h


def in_directions(layers: Sequence[Sequence[Sequence[Cell]]]) -> list[Cell]:
    """The cells of the forward direction, from below, then those of the backward one."""
    return [cell for d in range(len(layers[0])) for directions in layers for cell in directions[d]]


def final_states(layers: Sequence[Sequence[Sequence[Cell]]]) -> list[np.ndarray]:
    """The states in which a layer has ended: of each direction and layer h, and c."""
    return [state for cell in in_directions(layers) for state in cell.ended]


def merged(halves: Sequence[np.ndarray], merge: str) -> np.ndarray:
    if len(halves) == 1 or merge == "concat":
        return np.concatenate(halves, axis=-1)
    forward, backward = halves
    if merge == "mul":
        return forward * backward
    return (forward + backward) / 2 if merge == "ave" else forward + backward


def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> np.ndarray:
    return batch_norm(x, gamma, beta, x.mean(-1, keepdims=True), x.var(-1, keepdims=True), epsilon)


def batch_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> np.ndarray:
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def conv1d(
    x: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    padding: str = "valid",
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> np.ndarray:
    """x (batch, time, features) and a kernel (size, features / groups, filters); padding as in Keras."""
    reach, steps = (len(kernel) - 1) * dilation + 1, x.shape[1]
    same = max((-(-steps // stride) - 1) * stride + reach - steps, 0)
    before, after = {"valid": (0, 0), "same": (same // 2, same - same // 2), "causal": (reach - 1, 0)}[padding]
    x = np.pad(x, ((0, 0), (before, after), (0, 0)))
    steps = (x.shape[1] - reach) // stride + 1
    taps = [x[:, k * dilation :: stride][:, :steps] for k in range(len(kernel))]
    parts = []
    for group, filters in enumerate(np.split(kernel, groups, axis=2)):
        features = slice(group * filters.shape[1], (group + 1) * filters.shape[1])
        parts.append(sum((tap[..., features] @ w for tap, w in zip(taps, filters, strict=True)), np.zeros((), x.dtype)))
    return np.concatenate(parts, axis=-1) + bias


def mean_of_valid(x: np.ndarray, mask: np.ndarray, keepdims: bool = False) -> np.ndarray:
    """The mean over the time steps that count."""
    weights = mask[..., None].astype(x.dtype)
    return (x * weights).sum(1, keepdims=keepdims) / weights.sum(1, keepdims=keepdims)


def mask_of_all(values: Sequence[tuple[np.ndarray, np.ndarray | None]], axis: int, every: bool = False) -> np.ndarray:
    """The mask of values behind each other, each with its own or none: any or every of them along the last axis."""
    wide = [np.broadcast_to(True if mask is None else mask[..., None], x.shape) for x, mask in values]
    whole = np.concatenate(wide, axis=axis)
    return np.all(whole, axis=-1) if every else np.any(whole, axis=-1)
