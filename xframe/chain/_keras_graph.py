"""A functional Keras model as a graph: which layer reads what, from the configuration of Keras 1, 2 or 3.

A configuration is a tree of entries ``{"class_name": ..., "config": {...}}``. A functional model's entries list the calls of
each layer ("nodes") with the tensors that are read. Keras 1 and 2 write a tensor as ``[layer, call, output]``, Keras 3 as
``{"class_name": "__keras_tensor__", "config": {"keras_history": [layer, call, output]}}``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xframe.errors import ObstaclesError, UnsupportedError

__all__ = ["MASK_OPERATIONS", "Entry", "Graph", "config_of", "kind_of", "name_of", "tensors"]

Entry = Mapping[str, Any]
# Keras 3 spells out how a mask is made, in operations beside the layer that makes it.
MASK_OPERATIONS = ("NotEqual", "Any", "Squeeze")


class Tensor(NamedTuple):
    """What a layer puts out: its name, which of its calls, which of its outputs."""

    layer: str
    call: int
    output: int


@dataclass(frozen=True)
class Call:
    """What a layer is called with.

    Attributes:
        sources: the tensors that it reads.
        mask: the tensor that it is given as a mask, or None.
        arguments: further positional arguments.
        options: further arguments by name, without those that are None or False.
    """

    sources: list[Tensor]
    mask: Tensor | None
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]


def config_of(entry: Entry) -> Entry:
    """The configuration in an entry, if it is a mapping."""
    config = entry.get("config")
    return config if isinstance(config, Mapping) else {}


def kind_of(entry: Entry) -> str:
    """The class."""
    return str(entry.get("class_name", ""))


def name_of(entry: Entry) -> str:
    """The name; what has none is called by its class."""
    return str(config_of(entry).get("name") or entry.get("name") or kind_of(entry).lower())


def tensors(given: Any) -> list[Tensor]:
    """All tensors in what a configuration gives: one, or a list of them, in any dialect."""
    if isinstance(given, Mapping):
        return tensors(config_of(given).get("keras_history")) if kind_of(given) == "__keras_tensor__" else []
    if not isinstance(given, list):
        return []
    if len(given) >= 3 and isinstance(given[0], str):
        return [Tensor(given[0], int(given[1]), int(given[2]))]
    return [tensor for each in given for tensor in tensors(each)]


class Graph:
    """The layers of one functional model and their calls.

    Attributes:
        layers: the entries by name.
        wrong: why it is no chain, a sentence for each layer with several inputs or unknown arguments, and for several inputs or
            outputs of the model.
    """

    def __init__(self, config: Entry, layers: list[Entry]) -> None:
        self.layers = {name_of(entry): entry for entry in layers}
        self._calls = {
            name: [_call(node) for node in entry.get("inbound_nodes") or []] for name, entry in self.layers.items()
        }
        ends = tensors(config.get("output_layers"))
        self._first = self._numbers(ends)
        self.wrong = [
            why for entry in layers for call in self._calls[name_of(entry)] for why in self._wrong(entry, call)
        ]
        for what, found in (("inputs", tensors(config.get("input_layers"))), ("outputs", ends)):
            if len(found) != 1:
                self.wrong.append(f"The model has {len(found)} {what}, and a chain has one.")
        self._ends = ends

    def _numbers(self, ends: list[Tensor]) -> dict[str, int]:
        """The number of the first call of each layer: Keras 2 also counts the calls by which a nested model was made."""
        last: dict[str, int] = {}
        for tensor in [*ends, *(source for calls in self._calls.values() for call in calls for source in call.sources)]:
            last[tensor.layer] = max(tensor.call, last.get(tensor.layer, 0))
        return {name: max(last.get(name, 0) + 1 - len(calls), 0) for name, calls in self._calls.items() if calls}

    def _wrong(self, entry: Entry, call: Call) -> Iterator[str]:
        """What is wrong with a call that has several inputs, or arguments that are not modelled."""
        label = f"The layer {name_of(entry)!r} ({kind_of(entry)})"
        if len(call.sources) != 1:
            yield f"{label} has {len(call.sources)} inputs, and the model is no chain."
        elif call.sources[0].output:
            yield f"{label} reads another output of {call.sources[0].layer!r} than the first, and the model is no chain."
        if call.options:
            yield f"{label} is called with {' and '.join(call.options)}, which is not modelled."

    def arguments(self, name: str) -> tuple[Any, ...]:
        """What a layer is first called with beside its input."""
        return self._calls[name][0].arguments if self._calls[name] else ()

    def call(self, tensor: Tensor) -> Call | None:
        """The call that puts out a tensor; None for an input."""
        calls = self._calls.get(tensor.layer)
        if calls is None:
            raise UnsupportedError(f"The model reads a layer {tensor.layer!r} that it does not have; save it again.")
        number = tensor.call - self._first.get(tensor.layer, 0)
        if calls and not 0 <= number < len(calls):
            raise UnsupportedError(f"The layer {tensor.layer!r} has no call number {number}; save the model again.")
        return calls[number] if calls else None

    def route(self) -> list[Tensor]:
        """What is put out from the input to the output of the model, which are all its calls.

        Raises:
            UnsupportedError: something is ``wrong``, or there are branches; the sentence names all of them.
        """
        if self.wrong:
            raise ObstaclesError(self.wrong)
        found = self._ends[:]
        calls = Counter(tensor.layer for tensor in found)
        seen = set(found)
        while (call := self.call(found[-1])) is not None:
            if call.sources[0] in seen:
                raise UnsupportedError(
                    f"The layer {found[-1].layer!r} reads its own output, and the model is no chain."
                )
            found.append(call.sources[0])
            seen.add(call.sources[0])
            calls[call.sources[0].layer] += 1
        masks = [call.mask for t in found if (call := self.call(t)) is not None and call.mask is not None]
        beside = {op.layer for mask in masks for op in self._operations(mask)}
        branches = []
        for name, entry in self.layers.items():
            # The calls by which something is made besides the path to the output.
            if name not in beside and (not calls[name] or calls[name] < len(self._calls[name])):
                branches.append(
                    f"The layer {name!r} ({kind_of(entry)}) stands on a branch of its own, and the model is no chain."
                )
        if branches:
            raise ObstaclesError(branches)
        return found[::-1]

    def _operations(self, mask: Tensor) -> list[Tensor]:
        """The operations that make a mask, from the last to the first."""
        found = [mask]
        while kind_of(self.layers.get(found[-1].layer, {})) in MASK_OPERATIONS and len(found) <= len(self.layers):
            call = self.call(found[-1])
            if call is None:
                break
            found.append(call.sources[0])
        return found[:-1]

    def takes_mask(self, route: list[Tensor], at: int) -> bool:
        """Whether the layer at a place on the route is told to use the mask that a layer before it has made.

        Raises:
            UnsupportedError: it is told to use another one.
        """
        call = self.call(route[at])
        if call is None or call.mask is None:
            return False
        operations = self._operations(call.mask)
        first = self.call(operations[-1]) if operations else None
        makers = [i for i, t in enumerate(route[:at]) if kind_of(self.layers[t.layer]) in ("Embedding", "Masking")]
        if first is None or not makers or first.sources[0] != route[makers[-1] - 1]:
            raise UnsupportedError(f"The layer {route[at].layer!r} is given a mask of its own, which is not modelled.")
        value = config_of(self.layers[route[makers[-1]].layer]).get("mask_value", 0)
        if first.arguments != (value,):
            raise UnsupportedError(f"The layer {route[at].layer!r} is given a mask of its own, which is not modelled.")
        return True


def _call(node: Any) -> Call:
    """One node, in the words of Keras 1 and 2 (a list of tensors, some with arguments), or of Keras 3."""
    if isinstance(node, Mapping):
        first, *rest = node.get("args") or [None]
        options = dict(node.get("kwargs") or {})
        mask = tensors(options.pop("mask", None))
        return Call(tensors(first), mask[0] if mask else None, tuple(rest), _given(options))
    entries = [node] if node and isinstance(node[0], str) else node
    options = {name: value for entry in entries if len(entry) > 3 for name, value in entry[3].items()}
    arguments = (options.pop("slice_spec"),) if "slice_spec" in options else ()
    return Call(tensors(entries), None, arguments, _given(options))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None and value is not False}
