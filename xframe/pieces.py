"""Matrices whose pieces lie in several arrays: what a large layer is computed with, without a copy of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from xframe.packing import copy

__all__ = ["Piece", "Pieces"]

# How many numbers are brought to the dtype of the computation at a time: as many as stay in the cache.
_STRIP = 2**18


class Piece(NamedTuple):
    """What stands in some rows and in one or more columns of a matrix, (rows, columns) or, of one column, (rows,)."""

    rows: slice
    columns: slice | int
    array: np.ndarray


@dataclass(frozen=True)
class Pieces:
    """A matrix (out, in) of pieces; where there is none, it is zero.

    An `xframe.cells.base.Arithmetic` with a true ``takes_pieces`` is given one where others are given an array.

    Attributes:
        shape: of the matrix.
        dtype: that of the computation. The pieces may have others.
        pieces: the pieces. None reaches over the end of another.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    pieces: Sequence[Piece]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    def whole(self) -> np.ndarray:
        """The matrix as one array."""
        w = np.zeros(self.shape, self.dtype)
        for rows, columns, array in self.pieces:
            if isinstance(columns, int):
                w[rows, columns] = array
            else:
                copy(array, w[rows, columns])
        return w

    def column(self, number: int) -> np.ndarray:
        """One column, (out,)."""
        found = np.zeros(self.shape[0], self.dtype)
        for rows, columns, array in self.pieces:
            if columns == number:
                found[rows] = array
        return found

    def strips(self, columns: slice) -> Iterator[tuple[slice, np.ndarray]]:
        """All that stands in these columns, a few rows at a time, each with its place; the next overwrites the one before."""
        width = columns.stop - columns.start
        height = max(_STRIP // width, 1)
        held = np.empty((height, width), self.dtype)
        for rows, place, array in self.pieces:
            if place != columns:
                continue
            for i in range(0, len(array), height):
                strip = held[: len(array) - i]
                copy(array[i : i + height], strip)
                yield slice(rows.start + i, rows.start + i + len(strip)), strip
