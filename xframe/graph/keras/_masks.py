"""Which mask is handed on with which value of a Keras model, as an expression of what it is made of.

Keras 3 spells masks out where a layer uses them: ``NotEqual``, ``Any``, ``LogicalOr`` stand beside the layers. Such a mask is
the one that is handed on with what the layer reads, or another one; expressions tell which.
"""

from __future__ import annotations

from typing import Any

from xframe.graph.kinds import KINDS
from xframe.graph.node import Node

__all__ = ["FIRST", "MAKERS", "Masks"]

# The operations of which Keras's layers make masks.
MAKERS = (
    "NotEqual",
    "Any",
    "Squeeze",
    "LogicalOr",
    "ExpandDims",
    "ZerosLike",
    "OnesLike",
    "Concatenate",
    "ConvertToTensor",
)
# Those that make the first of a mask, of something that is none.
FIRST = ("NotEqual", "ZerosLike", "OnesLike")

Expression = tuple[Any, ...]


class Masks:
    """The expressions by the names of values."""

    def __init__(self) -> None:
        self._comes: dict[str, Expression] = {}
        self._spelt: dict[str, Expression] = {}

    def reaches(self, value: str) -> bool:
        """Whether a mask is handed on with a value."""
        return value in self._comes

    def spelt(self, value: str | None) -> bool:
        """Whether a value is a mask, or a part of one."""
        return value in self._spelt

    def same(self, mask: str | None, value: str) -> bool:
        """Whether a mask that is spelt out is the one that is handed on with a value."""
        return mask is not None and mask in self._spelt and self._spelt[mask] == self._comes.get(value)

    def spell(self, value: str, kind: str, arguments: tuple[Any, ...]) -> None:
        """Note what an operation makes.

        Args:
            value: its name.
            kind: one of `MAKERS`.
            arguments: what it reads, by name, and other arguments; a tuple of those that it reads as a list.
        """
        read = [self._expression(one) for one in arguments]
        # An axis that was kept, or what is a tensor already.
        if (kind == "Squeeze" and read[0][0] == "any") or kind == "ConvertToTensor":
            self._spelt[value] = read[0]
        elif kind == "Any":
            self._spelt[value] = ("any", read[0])
        elif kind == "NotEqual":
            self._spelt[value] = ("differs", *read)
        elif kind == "LogicalOr" and read[1][0] == "ZerosLike":  # as wide as what it is the mask of
            self._spelt[value] = ("wide", read[0][1], read[1][1])
        elif kind == "LogicalOr":
            self._spelt[value] = ("or", *read)
        else:
            self._spelt[value] = (kind, *read)

    def _expression(self, given: Any) -> Any:
        if isinstance(given, tuple):
            return tuple(map(self._expression, given))
        return self._spelt.get(given, ("value", given)) if isinstance(given, str) else given

    def follow(self, node: Node) -> None:
        """Note what is handed on with what a node writes."""
        reaches = [self.reaches(value) for value in node.reads]
        for value, masked in zip(node.writes, KINDS[node.kind].masks(node, reaches), strict=True):
            if masked:
                self._comes[value] = self._made(node)

    def _made(self, node: Node) -> Expression:
        if node.kind == "embedding":
            return ("differs", ("value", node.reads[0]), 0)
        if node.kind == "masking":
            return ("any", ("differs", ("value", node.reads[0]), node.options["value"]))
        if node.kind == "concatenate":
            wide = [self._wide(value) for value in node.reads]
            return ("any", ("Concatenate", tuple(wide)))
        known = [self._comes[value] for value in node.reads if value in self._comes]
        found = known[0]
        for one in known[1:] if node.kind == "merge" else ():
            found = ("or", found, one)
        return found

    def _wide(self, value: str) -> Expression:
        """What Keras makes of the mask of one of the values that are concatenated."""
        of: Expression = ("value", value)
        return ("wide", self._comes[value], of) if value in self._comes else ("OnesLike", of)
