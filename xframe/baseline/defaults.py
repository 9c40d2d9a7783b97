"""What a framework means by its names: what its layers are unless they are told otherwise, and its activation functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xframe.activations import ACTIVATIONS
from xframe.adapters.base import Adapter
from xframe.arithmetic import Plain
from xframe.errors import UnsupportedError, XframeError
from xframe.judging import LIMIT
from xframe.noise import ROUNDOFF
from xframe.spec import Layer

if TYPE_CHECKING:
    from xframe.baseline.stored import RecordedLayer

__all__ = ["POINTS", "Change", "Defaults", "changes", "defaults_of"]

# Where functions are looked at: on either side of every bend of every known one, and where slopes show.
POINTS = (-7.0, -2.75, -1.0, -0.25, 0.0, 0.5, 1.0, 2.75, 7.0)
# Sizes, which a plain layer had to be given.
_SIZES = ("input_size", "hidden_size", "units")


@dataclass(frozen=True)
class Defaults:
    """What the names of one framework mean.

    Attributes:
        version: the framework's.
        layers: by class, the options of a layer that was made with nothing but its sizes.
        functions: by activation function, its values at `POINTS`, all of them units of one gate: (points,).
    """

    version: str
    layers: Mapping[str, Mapping[str, Any]]
    functions: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Change:
    """What a name means now and did not mean then.

    Attributes:
        framework: whose name.
        sentence: what has changed.
        concerns: names of the layers for which it matters.
    """

    framework: str
    sentence: str
    concerns: tuple[str, ...]


def defaults_of(adapter: Adapter) -> Defaults:
    """What the names of a framework mean, as it is installed.

    Raises:
        UnsupportedError: it does not say, which a version of tomorrow may not.
    """
    points = np.array([POINTS])
    try:
        layers = {name: _told(adapter.spec(layer)) for name, layer in adapter.plain_layers().items()}
        functions = {name: np.asarray(function(points))[0] for name, function in adapter.functions().items()}
    except XframeError:
        raise
    except Exception as error:  # whatever a framework raises
        raise UnsupportedError(
            f"{adapter.title} {adapter.version()} does not say what its layers and functions are ({type(error).__name__}: "
            f"{error}); use a version that does."
        ) from error
    return Defaults(adapter.version(), layers, functions)


def _told(spec: Layer) -> dict[str, Any]:
    """The options that are not sizes and that a text can hold."""
    options = {"cell": spec.cell, **spec.options()}
    return {n: v for n, v in options.items() if n not in _SIZES and isinstance(v, str | bool | int | float | None)}


def changes(adapter: Adapter, then: Defaults, layers: Sequence[RecordedLayer]) -> Iterator[Change]:
    """What has changed of a framework since ``layers`` were recorded."""
    now = defaults_of(adapter)
    for name, values in then.functions.items():
        concerns = tuple(one.name for one in layers if name in _functions(one.spec))
        if name not in now.functions:
            yield Change(adapter.name, f"{adapter.title} has no {name} any more.", concerns)
        elif sentence := _function_change(name, values, now.functions[name]):
            yield Change(adapter.name, f"{adapter.title}'s {name} changed: {sentence}.", concerns)
    for kind, options in then.layers.items():
        if kind not in now.layers:
            concerns = tuple(one.name for one in layers if one.spec.cell == options["cell"])
            yield Change(adapter.name, f"{adapter.title} has no {kind} any more.", concerns)
        else:
            yield from _default_changes(adapter, kind, options, now.layers[kind], layers)


def _default_changes(
    adapter: Adapter, kind: str, then: Mapping[str, Any], now: Mapping[str, Any], layers: Sequence[RecordedLayer]
) -> Iterator[Change]:
    """The options of a plain layer of one class that are not what they were."""
    for option, value in then.items():
        if now.get(option, value) != value:
            concerns = tuple(one.name for one in layers if _has(one.spec, then["cell"], option, value))
            told = f"{option} was {value!r} when this was recorded and is {now[option]!r} now"
            yield Change(adapter.name, f"A default of {kind} changed: {told}.", concerns)


def _parts(spec: Layer) -> list[Any]:
    """What describes each cell of a layer; the first is the layer itself."""
    return [spec.part(direction, layer) for layer, direction in spec.places]


def _functions(spec: Layer) -> set[str]:
    """The activation functions of a layer."""
    return {
        str(getattr(part, option, None)) for part in _parts(spec) for option in ("activation", "recurrent_activation")
    }


def _has(spec: Layer, cell: Any, option: str, value: Any) -> bool:
    """Whether a layer may have been made by leaving an option at its default."""
    return any(part.cell == cell and getattr(part, option, None) == value for part in _parts(spec))


def _function_change(name: str, then: np.ndarray, now: np.ndarray) -> str:
    """How a function differs from what it was, by more than its rounding; else nothing."""
    coarse = "float32" if getattr(ACTIVATIONS.get(name), "single", False) else "float64"
    # The rounding of an activation function as in xframe.noise: relative, and of numbers of the size of what it is given.
    kinds = {coarse, str(then.dtype), str(now.dtype)}
    rounding = max(ROUNDOFF[kind] for kind in kinds) * (4 * np.abs(then) + 1 + np.max(np.abs(POINTS)))
    apart = ~(np.abs(now - then) <= LIMIT * rounding)
    if not apart.any():
        return ""
    size = np.where(apart, np.abs(now - then), -1.0)
    at = POINTS.index(1.0) if apart[POINTS.index(1.0)] else int(np.argmax(size))
    recorded, given = _digits(float(then[at]), float(now[at]))
    sentence = f"at x = {POINTS[at]:g} it gives {given}, recorded {recorded}"
    was, is_ = _equation(then), _equation(now)
    return f"{sentence}; now it is {is_}, and it was {was}" if was and is_ else sentence


def _digits(one: float, other: float) -> tuple[str, str]:
    """Two numbers with as many digits as tell them apart."""
    for digits in range(4, 17):
        texts = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if texts[0] != texts[1]:
            return texts
    return repr(one), repr(other)


def _equation(values: np.ndarray) -> str:
    """What is known to have these values at `POINTS`, or nothing."""
    column = np.array(POINTS)[:, None]
    for name, known in ACTIVATIONS.items():
        here = Plain().activate(name, column.copy(), np.empty_like(column))[:, 0]
        if np.allclose(values, here, rtol=1e-6, atol=1e-6):
            return known.equation
    return ""
