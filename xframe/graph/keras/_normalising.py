"""Keras's normalisations, and its activation with weights, as nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xframe.graph.keras._entries import Place
from xframe.graph.keras._options import check_options, flag, number, refused
from xframe.graph.keras._plain import Reached
from xframe.graph.keras._weights import Arrays, Weights
from xframe.graph.node import Node, Shape

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NORMALISING"]


def _node(place: Place, kind: str, options: Mapping[str, Any], arrays: Arrays) -> list[Node]:
    return [Node(place.name, kind, options, None, arrays, tuple(arrays.tensors.values()), arrays.shapes)]


def _axes(place: Place, shape: Shape, given: Any) -> tuple[int, ...]:
    """Axes, of those with the batch, counted from the last one, in order."""
    rank = len(shape) + 1
    listed = given if isinstance(given, list | tuple) else [given]
    whole = all(isinstance(one, int) and not isinstance(one, bool) for one in listed)
    if not whole or not all(-rank <= one < rank and one % rank for one in listed):
        raise refused(place, f"has axis={given!r}, which is not modelled; axes behind the batch are")
    return tuple(sorted({one % rank - rank for one in listed}))


def _sizes(place: Place, shape: Shape, axes: tuple[int, ...]) -> tuple[int, ...]:
    found = tuple(size for size in (shape[one] for one in axes) if size is not None)
    if len(found) != len(axes):
        raise refused(place, f"reads samples of the shape {shape}, of which the axes {list(axes)} may have any length")
    return found


def _epsilon(place: Place) -> float:
    if (epsilon := number(place, "epsilon")) < 0:
        raise refused(place, f"has epsilon={epsilon!r}, which is negative")
    return epsilon


def _arrays(place: Place, weights: Weights, size: tuple[int, ...], more: tuple[str, ...] = ()) -> Arrays:
    """The scale and the shift of this size, with ones and zeros where the layer has none."""
    absent = {
        name: value
        for name, option, value in (("gamma", "scale", 1.0), ("beta", "center", 0.0))
        if not flag(place, option, True)
    }
    names = ["gamma", "beta", *more]
    named = weights.named(place, [name for name in names if name not in absent])
    for tensor in named.values():
        _check(place, weights, tensor, size)
    return Arrays(weights.file, named, dict.fromkeys(names, size), absent)


def _check(place: Place, weights: Weights, tensor: str, size: tuple[int, ...]) -> None:
    if (found := weights.file.tensors[tensor].shape) != size:
        raise refused(place, f"has a weight of the shape {found} and reads {size}; save the model again")


def _layer(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    check_options(place, ["axis", "epsilon", "center", "scale"])
    axes = _axes(place, reached[0], place.options.get("axis", -1))
    options = {"epsilon": _epsilon(place), **({} if axes == (-1,) else {"axes": axes})}
    return _node(place, "layer_norm", options, _arrays(place, weights, _sizes(place, reached[0], axes)))


def _batch(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    check_options(place, ["axis", "epsilon", "center", "scale", "mode"])
    if place.options.get("mode"):  # of Keras 1: how statistics are made, and used at inference
        raise refused(place, f"has mode={place.options['mode']!r}, which is not modelled; mode=0 is")
    axes = _axes(place, reached[0], place.options.get("axis", -1))
    if len(axes) != 1:
        raise refused(place, f"has axis={place.options['axis']!r}, which is not modelled; one axis is")
    options = {"epsilon": _epsilon(place), **({} if axes == (-1,) else {"axis": axes[0]})}
    arrays = _arrays(place, weights, _sizes(place, reached[0], axes), ("mean", "variance"))
    return _node(place, "batch_norm", options, arrays)


def _group(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    check_options(place, ["groups", "axis", "epsilon", "center", "scale"])
    axis = place.options.get("axis", -1)
    axes = _axes(place, reached[0], axis)
    size = _sizes(place, reached[0], axes)
    groups = place.options.get("groups", 32)
    groups = size[0] if groups == -1 else groups
    if len(axes) != 1 or not isinstance(groups, int) or groups < 1:
        raise refused(place, f"has axis={axis!r} and groups={groups!r}, which is not modelled")
    options = {"epsilon": _epsilon(place), "axis": axes[0], "groups": groups}
    return _node(place, "group_norm", options, _arrays(place, weights, size))


def _root_mean_square(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    check_options(place, ["axis", "epsilon"])
    axes = _axes(place, reached[0], place.options.get("axis", -1))
    if axes != tuple(range(-len(axes), 0)):
        # Keras puts the scale beside the last axes, whichever it normalises.
        raise refused(place, f"has axis={place.options['axis']!r}, which is not modelled; the last axes are")
    size = _sizes(place, reached[0], axes)
    named = {"gamma": weights.named(place, ["scale"])["scale"]}
    _check(place, weights, named["gamma"], size)
    options = {"epsilon": _epsilon(place), **({} if axes == (-1,) else {"axes": axes})}
    return _node(place, "rms_norm", options, Arrays(weights.file, named, {"gamma": size}, {}))


def _beside(shape: Shape, axes: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one sample, with 1 for each axis that is not among these."""
    found = dict(zip(axes, sizes, strict=True))
    return tuple(found.get(i - len(shape), 1) for i in range(len(shape)))


@dataclass(frozen=True)
class _Given:
    """Statistics that stand in the configuration: numbers, or lists of them, of which axes may lack before the others."""

    statistics: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    kept: tuple[int, ...]

    def __call__(self) -> dict[str, np.ndarray]:
        import numpy as np

        found = {name: np.asarray(value, np.float32) for name, value in self.statistics.items()}
        sizes = {name: [shape[one] for one in self.kept] for name, shape in self.shapes.items()}
        return {name: np.broadcast_to(a, sizes[name]).reshape(self.shapes[name]) for name, a in found.items()}


def _statistics(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    """keras.layers.Normalization, with statistics that it was given or that it took of data."""
    check_options(place, ["axis", "mean", "variance", "invert"])
    shape, given = reached[0], place.options.get("axis", -1)
    axes = () if given in (None, [], ()) else _axes(place, shape, given)
    whole = _beside(shape, axes, _sizes(place, shape, axes))
    options, shapes = {"inverted": flag(place, "invert", False)}, {"mean": whole, "variance": whole}
    statistics = {name: place.options.get(name) for name in shapes}
    if statistics["mean"] is None:
        named = weights.named(place, ["mean", "variance", "count"])
        arrays = Arrays(weights.file, {name: named[name] for name in shapes}, shapes, {})
        for name in shapes:
            _check(place, weights, named[name], tuple(whole[one] for one in axes))
        return [Node(place.name, "standardize", options, None, arrays, tuple(named.values()), shapes)]
    found = _Given(statistics, shapes, axes)
    try:
        found()
    except (TypeError, ValueError):
        raise refused(
            place, f"has mean={statistics['mean']!r}, which does not fit samples of the shape {shape}"
        ) from None
    return [Node(place.name, "standardize", options, None, found, (), shapes)]


def _parametric_relu(place: Place, reached: Reached, weights: Weights) -> list[Node]:
    check_options(place, ["shared_axes"])
    named = weights.named(place, ["alpha"])
    shapes = {"alpha": weights.file.tensors[named["alpha"]].shape}
    return _node(place, "parametric_relu", {}, Arrays(weights.file, named, shapes, {}))


NORMALISING: dict[str, Callable[[Place, Reached, Weights], list[Node]]] = {
    "LayerNormalization": _layer,
    **dict.fromkeys(("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2"), _batch),
    "GroupNormalization": _group,
    "RMSNormalization": _root_mean_square,
    "Normalization": _statistics,
    "PReLU": _parametric_relu,
}
