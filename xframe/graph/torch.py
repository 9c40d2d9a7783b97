"""From a live torch.nn.Sequential to a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xframe.adapters.base import Adapter
from xframe.errors import ObstaclesError, SpecError, UnsupportedError
from xframe.graph.graph import Graph, chained
from xframe.graph.kinds import KINDS
from xframe.graph.node import Node, Shape
from xframe.noise import narrowest
from xframe.spec import Dense

if TYPE_CHECKING:
    import numpy as np

__all__ = ["graph_of_sequential", "run_sequential"]

# The modules that are functions of the numbers, by what they are called here, with the attributes that must have these values.
_FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "Tanh": ("tanh", {}),
    "Sigmoid": ("sigmoid", {}),
    "ReLU": ("relu", {}),
    "ReLU6": ("relu6", {}),
    "Identity": ("linear", {}),
    "SiLU": ("silu", {}),
    "GELU": ("gelu", {"approximate": "none"}),
    "Softplus": ("softplus", {"beta": 1, "threshold": 20}),
    "Softsign": ("softsign", {}),
    "SELU": ("selu", {}),
    "Hardsigmoid": ("hard_sigmoid", {}),
    "Softmax": ("softmax", {"dim": -1}),
    "LogSoftmax": ("log_softmax", {"dim": -1}),
}


def graph_of_sequential(adapter: Adapter, model: Any) -> Graph:
    """The graph that a torch.nn.Sequential is, nested ones included.

    Args:
        adapter: PyTorch's.
        model: of Embedding, Linear, functions of the numbers, Dropout, LayerNorm, BatchNorm1d and Flatten; the first of them with
            weights tells the shape of the input.

    Raises:
        UnsupportedError: modules, or options of them, are not modelled; the sentence names all that stands in the way.
    """
    import torch

    modules = [
        (name, m) for name, m in model.named_modules(remove_duplicate=False) if type(m) is not torch.nn.Sequential
    ]
    start = next((shape for _, m in modules if (shape := _input_shape(m)) is not None), None)
    if start is None:
        raise UnsupportedError(
            "This torch.nn.Sequential has no Linear and no Embedding and does not tell what it reads."
        )
    # Behind the first module that is not modelled nobody knows what shape reaches the next one.
    shape, steps, reasons, dtype = start, list[Node](), list[str](), narrowest(adapter.model_dtypes(model).values())
    for name, module in modules:
        try:
            step = _step(adapter, name, module, shape) if not reasons else _step_anyhow(adapter, name, module)
            shape = shape if reasons else KINDS[step.kind].output_shapes(step, [shape])[0]
            steps.append(replace(step, dtype=dtype))
        except (SpecError, UnsupportedError) as error:
            reasons.append(
                f"The model is none that is modelled: {error}" if isinstance(error, SpecError) else str(error)
            )
    if reasons:
        raise ObstaclesError(reasons)
    return chained(steps, start)


def _step_anyhow(adapter: Adapter, name: str, module: Any) -> Node:
    """The step of a module that is modelled for some shape."""
    wrong: list[UnsupportedError] = []
    for shape in ((1,), (None, 1), (None, None, 1)):
        try:
            return _step(adapter, name, module, shape)
        except UnsupportedError as error:
            wrong.append(error)
    raise wrong[0]


def _input_shape(module: Any) -> Shape | None:
    kind = type(module).__name__
    return (None,) if kind == "Embedding" else (module.in_features,) if kind == "Linear" else None


def _step(adapter: Adapter, name: str, module: Any, shape: Shape) -> Node:
    kind = type(module).__name__
    if not type(module).__module__.startswith("torch.nn.modules."):
        raise _refused(name, module, "is of a class of somebody's own, which is not")
    if kind in _FUNCTIONS:
        function, wanted = _FUNCTIONS[kind]
        for option, value in wanted.items():
            if (given := getattr(module, option)) != value and not (option == "dim" and given == len(shape)):
                raise _refused(name, module, f"has {option}={given!r}, which is not")
        return Node(name, "activation", {"name": function})
    if kind not in _MODULES:
        raise _refused(name, module, "is of a class that is not")
    return _MODULES[kind](adapter, name, module, shape)


def _refused(name: str, module: Any, why: str) -> UnsupportedError:
    return UnsupportedError(f"The module {name!r} (torch.nn.{type(module).__name__}) {why} modelled in a graph.")


def _linear(adapter: Adapter, name: str, module: Any, shape: Shape) -> Node:
    spec = adapter.spec(module)
    assert isinstance(spec, Dense)
    return Node(name, "dense", {}, spec, lambda: adapter.parameters(module))


def _leaky_relu(adapter: Adapter, name: str, module: Any, shape: Shape) -> Node:
    return Node(name, "activation", {"name": "leaky_relu", "negative_slope": float(module.negative_slope)})


def _elu(adapter: Adapter, name: str, module: Any, shape: Shape) -> Node:
    return Node(name, "activation", {"name": "elu", "alpha": float(module.alpha)})


def _dropout(adapter: Adapter, name: str, module: Any, shape: Shape) -> Node:
    return Node(name, "dropout", {"rate": float(module.p)})


def _flatten(adapter: Adapter, name: str, module: Any, shape: Shape) -> Node:
    if module.start_dim != 1 or module.end_dim not in (-1, len(shape)):
        raise _refused(name, module, "leaves axes as they are, which is not")
    return Node(name, "flatten")


def _embedding(adapter: Adapter, name: str, module: Any, shape: Shape) -> Node:
    if module.max_norm is not None:
        raise _refused(name, module, "has max_norm, which is not")
    return _arrays(name, "embedding", {"mask_zero": False}, {"embeddings": module.weight}, {})


def _layer_norm(adapter: Adapter, name: str, module: Any, shape: Shape) -> Node:
    if len(module.normalized_shape) != 1:
        raise _refused(
            name, module, f"has normalized_shape={tuple(module.normalized_shape)}, more than one axis, which is not"
        )
    tensors = {"gamma": module.weight, "beta": module.bias}
    return _arrays(
        name, "layer_norm", {"epsilon": module.eps}, tensors, {"gamma": 1.0, "beta": 0.0}, module.normalized_shape[0]
    )


def _batch_norm(adapter: Adapter, name: str, module: Any, shape: Shape) -> Node:
    if len(shape) != 1:
        raise _refused(
            name, module, f"reads samples of the shape {shape}, of which it normalises the first axis, which is not"
        )
    if module.running_mean is None:
        raise _refused(
            name, module, "has track_running_stats=False and computes statistics of each batch, which is not"
        )
    tensors = {"gamma": module.weight, "beta": module.bias, "mean": module.running_mean, "variance": module.running_var}
    return _arrays(
        name, "batch_norm", {"epsilon": module.eps}, tensors, {"gamma": 1.0, "beta": 0.0}, module.num_features
    )


def _arrays(
    name: str, kind: str, options: dict[str, Any], tensors: dict[str, Any], absent: dict[str, float], size: int = 0
) -> Node:
    """A step with the tensors of a module; constants of ``size`` numbers stand for those that are None."""

    def read() -> dict[str, np.ndarray]:
        import numpy as np

        return {
            key: np.full(size, absent[key], np.float32) if tensor is None else _numpy(tensor)
            for key, tensor in tensors.items()
        }

    shapes = {key: (size,) if tensor is None else tuple(tensor.shape) for key, tensor in tensors.items()}
    return Node(name, kind, options, None, read, (), shapes)


def _numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.element_size() < 4 else tensor).numpy()


_MODULES: dict[str, Callable[[Adapter, str, Any, Shape], Node]] = {
    "Linear": _linear,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Embedding": _embedding,
    "LayerNorm": _layer_norm,
    "BatchNorm1d": _batch_norm,
}


def run_sequential(model: Any, x: np.ndarray) -> np.ndarray:
    """What a torch.nn.Sequential puts out at inference."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            like = next(model.parameters(), None)
            given = torch.as_tensor(x)
            if like is not None:
                given = given.to(like) if given.is_floating_point() else given.to(like.device)
            y = model(given).cpu()
            found: np.ndarray = (y.float() if y.dtype == torch.bfloat16 else y).numpy()  # NumPy has no bfloat16
            return found
    finally:
        model.train(training)
