"""A whole model that is a chain: what each step does, apart from any framework and any file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xframe.spec import Layer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Chain", "Step"]


@dataclass(frozen=True)
class Step:
    """One step of a chain.

    Attributes:
        name: the source's name of the layer.
        kind: one of `xframe.chain.KINDS`, which say what its options are and what it computes.
        options: the options of the kind.
        spec: of the kinds ``recurrent`` and ``dense``: the layer.
        params: gives the step's numbers, read anew at each call: for ``recurrent`` and ``dense`` the canonical parameters by
            `xframe.Key`, for the other kinds arrays by the kind's names for them.
        sources: the names of the source's tensors that the step consumes.
        shapes: of the other kinds: the shapes of what ``params`` gives, where they are known without reading it.
        dtype: the float type in which the source computes it, where that is known; else empty, and it is that of its numbers.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    spec: Layer | None = None
    params: Callable[[], Mapping[Any, np.ndarray]] = field(default=dict, repr=False, compare=False)
    sources: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtype: str = ""


@dataclass(frozen=True)
class Chain:
    """Steps, each reading what the one before it puts out.

    Attributes:
        steps: in the order in which they run.
        input_shape: of one sample, without the batch; None for an axis of any length: ``(None, 5)`` for sequences of 5
            features, ``(None,)`` for sequences of whole numbers that an embedding reads.
        name: what the source calls the model.
    """

    steps: tuple[Step, ...]
    input_shape: tuple[int | None, ...]
    name: str = "model"
