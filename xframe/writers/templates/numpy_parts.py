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


def windows(
    x: np.ndarray, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], padding: str, fill: float = 0.0
) -> np.ndarray:
    """The windows of x (batch, *axes, features), padded as in Keras: (batch, *places, *size, features)."""
    pads = []
    for n, window, step, gap in zip(x.shape[1:-1], size, stride, dilation, strict=True):
        total = max((-(-n // step) - 1) * step + (window - 1) * gap + 1 - n, 0) if padding == "same" else 0
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    extents = tuple((n - 1) * gap + 1 for n, gap in zip(size, dilation, strict=True))
    found = np.lib.stride_tricks.sliding_window_view(x, extents, axis=tuple(range(1, 1 + len(extents))))
    steps = tuple(slice(None, None, step) for step in (1, *stride, 1, *dilation))
    return np.moveaxis(found[steps], 1 + len(extents), -1)


def convolution(
    x: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    padding: str,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> np.ndarray:
    """x (batch, *axes, features) and a kernel (*size, features / groups, filters)."""
    size, axes = kernel.shape[:-2], kernel.ndim - 1
    read = np.split(windows(x, size, stride, dilation, padding), groups, axis=-1)
    filters = np.split(kernel, groups, axis=-1)
    return np.concatenate([np.tensordot(a, w, axes) for a, w in zip(read, filters, strict=True)], axis=-1) + bias


def depthwise_convolution(
    x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, padding: str, stride: Sequence[int], dilation: Sequence[int]
) -> np.ndarray:
    """x (batch, *axes, features) and a kernel (*size, features, m), each feature by itself."""
    size = kernel.shape[:-2]
    read, axes = windows(x, size, stride, dilation, padding), tuple(range(-1 - len(size), -1))
    parts = [(read * kernel[..., m]).sum(axes) for m in range(kernel.shape[-1])]
    return np.stack(parts, axis=-1).reshape(*parts[0].shape[:-1], -1) + bias


def transposed_convolution(
    x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: Sequence[int], padding: str
) -> np.ndarray:
    """x (batch, *axes, features) and a kernel (*size, filters, features): each number puts its kernel into the output."""
    axes, size = x.shape[1:-1], kernel.shape[:-2]
    full = [(n - 1) * step + max(window, step) for n, step, window in zip(axes, stride, size, strict=True)]
    y = np.zeros((len(x), *full, kernel.shape[-2]), x.dtype)
    for at in np.ndindex(*size):
        places = [slice(a, a + (n - 1) * step + 1, step) for a, n, step in zip(at, axes, stride, strict=True)]
        to = (slice(None), *places)
        y[to] += x @ kernel[at].T
    if padding == "same":
        cuts = [max(window - step, 0) // 2 for window, step in zip(size, stride, strict=True)]
        kept = (slice(None), *(slice(c, c + n * step) for c, n, step in zip(cuts, axes, stride, strict=True)))
        y = y[kept]
    return y + bias


def max_pool(x: np.ndarray, size: Sequence[int], stride: Sequence[int], padding: str) -> np.ndarray:
    """The largest number of each window of x (batch, *axes, features)."""
    axes = tuple(range(-1 - len(size), -1))
    return windows(x, size, stride, [1] * len(size), padding, -np.inf).max(axes)


def average_pool(x: np.ndarray, size: Sequence[int], stride: Sequence[int], padding: str) -> np.ndarray:
    """The average of each window of x (batch, *axes, features); what pads is not counted."""
    axes, once = tuple(range(-1 - len(size), -1)), [1] * len(size)
    count = windows(np.ones((1, *x.shape[1:-1], 1), x.dtype), size, stride, once, padding).sum(axes)
    return windows(x, size, stride, once, padding).sum(axes) / count


def attention(
    query: np.ndarray,
    value: np.ndarray,
    key: np.ndarray | None = None,
    query_mask: np.ndarray | None = None,
    value_mask: np.ndarray | None = None,
    causal: bool = False,
    score: str = "dot",
    scale: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """softmax(scores) value, (batch, T, v), and the weights (batch, T, S), as keras.layers.Attention computes them.

    Args:
        query, value, key: (batch, T, d), (batch, S, v), (batch, S, d); the key is the value if it is None.
        query_mask, value_mask: (batch, time), True where a step counts.
        causal: whether a time step looks at those before it and itself only.
        score: dot (scale q k), concat (weight sum(tanh(scale (q + k)))) or additive (sum(scale tanh(q + k))).
        scale, weight: see above; 1 if they are None.
    """
    key = value if key is None else key
    own = np.ones(1, query.dtype) if scale is None else scale
    if score == "dot":
        scores = query @ key.swapaxes(1, 2) * own
    elif score == "additive":
        scores = (own * np.tanh(query[:, :, None] + key[:, None])).sum(-1)
    else:
        scores = np.tanh(own * (query[:, :, None] + key[:, None])).sum(-1) * (1 if weight is None else weight)
    seen = None if value_mask is None else value_mask[:, None]
    if causal:
        before = np.tri(query.shape[1], key.shape[1], dtype=bool)
        seen = before if seen is None else seen & before
    found = softmax(scores if seen is None else np.where(seen, scores, scores - 1e9).astype(scores.dtype))
    y = found @ value
    return y if query_mask is None else np.where(query_mask[..., None], y, 0).astype(y.dtype), found


def multi_head_attention(
    weights: Mapping[str, np.ndarray],
    name: str,
    query: np.ndarray,
    value: np.ndarray,
    key: np.ndarray | None = None,
    query_mask: np.ndarray | None = None,
    value_mask: np.ndarray | None = None,
    key_mask: np.ndarray | None = None,
    causal: bool = False,
    empty: str = "average",
) -> tuple[np.ndarray, np.ndarray]:
    """(batch, T, n), and the weights (batch, heads, T, S), as keras.layers.MultiHeadAttention computes them.

    Args:
        weights, name: the kernels (features, heads, size) and biases are called name/query_kernel and so on.
        query, value, key: (batch, T, d), (batch, S, e); the key is the value if it is None.
        query_mask, value_mask, key_mask: (batch, time), True where a step counts.
        causal: whether a time step looks at those before it and itself only.
        empty: what a time step that may look at nothing takes: average (of all) or zero.
    """
    key = value if key is None else key

    def headed(part: str, x: np.ndarray) -> np.ndarray:
        kernel = weights[f"{name}/{part}_kernel"]
        return np.tensordot(x, kernel, 1) + weights[f"{name}/{part}_bias"]

    q, k, v = headed("query", query), headed("key", key), headed("value", value)
    k, v = (np.repeat(a, q.shape[2] // a.shape[2], axis=2) for a in (k, v))
    scores = np.einsum("bthk,bshk->bhts", q * q.dtype.type(q.shape[-1] ** -0.5), k)
    seen = np.ones((1, query.shape[1], key.shape[1]), bool)
    if query_mask is not None:
        seen = seen & query_mask[:, :, None]
    for mask in (value_mask, key_mask):
        seen = seen if mask is None else seen & mask[:, None]
    if causal:
        seen = seen & np.tri(query.shape[1], key.shape[1], dtype=bool)
    found = softmax(np.where(seen[:, None], scores, np.finfo(scores.dtype).min))
    found = np.where(seen[:, None], found, 0).astype(found.dtype) if empty == "zero" else found
    heads = np.einsum("bhts,bshv->bthv", found, v)
    return np.tensordot(heads, weights[f"{name}/output_kernel"], 2) + weights[f"{name}/output_bias"], found
