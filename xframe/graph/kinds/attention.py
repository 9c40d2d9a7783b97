"""Attention: each time step of a query takes the average of a value, by how much its key answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from xframe.graph.arithmetic import Operations
from xframe.graph.kinds.allowed import count, flag, one_of
from xframe.graph.kinds.base import Kind, Masked, Params, Shape, known, refuse
from xframe.graph.kinds.products import activated, linear, product, softmax
from xframe.graph.node import Node

__all__ = ["Attention", "MultiHeadAttention"]

# What Keras takes from the score of a time step that is masked, and what stands in its place where it is replaced.
_FAR, _LOWEST = 1e9, -1e30


def _shapes(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, Shape, Shape]:
    """Of query, value and key, which is the value where none is given."""
    if len(shapes) not in (2, 3) or any(len(shape) != 2 for shape in shapes):
        raise refuse(
            node, f"cannot read samples of the shapes {', '.join(map(str, shapes))}; it reads (time, features)"
        )
    query, value, key = shapes[0], shapes[1], shapes[-1]
    if None not in (value[0], key[0]) and value[0] != key[0]:
        raise refuse(node, f"has a value of {value[0]} time steps and a key of {key[0]}")
    return query, value, key


def _causal(steps: int, others: int) -> np.ndarray:
    """(steps, others): True where a time step may look."""
    return np.tri(steps, others, dtype=bool)


class Attention(Kind):
    """``softmax(score(query, key)) value`` of a query (batch, T, d), a value (batch, S, v) and, if given, a key (batch, S, d).

    It writes (batch, T, v), and behind it, if it hands them on, the weights (batch, T, S). A mask of the value leaves time steps
    of it out; where the mask of the query is False, the output is zero.

    Source: keras.layers.Attention and AdditiveAttention, after Luong, arXiv:1508.04025, and Bahdanau, arXiv:1409.0473.
    """

    options: ClassVar[Mapping[str, str]] = {
        "score": "'dot': scale q k; 'concat': weight sum(tanh(scale (q + k))); 'additive': sum(scale tanh(q + k))",
        "causal": "whether a time step looks at those before it and itself only",
    }
    params: ClassVar[Mapping[str, str]] = {
        "scale": "(1,), or with 'additive' (d,); may be absent, and is 1 then",
        "weight": "(1,), with 'concat' only",
    }
    allowed: ClassVar[Mapping[str, Any]] = {"score": one_of("dot", "concat", "additive"), "causal": flag}
    optional = frozenset({"scale", "weight"})

    def uses_mask(self, node: Node) -> bool:
        return True

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [reaches[0], *[False] * (len(node.writes) - 1)]

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        query, value, key = _shapes(node, shapes)
        if known(node, query) != known(node, key):
            raise refuse(node, f"has a query of {query[-1]} features and a key of {key[-1]}")
        own = dict(node.shapes or {name: array.shape for name, array in node.params().items()})
        wanted = {"scale": (query[-1],) if node.options["score"] == "additive" else (1,), "weight": (1,)}
        if any(shape != wanted[name] for name, shape in own.items()) or (
            ("weight" in own) != (node.options["score"] == "concat")
        ):
            raise refuse(node, f"has arrays of the shapes {own}")
        return [(query[0], known(node, value)), (query[0], key[0])][: len(node.writes)]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        query, value, key = given[0], given[1], given[-1]
        scores = self._scores(node, params, query, key, ops)
        seen = None if masks[1] is None else masks[1][:, None, :]
        if node.options["causal"]:
            causal = _causal(query.shape[1], key.shape[1])
            seen = causal if seen is None else seen & causal
        if seen is not None:
            # Not left out, but far away: what looks at nothing looks at all of it, as far as the float type tells.
            far = ops.rounded(scores - scores.dtype.type(_FAR))
            scores = np.where(seen, scores, far)
        weights = softmax(scores, ops)
        y = product("bts,bsv->btv", weights, value, ops, key.shape[1])
        if masks[0] is not None:
            y = np.where(masks[0][..., None], y, y.dtype.type(0))
        return [(y, masks[0]), (weights, None)][: len(node.writes)]

    @staticmethod
    def _scores(node: Node, params: Params, query: np.ndarray, key: np.ndarray, ops: Operations) -> np.ndarray:
        scale = params.get("scale")
        if node.options["score"] == "dot":
            scores = product("btd,bsd->bts", query, key, ops, query.shape[-1])
            return scores if scale is None else ops.rounded(scores * scale)
        both = ops.rounded(query[:, :, None] + key[:, None])
        if node.options["score"] == "concat" and scale is not None:
            both = ops.rounded(both * scale)
        terms = activated("tanh", both, ops)
        if node.options["score"] == "additive" and scale is not None:
            terms = ops.rounded(terms * scale)
        scores = ops.summed(terms.sum(axis=-1), lambda: np.linalg.norm(terms, axis=-1), terms.shape[-1])
        return ops.rounded(scores * params["weight"]) if node.options["score"] == "concat" else scores


class MultiHeadAttention(Kind):
    """Several attentions beside each other, each of products of a query (batch, T, d), a value (batch, S, e), and a key.

    For each head ``softmax(q k / sqrt(K)) v`` with q = query Wq + bq and so on, and of all heads ``y = heads Wo + bo``. It writes
    (batch, T, n), and behind it, if it hands them on, the weights (batch, heads, T, S).

    Source: keras.layers.MultiHeadAttention and GroupQueryAttention, after arXiv:1706.03762 and arXiv:2305.13245.
    """

    options: ClassVar[Mapping[str, str]] = {
        "causal": "whether a time step looks at those before it and itself only",
        "empty": "what a time step that may look at nothing takes: 'average' of all, or 'zero'",
        "heads": "of the query",
        "groups": "how many heads of keys and values there are: each is for as many heads of the query, one beside the other",
    }
    params: ClassVar[Mapping[str, str]] = {
        "query_kernel": "(d, heads, K)",
        "query_bias": "(heads, K)",
        "key_kernel": "(e, groups, K)",
        "key_bias": "(groups, K)",
        "value_kernel": "(e, groups, V)",
        "value_bias": "(groups, V)",
        "output_kernel": "(heads, V, n)",
        "output_bias": "(n,)",
    }
    allowed: ClassVar[Mapping[str, Any]] = {
        "causal": flag,
        "empty": one_of("average", "zero"),
        "heads": count,
        "groups": count,
    }

    def from_torch(self, options: Mapping[str, Any], name: str, array: np.ndarray) -> np.ndarray:
        # A Linear holds (heads K, d), and that of the output (n, heads V).
        heads = int(options["heads"] if name.startswith(("query", "output")) else options["groups"])
        if name == "output_kernel":
            return array.T.reshape(heads, -1, len(array))
        if name == "output_bias":
            return array
        return array.T.reshape(*array.T.shape[:-1], heads, -1)

    def uses_mask(self, node: Node) -> bool:
        return True

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [reaches[0], *[False] * (len(node.writes) - 1)]

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        query, value, key = _shapes(node, shapes)
        own = dict(node.shapes or {name: array.shape for name, array in node.params().items()})
        if any(len(own.get(name, ())) != 3 for name in self.params if name.endswith("kernel")):
            raise refuse(node, f"has arrays of the shapes {own}")
        (_, heads, size), (_, groups, width) = own["query_kernel"], own["value_kernel"]
        n = own["output_kernel"][-1]
        wanted = {
            "query_kernel": (known(node, query), heads, size),
            "query_bias": (heads, size),
            "key_kernel": (known(node, key), groups, size),
            "key_bias": (groups, size),
            "value_kernel": (known(node, value), groups, width),
            "value_bias": (groups, width),
            "output_kernel": (heads, width, n),
            "output_bias": (n,),
        }
        if (
            own != wanted
            or (heads, groups) != (node.options["heads"], node.options["groups"])
            or heads % groups
            or 0 in (heads, size, width, n)
        ):
            raise refuse(node, f"has arrays of the shapes {own}, and reads {wanted}")
        return [(query[0], n), (heads, query[0], key[0])][: len(node.writes)]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        read = dict(zip(("query", "value", "key"), (given[0], given[1], given[-1]), strict=True))
        q, k, v = (self._headed(params, name, read[name], ops) for name in ("query", "key", "value"))
        repeats = q.shape[2] // k.shape[2]
        if repeats > 1:
            k, v = np.repeat(k, repeats, axis=2), np.repeat(v, repeats, axis=2)
        q = ops.rounded(q * q.dtype.type(1 / np.sqrt(q.shape[-1])))
        scores = product("bthk,bshk->bhts", q, k, ops, q.shape[-1])
        seen = self._seen(node, masks, q.shape[1], k.shape[1])
        if seen is not None:
            scores = np.where(seen[:, None], scores, scores.dtype.type(_LOWEST))
        weights = softmax(scores, ops)
        if seen is not None and node.options["empty"] == "zero":
            weights = np.where(seen[:, None], weights, weights.dtype.type(0))
        heads = product("bhts,bshv->bthv", weights, v, ops, k.shape[1])
        kernel = params["output_kernel"]
        y = linear(
            heads.reshape(*heads.shape[:2], -1), kernel.reshape(-1, kernel.shape[-1]), params["output_bias"], ops
        )
        return [(y, masks[0]), (weights, None)][: len(node.writes)]

    @staticmethod
    def _headed(params: Params, name: str, x: np.ndarray, ops: Operations) -> np.ndarray:
        """(batch, time, heads, size)"""
        kernel = params[f"{name}_kernel"]
        y = linear(x, kernel.reshape(len(kernel), -1), params[f"{name}_bias"].reshape(-1), ops)
        return y.reshape(*x.shape[:2], *kernel.shape[1:])

    @staticmethod
    def _seen(node: Node, masks: Sequence[np.ndarray | None], steps: int, others: int) -> np.ndarray | None:
        """(batch, T, S), True where a time step may look; of the mask of a key only where one is given apart."""
        found = [None if masks[0] is None else masks[0][:, :, None]]
        found += [None if mask is None else mask[:, None, :] for mask in masks[1:]]
        if node.options["causal"]:
            found.append(_causal(steps, others)[None])
        seen: np.ndarray | None = None
        for one in found:
            if one is not None:
                seen = one if seen is None else seen & one
        return seen
