"""What drawings show, as data: the tensors of a layer with their blocks, and errors over time. `drawings` draws it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from xframe.adapters import title_of
from xframe.counts import Count, redundant_biases
from xframe.layout import Join, Leaf, Native, Node, node_shape
from xframe.report.blocks import Box, Chart, ChartDrawing, Inventory, Part, Series, Shelf, TensorDrawing, ratio_text
from xframe.spec import Layer

if TYPE_CHECKING:
    from xframe.diagnosis import Where
    from xframe.verdict import Check, OverTime

__all__ = ["departure", "over_time", "prefix", "tensors"]


# Tensors.


def tensors(spec: Layer, counts: Mapping[str, Count]) -> TensorDrawing:
    """What the frameworks of ``counts`` store for the layer."""
    return TensorDrawing(str(spec), tuple(_inventory(spec, count) for count in counts.values()))


def prefix(names: Sequence[str]) -> str:
    """The folders that all names share, as ``lstm/lstm_cell/``."""
    folders = [name.split("/")[:-1] for name in names]
    shared = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(f"{parts[0]}/")
    return "".join(shared)


def _inventory(spec: Layer, count: Count) -> Inventory:
    leaves = [leaf for native in count.tensors for leaf in native.leaves]
    spare = {leaf.key for leaf in redundant_biases(leaves, spec)}
    several = len({_place(native) for native in count.tensors}) > 1
    shelves = []
    for place, natives in groupby(count.tensors, key=_place):
        found = list(natives)
        folder = prefix([native.name for native in found])
        title = _place_title(place) if several else ""
        boxes = tuple(
            Box(native.name[len(folder) :], native.shape, tuple(_parts(native, spec, spare))) for native in found
        )
        shelves.append(Shelf(title, folder, boxes))
    return Inventory(count.packing.title, ", ".join(count.layers), count.stored, count.effective, tuple(shelves))


def _place(native: Native) -> tuple[int, tuple[int, ...]]:
    """The layer and the directions that a tensor belongs to."""
    return native.layer, tuple(sorted({leaf.direction for leaf in native.leaves}))


def _place_title(place: tuple[int, tuple[int, ...]]) -> str:
    layer, directions = place
    names = [("forward", "backward")[direction] for direction in directions]
    return f"layer {layer}, {' and '.join(names)}"


def _parts(native: Native, spec: Layer, spare: Iterable[object]) -> Iterator[Part]:
    """The blocks of a tensor; axes before the last two are counted through as slices."""
    for leaf, corner in _placed(native.tree, spec):
        rows, columns = (1, *node_shape(leaf, spec))[-2:]
        row, column = (0, *corner)[-2:]
        index = 0
        for length, at in zip(native.shape[:-2], corner[:-2], strict=True):
            index = index * length + at
        yield Part(leaf.role, leaf.gate, index, row, column, rows, columns, leaf.key in spare)


def _placed(node: Node, spec: Layer) -> Iterator[tuple[Leaf, tuple[int, ...]]]:
    """Every leaf of a tree with the index of its first number."""
    if isinstance(node, Leaf):
        yield node, (0,) * len(node_shape(node, spec))
        return
    start = 0
    for i, part in enumerate(node.parts):
        for leaf, at in _placed(part, spec):
            if isinstance(node, Join):
                yield leaf, (*at[: node.axis], at[node.axis] + start, *at[node.axis + 1 :])
            else:
                yield leaf, (i, *at)
        start += node_shape(part, spec)[node.axis] if isinstance(node, Join) else 0


# Errors over time.


def over_time(checks: Iterable[Check], limit: float) -> ChartDrawing | None:
    """The error of the output ``sequence`` of each layer and dtype, from the initial state that shows most, and the limit.

    A line a framework, or, where there is only one, a line for each origin of its weights. None where no check knows its error
    over time.
    """
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        if check.over_time is not None:
            groups.setdefault((check.layer, check.dtype), []).append(check)
    if not groups:
        return None
    charts = tuple(_chart(*key, found, limit) for key, found in groups.items())
    note = (
        f"The largest absolute difference of each time step; allowed are {limit:g} times the rounding noise, here of the "
        "element that has most of it. A ring marks a step with an element that is over its own limit."
    )
    return ChartDrawing("Output error against noise over time", note, charts)


def _chart(layer: str, dtype: str, checks: Sequence[Check], limit: float) -> Chart:
    start = max(checks, key=_ratio).initial_state
    checks = [check for check in checks if check.initial_state == start]
    one = len({check.framework for check in checks}) == 1
    worst: dict[str, Check] = {}
    for check in checks:
        name = title_of(check.framework) + (f" ({check.weights})" if one else "")
        worst[name] = max(worst.get(name, check), check, key=_ratio)
    found: dict[str, OverTime] = {name: check.over_time for name, check in worst.items() if check.over_time}
    series = tuple(
        Series(name, o.error, tuple(i for i, ratio in enumerate(o.ratio) if ratio > limit)) for name, o in found.items()
    )
    allowed = tuple(limit * min(noise) for noise in zip(*(o.noise for o in found.values()), strict=True))
    return Chart(f"{layer}, {dtype}, initial state {start}", "largest difference", series, allowed)


def _ratio(check: Check) -> float:
    return check.noise_ratio or 0.0


def departure(where: Where) -> ChartDrawing | None:
    """Where two sides depart: the error over time, and that of each gate. None where nothing is known over time."""
    from xframe.judging import LIMIT  # which needs NumPy

    names = {"with what earlier steps have done (drift)": where.steps, "each step by itself": where.local}
    known = {name: tuple(map(float, values)) for name, values in names.items() if values is not None}
    if not known:
        return None
    steps = len(next(iter(known.values())))
    series = tuple(
        Series(name, values, tuple(i for i, value in enumerate(values) if value > LIMIT))
        for name, values in known.items()
    )
    charts = [Chart("Error over time", "times the rounding noise", series, (LIMIT,) * steps, where.step)]
    if where.gates:
        gates = tuple(Series(f"gate {name}", tuple(map(float, values))) for name, values in where.gates.items())
        charts.append(Chart("Each gate, both sides in the same states", "largest difference", gates, (), where.step))
    return ChartDrawing(
        "Where they depart", f"A ring marks what is over the limit of {ratio_text(LIMIT)}.", tuple(charts)
    )
