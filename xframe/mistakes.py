"""The catalogue of known mistakes: what goes wrong when weights are moved between frameworks.

Each one is a variation of the layer's parameters or of what is done with them. A verdict tries them all on its own probe:
a mistake that changes the layer without changing what the probe shows would have gone unseen, and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from xframe import reference
from xframe.cells import get_cell
from xframe.layout import Key, folds, has_role
from xframe.packing import Parameters
from xframe.reference import Given, Outputs
from xframe.spec import Layer, Recurrent

__all__ = ["Variation", "parameter_mistakes", "run", "variations"]


@dataclass(frozen=True)
class Variation:
    """A layer with one mistake made.

    Attributes:
        name: what people call the mistake.
        spec, params: the layer that results.
        given: what it is run on instead.
        after: what becomes of its outputs.
    """

    name: str
    spec: Layer
    params: Mapping[Key, np.ndarray]
    given: Given
    after: Callable[[Outputs], Outputs] | None = None


def run(variation: Variation) -> Outputs:
    """The reference with the mistake made."""
    out = reference.run_given(variation.spec, variation.params, variation.given)
    return variation.after(out) if variation.after else out


def variations(spec: Layer, params: Parameters, given: Given) -> Iterator[Variation]:
    """Every mistake of the catalogue that makes this layer, or what it does with what it is given, another one.

    With a mask, and in a second call, those that have to do with the mask and with the states that are carried over: the
    others show at the first call without a mask as well.
    """
    if isinstance(spec, Recurrent) and given.mask is not None:
        yield from _mask_mistakes(spec, params, given)
    elif given.before is not None:
        yield Variation("state not carried to the next call", spec, params, replace(given, before=None))
    else:
        for name, changed in parameter_mistakes(spec, params):
            if any(not np.array_equal(block, params[key]) for key, block in changed.items()):
                yield Variation(name, spec, params.replaced(changed), given)
        if isinstance(spec, Recurrent):
            yield from _other_functions(spec, params, given)
            yield from _time_mistakes(spec, params, given)
            yield from _state_mistakes(spec, params, given)


def _mask_mistakes(spec: Recurrent, params: Parameters, given: Given) -> Iterator[Variation]:
    mask = np.asarray(given.mask)
    late = np.concatenate([np.ones_like(mask[:, :1]), mask[:, :-1]], axis=1)
    wrong = {"mask ignored": None, "mask from the wrong side (left for right)": mask[:, ::-1], "mask off by one": late}
    for name, other in wrong.items():
        if other is None or not np.array_equal(other, mask):
            yield Variation(name, replace(spec, mask="any"), params, replace(given, mask=other))
    # Where the padding is read first, there is no output to repeat, and beside a factor of zero none shows.
    one_way = spec.go_backwards and not spec.bidirectional
    if spec.mask == "right" and (one_way or spec.merge_mode == "mul"):
        return
    instead = "repeat" if spec.masked_output == "zero" else "zero"
    yield Variation(f"masked steps: {instead} instead", replace(spec, masked_output=instead), params, given)


# What an activation function is taken for.
_SLIPS = {
    "tanh": ("relu",),
    "relu": ("tanh",),
    "sigmoid": ("hard_sigmoid", "hard_sigmoid_keras2"),
    "hard_sigmoid": ("hard_sigmoid_keras2", "sigmoid"),
    "hard_sigmoid_keras2": ("hard_sigmoid", "sigmoid"),
}


def _other_functions(spec: Recurrent, params: Parameters, given: Given) -> Iterator[Variation]:
    """Other functions of the right parameters."""
    for option in ("activation", "recurrent_activation"):
        name = getattr(spec, option)
        for slip in _SLIPS.get(name, ("tanh",)) if name else ():
            yield _with_options(f"{slip} instead of {name}", spec, params, given, **{option: slip})
    if spec.reset_after is not None:
        name = "reset gate before the product" if spec.reset_after else "reset gate after the product"
        yield _with_options(name, spec, params, given, reset_after=not spec.reset_after)
    if spec.bidirectional and spec.merge_mode not in ("concat", None):
        for other in ("sum", "mul", "ave"):
            if other != spec.merge_mode:
                name = f"merge_mode {other} instead of {spec.merge_mode}"
                yield _with_options(name, spec, params, given, merge_mode=other)


def _with_options(name: str, spec: Recurrent, params: Parameters, given: Given, **options: Any) -> Variation:
    other = replace(spec, **options)
    return Variation(name, other, Parameters(other, dict(params)), given)


def _time_mistakes(spec: Recurrent, params: Parameters, given: Given) -> Iterator[Variation]:
    yield Variation("time reversed", spec, params, replace(given, x=given.x[:, ::-1]))
    if spec.go_backwards and not spec.bidirectional:
        yield Variation("output flipped back", spec, params, given, lambda out: _flipped(out, slice(None)))
    if spec.bidirectional and spec.merge_mode in ("concat", None):
        backward = slice(spec.column(0)[-1].state_size, None)
        yield Variation("backward output not flipped back", spec, params, given, lambda out: _flipped(out, backward))


def _flipped(out: Outputs, features: slice) -> Outputs:
    sequence = out.sequence.copy()
    sequence[..., features] = sequence[:, ::-1, features]
    return replace(out, sequence=sequence)


def _state_mistakes(spec: Recurrent, params: Parameters, given: Given) -> Iterator[Variation]:
    state = given.state
    if state is not None:
        yield Variation("initial state ignored", spec, params, replace(given, state=None))
        if {"h", "c"} <= set(state) and state["h"].shape == state["c"].shape:
            exchanged = {**state, "h": state["c"], "c": state["h"]}
            yield Variation("states h and c exchanged", spec, params, replace(given, state=exchanged))


Changes = dict[Key, np.ndarray]


def parameter_mistakes(spec: Layer, params: Parameters) -> Iterator[tuple[str, Changes]]:
    """Mistakes in where the numbers go, as (name, changed blocks)."""
    cell = get_cell(spec.cell)
    for one, other in combinations(cell.gates, 2):
        if (one, other) == ("i", "g") and _one_function(spec):
            continue  # a product of the same function of both
        yield f"gates {one} and {other} swapped", _swapped(params, "gate", one, other)
    for role, name in (("kernel", "kernel"), ("recurrent_kernel", "recurrent kernel")):
        yield f"{name} not transposed", _changed(params, role, _square(lambda w: w.T))
        yield f"{name} reshaped instead of transposed", _changed(params, role, _reshaped)
    if spec.bias:
        yield "bias dropped", _changed(params, "bias", np.zeros_like)
        if has_recurrent_bias(spec):
            yield from _two_biases(spec, params)
    if spec.cell == "lstm" and spec.bias and getattr(spec, "recurrent_activation", "") not in _SHIFTED:
        forget = {k: v + 1 for k, v in params.items() if (k.role, k.gate) == ("bias", "f")}
        yield "forget bias of 1 added", forget
    if spec.num_directions == 2:
        yield "directions swapped", _swapped(params, "direction", 0, 1)
    if any(layer for layer, _ in spec.places):
        yield "layers swapped", _swapped(params, "layer", 0, 1)


# Adding one number to all units changes nothing.
_SHIFTED = ("softmax", "log_softmax")


def _one_function(spec: Layer) -> bool:
    """Whether the gates and the candidate have the same activation function."""
    names = {getattr(spec, option, "") for option in ("activation", "recurrent_activation")}
    return len(names) == 1 or names == {"elu", "celu"}


def has_recurrent_bias(spec: Layer) -> bool:
    """Whether the layer's canonical form has a recurrent bias."""
    return any(r.name == "recurrent_bias" and has_role(spec, r.name) for r in get_cell(spec.cell).roles)


def _two_biases(spec: Layer, params: Parameters) -> Iterator[tuple[str, Changes]]:
    biases = [(key, key._replace(role="recurrent_bias")) for key in params if key.role == "bias"]
    yield "recurrent bias dropped", _changed(params, "recurrent_bias", np.zeros_like)
    both: Changes = {}
    for key, other in biases:
        both[key] = both[other] = params[key] + params[other]
    yield "both biases added on both sides", both
    inner = [pair for pair in biases if not folds(spec, pair[0])]
    if inner:
        folded: Changes = {}
        for key, other in inner:
            folded[key], folded[other] = params[key] + params[other], np.zeros_like(params[other])
        yield "candidate's biases added on one side", folded


def _swapped(params: Parameters, what: str, one: object, other: object) -> Changes:
    """Exchange all blocks that differ only in one part of their address and have one shape."""
    other_way = {one: other, other: one}
    return {
        key: params[partner]
        for key in params
        if getattr(key, what) in other_way
        and (partner := _readdressed(key, what, other_way[getattr(key, what)])) in params
        and params[partner].shape == params[key].shape
    }


def _readdressed(key: Key, what: str, value: Any) -> Key:
    return key._replace(**{what: value})


def _changed(params: Parameters, role: str, change: Callable[[np.ndarray], np.ndarray]) -> Changes:
    return {key: change(block) for key, block in params.items() if key.role == role}


def _square(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Only where the shape would not betray it."""
    return lambda w: change(w) if w.shape[0] == w.shape[1] else w


def _reshaped(w: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(w.T).reshape(w.shape)
