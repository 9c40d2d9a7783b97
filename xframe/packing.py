"""Arrays through layouts: native tensors to canonical blocks and back, by one walk over the layout's trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from xframe.cells import get_cell
from xframe.errors import LayoutError, UnsupportedError
from xframe.layout import Join, Key, Leaf, Native, Node, Packing, block_shape, folds, keys, node_shape

__all__ = [
    "Blocks",
    "Parameters",
    "check_names",
    "checked",
    "copy",
    "pack",
    "refuse_overflow",
    "refuse_unfit",
    "unpack",
    "validated",
    "views",
]


# Columns; as many numbers as a line of the cache holds.
_STRIP = 16


class Parameters(Mapping[Key, np.ndarray]):
    """The canonical parameters of a layer: every block by `Key`, NumPy, in canonical orientation.

    Shapes: kernel (input, hidden), recurrent_kernel (state, hidden), bias and recurrent_bias (hidden,),
    projection (hidden, state); ``y = x @ kernel``. Input and recurrent biases are kept apart. A framework that stores
    one bias gives zeros for the other.

    Raises:
        LayoutError: blocks are missing, unknown, of the wrong shape, or not finite.
    """

    def __init__(self, spec: Any, blocks: Mapping[Key, np.ndarray]) -> None:
        self.spec = spec
        self._blocks = {key: np.asarray(blocks[key]) for key in keys(spec) if key in blocks}
        validated(spec, {**blocks, **self._blocks})

    def __getitem__(self, key: Key) -> np.ndarray:
        return self._blocks[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(b.size for b in self._blocks.values())

    def astype(self, dtype: Any) -> Parameters:
        """The same, each block rounded to ``dtype``."""
        return Parameters(self.spec, {k: v.astype(dtype) for k, v in self.items()})

    def replaced(self, changes: Mapping[Key, np.ndarray]) -> Parameters:
        """The same with some blocks changed."""
        return Parameters(self.spec, {**self, **changes})

    def effective(self) -> dict[Key, np.ndarray]:
        """The blocks that the function depends on: biases that only enter as a sum are summed, in float64."""
        found: dict[Key, np.ndarray] = {}
        for key, block in self.items():
            if key.role == "recurrent_bias" and folds(self.spec, key):
                partner = key._replace(role="bias")
                found[partner] = found[partner] + block.astype(np.float64)
            else:
                found[key] = block.astype(np.float64) if key.role == "bias" else block
        return found


class Blocks(Mapping[Key, np.ndarray]):
    """Canonical blocks as views of native arrays, one native array held at a time.

    What a transfer reads from: it never holds a second copy of the source. Zeros stand for a bias that the
    source does not store. ``wanted`` is the layer to give blocks for, where it has biases that the source has not.
    A native array is checked when it is first read, and only then.

    Raises:
        LayoutError: a tensor is missing or unknown, or, when it is read, of the wrong shape or not finite.
    """

    def __init__(self, packing: Packing, spec: Any, arrays: Mapping[str, np.ndarray], wanted: Any = None) -> None:
        self.spec, self._arrays, self._keys = spec, arrays, keys(wanted or spec)
        self._home = {leaf.key: native for native in packing.natives(spec) for leaf in native.leaves}
        check_names(packing.natives(spec), arrays, packing.title)
        self._held: tuple[str, dict[Key, np.ndarray]] | None = None
        self._checked: set[str] = set()

    def __getitem__(self, key: Key) -> np.ndarray:
        native = self._home.get(key)
        if native is None:
            # The dtype of a zero does not matter: it is added to, or compared with, a stored number.
            return np.zeros(block_shape(self.spec, key), np.float32)
        if self._held is None or self._held[0] != native.name:
            self._held = None  # freed before the next one is read
            array = np.asarray(self._arrays[native.name])
            if native.name not in self._checked:
                checked(array, native.shape, native.name)
                self._checked.add(native.name)
            found = views(native.tree, array, self.spec)
            self._held = native.name, {leaf.key: _canonical(leaf, view) for leaf, view in found}
        return self._held[1][key]

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def validated(spec: Any, blocks: Mapping[Key, np.ndarray]) -> Mapping[Key, np.ndarray]:
    """The blocks if they are those of the layer, all finite, else LayoutError. Nothing is copied."""
    wanted = keys(spec)
    if extra := [key for key in blocks if key not in set(wanted)]:
        raise LayoutError(f"{spec} has no block {str(extra[0])!r}; leave it out or load into a layer that has it.")
    if lacking := [key for key in wanted if key not in blocks]:
        raise LayoutError(f"The parameters of {spec} lack the block {str(lacking[0])!r}; add it.")
    for key in wanted:
        # What Blocks gives has been checked, a whole tensor at a time.
        checked(blocks[key], block_shape(spec, key), str(key), finite=not isinstance(blocks, Blocks))
    return blocks


def unpack(packing: Packing, spec: Any, arrays: Mapping[str, np.ndarray]) -> Parameters:
    """Native arrays by name to canonical parameters (copies, which outlive the layer).

    Raises:
        LayoutError: a tensor is missing, unknown, of the wrong shape, or not finite.
        UnsupportedError: the framework has no such layer.
    """
    return Parameters(spec, {k: v.copy() for k, v in Blocks(packing, spec, arrays).items()})


def pack(
    packing: Packing, spec: Any, blocks: Mapping[Key, np.ndarray], dtype: Any = None, share: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    """Canonical blocks to native arrays, one (name, array) at a time, in the framework's order.

    Where the framework stores one bias for two, their sum is written (in float64, then rounded once).
    ``dtype`` defaults to the widest dtype among the blocks of a tensor. With ``share``, an array is not a new one but a
    view of what the blocks are views of, wherever that has the right form; it is then only to be read.

    Raises:
        UnsupportedError: the framework has no such layer, or no place for a non-zero block.
    """
    natives = packing.natives(spec)
    stored = {leaf.key for native in natives for leaf in native.leaves}
    _refuse_homeless(packing, spec, blocks)

    def piece(leaf: Leaf) -> np.ndarray:
        return _as_stored(leaf, _folded(spec, blocks, leaf.key, stored))

    for native in natives:
        chosen = np.dtype(dtype or np.result_type(*(blocks[leaf.key] for leaf in native.leaves)))
        # No variable holds the array, so that it is freed before the next one is made.
        yield native.name, _packed(native, spec, piece, chosen, share)


def _packed(
    native: Native, spec: Any, piece: Callable[[Leaf], np.ndarray], dtype: np.dtype[Any], share: bool
) -> np.ndarray:
    """One native array; ``piece`` gives the part that belongs at a leaf."""
    if share:
        some = piece(native.leaves[0])
        owner = some.base if isinstance(some.base, np.ndarray) else some
        for whole in (owner, owner.T):
            if whole.shape == native.shape and whole.dtype == dtype and _holds(whole, native, spec, piece):
                return whole
    array = np.empty(native.shape, dtype)
    for leaf, view in views(native.tree, array, spec):
        copy(piece(leaf), view)
    return array


def _holds(whole: np.ndarray, native: Native, spec: Any, piece: Callable[[Leaf], np.ndarray]) -> bool:
    """Whether every piece of a native array is, in memory, the very part of ``whole`` where it belongs."""

    def place(array: np.ndarray) -> tuple[Any, ...]:
        return array.ctypes.data, array.shape, array.strides

    return all(place(view) == place(piece(leaf)) for leaf, view in views(native.tree, whole, spec))


def views(node: Node, array: np.ndarray, spec: Any) -> Iterator[tuple[Leaf, np.ndarray]]:
    """Every leaf of a tree with the part of the array that holds it. Reading and writing both go through here."""
    if isinstance(node, Leaf):
        yield node, array
        return
    start = 0
    for i, part in enumerate(node.parts):
        if isinstance(node, Join):
            end = start + node_shape(part, spec)[node.axis]
            piece = array[(slice(None),) * node.axis + (slice(start, end),)]
            start = end
        else:
            piece = array[i]
        yield from views(part, piece, spec)


def check_names(natives: list[Native], arrays: Mapping[str, Any], title: str) -> None:
    """Every tensor is there and every tensor is used, else LayoutError."""
    wanted = {n.name: n.shape for n in natives}
    if missing := [name for name in wanted if name not in arrays]:
        raise LayoutError(f"{title}'s tensor {missing[0]!r} of shape {wanted[missing[0]]} is missing; add it.")
    if extra := [name for name in arrays if name not in wanted]:
        raise LayoutError(
            f"The tensor {extra[0]!r} has no place in this {title} layer, which has {', '.join(wanted)}; "
            "remove it or correct the sizes."
        )


def checked(array: np.ndarray, shape: tuple[int, ...], name: str, finite: bool = True) -> np.ndarray:
    """The array if it has the shape, is of a float type and is finite (if that is asked), else LayoutError."""
    if array.shape != shape:
        raise LayoutError(f"{name} has shape {array.shape}, but this layer needs {shape}.")
    if array.dtype.kind != "f":
        raise LayoutError(f"{name} is of type {array.dtype}; weights must be floating point numbers.")
    # A finite sum proves all finite without a temporary of the array's size; only an overflow needs a second look.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = finite and not np.isfinite(array.sum())
    if suspicious and not (fine := np.isfinite(array)).all():
        where = tuple(int(i) for i in np.argwhere(~fine)[0])
        raise LayoutError(f"{name} holds {array[where]} at {where}; weights must be finite numbers.")
    return array


def copy(source: np.ndarray, target: np.ndarray) -> None:
    """Copy an array into another of its shape, which lies row by row; the source may lie transposed in memory.

    Then NumPy, which goes along the rows of the target, would find each next number of the source in another line of the
    cache. In narrow strips these lines are few, and stay there until they have been used up.
    """
    width = _STRIP if source.ndim == 2 and source.strides[0] < source.strides[1] else source.shape[-1]
    for j in range(0, source.shape[-1], width):
        target[..., j : j + width] = source[..., j : j + width]


def _canonical(leaf: Leaf, view: np.ndarray) -> np.ndarray:
    """A leaf's part of a native array in canonical orientation."""
    if leaf.form == "transposed":
        return view.T
    if leaf.form == "column-major":
        return view.reshape(view.shape[::-1]).T
    return view


def _as_stored(leaf: Leaf, block: np.ndarray) -> np.ndarray:
    """A canonical block as a leaf's part of a native array, the reverse of `_canonical`."""
    if leaf.form == "transposed":
        return block.T
    if leaf.form == "column-major":
        return block.T.reshape(block.shape)
    return block


def _other_bias(key: Key) -> Key | None:
    """The bias that may stand in for this one, or None for what is no bias."""
    partner = {"bias": "recurrent_bias", "recurrent_bias": "bias"}.get(key.role)
    return key._replace(role=partner) if partner else None


def _folded(spec: Any, blocks: Mapping[Key, np.ndarray], key: Key, stored: set[Key]) -> np.ndarray:
    """The block to write at ``key``: itself, or the sum of both biases where only one is stored."""
    other = _other_bias(key)
    if other is None or other in stored or other not in blocks or not folds(spec, key):
        return blocks[key]
    return blocks[key].astype(np.float64) + blocks[other]


def refuse_overflow(packing: Packing, spec: Any, blocks: Mapping[Key, np.ndarray], dtype: str) -> None:
    """Refuse numbers that are finite but would not be in the dtype in which they are written, sums of biases included.

    Raises:
        LayoutError: naming the first such block.
    """
    stored = {leaf.key for native in packing.natives(spec) for leaf in native.leaves}
    # bfloat16 has the exponents of float32, and ends a little below it.
    largest = (2 - 2.0**-7) * 2.0**127 if dtype == "bfloat16" else np.finfo(dtype).max
    for key in keys(spec):
        narrowed = blocks[key].dtype.itemsize > (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
        if key in stored and (narrowed or _other_bias(key)):
            block = _folded(spec, blocks, key, stored)
            if np.any(np.abs(block) > largest):
                raise LayoutError(
                    f"{key} holds {np.abs(block).max():.3g}, which is too large for {dtype}; use a layer of a wider type."
                )


def refuse_unfit(packing: Packing, spec: Any) -> None:
    """Refuse a layer whose parameters the framework cannot hold unless some of them happen to be zero.

    Raises:
        UnsupportedError: it has no such layer, or no place for a block.
    """
    for key in _homeless(packing, spec):
        raise _no_place(packing, spec, key, "which need not be zero")


def _homeless(packing: Packing, spec: Any) -> Iterator[Key]:
    """Blocks that the framework neither stores nor can fold into another."""
    stored = {leaf.key for native in packing.natives(spec) for leaf in native.leaves}
    for key in keys(spec):
        if key not in stored and not (_other_bias(key) in stored and folds(spec, key)):
            yield key


def _refuse_homeless(packing: Packing, spec: Any, blocks: Mapping[Key, np.ndarray]) -> None:
    for key in _homeless(packing, spec):
        if np.any(blocks[key]):
            raise _no_place(packing, spec, key, "which is not zero")


def _no_place(packing: Packing, spec: Any, key: Key, but: str) -> UnsupportedError:
    instead = packing.layout(spec).instead or "the nearest that is possible is to set it to zero"
    return UnsupportedError(
        f"{packing.title}'s {get_cell(spec.cell).title} has no place for {str(key)!r}, {but} and is not merely added to "
        f"another bias; {instead}."
    )
