"""The long short-term memory cell with a forget gate, and optionally a projected state."""

from __future__ import annotations

from typing import Any

from xframe.cells.base import (
    BIAS,
    KERNEL,
    PROJECTION,
    RECURRENT_BIAS,
    RECURRENT_KERNEL,
    Arithmetic,
    Cell,
    Step,
    activate,
)


class LSTM(Cell):
    def folds(self, spec: Any) -> tuple[str, ...]:
        return self.gates

    def step(self, ops: Arithmetic, s: Step) -> None:
        n, h, c = s.work.shape[0], s.states["h"], s.states["c"]
        a = ops.matmul(s.weights[0], s.xh, out=s.gates)
        activate(ops, s.recurrent_activation, a[: 3 * n], n)
        activate(ops, s.activation, a[3 * n :], n)
        i, f, o, g = a[:n], a[n : 2 * n], a[2 * n : 3 * n], a[3 * n :]
        ops.multiply(f, c, out=c)
        ops.multiply(i, g, out=s.work)
        ops.add(c, s.work, out=c)
        ops.activate(s.state_activation, c, out=s.work)
        if s.projection is None:
            ops.multiply(o, s.work, out=h)
        else:
            ops.multiply(o, s.work, out=s.work)
            ops.matmul(s.projection, s.work, out=h)


CELL = LSTM(
    name="lstm",
    title="LSTM",
    gates=("i", "f", "o", "g"),
    states=("h", "c"),
    roles=(KERNEL, RECURRENT_KERNEL, BIAS, RECURRENT_BIAS, PROJECTION),
    activations=("tanh",),
    recurrent_activations=("sigmoid",),
    projects=True,
    equations=(
        "i = s(x W_i + b_i + h U_i + rb_i), f and o likewise with s = sigmoid, "
        "g = tanh(x W_g + b_g + h U_g + rb_g), c' = f c + i g, h' = o tanh(c'); "
        "with a projection P, h' = (o tanh(c')) P; another recurrent_activation stands for s, another activation for tanh"
    ),
    source=(
        "F. A. Gers, J. Schmidhuber, F. Cummins, Learning to Forget, Neural Computation 12, 2000; projection: "
        "H. Sak, A. Senior, F. Beaufays, arXiv:1402.1128; torch.nn.LSTM, keras.layers.LSTM"
    ),
)
