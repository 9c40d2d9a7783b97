"""What a spec is compared on: parameters, inputs, states, masks and calls, chosen so that a mistake would show.

With the activation functions that every framework has, the first draw nearly always will do. Others grow without bounds, or
are zero over wide ranges; then the scale of the parameters is searched, and other draws are tried.

Whether or not the parameters are xframe's own, a layer is run on more than the first input where that is needed. Where noise
grows over time, or a mistake does not show, each time step is run by itself, from the states in which the reference is then;
where a mistake still does not show, inputs of other sizes and lengths are tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, product

import numpy as np

from xframe import noise, reference
from xframe.asleep import Moved, moved_by_any, none_moved
from xframe.cells import get_cell
from xframe.errors import SpecError
from xframe.judging import Input, margins, power
from xframe.packing import Parameters
from xframe.probe import Probe, draw_input, draw_masks, draw_parameters, draw_state, parameter_shapes, rounded
from xframe.reference import Given
from xframe.spec import Layer, Recurrent, Sequential, plural

__all__ = ["Drawn", "completed", "drawn", "forced", "inputs", "others", "within_bounds"]

Margins = dict[str, dict[str, dict[str, float]]]

# Bounds that outputs should keep: far from where the float type ends, and far above rounding.
_LARGEST = {"float16": 1e3, "bfloat16": 1e12, "float32": 1e12, "float64": 1e12}
_SMALLEST = 1e-9
# Tried one after the other, with one draw after the other.
_SCALES = (1, 0.5, 2, 0.25, 4, 0.125, 0.7, 1.4, 0.85, 1.2, 2.8, 0.35, 0.06, 0.03)
_DRAWS = 24
# The same where the first draw will nearly always do.
_REDRAWS = 4
# By how much other inputs are smaller or larger. Powers of two keep the numbers as exact as they are.
_INPUT_SCALES = (1, 0.125, 8, 1 / 64, 64)
# How many times as long they may be, and how long at least: the order of time steps shows before chaos sets in.
_LONGER, _SHORT = 4, 5
# How many more inputs are tried to move numbers that the first ones do not.
_WAKING = 8
# How many time steps are run by themselves.
_FORCED = 128


@dataclass(frozen=True)
class Drawn:
    """One layer's parameters, what it is run on, and by input, output and mistake how far over the limit it would be.

    ``moved`` is which of its numbers move an output.
    """

    params: Parameters
    inputs: list[Input]
    margins: Margins
    moved: Moved = field(default_factory=dict)

    @property
    def missed(self) -> list[str]:
        """Mistakes that show on none of the inputs."""
        return power(self.inputs, self.margins).missed


def drawn(
    layers: Sequence[Layer],
    names: Sequence[str],
    probe: Probe,
    dtypes: Sequence[str],
    longer: bool = False,
    sharpest: str = "",
) -> list[Drawn]:
    """For each layer of a chain what it is compared on; a later one reads what the reference puts out.

    Args:
        layers, names: the layers, and what reports call them.
        probe: sizes and seed.
        dtypes: the float types that are judged.
        longer: whether inputs may be longer than the probe says, where a mistake would not show.
        sharpest: the float type in which a mistake must show; that of ``dtypes`` in which most does, if not given.

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
        search = _Search(layer, name, x, probe, dtypes, longer, sharpest or _finest(dtypes))
        one = _choice(search, probe.seed + i) if twin is None else search.completed(search.first(found[twin].params))
        found.append(one)
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


def completed(
    layer: Layer,
    name: str,
    params: Parameters,
    x: np.ndarray,
    probe: Probe,
    dtypes: Sequence[str],
    longer: bool = False,
    sharpest: str = "",
) -> Drawn:
    """What a layer with these parameters is compared on, x and more; the arguments are those of `drawn`."""
    search = _Search(layer, name, x, probe, dtypes, longer, sharpest or _finest(dtypes))
    return search.completed(search.first(params))


def others(layer: Layer, name: str, params: Parameters, probe: Probe, longer: bool) -> Iterator[Input]:
    """Smaller inputs, for gates that are saturated, larger ones, with ``longer`` longer ones, and shorter ones."""
    steps = probe.steps
    lengths = dict.fromkeys((steps, *([_LONGER * steps] if longer else []), min(steps, _SHORT)))
    for number, (scale, length) in enumerate(product(_INPUT_SCALES, lengths), 1):
        own = replace(probe, seed=probe.seed + 20_000 * number, steps=length)
        kind = f"input x {scale:g}" + (f" of {plural(length, 'step')}" if length != steps else "")
        try:
            x = draw_input(layer, own)
        except SpecError:  # too large
            continue
        for one in inputs(layer, name, params, x, own):
            if one.shows_most:
                yield replace(one, given=_times(one.given, scale), kind=kind)


def within_bounds(one: Input, probe: Probe) -> bool:
    """Whether all that a layer puts out on an input is a number, neither too large for the float type nor too small to tell."""
    return not _excess([one], probe)


@dataclass(frozen=True)
class _Search:
    """For one layer: what it is to be run on, and in which float types it will be judged."""

    layer: Layer
    name: str
    x: np.ndarray
    probe: Probe
    dtypes: Sequence[str]
    longer: bool
    sharpest: str

    def first(self, params: Parameters) -> Drawn:
        """What every layer is run on."""
        given = list(inputs(self.layer, self.name, params, self.x, self.probe))
        return Drawn(params, given, {one.title: self._margins(one) for one in given if one.shows_most})

    def completed(self, found: Drawn) -> Drawn:
        """The same with more inputs, where it takes them to see all mistakes."""
        start = next((one for one in found.inputs if one.initial_state == "given"), None)
        drifts = start is not None and any(noise.drifts(start.noise(dtype), dtype) for dtype in self.dtypes)
        alone = forced(start, self.probe.dtype) if start and (drifts or found.missed) else None
        if drifts and alone and within_bounds(alone, self.probe):
            found = self._with(found, alone)
        more = [alone] if alone and not drifts else []
        further = others(self.layer, self.name, found.params, self.probe, self.longer)
        for one in chain(more, further) if found.missed else ():
            wider = self._with(found, one) if within_bounds(one, self.probe) else found
            found = wider if len(wider.missed) < len(found.missed) else found
            if not found.missed:
                break
        return self._woken(found)

    def _woken(self, found: Drawn) -> Drawn:
        """The same with more inputs, where there are some that move numbers which no other moves."""
        moved = moved_by_any(none_moved(found.params), found.inputs, self.sharpest)
        given = list(found.inputs)
        for one in islice(others(self.layer, self.name, found.params, self.probe, self.longer), _WAKING):
            if all(block.all() for block in moved.values()):
                break
            more = moved_by_any(moved, [one], self.sharpest) if within_bounds(one, self.probe) else moved
            if any(np.any(more[key] > block) for key, block in moved.items()):
                moved = more
                given.append(one)
        return replace(found, inputs=given, moved=moved)

    def _with(self, found: Drawn, one: Input) -> Drawn:
        return replace(found, inputs=[*found.inputs, one], margins={**found.margins, one.title: self._margins(one)})

    def _margins(self, one: Input) -> dict[str, dict[str, float]]:
        return margins(one, self.sharpest)


def _finest(dtypes: Sequence[str]) -> str:
    """The float type in which most shows: the power of a verdict is that of its sharpest judgement."""
    return min(dtypes, key=lambda dtype: noise.ROUNDOFF[dtype])


def _times(given: Given, scale: float) -> Given:
    """Inputs and states times a power of two, which every float type holds as exactly as before."""
    state = given.state and {name: scale * values for name, values in given.state.items()}
    return replace(given, x=scale * given.x, state=state, before=given.before and _times(given.before, scale))


def forced(one: Input, dtype: str) -> Input | None:
    """Each time step by itself, beside each other in the batch, from the states in which the reference is before it.

    What a layer does at a step is then told from what has become of earlier errors. Of long inputs it is some steps, evenly
    spread; of a stateful layer as many as its batch has rows. The states are rounded to ``dtype``.

    Returns:
        The input, or None where there is no such step: an input of one step, or states that are not finite.
    """
    spec, given = one.spec, one.given
    if not isinstance(spec, Recurrent) or given.x.shape[1] == 1:
        return None
    batch, steps, features = given.x.shape
    with np.errstate(over="ignore", invalid="ignore"):
        passed = reference.trajectory(spec, one.params, given.astype("float64"))
        narrow = "float32" if dtype == "bfloat16" else dtype
        held = {name: rounded(v, dtype).astype(narrow).astype(np.float64) for name, v in passed.items()}
    # By row of the batch, and within it by time.
    rows = {name: np.moveaxis(v, 0, 3).reshape(*v.shape[1:3], batch * steps, -1) for name, v in held.items()}
    usable = np.flatnonzero(np.all([np.isfinite(v).all(axis=(0, 1, 3)) for v in rows.values()], axis=0))
    if not len(usable):
        return None
    count = spec.batch_size or min(_FORCED, len(usable))
    taken = usable[((np.arange(count) + 0.5) * len(usable) / count).astype(int)]
    x = given.x.reshape(batch * steps, 1, features)[taken]
    return replace(one, given=Given(x, {name: v[:, :, taken] for name, v in rows.items()}), kind="forced")


def _choice(search: _Search, seed: int) -> Drawn:
    """The first draw and scale at which every mistake shows, else the one at which most do."""
    layer, dtype, common = search.layer, search.probe.dtype, _is_common(search.layer)
    best: tuple[tuple[float, int], Drawn] | None = None
    for draw, scale in product(range(_REDRAWS), (1.0,)) if common else product(range(_DRAWS), _SCALES):
        params = _scaled(draw_parameters(layer, seed + 10_000 * draw, dtype), scale, dtype)
        excess = _excess(inputs(layer, "", params, search.x, search.probe), search.probe)
        if best is None or excess < best[0][0] or not excess:
            one = search.first(params)
            one = search.completed(one) if common else one
            if best is None or (excess, len(one.missed)) < best[0]:
                best = (excess, len(one.missed)), one
            if not excess and not one.missed:
                break
    assert best is not None
    return best[1] if common else search.completed(best[1])


def _is_common(layer: Layer) -> bool:
    """Whether all activation functions are those that every framework has."""
    if not isinstance(layer, Recurrent):
        return layer.activation == "linear"
    parts = [(part := layer.part(d, k), get_cell(part.cell)) for k, d in layer.places]
    return all(
        part.activation in cell.activations and part.recurrent_activation in (None, *cell.recurrent_activations)
        for part, cell in parts
    )


def _scaled(params: Parameters, scale: float, dtype: str) -> Parameters:
    if scale == 1:
        return params
    return Parameters(params.spec, {key: rounded(scale * block, dtype) for key, block in params.items()})


def _excess(given: Iterable[Input], probe: Probe) -> float:
    """By which factor (its logarithm) outputs are out of bounds on any input; 0 if none is."""
    # In the narrowest type that is judged: what is chaotic may overflow there and not in float64.
    narrow = "float32" if probe.dtype == "bfloat16" else probe.dtype
    sizes = [_sizes(one, one.given.astype(narrow)) for one in given]
    smallest, largest = min(s for s, _ in sizes), max(s for _, s in sizes)
    with np.errstate(divide="ignore"):
        small, large = np.divide(_SMALLEST, smallest), largest / _LARGEST[probe.dtype]
    return float(np.log(max(1.0, small)) + np.log(max(1.0, large)))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _sizes(one: Input, given: Given) -> tuple[float, float]:
    """The largest number of the smallest output, and that of the largest, of all calls; infinite where one is not finite."""
    before = (np.inf, 0.0) if given.before is None else _sizes(one, given.before)
    outputs = reference.run_given(one.spec, one.params, given).named().values()
    sizes = [float(np.abs(values).max()) if np.isfinite(values).all() else np.inf for values in outputs]
    return min(before[0], *sizes), max(before[1], *sizes)
