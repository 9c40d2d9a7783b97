"""One node of a model: what it computes, what it reads and what it writes, apart from any framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from xframe.spec import Layer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Node", "Shape", "in_a_row"]

# Of one sample, without the batch; None for an axis of any length.
Shape = tuple["int | None", ...]


@dataclass(frozen=True)
class Node:
    """One node of a graph.

    Two nodes of one name are two calls of one layer, with the same weights.

    Attributes:
        name: the source's name of the layer.
        kind: one of `xframe.graph.KINDS`, which say what its options are, what it reads and what it computes.
        options: the options of the kind.
        spec: of the kinds ``recurrent`` and ``dense``: the layer.
        params: gives the node's numbers, read anew at each call: for ``recurrent`` and ``dense`` the canonical parameters by
            `xframe.Key`, for the other kinds arrays by the kind's names for them.
        sources: the names of the source's tensors that the node consumes.
        shapes: of the other kinds: the shapes of what ``params`` gives, where they are known without reading it.
        dtype: the float type in which the source computes it, where that is known; else empty, and it is that of its numbers.
        reads: the names of the values that it reads, in the order of the kind.
        writes: the names of the values that it puts out.
        masks: for each value that it reads, the name of the value that is its mask in place of the one that is handed on with
            it, or nothing; empty where that is so for all of them.
        distributed: whether it is run on each time step by itself: see `xframe.graph.distributed`.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    spec: Layer | None = None
    params: Callable[[], Mapping[Any, np.ndarray]] = field(default=dict, repr=False, compare=False)
    sources: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtype: str = ""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    distributed: bool = False

    def mask_of(self, i: int) -> str:
        """The value that is the mask of what it reads at place ``i``; nothing where it is the one that is handed on."""
        return self.masks[i] if self.masks else ""


def in_a_row(nodes: Sequence[Node], reads: str, writes: str, taken: Callable[[str], str] = str) -> Iterator[Node]:
    """Nodes of one value in and one out, each reading what the one before it puts out.

    Args:
        nodes: the nodes; what they read and write is replaced, and the mask of the first is kept.
        reads, writes: what the first reads, and what the last puts out.
        taken: (wanted) -> a name that no other value has, for what lies between.
    """
    for i, node in enumerate(nodes):
        out = writes if i + 1 == len(nodes) else taken(node.name)
        yield replace(node, reads=(reads,), writes=(out,), masks=() if i else node.masks)
        reads = out
