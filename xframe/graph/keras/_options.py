"""Options of Keras layers, from Keras 1 to 3: each is modelled, or without effect at inference, or refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from xframe.activations import check_activation
from xframe.errors import UnsupportedError
from xframe.graph.keras._entries import Place, config_of, kind_of, package_of
from xframe.recognition import policy

__all__ = [
    "WORDS",
    "activation",
    "check_options",
    "choice",
    "flag",
    "function",
    "inner",
    "last_axis",
    "number",
    "refused",
    "whole",
]

# How a layer was initialised, regularised and trained, how it is named, and what shape it was told to expect.
_FREE = frozenset(
    "name trainable batch_input_shape batch_shape input_dtype input_shape input_dim input_length seed momentum synchronized "
    "fused weights init inner_init forget_bias_init beta_init gamma_init lora_alpha renorm_clipping renorm_momentum "
    "virtual_batch_size".split()
)
_FREE_ENDS = ("_initializer", "_regularizer", "_constraint")
_FLOATS = ("float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16")
WORDS = ("int8", "int16", "int32", "int64", "uint8", "uint16")
_SAME = {"swish": "silu", "hard_swish": "hard_silu", "identity": "linear"}


def refused(place: Place, why: str) -> UnsupportedError:
    """The error for a layer that is not modelled; ``why`` continues the sentence."""
    return UnsupportedError(f"The layer {place.name!r} ({place.kind}) {why}.")


def check_options(place: Place, known: Iterable[str], options: Mapping[str, Any] | None = None) -> None:
    """Refuse each option that is neither among the known ones nor without effect, unless it is None or False.

    The same for float types that are not plain: quantised layers compute otherwise.
    """
    options = place.options if options is None else options
    known, wrong = set(known), list[str]()
    for name, value in options.items():
        if name == "dtype":
            value = policy(options) if isinstance(value, Mapping) else value
            # Before Keras 2.3 it is the type of a first layer's input, and an Embedding reads whole numbers.
            if value not in (None, *_FLOATS, *(WORDS if place.kind == "Embedding" else ())):
                raise refused(place, f"has dtype={value!r}, which is not modelled; save it in a float type")
        elif value is None or value is False or name in known or name in _FREE or name.endswith(_FREE_ENDS):
            continue
        else:
            wrong.append(f"{name}={value!r}")
    if wrong:
        are, these = ("is", "this option") if len(wrong) == 1 else ("are", "these options")
        raise refused(place, f"has {' and '.join(wrong)}, which {are} not modelled; build it without {these}")


def option(place: Place, *names: str) -> Any:
    """The value of an option that Keras has called by these names, the newest first."""
    for name in names:
        if name in place.options:
            return place.options[name]
    raise refused(place, f"lacks {names[0]} in its configuration; save the model again")


def whole(place: Place, *names: str) -> int:
    """An option that is a whole number of at least 1, or a list of one such."""
    value = option(place, *names)
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise refused(place, f"has {names[0]}={value!r}, which is not a whole number of at least 1")
    return value


def number(place: Place, *names: str) -> float:
    """An option that is a finite number."""
    value = option(place, *names)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e38:
        raise refused(place, f"has {names[0]}={value!r}, which is no number that is modelled")
    return float(value)


def flag(place: Place, name: str, default: bool) -> bool:
    """An option that is True or False."""
    value = place.options.get(name, default)
    if not isinstance(value, bool):
        raise refused(place, f"has {name}={value!r}, which is neither True nor False")
    return value


def choice(place: Place, known: Iterable[str], *names: str) -> str:
    """An option that is one of some names."""
    value = option(place, *names)
    if value not in (known := list(known)):
        raise refused(place, f"has {names[0]}={value!r}, which is not modelled; {' and '.join(known)} are")
    return str(value)


def last_axis(place: Place, name: str, default: Any, rank: int) -> None:
    """Refuse an axis, or list of one axis, that is not the last of ``rank``, the batch included."""
    value = place.options.get(name, default)
    axes = value if isinstance(value, list) else [value]
    if axes not in ([-1], [rank - 1]):
        raise refused(place, f"has {name}={value!r}, which is not modelled; the last axis is")


def function(place: Place, given: Any, version: str) -> str:
    """The name, as xframe has it, of an activation function that a configuration gives."""
    if isinstance(given, Mapping) and str(given.get("registered_name")) == "xframe>hard_sigmoid_keras2":
        return "hard_sigmoid_keras2"
    if isinstance(given, Mapping):
        raise refused(place, f"has an activation of its own ({_described(given)}), which is not modelled")
    if given == "xframe>hard_sigmoid_keras2":
        return "hard_sigmoid_keras2"
    name = "linear" if given is None else _SAME.get(given, given)
    if wrong := check_activation(name):
        raise refused(place, f"has an activation that is not modelled: activation {wrong}")
    if name == "hard_sigmoid" and not re.match(r"[3-9]\.", version):
        if not re.match(r"[12]\.", version):
            raise refused(
                place,
                "has activation='hard_sigmoid', which had the slope 0.2 before Keras 3 and 1/6 since, and the file does not "
                "say which Keras wrote it",
            )
        return "hard_sigmoid_keras2"
    return str(name)


def _described(given: Mapping[str, Any]) -> str:
    name = given.get("registered_name") or given.get("config")
    return repr(name if isinstance(name, str) else kind_of(given))


def activation(place: Place, given: Any, version: str) -> Place | str:
    """An activation that a layer was given: the name of a function, or a layer of its own."""
    if isinstance(given, Mapping) and isinstance(given.get("config"), Mapping):
        return Place(place.names, kind_of(given), config_of(given), package_of(given))
    return function(place, given, version)


def inner(place: Place, entry: Any, kinds: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    """The configuration of what is inside a layer, if that is Keras's own."""
    if not isinstance(entry, Mapping) or package_of(entry) or (kinds and kind_of(entry) not in kinds):
        kind = kind_of(entry) if isinstance(entry, Mapping) else entry
        raise refused(place, f"holds a {kind}, which is not modelled")
    return config_of(entry)
