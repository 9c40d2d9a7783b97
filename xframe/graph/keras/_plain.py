"""Keras layers without weights as nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from xframe.graph.keras._entries import Place
from xframe.graph.keras._options import (
    activation,
    check_options,
    choice,
    flag,
    function,
    last_axis,
    number,
    refused,
    whole,
)
from xframe.graph.node import Node, Shape

__all__ = ["PLAIN", "activated"]

# What reaches a layer: the shape of one sample, whether there is a mask, and the version of Keras.
Reached = tuple[Shape, bool, str]


def _activation_step(name: str, given: str) -> list[Node]:
    """The step of an activation function; none for the one that does nothing."""
    return [] if given == "linear" else [Node(name, "activation", {"name": given})]


def activated(place: Place, reached: Reached) -> list[Node]:
    """The step of the activation of a layer."""
    given = activation(place, place.options.get("activation"), reached[2])
    name = f"{place.name}/activation"
    if isinstance(given, str):
        return _activation_step(name, given)
    if given.package or given.kind not in PLAIN:
        raise refused(place, f"has an activation of its own ({given.kind}), which is not modelled")
    return [replace(step, name=name) for step in PLAIN[given.kind](given, reached)]


def _activation(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["activation"])
    return [Node(place.name, "activation", {"name": function(place, place.options.get("activation"), reached[2])})]


def _nothing(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["rate", "p", "stddev", "sigma", "l1", "l2", "noise_shape", "data_format"])
    rate = number(place, "rate", "p") if place.kind == "Dropout" else 0.0
    return [Node(place.name, "dropout", {"rate": rate})]


def _identity(place: Place, reached: Reached) -> list[Node]:
    check_options(place, [])
    return [Node(place.name, "activation", {"name": "linear"})]


def _relu(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["max_value", "negative_slope", "threshold"])
    top = None if place.options.get("max_value") is None else number(place, "max_value")
    slope, threshold = (
        0.0 if place.options.get(name, 0) is None else number(place, name) for name in ("negative_slope", "threshold")
    )
    if threshold == 0 and slope == 0 and top in (None, 6):
        return [Node(place.name, "activation", {"name": "relu" if top is None else "relu6"})]
    if threshold == 0 and top is None:
        return [Node(place.name, "activation", {"name": "leaky_relu", "negative_slope": slope})]
    options = {"name": "relu", "threshold": threshold, "max_value": top, "negative_slope": slope}
    return [Node(place.name, "activation", options)]


def _leaky_relu(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["negative_slope", "alpha"])
    options = {"name": "leaky_relu", "negative_slope": number(place, "negative_slope", "alpha")}
    return [Node(place.name, "activation", options)]


def _elu(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["alpha"])
    return [Node(place.name, "activation", {"name": "elu", "alpha": number(place, "alpha")})]


def _thresholded_relu(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["theta"])
    options = {"name": "relu", "threshold": number(place, "theta"), "max_value": None, "negative_slope": 0.0}
    return [Node(place.name, "activation", options)]


def _softmax(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["axis"])
    if reached[1]:
        raise refused(place, "is reached by a mask, with which it leaves numbers out; use Activation('softmax')")
    axis, rank = place.options.get("axis", -1), len(reached[0]) + 1
    if (
        isinstance(axis, int)
        and not isinstance(axis, bool)
        and -rank < axis < rank - 1
        and axis % rank not in (0, rank - 1)
    ):
        return [Node(place.name, "softmax", {"axis": axis % rank - rank})]
    last_axis(place, "axis", -1, rank)
    return [Node(place.name, "activation", {"name": "softmax"})]


def _masking(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["mask_value"])
    return [Node(place.name, "masking", {"value": number(place, "mask_value")})]


def _flatten(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["data_format"])
    _channels_last(place)
    return [Node(place.name, "flatten")]


def _pool(mode: str) -> Callable[[Place, Reached], list[Node]]:
    def pool(place: Place, reached: Reached) -> list[Node]:
        check_options(place, ["data_format", "keepdims"])
        _channels_last(place)
        return [Node(place.name, "pool", {"mode": mode, "keepdims": flag(place, "keepdims", False)})]

    return pool


def _channels_last(place: Place) -> None:
    if place.options.get("data_format") is not None:
        choice(place, ["channels_last"], "data_format")


def _axes(place: Place, name: str) -> tuple[int, ...]:
    value = place.options.get(name)
    value = [value] if isinstance(value, int) else value
    if not isinstance(value, list | tuple) or not all(isinstance(axis, int) for axis in value):
        raise refused(place, f"has {name}={value!r}, which are no whole numbers")
    return tuple(value)


def _permute(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["dims"])
    return [Node(place.name, "permute", {"dims": _axes(place, "dims")})]


def _reshape(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["target_shape"])
    return [Node(place.name, "reshape", {"shape": _axes(place, "target_shape")})]


def _repeat(place: Place, reached: Reached) -> list[Node]:
    check_options(place, ["n"])
    return [Node(place.name, "repeat", {"times": whole(place, "n")})]


def _last_step(place: Place, reached: Reached) -> list[Node]:
    """``x[:, -1]`` as a layer, which xframe writes."""
    check_options(place, [])
    return [Node(place.name, "last")]


PLAIN: dict[str, Callable[[Place, Reached], list[Node]]] = {
    "Activation": _activation,
    **dict.fromkeys("Dropout GaussianDropout GaussianNoise AlphaDropout ActivityRegularization".split(), _nothing),
    **dict.fromkeys((f"SpatialDropout{rank}D" for rank in (1, 2, 3)), _nothing),
    "Identity": _identity,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "ThresholdedReLU": _thresholded_relu,
    "Softmax": _softmax,
    "Masking": _masking,
    "Flatten": _flatten,
    "GlobalMaxPooling1D": _pool("max"),
    "GlobalAveragePooling1D": _pool("average"),
    "Permute": _permute,
    "Reshape": _reshape,
    "RepeatVector": _repeat,
    "LastStep": _last_step,
}
