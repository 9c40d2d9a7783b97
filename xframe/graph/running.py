"""A graph in NumPy: what it computes, inputs that show mistakes, and how much rounding may change its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np

from xframe import noise as noises
from xframe import probe as probes
from xframe.activations import ACTIVATIONS
from xframe.budget import current
from xframe.errors import SpecError
from xframe.graph.arithmetic import Exact, Operations, Rounding
from xframe.graph.graph import Graph
from xframe.graph.kinds import KINDS
from xframe.graph.kinds.base import Masked
from xframe.graph.node import Node
from xframe.masks import check_mask
from xframe.spec import Recurrent

__all__ = ["Arrays", "altered", "named", "noise", "probe", "run", "run_masked", "sole"]

Found = TypeVar("Found")
# Arrays by the names of a model's inputs or outputs.
Arrays: TypeAlias = Mapping[str, np.ndarray]

# As in xframe.noise: perturbations finer than the first are made that large and scaled down, unless they grow beyond the second.
_FINEST = 2.0**-40
_SMALL = 1e-3
# For each number that a node reads or puts out in a copy of a sample, so many bytes: it is float64, and worked on beside itself.
# For each time step of a recurrent layer, so many seconds: it is run about fifty times, with each mistake and on each input.
_HELD, _SECONDS_A_STEP = 16, 0.005
# How the words of a probe and the other numbers are drawn apart.
_WORDS, _NUMBERS = 4, 5


def named(graph: Graph, given: np.ndarray | Arrays) -> dict[str, np.ndarray]:
    """What a model is given, by the names of its inputs; an array is that of its only input.

    Raises:
        SpecError: these are not its inputs, or do not have their shapes.
    """
    if not isinstance(given, Mapping):
        if len(graph.inputs) != 1:
            names = ", ".join(one.name for one in graph.inputs)
            raise SpecError(f"The model has {len(graph.inputs)} inputs ({names}); give an array for each, by its name.")
        given = {graph.inputs[0].name: given}
    if set(given) != {one.name for one in graph.inputs}:
        names = ", ".join(one.name for one in graph.inputs)
        raise SpecError(f"The inputs of the model are {names}, not {', '.join(given) or 'none'}.")
    found = {one.name: np.asarray(given[one.name]) for one in graph.inputs}
    for one in graph.inputs:
        x = found[one.name]
        fits = x.ndim == 1 + len(one.shape) and all(b in (None, a) for a, b in zip(x.shape[1:], one.shape, strict=True))
        if not fits or 0 in x.shape or x.dtype.kind not in "fiu":
            raise SpecError(
                f"{one.name} must be numbers of the shape {('batch', *one.shape)}, not {x.dtype} of the shape {x.shape}."
            )
    if len(rows := {len(x) for x in found.values()}) > 1:
        raise SpecError(f"The inputs of the model must have one number of rows, not {sorted(rows)}.")
    return found


def sole(by_name: Mapping[str, Found]) -> Found:
    """What belongs to the only input or output of a model."""
    (found,) = by_name.values()
    return found


def run(graph: Graph, given: np.ndarray | Arrays, dtype: str | None = None) -> dict[str, np.ndarray]:
    """What a graph puts out, by the names of its outputs: see `run_masked`."""
    return {name: y for name, (y, _) in run_masked(graph, given, None, dtype).items()}


def run_masked(
    graph: Graph, given: np.ndarray | Arrays, mask: np.ndarray | None = None, dtype: str | None = None
) -> dict[str, Masked]:
    """What a graph puts out, by the names of its outputs, each with the mask that is handed on with it.

    Args:
        graph: the graph.
        given: for each input (batch, ...), with samples of `Input.shape`: float32 or float64, or whole numbers for an embedding;
            an array is that of the only input.
        mask: (batch, time), bool, or None: it comes with the first input. What the graph makes itself needs none.
        dtype: in which to compute: that of the inputs if None, float32 for whole numbers alone.

    Raises:
        SpecError: the inputs or the mask do not fit the graph.
        FileError, LayoutError: the graph's arrays cannot be read, or are not those of its nodes.
    """
    arrays = named(graph, given)
    first = next(iter(arrays.values()))
    if mask is not None:
        check_mask(mask, first)
    floats = [x.dtype for x in arrays.values() if x.dtype.kind == "f"]
    return _through(graph, arrays, mask, dtype or (np.result_type(*floats).name if floats else "float32"), Exact())


def altered(
    graph: Graph, given: np.ndarray | Arrays, value: str, change: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """What a graph puts out in float64, if a value in it were changed."""
    found = _through(graph, named(graph, given), None, "float64", Exact(), {value: change})
    return {name: y for name, (y, _) in found.items()}


def _through(
    graph: Graph,
    given: Arrays,
    mask: np.ndarray | None,
    dtype: str,
    ops: Operations,
    changed: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
) -> dict[str, Masked]:
    """One node after the other; the arrays of one node at a time are held, and values as long as they are read."""
    values: dict[str, Masked] = {}
    for one in graph.inputs:
        x = given[one.name]
        values[one.name] = (x if one.name in graph.words else x.astype(dtype, copy=False)), None
    if mask is not None:
        values[graph.inputs[0].name] = values[graph.inputs[0].name][0], mask
    # Results are the node's own and may be changed in place, which must not change what others read.
    last = _last_reads(graph)
    for at, node in enumerate(graph.nodes):
        read = [values[value] for value in node.reads]
        masks = [values[node.mask_of(i)][0] if node.mask_of(i) else one[1] for i, one in enumerate(read)]
        made = KINDS[node.kind].run(node, _params(node, dtype), [x for x, _ in read], masks, ops)
        for value, (y, made_mask) in zip(node.writes, made, strict=True):
            if changed and value in changed:
                y = changed[value](y)
            values[value] = y, made_mask
        for value in last.get(at, ()):
            del values[value]
    return {one.name: values[one.value] for one in graph.outputs}


def _last_reads(graph: Graph) -> dict[int, list[str]]:
    """By the place of a node, the values that nobody needs after it."""
    kept = {one.value for one in graph.outputs}
    ends: dict[str, int] = {}
    for at, node in enumerate(graph.nodes):
        ends.update(dict.fromkeys((*node.writes, *node.reads, *filter(None, node.masks)), at))
    found: dict[int, list[str]] = {}
    for value, at in ends.items():
        if value not in kept:
            found.setdefault(at, []).append(value)
    return found


def _params(node: Node, dtype: str) -> Mapping[Any, np.ndarray]:
    """A node's arrays in the dtype of the computation, to which the recurrent reference brings its own itself."""
    params = node.params()
    # Once all of it, because the reference goes from one block to another and back.
    return dict(params) if node.spec is not None else {name: array.astype(dtype) for name, array in params.items()}


# ---- What it is run on.


def probe(graph: Graph, batch: int, steps: int, seed: int = 0, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Inputs that show mistakes: every number distinct and away from zero; masked time steps, if the graph makes masks.

    Args:
        graph: the graph.
        batch, steps: the size of the inputs; an axis whose length the graph fixes has that length instead of ``steps``.
        seed: of the random generator.
        scale: by how much the numbers are larger; best a power of two. It is nothing to whole numbers.

    Raises:
        SpecError: the batch is not that of a stateful layer.
    """
    for node in graph.nodes:
        if (size := getattr(node.spec, "batch_size", None)) not in (None, batch):
            raise SpecError(f"The node {node.name!r} is stateful and keeps states for a batch of {size}, not {batch}.")
    shapes = {one.name: (batch, *(steps if axis is None else axis for axis in one.shape)) for one in graph.inputs}
    _check_cost(graph, shapes)
    found = {}
    for number, one in enumerate(graph.inputs):
        maker = _maker(graph, one.name)
        shape = shapes[one.name]
        # The first input is what it would be alone.
        own = seed + 7_919 * number
        if one.name in graph.words:
            found[one.name] = _words(graph, maker, shape, own, number)
            continue
        random = np.random.default_rng([own, _NUMBERS])
        drawn = random.choice([-1.0, 1.0], shape) * random.uniform(0.2, 1.0, shape) * 1.5
        x = scale * probes.rounded(drawn, "float32")
        if maker is not None and maker.kind == "masking":
            x[~_valid(graph, shape, number)] = maker.options["value"]
        found[one.name] = x.astype(np.float32)
    return found


def _maker(graph: Graph, value: str) -> Node | None:
    """What first does something with a value: makes a mask of it, or looks its numbers up in a table."""
    for node in graph.readers(value):
        kind = KINDS[node.kind]
        if node.kind in ("embedding", "masking") or value not in node.reads:
            return node
        if kind.passes or node.kind == "activation":
            for written in node.writes:
                if (found := _maker(graph, written)) is not None:
                    return found
    return None


def _check_cost(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse inputs of these shapes if running the graph on them takes more memory or time than is allowed."""
    try:
        inputs = tuple(replace(one, shape=shapes[one.name][1:]) for one in graph.inputs)
        sizes = replace(graph, inputs=inputs).shapes
    except SpecError:  # it cannot read that, which shows when it is run
        return
    first = next(iter(shapes.values()))
    copies = first[0] * (1 + noises.REPLICAS)
    last, held, most, time_steps = _last_reads(graph), 0, 0, 0

    def numbers(value: str) -> int:
        return prod(axis for axis in sizes[value] if axis is not None)

    held = sum(numbers(one.name) for one in graph.inputs)
    for at, node in enumerate(graph.nodes):
        inside = 0
        if isinstance(node.spec, Recurrent):
            # All that its layers put out, whatever of it is handed on.
            length = sizes[node.reads[0]][0] or 1
            inside = length * sum(node.spec.part(direction, layer).hidden_size for layer, direction in node.spec.places)
            time_steps += length * sum(1 for _ in node.spec.places)
        held += sum(map(numbers, node.writes))
        most = max(most, held + inside)
        held -= sum(map(numbers, last.get(at, ())))
    what = f"Running the model {graph.name[:80]!r} on an input of the shape {first}"
    current().fits(_HELD * copies * most, what)
    current().lasts(_SECONDS_A_STEP * time_steps, what)


def _words(graph: Graph, embedding: Node | None, shape: tuple[int, ...], seed: int, number: int) -> np.ndarray:
    """Rows of the table; with ``mask_zero``, zeros where a time step is masked, and nowhere else."""
    assert embedding is not None
    size = (embedding.shapes or {"embeddings": embedding.params()["embeddings"].shape})["embeddings"][0]
    masks = bool(embedding.options["mask_zero"])
    found = np.random.default_rng([seed, _WORDS]).integers(min(int(masks), size - 1), size, shape)
    return np.where(_valid(graph, shape, number), found, 0) if masks else found


def _valid(graph: Graph, shape: tuple[int, ...], number: int) -> np.ndarray:
    """A mask (batch, time), another one for each input: padding before, gaps, none, padding after, and a sample without a valid
    step, unless steps are averaged, which such a sample does not allow. Where a layer takes padding on the right only: of
    different lengths."""
    batch, steps = shape[0], shape[1]
    times = np.arange(steps)
    kinds = [times >= (steps + 1) // 3, times % 3 != 1, times >= 0, (times < steps - 1) | (steps == 1)]
    if any(getattr(node.spec, "mask", None) == "right" for node in graph.nodes):
        kinds = [times < max(steps - 1, 1), times >= 0, times < (steps + 1) // 2]
    elif not any(KINDS[node.kind].uses_mask(node) and node.spec is None for node in graph.nodes):
        kinds.append(times < 0)
    return np.array([kinds[(row + number) % len(kinds)] for row in range(batch)])


# ---- How much it may be off.


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is not judged
def noise(
    graph: Graph, given: np.ndarray | Arrays, dtype: str, mask: np.ndarray | None = None, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each output its numbers in float64, and the rounding noise of ``dtype`` around each (standard deviation).

    `xframe.noise` says how; the nodes that are not recurrent round what they compute likewise.
    """
    u = noises.ROUNDOFF["float32" if dtype == "float64" and _single(graph) else dtype]
    found = _spread(graph, given, mask, max(u, _FINEST), seed, noises.underflow(dtype))
    if u < _FINEST:
        coarse = None
        for name, (clean, deviation) in found.items():
            chaotic = np.any(deviation > _SMALL * np.abs(clean).max())
            deviation = deviation * u / _FINEST
            if chaotic:
                coarse = coarse or _spread(graph, given, mask, u, seed)
                deviation = np.maximum(deviation, coarse[name][1])
            found[name] = clean, deviation
    if dtype != "float64":
        return found
    # The float64 reference itself rounds, and two independent errors add up by their squares.
    return {name: (clean, deviation * np.sqrt(2)) for name, (clean, deviation) in found.items()}


def _single(graph: Graph) -> bool:
    """Whether an activation function has a constant that is exact to float32 only."""
    return any(ACTIVATIONS[name].single for name in _functions(graph))


def _functions(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        if node.kind == "activation":
            yield str(node.options["name"])
        for layer, direction in node.spec.places if node.spec is not None else ():
            part = node.spec.part(direction, layer) if node.spec is not None else None
            for name in (getattr(part, "activation", None), getattr(part, "recurrent_activation", None)):
                if name:
                    yield name


def _spread(
    graph: Graph, given: np.ndarray | Arrays, mask: np.ndarray | None, u: float, seed: int, least: float = 0.0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The outputs, and how far replicas with unit roundoff ``u`` spread around them; ``least`` as in `xframe.noise.Perturbed`."""
    arrays, copies = named(graph, given), 1 + noises.REPLICAS
    rows = len(next(iter(arrays.values())))
    ops = Rounding(rows, u, seed, least)
    tiled = {name: np.tile(x, (copies, *[1] * (x.ndim - 1))) for name, x in arrays.items()}
    ran = _through(graph, tiled, None if mask is None else np.tile(mask, (copies, 1)), "float64", ops)
    found = {}
    for name, (y, _) in ran.items():
        clean, *others = np.split(y, copies)
        own = np.mean(np.square(np.stack(others) - clean), axis=0)
        # Eight copies tell the spread of one element badly, and that of all units together well: both count.
        typical = own.mean(axis=-1, keepdims=True)
        found[name] = clean, np.sqrt(own + typical + np.square(u * clean) / 4) + np.finfo(np.float32).tiny
    return found
