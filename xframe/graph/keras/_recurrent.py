"""Recurrent Keras layers as nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from xframe.graph.keras._called import Called, Made, Read, reads_in
from xframe.graph.keras._entries import Place, kind_of
from xframe.graph.keras._options import check_options, flag, function, inner, refused
from xframe.graph.keras._weights import Weights
from xframe.graph.kinds.recurrent import slots
from xframe.graph.node import Node
from xframe.spec import Recurrent

__all__ = ["RECURRENT", "initial", "recurrent"]

_CELL = (
    "units output_dim activation recurrent_activation inner_activation use_bias unit_forget_bias dropout recurrent_dropout "
    "dropout_W dropout_U implementation consume_less reset_after proj_size cells"
).split()
_LOOP = "return_sequences return_state go_backwards stateful unroll zero_output_for_mask cell".split()
_WRAPPER = "layer backward_layer merge_mode".split()
RECURRENT = ("LSTM", "GRU", "SimpleRNN", "LSTMV2", "GRUV2", "CuDNNLSTM", "CuDNNGRU", "RNN")


def recurrent(called: Called, weights: Weights) -> Made:
    """The nodes of a recurrent layer, of which a mask may make two."""
    place, x = called.place, called.reads[0]
    loops = list(_loops(place))
    for options in (place.options, *loops):
        check_options(place, [*_CELL, *_LOOP, *_WRAPPER], options)
    loop, both = loops[0], place.kind == "Bidirectional"
    apart = both and place.options.get("merge_mode", "concat") is None
    states = initial(called)
    # Since Keras 3 a layer that is given initial states does not look at the mask that comes with what it reads.
    unmasked = x.masked and bool(states) and not re.match(r"[12]\.", weights.version)
    masked = x.masked and not unmasked
    sequence = flag(replace(place, options=loop), "return_sequences", False)
    zeros = sequence and not _repeats(weights.version) if both else bool(loop.get("zero_output_for_mask"))
    if apart and masked and sequence:
        raise refused(
            place,
            "has merge_mode=None and hands a mask on with both of its outputs, which is not modelled; leave the mask out",
        )
    if masked:
        _refuse_masked(place, loops, both, zeros)
    reading, tensors = weights.reading(place)
    spec = reading.spec
    if loop.get("stateful") and not (isinstance(spec, Recurrent) and spec.stateful):
        raise refused(place, "keeps its states between calls, for a batch of a size that the file does not tell")
    if states and loop.get("stateful"):
        raise refused(place, "is stateful and given initial states, which is not modelled")
    if masked and isinstance(spec, Recurrent):
        # What a layer of two directions puts out at masked steps does not matter where only its last output is handed on.
        spec = replace(spec, mask="any", masked_output="zero" if zeros or (both and not sequence) else "repeat")
    # One way with zeros at masked steps, the last output is zero too where the last step is masked.
    cut = masked and zeros and not both and not sequence
    y = called.fresh(place.name)
    writes = [called.fresh(f"{place.name}/sequence") if cut else y]
    if isinstance(spec, Recurrent) and flag(replace(place, options=loop), "return_state", False):
        halves = ("forward ", "backward ") if both else ("", "")
        several = len(spec.column(0)) > 1
        for slot in slots(spec):
            number = f" {slot.layer}" if several else ""
            writes.append(called.fresh(f"{place.name}/{halves[slot.direction]}{slot.cell_name}{number}"))
    node = Node(
        place.name,
        "recurrent",
        {"sequence": sequence or cut, **({"unmasked": True} if unmasked else {})},
        spec,
        partial(reading.blocks, weights.file),
        tensors,
        reads=(x.name, *(state.name for state in states)),
        writes=tuple(writes),
    )
    if apart and isinstance(spec, Recurrent):
        return _apart(called, node, spec)
    if not cut:
        return Made([node], writes)
    last = Node(f"{place.name}/last", "last", reads=(writes[0],), writes=(y,))
    return Made([node, last], [y, *writes[1:]])


def _apart(called: Called, node: Node, spec: Recurrent) -> Made:
    """A layer that hands its two directions on by themselves: what they put out beside each other, split into two."""
    name, beside = node.name, called.fresh(f"{node.name}/both")
    y, *states = node.writes
    halves = (y, called.fresh(f"{name}/backward"))
    both = replace(node, spec=replace(spec, merge_mode="concat"), writes=(beside, *states))
    at = {"axis": -1, "at": (spec.column(0)[-1].state_size,)}
    return Made([both, Node(f"{name}/apart", "split", at, reads=(beside,), writes=halves)], [*halves, *states])


def initial(called: Called) -> list[Read]:
    """The initial states that a layer is given: behind the input, in a list with it, or by name."""
    options = dict(called.options)
    given = [
        *called.reads[1:],
        *(read for one in called.arguments[1:] for read in reads_in(one)),
        *reads_in(options.pop("initial_state", [])),
    ]
    if options:
        raise refused(called.place, f"is called with {' and '.join(options)}, which is not modelled")
    return given


def _loops(place: Place) -> Iterator[Mapping[str, Any]]:
    """The options of what runs over time, one for each direction that is given, and, after them, of all cells."""
    holders = [place.options]
    if place.kind == "Bidirectional":
        holders = [inner(place, place.options[n], RECURRENT) for n in _WRAPPER[:2] if place.options.get(n)]
    yield from holders
    for options in holders:
        yield from _cells(place, options)


def _cells(place: Place, options: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("activation", "recurrent_activation", "inner_activation"):
        if isinstance(options.get(name), Mapping):
            function(place, options[name], "")
    cell = options.get("cell") or options.get("cells")
    for entry in cell if isinstance(cell, list) else [cell] if cell else []:
        config = inner(place, entry)
        yield config
        yield from _cells(place, config)


def _repeats(version: str) -> bool:
    """Whether Bidirectional repeats its output at masked steps: before it was part of TensorFlow it did not write zeros."""
    return bool(re.match(r"1\.|2\.[0-3](\.|$)", version)) and "-tf" not in version


def _refuse_masked(place: Place, loops: list[Mapping[str, Any]], both: bool, zeros: bool) -> None:
    """Refuse what Keras cannot do, or gets wrong, with a mask."""
    kinds = [kind_of(place.options[n]) for n in _WRAPPER[:2] if both and place.options.get(n)] or [place.kind]
    if any(kind.startswith("CuDNN") for kind in kinds):
        raise refused(place, "is reached by a mask, which it cannot use")
    if zeros and loops[0].get("unroll") and (both or loops[0].get("go_backwards")):
        raise refused(
            place, "is reached by a mask and has unroll=True, with which Keras writes its zeros at the wrong time steps"
        )
