"""How a framework packs a cell's parameters, as data.

A `Layout` is one table row: the native tensors of one cell in one framework, each a small tree of canonical
blocks (`Leaf`) that are concatenated (`Join`) or put under a new leading axis (`Stack`). Shapes, counts, formulas,
explanations, packing and unpacking are all derived from these trees. No NumPy here: counting needs none, and
`packing` walks the same trees with arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import product
from math import gcd, prod
from typing import Any, NamedTuple

from xframe.cells import get_cell
from xframe.errors import UnsupportedError
from xframe.spec import described

__all__ = [
    "ANY",
    "Join",
    "Key",
    "Layout",
    "Leaf",
    "Native",
    "Packing",
    "Stack",
    "State",
    "Tensor",
    "folds",
    "gates",
    "keys",
    "places",
    "states",
]


class Key(NamedTuple):
    """The address of one canonical block: layer (from 0), direction (0 forward, 1 backward), role and gate."""

    layer: int
    direction: int
    role: str
    gate: str

    def __str__(self) -> str:
        where = f"layer {self.layer}, {'backward' if self.direction else 'forward'}, {self.role}"
        return where + (f", gate {self.gate}" if self.gate else "")


@dataclass(frozen=True)
class Leaf:
    """One canonical block.

    ``form`` says how it lies in the native tensor: ``plain`` (in, out) as in canonical form, ``transposed``
    (out, in), or ``column-major``: the shape of plain, the memory of transposed (legacy cuDNN layers).
    """

    role: str
    gate: str = ""
    form: str = "plain"
    layer: int = 0
    direction: int = 0

    @property
    def key(self) -> Key:
        return Key(self.layer, self.direction, self.role, self.gate)


@dataclass(frozen=True)
class Join:
    """Parts laid end to end along an axis that they have."""

    axis: int
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Stack:
    """Parts under a new leading axis."""

    parts: tuple[Node, ...]


Node = Leaf | Join | Stack


def gates(axis: int, role: str, order: str, form: str = "plain") -> Join:
    """All gates of a role, one character a gate, laid end to end along ``axis``."""
    return Join(axis, tuple(Leaf(role, gate, form) for gate in order))


@dataclass(frozen=True)
class Tensor:
    """One native tensor of a layout row, for one layer and direction (or, stacked, for both directions)."""

    name: str
    tree: Node
    stack_directions: bool = False


@dataclass(frozen=True)
class Native:
    """One native tensor of one layer: its name, its tree with addresses, its shape, symbolic and in numbers."""

    name: str
    tree: Node
    shape: tuple[int, ...]
    symbols: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def leaves(self) -> list[Leaf]:
        return list(_leaves(self.tree))

    @property
    def layer(self) -> int:
        """The layer that it belongs to."""
        return self.leaves[0].layer

    @property
    def role(self) -> str:
        """The roles that it packs, joined by ``+``."""
        return "+".join(dict.fromkeys(leaf.role for leaf in self.leaves))


@dataclass(frozen=True)
class Layout:
    """One table row: how one framework packs one cell.

    Attributes:
        tensors: the native tensors.
        options: spec options that the row can express, each with the values allowed; `ANY` for all.
        labels: the framework's own letter for a gate where it differs from the canonical one.
        layer: what the framework calls this layer.
        notes: by the row's name of a tensor, what its shape alone does not show.
        instead: where it has no place for a block that the function depends on, the nearest layer that has.
    """

    tensors: tuple[Tensor, ...]
    options: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    layer: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    instead: str = ""

    def gate_order(self, role: str = "kernel") -> list[str]:
        """The framework's order of gates in a role, in its own letters."""
        leaves = [leaf for t in self.tensors for leaf in _leaves(t.tree) if leaf.role == role]
        return [self.labels.get(leaf.gate, leaf.gate) for leaf in leaves]


def _plain_name(spec: Any, layer: int, direction: int, name: str) -> str:
    """Cell-based frameworks: the names inside the cell, with the place before it where there are several."""
    place = [f"layers.{layer}"] if spec.num_layers > 1 else []
    if spec.num_directions > 1:
        place.append("backward" if direction else "forward")
    return "/".join([*place, name])


def _never(spec: Any) -> str:
    return ""


# The values of options that every row has which does not say otherwise; an option that is in neither is free. ANY frees
# one in a row.
ANY: tuple[Any, ...] = ()
_COMMON: dict[str, tuple[Any, ...]] = {
    "merge_mode": ("concat",),
    "go_backwards": (False,),
    "form": ("layer",),
    "backward": (None,),
    "stacked": ((),),
}


@dataclass(frozen=True)
class Packing:
    """All that is known of one framework's storage: a row per cell.

    Attributes:
        name, title: ``torch``, ``PyTorch``.
        rows: the rows by cell; a GRU that resets before the product has its own, ``gru/reset_before``.
        naming: (spec, layer, direction, name in the row) -> the native name.
        why_two_biases: where it stores two, the reason.
        why_ours: (spec) -> why the framework's own layer does not do, as the end of a sentence, or nothing if it does.
        ours: what xframe gives instead, as the reader would write it.
    """

    name: str
    title: str
    rows: Mapping[str, Layout]
    naming: Callable[[Any, int, int, str], str] = _plain_name
    why_two_biases: str = ""
    why_ours: Callable[[Any], str] = _never
    ours: str = ""

    def layout(self, spec: Any) -> Layout:
        """The row for a spec (for the first cell of its forward direction, where cells differ).

        Raises:
            UnsupportedError: this framework has no such layer; the sentence says which option it is.
        """
        rows = [self._row(spec.part(direction, layer)) for layer, direction in spec.places]
        return rows[0]

    def _row(self, part: Any) -> Layout:
        """The row for one direction of a spec."""
        cell = get_cell(part.cell)
        row = self.rows.get(row_name(part))
        if row is None:
            if any(key.split("/")[0] == part.cell for key in self.rows):
                when = "after" if part.reset_after else "before"
                raise UnsupportedError(
                    f"{self.title} has no {cell.title} that applies the reset gate {when} the product "
                    f"(reset_after={part.reset_after})."
                )
            raise UnsupportedError(f"{self.title} has no {cell.title}.")
        common = _COMMON | {"activation": cell.activations, "recurrent_activation": cell.recurrent_activations}
        for option, allowed in {**common, **row.options}.items():
            value = getattr(part, option, None)
            if allowed and value not in allowed and hasattr(part, option):
                raise UnsupportedError(f"{self.title} has no {cell.title} with {option}={described(value)}.")
        return row

    def layer_name(self, spec: Any) -> str:
        """What the layer is called that holds the tensors: the framework's own, or xframe's."""
        return self.ours if self.why_ours(spec) else self.layout(spec).layer

    def notes(self, spec: Any) -> list[str]:
        """The notes on those tensors that the layer has."""
        row = self.layout(spec)
        return [row.notes[t.name] for t in row.tensors if t.name in row.notes and _pruned(t.tree, spec)]

    def natives(self, spec: Any) -> list[Native]:
        """The native tensors of a layer, in the framework's order: its inventory before any number is known.

        Raises:
            UnsupportedError: see `layout`.
        """
        self.layout(spec)
        found = []
        for tensor, layer, directions in self._tensors(spec):
            part = spec.part(directions[0], layer)
            trees = [_address(t, layer, d) for d in directions if (t := _pruned(tensor.tree, part))]
            if trees:
                tree = Stack(tuple(trees)) if tensor.stack_directions else trees[0]
                name = self.naming(spec, layer, directions[0], tensor.name)
                found.append(Native(name, tree, node_shape(tree, spec), _symbols(tree, spec)))
        return found

    def _tensors(self, spec: Any) -> Iterator[tuple[Tensor, int, list[int]]]:
        """The tensors of a layer, each with the layer and the directions that it holds, in native order."""
        for layer, direction in spec.places:
            for tensor in self._row(spec.part(direction, layer)).tensors:
                if not tensor.stack_directions:
                    yield tensor, layer, [direction]
                elif not direction:
                    yield tensor, layer, list(range(spec.num_directions))


def row_name(spec: Any) -> str:
    """The key of a spec's layout row."""
    return f"{spec.cell}/reset_before" if getattr(spec, "reset_after", None) is False else str(spec.cell)


def keys(spec: Any) -> list[Key]:
    """The addresses of all canonical blocks of a layer."""
    parts = [(k, d, part := spec.part(d, k), get_cell(part.cell)) for k, d in spec.places]
    return [
        Key(layer, direction, role.name, gate)
        for layer, direction, part, cell in parts
        for role in cell.roles
        if has_role(part, role.name)
        for gate in (cell.gates if role.gated else ("",))
    ]


class State(NamedTuple):
    """One state of a layer: its name in the cell, the layers and the directions that have it, and its size."""

    cell_name: str
    layers: tuple[int, ...]
    directions: tuple[int, ...]
    size: int

    @property
    def axes(self) -> tuple[int, int]:
        """The first two axes of its array: how many layers, how many directions."""
        return len(self.layers), len(self.directions)

    def place(self, layer: int, direction: int) -> tuple[int, int]:
        """Where one layer and direction stands on these axes."""
        return self.layers.index(layer), self.directions.index(direction)


def states(spec: Any) -> dict[str, State]:
    """The states of a layer by name; arrays of them are (layers, directions, batch, size).

    Where the two directions have different states, those of the backward one stand apart: ``h`` and ``backward h``. So do
    those of each layer where stacked cells have different ones: ``layer 0 h`` and ``layer 1 h``.
    """
    each = {place: _cell_states(spec.part(place[1], place[0])) for place in spec.places}
    layers, directions = (tuple(sorted({place[axis] for place in each})) for axis in (0, 1))
    if _alike(each, layers, directions):
        groups = {"": (layers, directions)}
    else:
        columns = {d: tuple(layer for layer in layers if (layer, d) in each) for d in directions}
        if all(_alike(each, column, (d,)) for d, column in columns.items()):
            groups = {"backward " * d: (column, (d,)) for d, column in columns.items()}
        elif all(_alike(each, (layer,), directions) for layer in layers):
            groups = {f"layer {layer} ": ((layer,), directions) for layer in layers}
        else:
            groups = {f"{'backward ' * d}layer {layer} ": ((layer,), (d,)) for layer, d in each}
    return {
        before + name: State(name, *group, size)
        for before, group in groups.items()
        for name, size in each[group[0][0], group[1][0]].items()
    }


def _cell_states(part: Any) -> dict[str, int]:
    """The sizes of a cell's states by name."""
    cell = get_cell(part.cell)
    return {name: cell.state_size(part, name) for name in cell.states}


def _alike(each: Mapping[tuple[int, int], Any], layers: Iterable[int], directions: Iterable[int]) -> bool:
    """Whether all these places are there and have the same states."""
    found = [each.get(place) for place in product(layers, directions)]
    return all(one is not None and one == found[0] for one in found)


def places(slots: Mapping[str, State], layer: int, direction: int) -> list[tuple[str, str, tuple[int, int]]]:
    """The states of one layer and direction: (name, name in the cell, place on the first two axes)."""
    return [
        (name, slot.cell_name, slot.place(layer, direction))
        for name, slot in slots.items()
        if layer in slot.layers and direction in slot.directions
    ]


def folds(spec: Any, key: Key) -> bool:
    """Whether the two biases of the block's gate are only ever used as their sum."""
    part = spec.part(key.direction, key.layer)
    return key.gate in get_cell(part.cell).folds(part)


def has_role(spec: Any, role: str) -> bool:
    """Whether a layer has parameters of that role."""
    if role == "projection":
        return bool(spec.proj_size)
    return bool(spec.bias) or not get_cell(spec.cell).role(role).is_bias


def block_shape(spec: Any, key: Key) -> tuple[int, ...]:
    """Shape of one canonical block: kernel (input, hidden), recurrent_kernel (state, hidden), biases (hidden,)."""
    part = spec.part(key.direction, key.layer)
    sizes = {
        "input": spec.layer_input_size(key.layer, key.direction),
        "state": part.state_size,
        "hidden": part.hidden_size,
    }
    return tuple(int(sizes[dim]) for dim in get_cell(part.cell).role(key.role).dims)


def polynomial(leaves: Iterable[Leaf], spec: Any) -> Counter[tuple[str, ...]]:
    """How many blocks of each symbolic size there are, as {("features", "hidden"): 4, ...}."""
    return Counter(tuple(sorted(_dims(spec, leaf))) for leaf in leaves)


def formula(terms: Counter[tuple[str, ...]]) -> str:
    """A polynomial as text, the common factors taken out: ``4*hidden*(hidden+features+2)``."""
    number = reduce(gcd, terms.values())
    common = reduce(lambda a, b: a & b, (Counter(t) for t in terms))
    inner = []
    for term in sorted(terms, key=lambda t: (-len(t), -t.count("hidden"), t)):
        rest = sorted((Counter(term) - common).elements(), key=lambda s: (s != "hidden", s))
        scale = terms[term] // number
        inner.append("*".join(([str(scale)] if scale > 1 or not rest else []) + rest))
    outer = ([str(number)] if number > 1 else []) + sorted(common.elements())
    if inner == ["1"]:
        return "*".join(outer)
    return "*".join([*outer, f"({'+'.join(inner)})"])


def _leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        for part in node.parts:
            yield from _leaves(part)


def _pruned(node: Node, spec: Any) -> Node | None:
    """The tree without the blocks that this layer does not have."""
    if isinstance(node, Leaf):
        return node if has_role(spec, node.role) else None
    parts = tuple(p for part in node.parts if (p := _pruned(part, spec)))
    return replace(node, parts=parts) if parts else None


def _address(node: Node, layer: int, direction: int) -> Node:
    if isinstance(node, Leaf):
        return replace(node, layer=layer, direction=direction)
    return replace(node, parts=tuple(_address(p, layer, direction) for p in node.parts))


def _dims(spec: Any, leaf: Leaf) -> tuple[str, ...]:
    """The axes of a block by the names that formulas use."""
    part = spec.part(leaf.direction, leaf.layer)
    return tuple(_symbol(part, dim, leaf.layer) for dim in get_cell(part.cell).role(leaf.role).dims)


def _symbol(spec: Any, dim: str, layer: int) -> str:
    """The name that formulas use for an axis; ``below`` is what the layer below puts out."""
    hidden = "units" if spec.cell == "dense" else "hidden"
    if dim == "input":
        return "below" if layer else "features"
    return "proj" if dim == "state" and spec.proj_size else hidden


def node_shape(node: Node, spec: Any) -> tuple[int, ...]:
    """Shape of the array that a tree describes."""
    if isinstance(node, Leaf):
        shape = block_shape(spec, node.key)
        return shape[::-1] if node.form == "transposed" else shape
    shapes = [node_shape(p, spec) for p in node.parts]
    if isinstance(node, Stack):
        return (len(shapes), *shapes[0])
    total = sum(s[node.axis] for s in shapes)
    return (*shapes[0][: node.axis], total, *shapes[0][node.axis + 1 :])


def _symbols(node: Node, spec: Any) -> tuple[str, ...]:
    """The shape in symbols, (features, 4*hidden)."""
    if isinstance(node, Leaf):
        names = _dims(spec, node)
        return names[::-1] if node.form == "transposed" else names
    parts = [_symbols(p, spec) for p in node.parts]
    if isinstance(node, Stack):
        return (str(len(parts)), *parts[0])
    along: Counter[str] = Counter(p[node.axis] for p in parts)
    total = "+".join(f"{k}*{name}" if k > 1 else name for name, k in along.items())
    return (*parts[0][: node.axis], total, *parts[0][node.axis + 1 :])
