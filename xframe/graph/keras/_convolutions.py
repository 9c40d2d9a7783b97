"""Keras's convolutions and pooling as nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xframe.graph.keras._entries import Place
from xframe.graph.keras._options import check_options, choice, flag, refused, whole
from xframe.graph.keras._plain import Reached, activated
from xframe.graph.keras._weights import Arrays, Weights
from xframe.graph.kinds.allowed import count
from xframe.graph.node import Node

__all__ = ["POOLING", "WINDOWED", "channels_last", "sizes_of"]

_CONV = (
    "filters kernel_size strides padding dilation_rate groups data_format activation use_bias depth_multiplier output_padding "
    "nb_filter nb_row nb_col border_mode subsample dim_ordering bias"
).split()


def _rank(place: Place) -> int:
    """How many axes the windows have, by the name of the class."""
    return next(int(digit) for digit in place.kind if digit.isdigit())


def sizes_of(place: Place, name: str, default: int | None = 1) -> tuple[int, ...]:
    """An option that is a whole number, or one for each axis."""
    value, rank = place.options.get(name), _rank(place)
    value = default if value is None else value
    found: tuple[Any, ...] = tuple(value) if isinstance(value, list | tuple) else (value,) * rank
    if len(found) != rank or not all(count(one) for one in found):
        raise refused(place, f"has {name}={place.options.get(name)!r}, which is no size of {rank} axes")
    return found


def channels_last(place: Place) -> None:
    """Refuse features that are not last."""
    if place.options.get("data_format") is not None:
        choice(place, ["channels_last"], "data_format")


def _weighted(place: Place, kind: str, options: dict[str, object], arrays: Arrays, name: str = "") -> Node:
    sources = tuple(arrays.tensors.values())
    return Node(name or place.name, kind, options, None, arrays, sources, arrays.shapes)


def _bias(place: Place) -> list[str]:
    return ["bias"] if flag(place, "use_bias", True) else []


def _arrays(place: Place, weights: Weights, named: dict[str, str], names: dict[str, str], filters: int) -> Arrays:
    """The kernel and the bias: ``names`` are those of the kind by those of the file; zeros stand for a bias that is not there."""
    shapes = {ours: weights.file.tensors[named[theirs]].shape for theirs, ours in names.items()}
    absent = {} if "bias" in shapes else {"bias": 0.0}
    shapes.setdefault("bias", (filters,))
    if shapes["bias"] != (filters,):
        raise refused(place, f"has a bias of the shape {shapes['bias']}; save the model again")
    return Arrays(weights.file, {ours: named[theirs] for theirs, ours in names.items()}, shapes, absent)


def _conv(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    check_options(place, _CONV)
    channels_last(place)
    transposed, depthwise = "Transpose" in place.kind, "Depthwise" in place.kind
    options: dict[str, object] = {
        "stride": sizes_of(place, "strides"),
        "padding": choice(place, ["valid", "same"], "padding"),
    }
    if transposed:
        if any(one != 1 for one in sizes_of(place, "dilation_rate")) or place.options.get("output_padding") is not None:
            raise refused(
                place, "has dilation_rate or output_padding, which are not modelled in a transposed convolution"
            )
    else:
        options["dilation"] = sizes_of(place, "dilation_rate")
    if depthwise:
        options["multiplier"] = _multiplier(place)
    if not transposed and not depthwise:
        groups = place.options.get("groups", 1)
        if not isinstance(groups, int) or groups < 1:
            raise refused(place, f"has groups={groups!r}, which is no number of groups")
        options["groups"] = groups
    theirs = ["kernel", *_bias(place)]
    named = weights.named(place, theirs)
    kernel = weights.file.tensors[named["kernel"]].shape
    if len(kernel) != _rank(place) + 2 or kernel[:-2] != sizes_of(place, "kernel_size", None):
        raise refused(
            place, f"has a kernel of the shape {kernel}, which is not that of its options; save the model again"
        )
    filters = kernel[-2] if transposed else kernel[-2] * kernel[-1] if depthwise else kernel[-1]
    arrays = _arrays(place, weights, named, {name: name for name in theirs}, filters)
    kind = "transposed_conv" if transposed else "depthwise_conv" if depthwise else "conv"
    return [_weighted(place, kind, options, arrays), *activated(place, reached)]


def _multiplier(place: Place) -> int:
    return whole(place, "depth_multiplier") if "depth_multiplier" in place.options else 1


def _separable(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    """A convolution of each feature by itself, and then of all of them at each place."""
    check_options(place, _CONV)
    channels_last(place)
    rank = _rank(place)
    theirs = ["depthwise_kernel", "pointwise_kernel", *_bias(place)]
    named = weights.named(place, theirs)
    depthwise = weights.file.tensors[named["depthwise_kernel"]].shape
    pointwise = weights.file.tensors[named["pointwise_kernel"]].shape
    if len(depthwise) != rank + 2 or len(pointwise) != rank + 2:
        raise refused(place, f"has kernels of the shapes {depthwise} and {pointwise}; save the model again")
    padding = choice(place, ["valid", "same"], "padding")
    options: dict[str, object] = {
        "stride": sizes_of(place, "strides"),
        "padding": padding,
        "dilation": sizes_of(place, "dilation_rate"),
        "multiplier": _multiplier(place),
    }
    once: dict[str, object] = {"stride": (1,) * rank, "padding": "valid", "dilation": (1,) * rank, "groups": 1}
    first = _arrays(place, weights, named, {"depthwise_kernel": "kernel"}, depthwise[-2] * depthwise[-1])
    second = _arrays(
        place, weights, named, {"pointwise_kernel": "kernel", **{name: name for name in _bias(place)}}, pointwise[-1]
    )
    return [
        _weighted(place, "depthwise_conv", options, first, f"{place.name}/depthwise"),
        _weighted(place, "conv", once, second, f"{place.name}/pointwise"),
        *activated(place, reached),
    ]


def _pool(mode: str) -> Callable[[Place, Reached], list[Node]]:
    def pool(place: Place, reached: Reached) -> list[Node]:
        check_options(place, ["pool_size", "strides", "padding", "data_format", "pool_length", "stride", "border_mode"])
        channels_last(place)
        size = sizes_of(place, "pool_size" if "pool_size" in place.options else "pool_length", None)
        stride = place.options.get("strides", place.options.get("stride"))
        options = {
            "mode": mode,
            "size": size,
            "stride": size
            if stride is None
            else sizes_of(place, "strides" if "strides" in place.options else "stride"),
            "padding": choice(place, ["valid", "same"], "padding", "border_mode"),
        }
        return [Node(place.name, "window_pool", options)]

    return pool


def _global(mode: str) -> Callable[[Place, Reached], list[Node]]:
    def pool(place: Place, reached: Reached) -> list[Node]:
        check_options(place, ["data_format", "keepdims"])
        channels_last(place)
        return [Node(place.name, "global_pool", {"mode": mode, "keepdims": flag(place, "keepdims", False)})]

    return pool


WINDOWED: dict[str, Callable[[Place, Reached, Weights], list[Node]]] = {
    **dict.fromkeys(("Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"), _conv),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _conv),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
}
POOLING: dict[str, Callable[[Place, Reached], list[Node]]] = {
    **dict.fromkeys((f"MaxPooling{rank}D" for rank in (1, 2, 3)), _pool("max")),
    **dict.fromkeys((f"AveragePooling{rank}D" for rank in (1, 2, 3)), _pool("average")),
    **dict.fromkeys(("GlobalMaxPooling2D", "GlobalMaxPooling3D"), _global("max")),
    **dict.fromkeys(("GlobalAveragePooling2D", "GlobalAveragePooling3D"), _global("average")),
}
