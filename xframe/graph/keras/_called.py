"""What a Keras layer is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xframe.graph.keras._entries import Place
from xframe.graph.node import Node, Shape

__all__ = ["Called", "Made", "Read", "reads_in"]


class Read(NamedTuple):
    """A value that is read: its name, the shape of one sample, and whether a mask is handed on with it."""

    name: str
    shape: Shape
    masked: bool


@dataclass(frozen=True)
class Called:
    """A layer and what it is called with.

    Attributes:
        place: the layer; its ``arguments`` are those behind the first that are no values.
        reads: the values in the first argument, which may be a list of them.
        arguments: all positional ones, with a `Read` for each value.
        options: those by name, but for the mask and what is None or False.
        version: of Keras.
        fresh: (wanted) -> the name of a value that no other has.
    """

    place: Place
    reads: tuple[Read, ...]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    version: str
    fresh: Callable[[str], str]


class Made(NamedTuple):
    """What a layer becomes: nodes in order, and the names of the values that the layer puts out."""

    nodes: list[Node]
    outputs: list[str]


def reads_in(given: Any) -> list[Read]:
    """The values in an argument, in order."""
    if isinstance(given, Read):
        return [given]
    return [read for each in given for read in reads_in(each)] if isinstance(given, list | tuple) else []
