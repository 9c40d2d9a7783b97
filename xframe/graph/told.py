"""From what xframe says in a file that it wrote to the graph. It is a stranger's word: every option is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from xframe.activations import ACTIVATIONS
from xframe.errors import SpecError, UnsupportedError
from xframe.files.base import ModelFile
from xframe.graph.graph import Graph, Input, Output, chained
from xframe.graph.kinds import KINDS
from xframe.graph.kinds.merging import OPERATIONS
from xframe.graph.node import Node, Shape
from xframe.recognition import Findings, told

if TYPE_CHECKING:
    import numpy as np

__all__ = ["graph_told"]

# No sample that a model reads has more axes.
_MAX_RANK = 8


def graph_told(findings: Findings) -> Graph:
    """The graph that the file says that it is.

    Raises:
        UnsupportedError: what it says cannot be; the sentence names the node.
        FileError: it contradicts the tensors.
    """
    file = findings.file
    config = file.config or {}
    name = config.get("name")
    name = name if isinstance(name, str) and name else "model"
    nodes = [_node(file, step) for step in told.steps_of(file)]
    try:
        if "inputs" not in config:
            return chained(nodes, _shape(config.get("input_shape")), name)
        inputs = tuple(Input(one["name"], _shape(one["shape"])) for one in told.listed(file, "inputs"))
        outputs = tuple(Output(one["name"], one["value"]) for one in told.listed(file, "outputs"))
        form = config.get("form")
        if form not in ("one", "list", "dict") or (form == "one") != (len(outputs) == 1 and form != "dict"):
            raise UnsupportedError(f"The file says that its outputs come as {form!r}; convert it again.")
        return Graph(tuple(nodes), inputs, outputs, name, form)
    except SpecError as error:
        raise UnsupportedError(f"The file says what cannot be: {error}") from None


def _shape(shape: Any) -> Shape:
    if not isinstance(shape, list) or len(shape) > _MAX_RANK or not all(axis is None or _count(axis) for axis in shape):
        raise UnsupportedError(
            f"The file says that its input has the shape {shape!r}, which is none; convert it again."
        )
    return tuple(shape)


def _node(file: ModelFile, given: Mapping[str, Any]) -> Node:
    name, kind, tensors = given["name"], given["kind"], given["tensors"]
    options = _options(name, kind, given["options"])
    wires: Any = {what: tuple(given.get(what, ())) for what in ("reads", "writes", "masks")}
    if kind in ("recurrent", "dense"):
        reading = told.reading(file, given)
        return Node(name, kind, options, reading.spec, partial(reading.blocks, file), tuple(tensors.values()), **wires)
    if not KINDS[kind].params.keys() - KINDS[kind].optional <= tensors.keys() <= KINDS[kind].params.keys():
        raise _wrong(name, f"has the tensors {', '.join(tensors) or 'none'}, as no {kind} has")
    arrays = _Arrays(file, tensors, kind, options, given.get("packing") == "torch")
    try:
        arrays.shapes  # noqa: B018 - computed, which shows whether it can be
    except ValueError:
        raise _wrong(name, "has tensors of shapes that cannot be") from None
    return Node(name, kind, options, None, arrays, tuple(tensors.values()), arrays.shapes, **wires)


@dataclass(frozen=True)
class _Arrays:
    """The arrays of a node that is neither recurrent nor dense; the file has them in PyTorch's packing, or in the kind's."""

    file: ModelFile
    tensors: Mapping[str, str]
    kind: str
    options: Mapping[str, Any]
    torch: bool

    def __call__(self) -> dict[str, np.ndarray]:
        from xframe.packing import checked

        found = {}
        for name, tensor in self.tensors.items():
            array = self._of(name, self.file.tensors[tensor].read())
            found[name] = checked(array, array.shape, tensor)
        return found

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the arrays, as the kind has them."""
        import numpy as np

        nothing = np.float32(0)
        stored = {name: self.file.tensors[tensor].shape for name, tensor in self.tensors.items()}
        return {name: self._of(name, np.broadcast_to(nothing, shape)).shape for name, shape in stored.items()}

    def _of(self, name: str, array: np.ndarray) -> np.ndarray:
        return KINDS[self.kind].from_torch(self.options, name, array) if self.torch else array


# ---- The options, each as its kind has it.


def _options(name: str, kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if kind not in KINDS:
        raise _wrong(name, f"is of the kind {kind!r}, which is not known")
    known = KINDS[kind].options
    # An activation has those parameters that are not the function's own.
    needed = {"name"} if kind == "activation" else set(known) - KINDS[kind].optional
    if not needed <= set(given) <= set(known):
        raise _wrong(name, f"has the options {', '.join(given) or 'none'}, as no {kind} has")
    for option, value in given.items():
        if not KINDS[kind].allowed.get(option, _CHECKS.get(option, _nothing))(value):
            raise _wrong(name, f"has {option}={value!r}, which makes no sense")
    if given.keys() not in _PARAMETERS.get(given.get("name", ""), ({"name"},)) and kind == "activation":
        raise _wrong(name, f"has parameters that {given['name']} does not have")
    return {option: tuple(value) if isinstance(value, list) else value for option, value in given.items()}


# The functions that may be given parameters, and which.
_PARAMETERS: Mapping[str, tuple[set[str], ...]] = {
    "leaky_relu": ({"name"}, {"name", "negative_slope"}),
    "elu": ({"name"}, {"name", "alpha"}),
    "relu": ({"name"}, {"name", "threshold", "max_value", "negative_slope"}),
}


def _nothing(value: Any) -> bool:
    return False


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and abs(value) < 1e38


def _whole(value: Any) -> bool:
    return isinstance(value, list) and all(one == -1 or _count(one) for one in value) and len(value) <= _MAX_RANK


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("sequence", "mask_zero", "keepdims", "unmasked", "every"), _flag),
    **dict.fromkeys(("stride", "dilation", "groups", "times"), _count),
    **dict.fromkeys(("negative_slope", "alpha", "threshold", "value"), _number),
    **dict.fromkeys(("shape", "dims"), _whole),
    "name": lambda value: isinstance(value, str) and value in ACTIVATIONS,
    "max_value": lambda value: value is None or _number(value),
    "epsilon": lambda value: _number(value) and value >= 0,
    "rate": lambda value: _number(value) and 0 <= value < 1,
    "padding": lambda value: value in ("valid", "same", "causal"),
    "mode": lambda value: value in ("max", "average"),
    "operation": lambda value: value in OPERATIONS,
    "axis": lambda value: isinstance(value, int) and not isinstance(value, bool) and -_MAX_RANK <= value < 0,
}


def _wrong(name: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"The file says that its step {name!r} {why}; convert the model again, or save its tensors alone."
    )
