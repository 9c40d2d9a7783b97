"""Which layer of a functional Keras model reads what, from the configuration of Keras 1, 2 or 3.

A functional model's entries list the calls of each layer ("nodes") with what they are given. Keras 1 and 2 write a tensor as
``[layer, call, output]``, some with arguments by name behind it, Keras 3 as
``{"class_name": "__keras_tensor__", "config": {"keras_history": [layer, call, output]}}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xframe.errors import UnsupportedError
from xframe.graph.keras._entries import Entry, config_of, kind_of, name_of

__all__ = ["Call", "Calls", "Tensor", "found_in", "replaced", "tensors"]

# What TensorFlow writes in the place of a layer for an argument that is no tensor.
_CONSTANT = "_CONSTANT_VALUE"
# Far above any model's: one that is called twice in one that is called twice, and so on, would have no end.
MOST = 10_000


class Tensor(NamedTuple):
    """What a layer puts out: its name, which of its calls, which of its outputs."""

    layer: str
    call: int
    output: int


@dataclass(frozen=True)
class Call:
    """What a layer is called with: positional arguments and those by name, in which tensors are `Tensor`."""

    arguments: tuple[Any, ...]
    options: Mapping[str, Any]


def found_in(given: Any) -> Iterator[Tensor]:
    """All tensors in arguments, in order."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, list | tuple):
        for each in given:
            yield from found_in(each)
    elif isinstance(given, Mapping):
        for each in given.values():
            yield from found_in(each)


def replaced(given: Any, by: Callable[[Tensor], Any]) -> Any:
    """The arguments with something else in the place of each tensor."""
    if isinstance(given, Tensor):
        return by(given)
    if isinstance(given, list | tuple):
        return type(given)(replaced(each, by) for each in given)
    return {name: replaced(each, by) for name, each in given.items()} if isinstance(given, Mapping) else given


def tensors(given: Any) -> list[tuple[str, Tensor]]:
    """The inputs or outputs that a configuration lists: one, a list of them, or by name, in any dialect; with names or none."""
    if isinstance(given, Mapping):
        return [(str(name), one[1]) for name, each in given.items() for one in tensors(each)]
    if not isinstance(given, list):
        return []
    if len(given) >= 3 and isinstance(given[0], str):
        return [("", Tensor(given[0], int(given[1]), int(given[2])))]
    return [tensor for each in given for tensor in tensors(each)]


class Calls:
    """The layers of one functional model and their calls.

    Attributes:
        layers: the entries by name.
        inputs, outputs: each with the name that the model has for it, or none.
    """

    def __init__(self, config: Entry, layers: list[Entry]) -> None:
        self.layers = {name_of(entry): entry for entry in layers}
        self._calls = {
            name: [_call(node) for node in entry.get("inbound_nodes") or []] for name, entry in self.layers.items()
        }
        self.inputs, self.outputs = (tensors(config.get(f"{what}_layers")) for what in ("input", "output"))
        self._first = self._numbers()

    def _numbers(self) -> dict[str, int]:
        """The number of the first call of each layer: Keras 2 also counts the calls by which a nested model was made."""
        last: dict[str, int] = {}
        read = (t for calls in self._calls.values() for call in calls for t in found_in((call.arguments, call.options)))
        for tensor in (*(tensor for _, tensor in self.outputs), *read):
            last[tensor.layer] = max(tensor.call, last.get(tensor.layer, 0))
        return {name: max(last.get(name, 0) + 1 - len(calls), 0) for name, calls in self._calls.items() if calls}

    def call(self, tensor: Tensor) -> Call | None:
        """The call that puts out a tensor; None for an input."""
        calls = self._calls.get(tensor.layer)
        if calls is None:
            raise UnsupportedError(f"The model reads a layer {tensor.layer!r} that it does not have; save it again.")
        number = tensor.call - self._first.get(tensor.layer, 0)
        if calls and not 0 <= number < len(calls):
            raise UnsupportedError(f"The layer {tensor.layer!r} has no call number {number}; save the model again.")
        return calls[number] if calls else None

    def in_order(self) -> list[tuple[str, int]]:
        """The calls on which the outputs depend, by layer and number, each after those that it reads.

        Raises:
            UnsupportedError: a layer reads its own output, or there are absurdly many.
        """
        done, open_, order = set[tuple[str, int]](), set[tuple[str, int]](), list[tuple[str, int]]()
        # Not by recursion: a model may be deeper than Python allows.
        todo = [(tensor.layer, tensor.call) for _, tensor in reversed(self.outputs)]
        todo[:0] = [(tensor.layer, tensor.call) for _, tensor in reversed(self.inputs)]
        while todo:
            one = todo[-1]
            if one in done:
                todo.pop()
                continue
            call = self.call(Tensor(*one, 0))
            read = [] if call is None else [(t.layer, t.call) for t in found_in((call.arguments, call.options))]
            waiting = [each for each in dict.fromkeys(read) if each not in done]
            if not waiting:
                todo.pop()
                done.add(one)
                order.append(one)
                continue
            if one in open_:
                raise UnsupportedError(f"The layer {one[0]!r} reads its own output; save the model again.")
            open_.add(one)
            todo += reversed(waiting)
            if len(todo) + len(order) > 4 * MOST:
                raise UnsupportedError(f"The model runs more than {MOST:,} layers, which is not modelled.")
        return order


def _call(node: Any) -> Call:
    """One node, in the words of Keras 1 and 2 (a list of tensors, some with arguments), or of Keras 3."""
    if isinstance(node, Mapping):
        options = _resolved(node.get("kwargs") or {})
        return Call(tuple(_resolved(node.get("args") or [])), _given(options))
    if not isinstance(node, list):
        raise UnsupportedError(
            "A layer is called with something that is neither Keras 1, 2 nor 3; save the model again."
        )
    entries = [node] if node and isinstance(node[0], str) else node
    options, read = dict[str, Any](), []
    for entry in entries:
        name, call, output, *rest = entry
        for key, value in (rest[0] if rest else {}).items():
            options[key] = _legacy(value)
        read.append(output if name == _CONSTANT else Tensor(str(name), int(call), int(output)))
    more = (options.pop("slice_spec"),) if "slice_spec" in options else ()
    return Call((read[0] if len(read) == 1 else read, *more), _given(options))


def _resolved(given: Any) -> Any:
    """What Keras 3 writes, with its tensors found."""
    if isinstance(given, Mapping):
        if kind_of(given) == "__keras_tensor__":
            layer, call, output = config_of(given)["keras_history"]
            return Tensor(str(layer), int(call), int(output))
        return {name: _resolved(each) for name, each in given.items()}
    return [_resolved(each) for each in given] if isinstance(given, list) else given


def _legacy(value: Any) -> Any:
    """An argument by name of Keras 2, which may be a tensor, or a list of tensors."""
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and all(isinstance(one, int) for one in value[1:3]):
            return Tensor(value[0], value[1], value[2])
        return [_legacy(each) for each in value]
    return value


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None and value is not False}
