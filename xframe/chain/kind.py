"""What a kind of step says of itself: what it computes in NumPy, what it makes of a shape, and what becomes of a mask.

Arrays are batch first; shapes are those of one sample, without the batch, and None in them stands for any length. A mask is
(batch, time), bool, True at valid steps. What becomes of it is what Keras does: a step hands it on, uses it up, drops it, or
makes a new one.

Source: keras/src/layers of Keras 3.15, and of tf_keras 2.21 (``supports_masking`` and ``compute_mask`` of each layer).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from xframe.chain.arithmetic import Operations
from xframe.chain.base import Step
from xframe.errors import SpecError

__all__ = ["Kind", "Masked", "Shape", "known", "refuse"]

Shape = tuple[int | None, ...]
Masked = tuple[np.ndarray, "np.ndarray | None"]


class Kind:
    """One kind of step.

    Attributes:
        options: what each of `Step.options` means.
        params: the arrays of `Step.params` by name, with their shapes and meanings. Empty for those of a layer's spec.
        mask: ``"keeps"``, ``"drops"``: what it does with a mask that reaches it, unless `masks` says more.
    """

    options: ClassVar[Mapping[str, str]] = {}
    params: ClassVar[Mapping[str, str]] = {}
    mask: ClassVar[str] = "keeps"

    def masks(self, step: Step, reaches: bool) -> bool:
        """Whether the next step is given a mask, if one reaches this one, or if none does."""
        return reaches and self.mask == "keeps"

    def output_shape(self, step: Step, shape: Shape) -> Shape:
        """The shape of one sample after the step.

        Raises:
            SpecError: the step cannot read a sample of that shape, or its arrays do not fit it.
        """
        return shape

    def run(
        self, step: Step, params: Mapping[Any, np.ndarray], x: np.ndarray, mask: np.ndarray | None, ops: Operations
    ) -> Masked:
        """What the step puts out, (batch, ...) of the dtype of ``x``, and the mask that it hands on.

        Args:
            step: the step.
            params: what its ``params`` gives, in the dtype of ``x``.
            x: (batch, ...).
            mask: (batch, time), or None.
            ops: what to compute with: `xframe.chain.arithmetic.Exact` for NumPy's plain arithmetic.
        """
        y = self.compute(step, params, x, ops)
        return y, mask if self.mask == "keeps" else None

    def compute(self, step: Step, params: Mapping[Any, np.ndarray], x: np.ndarray, ops: Operations) -> np.ndarray:
        """What a kind puts out that does not look at the mask."""
        raise NotImplementedError


def refuse(step: Step, why: str) -> SpecError:
    """The error for a step that does not fit what it reads; ``why`` continues the sentence."""
    return SpecError(f"The step {step.name!r} of kind {step.kind} {why}.")


def known(step: Step, shape: Shape, rank: int | None = None) -> int:
    """The number of features that a step reads: the last axis of one sample, of which the length must be known."""
    if not shape or (rank is not None and len(shape) != rank):
        raise refuse(step, f"cannot read samples of the shape {shape}" + (f", it reads {rank} axes" if rank else ""))
    if shape[-1] is None:
        raise refuse(step, f"cannot read samples of the shape {shape}, of which the last axis may have any length")
    return shape[-1]
