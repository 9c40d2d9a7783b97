"""Functions of arrays, as each target calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xframe.writers._keras_recurrent import Made, layer_text
from xframe.writers._onnx_graph import Graph
from xframe.writers._torch_recurrent import Lines
from xframe.writers.base import Part, Plan, Values, number

__all__ = ["KERAS", "NUMPY", "ONNX", "TORCH"]

_SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**"}
_LARGEST = 2**63 - 1


def _index(part: Part) -> str:
    """As it is written between brackets."""
    found = [":"]
    for one in part.node.options["index"]:
        if isinstance(one, list | tuple):
            start, stop, step = ("" if n is None else str(int(n)) for n in one)
            found.append(f"{start}:{stop}" + (f":{step}" if step else ""))
        else:
            found.append(str(int(one)))
    return ", ".join(found)


def _arithmetic(part: Part, largest: str) -> str:
    """The expression of an operation with a constant; ``largest`` is the prefix of maximum and minimum."""
    options, c = part.node.options, number(part, "constant")
    a, b = (c, part.x) if options["swapped"] else (part.x, c)
    if options["operation"] in _SIGNS:
        a, b = (f"({one})" if one.startswith("-") else one for one in (a, b))
        return f"{a} {_SIGNS[str(options['operation'])]} {b}"
    return f"{largest}{options['operation']}({a}, {b})"


def _binary(part: Part, largest: str) -> str:
    """The expression of an operation with two values."""
    operation = str(part.node.options["operation"])
    if operation in _SIGNS:
        return f"{part.x} {_SIGNS[operation]} {part.given[1]}"
    return f"{largest}{operation}({part.x}, {part.given[1]})"


def _axis(part: Part) -> int:
    return int(part.node.options["axis"])


def _axes(part: Part) -> str:
    axes = tuple(int(one) for one in part.node.options["axes"])
    return str(axes[0]) if len(axes) == 1 else str(axes)


def _keep(part: Part, name: str) -> str:
    return f", {name}=True" if part.node.options["keepdims"] else ""


# ---- PyTorch and NumPy, which differ in few names.


def _torch_arithmetic(part: Part) -> str:
    operation = str(part.node.options["operation"])
    if operation in ("maximum", "minimum"):
        return f"{part.x}.clamp({'min' if operation == 'maximum' else 'max'}={number(part, 'constant')})"
    return _arithmetic(part, "")


def _torch_pads(part: Part) -> str:
    """As functional.pad has them: the last axis first."""
    pads = zip(part.node.options["before"], part.node.options["behind"], strict=True)
    return str((0, 0, *(int(n) for pair in reversed(list(pads)) for n in pair)))


_REDUCED = {"mean": "mean", "sum": "sum", "max": "amax", "min": "amin"}
_TORCH: dict[str, Callable[[Part], str]] = {
    "slice": lambda part: f"{part.x}[{_index(part)}]",
    "arithmetic": _torch_arithmetic,
    "binary": lambda part: _binary(part, "torch."),
    "function": lambda part: f"torch.{part.node.options['name']}({part.x})",
    "reduction": lambda part: f"{part.x}.{_REDUCED[part.node.options['name']]}({_axes(part)}{_keep(part, 'keepdim')})",
    "expand_dims": lambda part: f"{part.x}.unsqueeze({_axis(part)})",
    "squeeze": lambda part: f"{part.x}.squeeze({_axis(part)})",
    "flip": lambda part: f"{part.x}.flip({_axis(part)})",
    "softmax": lambda part: f"functional.softmax({part.x}, dim={_axis(part)})",
    "pad": lambda part: f"functional.pad({part.x}, {_torch_pads(part)})",
    "upsample": lambda part: (
        part.x
        + "".join(
            f".repeat_interleave({int(n)}, dim={i})" for i, n in enumerate(part.node.options["times"], 1) if n != 1
        )
    ),
    "stack": lambda part: f"torch.stack([{', '.join(part.given)}], dim={_axis(part)})",
    "matmul": lambda part: (
        f"{part.x} @ {part.given[1]}" + (".transpose(-2, -1)" if part.node.options["transposed"] else "")
    ),
    "unit_norm": lambda part: f"functional.normalize({part.x}, dim=-1, eps={number(part, 'least')})",
}


def _numpy_pads(part: Part) -> str:
    pads = zip(part.node.options["before"], part.node.options["behind"], strict=True)
    return str(((0, 0), *((int(a), int(b)) for a, b in pads), (0, 0)))


def _numpy_upsample(part: Part) -> str:
    found = part.x
    for i, n in enumerate(part.node.options["times"], 1):
        found = f"np.repeat({found}, {int(n)}, axis={i})" if n != 1 else found
    return found


_NUMPY: dict[str, Callable[[Part], str]] = {
    "slice": lambda part: f"{part.x}[{_index(part)}]",
    "arithmetic": lambda part: _arithmetic(part, "np."),
    "binary": lambda part: _binary(part, "np."),
    "function": lambda part: f"np.{part.node.options['name']}({part.x})",
    "reduction": lambda part: f"{part.x}.{part.node.options['name']}({_axes(part)}{_keep(part, 'keepdims')})",
    "expand_dims": lambda part: f"np.expand_dims({part.x}, {_axis(part)})",
    "squeeze": lambda part: f"np.squeeze({part.x}, {_axis(part)})",
    "flip": lambda part: f"np.flip({part.x}, {_axis(part)})",
    "softmax": lambda part: f"np.moveaxis(softmax(np.moveaxis({part.x}, {_axis(part)}, -1)), -1, {_axis(part)})",
    "pad": lambda part: f"np.pad({part.x}, {_numpy_pads(part)})",
    "upsample": _numpy_upsample,
    "stack": lambda part: f"np.stack([{', '.join(part.given)}], axis={_axis(part)})",
    "matmul": lambda part: (
        f"{part.x} @ {part.given[1]}" + (".swapaxes(-2, -1)" if part.node.options["transposed"] else "")
    ),
    "unit_norm": lambda part: (
        f"{part.x} / np.maximum(np.sqrt(np.square({part.x}).sum(-1, keepdims=True)), {number(part, 'least')})"
    ),
}


def _written(expression: Callable[[Part], str]) -> Callable[[Part, Plan], Lines]:
    return lambda part, whole: Lines("", [f"{part.y} = {expression(part)}"])


def _line(expression: Callable[[Part], str]) -> Callable[[Part, Plan], list[str]]:
    return lambda part, whole: [f"{part.y} = {expression(part)}"]


# ---- Keras.

_KERAS_FUNCTIONS = {"abs": "absolute"}


_KERAS: dict[str, Callable[[Part], str]] = {
    "slice": lambda part: f"{part.x}[{_index(part)}]",
    "binary": lambda part: _binary(part, "keras.ops."),
    "function": lambda part: (
        f"keras.ops.{_KERAS_FUNCTIONS.get(part.node.options['name'], part.node.options['name'])}({part.x})"
    ),
    "reduction": lambda part: (
        f"keras.ops.{part.node.options['name']}({part.x}, axis={_axes(part)}{_keep(part, 'keepdims')})"
    ),
    "expand_dims": lambda part: f"keras.ops.expand_dims({part.x}, axis={_axis(part)})",
    "squeeze": lambda part: f"keras.ops.squeeze({part.x}, axis={_axis(part)})",
    "flip": lambda part: f"keras.ops.flip({part.x}, axis={_axis(part)})",
    "softmax": lambda part: f"keras.ops.softmax({part.x}, axis={_axis(part)})",
    "stack": lambda part: f"keras.ops.stack([{', '.join(part.given)}], axis={_axis(part)})",
    "matmul": lambda part: (
        f"keras.ops.matmul({part.x}, keras.ops.swapaxes({part.given[1]}, -2, -1))"
        if part.node.options["transposed"]
        else f"keras.ops.matmul({part.x}, {part.given[1]})"
    ),
}


def _expressed(expression: Callable[[Part], str]) -> Callable[[Part, Plan], Made]:
    return lambda part, whole: Made([], expression=expression(part))


def _keras_arithmetic(part: Part, whole: Plan) -> Made:
    if not part.node.options.get("masked"):
        return Made([], expression=_arithmetic(part, "keras.ops."))
    # Unlike an operation, a layer hands the mask on.
    constant = number(part, "constant")
    given = [constant] if part.node.options["operation"] == "multiply" else ["1.0", f"offset={constant}"]
    return Made([layer_text(whole, part.name, "Rescaling", *given)])


def _keras_pad(part: Part, whole: Plan) -> Made:
    pads = list(zip(part.node.options["before"], part.node.options["behind"], strict=True))
    given = str(tuple(map(int, pads[0])) if len(pads) == 1 else tuple((int(a), int(b)) for a, b in pads))
    return Made([layer_text(whole, part.name, f"ZeroPadding{len(pads)}D", given)])


def _keras_upsample(part: Part, whole: Plan) -> Made:
    times = tuple(int(n) for n in part.node.options["times"])
    given = str(times[0]) if len(times) == 1 else str(times)
    return Made([layer_text(whole, part.name, f"UpSampling{len(times)}D", given)])


def _keras_unit(part: Part, whole: Plan) -> Made:
    if part.node.options["least"] == 1e-12:
        return Made([layer_text(whole, part.name, "UnitNormalization")])
    return Made([], expression=f"keras.ops.normalize({part.x}, axis=-1, order=2, epsilon={number(part, 'least')})")


# ---- ONNX.

_OPERATORS = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "power": "Pow",
    "maximum": "Max",
    "minimum": "Min",
}
_FUNCTIONS = {"exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs", "negative": "Neg", "sin": "Sin", "cos": "Cos"}
_FUNCTIONS |= {"sign": "Sign", "reciprocal": "Reciprocal"}


def _onnx_slice(graph: Graph, part: Part, read: list[Values]) -> str:
    x, single = read[0][0], list[int]()
    starts, ends, axes, steps = list[int](), list[int](), list[int](), list[int]()
    for at, one in enumerate(part.node.options["index"], 1):
        if isinstance(one, list | tuple):
            start, stop, step = one
            if (start, stop, step or 1) == (None, None, 1):
                continue
            starts.append(int(start or 0))
            ends.append(_LARGEST if stop is None else int(stop))
            axes.append(at)
            steps.append(int(step or 1))
        else:
            single.append(at)
            starts.append(int(one))
            ends.append(_LARGEST if one == -1 else int(one) + 1)
            axes.append(at)
            steps.append(1)
    if axes:
        x = graph.node("Slice", x, *(graph.constant(each) for each in (starts, ends, axes, steps)))
    return str(graph.node("Squeeze", x, graph.constant(single)) if single else x)


def _onnx_arithmetic(graph: Graph, part: Part, read: list[Values]) -> str:
    c = graph.constant(float(number(part, "constant")), "float32")
    given = (c, read[0][0]) if part.node.options["swapped"] else (read[0][0], c)
    return str(graph.node(_OPERATORS[part.node.options["operation"]], *given))


def _onnx_function(graph: Graph, part: Part, read: list[Values]) -> str:
    x = read[0][0]
    if part.node.options["name"] == "square":
        return str(graph.node("Mul", x, x))
    return str(graph.node(_FUNCTIONS[part.node.options["name"]], x))


def _onnx_reduction(graph: Graph, part: Part, read: list[Values]) -> str:
    name, keep = str(part.node.options["name"]).capitalize(), int(bool(part.node.options["keepdims"]))
    axes = [int(one) for one in part.node.options["axes"]]
    if name == "Sum":  # the only one that takes them as an input in this opset
        return str(graph.node("ReduceSum", read[0][0], graph.constant(axes), keepdims=keep))
    return str(graph.node(f"Reduce{name}", read[0][0], axes=axes, keepdims=keep))


def _onnx_flip(graph: Graph, part: Part, read: list[Values]) -> str:
    ends = ([-1], [-_LARGEST], [_axis(part)], [-1])
    return str(graph.node("Slice", read[0][0], *map(graph.constant, ends)))


def _onnx_pad(graph: Graph, part: Part, read: list[Values]) -> str:
    before, behind = ([int(n) for n in part.node.options[name]] for name in ("before", "behind"))
    return str(graph.node("Pad", read[0][0], graph.constant([0, *before, 0, 0, *behind, 0])))


def _onnx_upsample(graph: Graph, part: Part, read: list[Values]) -> str:
    x = read[0][0]
    rank = len(part.reads[0]) + 1
    for at, times in enumerate(part.node.options["times"], 1):
        if times != 1:
            # A further axis behind it is repeated, and then becomes one with it.
            x = graph.node("Unsqueeze", x, graph.constant([at + 1]))
            x = graph.node("Expand", x, graph.constant([int(times) if i == at + 1 else 1 for i in range(rank + 1)]))
            shape = graph.node("Shape", read[0][0])
            kept = [graph.node("Gather", graph.node("Shape", x), graph.constant([i])) for i in range(at)]
            rest = [graph.node("Gather", shape, graph.constant([i])) for i in range(at + 1, rank)]
            x = graph.node("Reshape", x, graph.node("Concat", *kept, graph.constant([-1]), *rest, axis=0))
    return str(x)


def _onnx_matmul(graph: Graph, part: Part, read: list[Values]) -> str:
    other, rank = read[1][0], len(part.reads[1]) + 1
    if part.node.options["transposed"]:
        other = graph.node("Transpose", other, perm=[*range(rank - 2), rank - 1, rank - 2])
    return str(graph.node("MatMul", read[0][0], other))


def _onnx_stack(graph: Graph, part: Part, read: list[Values]) -> str:
    each = [graph.node("Unsqueeze", x, graph.constant([_axis(part)])) for x, _ in read]
    return str(graph.node("Concat", *each, axis=_axis(part)))


def _onnx_unit(graph: Graph, part: Part, read: list[Values]) -> str:
    x = read[0][0]
    total = graph.node("ReduceSum", graph.node("Mul", x, x), graph.constant([-1]), keepdims=1)
    least = graph.constant(float(number(part, "least")), "float32")
    return str(graph.node("Div", x, graph.node("Max", graph.node("Sqrt", total), least)))


_KEEPS = ("unit_norm",)
_ONNX: dict[str, Callable[[Graph, Part, list[Values]], str]] = {
    "slice": _onnx_slice,
    "arithmetic": _onnx_arithmetic,
    "binary": lambda graph, part, read: graph.node(_OPERATORS[part.node.options["operation"]], read[0][0], read[1][0]),
    "function": _onnx_function,
    "reduction": _onnx_reduction,
    "expand_dims": lambda graph, part, read: graph.node("Unsqueeze", read[0][0], graph.constant([_axis(part)])),
    "squeeze": lambda graph, part, read: graph.node("Squeeze", read[0][0], graph.constant([_axis(part)])),
    "flip": _onnx_flip,
    "softmax": lambda graph, part, read: graph.node("Softmax", read[0][0], axis=_axis(part)),
    "pad": _onnx_pad,
    "upsample": _onnx_upsample,
    "stack": _onnx_stack,
    "matmul": _onnx_matmul,
    "unit_norm": _onnx_unit,
}


def _nodes(kind: str, make: Callable[[Graph, Part, list[Values]], str]) -> Callable[[Graph, Part, list[Values]], Any]:
    def nodes(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
        keeps = kind in _KEEPS or part.node.options.get("masked")
        return [(make(graph, part, read), read[0][1] if keeps else "")]

    return nodes


TORCH = {kind: _written(expression) for kind, expression in _TORCH.items()}
NUMPY = {kind: _line(expression) for kind, expression in _NUMPY.items()}
KERAS = {kind: _expressed(expression) for kind, expression in _KERAS.items()}
KERAS |= {"arithmetic": _keras_arithmetic, "pad": _keras_pad, "upsample": _keras_upsample, "unit_norm": _keras_unit}
ONNX = {kind: _nodes(kind, make) for kind, make in _ONNX.items()}
