"""Keras layers with weights as nodes: their options from the configuration, their arrays from the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from xframe.graph.keras._convolutions import POOLING, WINDOWED
from xframe.graph.keras._einsum import einsum_dense
from xframe.graph.keras._entries import Place, kind_of
from xframe.graph.keras._normalising import NORMALISING
from xframe.graph.keras._operations import SHAPED
from xframe.graph.keras._options import (
    check_options,
    choice,
    flag,
    inner,
    refused,
    whole,
)
from xframe.graph.keras._plain import PLAIN, Reached, activated
from xframe.graph.keras._weights import Arrays, Weights
from xframe.graph.kinds import KINDS
from xframe.graph.node import Node
from xframe.recognition import Reading
from xframe.recognition.tables import KERAS1
from xframe.spec import Dense

__all__ = ["WEIGHTED"]

# What TimeDistributed does to each time step, and these do to all of them.
_TIMELESS = "Activation Dropout GaussianDropout GaussianNoise AlphaDropout ReLU LeakyReLU ELU ThresholdedReLU".split()


def _step(place: Place, kind: str, options: Mapping[str, Any], arrays: Arrays) -> Node:
    sources = tuple(arrays.tensors.values())
    return Node(place.name, kind, options, None, arrays, sources, arrays.shapes)


def _dense(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    check_options(place, ["units", "output_dim", "use_bias", "bias", "activation"])
    reading, tensors = weights.reading(place)
    step = Node(place.name, "dense", {}, reading.spec, lambda: reading.parameters(weights.file), tensors)
    return [step, *activated(place, reached)]


def _time_distributed_dense(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    """The class that Keras 1 had for it, whose tensors are those of its Dense."""
    check_options(place, ["output_dim", "bias", "activation"])
    file, bias = weights.file, flag(place, "bias", True)
    if not bias:
        raise refused(place, "has no bias, which is not modelled")
    named = weights.named(place, ["kernel", "bias"])
    shape = file.tensors[named["kernel"]].shape
    if len(shape) != 2:
        raise refused(place, f"has a kernel of the shape {shape}; save the model again")
    reading = Reading(KERAS1, Dense(*shape), {"W": named["kernel"], "b": named["bias"]})
    step = Node(place.name, "dense", {}, reading.spec, lambda: reading.parameters(file), tuple(named.values()))
    return [step, *activated(place, reached)]


def _time_distributed(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    check_options(place, ["layer"])
    given = place.options.get("layer")
    held = replace(place, kind=kind_of(given) if isinstance(given, Mapping) else "", options=inner(place, given))
    if held.kind == "Dense":
        return _dense(held, reached, weights)
    if held.kind in _TIMELESS:
        return PLAIN[held.kind](held, reached)
    if len(reached[0]) < 2:
        raise refused(place, f"reads samples of the shape {reached[0]}, which have no time steps of some features")
    # What uses a mask is told below that it is given one; a softmax says so itself.
    inside = (reached[0][1:], reached[1] and held.kind == "Softmax", reached[2])
    if held.kind in _UNWEIGHTED:
        nodes = _UNWEIGHTED[held.kind](held, inside)
    elif held.kind in WEIGHTED and held.kind != "TimeDistributed":
        nodes = WEIGHTED[held.kind](held, inside, weights)
    else:
        raise refused(place, f"holds a {held.kind}, which is not modelled; layers of one value in and one out are")
    if reached[1] and any(KINDS[node.kind].uses_mask(node) for node in nodes):
        raise refused(place, f"is reached by a mask, which the {held.kind} in it would use; leave the mask out")
    # What a layer makes of each number, or of those along the last axis, is the same for all time steps at once.
    return [replace(node, distributed=node.kind not in ("activation", "dense", "dropout")) for node in nodes]


def _embedding(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    check_options(place, ["output_dim", "mask_zero", "dropout", "sparse"])
    named = weights.named(place, ["embeddings"])
    shapes = {"embeddings": weights.file.tensors[named["embeddings"]].shape}
    wanted = (whole(place, "input_dim"), whole(place, "output_dim"))
    if shapes["embeddings"] != wanted:
        raise refused(place, f"has a table of the shape {shapes['embeddings']} and not {wanted}; save the model again")
    options = {"mask_zero": flag(place, "mask_zero", False)}
    return [_step(place, "embedding", options, Arrays(weights.file, named, shapes, {}))]


def _conv1d(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    known = (
        "filters nb_filter kernel_size filter_length strides subsample_length padding border_mode dilation_rate groups"
    )
    check_options(place, [*known.split(), "data_format", "activation", "use_bias", "bias"])
    if place.options.get("data_format") is not None:
        choice(place, ["channels_last"], "data_format")
    file = weights.file
    if place.kind == "Convolution1D" and file.metadata.get("backend") == "theano":
        raise refused(place, "was made by Keras 1 on Theano, which turns kernels round, and is not modelled")
    options = {
        "stride": whole(place, "strides", "subsample_length"),
        "padding": choice(place, ["valid", "same", "causal"], "padding", "border_mode"),
        "dilation": whole(place, "dilation_rate") if "dilation_rate" in place.options else 1,
        "groups": whole(place, "groups") if "groups" in place.options else 1,
    }
    bias = flag(place, "use_bias" if "use_bias" in place.options else "bias", True)
    named = weights.named(place, ["kernel", *(["bias"] if bias else [])])
    kernel = file.tensors[named["kernel"]].shape
    if len(kernel) == 4 and kernel[1] == 1:  # Keras 1 made an image of a sequence
        kernel = (kernel[0], *kernel[2:])
    size, filters = whole(place, "kernel_size", "filter_length"), whole(place, "filters", "nb_filter")
    if len(kernel) != 3 or (kernel[0], kernel[2]) != (size, filters):
        raise refused(
            place, f"has a kernel of the shape {kernel}, {filters} filters of size {size}; save the model again"
        )
    if bias and file.tensors[named["bias"]].shape != (filters,):
        raise refused(place, f"has a bias of the shape {file.tensors[named['bias']].shape}; save the model again")
    arrays = Arrays(file, named, {"kernel": kernel, "bias": (filters,)}, {} if bias else {"bias": 0.0})
    return [_step(place, "conv1d", options, arrays), *activated(place, reached)]


_UNWEIGHTED = {**PLAIN, **POOLING, **SHAPED}
WEIGHTED: dict[str, Callable[[Place, Reached, Weights], list[Node]]] = {
    "Dense": _dense,
    "TimeDistributedDense": _time_distributed_dense,
    "TimeDistributed": _time_distributed,
    "Embedding": _embedding,
    "EinsumDense": einsum_dense,
    **NORMALISING,
    **dict.fromkeys(("Conv1D", "Convolution1D"), _conv1d),
    **WINDOWED,
}
