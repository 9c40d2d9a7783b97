"""Activation functions in ONNX: inside the recurrent operators, and as nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xframe.adapters._onnx_operators import INSIDE, told
from xframe.errors import UnsupportedError
from xframe.escaping import in_source
from xframe.writers._onnx_graph import Graph
from xframe.writers.base import Part, number

__all__ = ["activation_node", "recurrent_activations"]

# Functions that are one operator.
_OPERATORS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "relu": ("Relu", {}),
    "linear": ("Identity", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_sigmoid_keras2": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    "sparse_sigmoid": ("HardSigmoid", {"alpha": 0.5, "beta": 0.5}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}),
    "celu": ("Celu", {"alpha": 1.0}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "exponential": ("Exp", {}),
    "hard_silu": ("HardSwish", {}),
    "soft_shrink": ("Shrink", {"lambd": 0.5, "bias": 0.5}),
    "hard_shrink": ("Shrink", {"lambd": 0.5, "bias": 0.0}),
    "softmax": ("Softmax", {"axis": -1}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
}


def recurrent_activations(name: str, functions: list[str]) -> dict[str, Any]:
    """The attributes that tell a recurrent operator its functions, in its order.

    Raises:
        UnsupportedError: it cannot be told one of them.
    """
    if strange := [one for one in functions if one not in INSIDE]:
        raise UnsupportedError(
            f"ONNX's RNN, LSTM and GRU have no activation {strange[0]!r}, which {in_source(name)} has; they have "
            f"{', '.join(INSIDE)}."
        )
    return told(functions)


def activation_node(graph: Graph, part: Part, x: str) -> str:
    """The nodes of an activation step."""
    name, given = str(part.node.options["name"]), {k: v for k, v in part.node.options.items() if k != "name"}
    if given and name == "relu":
        return _relu(graph, part, x)
    if name in _OPERATORS:
        kind, attributes = _OPERATORS[name]
        changed = {**attributes, **{"alpha": float(number(part, option)) for option in list(given)[:1]}}  # noqa: B035
        return str(graph.node(kind, x, **changed))
    if name in _COMPOSED:
        return _COMPOSED[name](graph, x)
    raise UnsupportedError(f"ONNX has no activation {name!r}, which the step {in_source(part.node.name)} applies.")


def _relu(graph: Graph, part: Part, x: str) -> str:
    """Keras's, with a threshold, a slope below it, and a largest value."""
    threshold, slope = (_scalar(graph, float(number(part, one))) for one in ("threshold", "negative_slope"))
    below = graph.node("Mul", graph.node("Sub", x, threshold), slope)
    y = graph.node("Where", graph.node("GreaterOrEqual", x, threshold), x, below)
    if part.node.options["max_value"] is None:
        return str(y)
    largest = _scalar(graph, float(number(part, "max_value")))
    return str(graph.node("Where", graph.node("GreaterOrEqual", x, largest), largest, y))


def _scalar(graph: Graph, value: float) -> str:
    return graph.constant(value, "float32")


def _clip(low: float, high: float) -> Callable[[Graph, str], str]:
    return lambda graph, x: graph.node("Clip", x, _scalar(graph, low), _scalar(graph, high))


def _gelu(graph: Graph, x: str) -> str:
    erf = graph.node("Erf", graph.node("Mul", x, _scalar(graph, 2**-0.5)))
    half = graph.node("Mul", x, _scalar(graph, 0.5))
    return str(graph.node("Mul", half, graph.node("Add", erf, _scalar(graph, 1.0))))


def _mish(graph: Graph, x: str) -> str:
    return str(graph.node("Mul", x, graph.node("Tanh", graph.node("Softplus", x))))


def _squareplus(graph: Graph, x: str) -> str:
    root = graph.node("Sqrt", graph.node("Add", graph.node("Mul", x, x), _scalar(graph, 4.0)))
    return str(graph.node("Mul", graph.node("Add", x, root), _scalar(graph, 0.5)))


def _sparse_plus(graph: Graph, x: str) -> str:
    raised = graph.node("Relu", graph.node("Add", x, _scalar(graph, 1.0)))
    curve = graph.node("Mul", graph.node("Mul", raised, raised), _scalar(graph, 0.25))
    return str(graph.node("Where", graph.node("Less", x, _scalar(graph, 1.0)), curve, x))


_COMPOSED: dict[str, Callable[[Graph, str], str]] = {
    "relu6": _clip(0.0, 6.0),
    "hard_tanh": _clip(-1.0, 1.0),
    "gelu": _gelu,
    "silu": lambda graph, x: graph.node("Mul", x, graph.node("Sigmoid", x)),
    "mish": _mish,
    "squareplus": _squareplus,
    "log_sigmoid": lambda graph, x: graph.node("Neg", graph.node("Softplus", graph.node("Neg", x))),
    "tanh_shrink": lambda graph, x: graph.node("Sub", x, graph.node("Tanh", x)),
    "sparse_plus": _sparse_plus,
}
