"""The recurrent layer whose products are convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from xframe.activations import ACTIVATIONS
from xframe.graph.arithmetic import Operations
from xframe.graph.kinds.allowed import counts, flag, one_of
from xframe.graph.kinds.base import Kind, Masked, Params, Shape, expect, known, own_shapes, refuse
from xframe.graph.kinds.convolution import places, windows
from xframe.graph.kinds.products import activated, linear
from xframe.graph.node import Node

__all__ = ["ConvLSTM"]


class ConvLSTM(Kind):
    """An LSTM over (batch, time, *axes, d) with convolutions, ``*``, in the place of products, its states (batch, *places, n).

    ``i, f, o = gate(x * W + h * U + b)`` and ``g = activation(x * W + h * U + b)``, each with its part of the arrays, then
    ``c' = f c + i g`` and ``h' = o activation(c')``. What is convolved with U is padded so that the places stay as they are.

    It reads a sequence, and behind it, if they are given, the initial states h and c, which else are zeros. It writes its output,
    and behind it, if it hands them on, the final states h and c.

    Source: keras.layers.ConvLSTM1D, 2D and 3D, after arXiv:1506.04214, without its peepholes.
    """

    options: ClassVar[Mapping[str, str]] = {
        "sequence": "whether it hands on what it has at every time step, else its last output only",
        "go_backwards": "whether it reads from the last time step to the first; its outputs are in that order",
        "activation": "of the candidate and the cell state",
        "recurrent_activation": "of the gates",
        "stride": "of the convolution of the input in each axis",
        "padding": "of that convolution, 'valid' or 'same'",
        "dilation": "of that convolution in each axis",
    }
    params: ClassVar[Mapping[str, str]] = {
        "kernel": "(*size, d, 4 n): of the input, for the gates i f g o beside each other",
        "recurrent_kernel": "(*size, n, 4 n)",
        "bias": "(4 n,), zeros where the source has none",
    }
    allowed: ClassVar[Mapping[str, Any]] = {
        "sequence": flag,
        "go_backwards": flag,
        **dict.fromkeys(("activation", "recurrent_activation"), one_of(*ACTIVATIONS)),
        "stride": counts,
        "padding": one_of("valid", "same"),
        "dilation": counts,
    }

    def from_torch(self, options: Mapping[str, Any], name: str, array: np.ndarray) -> np.ndarray:
        return array if name == "bias" else np.moveaxis(array, (0, 1), (-1, -2))

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [False] * len(node.writes)

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        kernel, shape = own_shapes(node).get("kernel", ()), shapes[0]
        stride, dilation = (tuple(node.options[name]) for name in ("stride", "dilation"))
        size, n = kernel[:-2], kernel[-1] // 4 if kernel else 0
        if len(shape) != len(kernel) or len(shape) < 3 or not len(size) == len(stride) == len(dilation) or not n:
            raise refuse(node, f"has a kernel of the shape {kernel} and cannot read samples of the shape {shape}")
        wanted = {"kernel": (*size, known(node, shape), 4 * n), "recurrent_kernel": (*size, n, 4 * n), "bias": (4 * n,)}
        expect(node, wanted)
        found = [
            places(axis, *one, str(node.options["padding"]))
            for axis, one in zip(shape[1:-1], zip(size, stride, dilation, strict=True), strict=True)
        ]
        if any(one is None or one < 1 for one in found):
            raise refuse(node, f"cannot read samples of the shape {shape}, of which it needs to know all axes but time")
        state = (*found, n)
        if list(shapes[1:]) not in ([], [state, state]):
            raise refuse(node, f"has states of the shape {state}, not {list(shapes[1:])}")
        y = (shape[0], *state) if node.options["sequence"] else state
        return [y, state, state] if len(node.writes) > 1 else [y]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        self.output_shapes(node, [x.shape[1:] for x in given])
        x = given[0][:, ::-1] if node.options["go_backwards"] else given[0]
        activation, gate = str(node.options["activation"]), str(node.options["recurrent_activation"])
        batch, time, n = *x.shape[:2], params["recurrent_kernel"].shape[-2]
        # The inputs of all time steps at once.
        stride, dilation = (tuple(node.options[name]) for name in ("stride", "dilation"))
        folded = np.ascontiguousarray(x).reshape(batch * time, *x.shape[2:])
        padding = str(node.options["padding"])
        read = _convolved(folded, params["kernel"], params["bias"], stride, dilation, padding, ops.folded(time))
        read = read.reshape(batch, time, *read.shape[1:])
        once, no_bias = (1,) * len(stride), np.zeros(4 * n, x.dtype)
        h, c = given[1:] or [np.zeros((batch, *read.shape[2:-1], n), x.dtype) for _ in range(2)]
        out = []
        for t in range(time):
            fed = _convolved(h, params["recurrent_kernel"], no_bias, once, once, "same", ops)
            i, f, g, o = np.split(ops.rounded(read[:, t] + fed), 4, axis=-1)
            kept = ops.rounded(activated(gate, f, ops) * c)
            added = ops.rounded(activated(gate, i, ops) * activated(activation, g, ops))
            c = ops.rounded(kept + added)
            h = ops.rounded(activated(gate, o, ops) * activated(activation, c, ops))
            out.append(h)
        y = np.stack(out, axis=1) if node.options["sequence"] else h
        return [(y, None), (h, None), (c, None)][: len(node.writes)]


def _convolved(
    x: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: str,
    ops: Operations,
) -> np.ndarray:
    """A convolution of (batch, *axes, d): (batch, *places, n)."""
    read = windows(x, kernel.shape[:-2], stride, dilation, padding)
    at = read.shape[: kernel.ndim - 1]
    return linear(read.reshape(*at, kernel[..., 0].size), kernel.reshape(-1, kernel.shape[-1]), bias, ops)
