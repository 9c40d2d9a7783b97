"""Nodes of an ONNX graph as layers.

Source: https://onnx.ai/onnx/operators/ (RNN-22, LSTM-22, GRU-22, Gemm-13).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from xframe.adapters import known_packings
from xframe.adapters._onnx_operators import CELLS, cell_options, refusal
from xframe.errors import SpecError, UnsupportedError
from xframe.files.base import ModelFile, StoredLayer
from xframe.recognition import names
from xframe.recognition.findings import Reading
from xframe.recognition.forms import forms
from xframe.recognition.tables import onnx_nodes
from xframe.spec import Recurrent

__all__ = ["CELLS", "DENSE", "dense", "frozen", "node"]

DENSE = ("MatMul", "Gemm")

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
    _refuse(layer)
    told = cell_options(f"The {layer.kind} node {layer.name!r}", layer.kind, layer.options)
    said = {name: told.pop(name) for name in ("activation", "recurrent_activation") if name in told}
    wanted: dict[str, Any] = {**told, "bias": "B" in layer.tensors, "projected": False}
    form = next(form for form in forms(onnx_nodes()) if form.options == wanted)
    spec = form.fit([file.tensors[layer.tensors[name]].shape for name in form.names])
    if not isinstance(spec, Recurrent):
        raise UnsupportedError(
            f"The {layer.kind} node {layer.name!r} has weights whose shapes do not fit each other; check the model."
        )
    return Reading(
        onnx_nodes(),
        replace(spec, **said),
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
    else:
        why = refusal(options, "P" in layer.tensors)
    if why:
        raise UnsupportedError(f"The {layer.kind} node {layer.name!r} is not modelled: {why}.")


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
