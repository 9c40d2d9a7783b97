"""What an ONNX graph runs around its layers: which nodes only hand numbers on as exporters do, and what else is computed.

An exporter writes more than a node for a layer: it turns the input to time first, makes states of zeros in the size of the
batch, takes the axis of directions away, picks the last step. So each value is followed from where it was computed, as an
array whose axes are products of named ones: a node that cuts, turns and merges axes is *plumbing* as long as what comes out
is the whole of that array with its features last, in whatever order its steps and rows are. Everything else is *opaque*: it is
run, and no layer that is recognised says so. What is not followed is opaque, never plumbing.

Source: https://onnx.ai/onnx/operators/ (in all their versions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from xframe.adapters._onnx_operators import CELLS
from xframe.files.base import ModelFile, StoredGraph, StoredNode, StoredTensor

__all__ = ["Flow", "Start", "flow_of", "is_zero"]

# How many numbers a constant may have to be looked at: a list of axes or sizes, and a state of zeros.
_MOST_INTS = 64
_MOST_STATE = 2**22
_STATES = {"RNN": {5: "initial_h"}, "GRU": {5: "initial_h"}, "LSTM": {5: "initial_h", 6: "initial_c"}}
_LENGTHS = 4
# What picks sizes and what computes with them, as the size of a state of zeros is.
_PICKS = ("Cast", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze")
_ARITHMETIC = ("Add", "Concat", "Div", "Equal", "Mul", "Sub", "Where")
# What makes an array of zeros of one of zeros.
_STILL = (
    "Cast",
    "Concat",
    "ConstantOfShape",
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)  # fmt: skip
_CHOOSE = ("Gather", "Slice", "Split")
_END = 2**31 - 1  # from there on, the end of a slice is that of the axis


@dataclass(frozen=True)
class Start:
    """What is known of what a recurrent node is given besides its weights.

    Attributes:
        reversed: whether it reads its input from the last step on, and puts out in that order.
        aligned: whether all that its output is used for takes it as a layer with these options puts it out.
        states: by input, ``zero``, ``constant``, ``given`` by who runs the model, or ``computed``.
        lengths: likewise; ``full`` where each sequence is as long as the input; empty where there are none.
    """

    reversed: bool = False
    aligned: bool = True
    states: Mapping[str, str] = field(default_factory=dict)
    lengths: str = ""


@dataclass(frozen=True)
class Flow:
    """What is known of how the layers of a file are connected.

    Attributes:
        starts: by the name of a recurrent node.
        opaque: the nodes of the graph of the whole that compute something and are no plumbing, with the reason where it is not
            plain.
        plumbing: the names of the nodes that are.
    """

    starts: Mapping[str, Start]
    opaque: tuple[tuple[StoredNode, str], ...]
    plumbing: frozenset[str]


def flow_of(file: ModelFile, dense: frozenset[str]) -> Flow:
    """Follow the values of each graph.

    Args:
        file: an ONNX file; there is nothing to follow in others.
        dense: the names of the layers that are dense ones.
    """
    starts: dict[str, Start] = {}
    opaque: list[tuple[StoredNode, str]] = []
    plumbing: set[str] = set()
    for graph in file.graphs:
        walk = _Walk(graph, dense)
        walk.run()
        starts |= walk.starts
        opaque += walk.opaque if not graph.inner else []
        plumbing |= walk.plumbing
    return Flow(starts, tuple(opaque), frozenset(plumbing))


# ---- Values.


@dataclass(frozen=True, eq=False)
class _Atom:
    """An axis of an array where it was computed. ``size`` is None where only a run tells."""

    size: int | None = None


_Axis = tuple[_Atom, ...]  # a product of axes; of none for an axis of size 1


class _Source:
    """Something that computes an array, or is given one.

    Attributes:
        kind: ``input`` of the graph, ``sequence`` or ``state`` of a recurrent node, ``dense``, or ``computed`` by anything else.
        axes: those of its array, or None where their number is not known.
        directions: the axis of directions, if it has two; time: that of steps, if a recurrent node made them.
        node: the name of that node.
    """

    def __init__(
        self,
        kind: str,
        axes: tuple[_Axis, ...] | None = None,
        directions: _Atom | None = None,
        time: _Atom | None = None,
        node: str = "",
    ) -> None:
        self.kind, self.axes, self.directions, self.time, self.node = kind, axes, directions, time, node
        self._atoms: dict[int, _Atom] = {}

    def atom(self, index: int) -> _Atom:
        """An axis of an array of which the number of axes is not known."""
        return self._atoms.setdefault(index, _Atom())

    @property
    def feature(self) -> _Axis:
        """What its last axis holds, two directions beside each other."""
        assert self.axes is not None
        return self.axes[-1] if self.directions is None else (self.directions, *self.axes[-1])


@dataclass(frozen=True)
class _Moved:
    """All numbers of a source, in other places.

    Attributes:
        axes: as of a source.
        flipped: the axes that run backwards.
        direction: the only direction that is left, where there were two.
        last: the axis of time, if of each direction only its own last step is left.
    """

    source: _Source
    axes: tuple[_Axis, ...] | None = None
    flipped: frozenset[_Atom] = frozenset()
    direction: int | None = None
    last: _Atom | None = None

    def plain(self) -> bool:
        """Whether it is the array itself, with its features last."""
        if self.axes is None or self.source.axes is None:
            return self.axes is None and not self.flipped
        if self.flipped or self.direction is not None or not self.axes:
            return False
        feature = self.source.feature
        if self.axes[-1] != feature:  # the directions may have stayed an axis of their own
            feature = self.source.axes[-1]
        rest = [axis for axis in self.axes[:-1] if axis]
        wanted = {atom for axis in self.source.axes for atom in axis} - {*feature, self.last}
        return self.axes[-1] == feature and all(len(axis) == 1 for axis in rest) and {a for a, *_ in rest} == wanted


@dataclass(frozen=True)
class _Still:
    """An array that is the same whatever the model is given. ``zero``: all of its numbers are."""

    zero: bool


@dataclass(frozen=True)
class _Sizes:
    """Whole numbers that are sizes of axes: None for one that is not known. ``spread``: one of them, many times."""

    sizes: tuple[_Axis | int | None, ...]
    spread: bool = False


@dataclass(frozen=True)
class _AllSizes:
    """The sizes of an array of which the number of axes is not known."""

    source: _Source


@dataclass(frozen=True)
class _Part:
    """A part of what the model is given, as the state of one of several layers is."""


@dataclass(frozen=True)
class _Stacked:
    """Final states of several layers, one after the other."""


_Value = _Moved | _Still | _Sizes | _AllSizes | _Part | _Stacked


class _UnfollowedError(Exception):
    """A node does something else than it would have to do as plumbing."""


# ---- The walk.


class _Walk:
    """One graph: forwards, to find what each value is, and backwards, to find what it is used for."""

    def __init__(self, graph: StoredGraph, dense: frozenset[str]) -> None:
        self._graph, self._dense = graph, dense
        self._values: dict[str, _Value] = {}
        self._moves: set[str] = set()
        self._halved: set[str] = set()
        self._wrong: set[str] = set()  # dense layers of which what comes out is not used as rows
        self._time: set[_Atom] = set()
        self._batch: set[_Atom] = set()
        self.starts: dict[str, Start] = {}
        self.opaque: list[tuple[StoredNode, str]] = []
        self.plumbing: set[str] = set()

    def run(self) -> None:
        for node in self._graph.nodes:
            self._forwards(node)
        self._backwards()

    def _value(self, name: str) -> _Value:
        """What a name stands for."""
        if name not in self._values:
            tensor = self._graph.constants.get(name)
            given = name in self._graph.inputs and not self._graph.inner
            self._values[name] = (
                _Still(is_zero(tensor)) if tensor is not None else _Moved(_Source("input" if given else "computed"))
            )
        return self._values[name]

    def _forwards(self, node: StoredNode) -> None:
        if node.kind in CELLS and node.layer:
            made: Sequence[_Value] = self._recurrent(node)
        elif node.layer in self._dense:
            made = [self._dense_part(node)]
        else:
            try:
                made = self._moved(node)
                self._moves.add(node.name)
            except (_UnfollowedError, TypeError, ValueError, IndexError):  # its attributes may make no sense
                made = []
        for index, name in enumerate(node.outputs):
            if name:
                self._values[name] = made[index] if index < len(made) else _Moved(_Source("computed"))

    # ---- Layers.

    def _recurrent(self, node: StoredNode) -> list[_Value]:
        batch_first = bool(node.attributes.get("layout", 0))
        both, back = (node.attributes.get("direction") == word for word in ("bidirectional", "reverse"))
        x = self._value(node.inputs[0])
        time, batch, flipped = self._rows(x, batch_first, both)
        if batch in self._time or time in self._batch:
            self.opaque.append((node, "reads the batch of a layer before it as time"))
        self._time.add(time)
        self._batch.add(batch)
        reversed_ = flipped != back
        states = {label: self._state(node, index) for index, label in _STATES[node.kind].items()}
        self.starts[node.name] = Start(
            reversed_, True, {label: told for label, told in states.items() if told}, self._lengths(node, time)
        )
        steps = _Atom(time.size) if reversed_ else time
        size = self._graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        hidden = _Atom(size.shape[-1] if size is not None and size.shape else None)
        directions = _Atom(2) if both else None
        way: _Axis = (directions,) if directions is not None else ()
        rows: tuple[_Axis, ...] = ((batch,), (steps,)) if batch_first else ((steps,), way, (batch,))
        axes = (*rows, way, (hidden,)) if batch_first else (*rows, (hidden,))
        sequence = _Source("sequence", axes, directions, steps, node.name)
        last = ((batch,), way, (hidden,)) if batch_first else (way, (batch,), (hidden,))
        ends = [_Moved(_Source("state", last, directions), last) for _ in _STATES[node.kind]]
        return [_Moved(sequence, axes, frozenset({steps}) if back else frozenset()), *ends]

    def _rows(self, x: _Value, batch_first: bool, both: bool) -> tuple[_Atom, _Atom, bool]:
        """The axes of time and of rows of what a recurrent node reads, and whether time runs backwards in it."""
        first, second = (1, 0) if batch_first else (0, 1)
        if isinstance(x, _Moved) and self._reads(x, batch_first, both):
            if x.axes is None:
                return x.source.atom(first), x.source.atom(second), bool(x.flipped)
            return x.axes[first][0], x.axes[second][0], bool(x.flipped)
        return _Atom(), _Atom(), False

    def _reads(self, x: _Moved, batch_first: bool, both: bool) -> bool:
        """Whether a recurrent node reads what it is given as steps and rows of features, as a layer does."""
        place = 1 if batch_first else 0
        if x.axes is None:
            return not x.flipped or (not both and x.flipped == {x.source.atom(place)})
        if len(x.axes) != 3 or not all(x.axes):
            return False
        turned = not both and x.flipped == {x.axes[place][0]}
        return replace(x, flipped=frozenset() if turned else x.flipped).plain() and x.last is None

    def _state(self, node: StoredNode, index: int) -> str:
        """What a node is given as a state, or nothing."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        if not name:
            return ""
        value = self._value(name)
        if isinstance(value, _Still):
            return "zero" if value.zero else "constant"
        given = isinstance(value, _Part) or (isinstance(value, _Moved) and value.source.kind == "input")
        return "given" if given else "computed"

    def _lengths(self, node: StoredNode, time: _Atom) -> str:
        name = node.inputs[_LENGTHS] if len(node.inputs) > _LENGTHS else ""
        if not name:
            return ""
        value = self._value(name)
        if isinstance(value, _Still):
            return "constant"
        if isinstance(value, _Sizes):
            return "full" if set(value.sizes) == {(time,)} else "computed"
        return "given" if isinstance(value, _Moved) and value.source.kind == "input" else "computed"

    def _dense_part(self, node: StoredNode) -> _Value:
        """What a product gives, or the addition of its bias."""
        x = next((self._value(name) for name in node.inputs if name not in self._graph.constants), None)
        if node.kind not in ("MatMul", "Gemm"):
            return x if x is not None else _Moved(_Source("computed"))
        kernel = self._graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        columns = 0 if node.attributes.get("transB") else -1
        units = _Atom(kernel.shape[columns] if kernel is not None and kernel.shape else None)
        if not isinstance(x, _Moved) or x.axes is None or not _row_by_row(x):
            return _Moved(_Source("dense"))
        axes = (*x.axes[:-1], (units,))
        return _Moved(_Source("dense", axes), axes, x.flipped)

    # ---- Plumbing.

    def _moved(self, node: StoredNode) -> list[_Value]:
        """What a node puts out that only moves numbers.

        Raises:
            _UnfollowedError: it does something else, or what it does is not followed.
        """
        given = [self._value(name) for name in node.inputs if name]
        sizes = [self._as_sizes(name) for name in node.inputs if name]
        if node.kind in ("Shape", "Size") and given:
            return [_shape_of(node, given[0])]
        picks = node.kind in _PICKS and isinstance(given[0] if given else None, _Sizes | _AllSizes)
        computes = node.kind in _ARITHMETIC and all(one is not None for one in sizes)
        if picks or computes:
            return [self._sizes(node, sizes)]
        if node.kind == "ReduceProd" and sizes and isinstance(given[0], _Sizes):
            return [_product(given[0])]
        if node.kind == "Expand" and len(sizes) == 2 and isinstance(given[0], _Sizes) and len(given[0].sizes) == 1:
            return [_Sizes(given[0].sizes, spread=True)]
        if node.kind == "ConstantOfShape":
            filling = node.attributes.get("value", 0.0)
            return [_Sizes((None,)) if isinstance(filling, int) else _Still(filling == 0)]
        if node.kind in _STILL and isinstance(given[0] if given else None, _Still):
            parts = [one for one in given if isinstance(one, _Still)]
            zero = all(one.zero for one in (parts if node.kind == "Concat" else parts[:1]))
            # Where an input chooses the numbers, they are those of a table that is looked up.
            if len(parts) == len(given) or node.kind not in ("Concat", *_CHOOSE):
                return [_Still(zero)] * len(node.outputs)
        if node.kind == "Concat":
            return [_concat(node, given)]
        if node.kind == "Dropout" and len([name for name in node.inputs if name]) < 3:
            return [given[0]]
        if node.kind not in _MOVES or not given:
            raise _UnfollowedError
        try:
            if isinstance(given[0], _Moved):
                return _MOVES[node.kind](self, node, given[0])
        except (_UnfollowedError, TypeError, ValueError, IndexError):
            pass
        # A part of what the model is given; as a state, by who runs it, it may be cut as one likes.
        if isinstance(given[0], _Part) or (isinstance(given[0], _Moved) and given[0].source.kind == "input"):
            return [_Part()] * len(node.outputs)
        raise _UnfollowedError

    def _as_sizes(self, name: str) -> _Sizes | _AllSizes | None:
        value, tensor = self._value(name), self._graph.constants.get(name)
        if isinstance(value, _Sizes | _AllSizes):
            return value
        ints = _ints(tensor)
        return None if ints is None else _Sizes(tuple(ints))

    def _sizes(self, node: StoredNode, given: Sequence[_Sizes | _AllSizes | None]) -> _Value:
        """Sizes that are picked or put together."""
        first = given[0]
        if node.kind in ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape") and first is not None:
            return first
        if node.kind == "Concat" and all(isinstance(one, _Sizes) and not one.spread for one in given):
            joined = tuple(size for one in given if isinstance(one, _Sizes) for size in one.sizes)
            return _Sizes(joined if len(joined) <= _MOST_INTS else (None,))
        if node.kind in ("Gather", "Slice") and first is not None:
            wanted = self.listed(node, "indices", 1) if node.kind == "Gather" else self._range(node)
            return _picked(first, wanted)
        if all(isinstance(one, _Sizes | _AllSizes) for one in given):
            return _Sizes((None,))
        raise _UnfollowedError

    def _range(self, node: StoredNode) -> list[int] | None:
        starts, ends, steps = (self.listed(node, name, i) for name, i in (("starts", 1), ("ends", 2), ("steps", 4)))
        one = [starts, ends]
        if any(ints is None or len(ints) != 1 for ints in one) or steps not in (None, [1]):
            return None
        assert starts is not None
        assert ends is not None
        fits = 0 <= starts[0] < ends[0] <= _MOST_INTS
        return list(range(starts[0], ends[0])) if fits else None

    def listed(self, node: StoredNode, name: str, index: int) -> list[int] | None:
        """Whole numbers from an attribute or, in later versions, from an input; None where there is neither."""
        found = node.attributes.get(name)
        if found is not None:
            return [int(n) for n in (found if isinstance(found, list) else [found])]
        given = node.inputs[index] if index < len(node.inputs) else ""
        return _ints(self._graph.constants.get(given)) if given else None

    # ---- What the values are used for.

    def _backwards(self) -> None:
        users: dict[str, list[tuple[StoredNode | None, int]]] = {name: [(None, 0)] for name in self._graph.outputs}
        found = list(self.opaque)
        for node in reversed(self._graph.nodes):
            uses = [(name, user, index) for name in node.outputs for user, index in users.get(name, [])]
            if not uses:  # nothing depends on it
                continue
            for index, name in enumerate((*node.inputs, *node.captured)):
                users.setdefault(name, []).append((node, index))
            for name, user, _ in uses:
                self._note_halves(self._value(name), user)
            right = all(self._right(self._value(name), user, index) for name, user, index in uses)
            if node.name in self.starts:
                self.starts[node.name] = replace(self.starts[node.name], aligned=right)
            elif node.layer in self._dense:
                self._wrong |= set() if right else {node.name}
            elif node.name in self._moves and right:
                self.plumbing.add(node.name)
            else:
                found.append((node, ""))
        for name in self._halved:
            self.starts[name] = replace(self.starts[name], aligned=False)
        for node in self._graph.nodes:
            start = self.starts.get(node.name)
            for label, told in ({**start.states, "sequence_lens": start.lengths} if start else {}).items():
                if told == "computed" or (label == "sequence_lens" and told == "given"):
                    found.append((node, f"takes {label}, {told} when the model runs"))
        place = {node.name: i for i, node in enumerate(self._graph.nodes)}
        self.opaque = sorted(found, key=lambda one: place[one[0].name])

    def _note_halves(self, value: _Value, user: StoredNode | None) -> None:
        """Remember of which node the two directions are used one by one."""
        apart = isinstance(value, _Moved) and value.source.directions is not None and value.axes is not None
        if apart and not (user is not None and user.name in self.plumbing):
            assert isinstance(value, _Moved)
            assert value.axes is not None
            if value.source.node and value.axes[-1:] != (value.source.feature,):
                self._halved.add(value.source.node)

    def _right(self, value: _Value, user: StoredNode | None, index: int) -> bool:
        """Whether a value is what its user may have it as."""
        if isinstance(value, _Stacked):
            return user is None
        if isinstance(value, _Part):
            states = _STATES.get(user.kind, {}) if user is not None else {}
            return user is not None and (index in states or user.name in self.plumbing)
        if isinstance(value, _Still):
            started = user is not None and user.name in self.starts and index > 0
            return user is not None and (value.zero or started or user.name in self.plumbing)
        if not isinstance(value, _Moved):
            return user is not None
        if value.plain() or (user is not None and user.name in self.plumbing):
            return True
        if user is not None and user.name in self.starts and index == 0:
            both = user.attributes.get("direction") == "bidirectional"
            return self._reads(value, bool(user.attributes.get("layout", 0)), both)
        dense = user is not None and user.layer in self._dense and user.name not in self._wrong
        return dense and _row_by_row(value)


def _row_by_row(value: _Moved) -> bool:
    """Whether a dense layer reads all features of a source in each row, however the rows lie."""
    if value.axes is None or value.source.axes is None:
        return value.axes is None and not value.flipped
    return value.direction is None and bool(value.axes) and value.axes[-1] == value.source.feature


# ---- Constants.


def _ints(tensor: StoredTensor | None) -> list[int] | None:
    """A short list of whole numbers, or None."""
    if tensor is None or tensor.dtype not in ("int32", "int64") or tensor.count > _MOST_INTS:
        return None
    return [int(n) for n in tensor.read().reshape(-1)]


def is_zero(tensor: StoredTensor) -> bool:
    """Whether all numbers of a tensor are zero. One too large for a state is not looked at."""
    if tensor.count > _MOST_STATE or tensor.dtype not in ("float16", "bfloat16", "float32", "float64"):
        return False
    return not tensor.read().any()


# ---- Sizes.


def _shape_of(node: StoredNode, value: _Value) -> _Value:
    if node.kind == "Size" or "start" in node.attributes or "end" in node.attributes:
        return _Sizes((None,))
    if not isinstance(value, _Moved):
        return _Sizes((None,))
    if value.axes is None:
        return _AllSizes(value.source)
    return _Sizes(tuple(axis or 1 for axis in value.axes))


def _product(sizes: _Sizes) -> _Sizes:
    """All of them multiplied."""
    factors = [size for size in sizes.sizes if size != 1]
    axis = [size for size in factors if isinstance(size, tuple)]
    atoms = tuple(atom for one in axis for atom in one)
    known = len(axis) == len(factors) and len(atoms) <= _MOST_INTS
    return _Sizes((atoms or 1,) if known else (None,))


def _picked(sizes: _Sizes | _AllSizes, wanted: list[int] | None) -> _Sizes:
    if wanted is None:
        return _Sizes((None,))
    if isinstance(sizes, _AllSizes):
        return _Sizes(tuple((sizes.source.atom(i),) if i >= 0 else None for i in wanted))
    rank = len(sizes.sizes)
    return _Sizes(tuple(sizes.sizes[i] if -rank <= i < rank else None for i in wanted))


# ---- How each operator moves numbers.

_Move = Callable[[_Walk, StoredNode, _Moved], list[_Value]]


def _known(value: _Moved) -> tuple[_Axis, ...]:
    if value.axes is None:
        raise _UnfollowedError
    return value.axes


def _place(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise _UnfollowedError
    return axis % rank


def _identity(walk: _Walk, node: StoredNode, value: _Moved) -> list[_Value]:
    return [value]


def _transpose(walk: _Walk, node: StoredNode, value: _Moved) -> list[_Value]:
    order = walk.listed(node, "perm", 1)
    if value.axes is None:
        if order is None or sorted(order) != list(range(len(order))):
            raise _UnfollowedError
        axes: tuple[_Axis, ...] = tuple((value.source.atom(i),) for i in range(len(order)))
        if value.source.axes is None:
            value.source.axes = axes
        elif value.source.axes != axes:
            raise _UnfollowedError
    else:
        axes = value.axes
    order = list(range(len(axes)))[::-1] if order is None else order
    if sorted(order) != list(range(len(axes))):
        raise _UnfollowedError
    return [replace(value, axes=tuple(axes[i] for i in order))]


def _squeeze(walk: _Walk, node: StoredNode, value: _Moved) -> list[_Value]:
    axes = _known(value)
    wanted = walk.listed(node, "axes", 1)
    if wanted is None:
        raise _UnfollowedError
    gone = {_place(axis, len(axes)) for axis in wanted}
    if any(axes[i] for i in gone):
        raise _UnfollowedError
    return [replace(value, axes=tuple(axis for i, axis in enumerate(axes) if i not in gone))]


def _unsqueeze(walk: _Walk, node: StoredNode, value: _Moved) -> list[_Value]:
    axes, wanted = list(_known(value)), walk.listed(node, "axes", 1)
    if wanted is None:
        raise _UnfollowedError
    rank = len(axes) + len(wanted)
    if rank > _MOST_INTS:
        raise _UnfollowedError
    for axis in sorted(_place(a, rank) for a in wanted):
        axes.insert(axis, ())
    return [replace(value, axes=tuple(axes))]


def _reshape(walk: _Walk, node: StoredNode, value: _Moved) -> list[_Value]:
    axes, wanted = _known(value), walk._as_sizes(node.inputs[1]) if len(node.inputs) > 1 else None
    attribute = walk.listed(node, "shape", 1)
    if wanted is None and attribute is not None:
        wanted = _Sizes(tuple(attribute))
    if not isinstance(wanted, _Sizes) or wanted.spread:
        raise _UnfollowedError
    stays = not node.attributes.get("allowzero")
    sizes = [
        (axes[i] if i < len(axes) else None) if size == 0 and stays else size for i, size in enumerate(wanted.sizes)
    ]
    rest = [atom for axis in axes for atom in axis]
    cut = sizes.index(-1) if -1 in sizes else len(sizes)
    front = [_taken(rest, size, 0) for size in sizes[:cut]]
    back = [_taken(rest, size, -1) for size in reversed(sizes[cut + 1 :])][::-1]
    if cut == len(sizes):
        if rest:
            raise _UnfollowedError
        return [replace(value, axes=tuple(front))]
    return [replace(value, axes=(*front, tuple(rest), *back))]


def _taken(rest: list[_Atom], size: Any, end: int) -> _Axis:
    """The axes, from one end of what is left, that make an axis of that size."""
    if isinstance(size, tuple):
        wanted = list(size)
        found = [rest.pop(end) for _ in wanted if rest]
        if (found if end == 0 else found[::-1]) != wanted:
            raise _UnfollowedError
        return size
    found = []
    while prod(atom.size or 0 for atom in found) != size:
        if not rest or rest[end].size is None:
            raise _UnfollowedError
        found.append(rest.pop(end))
    return tuple(found if end == 0 else found[::-1])


def _slice(walk: _Walk, node: StoredNode, value: _Moved) -> list[_Value]:
    starts, ends, where, steps = (
        walk.listed(node, name, i) for i, name in enumerate(("starts", "ends", "axes", "steps"), 1)
    )
    if starts is None or ends is None or len(starts) != 1 or len(ends) != 1:
        raise _UnfollowedError
    place = (where or [0])[0]
    if steps in (None, [1]):
        return [_cut(value, _place(place, len(_known(value))), starts[0], ends[0])]
    # All of an axis, backwards.
    if steps != [-1] or not (starts[0] == -1 or starts[0] >= _END) or ends[0] > -_END:
        raise _UnfollowedError
    if value.axes is None and place >= 0:
        axis: _Axis = (value.source.atom(place),)
    else:
        axis = _known(value)[_place(place, len(_known(value)))]
    if len(axis) != 1:
        raise _UnfollowedError
    return [replace(value, flipped=value.flipped ^ {axis[0]})]


def _cut(value: _Moved, place: int, start: int, end: int) -> _Moved:
    """What is left where an axis is cut: one direction, or the last step. The axis stays, of size 1."""
    axes = _known(value)
    axis = axes[place]
    kept = tuple(() if i == place else one for i, one in enumerate(axes))
    if axis and axis == (value.source.directions,):
        if start not in (0, 1, -1, -2) or not (end == start + 1 or end >= _END or (start, end) == (-1, 0)):
            raise _UnfollowedError
        if start in (0, -2) and end >= _END:
            return value
        return replace(value, axes=kept, direction=start % 2)
    if (
        len(axis) == 1
        and axis[0] is value.source.time
        and (value.source.directions is None or value.direction is not None)
    ):
        # The second of two directions ends at the first step.
        backwards = (axis[0] in value.flipped) != (value.direction == 1)
        if (start, end) == (0, 1) if backwards else start == -1 and end >= _END:
            return replace(value, axes=kept, last=axis[0], flipped=value.flipped - {axis[0]})
    if not axis and start in (0, -1) and (end >= 1 or (start, end) == (-1, 0)):
        return value
    raise _UnfollowedError


def _gather(walk: _Walk, node: StoredNode, value: _Moved) -> list[_Value]:
    axes, wanted = _known(value), walk.listed(node, "indices", 1)
    tensor = walk._graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if wanted is None or len(wanted) != 1 or tensor is None or len(tensor.shape) > 1:
        raise _UnfollowedError
    place = _place(int(node.attributes.get("axis", 0)), len(axes))
    start = wanted[0]
    cut = _cut(value, place, start, _END if start == -1 else start + 1)
    kept = _known(cut)
    return [cut if tensor.shape else replace(cut, axes=kept[:place] + kept[place + 1 :])]


def _split(walk: _Walk, node: StoredNode, value: _Moved) -> list[_Value]:
    axes = _known(value)
    place, parts = _place(int(node.attributes.get("axis", 0)), len(axes)), len(node.outputs)
    if parts == 1:
        return [value]
    if parts != 2 or not axes[place] or axes[place] != (value.source.directions,):
        raise _UnfollowedError
    return [_cut(value, place, i, i + 1) for i in range(2)]


def _reverse(walk: _Walk, node: StoredNode, value: _Moved) -> list[_Value]:
    """All of each row turned round."""
    time, batch = int(node.attributes.get("time_axis", 0)), int(node.attributes.get("batch_axis", 1))
    axes = value.axes
    lengths = walk._value(node.inputs[1])
    atom = value.source.atom(time) if axes is None else axes[time][0]
    if time == batch or not isinstance(lengths, _Sizes) or set(lengths.sizes) != {(atom,)}:
        raise _UnfollowedError
    if axes is None:
        raise _UnfollowedError
    return [replace(value, flipped=value.flipped ^ {atom})]


def _concat(node: StoredNode, given: Sequence[_Value]) -> _Value:
    """Both directions side by side, or the final states of several layers."""
    parts = [one for one in given if isinstance(one, _Moved)]
    if not parts or len(parts) != len(given) or parts[0].axes is None:
        raise _UnfollowedError
    first, axis = parts[0], int(node.attributes.get("axis", 0))
    if len(parts) == 1:
        return first
    rank = len(_known(first))
    alike = all(replace(one, direction=None) == replace(first, direction=None) for one in parts)
    if alike and [one.direction for one in parts] == [0, 1] and first.source.directions is not None:
        if _place(axis, rank) != rank - 1:
            raise _UnfollowedError
        axes = _known(first)
        return replace(first, axes=(*axes[:-1], (first.source.directions, *axes[-1])), direction=None)
    if axis == 0 and all(one.source.kind == "state" and one.axes == one.source.axes for one in parts):
        return _Stacked()
    raise _UnfollowedError


_MOVES: dict[str, _Move] = {
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "ReverseSequence": _reverse,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
