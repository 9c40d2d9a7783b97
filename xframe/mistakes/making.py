"""What entries of the catalogue have in common: how they change blocks, options, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from xframe import layout
from xframe.layout import Key
from xframe.mistakes.base import After, Case
from xframe.reference import Given, Outputs
from xframe.spec import Layer, Recurrent

__all__ = [
    "BIASES",
    "KERNELS",
    "each_block",
    "each_call",
    "framed",
    "halves",
    "output_scaled",
    "parts",
    "recurrent",
    "tensors",
    "with_backward",
    "with_blocks",
    "with_options",
]

KERNELS = ("kernel", "recurrent_kernel")
BIASES = ("bias", "recurrent_bias")
Blocks = Mapping[Key, np.ndarray]


def with_blocks(case: Case, blocks: Blocks) -> Case:
    """The case with some blocks changed, and the rest as they are."""
    return replace(case, params={**case.params, **blocks}) if blocks else case


def each_block(case: Case, roles: Iterable[str], change: Callable[[np.ndarray], np.ndarray]) -> Case:
    """The case with every block of these roles changed."""
    return with_blocks(case, {key: change(block) for key, block in case.params.items() if key.role in roles})


def with_options(case: Case, options: Callable[[Recurrent], Mapping[str, Any]]) -> Case:
    """The case with other options in the layer itself and in each part of it that differs from it."""
    if not isinstance(case.spec, Recurrent):
        return case
    spec = _told(case.spec, options)
    return case if spec == case.spec else replace(case, spec=spec)


def _told(spec: Recurrent, options: Callable[[Recurrent], Mapping[str, Any]]) -> Recurrent:
    stacked = tuple(_told(one, options) for one in spec.stacked)
    backward = spec.backward and _told(spec.backward, options)
    return replace(spec, **options(spec), stacked=stacked, backward=backward)


def each_call(given: Given, change: Callable[[Given], Given]) -> Given:
    """What is given, changed in this call and in every one before it."""
    return change(replace(given, before=given.before and each_call(given.before, change)))


def framed(case: Case, given: Given, after: After) -> Case:
    """The case run on something else, and what undoes that in its outputs, before anything else is done to them."""
    return replace(case, given=given, after=(after, *case.after))


def recurrent(case: Case, *, mask: bool | None = None) -> Recurrent | None:
    """The spec of a recurrent layer, if it is one, and if it is given a mask or none, where that is asked for."""
    if not isinstance(case.spec, Recurrent) or (mask is not None and (case.given.mask is not None) != mask):
        return None
    return case.spec


def halves(spec: Layer) -> tuple[slice, slice] | None:
    """Where the forward and the backward half lie in the output's features, if they lie beside each other."""
    if not isinstance(spec, Recurrent) or not spec.bidirectional or spec.merge_mode not in ("concat", None):
        return None
    size = spec.column(0)[-1].state_size
    return slice(size), slice(size, None)


def parts(spec: Layer) -> Iterator[tuple[tuple[int, int], Any]]:
    """Every (layer, direction), with what describes its cell."""
    return ((place, spec.part(place[1], place[0])) for place in spec.places)


def tensors(roles: Iterable[str], case: Case) -> str:
    """The tensors of these roles that a layer has, as a sentence names them: ``the kernel and the biases``."""
    present = {key.role for key in case.params}
    names = [f"the {role.replace('_', ' ')}" for role in roles if role in present]
    if {"the bias", "the recurrent bias"} <= set(names):
        names = [*names[: names.index("the bias")], "the biases"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def output_scaled(factor: float, out: Outputs) -> Outputs:
    """All outputs but the states times a factor."""
    return replace(out, sequence=factor * out.sequence, last=factor * out.last)


def with_backward(case: Case, other: Callable[[Given], Given], flipped: bool) -> Case:
    """The case with the backward half of what the layer puts out when it is run on something else of the same sizes.

    With ``flipped``, that half is turned round in time. Both are run at once, one below the other in the batch.
    """
    batch = case.given.x.shape[0]
    given = each_call(case.given, lambda one: _below(one, other(one)))
    # What is turned round in time is padded on the left.
    wide = with_options(case, lambda part: {"mask": "any"} if part.mask else {})
    return framed(wide, given, partial(_put_together, case.spec, batch, flipped))


def _below(one: Given, two: Given) -> Given:
    mask = None
    if one.mask is not None or two.mask is not None:
        masks = (np.ones(each.x.shape[:2], bool) if each.mask is None else each.mask for each in (one, two))
        mask = np.concatenate(list(masks))
    state = one.state and {name: np.concatenate([value, value], axis=2) for name, value in one.state.items()}
    return Given(np.concatenate([one.x, two.x]), state, mask, one.before)


def _put_together(spec: Layer, batch: int, flipped: bool, out: Outputs) -> Outputs:
    """The forward half of the first rows beside the backward half of the others."""
    forward, backward = halves(spec) or (slice(None), slice(0))
    turned = out.sequence[batch:, ::-1] if flipped else out.sequence[batch:]
    states = {}
    for name, slot in layout.states(spec).items():
        rows = [
            out.states[name][:, i, batch:] if d else out.states[name][:, i, :batch]
            for i, d in enumerate(slot.directions)
        ]
        states[name] = np.stack(rows, axis=1)
    return Outputs(
        np.concatenate([out.sequence[:batch, :, forward], turned[..., backward]], axis=-1),
        np.concatenate([out.last[:batch, forward], out.last[batch:, backward]], axis=-1),
        states,
    )
