"""What outputs alone tell of where two sides depart: each with all that the steps before it have done to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from xframe.diagnosis.internals import Place, by_place, first, first_state, halves, most, valid, worst
from xframe.judging import LIMIT
from xframe.spec import Recurrent

__all__ = ["Drift", "drift"]


class Drift(NamedTuple):
    """Where outputs depart, as far as they tell.

    Attributes:
        worst: the largest ratio.
        steps: (time,) the largest of the sequence; None if only other outputs are known.
        layer, direction, step, unit: as of `xframe.diagnosis.Where`.
        masked: whether nothing departs but what is put out at masked time steps.
    """

    worst: float
    steps: np.ndarray | None
    layer: int | None
    direction: int | None
    step: int | None
    unit: int | None
    masked: bool


def drift(spec: Recurrent, seen: Mapping[str, np.ndarray], mask: np.ndarray | None) -> Drift:
    """From the ratios of some outputs, by name as in `xframe.reference.Outputs.named`, what they tell together."""
    final = by_place(spec, {name: np.moveaxis(v, 2, 0) for name, v in seen.items() if name.startswith("state ")})
    shown = seen["last"][:, None] if "last" in seen else None
    if (sequence := seen.get("sequence")) is not None:
        # Every layer that goes backwards puts out the other order of time.
        shown = sequence = sequence[:, ::-1] if spec.go_backwards and spec.num_layers % 2 else sequence
    largest = max((float(worst(v)) for v in seen.values() if not np.isnan(worst(v))), default=np.nan)
    layer, direction, step, unit = _begins(spec, shown, final)
    return Drift(
        largest,
        None if sequence is None else worst(sequence, axis=(0, 2)),
        layer,
        direction,
        None if sequence is None else step,
        unit,
        mask is not None and _only_masked(spec, seen, sequence, mask),
    )


def _begins(
    spec: Recurrent, shown: np.ndarray | None, final: Mapping[Place, Mapping[str, np.ndarray]]
) -> tuple[int | None, int | None, int | None, int | None]:
    """Layer, direction, step and unit, from what is put out, (batch, time, features), and from the final states."""
    off = [place for place, own in final.items() if any(worst(v) > LIMIT for v in own.values())]
    # With one layer, what a direction puts out depends on that direction alone.
    tops = halves(spec, shown) if shown is not None and spec.num_layers == 1 else {}
    units = {place: worst(half, axis=0) for place, half in tops.items()}
    if hit := first(spec, {place: worst(half, axis=1) for place, half in units.items()}):
        (top, direction), step = hit
        layer = min((k for k, d in off if d == direction), default=None if top else 0)
        return layer, direction, step, most(units[hit[0]][step]) if layer == top else _unit(final, layer, direction)
    one = len(list(spec.places)) == spec.num_directions
    layer = min((k for k, _ in off), default=0 if one else None)
    those = {d for k, d in off if k == layer} if spec.bidirectional else {0}
    way = those.pop() if len(those) == 1 else None
    told = spec.num_layers == 1 or not (spec.bidirectional or spec.go_backwards)
    if shown is None or way is None or not told:
        return layer, way, None, _unit(final, layer, way)
    hit = first(spec, {(0, way): worst(shown, axis=(0, 2))})
    return layer, way, hit[1] if hit else None, _unit(final, layer, way)


def _unit(final: Mapping[Place, Mapping[str, np.ndarray]], layer: int | None, direction: int | None) -> int | None:
    """The unit of a place's final states that departs most."""
    own = {} if layer is None or direction is None else final.get((layer, direction), {})
    units = {name: worst(values, axis=0) for name, values in own.items()}
    return most(first_state(units)) if any(worst(ratios) > LIMIT for ratios in units.values()) else None


def _only_masked(
    spec: Recurrent, seen: Mapping[str, np.ndarray], sequence: np.ndarray | None, mask: np.ndarray
) -> bool:
    if sequence is None or any(worst(v) > LIMIT for name, v in seen.items() if name != "sequence"):
        return False
    return not np.any(sequence[valid(spec, mask)] > LIMIT)
