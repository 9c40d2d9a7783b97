"""Keras's products along axes, and what it splits, as nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_letters
from typing import Any

from xframe.graph.keras._called import Called, Made, Read
from xframe.graph.keras._entries import Place
from xframe.graph.keras._operations import axis_of, given_to, node_of, value_of
from xframe.graph.keras._options import check_options, flag, refused
from xframe.graph.keras._plain import Reached, activated
from xframe.graph.keras._weights import Arrays, Weights
from xframe.graph.kinds.einsum import Einsum, EinsumDense
from xframe.graph.node import Node

__all__ = ["dot", "einsum", "einsum_dense", "split"]


def _spelt(place: Place, equation: Any, ranks: Sequence[int | None]) -> str:
    """An equation of two operands with a letter for each axis, those too for which an ellipsis stands.

    Args:
        place: whose it is.
        equation: as the configuration has it.
        ranks: how many axes each operand has; None for a kernel, which has those that are spelt.
    """
    found = re.fullmatch(r"([A-Za-z.]+),([A-Za-z.]+)->([A-Za-z.]+)", re.sub(r"\s", "", str(equation)))
    if found is None:
        raise refused(
            place, f"has the equation {equation!r}, which is not modelled; one of two operands and a result is"
        )
    operands = found.groups()
    free = [letter for letter in ascii_letters if letter not in str(equation)]
    counts = [
        rank - len(one.replace("...", "")) for rank, one in zip(ranks, operands, strict=False) if rank and "..." in one
    ]
    stand = "".join(free[: max([0, *counts])])
    # Of two ellipses the shorter one stands for the last axes of the longer.
    spelt = [
        one.replace("...", stand if rank is None else stand[len(stand) - rank + len(one.replace("...", "")) :])
        for rank, one in zip((*ranks, None), operands, strict=True)
    ]
    return f"{spelt[0]},{spelt[1]}->{spelt[2]}"


def einsum(called: Called, weights: Weights) -> Made:
    """keras.ops.einsum of two values."""
    given = given_to(called, "a", "b", "subscripts")
    if isinstance(given.get("a"), str):  # the equation stands first where the call was written down
        given = {"subscripts": given["a"], "a": given.get("b"), "b": given.get("subscripts")}
    a, b = value_of(called, given.get("a")), value_of(called, given.get("b"))
    equation = _spelt(called.place, given.get("subscripts"), [len(a.shape) + 1, len(b.shape) + 1])
    if not Einsum.allowed["equation"](equation):
        raise refused(
            called.place,
            f"has the equation {given.get('subscripts')!r}, which is not modelled; one with the batch first is",
        )
    return node_of(called, "einsum", {"equation": equation}, a, b)


def einsum_dense(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    """keras.layers.EinsumDense."""
    check_options(place, ["equation", "output_shape", "bias_axes", "activation"])
    equation = _spelt(place, place.options.get("equation"), [len(reached[0]) + 1, None])
    if not EinsumDense.allowed["equation"](equation):
        raise refused(
            place,
            f"has the equation {place.options.get('equation')!r}, which is not modelled; one with the batch first is",
        )
    named = weights.named(place, ["kernel", *(["bias"] if place.options.get("bias_axes") else [])])
    shapes = {name: weights.file.tensors[tensor].shape for name, tensor in named.items()}
    arrays = Arrays(weights.file, named, shapes, {})
    node = Node(place.name, "einsum_dense", {"equation": equation}, None, arrays, tuple(named.values()), shapes)
    return [node, *activated(place, reached)]


def dot(called: Called, weights: Weights) -> Made:
    """keras.layers.Dot: the sum along one axis of each of two values, of which all others stay."""
    place = called.place
    check_options(place, ["axes", "normalize"])
    if len(called.reads) != 2 or len(called.arguments) != 1 or called.options:
        raise refused(place, "is called with something else than a list of two values")
    given = place.options.get("axes")
    pair = [given, given] if isinstance(given, int) else given
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise refused(place, f"has axes={given!r}, which is not modelled; an axis of each value is")
    reads, nodes = list(called.reads), list[Node]()
    letters = []
    for i, (read, one) in enumerate(zip(called.reads, pair, strict=True)):
        at = axis_of(called, one, len(read.shape) + 1)
        own = list(("nopqrstu" if i else "acefghij")[: len(read.shape)])
        own[at] = "d"
        if flag(place, "normalize", False):
            reads[i], own = _unit(called, read, own, nodes)
        letters.append("".join(own))
    rest = "".join(letters).replace("d", "")
    y = called.fresh(place.name)
    # Of two vectors Keras makes a vector of length 1.
    out = y if rest else called.fresh(f"{place.name}/product")
    options = {"equation": f"b{letters[0]},b{letters[1]}->b{rest}"}
    nodes.append(Node(place.name, "einsum", options, reads=(reads[0].name, reads[1].name), writes=(out,)))
    if not rest:
        nodes.append(Node(f"{place.name}/axis", "expand_dims", {"axis": -1}, reads=(out,), writes=(y,)))
    return Made(nodes, [y])


def _unit(called: Called, read: Read, letters: list[str], nodes: list[Node]) -> tuple[Read, list[str]]:
    """A value with the norm 1 along the axis d, which is then the last one."""
    at, rank = letters.index("d"), len(letters)
    order = [*(i for i in range(rank) if i != at), at]
    number = len(nodes)
    if at != rank - 1:
        moved = called.fresh(f"{called.place.name}/moved {number}")
        dims = tuple(i + 1 for i in order)
        nodes.append(
            Node(f"{called.place.name}/moved {number}", "permute", {"dims": dims}, reads=(read.name,), writes=(moved,))
        )
        read = read._replace(name=moved)
    name = f"{called.place.name}/unit {number}"
    unit = called.fresh(name)
    nodes.append(Node(name, "unit_norm", {"least": 1e-7}, reads=(read.name,), writes=(unit,)))
    return read._replace(name=unit), [letters[i] for i in order]


def split(called: Called, weights: Weights) -> Made:
    """keras.ops.split, into equal parts or at places."""
    given = given_to(called, "x", "indices_or_sections", "axis", axis=0)
    x, parts = value_of(called, given.get("x")), given.get("indices_or_sections")
    at = axis_of(called, given["axis"], len(x.shape) + 1)
    size = x.shape[at]
    if isinstance(parts, int):
        if size is None or parts < 1 or size % parts:
            raise refused(
                called.place, f"splits an axis of {size or 'any length'} into {parts} parts, which is not modelled"
            )
        parts = [size // parts * i for i in range(1, parts)]
    if not isinstance(parts, list | tuple) or not all(isinstance(one, int) and one > 0 for one in parts):
        raise refused(called.place, f"splits at {parts!r}, which are no places that are modelled")
    name = called.place.name
    writes = tuple(called.fresh(name if i == 0 else f"{name}:{i}") for i in range(len(parts) + 1))
    node = Node(name, "split", {"axis": at, "at": tuple(parts)}, reads=(x.name,), writes=writes)
    return Made([node], list(writes))
