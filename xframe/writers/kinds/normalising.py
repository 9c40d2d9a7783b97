"""Normalisations: PyTorch and ONNX take statistics of the last axes, or of the second; other axes are moved there and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from xframe.graph.kinds.normalising import LEAST_DEVIATION
from xframe.writers._keras_recurrent import Made, layer_text
from xframe.writers._onnx_graph import Graph
from xframe.writers._safetensors import Entry
from xframe.writers._torch_recurrent import Lines
from xframe.writers.base import Part, Plan, Values, arrays, number

__all__ = ["KERAS", "NUMPY", "ONNX", "TORCH"]


def _axes(part: Part) -> tuple[int, ...]:
    """Over which statistics are taken, counted from the last."""
    return tuple(int(one) for one in part.node.options.get("axes", (-1,)))


def _axis(part: Part) -> int:
    return int(part.node.options.get("axis", -1))


def _ends(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The last axes, as many as these."""
    return tuple(range(-len(axes), 0))


def _read(part: Part, shapes: Mapping[str, tuple[int, ...]]) -> Callable[[str], Iterator[np.ndarray]]:
    def read(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, dtype)
        yield from (found[name].reshape(shape) for name, shape in shapes.items())

    return read


def _beside(part: Part, axes: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The shape of an array of these axes that stands beside a sample: 1 for the others, from the first of them on."""
    sizes = dict(zip(axes, part.shapes[name], strict=True))
    return tuple(sizes.get(one, 1) for one in range(axes[0], 0))


# ---- PyTorch.

# The names of a normalisation's arrays in PyTorch.
_NAMES = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}


def _entries(part: Part, names: Mapping[str, str]) -> list[Entry]:
    listed = [(f"{part.name}.{names[name]}", shape) for name, shape in part.shapes.items()]
    return Entry.group(listed, _read(part, part.shapes))


def _moved(part: Part, axes: tuple[int, ...], to: tuple[int, ...], inside: Callable[[str], str]) -> list[str]:
    """The step of a module, with axes moved there and back if they are elsewhere."""
    if axes == to:
        return [f"{part.y} = {inside(part.x)}"]
    there = f"{part.x}.movedim({axes}, {to})"
    return [f"{part.y} = {inside(there)}.movedim({to}, {axes})"]


def _torch_over_axes(kind: str) -> Callable[[Part, Plan], Lines]:
    def lines(part: Part, whole: Plan) -> Lines:
        axes, sizes = _axes(part), part.shapes["gamma"]
        size = sizes[0] if len(sizes) == 1 else sizes
        steps = _moved(part, axes, _ends(axes), lambda x: f"self.{part.name}({x})")
        return Lines(f"{kind}({size}, eps={number(part, 'epsilon')})", steps, _entries(part, _NAMES))

    return lines


def _torch_batch(part: Part, whole: Plan) -> Lines:
    layer = f"nn.BatchNorm1d({part.shapes['gamma'][0]}, eps={number(part, 'epsilon')})"
    if len(part.reads[0]) == 1:
        return Lines(layer, [f"{part.y} = self.{part.name}({part.x})"], _entries(part, _NAMES))
    # PyTorch normalises the second axis of two or three.
    at, steps, x = _axis(part), list[str](), part.x
    if at != -1:
        steps, x = [f"{part.y} = {x}.movedim({at}, -1)"], part.y
    steps.append(f"{part.y} = self.{part.name}({x}.flatten(0, -2)).unflatten(0, {x}.shape[:-1])")
    return Lines(
        layer, [*steps, *([f"{part.y} = {part.y}.movedim(-1, {at})"] if at != -1 else [])], _entries(part, _NAMES)
    )


def _torch_group(part: Part, whole: Plan) -> Lines:
    given = f"{int(part.node.options['groups'])}, {part.shapes['gamma'][0]}, eps={number(part, 'epsilon')}"
    second = -len(part.reads[0])
    steps = _moved(part, (_axis(part),), (second,), lambda x: f"self.{part.name}({x})")
    return Lines(f"GroupNorm({given})", steps, _entries(part, _NAMES))


def _torch_standardize(part: Part, whole: Plan) -> Lines:
    inverted = ", inverted=True" if part.node.options["inverted"] else ""
    layer = f"Standardization({part.shapes['mean']}{inverted})"
    return Lines(
        layer, [f"{part.y} = self.{part.name}({part.x})"], _entries(part, {name: name for name in part.shapes})
    )


def _torch_parametric_relu(part: Part, whole: Plan) -> Lines:
    layer = f"ParametricRelu({part.shapes['alpha']})"
    return Lines(layer, [f"{part.y} = self.{part.name}({part.x})"], _entries(part, {"alpha": "weight"}))


# ---- Keras.


def _keras(part: Part, whole: Plan, kind: str, names: Mapping[str, str], *given: str) -> Made:
    """A layer; ``names`` are Keras's by the kind's."""

    def fill(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        found = arrays(part, dtype)
        for ours, theirs in names.items():
            variable = getattr(built[0], theirs)
            yield variable, found[ours].reshape(variable.shape)

    return Made([layer_text(whole, part.name, kind, *given)], fill)


def _keras_axis(part: Part) -> list[str]:
    """The axes as an argument, if they are not the last alone."""
    axes = _axes(part) if "axes" in part.node.options else (_axis(part),)
    return [] if axes == (-1,) else [f"axis={axes[0] if len(axes) == 1 else [*axes]}"]


def _keras_epsilon(part: Part) -> str:
    return f"epsilon={number(part, 'epsilon')}"


_SCALE = {"gamma": "gamma", "beta": "beta"}


def _keras_layer(part: Part, whole: Plan) -> Made:
    return _keras(part, whole, "LayerNormalization", _SCALE, *_keras_axis(part), _keras_epsilon(part))


def _keras_batch(part: Part, whole: Plan) -> Made:
    names = {**_SCALE, "mean": "moving_mean", "variance": "moving_variance"}
    return _keras(part, whole, "BatchNormalization", names, *_keras_axis(part), _keras_epsilon(part))


def _keras_group(part: Part, whole: Plan) -> Made:
    groups = str(int(part.node.options["groups"]))
    return _keras(part, whole, "GroupNormalization", _SCALE, groups, *_keras_axis(part), _keras_epsilon(part))


def _keras_root_mean_square(part: Part, whole: Plan) -> Made:
    return _keras(part, whole, "RMSNormalization", {"gamma": "scale"}, *_keras_axis(part), _keras_epsilon(part))


def _own_axes(part: Part, name: str) -> list[int]:
    """The axes of a sample, the batch being 0, each place of which has a number of its own."""
    pairs = zip(part.shapes[name], part.reads[0], strict=True)
    return [i for i, (own, size) in enumerate(pairs, 1) if own == size]


def _keras_standardize(part: Part, whole: Plan) -> Made:
    kept = _own_axes(part, "mean")
    given = [f"axis={tuple(kept) or None}", *(["invert=True"] if part.node.options["inverted"] else [])]
    return _keras(part, whole, "Normalization", {"mean": "adapt_mean", "variance": "adapt_variance"}, *given)


def _keras_parametric_relu(part: Part, whole: Plan) -> Made:
    own = _own_axes(part, "alpha")
    shared = [i for i in range(1, len(part.reads[0]) + 1) if i not in own]
    return _keras(part, whole, "PReLU", {"alpha": "alpha"}, *([f"shared_axes={shared}"] if shared else []))


# ---- ONNX.


def _perm(rank: int, axes: tuple[int, ...], to: tuple[int, ...]) -> list[int]:
    """The order of axes, of ``rank`` with the batch, in which these stand there."""
    rest = iter(i for i in range(rank) if i - rank not in axes)
    places = dict(zip(to, axes, strict=True))
    return [places[i - rank] + rank if i - rank in places else next(rest) for i in range(rank)]


def _there_and_back(
    graph: Graph, part: Part, x: str, axes: tuple[int, ...], to: tuple[int, ...], inside: Callable[[str], str]
) -> str:
    """What a node makes of a value, with axes moved there and back if they are elsewhere."""
    if axes == to:
        return inside(x)
    perm = _perm(len(part.reads[0]) + 1, axes, to)
    y = inside(graph.node("Transpose", x, perm=perm))
    return str(graph.node("Transpose", y, perm=[perm.index(i) for i in range(len(perm))]))


def _weights(graph: Graph, part: Part, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    return graph.weights(list(shapes.items()), _read(part, shapes))


def _onnx_layer(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    (x, mask), axes, epsilon = read[0], _axes(part), float(number(part, "epsilon"))
    weights = _weights(graph, part, part.shapes)

    def inside(given: str) -> str:
        return str(graph.node("LayerNormalization", given, *weights, axis=-len(axes), epsilon=epsilon))

    return [(_there_and_back(graph, part, x, axes, _ends(axes), inside), mask)]


def _onnx_batch(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    (x, mask), epsilon, shape = read[0], float(number(part, "epsilon")), _beside(part, (_axis(part),), "gamma")

    def folded(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, "float64")
        scale = found["gamma"] / np.sqrt(found["variance"] + epsilon)
        yield from (scale.reshape(shape), (found["beta"] - found["mean"] * scale).reshape(shape))

    scale, shift = graph.weights([("scale", shape), ("shift", shape)], folded)
    return [(graph.node("Add", graph.node("Mul", x, scale), shift), mask)]


def _onnx_group(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    (x, mask), epsilon = read[0], graph.constant(float(number(part, "epsilon")), "float32")
    second = -len(part.reads[0])
    shape = (part.shapes["gamma"][0], *[1] * (len(part.reads[0]) - 1))
    gamma, beta = _weights(graph, part, dict.fromkeys(part.shapes, shape))

    def inside(given: str) -> str:
        grouped = graph.node("Reshape", given, graph.constant([0, int(part.node.options["groups"]), -1]))
        less = graph.node("Sub", grouped, graph.node("ReduceMean", grouped, axes=[2]))
        variance = graph.node("ReduceMean", graph.node("Mul", less, less), axes=[2])
        y = graph.node("Div", less, graph.node("Sqrt", graph.node("Add", variance, epsilon)))
        y = graph.node("Reshape", y, graph.node("Shape", given))
        return str(graph.node("Add", graph.node("Mul", y, gamma), beta))

    return [(_there_and_back(graph, part, x, (_axis(part),), (second,), inside), mask)]


def _onnx_root_mean_square(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    x, axes = read[0][0], _axes(part)
    (gamma,) = _weights(graph, part, {"gamma": _beside(part, axes, "gamma")})
    mean = graph.node("ReduceMean", graph.node("Mul", x, x), axes=[*axes])
    root = graph.node("Sqrt", graph.node("Add", mean, graph.constant(float(number(part, "epsilon")), "float32")))
    return [(graph.node("Mul", graph.node("Div", x, root), gamma), "")]


def _onnx_standardize(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    x, mask = read[0]
    mean, variance = _weights(graph, part, part.shapes)
    deviation = graph.node("Max", graph.node("Sqrt", variance), graph.constant(LEAST_DEVIATION, "float32"))
    if part.node.options["inverted"]:
        return [(graph.node("Add", graph.node("Mul", x, deviation), mean), mask)]
    return [(graph.node("Div", graph.node("Sub", x, mean), deviation), mask)]


def _onnx_parametric_relu(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    return [(graph.node("PRelu", read[0][0], *_weights(graph, part, part.shapes)), read[0][1])]


# ---- NumPy.


def _named(part: Part) -> list[str]:
    return [f'weights["{part.name}/{name}"]' for name in part.shapes]


def _line(part: Part, function: str, *options: str) -> list[str]:
    return [f"{part.y} = {function}(", *(f"    {one}," for one in [part.x, *_named(part), *options]), ")"]


def _numpy_layer(part: Part, whole: Plan) -> list[str]:
    axes = [f"axes={_axes(part)}"] if "axes" in part.node.options else []
    return _line(part, "layer_norm", number(part, "epsilon"), *axes)


def _numpy_batch(part: Part, whole: Plan) -> list[str]:
    axis = [f"axes=({_axis(part)},)"] if "axis" in part.node.options else []
    return _line(part, "batch_norm", number(part, "epsilon"), *axis)


def _numpy_group(part: Part, whole: Plan) -> list[str]:
    axis = [f"axis={_axis(part)}"] if _axis(part) != -1 else []
    return _line(part, "group_norm", number(part, "epsilon"), str(int(part.node.options["groups"])), *axis)


def _numpy_root_mean_square(part: Part, whole: Plan) -> list[str]:
    return _line(part, "rms_norm", number(part, "epsilon"), *([f"axes={_axes(part)}"] if _axes(part) != (-1,) else []))


def _numpy_standardize(part: Part, whole: Plan) -> list[str]:
    return _line(part, "standardize", *(["inverted=True"] if part.node.options["inverted"] else []))


def _numpy_parametric_relu(part: Part, whole: Plan) -> list[str]:
    return [f"{part.y} = np.where({part.x} > 0, {part.x}, {_named(part)[0]} * {part.x})"]


TORCH = {
    "layer_norm": _torch_over_axes("nn.LayerNorm"),
    "rms_norm": _torch_over_axes("RMSNorm"),
    "batch_norm": _torch_batch,
    "group_norm": _torch_group,
    "standardize": _torch_standardize,
    "parametric_relu": _torch_parametric_relu,
}
KERAS = {
    "layer_norm": _keras_layer,
    "rms_norm": _keras_root_mean_square,
    "batch_norm": _keras_batch,
    "group_norm": _keras_group,
    "standardize": _keras_standardize,
    "parametric_relu": _keras_parametric_relu,
}
ONNX = {
    "layer_norm": _onnx_layer,
    "rms_norm": _onnx_root_mean_square,
    "batch_norm": _onnx_batch,
    "group_norm": _onnx_group,
    "standardize": _onnx_standardize,
    "parametric_relu": _onnx_parametric_relu,
}
NUMPY = {
    "layer_norm": _numpy_layer,
    "rms_norm": _numpy_root_mean_square,
    "batch_norm": _numpy_batch,
    "group_norm": _numpy_group,
    "standardize": _numpy_standardize,
    "parametric_relu": _numpy_parametric_relu,
}
