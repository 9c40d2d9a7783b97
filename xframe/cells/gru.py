"""The gated recurrent unit, with the reset gate after or before the recurrent product."""

from __future__ import annotations

from typing import Any

from xframe.cells.base import BIAS, KERNEL, RECURRENT_BIAS, RECURRENT_KERNEL, Arithmetic, Cell, Product, Step, activate


class GRU(Cell):
    def folds(self, spec: Any) -> tuple[str, ...]:
        # After the product, the candidate's recurrent bias stands inside the reset gate: r (h U_n + rb_n).
        return ("r", "z") if spec.reset_after else self.gates

    def products(self, spec: Any) -> tuple[Product, ...]:
        candidate = (Product(("n",), "x"), Product(("n",), "h")) if spec.reset_after else (Product(("n",)),)
        return (Product(("r", "z")), *candidate)

    def step(self, ops: Arithmetic, s: Step) -> None:
        n, h = s.work.shape[0], s.states["h"]
        gates, candidate = s.gates[: 2 * n], s.gates[2 * n :]
        ops.matmul(s.weights[0], s.xh, out=gates)
        activate(ops, s.recurrent_activation, gates, n)
        r, z = gates[:n], gates[n:]
        if s.reset_after:
            ops.matmul(s.weights[1], s.x, out=candidate)
            ops.matmul(s.weights[2], s.h, out=s.work)
            ops.multiply(r, s.work, out=s.work)
            ops.add(candidate, s.work, out=candidate)
        else:
            # For this product, r h takes the place of h in the column.
            s.work[...] = h
            ops.multiply(r, h, out=h)
            ops.matmul(s.weights[1], s.xh, out=candidate)
            h[...] = s.work
        ops.activate(s.activation, candidate, out=candidate)
        # z h + (1 - z) n, with one product fewer.
        ops.subtract(h, candidate, out=s.work)
        ops.multiply(z, s.work, out=s.work)
        ops.add(candidate, s.work, out=h)


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
        "h' = z h + (1 - z) n; another recurrent_activation stands for s, another activation for tanh"
    ),
    why_not_folded=(
        "In the candidate n the recurrent bias is not redundant: n = tanh(x W_n + b_n + r (h U_n + rb_n)), so the reset "
        "gate r scales it and not the input bias."
    ),
    source=("K. Cho et al., arXiv:1406.1078v3 (reset before) and v1 (reset after); torch.nn.GRU, keras.layers.GRU"),
)
