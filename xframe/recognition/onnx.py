"""Nodes of an ONNX graph as layers.

Source: https://onnx.ai/onnx/operators/ (RNN-22, LSTM-22, GRU-22, Gemm-13).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from xframe.adapters import known_packings
from xframe.errors import SpecError, UnsupportedError
from xframe.files.base import ModelFile, StoredLayer
from xframe.recognition import names
from xframe.recognition.findings import Reading
from xframe.recognition.forms import forms
from xframe.recognition.tables import onnx_nodes
from xframe.spec import Recurrent

__all__ = ["CELLS", "DENSE", "dense", "frozen", "node"]

CELLS = {"RNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
DENSE = ("MatMul", "Gemm")

# ONNX's activations by what they are here, with the parameters at which they are that, and their defaults.
_PLAIN = {"tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "softsign": "softsign", "softplus": "softplus"}
_WITH_PARAMETERS = {
    ("hardsigmoid", 0.2, 0.5): "hard_sigmoid_keras2",
    ("hardsigmoid", 1 / 6, 0.5): "hard_sigmoid",
    ("leakyrelu", 0.2, None): "leaky_relu",
    ("elu", 1.0, None): "elu",
    ("affine", 1.0, 0.0): "linear",
}
# Alpha and beta by default; None where the function does not take it.
_DEFAULTS = {
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01, None),
    "elu": (1.0, None),
    "affine": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
    "thresholdedrelu": (1.0, None),
}
_NEAR = 1e-6  # attributes are float32


# What TensorFlow calls the weights of a layer of Keras in a graph in which it is taken apart, as TensorFlow's LSTM is.
_FROZEN = (
    (re.compile(r"(.+)/MatMul/ReadVariableOp(/resource)?(:0)?"), "kernel"),
    (re.compile(r"(.+)/Tensordot/Reshape_1(:0)?"), "kernel"),
    (re.compile(r"(.+)/MatMul_1/ReadVariableOp(/resource)?(:0)?"), "recurrent_kernel"),
    (re.compile(r"(.+)/BiasAdd/ReadVariableOp(/resource)?(:0)?"), "bias"),
)


def frozen(file: ModelFile) -> dict[str, tuple[str, ...]]:
    """The tensors of Keras's layers that TensorFlow took apart into products and sums: by name, the path as Keras has it."""
    layers: dict[str, dict[str, str]] = {}
    for name in file.tensors if file.format == "onnx" else ():
        for pattern, role in _FROZEN:
            if match := pattern.fullmatch(name):
                layers.setdefault(match[1], {})[role] = name
    return {
        tensor: (*names.normal(layer), role)
        for layer, tensors in layers.items()
        if {"kernel", "bias"} <= set(tensors)
        for role, tensor in tensors.items()
    }


def node(file: ModelFile, layer: StoredLayer) -> Reading:
    """An RNN, LSTM or GRU node.

    Raises:
        UnsupportedError: what it computes is not modelled; the sentence says why.
    """
    options = layer.options
    _refuse(layer)
    cell = CELLS[layer.kind]
    both = options.get("direction", "forward") == "bidirectional"
    activations = _activations(layer, 2 if both else 1)
    per = {"rnn": 1, "gru": 2, "lstm": 3}[cell]
    halves = [activations[i : i + per] for i in range(0, len(activations), per)]
    if any(half != halves[0] for half in halves) or (cell == "lstm" and halves[0][1] != halves[0][2]):
        raise UnsupportedError(
            f"The {layer.kind} node {layer.name!r} has the activations {', '.join(activations)}, which are not modelled: "
            "directions, and the candidate and the output of an LSTM, must have the same."
        )
    wanted: dict[str, Any] = {"cell": cell, "bidirectional": both, "bias": "B" in layer.tensors, "projected": False}
    if cell == "gru":
        wanted["reset_after"] = bool(options.get("linear_before_reset", 0))
    form = next(form for form in forms(onnx_nodes()) if form.options == wanted)
    spec = form.fit([file.tensors[layer.tensors[name]].shape for name in form.names])
    if not isinstance(spec, Recurrent):
        raise UnsupportedError(
            f"The {layer.kind} node {layer.name!r} has weights whose shapes do not fit each other; check the model."
        )
    told = {"activation": halves[0][0 if cell == "rnn" else 1]}
    if cell != "rnn":
        told["recurrent_activation"] = halves[0][0]
    return Reading(
        onnx_nodes(),
        Recurrent(**{**spec.options(), **told}),
        {name: layer.tensors[name] for name in form.names},
        (f"The file says that it is a node {layer.kind} with these attributes.",),
    )


def _refuse(layer: StoredLayer) -> None:
    """Refuse what is not modelled, by name."""
    options, why = layer.options, ""
    if varying := options.get("not_constant"):
        why = f"its weights ({varying}) are not constant; export the model with constant weights"
    elif "W" not in layer.tensors or "R" not in layer.tensors:
        why = "its weights are not in the file; export the model with its weights"
    elif "P" in layer.tensors:
        why = "it has peepholes (input P), which no other framework has"
    elif options.get("clip"):
        why = f"clip={options['clip']!r} bounds what goes into the activations"
    elif options.get("input_forget"):
        why = "input_forget=1 couples the input gate with the forget gate"
    elif options.get("direction", "forward") not in ("forward", "bidirectional"):
        why = f"direction={options['direction']!r} alone reads time backwards and turns its output back; reverse x and the output"
    if why:
        raise UnsupportedError(f"The {layer.kind} node {layer.name!r} is not modelled: {why}.")


def _activations(layer: StoredLayer, directions: int) -> list[str]:
    """All activations of a node by the names that they have here, one direction after the other."""
    defaults = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[layer.kind]
    given = [str(a) for a in layer.options.get("activations") or defaults * directions]
    if len(given) != len(defaults) * directions:
        raise UnsupportedError(
            f"The {layer.kind} node {layer.name!r} has {len(given)} activations where ONNX asks for "
            f"{len(defaults) * directions}; check the model."
        )
    # Parameters go, in order, to those functions that take some.
    alphas, betas = (_numbers(layer.options.get(f"activation_{which}")) for which in ("alpha", "beta"))
    found = []
    for name in given:
        alpha, beta = _DEFAULTS.get(name.lower(), (None, None))
        alpha = alphas.pop(0) if alpha is not None and alphas else alpha
        beta = betas.pop(0) if beta is not None and betas else beta
        found.append(_activation(layer, name, alpha, beta))
    return found


def _numbers(given: Any) -> list[float]:
    return [float(number) for number in given] if isinstance(given, Sequence) and not isinstance(given, str) else []


def _activation(layer: StoredLayer, name: str, alpha: float | None, beta: float | None) -> str:
    if name.lower() in _PLAIN:
        return _PLAIN[name.lower()]
    for (known, *wanted), ours in _WITH_PARAMETERS.items():
        pairs = zip((alpha, beta), wanted, strict=True)
        if known == name.lower() and all(_same(a, b) for a, b in pairs):
            return ours
    raise UnsupportedError(
        f"The {layer.kind} node {layer.name!r} is not modelled: its activation {name} with alpha={alpha} and beta={beta} is "
        "none that xframe knows."
    )


def _same(given: float | None, wanted: float | None) -> bool:
    if given is None or wanted is None:
        return given is wanted
    return abs(given - wanted) < _NEAR


def dense(file: ModelFile, layer: StoredLayer) -> Reading | None:
    """A product with a matrix as a dense layer; None where it is another product."""
    options = layer.options
    if layer.kind == "Gemm" and (
        options.get("transA") or options.get("alpha", 1.0) != 1 or options.get("beta", 1.0) != 1
    ):
        return None
    transposed = layer.kind == "Gemm" and bool(options.get("transB"))
    packing = known_packings()["torch" if transposed else "keras"]
    wanted = {"cell": "dense", "bias": "bias" in layer.tensors}
    form = next(form for form in forms(packing) if form.options == wanted)
    own = [layer.tensors[name] for name in ("kernel", "bias") if name in layer.tensors]
    if len(own) != len(layer.tensors) or len(own) != len(form.names):
        return None
    try:
        spec = form.fit([file.tensors[name].shape for name in own])
    except SpecError:
        return None
    if spec is None:
        return None
    tensors = {packing.naming(spec, 0, 0, ours): theirs for ours, theirs in zip(form.names, own, strict=True)}
    return Reading(packing, spec, tensors, (f"The file says that it is a node {layer.kind}.",))
