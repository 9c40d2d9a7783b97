"""Recurrent layers as source code for Keras, and what fills them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xframe.adapters.keras import KERAS
from xframe.errors import UnsupportedError
from xframe.escaping import in_source
from xframe.graph.kinds.recurrent import slots
from xframe.spec import Recurrent
from xframe.writers.base import Part, Plan, bias_notes, packed, recurrent

__all__ = ["Made", "common", "function", "layer_text", "recurrent_layers"]

# Of a call on one line: what is left of 120 after the indentation of three lists and a comma.
_WIDTH = 90
# Activation functions that Keras 3 has not; they are in the template.
_OURS = ("hard_sigmoid_keras2",)
_CLASSES = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}


@dataclass(frozen=True)
class Made:
    """What one node becomes: Keras layers as source code, each a text of one or more lines, and what fills them.

    Attributes:
        layers: the source code.
        fill: (the built Keras layers, float type) -> pairs of a variable and its numbers.
        notes: what is to be said.
        given: for each layer, what it is called with behind what it reads, as source code; empty for nothing.
        states: for each layer the variables of the states that it puts out behind its output; empty for none.
        merges: whether it reads its values as a list.
        reads: what it is called with, as source code, where that is neither a list nor the first value.
        expression: what it computes, where that is no layer.
    """

    layers: list[str]
    fill: Callable[[list[Any], str], Iterator[tuple[Any, np.ndarray]]] | None = None
    notes: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    states: tuple[list[str], ...] = ()
    merges: bool = False
    reads: str = ""
    expression: str = ""


def _called(function: str, given: list[str]) -> str:
    """A call as source code: on one line, or with an argument a line where that is too long."""
    line = f"{function}({', '.join(given)})"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    return "\n".join([f"{function}(", *(f"    {part}" for one in given for part in f"{one},".split("\n")), ")"])


def layer_text(whole: Plan, name: str, kind: str, *given: str) -> str:
    """A layer as source code, with its name and, unless it is float32, its type."""
    return _called(f"keras.layers.{kind}", [*given, *common(whole, name)])


def common(whole: Plan, name: str) -> list[str]:
    """What every layer is given: its name and, unless it is float32, its type."""
    return [f'name="{name}"', *([] if whole.dtype == "float32" else [f'dtype="{whole.dtype}"'])]


def function(name: str) -> str:
    """An activation function as source code."""
    return name if name in _OURS else f'"{name}"'


def recurrent_layers(part: Part, whole: Plan) -> Made:
    """The Keras layers of a recurrent node, one for each layer of its stack."""
    # One layer is called everywhere; what one of the calls needs of it, all of them get.
    masked = (one.spec for one in part.calls if isinstance(one.spec, Recurrent) and one.spec.mask)
    spec = next(masked, recurrent(part))
    notes = list(bias_notes(part.node.params(), KERAS.natives(spec)))
    if spec.merge_mode is None:
        notes.append("its two directions are handed on beside each other, by concat")
    if part.masked and len(part.given) > 1:
        raise UnsupportedError(
            f"In Keras 3 a layer that is given initial states does not look at the mask that comes with its input, and "
            f"{in_source(part.node.name)} does; convert it to torch."
        )
    stateful = part.ever_given_states or part.ever_hands_states
    if stateful and any(len(spec.column(d)) > 1 for d in range(spec.num_directions)):
        raise UnsupportedError(
            f"Keras takes and hands on the states of stacked cells as lists in lists, which xframe does not write, and those of "
            f"{in_source(part.node.name)} are used; convert it to torch."
        )
    if len({bool(one.options["sequence"]) for one in part.calls}) > 1:
        raise UnsupportedError(
            f"The layer {in_source(part.node.name)} hands on its whole sequence at one call and its last output at another, as "
            "no layer of Keras does; convert it to torch."
        )
    layers, given, states = list[str](), list[str](), list[list[str]]()
    for k in range(spec.num_layers):
        if k and spec.dropout:
            layers.append(layer_text(whole, f"{part.name}__dropout_{k}", "Dropout", repr(spec.dropout)))
            given.append("")
            states.append([])
        mine = [i for i, slot in enumerate(slots(spec), 1) if slot.layer == k or spec.num_layers == 1]
        initial = [part.given[i] for i in mine] if len(part.given) > 1 else []
        given.append(f", initial_state=[{', '.join(initial)}]" if initial else "")
        unread = ["*_"] if part.ever_hands_states else []
        states.append([part.made[i] for i in mine] if len(part.made) > 1 else unread)
        # No layer has two underscores in its name.
        name = f"{part.name}__{k}" if spec.num_layers > 1 else part.name
        sequence = part.node.options["sequence"] or k + 1 < spec.num_layers
        layers.append(_one(spec, whole, name, sequence, part.ever_hands_states))

    def fill(built: list[Any], dtype: str) -> Iterator[tuple[Any, np.ndarray]]:
        mine = [one for one in built if type(one).__name__ != "Dropout"]
        natives = {native.name: native.leaves[0] for native in KERAS.natives(spec)}
        for name, array in packed(KERAS, spec, part.node.params(), dtype):
            yield getattr(_cell_of(mine, spec, natives[name]), name.rsplit("/", 1)[-1]), array

    return Made(layers, fill, tuple(notes), tuple(given), tuple(states))


def _cell_of(built: list[Any], spec: Recurrent, leaf: Any) -> Any:
    """The Keras cell of one layer and direction."""
    layer = built[leaf.layer if spec.num_layers > 1 else 0]
    half = [layer.forward_layer, layer.backward_layer][leaf.direction] if spec.bidirectional else layer
    return half.cell.cells[leaf.layer] if hasattr(half.cell, "cells") else half.cell


def _one(spec: Recurrent, whole: Plan, name: str, sequence: bool, state: bool) -> str:
    """One Keras layer of a stack, in all its directions."""
    if not spec.bidirectional:
        return _half(spec, whole, 0, sequence, name, state)
    given = [_half(spec, whole, 0, sequence, f"{name}_forward", state)]
    # Without one, Bidirectional takes a copy of the forward layer, which reads the other way.
    if spec.backward is not None or spec.go_backwards:
        given.append(f"backward_layer={_half(spec, whole, 1, sequence, f'{name}_backward', state)}")
    if spec.merge_mode not in ("concat", None):
        given.append(f'merge_mode="{spec.merge_mode}"')
    return _called("keras.layers.Bidirectional", [*given, *common(whole, name)])


def _half(spec: Recurrent, whole: Plan, direction: int, sequence: bool, name: str, state: bool) -> str:
    """One direction of a layer."""
    column = spec.column(direction)
    options = []
    if sequence:
        options.append("return_sequences=True")
    if state:
        options.append("return_state=True")
    if spec.go_backwards != bool(direction):
        options.append("go_backwards=True")
    if spec.stateful:
        options.append("stateful=True")
    if sequence and spec.masked_output == "zero" and not spec.bidirectional:
        options.append("zero_output_for_mask=True")
    options += common(whole, name)
    if len(column) == 1 and not column[0].proj_size:
        return _called(f"keras.layers.{_CLASSES[column[0].cell]}", [*_cell_options(column[0]), *options])
    cells = [_cell(part, whole) for part in column]
    listed = cells[0] if len(cells) == 1 else "\n".join(["[", *(f"    {cell}," for cell in cells), "]"])
    return _called("keras.layers.RNN", [listed, *options])


def _cell(part: Recurrent, whole: Plan) -> str:
    kind = "ProjectedLSTMCell" if part.proj_size else f"keras.layers.{_CLASSES[part.cell]}Cell"
    given = _cell_options(part)
    given[1:1] = [str(part.proj_size)] if part.proj_size else []
    return f"{kind}({', '.join([*given, *common(whole, 'cell')[1:]])})"


def _cell_options(part: Recurrent) -> list[str]:
    """What differs from Keras's defaults."""
    given = [str(part.hidden_size)]
    if part.activation != "tanh":
        given.append(f"activation={function(str(part.activation))}")
    if part.recurrent_activation not in (None, "sigmoid"):
        given.append(f"recurrent_activation={function(str(part.recurrent_activation))}")
    if not part.bias:
        given.append("use_bias=False")
    if part.reset_after is False:
        given.append("reset_after=False")
    if part.input_dropout:
        given.append(f"dropout={part.input_dropout!r}")
    if part.recurrent_dropout:
        given.append(f"recurrent_dropout={part.recurrent_dropout!r}")
    # Drawing an orthogonal matrix takes long, and the weights are loaded.
    return [*given, 'recurrent_initializer="zeros"']
