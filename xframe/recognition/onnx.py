"""Nodes of an ONNX graph as layers.

Source: https://onnx.ai/onnx/operators/ (RNN-22, LSTM-22, GRU-22, Gemm-13).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from xframe.adapters import known_packings
from xframe.adapters._onnx_operators import CELLS, cell_options, refusal
from xframe.errors import SpecError, UnsupportedError
from xframe.files.base import ModelFile, StoredLayer, StoredTensor
from xframe.recognition import names
from xframe.recognition.findings import Reading
from xframe.recognition.flow import Start
from xframe.recognition.forms import forms
from xframe.recognition.tables import onnx_nodes
from xframe.spec import Recurrent

__all__ = ["CELLS", "DENSE", "dense", "dense_layers", "frozen", "is_setting", "node", "own"]

DENSE = ("MatMul", "Gemm")
_MOST_SETTINGS = 64  # as many axes as an array can have, twice

# What TensorFlow calls the weights of a layer of Keras in a graph in which it is taken apart, as TensorFlow's LSTM is, and
# those of a layer that is a function of its own, by their numbers among the inputs of that.
_FROZEN = (
    (re.compile(r"(.+)/MatMul/ReadVariableOp(/resource)?(:0)?"), "kernel"),
    (re.compile(r"(.+)/Tensordot/Reshape_1(:0)?"), "kernel"),
    (re.compile(r"(.+)/MatMul_1/ReadVariableOp(/resource)?(:0)?"), "recurrent_kernel"),
    (re.compile(r"(.+)/BiasAdd/ReadVariableOp(/resource)?(:0)?"), "bias"),
)
_FUNCTION = re.compile(r"Func/(.+)/PartitionedCall/input/_(\d{1,9}):0")
_ROLES = ("kernel", "recurrent_kernel", "bias")
_BIASES = re.compile(r"ConstantFolding/(.+)/PartitionedCall/unstack-folded-([01]):0")


def frozen(file: ModelFile) -> dict[str, tuple[str, ...]]:
    """The tensors of Keras's layers that TensorFlow took apart into products and sums: by name, the path as Keras has it."""
    layers: dict[str, dict[str, str]] = {}
    functions: dict[str, dict[int, str]] = {}
    for name in file.tensors if file.format == "onnx" else ():
        if match := _FUNCTION.fullmatch(name):
            functions.setdefault(match[1], {})[int(match[2])] = name
        if match := _BIASES.fullmatch(name):
            layers.setdefault(match[1], {})[("bias", "recurrent_bias")[int(match[2])]] = name
        for pattern, role in _FROZEN:
            if match := pattern.fullmatch(name):
                layers.setdefault(match[1], {})[role] = name
    for layer, numbered in functions.items():
        if len(numbered) <= len(_ROLES):
            layers.setdefault(layer, {}).update(zip(_ROLES, (numbered[i] for i in sorted(numbered)), strict=False))
    return {
        tensor: (*names.normal(layer), role)
        for layer, tensors in layers.items()
        if {"kernel", "bias"} <= set(tensors)
        for role, tensor in tensors.items()
    }


def own(file: ModelFile, layer: StoredLayer) -> list[str]:
    """The tensors by which a layer is told from another: others, as biases and states of zeros, nodes of ONNX may share."""
    if file.format != "onnx" or layer.kind not in (*CELLS, *DENSE):
        return list(layer.tensors.values())
    return [layer.tensors[label] for label in ("W", "R", "kernel") if label in layer.tensors]


def is_setting(tensor: StoredTensor) -> bool:
    """Whether a tensor of a node that is no layer is none of its weights, but tells it an axis or a size."""
    return tensor.dtype in ("int32", "int64", "bool") and tensor.count <= _MOST_SETTINGS


def dense_layers(file: ModelFile, taken_apart: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """The names of the nodes that are dense layers."""
    cells = {path[:-1] for path in taken_apart.values() if path[-1] == "recurrent_kernel"}
    return frozenset(
        layer.name
        for layer in (file.layers if file.format == "onnx" else ())
        if layer.kind in DENSE
        and dense(file, layer) is not None
        and not any(taken_apart.get(name, ("",))[:-1] in cells for name in layer.tensors.values())
    )


def node(file: ModelFile, layer: StoredLayer, start: Start | None) -> Reading:
    """An RNN, LSTM or GRU node.

    Args:
        file: the file that has it.
        layer: the node.
        start: what is known of what it is given; None where the file has no graph.

    Raises:
        UnsupportedError: what it computes is not modelled; the sentence says why.
    """
    _refuse(layer, start)
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
        replace(spec, go_backwards=start is not None and start.reversed, **said),
        {name: layer.tensors[name] for name in form.names},
        (f"The file says that it is a node {layer.kind} with these attributes.",),
        # What is made of two directions is not said by the node.
        ("merge_mode",) if spec.bidirectional and start is not None and not start.aligned else (),
    )


def _refuse(layer: StoredLayer, start: Start | None) -> None:
    """Refuse what is not modelled, by name."""
    options, why = layer.options, ""
    fixed = [label for label, told in (start.states if start else {}).items() if told == "constant"]
    if varying := options.get("not_constant"):
        why = f"its weights ({varying}) are not constant; export the model with constant weights"
    elif "W" not in layer.tensors or "R" not in layer.tensors:
        why = "its weights are not in the file; export the model with its weights"
    elif fixed:
        why = f"its {' and '.join(fixed)} {'are' if fixed[1:] else 'is'} constant and not zero; make it an input of the model"
    elif start is not None and start.lengths == "constant":
        why = "its sequence_lens are constant; make them an input of the model"
    else:
        why = refusal(options, "P" in layer.tensors, start is not None and start.aligned)
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
