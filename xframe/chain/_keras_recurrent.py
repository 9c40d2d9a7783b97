"""Recurrent Keras layers as steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from xframe.chain._keras_graph import kind_of
from xframe.chain._keras_options import check_options, flag, function, inner, refused
from xframe.chain._keras_path import Place
from xframe.chain._keras_plain import Reached
from xframe.chain._keras_weights import Weights
from xframe.chain.base import Step
from xframe.spec import Recurrent

__all__ = ["RECURRENT", "recurrent"]

_CELL = (
    "units output_dim activation recurrent_activation inner_activation use_bias unit_forget_bias dropout recurrent_dropout "
    "dropout_W dropout_U implementation consume_less reset_after proj_size cells"
).split()
_LOOP = "return_sequences go_backwards stateful unroll zero_output_for_mask cell".split()
_WRAPPER = "layer backward_layer merge_mode".split()
RECURRENT = ("LSTM", "GRU", "SimpleRNN", "LSTMV2", "GRUV2", "CuDNNLSTM", "CuDNNGRU", "RNN")


def recurrent(place: Place, reached: Reached, weights: Weights) -> list[Step]:
    """The steps of a recurrent layer, of which a mask may make two."""
    loops = list(_loops(place))
    for options in (place.options, *loops):
        check_options(place, [*_CELL, *_LOOP, *_WRAPPER], options)
    loop, both, masked = loops[0], place.kind == "Bidirectional", reached[1]
    if both and place.options.get("merge_mode") is None:
        raise refused(place, "has merge_mode=None and two outputs, and the model is no chain")
    sequence = flag(replace(place, options=loop), "return_sequences", False)
    zeros = sequence and not _repeats(weights.version) if both else bool(loop.get("zero_output_for_mask"))
    if masked:
        _refuse_masked(place, loops, both, zeros)
    reading, tensors = weights.reading(place)
    spec = reading.spec
    if loop.get("stateful") and not (isinstance(spec, Recurrent) and spec.stateful):
        raise refused(place, "keeps its states between calls, for a batch of a size that the file does not tell")
    if masked and isinstance(spec, Recurrent):
        # What a layer of two directions puts out at masked steps does not matter where only its last output is handed on.
        spec = replace(spec, mask="any", masked_output="zero" if zeros or (both and not sequence) else "repeat")
    # One way with zeros at masked steps, the last output is zero too where the last step is masked.
    cut = masked and zeros and not both and not sequence
    step = Step(
        place.name,
        "recurrent",
        {"sequence": sequence or cut},
        spec,
        partial(reading.blocks, weights.file),
        tensors,
    )
    return [step, Step(f"{place.name}/last", "last")] if cut else [step]


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
