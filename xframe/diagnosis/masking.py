"""What stands before a recorded layer in its model and makes its mask: a Masking layer, or the zeros of an embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xframe.errors import SpecError
from xframe.graph import KINDS, Graph, Node
from xframe.graph.arithmetic import Exact
from xframe.packing import Parameters
from xframe.spec import Layer, Recurrent

__all__ = ["Fronted", "fronted", "recorded_by"]

# What may stand before the layer, and what may stand after it without changing what it puts out.
_BEFORE = ("masking", "embedding", "dropout")
_AFTER = ("dropout",)


@dataclass(frozen=True)
class Fronted:
    """The one layer of a chain, and the nodes that what is recorded goes through before it."""

    layer: Node
    before: tuple[Node, ...]

    @property
    def spec(self) -> Layer:
        """The layer, with what it puts out at masked steps."""
        assert self.layer.spec is not None
        return self.layer.spec

    @property
    def parameters(self) -> Parameters:
        """The layer's numbers."""
        return Parameters(self.spec, self.layer.params())


def fronted(graph: Graph) -> Fronted | None:
    """The layer of a chain that has one, with nothing around it but what makes masks; None for any other graph."""
    kinds = [node.kind for node in graph.nodes]
    if not graph.chain or kinds.count("recurrent") != 1:
        return None
    at = kinds.index("recurrent")
    around = all(kind in _BEFORE for kind in kinds[:at]) and all(kind in _AFTER for kind in kinds[at + 1 :])
    return Fronted(graph.nodes[at], graph.nodes[:at]) if around else None


def recorded_by(front: Fronted, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A recording of the model as one of the layer: with the input that reaches it, and the mask that the model makes.

    A mask of the recording's own is kept. An input that is the layer's already, behind an embedding, makes none.

    Raises:
        SpecError: the input does not fit what it goes through.
    """
    x, mask = arrays["x"], arrays.get("mask")
    nodes = list(front.before)
    if x.ndim == 3:
        nodes = [node for node in nodes if node.kind != "embedding"]
    elif any(node.kind == "embedding" for node in nodes):
        x = _whole(x)
    made: np.ndarray | None = None
    for node in nodes:
        ((x, made),) = KINDS[node.kind].run(node, dict(node.params()), [x], [made], Exact())
    found = {**arrays, "x": x}
    if mask is None and made is not None and isinstance(front.spec, Recurrent):
        found["mask"] = made
    return found


def _whole(x: np.ndarray) -> np.ndarray:
    """The numbers of words as integers."""
    if not np.array_equal(x, np.rint(x)):
        raise SpecError("An embedding reads whole numbers; record its input x, (batch, time), as integers.")
    return x.astype(np.int64)
