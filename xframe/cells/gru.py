"""The gated recurrent unit, with the reset gate after or before the recurrent product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xframe.cells.base import BIAS, KERNEL, RECURRENT_BIAS, RECURRENT_KERNEL, Arithmetic, Cell, Step

if TYPE_CHECKING:
    from xframe.cells.base import Array


class GRU(Cell):
    def folds(self, spec: Any) -> tuple[str, ...]:
        # After the product, the candidate's recurrent bias stands inside the reset gate: r (h U_n + rb_n).
        return ("r", "z") if spec.reset_after else self.gates

    def products(self, spec: Any) -> tuple[tuple[str, ...], ...]:
        return (self.gates,) if spec.reset_after else (("r", "z"), ("n",))

    def step(self, ops: Arithmetic, x: Array, state: dict[str, Array], new: dict[str, Array], s: Step) -> None:
        n, h = s.work.shape[0], state["h"]
        gates, candidate = s.gates[: 2 * n], s.gates[2 * n :]
        r, z = gates[:n], gates[n:]
        ops.matmul(s.kernels[0], h, out=s.gates if s.reset_after else gates)
        ops.add(x[: 2 * n], gates, out=gates)
        ops.activate(s.recurrent_activation, gates, out=gates)
        if s.reset_after:
            if "n" in s.bias:
                ops.add_bias(candidate, s.bias["n"], out=candidate)
            ops.multiply(r, candidate, out=candidate)
        else:
            ops.multiply(r, h, out=s.work)
            ops.matmul(s.kernels[1], s.work, out=candidate)
        ops.add(x[2 * n :], candidate, out=candidate)
        ops.activate(s.activation, candidate, out=candidate)
        # z h + (1 - z) c, with one product fewer.
        ops.subtract(h, candidate, out=s.work)
        ops.multiply(z, s.work, out=s.work)
        ops.add(candidate, s.work, out=new["h"])


CELL = GRU(
    name="gru",
    title="GRU",
    gates=("r", "z", "n"),
    states=("h",),
    roles=(KERNEL, RECURRENT_KERNEL, BIAS, RECURRENT_BIAS),
    activations=("tanh",),
    recurrent_activations=("sigmoid",),
    reset_after=(True, False),
    equations=(
        "r = s(x W_r + b_r + h U_r + rb_r), z likewise with s = sigmoid; reset after: "
        "n = tanh(x W_n + b_n + r (h U_n + rb_n)); reset before: n = tanh(x W_n + b_n + (r h) U_n + rb_n); "
        "h' = z h + (1 - z) n"
    ),
    source=(
        "K. Cho et al., arXiv:1406.1078v3 (reset before) and v1 (reset after); torch.nn.GRU, keras.layers.GRU"
    ),
)
