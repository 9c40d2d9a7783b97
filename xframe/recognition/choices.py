"""What a file leaves open, and how the user settles it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from xframe.adapters import known_packings
from xframe.errors import SpecError, UnsupportedError
from xframe.files.base import ModelFile
from xframe.recognition.findings import FoundLayer, Reading
from xframe.recognition.tables import KERAS1, KERAS1_GPU, KERAS_APART, THEANO, by_gate, onnx_arrays
from xframe.spec import Recurrent

__all__ = ["Choices", "era", "opened", "settled"]

# What TensorFlow 1's cells add to the forget gate's bias unless told otherwise.
FORGET_BIAS = 1.0
_GATED = ("lstm", "gru")
_PER_DIRECTION = ("activation", "recurrent_activation")


@dataclass(frozen=True)
class Choices:
    """What the user says of the layers of a file; None where he says nothing.

    Args:
        packing: a name of `xframe.adapters.known_packings`, or ``keras1``, ``keras1-gpu``, ``onnx-arrays``, ``theano``,
            ``gates`` or ``gates-rows``.
        cell, activation, recurrent_activation, reset_after, go_backwards: as of `xframe.Recurrent`.
        merge_mode: likewise; ``"none"`` for outputs that are not merged.
        forget_bias: what TensorFlow 1 added to the forget gate's bias.
    """

    packing: str | None = None
    cell: str | None = None
    activation: str | None = None
    recurrent_activation: str | None = None
    reset_after: bool | None = None
    go_backwards: bool | None = None
    merge_mode: str | None = None
    forget_bias: float | None = None

    def __post_init__(self) -> None:
        own = (KERAS1, KERAS1_GPU, onnx_arrays(), THEANO, *by_gate())
        known = [*known_packings(), *(packing.name for packing in own)]
        if self.packing is not None and self.packing not in known:
            raise SpecError(f"packing must be one of {', '.join(known)}, not {self.packing!r}.")

    def given(self) -> Iterator[tuple[str, Any]]:
        """What was said, by option."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                yield field.name, None if (field.name, value) == ("merge_mode", "none") else value


# ---- What is open.


def era(file: ModelFile) -> tuple[tuple[str, ...], str]:
    """The gates' activations that Keras may have had by default when it wrote a file, the likelier first, and why."""
    version = file.metadata.get("keras_version", "")
    match = re.match(r"(\d+)\.(\d+)", version)
    if file.format in ("keras", "keras-weights") or (match and int(match[1]) >= 3):
        return ("sigmoid",), ""
    since = "today's default is sigmoid"
    if match is None:
        return ("sigmoid", "hard_sigmoid_keras2"), (
            f"The file does not say which Keras wrote it: before 2.3 the default was hard_sigmoid, {since}."
        )
    number, tensorflow = (int(match[1]), int(match[2])), version.endswith("-tf")
    if number >= (2, 3):
        return ("sigmoid",), ""
    if tensorflow and number == (2, 2):
        return ("sigmoid", "hard_sigmoid_keras2"), (
            f"Keras {version} came with TensorFlow 1.14 to 2.1: in TensorFlow 1 the default was hard_sigmoid, in TensorFlow 2 "
            "it is sigmoid."
        )
    return ("hard_sigmoid_keras2", "sigmoid"), f"The default of Keras {version} was hard_sigmoid, {since}."


def opened(file: ModelFile, reading: Reading) -> list[Reading]:
    """The readings that remain when one is from tensors alone, and so says nothing of what is in no tensor."""
    spec, packing = reading.spec, reading.packing.name
    if not isinstance(spec, Recurrent):
        return [reading]
    free = ["go_backwards"] if packing.startswith("keras") and spec.form == "layer" else []
    if spec.bidirectional and packing.startswith("keras"):
        free.append("merge_mode")
    if packing in ("keras", KERAS1.name, KERAS1_GPU.name, KERAS_APART.name):
        return _keras(file, replace(reading, open=("activation", *free)))
    reading = replace(reading, open=tuple(free))
    if packing == "torch" and spec.cell == "rnn":
        note = "The nonlinearity of PyTorch's RNN is in no tensor: it is tanh, or relu if it was told so."
        return _each(reading, "activation", ("tanh", "relu"), note)
    if packing == "tf1" and spec.cell == "lstm":
        note = "TensorFlow 1 adds forget_bias, 1 unless told otherwise, to the forget gate when it runs; it is in no tensor."
        return [replace(reading, forget_bias=FORGET_BIAS, evidence=(*reading.evidence, note))]
    return [reading]


def _keras(file: ModelFile, reading: Reading) -> list[Reading]:
    if reading.spec.cell not in _GATED and not getattr(reading.spec, "backward", None):
        return [reading]
    likely, why = era(file)
    if reading.packing.name in (KERAS1.name, KERAS1_GPU.name):
        likely, why = ("hard_sigmoid_keras2", "sigmoid"), "The default of Keras 1 was hard_sigmoid, today's is sigmoid."
    opens = replace(reading, open=("recurrent_activation", *reading.open))
    return _each(opens, "recurrent_activation", likely, why)


def _each(reading: Reading, option: str, values: tuple[str, ...], note: str) -> list[Reading]:
    found = []
    for value in values:
        one = reading.described(_told(reading.spec, option, value))
        found.append(replace(one, evidence=(*reading.evidence, *([note] if note else []))))
    return found


def _told(spec: Any, option: str, value: Any) -> Any:
    """The spec with an option, which activations have in both directions, where the cell has it."""
    changes = {option: value} if getattr(spec, option) is not None or option == "merge_mode" else {}
    if option in _PER_DIRECTION and spec.backward is not None:
        changes["backward"] = _told(spec.backward, option, value)
    return replace(spec, **changes)


# ---- How it is settled.


def settled(layers: list[FoundLayer], choices: Choices) -> list[FoundLayer]:
    """The layers with the readings that agree with the choices.

    A choice is for the layers that leave it open; what the others say stays.

    Raises:
        SpecError: a choice makes no sense, or contradicts every layer that has the option.
    """
    for option, value in choices.given():
        layers = _choose(layers, option, value)
    return [replace(layer, readings=_distinct(_framework_s_own(layer.readings))) for layer in layers]


def _choose(layers: list[FoundLayer], option: str, value: Any) -> list[FoundLayer]:
    taken, against = False, ""
    done = []
    for layer in layers:
        told = [_chosen(reading, option, value) for reading in layer.readings]
        kept = list({(r.packing.name, r.spec, tuple(r.tensors.items())): r for r in told if r is not None}.values())
        relevant = any(_has(reading, option) for reading in layer.readings)
        if relevant and kept:
            taken = True
            layer = replace(layer, readings=tuple(kept))
        elif relevant:
            against = (
                against or f", and {layer.name!r} is {layer.readings[0].spec} of {layer.readings[0].packing.title}"
            )
        done.append(layer)
    if not taken:
        raise SpecError(f"{option}={value!r} is true of no layer in this file{against}; leave it out.")
    return done


def _has(reading: Reading, option: str) -> bool:
    """Whether a layer has the option at all."""
    spec = reading.spec
    if option == "forget_bias":
        return bool(reading.forget_bias)
    if option == "packing":
        return True
    if option == "merge_mode":
        return isinstance(spec, Recurrent) and spec.bidirectional
    value = getattr(spec, option, None)
    return isinstance(spec, Recurrent) and value is not None


def _chosen(reading: Reading, option: str, value: Any) -> Reading | None:
    """The reading with a choice made, or None where it says otherwise."""
    if option == "packing":
        return reading if reading.packing.name == value else None
    if not _has(reading, option):
        return None
    if option == "forget_bias":
        return replace(reading, forget_bias=float(value))
    if option not in reading.open:
        return reading if getattr(reading.spec, option) == value else None
    try:
        one = reading.described(_told(reading.spec, option, value))
    except UnsupportedError:
        return None
    rest = tuple(name for name in reading.open if name != option)
    return replace(one, open=rest, evidence=(*reading.evidence, f"You say that {option} is {value!r}."))


def _framework_s_own(readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
    """The readings without those of xframe's own layers, where the framework's own has such tensors too."""
    own = {r.packing.name for r in readings if not r.packing.why_ours(r.spec)}
    return tuple(r for r in readings if r.packing.name not in own or not r.packing.why_ours(r.spec))


def _distinct(readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
    """The readings without those that take the same numbers for the same blocks of the same layer, in another's name."""
    found: dict[object, Reading] = {}
    for reading in readings:
        natives = reading.packing.natives(reading.spec)
        blocks = frozenset((reading.tensors[native.name], native.tree) for native in natives)
        options = tuple(value for name, value in reading.spec.options().items() if name != "form")
        found.setdefault((type(reading.spec), options, blocks), reading)
    return tuple(found.values())
