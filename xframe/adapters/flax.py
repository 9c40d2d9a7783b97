"""Flax: the cells of nnx and of linen. Counted, not run.

Source: flax/nnx/nn/recurrent.py and flax/linen/recurrent.py, read and run at Flax 0.12.8.
"""

from __future__ import annotations

from typing import Any

from xframe.layout import Layout, Leaf, Packing, Tensor, gates

_ALWAYS_BIAS: dict[str, tuple[Any, ...]] = {"bias": (True,), "proj_size": (0,)}


def _dense_per_gate(order: str, layer: str, input_bias: str, recurrent_bias: str, names: dict[str, str]) -> Layout:
    """One Dense per gate and side, ``i`` + gate and ``h`` + gate; the gates listed have a bias on that side."""
    tensors = []
    for side, role, bias, with_bias in (
        ("i", "kernel", "bias", input_bias),
        ("h", "recurrent_kernel", "recurrent_bias", recurrent_bias),
    ):
        for gate in order:
            name = names.get(side + gate, side + gate)
            tensors.append(Tensor(f"{name}/kernel", Leaf(role, gate)))
            if gate in with_bias:
                tensors.append(Tensor(f"{name}/bias", Leaf(bias, gate)))
    return Layout(tuple(tensors), options=_ALWAYS_BIAS, layer=layer)


def _simple(inner: str, outer: str, layer: str) -> Layout:
    return Layout(
        (
            Tensor(f"{inner}/kernel", gates(1, "kernel", "h")),
            Tensor(f"{inner}/bias", gates(0, "bias", "h")),
            Tensor(f"{outer}/kernel", gates(1, "recurrent_kernel", "h")),
        ),
        options=_ALWAYS_BIAS,
        layer=layer,
    )


NNX = Packing(
    "flax",
    "Flax nnx",
    {
        "rnn": _simple("dense_i", "dense_h", "flax.nnx.SimpleCell"),
        # nnx calls the forget gate's input side if_, because `if` is a word of the language.
        "lstm": _dense_per_gate("ifgo", "flax.nnx.LSTMCell", "", "ifgo", {"if": "if_"}),
        "gru": Layout(
            (
                Tensor("dense_i/kernel", gates(1, "kernel", "rzn")),
                Tensor("dense_i/bias", gates(0, "bias", "rzn")),
                Tensor("dense_h/kernel", gates(1, "recurrent_kernel", "rzn")),
            ),
            options=_ALWAYS_BIAS,
            layer="flax.nnx.GRUCell",
            notes={
                "dense_i/bias": "It has no recurrent bias in the candidate, so a GRU in which that is not zero does not "
                "fit: it computes a smaller family of functions.",
            },
        ),
    },
)

LINEN = Packing(
    "flax-linen",
    "Flax linen",
    {
        "rnn": _simple("i", "h", "flax.linen.SimpleCell"),
        "lstm": _dense_per_gate("ifgo", "flax.linen.LSTMCell", "", "ifgo", {}),
        "gru": _dense_per_gate("rzn", "flax.linen.GRUCell", "rzn", "n", {}),
    },
)

PACKINGS = (NNX, LINEN)
