"""Keras's attention layers as nodes."""

from __future__ import annotations

from typing import Any

from xframe.graph.keras._called import Called, Made, reads_in
from xframe.graph.keras._options import check_options, flag, refused
from xframe.graph.keras._weights import Arrays, Weights
from xframe.graph.node import Node

__all__ = ["additive_attention", "attention", "multi_head_attention"]


def _asked(called: Called) -> tuple[bool, bool]:
    """Whether it is called with a causal mask, and whether the weights are asked for."""
    given = dict(called.options)
    causal, scores = (bool(given.pop(name, False)) for name in ("use_causal_mask", "return_attention_scores"))
    for name in ("key", "value"):
        given.pop(name, None)
    if given:
        raise refused(called.place, f"is called with {' and '.join(given)}, which is not modelled")
    return causal, scores


def _node(called: Called, kind: str, options: dict[str, Any], arrays: Arrays, reads: list[str], scores: bool) -> Made:
    name = called.place.name
    writes = [called.fresh(name), *([called.fresh(f"{name}/weights")] if scores else [])]
    sources = tuple(arrays.tensors.values())
    node = Node(name, kind, options, None, arrays, sources, arrays.shapes, reads=tuple(reads), writes=tuple(writes))
    return Made([node], writes)


def attention(called: Called, weights: Weights) -> Made:
    """keras.layers.Attention, which Keras 2 has without a bias in its scale."""
    place = called.place
    check_options(place, ["use_scale", "score_mode", "dropout", "causal"])
    mode = place.options.get("score_mode", "dot")
    if mode not in ("dot", "concat"):
        raise refused(place, f"has score_mode={mode!r}, which is not modelled; dot and concat are")
    names = ["scale"] * flag(place, "use_scale", False) + ["weight"] * (mode == "concat")
    return _attention(called, weights, mode, names)


def additive_attention(called: Called, weights: Weights) -> Made:
    """keras.layers.AdditiveAttention."""
    check_options(called.place, ["use_scale", "dropout", "causal"])
    return _attention(called, weights, "additive", ["scale"] * flag(called.place, "use_scale", True))


def _attention(called: Called, weights: Weights, score: str, names: list[str]) -> Made:
    causal, scores = _asked(called)
    if len(called.arguments) != 1 or len(called.reads) not in (2, 3):
        raise refused(called.place, "is called with something else than a list of query, value and key")
    named = weights.named(called.place, names) if names else {}
    shapes = {name: weights.file.tensors[tensor].shape or (1,) for name, tensor in named.items()}
    options = {"score": score, "causal": causal or flag(called.place, "causal", False)}
    arrays = Arrays(weights.file, named, shapes, {})
    return _node(called, "attention", options, arrays, [read.name for read in called.reads], scores)


# The weights in the order in which Keras makes them.
_PARTS = ("query", "key", "value", "output")


def multi_head_attention(called: Called, weights: Weights) -> Made:
    """keras.layers.MultiHeadAttention and GroupQueryAttention."""
    place = called.place
    check_options(
        place,
        "num_heads key_dim value_dim dropout use_bias output_shape attention_axes num_query_heads num_key_value_heads head_dim "
        "flash_attention".split(),
    )
    if place.options.get("attention_axes") not in (None, 1, -2, [1], [-2]):
        raise refused(place, f"has attention_axes={place.options['attention_axes']!r}, which is not modelled; time is")
    causal, scores = _asked(called)
    given = [reads_in(one) for one in called.arguments]
    if any(len(one) != 1 for one in given):
        raise refused(place, "is called with something else than a query, a value and a key")
    order = [*(one[0] for one in given)]
    for name in ("value", "key"):
        order += reads_in(called.options.get(name, []))
    if len(order) not in (2, 3):
        raise refused(place, f"is called with {len(order)} values")
    bias = flag(place, "use_bias", True)
    names = [f"{part}_{what}" for part in _PARTS for what in ("kernel", *(["bias"] if bias else []))]
    named = weights.parted(place, names)
    shapes: dict[str, tuple[int, ...]] = {name: weights.file.tensors[tensor].shape for name, tensor in named.items()}
    if any(len(shapes[f"{part}_kernel"]) != 3 for part in _PARTS):
        raise refused(place, "has kernels of other shapes than (features, heads, size); save the model again")
    for part in _PARTS:
        kernel = shapes[f"{part}_kernel"]
        shapes.setdefault(f"{part}_bias", kernel[-1:] if part == "output" else kernel[1:])
    absent = {} if bias else {f"{part}_bias": 0.0 for part in _PARTS}
    dropped = bool(place.options.get("dropout"))
    options = {
        "causal": causal,
        # The fused way of Keras averages where there is nothing to look at, the other one puts out zero.
        "empty": "zero" if dropped or scores else "average",
        "heads": shapes["query_kernel"][1],
        "groups": shapes["key_kernel"][1],
    }
    ordered = {name: shapes[name] for name in (f"{part}_{what}" for part in _PARTS for what in ("kernel", "bias"))}
    arrays = Arrays(weights.file, named, ordered, absent)
    reads = [read.name for read in order]
    if len(reads) == 3 and reads[2] == reads[1]:
        reads = reads[:2]
    return _node(called, "multi_head_attention", options, arrays, reads, scores)
