"""Keras layers that read or put out several values."""

from __future__ import annotations

import re
from collections.abc import Callable

from xframe.graph.keras._attention import additive_attention, attention, multi_head_attention
from xframe.graph.keras._called import Called, Made
from xframe.graph.keras._operations import item
from xframe.graph.keras._options import check_options, refused
from xframe.graph.keras._recurrent import RECURRENT, recurrent
from xframe.graph.keras._weights import Weights
from xframe.graph.node import Node

__all__ = ["SEVERAL"]

Builder = Callable[[Called, Weights], Made]


def _merge(operation: str) -> Builder:
    def merge(called: Called, weights: Weights) -> Made:
        check_options(called.place, [])
        return _merged(called, operation)

    return merge


def _merged(called: Called, operation: str) -> Made:
    if len(called.reads) < 2 or len(called.arguments) != 1 or called.options:
        raise refused(called.place, "is called with something else than a list of values, which is not modelled")
    if operation in ("maximum", "minimum") and _masked(called) and not _of_keras_2(called):
        raise refused(called.place, "is reached by a mask, where Keras 3 takes another value, which is not modelled")
    name = called.place.name
    node = Node(
        name,
        "merge",
        {"operation": operation, **_every(called)},
        reads=tuple(read.name for read in called.reads),
        writes=(called.fresh(name),),
    )
    return Made([node], list(node.writes))


def _every(called: Called) -> dict[str, bool]:
    """What becomes of the masks of several values, where any comes: Keras 2 lets a time step count that does in all of them."""
    return {"every": True} if _masked(called) and _of_keras_2(called) else {}


def _masked(called: Called) -> bool:
    return any(read.masked for read in called.reads)


def _of_keras_2(called: Called) -> bool:
    return bool(re.match(r"[12]\.", called.version))


def _concatenate(called: Called, weights: Weights) -> Made:
    check_options(called.place, ["axis"])
    axis = called.place.options.get("axis", -1)
    if not isinstance(axis, int) or isinstance(axis, bool) or not called.reads:
        raise refused(called.place, f"has axis={axis!r}, which is no axis")
    rank = len(called.reads[0].shape) + 1
    if axis == 0 or not -rank < axis < rank:
        raise refused(called.place, f"has axis={axis!r}, which is not modelled; those behind the batch are")
    name = called.place.name
    node = Node(
        name,
        "concatenate",
        {"axis": axis - rank if axis > 0 else axis, **_every(called)},
        reads=tuple(read.name for read in called.reads),
        writes=(called.fresh(name),),
    )
    return Made([node], list(node.writes))


SEVERAL: dict[str, Builder] = {
    **dict.fromkeys((*RECURRENT, "Bidirectional"), recurrent),
    "SlicingOpLambda": item,
    "Add": _merge("add"),
    "Subtract": _merge("subtract"),
    "Multiply": _merge("multiply"),
    "Average": _merge("average"),
    "Maximum": _merge("maximum"),
    "Minimum": _merge("minimum"),
    "Concatenate": _concatenate,
    "Attention": attention,
    "AdditiveAttention": additive_attention,
    **dict.fromkeys(("MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention"), multi_head_attention),
}
