"""The simple (Elman) recurrent cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xframe.cells.base import BIAS, KERNEL, RECURRENT_BIAS, RECURRENT_KERNEL, Arithmetic, Cell, Step

if TYPE_CHECKING:
    from xframe.cells.base import Array


class RNN(Cell):
    def folds(self, spec: Any) -> tuple[str, ...]:
        return self.gates

    def step(self, ops: Arithmetic, x: Array, state: dict[str, Array], new: dict[str, Array], s: Step) -> None:
        z = ops.matmul(s.kernels[0], state["h"], out=s.gates)
        ops.add(x, z, out=z)
        ops.activate(s.activation, z, out=new["h"])


CELL = RNN(
    name="rnn",
    title="SimpleRNN",
    gates=("h",),
    states=("h",),
    roles=(KERNEL, RECURRENT_KERNEL, BIAS, RECURRENT_BIAS),
    activations=("tanh", "relu"),
    equations="h' = f(x W + b + h U + rb), f = tanh or relu",
    source="J. L. Elman, Finding Structure in Time, Cognitive Science 14, 1990; torch.nn.RNN, keras.layers.SimpleRNN",
)
