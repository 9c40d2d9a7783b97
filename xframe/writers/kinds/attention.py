"""Attention: modules of their own in PyTorch and functions in NumPy, layers in Keras, products and a softmax in ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xframe.writers._keras_recurrent import Made, layer_text
from xframe.writers._onnx_graph import Graph
from xframe.writers._safetensors import Entry
from xframe.writers._torch_recurrent import Lines
from xframe.writers.base import Part, Plan, Values, arrays

__all__ = ["KERAS", "NUMPY", "ONNX", "TORCH"]

_PARTS = ("query", "key", "value", "output")


def _masks(part: Part) -> list[str]:
    """What a function is given of masks as arguments by name; that of a key is used by heads only."""
    names = ("query_mask", "value_mask", "key_mask")[: 3 if part.node.kind == "multi_head_attention" else 2]
    return [f"{name}={mask}" for name, mask in zip(names, part.masks, strict=False) if mask]


def _returned(part: Part) -> str:
    return ", ".join(part.made) if len(part.made) > 1 else f"{part.y}, _"


def _given(part: Part) -> list[str]:
    causal = ["causal=True"] if part.node.options["causal"] else []
    return [*part.given, *_masks(part), *causal]


# ---- PyTorch.


def _torch_attention(part: Part, whole: Plan) -> Lines:
    score, own = str(part.node.options["score"]), part.shapes
    if score == "dot" and not own:
        return Lines("", [f"{_returned(part)} = attention({', '.join(['dot_scores', *_given(part)])})"])
    kind = {"dot": "ScaledScores", "concat": "ConcatScores", "additive": "AdditiveScores"}[score]
    if score != "dot" and "scale" not in own:
        given = "scale=False" if score == "concat" else ""
    else:
        given = str(own["scale"][0]) if score == "additive" else ""
    if score == "additive" and not own:
        return Lines("", [f"{_returned(part)} = attention({', '.join(['additive_scores', *_given(part)])})"])

    def read(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, dtype)
        yield from (found[name] for name in own)

    entries = Entry.group([(f"{part.name}.{name}", shape) for name, shape in own.items()], read)
    steps = [f"{_returned(part)} = attention({', '.join([f'self.{part.name}', *_given(part)])})"]
    return Lines(f"{kind}({given})", steps, entries)


def _linear(name: str, array: np.ndarray) -> np.ndarray:
    """A kernel or bias of several heads as torch.nn.Linear has it."""
    if name == "output_kernel":
        return np.ascontiguousarray(array.reshape(-1, array.shape[-1]).T)
    if name == "output_bias":
        return array
    return np.ascontiguousarray(array.reshape(*array.shape[:-2], -1).T)


def _torch_multi_head(part: Part, whole: Plan) -> Lines:
    shapes, options = part.shapes, part.node.options
    (d, heads, size), (e, groups, _), (v, _, width) = (shapes[f"{name}_kernel"] for name in ("query", "key", "value"))
    given = [str(d), str(heads), str(size)]
    given += [
        f"{name}={value}"
        for name, value, usual in (
            ("groups", groups, heads),
            ("key_features", e, d),
            ("value_features", v, d),
            ("value_size", width, size),
            ("outputs", shapes["output_bias"][0], d),
        )
        if value != usual
    ]
    given += ['empty="zero"'] if options["empty"] == "zero" and any(part.masks) else []
    names = {
        f"{p}_{ours}": f"{p}.{theirs}" for p in _PARTS for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
    }
    flat = {name: _linear(name, np.broadcast_to(np.float32(0), shape)).shape for name, shape in shapes.items()}

    def read(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, dtype)
        yield from (_linear(name, found[name]) for name in flat)

    entries = Entry.group([(f"{part.name}.{names[name]}", shape) for name, shape in flat.items()], read)
    steps = [f"{_returned(part)} = self.{part.name}({', '.join(_given(part))})"]
    return Lines(f"MultiHeadAttention({', '.join(given)})", steps, entries)


# ---- Keras.


def _keras_attention(part: Part, whole: Plan) -> Made:
    score, own = str(part.node.options["score"]), part.shapes
    kind = "AdditiveAttention" if score == "additive" else "Attention"
    given = ['score_mode="concat"'] if score == "concat" else []
    if ("scale" in own) != (score == "additive"):
        given.append(f"use_scale={'scale' in own}")

    def fill(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        found = arrays(part, dtype)
        if "scale" in found:
            yield built[0].scale, found["scale"].reshape(built[0].scale.shape)
        if "weight" in found:
            yield built[0].concat_score_weight, found["weight"].reshape(built[0].concat_score_weight.shape)

    return Made([layer_text(whole, part.name, kind, *given)], fill, **_keras_call(part, listed=True))


def _keras_call(part: Part, listed: bool) -> dict[str, Any]:
    asked = [", use_causal_mask=True"] if part.node.options["causal"] else []
    asked += [", return_attention_scores=True"] if len(part.made) > 1 else []
    read = [part.x] if listed else list(part.given)
    return {
        "given": ("".join(asked),),
        "states": (list(part.made[1:]),),
        "merges": listed,
        "reads": "" if listed else ", ".join(read),
    }


def _keras_multi_head(part: Part, whole: Plan) -> Made:
    shapes, options = part.shapes, part.node.options
    heads, size = shapes["query_kernel"][1:]
    groups, width = shapes["value_kernel"][1:]
    if groups != heads:
        given = [f"head_dim={size}", f"num_query_heads={heads}", f"num_key_value_heads={groups}"]
        kind = "GroupQueryAttention"
    else:
        given, kind = [str(heads), str(size)], "MultiHeadAttention"
        given += [f"value_dim={width}"] if width != size else []
        n = shapes["output_bias"][0]
        given += [f"output_shape={n}"] if n != shapes["query_kernel"][0] else []
    if options["empty"] == "zero" and len(part.made) == 1 and any(part.masks):
        # What chooses the way of Keras that puts out zero where there is nothing to look at; it acts in training only.
        given.append("dropout=1e-6")

    def fill(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        found, layer = arrays(part, dtype), built[0]
        for name in _PARTS:
            inner = getattr(layer, f"_{name}_dense")
            yield inner.kernel, found[f"{name}_kernel"]
            yield inner.bias, found[f"{name}_bias"]

    return Made([layer_text(whole, part.name, kind, *given)], fill, **_keras_call(part, listed=False))


# ---- ONNX.


def _seen(graph: Graph, part: Part, read: list[Values], x: str, key: str, query: bool) -> str:
    """(batch, T, S), True where a time step may look; nothing where it may everywhere."""
    found = []
    if query and read[0][1]:
        found.append(graph.node("Unsqueeze", read[0][1], graph.constant([2])))
    found += [graph.node("Unsqueeze", mask, graph.constant([1])) for _, mask in read[1:] if mask]
    if part.node.options["causal"]:
        steps, others = (graph.node("Gather", graph.node("Shape", value), graph.constant(1)) for value in (x, key))
        rows, columns = (graph.node("Range", graph.constant(0), count, graph.constant(1)) for count in (steps, others))
        later = graph.node("LessOrEqual", columns, graph.node("Unsqueeze", rows, graph.constant([1])))
        found.append(graph.node("Unsqueeze", later, graph.constant([0])))
    if not found:
        return ""
    seen = found[0]
    for one in found[1:]:
        seen = graph.node("And", seen, one)
    return str(seen)


def _onnx_attention(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    score, own = str(part.node.options["score"]), part.shapes

    def weights(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, dtype)
        yield from (found[name] for name in own)

    named = dict(zip(own, graph.weights(list(own.items()), weights), strict=True))
    query, value, key = read[0][0], read[1][0], read[-1][0]
    if score == "dot":
        scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 2, 1]))
        scores = graph.node("Mul", scores, named["scale"]) if "scale" in named else scores
    else:
        both = graph.node(
            "Add",
            graph.node("Unsqueeze", query, graph.constant([2])),
            graph.node("Unsqueeze", key, graph.constant([1])),
        )
        if score == "concat" and "scale" in named:
            both = graph.node("Mul", both, named["scale"])
        terms = graph.node("Tanh", both)
        if score == "additive" and "scale" in named:
            terms = graph.node("Mul", terms, named["scale"])
        scores = graph.node("ReduceSum", terms, graph.constant([-1]), keepdims=0)
        scores = graph.node("Mul", scores, named["weight"]) if score == "concat" else scores
    seen = _seen(graph, part, read[:2], query, key, query=False)
    if seen:
        far = graph.node("Sub", scores, graph.constant(1e9, "float32"))
        scores = graph.node("Where", seen, scores, far)
    found = graph.node("Softmax", scores, axis=-1)
    y = graph.node("MatMul", found, value)
    if read[0][1]:
        counts = graph.node("Unsqueeze", read[0][1], graph.constant([2]))
        y = graph.node("Where", counts, y, graph.constant(0.0, "float32"))
    return [(y, read[0][1]), (found, "")][: len(part.made)]


def _onnx_multi_head(graph: Graph, part: Part, read: list[Values]) -> list[Values]:
    shapes = part.shapes
    flat = {
        name: (shape[0] * shape[1], shape[2]) if name == "output_kernel" else (*shape[:-2], int(np.prod(shape[-2:])))
        for name, shape in shapes.items()
    }
    flat["output_bias"] = shapes["output_bias"]

    def weights(dtype: str) -> Iterator[np.ndarray]:
        found = arrays(part, dtype)
        yield from (found[name].reshape(shape) for name, shape in flat.items())

    named = dict(zip(flat, graph.weights(list(flat.items()), weights), strict=True))
    heads, groups = shapes["query_kernel"][1], shapes["key_kernel"][1]

    def headed(name: str, x: str, perm: list[int]) -> str:
        y = graph.node("Add", graph.node("MatMul", x, named[f"{name}_kernel"]), named[f"{name}_bias"])
        count = shapes[f"{name}_kernel"][1]
        y = graph.node("Reshape", y, graph.constant([0, 0, count, shapes[f"{name}_kernel"][2]]))
        if count != heads:
            y = graph.node("Gather", y, graph.constant([i // (heads // groups) for i in range(heads)]), axis=2)
        return str(graph.node("Transpose", y, perm=perm))

    query, value, key = read[0][0], read[1][0], read[-1][0]
    q, k, v = (
        headed("query", query, [0, 2, 1, 3]),
        headed("key", key, [0, 2, 3, 1]),
        headed("value", value, [0, 2, 1, 3]),
    )
    root = graph.constant(float(1 / np.sqrt(shapes["query_kernel"][2])), "float32")
    scores = graph.node("MatMul", graph.node("Mul", q, root), k)
    seen = _seen(graph, part, read, query, key, query=True)
    if seen:
        seen = graph.node("Unsqueeze", seen, graph.constant([1]))
        scores = graph.node("Where", seen, scores, graph.constant(-1e30, "float32"))
    found = graph.node("Softmax", scores, axis=-1)
    if seen and part.node.options["empty"] == "zero":
        found = graph.node("Where", seen, found, graph.constant(0.0, "float32"))
    y = graph.node("Transpose", graph.node("MatMul", found, v), perm=[0, 2, 1, 3])
    y = graph.node("Reshape", y, graph.constant([0, 0, -1]))
    y = graph.node("Add", graph.node("MatMul", y, named["output_kernel"]), named["output_bias"])
    return [(y, read[0][1]), (found, "")][: len(part.made)]


# ---- NumPy.


def _numpy_attention(part: Part, whole: Plan) -> list[str]:
    given = [f'score="{part.node.options["score"]}"'] if part.node.options["score"] != "dot" else []
    given += [f'{name}=weights["{part.name}/{name}"]' for name in part.shapes]
    return [f"{_returned(part)} = attention({', '.join([*_given(part), *given])})"]


def _numpy_multi_head(part: Part, whole: Plan) -> list[str]:
    zero = ['empty="zero"'] if part.node.options["empty"] == "zero" and any(part.masks) else []
    given = ["weights", f'"{part.name}"', *_given(part), *zero]
    return [f"{_returned(part)} = multi_head_attention({', '.join(given)})"]


TORCH = {"attention": _torch_attention, "multi_head_attention": _torch_multi_head}
KERAS = {"attention": _keras_attention, "multi_head_attention": _keras_multi_head}
ONNX = {"attention": _onnx_attention, "multi_head_attention": _onnx_multi_head}
NUMPY = {"attention": _numpy_attention, "multi_head_attention": _numpy_multi_head}
