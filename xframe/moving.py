"""Moving weights from one native layer into another, a tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xframe.adapters import adapter_of
from xframe.errors import SpecError
from xframe.packing import Blocks
from xframe.spec import described

__all__ = ["transfer"]

# The options in the order in which a difference is worth naming: first what decides the shapes of the parameters.
_OPTIONS = (
    "cell",
    "input_size",
    "units",
    "hidden_size",
    "num_layers",
    "bidirectional",
    "proj_size",
    "bias",
    "reset_after",
    "activation",
    "recurrent_activation",
    "merge_mode",
    "go_backwards",
    "backward",
    "stacked",
    "masked_output",
)


def transfer(source: Any, target: Any, mask: str | None = None) -> None:
    """Copy the weights of a native layer into another native layer of the same kind, in any framework.

    Both may be layers that the user made with the framework's own classes. Where the source keeps two biases and the
    target one, their sum is written (computed in float64, rounded once); where the source keeps one and the target two,
    it is written as the input bias, and the recurrent bias is zero. The numbers are rounded if the target's float type
    is narrower. Source arrays are viewed or read one at a time and target arrays made one at a time, so that the peak
    memory stays within one layer of source and target together; only of layers of one framework, which may lie in the same
    memory, the source is copied first. All numbers are checked before the first is written.

    Args:
        source: the layer to read; it is not changed.
        target: the layer to write; its weights exist and are overwritten.
        mask: which masks the layers will be given, ``"right"`` or ``"any"`` as of `Recurrent`; they must then do the same
            at masked steps. None for none. Dropout, whether a layer keeps its states between calls, and the activation of
            a dense layer, which PyTorch has as a step by itself, are the target's own affair.

    Raises:
        UnsupportedError: a layer or an option is not understood, or the target has no place for a non-zero block.
        SpecError: the layers differ in kind or size, or one is not built.
        LayoutError: a weight is not finite, or too large for the target's float type.
    """
    reader, writer = adapter_of(source), adapter_of(target)
    theirs = reader.bare(source, mask)
    # A source that makes its mask itself gives one without being asked.
    mine = writer.bare(target, mask or getattr(theirs, "mask", None))
    reader.dtype(source)  # refuses what NumPy has no type for
    for option in _OPTIONS:
        a, b = getattr(theirs, option, None), getattr(mine, option, None)
        # A layer without biases fits one with biases, which are then zero; one that is given no masks fits any.
        if a != b and not (option == "bias" and b) and not (option == "masked_output" and a is None):
            raise SpecError(
                f"The {reader.title} layer has {option}={described(a)} and the {writer.title} layer has "
                f"{option}={described(b)}; build the target with the source's options."
            )
    arrays = reader.read(source)
    if type(reader) is type(writer) or _may_share(arrays, writer.read(target)):
        # Else what is written to the target might change what is still to be read.
        arrays = {name: np.array(arrays[name]) for name in arrays}
    writer.load(target, Blocks(reader.packing_of(source), theirs, arrays, wanted=mine))


def _may_share(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays of the one may lie in the memory of arrays of the other."""
    return any(np.may_share_memory(one[a], other[b]) for a in one for b in other)
