"""Equinox: LSTMCell and GRUCell. Counted, not run.

Source: equinox/nn/_rnn.py, read and run at Equinox 0.13.8.
"""

from __future__ import annotations

from xframe.layout import Layout, Packing, Tensor, gates


def _row(order: str, layer: str, *extra: Tensor) -> Layout:
    return Layout(
        (
            Tensor("weight_ih", gates(0, "kernel", order, "transposed")),
            Tensor("weight_hh", gates(0, "recurrent_kernel", order, "transposed")),
            Tensor("bias", gates(0, "bias", order)),
            *extra,
        ),
        options={"proj_size": (0,)},
        layer=layer,
    )


PACKINGS = (
    Packing(
        "equinox",
        "Equinox",
        {
            "lstm": _row("ifgo", "equinox.nn.LSTMCell"),
            "gru": _row("rzn", "equinox.nn.GRUCell", Tensor("bias_n", gates(0, "recurrent_bias", "n"))),
        },
    ),
)
