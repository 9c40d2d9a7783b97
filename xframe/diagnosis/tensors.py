"""What became of the numbers of a tensor, where they tell: each name has evidence of its own, and is not given without.

*Signs* are what can have happened to several tensors alike: rounding, a factor, another sign. They are found in the numbers
themselves, and only where so many of them agree that it is no chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xframe import noise
from xframe.judging import LIMIT
from xframe.layout import Key
from xframe.mistakes.numbers import narrowed
from xframe.spec import Layer

__all__ = ["NOT_LOADED", "OTHER_NUMBERS", "TENSOR_CHANGED", "Changed", "Told", "sign", "told"]

# The kinds of faults: the numbers tell what was done to them, they look like initial ones, or nothing tells how they came to be.
TENSOR_CHANGED, NOT_LOADED, OTHER_NUMBERS = "tensor changed", "tensor not loaded", "other numbers"

# How unlikely an agreement by chance must be, as a power of two; as for one mistake of the catalogue.
_BITS = 16.0
# Of a tensor that holds other numbers, nearly every one is another one.
_MOST = 0.9
# A law of initial numbers shows in so many of them.
_ENOUGH = 30
# Above this a Kolmogorov-Smirnov distance, times the root of how many numbers there are, has a chance of one in a hundred.
_DISTANCE = 1.63
# So many standard deviations a correlation is off zero where there is one.
_CORRELATED = 4.0


@dataclass(frozen=True)
class Changed:
    """A tensor that holds other numbers than it should.

    Attributes:
        title: what it is called: ``the recurrent kernel (layer 0, forward)``.
        spec: the layer.
        before, after: its blocks, as they should be and as they are: a matrix (in, units) or a vector for each gate.
        dtype: the float type that it is stored in.
        elsewhere: the other tensors of the layer, by what they are called, as they should be.
    """

    title: str
    spec: Layer
    before: Mapping[Key, np.ndarray]
    after: Mapping[Key, np.ndarray]
    dtype: str
    elsewhere: Mapping[str, Mapping[Key, np.ndarray]]

    @cached_property
    def mine(self) -> np.ndarray:
        """All numbers as they should be, one after the other."""
        return _flat(self.before)

    @cached_property
    def theirs(self) -> np.ndarray:
        """All numbers as they are."""
        return _flat(self.after)

    @property
    def u(self) -> float:
        """The unit roundoff of the numbers."""
        return noise.ROUNDOFF[self.dtype]

    @property
    def where(self) -> np.ndarray:
        """Which numbers are others, by more than the rounding of an operation or two."""
        return np.abs(self.theirs - self.mine) > 4 * self.u * (np.abs(self.mine) + np.abs(self.theirs))


def _flat(blocks: Mapping[Key, np.ndarray]) -> np.ndarray:
    return np.concatenate([block.ravel() for block in blocks.values()]).astype(np.float64)


@dataclass(frozen=True)
class Told:
    """What became of a tensor.

    Attributes:
        words: what, after the tensor's name: ``rounded to float16``.
        mend: what to do; ``{}`` stands for the tensors.
        entry: what kind of fault it is.
        why: how that is known.
    """

    words: str
    mend: str
    entry: str = TENSOR_CHANGED
    why: str = "The numbers themselves show it; every other parameter is right."


# ---- Signs, which several tensors may have alike.


def sign(one: Changed) -> Told | None:
    """What was done to all numbers of a tensor, if that shows in them."""
    return next((found for check in _SIGNS if (found := check(one))), None)


def _narrower(one: Changed) -> Told | None:
    for dtype in ("float16", "bfloat16"):
        if noise.ROUNDOFF[dtype] > one.u and np.array_equal(one.theirs, narrowed(one.mine, dtype)):
            return Told(f"rounded to {dtype}", f"Keep {{}} in {one.dtype}: its last digits are lost.")
    return None


def _decimal(one: Changed) -> Told | None:
    for decimals in range(1, 9):
        unit = 10.0**-decimals
        if _on_grid(one, unit, np.abs(one.theirs - one.mine) <= unit * (0.5 + 1e-3)):
            words = f"rounded to {decimals} decimal{'s' if decimals > 1 else ''}"
            return Told(words, "Save {} in binary, or as text with nine significant digits.")
    return None


def _on_grid(one: Changed, unit: float, near: np.ndarray) -> bool:
    """Whether all numbers are whole multiples of a unit, and near enough, and so many that it is no chance."""
    multiples = one.theirs / unit
    slack = 2 * one.u * np.abs(multiples)
    hits = np.abs(multiples - np.rint(multiples)) <= slack
    return bool(hits.all() and near.all() and _bits(slack).sum() >= _BITS)


def _bits(slack: np.ndarray) -> np.ndarray:
    """How unlikely it is that a number comes so near a whole one by chance, as a power of two; zeros tell nothing."""
    return np.where(slack > 0, -np.log2(np.clip(2 * slack, 1e-300, 1)), 0)


def _integers(one: Changed) -> Told | None:
    for words, columns in (
        ("one scale for the tensor", lambda block: None),
        ("one scale for each unit", lambda block: 0),
    ):
        if largest := _levels(one, columns):
            kind = "int4" if largest <= 8 else "int8"
            return Told(f"rounded to {kind}, {words}", "Load {} as stored before quantisation.")
    return None


# Levels on one side of zero that are tried: those of four and of eight bits, with or without a sign.
_LEVELS = np.arange(4, 256)[:, None, None]


def _levels(one: Changed, axis_of: Callable[[np.ndarray], int | None]) -> int:
    """How many multiples of a scale the numbers reach, if they are whole multiples of one; 0 if not."""
    blocks = [(block, one.before[key]) for key, block in one.after.items()]
    if any(block.ndim != 2 for block, _ in blocks):
        return 0
    theirs, mine = (np.concatenate(part, axis=1).astype(np.float64) for part in zip(*blocks, strict=True))
    axis = axis_of(theirs)
    if axis is None:
        theirs, mine = theirs.reshape(-1, 1), mine.reshape(-1, 1)
    size = np.abs(theirs).max(axis=0)
    theirs, mine, size = theirs[:, size > 0], mine[:, size > 0], size[size > 0]
    if not size.size:
        return 0
    scales = size / _LEVELS[..., 0]
    worst = np.empty_like(scales)
    for level, scale in enumerate(scales):  # not all at once, which would take 250 times the memory of the tensor
        multiples = theirs / scale
        worst[level] = np.max(
            np.abs(multiples - np.rint(multiples)) / np.maximum(8 * one.u * np.abs(multiples), 1e-300), axis=0
        )
    fits = worst <= 1
    if not fits.any(axis=0).all():
        return 0
    chosen = np.argmax(fits, axis=0)
    scale = scales[chosen, np.arange(len(size))]
    # The largest of each column is a whole multiple by itself, and which level fits was chosen.
    slack = np.sort(8 * one.u * np.abs(theirs / scale), axis=0)[:-1]
    bits = _bits(slack).sum() - len(size) * np.log2(len(_LEVELS))
    near = np.abs(theirs - mine) <= scale * (1 + 1e-3)
    return int(_LEVELS[chosen.max(), 0, 0]) if near.all() and bits >= _BITS else 0


def _factor(one: Changed) -> Told | None:
    if not one.mine.any() or np.count_nonzero(one.mine) < 2:
        return None
    factor = float(one.mine @ one.theirs / (one.mine @ one.mine))
    if np.array_equal(one.theirs, -one.mine):
        return Told("negated", "Take {} with the sign that is stored.")
    near = np.abs(one.theirs - factor * one.mine) <= 4 * one.u * np.abs(one.theirs)
    if not factor or not near.all() or abs(factor - 1) <= LIMIT * 8 * one.u:
        return None
    return Told(f"scaled by {factor:.6g}", "Take {} as stored, without scaling.")


_SIGNS = (_narrower, _factor, _decimal, _integers)


# ---- What else one tensor tells.


def told(one: Changed) -> Told:
    """What is known of a tensor by itself, from one number that changed to a tensor that was never loaded."""
    return next(found for check in _ALONE if (found := check(one)))


def _one_number(one: Changed) -> Told | None:
    where = np.flatnonzero(one.mine != one.theirs)
    if len(where) != 1:
        return None
    key, place = next(
        (key, np.argwhere(block != one.after[key])[0])
        for key, block in one.before.items()
        if np.any(block != one.after[key])
    )
    mine, theirs = float(one.mine[where[0]]), float(one.theirs[where[0]])
    unit = f"unit {place[-1]}"
    if len(place) > 1:
        unit = f"{'input' if key.role == 'kernel' else 'unit'} {place[0]} to {unit}"
    at = f"gate {key.gate}, {unit}" if key.gate else unit
    words = f"changed in one number ({at}): {theirs:.9g} instead of {mine:.9g}{_in_bits(mine, theirs, one.dtype)}"
    return Told(words, "Move {} once more, as stored.")


_INTEGERS = {"float64": (np.float64, np.int64), "float32": (np.float32, np.int32), "float16": (np.float16, np.int16)}


def _in_bits(mine: float, theirs: float, dtype: str) -> str:
    """What two numbers that differ have to do with each other in memory, if anything."""
    kind, integer = _INTEGERS.get(dtype, _INTEGERS["float32"])
    one, other = (int(np.asarray(value, kind).view(integer)) for value in (mine, theirs))
    if dtype == "bfloat16":
        one, other = one >> 16, other >> 16
    differs = (one ^ other) & ((1 << 64) - 1)
    if differs and not differs & (differs - 1):
        return f", one bit flipped (bit {differs.bit_length() - 1} of {dtype})"
    return f", the next number of {dtype}" if abs(one - other) == 1 else ""


def _from_elsewhere(one: Changed) -> Told | None:
    for title, blocks in one.elsewhere.items():
        shapes = [block.shape for block in blocks.values()] == [block.shape for block in one.after.values()]
        if shapes and np.array_equal(_flat(blocks), one.theirs):
            return Told(f"holding the numbers of {title}", "Load {} under its own name.")
    return None


def _permuted(one: Changed) -> Told | None:
    if np.array_equal(np.sort(one.mine), np.sort(one.theirs)):
        return Told("holding its numbers in another order", "Lay out {} as the layer reads it.")
    return None


def _few(one: Changed) -> Told | None:
    changed = int(np.count_nonzero(one.where))
    if changed and changed >= _MOST * one.mine.size:
        return None
    exactly = int(np.count_nonzero(one.mine != one.theirs))
    off = f"by up to {np.abs(one.theirs - one.mine).max():.2g}"
    words = f"changed in {changed or exactly} of {one.mine.size} numbers, {off}"
    return Told(words, "Move {} once more, as stored.", OTHER_NUMBERS)


def _not_loaded(one: Changed) -> Told | None:
    look = next(_initial(one), "")
    why = "A tensor that is not found by its name, or left out, keeps the numbers that it had before."
    mend = "Load {}; every other parameter is right."
    return Told(f"not loaded ({look})", mend, NOT_LOADED, why) if look else None


def _initial(one: Changed) -> Iterator[str]:
    """As which initial numbers those of a tensor were drawn, if any: such are independent of what should be there."""
    key = next(iter(one.after))
    values = one.theirs
    if not values.any():
        yield "it is all zeros"
    elif "bias" in key.role and all(_is_constant(block, float(k.gate == "f")) for k, block in one.after.items()):
        yield "it is zeros and ones, as at the beginning"
    if _correlated(one.mine, values):
        return
    units = one.spec.part(key.direction, key.layer).hidden_size
    for bound, whose in (
        (1 / np.sqrt(units), "±1/sqrt(hidden_size), as PyTorch's"),
        (_glorot(one), "Glorot's, as Keras's"),
    ):
        if _is_uniform(values, bound):
            yield f"its numbers are uniform within {whose} initial ones are"
    if key.role == "recurrent_kernel":
        gates = [block.astype(np.float64) for block in one.after.values()]
        for blocks, words in (([np.concatenate(gates, axis=1)], "its rows are"), (gates, "each gate is")):
            if all(np.allclose(b @ b.T, np.eye(len(b)), atol=1e-3) for b in blocks):
                yield f"{words} orthogonal, as Keras's initial ones are"


def _is_constant(block: np.ndarray, value: float) -> bool:
    return bool(np.all(block == value))


def _correlated(mine: np.ndarray, theirs: np.ndarray) -> bool:
    mine, theirs = mine - mine.mean(), theirs - theirs.mean()
    size = np.sqrt((mine @ mine) * (theirs @ theirs))
    return bool(size) and bool(abs(mine @ theirs) / size * np.sqrt(len(mine)) > _CORRELATED)


def _glorot(one: Changed) -> float:
    """The bound of Glorot's uniform law for a whole kernel."""
    blocks = list(one.after.values())
    if blocks[0].ndim != 2:
        return 0.0
    return float(np.sqrt(6 / (blocks[0].shape[0] + sum(block.shape[1] for block in blocks))))


def _is_uniform(values: np.ndarray, bound: float) -> bool:
    """Whether numbers may have been drawn uniformly from ±bound, and not from less: a Kolmogorov-Smirnov test."""
    count = len(values)
    if count < _ENOUGH or not bound or np.abs(values).max() > bound * (1 + 1e-6):
        return False
    share = (np.sort(values) / bound + 1) / 2
    steps = np.arange(count + 1) / count
    distance = max(np.abs(share - steps[:-1]).max(), np.abs(share - steps[1:]).max())
    return bool(distance * np.sqrt(count) < _DISTANCE)


def _other(one: Changed) -> Told | None:
    return Told("holding other numbers", "Load {}; every other parameter is right.", OTHER_NUMBERS)


_ALONE = (_one_number, _from_elsewhere, sign, _permuted, _few, _not_loaded, _other)
