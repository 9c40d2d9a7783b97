"""The dense layer, described like a cell so that layouts and counts need no special case."""

from __future__ import annotations

from typing import Any

from xframe.cells.base import Cell, Role


class Dense(Cell):
    def folds(self, spec: Any) -> tuple[str, ...]:
        return ()


CELL = Dense(
    name="dense",
    title="Dense",
    gates=("",),
    states=(),
    roles=(Role("kernel", ("input", "hidden")), Role("bias", ("hidden",))),
    activations=("linear",),
    recurrent=False,
    equations="y = activation(x W + b)",
    source="keras.layers.Dense, torch.nn.Linear",
)
