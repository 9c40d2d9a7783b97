"""Packings that are found in files only: Keras 1's, ONNX's gate order without its tensors, ONNX with every activation.

Source: keras/layers/recurrent.py and keras/layers/core.py of Keras 1.2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from xframe.adapters import known_packings
from xframe.cells import get_cell
from xframe.files.base import ModelFile
from xframe.layout import ANY, Layout, Leaf, Node, Packing, Tensor, gates

__all__ = [
    "KERAS1",
    "KERAS1_GPU",
    "KERAS_APART",
    "THEANO",
    "by_gate",
    "canonical",
    "file_packings",
    "onnx_arrays",
    "onnx_nodes",
]

_OPTIONS = {"activation": ANY, "recurrent_activation": ANY, "merge_mode": ANY, "go_backwards": ANY, "proj_size": (0,)}
_ONLY_PLAIN = {"activation": ANY, "recurrent_activation": ANY, "go_backwards": ANY, "proj_size": (0,)}
_ALWAYS_BIAS = {**_OPTIONS, "bias": (True,)}


def _per_gate(order: str, letters: dict[str, str], layer: str) -> Layout:
    """W, U and b of one gate after the other, each with the gate's letter."""
    tensors = []
    for gate in order:
        letter = letters.get(gate, gate)
        tensors += [
            Tensor(f"W_{letter}", Leaf("kernel", gate)),
            Tensor(f"U_{letter}", Leaf("recurrent_kernel", gate)),
            Tensor(f"b_{letter}", Leaf("bias", gate)),
        ]
    return Layout(tuple(tensors), options=_ALWAYS_BIAS, labels=letters, layer=layer)


def _joined(order: str, labels: dict[str, str], layer: str) -> Layout:
    """All gates beside each other in one W, U and b."""
    return Layout(
        (
            Tensor("W", gates(1, "kernel", order)),
            Tensor("U", gates(1, "recurrent_kernel", order)),
            Tensor("b", gates(0, "bias", order)),
        ),
        options=_ALWAYS_BIAS,
        labels=labels,
        layer=layer,
    )


KERAS1 = Packing(
    "keras1",
    "Keras 1",
    {
        "rnn": _joined("h", {}, "keras.layers.SimpleRNN (Keras 1)"),
        "lstm": _per_gate("igfo", {"g": "c"}, "keras.layers.LSTM (Keras 1)"),
        "gru/reset_before": _per_gate("zrn", {"n": "h"}, "keras.layers.GRU (Keras 1)"),
        "dense": Layout((Tensor("W", Leaf("kernel")), Tensor("b", Leaf("bias"))), layer="keras.layers.Dense (Keras 1)"),
    },
)

# With consume_less="gpu", Keras 1 put the gates of a layer together.
KERAS1_GPU = Packing(
    "keras1-gpu",
    "Keras 1 (consume_less='gpu')",
    {
        "lstm": _joined("ifgo", {"g": "c"}, "keras.layers.LSTM (Keras 1)"),
        "gru/reset_before": _joined("zrn", {"n": "h"}, "keras.layers.GRU (Keras 1)"),
    },
)

# Source: lstm.py of the deep learning tutorials of the LISA lab: lstm_W, lstm_U and lstm_b.
THEANO = Packing(
    "theano",
    "Theano's LSTM tutorial",
    {
        "lstm": Layout(
            (
                Tensor("W", gates(1, "kernel", "ifog")),
                Tensor("U", gates(1, "recurrent_kernel", "ifog")),
                Tensor("b", gates(0, "bias", "ifog")),
            ),
            options=_ONLY_PLAIN,
            labels={"g": "c"},
            layer="LSTM",
        )
    },
)


@cache
def by_gate() -> list[Packing]:
    """A tensor for each gate, as programs without a framework have them: W for the input, U for the state, b; x W or W x."""
    found = []
    for form, name, title in (
        ("plain", "gates", "a tensor a gate, x W"),
        ("transposed", "gates-rows", "a tensor a gate, W x"),
    ):
        rows = {
            row: Layout(
                tuple(
                    Tensor(f"{letter}{labels.get(gate, gate)}", Leaf(role, gate, form if letter != "b" else "plain"))
                    for gate in order
                    for letter, role in (("W", "kernel"), ("U", "recurrent_kernel"), ("b", "bias"))
                ),
                options=_ONLY_PLAIN,
                labels=labels,
                layer=layer,
            )
            for row, order, labels, layer in (
                ("lstm", "ifgo", {"g": "c"}, "LSTM"),
                ("gru/reset_before", "zrn", {"n": "h"}, "GRU"),
                ("gru", "zrn", {"n": "h"}, "GRU"),
            )
        }
        found.append(Packing(name, title, rows))
    return found


# TensorFlow takes the two biases of a GRU apart when it folds the constants of a graph.
KERAS_APART = Packing(
    "keras-apart",
    "Keras, its biases apart",
    {
        "gru": Layout(
            (
                Tensor("kernel", gates(1, "kernel", "zrn")),
                Tensor("recurrent_kernel", gates(1, "recurrent_kernel", "zrn")),
                Tensor("bias", gates(0, "bias", "zrn")),
                Tensor("recurrent_bias", gates(0, "recurrent_bias", "zrn")),
            ),
            options=_ALWAYS_BIAS,
            labels={"n": "h"},
            layer="keras.layers.GRU",
        )
    },
)


@cache
def onnx_arrays() -> Packing:
    """Gates in ONNX's order, but in tensors like PyTorch's: what W, R and B become without their axis of directions."""
    rows = {}
    for name, row in onnx_nodes().rows.items():
        order = "".join(leaf.gate for leaf in leaves(row.tensors[0].tree))
        tensors = (
            Tensor("W[0]", gates(0, "kernel", order, "transposed")),
            Tensor("R[0]", gates(0, "recurrent_kernel", order, "transposed")),
            Tensor("Wb[0]", gates(0, "bias", order)),
            Tensor("Rb[0]", gates(0, "recurrent_bias", order)),
        )
        rows[name] = Layout(tensors, row.options, row.labels, row.layer)
    return Packing("onnx-arrays", "ONNX, without the axis of directions", rows)


@cache
def onnx_nodes() -> Packing:
    """ONNX's table of its recurrent operators: how they store numbers, whatever is computed with these.

    A file may have its weights under any mask, and its products are read by the table of the framework that they came from.
    """
    packing = known_packings()["onnx"]
    recurrent = {name: row for name, row in packing.rows.items() if name != "dense"}
    return replace(packing, rows={name: replace(r, options=_ONLY_PLAIN) for name, r in recurrent.items()})


@cache
def canonical() -> Packing:
    """Each block by itself, as xframe's own .npz files have it: no order of gates, and nothing folded."""
    rows = {}
    for name in ("rnn", "lstm", "gru", "gru/reset_before", "dense"):
        cell = get_cell(name.split("/")[0])
        blocks = [(role.name, gate) for role in cell.roles for gate in (cell.gates if role.gated else ("",))]
        tensors = tuple(Tensor("/".join(filter(None, block)), Leaf(*block)) for block in blocks)
        rows[name] = Layout(tensors, options=_CANONICAL if cell.recurrent else {})
    return Packing("canonical", "xframe", rows, naming=_canonical_name)


_CANONICAL = dict.fromkeys("activation recurrent_activation merge_mode go_backwards backward stacked form".split(), ANY)


def _canonical_name(spec: Any, layer: int, direction: int, name: str) -> str:
    if spec.cell == "dense":
        return name
    return f"layer {layer}/{'backward' if direction else 'forward'}/{name}"


def file_packings(file: ModelFile) -> list[Packing]:
    """The packings that a file may hold, the likeliest first."""
    known, format_ = known_packings(), file.format
    if format_ == "keras-hdf5":
        # Custom layers of Keras 2 have such names too, but no layers of its own.
        old = file.metadata.get("keras_version", "1.").startswith("1.")
        return [known["keras"], known["keras-cudnn"], *([KERAS1, KERAS1_GPU] if old else [])]
    if format_ in ("keras", "keras-weights"):
        return [known["keras"]]
    first = {"torch": "torch", "safetensors": "torch", "npz": "torch", "tensorflow": "keras", "onnx": "onnx"}[format_]
    more = {"onnx": [KERAS_APART], "npz": [THEANO, *by_gate()]}.get(format_, [])
    return [known[first], *(packing for name, packing in known.items() if name != first), onnx_arrays(), *more]


def leaves(node: Node) -> Iterator[Leaf]:
    """The blocks of a tree, in order."""
    if isinstance(node, Leaf):
        yield node
    else:
        for part in node.parts:
            yield from leaves(part)
