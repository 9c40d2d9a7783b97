"""The catalogue of known mistakes: what goes wrong when weights are moved between frameworks.

Each one is a variation of the layer's parameters or of what is done with them. A verdict tries them all on its own probe:
a mistake that changes the layer without changing what the probe shows would have gone unseen, and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from xframe import reference
from xframe.cells import get_cell
from xframe.layout import Key, has_role
from xframe.packing import Parameters
from xframe.reference import Outputs, Plain
from xframe.spec import Layer, Recurrent

__all__ = ["Variation", "run", "variations"]


@dataclass(frozen=True)
class Variation:
    """A layer with one mistake made.

    Attributes:
        name: what people call the mistake.
        spec, params: the layer that results.
        activations: activation functions that are taken for others.
        reverse_time: the input is read backwards.
        states: what becomes of the initial states: ``kept``, ``ignored``, or ``exchanged``.
    """

    name: str
    spec: Layer
    params: Mapping[Key, np.ndarray]
    activations: Mapping[str, str] = field(default_factory=dict)
    reverse_time: bool = False
    states: str = "kept"


class _Mistaken(Plain):
    """Arithmetic that takes one activation function for another."""

    def __init__(self, activations: Mapping[str, str]) -> None:
        self._activations = activations

    def activate(self, name: str, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        wrong = self._activations.get(name, name)
        if wrong == "hard_sigmoid":
            return np.clip(0.2 * a + 0.5, 0, 1, out=out)
        return super().activate(wrong, a, out)


def run(variation: Variation, x: np.ndarray, state: Mapping[str, np.ndarray] | None) -> Outputs:
    """The reference with the mistake made."""
    if variation.reverse_time:
        x = x[:, ::-1]
    if variation.states == "ignored":
        state = None
    elif variation.states == "exchanged" and state is not None:
        state = {"h": state["c"], "c": state["h"]}
    return reference.run(variation.spec, variation.params, x, state, _Mistaken(variation.activations))


def variations(spec: Layer, params: Parameters, given_state: bool) -> Iterator[Variation]:
    """Every mistake of the catalogue that makes this layer another one."""
    for name, changed in _parameter_mistakes(spec, params):
        if any(not np.array_equal(block, params[key]) for key, block in changed.items()):
            yield Variation(name, spec, params.replaced(changed))
    if isinstance(spec, Recurrent):
        yield from _other_functions(spec, params)
        if given_state:
            yield Variation("initial state ignored", spec, params, states="ignored")
            if spec.cell == "lstm" and not spec.proj_size:
                yield Variation("states h and c exchanged", spec, params, states="exchanged")


def _other_functions(spec: Recurrent, params: Parameters) -> Iterator[Variation]:
    """Mistakes in what is done with the right parameters."""
    yield Variation("time reversed", spec, params, reverse_time=True)
    if spec.activation == "relu":
        yield Variation("tanh instead of relu", spec, params, {"relu": "tanh"})
    else:
        yield Variation("relu instead of tanh", spec, params, {"tanh": "relu"})
    if spec.recurrent_activation:
        yield Variation("hard_sigmoid instead of sigmoid", spec, params, {"sigmoid": "hard_sigmoid"})
    if spec.reset_after is not None:
        other = replace(spec, reset_after=not spec.reset_after)
        name = "reset gate before the product" if spec.reset_after else "reset gate after the product"
        yield Variation(name, other, Parameters(other, dict(params)))


Changes = dict[Key, np.ndarray]


def _parameter_mistakes(spec: Layer, params: Parameters) -> Iterator[tuple[str, Changes]]:
    """Mistakes in where the numbers go, as (name, changed blocks)."""
    cell = get_cell(spec.cell)
    for one, other in combinations(cell.gates, 2):
        yield f"gates {one} and {other} swapped", _swapped(params, "gate", one, other)
    for role, name in (("kernel", "kernel"), ("recurrent_kernel", "recurrent kernel")):
        yield f"{name} not transposed", _changed(params, role, _square(lambda w: w.T))
        yield f"{name} reshaped instead of transposed", _changed(params, role, _reshaped)
    if spec.bias:
        yield "bias dropped", _changed(params, "bias", np.zeros_like)
        if has_recurrent_bias(spec):
            yield from _two_biases(spec, params)
    if spec.cell == "lstm" and spec.bias:
        forget = {k: v + 1 for k, v in params.items() if (k.role, k.gate) == ("bias", "f")}
        yield "forget bias of 1 added", forget
    if spec.num_directions == 2:
        yield "directions swapped", _swapped(params, "direction", 0, 1)
    if spec.num_layers > 1:
        same = {k: v for k, v in _swapped(params, "layer", 0, 1).items() if v.shape == params[k].shape}
        yield "layers swapped", same


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
    inner = [pair for pair in biases if pair[0].gate not in get_cell(spec.cell).folds(spec)]
    if inner:
        folded: Changes = {}
        for key, other in inner:
            folded[key], folded[other] = params[key] + params[other], np.zeros_like(params[other])
        yield "candidate's biases added on one side", folded


def _swapped(params: Parameters, what: str, one: object, other: object) -> Changes:
    """Exchange all blocks that differ only in one part of their address."""
    other_way = {one: other, other: one}
    return {
        key: params[partner]
        for key in params
        if getattr(key, what) in other_way
        and (partner := _readdressed(key, what, other_way[getattr(key, what)])) in params
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
