"""ONNX: the RNN, LSTM and GRU operators. Counted, not run.

Source: https://onnx.ai/onnx/operators/ (RNN-22, LSTM-22, GRU-22).
"""

from __future__ import annotations

from typing import Any

from xframe.layout import Join, Layout, Packing, Tensor, gates

_LABELS = {"lstm": {"g": "c"}, "gru": {"n": "h"}}


def _row(cell: str, order: str, layer: str) -> Layout:
    both = Join(0, (gates(0, "bias", order), gates(0, "recurrent_bias", order)))
    return Layout(
        (
            Tensor("W", gates(0, "kernel", order, "transposed"), stack_directions=True),
            Tensor("R", gates(0, "recurrent_kernel", order, "transposed"), stack_directions=True),
            Tensor("B", both, stack_directions=True),
        ),
        options={"proj_size": (0,)},
        labels=_LABELS.get(cell, {}),
        layer=layer,
        notes={
            "W": "The leading axis of every tensor is the direction.",
            "B": "B holds the input bias, then the recurrent bias.",
        },
    )


def _name(spec: Any, layer: int, direction: int, name: str) -> str:
    return f"node{layer}/{name}" if spec.num_layers > 1 else name


PACKINGS = (
    Packing(
        "onnx",
        "ONNX",
        {
            "rnn": _row("rnn", "h", "RNN"),
            "lstm": _row("lstm", "iofg", "LSTM"),
            "gru": _row("gru", "zrn", "GRU(linear_before_reset=1)"),
            "gru/reset_before": _row("gru", "zrn", "GRU(linear_before_reset=0)"),
        },
        naming=_name,
        why_two_biases="the operators follow NVIDIA's cuDNN library, which has two",
    ),
)
