"""What a kind of node says of itself: what it computes in NumPy, what it makes of shapes, and what becomes of masks.

Arrays are batch first; shapes are those of one sample, without the batch, and None in them stands for any length. A mask is
(batch, time), bool, True at valid steps, and is handed on with a value. What becomes of it is what Keras does: a node hands it
on, uses it up, drops it, or makes a new one.

Source: keras/src/layers of Keras 3.15, and of tf_keras 2.21 (``supports_masking`` and ``compute_mask`` of each layer).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from xframe.errors import SpecError
from xframe.graph.arithmetic import Operations
from xframe.graph.node import Node, Shape

__all__ = ["Kind", "Masked", "Params", "Shape", "Single", "known", "refuse"]

Params = Mapping[Any, np.ndarray]
# An array, and the mask that is handed on with it.
Masked = tuple[np.ndarray, "np.ndarray | None"]


class Kind:
    """One kind of node.

    Attributes:
        options: what each of `Node.options` means.
        params: the arrays of `Node.params` by name, with their shapes and meanings. Empty for those of a layer's spec.
        allowed: for options whether a value makes sense; a file that says what it is may say anything.
        optional: the options that may be absent.
        makes_mask: whether a mask that it hands on is one of its own, and not that of the first value that it reads.
        passes: whether what it puts out are numbers that it reads, as they are.
    """

    options: ClassVar[Mapping[str, str]] = {}
    params: ClassVar[Mapping[str, str]] = {}
    allowed: ClassVar[Mapping[str, Callable[[Any], bool]]] = {}
    optional: ClassVar[frozenset[str]] = frozenset()
    makes_mask: ClassVar[bool] = False
    passes: ClassVar[bool] = False

    def from_torch(self, options: Mapping[str, Any], name: str, array: np.ndarray) -> np.ndarray:
        """One of its arrays, of one that PyTorch holds.

        Raises:
            ValueError: it is none.
        """
        return array

    def words(self, node: Node) -> Sequence[int]:
        """The places among what it reads at which it reads whole numbers."""
        return ()

    def uses_mask(self, node: Node) -> bool:
        """Whether it computes something else where a mask comes with what it reads."""
        return False

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        """For each value that it writes whether a mask is handed on with it, if masks reach it with these that it reads."""
        raise NotImplementedError

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        """The shape of one sample of each value that it writes.

        Raises:
            SpecError: the node cannot read samples of those shapes, or its arrays do not fit them.
        """
        raise NotImplementedError

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        """What the node puts out: for each value an array (batch, ...) and the mask that is handed on with it.

        Args:
            node: the node.
            params: what its ``params`` gives, in the dtype of the computation.
            given: what it reads, each (batch, ...).
            masks: what comes with each, (batch, time), or None.
            ops: what to compute with: `xframe.graph.arithmetic.Exact` for NumPy's plain arithmetic.
        """
        raise NotImplementedError


class Single(Kind):
    """A kind that reads one value and writes one.

    Attributes:
        mask: ``"keeps"``, ``"drops"``: what it does with a mask that reaches it, unless `masked` says more.
    """

    mask: ClassVar[str] = "keeps"

    def masked(self, node: Node, reaches: bool) -> bool:
        """Whether a mask is handed on, if one reaches the node, or if none does."""
        return reaches and self.mask == "keeps"

    def output_shape(self, node: Node, shape: Shape) -> Shape:
        """The shape of one sample of what it writes."""
        return shape

    def compute(self, node: Node, params: Params, x: np.ndarray, ops: Operations) -> np.ndarray:
        """What a kind puts out that does not look at the mask."""
        raise NotImplementedError

    def run_one(self, node: Node, params: Params, x: np.ndarray, mask: np.ndarray | None, ops: Operations) -> Masked:
        """What the node puts out, and the mask that it hands on."""
        y = self.compute(node, params, x, ops)
        return y, mask if self.mask == "keeps" else None

    def masks(self, node: Node, reaches: Sequence[bool]) -> Sequence[bool]:
        return [self.masked(node, reaches[0])]

    def output_shapes(self, node: Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
        if len(shapes) != 1:
            raise refuse(node, f"reads one value, not {len(shapes)}")
        return [self.output_shape(node, shapes[0])]

    def run(
        self,
        node: Node,
        params: Params,
        given: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        ops: Operations,
    ) -> Sequence[Masked]:
        return [self.run_one(node, params, given[0], masks[0], ops)]


def refuse(node: Node, why: str) -> SpecError:
    """The error for a node that does not fit what it reads; ``why`` continues the sentence."""
    return SpecError(f"The node {node.name!r} of kind {node.kind} {why}.")


def known(node: Node, shape: Shape, rank: int | None = None) -> int:
    """The number of features that a node reads: the last axis of one sample, of which the length must be known."""
    if not shape or (rank is not None and len(shape) != rank):
        raise refuse(node, f"cannot read samples of the shape {shape}" + (f", it reads {rank} axes" if rank else ""))
    if shape[-1] is None:
        raise refuse(node, f"cannot read samples of the shape {shape}, of which the last axis may have any length")
    return shape[-1]
