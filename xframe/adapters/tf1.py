"""TensorFlow 1: BasicRNNCell, LSTMCell and GRUCell of tf.nn.rnn_cell. Counted, not run.

Source: tensorflow/python/ops/rnn_cell_impl.py of TensorFlow 1.15.
"""

from __future__ import annotations

from typing import Any

from xframe.layout import Join, Layout, Leaf, Packing, Tensor, gates


def _kernel(order: str) -> Join:
    """The input kernel above the recurrent kernel: (features + hidden, gates * hidden)."""
    return Join(0, (gates(1, "kernel", order), gates(1, "recurrent_kernel", order)))


_ONE_KERNEL = "The kernel holds the input kernel above the recurrent kernel, so its first axis is features + state."
_PLAIN: dict[str, tuple[Any, ...]] = {"bias": (True,), "proj_size": (0,)}

PACKINGS = (
    Packing(
        "tf1",
        "TensorFlow 1",
        {
            "rnn": Layout(
                (Tensor("kernel", _kernel("h")), Tensor("bias", gates(0, "bias", "h"))),
                options=_PLAIN,
                layer="tf.nn.rnn_cell.BasicRNNCell",
                notes={"kernel": _ONE_KERNEL},
            ),
            "lstm": Layout(
                (
                    Tensor("kernel", _kernel("igfo")),
                    Tensor("bias", gates(0, "bias", "igfo")),
                    Tensor("projection/kernel", Leaf("projection")),
                ),
                options={"bias": (True,)},
                labels={"g": "j"},
                layer="tf.nn.rnn_cell.LSTMCell",
                notes={
                    "kernel": _ONE_KERNEL,
                    "bias": "forget_bias (1 by default) is added to the forget gate at run time and is in no tensor.",
                },
            ),
            "gru/reset_before": Layout(
                (
                    Tensor("gates/kernel", _kernel("rz")),
                    Tensor("gates/bias", gates(0, "bias", "rz")),
                    Tensor("candidate/kernel", _kernel("n")),
                    Tensor("candidate/bias", gates(0, "bias", "n")),
                ),
                options=_PLAIN,
                labels={"z": "u", "n": "c"},
                layer="tf.nn.rnn_cell.GRUCell",
                notes={"gates/kernel": _ONE_KERNEL},
            ),
        },
    ),
)
