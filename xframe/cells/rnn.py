"""The simple (Elman) recurrent cell."""

from __future__ import annotations

from typing import Any

from xframe.cells.base import BIAS, KERNEL, RECURRENT_BIAS, RECURRENT_KERNEL, Arithmetic, Cell, Step


class RNN(Cell):
    def folds(self, spec: Any) -> tuple[str, ...]:
        return self.gates

    def step(self, ops: Arithmetic, s: Step) -> None:
        a = ops.matmul(s.weights[0], s.xh, out=s.gates)
        ops.activate(s.activation, a, out=s.states["h"])


CELL = RNN(
    name="rnn",
    title="SimpleRNN",
    gates=("h",),
    states=("h",),
    roles=(KERNEL, RECURRENT_KERNEL, BIAS, RECURRENT_BIAS),
    activations=("tanh", "relu"),
    equations="h' = f(x W + b + h U + rb), f = tanh unless another activation is given",
    source="J. L. Elman, Finding Structure in Time, Cognitive Science 14, 1990; torch.nn.RNN, keras.layers.SimpleRNN",
)
