"""What a spec is compared on: parameters, inputs, states, masks and calls, chosen so that a mistake would show.

With the activation functions that every framework has, the first draw will do. Others grow without bounds, or are zero over
wide ranges; then the scale of the parameters is searched, and other draws are tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from xframe import reference
from xframe.cells import get_cell
from xframe.judging import Input, margins, power
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input, draw_masks, draw_parameters, draw_state, parameter_shapes, rounded
from xframe.reference import Given
from xframe.spec import Layer, Recurrent, Sequential

__all__ = ["Drawn", "drawn", "inputs", "margins_of"]

Margins = dict[str, dict[str, dict[str, float]]]

# Bounds that outputs should keep: far from where the float type ends, and far above rounding.
_LARGEST = {"float16": 1e3, "bfloat16": 1e12, "float32": 1e12, "float64": 1e12}
_SMALLEST = 1e-9
# Tried one after the other, with one draw after the other.
_SCALES = (1, 0.5, 2, 0.25, 4, 0.125, 0.7, 1.4, 0.85, 1.2, 2.8, 0.35, 0.06, 0.03)
_DRAWS = 24


@dataclass(frozen=True)
class Drawn:
    """One layer's parameters, what it is run on, and by input, output and mistake how far over the limit it would be."""

    params: Parameters
    inputs: list[Input]
    margins: Margins


def drawn(layers: Sequence[Layer], names: Sequence[str], probe: Probe, dtype: str) -> list[Drawn]:
    """For each layer of a chain what it is compared on; a later one reads what the reference puts out.

    Args:
        layers, names: the layers, and what reports call them.
        probe: sizes and seed.
        dtype: the float type in which margins are computed.

    Raises:
        SpecError: a layer or the probe is too large.
    """
    found: list[Drawn] = []
    for layer in layers:
        parameter_shapes(layer)  # refuse at once what is too large
    x = draw_input(layers[0], probe)
    for i, (layer, name) in enumerate(zip(layers, names, strict=True)):
        # One and the same object in two places of a chain is one layer.
        twin = next((k for k in range(i) if layers[k] is layer), None)
        if twin is None:
            found.append(_choice(layer, name, x, probe, probe.seed + i, dtype))
        else:
            found.append(_drawn(layer, name, found[twin].params, x, probe, dtype))
        if i + 1 < len(layers):
            out = reference.run(layer, found[i].params, x)
            x = rounded(reference.handed_on(Sequential(*layers), i, out), probe.dtype)
    return found


def inputs(spec: Layer, name: str, params: Parameters, x: np.ndarray, probe: Probe) -> Iterator[Input]:
    """What one layer is run on: zero states and given ones; then masks; then a second call, if it carries states over."""
    yield Input(name, spec, params, Given(x))
    if not isinstance(spec, Recurrent):
        return
    state = draw_state(spec, probe)
    yield Input(name, spec, params, Given(x, state))
    second = draw_input(spec, replace(probe, batch=x.shape[0], steps=x.shape[1]), 1)
    for number, mask in enumerate(draw_masks(spec, probe), 1):
        yield Input(name, spec, params, Given(x, state, mask), number)
        if spec.stateful and number == 1:
            yield Input(name, spec, params, Given(x, None, mask, Given(second)), number)
    if spec.stateful:
        yield Input(name, spec, params, Given(second, before=Given(x)))


def margins_of(given: Sequence[Input], dtype: str) -> Margins:
    """The margins of those inputs that mistakes are tried on."""
    return {one.title: margins(one, dtype) for one in given if one.shows_most}


def _drawn(layer: Layer, name: str, params: Parameters, x: np.ndarray, probe: Probe, dtype: str) -> Drawn:
    given = list(inputs(layer, name, params, x, probe))
    return Drawn(params, given, margins_of(given, dtype))


def _choice(layer: Layer, name: str, x: np.ndarray, probe: Probe, seed: int, dtype: str) -> Drawn:
    """The first draw and scale at which every mistake shows, else the one at which most do."""
    first = draw_parameters(layer, seed, probe.dtype)
    if _is_common(layer):
        return _drawn(layer, name, first, x, probe, dtype)
    best: tuple[tuple[float, int], Drawn] | None = None
    for draw, scale in product(range(_DRAWS), _SCALES):
        params = _scaled(draw_parameters(layer, seed + 10_000 * draw, probe.dtype), scale, probe.dtype)
        excess = _excess(layer, params, x, probe)
        if best is None or excess < best[0][0] or not excess:
            one = _drawn(layer, name, params, x, probe, dtype)
            missed = len(power(one.inputs, one.margins).missed)
            if best is None or (excess, missed) < best[0]:
                best = (excess, missed), one
            if not excess + missed:
                break
    assert best is not None
    return best[1]


def _is_common(layer: Layer) -> bool:
    """Whether all activation functions are those that every framework has."""
    if not isinstance(layer, Recurrent):
        return True
    parts = [(part := layer.part(d, k), get_cell(part.cell)) for k, d in layer.places]
    return all(
        part.activation in cell.activations and part.recurrent_activation in (None, *cell.recurrent_activations)
        for part, cell in parts
    )


def _scaled(params: Parameters, scale: float, dtype: str) -> Parameters:
    if scale == 1:
        return params
    return Parameters(params.spec, {key: rounded(scale * block, dtype) for key, block in params.items()})


def _excess(layer: Layer, params: Parameters, x: np.ndarray, probe: Probe) -> float:
    """By which factor (its logarithm) outputs are out of bounds on any input; 0 if none is."""
    # In the narrowest type that is judged: what is chaotic may overflow there and not in float64.
    narrow = "float32" if probe.dtype == "bfloat16" else probe.dtype
    sizes = [_sizes(layer, params, one.given.astype(narrow)) for one in inputs(layer, "", params, x, probe)]
    smallest, largest = min(s for s, _ in sizes), max(s for _, s in sizes)
    with np.errstate(divide="ignore"):
        small, large = np.divide(_SMALLEST, smallest), largest / _LARGEST[probe.dtype]
    return float(np.log(max(1.0, small)) + np.log(max(1.0, large)))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _sizes(layer: Layer, params: Parameters, given: Given) -> tuple[float, float]:
    """The largest number of the smallest output, and that of the largest, of all calls; infinite where one is not finite."""
    before = (np.inf, 0.0) if given.before is None else _sizes(layer, params, given.before)
    outputs = reference.run_given(layer, params, given).named().values()
    sizes = [float(np.abs(values).max()) if np.isfinite(values).all() else np.inf for values in outputs]
    return min(before[0], *sizes), max(before[1], *sizes)
