"""The convolutional LSTM: a module of its own in PyTorch and a function in NumPy, a layer in Keras; ONNX has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xframe.errors import UnsupportedError
from xframe.escaping import in_source
from xframe.writers import _keras_recurrent, _numpy_functions, _torch_recurrent
from xframe.writers._keras_recurrent import Made, layer_text
from xframe.writers._onnx_graph import Graph
from xframe.writers._safetensors import Entry
from xframe.writers._torch_recurrent import Lines
from xframe.writers.base import Part, Plan, Values, arrays

__all__ = ["KERAS", "NUMPY", "ONNX", "TORCH"]


def _ints(part: Part, option: str) -> tuple[int, ...]:
    return tuple(int(one) for one in part.node.options[option])


def _convolution(part: Part, stride: str, dilation: str) -> list[str]:
    """How the input is convolved, where that is not plain; stride and dilation as they are called."""
    once = (1,) * len(_ints(part, "stride"))
    given = [f'padding="{part.node.options["padding"]}"'] if part.node.options["padding"] != "valid" else []
    given += [f"{stride}={_ints(part, 'stride')}"] if _ints(part, "stride") != once else []
    return given + ([f"{dilation}={_ints(part, 'dilation')}"] if _ints(part, "dilation") != once else [])


def _returned(part: Part) -> str:
    """What is taken of the output at every time step, the last one, and the cell state."""
    own, sequence = part.made, bool(part.node.options["sequence"])
    if len(own) == 1:
        return f"{part.y}, _, _" if sequence else f"_, {part.y}, _"
    return ", ".join(own) if sequence else f"_, {own[1]}, {own[2]}"


def _ended(part: Part) -> list[str]:
    """The last output, which is the state h too."""
    both = len(part.made) > 1 and not part.node.options["sequence"]
    return [f"{part.y} = {part.made[1]}"] if both else []


# ---- PyTorch.

_NAMES = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias"}


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    """A kernel as PyTorch has it: filters, features, then the window."""
    return array if name == "bias" else np.ascontiguousarray(np.moveaxis(array, (-1, -2), (0, 1)))


def _torch(part: Part, whole: Plan) -> Lines:
    *size, features, gates = part.shapes["kernel"]
    functions = [_torch_recurrent.function(part.node.options[name]) for name in ("activation", "recurrent_activation")]
    given = [str(features), str(gates // 4), str(tuple(size)), *functions, *_convolution(part, "stride", "dilation")]
    given += ["go_backwards=True"] if part.node.options["go_backwards"] else []

    def read(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, dtype)
        yield from (_turned(name, found[name]) for name in part.shapes)

    flat = {name: _turned(name, np.broadcast_to(np.float32(0), shape)).shape for name, shape in part.shapes.items()}
    entries = Entry.group([(f"{part.name}.{_NAMES[name]}", shape) for name, shape in flat.items()], read)
    steps = [f"{_returned(part)} = self.{part.name}({', '.join(part.given)})", *_ended(part)]
    return Lines(f"ConvLSTM({', '.join(given)})", steps, entries)


# ---- Keras.


def _keras(part: Part, whole: Plan) -> Made:
    *size, _, gates = part.shapes["kernel"]
    options = part.node.options
    given = [str(gates // 4), str(tuple(size)), *_convolution(part, "strides", "dilation_rate")]
    for name, usual in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
        given += [f"{name}={_keras_recurrent.function(options[name])}"] if options[name] != usual else []
    given += [
        f"{name}=True"
        for name, wanted in (
            ("return_sequences", options["sequence"]),
            ("return_state", len(part.made) > 1),
            ("go_backwards", options["go_backwards"]),
        )
        if wanted
    ]

    def fill(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        for name, array in arrays(part, dtype).items():
            yield getattr(built[0].cell, name), array

    # Drawing an orthogonal matrix takes long, and the weights are loaded.
    layer = layer_text(whole, part.name, f"ConvLSTM{len(size)}D", *given, 'recurrent_initializer="zeros"')
    states = f", initial_state=[{', '.join(part.given[1:])}]" if len(part.given) > 1 else ""
    return Made([layer], fill, given=(states,), states=([*part.made[1:]],))


# ---- ONNX.


def _onnx(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    raise UnsupportedError(
        f"ONNX has no LSTM that convolves, which {in_source(part.node.name)} is, and xframe writes no Loop; convert it to torch."
    )


# ---- NumPy.


def _numpy(part: Part, whole: Plan) -> list[str]:
    own = [f'weights["{part.name}/{name}"]' for name in part.shapes]
    functions = [_numpy_functions.function(part.node.options[name]) for name in ("activation", "recurrent_activation")]
    given = [part.x, *own, *functions, *_convolution(part, "stride", "dilation")]
    given += ["go_backwards=True"] if part.node.options["go_backwards"] else []
    given += [f"states=({', '.join(part.given[1:])})"] if len(part.given) > 1 else []
    return [f"{_returned(part)} = conv_lstm(", *(f"    {one}," for one in given), ")", *_ended(part)]


TORCH = {"conv_lstm": _torch}
KERAS = {"conv_lstm": _keras}
ONNX = {"conv_lstm": _onnx}
NUMPY = {"conv_lstm": _numpy}
