"""Products along any axes, which all targets have by the same equation, and what is split along an axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xframe.graph.kinds.einsum import parts
from xframe.writers._keras_recurrent import Made, layer_text
from xframe.writers._onnx_graph import Graph
from xframe.writers._safetensors import Entry
from xframe.writers._torch_recurrent import Lines
from xframe.writers.base import Part, Plan, Values, arrays

__all__ = ["KERAS", "NUMPY", "ONNX", "TORCH"]

_LARGEST = 2**63 - 1


def _equation(part: Part) -> str:
    """As source code; `xframe.graph.kinds.einsum` has checked that it is letters and signs."""
    return f'"{part.node.options["equation"]}"'


def _read(part: Part, dtype: str) -> Iterator[np.ndarray]:
    found = arrays(part, dtype)
    yield from (found[name] for name in part.shapes)


def _split(part: Part, function: str, name: str) -> str:
    places = [int(one) for one in part.node.options["at"]]
    return f"{function}({part.x}, {places}, {name}={int(part.node.options['axis'])})"


def _made(part: Part) -> str:
    return ", ".join(part.made) + ("," if len(part.made) == 1 else "")


# ---- PyTorch.


def _torch_einsum(part: Part, whole: Plan) -> Lines:
    return Lines("", [f"{part.y} = torch.einsum({_equation(part)}, {', '.join(part.given)})"])


def _torch_dense(part: Part, whole: Plan) -> Lines:
    given = [_equation(part), *(str(shape) for shape in part.shapes.values())]
    names = {"kernel": "weight", "bias": "bias"}
    entries = Entry.group(
        [(f"{part.name}.{names[name]}", shape) for name, shape in part.shapes.items()], lambda dtype: _read(part, dtype)
    )
    return Lines(f"EinsumDense({', '.join(given)})", [f"{part.y} = self.{part.name}({part.x})"], entries)


def _torch_split(part: Part, whole: Plan) -> Lines:
    return Lines("", [f"{_made(part)} = {_split(part, 'torch.tensor_split', 'dim')}"])


# ---- Keras.


def _keras_einsum(part: Part, whole: Plan) -> Made:
    return Made([], expression=f"keras.ops.einsum({_equation(part)}, {', '.join(part.given)})")


def _keras_dense(part: Part, whole: Plan) -> Made:
    (a, b, result), shapes = parts(part.node.options["equation"]), part.shapes
    sizes = dict(zip(a[1:] + b, (*part.reads[0], *shapes["kernel"]), strict=True))
    bias = shapes.get("bias", ())
    # The first of the axes of a bias is one that has its own, and so is each that is no longer than 1.
    axes = [letter for letter, n in zip(result[len(result) - len(bias) :], bias, strict=True) if n == sizes[letter]]
    given = [_equation(part), str(tuple(sizes[letter] for letter in result[1:]))]
    given += [f'bias_axes="{"".join(axes)}"'] if axes else []

    def fill(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        found = arrays(part, dtype)
        for name, array in found.items():
            yield getattr(built[0], name), array

    return Made([layer_text(whole, part.name, "EinsumDense", *given)], fill)


def _keras_split(part: Part, whole: Plan) -> Made:
    return Made([], expression=_split(part, "keras.ops.split", "axis"))


# ---- ONNX.


def _onnx_einsum(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    return [(graph.node("Einsum", *(x for x, _ in read), equation=part.node.options["equation"]), "")]


def _onnx_dense(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    kernel, *bias = graph.weights(list(part.shapes.items()), lambda dtype: _read(part, dtype))
    y = graph.node("Einsum", read[0][0], kernel, equation=part.node.options["equation"])
    return [(graph.node("Add", y, *bias) if bias else y, "")]


def _onnx_split(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    places, axis = [int(one) for one in part.node.options["at"]], [int(part.node.options["axis"])]
    pairs = zip([0, *places], [*places, _LARGEST], strict=True)
    return [(graph.node("Slice", read[0][0], *map(graph.constant, ([a], [b], axis))), "") for a, b in pairs]


# ---- NumPy.


def _numpy_einsum(part: Part, whole: Plan) -> list[str]:
    return [f"{part.y} = np.einsum({_equation(part)}, {', '.join(part.given)}, optimize=True)"]


def _numpy_dense(part: Part, whole: Plan) -> list[str]:
    kernel, *bias = (f'weights["{part.name}/{name}"]' for name in part.shapes)
    more = f" + {bias[0]}" if bias else ""
    return [f"{part.y} = np.einsum({_equation(part)}, {part.x}, {kernel}, optimize=True){more}"]


def _numpy_split(part: Part, whole: Plan) -> list[str]:
    return [f"{_made(part)} = {_split(part, 'np.split', 'axis')}"]


TORCH = {"einsum": _torch_einsum, "einsum_dense": _torch_dense, "split": _torch_split}
KERAS = {"einsum": _keras_einsum, "einsum_dense": _keras_dense, "split": _keras_split}
ONNX = {"einsum": _onnx_einsum, "einsum_dense": _onnx_dense, "split": _onnx_split}
NUMPY = {"einsum": _numpy_einsum, "einsum_dense": _numpy_dense, "split": _numpy_split}
