"""What a node does, with its time steps as samples where it is distributed: shapes, masks and numbers of any node.

``TimeDistributed`` of Keras runs a layer on each time step by itself: (batch, time, ...) becomes (batch time, ...), the kind of
node runs on that as on any batch, and what it puts out is taken apart again. A mask (batch, time) is handed on as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xframe.graph.arithmetic import Operations
from xframe.graph.kinds import KINDS
from xframe.graph.kinds.base import Masked, Params, refuse
from xframe.graph.node import Node, Shape

__all__ = ["masks_of", "run_node", "shapes_of", "uses_mask"]


def shapes_of(node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """The shape of one sample of each value that a node writes.

    Raises:
        SpecError: the node cannot read samples of those shapes, or its arrays do not fit them.
    """
    kind = KINDS[node.kind]
    if not node.distributed:
        return kind.output_shapes(node, shapes)
    if len(shapes) != 1 or len(node.writes) != 1 or len(shapes[0]) < 2:
        raise refuse(node, f"cannot run on the time steps of samples of the shapes {', '.join(map(str, shapes))}")
    if any(kind.masks(node, [False])):
        raise refuse(node, "makes a mask, which none that runs on each time step does")
    ((time, *rest),) = shapes
    return [(time, *shape) for shape in kind.output_shapes(node, [tuple(rest)])]


def uses_mask(node: Node) -> bool:
    """Whether a node computes something else where a mask comes with what it reads; none comes with a time step."""
    return not node.distributed and KINDS[node.kind].uses_mask(node)


def masks_of(node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
    """For each value that a node writes whether a mask is handed on with it, if masks reach it with these that it reads."""
    return [reaches[0]] if node.distributed else KINDS[node.kind].masks(node, reaches)


def run_node(
    node: Node, params: Params, given: Sequence[np.ndarray], masks: Sequence[np.ndarray | None], ops: Operations
) -> Sequence[Masked]:
    """What a node puts out: for each value an array (batch, ...) and the mask that is handed on with it; see `Kind.run`."""
    kind = KINDS[node.kind]
    if not node.distributed:
        return kind.run(node, params, given, masks, ops)
    (x,) = given
    batch, time, *rest = x.shape
    ((y, _),) = kind.run(node, params, [x.reshape(batch * time, *rest)], [None], ops.folded(time))
    return [(y.reshape(batch, time, *y.shape[1:]), masks[0])]
